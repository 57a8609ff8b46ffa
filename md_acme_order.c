/* SPDX-License-Identifier: Apache-2.0 */
/* The order and its step table. */
#include "md_acme_order.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_acme_register.h"
#include "md_cert.h"
#include "md_clock.h"
#include "md_csr.h"
#include "md_log.h"
#include "md_text.h"
#include "md_time.h"

#define ORDER_JSON "order.json"
#define SETUP_WAIT apr_time_from_msec(20)  /* another run talks to the CA for the first time */
#define RESERVE      (24 * 1024)           /* bytes: a chain, an order; */
#define RESERVE_EACH 256                   /* and more for each identifier of it */
#define LOOK_FROM  5                       /* looks at an order that stays pending */
#define LONG_WAIT  apr_time_from_sec(24 * 3600) /* all that a CA may ask for in all */
#define PASSING_FIRST apr_time_from_sec(1)
#define PASSING_WAIT  apr_time_from_sec(60)
#define PASSING_MOST  5
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

static void resolve_all(apr_array_header_t *urls, const char *base, apr_pool_t *p)
{
    int i;

    for (i = 0; i < urls->nelts; ++i)
        APR_ARRAY_IDX(urls, i, const char *) = md_uri_resolve(base, APR_ARRAY_IDX(urls, i,
                                                                                  const char *), p);
}

/* RFC 8555 7.1.3, of an answer or of order.json; what was set up is known to the latter alone. */
static apr_status_t order_parse(md_order_t **porder, const char *url, const md_json_t *json,
                                md_err_t *err, apr_pool_t *p)
{
    md_order_t *order = apr_pcalloc(p, sizeof(*order));
    const char *status = md_json_get_str(json, "status");

    order->url = apr_pstrdup(p, url);
    if (!json)
        return md_fail(err, APR_EINVAL, "order %s: the answer is not JSON", url);
    if (status_parse(&order->status, status) != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "order %s has the unknown status '%s'", url,
                       status ? status : "");
    order->authorizations = md_json_get_strings(json, "authorizations", p);
    if (!order->authorizations)
        order->authorizations = md_strings_make(p);
    if (order->authorizations->nelts > MD_MAX_NAMES)
        return md_fail(err, APR_EINVAL, "order %s has more than %d authorizations", url,
                       MD_MAX_NAMES);
    resolve_all(order->authorizations, url, p);
    order->finalize = md_acme_url_member(json, "finalize", url, p);
    order->certificate = md_acme_url_member(json, "certificate", url, p);
    if (md_json_get_str(json, "expires"))
        order->expires = md_time_parse_rfc3339(md_json_get_str(json, "expires"));
    order->setups = md_strings_make(p);
    order->error = md_json_get(json, "error", p);
    *porder = order;
    return APR_SUCCESS;
}

static md_json_t *order_to_json(const md_order_t *order, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "url", order->url);
    md_json_set_str(json, "status", ORDER_STATUS[order->status]);
    md_json_set_strings(json, "authorizations", order->authorizations);
    md_json_set_strings(json, "challenge-setups", order->setups);
    md_json_set_str(json, "finalize", order->finalize);
    md_json_set_str(json, "certificate", order->certificate);
    md_json_set_time(json, "waiting-since", order->waiting_since);
    return json;
}

static apr_status_t order_save(const md_issue_t *issue, md_err_t *err, apr_pool_t *p)
{
    return md_store_save_json(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON,
                              order_to_json(issue->order, p), err, p);
}

apr_status_t md_order_check(const md_store_t *store, const char *name, md_err_t *err, apr_pool_t *p)
{
    static const md_json_rule_t RULES[] = {
        { "url", MD_JSON_STRING, 0 }, { "status", MD_JSON_STRING, 0 },
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

/* One for each name, or whoever wrote the document keeps us busy. TXT records stay for now. */
static void tear_down(const md_store_t *store, const apr_array_header_t *setups, apr_pool_t *p)
{
    int i;

    for (i = 0; setups && i < setups->nelts && i < MD_MAX_NAMES; ++i)
        md_solver_teardown(store, APR_ARRAY_IDX(setups, i, const char *), p);
}

/* NULL: there is no staged order. */
static md_json_t *load_order(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_json_t *json;

    return md_store_load_json(&json, store, MD_STORE_STAGING, name, ORDER_JSON, NULL, p)
               == APR_SUCCESS ? json : NULL;
}

apr_array_header_t *md_order_setups(const md_store_t *store, const char *name, apr_pool_t *p)
{
    return md_json_get_strings(load_order(store, name, p), "challenge-setups", p);
}

int md_order_has_setups(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_json_t *json = load_order(store, name, p);
    const apr_array_header_t *setups = md_json_get_strings(json, "challenge-setups", p);

    return setups && setups->nelts > 0
           && md_text_same(md_json_get_str(json, "status"), ORDER_STATUS[MD_ORDER_PENDING]);
}

void md_order_tear_down(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_json_t *json = load_order(store, name, p);
    const apr_array_header_t *setups;
    apr_status_t rv;
    md_err_t err;

    if (!json)
        return;
    setups = md_json_get_strings(json, "challenge-setups", p);
    tear_down(store, setups, p);
    md_json_set_strings(json, "challenge-setups", md_txt_setups(setups, p));
    md_err_init(&err, p);
    rv = md_store_save_json(store, MD_STORE_STAGING, name, ORDER_JSON, json, &err, p);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: %s", name, err.detail);
}

void md_order_drop(const md_store_t *store, const char *name, apr_pool_t *p)
{
    const apr_array_header_t *setups = md_order_setups(store, name, p);

    tear_down(store, setups, p);
    md_txt_adopt(store, name, setups, p);
    md_store_remove(store, MD_STORE_STAGING, name, ORDER_JSON, p);
}

/* ---- failures that may be over in a moment ---- */

/* A CA that is busy, and servers of one that do not know yet what another one made. */
static int is_passing(const md_issue_t *issue, const md_err_t *err, apr_time_t now)
{
    if (issue->passing >= PASSING_MOST)
        return 0;
    if (err->http_status == 429 || err->http_status == 503)
        return err->scope == MD_SCOPE_CA && err->retry_after < now + PASSING_WAIT;
    if (issue->order)
        return err->http_status == 404 && !issue->order_is_resumed;
    return md_problem_is(err, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST)
           && md_acct_use_is_fresh(issue->use, now);
}

/* The same step again, a bit later each time. */
static md_step_t wait_till_passed(md_issue_t *issue, apr_time_t now, md_err_t *err)
{
    apr_time_t hold_until = md_acme_hold_until(issue->acme, now);

    issue->wake_at = now + (PASSING_FIRST << issue->passing++);
    if (hold_until > issue->wake_at)
        issue->wake_at = hold_until;
    md_log(MD_LOG_DEBUG, "md[%s]: trying again: %s", issue->name,
           md_text_line(err->detail, MD_MAX_TEXT, err->p));
    md_err_clear(err);
    return MD_STEP_WAIT;
}

/* ---- the order in an issuance ---- */

static void forget_order(md_issue_t *issue)
{
    issue->order = NULL;
    if (issue->order_pool)
        apr_pool_destroy(issue->order_pool);
    issue->order_pool = NULL;
    if (issue->proofs)
        md_proofs_destroy(issue->proofs);
    issue->proofs = NULL;
    issue->choice = NULL;
    issue->order_is_resumed = 0;
    issue->polls = 0;
    issue->is_submitted = issue->is_finalized = issue->is_unready = 0;
    issue->is_unsynced = 0;
}

static void drop_order(md_issue_t *issue, apr_pool_t *tmp)
{
    if (issue->is_unsynced)
        tear_down(issue->store, issue->order->setups, tmp);
    md_order_drop(issue->store, issue->name, tmp);
    forget_order(issue);
}

/* An order from an earlier run that cannot be continued makes room for a new one; one of this run
 * is the failure that it is. */
static md_step_t give_up_order(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    int was_resumed = issue->order_is_resumed;

    if (is_passing(issue, err, md_clock_now()))
        return MD_STEP_FAILED;
    drop_order(issue, tmp);
    if (!was_resumed)
        return MD_STEP_FAILED;
    if (md_store_exists(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON, tmp)) {
        md_fail(err, APR_EGENERAL, "cannot remove %s, the record of an order that is no longer "
                "needed", md_store_path(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON,
                                          tmp));
        return MD_STEP_FAILED; /* or it would be resumed again and again */
    }
    md_log(MD_LOG_DEBUG, "md[%s]: earlier order dropped: %s", issue->name,
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
    order->waiting_since = old->waiting_since;
    if (order->status < old->status) /* they only advance (RFC 8555 7.1.6) */
        order->status = old->status;
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

    if (issue->is_urgent && retry_after > now + POLL_MOST)
        retry_after = now + POLL_MOST;

    if (issue->polls == 0) {
        issue->poll_since = now;
        retry_after = 0;
    }
    if (now - issue->poll_since > POLL_TOTAL) {
        md_fail(err, APR_TIMEUP, "the CA still reports order %s as '%s' after %d seconds; it will "
                "be checked again at the next attempt", issue->order->url,
                ORDER_STATUS[issue->order->status], (int)apr_time_sec(POLL_TOTAL));
        return MD_STEP_FAILED;
    }
    ++issue->polls;
    issue->wake_at = now + (delay < POLL_MOST ? delay : POLL_MOST);
    if (retry_after > issue->wake_at)
        issue->wake_at = retry_after;
    return MD_STEP_WAIT;
}

/* A wait that is so long that the run may end before it does: an order that the CA never finishes
 * is to be an error all the same. */
static md_step_t wait_long(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_order_t *order = issue->order;

    if (!order->waiting_since || order->waiting_since > now)
        order->waiting_since = now;
    else if (now - order->waiting_since > LONG_WAIT) {
        md_fail(err, APR_TIMEUP, "the CA still reports order %s as '%s' after %s; it will be "
                "checked again at the next attempt", order->url, ORDER_STATUS[order->status],
                md_duration_print(now - order->waiting_since, tmp));
        order->waiting_since = now;
    }
    if (order_save(issue, err->rv == APR_SUCCESS ? err : NULL, tmp) != APR_SUCCESS
        || err->rv != APR_SUCCESS)
        return MD_STEP_FAILED;
    return MD_STEP_WAIT;
}

static md_step_t poll_order(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_order_status_t before = issue->order->status;
    apr_time_t retry_after;
    md_step_t step;

    if (issue->polls == 0)
        return wait_for_ca(issue, now, 0, err);
    if (refresh_order(issue, &retry_after, err, tmp) != APR_SUCCESS)
        return MD_STEP_FAILED;
    if (issue->order->status != before)
        return MD_STEP_AGAIN;
    step = wait_for_ca(issue, now, retry_after, err);
    if (step == MD_STEP_WAIT && issue->wake_at > now + PASSING_WAIT)
        step = wait_long(issue, now, err, tmp);
    return step;
}

/* ---- files of the key spec in work ---- */

static const md_key_spec_t *spec_of(const md_issue_t *issue)
{
    return &APR_ARRAY_IDX(issue->key_specs, issue->spec, md_key_spec_t);
}

/* Decryption takes a while, so it is done once; that the key is there is seen each time. */
static apr_status_t load_key(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    const char *file = md_key_spec_file(spec_of(issue), "privkey", tmp);

    if (issue->key && md_store_exists(issue->store, MD_STORE_STAGING, issue->name, file, tmp))
        return APR_SUCCESS;
    return md_store_load_key(&issue->key, issue->store, MD_STORE_STAGING, issue->name, file, err,
                             issue->p);
}

/* The staged key, made if there is none (or none that can be read): saved before the CA sees it. */
static apr_status_t have_key(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    const char *file = md_key_spec_file(spec_of(issue), "privkey", tmp), *aside;
    md_key_t *key;
    apr_status_t rv;

    rv = load_key(issue, err, tmp);
    if (rv == APR_SUCCESS)
        return rv;
    if (md_is_lack(rv))
        return rv;
    if (!APR_STATUS_IS_ENOENT(rv)) {
        md_log(MD_LOG_WARNING, "md[%s]: making a new key: %s", issue->name, err->detail);
        (void)md_store_put_aside(&aside, issue->store, MD_STORE_STAGING, issue->name, file, tmp);
    }
    md_err_clear(err);
    rv = md_key_generate(&key, spec_of(issue), err, issue->p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_key(issue->store, MD_STORE_STAGING, issue->name, file, key, err, tmp);
    if (rv == APR_SUCCESS)
        issue->key = key;
    return rv;
}

static void next_spec(md_issue_t *issue)
{
    ++issue->spec;
    issue->key = NULL;
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

/* Are new orders of the account held? */
static int wait_for_turn(md_issue_t *issue, apr_time_t now)
{
    apr_time_t until = md_acct_use_wait(issue->use, issue->name, now);

    if (until)
        issue->wake_at = until;
    return until != 0;
}

/* A refusal to register that all would get; contacts may be those of a domain. */
static int is_account_problem(const md_err_t *err)
{
    return md_problem_is(err, MD_PROBLEM_RATE_LIMITED)
           || md_problem_is(err, MD_PROBLEM_UNAUTHORIZED);
}

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
    if (rv != APR_SUCCESS)
        return rv;
    md_acct_tell_contacts(issue->acme, found, &issue->wish, tmp);
    *pacct = found;
    return rv;
}

/* Another run settles the account. What the order will need first of the CA is done by then. */
static md_step_t wait_for_account(md_issue_t *issue, apr_time_t now, md_err_t *err,
                                  apr_pool_t *tmp)
{
    issue->wake_at = now + SETUP_WAIT;
    if (md_acme_has_directory(issue->acme)
        && md_acme_have_nonce(issue->acme, err, tmp) != APR_SUCCESS) {
        issue->wake_at = now + PASSING_FIRST; /* the request that needs it tells what is wrong */
        md_err_clear(err);
    }
    return MD_STEP_WAIT;
}

static md_step_t step_connect(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const md_acct_t *acct;
    apr_status_t rv;

    if (wait_for_turn(issue, now))
        return MD_STEP_WAIT;
    if (!md_acct_use_begin(&acct, issue->use))
        return wait_for_account(issue, now, err, tmp);
    rv = set_up_ca(&acct, issue, now, err, tmp);
    md_acct_use_end(issue->use, acct);
    if (rv == APR_SUCCESS)
        return MD_STEP_AGAIN;
    if (is_account_problem(err))
        md_err_blame(err, MD_SCOPE_ACCOUNT, err->is_lasting);
    if (err->scope == MD_SCOPE_ACCOUNT)
        md_acct_use_hold(issue->use, err->retry_after, now);
    return MD_STEP_FAILED;
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

/* The certificate whose place the new one takes (RFC 9773 5), NULL if there is none or the CA does
 * not want to know. */
static const char *replaced_cert(const md_issue_t *issue)
{
    if (!issue->replaces || !md_acme_directory(issue->acme)->renewal_info)
        return NULL;
    return APR_ARRAY_IDX(issue->replaces, issue->spec, const char *);
}

static md_json_t *new_order_payload(const md_issue_t *issue, const char *profile,
                                    const char *replaces, apr_pool_t *p)
{
    md_json_t *payload = md_json_object(p), *identifiers = md_json_array(p), *json;
    const md_identifier_t *identifier;
    int i;

    for (i = 0; i < issue->identifiers->nelts; ++i) {
        identifier = &APR_ARRAY_IDX(issue->identifiers, i, md_identifier_t);
        json = md_json_object(p);
        md_json_set_str(json, "type", md_identifier_type(identifier));
        md_json_set_str(json, "value", identifier->value);
        md_json_append(identifiers, json);
    }
    md_json_set(payload, "identifiers", identifiers);
    md_json_set_str(payload, "profile", profile);
    md_json_set_str(payload, "replaces", replaces);
    return payload;
}

/* A CA that is busy, or does not want to hear of the account, has not looked at the order. */
static int is_refusal_of_order(const md_err_t *err)
{
    return err->http_status >= 400 && err->http_status != 429 && err->http_status != 503
           && err->scope != MD_SCOPE_ACCOUNT;
}

/* What is wished of an order beyond its names; both or either may be NULL. */
typedef struct wishes_t {
    const char *profile, *replaces;
} wishes_t;

/* What a refused order is placed without, the next time; 0: it has nothing that it can do without.
 * A profile that is not mandatory is one thing (draft-ietf-acme-profiles 6). That a new certificate
 * takes the place of another one is good to know for the CA, but no reason not to get it, whatever
 * the refusal says. */
static int give_up_wish(wishes_t *wishes, const md_issue_t *issue, const md_err_t *err)
{
    if (wishes->profile && !issue->profile_mandatory
        && md_problem_is(err, MD_PROBLEM_INVALID_PROFILE)) {
        md_log(MD_LOG_WARNING, "md[%s]: the CA refuses the profile '%s' (%s): the certificate is "
               "ordered without it. Correct MDProfile, or remove it", issue->name, wishes->profile,
               md_text_line(err->detail, MD_MAX_TEXT, err->p));
        wishes->profile = NULL;
        return 1;
    }
    if (!wishes->replaces)
        return 0;
    wishes->replaces = NULL;
    return 1;
}

/* The order as wished, else once without each wish that may be given up. */
static apr_status_t try_new_order(md_reply_t **preply, md_issue_t *issue, const char *profile,
                                  md_err_t *err, apr_pool_t *tmp)
{
    wishes_t wishes = { profile, replaced_cert(issue) };
    const char *url = md_acme_directory(issue->acme)->new_order;
    const md_json_t *payload;
    apr_status_t rv;

    for (;;) {
        payload = new_order_payload(issue, wishes.profile, wishes.replaces, tmp);
        if (!wishes.replaces && (!wishes.profile || issue->profile_mandatory))
            return post(preply, issue, url, payload, err, tmp);
        rv = md_acme_try_post(preply, issue->acme, md_acct_signer(issue->acct), url, payload, err,
                              tmp);
        if (rv == APR_SUCCESS || !is_refusal_of_order(err) || !give_up_wish(&wishes, issue, err))
            return rv;
        md_err_clear(err);
    }
}

static apr_status_t post_new_order(md_reply_t **preply, md_issue_t *issue, md_err_t *err,
                                   apr_pool_t *tmp)
{
    const char *profile = offered_profile(md_acme_directory(issue->acme), issue->profile);
    const char *replaces = replaced_cert(issue);
    apr_status_t rv;

    issue->activity = apr_psprintf(issue->p, "Creating new order, key-spec=%s, profile=%s, "
                                   "replacing-cert=%s",
                                   spec_of(issue)->type == MD_KEY_DEFAULT
                                       ? "default" : md_key_spec_name(spec_of(issue)),
                                   issue->profile ? issue->profile : "none",
                                   replaces ? replaces : "none");
    if (issue->profile && issue->profile_mandatory && !profile)
        return md_fail(err, APR_EINVAL, "mandatory ACME profile '%s' is not offered by CA",
                       issue->profile);
    rv = try_new_order(preply, issue, profile, err, tmp);
    if (rv != APR_SUCCESS)
        return rv;
    if (!(*preply)->location)
        return md_fail(err, APR_EINVAL, "newOrder: no order URL in the answer");
    return md_acme_check_url(issue->acme, (*preply)->location, err, tmp);
}

/* Does the text speak of one of the names, or of a domain above it? A top-level domain is in many
 * texts, as in the address of a page about limits. */
static int speaks_of(const char *text, const apr_array_header_t *identifiers)
{
    const char *name;
    int i;

    for (i = 0; i < identifiers->nelts; ++i)
        for (name = APR_ARRAY_IDX(identifiers, i, md_identifier_t).value; strchr(name, '.');
             name = strchr(name, '.') + 1)
            if (strcasestr(text, name))
                return 1;
    return 0;
}

/* What a limit at newOrder is one of: CAs have them for sets of names, for registered domains and
 * for accounts, with one type for all (RFC 8555 6.6, 6.7). */
static md_scope_t scope_of_limit(md_issue_t *issue, const md_err_t *err)
{
    if (err->subproblems || speaks_of(err->detail, issue->identifiers)
        || strcasestr(err->detail, "set of "))
        return MD_SCOPE_DOMAIN;
    if (strcasestr(err->detail, "account"))
        return MD_SCOPE_ACCOUNT;
    return md_acct_use_is_limited(issue->use, issue->name) ? MD_SCOPE_ACCOUNT : MD_SCOPE_DOMAIN;
}

/* The CA refused an order as if the account was the reason, which may be so or not: it says when it
 * is asked for the account. Those who work with it do not notice. */
static md_step_t check_account(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const md_acct_t *acct;
    int is_gone = 0;
    md_err_t why;

    if (issue->acct_refusals++ > 0 || !md_acct_use_begin(&acct, issue->use))
        return MD_STEP_FAILED;
    md_err_init(&why, tmp);
    if (acct == issue->acct && md_acct_use_may_check(issue->use, now))
        is_gone = md_acct_verify(issue->acme, md_acct_copy(acct, tmp), &why, tmp) == APR_ENOENT;
    md_acct_use_end(issue->use, is_gone ? NULL : acct);
    if (acct == issue->acct && !is_gone) {
        md_err_blame(err, MD_SCOPE_DOMAIN, err->is_lasting);
        return MD_STEP_FAILED;
    }
    md_err_clear(err); /* there will be another account, or is already */
    return MD_STEP_AGAIN;
}

static md_step_t order_refused(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    if (is_passing(issue, err, now))
        return MD_STEP_FAILED;
    if (md_problem_is(err, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST)
        || md_problem_is(err, MD_PROBLEM_UNAUTHORIZED))
        return check_account(issue, now, err, tmp);
    if (md_problem_is(err, MD_PROBLEM_RATE_LIMITED) && err->scope == MD_SCOPE_DOMAIN)
        md_err_blame(err, scope_of_limit(issue, err), 0);
    if (err->scope == MD_SCOPE_ACCOUNT)
        md_acct_use_hold(issue->use, err->retry_after, now);
    return MD_STEP_FAILED;
}

/* What cannot be stored is not ordered: the document is there before there is an order, large
 * enough for what it and the chain will need. */
static apr_status_t reserve_order(const md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    apr_size_t len = RESERVE + RESERVE_EACH * (apr_size_t)issue->identifiers->nelts;
    md_json_t *json = md_json_object(tmp);
    char *filler = apr_palloc(tmp, len + 1);

    memset(filler, ' ', len);
    filler[len] = '\0';
    md_json_set_str(json, "status", ORDER_STATUS[MD_ORDER_PENDING]);
    md_json_set_str(json, "reserve", filler);
    return md_store_save_json_volatile(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON,
                                       json, err, tmp);
}

/* The place that was reserved is needed now. An order that a power failure takes is no loss yet. */
static apr_status_t save_new_order(const md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    md_json_t *json = order_to_json(issue->order, tmp);

    if (md_store_save_json_volatile(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON, json,
                                    err, tmp) == APR_SUCCESS)
        return APR_SUCCESS;
    md_err_clear(err);
    md_store_remove(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON, tmp);
    return md_store_save_json_volatile(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON,
                                       json, err, tmp);
}

/* RFC 8555 7.4. */
static md_step_t create_order(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_reply_t *reply;
    apr_pool_t *p;

    if (wait_for_turn(issue, now))
        return MD_STEP_WAIT;
    if (reserve_order(issue, err, tmp) != APR_SUCCESS)
        return MD_STEP_FAILED;
    if (post_new_order(&reply, issue, err, tmp) != APR_SUCCESS) {
        md_store_remove(issue->store, MD_STORE_STAGING, issue->name, ORDER_JSON, tmp);
        return order_refused(issue, now, err, tmp);
    }
    md_acct_use_served(issue->use);
    apr_pool_create(&p, issue->p);
    if (order_parse(&issue->order, reply->location, reply->json, err, p) != APR_SUCCESS
        || save_new_order(issue, err, tmp) != APR_SUCCESS) {
        issue->order = NULL;
        apr_pool_destroy(p);
        return MD_STEP_FAILED;
    }
    issue->order_pool = p;
    issue->is_unsynced = 1;
    return MD_STEP_AGAIN;
}

static int is_wanted(const md_issue_t *issue, const md_identifier_t *identifier)
{
    int i;

    for (i = 0; i < issue->identifiers->nelts; ++i)
        if (md_identifiers_equal(&APR_ARRAY_IDX(issue->identifiers, i, md_identifier_t),
                                 identifier))
            return 1;
    return 0;
}

/* Is it an order for what we want? The CA may list it in any sequence. */
static int order_is_ours(const md_issue_t *issue, const md_json_t *json, apr_pool_t *tmp)
{
    md_json_t *list = md_json_get(json, "identifiers", tmp);
    apr_array_header_t *values = md_strings_make(tmp);
    md_identifier_t identifier;
    const char *value;
    apr_size_t i;

    if (!list)
        return 1;
    for (i = 0; i < md_json_size(list) && i <= MD_MAX_NAMES; ++i) {
        value = md_json_get_str(md_json_at(list, i, tmp), "value");
        identifier = md_identifier_of(value ? value : "", tmp);
        if (!is_wanted(issue, &identifier))
            return 0;
        APR_ARRAY_PUSH(values, const char *) = identifier.value;
    }
    return md_names_normalise(values, tmp)->nelts == issue->identifiers->nelts;
}

/* Does the CA say that it has no such order (any more), or none for this account? There is no
 * problem type for that: some call the request malformed. */
static int is_gone(const md_err_t *err)
{
    return err->http_status / 100 == 4
           && (APR_STATUS_IS_ENOENT(err->rv) || APR_STATUS_IS_EACCES(err->rv)
               || APR_STATUS_IS_EINVAL(err->rv));
}

/* The order of an earlier run, as the CA sees it now. */
static md_step_t resume_order(md_issue_t *issue, const md_json_t *staged, apr_time_t now,
                              md_err_t *err, apr_pool_t *tmp)
{
    const char *url = md_acme_url_member(staged, "url", "", tmp);
    apr_array_header_t *setups;
    md_reply_t *reply;
    apr_status_t rv;

    issue->order_is_resumed = 1;
    apr_pool_create(&issue->order_pool, issue->p);
    rv = url ? order_parse(&issue->order, url, staged, err, issue->order_pool)
             : md_fail(err, APR_EINVAL, "staged order without URL");
    if (rv != APR_SUCCESS)
        return give_up_order(issue, err, tmp);
    setups = md_json_get_strings(staged, "challenge-setups", issue->order_pool);
    if (setups)
        issue->order->setups = setups;
    issue->order->waiting_since = md_json_get_time(staged, "waiting-since");
    rv = fetch(&reply, issue, url, NULL, MD_MAX_ACME_BODY, err, tmp);
    if (rv != APR_SUCCESS && is_gone(err))
        return give_up_order(issue, err, tmp);
    if (rv == APR_SUCCESS)
        rv = see_order(issue, reply->json, err);
    if (rv != APR_SUCCESS) {
        forget_order(issue);
        return MD_STEP_FAILED;
    }
    if (issue->order->expires && issue->order->expires < now
        && issue->order->status != MD_ORDER_VALID) {
        md_fail(err, APR_EINVAL, "the order expired while the CA reported it as '%s'",
                ORDER_STATUS[issue->order->status]);
        if (issue->order->waiting_since) /* for so long: that is a failure of the CA */
            issue->order_is_resumed = 0;
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
    if (md_is_lack(rv))
        return MD_STEP_FAILED;
    if (!APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, "md[%s]: %s; placing a new order", issue->name, err->detail);
    md_err_clear(err);
    return create_order(issue, now, err, tmp);
}

/* ---- steps of an order (RFC 8555 7.1.6) ---- */

static void remember_setup(md_issue_t *issue, const char *setup)
{
    if (md_strings_has(issue->order->setups, setup))
        return;
    APR_ARRAY_PUSH(issue->order->setups, const char *) = apr_pstrdup(issue->order_pool, setup);
    issue->is_unsynced = 1;
}

/* With all that was set up, before the CA is told to look or to issue. */
static apr_status_t sync_order(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    apr_status_t rv = APR_SUCCESS;

    if (issue->is_unsynced)
        rv = order_save(issue, err, tmp);
    issue->is_unsynced = issue->is_unsynced && rv != APR_SUCCESS;
    return rv;
}

/* For as long as there is the order. */
static md_proofs_t *proofs_of(md_issue_t *issue)
{
    md_proofs_t conf = { .p = issue->p, .acme = issue->acme, .acct = issue->acct,
                         .identifiers = issue->identifiers, .solver = &issue->solver };

    if (!issue->proofs)
        issue->proofs = md_proofs_make(&conf, issue->order->authorizations);
    return issue->proofs;
}

/* What came of a step with the proofs. */
static void note_proofs(md_issue_t *issue)
{
    if (issue->proofs->activity)
        issue->activity = issue->proofs->activity;
    if (issue->proofs->failed_type)
        issue->failed_type = issue->proofs->failed_type;
}

/* The next step of the proofs; 0: there is none. */
static int prove(apr_status_t *prv, md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    md_proofs_t *proofs = proofs_of(issue);
    int is_open = 1;

    *prv = APR_SUCCESS;
    if (md_proofs_are_set_up(proofs)) {
        issue->activity = "Starting challenges for domains";
        *prv = sync_order(issue, err, tmp);
    }
    if (*prv == APR_SUCCESS) {
        is_open = md_proofs_step(prv, proofs, err, tmp);
        if (proofs->setup)
            remember_setup(issue, proofs->setup);
        note_proofs(issue);
    }
    return is_open;
}

/* After a step with the proofs. */
static md_step_t proceed(md_issue_t *issue, apr_status_t rv, apr_time_t now, md_err_t *err,
                         apr_pool_t *tmp)
{
    if (rv == APR_SUCCESS)
        return MD_STEP_AGAIN;
    if (issue->proofs && issue->proofs->wait > 0) {
        issue->wake_at = now + issue->proofs->wait;
        return MD_STEP_WAIT;
    }
    return APR_STATUS_IS_EINVAL(rv) ? give_up_order(issue, err, tmp) : MD_STEP_FAILED;
}

/* The order alone tells when all goes well, and when it stays pending, some authorizations. */
static md_step_t watch(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    apr_status_t rv;
    md_step_t step;

    if (md_proofs_look(&rv, issue->proofs, err, tmp)) {
        note_proofs(issue);
        return proceed(issue, rv, now, err, tmp);
    }
    step = poll_order(issue, now, err, tmp);
    if (step == MD_STEP_WAIT && issue->polls >= LOOK_FROM)
        md_proofs_watch(issue->proofs);
    if (step == MD_STEP_FAILED)
        md_proofs_complain(issue->proofs, err, tmp);
    return step;
}

static md_step_t step_authorize(md_issue_t *issue, apr_time_t now, md_err_t *err,
                                apr_pool_t *tmp)
{
    apr_status_t rv;

    if (prove(&rv, issue, err, tmp))
        return proceed(issue, rv, now, err, tmp);
    issue->activity = "Monitoring challenge status";
    /* The CA is busy validating: the time for the work that takes us longest. */
    if (issue->polls == 0 && have_key(issue, err, tmp) != APR_SUCCESS)
        return MD_STEP_FAILED;
    return watch(issue, now, err, tmp);
}

/* Many CAs have given up OCSP, and so refuse to issue what needs it. */
static int speaks_of_stapling(const md_issue_t *issue, const char *text)
{
    static const char *const WORDS[] = { "must-staple", "must staple", "tlsfeature", "tls feature",
                                         "stapling", "ocsp" };
    size_t i;

    for (i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); ++i)
        if (strcasestr(text, WORDS[i]))
            return !speaks_of(text, issue->identifiers); /* which may contain the word */
    return 0;
}

static int is_refusal_of_must_staple(const md_issue_t *issue, const md_err_t *err)
{
    return issue->must_staple && err->type && err->http_status / 100 != 5
           && (md_problem_is(err, MD_PROBLEM_BAD_CSR)
               || (strcasestr(err->type, ":unsupported")
                   && !md_problem_is(err, MD_PROBLEM_UNSUPPORTED_IDENTIFIER))
               || speaks_of_stapling(issue, err->detail));
}

/* Whether the CSR has to be another one: asking again is no use until it is configured so. */
static void doubt_must_staple(md_issue_t *issue, md_err_t *err)
{
    if (!is_refusal_of_must_staple(issue, err))
        return;
    err->detail = apr_pstrcat(err->p, err->detail, " (The certificate was requested with "
                              "'must-staple', which many CAs no longer support: set "
                              "'MDMustStaple off', or choose another CA. Until the configuration "
                              "has changed, a reload does not repeat the request)", NULL);
    md_err_blame(err, MD_SCOPE_DOMAIN, 1);
    issue->needs_change = 1;
}

static md_step_t step_finalize(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    md_json_t *payload = md_json_object(tmp);
    apr_time_t retry_after;
    md_reply_t *reply;
    const char *csr;
    apr_status_t rv;

    if (issue->is_finalized) /* but the CA goes on saying `ready` */
        return poll_order(issue, now, err, tmp);
    if (issue->is_unready) {
        issue->is_unready = 0;
        if (refresh_order(issue, &retry_after, err, tmp) != APR_SUCCESS)
            return MD_STEP_FAILED;
        if (issue->order->status != MD_ORDER_READY)
            return MD_STEP_AGAIN;
    }
    issue->activity = "Finalizing order, submitting CSR";
    if (!issue->order->finalize) {
        md_fail(err, APR_EINVAL, "order %s has no finalize URL", issue->order->url);
        return give_up_order(issue, err, tmp);
    }
    rv = sync_order(issue, err, tmp);
    if (rv == APR_SUCCESS)
        rv = have_key(issue, err, tmp);
    if (rv == APR_SUCCESS)
        rv = md_csr_make(&csr, issue->identifiers, issue->must_staple, issue->key, err, tmp);
    if (rv != APR_SUCCESS)
        return MD_STEP_FAILED;
    md_json_set_str(payload, "csr", csr);
    issue->is_submitted = 1;
    rv = post(&reply, issue, issue->order->finalize, payload, err, tmp);
    issue->is_unready = md_problem_is(err, MD_PROBLEM_ORDER_NOT_READY);
    issue->is_finalized = rv == APR_SUCCESS;
    if (rv != APR_SUCCESS && !issue->is_unready) {
        doubt_must_staple(issue, err);
        return MD_STEP_FAILED;
    }
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

static apr_array_header_t *values_of(const apr_array_header_t *identifiers, apr_pool_t *p)
{
    apr_array_header_t *values = md_strings_make(p);
    int i;

    for (i = 0; i < identifiers->nelts; ++i)
        APR_ARRAY_PUSH(values, const char *) = APR_ARRAY_IDX(identifiers, i, md_identifier_t).value;
    return values;
}

/* For as long as there is the order. */
static md_choice_t *choice_of(md_issue_t *issue)
{
    md_choice_t *choice = issue->choice;

    if (!choice) {
        choice = issue->choice = apr_pcalloc(issue->order_pool, sizeof(*choice));
        choice->p = issue->order_pool;
        choice->acme = issue->acme;
        choice->signer = md_acct_signer(issue->acct);
        choice->name = issue->name;
        choice->url = issue->order->certificate;
        choice->names = values_of(issue->identifiers, issue->order_pool);
        choice->preferred = issue->preferred_chain;
    }
    choice->key = issue->key;
    return choice;
}

/* RFC 8555 7.4.2. *pis_done: the chain is staged. */
static apr_status_t download(int *pis_done, md_issue_t *issue, apr_time_t now, md_err_t *err,
                             apr_pool_t *tmp)
{
    const char *file = md_key_spec_file(spec_of(issue), "pubcert", tmp);
    apr_array_header_t *chain;
    apr_status_t rv;

    *pis_done = 0;
    rv = load_key(issue, err, tmp);
    if (md_is_lack(rv))
        return rv;
    if (rv != APR_SUCCESS)
        return md_fail(err, APR_EINVAL, "the private key of the order is no longer in staging");
    rv = md_choice_step(&chain, choice_of(issue), now, err, tmp);
    if (rv != APR_SUCCESS || !chain)
        return rv;
    *pis_done = 1;
    return md_store_save_chain(issue->store, MD_STORE_STAGING, issue->name, file, chain, err, tmp);
}

/* What is no chain may be one when it is fetched once more; what is refused stays so, and is a
 * failure even if the order is of an earlier run. */
static md_step_t refuse_chain(md_issue_t *issue, md_err_t *err, apr_pool_t *tmp)
{
    if (!APR_STATUS_IS_EINVAL(err->rv) || (!err->is_lasting && !issue->order_is_resumed))
        return MD_STEP_FAILED;
    if (err->is_lasting)
        issue->order_is_resumed = 0;
    return give_up_order(issue, err, tmp);
}

static md_step_t step_download(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    int is_done;

    issue->activity = "Retrieving certificate chain";
    if (!issue->order->certificate) {
        md_fail(err, APR_EINVAL, "order %s is valid but has no certificate URL",
                issue->order->url);
        return give_up_order(issue, err, tmp);
    }
    if (download(&is_done, issue, now, err, tmp) != APR_SUCCESS)
        return refuse_chain(issue, err, tmp);
    if (!is_done)
        return MD_STEP_AGAIN;
    drop_order(issue, tmp);
    next_spec(issue);
    return MD_STEP_AGAIN;
}

static md_step_t step_abandon(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const md_order_t *order = issue->order;

    (void)now;
    if (issue->order_is_resumed) {
        md_fail(err, APR_EINVAL, "the order is invalid");
        return give_up_order(issue, err, tmp);
    }
    md_proofs_explain(proofs_of(issue), order->authorizations, err, tmp);
    note_proofs(issue);
    if (!err->type && order->error)
        (void)md_problem_fail(err, order->error, "");
    if (issue->is_submitted)
        doubt_must_staple(issue, err);
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

/* Whoever changes the account in the store, as by a new key, does so at the CA, too. What was set
 * up for an order is of no use with another key: it is taken up anew from staging. 0: it is as it
 * was. */
static int notice_change(md_issue_t *issue, apr_pool_t *tmp)
{
    const md_acct_t *acct = issue->acct ? issue->acct : md_acct_use_get(issue->use), *used;

    if (!acct || !md_acct_is_changed(acct, issue->store, tmp))
        return 0;
    if (md_acct_use_begin(&used, issue->use))
        md_acct_use_end(issue->use, used == acct ? NULL : used);
    forget_order(issue);
    issue->acct = NULL;
    return 1;
}

/* What the facts ask for. */
static md_step_t take_step(md_issue_t *issue, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    apr_time_t hold_until;

    while (issue->spec < issue->key_specs->nelts
           && has_pair(issue->store, issue->name, spec_of(issue), tmp))
        next_spec(issue);
    if (issue->spec >= issue->key_specs->nelts) {
        drop_order(issue, tmp); /* one left by a crash right after the last chain was saved */
        return MD_STEP_DONE;
    }
    hold_until = md_acme_hold_until(issue->acme, now);
    if (hold_until) {
        issue->wake_at = hold_until;
        return MD_STEP_WAIT;
    }
    (void)notice_change(issue, tmp);
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
    if (step == MD_STEP_FAILED && err->type && notice_change(issue, tmp)) {
        md_err_clear(err); /* it was asked with the old key */
        step = MD_STEP_AGAIN;
    }
    apr_pool_destroy(tmp);
    if (step == MD_STEP_FAILED && is_passing(issue, err, now))
        return wait_till_passed(issue, now, err);
    if (step == MD_STEP_AGAIN)
        issue->passing = 0;
    return step;
}
