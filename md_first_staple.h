/* SPDX-License-Identifier: Apache-2.0 */
/* The first OCSP responses of certificates that must be stapled (RFC 7633): in the store before the
 * certificates are put into service, so that clients have them in the first handshake. */
#ifndef MD_FIRST_STAPLE_H
#define MD_FIRST_STAPLE_H

#include "md_http.h"
#include "md_reg.h"

/* Is there a staged certificate of the domain that we are to staple, must have a response, and has
 * none yet? */
int md_first_staple_is_missing(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p);

/* Ask the responder of the first one of them, by one exchange, and store what it says. */
MD_MUST_CHECK
apr_status_t md_first_staple_fetch(const md_reg_t *reg, const md_domain_t *domain, int by_post,
                                   md_http_t *http, md_err_t *err, apr_pool_t *p);

#endif
