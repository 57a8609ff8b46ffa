/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted since the server was started: renewals of each domain and why they failed,
 * requests to each CA, the work of the engines. It is in memory that all children share, and a
 * reload keeps it, as a renewal that ends in a reload would not be seen otherwise. */
#ifndef MD_TALLY_H
#define MD_TALLY_H

#include <apr_tables.h>

#include "md_acme.h"

#define MD_TALLY_OTHERS "other" /* problems and CAs that are not told apart */
#define MD_TALLY_PROBLEMS (MD_PROBLEM_COUNT + 5) /* that are */

typedef enum { MD_LOAD_RENEWALS, MD_LOAD_STAPLES, MD_LOAD_COUNT } md_load_kind_t;

typedef struct md_tally_t md_tally_t;

/* Runs of a domain that came to an end. */
typedef struct md_runs_t {
    apr_uint32_t renewed;                   /* a new set was obtained */
    apr_uint32_t failed[MD_TALLY_PROBLEMS]; /* by problem */
} md_runs_t;

/* Of the parent, at a start, for these domains (`md_domain_t *`), whose numbers are their places in
 * the list: what was counted before goes on for those of the same name, and for CAs with the same
 * URL. It lives until the next call for the same process pool. */
MD_MUST_CHECK
apr_status_t md_tally_share(md_tally_t **ptally, const apr_array_header_t *domains,
                            apr_pool_t *process, md_err_t *err);

/* The kinds of problems by number: types of RFC 8555 6.7 without prefix, types of ours, failures
 * without type by whom they concern, and MD_TALLY_OTHERS. */
const char *md_tally_problem(int number);

/* A run came to an end (rv APR_SUCCESS: with success). One that was cut off as the server ends does
 * not count. `tally` may be NULL here and below. */
void md_tally_renewal(md_tally_t *tally, int domain, const md_err_t *result);
md_runs_t md_tally_runs(const md_tally_t *tally, int domain);

/* Where requests to the CA are counted that has this URL. CAs are those of the domains, MD_MAX_CAS
 * at most; all others are one. */
md_meter_t *md_tally_meter(md_tally_t *tally, const char *ca_url);

/* The CAs, by number from 0; NULL: there are no more. The last one is MD_TALLY_OTHERS. */
const char *md_tally_ca(const md_tally_t *tally, int number);

/* Where an engine notes what it has to do. */
md_load_t *md_tally_load(md_tally_t *tally, md_load_kind_t kind);

#endif
