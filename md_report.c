/* SPDX-License-Identifier: Apache-2.0 */
/* Sections of server-status: a table of columns, each of them in HTML and as lines of text. */
#include "md_report.h"

#include <apr_strings.h>

#include "md_cell.h"
#include "md_limits.h"
#include "md_report_ocsp.h"
#include "md_text.h"

/* A domain on its way to the page. */
typedef struct row_t {
    md_lines_t lines;          /* has its number, the pool */
    const md_status_t *status;
} row_t;

/* ---- columns: what a domain is ---- */

static const char *name_html(const row_t *row)
{
    return md_cell_text(row->status->domain->name, row->lines.p);
}

static void name_text(const row_t *row)
{
    md_lines_put(&row->lines, "Domain", row->status->domain->name);
}

static const char *names_html(const row_t *row)
{
    const char *names = apr_array_pstrcat(row->lines.p, row->status->domain->names, ' ');

    return apr_psprintf(row->lines.p, "<div style=\"max-width:400px;\">%s</div>",
                        md_text_html(names, MD_MAX_NAMES_TEXT, row->lines.p));
}

static void names_text(const row_t *row)
{
    const apr_array_header_t *names = row->status->domain->names;
    int i;

    for (i = 0; i < names->nelts; ++i)
        md_lines_put(&row->lines, apr_psprintf(row->lines.p, "Names[%d]", i),
                     APR_ARRAY_IDX(names, i, const char *));
}

static const char *state(const row_t *row)
{
    const md_status_t *status = row->status;

    switch (status->live->state) {
    case MD_STATE_INCOMPLETE:
        if (!status->live->state_descr)
            return "incomplete";
        return apr_pstrcat(row->lines.p, "incomplete: ", status->live->state_descr, NULL);
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
    return md_cell_text(state(row), row->lines.p);
}

static void state_text(const row_t *row)
{
    md_lines_put(&row->lines, "Status", state(row));
}

static const char *valid_html(const row_t *row)
{
    return md_cell_validity(&row->status->valid, row->lines.now, row->lines.p);
}

static void valid_text(const row_t *row)
{
    md_lines_put_validity(&row->lines, "Valid", &row->status->valid);
}

/* ---- columns: where its certificates come from and can be looked at ---- */

/* The CA in use, or those that are configured. */
static const apr_array_header_t *cas_of(const row_t *row)
{
    const md_domain_t *domain = row->status->domain;
    apr_array_header_t *urls = md_strings_make(row->lines.p);

    if (!domain->ca_url)
        return domain->ca_urls ? domain->ca_urls : urls;
    APR_ARRAY_PUSH(urls, const char *) = domain->ca_url;
    return urls;
}

static const char *ca_html(const row_t *row)
{
    const apr_array_header_t *urls = cas_of(row);
    const char *text = "", *url, *name;
    int i;

    for (i = 0; i < urls->nelts; ++i) {
        url = APR_ARRAY_IDX(urls, i, const char *);
        name = md_config_ca_name(url, row->lines.p);
        text = apr_pstrcat(row->lines.p, text, i > 0 ? " " : "",
                           md_cell_link(url, name, row->lines.p), NULL);
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
        number = i > 0 ? apr_itoa(row->lines.p, i) : "";
        md_lines_put(&row->lines, apr_pstrcat(row->lines.p, "CAName", number, NULL),
                 md_config_ca_name(url, row->lines.p));
        md_lines_put(&row->lines, apr_pstrcat(row->lines.p, "CAURL", number, NULL), url);
    }
}

static const char *stapling_html(const row_t *row)
{
    return row->status->domain->stapling ? "on" : "";
}

static void stapling_text(const row_t *row)
{
    md_lines_put(&row->lines, "Stapling", row->status->domain->stapling ? "on" : NULL);
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
        url = apr_pstrcat(row->lines.p, check_part(row, 1), cert->fingerprint, NULL);
        name = apr_psprintf(row->lines.p, "%s[%s]", check_part(row, 0),
                            md_status_cert_label(row->status, certs, i, row->lines.p));
        text = apr_pstrcat(row->lines.p, text, md_cell_link(url, name, row->lines.p), "<br>", NULL);
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
        md_lines_put(&row->lines, "CheckAtType",
                     md_status_cert_label(row->status, certs, i, row->lines.p));
        md_lines_put(&row->lines, "CheckAtName", check_part(row, 0));
        md_lines_put(&row->lines, "CheckAtURL",
                     apr_pstrcat(row->lines.p, check_part(row, 1), cert->fingerprint, NULL));
        md_lines_put(&row->lines, "CheckAtFingerprint", cert->fingerprint);
    }
}

/* ---- columns: what goes on ---- */

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
        return md_cell_job(status->job, md_status_staged(status), status->now, row->lines.p);
    if (status->due.at > status->now)
        return md_cell_when("Renew", status->due.at, status->now, row->lines.p);
    text = prospect(status);
    return text ? text : "";
}

static void activity_text(const row_t *row)
{
    const md_status_t *status = row->status;

    if (status->job)
        md_lines_put_job(&row->lines, status->job, md_status_staged(status));
    else if (status->due.at > status->now)
        md_lines_put_seconds(&row->lines, "ActivityRenew", status->due.at - status->now);
    else
        md_lines_put(&row->lines, "Activity", prospect(status));
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

static void put_row(const row_t *row, int number)
{
    size_t i;

    md_out_put(row->lines.out, number % 2 ? "<tr class='odd'>" : "<tr class='even'>");
    for (i = 0; i < COLUMN_COUNT; ++i)
        md_out_printf(row->lines.out, row->lines.p, "<td>%s</td>", COLUMNS[i].html(row));
    md_out_put(row->lines.out, "</tr>\n");
}

static void put_lines(const row_t *row, int number)
{
    size_t i;

    (void)number;
    for (i = 0; i < COLUMN_COUNT; ++i)
        COLUMNS[i].text(row);
}

/* The domains of a report in order of name, with what is known of each: NULL for one that the store
 * was read for, as that takes much memory. It is gathered again when its turn comes. */
typedef struct gathered_t {
    const md_reg_t *reg;
    const apr_array_header_t *domains;
    const md_status_t **statuses;
    apr_time_t now;
} gathered_t;

static const md_status_t *status_at(const gathered_t *gathered, int i, apr_pool_t *p)
{
    if (gathered->statuses && gathered->statuses[i])
        return gathered->statuses[i];
    return md_status_of(gathered->reg, APR_ARRAY_IDX(gathered->domains, i, const md_domain_t *),
                        gathered->now, p);
}

/* What is read of a domain is gone when the next one comes. */
static void put_each(md_out_t *out, const gathered_t *gathered,
                     void (*put)(const row_t *row, int number), apr_pool_t *p)
{
    row_t row = { .lines = { .out = out, .now = gathered->now } };
    int i;

    apr_pool_create(&row.lines.p, p);
    for (i = 0; i < gathered->domains->nelts && out->rv == APR_SUCCESS; ++i) {
        apr_pool_clear(row.lines.p);
        row.lines.prefix = apr_psprintf(row.lines.p, "ManagedDomain[%d]", i);
        row.status = status_at(gathered, i, row.lines.p);
        put(&row, i);
    }
    apr_pool_destroy(row.lines.p);
}

static void put_table(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    const gathered_t gathered = { reg, md_status_domains(reg, p), NULL, now };
    size_t i;

    md_out_put(out, "<hr>\n<h3>Managed Certificates</h3>\n<table class='md_status'><thead><tr>");
    for (i = 0; i < COLUMN_COUNT; ++i)
        md_out_printf(out, p, "<th class='%s'>%s</th>", COLUMNS[i].label, COLUMNS[i].label);
    md_out_put(out, "</tr></thead>\n<tbody>\n");
    put_each(out, &gathered, put_row, p);
    md_out_put(out, "</tbody></table>\n");
}

void md_report_html(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    if (reg->domains->nelts > 0)
        put_table(out, reg, now, p);
    md_report_ocsp_html(out, reg, now, p);
}

/* ---- how many ---- */

typedef struct counts_t { int total, ok, renew, errored, ready; } counts_t;

static void count_renewal(counts_t *counts, const md_job_t *job)
{
    ++counts->renew;
    if (job && (job->errors > 0 || md_json_get_int(job->last, "status", 0) != APR_SUCCESS))
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

/* The numbers stand before the rows: what is gathered for them is kept for these. */
static counts_t count_all(gathered_t *gathered, apr_pool_t *p)
{
    counts_t counts = { 0, 0, 0, 0, 0 };
    const md_status_t *status;
    apr_pool_t *iter;
    int i, n = gathered->domains->nelts;

    gathered->statuses = apr_pcalloc(p, (apr_size_t)n * sizeof(*gathered->statuses));
    apr_pool_create(&iter, p);
    for (i = 0; i < n; ++i) {
        status = status_at(gathered, i, iter);
        count(&counts, status);
        if (!status->job && !status->advice)
            gathered->statuses[i] = apr_pmemdup(p, status, sizeof(*status));
        apr_pool_clear(iter);
    }
    apr_pool_destroy(iter);
    return counts;
}

void md_report_text(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    gathered_t gathered = { reg, reg ? md_status_domains(reg, p) : md_strings_make(p), NULL, now };
    counts_t counts = count_all(&gathered, p);

    md_out_printf(out, p, "ManagedCertificatesTotal: %d\nManagedCertificatesOK: %d\n"
                  "ManagedCertificatesRenew: %d\nManagedCertificatesErrored: %d\n"
                  "ManagedCertificatesReady: %d\n", counts.total, counts.ok, counts.renew,
                  counts.errored, counts.ready);
    put_each(out, &gathered, put_lines, p);
    md_report_ocsp_text(out, reg, now, p);
}
