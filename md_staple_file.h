/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP responses in the store: `ocsp/<name>/ocsp-<SHA-1 of the certificate>.json`. */
#ifndef MD_STAPLE_FILE_H
#define MD_STAPLE_FILE_H

#include "md_staples.h"
#include "md_store.h"

/* All of the response is checked again, as it may be damaged or have ended. APR_ENOENT when there
 * is none (not an md_fail). */
MD_MUST_CHECK
apr_status_t md_staple_load(md_staple_t *staple, const md_store_t *store,
                            const md_stapled_t *stapled, md_err_t *err, apr_pool_t *p);

/* Not synced to disk: it can be had again. */
MD_MUST_CHECK
apr_status_t md_staple_save(const md_staple_t *staple, const md_store_t *store,
                            const md_stapled_t *stapled, md_err_t *err, apr_pool_t *p);

int md_staple_is_stored(const md_store_t *store, const md_stapled_t *stapled, apr_pool_t *p);

/* Remove responses that were not written since `before`, and what else there is of stapling for
 * names that have none and are not stapled any more. */
void md_staple_clean(const md_store_t *store, const md_staples_t *staples, apr_time_t before,
                     apr_pool_t *p);

#endif
