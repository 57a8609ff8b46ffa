/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP responses, as DER: for a certificate of the CA that has the key of all targets. */
#include "fuzz.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "../../md_limits.h"
#include "../../md_ocsp_response.h"
#include "../../md_staples.h"

#define NOW    apr_time_from_sec(1800000000)
#define SERIAL 7

static md_ocsp_cert_t *cert;
static md_ocsp_request_t request;

/* What its CertID is made of: the name, the key and the serial number. */
static md_cert_t *make_cert(const char *name, long serial, apr_pool_t *p)
{
    X509 *x509 = X509_new();
    X509_NAME *ca = X509_NAME_new(), *subject = X509_NAME_new();

    X509_NAME_add_entry_by_txt(ca, "CN", MBSTRING_UTF8, (const unsigned char *)"CA", -1, -1, 0);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1,
                               0);
    X509_set_version(x509, X509_VERSION_3);
    X509_set_issuer_name(x509, ca);
    X509_set_subject_name(x509, subject);
    X509_NAME_free(ca);
    X509_NAME_free(subject);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), serial);
    ASN1_TIME_set_string(X509_getm_notBefore(x509), "20200101000000Z");
    ASN1_TIME_set_string(X509_getm_notAfter(x509), "21200101000000Z");
    X509_set_pubkey(x509, md_key_evp(fuzz_key()));
    holds(X509_sign(x509, md_key_evp(fuzz_key()), EVP_sha256()) > 0);
    return md_cert_wrap(x509, p);
}

void fuzz_start(apr_pool_t *p)
{
    static const unsigned char NONCE[MD_OCSP_NONCE_LEN] = "a nonce of thirty-two octets ...";
    md_cert_t *leaf = make_cert("leaf", SERIAL, p), *ca = make_cert("CA", 1, p);
    md_err_t err = fuzz_err(p);
    unsigned char *der = NULL;
    int len = i2d_X509(md_cert_x509(leaf), &der);

    holds(md_ocsp_cert_make(&cert, der, len, ca, &err, p) == APR_SUCCESS);
    OPENSSL_free(der);
    holds(md_ocsp_request_make(&request, cert, NONCE, &err, p) == APR_SUCCESS);
    ERR_clear_error();
}

static void check_answer(const md_ocsp_answer_t *answer, const unsigned char *der, size_t len)
{
    md_staple_t staple;

    holds(answer->status == MD_OCSP_GOOD || answer->status == MD_OCSP_REVOKED);
    holds(answer->ends_at > NOW);
    holds(!answer->next_update || answer->next_update > NOW);
    holds(!answer->next_update || answer->ends_at <= answer->next_update);
    holds(answer->this_update <= NOW + apr_time_from_sec(300));
    holds(len <= MD_MAX_OCSP_BODY);
    md_staple_fill(&staple, answer, der, len, NOW, 1000);
    holds(md_staple_is_usable(&staple, NOW, 1000));
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const unsigned char *der = (const unsigned char *)data;
    md_err_t err = fuzz_err(p);
    md_ocsp_answer_t answer;
    apr_status_t rv;

    rv = md_ocsp_check(&answer, cert, &request, der, len, NOW, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    check_answer(&answer, der, len);
    holds(md_ocsp_check(&answer, cert, NULL, der, len, NOW, &err, p) == APR_SUCCESS);
}
