/* SPDX-License-Identifier: Apache-2.0 */
/* Stapling for the TLS module: which certificates we take on, and what it sends of them. */
#include "mod_md.h"

#include <apr_optional_hooks.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
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

/* Is there a response for a handshake? */
static int is_there(md_staple_t *staple, const md_staples_t *staples, const md_stapled_t *stapled)
{
    return md_staples_get(staple, staples, stapled)
           && md_staple_is_usable(staple, md_clock_now(), md_clock_steady());
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

static apr_status_t free_store(void *trusted)
{
    X509_STORE_free(trusted);
    return APR_SUCCESS;
}

/* What this system trusts, read once in a start; NULL without memory. */
static X509_STORE *trusted_by_system(apr_pool_t *p)
{
    static const char KEY[] = "mod_md:trusted";
    void *found = NULL;
    X509_STORE *trusted;

    apr_pool_userdata_get(&found, KEY, p);
    if (found)
        return found;
    trusted = X509_STORE_new();
    if (trusted) {
        (void)X509_STORE_set_default_paths(trusted);
        apr_pool_userdata_setn(trusted, KEY, free_store, p);
    }
    return trusted;
}

/* There may be several CAs of one name. */
static int is_signed_by(X509 *x509, X509 *issuer)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);

    return key && X509_verify(x509, key) == 1;
}

/* For X509_free; NULL: it is not there. */
static X509 *find_issuer(X509 *x509, apr_pool_t *p)
{
    X509_STORE *trusted = trusted_by_system(p);
    X509_STORE_CTX *search = X509_STORE_CTX_new();
    X509 *issuer = NULL;

    if (!trusted || !search || X509_STORE_CTX_init(search, trusted, x509, NULL) != 1
        || X509_STORE_CTX_get1_issuer(&issuer, search, x509) != 1)
        issuer = NULL;
    X509_STORE_CTX_free(search);
    if (!issuer || is_signed_by(x509, issuer))
        return issuer;
    X509_free(issuer);
    return NULL;
}

static const char *pem_of(X509 *x509, X509 *issuer, apr_pool_t *p)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *pem = "";
    char *data;
    long len;

    if (bio && PEM_write_bio_X509(bio, x509) && PEM_write_bio_X509(bio, issuer)) {
        len = BIO_get_mem_data(bio, &data);
        pem = apr_pstrmemdup(p, data, (apr_size_t)len);
    }
    BIO_free(bio);
    return pem;
}

/* By the id that mod_ssl gives it. */
static int add_with_issuer(server_rec *s, md_staples_t *staples, const char *id, apr_size_t id_len,
                           X509 *x509, apr_pool_t *p)
{
    X509 *issuer = find_issuer(x509, p);
    apr_status_t rv = APR_ENOENT;
    md_err_t err;

    md_err_init(&err, p);
    if (issuer)
        rv = md_staples_add(staples, id, id_len, pem_of(x509, issuer, p),
                            domain_of(mod_md_server(s)), &err);
    X509_free(issuer);
    return rv == APR_SUCCESS;
}

/* Told once for each certificate, whatever the number of its servers. */
static void tell_missing_issuer(server_rec *s, apr_pool_t *p)
{
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, "%s: no OCSP response can be stapled for the "
                 "certificate of %s, as its issuer is not known: add the issuer's certificate to "
                 "the file, or to SSLCACertificateFile", mod_md_place_of(s, p),
                 s->server_hostname ? s->server_hostname : "the server");
}

/* A certificate that mod_ssl has not offered, as its issuer is neither in the chain nor among what
 * mod_ssl trusts: is it stapled all the same? */
static int is_found(server_rec *s, md_process_t *process, X509 *x509, apr_pool_t *p)
{
    unsigned char sha1[EVP_MAX_MD_SIZE];
    const md_stapled_t *stapled = NULL;
    const char *id = (const char *)sha1;
    unsigned int len = 0;

    if (!x509 || !X509_digest(x509, EVP_sha1(), sha1, &len) || !names_responder(x509)
        || apr_hash_get(process->unstapled, id, len))
        return 0;
    if (md_staples_knows(&stapled, process->reg->staples, id, len))
        return stapled != NULL;
    if (add_with_issuer(s, process->reg->staples, id, len, x509, p))
        return 1;
    apr_hash_set(process->unstapled, apr_pmemdup(p, id, len), len, "");
    tell_missing_issuer(s, p);
    return 0;
}

/* What mod_ssl asks a get_response hook for is asked for here, where it has nothing to staple. */
static int staple_unasked(SSL *ssl, void *baton)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_stapled_t *stapled = NULL;
    unsigned char sha1[EVP_MAX_MD_SIZE], *der;
    X509 *x509 = SSL_get_certificate(ssl);
    unsigned int len = 0;
    md_staple_t staple;

    (void)baton;
    if (!x509 || !X509_digest(x509, EVP_sha1(), sha1, &len) || !reg || !reg->staples
        || !md_staples_knows(&stapled, reg->staples, (const char *)sha1, len) || !stapled
        || !is_there(&staple, reg->staples, stapled))
        return SSL_TLSEXT_ERR_NOACK;
    der = OPENSSL_memdup(MD_STAPLE_DER(&staple), (size_t)staple.len);
    if (!der || !SSL_set_tlsext_status_ocsp_resp(ssl, der, (long)staple.len)) {
        OPENSSL_free(der);
        return SSL_TLSEXT_ERR_NOACK;
    }
    return SSL_TLSEXT_ERR_OK;
}

/* mod_ssl has offered each certificate of the server whose issuer it knows. */
static int init_server(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx)
{
    md_process_t *process = mod_md_process();
    X509 *current = SSL_CTX_get0_certificate(ctx);
    int (*callback)(SSL *, void *) = NULL, found = 0;
    long more;

    if (is_proxy || !process->reg || !process->reg->staples || process->is_dry_run
        || !mod_md_staples(s))
        return DECLINED;
    if (!process->unstapled)
        process->unstapled = apr_hash_make(p);
    for (more = SSL_CTX_set_current_cert(ctx, SSL_CERT_SET_FIRST); more == 1;
         more = SSL_CTX_set_current_cert(ctx, SSL_CERT_SET_NEXT))
        found |= is_found(s, process, SSL_CTX_get0_certificate(ctx), p);
    (void)SSL_CTX_select_current_cert(ctx, current);
    SSL_CTX_get_tlsext_status_cb(ctx, &callback);
    if (found && !callback)
        SSL_CTX_set_tlsext_status_cb(ctx, staple_unasked);
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
    if (is_there(&staple, reg->staples, stapled))
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
