/* SPDX-License-Identifier: Apache-2.0 */
/* a2md acme: accounts at a CA. */
#include "a2md.h"

#include <stdio.h>

#include "md_acme_acct.h"
#include "md_log.h"
#include "md_text.h"

#define NEW_ACCOUNT ".newreg" /* in staging, until the account is one of ours */

static apr_status_t open_ca(md_acme_t **pacme, a2md_t *tool, const char *url, md_err_t *err)
{
    md_route_t route = { .ca_file = tool->conf->ca_file, .proxy_url = tool->conf->proxy_url };
    md_http_t *http;
    apr_status_t rv;

    rv = md_http_create(&http, A2MD_USER_AGENT, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    *pacme = md_acme_create(http, url, &route, tool->p);
    return md_acme_load_directory(*pacme, apr_time_now(), err, tool->p);
}

static apr_status_t open_given_ca(md_acme_t **pacme, a2md_t *tool, md_err_t *err)
{
    if (!tool->ca_url)
        return md_fail(err, APR_EINVAL, "the URL of the CA is missing: a2md -a");
    return open_ca(pacme, tool, tool->ca_url, err);
}

static apr_status_t load(md_acct_t **pacct, a2md_t *tool, const char *id, md_err_t *err)
{
    apr_status_t rv = md_acct_load(pacct, tool->reg->store, MD_STORE_ACCOUNTS, id, err, tool->p);

    if (APR_STATUS_IS_ENOENT(rv))
        return md_fail(err, rv, "%s: there is no such account", id);
    if (rv == APR_SUCCESS && tool->ca_url && !md_text_same((*pacct)->ca_url, tool->ca_url))
        return md_fail(err, APR_EINVAL, "%s: is an account at %s, not at %s", id, (*pacct)->ca_url,
                       tool->ca_url);
    return rv;
}

/* ---- newreg ---- */

apr_status_t a2md_acme_newreg(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_acct_wish_t wish = { .ca_url = tool->ca_url, .agreement = tool->terms };
    const md_store_t *store = tool->reg->store;
    apr_array_header_t *contacts;
    md_acme_t *acme;
    const char *id;
    apr_status_t rv;

    rv = a2md_contacts(&contacts, argc, argv, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = open_given_ca(&acme, tool, err);
    if (rv != APR_SUCCESS)
        return rv;
    wish.contacts = contacts;
    rv = md_acct_register(acme, store, NEW_ACCOUNT, &wish, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = md_acct_promote(&id, store, NEW_ACCOUNT, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    md_store_remove(store, MD_STORE_STAGING, NEW_ACCOUNT, NULL, tool->p);
    printf("registered: %s\n", id);
    return APR_SUCCESS;
}

/* ---- validate, agree ---- */

static apr_status_t validate(a2md_t *tool, const char *id, md_err_t *err)
{
    md_acct_t *acct;
    md_acme_t *acme;
    apr_status_t rv;

    rv = load(&acct, tool, id, err);
    if (rv == APR_SUCCESS)
        rv = open_given_ca(&acme, tool, err);
    return rv == APR_SUCCESS ? md_acct_verify(acme, acct, err, tool->p) : rv;
}

apr_status_t a2md_acme_validate(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < argc && rv == APR_SUCCESS; ++i) {
        rv = validate(tool, argv[i], err);
        if (rv == APR_SUCCESS)
            printf("account valid: %s\n", argv[i]);
        else
            md_log(MD_LOG_ERR, APR_SUCCESS, "account is not valid: %s", argv[i]);
    }
    return rv;
}

static apr_status_t agree(a2md_t *tool, md_acme_t *acme, const char *id, md_err_t *err)
{
    const char *terms = md_acme_directory(acme)->terms_of_service;
    md_acct_t *acct;
    apr_status_t rv;

    rv = load(&acct, tool, id, err);
    if (rv == APR_SUCCESS)
        rv = md_acct_agree(acme, acct, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    acct->agreement = terms ? terms : tool->terms;
    rv = md_acct_save(acct, tool->reg->store, MD_STORE_ACCOUNTS, id, err, tool->p);
    if (rv == APR_SUCCESS)
        printf("agreed terms-of-service: %s\n", acct->url);
    return rv;
}

apr_status_t a2md_acme_agree(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_acme_t *acme;
    apr_status_t rv;
    int i;

    rv = open_given_ca(&acme, tool, err);
    for (i = 0; i < argc && rv == APR_SUCCESS; ++i)
        rv = agree(tool, acme, argv[i], err);
    return rv;
}

/* ---- delreg ---- */

/* Without -a the account goes even if its CA cannot be told: then into the archive, as its key is
 * all that could end it there. */
static apr_status_t forget(a2md_t *tool, const char *id, const md_err_t *why, md_err_t *err)
{
    const char *archived;
    apr_status_t rv;

    rv = md_store_archive(&archived, tool->reg->store, MD_STORE_ACCOUNTS, id, err, tool->p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_WARNING, why->rv, "%s: is still an account at its CA, which could not be "
               "told: %s. It was moved to %s", id, why->detail, archived);
    return rv;
}

static apr_status_t delreg(a2md_t *tool, const char *id, md_err_t *err)
{
    const md_store_t *store = tool->reg->store;
    md_acct_t *acct;
    md_acme_t *acme;
    apr_status_t rv;
    md_err_t why;

    md_err_init(&why, tool->p);
    if (!md_store_exists(store, MD_STORE_ACCOUNTS, id, NULL, tool->p)) {
        md_log(MD_LOG_INFO, APR_SUCCESS, "%s: there is no such account", id);
        return APR_SUCCESS;
    }
    rv = load(&acct, tool, id, &why);
    if (rv == APR_SUCCESS)
        rv = open_ca(&acme, tool, acct->ca_url, &why);
    if (rv == APR_SUCCESS)
        rv = md_acct_deactivate(acme, acct, &why, tool->p);
    if (rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv))
        return md_store_remove(store, MD_STORE_ACCOUNTS, id, NULL, tool->p);
    if (!tool->ca_url)
        return forget(tool, id, &why, err);
    md_err_copy(err, &why);
    return rv;
}

apr_status_t a2md_acme_delreg(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < argc && rv == APR_SUCCESS; ++i)
        rv = delreg(tool, argv[i], err);
    return rv;
}
