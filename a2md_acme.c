/* SPDX-License-Identifier: Apache-2.0 */
/* a2md acme: accounts at a CA. */
#include "a2md.h"

#include <stdio.h>

#include <apr_strings.h>

#include "md_acme_register.h"
#include "md_acme_rollover.h"
#include "md_clock.h"
#include "md_log.h"
#include "md_stage.h"
#include "md_text.h"

apr_status_t a2md_open_ca(md_acme_t **pacme, a2md_t *tool, const md_domain_t *domain,
                          const char *url, md_err_t *err)
{
    md_route_t route;
    md_http_t *http = NULL;
    apr_status_t rv;

    md_reg_load_note(tool->reg, tool->p);
    route = md_config_route(domain ? domain : md_domain_make("", tool->p), tool->conf,
                            &tool->reg->noted);
    rv = md_http_create(&http, A2MD_USER_AGENT, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    *pacme = md_acme_create(http, url, &route, NULL, tool->p);
    return md_acme_load_directory(*pacme, md_clock_now(), err, tool->p);
}

apr_status_t a2md_check_ca(const a2md_t *tool, md_err_t *err)
{
    return tool->ca_url ? APR_SUCCESS
                        : md_fail(err, APR_EINVAL, "no CA is given: use a2md -a with the URL of "
                                  "its directory");
}

static apr_status_t load(md_acct_t **pacct, a2md_t *tool, const char *id, md_err_t *err)
{
    apr_status_t rv = md_acct_load(pacct, tool->reg->store, MD_STORE_ACCOUNTS, id, err, tool->p);

    if (APR_STATUS_IS_ENOENT(rv))
        return md_fail(err, rv, "there is no such account");
    if (rv == APR_SUCCESS && tool->ca_url && !md_text_same((*pacct)->ca_url, tool->ca_url))
        return md_fail(err, APR_EINVAL, "it is registered at %s, not at %s", (*pacct)->ca_url,
                       tool->ca_url);
    return rv;
}

/* ---- newreg ---- */

static apr_status_t newreg(const char **pid, a2md_t *tool, const md_acct_wish_t *wish,
                           md_err_t *err)
{
    const md_store_t *store = tool->reg->store;
    const char *place = md_acct_lone_place(tool->p);
    md_acct_t *acct;
    md_acme_t *acme;
    apr_status_t rv;

    rv = a2md_open_ca(&acme, tool, NULL, tool->ca_url, err);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_acct_register(&acct, acme, store, place, wish, err, tool->p);
    if (rv == APR_SUCCESS
        && md_stage_keep_account(pid, tool->reg, place, err, tool->p) != APR_SUCCESS)
        return md_fail(err, err->rv, "the account is registered but could not be stored: %s. It "
                       "is kept in %s", apr_pstrdup(tool->p, err->detail),
                       md_store_path(store, MD_STORE_STAGING, place, NULL, tool->p));
    md_store_remove(store, MD_STORE_STAGING, place, NULL, tool->p);
    return rv;
}

apr_status_t a2md_acme_newreg(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_acct_wish_t wish = { .ca_url = tool->ca_url, .agreement = tool->terms };
    apr_array_header_t *contacts;
    const char *id;
    apr_status_t rv;

    rv = a2md_check_ca(tool, err);
    if (rv == APR_SUCCESS)
        rv = a2md_check_terms(tool->terms, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = a2md_contacts(&contacts, argc, argv, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    wish.contacts = contacts;
    rv = newreg(&id, tool, &wish, err);
    if (rv == APR_SUCCESS)
        printf("registered: %s\n", id);
    return rv;
}

/* ---- validate, agree ---- */

/* One thing that is done with an account at the CA of -a. */
typedef apr_status_t acct_fn(a2md_t *tool, md_acme_t *acme, md_acct_t *acct, md_err_t *err);

/* Accounts are looked up before the CA is asked, once for all. */
static apr_status_t for_each(a2md_t *tool, int argc, const char *const *argv, acct_fn *what,
                             md_err_t *err)
{
    apr_status_t rv = a2md_check_ca(tool, err);
    md_acme_t *acme = NULL;
    md_acct_t *acct;
    int i;

    for (i = 0; i < argc && rv == APR_SUCCESS; ++i) {
        rv = load(&acct, tool, argv[i], err);
        if (rv == APR_SUCCESS && !acme)
            rv = a2md_open_ca(&acme, tool, NULL, tool->ca_url, err);
        if (rv == APR_SUCCESS)
            rv = what(tool, acme, acct, err);
        if (rv != APR_SUCCESS)
            rv = md_fail(err, rv, "account %s: %s", argv[i], apr_pstrdup(tool->p, err->detail));
    }
    return rv;
}

static apr_status_t validate(a2md_t *tool, md_acme_t *acme, md_acct_t *acct, md_err_t *err)
{
    apr_status_t rv = md_acct_verify(acme, acct, err, tool->p);

    if (rv == APR_SUCCESS)
        printf("account valid: %s\n", acct->id);
    return rv;
}

apr_status_t a2md_acme_validate(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    return for_each(tool, argc, argv, validate, err);
}

static apr_status_t agree(a2md_t *tool, md_acme_t *acme, md_acct_t *acct, md_err_t *err)
{
    const char *terms = md_acme_directory(acme)->terms_of_service;
    apr_status_t rv;

    rv = md_acct_check_terms(acme, tool->terms, err);
    if (rv == APR_SUCCESS)
        rv = md_acct_agree(acme, acct, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    acct->agreement = terms ? terms : tool->terms;
    rv = md_acct_save(acct, tool->reg->store, MD_STORE_ACCOUNTS, acct->id, err, tool->p);
    if (rv == APR_SUCCESS)
        printf("agreed terms-of-service: %s\n", acct->url);
    return rv;
}

apr_status_t a2md_acme_agree(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = a2md_check_terms(tool->terms, err, tool->p);

    return rv == APR_SUCCESS ? for_each(tool, argc, argv, agree, err) : rv;
}

/* ---- rollover ---- */

static apr_status_t rollover(a2md_t *tool, const char *id, md_err_t *err)
{
    md_acct_t *acct;
    md_acme_t *acme;
    apr_status_t rv;

    rv = load(&acct, tool, id, err);
    if (rv == APR_SUCCESS)
        rv = a2md_open_ca(&acme, tool, NULL, acct->ca_url, err);
    if (rv == APR_SUCCESS)
        rv = md_acct_rollover(acme, tool->reg->store, acct, err, tool->p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "account %s: %s", id, apr_pstrdup(tool->p, err->detail));
    printf("new account key: %s\n", id);
    return APR_SUCCESS;
}

apr_status_t a2md_acme_rollover(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < argc && rv == APR_SUCCESS; ++i)
        rv = rollover(tool, argv[i], err);
    return rv;
}

/* ---- delreg ---- */

/* The account goes, though it may still be one at its CA: into the archive, as its key is all that
 * could end it there. */
static apr_status_t forget(a2md_t *tool, const char *id, const md_err_t *why, md_err_t *err)
{
    const char *archived;
    apr_status_t rv;

    rv = md_store_archive(&archived, tool->reg->store, MD_STORE_ACCOUNTS, id, err, tool->p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_WARNING, "account %s may still be valid at its CA: %s. It was moved to %s",
               id, why->detail, archived);
    return rv;
}

static apr_status_t deactivate(a2md_t *tool, const char *id, md_err_t *err)
{
    md_acct_t *acct;
    md_acme_t *acme;
    apr_status_t rv;

    rv = load(&acct, tool, id, err);
    if (rv == APR_SUCCESS)
        rv = a2md_open_ca(&acme, tool, NULL, acct->ca_url, err);
    return rv == APR_SUCCESS ? md_acct_deactivate(acme, acct, err, tool->p) : rv;
}

static apr_status_t delreg(a2md_t *tool, const char *id, md_err_t *err)
{
    const md_store_t *store = tool->reg->store;
    apr_status_t rv;
    md_err_t why;

    md_err_init(&why, tool->p);
    if (!md_store_exists(store, MD_STORE_ACCOUNTS, id, NULL, tool->p)) {
        md_log(MD_LOG_INFO, "%s: there is no such account", id);
        return APR_SUCCESS;
    }
    rv = deactivate(tool, id, &why);
    if (rv == APR_SUCCESS || md_problem_is(&why, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST))
        return md_store_remove(store, MD_STORE_ACCOUNTS, id, NULL, tool->p);
    /* What a CA says to the key of an account that was ended before (RFC 8555 7.3.6). */
    if (!tool->ca_url || md_problem_is(&why, MD_PROBLEM_UNAUTHORIZED))
        return forget(tool, id, &why, err);
    return md_fail(err, rv, "account %s: %s", id, why.detail);
}

apr_status_t a2md_acme_delreg(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < argc && rv == APR_SUCCESS; ++i)
        rv = delreg(tool, argv[i], err);
    return rv;
}
