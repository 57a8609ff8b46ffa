/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of the store. The first line of an input is the file, the rest its content. */
#include "fuzz.h"

#include <string.h>
#include <sys/stat.h>

#include <apr_strings.h>

#include "../../md_acme_order.h"
#include "../../md_file.h"
#include "../../md_job.h"
#include "../../md_limits.h"
#include "../../md_reg.h"
#include "../../md_renew.h"
#include "../../md_report.h"
#include "../../md_status.h"
#include "../../md_text.h"

#define NAME  "one.example.org"
#define OTHER "two.example.org"
#define ACCT  "ACME-ca.test-0000"

static md_store_t *store;
static md_conf_t *conf;

static void make_dir(md_store_group_t group, const char *name, apr_pool_t *p)
{
    holds(md_store_save_text(store, group, name, "kept", "kept", NULL, p) == APR_SUCCESS);
}

void fuzz_start(apr_pool_t *p)
{
    store = fuzz_store(p);
    holds(mkdir(apr_pstrcat(p, fuzz_dir(), "/other", NULL), 0700) == 0); /* for another store */
    conf = md_conf_merge(&md_conf_defaults, md_conf_make(p), p);
    make_dir(MD_STORE_DOMAINS, NAME, p);
    make_dir(MD_STORE_DOMAINS, OTHER, p);
    make_dir(MD_STORE_STAGING, NAME, p);
    make_dir(MD_STORE_STAGING, OTHER, p);
    make_dir(MD_STORE_ACCOUNTS, ACCT, p);
    holds(md_store_save_text(store, MD_STORE_DOMAINS, NAME, "pubcert.pem", fuzz_cert_pem(), NULL,
                             p) == APR_SUCCESS);
    holds(md_store_save_text(store, MD_STORE_DOMAINS, NAME, "privkey.pem", fuzz_key_pem(), NULL,
                             p) == APR_SUCCESS);
    fuzz_file("md/accounts/" ACCT "/account.pem", fuzz_key_pem(), strlen(fuzz_key_pem()), p);
}

/* ---- md.json ---- */

static const char *eab_of(const md_json_t *json)
{
    return md_json_get_str(json, "eab.hmac");
}

static md_reg_t *reg_of(md_domain_t *domain, apr_pool_t *p)
{
    apr_array_header_t *domains = apr_array_make(p, 1, sizeof(md_domain_t *));

    if (domain)
        APR_ARRAY_PUSH(domains, md_domain_t *) = domain;
    return md_reg_make(store, conf, domains, p);
}

static apr_status_t discard(void *baton, const char *text)
{
    (void)baton;
    (void)text;
    return APR_SUCCESS;
}

static void check_domain(apr_pool_t *p)
{
    md_err_t err = fuzz_err(p);
    md_out_t out = { discard, NULL, APR_SUCCESS };
    md_json_t *json, *status;
    md_domain_t *domain;
    apr_status_t rv;
    md_reg_t *reg;

    rv = md_reg_load_domain(&domain, reg_of(NULL, p), NAME, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    holds(!strcmp(domain->name, NAME) && domain->names && domain->contacts && domain->acme_tls);
    json = md_domain_to_json(domain, p);
    holds(md_json_equal(json, md_domain_to_json(md_domain_from_json(json, p), p)));
    md_domain_mask(json, p);
    holds(!eab_of(json) || !strcmp(eab_of(json), "***"));
    reg = reg_of(domain, p);
    md_config_complete_windows(domain, conf);
    md_reg_load(reg, p);
    md_live_assess(domain, p);
    (void)md_renew_look(reg, domain, apr_time_now(), p);
    status = md_status_to_json(md_status_whole(reg, domain, apr_time_now(), p), p);
    holds(md_json_text(status, 0, p));
    md_status_write(&out, reg, apr_time_now(), p);
    md_report_html(&out, reg, apr_time_now(), p);
    md_report_text(&out, reg, apr_time_now(), p);
    holds(out.rv == APR_SUCCESS);
}

/* ---- job.json ---- */

static void check_job(apr_pool_t *p)
{
    apr_interval_time_t most = MD_MAX_RETRY_AFTER + MD_MAX_RETRY_AFTER / 2, wait;
    md_err_t err = fuzz_err(p);
    md_job_t *job, *again;
    apr_status_t rv;

    rv = md_job_load(&job, store, MD_STORE_STAGING, NAME, &err, p);
    holds_with(rv, &err);
    holds(job && job->log && job->errors >= 0 && job->errors <= MD_MAX_ERRORS);
    holds(md_json_size(job->log) <= MD_MAX_JOB_LOG);
    wait = md_job_wait(job, apr_time_now(), 0);
    holds(wait >= 0 && wait <= most);
    wait = md_job_backoff(job->errors, apr_time_from_sec(30), 0, 255);
    holds(wait > 0 && wait <= most);
    md_job_log(job, apr_time_now(), "progress", NULL, "x");
    holds(md_job_save(job, store, &err, p) == APR_SUCCESS || strlen(md_json_text(
              md_job_to_json(job, 1, p), 0, p)) > MD_MAX_FILE);
    if (md_job_load(&again, store, MD_STORE_STAGING, NAME, &err, p) == APR_SUCCESS)
        holds(md_json_equal(md_job_to_json(job, 1, p), md_job_to_json(again, 1, p)));
}

/* ---- order.json ---- */

/* What was set up for it goes away, and nothing else. */
static void check_order(apr_pool_t *p)
{
    md_err_t err = fuzz_err(p);
    apr_status_t rv;

    make_dir(MD_STORE_CHALLENGES, OTHER, p);
    rv = md_order_check(store, NAME, &err, p);
    holds_with(rv, &err);
    md_order_drop(store, NAME, p);
    holds(!md_store_exists(store, MD_STORE_STAGING, NAME, "order.json", p));
}

/* ---- account.json ---- */

static void check_account(apr_pool_t *p)
{
    md_acct_wish_t wish = { .ca_url = "https://ca.test/dir", .contacts = md_strings_make(p) };
    md_err_t err = fuzz_err(p);
    md_acct_t *acct, *again;
    apr_status_t rv;

    rv = md_acct_load(&acct, store, MD_STORE_ACCOUNTS, ACCT, &err, p);
    holds_with(rv, &err);
    (void)md_acct_find_id(store, &wish, p);
    if (rv != APR_SUCCESS)
        return;
    holds(acct->url && acct->ca_url && acct->contacts && acct->thumbprint);
    holds(!acct->eab_kid == !acct->eab_hmac && !strcmp(acct->id, ACCT));
    (void)md_acct_next_id(store, acct->ca_url, p);
    holds(md_acct_save(acct, store, MD_STORE_ACCOUNTS, ACCT, &err, p) == APR_SUCCESS);
    holds(md_acct_load(&again, store, MD_STORE_ACCOUNTS, ACCT, &err, p) == APR_SUCCESS);
    holds(md_text_same(acct->url, again->url) && md_text_same(acct->status, again->status));
    holds(md_text_same(acct->ca_url, again->ca_url)
          && md_strings_equal(acct->contacts, again->contacts));
    holds(md_text_same(acct->eab_hmac, again->eab_hmac)
          && md_text_same(acct->agreement, again->agreement));
}

/* ---- httpd.json, md_store.json ---- */

static void check_note(apr_pool_t *p)
{
    md_reg_t *reg = reg_of(NULL, p);

    md_reg_load_note(reg, p);
    holds(reg->http_reachable == !!reg->http_reachable);
    md_reg_save_note(reg, p);
    md_reg_load_note(reg, p);
    holds(!reg->noted.ca_file && !reg->noted.proxy_url); /* as it is configured */
}

/* It holds the key of all others, and is never replaced by another one. */
static void check_central(const char *content, size_t len, apr_pool_t *p)
{
    const char *base = apr_pstrcat(p, fuzz_dir(), "/other", NULL);
    const char *path = apr_pstrcat(p, base, "/md_store.json", NULL);
    md_err_t err = fuzz_err(p);
    md_store_t *opened, *again;
    apr_size_t now_len;
    apr_status_t rv;
    char *now;

    rv = md_store_open(&opened, base, &err, p);
    holds_with(rv, &err);
    holds(md_file_read(&now, &now_len, AT_FDCWD, path, MD_MAX_FILE, p) == APR_SUCCESS);
    if (rv != APR_SUCCESS)
        holds(now_len == len && !memcmp(now, content, len));
    else
        holds(md_store_open(&again, base, &err, p) == APR_SUCCESS);
}

static const struct {
    const char *file, *path;
    void (*check)(apr_pool_t *p);
} FILES[] = {
    { "md.json", "md/domains/" NAME "/md.json", check_domain },
    { "job.json", "md/staging/" NAME "/job.json", check_job },
    { "order.json", "md/staging/" NAME "/order.json", check_order },
    { "account.json", "md/accounts/" ACCT "/account.json", check_account },
    { "httpd.json", "md/httpd.json", check_note },
};

static int is_kept(md_store_group_t group, const char *name, apr_pool_t *p)
{
    return md_store_exists(store, group, name, "kept", p);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const char *content = data, *file = fuzz_line(&content, p);
    size_t i;

    if (!file)
        return;
    len -= (size_t)(content - data);
    if (!strcmp(file, "md_store.json")) {
        fuzz_file("other/md_store.json", content, len, p);
        check_central(content, len, p);
    }
    for (i = 0; i < sizeof(FILES) / sizeof(FILES[0]); ++i) {
        if (strcmp(file, FILES[i].file))
            continue;
        fuzz_file(FILES[i].path, content, len, p);
        FILES[i].check(p);
    }
    holds(is_kept(MD_STORE_DOMAINS, NAME, p) && is_kept(MD_STORE_DOMAINS, OTHER, p)
          && is_kept(MD_STORE_STAGING, NAME, p) && is_kept(MD_STORE_STAGING, OTHER, p)
          && is_kept(MD_STORE_ACCOUNTS, ACCT, p));
}
