/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts: documents, search, what the CA says of them. */
#include "md_acme_acct.h"

#include <string.h>

#include <apr_strings.h>

#include "md_jws.h"
#include "md_limits.h"
#include "md_text.h"

#define SHORT_LEN 16 /* characters of the CA's host name in an id */

/* ---- documents ---- */

/* mod_md up to 2.6 signs with RSA keys alone. About an account with another key that it finds
 * `valid` it asks the CA again and again, without end: those are stored without status, which it
 * passes over. One without a key comes from such a document. */
static int is_for_us_alone(const md_acct_t *acct)
{
    return acct->key && strcmp(md_key_jws_alg(acct->key), "RS256") != 0;
}

/* What the CA says about the account, if that is of a size that can be read back. */
static const md_json_t *keepable(const md_json_t *registration, apr_pool_t *p)
{
    const char *text = md_json_text(registration, 0, p);

    return text && strlen(text) <= MD_MAX_REGISTRATION ? registration : NULL;
}

static md_json_t *acct_to_json(const md_acct_t *acct, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    if (!is_for_us_alone(acct) || !md_text_same(acct->status, "valid"))
        md_json_set_str(json, "status", acct->status);
    md_json_set_str(json, "url", acct->url);
    md_json_set_str(json, "ca-url", acct->ca_url);
    md_json_set_strings(json, "contact", acct->contacts);
    md_json_set(json, "registration", keepable(acct->registration, p));
    md_json_set_str(json, "agreement", acct->agreement);
    md_json_set_str(json, "orders", acct->orders);
    md_json_set_str(json, "eab.kid", acct->eab_kid);
    md_json_set_str(json, "eab.hmac", acct->eab_hmac);
    return json;
}

static const char *str(const md_json_t *json, const char *path, apr_pool_t *p)
{
    return apr_pstrdup(p, md_json_get_str(json, path));
}

static const md_json_rule_t RULES[] = {
    { "url", MD_JSON_STRING, 1 }, { "ca-url", MD_JSON_STRING, 1 }, { "status", MD_JSON_STRING, 0 },
    { "contact", MD_JSON_STRINGS, 0 }, { NULL, MD_JSON_STRING, 0 }
};

static md_acct_t *acct_from_json(const md_json_t *json, apr_pool_t *p)
{
    md_acct_t *acct = apr_pcalloc(p, sizeof(*acct));

    acct->url = str(json, "url", p);
    acct->ca_url = str(json, "ca-url", p);
    acct->status = str(json, "status", p);
    acct->contacts = md_json_get_strings(json, "contact", p);
    if (!acct->contacts) /* stores of old versions */
        acct->contacts = md_json_get_strings(json, "registration.contact", p);
    if (!acct->contacts)
        acct->contacts = md_strings_make(p);
    acct->agreement = str(json, "agreement", p);
    if (!acct->agreement)
        acct->agreement = str(json, "terms-of-service", p);
    acct->orders = str(json, "orders", p);
    acct->registration = md_json_get(json, "registration", p);
    acct->eab_kid = str(json, "eab.kid", p);
    acct->eab_hmac = str(json, "eab.hmac", p);
    if (!acct->eab_kid || !acct->eab_hmac)
        acct->eab_kid = acct->eab_hmac = NULL;
    return acct;
}

apr_status_t md_acct_use_key(md_acct_t *acct, const md_key_t *key, md_err_t *err, apr_pool_t *p)
{
    acct->key = key;
    acct->thumbprint = md_jwk_thumbprint(key, p);
    if (!acct->thumbprint)
        return md_fail(err, APR_ENOTIMPL, "the account's key is of a type that cannot sign");
    return APR_SUCCESS;
}

/* None, for most accounts; one that is damaged is as good as none. */
static apr_status_t load_next_key(md_acct_t *acct, const md_store_t *store, md_err_t *err,
                                  apr_pool_t *p)
{
    md_key_t *key;
    apr_status_t rv;

    if (!md_store_exists(store, MD_STORE_ACCOUNTS, acct->id, MD_ACCT_NEXT_KEY, p))
        return APR_SUCCESS;
    rv = md_store_load_key(&key, store, MD_STORE_ACCOUNTS, acct->id, MD_ACCT_NEXT_KEY, err, p);
    if (rv == APR_SUCCESS && md_key_jws_alg(key))
        acct->next_key = key;
    return md_is_lack(rv) ? rv : APR_SUCCESS;
}

apr_status_t md_acct_load(md_acct_t **pacct, const md_store_t *store, md_store_group_t group,
                          const char *name, md_err_t *err, apr_pool_t *p)
{
    apr_time_t stored_at = md_store_changed_at(store, group, name, p);
    md_json_t *json;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_json(&json, store, group, name, MD_ACCT_JSON, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(json, store, group, name, MD_ACCT_JSON, RULES, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_load_key(&key, store, group, name, MD_ACCT_KEY, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    *pacct = acct_from_json(json, p);
    rv = md_acct_use_key(*pacct, key, err, p);
    if (rv == APR_SUCCESS && !(*pacct)->status && is_for_us_alone(*pacct))
        (*pacct)->status = "valid";
    if (rv != APR_SUCCESS || group != MD_STORE_ACCOUNTS)
        return rv;
    (*pacct)->id = apr_pstrdup(p, name);
    (*pacct)->stored_at = stored_at;
    return load_next_key(*pacct, store, err, p);
}

int md_acct_is_changed(const md_acct_t *acct, const md_store_t *store, apr_pool_t *p)
{
    return acct->id
           && md_store_changed_at(store, MD_STORE_ACCOUNTS, acct->id, p) != acct->stored_at;
}

/* One file of an account: damage is out of the way afterwards, and told once. */
static void repair_file(const md_store_t *store, md_store_group_t group, const char *name,
                        const char *file, apr_status_t rv, const md_err_t *err,
                        const char *consequence, apr_pool_t *p)
{
    const char *aside;

    if (!APR_STATUS_IS_EINVAL(rv))
        return;
    rv = md_store_put_aside(&aside, store, group, name, file, p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_ERR, "%s; kept as %s, %s", err->detail, aside, consequence);
    else
        md_log(MD_LOG_ERR, "%s; it could not be moved out of the way: %s", err->detail,
               md_err_text(rv, p));
}

void md_acct_repair(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_pool_t *p)
{
    md_json_t *json;
    md_key_t *key;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    rv = md_store_load_json(&json, store, group, name, MD_ACCT_JSON, &err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(json, store, group, name, MD_ACCT_JSON, RULES, &err, p);
    if (APR_STATUS_IS_EACCES(rv)) /* of no more use than a damaged one */
        rv = APR_EINVAL;
    repair_file(store, group, name, MD_ACCT_JSON, rv, &err, group == MD_STORE_STAGING
                    ? "the CA will be asked for the account by its key"
                    : "the account is not used until you repair it; its key stays in place", p);
    md_err_clear(&err);
    rv = md_store_load_key(&key, store, group, name, MD_ACCT_KEY, &err, p);
    repair_file(store, group, name, MD_ACCT_KEY, rv, &err, "the account is not used until you "
                "restore it from a backup; a new one is registered when one is needed", p);
}

apr_status_t md_acct_save(const md_acct_t *acct, const md_store_t *store,
                          md_store_group_t group, const char *name, md_err_t *err,
                          apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_store_save_key(store, group, name, MD_ACCT_KEY, acct->key, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    return md_store_save_json(store, group, name, MD_ACCT_JSON, acct_to_json(acct, p), err, p);
}

int md_acct_is_staged(const md_acct_t *acct, const md_store_t *store, const char *name,
                      apr_pool_t *p)
{
    md_json_t *json;

    return md_store_load_json(&json, store, MD_STORE_STAGING, name, MD_ACCT_JSON, NULL, p)
               == APR_SUCCESS
           && md_text_same(md_json_get_str(json, "url"), acct->url);
}

md_acct_t *md_acct_copy(const md_acct_t *acct, apr_pool_t *p)
{
    md_acct_t *copy = apr_pmemdup(p, acct, sizeof(*acct));

    copy->id = apr_pstrdup(p, acct->id);
    copy->url = apr_pstrdup(p, acct->url);
    copy->ca_url = apr_pstrdup(p, acct->ca_url);
    copy->status = apr_pstrdup(p, acct->status);
    copy->contacts = md_strings_copy(acct->contacts, p);
    copy->agreement = apr_pstrdup(p, acct->agreement);
    copy->orders = apr_pstrdup(p, acct->orders);
    copy->eab_kid = apr_pstrdup(p, acct->eab_kid);
    copy->eab_hmac = apr_pstrdup(p, acct->eab_hmac);
    copy->registration = NULL; /* a document is for one thread; the store has it */
    copy->thumbprint = apr_pstrdup(p, acct->thumbprint);
    copy->key = md_key_share(acct->key, p);
    copy->next_key = acct->next_key ? md_key_share(acct->next_key, p) : NULL;
    return copy;
}

md_signer_t md_acct_signer(const md_acct_t *acct)
{
    md_signer_t signer = { .key = acct->key, .kid = acct->url };

    return signer;
}

/* ---- search ---- */

int md_acct_fits(const md_acct_t *acct, const md_acct_wish_t *wish)
{
    return md_text_same(acct->ca_url, wish->ca_url) && md_text_same(acct->eab_kid, wish->eab_kid)
           && md_text_same(acct->eab_hmac, wish->eab_hmac);
}

/* What all ids of accounts at a CA begin with. */
static const char *id_prefix(const char *ca_url, apr_pool_t *p)
{
    const char *host = md_uri_host(ca_url, p);
    size_t len = host ? strlen(host) : 0;

    return apr_pstrcat(p, "ACME-", len > SHORT_LEN ? host + len - SHORT_LEN : host ? host : "",
                       "-", NULL);
}

/* What cannot be read, but for a lack that will pass, is as good as empty. */
static apr_status_t list_names(apr_array_header_t **pnames, const md_store_t *store,
                               md_store_group_t group, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = md_store_list(pnames, store, group, err, p);

    return md_is_lack(rv) ? rv : APR_SUCCESS;
}

apr_status_t md_acct_ids(apr_array_header_t **pids, const md_store_t *store,
                         const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    const char *prefix = id_prefix(wish->ca_url, p), *id;
    apr_array_header_t *all;
    apr_status_t rv;
    int i;

    *pids = md_strings_make(p);
    if (wish->id)
        APR_ARRAY_PUSH(*pids, const char *) = wish->id;
    rv = list_names(&all, store, MD_STORE_ACCOUNTS, err, p);
    for (i = 0; i < all->nelts; ++i) {
        id = APR_ARRAY_IDX(all, i, const char *);
        if (!strncmp(id, prefix, strlen(prefix)) && !md_text_same(id, wish->id))
            APR_ARRAY_PUSH(*pids, const char *) = id;
    }
    return rv;
}

apr_status_t md_acct_load_fitting(md_acct_t **pacct, const md_acct_place_t *place,
                                  const char *name, md_log_level_t level, md_err_t *err,
                                  apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_acct_load(pacct, place->store, place->group, name, err, p);
    if (md_is_lack(rv))
        return rv;
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(level, "account in %s is not used: %s",
               md_store_path(place->store, place->group, name, NULL, p),
               err->detail ? err->detail : "unreadable");
    return rv == APR_SUCCESS && md_acct_fits(*pacct, place->wish)
           && md_text_same((*pacct)->status, "valid") ? APR_SUCCESS : APR_ENOENT;
}

const char *md_acct_find_id(const md_store_t *store, const md_acct_wish_t *wish, apr_pool_t *p)
{
    const md_acct_place_t stored = { store, MD_STORE_ACCOUNTS, wish };
    apr_array_header_t *ids;
    md_acct_t *acct;
    const char *id;
    md_err_t err;
    int i;

    md_err_init(&err, p);
    (void)md_acct_ids(&ids, store, wish, &err, p);
    for (i = 0; i < ids->nelts; ++i) {
        id = APR_ARRAY_IDX(ids, i, const char *);
        if (md_acct_load_fitting(&acct, &stored, id, MD_LOG_DEBUG, &err, p) == APR_SUCCESS)
            return id;
    }
    return NULL;
}

const char *md_acct_next_id(const md_store_t *store, const char *ca_url, apr_pool_t *p)
{
    const char *prefix = id_prefix(ca_url, p), *id;
    int n = 0;

    do
        id = apr_psprintf(p, "%s%04d", prefix, n++);
    while (n < 1000 && md_store_exists(store, MD_STORE_ACCOUNTS, id, NULL, p));
    return id;
}

/* ---- at the CA ---- */

/* Many CAs keep none, or do not tell which. */
static void see_contacts(md_acct_t *acct, const md_json_t *json, apr_pool_t *p)
{
    apr_array_header_t *contacts = NULL;

    if (keepable(json, p))
        contacts = md_json_get_strings(json, "contact", p);
    if (contacts)
        acct->contacts = contacts;
    acct->shows_contacts = contacts && contacts->nelts > 0;
}

/* Take over what the CA says. */
static void see(md_acct_t *acct, const md_json_t *json, apr_pool_t *p)
{
    if (!json)
        return;
    acct->registration = json;
    see_contacts(acct, json, p);
    if (md_json_get_str(json, "status"))
        acct->status = md_json_get_str(json, "status");
}

apr_status_t md_acct_read(md_acct_t **pacct, md_acme_t *acme, const md_reply_t *reply,
                          const md_key_t *key, const md_acct_wish_t *wish, md_err_t *err,
                          apr_pool_t *p)
{
    const md_directory_t *dir = md_acme_directory(acme);
    md_acct_t *acct = apr_pcalloc(p, sizeof(*acct));
    apr_status_t rv;

    if (!reply->location)
        return md_fail(err, APR_EINVAL, "newAccount: no account URL in the answer");
    rv = md_acme_check_url(acme, reply->location, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!reply->json)
        return md_fail(err, APR_EINVAL, "newAccount: HTTP status %d, but the answer is not "
                       "JSON (%s)", reply->status, reply->media_type);
    acct->url = reply->location;
    acct->ca_url = wish->ca_url;
    acct->status = md_json_get_str(reply->json, "status");
    if (!acct->status)
        acct->status = "valid";
    see_contacts(acct, reply->json, p);
    if (!acct->contacts)
        acct->contacts = md_strings_copy(wish->contacts, p);
    acct->agreement = wish->agreement ? dir->terms_of_service : NULL;
    acct->orders = md_acme_url_member(reply->json, "orders", acct->url, p);
    acct->registration = reply->json;
    acct->eab_kid = wish->eab_kid;
    acct->eab_hmac = wish->eab_hmac;
    *pacct = acct;
    return md_acct_use_key(acct, key, err, p);
}

/* The account that the CA has for the key (RFC 8555 7.3.1). */
static apr_status_t look_up(md_reply_t **preply, md_acme_t *acme, const md_key_t *key,
                            md_err_t *err, apr_pool_t *p)
{
    md_signer_t signer = { .key = key };
    md_json_t *payload = md_json_object(p);

    md_json_set_bool(payload, "onlyReturnExisting", 1);
    return md_acme_post(preply, acme, signer, md_acme_directory(acme)->new_account, payload, err,
                        p);
}

static int is_refusal(apr_status_t rv)
{
    return APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_EACCES(rv) || APR_STATUS_IS_EINVAL(rv);
}

/* What an answer to a look by key means: a problem other than a limit tells that there is no such
 * account; what something between us and the CA says tells nothing. */
static apr_status_t seen_by_key(apr_status_t rv, const md_err_t *err)
{
    return err->type && is_refusal(rv) ? APR_ENOENT : rv == APR_ENOENT ? APR_EGENERAL : rv;
}

apr_status_t md_acct_ask(md_acct_t **pacct, md_acme_t *acme, const md_key_t *key,
                         const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    md_reply_t *reply;
    apr_status_t rv;

    rv = look_up(&reply, acme, key, err, p);
    if (rv == APR_SUCCESS)
        rv = md_acct_read(pacct, acme, reply, key, wish, err, p);
    if (rv == APR_SUCCESS && strcmp((*pacct)->status, "valid"))
        rv = md_fail_problem(err, APR_EACCES, MD_PROBLEM_UNAUTHORIZED, "account %s is %s",
                             (*pacct)->url, md_text_printable((*pacct)->status, p));
    return seen_by_key(rv, err);
}

/* Something between us and the CA may have refused the look at the URL: what the CA says to the key
 * settles it. */
static apr_status_t verify_by_key(md_reply_t **preply, md_acme_t *acme, md_acct_t *acct,
                                  md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    md_log(MD_LOG_DEBUG, "account %s: %s; looking the account up by its key", acct->url,
           err->detail);
    md_err_clear(err);
    rv = look_up(preply, acme, acct->key, err, p);
    if (rv == APR_SUCCESS && (*preply)->location)
        acct->url = (*preply)->location;
    return seen_by_key(rv, err);
}

static apr_status_t verify(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p)
{
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_fetch(&reply, acme, md_acct_signer(acct), acct->url, NULL, MD_MAX_ACME_BODY, err,
                       p);
    if (md_problem_is(err, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST))
        rv = APR_ENOENT;
    else if (is_refusal(rv)) /* without an answer: its URL is none that can be asked */
        rv = err->http_status ? verify_by_key(&reply, acme, acct, err, p) : APR_ENOENT;
    if (rv != APR_SUCCESS)
        return rv;
    see(acct, reply->json, p);
    if (!acct->status || !strcmp(acct->status, "valid"))
        return APR_SUCCESS;
    return md_fail(err, APR_ENOENT, "account %s is %s", acct->url,
                   md_text_printable(acct->status, p));
}

apr_status_t md_acct_verify(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = verify(acme, acct, err, p);

    if (APR_STATUS_IS_ENOENT(rv) && acct->next_key) {
        md_err_clear(err);
        rv = md_acct_use_key(acct, acct->next_key, err, p);
        if (rv == APR_SUCCESS)
            rv = verify(acme, acct, err, p);
    }
    if (APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_INFO, "account %s is not used: %s", acct->url, err->detail);
    return rv;
}

static int has_contact_in_use(const md_acct_t *acct, apr_hash_t *in_use)
{
    int i;

    for (i = 0; i < acct->contacts->nelts; ++i)
        if (apr_hash_get(in_use, APR_ARRAY_IDX(acct->contacts, i, const char *),
                         APR_HASH_KEY_STRING))
            return 1;
    return 0;
}

void md_acct_tell_contacts(md_acme_t *acme, md_acct_t *acct, const md_acct_wish_t *wish,
                           apr_pool_t *p)
{
    const char *told = apr_array_pstrcat(p, wish->contacts, ' ');
    md_json_t *payload = md_json_object(p);
    md_reply_t *reply;
    apr_status_t rv;
    md_err_t err;

    if (!wish->contacts_in_use || wish->contacts->nelts == 0 || !acct->shows_contacts
        || has_contact_in_use(acct, wish->contacts_in_use))
        return;
    md_err_init(&err, p);
    md_json_set_strings(payload, "contact", wish->contacts);
    rv = md_acme_try_post(&reply, acme, md_acct_signer(acct), acct->url, payload, &err, p);
    if (rv == APR_SUCCESS) {
        see(acct, reply->json, p);
        md_log(MD_LOG_INFO, "the contact of account %s is now %s", acct->url, told);
    }
    else if (!APR_STATUS_IS_EINTR(rv))
        md_log(MD_LOG_WARNING, "the CA does not take %s as the contact of account %s, which keeps "
               "the one that it has: %s. Check MDContactEmail", told, acct->url,
               md_text_line(err.detail, MD_MAX_TEXT, p));
}

apr_status_t md_acct_agree(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p)
{
    md_json_t *payload = md_json_object(p);
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acct_verify(acme, acct, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    /* Some CAs take an update without contacts for none at all. */
    md_json_set_strings(payload, "contact", acct->contacts);
    md_json_set_bool(payload, "termsOfServiceAgreed", 1);
    rv = md_acme_post(&reply, acme, md_acct_signer(acct), acct->url, payload, err, p);
    if (rv == APR_SUCCESS)
        see(acct, reply->json, p);
    return rv;
}

apr_status_t md_acct_deactivate(md_acme_t *acme, const md_acct_t *acct, md_err_t *err,
                                apr_pool_t *p)
{
    md_json_t *payload = md_json_object(p);
    md_reply_t *reply;

    md_json_set_str(payload, "status", "deactivated");
    return md_acme_post(&reply, acme, md_acct_signer(acct), acct->url, payload, err, p);
}

/* ---- from staging to accounts ---- */

/* Is the account stored under `id` this one? Where a part was lost, what is left tells; *pwhole
 * says whether document and key are both there. */
static int is_stored_as(int *pwhole, const md_store_t *store, const char *id,
                        const md_acct_t *acct, apr_pool_t *p)
{
    const char *thumbprint = NULL;
    md_json_t *json;
    md_key_t *key;
    int has_json, is_same = 0;

    has_json = md_store_load_json(&json, store, MD_STORE_ACCOUNTS, id, MD_ACCT_JSON, NULL, p)
               == APR_SUCCESS;
    if (has_json)
        is_same = md_text_same(md_json_get_str(json, "url"), acct->url)
                  && md_text_same(md_json_get_str(json, "ca-url"), acct->ca_url);
    if (md_store_load_key(&key, store, MD_STORE_ACCOUNTS, id, MD_ACCT_KEY, NULL, p) == APR_SUCCESS)
        thumbprint = md_jwk_thumbprint(key, p);
    *pwhole = has_json && md_text_same(thumbprint, acct->thumbprint);
    return has_json ? is_same : md_text_same(thumbprint, acct->thumbprint);
}

apr_status_t md_acct_pack(md_acct_packed_t *packed, const md_store_t *store, const char *name,
                          md_err_t *err, apr_pool_t *p)
{
    md_acct_t *acct;
    apr_status_t rv;

    rv = md_acct_load(&acct, store, MD_STORE_STAGING, name, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_seal_key(&packed->key, store, acct->key, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    packed->json = md_json_text(acct_to_json(acct, p), 1, p);
    packed->thumbprint = acct->thumbprint;
    return APR_SUCCESS;
}

/* Without its key. */
static apr_status_t unpack(md_acct_t **pacct, const md_acct_packed_t *packed, md_err_t *err,
                           apr_pool_t *p)
{
    const char *wrong;
    md_json_t *json;
    apr_status_t rv;

    rv = md_json_parse(&json, packed->json, strlen(packed->json), err, p);
    if (rv != APR_SUCCESS)
        return rv;
    wrong = md_json_misfit(json, RULES, p);
    if (wrong || !md_token_is_valid(packed->thumbprint))
        return md_fail(err, APR_EINVAL, "%s", wrong ? wrong : "no thumbprint of a key");
    *pacct = acct_from_json(json, p);
    (*pacct)->thumbprint = packed->thumbprint;
    return APR_SUCCESS;
}

static apr_status_t save_packed(const md_acct_t *acct, const char *key, const md_store_t *store,
                                const char *id, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_store_save_text(store, MD_STORE_ACCOUNTS, id, MD_ACCT_KEY, key, err, p);
    return rv == APR_SUCCESS ? md_store_save_json(store, MD_STORE_ACCOUNTS, id, MD_ACCT_JSON,
                                                  acct_to_json(acct, p), err, p) : rv;
}

apr_status_t md_acct_keep(const char **pid, const md_store_t *store,
                          const md_acct_packed_t *packed, md_err_t *err, apr_pool_t *p)
{
    md_acct_wish_t wish = { 0 };
    apr_array_header_t *ids;
    md_acct_t *acct = NULL;
    apr_status_t rv;
    int i, is_whole;

    rv = unpack(&acct, packed, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    wish.ca_url = acct->ca_url;
    rv = md_acct_ids(&ids, store, &wish, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    for (i = 0; i < ids->nelts; ++i) {
        *pid = APR_ARRAY_IDX(ids, i, const char *);
        if (is_stored_as(&is_whole, store, *pid, acct, p))
            return is_whole ? APR_SUCCESS : save_packed(acct, packed->key, store, *pid, err, p);
    }
    rv = md_store_create_numbered(pid, store, MD_STORE_ACCOUNTS, id_prefix(acct->ca_url, p),
                                  MD_ACCT_JSON, acct_to_json(acct, p), err, p);
    return rv == APR_SUCCESS ? save_packed(acct, packed->key, store, *pid, err, p) : rv;
}
