/* SPDX-License-Identifier: Apache-2.0 */
/* ACME Renewal Information (RFC 9773): when a CA suggests to renew one of its certificates. */
#ifndef MD_ARI_H
#define MD_ARI_H

#include "md_acme.h"
#include "md_cert.h"

#define MD_ARI_POLL_LEAST apr_time_from_sec(60)
#define MD_ARI_POLL_MOST  apr_time_from_sec(24 * 3600)
#define MD_ARI_POLL       apr_time_from_sec(6 * 3600) /* where the CA does not say */

/* RFC 9773 4.2. */
typedef struct md_ari_t {
    md_window_t window;          /* suggestedWindow; 0 to 0: none */
    const char *explanation_url; /* a page that tells why, or NULL */
    apr_time_t poll_at;          /* when to ask again */
} md_ari_t;

/* What cannot be meant for a certificate with that validity: a window without length or turned
 * around, or one years away. NULL, or why it is void. Pure. */
const char *md_ari_window_problem(const md_window_t *window, const md_window_t *validity);

/* Is it a URL to be shown? Pure. */
int md_ari_is_url(const char *url, apr_pool_t *p);

/* A uniformly random moment of the window, by 64 random bits. Pure. */
apr_time_t md_ari_pick(const md_window_t *window, apr_uint64_t dice);

/* When to ask again (4.3.2): as the CA tells, within MD_ARI_POLL_LEAST and MD_ARI_POLL_MOST, or if
 * it does not (0) after MD_ARI_POLL, or `interval` if that is shorter. Pure. */
apr_time_t md_ari_poll_at(apr_time_t retry_after, apr_interval_time_t interval, apr_time_t now);

/* A RenewalInfo object (4.2) for a certificate with that validity. A page that is none is left out,
 * anything else that is wrong is APR_EINVAL. Does not set poll_at. */
MD_MUST_CHECK
apr_status_t md_ari_parse(md_ari_t *pari, const md_json_t *json, const md_window_t *validity,
                          md_err_t *err, apr_pool_t *p);

/* Ask the CA, whose directory is known and offers it, about its certificate (4.1); `interval` as
 * above. A failure changes nothing but err->retry_after, which may tell when to ask again. */
MD_MUST_CHECK
apr_status_t md_ari_fetch(md_ari_t *pari, md_acme_t *acme, const md_cert_info_t *cert,
                          apr_interval_time_t interval, apr_time_t now, md_err_t *err,
                          apr_pool_t *p);

#endif
