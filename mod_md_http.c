/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that we answer ourselves: http-01 (RFC 8555 8.3), and those to be sent to https; the
 * header that keeps browsers there. */
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

/* ---- MDRequireHttps ---- */

/* The domain of this server that the request is for, if it has the setting. */
static const md_domain_t *domain_to_require(request_rec *r)
{
    const md_process_t *process = mod_md_process();
    const apr_array_header_t *domains = mod_md_server(r->server)->domains;
    const md_domain_t *domain;
    const char *name;
    int i;

    if (!process->reg || domains->nelts == 0)
        return NULL;
    name = ap_get_server_name_for_url(r);
    for (i = 0; i < domains->nelts; ++i) {
        domain = APR_ARRAY_IDX(domains, i, md_domain_t *);
        if (md_index_has(process->reg->index, domain, name))
            return domain->require_https ? domain : NULL;
    }
    return NULL;
}

static int is_permanent(const md_domain_t *domain)
{
    return !strcmp(domain->require_https, "permanent");
}

static int redirect(request_rec *r, const md_domain_t *domain)
{
    const apr_uri_t *uri = &r->parsed_uri;
    int is_plain = r->method_number == M_GET; /* HEAD, too; others must keep their method */

    apr_table_setn(r->headers_out, "Location",
                   apr_pstrcat(r->pool, "https://", ap_get_server_name_for_url(r), uri->path,
                               uri->query ? "?" : "", uri->query ? uri->query : "",
                               uri->fragment ? "#" : "", uri->fragment ? uri->fragment : "",
                               NULL));
    if (is_permanent(domain))
        return is_plain ? HTTP_MOVED_PERMANENTLY : HTTP_PERMANENT_REDIRECT;
    return is_plain ? HTTP_MOVED_TEMPORARILY : HTTP_TEMPORARY_REDIRECT;
}

static int require_https(request_rec *r)
{
    const char *path = r->parsed_uri.path;
    const md_domain_t *domain;

    if (!path || path[0] != '/' || !strncmp(path, "/.well-known/", 13)
        || ap_ssl_conn_is_ssl(r->connection))
        return DECLINED;
    domain = domain_to_require(r);
    return domain ? redirect(r, domain) : DECLINED;
}

/* ---- Strict-Transport-Security (RFC 6797) ---- */

#define STS_HEADER "Strict-Transport-Security"

/* Half a year. Among equal values, ours is known by its address. */
static const char STS_VALUE[] = "max-age=15768000";

static ap_filter_rec_t *offer_sts_filter, *settle_sts_filter;

/* What both filters of a response know. */
typedef struct sts_t {
    int is_error;   /* httpd makes the response, not a handler */
    int is_offered;
} sts_t;

/* In front of mod_headers, and where that looks: an administrator can replace, edit or unset it. */
static apr_status_t offer_sts(ap_filter_t *f, apr_bucket_brigade *bb)
{
    request_rec *r = f->r;
    sts_t *sts = f->ctx;

    sts->is_offered = 1;
    if (!apr_table_get(r->headers_out, STS_HEADER))
        apr_table_setn(sts->is_error ? r->err_headers_out : r->headers_out, STS_HEADER, STS_VALUE);
    ap_remove_output_filter(f);
    return ap_pass_brigade(f->next, bb);
}

/* Called for each value until there is one of somebody else. */
static int prefer_others(void *data, const char *key, const char *value)
{
    const char **pchosen = data;

    (void)key;
    if (!*pchosen || value != STS_VALUE)
        *pchosen = value;
    return value == STS_VALUE;
}

/* Behind all that set headers: there is only one (7.1), and browsers look at the first alone (8.1).
 * What comes from a cache was not offered ours. */
static apr_status_t settle_sts(ap_filter_t *f, apr_bucket_brigade *bb)
{
    const sts_t *sts = f->ctx;
    const char *value = sts->is_offered ? NULL : STS_VALUE;
    request_rec *r = f->r;

    apr_table_do(prefer_others, &value, r->headers_out, STS_HEADER, NULL);
    apr_table_do(prefer_others, &value, r->err_headers_out, STS_HEADER, NULL);
    apr_table_unset(r->err_headers_out, STS_HEADER);
    if (value)
        apr_table_setn(r->headers_out, STS_HEADER, value);
    ap_remove_output_filter(f);
    return ap_pass_brigade(f->next, bb);
}

static int has_sts_filter(const request_rec *r)
{
    const ap_filter_t *f;

    for (f = r->output_filters; f && f->r == r; f = f->next)
        if (f->frec == settle_sts_filter)
            return 1;
    return 0;
}

/* Responses are made in many places, and in some (errors, proxies) what was set before is thrown
 * away: so the header is set when the response goes out. */
static void insert_sts(request_rec *r, int is_error)
{
    const md_domain_t *domain;
    sts_t *sts;

    if (r->main || !ap_ssl_conn_is_ssl(r->connection) || has_sts_filter(r))
        return;
    domain = domain_to_require(r);
    if (!domain || !is_permanent(domain))
        return;
    sts = apr_pcalloc(r->pool, sizeof(*sts));
    sts->is_error = is_error;
    ap_add_output_filter_handle(offer_sts_filter, sts, r, r->connection);
    ap_add_output_filter_handle(settle_sts_filter, sts, r, r->connection);
}

/* For answers that no handler makes (`OPTIONS *`, our own). */
static int begin_request(request_rec *r)
{
    insert_sts(r, 0);
    return DECLINED;
}

/* The filters of before are gone after an internal redirect, */
static void begin_response(request_rec *r)
{
    insert_sts(r, 0);
}

/* and when there is an error. */
static void begin_error(request_rec *r)
{
    insert_sts(r, 1);
}

/* ---- http-01 ---- */

#define WELL_KNOWN "/.well-known/acme-challenge/"

/* Does the domain leave http-01 to somebody else? */
static int is_not_ours(const md_domain_t *domain)
{
    return domain && domain->ca_challenges && domain->ca_challenges->nelts > 0
           && !md_strings_has_nocase(domain->ca_challenges, "http-01");
}

int mod_md_answer(request_rec *r, const char *text, apr_size_t len)
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
static int answer(request_rec *r, const md_store_t *store, const md_domain_t *domain,
                  const char *token)
{
    const char *text;
    apr_size_t len;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, r->pool);
    rv = md_store_load_text(&text, &len, store, MD_STORE_CHALLENGES, r->hostname,
                            MD_HTTP01_FILE, MD_MAX_CHALLENGE, &err, r->pool);
    if (rv == APR_SUCCESS)
        return r->method_number == M_GET ? mod_md_answer(r, text, len) : HTTP_NOT_IMPLEMENTED;
    /* A check of ours arrived, under another name than it was sent with: it is told so. */
    if (!strncmp(token, MD_CHECK_TOKEN, strlen(MD_CHECK_TOKEN)) && r->method_number == M_GET)
        return mod_md_answer(r, MD_CHECK_TOKEN, strlen(MD_CHECK_TOKEN));
    if (!domain || !md_renew_is_wanted(domain))
        return DECLINED;
    if (APR_STATUS_IS_ENOENT(rv))
        return HTTP_NOT_FOUND;
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, APLOGNO(10081)
                  "loading challenge %s from store: %s", md_text_printable(token, r->pool),
                  err.detail ? err.detail : "");
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* Who has no managed domain may be one, too: a2md works on domains of its own. */
static int answer_http01(request_rec *r)
{
    const md_process_t *process = mod_md_process();
    const char *path = r->parsed_uri.path, *token;
    const md_domain_t *domain;

    if (!process->store || !path || strncmp(path, WELL_KNOWN, strlen(WELL_KNOWN)) || !r->hostname)
        return DECLINED;
    token = path + strlen(WELL_KNOWN);
    domain = process->reg ? md_index_find(process->reg->index, r->hostname) : NULL;
    if (!*token || strchr(token, '/') || is_not_ours(domain)
        || !md_path_part_is_safe(r->hostname))
        return DECLINED;
    return answer(r, process->store, domain, token);
}

void mod_md_http_hooks(void)
{
    static const char *const TLS[] = { "mod_ssl.c", "mod_tls.c", NULL };

    /* Before the TLS module: a CA that follows a redirect to https is answered even while that
     * says 503. */
    ap_hook_post_read_request(answer_http01, NULL, TLS, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(require_https, TLS, NULL, APR_HOOK_MIDDLE);

    /* mod_headers puts its filter, which is of the same type as the first, behind all others. */
    offer_sts_filter = ap_register_output_filter("MD_STS_OFFER", offer_sts, NULL,
                                                 AP_FTYPE_CONTENT_SET);
    settle_sts_filter = ap_register_output_filter("MD_STS_SETTLE", settle_sts, NULL,
                                                  AP_FTYPE_PROTOCOL - 1);
    ap_hook_post_read_request(begin_request, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_insert_filter(begin_response, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_insert_error_filter(begin_error, NULL, NULL, APR_HOOK_MIDDLE);
}
