/* SPDX-License-Identifier: Apache-2.0 */
/* The account in use: which one signs for all runs that work at a CA with the same external account
 * (or with none). It is found or registered once, by one run at a time, while the others wait.
 * Accounts are immutable, and one that is replaced stays with those that began with it. */
#ifndef MD_ACME_USE_H
#define MD_ACME_USE_H

#include "md_acme_acct.h"

typedef struct md_acct_use_t md_acct_use_t;

/* None in use yet. Lives in `p`, of which it takes memory at any time: for many threads it has to
 * be one of its own. NULL without memory. */
md_acct_use_t *md_acct_use_create(apr_pool_t *p);

/* The one in use; NULL while there is none, and while somebody is about to settle which. */
const md_acct_t *md_acct_use_get(md_acct_use_t *use);

/* One run at a time settles which account is used; *pacct is the one so far or NULL. 0: another one
 * is at it, come back. */
int md_acct_use_begin(const md_acct_t **pacct, md_acct_use_t *use);

/* That is settled: copied, or NULL for none. Every successful begin is followed by an end. */
void md_acct_use_end(md_acct_use_t *use, const md_acct_t *acct);

#endif
