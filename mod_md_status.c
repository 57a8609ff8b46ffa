/* SPDX-License-Identifier: Apache-2.0 */
/* Where status is asked for: the handler `md-status`, certificate-status of a host, and
 * server-status. */
#include "mod_md.h"

#include <string.h>

#include <http_log.h>
#include <http_protocol.h>
#include <mod_status.h>

#include "md_clock.h"
#include "md_report.h"

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
    const md_status_t *status = md_status_of(reg, domain, md_clock_now(), r->pool);

    (void)put(r, md_json_text(md_status_to_json(status, 1, r->pool), 0, r->pool));
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
    set_type(r, "application/json");
    put_status(r);
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
    /* Before the TLS module, which may say 503, and before redirects to https. */
    ap_hook_post_read_request(cert_status, NULL, TLS, APR_HOOK_MIDDLE);
}
