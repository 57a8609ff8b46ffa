/* SPDX-License-Identifier: Apache-2.0 */
/* What CAs suggest for the certificates of a domain: its document, and how it comes about. */
#include "md_advice.h"

#include <apr_strings.h>

#include "md_job.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define ARI_JSON    "ari.json"
#define TELL_EVERY  apr_time_from_sec(24 * 3600)
#define RESPITE     apr_time_from_sec(24 * 3600) /* or a third of a lifetime */
#define OFFER_EVERY MD_ARI_POLL_MOST /* whether a CA offers it by now */

/* ---- the document ---- */

/* A time of the past, else 0. */
static apr_time_t past_time(const md_json_t *json, const char *path, apr_time_t now)
{
    apr_time_t t = md_json_get_time(json, path);

    return t <= now ? t : 0;
}

static void read_hint(md_hint_t *hint, const md_json_t *json, apr_time_t now, apr_pool_t *p)
{
    const char *url = md_json_get_str(json, "explanation-url");
    md_window_t window = { md_json_get_time(json, "window.from"),
                           md_json_get_time(json, "window.until") };
    long errors = md_json_get_int(json, "errors", 0);

    if (!md_ari_window_problem(&window, &hint->cert->validity)) {
        hint->ari.window = window;
        hint->ari.explanation_url = md_ari_is_url(url, p) ? apr_pstrdup(p, url) : NULL;
    }
    hint->ari.poll_at = md_json_get_time(json, "next-poll");
    if (hint->ari.poll_at > now + MD_ARI_POLL_MOST)
        hint->ari.poll_at = 0;
    hint->asked_at = past_time(json, "asked", now);
    hint->errors = errors > 0 && errors < MD_MAX_ERRORS ? (int)errors : 0;
    hint->problem = md_text_clean(md_json_get_str(json, "problem"), MD_MAX_TEXT, p);
    hint->is_followed = md_json_get_bool(json, "followed");
}

/* The entry on a certificate, NULL if there is none. */
static md_json_t *find_entry(const md_json_t *list, const char *cert_id, apr_pool_t *p)
{
    md_json_t *entry;
    apr_size_t i;

    for (i = 0; md_json_is_array(list) && i < md_json_size(list); ++i) {
        entry = md_json_at(list, i, p);
        if (md_text_same(md_json_get_str(entry, "ari-cert-id"), cert_id))
            return entry;
    }
    return NULL;
}

/* A CA that always says "at once" is not to keep us renewing without end. */
static void set_moment(md_hint_t *hint, const md_advice_t *advice)
{
    const md_window_t *validity = &hint->cert->validity;
    apr_interval_time_t respite = (validity->end - validity->start) / 3;

    hint->renew_at = 0;
    if (!hint->ari.window.end)
        return;
    hint->renew_at = md_ari_pick(&hint->ari.window, md_cert_dice(hint->cert));
    if (respite > RESPITE)
        respite = RESPITE;
    if (advice->followed_at && !hint->is_followed
        && hint->renew_at < advice->followed_at + respite)
        hint->renew_at = advice->followed_at + respite;
}

static void add_hint(md_advice_t *advice, const md_cert_info_t *cert, const md_json_t *list,
                     apr_time_t now)
{
    md_hint_t *hint = &APR_ARRAY_PUSH(advice->hints, md_hint_t);
    const md_json_t *entry = find_entry(list, cert->ari_id, advice->p);

    *hint = (md_hint_t){ .cert = cert };
    if (entry)
        read_hint(hint, entry, now, advice->p);
    set_moment(hint, advice);
}

md_advice_t *md_advice_load(const md_store_t *store, const md_domain_t *domain, apr_time_t now,
                            apr_pool_t *p)
{
    const apr_array_header_t *certs = md_live_of(domain)->obtained;
    md_advice_t *advice = apr_pcalloc(p, sizeof(*advice));
    const md_cert_info_t *cert;
    md_json_t *json = NULL, *list;
    int i;

    advice->p = p;
    advice->domain = domain;
    advice->hints = apr_array_make(p, 2, sizeof(md_hint_t));
    if (!domain->ari_renewals || !domain->ca_url || !certs)
        return advice;
    if (store && md_store_load_json(&json, store, MD_STORE_OCSP, domain->name, ARI_JSON, NULL, p)
                     != APR_SUCCESS)
        json = NULL; /* one that is damaged is written anew */
    advice->followed_at = past_time(json, "followed", now);
    advice->told_at = past_time(json, "told", now);
    list = md_json_get(json, "certs", p);
    for (i = 0; i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (cert && cert->ari_id && cert->validity.end > now) /* RFC 9773 4.3 */
            add_hint(advice, cert, list, now);
    }
    return advice;
}

int md_advice_is_known(const md_advice_t *advice)
{
    int i;

    for (i = 0; i < advice->hints->nelts; ++i)
        if (APR_ARRAY_IDX(advice->hints, i, md_hint_t).ari.poll_at)
            return 1;
    return 0;
}

int md_advice_is_offered(const md_advice_t *advice)
{
    const md_hint_t *hint;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        if (hint->ari.poll_at && !hint->asked_at)
            return 0;
    }
    return 1;
}

static md_json_t *hint_to_json(const md_hint_t *hint, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_time(json, "window.from", hint->ari.window.start);
    md_json_set_time(json, "window.until", hint->ari.window.end);
    md_json_set_str(json, "explanation-url", hint->ari.explanation_url);
    md_json_set_time(json, "asked", hint->asked_at);
    md_json_set_time(json, "next-poll", hint->ari.poll_at);
    md_json_set_str(json, "problem", hint->problem);
    return json;
}

apr_status_t md_advice_save(const md_advice_t *advice, const md_store_t *store, md_err_t *err,
                            apr_pool_t *p)
{
    md_json_t *json = md_json_object(p), *list = md_json_array(p), *entry;
    const md_hint_t *hint;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        entry = hint_to_json(hint, p);
        md_json_set_str(entry, "ari-cert-id", hint->cert->ari_id);
        md_json_set_int(entry, "errors", hint->errors);
        md_json_set_bool(entry, "followed", hint->is_followed);
        md_json_append(list, entry);
    }
    md_json_set(json, "certs", list);
    md_json_set_time(json, "followed", advice->followed_at);
    md_json_set_time(json, "told", advice->told_at);
    return md_store_save_json_volatile(store, MD_STORE_OCSP, advice->domain->name, ARI_JSON, json,
                                       err, p);
}

md_json_t *md_advice_to_json(const md_advice_t *advice, const char *cert_id, apr_pool_t *p)
{
    const md_hint_t *hint;
    md_json_t *json;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        if (!md_text_same(hint->cert->ari_id, cert_id) || !hint->asked_at)
            continue;
        json = hint_to_json(hint, p);
        md_json_set_time(json, "renew-at", hint->renew_at);
        return json;
    }
    return NULL;
}

/* ---- when ---- */

const md_hint_t *md_advice_first(const md_advice_t *advice)
{
    const md_hint_t *hint, *first = NULL;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        if (hint->renew_at && (!first || hint->renew_at < first->renew_at))
            first = hint;
    }
    return first;
}

/* The one to be asked for first, NULL if there is none. */
static md_hint_t *next_hint(const md_advice_t *advice)
{
    md_hint_t *hint, *next = NULL;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        if (!next || hint->ari.poll_at < next->ari.poll_at)
            next = hint;
    }
    return next;
}

apr_time_t md_advice_poll_at(const md_advice_t *advice)
{
    const md_hint_t *hint = next_hint(advice);

    return hint ? hint->ari.poll_at : APR_INT64_MAX;
}

void md_advice_renew_hints(md_advice_t *advice, int all, apr_time_t now)
{
    md_hint_t *hint;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        if (all || (hint->renew_at && hint->renew_at <= now))
            hint->ari.poll_at = now;
    }
}

void md_advice_follow(md_advice_t *advice, apr_time_t now)
{
    int i;

    advice->followed_at = now;
    for (i = 0; i < advice->hints->nelts; ++i)
        APR_ARRAY_IDX(advice->hints, i, md_hint_t).is_followed = 1;
}

/* ---- asking ---- */

/* An explanation is worth a notice, but not at each poll. */
static void tell(md_advice_t *advice, const md_hint_t *hint, apr_time_t now)
{
    const char *url = hint->ari.explanation_url, *name = advice->domain->name;
    const char *at = md_time_http(hint->renew_at, advice->p);
    int is_notice = url && (!advice->told_at || now - advice->told_at >= TELL_EVERY);

    if (is_notice)
        advice->told_at = now;
    if (url)
        md_log(is_notice ? MD_LOG_NOTICE : MD_LOG_DEBUG, MD_LOGNO(10515) "md[%s]: CA advises "
               "renew via ARI at %s, for explanation see %s", name, at, url);
    else
        md_log(MD_LOG_DEBUG, MD_LOGNO(10516) "md[%s]: CA advises renew via ARI at %s", name, at);
}

static int is_news(const md_ari_t *ari, const md_ari_t *before)
{
    return ari->window.start != before->window.start || ari->window.end != before->window.end
           || !md_text_same(ari->explanation_url, before->explanation_url);
}

/* What was known before goes on to be. It does not matter much, so the log is for who looks for
 * it. */
static void note_failure(md_advice_t *advice, md_hint_t *hint, const md_err_t *err, apr_time_t now,
                         unsigned char dice)
{
    apr_interval_time_t wait;
    apr_time_t told;

    if (APR_STATUS_IS_EINTR(err->rv)) /* the server stops */
        return;
    if (hint->errors < MD_MAX_ERRORS)
        ++hint->errors;
    wait = md_job_backoff(hint->errors, 2 * MD_ARI_POLL_LEAST, MD_ARI_POLL, dice);
    told = err->retry_after ? md_ari_poll_at(err->retry_after, 0, now) : 0;
    hint->ari.poll_at = md_ari_poll_at(0, wait, now);
    if (told > hint->ari.poll_at)
        hint->ari.poll_at = told;
    hint->asked_at = now;
    hint->problem = md_text_line(err->detail, MD_MAX_JOB_DETAIL, advice->p);
    md_log(MD_LOG_DEBUG, "md[%s]: error retrieving ARI: %s", advice->domain->name,
           hint->problem);
}

static void note_answer(md_advice_t *advice, md_hint_t *hint, const md_ari_t *ari, apr_time_t now)
{
    int is_new = is_news(ari, &hint->ari);

    hint->ari = *ari;
    hint->asked_at = now;
    hint->errors = 0;
    hint->problem = NULL;
    set_moment(hint, advice);
    if (is_new && hint->renew_at > now)
        tell(advice, hint, now);
}

/* Nobody is asked before then. */
static void put_off(md_advice_t *advice, apr_time_t until)
{
    md_hint_t *hint;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        if (hint->ari.poll_at < until)
            hint->ari.poll_at = until;
    }
}

static void note_no_offer(md_advice_t *advice, apr_time_t now)
{
    md_hint_t *hint;
    int i;

    for (i = 0; i < advice->hints->nelts; ++i) {
        hint = &APR_ARRAY_IDX(advice->hints, i, md_hint_t);
        *hint = (md_hint_t){ .cert = hint->cert, .ari = { .poll_at = now + OFFER_EVERY } };
    }
}

int md_advice_ask(md_advice_t *advice, md_acme_t *acme, apr_interval_time_t interval,
                  apr_time_t now, unsigned char dice)
{
    apr_time_t hold_until = md_acme_hold_until(acme, now);
    md_hint_t *hint = next_hint(advice);
    md_err_t err;
    md_ari_t ari;
    apr_status_t rv;

    if (!hint || hint->ari.poll_at > now)
        return 0;
    if (hold_until) {
        put_off(advice, hold_until);
        return 0;
    }
    md_err_init(&err, advice->p);
    if (!md_acme_has_directory(acme)) {
        rv = md_acme_load_directory(acme, now, &err, advice->p);
        if (rv != APR_SUCCESS)
            note_failure(advice, hint, &err, now, dice);
        return rv == APR_SUCCESS;
    }
    if (!md_acme_directory(acme)->renewal_info) {
        note_no_offer(advice, now);
        return 0;
    }
    rv = md_ari_fetch(&ari, acme, hint->cert, interval, now, &err, advice->p);
    if (rv == APR_SUCCESS)
        note_answer(advice, hint, &ari, now);
    else
        note_failure(advice, hint, &err, now, dice);
    return !APR_STATUS_IS_EINTR(rv);
}
