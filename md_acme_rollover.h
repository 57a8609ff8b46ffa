/* SPDX-License-Identifier: Apache-2.0 */
/* A new key for an account (RFC 8555 7.3.5). */
#ifndef MD_ACME_ROLLOVER_H
#define MD_ACME_ROLLOVER_H

#include "md_acme_acct.h"

/* Give the stored account a new key of the same kind, at its CA and in the store; or finish what
 * was begun before. The new key is stored beside the old one before the CA hears of it, and takes
 * its place when the CA is known to have it, so that the account works after a crash at any
 * instant: md_acct_verify tries both. Needs the directory, and that nobody else does the same. If
 * it fails, the account has the old key, or it is not known which: the next call goes on with the
 * same new one. */
MD_MUST_CHECK
apr_status_t md_acct_rollover(md_acme_t *acme, const md_store_t *store, md_acct_t *acct,
                              md_err_t *err, apr_pool_t *p);

#endif
