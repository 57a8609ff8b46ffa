/* SPDX-License-Identifier: Apache-2.0 */
/* ACME accounts (RFC 8555 7.3): kept in the store, found there, asked for at the CA, ended. */
#ifndef MD_ACME_ACCT_H
#define MD_ACME_ACCT_H

#include <apr_hash.h>

#include "md_acme.h"
#include "md_log.h"
#include "md_store.h"

typedef struct md_acct_t {
    const char *id;      /* directory in `accounts`; NULL while it is only staged */
    const char *url;     /* account URL, the `kid` of requests (7.1.2) */
    const char *ca_url;  /* directory URL of its CA */
    const char *status;  /* "valid", "deactivated", "revoked" or NULL */
    apr_array_header_t *contacts;
    int shows_contacts;  /* these are what the CA says that it has */
    const char *agreement, *orders;
    const char *eab_kid, *eab_hmac;
    const md_json_t *registration; /* the CA's account object as last seen */
    const md_key_t *key;
    const char *thumbprint;        /* RFC 7638, of `key` */
    const md_key_t *next_key;      /* that the account is to get, or has got already; or NULL */
    apr_time_t stored_at;          /* as loaded: see md_acct_is_changed */
} md_acct_t;

/* The account that somebody needs. */
typedef struct md_acct_wish_t {
    const char *ca_url;
    const apr_array_header_t *contacts; /* URIs */
    apr_hash_t *contacts_in_use;        /* URIs of all who share the account, `contacts` among
                                         * them; NULL: it keeps those that it has */
    const char *agreement;              /* `accepted`, a URL, or NULL */
    const char *eab_kid, *eab_hmac;     /* both or none */
    const char *eab_alg;                /* see md_mac_t */
    const md_key_spec_t *key_spec;      /* of a new account; NULL: P-256 */
    const char *id;                     /* preferred stored account, or NULL */
} md_acct_wish_t;

#define MD_ACCT_JSON "account.json"
#define MD_ACCT_KEY  "account.pem"
#define MD_ACCT_NEXT_KEY "account.next.pem" /* see md_acme_rollover.h */

/* Where accounts are looked for. */
typedef struct md_acct_place_t {
    const md_store_t *store;
    md_store_group_t group;
    const md_acct_wish_t *wish;
} md_acct_place_t;

/* Is it at the wished CA, with the wished external account or none? */
int md_acct_fits(const md_acct_t *acct, const md_acct_wish_t *wish);

/* Read account and key from `group/name`. APR_ENOENT when there is none. */
MD_MUST_CHECK
apr_status_t md_acct_load(md_acct_t **pacct, const md_store_t *store, md_store_group_t group,
                          const char *name, md_err_t *err, apr_pool_t *p);

MD_MUST_CHECK
apr_status_t md_acct_save(const md_acct_t *acct, const md_store_t *store,
                          md_store_group_t group, const char *name, md_err_t *err,
                          apr_pool_t *p);

/* Put aside what is damaged of the account in `group/name`, telling it. */
void md_acct_repair(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_pool_t *p);

/* Is this account staged in `staging/name`? */
int md_acct_is_staged(const md_acct_t *acct, const md_store_t *store, const char *name,
                      apr_pool_t *p);

/* Has anybody changed or removed the account in the store since it was loaded? Never of one that is
 * only staged. */
int md_acct_is_changed(const md_acct_t *acct, const md_store_t *store, apr_pool_t *p);

/* From here on it signs with this key. APR_ENOTIMPL for one that cannot sign. */
MD_MUST_CHECK
apr_status_t md_acct_use_key(md_acct_t *acct, const md_key_t *key, md_err_t *err, apr_pool_t *p);

/* A deep copy in `p`; the key is shared by reference count. */
md_acct_t *md_acct_copy(const md_acct_t *acct, apr_pool_t *p);

/* Let it sign requests. */
md_signer_t md_acct_signer(const md_acct_t *acct);

/* The account that an answer to newAccount is about; it gets the key. */
MD_MUST_CHECK
apr_status_t md_acct_read(md_acct_t **pacct, md_acme_t *acme, const md_reply_t *reply,
                          const md_key_t *key, const md_acct_wish_t *wish, md_err_t *err,
                          apr_pool_t *p);

/* The account that the CA has for the key (7.3.1). APR_ENOENT when it says that there is none, with
 * the problem `unauthorized` when it was ended; all else leaves open whether there is one. Needs
 * the directory, as do the next three. */
MD_MUST_CHECK
apr_status_t md_acct_ask(md_acct_t **pacct, md_acme_t *acme, const md_key_t *key,
                         const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p);

/* Ask the CA about the account, by its URL (7.3), else by its key (7.3.1), and the same with the
 * next key if there is one; it is then as the CA has it. APR_ENOENT when the CA does not have it
 * (any more) or does not take it; all else leaves open whether it does. */
MD_MUST_CHECK
apr_status_t md_acct_verify(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p);

/* Tell the CA of the wished contacts if those that it has are not in use any more (7.3.2); `acct`
 * is then as the CA has it. What goes wrong is logged; it is no reason not to use the account. */
void md_acct_tell_contacts(md_acme_t *acme, md_acct_t *acct, const md_acct_wish_t *wish,
                           apr_pool_t *p);

/* Agree to the terms of service that the CA has now (7.3.3); `acct` is then as the CA has it. */
MD_MUST_CHECK
apr_status_t md_acct_agree(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p);

/* End the account at the CA (7.3.6). */
MD_MUST_CHECK
apr_status_t md_acct_deactivate(md_acme_t *acme, const md_acct_t *acct, md_err_t *err,
                                apr_pool_t *p);

/* Ids of the accounts in the store that may be at the wished CA, the wished id first; on failure
 * those that are known. */
apr_status_t md_acct_ids(apr_array_header_t **pids, const md_store_t *store,
                         const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p);

/* A valid account that fits; APR_ENOENT if there is none or it is damaged, which is told at
 * `level`. */
MD_MUST_CHECK
apr_status_t md_acct_load_fitting(md_acct_t **pacct, const md_acct_place_t *place,
                                  const char *name, md_log_level_t level, md_err_t *err,
                                  apr_pool_t *p);

/* The id of a valid stored account that fits, NULL if there is none. */
const char *md_acct_find_id(const md_store_t *store, const md_acct_wish_t *wish, apr_pool_t *p);

/* The id that the next new account at this CA gets. */
const char *md_acct_next_id(const md_store_t *store, const char *ca_url, apr_pool_t *p);

/* An account on its way from `staging` into `accounts`, in the form in which it is stored: whoever
 * reads what children staged has no rights to store it, and who has them does not read that. */
typedef struct md_acct_packed_t {
    const char *json;       /* its document, one line */
    const char *key;        /* encrypted PEM */
    const char *thumbprint; /* of the key */
} md_acct_packed_t;

/* The account staged in `staging/name`. APR_ENOENT when nothing is staged. */
MD_MUST_CHECK
apr_status_t md_acct_pack(md_acct_packed_t *packed, const md_store_t *store, const char *name,
                          md_err_t *err, apr_pool_t *p);

/* Store it in `accounts`, under the id of the same account if it is there already (then what it
 * lacks is completed). Another one is never overwritten. Of the document, the members that an
 * account has are taken; the key is stored as it is. */
MD_MUST_CHECK
apr_status_t md_acct_keep(const char **pid, const md_store_t *store,
                          const md_acct_packed_t *packed, md_err_t *err, apr_pool_t *p);

#endif
