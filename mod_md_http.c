/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that we answer ourselves: http-01 (RFC 8555 8.3), and those to be sent to https. */
#include "mod_md.h"

#include <string.h>

#include <apr_buckets.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <http_ssl.h>
#include <util_filter.h>

#include "md_acme_authz.h"
#include "md_limits.h"
#include "md_renew.h"
#include "md_text.h"

APLOG_USE_MODULE(md);

#define WELL_KNOWN "/.well-known/acme-challenge/"

/* ---- http-01 ---- */

/* Does the domain leave http-01 to somebody else? */
static int is_not_ours(const md_domain_t *domain)
{
    return domain && domain->ca_challenges && domain->ca_challenges->nelts > 0
           && !md_strings_has_nocase(domain->ca_challenges, "http-01");
}

static int send_text(request_rec *r, const char *text, apr_size_t len)
{
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);

    r->status = HTTP_OK;
    r->connection->keepalive = AP_CONN_CLOSE; /* httpd ends it with a request that ends here */
    ap_set_content_length(r, (apr_off_t)len);
    apr_brigade_write(bb, NULL, NULL, text, len);
    ap_pass_brigade(r->output_filters, bb);
    apr_brigade_cleanup(bb);
    return DONE;
}

/* The token is not compared with the text: the file is the answer, whatever is asked. */
static int answer(request_rec *r, const md_reg_t *reg, const md_domain_t *domain,
                  const char *token)
{
    const char *text;
    apr_size_t len;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, r->pool);
    rv = md_store_load_text(&text, &len, reg->store, MD_STORE_CHALLENGES, r->hostname,
                            MD_HTTP01_FILE, MD_MAX_CHALLENGE, &err, r->pool);
    if (rv == APR_SUCCESS)
        return r->method_number == M_GET ? send_text(r, text, len) : HTTP_NOT_IMPLEMENTED;
    if (!domain || !md_renew_is_wanted(domain))
        return DECLINED;
    if (APR_STATUS_IS_ENOENT(rv))
        return HTTP_NOT_FOUND;
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, APLOGNO(10081)
                  "loading challenge %s from store: %s", md_text_printable(token, r->pool),
                  err.detail ? err.detail : "");
    return HTTP_INTERNAL_SERVER_ERROR;
}

static int answer_http01(request_rec *r)
{
    const md_process_t *process = mod_md_process();
    const char *path = r->parsed_uri.path, *token;
    const md_domain_t *domain;

    if (!process->reg || !path || strncmp(path, WELL_KNOWN, strlen(WELL_KNOWN)) || !r->hostname)
        return DECLINED;
    token = path + strlen(WELL_KNOWN);
    domain = md_index_find(process->reg->index, r->hostname);
    if (!*token || strchr(token, '/') || is_not_ours(domain)
        || !md_path_part_is_safe(r->hostname))
        return DECLINED;
    return answer(r, process->reg, domain, token);
}

/* ---- MDRequireHttps ---- */

#define STS_HEADER "Strict-Transport-Security"
#define STS_VALUE  "max-age=15768000" /* RFC 6797: half a year */

/* The domain of this server that the request is for. */
static const md_domain_t *requested_domain(request_rec *r, const md_index_t *index)
{
    const apr_array_header_t *domains = mod_md_server(r->server)->domains;
    const char *name = domains->nelts > 0 ? ap_get_server_name_for_url(r) : NULL;
    const md_domain_t *domain;
    int i;

    for (i = 0; name && i < domains->nelts; ++i) {
        domain = APR_ARRAY_IDX(domains, i, md_domain_t *);
        if (md_index_has(index, domain, name))
            return domain;
    }
    return NULL;
}

static int redirect(request_rec *r, int is_permanent)
{
    const apr_uri_t *uri = &r->parsed_uri;
    int is_plain = r->method_number == M_GET; /* HEAD, too; others must keep their method */

    apr_table_setn(r->headers_out, "Location",
                   apr_pstrcat(r->pool, "https://", ap_get_server_name_for_url(r), uri->path,
                               uri->query ? "?" : "", uri->query ? uri->query : "",
                               uri->fragment ? "#" : "", uri->fragment ? uri->fragment : "",
                               NULL));
    if (is_permanent)
        return is_plain ? HTTP_MOVED_PERMANENTLY : HTTP_PERMANENT_REDIRECT;
    return is_plain ? HTTP_MOVED_TEMPORARILY : HTTP_TEMPORARY_REDIRECT;
}

static int require_https(request_rec *r)
{
    const md_process_t *process = mod_md_process();
    const char *path = r->parsed_uri.path;
    const md_domain_t *domain;
    int is_permanent;

    if (!process->reg || !path || path[0] != '/' || !strncmp(path, "/.well-known/", 13))
        return DECLINED;
    domain = requested_domain(r, process->reg->index);
    if (!domain || !domain->require_https)
        return DECLINED;
    is_permanent = !strcmp(domain->require_https, "permanent");
    if (!ap_ssl_conn_is_ssl(r->connection))
        return redirect(r, is_permanent);
    if (is_permanent && !apr_table_get(r->headers_out, STS_HEADER))
        apr_table_setn(r->headers_out, STS_HEADER, STS_VALUE);
    return DECLINED;
}

void mod_md_http_hooks(void)
{
    static const char *const TLS[] = { "mod_ssl.c", "mod_tls.c", NULL };

    /* Before the TLS module: a CA that follows a redirect to https is answered even while that
     * says 503. */
    ap_hook_post_read_request(answer_http01, NULL, TLS, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(require_https, TLS, NULL, APR_HOOK_MIDDLE);
}
