/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to tell of a domain, and how it looks as JSON. */
#include "md_status.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_acme_order.h"
#include "md_job.h"
#include "md_published.h"
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

/* `advice` is what the CA suggests, NULL for a certificate that is not live. */
static md_json_t *cert_to_json(const md_cert_info_t *cert, const md_advice_t *advice, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "issuer-name", cert->issuer_name);
    md_json_set_str(json, "issuer-uri", cert->issuer_uri);
    md_json_set(json, "valid", window_to_json(&cert->validity, p));
    md_json_set_str(json, "serial", cert->serial);
    md_json_set_str(json, "sha256-fingerprint", cert->fingerprint);
    md_json_set_str(json, "ari-cert-id", cert->ari_id);
    if (advice)
        md_json_set(json, "ari", md_advice_to_json(advice, cert->ari_id, p));
    return json;
}

static void put_common(md_json_t *json, const apr_array_header_t *certs, apr_pool_t *p)
{
    md_window_t common = md_cert_common_validity(certs);

    if (common.end)
        md_json_set(json, "valid", window_to_json(&common, p));
}

/* ---- what there is ---- */

static const apr_array_header_t *staged_certs(const md_status_t *status, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(status->domain, p);
    apr_array_header_t *certs = apr_array_make(p, specs->nelts, sizeof(md_cert_info_t *));
    const md_cert_info_t *cert;
    apr_array_header_t *chain;
    int i;

    for (i = 0; i < specs->nelts; ++i) {
        cert = NULL;
        if (md_store_load_chain(&chain, NULL, status->reg->store, MD_STORE_STAGING,
                                status->domain->name,
                                md_key_spec_file(&APR_ARRAY_IDX(specs, i, md_key_spec_t),
                                                 "pubcert", p), NULL, p) == APR_SUCCESS)
            cert = md_cert_info(md_chain_leaf(chain), p);
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) = cert;
    }
    return certs;
}

/* What a job would say if it could be kept. */
static const md_job_t *blocked_job(const md_status_t *status, apr_pool_t *p)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, status->domain->name, p);
    md_err_t err;

    md_err_init(&err, p);
    (void)md_fail(&err, APR_EACCES, "%s", status->reg->store_problem);
    md_job_result(job, NULL, &err, p);
    return job;
}

/* The engine knows that there is no record; but one of another server that has the same store may
 * have begun when it was time to. */
static int is_quiet(const md_status_t *status, const md_board_row_t *row)
{
    if (status->due.at && status->due.at <= status->now && md_renew_is_wanted(status->domain))
        return 0;
    return row->phase == MD_PHASE_QUIET;
}

/* The record of a renewal, if there is one and what it claims is so. */
static void find_job(md_status_t *status, apr_pool_t *p)
{
    const md_reg_t *reg = status->reg;
    md_job_t *job;

    status->rv = md_job_load(&job, reg->store, MD_STORE_STAGING, status->domain->name, NULL, p);
    if (status->rv == APR_SUCCESS && md_renew_is_plausible(reg, status->domain, job, p)) {
        status->job = job;
        status->staged = staged_certs(status, p);
    }
    if (APR_STATUS_IS_ENOENT(status->rv))
        status->rv = APR_SUCCESS;
}

/* While the engine knows of nothing that goes on, what it last saw stands for what the store has:
 * only the CA's wish makes that earlier than the certificates do. */
static md_due_t due_of(const md_status_t *status, const md_board_row_t *row)
{
    md_due_t due = md_renew_when(status->reg, status->domain, status->advice, status->now);

    if (!status->advice && row->renew_at && row->renew_at < due.at)
        due = (md_due_t){ row->renew_at, "ari", NULL };
    return due;
}

static const md_status_t *gather(const md_reg_t *reg, const md_domain_t *domain, int is_whole,
                                 apr_time_t now, apr_pool_t *p)
{
    md_status_t *status = apr_pcalloc(p, sizeof(*status));
    md_board_row_t row = { .phase = MD_PHASE_UNKNOWN };

    md_published_follow(reg->store, reg->board, domain);
    status->reg = reg;
    status->domain = domain;
    status->live = md_live_of(domain);
    status->now = now;
    status->is_whole = is_whole;
    status->valid = md_cert_common_validity(status->live->certs);
    status->is_revoked = reg->staples && md_staples_has_revoked(reg->staples, domain->name,
                                                                    status->live->certs);
    if (reg->board)
        (void)md_board_read(&row, reg->board, domain->number);
    if (row.phase != MD_PHASE_QUIET)
        status->advice = md_advice_load(reg->store, domain, now, p);
    status->due = due_of(status, &row); /* the board's word counts if there is no advice yet */
    if (is_whole && !status->advice && row.has_advice)
        status->advice = md_advice_load(reg->store, domain, now, p);
    if (!is_quiet(status, &row))
        find_job(status, p);
    if (reg->store_problem)
        status->job = blocked_job(status, p);
    status->is_due = status->job || (status->due.at && status->due.at <= now);
    return status;
}

const md_status_t *md_status_of(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                                apr_pool_t *p)
{
    return gather(reg, domain, 0, now, p);
}

const md_status_t *md_status_whole(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                                   apr_pool_t *p)
{
    return gather(reg, domain, 1, now, p);
}

int md_status_staged(const md_status_t *status)
{
    const apr_array_header_t *certs = status->staged;
    int i, count = 0;

    for (i = 0; certs && i < certs->nelts; ++i)
        count += APR_ARRAY_IDX(certs, i, const md_cert_info_t *) != NULL;
    return count;
}

/* ---- as JSON ---- */

/* Staged ones are never files of somebody else, which have numbers. */
const char *md_status_cert_label(const md_status_t *status, const apr_array_header_t *certs, int i,
                                 apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(status->domain, p);

    if (certs == status->staged)
        return md_key_spec_name(&APR_ARRAY_IDX(specs, i, md_key_spec_t));
    return md_domain_cert_label(status->domain, i, p);
}

/* How its refresh goes, from the store. */
static void put_refresh(md_json_t *json, const md_status_t *status, const md_stapled_t *stapled,
                        apr_pool_t *p)
{
    md_job_t *job;

    if (!status->is_whole && !md_staples_plan(status->reg->staples, stapled).errors)
        return;
    if (md_job_load(&job, status->reg->store, MD_STORE_OCSP, stapled->name, NULL, p)
        == APR_SUCCESS)
        md_json_set(json, "renewal", md_job_to_json(job, 0, p));
}

/* NULL: it is not stapled. */
static md_json_t *ocsp_to_json(const md_status_t *status, const md_cert_info_t *cert,
                               apr_pool_t *p)
{
    const md_stapled_t *stapled = md_staples_find(status->reg->staples, status->domain->name,
                                                  cert->fingerprint);
    md_json_t *json = md_json_object(p);
    md_staple_t staple;

    if (!stapled)
        return NULL;
    md_json_set_str(json, "status", "unknown");
    if (md_staples_look(&staple, status->reg->staples, stapled)) {
        md_json_set_str(json, "status", md_staple_status(&staple));
        md_json_set(json, "valid", window_to_json(&(md_window_t){ staple.from, staple.until }, p));
    }
    put_refresh(json, status, stapled, p);
    return json;
}

/* Those in service, or staged, and their common validity. */
static md_json_t *certs_to_json(const md_status_t *status, const apr_array_header_t *certs,
                                apr_pool_t *p)
{
    md_json_t *json = md_json_object(p), *one;
    int i, is_live = certs != status->staged;
    const md_cert_info_t *cert;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            continue;
        one = cert_to_json(cert, is_live ? status->advice : NULL, p);
        if (is_live)
            md_json_set(one, "ocsp", ocsp_to_json(status, cert, p));
        md_json_set_key(json, md_status_cert_label(status, certs, i, p), one);
    }
    put_common(json, certs, p);
    return json;
}

md_json_t *md_status_to_json(const md_status_t *status, apr_pool_t *p)
{
    md_json_t *json = md_domain_to_json(status->domain, p), *renewal;
    const md_hint_t *hint = status->advice ? md_advice_first(status->advice) : NULL;

    md_domain_mask(json, p);
    md_json_set(json, "cert", certs_to_json(status, status->live->certs, p));
    md_json_set_time(json, "renew-at", status->due.at);
    md_json_set_str(json, "renew-reason", status->due.reason);
    if (hint && md_text_same(status->due.reason, "ari"))
        md_json_set_str(json, "renew-explanation", hint->ari.explanation_url);
    md_json_set_bool(json, "watched", status->domain->is_watched);
    if (status->is_due)
        md_json_set_bool(json, "renew", 1);
    if (status->job) {
        renewal = md_job_to_json(status->job, status->is_whole, p);
        md_json_set(renewal, "cert", certs_to_json(status, status->staged, p));
        md_json_set(json, "renewal", renewal);
    }
    if (status->rv != APR_SUCCESS)
        md_json_set_int(json, "error", status->rv);
    return json;
}

/* Less than cert_to_json; empty for one that is not there yet. */
static md_json_t *cert_to_public(const md_cert_info_t *cert, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    if (cert) {
        md_json_set(json, "valid", window_to_json(&cert->validity, p));
        md_json_set_str(json, "serial", cert->serial);
        md_json_set_str(json, "sha256-fingerprint", cert->fingerprint);
    }
    return json;
}

md_json_t *md_status_public(const md_status_t *status, apr_pool_t *p)
{
    const apr_array_header_t *certs = status->live->certs;
    md_json_t *json = md_json_object(p);
    int i;

    put_common(json, certs, p);
    for (i = 0; certs && i < certs->nelts; ++i)
        md_json_set_key(json, md_status_cert_label(status, certs, i, p),
                        cert_to_public(APR_ARRAY_IDX(certs, i, const md_cert_info_t *), p));
    if (status->job)
        md_json_set(json, "renewal.cert", certs_to_json(status, status->staged, p));
    return json;
}

/* ---- all domains ---- */

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

const apr_array_header_t *md_status_domains(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *sorted = apr_array_copy(p, reg->domains);

    qsort(sorted->elts, (size_t)sorted->nelts, sizeof(md_domain_t *), by_name);
    return sorted;
}

/* What is read of a domain is many times what is shown of it. */
void md_status_write(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    const apr_array_header_t *domains = md_status_domains(reg, p);
    const md_status_t *status;
    const char *text;
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    md_out_put(out, "{\n  \"version\": \"" MD_VERSION "\",\n  \"managed-domains\": [");
    for (i = 0; i < domains->nelts && out->rv == APR_SUCCESS; ++i) {
        apr_pool_clear(iter);
        status = md_status_of(reg, APR_ARRAY_IDX(domains, i, md_domain_t *), now, iter);
        text = md_json_text(md_status_to_json(status, iter), 0, iter);
        md_out_printf(out, iter, "%s%s", i > 0 ? ",\n" : "\n", indent(text, iter));
    }
    apr_pool_destroy(iter);
    md_out_put(out, "\n  ]\n}");
}
