/* SPDX-License-Identifier: Apache-2.0 */
/* Events: how each is told, how often, again after failures, and what comes of that, in time that
 * flies and by commands that are not run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_thread_proc.h>

#include "fail_files.h"
#include "fake_ca.h"
#include "fake_clock.h"
#include "fake_exec.h"
#include "fake_http.h"
#include "many_domains.h"
#include "../../md_installed.h"
#include "../../md_log.h"
#include "../../md_renew.h"

#define HOUR apr_time_from_sec(3600)
#define DAY  (24 * HOUR)
#define DATE (apr_time_from_sec(1767225600)) /* 2026-01-01T00:00:00Z */

static md_events_t events;
static const char *failing; /* what is in the words of calls that fail; NULL: none */
static const char *hanging;

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

static md_exec_end_t answer(const fake_call_t *call)
{
    md_exec_end_t end = { .state = MD_EXEC_EXITED, .said = "" };

    if (hanging && strstr(call->words, hanging))
        end.state = MD_EXEC_RUNS;
    if (failing && strstr(call->words, failing))
        end.code = 5;
    return end;
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fail_files.is_hasty = 1;
    fake_clock_start(DATE);
    failing = hanging = NULL;
    fake_exec_lack = APR_SUCCESS;
    fake_exec_answer = answer;
    fake_call_count = 0;
    memset(&events, 0, sizeof(events));
    events.message_cmd = "/bin/m \"a b\"";
    events.notify_cmd = "/bin/n";
    events.store_dir = "/store";
    events.log = -1;
    if (md_execs_create(&events.execs, MD_MAX_COMMANDS, &err, p) != APR_SUCCESS)
        return -1;
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

/* ---- how one is told ---- */

static const struct {
    md_event_t event;
    const char *notify, *message, *env; /* NULL: not called */
} TABLE[] = {
    { { MD_EVENT_RENEWING, "x.org", NULL, NULL, NULL, 0, DATE, 1, 0 }, NULL, "renewing",
      "-MD_PROBLEM\n-MD_DETAIL\n-MD_NEXT_TRY\nMD_EXPIRES=2026-01-01T00:00:00Z" },
    { { MD_EVENT_CHALLENGE_SETUP, "x.org", "http-01:a.x.org", NULL, NULL, 0, 0, 1, 0 }, NULL,
      "challenge-setup:http-01:a.x.org",
      "-MD_PROBLEM\n-MD_DETAIL\n-MD_NEXT_TRY\n-MD_EXPIRES" },
    { { MD_EVENT_RENEWED, "x.org", NULL, NULL, NULL, 0, 0, 1, 0 }, "/bin/n|x.org", "renewed",
      "-MD_PROBLEM\n-MD_DETAIL\n-MD_NEXT_TRY\n-MD_EXPIRES" },
    { { MD_EVENT_ERRORED, "x.org", NULL, "dns", "no\nsuch\x1b\xff $(x)", DATE + HOUR, 0, 1, 0 }, NULL,
      "errored", "MD_PROBLEM=dns\nMD_DETAIL=no such?? $(x)\nMD_NEXT_TRY=2026-01-01T01:00:00Z\n"
      "-MD_EXPIRES" },
    { { MD_EVENT_EXPIRING, "x.org", NULL, NULL, NULL, 0, DATE + DAY, 2, 0 }, NULL, "expiring",
      "-MD_PROBLEM\n-MD_DETAIL\n-MD_NEXT_TRY\nMD_EXPIRES=2026-01-02T00:00:00Z" },
    { { MD_EVENT_INSTALLED, "x.org", NULL, NULL, NULL, 0, 0, 1, 0 }, NULL, "installed",
      "-MD_PROBLEM\n-MD_DETAIL\n-MD_NEXT_TRY\n-MD_EXPIRES" },
    { { MD_EVENT_OCSP_RENEWED, "other", NULL, NULL, NULL, 0, 0, 1, 0 }, NULL, "ocsp-renewed",
      "-MD_PROBLEM\n-MD_DETAIL\n-MD_NEXT_TRY\n-MD_EXPIRES" },
    { { MD_EVENT_OCSP_ERRORED, "other", NULL, "p", "d", DATE, 0, 1, 0 }, NULL, "ocsp-errored",
      "MD_PROBLEM=p\nMD_DETAIL=d\nMD_NEXT_TRY=2026-01-01T00:00:00Z\n-MD_EXPIRES" },
};

static void test_table(void **state)
{
    md_telling_t *telling;
    const char *env;
    size_t i;
    int at;

    (void)state;
    for (i = 0; i < sizeof(TABLE) / sizeof(TABLE[0]); ++i) {
        at = fake_call_count;
        telling = md_event_tell(&events, &TABLE[i].event, p);
        assert_int_equal(md_event_step(telling, &err), APR_SUCCESS);
        if (TABLE[i].notify)
            assert_string_equal(fake_calls[at++].words, TABLE[i].notify);
        assert_string_equal(fake_calls[at].words,
                            apr_pstrcat(p, "/bin/m|a b|", TABLE[i].message, "|",
                                        TABLE[i].event.domain, NULL));
        env = apr_psprintf(p, "MD_NAME=%s\nMD_EVENT=%s\nMD_STORE=/store\n%s",
                           TABLE[i].event.domain, TABLE[i].message, TABLE[i].env);
        assert_string_equal(fake_calls[at].env, env);
        assert_int_equal(fake_call_count, at + 1);
    }
    assert_int_equal(i, MD_EVENT_KIND_MAX);
}

static void test_nobody_listens(void **state)
{
    static const md_events_t NOBODY = { NULL, NULL, "/store", -1, NULL };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(TABLE) / sizeof(TABLE[0]); ++i) {
        assert_int_equal(md_event_step(md_event_tell(NULL, &TABLE[i].event, p), &err), 0);
        assert_int_equal(md_event_step(md_event_tell(&NOBODY, &TABLE[i].event, p), &err), 0);
    }
    assert_int_equal(fake_call_count, 0);
}

static md_exec_end_t given;

static md_exec_end_t give(const fake_call_t *call)
{
    (void)call;
    return given;
}

static void test_failures(void **state)
{
    static const struct { md_exec_state_t state; int code; apr_status_t rv; const char *text;
    } ENDS[] = {
        { MD_EXEC_EXITED, 1, APR_EGENERAL, "MDNotifyCmd /bin/n failed with exit code 1." },
        { MD_EXEC_EXITED, 127, APR_EGENERAL, "MDNotifyCmd /bin/n failed with exit code 127." },
        { MD_EXEC_EXITED, 128, APR_EINCOMPLETE, "MDNotifyCmd /bin/n failed with exit code 128." },
        { MD_EXEC_SIGNALLED, 11, APR_EINCOMPLETE, "MDNotifyCmd /bin/n was ended by signal 11." },
        { MD_EXEC_UNFIT, ENOENT, APR_EINCOMPLETE, "MDNotifyCmd /bin/n failed with exit code 255. "
          "It cannot be executed: No such file or directory" },
        { MD_EXEC_OVERDUE, 0, APR_TIMEUP, "MDNotifyCmd /bin/n did not end within 10 minutes and "
          "was stopped." },
    };
    const md_event_t event = { .kind = MD_EVENT_RENEWED, .domain = "x.org", .attempt = 1 };
    md_job_t *job = md_job_make(MD_STORE_STAGING, "x.org", p);
    md_telling_t *telling;
    md_json_t *entry;
    size_t i;

    (void)state;
    fake_exec_answer = give;
    for (i = 0; i < sizeof(ENDS) / sizeof(ENDS[0]); ++i) {
        given.state = ENDS[i].state;
        given.code = ENDS[i].code;
        telling = md_event_tell(&events, &event, p);
        assert_int_equal(md_event_step(telling, &err), ENDS[i].rv);
        assert_int_equal(err.rv, ENDS[i].rv);
        assert_string_equal(err.type, "urn:org:apache:httpd:log:AH10108:");
        assert_string_equal(err.detail, ENDS[i].text);
        md_event_record(job, telling, &err, DATE);
        entry = md_json_at(job->log, 0, p);
        assert_string_equal(md_json_get_str(entry, "type"), "notify-error");
        assert_string_equal(md_json_get_str(entry, "status"), err.type);
        assert_int_equal(fake_call_count, i + 1); /* MDMessageCmd is not told */
    }
    given.state = MD_EXEC_STOPPED;
    assert_int_equal(md_event_step(md_event_tell(&events, &event, p), &err), APR_EINTR);
    assert_int_equal(job->notified, 0);
}

static void test_once_in_a_while(void **state)
{
    static const apr_interval_time_t INTERVALS[] = {
        [MD_EVENT_RENEWING] = HOUR, [MD_EVENT_CHALLENGE_SETUP] = 0, [MD_EVENT_RENEWED] = 0,
        [MD_EVENT_ERRORED] = HOUR, [MD_EVENT_EXPIRING] = DAY, [MD_EVENT_INSTALLED] = 0,
        [MD_EVENT_OCSP_RENEWED] = DAY, [MD_EVENT_OCSP_ERRORED] = HOUR,
    };
    apr_time_t now = md_clock_now();
    md_telling_t *telling;
    md_job_t *job;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(TABLE) / sizeof(TABLE[0]); ++i) {
        job = md_job_make(MD_STORE_STAGING, "x.org", p);
        assert_false(md_event_is_recent(&TABLE[i].event, job, now));
        telling = md_event_tell(&events, &TABLE[i].event, p);
        md_fail_problem(&err, APR_EGENERAL, "p", "failed");
        md_event_record(job, telling, &err, now);
        assert_false(md_event_is_recent(&TABLE[i].event, job, now)); /* failures do not count */
        md_event_record(job, telling, NULL, now);
        md_job_log(job, now, "message-expirin", NULL, NULL);
        assert_int_equal(md_event_is_recent(&TABLE[i].event, job, now), INTERVALS[i] > 0);
        assert_int_equal(md_event_is_recent(&TABLE[i].event, job,
                                            now + INTERVALS[i] - APR_USEC_PER_SEC),
                         INTERVALS[i] > 0);
        assert_false(md_event_is_recent(&TABLE[i].event, job, now + INTERVALS[i]));
        assert_false(md_event_is_recent(&TABLE[i].event, job, now - DAY)); /* the date was wrong */
    }
}

static void test_event_log(void **state)
{
    const char *path = apr_pstrcat(p, temp_dir, "/log", NULL), *line, *rest, *end;
    md_json_t *json;
    apr_size_t len, i;
    char *text;

    (void)state;
    events.log = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    for (i = 0; i < sizeof(TABLE) / sizeof(TABLE[0]); ++i)
        (void)md_event_step(md_event_tell(&events, &TABLE[i].event, p), &err);
    close(events.log);
    assert_int_equal(md_file_read(&text, &len, AT_FDCWD, path, 100000, p), APR_SUCCESS);
    for (i = 0, rest = text; (end = strchr(rest, '\n')); rest = end + 1, ++i) {
        line = apr_pstrndup(p, rest, (apr_size_t)(end - rest));
        assert_int_equal(md_json_parse(&json, line, strlen(line), &err, p), APR_SUCCESS);
        assert_string_equal(md_json_get_str(json, "time"), "2026-01-01T00:00:00Z");
        if (!md_json_has(json, "command") && md_json_has(json, "next-try")
            && !strcmp(md_json_get_str(json, "event"), "errored"))
            assert_string_equal(md_json_get_str(json, "detail"), "no\nsuch\x1b? $(x)");
    }
    /* Each event but one that is repeated, and nine commands. */
    assert_int_equal(i, MD_EVENT_KIND_MAX - 1 + 9);
    assert_string_equal(rest, "");
}

/* ---- a server's domains ---- */

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
    reg->events = &events;
    assert_int_equal(make_engine(), 0);
}

static int count_of(const char *event, int i)
{
    return fake_exec_count(apr_pstrcat(p, "|", event, "|", name_of(i), NULL));
}

/* The waits between calls with `words` grow, more or less, as they are varied by up to a half, to a
 * day and a half at most. */
static void assert_ever_later(const char *words, int at_least)
{
    apr_interval_time_t gap = 0, last = 0;
    apr_time_t at = 0;
    int i, seen = 0;

    for (i = 0; i < fake_call_count; ++i) {
        if (!strstr(fake_calls[i].words, words))
            continue;
        gap = at ? fake_calls[i].at - at : 0;
        assert_true(seen < 2 || gap > last / 4);
        assert_in_range(gap, 0, DAY * 3 / 2 + HOUR);
        last = gap;
        at = fake_calls[i].at;
        ++seen;
    }
    assert_true(seen >= at_least);
    assert_true(last > 6 * HOUR);
}

static void test_renewed_is_repeated(void **state)
{
    (void)state;
    failing = "|renewed|d1.";
    start(3, NULL);
    pass(6 * DAY);
    assert_ever_later(failing, 10);
    assert_in_range(count_of("renewed", 1), 10, 25);
    assert_int_equal(fake_exec_count("/bin/n|d1."), count_of("renewed", 1));
    assert_true(job_of(1)->finished);
    assert_false(job_of(1)->notified_renewed);
    assert_int_equal(job_of(1)->errors, count_of("renewed", 1));
    assert_string_equal(md_json_get_str(job_of(1)->last, "problem"),
                        "urn:org:apache:httpd:log:AH10109:");
    assert_int_equal(fake_ca_count("new-order", name_of(1)), 1);
    assert_int_equal(count_of("renewed", 0), 1);
    assert_int_equal(count_of("renewed", 2), 1);
    failing = NULL;
    pass(2 * DAY);
    assert_true(job_of(1)->notified_renewed);
    assert_int_equal(job_of(1)->errors, 0);
    fake_call_count = 0;
    pass(5 * DAY);
    assert_int_equal(fake_call_count, 0);
}

static void test_veto(void **state)
{
    int rounds;

    (void)state;
    failing = "|renewing|d1.";
    start(3, NULL);
    pass(6 * DAY);
    rounds = count_of("renewing", 1); /* each 6 to 18 hours */
    assert_in_range(rounds, 8, 25);
    assert_int_equal(fake_ca_count(NULL, name_of(1)), 0);
    assert_int_equal(job_of(1)->errors, 0);
    assert_int_equal(count_of("errored", 1), 0);
    assert_true(job_of(0)->notified_renewed && job_of(2)->notified_renewed);
    failing = NULL;
    pass(DAY);
    assert_true(job_of(1)->notified_renewed);
    assert_int_equal(count_of("renewing", 1), rounds + 1);
}

/* Nobody refuses it, there is just no process for the command. */
static void test_no_process_is_no_veto(void **state)
{
    (void)state;
    fake_exec_lack = APR_ENOMEM;
    start(1, NULL);
    pass(apr_time_from_sec(30));
    assert_int_equal(fake_ca_count("new-order", NULL), 0);
    assert_non_null(strstr(md_json_get_str(job_of(0)->last, "detail"), "cannot start a process"));
    fake_exec_lack = APR_SUCCESS;
    pass(apr_time_from_sec(90));
    assert_true(job_of(0)->notified_renewed);
}

static int refuse_one(fake_answer_t *answer_to, const char *kind, fake_order_t *order,
                      apr_pool_t *pool)
{
    (void)pool;
    if (!order || strcmp(order->name, "d1.example.org") || strcmp(kind, "new-order"))
        return 0;
    answer_to->status = 403;
    answer_to->type = "application/problem+json";
    answer_to->body = FAKE_PROBLEM("caa", "CAA forbids it");
    return 1;
}

/* Once an hour if it can be told, and else with each failed attempt. */
static void test_errored(void **state)
{
    int told;

    (void)state;
    start(3, refuse_one);
    pass(HOUR / 2);
    assert_true(job_of(1)->errors > 3);
    assert_int_equal(count_of("errored", 1), 1);
    assert_int_equal(count_of("renewing", 1), 1);
    pass(2 * DAY);
    told = count_of("errored", 1);
    assert_in_range(told, 3, job_of(1)->errors);
    failing = "|errored|";
    pass(4 * DAY);
    assert_true(count_of("errored", 1) > told);
    assert_string_equal(md_json_get_str(job_of(1)->last, "problem"),
                        "urn:org:apache:httpd:log:AH10109:");
    assert_non_null(strstr(md_json_get_str(job_of(1)->last, "detail"),
                           "failed with exit code 5. The error to be reported: CAA forbids it"));
    assert_int_equal(count_of("errored", 0) + count_of("errored", 2), 0);
}

static void test_refused_challenge(void **state)
{
    (void)state;
    failing = "|challenge-setup:http-01:d1.";
    start(3, NULL);
    pass(HOUR);
    assert_true(job_of(0)->notified_renewed && job_of(2)->notified_renewed);
    assert_int_equal(count_of("challenge-setup:http-01:d0.example.org", 0), 1);
    assert_int_equal(fake_ca_count("chall", name_of(1)), 0); /* the CA was never told to look */
    assert_string_equal(md_json_get_str(job_of(1)->last, "problem"), "challenge-setup-failure");
    assert_non_null(strstr(md_json_get_str(job_of(1)->last, "detail"),
                           "MDMessageCmd /bin/m \"a b\" failed with exit code 5."));
    assert_int_equal(job_of(1)->errors, fake_exec_count(failing)); /* once for each attempt */
    failing = NULL;
    pass(DAY);
    assert_true(job_of(1)->notified_renewed);
}

/* While a command runs, its domain waits, and nobody else. */
static void test_hanging(void **state)
{
    static const char *const WHAT[] = {
        "|renewing|d1.", "|challenge-setup:http-01:d1.", "/bin/n|d1.", "|renewed|d1."
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(WHAT) / sizeof(WHAT[0]); ++i) {
        fake_call_count = 0;
        hanging = WHAT[i];
        start(3, NULL);
        pass(apr_time_from_sec(300));
        assert_true(job_of(0)->notified_renewed && job_of(2)->notified_renewed);
        assert_false(job_of(1)->notified_renewed);
        assert_int_equal(fake_exec_count(WHAT[i]), 1);
        pass(apr_time_from_sec(400)); /* ten minutes are over: a failure like others */
        hanging = NULL;
        pass(2 * DAY);
        assert_true(job_of(1)->notified_renewed);
        md_engine_stop(engine);
    }
}

/* What ended in time is on record; what did not is told again by the next child. */
static void test_stop(void **state)
{
    (void)state;
    hanging = "|renewed|";
    start(2, NULL);
    pass(apr_time_from_sec(30));
    assert_int_equal(fake_exec_count(hanging), 2);
    hanging = "|renewed|d1.";
    md_execs_stop(events.execs, 0);
    md_engine_stop(engine);
    md_renewals_close(renewals); /* as an engine does that is not driven */
    assert_true(job_of(0)->notified_renewed);
    assert_false(job_of(1)->notified_renewed);
    assert_int_equal(job_of(1)->errors, 0);
    hanging = NULL;
    assert_int_equal(md_execs_create(&events.execs, MD_MAX_COMMANDS, &err, p), APR_SUCCESS);
    assert_int_equal(make_engine(), 0);
    pass(apr_time_from_sec(30));
    assert_true(job_of(1)->notified_renewed);
    assert_int_equal(count_of("renewed", 0), 1);
    assert_int_equal(count_of("renewed", 1), 2);
}

/* What cannot be saved is known in memory: nobody is told again and again. */
static void test_full_disk(void **state)
{
    (void)state;
    hanging = "|renewed|";
    start(1, NULL);
    pass(apr_time_from_sec(30));
    assert_int_equal(count_of("renewed", 0), 1);
    fail_files_arm(1, 1, ENOSPC);
    hanging = NULL;
    pass(DAY);
    assert_true(fail_files_disarm());
    assert_false(job_of(0)->notified_renewed);
    assert_int_equal(count_of("renewed", 0), 1);
}

/* ---- warnings ---- */

static void serve(md_domain_t *domain, apr_interval_time_t from, apr_interval_time_t to)
{
    md_live_t *live = apr_pcalloc(p, sizeof(*live));
    apr_array_header_t *certs = apr_array_make(p, 1, sizeof(const md_cert_info_t *));
    md_cert_info_t *cert = apr_pcalloc(p, sizeof(*cert));

    cert->validity.start = md_clock_now() + from;
    cert->validity.end = md_clock_now() + to;
    APR_ARRAY_PUSH(certs, const md_cert_info_t *) = cert;
    live->certs = live->obtained = certs;
    live->state = MD_STATE_COMPLETE;
    md_live_replace(domain, live);
    domain->renew_mode = MD_RENEW_MANUAL;
}

static void test_expiring(void **state)
{
    (void)state;
    start(4, NULL);
    serve(domain_at(0), -80 * DAY, 10 * DAY); /* its last tenth begins in a day */
    serve(domain_at(1), -10 * DAY, 80 * DAY);
    serve(domain_at(2), -80 * DAY, 10 * DAY);
    domain_at(3)->renew_mode = MD_RENEW_MANUAL; /* without certificate */
    failing = "|expiring|d2.";
    pass(DAY - HOUR);
    assert_int_equal(fake_exec_count("|expiring|"), 0);
    pass(2 * HOUR);
    assert_int_equal(count_of("expiring", 0), 1);
    pass(5 * DAY);
    assert_int_equal(count_of("expiring", 0), 6);
    pass(6 * DAY); /* it goes on when it has ended */
    assert_int_equal(count_of("expiring", 0), 12);
    assert_int_equal(count_of("expiring", 1) + count_of("expiring", 3), 0);
    assert_false(job_of(0)->finished);
    assert_int_equal(job_of(0)->errors, 0);
    assert_ever_later(failing, 10);
    assert_int_equal(job_of(2)->errors, count_of("expiring", 2));
    failing = NULL;
    pass(2 * DAY);
    assert_int_equal(job_of(2)->errors, 0);
    assert_null(job_of(2)->last);
}

/* ---- installed ---- */

static apr_array_header_t *names_of(int count)
{
    apr_array_header_t *names = md_strings_make(p);
    int i;

    for (i = 0; i < count; ++i)
        APR_ARRAY_PUSH(names, const char *) = name_of(i);
    return names;
}

static volatile sig_atomic_t is_stopped;

/* The end comes with the first call. */
static md_exec_end_t stop_it(const fake_call_t *call)
{
    md_exec_end_t end = { .state = MD_EXEC_RUNS, .said = "" };

    (void)call;
    is_stopped = 1;
    return end;
}

static void test_installed(void **state)
{
    const md_events_t nobody = { NULL, NULL, "/store", -1, NULL };
    int i;

    (void)state;
    is_stopped = 0;
    assert_int_equal(make_domains(100), 0);
    md_installed_note(reg, names_of(1), p);
    assert_false(md_installed_is_due(reg, p)); /* nobody listens */
    reg->events = &events;
    assert_false(md_installed_is_due(reg, p));
    md_installed_note(reg, names_of(90), p);
    md_installed_note(reg, names_of(100), p);
    assert_true(md_installed_is_due(reg, p));
    /* Cut short: those whose command was begun are not told again. */
    fake_exec_answer = stop_it;
    md_installed_tell(reg, &is_stopped, p);
    assert_int_equal(fake_call_count, 64);
    assert_true(md_installed_is_due(reg, p));
    fake_exec_answer = answer;
    failing = "|d99.";
    is_stopped = 0;
    assert_int_equal(md_execs_create(&events.execs, MD_MAX_COMMANDS, &err, p), APR_SUCCESS);
    md_installed_tell(reg, &is_stopped, p);
    for (i = 0; i < 100; ++i)
        assert_int_equal(count_of("installed", i), 1);
    assert_false(md_installed_is_due(reg, p));
    /* When nobody wants to know any more, it is forgotten. */
    md_installed_note(reg, names_of(2), p);
    reg->events = &nobody;
    assert_false(md_installed_is_due(reg, p));
    reg->events = &events;
    assert_false(md_installed_is_due(reg, p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_once_in_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(test_event_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renewed_is_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_veto, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_process_is_no_veto, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_challenge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hanging, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expiring, setup, teardown),
        cmocka_unit_test_setup_teardown(test_installed, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
