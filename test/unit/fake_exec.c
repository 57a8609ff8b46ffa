/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that are not run. */
#include "fake_exec.h"

#include <string.h>

#include <apr_strings.h>

#include "../../md_clock.h"

struct md_execs_t {
    int is_stopping;
};

struct md_exec_t {
    md_execs_t *execs;
    const fake_call_t *call;
    apr_time_t deadline, look_at;
};

fake_call_t fake_calls[FAKE_CALLS];
int fake_call_count;
apr_status_t fake_exec_lack;
md_exec_end_t (*fake_exec_answer)(const fake_call_t *call);

static void append(char *text, apr_size_t size, const char *more, const char *between)
{
    apr_size_t len = strlen(text);

    apr_snprintf(text + len, size - len, "%s%s", len ? between : "", more);
}

int fake_exec_count(const char *part)
{
    int i, count = 0;

    for (i = 0; i < fake_call_count; ++i)
        count += strstr(fake_calls[i].words, part) != NULL;
    return count;
}

apr_status_t md_execs_create(md_execs_t **pexecs, int most, md_err_t *err, apr_pool_t *p)
{
    (void)err;
    (void)most;
    *pexecs = apr_pcalloc(p, sizeof(**pexecs));
    return APR_SUCCESS;
}

apr_status_t md_exec_start(md_exec_t **pexec, md_execs_t *execs, const char *const *argv,
                           const char *const *env, apr_interval_time_t limit, md_err_t *err,
                           apr_pool_t *p)
{
    fake_call_t *call = &fake_calls[fake_call_count < FAKE_CALLS - 1 ? fake_call_count++
                                                                    : FAKE_CALLS - 1];
    md_exec_t *exec = apr_pcalloc(p, sizeof(*exec));

    if (fake_exec_lack != APR_SUCCESS)
        return md_fail(err, fake_exec_lack, "cannot start a process");
    memset(call, 0, sizeof(*call));
    call->at = md_clock_steady();
    for (; *argv; ++argv)
        append(call->words, sizeof(call->words), *argv, "|");
    for (; *env; ++env)
        append(call->env, sizeof(call->env),
               strchr(*env, '=') ? *env : apr_pstrcat(p, "-", *env, NULL), "\n");
    exec->execs = execs;
    exec->call = call;
    exec->deadline = call->at + limit;
    exec->look_at = call->at;
    *pexec = exec;
    return APR_SUCCESS;
}

static void plan_look(md_exec_t *exec)
{
    exec->look_at = md_clock_steady() + apr_time_from_sec(1);
    if (exec->look_at > exec->deadline)
        exec->look_at = exec->deadline;
}

md_exec_end_t md_exec_poll(md_exec_t *exec)
{
    md_exec_end_t end = { .state = MD_EXEC_EXITED, .said = "" };

    if (fake_exec_answer)
        end = fake_exec_answer(exec->call);
    if (end.state == MD_EXEC_RUNS && exec->execs->is_stopping)
        end.state = MD_EXEC_STOPPED;
    if (end.state == MD_EXEC_RUNS && md_clock_steady() >= exec->deadline)
        end.state = MD_EXEC_OVERDUE;
    plan_look(exec);
    return end;
}

apr_time_t md_exec_look_at(const md_exec_t *exec)
{
    return exec->look_at;
}

void md_execs_stop(md_execs_t *execs, apr_interval_time_t grace)
{
    (void)grace;
    execs->is_stopping = 1;
}
