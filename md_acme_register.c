/* SPDX-License-Identifier: Apache-2.0 */
/* Which account signs: one that is there, one whose registration was cut short, or a new one. */
#include "md_acme_register.h"

#include <string.h>

#include <apr_strings.h>

#include "md_jws.h"
#include "md_text.h"

#define ACCT_WISH "account.wish.json" /* beside a key: whose account it is to become */

/* ES256 is what every CA must support (RFC 8555 6.2); RSA is for those that do not. */
static const md_key_spec_t KEY_P256 = { .type = MD_KEY_EC, .curve = "P-256" };
static const md_key_spec_t KEY_RSA = { .type = MD_KEY_RSA, .bits = 3072 };

/* ---- registration (RFC 8555 7.3) ---- */

apr_status_t md_acct_check_terms(md_acme_t *acme, const char *agreement, md_err_t *err)
{
    const char *terms = md_acme_directory(acme)->terms_of_service;

    if (!terms || !agreement || !strcmp(agreement, MD_TERMS_ACCEPTED) || !strcmp(agreement, terms))
        return APR_SUCCESS;
    return md_fail(err, APR_EINVAL, "the CA requires you to accept the terms-of-service as "
                   "specified in <%s>, but you accepted those at <%s>. Read the CA's terms, then "
                   "set MDCertificateAgreement to their URL or to 'accepted'", terms, agreement);
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

static apr_status_t post_new_account(md_acct_t **pacct, md_acme_t *acme, const md_key_t *key,
                                     const md_acct_wish_t *wish, md_err_t *err, apr_pool_t *p)
{
    const md_directory_t *dir = md_acme_directory(acme);
    md_json_t *payload = md_json_object(p), *binding = NULL;
    md_mac_t mac = { wish->eab_kid, wish->eab_hmac, wish->eab_alg };
    md_signer_t signer = { .key = key };
    md_reply_t *reply;
    apr_status_t rv = APR_SUCCESS;

    if (wish->eab_kid)
        rv = md_jws_bind(&binding, mac, dir->new_account, key, err, p);
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
    return rv == APR_SUCCESS ? md_acct_read(pacct, acme, reply, key, wish, err, p) : rv;
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
    return md_store_exists(store, MD_STORE_STAGING, name, MD_ACCT_KEY, p)
           && !md_store_exists(store, MD_STORE_STAGING, name, MD_ACCT_JSON, p);
}

/* Is the key meant for another account? Old versions did not note that. */
static int is_for_another(const md_store_t *store, const char *name, const md_acct_wish_t *wish,
                          int if_unknown, apr_pool_t *p)
{
    md_acct_t meant = { .id = NULL };
    md_json_t *json;

    if (md_store_load_json(&json, store, MD_STORE_STAGING, name, ACCT_WISH, NULL, p)
        != APR_SUCCESS)
        return if_unknown;
    meant.ca_url = md_json_get_str(json, "ca-url");
    meant.eab_kid = md_json_get_str(json, "eab.kid");
    meant.eab_hmac = md_json_get_str(json, "eab.hmac");
    return !md_acct_fits(&meant, wish);
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
    md_store_remove(store, MD_STORE_STAGING, name, MD_ACCT_JSON, p);
    md_store_remove(store, MD_STORE_STAGING, name, MD_ACCT_KEY, p);
    md_store_remove(store, MD_STORE_STAGING, name, ACCT_WISH, p);
}

/* A key that is alone goes from one directory to another. */
static apr_status_t move_key(const md_store_t *store, const char *from, const char *to,
                             md_err_t *err, apr_pool_t *p)
{
    md_json_t *wish;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_key(&key, store, MD_STORE_STAGING, from, MD_ACCT_KEY, err, p);
    if (rv == APR_SUCCESS
        && md_store_load_json(&wish, store, MD_STORE_STAGING, from, ACCT_WISH, NULL, p)
               == APR_SUCCESS)
        rv = md_store_save_json(store, MD_STORE_STAGING, to, ACCT_WISH, wish, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_key(store, MD_STORE_STAGING, to, MD_ACCT_KEY, key, err, p);
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
        && !md_acct_fits(acct, wish))
        rv = md_acct_save(acct, store, MD_STORE_STAGING, place, err, p);
    else
        (void)md_store_put_aside(&aside, store, MD_STORE_STAGING, staged, MD_ACCT_KEY, p);
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
    rv = md_store_load_key(pkey, store, MD_STORE_STAGING, staged, MD_ACCT_KEY, err, p);
    if (rv == APR_SUCCESS || md_is_lack(rv))
        return rv;
    rv = md_key_generate(pkey, spec, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    (void)md_store_put_aside(&aside, store, MD_STORE_STAGING, staged, MD_ACCT_KEY, p);
    rv = save_wish(store, staged, wish, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_key(store, MD_STORE_STAGING, staged, MD_ACCT_KEY, *pkey, err, p);
    return rv;
}

/* The CA says so when it is asked for the account (RFC 8555 7.3.6). */
static void put_key_aside(const md_store_t *store, const char *name, const md_err_t *why,
                          apr_pool_t *p)
{
    const char *aside = "";

    if (md_store_put_aside(&aside, store, MD_STORE_STAGING, name, MD_ACCT_KEY, p) == APR_SUCCESS)
        md_log(MD_LOG_WARNING, "the CA no longer accepts the account with the key %s: %s; "
               "registering a new account", aside, why->detail);
}

/* The account that the CA has for a key. APR_ENOENT: none, so the key is as good as a new one;
 * APR_EOF: the key is of no use. */
static apr_status_t ask_for_key(md_acct_t **pacct, md_acme_t *acme, const md_acct_place_t *place,
                                const char *name, md_err_t *err, apr_pool_t *p)
{
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_key(&key, place->store, place->group, name, MD_ACCT_KEY, err, p);
    if (rv != APR_SUCCESS)
        return md_is_lack(rv) ? rv : APR_EOF;
    rv = md_acct_ask(pacct, acme, key, place->wish, err, p);
    if (!md_problem_is(err, MD_PROBLEM_UNAUTHORIZED))
        return rv;
    put_key_aside(place->store, name, err, p);
    return APR_EOF;
}

/* Keep what was found by the key in `staging/name` for `staged`. */
static apr_status_t take_over(const md_acct_t *acct, const md_acct_place_t *place, const char *name,
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
static apr_status_t keep_key(int *pcount, const md_acct_place_t *place, const char *name,
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
static apr_status_t try_key(md_acct_t **pacct, int *pcount, md_acme_t *acme,
                            const md_acct_place_t *place, const char *name, const char *staged,
                            md_err_t *err, apr_pool_t *p)
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
static apr_status_t try_keys(md_acct_t **pacct, md_acme_t *acme, const md_acct_place_t *place,
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
        md_store_remove(store, MD_STORE_STAGING, staged, MD_ACCT_KEY, p);
        md_err_clear(err);
        rv = register_with(pacct, acme, store, staged, &KEY_RSA, wish, err, p);
    }
    if (rv == APR_SUCCESS)
        rv = save_staged(*pacct, store, staged, err, p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, "registered new account %s", (*pacct)->url);
    return rv;
}

/* ---- which one ---- */

/* The account if it is there, fits, and the CA agrees; APR_ENOENT otherwise. */
static apr_status_t try_account(md_acct_t **pacct, md_acme_t *acme, const md_acct_place_t *place,
                                const char *name, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_acct_load_fitting(pacct, place, name, MD_LOG_WARNING, err, p);
    return rv == APR_SUCCESS ? md_acct_verify(acme, *pacct, err, p) : rv;
}

static apr_status_t try_all(md_acct_t **pacct, md_acme_t *acme, const md_acct_place_t *place,
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
static apr_status_t try_stored(md_acct_t **pacct, md_acme_t *acme, const md_acct_place_t *place,
                               apr_array_header_t *tried, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *ids;
    apr_status_t rv;

    rv = md_acct_ids(&ids, place->store, place->wish, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    ids = unseen(ids, tried, p);
    apr_array_cat(tried, ids);
    return try_all(pacct, acme, place, ids, err, p);
}

/* Those that other domains staged: `others` becomes the names in staging without `own`. */
static apr_status_t try_staged(md_acct_t **pacct, apr_array_header_t *others, md_acme_t *acme,
                               const md_acct_place_t *place, const apr_array_header_t *own,
                               md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *names;
    apr_status_t rv;

    rv = md_store_list(&names, place->store, place->group, err, p);
    if (md_is_lack(rv))
        return rv;
    apr_array_cat(others, unseen(names, own, p));
    return try_all(pacct, acme, place, others, err, p);
}

apr_status_t md_acct_select(md_acct_t **pacct, md_acme_t *acme, const md_store_t *store,
                            const char *staged, const md_acct_wish_t *wish, md_err_t *err,
                            apr_pool_t *p)
{
    const md_acct_place_t stored = { store, MD_STORE_ACCOUNTS, wish };
    const md_acct_place_t in_staging = { store, MD_STORE_STAGING, wish };
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
