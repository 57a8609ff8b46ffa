/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys: what kind is wanted, generation, PEM, signatures. Keys are freed with their pool;
 * buffers with key material are wiped. A key may be used by several threads at once. */
#ifndef MD_KEY_H
#define MD_KEY_H

#include <apr_tables.h>
#include <openssl/types.h>

#include "md_err.h"
#include "md_json.h"

typedef enum { MD_KEY_DEFAULT, MD_KEY_RSA, MD_KEY_EC } md_key_type_t;

/* One entry of MDPrivateKeys. */
typedef struct md_key_spec_t {
    md_key_type_t type; /* MD_KEY_DEFAULT is RSA 2048 */
    int bits;           /* RSA: 2048 to 16384 */
    const char *curve;  /* EC: name as configured */
} md_key_spec_t;

typedef struct md_key_t md_key_t;

/* The words of MDPrivateKeys as array of md_key_spec_t. NULL, or the phrase of the mistake. */
const char *md_key_specs_parse(apr_array_header_t **pspecs, int argc, const char *const *argv,
                               apr_pool_t *p);

/* `privkey` of md.json: NULL (absent) gives an empty array; one spec is an object, several an
 * array. */
apr_array_header_t *md_key_specs_from_json(const md_json_t *json, apr_pool_t *p);
md_json_t *md_key_specs_to_json(const apr_array_header_t *specs, apr_pool_t *p); /* NULL if empty */

/* `rsa`, or the curve as configured: the label in status and messages. */
const char *md_key_spec_name(const md_key_spec_t *spec);

/* `privkey.pem` from "privkey" for RSA, `privkey.p-256.pem` (all lower case) for curves. */
const char *md_key_spec_file(const md_key_spec_t *spec, const char *base, apr_pool_t *p);

/* NULL if certificates can be made for keys of this kind, else why not. */
const char *md_key_spec_problem(const md_key_spec_t *spec, apr_pool_t *p);

/* A new key. APR_ENOTIMPL for unknown curves. NIST names in any case, secp256r1 and friends in any
 * case, then OpenSSL's short names. */
MD_MUST_CHECK
apr_status_t md_key_generate(md_key_t **pkey, const md_key_spec_t *spec, md_err_t *err,
                             apr_pool_t *p);

/* The process is to end: no more RSA keys are made, they fail with APR_EINTR. Those that are being
 * made have a second to be done, as otherwise a server that is restarted again and again makes
 * keys that nobody ever gets; what takes longer fails, too. */
void md_key_end(void);

/* PKCS#8 PEM; with a passphrase (bytes, may contain NUL) encrypted by PBES2, AES-256-CBC. The text
 * is in `p` and wiped when `p` ends. */
MD_MUST_CHECK
apr_status_t md_key_to_pem(const char **ppem, apr_size_t *plen, const md_key_t *key,
                           const unsigned char *pass, apr_size_t pass_len, md_err_t *err,
                           apr_pool_t *p);

/* Would reading it ask for a passphrase (RFC 5958 3, or the headers of RFC 1421 4.6.1.1)? */
int md_key_pem_is_encrypted(const char *pem);

/* The first PEM private key of a kind that signs, encrypted or not (`pass` NULL: only plain ones).
 * Whoever wrote the file does not decide how long that, or work with the key, takes: APR_ENOTIMPL
 * for an encryption other than md_key_to_pem's, or with more rounds than MD_MAX_KEY_ROUNDS, and for
 * RSA keys of more than 16384 bits, or with other numbers than such a key has. */
MD_MUST_CHECK
apr_status_t md_key_from_pem(md_key_t **pkey, const char *pem, apr_size_t len,
                             const unsigned char *pass, apr_size_t pass_len, md_err_t *err,
                             apr_pool_t *p);

/* "RS256", "ES256", "ES384"; NULL for keys that cannot sign JWS. */
const char *md_key_jws_alg(const md_key_t *key);

/* JWS signature (RFC 7518 3.3, 3.4: r || s for EC), as bytes. */
MD_MUST_CHECK
apr_status_t md_key_sign_jws(const unsigned char **psig, apr_size_t *plen, const md_key_t *key,
                             const char *data, apr_size_t len, md_err_t *err, apr_pool_t *p);

/* For the other files of this layer. */
/* The same key with a lifetime of its own. */
md_key_t *md_key_share(const md_key_t *key, apr_pool_t *p);

EVP_PKEY *md_key_evp(const md_key_t *key);

/* A failed OpenSSL call: md_fail with `what` and OpenSSL's own reason; empties its error queue. */
apr_status_t md_openssl_fail(md_err_t *err, apr_status_t rv, const char *what);

/* `len` random bytes. */
void md_random_bytes(unsigned char *buf, apr_size_t len);

/* SHA-256 over `data`, 32 bytes. */
void md_sha256(unsigned char digest[32], const void *data, apr_size_t len);

/* Wipe key material. */
void md_wipe(void *data, apr_size_t len);

#endif
