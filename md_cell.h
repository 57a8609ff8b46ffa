/* SPDX-License-Identifier: Apache-2.0 */
/* What server-status has of us is made of: cells of tables in HTML, and lines of its text form. */
#ifndef MD_CELL_H
#define MD_CELL_H

#include "md_job.h"
#include "md_out.h"
#include "md_time.h"

/* Text from outside. NULL becomes "". */
const char *md_cell_text(const char *text, apr_pool_t *p);

/* `Renew in ~3 days`, `Renew 2026-11-29`, with the time itself as title. */
const char *md_cell_when(const char *label, apr_time_t t, apr_time_t now, apr_pool_t *p);

/* `until 2026-11-29`, with both times as title; `from` is shown if it is ahead. */
const char *md_cell_validity(const md_window_t *valid, apr_time_t now, apr_pool_t *p);

/* What is no address of the web is text. */
const char *md_cell_link(const char *url, const char *text, apr_pool_t *p);

/* How a record stands: of a renewal, with the number of certificates that it has obtained. */
const char *md_cell_job(const md_job_t *job, int staged, apr_time_t now, apr_pool_t *p);

/* The lines of one thing. */
typedef struct md_lines_t {
    md_out_t *out;
    const char *prefix;   /* of all keys */
    apr_time_t now;
    apr_pool_t *p;
} md_lines_t;

/* `Key: value`; without a value, nothing. */
void md_lines_put(const md_lines_t *lines, const char *key, const char *value);
void md_lines_put_seconds(const md_lines_t *lines, const char *key, apr_interval_time_t wait);

/* `KeyFrom` if that is ahead, and `KeyUntil`. */
void md_lines_put_validity(const md_lines_t *lines, const char *key, const md_window_t *valid);

/* As md_cell_job. */
void md_lines_put_job(const md_lines_t *lines, const md_job_t *job, int staged);

#endif
