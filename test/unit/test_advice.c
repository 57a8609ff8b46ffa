/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that follow what their CA suggests, by the real engine and a clock that does not wait:
 * how often it is asked, what is believed, when certificates are renewed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_advice.h"
#include "../../md_clock.h"
#include "../../md_limits.h"
#include "../../md_live.h"
#include "../../md_log.h"
#include "../../md_renew.h"
#include "../../md_stage.h"
#include "../../md_status.h"
#include "../../md_text.h"
#include "fake_ca.h"
#include "fake_clock.h"
#include "fake_http.h"
#include "many_domains.h"
#include "simulated.h"

#define MINUTES(n) apr_time_from_sec((n) * 60LL)
#define HOURS(n)   MINUTES((n) * 60LL)
#define DAYS(n)    HOURS((n) * 24LL)
#define START      DAYS(365 * 56LL) /* since 1970 */
#define JUMP       DAYS(2 * 365LL)

static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };

static apr_pool_t *base; /* outlives the generations of a server */
static int count;        /* of its domains */
static int has_news, notices;
static apr_time_t late_at; /* when a certificate had ended, 0: never */

/* ---- in place of the log ---- */

static int is_told(md_log_level_t level)
{
    return level <= MD_LOG_NOTICE;
}

static void take_note(const char *file, int line, md_log_level_t level, const char *msg)
{
    (void)file;
    (void)line;
    (void)level;
    has_news = has_news || strstr(msg, "AH10059");
    notices += !strstr(msg, "AH10059") && !strstr(msg, "AH10068");
}

/* ---- a server ---- */

static const md_cert_info_t *cert_of(int i)
{
    return APR_ARRAY_IDX(md_live_of(domain_at(i))->certs, 0, const md_cert_info_t *);
}

static void load(void)
{
    const md_domain_t *other;
    const char *name;
    int i;

    configure(count);
    assert_null(md_reg_index(reg, &other, &name, p));
    md_stage_activate_all(reg, p);
    md_reg_load(reg, p);
    for (i = 0; i < count; ++i)
        md_reg_assess(reg, domain_at(i), p);
    md_stage_clean(reg, p);
}

static void start(void)
{
    apr_pool_create(&p, base);
    has_news = 0;
    load();
    assert_int_equal(make_engine(), 0);
}

static void stop(void)
{
    md_http_stop(http);
    md_engine_stop(engine);
    apr_pool_destroy(p);
    p = base;
}

static void restart(void)
{
    stop();
    start();
}

/* A certificate in service, from the CA that is configured. */
static void save_live(int i, apr_time_t from, apr_time_t to)
{
    const char *name = domain_at(i)->name, *pem;
    apr_array_header_t *chain;
    static md_key_t *key;

    if (i == 0)
        assert_int_equal(md_key_generate(&key, &P256, &err, base), APR_SUCCESS);
    pem = fake_ca_issue(name, md_key_evp(key), from, to, p);
    assert_int_equal(md_chain_from_pem(&chain, pem, strlen(pem), &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_key(store, MD_STORE_DOMAINS, name, "privkey.p-256.pem", key,
                                       &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_chain(store, MD_STORE_DOMAINS, name, "pubcert.p-256.pem", chain,
                                         &err, p), APR_SUCCESS);
    domain_at(i)->ca_url = CA "/dir";
    assert_int_equal(md_reg_save_domain(reg, domain_at(i), &err, p), APR_SUCCESS);
}

/* `domains` of them, with certificates that were issued at `from` for `lifetime` (0: none). */
static void make_server(int domains, apr_time_t from, apr_interval_time_t lifetime)
{
    int i;

    count = domains;
    assert_int_equal(make_domains(count), 0);
    fake_ca.store = store;
    if (lifetime) {
        fake_ca.lifetime = lifetime;
        for (i = 0; i < count; ++i)
            save_live(i, from, from + lifetime);
    }
    notices = 0;
    late_at = 0;
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&base, NULL);
    p = base;
    decoded = apr_hash_make(p);
    md_err_init(&err, p);
    disk_is_full = 0;
    fake_clock_start(START);
    fake_ca_start(START);
    fake_http_reset(p);
    fake_http_serve(fake_ca_serve);
    return memory_dir_make();
}

static int teardown(void **state)
{
    (void)state;
    if (p != base)
        stop();
    apr_pool_destroy(base);
    return temp_dir_remove();
}

/* As run_until, with a reload when there is something to be put into service. */
static void live_until(apr_time_t until, apr_interval_time_t reload_every)
{
    apr_time_t next;
    int i;

    while (fake_clock_truth() < until) {
        next = fake_clock_truth() + reload_every;
        run_until(next < until ? next : until);
        for (i = 0; i < count; ++i)
            if (!cert_of(i) || cert_of(i)->validity.end <= fake_clock_truth())
                late_at = fake_clock_truth();
        if (has_news)
            restart();
    }
}

/* ---- how often ---- */

/* Those whose certificates end with the start. */
static int refuse_orders(fake_answer_t *answer, const char *kind, fake_order_t *order,
                         apr_pool_t *pool)
{
    (void)order;
    (void)pool;
    if (strcmp(kind, "new-order"))
        return 0;
    answer->status = 403;
    answer->type = "application/problem+json";
    answer->body = FAKE_PROBLEM("caa", "a CAA record forbids issuance");
    return 1;
}

static int orders_of(int i, apr_time_t from, apr_time_t to)
{
    int k, orders = 0;

    for (k = 0; k < fake_ca.logged; ++k)
        orders += !strcmp(fake_ca.log[k].name, domain_at(i)->name)
                  && fake_ca.log[k].at >= from && fake_ca.log[k].at < to;
    return orders;
}

#define IDLE 100

/* The log of a domain that fails all the time, forgotten: to write it costs more than all else. */
static void forget_log(int i)
{
    md_job_t *job = job_of(i);

    md_json_truncate(job->log, 0);
    assert_int_equal(md_job_save_volatile(job, store, &err, p), APR_SUCCESS);
}

/* Two others fail all the time: one every 30 seconds, as its certificates live as long, the other one
 * every half hour. */
static void idle_domains_ask_once_per_retry_after(void **state)
{
    const apr_time_t begun = md_clock_steady();
    int i, day, asked, all = 0;

    (void)state;
    fake_ca.ari_from = 60;
    fake_ca.ari_to = 70;
    fake_ca.ari_retry_after = 24 * 3600;
    fake_ca.refuse = refuse_orders;
    make_server(IDLE + 2, START - DAYS(10), DAYS(90));
    save_live(IDLE, START - MINUTES(1), START - apr_time_from_sec(30));
    save_live(IDLE + 1, START - MINUTES(31), START - MINUTES(1));
    start();
    while (fake_clock_truth() < START + DAYS(7)) {
        run_until(fake_clock_truth() + MINUTES(5));
        forget_log(IDLE);
    }
    for (day = 0; day < 7; ++day) {
        asked = orders_of(IDLE, begun + DAYS(day), begun + DAYS(day + 1));
        /* With `replaces` and without; jitter makes it 45 seconds at most from one attempt to the next. */
        assert_in_range(asked, 2 * 24 * 80, 2 * 24 * 145);
        asked = orders_of(IDLE + 1, begun + DAYS(day), begun + DAYS(day + 1));
        assert_in_range(asked, 60, 150);
    }
    for (i = 0; i < IDLE; ++i) {
        asked = fake_ca_count("ari", domain_at(i)->name);
        assert_in_range(asked, 7, 8);
        assert_int_equal(fake_ca_count(NULL, domain_at(i)->name), asked);
        all += asked;
    }
    assert_int_equal(fake_ca_count("ari", NULL), all);
    assert_int_equal(fake_http_count("/dir"), 1);
}

/* ---- years ---- */

static int too_early, ordered;

/* What a domain orders while its newest certificate is young. */
static int look_at_order(fake_answer_t *answer, const char *kind, fake_order_t *order,
                         apr_pool_t *pool)
{
    const fake_cert_t *cert = &fake_ca.certs[fake_ca.issued - 1];
    int percent = fake_ca.ari_from ? fake_ca.ari_from : 66;

    (void)answer;
    (void)order;
    (void)pool;
    if (!strcmp(kind, "new-order")) {
        ++ordered;
        too_early += fake_clock_truth() + apr_time_from_sec(1) /* windows have whole seconds */
                     < cert->from + (cert->to - cert->from) * percent / 100;
    }
    return 0;
}

static void live_for(apr_interval_time_t lifetime, apr_interval_time_t time, int with_ari)
{
    apr_time_t end = START + time;
    int most, least;

    fake_clock_start(START);
    fake_ca_start(START);
    fake_ca.ari_from = with_ari ? 50 : 0;
    fake_ca.ari_to = with_ari ? 60 : 0;
    fake_ca.ari_retry_after = 24 * 3600;
    fake_ca.refuse = look_at_order;
    too_early = ordered = 0;
    make_server(1, START, lifetime);
    start();
    live_until(end, lifetime / 30);
    assert_int_equal(late_at, 0);
    assert_int_equal(too_early, 0);
    least = (int)(time / (lifetime * (with_ari ? 64 : 74) / 100)) - 1;
    most = (int)(time / (lifetime * (with_ari ? 50 : 66) / 100)) + 1;
    assert_in_range(ordered, least, most);
    assert_int_equal(fake_ca_count("cert", NULL), ordered);
    stop();
}

/* Two years of the shortest life are 26,000 renewals: a_thousand_domains... has them. */
static void renewals_are_never_late_and_never_twice(void **state)
{
    static const struct { apr_interval_time_t lifetime, time; } LIVES[] = {
        { DAYS(90), DAYS(730) }, { DAYS(45), DAYS(730) }, { DAYS(6), DAYS(730) },
        { HOURS(1), DAYS(4) },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(LIVES) / sizeof(LIVES[0]); ++i) {
        live_for(LIVES[i].lifetime, LIVES[i].time, 0);
        live_for(LIVES[i].lifetime, LIVES[i].time, 1);
    }
}

/* Domains whose renewals take no time. */
#define THOUSAND 1000
static struct {
    md_domain_t *domain;
    md_live_t live;
    md_cert_info_t cert;
    const md_cert_info_t *certs[1];
    apr_array_header_t list;
    char fingerprint[17];
    md_advice_t advice;
    md_hint_t hint;
    apr_array_header_t hints;
} thousand[THOUSAND];

static void issue(int i, apr_time_t at, apr_interval_time_t lifetime, int with_ari)
{
    const md_window_t window = { at + lifetime / 2, at + lifetime * 6 / 10 };
    unsigned char random[8];

    md_random_bytes(random, sizeof(random));
    apr_snprintf(thousand[i].fingerprint, sizeof(thousand[i].fingerprint), "%s",
                 md_hex_encode(random, sizeof(random), 0, p));
    thousand[i].cert = (md_cert_info_t){ .validity = { at, at + lifetime },
                                         .fingerprint = thousand[i].fingerprint };
    thousand[i].hint = (md_hint_t){ .cert = &thousand[i].cert };
    if (with_ari)
        thousand[i].hint.renew_at = md_ari_pick(&window, md_cert_dice(&thousand[i].cert));
}

static void define(int i, apr_time_t at, apr_interval_time_t lifetime, int with_ari)
{
    memset(&thousand[i], 0, sizeof(thousand[i]));
    thousand[i].domain = define_domain(name_of(i));
    thousand[i].certs[0] = &thousand[i].cert;
    thousand[i].list = (apr_array_header_t){ p, sizeof(void *), 1, 1, (char *)thousand[i].certs };
    thousand[i].live = (md_live_t){ .certs = &thousand[i].list, .obtained = &thousand[i].list,
                                    .state = MD_STATE_COMPLETE };
    thousand[i].hints = (apr_array_header_t){ p, sizeof(md_hint_t), 1, 1,
                                              (char *)&thousand[i].hint };
    thousand[i].advice.hints = &thousand[i].hints;
    issue(i, at, lifetime, with_ari);
    md_live_replace(thousand[i].domain, &thousand[i].live);
}

/* The first renewals of domains that got their certificates in the same minute, and all that follow
 * in `time`, for the first `years_for` of them. */
static void live_together(apr_interval_time_t lifetime, apr_interval_time_t time, int years_for,
                          int with_ari)
{
    static int parts[50];
    apr_interval_time_t spread = with_ari ? lifetime / 10 : lifetime * 33 / 100 / 10;
    apr_time_t begins = START + (with_ari ? lifetime / 2 : lifetime - lifetime * 33 / 100), now;
    int i, times;

    if (!with_ari && spread > HOURS(12))
        spread = HOURS(12);
    memset(parts, 0, sizeof(parts));
    for (i = 0; i < THOUSAND; ++i) {
        define(i, START + apr_time_from_sec(60) * i / THOUSAND, lifetime, with_ari);
        now = md_renew_due(thousand[i].domain, &thousand[i].advice, START).at;
        assert_true(now >= begins && now < begins + spread + MINUTES(1));
        ++parts[(now - begins) * 49 / (spread + MINUTES(1))];
    }
    for (i = 0; i < 50; ++i) /* 20 on average, or 30 where a minute is half of all */
        assert_true(parts[i] < (lifetime == HOURS(1) ? 60 : 45));
    for (i = 0; i < years_for; ++i) {
        for (times = 0, now = START; now < START + time; ++times) {
            now = md_renew_due(thousand[i].domain, &thousand[i].advice, now).at;
            assert_true(now < thousand[i].cert.validity.end - lifetime / 4);
            assert_true(now >= thousand[i].cert.validity.start + lifetime / 2);
            issue(i, now, lifetime, with_ari);
        }
        assert_in_range(times, time / (lifetime * 3 / 4), time / (lifetime / 2) + 1);
    }
}

static void a_thousand_domains_are_renewed_at_a_thousand_moments(void **state)
{
    static const struct { apr_interval_time_t lifetime; int years_for; } LIVES[] = {
        { DAYS(90), THOUSAND }, { DAYS(45), THOUSAND }, { DAYS(6), THOUSAND }, { HOURS(1), 20 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(LIVES) / sizeof(LIVES[0]); ++i) {
        live_together(LIVES[i].lifetime, DAYS(730), LIVES[i].years_for, 0);
        live_together(LIVES[i].lifetime, DAYS(730), LIVES[i].years_for, 1);
    }
}

/* ---- when ---- */

static md_advice_t *advice_of(int i)
{
    return md_advice_load(store, domain_at(i), md_clock_now(), p);
}

static const md_hint_t *hint_of(int i)
{
    return &APR_ARRAY_IDX(advice_of(i)->hints, 0, md_hint_t);
}

/* The CA says so for every certificate. */
static void a_window_of_the_past_renews_at_once_and_once(void **state)
{
    (void)state;
    fake_ca.ari_from = -20;
    fake_ca.ari_to = -10;
    make_server(1, START - DAYS(1), DAYS(90));
    start();
    run_until(START + MINUTES(1));
    assert_int_equal(fake_ca_count("cert", NULL), 1);
    assert_int_equal(fake_ca_count("ari", NULL), 1);
    run_until(START + HOURS(20));
    assert_int_equal(fake_ca_count("new-order", NULL), 1);
    live_until(START + HOURS(23), MINUTES(1)); /* reloads, and goes on with the new certificate */
    assert_int_equal(fake_ca_count("new-order", NULL), 1);
    live_until(START + DAYS(7), MINUTES(10));
    assert_in_range(fake_ca_count("new-order", NULL), 6, 7);
    assert_int_equal(late_at, 0);
}

/* What was said before is looked at again before it is followed. */
static void the_ca_is_asked_again_before_a_renewal(void **state)
{
    apr_time_t at;

    (void)state;
    fake_ca.ari_from = 20;
    fake_ca.ari_to = 21;
    fake_ca.ari_retry_after = 24 * 3600;
    make_server(1, START, DAYS(90));
    start();
    run_until(START + HOURS(1));
    at = hint_of(0)->renew_at;
    assert_in_range(at, START + DAYS(18), START + DAYS(19));
    fake_ca.ari_retry_after = 0;
    run_until(at - MINUTES(1));
    fake_ca.ari_from = 30; /* it has changed its mind */
    fake_ca.ari_to = 31;
    run_until(at + MINUTES(10));
    assert_int_equal(fake_ca_count("new-order", NULL), 0);
    at = hint_of(0)->renew_at;
    assert_in_range(at, START + DAYS(27), START + DAYS(28));
    run_until(at + MINUTES(1));
    assert_int_equal(fake_ca_count("cert", NULL), 1);
}

static int fail_order(fake_answer_t *answer, const char *kind, fake_order_t *order,
                      apr_pool_t *pool)
{
    (void)order;
    (void)pool;
    if (strcmp(kind, "finalize") || fake_clock_truth() > START + DAYS(3))
        return 0;
    answer->status = 403;
    answer->type = "application/problem+json";
    answer->body = FAKE_PROBLEM("caa", "a CAA record forbids issuance");
    order->is_invalid = 1;
    return 1;
}

/* Nor at each retry. */
static void a_renewal_that_fails_asks_no_more_than_others(void **state)
{
    (void)state;
    fake_ca.ari_from = -20;
    fake_ca.ari_to = -10;
    fake_ca.ari_retry_after = 24 * 3600;
    fake_ca.refuse = fail_order;
    make_server(1, START - DAYS(1), DAYS(90));
    start();
    run_until(START + DAYS(3));
    assert_true(job_of(0)->errors > 10);
    assert_int_equal(fake_ca_count("ari", NULL), 1);
    fake_ca.ari_from = 60;
    fake_ca.ari_to = 70;
    live_until(START + DAYS(5), HOURS(1));
    assert_int_equal(fake_ca_count("cert", NULL), 1);
}

/* What is known outlives a restart, and nobody is asked again for it. */
static void a_restart_forgets_and_redraws_nothing(void **state)
{
    md_hint_t before;
    int i;

    (void)state;
    fake_ca.ari_from = 40;
    fake_ca.ari_to = 60;
    make_server(3, START, DAYS(90));
    start();
    run_until(START + HOURS(1));
    before = *hint_of(1);
    assert_true(before.renew_at > START + DAYS(36) && before.renew_at < START + DAYS(54));
    for (i = 0; i < 20; ++i) {
        restart();
        run_until(START + HOURS(1) + MINUTES(i + 1));
        assert_int_equal(hint_of(1)->renew_at, before.renew_at);
        assert_int_equal(hint_of(1)->ari.window.start, before.ari.window.start);
        assert_int_equal(hint_of(1)->ari.poll_at, before.ari.poll_at);
    }
    assert_int_equal(fake_ca_count("ari", NULL), 3);
    assert_int_equal(fake_http_count("/dir"), 1);
}

static void nobody_is_asked_who_is_not_to_be(void **state)
{
    (void)state;
    fake_ca.ari_from = -20;
    fake_ca.ari_to = -10;
    make_server(4, START, DAYS(90));
    save_live(3, START - DAYS(90), START - DAYS(1)); /* has ended: renewed for that */
    start();
    domain_at(0)->ari_renewals = 0;
    domain_at(1)->renew_mode = MD_RENEW_MANUAL;
    domain_at(2)->ca_url = NULL; /* who knows where it is from */
    run_until(START + DAYS(2));
    assert_int_equal(fake_ca_count("ari", NULL), 0);
    assert_int_equal(fake_ca_count("cert", NULL), 1);
}

/* ---- what is of no use ---- */

static const fake_answer_t *nonsense;

static int talk_nonsense(fake_answer_t *answer, const char *kind, fake_order_t *order,
                         apr_pool_t *pool)
{
    (void)order;
    (void)pool;
    if (strcmp(kind, "ari"))
        return 0;
    *answer = *nonsense;
    return 1;
}

#define WINDOW(start, end) \
    "{\"suggestedWindow\":{\"start\":\"" start "\",\"end\":\"" end "\"}}"

/* None of it changes when certificates are renewed, is told, or asked for too often. */
static void nonsense_changes_nothing(void **state)
{
    static const fake_answer_t NONSENSE[] = {
        { .status = 0, .rv = APR_ECONNREFUSED }, { .status = 0, .rv = APR_TIMEUP },
        { .status = 404 }, { .status = 500 }, { .status = 503, .headers = "Retry-After: 31536000" },
        { .status = 429, .headers = "Retry-After: 1" },
        { .status = 302, .headers = "Location: " CA "/elsewhere" },
        { .status = 200, .type = "text/html", .body = "<!DOCTYPE html><html></html>" },
        { .status = 200, .body = "{}", .headers = "Retry-After: 0" },
        { .status = 200, .body = WINDOW("2025-12-19T00:00:00Z", "2025-12-18T00:00:00Z") },
        { .status = 200, .body = WINDOW("2025-12-18T00:00:00Z", "2025-12-18T00:00:00Z") },
        { .status = 200, .body = WINDOW("2005-12-18T00:00:00Z", "2005-12-19T00:00:00Z") },
        { .status = 200, .body = WINDOW("2055-12-18T00:00:00Z", "2055-12-19T00:00:00Z"),
          .headers = "Retry-After: 31536000" },
    };
    apr_time_t due;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(NONSENSE) / sizeof(NONSENSE[0]); ++i) {
        fake_clock_start(START);
        fake_ca_start(START);
        fake_http_reset(p);
        fake_http_serve(fake_ca_serve);
        fake_ca.ari_from = fake_ca.ari_to = 1;
        nonsense = &NONSENSE[i];
        fake_ca.refuse = talk_nonsense;
        make_server(1, START - DAYS(57), DAYS(90));
        start();
        due = md_renew_due(domain_at(0), NULL, START).at;
        assert_in_range(due, START + DAYS(3), START + DAYS(4));
        run_until(due - MINUTES(1));
        assert_int_equal(fake_ca_count("new-order", NULL), 0);
        assert_in_range(fake_ca_count("ari", NULL), 3, 30);
        assert_non_null(hint_of(0)->problem);
        run_until(due + MINUTES(2));
        assert_int_equal(fake_ca_count("cert", NULL), 1);
        assert_int_equal(notices, 0);
        assert_int_equal(fake_http_count("/dir"), 1);
        stop();
    }
}

/* What was known before holds on. */
static void an_answer_that_is_none_takes_nothing_away(void **state)
{
    static const fake_answer_t GONE = { .status = 404 };
    apr_time_t at;

    (void)state;
    fake_ca.ari_from = 20;
    fake_ca.ari_to = 21;
    make_server(1, START, DAYS(90));
    start();
    run_until(START + HOURS(1));
    at = hint_of(0)->renew_at;
    nonsense = &GONE;
    fake_ca.refuse = talk_nonsense;
    run_until(at - HOURS(1));
    assert_int_equal(hint_of(0)->renew_at, at);
    assert_true(hint_of(0)->errors > 10);
    run_until(at + MINUTES(1));
    assert_int_equal(fake_ca_count("cert", NULL), 1);
}

/* Nobody is kept from renewing by a disk that was full when the CA was asked. */
static void a_full_disk_makes_nobody_ask_more_often(void **state)
{
    (void)state;
    fake_ca.ari_from = 20;
    fake_ca.ari_to = 21;
    make_server(1, START, DAYS(90));
    start();
    disk_is_full = 1;
    run_until(START + DAYS(2));
    disk_is_full = 0;
    assert_in_range(fake_ca_count("ari", NULL), 8, 9);
    run_until(START + DAYS(20));
    assert_int_equal(fake_ca_count("cert", NULL), 1);
}

static void a_date_that_jumps_is_harmless(void **state)
{
    static const apr_interval_time_t JUMPS[] = { -JUMP, -DAYS(3), DAYS(3), JUMP };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(JUMPS) / sizeof(JUMPS[0]); ++i) {
        fake_clock_start(START);
        fake_ca_start(START);
        fake_ca.ari_from = 50;
        fake_ca.ari_to = 55;
        make_server(1, START, DAYS(90));
        start();
        run_until(START + HOURS(1));
        fake_clock_set_off(JUMPS[i]);
        restart();
        run_until(START + HOURS(10));
        fake_clock_set_off(0);
        restart();
        run_until(START + DAYS(3));
        assert_in_range(fake_ca_count("ari", NULL), JUMPS[i] == JUMP ? 1 : 10, 16);
        live_until(START + DAYS(55), HOURS(1));
        assert_in_range(fake_ca_count("cert", NULL), 1, JUMPS[i] == JUMP ? 2 : 1);
        assert_int_equal(late_at, 0);
        stop();
    }
}

/* ---- replaces (RFC 9773 5) ---- */

static const char *refusal; /* of orders that replace a certificate, or NULL */
static int refusal_status;

static int refuse_replacement(fake_answer_t *answer, const char *kind, fake_order_t *order,
                              apr_pool_t *pool)
{
    (void)pool;
    if (!refusal || strcmp(kind, "new-order") || !order->replaces)
        return 0;
    answer->status = refusal_status;
    answer->type = *refusal == '{' ? "application/problem+json" : "text/html";
    answer->body = refusal;
    return 1;
}

static void an_order_says_what_it_replaces(void **state)
{
    const char *id;

    (void)state;
    fake_ca.ari_from = -20;
    fake_ca.ari_to = -10;
    make_server(1, START - DAYS(1), DAYS(90));
    start();
    id = cert_of(0)->ari_id;
    assert_non_null(id);
    run_until(START + MINUTES(1));
    assert_int_equal(fake_ca.count, 1);
    assert_string_equal(fake_ca.orders[0].replaces, id);
}

/* One that offers no renewal information; another one than issued the certificate, or nobody knows
 * which did; and where it is off. */
static void no_other_ca_is_told(void **state)
{
    int i;

    (void)state;
    make_server(4, START - DAYS(80), DAYS(90));
    start();
    run_until(START + MINUTES(1));
    assert_int_equal(fake_ca.count, 4);
    for (i = 0; i < 4; ++i)
        assert_null(fake_ca.orders[i].replaces);
    stop();
    fake_clock_start(START);
    fake_ca_start(START);
    fake_ca.ari_from = 60;
    fake_ca.ari_to = 70;
    make_server(4, START - DAYS(80), DAYS(90));
    start();
    domain_at(0)->ca_url = "https://other.test/dir";
    domain_at(1)->ca_url = NULL;
    domain_at(2)->ari_renewals = 0;
    run_until(START + MINUTES(1));
    assert_int_equal(fake_ca.count, 4);
    for (i = 0; i < 4; ++i)
        assert_int_equal(fake_ca.orders[i].replaces != NULL,
                         !strcmp(fake_ca.orders[i].name, domain_at(3)->name));
}

/* The same order without that, at once, and no word of it. */
static void a_refused_replacement_is_no_failure(void **state)
{
    static const struct { int status; const char *body; } REFUSALS[] = {
        { 409, FAKE_PROBLEM("alreadyReplaced", "it was replaced before") },
        { 400, FAKE_PROBLEM("malformed", "replaces: no such certificate") },
        { 403, FAKE_PROBLEM("unauthorized", "it is another account's") },
        { 404, FAKE_PROBLEM("malformed", "not found") },
        { 500, FAKE_PROBLEM("serverInternal", "oops") },
        { 500, "<html>" }, { 400, "<html>" },
        { 422, "{\"type\":\"about:blank\"}" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(REFUSALS) / sizeof(REFUSALS[0]); ++i) {
        fake_clock_start(START);
        fake_ca_start(START);
        fake_ca.ari_from = 60;
        fake_ca.ari_to = 70;
        refusal = REFUSALS[i].body;
        refusal_status = REFUSALS[i].status;
        fake_ca.refuse = refuse_replacement;
        make_server(1, START - DAYS(80), DAYS(90));
        start();
        run_until(START + apr_time_from_sec(20));
        assert_int_equal(fake_ca_count("new-order", NULL), 2);
        assert_int_equal(fake_ca_count("cert", NULL), 1);
        assert_null(fake_ca.orders[0].replaces);
        assert_int_equal(job_of(0)->errors, 0);
        assert_int_equal(notices, 0);
        stop();
    }
}

/* A busy CA is not asked twice. */
static void a_limit_is_no_refused_replacement(void **state)
{
    (void)state;
    fake_ca.ari_from = 60;
    fake_ca.ari_to = 70;
    refusal = FAKE_PROBLEM("rateLimited", "too many new orders by this account");
    refusal_status = 429;
    fake_ca.refuse = refuse_replacement;
    make_server(1, START - DAYS(80), DAYS(90));
    start();
    run_until(START + apr_time_from_sec(10));
    assert_int_equal(fake_ca_count("new-order", NULL), 1);
    assert_int_equal(job_of(0)->errors, 1);
}

/* ---- what others wrote ---- */

static void put_document(const char *text)
{
    md_json_t *json;

    assert_int_equal(md_json_parse(&json, text, strlen(text), &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_json(store, MD_STORE_OCSP, domain_at(0)->name, "ari.json", json,
                                        &err, p), APR_SUCCESS);
}

#define ENTRY(id, from, until, more) "{\"certs\":[{\"ari-cert-id\":\"" id "\",\"window\":{" \
    "\"from\":\"" from "\",\"until\":\"" until "\"}" more "}]}"
#define EARLY "Fri, 19 Dec 2025 00:00:00 GMT"
#define LATE  "Sun, 21 Dec 2025 00:00:00 GMT"

/* START is 2025-12-18. */
static void a_document_is_believed_within_bounds(void **state)
{
    static const struct { const char *text; int has_moment, has_poll; } ROWS[] = {
        { ENTRY("%s", EARLY, LATE, ",\"next-poll\":\"Thu, 18 Dec 2025 06:00:00 GMT\""), 1, 1 },
        { ENTRY("%s", EARLY, LATE, ",\"next-poll\":\"Thu, 18 Dec 2055 06:00:00 GMT\""), 1, 0 },
        { ENTRY("%s", EARLY, LATE, ",\"next-poll\":7,\"asked\":[],\"errors\":\"many\""), 1, 0 },
        { ENTRY("%s", EARLY, LATE, ",\"explanation-url\":\"javascript:alert(1)\""), 1, 0 },
        { ENTRY("%s", LATE, EARLY, ""), 0, 0 }, { ENTRY("%s", EARLY, EARLY, ""), 0, 0 },
        { ENTRY("%s", EARLY, "Sun, 21 Dec 2055 00:00:00 GMT", ""), 0, 0 },
        { ENTRY("%s", "x", "y", ""), 0, 0 }, { ENTRY("another", EARLY, LATE, ""), 0, 0 },
        { "{}", 0, 0 }, { "[]", 0, 0 }, { "{\"certs\":{}}", 0, 0 },
        { "{\"certs\":[1,[],{}]}", 0, 0 },
        { "{\"followed\":\"Thu, 18 Dec 2055 06:00:00 GMT\",\"told\":7}", 0, 0 },
    };
    md_advice_t *advice;
    const char *text;
    size_t i;

    (void)state;
    make_server(1, START - DAYS(1), DAYS(90));
    start();
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        text = strstr(ROWS[i].text, "%s");
        put_document(text ? apr_pstrcat(p, apr_pstrmemdup(p, ROWS[i].text, (apr_size_t)(text
                     - ROWS[i].text)), cert_of(0)->ari_id, text + 2, NULL) : ROWS[i].text);
        advice = advice_of(0);
        assert_int_equal(advice->hints->nelts, 1);
        assert_true(advice->followed_at == 0 && advice->told_at == 0);
        assert_int_equal(hint_of(0)->renew_at != 0, ROWS[i].has_moment);
        assert_int_equal(hint_of(0)->ari.poll_at != 0, ROWS[i].has_poll);
        assert_null(hint_of(0)->ari.explanation_url);
        assert_int_equal(hint_of(0)->errors, 0);
    }
}

/* ---- status and log ---- */

static int explain(fake_answer_t *answer, const char *kind, fake_order_t *order, apr_pool_t *pool)
{
    (void)order;
    if (strcmp(kind, "ari"))
        return 0;
    answer->status = 200;
    answer->headers = "Retry-After: 3600";
    answer->body = apr_psprintf(pool, "{\"suggestedWindow\":{\"start\":\"2026-01-01T00:00:00Z\","
                                "\"end\":\"2026-01-02T00:00:00Z\"},\"explanationURL\":"
                                "\"https://ca.test/why/%d\"}", fake_ca.logged);
    return 1;
}

static md_json_t *status_of(int i)
{
    return md_status_to_json(md_status_whole(reg, domain_at(i), md_clock_now(), p), p);
}

/* Of the log's oldest entry of a type; "" if there is none. */
static const char *detail_of(md_json_t *entries, const char *type)
{
    const char *detail = "";
    const md_json_t *entry;
    size_t i;

    for (i = 0; i < md_json_size(entries); ++i) {
        entry = md_json_at(entries, i, p);
        if (md_text_same(md_json_get_str(entry, "type"), type))
            detail = md_json_get_str(entry, "detail");
    }
    return detail ? detail : "";
}

/* Each answer has another page, and one a day is worth a notice. */
static void an_explanation_is_told_and_shown(void **state)
{
    const char *at;
    md_json_t *json;

    (void)state;
    fake_ca.ari_from = fake_ca.ari_to = 1;
    fake_ca.refuse = explain;
    make_server(1, START - DAYS(1), DAYS(90));
    start();
    assert_string_equal(md_json_get_str(status_of(0), "renew-reason"), "window");
    assert_false(md_json_has(status_of(0), "cert.P-256.ari"));
    run_until(START + DAYS(3) - HOURS(1));
    assert_int_equal(fake_ca_count("ari", NULL), 71);
    assert_int_equal(notices, 3);
    json = status_of(0);
    at = md_json_get_str(json, "renew-at");
    assert_string_equal(at, md_time_http(hint_of(0)->renew_at, p));
    assert_string_equal(md_json_get_str(json, "renew-reason"), "ari");
    assert_non_null(strstr(md_json_get_str(json, "renew-explanation"), CA "/why/"));
    json = md_json_get(md_json_get(json, "cert", p), "P-256.ari", p);
    assert_string_equal(md_json_get_str(json, "renew-at"), at);
    assert_string_equal(md_json_get_str(json, "window.from"), "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_string_equal(md_json_get_str(json, "window.until"), "Fri, 02 Jan 2026 00:00:00 GMT");
    assert_true(md_json_has(json, "next-poll"));
    run_until(hint_of(0)->renew_at + MINUTES(1));
    json = md_json_get(md_job_to_json(job_of(0), 1, p), "log.entries", p);
    assert_non_null(strstr(detail_of(json, "starting"), CA "/why/"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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

static void a_stop_keeps_nobody_busy(void **state)
{
    (void)state;
    fake_ca.ari_from = 60;
    fake_ca.ari_to = 70;
    fake_ca.ari_retry_after = 3600;
    make_server(3, START - DAYS(10), DAYS(90));
    start();
    run_until(START + MINUTES(1));
    assert_int_equal(fake_ca_count("ari", NULL), 3);
    fake_ca.refuse = cut_off;
    run_until(START + HOURS(1) + MINUTES(1));
    assert_int_equal(cut_short, 3);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(idle_domains_ask_once_per_retry_after),
        TEST(renewals_are_never_late_and_never_twice),
        TEST(a_thousand_domains_are_renewed_at_a_thousand_moments),
        TEST(a_window_of_the_past_renews_at_once_and_once),
        TEST(the_ca_is_asked_again_before_a_renewal),
        TEST(a_renewal_that_fails_asks_no_more_than_others),
        TEST(a_restart_forgets_and_redraws_nothing),
        TEST(nobody_is_asked_who_is_not_to_be),
        TEST(nonsense_changes_nothing),
        TEST(an_answer_that_is_none_takes_nothing_away),
        TEST(a_full_disk_makes_nobody_ask_more_often),
        TEST(a_stop_keeps_nobody_busy),
        TEST(a_date_that_jumps_is_harmless),
        TEST(an_order_says_what_it_replaces),
        TEST(no_other_ca_is_told),
        TEST(a_refused_replacement_is_no_failure),
        TEST(a_limit_is_no_refused_replacement),
        TEST(a_document_is_believed_within_bounds),
        TEST(an_explanation_is_told_and_shown),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    apr_initialize();
    md_log_set(take_note, is_told);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
