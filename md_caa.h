/* SPDX-License-Identifier: Apache-2.0 */
/* CAA records (RFC 8659, RFC 8657): may this CA issue for a name? */
#ifndef MD_CAA_H
#define MD_CAA_H

#include "md_dns.h"

/* Who asks for what. What is not known is NULL, and nothing fails by it. */
typedef struct md_caa_wish_t {
    int is_wildcard;
    const apr_array_header_t *identities; /* of the CA: `caaIdentities` (RFC 8555 7.1.1) */
    const char *account;                  /* URL */
    const char *method;                   /* challenge type */
} md_caa_wish_t;

/* The records that count for a name without `*.`: its own, else those of the nearest name above it
 * that has some. NULL: questions are open (md_dns_poll). The state is MD_DNS_FOUND, MD_DNS_FAILED,
 * for which a CA must not issue, or MD_DNS_EMPTY. */
const md_dns_answer_t *md_caa_find(md_dns_t *dns, const char *name);

/* What in these records forbids it, as a phrase in `p`; NULL: nothing, as far as is known. Pure. */
const char *md_caa_objection(const md_dns_answer_t *records, const md_caa_wish_t *wish,
                             apr_pool_t *p);

#endif
