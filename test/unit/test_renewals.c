/* SPDX-License-Identifier: Apache-2.0 */
/* Renewals of many domains over days, in time that flies: what one meets is not felt by others, and
 * nobody is asked more often than told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_thread_proc.h>

#include "fail_files.h"
#include "fake_ca.h"
#include "fake_clock.h"
#include "fake_http.h"
#include "many_domains.h"
#include "../../md_log.h"
#include "../../md_renew.h"
#include "../../md_wish.h"

#define COUNT 50
#define ONE   25 /* whom it concerns */
#define HOUR  apr_time_from_sec(3600)

/* The engine makes do with the thread that drives it. */
apr_status_t apr_thread_create(apr_thread_t **thread, apr_threadattr_t *attr,
                               apr_thread_start_t func, void *baton, apr_pool_t *pool)
{
    (void)thread;
    (void)attr;
    (void)func;
    (void)baton;
    (void)pool;
    return APR_EAGAIN;
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fail_files.is_hasty = 1;
    fake_clock_start(apr_time_now());
    return temp_dir_make();
}

static int teardown(void **state)
{
    (void)state;
    md_log_set(NULL, NULL);
    fake_http_reset(p);
    apr_pool_destroy(p);
    return temp_dir_remove();
}

/* Whatever is due within that time. */
static void pass(apr_interval_time_t time)
{
    apr_time_t end = md_clock_steady() + time;
    apr_interval_time_t wait;

    while (md_clock_steady() < end) {
        md_engine_drive(engine);
        wait = md_engine_run(engine);
        fake_clock_advance(wait < end - md_clock_steady() ? wait : end - md_clock_steady());
    }
}

static void start(int count, fake_refuse_fn *refuse)
{
    fake_ca_start(fake_clock_truth());
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

static const char *chain_for_another_key(const fake_order_t *order, apr_pool_t *pool)
{
    apr_time_t now = fake_clock_truth();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    const char *pem = fake_ca_issue(order->name, key, now, now + fake_ca.lifetime, pool);

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

/* The requests for each but one, in their order, as a text. */
static const char *requests_of_others(void)
{
    apr_array_header_t *list = md_strings_make(p);
    int i, k;

    for (k = 0; k < COUNT; ++k)
        for (i = 0; i < fake_ca.logged && k != ONE; ++i)
            if (!strcmp(fake_ca.log[i].name, name_of(k)))
                APR_ARRAY_PUSH(list, const char *) = apr_pstrcat(p, fake_ca.log[i].kind, " ",
                                                                 name_of(k), NULL);
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

/* All but one have their certificates, by the same requests in the same order. */
static void check_others(const char *alone)
{
    int i;

    for (i = 0; i < COUNT; ++i)
        assert_int_equal(is_issued(i), i != ONE);
    if (strcmp(requests_of_others(), alone))
        fail_msg("%s %s:\n%s\nin place of\n%s", way->kind, way->detail, requests_of_others(), alone);
    assert_int_equal(fake_http_count("/new-acct"), 1);
}

static void check_told(void)
{
    if (!told_in_log(job_of(ONE), way->detail))
        fail_msg("%s: '%s' is not told: %s", way->kind, way->detail,
                 md_json_text(job_of(ONE)->log, 0, p));
}

static const char *requests_without_refusal(void)
{
    static const way_t NONE = { .kind = "none" };

    way = &NONE;
    start(COUNT, refuse_one);
    pass(HOUR / 60);
    assert_int_equal(fake_ca.logged, COUNT * 6);
    return requests_of_others();
}

static void what_one_meets_is_not_felt_by_others(void **state)
{
    const char *alone = requests_without_refusal();
    size_t i;
    int attempts;

    (void)state;
    for (i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); ++i) {
        way = &WAYS[i];
        start(COUNT, refuse_one);
        pass(HOUR / 60);
        check_others(alone);
        pass(72 * HOUR);
        attempts = check_gaps(way->told);
        assert_in_range(attempts, way->told ? 2 : 8, way->told == 12 * HOUR ? 6 : 18);
        assert_int_equal(job_of(ONE)->errors, attempts);
        check_told();
        check_others(alone);
    }
}

/* Nothing is asked for. */
static void a_profile_that_is_not_offered_costs_no_order(void **state)
{
    static const way_t LOCAL = { .kind = "none", .detail = "'nice' is not offered by CA" };
    const char *alone = requests_without_refusal();

    (void)state;
    way = &LOCAL;
    start(COUNT, refuse_one);
    domain_at(ONE)->profile = "nice";
    domain_at(ONE)->profile_mandatory = 1;
    pass(72 * HOUR);
    check_others(alone);
    check_told();
    assert_int_equal(fake_ca.logged, (COUNT - 1) * 6);
    assert_in_range(job_of(ONE)->errors, 8, 18);
}

/* ---- names in common ---- */

static apr_interval_time_t validation_time[4]; /* by domain */
static const char *patience;                   /* that the CA asks for meanwhile */

static int index_of(const fake_order_t *order)
{
    return order->name[1] - '0';
}

static int take_time(fake_answer_t *answer, const char *kind, fake_order_t *order, apr_pool_t *pool)
{
    (void)pool;
    if (order && !strcmp(kind, "chall"))
        order->validation = validation_time[index_of(order)];
    if (order && !strcmp(kind, "order") && !order->proven)
        answer->headers = patience;
    return 0;
}

/* d1 with both of its neighbours, of which d0 is first: none overwrites what another one serves. */
static void make_sharing_domains(void)
{
    static const char *const SHARED[][2] = { { "a.example.net", NULL },
                                             { "a.example.net", "b.example.net" },
                                             { "b.example.net", NULL }, { NULL, NULL } };
    int i, k;

    fake_ca_start(fake_clock_truth());
    fake_http_reset(p);
    fake_http_serve(fake_ca_serve);
    assert_int_equal(make_domains(4), 0);
    fake_ca.store = store;
    for (i = 0; i < 4; ++i)
        for (k = 0; k < 2 && SHARED[i][k]; ++k)
            APR_ARRAY_PUSH(domain_at(i)->names, const char *) = SHARED[i][k];
    fake_ca.refuse = take_time;
    for (i = 0; i < 4; ++i)
        validation_time[i] = apr_time_from_sec(2);
    patience = NULL;
}

/* Each by one order, and by answers of its own. */
static void check_sharing_domains(void)
{
    int i;

    assert_int_equal(fake_ca_count("new-order", NULL), 4);
    for (i = 0; i < 4; ++i) {
        assert_true(is_issued(i));
        assert_false(told_in_log(job_of(i), "another token"));
    }
}

static void domains_that_share_names_do_not_disturb_each_other(void **state)
{
    int i;

    (void)state;
    make_sharing_domains();
    assert_int_equal(make_engine(), 0);
    pass(HOUR / 60);
    check_sharing_domains();
    make_sharing_domains();
    for (i = 0; i < 4; ++i)
        domain_at(i)->is_forced = 1;
    reg->is_tool = 1;
    assert_int_equal(make_engine(), 0);
    md_engine_drive(engine);
    for (i = 0; i < 4; ++i)
        assert_int_equal(md_renewals_result(renewals, i)->rv, APR_SUCCESS);
    assert_int_equal(fake_ca_count("new-order", NULL), 4);
}

/* They have certificates, so they are as patient as they are asked to be. */
static void be_patient(void)
{
    static md_cert_info_t info;
    static md_live_t live;
    apr_array_header_t *certs = apr_array_make(p, 1, sizeof(md_cert_info_t *));
    int i;

    APR_ARRAY_PUSH(certs, const md_cert_info_t *) = &info;
    info.validity.start = fake_clock_truth() - HOUR;
    info.validity.end = fake_clock_truth() + 90 * 24 * HOUR;
    live.state = MD_STATE_COMPLETE;
    live.certs = certs;
    patience = "Retry-After: 90";
    for (i = 0; i < 4; ++i) {
        validation_time[i] = apr_time_from_sec(100);
        md_live_replace(domain_at(i), &live);
        domain_at(i)->is_forced = 1;
    }
}

/* The CA makes them wait for so long that the runs are dropped meanwhile. */
static void a_name_is_claimed_while_the_ca_may_look(void **state)
{
    (void)state;
    make_sharing_domains();
    be_patient();
    assert_int_equal(make_engine(), 0);
    pass(HOUR);
    check_sharing_domains();
}

/* Who was first goes on first. */
static void a_claim_outlives_the_process(void **state)
{
    int i;

    (void)state;
    make_sharing_domains();
    be_patient();
    for (i = 0; i < 4; ++i)
        domain_at(i)->is_forced = i == 1;
    assert_int_equal(make_engine(), 0);
    pass(HOUR / 60);
    assert_int_equal(fake_ca_count("chall", NULL), 3);
    md_engine_stop(engine);
    be_patient();
    assert_int_equal(make_engine(), 0);
    pass(HOUR);
    check_sharing_domains();
}

static int validate_alone(fake_answer_t *answer, const char *kind, fake_order_t *order,
                          apr_pool_t *pool)
{
    if (order && !strcmp(kind, "chall") && (index_of(order) == 1 || index_of(order) == 2))
        assert_false(md_order_has_setups(store, name_of(0), pool));
    return take_time(answer, kind, order, pool);
}

/* What failed has no answers in place while another one is at work, and has them again later. */
static void answers_are_torn_down_for_others(void **state)
{
    (void)state;
    make_sharing_domains();
    fake_ca.refuse = validate_alone;
    validation_time[0] = apr_time_from_sec(500);
    assert_int_equal(make_engine(), 0);
    pass(HOUR);
    assert_true(told_in_log(job_of(0), "still reports order"));
    check_sharing_domains();
}

/* What is not gone on with holds nobody up. */
static void a_claim_ends_with_the_wish(void **state)
{
    (void)state;
    make_sharing_domains();
    be_patient();
    patience = "Retry-After: 86400";
    assert_int_equal(make_engine(), 0);
    pass(HOUR / 60);
    md_engine_stop(engine);
    be_patient();
    domain_at(0)->renew_mode = MD_RENEW_MANUAL;
    domain_at(0)->is_forced = 0;
    assert_int_equal(make_engine(), 0);
    pass(HOUR);
    assert_false(is_issued(0));
    assert_true(is_issued(1));
    assert_true(is_issued(2));
}

/* ---- one domain ---- */

static int is_sound; /* the CA, by now */

static int forbid(fake_answer_t *answer, const char *kind, fake_order_t *order, apr_pool_t *pool)
{
    (void)order;
    (void)pool;
    if (is_sound || strcmp(kind, "new-order"))
        return 0;
    answer->status = 403;
    answer->type = PROBLEM;
    answer->body = FAKE_PROBLEM("caa", "CAA forbids it");
    return 1;
}

static apr_time_t failed_at[100]; /* as the log tells */
static int failures;

static void count_failures(const char *file, int line, md_log_level_t level, const char *msg)
{
    (void)file;
    (void)line;
    (void)level;
    if (strstr(msg, "AH10056") && failures < 100)
        failed_at[failures++] = md_clock_steady();
}

static int is_told(md_log_level_t level)
{
    return level <= MD_LOG_ERR;
}

static void start_one(fake_refuse_fn *refuse)
{
    is_sound = failures = 0;
    md_log_set(count_failures, is_told);
    start(1, refuse);
}

/* The disk is full after the first attempt. */
static void back_off_needs_no_disk(void **state)
{
    apr_interval_time_t least;
    int i;

    (void)state;
    start_one(forbid);
    pass(apr_time_from_sec(5));
    assert_int_equal(failures, 1);
    fail_files_arm(1, 1, ENOSPC);
    pass(24 * HOUR);
    assert_true(fail_files_disarm());
    assert_in_range(failures, 8, 15);
    least = conf->retry_delay / 2;
    for (i = 1; i < failures; ++i) {
        assert_true(failed_at[i] - failed_at[i - 1] >= least);
        least = least * 2 < 12 * HOUR ? least * 2 : 12 * HOUR;
    }
    assert_int_equal(fake_ca_count("new-order", NULL), 1); /* as it could not have been kept */
    is_sound = 1;
    pass(36 * HOUR);
    assert_true(is_issued(0));
}

static int forbid_slowly(fake_answer_t *answer, const char *kind, fake_order_t *order,
                         apr_pool_t *pool)
{
    if (!strcmp(kind, "new-order"))
        fake_clock_advance(apr_time_from_sec(100));
    return forbid(answer, kind, order, pool);
}

/* It begins when the attempt is over. */
static void back_off_does_not_pass_while_the_ca_thinks(void **state)
{
    (void)state;
    start_one(forbid_slowly);
    pass(apr_time_from_sec(300));
    assert_true(failures >= 2);
    assert_true(failed_at[1] - failed_at[0] >= apr_time_from_sec(100) + conf->retry_delay / 2);
}

/* ---- must-staple ---- */

static const way_t NO_STAPLES[] = {
    { .status = 400, .body = FAKE_PROBLEM("badCSR", "no such extension") },
    { .status = 400, .body = FAKE_PROBLEM("unsupportedFeature", "no such extension") },
    { .status = 403, .body = FAKE_PROBLEM("unauthorized", "OCSP must-staple has ended") },
    { .status = 0, .problem = FAKE_PROBLEM("badCSR", "no such extension") },
};

static int refuse_must_staple(fake_answer_t *answer, const char *kind, fake_order_t *order,
                              apr_pool_t *pool)
{
    (void)pool;
    if (!domain_at(0)->must_staple || strcmp(kind, "finalize"))
        return 0;
    order->problem = way->problem;
    if (!way->status) /* it is accepted, and then found wanting */
        return 0;
    answer->status = way->status;
    answer->type = PROBLEM;
    answer->body = way->body;
    return 1;
}

static void reload(void)
{
    md_engine_stop(engine);
    reg->index = md_index_make(p);
    (void)md_index_add(reg->index, domain_at(0), NULL);
    md_stage_clean(reg, p);
    assert_int_equal(make_engine(), 0);
    pass(HOUR);
}

/* It is told once, and asked for again after a day, or when something else is configured. */
static void must_staple_is_not_asked_for_again_and_again(void **state)
{
    size_t i;
    int k;

    (void)state;
    for (i = 0; i < sizeof(NO_STAPLES) / sizeof(NO_STAPLES[0]); ++i) {
        way = &NO_STAPLES[i];
        start_one(refuse_must_staple);
        domain_at(0)->must_staple = 1;
        for (k = 0; k < 3; ++k)
            reload();
        assert_int_equal(fake_ca_count("finalize", NULL), 1);
        assert_int_equal(failures, 1);
        assert_non_null(strstr(md_json_get_str(job_of(0)->last, "detail"), "MDMustStaple off"));
        pass(72 * HOUR);
        assert_in_range(failures, 2, 6);
        domain_at(0)->must_staple = 0;
        reload();
        assert_true(is_issued(0));
    }
}

/* What was noted while the clock was wrong is not believed, by this process or the next. */
static void a_clock_that_was_ahead_delays_nothing(void **state)
{
    const apr_interval_time_t ahead = 400 * 24 * HOUR;
    int restarted;

    (void)state;
    for (restarted = 0; restarted < 2; ++restarted) {
        fake_clock_set_off(ahead);
        start_one(forbid);
        pass(apr_time_from_sec(5));
        assert_int_equal(failures, 1);
        fake_clock_set_off(0);
        is_sound = 1;
        if (restarted)
            assert_int_equal(make_engine(), 0);
        pass(conf->check_interval);
        assert_true(is_issued(0));
    }
}

/* Each answer takes so long, and there are so many of them, that it would never end. */
static int dawdle(fake_answer_t *answer, const char *kind, fake_order_t *order, apr_pool_t *pool)
{
    int i;

    if (strcmp(md_renew_due_ca(reg, domain_at(0), job_of(0)->errors), CA "/dir"))
        return 0; /* it is the turn of the other one */
    fake_clock_advance(apr_time_from_sec(100));
    if (!order)
        return 0;
    answer->type = "application/json";
    answer->headers = "Location: " CA "/order/0";
    answer->body = "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":"
                   "\"d0.example.org\"},\"challenges\":[{\"type\":\"http-01\",\"url\":\"" CA
                   "/chall/0\",\"token\":\"token0\",\"status\":\"pending\"}]}";
    if (!strcmp(kind, "authz"))
        return 1;
    answer->body = "{\"status\":\"pending\",\"finalize\":\"" CA "/finalize/0\",\"authorizations\":[";
    for (i = 0; i < 1000; ++i)
        answer->body = apr_pstrcat(pool, answer->body, i ? "," : "", "\"" CA "/authz/0\"", NULL);
    answer->body = apr_pstrcat(pool, answer->body, "]}", NULL);
    return 1;
}

static void a_run_without_an_end_is_a_failure(void **state)
{
    apr_time_t began;

    (void)state;
    fake_ca_start(fake_clock_truth());
    fake_ca.refuse = dawdle;
    fake_http_reset(p);
    fake_http_serve(fake_ca_serve);
    failures = 0;
    md_log_set(count_failures, is_told);
    assert_int_equal(make_domains(1), 0);
    APR_ARRAY_PUSH(domain_at(0)->ca_urls, const char *) = "https://other.test/dir";
    conf->retry_failover = 2;
    assert_int_equal(make_engine(), 0);
    began = md_clock_steady();
    pass(3 * HOUR);
    assert_int_equal(failures, 2);
    assert_true(failed_at[0] - began < HOUR + HOUR / 10);
    assert_true(told_in_log(job_of(0), "was asked again and again"));
    assert_true(is_issued(0));
    assert_true(fake_http_count_prefix("https://other.test/") > 0);
}

/* ---- what the CA asks for ---- */

static const struct {
    int status;
    const char *type, *body;
} BUSY[] = {
    { 429, "text/html", "<html>" },
    { 503, "text/plain", "busy" },
    { 503, PROBLEM, FAKE_PROBLEM("serverInternal", "busy") },
    { 429, PROBLEM, FAKE_PROBLEM("rateLimited", "too many") },
};
static int busy;

static int be_busy_once(fake_answer_t *answer, const char *kind, fake_order_t *order,
                        apr_pool_t *pool)
{
    (void)order;
    (void)pool;
    if (strcmp(kind, "new-order") || is_sound++)
        return 0;
    answer->status = BUSY[busy].status;
    answer->type = BUSY[busy].type;
    answer->body = BUSY[busy].body;
    answer->headers = "Retry-After: 12";
    return 1;
}

static void a_time_that_is_told_at_newOrder_is_obeyed(void **state)
{
    apr_time_t first, second;

    (void)state;
    for (busy = 0; busy < (int)(sizeof(BUSY) / sizeof(BUSY[0])); ++busy) {
        start_one(be_busy_once);
        pass(HOUR / 60);
        assert_true(is_issued(0));
        first = fake_ca.log[0].at;
        second = fake_ca.log[1].at;
        assert_string_equal(fake_ca.log[1].kind, "new-order");
        assert_true(second - first >= apr_time_from_sec(12));
    }
}

/* Three seconds pending, three seconds processing, and a day is asked for each time. */
static int ask_for_patience(fake_answer_t *answer, const char *kind, fake_order_t *order,
                            apr_pool_t *pool)
{
    static apr_time_t until;

    if (!order || !strcmp(kind, "new-order") || !strcmp(kind, "cert"))
        return 0;
    answer->headers = "Retry-After: 86400";
    if (!strcmp(kind, "chall") || !strcmp(kind, "finalize"))
        until = md_clock_steady() + apr_time_from_sec(3);
    if (until <= md_clock_steady() || strcmp(kind, "order"))
        return 0;
    answer->type = "application/json";
    answer->body = apr_psprintf(pool, "{\"status\":\"%s\",\"finalize\":\"" CA "/finalize/0\"}",
                                order->csr ? "processing" : "pending");
    return 1;
}

static void a_site_without_certificate_is_not_that_patient(void **state)
{
    (void)state;
    start_one(ask_for_patience);
    pass(HOUR / 60);
    assert_true(is_issued(0));
    assert_int_equal(failures, 0);
    assert_in_range(fake_ca_count("order", NULL), 2, 20);
}

/* ---- on request ---- */

/* There is no certificate yet that any CA could say something about. */
static void a_check_without_certificate(void **state)
{
    md_wish_answer_t answer = { .is_done = 0 };
    md_wish_t wish;

    (void)state;
    start_one(forbid);
    pass(apr_time_from_sec(5));
    assert_int_equal(md_wish_make(&wish, store, name_of(0), MD_WISH_CHECK, md_clock_now(), &err, p),
                     APR_SUCCESS);
    assert_int_equal(md_renewals_hear(renewals, apr_hash_make(p), p), 1);
    pass(apr_time_from_sec(5));
    assert_true(md_wish_find_answer(&answer, store, name_of(0), &wish, p));
    assert_true(answer.is_done);
}

/* ---- the end ---- */

static int cut_short;

/* As all exchanges are when the server stops. */
static int cut_off(fake_answer_t *answer, const char *kind, fake_order_t *order, apr_pool_t *pool)
{
    (void)kind;
    (void)order;
    (void)pool;
    if (++cut_short > 100)
        return 0;
    answer->status = 0;
    answer->rv = APR_EINTR;
    return 1;
}

/* It is neither tried again nor said to be done. */
static void a_run_that_is_cut_short(void **state)
{
    md_wish_answer_t answer = { .is_done = 0 };
    md_wish_t wish;

    (void)state;
    start_one(cut_off);
    cut_short = 0;
    assert_int_equal(md_wish_make(&wish, store, name_of(0), MD_WISH_RENEW, md_clock_now(), &err, p),
                     APR_SUCCESS);
    assert_int_equal(md_renewals_hear(renewals, apr_hash_make(p), p), 1);
    pass(apr_time_from_sec(2));
    assert_int_equal(cut_short, 1);
    assert_true(md_wish_find_answer(&answer, store, name_of(0), &wish, p));
    assert_false(answer.is_done);
    assert_int_equal(failures, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_one_meets_is_not_felt_by_others),
        TEST(a_profile_that_is_not_offered_costs_no_order),
        TEST(domains_that_share_names_do_not_disturb_each_other),
        TEST(a_name_is_claimed_while_the_ca_may_look),
        TEST(a_claim_outlives_the_process),
        TEST(answers_are_torn_down_for_others),
        TEST(a_claim_ends_with_the_wish),
        TEST(back_off_needs_no_disk),
        TEST(back_off_does_not_pass_while_the_ca_thinks),
        TEST(must_staple_is_not_asked_for_again_and_again),
        TEST(a_clock_that_was_ahead_delays_nothing),
        TEST(a_run_without_an_end_is_a_failure),
        TEST(a_time_that_is_told_at_newOrder_is_obeyed),
        TEST(a_site_without_certificate_is_not_that_patient),
        TEST(a_check_without_certificate),
        TEST(a_run_that_is_cut_short),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
