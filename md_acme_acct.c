/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts: documents, search, registration. */
#include "md_acme_acct.h"

#include <string.h>

#include <apr_strings.h>

#include "md_jws.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define ACCT_JSON "account.json"
#define ACCT_KEY  "account.pem"
#define ACCT_WISH "account.wish.json" /* beside a key: whose account it is to become */
#define SHORT_LEN 16 /* characters of the CA's host name in an id */

/* ES256 is what every CA must support (RFC 8555 6.2); RSA is for those that do not. */
static const md_key_spec_t KEY_P256 = { .type = MD_KEY_EC, .curve = "P-256" };
static const md_key_spec_t KEY_RSA = { .type = MD_KEY_RSA, .bits = 3072 };

/* ---- documents ---- */

/* mod_md up to 2.6 signs with RSA keys alone. About an account with another key that it finds
 * `valid` it asks the CA again and again, without end: those are stored without status, which it
 * passes over. */
static int is_for_us_alone(const md_acct_t *acct)
{
    return strcmp(md_key_jws_alg(acct->key), "RS256") != 0;
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

static apr_status_t use_key(md_acct_t *acct, const md_key_t *key, md_err_t *err, apr_pool_t *p)
{
    acct->key = key;
    acct->thumbprint = md_jwk_thumbprint(key, p);
    if (!acct->thumbprint)
        return md_fail(err, APR_ENOTIMPL, "the account's key is of a kind that cannot sign");
    return APR_SUCCESS;
}

apr_status_t md_acct_load(md_acct_t **pacct, const md_store_t *store, md_store_group_t group,
                          const char *name, md_err_t *err, apr_pool_t *p)
{
    md_json_t *json;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_json(&json, store, group, name, ACCT_JSON, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(json, store, group, name, ACCT_JSON, RULES, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_load_key(&key, store, group, name, ACCT_KEY, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    *pacct = acct_from_json(json, p);
    if (group == MD_STORE_ACCOUNTS)
        (*pacct)->id = apr_pstrdup(p, name);
    rv = use_key(*pacct, key, err, p);
    if (rv == APR_SUCCESS && !(*pacct)->status && is_for_us_alone(*pacct))
        (*pacct)->status = "valid";
    return rv;
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
    rv = md_store_load_json(&json, store, group, name, ACCT_JSON, &err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(json, store, group, name, ACCT_JSON, RULES, &err, p);
    if (APR_STATUS_IS_EACCES(rv)) /* of no more use than a damaged one */
        rv = APR_EINVAL;
    repair_file(store, group, name, ACCT_JSON, rv, &err, group == MD_STORE_STAGING
                    ? "the CA is asked for the account by its key"
                    : "the account is not used until you repair it; its key stays in place", p);
    md_err_clear(&err);
    rv = md_store_load_key(&key, store, group, name, ACCT_KEY, &err, p);
    repair_file(store, group, name, ACCT_KEY, rv, &err, "the account is not used until you "
                "restore it from a backup; a new one is registered when one is needed", p);
}

apr_status_t md_acct_save(const md_acct_t *acct, const md_store_t *store,
                          md_store_group_t group, const char *name, md_err_t *err,
                          apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_store_save_key(store, group, name, ACCT_KEY, acct->key, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    return md_store_save_json(store, group, name, ACCT_JSON, acct_to_json(acct, p), err, p);
}

int md_acct_is_staged(const md_acct_t *acct, const md_store_t *store, const char *name,
                      apr_pool_t *p)
{
    md_json_t *json;

    return md_store_load_json(&json, store, MD_STORE_STAGING, name, ACCT_JSON, NULL, p)
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
    return copy;
}

md_signer_t md_acct_signer(const md_acct_t *acct)
{
    md_signer_t signer = { .key = acct->key, .kid = acct->url };

    return signer;
}

/* ---- search ---- */

/* Where accounts are looked for. */
typedef struct place_t {
    const md_store_t *store;
    md_store_group_t group;
    const md_acct_wish_t *wish;
} place_t;

static int fits(const md_acct_t *acct, const md_acct_wish_t *wish)
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

/* Ids of stored accounts at the CA of `wish`, the wished one first. */
static apr_status_t stored_ids(apr_array_header_t **pids, const md_store_t *store,
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

/* A valid account that fits; APR_ENOENT if there is none or it is damaged. */
static apr_status_t load_fitting(md_acct_t **pacct, const place_t *place, const char *name,
                                 md_log_level_t level, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_acct_load(pacct, place->store, place->group, name, err, p);
    if (md_is_lack(rv))
        return rv;
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(level, "account in %s is not used: %s",
               md_store_path(place->store, place->group, name, NULL, p),
               err->detail ? err->detail : "unreadable");
    return rv == APR_SUCCESS && fits(*pacct, place->wish) && md_text_same((*pacct)->status, "valid")
           ? APR_SUCCESS : APR_ENOENT;
}

const char *md_acct_find_id(const md_store_t *store, const md_acct_wish_t *wish, apr_pool_t *p)
{
    const place_t stored = { store, MD_STORE_ACCOUNTS, wish };
    apr_array_header_t *ids;
    md_acct_t *acct;
    const char *id;
    md_err_t err;
    int i;

    md_err_init(&err, p);
    (void)stored_ids(&ids, store, wish, &err, p);
    for (i = 0; i < ids->nelts; ++i) {
        id = APR_ARRAY_IDX(ids, i, const char *);
        if (load_fitting(&acct, &stored, id, MD_LOG_DEBUG, &err, p) == APR_SUCCESS)
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

/* Take over what the CA says. */
static void see(md_acct_t *acct, const md_json_t *json, apr_pool_t *p)
{
    if (!json)
        return;
    acct->registration = json;
    if (keepable(json, p) && md_json_get_strings(json, "contact", p))
        acct->contacts = md_json_get_strings(json, "contact", p);
    if (md_json_get_str(json, "status"))
        acct->status = md_json_get_str(json, "status");
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

/* Something between us and the CA may have refused the look at the URL: what the CA says to the key
 * settles it. */
static apr_status_t verify_by_key(md_reply_t **preply, md_acme_t *acme, md_acct_t *acct,
                                  md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    md_log(MD_LOG_DEBUG, "account %s: %s; the CA is asked by its key", acct->url,
           err->detail);
    md_err_clear(err);
    rv = look_up(preply, acme, acct->key, err, p);
    if (rv == APR_SUCCESS && (*preply)->location)
        acct->url = (*preply)->location;
    return seen_by_key(rv, err);
}

apr_status_t md_acct_verify(md_acme_t *acme, md_acct_t *acct, md_err_t *err, apr_pool_t *p)
{
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_fetch(&reply, acme, md_acct_signer(acct), acct->url, NULL, MD_MAX_ACME_BODY, err,
                       p);
    if (md_problem_is(err, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST))
        rv = APR_ENOENT;
    else if (is_refusal(rv)) /* without an answer: its URL is none that can be asked */
        rv = err->http_status ? verify_by_key(&reply, acme, acct, err, p) : APR_ENOENT;
    if (rv == APR_SUCCESS) {
        see(acct, reply->json, p);
        if (!acct->status || !strcmp(acct->status, "valid"))
            return APR_SUCCESS;
        rv = md_fail(err, APR_ENOENT, "account %s is %s", acct->url,
                     md_text_printable(acct->status, p));
    }
    if (APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_INFO, "account %s is not used: %s", acct->url, err->detail);
    return rv;
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

/* The account if it is there, fits, and the CA agrees; APR_ENOENT otherwise. */
static apr_status_t try_account(md_acct_t **pacct, md_acme_t *acme, const place_t *place,
                                const char *name, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = load_fitting(pacct, place, name, MD_LOG_WARNING, err, p);
    return rv == APR_SUCCESS ? md_acct_verify(acme, *pacct, err, p) : rv;
}

static apr_status_t try_all(md_acct_t **pacct, md_acme_t *acme, const place_t *place,
                            const apr_array_header_t *names, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = APR_ENOENT;
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < names->nelts && APR_STATUS_IS_ENOENT(rv); ++i) {
        apr_pool_clear(iter);
        rv = try_account(pacct, acme, place, APR_ARRAY_IDX(names, i, const char *), err, iter);
    }
    if (rv == APR_SUCCESS)
        *pacct = md_acct_copy(*pacct, p);
    apr_pool_destroy(iter);
    return rv;
}

/* ---- registration (RFC 8555 7.3) ---- */

apr_status_t md_acct_check_terms(md_acme_t *acme, const char *agreement, md_err_t *err)
{
    const char *terms = md_acme_directory(acme)->terms_of_service;

    if (!terms || !agreement || !strcmp(agreement, MD_TERMS_ACCEPTED) || !strcmp(agreement, terms))
        return APR_SUCCESS;
    return md_fail(err, APR_EINVAL, "the CA requires you to accept the terms-of-service as "
                   "specified in <%s>, but those accepted are at <%s>. Read them, then set "
                   "MDCertificateAgreement to their URL or to 'accepted'", terms, agreement);
}

static apr_status_t check_wish(md_acme_t *acme, const md_acct_wish_t *wish, md_err_t *err,
                               apr_pool_t *p)
{
    const char *contact, *wrong, *terms = md_acme_directory(acme)->terms_of_service;
    int i;

    if (wish->contacts->nelts == 0)
        return md_fail(err, APR_EINVAL, "No contact information is configured, but the CA %s needs "
                       "an address for the account. Set MDContactEmail or ServerAdmin",
                       md_acme_url(acme));
    for (i = 0; i < wish->contacts->nelts; ++i) {
        contact = APR_ARRAY_IDX(wish->contacts, i, const char *);
        wrong = md_uri_check(contact, p);
        if (wrong)
            return md_fail(err, APR_EINVAL, "contact '%s' cannot be used: %s. Correct "
                           "MDContactEmail", contact, wrong);
    }
    if (terms && !wish->agreement)
        return md_fail(err, APR_EINVAL, "the CA requires you to accept the terms-of-service as "
                       "specified in <%s>. Read them, then set 'MDCertificateAgreement accepted'",
                       terms);
    return APR_SUCCESS;
}

/* The account that an answer to newAccount is about. */
static apr_status_t read_account(md_acct_t **pacct, md_acme_t *acme, const md_reply_t *reply,
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
    if (keepable(reply->json, p))
        acct->contacts = md_json_get_strings(reply->json, "contact", p);
    if (!acct->contacts)
        acct->contacts = md_strings_copy(wish->contacts, p);
    acct->agreement = wish->agreement ? dir->terms_of_service : NULL;
    acct->orders = md_acme_url_member(reply->json, "orders", acct->url, p);
    acct->registration = reply->json;
    acct->eab_kid = wish->eab_kid;
    acct->eab_hmac = wish->eab_hmac;
    *pacct = acct;
    return use_key(acct, key, err, p);
}

static apr_status_t post_new_account(md_acct_t **pacct, md_acme_t *acme, const md_key_t *key,
                                     const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    const md_directory_t *dir = md_acme_directory(acme);
    md_json_t *payload = md_json_object(p), *binding = NULL;
    md_signer_t signer = { .key = key };
    md_reply_t *reply;
    apr_status_t rv = APR_SUCCESS;

    if (wish->eab_kid)
        rv = md_jws_bind(&binding, wish->eab_kid, wish->eab_hmac, dir->new_account, key, err, p);
    else if (dir->external_account_required)
        md_log(MD_LOG_INFO, "%s registers accounts only with an external account binding: "
               "set MDExternalAccountBinding to the key id and MAC key that the CA gave you",
               md_acme_url(acme));
    if (rv != APR_SUCCESS)
        return rv;
    md_json_set_strings(payload, "contact", wish->contacts);
    if (dir->terms_of_service && wish->agreement)
        md_json_set_bool(payload, "termsOfServiceAgreed", 1);
    md_json_set(payload, "externalAccountBinding", binding);
    rv = md_acme_post(&reply, acme, signer, dir->new_account, payload, err, p);
    return rv == APR_SUCCESS ? read_account(pacct, acme, reply, key, wish, err, p) : rv;
}

const char *md_acct_lone_place(apr_pool_t *p)
{
    unsigned char bytes[8];

    md_random_bytes(bytes, sizeof(bytes));
    return apr_pstrcat(p, MD_ACCT_ALONE, md_hex_encode(bytes, sizeof(bytes), 0, p), NULL);
}

/* ---- keys whose registration may have been cut short ---- */

/* Such a key is alone: the account's document is saved when the CA has answered. */
static int is_alone(const md_store_t *store, const char *name, apr_pool_t *p)
{
    return md_store_exists(store, MD_STORE_STAGING, name, ACCT_KEY, p)
           && !md_store_exists(store, MD_STORE_STAGING, name, ACCT_JSON, p);
}

/* Is the key meant for another account? Old versions did not note that. */
static int is_for_another(const md_store_t *store, const char *name, const md_acct_wish_t *wish,
                          int if_unknown, apr_pool_t *p)
{
    md_json_t *json;

    if (md_store_load_json(&json, store, MD_STORE_STAGING, name, ACCT_WISH, NULL, p)
        != APR_SUCCESS)
        return if_unknown;
    return !fits(acct_from_json(json, p), wish);
}

static apr_status_t save_wish(const md_store_t *store, const char *name,
                              const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "ca-url", wish->ca_url);
    md_json_set_str(json, "eab.kid", wish->eab_kid);
    md_json_set_str(json, "eab.hmac", wish->eab_hmac);
    return md_store_save_json(store, MD_STORE_STAGING, name, ACCT_WISH, json, err, p);
}

/* What was wished has come about. */
static apr_status_t save_staged(const md_acct_t *acct, const md_store_t *store, const char *name,
                                md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_acct_save(acct, store, MD_STORE_STAGING, name, err, p);
    if (rv == APR_SUCCESS)
        md_store_remove(store, MD_STORE_STAGING, name, ACCT_WISH, p);
    return rv;
}

static void remove_account(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_store_remove(store, MD_STORE_STAGING, name, ACCT_JSON, p);
    md_store_remove(store, MD_STORE_STAGING, name, ACCT_KEY, p);
    md_store_remove(store, MD_STORE_STAGING, name, ACCT_WISH, p);
}

/* A key that is alone goes from one directory to another. */
static apr_status_t move_key(const md_store_t *store, const char *from, const char *to,
                             md_err_t *err, apr_pool_t *p)
{
    md_json_t *wish;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_key(&key, store, MD_STORE_STAGING, from, ACCT_KEY, err, p);
    if (rv == APR_SUCCESS
        && md_store_load_json(&wish, store, MD_STORE_STAGING, from, ACCT_WISH, NULL, p)
               == APR_SUCCESS)
        rv = md_store_save_json(store, MD_STORE_STAGING, to, ACCT_WISH, wish, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_key(store, MD_STORE_STAGING, to, ACCT_KEY, key, err, p);
    if (rv == APR_SUCCESS)
        remove_account(store, from, p);
    return rv;
}

/* Make room for another account, unless there is a key that may become it. One of another CA, or of
 * another external account, is found by all where it goes, and the next start keeps it. */
static apr_status_t make_room(const md_store_t *store, const char *staged,
                              const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    const char *place = md_acct_lone_place(p), *aside;
    apr_status_t rv = APR_SUCCESS;
    md_acct_t *acct;

    if (is_alone(store, staged, p))
        return is_for_another(store, staged, wish, 0, p) ? move_key(store, staged, place, err, p)
                                                         : APR_SUCCESS;
    if (md_acct_load(&acct, store, MD_STORE_STAGING, staged, NULL, p) == APR_SUCCESS
        && !fits(acct, wish))
        rv = md_acct_save(acct, store, MD_STORE_STAGING, place, err, p);
    else
        (void)md_store_put_aside(&aside, store, MD_STORE_STAGING, staged, ACCT_KEY, p);
    if (rv == APR_SUCCESS)
        remove_account(store, staged, p);
    return rv;
}

/* The key for a new account: one staged by an attempt that was interrupted, or a new one. The CA
 * answers a second newAccount with the same key by the account it has (7.3.1), so nothing is
 * registered twice. */
static apr_status_t staged_key(md_key_t **pkey, const md_store_t *store, const char *staged,
                               const md_acct_wish_t *wish, const md_key_spec_t *spec,
                               md_err_t *err, apr_pool_t *p)
{
    const char *aside;
    apr_status_t rv;

    rv = make_room(store, staged, wish, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_store_load_key(pkey, store, MD_STORE_STAGING, staged, ACCT_KEY, err, p);
    if (rv == APR_SUCCESS || md_is_lack(rv))
        return rv;
    rv = md_key_generate(pkey, spec, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    (void)md_store_put_aside(&aside, store, MD_STORE_STAGING, staged, ACCT_KEY, p);
    rv = save_wish(store, staged, wish, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_key(store, MD_STORE_STAGING, staged, ACCT_KEY, *pkey, err, p);
    return rv;
}

/* The CA says so when it is asked for the account (RFC 8555 7.3.6). */
static void put_key_aside(const md_store_t *store, const char *name, const md_err_t *why,
                          apr_pool_t *p)
{
    const char *aside = "";

    if (md_store_put_aside(&aside, store, MD_STORE_STAGING, name, ACCT_KEY, p) == APR_SUCCESS)
        md_log(MD_LOG_WARNING, "the CA does not accept the account of the key %s any more: %s; "
               "a new account is registered", aside, why->detail);
}

/* The account that the CA has for a key. APR_ENOENT: none, so the key is as good as a new one;
 * APR_EOF: the key is of no use. */
static apr_status_t ask_for_key(md_acct_t **pacct, md_acme_t *acme, const place_t *place,
                                const char *name, md_err_t *err, apr_pool_t *p)
{
    md_reply_t *reply;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_key(&key, place->store, place->group, name, ACCT_KEY, err, p);
    if (rv != APR_SUCCESS)
        return md_is_lack(rv) ? rv : APR_EOF;
    rv = look_up(&reply, acme, key, err, p);
    if (rv == APR_SUCCESS)
        rv = read_account(pacct, acme, reply, key, place->wish, err, p);
    if (rv == APR_SUCCESS && strcmp((*pacct)->status, "valid"))
        rv = md_fail_problem(err, APR_EACCES, MD_PROBLEM_UNAUTHORIZED, "account %s is %s",
                             (*pacct)->url, md_text_printable((*pacct)->status, p));
    if (!md_problem_is(err, MD_PROBLEM_UNAUTHORIZED))
        return seen_by_key(rv, err);
    put_key_aside(place->store, name, err, p);
    return APR_EOF;
}

/* Keep what was found by the key in `staging/name` for `staged`. */
static apr_status_t take_over(const md_acct_t *acct, const place_t *place, const char *name,
                              const char *staged, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    md_log(MD_LOG_INFO, "using account %s: its registration, begun in staging/%s, had been "
           "interrupted", acct->url, name);
    rv = make_room(place->store, staged, place->wish, err, p);
    if (rv == APR_SUCCESS)
        rv = save_staged(acct, place->store, staged, err, p);
    if (rv == APR_SUCCESS && strcmp(name, staged))
        remove_account(place->store, name, p);
    return rv;
}

/* A key that the CA does not know is as good as a new one: the first is for the new account. */
static apr_status_t keep_key(int *pcount, const place_t *place, const char *name,
                             const char *staged, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    if ((*pcount)++ > 0) {
        if (md_problem_is(err, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST))
            remove_account(place->store, name, p);
        return APR_SUCCESS;
    }
    if (!strcmp(name, staged))
        return APR_SUCCESS;
    rv = make_room(place->store, staged, place->wish, err, p);
    return rv == APR_SUCCESS ? move_key(place->store, name, staged, err, p) : rv;
}

/* The account of a key whose registration was cut short; APR_ENOENT: there is none. */
static apr_status_t try_key(md_acct_t **pacct, int *pcount, md_acme_t *acme, const place_t *place,
                            const char *name, const char *staged, md_err_t *err, apr_pool_t *p)
{
    int if_unknown = place->wish->eab_kid && strcmp(name, staged);
    apr_status_t rv;

    if (!is_alone(place->store, name, p)
        || is_for_another(place->store, name, place->wish, if_unknown, p))
        return APR_ENOENT;
    rv = ask_for_key(pacct, acme, place, name, err, p);
    if (rv == APR_SUCCESS)
        return take_over(*pacct, place, name, staged, err, p);
    if (APR_STATUS_IS_ENOENT(rv))
        rv = keep_key(pcount, place, name, staged, err, p);
    return rv == APR_SUCCESS || rv == APR_EOF ? APR_ENOENT : rv;
}

/* All of them in staging, the one in `staged` first: there is to be no other account while the CA
 * may have one for a key that is stored. */
static apr_status_t try_keys(md_acct_t **pacct, md_acme_t *acme, const place_t *place,
                             const char *staged, const apr_array_header_t *others, md_err_t *err,
                             apr_pool_t *p)
{
    apr_status_t rv;
    apr_pool_t *iter;
    int i, count = 0;

    apr_pool_create(&iter, p);
    rv = try_key(pacct, &count, acme, place, staged, staged, err, iter);
    for (i = 0; i < others->nelts && APR_STATUS_IS_ENOENT(rv); ++i) {
        apr_pool_clear(iter);
        rv = try_key(pacct, &count, acme, place, APR_ARRAY_IDX(others, i, const char *), staged,
                     err, iter);
    }
    if (rv == APR_SUCCESS)
        *pacct = md_acct_copy(*pacct, p);
    apr_pool_destroy(iter);
    return rv;
}

static apr_status_t register_with(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                                  const char *staged, const md_key_spec_t *spec,
                                  const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;
    md_key_t *key;

    rv = staged_key(&key, store, staged, wish, spec, err, p);
    return rv == APR_SUCCESS ? post_new_account(pacct, acme, key, wish, err, p) : rv;
}

apr_status_t md_acct_register(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                              const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                              apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_acct_check_terms(acme, wish->agreement, err);
    if (rv != APR_SUCCESS)
        return rv;
    rv = register_with(pacct, acme, store, staged, wish->key_spec ? wish->key_spec : &KEY_P256,
                       wish, err, p);
    if (rv != APR_SUCCESS
        && (md_problem_is(err, MD_PROBLEM_BAD_SIGNATURE_ALGORITHM)
            || md_problem_is(err, MD_PROBLEM_BAD_PUBLIC_KEY))) {
        md_log(MD_LOG_INFO, "%s refuses ES256, trying RS256", md_acme_url(acme));
        md_store_remove(store, MD_STORE_STAGING, staged, ACCT_KEY, p);
        md_err_clear(err);
        rv = register_with(pacct, acme, store, staged, &KEY_RSA, wish, err, p);
    }
    if (rv == APR_SUCCESS)
        rv = save_staged(*pacct, store, staged, err, p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, "registered new account %s", (*pacct)->url);
    return rv;
}

/* Those in `names` that are not in `seen`. */
static apr_array_header_t *unseen(const apr_array_header_t *names, const apr_array_header_t *seen,
                                  apr_pool_t *p)
{
    apr_array_header_t *rest = md_strings_make(p);
    const char *name;
    int i;

    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        if (!md_strings_has(seen, name))
            APR_ARRAY_PUSH(rest, const char *) = name;
    }
    return rest;
}

/* Those in `accounts` that were not tried yet. */
static apr_status_t try_stored(md_acct_t **pacct, md_acme_t *acme, const place_t *place,
                               apr_array_header_t *tried, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *ids;
    apr_status_t rv;

    rv = stored_ids(&ids, place->store, place->wish, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    ids = unseen(ids, tried, p);
    apr_array_cat(tried, ids);
    return try_all(pacct, acme, place, ids, err, p);
}

/* Those that other domains staged: `others` becomes the names in staging without `own`. */
static apr_status_t try_staged(md_acct_t **pacct, apr_array_header_t *others, md_acme_t *acme,
                               const place_t *place, const apr_array_header_t *own, md_err_t *err,
                               apr_pool_t *p)
{
    apr_array_header_t *names;
    apr_status_t rv;

    rv = list_names(&names, place->store, place->group, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    apr_array_cat(others, unseen(names, own, p));
    return try_all(pacct, acme, place, others, err, p);
}

apr_status_t md_acct_select(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                            const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                            apr_pool_t *p)
{
    const place_t stored = { store, MD_STORE_ACCOUNTS, wish };
    const place_t in_staging = { store, MD_STORE_STAGING, wish };
    apr_array_header_t *tried = md_strings_make(p), *own = md_strings_make(p);
    apr_array_header_t *others = md_strings_make(p);
    apr_status_t rv;

    APR_ARRAY_PUSH(own, const char *) = staged;
    rv = try_account(pacct, acme, &in_staging, staged, err, p);
    if (APR_STATUS_IS_ENOENT(rv))
        rv = try_stored(pacct, acme, &stored, tried, err, p);
    if (!APR_STATUS_IS_ENOENT(rv))
        return rv;
    /* All domains are looked through only if there could be a new one, too. */
    md_err_clear(err);
    rv = check_wish(acme, wish, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = try_staged(pacct, others, acme, &in_staging, own, err, p);
    /* A restart meanwhile may have moved one from the latter place to the former. */
    if (APR_STATUS_IS_ENOENT(rv))
        rv = try_stored(pacct, acme, &stored, tried, err, p);
    if (APR_STATUS_IS_ENOENT(rv))
        rv = try_keys(pacct, acme, &in_staging, staged, others, err, p);
    if (!APR_STATUS_IS_ENOENT(rv))
        return rv;
    md_err_clear(err);
    return md_acct_register(pacct, acme, store, staged, wish, err, p);
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

    has_json = md_store_load_json(&json, store, MD_STORE_ACCOUNTS, id, ACCT_JSON, NULL, p)
               == APR_SUCCESS;
    if (has_json)
        is_same = md_text_same(md_json_get_str(json, "url"), acct->url)
                  && md_text_same(md_json_get_str(json, "ca-url"), acct->ca_url);
    if (md_store_load_key(&key, store, MD_STORE_ACCOUNTS, id, ACCT_KEY, NULL, p) == APR_SUCCESS)
        thumbprint = md_jwk_thumbprint(key, p);
    *pwhole = has_json && md_text_same(thumbprint, acct->thumbprint);
    return has_json ? is_same : md_text_same(thumbprint, acct->thumbprint);
}

apr_status_t md_acct_promote(const char **pid, const md_store_t *store, const char *name,
                             md_err_t *err, apr_pool_t *p)
{
    md_acct_wish_t wish = { 0 };
    apr_array_header_t *ids;
    md_acct_t *acct;
    apr_status_t rv;
    int i, is_whole;

    rv = md_acct_load(&acct, store, MD_STORE_STAGING, name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    wish.ca_url = acct->ca_url;
    rv = stored_ids(&ids, store, &wish, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    for (i = 0; i < ids->nelts; ++i) {
        *pid = APR_ARRAY_IDX(ids, i, const char *);
        if (is_stored_as(&is_whole, store, *pid, acct, p))
            return is_whole ? APR_SUCCESS
                            : md_acct_save(acct, store, MD_STORE_ACCOUNTS, *pid, err, p);
    }
    rv = md_store_create_numbered(pid, store, MD_STORE_ACCOUNTS, id_prefix(acct->ca_url, p),
                                  ACCT_JSON, acct_to_json(acct, p), err, p);
    return rv == APR_SUCCESS ? md_acct_save(acct, store, MD_STORE_ACCOUNTS, *pid, err, p) : rv;
}
