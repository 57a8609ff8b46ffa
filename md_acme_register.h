/* SPDX-License-Identifier: Apache-2.0 */
/* Which account signs: one that is there, one whose registration was cut short, or a new one. */
#ifndef MD_ACME_REGISTER_H
#define MD_ACME_REGISTER_H

#include "md_acme_acct.h"

/* What the names of directories in staging begin with that hold an account for no domain, and a new
 * one of them. */
#define MD_ACCT_ALONE ".account-"
const char *md_acct_lone_place(apr_pool_t *p);

/* Is `agreement` ('accepted' or a URL) one to the terms of service that the CA has now (7.3.3)?
 * NULL is for the CA to judge. Needs the directory, as do the next two. */
MD_MUST_CHECK
apr_status_t md_acct_check_terms(md_acme_t *acme, const char *agreement, md_err_t *err);

/* A new account as wished (7.3), staged in `staged`. The CA alone decides what it thinks of
 * contacts and a missing agreement. */
MD_MUST_CHECK
apr_status_t md_acct_register(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                              const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                              apr_pool_t *p);

/* An account to sign with: the one staged in `staged` (a name in staging), the wished one, a
 * fitting stored one, one staged for another domain, or a new one, which is then staged in
 * `staged`. Its key is saved before the CA hears of it, so a crash in between registers nothing
 * twice: the CA is asked for keys that are alone, in the directories of all domains (RFC 8555
 * 7.3.1), and none is registered while it may still have one that is stored. */
MD_MUST_CHECK
apr_status_t md_acct_select(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                            const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                            apr_pool_t *p);

#endif
