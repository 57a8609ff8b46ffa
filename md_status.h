/* SPDX-License-Identifier: Apache-2.0 */
/* The status of a domain: gathered once, told by all pages. What is served comes from memory, jobs
 * and staged sets from the store. */
#ifndef MD_STATUS_H
#define MD_STATUS_H

#include "md_job.h"
#include "md_out.h"
#include "md_reg.h"
#include "md_renew.h"

/* What there is to tell of a domain at a moment. */
typedef struct md_status_t {
    const md_reg_t *reg;
    const md_domain_t *domain;
    const md_live_t *live;
    apr_time_t now;
    md_window_t valid;                /* of all certificates in service; end 0: there is no such
                                         period */
    int is_revoked;                   /* a certificate in service is, by its OCSP response */
    int is_whole;                     /* with all that the store has */
    const md_advice_t *advice;        /* what the CA suggests, NULL: it was not read */
    md_due_t due;                     /* when it is renewed, and why */
    int is_due;                       /* a renewal is under way, or it is time for one */
    const md_job_t *job;              /* of the renewal, NULL: there is none */
    const apr_array_header_t *staged; /* with a job: `const md_cert_info_t *` (or NULL) per spec */
    apr_status_t rv;                  /* why not all could be gathered */
} md_status_t;

/* For pages of all domains: the store is asked only for what goes on or has failed. Never fails;
 * lives in `p`. */
const md_status_t *md_status_of(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                                apr_pool_t *p);

/* For a page of the domain alone: the same, with what the CA suggests and the progress of its OCSP
 * responses; as JSON it has the log of its renewal, too. */
const md_status_t *md_status_whole(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                                   apr_pool_t *p);

/* How many certificates a renewal has obtained. */
int md_status_staged(const md_status_t *status);

/* What the certificate `i` of those in service, or staged, is called. */
const char *md_status_cert_label(const md_status_t *status, const apr_array_header_t *certs, int i,
                                 apr_pool_t *p);

/* Everything that was gathered about the domain. */
md_json_t *md_status_to_json(const md_status_t *status, apr_pool_t *p);

/* What anybody may know: the certificates in service, and those that are staged. */
md_json_t *md_status_public(const md_status_t *status, apr_pool_t *p);

/* `md_domain_t *` of all domains, by name. */
const apr_array_header_t *md_status_domains(const md_reg_t *reg, apr_pool_t *p);

/* All domains in order of name, and our version, as one document. */
void md_status_write(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p);

#endif
