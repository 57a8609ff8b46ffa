/* SPDX-License-Identifier: Apache-2.0 */
/* Authorizations and challenges (RFC 8555 7.1.4, 7.5, 8): fetch them, set up the answer on our
 * side, tell the CA, tear down. One row of the solver table is all that a challenge type needs. */
#ifndef MD_ACME_AUTHZ_H
#define MD_ACME_AUTHZ_H

#include "md_acme.h"
#include "md_store.h"

#define MD_HTTP01_FILE "acme-http-01.txt"
#define MD_ALPN_PRIVKEY "acme-tls-alpn-01-privkey"
#define MD_ALPN_PUBCERT "acme-tls-alpn-01-pubcert"
#define MD_ALPN_ACME "acme-tls/1" /* RFC 8737 6.2 */

typedef enum {
    MD_AUTHZ_PENDING,
    MD_AUTHZ_VALID,
    MD_AUTHZ_INVALID,
    MD_AUTHZ_DEACTIVATED,
    MD_AUTHZ_EXPIRED,
    MD_AUTHZ_REVOKED,
    MD_AUTHZ_STATUS_MAX
} md_authz_status_t;

typedef struct md_challenge_t {
    const char *type, *url, *token, *status;
} md_challenge_t;

typedef struct md_authz_t {
    const char *url;
    const char *name;               /* identifier value, validated: fit for paths and logs */
    md_authz_status_t status;
    apr_array_header_t *challenges; /* md_challenge_t */
} md_authz_t;

/* How this server can prove control. */
typedef struct md_solver_conf_t {
    const md_store_t *store;
    const apr_array_header_t *types;     /* challenge types in order of preference */
    const apr_array_header_t *key_specs; /* md_key_spec_t of the domain */
    const apr_array_header_t *acme_tls;  /* names with acme-tls/1; empty: none */
} md_solver_conf_t;

/* RFC 8555 7.5. An authorization that is not pending or valid fails, with the problem of its
 * challenge. */
MD_MUST_CHECK
apr_status_t md_authz_fetch(md_authz_t **pauthz, md_acme_t *acme, md_signer_t signer,
                            const char *url, md_err_t *err, apr_pool_t *p);

/* Why the authorization became invalid, for an order that is: always an md_fail. */
apr_status_t md_authz_explain(md_acme_t *acme, md_signer_t signer,
                              const apr_array_header_t *urls, md_err_t *err, apr_pool_t *p);

/* Make the answer to one of the challenges available, first type in `conf` that the CA offers and
 * that works. *psetup is the text that md_solver_teardown needs (`http-01:example.org`). Fails
 * with challenge-mismatch or challenge-setup-failure. */
MD_MUST_CHECK
apr_status_t md_solver_setup(const md_challenge_t **pchallenge, const char **psetup,
                             const md_authz_t *authz, const char *thumbprint,
                             const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p);

/* RFC 8555 7.5.1: tell the CA to look. */
MD_MUST_CHECK
apr_status_t md_challenge_answer(md_acme_t *acme, md_signer_t signer,
                                 const md_challenge_t *challenge, md_err_t *err, apr_pool_t *p);

/* Is one of these a challenge type that can be set up here? */
int md_solver_knows_one(const apr_array_header_t *types);

/* All such types, for a message. */
const char *md_solver_types(apr_pool_t *p);

/* Remove what md_solver_setup made. Unknown texts are ignored. */
void md_solver_teardown(const md_store_t *store, const char *setup, apr_pool_t *p);

#endif
