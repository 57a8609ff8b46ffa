/* SPDX-License-Identifier: Apache-2.0 */
/* What the TLS module asks of us: certificates of servers, and answers to acme-tls/1 (RFC 8737). */
#include "mod_md.h"

#include <string.h>

#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <http_connection.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_ssl.h>

#include "md_acme_authz.h"
#include "md_hello.h"
#include "md_text.h"

APLOG_USE_MODULE(md);

/* ---- certificates ---- */

static int add_temporary(server_rec *s, const md_domain_t *domain, apr_pool_t *p,
                         apr_array_header_t *certs, apr_array_header_t *keys)
{
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    rv = md_reg_fallback_files(mod_md_process()->reg, domain, certs, keys, &err, p);
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

/* As an ordinary certificate: for what it knows to be temporary, the TLS module would answer 503
 * until the next restart. */
static int begin_temporary(server_rec *s, apr_pool_t *p, apr_array_header_t *certs,
                           apr_array_header_t *keys)
{
    const md_domain_t *domain = mod_md_expected_domain(s);
    int result = domain ? add_temporary(s, domain, p, certs, keys) : DECLINED;

    mod_md_server(s)->has_temporary = result == DONE;
    return result;
}

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
        return had == 0 && domain->activates_live ? begin_temporary(s, p, certs, keys) : DECLINED;
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

    if (reg && mod_md_server(s)->domains->nelts == 0)
        mod_md_tell_uncovered(s, p);
    return domain ? add_temporary(s, domain, p, certs, keys) : DECLINED;
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

/* An array of md_alpn_pair_t; empty, too, when there is no store. */
static apr_array_header_t *alpn_pairs(const char *server_name, apr_pool_t *p)
{
    const md_reg_t *reg = mod_md_process()->reg;
    char *name = apr_pstrdup(p, server_name);

    ap_str_tolower(name);
    return reg ? md_solver_alpn_pairs(reg->store, name, p)
               : apr_array_make(p, 0, sizeof(md_alpn_pair_t));
}

static int answer_challenge(conn_rec *c, const char *server_name, const char **pcert,
                            const char **pkey)
{
    const apr_array_header_t *pairs;

    if (!server_name || !protocol_get(c))
        return DECLINED;
    pairs = alpn_pairs(server_name, c->pool);
    if (pairs->nelts == 0) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, c, APLOGNO(10080)
                      "%s: unknown tls-alpn-01 challenge host",
                      md_text_printable(server_name, c->pool));
        return DECLINED;
    }
    *pcert = APR_ARRAY_IDX(pairs, 0, md_alpn_pair_t).cert;
    *pkey = APR_ARRAY_IDX(pairs, 0, md_alpn_pair_t).key;
    return OK;
}

/* RFC 8737 4: the protocol ends with the handshake, which mod_ssl has made before. */
static int process_connection(conn_rec *c)
{
    if (!protocol_get(c))
        return DECLINED;
    if (c->cs)
        c->cs->state = CONN_STATE_LINGER;
    return OK;
}

/* ---- acme-tls/1 by mod_ssl ----
 *
 * mod_ssl puts the one pair of the hook above beside the certificates of the server, and what the
 * client prefers may be one of those. With TLS 1.2, it does so when the choice is made. So we put
 * the challenge's pairs in the place of all others ourselves, in OpenSSL's certificate callback.
 * With TLS 1.2, that comes before ALPN: the protocols are taken from the client's first message. */

/* Hooks of mod_ssl_openssl.h, which not every httpd installs. */
typedef int ssl_HOOK_init_server_t(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx);
typedef int ssl_HOOK_pre_handshake_t(conn_rec *c, SSL *ssl, int is_proxy);

/* A connection on which acme-tls/1 was offered. */
typedef struct offer_t {
    conn_rec *c;
    const apr_array_header_t *protocols;
} offer_t;

/* Where an SSL keeps its offer; -1: no server speaks acme-tls/1. A reload takes another one, as
 * OpenSSL may have been unloaded with the modules that use it. */
static int offer_index = -1;

/* What negotiation has chosen, or is about to. */
static int is_for_acme(const offer_t *offer, server_rec *s)
{
    return protocol_get(offer->c)
           || md_text_same(ap_select_protocol(offer->c, NULL, s, offer->protocols), MD_ALPN_ACME);
}

/* A pair beside those of other key types; 0 if it is of no use. */
static int use_pair(SSL *ssl, const md_alpn_pair_t *pair, apr_pool_t *p)
{
    /* An empty chain, as without one SSLCertificateChainFile would be sent. */
    STACK_OF(X509) *none = sk_X509_new_null();
    apr_array_header_t *chain;
    md_key_t *key;
    int is_used;

    is_used = none
              && md_chain_from_pem(&chain, pair->cert, strlen(pair->cert), NULL, p) == APR_SUCCESS
              && md_chain_leaf(chain)
              && md_key_from_pem(&key, pair->key, strlen(pair->key), NULL, 0, NULL, p)
                 == APR_SUCCESS
              && SSL_use_cert_and_key(ssl, md_cert_x509(md_chain_leaf(chain)), md_key_evp(key),
                                      none, 0) == 1;
    sk_X509_free(none);
    return is_used;
}

static void show_challenge(SSL *ssl, conn_rec *c, const char *server_name)
{
    const apr_array_header_t *pairs;
    int i, used = 0;
    apr_pool_t *tmp;

    apr_pool_create(&tmp, c->pool);
    pairs = alpn_pairs(server_name, tmp);
    if (pairs->nelts > 0)
        SSL_certs_clear(ssl);
    for (i = 0; i < pairs->nelts; ++i)
        used += use_pair(ssl, &APR_ARRAY_IDX(pairs, i, md_alpn_pair_t), tmp);
    if (pairs->nelts > 0 && used == 0)
        ap_log_cerror(APLOG_MARK, APLOG_WARNING, 0, c,
                      "%s: no tls-alpn-01 certificate in the store's directory 'challenges' can be "
                      "used with its key; the next renewal attempt will make new ones",
                      md_text_printable(server_name, tmp));
    ERR_clear_error();
    apr_pool_destroy(tmp);
}

/* Returns 1 in any case, that is, go on: mod_ssl knows no other end of it. */
static int choose_certs(SSL *ssl, void *server)
{
    const offer_t *offer = offer_index < 0 ? NULL : SSL_get_ex_data(ssl, offer_index);
    const char *name = offer ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;

    if (name && is_for_acme(offer, server))
        show_challenge(ssl, offer->c, name);
    else
        mod_md_live_show(ssl, server);
    return 1;
}

/* The first message is the ClientHello; OpenSSL has put it together from its fragments. */
static void see_message(int is_ours, int version, int content_type, const void *message,
                        size_t len, SSL *ssl, void *connection)
{
    const apr_array_header_t *protocols;
    conn_rec *c = connection;
    offer_t *offer;

    (void)version;
    if (is_ours || content_type != SSL3_RT_HANDSHAKE)
        return;
    SSL_set_msg_callback(ssl, NULL);
    protocols = md_hello_protocols(message, len, MD_ALPN_ACME, c->pool);
    if (!protocols)
        return;
    offer = apr_palloc(c->pool, sizeof(*offer));
    *offer = (offer_t){ c, protocols };
    SSL_set_ex_data(ssl, offer_index, offer);
    SSL_set_options(ssl, SSL_OP_NO_TICKET); /* resuming a session shows no certificate at all */
}

static int pre_handshake(conn_rec *c, SSL *ssl, int is_proxy)
{
    if (is_proxy || offer_index < 0)
        return DECLINED;
    SSL_set_msg_callback(ssl, see_message);
    SSL_set_msg_callback_arg(ssl, c);
    return OK;
}

/* On each SSL_CTX, as mod_ssl gives a connection that of its vhost, with its callback. */
static int init_server(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx)
{
    (void)p;
    if (is_proxy || !(mod_md_offers_acme_tls(s) || mod_md_live_domain(s)))
        return DECLINED;
    if (mod_md_offers_acme_tls(s) && offer_index < 0)
        offer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    SSL_CTX_set_cert_cb(ctx, choose_certs, s);
    return OK;
}

void mod_md_tls_hooks(void)
{
    static const char *const MOD_SSL[] = { "mod_ssl.c", NULL };
    static const char *const MOD_HTTP2[] = { "mod_http2.c", NULL };

    ap_hook_ssl_add_cert_files(add_cert_files, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_ssl_add_fallback_cert_files(add_fallback_files, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_propose(protocol_propose, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_switch(protocol_switch, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_get(protocol_get, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_ssl_answer_challenge(answer_challenge, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_process_connection(process_connection, MOD_SSL, MOD_HTTP2, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, init_server, init_server, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, pre_handshake, pre_handshake, NULL, NULL, APR_HOOK_MIDDLE);
}
