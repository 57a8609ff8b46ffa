/* SPDX-License-Identifier: Apache-2.0 */
/* Status as JSON. */
#include "md_status.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_acme_order.h"
#include "md_job.h"
#include "md_renew.h"
#include "md_text.h"
#include "md_version.h"

static md_json_t *window_to_json(const md_window_t *window, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_time(json, "from", window->start);
    md_json_set_time(json, "until", window->end);
    return json;
}

static md_json_t *cert_to_json(const md_cert_info_t *cert, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "issuer-name", cert->issuer_name);
    md_json_set_str(json, "issuer-uri", cert->issuer_uri);
    md_json_set(json, "valid", window_to_json(&cert->validity, p));
    md_json_set_str(json, "serial", cert->serial);
    md_json_set_str(json, "sha256-fingerprint", cert->fingerprint);
    md_json_set_str(json, "ari-cert-id", cert->ari_id);
    return json;
}

/* Certificates under the names of their key specs, and the period in which all are valid.
 * `certs`: one per spec, NULL for those that are not there. */
static md_json_t *certs_to_json(const apr_array_header_t *certs,
                                const apr_array_header_t *labels, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);
    md_window_t common = { 0, 0 };
    const md_cert_info_t *cert;
    int i, found = 0;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            continue;
        if (!found || cert->validity.start > common.start)
            common.start = cert->validity.start;
        if (!found || cert->validity.end < common.end)
            common.end = cert->validity.end;
        found = 1;
        md_json_set_key(json, APR_ARRAY_IDX(labels, i, const char *), cert_to_json(cert, p));
    }
    if (found && common.start < common.end)
        md_json_set(json, "valid", window_to_json(&common, p));
    return json;
}

static md_json_t *served_certs(const md_domain_t *domain, apr_pool_t *p)
{
    const apr_array_header_t *certs = md_live_of(domain)->certs;
    apr_array_header_t *labels = md_strings_make(p);
    int i;

    for (i = 0; i < certs->nelts; ++i)
        APR_ARRAY_PUSH(labels, const char *) = md_domain_cert_label(domain, i, p);
    return certs_to_json(certs, labels, p);
}

static md_json_t *staged_certs(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    apr_array_header_t *certs = apr_array_make(p, specs->nelts, sizeof(md_cert_info_t *));
    apr_array_header_t *chain, *labels = md_strings_make(p);
    const md_cert_info_t *cert;
    const md_key_spec_t *spec;
    int i;

    for (i = 0; i < specs->nelts; ++i) {
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        cert = NULL;
        if (md_store_load_chain(&chain, NULL, reg->store, MD_STORE_STAGING, domain->name,
                                md_key_spec_file(spec, "pubcert", p), NULL, p) == APR_SUCCESS)
            cert = md_cert_info(md_chain_leaf(chain), p);
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) = cert;
        APR_ARRAY_PUSH(labels, const char *) = md_key_spec_name(spec);
    }
    return certs_to_json(certs, labels, p);
}

/* What a job would say if it could be kept. */
static md_json_t *blocked_to_json(const char *problem, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_int(json, "last.status", APR_EACCES);
    md_json_set_str(json, "last.detail", problem);
    return json;
}

/* The member `renewal`, NULL when there is no (plausible) job. */
static md_json_t *renewal_to_json(apr_status_t *prv, const md_reg_t *reg,
                                  const md_domain_t *domain, int with_log, apr_pool_t *p)
{
    md_json_t *json;
    md_job_t *job;

    *prv = md_job_load(&job, reg->store, MD_STORE_STAGING, domain->name, NULL, p);
    if (reg->store_problem)
        return blocked_to_json(reg->store_problem, p);
    if (*prv != APR_SUCCESS || !md_renew_is_plausible(reg, domain, job, p))
        return NULL;
    json = md_job_to_json(job, with_log, p);
    md_json_set(json, "cert", staged_certs(reg, domain, p));
    return json;
}

md_json_t *md_status_domain(const md_reg_t *reg, const md_domain_t *domain, int with_log,
                            apr_time_t now, apr_pool_t *p)
{
    md_json_t *json = md_domain_to_json(domain, p), *renewal;
    apr_time_t renew_at = md_renew_at(domain, now);
    apr_status_t rv;

    md_domain_mask(json, p);
    md_json_set(json, "cert", served_certs(domain, p));
    md_json_set_time(json, "renew-at", renew_at);
    md_json_set_bool(json, "watched", domain->is_watched);
    renewal = renewal_to_json(&rv, reg, domain, with_log, p);
    if (renewal || (renew_at && renew_at <= now))
        md_json_set_bool(json, "renew", 1);
    md_json_set(json, "renewal", renewal);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_json_set_int(json, "error", rv);
    return json;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(md_domain_t *const *)a)->name, (*(md_domain_t *const *)b)->name);
}

/* Four blanks in front of each line; JSON has no newlines in its strings. */
static const char *indent(const char *text, apr_pool_t *p)
{
    apr_size_t lines = 1;
    char *copy, *to;
    const char *s;

    for (s = text; *s; ++s)
        lines += *s == '\n';
    copy = apr_palloc(p, (apr_size_t)(s - text) + 4 * lines + 1);
    to = apr_cpystrn(copy, "    ", 5);
    for (s = text; *s; ++s) {
        *to++ = *s;
        if (*s == '\n')
            to = apr_cpystrn(to, "    ", 5);
    }
    *to = '\0';
    return copy;
}

/* What is read of a domain is many times what is shown of it. */
apr_status_t md_status_write(const md_reg_t *reg, apr_time_t now, md_status_out_t *out, void *baton,
                             apr_pool_t *p)
{
    apr_array_header_t *sorted = apr_array_copy(p, reg->domains);
    const char *text;
    apr_status_t rv;
    apr_pool_t *iter;
    int i;

    qsort(sorted->elts, (size_t)sorted->nelts, sizeof(md_domain_t *), by_name);
    apr_pool_create(&iter, p);
    rv = out(baton, "{\n  \"version\": \"" MD_VERSION "\",\n  \"managed-domains\": [");
    for (i = 0; i < sorted->nelts && rv == APR_SUCCESS; ++i) {
        apr_pool_clear(iter);
        text = md_json_text(md_status_domain(reg, APR_ARRAY_IDX(sorted, i, md_domain_t *), 0, now,
                                             iter), 0, iter);
        rv = out(baton, apr_pstrcat(iter, i > 0 ? ",\n" : "\n", indent(text, iter), NULL));
    }
    apr_pool_destroy(iter);
    return rv == APR_SUCCESS ? out(baton, "\n  ]\n}") : rv;
}
