/* SPDX-License-Identifier: Apache-2.0 */
/* Managed domains of a server and the engine that renews them, as a host has it. Include it once,
 * after cmocka.h. */
#ifndef MANY_DOMAINS_H
#define MANY_DOMAINS_H

#include <apr_strings.h>

#include "../../md_config.h"
#include "../../md_file.h"
#include "../../md_job.h"
#include "../../md_renewals.h"
#include "../../md_text.h"
#include "temp_dir.h"

#define CA "https://ca.test"

static apr_pool_t *p;
static md_store_t *store;
static md_reg_t *reg;
static md_conf_t *conf;
static md_engine_t *engine;
static md_renewals_t *renewals;
static md_http_t *http;
static md_err_t err;

static const char *name_of(int i)
{
    return apr_psprintf(p, "d%d.example.org", i);
}

static md_domain_t *domain_at(int i)
{
    return APR_ARRAY_IDX(reg->domains, i, md_domain_t *);
}

static md_job_t *job_of(int i)
{
    md_job_t *job;

    (void)md_job_load(&job, store, MD_STORE_STAGING, domain_at(i)->name, NULL, p);
    return job;
}

static int make_engine(void)
{
    md_engine_host_t host = { conf->renew_concurrency, md_renewals_open, md_renewals_close, NULL,
                              NULL };

    if (md_http_create(&http, "test", &err, p) != APR_SUCCESS
        || md_renewals_create(&renewals, reg, http, &err, p) != APR_SUCCESS)
        return -1;
    host.baton = renewals;
    if (md_engine_create(&engine, &host, &err, p) != APR_SUCCESS)
        return -1;
    md_renewals_add(renewals, engine);
    return 0;
}

static md_conf_t *settings(void)
{
    static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };
    md_conf_t *set = md_conf_make(p);

    set->key_specs = apr_array_make(p, 1, sizeof(md_key_spec_t));
    APR_ARRAY_PUSH(set->key_specs, md_key_spec_t) = P256;
    set->ca_urls = md_strings_make(p);
    APR_ARRAY_PUSH(set->ca_urls, const char *) = CA "/dir";
    set->contact = "a@example.org";
    return set;
}

static md_domain_t *define_domain(const char *name)
{
    md_domain_t *domain = NULL;

    assert_null(md_config_define(&domain, 1, &name, p));
    md_config_complete(domain, settings(), p);
    domain->is_watched = 1;
    return domain;
}

/* The configuration of `count` domains, of which nothing is loaded yet. */
static void configure(int count)
{
    apr_array_header_t *domains = apr_array_make(p, count, sizeof(md_domain_t *));
    int i;

    conf = md_conf_merge(&md_conf_defaults, settings(), p);
    for (i = 0; i < count; ++i)
        APR_ARRAY_PUSH(domains, md_domain_t *) = define_domain(name_of(i));
    reg = md_reg_make(store, conf, domains, p);
    reg->http_reachable = 1;
}

/* A store of its own in temp_dir, `count` domains, and no engine yet. */
static int make_domains(int count)
{
    const char *path = apr_pstrcat(p, temp_dir, "/md", NULL);
    int i;

    md_dir_remove(AT_FDCWD, path);
    if (md_store_open(&store, path, &err, p) != APR_SUCCESS)
        return -1;
    configure(count);
    md_reg_load(reg, p);
    for (i = 0; i < count; ++i)
        md_reg_assess(reg, domain_at(i), p);
    return 0;
}

#endif
