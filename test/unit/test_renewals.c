/* SPDX-License-Identifier: Apache-2.0 */
/* Renewals of many domains over days, in time that flies: what one meets is not felt by others, and
 * nobody is asked more often than told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fail_files.h"
#include "fake_ca.h"
#include "fake_clock.h"
#include "fake_http.h"
#include "many_domains.h"

#define COUNT 50
#define ONE   25 /* whom it concerns */
#define HOUR  apr_time_from_sec(3600)

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fail_files.is_hasty = 1;
    fake_clock_set();
    return temp_dir_make();
}

static int teardown(void **state)
{
    (void)state;
    fake_http_reset(p);
    apr_pool_destroy(p);
    return temp_dir_remove();
}

/* Whatever is due within that time. */
static void pass(apr_interval_time_t time)
{
    apr_time_t end = fake_steady + time;
    apr_interval_time_t wait;

    while (fake_steady < end) {
        md_engine_drive(engine);
        wait = md_engine_run(engine);
        fake_clock_add(wait < end - fake_steady ? wait : end - fake_steady);
    }
}

static void start(int count, fake_refuse_fn *refuse)
{
    fake_ca_start();
    fake_ca.refuse = refuse;
    fake_http_reset(p);
    fake_http_serve(fake_ca_serve);
    assert_int_equal(make_domains(count), 0);
    assert_int_equal(make_engine(), 0);
}

static int is_issued(int i)
{
    return job_of(i)->finished;
}

/* ---- one that is refused ---- */

typedef struct way_t {
    const char *kind;
    int status;
    const char *type, *headers, *body;
    const char *problem;          /* of challenge and order */
    apr_interval_time_t told;     /* at least so long until it is asked for again */
    const char *detail;           /* that is told */
} way_t;

#define PROBLEM "application/problem+json"
static const way_t WAYS[] = {
    { "new-order", 403, PROBLEM, NULL, FAKE_PROBLEM("rejectedIdentifier", "not you"), NULL,
      12 * HOUR, "not you" },
    { "new-order", 429, PROBLEM, "Retry-After: 21600", FAKE_PROBLEM("rateLimited", "too many"),
      NULL, 6 * HOUR, "too many" },
    { "new-order", 403, PROBLEM, NULL, FAKE_PROBLEM("unauthorized", "not you"), NULL, 0,
      "not you" },
    { "new-order", 403, PROBLEM, NULL, FAKE_PROBLEM("caa", "CAA forbids it"), NULL, 0,
      "CAA forbids it" },
    { "chall", 200, "application/json", NULL, "{}", FAKE_PROBLEM("connection", "no route"), 0,
      "no route" },
    { "order", 0, NULL, NULL, NULL, FAKE_PROBLEM("dns", "no such name"), 0, "no such name" },
    { "finalize", 400, PROBLEM, NULL, FAKE_PROBLEM("badCSR", "no such curve"), NULL, 12 * HOUR,
      "no such curve" },
    { "cert", 200, "application/pem-certificate-chain", NULL, NULL, NULL, 12 * HOUR,
      "another private key" },
    { "new-order", 500, NULL, NULL, NULL, NULL, 0, "unexpected HTTP status 500" },
    { "new-order", 403, "text/html", NULL, "<html>", NULL, 0, "unexpected HTTP status 403" },
    { "new-order", 400, PROBLEM, NULL, FAKE_PROBLEM("invalidProfile", "no such profile"), NULL,
      12 * HOUR, "no such profile" },
};
static const way_t *way;

static const char *chain_for_another_key(fake_order_t *order, apr_pool_t *pool)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    const char *pem;

    X509_REQ_set_pubkey(order->csr, key);
    pem = fake_ca_issue(order->csr, fake_ca.key, pool);
    EVP_PKEY_free(key);
    return pem;
}

static int refuse_one(fake_answer_t *answer, const char *kind, fake_order_t *order,
                      apr_pool_t *pool)
{
    if (!order || strcmp(order->name, name_of(ONE)) || strcmp(kind, way->kind))
        return 0;
    order->problem = way->problem;
    if (!way->status) /* the CA goes on with that */
        return 0;
    answer->status = way->status;
    answer->type = way->type;
    answer->headers = way->headers;
    answer->body = !strcmp(kind, "cert") ? chain_for_another_key(order, pool) : way->body;
    return 1;
}

/* The requests for all but one, as a text. */
static const char *requests_of_others(void)
{
    apr_array_header_t *list = md_strings_make(p);
    int i;

    for (i = 0; i < fake_ca.logged; ++i)
        if (strcmp(fake_ca.log[i].name, name_of(ONE)))
            APR_ARRAY_PUSH(list, const char *) = apr_pstrcat(p, fake_ca.log[i].kind, " ",
                                                             fake_ca.log[i].name, NULL);
    return apr_array_pstrcat(p, list, '\n');
}

/* Each attempt comes no earlier than the back-off of the n-th failure, or what was told: their
 * number. One that is refused late goes on with its order. */
static int check_gaps(apr_interval_time_t told)
{
    const char *kind = !strcmp(way->kind, "order") ? "new-order" : way->kind;
    apr_interval_time_t least = conf->retry_delay / 2;
    apr_time_t before = 0;
    int i, count = 0;

    for (i = 0; i < fake_ca.logged; ++i) {
        if (strcmp(fake_ca.log[i].kind, kind) || strcmp(fake_ca.log[i].name, name_of(ONE)))
            continue;
        if (count > 1)
            least = least * 2 < 12 * HOUR ? least * 2 : 12 * HOUR;
        if (count > 0) {
            assert_true(fake_ca.log[i].at - before >= least);
            assert_true(fake_ca.log[i].at - before >= told);
        }
        before = fake_ca.log[i].at;
        ++count;
    }
    return count;
}

static int told_in_log(const md_job_t *job, const char *text)
{
    const char *detail;
    apr_size_t i;

    for (i = 0; i < md_json_size(job->log); ++i) {
        detail = md_json_get_str(md_json_at(job->log, i, p), "detail");
        if (detail && strstr(detail, text))
            return 1;
    }
    return 0;
}

static void what_one_meets_is_not_felt_by_others(void **state)
{
    const way_t none = { .kind = "none" };
    const char *alone;
    size_t w;
    int i, attempts;

    (void)state;
    way = &none;
    start(COUNT, refuse_one);
    pass(HOUR / 60);
    alone = requests_of_others();
    assert_int_equal(fake_ca.logged, COUNT * 6);
    for (w = 0; w < sizeof(WAYS) / sizeof(WAYS[0]); ++w) {
        way = &WAYS[w];
        start(COUNT, refuse_one);
        pass(HOUR / 60);
        for (i = 0; i < COUNT; ++i)
            assert_int_equal(is_issued(i), i != ONE);
        if (strcmp(requests_of_others(), alone))
            fail_msg("way %d: %s\nin place of\n%s", (int)w, requests_of_others(), alone);
        pass(72 * HOUR);
        attempts = check_gaps(way->told);
        assert_in_range(attempts, way->told ? 2 : 8, way->told == 12 * HOUR ? 6 : 18);
        assert_int_equal(job_of(ONE)->errors, attempts);
        if (!told_in_log(job_of(ONE), way->detail))
            fail_msg("way %d: '%s' is not told: %s", (int)w, way->detail,
                     md_json_text(job_of(ONE)->log, 0, p));
        assert_string_equal(requests_of_others(), alone);
        assert_int_equal(fake_http_count("/new-acct"), 1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_one_meets_is_not_felt_by_others),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
