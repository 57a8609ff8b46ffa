/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP: requests, and the checks of a response. */
#include "md_ocsp_response.h"

#include <string.h>

#include <apr_strings.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "md_limits.h"
#include "md_text.h"

#define GET_MAX    255                         /* RFC 5019 5 */
#define CLOCK_SKEW apr_time_from_sec(300)
#define TODAY      apr_time_from_sec(24 * 3600)

/* ---- the certificate ---- */

/* What is needed of a certificate (RFC 5280 4.1). */
typedef struct parts_t {
    ASN1_INTEGER *serial;
    X509_NAME *issuer;
    ASN1_TIME *not_before;
    X509_EXTENSIONS *extensions;
} parts_t;

static void free_parts(parts_t *parts)
{
    ASN1_INTEGER_free(parts->serial);
    X509_NAME_free(parts->issuer);
    ASN1_TIME_free(parts->not_before);
    sk_X509_EXTENSION_pop_free(parts->extensions, X509_EXTENSION_free);
}

/* Go to what is inside the element, *pend being its end; 0: it has another tag. */
static int enter(const unsigned char **pat, const unsigned char **pend, int tag)
{
    int found, class;
    long len;

    if (ASN1_get_object(pat, &len, &found, &class, *pend - *pat) & 0x80 || found != tag)
        return 0;
    *pend = *pat + len;
    return 1;
}

static int skip(const unsigned char **pat, const unsigned char *end)
{
    int tag, class;
    long len;

    if (ASN1_get_object(pat, &len, &tag, &class, end - *pat) & 0x80)
        return 0;
    *pat += len;
    return 1;
}

static int is_tagged(const unsigned char *at, const unsigned char *end, int tag)
{
    return at < end && *at == (V_ASN1_CONTEXT_SPECIFIC | V_ASN1_CONSTRUCTED | tag);
}

static int read_validity(parts_t *parts, const unsigned char *at, const unsigned char *end)
{
    if (enter(&at, &end, V_ASN1_SEQUENCE))
        parts->not_before = d2i_ASN1_TIME(NULL, &at, end - at);
    return parts->not_before != NULL;
}

/* What comes after the subject's public key: there may be none. */
static int read_extensions(parts_t *parts, const unsigned char *at, const unsigned char *end)
{
    while (at < end && !is_tagged(at, end, 3))
        if (!skip(&at, end))
            return 0;
    if (at == end)
        return 1;
    if (enter(&at, &end, 3))
        parts->extensions = d2i_X509_EXTENSIONS(NULL, &at, end - at);
    return parts->extensions != NULL;
}

static int read_parts(parts_t *parts, const unsigned char *der, long len)
{
    const unsigned char *at = der, *end = der + len;

    if (!enter(&at, &end, V_ASN1_SEQUENCE) || !enter(&at, &end, V_ASN1_SEQUENCE)
        || (is_tagged(at, end, 0) && !skip(&at, end)))
        return 0;
    parts->serial = d2i_ASN1_INTEGER(NULL, &at, end - at);
    if (!parts->serial || !skip(&at, end)) /* the algorithm */
        return 0;
    parts->issuer = d2i_X509_NAME(NULL, &at, end - at);
    if (!parts->issuer || !read_validity(parts, at, end))
        return 0;
    return skip(&at, end) && skip(&at, end) && skip(&at, end) && read_extensions(parts, at, end);
}

static const char *digest_of(const unsigned char *der, long len, const EVP_MD *md, apr_pool_t *p)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_len = 0;

    if (!EVP_Digest(der, (size_t)len, digest, &digest_len, md, NULL))
        return NULL;
    return md_hex_encode(digest, digest_len, 0, p);
}

static const char *url_of(const ACCESS_DESCRIPTION *access, apr_pool_t *p)
{
    const ASN1_STRING *uri;
    const char *url;

    if (OBJ_obj2nid(access->method) != NID_ad_OCSP || access->location->type != GEN_URI)
        return NULL;
    uri = access->location->d.uniformResourceIdentifier;
    url = apr_pstrmemdup(p, (const char *)ASN1_STRING_get0_data(uri),
                         (apr_size_t)ASN1_STRING_length(uri));
    return md_uri_check_http(url, p) ? NULL : url;
}

static const char *find_responder(const X509_EXTENSIONS *extensions, apr_pool_t *p)
{
    AUTHORITY_INFO_ACCESS *list = X509V3_get_d2i(extensions, NID_info_access, NULL, NULL);
    const char *found = NULL;
    int i;

    for (i = 0; !found && i < sk_ACCESS_DESCRIPTION_num(list); ++i)
        found = url_of(sk_ACCESS_DESCRIPTION_value(list, i), p);
    AUTHORITY_INFO_ACCESS_free(list);
    return found;
}

/* NULL without memory. */
static const unsigned char *cert_id_of(long *plen, const parts_t *parts, const md_cert_t *issuer,
                                       apr_pool_t *p)
{
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(md_cert_x509(issuer));
    OCSP_CERTID *id = OCSP_cert_id_new(EVP_sha1(), parts->issuer, key, parts->serial);
    unsigned char *der = NULL, *copy = NULL;

    *plen = id ? i2d_OCSP_CERTID(id, &der) : -1;
    if (*plen > 0)
        copy = apr_pmemdup(p, der, (apr_size_t)*plen);
    OPENSSL_free(der);
    OCSP_CERTID_free(id);
    return copy;
}

static apr_status_t fill_cert(md_ocsp_cert_t *ocsp, const parts_t *parts, md_err_t *err,
                              apr_pool_t *p)
{
    if (X509_NAME_cmp(parts->issuer, X509_get_subject_name(md_cert_x509(ocsp->issuer))))
        return md_fail(err, APR_EINVAL, "the second certificate of the chain is not the issuer of "
                       "the first");
    ocsp->responder_url = find_responder(parts->extensions, p);
    ocsp->serial = md_hex_encode(ASN1_STRING_get0_data(parts->serial),
                                 (apr_size_t)ASN1_STRING_length(parts->serial), 1, p);
    ocsp->issued_at = md_cert_time(parts->not_before);
    ocsp->cert_id = cert_id_of(&ocsp->cert_id_len, parts, ocsp->issuer, p);
    if (!ocsp->sha1 || !ocsp->sha256 || !ocsp->cert_id)
        return md_fail(err, APR_ENOMEM, "no memory for the data of an OCSP request");
    return APR_SUCCESS;
}

apr_status_t md_ocsp_cert_make(md_ocsp_cert_t **pocsp, const unsigned char *der, long len,
                               const md_cert_t *issuer, md_err_t *err, apr_pool_t *p)
{
    md_ocsp_cert_t *ocsp = apr_pcalloc(p, sizeof(*ocsp));
    parts_t parts = { .serial = NULL };
    apr_status_t rv;

    *pocsp = NULL;
    ocsp->issuer = issuer;
    ocsp->sha1 = digest_of(der, len, EVP_sha1(), p);
    ocsp->sha256 = digest_of(der, len, EVP_sha256(), p);
    if (read_parts(&parts, der, len))
        rv = fill_cert(ocsp, &parts, err, p);
    else
        rv = md_fail(err, APR_EINVAL, "a certificate cannot be decoded");
    free_parts(&parts);
    ERR_clear_error();
    if (rv == APR_SUCCESS)
        *pocsp = ocsp;
    return rv;
}

/* The next block, for OPENSSL_free; NULL: there is no more. */
static unsigned char *next_block(long *plen, BIO *bio)
{
    unsigned char *der = NULL;

    if (!bio || PEM_bytes_read_bio(&der, plen, NULL, PEM_STRING_X509, bio, NULL, NULL) != 1)
        return NULL;
    return der;
}

apr_status_t md_ocsp_cert_from_pem(md_ocsp_cert_t **pocsp, const char *pem, apr_hash_t *issuers,
                                   md_err_t *err, apr_pool_t *p)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    long len = 0, issuer_len = 0;
    unsigned char *der = next_block(&len, bio), *issuer_der = next_block(&issuer_len, bio);
    md_cert_t *issuer = NULL;
    apr_status_t rv;

    if (issuer_der)
        issuer = md_cert_decode_shared(issuer_der, issuer_len, issuers, p);
    if (!issuer_der)
        rv = md_fail(err, APR_EOF, "need at least 2 certificates in PEM data");
    else if (!issuer)
        rv = md_fail(err, APR_EINVAL, "a certificate cannot be decoded");
    else
        rv = md_ocsp_cert_make(pocsp, der, len, issuer, err, p);
    OPENSSL_free(der);
    OPENSSL_free(issuer_der);
    BIO_free(bio);
    ERR_clear_error();
    return rv;
}

static OCSP_CERTID *id_of(const md_ocsp_cert_t *cert)
{
    const unsigned char *der = cert->cert_id;

    return d2i_OCSP_CERTID(NULL, &der, cert->cert_id_len);
}

/* ---- requests ---- */

/* `id` is taken. */
static OCSP_REQUEST *make_request(OCSP_CERTID *id, const unsigned char *nonce)
{
    unsigned char copy[MD_OCSP_NONCE_LEN];
    OCSP_REQUEST *req = OCSP_REQUEST_new();

    if (nonce)
        memcpy(copy, nonce, sizeof(copy));
    if (req && id && OCSP_request_add0_id(req, id)) {
        if (!nonce || OCSP_request_add1_nonce(req, copy, sizeof(copy)))
            return req;
        id = NULL; /* of the request now */
    }
    OCSP_CERTID_free(id);
    OCSP_REQUEST_free(req);
    return NULL;
}

apr_status_t md_ocsp_request_make(md_ocsp_request_t *request, const md_ocsp_cert_t *cert,
                                  const unsigned char *nonce, md_err_t *err, apr_pool_t *p)
{
    OCSP_REQUEST *req = make_request(id_of(cert), nonce);
    unsigned char *der = NULL;
    int len = req ? i2d_OCSP_REQUEST(req, &der) : -1;

    OCSP_REQUEST_free(req);
    ERR_clear_error();
    if (len <= 0)
        return md_fail(err, APR_ENOMEM, "no memory for a request to a responder");
    request->der = apr_pmemdup(p, der, (apr_size_t)len);
    request->len = (apr_size_t)len;
    OPENSSL_free(der);
    return APR_SUCCESS;
}

/* base64 (RFC 4648 4) as a part of a path: what has a meaning there is escaped. */
static const char *path_of(const md_ocsp_request_t *request, apr_pool_t *p)
{
    unsigned char *text = apr_palloc(p, 4 * (request->len / 3 + 1) + 1);
    char *path, *to;
    int i, len = EVP_EncodeBlock(text, request->der, (int)request->len);

    path = to = apr_palloc(p, 3 * (apr_size_t)len + 1);
    for (i = 0; i < len; ++i) {
        const char *escaped = text[i] == '+' ? "%2B" : text[i] == '/' ? "%2F" : "%3D";

        if (strchr("+/=", text[i]))
            to = apr_cpystrn(to, escaped, 4);
        else
            *to++ = (char)text[i];
    }
    *to = '\0';
    return path;
}

const char *md_ocsp_get_url(const char *responder_url, const md_ocsp_request_t *request,
                            apr_pool_t *p)
{
    apr_size_t len = strlen(responder_url);
    const char *url;

    if (request->len > GET_MAX)
        return NULL;
    url = apr_pstrcat(p, responder_url, len && responder_url[len - 1] == '/' ? "" : "/",
                      path_of(request, p), NULL);
    return strlen(url) <= GET_MAX ? url : NULL;
}

/* ---- responses ---- */

/* A response that is being checked. */
typedef struct check_t {
    const md_ocsp_cert_t *cert;
    apr_time_t now;
    OCSP_BASICRESP *basic;
    md_ocsp_answer_t *answer;
    md_err_t *err;
    apr_pool_t *p;
} check_t;

/* RFC 6960 2.3 */
static apr_status_t check_success(OCSP_RESPONSE *response, md_err_t *err)
{
    int status = OCSP_response_status(response);

    switch (status) {
    case OCSP_RESPONSE_STATUS_SUCCESSFUL:
        return APR_SUCCESS;
    case OCSP_RESPONSE_STATUS_TRYLATER:
    case OCSP_RESPONSE_STATUS_INTERNALERROR:
        return md_fail(err, APR_EAGAIN, "the responder asks to be queried again later (%s)",
                       OCSP_response_status_str(status));
    case OCSP_RESPONSE_STATUS_UNAUTHORIZED:
        return md_fail(err, APR_ENOENT, "the responder has no answer for this certificate "
                       "(unauthorized)");
    default:
        return md_fail(err, APR_EINVAL, "the responder refuses the request (%s)",
                       OCSP_response_status_str(status));
    }
}

static apr_status_t decode(OCSP_BASICRESP **pbasic, const unsigned char *der, apr_size_t len,
                           md_err_t *err)
{
    const unsigned char *end = der;
    OCSP_RESPONSE *response = NULL;
    apr_status_t rv;

    if (len <= MD_MAX_OCSP_BODY)
        response = d2i_OCSP_RESPONSE(NULL, &end, (long)len);
    if (!response || end != der + len) {
        OCSP_RESPONSE_free(response);
        return md_fail(err, APR_EINVAL, "the responder's answer is not an OCSP response");
    }
    rv = check_success(response, err);
    if (rv == APR_SUCCESS) {
        *pbasic = OCSP_response_get1_basic(response);
        if (!*pbasic)
            rv = md_fail(err, APR_EINVAL, "the response is not of the basic kind");
    }
    OCSP_RESPONSE_free(response);
    return rv;
}

/* Those who get a response from a cache, or never know nonces, have none in it (RFC 9654 2.1). */
static apr_status_t check_nonce(const check_t *check, const md_ocsp_request_t *request)
{
    const unsigned char *der;
    OCSP_REQUEST *req;
    int differs;

    if (!request)
        return APR_SUCCESS;
    der = request->der;
    req = d2i_OCSP_REQUEST(NULL, &der, (long)request->len);
    differs = !req || OCSP_check_nonce(req, check->basic) == 0;
    OCSP_REQUEST_free(req);
    if (differs)
        return md_fail(check->err, APR_EINVAL, "the nonce in the response differs from that in the "
                       "request");
    return APR_SUCCESS;
}

/* The same name and key: a CA may have several certificates for itself. */
static int is_same_ca(X509 *a, X509 *b)
{
    EVP_PKEY *key = X509_get0_pubkey(a), *other = X509_get0_pubkey(b);

    return key && other && !X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b))
           && EVP_PKEY_eq(key, other) == 1;
}

/* Why the issuer does not let the signer speak for it (RFC 6960 4.2.2.2); NULL: it does. */
static const char *delegation_problem(X509 *signer, X509 *issuer)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    uint32_t flags = X509_get_extension_flags(signer);

    if (!key || X509_NAME_cmp(X509_get_issuer_name(signer), X509_get_subject_name(issuer))
        || X509_verify(signer, key) != 1)
        return "its signer's certificate was not issued by the issuer of this certificate";
    if (flags & EXFLAG_INVALID)
        return "its signer's certificate is malformed";
    if (!(flags & EXFLAG_XKUSAGE) || !(X509_get_extended_key_usage(signer) & XKU_OCSP_SIGN)
        || !(X509_get_key_usage(signer) & KU_DIGITAL_SIGNATURE))
        return "its signer's certificate is not for signing OCSP responses";
    return NULL;
}

static apr_status_t check_signature(const check_t *check, X509 *signer)
{
    EVP_PKEY *key = X509_get0_pubkey(signer);

    if (key && ASN1_item_verify(ASN1_ITEM_rptr(OCSP_RESPDATA),
                                OCSP_resp_get0_tbs_sigalg(check->basic),
                                OCSP_resp_get0_signature(check->basic),
                                OCSP_resp_get0_respdata(check->basic), key) == 1)
        return APR_SUCCESS;
    return md_fail(check->err, APR_EINVAL, "the signature of the response is wrong");
}

/* Who has signed, may they, and for how long. */
static apr_status_t check_signer(const check_t *check)
{
    X509 *issuer = md_cert_x509(check->cert->issuer), *signer = NULL;
    STACK_OF(X509) *known = sk_X509_new_null();
    const char *problem = NULL;
    apr_time_t ends_at;
    int is_found;

    is_found = known && sk_X509_push(known, issuer)
               && OCSP_resp_get0_signer(check->basic, &signer, known) == 1;
    sk_X509_free(known);
    if (!is_found)
        return md_fail(check->err, APR_EINVAL, "the response is signed neither by the issuer nor "
                       "by a signer whose certificate it contains");
    if (!is_same_ca(signer, issuer))
        problem = delegation_problem(signer, issuer);
    if (problem)
        return md_fail(check->err, APR_EINVAL, "the response cannot be trusted: %s", problem);
    if (md_cert_time(X509_get0_notBefore(signer)) > check->now + CLOCK_SKEW)
        return md_fail(check->err, APR_EINVAL, "the certificate of the response's signer is not "
                       "valid yet");
    ends_at = md_cert_time(X509_get0_notAfter(signer));
    if (ends_at <= check->now)
        return md_fail(check->err, APR_EINVAL, "the certificate of the response's signer expired "
                       "on %s", md_time_http(ends_at, check->p));
    check->answer->ends_at = ends_at;
    return check_signature(check, signer);
}

static apr_status_t check_times(const check_t *check)
{
    md_ocsp_answer_t *answer = check->answer;

    if (!answer->this_update || answer->this_update > check->now + CLOCK_SKEW)
        return md_fail(check->err, APR_EINVAL, "the response is dated in the future (%s); check "
                       "the clock", md_time_http(answer->this_update, check->p));
    if (answer->next_update && answer->next_update <= check->now)
        return md_fail(check->err, APR_EINVAL, "the response was valid only until %s",
                       md_time_http(answer->next_update, check->p));
    if (answer->next_update && answer->next_update <= answer->this_update)
        return md_fail(check->err, APR_EINVAL, "the response ends before it begins");
    if (!answer->next_update && answer->this_update < check->now - TODAY)
        return md_fail(check->err, APR_EINVAL, "the response is dated %s and does not say how long "
                       "it is valid", md_time_http(answer->this_update, check->p));
    if (answer->next_update && answer->next_update < answer->ends_at)
        answer->ends_at = answer->next_update;
    return APR_SUCCESS;
}

/* The one for our certificate among the statuses that the response has. */
static apr_status_t check_single(const check_t *check)
{
    ASN1_GENERALIZEDTIME *this_update = NULL, *next_update = NULL, *revoked_at = NULL;
    md_ocsp_answer_t *answer = check->answer;
    OCSP_CERTID *id = id_of(check->cert);
    int status = -1, reason = -1, is_found;

    is_found = id && OCSP_resp_find_status(check->basic, id, &status, &reason, &revoked_at,
                                           &this_update, &next_update);
    OCSP_CERTID_free(id);
    if (!is_found)
        return md_fail(check->err, APR_EINVAL, "the response is for another certificate");
    if (status != V_OCSP_CERTSTATUS_GOOD && status != V_OCSP_CERTSTATUS_REVOKED)
        return md_fail(check->err, APR_ENOENT, "the responder does not know this certificate "
                       "(unknown)");
    answer->status = status == V_OCSP_CERTSTATUS_REVOKED ? MD_OCSP_REVOKED : MD_OCSP_GOOD;
    answer->this_update = md_cert_time(this_update);
    answer->next_update = md_cert_time(next_update);
    if (next_update && answer->next_update <= 0)
        return md_fail(check->err, APR_EINVAL, "the response has a malformed date");
    if (answer->status == MD_OCSP_REVOKED) {
        answer->revoked_at = md_cert_time(revoked_at);
        answer->reason = reason >= 0 ? OCSP_crl_reason_str(reason) : NULL;
    }
    return APR_SUCCESS;
}

apr_status_t md_ocsp_check(md_ocsp_answer_t *answer, const md_ocsp_cert_t *cert,
                           const md_ocsp_request_t *request, const unsigned char *der,
                           apr_size_t len, apr_time_t now, md_err_t *err, apr_pool_t *p)
{
    check_t check = { .cert = cert, .now = now, .answer = answer, .err = err, .p = p };
    apr_status_t rv;

    memset(answer, 0, sizeof(*answer));
    rv = decode(&check.basic, der, len, err);
    if (rv == APR_SUCCESS)
        rv = check_nonce(&check, request);
    if (rv == APR_SUCCESS)
        rv = check_signer(&check);
    if (rv == APR_SUCCESS)
        rv = check_single(&check);
    if (rv == APR_SUCCESS)
        rv = check_times(&check);
    OCSP_BASICRESP_free(check.basic);
    ERR_clear_error();
    return rv;
}
