/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates as a CA issues them, without a CA. Include it once, after md_csr.h. */
#ifndef ISSUE_H
#define ISSUE_H

#include <openssl/evp.h>
#include <openssl/x509.h>

/* For `names` and `key`, valid from `start` to `end` (seconds from now), signed by a key that nobody
 * knows. */
static md_cert_t *issue(const apr_array_header_t *names, const md_key_t *key, long start, long end,
                        apr_pool_t *p)
{
    EVP_PKEY *issuer = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509_NAME *name = X509_NAME_new();
    md_cert_t *cert;
    md_err_t err;
    X509 *x509;

    md_err_init(&err, p);
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    x509 = md_cert_x509(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"CA", -1, -1, 0);
    X509_set_issuer_name(x509, name);
    X509_gmtime_adj(X509_getm_notBefore(x509), start);
    X509_gmtime_adj(X509_getm_notAfter(x509), end);
    assert_true(X509_sign(x509, issuer, EVP_sha256()) > 0);
    X509_NAME_free(name);
    EVP_PKEY_free(issuer);
    return cert;
}

#endif
