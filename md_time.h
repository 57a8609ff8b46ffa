/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, windows and time stamps in text form. All times in microseconds (APR). */
#ifndef MD_TIME_H
#define MD_TIME_H

#include <apr_time.h>

#include "md_err.h"

/* A period of validity. */
typedef struct md_window_t { apr_time_t start, end; } md_window_t;

/* How long before the end of a validity something is due: "33%" of it, or "30d". */
typedef struct md_window_spec_t {
    apr_interval_time_t length; /* absolute duration, when percent < 0 */
    int percent;                /* of a lifetime, or -1 */
} md_window_spec_t;

/* `<integer>[d|h|mi|s|ms]`, any case; `unit` (such as "s") applies when none is given. Trailing
 * text and values that do not fit are refused. APR_EINVAL when malformed. What is refused, here and
 * below, leaves the result as it was. */
MD_MUST_CHECK
apr_status_t md_duration_parse(apr_interval_time_t *pduration, const char *text,
                               const char *unit);

/* With the largest unit that divides exactly: 14d, 36h, 90mi, 45s, 1500ms; zero is "0d". */
const char *md_duration_format(apr_interval_time_t duration, apr_pool_t *p);

/* Text for people: "12 hours", "30 seconds", "1 day 3 hours". */
const char *md_duration_print(apr_interval_time_t duration, apr_pool_t *p);

/* For a glance: "~3 days", "~1 hour", "~14 seconds", "200 ms". */
const char *md_duration_rough(apr_interval_time_t duration, apr_pool_t *p);

/* A time as seen from `now`, for people: "in 12 days", "in 49 minutes, at 14:09", "5 minutes ago",
 * "now". */
const char *md_time_words(apr_time_t t, apr_time_t now, apr_pool_t *p);

/* A duration with default unit days, or `N%`. Returns NULL or what is wrong, as a phrase that
 * contains "has unrecognized format", "a length of 100% or more is not allowed." or speaks of
 * the range. */
const char *md_window_spec_parse(md_window_spec_t *pspec, const char *text, apr_pool_t *p);

/* The same where a percentage may exceed 100. */
const char *md_window_spec_parse_any(md_window_spec_t *pspec, const char *text, apr_pool_t *p);

int md_window_spec_is_set(const md_window_spec_t *spec);

const char *md_window_spec_format(const md_window_spec_t *spec, apr_pool_t *p);

/* When the window before the end of `validity` opens: end - duration, or end - percent of the
 * lifetime, in whole seconds for lifetimes above 100 s. */
apr_time_t md_window_opens(const md_window_t *validity, const md_window_spec_t *spec);

/* `Mon, 02 Jan 2006 15:04:05 GMT`. */
const char *md_time_http(apr_time_t t, apr_pool_t *p);

/* `2006-01-02`, in GMT. */
const char *md_time_day(apr_time_t t, apr_pool_t *p);

/* `2006-01-02T15:04:05Z` (RFC 3339). */
const char *md_time_rfc3339(apr_time_t t, apr_pool_t *p);

/* RFC 822/850/asctime date; 0 when it is none. */
apr_time_t md_time_parse_http(const char *text);

/* RFC 3339 with `Z` or a numeric offset, fractions ignored; 0 when it is none. */
apr_time_t md_time_parse_rfc3339(const char *text);

/* Retry-After (RFC 9110 10.2.3), seconds or HTTP date, as an absolute time, at most
 * MD_MAX_RETRY_AFTER from `now`; 0 when absent (NULL) or malformed. */
apr_time_t md_time_retry_after(const char *value, apr_time_t now);

#endif
