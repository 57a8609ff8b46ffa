/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: configured domains and what the store has for them. */
#include "md_reg.h"

#include <string.h>
#include <strings.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_acme_authz.h"
#include "md_csr.h"
#include "md_file.h"
#include "md_job.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

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

/* ---- documents ---- */

static const md_json_rule_t MD_RULES[] = {
    { "name", MD_JSON_STRING, 0 }, { "domains", MD_JSON_STRINGS, 1 }, { "ca", MD_JSON_OBJECT, 0 },
    { NULL, MD_JSON_STRING, 0 }
};

apr_status_t md_reg_load_json(md_json_t **pjson, const md_reg_t *reg, md_store_group_t group,
                              const char *name, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_store_load_json(pjson, reg->store, group, name, MD_DOMAIN_JSON, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(*pjson, reg->store, group, name, MD_DOMAIN_JSON, MD_RULES, err, p);
    if (rv != APR_SUCCESS)
        *pjson = NULL;
    return rv;
}

apr_status_t md_reg_load_domain(md_domain_t **pdomain, const md_reg_t *reg, const char *name,
                                md_err_t *err, apr_pool_t *p)
{
    md_json_t *json;
    apr_status_t rv;

    rv = md_reg_load_json(&json, reg, MD_STORE_DOMAINS, name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    *pdomain = md_domain_from_json(json, p);
    (*pdomain)->name = apr_pstrdup(p, name);
    return APR_SUCCESS;
}

apr_status_t md_reg_save_domain(const md_reg_t *reg, const md_domain_t *domain, md_err_t *err,
                                apr_pool_t *p)
{
    return md_store_save_json(reg->store, MD_STORE_DOMAINS, domain->name, MD_DOMAIN_JSON,
                              md_domain_to_json(domain, p), err, p);
}

void md_reg_put_aside(const md_reg_t *reg, md_store_group_t group, const char *name,
                      const char *file, const char *consequence, const md_err_t *err,
                      apr_pool_t *p)
{
    const char *aside;
    apr_status_t rv;

    rv = md_store_put_aside(&aside, reg->store, group, name, file, p);
    if (rv == APR_SUCCESS)
        md_log(MD_LOG_ERR, "md[%s]: %s; kept as %s, %s", name, err->detail, aside,
               consequence);
    else
        md_log(MD_LOG_ERR, "md[%s]: %s; it could not be moved out of the way: %s", name,
               err->detail, md_err_text(rv, p));
}

/* ---- renames ---- */

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
        apr_hash_set(configured, domain_at(reg, i)->name, APR_HASH_KEY_STRING, "");
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

/* What is staged for the old name goes on under the new one. A child of the generation before may
 * still write under the old name: nobody looks there any more. */
static void take_over_staging(const md_reg_t *reg, const char *from, const char *to, apr_pool_t *p)
{
    const char *archived;
    md_json_t *json;
    md_err_t err;
    apr_status_t rv = APR_SUCCESS;

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

void md_reg_sync_names(md_reg_t *reg, apr_pool_t *p)
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
        domain = domain_at(reg, i);
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

/* ---- assessment ---- */

/* Reading the certificates of all domains. */
typedef struct load_t {
    const md_reg_t *reg;
    apr_hash_t *issuers; /* see md_chain_from_pem_shared */
    apr_pool_t *p, *tmp;
} load_t;

static apr_status_t parse_chain(apr_array_header_t **pchain, const load_t *load, const char *pem,
                                apr_size_t len, md_err_t *err)
{
    apr_status_t rv = md_chain_from_pem_shared(pchain, pem, len, load->issuers, err, load->tmp);

    if (rv == APR_SUCCESS && !md_chain_leaf(*pchain))
        rv = md_fail(err, APR_EINVAL, "there is no certificate");
    return rv == APR_SUCCESS ? md_chain_check_strength(*pchain, err) : rv;
}

static apr_status_t read_live(apr_array_header_t **pchain, const load_t *load, const char *name,
                              const md_key_spec_t *spec, md_err_t *err)
{
    const char *file = md_key_spec_file(spec, "pubcert", load->tmp), *pem;
    const md_store_t *store = load->reg->store;
    apr_size_t len;
    apr_status_t rv;

    *pchain = NULL;
    rv = md_store_load_text(&pem, &len, store, MD_STORE_DOMAINS, name, file, MD_MAX_FILE, err,
                            load->tmp);
    if (rv != APR_SUCCESS)
        return rv;
    rv = parse_chain(pchain, load, pem, len, err);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s in %s", err->detail,
                       md_store_path(store, MD_STORE_DOMAINS, name, file, load->tmp));
    file = md_key_spec_file(spec, "privkey", load->tmp);
    rv = md_store_check_key(store, MD_STORE_DOMAINS, name, file, md_chain_leaf(*pchain), err,
                            load->tmp);
    if (APR_STATUS_IS_ENOENT(rv))
        rv = md_fail(err, APR_EINVAL, "there is no private key %s",
                     md_store_path(store, MD_STORE_DOMAINS, name, file, load->tmp));
    return rv;
}

static apr_status_t load_live(apr_array_header_t **pchain, const load_t *load,
                              const md_domain_t *domain, const md_key_spec_t *spec)
{
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, load->tmp);
    rv = read_live(pchain, load, domain->name, spec, &err);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv) && !load->reg->is_dry_run
        && !load->reg->is_tool)
        md_log(MD_LOG_ERR, "md[%s]: certificate(%s) cannot be used and is ordered anew: %s",
               domain->name, md_key_spec_name(spec), err.detail);
    return rv;
}

/* Keys of all kinds. One that is encrypted is for the TLS module, which knows the passphrase. */
static int is_key_of(const md_cert_t *cert, const char *pem, apr_size_t len, apr_pool_t *p)
{
    md_key_t *key;

    if (md_key_pem_is_encrypted(pem) || md_cert_fits_pem(cert, pem, len))
        return 1;
    return md_key_from_pem(&key, pem, len, NULL, 0, NULL, p) == APR_SUCCESS
           && md_cert_fits_key(cert, key);
}

/* Certificate and key that the administrator brought. */
static apr_status_t read_static(apr_array_header_t **pchain, const load_t *load,
                                const char *cert_file, const char *key_file, md_err_t *err)
{
    apr_size_t len;
    apr_status_t rv;
    char *pem;

    *pchain = NULL;
    rv = md_file_read_linked(&pem, &len, cert_file, MD_MAX_FILE, load->tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateFile %s cannot be read: %s", cert_file,
                       md_file_why(AT_FDCWD, cert_file, rv, MD_MAX_FILE, load->tmp));
    rv = parse_chain(pchain, load, pem, len, err);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateFile %s: %s", cert_file, err->detail);
    rv = md_file_read_linked(&pem, &len, key_file, MD_MAX_FILE, load->tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateKeyFile %s cannot be read: %s", key_file,
                       md_file_why(AT_FDCWD, key_file, rv, MD_MAX_FILE, load->tmp));
    if (!is_key_of(md_chain_leaf(*pchain), pem, len, load->tmp))
        rv = md_fail(err, APR_EINVAL, "MDCertificateKeyFile %s does not match %s", key_file,
                     cert_file);
    md_wipe(pem, len);
    return rv;
}

static apr_status_t load_static(apr_array_header_t **pchain, const load_t *load,
                                const md_domain_t *domain, int i)
{
    const char *cert_file = APR_ARRAY_IDX(domain->cert_files, i, const char *);
    md_err_t err;
    apr_status_t rv;

    *pchain = NULL;
    if (!domain->pkey_files || i >= domain->pkey_files->nelts) /* AH10170, in a test */
        return APR_EINVAL;
    md_err_init(&err, load->tmp);
    rv = read_static(pchain, load, cert_file, APR_ARRAY_IDX(domain->pkey_files, i, const char *),
                     &err);
    if (rv != APR_SUCCESS && !load->reg->is_dry_run)
        md_log(MD_LOG_ERR, "md[%s]: %s; it is not served until that is repaired and the "
               "server reloaded", domain->name, err.detail);
    return rv;
}

/* The `count` certificates of the store, per key spec, or of static files; *pfits tells which of
 * them have their private key. */
static apr_array_header_t *load_certs(const int **pfits, const load_t *load,
                                      const md_domain_t *domain, const apr_array_header_t *specs,
                                      int count)
{
    apr_array_header_t *certs = apr_array_make(load->p, count, sizeof(md_cert_info_t *)), *chain;
    int *fits = apr_pcalloc(load->p, sizeof(int) * (apr_size_t)count), i;
    apr_status_t rv;

    for (i = 0; i < count; ++i) {
        rv = specs ? load_live(&chain, load, domain, &APR_ARRAY_IDX(specs, i, md_key_spec_t))
                   : load_static(&chain, load, domain, i);
        fits[i] = rv == APR_SUCCESS;
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) =
            md_chain_leaf(chain) ? md_cert_info(md_chain_leaf(chain), load->p) : NULL;
    }
    *pfits = fits;
    return certs;
}

/* Another certificate of a CA that leaves out must-staple would be the same. */
static int lacks_must_staple(const load_t *load, const md_domain_t *domain)
{
    const md_cert_info_t *cert;
    md_job_t *job;
    int i;

    for (i = 0; domain->must_staple && i < domain->obtained->nelts; ++i) {
        cert = APR_ARRAY_IDX(domain->obtained, i, const md_cert_info_t *);
        if (cert && !cert->must_staple)
            return md_job_load(&job, load->reg->store, MD_STORE_DOMAINS, domain->name, NULL,
                               load->tmp) == APR_SUCCESS && job->lacks_must_staple;
    }
    return 0;
}

void md_reg_load(md_reg_t *reg, apr_pool_t *p)
{
    load_t load = { .reg = reg, .p = p };
    const apr_array_header_t *specs;
    md_domain_t *domain;
    apr_pool_t *tmp;
    int i;

    apr_pool_create(&tmp, p);
    apr_pool_create(&load.tmp, tmp);
    load.issuers = apr_hash_make(tmp);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(load.tmp);
        domain = domain_at(reg, i);
        specs = md_domain_key_specs(domain, load.tmp);
        if (reg->store) {
            domain->certs = domain->obtained = load_certs(&domain->fits, &load, domain, specs,
                                                          specs->nelts);
            domain->lacks_must_staple = lacks_must_staple(&load, domain);
        }
        if (domain->cert_files)
            domain->certs = load_certs(&domain->fits, &load, domain, NULL,
                                       domain->cert_files->nelts);
    }
    apr_pool_destroy(tmp);
}

static int are_valid(const apr_array_header_t *certs, apr_time_t now)
{
    int i;

    for (i = 0; i < certs->nelts; ++i)
        if (APR_ARRAY_IDX(certs, i, const md_cert_info_t *)->validity.end <= now)
            return 0;
    return 1;
}

int md_reg_is_live(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now, apr_pool_t *p)
{
    md_reg_t quiet = *reg;
    load_t load = { .reg = &quiet, .issuers = apr_hash_make(p), .p = p, .tmp = p };
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    md_domain_t live = *domain;

    quiet.is_dry_run = 1; /* damage is told when all is loaded */
    live.cert_files = live.pkey_files = NULL;
    live.certs = live.obtained = load_certs(&live.fits, &load, &live, specs, specs->nelts);
    live.lacks_must_staple = lacks_must_staple(&load, &live);
    md_domain_assess(&live, p);
    return live.state == MD_STATE_COMPLETE && are_valid(live.certs, now);
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
    rv = md_reg_load_json(&stored, reg, MD_STORE_DOMAINS, domain->name, &err, tmp);
    if (rv == APR_SUCCESS)
        take_from_store(domain, md_domain_from_json(stored, tmp), p);
    else if (!APR_STATUS_IS_ENOENT(rv))
        md_reg_put_aside(reg, MD_STORE_DOMAINS, domain->name, MD_DOMAIN_JSON,
                  "it is written anew from the configuration", &err, tmp);
    current = md_domain_to_json(domain, tmp);
    rv = APR_SUCCESS;
    if (!stored) /* all of it is configured: thousands of new domains wait for no disk */
        rv = md_store_save_json_volatile(reg->store, MD_STORE_DOMAINS, domain->name,
                                         MD_DOMAIN_JSON, current, &err, tmp);
    else if (!md_json_equal(stored, current))
        rv = md_reg_save_domain(reg, domain, &err, tmp);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, MD_LOGNO(10172) "md[%s]: error syncing to store: %s",
               domain->name, err.detail);
    apr_pool_destroy(tmp);
}

/* ---- what the server notes for tools ---- */

/* What httpd.json says. */
typedef struct note_t {
    int http, https;
    md_route_t route;
} note_t;

static md_json_t *note_to_json(const note_t *note, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_bool(json, "proto.http", note->http);
    md_json_set_bool(json, "proto.https", note->https);
    md_json_set_str(json, "route.ca-certs", note->route.ca_file);
    md_json_set_str(json, "route.proxy-url", note->route.proxy_url);
    md_json_set_str(json, "route.proxy-ca-certs", note->route.proxy_ca_file);
    return json;
}

static void note_from_json(note_t *note, const md_json_t *json, apr_pool_t *p)
{
    note->http = !md_json_has(json, "proto.http") || md_json_get_bool(json, "proto.http");
    note->https = !md_json_has(json, "proto.https") || md_json_get_bool(json, "proto.https");
    note->route.ca_file = apr_pstrdup(p, md_json_get_str(json, "route.ca-certs"));
    note->route.proxy_url = apr_pstrdup(p, md_json_get_str(json, "route.proxy-url"));
    note->route.proxy_ca_file = apr_pstrdup(p, md_json_get_str(json, "route.proxy-ca-certs"));
}

static apr_status_t load_note(note_t *note, const md_reg_t *reg, md_err_t *err, apr_pool_t *p)
{
    static const md_json_rule_t RULES[] = {
        { "proto", MD_JSON_OBJECT, 0 }, { "proto.http", MD_JSON_BOOL, 0 },
        { "proto.https", MD_JSON_BOOL, 0 }, { "route", MD_JSON_OBJECT, 0 },
        { "route.ca-certs", MD_JSON_STRING, 0 }, { "route.proxy-url", MD_JSON_STRING, 0 },
        { "route.proxy-ca-certs", MD_JSON_STRING, 0 }, { NULL, MD_JSON_STRING, 0 }
    };
    const char *wrong;
    md_json_t *json;
    apr_status_t rv;

    rv = md_store_load_base_json(&json, reg->store, HTTPD_JSON, err, p);
    wrong = md_json_misfit(json, RULES, p);
    if (rv == APR_SUCCESS && wrong)
        rv = md_fail(err, APR_EINVAL, "%s", wrong);
    if (rv == APR_SUCCESS)
        note_from_json(note, json, p);
    return rv;
}

static note_t loaded_note(const md_reg_t *reg, apr_pool_t *p)
{
    note_t note = { .http = 1, .https = 1 };
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    rv = load_note(&note, reg, &err, p);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv)) {
        md_log(MD_LOG_INFO, "removing md/" HTTPD_JSON " on error loading it: %s", err.detail);
        md_store_remove_base(reg->store, HTTPD_JSON, p);
    }
    return note;
}

void md_reg_load_note(md_reg_t *reg, apr_pool_t *p)
{
    note_t note = loaded_note(reg, p);

    reg->http_reachable = note.http;
    reg->https_reachable = note.https;
    reg->noted = note.route;
}

void md_reg_save_note(const md_reg_t *reg, apr_pool_t *p)
{
    static const md_route_t NOTHING = { .ca_file = NULL };
    note_t note = { .http = reg->http_reachable, .https = reg->https_reachable }, noted;
    md_json_t *json;
    md_err_t err;

    note.route = md_config_route(md_domain_make("", p), reg->conf, &NOTHING);
    noted = loaded_note(reg, p);
    json = note_to_json(&note, p);
    if (md_json_equal(json, note_to_json(&noted, p)))
        return;
    md_err_init(&err, p);
    if (md_store_save_base_json(reg->store, HTTPD_JSON, json, &err, p) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "cannot note for a2md what this server knows: %s", err.detail);
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

    for (i = 0; i < domain->certs->nelts; ++i) {
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

/* NULL if the TLS module could not use it. */
static const md_cert_info_t *usable_fallback(const md_reg_t *reg, const md_domain_t *domain,
                                             apr_pool_t *p)
{
    apr_array_header_t *chain;

    if (md_store_load_chain(&chain, reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_CERT,
                            NULL, p) != APR_SUCCESS
        || md_chain_check_strength(chain, NULL) != APR_SUCCESS
        || md_store_check_key(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_KEY,
                              md_chain_leaf(chain), NULL, p) != APR_SUCCESS)
        return NULL;
    return md_cert_info(md_chain_leaf(chain), p);
}

static int is_fresh(const md_cert_info_t *cert, const md_domain_t *domain, apr_time_t now,
                    apr_pool_t *p)
{
    return cert->validity.end > now + apr_time_from_sec(24 * 3600)
           && !md_cert_uncovered(cert, domain->names, p);
}

static apr_status_t make_fallback(const md_reg_t *reg, const md_domain_t *domain, md_err_t *err,
                                  apr_pool_t *p)
{
    static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };
    apr_status_t rv;
    md_cert_t *cert;
    md_key_t *key;

    rv = md_key_generate(&key, &P256, err, p);
    if (rv == APR_SUCCESS)
        rv = md_cert_make_fallback(&cert, domain->names, key, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_save_volatile(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_KEY,
                                    key, FALLBACK_CERT, cert, err, p);
    return rv;
}

apr_status_t md_reg_fallback_files(const md_reg_t *reg, const md_domain_t *domain,
                                   apr_array_header_t *certs, apr_array_header_t *keys,
                                   md_err_t *err, apr_pool_t *p)
{
    const md_cert_info_t *old;
    apr_status_t rv = APR_SUCCESS;
    apr_pool_t *tmp;

    apr_pool_create(&tmp, p);
    old = usable_fallback(reg, domain, tmp);
    if (!old || !is_fresh(old, domain, apr_time_now(), tmp))
        rv = make_fallback(reg, domain, err, tmp);
    if (rv != APR_SUCCESS && old && usable_fallback(reg, domain, tmp)) {
        md_log(MD_LOG_WARNING, "md[%s]: keeps its old temporary certificate: %s",
               domain->name, err->detail);
        rv = APR_SUCCESS;
    }
    apr_pool_destroy(tmp);
    if (rv == APR_SUCCESS)
        push_pair(reg, domain, FALLBACK_CERT, FALLBACK_KEY, certs, keys, p);
    return rv;
}

/* ---- challenges ---- */

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
