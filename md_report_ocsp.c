/* SPDX-License-Identifier: Apache-2.0 */
/* What is stapled: a table of columns, each of them in HTML and as lines of text. */
#include "md_report_ocsp.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_cell.h"
#include "md_clock.h"
#include "md_text.h"

/* A certificate on its way to the page. */
typedef struct row_t {
    md_lines_t lines;           /* has its number, the time, the pool */
    const md_reg_t *reg;
    const md_stapled_t *stapled;
    const char *status;
    md_window_t valid;          /* of the response, end 0: there is none */
    apr_time_t refresh_at;      /* 0: it is time, */
    const md_job_t *job;        /* and this is how that goes; NULL: no record */
} row_t;

/* ---- what there is ---- */

/* As processes plan it, by the steady clock; or when the window of the response opens. */
static apr_time_t refresh_of(const row_t *row)
{
    md_staple_plan_t plan = md_staples_plan(row->reg->staples, row->stapled);
    apr_time_t now = row->lines.now, at;

    if (plan.due_at > 0)
        at = now + (plan.due_at - md_clock_steady());
    else
        at = row->valid.end ? md_window_opens(&row->valid, &row->reg->conf->staple_renew_window)
                            : 0;
    return at > now ? at : 0;
}

/* The record is of the name, and says something only of those that lack a response or are due. */
static int is_due(const row_t *row)
{
    return !row->valid.end
           || md_window_opens(&row->valid, &row->reg->conf->staple_renew_window) <= row->lines.now;
}

static void look(row_t *row)
{
    const md_staples_t *staples = row->reg->staples;
    md_staple_t staple;
    md_job_t *job;

    row->status = "unknown";
    row->valid = (md_window_t){ 0, 0 };
    row->job = NULL;
    if (md_staples_look(&staple, staples, row->stapled)) {
        row->status = md_staple_status(&staple);
        row->valid = (md_window_t){ staple.from, staple.until };
    }
    row->refresh_at = refresh_of(row);
    if (is_due(row) && md_job_load(&job, row->reg->store, MD_STORE_OCSP, row->stapled->name, NULL,
                                   row->lines.p) == APR_SUCCESS)
        row->job = job;
}

/* ---- columns ---- */

static const char *name_html(const row_t *row)
{
    return md_cell_text(row->stapled->name, row->lines.p);
}

static void name_text(const row_t *row)
{
    md_lines_put(&row->lines, "Domain", row->stapled->name);
}

static const char *id_html(const row_t *row)
{
    return row->stapled->ocsp->sha1;
}

static void id_text(const row_t *row)
{
    md_lines_put(&row->lines, "CertificateID", row->stapled->ocsp->sha1);
}

static const char *status_html(const row_t *row)
{
    return row->status;
}

static void status_text(const row_t *row)
{
    md_lines_put(&row->lines, "OCSPStatus", row->status);
}

static const char *valid_html(const row_t *row)
{
    return md_cell_validity(&row->valid, row->lines.now, row->lines.p);
}

static void valid_text(const row_t *row)
{
    md_lines_put_validity(&row->lines, "StaplingValid", &row->valid);
}

static const char *responder_html(const row_t *row)
{
    const char *url = row->stapled->ocsp->responder_url;

    return md_cell_link(url, md_uri_host(url, row->lines.p), row->lines.p);
}

static void responder_text(const row_t *row)
{
    const char *url = row->stapled->ocsp->responder_url;

    md_lines_put(&row->lines, "ResponderName", md_uri_host(url, row->lines.p));
    md_lines_put(&row->lines, "ResponderURL", url);
}

static const char *activity_html(const row_t *row)
{
    apr_pool_t *p = row->lines.p;
    const char *when = "", *job = "";

    if (row->refresh_at)
        when = md_cell_when("Refresh", row->refresh_at, row->lines.now, p);
    if (row->job)
        job = md_cell_job(row->job, 0, row->lines.now, p);
    if (!*when && !*job)
        return "Ongoing...";
    return apr_pstrcat(p, when, *when && *job ? ": " : "", job, NULL);
}

static void activity_text(const row_t *row)
{
    if (row->refresh_at)
        md_lines_put_seconds(&row->lines, "ActivityRefresh", row->refresh_at - row->lines.now);
    if (row->job)
        md_lines_put_job(&row->lines, row->job, 0);
    else if (!row->refresh_at)
        md_lines_put(&row->lines, "Activity", "Ongoing");
}

static const struct {
    const char *label;
    const char *(*html)(const row_t *row);
    void (*text)(const row_t *row);
} COLUMNS[] = {
    { "Domain", name_html, name_text },
    { "CertificateID", id_html, id_text },
    { "OCSPStatus", status_html, status_text },
    { "StaplingValid", valid_html, valid_text },
    { "Responder", responder_html, responder_text },
    { "Activity", activity_html, activity_text },
};
#define COLUMN_COUNT (sizeof(COLUMNS) / sizeof(COLUMNS[0]))

/* ---- all of them ---- */

static int by_name(const void *a, const void *b)
{
    const md_stapled_t *x = *(md_stapled_t *const *)a, *y = *(md_stapled_t *const *)b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->ocsp->sha1, y->ocsp->sha1);
}

static const apr_array_header_t *sorted(const md_staples_t *staples, apr_pool_t *p)
{
    int i, count = md_staples_count(staples);
    apr_array_header_t *list = apr_array_make(p, count, sizeof(md_stapled_t *));

    for (i = 0; i < count; ++i)
        APR_ARRAY_PUSH(list, const md_stapled_t *) = md_staples_at(staples, i);
    qsort(list->elts, (size_t)list->nelts, sizeof(md_stapled_t *), by_name);
    return list;
}

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

static void put_each(md_out_t *out, const md_reg_t *reg, void (*put)(const row_t *row, int number),
                     apr_time_t now, apr_pool_t *p)
{
    const apr_array_header_t *list = sorted(reg->staples, p);
    row_t row = { .lines = { .out = out, .now = now }, .reg = reg };
    int i;

    apr_pool_create(&row.lines.p, p);
    for (i = 0; i < list->nelts && out->rv == APR_SUCCESS; ++i) {
        apr_pool_clear(row.lines.p);
        row.lines.prefix = apr_psprintf(row.lines.p, "ManagedStapling[%d]", i);
        row.stapled = APR_ARRAY_IDX(list, i, const md_stapled_t *);
        look(&row);
        put(&row, i);
    }
    apr_pool_destroy(row.lines.p);
}

void md_report_ocsp_html(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    size_t i;

    if (!reg->staples || md_staples_count(reg->staples) == 0)
        return;
    md_out_put(out, "<hr>\n<h3>Managed Staplings</h3>\n"
                    "<table class='md_ocsp_status'><thead><tr>");
    for (i = 0; i < COLUMN_COUNT; ++i)
        md_out_printf(out, p, "<th class='%s'>%s</th>", COLUMNS[i].label, COLUMNS[i].label);
    md_out_put(out, "</tr></thead>\n<tbody>\n");
    put_each(out, reg, put_row, now, p);
    md_out_put(out, "</tbody></table>\n");
}

/* The keys are those that tools know: `Renew` counts revoked certificates, `Errored` those of which
 * nothing is known. */
static void put_counts(md_out_t *out, const md_staples_t *staples, apr_pool_t *p)
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

void md_report_ocsp_text(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    const md_staples_t *staples = reg ? reg->staples : NULL;

    put_counts(out, staples, p);
    if (staples)
        put_each(out, reg, put_lines, now, p);
}
