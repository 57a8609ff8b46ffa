/* SPDX-License-Identifier: Apache-2.0 */
/* TXT records that prove control of names (RFC 8555 8.4). A command of the configuration sets them
 * up in the DNS and tears them down. What may be there is in `records/<domain>` before a command is
 * run, and until its tear-down was: whatever becomes of an order, nothing is forgotten. */
#ifndef MD_TXT_H
#define MD_TXT_H

#include "md_exec.h"
#include "md_store.h"

/* Of the configuration alone, as commands are run: never of a document. */
typedef struct md_dns_conf_t {
    const char *command;    /* MDChallengeDns01, NULL: none */
    int version;            /* MDChallengeDns01Version */
    md_execs_t *execs;
} md_dns_conf_t;

/* The records of one domain, either to be set up or to be torn down. */
typedef struct md_txt_t md_txt_t;

/* As the store has them, all to be torn down. Damage counts as none. Lives in `p`; commands that
 * still run when it goes away are killed. */
md_txt_t *md_txt_load(const md_dns_conf_t *conf, const md_store_t *store,
                      const char *domain, apr_pool_t *p);
int md_txt_exist(const md_store_t *store, const char *domain, apr_pool_t *p);

/* Leave those alone that are among these setups (`dns-01:example.org <value>`, or NULL). */
void md_txt_keep(md_txt_t *records, const apr_array_header_t *setups);

/* The record of `name`, a DNS name without `*.`, is to have `value` (among others). 0: it is not
 * fit for a command. */
int md_txt_want(md_txt_t *records, const char *name, const char *value);

/* Go on with setting up all that are wanted, many at the same time, but one of each name; never
 * blocks. APR_EAGAIN: call again after *pwait. APR_SUCCESS: it is over, and md_txt_result
 * tells of each. Anything else: they cannot be stored, and no command was run. */
MD_MUST_CHECK
apr_status_t md_txt_set_up(md_txt_t *records, apr_interval_time_t *pwait, md_err_t *err);

/* After that: APR_SUCCESS when its command said that it is there; APR_EINTR when we stop. */
MD_MUST_CHECK
apr_status_t md_txt_result(const md_txt_t *records, const char *name, const char *value,
                           md_err_t *err);

/* Go on with tearing down all others; never blocks. 1: call again after *pwait. What fails is
 * logged, and stays noted for another time unless that was the last one, MD_MAX_TEAR_DOWNS. Without
 * a command they stay as they are. */
int md_txt_tear_down(md_txt_t *records, apr_interval_time_t *pwait);

/* How often the tear-down of one that is left has failed, at most. */
int md_txt_tries(const md_txt_t *records);

/* How many are to be torn down. */
int md_txt_to_tear_down(const md_txt_t *records);

/* These setups of an order are to be torn down, should they not be known. */
void md_txt_adopt(const md_store_t *store, const char *domain,
                  const apr_array_header_t *setups, apr_pool_t *p);

/* Of these setups (or NULL), those that are TXT records. */
apr_array_header_t *md_txt_setups(const apr_array_header_t *setups, apr_pool_t *p);

#endif
