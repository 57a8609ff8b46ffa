/* SPDX-License-Identifier: Apache-2.0 */
/* How refreshing responses goes for the certificates of a name: the record in the store
 * (`ocsp/<name>/job.json`), which status pages show, and the events that are told of it. */
#ifndef MD_OCSP_RECORD_H
#define MD_OCSP_RECORD_H

#include "md_engine.h"
#include "md_reg.h"

typedef struct md_ocsp_records_t md_ocsp_records_t; /* all of them */
typedef struct md_ocsp_record_t md_ocsp_record_t;   /* of one name */

/* For all names of reg->staples. */
MD_MUST_CHECK
apr_status_t md_ocsp_records_make(md_ocsp_records_t **precords, const md_reg_t *reg, md_err_t *err,
                                  apr_pool_t *p);

/* Events are told by tasks of the engine, which must not outlive them. */
void md_ocsp_records_add(md_ocsp_records_t *records, md_engine_t *engine);

/* NULL: no certificate of that name is stapled. */
md_ocsp_record_t *md_ocsp_record_of(const md_ocsp_records_t *records, const char *name);

/* There is a response, which may be the one that there was before. Any thread. */
void md_ocsp_record_success(md_ocsp_record_t *record, int is_new, apr_time_t now, apr_pool_t *tmp);

/* There is none, and why; after so many attempts in a row. Any thread. */
void md_ocsp_record_failure(md_ocsp_record_t *record, const md_err_t *why, int errors,
                            apr_time_t next_run, apr_time_t now, apr_pool_t *tmp);

/* No thread is left: what is known of commands that told of events is recorded. */
void md_ocsp_records_settle(md_ocsp_records_t *records);

#endif
