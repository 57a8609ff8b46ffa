/* SPDX-License-Identifier: Apache-2.0 */
/* What CAs suggest for the certificates of a domain (RFC 9773): asked for in turn, kept in
 * `ocsp/<name>/ari.json` over restarts. */
#ifndef MD_ADVICE_H
#define MD_ADVICE_H

#include "md_ari.h"
#include "md_live.h"

/* On one certificate. */
typedef struct md_hint_t {
    const md_cert_info_t *cert; /* that is live */
    md_ari_t ari;               /* poll_at 0: it was never asked for */
    apr_time_t renew_at;        /* a random moment of the window, 0: there is none */
    apr_time_t asked_at;
    int errors;                 /* answers that were of no use, in a row */
    const char *problem;        /* of the last one, or NULL */
    int is_followed;            /* a renewal has begun because of it */
} md_hint_t;

/* On all of a domain. */
typedef struct md_advice_t {
    const md_domain_t *domain;
    apr_array_header_t *hints;  /* md_hint_t */
    apr_time_t followed_at;     /* when a renewal last began because of one, 0: never */
    apr_time_t told_at;         /* when an explanation last was in the log, 0: never */
    apr_pool_t *p;
} md_advice_t;

/* What is known on certificates that the domain has from its CA and that have not ended, none of
 * them if nobody wants to know. The moment of a window is the same each time, as it is made of what
 * is random in a certificate. A time that no poll can have noted is void: the document is from
 * children, and the date may have been wrong. `store` NULL: there is no such document. */
md_advice_t *md_advice_load(const md_store_t *store, const md_domain_t *domain, apr_time_t now,
                            apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_advice_save(const md_advice_t *advice, const md_store_t *store, md_err_t *err,
                            apr_pool_t *p);

/* The hint whose moment comes first, NULL if there is none. */
const md_hint_t *md_advice_first(const md_advice_t *advice);

/* Was a CA asked for any? */
int md_advice_is_known(const md_advice_t *advice);

/* 0: a CA was asked, and has none for anybody. */
int md_advice_is_offered(const md_advice_t *advice);

/* When the next poll is due; APR_INT64_MAX: never. */
apr_time_t md_advice_poll_at(const md_advice_t *advice);

/* Hints whose moment has come are to be asked for again now, as the CA may have moved it; `all` of
 * them, if somebody wants to know. */
void md_advice_renew_hints(md_advice_t *advice, int all, apr_time_t now);

/* One exchange with the CA that issued the certificates: its directory, or renewal information that
 * is due, and what came of it. `interval` is MDCheckInterval, `dice` a random byte. 0: there is no
 * more to ask now. */
int md_advice_ask(md_advice_t *advice, md_acme_t *acme, apr_interval_time_t interval,
                  apr_time_t now, unsigned char dice);

/* A renewal begins because of it. If the next certificate is to be renewed at once, too, that is
 * done after a while. */
void md_advice_follow(md_advice_t *advice, apr_time_t now);

/* For status pages: what is known on the certificate with that id, NULL for nothing. */
md_json_t *md_advice_to_json(const md_advice_t *advice, const char *cert_id, apr_pool_t *p);

#endif
