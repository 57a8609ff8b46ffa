/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: configured domains and what the store has for them. */
#include "md_reg.h"

#include <string.h>

#include <apr_strings.h>
#include <apr_user.h>

#include "md_clock.h"
#include "md_csr.h"
#include "md_log.h"
#include "md_text.h"

#define HTTPD_JSON "httpd.json"
#define FALLBACK_KEY  "fallback-privkey.pem"
#define FALLBACK_CERT "fallback-pubcert.pem"

md_reg_t *md_reg_make(md_store_t *store, const md_conf_t *conf, apr_array_header_t *domains,
                      apr_pool_t *p)
{
    md_reg_t *reg = apr_pcalloc(p, sizeof(*reg));
    int i;

    reg->store = store;
    reg->conf = conf;
    reg->domains = domains;
    reg->http_reachable = reg->https_reachable = 1;
    for (i = 0; i < domains->nelts; ++i)
        md_reg_domain(reg, i)->number = i;
    return reg;
}

md_domain_t *md_reg_domain(const md_reg_t *reg, int i)
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
        other = md_index_add(reg->index, md_reg_domain(reg, i), pname);
        if (reg->conf->match_names == MD_MATCH_SERVERNAMES) { /* shared names may be meant */
            other = namesake(reg, md_reg_domain(reg, i));
            *pname = md_reg_domain(reg, i)->name;
        }
        if (other) {
            *pother = other;
            return md_reg_domain(reg, i);
        }
    }
    return NULL;
}

const md_rights_t *md_reg_rights(md_rights_t *rights, const md_reg_t *reg, apr_pool_t *p)
{
    apr_uid_t uid;
    char *name;

    if (!md_store_has_owner(&rights->uid, reg->store))
        return NULL;
    rights->gid = (apr_gid_t)rights->uid;
    if (reg->group)
        rights->gid = *reg->group;
    else if (apr_uid_name_get(&name, rights->uid, p) == APR_SUCCESS)
        (void)apr_uid_get(&uid, &rights->gid, name, p);
    return rights;
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

void md_reg_open_to_children(const md_reg_t *reg, md_store_group_t group, const char *name,
                             const apr_array_header_t *files, apr_pool_t *p)
{
    const char *file;
    int i;

    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (md_store_open_to_children(reg->store, group, name, file, p))
            md_log(MD_LOG_WARNING, "%s could not be read by the processes that renew certificates: "
                   "its mode has been corrected",
                   md_store_path(reg->store, group, name, file, p));
    }
}

/* ---- assessment ---- */

void md_reg_load(md_reg_t *reg, apr_pool_t *p)
{
    md_live_load(reg->domains, reg->store, reg->known, reg->is_dry_run ? MD_LIVE_TELL_NONE
                 : reg->is_tool ? MD_LIVE_TELL_STATIC : MD_LIVE_TELL_ALL, p);
}

/* What only the store knows. */
static void take_from_store(md_domain_t *domain, const md_domain_t *stored, apr_pool_t *p)
{
    if (domain->contacts->nelts == 0)
        domain->contacts = md_strings_copy(stored->contacts, p);
    domain->ca_url = apr_pstrdup(p, stored->ca_url);
    domain->ca_account = apr_pstrdup(p, stored->ca_account);
}

/* Write the document if it differs from what is `stored` (NULL: nothing). */
static apr_status_t keep_document(const md_reg_t *reg, const md_domain_t *domain,
                                  const md_json_t *stored, md_err_t *err, apr_pool_t *p)
{
    md_json_t *current = md_domain_to_json(domain, p);

    if (!stored) /* all of it is configured: thousands of new domains wait for no disk */
        return md_store_save_json_volatile(reg->store, MD_STORE_DOMAINS, domain->name,
                                           MD_DOMAIN_JSON, current, err, p);
    return md_json_equal(stored, current) ? APR_SUCCESS
                                          : md_reg_save_domain(reg, domain, err, p);
}

void md_reg_assess(md_reg_t *reg, md_domain_t *domain, apr_pool_t *p)
{
    md_json_t *stored = NULL;
    apr_pool_t *tmp;
    md_err_t err;
    apr_status_t rv;

    apr_pool_create(&tmp, p);
    md_err_init(&err, tmp);
    md_live_assess(domain, p);
    rv = md_reg_load_json(&stored, reg, MD_STORE_DOMAINS, domain->name, &err, tmp);
    if (rv == APR_SUCCESS)
        take_from_store(domain, md_domain_from_json(stored, tmp), p);
    else if (!APR_STATUS_IS_ENOENT(rv) && !md_is_lack(rv))
        md_reg_put_aside(reg, MD_STORE_DOMAINS, domain->name, MD_DOMAIN_JSON,
                  "it will be rewritten from the configuration", &err, tmp);
    if (!md_is_lack(rv)) /* else it may be there, with what only the store knows */
        rv = keep_document(reg, domain, stored, &err, tmp);
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
        md_log(MD_LOG_WARNING, "cannot save the settings of this server for a2md: %s", err.detail);
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
    const md_live_t *live = md_live_of(domain);
    const md_key_spec_t *spec;
    int i, pairs = 0;

    for (i = 0; i < live->certs->nelts; ++i) {
        if (!live->fits[i])
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
    md_pair_t pair = {
        .cert_file = md_store_path(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_CERT, p),
        .key_file = md_store_path(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_KEY, p)
    };
    const md_cert_info_t *info = md_known_find(reg->known, &pair, md_clock_now());
    apr_array_header_t *chain;

    if (info)
        return info;
    if (md_store_load_chain(&chain, NULL, reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_CERT,
                            NULL, p) != APR_SUCCESS
        || md_chain_check_strength(chain, NULL) != APR_SUCCESS
        || md_store_check_key(reg->store, MD_STORE_DOMAINS, domain->name, FALLBACK_KEY,
                              md_chain_leaf(chain), NULL, p) != APR_SUCCESS)
        return NULL;
    return md_known_keep(reg->known, &pair, md_chain_leaf(chain), p);
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

/* One of the servers that start at the same time makes the pair; the others find it. */
static apr_status_t make_fallback_alone(const md_reg_t *reg, const md_domain_t *domain,
                                        md_err_t *err, apr_pool_t *p)
{
    const md_cert_info_t *made;
    apr_file_t *lock;
    apr_status_t rv = md_store_lock_pair(&lock, reg->store, err, p);

    if (rv != APR_SUCCESS)
        return rv;
    made = usable_fallback(reg, domain, p);
    if (!made || !is_fresh(made, domain, md_clock_now(), p))
        rv = make_fallback(reg, domain, err, p);
    md_store_unlock(lock);
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
    if (!old || !is_fresh(old, domain, md_clock_now(), tmp))
        rv = make_fallback_alone(reg, domain, err, tmp);
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
