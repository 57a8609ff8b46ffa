/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: which renewals are due, most urgent first, how many at once, on a few worker threads
 * that nobody makes sleep. Threads exist only while there is work. */
#ifndef MD_ENGINE_H
#define MD_ENGINE_H

#include "md_reg.h"

typedef struct md_engine_t md_engine_t;

/* An engine over all watched domains of `reg`. It starts nothing by itself. */
MD_MUST_CHECK
apr_status_t md_engine_create(md_engine_t **pengine, const md_reg_t *reg,
                              const char *user_agent, md_err_t *err, apr_pool_t *p);

/* Start what is due and return at once: when to call again (absolute). Call from one thread. */
apr_time_t md_engine_run(md_engine_t *engine, apr_time_t now);

/* In place of md_engine_run, for a tool that has the lock of staging: one attempt for each watched
 * domain, whatever its record says, and back when all have ended. Nothing is tried again; a wait of
 * more than a minute ends an attempt, too. Call once. */
MD_MUST_CHECK
apr_status_t md_engine_drive(md_engine_t *engine, md_err_t *err);

/* After it: how the attempt for the i-th watched domain ended. rv APR_SUCCESS: its set is staged;
 * APR_EAGAIN: the CA wants to be asked again later. What went wrong is in the log already. */
const md_err_t *md_engine_result(const md_engine_t *engine, int i);

/* Stop within a second or two and wait for it; what was in work goes on from the store another
 * time. */
void md_engine_stop(md_engine_t *engine);

#endif
