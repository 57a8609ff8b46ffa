/* SPDX-License-Identifier: Apache-2.0 */
/* Renames of managed domains. */
#include "md_rename.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_log.h"

/* A directory in `domains` that no configured domain uses. */
typedef struct orphan_t {
    const char *name;
    int index;                /* in order of the directories */
    int taken;
    int shared;               /* names in common with the domain looked at */
    const md_domain_t *seen;  /* the domain that `shared` is for */
} orphan_t;

static void add_orphan(apr_hash_t *by_name, orphan_t *orphan, const apr_array_header_t *names,
                       apr_pool_t *p)
{
    apr_array_header_t *orphans;
    const char *name;
    int i;

    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        orphans = apr_hash_get(by_name, name, APR_HASH_KEY_STRING);
        if (!orphans) {
            orphans = apr_array_make(p, 1, sizeof(orphan_t *));
            apr_hash_set(by_name, name, APR_HASH_KEY_STRING, orphans);
        }
        APR_ARRAY_PUSH(orphans, orphan_t *) = orphan;
    }
}

/* DNS name -> array of the orphans that have it. */
static apr_hash_t *find_orphans(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *dirs = md_store_names(reg->store, MD_STORE_DOMAINS, p);
    apr_hash_t *configured = apr_hash_make(p), *by_name = apr_hash_make(p);
    md_json_t *json;
    orphan_t *orphan;
    const char *name;
    apr_status_t rv;
    md_err_t err;
    int i;

    md_err_init(&err, p);
    for (i = 0; i < reg->domains->nelts; ++i)
        apr_hash_set(configured, md_reg_domain(reg, i)->name, APR_HASH_KEY_STRING, "");
    for (i = 0; i < dirs->nelts; ++i) {
        name = APR_ARRAY_IDX(dirs, i, const char *);
        if (apr_hash_get(configured, name, APR_HASH_KEY_STRING))
            continue;
        rv = md_reg_load_json(&json, reg, MD_STORE_DOMAINS, name, &err, p);
        if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv) && !reg->is_dry_run)
            md_log(MD_LOG_WARNING, "%s; no domain can take over this directory", err.detail);
        if (rv != APR_SUCCESS)
            continue;
        orphan = apr_pcalloc(p, sizeof(*orphan));
        orphan->name = name;
        orphan->index = i;
        add_orphan(by_name, orphan, md_json_get_strings(json, "domains", p), p);
    }
    return by_name;
}

static int is_better(const orphan_t *a, const orphan_t *b)
{
    return !b || a->shared > b->shared || (a->shared == b->shared && a->index < b->index);
}

/* The free orphan with most names of the domain (so one with all of them before others), the first
 * of those with equally many. */
static orphan_t *match_orphan(apr_hash_t *by_name, const md_domain_t *domain)
{
    apr_array_header_t *orphans;
    orphan_t *orphan, *best = NULL;
    int i, k;

    for (i = 0; i < domain->names->nelts; ++i) {
        orphans = apr_hash_get(by_name, APR_ARRAY_IDX(domain->names, i, const char *),
                               APR_HASH_KEY_STRING);
        for (k = 0; orphans && k < orphans->nelts; ++k) {
            orphan = APR_ARRAY_IDX(orphans, k, orphan_t *);
            if (orphan->taken)
                continue;
            orphan->shared = orphan->seen == domain ? orphan->shared + 1 : 1;
            orphan->seen = domain;
            if (is_better(orphan, best))
                best = orphan;
        }
    }
    return best;
}

/* Before the order that needs them: what no order needs is torn down. */
static void take_over_records(const md_reg_t *reg, const char *from, const char *to, apr_pool_t *p)
{
    md_err_t err;

    if (!md_store_exists(reg->store, MD_STORE_RECORDS, from, NULL, p)
        || md_store_exists(reg->store, MD_STORE_RECORDS, to, NULL, p))
        return;
    md_err_init(&err, p);
    if (md_store_rename(reg->store, MD_STORE_RECORDS, from, to, &err, p) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: cannot take over the TXT records of %s: %s", to, from,
               err.detail);
}

/* What is in service under the old name, but not in `domains` yet. */
static void take_over_published(const md_reg_t *reg, const char *from, const char *to,
                                apr_pool_t *p)
{
    md_err_t err;

    if (!md_store_exists(reg->store, MD_STORE_LIVE, from, NULL, p)
        || md_store_exists(reg->store, MD_STORE_LIVE, to, NULL, p))
        return;
    md_err_init(&err, p);
    if (md_store_rename(reg->store, MD_STORE_LIVE, from, to, &err, p) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: cannot take over the certificates that are in service for "
               "%s: %s", to, from, err.detail);
}

/* What is staged for the old name goes on under the new one. A child of the generation before may
 * still write under the old name: nobody looks there any more. */
static void take_over_staging(const md_reg_t *reg, const char *from, const char *to, apr_pool_t *p)
{
    const char *archived;
    md_json_t *json;
    md_err_t err;
    apr_status_t rv = APR_SUCCESS;

    take_over_records(reg, from, to, p);
    take_over_published(reg, from, to, p);
    if (!md_store_exists(reg->store, MD_STORE_STAGING, from, NULL, p))
        return;
    md_err_init(&err, p);
    if (md_store_exists(reg->store, MD_STORE_STAGING, to, NULL, p)) /* from an earlier life */
        rv = md_store_archive(&archived, reg->store, MD_STORE_STAGING, to, &err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_rename(reg->store, MD_STORE_STAGING, from, to, &err, p);
    if (rv == APR_SUCCESS
        && md_reg_load_json(&json, reg, MD_STORE_STAGING, to, NULL, p) == APR_SUCCESS) {
        md_json_set_str(json, "name", to);
        rv = md_store_save_json(reg->store, MD_STORE_STAGING, to, MD_DOMAIN_JSON, json, &err, p);
    }
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: cannot take over the renewal of %s: %s", to, from,
               err.detail);
}

/* Is there more in the directory than a start makes for a domain that is new? */
static int has_set(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(reg->store, MD_STORE_DOMAINS, name, p);
    const char *file;
    int i;

    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (!strncmp(file, "pubcert", 7) || !strncmp(file, "privkey", 7))
            return 1;
    }
    return 0;
}

/* The quick way to see that nothing has to be taken over. */
static int is_settled(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    const md_key_spec_t *first = &APR_ARRAY_IDX(md_domain_key_specs(domain, p), 0, md_key_spec_t);
    const char *file = domain->cert_files ? NULL : md_key_spec_file(first, "pubcert", p);

    return md_store_exists(reg->store, MD_STORE_DOMAINS, domain->name, file, p);
}

/* What a domain got while its rename had to wait for the lock must not stand in the way of the
 * rename for good: it makes room for a set. */
static int may_take_over(const md_reg_t *reg, const md_domain_t *domain, const orphan_t *orphan,
                         apr_pool_t *p)
{
    return !md_store_exists(reg->store, MD_STORE_DOMAINS, domain->name, NULL, p)
           || (!has_set(reg, domain->name, p) && has_set(reg, orphan->name, p));
}

/* What is staged moves first: when this is cut short in between, the next start finds the rename
 * again. */
static void take_over(const md_reg_t *reg, const md_domain_t *domain, orphan_t *orphan,
                      apr_pool_t *p)
{
    apr_status_t rv = APR_SUCCESS;
    const char *archived;
    md_err_t err;

    md_err_init(&err, p);
    orphan->taken = 1;
    take_over_staging(reg, orphan->name, domain->name, p);
    if (md_store_exists(reg->store, MD_STORE_DOMAINS, domain->name, NULL, p))
        rv = md_store_archive(&archived, reg->store, MD_STORE_DOMAINS, domain->name, &err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_rename(reg->store, MD_STORE_DOMAINS, orphan->name, domain->name, &err, p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, "md[%s]: takes over the data of %s", domain->name,
               orphan->name);
    else
        md_log(MD_LOG_ERR, "md[%s]: cannot take over the data of %s: %s", domain->name,
               orphan->name, err.detail);
}

void md_rename_follow(md_reg_t *reg, apr_pool_t *p)
{
    apr_hash_t *by_name = NULL;
    md_domain_t *domain;
    orphan_t *orphan;
    apr_pool_t *tmp, *iter;
    int i;

    apr_pool_create(&tmp, p);
    apr_pool_create(&iter, tmp);
    md_store_recover(reg->store, tmp);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(iter);
        domain = md_reg_domain(reg, i);
        if (is_settled(reg, domain, iter))
            continue;
        if (!by_name)
            by_name = find_orphans(reg, tmp);
        orphan = match_orphan(by_name, domain);
        if (orphan && may_take_over(reg, domain, orphan, iter))
            take_over(reg, domain, orphan, iter);
    }
    apr_pool_destroy(tmp);
}
