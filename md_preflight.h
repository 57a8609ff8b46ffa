/* SPDX-License-Identifier: Apache-2.0 */
/* What a CA would find: addresses, CAA records, and who answers at port 80 or 443. What is wrong is
 * a hint for a person (docs/preflight.md): behind a router or with another DNS, a CA may well see
 * what we do not. */
#ifndef MD_PREFLIGHT_H
#define MD_PREFLIGHT_H

#include "md_cas.h"
#include "md_renew.h"

typedef struct md_preflight_t md_preflight_t;

/* A check of the names of a domain as `ca` (or NULL) would look at them. `failed_type`: the
 * challenge type that the CA last refused, or NULL. Lives in `p`. Nobody else may set up answers
 * for the names meanwhile. */
md_preflight_t *md_preflight_create(const md_reg_t *reg, const md_domain_t *domain,
                                    const md_ca_t *ca, const char *failed_type, md_http_t *http,
                                    apr_pool_t *p);

/* Go on with it; may block for one exchange of a few seconds. 1: call again after *pwait. */
int md_preflight_step(md_preflight_t *preflight, apr_interval_time_t *pwait);

/* What was found: `const char *`, MD_MAX_HINTS at most. */
const apr_array_header_t *md_preflight_hints(const md_preflight_t *preflight);

/* Take back what it set up to be found; called once, wherever it ends. */
void md_preflight_end(md_preflight_t *preflight);

#endif
