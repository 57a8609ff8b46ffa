/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of a certificate that was issued: the one that the CA offers first, or an alternate one
 * that is preferred (RFC 8555 7.4.2). All are checked alike. */
#ifndef MD_ACME_CHAIN_H
#define MD_ACME_CHAIN_H

#include "md_acme.h"

typedef struct md_choice_t {
    /* set by the caller, constant */
    apr_pool_t *p;
    md_acme_t *acme;
    md_signer_t signer;
    const char *name;               /* of the domain, for the log */
    const char *url;                /* of the certificate */
    const md_key_t *key;
    const apr_array_header_t *names; /* that it has to cover */
    const char *preferred;          /* common name of the issuer or of the root; NULL: any */

    /* how it goes; zero at first */
    apr_array_header_t *chain;      /* the first one, NULL: not fetched yet */
    apr_array_header_t *alternates; /* URLs of the others */
    int next;                       /* of these */
    const char *trouble;            /* why one of them could not be used, or NULL */
} md_choice_t;

/* One exchange with the CA. *pchain is the chain to use, NULL: call again. Fails if the first chain
 * cannot be had or is refused (APR_EINVAL; lasting if another download would bring the same); where
 * that is so of an alternate one, or none is as preferred, the first is used, and a warning tells
 * it. */
MD_MUST_CHECK
apr_status_t md_choice_step(apr_array_header_t **pchain, md_choice_t *choice, apr_time_t now,
                            md_err_t *err, apr_pool_t *tmp);

#endif
