/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys by OpenSSL's EVP interface. */
#include "md_key.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <apr_strings.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_text.h"

#define RSA_DEFAULT_BITS 2048
#define RSA_MAX_BITS     OPENSSL_RSA_MAX_MODULUS_BITS

struct md_key_t {
    EVP_PKEY *pkey;
};

/* ---- odds and ends of OpenSSL ---- */

apr_status_t md_openssl_fail(md_err_t *err, apr_status_t rv, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    md_fail(err, rv, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return rv;
}

void md_random_bytes(unsigned char *buf, apr_size_t len)
{
    /* There is no sane way on without random numbers. */
    if (RAND_bytes(buf, (int)len) != 1)
        abort();
}

void md_sha256(unsigned char digest[32], const void *data, apr_size_t len)
{
    if (!EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL))
        abort();
}

void md_wipe(void *data, apr_size_t len)
{
    if (data)
        OPENSSL_cleanse(data, len);
}

/* ---- key specs ---- */

static const char *parse_bits(md_key_spec_t *spec, const char *text, apr_pool_t *p)
{
    char *end;
    long bits;

    errno = 0;
    bits = strtol(text, &end, 10);
    if (*end || errno || bits > RSA_MAX_BITS)
        return apr_psprintf(p, "'%s' is not a key size", text);
    if (bits < RSA_DEFAULT_BITS)
        return apr_psprintf(p, "RSA key size '%s' must be 2048 or higher", text);
    spec->bits = (int)bits;
    return NULL;
}

/* One spec from the words at *pi, which is moved on. */
static const char *parse_spec(md_key_spec_t *spec, int *pi, int argc, const char *const *argv,
                              apr_pool_t *p)
{
    const char *word = argv[(*pi)++];

    memset(spec, 0, sizeof(*spec));
    if (!strcasecmp(word, "default"))
        return argc == 1 ? NULL : "'Default' allows no other parameter";
    if (isdigit((unsigned char)*word) && strspn(word, "0123456789") == strlen(word))
        return apr_psprintf(p, "'%s' is not a private key type", word);
    if (strncasecmp(word, "rsa", 3)) {
        spec->type = MD_KEY_EC;
        spec->curve = apr_pstrdup(p, word);
        return NULL;
    }
    spec->type = MD_KEY_RSA;
    spec->bits = RSA_DEFAULT_BITS;
    if (word[3])
        return parse_bits(spec, word + 3, p);
    if (*pi < argc && isdigit((unsigned char)*argv[*pi]))
        return parse_bits(spec, argv[(*pi)++], p);
    return NULL;
}

static int specs_collide(const md_key_spec_t *a, const md_key_spec_t *b)
{
    if (a->type != b->type)
        return 0;
    return a->type != MD_KEY_EC || !strcasecmp(a->curve, b->curve);
}

const char *md_key_specs_parse(apr_array_header_t **pspecs, int argc, const char *const *argv,
                               apr_pool_t *p)
{
    apr_array_header_t *specs = apr_array_make(p, argc + 1, sizeof(md_key_spec_t));
    const char *wrong;
    md_key_spec_t spec;
    int i = 0, k;

    if (argc == 0)
        return "needs to specify the private key type";
    while (i < argc) {
        wrong = parse_spec(&spec, &i, argc, argv, p);
        if (wrong)
            return wrong;
        for (k = 0; k < specs->nelts; ++k)
            if (specs_collide(&APR_ARRAY_IDX(specs, k, md_key_spec_t), &spec))
                return apr_psprintf(p, "two keys of type '%s' are not possible",
                                    spec.type == MD_KEY_EC ? spec.curve : "RSA");
        APR_ARRAY_PUSH(specs, md_key_spec_t) = spec;
    }
    *pspecs = specs;
    return NULL;
}

static md_key_spec_t spec_from_json(const md_json_t *json, apr_pool_t *p)
{
    md_key_spec_t spec = { MD_KEY_DEFAULT, 0, NULL };
    const char *type = md_json_get_str(json, "type"), *curve = md_json_get_str(json, "curve");

    if (type && !strcasecmp(type, "RSA")) {
        spec.type = MD_KEY_RSA;
        spec.bits = (int)md_json_get_int(json, "bits", RSA_DEFAULT_BITS);
        if (spec.bits < RSA_DEFAULT_BITS || spec.bits > RSA_MAX_BITS)
            spec.bits = RSA_DEFAULT_BITS;
    }
    else if (type && !strcasecmp(type, "EC") && curve) {
        spec.type = MD_KEY_EC;
        spec.curve = apr_pstrdup(p, curve);
    }
    return spec;
}

apr_array_header_t *md_key_specs_from_json(const md_json_t *json, apr_pool_t *p)
{
    apr_array_header_t *specs = apr_array_make(p, 2, sizeof(md_key_spec_t));
    apr_size_t i;

    if (md_json_is_object(json))
        APR_ARRAY_PUSH(specs, md_key_spec_t) = spec_from_json(json, p);
    for (i = 0; md_json_is_array(json) && i < md_json_size(json) && i < 20; ++i)
        APR_ARRAY_PUSH(specs, md_key_spec_t) = spec_from_json(md_json_at(json, i, p), p);
    return specs;
}

static md_json_t *spec_to_json(const md_key_spec_t *spec, apr_pool_t *p)
{
    static const char *const TYPES[] = {
        [MD_KEY_DEFAULT] = "Default", [MD_KEY_RSA] = "RSA", [MD_KEY_EC] = "EC"
    };
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "type", TYPES[spec->type]);
    if (spec->type == MD_KEY_RSA)
        md_json_set_int(json, "bits", spec->bits);
    md_json_set_str(json, "curve", spec->curve);
    return json;
}

md_json_t *md_key_specs_to_json(const apr_array_header_t *specs, apr_pool_t *p)
{
    md_json_t *list;
    int i;

    if (!specs || specs->nelts == 0)
        return NULL;
    if (specs->nelts == 1)
        return spec_to_json(&APR_ARRAY_IDX(specs, 0, md_key_spec_t), p);
    list = md_json_array(p);
    for (i = 0; i < specs->nelts; ++i)
        md_json_append(list, spec_to_json(&APR_ARRAY_IDX(specs, i, md_key_spec_t), p));
    return list;
}

const char *md_key_spec_name(const md_key_spec_t *spec)
{
    return spec->type == MD_KEY_EC ? spec->curve : "rsa";
}

const char *md_key_spec_file(const md_key_spec_t *spec, const char *base, apr_pool_t *p)
{
    char *file, *c;

    if (spec->type != MD_KEY_EC)
        return apr_pstrcat(p, base, ".pem", NULL);
    file = apr_pstrcat(p, base, ".", spec->curve, ".pem", NULL);
    for (c = file; *c; ++c)
        *c = (char)tolower((unsigned char)*c);
    return file;
}

/* ---- life of a key ---- */

static apr_status_t key_cleanup(void *data)
{
    md_key_t *key = data;

    EVP_PKEY_free(key->pkey);
    return APR_SUCCESS;
}

/* Takes ownership of `pkey`. */
static md_key_t *wrap(EVP_PKEY *pkey, apr_pool_t *p)
{
    md_key_t *key = apr_palloc(p, sizeof(*key));

    key->pkey = pkey;
    apr_pool_cleanup_register(p, key, key_cleanup, apr_pool_cleanup_null);
    return key;
}

md_key_t *md_key_share(const md_key_t *key, apr_pool_t *p)
{
    EVP_PKEY_up_ref(key->pkey);
    return wrap(key->pkey, p);
}

EVP_PKEY *md_key_evp(const md_key_t *key)
{
    return key->pkey;
}

/* OpenSSL's name of a curve: NIST names and SECG names in any case, else the name as it is. */
static const char *curve_name(const char *name)
{
    static const struct { const char *alias, *name; } ALIASES[] = {
        { "P-192", "prime192v1" }, { "P-224", "secp224r1" }, { "P-256", "prime256v1" },
        { "P-384", "secp384r1" }, { "P-521", "secp521r1" }, { "secp192r1", "prime192v1" },
        { "secp224r1", "secp224r1" }, { "secp256r1", "prime256v1" }, { "secp384r1", "secp384r1" },
        { "secp521r1", "secp521r1" }, { "prime256v1", "prime256v1" },
    };
    size_t i;

    for (i = 0; i < sizeof(ALIASES) / sizeof(ALIASES[0]); ++i)
        if (!strcasecmp(ALIASES[i].alias, name))
            return ALIASES[i].name;
    return name;
}

static int is_word_of(const char *name, const char *const *words)
{
    for (; *words; ++words)
        if (!strcasecmp(*words, name))
            return 1;
    return 0;
}

static int is_curve(int nid)
{
    EC_GROUP *group = nid == NID_undef ? NULL : EC_GROUP_new_by_curve_name(nid);

    EC_GROUP_free(group);
    ERR_clear_error();
    return group != NULL;
}

const char *md_key_spec_problem(const md_key_spec_t *spec, apr_pool_t *p)
{
    static const char *const AGREEMENT[] = { "X25519", "X448", NULL };
    static const char *const SIGNING[] = { "ED25519", "ED448", NULL };

    if (spec->type != MD_KEY_EC || is_word_of(spec->curve, SIGNING))
        return NULL;
    if (is_word_of(spec->curve, AGREEMENT))
        return apr_psprintf(p, "keys of type '%s' cannot sign certificate requests", spec->curve);
    if (!is_curve(OBJ_txt2nid(curve_name(spec->curve))))
        return apr_psprintf(p, "the key type '%s' is not known", spec->curve);
    return NULL;
}

/* ---- generation ---- */

static apr_time_t end_at; /* by the steady clock; 0: not to end; accessed atomically */

/* RSA keys take all of a core while they are made: no more at once than there are cores, and one as
 * one of them may take minutes. Threads that talk to CAs are not starved then. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    int count;
} making = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

void md_key_end(void)
{
    __atomic_store_n(&end_at, md_clock_steady() + MD_MAX_LAST_WORK, __ATOMIC_RELAXED);
    pthread_mutex_lock(&making.mutex);
    pthread_cond_broadcast(&making.freed);
    pthread_mutex_unlock(&making.mutex);
}

static int is_ending(void)
{
    return __atomic_load_n(&end_at, __ATOMIC_RELAXED) != 0;
}

static int goes_on(EVP_PKEY_CTX *ctx)
{
    apr_time_t end = __atomic_load_n(&end_at, __ATOMIC_RELAXED);

    (void)ctx;
    return !end || md_clock_steady() < end;
}

static void await_core(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    pthread_mutex_lock(&making.mutex);
    while (making.count > cores && !is_ending())
        pthread_cond_wait(&making.freed, &making.mutex);
    ++making.count;
    pthread_mutex_unlock(&making.mutex);
}

static void free_core(void)
{
    pthread_mutex_lock(&making.mutex);
    --making.count;
    pthread_cond_signal(&making.freed);
    pthread_mutex_unlock(&making.mutex);
}

static EVP_PKEY *generate_rsa(int bits)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *pkey = NULL;

    if (ctx && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, bits) == 1) {
        EVP_PKEY_CTX_set_cb(ctx, goes_on);
        await_core();
        if (is_ending() || EVP_PKEY_generate(ctx, &pkey) != 1)
            pkey = NULL;
        free_core();
    }
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *generate_ec(const char *curve)
{
    if (!strcasecmp(curve, "X25519") || !strcasecmp(curve, "X448")
        || !strcasecmp(curve, "ED25519") || !strcasecmp(curve, "ED448"))
        return EVP_PKEY_Q_keygen(NULL, NULL, curve);
    return EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve_name(curve));
}

apr_status_t md_key_generate(md_key_t **pkey, const md_key_spec_t *spec, md_err_t *err,
                             apr_pool_t *p)
{
    int bits = spec->type == MD_KEY_RSA ? spec->bits : RSA_DEFAULT_BITS;
    EVP_PKEY *pkey_new;

    *pkey = NULL;
    ERR_clear_error();
    pkey_new = spec->type == MD_KEY_EC ? generate_ec(spec->curve) : generate_rsa(bits);
    if (!pkey_new && is_ending())
        return md_fail(err, APR_EINTR, "stopped while a private key was being made");
    if (!pkey_new)
        return md_openssl_fail(err, APR_ENOTIMPL,
                               apr_psprintf(p, "cannot generate a private key of type '%s'; check "
                                            "MDPrivateKeys", md_key_spec_name(spec)));
    *pkey = wrap(pkey_new, p);
    return APR_SUCCESS;
}

/* ---- PEM ---- */

typedef struct secret_t {
    void *data;
    apr_size_t len;
} secret_t;

static apr_status_t secret_cleanup(void *data)
{
    secret_t *secret = data;

    md_wipe(secret->data, secret->len);
    return APR_SUCCESS;
}

/* A copy in the pool that is wiped when the pool ends. */
static char *secret_copy(const char *data, apr_size_t len, apr_pool_t *p)
{
    secret_t *secret = apr_palloc(p, sizeof(*secret));

    secret->data = apr_pstrmemdup(p, data, len);
    secret->len = len;
    apr_pool_cleanup_register(p, secret, secret_cleanup, apr_pool_cleanup_null);
    return secret->data;
}

typedef struct pass_t {
    const unsigned char *data;
    apr_size_t len;
} pass_t;

/* Also called when there is no passphrase: OpenSSL must not ask on the terminal. */
static int give_pass(char *buf, int size, int rwflag, void *baton)
{
    const pass_t *pass = baton;

    (void)rwflag;
    if (!pass->data || pass->len > (apr_size_t)size)
        return -1;
    memcpy(buf, pass->data, pass->len);
    return (int)pass->len;
}

/* The passphrase is long and random, so there is nothing that rounds of key derivation could
 * protect; the usual 2048 take a hundred times as long as all else. */
#define ROUNDS 1

static int write_sealed(BIO *bio, const EVP_PKEY *pkey, const pass_t *pass)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
    X509_SIG *sealed = NULL;
    int written = 0;

    if (info)
        sealed = PKCS8_encrypt(-1, EVP_aes_256_cbc(), (const char *)pass->data, (int)pass->len,
                               NULL, 0, ROUNDS, info);
    if (sealed)
        written = PEM_write_bio_PKCS8(bio, sealed);
    X509_SIG_free(sealed);
    PKCS8_PRIV_KEY_INFO_free(info);
    return written;
}

static int write_plain(BIO *bio, const EVP_PKEY *pkey)
{
    return PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL);
}

apr_status_t md_key_to_pem(const char **ppem, apr_size_t *plen, const md_key_t *key,
                           const unsigned char *pass, apr_size_t pass_len, md_err_t *err,
                           apr_pool_t *p)
{
    pass_t sealing = { pass, pass_len };
    BIO *bio = BIO_new(BIO_s_secmem());
    apr_status_t rv = APR_SUCCESS;
    char *data;
    long len;

    if (!bio || !(pass ? write_sealed(bio, key->pkey, &sealing) : write_plain(bio, key->pkey))) {
        rv = md_openssl_fail(err, APR_EGENERAL, "cannot write a private key as PEM");
        goto out;
    }
    len = BIO_get_mem_data(bio, &data);
    *ppem = secret_copy(data, (apr_size_t)len, p);
    *plen = (apr_size_t)len;
out:
    BIO_free(bio);
    return rv;
}

int md_key_pem_is_encrypted(const char *pem)
{
    return strstr(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || strstr(pem, "4,ENCRYPTED");
}

/* What the writer of a file may ask of us: PBES2 with PBKDF2 (RFC 8018 6.2), as we do it, with a
 * number of rounds that is done at once. */
static int is_quick(const X509_SIG *sealed)
{
    const X509_ALGOR *algorithm;
    PBE2PARAM *scheme = NULL;
    PBKDF2PARAM *kdf = NULL;
    int64_t rounds = 0;
    int quick = 0;

    X509_SIG_get0(sealed, &algorithm, NULL);
    if (OBJ_obj2nid(algorithm->algorithm) == NID_pbes2)
        scheme = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), algorithm->parameter);
    if (scheme && OBJ_obj2nid(scheme->keyfunc->algorithm) == NID_id_pbkdf2)
        kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM), scheme->keyfunc->parameter);
    if (kdf && ASN1_INTEGER_get_int64(&rounds, kdf->iter))
        quick = rounds > 0 && rounds <= MD_MAX_KEY_ROUNDS;
    PBKDF2PARAM_free(kdf);
    PBE2PARAM_free(scheme);
    return quick;
}

/* EVP_PKCS82PKEY looks for a decoder among those of all key types, which takes three times as
 * long. */
static EVP_PKEY *decode_as(int kind, const PKCS8_PRIV_KEY_INFO *info)
{
    unsigned char *der = NULL;
    const unsigned char *at;
    EVP_PKEY *pkey;
    int len = i2d_PKCS8_PRIV_KEY_INFO(info, &der);

    if (len <= 0)
        return NULL;
    at = der;
    pkey = d2i_PrivateKey(kind, NULL, &at, len);
    OPENSSL_clear_free(der, (size_t)len);
    return pkey;
}

/* Other kinds cannot sign, or take long to decode. */
static EVP_PKEY *decode_pkcs8(PKCS8_PRIV_KEY_INFO *info)
{
    static const int KINDS[] = {
        EVP_PKEY_RSA, EVP_PKEY_RSA_PSS, EVP_PKEY_EC, EVP_PKEY_ED25519, EVP_PKEY_ED448
    };
    const ASN1_OBJECT *kind;
    size_t i;

    if (!info || !PKCS8_pkey_get0(&kind, NULL, NULL, NULL, info))
        return NULL;
    for (i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); ++i)
        if (OBJ_obj2nid(kind) == KINDS[i])
            return decode_as(KINDS[i], info);
    return NULL;
}

static EVP_PKEY *open_plain(const unsigned char *der, long len)
{
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &der, len);
    EVP_PKEY *pkey = decode_pkcs8(info);

    PKCS8_PRIV_KEY_INFO_free(info);
    return pkey;
}

static EVP_PKEY *open_sealed(int *pslow, const unsigned char *der, long len, const pass_t *pass)
{
    X509_SIG *sealed = d2i_X509_SIG(NULL, &der, len);
    PKCS8_PRIV_KEY_INFO *info = NULL;
    EVP_PKEY *pkey;

    *pslow = sealed && !is_quick(sealed);
    if (sealed && !*pslow && pass->data)
        info = PKCS8_decrypt(sealed, (const char *)pass->data, (int)pass->len);
    pkey = decode_pkcs8(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    X509_SIG_free(sealed);
    return pkey;
}

/* Of the time before PKCS#8; encrypted by the headers of RFC 1421, whose key is derived at once. */
static EVP_PKEY *open_traditional(int type, char *header, unsigned char *der, long len,
                                  pass_t *pass)
{
    const unsigned char *at = der;
    EVP_CIPHER_INFO cipher;

    if (!PEM_get_EVP_CIPHER_INFO(header, &cipher)
        || !PEM_do_header(&cipher, der, &len, give_pass, pass))
        return NULL;
    return d2i_PrivateKey(type, NULL, &at, len);
}

static int has_bits(const EVP_PKEY *pkey, const char *param, int most)
{
    BIGNUM *n = NULL;
    int fits = !EVP_PKEY_get_bn_param(pkey, param, &n) || BN_num_bits(n) <= most;

    BN_clear_free(n);
    return fits;
}

/* OpenSSL works with whatever numbers an RSA key has, for days if they are large: they are to be no
 * longer than the modulus, and that one not longer than it ever needs to be. */
static int is_workable(const EVP_PKEY *pkey)
{
    static const char *const NUMBERS[] = {
        OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D,
        OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2,
        OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2,
        OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
    };
    int bits = EVP_PKEY_get_bits(pkey);
    size_t i;

    if (!EVP_PKEY_is_a(pkey, "RSA") && !EVP_PKEY_is_a(pkey, "RSA-PSS"))
        return 1;
    if (bits > RSA_MAX_BITS || !has_bits(pkey, OSSL_PKEY_PARAM_RSA_FACTOR3, 0))
        return 0;
    for (i = 0; i < sizeof(NUMBERS) / sizeof(NUMBERS[0]); ++i)
        if (!has_bits(pkey, NUMBERS[i], bits))
            return 0;
    return 1;
}

/* The first private key of the text. */
static EVP_PKEY *read_key(int *pslow, BIO *bio, pass_t *pass)
{
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    EVP_PKEY *pkey = NULL;
    int found = 0;
    long len;

    while (!found && PEM_read_bio(bio, &name, &header, &der, &len)) {
        found = strstr(name, PEM_STRING_PKCS8INF) != NULL;
        if (!strcmp(name, PEM_STRING_PKCS8))
            pkey = open_sealed(pslow, der, len, pass);
        else if (!strcmp(name, PEM_STRING_PKCS8INF))
            pkey = open_plain(der, len);
        else if (!strcmp(name, PEM_STRING_RSA))
            pkey = open_traditional(EVP_PKEY_RSA, header, der, len, pass);
        else if (!strcmp(name, PEM_STRING_ECPRIVATEKEY))
            pkey = open_traditional(EVP_PKEY_EC, header, der, len, pass);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(der, (size_t)len);
    }
    return pkey;
}

apr_status_t md_key_from_pem(md_key_t **pkey, const char *pem, apr_size_t len,
                             const unsigned char *pass, apr_size_t pass_len, md_err_t *err,
                             apr_pool_t *p)
{
    pass_t baton = { pass, pass_len };
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    EVP_PKEY *read = NULL;
    int is_slow = 0;

    *pkey = NULL;
    ERR_clear_error();
    if (bio)
        read = read_key(&is_slow, bio, &baton);
    BIO_free(bio);
    if (is_slow)
        return md_fail(err, APR_ENOTIMPL, "its encryption is not one that this module uses, or has "
                       "more than %d iterations of PBKDF2", MD_MAX_KEY_ROUNDS);
    if (!read)
        return md_openssl_fail(err, APR_EINVAL, "cannot read a private key");
    ERR_clear_error();
    if (!is_workable(read)) {
        EVP_PKEY_free(read);
        return md_fail(err, APR_ENOTIMPL, "it is an RSA key with more than %d bits, more than two "
                       "primes, or numbers that are longer than its modulus", RSA_MAX_BITS);
    }
    *pkey = wrap(read, p);
    return APR_SUCCESS;
}

/* ---- JWS signatures ---- */

typedef struct jws_alg_t {
    const char *name;
    const char *group;     /* curve, NULL for RSA */
    const EVP_MD *(*md)(void);
    int coordinate;        /* bytes of r and of s */
} jws_alg_t;

static const jws_alg_t JWS_ALGS[] = { /* RFC 7518 3.1 */
    { "RS256", NULL, EVP_sha256, 0 },
    { "ES256", "prime256v1", EVP_sha256, 32 },
    { "ES384", "secp384r1", EVP_sha384, 48 },
};

static const jws_alg_t *jws_alg_of(const md_key_t *key)
{
    char group[64];
    size_t i;

    if (EVP_PKEY_is_a(key->pkey, "RSA"))
        return &JWS_ALGS[0];
    if (!EVP_PKEY_is_a(key->pkey, "EC")
        || !EVP_PKEY_get_group_name(key->pkey, group, sizeof(group), NULL))
        return NULL;
    for (i = 1; i < sizeof(JWS_ALGS) / sizeof(JWS_ALGS[0]); ++i)
        if (!strcmp(JWS_ALGS[i].group, group))
            return &JWS_ALGS[i];
    return NULL;
}

const char *md_key_jws_alg(const md_key_t *key)
{
    const jws_alg_t *alg = jws_alg_of(key);

    return alg ? alg->name : NULL;
}

static apr_status_t sign(unsigned char **psig, size_t *plen, const md_key_t *key,
                         const EVP_MD *md, const char *data, apr_size_t len, apr_pool_t *p)
{
    const unsigned char *bytes = (const unsigned char *)data;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    apr_status_t rv = APR_EGENERAL;

    if (!ctx || EVP_DigestSignInit(ctx, NULL, md, NULL, key->pkey) != 1
        || EVP_DigestSign(ctx, NULL, plen, bytes, len) != 1)
        goto out;
    *psig = apr_palloc(p, *plen);
    if (EVP_DigestSign(ctx, *psig, plen, bytes, len) == 1)
        rv = APR_SUCCESS;
out:
    EVP_MD_CTX_free(ctx);
    return rv;
}

/* OpenSSL gives ECDSA signatures as DER, JWS wants r || s of fixed length (RFC 7518 3.4). */
static apr_status_t der_to_raw(unsigned char **psig, size_t *plen, int n, apr_pool_t *p)
{
    const unsigned char *der = *psig;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)*plen);
    unsigned char *raw = apr_palloc(p, 2 * (apr_size_t)n);
    apr_status_t rv = APR_EGENERAL;

    if (sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, n) == n
        && BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + n, n) == n) {
        *psig = raw;
        *plen = 2 * (size_t)n;
        rv = APR_SUCCESS;
    }
    ECDSA_SIG_free(sig);
    return rv;
}

apr_status_t md_key_sign_jws(const unsigned char **psig, apr_size_t *plen, const md_key_t *key,
                             const char *data, apr_size_t len, md_err_t *err, apr_pool_t *p)
{
    const jws_alg_t *alg = jws_alg_of(key);
    unsigned char *sig = NULL;
    apr_status_t rv;
    size_t sig_len;

    if (!alg)
        return md_fail(err, APR_ENOTIMPL, "a key of this kind cannot sign a JWS");
    rv = sign(&sig, &sig_len, key, alg->md(), data, len, p);
    if (rv == APR_SUCCESS && alg->coordinate)
        rv = der_to_raw(&sig, &sig_len, alg->coordinate, p);
    if (rv != APR_SUCCESS)
        return md_openssl_fail(err, rv, "cannot sign a JWS");
    *psig = sig;
    *plen = sig_len;
    return APR_SUCCESS;
}
