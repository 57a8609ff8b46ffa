/* SPDX-License-Identifier: Apache-2.0 */
/* Rollover of account keys. */
#include "md_acme_rollover.h"

#include <string.h>

#include <apr_strings.h>

#include "md_jws.h"
#include "md_text.h"

static const md_key_spec_t KEY_P256 = { .type = MD_KEY_EC, .curve = "P-256" };
static const md_key_spec_t KEY_RSA = { .type = MD_KEY_RSA, .bits = 3072 };

/* The key that the account is to get: one that was stored for that before, or a new one. */
static apr_status_t have_next_key(const md_key_t **pkey, const md_store_t *store,
                                  const md_acct_t *acct, md_err_t *err, apr_pool_t *p)
{
    int is_rsa = !strcmp(md_key_jws_alg(acct->key), "RS256");
    apr_status_t rv;
    md_key_t *key;

    *pkey = acct->next_key;
    if (*pkey)
        return APR_SUCCESS;
    rv = md_key_generate(&key, is_rsa ? &KEY_RSA : &KEY_P256, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_key(store, MD_STORE_ACCOUNTS, acct->id, MD_ACCT_NEXT_KEY, key, err, p);
    *pkey = key;
    return rv;
}

/* The inner JWS: that the new key wants to be the account's. */
static apr_status_t make_request(md_json_t **pjws, const char *url, const md_acct_t *acct,
                                 const md_key_t *key, md_err_t *err, apr_pool_t *p)
{
    md_json_t *protected = md_json_object(p), *payload = md_json_object(p);
    const char *text;
    apr_status_t rv;

    md_json_set(protected, "jwk", md_jwk_make(key, p));
    md_json_set_str(protected, "url", url);
    md_json_set_str(payload, "account", acct->url);
    md_json_set(payload, "oldKey", md_jwk_make(acct->key, p));
    rv = md_jws_sign(&text, protected, md_json_text(payload, 1, p), key, err, p);
    return rv == APR_SUCCESS ? md_json_parse(pjws, text, strlen(text), err, p) : rv;
}

static apr_status_t ask_for_change(md_acme_t *acme, const md_acct_t *acct, const md_key_t *key,
                                   md_err_t *err, apr_pool_t *p)
{
    const char *url = md_acme_directory(acme)->key_change;
    md_reply_t *reply;
    md_json_t *jws;
    apr_status_t rv;

    if (!url)
        return md_fail(err, APR_ENOTIMPL, "the CA %s offers no change of account keys",
                       md_acme_url(acme));
    rv = make_request(&jws, url, acct, key, err, p);
    if (rv == APR_SUCCESS)
        rv = md_acme_post(&reply, acme, md_acct_signer(acct), url, jws, err, p);
    return rv;
}

/* Has the account this key at the CA? Whatever became of the request and its answer, that is what
 * counts. APR_ENOENT: it has not. */
static apr_status_t has_key(md_acme_t *acme, const md_acct_t *acct, const md_key_t *key,
                            md_err_t *err, apr_pool_t *p)
{
    const md_acct_wish_t wish = { .ca_url = acct->ca_url, .contacts = acct->contacts };
    md_acct_t *found;
    apr_status_t rv;

    rv = md_acct_ask(&found, acme, key, &wish, err, p);
    if (rv == APR_SUCCESS && strcmp(found->url, acct->url))
        rv = md_fail(err, APR_EGENERAL, "the CA has account %s for the new key", found->url);
    return rv;
}

/* The CA has it. */
static apr_status_t take_next_key(const md_store_t *store, md_acct_t *acct, const md_key_t *key,
                                  md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = md_acct_use_key(acct, key, err, p);

    if (rv == APR_SUCCESS)
        rv = md_acct_save(acct, store, MD_STORE_ACCOUNTS, acct->id, err, p);
    acct->next_key = NULL;
    return rv == APR_SUCCESS ? md_store_remove(store, MD_STORE_ACCOUNTS, acct->id,
                                               MD_ACCT_NEXT_KEY, p) : rv;
}

apr_status_t md_acct_rollover(md_acme_t *acme, const md_store_t *store, md_acct_t *acct,
                              md_err_t *err, apr_pool_t *p)
{
    const md_key_t *key;
    apr_status_t rv, rv_key;
    md_err_t why;

    rv = have_next_key(&key, store, acct, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    md_err_init(&why, p);
    if (acct->next_key && has_key(acme, acct, key, &why, p) == APR_SUCCESS)
        return take_next_key(store, acct, key, err, p);
    rv = ask_for_change(acme, acct, key, err, p);
    md_err_clear(&why);
    rv_key = rv == APR_SUCCESS ? rv : has_key(acme, acct, key, &why, p);
    if (rv_key == APR_SUCCESS) {
        md_err_clear(err);
        return take_next_key(store, acct, key, err, p);
    }
    if (md_problem_is(err, MD_PROBLEM_BAD_PUBLIC_KEY)) /* else it is for the next attempt */
        md_store_remove(store, MD_STORE_ACCOUNTS, acct->id, MD_ACCT_NEXT_KEY, p);
    if (APR_STATUS_IS_ENOENT(rv_key))
        return rv;
    return md_fail(err, rv, "%s. It is not known whether the CA has changed the key (%s): run this "
                   "command again. Until then, both are kept, and the account can be used",
                   apr_pstrdup(p, err->detail), why.detail);
}
