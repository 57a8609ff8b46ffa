/* SPDX-License-Identifier: Apache-2.0 */
/* Sets that are in service though no start has moved them to `domains` yet (MDActivation live): one
 * file for each, whole whenever it is read. The engine writes it, each child serves it, and the
 * next start moves it. Whoever has the rights of children could write one, so each reader has
 * it checked (md_set_check). */
#ifndef MD_PUBLISHED_H
#define MD_PUBLISHED_H

#include "md_board.h"
#include "md_job.h"
#include "md_live.h"
#include "md_set.h"

typedef struct md_published_t {
    md_set_t set;            /* by the key specs of the domain as it is configured */
    const char *account;     /* id of the account that it was ordered with, or NULL */
    apr_time_t since;        /* when it was put into service */
    const md_job_t *job;     /* record of its renewal */
    int number;              /* it comes behind those before; 0: there is none */
} md_published_t;

/* Another set takes the place of what is there, durably and at once for all who read; `number` is
 * settled. */
MD_MUST_CHECK
apr_status_t md_published_save(md_published_t *published, const md_store_t *store,
                               const md_domain_t *domain, md_err_t *err, apr_pool_t *p);

/* Read what is there. APR_ENOENT when there is none (not an md_fail), APR_EINVAL when it is
 * damaged. set.issuers is the caller's. */
MD_MUST_CHECK
apr_status_t md_published_load(md_published_t *published, const md_store_t *store,
                               const md_domain_t *domain, md_err_t *err, apr_pool_t *p);

/* The same, and checked for the domain: is it fit to take the place of what was there before it
 * (`live`)? Fails as md_set_check does, too. */
MD_MUST_CHECK
apr_status_t md_published_check(md_published_t *published, const md_store_t *store,
                                const md_domain_t *domain, const md_live_t *live, md_err_t *err,
                                apr_pool_t *p);

/* What is served with it, beside what the start loaded of types that it has not; in `p`. */
const md_live_t *md_published_live(const md_published_t *published, const md_domain_t *domain,
                                   const md_live_t *at_start, apr_pool_t *p);

/* What this process takes for live (md_live_of) follows what is, if the board has another
 * generation than when it last looked. For the engine, and for pages. Any thread. */
void md_published_follow(const md_store_t *store, const md_board_t *board,
                         const md_domain_t *domain);

/* It is elsewhere now, or of no use: remove it, and all before it; later ones stay. Looks at names
 * of files alone. */
void md_published_remove(const md_store_t *store, const char *name, int number, apr_pool_t *p);

#endif
