/* SPDX-License-Identifier: Apache-2.0 */
/* One persisted schedule: when the next attempt is, how many failed, how the last one went, a
 * short log. */
#ifndef MD_JOB_H
#define MD_JOB_H

#include "md_store.h"

#define MD_JOB_JSON "job.json"

typedef struct md_job_t {
    const char *name;
    md_store_group_t group;
    int finished;                /* a complete set is staged */
    int notified, notified_renewed;
    apr_time_t next_run;         /* 0: with the regular checks */
    apr_time_t last_run;
    apr_time_t valid_from;
    apr_time_t retry_after;      /* the CA wants to be asked no earlier, 0: it did not say */
    int errors;                  /* failed attempts in a row */
    const char *failed_challenge; /* type that the CA refused in the last one, or NULL */
    int needs_change;            /* the CA refuses what is configured: a reload alone is no use */
    int lacks_must_staple;       /* of a live set: the CA left it out, though it was asked for */
    apr_array_header_t *hints;   /* `const char *`: on what is wrong, from checks before or in the
                                  * last attempt; never NULL */
    md_json_t *last;             /* latest result, or NULL */
    md_json_t *log;              /* array of entries, newest first */
    apr_pool_t *p;
} md_job_t;

/* An empty job. */
md_job_t *md_job_make(md_store_group_t group, const char *name, apr_pool_t *p);

/* Read `group/name/job.json`. APR_ENOENT and a fresh job when there is none; APR_EINVAL and a
 * fresh job when it is damaged. */
apr_status_t md_job_load(md_job_t **pjob, const md_store_t *store, md_store_group_t group,
                         const char *name, md_err_t *err, apr_pool_t *p);

/* The same from a text that was made by md_job_to_json. */
apr_status_t md_job_parse(md_job_t **pjob, md_store_group_t group, const char *name,
                          const char *text, md_err_t *err, apr_pool_t *p);

MD_MUST_CHECK
apr_status_t md_job_save(const md_job_t *job, const md_store_t *store, md_err_t *err,
                         apr_pool_t *p);
/* The same, not synced to disk: progress that a power failure may take. */
MD_MUST_CHECK
apr_status_t md_job_save_volatile(const md_job_t *job, const md_store_t *store, md_err_t *err,
                                  apr_pool_t *p);

/* Forget the record. */
void md_job_remove(const md_store_t *store, md_store_group_t group, const char *name,
                   apr_pool_t *p);

md_json_t *md_job_to_json(const md_job_t *job, int with_log, apr_pool_t *p);

/* Put an entry in front of the log; `status` and `detail` may be NULL. The text is shortened: the
 * result has all of it. */
void md_job_log(md_job_t *job, apr_time_t when, const char *type, const char *status,
                const char *detail);

/* When an entry of this type was last put there, 0: there is none. */
apr_time_t md_job_logged_at(const md_job_t *job, const char *type);

/* Keep a hint, and put it into the log. */
void md_job_hint(md_job_t *job, apr_time_t when, const char *text);

/* Record a result: `err` NULL for success. */
void md_job_result(md_job_t *job, const char *activity, const md_err_t *err, apr_pool_t *p);

#define MD_BACKOFF_MAX apr_time_from_sec(24 * 3600)

/* Delay before the next attempt after `errors` failures in a row: `base` (a second if that is
 * nothing) doubled each time, but not beyond `most` (MD_BACKOFF_MAX if that is more), varied by up
 * to half with the random byte `dice` in whole seconds. Pure. */
apr_interval_time_t md_job_backoff(int errors, apr_interval_time_t base, apr_interval_time_t most,
                                   unsigned char dice);

/* How long from `now` until the next run, 0: it is due. A time that no record can have for good
 * reason, more than a back-off, a Retry-After or, for a finished set, `activation_delay` ahead, was
 * noted while the date was wrong: it is due, too. Pure. */
apr_interval_time_t md_job_wait(const md_job_t *job, apr_time_t now,
                                apr_interval_time_t activation_delay);

/* `base` changed by -50 % to almost +50 % with a random byte. Pure. */
apr_interval_time_t md_job_jitter(apr_interval_time_t base, unsigned char dice);

#endif
