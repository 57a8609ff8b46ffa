/* SPDX-License-Identifier: Apache-2.0 */
/* A week in the life of servers, each with one kind of trouble and certificates of one lifetime:
 * the real engine, renewals and activation, by a clock that does not wait. With an argument: of
 * those kinds alone whose name matches it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_limits.h"
#include "../../md_live.h"
#include "../../md_log.h"
#include "../../md_rename.h"
#include "../../md_stage.h"
#include "fake_ca.h"
#include "fake_clock.h"
#include "fake_http.h"
#include "many_domains.h"
#include "simulated.h"

#define MINUTES(n) apr_time_from_sec((n) * 60LL)
#define HOURS(n)   MINUTES((n) * 60LL)
#define DAYS(n)    HOURS((n) * 24LL)
#define WEEK       DAYS(7)
#define START      DAYS(365 * 56LL) /* since 1970 */
#define JUMP       DAYS(2 * 365LL)
#define MOST       6                /* domains of a server */

#define QUICK       apr_time_from_msec(50) /* an answer takes as long, */
#define SLOW        apr_time_from_sec(1)   /* with LAG */
#define NOT_YET     apr_time_from_sec(4)   /* with LAG */
#define BLUR        MINUTES(1)             /* of the end of an excuse */
#define RETRY_AFTER 7200                   /* seconds, where the CA tells */

/* ---- what is to be simulated, and the limits of it ---- */

typedef enum {
    NO_TROUBLE,
    /* at newOrder */
    REJECTED_IDENTIFIER,
    NAME_LIMIT_TOLD,    /* rateLimited, with Retry-After */
    NAME_LIMIT,
    ACCOUNT_LIMIT_TOLD,
    ACCOUNT_LIMIT,
    UNAUTHORIZED,
    /* later */
    CHALLENGE_FAILS,    /* and with it authorization and order */
    CHALLENGE_ALONE,    /* both stay pending */
    ORDER_INVALID,      /* without a reason */
    BAD_CSR,
    CAA,                /* at finalize */
    PROCESSING,         /* for ever */
    WRONG_CHAIN,
    /* of the whole CA */
    DOWN,
    BUSY_TOLD,          /* 503 with Retry-After, but for the directory and nonces */
    BUSY,
    HTML,               /* in place of every answer */
    LAG                 /* it is slow, and for a while does not know what it has just made */
} trouble_t;

/* Something of that kind in a span of time. */
typedef struct span_t {
    trouble_t trouble;
    apr_time_t from, to;
} span_t;

typedef enum { OF_NAMES, OF_ALL, GROUP_MAX } group_t;

/* Domains with certificates of a lifetime, and how often somebody reloads their server: always, or
 * when something has been renewed. With trouble of names: a third of the domains have it from the
 * beginning for a while, a third for ever; these cannot have a certificate. Every other domain has
 * a certificate to begin with. So six of them are all there are, and where life is short, there is
 * no time for more than three: the first ones or the last ones. */
static const struct life_t {
    const char *name;
    apr_interval_time_t lifetime, reload_every;
    int is_regular;
    apr_interval_time_t trouble;          /* of names */
    int domains[GROUP_MAX];               /* of a server */
    int first;                            /* of the six */
    apr_interval_time_t after[GROUP_MAX]; /* the trouble, it is enough; or when the week is over */
} LIVES[] = {
    { "90 d", DAYS(90), DAYS(1), 1, DAYS(3), { 6, 3 }, 0, { WEEK, WEEK } },
    { "45 d", DAYS(45), HOURS(6), 0, DAYS(3), { 3, 3 }, 3, { WEEK, WEEK } },
    { "6 d", DAYS(6), HOURS(1), 0, DAYS(3), { 3, 3 }, 0, { WEEK, WEEK } },
    { "1 h", HOURS(1), MINUTES(5), 0, HOURS(3), { 3, 1 }, 0, { HOURS(4), HOURS(6) } },
};
#define LIFE_COUNT (sizeof(LIVES) / sizeof(LIVES[0]))

typedef enum { AT_CA, FULL_DISK, LOST_ACCOUNTS, WRONG_DATE, DATE_BACK } what_t;

/* When a domain need not have a certificate: never; while there is trouble, and if it has none by
 * then, until the next attempt; or also if it has one, as the next attempt may come too late. */
typedef enum { NEVER, WHILE, LASTING } excuse_t;

/* A kind of trouble, from then to then (of names: see above). What is counted is at most one for
 * each renewal, and for domains with trouble so many more and one for each reload, which tries
 * again what failed. In a week, back-off makes 12 attempts on its way from half a minute to a day
 * and 14 of half a day at least; in a day, 12 and 4, or 24 where it grows to an hour. */
typedef struct kind_t {
    const char *name;
    group_t group;
    what_t what;
    trouble_t trouble;
    excuse_t excuse;
    apr_interval_time_t from, to;
    int orders, refused, certs;     /* of a domain */
    int accounts;                   /* of a server, in all */
} kind_t;

#define NAMES(name, trouble, excuse, orders, refused, certs) \
    { name, OF_NAMES, AT_CA, trouble, excuse, 0, 0, orders, refused, certs, 1 }
#define ALL(name, what, trouble, excuse, from, to, orders, refused, certs, accounts) \
    { name, OF_ALL, what, trouble, excuse, HOURS(from), HOURS(to), orders, refused, certs, \
      accounts }

static const kind_t KINDS[] = {
    /*                                               orders, refused, certificates */
    NAMES("rejectedIdentifier", REJECTED_IDENTIFIER, LASTING,  0, 14,  0),
    NAMES("limit of a name, told", NAME_LIMIT_TOLD,  WHILE,    0, 26,  0),
    NAMES("limit of a name", NAME_LIMIT,             WHILE,    0, 26,  0),
    NAMES("unauthorized", UNAUTHORIZED,              WHILE,    0, 26,  0),
    NAMES("challenge fails", CHALLENGE_FAILS,        WHILE,   26,  0,  0),
    NAMES("challenge alone fails", CHALLENGE_ALONE,  WHILE,   26,  0,  0),
    NAMES("order invalid", ORDER_INVALID,            WHILE,   26,  0,  0),
    NAMES("badCSR", BAD_CSR,                         LASTING,  0,  0,  0),
    NAMES("caa", CAA,                                WHILE,   26,  0,  0),
    NAMES("processing for ever", PROCESSING,         WHILE,    0,  0,  0),
    NAMES("chain refused", WRONG_CHAIN,              LASTING, 14,  0, 14),

    /*                                   hours: from, to, orders, refused, certificates, accounts */
    ALL("none", AT_CA, NO_TROUBLE,               NEVER, 0,  24,  0,  0,  0, 1),
    ALL("limit of all, told", AT_CA, ACCOUNT_LIMIT_TOLD, WHILE, 6, 30, 0, 16, 0, 1),
    ALL("limit of all", AT_CA, ACCOUNT_LIMIT,    WHILE, 6,  30,  0, 24,  0, 1),
    ALL("CA down for a night", AT_CA, DOWN,      WHILE, 6,  42,  0,  0,  0, 1),
    ALL("CA down for two days", AT_CA, DOWN,     WHILE, 6,  54,  0,  0,  0, 1),
    ALL("503, told", AT_CA, BUSY_TOLD,           WHILE, 6,  54,  0,  0,  0, 1),
    ALL("503", AT_CA, BUSY,                      WHILE, 6,  54,  0,  0,  0, 1),
    ALL("HTML", AT_CA, HTML,                     WHILE, 6,  54,  0,  0,  0, 1),
    ALL("lag", AT_CA, LAG,                       NEVER, 0,  24,  0,  0,  0, 1),
    ALL("disk full", FULL_DISK, NO_TROUBLE,      WHILE, 6,  30,  0,  0,  0, 1),
    ALL("accounts deactivated", LOST_ACCOUNTS, NO_TROUBLE, NEVER, 12, 12, 0, 0, 0, 2),
    ALL("date", WRONG_DATE, NO_TROUBLE,          WHILE, 6,  12, 12,  0, 12, 1),
    ALL("date, 503, told", WRONG_DATE, BUSY_TOLD, WHILE, 6, 12,  0,  0,  0, 1),
    ALL("date, CA down", WRONG_DATE, DOWN,       WHILE, 6,  12,  0,  0,  0, 1),
    ALL("date, limit of all", WRONG_DATE, ACCOUNT_LIMIT, WHILE, 6, 12, 0, 16, 0, 1),
    ALL("date back", DATE_BACK, NO_TROUBLE,      WHILE, 6,  12,  0,  0,  0, 1),
};
#define KIND_COUNT (sizeof(KINDS) / sizeof(KINDS[0]))

/* ---- in place of the log ---- */

static int has_news;

static int is_news(md_log_level_t level)
{
    return level <= MD_LOG_NOTICE;
}

static void take_note(const char *file, int line, md_log_level_t level, const char *msg)
{
    (void)file;
    (void)line;
    (void)level;
    has_news = has_news || strstr(msg, "AH10059");
}

/* ---- a server ---- */

static struct {
    const kind_t *kind;
    const struct life_t *life;
    apr_time_t from, to;     /* of its trouble */
    int count;               /* of its domains */
    apr_pool_t *p;
    span_t ca;               /* trouble of it */
    struct {
        const char *name;
        span_t has;
        int refused;                 /* newOrders */
        apr_time_t live_until;       /* what is served */
        apr_time_t needed_from;      /* a certificate, but not from then to then */
        apr_time_t excused_from, excused_to;
        apr_interval_time_t missing; /* without one that it needed */
        apr_interval_time_t late;    /* after the trouble */
    } domains[MOST];
    int reloads;
    apr_time_t seen_until;
} server;

/* ---- the trouble of its CA ---- */

static int is_now(const span_t *span, trouble_t trouble)
{
    apr_time_t now = fake_clock_truth();

    return span->trouble == trouble && now >= span->from && now < span->to;
}

static int index_of(const char *name)
{
    int i;

    for (i = 0; i < server.count; ++i)
        if (!strcmp(server.domains[i].name, name))
            return i;
    fail_msg("an order for %s, which nobody has", name);
    return 0;
}

static int has(const char *name, trouble_t trouble)
{
    return is_now(&server.ca, trouble) || is_now(&server.domains[index_of(name)].has, trouble);
}

static int refuse(fake_answer_t *answer, int status, const char *type, const char *body)
{
    answer->status = status;
    answer->type = type;
    answer->body = body;
    return 1;
}

#define REFUSE(answer, status, type, detail) \
    refuse(answer, status, "application/problem+json", FAKE_PROBLEM(type, detail))
#define TELL "Retry-After: " APR_STRINGIFY(RETRY_AFTER)

/* No part of the CA sees the request; what answers in its place has no nonces. */
static int be_out_of_reach(fake_answer_t *answer, const char *kind)
{
    static int turn;

    if (is_now(&server.ca, BUSY_TOLD))
        answer->headers = TELL;
    if (is_now(&server.ca, DOWN)) {
        answer->status = 0;
        answer->rv = APR_ECONNREFUSED;
        return 1;
    }
    if (is_now(&server.ca, BUSY_TOLD) && strcmp(kind, "dir") && strcmp(kind, "nonce")) {
        answer->headers = TELL "\nReplay-Nonce: ";
        return refuse(answer, 503, "text/html", "<html>busy</html>");
    }
    if (!is_now(&server.ca, BUSY) && !is_now(&server.ca, HTML))
        return 0;
    answer->headers = "Replay-Nonce: ";
    if (is_now(&server.ca, BUSY))
        return refuse(answer, 503, "text/html", "<html>busy</html>");
    return refuse(answer, ++turn % 2 ? 502 : 200, "text/html", "<html>sorry</html>");
}

static int refuse_order(fake_answer_t *answer, const char *name, apr_pool_t *pool)
{
    if (has(name, NAME_LIMIT_TOLD) || has(name, ACCOUNT_LIMIT_TOLD))
        answer->headers = TELL;
    if (has(name, REJECTED_IDENTIFIER))
        return REFUSE(answer, 400, "rejectedIdentifier", "the policy forbids it");
    if (has(name, NAME_LIMIT_TOLD) || has(name, NAME_LIMIT))
        return refuse(answer, 429, "application/problem+json",
                      apr_psprintf(pool, FAKE_PROBLEM("rateLimited",
                                   "too many certificates issued for %s"), name));
    if (has(name, ACCOUNT_LIMIT_TOLD) || has(name, ACCOUNT_LIMIT))
        return REFUSE(answer, 429, "rateLimited", "too many new orders by this account");
    if (has(name, UNAUTHORIZED))
        return REFUSE(answer, 403, "unauthorized", "the account may not ask for this name");
    return 0;
}

static void spoil_challenge(fake_order_t *order)
{
    static const char WRONG[] = FAKE_PROBLEM("unauthorized", "wrong answer");

    if (has(order->name, CHALLENGE_FAILS))
        order->problem = WRONG;
    if (has(order->name, CHALLENGE_ALONE))
        order->failure = WRONG;
    if (has(order->name, ORDER_INVALID))
        order->is_invalid = 1;
}

static int refuse_csr(fake_answer_t *answer, fake_order_t *order)
{
    if (has(order->name, BAD_CSR))
        return REFUSE(answer, 400, "badCSR", "the key is on a list");
    if (!has(order->name, CAA))
        return 0;
    order->is_invalid = 1;
    return REFUSE(answer, 403, "caa", "a CAA record forbids issuance");
}

static int give_wrong_chain(fake_answer_t *answer, const fake_order_t *order, apr_pool_t *pool)
{
    if (!has(order->name, WRONG_CHAIN))
        return 0;
    return refuse(answer, 200, "application/pem-certificate-chain",
                  fake_ca_issue("other.example.org", X509_REQ_get0_pubkey(order->csr),
                                order->issued_at, order->issued_at + fake_ca.lifetime, pool));
}

static int make_trouble(fake_answer_t *answer, const char *kind, fake_order_t *order,
                        apr_pool_t *pool)
{
    fake_clock_advance(is_now(&server.ca, LAG) ? SLOW : QUICK);
    fake_ca.lag = is_now(&server.ca, LAG) ? NOT_YET : 0;
    if (be_out_of_reach(answer, kind))
        return 1;
    if (!strcmp(kind, "new-order") && refuse_order(answer, order->name, pool)) {
        ++server.domains[index_of(order->name)].refused;
        return 1;
    }
    if (!strcmp(kind, "chall"))
        spoil_challenge(order);
    if (!strcmp(kind, "finalize"))
        return refuse_csr(answer, order);
    if (!strcmp(kind, "order") && order->csr && has(order->name, PROCESSING))
        order->issued_at = fake_clock_truth() + fake_ca.processing;
    return !strcmp(kind, "cert") && give_wrong_chain(answer, order, pool);
}

/* ---- its generations ---- */

/* What the parent does. */
static void load(void)
{
    const md_cert_info_t *cert;
    const md_domain_t *other;
    const char *name;
    int i;

    configure(server.count);
    assert_null(md_reg_index(reg, &other, &name, p));
    md_rename_follow(reg, p);
    md_stage_activate_all(reg, p);
    md_reg_load(reg, p);
    for (i = 0; i < server.count; ++i) {
        md_reg_assess(reg, domain_at(i), p);
        cert = APR_ARRAY_IDX(md_live_of(domain_at(i))->certs, 0, const md_cert_info_t *);
        server.domains[i].live_until = cert ? cert->validity.end : 0;
    }
    md_stage_clean(reg, p);
}

static void stop(void)
{
    md_http_stop(http);
    md_engine_stop(engine);
    apr_pool_destroy(p);
    p = server.p;
}

static void start(void)
{
    apr_pool_create(&p, server.p);
    has_news = 0;
    load();
    assert_int_equal(make_engine(), 0);
}

/* Which of the six? */
static int nth(int i)
{
    return server.life->first + i;
}

/* A certificate that is to be renewed soon. */
static void save_live(int i)
{
    static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };
    apr_time_t end = START + server.life->lifetime / 3 + HOURS(6) + nth(i) / 2 * HOURS(4);
    const char *name = server.domains[i].name, *pem;
    apr_array_header_t *chain;
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &P256, &err, p), APR_SUCCESS);
    pem = fake_ca_issue(name, md_key_evp(key), end - server.life->lifetime, end, p);
    assert_int_equal(md_chain_from_pem(&chain, pem, strlen(pem), &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_key(store, MD_STORE_DOMAINS, name, "privkey.p-256.pem",
                                       key, &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_chain(store, MD_STORE_DOMAINS, name, "pubcert.p-256.pem",
                                         chain, &err, p), APR_SUCCESS);
}

static void save_failures(int i, int errors)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, server.domains[i].name, p);

    job->errors = errors;
    assert_int_equal(md_job_save(job, store, NULL, p), APR_SUCCESS);
}

/* Does it have trouble for ever? */
static int is_hopeless(int i)
{
    return server.kind->group == OF_NAMES && nth(i) % 3 == 2;
}

static void make_domain(int i)
{
    const kind_t *kind = server.kind;
    span_t has = { kind->trouble, server.from, server.to };

    server.domains[i].name = name_of(i);
    server.domains[i].needed_from = START;
    if (nth(i) % 2 && server.life->lifetime > DAYS(1))
        save_live(i);
    else
        server.domains[i].needed_from += server.life->reload_every + MINUTES(10);
    if (kind->group == OF_NAMES && nth(i) % 3 == 0)
        return;
    if (is_hopeless(i))
        has.to = START + 2 * WEEK;
    if (is_hopeless(i) && nth(i) > 2)
        save_failures(i, 1000);
    if (kind->excuse != NEVER) {
        server.domains[i].excused_from = has.from;
        server.domains[i].excused_to = has.to;
    }
    if (kind->group == OF_NAMES)
        server.domains[i].has = has;
    else
        server.ca = has;
}

static void setup_server(const kind_t *kind, const struct life_t *life)
{
    int i;

    memset(&server, 0, sizeof(server));
    server.kind = kind;
    server.life = life;
    server.count = life->domains[kind->group];
    server.from = START + kind->from;
    server.to = START + (kind->to ? kind->to : life->trouble);
    server.seen_until = START;
    apr_pool_create(&server.p, NULL);
    p = server.p;
    decoded = apr_hash_make(p);
    md_err_init(&err, p);
    dice = (apr_uint64_t)(kind - KINDS);
    disk_is_full = 0;
    fake_clock_start(START);
    fake_ca_start(START);
    fake_ca.refuse = make_trouble;
    fake_ca.lifetime = life->lifetime;
    fake_ca.ari_from = 65; /* percent */
    fake_ca.ari_to = 75;
    fake_ca.ari_retry_after = 24 * 3600; /* test_advice.c has what polls are worth */
    fake_ca.processing = QUICK / 2;
    fake_http_reset(p);
    fake_http_serve(fake_ca_serve);
    assert_int_equal(memory_dir_make(), 0);
    assert_int_equal(make_domains(server.count), 0);
    fake_ca.store = store;
    for (i = 0; i < server.count; ++i)
        make_domain(i);
    start();
}

static void teardown_server(void)
{
    stop();
    apr_pool_destroy(server.p);
    server.p = NULL;
    assert_int_equal(temp_dir_remove(), 0);
}

/* ---- its week ---- */

static apr_interval_time_t overlap(apr_time_t a_from, apr_time_t a_to, apr_time_t b_from,
                                   apr_time_t b_to)
{
    apr_time_t from = a_from > b_from ? a_from : b_from, to = a_to < b_to ? a_to : b_to;

    return to > from ? to - from : 0;
}

/* Who had no certificate since the last look? */
static void see(void)
{
    apr_time_t now = fake_clock_truth(), from;
    int i;

    for (i = 0; i < server.count; ++i) {
        from = server.domains[i].live_until;
        if (from < server.seen_until)
            from = server.seen_until;
        if (from < server.domains[i].needed_from)
            from = server.domains[i].needed_from;
        if (from >= now)
            continue;
        server.domains[i].missing += now - from - overlap(from, now, server.domains[i].excused_from,
                                                          server.domains[i].excused_to);
        if (now > server.to)
            server.domains[i].late = now - server.to;
    }
    server.seen_until = now;
}

/* By its record, unless that was written with another date. */
static int is_tried_before(int i, apr_time_t end)
{
    return job_of(i)->next_run < end || server.kind->what == WRONG_DATE || server.kind->what == DATE_BACK;
}

/* The trouble is over. For those without a certificate, or not for much longer, the next attempt
 * comes when the back-off is over, or the time that was told. */
static void end_excuses(void)
{
    const struct life_t *life = server.life;
    apr_interval_time_t late, left;
    int i;

    late = (life->lifetime < DAYS(1) ? life->lifetime : DAYS(1)) * 3 / 2 + life->reload_every
           + MINUTES(10) + apr_time_from_sec(RETRY_AFTER);
    for (i = 0; i < server.count; ++i) {
        if (is_hopeless(i) || !server.domains[i].excused_to)
            continue;
        left = server.domains[i].live_until - server.to;
        server.domains[i].excused_to = server.to;
        if (left < 4 * life->reload_every + HOURS(4) || server.kind->excuse == LASTING)
            server.domains[i].excused_to += late;
        else
            assert_true(is_tried_before(i, server.domains[i].live_until));
    }
}

static void deactivate_accounts(void)
{
    int i;

    for (i = 0; i < fake_ca.accounts; ++i)
        fake_ca.accts[i].is_deactivated = 1;
}

static void set_trouble(int is_on)
{
    switch (server.kind->what) {
    case FULL_DISK:
        disk_is_full = is_on;
        break;
    case LOST_ACCOUNTS:
        deactivate_accounts();
        break;
    case WRONG_DATE:
        fake_clock_set_off(is_on ? JUMP : 0);
        break;
    case DATE_BACK:
        fake_clock_set_off(is_on ? -JUMP : 0);
        break;
    default:
        break;
    }
}

static void reload(void)
{
    if (!has_news && !server.life->is_regular)
        return;
    stop();
    start();
    ++server.reloads;
}

static void live(void)
{
    apr_time_t reload_at = START, from = server.from, to = server.to;
    apr_time_t now = START, next, end = to + server.life->after[server.kind->group];

    if (end > START + WEEK)
        end = START + WEEK;
    while (now < end) {
        if (now >= reload_at) {
            reload();
            reload_at += server.life->reload_every;
        }
        next = reload_at;
        if (now < from && from < next)
            next = from;
        if (now < to && to < next)
            next = to;
        run_until(next);
        see();
        if (now < from && next >= from)
            set_trouble(1);
        if (now < to && next >= to) {
            set_trouble(0);
            end_excuses();
        }
        now = next;
    }
}

/* ---- the tests ---- */

/* All that a domain may have asked for, beyond what its trouble makes it ask for. */
static int renewals_due(void)
{
    return (int)((fake_clock_truth() - START) / (server.life->lifetime * 2 / 3)) + 2;
}

/* The orders of a domain that were granted, or those with a certificate. */
static int orders_of(int i, int is_issued)
{
    int k, count = 0;

    for (k = 0; k < fake_ca.count; ++k)
        count += !strcmp(fake_ca.orders[k].name, server.domains[i].name)
                 && (!is_issued || fake_ca.orders[k].csr);
    return count;
}

static void judge(int i)
{
    const kind_t *kind = server.kind;
    int is_sound = !server.domains[i].excused_to, extra = is_sound ? 0 : server.reloads;

    assert_true(orders_of(i, 0) <= renewals_due() + (is_sound ? 0 : kind->orders + extra));
    assert_true(server.domains[i].refused <= (is_sound ? 0 : kind->refused + extra));
    assert_true(orders_of(i, 1) <= renewals_due() + (is_sound ? 0 : kind->certs + extra));
    if (!is_hopeless(i))
        assert_true(server.domains[i].missing < BLUR);
}

static int most(int a, int b)
{
    return a > b ? a : b;
}

static void tell(void)
{
    int i, orders = 0, refused = 0, certs = 0, late = 0;

    for (i = 0; i < server.count; ++i) {
        orders = most(orders, orders_of(i, 0));
        refused = most(refused, server.domains[i].refused);
        certs = most(certs, orders_of(i, 1));
        if (!is_hopeless(i))
            late = most(late, (int)(server.domains[i].late / MINUTES(1)));
    }
    print_message("%-22s%5s: %3d orders, %3d refused, %3d certificates for a domain; %d accounts, "
                  "%4d requests, %3d reloads; %4d minutes late\n", server.kind->name,
                  server.life->name, orders, refused, certs, fake_ca.accounts,
                  fake_http_count(""), server.reloads, late);
}

static void a_week_with(void **state)
{
    const kind_t *kind = *state;
    size_t l;
    int i;

    for (l = 0; l < LIFE_COUNT; ++l) {
        setup_server(kind, &LIVES[l]);
        live();
        tell();
        for (i = 0; i < server.count; ++i)
            judge(i);
        assert_true(fake_ca.accounts <= kind->accounts);
        teardown_server();
    }
}

static int teardown(void **state)
{
    (void)state;
    if (server.p) /* in the middle */
        teardown_server();
    return 0;
}

/* Whatever is configured, and however often it failed. */
static void back_off_is_never_nothing_nor_without_end(void **state)
{
    static const apr_interval_time_t TIMES[] = {
        APR_INT64_MIN, -1, 0, 1, APR_USEC_PER_SEC / 2, APR_USEC_PER_SEC, MINUTES(1), DAYS(1),
        DAYS(1000), APR_INT64_MAX
    };
    static const int COUNTS[] = { 0, 1, 2, 10, 63, 64, 1000, MD_MAX_ERRORS, INT_MAX };
    const size_t times = sizeof(TIMES) / sizeof(TIMES[0]);
    apr_interval_time_t delay;
    size_t base, most_at, count;
    int roll;

    (void)state;
    for (base = 0; base < times; ++base)
        for (most_at = 0; most_at < times; ++most_at)
            for (count = 0; count < sizeof(COUNTS) / sizeof(COUNTS[0]); ++count)
                for (roll = 0; roll < 256; ++roll) {
                    delay = md_job_backoff(COUNTS[count], TIMES[base], TIMES[most_at],
                                           (unsigned char)roll);
                    assert_true(delay > 0 && delay < DAYS(3) / 2);
                }
    for (roll = 0; roll < 256; ++roll)
        assert_true(md_job_backoff(1000, apr_time_from_sec(30), DAYS(1), (unsigned char)roll)
                    >= DAYS(1) / 2);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[KIND_COUNT + 1] = {
        cmocka_unit_test(back_off_is_never_nothing_nor_without_end)
    };
    size_t i;

    for (i = 0; i < KIND_COUNT; ++i)
        tests[i + 1] = (struct CMUnitTest){ KINDS[i].name, a_week_with, NULL, teardown,
                                            (void *)(uintptr_t)&KINDS[i] };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    apr_initialize();
    md_log_set(take_note, is_news);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
