/* SPDX-License-Identifier: Apache-2.0 */
/* What was put into service since the start (MDActivation live), in handshakes: each child reads it
 * when it is first asked for, and again when the board says that it is another one. Until there is
 * a first certificate, the temporary one is shown, and requests are answered by 503. */
#include "mod_md.h"

#include <strings.h>

#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <http_config.h>
#include <http_log.h>
#include <http_protocol.h>

#include "md_cache.h"
#include "md_engine.h"
#include "md_log.h"
#include "md_published.h"

APLOG_USE_MODULE(md);

#define IS_TEMPORARY "md-temporary-certificate" /* note of a connection */
#define RETRY_AFTER  "5"                        /* seconds: a CA is seldom faster */

/* ---- which servers ---- */

const md_domain_t *mod_md_live_domain(const server_rec *s)
{
    const md_server_t *server = mod_md_server(s);
    const md_domain_t *domain = server->domains->nelts == 1
                                ? APR_ARRAY_IDX(server->domains, 0, const md_domain_t *) : NULL;

    return domain && domain->activates_live ? domain : NULL;
}

static const char *core_directory(const ap_directive_t *directive)
{
    for (; directive; directive = directive->next)
        if (!strcasecmp(directive->directive, "CoreDumpDirectory"))
            return directive->args;
    return NULL;
}

/* Clients may refuse a certificate that must be stapled and is not: responses are stapled for what
 * the start has loaded. */
static int can_go_live(const md_domain_t *domain, const server_rec *main_server)
{
    if (!domain->must_staple)
        return 1;
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "md[%s]: with MDMustStaple, "
                 "MDActivation live has no effect: new certificates will be put into service by "
                 "the next (graceful) restart", domain->name);
    return 0;
}

static void warn_of_cores(const server_rec *main_server)
{
    const char *directory = core_directory(ap_conftree);

    if (directory)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "CoreDumpDirectory %s is set: with "
                     "MDActivation live, core dumps of the server's children contain private keys",
                     directory);
}

/* Handshakes are mod_ssl's: no other TLS module lets anybody choose certificates in them. */
void mod_md_live_settle(md_reg_t *reg, const server_rec *main_server)
{
    int can_choose = ap_find_linked_module("mod_ssl.c") && !ap_find_linked_module("mod_tls.c");
    md_domain_t *domain;
    int i, count = 0;

    for (i = 0; i < reg->domains->nelts; ++i) {
        domain = md_reg_domain(reg, i);
        count += domain->activates_live;
        domain->activates_live = domain->activates_live && can_choose
                                 && can_go_live(domain, main_server);
    }
    if (count > 0 && can_choose)
        warn_of_cores(main_server);
    else if (count > 0)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "MDActivation live needs mod_ssl, "
                     "as the only TLS module: new certificates will be put into service by the "
                     "next (graceful) restart");
}

/* ---- sets in memory ---- */

typedef struct pair_t {
    X509 *x509;
    EVP_PKEY *key;
    STACK_OF(X509) *chain;  /* what stands behind it, never NULL: else SSLCertificateChainFile is
                               sent */
} pair_t;

typedef struct set_t {
    apr_pool_t *p;          /* its own: all below */
    const md_live_t *live;
    pair_t *pairs;
    int count;
} set_t;

static md_cache_t *cache; /* in a child with domains that need it */

static apr_status_t free_pair(void *baton)
{
    pair_t *pair = baton;

    X509_free(pair->x509);
    EVP_PKEY_free(pair->key);
    sk_X509_pop_free(pair->chain, X509_free);
    return APR_SUCCESS;
}

/* OpenSSL's own records of a pair, which outlive all else of it. */
static int share_pair(pair_t *pair, const apr_array_header_t *chain, const md_key_t *key,
                      apr_pool_t *p)
{
    X509 *x509;
    int i;

    apr_pool_cleanup_register(p, pair, free_pair, apr_pool_cleanup_null);
    pair->chain = sk_X509_new_null();
    for (i = 0; i < chain->nelts && pair->chain; ++i) {
        x509 = md_cert_x509(APR_ARRAY_IDX(chain, i, const md_cert_t *));
        if (!X509_up_ref(x509))
            return 0;
        if (i == 0)
            pair->x509 = x509;
        else if (!sk_X509_push(pair->chain, x509)) {
            X509_free(x509);
            return 0;
        }
    }
    if (!EVP_PKEY_up_ref(md_key_evp(key)))
        return 0;
    pair->key = md_key_evp(key);
    return pair->chain != NULL;
}

static int use_pair(SSL *ssl, const pair_t *pair)
{
    return SSL_use_cert_and_key(ssl, pair->x509, pair->key, pair->chain, 1) == 1;
}

/* The TLS library of this server takes it, by its own settings. */
static int is_usable(const pair_t *pair, const SSL *ssl)
{
    SSL *scratch = SSL_new(SSL_get_SSL_CTX(ssl));
    int is_used = scratch && use_pair(scratch, pair);

    SSL_free(scratch);
    ERR_clear_error();
    return is_used;
}

static apr_status_t fill_pairs(set_t *set, const md_set_t *from, const SSL *ssl, md_err_t *err)
{
    const apr_array_header_t *chain;
    pair_t *pair;
    int i;

    set->pairs = apr_pcalloc(set->p, sizeof(pair_t) * (apr_size_t)from->chains->nelts);
    for (i = 0; i < from->chains->nelts; ++i) {
        chain = APR_ARRAY_IDX(from->chains, i, apr_array_header_t *);
        if (!chain)
            continue;
        pair = &set->pairs[set->count++];
        if (!share_pair(pair, chain, APR_ARRAY_IDX(from->keys, i, md_key_t *), set->p))
            return md_fail(err, APR_ENOMEM, "there is no memory for it");
        if (!is_usable(pair, ssl))
            return md_fail(err, APR_EINVAL, "the TLS library refuses it with the settings of this "
                           "server");
    }
    return APR_SUCCESS;
}

/* In a pool of its own; what it takes to read it is in `tmp`. */
static apr_status_t make_set(set_t **pset, const md_reg_t *reg, const md_domain_t *domain,
                             const md_live_t *before, const SSL *ssl, md_err_t *err,
                             apr_pool_t *tmp)
{
    md_published_t published = { .number = 0 };
    apr_status_t rv;
    apr_pool_t *p;
    set_t *set;

    rv = md_published_check(&published, reg->store, domain, before, err, tmp);
    if (rv != APR_SUCCESS)
        return rv;
    p = md_engine_pool();
    if (!p)
        return md_fail(err, APR_ENOMEM, "there is no memory for it");
    set = apr_pcalloc(p, sizeof(*set));
    set->p = p;
    set->live = md_published_live(&published, domain, md_live_at_start(domain), p);
    rv = fill_pairs(set, &published.set, ssl, err);
    if (rv == APR_SUCCESS)
        *pset = set;
    else
        apr_pool_destroy(p);
    return rv;
}

/* What is no set in service stays what it was; nothing published, or what the start has loaded, is
 * no error. */
static void tell_failure(const md_domain_t *domain, apr_status_t rv, const md_err_t *err,
                         const set_t *old)
{
    if (APR_STATUS_IS_EEXIST(rv) || (APR_STATUS_IS_ENOENT(rv) && !old))
        return;
    md_log(MD_LOG_ERR, "md[%s]: this process goes on with the certificates that it has, as it "
           "cannot use what was put into service since: %s", domain->name,
           APR_STATUS_IS_ENOENT(rv) ? "that is not in the store any more"
           : err->detail ? err->detail : "");
}

static void *load_set(void *baton, int number, void *old, int *pis_lack)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_domain_t *domain = md_reg_domain(reg, number);
    const md_live_t *before = old ? ((set_t *)old)->live : md_live_at_start(domain);
    apr_pool_t *tmp = md_engine_pool();
    set_t *set = old;
    apr_status_t rv;
    md_err_t err;

    *pis_lack = !tmp;
    if (!tmp)
        return old;
    md_err_init(&err, tmp);
    rv = make_set(&set, reg, domain, before, baton, &err, tmp);
    *pis_lack = md_is_lack(rv);
    if (rv != APR_SUCCESS)
        tell_failure(domain, rv, &err, old);
    apr_pool_destroy(tmp);
    return set;
}

static void destroy_set(void *set)
{
    apr_pool_destroy(((set_t *)set)->p);
}

static void child_init(apr_pool_t *p, server_rec *s)
{
    static const md_cache_kind_t SETS = { load_set, destroy_set };
    const md_process_t *process = mod_md_process();
    int i, count = 0;

    (void)s;
    cache = NULL;
    if (!process || !process->reg)
        return;
    for (i = 0; i < process->reg->domains->nelts; ++i)
        count += md_reg_domain(process->reg, i)->activates_live;
    if (count > 0)
        cache = md_cache_make(&SETS, process->reg->domains->nelts,
                              process->reg->conf->live_cache, p);
}

/* ---- in handshakes ---- */

/* Hooks of mod_ssl_openssl.h, which not every httpd installs. */
typedef int ssl_HOOK_init_server_t(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx);
typedef int ssl_HOOK_pre_handshake_t(conn_rec *c, SSL *ssl, int is_proxy);

/* A connection to a server that may have live certificates. */
typedef struct visit_t {
    conn_rec *c;
    int is_done; /* the callback comes again with a second ClientHello, or a renegotiation */
} visit_t;

/* Where an SSL keeps it; -1: there is no such server. */
static int visit_index = -1;

static int never(SSL *ssl, int is_forward_secure)
{
    (void)ssl;
    (void)is_forward_secure;
    return 1;
}

/* What stands in until there is a first certificate; a session made with it would outlive it. */
static void show_temporary(SSL *ssl, visit_t *visit)
{
    apr_table_setn(visit->c->notes, IS_TEMPORARY, "");
    SSL_set_not_resumable_session_callback(ssl, never);
}

/* In the place of those that the start has loaded, by key type; of a temporary one in any case. */
static void show_set(SSL *ssl, const set_t *set, int is_temporary)
{
    int i;

    if (is_temporary)
        SSL_certs_clear(ssl);
    for (i = 0; i < set->count; ++i)
        (void)use_pair(ssl, &set->pairs[i]);
    ERR_clear_error();
}

void mod_md_live_show(SSL *ssl, const server_rec *s)
{
    visit_t *visit = visit_index < 0 ? NULL : SSL_get_ex_data(ssl, visit_index);
    const md_domain_t *domain = visit && !visit->is_done ? mod_md_live_domain(s) : NULL;
    int is_temporary = mod_md_server(s)->has_temporary;
    const md_reg_t *reg = mod_md_process()->reg;
    md_cached_t *cached;

    if (!domain || !cache)
        return;
    visit->is_done = 1;
    cached = md_cache_hold(cache, domain->number,
                           md_board_generation(reg->board, domain->number), ssl);
    if (cached)
        show_set(ssl, cached->thing, is_temporary);
    else if (is_temporary)
        show_temporary(ssl, visit);
    if (cached)
        md_cache_release(cache, cached);
}

static int init_server(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx)
{
    (void)p;
    (void)ctx;
    if (!is_proxy && mod_md_live_domain(s) && visit_index < 0)
        visit_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return DECLINED;
}

static int pre_handshake(conn_rec *c, SSL *ssl, int is_proxy)
{
    visit_t *visit;

    if (is_proxy || !cache || visit_index < 0)
        return DECLINED;
    visit = apr_pcalloc(c->pool, sizeof(*visit));
    visit->c = c;
    SSL_set_ex_data(ssl, visit_index, visit);
    return DECLINED;
}

/* ---- requests ---- */

/* The connection ends, so that the next one is made with what there is by then. */
static int answer_temporary(request_rec *r)
{
    conn_rec *c = r->connection->master ? r->connection->master : r->connection;

    if (!cache || !apr_table_get(c->notes, IS_TEMPORARY))
        return DECLINED;
    r->connection->keepalive = AP_CONN_CLOSE;
    apr_table_setn(r->err_headers_out, "Retry-After", RETRY_AFTER);
    return HTTP_SERVICE_UNAVAILABLE;
}

void mod_md_live_hooks(void)
{
    static const char *const TLS[] = { "mod_ssl.c", NULL };

    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(answer_temporary, TLS, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, init_server, init_server, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, pre_handshake, pre_handshake, NULL, NULL, APR_HOOK_MIDDLE);
}
