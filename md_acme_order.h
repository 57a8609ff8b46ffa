/* SPDX-License-Identifier: Apache-2.0 */
/* Orders (RFC 8555 7.1.3, 7.4) and the issuance of a set of certificates by them.  An issuance is
 * resumable: what the CA says about the order and the files in `staging/<name>` decide what is
 * next. A step does an exchange or two with the CA and never sleeps. A killed process loses
 * nothing. */
#ifndef MD_ACME_ORDER_H
#define MD_ACME_ORDER_H

#include "md_acme.h"
#include "md_acme_chain.h"
#include "md_acme_proof.h"
#include "md_acme_use.h"
#include "md_store.h"

typedef enum {
    MD_ORDER_PENDING,
    MD_ORDER_READY,
    MD_ORDER_PROCESSING,
    MD_ORDER_VALID,
    MD_ORDER_INVALID,
    MD_ORDER_STATUS_MAX
} md_order_status_t;

/* An order as last seen, and what was set up for it and must be torn down. */
typedef struct md_order_t {
    const char *url;
    md_order_status_t status;
    apr_array_header_t *authorizations; /* URLs */
    const char *finalize, *certificate;
    apr_time_t expires;                 /* 0 if unknown */
    apr_array_header_t *setups;         /* see md_solver_setup */
    md_json_t *error;                   /* problem of an invalid order, or NULL */
    apr_time_t waiting_since;           /* the CA asked for waits that outlast a run; or 0 */
} md_order_t;

typedef enum { MD_STEP_AGAIN, MD_STEP_WAIT, MD_STEP_DONE, MD_STEP_FAILED } md_step_t;

/* One attempt to obtain a set of certificates, a chain for each key spec. */
typedef struct md_issue_t {
    /* set by the caller, constant; live in `p` or longer */
    apr_pool_t *p;
    const md_store_t *store;
    const char *name;                    /* directory in staging */
    md_acme_t *acme;
    md_acct_use_t *use;                  /* the account at `acme` for `wish` */
    md_acct_wish_t wish;
    const apr_array_header_t *identifiers; /* md_identifier_t, minimal */
    const apr_array_header_t *key_specs; /* md_key_spec_t, at least one */
    int must_staple;
    const apr_array_header_t *replaces;  /* per key spec: id (RFC 9773 4.1) of the certificate of
                                          * this CA whose place the new one takes, or NULL */
    const char *profile;                 /* or NULL */
    int profile_mandatory;
    const char *preferred_chain;         /* see md_choice_t */
    md_solver_conf_t solver;
    int is_urgent;                       /* no valid certificate is served */

    /* how it goes; zero at first */
    const char *activity;                /* what is being done, for job and log */
    apr_time_t wake_at;                  /* of MD_STEP_WAIT */
    const md_acct_t *acct;               /* signs for this run */
    int spec;                            /* index of the key spec in work */
    md_key_t *key;                       /* of it, as staged; NULL: not looked at in this run */
    md_order_t *order;                   /* NULL: look into staging */
    apr_pool_t *order_pool;
    int order_is_resumed;                /* from an earlier run */
    md_proofs_t *proofs;                 /* NULL: no authorization was looked at */
    md_choice_t *choice;                 /* of the chain; NULL: not begun */
    const char *failed_type;             /* challenge type that the CA found wanting, or NULL */
    int needs_change;                    /* failed by what is configured: see md_job_t */
    int acct_refusals;                   /* orders that were refused as if by it */
    int passing;                         /* failures in a row that may be over in a moment */
    int is_unsynced;                     /* order.json lacks setups, or is not on the disk yet */
    int is_submitted;                    /* the CA has seen the CSR, */
    int is_finalized, is_unready;        /* and what it said to that */
    int polls;                           /* answers without progress, in a row */
    apr_time_t poll_since;
} md_issue_t;

/* Advance by one step. MD_STEP_WAIT: call again at issue->wake_at. MD_STEP_DONE: all chains are
 * staged. MD_STEP_FAILED: `err` says why; what is staged stays and the next attempt goes on from
 * there. */
md_step_t md_issue_step(md_issue_t *issue, apr_time_t now, md_err_t *err);

/* Is there a key and a chain for each spec in staging? */
int md_issue_is_complete(const md_store_t *store, const char *name,
                         const apr_array_header_t *key_specs, apr_pool_t *p);

/* Is the staged order a document of use? APR_ENOENT when there is none, APR_EINVAL. */
MD_MUST_CHECK
apr_status_t md_order_check(const md_store_t *store, const char *name, md_err_t *err,
                            apr_pool_t *p);

/* Is the staged order of `name` pending, with answers in place that the CA may look for? */
int md_order_has_setups(const md_store_t *store, const char *name, apr_pool_t *p);

/* What the staged order of `name` set up (see md_solver_setup); NULL: there is none. */
apr_array_header_t *md_order_setups(const md_store_t *store, const char *name, apr_pool_t *p);

/* Tear down what the staged order of `name` set up, of which there can be one for a name: not TXT
 * records. Whoever resumes it sets it up again. */
void md_order_tear_down(const md_store_t *store, const char *name, apr_pool_t *p);

/* Tear down what the staged order of `name` set up, and forget the order. Its TXT records are torn
 * down by md_txt_tear_down from now on. */
void md_order_drop(const md_store_t *store, const char *name, apr_pool_t *p);

#endif
