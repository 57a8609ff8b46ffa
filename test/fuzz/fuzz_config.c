/* SPDX-License-Identifier: Apache-2.0 */
/* Directives. A line of an input is one: a letter for its place (s: the server, v: a vhost, m: a
 * section; d is MDomain itself), its name, its words, with a tab in front of each. */
#include "fuzz.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include <openssl/x509v3.h>

#include "../../md_config.h"
#include "../../md_csr.h"

#define MAX_WORDS 20

/* The settings of each place, as they grow. */
typedef struct site_t {
    md_conf_t *server, *vhost;
    md_domain_t *domain;   /* NULL: no section has begun */
} site_t;

static int split(const char **words, const char *line, apr_pool_t *p)
{
    int count = 0;

    while (line && count < MAX_WORDS) {
        words[count++] = apr_pstrmemdup(p, line, strcspn(line, "\t"));
        line = strchr(line, '\t');
        line = line ? line + 1 : NULL;
    }
    return count;
}

static void define(site_t *site, int argc, const char *const *argv, apr_pool_t *p)
{
    md_domain_t *domain;
    const char *wrong = md_config_define(&domain, argc, argv, p);

    if (!wrong)
        site->domain = domain;
    holds(!wrong || *wrong);
}

static void set(site_t *site, char place, int argc, const char *const *argv, apr_pool_t *p)
{
    md_directive_t d = { .name = argv[0], .argc = argc - 1, .argv = argv + 1,
                         .server_root = fuzz_dir(), .is_dump = 1 };
    const char *wrong;

    d.place = place == 'm' ? MD_PLACE_MDOMAIN : place == 'v' ? MD_PLACE_VHOST : MD_PLACE_SERVER;
    if (place == 'm' && !site->domain)
        return;
    wrong = md_config_set(place == 'm' ? site->domain->conf : place == 'v' ? site->vhost
                          : site->server, site->server, &d, p);
    holds(!wrong || !strncasecmp(wrong, argv[0], strlen(argv[0])));
    (void)md_config_is_ignored(d.name, d.place);
}

static void check_conf(const md_conf_t *conf)
{
    holds(conf->port_http >= -1 && conf->port_http <= 65535);
    holds(conf->port_https >= -1 && conf->port_https <= 65535);
    holds(conf->renew_concurrency == -1 || (conf->renew_concurrency > 0
                                            && conf->renew_concurrency <= 1000));
    holds(conf->retry_failover == -1 || conf->retry_failover > 0);
    holds(conf->check_interval == -1 || conf->check_interval >= APR_USEC_PER_SEC);
    holds(conf->retry_delay == -1 || conf->retry_delay > 0);
    holds(conf->initial_delay >= -1 && conf->store_locks >= -1);
    holds(conf->renew_window.percent < 100 && conf->warn_window.percent < 100);
    holds(conf->renew_mode >= -1 && conf->renew_mode <= MD_RENEW_ALWAYS);
    holds(!conf->eab || !conf->eab->kid == !conf->eab->hmac);
}

static void check_dns_name(const ASN1_STRING *name)
{
    int i;

    for (i = 0; i < ASN1_STRING_length(name); ++i)
        holds(!memchr(" \t,/:", ASN1_STRING_get0_data(name)[i], 5));
}

/* What the CA would get has each name once, and no blanks in them. */
static void check_csr(const char *csr, const apr_array_header_t *identifiers, apr_pool_t *p)
{
    STACK_OF(X509_EXTENSION) *exts;
    const unsigned char *der;
    const GENERAL_NAME *name;
    GENERAL_NAMES *names;
    unsigned char *data;
    X509_REQ *req;
    apr_size_t n;
    int i;

    n = md_base64url_decode(&data, csr, p);
    der = data;
    req = d2i_X509_REQ(NULL, &der, (long)n);
    holds(req);
    exts = X509_REQ_get_extensions(req);
    names = X509V3_get_d2i(exts, NID_subject_alt_name, NULL, NULL);
    holds(sk_GENERAL_NAME_num(names) == identifiers->nelts);
    for (i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
        name = sk_GENERAL_NAME_value(names, i);
        holds(name->type == GEN_IPADD || name->type == GEN_DNS);
        if (name->type == GEN_DNS)
            check_dns_name(name->d.dNSName);
    }
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(req);
}

static void order(const md_domain_t *domain, apr_pool_t *p)
{
    apr_array_header_t *identifiers = md_identifiers_of(md_names_minimal(domain->names, p), p);
    md_err_t err = fuzz_err(p);
    const char *csr;
    apr_status_t rv;

    rv = md_csr_make(&csr, identifiers, domain->must_staple, fuzz_key(), &err, p);
    holds_with(rv, &err);
    if (rv == APR_SUCCESS)
        check_csr(csr, identifiers, p);
}

static void check_domain(md_domain_t *domain, const md_conf_t *server, apr_pool_t *p)
{
    const md_route_t noted = { .ca_file = NULL };
    md_json_t *json, *again;

    md_config_complete(domain, server, p);
    (void)md_config_route(domain, server, &noted);
    holds(domain->names->nelts > 0 && domain->ca_urls->nelts > 0);
    holds(md_window_spec_is_set(&domain->renew_window) && domain->renew_mode >= 0);
    json = md_domain_to_json(domain, p);
    again = md_domain_to_json(md_domain_from_json(json, p), p);
    holds(md_json_equal(json, again) || domain->cert_files || domain->pkey_files);
    order(domain, p);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    site_t site = { .server = md_conf_make(p), .vhost = md_conf_make(p) };
    const char *line, *words[MAX_WORDS];
    int count;

    (void)len;
    for (line = fuzz_line(&data, p); line; line = fuzz_line(&data, p)) {
        count = *line ? split(words, line + 1, p) : 0;
        if (count && *line == 'd')
            define(&site, count, words, p);
        else if (count)
            set(&site, *line, count, words, p);
    }
    check_conf(site.server);
    check_conf(site.vhost);
    check_conf(md_conf_merge(md_conf_merge(&md_conf_defaults, site.server, p), site.vhost, p));
    if (!site.domain)
        return;
    check_conf(site.domain->conf);
    check_domain(site.domain, site.server, p);
}
