/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and chains (leaf first), read only. Freed with their pool. */
#ifndef MD_CERT_H
#define MD_CERT_H

#include <apr_hash.h>
#include <apr_tables.h>
#include <openssl/types.h>

#include "md_key.h"
#include "md_time.h"

typedef struct md_cert_t md_cert_t;

/* Takes ownership of `x509`. */
md_cert_t *md_cert_wrap(X509 *x509, apr_pool_t *p);
X509 *md_cert_x509(const md_cert_t *cert);

/* All CERTIFICATE blocks of a PEM text, leaf first, as array of `md_cert_t *`; empty when there is
 * none and the text is below 1024 bytes. A block that cannot be decoded, more than MD_MAX_CHAIN
 * blocks, or 1024 bytes and more without any block: APR_EINVAL. */
MD_MUST_CHECK
apr_status_t md_chain_from_pem(apr_array_header_t **pchain, const char *pem, apr_size_t len,
                               md_err_t *err, apr_pool_t *p);

/* The same for one of many chains that share issuers: decoding takes long, so what stands behind a
 * leaf is decoded once and kept in `known`, by its DER, for the life of that hash. */
MD_MUST_CHECK
apr_status_t md_chain_from_pem_shared(apr_array_header_t **pchain, const char *pem, apr_size_t len,
                                      apr_hash_t *known, md_err_t *err, apr_pool_t *p);

/* One issuer of those, in `p`; NULL if it cannot be decoded. */
md_cert_t *md_cert_decode_shared(const unsigned char *der, long len, apr_hash_t *known,
                                 apr_pool_t *p);

/* Concatenated PEM blocks; "" for none. */
const char *md_chain_to_pem(const apr_array_header_t *chain, apr_pool_t *p);

/* The certificate alone, as DER in base64url. */
const char *md_cert_encode(const md_cert_t *cert, apr_pool_t *p);

/* The same chain as TLS wants it (RFC 8446 4.4.2): the certificate for `key` first, behind each its
 * issuer, nothing else. What is no chain stays as it is, for the check to tell. */
apr_array_header_t *md_chain_sort(const apr_array_header_t *chain, const md_key_t *key,
                                  apr_pool_t *p);

/* Check what a CA delivered (RFC 8555 7.4.2): at least one certificate, the leaf fits `key`,
 * covers all of `names`, is valid at `now` (an hour of clock skew for notBefore), each
 * certificate but the last is signed by the next, and none is too weak. APR_EINVAL with the
 * reason. */
MD_MUST_CHECK
apr_status_t md_chain_check(const apr_array_header_t *chain, const md_key_t *key,
                            const apr_array_header_t *names, apr_time_t now, md_err_t *err,
                            apr_pool_t *p);

/* Was the leaf issued by, or does the chain end at (itself a part of it or not), a CA with this
 * common name, in any case? */
int md_chain_is_from(const apr_array_header_t *chain, const char *common_name);

/* Would the TLS library serve it? Its security level, as configured for the system, rules out keys
 * and signatures that are too weak, and the TLS module ends the server over one. APR_EINVAL. */
MD_MUST_CHECK
apr_status_t md_chain_check_strength(const apr_array_header_t *chain, md_err_t *err);

/* The bits of security that it asks for. */
int md_chain_least_bits(void);

/* As OpenSSL has it, UTCTime or GeneralizedTime; 0 when it is none. */
apr_time_t md_cert_time(const ASN1_TIME *time);

md_cert_t *md_chain_leaf(const apr_array_header_t *chain); /* NULL if empty */

/* Its own issuer. */
int md_cert_is_self_signed(const md_cert_t *cert);

int md_cert_fits_key(const md_cert_t *cert, const md_key_t *key);

/* Does the PEM text of an unencrypted PKCS#8 key repeat the public key of the certificate, as files
 * of RSA and EC keys do? A quick yes, without decoding the key; 0 means to look closer. */
int md_cert_fits_pem(const md_cert_t *cert, const char *pem, apr_size_t len);

/* What a certificate says. Small, unlike its X509 object. */
typedef struct md_cert_info_t {
    md_window_t validity;
    apr_array_header_t *names;  /* DNS names (lower case) and IP addresses of the subjectAltName;
                                   NULL: it has none. The common name never counts. */
    int must_staple;            /* RFC 7633 extension there? */
    const char *serial;         /* upper-case hex, even number of digits */
    const char *fingerprint;    /* lower-case hex of SHA-256 over the DER */
    const char *issuer_name;    /* /C=../O=../CN=.. */
    const char *issuer_uri;     /* caIssuers, or NULL */
    const char *ari_id;         /* RFC 9773 4.1: base64url(AKI) "." base64url(serial, DER content
                                   octets); NULL without AKI */
} md_cert_info_t;

const md_cert_info_t *md_cert_info(const md_cert_t *cert, apr_pool_t *p);

/* 64 bits that are random from one certificate to the next, and the same for one at all times. */
apr_uint64_t md_cert_dice(const md_cert_info_t *info);

/* The period in which all are valid, of `const md_cert_info_t *` (NULL: one that is not there); end
 * 0: there is none. `certs` may be NULL. */
md_window_t md_cert_common_validity(const apr_array_header_t *certs);

/* The first of `names` that the certificate does not cover, NULL if it covers all; linear. */
const char *md_cert_uncovered(const md_cert_info_t *info, const apr_array_header_t *names,
                              apr_pool_t *p);

#endif
