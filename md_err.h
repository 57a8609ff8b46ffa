/* SPDX-License-Identifier: Apache-2.0 */
/* The one error channel: the returned status is the truth, md_err_t is the explanation. */
#ifndef MD_ERR_H
#define MD_ERR_H

#include <apr_errno.h>
#include <apr_pools.h>
#include <apr_time.h>

#define MD_MUST_CHECK __attribute__((warn_unused_result))

/* Whom a failure concerns, and so what waits until another try makes sense. */
typedef enum {
    MD_SCOPE_DOMAIN,  /* one name or domain: this renewal */
    MD_SCOPE_REQUEST, /* this exchange alone: it can be repeated at once */
    MD_SCOPE_ACCOUNT, /* new orders of the account */
    MD_SCOPE_CA,      /* all requests to the CA */
    MD_SCOPE_SELF     /* whatever of ours needs what is lacking; the CA has no part in it */
} md_scope_t;

/* Why a call failed: for the log, the status page and the retry policy.
 * The caller owns it; functions write to it only when they fail. */
typedef struct md_err_t {
    apr_pool_t *p;          /* holds the strings below */
    apr_status_t rv;        /* always equals the returned status */
    const char *type;       /* RFC 8555 6.7 problem type or one of ours, or NULL */
    const char *detail;     /* for the operator: a sentence, or what a CA says in UTF-8 */
    md_scope_t scope;
    int is_lasting;         /* trying again soon is no use */
    int http_status;        /* of the answer that says so, 0 if there is none */
    apr_time_t retry_after; /* earliest retry the server allows, 0 if unknown */
    const char *subproblems; /* RFC 8555 6.7.1 as compact JSON, or NULL */
} md_err_t;

/* An empty record whose strings will live in `p`. */
void md_err_init(md_err_t *err, apr_pool_t *p);

/* Forget the last failure, keep the pool. */
void md_err_clear(md_err_t *err);

/* Record why, replacing what was there, and return `rv`. `err` may be NULL. The text is cleaned
 * (md_text_clean) and cut at MD_MAX_DETAIL; it concerns the domain, or ourselves where `rv` tells
 * of a lack of space, memory or descriptors. */
apr_status_t md_fail(md_err_t *err, apr_status_t rv, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As md_fail, when the system said `rv` (APR or an errno): its words follow the text. */
apr_status_t md_fail_system(md_err_t *err, apr_status_t rv, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As md_fail, with a problem type (RFC 8555 6.7 or `challenge-mismatch` and the like). */
apr_status_t md_fail_problem(md_err_t *err, apr_status_t rv, const char *type,
                             const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Whom it concerns in fact; `err` may be NULL. Returns the recorded status. */
apr_status_t md_err_blame(md_err_t *err, md_scope_t scope, int is_lasting);

/* Is it a lack of memory or descriptors? That tells nothing about what was asked for: it may be
 * there, and sound. */
int md_is_lack(apr_status_t rv);

/* Attach subproblems (RFC 8555 6.7.1), compact JSON, copied to err->p; NULL is none. */
void md_err_set_subproblems(md_err_t *err, const char *subproblems);

/* Copy `from` into `to`, strings into to->p. */
void md_err_copy(md_err_t *to, const md_err_t *from);

/* "Connection refused" for a status; text lives in `p`. */
const char *md_err_text(apr_status_t rv, apr_pool_t *p);

#endif
