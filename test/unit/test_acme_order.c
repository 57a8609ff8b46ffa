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
#include "fake_http.h"
#include "temp_dir.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define CA    "https://ca.test"
#define NAME  "one.example.org"
#define NOW   apr_time_now()

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
    issue->acme = md_acme_create(http, CA "/dir", &route, p);
    issue->wish.ca_url = CA "/dir";
    issue->wish.contacts = contacts;
    issue->wish.agreement = "accepted";
    issue->names = names;
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
        while (step == MD_STEP_AGAIN && !md_acme_is_ready(issue->acme))
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
    assert_true(now - started >= apr_time_from_sec(6));  /* the header counts from real time */
    assert_true(now - started < apr_time_from_sec(40));
}

static void a_rate_limit_holds_all_orders_of_the_ca(void **state)
{
    fake_answer_t limit = { "POST", "/new-order", 429, 0, "application/problem+json",
                            "Retry-After: 600",
                            "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":"
                            "\"too many\"}", 1 };
    md_issue_t *issue = issue_make();
    apr_time_t now = NOW;

    (void)state;
    fake_http_answer(limit);
    script_good_ca(1);
    assert_int_equal(run(issue, NULL), MD_STEP_FAILED);
    assert_true(md_problem_is(&err, MD_PROBLEM_RATE_LIMITED));
    assert_true(err.retry_after > now + apr_time_from_sec(500));
    assert_int_equal(md_issue_step(issue, now, &err), MD_STEP_WAIT);
    assert_true(issue->wake_at > now + apr_time_from_sec(500));
    assert_int_equal(fake_http_count("/new-order"), 1);
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
    assert_non_null(strstr(err.detail, "as specified in <" CA "/tos>, but those accepted are at "
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

static void restart(void)
{
    const char *id = NULL;

    assert_int_equal(md_acct_promote(&id, store, "other.example.org", &err, p), APR_SUCCESS);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(issues_with_few_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(resumes_after_every_step, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_a_failure_of_every_request, setup, teardown),
        cmocka_unit_test_setup_teardown(says_what_is_wrong_and_stages_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_certificate_that_is_not_ours, setup, teardown),
        cmocka_unit_test_setup_teardown(gives_up_on_endless_processing_but_keeps_the_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(waits_as_long_as_the_ca_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rate_limit_holds_all_orders_of_the_ca, setup, teardown),
        cmocka_unit_test_setup_teardown(repeats_after_bad_nonce, setup, teardown),
        cmocka_unit_test_setup_teardown(falls_back_to_rs256, setup, teardown),
        cmocka_unit_test_setup_teardown(an_invalid_order_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(no_common_challenge, setup, teardown),
        cmocka_unit_test_setup_teardown(a_resumed_order_for_other_names_is_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(contact_and_terms_are_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(an_account_is_found_while_it_is_moved, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
