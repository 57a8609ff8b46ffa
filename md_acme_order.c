/* SPDX-License-Identifier: Apache-2.0 */
/* The order and its step table. */
#include "md_acme_order.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_cert.h"
#include "md_csr.h"
#include "md_log.h"
#include "md_text.h"
#include "md_time.h"

#define ORDER_JSON "order.json"
#define SETUP_WAIT apr_time_from_msec(20)  /* another run talks to the CA for the first time */
#define POLL_FIRST apr_time_from_msec(100) /* doubled for each poll without progress */
#define POLL_MOST  apr_time_from_sec(10)
#define POLL_TOTAL apr_time_from_sec(120)  /* then it is an error; the order is kept */

typedef md_step_t step_fn(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp);

static const char *const ORDER_STATUS[] = {
    [MD_ORDER_PENDING]    = "pending",
    [MD_ORDER_READY]      = "ready",
    [MD_ORDER_PROCESSING] = "processing",
    [MD_ORDER_VALID]      = "valid",
    [MD_ORDER_INVALID]    = "invalid",
};
_Static_assert(sizeof(ORDER_STATUS) / sizeof(ORDER_STATUS[0]) == MD_ORDER_STATUS_MAX,
               "one name per order status");

/* ---- the order as a document ---- */

static apr_status_t status_parse(md_order_status_t *pstatus, const char *text)
{
    int i;

    for (i = 0; text && i < MD_ORDER_STATUS_MAX; ++i) {
        if (!strcmp(text, ORDER_STATUS[i])) {
            *pstatus = i;
            return APR_SUCCESS;
        }
    }
    return APR_EINVAL;
}

static const char *url_member(const md_json_t *json, const char *member, apr_pool_t *p)
{
    const char *url = md_json_get_str(json, member);

    return url && !md_uri_check_http(url, p) ? apr_pstrdup(p, url) : NULL;
}

/* RFC 8555 7.1.3, of an answer or of order.json. */
static apr_status_t order_parse(md_order_t **porder, const char *url, const md_json_t *json,
                                md_err_t *err, apr_pool_t *p)
{
    md_order_t *order = apr_pcalloc(p, sizeof(*order));
    const char *status = md_json_get_str(json, "status");

    order->url = apr_pstrdup(p, url);
    if (!json)
        return md_fail(err, APR_EINVAL, "order %s: the answer is no JSON", url);
    if (status_parse(&order->status, status) != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "order %s has the unknown status '%s'", url,
                       status ? status : "");
    order->authorizations = md_json_get_strings(json, "authorizations", p);
    if (!order->authorizations)
        order->authorizations = md_strings_make(p);
    if (order->authorizations->nelts > MD_MAX_NAMES)
        return md_fail(err, APR_EINVAL, "order %s has more than %d authorizations", url,
                       MD_MAX_NAMES);
    order->finalize = url_member(json, "finalize", p);
    order->certificate = url_member(json, "certificate", p);
    if (md_json_get_str(json, "expires"))
        order->expires = md_time_parse_rfc3339(md_json_get_str(json, "expires"));
    order->setups = md_json_get_strings(json, "challenge-setups", p);
    if (!order->setups)
        order->setups = md_strings_make(p);
    order->error = md_json_get(json, "error", p);
    *porder = order;
    return APR_SUCCESS;
}

static apr_status_t order_save(const md_issue_t *issue, const md_order_t *order, md_err_t *err,
                               apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "url", order->url);
    md_json_set_str(json, "status", ORDER_STATUS[order->status]);
    md_json_set_strings(json, "authorizations", order->authorizations);
    md_json_set_strings(json, "challenge-setups", order->setups);
    md_json_set_str(json, "finalize", order->finalize);
    md_json_set_str(json, "certificate", order->certificate);
    return md_store_save_json(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON, json, err,
                              p);
}

apr_status_t md_order_check(const md_store_t *store, const char *name, md_err_t *err, apr_pool_t *p)
{
    static const md_json_rule_t RULES[] = {
        { "url", MD_JSON_STRING, 1 }, { "status", MD_JSON_STRING, 0 },
        { "authorizations", MD_JSON_STRINGS, 0 }, { "challenge-setups", MD_JSON_STRINGS, 0 },
        { "finalize", MD_JSON_STRING, 0 }, { "certificate", MD_JSON_STRING, 0 },
        { NULL, MD_JSON_STRING, 0 }
    };
    md_json_t *json;
    apr_status_t rv;

    rv = md_store_load_json(&json, store, MD_STORE_STAGING, name, ORDER_JSON, err, p);
    return rv == APR_SUCCESS ? md_store_check_json(json, store, MD_STORE_STAGING, name, ORDER_JSON,
                                                   RULES, err, p) : rv;
}

void md_order_drop(const md_store_t *store, const char *name, apr_pool_t *p)
{
    apr_array_header_t *setups;
    md_json_t *json;
    int i;

    if (md_store_load_json(&json, store, MD_STORE_STAGING, name, ORDER_JSON, NULL, p)
        == APR_SUCCESS) {
        setups = md_json_get_strings(json, "challenge-setups", p);
        for (i = 0; setups && i < setups->nelts; ++i)
            md_solver_teardown(store, APR_ARRAY_IDX(setups, i, const char *), p);
    }
    md_store_remove(store, MD_STORE_STAGING, name, ORDER_JSON, p);
}

/* ---- the order in an issuance ---- */

static void forget_order(md_issue_t *issue)
{
    issue->order = NULL;
    if (issue->order_pool)
        apr_pool_destroy(issue->order_pool);
    issue->order_pool = NULL;
    issue->order_is_resumed = 0;
    issue->authz_done = 0;
    issue->polls = 0;
}

static void drop_order(md_issue_t *issue, apr_pool_t *tmp)
{
    md_order_drop(issue->store, issue->name, tmp);
    forget_order(issue);
}

/* An order from an earlier run that cannot be continued makes room for a new one; one of this run
 * is the failure that it is. */
static md_step_t give_up_order(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    int was_resumed = issue->order_is_resumed;

    drop_order(issue, tmp);
    if (!was_resumed)
        return MD_STEP_FAILED;
    md_log(MD_LOG_DEBUG, err->rv, "md[%s]: earlier order dropped: %s", issue->name,
           err->detail ? err->detail : "");
    md_err_clear(err);
    return MD_STEP_AGAIN;
}

/* Take the CA's view of the order; what we set up for it is only known here. */
static apr_status_t see_order(md_issue_t *issue, const md_json_t *json, md_err_t *err)
{
    md_order_t *old = issue->order, *order;
    apr_pool_t *p;
    apr_status_t rv;

    apr_pool_create(&p, issue->p);
    rv = order_parse(&order, old->url, json, err, p);
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(p);
        return rv;
    }
    order->setups = md_strings_copy(old->setups, p);
    if (order->status != old->status)
        issue->polls = 0;
    if (order->authorizations->nelts == 0)
        order->authorizations = md_strings_copy(old->authorizations, p);
    apr_pool_destroy(issue->order_pool);
    issue->order_pool = p;
    issue->order = order;
    return APR_SUCCESS;
}

static apr_status_t fetch(md_reply_t **preply, const md_issue_t *issue, const char *url,
                          const char *accept, apr_size_t max, md_err_t *err, apr_pool_t *tmp)
{
    return md_acme_fetch(preply, issue->acme, md_acct_signer(issue->acct), url, accept, max, err,
                         tmp);
}

static apr_status_t post(md_reply_t **preply, const md_issue_t *issue, const char *url,
                         const md_json_t *payload, md_err_t *err, apr_pool_t *tmp)
{
    return md_acme_post(preply, issue->acme, md_acct_signer(issue->acct), url, payload, err, tmp);
}

static apr_status_t refresh_order(md_issue_t *issue, apr_time_t *pretry_after, md_err_t *err,
                                  apr_pool_t *tmp)
{
    md_reply_t *reply;
    apr_status_t rv;

    rv = fetch(&reply, issue, issue->order->url, NULL, MD_MAX_ACME_BODY, err, tmp);
    if (rv != APR_SUCCESS)
        return rv;
    *pretry_after = reply->retry_after;
    return see_order(issue, reply->json, err);
}

/* Wait for the CA: a quick look first, as it may be done already; then as long as it asks (RFC
 * 8555 7.5.1), else ever longer. */
static md_step_t wait_for_ca(md_issue_t *issue, apr_time_t now, apr_time_t retry_after,
                             md_err_t *err)
{
    apr_interval_time_t delay = POLL_FIRST << (issue->polls < 7 ? issue->polls : 7);

    if (issue->polls == 0) {
        issue->poll_since = now;
        retry_after = 0;
    }
    if (now - issue->poll_since > POLL_TOTAL) {
        md_fail(err, APR_TIMEUP, "the CA still reports order %s as '%s' after %d seconds; it is "
                "looked at again with the next attempt", issue->order->url,
                ORDER_STATUS[issue->order->status], (int)apr_time_sec(POLL_TOTAL));
        return MD_STEP_FAILED;
    }
    ++issue->polls;
    issue->wake_at = now + (delay < POLL_MOST ? delay : POLL_MOST);
    if (retry_after > issue->wake_at)
        issue->wake_at = retry_after;
    return MD_STEP_WAIT;
}

static md_step_t poll_order(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_order_status_t before = issue->order->status;
    apr_time_t retry_after;

    if (issue->polls == 0)
        return wait_for_ca(issue, now, 0, err);
    if (refresh_order(issue, &retry_after, err, tmp) != APR_SUCCESS)
        return MD_STEP_FAILED;
    if (issue->order->status != before)
        return MD_STEP_AGAIN;
    return wait_for_ca(issue, now, retry_after, err);
}

/* ---- files of the key spec in work ---- */

static const md_key_spec_t *spec_of(const md_issue_t *issue)
{
    return &APR_ARRAY_IDX(issue->key_specs, issue->spec, md_key_spec_t);
}

static apr_status_t load_key(md_key_t **pkey, const md_issue_t *issue, md_err_t *err,
                             apr_pool_t *p)
{
    return md_store_load_key(pkey, issue->store, MD_STORE_STAGING, issue->name,
                             md_key_spec_file(spec_of(issue), "privkey", p), err, p);
}

/* The staged key, made if there is none (or none that can be read): saved before the CA sees it. */
static apr_status_t have_key(md_key_t **pkey, const md_issue_t *issue, md_err_t *err,
                             apr_pool_t *p)
{
    const char *file = md_key_spec_file(spec_of(issue), "privkey", p), *aside;
    apr_status_t rv;

    rv = load_key(pkey, issue, err, p);
    if (rv == APR_SUCCESS)
        return rv;
    if (!APR_STATUS_IS_ENOENT(rv)) {
        md_log(MD_LOG_WARNING, rv, "md[%s]: making a new key: %s", issue->name, err->detail);
        (void)md_store_put_aside(&aside, issue->store, MD_STORE_STAGING, issue->name, file, p);
    }
    md_err_clear(err);
    rv = md_key_generate(pkey, spec_of(issue), err, p);
    if (rv != APR_SUCCESS)
        return rv;
    return md_store_save_key(issue->store, MD_STORE_STAGING, issue->name, file, *pkey, err, p);
}

static int has_pair(const md_store_t *store, const char *name, const md_key_spec_t *spec,
                    apr_pool_t *p)
{
    return md_store_exists(store, MD_STORE_STAGING, name, md_key_spec_file(spec, "privkey", p), p)
           && md_store_exists(store, MD_STORE_STAGING, name,
                              md_key_spec_file(spec, "pubcert", p), p);
}

int md_issue_is_complete(const md_store_t *store, const char *name,
                         const apr_array_header_t *key_specs, apr_pool_t *p)
{
    int i;

    for (i = 0; i < key_specs->nelts; ++i)
        if (!has_pair(store, name, &APR_ARRAY_IDX(key_specs, i, md_key_spec_t), p))
            return 0;
    return 1;
}

/* ---- steps before there is an order ---- */

/* Directory and account. */
static apr_status_t set_up_ca(const md_acct_t **pacct, md_issue_t *issue, apr_time_t now,
                              md_err_t *err, apr_pool_t *tmp)
{
    md_acct_t *found;
    apr_status_t rv;

    issue->activity = "Contacting ACME server";
    rv = md_acme_load_directory(issue->acme, now, err, tmp);
    if (rv != APR_SUCCESS || *pacct)
        return rv;
    issue->activity = "Selecting account to use";
    rv = md_acct_select(&found, issue->acme, issue->store, issue->name, &issue->wish, err, tmp);
    if (rv == APR_SUCCESS)
        *pacct = found;
    return rv;
}

static md_step_t step_connect(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const md_acct_t *acct;
    apr_status_t rv;

    if (!md_acct_use_begin(&acct, issue->use)) {
        issue->wake_at = now + SETUP_WAIT;
        return MD_STEP_WAIT;
    }
    rv = set_up_ca(&acct, issue, now, err, tmp);
    md_acct_use_end(issue->use, acct);
    return rv == APR_SUCCESS ? MD_STEP_AGAIN : MD_STEP_FAILED;
}

/* The spelling of the CA, NULL if it does not offer the profile (draft-ietf-acme-profiles). */
static const char *offered_profile(const md_directory_t *dir, const char *profile)
{
    int i;

    for (i = 0; profile && i < dir->profiles->nelts; ++i)
        if (!strcasecmp(APR_ARRAY_IDX(dir->profiles, i, const char *), profile))
            return APR_ARRAY_IDX(dir->profiles, i, const char *);
    return NULL;
}

static md_json_t *new_order_payload(const md_issue_t *issue, const char *profile, apr_pool_t *p)
{
    md_json_t *payload = md_json_object(p), *identifiers = md_json_array(p), *identifier;
    int i;

    for (i = 0; i < issue->names->nelts; ++i) {
        identifier = md_json_object(p);
        md_json_set_str(identifier, "type", "dns");
        md_json_set_str(identifier, "value", APR_ARRAY_IDX(issue->names, i, const char *));
        md_json_append(identifiers, identifier);
    }
    md_json_set(payload, "identifiers", identifiers);
    md_json_set_str(payload, "profile", profile);
    return payload;
}

static apr_status_t post_new_order(md_reply_t **preply, md_issue_t *issue, md_err_t *err,
                                   apr_pool_t *tmp)
{
    const md_directory_t *dir = md_acme_directory(issue->acme);
    const char *profile = offered_profile(dir, issue->profile);
    apr_status_t rv;

    issue->activity = apr_psprintf(issue->p, "Creating new order, key-spec=%s, profile=%s, "
                                   "replacing-cert=none",
                                   spec_of(issue)->type == MD_KEY_DEFAULT
                                       ? "default" : md_key_spec_name(spec_of(issue)),
                                   issue->profile ? issue->profile : "none");
    if (issue->profile && issue->profile_mandatory && !profile)
        return md_fail(err, APR_EINVAL, "mandatory ACME profile '%s' is not offered by CA",
                       issue->profile);
    rv = post(preply, issue, dir->new_order, new_order_payload(issue, profile, tmp), err, tmp);
    if (rv != APR_SUCCESS)
        return rv;
    if (!(*preply)->location || md_uri_check_http((*preply)->location, tmp))
        return md_fail(err, APR_EINVAL, "newOrder: no order URL in the answer");
    return APR_SUCCESS;
}

/* RFC 8555 7.4. */
static md_step_t create_order(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    md_reply_t *reply;
    apr_pool_t *p;

    if (post_new_order(&reply, issue, err, tmp) != APR_SUCCESS)
        return MD_STEP_FAILED;
    apr_pool_create(&p, issue->p);
    if (order_parse(&issue->order, reply->location, reply->json, err, p) != APR_SUCCESS
        || order_save(issue, issue->order, err, tmp) != APR_SUCCESS) {
        issue->order = NULL;
        apr_pool_destroy(p);
        return MD_STEP_FAILED;
    }
    issue->order_pool = p;
    return MD_STEP_AGAIN;
}

/* Is it an order for our names? The CA may list them in any sequence. */
static int order_is_ours(const md_issue_t *issue, const md_json_t *json, apr_pool_t *tmp)
{
    md_json_t *list = md_json_get(json, "identifiers", tmp);
    apr_array_header_t *values = md_strings_make(tmp);
    const char *value;
    apr_size_t i;
    int k;

    if (!list)
        return 1;
    for (i = 0; i < md_json_size(list) && i <= MD_MAX_NAMES; ++i) {
        value = md_json_get_str(md_json_at(list, i, tmp), "value");
        APR_ARRAY_PUSH(values, const char *) = value ? value : "";
    }
    values = md_names_normalise(values, tmp);
    if (values->nelts != issue->names->nelts)
        return 0;
    for (k = 0; k < issue->names->nelts; ++k)
        if (!md_strings_has(values, APR_ARRAY_IDX(issue->names, k, const char *)))
            return 0;
    return 1;
}

/* The order of an earlier run, as the CA sees it now. */
static md_step_t resume_order(md_issue_t *issue, const md_json_t *staged, apr_time_t now,
                              md_err_t *err, apr_pool_t *tmp)
{
    const char *url = url_member(staged, "url", tmp);
    md_reply_t *reply;
    apr_status_t rv;

    issue->order_is_resumed = 1;
    apr_pool_create(&issue->order_pool, issue->p);
    rv = url ? order_parse(&issue->order, url, staged, err, issue->order_pool)
             : md_fail(err, APR_EINVAL, "staged order without URL");
    if (rv != APR_SUCCESS)
        return give_up_order(issue, err, tmp);
    rv = fetch(&reply, issue, url, NULL, MD_MAX_ACME_BODY, err, tmp);
    if (APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_EACCES(rv))
        return give_up_order(issue, err, tmp);
    if (rv == APR_SUCCESS)
        rv = see_order(issue, reply->json, err);
    if (rv != APR_SUCCESS) {
        forget_order(issue);
        return MD_STEP_FAILED;
    }
    if (issue->order->expires && issue->order->expires < now
        && issue->order->status != MD_ORDER_VALID) {
        md_fail(err, APR_EINVAL, "the order expired");
        return give_up_order(issue, err, tmp);
    }
    if (!order_is_ours(issue, reply->json, tmp)) {
        md_fail(err, APR_EINVAL, "the order is for other names");
        return give_up_order(issue, err, tmp);
    }
    return MD_STEP_AGAIN;
}

static md_step_t step_order(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_json_t *staged;
    apr_status_t rv;

    issue->acct = md_acct_use_get(issue->use);
    if (!issue->acct || !md_acme_has_directory(issue->acme))
        return step_connect(issue, now, err, tmp);
    issue->activity = "Loading order from staging";
    rv = md_store_load_json(&staged, issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON, err,
                            tmp);
    if (rv == APR_SUCCESS)
        return resume_order(issue, staged, now, err, tmp);
    if (!APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, rv, "md[%s]: %s; placing a new order", issue->name, err->detail);
    md_err_clear(err);
    return create_order(issue, err, tmp);
}

/* ---- steps of an order (RFC 8555 7.1.6) ---- */

static apr_status_t remember_setup(md_issue_t *issue, const char *setup, md_err_t *err,
                                   apr_pool_t *tmp)
{
    if (md_strings_has(issue->order->setups, setup))
        return APR_SUCCESS;
    APR_ARRAY_PUSH(issue->order->setups, const char *) = apr_pstrdup(issue->order_pool, setup);
    return order_save(issue, issue->order, err, tmp);
}

static apr_status_t authorize(md_issue_t *issue, const char *url, md_err_t *err, apr_pool_t *tmp)
{
    md_signer_t signer = md_acct_signer(issue->acct);
    const md_challenge_t *challenge;
    const char *setup;
    md_authz_t *authz;
    apr_status_t rv;

    rv = md_authz_fetch(&authz, issue->acme, signer, url, err, tmp);
    if (rv != APR_SUCCESS || authz->status == MD_AUTHZ_VALID)
        return rv;
    issue->activity = apr_psprintf(issue->p, "Setting up challenge for domain %s", authz->name);
    rv = md_solver_setup(&challenge, &setup, authz, issue->acct->thumbprint, &issue->solver, err,
                         tmp);
    if (rv == APR_SUCCESS)
        rv = remember_setup(issue, setup, err, tmp);
    if (rv != APR_SUCCESS)
        return rv;
    if (challenge->status && strcmp(challenge->status, "pending"))
        return APR_SUCCESS; /* told the CA in an earlier run */
    return md_challenge_answer(issue->acme, signer, challenge, err, tmp);
}

static md_step_t step_authorize(md_issue_t *issue, apr_time_t now, md_err_t *err,
                                apr_pool_t *tmp)
{
    const apr_array_header_t *urls = issue->order->authorizations;
    md_key_t *key;

    if (issue->authz_done < urls->nelts) {
        issue->activity = "Starting challenges for domains";
        if (authorize(issue, APR_ARRAY_IDX(urls, issue->authz_done, const char *), err, tmp)
            == APR_SUCCESS) {
            ++issue->authz_done;
            return MD_STEP_AGAIN;
        }
        return APR_STATUS_IS_EINVAL(err->rv) ? give_up_order(issue, err, tmp) : MD_STEP_FAILED;
    }
    issue->activity = "Monitoring challenge status";
    /* The CA is busy validating: the time for the work that takes us longest. */
    if (issue->polls == 0 && have_key(&key, issue, err, tmp) != APR_SUCCESS)
        return MD_STEP_FAILED;
    return poll_order(issue, now, err, tmp);
}

static md_step_t step_finalize(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_json_t *payload = md_json_object(tmp);
    md_reply_t *reply;
    const char *csr;
    md_key_t *key;
    apr_status_t rv;

    if (issue->polls > 0) /* told the CA already, but it goes on saying `ready` */
        return poll_order(issue, now, err, tmp);
    issue->activity = "Finalizing order, submitting CSR";
    if (!issue->order->finalize) {
        md_fail(err, APR_EINVAL, "order %s has no finalize URL", issue->order->url);
        return give_up_order(issue, err, tmp);
    }
    rv = have_key(&key, issue, err, tmp);
    if (rv == APR_SUCCESS)
        rv = md_csr_make(&csr, issue->names, issue->must_staple, key, err, tmp);
    if (rv != APR_SUCCESS)
        return MD_STEP_FAILED;
    md_json_set_str(payload, "csr", csr);
    rv = post(&reply, issue, issue->order->finalize, payload, err, tmp);
    if (rv != APR_SUCCESS && !md_problem_is(err, MD_PROBLEM_ORDER_NOT_READY))
        return MD_STEP_FAILED;
    /* The answer is the order (7.4); without a usable one the next poll tells. */
    if (rv == APR_SUCCESS && reply->json && see_order(issue, reply->json, err) != APR_SUCCESS)
        return MD_STEP_FAILED;
    md_err_clear(err);
    if (issue->order->status != MD_ORDER_READY)
        return MD_STEP_AGAIN;
    return wait_for_ca(issue, now, 0, err);
}

static md_step_t step_poll(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    issue->activity = "Waiting for order to become valid";
    return poll_order(issue, now, err, tmp);
}

/* RFC 8555 7.4.2. Nothing is staged that does not pass the checks. */
static apr_status_t download(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const char *file = md_key_spec_file(spec_of(issue), "pubcert", tmp);
    apr_array_header_t *chain;
    md_reply_t *reply;
    md_key_t *key;
    apr_status_t rv;

    rv = load_key(&key, issue, err, tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "the private key of the order is not in staging any more");
    rv = fetch(&reply, issue, issue->order->certificate, "application/pem-certificate-chain",
               MD_MAX_CHAIN_BODY, err, tmp);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_chain_from_pem(&chain, reply->body, reply->len, err, tmp);
    if (rv == APR_SUCCESS)
        rv = md_chain_check(chain, key, issue->names, now, err, tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "the certificate that the CA delivered at %s is refused: "
                       "%s", issue->order->certificate, apr_pstrdup(tmp, err->detail));
    return md_store_save_chain(issue->store, MD_STORE_STAGING, issue->name, file, chain, err, tmp);
}

static md_step_t step_download(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    issue->activity = "Retrieving certificate chain";
    if (!issue->order->certificate) {
        md_fail(err, APR_EINVAL, "order %s is valid but has no certificate URL",
                issue->order->url);
        return give_up_order(issue, err, tmp);
    }
    if (download(issue, now, err, tmp) != APR_SUCCESS)
        return APR_STATUS_IS_EINVAL(err->rv) ? give_up_order(issue, err, tmp) : MD_STEP_FAILED;
    drop_order(issue, tmp);
    ++issue->spec;
    return MD_STEP_AGAIN;
}

static md_step_t step_abandon(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const md_order_t *order = issue->order;
    const char *detail = md_json_get_str(order->error, "detail");

    (void)now;
    if (issue->order_is_resumed) {
        md_fail(err, APR_EINVAL, "the order is invalid");
        return give_up_order(issue, err, tmp);
    }
    md_authz_explain(issue->acme, md_acct_signer(issue->acct), order->authorizations, err, tmp);
    if (!err->type && detail) {
        md_fail_problem(err, APR_EINVAL, md_json_get_str(order->error, "type"), "%s", detail);
        md_err_set_subproblems(err, md_json_text(md_json_get(order->error, "subproblems", tmp), 1,
                                                 tmp));
    }
    return give_up_order(issue, err, tmp);
}

static step_fn *const STEP[] = {
    [MD_ORDER_PENDING]    = step_authorize,
    [MD_ORDER_READY]      = step_finalize,
    [MD_ORDER_PROCESSING] = step_poll,
    [MD_ORDER_VALID]      = step_download,
    [MD_ORDER_INVALID]    = step_abandon,
};
_Static_assert(sizeof(STEP) / sizeof(STEP[0]) == MD_ORDER_STATUS_MAX, "one step per status");

/* What the facts ask for. */
static md_step_t take_step(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    while (issue->spec < issue->key_specs->nelts
           && has_pair(issue->store, issue->name, spec_of(issue), tmp))
        ++issue->spec;
    if (issue->spec >= issue->key_specs->nelts) {
        drop_order(issue, tmp); /* one left by a crash right after the last chain was saved */
        return MD_STEP_DONE;
    }
    if (md_acme_hold_until(issue->acme) > now) {
        issue->wake_at = md_acme_hold_until(issue->acme);
        return MD_STEP_WAIT;
    }
    if (!issue->order)
        return step_order(issue, now, err, tmp);
    return STEP[issue->order->status](issue, now, err, tmp);
}

md_step_t md_issue_step(md_issue_t *issue, apr_time_t now, md_err_t *err)
{
    apr_pool_t *tmp;
    md_step_t step;

    apr_pool_create(&tmp, issue->p);
    step = take_step(issue, now, err, tmp);
    apr_pool_destroy(tmp);
    return step;
}
