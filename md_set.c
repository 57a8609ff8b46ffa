/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of certificates: may they go into service? */
#include "md_set.h"

#include <string.h>

#include <apr_strings.h>

#include "md_text.h"

static const apr_array_header_t *chain_at(const md_set_t *set, int i)
{
    return APR_ARRAY_IDX(set->chains, i, apr_array_header_t *);
}

static int covers(const md_cert_info_t *cert, const char *name, apr_pool_t *p)
{
    apr_array_header_t *one = md_strings_make(p);

    APR_ARRAY_PUSH(one, const char *) = name;
    return cert && !md_cert_uncovered(cert, one, p);
}

static int covers_all(const md_cert_info_t *cert, const md_domain_t *domain, apr_pool_t *p)
{
    return cert && !md_cert_uncovered(cert, domain->names, p);
}

/* Names may have been added since it was ordered: as long as nothing has them all, what there is of
 * them is better than nothing. */
static const apr_array_header_t *needed_names(const md_domain_t *domain,
                                              const md_cert_info_t *cert,
                                              const md_cert_info_t *live, apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p);
    const char *name;
    int i;

    if (covers_all(cert, domain, p) || covers_all(live, domain, p))
        return domain->names;
    for (i = 0; i < domain->names->nelts; ++i) {
        name = APR_ARRAY_IDX(domain->names, i, const char *);
        if (covers(live ? live : cert, name, p))
            APR_ARRAY_PUSH(names, const char *) = name;
    }
    return names->nelts > 0 ? names : domain->names;
}

static int covers_more(const md_domain_t *domain, const md_cert_info_t *cert,
                       const md_cert_info_t *live, apr_pool_t *p)
{
    const char *name;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        name = APR_ARRAY_IDX(domain->names, i, const char *);
        if (covers(cert, name, p) && !covers(live, name, p))
            return 1;
    }
    return 0;
}

/* The set may have waited until these were others. */
static apr_status_t check_settings(const md_set_t *set, const md_domain_t *domain,
                                   const md_cert_info_t *cert, md_err_t *err)
{
    if (domain->ca_urls && !md_strings_has(domain->ca_urls, set->ca_url))
        return md_fail(err, APR_EINVAL, "it is from %s, which is no longer a configured CA",
                       set->ca_url);
    if (domain->must_staple ? !set->must_staple : cert->must_staple)
        return md_fail(err, APR_EINVAL, "MDMustStaple has changed since it was ordered");
    return APR_SUCCESS;
}

static int is_due(const md_domain_t *domain, const md_cert_info_t *cert, apr_time_t now)
{
    return md_window_opens(&cert->validity, &domain->renew_window) <= now;
}

/* A CA may issue for a shorter time than it did. What waited in staging until it was due for
 * renewal itself replaces nothing that is not. */
static apr_status_t compare(const md_domain_t *domain, const md_cert_info_t *cert,
                            const md_cert_info_t *live, apr_time_t now, md_err_t *err,
                            apr_pool_t *p)
{
    int is_wanted = !is_due(domain, cert, now) || is_due(domain, live, now) || domain->is_forced;

    if (cert->validity.end >= live->validity.end
        || (is_wanted && cert->validity.start >= live->validity.start))
        return APR_SUCCESS;
    return md_fail(err, APR_EINVAL, "it expires on %s, before the one in service",
                   md_time_http(cert->validity.end, p));
}

static apr_status_t check_one(const md_set_t *set, int i, const md_domain_t *domain,
                              const md_cert_info_t *live, apr_time_t now, md_err_t *err,
                              apr_pool_t *p)
{
    const md_cert_t *leaf = md_chain_leaf(chain_at(set, i));
    const md_cert_info_t *cert;
    apr_status_t rv;

    if (!leaf)
        return md_fail(err, APR_EINVAL, "the chain holds no certificate");
    if (md_cert_is_self_signed(leaf))
        return md_fail(err, APR_EINVAL, "it is self-signed, so no CA issued it");
    cert = md_cert_info(leaf, p);
    rv = md_chain_check(chain_at(set, i), APR_ARRAY_IDX(set->keys, i, const md_key_t *),
                        needed_names(domain, cert, live, p), now, err, p);
    if (rv != APR_SUCCESS || !live)
        return rv;
    if (!strcmp(cert->fingerprint, live->fingerprint))
        return APR_EEXIST;
    if (covers_more(domain, cert, live, p))
        return APR_SUCCESS;
    if (covers_all(live, domain, p) && !domain->must_staple == !live->must_staple)
        rv = check_settings(set, domain, cert, err);
    return rv == APR_SUCCESS ? compare(domain, cert, live, now, err, p) : rv;
}

apr_status_t md_set_check(const md_set_t *set, const md_domain_t *domain,
                          const apr_array_header_t *live, apr_time_t now, md_err_t *err,
                          apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    apr_status_t rv;
    int i, count = 0, same = 0;

    for (i = 0; i < specs->nelts; ++i) {
        if (!chain_at(set, i))
            continue;
        ++count;
        rv = check_one(set, i, domain, APR_ARRAY_IDX(live, i, const md_cert_info_t *), now, err, p);
        if (APR_STATUS_IS_EEXIST(rv))
            ++same;
        else if (rv != APR_SUCCESS)
            return md_fail(err, rv, "certificate(%s): %s",
                           md_key_spec_name(&APR_ARRAY_IDX(specs, i, md_key_spec_t)),
                           err ? apr_pstrdup(p, err->detail) : "");
    }
    if (count == 0)
        return md_fail(err, APR_EINVAL, "it has no certificate of the configured key types");
    return same == count ? APR_EEXIST : APR_SUCCESS;
}
