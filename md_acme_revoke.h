/* SPDX-License-Identifier: Apache-2.0 */
/* Revocation of certificates (RFC 8555 7.6). */
#ifndef MD_ACME_REVOKE_H
#define MD_ACME_REVOKE_H

#include "md_acme.h"
#include "md_cert.h"

/* A reason (RFC 5280 5.3.1) by its name, in any case, or its number; -1 for a word that is none. */
int md_revoke_reason(const char *word);
/* The names of all, in one text. */
const char *md_revoke_reasons(apr_pool_t *p);

/* Have the CA revoke the certificate: as its account, or with the bare key of the certificate.
 * `reason` -1: none is given. APR_EEXIST (not an md_fail) when it was revoked before. Needs the
 * directory. */
MD_MUST_CHECK
apr_status_t md_acme_revoke(md_acme_t *acme, md_signer_t signer, const md_cert_t *cert, int reason,
                            md_err_t *err, apr_pool_t *p);

#endif
