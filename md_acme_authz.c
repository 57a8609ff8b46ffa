/* SPDX-License-Identifier: Apache-2.0 */
/* Authorizations and the solver table. */
#include "md_acme_authz.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_csr.h"
#include "md_log.h"
#include "md_text.h"

static const char *const AUTHZ_STATUS[] = {
    [MD_AUTHZ_PENDING]     = "pending",
    [MD_AUTHZ_VALID]       = "valid",
    [MD_AUTHZ_INVALID]     = "invalid",
    [MD_AUTHZ_DEACTIVATED] = "deactivated",
    [MD_AUTHZ_EXPIRED]     = "expired",
    [MD_AUTHZ_REVOKED]     = "revoked",
};
_Static_assert(sizeof(AUTHZ_STATUS) / sizeof(AUTHZ_STATUS[0]) == MD_AUTHZ_STATUS_MAX,
               "one name per authorization status");

/* ---- what the CA says ---- */

static apr_status_t status_parse(md_authz_status_t *pstatus, const char *text)
{
    int i;

    for (i = 0; text && i < MD_AUTHZ_STATUS_MAX; ++i) {
        if (!strcmp(text, AUTHZ_STATUS[i])) {
            *pstatus = i;
            return APR_SUCCESS;
        }
    }
    return APR_EINVAL;
}

static apr_array_header_t *challenges_parse(const md_json_t *list, apr_pool_t *p)
{
    apr_array_header_t *challenges = apr_array_make(p, 4, sizeof(md_challenge_t));
    md_challenge_t challenge;
    md_json_t *json;
    apr_size_t i;

    for (i = 0; i < md_json_size(list) && i < 20; ++i) {
        json = md_json_at(list, i, p);
        challenge.type = md_json_get_str(json, "type");
        challenge.url = md_json_get_str(json, "url");
        challenge.token = md_json_get_str(json, "token");
        challenge.status = md_json_get_str(json, "status");
        if (challenge.type && challenge.url)
            APR_ARRAY_PUSH(challenges, md_challenge_t) = challenge;
    }
    return challenges;
}

/* The problem of the challenge that made the authorization invalid (RFC 8555 8). */
static apr_status_t fail_by_challenge(const md_json_t *json, const md_authz_t *authz,
                                      md_err_t *err, apr_pool_t *p)
{
    md_json_t *list = md_json_get(json, "challenges", p), *problem = NULL, *found;
    const char *detail;
    apr_size_t i;

    md_log(MD_LOG_ERR, APR_SUCCESS, "ACME server authz: challenge '%s' for %s at %s: %s",
           AUTHZ_STATUS[authz->status], authz->name, authz->url,
           md_text_printable(md_json_text(json, 1, p), p));
    for (i = 0; i < md_json_size(list) && i < 20; ++i) {
        found = md_json_get(md_json_at(list, i, p), "error", p);
        if (found)
            problem = found;
    }
    detail = md_json_get_str(problem, "detail");
    if (authz->status == MD_AUTHZ_INVALID)
        md_fail_problem(err, APR_EINVAL, md_json_get_str(problem, "type"),
                        "domain authorization for %s failed, CA considers answer to challenge "
                        "invalid%s%s", authz->name, detail ? ": " : "", detail ? detail : "");
    else
        md_fail(err, APR_EINVAL, "domain authorization for %s is %s", authz->name,
                AUTHZ_STATUS[authz->status]);
    md_err_set_subproblems(err, md_json_text(md_json_get(problem, "subproblems", p), 1, p));
    return APR_EINVAL;
}

apr_status_t md_authz_fetch(md_authz_t **pauthz, md_acme_t *acme, md_signer_t signer,
                            const char *url, md_err_t *err, apr_pool_t *p)
{
    md_authz_t *authz = apr_pcalloc(p, sizeof(*authz));
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_fetch(&reply, acme, signer, url, NULL, MD_MAX_ACME_BODY, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    authz->url = url;
    authz->name = md_json_get_str(reply->json, "identifier.value");
    if (!md_path_part_is_safe(authz->name))
        return md_fail(err, APR_EINVAL, "authorization %s: no JSON with a valid identifier", url);
    if (status_parse(&authz->status, md_json_get_str(reply->json, "status")) != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "authorization %s for %s: unknown status", url,
                       authz->name);
    authz->challenges = challenges_parse(md_json_get(reply->json, "challenges", p), p);
    *pauthz = authz;
    if (authz->status != MD_AUTHZ_PENDING && authz->status != MD_AUTHZ_VALID)
        return fail_by_challenge(reply->json, authz, err, p);
    return APR_SUCCESS;
}

apr_status_t md_authz_explain(md_acme_t *acme, md_signer_t signer,
                              const apr_array_header_t *urls, md_err_t *err, apr_pool_t *p)
{
    md_authz_t *authz;
    int i;

    for (i = 0; i < urls->nelts; ++i)
        if (md_authz_fetch(&authz, acme, signer, APR_ARRAY_IDX(urls, i, const char *), err, p)
            != APR_SUCCESS)
            return err->rv;
    return md_fail(err, APR_EINVAL, "the CA made the order invalid and gives no reason");
}

apr_status_t md_challenge_answer(md_acme_t *acme, md_signer_t signer,
                                 const md_challenge_t *challenge, md_err_t *err, apr_pool_t *p)
{
    md_reply_t *reply;

    return md_acme_post(&reply, acme, signer, challenge->url, md_json_object(p), err, p);
}

/* ---- solvers: our side of a challenge type ---- */

/* What a solver works with. */
typedef struct task_t {
    const md_solver_conf_t *conf;
    const char *name;      /* DNS name, without "*." */
    const char *key_authz; /* RFC 8555 8.1 */
} task_t;

static apr_status_t http01_setup(const task_t *task, md_err_t *err, apr_pool_t *p)
{
    const md_store_t *store = task->conf->store;
    const char *there;
    apr_size_t len;

    if (md_store_load_text(&there, &len, store, MD_STORE_CHALLENGES, task->name, MD_HTTP01_FILE,
                           MD_MAX_CHALLENGE, NULL, p) == APR_SUCCESS
        && !strcmp(there, task->key_authz))
        return APR_SUCCESS;
    return md_store_save_text(store, MD_STORE_CHALLENGES, task->name, MD_HTTP01_FILE,
                              task->key_authz, err, p);
}

/* RFC 8737 3: a certificate for each key type, as the server may answer with any of them. */
static apr_status_t alpn_setup(const task_t *task, md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *specs = task->conf->key_specs;
    const md_key_spec_t *spec;
    unsigned char digest[32];
    md_cert_t *cert;
    md_key_t *key;
    apr_status_t rv = APR_SUCCESS;
    int i;

    if (task->conf->acme_tls->nelts == 0)
        return md_fail(err, APR_ENOTIMPL, "no vhost of the domain has the protocol " MD_ALPN_ACME);
    md_sha256(digest, task->key_authz, strlen(task->key_authz));
    for (i = 0; i < specs->nelts && rv == APR_SUCCESS; ++i) {
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        rv = md_key_generate(&key, spec, err, p);
        if (rv == APR_SUCCESS)
            rv = md_cert_make_alpn(&cert, task->name, digest, key, err, p);
        if (rv == APR_SUCCESS)
            rv = md_store_save_volatile(task->conf->store, MD_STORE_CHALLENGES, task->name,
                                        md_key_spec_file(spec, MD_ALPN_PRIVKEY, p), key,
                                        md_key_spec_file(spec, MD_ALPN_PUBCERT, p), cert, err, p);
    }
    return rv;
}

static void remove_directory(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_store_remove(store, MD_STORE_CHALLENGES, name, NULL, p);
}

static const struct {
    const char *type;
    apr_status_t (*setup)(const task_t *task, md_err_t *err, apr_pool_t *p);
    void (*teardown)(const md_store_t *store, const char *name, apr_pool_t *p);
} SOLVERS[] = {
    { "http-01", http01_setup, remove_directory },
    { "tls-alpn-01", alpn_setup, remove_directory },
};
#define SOLVER_COUNT ((int)(sizeof(SOLVERS) / sizeof(SOLVERS[0])))

static int solver_find(const char *type, size_t len)
{
    int i;

    for (i = 0; i < SOLVER_COUNT; ++i)
        if (strlen(SOLVERS[i].type) == len && !strncasecmp(SOLVERS[i].type, type, len))
            return i;
    return -1;
}

static const md_challenge_t *offered(const md_authz_t *authz, const char *type)
{
    const md_challenge_t *challenge;
    int i;

    for (i = 0; i < authz->challenges->nelts; ++i) {
        challenge = &APR_ARRAY_IDX(authz->challenges, i, md_challenge_t);
        if (!strcasecmp(challenge->type, type))
            return challenge;
    }
    return NULL;
}

static apr_status_t setup_one(const char **psetup, const md_challenge_t *challenge, int solver,
                              const md_authz_t *authz, const char *thumbprint,
                              const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p)
{
    task_t task = { .conf = conf, .name = authz->name };
    apr_status_t rv;

    /* RFC 8555 8.3: the token becomes part of answers, so it is what it has to be or nothing. */
    if (!challenge->token || !md_token_is_valid(challenge->token))
        return md_fail(err, APR_EINVAL, "the CA's token for %s is not valid", challenge->type);
    task.key_authz = apr_pstrcat(p, challenge->token, ".", thumbprint, NULL);
    rv = SOLVERS[solver].setup(&task, err, p);
    if (rv == APR_SUCCESS)
        *psetup = apr_pstrcat(p, SOLVERS[solver].type, ":", authz->name, NULL);
    return rv;
}

static const char *offered_types(const md_authz_t *authz, apr_pool_t *p)
{
    const char *list = "";
    int i;

    for (i = 0; i < authz->challenges->nelts; ++i)
        list = apr_pstrcat(p, list, i ? " " : "",
                           APR_ARRAY_IDX(authz->challenges, i, md_challenge_t).type, NULL);
    return list;
}

apr_status_t md_solver_setup(const md_challenge_t **pchallenge, const char **psetup,
                             const md_authz_t *authz, const char *thumbprint,
                             const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p)
{
    const char *type, *failed = NULL;
    md_err_t why;
    int i, solver;

    md_err_init(&why, p);
    for (i = 0; i < conf->types->nelts; ++i) {
        type = APR_ARRAY_IDX(conf->types, i, const char *);
        solver = solver_find(type, strlen(type));
        *pchallenge = offered(authz, type);
        if (solver < 0 || !*pchallenge)
            continue;
        if (setup_one(psetup, *pchallenge, solver, authz, thumbprint, conf, &why, p)
            == APR_SUCCESS)
            return APR_SUCCESS;
        if (!APR_STATUS_IS_ENOTIMPL(why.rv))
            failed = type;
        md_log(MD_LOG_INFO, why.rv, "%s: setting up challenge %s: %s", authz->name, type,
               why.detail);
    }
    if (failed)
        return md_fail_problem(err, why.rv, "challenge-setup-failure",
                               "None of the offered challenge types %s offered for domain %s could "
                               "be set up, the last failure: %s", offered_types(authz, p),
                               authz->name, why.detail);
    return md_fail_problem(err, APR_EINVAL, "challenge-mismatch",
                           "None of offered challenge types for domain %s are supported. The CA "
                           "offered '%s' and available are: '%s'.", authz->name,
                           offered_types(authz, p), apr_array_pstrcat(p, conf->types, ' '));
}

int md_solver_knows_one(const apr_array_header_t *types)
{
    const char *type;
    int i;

    for (i = 0; i < types->nelts; ++i) {
        type = APR_ARRAY_IDX(types, i, const char *);
        if (solver_find(type, strlen(type)) >= 0)
            return 1;
    }
    return 0;
}

const char *md_solver_types(apr_pool_t *p)
{
    const char *list = SOLVERS[0].type;
    int i;

    for (i = 1; i < SOLVER_COUNT; ++i)
        list = apr_pstrcat(p, list, ", ", SOLVERS[i].type, NULL);
    return list;
}

void md_solver_teardown(const md_store_t *store, const char *setup, apr_pool_t *p)
{
    const char *colon = strchr(setup, ':');
    int solver = colon ? solver_find(setup, (size_t)(colon - setup)) : -1;

    if (solver >= 0)
        SOLVERS[solver].teardown(store, colon + 1, p);
}
