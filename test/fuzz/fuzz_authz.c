/* SPDX-License-Identifier: Apache-2.0 */
/* Authorizations and the answers that are set up for them. */
#include "ca.h"

#include "../../md_acme_authz.h"
#include "../../md_limits.h"
#include "fuzz.h"

#define THUMBPRINT "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"

static md_store_t *store;

void fuzz_start(apr_pool_t *p)
{
    store = fuzz_store(p);
}

static md_solver_conf_t solver(const char *first, const char *second, apr_pool_t *p)
{
    md_solver_conf_t conf = { .store = store, .http_reachable = 1, .https_reachable = 1 };
    apr_array_header_t *types = md_strings_make(p), *names = md_strings_make(p);
    apr_array_header_t *specs = apr_array_make(p, 1, sizeof(md_key_spec_t));

    APR_ARRAY_PUSH(types, const char *) = first;
    APR_ARRAY_PUSH(types, const char *) = second;
    APR_ARRAY_PUSH(names, const char *) = "one.example.org";
    APR_ARRAY_PUSH(specs, md_key_spec_t) = (md_key_spec_t){ .type = MD_KEY_EC, .curve = "P-256" };
    conf.types = types;
    conf.acme_tls = names;
    conf.key_specs = specs;
    return conf;
}

/* What is set up is for this name alone, and goes away. */
static void check_setup(const md_authz_t *authz, apr_pool_t *p)
{
    const md_solver_conf_t conf = solver("http-01", "tls-alpn-01", p);
    const char *name = authz->identifier.value, *setup, *text;
    const md_challenge_t *challenge;
    md_err_t err = fuzz_err(p);
    apr_status_t rv;
    apr_size_t len;

    rv = md_solver_setup(&challenge, &setup, authz, THUMBPRINT, &conf, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    holds(md_path_part_is_safe(name) && md_token_is_valid(challenge->token));
    holds(md_store_names(store, MD_STORE_CHALLENGES, p)->nelts == 1);
    holds(md_store_exists(store, MD_STORE_CHALLENGES, name, NULL, p));
    if (md_store_load_text(&text, &len, store, MD_STORE_CHALLENGES, name, MD_HTTP01_FILE,
                           MD_MAX_CHALLENGE, NULL, p) == APR_SUCCESS)
        holds(!strcmp(text, apr_pstrcat(p, challenge->token, ".", THUMBPRINT, NULL)));
    md_solver_teardown(store, setup, p);
    holds(md_store_names(store, MD_STORE_CHALLENGES, p)->nelts == 0);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const md_signer_t signer = { .key = fuzz_key(), .kid = CA "/acct/1" };
    md_acme_t *acme = ca_make(data, len, 1, p);
    md_err_t err = fuzz_err(p);
    md_authz_t *authz;
    apr_status_t rv;

    holds(md_acme_load_directory(acme, apr_time_now(), &err, p) == APR_SUCCESS);
    rv = md_authz_fetch(&authz, acme, signer, CA "/authz/1", &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    holds(authz->challenges->nelts <= 20 && authz->status < MD_AUTHZ_STATUS_MAX);
    holds(md_path_part_is_safe(authz->identifier.value));
    (void)md_authz_failed_type(authz);
    rv = md_authz_check(authz, "http-01", &err, p);
    holds_with(rv, &err);
    check_setup(authz, p);
    if (authz->challenges->nelts > 0) {
        md_err_clear(&err);
        rv = md_challenge_answer(acme, signer, authz,
                                 &APR_ARRAY_IDX(authz->challenges, 0, md_challenge_t), &err, p);
        holds_with(rv, &err);
    }
}
