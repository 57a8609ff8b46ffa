/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of server-status: a table of columns, each of them in HTML and as lines of text. */
#include "md_report.h"

#include <stdarg.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

#define FAR_AWAY apr_time_from_sec(4 * 24 * 3600) /* a date says more than a duration */

/* A domain on its way to the page. */
typedef struct row_t {
    md_out_t *out;
    const md_status_t *status;
    int number;
    apr_pool_t *p;
} row_t;

static const char *html(const char *text, apr_pool_t *p)
{
    return md_text_html(text, MD_MAX_TEXT, p);
}

/* `ManagedDomain[0]Key: value`; without a value, nothing. */
static void put_line(const row_t *row, const char *key, const char *value)
{
    if (value)
        md_out_printf(row->out, row->p, "ManagedDomain[%d]%s: %s\n", row->number, key,
                      md_text_visible(value, MD_MAX_TEXT, row->p));
}

static void put_seconds(const row_t *row, const char *key, apr_interval_time_t wait)
{
    put_line(row, key, apr_psprintf(row->p, "%" APR_TIME_T_FMT, apr_time_sec(wait)));
}

/* ---- times ---- */

static const char *day_html(apr_time_t t, const char *title, apr_pool_t *p)
{
    return apr_psprintf(p, "<span style=\"white-space: nowrap;\" title='%s'>%s</span>",
                        html(title, p), md_time_day(t, p));
}

/* `Renew in ~3 days`, with the time itself as title. */
static const char *when_html(const char *label, apr_time_t t, apr_time_t now, apr_pool_t *p)
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

/* ---- links ---- */

static int is_web(const char *url, apr_pool_t *p)
{
    return md_uri_check_http(url, p) == NULL;
}

/* What is no address of the web is text. */
static const char *link_html(const char *url, const char *text, apr_pool_t *p)
{
    if (!is_web(url, p))
        return html(text, p);
    return apr_psprintf(p, "<a href='%s'>%s</a>", md_text_html(url, MD_MAX_URI, p), html(text, p));
}

/* ---- columns: what a domain is ---- */

static const char *name_html(const row_t *row)
{
    return html(row->status->domain->name, row->p);
}

static void name_text(const row_t *row)
{
    put_line(row, "Domain", row->status->domain->name);
}

static const char *names_html(const row_t *row)
{
    const char *names = apr_array_pstrcat(row->p, row->status->domain->names, ' ');

    return apr_psprintf(row->p, "<div style=\"max-width:400px;\">%s</div>",
                        md_text_html(names, MD_MAX_NAMES_TEXT, row->p));
}

static void names_text(const row_t *row)
{
    const apr_array_header_t *names = row->status->domain->names;
    int i;

    for (i = 0; i < names->nelts; ++i)
        put_line(row, apr_psprintf(row->p, "Names[%d]", i), APR_ARRAY_IDX(names, i, const char *));
}

static const char *state(const row_t *row)
{
    const md_status_t *status = row->status;

    switch (status->live->state) {
    case MD_STATE_INCOMPLETE:
        return status->live->state_descr
            ? apr_pstrcat(row->p, "incomplete: ", status->live->state_descr, NULL) : "incomplete";
    case MD_STATE_COMPLETE:
        return status->valid.end && status->valid.end <= status->now ? "expired" : "good";
    case MD_STATE_ERROR:
        return "error";
    case MD_STATE_MISSING_INFORMATION:
        return "missing information";
    default:
        return "unknown";
    }
}

static const char *state_html(const row_t *row)
{
    return html(state(row), row->p);
}

static void state_text(const row_t *row)
{
    put_line(row, "Status", state(row));
}

static const char *valid_html(const row_t *row)
{
    const md_window_t *valid = &row->status->valid;
    const char *from, *until, *begin = "";
    apr_pool_t *p = row->p;

    if (!valid->end)
        return "";
    from = md_time_http(valid->start, p);
    until = md_time_http(valid->end, p);
    if (valid->start > row->status->now)
        begin = apr_pstrcat(p, "from ", day_html(valid->start, from, p), " ", NULL);
    return apr_pstrcat(p, begin, "until ",
                       day_html(valid->end, apr_pstrcat(p, from, " - ", until, NULL), p), NULL);
}

static void valid_text(const row_t *row)
{
    const md_window_t *valid = &row->status->valid;

    if (valid->end && valid->start > row->status->now)
        put_line(row, "ValidFrom", md_time_day(valid->start, row->p));
    if (valid->end)
        put_line(row, "ValidUntil", md_time_day(valid->end, row->p));
}

/* ---- columns: where its certificates come from and can be looked at ---- */

/* The CA in use, or those that are configured. */
static const apr_array_header_t *cas_of(const row_t *row)
{
    const md_domain_t *domain = row->status->domain;
    apr_array_header_t *urls = md_strings_make(row->p);

    if (!domain->ca_url)
        return domain->ca_urls ? domain->ca_urls : urls;
    APR_ARRAY_PUSH(urls, const char *) = domain->ca_url;
    return urls;
}

static const char *ca_html(const row_t *row)
{
    const apr_array_header_t *urls = cas_of(row);
    const char *text = "", *url;
    int i;

    for (i = 0; i < urls->nelts; ++i) {
        url = APR_ARRAY_IDX(urls, i, const char *);
        text = apr_pstrcat(row->p, text, i > 0 ? " " : "",
                           link_html(url, md_config_ca_name(url, row->p), row->p), NULL);
    }
    return text;
}

static void ca_text(const row_t *row)
{
    const apr_array_header_t *urls = cas_of(row);
    const char *url, *number;
    int i;

    for (i = 0; i < urls->nelts; ++i) {
        url = APR_ARRAY_IDX(urls, i, const char *);
        number = i > 0 ? apr_itoa(row->p, i) : "";
        put_line(row, apr_pstrcat(row->p, "CAName", number, NULL),
                 md_config_ca_name(url, row->p));
        put_line(row, apr_pstrcat(row->p, "CAURL", number, NULL), url);
    }
}

static const char *stapling_html(const row_t *row)
{
    return row->status->domain->stapling ? "on" : "";
}

static void stapling_text(const row_t *row)
{
    put_line(row, "Stapling", row->status->domain->stapling ? "on" : NULL);
}

/* MDCertificateCheck: name and URL prefix. */
static const char *check_part(const row_t *row, int i)
{
    return APR_ARRAY_IDX(row->status->reg->conf->cert_check, i, const char *);
}

static const char *check_html(const row_t *row)
{
    const apr_array_header_t *certs = row->status->live->certs;
    const char *text = "", *url, *name;
    const md_cert_info_t *cert;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            continue;
        url = apr_pstrcat(row->p, check_part(row, 1), cert->fingerprint, NULL);
        name = apr_psprintf(row->p, "%s[%s]", check_part(row, 0),
                            md_status_cert_label(row->status, certs, i, row->p));
        text = apr_pstrcat(row->p, text, link_html(url, name, row->p), "<br>", NULL);
    }
    return text;
}

static void check_text(const row_t *row)
{
    const apr_array_header_t *certs = row->status->live->certs;
    const md_cert_info_t *cert;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            continue;
        put_line(row, "CheckAtType", md_status_cert_label(row->status, certs, i, row->p));
        put_line(row, "CheckAtName", check_part(row, 0));
        put_line(row, "CheckAtURL", apr_pstrcat(row->p, check_part(row, 1), cert->fingerprint,
                                                NULL));
        put_line(row, "CheckAtFingerprint", cert->fingerprint);
    }
}

/* ---- columns: what goes on ---- */

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

static const char *result_html(const md_job_t *job, int staged, apr_pool_t *p)
{
    if (last_status(job) != APR_SUCCESS)
        return apr_psprintf(p, " Error[%s]: %s %s%s", html(md_err_text(last_status(job), p), p),
                            html(md_json_get_str(job->last, "problem"), p),
                            html(last_detail(job), p), retries(job, p));
    if (!job->finished)
        return apr_pstrcat(p, html(last_detail(job), p), retries(job, p), NULL);
    if (staged == 0)
        return "finished successfully.";
    return apr_psprintf(p, "finished, %d new certificate%s staged.", staged,
                        staged == 1 ? "" : "s");
}

/* A record: of a renewal, with the number of certificates that it has obtained. */
static const char *job_html(const md_job_t *job, int staged, apr_time_t now, apr_pool_t *p)
{
    const char *text = result_html(job, staged, p), *next = "";

    if (!job->finished && job->next_run > now)
        next = when_html("Next run", job->next_run, now, p);
    else if (!job->finished && *text)
        next = "Ongoing...";
    else if (job->finished && staged > 0)
        next = "Awaiting restart";
    return apr_pstrcat(p, text, *next && *text ? "<br>" : "", next, NULL);
}

/* Nothing goes on: what will, unless it has a time. */
static const char *prospect(const md_status_t *status)
{
    if (status->due.at)
        return "Pending";
    return status->domain->renew_mode == MD_RENEW_MANUAL ? "Manual renew" : NULL;
}

static const char *activity_html(const row_t *row)
{
    const md_status_t *status = row->status;
    const char *text;

    if (status->job)
        return job_html(status->job, md_status_staged(status), status->now, row->p);
    if (status->due.at > status->now)
        return when_html("Renew", status->due.at, status->now, row->p);
    text = prospect(status);
    return text ? text : "";
}

static void job_text(const row_t *row, const md_job_t *job, int staged)
{
    if (last_status(job) != APR_SUCCESS) {
        put_line(row, "ActivityLastStatus", md_err_text(last_status(job), row->p));
        put_line(row, "ActivityLastProblem", md_json_get_str(job->last, "problem"));
    }
    put_line(row, "ActivityFinished", job->finished ? "yes" : "no");
    if (job->finished)
        put_line(row, "ActivityNewStaged", apr_itoa(row->p, staged));
    else
        put_line(row, "ActivityLastDetail", last_detail(job));
    if (!job->finished && job->next_run > row->status->now)
        put_seconds(row, "ActivityNextRun", job->next_run - row->status->now);
}

static void activity_text(const row_t *row)
{
    const md_status_t *status = row->status;

    if (status->job)
        job_text(row, status->job, md_status_staged(status));
    else if (status->due.at > status->now)
        put_seconds(row, "ActivityRenew", status->due.at - status->now);
    else
        put_line(row, "Activity", prospect(status));
}

/* ---- the table ---- */

static const struct {
    const char *label;
    const char *(*html)(const row_t *row);
    void (*text)(const row_t *row);
} COLUMNS[] = {
    { "Domain", name_html, name_text },
    { "Names", names_html, names_text },
    { "Status", state_html, state_text },
    { "Valid", valid_html, valid_text },
    { "CA", ca_html, ca_text },
    { "Stapling", stapling_html, stapling_text },
    { "CheckAt", check_html, check_text },
    { "Activity", activity_html, activity_text },
};
#define COLUMN_COUNT (sizeof(COLUMNS) / sizeof(COLUMNS[0]))

static void put_row(const row_t *row)
{
    size_t i;

    md_out_put(row->out, row->number % 2 ? "<tr class='odd'>" : "<tr class='even'>");
    for (i = 0; i < COLUMN_COUNT; ++i)
        md_out_printf(row->out, row->p, "<td>%s</td>", COLUMNS[i].html(row));
    md_out_put(row->out, "</tr>\n");
}

static void put_lines(const row_t *row)
{
    size_t i;

    for (i = 0; i < COLUMN_COUNT; ++i)
        COLUMNS[i].text(row);
}

/* What is read of a domain is gone when the next one comes. */
static void put_each(md_out_t *out, const md_reg_t *reg, void (*put)(const row_t *row),
                     apr_time_t now, apr_pool_t *p)
{
    const apr_array_header_t *domains = md_status_domains(reg, p);
    row_t row = { out, NULL, 0, NULL };

    apr_pool_create(&row.p, p);
    for (; row.number < domains->nelts && out->rv == APR_SUCCESS; ++row.number) {
        apr_pool_clear(row.p);
        row.status = md_status_of(reg, APR_ARRAY_IDX(domains, row.number, const md_domain_t *),
                                  now, row.p);
        put(&row);
    }
    apr_pool_destroy(row.p);
}

void md_report_html(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    size_t i;

    if (reg->domains->nelts == 0)
        return;
    md_out_put(out, "<hr>\n<h3>Managed Certificates</h3>\n<table class='md_status'><thead><tr>");
    for (i = 0; i < COLUMN_COUNT; ++i)
        md_out_printf(out, p, "<th class='%s'>%s</th>", COLUMNS[i].label, COLUMNS[i].label);
    md_out_put(out, "</tr></thead>\n<tbody>\n");
    put_each(out, reg, put_row, now, p);
    md_out_put(out, "</tbody></table>\n");
}

/* ---- how many ---- */

typedef struct counts_t { int total, ok, renew, errored, ready; } counts_t;

static void count_renewal(counts_t *counts, const md_job_t *job)
{
    ++counts->renew;
    if (job && (job->errors > 0 || last_status(job) != APR_SUCCESS))
        ++counts->errored;
    else if (job && job->finished)
        ++counts->ready;
}

static void count(counts_t *counts, const md_status_t *status)
{
    int is_complete = status->live->state == MD_STATE_COMPLETE;

    ++counts->total;
    counts->ok += is_complete;
    if (is_complete ? status->is_due : status->live->state == MD_STATE_INCOMPLETE)
        count_renewal(counts, status->job);
    else if (!is_complete)
        ++counts->errored;
}

static counts_t count_all(const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    counts_t counts = { 0, 0, 0, 0, 0 };
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; reg && i < reg->domains->nelts; ++i) {
        apr_pool_clear(iter);
        count(&counts, md_status_of(reg, md_reg_domain(reg, i), now, iter));
    }
    apr_pool_destroy(iter);
    return counts;
}

/* The keys are those that tools know: `Renew` counts revoked certificates, `Errored` those of which
 * nothing is known. */
static void put_staplings(md_out_t *out, const md_staples_t *staples, apr_pool_t *p)
{
    int i, total = staples ? md_staples_count(staples) : 0, known[] = { 0, 0 };
    md_staple_t staple;

    for (i = 0; i < total; ++i)
        if (md_staples_look(&staple, staples, md_staples_at(staples, i)))
            ++known[staple.status == MD_OCSP_REVOKED];
    md_out_printf(out, p, "ManagedStaplingsTotal: %d\nManagedStaplingsOK: %d\n"
                  "ManagedStaplingsRenew: %d\nManagedStaplingsErrored: %d\n", total, known[0],
                  known[1], total - known[0] - known[1]);
}

void md_report_text(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    counts_t counts = count_all(reg, now, p);

    md_out_printf(out, p, "ManagedCertificatesTotal: %d\nManagedCertificatesOK: %d\n"
                  "ManagedCertificatesRenew: %d\nManagedCertificatesErrored: %d\n"
                  "ManagedCertificatesReady: %d\n", counts.total, counts.ok, counts.renew,
                  counts.errored, counts.ready);
    if (reg)
        put_each(out, reg, put_lines, now, p);
    put_staplings(out, reg ? reg->staples : NULL, p);
}
