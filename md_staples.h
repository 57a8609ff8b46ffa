/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates whose OCSP responses are stapled, and the response of each. Responses are in
 * memory that all children of a server share: what one of them got is in the next handshake of all.
 * The parent only makes that memory, and lets a reload have what was there before; it does not look
 * at what children wrote. */
#ifndef MD_STAPLES_H
#define MD_STAPLES_H

#include "md_domain.h"
#include "md_limits.h"
#include "md_ocsp_response.h"

#define MD_STAPLES_OTHER "other" /* the name of certificates without managed domain */

typedef struct md_staples_t md_staples_t;

/* A certificate. */
typedef struct md_stapled_t {
    const md_ocsp_cert_t *ocsp;
    const char *name;                /* of its domain or MD_STAPLES_OTHER; directory in the store */
    const md_domain_t *domain;       /* or NULL */
    int index;
    const struct md_stapled_t *next; /* one more of this name, or NULL */
} md_stapled_t;

/* A response that was checked, in words as processes share it. */
typedef struct md_staple_t {
    apr_int64_t status;              /* md_ocsp_status_t */
    apr_time_t from, until;          /* what it says, or 12 hours if it has no next update */
    apr_time_t ends_at;              /* it is not stapled from then on, */
    apr_time_t steady_ends_at;       /* whatever becomes of the date */
    apr_int64_t len;                 /* bytes of `der` */
    apr_uint64_t der[MD_MAX_OCSP_BODY / 8];
} md_staple_t;

#define MD_STAPLE_DER(staple) ((const unsigned char *)(staple)->der)

/* When to ask the responder again; by the steady clock, which all processes of a system share. */
typedef struct md_staple_plan_t {
    apr_time_t due_at;               /* 0: as the response says; 1 is long ago */
    apr_int64_t errors;              /* attempts in a row without a response */
} md_staple_plan_t;

md_staples_t *md_staples_make(apr_pool_t *p);

/* Of the parent, at a start. The id (opaque, of the TLS module) is a new one; `pem` is the
 * certificate, followed by its issuer. The first domain that has it gives it its name. APR_EINVAL
 * when that cannot be read, APR_EOF when the issuer is missing, APR_ENOENT when it names no
 * responder. */
MD_MUST_CHECK
apr_status_t md_staples_add(md_staples_t *staples, const char *id, apr_size_t id_len,
                            const char *pem, const md_domain_t *domain, md_err_t *err);

/* Was the id added, with success (*pstapled, else NULL) or without? */
int md_staples_knows(const md_stapled_t **pstapled, const md_staples_t *staples, const char *id,
                     apr_size_t id_len);

/* When all are added: the memory that children share, with what there was before the reload. It
 * lives until the next call for the same process pool. */
MD_MUST_CHECK
apr_status_t md_staples_share(md_staples_t *staples, apr_pool_t *process, md_err_t *err);

int md_staples_count(const md_staples_t *staples);
const md_stapled_t *md_staples_at(const md_staples_t *staples, int i);
const md_stapled_t *md_staples_of(const md_staples_t *staples, const char *name); /* or NULL */
/* The one of this name with this SHA-256 fingerprint, or NULL. `staples` may be NULL. */
const md_stapled_t *md_staples_find(const md_staples_t *staples, const char *name,
                                    const char *fingerprint);

/* ---- in children ---- */

/* A copy of the response, 0 if there is none. Waits for nobody. */
int md_staples_get(md_staple_t *staple, const md_staples_t *staples, const md_stapled_t *stapled);

/* The same without `der`. */
int md_staples_look(md_staple_t *staple, const md_staples_t *staples, const md_stapled_t *stapled);

/* From what a response says. Pure. */
void md_staple_fill(md_staple_t *staple, const md_ocsp_answer_t *answer, const unsigned char *der,
                    apr_size_t len, apr_time_t now, apr_time_t steady);

const char *md_staple_status(const md_staple_t *staple); /* "good", "revoked" */

/* May it be stapled? Pure. */
int md_staple_is_usable(const md_staple_t *staple, apr_time_t now, apr_time_t steady);

/* The next handshake has this one, or with NULL none. One thread of all processes at a time may do
 * so for a certificate: who has claimed it, afterwards who refreshes it. */
void md_staples_put(md_staples_t *staples, const md_stapled_t *stapled, const md_staple_t *staple);

md_staple_plan_t md_staples_plan(const md_staples_t *staples, const md_stapled_t *stapled);
void md_staples_set_plan(md_staples_t *staples, const md_stapled_t *stapled,
                         const md_staple_plan_t *plan);

/* One more attempt brought no response; how many did not, reloads included. */
void md_staples_count_failure(md_staples_t *staples, const md_stapled_t *stapled);
apr_uint64_t md_staples_failures(const md_staples_t *staples, const md_stapled_t *stapled);

/* Once after a start, children read the store, each what nobody else has begun with: NULL when
 * nothing is left. */
const md_stapled_t *md_staples_claim(md_staples_t *staples);
void md_staples_set_ready(md_staples_t *staples, const md_stapled_t *stapled);
int md_staples_is_ready(const md_staples_t *staples, const md_stapled_t *stapled);

/* Is one of these revoked, which are served under this name (`const md_cert_info_t *` or NULL)? By
 * what was stapled for it; others of the name may have been in service before. */
int md_staples_has_revoked(const md_staples_t *staples, const char *name,
                           const apr_array_header_t *certs);

#endif
