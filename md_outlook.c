/* SPDX-License-Identifier: Apache-2.0 */
/* The status of a domain in words. */
#include "md_outlook.h"

#include <string.h>

#include <apr_strings.h>

#include "md_renew.h"
#include "md_text.h"

/* ---- what is served ---- */

typedef enum { HEALTHY, ENDING, LACKING, DOWN } health_t;

static int has_certificate(const md_status_t *status)
{
    const apr_array_header_t *certs = status->live->certs;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i)
        if (APR_ARRAY_IDX(certs, i, const md_cert_info_t *))
            return 1;
    return 0;
}

/* By the certificates alone. */
static health_t health_by_time(const char **pstate, const md_status_t *status)
{
    const md_window_t *valid = &status->valid;

    if (valid->end <= status->now) {
        *pstate = valid->end ? "Expired" : "Not valid";
        return DOWN;
    }
    if (valid->start > status->now) {
        *pstate = "Not valid yet";
        return DOWN;
    }
    if (status->is_revoked) {
        *pstate = "Revoked";
        return DOWN;
    }
    *pstate = "Valid";
    if (md_window_opens(valid, &status->domain->warn_window) > status->now)
        return HEALTHY;
    *pstate = "Ends soon";
    return ENDING;
}

static health_t health_of(const char **pstate, const md_status_t *status)
{
    const md_live_t *live = status->live;

    if (live->state == MD_STATE_ERROR || live->state == MD_STATE_MISSING_INFORMATION) {
        *pstate = live->state == MD_STATE_ERROR ? "In error" : "Information is missing";
        return DOWN;
    }
    if (!has_certificate(status)) {
        *pstate = "No certificate";
        return LACKING;
    }
    if (live->state == MD_STATE_COMPLETE || status->valid.end <= status->now)
        return health_by_time(pstate, status);
    *pstate = "Incomplete";
    return LACKING;
}

/* ---- what goes on ---- */

static const char *last_text(const md_job_t *job, const char *member)
{
    return md_json_get_str(job->last, member);
}

/* What the renewal is at. */
static const char *activity(const md_job_t *job)
{
    return last_text(job, "detail") ? last_text(job, "detail") : last_text(job, "activity");
}

static const char *times(int n, apr_pool_t *p)
{
    return n == 1 ? "once" : n == 2 ? "twice" : apr_psprintf(p, "%d times", n);
}

/* The rules below tell what goes on, if they apply. Their tone is that of a domain that has good
 * certificates. */

static int tell_blocked(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    (void)p;
    if (!status->reg->store_problem)
        return 0;
    outlook->tone = MD_TONE_WARN;
    outlook->what = "Nothing can be renewed";
    outlook->detail = status->reg->store_problem;
    return 1;
}

static int tell_unreadable(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    if (status->rv == APR_SUCCESS)
        return 0;
    outlook->tone = MD_TONE_WARN;
    outlook->what = "The record of its renewal cannot be read";
    outlook->detail = md_err_text(status->rv, p);
    return 1;
}

static void tell_next_attempt(md_outlook_t *outlook, const md_status_t *status)
{
    if (status->job->next_run > status->now) {
        outlook->next = "Next attempt";
        outlook->next_at = status->job->next_run;
    }
    else
        outlook->next = "The next attempt is due";
}

static int tell_failed(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    const md_job_t *job = status->job;

    if (!job || md_json_get_int(job->last, "status", APR_SUCCESS) == APR_SUCCESS)
        return 0;
    outlook->tone = MD_TONE_WARN;
    outlook->what = job->errors > 0 ? apr_pstrcat(p, "Failed ", times(job->errors, p), NULL)
                                    : "Failed";
    outlook->detail = last_text(job, "detail");
    tell_next_attempt(outlook, status);
    return 1;
}

static int tell_ready(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    const md_job_t *job = status->job;

    (void)p;
    if (!job || !job->finished)
        return 0;
    outlook->tone = MD_TONE_BUSY;
    outlook->what = "A new certificate is ready";
    outlook->next = "Reload the server to put it into service";
    if (job->valid_from > status->now) {
        outlook->next = "A reload can put it into service";
        outlook->next_at = job->valid_from;
    }
    return 1;
}

static int tell_working(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    const md_job_t *job = status->job;

    if (!job)
        return 0;
    outlook->tone = job->errors > 0 ? MD_TONE_WARN : MD_TONE_BUSY;
    outlook->what = has_certificate(status) ? "Being renewed" : "Being obtained";
    if (job->errors > 0)
        outlook->what = apr_pstrcat(p, "Failed ", times(job->errors, p), ", trying again",
                                    NULL);
    outlook->detail = activity(job);
    if (job->next_run > status->now)
        tell_next_attempt(outlook, status);
    return 1;
}

/* Why this server does not care for the domain, NULL: it does. */
static const char *neglect(const md_domain_t *domain)
{
    if (domain->cert_files && !md_renew_is_wanted(domain))
        return "Its files are renewed by somebody else";
    if (!md_renew_is_wanted(domain))
        return "Not renewed by this server, as MDRenewMode is manual";
    return domain->is_watched ? NULL : "Not renewed, as no virtual host uses it";
}

static int tell_due(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    (void)p;
    if (!status->is_due)
        return 0;
    outlook->what = neglect(status->domain);
    outlook->tone = outlook->what ? MD_TONE_WARN : MD_TONE_BUSY;
    if (!outlook->what)
        outlook->what = has_certificate(status) ? "Its renewal is due and will begin shortly"
                                               : "The server will request one shortly";
    return 1;
}

static int tell_rest(md_outlook_t *outlook, const md_status_t *status, apr_pool_t *p)
{
    (void)p;
    outlook->tone = MD_TONE_GOOD;
    outlook->what = neglect(status->domain);
    outlook->next = outlook->what ? "Due"
                    : md_text_same(status->due.reason, "ari") ? "As its CA suggests, renews"
                                                              : "Renews";
    outlook->next_at = status->due.at;
    if (!status->due.at)
        outlook->next = NULL;
    return 1;
}

/* The first that applies. */
static int (*const RULES[])(md_outlook_t *, const md_status_t *, apr_pool_t *) = {
    tell_blocked, tell_unreadable, tell_failed, tell_ready, tell_working, tell_due, tell_rest,
};

/* What lacks a certificate that is on its way is no reason to worry; but a reload is needed. */
static md_tone_t tone_of(md_tone_t tone, health_t health, const md_status_t *status)
{
    switch (health) {
    case DOWN:
        return MD_TONE_BAD;
    case LACKING:
        if (tone != MD_TONE_BUSY)
            return MD_TONE_BAD;
        return status->job && status->job->finished ? MD_TONE_WARN : MD_TONE_BUSY;
    case ENDING:
        return status->job && status->job->errors > 0 ? MD_TONE_BAD : MD_TONE_WARN;
    default:
        return tone;
    }
}

const char *md_outlook_reason(const md_status_t *status)
{
    static const struct { const char *reason, *words; } WORDS[] = {
        { "missing", "a certificate is missing" },
        { "names", "a certificate does not have all names" },
        { "must-staple", "must-staple is configured otherwise" },
        { "window", "its renewal window is open" },
        { "ari", "its CA suggests it" },
        { "revoked", "its CA has revoked a certificate" },
    };
    size_t i;

    if (!status->due.reason || status->due.at > status->now)
        return NULL;
    for (i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); ++i)
        if (!strcmp(status->due.reason, WORDS[i].reason))
            return WORDS[i].words;
    return NULL;
}

md_outlook_t md_outlook_of(const md_status_t *status, apr_pool_t *p)
{
    md_outlook_t outlook = { MD_TONE_GOOD, NULL, NULL, NULL, NULL, NULL, 0 };
    health_t health = health_of(&outlook.state, status);
    size_t i = 0;

    while (!RULES[i](&outlook, status, p))
        ++i;
    if (health == LACKING && has_certificate(status))
        outlook.about = status->live->state_descr;
    outlook.tone = tone_of(outlook.tone, health, status);
    return outlook;
}
