/* SPDX-License-Identifier: Apache-2.0 */
/* CAs and accounts in use: each is made when it is first needed. */
#include "md_cas.h"

#include <apr_thread_mutex.h>

#include "md_engine.h"
#include "md_text.h"

struct md_cas_t {
    const md_reg_t *reg;
    md_http_t *http;
    apr_thread_mutex_t *mutex; /* guards all below */
    apr_pool_t *p;             /* its own */
    md_ca_t *list;
};

static apr_status_t destroy_pool(void *pool)
{
    apr_pool_destroy(pool);
    return APR_SUCCESS;
}

apr_status_t md_cas_create(md_cas_t **pcas, const md_reg_t *reg, md_http_t *http, md_err_t *err,
                           apr_pool_t *p)
{
    md_cas_t *cas = apr_pcalloc(p, sizeof(*cas));

    *pcas = cas;
    cas->reg = reg;
    cas->http = http;
    cas->p = md_engine_pool();
    if (!cas->p)
        return md_fail(err, APR_ENOMEM, "no memory for CAs");
    apr_pool_cleanup_register(p, cas->p, destroy_pool, apr_pool_cleanup_null);
    return apr_thread_mutex_create(&cas->mutex, APR_THREAD_MUTEX_DEFAULT, p) == APR_SUCCESS
           ? APR_SUCCESS : md_fail(err, APR_ENOMEM, "cannot create a mutex for CAs");
}

/* A pool that lives as long as all. Called locked. */
static apr_pool_t *own_pool(md_cas_t *cas)
{
    apr_pool_t *pool = md_engine_pool();

    if (pool)
        apr_pool_cleanup_register(cas->p, pool, destroy_pool, apr_pool_cleanup_null);
    return pool;
}

/* At the same CA all share directory, nonces and pace. Called locked. */
static md_acme_t *find_acme(md_cas_t *cas, const char *url, const md_route_t *route)
{
    apr_pool_t *pool;
    md_ca_t *ca;

    for (ca = cas->list; ca; ca = ca->next)
        if (md_acme_is(ca->acme, url, route))
            return ca->acme;
    pool = own_pool(cas);
    return pool ? md_acme_create(cas->http, url, route, md_tally_meter(cas->reg->tally, url), pool)
                : NULL;
}

/* A tool knows only the domains that it works on. Called locked. */
static apr_hash_t *contacts_of(md_cas_t *cas, const char *url, const md_domain_t *like)
{
    apr_hash_t *contacts = apr_hash_make(cas->p);
    const md_domain_t *domain;
    const char *contact;
    int i, k;

    if (cas->reg->is_tool)
        return NULL;
    for (i = 0; i < cas->reg->domains->nelts; ++i) {
        domain = md_reg_domain(cas->reg, i);
        if (!md_text_same(domain->eab_kid, like->eab_kid)
            || !md_text_same(domain->eab_hmac, like->eab_hmac)
            || !domain->ca_urls || !md_strings_has(domain->ca_urls, url))
            continue;
        for (k = 0; k < domain->contacts->nelts; ++k) {
            contact = APR_ARRAY_IDX(domain->contacts, k, const char *);
            apr_hash_set(contacts, contact, APR_HASH_KEY_STRING, contact);
        }
    }
    return contacts;
}

/* CA and account each take memory under a lock of their own, from a pool of their own. Called
 * locked. */
static md_ca_t *add(md_cas_t *cas, const char *url, const md_route_t *route,
                    const md_domain_t *domain)
{
    md_ca_t *ca = apr_pcalloc(cas->p, sizeof(*ca));
    apr_pool_t *pool = own_pool(cas);

    ca->eab_kid = domain->eab_kid;
    ca->eab_hmac = domain->eab_hmac;
    ca->contacts = contacts_of(cas, url, domain);
    ca->acme = find_acme(cas, url, route);
    ca->use = pool ? md_acct_use_create(md_tally_meter(cas->reg->tally, url), pool) : NULL;
    if (!ca->acme || !ca->use)
        return NULL;
    ca->next = cas->list;
    cas->list = ca;
    return ca;
}

const md_ca_t *md_cas_get(md_cas_t *cas, const char *url, const md_domain_t *domain)
{
    md_route_t route = md_config_route(domain, cas->reg->conf, &cas->reg->noted);
    md_ca_t *ca;

    apr_thread_mutex_lock(cas->mutex);
    for (ca = cas->list; ca; ca = ca->next)
        if (md_acme_is(ca->acme, url, &route) && md_text_same(ca->eab_kid, domain->eab_kid)
            && md_text_same(ca->eab_hmac, domain->eab_hmac))
            break;
    if (!ca)
        ca = add(cas, url, &route, domain);
    apr_thread_mutex_unlock(cas->mutex);
    return ca;
}
