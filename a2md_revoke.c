/* SPDX-License-Identifier: Apache-2.0 */
/* a2md revoke: certificates of a domain, by the account that ordered them, or any by its key. */
#include "a2md.h"

#include <stdio.h>
#include <string.h>

#include <apr_strings.h>

#include "md_acme_acct.h"
#include "md_acme_revoke.h"
#include "md_file.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

/* *preason is -1 if none is given. */
static apr_status_t parse_reason(int *preason, const a2md_t *tool, md_err_t *err)
{
    *preason = tool->reason ? md_revoke_reason(tool->reason) : -1;
    if (tool->reason && *preason < 0)
        return md_fail(err, APR_EINVAL, "'%s' is not a reason; these are: %s",
                       md_text_printable(tool->reason, tool->p), md_revoke_reasons(tool->p));
    return APR_SUCCESS;
}

static apr_status_t revoke_one(a2md_t *tool, md_acme_t *acme, md_signer_t signer,
                               const md_cert_t *cert, int reason, md_err_t *err)
{
    const char *serial = md_cert_info(cert, tool->p)->serial;
    apr_status_t rv = md_acme_revoke(acme, signer, cert, reason, err, tool->p);

    if (rv != APR_SUCCESS && !APR_STATUS_IS_EEXIST(rv))
        return md_fail(err, rv, "the certificate with the serial number %s was not revoked: %s",
                       serial, apr_pstrdup(tool->p, err->detail));
    printf("%s: %s\n", rv == APR_SUCCESS ? "revoked" : "revoked before", serial);
    return APR_SUCCESS;
}

/* ---- by the account ---- */

/* The one that the domain uses, else another one there. */
static apr_status_t load_account(md_acct_t **pacct, const a2md_t *tool, const md_domain_t *domain,
                                 md_err_t *err)
{
    md_acct_wish_t wish = { .ca_url = domain->ca_url, .eab_kid = domain->eab_kid,
                            .eab_hmac = domain->eab_hmac, .id = domain->ca_account };
    const char *id = md_acct_find_id(tool->reg->store, &wish, tool->p);

    if (!id)
        return md_fail(err, APR_ENOENT, "there is no account at %s in the store. Revoke the "
                       "certificate by its key (--key)", domain->ca_url);
    return md_acct_load(pacct, tool->reg->store, MD_STORE_ACCOUNTS, id, err, tool->p);
}

/* Whatever the key specs are now: all that is there. */
static apr_status_t revoke_all(int *pcount, a2md_t *tool, md_acme_t *acme, md_signer_t signer,
                               const md_domain_t *domain, int reason, md_err_t *err)
{
    const apr_array_header_t *files = md_store_files(tool->reg->store, MD_STORE_DOMAINS,
                                                     domain->name, tool->p);
    apr_status_t rv = APR_SUCCESS;
    apr_array_header_t *chain;
    const char *file;
    int i;

    *pcount = 0;
    for (i = 0; i < files->nelts && rv == APR_SUCCESS; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (strncmp(file, "pubcert", 7))
            continue;
        rv = md_store_load_chain(&chain, NULL, tool->reg->store, MD_STORE_DOMAINS, domain->name,
                                 file, err, tool->p);
        if (rv == APR_SUCCESS)
            rv = revoke_one(tool, acme, signer, md_chain_leaf(chain), reason, err);
        ++*pcount;
    }
    return rv;
}

static apr_status_t revoke_domain(a2md_t *tool, const md_domain_t *domain, int reason,
                                  md_err_t *err)
{
    md_acct_t *acct;
    md_acme_t *acme;
    apr_status_t rv;
    int count;

    if (!domain->ca_url)
        return md_fail(err, APR_ENOENT, "no certificate was obtained from a CA");
    rv = load_account(&acct, tool, domain, err);
    if (rv == APR_SUCCESS)
        rv = a2md_open_ca(&acme, tool, domain, domain->ca_url, err);
    if (rv == APR_SUCCESS) /* which settles the key, if a rollover was interrupted */
        rv = md_acct_verify(acme, acct, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = revoke_all(&count, tool, acme, md_acct_signer(acct), domain, reason, err);
    if (rv == APR_SUCCESS && count == 0)
        return md_fail(err, APR_ENOENT, "it has no certificate");
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, "%s: have its certificates renewed by 'a2md renew %s'", domain->name,
               domain->name);
    return rv;
}

static apr_status_t revoke_domains(a2md_t *tool, int argc, const char *const *argv, int reason,
                                   md_err_t *err)
{
    apr_status_t rv = a2md_load(tool, argc, argv, err);
    const md_domain_t *domain;
    int i;

    for (i = 0; rv == APR_SUCCESS && i < tool->reg->domains->nelts; ++i) {
        domain = md_reg_domain(tool->reg, i);
        rv = revoke_domain(tool, domain, reason, err);
        if (rv != APR_SUCCESS)
            rv = md_fail(err, rv, "%s: %s", domain->name, apr_pstrdup(tool->p, err->detail));
    }
    return rv;
}

/* ---- by its key ---- */

static apr_status_t read_file(char **ptext, apr_size_t *plen, const char *path, md_err_t *err,
                              apr_pool_t *p)
{
    apr_status_t rv = md_file_read_linked(ptext, plen, path, MD_MAX_FILE, p);

    return rv == APR_SUCCESS ? rv : md_fail_system(err, rv, "cannot read %s", path);
}

static apr_status_t load_key(md_key_t **pkey, const char *path, md_err_t *err, apr_pool_t *p)
{
    apr_size_t len;
    apr_status_t rv;
    char *text;

    rv = read_file(&text, &len, path, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_key_from_pem(pkey, text, len, NULL, 0, err, p);
    md_wipe(text, len);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s: %s", path, apr_pstrdup(p, err->detail));
    return md_key_jws_alg(*pkey) ? APR_SUCCESS
           : md_fail(err, APR_ENOTIMPL, "%s: keys of this type cannot sign requests to a CA; "
                     "those that can are RSA, P-256 and P-384", path);
}

static apr_status_t load_cert(md_cert_t **pcert, const char *path, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *chain = NULL;
    apr_size_t len;
    apr_status_t rv;
    char *text;

    rv = read_file(&text, &len, path, err, p);
    if (rv == APR_SUCCESS)
        rv = md_chain_from_pem(&chain, text, len, err, p);
    *pcert = md_chain_leaf(chain);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s: %s", path, apr_pstrdup(p, err->detail));
    return *pcert ? APR_SUCCESS
                  : md_fail(err, APR_EINVAL, "%s holds no certificate in PEM format", path);
}

static apr_status_t revoke_by_key(a2md_t *tool, int argc, const char *const *argv, int reason,
                                  md_err_t *err)
{
    md_signer_t signer = { NULL, NULL };
    md_acme_t *acme;
    md_cert_t *cert;
    apr_status_t rv;
    md_key_t *key;

    if (argc > 1)
        return md_fail(err, APR_EINVAL, "with --key, one certificate is revoked: give the path of "
                       "its file alone");
    rv = a2md_check_ca(tool, err);
    if (rv == APR_SUCCESS)
        rv = load_key(&key, tool->key_file, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = load_cert(&cert, argv[0], err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_cert_fits_key(cert, key))
        return md_fail(err, APR_EINVAL, "the first certificate in %s is not for the key in %s",
                       argv[0], tool->key_file);
    signer.key = key;
    rv = a2md_open_ca(&acme, tool, NULL, tool->ca_url, err);
    return rv == APR_SUCCESS ? revoke_one(tool, acme, signer, cert, reason, err) : rv;
}

apr_status_t a2md_revoke(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv;
    int reason;

    rv = parse_reason(&reason, tool, err);
    if (rv != APR_SUCCESS)
        return rv;
    return tool->key_file ? revoke_by_key(tool, argc, argv, reason, err)
                          : revoke_domains(tool, argc, argv, reason, err);
}
