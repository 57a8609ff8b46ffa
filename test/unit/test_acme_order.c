/* SPDX-License-Identifier: Apache-2.0 */
/* Orders against a scripted CA: requests in wire order, resuming, every failure once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../md_acme_order.c"
#include "../../md_file.h"
#include "../../md_jws.h"
#include "fail_files.h"
#include "fake_clock.h"
#include "fake_http.h"
#include "temp_dir.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define CA    "https://ca.test"
#define NAME  "one.example.org"
#define NOW   md_clock_now()

static apr_pool_t *p;
static md_store_t *store;
static md_err_t err;
static const md_key_spec_t EC = { .type = MD_KEY_EC, .curve = "P-256" };

static const fake_answer_t DIRECTORY[] = {
    { "GET", "/dir", 200, 0, "application/json", NULL,
      "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA "/new-acct\",\"newOrder\":\"" CA
      "/new-order\",\"meta\":{\"termsOfService\":\"" CA "/tos\"}}", -1 },
    { "HEAD", "/nonce", 200, 0, NULL, NULL, NULL, -1 },
    { 0 }
};
static const fake_answer_t ACCOUNT[] = {
    { "POST", "/new-acct", 201, 0, "application/json", "Location: " CA "/acct/1",
      "{\"status\":\"valid\"}", -1 },
    { "POST", "/acct/1", 200, 0, "application/json", NULL, "{\"status\":\"valid\"}", -1 },
    { 0 }
};
#define ORDER(status, more) \
    "{\"status\":\"" status "\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"" NAME "\"}]," \
    "\"authorizations\":[\"" CA "/authz/1\"],\"finalize\":\"" CA "/order/1/finalize\"" more "}"
#define VALID ORDER("valid", ",\"certificate\":\"" CA "/cert/1\"")
static const fake_answer_t NEW_ORDER = {
    "POST", "/new-order", 201, 0, "application/json", "Location: " CA "/order/1",
    ORDER("pending", ""), -1
};
#define AUTHZ(status, chall_status) \
    "{\"status\":\"" status "\",\"identifier\":{\"type\":\"dns\",\"value\":\"" NAME "\"}," \
    "\"challenges\":[{\"type\":\"http-01\",\"url\":\"" CA "/chall/1\",\"token\":\"tok-1\"," \
    "\"status\":\"" chall_status "\"}]}"
static const fake_answer_t AUTHORIZE[] = {
    { "POST", "/authz/1", 200, 0, "application/json", NULL, AUTHZ("pending", "pending"), -1 },
    { "POST", "/chall/1", 200, 0, "application/json", NULL, "{\"status\":\"processing\"}", -1 },
    { 0 }
};

static const char *make_pem(const char *name, md_key_t *key, int days)
{
    apr_array_header_t *names = md_strings_make(p), *chain = apr_array_make(p, 1, sizeof(void *));
    md_cert_t *cert;

    APR_ARRAY_PUSH(names, const char *) = name;
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    if (days)
        X509_gmtime_adj(X509_getm_notAfter(md_cert_x509(cert)), days * 86400L);
    APR_ARRAY_PUSH(chain, md_cert_t *) = cert;
    return md_chain_to_pem(chain, p);
}

static void answer(const char *url, int status, const char *type, const char *body, int times)
{
    fake_answer_t a = { .method = "POST", .url = url, .status = status, .type = type,
                        .body = body, .times = times };

    fake_http_answer(a);
}

/* From pending to valid, with a certificate for the key in staging. */
static void script_good_ca(int with_setup)
{
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &EC, &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_key(store, MD_STORE_STAGING, NAME, "privkey.p-256.pem", key,
                                       &err, p), APR_SUCCESS);
    if (with_setup) {
        fake_http_script(DIRECTORY);
        fake_http_script(ACCOUNT);
        fake_http_answer(NEW_ORDER);
        fake_http_script(AUTHORIZE);
    }
    answer("/order/1", 200, "application/json", ORDER("pending", ""), 1);
    answer("/order/1", 200, "application/json", ORDER("ready", ""), 1);
    answer("/finalize", 200, "application/json", ORDER("processing", ""), 1);
    answer("/order/1", 200, "application/json", VALID, -1);
    answer("/cert/1", 200, "application/pem-certificate-chain", make_pem(NAME, key, 0), -1);
}

static md_issue_t *issue_make(void)
{
    md_issue_t *issue = apr_pcalloc(p, sizeof(*issue));
    apr_array_header_t *names = md_strings_make(p), *types = md_strings_make(p);
    apr_array_header_t *specs = apr_array_make(p, 1, sizeof(md_key_spec_t));
    apr_array_header_t *contacts = md_strings_make(p);
    md_route_t route = { 0 };
    md_http_t *http;

    APR_ARRAY_PUSH(names, const char *) = NAME;
    APR_ARRAY_PUSH(types, const char *) = "http-01";
    APR_ARRAY_PUSH(contacts, const char *) = "mailto:admin@example.org";
    APR_ARRAY_PUSH(specs, md_key_spec_t) = EC;
    assert_int_equal(md_http_create(&http, "test", &err, p), APR_SUCCESS);
    issue->p = p;
    issue->store = store;
    issue->name = NAME;
    issue->acme = md_acme_create(http, CA "/dir", &route, NULL, p);
    issue->use = md_acct_use_create(NULL, p);
    issue->wish.ca_url = CA "/dir";
    issue->wish.contacts = contacts;
    issue->wish.agreement = "accepted";
    issue->identifiers = md_identifiers_of(names, p);
    issue->key_specs = specs;
    issue->solver.store = store;
    issue->solver.types = types;
    issue->solver.key_specs = specs;
    issue->solver.acme_tls = md_strings_make(p);
    return issue;
}

/* Steps until it is over, in time that flies; counts the waits. */
static md_step_t run(md_issue_t *issue, int *pwaits)
{
    apr_time_t now = NOW;
    md_step_t step;
    int turns, waits = 0;

    for (turns = 0; turns < 1000; ++turns) {
        step = md_issue_step(issue, now, &err);
        if (step == MD_STEP_WAIT) {
            ++waits;
            assert_true(issue->wake_at > now);
            now = issue->wake_at;
        }
        else if (step != MD_STEP_AGAIN) {
            if (pwaits)
                *pwaits = waits;
            return step;
        }
    }
    fail_msg("never ends");
    return MD_STEP_FAILED;
}

static int staged(const char *file)
{
    return md_store_exists(store, MD_STORE_STAGING, NAME, file, p);
}

static apr_status_t empty_store(void)
{
    const char *path = apr_pstrcat(p, temp_dir, "/md", NULL);

    md_dir_remove(AT_FDCWD, path);
    return md_store_open(&store, path, &err, p);
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fake_http_reset(p);
    fake_clock_start(apr_time_now());
    if (temp_dir_make() != 0)
        return -1;
    return empty_store();
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return temp_dir_remove();
}

static void issues_with_few_requests(void **state)
{
    md_issue_t *issue;
    int waits = 0;

    (void)state;
    script_good_ca(1);
    issue = issue_make();
    assert_int_equal(run(issue, &waits), MD_STEP_DONE);
    assert_true(staged("pubcert.p-256.pem"));
    assert_false(staged("order.json"));
    assert_false(md_store_exists(store, MD_STORE_CHALLENGES, NAME, NULL, p));
    assert_int_equal(fake_http_count("/dir"), 1);
    assert_true(fake_http_count("/nonce") <= 1);
    assert_int_equal(fake_http_count("/new-acct"), 1);
    assert_int_equal(fake_http_count("/new-order"), 1);
    assert_int_equal(fake_http_count("/authz/1"), 1);
    assert_int_equal(fake_http_count("/chall/1"), 1);
    assert_int_equal(fake_http_count("/finalize"), 1);
    assert_int_equal(fake_http_count("/cert/1"), 1);
    assert_int_equal(fake_http_count("/order/1"), waits);
}

/* A process killed at any step leaves files from which the next one goes on. */
static void resumes_after_every_step(void **state)
{
    apr_time_t now = NOW;
    md_issue_t *issue;
    md_step_t step = MD_STEP_AGAIN;
    int turns;

    (void)state;
    script_good_ca(1);
    for (turns = 0; turns < 100 && step != MD_STEP_DONE; ++turns) {
        issue = issue_make(); /* nothing is remembered but the store */
        step = md_issue_step(issue, now, &err);
        while (step == MD_STEP_AGAIN && !md_acct_use_get(issue->use))
            step = md_issue_step(issue, now, &err);
        if (step == MD_STEP_AGAIN)
            step = md_issue_step(issue, now, &err); /* one step beyond loading the order */
        if (step == MD_STEP_AGAIN)
            step = md_issue_step(issue, now, &err);
        if (step == MD_STEP_WAIT) {
            now = issue->wake_at;
            step = md_issue_step(issue, now, &err);
        }
        assert_int_not_equal(step, MD_STEP_FAILED);
    }
    assert_int_equal(step, MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-acct"), 1);
    assert_int_equal(fake_http_count("/new-order"), 1);
    assert_int_equal(fake_http_count("/finalize"), 1);
}

/* Fail the n-th request, for every n: an error, then the next attempt succeeds with what is
 * staged. */
static void survives_a_failure_of_every_request(void **state)
{
    int n, failures = 0;

    (void)state;
    for (n = 1; n < 30; ++n) {
        assert_int_equal(empty_store(), APR_SUCCESS);
        fake_http_reset(p);
        script_good_ca(1);
        fake_http_fail_at(n, APR_ECONNREFUSED);
        if (run(issue_make(), NULL) == MD_STEP_DONE)
            break;
        ++failures;
        assert_int_equal(err.rv, APR_ECONNREFUSED);
        assert_non_null(err.detail);
        assert_false(staged("pubcert.p-256.pem"));
        md_err_clear(&err);
        answer("/order/1", 200, "application/json", ORDER("ready", ""), 1);
        assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
        assert_true(fake_http_count("/new-order") <= 2);
    }
    assert_true(failures >= 9);
}

static const struct {
    const char *url;
    int status;
    const char *type, *body;
    const char *in_detail;
} BAD[] = {
    { "/new-acct", 500, "text/html", "<html>", "unexpected HTTP status 500" },
    { "/new-acct", 400, "application/problem+json",
      "{\"type\":\"urn:ietf:params:acme:error:invalidContact\",\"detail\":\"no such\"}", "no such" },
    { "/new-order", 201, "application/json", "{", "no order URL" },
    { "/new-order", 403, "application/problem+json",
      "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":\"not you\"}",
      "not you" },
    { "/authz/1", 200, "text/html", "<html>", "not JSON with a valid identifier" },
    { "/authz/1", 200, "application/json",
      "{\"status\":\"pending\",\"identifier\":{\"value\":\"../../etc\"}}", "valid identifier" },
    { "/authz/1", 200, "application/json",
      "{\"status\":\"pending\",\"identifier\":{\"value\":\"" NAME "\"},\"challenges\":[{\"type\":"
      "\"http-01\",\"url\":\"" CA "/chall/1\",\"token\":\"../../x\"}]}", "token" },
    { "/authz/1", 200, "application/json", AUTHZ("deactivated", "pending"), "deactivated" },
    { "/authz/1", 200, "application/json", AUTHZ("bogus", "pending"), "unknown status" },
    { "/order/1", 200, "application/json", ORDER("bogus", ""), "unknown status 'bogus'" },
    { "/order/1", 200, "application/json", "[1,2", "not JSON" },
    { "/finalize", 400, "application/problem+json",
      "{\"type\":\"urn:ietf:params:acme:error:badCSR\",\"detail\":\"bad\"}", "bad" },
    { "/cert/1", 200, "application/pem-certificate-chain", "garbage", "no certificate" },
    { "/cert/1", 200, "application/pem-certificate-chain",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be decoded" },
};

static void says_what_is_wrong_and_stages_nothing(void **state)
{
    fake_answer_t bad;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i) {
        assert_int_equal(empty_store(), APR_SUCCESS);
        fake_http_reset(p);
        memset(&bad, 0, sizeof(bad));
        bad.url = BAD[i].url;
        bad.status = BAD[i].status;
        bad.type = BAD[i].type;
        bad.body = BAD[i].body;
        bad.times = -1;
        fake_http_answer(bad);
        script_good_ca(1);
        md_err_clear(&err);
        assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
        assert_non_null(err.detail);
        if (!strstr(err.detail, BAD[i].in_detail))
            fail_msg("%s: '%s' does not say '%s'", BAD[i].url, err.detail, BAD[i].in_detail);
        assert_false(staged("pubcert.p-256.pem"));
    }
}

static void refuses_a_certificate_that_is_not_ours(void **state)
{
    md_key_t *other;

    (void)state;
    assert_int_equal(md_key_generate(&other, &EC, &err, p), APR_SUCCESS);
    answer("/cert/1", 200, "application/pem-certificate-chain", make_pem(NAME, other, 0), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "another private key"));
    assert_false(staged("pubcert.p-256.pem"));
    assert_false(staged("order.json")); /* that order is of no use any more */
}

static void gives_up_on_endless_processing_but_keeps_the_order(void **state)
{
    int waits = 0;

    (void)state;
    answer("/order/1", 200, "application/json", ORDER("processing", ""), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), &waits), MD_STEP_FAILED);
    assert_int_equal(err.rv, APR_TIMEUP);
    assert_non_null(strstr(err.detail, "still reports order"));
    assert_true(waits < 40);
    assert_true(staged("order.json"));
}

static void waits_as_long_as_the_ca_asks(void **state)
{
    fake_answer_t pending = { "POST", "/order/1", 200, 0, "application/json", "Retry-After: 7",
                              ORDER("pending", ""), 3 };
    apr_time_t now = NOW, started = now;
    md_issue_t *issue = issue_make();
    md_step_t step;

    (void)state;
    fake_http_answer(pending);
    script_good_ca(1);
    do {
        step = md_issue_step(issue, now, &err);
        if (step == MD_STEP_WAIT)
            now = issue->wake_at;
    } while (step == MD_STEP_AGAIN || step == MD_STEP_WAIT);
    assert_int_equal(step, MD_STEP_DONE);
    assert_true(now - started >= apr_time_from_sec(6));  /* the header counts from NOW */
    assert_true(now - started < apr_time_from_sec(40));
}

/* A domain of its own with the same CA and account. */
static md_issue_t *another(const md_issue_t *issue, const char *name)
{
    md_issue_t *other = apr_pmemdup(p, issue, sizeof(*issue));
    apr_array_header_t *names = md_strings_make(p);

    APR_ARRAY_PUSH(names, const char *) = name;
    other->name = name;
    other->identifiers = md_identifiers_of(names, p);
    other->order = NULL;
    other->order_pool = NULL;
    return other;
}

#define LIMITED(detail, more) \
    "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"" detail "\"" more "}"

static const struct {
    const char *body;
    int holds_all;
} LIMITS[] = {
    { LIMITED("too many new orders (300) from this account in the last 3h", ""), 1 },
    { LIMITED("too many new orders (300) from this account in the last 3h0m0s, retry after "
              "2026-01-01 00:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/"
              "#new-orders-per-account", ""), 1 },
    { LIMITED("too many certificates (5) already issued for this exact set of identifiers in the "
              "last 168h, see https://ca.test/account", ""), 0 },
    { LIMITED("too many certificates (50) already issued for \\\"example.org\\\" by this account",
              ""), 0 },
    { LIMITED("too many failures of this account", ",\"subproblems\":[{\"type\":\"urn:ietf:params:"
              "acme:error:rateLimited\",\"identifier\":{\"type\":\"dns\",\"value\":\"x\"}}]"), 0 },
    { LIMITED("slowly", ""), 0 },
};

static void a_limit_holds_those_that_it_is_for(void **state)
{
    md_issue_t *issue, *other;
    apr_time_t now = NOW;
    md_step_t step;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(LIMITS) / sizeof(LIMITS[0]); ++i) {
        fake_answer_t limit = { "POST", "/new-order", 429, 0, "application/problem+json",
                                "Retry-After: 600", LIMITS[i].body, 1 };

        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        fake_http_answer(limit);
        script_good_ca(1);
        issue = issue_make();
        assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
        assert_true(md_problem_is(&err, MD_PROBLEM_RATE_LIMITED));
        assert_int_equal(err.scope, LIMITS[i].holds_all ? MD_SCOPE_ACCOUNT : MD_SCOPE_DOMAIN);
        assert_true(err.retry_after > now + apr_time_from_sec(500));
        other = another(issue, "two.example.net");
        step = md_issue_step(other, now, &err);
        assert_int_equal(step, LIMITS[i].holds_all ? MD_STEP_WAIT : MD_STEP_AGAIN);
        assert_int_equal(fake_http_count("/new-order"), LIMITS[i].holds_all ? 1 : 2);
        if (!LIMITS[i].holds_all)
            continue;
        assert_true(other->wake_at > now + apr_time_from_sec(250)); /* not for as long as told */
        assert_true(other->wake_at < now + apr_time_from_sec(310));
        now = other->wake_at;
        assert_int_equal(md_issue_step(other, now, &err), MD_STEP_AGAIN);
        assert_int_equal(md_acct_use_wait(issue->use, issue->name, now), 0); /* it went well */
        now = NOW;
    }
}

/* What is told to several different ones concerns all, whatever the text is. */
static void limits_of_several_hold_all(void **state)
{
    md_acct_use_t *use = md_acct_use_create(NULL, p);
    apr_time_t now = NOW;

    (void)state;
    assert_int_equal(md_acct_use_is_limited(use, "a"), 0);
    assert_int_equal(md_acct_use_is_limited(use, "a"), 0);
    assert_int_equal(md_acct_use_is_limited(use, "b"), 0);
    md_acct_use_served(use);
    assert_int_equal(md_acct_use_is_limited(use, "b"), 0);
    assert_int_equal(md_acct_use_is_limited(use, "a"), 0);
    assert_int_equal(md_acct_use_is_limited(use, "c"), 1);
    md_acct_use_hold(use, 0, now);
    assert_true(md_acct_use_wait(use, "d", now) > now);
    now = md_acct_use_wait(use, "d", now);
    assert_int_equal(md_acct_use_wait(use, "d", now), 0); /* tries first */
    assert_int_equal(md_acct_use_wait(use, "d", now), 0);
    assert_true(md_acct_use_wait(use, "e", now) > now);   /* sees how it goes */
    md_acct_use_hold(use, 0, now);
    assert_true(md_acct_use_wait(use, "d", now) > now);
    now = md_acct_use_wait(use, "d", now) + apr_time_from_sec(3600);
    assert_int_equal(md_acct_use_wait(use, "e", now), 0);
    now += apr_time_from_sec(60); /* which never came back */
    assert_int_equal(md_acct_use_wait(use, "f", now), 0);
    md_acct_use_served(use);
    assert_int_equal(md_acct_use_wait(use, "g", now), 0);
    md_acct_use_hold(use, 0, now + apr_time_from_sec(3600)); /* by a date that was wrong */
    assert_int_equal(md_acct_use_wait(use, "g", now), 0);
}

#define UNAUTHORIZED "{\"type\":\"urn:ietf:params:acme:error:unauthorized\",\"detail\":\"no\"}"

/* The refusal of one name is none of the account. */
static void an_unauthorized_domain_leaves_the_account_alone(void **state)
{
    fake_answer_t refused = { "POST", "/new-order", 403, 0, "application/problem+json", NULL,
                              UNAUTHORIZED, 2 };
    md_issue_t *issue = issue_make();
    const md_acct_t *acct;
    md_err_t why;

    (void)state;
    fake_http_answer(refused);
    script_good_ca(1);
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_true(md_problem_is(&err, MD_PROBLEM_UNAUTHORIZED));
    assert_int_equal(err.scope, MD_SCOPE_DOMAIN);
    acct = md_acct_use_get(issue->use);
    assert_non_null(acct);
    assert_int_equal(fake_http_count("/acct/1"), 1);
    md_err_init(&why, p);
    assert_int_equal(run(another(issue, "two.example.org"), NULL), MD_STEP_FAILED);
    assert_int_equal(fake_http_count("/acct/1"), 1); /* not asked about again so soon */
    assert_ptr_equal(md_acct_use_get(issue->use), acct);
    assert_int_equal(fake_http_count("/new-acct"), 1);
}

/* An account that is gone is replaced in the same attempt; who works with the old one goes on. */
static void an_account_that_is_gone_is_replaced(void **state)
{
    fake_answer_t gone = { "POST", "/acct/1", 400, 0, "application/json", NULL,
                           "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}", 2 };
    fake_answer_t refused = { "POST", "/new-order", 401, 0, "text/plain", NULL, UNAUTHORIZED, 1 };
    fake_answer_t second = { "POST", "/new-acct", 201, 0, "application/json",
                             "Location: " CA "/acct/2", "{\"status\":\"valid\"}", 1 };
    fake_answer_t first = { "POST", "/new-acct", 201, 0, "application/json",
                            "Location: " CA "/acct/1", "{\"status\":\"valid\"}", 1 };
    md_issue_t *issue = issue_make();

    (void)state;
    fake_http_answer(first);
    fake_http_answer(second);
    fake_http_answer(gone);
    fake_http_answer(refused);
    script_good_ca(1);
    assert_int_equal(run(issue, NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-acct"), 2);
    assert_int_equal(fake_http_count("/new-order"), 2);
    assert_string_equal(issue->acct->url, CA "/acct/2");
}

/* The key alone, of an attempt that was interrupted: it goes when its account was ended at the CA, and
 * for no other refusal. */
static void a_staged_key_is_kept_while_it_is_good(void **state)
{
    static const struct { int status; const char *type, *body; int is_kept; } NO[] = {
        { 401, "application/problem+json", UNAUTHORIZED, 0 },
        { 403, "application/problem+json",
          "{\"type\":\"urn:ietf:params:acme:error:externalAccountRequired\"}", 1 },
        { 429, "application/problem+json",
          "{\"type\":\"urn:ietf:params:acme:error:rateLimited\"}", 1 },
        { 403, "application/problem+json",
          "{\"type\":\"urn:ietf:params:acme:error:userActionRequired\"}", 1 },
        { 500, "text/html", "<html>", 1 }, { 503, "text/html", "<html>", 1 },
    };
    md_key_t *key, *after;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(NO) / sizeof(NO[0]); ++i) {
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        assert_int_equal(md_key_generate(&key, &EC, &err, p), APR_SUCCESS);
        assert_int_equal(md_store_save_key(store, MD_STORE_STAGING, NAME, "account.pem", key, &err,
                                           p), APR_SUCCESS);
        answer("/new-acct", NO[i].status, NO[i].type, NO[i].body, NO[i].is_kept ? 20 : 1);
        script_good_ca(1);
        assert_int_equal(run(issue_make(), NULL), NO[i].is_kept ? MD_STEP_FAILED : MD_STEP_DONE);
        assert_int_equal(md_store_load_key(&after, store, MD_STORE_STAGING, NAME, "account.pem",
                                           &err, p), APR_SUCCESS);
        assert_int_equal(!strcmp(md_jwk_thumbprint(after, p), md_jwk_thumbprint(key, p)),
                         NO[i].is_kept);
        md_err_clear(&err);
    }
}

/* {"onlyReturnExisting":true} */
#define BY_KEY "\"payload\":\"eyJvbmx5UmV0dXJuRXhpc3RpbmciOnRydWV9\""

/* A key alone in the directory of another domain. */
static const char *leave_key(const char *name)
{
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &EC, &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_key(store, MD_STORE_STAGING, name, "account.pem", key, &err, p),
                     APR_SUCCESS);
    return md_jwk_thumbprint(key, p);
}

static int has_key(const char *name)
{
    return md_store_exists(store, MD_STORE_STAGING, name, "account.pem", p);
}

static const char *staged_thumbprint(void)
{
    md_acct_t *acct;

    assert_int_equal(md_acct_load(&acct, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    return acct->thumbprint;
}

/* The CA may have registered the account of a domain whose process ended before it knew. */
static void an_account_is_looked_for_by_all_keys(void **state)
{
    const char *unknown = "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}";
    const char *thumbprint;

    (void)state;
    (void)leave_key("a.example.org");
    thumbprint = leave_key("b.example.org");
    answer("/new-acct", 400, "application/problem+json", unknown, 1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-acct"), 2);
    assert_non_null(strstr(fake_http_body("/new-acct", 1), BY_KEY));
    assert_non_null(strstr(fake_http_body("/new-acct", 2), BY_KEY));
    assert_string_equal(staged_thumbprint(), thumbprint);
    assert_false(has_key("b.example.org"));
}

static int warnings;

static void count_warnings(const char *file, int line, md_log_level_t level, const char *msg)
{
    (void)file;
    (void)line;
    (void)msg;
    warnings += level <= MD_LOG_WARNING;
}

static int is_logged(md_log_level_t level)
{
    return level <= MD_LOG_WARNING;
}

/* One that it does not know will do as well as a new one, and no more are left. That is no reason
 * to worry. */
static void a_key_that_is_alone_is_used_for_the_next_account(void **state)
{
    const char *unknown = "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}";
    const char *thumbprint = leave_key("a.example.org");

    (void)state;
    (void)leave_key("b.example.org");
    answer("/new-acct", 400, "application/problem+json", unknown, 2);
    script_good_ca(1);
    warnings = 0;
    md_log_set(count_warnings, is_logged);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    md_log_set(NULL, NULL);
    assert_int_equal(warnings, 0);
    assert_int_equal(fake_http_count("/new-acct"), 3);
    assert_null(strstr(fake_http_body("/new-acct", 3), BY_KEY));
    assert_string_equal(staged_thumbprint(), thumbprint);
    assert_false(has_key("a.example.org"));
    assert_false(has_key("b.example.org"));
    assert_false(staged("account.wish.json")); /* it has come about */
}

static void nothing_is_registered_while_a_key_cannot_be_asked_for(void **state)
{
    (void)state;
    (void)leave_key("a.example.org");
    answer("/new-acct", 500, "text/plain", "broken", 2);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "broken"));
    assert_int_equal(fake_http_count("/new-acct"), 2); /* repeated once */
    assert_non_null(strstr(fake_http_body("/new-acct", 2), BY_KEY));
    assert_true(has_key("a.example.org"));
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-acct"), 3);
}

static md_issue_t *bound_issue(void)
{
    md_issue_t *issue = issue_make();

    issue->wish.eab_kid = "kid-1";
    issue->wish.eab_hmac = "bWFjLWtleQ";
    return issue;
}

/* Those for another CA, or another external account, are none of ours, and kept. */
static void a_key_is_for_one_ca_and_external_account(void **state)
{
    md_issue_t *issue = bound_issue();
    int i, lone = 0;

    (void)state;
    issue->name = "a.example.org";
    fake_http_script(DIRECTORY);
    answer("/new-acct", 500, "text/plain", "broken", 2);
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_true(has_key("a.example.org"));
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-acct"), 3);
    assert_null(strstr(fake_http_body("/new-acct", 3), BY_KEY));
    assert_true(has_key("a.example.org"));
    issue = bound_issue(); /* the other one makes room for it */
    md_store_remove(store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem", p);
    assert_int_equal(run(issue, NULL), MD_STEP_DONE);
    assert_non_null(strstr(fake_http_body("/new-acct", 4), BY_KEY));
    assert_string_equal(issue->acct->eab_kid, "kid-1");
    assert_false(has_key("a.example.org"));
    for (i = 0; i < md_store_names(store, MD_STORE_STAGING, p)->nelts; ++i)
        lone += !strncmp(APR_ARRAY_IDX(md_store_names(store, MD_STORE_STAGING, p), i, const char *),
                         MD_ACCT_ALONE, strlen(MD_ACCT_ALONE));
    assert_int_equal(lone, 1);
}

/* Something in front of the CA refuses the look at the account once. */
static void an_account_is_asked_for_by_its_key(void **state)
{
    fake_answer_t wall = { "POST", "/acct/1", 403, 0, "text/html", NULL, "<html>", 1 };
    fake_answer_t known = { "POST", "/new-acct", 200, 0, "application/json",
                            "Location: " CA "/acct/1", "{\"status\":\"valid\"}", 1 };
    md_acct_t *acct, *after;

    (void)state;
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(md_acct_load(&acct, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    md_store_remove(store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem", p);
    fake_http_reset(p);
    fake_http_answer(wall);
    fake_http_answer(known);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-acct"), 1);
    assert_non_null(strstr(fake_http_body("/new-acct", 1), BY_KEY));
    assert_int_equal(md_acct_load(&after, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    assert_string_equal(after->thumbprint, acct->thumbprint);
}

static void a_wall_before_the_account_keeps_it(void **state)
{
    fake_answer_t wall = { "POST", "/acct/1", 403, 0, "text/html", NULL, "<html>", -1 };
    fake_answer_t wall2 = { "POST", "/new-acct", 403, 0, "text/html", NULL, "<html>", -1 };
    md_acct_t *acct, *after;

    (void)state;
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(md_acct_load(&acct, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    md_store_remove(store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem", p);
    fake_http_reset(p);
    fake_http_answer(wall);
    fake_http_answer(wall2);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "403"));
    assert_int_equal(md_acct_load(&after, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    assert_string_equal(after->thumbprint, acct->thumbprint);
}

/* Bursts, and servers that do not know yet what another made. */
static void what_passes_is_waited_for(void **state)
{
    static const struct { const char *url; int status; const char *type, *body; } PASSING[] = {
        { "/new-order", 429, "text/html", "<html>" },
        { "/new-order", 503, "text/plain", "busy" },
        { "/authz/1", 429, "application/problem+json", LIMITED("this path", "") },
        { "/authz/1", 404, "application/problem+json",
          "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"not found\"}" },
        { "/order/1", 404, "text/html", "<html>" },
        { "/finalize", 503, "application/problem+json",
          "{\"type\":\"urn:ietf:params:acme:error:serverInternal\",\"detail\":\"busy\"}" },
        { "/cert/1", 404, "text/plain", "not yet" },
        { "/new-order", 400, "application/problem+json",
          "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\",\"detail\":\"who?\"}" },
        { "/chall/1", 500, "text/html", "<html>" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(PASSING) / sizeof(PASSING[0]); ++i) {
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        answer(PASSING[i].url, PASSING[i].status, PASSING[i].type, PASSING[i].body,
               PASSING[i].status == 500 ? 1 : 3);
        script_good_ca(1);
        if (run(issue_make(), NULL) != MD_STEP_DONE)
            fail_msg("%s %d: %s", PASSING[i].url, PASSING[i].status, err.detail);
        assert_int_equal(fake_http_count("/new-acct"), 1);
        assert_int_equal(fake_http_count("/finalize") > 1, !strcmp(PASSING[i].url, "/finalize"));
    }
}

static const struct {
    int status;
    const char *type, *body, *problem, *detail;
    int is_lasting;
} REFUSALS[] = {
    { 400, "application/json", "{\"detail\":\"the words\"}", NULL, "the words", 0 },
    { 400, "application/json", "{\"message\":\"the words\"}", NULL, "the words", 0 },
    { 400, "application/json", "{\"title\":\"the words\"}", NULL, "the words", 0 },
    { 403, "text/plain", "the words", NULL, "the words", 0 },
    { 403, "text/plain", "the \033[31mwords", NULL, "the ?[31mwords", 0 },
    { 400, "application/json",
      "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":\"the words\"}",
      "urn:ietf:params:acme:error:rejectedIdentifier", "the words", 1 },
    { 403, "text/html",
      " {\"type\":\"urn:acme:error:rejectedIdentifier\",\"title\":\"the words\"}",
      "urn:acme:error:rejectedIdentifier", "the words", 1 },
    { 400, "application/problem+json", "{\"type\":\"about:blank\",\"detail\":\"the words\"}",
      "about:blank", "the words", 0 },
    { 403, "application/problem+json",
      "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\"}",
      "urn:ietf:params:acme:error:rejectedIdentifier", "the CA gives no reason", 1 },
};

static void refusals_are_understood_in_any_wrapping(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(REFUSALS) / sizeof(REFUSALS[0]); ++i) {
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        answer("/new-order", REFUSALS[i].status, REFUSALS[i].type, REFUSALS[i].body, -1);
        script_good_ca(1);
        assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
        assert_non_null(strstr(err.detail, REFUSALS[i].detail));
        assert_int_equal(err.is_lasting, REFUSALS[i].is_lasting);
        if (REFUSALS[i].problem)
            assert_string_equal(err.type, REFUSALS[i].problem);
        else
            assert_null(err.type);
    }
}

/* 157 bytes. */
#define NESTED "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":\"no such\"," \
    "\"subproblems\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"

/* Whatever a CA sends: what is kept of it can be read back. */
static void subproblems_are_bounded(void **state)
{
    md_json_t *problem = md_json_object(p), *list = md_json_array(p), *one, *kept, *deep;
    char *text = apr_palloc(p, 20001);
    int i;

    (void)state;
    memset(text, 'x', 20000);
    text[20000] = '\0';
    assert_int_equal(md_json_parse(&deep, "{\"a\":[[[[[[[[[[[1]]]]]]]]]]]}", 29, &err, p), 0);
    for (i = 0; i < 1500; ++i) {
        one = md_json_object(p);
        md_json_set_str(one, "type", "urn:ietf:params:acme:error:caa");
        md_json_set_str(one, "detail", i < 2 ? text : "short");
        md_json_set_str(one, "identifier.type", "dns");
        md_json_set_str(one, "identifier.value", "a.example.org");
        md_json_set(one, "nested", deep);
        md_json_append(list, one);
    }
    md_json_set_str(problem, "type", "urn:ietf:params:acme:error:compound");
    md_json_set_str(problem, "detail", text);
    md_json_set(problem, "subproblems", list);
    assert_int_equal(md_problem_fail(&err, problem, "p: "), APR_EGENERAL);
    assert_int_equal(strlen(err.detail), MD_MAX_DETAIL + strlen("[...]"));
    assert_true(strlen(err.subproblems) <= MD_MAX_SUBPROBLEM_TEXT);
    assert_int_equal(md_json_parse(&kept, err.subproblems, strlen(err.subproblems), &err, p), 0);
    assert_int_equal(md_json_size(kept), MD_MAX_SUBPROBLEMS);
    assert_string_equal(md_json_get_str(md_json_at(kept, 99, p), "identifier.value"),
                        "a.example.org");
    assert_false(md_json_has(md_json_at(kept, 0, p), "nested"));
    md_json_set_str(problem, "subproblems", "none");
    (void)md_problem_fail(&err, problem, "");
    assert_null(err.subproblems);
    assert_int_equal(md_json_parse(&problem, NESTED, strlen(NESTED), &err, p), 0);
    (void)md_problem_fail(&err, problem, "");
    assert_null(err.subproblems);
}

/* What is kept of an account, too, whatever the CA tells about it. */
static void a_large_account_can_be_read_back(void **state)
{
    fake_answer_t large = { "POST", "/new-acct", 201, 0, "application/json",
                            "Location: " CA "/acct/1", NULL, -1 };
    char *filler = apr_pcalloc(p, 250001);
    md_acct_t *acct;

    (void)state;
    memset(filler, 'x', 250000);
    large.body = apr_pstrcat(p, "{\"status\":\"valid\",\"contact\":[\"", filler, "\"]}", NULL);
    fake_http_answer(large);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(md_acct_load(&acct, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    assert_string_equal(acct->url, CA "/acct/1");
    assert_null(acct->registration);
    assert_string_equal(APR_ARRAY_IDX(acct->contacts, 0, const char *),
                        "mailto:admin@example.org");
}

static void subproblems_are_told_by_name(void **state)
{
    static const struct { const char *subproblems, *text; } ROWS[] = {
        { NULL, "" }, { "[]", "" }, { "[{\"type\":\"caa\"}]", "" },
        { "[{\"detail\":\"no CAA\",\"identifier\":{\"value\":\"a.test\"}}]", " (a.test: no CAA)" },
        { "[{\"detail\":\"one\"},{\"type\":\"x\"},{\"detail\":\"two\",\"identifier\":{\"value\":\"b\"}}]",
          " (one; b: two)" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        err.subproblems = ROWS[i].subproblems;
        assert_string_equal(md_problem_parts(&err, p), ROWS[i].text);
    }
}

static void repeats_after_bad_nonce(void **state)
{
    fake_answer_t bad = { "POST", "/new-order", 400, 0, "application/problem+json", NULL,
                          "{\"type\":\"urn:ietf:params:acme:error:badNonce\",\"detail\":\"x\"}", 5 };

    (void)state;
    fake_http_answer(bad);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-order"), 6);
}

static void falls_back_to_rs256(void **state)
{
    fake_answer_t bad = { "POST", "/new-acct", 400, 0, "application/problem+json", NULL,
                          "{\"type\":\"urn:ietf:params:acme:error:badSignatureAlgorithm\","
                          "\"detail\":\"RS256 only\",\"algorithms\":[\"RS256\"]}", 1 };
    md_acct_t *acct;

    (void)state;
    fake_http_answer(bad);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(md_acct_load(&acct, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    assert_string_equal(md_key_jws_alg(acct->key), "RS256");
}

static void an_invalid_order_tells_why(void **state)
{
    static const char AUTHZ_INVALID[] =
        "{\"status\":\"invalid\",\"identifier\":{\"value\":\"" NAME "\"},\"challenges\":[{\"type\":"
        "\"http-01\",\"url\":\"" CA "/chall/1\",\"token\":\"tok-1\",\"status\":\"invalid\","
        "\"error\":{\"type\":\"urn:ietf:params:acme:error:connection\",\"detail\":\"refused\"}}]}";

    (void)state;
    answer("/authz/1", 200, "application/json", AUTHZ("pending", "pending"), 1);
    answer("/authz/1", 200, "application/json", AUTHZ_INVALID, -1);
    answer("/order/1", 200, "application/json", ORDER("invalid", ""), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_string_equal(err.type, "urn:ietf:params:acme:error:connection");
    assert_non_null(strstr(err.detail, "CA considers answer to challenge invalid"));
    assert_false(staged("order.json"));
    assert_false(md_store_exists(store, MD_STORE_CHALLENGES, NAME, NULL, p));
}

static void no_common_challenge(void **state)
{
    md_issue_t *issue = issue_make();
    apr_array_header_t *types = md_strings_make(p);

    (void)state;
    APR_ARRAY_PUSH(types, const char *) = "dns-77";
    issue->solver.types = types;
    script_good_ca(1);
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_string_equal(err.type, "challenge-mismatch");
    assert_non_null(strstr(err.detail, "None of offered challenge types for domain " NAME));
}

static void a_resumed_order_for_other_names_is_replaced(void **state)
{
    static const char OTHER[] =
        "{\"status\":\"ready\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"x.example.org\"}],"
        "\"finalize\":\"" CA "/order/7/finalize\"}";
    md_json_t *json;

    (void)state;
    assert_int_equal(md_json_parse(&json, OTHER, strlen(OTHER), &err, p), APR_SUCCESS);
    md_json_set_str(json, "url", CA "/order/7");
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, NAME, "order.json", json, &err, p),
                     APR_SUCCESS);
    answer("/order/7", 200, "application/json", OTHER, -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/new-order"), 1);
    assert_int_equal(fake_http_count("/order/7/finalize"), 0);
}

static void contact_and_terms_are_asked_for(void **state)
{
    md_issue_t *issue = issue_make();

    (void)state;
    script_good_ca(1);
    issue->wish.agreement = NULL;
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "the CA requires you to accept the terms-of-service as "
                                       "specified in"));
    issue->wish.agreement = "https://ca.test/other";
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "as specified in <" CA "/tos>, but you accepted those at "
                                       "<https://ca.test/other>"));
    issue->wish.contacts = md_strings_make(p);
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "No contact information"));
    assert_int_equal(fake_http_count("/new-acct"), 0);
    issue = issue_make();
    issue->wish.agreement = CA "/tos";
    assert_int_equal(run(issue, NULL), MD_STEP_DONE);
}

static void save_account(md_store_group_t group, const char *name, const char *url)
{
    md_acct_t acct = { .url = url, .ca_url = CA "/dir", .contacts = md_strings_make(p) };
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &EC, &err, p), APR_SUCCESS);
    acct.key = key;
    assert_int_equal(md_acct_save(&acct, store, group, name, &err, p), APR_SUCCESS);
}

/* From staging into `accounts`, as a start does it. */
static apr_status_t promote(const char **pid, const md_store_t *in, const char *name, md_err_t *why,
                            apr_pool_t *pool)
{
    md_acct_packed_t packed;
    apr_status_t rv = md_acct_pack(&packed, in, name, why, pool);

    return rv == APR_SUCCESS ? md_acct_keep(pid, in, &packed, why, pool) : rv;
}

static void restart(void)
{
    const char *id = NULL;

    assert_int_equal(promote(&id, store, "other.example.org", &err, p), APR_SUCCESS);
    md_store_remove(store, MD_STORE_STAGING, "other.example.org", NULL, p);
}

/* A child that looks for an account finds it, wherever a restart just moves it. */
static void an_account_is_found_while_it_is_moved(void **state)
{
    fake_answer_t gone = { "POST", "/acct/7", 400, 0, "application/problem+json", NULL,
                           "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}", -1 };

    (void)state;
    save_account(MD_STORE_ACCOUNTS, "ACME-ca.test-0000", CA "/acct/7");
    save_account(MD_STORE_STAGING, "other.example.org", CA "/acct/1");
    fake_http_answer(gone);
    fake_http_meanwhile("/acct/7", restart);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/acct/7"), 1);
    assert_int_equal(fake_http_count("/acct/1"), 1);
    assert_int_equal(fake_http_count("/new-acct"), 0);
}

#define PROBLEM(type, detail) \
    "{\"type\":\"urn:ietf:params:acme:error:" type "\",\"detail\":\"" detail "\"}"
#define AUTHZ_OF(name, status, challenges) \
    "{\"status\":\"" status "\",\"identifier\":{\"type\":\"dns\",\"value\":\"" name "\"}," \
    "\"challenges\":[" challenges "]}"
#define CHALL(type, status, more) \
    "{\"type\":\"" type "\",\"url\":\"" CA "/chall/" type "\",\"token\":\"tok-1\"," \
    "\"status\":\"" status "\"" more "}"
#define NO_ROUTE ",\"error\":" PROBLEM("connection", "no route to 192.0.2.1:80")

/* The CA says what is wrong with a challenge, and leaves all else as it is. */
static const struct { const char *answered, *later; } FAILED_ALONE[] = {
    { CHALL("http-01", "invalid", NO_ROUTE), NULL },
    { "{}", AUTHZ_OF(NAME, "pending", CHALL("http-01", "invalid", NO_ROUTE)) },
    { "{}", AUTHZ_OF(NAME, "invalid", CHALL("http-01", "invalid", NO_ROUTE)) },
    { "{}", AUTHZ_OF(NAME, "invalid", CHALL("http-01", "pending", NO_ROUTE)) },
};

static void a_challenge_that_failed_ends_the_attempt(void **state)
{
    md_issue_t *issue;
    apr_time_t now;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(FAILED_ALONE) / sizeof(FAILED_ALONE[0]); ++i) {
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        answer("/order/1", 200, "application/json", ORDER("pending", ""), -1);
        answer("/authz/1", 200, "application/json",
               AUTHZ_OF(NAME, "pending", CHALL("http-01", "pending", "")), 1);
        answer("/authz/1", 200, "application/json", FAILED_ALONE[i].later, -1);
        answer("/chall/http-01", 200, "application/json", FAILED_ALONE[i].answered, -1);
        script_good_ca(1);
        issue = issue_make();
        assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
        assert_string_equal(err.type, "urn:ietf:params:acme:error:connection");
        assert_non_null(strstr(err.detail, NAME));
        assert_non_null(strstr(err.detail, "no route to 192.0.2.1:80"));
        assert_string_equal(issue->failed_type, "http-01");
        assert_false(staged("order.json"));
        now = NOW;
        assert_true(issue->poll_since == 0 || issue->poll_since < now + apr_time_from_sec(20));
        assert_true(issue->wake_at < now + apr_time_from_sec(20));
    }
}

/* RFC 8555 8.2: the CA tries again when it is told to, and says why it had to. */
static void a_challenge_is_answered_again_when_the_ca_wants_it(void **state)
{
    (void)state;
    answer("/authz/1", 200, "application/json",
           AUTHZ_OF(NAME, "pending", CHALL("http-01", "pending", "")), 1);
    answer("/authz/1", 200, "application/json",
           AUTHZ_OF(NAME, "pending", CHALL("http-01", "pending", NO_ROUTE)), -1);
    answer("/chall/http-01", 200, "application/json", "{}", -1);
    answer("/order/1", 200, "application/json", ORDER("pending", ""), 8);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/chall/http-01"), 2);
    fake_http_reset(p);
    md_store_remove(store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem", p);
    answer("/authz/1", 200, "application/json",
           AUTHZ_OF(NAME, "pending", CHALL("http-01", "pending", NO_ROUTE)), -1);
    answer("/chall/http-01", 200, "application/json", "{}", -1);
    answer("/order/1", 200, "application/json", ORDER("pending", ""), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "still reports order"));
    assert_non_null(strstr(err.detail, "no route to 192.0.2.1:80"));
    assert_int_equal(fake_http_count("/chall/http-01"), 2);
}

/* One that became valid before we answered: nothing is wrong. */
static void a_late_answer_does_no_harm(void **state)
{
    (void)state;
    answer("/authz/1", 200, "application/json", AUTHZ("pending", "pending"), 1);
    answer("/chall/1", 400, "application/problem+json", PROBLEM("malformed", "it is valid"), 1);
    answer("/authz/1", 200, "application/json", AUTHZ("valid", "valid"), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
}

static md_issue_t *issue_with_both_types(const char *failed)
{
    md_issue_t *issue = issue_make();
    apr_array_header_t *types = md_strings_make(p), *acme_tls = md_strings_make(p);

    APR_ARRAY_PUSH(types, const char *) = "http-01";
    APR_ARRAY_PUSH(types, const char *) = "tls-alpn-01";
    APR_ARRAY_PUSH(acme_tls, const char *) = NAME;
    issue->solver.types = types;
    issue->solver.acme_tls = acme_tls;
    issue->solver.failed_type = failed;
    return issue;
}

static void what_failed_is_not_the_first_choice(void **state)
{
    static const char *const BOTH = AUTHZ_OF(NAME, "pending", CHALL("http-01", "pending", "") ","
                                             CHALL("tls-alpn-01", "pending", ""));
    static const char *const HTTP_FAILED = AUTHZ_OF(NAME, "pending",
                                                    CHALL("http-01", "invalid", NO_ROUTE) ","
                                                    CHALL("tls-alpn-01", "pending", ""));
    static const struct { const char *authz, *failed, *chosen; } CHOICES[] = {
        { BOTH, NULL, "/chall/http-01" },
        { BOTH, "http-01", "/chall/tls-alpn-01" },
        { BOTH, "tls-alpn-01", "/chall/http-01" },
        { BOTH, "dns-77", "/chall/http-01" },
        { HTTP_FAILED, NULL, "/chall/tls-alpn-01" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(CHOICES) / sizeof(CHOICES[0]); ++i) {
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        answer("/authz/1", 200, "application/json", CHOICES[i].authz, -1);
        answer("/chall/http-01", 200, "application/json", "{}", -1);
        answer("/chall/tls-alpn-01", 200, "application/json", "{}", -1);
        script_good_ca(1);
        assert_int_equal(run(issue_with_both_types(CHOICES[i].failed), NULL), MD_STEP_DONE);
        assert_int_equal(fake_http_count(CHOICES[i].chosen), 1);
        assert_int_equal(fake_http_count("/chall/http-01") + fake_http_count("/chall/tls-alpn-01"),
                         1);
    }
}

static void the_automatic_order_begins_with_http_01(void **state)
{
    static const struct { int http, https; const char *types; } PORTS[] = {
        { 1, 1, "http-01 tls-alpn-01" }, { 1, 0, "http-01" }, { 0, 1, "tls-alpn-01" },
        { 0, 0, NULL },
    };
    md_issue_t *issue = issue_with_both_types(NULL);
    const char *why;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(PORTS) / sizeof(PORTS[0]); ++i) {
        issue->solver.http_reachable = PORTS[i].http;
        issue->solver.https_reachable = PORTS[i].https;
        assert_string_equal(apr_array_pstrcat(p, md_solver_usable(&issue->solver, &why, p), ' '),
                            PORTS[i].types ? PORTS[i].types : "");
        assert_int_equal(why != NULL, !PORTS[i].types);
    }
}

/* Neither names that were not ordered, nor set-ups that are not ours. */
static void a_ca_gets_no_answer_for_other_names(void **state)
{
    fake_answer_t planted = { "POST", "/new-order", 201, 0, "application/json",
                              "Location: " CA "/order/1",
                              ORDER("pending", ",\"challenge-setups\":[\"http-01:"
                                    "other.example.org\"]"), -1 };

    (void)state;
    assert_int_equal(md_store_save_text(store, MD_STORE_CHALLENGES, "other.example.org",
                                        MD_HTTP01_FILE, "its answer", &err, p), APR_SUCCESS);
    fake_http_answer(planted);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_true(md_store_exists(store, MD_STORE_CHALLENGES, "other.example.org", MD_HTTP01_FILE,
                                p));
    fake_http_reset(p);
    md_store_remove(store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem", p);
    answer("/authz/1", 200, "application/json",
           AUTHZ_OF("foreign.example.org", "pending", CHALL("http-01", "pending", "")), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "of control over 'foreign.example.org', which was not ordered"));
    assert_false(md_store_exists(store, MD_STORE_CHALLENGES, "foreign.example.org", NULL, p));
    assert_int_equal(fake_http_count("/chall/http-01"), 0);
}

/* Connects, with a disk that is all right, up to the order. */
static void connect_ca(md_issue_t *issue)
{
    while (!md_acct_use_get(issue->use))
        assert_int_equal(md_issue_step(issue, NOW, &err), MD_STEP_AGAIN);
}

/* While another run registers the account, and not before, as it may come to nothing. */
static void who_waits_for_the_account_gets_a_nonce(void **state)
{
    static const fake_answer_t REGISTERED = {
        "POST", "/new-acct", 201, 0, "application/json",
        "Location: " CA "/acct/1\nReplay-Nonce: ", "{\"status\":\"valid\"}", 1
    };
    md_issue_t *issue;
    const md_acct_t *acct;
    int i;

    (void)state;
    fake_http_answer(REGISTERED);
    script_good_ca(1);
    issue = issue_make();
    assert_true(md_acct_use_begin(&acct, issue->use));
    assert_int_equal(md_issue_step(issue, NOW, &err), MD_STEP_WAIT);
    assert_int_equal(fake_http_count(""), 0);
    assert_int_equal(md_acme_load_directory(issue->acme, NOW, &err, p), APR_SUCCESS);
    assert_int_equal(md_issue_step(issue, NOW, &err), MD_STEP_WAIT);
    assert_int_equal(fake_http_count("/nonce"), 0);
    assert_int_equal(set_up_ca(&acct, issue, NOW, &err, p), APR_SUCCESS);
    assert_int_equal(fake_http_count("/nonce"), 0); /* as the directory brought one */
    for (i = 0; i < 3; ++i)
        assert_int_equal(md_issue_step(issue, NOW, &err), MD_STEP_WAIT);
    assert_int_equal(fake_http_count("/nonce"), 1);
    md_acct_use_end(issue->use, acct);
    assert_int_equal(run(issue, NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/nonce"), 1);
}

static const char *synced_at;
static int was_synced;

static int note_synced_at(fake_answer_t *answer, const md_request_t *request, apr_pool_t *pool)
{
    (void)answer;
    (void)pool;
    if (strstr(request->url, synced_at))
        was_synced = strstr(fail_files.synced, " order.json") != NULL;
    return 0;
}

/* A power failure costs an order that nobody worked for, and nothing that is counted. */
static void an_order_is_on_disk_before_it_is_worth_it(void **state)
{
    static const struct { const char *url; int is_ready, is_synced; } AT[] = {
        { "/authz/1", 0, 0 }, { "/chall/1", 0, 1 }, { "/finalize", 0, 1 }, { "/finalize", 1, 1 },
    };
    fake_answer_t ready = NEW_ORDER;
    size_t i;

    (void)state;
    ready.body = ORDER("ready", "");
    for (i = 0; i < sizeof(AT) / sizeof(AT[0]); ++i) {
        assert_int_equal(empty_store(), APR_SUCCESS);
        fake_http_reset(p);
        if (AT[i].is_ready)
            fake_http_answer(ready);
        script_good_ca(1);
        fake_http_serve(note_synced_at);
        fail_files.synced[0] = '\0';
        synced_at = AT[i].url;
        was_synced = -1;
        assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
        assert_int_equal(was_synced, AT[i].is_synced);
    }
}

static void lose_key(void)
{
    md_store_remove(store, MD_STORE_STAGING, NAME, "privkey.p-256.pem", p);
}

/* Though the run has it in memory. */
static void a_lost_key_is_noticed(void **state)
{
    (void)state;
    script_good_ca(1);
    fake_http_meanwhile("/finalize", lose_key);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "no longer in staging"));
    assert_false(staged("pubcert.p-256.pem"));
}

/* What cannot be stored is not ordered, and what was ordered is not ordered again. */
static void no_order_without_its_document(void **state)
{
    md_issue_t *issue;
    int n, came = 1;

    (void)state;
    for (n = 0; n < 100 && came; ++n) { /* 0: the disk is full all the time */
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        script_good_ca(1);
        issue = issue_make();
        connect_ca(issue);
        fail_files_arm(n ? n : 1, n == 0, ENOSPC);
        if (run(issue, NULL) == MD_STEP_FAILED)
            assert_int_equal(err.scope, MD_SCOPE_SELF);
        came = fail_files_disarm();
        if (n == 0)
            assert_int_equal(fake_http_count("/new-order"), 0);
        md_err_clear(&err);
        answer("/order/1", 200, "application/json", ORDER("ready", ""), 1);
        assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
        assert_int_equal(fake_http_count("/new-order"), 1);
    }
    assert_true(n > 10);
}

/* An https: CA is asked for nothing by http:, whatever it writes. */
static void nothing_is_asked_in_clear(void **state)
{
    static const struct { const char *method, *url; int status; const char *headers, *body; } CLEAR[] = {
        { "GET", "/dir", 200, "Replay-Nonce:", "{\"newNonce\":\"http://ca.test/nonce\","
          "\"newAccount\":\"" CA "/new-acct\",\"newOrder\":\"" CA "/new-order\"}" },
        { "GET", "/dir", 200, NULL, "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"http://ca.test"
          "/new-acct\",\"newOrder\":\"" CA "/new-order\"}" },
        { "GET", "/dir", 200, NULL, "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA
          "/new-acct\",\"newOrder\":\"http://ca.test/new-order\"}" },
        { "POST", "/new-acct", 201, "Location: http://ca.test/acct/1", "{\"status\":\"valid\"}" },
        { "POST", "/new-order", 201, "Location: http://ca.test/order/1", ORDER("pending", "") },
        { "POST", "/new-order", 201, "Location: " CA "/order/1",
          "{\"status\":\"pending\",\"authorizations\":[\"http://ca.test/authz/1\"],"
          "\"finalize\":\"" CA "/order/1/finalize\"}" },
        { "POST", "/new-order", 201, "Location: " CA "/order/1",
          "{\"status\":\"ready\",\"authorizations\":[],\"finalize\":\"http://ca.test/finalize\"}" },
        { "POST", "/authz/1", 200, NULL,
          "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"" NAME "\"},"
          "\"challenges\":[{\"type\":\"http-01\",\"url\":\"http://ca.test/chall/1\","
          "\"token\":\"tok-1\",\"status\":\"pending\"}]}" },
        { "POST", "/order/1", 200, NULL,
          ORDER("valid", ",\"certificate\":\"http://ca.test/cert/1\"") },
    };
    fake_answer_t a;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(CLEAR) / sizeof(CLEAR[0]); ++i) {
        assert_int_equal(empty_store(), 0);
        fake_http_reset(p);
        memset(&a, 0, sizeof(a));
        a.method = CLEAR[i].method;
        a.url = CLEAR[i].url;
        a.status = CLEAR[i].status;
        a.type = "application/json";
        a.headers = CLEAR[i].headers;
        a.body = CLEAR[i].body;
        a.times = -1;
        fake_http_answer(a);
        script_good_ca(1);
        assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
        if (!strstr(err.detail, "http://ca.test/") || !strstr(err.detail, "which is not https:"))
            fail_msg("%s: %s", CLEAR[i].url, err.detail);
        assert_int_equal(fake_http_count_prefix("http://"), 0);
    }
}

/* What is relative to the URL of an order repeats it: the CA does not decide how much memory that
 * takes. */
static void urls_have_a_maximum(void **state)
{
    fake_answer_t a = { .method = "POST", .url = "/new-order", .status = 201,
                        .type = "application/json", .times = -1 };
    int i;

    (void)state;
    a.headers = apr_psprintf(p, "Location: " CA "/%0*d/1", MD_MAX_URI, 0);
    a.body = "";
    for (i = 0; i < 1000; ++i)
        a.body = apr_pstrcat(p, a.body, i ? "," : "", "\"a\"", NULL);
    a.body = apr_pstrcat(p, "{\"status\":\"pending\",\"authorizations\":[", a.body, "]}", NULL);
    fake_http_answer(a);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "gives a URL that cannot be used: too long"));
}

/* Who writes an order's document does not decide how long it takes to drop it. */
static void as_many_are_torn_down_as_names_are_ordered(void **state)
{
    apr_array_header_t *setups = md_strings_make(p);
    md_json_t *json = md_json_object(p);
    int i;

    (void)state;
    for (i = 0; i <= MD_MAX_NAMES; ++i)
        APR_ARRAY_PUSH(setups, const char *) = apr_psprintf(p, "http-01:%d.org", i);
    md_json_set_strings(json, "challenge-setups", setups);
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, NAME, "order.json", json, &err, p),
                     APR_SUCCESS);
    for (i = MD_MAX_NAMES - 1; i <= MD_MAX_NAMES; ++i)
        assert_int_equal(md_store_save_text(store, MD_STORE_CHALLENGES,
                                            apr_psprintf(p, "%d.org", i), "x", "x", &err, p),
                         APR_SUCCESS);
    md_order_drop(store, NAME, p);
    assert_false(md_store_exists(store, MD_STORE_CHALLENGES, "999.org", "x", p));
    assert_true(md_store_exists(store, MD_STORE_CHALLENGES, "1000.org", "x", p));
}

static void relative_references_are_followed(void **state)
{
    static const fake_answer_t RELATIVE[] = {
        { "GET", "/dir", 200, 0, "application/json", NULL,
          "{\"newNonce\":\"nonce\",\"newAccount\":\"/new-acct\",\"newOrder\":\"/new-order\"}", -1 },
        { "POST", "/new-acct", 201, 0, "application/json", "Location: /acct/1",
          "{\"status\":\"valid\"}", -1 },
        { "POST", "/new-order", 201, 0, "application/json", "Location: order/1",
          "{\"status\":\"pending\",\"authorizations\":[\"/authz/1\"],"
          "\"finalize\":\"1/finalize\"}", -1 },
        { 0 }
    };

    (void)state;
    fake_http_script(RELATIVE);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("https://ca.test/order/1/finalize"), 1);
    assert_int_equal(fake_http_count("https://ca.test/authz/1"), 1);
}

static void an_order_that_is_not_ready_is_finalized_again(void **state)
{
    (void)state;
    answer("/finalize", 403, "application/problem+json", PROBLEM("orderNotReady", "wait"), 2);
    answer("/order/1", 200, "application/json", ORDER("pending", ""), 1);
    answer("/order/1", 200, "application/json", ORDER("ready", ""), 3);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_DONE);
    assert_int_equal(fake_http_count("/finalize"), 3);
}

static void statuses_only_advance(void **state)
{
    int i, waits;

    (void)state;
    for (i = 0; i < 60; ++i) {
        answer("/order/1", 200, "application/json", ORDER("processing", ""), 1);
        answer("/order/1", 200, "application/json", ORDER("pending", ""), 1);
    }
    script_good_ca(1);
    assert_int_equal(run(issue_make(), &waits), MD_STEP_FAILED);
    assert_int_equal(err.rv, APR_TIMEUP);
    assert_true(waits < 40);
}

/* The staged order as one that an earlier run waited for. */
static void stage_order_that_waits(apr_time_t since, const char *expires)
{
    md_json_t *json;

    assert_int_equal(md_json_parse(&json, ORDER("processing", ""), strlen(ORDER("processing", "")),
                                   &err, p), APR_SUCCESS);
    md_json_set_str(json, "url", CA "/order/1");
    md_json_set_time(json, "waiting-since", since);
    md_json_set_str(json, "expires", expires);
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, NAME, "order.json", json, &err, p),
                     APR_SUCCESS);
}

/* What a CA asks for on an ordinary look is obeyed, but not for ever, and not by a site that has no
 * certificate. */
static void a_ca_cannot_ask_for_endless_patience(void **state)
{
    fake_answer_t patience = { "POST", "/order/1", 200, 0, "application/json", "Retry-After: 36000",
                               ORDER("processing", ""), -1 };
    md_issue_t *issue = issue_make();
    apr_time_t now = NOW;
    md_step_t step;

    (void)state;
    fake_http_answer(patience);
    script_good_ca(1);
    do {
        step = md_issue_step(issue, issue->wake_at > now ? issue->wake_at : now, &err);
    } while (step == MD_STEP_AGAIN || issue->wake_at < now + apr_time_from_sec(60));
    assert_int_equal(step, MD_STEP_WAIT);
    assert_true(issue->wake_at > now + apr_time_from_sec(35000));
    issue = issue_make(); /* a run that goes on in ten hours, and in twenty */
    stage_order_that_waits(now - apr_time_from_sec(20 * 3600), NULL);
    do {
        step = md_issue_step(issue, issue->wake_at > now ? issue->wake_at : now, &err);
    } while (step == MD_STEP_AGAIN || (step == MD_STEP_WAIT
                                       && issue->wake_at < now + apr_time_from_sec(60)));
    assert_int_equal(step, MD_STEP_WAIT);
    stage_order_that_waits(now - apr_time_from_sec(25 * 3600), NULL);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_int_equal(err.rv, APR_TIMEUP);
    assert_true(staged("order.json"));
    issue = issue_make();
    issue->is_urgent = 1;
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_int_equal(err.rv, APR_TIMEUP);
    assert_true(issue->wake_at < now + apr_time_from_sec(200));
    assert_int_equal(fake_http_count("/new-order"), 1);
}

/* An order that ran out while the CA had it in work is a failure that counts. */
static void an_order_that_expires_in_work_is_an_error(void **state)
{
    fake_answer_t expired = { "POST", "/order/1", 200, 0, "application/json", NULL,
                              ORDER("processing", ",\"expires\":\"2020-01-01T00:00:00Z\""), -1 };

    (void)state;
    fake_http_answer(expired);
    script_good_ca(1);
    stage_order_that_waits(NOW - apr_time_from_sec(3600), NULL);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "the order expired while the CA reported it as"));
    assert_false(staged("order.json"));
}

static void identifiers_are_of_a_type(void **state)
{
    static const struct { const char *name, *type, *value; } NAMES[] = {
        { "example.org", "dns", "example.org" }, { "*.example.org", "dns", "*.example.org" },
        { "192.0.2.1", "ip", "192.0.2.1" }, { "2001:DB8::0:1", "ip", "2001:db8::1" },
        { "1.2.3", "dns", "1.2.3" },
    };
    md_identifier_t identifier;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); ++i) {
        identifier = md_identifier_of(NAMES[i].name, p);
        assert_string_equal(md_identifier_type(&identifier), NAMES[i].type);
        assert_string_equal(identifier.value, NAMES[i].value);
    }
}

/* CAs answer for an order that they know no more as they like; Boulder does so by a malformed one. */
static void an_order_that_is_gone_is_replaced(void **state)
{
    static const struct { int status; const char *body; } GONE[] = { /* the empty ones: twice */
        { 404, "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"No order\"}" },
        { 400, "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"No order\"}" },
        { 403, "{\"type\":\"urn:ietf:params:acme:error:unauthorized\",\"detail\":\"No\"}" },
        { 404, "" }, { 410, "{\"detail\":\"No order\"}" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(GONE) / sizeof(GONE[0]); ++i) {
        assert_int_equal(empty_store(), APR_SUCCESS);
        fake_http_reset(p);
        stage_order_that_waits(0, NULL);
        answer("/order/1", GONE[i].status, "application/problem+json", GONE[i].body,
               *GONE[i].body ? 1 : 2);
        script_good_ca(1);
        md_err_clear(&err);
        if (run(issue_make(), NULL) != MD_STEP_DONE)
            fail_msg("%d %s: %s", GONE[i].status, GONE[i].body, err.detail);
        assert_int_equal(fake_http_count("/new-order"), 1);
    }
}

/* A disk that has become read-only keeps it: that is no reason to ask the CA without end. */
static void an_order_that_stays_is_an_error(void **state)
{
    md_step_t step;

    (void)state;
    stage_order_that_waits(0, NULL);
    answer("/order/1", 403, "text/plain", "", -1);
    script_good_ca(1);
    connect_ca(issue_make());
    fail_files_arm(1, 1, EROFS);
    step = run(issue_make(), NULL);
    fail_files_disarm();
    assert_int_equal(step, MD_STEP_FAILED);
    assert_int_equal(fake_http_count("/order/1"), 1);
    assert_non_null(strstr(err.detail, "order.json"));
}

static apr_status_t ask(md_acme_t *acme)
{
    md_signer_t signer = { .kid = CA "/acct/1" };
    md_reply_t *reply;
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &EC, &err, p), APR_SUCCESS);
    signer.key = key;
    return md_acme_fetch(&reply, acme, signer, CA "/order/1", NULL, 1000, &err, p);
}

/* Many that are refused at once are one reason to slow down, and a CA that wants to be asked again
 * at once does not get it. */
static void a_busy_ca_is_asked_slower_and_not_never(void **state)
{
    static const char *const HEADERS[] = { NULL, "Retry-After: 0", "Retry-After: 1000000000" };
    fake_answer_t busy = { "POST", "/order/1", 503, 0, "text/plain", NULL, "", -1 };
    md_acct_use_t *use = md_acct_use_create(NULL, p);
    apr_time_t now = NOW;
    md_issue_t *issue;
    size_t i;
    int n;

    (void)state;
    for (i = 0; i < sizeof(HEADERS) / sizeof(HEADERS[0]); ++i) {
        fake_http_reset(p);
        busy.headers = HEADERS[i];
        fake_http_answer(busy);
        script_good_ca(1);
        issue = issue_make();
        assert_int_equal(md_acme_load_directory(issue->acme, NOW, &err, p), APR_SUCCESS);
        for (n = 0; n < 20; ++n)
            assert_int_not_equal(ask(issue->acme), APR_SUCCESS);
        assert_true(md_acme_hold_until(issue->acme, NOW) > NOW + apr_time_from_msec(500));
        if (i < 2)
            assert_true(md_acme_hold_until(issue->acme, NOW) < NOW + apr_time_from_sec(4));
        /* a date that is set back by more than a CA can ask for makes it void */
        assert_int_equal(md_acme_hold_until(issue->acme, NOW - 3 * MD_MAX_RETRY_AFTER), 0);
    }
    for (n = 0; n < 20; ++n)
        md_acct_use_hold(use, 0, now);
    assert_true(md_acct_use_wait(use, "a", now) > now);
    assert_true(md_acct_use_wait(use, "a", now) <= now + apr_time_from_sec(5));
}

/* Whatever was to be waited for when the clock was ahead. */
static void a_clock_that_is_set_back_holds_nobody(void **state)
{
    const apr_interval_time_t years = apr_time_from_sec(APR_INT64_C(100000000));
    md_acct_use_t *use = md_acct_use_create(NULL, p);
    md_issue_t *issue = issue_make();
    apr_time_t now = NOW;

    (void)state;
    fake_http_answer((fake_answer_t){ .url = "/dir", .status = 500, .times = 1 });
    script_good_ca(1);
    assert_int_not_equal(md_acme_load_directory(issue->acme, now + years, &err, p), APR_SUCCESS);
    assert_int_equal(md_acme_load_directory(issue->acme, now, &err, p), APR_SUCCESS);
    md_acct_use_hold(use, 0, now + years);
    assert_int_equal(md_acct_use_wait(use, "a", now), 0);
    assert_true(md_acct_use_wait(use, "b", now) > now); /* `a` tries first */
}

static void time_out(void)
{
    fake_clock_advance(apr_time_from_sec(30));
}

/* A CA that does not answer costs the time of one, and not that of each in turn. */
static void one_failure_serves_all_however_long_it_took(void **state)
{
    md_issue_t *issue = issue_make();
    apr_time_t now = NOW;

    (void)state;
    fake_http_answer((fake_answer_t){ .url = "/dir", .rv = APR_TIMEUP, .times = -1 });
    fake_http_meanwhile("/dir", time_out);
    assert_int_equal(md_acme_load_directory(issue->acme, now, &err, p), APR_TIMEUP);
    now += apr_time_from_sec(31);
    md_err_clear(&err);
    assert_int_equal(md_acme_load_directory(issue->acme, now, &err, p), APR_TIMEUP);
    assert_int_equal(fake_http_count("/dir"), 1);
}

/* What is the same text is not the same failure. */
static void a_failure_is_told_as_it_was_last(void **state)
{
    fake_answer_t busy = { "GET", "/dir", 503, 0, "text/plain", "Retry-After: 100", "", 1 };
    md_issue_t *issue = issue_make();
    apr_time_t now = NOW;

    (void)state;
    fake_http_answer(busy);
    busy.headers = "Retry-After: 1000";
    fake_http_answer(busy);
    assert_int_not_equal(md_acme_load_directory(issue->acme, now, &err, p), APR_SUCCESS);
    now += apr_time_from_sec(10);
    assert_int_not_equal(md_acme_load_directory(issue->acme, now, &err, p), APR_SUCCESS);
    md_err_clear(&err);
    assert_int_not_equal(md_acme_load_directory(issue->acme, now, &err, p), APR_SUCCESS);
    assert_int_equal(fake_http_count("/dir"), 2);
    assert_true(err.retry_after > now + apr_time_from_sec(900));
}

#define AUTHZ_URL(n) "\"" CA "/" n "/authz/1\""

/* What the CA lists while we wait is not what we began with. */
static void authorizations_do_not_vanish(void **state)
{
    static const char MANY[] =
        "{\"status\":\"pending\",\"authorizations\":[" AUTHZ_URL("1") "," AUTHZ_URL("2") ","
        AUTHZ_URL("3") "," AUTHZ_URL("4") "," AUTHZ_URL("5") "," AUTHZ_URL("6") ","
        AUTHZ_URL("7") "," AUTHZ_URL("8") "],\"finalize\":\"" CA "/order/1/finalize\"}";
    fake_answer_t many = NEW_ORDER;

    (void)state;
    many.body = MANY;
    fake_http_answer(many);
    answer("/order/1", 200, "application/json", ORDER("pending", ""), -1);
    script_good_ca(1);
    assert_int_equal(run(issue_make(), NULL), MD_STEP_FAILED);
    assert_non_null(strstr(err.detail, "still reports order"));
    assert_true(fake_http_count("/8/authz/1") > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(issues_with_few_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(resumes_after_every_step, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_the_account_gets_a_nonce, setup, teardown),
        cmocka_unit_test_setup_teardown(an_order_is_on_disk_before_it_is_worth_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_key_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_a_failure_of_every_request, setup, teardown),
        cmocka_unit_test_setup_teardown(says_what_is_wrong_and_stages_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_certificate_that_is_not_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(gives_up_on_endless_processing_but_keeps_the_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(waits_as_long_as_the_ca_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_holds_those_that_it_is_for, setup, teardown),
        cmocka_unit_test_setup_teardown(limits_of_several_hold_all, setup, teardown),
        cmocka_unit_test_setup_teardown(an_account_is_looked_for_by_all_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_that_is_alone_is_used_for_the_next_account, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_is_registered_while_a_key_cannot_be_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_key_is_for_one_ca_and_external_account, setup, teardown),
        cmocka_unit_test_setup_teardown(an_account_is_asked_for_by_its_key, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wall_before_the_account_keeps_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_passes_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(subproblems_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(subproblems_are_told_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unauthorized_domain_leaves_the_account_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_account_that_is_gone_is_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(refusals_are_understood_in_any_wrapping, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(repeats_after_bad_nonce, setup, teardown),
        cmocka_unit_test_setup_teardown(falls_back_to_rs256, setup, teardown),
        cmocka_unit_test_setup_teardown(an_invalid_order_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(no_common_challenge, setup, teardown),
        cmocka_unit_test_setup_teardown(a_resumed_order_for_other_names_is_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(contact_and_terms_are_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_answer_does_no_harm, setup, teardown),
        cmocka_unit_test_setup_teardown(what_failed_is_not_the_first_choice, setup, teardown),
        cmocka_unit_test_setup_teardown(the_automatic_order_begins_with_http_01, setup, teardown),
        cmocka_unit_test_setup_teardown(a_staged_key_is_kept_while_it_is_good, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_account_can_be_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ca_gets_no_answer_for_other_names, setup, teardown),
        cmocka_unit_test_setup_teardown(no_order_without_its_document, setup, teardown),
        cmocka_unit_test_setup_teardown(identifiers_are_of_a_type, setup, teardown),
        cmocka_unit_test_setup_teardown(a_challenge_that_failed_ends_the_attempt, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_challenge_is_answered_again_when_the_ca_wants_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nothing_is_asked_in_clear, setup, teardown),
        cmocka_unit_test_setup_teardown(urls_have_a_maximum, setup, teardown),
        cmocka_unit_test_setup_teardown(as_many_are_torn_down_as_names_are_ordered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(relative_references_are_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(statuses_only_advance, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ca_cannot_ask_for_endless_patience, setup, teardown),
        cmocka_unit_test_setup_teardown(an_order_that_is_not_ready_is_finalized_again, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_order_that_expires_in_work_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(an_account_is_found_while_it_is_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(an_order_that_is_gone_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_busy_ca_is_asked_slower_and_not_never, setup, teardown),
        cmocka_unit_test_setup_teardown(a_clock_that_is_set_back_holds_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_is_told_as_it_was_last, setup, teardown),
        cmocka_unit_test_setup_teardown(one_failure_serves_all_however_long_it_took, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_order_that_stays_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(authorizations_do_not_vanish, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
