/* SPDX-License-Identifier: Apache-2.0 */
/* Are TXT records for all to see? They are looked for at the name servers of their zone, as a CA
 * does, and not at a resolver, which remembers what was not there. */
#ifndef MD_TXT_CHECK_H
#define MD_TXT_CHECK_H

#include "md_dns.h"
#include "md_txt.h"

typedef struct md_txt_check_t md_txt_check_t;

/* What a check found, for a person; `is_missing`: a name server says that a record is not there,
 * else nothing could be told. */
typedef void md_txt_hint_fn(void *baton, int is_missing, const char *text);

/* A check of records that are set up by `records`. For `limit` at most they are waited for. */
md_txt_check_t *md_txt_check_make(const md_dns_route_t *route, const md_txt_t *records,
                                  apr_interval_time_t limit, apr_pool_t *p);

/* Look for this value at `_acme-challenge.<name>`, too. */
void md_txt_check_want(md_txt_check_t *check, const char *name, const char *value);

/* Go on with it, once all commands have ended; never blocks. 1: call again after *pwait. 0: it is
 * over, and what was found was told, once. */
int md_txt_check_step(md_txt_check_t *check, apr_interval_time_t *pwait, md_txt_hint_fn *hint,
                      void *baton);

#endif
