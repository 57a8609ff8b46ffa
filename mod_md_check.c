/* SPDX-License-Identifier: Apache-2.0 */
/* Mistakes that show only when configuration, servers and modules are put together. */
#include "mod_md.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <apr_strings.h>

#include <ap_mpm.h>
#include <http_core.h>
#include <http_log.h>
#include <unixd.h>

#include "md_renew.h"
#include "md_text.h"

APLOG_USE_MODULE(md);

#define GROUPS_MAX 256

static int is_loaded(const char *module)
{
    return ap_find_linked_module(module) != NULL;
}

apr_status_t mod_md_check_watchdog(server_rec *main_server)
{
    if (is_loaded("mod_watchdog.c"))
        return APR_SUCCESS;
    ap_log_error(APLOG_MARK, APLOG_CRIT, 0, main_server, APLOGNO(10061) "mod_watchdog is required "
                 "to obtain and renew certificates: add 'LoadModule watchdog_module "
                 "modules/mod_watchdog.so' (Debian has it built in)");
    return APR_EGENERAL;
}

/* ---- servers ---- */

/* Does it get any connections? The main server has no addresses, but those of nobody else. */
static int is_listened_to(const server_rec *s)
{
    const server_addr_rec *addr;

    for (addr = s->addrs; addr; addr = addr->next)
        if (addr->host_port == 0 || mod_md_has_listener(addr->host_port))
            return 1;
    return !s->is_virtual;
}

static const char *names_of(const server_rec *s, apr_pool_t *p)
{
    const char *names = s->server_hostname ? s->server_hostname : "";
    int i;

    for (i = 0; s->names && i < s->names->nelts; ++i)
        names = apr_pstrcat(p, names, *names ? " " : "",
                            APR_ARRAY_IDX(s->names, i, const char *), NULL);
    for (i = 0; s->wild_names && i < s->wild_names->nelts; ++i)
        names = apr_pstrcat(p, names, *names ? " " : "",
                            APR_ARRAY_IDX(s->wild_names, i, const char *), NULL);
    return md_text_printable(names, p);
}

/* The domain that was meant is most likely among those that no vhost matches. */
static const char *likely_domains(apr_pool_t *p)
{
    const apr_array_header_t *domains = mod_md_process()->domains;
    const md_domain_t *domain;
    const char *list = "";
    int i, found = 0;

    for (i = 0; i < domains->nelts && found <= 5; ++i) {
        domain = APR_ARRAY_IDX(domains, i, md_domain_t *);
        if (domain->is_used)
            continue;
        list = found == 5 ? apr_pstrcat(p, list, ", ...", NULL)
                          : apr_pstrcat(p, list, found ? ", " : "",
                                        apr_array_pstrcat(p, domain->names, ' '), NULL);
        ++found;
    }
    if (!found)
        return "every MDomain already belongs to another vhost";
    return apr_psprintf(p, "MDomain without a vhost: %s", md_text_printable(list, p));
}

void mod_md_tell_uncovered(const server_rec *s, apr_pool_t *tmp)
{
    const char *place = mod_md_place_of(s, tmp);

    if (!mod_md_server(s)->has_name)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, "The vhost at %s has no ServerName, so "
                     "it belongs to no managed domain and has no certificate; httpd will not start "
                     "with it. Add 'ServerName' with the name of an MDomain (%s), or an "
                     "SSLCertificateFile", place, likely_domains(tmp));
    else
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, "The vhost at %s has no certificate "
                     "and no managed domain; httpd will not start with it. Its names are %s; %s. "
                     "Correct the name, or add an MDomain or an SSLCertificateFile", place,
                     names_of(s, tmp), likely_domains(tmp));
}

apr_status_t mod_md_check_covered(server_rec *main_server, apr_pool_t *tmp)
{
    const md_server_t *server;
    const server_rec *s;
    int found = 0;

    for (s = main_server; s; s = s->next) {
        server = mod_md_server(s);
        if (!server->is_ssl || server->has_certs || server->domains->nelts > 0)
            continue;
        if (++found <= MD_TELL_AT_MOST)
            mod_md_tell_uncovered(s, tmp);
    }
    return found ? APR_EINVAL : APR_SUCCESS;
}

/* ---- the store ---- */

/* Called with the rights of the children. */
static const char *first_barrier(const char *path, apr_pool_t *p)
{
    const char *slash;
    char *part;

    for (slash = path; slash; slash = strchr(slash + 1, '/')) {
        part = apr_pstrmemdup(p, path, (apr_size_t)(slash - path) + 1);
        if (faccessat(AT_FDCWD, part, X_OK, AT_EACCESS) != 0)
            return errno == EACCES ? part : NULL;
    }
    return NULL;
}

/* The parent asks as one of its children: no rule of the file system is told anew here. It has one
 * thread now; the system call keeps the rights of the whole process the same. */
const char *mod_md_store_barrier(const char *store_dir, apr_pool_t *p)
{
    const char *shared = apr_pstrcat(p, store_dir, "/staging/", NULL), *barrier = NULL;
    gid_t groups[GROUPS_MAX], gid = getegid();
    int count = getgroups(GROUPS_MAX, groups);

    if (geteuid() != 0 || count < 0 || ap_unixd_config.user_id == 0 || !ap_unixd_config.user_name)
        return NULL;
    if (initgroups(ap_unixd_config.user_name, ap_unixd_config.group_id) == 0
        && setegid(ap_unixd_config.group_id) == 0 && seteuid(ap_unixd_config.user_id) == 0)
        barrier = first_barrier(shared, p);
    if (seteuid(0) != 0 || setegid(gid) != 0 || setgroups((size_t)count, groups) != 0)
        abort(); /* better no server than one that lacks the rights of its parent process */
    return barrier;
}

/* ---- slips that leave a domain without something ---- */

/* The servers of a domain. */
typedef struct use_t {
    const server_rec *on_https; /* the first without TLS at the port for https */
    const server_rec *on_http;  /* at the port for http */
    int is_reached;             /* one with TLS gets connections */
} use_t;

static void note_use(use_t *use, const server_rec *s, const md_conf_t *conf)
{
    if (mod_md_server(s)->is_ssl)
        use->is_reached |= is_listened_to(s);
    else if (!s->is_virtual) /* it takes what comes at any port */
        return;
    else if (!use->on_https && conf->port_https && mod_md_has_address_on(s, conf->port_https))
        use->on_https = s;
    else if (!use->on_http && conf->port_http && mod_md_has_address_on(s, conf->port_http))
        use->on_http = s;
}

/* MD name -> use_t. */
static apr_hash_t *uses_of_domains(const md_reg_t *reg, const server_rec *main_server,
                                   apr_pool_t *tmp)
{
    const apr_array_header_t *domains;
    apr_hash_t *uses = apr_hash_make(tmp);
    const md_domain_t *domain;
    const server_rec *s;
    use_t *use;
    int i;

    for (s = main_server; s; s = s->next) {
        domains = mod_md_server(s)->domains;
        for (i = 0; i < domains->nelts; ++i) {
            domain = APR_ARRAY_IDX(domains, i, md_domain_t *);
            use = apr_hash_get(uses, domain->name, APR_HASH_KEY_STRING);
            if (!use) {
                use = apr_pcalloc(tmp, sizeof(*use));
                apr_hash_set(uses, domain->name, APR_HASH_KEY_STRING, use);
            }
            note_use(use, s, reg->conf);
        }
    }
    return uses;
}

/* Why no https vhost serves the certificate, NULL if one does or nobody can tell. With MDRenewMode
 * always, it is for somebody else. */
static const char *why_unused(const md_reg_t *reg, const md_domain_t *domain, const use_t *use,
                              apr_pool_t *p)
{
    int port = reg->conf->port_https;

    if (!use || use->is_reached || domain->renew_mode == MD_RENEW_ALWAYS)
        return NULL;
    if (domain->is_on_tls)
        return reg->https_reachable || !port ? NULL
               : apr_psprintf(p, "nothing listens on port %d: add 'Listen %d'", port, port);
    if (is_loaded("mod_tls.c"))
        return NULL; /* it says which servers are its own at a start, and only then */
    if (!is_loaded("mod_ssl.c"))
        return "mod_ssl is missing: add 'LoadModule ssl_module modules/mod_ssl.so' (Debian: "
               "a2enmod ssl)";
    if (use->on_https)
        return apr_psprintf(p, "the vhost at %s lacks 'SSLEngine on'",
                            mod_md_place_of(use->on_https, p));
    if (use->on_http)
        return apr_psprintf(p, "the vhost at %s is for http alone: add a '<VirtualHost *:%d>' with "
                            "the same ServerName and 'SSLEngine on'",
                            mod_md_place_of(use->on_http, p), port ? port : 443);
    return NULL;
}

/* What every domain is looked at for. */
typedef struct slips_t {
    const md_reg_t *reg;
    server_rec *main_server;
    apr_hash_t *uses;
    int told;
    apr_pool_t *iter;
} slips_t;

static void warn(slips_t *slips, const md_domain_t *domain, const char *text)
{
    if (++slips->told <= MD_TELL_AT_MOST)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, slips->main_server, "md[%s]: %s", domain->name,
                     text);
}

static const char *contact_slip(const md_domain_t *domain, apr_pool_t *p)
{
    const char *contact, *wrong;
    int i;

    if (domain->contacts->nelts == 0)
        return "no contact is configured, but CAs require one for an account: set MDContactEmail";
    for (i = 0; i < domain->contacts->nelts; ++i) {
        contact = APR_ARRAY_IDX(domain->contacts, i, const char *);
        wrong = md_contact_check(contact, p);
        if (wrong)
            return apr_psprintf(p, "a CA cannot use the contact '%s' (%s): set MDContactEmail",
                                contact, wrong);
    }
    return NULL;
}

static const char *ca_slip(const md_domain_t *domain, apr_pool_t *p)
{
    const char *url;
    int i;

    for (i = 0; domain->ca_urls && i < domain->ca_urls->nelts; ++i) {
        url = APR_ARRAY_IDX(domain->ca_urls, i, const char *);
        if (!strncasecmp(url, "http:", 5))
            return apr_psprintf(p, "MDCertificateAuthority %s: ACME requires https: (RFC 8555 "
                                "6.1); with http:, anybody on the path can change the messages",
                                url);
    }
    return NULL;
}

static void warn_of_names(slips_t *slips, const md_domain_t *domain)
{
    const char *name, *wrong, *proper;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        name = APR_ARRAY_IDX(domain->names, i, const char *);
        wrong = md_dns_name_refusal(name);
        if (!wrong)
            continue;
        proper = md_dns_name_proper(name, slips->iter);
        warn(slips, domain, apr_psprintf(slips->iter, "the CA will probably refuse the name '%s': "
                                         "%s%s%s", name, wrong, proper ? "; write " : "",
                                         proper ? proper : ""));
    }
}

static void warn_of_domain(slips_t *slips, const md_domain_t *domain)
{
    const use_t *use = apr_hash_get(slips->uses, domain->name, APR_HASH_KEY_STRING);
    const char *why = why_unused(slips->reg, domain, use, slips->iter);

    if (why)
        warn(slips, domain, apr_pstrcat(slips->iter, "a certificate will be obtained, but no https "
                                        "vhost uses it: ", why, NULL));
    why = contact_slip(domain, slips->iter);
    if (why)
        warn(slips, domain, why);
    why = ca_slip(domain, slips->iter);
    if (why)
        warn(slips, domain, why);
    warn_of_names(slips, domain);
}

static void warn_of_ignored(server_rec *main_server)
{
    const apr_array_header_t *ignored = mod_md_process()->ignored;
    const ap_directive_t *directive;
    int i;

    for (i = 0; i < ignored->nelts && i < MD_TELL_AT_MOST; ++i) {
        directive = APR_ARRAY_IDX(ignored, i, const ap_directive_t *);
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "%s at %s:%d has no effect inside "
                     "<VirtualHost>: move it outside to apply to all managed domains, or into an "
                     "<MDomain> section to apply to one", directive->directive, directive->filename,
                     directive->line_num);
    }
    if (ignored->nelts > MD_TELL_AT_MOST)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "%d more directives for managed "
                     "domains have no effect inside <VirtualHost>",
                     ignored->nelts - MD_TELL_AT_MOST);
}

void mod_md_warn_of_slips(const md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp)
{
    slips_t slips = { .reg = reg, .main_server = main_server };
    const md_domain_t *domain;
    int i;

    slips.uses = uses_of_domains(reg, main_server, tmp);
    apr_pool_create(&slips.iter, tmp);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(slips.iter);
        domain = md_reg_domain(reg, i);
        if (domain->is_watched && md_renew_is_wanted(domain))
            warn_of_domain(&slips, domain);
    }
    apr_pool_destroy(slips.iter);
    if (slips.told > MD_TELL_AT_MOST)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "%d more warnings of this kind are "
                     "not shown", slips.told - MD_TELL_AT_MOST);
    warn_of_ignored(main_server);
}
