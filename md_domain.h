/* SPDX-License-Identifier: Apache-2.0 */
/* One managed domain: a set of DNS names that share a certificate (one for each key type). This is
 * its configuration, constant once a server has started. */
#ifndef MD_DOMAIN_H
#define MD_DOMAIN_H

#include "md_json.h"
#include "md_key.h"
#include "md_time.h"

typedef enum {
    MD_RENEW_UNSET = -1,
    MD_RENEW_MANUAL = 0,
    MD_RENEW_AUTO = 1,
    MD_RENEW_ALWAYS = 2
} md_renew_mode_t;

#define MD_DOMAIN_JSON "md.json"      /* its document in the store */

struct md_conf_t;
struct md_live_t;

typedef struct md_domain_t {
    /* what md.json holds, in its order */
    const char *name;                /* first DNS name; directory in the store */
    apr_array_header_t *names;       /* DNS names, lower case, no duplicates, never NULL */
    apr_array_header_t *contacts;    /* URIs, never NULL */
    int transitive;                  /* 1: names of vhosts are added, -1: undecided */
    const char *ca_account;          /* id of the stored account in use */
    const char *ca_proto;
    const char *ca_url;              /* CA in use */
    apr_array_header_t *ca_urls;     /* configured CAs in order of failover, or NULL */
    const char *ca_agreement;
    apr_array_header_t *ca_challenges; /* configured types in order, NULL: automatic */
    apr_array_header_t *key_specs;   /* md_key_spec_t; empty: one default spec */
    int renew_mode;                  /* md_renew_mode_t */
    md_window_spec_t renew_window, warn_window;
    const char *require_https;       /* `temporary`, `permanent`, or NULL */
    int must_staple;
    apr_array_header_t *acme_tls;    /* names whose https vhost has acme-tls/1, never NULL */
    apr_array_header_t *cert_files, *pkey_files; /* static ones, or NULL */
    int stapling;
    const char *cmd_dns_01, *proxy_url, *ca_certs, *proxy_ca_certs; /* private to this MD */
    const char *eab_kid, *eab_hmac, *eab_alg; /* see md_mac_t */
    const char *profile;
    int profile_mandatory, ari_renewals;
    const char *preferred_chain;     /* common name of its issuer or root, or NULL */

    /* known only while a server runs */
    struct md_conf_t *conf;          /* settings of the section */
    const char *defined_at;          /* "file:line" */
    apr_array_header_t *oddities;    /* of its names, that CAs object to; NULL: not looked for */
    int is_used;                     /* some server matches */
    int is_on_tls;                   /* a server with TLS does */
    const char *http01_problem, *alpn_problem; /* why its servers cannot answer, or NULL */
    int is_watched;                  /* supervised by the engine */
    int activates_live;              /* a new set is in service at once (MDActivation live) */
    int number;                      /* in the registry, and so of its row on the board */
    int is_forced;                   /* renew it now, whatever mode and window say (a2md) */
    const struct md_live_t **live;   /* what is served now, for md_live alone; copies share it */
} md_domain_t;

/* A domain with this name and nothing else. */
md_domain_t *md_domain_make(const char *name, apr_pool_t *p);

/* md.json of the store, both ways, with the state of what is served; driven by one table. */
md_json_t *md_domain_to_json(const md_domain_t *domain, apr_pool_t *p);
md_domain_t *md_domain_from_json(const md_json_t *json, apr_pool_t *p);

/* Hide the secrets in such a document from those who look at it. */
void md_domain_mask(md_json_t *json, apr_pool_t *p);

/* Does one of the names (or wildcards) cover `name`? */
int md_domain_contains(const md_domain_t *domain, const char *name);

/* Why a name that a vhost brings is better left out: the CA would refuse all of an order for it.
 * NULL if it can be added. What is odd about a name of the configuration, too, the CA is believed
 * to take. */
const char *md_domain_objection(md_domain_t *domain, const char *name);

/* The key specs to use: never empty, one default spec if none is configured. */
const apr_array_header_t *md_domain_key_specs(const md_domain_t *domain, apr_pool_t *p);

/* `rsa`, a curve, or the number of a static file: what the certificate `i` is called. */
const char *md_domain_cert_label(const md_domain_t *domain, int i, apr_pool_t *p);

/* An index over the names of many domains: exact names and wildcards by hash. */
typedef struct md_index_t md_index_t;

/* A domain with a certain name; domains that share it follow in order of definition. */
typedef struct md_index_entry_t {
    md_domain_t *domain;
    struct md_index_entry_t *next;
} md_index_entry_t;

md_index_t *md_index_make(apr_pool_t *p);

/* Add all names of a domain. Returns the first domain already there whose names overlap with it
 * (equal, or one covers the other, in both directions), with the name in *pname; NULL if none.
 * The names are added in any case. */
md_domain_t *md_index_add(md_index_t *index, md_domain_t *domain, const char **pname);

/* Add one more name of a domain. */
void md_index_add_name(md_index_t *index, md_domain_t *domain, const char *name);

/* Domains with exactly this name, and with a wildcard that covers it; NULL if there are none.
 * `name` in any case. */
const md_index_entry_t *md_index_exact(const md_index_t *index, const char *name);
const md_index_entry_t *md_index_wildcard(const md_index_t *index, const char *name);

/* Does the domain have this name, or a wildcard over it? */
int md_index_has(const md_index_t *index, const md_domain_t *domain, const char *name);

/* The first added domain that contains `host` (any case); exact names win. NULL if none or host is
 * NULL. */
md_domain_t *md_index_find(const md_index_t *index, const char *host);

#endif
