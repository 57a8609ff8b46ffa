/* SPDX-License-Identifier: Apache-2.0 */
/* Domains that share names take turns: for a name there is one answer to a challenge at a time. So
 * they work one after the other, and the CA may know by then that we control the names. The claim
 * is kept over long waits and restarts, while the CA may look for the answer. */
#ifndef MD_TURNS_H
#define MD_TURNS_H

#include "md_domain.h"
#include "md_engine.h"
#include "md_store.h"

/* Of a domain. */
typedef struct md_turn_t {
    /* set by the owner; they live longer */
    const md_domain_t *domain;
    md_task_t *task;           /* is woken when its turn may have come */

    /* its own */
    struct md_turn_t *next;    /* ring of those with names in common, most often of itself alone; */
    struct md_turn_t *leader;  /* on the way to the one that stands for all of the ring */
    int has_claim;             /* on the ring: so no other one of it may be at work, */
    int is_waiting;            /* and this one wants to */
    int has_setups;            /* without claim: answers to challenges are left in place */
} md_turn_t;

typedef struct md_turns_t md_turns_t;

MD_MUST_CHECK
apr_status_t md_turns_create(md_turns_t **pturns, const md_store_t *store, md_err_t *err,
                             apr_pool_t *p);

/* One more, before the first look. */
void md_turns_add(md_turns_t *turns, md_turn_t *turn);
void md_turns_use(md_turns_t *turns, md_engine_t *engine);

/* At the first look, when staging is ours (others do nothing): who has answers in place from before
 * the start goes on before others of its ring begin. */
void md_turns_restore(md_turns_t *turns);

/* 0: another one is at work, and the task is woken after that. What others left in place is torn
 * down; they set it up again when it is their turn. */
int md_turns_claim(md_turns_t *turns, md_turn_t *turn);
void md_turns_leave(md_turns_t *turns, md_turn_t *turn);

/* Is the CA to look for answers of the domain? That matters to those with names in common. */
int md_turns_has_setups(const md_turns_t *turns, const md_turn_t *turn);

#endif
