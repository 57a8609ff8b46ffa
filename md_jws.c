/* SPDX-License-Identifier: Apache-2.0 */
/* JWS and JWK. */
#include "md_jws.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "md_text.h"

/* A number of the public key as base64url; padded to `len` bytes unless that is 0. */
static const char *number_of(const md_key_t *key, const char *param, int len, apr_pool_t *p)
{
    BIGNUM *n = NULL;
    unsigned char *bytes;
    const char *text = NULL;

    if (!EVP_PKEY_get_bn_param(md_key_evp(key), param, &n))
        return NULL;
    if (!len)
        len = BN_num_bytes(n);
    bytes = apr_palloc(p, (apr_size_t)len);
    if (BN_bn2binpad(n, bytes, len) == len)
        text = md_base64url_encode(bytes, (apr_size_t)len, p);
    BN_free(n);
    return text;
}

/* Members in the order of the alphabet, as the thumbprint wants them (RFC 7638 3.2, 3.3). */
md_json_t *md_jwk_make(const md_key_t *key, apr_pool_t *p)
{
    const char *alg = md_key_jws_alg(key);
    md_json_t *jwk = md_json_object(p);
    int len;

    if (!alg)
        return NULL;
    if (!strcmp(alg, "RS256")) {
        md_json_set_str(jwk, "e", number_of(key, OSSL_PKEY_PARAM_RSA_E, 0, p));
        md_json_set_str(jwk, "kty", "RSA");
        md_json_set_str(jwk, "n", number_of(key, OSSL_PKEY_PARAM_RSA_N, 0, p));
        return jwk;
    }
    len = !strcmp(alg, "ES256") ? 32 : 48; /* RFC 7518 6.2.1.2 */
    md_json_set_str(jwk, "crv", len == 32 ? "P-256" : "P-384");
    md_json_set_str(jwk, "kty", "EC");
    md_json_set_str(jwk, "x", number_of(key, OSSL_PKEY_PARAM_EC_PUB_X, len, p));
    md_json_set_str(jwk, "y", number_of(key, OSSL_PKEY_PARAM_EC_PUB_Y, len, p));
    return jwk;
}

const char *md_jwk_thumbprint(const md_key_t *key, apr_pool_t *p)
{
    md_json_t *jwk = md_jwk_make(key, p);
    unsigned char digest[32];
    const char *text;

    if (!jwk)
        return NULL;
    text = md_json_text(jwk, 1, p);
    md_sha256(digest, text, strlen(text));
    return md_base64url_encode(digest, sizeof(digest), p);
}

static const char *encode(const char *text, apr_pool_t *p)
{
    return md_base64url_encode((const unsigned char *)text, strlen(text), p);
}

/* RFC 7515 5.1. */
static const char *signing_input(const char *head, const char *body, apr_pool_t *p)
{
    return apr_pstrcat(p, head, ".", body, NULL);
}

/* RFC 7515 7.2.2. */
static md_json_t *flattened(const char *head, const char *body, const unsigned char *sig,
                            apr_size_t sig_len, apr_pool_t *p)
{
    md_json_t *jws = md_json_object(p);

    md_json_set_str(jws, "protected", head);
    md_json_set_str(jws, "payload", body);
    md_json_set_str(jws, "signature", md_base64url_encode(sig, sig_len, p));
    return jws;
}

apr_status_t md_jws_sign(const char **pjws, md_json_t *protected, const char *payload,
                         const md_key_t *key, md_err_t *err, apr_pool_t *p)
{
    const char *head, *body = encode(payload, p), *input;
    const unsigned char *sig = NULL;
    apr_size_t sig_len = 0;
    apr_status_t rv;

    md_json_set_str(protected, "alg", md_key_jws_alg(key));
    head = encode(md_json_text(protected, 1, p), p);
    input = signing_input(head, body, p);
    rv = md_key_sign_jws(&sig, &sig_len, key, input, strlen(input), err, p);
    if (rv != APR_SUCCESS)
        return rv;
    *pjws = md_json_text(flattened(head, body, sig, sig_len, p), 1, p);
    return APR_SUCCESS;
}

/* CAs hand MAC keys out in either alphabet (RFC 4648 4, 5), and people copy them with line ends and
 * blanks around them. */
static const char *base64url_of(const char *text, apr_pool_t *p)
{
    char *copy = apr_palloc(p, strlen(text) + 1), *to = copy;
    const char *end = text + strlen(text);

    while (end > text && strchr(" \t\r\n", end[-1]))
        --end;
    for (text += strspn(text, " \t"); text < end; ++text)
        if (*text != '\r' && *text != '\n')
            *to++ = *text == '+' ? '-' : *text == '/' ? '_' : *text;
    *to = '\0';
    return copy;
}

static const struct {
    const char *name, *digest;
} MACS[] = { { "HS256", "SHA256" }, { "HS384", "SHA384" }, { "HS512", "SHA512" } };
#define MAC_COUNT (sizeof(MACS) / sizeof(MACS[0]))

/* Row of the table; MAC_COUNT: it has none. */
static size_t mac_row(const char *name)
{
    size_t i = 0;

    while (i < MAC_COUNT && strcasecmp(MACS[i].name, name))
        ++i;
    return i;
}

const char *md_jws_mac_alg(const char *name)
{
    size_t row = mac_row(name);

    return row < MAC_COUNT ? MACS[row].name : NULL;
}

apr_status_t md_jws_bind(md_json_t **pjws, md_mac_t mac, const char *url, const md_key_t *key,
                         md_err_t *err, apr_pool_t *p)
{
    md_json_t *protected = md_json_object(p);
    unsigned char sum[EVP_MAX_MD_SIZE], *secret;
    apr_size_t sum_len, secret_len = md_base64url_decode(&secret, base64url_of(mac.hmac, p), p);
    const char *head, *body, *input;
    size_t row = mac_row(mac.alg ? mac.alg : "HS256");

    if (!secret_len || row == MAC_COUNT)
        return md_fail_problem(err, APR_EINVAL, "apache:eab-hmac-invalid", "the %s of the "
                               "external account binding for key id '%s' is not %s: check "
                               "MDExternalAccountBinding", secret_len ? "algorithm" : "MAC key",
                               mac.kid, secret_len ? "HS256, HS384 or HS512" : "base64url");
    md_json_set_str(protected, "alg", MACS[row].name);
    md_json_set_str(protected, "kid", mac.kid);
    md_json_set_str(protected, "url", url);
    head = encode(md_json_text(protected, 1, p), p);
    body = encode(md_json_text(md_jwk_make(key, p), 1, p), p);
    input = signing_input(head, body, p);
    if (!EVP_Q_mac(NULL, "HMAC", NULL, MACS[row].digest, NULL, secret, secret_len,
                   (const unsigned char *)input, strlen(input), sum, sizeof(sum), &sum_len))
        sum_len = 0;
    md_wipe(secret, secret_len);
    if (!sum_len)
        return md_fail_problem(err, md_openssl_fail(err, APR_EGENERAL, "HMAC"),
                               "apache:eab-hmac-fail", "the external account binding for key id "
                               "'%s' cannot be signed", mac.kid);
    *pjws = flattened(head, body, sum, sum_len, p);
    return APR_SUCCESS;
}
