/* SPDX-License-Identifier: Apache-2.0 */
/* A second implementation of md_exec.h that runs nothing: the test says how a command ends. */
#ifndef FAKE_EXEC_H
#define FAKE_EXEC_H

#include "../../md_exec.h"

#define FAKE_CALLS 2000

typedef struct fake_call_t {
    char words[400];  /* the arguments, with | between them */
    char env[2000];   /* what is set, a line each; `-NAME` for what is removed */
    apr_time_t at;    /* steady */
} fake_call_t;

extern fake_call_t fake_calls[FAKE_CALLS];
extern int fake_call_count;

/* How the call ends; MD_EXEC_RUNS: not yet. NULL: well. */
extern md_exec_end_t (*fake_exec_answer)(const fake_call_t *call);

/* Why no process can be started; APR_SUCCESS: they can. */
extern apr_status_t fake_exec_lack;

/* Calls whose words contain that. */
int fake_exec_count(const char *part);

#endif
