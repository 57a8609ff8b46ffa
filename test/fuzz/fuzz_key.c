/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys as PEM, or as DER that is put into PEM here as each kind that there is. */
#include "fuzz.h"

#include <string.h>

#include "../../md_cert.h"
#include "../../md_jws.h"
#include "../../md_key.h"
#include "../../md_text.h"

static const unsigned char PASS[] = "a passphrase of the store";
static md_cert_t *cert; /* for fuzz_key */

void fuzz_start(apr_pool_t *p)
{
    const char *pem = fuzz_cert_pem();
    apr_array_header_t *chain;

    holds(md_chain_from_pem(&chain, pem, strlen(pem), NULL, p) == APR_SUCCESS);
    cert = md_chain_leaf(chain);
    holds(cert && md_cert_fits_key(cert, fuzz_key()));
}

static void check_written(const md_key_t *key, apr_pool_t *p)
{
    const char *thumbprint = md_jwk_thumbprint(key, p), *pem;
    md_err_t err = fuzz_err(p);
    apr_size_t len;
    md_key_t *again;

    if (md_key_to_pem(&pem, &len, key, NULL, 0, &err, p) != APR_SUCCESS)
        return;
    holds(!md_key_pem_is_encrypted(pem));
    holds(md_key_from_pem(&again, pem, len, NULL, 0, &err, p) == APR_SUCCESS);
    holds(md_text_same(md_jwk_thumbprint(again, p), thumbprint));
}

static void check_signature(const md_key_t *key, apr_pool_t *p)
{
    const char *alg = md_key_jws_alg(key);
    const unsigned char *sig;
    md_err_t err = fuzz_err(p);
    apr_size_t len;
    apr_status_t rv;

    rv = md_key_sign_jws(&sig, &len, key, "x", 1, &err, p);
    holds_with(rv, &err);
    if (rv == APR_SUCCESS)
        holds(alg && (!strcmp(alg, "RS256") || len == (!strcmp(alg, "ES256") ? 64 : 96)));
}

/* Returns whether it is one. */
static int check_key(const char *pem, size_t len, apr_pool_t *p)
{
    md_err_t err = fuzz_err(p);
    apr_status_t rv;
    md_key_t *key;

    rv = md_key_from_pem(&key, pem, len, PASS, sizeof(PASS), &err, p);
    holds_with(rv, &err);
    holds((rv == APR_SUCCESS) == (key != NULL));
    (void)md_cert_fits_pem(cert, pem, len);
    if (!key)
        return 0;
    (void)md_cert_fits_key(cert, key);
    check_signature(key, p);
    check_written(key, p);
    return 1;
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    static const char *const KINDS[] = {
        "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"
    };
    const char *pem;
    size_t i, pem_len;

    for (i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); ++i) {
        pem_len = len;
        pem = fuzz_pem(KINDS[i], data, &pem_len, p);
        if (check_key(pem, pem_len, p) || pem == data)
            return;
    }
}
