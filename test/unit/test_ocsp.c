/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP responses of certificates over days, in time that flies, with a responder that gives right
 * and wrong answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_thread_proc.h>

#include "fake_clock.h"
#include "fake_exec.h"
#include "fake_http.h"
#include "responder.h"

#include "../../md_event.h"
#include "../../md_file.h"
#include "../../md_job.h"
#include "../../md_ocsp.h"
#include "../../md_staple_file.h"
#include "../../md_text.h"
#include "temp_dir.h"

#define HOUR apr_time_from_sec(3600)
#define DAY  (24 * HOUR)
#define DAYS (24L * 3600) /* in seconds */

static apr_pool_t *p, *process;
static md_err_t err;
static md_store_t *store;
static md_conf_t *conf;
static md_reg_t *reg;
static md_engine_t *engine;

/* The responder: how it answers. */
static struct {
    responder_answer_t answer;
    int status;             /* of HTTP, 0: 200 */
    const char *type, *headers;
    const char *body;       /* in place of a response */
    int only_post;          /* GET: 405 */
    int is_away;
    apr_time_t made_at;     /* all answers are of then, 0: now */
    int gets, posts;
} r;

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

static int serve(fake_answer_t *answer, const md_request_t *request, apr_pool_t *pool)
{
    md_ocsp_request_t sent = { (const unsigned char *)request->body, request->body_len };
    responder_answer_t what = r.answer;
    apr_size_t len;
    int is_get = !strcmp(request->method, "GET");

    r.gets += is_get;
    r.posts += !is_get;
    answer->rv = APR_ECONNREFUSED;
    if (r.is_away)
        return 1;
    answer->status = r.only_post && is_get ? 405 : r.status ? r.status : 200;
    answer->type = r.type ? r.type : "application/ocsp-response";
    answer->headers = r.headers;
    answer->body = r.body;
    if (!is_get)
        what.request = &sent;
    if (r.body)
        return 1;
    answer->body = (const char *)responder_say(&len, &what,
                                               r.made_at ? r.made_at : fake_clock_truth(), pool);
    answer->headers = apr_psprintf(pool, "%s\nContent-Length: %lu", r.headers ? r.headers : "",
                                   (unsigned long)len);
    return 1;
}

static int requests(void)
{
    return r.gets + r.posts;
}

static const char *chain_pem(void)
{
    apr_array_header_t *chain = apr_array_make(p, 2, sizeof(md_cert_t *));

    APR_ARRAY_PUSH(chain, md_cert_t *) = responder.leaf_cert;
    APR_ARRAY_PUSH(chain, md_cert_t *) = responder.ca_cert;
    return md_chain_to_pem(chain, p);
}

/* A start or a reload: the parent, the first child, its engine. */
static void start(void)
{
    md_engine_host_t host = { 1, NULL, md_ocsp_close, NULL, NULL };
    md_http_t *http;
    md_ocsp_t *ocsp;

    reg->staples = md_staples_make(p);
    assert_int_equal(md_staples_add(reg->staples, "id", 2, chain_pem(), NULL, &err), APR_SUCCESS);
    assert_int_equal(md_staples_share(reg->staples, process, &err), APR_SUCCESS);
    md_ocsp_load(reg, p);
    assert_int_equal(md_http_create(&http, "test", &err, p), APR_SUCCESS);
    assert_int_equal(md_ocsp_create(&ocsp, reg, http, NULL, &err, p), APR_SUCCESS);
    host.baton = ocsp;
    assert_int_equal(md_engine_create(&engine, &host, &err, p), APR_SUCCESS);
    md_ocsp_add(ocsp, engine);
}

/* Nothing is left but what is in the store. */
static void start_cold(void)
{
    apr_pool_destroy(process);
    apr_pool_create(&process, NULL);
    start();
}

static void pass(apr_interval_time_t time)
{
    apr_time_t end = md_clock_steady() + time;
    apr_interval_time_t wait;

    md_engine_drive(engine);
    while (md_clock_steady() < end) {
        wait = md_engine_run(engine);
        fake_clock_advance(wait < end - md_clock_steady() ? wait : end - md_clock_steady());
        md_engine_drive(engine);
    }
}

static int setup(void **state)
{
    const char *path;

    (void)state;
    apr_pool_create(&p, NULL);
    apr_pool_create(&process, NULL);
    md_err_init(&err, p);
    fake_clock_start(md_time_parse_http("Mon, 02 Feb 2026 08:00:00 GMT"));
    responder_make(md_clock_now(), p);
    memset(&r, 0, sizeof(r));
    r.answer.this_off = -3600;
    r.answer.next_off = 7 * DAYS;
    fake_http_reset(p);
    fake_http_serve(serve);
    if (temp_dir_make() != 0)
        return -1;
    path = apr_pstrcat(p, temp_dir, "/md", NULL);
    conf = md_conf_merge(&md_conf_defaults, md_conf_make(p), p);
    if (md_store_open(&store, path, &err, p) != APR_SUCCESS)
        return -1;
    reg = md_reg_make(store, conf, apr_array_make(p, 1, sizeof(md_domain_t *)), p);
    start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_http_reset(p);
    responder_end();
    apr_pool_destroy(p);
    apr_pool_destroy(process);
    return temp_dir_remove();
}

static const md_stapled_t *the_one(void)
{
    return md_staples_at(reg->staples, 0);
}

/* What a handshake has. */
static const md_staple_t *stapled(void)
{
    static md_staple_t staple;

    return md_staples_get(&staple, reg->staples, the_one())
           && md_staple_is_usable(&staple, md_clock_now(), md_clock_steady()) ? &staple : NULL;
}

static md_job_t *record(void)
{
    md_job_t *job;

    (void)md_job_load(&job, store, MD_STORE_OCSP, MD_STAPLES_OTHER, NULL, p);
    return job;
}

static const char *stored_path(void)
{
    return md_store_path(store, MD_STORE_OCSP, MD_STAPLES_OTHER,
                         apr_psprintf(p, "ocsp-%s.json", the_one()->ocsp->sha1), p);
}

/* ---- when all is well ---- */

static void a_response_is_there_and_refreshed_in_time(void **state)
{
    md_json_t *json;

    (void)state;
    assert_null(stapled());
    pass(1);
    assert_non_null(stapled());
    assert_int_equal(r.gets, 1);
    assert_int_equal(md_store_load_json(&json, store, MD_STORE_OCSP, MD_STAPLES_OTHER,
                                        apr_psprintf(p, "ocsp-%s.json", the_one()->ocsp->sha1),
                                        &err, p), APR_SUCCESS);
    assert_string_equal(md_json_get_str(json, "status"), "good");
    assert_int_equal(md_json_get_time(json, "valid.from"), md_clock_now() / 1000000 * 1000000 - HOUR);
    assert_true(record()->finished);
    pass(4 * DAY); /* the window opens when 33 % are left */
    assert_int_equal(requests(), 1);
    pass(2 * DAY);
    assert_int_equal(requests(), 2);
    pass(56 * DAY);
    assert_true(requests() >= 12 && requests() <= 15);
    assert_int_equal(r.posts, 0);
}

static void it_survives_restarts(void **state)
{
    (void)state;
    pass(1);
    start(); /* a reload */
    assert_non_null(stapled());
    pass(HOUR);
    start_cold();
    assert_non_null(stapled());
    pass(HOUR);
    assert_int_equal(requests(), 1);
}

static void what_is_damaged_is_fetched_again(void **state)
{
    static const char *const CONTENTS[] = { "", "{}", "garbage", "{\"response\": \"MAMKAQE\"}",
                                            "{\"response\": 7}" };
    const md_file_attr_t attr = { .perms = 0x644 };
    size_t i;

    (void)state;
    pass(1);
    for (i = 0; i < sizeof(CONTENTS) / sizeof(CONTENTS[0]); ++i) {
        assert_int_equal(md_file_write(AT_FDCWD, stored_path(), &attr, CONTENTS[i],
                                       strlen(CONTENTS[i]), p), APR_SUCCESS);
        start_cold();
        assert_null(stapled());
        pass(1);
        assert_non_null(stapled());
        assert_int_equal(requests(), (int)i + 2);
    }
}

/* Who took over a child writes into the memory that all share. */
static void nonsense_in_shared_memory(void **state)
{
    md_staple_t staple;

    (void)state;
    pass(1);
    memset(&staple, 0x55, sizeof(staple));
    staple.len = MD_MAX_OCSP_BODY;
    md_staples_put(reg->staples, the_one(), &staple);
    start();
    pass(1);
    assert_non_null(stapled());
    assert_int_equal(requests(), 2);
    staple.len = MD_MAX_OCSP_BODY + 1; /* not even a copy of it */
    assert_false(md_staples_get(&staple, reg->staples, the_one()) && staple.from == 0x55);
}

static int is_in_store(const char *name, const char *file)
{
    return md_store_exists(store, MD_STORE_OCSP, name, file, p);
}

static void put_in_store(const char *name, const char *file)
{
    assert_int_equal(md_store_save_text(store, MD_STORE_OCSP, name, file, "{}", &err, p),
                     APR_SUCCESS);
}

/* Responses of certificates that are gone, and all of a domain that is; nothing else of others. */
static void old_ones_and_orphans_go(void **state)
{
    const char *name = "here.test";
    md_domain_t *domain = NULL;

    (void)state;
    assert_null(md_config_define(&domain, 1, &name, p));
    APR_ARRAY_PUSH(reg->domains, md_domain_t *) = domain; /* which is not stapled */
    pass(1);
    put_in_store("gone.test", "ocsp-12.json");
    put_in_store("gone.test", "job.json");
    put_in_store("left.test", "ari.json");
    put_in_store(name, "ocsp-12.json");
    put_in_store(name, "ari.json");
    md_staple_clean(reg, md_clock_now(), p);
    assert_true(is_in_store("gone.test", "ocsp-12.json") && is_in_store("left.test", "ari.json"));
    fake_clock_start(apr_time_now() + 8 * DAY); /* files have the date of this machine */
    md_staple_clean(reg, md_clock_now(), p);
    assert_false(is_in_store("gone.test", NULL) || is_in_store("left.test", NULL));
    assert_false(is_in_store(name, "ocsp-12.json"));
    assert_true(is_in_store(name, "ari.json"));
    assert_false(md_staple_is_stored(store, the_one(), p));
    assert_true(is_in_store(MD_STAPLES_OTHER, "job.json"));
}

static void what_is_not_in_the_store_any_more_is_fetched_again(void **state)
{
    (void)state;
    pass(1);
    assert_int_equal(unlink(stored_path()), 0);
    start();
    assert_non_null(stapled());
    pass(1);
    assert_true(md_staple_is_stored(store, the_one(), p));
    assert_int_equal(requests(), 2);
}

/* ---- who is told ---- */

static const char *failing; /* what is in the words of calls that fail; NULL: none */
static int is_hanging;

static md_exec_end_t end_of(const fake_call_t *call)
{
    md_exec_end_t end = { .state = is_hanging ? MD_EXEC_RUNS : MD_EXEC_EXITED, .said = "" };

    if (failing && strstr(call->words, failing))
        end.code = 5;
    return end;
}

static void listen_to_events(void)
{
    static md_events_t events;

    events = (md_events_t){ .message_cmd = "/bin/m", .store_dir = "/store", .log = -1 };
    assert_int_equal(md_execs_create(&events.execs, MD_MAX_COMMANDS, &err, p), APR_SUCCESS);
    reg->events = &events;
    fake_exec_answer = end_of;
    fake_call_count = 0;
    failing = NULL;
    is_hanging = 0;
}

static int has_entry(const char *type)
{
    const md_job_t *job = record();
    int count = 0;
    size_t i;

    for (i = 0; i < md_json_size(job->log); ++i)
        count += md_text_same(md_json_get_str(md_json_at(job->log, i, p), "type"), type);
    return count;
}

static void a_new_response_is_told_once_a_day(void **state)
{
    (void)state;
    listen_to_events();
    r.answer.next_off = 4 * 3600;
    pass(1);
    assert_string_equal(fake_calls[0].words, "/bin/m|ocsp-renewed|other");
    assert_int_equal(has_entry("message-ocsp-renewed"), 1);
    start(); /* which forgets nothing */
    pass(DAY - HOUR);
    assert_true(requests() > 5);
    assert_int_equal(fake_call_count, 1);
    pass(3 * DAY);
    assert_in_range(fake_call_count, 3, 4);
    assert_int_equal(fake_exec_count("ocsp-renewed"), fake_call_count);
}

static void an_error_is_told_once_an_hour(void **state)
{
    (void)state;
    listen_to_events();
    r.is_away = 1;
    pass(8 * HOUR);
    assert_true(requests() > 8);
    assert_in_range(fake_exec_count("/bin/m|ocsp-errored|other"), 4, 8);
    assert_true(fake_call_count < requests());
    assert_non_null(strstr(fake_calls[0].env, "MD_DETAIL=scripted failure\n"));
    assert_non_null(strstr(fake_calls[0].env, "MD_NEXT_TRY=2026-02-02T08:0"));
    r.is_away = 0;
    pass(2 * HOUR);
    assert_int_equal(fake_exec_count("ocsp-renewed"), 1);
    assert_string_equal(fake_calls[fake_call_count - 1].words, "/bin/m|ocsp-renewed|other");
    assert_int_equal(record()->errors, 0);
}

/* It says so, and the next response is told again, as nobody knows of the last one. */
static void a_command_that_fails_is_on_record(void **state)
{
    (void)state;
    listen_to_events();
    failing = "ocsp-renewed";
    r.answer.next_off = 4 * 3600;
    pass(1);
    assert_non_null(stapled());
    assert_int_equal(fake_call_count, 1);
    assert_string_equal(md_json_get_str(record()->last, "problem"),
                        "urn:org:apache:httpd:log:AH10109:");
    assert_int_equal(has_entry("message-error"), 1);
    assert_int_equal(has_entry("message-ocsp-renewed"), 0);
    failing = NULL;
    pass(DAY / 2);
    assert_int_equal(fake_call_count, 2);
    assert_int_equal(has_entry("message-ocsp-renewed"), 1);
}

/* Neither a response nor what is told next is lost. */
static void a_command_that_hangs_holds_up_nothing(void **state)
{
    (void)state;
    listen_to_events();
    is_hanging = 1;
    r.answer.next_off = 200;
    pass(apr_time_from_sec(300));
    assert_non_null(stapled());
    assert_true(requests() >= 3);
    r.is_away = 1;
    pass(apr_time_from_sec(240));
    assert_true(record()->errors > 0);
    assert_int_equal(fake_call_count, 1);
    is_hanging = 0;
    pass(HOUR);
    assert_string_equal(fake_calls[1].words, "/bin/m|ocsp-errored|other");
    assert_int_equal(has_entry("message-ocsp-renewed"), 1);
}

/* ---- when it is not ---- */

typedef struct way_t {
    responder_answer_t answer;
    int status, only_post, is_away;
    const char *type, *body;
} way_t;

static const way_t WAYS[] = {
    { .is_away = 1 },
    { .status = 500 },
    { .status = 301 },
    { .type = "text/html" },
    { .body = "<html>" },
    { .body = "" },
    { .answer = { .next_off = DAYS, .is_forged = 1 } },
    { .answer = { .next_off = DAYS, .signer = SIGNER_STRANGER } },
    { .answer = { .next_off = DAYS, .signer = SIGNER_NO_PURPOSE } },
    { .answer = { .next_off = DAYS, .signer = SIGNER_ENDED } },
    { .answer = { .next_off = DAYS, .is_padded = 1 } },
    { .answer = { .this_off = -2 * DAYS, .next_off = -DAYS } },
    { .answer = { .next_off = DAYS, .cert_status = V_OCSP_CERTSTATUS_UNKNOWN } },
    { .answer = { .response_status = OCSP_RESPONSE_STATUS_MALFORMEDREQUEST } },
    { .answer = { .response_status = OCSP_RESPONSE_STATUS_TRYLATER } },
    { .answer = { .response_status = OCSP_RESPONSE_STATUS_UNAUTHORIZED } },
};

static void go(const way_t *way)
{
    r.answer = way->answer;
    r.status = way->status;
    r.is_away = way->is_away;
    r.type = way->type;
    r.body = way->body;
}

/* The last good one is kept until it ends, and the responder is not asked all the time. */
static void failures_keep_the_last_response(void **state)
{
    const responder_answer_t good = r.answer;
    size_t i;
    int before;

    (void)state;
    for (i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); ++i) {
        go(&(way_t){ .answer = good });
        pass(9 * DAY);
        assert_non_null(stapled());
        pass(0);
        before = requests();
        go(&WAYS[i]);
        pass(DAY);
        assert_non_null(stapled());
        pass(6 * DAY);
        assert_null(stapled());
        assert_true(requests() - before > 5);
        assert_true(requests() - before < 3 * 7 * 24);
    }
    go(&(way_t){ .answer = good });
    pass(DAY + DAY / 2);
    assert_non_null(stapled());
    assert_int_equal(record()->errors, 0);
}

static void what_is_wrong_is_on_record(void **state)
{
    (void)state;
    r.is_away = 1;
    pass(HOUR);
    assert_false(record()->finished);
    assert_true(record()->errors > 3);
    assert_true(record()->next_run > 0);
    assert_string_equal(md_json_get_str(record()->last, "detail"), "scripted failure");
}

/* Right after it was issued, a responder may not know a certificate. */
static void delays_are_no_errors(void **state)
{
    static const int KINDS[] = { OCSP_RESPONSE_STATUS_TRYLATER, OCSP_RESPONSE_STATUS_UNAUTHORIZED };
    const responder_answer_t good = r.answer;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); ++i) {
        start_cold();
        r.answer.response_status = KINDS[i];
        pass(apr_time_from_sec(600));
        assert_null(stapled());
        assert_int_equal(record()->errors, 0);
        assert_true(requests() >= 3 && requests() < 20);
        assert_int_equal(r.posts, 0);
        r.answer = good;
        pass(HOUR);
        assert_non_null(stapled());
        assert_int_equal(unlink(stored_path()), 0);
        r.gets = 0;
    }
}

static void post_where_get_is_of_no_use(void **state)
{
    (void)state;
    r.only_post = 1;
    pass(1);
    assert_non_null(stapled());
    assert_int_equal(r.gets, 1);
    assert_int_equal(r.posts, 1);
    assert_int_equal(record()->errors, 0);
}

static void retry_after_is_obeyed(void **state)
{
    (void)state;
    r.status = 503;
    r.headers = "Retry-After: 36000";
    pass(9 * HOUR);
    assert_int_equal(r.gets, 1);
    assert_int_equal(r.posts, 1);
    pass(2 * HOUR);
    assert_int_equal(r.gets, 2);
}

/* Another certificate beside the one that is stapled. */
static apr_array_header_t *served(void)
{
    apr_array_header_t *certs = apr_array_make(p, 2, sizeof(md_cert_info_t *));
    md_cert_info_t *info = apr_pcalloc(p, 2 * sizeof(*info));

    info[0].fingerprint = "00";
    info[1].fingerprint = md_staples_at(reg->staples, 0)->ocsp->sha256;
    APR_ARRAY_PUSH(certs, md_cert_info_t *) = NULL;
    APR_ARRAY_PUSH(certs, md_cert_info_t *) = &info[0];
    assert_false(md_staples_has_revoked(reg->staples, MD_STAPLES_OTHER, certs));
    APR_ARRAY_PUSH(certs, md_cert_info_t *) = &info[1];
    return certs;
}

/* A cache has an old one, or somebody plays it back. */
static void an_older_response_replaces_nothing(void **state)
{
    apr_time_t from;

    (void)state;
    r.answer.cert_status = V_OCSP_CERTSTATUS_REVOKED;
    pass(1);
    from = stapled()->from;
    assert_true(md_staples_has_revoked(reg->staples, MD_STAPLES_OTHER, served()));
    assert_false(md_staples_has_revoked(reg->staples, MD_STAPLES_OTHER, NULL));
    r.answer.cert_status = V_OCSP_CERTSTATUS_GOOD;
    r.made_at = md_clock_now() - DAY;
    pass(5 * DAY + DAY / 2);
    assert_true(requests() > 1);
    assert_int_equal(stapled()->from, from);
    assert_string_equal(md_staple_status(stapled()), "revoked");
    r.made_at = 0;
    pass(DAY);
    assert_string_equal(md_staple_status(stapled()), "good"); /* it was on hold */
}

static void without_next_update(void **state)
{
    int before;

    (void)state;
    r.answer.this_off = r.answer.next_off = 0;
    pass(1);
    assert_non_null(stapled());
    pass(2 * DAY);
    assert_true(requests() >= 4 && requests() <= 8);
    before = requests();
    r.is_away = 1;
    pass(20 * DAY);
    assert_non_null(stapled());
    assert_true(requests() > before);
    start_cold(); /* but an old one is nothing to begin with */
    assert_null(stapled());
}

/* The certificate of who has signed may end before the response does. */
static void a_signer_that_ends_soon(void **state)
{
    int i;

    (void)state;
    r.answer.signer = SIGNER_ENDS_SOON;
    pass(1);
    assert_non_null(stapled());
    r.answer.signer = SIGNER_ISSUER;
    for (i = 0; i < 48 * 4; ++i) {
        pass(HOUR / 4);
        assert_non_null(stapled());
    }
    assert_int_equal(requests(), 2);
}

/* Caches, or who pretends to be one, may say anything. */
static void what_caches_say_of_age(void **state)
{
    static const char *const HEADERS[] = {
        "Cache-Control: max-age=999999999999999999", "Cache-Control: max-age=9223372036854775807",
        "Cache-Control: max-age=100000000000000000000000", "Cache-Control: max-age=-1",
        "Cache-Control: max-age=86400\nAge: -9223372036854775808",
        "Cache-Control: max-age=-9223372036854775808\nAge: 9223372036854775807",
        "Cache-Control: max-age=", "Expires: 0", "Expires: Fri, 31 Dec 9999 23:59:59 GMT",
        "Cache-Control: max-age=600\nAge: 86400",
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(HEADERS) / sizeof(HEADERS[0]); ++i) {
        r.headers = HEADERS[i];
        start_cold();
        assert_int_equal(unlink(stored_path()), i == 0 ? -1 : 0);
        start_cold();
        r.gets = 0;
        pass(4 * DAY);
        assert_int_equal(requests(), 1);
        pass(2 * DAY + 20 * HOUR);
        assert_int_equal(requests(), 2);
        assert_non_null(stapled());
    }
}

/* A responder that does not know us at all is asked once or twice a day. */
static void who_does_not_know_us_is_left_alone(void **state)
{
    int before;

    (void)state;
    r.answer.response_status = OCSP_RESPONSE_STATUS_UNAUTHORIZED;
    pass(10 * DAY);
    before = requests();
    pass(60 * DAY);
    assert_true(requests() - before > 30);
    assert_true(requests() - before < 100);
}

static void the_date_jumps(void **state)
{
    (void)state;
    pass(1);
    fake_clock_set_off(300 * DAY);
    assert_null(stapled()); /* nobody knows better */
    pass(2 * HOUR);
    fake_clock_set_off(0);
    assert_non_null(stapled());
    fake_clock_set_off(-300 * DAY);
    pass(8 * DAY);
    assert_null(stapled()); /* it has ended, though the date says otherwise */
    fake_clock_set_off(0);
    pass(2 * HOUR);
    assert_non_null(stapled());
}

static void when_to_ask_again(void **state)
{
    const md_window_spec_t third = { 0, 33 }, long_window = { 30 * DAY, -1 };
    const md_window_t week = { 1000 * DAY, 1007 * DAY };
    const apr_time_t now = 1000 * DAY, opens = md_window_opens(&week, &third);
    apr_time_t at;
    int dice;

    (void)state;
    for (dice = 0; dice < 256; ++dice) {
        at = md_ocsp_refresh_at(&week, &third, 0, now, (unsigned char)dice);
        assert_true(at >= opens && at < opens + (week.end - opens) / 4);
    }
    at = md_ocsp_refresh_at(&week, &third, 1006 * DAY, now, 0);
    assert_int_equal(at, 1006 * DAY);
    at = md_ocsp_refresh_at(&week, &third, week.end + DAY, now, 0);
    assert_true(at > opens && at < week.end);
    at = md_ocsp_refresh_at(&week, &third, now + HOUR, now, 0);
    assert_int_equal(at, opens);
    at = md_ocsp_refresh_at(&week, &long_window, 0, now, 0);
    assert_true(at > now + HOUR && at < week.end);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_response_is_there_and_refreshed_in_time),
        TEST(it_survives_restarts),
        TEST(what_is_damaged_is_fetched_again),
        TEST(nonsense_in_shared_memory),
        TEST(old_ones_and_orphans_go),
        TEST(what_is_not_in_the_store_any_more_is_fetched_again),
        TEST(a_new_response_is_told_once_a_day),
        TEST(an_error_is_told_once_an_hour),
        TEST(a_command_that_fails_is_on_record),
        TEST(a_command_that_hangs_holds_up_nothing),
        TEST(failures_keep_the_last_response),
        TEST(what_is_wrong_is_on_record),
        TEST(delays_are_no_errors),
        TEST(post_where_get_is_of_no_use),
        TEST(retry_after_is_obeyed),
        TEST(an_older_response_replaces_nothing),
        TEST(without_next_update),
        TEST(a_signer_that_ends_soon),
        TEST(what_caches_say_of_age),
        TEST(who_does_not_know_us_is_left_alone),
        TEST(the_date_jumps),
        TEST(when_to_ask_again),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
