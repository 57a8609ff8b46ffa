/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP responses in the store: `ocsp/<name>/ocsp-<SHA-1 of the certificate>.json`. */
#ifndef MD_STAPLE_FILE_H
#define MD_STAPLE_FILE_H

#include "md_reg.h"
#include "md_staples.h"

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

/* Remove what was not written for MDStaplingKeepResponse: responses; and of names that are neither
 * configured nor stapled any more all else, too, such as what a CA suggested for them. */
void md_staple_clean(const md_reg_t *reg, apr_time_t now, apr_pool_t *p);

#endif
