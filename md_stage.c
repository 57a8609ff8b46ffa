/* SPDX-License-Identifier: Apache-2.0 */
/* Staged sets: their way into service, and what is cleaned up around them. */
#include "md_stage.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_acme_register.h"
#include "md_acme_order.h"
#include "md_clock.h"
#include "md_installed.h"
#include "md_job.h"
#include "md_log.h"
#include "md_set.h"

#define CLEAN_TIME apr_time_from_msec(250) /* for each kind of what a start cleans up */

/* ---- activation ---- */

static apr_status_t load_pair(md_set_t *set, const md_reg_t *reg, const char *name,
                              const md_key_spec_t *spec, md_err_t *err, apr_pool_t *p)
{
    const char *file = md_key_spec_file(spec, "pubcert", p);
    apr_array_header_t *chain;
    md_key_t *key;
    apr_status_t rv;

    rv = md_store_load_key(&key, reg->store, MD_STORE_STAGING, name,
                           md_key_spec_file(spec, "privkey", p), err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_store_load_chain(&chain, set->issuers, reg->store, MD_STORE_STAGING, name, file, err,
                             p);
    if (APR_STATUS_IS_ENOENT(rv) && md_store_exists(reg->store, MD_STORE_STAGING, name, file, p)) {
        md_fail(err, APR_EINVAL, "there is no certificate in %s",
                md_store_path(reg->store, MD_STORE_STAGING, name, file, p));
        md_reg_put_aside(reg, MD_STORE_STAGING, name, file, "it will be ordered again", err, p);
    }
    if (rv != APR_SUCCESS)
        return rv;
    APR_ARRAY_PUSH(set->keys, md_key_t *) = key;
    APR_ARRAY_PUSH(set->chains, apr_array_header_t *) = chain;
    return APR_SUCCESS;
}

/* By the key specs of today. *paccount: the one that the document names, or NULL. APR_ENOENT: not
 * complete (yet). */
static apr_status_t load_staged(md_set_t *set, const char **paccount, const md_reg_t *reg,
                                const md_domain_t *domain, md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    md_json_t *json;
    apr_status_t rv;
    int i;

    rv = md_reg_load_json(&json, reg, MD_STORE_STAGING, domain->name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    set->ca_url = md_json_get_str(json, "ca.url");
    set->must_staple = md_json_get_bool(json, "must-staple");
    *paccount = md_json_get_str(json, "ca.account");
    if (!set->ca_url)
        return APR_ENOENT;
    set->keys = apr_array_make(p, specs->nelts, sizeof(md_key_t *));
    set->chains = apr_array_make(p, specs->nelts, sizeof(apr_array_header_t *));
    for (i = 0; i < specs->nelts && rv == APR_SUCCESS; ++i)
        rv = load_pair(set, reg, domain->name, &APR_ARRAY_IDX(specs, i, md_key_spec_t), err, p);
    return rv;
}

/* The document of what is live, or of the configuration if there is none. Of what staging says it
 * takes over the CA and the account, no more: children wrote it. The account is the one that
 * staging names, else that of the live set, which a renewal prefers; else, or when that does not
 * fit or is gone, the first one: so accounts that domains registered on their own are joined. */
static md_json_t *make_document(const md_set_t *set, const char *account, const md_reg_t *reg,
                                const md_domain_t *domain, apr_pool_t *p)
{
    static const md_live_t COMPLETE = { .state = MD_STATE_COMPLETE };
    md_acct_wish_t wish = { .ca_url = set->ca_url, .eab_kid = domain->eab_kid,
                            .eab_hmac = domain->eab_hmac, .id = account };
    md_domain_t *document;

    if (md_reg_load_domain(&document, reg, domain->name, NULL, p) != APR_SUCCESS)
        document = md_domain_from_json(md_domain_to_json(domain, p), p);
    if (!wish.id)
        wish.id = document->ca_account;
    document->ca_url = set->ca_url;
    document->ca_account = md_acct_find_id(reg->store, &wish, p);
    md_live_replace(document, &COMPLETE);
    return md_domain_to_json(document, p);
}

static int lacks_must_staple(const md_set_t *set, const md_domain_t *domain, apr_pool_t *p)
{
    const md_cert_t *leaf;
    int i;

    for (i = 0; set->must_staple && domain->must_staple && i < set->chains->nelts; ++i) {
        leaf = md_chain_leaf(APR_ARRAY_IDX(set->chains, i, apr_array_header_t *));
        if (!md_cert_info(leaf, p)->must_staple)
            return 1;
    }
    return 0;
}

/* All in tmp, job.json last: with it the set is complete (md_store_recover). */
static apr_status_t write_set(const md_set_t *set, const char *account, const md_reg_t *reg,
                              const md_domain_t *domain, md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    const char *name = domain->name;
    const md_key_spec_t *spec;
    md_job_t *job;
    apr_status_t rv;
    int i;

    md_store_remove(reg->store, MD_STORE_TMP, name, NULL, p);
    rv = md_store_save_json(reg->store, MD_STORE_TMP, name, MD_DOMAIN_JSON,
                            make_document(set, account, reg, domain, p), err, p);
    for (i = 0; i < specs->nelts && rv == APR_SUCCESS; ++i) {
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        rv = md_store_save_key(reg->store, MD_STORE_TMP, name,
                               md_key_spec_file(spec, "privkey", p),
                               APR_ARRAY_IDX(set->keys, i, md_key_t *), err, p);
        if (rv == APR_SUCCESS)
            rv = md_store_save_chain(reg->store, MD_STORE_TMP, name,
                                     md_key_spec_file(spec, "pubcert", p),
                                     APR_ARRAY_IDX(set->chains, i, apr_array_header_t *), err, p);
    }
    if (rv != APR_SUCCESS)
        return rv;
    (void)md_job_load(&job, reg->store, MD_STORE_STAGING, name, NULL, p);
    job->group = MD_STORE_TMP;
    job->lacks_must_staple = lacks_must_staple(set, domain, p);
    if (job->lacks_must_staple)
        md_log(MD_LOG_WARNING, "md[%s]: the CA left out 'must-staple', which MDMustStaple "
               "requests; the certificate is used as it is, and the CA will be asked again at the "
               "next renewal", name);
    if (!reg->is_tool && !md_installed_is_wanted(reg)) /* nobody listens: it counts as told */
        md_job_log(job, md_clock_now(), "message-installed", NULL, NULL);
    return md_job_save(job, reg->store, err, p);
}

/* What goes wrong with what is sound: it stays for the next start, as a full disk must not cost a
 * certificate. */
static apr_status_t keep_staged(apr_status_t rv, md_err_t *err, apr_pool_t *p)
{
    return rv == APR_SUCCESS ? rv : md_fail(err, APR_EGENERAL, "%s. It stays staged, and the next "
                                            "start will try again",
                                            apr_pstrdup(p, err->detail));
}

/* Check the set and have it in tmp. APR_EEXIST: it is in service, and the start that did that was
 * cut short. */
static apr_status_t prepare(const md_reg_t *reg, const md_domain_t *domain, apr_hash_t *issuers,
                            md_err_t *err, apr_pool_t *p)
{
    apr_time_t now = md_clock_now();
    const char *account;
    md_set_t set = { .issuers = issuers };
    apr_status_t rv;

    rv = load_staged(&set, &account, reg, domain, err, p);
    if (md_is_lack(rv))
        return keep_staged(rv, err, p);
    if (rv == APR_SUCCESS)
        rv = md_set_check(&set, domain, md_live_usable(domain, reg->store, reg->known, now, p),
                          now, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    md_order_drop(reg->store, domain->name, p);
    return keep_staged(write_set(&set, account, reg, domain, err, p), err, p);
}

static int is_of_account(const char *file)
{
    return !strncmp(file, "account.", 8);
}

void md_stage_reset(const md_store_t *store, const char *name, apr_pool_t *p)
{
    apr_array_header_t *files;
    const char *file;
    int i;

    md_order_drop(store, name, p);
    files = md_store_files(store, MD_STORE_STAGING, name, p);
    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (!is_of_account(file))
            md_store_remove(store, MD_STORE_STAGING, name, file, p);
    }
}

void md_stage_keep_account(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    const char *id;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    rv = md_acct_promote(&id, reg->store, name, &err, p);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, "md[%s]: staged account not kept: %s", name,
               err.detail ? err.detail : "");
}

static int has_damaged_key(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(reg->store, MD_STORE_STAGING, name, p);
    int i;

    for (i = 0; i < files->nelts; ++i)
        if (strstr(APR_ARRAY_IDX(files, i, const char *), ".pem.damaged"))
            return 1;
    return 0;
}

/* All of it is live now, but an account without its document, which the CA tells by the key; and
 * keys that only an expert may save. */
static void remove_staged(const md_reg_t *reg, const char *name, apr_pool_t *p)
{
    const char *id, *archived;

    /* The rest is no set now. */
    md_store_remove(reg->store, MD_STORE_STAGING, name, MD_DOMAIN_JSON, p);
    if (md_store_exists(reg->store, MD_STORE_STAGING, name, "account.pem", p)
        && md_acct_promote(&id, reg->store, name, NULL, p) != APR_SUCCESS)
        md_stage_reset(reg->store, name, p);
    else if (!has_damaged_key(reg, name, p)
             || md_store_archive(&archived, reg->store, MD_STORE_STAGING, name, NULL, p)
                    != APR_SUCCESS)
        md_store_remove(reg->store, MD_STORE_STAGING, name, NULL, p);
    md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, p);
}

/* Nothing in it can be used by us, but its keys may be worth something to somebody. */
static void give_up_staged(const md_reg_t *reg, const char *name, const md_err_t *why,
                           apr_pool_t *p)
{
    const char *archived;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    md_order_drop(reg->store, name, p);
    md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, p);
    rv = md_store_archive(&archived, reg->store, MD_STORE_STAGING, name, &err, p);
    md_log(MD_LOG_ERR, MD_LOGNO(10069) "%s: error loading staged set, purging it: %s. "
           "A new set is ordered when one is needed; this one %s %s", name, why->detail,
           rv == APR_SUCCESS ? "is kept in" : "cannot be moved to the archive:",
           rv == APR_SUCCESS ? archived : err.detail);
}

/* Tell what became of a set, and tidy up. */
static void conclude(const md_reg_t *reg, const md_domain_t *domain, apr_status_t rv,
                     const md_err_t *err, apr_pool_t *p)
{
    const char *name = domain->name;

    if (rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, MD_LOGNO(10068) "%s: staged set activated", name);
    if (rv == APR_SUCCESS || APR_STATUS_IS_EEXIST(rv))
        remove_staged(reg, name, p);
    else if (rv == APR_EGENERAL)
        md_log(MD_LOG_ERR, "%s: staged set cannot be activated: %s", name, err->detail);
    else if (!APR_STATUS_IS_ENOENT(rv))
        give_up_staged(reg, name, err, p);
}

/* MDArchiveKeep, for those that have another set in the archive now. a2md does not know it. */
static void prune_archive(const md_reg_t *reg, const apr_array_header_t *domains, apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p);
    int i;

    if (reg->is_tool || reg->conf->archive_keep == 0 || domains->nelts == 0)
        return;
    for (i = 0; i < domains->nelts; ++i)
        APR_ARRAY_PUSH(names, const char *) = APR_ARRAY_IDX(domains, i, const md_domain_t *)->name;
    md_store_prune(reg->store, names, reg->conf->archive_keep, p);
}

static void note_installed(const md_reg_t *reg, const apr_array_header_t *domains,
                           const apr_status_t *rvs, apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p);
    int i;

    for (i = 0; i < domains->nelts; ++i)
        if (rvs[i] == APR_SUCCESS)
            APR_ARRAY_PUSH(names, const char *) = APR_ARRAY_IDX(domains, i, md_domain_t *)->name;
    md_installed_note(reg, names, p);
}

/* Put sets that are in tmp into service, together: what is written goes to disk at once, and so do
 * the renames, before what they were made of is removed. Returns the last failure. */
static apr_status_t put_into_service(const md_reg_t *reg, const apr_array_header_t *domains,
                                     md_err_t *err, apr_pool_t *p)
{
    apr_status_t *rvs = apr_pcalloc(p, sizeof(*rvs) * (apr_size_t)domains->nelts), rv, last;
    const md_domain_t *domain;
    int i;

    last = rv = domains->nelts > 0 ? md_store_sync(reg->store, err, p) : APR_SUCCESS;
    for (i = 0; i < domains->nelts; ++i) {
        domain = APR_ARRAY_IDX(domains, i, const md_domain_t *);
        rvs[i] = rv == APR_SUCCESS ? md_store_activate(reg->store, domain->name, err, p) : rv;
        if (rvs[i] != APR_SUCCESS)
            conclude(reg, domain, last = keep_staged(rvs[i], err, p), err, p);
    }
    if (rv == APR_SUCCESS && domains->nelts > 0)
        rv = md_store_sync(reg->store, err, p);
    if (!reg->is_tool)
        note_installed(reg, domains, rvs, p);
    for (i = 0; i < domains->nelts; ++i)
        if (rvs[i] == APR_SUCCESS)
            conclude(reg, APR_ARRAY_IDX(domains, i, const md_domain_t *),
                     keep_staged(rv, err, p), err, p);
    return last;
}

apr_status_t md_stage_activate(const md_reg_t *reg, const md_domain_t *domain, md_err_t *err,
                               apr_pool_t *p)
{
    apr_array_header_t *one = apr_array_make(p, 1, sizeof(const md_domain_t *));
    apr_status_t rv = prepare(reg, domain, NULL, err, p);

    if (rv != APR_SUCCESS) {
        conclude(reg, domain, rv, err, p);
        return APR_STATUS_IS_EEXIST(rv) ? APR_SUCCESS : rv;
    }
    APR_ARRAY_PUSH(one, const md_domain_t *) = domain;
    return put_into_service(reg, one, err, p);
}

/* ---- damage ---- */

static int is_damage(apr_status_t rv)
{
    return rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv) && !md_is_lack(rv);
}

static void open_to_children(const md_reg_t *reg, md_store_group_t group, const char *name,
                             const apr_array_header_t *files, apr_pool_t *p)
{
    const char *file;
    int i;

    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (md_store_open_to_children(reg->store, group, name, file, p))
            md_log(MD_LOG_WARNING, "%s could not be read by the processes that renew certificates: "
                   "its mode has been corrected",
                   md_store_path(reg->store, group, name, file, p));
    }
}

static int has_account(const apr_array_header_t *files)
{
    int i;

    for (i = 0; i < files->nelts; ++i)
        if (is_of_account(APR_ARRAY_IDX(files, i, const char *)))
            return 1;
    return 0;
}

/* Most directories have a few of `files` only, and there may be thousands of them. */
static void repair_staged(const md_reg_t *reg, const char *name, const apr_array_header_t *files,
                          apr_pool_t *p)
{
    md_job_t *job;
    md_err_t err;

    md_err_init(&err, p);
    open_to_children(reg, MD_STORE_STAGING, name, files, p);
    if (is_damage(md_job_load(&job, reg->store, MD_STORE_STAGING, name, &err, p))) {
        md_log(MD_LOG_ERR, "md[%s]: %s; it is removed, and the record of the renewal starts over",
               name, err.detail);
        md_job_remove(reg->store, MD_STORE_STAGING, name, p);
    }
    md_err_clear(&err);
    if (md_strings_has(files, "order.json")
        && is_damage(md_order_check(reg->store, name, &err, p))) {
        md_log(MD_LOG_ERR, "md[%s]: %s; it is removed, and a new order is placed", name,
               err.detail);
        md_store_remove(reg->store, MD_STORE_STAGING, name, "order.json", p);
    }
    if (has_account(files))
        md_acct_repair(reg->store, MD_STORE_STAGING, name, p);
}

static void repair_accounts(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *ids = md_store_names(reg->store, MD_STORE_ACCOUNTS, p);
    apr_pool_t *iter;
    const char *id;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < ids->nelts; ++i) {
        apr_pool_clear(iter);
        id = APR_ARRAY_IDX(ids, i, const char *);
        open_to_children(reg, MD_STORE_ACCOUNTS, id,
                         md_store_files(reg->store, MD_STORE_ACCOUNTS, id, iter), iter);
        md_acct_repair(reg->store, MD_STORE_ACCOUNTS, id, iter);
    }
    apr_pool_destroy(iter);
}

/* ---- activation of all ---- */

/* MDActivationDelay: a set whose time has not come stays staged, as long as what is live will
 * do. */
static int is_premature(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    apr_time_t now = md_clock_now();
    md_job_t *job;

    if (md_job_load(&job, reg->store, MD_STORE_STAGING, domain->name, NULL, p) != APR_SUCCESS
        || job->valid_from <= now || !md_live_is_sound(domain, reg->store, now, p))
        return 0;
    md_log(MD_LOG_INFO, "%s: the staged set waits until %s (MDActivationDelay)",
           domain->name, md_time_http(job->valid_from, p));
    return 1;
}

/* Accounts staged for no domain: of a CA that was left, or of a tool that was cut short. */
static void keep_lone_accounts(const md_reg_t *reg, const apr_array_header_t *staged,
                               apr_pool_t *p)
{
    const char *name, *id;
    int i;

    for (i = 0; i < staged->nelts; ++i) {
        name = APR_ARRAY_IDX(staged, i, const char *);
        if (!strncmp(name, MD_ACCT_ALONE, strlen(MD_ACCT_ALONE))
            && md_acct_promote(&id, reg->store, name, NULL, p) == APR_SUCCESS)
            md_store_remove(reg->store, MD_STORE_STAGING, name, NULL, p);
    }
}

/* The domains that have something in staging. */
static apr_array_header_t *staged_domains(const md_reg_t *reg, const apr_array_header_t *staged,
                                          apr_pool_t *p)
{
    apr_array_header_t *domains = apr_array_make(p, staged->nelts + 1, sizeof(md_domain_t *));
    apr_hash_t *names = apr_hash_make(p);
    int i;

    for (i = 0; i < staged->nelts; ++i)
        apr_hash_set(names, APR_ARRAY_IDX(staged, i, const char *), APR_HASH_KEY_STRING, "");
    for (i = 0; i < reg->domains->nelts; ++i)
        if (apr_hash_get(names, md_reg_domain(reg, i)->name, APR_HASH_KEY_STRING))
            APR_ARRAY_PUSH(domains, md_domain_t *) = md_reg_domain(reg, i);
    return domains;
}

static void keep_accounts(const md_reg_t *reg, const apr_array_header_t *domains, apr_pool_t *p)
{
    const apr_array_header_t *files;
    apr_pool_t *iter;
    const char *name;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < domains->nelts; ++i) {
        apr_pool_clear(iter);
        name = APR_ARRAY_IDX(domains, i, const md_domain_t *)->name;
        files = md_store_files(reg->store, MD_STORE_STAGING, name, iter);
        repair_staged(reg, name, files, iter);
        if (has_account(files))
            md_stage_keep_account(reg, name, iter);
    }
    apr_pool_destroy(iter);
}

/* Those of the domains whose sets are in tmp now. */
static apr_array_header_t *prepare_all(const md_reg_t *reg, const apr_array_header_t *domains,
                                       apr_pool_t *p)
{
    apr_array_header_t *ready = apr_array_make(p, domains->nelts + 1, sizeof(md_domain_t *));
    apr_hash_t *issuers = apr_hash_make(p);
    const md_domain_t *domain;
    apr_status_t rv;
    apr_pool_t *iter;
    md_err_t err;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < domains->nelts; ++i) {
        apr_pool_clear(iter);
        md_err_init(&err, iter);
        domain = APR_ARRAY_IDX(domains, i, const md_domain_t *);
        if (is_premature(reg, domain, iter))
            continue;
        rv = prepare(reg, domain, issuers, &err, iter);
        if (rv == APR_SUCCESS)
            APR_ARRAY_PUSH(ready, const md_domain_t *) = domain;
        else
            conclude(reg, domain, rv, &err, iter);
    }
    apr_pool_destroy(iter);
    return ready;
}

void md_stage_activate_all(md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *staged = md_store_names(reg->store, MD_STORE_STAGING, p), *domains, *ready;
    md_err_t err;

    md_err_init(&err, p);
    repair_accounts(reg, p);
    keep_lone_accounts(reg, staged, p);
    domains = staged_domains(reg, staged, p);
    keep_accounts(reg, domains, p); /* of all before any set: several sets may share one */
    ready = prepare_all(reg, domains, p);
    (void)put_into_service(reg, ready, &err, p);
    prune_archive(reg, ready, p);
}

/* ---- for which configuration ---- */

/* What tells whether a staged renewal is for the configuration of today: not how far it got. */
static md_json_t *comparable(const md_domain_t *domain, apr_pool_t *p)
{
    md_json_t *json = md_domain_to_json(domain, p);

    md_json_unset(json, "state");
    md_json_unset(json, "state-descr");
    md_json_unset(json, "ca.account");
    md_json_unset(json, "ca.url");
    return json;
}

int md_stage_fits(const md_domain_t *staged, const md_domain_t *domain, apr_pool_t *p)
{
    return staged->ca_url && md_strings_has(domain->ca_urls, staged->ca_url)
           && md_json_equal(comparable(staged, p), comparable(domain, p));
}

static int is_staged_for(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    md_json_t *json;

    return md_store_load_json(&json, reg->store, MD_STORE_STAGING, domain->name, MD_DOMAIN_JSON,
                              NULL, p) == APR_SUCCESS
           && md_stage_fits(md_domain_from_json(json, p), domain, p);
}

/* ---- cleaning ---- */

/* Whoever reloads wants to see now whether it works. How often it failed stays known, so that
 * back-off and failover go on; and what the CA does not want to be asked for before its time, or
 * as long as the same is configured. */
static void try_again(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    const char *name = domain->name;
    apr_status_t rv;
    md_job_t *job;
    md_err_t err;

    md_err_init(&err, p);
    if (md_job_load(&job, reg->store, MD_STORE_STAGING, name, NULL, p) != APR_SUCCESS
        || job->errors == 0 || (job->needs_change && is_staged_for(reg, domain, p)))
        return;
    md_log(MD_LOG_NOTICE, MD_LOGNO(10064) "md(%s): previous drive job showed %d "
           "errors, trying again now", name, job->errors);
    job->next_run = job->retry_after;
    rv = md_job_save(job, reg->store, &err, p);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: %s; the next attempt will be made when it was planned",
               name,
               err.detail);
}

/* Children may have filled what is to be cleaned: when the time for it is over, the rest is for the
 * next start. */
static int is_over(apr_time_t end)
{
    return md_clock_steady() >= end;
}

/* Files that were never finished, of a crash or a full disk. Only what died could leave any in
 * thousands of directories that are seldom written to: a reload does not look there. */
static void sweep(const md_reg_t *reg, apr_pool_t *p)
{
    apr_time_t end = md_clock_steady() + CLEAN_TIME;
    static const md_store_group_t GROUPS[] = {
        MD_STORE_ACCOUNTS, MD_STORE_STAGING, MD_STORE_DOMAINS, MD_STORE_OCSP
    };
    size_t g, count = sizeof(GROUPS) / sizeof(GROUPS[0]) - (reg->is_reload ? 2 : 0);
    apr_array_header_t *names;
    apr_time_t now = md_clock_now();
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    md_store_sweep(reg->store, MD_STORE_DOMAINS, NULL, now, iter);
    for (g = 0; g < count; ++g) {
        names = md_store_names(reg->store, GROUPS[g], p);
        for (i = 0; i < names->nelts && !is_over(end); ++i) {
            apr_pool_clear(iter);
            md_store_sweep(reg->store, GROUPS[g], APR_ARRAY_IDX(names, i, const char *), now, iter);
        }
    }
    apr_pool_destroy(iter);
}

/* Challenges for names that nobody manages. */
static void remove_foreign(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(reg->store, MD_STORE_CHALLENGES, p);
    apr_time_t end = md_clock_steady() + CLEAN_TIME;
    const char *name;
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < names->nelts && !is_over(end); ++i) {
        apr_pool_clear(iter);
        name = APR_ARRAY_IDX(names, i, const char *);
        if (!md_index_find(reg->index, name)
            && !md_index_find(reg->index, apr_pstrcat(iter, "*.", name, NULL)))
            md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, iter);
    }
    apr_pool_destroy(iter);
}

void md_stage_clean(md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *staged = md_store_names(reg->store, MD_STORE_STAGING, p), *domains;
    const md_domain_t *domain;
    apr_pool_t *iter;
    int i;

    domains = staged_domains(reg, staged, p);
    apr_pool_create(&iter, p);
    for (i = 0; i < domains->nelts; ++i) {
        apr_pool_clear(iter);
        domain = APR_ARRAY_IDX(domains, i, const md_domain_t *);
        if (domain->is_watched)
            try_again(reg, domain, iter);
    }
    apr_pool_destroy(iter);
    sweep(reg, p);
    remove_foreign(reg, p);
}
