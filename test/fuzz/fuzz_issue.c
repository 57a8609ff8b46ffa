/* SPDX-License-Identifier: Apache-2.0 */
/* An issuance from the directory to the chain, whatever the CA answers. The first part of an input
 * says what an earlier run left: k: a private key, a: an account, o: an order, whose document is
 * the next part; with u, an account is in use already. The rest are answers. */
#include "ca.h"

#include "../../md_acme_order.h"
#include "../../md_limits.h"
#include "../../md_log.h"
#include "fuzz.h"

#define NAME  "one.example.org"
#define TURNS 1000

static md_store_t *store;
static md_acct_t *used;

static void empty(md_store_group_t group, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(store, group, p);
    int i;

    for (i = 0; i < names->nelts; ++i)
        md_store_remove(store, group, APR_ARRAY_IDX(names, i, const char *), NULL, p);
}

static void stage(const char *file, const char *text, apr_pool_t *p)
{
    holds(md_store_save_text(store, MD_STORE_STAGING, NAME, file, text, NULL, p) == APR_SUCCESS);
}

static void stage_account(apr_pool_t *p)
{
    stage("account.json", "{\"status\":\"valid\",\"url\":\"" CA "/acct/1\",\"ca-url\":\"" CA
          "/dir\",\"contact\":[\"mailto:admin@example.org\"]}", p);
    stage("account.pem", fuzz_key_pem(), p);
}

void fuzz_start(apr_pool_t *p)
{
    store = fuzz_store(p);
    stage_account(p);
    holds(md_acct_load(&used, store, MD_STORE_STAGING, NAME, NULL, p) == APR_SUCCESS);
    used->status = "valid";
}

static void prepare(const char *left, fuzz_parts_t *parts, apr_pool_t *p)
{
    const char *order;
    size_t len;

    empty(MD_STORE_STAGING, p);
    empty(MD_STORE_CHALLENGES, p);
    empty(MD_STORE_ACCOUNTS, p);
    if (strchr(left, 'k'))
        stage("privkey.p-256.pem", fuzz_key_pem(), p);
    if (strchr(left, 'a'))
        stage_account(p);
    order = strchr(left, 'o') ? fuzz_part(&len, parts, p) : NULL;
    if (order)
        stage("order.json", order, p);
}

static apr_array_header_t *words(const char *word, apr_pool_t *p)
{
    apr_array_header_t *list = md_strings_make(p);

    APR_ARRAY_PUSH(list, const char *) = word;
    return list;
}

static md_acct_use_t *use_make(int is_used, apr_pool_t *p)
{
    const md_acct_t *acct;
    md_acct_use_t *use;
    apr_pool_t *own;

    apr_pool_create(&own, p);
    use = md_acct_use_create(NULL, own);
    holds(use);
    if (is_used && md_acct_use_begin(&acct, use))
        md_acct_use_end(use, used);
    return use;
}

static md_issue_t *issue_make(md_acme_t *acme, int is_used, apr_pool_t *p)
{
    md_issue_t *issue = apr_pcalloc(p, sizeof(*issue));
    apr_array_header_t *specs = apr_array_make(p, 1, sizeof(md_key_spec_t));

    APR_ARRAY_PUSH(specs, md_key_spec_t) = (md_key_spec_t){ .type = MD_KEY_EC, .curve = "P-256" };
    issue->p = p;
    issue->store = store;
    issue->name = NAME;
    issue->acme = acme;
    issue->use = use_make(is_used, p);
    issue->wish.ca_url = CA "/dir";
    issue->wish.contacts = words("mailto:admin@example.org", p);
    issue->wish.agreement = MD_TERMS_ACCEPTED;
    issue->identifiers = md_identifiers_of(words(NAME, p), p);
    issue->key_specs = specs;
    issue->profile = "Classic";
    issue->solver = (md_solver_conf_t){ .store = store, .types = words("http-01", p),
                                        .key_specs = specs, .acme_tls = md_strings_make(p),
                                        .http_reachable = 1, .https_reachable = 1 };
    return issue;
}

/* Until it is over, in time that flies. */
static md_step_t run(md_issue_t *issue, md_err_t *err)
{
    apr_time_t now = apr_time_now();
    md_step_t step = MD_STEP_AGAIN;
    int turns;

    for (turns = 0; turns < TURNS && (step == MD_STEP_AGAIN || step == MD_STEP_WAIT); ++turns) {
        step = md_issue_step(issue, now, err);
        holds(step == MD_STEP_FAILED || err->rv == APR_SUCCESS);
        if (step != MD_STEP_WAIT)
            continue;
        holds(issue->wake_at > now && issue->wake_at <= now + MD_MAX_RETRY_AFTER
                                                         + apr_time_from_sec(600));
        now = issue->wake_at;
    }
    holds(turns < TURNS && issue->activity && *issue->activity);
    return step;
}

/* Nothing was touched but what belongs to this name. */
static void check_left(const char *left, md_step_t step, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(store, MD_STORE_CHALLENGES, p), *chain;
    apr_status_t rv = md_order_check(store, NAME, NULL, p);

    holds(names->nelts <= 1 && (names->nelts == 0 || md_strings_has(names, NAME)));
    holds(strchr(left, 'o') || rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv));
    if (step == MD_STEP_DONE)
        holds(md_store_load_chain(&chain, NULL, store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem",
                                  NULL, p) == APR_SUCCESS);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    fuzz_parts_t parts = { data, data + len };
    const char *left = fuzz_part(&len, &parts, p);
    md_step_t step = MD_STEP_FAILED;
    md_err_t err = fuzz_err(p);
    md_acme_t *acme;
    int attempt;

    prepare(left, &parts, p);
    acme = parts.at ? ca_make(parts.at, (size_t)(parts.end - parts.at), 1, p)
                    : ca_make("", 0, 1, p);
    for (attempt = 0; attempt < 3 && step == MD_STEP_FAILED; ++attempt) {
        md_err_clear(&err);
        step = run(issue_make(acme, strchr(left, 'u') != NULL, p), &err);
        holds(step == MD_STEP_DONE || (err.rv != APR_SUCCESS && err.detail));
        md_log(MD_LOG_DEBUG, "attempt %d: %s", attempt + 1, err.detail ? err.detail : "done");
        check_left(left, step, p);
    }
}
