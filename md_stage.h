/* SPDX-License-Identifier: Apache-2.0 */
/* Staged sets: what a renewal leaves in `staging/<name>` on its way into service, in the parent at
 * a (re)start or in a tool; and what is cleaned up around it. */
#ifndef MD_STAGE_H
#define MD_STAGE_H

#include "md_reg.h"

/* Put every complete staged set into service, after those that are there already without having
 * been stored (md_published): AH10068; or AH10069 for one that is damaged or that
 * md_set_check refuses, which goes to the archive. Incomplete ones stay, and those whose time has
 * not come (MDActivationDelay). Before that, damaged documents of staging and accounts are put
 * aside, and accounts staged by any domain are kept. What could not be read is told, and stays.
 * What is live now is being removed from staging when this returns, until md_stage_clean. */
void md_stage_activate_all(md_reg_t *reg, apr_pool_t *p);

/* For one domain: APR_ENOENT when its set is not complete. What goes wrong is logged, too. */
MD_MUST_CHECK
apr_status_t md_stage_activate(const md_reg_t *reg, const md_domain_t *domain, md_err_t *err,
                               apr_pool_t *p);

/* Accounts that were staged by domains, or in `staging/<name>`, become stored ones; *pid is that of
 * the latter, APR_ENOENT if there is none. What goes wrong with the former is logged. */
void md_stage_keep_accounts(const md_reg_t *reg, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_stage_keep_account(const char **pid, const md_reg_t *reg, const char *name,
                                   md_err_t *err, apr_pool_t *p);

/* Empty `staging/<name>` but for an account and its key: the CA may know it already, and it is good
 * for every further attempt. */
void md_stage_reset(const md_store_t *store, const char *name, apr_pool_t *p);

/* Is what was staged by a renewal of `staged` for `domain` as it is configured today? */
int md_stage_fits(const md_domain_t *staged, const md_domain_t *domain, apr_pool_t *p);

/* In the parent, before there are children: no more is removed from staging behind its back. What
 * failed in an earlier server generation is tried again at once (AH10064), but for what a CA
 * wants to see later, or refuses while the same is configured. Unfinished files go (a reload does
 * not look for those in `domains`), and challenge directories of names that nobody manages, as many
 * as a quarter of a second each is enough for. */
void md_stage_clean(md_reg_t *reg, apr_pool_t *p);

#endif
