/* SPDX-License-Identifier: Apache-2.0 */
/* Status as JSON: the one producer for all pages. Live certificates come from memory, jobs and
 * staged sets from the store. */
#ifndef MD_STATUS_H
#define MD_STATUS_H

#include "md_reg.h"

/* Everything about one domain; `with_log`: the job's log, too. Never fails: what could not be
 * gathered is told by the member `error`. */
md_json_t *md_status_domain(const md_reg_t *reg, const md_domain_t *domain, int with_log,
                            apr_time_t now, apr_pool_t *p);

/* Takes a piece of text that is gone afterwards; anything but success ends it all. */
typedef apr_status_t md_status_out_t(void *baton, const char *text);

/* All domains in order of name, and our version: one document in pieces, of which no more than one
 * domain is in memory. Fails only with `out`. */
apr_status_t md_status_write(const md_reg_t *reg, apr_time_t now, md_status_out_t *out, void *baton,
                             apr_pool_t *p);

#endif
