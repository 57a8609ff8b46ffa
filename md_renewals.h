/* SPDX-License-Identifier: Apache-2.0 */
/* The renewals of a registry as tasks of an engine, and the CAs that they share. */
#ifndef MD_RENEWALS_H
#define MD_RENEWALS_H

#include <apr_hash.h>

#include "md_engine.h"
#include "md_http.h"
#include "md_reg.h"

typedef struct md_renewals_t md_renewals_t;

/* For all watched domains of `reg`. For a tool (reg->is_tool), each is one attempt whatever its
 * record says: nothing is tried again, and a wait of more than a minute ends it, too. */
MD_MUST_CHECK
apr_status_t md_renewals_create(md_renewals_t **prenewals, const md_reg_t *reg, md_http_t *http,
                                md_err_t *err, apr_pool_t *p);

/* For md_engine_host_t, with the renewals as baton: staging is ours while there is work, unless it
 * is a tool's already; connections end with it. */
apr_status_t md_renewals_open(void *renewals);
void md_renewals_close(void *renewals);

/* Hand all over to the engine, which must not outlive them. */
void md_renewals_add(md_renewals_t *renewals, md_engine_t *engine);

/* What it is not yet time for may have become urgent: the domain is looked at again. Any thread. */
void md_renewals_wake(md_renewals_t *renewals, const char *name);

/* What was requested in the store (md_wish.h) since this was last called, if anything: those
 * domains are looked at again, and who asked is told so. The names of those to be checked come into
 * `checked`, too. Returns how many there are. Call from one thread. */
int md_renewals_hear(md_renewals_t *renewals, apr_hash_t *checked, apr_pool_t *tmp);

/* How the single attempt for the i-th watched domain ended. rv APR_SUCCESS: its set is staged;
 * APR_EAGAIN: the CA wants to be asked again later. What went wrong is in the log already. */
const md_err_t *md_renewals_result(const md_renewals_t *renewals, int i);

#endif
