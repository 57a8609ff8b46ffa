/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Web Signatures as ACME wants them (RFC 7515, 7517, 7638; RFC 8555 6.2). */
#ifndef MD_JWS_H
#define MD_JWS_H

#include "md_json.h"
#include "md_key.h"

/* The public key as JWK; only the members that the thumbprint needs. NULL if the key has no JWS
 * algorithm. */
md_json_t *md_jwk_make(const md_key_t *key, apr_pool_t *p);

/* RFC 7638 thumbprint, base64url. NULL as above. */
const char *md_jwk_thumbprint(const md_key_t *key, apr_pool_t *p);

/* Flattened JWS of `payload` ("" for POST-as-GET) in `p`. `protected` gets `alg` added here. */
MD_MUST_CHECK
apr_status_t md_jws_sign(const char **pjws, md_json_t *protected, const char *payload,
                         const md_key_t *key, md_err_t *err, apr_pool_t *p);

/* The algorithm of an external account binding (RFC 7518 3.2), in any case, as it is spelled:
 * HS256, HS384 or HS512; NULL for another one. */
const char *md_jws_mac_alg(const char *name);

/* What a CA hands out for an external account. */
typedef struct md_mac_t {
    const char *kid;
    const char *hmac; /* the MAC key that belongs to it, in base64 of either alphabet */
    const char *alg;  /* see above; NULL: HS256 */
} md_mac_t;

/* External account binding (RFC 8555 7.3.4): the public `key` of the new account, signed with the
 * MAC key; `url` is newAccount's. Fails with the problem apache:eab-hmac-invalid for a MAC key or
 * an algorithm that is none. */
MD_MUST_CHECK
apr_status_t md_jws_bind(md_json_t **pjws, md_mac_t mac, const char *url, const md_key_t *key,
                         md_err_t *err, apr_pool_t *p);

#endif
