/* SPDX-License-Identifier: Apache-2.0 */
/* A set of certificates that a renewal obtained for a domain, and whether it may go into service.
 * Who wrote it is not trusted: what is put into service is checked here, and nowhere else. */
#ifndef MD_SET_H
#define MD_SET_H

#include "md_cert.h"
#include "md_domain.h"

/* For each key spec of the domain, in their order; NULL for what the set has not. */
typedef struct md_set_t {
    apr_array_header_t *keys;    /* md_key_t * */
    apr_array_header_t *chains;  /* apr_array_header_t * */
    apr_hash_t *issuers;         /* of the chains, shared with those of other sets, or NULL */
    const char *ca_url;          /* where it is from */
    int must_staple;             /* it was ordered with that, which a CA may leave out */
} md_set_t;

/* May the set go into service for the domain as it is configured? Each chain is a CA's for its key
 * and the names of the domain, valid at `now`, links, and is strong enough; and it is no worse than
 * what is in service (`live`, what could be served now: `const md_cert_info_t *` per key spec, or
 * NULL):
 * - It covers all names. If what is live does not either: all that this covers.
 * - Where that is for the settings of today, this is, too.
 * - It covers more, or expires no earlier, or was issued later and either is not due for renewal
 *   itself, or what is live is, too.
 * Pure. APR_EINVAL with the reason; APR_EEXIST (not an md_fail) when it is what is live. */
MD_MUST_CHECK
apr_status_t md_set_check(const md_set_t *set, const md_domain_t *domain,
                          const apr_array_header_t *live, apr_time_t now, md_err_t *err,
                          apr_pool_t *p);

#endif
