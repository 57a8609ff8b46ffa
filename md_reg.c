/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: what happens to the store at a (re)start. */
#include "md_reg.h"

#include <string.h>
#include <strings.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_acme_order.h"
#include "md_csr.h"
#include "md_file.h"
#include "md_job.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define MD_JSON    "md.json"
#define HTTPD_JSON "httpd.json"
#define FALLBACK_KEY  "fallback-privkey.pem"
#define FALLBACK_CERT "fallback-pubcert.pem"

md_reg_t *md_reg_make(md_store_t *store, const md_conf_t *conf, apr_array_header_t *domains,
                      apr_pool_t *p)
{
    md_reg_t *reg = apr_pcalloc(p, sizeof(*reg));

    reg->store = store;
    reg->conf = conf;
    reg->domains = domains;
    reg->http_reachable = reg->https_reachable = 1;
    return reg;
}

static md_domain_t *domain_at(const md_reg_t *reg, int i)
{
    return APR_ARRAY_IDX(reg->domains, i, md_domain_t *);
}

/* An earlier domain of the same name: both would live in one directory. */
static md_domain_t *namesake(const md_reg_t *reg, const md_domain_t *domain)
{
    const md_index_entry_t *entry = md_index_exact(reg->index, domain->name);

    while (entry && (entry->domain == domain || strcmp(entry->domain->name, domain->name)))
        entry = entry->next;
    return entry ? entry->domain : NULL;
}

const md_domain_t *md_reg_index(md_reg_t *reg, const md_domain_t **pother, const char **pname,
                                apr_pool_t *p)
{
    const md_domain_t *other;
    int i;

    reg->index = md_index_make(p);
    for (i = 0; i < reg->domains->nelts; ++i) {
        other = md_index_add(reg->index, domain_at(reg, i), pname);
        if (reg->conf->match_names == MD_MATCH_SERVERNAMES) { /* shared names may be meant */
            other = namesake(reg, domain_at(reg, i));
            *pname = domain_at(reg, i)->name;
        }
        if (other) {
            *pother = other;
            return domain_at(reg, i);
        }
    }
    return NULL;
}

/* ---- renames ---- */

/* A directory in `domains` that no configured domain uses. */
typedef struct orphan_t {
    const char *name;
    apr_array_header_t *names;
    int taken;
    int shared;               /* names in common with the domain looked at */
    const md_domain_t *seen;  /* the domain that `shared` is for */
} orphan_t;

/* DNS name -> orphan, for all of them. */
static apr_hash_t *find_orphans(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *dirs = md_store_names(reg->store, MD_STORE_DOMAINS, p);
    apr_hash_t *configured = apr_hash_make(p), *by_name = apr_hash_make(p);
    md_json_t *json;
    orphan_t *orphan;
    const char *name;
    int i, k;

    for (i = 0; i < reg->domains->nelts; ++i)
        apr_hash_set(configured, domain_at(reg, i)->name, APR_HASH_KEY_STRING, "");
    for (i = 0; i < dirs->nelts; ++i) {
        name = APR_ARRAY_IDX(dirs, i, const char *);
        if (apr_hash_get(configured, name, APR_HASH_KEY_STRING)
            || md_store_load_json(&json, reg->store, MD_STORE_DOMAINS, name, MD_JSON, NULL, p)
                   != APR_SUCCESS)
            continue;
        orphan = apr_pcalloc(p, sizeof(*orphan));
        orphan->name = name;
        orphan->names = md_json_get_strings(json, "domains", p);
        for (k = 0; orphan->names && k < orphan->names->nelts; ++k)
            apr_hash_set(by_name, APR_ARRAY_IDX(orphan->names, k, const char *),
                         APR_HASH_KEY_STRING, orphan);
    }
    return by_name;
}

/* The free orphan with most names of the domain, one with all of them before others. */
static orphan_t *match_orphan(apr_hash_t *by_name, const md_domain_t *domain)
{
    orphan_t *orphan, *best = NULL;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        orphan = apr_hash_get(by_name, APR_ARRAY_IDX(domain->names, i, const char *),
                              APR_HASH_KEY_STRING);
        if (!orphan || orphan->taken)
            continue;
        if (orphan->seen != domain)
            orphan->shared = 0;
        orphan->seen = domain;
        ++orphan->shared;
        if (!best || orphan->shared > best->shared)
            best = orphan;
    }
    return best;
}

static void take_over(const md_reg_t *reg, const md_domain_t *domain, orphan_t *orphan,
                      apr_pool_t *p)
{
    md_err_t err;

    md_err_init(&err, p);
    orphan->taken = 1;
    if (md_store_rename(reg->store, MD_STORE_DOMAINS, orphan->name, domain->name, &err, p)
        != APR_SUCCESS) {
        md_log(MD_LOG_ERR, err.rv, "md[%s]: cannot take over the data of %s: %s", domain->name,
               orphan->name, err.detail);
        return;
    }
    if (md_store_exists(reg->store, MD_STORE_STAGING, orphan->name, NULL, p)
        && md_store_rename(reg->store, MD_STORE_STAGING, orphan->name, domain->name, &err, p)
               != APR_SUCCESS)
        md_log(MD_LOG_INFO, err.rv, "md[%s]: %s", domain->name, err.detail);
    md_log(MD_LOG_INFO, APR_SUCCESS, "md[%s]: takes over the data of %s", domain->name,
           orphan->name);
}

void md_reg_sync_names(md_reg_t *reg, apr_pool_t *p)
{
    apr_hash_t *by_name = NULL;
    md_domain_t *domain;
    orphan_t *orphan;
    apr_pool_t *tmp;
    int i;

    apr_pool_create(&tmp, p);
    for (i = 0; i < reg->domains->nelts; ++i) {
        domain = domain_at(reg, i);
        md_store_recover(reg->store, domain->name, tmp);
        if (md_store_exists(reg->store, MD_STORE_DOMAINS, domain->name, NULL, tmp))
            continue;
        if (!by_name)
            by_name = find_orphans(reg, tmp);
        orphan = match_orphan(by_name, domain);
        if (orphan)
            take_over(reg, domain, orphan, tmp);
    }
    apr_pool_destroy(tmp);
}

/* ---- activation ---- */

/* A staged set, read and checked. */
typedef struct staged_t {
    md_domain_t *domain;         /* as the renewal saw it */
    const apr_array_header_t *specs;
    apr_array_header_t *keys;    /* md_key_t * */
    apr_array_header_t *chains;  /* apr_array_header_t * */
} staged_t;

static apr_status_t load_pair(staged_t *set, const md_reg_t *reg, const char *name,
                              const md_key_spec_t *spec, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *chain;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_key(&key, reg->store, MD_STORE_STAGING, name,
                           md_key_spec_file(spec, "privkey", p), err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_load_chain(&chain, reg->store, MD_STORE_STAGING, name,
                                 md_key_spec_file(spec, "pubcert", p), err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_cert_fits_key(md_chain_leaf(chain), key))
        return md_fail(err, APR_EINVAL, "certificate(%s) does not fit its private key",
                       md_key_spec_name(spec));
    APR_ARRAY_PUSH(set->keys, md_key_t *) = key;
    APR_ARRAY_PUSH(set->chains, apr_array_header_t *) = chain;
    return APR_SUCCESS;
}

/* APR_ENOENT: not complete (yet). */
static apr_status_t load_staged(staged_t *set, const md_reg_t *reg, const char *name,
                                md_err_t *err, apr_pool_t *p)
{
    md_json_t *json;
    apr_status_t rv;
    int i;

    rv = md_store_load_json(&json, reg->store, MD_STORE_STAGING, name, MD_JSON, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    set->domain = md_domain_from_json(json, p);
    if (!set->domain || !set->domain->ca_url)
        return APR_ENOENT;
    set->domain->name = name; /* the directory tells, the document may be from before a rename */
    set->specs = md_domain_key_specs(set->domain, p);
    set->keys = apr_array_make(p, 2, sizeof(md_key_t *));
    set->chains = apr_array_make(p, 2, sizeof(apr_array_header_t *));
    for (i = 0; i < set->specs->nelts && rv == APR_SUCCESS; ++i)
        rv = load_pair(set, reg, name, &APR_ARRAY_IDX(set->specs, i, md_key_spec_t), err, p);
    return rv;
}

static void settle_account(md_domain_t *staged, const md_reg_t *reg, apr_pool_t *p)
{
    md_acct_wish_t wish = { .ca_url = staged->ca_url, .eab_kid = staged->eab_kid,
                            .eab_hmac = staged->eab_hmac, .id = staged->ca_account };

    staged->ca_account = md_acct_find_id(reg->store, &wish, p);
}

/* All in tmp, job.json last: with it the set is complete (md_store_recover). */
static apr_status_t write_set(const staged_t *set, const md_reg_t *reg, const char *name,
                              md_err_t *err, apr_pool_t *p)
{
    const md_key_spec_t *spec;
    md_job_t *job;
    apr_status_t rv;
    int i;

    md_store_remove(reg->store, MD_STORE_TMP, name, NULL, p);
    rv = md_store_save_json(reg->store, MD_STORE_TMP, name, MD_JSON,
                            md_domain_to_json(set->domain, p), err, p);
    for (i = 0; i < set->specs->nelts && rv == APR_SUCCESS; ++i) {
        spec = &APR_ARRAY_IDX(set->specs, i, md_key_spec_t);
        rv = md_store_save_key(reg->store, MD_STORE_TMP, name,
                               md_key_spec_file(spec, "privkey", p),
                               APR_ARRAY_IDX(set->keys, i, md_key_t *), err, p);
        if (rv == APR_SUCCESS)
            rv = md_store_save_chain(reg->store, MD_STORE_TMP, name,
                                     md_key_spec_file(spec, "pubcert", p),
                                     APR_ARRAY_IDX(set->chains, i, apr_array_header_t *), err, p);
    }
    if (rv != APR_SUCCESS)
        return rv;
    (void)md_job_load(&job, reg->store, MD_STORE_STAGING, name, NULL, p);
    job->group = MD_STORE_TMP;
    md_job_log(job, apr_time_now(), "message-installed", NULL, NULL);
    return md_job_save(job, reg->store, err, p);
}

static apr_status_t activate(const md_reg_t *reg, const char *name, md_err_t *err, apr_pool_t *p)
{
    staged_t set = { 0 };
    apr_status_t rv;

    rv = load_staged(&set, reg, name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    md_order_drop(reg->store, name, p);
    settle_account(set.domain, reg, p);
    rv = write_set(&set, reg, name, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_activate(reg->store, name, err, p);
    /* A full disk must not cost a certificate: what is sound stays staged for the next start. */
    return rv == APR_SUCCESS ? APR_SUCCESS : md_fail(err, APR_EGENERAL, "%s, it stays staged",
                                                     apr_pstrdup(p, err->detail));
}

static void purge(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    md_order_drop(reg->store, name, p);
    md_store_remove(reg->store, MD_STORE_STAGING, name, NULL, p);
    md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, p);
}

static void activate_domain(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    md_err_t err;
    apr_status_t rv;

    if (!md_store_exists(reg->store, MD_STORE_STAGING, name, MD_JSON, p))
        return;
    md_err_init(&err, p);
    rv = activate(reg, name, &err, p);
    if (rv == APR_SUCCESS) {
        md_log(MD_LOG_INFO, rv, MD_LOGNO(10068) "%s: staged set activated", name);
        purge(reg, name, p);
    }
    else if (rv == APR_EGENERAL) {
        md_log(MD_LOG_ERR, rv, "%s: staged set cannot be activated: %s", name, err.detail);
    }
    else if (!APR_STATUS_IS_ENOENT(rv)) {
        md_log(MD_LOG_ERR, rv, MD_LOGNO(10069) "%s: error loading staged set, purging it: %s", name,
               err.detail ? err.detail : "");
        purge(reg, name, p);
    }
}

static void promote_account(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    const char *id;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    rv = md_acct_promote(&id, reg->store, name, &err, p);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, rv, "md[%s]: staged account not kept: %s", name,
               err.detail ? err.detail : "");
}

void md_reg_activate(md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *staged = md_store_names(reg->store, MD_STORE_STAGING, p);
    apr_hash_t *names = apr_hash_make(p);
    const char *name;
    apr_pool_t *iter;
    int i, pass;

    for (i = 0; i < staged->nelts; ++i)
        apr_hash_set(names, APR_ARRAY_IDX(staged, i, const char *), APR_HASH_KEY_STRING, "");
    apr_pool_create(&iter, p);
    for (pass = 0; pass < 2; ++pass) { /* accounts first: several sets may share one */
        for (i = 0; i < reg->domains->nelts; ++i) {
            name = domain_at(reg, i)->name;
            if (!apr_hash_get(names, name, APR_HASH_KEY_STRING))
                continue;
            apr_pool_clear(iter);
            if (pass == 0)
                promote_account(reg, name, iter);
            else
                activate_domain(reg, name, iter);
        }
    }
    apr_pool_destroy(iter);
}

/* ---- assessment ---- */

/* The live chain (NULL if there is none); does its private key fit? */
static int load_live(apr_array_header_t **pchain, const md_reg_t *reg, const md_domain_t *domain,
                     const md_key_spec_t *spec, apr_pool_t *p, apr_pool_t *tmp)
{
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, tmp);
    rv = md_store_load_chain(pchain, reg->store, MD_STORE_DOMAINS, domain->name,
                             md_key_spec_file(spec, "pubcert", tmp), &err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_key(reg->store, MD_STORE_DOMAINS, domain->name,
                                md_key_spec_file(spec, "privkey", tmp), md_chain_leaf(*pchain),
                                &err, tmp);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_ERR, rv, "md[%s]: certificate(%s) cannot be used and is ordered anew: %s",
               domain->name, md_key_spec_name(spec), err.detail);
    return rv == APR_SUCCESS;
}

/* Certificate and key that the administrator brought. */
static apr_status_t read_static(apr_array_header_t **pchain, const char *cert_file,
                                const char *key_file, md_err_t *err, apr_pool_t *p,
                                apr_pool_t *tmp)
{
    apr_size_t len;
    apr_status_t rv;
    char *pem;

    *pchain = NULL;
    rv = md_file_read_linked(&pem, &len, cert_file, MD_MAX_FILE, tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateFile %s cannot be read", cert_file);
    rv = md_chain_from_pem(pchain, pem, len, err, p);
    if (rv == APR_SUCCESS && !md_chain_leaf(*pchain))
        rv = md_fail(err, APR_EINVAL, "no certificate in it");
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateFile %s: %s", cert_file, err->detail);
    rv = md_file_read_linked(&pem, &len, key_file, MD_MAX_FILE, tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateKeyFile %s cannot be read", key_file);
    if (!md_cert_fits_pem(md_chain_leaf(*pchain), pem, len))
        rv = md_fail(err, APR_EINVAL, "MDCertificateKeyFile %s does not fit %s", key_file,
                     cert_file);
    md_wipe(pem, len);
    return rv;
}

static int load_static(apr_array_header_t **pchain, const md_domain_t *domain, int i,
                       apr_pool_t *p, apr_pool_t *tmp)
{
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, tmp);
    rv = read_static(pchain, APR_ARRAY_IDX(domain->cert_files, i, const char *),
                     APR_ARRAY_IDX(domain->pkey_files, i, const char *), &err, p, tmp);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, rv, "md[%s]: %s; it is not served until that is repaired and the "
               "server reloaded", domain->name, err.detail);
    return rv == APR_SUCCESS;
}

/* Chains of the store per key spec; *pfits in `p`. */
static apr_array_header_t *load_obtained(int **pfits, const md_reg_t *reg,
                                         const md_domain_t *domain, apr_pool_t *p,
                                         apr_pool_t *tmp)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, tmp);
    apr_array_header_t *chain, *chains;
    int i;

    chains = apr_array_make(p, specs->nelts, sizeof(apr_array_header_t *));
    *pfits = apr_pcalloc(p, sizeof(int) * (apr_size_t)specs->nelts);
    for (i = 0; i < specs->nelts; ++i) {
        (*pfits)[i] = load_live(&chain, reg, domain, &APR_ARRAY_IDX(specs, i, md_key_spec_t), p,
                                tmp);
        APR_ARRAY_PUSH(chains, apr_array_header_t *) = chain;
    }
    return chains;
}

static void load_certificates(md_reg_t *reg, md_domain_t *domain, apr_pool_t *p, apr_pool_t *tmp)
{
    apr_array_header_t *chain;
    int i, *fits;

    domain->chains = domain->obtained = load_obtained(&fits, reg, domain, p, tmp);
    domain->fits = fits;
    if (!domain->cert_files)
        return;
    fits = apr_pcalloc(p, sizeof(int) * (apr_size_t)domain->cert_files->nelts);
    domain->chains = apr_array_make(p, 1, sizeof(apr_array_header_t *));
    domain->fits = fits;
    for (i = 0; i < domain->cert_files->nelts; ++i) {
        fits[i] = load_static(&chain, domain, i, p, tmp);
        APR_ARRAY_PUSH(domain->chains, apr_array_header_t *) = chain;
    }
}

void md_reg_load(md_reg_t *reg, apr_pool_t *p)
{
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(iter);
        load_certificates(reg, domain_at(reg, i), p, iter);
    }
    apr_pool_destroy(iter);
}

/* What only the store knows. */
static void take_from_store(md_domain_t *domain, const md_domain_t *stored, apr_pool_t *p)
{
    if (domain->contacts->nelts == 0)
        domain->contacts = md_strings_copy(stored->contacts, p);
    domain->ca_url = apr_pstrdup(p, stored->ca_url);
    domain->ca_account = apr_pstrdup(p, stored->ca_account);
}

void md_reg_assess(md_reg_t *reg, md_domain_t *domain, apr_pool_t *p)
{
    md_json_t *stored = NULL, *current;
    apr_pool_t *tmp;
    md_err_t err;
    apr_status_t rv;

    apr_pool_create(&tmp, p);
    md_err_init(&err, tmp);
    md_domain_assess(domain, p);
    rv = md_store_load_json(&stored, reg->store, MD_STORE_DOMAINS, domain->name, MD_JSON, &err,
                            tmp);
    if (rv == APR_SUCCESS)
        take_from_store(domain, md_domain_from_json(stored, tmp), p);
    else if (!APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_ERR, rv, "md[%s]: %s; it is written anew from the configuration",
               domain->name, err.detail);
    current = md_domain_to_json(domain, tmp);
    if (!stored || !md_json_equal(stored, current)) {
        rv = md_store_save_json(reg->store, MD_STORE_DOMAINS, domain->name, MD_JSON, current, &err,
                                tmp);
        if (rv != APR_SUCCESS)
            md_log(MD_LOG_ERR, rv, MD_LOGNO(10172) "md[%s]: error syncing to store: %s",
                   domain->name, err.detail);
    }
    apr_pool_destroy(tmp);
}

/* ---- cleaning ---- */

static void forget_errors(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    apr_array_header_t *files;
    const char *file;
    md_job_t *job;
    int i;

    if (md_job_load(&job, reg->store, MD_STORE_STAGING, name, NULL, p) != APR_SUCCESS
        || job->errors == 0)
        return;
    md_log(MD_LOG_NOTICE, APR_SUCCESS, MD_LOGNO(10064) "md[%s]: previous drive job showed %d "
           "errors, purging STAGING area to reset", name, job->errors);
    md_order_drop(reg->store, name, p);
    md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, p);
    files = md_store_files(reg->store, MD_STORE_STAGING, name, p);
    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (strncmp(file, "account.", 8)) /* a key that the CA may know already is never lost */
            md_store_remove(reg->store, MD_STORE_STAGING, name, file, p);
    }
}

void md_reg_clean(md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(reg->store, MD_STORE_CHALLENGES, p);
    const char *name;
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(iter);
        if (domain_at(reg, i)->is_watched)
            forget_errors(reg, domain_at(reg, i)->name, iter);
    }
    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        if (!md_index_find(reg->index, name)
            && !md_index_find(reg->index, apr_pstrcat(p, "*.", name, NULL)))
            md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, p);
    }
    apr_pool_destroy(iter);
}

void md_reg_save_reachability(md_reg_t *reg, apr_pool_t *p)
{
    md_json_t *json;
    md_err_t err;
    apr_status_t rv;
    int http = 1, https = 1;

    md_err_init(&err, p);
    rv = md_store_load_base_json(&json, reg->store, HTTPD_JSON, &err, p);
    if (rv == APR_SUCCESS) {
        http = !md_json_has(json, "proto.http") || md_json_get_bool(json, "proto.http");
        https = !md_json_has(json, "proto.https") || md_json_get_bool(json, "proto.https");
    }
    else if (!APR_STATUS_IS_ENOENT(rv)) {
        md_log(MD_LOG_INFO, rv, "removing md/" HTTPD_JSON " on error loading it: %s", err.detail);
        md_store_remove_base(reg->store, HTTPD_JSON, p);
    }
    if (http == reg->http_reachable && https == reg->https_reachable)
        return;
    json = md_json_object(p);
    md_json_set_bool(json, "proto.http", reg->http_reachable);
    md_json_set_bool(json, "proto.https", reg->https_reachable);
    rv = md_store_save_base_json(reg->store, HTTPD_JSON, json, &err, p);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_WARNING, rv, "cannot note the reachability: %s", err.detail);
}

/* ---- files for the TLS module ---- */

static void push_pair(const md_reg_t *reg, const md_domain_t *domain, const char *cert,
                      const char *key, apr_array_header_t *certs, apr_array_header_t *keys,
                      apr_pool_t *p)
{
    APR_ARRAY_PUSH(certs, const char *) = md_store_path(reg->store, MD_STORE_DOMAINS, domain->name,
                                                        cert, p);
    APR_ARRAY_PUSH(keys, const char *) = md_store_path(reg->store, MD_STORE_DOMAINS, domain->name,
                                                       key, p);
}

/* A pair that the TLS module would choke on must not stop the server: it counts as missing. */
int md_reg_cert_files(const md_reg_t *reg, const md_domain_t *domain, apr_array_header_t *certs,
                      apr_array_header_t *keys, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    const md_key_spec_t *spec;
    int i, pairs = 0;

    for (i = 0; i < domain->chains->nelts; ++i) {
        if (!domain->fits[i])
            continue;
        ++pairs;
        if (domain->cert_files) {
            APR_ARRAY_PUSH(certs, const char *) = APR_ARRAY_IDX(domain->cert_files, i,
                                                                const char *);
            APR_ARRAY_PUSH(keys, const char *) = APR_ARRAY_IDX(domain->pkey_files, i, const char *);
            continue;
        }
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        push_pair(reg, domain, md_key_spec_file(spec, "pubcert", p),
                  md_key_spec_file(spec, "privkey", p), certs, keys, p);
    }
    return pairs;
}

static int fallback_is_good(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                            apr_pool_t *p)
{
    apr_array_header_t *chain;

    if (md_store_load_chain(&chain, reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_CERT,
                            NULL, p) != APR_SUCCESS)
        return 0;
    return md_store_check_key(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_KEY,
                              md_chain_leaf(chain), NULL, p) == APR_SUCCESS
           && md_cert_validity(md_chain_leaf(chain)).end > now + apr_time_from_sec(24 * 3600)
           && !md_cert_uncovered(md_chain_leaf(chain), domain->names, p);
}

apr_status_t md_reg_fallback_files(const md_reg_t *reg, const md_domain_t *domain,
                                   apr_array_header_t *certs, apr_array_header_t *keys,
                                   md_err_t *err, apr_pool_t *p)
{
    static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };
    apr_status_t rv = APR_SUCCESS;
    apr_pool_t *tmp;
    md_cert_t *cert;
    md_key_t *key;

    apr_pool_create(&tmp, p);
    if (!fallback_is_good(reg, domain, apr_time_now(), tmp)) {
        rv = md_key_generate(&key, &P256, err, tmp);
        if (rv == APR_SUCCESS)
            rv = md_cert_make_fallback(&cert, domain->names, key, err, tmp);
        if (rv == APR_SUCCESS)
            rv = md_store_save_volatile(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_KEY,
                                        key, FALLBACK_CERT, cert, err, tmp);
    }
    apr_pool_destroy(tmp);
    if (rv == APR_SUCCESS)
        push_pair(reg, domain, FALLBACK_CERT, FALLBACK_KEY, certs, keys, p);
    return rv;
}

/* ---- challenges ---- */

/* Why this type cannot work here, NULL if it can. */
static const char *type_problem(const md_reg_t *reg, const md_domain_t *domain, const char *type)
{
    if (!strcmp(type, "http-01"))
        return reg->http_reachable ? NULL
               : "The http challenge 'http-01' is disabled because the server seems not reachable "
                 "on public port 80. ";
    if (!reg->https_reachable)
        return "The https: challenge 'tls-alpn-01' is disabled because the server seems not "
               "reachable on public port 443. ";
    return domain->acme_tls->nelts > 0 ? NULL
           : "The https: challenge 'tls-alpn-01' is disabled because the Protocols configuration "
             "does not include the 'acme-tls/1' protocol. ";
}

apr_array_header_t *md_reg_challenge_types(const md_reg_t *reg, const md_domain_t *domain,
                                           const char **pwhy, apr_pool_t *p)
{
    static const char *const AUTOMATIC[] = { "tls-alpn-01", "http-01" };
    apr_array_header_t *types = md_strings_make(p);
    const char *problem, *why = "";
    size_t i;

    *pwhy = NULL;
    if (domain->ca_challenges && domain->ca_challenges->nelts > 0)
        return md_strings_copy(domain->ca_challenges, p);
    for (i = 0; i < sizeof(AUTOMATIC) / sizeof(AUTOMATIC[0]); ++i) {
        problem = type_problem(reg, domain, AUTOMATIC[i]);
        if (problem)
            why = apr_pstrcat(p, why, problem, NULL);
        else
            APR_ARRAY_PUSH(types, const char *) = AUTOMATIC[i];
    }
    if (types->nelts == 0)
        *pwhy = apr_pstrcat(p, "None of the ACME challenge methods configured for this domain are "
                            "suitable. ", why, NULL);
    return types;
}

static apr_status_t load_answer(const md_reg_t *reg, const char *name, const char *cert_file,
                                const char *key_file, const char **pcert, const char **pkey,
                                apr_pool_t *p)
{
    apr_size_t len;
    apr_status_t rv;

    rv = md_store_load_text(pcert, &len, reg->store, MD_STORE_CHALLENGES, name, cert_file,
                            MD_MAX_CHALLENGE, NULL, p);
    if (rv == APR_SUCCESS)
        rv = md_store_load_text(pkey, &len, reg->store, MD_STORE_CHALLENGES, name, key_file,
                                MD_MAX_CHALLENGE, NULL, p);
    return rv;
}

/* The RSA pair's files have no key name, others follow: this order is the one CAs prefer. */
apr_status_t md_reg_alpn_answer(const md_reg_t *reg, const char *name, const char **pcert,
                                const char **pkey, apr_pool_t *p)
{
    apr_array_header_t *files;
    const char *file, *suffix;
    int i;

    if (!name || !md_path_part_is_safe(name))
        return APR_ENOENT;
    if (load_answer(reg, name, MD_ALPN_PUBCERT ".pem", MD_ALPN_PRIVKEY ".pem", pcert, pkey, p)
        == APR_SUCCESS)
        return APR_SUCCESS;
    files = md_store_files(reg->store, MD_STORE_CHALLENGES, name, p);
    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (strncmp(file, MD_ALPN_PUBCERT, strlen(MD_ALPN_PUBCERT)))
            continue;
        suffix = file + strlen(MD_ALPN_PUBCERT);
        if (load_answer(reg, name, file, apr_pstrcat(p, MD_ALPN_PRIVKEY, suffix, NULL), pcert,
                        pkey, p) == APR_SUCCESS)
            return APR_SUCCESS;
    }
    return APR_ENOENT;
}
