/* SPDX-License-Identifier: Apache-2.0 */
/* The settings table: one row per directive drives parsing, places, merging and defaults. Knows
 * nothing of httpd; the host hands over words. */
#ifndef MD_CONFIG_H
#define MD_CONFIG_H

#include "md_domain.h"

#define MD_DEFAULT_CA_URL "https://acme-v02.api.letsencrypt.org/directory"

/* Where a directive stands. */
typedef enum { MD_PLACE_SERVER = 1, MD_PLACE_VHOST = 2, MD_PLACE_MDOMAIN = 4 } md_place_t;

/* The settings of one place (main server, vhost, <MDomain>). Unset (-1, NULL) means inherit. */
typedef struct md_conf_t {
    /* properties of managed domains */
    const char *contact;             /* MDContactEmail */
    const char *ca_agreement;
    apr_array_header_t *ca_urls;
    const char *ca_file;             /* MDCACertificateFile; `none` is kept as "none" */
    apr_array_header_t *challenges;
    apr_array_header_t *key_specs;
    int renew_mode;
    md_window_spec_t renew_window;   /* unset: length and percent -1 */
    int transitive;
    apr_array_header_t *members;     /* MDMember in a section, accumulated */

    /* of the whole process: kept with the main server */
    int port_http, port_https;       /* MDPortMap: local ports; -1 unset, 0 not reachable */
    const char *store_dir;
    apr_interval_time_t check_interval, initial_delay, retry_delay;
    int renew_concurrency;           /* orders in flight */
} md_conf_t;

/* All unset. */
md_conf_t *md_conf_make(apr_pool_t *p);

/* Values of `add` where set, else of `base`. */
md_conf_t *md_conf_merge(const md_conf_t *base, const md_conf_t *add, apr_pool_t *p);

/* What the administrator gets when nothing is configured. */
extern const md_conf_t md_conf_defaults;

/* Apply a directive standing in `place`, whose settings are `conf`; values of the whole process go
 * to `main`. NULL, or what is wrong, starting with the directive's name. Values are stored, not
 * copied: words live as long as the configuration. */
const char *md_config_set(md_conf_t *conf, md_conf_t *main_conf, md_place_t place,
                          const char *name, int argc, const char *const *argv, apr_pool_t *p);

/* The words of MDomain or of the header of a section: names and auto|manual, into a new domain
 * that has an own, unset `conf`. NULL, or what is wrong. */
const char *md_config_define(md_domain_t **pdomain, int argc, const char *const *argv,
                             apr_pool_t *p);

/* Settle all properties of a domain: its section's value, else the main server's, else the
 * default. Contacts stay empty if neither has one. Call once, after all is read. */
void md_config_complete(md_domain_t *domain, const md_conf_t *main_conf, apr_pool_t *p);

/* Trust anchors for the CA of this domain: its own, else the global one; NULL for the system's. */
const char *md_config_ca_file(const md_domain_t *domain, const md_conf_t *main_conf);

#endif
