/* SPDX-License-Identifier: Apache-2.0 */
/* Managed domains: their document, their state, an index of their names. */
#include "md_domain.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include "md_text.h"

static const md_window_spec_t UNSET_WINDOW = { -1, -1 };

md_domain_t *md_domain_make(const char *name, apr_pool_t *p)
{
    md_domain_t *domain = apr_pcalloc(p, sizeof(*domain));

    domain->name = apr_pstrdup(p, name);
    domain->names = md_strings_make(p);
    domain->contacts = md_strings_make(p);
    domain->acme_tls = md_strings_make(p);
    domain->key_specs = apr_array_make(p, 2, sizeof(md_key_spec_t));
    domain->transitive = -1;
    domain->renew_mode = MD_RENEW_UNSET;
    domain->renew_window = domain->warn_window = UNSET_WINDOW;
    return domain;
}

/* ---- md.json ---- */

typedef enum {
    AS_STRING,      /* absent when NULL */
    AS_SOME,        /* strings, absent when NULL or empty */
    AS_ALWAYS,      /* strings, never absent */
    AS_INT,
    AS_BOOL,
    AS_WINDOW,      /* absent when unset */
    AS_SPECS,
    AS_EAB          /* a string, absent unless key id and MAC key are there */
} as_t;

/* One row per member, in the order of the document. */
#define ROW(path, as, member) { path, as, offsetof(md_domain_t, member) }
static const struct {
    const char *path;
    as_t as;
    size_t offset;
} MEMBERS[] = {
    ROW("name", AS_STRING, name),
    ROW("domains", AS_ALWAYS, names),
    ROW("contacts", AS_ALWAYS, contacts),
    ROW("transitive", AS_INT, transitive),
    ROW("ca.account", AS_STRING, ca_account),
    ROW("ca.proto", AS_STRING, ca_proto),
    ROW("ca.url", AS_STRING, ca_url),
    ROW("ca.urls", AS_SOME, ca_urls),
    ROW("ca.agreement", AS_STRING, ca_agreement),
    ROW("ca.challenges", AS_SOME, ca_challenges),
    ROW("privkey", AS_SPECS, key_specs),
    ROW("state", AS_INT, state),
    ROW("state-descr", AS_STRING, state_descr),
    ROW("renew-mode", AS_INT, renew_mode),
    ROW("renew-window", AS_WINDOW, renew_window),
    ROW("warn-window", AS_WINDOW, warn_window),
    ROW("require-https", AS_STRING, require_https),
    ROW("must-staple", AS_BOOL, must_staple),
    ROW("proto.acme-tls/1", AS_ALWAYS, acme_tls),
    ROW("cert-files", AS_SOME, cert_files),
    ROW("pkey-files", AS_SOME, pkey_files),
    ROW("stapling", AS_BOOL, stapling),
    ROW("cmd-dns-01", AS_STRING, cmd_dns_01),
    ROW("proxy-url", AS_STRING, proxy_url),
    ROW("ca-certs", AS_STRING, ca_certs),
    ROW("proxy-ca-certs", AS_STRING, proxy_ca_certs),
    ROW("eab.kid", AS_EAB, eab_kid),
    ROW("eab.hmac", AS_EAB, eab_hmac),
    ROW("profile", AS_STRING, profile),
    ROW("profile-mandatory", AS_BOOL, profile_mandatory),
    ROW("ari-renewals", AS_BOOL, ari_renewals),
};
#define MEMBER_COUNT (sizeof(MEMBERS) / sizeof(MEMBERS[0]))

static void put_member(md_json_t *json, const char *path, as_t as, const void *slot,
                       const md_domain_t *domain, apr_pool_t *p)
{
    const apr_array_header_t *list;

    switch (as) {
    case AS_STRING:
        md_json_set_str(json, path, *(const char *const *)slot);
        break;
    case AS_SOME:
    case AS_ALWAYS:
        list = *(apr_array_header_t *const *)slot;
        if (as == AS_ALWAYS || (list && list->nelts > 0))
            md_json_set_strings(json, path, list);
        break;
    case AS_INT:
        md_json_set_int(json, path, *(const int *)slot);
        break;
    case AS_BOOL:
        md_json_set_bool(json, path, *(const int *)slot);
        break;
    case AS_WINDOW:
        if (md_window_spec_is_set(slot))
            md_json_set_str(json, path, md_window_spec_format(slot, p));
        break;
    case AS_SPECS:
        md_json_set(json, path, md_key_specs_to_json(*(apr_array_header_t *const *)slot, p));
        break;
    case AS_EAB:
        if (domain->eab_kid && domain->eab_hmac)
            md_json_set_str(json, path, *(const char *const *)slot);
        break;
    }
}

md_json_t *md_domain_to_json(const md_domain_t *domain, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);
    size_t i;

    for (i = 0; i < MEMBER_COUNT; ++i)
        put_member(json, MEMBERS[i].path, MEMBERS[i].as,
                   (const char *)domain + MEMBERS[i].offset, domain, p);
    return json;
}

static void get_member(void *slot, as_t as, const md_json_t *json, const char *path,
                       apr_pool_t *p)
{
    apr_array_header_t *list;
    const char *text;

    switch (as) {
    case AS_STRING:
    case AS_EAB:
        *(const char **)slot = apr_pstrdup(p, md_json_get_str(json, path));
        break;
    case AS_SOME:
        list = md_json_get_strings(json, path, p);
        *(apr_array_header_t **)slot = list && list->nelts > 0 ? list : NULL;
        break;
    case AS_ALWAYS:
        list = md_json_get_strings(json, path, p);
        *(apr_array_header_t **)slot = list ? list : md_strings_make(p);
        break;
    case AS_INT:
        *(int *)slot = (int)md_json_get_int(json, path, 0);
        break;
    case AS_BOOL:
        *(int *)slot = md_json_get_bool(json, path);
        break;
    case AS_WINDOW: /* a number (of seconds) in old stores: the default applies */
        text = md_json_get_str(json, path);
        if (!text || md_window_spec_parse(slot, text, p))
            *(md_window_spec_t *)slot = UNSET_WINDOW;
        break;
    case AS_SPECS:
        *(apr_array_header_t **)slot = md_key_specs_from_json(md_json_get(json, path, p), p);
        break;
    }
}

md_domain_t *md_domain_from_json(const md_json_t *json, apr_pool_t *p)
{
    md_domain_t *domain = apr_pcalloc(p, sizeof(*domain));
    size_t i;

    for (i = 0; i < MEMBER_COUNT; ++i)
        get_member((char *)domain + MEMBERS[i].offset, MEMBERS[i].as, json, MEMBERS[i].path, p);
    if (!domain->name)
        domain->name = "";
    if (!domain->ca_urls && domain->ca_url) { /* stores before failover */
        domain->ca_urls = md_strings_make(p);
        APR_ARRAY_PUSH(domain->ca_urls, const char *) = domain->ca_url;
    }
    if (!domain->cert_files || !domain->pkey_files
        || domain->cert_files->nelts != domain->pkey_files->nelts) /* no pairs, of no use */
        domain->cert_files = domain->pkey_files = NULL;
    if (domain->state == 3) /* `expired` of old stores */
        domain->state = MD_STATE_COMPLETE;
    if (!domain->eab_kid || !domain->eab_hmac)
        domain->eab_kid = domain->eab_hmac = NULL;
    return domain;
}

void md_domain_mask(md_json_t *json, apr_pool_t *p)
{
    const char *url = md_json_get_str(json, "proxy-url");
    apr_uri_t uri;

    if (md_json_has(json, "eab.hmac"))
        md_json_set_str(json, "eab.hmac", "***");
    if (url && apr_uri_parse(p, url, &uri) == APR_SUCCESS && uri.password)
        md_json_set_str(json, "proxy-url", apr_uri_unparse(p, &uri, 0)); /* without it */
}

/* ---- state ---- */

int md_domain_contains(const md_domain_t *domain, const char *name)
{
    return md_names_cover(domain->names, name);
}

static const char *oddity(const char *name)
{
    const char *wrong = md_dns_name_refusal(name);

    if (!wrong && md_dns_name_is_private(name))
        wrong = "its top-level domain is not known on the internet";
    return wrong;
}

/* Each kind once. */
static apr_array_header_t *oddities_of(const md_domain_t *domain)
{
    apr_array_header_t *oddities = md_strings_make(domain->names->pool);
    const char *why;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        why = oddity(APR_ARRAY_IDX(domain->names, i, const char *));
        if (why && !md_strings_has(oddities, why))
            APR_ARRAY_PUSH(oddities, const char *) = why;
    }
    return oddities;
}

const char *md_domain_objection(md_domain_t *domain, const char *name)
{
    const char *why = oddity(name);

    if (why && !domain->oddities)
        domain->oddities = oddities_of(domain);
    return why && !md_strings_has(domain->oddities, why) ? why : NULL;
}

const apr_array_header_t *md_domain_key_specs(const md_domain_t *domain, apr_pool_t *p)
{
    apr_array_header_t *specs;
    md_key_spec_t *spec;

    if (domain->key_specs->nelts > 0)
        return domain->key_specs;
    specs = apr_array_make(p, 1, sizeof(md_key_spec_t));
    spec = apr_array_push(specs);
    memset(spec, 0, sizeof(*spec));
    return specs;
}

/* Why this certificate is not what the domain needs, NULL if it is. */
static const char *deficiency(const md_domain_t *domain, const md_cert_info_t *cert, int fits,
                              const char *spec, apr_pool_t *p)
{
    if (!cert || !cert->names || !fits)
        return apr_psprintf(p, "certificate(%s) is missing", spec);
    if (md_cert_uncovered(cert, domain->names, p))
        return apr_psprintf(p, "certificate(%s) does not cover all domains.", spec);
    if (domain->must_staple && !cert->must_staple)
        return apr_psprintf(p, "'must-staple' is requested, but certificate(%s) has it not "
                            "enabled.", spec);
    if (!domain->must_staple && cert->must_staple)
        return apr_psprintf(p, "'must-staple' is not requested, but certificate(%s) has it "
                            "enabled.", spec);
    return NULL;
}

const char *md_domain_cert_label(const md_domain_t *domain, int i, apr_pool_t *p)
{
    if (domain->cert_files)
        return apr_itoa(p, i);
    return md_key_spec_name(&APR_ARRAY_IDX(md_domain_key_specs(domain, p), i, md_key_spec_t));
}

/* What the state calls a certificate: by key spec, also one of the administrator. */
static const char *spec_label(const md_domain_t *domain, int i, apr_pool_t *p)
{
    static const md_key_spec_t DEFAULT = { .type = MD_KEY_DEFAULT };
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);

    return md_key_spec_name(i < specs->nelts ? &APR_ARRAY_IDX(specs, i, md_key_spec_t) : &DEFAULT);
}

void md_domain_assess(md_domain_t *domain, apr_pool_t *p)
{
    int i;

    domain->state = MD_STATE_COMPLETE;
    domain->state_descr = NULL;
    for (i = 0; i < domain->certs->nelts && !domain->state_descr; ++i)
        domain->state_descr = deficiency(domain,
                                         APR_ARRAY_IDX(domain->certs, i, const md_cert_info_t *),
                                         domain->fits[i], spec_label(domain, i, p), p);
    if (domain->state_descr)
        domain->state = MD_STATE_INCOMPLETE;
}

/* ---- index of names ---- */

#define MAX_HOST 260

struct md_index_t {
    apr_pool_t *p;
    apr_hash_t *exact;     /* name (wildcards as they are) -> md_index_entry_t */
    apr_hash_t *children;  /* ".x" for each name "a.x" -> a domain with such a name */
};

md_index_t *md_index_make(apr_pool_t *p)
{
    md_index_t *index = apr_palloc(p, sizeof(*index));

    index->p = p;
    index->exact = apr_hash_make(p);
    index->children = apr_hash_make(p);
    return index;
}

static md_index_entry_t *entry_of(const md_index_t *index, const char *name)
{
    return apr_hash_get(index->exact, name, APR_HASH_KEY_STRING);
}

/* ".x" of "a.x", NULL if there is nothing in front of the first dot, or no dot. */
static const char *parent_of(const char *name)
{
    const char *dot = strchr(name, '.');

    return dot == name ? NULL : dot;
}

static md_index_entry_t *wildcard_over(const md_index_t *index, const char *name)
{
    const char *parent = parent_of(name);
    char key[MAX_HOST];

    if (!parent || strlen(parent) > sizeof(key) - 2)
        return NULL;
    key[0] = '*';
    apr_cpystrn(key + 1, parent, sizeof(key) - 1);
    return entry_of(index, key);
}

static md_domain_t *other_than(const md_domain_t *domain, const md_index_entry_t *entry)
{
    while (entry && entry->domain == domain)
        entry = entry->next;
    return entry ? entry->domain : NULL;
}

/* Another domain whose names have something in common with `name`. */
static md_domain_t *overlapping(const md_index_t *index, const md_domain_t *domain,
                                const char *name)
{
    md_domain_t *found = other_than(domain, entry_of(index, name));

    if (!found)
        found = other_than(domain, wildcard_over(index, name));
    if (!found && md_dns_name_is_wildcard(name))
        found = apr_hash_get(index->children, parent_of(name), APR_HASH_KEY_STRING);
    return found == domain ? NULL : found;
}

void md_index_add_name(md_index_t *index, md_domain_t *domain, const char *name)
{
    md_index_entry_t *entry = entry_of(index, name), *added;
    const char *parent = parent_of(name);

    while (entry && entry->domain != domain && entry->next)
        entry = entry->next;
    if (entry && entry->domain == domain)
        return;
    added = apr_pcalloc(index->p, sizeof(*added));
    added->domain = domain;
    if (entry)
        entry->next = added;
    else
        apr_hash_set(index->exact, name, APR_HASH_KEY_STRING, added);
    if (parent && !apr_hash_get(index->children, parent, APR_HASH_KEY_STRING))
        apr_hash_set(index->children, parent, APR_HASH_KEY_STRING, domain);
}

md_domain_t *md_index_add(md_index_t *index, md_domain_t *domain, const char **pname)
{
    md_domain_t *other, *first = NULL;
    const char *name;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        name = APR_ARRAY_IDX(domain->names, i, const char *);
        other = first ? NULL : overlapping(index, domain, name);
        if (other) {
            first = other;
            *pname = name;
        }
        md_index_add_name(index, domain, name);
    }
    return first;
}

/* Lower case in `lower`; NULL if it is longer than any host name. */
static const char *lower_case(char lower[MAX_HOST], const char *host)
{
    size_t i;

    if (!host || strlen(host) >= MAX_HOST)
        return NULL;
    for (i = 0; host[i]; ++i)
        lower[i] = (char)tolower((unsigned char)host[i]);
    lower[i] = '\0';
    return lower;
}

const md_index_entry_t *md_index_exact(const md_index_t *index, const char *name)
{
    char lower[MAX_HOST];

    return lower_case(lower, name) ? entry_of(index, lower) : NULL;
}

const md_index_entry_t *md_index_wildcard(const md_index_t *index, const char *name)
{
    char lower[MAX_HOST];

    return lower_case(lower, name) ? wildcard_over(index, lower) : NULL;
}

static int is_among(const md_domain_t *domain, const md_index_entry_t *entry)
{
    while (entry && entry->domain != domain)
        entry = entry->next;
    return entry != NULL;
}

int md_index_has(const md_index_t *index, const md_domain_t *domain, const char *name)
{
    return is_among(domain, md_index_exact(index, name))
           || is_among(domain, md_index_wildcard(index, name));
}

md_domain_t *md_index_find(const md_index_t *index, const char *host)
{
    const md_index_entry_t *entry = md_index_exact(index, host);

    if (!entry)
        entry = md_index_wildcard(index, host);
    return entry ? entry->domain : NULL;
}
