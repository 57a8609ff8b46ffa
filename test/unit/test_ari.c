/* SPDX-License-Identifier: Apache-2.0 */
/* Renewal information: what is asked, and what of the answers is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_general.h>

#include "../../md_ari.c"
#include "fake_clock.h"
#include "fake_http.h"

#define CA       "https://ca.test"
#define CERT_ID  "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
#define MINUTES(n) apr_time_from_sec((n) * 60LL)
#define HOURS(n) MINUTES((n) * 60LL)
#define DAYS(n)  HOURS((n) * 24LL)
#define ISSUED   apr_time_from_sec(1767225600) /* 2026-01-01 */

static const md_window_t VALIDITY = { ISSUED, ISSUED + DAYS(90) };

static apr_pool_t *p;
static md_err_t err;

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    fake_clock_start(ISSUED + DAYS(10));
    fake_http_reset(p);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return 0;
}

#define WINDOW(start, end) \
    "{\"suggestedWindow\":{\"start\":\"" start "\",\"end\":\"" end "\"}}"
#define GOOD WINDOW("2026-03-01T00:00:00Z", "2026-03-02T12:00:00Z")
#define WITH_PAGE(url) \
    "{\"suggestedWindow\":{\"start\":\"2026-03-01T00:00:00Z\",\"end\":\"2026-03-02T12:00:00Z\"}," \
    "\"explanationURL\":" url "}"

/* ---- answers ---- */

static const struct {
    const char *body;
    int start, end;         /* hours after the certificate was issued; the same: refused */
    const char *page;
} ANSWERS[] = {
    { GOOD, 59 * 24, 60 * 24 + 12, NULL },
    { WINDOW("2026-03-01T02:30:00+02:30", "2026-03-01T10:00:00-02:00"), 59 * 24, 59 * 24 + 12,
      NULL },
    { WINDOW("2026-03-01T00:00:00.999Z", "2026-03-01T01:00:00.000001Z"), 59 * 24, 59 * 24 + 1,
      NULL },
    { WINDOW("2025-12-30T00:00:00Z", "2025-12-31T00:00:00Z"), -48, -24, NULL }, /* renew now */
    { WITH_PAGE("\"https://ca.test/why?\""), 59 * 24, 60 * 24 + 12, "https://ca.test/why?" },
    { WITH_PAGE("\"javascript:alert(1)\""), 59 * 24, 60 * 24 + 12, NULL },
    { WITH_PAGE("\"https://ca.test/a b\\n\\u001b[31m\""), 59 * 24, 60 * 24 + 12, NULL },
    { WITH_PAGE("7"), 59 * 24, 60 * 24 + 12, NULL },
    { WITH_PAGE("null"), 59 * 24, 60 * 24 + 12, NULL },
    /* end before start, at the start, and years away */
    { WINDOW("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z"), 0, 0, NULL },
    { WINDOW("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"), 0, 0, NULL },
    { WINDOW("2026-03-01T00:00:00Z", "2026-03-01T01:00:00+01:00"), 0, 0, NULL },
    { WINDOW("2036-03-01T00:00:00Z", "2036-03-02T00:00:00Z"), 0, 0, NULL },
    { WINDOW("1970-01-01T00:00:01Z", "1970-01-02T00:00:00Z"), 0, 0, NULL },
    { WINDOW("2020-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), 0, 0, NULL },
    { WINDOW("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), 0, 0, NULL },
    /* no window */
    { "{}", 0, 0, NULL }, { "[]", 0, 0, NULL }, { "", 0, 0, NULL }, { "null", 0, 0, NULL },
    { "<!DOCTYPE html><html></html>", 0, 0, NULL },
    { "{\"suggestedWindow\":\"2026-03-01T00:00:00Z\"}", 0, 0, NULL },
    { "{\"suggestedWindow\":{\"start\":\"2026-03-01T00:00:00Z\"}}", 0, 0, NULL },
    { "{\"suggestedWindow\":{\"end\":\"2026-03-01T00:00:00Z\"}}", 0, 0, NULL },
    { "{\"suggestedWindow\":{\"start\":1772323200,\"end\":1772409600}}", 0, 0, NULL },
    { "{\"suggestedWindow\":[\"2026-03-01T00:00:00Z\",\"2026-03-02T00:00:00Z\"]}", 0, 0, NULL },
    { WINDOW("soon", "later"), 0, 0, NULL },
    { WINDOW("2026-02-30T00:00:00Z", "2026-03-02T00:00:00Z"), 0, 0, NULL },
    { WINDOW("2026-03-01T00:00:00", "2026-03-02T00:00:00"), 0, 0, NULL },
    { "{\"suggestedWindow\":{\"start\":\"2026-03-01T00:00:00Z\",\"end\":\"2026-0", 0, 0, NULL },
    { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0, 0, NULL },
};
#define ANSWER_COUNT (sizeof(ANSWERS) / sizeof(ANSWERS[0]))

static void answers_are_believed_or_refused(void **state)
{
    md_ari_t ari;
    apr_status_t rv;
    md_json_t *json;
    size_t i;

    (void)state;
    for (i = 0; i < ANSWER_COUNT; ++i) {
        if (md_json_parse(&json, ANSWERS[i].body, strlen(ANSWERS[i].body), NULL, p) != APR_SUCCESS)
            json = NULL;
        memset(&ari, 0, sizeof(ari));
        md_err_clear(&err);
        rv = md_ari_parse(&ari, json, &VALIDITY, &err, p);
        if (ANSWERS[i].start == ANSWERS[i].end) {
            assert_int_equal(rv, APR_EINVAL);
            assert_non_null(err.detail);
            assert_int_equal(ari.window.start, 0);
            continue;
        }
        assert_int_equal(rv, APR_SUCCESS);
        assert_int_equal(ari.window.start, ISSUED + HOURS(ANSWERS[i].start));
        assert_int_equal(ari.window.end, ISSUED + HOURS(ANSWERS[i].end));
        if (ANSWERS[i].page)
            assert_string_equal(ari.explanation_url, ANSWERS[i].page);
        else
            assert_null(ari.explanation_url);
    }
}

/* ---- the moment ---- */

/* splitmix64: as good as random, and the same each time. */
static apr_uint64_t next_dice(void)
{
    static apr_uint64_t seed;
    apr_uint64_t z = seed += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Chi-squared over 100 parts of the window: 99 degrees of freedom, above 149 once in 1,000. */
static void moments_are_spread_evenly_over_the_window(void **state)
{
    static const md_window_t WINDOWS[] = {
        { ISSUED, ISSUED + DAYS(2) }, { ISSUED, ISSUED + HOURS(1) }, { ISSUED, ISSUED + DAYS(90) },
        { ISSUED, ISSUED + 100 },
    };
    const int draws = 100000, parts = 100;
    int counts[100], i;
    double chi, off;
    apr_time_t at;
    size_t w;

    (void)state;
    for (w = 0; w < sizeof(WINDOWS) / sizeof(WINDOWS[0]); ++w) {
        memset(counts, 0, sizeof(counts));
        for (i = 0; i < draws; ++i) {
            at = md_ari_pick(&WINDOWS[w], next_dice());
            assert_true(at >= WINDOWS[w].start && at < WINDOWS[w].end);
            ++counts[(at - WINDOWS[w].start) * parts / (WINDOWS[w].end - WINDOWS[w].start)];
        }
        for (chi = 0, i = 0; i < parts; ++i) {
            off = counts[i] - draws / parts;
            chi += off * off / (draws / parts);
        }
        assert_true(chi < 149);
    }
}

static void extreme_dice_stay_within_the_window(void **state)
{
    static const md_window_t LEAST = { ISSUED, ISSUED + 1 };

    (void)state;
    assert_int_equal(md_ari_pick(&LEAST, 0), ISSUED);
    assert_int_equal(md_ari_pick(&LEAST, UINT64_MAX), ISSUED);
    assert_int_equal(md_ari_pick(&VALIDITY, 0), VALIDITY.start);
    assert_true(md_ari_pick(&VALIDITY, UINT64_MAX) < VALIDITY.end);
    assert_true(md_ari_pick(&VALIDITY, UINT64_MAX) >= VALIDITY.start);
}

/* ---- when to ask again ---- */

static void the_next_poll_is_bounded(void **state)
{
    static const struct {
        apr_interval_time_t told, interval, wait; /* told 0: nothing */
    } ROWS[] = {
        { HOURS(6), HOURS(12), HOURS(6) }, { MINUTES(1), HOURS(12), MINUTES(1) },
        { apr_time_from_sec(1), HOURS(12), MINUTES(1) }, { -DAYS(1), HOURS(12), MINUTES(1) },
        { DAYS(1), HOURS(12), DAYS(1) }, { DAYS(365), MINUTES(1), DAYS(1) },
        { HOURS(20), MINUTES(1), HOURS(20) },
        { 0, HOURS(12), HOURS(6) }, { 0, HOURS(1), HOURS(1) }, { 0, 0, MINUTES(1) },
        { 0, apr_time_from_sec(1), MINUTES(1) }, { 0, DAYS(100), HOURS(6) },
    };
    apr_time_t now = md_clock_now();
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i)
        assert_int_equal(md_ari_poll_at(ROWS[i].told ? now + ROWS[i].told : 0, ROWS[i].interval,
                                        now), now + ROWS[i].wait);
}

/* ---- the request ---- */

static md_acme_t *make_ca(const char *renewal_info)
{
    fake_answer_t directory = { "GET", "/dir", 200, 0, "application/json", NULL, NULL, -1 };
    md_route_t route = { NULL, NULL, NULL };
    md_http_t *http;
    md_acme_t *acme;

    directory.body = apr_psprintf(p, "{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA
                                  "/new-acct\",\"newOrder\":\"" CA "/new-order\","
                                  "\"renewalInfo\":\"%s\"}", renewal_info);
    fake_http_answer(directory);
    assert_int_equal(md_http_create(&http, "test", &err, p), APR_SUCCESS);
    acme = md_acme_create(http, CA "/dir", &route, NULL, p);
    assert_int_equal(md_acme_load_directory(acme, md_clock_now(), &err, p), APR_SUCCESS);
    return acme;
}

static apr_status_t ask(md_ari_t *pari, md_acme_t *acme)
{
    md_cert_info_t cert = { .validity = VALIDITY, .ari_id = CERT_ID };

    md_err_clear(&err);
    return md_ari_fetch(pari, acme, &cert, HOURS(12), md_clock_now(), &err, p);
}

static void the_ca_is_asked_by_the_id_of_the_certificate(void **state)
{
    static const char *const URLS[] = { CA "/ari", CA "/ari/" };
    md_ari_t ari;
    size_t i;

    (void)state;
    for (i = 0; i < 2; ++i) {
        fake_http_reset(p);
        fake_http_answer((fake_answer_t){ "GET", "/ari/" CERT_ID, 200, 0, "application/json",
                                          "Retry-After: 21600", GOOD, -1 });
        assert_int_equal(ask(&ari, make_ca(URLS[i])), APR_SUCCESS);
        assert_int_equal(fake_http_count_prefix(CA "/ari/" CERT_ID), 1);
        assert_int_equal(fake_http_count(""), 2);
        assert_null(fake_http_body("/ari/" CERT_ID, 0));
        assert_int_equal(ari.window.start, ISSUED + DAYS(59));
        assert_int_equal(ari.poll_at, md_clock_now() + HOURS(6));
    }
}

/* Whatever comes in its place. */
static const fake_answer_t REFUSALS[] = {
    { "GET", "/ari/" CERT_ID, 0, APR_ECONNREFUSED, NULL, NULL, NULL, -1 },
    { "GET", "/ari/" CERT_ID, 0, APR_TIMEUP, NULL, NULL, NULL, -1 },
    { "GET", "/ari/" CERT_ID, 302, 0, NULL, "Location: " CA "/elsewhere", NULL, -1 },
    { "GET", "/ari/" CERT_ID, 404, 0, "application/problem+json", NULL,
      "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"no such one\"}", -1 },
    { "GET", "/ari/" CERT_ID, 204, 0, NULL, NULL, NULL, -1 },
    { "GET", "/ari/" CERT_ID, 500, 0, "application/json", NULL, GOOD, -1 },
    { "GET", "/ari/" CERT_ID, 200, 0, "text/html", NULL, "<html>", -1 },
    { "GET", "/ari/" CERT_ID, 200, 0, "application/json", NULL, "{\"suggestedWindow\":{", -1 },
    { "GET", "/ari/" CERT_ID, 200, 0, "application/json", NULL, "{}", -1 },
};

static void what_is_no_answer_fails_and_holds_up_nobody(void **state)
{
    static const md_ari_t BEFORE = { { 1, 2 }, "https://ca.test/", 3 };
    md_ari_t ari;
    md_acme_t *acme;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(REFUSALS) / sizeof(REFUSALS[0]); ++i) {
        fake_http_reset(p);
        fake_http_answer(REFUSALS[i]);
        acme = make_ca(CA "/ari");
        ari = BEFORE;
        assert_int_not_equal(ask(&ari, acme), APR_SUCCESS);
        assert_non_null(err.detail);
        assert_memory_equal(&ari, &BEFORE, sizeof(ari));
        assert_int_equal(fake_http_count(""), 2);
        assert_true(md_acme_has_directory(acme));
    }
}

static void a_busy_ca_tells_when_to_ask_again(void **state)
{
    md_acme_t *acme;
    md_ari_t ari;

    (void)state;
    fake_http_answer((fake_answer_t){ "GET", "/ari/" CERT_ID, 503, 0, NULL, "Retry-After: 7200",
                                      NULL, -1 });
    acme = make_ca(CA "/ari");
    assert_int_not_equal(ask(&ari, acme), APR_SUCCESS);
    assert_int_equal(err.retry_after, md_clock_now() + HOURS(2));
    assert_int_equal(md_acme_hold_until(acme, md_clock_now()), 0);
}

/* A CA by https: is asked by https: for everything. */
static void nobody_is_asked_without_tls(void **state)
{
    md_ari_t ari;

    (void)state;
    assert_int_equal(ask(&ari, make_ca("http://ca.test/ari")), APR_EINVAL);
    assert_int_equal(fake_http_count(""), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_are_believed_or_refused),
        TEST(moments_are_spread_evenly_over_the_window),
        TEST(extreme_dice_stay_within_the_window),
        TEST(the_next_poll_is_bounded),
        TEST(the_ca_is_asked_by_the_id_of_the_certificate),
        TEST(what_is_no_answer_fails_and_holds_up_nobody),
        TEST(a_busy_ca_tells_when_to_ask_again),
        TEST(nobody_is_asked_without_tls),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
