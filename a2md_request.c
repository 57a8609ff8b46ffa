/* SPDX-License-Identifier: Apache-2.0 */
/* a2md status, renew, check: how the domains are by the store, and requests to the server that
 * works with it. */
#include "a2md.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_outlook.h"
#include "md_wish.h"
#include "md_text.h"

#define COLUMNS    100
#define MAX_NAME   40                      /* columns of a name */
#define TICK       apr_time_from_msec(200)
#define TAKEN_MOST apr_time_from_sec(30)   /* for a server to take a request up, */
#define DONE_MOST  apr_time_from_sec(4000) /* and to end what that began */

/* ---- the table ---- */

typedef struct row_t {
    const char *name, *expires;
    md_outlook_t outlook;
} row_t;

static int by_urgency(const void *a, const void *b)
{
    const row_t *one = a, *other = b;
    int order = (int)one->outlook.tone - (int)other->outlook.tone;

    return order ? order : strcmp(one->name, other->name);
}

/* Text from outside in so many columns. */
static const char *clip(const char *text, size_t columns, apr_pool_t *p)
{
    const char *plain = md_text_printable(text, p);

    return strlen(plain) <= columns ? plain
           : apr_psprintf(p, "%.*s...", (int)columns - 3, plain);
}

static row_t make_row(const a2md_t *tool, const md_domain_t *domain, apr_time_t now)
{
    const md_status_t *status = md_status_of(tool->reg, domain, now, tool->p);
    row_t row = { clip(domain->name, MAX_NAME, tool->p), "-", md_outlook_of(status, tool->p) };
    const char *words;

    if (status->valid.end) {
        words = md_time_words(status->valid.end, now, tool->p);
        row.expires = apr_pstrndup(tool->p, words, strcspn(words, ","));
    }
    return row;
}

/* What happens next, and when. */
static const char *next_words(const md_outlook_t *outlook, apr_time_t now, apr_pool_t *p)
{
    if (!outlook->next)
        return "";
    return outlook->next_at ? apr_pstrcat(p, outlook->next, " ",
                                          md_time_words(outlook->next_at, now, p), NULL)
                            : outlook->next;
}

static size_t longer(size_t width, const char *text)
{
    return strlen(text) > width ? strlen(text) : width;
}

static void print_line(const char *line, apr_pool_t *p)
{
    printf("%s\n", clip(line, COLUMNS, p));
}

static void print_row(const row_t *row, const int widths[3], apr_time_t now, apr_pool_t *p)
{
    const md_outlook_t *outlook = &row->outlook;

    print_line(apr_psprintf(p, "%-*s  %-*s  %-*s  %s", widths[0], row->name, widths[1],
                            outlook->state, widths[2], row->expires,
                            next_words(outlook, now, p)), p);
    if (outlook->what)
        print_line(apr_pstrcat(p, "    ", outlook->what, outlook->detail ? ": " : "",
                               outlook->detail, NULL), p);
}

static void print_table(const a2md_t *tool, apr_time_t now)
{
    size_t name = strlen("DOMAIN"), state = strlen("STATE"), expires = strlen("EXPIRES");
    int count = tool->reg->domains->nelts, widths[3], i;
    row_t *rows = apr_palloc(tool->p, sizeof(row_t) * (size_t)(count + 1));

    for (i = 0; i < count; ++i) {
        rows[i] = make_row(tool, md_reg_domain(tool->reg, i), now);
        name = longer(name, rows[i].name);
        state = longer(state, rows[i].outlook.state);
        expires = longer(expires, rows[i].expires);
    }
    widths[0] = (int)name;
    widths[1] = (int)state;
    widths[2] = (int)expires;
    qsort(rows, (size_t)count, sizeof(row_t), by_urgency);
    printf("%-*s  %-*s  %-*s  NEXT\n", widths[0], "DOMAIN", widths[1], "STATE", widths[2],
           "EXPIRES");
    for (i = 0; i < count; ++i)
        print_row(&rows[i], widths, now, tool->p);
}

/* By the store as it is now: what only the server's memory has is not known. */
apr_status_t a2md_status(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = a2md_load(tool, argc, argv, err);
    apr_time_t now = md_clock_now();
    md_domain_t *domain;
    int i;

    if (rv != APR_SUCCESS && argc > 0)
        return rv;
    md_reg_load_note(tool->reg, tool->p);
    for (i = 0; i < tool->reg->domains->nelts; ++i) {
        domain = md_reg_domain(tool->reg, i);
        domain->is_watched = 1;
        if (tool->output)
            a2md_show(tool, md_status_to_json(md_status_whole(tool->reg, domain, now, tool->p),
                                              tool->p));
    }
    if (!tool->output)
        print_table(tool, now);
    return rv;
}

/* ---- requests ---- */

typedef struct ask_t {
    const char *name;
    md_wish_t request;
    int is_taken, is_done;
    apr_time_t since;        /* the record has whole seconds */
    int told;                /* how many of its entries since then */
    apr_status_t rv;         /* what came of it */
} ask_t;

/* The failures are in the log. */
static ask_t *make_requests(a2md_t *tool, md_wish_kind_t kind)
{
    int count = tool->reg->domains->nelts, i;
    ask_t *asks = apr_pcalloc(tool->p, sizeof(ask_t) * (size_t)(count + 1));
    apr_time_t now = md_clock_now();
    md_err_t err;

    md_err_init(&err, tool->p);
    for (i = 0; i < count; ++i) {
        asks[i].name = md_reg_domain(tool->reg, i)->name;
        asks[i].since = now - now % APR_USEC_PER_SEC;
        asks[i].rv = md_wish_make(&asks[i].request, tool->reg->store, asks[i].name, kind, now,
                                     &err, tool->p);
        asks[i].is_done = asks[i].rv != APR_SUCCESS;
        if (asks[i].is_done)
            md_log(MD_LOG_ERR, "%s: cannot make the request: %s", asks[i].name, err.detail);
        md_err_clear(&err);
    }
    return asks;
}

/* How many entries the log has since then: the newest come first. */
static int count_since(const md_json_t *log, apr_time_t since, apr_pool_t *tmp)
{
    apr_size_t i = 0;

    while (i < md_json_size(log) && md_json_get_time(md_json_at(log, i, tmp), "when") >= since)
        ++i;
    return (int)i;
}

/* What the server has noted since this was last called. */
static void tell_progress(const a2md_t *tool, ask_t *ask, apr_pool_t *tmp)
{
    const char *detail;
    md_job_t *job;
    int count;

    if (md_job_load(&job, tool->reg->store, MD_STORE_STAGING, ask->name, NULL, tmp) != APR_SUCCESS)
        return;
    count = count_since(job->log, ask->since, tmp);
    for (; ask->told < count; ++ask->told) {
        detail = md_json_get_str(md_json_at(job->log, (apr_size_t)(count - ask->told - 1), tmp),
                                 "detail");
        if (detail)
            md_log(MD_LOG_INFO, "%s: %s", ask->name, md_text_printable(detail, tmp));
    }
}

static void conclude(a2md_t *tool, ask_t *ask, apr_status_t rv)
{
    ask->is_done = 1;
    ask->rv = rv;
    md_wish_withdraw(tool->reg->store, ask->name, tool->p);
}

/* What a check found. */
static void tell_hints(const ask_t *ask, const md_wish_answer_t *answer, apr_pool_t *tmp)
{
    int i, count = answer->hints ? answer->hints->nelts : 0;

    for (i = 0; i < count && i < MD_MAX_HINTS; ++i)
        md_log(MD_LOG_WARNING, "%s",
               md_text_printable(APR_ARRAY_IDX(answer->hints, i, const char *), tmp));
    if (count == 0 && answer->rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, "%s: nothing was found that would keep its CA from issuing", ask->name);
}

static void tell_outcome(const ask_t *ask, const md_wish_answer_t *answer, apr_pool_t *tmp)
{
    const char *detail = answer->detail ? md_text_printable(answer->detail, tmp)
                                        : md_err_text(answer->rv, tmp);

    if (answer->rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, "%s: no new certificate: %s", ask->name, detail);
    else if (ask->request.kind == MD_WISH_RENEW)
        md_log(MD_LOG_INFO, "%s: a new certificate is ready; reload the server to put it into "
               "service", ask->name);
    if (ask->request.kind == MD_WISH_CHECK)
        tell_hints(ask, answer, tmp);
}

/* One look at what became of it. */
static void look(a2md_t *tool, ask_t *ask, apr_interval_time_t waited, apr_pool_t *tmp)
{
    md_wish_answer_t answer = { .is_done = 0 };

    if (md_wish_find_answer(&answer, tool->reg->store, ask->name, &ask->request, tmp)) {
        ask->is_taken = 1;
        tell_progress(tool, ask, tmp);
        if (!answer.is_done)
            return;
        tell_outcome(ask, &answer, tmp);
        conclude(tool, ask, answer.rv);
    }
    else if (!ask->is_taken && waited > TAKEN_MOST) {
        md_log(MD_LOG_ERR, "%s: no server has taken up the request within %s. Is a server running "
               "that manages this domain and uses the store %s?", ask->name,
               md_duration_print(TAKEN_MOST, tmp), tool->dir);
        conclude(tool, ask, APR_TIMEUP);
    }
}

static int is_any_left(const ask_t *asks, int count)
{
    int i;

    for (i = 0; i < count; ++i)
        if (!asks[i].is_done)
            return 1;
    return 0;
}

static void await(a2md_t *tool, ask_t *asks)
{
    int count = tool->reg->domains->nelts, i;
    apr_time_t began_at = md_clock_steady(), steady = began_at;
    apr_pool_t *tmp;

    apr_pool_create(&tmp, tool->p);
    while (is_any_left(asks, count) && steady - began_at < DONE_MOST) {
        md_clock_sleep(TICK);
        steady = md_clock_steady();
        for (i = 0; i < count; ++i) {
            apr_pool_clear(tmp);
            if (!asks[i].is_done)
                look(tool, &asks[i], steady - began_at, tmp);
        }
    }
    apr_pool_destroy(tmp);
}

/* The first failure counts. */
static apr_status_t result(const a2md_t *tool, const ask_t *asks)
{
    int i;

    for (i = 0; i < tool->reg->domains->nelts; ++i) {
        if (asks[i].rv != APR_SUCCESS)
            return asks[i].rv;
        if (!asks[i].is_done && !tool->waits_not)
            return APR_TIMEUP;
    }
    return APR_SUCCESS;
}

static apr_status_t request(a2md_t *tool, md_wish_kind_t kind, int argc,
                            const char *const *argv, md_err_t *err)
{
    apr_status_t rv = a2md_load(tool, argc, argv, err);
    ask_t *asks;

    if (rv != APR_SUCCESS)
        return rv;
    asks = make_requests(tool, kind);
    if (!tool->waits_not)
        await(tool, asks);
    return result(tool, asks);
}

apr_status_t a2md_renew(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    return request(tool, MD_WISH_RENEW, argc, argv, err);
}

/* What the server was told is in the store by now. */
apr_status_t a2md_check(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = request(tool, MD_WISH_CHECK, argc, argv, err);

    if (rv == APR_SUCCESS && !tool->waits_not)
        rv = a2md_status(tool, argc, argv, err);
    return rv;
}
