/* SPDX-License-Identifier: Apache-2.0 */
/* The handler `md-status`: the status of one or all domains as JSON. */
#include "mod_md.h"

#include <string.h>

#include <http_protocol.h>

#include "md_clock.h"
#include "md_status.h"

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

static void put_version(request_rec *r)
{
    md_json_t *json = md_json_object(r->pool);

    md_json_set_str(json, "version", MD_VERSION);
    (void)put(r, md_json_text(json, 0, r->pool));
}

static void put_domain(request_rec *r, const md_reg_t *reg, const md_domain_t *domain)
{
    md_json_t *json = md_status_domain(reg, domain, 1, md_clock_now(), r->pool);

    (void)put(r, md_json_text(json, 0, r->pool));
}

static void put_status(request_rec *r)
{
    const md_reg_t *reg = mod_md_process()->reg;
    const md_domain_t *domain = reg ? find_domain(reg, r->path_info) : NULL;

    if (!reg)
        put_version(r);
    else if (domain)
        put_domain(r, reg, domain);
    else
        (void)md_status_write(reg, md_clock_now(), put, r, r->pool);
}

static int status_handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "md-status"))
        return DECLINED;
    if (r->method_number != M_GET)
        return HTTP_NOT_IMPLEMENTED;
    ap_set_content_type(r, "application/json");
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    put_status(r);
    return OK;
}

void mod_md_status_hooks(void)
{
    ap_hook_handler(status_handler, NULL, NULL, APR_HOOK_MIDDLE);
}
