/* SPDX-License-Identifier: Apache-2.0 */
/* Proving control over the identifiers of an order (RFC 8555 7.5): passes over its authorizations,
 * all of them in one before the first of the next, with one exchange in a step. */
#ifndef MD_ACME_PROOF_H
#define MD_ACME_PROOF_H

#include "md_acme_acct.h"
#include "md_acme_authz.h"

typedef struct md_proofs_t {
    /* set by the caller, constant; live in `p`, in which texts are made that outlive the proofs */
    apr_pool_t *p;
    md_acme_t *acme;
    const md_acct_t *acct;
    const apr_array_header_t *identifiers; /* of the order: nothing is done for others */
    const md_solver_conf_t *solver;

    /* how it goes; zero at first */
    apr_pool_t *own;
    apr_array_header_t *list;              /* how far it is with each authorization */
    int to_look_at, next_look;             /* authorizations, while the order stays pending */
    apr_interval_time_t wait;              /* before the next step, 0: none */
    const char *activity;                  /* what is being done; in `p` */
    const char *setup;                     /* see md_solver_setup; of the last step, or NULL */
    const char *failed_type;               /* challenge type that the CA found wanting, or NULL */
    const char *complaint;                 /* problem of a challenge that the CA still tries */
} md_proofs_t;

/* A copy of `conf` for the authorizations at `urls`, none of them looked at yet. */
md_proofs_t *md_proofs_make(const md_proofs_t *conf, const apr_array_header_t *urls);
void md_proofs_destroy(md_proofs_t *proofs);

/* Is nothing left to be chosen, so that commands are run and the CA is told to look next? What was
 * set up has to be stored by then. */
int md_proofs_are_set_up(const md_proofs_t *proofs);

/* Take the next one a step further. *prv: APR_EINVAL when the order is of no use. Returns 0 when
 * the CA was told all, and nothing was done. */
int md_proofs_step(apr_status_t *prv, md_proofs_t *proofs, md_err_t *err, apr_pool_t *tmp);

/* The order alone tells when all goes well. While it stays pending, some authorizations are looked
 * at between two looks at it: call md_proofs_watch, then md_proofs_look, as md_proofs_step, until
 * that returns 0. What a challenge failed by may be told by its authorization alone; one that is
 * pending with a problem is answered once more (8.2). */
void md_proofs_watch(md_proofs_t *proofs);
int md_proofs_look(apr_status_t *prv, md_proofs_t *proofs, md_err_t *err, apr_pool_t *tmp);
/* Add to `err`, a wait that took too long, what the CA said about a challenge meanwhile. */
void md_proofs_complain(const md_proofs_t *proofs, md_err_t *err, apr_pool_t *tmp);

/* Why the order with the authorizations at `urls` became invalid: always an md_fail. */
void md_proofs_explain(md_proofs_t *proofs, const apr_array_header_t *urls, md_err_t *err,
                       apr_pool_t *tmp);

#endif
