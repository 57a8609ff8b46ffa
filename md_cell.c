/* SPDX-License-Identifier: Apache-2.0 */
/* Cells and lines. */
#include "md_cell.h"

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

#define FAR_AWAY apr_time_from_sec(4 * 24 * 3600) /* a date says more than a duration */

/* ---- cells ---- */

const char *md_cell_text(const char *text, apr_pool_t *p)
{
    return md_text_html(text, MD_MAX_TEXT, p);
}

static const char *day(apr_time_t t, const char *title, apr_pool_t *p)
{
    return apr_psprintf(p, "<span style=\"white-space: nowrap;\" title='%s'>%s</span>",
                        md_cell_text(title, p), md_time_day(t, p));
}

const char *md_cell_when(const char *label, apr_time_t t, apr_time_t now, apr_pool_t *p)
{
    apr_interval_time_t wait = t - now;
    const char *text;

    if (wait >= FAR_AWAY || wait <= -FAR_AWAY)
        text = apr_psprintf(p, "%s %s", label, md_time_day(t, p));
    else if (wait >= 0)
        text = apr_psprintf(p, "%s in %s", label, md_duration_rough(wait, p));
    else
        text = apr_psprintf(p, "%s %s ago", label, md_duration_rough(-wait, p));
    return apr_psprintf(p, "<span title='%s'>%s</span>", md_time_http(t, p), text);
}

const char *md_cell_validity(const md_window_t *valid, apr_time_t now, apr_pool_t *p)
{
    const char *from, *until, *begin = "";

    if (!valid->end)
        return "";
    from = md_time_http(valid->start, p);
    until = md_time_http(valid->end, p);
    if (valid->start > now)
        begin = apr_pstrcat(p, "from ", day(valid->start, from, p), " ", NULL);
    return apr_pstrcat(p, begin, "until ",
                       day(valid->end, apr_pstrcat(p, from, " - ", until, NULL), p), NULL);
}

const char *md_cell_link(const char *url, const char *text, apr_pool_t *p)
{
    if (md_uri_check_http(url, p))
        return md_cell_text(text, p);
    return apr_psprintf(p, "<a href='%s'>%s</a>", md_text_html(url, MD_MAX_URI, p),
                        md_cell_text(text, p));
}

static int last_status(const md_job_t *job)
{
    return (int)md_json_get_int(job->last, "status", APR_SUCCESS);
}

static const char *last_detail(const md_job_t *job)
{
    return md_json_get_str(job->last, "detail");
}

static const char *retries(const md_job_t *job, apr_pool_t *p)
{
    return job->errors <= 0 ? "" : apr_psprintf(p, " (%d %s)", job->errors,
                                                job->errors == 1 ? "retry" : "retries");
}

static const char *result(const md_job_t *job, int staged, apr_pool_t *p)
{
    if (last_status(job) != APR_SUCCESS)
        return apr_psprintf(p, " Error[%s]: %s %s%s",
                            md_cell_text(md_err_text(last_status(job), p), p),
                            md_cell_text(md_json_get_str(job->last, "problem"), p),
                            md_cell_text(last_detail(job), p), retries(job, p));
    if (!job->finished)
        return apr_pstrcat(p, md_cell_text(last_detail(job), p), retries(job, p), NULL);
    if (staged == 0)
        return "finished successfully.";
    return apr_psprintf(p, "finished, %d new certificate%s staged.", staged,
                        staged == 1 ? "" : "s");
}

const char *md_cell_job(const md_job_t *job, int staged, apr_time_t now, apr_pool_t *p)
{
    const char *text = result(job, staged, p), *next = "";

    if (!job->finished && job->next_run > now)
        next = md_cell_when("Next run", job->next_run, now, p);
    else if (!job->finished && *text)
        next = "Ongoing...";
    else if (job->finished && staged > 0)
        next = "Awaiting restart";
    return apr_pstrcat(p, text, *next && *text ? "<br>" : "", next, NULL);
}

/* ---- lines ---- */

void md_lines_put(const md_lines_t *lines, const char *key, const char *value)
{
    if (value)
        md_out_put(lines->out, apr_pstrcat(lines->p, lines->prefix, key, ": ",
                                           md_text_visible(value, MD_MAX_TEXT, lines->p), "\n",
                                           NULL));
}

void md_lines_put_seconds(const md_lines_t *lines, const char *key, apr_interval_time_t wait)
{
    md_lines_put(lines, key, apr_psprintf(lines->p, "%" APR_TIME_T_FMT, apr_time_sec(wait)));
}

void md_lines_put_validity(const md_lines_t *lines, const char *key, const md_window_t *valid)
{
    if (valid->end && valid->start > lines->now)
        md_lines_put(lines, apr_pstrcat(lines->p, key, "From", NULL),
                     md_time_day(valid->start, lines->p));
    if (valid->end)
        md_lines_put(lines, apr_pstrcat(lines->p, key, "Until", NULL),
                     md_time_day(valid->end, lines->p));
}

void md_lines_put_job(const md_lines_t *lines, const md_job_t *job, int staged)
{
    if (last_status(job) != APR_SUCCESS) {
        md_lines_put(lines, "ActivityLastStatus", md_err_text(last_status(job), lines->p));
        md_lines_put(lines, "ActivityLastProblem", md_json_get_str(job->last, "problem"));
    }
    md_lines_put(lines, "ActivityFinished", job->finished ? "yes" : "no");
    if (job->finished)
        md_lines_put(lines, "ActivityNewStaged", apr_itoa(lines->p, staged));
    else
        md_lines_put(lines, "ActivityLastDetail", last_detail(job));
    if (!job->finished && job->next_run > lines->now)
        md_lines_put_seconds(lines, "ActivityNextRun", job->next_run - lines->now);
}
