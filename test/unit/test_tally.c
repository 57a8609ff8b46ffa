/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted in memory that processes and threads share, over reloads. Also run under TSan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <apr_strings.h>

#include "../../md_domain.h"
#include "../../md_limits.h"
#include "../../md_tally.h"
#include "../../md_text.h"

#define THREADS 4
#define ROUNDS  20000
#define CA      "https://ca.test/dir"

static apr_pool_t *p, *process;
static md_err_t err;
static md_tally_t *tally;
static const md_err_t SUCCESS;

static md_domain_t *domain_of(const char *name, const char *ca_url)
{
    md_domain_t *domain = md_domain_make(name, p);

    domain->ca_urls = md_strings_make(p);
    APR_ARRAY_PUSH(domain->ca_urls, const char *) = ca_url;
    return domain;
}

/* Of the names in a text. */
static md_tally_t *start(const char *names)
{
    apr_array_header_t *domains = apr_array_make(p, 3, sizeof(md_domain_t *));
    char *list = apr_pstrdup(p, names), *state, *name;
    md_tally_t *made = NULL;

    for (name = apr_strtok(list, " ", &state); name; name = apr_strtok(NULL, " ", &state))
        APR_ARRAY_PUSH(domains, md_domain_t *) = domain_of(name, CA);
    assert_int_equal(md_tally_share(&made, domains, process, &err), APR_SUCCESS);
    return made;
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    apr_pool_create(&process, NULL);
    md_err_init(&err, p);
    tally = start("a b c");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    apr_pool_destroy(process);
    return 0;
}

static apr_uint32_t renewed(int i)
{
    return md_tally_runs(tally, i).renewed;
}

/* ---- problems ---- */

#define ACME "urn:ietf:params:acme:error:"

static const struct { md_err_t result; const char *shown; } RESULTS[] = {
    { { .rv = APR_EGENERAL, .type = ACME "rateLimited" }, "rateLimited" },
    { { .rv = APR_EGENERAL, .type = "urn:acme:error:RATELIMITED" }, "rateLimited" },
    { { .rv = APR_EGENERAL, .type = ACME "userActionRequired" }, "userActionRequired" },
    { { .rv = APR_EGENERAL, .type = ACME "accountDoesNotExist" }, "accountDoesNotExist" },
    { { .rv = APR_EGENERAL, .type = "challenge-mismatch" }, "challenge-mismatch" },
    { { .rv = APR_EGENERAL, .type = "challenge-setup-failure" }, "challenge-setup-failure" },
    { { .rv = APR_ECONNREFUSED, .scope = MD_SCOPE_CA }, "ca-unavailable" },
    { { .rv = APR_ENOSPC, .scope = MD_SCOPE_SELF }, "lack-of-resources" },
    { { .rv = APR_EGENERAL }, "other" },
    { { .rv = APR_EGENERAL, .type = "" }, "other" },
    { { .rv = APR_EGENERAL, .type = "other" }, "other" },
    { { .rv = APR_EGENERAL, .type = "ca-unavailable" }, "other" },
    { { .rv = APR_EGENERAL, .type = ACME "flabbergasted" }, "other" },
    { { .rv = APR_EGENERAL, .type = ACME "flabbergasted", .scope = MD_SCOPE_CA }, "other" },
};

static void each_problem_counts_once(void **state)
{
    md_runs_t runs, before = { 0 };
    size_t i;
    int k;

    (void)state;
    for (i = 0; i < sizeof(RESULTS) / sizeof(RESULTS[0]); ++i) {
        md_tally_renewal(tally, 1, &RESULTS[i].result);
        runs = md_tally_runs(tally, 1);
        for (k = 0; k < MD_TALLY_PROBLEMS; ++k)
            assert_int_equal(runs.failed[k] - before.failed[k],
                             !strcmp(md_tally_problem(k), RESULTS[i].shown));
        before = runs;
    }
    assert_int_equal(runs.renewed, 0);
    assert_int_equal(md_tally_runs(tally, 0).failed[0], 0);
}

static void names_of_problems_differ(void **state)
{
    int i, k;

    (void)state;
    for (i = 0; i < MD_TALLY_PROBLEMS; ++i)
        for (k = 0; k < i; ++k)
            assert_string_not_equal(md_tally_problem(i), md_tally_problem(k));
}

static void what_does_not_count(void **state)
{
    const md_err_t ended = { .rv = APR_EINTR };
    md_runs_t runs, nothing = { 0 };

    (void)state;
    md_tally_renewal(tally, 0, &ended);
    md_tally_renewal(tally, -1, &SUCCESS);
    md_tally_renewal(tally, 3, &SUCCESS);
    md_tally_renewal(NULL, 0, &SUCCESS);
    assert_null(md_tally_meter(NULL, CA));
    assert_null(md_tally_load(NULL, MD_LOAD_STAPLES));
    assert_null(md_tally_ca(NULL, 0));
    runs = md_tally_runs(tally, 0);
    assert_memory_equal(&runs, &nothing, sizeof(runs));
    runs = md_tally_runs(tally, 3);
    assert_memory_equal(&runs, &nothing, sizeof(runs));
}

/* ---- requests ---- */

static const struct { int status; apr_interval_time_t took; md_answer_t answer; int bucket; } ASKED[] = {
    { 200, 0, MD_ANSWER_2XX, 0 }, { 201, 50000, MD_ANSWER_2XX, 0 },
    { 302, 50001, MD_ANSWER_3XX, 1 }, { 404, 999999, MD_ANSWER_4XX, 4 },
    { 503, 60000000, MD_ANSWER_5XX, 9 }, { 0, 60000001, MD_ANSWER_NONE, 10 },
    { 999, -5, MD_ANSWER_NONE, 0 }, { -7, 1, MD_ANSWER_NONE, 0 }, { 100, 1, MD_ANSWER_NONE, 0 },
};

static void requests_by_answer_and_time(void **state)
{
    md_meter_t *meter = md_tally_meter(tally, CA), before, after;
    size_t i;

    (void)state;
    md_meter_request(NULL, 200, 1);
    md_meter_hold(NULL, MD_HOLD_ORDERS, 1, 1);
    for (i = 0; i < sizeof(ASKED) / sizeof(ASKED[0]); ++i) {
        before = md_meter_read(meter);
        md_meter_request(meter, ASKED[i].status, ASKED[i].took);
        after = md_meter_read(meter);
        assert_int_equal(after.answers[ASKED[i].answer], before.answers[ASKED[i].answer] + 1);
        assert_int_equal(after.took_up_to[ASKED[i].bucket],
                         before.took_up_to[ASKED[i].bucket] + 1);
        assert_int_equal(after.took - before.took, ASKED[i].took > 0 ? ASKED[i].took : 0);
    }
}

static void holds(void **state)
{
    md_meter_t *meter = md_tally_meter(tally, CA), shown;

    (void)state;
    md_meter_hold(meter, MD_HOLD_REQUESTS, 1000, 1);
    md_meter_hold(meter, MD_HOLD_REQUESTS, 2000, 0);
    md_meter_hold(meter, MD_HOLD_ORDERS, 3000, 1);
    md_meter_hold(meter, MD_HOLD_ORDERS, 0, 0);
    shown = md_meter_read(meter);
    assert_int_equal(shown.holds[MD_HOLD_REQUESTS], 1);
    assert_int_equal(shown.held_until[MD_HOLD_REQUESTS], 2000);
    assert_int_equal(shown.holds[MD_HOLD_ORDERS], 1);
    assert_int_equal(shown.held_until[MD_HOLD_ORDERS], 0);
}

static void which_cas(void **state)
{
    apr_array_header_t *domains = apr_array_make(p, 3, sizeof(md_domain_t *));
    md_domain_t *unset = md_domain_make("x", p);

    (void)state;
    unset->ca_urls = NULL;
    unset->ca_url = "https://old.test";
    APR_ARRAY_PUSH(domains, md_domain_t *) = domain_of("y", CA);
    APR_ARRAY_PUSH(domains, md_domain_t *) = unset;
    APR_ARRAY_PUSH(domains, md_domain_t *) = domain_of("z", CA);
    assert_int_equal(md_tally_share(&tally, domains, process, &err), APR_SUCCESS);
    assert_string_equal(md_tally_ca(tally, 0), CA);
    assert_string_equal(md_tally_ca(tally, 1), "https://old.test");
    assert_string_equal(md_tally_ca(tally, 2), MD_TALLY_OTHERS);
    assert_null(md_tally_ca(tally, 3));
    assert_ptr_equal(md_tally_meter(tally, "https://who.test"),
                     md_tally_meter(tally, MD_TALLY_OTHERS));
    assert_ptr_not_equal(md_tally_meter(tally, CA), md_tally_meter(tally, MD_TALLY_OTHERS));
}

/* ---- reloads ---- */

static void a_reload_keeps_what_was_counted(void **state)
{
    md_meter_t shown;

    (void)state;
    md_tally_renewal(tally, 0, &SUCCESS);
    md_tally_renewal(tally, 2, &SUCCESS);
    md_tally_renewal(tally, 2, &SUCCESS);
    md_meter_request(md_tally_meter(tally, CA), 200, 7);
    md_meter_request(md_tally_meter(tally, "https://who.test"), 500, 8);
    md_meter_hold(md_tally_meter(tally, CA), MD_HOLD_REQUESTS, 1000, 1);
    md_load_note(md_tally_load(tally, MD_LOAD_RENEWALS), 5, 6);
    tally = start("c d a");
    assert_int_equal(renewed(0), 2);
    assert_int_equal(renewed(1), 0);
    assert_int_equal(renewed(2), 1);
    shown = md_meter_read(md_tally_meter(tally, CA));
    assert_int_equal(shown.answers[MD_ANSWER_2XX], 1);
    assert_int_equal(shown.took, 7);
    assert_int_equal(shown.holds[MD_HOLD_REQUESTS], 1);
    assert_int_equal(shown.held_until[MD_HOLD_REQUESTS], 0);
    assert_int_equal(md_meter_read(md_tally_meter(tally, "x")).answers[MD_ANSWER_5XX], 1);
    assert_int_equal(md_load_read(md_tally_load(tally, MD_LOAD_RENEWALS)).in_flight, 0);
    tally = start("");
    tally = start("a");
    assert_int_equal(renewed(0), 0);
}

/* ---- many at once ---- */

static void *count(void *baton)
{
    md_meter_t *meter = md_tally_meter(tally, CA);
    int i;

    for (i = 0; i < ROUNDS; ++i) {
        md_tally_renewal(tally, 1, &SUCCESS);
        md_meter_request(meter, 200, 1);
        md_meter_hold(meter, MD_HOLD_REQUESTS, i, 1);
        md_load_note(md_tally_load(tally, MD_LOAD_STAPLES), i, i);
    }
    return baton;
}

/* Returns how often less was there than before. */
static void *look_on(void *baton)
{
    apr_uint64_t last = 0, now;
    intptr_t wrong = 0;
    int i;

    (void)baton;
    for (i = 0; i < ROUNDS; ++i) {
        now = md_tally_runs(tally, 1).renewed;
        wrong += now < last;
        last = now;
        wrong += md_meter_read(md_tally_meter(tally, CA)).answers[MD_ANSWER_5XX] != 0;
        wrong += md_load_read(md_tally_load(tally, MD_LOAD_STAPLES)).waiting > ROUNDS;
    }
    return (void *)wrong;
}

static void threads_and_processes(void **state)
{
    pthread_t threads[THREADS], reader;
    void *wrong;
    pid_t child;
    int i, status;

    (void)state;
    child = fork();
    if (child == 0) {
        (void)count(NULL);
        _exit(0);
    }
    assert_int_equal(pthread_create(&reader, NULL, look_on, NULL), 0);
    for (i = 0; i < THREADS; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (i = 0; i < THREADS; ++i)
        pthread_join(threads[i], NULL);
    pthread_join(reader, &wrong);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_null(wrong);
    assert_int_equal(renewed(1), (THREADS + 1) * ROUNDS);
    assert_int_equal(md_meter_read(md_tally_meter(tally, CA)).answers[MD_ANSWER_2XX],
                     (THREADS + 1) * ROUNDS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_problem_counts_once), TEST(names_of_problems_differ), TEST(what_does_not_count),
        TEST(requests_by_answer_and_time), TEST(holds), TEST(which_cas),
        TEST(a_reload_keeps_what_was_counted), TEST(threads_and_processes),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
