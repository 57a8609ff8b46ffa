/* SPDX-License-Identifier: Apache-2.0 */
/* The CAs in use by all renewals of a registry, each with the account that is used there for an
 * external one (or none). Many threads work with both. */
#ifndef MD_CAS_H
#define MD_CAS_H

#include "md_acme_use.h"
#include "md_http.h"
#include "md_reg.h"

typedef struct md_cas_t md_cas_t;

typedef struct md_ca_t {
    const char *eab_kid, *eab_hmac;
    md_acme_t *acme;      /* shared by all accounts there */
    md_acct_use_t *use;
    apr_hash_t *contacts; /* URIs of all domains that may use the account; NULL: not known */
    struct md_ca_t *next;
} md_ca_t;

/* None yet. They live as long as `p`. */
MD_MUST_CHECK
apr_status_t md_cas_create(md_cas_t **pcas, const md_reg_t *reg, md_http_t *http, md_err_t *err,
                           apr_pool_t *p);

/* The CA at `url`, as the domain reaches it, and the account for the domain's external one. NULL
 * without memory. Any thread. */
const md_ca_t *md_cas_get(md_cas_t *cas, const char *url, const md_domain_t *domain);

#endif
