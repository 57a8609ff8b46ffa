/* SPDX-License-Identifier: Apache-2.0 */
/* Stapling for the TLS module: which certificates we take on, and what it sends of them. */
#include "mod_md.h"

#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <http_log.h>
#include <http_ssl.h>

#include "md_clock.h"
#include "md_ocsp.h"

APLOG_USE_MODULE(md);

/* ---- which certificates ---- */

static int is_on(int flag, int otherwise)
{
    return flag < 0 ? otherwise : flag;
}

/* The one domain of a server, NULL: none, or several. */
static const md_domain_t *domain_of(const md_server_t *server)
{
    return server->domains->nelts == 1 ? APR_ARRAY_IDX(server->domains, 0, const md_domain_t *)
                                       : NULL;
}

/* What a section says decides; else where the domain is served, or the main server. */
int mod_md_staples(const server_rec *s)
{
    const md_server_t *server = mod_md_server(s);
    const md_domain_t *domain = domain_of(server);

    if (domain && domain->conf && domain->conf->stapling >= 0)
        return domain->conf->stapling;
    if (domain && domain->stapling)
        return 1;
    return is_on(server->conf->stapling, md_conf_defaults.stapling)
           && is_on(server->conf->staple_others, md_conf_defaults.staple_others);
}

int mod_md_staples_any(const server_rec *main_server)
{
    const server_rec *s;

    for (s = main_server; s; s = s->next)
        if (mod_md_staples(s))
            return 1;
    return 0;
}

static void tell_refusal(server_rec *s, apr_status_t rv, const md_domain_t *domain,
                         const md_err_t *err)
{
    const char *name = domain ? domain->name : MD_STAPLES_OTHER;

    if (APR_STATUS_IS_ENOENT(rv))
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, "md[%s]: %s", name, err->detail);
    else if (APR_STATUS_IS_EOF(rv))
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, APLOGNO(10269)
                     "init stapling for: md[%s]: %s", name, err->detail);
    else
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, APLOGNO(10268)
                     "init stapling for: md[%s]: unable to parse PEM data: %s", name, err->detail);
}

static int prime(server_rec *s, apr_pool_t *p, const char *id, apr_size_t id_len, const char *pem)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_stapled_t *stapled;
    const md_domain_t *domain;
    apr_status_t rv;
    md_err_t err;

    if (!reg || !reg->staples || reg->is_dry_run || !mod_md_staples(s))
        return DECLINED;
    if (md_staples_knows(&stapled, reg->staples, id, id_len))
        return stapled ? OK : DECLINED;
    domain = domain_of(mod_md_server(s));
    md_err_init(&err, p);
    rv = md_staples_add(reg->staples, id, id_len, pem, domain, &err);
    if (rv == APR_SUCCESS)
        return OK;
    tell_refusal(s, rv, domain, &err);
    return DECLINED;
}

/* ---- what mod_ssl does not offer ---- */

/* A hook of mod_ssl_openssl.h, which not every httpd installs. */
typedef int ssl_HOOK_init_server_t(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx);

static int names_responder(X509 *x509)
{
    STACK_OF(OPENSSL_STRING) *urls = X509_get1_ocsp(x509);
    int count = sk_OPENSSL_STRING_num(urls);

    X509_email_free(urls);
    return count > 0;
}

/* Told once for each certificate, whatever the number of its servers. */
static void tell_missing_issuer(server_rec *s, const md_staples_t *staples, X509 *x509,
                                apr_hash_t *told, apr_pool_t *p)
{
    unsigned char sha1[EVP_MAX_MD_SIZE];
    const md_stapled_t *stapled;
    unsigned int len = 0;

    if (!x509 || !X509_digest(x509, EVP_sha1(), sha1, &len) || !names_responder(x509)
        || md_staples_knows(&stapled, staples, (const char *)sha1, len)
        || apr_hash_get(told, sha1, len))
        return;
    apr_hash_set(told, apr_pmemdup(p, sha1, len), len, "");
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, "%s: no OCSP response can be stapled for the "
                 "certificate of %s, as its issuer is not known: add the issuer's certificate to "
                 "the file, or to SSLCACertificateFile", mod_md_place_of(s, p),
                 s->server_hostname ? s->server_hostname : "the server");
}

/* mod_ssl has offered each certificate of the server whose issuer it knows. */
static int init_server(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx)
{
    md_process_t *process = mod_md_process();
    X509 *current = SSL_CTX_get0_certificate(ctx);
    long more;

    if (is_proxy || !process->reg || !process->reg->staples || process->is_dry_run
        || !mod_md_staples(s))
        return DECLINED;
    if (!process->unstapled)
        process->unstapled = apr_hash_make(p);
    for (more = SSL_CTX_set_current_cert(ctx, SSL_CERT_SET_FIRST); more == 1;
         more = SSL_CTX_set_current_cert(ctx, SSL_CERT_SET_NEXT))
        tell_missing_issuer(s, process->reg->staples, SSL_CTX_get0_certificate(ctx),
                            process->unstapled, p);
    (void)SSL_CTX_select_current_cert(ctx, current);
    ERR_clear_error();
    return OK;
}

/* ---- in handshakes ---- */

static int get_response(server_rec *s, conn_rec *c, const char *id, apr_size_t id_len,
                        ap_ssl_ocsp_copy_resp *copy, void *baton)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_stapled_t *stapled = NULL;
    md_staple_t staple;

    (void)c;
    if (!reg || !reg->staples || !md_staples_knows(&stapled, reg->staples, id, id_len) || !stapled
        || !mod_md_staples(s))
        return DECLINED;
    if (md_staples_get(&staple, reg->staples, stapled)
        && md_staple_is_usable(&staple, md_clock_now(), md_clock_steady()))
        copy(MD_STAPLE_DER(&staple), (apr_size_t)staple.len, baton);
    else
        copy(NULL, 0, baton);
    return OK;
}

/* ---- children ---- */

static void child_init(apr_pool_t *p, server_rec *s)
{
    const md_process_t *process = mod_md_process();
    apr_pool_t *tmp;

    (void)s;
    if (!process || !process->reg || !process->reg->staples)
        return;
    apr_pool_create(&tmp, p);
    md_ocsp_load(process->reg, tmp);
    apr_pool_destroy(tmp);
}

void mod_md_ocsp_hooks(void)
{
    ap_hook_ssl_ocsp_prime_hook(prime, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_ssl_ocsp_get_resp_hook(get_response, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, init_server, init_server, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
}
