/* SPDX-License-Identifier: Apache-2.0 */
/* The settings table: one row per directive drives parsing, places, merging and defaults. Knows
 * nothing of httpd; the host hands over words. */
#ifndef MD_CONFIG_H
#define MD_CONFIG_H

#include "md_domain.h"
#include "md_http.h"

#define MD_DEFAULT_CA_URL "https://acme-v02.api.letsencrypt.org/directory"
#define MD_CA_PROTO_ACME "ACME"

/* Where a directive stands. */
typedef enum { MD_PLACE_SERVER = 1, MD_PLACE_VHOST = 2, MD_PLACE_MDOMAIN = 4 } md_place_t;

/* A directive as written. */
typedef struct md_directive_t {
    const char *name;
    md_place_t place;
    int argc;
    const char *const *argv;         /* raw ones have one word: the rest of the line */
    const char *server_root;         /* relative paths start here */
    int is_dump;                     /* the configuration is only printed: no file is read */
} md_directive_t;

/* External account binding (RFC 8555 7.3.4). */
typedef struct md_eab_t {
    const char *kid, *hmac;          /* both NULL: `none`, whatever is inherited */
    const char *alg;                 /* see md_mac_t */
} md_eab_t;

/* When the names of a domain are checked before an order, in the way of a CA: never, always, or
 * after a failure that has to do with them. */
typedef enum { MD_PREFLIGHT_OFF, MD_PREFLIGHT_ON, MD_PREFLIGHT_AUTO } md_preflight_when_t;

typedef enum { MD_MATCH_ALL, MD_MATCH_SERVERNAMES } md_match_t;

/* How a renewed certificate comes into service: with the next (graceful) restart, or at once. */
typedef enum { MD_ACTIVATE_RELOAD, MD_ACTIVATE_LIVE } md_activation_t;

/* The settings of one place (main server, vhost, <MDomain>). Unset (-1, NULL) means inherit. */
typedef struct md_conf_t {
    /* properties of managed domains */
    const char *contact;             /* MDContactEmail */
    const char *ca_proto, *ca_agreement;
    apr_array_header_t *ca_urls;
    apr_array_header_t *challenges;
    apr_array_header_t *key_specs;
    const md_eab_t *eab;
    const char *profile;
    int profile_mandatory;
    const char *preferred_chain;     /* MDPreferredChain; "none" cancels what is inherited */
    int renew_mode, renew_via_ari;
    md_window_spec_t renew_window, warn_window; /* unset: length and percent -1 */
    const char *require_https;       /* `off`, `temporary`, `permanent` */
    int must_staple, stapling, staple_others;
    int activation;                  /* md_activation_t */
    int transitive;
    apr_array_header_t *members;     /* MDMember in a section, accumulated */
    apr_array_header_t *cert_files, *pkey_files; /* absolute, in a section, accumulated */

    /* of a section, else of the whole process; `none` is kept as "none" */
    const char *ca_file;             /* MDCACertificateFile */
    const char *cmd_dns_01;
    const char *proxy_url, *proxy_ca_file;

    /* of the whole process: kept with the main server */
    int base_server;                 /* the main server is matched, too */
    int match_names;                 /* md_match_t */
    int port_http, port_https;       /* MDPortMap: local ports; -1 unset, 0 not reachable */
    const char *store_dir;
    apr_interval_time_t store_locks; /* how long to wait for the lock; 0: no locking */
    const md_key_spec_t *account_key;
    apr_interval_time_t check_interval, initial_delay, retry_delay, activation_delay;
    int retry_failover;              /* errors before the next CA */
    int archive_keep;                /* archived sets of each domain; 0: all */
    int renew_concurrency;           /* orders in flight at a CA, and threads */
    int live_cache;                  /* domains whose live certificates a child keeps in memory */
    int dns_01_version;
    apr_interval_time_t dns_01_check; /* wait for TXT records in the DNS, 0: none is looked for; of
                                       * a section, else of the process */
    apr_array_header_t *dns_resolvers; /* who is asked for that (md_dns.h), NULL: the system's */
    int preflight;                   /* md_preflight_when_t */
    int check_http, check_https, check_dns; /* MDCheckPorts: public ports, but for tests */
    const char *message_cmd, *notify_cmd;
    const char *event_log;           /* path of MDEventLog */
    int cert_status, server_status;
    apr_array_header_t *cert_check;  /* name and URL prefix of the link in server-status */
    md_window_spec_t staple_keep, staple_renew_window;
} md_conf_t;

/* All unset. */
md_conf_t *md_conf_make(apr_pool_t *p);

/* Values of `add` where set, else of `base`. */
md_conf_t *md_conf_merge(const md_conf_t *base, const md_conf_t *add, apr_pool_t *p);

/* What the administrator gets when nothing is configured. */
extern const md_conf_t md_conf_defaults;

/* What people call the CA of a directory URL: the name that MDCertificateAuthority has for it, else
 * its host, else the URL. */
const char *md_config_ca_name(const char *url, apr_pool_t *p);

/* Apply a directive to the settings of its place; values of the whole process go to `main_conf`.
 * NULL, or what is wrong, starting with the directive's name; what is refused changes nothing (of a
 * list of members, the words from the wrong one on are left out). Values are copied to `p`. */
const char *md_config_set(md_conf_t *conf, md_conf_t *main_conf, const md_directive_t *directive,
                          apr_pool_t *p);

/* Is this directive accepted in such a place, but without any effect there? */
int md_config_is_ignored(const char *name, md_place_t place);

/* The words of MDomain or of the header of a section: names and auto|manual, into a new domain
 * that has an own, unset `conf`. NULL, or what is wrong. */
const char *md_config_define(md_domain_t **pdomain, int argc, const char *const *argv,
                             apr_pool_t *p);

/* Settle all properties of a domain: its section's value, else the main server's, else the
 * default. Contacts stay empty if neither has one. Call once, after all is read. */
void md_config_complete(md_domain_t *domain, const md_conf_t *main_conf, apr_pool_t *p);

/* Windows of a domain that comes from the store alone, where it has none. */
void md_config_complete_windows(md_domain_t *domain, const md_conf_t *main_conf);

/* For the connections to the CA of this domain: the values of its section, else the main server's.
 * Without domain: the main server's.
 * A domain of the store alone: what the tool was told (`main_conf`), else what the domain has
 * there, else what a server noted. */
md_route_t md_config_route(const md_domain_t *domain, const md_conf_t *main_conf,
                           const md_route_t *noted);

#endif
