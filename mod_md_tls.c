/* SPDX-License-Identifier: Apache-2.0 */
/* What the TLS module asks of us: certificates of servers, and answers to acme-tls/1 (RFC 8737). */
#include "mod_md.h"

#include <string.h>

#include <apr_strings.h>

#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_ssl.h>

#include "md_acme_authz.h"
#include "md_text.h"

APLOG_USE_MODULE(md);

/* ---- certificates ---- */

static int add_cert_files(server_rec *s, apr_pool_t *p, apr_array_header_t *certs,
                          apr_array_header_t *keys)
{
    const md_reg_t *reg = mod_md_process()->reg;
    md_server_t *server = mod_md_server(s);
    const md_domain_t *domain;
    int had = certs->nelts;

    server->is_ssl = 1;
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10113)
                 "get_certificates called for vhost %s", s->server_hostname);
    if (!reg || server->domains->nelts == 0)
        return DECLINED;
    if (server->domains->nelts > 1) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, APLOGNO(10238)
                     "conflict: %d MDs match Virtualhost %s which uses SSL, there can at most be "
                     "one.", server->domains->nelts, s->server_hostname);
        return DECLINED;
    }
    domain = APR_ARRAY_IDX(server->domains, 0, md_domain_t *);
    if (md_reg_cert_files(reg, domain, certs, keys, p) == 0)
        return DECLINED;
    if (had > 0)
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10084)
                     "host '%s' is covered by a Managed Domain, but certificate/key files are "
                     "already configured for it; both are used", s->server_hostname);
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10077)
                 "%s[state=%d]: providing certificates for server %s", domain->name,
                 md_live_of(domain)->state, s->server_hostname);
    return DONE;
}

/* Until there is a real certificate; the TLS module then answers 503 to all requests. */
static int add_fallback_files(server_rec *s, apr_pool_t *p, apr_array_header_t *certs,
                              apr_array_header_t *keys)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_domain_t *domain = reg ? mod_md_expected_domain(s) : NULL;
    md_err_t err;
    apr_status_t rv;

    if (reg && mod_md_server(s)->domains->nelts == 0)
        mod_md_tell_uncovered(s, p);
    if (!domain)
        return DECLINED;
    md_err_init(&err, p);
    rv = md_reg_fallback_files(reg, domain, certs, keys, &err, p);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, APLOGNO(10174)
                     "%s: make fallback P-256 certificate: %s", domain->name,
                     err.detail ? err.detail : "");
        return DECLINED;
    }
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10116)
                 "%s: providing P-256 fallback certificate for server %s", domain->name,
                 s->server_hostname);
    return DONE;
}

/* ---- acme-tls/1 ---- */

static int protocol_propose(conn_rec *c, request_rec *r, server_rec *s,
                            const apr_array_header_t *offers, apr_array_header_t *proposals)
{
    (void)s;
    if (r || !offers || !ap_array_str_contains(offers, MD_ALPN_ACME) || !ap_ssl_conn_is_ssl(c))
        return DECLINED;
    APR_ARRAY_PUSH(proposals, const char *) = MD_ALPN_ACME;
    return OK;
}

static int protocol_switch(conn_rec *c, request_rec *r, server_rec *s, const char *protocol)
{
    static char switched[] = MD_ALPN_ACME;

    (void)s;
    if (r || strcmp(protocol, MD_ALPN_ACME) || !ap_ssl_conn_is_ssl(c))
        return DECLINED;
    ap_set_module_config(c->conn_config, &md_module, switched);
    c->keepalive = AP_CONN_CLOSE;
    return OK;
}

static const char *protocol_get(const conn_rec *c)
{
    return ap_get_module_config(c->conn_config, &md_module);
}

static int answer_challenge(conn_rec *c, const char *server_name, const char **pcert,
                            const char **pkey)
{
    const md_process_t *process = mod_md_process();
    char *name;

    if (!server_name || !protocol_get(c) || !process->reg)
        return DECLINED;
    name = apr_pstrdup(c->pool, server_name);
    ap_str_tolower(name);
    if (md_path_part_is_safe(name)
        && md_solver_alpn_answer(pcert, pkey, process->reg->store, name, c->pool) == APR_SUCCESS)
        return OK;
    ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, c, APLOGNO(10080)
                  "%s: unknown tls-alpn-01 challenge host", md_text_printable(name, c->pool));
    return DECLINED;
}

void mod_md_tls_hooks(void)
{
    ap_hook_ssl_add_cert_files(add_cert_files, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_ssl_add_fallback_cert_files(add_fallback_files, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_propose(protocol_propose, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_switch(protocol_switch, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_get(protocol_get, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_ssl_answer_challenge(answer_challenge, NULL, NULL, APR_HOOK_MIDDLE);
}
