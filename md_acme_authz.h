/* SPDX-License-Identifier: Apache-2.0 */
/* Authorizations and challenges (RFC 8555 7.1.4, 7.5, 8): fetch them, set up the answer on our
 * side, tell the CA, tear down. One row of the solver table is all that a challenge type needs. */
#ifndef MD_ACME_AUTHZ_H
#define MD_ACME_AUTHZ_H

#include "md_acme.h"
#include "md_txt.h"
#include "md_txt_check.h"
#include "md_store.h"
#include "md_text.h"

#define MD_HTTP01_FILE "acme-http-01.txt"
#define MD_CHECK_TOKEN "mod_md-check-" /* how tokens begin that no CA has made */
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
    md_json_t *error; /* problem document, or NULL */
    const char *objection; /* why we do not answer it, or NULL */
} md_challenge_t;

typedef struct md_authz_t {
    const char *url;
    md_identifier_t identifier;     /* a DNS name without "*.": fit for paths and logs */
    int is_wildcard;
    const char *shown_name;         /* as it was ordered: "*." in front of it for a wildcard name */
    md_authz_status_t status;
    apr_array_header_t *challenges; /* md_challenge_t */
    md_json_t *json;                /* as the CA sent it */
} md_authz_t;

/* How this server can prove control. */
typedef struct md_solver_conf_t {
    const md_store_t *store;
    const apr_array_header_t *types;     /* challenge types in order of preference */
    const apr_array_header_t *key_specs; /* md_key_spec_t of the domain */
    const apr_array_header_t *acme_tls;  /* names with acme-tls/1; empty: none */
    int http_reachable, https_reachable; /* on the public ports 80 and 443 */
    const char *http01_problem, *alpn_problem; /* why its servers cannot answer, or NULL */
    const char *dns01_problem;           /* why no command can be run, or NULL */
    md_txt_t *records;                   /* of the domain; NULL without command */
    md_txt_check_t *check;               /* of these, before the CA looks; NULL: none */
    md_txt_hint_fn *hint;                /* to be told what it finds, with `baton` */
    const char *failed_type;             /* in the last attempt, so tried last now; or NULL */

    /* Tell somebody that the answer `setup` (see md_solver_setup) is in place; NULL: nobody. With
     * APR_EAGAIN it goes on: call again after *pwait. Any other failure is an objection. */
    apr_status_t (*announce)(void *baton, const char *setup, apr_interval_time_t *pwait,
                             md_err_t *err);
    void *baton;
} md_solver_conf_t;

/* RFC 8555 7.5. Any status is success. */
MD_MUST_CHECK
apr_status_t md_authz_fetch(md_authz_t **pauthz, md_acme_t *acme, md_signer_t signer,
                            const char *url, md_err_t *err, apr_pool_t *p);

/* Can it still become valid by a challenge of this type (NULL: by any), or is it? APR_EINVAL with
 * the problem of the challenge that failed. That may be told for a challenge whose authorization
 * stays pending (RFC 8555 7.1.6, 8.2). */
MD_MUST_CHECK
apr_status_t md_authz_check(const md_authz_t *authz, const char *type, md_err_t *err,
                            apr_pool_t *p);

/* The challenge of that type; NULL: not offered. */
const md_challenge_t *md_authz_challenge(const md_authz_t *authz, const char *type);

/* Do not answer the challenge of that type, which is offered. */
void md_authz_object(const md_authz_t *authz, const char *type, const char *objection);

/* The type of the challenge that the CA found wanting, NULL if there is none. */
const char *md_authz_failed_type(const md_authz_t *authz);

/* Make the answer to one of the challenges available, first type in `conf` that the CA offers and
 * that works. *psetup is the text that tells what to tear down (`http-01:example.org`). Fails
 * with challenge-mismatch or challenge-setup-failure. */
MD_MUST_CHECK
apr_status_t md_solver_setup(const md_challenge_t **pchallenge, const char **psetup,
                             const md_authz_t *authz, const char *thumbprint,
                             const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p);

/* The first of the types in `conf`, in order of preference, that can prove the identifier; NULL:
 * none. */
const char *md_solver_first(const md_solver_conf_t *conf, const md_identifier_t *identifier,
                            apr_pool_t *p);

/* Make an answer of that type available which no CA asked for, but http or TLS clients can find. */
MD_MUST_CHECK
apr_status_t md_solver_answer(const char **psetup, const md_identifier_t *identifier,
                              const char *type, const char *key_authz,
                              const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p);

/* Go on with what takes longer than that; never blocks. APR_SUCCESS: the answer is there for all to
 * see; APR_EAGAIN: call again after *pwait; else why it is not. */
MD_MUST_CHECK
apr_status_t md_solver_complete(const md_solver_conf_t *conf, const char *setup,
                                apr_interval_time_t *pwait, md_err_t *err, apr_pool_t *p);

/* RFC 8555 7.5.1: tell the CA to look. Fails like md_authz_check if the answer says already that it
 * found nothing of use. */
MD_MUST_CHECK
apr_status_t md_challenge_answer(md_acme_t *acme, md_signer_t signer, const md_authz_t *authz,
                                 const md_challenge_t *challenge, md_err_t *err, apr_pool_t *p);

/* One of the pairs that answer tls-alpn-01 for a name, as PEM. */
typedef struct md_alpn_pair_t {
    const char *cert;
    const char *key;
} md_alpn_pair_t;

/* All of `name` (in lower case) as array of md_alpn_pair_t, RSA first; empty when there is none.
 * What they say is not checked. */
apr_array_header_t *md_solver_alpn_pairs(const md_store_t *store, const char *name, apr_pool_t *p);

/* Types that work here, in automatic order, of conf->types if there are any. Empty result: *pwhy
 * tells for each why not. */
apr_array_header_t *md_solver_usable(const md_solver_conf_t *conf, const char **pwhy,
                                     apr_pool_t *p);

/* Is one of these a challenge type that can be set up here? */
int md_solver_knows_one(const apr_array_header_t *types);

/* All such types, for a message. */
const char *md_solver_types(apr_pool_t *p);

/* Remove what md_solver_setup made, but for TXT records (md_txt.h). Unknown texts are
 * ignored. */
void md_solver_teardown(const md_store_t *store, const char *setup, apr_pool_t *p);

#endif
