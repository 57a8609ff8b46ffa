/* SPDX-License-Identifier: Apache-2.0 */
/* Authorizations and the solver table. */
#include "md_acme_authz.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_csr.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define ALPN_PRIVKEY "acme-tls-alpn-01-privkey"
#define ALPN_PUBCERT "acme-tls-alpn-01-pubcert"

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

static apr_array_header_t *challenges_parse(const md_json_t *list, const char *base,
                                            apr_pool_t *p)
{
    apr_array_header_t *challenges = apr_array_make(p, 4, sizeof(md_challenge_t));
    md_challenge_t challenge;
    md_json_t *json;
    apr_size_t i;

    for (i = 0; i < md_json_size(list) && i < 20; ++i) {
        json = md_json_at(list, i, p);
        challenge.type = md_json_get_str(json, "type");
        challenge.url = md_acme_url_member(json, "url", base, p);
        challenge.token = md_json_get_str(json, "token");
        challenge.status = md_json_get_str(json, "status");
        challenge.error = md_json_get(json, "error", p);
        challenge.objection = NULL;
        if (challenge.type && challenge.url)
            APR_ARRAY_PUSH(challenges, md_challenge_t) = challenge;
    }
    return challenges;
}

/* The problem of a challenge: what the CA found is for the domain to mend. */
static apr_status_t fail_by_problem(const md_json_t *problem, const char *name, md_err_t *err,
                                    apr_pool_t *p)
{
    const char *prefix = apr_psprintf(p, "domain authorization for %s failed, CA considers answer "
                                      "to challenge invalid%s", name, problem ? ": " : "");

    if (!problem)
        return md_fail(err, APR_EINVAL, "%s", prefix);
    (void)md_problem_fail(err, problem, prefix);
    err->rv = APR_EINVAL;
    return md_err_blame(err, MD_SCOPE_DOMAIN, 0);
}

static int is_failed(const md_challenge_t *challenge)
{
    return md_text_same(challenge->status, "invalid");
}

static md_challenge_t *find_challenge(const md_authz_t *authz, const char *type)
{
    md_challenge_t *challenge;
    int i;

    for (i = 0; i < authz->challenges->nelts; ++i) {
        challenge = &APR_ARRAY_IDX(authz->challenges, i, md_challenge_t);
        if (!strcasecmp(challenge->type, type))
            return challenge;
    }
    return NULL;
}

const md_challenge_t *md_authz_challenge(const md_authz_t *authz, const char *type)
{
    return find_challenge(authz, type);
}

void md_authz_object(const md_authz_t *authz, const char *type, const char *objection)
{
    find_challenge(authz, type)->objection = objection;
}

/* Of those that failed or have a problem, the last. */
static const md_challenge_t *failed_challenge(const md_authz_t *authz)
{
    const md_challenge_t *challenge, *found = NULL;
    int i;

    for (i = 0; i < authz->challenges->nelts; ++i) {
        challenge = &APR_ARRAY_IDX(authz->challenges, i, md_challenge_t);
        if (challenge->error || (is_failed(challenge) && !found))
            found = challenge;
    }
    return found;
}

const char *md_authz_failed_type(const md_authz_t *authz)
{
    const md_challenge_t *challenge = failed_challenge(authz);

    return challenge ? challenge->type : NULL;
}

static apr_status_t fail_by_challenge(const md_authz_t *authz, const md_challenge_t *challenge,
                                      md_err_t *err, apr_pool_t *p)
{
    md_log(MD_LOG_DEBUG, "ACME server authz: challenge '%s' for %s at %s: %s",
           AUTHZ_STATUS[authz->status], authz->shown_name, authz->url,
           md_text_line(md_json_text(authz->json, 1, p), MD_MAX_TEXT, p));
    return fail_by_problem(challenge ? challenge->error : NULL, authz->shown_name, err, p);
}

apr_status_t md_authz_check(const md_authz_t *authz, const char *type, md_err_t *err,
                            apr_pool_t *p)
{
    const md_challenge_t *challenge = type ? md_authz_challenge(authz, type) : NULL;

    if (authz->status == MD_AUTHZ_VALID)
        return APR_SUCCESS;
    if (authz->status == MD_AUTHZ_INVALID)
        return fail_by_challenge(authz, failed_challenge(authz), err, p);
    if (authz->status != MD_AUTHZ_PENDING)
        return md_fail(err, APR_EINVAL, "domain authorization for %s is %s",
                       authz->shown_name, AUTHZ_STATUS[authz->status]);
    if (challenge && is_failed(challenge))
        return fail_by_challenge(authz, challenge, err, p);
    return APR_SUCCESS;
}

apr_status_t md_authz_fetch(md_authz_t **pauthz, md_acme_t *acme, md_signer_t signer,
                            const char *url, md_err_t *err, apr_pool_t *p)
{
    md_authz_t *authz = apr_pcalloc(p, sizeof(*authz));
    const char *value;
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_fetch(&reply, acme, signer, url, NULL, MD_MAX_ACME_BODY, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    authz->url = url;
    authz->json = reply->json;
    value = md_json_get_str(reply->json, "identifier.value");
    if (!md_path_part_is_safe(value))
        return md_fail(err, APR_EINVAL, "authorization %s: the answer is not JSON with a valid "
                       "identifier", url);
    authz->is_wildcard = md_json_get_bool(reply->json, "wildcard")
                         || md_dns_name_is_wildcard(value);
    authz->identifier = md_identifier_of(md_dns_name_is_wildcard(value) ? value + 2 : value, p);
    authz->shown_name = apr_pstrcat(p, authz->is_wildcard ? "*." : "", authz->identifier.value,
                                    NULL);
    if (status_parse(&authz->status, md_json_get_str(reply->json, "status")) != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "authorization %s for %s: unknown status", url,
                       authz->shown_name);
    authz->challenges = challenges_parse(md_json_get(reply->json, "challenges", p), url, p);
    *pauthz = authz;
    return APR_SUCCESS;
}

/* The problem with a challenge of an authorization that is valid by now: all is well. */
static int was_valid_already(md_acme_t *acme, md_signer_t signer, const md_authz_t *authz,
                             const md_err_t *err, apr_pool_t *p)
{
    md_authz_t *seen;
    md_err_t why;

    if (err->http_status / 100 != 4 || !err->type)
        return 0;
    md_err_init(&why, p);
    return md_authz_fetch(&seen, acme, signer, authz->url, &why, p) == APR_SUCCESS
           && seen->status == MD_AUTHZ_VALID;
}

apr_status_t md_challenge_answer(md_acme_t *acme, md_signer_t signer, const md_authz_t *authz,
                                 const md_challenge_t *challenge, md_err_t *err, apr_pool_t *p)
{
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_post(&reply, acme, signer, challenge->url, md_json_object(p), err, p);
    if (rv != APR_SUCCESS && was_valid_already(acme, signer, authz, err, p)) {
        md_err_clear(err);
        return APR_SUCCESS;
    }
    if (rv == APR_SUCCESS && md_text_same(md_json_get_str(reply->json, "status"), "invalid")
        && md_json_has(reply->json, "token"))
        return fail_by_problem(md_json_get(reply->json, "error", p), authz->shown_name, err, p);
    return rv;
}

/* ---- solvers: our side of a challenge type ---- */

/* What a solver works with. */
typedef struct task_t {
    const md_solver_conf_t *conf;
    const md_identifier_t *identifier;
    const char *key_authz; /* RFC 8555 8.1 */
    const char *value;     /* set by a solver that may have several for a name; or NULL */
} task_t;

/* Why the type cannot work here, NULL if it can. */
static const char *http01_problem(const md_solver_conf_t *conf)
{
    return conf->http_reachable ? conf->http01_problem
           : "the server seems not to be reachable on public port 80: add 'Listen 80', or "
             "'MDPortMap 80:<port>' with the local port where it arrives";
}

/* RFC 8737 3. */
static const char *lack_of_acme_tls(const md_solver_conf_t *conf)
{
    if (conf->acme_tls->nelts > 0)
        return NULL;
    return conf->alpn_problem ? conf->alpn_problem
           : "no https vhost of the domain on port 443 speaks the protocol '" MD_ALPN_ACME "'";
}

static const char *alpn_problem(const md_solver_conf_t *conf)
{
    return conf->https_reachable ? lack_of_acme_tls(conf)
           : "the server seems not to be reachable on public port 443: add 'Listen 443', or "
             "'MDPortMap 443:<port>' with the local port where it arrives";
}

static const char *dns01_problem(const md_solver_conf_t *conf)
{
    return conf->dns01_problem;
}

static apr_status_t http01_setup(task_t *task, md_err_t *err, apr_pool_t *p)
{
    const char *name = task->identifier->value, *there;
    const md_store_t *store = task->conf->store;
    apr_size_t len;

    if (task->conf->http01_problem)
        return md_fail(err, APR_ENOTIMPL, "http-01 cannot be answered, as %s",
                       task->conf->http01_problem);
    if (md_store_load_text(&there, &len, store, MD_STORE_CHALLENGES, name, MD_HTTP01_FILE,
                           MD_MAX_CHALLENGE, NULL, p) == APR_SUCCESS
        && !strcmp(there, task->key_authz))
        return APR_SUCCESS;
    return md_store_save_text(store, MD_STORE_CHALLENGES, name, MD_HTTP01_FILE, task->key_authz,
                              err, p);
}

static void remove_directory(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_store_remove(store, MD_STORE_CHALLENGES, name, NULL, p);
}

/* RFC 8737 3: a certificate for each key type, as the server may answer with any of them. */
static apr_status_t alpn_setup(task_t *task, md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *specs = task->conf->key_specs;
    const md_key_spec_t *spec;
    unsigned char digest[32];
    md_cert_t *cert;
    md_key_t *key;
    apr_status_t rv = APR_SUCCESS;
    int i;

    if (lack_of_acme_tls(task->conf))
        return md_fail(err, APR_ENOTIMPL, "tls-alpn-01 cannot be answered, as %s",
                       lack_of_acme_tls(task->conf));
    /* All that is there is shown, so nothing of an earlier token may be left. */
    remove_directory(task->conf->store, task->identifier->value, p);
    md_sha256(digest, task->key_authz, strlen(task->key_authz));
    for (i = 0; i < specs->nelts && rv == APR_SUCCESS; ++i) {
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        rv = md_key_generate(&key, spec, err, p);
        if (rv == APR_SUCCESS)
            rv = md_cert_make_alpn(&cert, task->identifier, digest, key, err, p);
        if (rv == APR_SUCCESS)
            rv = md_store_save_volatile(task->conf->store, MD_STORE_CHALLENGES,
                                        task->identifier->value,
                                        md_key_spec_file(spec, ALPN_PRIVKEY, p), key,
                                        md_key_spec_file(spec, ALPN_PUBCERT, p), cert, err, p);
    }
    return rv;
}

/* RFC 8555 8.4. */
static apr_status_t dns01_setup(task_t *task, md_err_t *err, apr_pool_t *p)
{
    const char *name = task->identifier->value;
    unsigned char digest[32];

    if (task->conf->dns01_problem)
        return md_fail(err, APR_ENOTIMPL, "dns-01 cannot be used, as %s",
                       task->conf->dns01_problem);
    md_sha256(digest, task->key_authz, strlen(task->key_authz));
    task->value = md_base64url_encode(digest, sizeof(digest), p);
    if (!md_txt_want(task->conf->records, name, task->value))
        return md_fail(err, APR_EGENERAL, "there can be no TXT record for '%s'", name);
    if (task->conf->check)
        md_txt_check_want(task->conf->check, name, task->value);
    return APR_SUCCESS;
}

static apr_status_t dns01_complete(const md_solver_conf_t *conf, const char *name,
                                   const char *value, apr_interval_time_t *pwait, md_err_t *err)
{
    apr_status_t rv = md_txt_set_up(conf->records, pwait, err);

    if (rv == APR_SUCCESS && conf->check
        && md_txt_check_step(conf->check, pwait, conf->hint, conf->baton))
        return APR_EAGAIN;
    return rv == APR_SUCCESS ? md_txt_result(conf->records, name, value, err) : rv;
}

/* A row for each type that we can set up, in automatic order. What takes a while is for `complete`;
 * NULL: nothing. */
enum { PROVES_NAME = 1, PROVES_WILDCARD = 2, PROVES_ADDRESS = 4 };
static const struct {
    const char *type;
    int proves;
    const char *(*problem)(const md_solver_conf_t *conf);
    apr_status_t (*setup)(task_t *task, md_err_t *err, apr_pool_t *p);
    apr_status_t (*complete)(const md_solver_conf_t *conf, const char *name, const char *value,
                             apr_interval_time_t *pwait, md_err_t *err);
    void (*teardown)(const md_store_t *store, const char *name, apr_pool_t *p);
} SOLVERS[] = {
    { "http-01", PROVES_NAME | PROVES_ADDRESS, http01_problem, http01_setup, NULL,
      remove_directory },
    { "tls-alpn-01", PROVES_NAME, alpn_problem, alpn_setup, NULL, remove_directory },
    { "dns-01", PROVES_NAME | PROVES_WILDCARD, dns01_problem, dns01_setup, dns01_complete, NULL },
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

/* BR 3.2.2.4 of the CA/B forum and RFC 8738: not each type for each identifier. */
static int proves(int solver, md_identifier_type_t type, int is_wildcard)
{
    int what = type == MD_IDENTIFIER_IP ? PROVES_ADDRESS
               : is_wildcard ? PROVES_WILDCARD : PROVES_NAME;

    return (SOLVERS[solver].proves & what) != 0;
}

static int can_prove(int solver, const md_authz_t *authz)
{
    return proves(solver, authz->identifier.type, authz->is_wildcard);
}

static apr_status_t setup_one(const char **psetup, const md_challenge_t *challenge, int solver,
                              const md_authz_t *authz, const char *thumbprint,
                              const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p)
{
    task_t task = { .conf = conf, .identifier = &authz->identifier };
    apr_status_t rv;

    if (is_failed(challenge))
        return md_fail(err, APR_EINVAL, "the CA has already rejected this challenge");
    if (challenge->objection)
        return md_fail(err, APR_EGENERAL, "%s", challenge->objection);
    /* RFC 8555 8.3: the token becomes part of answers, so it is what it has to be or nothing. */
    if (!challenge->token || !md_token_is_valid(challenge->token))
        return md_fail(err, APR_EINVAL, "the CA's token for %s is not valid", challenge->type);
    task.key_authz = apr_pstrcat(p, challenge->token, ".", thumbprint, NULL);
    rv = SOLVERS[solver].setup(&task, err, p);
    if (rv == APR_SUCCESS)
        *psetup = apr_pstrcat(p, SOLVERS[solver].type, ":", authz->identifier.value,
                              task.value ? " " : NULL, task.value, NULL);
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

/* What failed in the last attempt comes last. */
static apr_array_header_t *types_in_order(const md_solver_conf_t *conf, apr_pool_t *p)
{
    apr_array_header_t *types = md_strings_make(p);
    const char *type, *failed = NULL;
    int i;

    for (i = 0; i < conf->types->nelts; ++i) {
        type = APR_ARRAY_IDX(conf->types, i, const char *);
        if (conf->failed_type && !strcasecmp(type, conf->failed_type))
            failed = type;
        else
            APR_ARRAY_PUSH(types, const char *) = type;
    }
    if (failed)
        APR_ARRAY_PUSH(types, const char *) = failed;
    return types;
}

const char *md_solver_first(const md_solver_conf_t *conf, const md_identifier_t *identifier,
                            apr_pool_t *p)
{
    apr_array_header_t *types = types_in_order(conf, p);
    const char *type;
    int i, solver;

    for (i = 0; i < types->nelts; ++i) {
        type = APR_ARRAY_IDX(types, i, const char *);
        solver = solver_find(type, strlen(type));
        if (solver >= 0 && proves(solver, identifier->type,
                                  md_dns_name_is_wildcard(identifier->value)))
            return SOLVERS[solver].type;
    }
    return NULL;
}

apr_status_t md_solver_answer(const char **psetup, const md_identifier_t *identifier,
                              const char *type, const char *key_authz,
                              const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p)
{
    task_t task = { .conf = conf, .identifier = identifier, .key_authz = key_authz };
    int solver = solver_find(type, strlen(type));

    if (solver < 0 || !SOLVERS[solver].teardown)
        return md_fail(err, APR_ENOTIMPL, "answers of the type %s cannot be tried", type);
    *psetup = apr_pstrcat(p, type, ":", identifier->value, NULL);
    return SOLVERS[solver].setup(&task, err, p);
}

static apr_status_t fail_setup(const md_authz_t *authz, const md_solver_conf_t *conf,
                               const md_err_t *why, md_err_t *err, apr_pool_t *p)
{
    const char *name = authz->shown_name, *types = offered_types(authz, p);
    const char *reason = authz->is_wildcard ? "Wildcard names can only be validated by dns-01 "
                                              "(MDChallengeDns01)"
                         : why->detail;

    if (why->detail && !APR_STATUS_IS_ENOTIMPL(why->rv))
        return md_fail_problem(err, why->rv, "challenge-setup-failure",
                               "None of the challenge types '%s' that the CA offered for domain "
                               "%s could be set up; the last failure: %s", types, name,
                               why->detail);
    return md_fail_problem(err, APR_EINVAL, "challenge-mismatch",
                           "None of offered challenge types for domain %s are supported. The CA "
                           "offered '%s' and available are: '%s'.%s%s", name, types,
                           apr_array_pstrcat(p, conf->types, ' '), reason ? " " : "",
                           reason ? reason : "");
}

apr_status_t md_solver_setup(const md_challenge_t **pchallenge, const char **psetup,
                             const md_authz_t *authz, const char *thumbprint,
                             const md_solver_conf_t *conf, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *types = types_in_order(conf, p);
    md_err_t why, failure;
    const char *type;
    int i, solver;

    md_err_init(&why, p);
    md_err_init(&failure, p);
    for (i = 0; i < types->nelts; ++i) {
        type = APR_ARRAY_IDX(types, i, const char *);
        solver = solver_find(type, strlen(type));
        *pchallenge = md_authz_challenge(authz, type);
        if (solver < 0 || !*pchallenge || !can_prove(solver, authz))
            continue;
        if (setup_one(psetup, *pchallenge, solver, authz, thumbprint, conf, &why, p)
            == APR_SUCCESS)
            return APR_SUCCESS;
        if (!failure.detail || !APR_STATUS_IS_ENOTIMPL(why.rv))
            md_err_copy(&failure, &why);
        md_log(MD_LOG_INFO, "%s: setting up challenge %s: %s", authz->shown_name, type,
               why.detail);
    }
    return fail_setup(authz, conf, &failure, err, p);
}

apr_array_header_t *md_solver_usable(const md_solver_conf_t *conf, const char **pwhy, apr_pool_t *p)
{
    apr_array_header_t *types = md_strings_make(p);
    const char *problem, *why = "";
    int i;

    *pwhy = NULL;
    for (i = 0; i < SOLVER_COUNT; ++i) {
        if (conf->types && !md_strings_has_nocase(conf->types, SOLVERS[i].type))
            continue;
        problem = SOLVERS[i].problem(conf);
        if (problem)
            why = apr_psprintf(p, "%sThe challenge type '%s' is disabled because %s. ", why,
                               SOLVERS[i].type, problem);
        else
            APR_ARRAY_PUSH(types, const char *) = SOLVERS[i].type;
    }
    if (types->nelts == 0)
        *pwhy = apr_pstrcat(p, "None of the ACME challenge methods configured for this domain are "
                            "suitable. ", why, NULL);
    return types;
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

/* Of a setup; *pname is what stands behind the type. */
static int solver_of(const char **pname, const char *setup)
{
    const char *colon = strchr(setup, ':');

    *pname = colon ? colon + 1 : NULL;
    return colon ? solver_find(setup, (size_t)(colon - setup)) : -1;
}

apr_status_t md_solver_complete(const md_solver_conf_t *conf, const char *setup,
                                apr_interval_time_t *pwait, md_err_t *err, apr_pool_t *p)
{
    const char *name, *blank;
    int solver = solver_of(&name, setup);

    if (solver < 0 || !SOLVERS[solver].complete)
        return APR_SUCCESS;
    blank = strchr(name, ' ');
    return SOLVERS[solver].complete(conf, apr_pstrmemdup(p, name, strcspn(name, " ")),
                                    blank ? blank + 1 : "", pwait, err);
}

void md_solver_teardown(const md_store_t *store, const char *setup, apr_pool_t *p)
{
    const char *name;
    int solver = solver_of(&name, setup);

    if (solver >= 0 && SOLVERS[solver].teardown)
        SOLVERS[solver].teardown(store, name, p);
}

/* ---- answers ---- */

static void add_alpn_pair(apr_array_header_t *pairs, const md_store_t *store, const char *name,
                          const char *cert_file)
{
    const char *suffix = cert_file + strlen(ALPN_PUBCERT);
    const char *key_file = apr_pstrcat(pairs->pool, ALPN_PRIVKEY, suffix, NULL);
    md_alpn_pair_t pair;
    apr_size_t len;

    if (md_store_load_text(&pair.cert, &len, store, MD_STORE_CHALLENGES, name, cert_file,
                           MD_MAX_CHALLENGE, NULL, pairs->pool) == APR_SUCCESS
        && md_store_load_text(&pair.key, &len, store, MD_STORE_CHALLENGES, name, key_file,
                              MD_MAX_CHALLENGE, NULL, pairs->pool) == APR_SUCCESS)
        APR_ARRAY_PUSH(pairs, md_alpn_pair_t) = pair;
}

/* The RSA pair's files have no key name, others follow: this order is the one CAs prefer. */
apr_array_header_t *md_solver_alpn_pairs(const md_store_t *store, const char *name, apr_pool_t *p)
{
    static const char RSA[] = ALPN_PUBCERT ".pem";
    apr_array_header_t *pairs = apr_array_make(p, 2, sizeof(md_alpn_pair_t));
    const apr_array_header_t *files;
    const char *file;
    int i;

    if (!md_path_part_is_safe(name))
        return pairs;
    files = md_store_files(store, MD_STORE_CHALLENGES, name, p);
    if (md_strings_has(files, RSA))
        add_alpn_pair(pairs, store, name, RSA);
    for (i = 0; i < files->nelts && pairs->nelts < MD_MAX_ALPN_PAIRS; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (!strncmp(file, ALPN_PUBCERT, strlen(ALPN_PUBCERT)) && strcmp(file, RSA))
            add_alpn_pair(pairs, store, name, file);
    }
    return pairs;
}
