/* SPDX-License-Identifier: Apache-2.0 */
/* The document of a managed domain: its configuration, and the state of what is served. */
#include "md_domain.h"

#include <stddef.h>

#include <apr_strings.h>

#include "md_live.h"
#include "md_text.h"

static const md_window_spec_t UNSET_WINDOW = { -1, -1 };

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

/* One row per member, in the order of the document: of the configuration, or of what is served. */
#define ROW(path, as, member)  { path, as, 0, offsetof(md_domain_t, member) }
#define LIVE(path, as, member) { path, as, 1, offsetof(md_live_t, member) }
static const struct {
    const char *path;
    as_t as;
    int is_live;
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
    LIVE("state", AS_INT, state),
    LIVE("state-descr", AS_STRING, state_descr),
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
    ROW("eab.alg", AS_EAB, eab_alg),
    ROW("profile", AS_STRING, profile),
    ROW("profile-mandatory", AS_BOOL, profile_mandatory),
    ROW("ari-renewals", AS_BOOL, ari_renewals),
    ROW("preferred-chain", AS_STRING, preferred_chain),
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
    const md_live_t *live = md_live_of(domain);
    md_json_t *json = md_json_object(p);
    const void *from;
    size_t i;

    for (i = 0; i < MEMBER_COUNT; ++i) {
        from = MEMBERS[i].is_live ? (const void *)live : domain;
        put_member(json, MEMBERS[i].path, MEMBERS[i].as, (const char *)from + MEMBERS[i].offset,
                   domain, p);
    }
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
    md_live_t *live = apr_pcalloc(p, sizeof(*live));
    void *to;
    size_t i;

    for (i = 0; i < MEMBER_COUNT; ++i) {
        to = MEMBERS[i].is_live ? (void *)live : domain;
        get_member((char *)to + MEMBERS[i].offset, MEMBERS[i].as, json, MEMBERS[i].path, p);
    }
    if (live->state == 3) /* `expired` of old stores */
        live->state = MD_STATE_COMPLETE;
    domain->live = apr_pcalloc(p, sizeof(*domain->live));
    md_live_replace(domain, live);
    if (!domain->name)
        domain->name = "";
    if (!domain->ca_urls && domain->ca_url) { /* stores before failover */
        domain->ca_urls = md_strings_make(p);
        APR_ARRAY_PUSH(domain->ca_urls, const char *) = domain->ca_url;
    }
    if (!domain->cert_files || !domain->pkey_files
        || domain->cert_files->nelts != domain->pkey_files->nelts) /* no pairs, of no use */
        domain->cert_files = domain->pkey_files = NULL;
    if (!domain->eab_kid || !domain->eab_hmac)
        domain->eab_kid = domain->eab_hmac = domain->eab_alg = NULL;
    return domain;
}

void md_domain_mask(md_json_t *json, apr_pool_t *p)
{
    const char *url = md_json_get_str(json, "proxy-url");

    if (md_json_has(json, "eab.hmac"))
        md_json_set_str(json, "eab.hmac", "***");
    if (url)
        md_json_set_str(json, "proxy-url", md_uri_public(url, p));
}
