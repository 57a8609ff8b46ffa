/* SPDX-License-Identifier: Apache-2.0 */
/* Events of one domain: what is told, and what comes of it. */
#include "md_notice.h"

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_renew.h"

#define WARN_EACH    apr_time_from_sec(24 * 3600)
#define WARN_SOON    apr_time_from_sec(3600)
#define BROKEN_AFTER apr_time_from_sec(60) /* without memory */

/* ---- warnings ---- */

/* The date when the first warn window opens; 0: a certificate is missing, which is no matter of
 * time. */
static apr_time_t window_opens(const md_domain_t *domain)
{
    const md_live_t *live = md_live_of(domain);
    const md_cert_info_t *cert;
    apr_time_t first = 0, opens;
    int i;

    for (i = 0; live->certs && i < live->certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(live->certs, i, const md_cert_info_t *);
        if (!cert)
            return 0;
        opens = md_window_opens(&cert->validity, &domain->warn_window);
        if (!first || opens < first)
            first = opens;
    }
    return live->state == MD_STATE_INCOMPLETE ? 0 : first;
}

apr_time_t md_notice_warn_at(const md_notice_t *notice, const md_job_t *job)
{
    apr_time_t opens = window_opens(notice->domain), steady = md_clock_steady();
    apr_time_t now = md_clock_now();

    if (!opens || job->finished)
        return MD_TASK_NEVER;
    if (opens > now)
        return steady + (opens - now);
    return notice->warn_at > steady ? notice->warn_at : steady;
}

/* ---- what comes of it ---- */

static void save(const md_notice_t *notice, md_job_t *job)
{
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, notice->pool);
    rv = notice->kind == MD_EVENT_RENEWED
         ? md_job_save(job, notice->reg->store, &err, notice->pool)
         : md_job_save_volatile(job, notice->reg->store, &err, notice->pool);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, "md[%s]: cannot save the record of its events: %s", notice->domain->name,
               err.detail);
}

/* Of a domain that is not renewed, the record has nothing but the warnings. */
static int has_renewals(const md_notice_t *notice)
{
    return md_renew_is_wanted(notice->domain);
}

static void was_told(md_notice_t *notice, md_job_t *job)
{
    switch (notice->kind) {
    case MD_EVENT_RENEWING:
        notice->may_begin = 1;
        break;
    case MD_EVENT_RENEWED:
        notice->renewed_at = MD_TASK_NEVER;
        job->next_run = 0;
        job->notified_renewed = 1;
        if (job->errors > 0) /* in telling it */
            md_job_result(job, "Checking staging", NULL, notice->pool);
        job->errors = 0;
        break;
    case MD_EVENT_INSTALLED:
        notice->is_installed = 1;
        break;
    case MD_EVENT_EXPIRING:
        notice->warn_at = md_clock_steady() + WARN_EACH;
        notice->unwarned = 0;
        if (has_renewals(notice))
            break;
        job->errors = 0;
        job->last = NULL;
        break;
    default:
        break;
    }
}

static apr_interval_time_t back_off(const md_notice_t *notice, int errors, unsigned char dice)
{
    return md_job_backoff(errors, notice->reg->conf->retry_delay, MD_BACKOFF_MAX, dice);
}

static void tell_veto(md_notice_t *notice)
{
    notice->is_vetoed = 1;
    md_log(MD_LOG_INFO, MD_LOGNO(10060) "%s: event-handler for 'renewing' returned %d, preventing "
           "renewal to proceed", notice->domain->name, notice->result.rv);
}

/* Who looks at the record finds that telling failed, and what it was about. */
static void note_failure(const md_notice_t *notice, md_job_t *job)
{
    const char *activity = apr_psprintf(job->p, "Reporting event '%s'",
                                        md_event_name(notice->telling));
    md_err_t err = notice->result;

    if (notice->kind == MD_EVENT_ERRORED && notice->detail)
        err.detail = apr_pstrcat(notice->pool, err.detail, " The error to be reported: ",
                                 notice->detail, NULL);
    md_job_result(job, activity, &err, notice->pool);
}

static void was_not_told(md_notice_t *notice, md_job_t *job, unsigned char dice)
{
    apr_interval_time_t delay;

    if (notice->kind != MD_EVENT_INSTALLED
        && (notice->kind != MD_EVENT_EXPIRING || !has_renewals(notice)))
        note_failure(notice, job);
    switch (notice->kind) {
    case MD_EVENT_RENEWING:
        tell_veto(notice);
        break;
    case MD_EVENT_RENEWED:
        delay = back_off(notice, ++job->errors, dice);
        job->next_run = md_clock_now() + delay;
        notice->renewed_at = md_clock_steady() + delay;
        break;
    case MD_EVENT_INSTALLED:
        notice->is_installed = 1;
        break;
    case MD_EVENT_EXPIRING:
        notice->warn_at = md_clock_steady() + back_off(notice, ++notice->unwarned, dice);
        if (!has_renewals(notice) && job->errors < MD_MAX_ERRORS)
            ++job->errors;
        break;
    default:
        break;
    }
}

void md_notice_drop(md_notice_t *notice)
{
    if (notice->pool)
        apr_pool_destroy(notice->pool);
    notice->pool = NULL;
    notice->telling = NULL;
    notice->has_ended = 0;
}

void md_notice_settle(md_notice_t *notice, md_job_t *job, unsigned char dice)
{
    int is_told = notice->result.rv == APR_SUCCESS;

    if (!notice->telling || !notice->has_ended)
        return;
    if (!APR_STATUS_IS_EINTR(notice->result.rv)) {
        md_event_record(job, notice->telling, is_told ? NULL : &notice->result, md_clock_now());
        if (is_told)
            was_told(notice, job);
        else
            was_not_told(notice, job, dice);
        save(notice, job);
    }
    md_notice_drop(notice);
}

void md_notice_next(md_notice_t *notice)
{
    notice->may_begin = 0;
    notice->is_installed = 0;
    notice->renewed_at = 0;
}

/* ---- telling ---- */

int md_notice_is_busy(md_notice_t *notice)
{
    apr_status_t rv;

    if (!notice->telling || notice->has_ended)
        return 0;
    rv = md_event_step(notice->telling, &notice->result);
    if (APR_STATUS_IS_EAGAIN(rv))
        return 1;
    notice->result.rv = rv;
    notice->has_ended = 1;
    return 0;
}

apr_time_t md_notice_look_at(const md_notice_t *notice)
{
    return md_event_look_at(notice->telling);
}

/* Why the renewal failed, as the record has it. */
static void explain_by_job(md_event_t *event, const md_job_t *job)
{
    if (!job->last || md_json_get_int(job->last, "status", 0) == APR_SUCCESS)
        return;
    event->problem = md_json_get_str(job->last, "problem");
    event->detail = md_json_get_str(job->last, "detail");
}

static md_event_t make_event(const md_notice_t *notice, md_event_kind_t kind, const md_err_t *why,
                             const md_job_t *job)
{
    md_event_t event = { .kind = kind, .domain = notice->domain->name, .attempt = 1 };

    event.expires = md_live_expires(notice->domain);
    if (kind == MD_EVENT_RENEWED) {
        event.attempt = job->errors + 1;
        event.is_live = notice->domain->activates_live;
    }
    if (kind == MD_EVENT_EXPIRING) {
        event.attempt = notice->unwarned + 1;
        if (has_renewals(notice))
            explain_by_job(&event, job);
    }
    if (why) {
        event.problem = why->type;
        event.detail = why->detail;
    }
    if (kind == MD_EVENT_ERRORED || kind == MD_EVENT_EXPIRING)
        event.next_try = job->next_run;
    return event;
}

/* It was told not long ago, or there is no memory for it. */
static int count_as_told(md_notice_t *notice, md_event_kind_t kind)
{
    apr_time_t steady = md_clock_steady();

    if (kind == MD_EVENT_RENEWING)
        notice->may_begin = 1;
    if (kind == MD_EVENT_RENEWED)
        notice->renewed_at = steady + BROKEN_AFTER;
    if (kind == MD_EVENT_EXPIRING)
        notice->warn_at = steady + WARN_SOON;
    return 1;
}

int md_notice_tell(md_notice_t *notice, md_event_kind_t kind, const md_err_t *why, md_job_t *job,
                   unsigned char dice)
{
    md_event_t event = make_event(notice, kind, why, job);

    if (notice->reg->is_tool || notice->telling)
        return 1;
    if (md_event_is_recent(&event, job, md_clock_now()))
        return count_as_told(notice, kind);
    notice->pool = md_engine_pool();
    if (!notice->pool)
        return count_as_told(notice, kind);
    md_err_init(&notice->result, notice->pool);
    notice->telling = md_event_tell(notice->reg->events, &event, notice->pool);
    notice->kind = kind;
    notice->detail = apr_pstrdup(notice->pool, event.detail);
    if (md_notice_is_busy(notice))
        return 0;
    md_notice_settle(notice, job, dice);
    return 1;
}
