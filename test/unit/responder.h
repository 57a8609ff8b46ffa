/* SPDX-License-Identifier: Apache-2.0 */
/* A CA with an OCSP responder, which gives right and wrong answers. Include it once, after
 * cmocka.h. */
#ifndef RESPONDER_H
#define RESPONDER_H

#include <string.h>

#include <apr_strings.h>

#include <openssl/ocsp.h>
#include <openssl/x509v3.h>

#include "../../md_ocsp_response.h"

#define RESPONDER_URL "http://ocsp.test/r"

typedef enum {
    SIGNER_ISSUER,
    SIGNER_DELEGATE,
    SIGNER_NO_PURPOSE, /* for TLS servers */
    SIGNER_ENDED,
    SIGNER_ENDS_SOON,  /* in less than a day */
    SIGNER_STRANGER,   /* a CA of the same name with another key, and a delegate of it */
    SIGNER_OTHER,      /* for OCSP, but not from the issuer */
    SIGNER_TOMORROW,
    SIGNER_NO_EXT,     /* does not say what it is for */
    SIGNER_NO_USAGE,   /* for OCSP, but its key is not for signatures */
    SIGNER_MALFORMED,  /* says nonsense about the use of its key */
    SIGNER_MISNAMED,   /* signed by the issuer, in the name of somebody else */
    SIGNER_RENAMED,    /* the key of the issuer, with another name */
    SIGNER_MAX
} responder_signer_t;

/* Whoever can sign a response: key and certificate. */
typedef struct responder_pair_t {
    EVP_PKEY *key;
    X509 *x509;
} responder_pair_t;

static struct {
    responder_pair_t ca, stranger, signers[SIGNER_MAX], leaves[2];
    X509 *leaf, *other_leaf; /* for the same name, with other serial numbers */
    md_cert_t *leaf_cert, *ca_cert;
} responder;

/* What to answer; all 0: good, signed by the issuer, for a day, without end. */
typedef struct responder_answer_t {
    int response_status;      /* OCSP_RESPONSE_STATUS_... */
    int cert_status;          /* V_OCSP_CERTSTATUS_... */
    int reason;               /* of a revocation, 0: none */
    responder_signer_t signer;
    long this_off, next_off;  /* seconds from `now`; next_off 0: no next update */
    X509 *about;              /* NULL: the leaf */
    const md_ocsp_request_t *request; /* whose nonce it repeats */
    int is_padded;            /* it has many certificates that nobody needs */
    int is_forged;            /* a bit of the signature is wrong */
    int is_by_key;            /* it has the key of its signer, not the name */
    int this_is_bad, next_is_bad; /* what should be a date is none */
} responder_answer_t;

static void responder_add_ext(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x509, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* From `from` to `until`, seconds from `now`; `issuer` NULL: its own. */
static responder_pair_t responder_pair(const char *name, const responder_pair_t *issuer,
                                       apr_time_t now, long from, long until, int nid,
                                       const char *ext)
{
    static long serial = 1000;
    responder_pair_t pair = { EVP_EC_gen("P-256"), X509_new() };
    const responder_pair_t *by = issuer ? issuer : &pair;
    X509_NAME *subject = X509_NAME_new();
    time_t base = (time_t)apr_time_sec(now);

    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_version(pair.x509, X509_VERSION_3);
    X509_set_subject_name(pair.x509, subject);
    X509_set_issuer_name(pair.x509, issuer ? X509_get_subject_name(by->x509) : subject);
    X509_NAME_free(subject);
    ASN1_INTEGER_set(X509_get_serialNumber(pair.x509), ++serial);
    X509_set_pubkey(pair.x509, pair.key);
    X509_time_adj_ex(X509_getm_notBefore(pair.x509), 0, from, &base);
    X509_time_adj_ex(X509_getm_notAfter(pair.x509), 0, until, &base);
    if (ext)
        responder_add_ext(pair.x509, by->x509, nid, ext);
    assert_true(X509_sign(pair.x509, by->key, EVP_sha256()) > 0);
    return pair;
}

/* A certificate as its responder knows it. */
__attribute__((unused))
static apr_status_t responder_cert(md_ocsp_cert_t **pocsp, X509 *x509, const md_cert_t *issuer,
                                   md_err_t *err, apr_pool_t *p)
{
    unsigned char *der = NULL;
    int len = i2d_X509(x509, &der);
    apr_status_t rv = md_ocsp_cert_make(pocsp, der, len, issuer, err, p);

    OPENSSL_free(der);
    return rv;
}

#define RESPONDER_YEAR (365L * 24 * 3600)

static void responder_spoil_usage(X509 *x509)
{
    ASN1_OCTET_STRING *nonsense = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext;

    assert_int_equal(ASN1_OCTET_STRING_set(nonsense, (const unsigned char *)"nonsense", 8), 1);
    ext = X509_EXTENSION_create_by_NID(NULL, NID_key_usage, 0, nonsense);
    assert_int_equal(X509_add_ext(x509, ext, -1), 1);
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(nonsense);
}

/* Delegates of the CA that are all but right. */
static void responder_make_unfit(apr_time_t now)
{
    static const char OCSP[] = "OCSPSigning";
    const responder_pair_t *ca = &responder.ca;
    responder_pair_t *signers = responder.signers;
    X509_NAME *name = X509_NAME_new();
    const long y = RESPONDER_YEAR;
    int i;

    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"X", -1, -1, 0);
    signers[SIGNER_TOMORROW] = responder_pair("D", ca, now, 360, y, NID_ext_key_usage, OCSP);
    signers[SIGNER_NO_EXT] = responder_pair("D", ca, now, -3600, y, 0, NULL);
    for (i = SIGNER_NO_USAGE; i <= SIGNER_RENAMED; ++i)
        signers[i] = responder_pair("D", ca, now, -3600, y, NID_ext_key_usage, OCSP);
    responder_add_ext(signers[SIGNER_NO_USAGE].x509, ca->x509, NID_key_usage, "keyEncipherment");
    responder_spoil_usage(signers[SIGNER_MALFORMED].x509);
    X509_set_issuer_name(signers[SIGNER_MISNAMED].x509, name);
    EVP_PKEY_free(signers[SIGNER_RENAMED].key);
    signers[SIGNER_RENAMED].key = ca->key;
    EVP_PKEY_up_ref(ca->key);
    X509_set_pubkey(signers[SIGNER_RENAMED].x509, ca->key);
    X509_set_issuer_name(signers[SIGNER_RENAMED].x509, name);
    for (i = SIGNER_NO_USAGE; i <= SIGNER_RENAMED; ++i)
        assert_true(X509_sign(signers[i].x509, ca->key, EVP_sha256()) > 0);
    X509_NAME_free(name);
}

/* A CA and certificates that are valid at `now`. */
static void responder_make(apr_time_t now, apr_pool_t *p)
{
    static const char OCSP[] = "OCSPSigning", CA_EXT[] = "critical,CA:TRUE";
    const responder_pair_t *ca = &responder.ca, *stranger = &responder.stranger;
    responder_pair_t *signers = responder.signers;
    const long y = RESPONDER_YEAR;
    int i;

    responder.ca = responder_pair("CA", NULL, now, -y, 10 * y, NID_basic_constraints, CA_EXT);
    responder.stranger = responder_pair("CA", NULL, now, -y, 10 * y, NID_basic_constraints, CA_EXT);
    for (i = 0; i < 2; ++i)
        responder.leaves[i] = responder_pair("leaf", ca, now, -7200, y, NID_info_access,
                                             "OCSP;URI:" RESPONDER_URL);
    responder.leaf = responder.leaves[0].x509;
    responder.other_leaf = responder.leaves[1].x509;
    signers[SIGNER_ISSUER] = responder.ca;
    signers[SIGNER_DELEGATE] = responder_pair("D", ca, now, -3600, y, NID_ext_key_usage, OCSP);
    signers[SIGNER_NO_PURPOSE] = responder_pair("D", ca, now, -3600, y, NID_ext_key_usage,
                                                "serverAuth");
    signers[SIGNER_ENDED] = responder_pair("D", ca, now, -y, -60, NID_ext_key_usage, OCSP);
    signers[SIGNER_ENDS_SOON] = responder_pair("D", ca, now, -3600, 23 * 3600 + 1800,
                                               NID_ext_key_usage, OCSP);
    signers[SIGNER_STRANGER] = responder.stranger;
    responder_make_unfit(now);
    signers[SIGNER_OTHER] = responder_pair("D", stranger, now, -3600, y, NID_ext_key_usage, OCSP);
    X509_up_ref(responder.leaf);
    X509_up_ref(responder.ca.x509);
    responder.leaf_cert = md_cert_wrap(responder.leaf, p);
    responder.ca_cert = md_cert_wrap(responder.ca.x509, p);
}

static void responder_end_pair(const responder_pair_t *pair)
{
    EVP_PKEY_free(pair->key);
    X509_free(pair->x509);
}

/* Give back all of responder_make. */
static void responder_end(void)
{
    int i;

    for (i = 0; i < SIGNER_MAX; ++i)
        responder_end_pair(&responder.signers[i]);
    for (i = 0; i < 2; ++i)
        responder_end_pair(&responder.leaves[i]);
}

/* Of the only status. */
static void responder_spoil_dates(OCSP_BASICRESP *basic, const responder_answer_t *what)
{
    ASN1_GENERALIZEDTIME *this_update = NULL, *next_update = NULL;

    (void)OCSP_single_get0_status(OCSP_resp_get0(basic, 0), NULL, NULL, &this_update, &next_update);
    if (what->this_is_bad)
        ASN1_STRING_set(this_update, "yesterday", -1);
    if (what->next_is_bad)
        ASN1_STRING_set(next_update, "tomorrow", -1);
}

static void responder_add_status(OCSP_BASICRESP *basic, const responder_answer_t *what,
                                 apr_time_t now)
{
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), what->about ? what->about : responder.leaf,
                                      responder.ca.x509);
    time_t base = (time_t)apr_time_sec(now);
    ASN1_TIME *from = X509_time_adj_ex(NULL, 0, what->this_off, &base);
    ASN1_TIME *until = what->next_off ? X509_time_adj_ex(NULL, 0, what->next_off, &base) : NULL;
    ASN1_TIME *revoked = X509_time_adj_ex(NULL, 0, -3600, &base);

    assert_non_null(OCSP_basic_add1_status(basic, id, what->cert_status, what->reason, revoked,
                                           from, until));
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    ASN1_TIME_free(revoked);
    OCSP_CERTID_free(id);
}

static void responder_copy_nonce(OCSP_BASICRESP *basic, const md_ocsp_request_t *request)
{
    const unsigned char *der = request->der;
    OCSP_REQUEST *req = d2i_OCSP_REQUEST(NULL, &der, (long)request->len);

    assert_non_null(req);
    OCSP_copy_nonce(basic, req);
    OCSP_REQUEST_free(req);
}

static STACK_OF(X509) *responder_ballast(int is_padded)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    int i;

    for (i = 0; is_padded && i < 40; ++i)
        sk_X509_push(certs, responder.ca.x509);
    return certs;
}

/* DER in `p`. */
__attribute__((unused))
static const unsigned char *responder_say(apr_size_t *plen, const responder_answer_t *what,
                                          apr_time_t now, apr_pool_t *p)
{
    const responder_pair_t *signer = &responder.signers[what->signer];
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    STACK_OF(X509) *ballast = responder_ballast(what->is_padded);
    unsigned char *der = NULL, *copy;
    OCSP_RESPONSE *response;
    int len;

    responder_add_status(basic, what, now);
    responder_spoil_dates(basic, what);
    if (what->request)
        responder_copy_nonce(basic, what->request);
    assert_int_equal(OCSP_basic_sign(basic, signer->x509, signer->key, EVP_sha256(), ballast,
                                     what->is_by_key ? OCSP_RESPID_KEY : 0), 1);
    response = OCSP_response_create(what->response_status, what->response_status ? NULL : basic);
    len = i2d_OCSP_RESPONSE(response, &der);
    assert_true(len > 0);
    copy = apr_pmemdup(p, der, (apr_size_t)len);
    if (what->is_forged) { /* the signature is in front of the certificates */
        const ASN1_OCTET_STRING *signature = OCSP_resp_get0_signature(basic);
        unsigned char *at = memmem(copy, (size_t)len, ASN1_STRING_get0_data(signature),
                                   (size_t)ASN1_STRING_length(signature));

        assert_non_null(at);
        at[ASN1_STRING_length(signature) - 1] ^= 1;
    }
    *plen = (apr_size_t)len;
    OPENSSL_free(der);
    sk_X509_free(ballast);
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    return copy;
}

#endif
