/* SPDX-License-Identifier: Apache-2.0 */
/* *When* a domain is to be renewed (pure functions), and *one run* of a renewal, from the decision
 * to the job record. */
#ifndef MD_RENEW_H
#define MD_RENEW_H

#include "md_acme_order.h"
#include "md_advice.h"
#include "md_job.h"
#include "md_stage.h"

/* Is this domain renewed by us at all? */
int md_renew_is_wanted(const md_domain_t *domain);

/* When a domain is to be renewed, and why. */
typedef struct md_due_t {
    apr_time_t at;               /* 0: nothing can be told */
    const char *reason;          /* `window`, `ari`, `forced`, `revoked`, or what the domain lacks
                                  * (md_live_t); NULL: nothing can be told */
    const char *explanation_url; /* of the CA, or NULL */
} md_due_t;

/* `now` when a certificate is missing or does not fit. Else the earliest moment of its renewal
 * windows: in the first part of each, another one for each certificate, so that those issued
 * together are not renewed in the same minute. Or a moment that the CA suggests, if that is
 * earlier; `advice` may be NULL. Pure. */
md_due_t md_renew_due(const md_domain_t *domain, const md_advice_t *advice, apr_time_t now);

/* The same; and `now` if an OCSP response says that a certificate is revoked (`revoked`). */
md_due_t md_renew_when(const md_reg_t *reg, const md_domain_t *domain, const md_advice_t *advice,
                       apr_time_t now);

/* The same by what the store has of the CA's advice. */
md_due_t md_renew_look(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                       apr_pool_t *p);

/* The command for TXT records of the domain (or NULL): its own, else that of the server. A tool has
 * none, as it knows no configuration. */
md_dns_conf_t md_renew_dns(const md_reg_t *reg, const md_domain_t *domain);

/* Who is asked by checks of what is in the DNS. */
md_dns_route_t md_renew_dns_route(const md_reg_t *reg);

/* How the server can prove control, by types that can work here. */
md_solver_conf_t md_renew_solver(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p);

/* What a CA will hardly accept, or why no challenge of the configured types can be answered, for
 * whoever tests a configuration; NULL if there is nothing. The CA is asked all the same. */
const char *md_renew_doubt(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p);

/* What in the configuration makes every renewal fail, NULL if nothing is known of. */
const char *md_renew_problem(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p);

/* A claim of being finished counts only with the whole set in staging. */
int md_renew_is_plausible(const md_reg_t *reg, const md_domain_t *domain, const md_job_t *job,
                          apr_pool_t *p);

/* Is a whole new set staged? */
int md_renew_is_staged(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p);

/* For how much is it urgent: microseconds of validity left of the shortest lived certificate, 0 if
 * there is none. */
apr_interval_time_t md_renew_time_left(const md_domain_t *domain, apr_time_t now);

/* For how long the shortest lived certificate is, or was, valid from its beginning, 0 if there is
 * none: its CA expects us as often. */
apr_interval_time_t md_renew_lifetime(const md_domain_t *domain);

/* MDRetryFailover: each CA gets that many attempts, then comes the next one of the list, and after
 * the last the first again. After `errors` failed attempts in a row. */
const char *md_renew_due_ca(const md_reg_t *reg, const md_domain_t *domain, int errors);

typedef struct md_renew_t md_renew_t;

/* A run for a domain that is due, resuming what is staged; settles which CA. Nothing is asked of it
 * if the record cannot be saved. `why` (or NULL) is for the log of the job. Lives in `p`. */
md_renew_t *md_renew_create(const md_reg_t *reg, const md_domain_t *domain, md_job_t *job,
                            const char *why, apr_time_t now, apr_pool_t *p);

/* The CA that the run needs; NULL if the run cannot start. Without a CA and the account in use
 * there it fails. `contacts` (or NULL) are those of all who use the account, see md_acct_wish_t. */
const char *md_renew_ca_url(const md_renew_t *renew);
void md_renew_use_ca(md_renew_t *renew, md_acme_t *acme, md_acct_use_t *use,
                     apr_hash_t *contacts);

/* One step. After MD_STEP_DONE and MD_STEP_FAILED the job is settled and saved, with its next run,
 * and a failure is in the log (AH10056, AH10057); nobody is told of a set that is ready yet. For a
 * tool nothing is saved. `dice` is a random byte. */
md_step_t md_renew_step(md_renew_t *renew, apr_time_t now, unsigned char dice);
apr_time_t md_renew_wake_at(const md_renew_t *renew);

/* After MD_STEP_WAIT: do not wait, that is the failure. */
void md_renew_give_up(md_renew_t *renew);

/* The run goes on for too long: that is a failure, which is recorded and told as others are. */
void md_renew_overdue(md_renew_t *renew, apr_time_t now, unsigned char dice);

/* After the end of a run: why it failed, rv APR_SUCCESS if it did not. Lives as long as the run. */
const md_err_t *md_renew_result(const md_renew_t *renew);

#endif
