/* SPDX-License-Identifier: Apache-2.0 */
/* Where status is asked for: the handlers `md-status` and `md-metrics`, certificate-status of a
 * host, and server-status. */
#include "mod_md.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include <http_log.h>
#include <http_protocol.h>
#include <mod_status.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_metrics.h"
#include "md_page.h"
#include "md_report.h"
#include "md_text.h"

APLOG_USE_MODULE(md);

/* The domain that the request is about; NULL: all. */
static const md_domain_t *find_domain(const md_reg_t *reg, const char *path_info)
{
    const md_domain_t *domain;
    const char *slash = path_info ? strrchr(path_info, '/') : NULL;
    int i;

    if (!slash || !slash[1])
        return NULL;
    for (i = 0; i < reg->domains->nelts; ++i) {
        domain = md_reg_domain(reg, i);
        if (!strcmp(domain->name, slash + 1))
            return domain;
    }
    return md_index_find(reg->index, slash + 1);
}

static apr_status_t put(void *r, const char *text)
{
    return ap_rputs(text, r) < 0 ? APR_EGENERAL : APR_SUCCESS;
}

static md_out_t out_to(request_rec *r)
{
    return (md_out_t){ put, r, APR_SUCCESS };
}

static void put_version(request_rec *r)
{
    md_json_t *json = md_json_object(r->pool);

    md_json_set_str(json, "version", MD_VERSION);
    (void)put(r, md_json_text(json, 0, r->pool));
}

static void put_domain(request_rec *r, const md_reg_t *reg, const md_domain_t *domain)
{
    const md_status_t *status = md_status_whole(reg, domain, md_clock_now(), r->pool);

    (void)put(r, md_json_text(md_status_to_json(status, r->pool), 0, r->pool));
}

static void put_status(request_rec *r)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_domain_t *domain = reg ? find_domain(reg, r->path_info) : NULL;
    md_out_t out = out_to(r);

    if (!reg || reg->domains->nelts == 0)
        put_version(r);
    else if (domain)
        put_domain(r, reg, domain);
    else
        md_status_write(&out, reg, md_clock_now(), r->pool);
}

/* ---- for people ---- */

/* How much a client wants this type by its Accept header (RFC 9110 12.5.1), in thousandths; ranges
 * such as that of all types do not count. */
static int preference(const char *accept, const char *type, apr_pool_t *p)
{
    char *list = apr_pstrdup(p, accept), *state, *item, *q;
    double wish;
    size_t len = strlen(type);

    for (item = apr_strtok(list, ",", &state); item; item = apr_strtok(NULL, ",", &state)) {
        item += strspn(item, " \t");
        if (strncasecmp(item, type, len) || (item[len] && !strchr("; \t", item[len])))
            continue;
        q = strstr(item + len, "q=");
        wish = q ? strtod(q + 2, NULL) : 1;
        return wish >= 1 ? 1000 : wish > 0 ? (int)(wish * 1000) : 0;
    }
    return 0;
}

/* Tools get JSON unless they ask for HTML, browsers ask for that. */
static int wants_html(request_rec *r)
{
    const char *accept = apr_table_get(r->headers_in, "Accept");

    if (r->args && !strcmp(r->args, "format=json"))
        return 0;
    if (r->args && !strcmp(r->args, "format=html"))
        return 1;
    return accept && preference(accept, "text/html", r->pool)
                         > preference(accept, "application/json", r->pool);
}

/* The path of the page of all domains: this one, but for the name of a domain. */
static const char *base_of(const request_rec *r, const md_domain_t *domain)
{
    const char *slash = strrchr(r->uri, '/'), *path = r->uri;

    if (slash && (domain || !slash[1]))
        path = apr_pstrndup(r->pool, path, (apr_size_t)(slash - path));
    return md_text_html(ap_os_escape_path(r->pool, path, 1), MD_MAX_URI, r->pool);
}

static void put_page(request_rec *r)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_domain_t *domain = reg ? find_domain(reg, r->path_info) : NULL;
    md_out_t out = out_to(r);

    if (domain)
        md_page_domain(&out, reg, domain, base_of(r, domain), md_clock_now(), r->pool);
    else
        md_page_all(&out, reg, base_of(r, NULL), md_clock_now(), r->pool);
}

static void set_type(request_rec *r, const char *type)
{
    ap_set_content_type(r, type);
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
}

static int status_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "md-status"))
        return DECLINED;
    if (r->method_number != M_GET)
        return HTTP_NOT_IMPLEMENTED;
    apr_table_mergen(r->headers_out, "Vary", "Accept");
    if (wants_html(r)) {
        set_type(r, "text/html; charset=utf-8");
        apr_table_setn(r->headers_out, "Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'");
        put_page(r);
    }
    else {
        set_type(r, "application/json");
        put_status(r);
    }
    return OK;
}

/* ---- for monitoring ---- */

/* Prometheus lists all formats that it knows, those it likes best first. */
static md_metrics_format_t metrics_format(request_rec *r)
{
    const char *accept = apr_table_get(r->headers_in, "Accept");
    int wish = accept ? preference(accept, "application/openmetrics-text", r->pool) : 0;

    return wish > 0 && wish >= preference(accept, "text/plain", r->pool) ? MD_METRICS_OPEN
                                                                         : MD_METRICS_TEXT;
}

static int metrics_handler(request_rec *r)
{
    static const char *const TYPES[] = {
        [MD_METRICS_TEXT] = "text/plain; version=0.0.4; charset=utf-8",
        [MD_METRICS_OPEN] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
    };
    md_out_t out = out_to(r);
    md_metrics_format_t format;

    if (!r->handler || strcmp(r->handler, "md-metrics"))
        return DECLINED;
    if (r->method_number != M_GET)
        return HTTP_NOT_IMPLEMENTED;
    format = metrics_format(r);
    apr_table_mergen(r->headers_out, "Vary", "Accept");
    set_type(r, TYPES[format]);
    md_metrics_write(&out, format, mod_md_process()->reg, md_clock_now(), r->pool);
    return OK;
}

/* ---- /.httpd/certificate-status ---- */

#define CERT_STATUS "/.httpd/certificate-status"

/* The domain of the host that is asked for, whichever server has got the request. NULL: it is not
 * ours to answer. */
static const md_domain_t *domain_to_tell(const request_rec *r)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const char *path = r->parsed_uri.path;

    if (!reg || !reg->conf->cert_status || !path || strcmp(path, CERT_STATUS))
        return NULL;
    return md_index_find(reg->index, r->hostname);
}

/* A record that is damaged is told; a store that cannot be read has nothing to do with what is in
 * service. */
static int tell_domain(request_rec *r, const md_domain_t *domain)
{
    const md_status_t *status = md_status_of(mod_md_process()->reg, domain, md_clock_now(),
                                             r->pool);
    const char *text = md_json_text(md_status_public(status, r->pool), 0, r->pool);

    if (APR_STATUS_IS_EINVAL(status->rv)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, status->rv, r, APLOGNO(10204)
                      "loading md status for %s", domain->name);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    set_type(r, "application/json");
    return mod_md_answer(r, text, strlen(text));
}

static int cert_status(request_rec *r)
{
    const md_domain_t *domain = domain_to_tell(r);

    if (!domain)
        return DECLINED;
    return r->method_number == M_GET ? tell_domain(r, domain) : HTTP_NOT_IMPLEMENTED;
}

/* ---- server-status ---- */

static int server_status(request_rec *r, int flags)
{
    const md_process_t *process = mod_md_process();
    md_out_t out = out_to(r);

    if (process->conf->server_status != 1)
        return OK;
    if (flags & AP_STATUS_SHORT)
        md_report_text(&out, process->reg, md_clock_now(), r->pool);
    else if (process->reg)
        md_report_html(&out, process->reg, md_clock_now(), r->pool);
    return OK;
}

void mod_md_status_hooks(void)
{
    static const char *const TLS[] = { "mod_ssl.c", "mod_tls.c", NULL };

    APR_OPTIONAL_HOOK(ap, status_hook, server_status, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(status_handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(metrics_handler, NULL, NULL, APR_HOOK_MIDDLE);
    /* Before the TLS module, which may say 503, and before redirects to https. */
    ap_hook_post_read_request(cert_status, NULL, TLS, APR_HOOK_MIDDLE);
}
