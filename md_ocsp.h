/* SPDX-License-Identifier: Apache-2.0 */
/* Stapling: the responses of all stapled certificates of a registry (md_staples.h) are refreshed in
 * time, as tasks of an engine with a lane for each responder. */
#ifndef MD_OCSP_H
#define MD_OCSP_H

#include <apr_hash.h>

#include "md_engine.h"
#include "md_http.h"
#include "md_reg.h"
#include "md_renewals.h"

typedef struct md_ocsp_t md_ocsp_t;

/* What the store has is stapled from now on. In each child before its first connection: they share
 * the work, and the first ones do it. */
void md_ocsp_load(const md_reg_t *reg, apr_pool_t *p);

/* For all certificates of reg->staples. `renewals` (or NULL) are told of revocations, and have to
 * live as long. */
MD_MUST_CHECK
apr_status_t md_ocsp_create(md_ocsp_t **pocsp, const md_reg_t *reg, md_http_t *http,
                            md_renewals_t *renewals, md_err_t *err, apr_pool_t *p);

/* Hand all over to the engine, which must not outlive them. */
void md_ocsp_add(md_ocsp_t *ocsp, md_engine_t *engine);

/* The responses of all certificates with these names (keys) are asked for now, unless their
 * responder is left alone for a while. Any thread. */
void md_ocsp_refresh(md_ocsp_t *ocsp, apr_hash_t *names);

/* For md_engine_host_t, with this as baton: connections end with the work. */
void md_ocsp_close(void *ocsp);

/* When to ask again after a response: when the window before its end opens, or some time after
 * that, by a random byte; not before caches would have another one (`fresh_until`, 0: they do not
 * say), unless the end is near. Pure. */
apr_time_t md_ocsp_refresh_at(const md_window_t *validity, const md_window_spec_t *window,
                              apr_time_t fresh_until, apr_time_t now, unsigned char dice);

#endif
