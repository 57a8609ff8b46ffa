/* SPDX-License-Identifier: Apache-2.0 */
/* The account in use: which one signs for all runs that work at a CA with the same external account
 * (or with none). It is found or registered once, by one run at a time, while the others wait.
 * Accounts are immutable, and one that is replaced stays with those that began with it. */
#ifndef MD_ACME_USE_H
#define MD_ACME_USE_H

#include "md_acme_acct.h"

typedef struct md_acct_use_t md_acct_use_t;

/* None in use yet. Lives in `p`, of which it takes memory at any time: for many threads it has to
 * be one of its own. Holds are counted in `meter`, or nowhere (NULL). NULL without memory. */
md_acct_use_t *md_acct_use_create(md_meter_t *meter, apr_pool_t *p);

/* The one in use; NULL while there is none, and while somebody is about to settle which. */
const md_acct_t *md_acct_use_get(md_acct_use_t *use);

/* One run at a time settles which account is used; *pacct is the one so far or NULL. 0: another one
 * is at it, come back. */
int md_acct_use_begin(const md_acct_t **pacct, md_acct_use_t *use);

/* Is this the first look at the account, after a refusal, for a while? Notes that it is done. */
int md_acct_use_may_check(md_acct_use_t *use, apr_time_t now);

/* Was it settled only just, so that not all servers of the CA may know? */
int md_acct_use_is_fresh(md_acct_use_t *use, apr_time_t now);

/* New orders of the account are held after a refusal that concerns all of them, until `retry_after`
 * or ever longer if that is 0, five minutes at most; then one domain tries first, and when its
 * order is placed all others do. Orders under way are never held. */
void md_acct_use_hold(md_acct_use_t *use, apr_time_t retry_after, apr_time_t now);
/* When the domain may try, 0: now. */
apr_time_t md_acct_use_wait(md_acct_use_t *use, const char *name, apr_time_t now);
void md_acct_use_served(md_acct_use_t *use);

/* An order of the domain was refused for a limit. When several different ones were in a row, it may
 * concern all: returns 1. */
int md_acct_use_is_limited(md_acct_use_t *use, const char *name);

/* That is settled: copied, or NULL for none. Every successful begin is followed by an end. */
void md_acct_use_end(md_acct_use_t *use, const md_acct_t *acct);

#endif
