/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: job.json both ways, their log, back-off. */
#include "md_job.h"

#include <string.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"
#include "md_time.h"

md_job_t *md_job_make(md_store_group_t group, const char *name, apr_pool_t *p)
{
    md_job_t *job = apr_pcalloc(p, sizeof(*job));

    job->p = p;
    job->group = group;
    job->name = apr_pstrdup(p, name);
    job->log = md_json_array(p);
    job->hints = md_strings_make(p);
    return job;
}

static const md_json_rule_t RULES[] = {
    { "finished", MD_JSON_BOOL, 0 }, { "notified", MD_JSON_BOOL, 0 },
    { "notified-renewed", MD_JSON_BOOL, 0 }, { "errors", MD_JSON_NUMBER, 0 },
    { "next-run", MD_JSON_STRING, 0 }, { "last-run", MD_JSON_STRING, 0 },
    { "valid-from", MD_JSON_STRING, 0 }, { "retry-after", MD_JSON_STRING, 0 },
    { "last", MD_JSON_OBJECT, 0 }, { "failed-challenge", MD_JSON_STRING, 0 },
    { "needs-change", MD_JSON_BOOL, 0 }, { "lacks-must-staple", MD_JSON_BOOL, 0 },
    { "hints", MD_JSON_STRINGS, 0 }, { "log", MD_JSON_OBJECT, 0 },
    { NULL, MD_JSON_STRING, 0 }
};

static void from_json(md_job_t *job, const md_json_t *json)
{
    apr_int64_t errors = md_json_get_int(json, "errors", 0);
    apr_array_header_t *hints;
    md_json_t *log;

    job->finished = md_json_get_bool(json, "finished");
    job->notified = md_json_get_bool(json, "notified");
    job->notified_renewed = md_json_get_bool(json, "notified-renewed");
    job->next_run = md_json_get_time(json, "next-run");
    job->last_run = md_json_get_time(json, "last-run");
    job->valid_from = md_json_get_time(json, "valid-from");
    job->retry_after = md_json_get_time(json, "retry-after");
    job->errors = errors < 0 ? 0 : errors > MD_MAX_ERRORS ? MD_MAX_ERRORS : (int)errors;
    job->failed_challenge = apr_pstrdup(job->p, md_json_get_str(json, "failed-challenge"));
    job->needs_change = md_json_get_bool(json, "needs-change");
    job->lacks_must_staple = md_json_get_bool(json, "lacks-must-staple");
    job->last = md_json_get(json, "last", job->p);
    hints = md_json_get_strings(json, "hints", job->p);
    if (hints)
        job->hints = hints;
    if (job->hints->nelts > MD_MAX_HINTS)
        job->hints->nelts = MD_MAX_HINTS;
    log = md_json_get(json, "log.entries", job->p);
    if (md_json_is_array(log)) {
        md_json_truncate(log, MD_MAX_JOB_LOG);
        job->log = log;
    }
}

apr_status_t md_job_load(md_job_t **pjob, const md_store_t *store, md_store_group_t group,
                         const char *name, md_err_t *err, apr_pool_t *p)
{
    md_json_t *json;
    apr_status_t rv;

    *pjob = md_job_make(group, name, p);
    rv = md_store_load_json(&json, store, group, name, MD_JOB_JSON, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(json, store, group, name, MD_JOB_JSON, RULES, err, p);
    if (rv == APR_SUCCESS)
        from_json(*pjob, json);
    return rv;
}

apr_status_t md_job_parse(md_job_t **pjob, md_store_group_t group, const char *name,
                          const char *text, md_err_t *err, apr_pool_t *p)
{
    const char *wrong;
    md_json_t *json;
    apr_status_t rv;

    *pjob = md_job_make(group, name, p);
    rv = md_json_parse(&json, text, strlen(text), err, p);
    wrong = rv == APR_SUCCESS ? md_json_misfit(json, RULES, p) : NULL;
    if (wrong)
        rv = md_fail(err, APR_EINVAL, "%s", wrong);
    if (rv == APR_SUCCESS)
        from_json(*pjob, json);
    return rv;
}

md_json_t *md_job_to_json(const md_job_t *job, int with_log, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "name", job->name);
    md_json_set_bool(json, "finished", job->finished);
    md_json_set_bool(json, "notified", job->notified);
    md_json_set_bool(json, "notified-renewed", job->notified_renewed);
    md_json_set_time(json, "next-run", job->next_run);
    md_json_set_time(json, "last-run", job->last_run);
    md_json_set_time(json, "valid-from", job->valid_from);
    md_json_set_time(json, "retry-after", job->retry_after);
    md_json_set_int(json, "errors", job->errors);
    md_json_set_str(json, "failed-challenge", job->failed_challenge);
    if (job->needs_change)
        md_json_set_bool(json, "needs-change", 1);
    if (job->lacks_must_staple)
        md_json_set_bool(json, "lacks-must-staple", 1);
    md_json_set(json, "last", job->last);
    if (job->hints->nelts > 0)
        md_json_set_strings(json, "hints", job->hints);
    if (with_log && md_json_size(job->log) > 0)
        md_json_set(json, "log.entries", job->log);
    return json;
}

apr_status_t md_job_save(const md_job_t *job, const md_store_t *store, md_err_t *err,
                         apr_pool_t *p)
{
    return md_store_save_json(store, job->group, job->name, MD_JOB_JSON,
                              md_job_to_json(job, 1, p), err, p);
}

apr_status_t md_job_save_volatile(const md_job_t *job, const md_store_t *store, md_err_t *err,
                                  apr_pool_t *p)
{
    return md_store_save_json_volatile(store, job->group, job->name, MD_JOB_JSON,
                                       md_job_to_json(job, 1, p), err, p);
}

void md_job_remove(const md_store_t *store, md_store_group_t group, const char *name,
                   apr_pool_t *p)
{
    md_store_remove(store, group, name, MD_JOB_JSON, p);
}

void md_job_log(md_job_t *job, apr_time_t when, const char *type, const char *status,
                const char *detail)
{
    md_json_t *entry = md_json_object(job->p);

    md_json_set_time(entry, "when", when);
    md_json_set_str(entry, "type", type);
    md_json_set_str(entry, "status", status);
    md_json_set_str(entry, "detail", md_text_line(detail, MD_MAX_JOB_DETAIL, job->p));
    md_json_insert(job->log, 0, entry);
    md_json_truncate(job->log, MD_MAX_JOB_LOG);
}

apr_time_t md_job_logged_at(const md_job_t *job, const char *type)
{
    md_json_t *entry;
    apr_size_t i;

    for (i = 0; i < md_json_size(job->log); ++i) {
        entry = md_json_at(job->log, i, job->p);
        if (md_text_same(md_json_get_str(entry, "type"), type))
            return md_json_get_time(entry, "when");
    }
    return 0;
}

void md_job_hint(md_job_t *job, apr_time_t when, const char *text)
{
    if (job->hints->nelts < MD_MAX_HINTS && !md_strings_has(job->hints, text))
        APR_ARRAY_PUSH(job->hints, const char *) = md_text_line(text, MD_MAX_TEXT, job->p);
    md_job_log(job, when, "hint", NULL, text);
}

void md_job_result(md_job_t *job, const char *activity, const md_err_t *err, apr_pool_t *p)
{
    md_json_t *last = md_json_object(job->p), *subproblems;

    md_json_set_int(last, "status", err ? err->rv : APR_SUCCESS);
    if (err) {
        md_json_set_str(last, "status-description", md_err_text(err->rv, p));
        md_json_set_str(last, "problem", err->type);
        md_json_set_str(last, "detail", err->detail);
    }
    md_json_set_str(last, "activity", activity);
    md_json_set_time(last, "valid-from", err ? 0 : job->valid_from);
    if (err && err->subproblems
        && md_json_parse(&subproblems, err->subproblems, strlen(err->subproblems), NULL, job->p)
               == APR_SUCCESS)
        md_json_set(last, "subproblems", subproblems);
    job->last = last;
}

apr_interval_time_t md_job_jitter(apr_interval_time_t base, unsigned char dice)
{
    return base + apr_time_from_sec(apr_time_sec(base) * ((int)dice - 128) / 256);
}

apr_interval_time_t md_job_backoff(int errors, apr_interval_time_t base, apr_interval_time_t most,
                                   unsigned char dice)
{
    apr_interval_time_t delay = base > 0 ? base : apr_time_from_sec(1);
    int i;

    if (most < delay)
        most = delay;
    if (most > MD_BACKOFF_MAX)
        most = MD_BACKOFF_MAX;
    for (i = 1; i < errors && delay < most; ++i)
        delay *= 2;
    return md_job_jitter(delay < most ? delay : most, dice);
}

apr_interval_time_t md_job_wait(const md_job_t *job, apr_time_t now,
                                apr_interval_time_t activation_delay)
{
    apr_interval_time_t most = MD_BACKOFF_MAX + MD_BACKOFF_MAX / 2, wait = job->next_run - now;

    if (most < MD_MAX_RETRY_AFTER)
        most = MD_MAX_RETRY_AFTER;
    if (job->finished && activation_delay > 0)
        most += activation_delay;
    return job->next_run > now && wait <= most ? wait : 0;
}
