/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: other programs, run with a time limit, while nobody waits for them. Never by a shell:
 * what is run is an argument vector. */
#ifndef MD_EXEC_H
#define MD_EXEC_H

#include "md_err.h"

/* The commands of a process. Any thread may start some, and each is looked after by one. */
typedef struct md_execs_t md_execs_t;

/* One of them. */
typedef struct md_exec_t md_exec_t;

typedef enum {
    MD_EXEC_RUNS,
    MD_EXEC_EXITED,    /* by itself, with an exit code */
    MD_EXEC_SIGNALLED, /* by a signal that is not ours */
    MD_EXEC_UNFIT,     /* it cannot be executed */
    MD_EXEC_OVERDUE,   /* we ended it when its time was over, */
    MD_EXEC_STOPPED    /* or in md_execs_stop */
} md_exec_state_t;

typedef struct md_exec_end_t {
    md_exec_state_t state;
    int code;          /* exit code, number of the signal, or errno of MD_EXEC_UNFIT */
    const char *said;  /* the last line on its standard error, printable; "": none */
} md_exec_end_t;

/* `most` of them run at the same time. */
MD_MUST_CHECK
apr_status_t md_execs_create(md_execs_t **pexecs, int most, md_err_t *err, apr_pool_t *p);

/* Start the program argv[0], a path, with the arguments and the environment of this process, in
 * which the `NAME=value` of `env` replace what has the same name; `NAME` alone removes it. Both end
 * with NULL. It has nothing to read, our standard output, a process group of its own and none of
 * our files. After `limit` it is asked to end, and two seconds later it and its group are killed.
 * APR_EAGAIN: as many run already as may; APR_EINTR: md_execs_stop was called (not an md_fail,
 * either of them, and nothing was taken from `p`). That it cannot be executed is how it ends. If
 * `p` goes away first, it is killed. */
MD_MUST_CHECK
apr_status_t md_exec_start(md_exec_t **pexec, md_execs_t *execs, const char *const *argv,
                           const char *const *env, apr_interval_time_t limit, md_err_t *err,
                           apr_pool_t *p);

/* Look after it; never blocks. What it writes to its standard error goes to the log (debug), a line
 * each, up to MD_MAX_COMMAND_OUTPUT. It ends when its own process does, whoever else still has its
 * files. Until then call again at md_exec_look_at, by the steady clock. */
md_exec_end_t md_exec_poll(md_exec_t *exec);
apr_time_t md_exec_look_at(const md_exec_t *exec);

/* What the end of a command that had MD_MAX_COMMAND_TIME comes to: APR_SUCCESS, APR_EGENERAL for an
 * exit code from 1 to 127, APR_TIMEUP or APR_EINCOMPLETE. *ptext is then how it failed, such as
 * `failed with exit code 1.`; else NULL. */
apr_status_t md_exec_result(const char **ptext, const md_exec_end_t *end, apr_pool_t *p);

/* No more of them: whoever runs is waited for until `grace` is over, then asked to end, and killed
 * half a second later. How they ended is for md_exec_poll to tell. */
void md_execs_stop(md_execs_t *execs, apr_interval_time_t grace);

#endif
