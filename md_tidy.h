/* SPDX-License-Identifier: Apache-2.0 */
/* Tear-down of TXT records that no order needs, whatever became of the one that did. Nobody waits
 * for that but the next renewal of the domain. */
#ifndef MD_TIDY_H
#define MD_TIDY_H

#include "md_txt.h"
#include "md_reg.h"

typedef struct md_tidy_t {
    /* set by the owner; they live longer */
    const md_reg_t *reg;
    const char *name;
    const md_domain_t *domain; /* NULL: there is none of that name any more */
    int has_records;           /* some may be in the DNS */

    /* its own; zero at first */
    md_txt_t *records;     /* at work on them, NULL: not now */
    md_dns_conf_t dns;
    apr_pool_t *pool;          /* of both */
    apr_time_t retry_at;       /* steady: of what failed, 0: at once */
    apr_time_t look_at;        /* steady: when to call again, MD_TASK_NEVER: no need to */
} md_tidy_t;

/* Start with it or go on. Those of the staged order stay. What fails is tried again, after a minute
 * at first, and for half a day. 1: it is at work; in any case, look_at is settled. */
int md_tidy_is_busy(md_tidy_t *tidy);

/* A renewal has ended, which may have set up some. Returns whether it has. */
int md_tidy_look(md_tidy_t *tidy, apr_pool_t *tmp);

/* Leave it as it is; commands are killed. */
void md_tidy_drop(md_tidy_t *tidy);

#endif
