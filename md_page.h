/* SPDX-License-Identifier: Apache-2.0 */
/* Pages for people: all domains, the most urgent first, and one domain with all there is to know of
 * it. HTML without scripts; whatever comes from elsewhere is escaped. */
#ifndef MD_PAGE_H
#define MD_PAGE_H

#include "md_status.h"

/* `base`: the path of the page of all domains, as in a URL; those of domains are below it. `reg`
 * NULL: nothing is managed. */
void md_page_all(md_out_t *out, const md_reg_t *reg, const char *base, apr_time_t now,
                 apr_pool_t *p);
void md_page_domain(md_out_t *out, const md_reg_t *reg, const md_domain_t *domain,
                    const char *base, apr_time_t now, apr_pool_t *p);

#endif
