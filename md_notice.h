/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be told of a domain that is renewed or watched: one event at a time, as often as it
 * should, again when a command failed, and what comes of that. */
#ifndef MD_NOTICE_H
#define MD_NOTICE_H

#include "md_engine.h"
#include "md_event.h"
#include "md_reg.h"

typedef struct md_notice_t {
    /* set by the owner; they live longer */
    const md_reg_t *reg;
    const md_domain_t *domain;

    /* its own; zero at first. Times are of the steady clock */
    md_telling_t *telling;   /* NULL: nothing is being told */
    md_event_kind_t kind;
    const char *detail;      /* why it came about, or NULL */
    int has_ended;           /* but has not come into the record yet, */
    md_err_t result;         /* rv APR_SUCCESS: it was told */
    apr_pool_t *pool;        /* of these */
    int may_begin;           /* nobody objected to the renewal that is due */
    int is_vetoed;           /* somebody did */
    int is_installed;        /* the set that is ready was told of as installed, for good or ill */
    apr_time_t renewed_at;   /* no earlier is the set that is ready told of again */
    apr_time_t warn_at;      /* no earlier is a warning given, */
    int unwarned;            /* as giving it failed that many times in a row */
} md_notice_t;

/* Tell of an event; `why` it came about, or NULL. 1: that is over already, and what comes of it is
 * in the record, which is saved. 0: see md_notice_is_busy. `dice` is a random byte. */
int md_notice_tell(md_notice_t *notice, md_event_kind_t kind, const md_err_t *why, md_job_t *job,
                   unsigned char dice);

/* Go on with what is being told. 1: that takes longer, look again at md_notice_look_at. */
int md_notice_is_busy(md_notice_t *notice);
apr_time_t md_notice_look_at(const md_notice_t *notice);

/* What has ended comes into the record, which is saved. */
void md_notice_settle(md_notice_t *notice, md_job_t *job, unsigned char dice);

/* Forget what is being told; its command is killed. */
void md_notice_drop(md_notice_t *notice);

/* A run has ended: the next one is told of again. */
void md_notice_next(md_notice_t *notice);

/* When to warn that a certificate ends, by the steady clock; MD_TASK_NEVER: there is nothing to
 * warn of. */
apr_time_t md_notice_warn_at(const md_notice_t *notice, const md_job_t *job);

#endif
