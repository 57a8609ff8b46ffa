/* SPDX-License-Identifier: Apache-2.0 */
/* The table of events, and the commands and lines by which one is told. */
#include "md_event.h"

#include <string.h>
#include <unistd.h>

#include <apr_strings.h>
#include <apr_thread_proc.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"
#include "md_time.h"

#define HOUR         apr_time_from_sec(3600)
#define DAY          apr_time_from_sec(24 * 3600)
#define FULL_FIRST   apr_time_from_msec(100) /* until there may be a place for another command; */
#define FULL_LAST    apr_time_from_msec(800) /* thousands may wait for one */

static const struct {
    const char *name;
    apr_interval_time_t interval; /* told once in that time, 0: always */
    int is_notified;              /* MDNotifyCmd, too */
} EVENTS[] = {
    [MD_EVENT_RENEWING]        = { "renewing", HOUR, 0 },
    [MD_EVENT_CHALLENGE_SETUP] = { "challenge-setup", 0, 0 },
    [MD_EVENT_RENEWED]         = { "renewed", 0, 1 }, /* once for each set: see its record */
    [MD_EVENT_ERRORED]         = { "errored", HOUR, 0 },
    [MD_EVENT_EXPIRING]        = { "expiring", DAY, 0 },
    [MD_EVENT_INSTALLED]       = { "installed", 0, 0 }, /* as well */
    [MD_EVENT_OCSP_RENEWED]    = { "ocsp-renewed", DAY, 0 },
    [MD_EVENT_OCSP_ERRORED]    = { "ocsp-errored", HOUR, 0 },
};
_Static_assert(sizeof(EVENTS) / sizeof(EVENTS[0]) == MD_EVENT_KIND_MAX, "one row per event");

/* The commands in their order. */
enum { STAGE_NOTIFY, STAGE_MESSAGE, STAGE_COUNT };
static const struct {
    const char *directive, *problem, *entry;
} COMMANDS[STAGE_COUNT] = {
    [STAGE_NOTIFY]  = { "MDNotifyCmd", "urn:org:apache:httpd:log:AH10108:", "notify-error" },
    [STAGE_MESSAGE] = { "MDMessageCmd", "urn:org:apache:httpd:log:AH10109:", "message-error" },
};

struct md_telling_t {
    const md_events_t *events;
    md_event_t event;
    const char *name;
    int stage;
    const char *const *argv, *const *env; /* of the command of the stage, NULL: not made yet */
    md_exec_t *exec;      /* it, NULL: not begun */
    apr_time_t began_at;  /* steady: that command */
    apr_interval_time_t pause; /* the last one before it could begin, 0: there was none */
    apr_time_t look_at;
    apr_pool_t *p;
};

static const char *name_of(const md_event_t *event, apr_pool_t *p)
{
    const char *name = EVENTS[event->kind].name;

    return event->challenge ? apr_pstrcat(p, name, ":", event->challenge, NULL) : name;
}

const char *md_event_name(const md_telling_t *telling)
{
    return telling->name;
}

/* ---- once in a while ---- */

/* A time in the future was noted while the date was wrong. */
int md_event_is_recent(const md_event_t *event, const md_job_t *job, apr_time_t now)
{
    apr_interval_time_t interval = EVENTS[event->kind].interval;
    const char *name = name_of(event, job->p);
    apr_time_t handled;

    if (interval == 0)
        return 0;
    handled = md_job_logged_at(job, apr_pstrcat(job->p, "message-", name, NULL));
    if (handled > now || now - handled >= interval)
        return 0;
    md_log(MD_LOG_DEBUG, MD_LOGNO(10267) "%s: rate limiting notification about '%s'",
           event->domain, name);
    return 1;
}

/* ---- MDEventLog ---- */

static md_json_t *make_line(const md_telling_t *telling)
{
    md_json_t *line = md_json_object(telling->p);

    md_json_set_str(line, "time", md_time_rfc3339(md_clock_now(), telling->p));
    md_json_set_str(line, "event", telling->name);
    md_json_set_str(line, "domain", telling->event.domain);
    return line;
}

/* One write for each line, so that those of several processes do not mix. */
static void write_line(const md_telling_t *telling, const md_json_t *line)
{
    const char *text = md_json_text(line, 1, telling->p);

    text = apr_pstrcat(telling->p, text, "\n", NULL);
    if (write(telling->events->log, text, strlen(text)) < 0)
        md_log(MD_LOG_DEBUG, "cannot write to the MDEventLog file");
}

static int has_log(const md_telling_t *telling)
{
    return telling->events && telling->events->log >= 0;
}

static void set_time(md_json_t *line, const char *key, apr_time_t t, apr_pool_t *p)
{
    if (t)
        md_json_set_str(line, key, md_time_rfc3339(t, p));
}

static void log_event(const md_telling_t *telling)
{
    const md_event_t *event = &telling->event;
    md_json_t *line;

    if (!has_log(telling) || event->attempt > 1)
        return;
    line = make_line(telling);
    md_json_set_str(line, "problem", event->problem);
    md_json_set_str(line, "detail", event->detail);
    set_time(line, "next-try", event->next_try, telling->p);
    set_time(line, "expires", event->expires, telling->p);
    write_line(telling, line);
}

/* `err` NULL: the command did what it was to do. */
static void log_attempt(const md_telling_t *telling, const md_exec_end_t *end, const md_err_t *err)
{
    md_json_t *line;

    if (!has_log(telling))
        return;
    line = make_line(telling);
    md_json_set_str(line, "command", COMMANDS[telling->stage].directive);
    md_json_set_int(line, "attempt", telling->event.attempt);
    md_json_set_str(line, "result", err ? "failed" : "ok");
    if (end->state == MD_EXEC_EXITED)
        md_json_set_int(line, "exit", end->code);
    md_json_set_num(line, "seconds",
                    (double)(md_clock_steady() - telling->began_at) / APR_USEC_PER_SEC);
    if (err)
        md_json_set_str(line, "detail", err->detail);
    if (end->said && *end->said)
        md_json_set_str(line, "output", end->said);
    write_line(telling, line);
}

/* ---- commands ---- */

static const char *line_of(const md_telling_t *telling)
{
    if (!telling->events)
        return NULL;
    if (telling->stage == STAGE_MESSAGE)
        return telling->events->message_cmd;
    return EVENTS[telling->event.kind].is_notified ? telling->events->notify_cmd : NULL;
}

/* The words of the configuration, and behind them as whole arguments what it is about. */
static const char *const *arguments(const md_telling_t *telling)
{
    apr_array_header_t *list = md_strings_make(telling->p);
    char **words;

    if (apr_tokenize_to_argv(line_of(telling), &words, telling->p) == APR_SUCCESS)
        for (; *words; ++words)
            APR_ARRAY_PUSH(list, const char *) = *words;
    if (telling->stage == STAGE_MESSAGE)
        APR_ARRAY_PUSH(list, const char *) = telling->name;
    APR_ARRAY_PUSH(list, const char *) = telling->event.domain;
    APR_ARRAY_PUSH(list, const char *) = NULL;
    return (const char *const *)list->elts;
}

/* What there is nothing to say of is not set, whatever we have inherited. */
static void add_variable(apr_array_header_t *list, const char *name, const char *value)
{
    APR_ARRAY_PUSH(list, const char *) =
        value ? apr_pstrcat(list->pool, name, "=", md_text_line(value, MD_MAX_TEXT, list->pool),
                            NULL) : name;
}

static const char *const *variables(const md_telling_t *telling)
{
    apr_array_header_t *list = md_strings_make(telling->p);
    const md_event_t *event = &telling->event;
    apr_pool_t *p = telling->p;

    add_variable(list, "MD_NAME", event->domain);
    add_variable(list, "MD_EVENT", telling->name);
    add_variable(list, "MD_STORE", telling->events->store_dir);
    add_variable(list, "MD_PROBLEM", event->problem);
    add_variable(list, "MD_DETAIL", event->detail);
    add_variable(list, "MD_NEXT_TRY",
                 event->next_try ? md_time_rfc3339(event->next_try, p) : NULL);
    add_variable(list, "MD_EXPIRES", event->expires ? md_time_rfc3339(event->expires, p) : NULL);
    APR_ARRAY_PUSH(list, const char *) = NULL;
    return (const char *const *)list->elts;
}

static void await_place(md_telling_t *telling)
{
    telling->pause = telling->pause ? telling->pause * 2 : FULL_FIRST;
    if (telling->pause > FULL_LAST)
        telling->pause = FULL_LAST;
    telling->look_at = md_clock_steady() + telling->pause;
}

/* There may be no place for it at many looks: they take no memory. */
static apr_status_t start_command(md_telling_t *telling, md_err_t *err)
{
    apr_status_t rv;

    if (!telling->argv) {
        telling->argv = arguments(telling);
        telling->env = variables(telling);
    }
    telling->began_at = md_clock_steady();
    rv = md_exec_start(&telling->exec, telling->events->execs, telling->argv, telling->env,
                       MD_MAX_COMMAND_TIME, err, telling->p);
    if (APR_STATUS_IS_EAGAIN(rv))
        await_place(telling);
    return rv;
}

static apr_status_t fail(const md_telling_t *telling, apr_status_t rv, const char *text,
                         md_err_t *err)
{
    md_fail_problem(err, rv, COMMANDS[telling->stage].problem, "%s %s %s",
                    COMMANDS[telling->stage].directive, line_of(telling), text);
    md_log(MD_LOG_ERR, "md[%s] while[telling of '%s'] problem[%s] detail[%s]",
           telling->event.domain, telling->name, err->type,
           md_text_line(err->detail, MD_MAX_TEXT, telling->p));
    return rv;
}

/* How the command ended. */
static apr_status_t judge(md_telling_t *telling, const md_exec_end_t *end, md_err_t *err)
{
    const char *text;
    apr_status_t rv;

    telling->exec = NULL;
    telling->argv = NULL;
    telling->pause = 0;
    if (end->state == MD_EXEC_STOPPED)
        return APR_EINTR;
    rv = md_exec_result(&text, end, telling->p);
    if (text)
        (void)fail(telling, rv, text, err);
    log_attempt(telling, end, text ? err : NULL);
    return text ? rv : APR_SUCCESS;
}

static apr_status_t run_command(md_telling_t *telling, md_err_t *err)
{
    md_exec_end_t end;
    apr_status_t rv = APR_SUCCESS;

    if (!line_of(telling))
        return APR_SUCCESS;
    if (!telling->exec)
        rv = start_command(telling, err);
    if (APR_STATUS_IS_EAGAIN(rv) || APR_STATUS_IS_EINTR(rv))
        return rv;
    if (rv != APR_SUCCESS)
        return fail(telling, md_is_lack(rv) ? rv : APR_EINCOMPLETE,
                    apr_pstrcat(telling->p, "failed with exit code 255. ", err->detail, NULL), err);
    end = md_exec_poll(telling->exec);
    if (end.state != MD_EXEC_RUNS)
        return judge(telling, &end, err);
    telling->look_at = md_exec_look_at(telling->exec);
    return APR_EAGAIN;
}

/* ---- an event ---- */

md_telling_t *md_event_tell(const md_events_t *events, const md_event_t *event, apr_pool_t *p)
{
    md_telling_t *telling = apr_pcalloc(p, sizeof(*telling));

    telling->events = events;
    telling->event = *event;
    telling->event.domain = apr_pstrdup(p, event->domain);
    telling->event.challenge = apr_pstrdup(p, event->challenge);
    telling->event.problem = apr_pstrdup(p, event->problem);
    telling->event.detail = apr_pstrdup(p, event->detail);
    telling->name = name_of(&telling->event, p);
    telling->p = p;
    log_event(telling);
    return telling;
}

apr_status_t md_event_step(md_telling_t *telling, md_err_t *err)
{
    apr_status_t rv;

    for (; telling->stage < STAGE_COUNT; ++telling->stage) {
        rv = run_command(telling, err);
        if (rv != APR_SUCCESS)
            return rv;
        if (telling->stage == STAGE_NOTIFY && telling->event.kind == MD_EVENT_RENEWED
            && !telling->event.is_live)
            md_log(MD_LOG_NOTICE, MD_LOGNO(10059) "The Managed Domain %s has been setup and "
                   "changes will be activated on next (graceful) server restart.",
                   telling->event.domain);
    }
    return APR_SUCCESS;
}

apr_time_t md_event_look_at(const md_telling_t *telling)
{
    return telling->look_at;
}

void md_event_record(md_job_t *job, const md_telling_t *telling, const md_err_t *err,
                     apr_time_t now)
{
    if (err) {
        md_job_log(job, now, COMMANDS[telling->stage].entry,
                   telling->stage == STAGE_NOTIFY ? err->type : telling->name, err->detail);
        return;
    }
    md_job_log(job, now, apr_pstrcat(job->p, "message-", telling->name, NULL), NULL, NULL);
    job->notified = 1;
}
