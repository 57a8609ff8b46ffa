/* SPDX-License-Identifier: Apache-2.0 */
/* Refreshing OCSP responses. */
#include "md_ocsp.h"

#include <stdlib.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "md_clock.h"
#include "md_job.h"
#include "md_log.h"
#include "md_ocsp_ask.h"
#include "md_ocsp_record.h"
#include "md_renew.h"
#include "md_staple_file.h"
#include "md_text.h"

#define RUN_LIMIT    apr_time_from_sec(600)
#define BROKEN_AFTER apr_time_from_sec(60)        /* without memory or descriptors */
#define LOOK_AGAIN   apr_time_from_sec(3600)      /* the date may have changed meanwhile */
#define LOAD_MOST    apr_time_from_sec(10)        /* for children to read the store */
#define SOON         apr_time_from_msec(100)
#define LEAST_WAIT   apr_time_from_sec(60)        /* between two responses, or near the end */
#define MOST_WAIT    apr_time_from_sec(3600)      /* after errors, */
#define LASTING_WAIT apr_time_from_sec(24 * 3600) /* if the responder does not know us at all */
#define MOST_PLANNED (LASTING_WAIT + LASTING_WAIT / 2) /* what a back-off may come to */
#define YOUNG        apr_time_from_sec(24 * 3600) /* a certificate that not all may know yet */
#define MOST_AGE     (365L * 24 * 3600)           /* seconds in a cache that are believed */

/* A host that is asked. One that does not answer is left alone for a while. */
typedef struct responder_t {
    const char *host;
    apr_time_t held_until; /* steady */
    int errors;            /* in a row */
} responder_t;

typedef struct refresh_t {
    md_task_t task;        /* first, as the engine hands it back */
    md_ocsp_t *all;
    const md_stapled_t *stapled;
    responder_t *responder;
    md_ocsp_record_t *record;
    int is_checked;        /* what another process had was looked at */
    int by_post;           /* as GET was of no use */
} refresh_t;

struct md_ocsp_t {
    const md_reg_t *reg;
    md_staples_t *staples;
    md_http_t *http;
    md_renewals_t *renewals;
    md_engine_t *engine;
    apr_time_t began_at;       /* steady */
    refresh_t *list;
    int count;

    md_ocsp_records_t *records;

    apr_thread_mutex_t *mutex; /* guards the responders */
};

/* An exchange with a responder. */
typedef struct ask_t {
    refresh_t *refresh;
    md_ocsp_reply_t reply;
    md_staple_t known;         /* before it; len 0: nothing */
    md_err_t err;
    apr_pool_t *p;
} ask_t;

static void lock(md_ocsp_t *all)
{
    apr_thread_mutex_lock(all->mutex);
}

static void unlock(md_ocsp_t *all)
{
    apr_thread_mutex_unlock(all->mutex);
}

static unsigned char roll(void)
{
    unsigned char dice;

    md_random_bytes(&dice, 1);
    return dice;
}

/* ---- the store, before the first connection ---- */

/* A response that was taken over from before a reload, and is not in the store any more, is
 * fetched again. */
static void load_one(const md_reg_t *reg, const md_stapled_t *stapled, md_staple_t *staple,
                     apr_pool_t *p)
{
    const md_staple_plan_t now = { 1, 0 };
    md_err_t err;
    apr_status_t rv;

    if (md_staples_get(staple, reg->staples, stapled)) {
        if (!md_staple_is_stored(reg->store, stapled, p))
            md_staples_set_plan(reg->staples, stapled, &now);
        return;
    }
    md_err_init(&err, p);
    rv = md_staple_load(staple, reg->store, stapled, &err, p);
    if (rv == APR_SUCCESS)
        md_staples_put(reg->staples, stapled, staple);
    else if (!APR_STATUS_IS_ENOENT(rv) || err.rv != APR_SUCCESS)
        md_log(MD_LOG_DEBUG, "md[%s]: the stored OCSP response for the certificate with serial %s "
               "is not used: %s", stapled->name, stapled->ocsp->serial, err.detail);
}

void md_ocsp_load(const md_reg_t *reg, apr_pool_t *p)
{
    const md_stapled_t *stapled;
    md_staple_t staple;
    apr_pool_t *iter;

    apr_pool_create(&iter, p);
    for (stapled = md_staples_claim(reg->staples); stapled;
         stapled = md_staples_claim(reg->staples)) {
        apr_pool_clear(iter);
        load_one(reg, stapled, &staple, iter);
        md_staples_set_ready(reg->staples, stapled);
    }
    apr_pool_destroy(iter);
}

/* ---- when ---- */

apr_time_t md_ocsp_refresh_at(const md_window_t *validity, const md_window_spec_t *window,
                              apr_time_t fresh_until, apr_time_t now, unsigned char dice)
{
    apr_time_t opens = md_window_opens(validity, window), at, last;
    apr_interval_time_t length = validity->end - (opens > now ? opens : now);

    if (length < 0)
        length = 0;
    last = validity->end - length / 4;
    at = opens + length / 4 * dice / 256;
    if (at < fresh_until)
        at = fresh_until < last ? fresh_until : last;
    if (at < now + LEAST_WAIT) /* the window is longer than the response lasts */
        at = now + (length / 4 > LEAST_WAIT ? length / 4 : LEAST_WAIT);
    return at;
}

/* From the text of a header. */
static long seconds_of(const char *text)
{
    long seconds = text ? strtol(text, NULL, 10) : 0;

    return seconds < 0 ? 0 : seconds < MOST_AGE ? seconds : MOST_AGE;
}

/* Until when caches have this response (RFC 9111 4.2.1, RFC 5019 6.2), 0: nobody says so. */
static apr_time_t fresh_until(const apr_table_t *headers, apr_time_t now)
{
    const char *control = apr_table_get(headers, "Cache-Control");
    const char *most;
    long seconds;

    most = control ? strstr(control, "max-age=") : NULL;
    if (!most)
        return md_time_parse_http(apr_table_get(headers, "Expires"));
    seconds = seconds_of(most + strlen("max-age=")) - seconds_of(apr_table_get(headers, "Age"));
    return seconds > 0 ? now + apr_time_from_sec(seconds) : 0;
}

static apr_time_t held_until(refresh_t *refresh)
{
    apr_time_t until;

    lock(refresh->all);
    until = refresh->responder->held_until;
    unlock(refresh->all);
    return until;
}

static md_task_next_t rest_until(refresh_t *refresh, apr_time_t at)
{
    apr_time_t again = md_clock_steady() + LOOK_AGAIN;

    refresh->task.due_at = at < again ? at : again;
    return MD_TASK_REST;
}

/* Has whoever reads the store done so? One may have been killed over it. */
static int is_ready(const refresh_t *refresh, apr_time_t steady)
{
    return md_staples_is_ready(refresh->all->staples, refresh->stapled)
           || steady - refresh->all->began_at > LOAD_MOST;
}

/* What other processes wrote is not believed. */
static void check_known(refresh_t *refresh, apr_pool_t *p)
{
    md_staples_t *staples = refresh->all->staples;
    md_ocsp_answer_t answer;
    md_staple_t staple;

    if (md_staples_get(&staple, staples, refresh->stapled)
        && md_ocsp_check(&answer, refresh->stapled->ocsp, NULL, MD_STAPLE_DER(&staple),
                         (apr_size_t)staple.len, md_clock_now(), NULL, p) != APR_SUCCESS)
        md_staples_put(staples, refresh->stapled, NULL);
    refresh->is_checked = 1;
}

/* It may end before it says, with the certificate of who has signed it. */
static md_window_t validity_of(const md_staple_t *staple)
{
    return (md_window_t){ staple->from,
                          staple->until < staple->ends_at ? staple->until : staple->ends_at };
}

static apr_time_t due_at(const refresh_t *refresh, apr_time_t now, apr_time_t steady)
{
    md_staples_t *staples = refresh->all->staples;
    md_staple_plan_t plan = md_staples_plan(staples, refresh->stapled);
    md_window_t validity;
    md_staple_t staple;
    apr_time_t at;

    if (plan.errors > 0 && plan.due_at <= steady + MOST_PLANNED)
        return plan.due_at;
    if (!md_staples_get(&staple, staples, refresh->stapled)
        || !md_staple_is_usable(&staple, now, steady))
        return steady;
    if (plan.due_at > 0)
        return plan.due_at;
    validity = validity_of(&staple);
    at = md_window_opens(&validity, &refresh->all->reg->conf->staple_renew_window);
    return at > now ? steady + (at - now) : steady;
}

static apr_interval_time_t time_left(const refresh_t *refresh, apr_time_t now)
{
    md_staple_t staple;

    return md_staples_get(&staple, refresh->all->staples, refresh->stapled)
           && staple.ends_at > now ? staple.ends_at - now : 0;
}

static md_task_next_t look(md_task_t *task)
{
    refresh_t *refresh = (refresh_t *)task;
    apr_time_t now = md_clock_now(), steady = md_clock_steady(), at, held;
    apr_pool_t *tmp;

    if (!is_ready(refresh, steady))
        return rest_until(refresh, steady + SOON);
    if (!refresh->is_checked) {
        tmp = md_engine_pool();
        if (!tmp)
            return rest_until(refresh, steady + BROKEN_AFTER);
        check_known(refresh, tmp);
        apr_pool_destroy(tmp);
    }
    at = due_at(refresh, now, steady);
    held = held_until(refresh);
    if (at < held)
        at = held;
    if (at > steady)
        return rest_until(refresh, at);
    task->lane = refresh->responder->host;
    task->urgency = time_left(refresh, now);
    return MD_TASK_AGAIN;
}

/* ---- what comes of it ---- */

static md_staple_plan_t next_plan(const refresh_t *refresh, apr_interval_time_t wait,
                                  apr_int64_t errors)
{
    md_staple_plan_t plan = { md_clock_steady() + wait, errors };

    md_staples_set_plan(refresh->all->staples, refresh->stapled, &plan);
    return plan;
}

static void note_success(const ask_t *ask, int is_new)
{
    const refresh_t *refresh = ask->refresh;

    lock(refresh->all);
    refresh->responder->errors = 0;
    refresh->responder->held_until = 0;
    unlock(refresh->all);
    md_ocsp_record_success(refresh->record, is_new, ask->reply.at, ask->p);
}

/* A responder that is out of reach is left alone, whoever wants to ask it. */
static void note_failure(const ask_t *ask, apr_int64_t errors, apr_interval_time_t wait)
{
    const refresh_t *refresh = ask->refresh;
    responder_t *responder = refresh->responder;
    apr_time_t steady = md_clock_steady();

    lock(refresh->all);
    if (ask->err.scope == MD_SCOPE_CA && responder->held_until <= steady) {
        ++responder->errors;
        responder->held_until = steady + md_job_backoff(responder->errors,
                                                        refresh->all->reg->conf->retry_delay,
                                                        MOST_WAIT, roll());
    }
    unlock(refresh->all);
    md_staples_count_failure(refresh->all->staples, refresh->stapled);
    md_ocsp_record_failure(refresh->record, &ask->err,
                           errors > MD_MAX_ERRORS ? MD_MAX_ERRORS : (int)errors,
                           ask->reply.at + wait, ask->reply.at, ask->p);
}

/* ---- what an exchange came to ---- */

static void tell_revoked(const ask_t *ask)
{
    const md_stapled_t *stapled = ask->refresh->stapled;
    int is_renewed = stapled->domain && md_renew_is_wanted(stapled->domain);
    const char *reason = ask->reply.answer.reason ? ask->reply.answer.reason : "no reason given";

    if (ask->known.len > 0 && ask->known.status == MD_OCSP_REVOKED)
        return;
    md_log(MD_LOG_WARNING, "md[%s]: the CA revoked the certificate with serial %s on %s (%s)%s",
           stapled->name, stapled->ocsp->serial, md_time_http(ask->reply.answer.revoked_at, ask->p),
           reason, is_renewed ? "; it is renewed at once" : "");
    if (is_renewed && ask->refresh->all->renewals)
        md_renewals_wake(ask->refresh->all->renewals, stapled->domain->name);
}

/* An old response out of a cache replaces nothing. */
static int is_news(const ask_t *ask, apr_time_t steady)
{
    if (!ask->known.len || !md_staple_is_usable(&ask->known, ask->reply.at, steady))
        return 1;
    if (ask->reply.answer.this_update != ask->known.from)
        return ask->reply.answer.this_update > ask->known.from;
    return ask->reply.answer.status == MD_OCSP_REVOKED && ask->known.status != MD_OCSP_REVOKED;
}

static void use(ask_t *ask, md_staple_t *staple)
{
    const refresh_t *refresh = ask->refresh;
    md_ocsp_t *all = refresh->all;

    md_staple_fill(staple, &ask->reply.answer, (const unsigned char *)ask->reply.response->body,
                   ask->reply.response->len, ask->reply.at, md_clock_steady());
    md_staples_put(all->staples, refresh->stapled, staple);
    if (md_staple_save(staple, all->reg->store, refresh->stapled, &ask->err, ask->p)
        != APR_SUCCESS)
        md_log(MD_LOG_ERR, "md[%s]: the OCSP response is stapled, but cannot be stored: %s",
               refresh->stapled->name, ask->err.detail);
    md_log(MD_LOG_DEBUG, "md[%s]: new OCSP response for the certificate with serial %s: %s until "
           "%s", refresh->stapled->name, refresh->stapled->ocsp->serial, md_staple_status(staple),
           md_time_http(staple->until, ask->p));
    if (ask->reply.answer.status == MD_OCSP_REVOKED)
        tell_revoked(ask);
}

static md_task_next_t succeed(ask_t *ask)
{
    refresh_t *refresh = ask->refresh;
    md_staple_t *staple = &ask->known, fresh;
    md_window_t validity;
    int is_new = is_news(ask, md_clock_steady());
    apr_time_t now = ask->reply.at, at;

    if (is_new || !md_staple_is_stored(refresh->all->reg->store, refresh->stapled, ask->p)) {
        use(ask, &fresh);
        staple = &fresh;
    }
    validity = validity_of(staple);
    at = md_ocsp_refresh_at(&validity, &refresh->all->reg->conf->staple_renew_window,
                            fresh_until(ask->reply.response->headers, now), now, roll());
    rest_until(refresh, next_plan(refresh, at - now, 0).due_at);
    note_success(ask, is_new);
    return MD_TASK_REST;
}

/* Right after it was issued, not all responders of a CA may know a certificate. */
static int is_delay(const ask_t *ask)
{
    return APR_STATUS_IS_EAGAIN(ask->err.rv)
           || (APR_STATUS_IS_ENOENT(ask->err.rv)
               && ask->reply.at - ask->refresh->stapled->ocsp->issued_at < YOUNG);
}

static apr_interval_time_t wait_after(const ask_t *ask, apr_int64_t errors)
{
    apr_interval_time_t most = APR_STATUS_IS_ENOENT(ask->err.rv) && !is_delay(ask) ? LASTING_WAIT
                                                                                  : MOST_WAIT;
    apr_interval_time_t left = ask->known.len > 0 ? ask->known.ends_at - ask->reply.at : 0, wait;

    wait = md_job_backoff(errors < 100 ? (int)errors : 100,
                          ask->refresh->all->reg->conf->retry_delay, most, roll());
    if (left > 0 && wait > left / 2)
        wait = left / 2 > LEAST_WAIT ? left / 2 : LEAST_WAIT;
    if (ask->err.retry_after - ask->reply.at > wait)
        wait = ask->err.retry_after - ask->reply.at;
    return wait > 0 ? wait : BROKEN_AFTER;
}

static void tell_failure(const ask_t *ask, apr_int64_t errors, apr_interval_time_t wait)
{
    const md_stapled_t *stapled = ask->refresh->stapled;
    md_log_level_t level = is_delay(ask) ? MD_LOG_DEBUG
                           : errors == 1 ? MD_LOG_WARNING : MD_LOG_INFO;

    md_log(level, "md[%s]: no new OCSP response for the certificate with serial %s from %s: %s. "
           "%s, trying again in %s", stapled->name, stapled->ocsp->serial,
           stapled->ocsp->responder_url, ask->err.detail,
           ask->known.len > 0 ? "The last response stays in use" : "There is no response to staple",
           md_duration_print(wait, ask->p));
}

static md_task_next_t fail(ask_t *ask)
{
    refresh_t *refresh = ask->refresh;
    apr_int64_t errors = md_staples_plan(refresh->all->staples, refresh->stapled).errors + 1;
    apr_interval_time_t wait;

    if (ask->reply.response && !refresh->by_post && !is_delay(ask)
        && !APR_STATUS_IS_ENOENT(ask->err.rv)) {
        refresh->by_post = 1; /* what is in between may not know GET, or have old responses */
        return MD_TASK_AGAIN;
    }
    refresh->by_post = 0;
    if (APR_STATUS_IS_EINTR(ask->err.rv)) /* stopped */
        return rest_until(refresh, md_clock_steady() + BROKEN_AFTER);
    wait = wait_after(ask, errors);
    tell_failure(ask, errors, wait);
    if (!is_delay(ask))
        note_failure(ask, errors, wait);
    return rest_until(refresh, next_plan(refresh, wait, errors).due_at);
}

static md_task_next_t exchange(ask_t *ask)
{
    const refresh_t *refresh = ask->refresh;
    const md_ocsp_t *all = refresh->all;
    md_route_t route = md_config_route(refresh->stapled->domain, all->reg->conf, &all->reg->noted);
    apr_status_t rv;

    if (!md_staples_get(&ask->known, all->staples, refresh->stapled))
        ask->known.len = 0;
    rv = md_ocsp_ask(&ask->reply, refresh->stapled->ocsp, refresh->by_post, all->http, &route,
                     &ask->err, ask->p);
    return rv == APR_SUCCESS ? succeed(ask) : fail(ask);
}

static md_task_next_t step(md_task_t *task)
{
    ask_t ask = { .refresh = (refresh_t *)task };
    apr_time_t steady = md_clock_steady(), held = held_until(ask.refresh);
    md_task_next_t next;

    if (held > steady) /* another one found that out meanwhile */
        return rest_until(ask.refresh, held);
    ask.p = md_engine_pool();
    if (!ask.p)
        return rest_until(ask.refresh, steady + BROKEN_AFTER);
    md_err_init(&ask.err, ask.p);
    next = exchange(&ask);
    apr_pool_destroy(ask.p);
    return next;
}

/* Nothing is kept between steps. */
static void end(md_task_t *task, md_task_why_t why)
{
    (void)why;
    rest_until((refresh_t *)task, md_clock_steady() + BROKEN_AFTER);
}

static const md_task_kind_t REFRESH = { look, step, end, RUN_LIMIT };

/* ---- for the host ---- */

static responder_t *find_responder(apr_hash_t *responders, const char *url, apr_pool_t *p)
{
    const char *host = md_uri_host(url, p);
    responder_t *responder = apr_hash_get(responders, host, APR_HASH_KEY_STRING);

    if (!responder) {
        responder = apr_pcalloc(p, sizeof(*responder));
        responder->host = host;
        apr_hash_set(responders, host, APR_HASH_KEY_STRING, responder);
    }
    return responder;
}

static void make_list(md_ocsp_t *all, apr_pool_t *p)
{
    apr_hash_t *responders = apr_hash_make(p);
    refresh_t *refresh;
    int i;

    all->count = md_staples_count(all->staples);
    all->list = apr_pcalloc(p, sizeof(refresh_t) * (apr_size_t)(all->count + 1));
    for (i = 0; i < all->count; ++i) {
        refresh = &all->list[i];
        refresh->all = all;
        refresh->stapled = md_staples_at(all->staples, i);
        refresh->responder = find_responder(responders, refresh->stapled->ocsp->responder_url, p);
        refresh->record = md_ocsp_record_of(all->records, refresh->stapled->name);
        refresh->task.kind = &REFRESH;
        refresh->task.lane = refresh->responder->host;
    }
}

apr_status_t md_ocsp_create(md_ocsp_t **pocsp, const md_reg_t *reg, md_http_t *http,
                            md_renewals_t *renewals, md_err_t *err, apr_pool_t *p)
{
    md_ocsp_t *all = apr_pcalloc(p, sizeof(*all));
    apr_status_t rv;

    all->reg = reg;
    all->staples = reg->staples;
    all->http = http;
    all->renewals = renewals;
    all->began_at = md_clock_steady();
    rv = apr_thread_mutex_create(&all->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot create a mutex for stapling");
    rv = md_ocsp_records_make(&all->records, reg, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    make_list(all, p);
    *pocsp = all;
    return APR_SUCCESS;
}

void md_ocsp_add(md_ocsp_t *ocsp, md_engine_t *engine)
{
    int i;

    ocsp->engine = engine;
    md_ocsp_records_add(ocsp->records, engine);
    for (i = 0; i < ocsp->count; ++i)
        md_engine_add(engine, &ocsp->list[i].task);
}

void md_ocsp_refresh(md_ocsp_t *ocsp, apr_hash_t *names)
{
    const md_staple_plan_t now = { 1, 0 };
    refresh_t *refresh;
    int i;

    if (apr_hash_count(names) == 0)
        return;
    for (i = 0; i < ocsp->count; ++i) {
        refresh = &ocsp->list[i];
        if (!apr_hash_get(names, refresh->stapled->name, APR_HASH_KEY_STRING))
            continue;
        md_staples_set_plan(ocsp->staples, refresh->stapled, &now);
        md_engine_wake(ocsp->engine, &refresh->task);
    }
}

void md_ocsp_close(void *ocsp)
{
    md_ocsp_t *all = ocsp;

    md_ocsp_records_settle(all->records);
    md_http_idle(all->http);
}
