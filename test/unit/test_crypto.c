/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, certificates, requests and signatures, checked by OpenSSL itself and by published values. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <apr_strings.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "../../md_csr.h"
#include "../../md_jws.h"
#include "../../md_limits.h"
#include "../../md_text.h"

static apr_pool_t *p;
static md_err_t err;
static const md_key_spec_t RSA2048 = { .type = MD_KEY_DEFAULT };
static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };

static md_key_t *make_key(const md_key_spec_t *spec)
{
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, spec, &err, p), APR_SUCCESS);
    return key;
}

static apr_array_header_t *names_of(const char *line)
{
    apr_array_header_t *names = md_strings_make(p);
    char *copy = apr_pstrdup(p, line), *last, *word;

    for (word = apr_strtok(copy, " ", &last); word; word = apr_strtok(NULL, " ", &last))
        APR_ARRAY_PUSH(names, const char *) = word;
    return names;
}

static void curves_by_all_their_names(void **state)
{
    static const struct { const char *name, *alg; } ROWS[] = {
        { "P-256", "ES256" }, { "p-256", "ES256" }, { "SECP256R1", "ES256" },
        { "prime256v1", "ES256" }, { "P-384", "ES384" }, { "secp384r1", "ES384" },
        { "secp521r1", NULL }, { "X25519", NULL }, { "brainpoolP256r1", NULL },
    };
    md_key_spec_t spec = { .type = MD_KEY_EC };
    const char *alg;
    md_key_t *key;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        spec.curve = ROWS[i].name;
        alg = md_key_jws_alg(make_key(&spec));
        assert_true(ROWS[i].alg ? alg && !strcmp(alg, ROWS[i].alg) : !alg);
    }
    spec.curve = "no-such-curve";
    assert_int_equal(md_key_generate(&key, &spec, &err, p), APR_ENOTIMPL);
    assert_non_null(strstr(err.detail, "no-such-curve"));
    assert_string_equal(md_key_spec_file(&P256, "privkey", p), "privkey.p-256.pem");
    assert_string_equal(md_key_spec_file(&RSA2048, "pubcert", p), "pubcert.pem");
}

static void keys_at_rest(void **state)
{
    unsigned char pass[48], other[48];
    md_key_t *key = make_key(&P256), *read;
    const char *pem;
    apr_size_t len;

    (void)state;
    md_random_bytes(pass, sizeof(pass));
    pass[3] = 0; /* a passphrase of octets, not of text */
    md_random_bytes(other, sizeof(other));
    assert_int_equal(md_key_to_pem(&pem, &len, key, pass, 48, &err, p), APR_SUCCESS);
    assert_memory_equal(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----", 37);
    assert_int_equal(md_key_from_pem(&read, pem, len, pass, 48, &err, p), APR_SUCCESS);
    assert_int_equal(EVP_PKEY_eq(md_key_evp(key), md_key_evp(read)), 1);
    assert_int_equal(md_key_from_pem(&read, pem, len, other, 48, &err, p), APR_EINVAL);
    assert_int_equal(md_key_from_pem(&read, pem, len, NULL, 0, &err, p), APR_EINVAL);
    assert_int_equal(md_key_from_pem(&read, "garbage", 7, pass, 48, &err, p), APR_EINVAL);
    assert_int_equal(md_key_to_pem(&pem, &len, key, NULL, 0, &err, p), APR_SUCCESS);
    assert_memory_equal(pem, "-----BEGIN PRIVATE KEY-----", 27);
    assert_int_equal(md_key_from_pem(&read, pem, len, pass, 48, &err, p), APR_SUCCESS);
}

/* For pem_password_cb. */
static int give_pass(char *buf, int size, int rwflag, void *pass)
{
    (void)rwflag;
    assert_true(size >= 48);
    memcpy(buf, pass, 48);
    return 48;
}

/* Other software that knows the passphrase opens our keys, and we open what it sealed: with the
 * 2048 rounds of key derivation that are usual. */
static void keys_sealed_by_others_and_for_them(void **state)
{
    static const md_key_spec_t *const SPECS[] = { &P256, &RSA2048 };
    unsigned char pass[48];
    EVP_PKEY *opened;
    const char *pem;
    apr_size_t len;
    md_key_t *key, *read;
    char *data;
    size_t i;
    BIO *bio;

    (void)state;
    md_random_bytes(pass, sizeof(pass));
    for (i = 0; i < sizeof(SPECS) / sizeof(SPECS[0]); ++i) {
        key = make_key(SPECS[i]);
        assert_int_equal(md_key_to_pem(&pem, &len, key, pass, 48, &err, p), APR_SUCCESS);
        bio = BIO_new_mem_buf(pem, (int)len);
        opened = PEM_read_bio_PrivateKey(bio, NULL, give_pass, pass);
        assert_non_null(opened);
        assert_int_equal(EVP_PKEY_eq(md_key_evp(key), opened), 1);
        EVP_PKEY_free(opened);
        BIO_free(bio);
        bio = BIO_new(BIO_s_mem());
        assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, md_key_evp(key), EVP_aes_256_cbc(),
                                                       NULL, 0, give_pass, pass), 1);
        len = (apr_size_t)BIO_get_mem_data(bio, &data);
        assert_int_equal(md_key_from_pem(&read, data, len, pass, 48, &err, p), APR_SUCCESS);
        assert_int_equal(EVP_PKEY_eq(md_key_evp(key), md_key_evp(read)), 1);
        BIO_free(bio);
    }
}

static long rounds_of(const char *pem, apr_size_t len)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509_SIG *sealed = PEM_read_bio_PKCS8(bio, NULL, NULL, NULL);
    const X509_ALGOR *algorithm;
    PBKDF2PARAM *kdf;
    PBE2PARAM *scheme;
    long rounds;

    assert_non_null(sealed);
    X509_SIG_get0(sealed, &algorithm, NULL);
    assert_int_equal(OBJ_obj2nid(algorithm->algorithm), NID_pbes2);
    scheme = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), algorithm->parameter);
    assert_int_equal(OBJ_obj2nid(scheme->encryption->algorithm), NID_aes_256_cbc);
    assert_int_equal(OBJ_obj2nid(scheme->keyfunc->algorithm), NID_id_pbkdf2);
    kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM), scheme->keyfunc->parameter);
    assert_int_equal(OBJ_obj2nid(kdf->prf->algorithm), NID_hmacWithSHA256);
    assert_true(kdf->salt->value.octet_string->length >= 8);
    rounds = ASN1_INTEGER_get(kdf->iter);
    PBKDF2PARAM_free(kdf);
    PBE2PARAM_free(scheme);
    X509_SIG_free(sealed);
    BIO_free(bio);
    return rounds;
}

/* A start opens thousands of keys while nobody is served. */
static void keys_that_open_at_once(void **state)
{
    unsigned char pass[48];
    const char *pem, *other;
    apr_size_t len;
    md_key_t *key = make_key(&P256);

    (void)state;
    md_random_bytes(pass, sizeof(pass));
    assert_int_equal(md_key_to_pem(&pem, &len, key, pass, 48, &err, p), APR_SUCCESS);
    assert_int_equal(rounds_of(pem, len), 1);
    assert_int_equal(md_key_to_pem(&other, &len, key, pass, 48, &err, p), APR_SUCCESS);
    assert_string_not_equal(pem, other); /* another salt */
}

/* Something that is said to be a private key, encrypted in this way. */
static const char *sealed_by(X509_ALGOR *how)
{
    X509_SIG *sealed = X509_SIG_new();
    BIO *bio = BIO_new(BIO_s_mem());
    ASN1_OCTET_STRING *octets;
    X509_ALGOR *algorithm;
    const char *pem;
    char *data;
    long len;

    assert_non_null(how);
    X509_SIG_getm(sealed, &algorithm, &octets);
    assert_int_equal(X509_ALGOR_copy(algorithm, how), 1);
    assert_int_equal(ASN1_OCTET_STRING_set(octets, (const unsigned char *)"0123456789abcdef", 16), 1);
    assert_int_equal(PEM_write_bio_PKCS8(bio, sealed), 1);
    len = BIO_get_mem_data(bio, &data);
    pem = apr_pstrmemdup(p, data, (apr_size_t)len);
    X509_ALGOR_free(how);
    X509_SIG_free(sealed);
    BIO_free(bio);
    return pem;
}

/* They are refused by their parameters: nobody waits for what those ask for. */
static void keys_that_take_long_to_open(void **state)
{
    static const struct { int rounds; apr_status_t rv; } ROWS[] = { /* EINVAL: it was tried */
        { 2048, APR_EINVAL }, { MD_MAX_KEY_ROUNDS, APR_EINVAL },
        { MD_MAX_KEY_ROUNDS + 1, APR_ENOTIMPL }, { 20000000, APR_ENOTIMPL },
        { INT_MAX, APR_ENOTIMPL },
    };
    unsigned char pass[48] = "x", salt[8] = "salt";
    apr_time_t begun = apr_time_now();
    const char *pem;
    md_key_t *key;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        pem = sealed_by(PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), ROWS[i].rounds, salt, 8, NULL, -1));
        assert_int_equal(md_key_from_pem(&key, pem, strlen(pem), pass, 48, &err, p), ROWS[i].rv);
    }
    pem = sealed_by(PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), salt, 8, NULL, 1024, 8, 1));
    assert_int_equal(md_key_from_pem(&key, pem, strlen(pem), pass, 48, &err, p), APR_ENOTIMPL);
    pem = sealed_by(PKCS5_pbe_set(NID_pbe_WithSHA1And3_Key_TripleDES_CBC, 20000000, salt, 8));
    assert_int_equal(md_key_from_pem(&key, pem, strlen(pem), pass, 48, &err, p), APR_ENOTIMPL);
    assert_non_null(strstr(err.detail, "iterations"));
    assert_true(apr_time_now() - begun < apr_time_from_sec(1));
}

/* RSAPrivateKey (RFC 8017 A.1.2) as PEM, of numbers with so many bytes: version, modulus, public and
 * private exponent, the primes, their exponents, the coefficient. */
static const char *rsa_of(const int sizes[9])
{
    unsigned char der[40000] = { 0x30, 0x82 }, *to = der + 4;
    BIO *bio = BIO_new(BIO_s_mem());
    const char *pem;
    char *data;
    long len;
    int i;

    for (i = 0; i < 9; ++i) {
        *to++ = 0x02;
        *to++ = 0x82;
        *to++ = (unsigned char)(sizes[i] >> 8);
        *to++ = (unsigned char)sizes[i];
        memset(to, i == 0 ? 0 : 0x55, (size_t)sizes[i]);
        to += sizes[i];
    }
    der[2] = (unsigned char)((to - der - 4) >> 8);
    der[3] = (unsigned char)(to - der - 4);
    assert_true(PEM_write_bio(bio, "RSA PRIVATE KEY", "", der, to - der) > 0);
    len = BIO_get_mem_data(bio, &data);
    pem = apr_pstrmemdup(p, data, (apr_size_t)len);
    BIO_free(bio);
    return pem;
}

/* Nor for what is done with a key. */
static void keys_that_take_long_to_work_with(void **state)
{
    static const struct { int sizes[9]; apr_status_t rv; } ROWS[] = {
        { { 1, 256, 3, 256, 128, 128, 128, 128, 128 }, APR_SUCCESS },
        { { 1, 2048, 3, 2048, 1024, 1024, 1024, 1024, 1024 }, APR_SUCCESS },
        { { 1, 2049, 3, 2049, 1025, 1025, 1025, 1025, 1025 }, APR_ENOTIMPL },
        { { 1, 30000, 3, 256, 128, 128, 128, 128, 128 }, APR_ENOTIMPL },
        { { 1, 256, 257, 256, 128, 128, 128, 128, 128 }, APR_ENOTIMPL },
        { { 1, 256, 3, 30000, 128, 128, 128, 128, 128 }, APR_ENOTIMPL },
        { { 1, 256, 3, 256, 257, 128, 128, 128, 128 }, APR_ENOTIMPL },
        { { 1, 256, 3, 256, 128, 257, 128, 128, 128 }, APR_ENOTIMPL },
        { { 1, 256, 3, 256, 128, 128, 257, 128, 128 }, APR_ENOTIMPL },
        { { 1, 256, 3, 256, 128, 128, 128, 257, 128 }, APR_ENOTIMPL },
        { { 1, 256, 3, 256, 128, 128, 128, 128, 257 }, APR_ENOTIMPL },
    };
    const char *pem;
    md_key_t *key;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        pem = rsa_of(ROWS[i].sizes);
        if (md_key_from_pem(&key, pem, strlen(pem), NULL, 0, &err, p) != ROWS[i].rv)
            fail_msg("row %d", (int)i);
        assert_int_equal(key != NULL, ROWS[i].rv == APR_SUCCESS);
    }
}

/* Of all that OpenSSL has, only what can sign. */
static void keys_that_cannot_sign(void **state)
{
    EVP_PKEY *x25519 = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    BIO *bio = BIO_new(BIO_s_mem());
    md_key_t *key;
    char *data;
    long len;

    (void)state;
    assert_int_equal(PEM_write_bio_PrivateKey(bio, x25519, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(bio, &data);
    assert_int_equal(md_key_from_pem(&key, data, (apr_size_t)len, NULL, 0, &err, p), APR_EINVAL);
    BIO_free(bio);
    EVP_PKEY_free(x25519);
}

/* RFC 7638 3.1. */
static void thumbprint_of_the_rfc(void **state)
{
    static const char N[] =
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZC"
        "iFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnY"
        "b9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0"
        "Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    md_json_t *jwk = md_json_object(p), *own;
    unsigned char digest[32];
    const char *text;

    (void)state;
    md_json_set_str(jwk, "e", "AQAB");
    md_json_set_str(jwk, "kty", "RSA");
    md_json_set_str(jwk, "n", N);
    text = md_json_text(jwk, 1, p);
    md_sha256(digest, text, strlen(text));
    assert_string_equal(md_base64url_encode(digest, 32, p),
                        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    own = md_jwk_make(make_key(&RSA2048), p); /* the same members in the same order */
    assert_string_equal(apr_array_pstrcat(p, md_json_keys(own, p), ' '), "e kty n");
    own = md_jwk_make(make_key(&P256), p);
    assert_string_equal(apr_array_pstrcat(p, md_json_keys(own, p), ' '), "crv kty x y");
    assert_int_equal(strlen(md_json_get_str(own, "x")), 43);
}

static void signatures_verify(void **state)
{
    const md_key_spec_t *specs[] = { &RSA2048, &P256 };
    const char *jws = NULL, *head, *input;
    unsigned char *sig;
    md_json_t *json, *protected;
    apr_size_t len;
    md_key_t *key;
    int i, turns;

    (void)state;
    for (i = 0; i < 2; ++i) {
        key = make_key(specs[i]);
        for (turns = 0; turns < 50; ++turns) { /* r and s are sometimes short */
            protected = md_json_object(p);
            md_json_set_str(protected, "url", "https://x/");
            assert_int_equal(md_jws_sign(&jws, protected, "{}", key, &err, p), APR_SUCCESS);
            assert_int_equal(md_json_parse(&json, jws, strlen(jws), &err, p), APR_SUCCESS);
            head = md_json_get_str(json, "protected");
            input = apr_pstrcat(p, head, ".", md_json_get_str(json, "payload"), NULL);
            len = md_base64url_decode(&sig, md_json_get_str(json, "signature"), p);
            assert_int_equal(len, i ? 64 : 256);
            if (i == 0) {
                EVP_MD_CTX *ctx = EVP_MD_CTX_new();

                assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL,
                                                      md_key_evp(key)), 1);
                assert_int_equal(EVP_DigestVerify(ctx, sig, len, (const unsigned char *)input,
                                                  strlen(input)), 1);
                EVP_MD_CTX_free(ctx);
                break;
            }
        }
    }
}

static void requests(void **state)
{
    const char *csr, *longest = "a-very-long-name-that-does-not-fit-into-a-common-name-0123456789.org";
    md_key_t *key = make_key(&P256);
    const unsigned char *der;
    unsigned char *data;
    X509_NAME *subject;
    apr_size_t len;
    X509_REQ *req;
    char cn[100];

    (void)state;
    assert_int_equal(md_csr_make(&csr, md_identifiers_of(names_of("a.org *.a.org"), p), 1, key,
                                 &err, p), APR_SUCCESS);
    len = md_base64url_decode(&data, csr, p);
    der = data;
    req = d2i_X509_REQ(NULL, &der, (long)len);
    assert_non_null(req);
    assert_int_equal(X509_REQ_verify(req, md_key_evp(key)), 1);
    X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(req), NID_commonName, cn, sizeof(cn));
    assert_string_equal(cn, "a.org");
    X509_REQ_free(req);
    assert_int_equal(md_csr_make(&csr, md_identifiers_of(names_of(longest), p), 0, key, &err, p),
                     APR_SUCCESS);
    len = md_base64url_decode(&data, csr, p);
    der = data;
    req = d2i_X509_REQ(NULL, &der, (long)len);
    subject = X509_REQ_get_subject_name(req);
    assert_int_equal(X509_NAME_entry_count(subject), 0);
    X509_REQ_free(req);
}

static void own_certificates(void **state)
{
    apr_array_header_t *names = names_of("a.org *.b.org"), *chain, *twice;
    unsigned char digest[32] = { 1, 2, 3 };
    md_key_t *key = make_key(&P256), *other = make_key(&P256), *rsa = make_key(&RSA2048);
    md_cert_t *cert, *alpn, *rsa_cert;
    const md_cert_info_t *info;
    md_identifier_t a_org = md_identifier_of("a.org", p);
    const char *pem;
    apr_size_t len;

    (void)state;
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    assert_true(md_cert_fits_key(cert, key));
    assert_false(md_cert_fits_key(cert, other));
    info = md_cert_info(cert, p);
    assert_null(md_cert_uncovered(info, names_of("A.org x.b.org"), p));
    assert_string_equal(md_cert_uncovered(info, names_of("b.org"), p), "b.org");
    assert_string_equal(md_cert_uncovered(info, names_of("a.org y.b.org c.org"), p), "c.org");
    assert_null(md_cert_uncovered(info, names, p));
    assert_int_equal(strlen(info->serial), 40);
    assert_int_equal(strlen(info->fingerprint), 64);
    assert_null(info->issuer_uri);
    assert_null(info->ari_id);
    assert_false(info->must_staple);
    assert_int_equal(md_cert_make_alpn(&alpn, &a_org, digest, key, &err, p), APR_SUCCESS);
    assert_int_equal(X509_get_ext_count(md_cert_x509(alpn)), 3);

    /* a private key's file tells without being decoded whether it fits */
    assert_int_equal(md_key_to_pem(&pem, &len, key, NULL, 0, &err, p), APR_SUCCESS);
    assert_true(md_cert_fits_pem(cert, pem, len));
    assert_false(md_cert_fits_pem(cert, pem, len / 2));
    assert_int_equal(md_key_to_pem(&pem, &len, other, NULL, 0, &err, p), APR_SUCCESS);
    assert_false(md_cert_fits_pem(cert, pem, len));
    assert_int_equal(md_cert_make_fallback(&rsa_cert, names, rsa, &err, p), APR_SUCCESS);
    assert_false(md_cert_fits_pem(rsa_cert, pem, len));
    assert_int_equal(md_key_to_pem(&pem, &len, rsa, NULL, 0, &err, p), APR_SUCCESS);
    assert_true(md_cert_fits_pem(rsa_cert, pem, len));
    assert_false(md_cert_fits_pem(cert, pem, len));

    chain = apr_array_make(p, 2, sizeof(md_cert_t *));
    APR_ARRAY_PUSH(chain, md_cert_t *) = cert;
    assert_int_equal(md_chain_check(chain, key, names, apr_time_now(), &err, p), APR_SUCCESS);
    assert_int_equal(md_chain_check(chain, other, names, apr_time_now(), &err, p), APR_EINVAL);
    assert_int_equal(md_chain_check(chain, key, names_of("z.org"), apr_time_now(), &err, p),
                     APR_EINVAL);
    assert_int_equal(md_chain_check(chain, key, names, apr_time_now() + apr_time_from_sec(15 * 86400),
                                    &err, p), APR_EINVAL);
    assert_int_equal(md_chain_check(chain, key, names, apr_time_now() - apr_time_from_sec(3600),
                                    &err, p), APR_SUCCESS); /* the clock of the CA is ahead */
    assert_int_equal(md_chain_check(chain, key, names, apr_time_now() - apr_time_from_sec(86400),
                                    &err, p), APR_EINVAL);
    APR_ARRAY_PUSH(chain, md_cert_t *) = rsa_cert; /* did not sign the first */
    assert_int_equal(md_chain_check(chain, key, names, apr_time_now(), &err, p), APR_EINVAL);
    pem = md_chain_to_pem(chain, p);
    assert_int_equal(md_chain_from_pem(&twice, pem, strlen(pem), &err, p), APR_SUCCESS);
    assert_int_equal(twice->nelts, 2);
    assert_string_equal(md_chain_to_pem(apr_array_make(p, 1, sizeof(md_cert_t *)), p), "");
}

static void addresses(void **state)
{
    X509 *x509 = X509_new();
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
                                              "IP:192.0.2.1,IP:2001:DB8:0:0::1,DNS:a.org");
    const md_cert_info_t *info;

    (void)state;
    assert_int_equal(X509_add_ext(x509, ext, -1), 1);
    X509_EXTENSION_free(ext);
    info = md_cert_info(md_cert_wrap(x509, p), p);
    assert_int_equal(info->names->nelts, 3);
    assert_null(md_cert_uncovered(info, names_of("192.0.2.1 2001:db8::1 2001:0db8::0:1 a.org"), p));
    assert_string_equal(md_cert_uncovered(info, names_of("192.0.2.2"), p), "192.0.2.2");
    assert_string_equal(md_cert_uncovered(info, names_of("2001:db8::2"), p), "2001:db8::2");
}

/* Two leafs, the first of them behind both: it is decoded once. */
static void chains_that_end_alike(void **state)
{
    static const char NO_DER[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    apr_hash_t *known = apr_hash_make(p);
    apr_array_header_t *chain[2], *one = apr_array_make(p, 1, sizeof(md_cert_t *)), *damaged;
    const char *pem[2], *text;
    md_cert_t *cert;
    apr_pool_t *sub;
    int i;

    (void)state;
    for (i = 0; i < 2; ++i) {
        assert_int_equal(md_cert_make_fallback(&cert, names_of("a.org"), make_key(&P256), &err, p),
                         APR_SUCCESS);
        apr_array_clear(one);
        APR_ARRAY_PUSH(one, md_cert_t *) = cert;
        pem[i] = md_chain_to_pem(one, p);
    }
    for (i = 0; i < 2; ++i) {
        apr_pool_create(&sub, p);
        text = apr_pstrcat(sub, pem[i], pem[0], NULL);
        assert_int_equal(md_chain_from_pem_shared(&chain[i], text, strlen(text), known, &err, sub),
                         APR_SUCCESS);
        assert_int_equal(chain[i]->nelts, 2);
        assert_int_equal(apr_hash_count(known), 1);
        apr_pool_destroy(sub); /* what is known stays */
    }
    text = apr_pstrcat(p, pem[1], pem[0], NO_DER, NULL);
    assert_int_equal(md_chain_from_pem_shared(&damaged, text, strlen(text), known, &err, p),
                     APR_EINVAL);
    assert_int_equal(apr_hash_count(known), 1);
}

static void chains_that_are_none(void **state)
{
    char *big = apr_pcalloc(p, 5000);
    apr_array_header_t *chain;
    static const char CUT[] = "-----BEGIN CERTIFICATE-----\nAAAA\n";

    (void)state;
    assert_int_equal(md_chain_from_pem(&chain, "", 0, &err, p), APR_SUCCESS);
    assert_int_equal(chain->nelts, 0);
    assert_int_equal(md_chain_from_pem(&chain, "garbage", 7, &err, p), APR_SUCCESS);
    memset(big, 'x', 4999);
    assert_int_equal(md_chain_from_pem(&chain, big, 4999, &err, p), APR_EINVAL);
    assert_int_equal(md_chain_from_pem(&chain, CUT, strlen(CUT), &err, p), APR_EINVAL);
}

static apr_status_t bind_to(md_json_t **pjws, const char *kid, const char *hmac, const char *alg,
                         const md_key_t *key)
{
    md_mac_t mac = { kid, hmac, alg };

    return md_jws_bind(pjws, mac, "https://x/new", key, &err, p);
}

/* RFC 7518 3.2, each by its own digest. */
static void algorithms_of_bindings(void **state)
{
    static const struct { const char *alg, *name; unsigned int len; } ALGS[] = {
        { "HS256", "HS256", 32 }, { "hs384", "HS384", 48 }, { "HS512", "HS512", 64 }
    };
    const EVP_MD *digests[] = { EVP_sha256(), EVP_sha384(), EVP_sha512() };
    unsigned char *mac, expected[EVP_MAX_MD_SIZE];
    md_key_t *key = make_key(&P256);
    md_json_t *jws, *protected;
    const char *input;
    unsigned int len;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ALGS) / sizeof(ALGS[0]); ++i) {
        assert_string_equal(md_jws_mac_alg(ALGS[i].alg), ALGS[i].name);
        assert_int_equal(bind_to(&jws, "kid-1", "c2VjcmV0", ALGS[i].alg, key), APR_SUCCESS);
        len = (unsigned int)md_base64url_decode(&mac, md_json_get_str(jws, "protected"), p);
        assert_int_equal(md_json_parse(&protected, (char *)mac, len, &err, p), APR_SUCCESS);
        assert_string_equal(md_json_get_str(protected, "alg"), ALGS[i].name);
        input = apr_pstrcat(p, md_json_get_str(jws, "protected"), ".",
                            md_json_get_str(jws, "payload"), NULL);
        assert_non_null(HMAC(digests[i], "secret", 6, (const unsigned char *)input, strlen(input),
                             expected, &len));
        assert_int_equal(len, ALGS[i].len);
        assert_int_equal(md_base64url_decode(&mac, md_json_get_str(jws, "signature"), p), len);
        assert_memory_equal(mac, expected, len);
    }
    assert_null(md_jws_mac_alg("RS256"));
    assert_int_equal(bind_to(&jws, "kid-1", "c2VjcmV0", "none", key), APR_EINVAL);
    assert_string_equal(err.type, "apache:eab-hmac-invalid");
}

static void bindings_of_external_accounts(void **state)
{
    static const char MAC_KEY[] = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0i"
                                  "PS4hcgUuTwjAzZr1Z9CAow=="; /* RFC 7515 A.1.1 */
    unsigned char *secret, *mac, expected[32];
    md_json_t *jws, *twin, *protected;
    const char *head, *input;
    md_key_t *key;
    apr_size_t len;

    (void)state;
    key = make_key(&P256);
    assert_int_equal(bind_to(&jws, "kid-1", MAC_KEY, NULL, key), APR_SUCCESS);
    head = md_json_get_str(jws, "protected");
    len = md_base64url_decode(&mac, head, p);
    assert_int_equal(md_json_parse(&protected, (char *)mac, len, &err, p), APR_SUCCESS);
    assert_string_equal(md_json_get_str(protected, "alg"), "HS256");
    assert_string_equal(md_json_get_str(protected, "kid"), "kid-1");
    assert_string_equal(md_json_get_str(protected, "url"), "https://x/new");
    input = md_json_get_str(jws, "payload");
    (void)md_base64url_decode(&mac, input, p);
    assert_string_equal((char *)mac, md_json_text(md_jwk_make(key, p), 1, p));
    input = apr_pstrcat(p, head, ".", input, NULL);
    len = md_base64url_decode(&secret, MAC_KEY, p);
    assert_non_null(HMAC(EVP_sha256(), secret, (int)len, (const unsigned char *)input,
                         strlen(input), expected, NULL));
    assert_int_equal(md_base64url_decode(&mac, md_json_get_str(jws, "signature"), p), 32);
    assert_memory_equal(mac, expected, 32);
    assert_int_equal(bind_to(&jws, "kid-1", " +/+/\n+/8= \n", NULL, key), APR_SUCCESS);
    input = md_json_get_str(jws, "signature");
    assert_int_equal(bind_to(&twin, "kid-1", "-_-_-_8", NULL, key), APR_SUCCESS);
    assert_string_equal(md_json_get_str(twin, "signature"), input);
    assert_int_equal(bind_to(&jws, "kid-1", "no base64url", NULL, key), APR_EINVAL);
    assert_string_equal(err.type, "apache:eab-hmac-invalid");
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(curves_by_all_their_names), TEST(keys_at_rest),
        TEST(keys_sealed_by_others_and_for_them), TEST(keys_that_open_at_once),
        TEST(keys_that_take_long_to_open), TEST(keys_that_take_long_to_work_with),
        TEST(keys_that_cannot_sign), TEST(thumbprint_of_the_rfc), TEST(signatures_verify),
        TEST(bindings_of_external_accounts),
        TEST(algorithms_of_bindings), TEST(requests), TEST(own_certificates),
        TEST(addresses), TEST(chains_that_end_alike), TEST(chains_that_are_none),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
