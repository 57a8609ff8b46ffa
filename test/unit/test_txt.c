/* SPDX-License-Identifier: Apache-2.0 */
/* TXT records of dns-01: the calls of the command, in time that flies, and what is left after
 * whatever comes between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <apr_thread_proc.h>

#include "fake_ca.h"
#include "fake_clock.h"
#include "fake_exec.h"
#include "fake_http.h"
#include "many_domains.h"
#include "../../md_acme_order.h"
#include "../../md_log.h"

#define SECOND apr_time_from_sec(1)
#define HOUR   apr_time_from_sec(3600)

static apr_interval_time_t takes; /* a command */
static const char *bad;           /* calls with this fail */
static const char *hanging;       /* calls with this never end */
static char log_text[100000];

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

/* The disk is not what is tested. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

static md_exec_end_t answer(const fake_call_t *call)
{
    md_exec_end_t end = { .state = MD_EXEC_EXITED, .said = "" };

    if ((hanging && strstr(call->words, hanging)) || md_clock_steady() < call->at + takes)
        end.state = MD_EXEC_RUNS;
    else if (bad && strstr(call->words, bad)) {
        end.code = 3;
        end.said = "no such zone";
    }
    return end;
}

static int is_level(md_log_level_t level)
{
    return level <= MD_LOG_WARNING;
}

static void keep_log(const char *file, int line, md_log_level_t level, const char *text)
{
    (void)file;
    (void)line;
    if (is_level(level) && strlen(log_text) + strlen(text) + 2 < sizeof(log_text))
        strcat(strcat(log_text, text), "\n");
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fake_clock_start(apr_time_now());
    fake_call_count = 0;
    fake_exec_answer = answer;
    takes = 0;
    bad = hanging = NULL;
    log_text[0] = '\0';
    md_log_set(keep_log, is_level);
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

static void make_server(void)
{
    assert_int_equal(md_execs_create(&reg->dns_execs, MD_MAX_DNS_COMMANDS, &err, p), APR_SUCCESS);
    conf->cmd_dns_01 = "/bin/dns 'a b'";
    conf->dns_01_version = 2;
    conf->dns_01_check = 0; /* nothing is in the DNS */
    assert_int_equal(make_engine(), 0);
}

/* `count` domains, each with a wildcard beside its name. */
static void start(int count)
{
    int i;

    fake_ca_start(fake_clock_truth());
    fake_ca.type = "dns-01";
    fake_http_reset(p);
    fake_http_serve(fake_ca_serve);
    assert_int_equal(make_domains(count), 0);
    for (i = 0; i < count; ++i)
        APR_ARRAY_PUSH(domain_at(i)->names, const char *) = apr_pstrcat(p, "*.", name_of(i), NULL);
    make_server();
}

/* Another process on the same store. */
static void restart(int count)
{
    int i;

    md_engine_stop(engine);
    configure(count);
    for (i = 0; i < count; ++i)
        APR_ARRAY_PUSH(domain_at(i)->names, const char *) = apr_pstrcat(p, "*.", name_of(i), NULL);
    md_reg_load(reg, p);
    make_server();
}

static int are_noted(int i)
{
    return md_txt_exist(store, name_of(i), p);
}

/* Of each call with `verb`, whether there is one with `other` in its place. */
static void assert_pairs(int count)
{
    const char *at;
    int i, setups = 0;

    for (i = 0; i < fake_call_count; ++i) {
        at = strstr(fake_calls[i].words, "|setup|");
        if (!at)
            continue;
        ++setups;
        assert_true(fake_exec_count(apr_pstrcat(p, "|teardown|", at + strlen("|setup|"), NULL))
                    >= 1);
    }
    assert_int_equal(setups, count);
}

static void a_wildcard_and_its_base_in_one_order(void **state)
{
    const char *first, *second;

    (void)state;
    takes = 2 * SECOND;
    start(1);
    pass(HOUR / 60);
    assert_true(job_of(0)->finished);
    assert_false(are_noted(0));
    assert_int_equal(fake_call_count, 4);
    assert_pairs(2);
    first = fake_calls[0].words;
    second = fake_calls[1].words;
    assert_ptr_equal(strstr(first, "/bin/dns|a b|setup|d0.example.org|"), first);
    assert_ptr_equal(strstr(second, "/bin/dns|a b|setup|d0.example.org|"), second);
    assert_string_not_equal(first, second);
    assert_non_null(strstr(fake_calls[0].env, "MD_NAME=d0.example.org"));
    /* one after the other, as it is one name; and the CA was told when both were there */
    assert_true(fake_calls[1].at >= fake_calls[0].at + takes);
    assert_true(fake_ca.orders[0].answered_at[0] - fake_ca.epoch >= fake_calls[1].at + takes);
    assert_string_equal(log_text, "");
}

static void teardown_of_version_1_has_no_value(void **state)
{
    (void)state;
    start(1);
    conf->dns_01_version = 1;
    pass(HOUR / 60);
    assert_int_equal(fake_exec_count("|setup|d0.example.org|"), 2);
    assert_int_equal(fake_exec_count("|teardown|d0.example.org"), 2);
    assert_int_equal(fake_exec_count("|teardown|d0.example.org|"), 0);
    assert_false(are_noted(0));
}

static void a_failure_is_told_and_concerns_one(void **state)
{
    (void)state;
    bad = "setup|d1.example.org";
    start(3);
    pass(HOUR / 60);
    assert_true(job_of(0)->finished && job_of(2)->finished && !job_of(1)->finished);
    assert_non_null(strstr(log_text, "MDChallengeDns01 /bin/dns 'a b' setup d1.example.org "));
    assert_non_null(strstr(log_text, "failed with exit code 3. The last line of its output: no such "
                           "zone"));
    assert_string_equal(md_json_get_str(job_of(1)->last, "problem"), "challenge-setup-failure");
    assert_in_range(fake_exec_count("setup|d1.example.org"), 2, 6); /* ever later */
    bad = NULL;
    pass(HOUR);
    assert_true(job_of(1)->finished);
    assert_false(are_noted(1));
    assert_pairs(fake_exec_count("|setup|"));
}

/* With a limit, and others do not notice. */
static void a_command_that_hangs(void **state)
{
    (void)state;
    hanging = "setup|d1.example.org";
    start(3);
    pass(HOUR / 60);
    assert_true(job_of(0)->finished && job_of(2)->finished && !job_of(1)->finished);
    assert_false(are_noted(0) || are_noted(2));
    pass(HOUR);
    assert_non_null(strstr(log_text, "did not end within 10 minutes and was stopped"));
    hanging = NULL;
    pass(3 * HOUR);
    assert_true(job_of(1)->finished);
    assert_false(are_noted(1));
}

static void a_teardown_that_fails_is_a_warning(void **state)
{
    (void)state;
    bad = "|teardown|";
    start(1);
    pass(HOUR);
    assert_true(job_of(0)->finished);
    assert_non_null(strstr(log_text, "a TXT record of d0.example.org may be left in the DNS: "
                           "MDChallengeDns01 /bin/dns 'a b' teardown d0.example.org"));
    assert_true(are_noted(0));
    assert_in_range(fake_exec_count("|teardown|"), 8, 12); /* after 0, 1, 3, 7, 15, 31 minutes */
    restart(1);
    pass(24 * HOUR);
    assert_int_equal(fake_exec_count("|teardown|"), 2 * MD_MAX_TEAR_DOWNS);
    assert_false(are_noted(0));
    assert_non_null(strstr(log_text, "This was the last try: remove it by hand"));
}

/* Nobody waits for it, and it is done when the DNS is to be had again. */
static void a_teardown_is_tried_again(void **state)
{
    (void)state;
    bad = "|teardown|";
    start(2);
    pass(HOUR / 4);
    assert_true(job_of(0)->finished && job_of(1)->finished);
    assert_true(are_noted(0) && are_noted(1));
    bad = NULL;
    pass(HOUR / 2);
    assert_false(are_noted(0) || are_noted(1));
}

/* The same for a domain that is gone. */
static void a_teardown_of_nobody_is_tried_again(void **state)
{
    (void)state;
    start(2);
    fake_ca.validation = HOUR;
    pass(10 * SECOND);
    md_order_drop(store, name_of(1), p);
    bad = "|teardown|";
    restart(1);
    pass(HOUR / 4);
    assert_true(are_noted(1));
    assert_true(fake_exec_count("|teardown|") > 4);
    bad = NULL;
    pass(HOUR / 2);
    assert_false(are_noted(1));
}

/* A process that is killed at any moment: the next one sets up no more than it has to, and tears
 * down all. */
static void killed_at_any_moment(void **state)
{
    int n;

    (void)state;
    for (n = 0; n < 40; ++n) {
        fake_call_count = 0;
        takes = 2 * SECOND;
        start(1);
        fake_ca.validation = 5 * SECOND;
        pass(n * SECOND / 2);
        restart(1);
        pass(HOUR / 30);
        assert_true(job_of(0)->finished);
        assert_false(are_noted(0));
        assert_in_range(fake_exec_count("|setup|"), 2, 4);
        assert_pairs(fake_exec_count("|setup|"));
        assert_string_equal(log_text, "");
        assert_int_equal(fake_ca.count, 1);
    }
}

/* Whatever becomes of the order: somebody removes it, or it is one that another version left. */
static void what_no_order_needs_is_torn_down(void **state)
{
    apr_array_header_t *setups = md_strings_make(p);
    md_json_t *json = md_json_object(p);

    (void)state;
    start(1);
    fake_ca.validation = HOUR; /* it stays pending */
    pass(10 * SECOND);
    assert_true(are_noted(0));
    assert_int_equal(fake_exec_count("|setup|"), 2);
    md_order_drop(store, name_of(0), p);
    fake_ca.validation = 0;
    restart(1);
    pass(HOUR);
    assert_false(are_noted(0));
    assert_int_equal(fake_exec_count("|teardown|"), 4);
    assert_pairs(4);

    APR_ARRAY_PUSH(setups, const char *) = "http-01:d0.example.org";
    APR_ARRAY_PUSH(setups, const char *) = "dns-01:d0.example.org of-another-version";
    APR_ARRAY_PUSH(setups, const char *) = "dns-01:-rf of-nobody";
    APR_ARRAY_PUSH(setups, const char *) = "dns-01:a b of-nobody";
    APR_ARRAY_PUSH(setups, const char *) = "dns-01:d0.example.org $(of-nobody)";
    md_json_set_strings(json, "challenge-setups", setups);
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, name_of(0), "order.json", json,
                                        &err, p), APR_SUCCESS);
    md_order_drop(store, name_of(0), p);
    restart(1);
    pass(HOUR);
    assert_false(are_noted(0));
    assert_int_equal(fake_exec_count("|teardown|d0.example.org|of-another-version"), 1);
    assert_int_equal(fake_exec_count("nobody"), 0);
}

/* A domain that is not configured any more. */
static void of_nobody(void **state)
{
    (void)state;
    start(2);
    fake_ca.validation = HOUR;
    pass(10 * SECOND);
    md_order_drop(store, name_of(1), p);
    restart(1);
    pass(HOUR / 2);
    assert_false(are_noted(1));
    assert_true(are_noted(0)); /* as its order is pending */
    assert_int_equal(fake_exec_count("|teardown|d1.example.org|"), 2);
    assert_int_equal(fake_exec_count("|teardown|"), 2);
}

/* Without the command nothing can be torn down: it is told once, and done when there is one. */
static void without_a_command(void **state)
{
    (void)state;
    start(1);
    fake_ca.validation = HOUR;
    pass(10 * SECOND);
    md_order_drop(store, name_of(0), p);
    fake_call_count = 0;
    restart(1);
    conf->cmd_dns_01 = NULL;
    pass(24 * HOUR);
    assert_int_equal(fake_call_count, 0);
    assert_true(are_noted(0));
    assert_non_null(strstr(log_text, "2 TXT records stay in the DNS, as there is no command"));
    assert_null(strstr(strstr(log_text, "TXT records stay") + 1, "TXT records stay"));
    assert_non_null(strstr(log_text, "for domain d0.example.org are supported"));
}

/* A tool runs no commands, whatever a document says. */
static void a_tool_runs_none(void **state)
{
    (void)state;
    start(1);
    reg->is_tool = 1;
    domain_at(0)->cmd_dns_01 = "/tmp/evil";
    domain_at(0)->is_forced = 1;
    pass(HOUR);
    assert_int_equal(fake_call_count, 0);
    assert_non_null(strstr(log_text, "dns-01"));
}

/* 300 names with a command that takes 2 s, and nobody else is late for it. */
static void many_names(void **state)
{
    apr_time_t began, last = 0;
    int i;

    (void)state;
    takes = 2 * SECOND;
    start(150);
    began = md_clock_steady();
    pass(HOUR / 60);
    for (i = 0; i < 150; ++i) {
        assert_true(job_of(i)->finished);
        assert_false(are_noted(i));
    }
    assert_pairs(300);
    for (i = 0; i < fake_call_count; ++i)
        last = fake_calls[i].at > last ? fake_calls[i].at : last;
    assert_true(last - began < 30 * SECOND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_wildcard_and_its_base_in_one_order, setup, teardown),
        cmocka_unit_test_setup_teardown(teardown_of_version_1_has_no_value, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_is_told_and_concerns_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_command_that_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_teardown_that_fails_is_a_warning, setup, teardown),
        cmocka_unit_test_setup_teardown(a_teardown_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_teardown_of_nobody_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_at_any_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(what_no_order_needs_is_torn_down, setup, teardown),
        cmocka_unit_test_setup_teardown(of_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_command, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tool_runs_none, setup, teardown),
        cmocka_unit_test_setup_teardown(many_names, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
