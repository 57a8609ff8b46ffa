/* SPDX-License-Identifier: Apache-2.0 */
/* ACME accounts (RFC 8555 7.3): find one that fits, register, verify, keep in the store. */
#ifndef MD_ACME_ACCT_H
#define MD_ACME_ACCT_H

#include "md_acme.h"
#include "md_store.h"

typedef struct md_acct_t {
    const char *id;      /* directory in `accounts`; NULL while it is only staged */
    const char *url;     /* account URL, the `kid` of requests (7.1.2) */
    const char *ca_url;  /* directory URL of its CA */
    const char *status;  /* "valid", "deactivated", "revoked" or NULL */
    apr_array_header_t *contacts;
    const char *agreement, *orders;
    const char *eab_kid, *eab_hmac;
    const md_json_t *registration; /* the CA's account object as last seen */
    const md_key_t *key;
    const char *thumbprint;        /* RFC 7638, of `key` */
} md_acct_t;

/* The account that somebody needs. */
typedef struct md_acct_wish_t {
    const char *ca_url;
    const apr_array_header_t *contacts; /* URIs */
    const char *agreement;              /* `accepted`, a URL, or NULL */
    const char *eab_kid, *eab_hmac;     /* both or none */
    const md_key_spec_t *key_spec;      /* of a new account; NULL: P-256 */
    const char *id;                     /* preferred stored account, or NULL */
} md_acct_wish_t;

/* Read account and key from `group/name`. APR_ENOENT when there is none. */
MD_MUST_CHECK
apr_status_t md_acct_load(md_acct_t **pacct, const md_store_t *store, md_store_group_t group,
                          const char *name, md_err_t *err, apr_pool_t *p);

MD_MUST_CHECK
apr_status_t md_acct_save(const md_acct_t *acct, const md_store_t *store,
                          md_store_group_t group, const char *name, md_err_t *err,
                          apr_pool_t *p);

/* What the names of directories in staging begin with that hold an account for no domain, and a new
 * one of them. */
#define MD_ACCT_ALONE ".account-"
const char *md_acct_lone_place(apr_pool_t *p);

/* Put aside what is damaged of the account in `group/name`, telling it. */
void md_acct_repair(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_pool_t *p);

/* Is this account staged in `staging/name`? */
int md_acct_is_staged(const md_acct_t *acct, const md_store_t *store, const char *name,
                      apr_pool_t *p);

/* A deep copy in `p`; the key is shared by reference count. */
md_acct_t *md_acct_copy(const md_acct_t *acct, apr_pool_t *p);

/* Let it sign requests. */
md_signer_t md_acct_signer(const md_acct_t *acct);

/* An account to sign with: the one staged in `staged` (a name in staging), the wished one, a
 * fitting stored one, one staged for another domain, or a new one, which is then staged in
 * `staged`. Its key is saved before the CA hears of it, so a crash in between registers nothing
 * twice: the CA is asked for keys that are alone, in the directories of all domains (RFC 8555
 * 7.3.1), and none is registered while it may still have one that is stored. Needs the
 * directory. */
MD_MUST_CHECK
apr_status_t md_acct_select(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                            const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                            apr_pool_t *p);

/* Is `agreement` ('accepted' or a URL) one to the terms of service that the CA has now (7.3.3)?
 * NULL is for the CA to judge. Needs the directory, as do the next four. */
MD_MUST_CHECK
apr_status_t md_acct_check_terms(md_acme_t *acme, const char *agreement, md_err_t *err);

/* A new account as wished (7.3), staged in `staged`. The CA alone decides what it thinks of
 * contacts and a missing agreement. */
MD_MUST_CHECK
apr_status_t md_acct_register(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                              const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                              apr_pool_t *p);

/* Ask the CA about the account, by its URL (7.3), else by its key (7.3.1); it is then as the CA has
 * it. APR_ENOENT when the CA does not have it (any more) or does not take it; all else leaves open
 * whether it does. */
MD_MUST_CHECK
apr_status_t md_acct_verify(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p);

/* Agree to the terms of service that the CA has now (7.3.3); `acct` is then as the CA has it. */
MD_MUST_CHECK
apr_status_t md_acct_agree(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p);

/* End the account at the CA (7.3.6). */
MD_MUST_CHECK
apr_status_t md_acct_deactivate(md_acme_t *acme, const md_acct_t *acct, md_err_t *err,
                                apr_pool_t *p);

/* The id of a valid stored account that fits, NULL if there is none. */
const char *md_acct_find_id(const md_store_t *store, const md_acct_wish_t *wish, apr_pool_t *p);

/* The id that the next new account at this CA gets. */
const char *md_acct_next_id(const md_store_t *store, const char *ca_url, apr_pool_t *p);

/* Copy an account staged in `staging/name` into `accounts`, under the id of the same account if it
 * is there already (then what it lacks is completed). Another one is never overwritten. APR_ENOENT
 * when nothing is staged. */
MD_MUST_CHECK
apr_status_t md_acct_promote(const char **pid, const md_store_t *store, const char *name,
                             md_err_t *err, apr_pool_t *p);

#endif
