/* SPDX-License-Identifier: Apache-2.0 */
/* The engine with its threads, against a scripted CA. Also run under TSan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "../../md_csr.h"
#include "fake_ca.h"
#include "fake_http.h"
#include "many_domains.h"

#define COUNT 40

static const fake_answer_t SCRIPT[] = {
    { "GET", "/dir", 200, 0, "application/json", NULL,
      "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA "/new-acct\",\"newOrder\":\"" CA
      "/new-order\"}", -1 },
    { "HEAD", "/nonce", 200, 0, NULL, NULL, NULL, -1 },
    { "POST", "/new-acct", 201, 0, "application/json", "Location: " CA "/acct/1",
      "{\"status\":\"valid\"}", -1 },
    { "POST", "/new-order", 201, 0, "application/json", "Location: " CA "/order/1",
      "{\"status\":\"ready\",\"finalize\":\"" CA "/finalize\"}", -1 },
    { "POST", "/finalize", 200, 0, "application/json", NULL,
      "{\"status\":\"valid\",\"certificate\":\"" CA "/cert\"}", -1 },
    { "POST", "/cert", 200, 0, "application/pem-certificate-chain", NULL, "none", -1 },
    { 0 }
};

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fake_http_reset(p);
    fake_http_script(SCRIPT);
    return temp_dir_make() != 0 || make_domains(COUNT) != 0 ? -1 : make_engine();
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p); /* ends threads, which write */
    return temp_dir_remove();
}

/* Ticks until the engine has nothing to do for a while; its threads are gone then. */
static void run_until_quiet(void)
{
    apr_time_t end = apr_time_now() + apr_time_from_sec(120);

    while (md_engine_run(engine) < apr_time_from_sec(5)) {
        apr_sleep(10000);
        assert_true(apr_time_now() < end);
    }
}

static void all_are_driven_with_one_account(void **state)
{
    int i;

    (void)state;
    run_until_quiet();
    assert_int_equal(fake_http_count("/new-acct"), 1);
    assert_int_equal(fake_http_count("/new-order"), COUNT);
    assert_true(fake_http_count("/nonce") <= COUNT);
    for (i = 0; i < COUNT; ++i) {
        assert_int_equal(job_of(i)->errors, 1);
        assert_true(job_of(i)->next_run > apr_time_now());
        assert_non_null(strstr(md_json_get_str(job_of(i)->last, "detail"),
                               "the chain holds no certificate"));
    }
}

/* Those that wait for an account get no nonce where none will be asked for. */
static void nothing_is_asked_in_vain(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < COUNT; ++i)
        domain_at(i)->contacts = md_strings_make(p);
    run_until_quiet();
    assert_int_equal(fake_http_count(""), 1);
    for (i = 0; i < COUNT; ++i)
        assert_non_null(strstr(md_json_get_str(job_of(i)->last, "detail"), "No contact"));
}

/* Each is settled by threads of its own, while others see to the directory, which differs. */
static void external_accounts_share_a_ca(void **state)
{
    fake_answer_t answer = { .url = "/dir", .status = 200, .type = "application/json" };
    md_domain_t *domain;
    int i;

    (void)state;
    fake_http_reset(p);
    for (i = 0; i < COUNT; ++i) {
        domain = APR_ARRAY_IDX(reg->domains, i, md_domain_t *);
        domain->eab_kid = domain->name;
        domain->eab_hmac = "bm90IGEgc2VjcmV0";
        answer.body = apr_psprintf(p, "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA
                                   "/new-acct\",\"newOrder\":\"" CA "/new-order\",\"meta\":{"
                                   "\"website\":\"%d\",\"profiles\":{\"%d\":\"\"}}}", i, i);
        fake_http_answer(answer);
    }
    fake_http_script(SCRIPT);
    run_until_quiet();
    assert_int_equal(fake_http_count("/new-acct"), COUNT);
}

static void save_pair(const char *name)
{
    const md_key_spec_t spec = { MD_KEY_EC, 0, "P-256" };
    apr_array_header_t *names = md_strings_make(p), *chain = apr_array_make(p, 1, sizeof(void *));
    md_domain_t *domain = md_index_find(reg->index, name);
    md_cert_t *cert;
    md_key_t *key;

    APR_ARRAY_PUSH(names, const char *) = name;
    assert_int_equal(md_key_generate(&key, &spec, &err, p), APR_SUCCESS);
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    APR_ARRAY_PUSH(chain, md_cert_t *) = cert;
    domain->ca_url = CA "/dir";
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, name, "md.json",
                                        md_domain_to_json(domain, p), &err, p), 0);
    domain->ca_url = NULL;
    assert_int_equal(md_store_save_key(store, MD_STORE_STAGING, name, "privkey.p-256.pem", key, &err,
                                       p), 0);
    assert_int_equal(md_store_save_chain(store, MD_STORE_STAGING, name, "pubcert.p-256.pem", chain,
                                         &err, p), 0);
}

/* A crash between the last certificate and the job record costs no request. */
static void complete_sets_are_finished_without_the_ca(void **state)
{
    const md_domain_t *other;
    const char *name;
    int i;

    (void)state;
    assert_null(md_reg_index(reg, &other, &name, p));
    for (i = 0; i < COUNT; ++i)
        save_pair(name_of(i));
    run_until_quiet();
    assert_int_equal(fake_http_count(""), 0);
    for (i = 0; i < COUNT; ++i) {
        assert_true(job_of(i)->finished);
        assert_true(job_of(i)->notified_renewed);
        assert_int_equal(job_of(i)->errors, 0);
    }
}

static void a_dead_ca_is_asked_once_for_all(void **state)
{
    int i;

    (void)state;
    fake_http_reset(p);
    run_until_quiet();
    assert_int_equal(fake_http_count("/dir"), 1);
    for (i = 0; i < COUNT; ++i)
        assert_non_null(strstr(md_json_get_str(job_of(i)->last, "detail"),
                               "Unsuccessful in contacting ACME server at " CA "/dir"));
}

static void stops_in_the_middle_and_records_no_error(void **state)
{
    int i, errors = 0;

    (void)state;
    md_engine_run(engine);
    while (fake_http_count("/new-order") < 3)
        apr_sleep(1000);
    md_http_stop(http);
    md_engine_stop(engine);
    for (i = 0; i < COUNT; ++i) {
        assert_true(!job_of(i)->last || md_json_get_int(job_of(i)->last, "status", 0) != APR_EINTR);
        errors += job_of(i)->errors;
    }
    assert_true(errors < COUNT);
    md_engine_stop(engine); /* twice does no harm */
}

/* The children of two generations overlap for a moment: only one of them works. */
static void another_process_at_work_is_waited_for(void **state)
{
    int ready[2], done[2], rc = -1;
    apr_file_t *taken;
    pid_t child;
    char c;

    (void)state;
    assert_int_equal(pipe(ready) | pipe(done), 0);
    child = fork();
    if (child == 0) {
        c = md_store_try_lock(&taken, store, NULL, p) == APR_SUCCESS ? '1' : '0';
        if (write(ready[1], &c, 1) != 1 || read(done[0], &c, 1) != 1)
            _exit(1);
        _exit(0); /* the kernel gives the lock back, as after kill -9 */
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, '1');
    assert_true(md_engine_run(engine) < apr_time_from_sec(1));
    assert_int_equal(fake_http_count(""), 0);
    assert_int_equal(write(done[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &rc, 0), child);
    run_until_quiet();
    assert_int_equal(fake_http_count("/new-order"), COUNT);
}

static void nothing_to_do_starts_no_thread(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < COUNT; ++i)
        domain_at(i)->is_watched = 0;
    assert_int_equal(make_engine(), 0);
    assert_true(md_engine_run(engine) > apr_time_from_sec(3600));
    assert_int_equal(fake_http_count(""), 0);
}

static void become_a_tool(void)
{
    int i;

    reg->is_tool = 1;
    for (i = 0; i < COUNT; ++i)
        domain_at(i)->is_forced = 1;
}

/* Whatever a server noted before, and without a note of its own. */
static void a_tool_makes_one_attempt_for_each(void **state)
{
    const int complete = 10;
    const md_domain_t *other;
    const char *name;
    md_job_t *job;
    int i;

    (void)state;
    assert_null(md_reg_index(reg, &other, &name, p));
    for (i = 0; i < complete; ++i)
        save_pair(name_of(i));
    job = md_job_make(MD_STORE_STAGING, name_of(COUNT - 1), p);
    job->next_run = apr_time_now() + apr_time_from_sec(3600);
    assert_int_equal(md_job_save(job, store, &err, p), APR_SUCCESS);
    become_a_tool();
    md_engine_drive(engine);
    assert_int_equal(fake_http_count("/new-order"), COUNT - complete);
    for (i = 0; i < COUNT; ++i) {
        assert_int_equal(md_renewals_result(renewals, i)->rv, i < complete ? APR_SUCCESS : APR_EINVAL);
        assert_int_equal(job_of(i)->errors, 0);
        assert_null(job_of(i)->last);
    }
    assert_non_null(strstr(md_renewals_result(renewals, complete)->detail,
                           "the chain holds no certificate"));
}

static void a_tool_does_not_wait_for_hours(void **state)
{
    static const fake_answer_t BUSY = {
        "POST", "/new-order", 429, 0, "application/problem+json", "Retry-After: 3600",
        "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"busy\"}", -1
    };
    apr_time_t start = apr_time_now();
    const md_err_t *result;
    int i;

    (void)state;
    fake_http_reset(p);
    fake_http_answer(BUSY);
    fake_http_script(SCRIPT);
    become_a_tool();
    md_engine_drive(engine);
    assert_true(apr_time_now() - start < apr_time_from_sec(60));
    for (i = 0; i < COUNT; ++i) {
        result = md_renewals_result(renewals, i);
        assert_true(result->rv == APR_BADARG || result->rv == APR_EAGAIN);
        assert_non_null(result->detail);
    }
}

/* ---- a CA that takes 100 s for each answer beside one that is fast ---- */

static int all_are_issued(int from, int count)
{
    int i;

    (void)md_engine_run(engine);
    for (i = from; i < from + count; ++i)
        if (!job_of(i)->finished)
            return 0;
    return 1;
}

/* However many wait for the slow one, from whatever step on; nothing of it has come when the fast
 * one has done all. */
static void a_slow_ca_holds_up_no_other(void **state)
{
    static const struct { int slow; const char *held; } BESIDE[] = {
        { 1, "https://slow.test/new-order" }, { 8, "https://slow.test/new-order" },
        { 20, "https://slow.test/new-order" }, { 40, "https://slow.test/order/" },
    };
    apr_time_t end;
    size_t b;
    int i;

    (void)state;
    for (b = 0; b < sizeof(BESIDE) / sizeof(BESIDE[0]); ++b) {
        fake_http_reset(p);
        fake_ca_start(apr_time_now());
        fake_http_serve(fake_ca_serve);
        fake_http_hold(BESIDE[b].held);
        assert_int_equal(make_domains(BESIDE[b].slow + COUNT), 0);
        for (i = 0; i < BESIDE[b].slow; ++i) /* they come first */
            APR_ARRAY_IDX(domain_at(i)->ca_urls, 0, const char *) = "https://slow.test/dir";
        assert_int_equal(make_engine(), 0);
        end = apr_time_now() + apr_time_from_sec(60);
        while (!all_are_issued(BESIDE[b].slow, COUNT)) {
            apr_sleep(50000);
            assert_true(apr_time_now() < end);
        }
        assert_int_equal(fake_http_count_prefix("https://ca.test/new-order"), COUNT);
        assert_int_equal(fake_ca_count("cert", NULL), COUNT);
        assert_true(fake_http_count_prefix(BESIDE[b].held) > 0);
        for (i = 0; i < BESIDE[b].slow; ++i) {
            assert_false(job_of(i)->finished);
            assert_int_equal(job_of(i)->errors, 0);
        }
        md_http_stop(http);
        md_engine_stop(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_are_driven_with_one_account, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_asked_in_vain, setup, teardown),
        cmocka_unit_test_setup_teardown(external_accounts_share_a_ca, setup, teardown),
        cmocka_unit_test_setup_teardown(complete_sets_are_finished_without_the_ca, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dead_ca_is_asked_once_for_all, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_in_the_middle_and_records_no_error, setup, teardown),
        cmocka_unit_test_setup_teardown(another_process_at_work_is_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_to_do_starts_no_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tool_makes_one_attempt_for_each, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tool_does_not_wait_for_hours, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_ca_holds_up_no_other, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
