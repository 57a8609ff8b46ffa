/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: hostile text, formats, and what the page of 10,000 domains costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <apr_strings.h>

#include "../../md_board.h"
#include "../../md_cert.h"
#include "../../md_limits.h"
#include "../../md_live.h"
#include "../../md_metrics.h"
#include "../../md_text.h"

#define MANY  10000
#define TIMES 100
#define MOST_SECONDS 0.05
#define MOST_GROWTH  (1024 * 1024)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif

static apr_pool_t *p, *process;
static md_reg_t *reg;
static md_err_t err;
static apr_time_t now;

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    apr_pool_create(&process, NULL);
    md_err_init(&err, p);
    now = apr_time_from_sec(1800000000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    apr_pool_destroy(process);
    return 0;
}

static md_domain_t *domain_at(int i)
{
    return md_reg_domain(reg, i);
}

static md_domain_t *make_domain(const char *name, const apr_array_header_t *key_specs)
{
    md_domain_t *domain = md_domain_make(name, p);

    domain->key_specs = apr_array_copy(p, key_specs);
    domain->renew_mode = MD_RENEW_AUTO;
    domain->renew_window = md_conf_defaults.renew_window;
    domain->ca_urls = md_strings_make(p);
    APR_ARRAY_PUSH(domain->ca_urls, const char *) = "https://ca.test/dir";
    return domain;
}

static void configure(int count)
{
    static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };
    apr_array_header_t *domains = apr_array_make(p, count, sizeof(md_domain_t *)), *key_specs;
    int i;

    key_specs = apr_array_make(p, 1, sizeof(md_key_spec_t));
    APR_ARRAY_PUSH(key_specs, md_key_spec_t) = P256;
    for (i = 0; i < count; ++i)
        APR_ARRAY_PUSH(domains, md_domain_t *) =
            make_domain(apr_psprintf(p, "d%d.example.org", i), key_specs);
    reg = md_reg_make(NULL, &md_conf_defaults, domains, p);
}

/* As a start has them, each with a certificate for two months more. */
static void make_many(int count)
{
    md_cert_info_t *certs = apr_pcalloc(p, sizeof(*certs) * (size_t)count);
    md_live_t *lives = apr_pcalloc(p, sizeof(*lives) * (size_t)count);
    static const int FITS = 1;
    apr_array_header_t *list;
    int i;

    configure(count);
    for (i = 0; i < count; ++i) {
        certs[i].validity.start = now - apr_time_from_sec(30 * 86400);
        certs[i].validity.end = now + apr_time_from_sec(60 * 86400);
        certs[i].fingerprint = apr_psprintf(p, "%064x", i);
        list = apr_array_make(p, 1, sizeof(md_cert_info_t *));
        APR_ARRAY_PUSH(list, const md_cert_info_t *) = &certs[i];
        lives[i].certs = list;
        lives[i].fits = &FITS;
        lives[i].state = MD_STATE_COMPLETE;
        md_live_replace(domain_at(i), &lives[i]);
    }
    reg->board = md_board_make(apr_palloc(p, md_board_size(count)), count);
    assert_int_equal(md_tally_share(&reg->tally, reg->domains, process, &err), APR_SUCCESS);
}

/* ---- where pages go ---- */

typedef struct sink_t {
    char *text;        /* NULL: it is only counted */
    size_t len, pieces;
} sink_t;

static apr_status_t put(void *baton, const char *text)
{
    sink_t *sink = baton;
    size_t len = strlen(text);

    if (sink->text)
        memcpy(sink->text + sink->len, text, len + 1);
    sink->len += len;
    ++sink->pieces;
    return APR_SUCCESS;
}

static const char *page_of(md_metrics_format_t format)
{
    sink_t sink = { apr_palloc(p, 1024 * 1024), 0, 0 };
    md_out_t out = { put, &sink, APR_SUCCESS };

    md_metrics_write(&out, format, reg, now, p);
    assert_int_equal(out.rv, APR_SUCCESS);
    return sink.text;
}

static int has_line(const char *text, const char *line)
{
    const char *found = strstr(text, line);

    return found && (found == text || found[-1] == '\n') && found[strlen(line)] == '\n';
}

/* ---- tests ---- */

static void no_domain(void **state)
{
    const char *text;

    (void)state;
    reg = NULL;
    text = page_of(MD_METRICS_OPEN);
    assert_true(has_line(text, "mod_md_domains 0"));
    assert_true(has_line(text, "mod_md_work_in_flight{kind=\"renewal\"} 0"));
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    text = page_of(MD_METRICS_TEXT);
    assert_true(has_line(text, "# TYPE mod_md_build_info gauge"));
    assert_null(strstr(text, "# EOF"));
}

/* A page without board and counters says what it can. */
static void no_shared_memory(void **state)
{
    const char *text;

    (void)state;
    make_many(2);
    reg->board = NULL;
    reg->tally = NULL;
    text = page_of(MD_METRICS_OPEN);
    assert_true(has_line(text, "mod_md_renewals_total{domain=\"d1.example.org\"} 0"));
    assert_true(has_line(text, "mod_md_certificate_state{domain=\"d1.example.org\","
                               "certificate=\"P-256\",state=\"valid\"} 1"));
    assert_null(strstr(text, "mod_md_ca_requests_total{"));
}

static const struct { const char *name, *shown; } NAMES[] = {
    { "a\"b", "a\\\"b" },
    { "a\\", "a\\\\" },
    { "a\"} 1\nmod_md_domains 7", "a\\\"} 1 mod_md_domains 7" },
    { "\xff\xc3\xa4\x1b", "?\xc3\xa4?" },
    { "*.a", "*.a" },
    { "\\\"\\\"", "\\\\\\\"\\\\\\\"" },
};

static void hostile_names(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); ++i) {
        make_many(1);
        domain_at(0)->name = NAMES[i].name;
        assert_true(has_line(page_of(MD_METRICS_OPEN),
                             apr_psprintf(p, "mod_md_renewals_total{domain=\"%s\"} 0",
                                          NAMES[i].shown)));
    }
}

/* It is cut into pieces anywhere. */
static void a_very_long_name(void **state)
{
    char *name;

    (void)state;
    make_many(1);
    name = apr_palloc(p, 100001);
    memset(name, 'x', 100000);
    name[100000] = '\0';
    domain_at(0)->name = name;
    assert_true(has_line(page_of(MD_METRICS_OPEN),
                         apr_psprintf(p, "mod_md_renewals_total{domain=\"%s\"} 0", name)));
}

static md_board_row_t row_at(md_phase_t phase)
{
    return (md_board_row_t){ .phase = phase, .next_run = apr_time_from_sec(1900000001),
                             .renew_at = apr_time_from_sec(1900000002), .errors = 3 };
}

static const struct { md_phase_t phase; const char *next, *name; } PHASES[] = {
    { MD_PHASE_QUIET, "1900000002", NULL },
    { MD_PHASE_WAITING, "1900000001", "waiting" },
    { MD_PHASE_RUNNING, NULL, "running" },
    { MD_PHASE_READY, NULL, "ready" },
    { (md_phase_t)17, NULL, NULL }, /* children may write anything */
};

static void phases(void **state)
{
    static const char *const NEXT = "mod_md_renewal_next_timestamp_seconds{";
    const char *text;
    md_board_row_t row;
    size_t i;

    (void)state;
    make_many(1);
    for (i = 0; i < sizeof(PHASES) / sizeof(PHASES[0]); ++i) {
        row = row_at(PHASES[i].phase);
        md_board_write(reg->board, 0, &row);
        text = page_of(MD_METRICS_OPEN);
        assert_int_equal(strstr(text, NEXT) != NULL, PHASES[i].next != NULL);
        if (PHASES[i].next)
            assert_true(has_line(text, apr_psprintf(p, "%sdomain=\"d0.example.org\"} %s", NEXT,
                                                    PHASES[i].next)));
        assert_int_equal(strstr(text, "phase=") != NULL, PHASES[i].name != NULL);
        if (PHASES[i].name)
            assert_non_null(strstr(text, apr_psprintf(p, "phase=\"%s\"} 1\n", PHASES[i].name)));
        assert_true(has_line(text, "mod_md_renewal_consecutive_failures"
                                   "{domain=\"d0.example.org\"} 3"));
    }
}

/* One that is not told apart counts with the others, and there is an end to them. */
static void many_cas(void **state)
{
    const char *text;
    int i;

    (void)state;
    make_many(MD_MAX_CAS + 10);
    for (i = 0; i < MD_MAX_CAS + 10; ++i) {
        domain_at(i)->ca_urls = md_strings_make(p);
        APR_ARRAY_PUSH(domain_at(i)->ca_urls, const char *) = apr_psprintf(p, "https://ca%d", i);
    }
    assert_int_equal(md_tally_share(&reg->tally, reg->domains, process, &err), APR_SUCCESS);
    for (i = 0; i < MD_MAX_CAS + 10; ++i)
        md_meter_request(md_tally_meter(reg->tally, apr_psprintf(p, "https://ca%d", i)), 200,
                         apr_time_from_msec(100));
    text = page_of(MD_METRICS_OPEN);
    assert_true(has_line(text, "mod_md_ca_requests_total{ca=\"https://ca0\",code=\"2xx\"} 1"));
    assert_true(has_line(text, "mod_md_ca_requests_total{ca=\"other\",code=\"2xx\"} 10"));
    assert_null(strstr(text, apr_psprintf(p, "https://ca%d\"", MD_MAX_CAS)));
    assert_true(has_line(text, "mod_md_ca_request_duration_seconds_sum{ca=\"other\"} 1.000000"));
    assert_true(has_line(text, "mod_md_ca_request_duration_seconds_bucket{ca=\"other\",le=\"0.05\"}"
                               " 0"));
    assert_true(has_line(text, "mod_md_ca_request_duration_seconds_bucket{ca=\"other\",le=\"0.1\"}"
                               " 10"));
}

/* ---- what many cost ---- */

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long size = 0, pages = 0;

    if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static size_t count_page(size_t *pieces)
{
    sink_t sink = { NULL, 0, 0 };
    md_out_t out = { put, &sink, APR_SUCCESS };
    apr_pool_t *request;

    apr_pool_create(&request, p);
    md_metrics_write(&out, MD_METRICS_OPEN, reg, now, request);
    apr_pool_destroy(request);
    *pieces = sink.pieces;
    return sink.len;
}

/* Each with a failure, some of them under renewal. */
static void many_domains(void **state)
{
    md_err_t failure = { .rv = APR_EGENERAL, .type = "urn:ietf:params:acme:error:dns" };
    double began, took, best = 1e9;
    md_board_row_t row;
    size_t len, pieces;
    long before;
    int i;

    (void)state;
    make_many(MANY);
    for (i = 0; i < MANY; ++i) {
        row = row_at(i % 2 ? MD_PHASE_UNKNOWN : MD_PHASE_WAITING);
        md_board_write(reg->board, i, &row);
        md_tally_renewal(reg->tally, i, &failure);
    }
    len = count_page(&pieces);
    before = resident();
    for (i = 0; i < TIMES; ++i) {
        began = cpu_seconds();
        assert_int_equal(count_page(&pieces), len);
        took = cpu_seconds() - began;
        best = took < best ? took : best;
    }
    print_message("%d domains: %.1f ms, %lu bytes in %lu pieces, %ld kB more after %d\n", MANY,
                  best * 1000, (unsigned long)len, (unsigned long)pieces,
                  (resident() - before) / 1024, TIMES);
    assert_true(len > MANY * 500 && pieces > len / 10000);
    assert_true(IS_SANITIZED || best < MOST_SECONDS);
    assert_true(IS_SANITIZED || resident() - before < MOST_GROWTH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_domain), TEST(no_shared_memory), TEST(hostile_names), TEST(a_very_long_name),
        TEST(phases), TEST(many_cas), TEST(many_domains),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
