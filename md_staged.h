/* SPDX-License-Identifier: Apache-2.0 */
/* What children left in `staging/<name>` and `live/<name>`: read, parsed, repaired and checked by
 * who has their rights, and handed as a record to who may put it into service, and takes nothing in
 * it for granted. Each of the two functions that read has one that takes its record. */
#ifndef MD_STAGED_H
#define MD_STAGED_H

#include "md_acme_acct.h"
#include "md_job.h"
#include "md_reg.h"

/* What there is under a name. */
typedef struct md_staged_t {
    int has_set;              /* there may be one that is complete */
    int has_account;
    md_acct_packed_t account; /* json is NULL if there is none that can be kept, */
    const char *why;          /* and this tells why; or NULL */
} md_staged_t;

/* `repairs`: what is damaged is put aside, or removed if it can be made again. */
char *md_staged_look(const md_reg_t *reg, const char *name, int repairs, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_staged_parse(md_staged_t *staged, char *record, apr_size_t len, md_err_t *err,
                             apr_pool_t *p);

/* A set, by the key specs of today. */
typedef struct md_staged_set_t {
    apr_status_t rv;            /* may it go into service? APR_ENOENT: not complete, or its time has
                                   not come (MDActivationDelay); APR_EEXIST: it is there;
                                   APR_EGENERAL: not now; APR_EINVAL: never */
    const char *why;            /* of the last two */
    const char *ca_url;
    const char *account;        /* that its document names, or NULL */
    int number;                 /* of a published one (md_published), which */
    int is_told;                /* was told of as installed */
    apr_array_header_t *keys;   /* per key spec, `const char *`: plain PEM; NULL: a published one
                                   has none of that type; */
    apr_array_header_t *chains; /* and the certificates as they were parsed */
    md_job_t *job;
} md_staged_set_t;

/* `group` is that of staged ones, or of published ones. `live` is what the set would take the place
 * of; `issuers` are shared among many sets. The order that a staged one came from is torn down and
 * removed, if the set is of use or none ever. */
char *md_staged_read(const md_reg_t *reg, const md_domain_t *domain, md_store_group_t group,
                     const md_live_t *live, apr_hash_t *issuers, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_staged_parse_set(md_staged_set_t *set, const md_domain_t *domain,
                                 md_store_group_t group, char *record, apr_size_t len,
                                 md_err_t *err, apr_pool_t *p);

/* For who works in staging: a complete set goes into service at once (md_published), if it may.
 * Results as in md_staged_set_t.rv; with all but APR_SUCCESS nothing has changed. */
MD_MUST_CHECK
apr_status_t md_staged_publish(const md_reg_t *reg, const md_domain_t *domain,
                               const md_live_t *live, md_err_t *err, apr_pool_t *p);

/* Does it belong to an account? */
int md_staged_is_of_account(const char *file);

#endif
