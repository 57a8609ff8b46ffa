/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP (RFC 6960, in the profile of RFC 5019): what to ask a responder about a certificate, and
 * whether its answer may be believed. Keeps nothing. */
#ifndef MD_OCSP_RESPONSE_H
#define MD_OCSP_RESPONSE_H

#include "md_cert.h"

#define MD_OCSP_NONCE_LEN    32   /* RFC 9654 2.1 */
#define MD_OCSP_REQUEST_TYPE "application/ocsp-request"
#define MD_OCSP_TYPE         "application/ocsp-response"

/* A certificate, as a responder knows it. Small, unlike its X509 object. */
typedef struct md_ocsp_cert_t {
    const char *responder_url;     /* the first one by http(s) that it names, or NULL */
    const md_cert_t *issuer;
    const unsigned char *cert_id;  /* CertID (RFC 6960 4.1.1) with SHA-1 (RFC 5019 2.1.1), DER */
    long cert_id_len;
    const char *sha1, *sha256;     /* lower-case hex over its DER */
    const char *serial;            /* upper-case hex */
    apr_time_t issued_at;          /* its notBefore */
} md_ocsp_cert_t;

/* Of a certificate, DER, and its issuer, which has to live as long. Of the certificate no more is
 * decoded than is needed, as its public key takes OpenSSL long. APR_EINVAL if it is none, or the
 * issuer is another one. */
MD_MUST_CHECK
apr_status_t md_ocsp_cert_make(md_ocsp_cert_t **pocsp, const unsigned char *der, long len,
                               const md_cert_t *issuer, md_err_t *err, apr_pool_t *p);

/* Of the first two of a PEM text. `issuers` as for md_chain_from_pem_shared. APR_EOF if there are
 * no two. */
MD_MUST_CHECK
apr_status_t md_ocsp_cert_from_pem(md_ocsp_cert_t **pocsp, const char *pem, apr_hash_t *issuers,
                                   md_err_t *err, apr_pool_t *p);

typedef struct md_ocsp_request_t {
    const unsigned char *der;      /* OCSPRequest */
    apr_size_t len;
} md_ocsp_request_t;

/* With a nonce (MD_OCSP_NONCE_LEN bytes) or, so that caches can answer, without (NULL). */
MD_MUST_CHECK
apr_status_t md_ocsp_request_make(md_ocsp_request_t *request, const md_ocsp_cert_t *cert,
                                  const unsigned char *nonce, md_err_t *err, apr_pool_t *p);

/* The URL to GET the answer from (RFC 5019 5); NULL if it is too long for that. */
const char *md_ocsp_get_url(const char *responder_url, const md_ocsp_request_t *request,
                            apr_pool_t *p);

typedef enum { MD_OCSP_GOOD, MD_OCSP_REVOKED } md_ocsp_status_t;

/* What a response says of the certificate. */
typedef struct md_ocsp_answer_t {
    md_ocsp_status_t status;
    apr_time_t this_update;
    apr_time_t next_update;        /* 0: there is always something newer */
    apr_time_t ends_at;            /* nobody believes it from then on: the next update, or the end
                                      of the signer's certificate */
    apr_time_t revoked_at;
    const char *reason;            /* of the revocation, static text, or NULL */
} md_ocsp_answer_t;

/* All checks of RFC 6960 3.2 and RFC 5019 4: the response is successful, for this certificate,
 * signed by the issuer or by whom it has delegated that to, has the nonce of the request if both
 * have one, and is valid at `now`. `request` is NULL for one that was kept. What has no next update
 * must be of today.
 * APR_EAGAIN: the responder wants to be asked later; APR_ENOENT: it does not know the certificate
 * (yet); APR_EINVAL: anything else. */
MD_MUST_CHECK
apr_status_t md_ocsp_check(md_ocsp_answer_t *answer, const md_ocsp_cert_t *cert,
                           const md_ocsp_request_t *request, const unsigned char *der,
                           apr_size_t len, apr_time_t now, md_err_t *err, apr_pool_t *p);

#endif
