/* SPDX-License-Identifier: Apache-2.0 */
/* Managed domains, and an index of their names. */
#include "md_domain.h"

#include <ctype.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_text.h"

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
    domain->renew_window = domain->warn_window = (md_window_spec_t){ -1, -1 };
    domain->live = apr_pcalloc(p, sizeof(*domain->live));
    return domain;
}

int md_domain_contains(const md_domain_t *domain, const char *name)
{
    return md_names_cover(domain->names, name);
}

static const char *oddity(const char *name)
{
    const char *wrong = md_dns_name_refusal(name);

    if (!wrong && md_dns_name_is_private(name))
        wrong = "its top-level domain does not exist on the internet";
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

const char *md_domain_cert_label(const md_domain_t *domain, int i, apr_pool_t *p)
{
    if (domain->cert_files)
        return apr_itoa(p, i);
    return md_key_spec_name(&APR_ARRAY_IDX(md_domain_key_specs(domain, p), i, md_key_spec_t));
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
