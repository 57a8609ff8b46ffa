/* SPDX-License-Identifier: Apache-2.0 */
/* Staged sets and accounts: from files to records, with the rights of children; and from records to
 * what is known of them. */
#include "md_staged.h"

#include <stdlib.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_acme_order.h"
#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_published.h"
#include "md_record.h"
#include "md_set.h"
#include "md_text.h"

/* ---- what there is ---- */

enum { HAS_SET, HAS_ACCOUNT, WHY, ACCT_JSON, ACCT_KEY, ACCT_THUMBPRINT, LOOK_PIECES };

static const md_piece_t LOOK[] = {
    [HAS_SET]         = { .name = "set", .max = 1 },
    [HAS_ACCOUNT]     = { .name = "account", .max = 1 },
    [WHY]             = { .name = "why", .max = MD_MAX_DETAIL },
    [ACCT_JSON]       = { .name = MD_ACCT_JSON, .max = MD_MAX_FILE },
    [ACCT_KEY]        = { .name = MD_ACCT_KEY, .max = MD_MAX_FILE,
                          .label = "ENCRYPTED PRIVATE KEY", .blocks = 1 },
    [ACCT_THUMBPRINT] = { .name = "thumbprint", .max = 256 },
    [LOOK_PIECES]     = { .name = NULL },
};

int md_staged_is_of_account(const char *file)
{
    return !strncmp(file, "account.", 8);
}

static int has_account(const apr_array_header_t *files)
{
    int i;

    for (i = 0; i < files->nelts; ++i)
        if (md_staged_is_of_account(APR_ARRAY_IDX(files, i, const char *)))
            return 1;
    return 0;
}

static int is_damage(apr_status_t rv)
{
    return rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv) && !md_is_lack(rv);
}

/* Most directories have a few of `files` only, and there may be thousands of them. */
static void repair(const md_reg_t *reg, const char *name, const apr_array_header_t *files,
                   apr_pool_t *p)
{
    md_job_t *job;
    md_err_t err;

    md_err_init(&err, p);
    md_reg_open_to_children(reg, MD_STORE_STAGING, name, files, p);
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

static void add_account(apr_array_header_t *record, const md_reg_t *reg, const char *name,
                        apr_pool_t *p)
{
    md_acct_packed_t account;
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, p);
    md_record_add(record, LOOK[HAS_ACCOUNT].name, "1");
    rv = md_acct_pack(&account, reg->store, name, &err, p);
    if (rv == APR_SUCCESS) {
        md_record_add(record, LOOK[ACCT_JSON].name, account.json);
        md_record_add(record, LOOK[ACCT_KEY].name, account.key);
        md_record_add(record, LOOK[ACCT_THUMBPRINT].name, account.thumbprint);
    }
    else if (!APR_STATUS_IS_ENOENT(rv))
        md_record_add(record, LOOK[WHY].name, md_text_line(err.detail, MD_MAX_DETAIL, p));
}

char *md_staged_look(const md_reg_t *reg, const char *name, int repairs, apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(reg->store, MD_STORE_STAGING, name, p);
    apr_array_header_t *record = md_record_make(p);

    if (repairs)
        repair(reg, name, files, p);
    if (md_strings_has(files, MD_DOMAIN_JSON))
        md_record_add(record, LOOK[HAS_SET].name, "1");
    if (has_account(files))
        add_account(record, reg, name, p);
    return md_record_text(record, p);
}

apr_status_t md_staged_parse(md_staged_t *staged, char *record, apr_size_t len, md_err_t *err,
                             apr_pool_t *p)
{
    const char *values[LOOK_PIECES];
    apr_status_t rv;

    rv = md_record_parse(values, LOOK, record, len, err);
    if (rv != APR_SUCCESS)
        return rv;
    if (values[ACCT_JSON] && !(values[ACCT_KEY] && values[ACCT_THUMBPRINT]))
        return md_fail(err, APR_EINVAL, "a part of an account is missing");
    staged->has_set = values[HAS_SET] != NULL;
    staged->has_account = values[HAS_ACCOUNT] != NULL;
    staged->account.json = values[ACCT_JSON];
    staged->account.key = values[ACCT_KEY];
    staged->account.thumbprint = values[ACCT_THUMBPRINT];
    staged->why = md_text_line(values[WHY], MD_MAX_DETAIL, p);
    return APR_SUCCESS;
}

/* ---- reading a set ---- */

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

/* What is found of a set. */
typedef struct found_t {
    md_set_t set;
    const char *account; /* that the document names, or NULL */
    md_job_t *job;
    int number, is_told; /* of a published one */
} found_t;

/* APR_ENOENT: not complete (yet). */
static apr_status_t load_staged(found_t *found, const md_reg_t *reg, const md_domain_t *domain,
                                md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    md_set_t *set = &found->set;
    md_json_t *json;
    apr_status_t rv;
    int i;

    rv = md_reg_load_json(&json, reg, MD_STORE_STAGING, domain->name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    set->ca_url = md_json_get_str(json, "ca.url");
    set->must_staple = md_json_get_bool(json, "must-staple");
    found->account = md_json_get_str(json, "ca.account");
    if (!set->ca_url)
        return APR_ENOENT;
    set->keys = apr_array_make(p, specs->nelts, sizeof(md_key_t *));
    set->chains = apr_array_make(p, specs->nelts, sizeof(apr_array_header_t *));
    for (i = 0; i < specs->nelts && rv == APR_SUCCESS; ++i)
        rv = load_pair(set, reg, domain->name, &APR_ARRAY_IDX(specs, i, md_key_spec_t), err, p);
    return rv;
}

/* What was told since is in a record of its own. */
static apr_status_t load_published(found_t *found, const md_reg_t *reg, const md_domain_t *domain,
                                   md_err_t *err, apr_pool_t *p)
{
    md_published_t published = { .set = found->set };
    apr_status_t rv = md_published_load(&published, reg->store, domain, err, p);
    md_job_t *job;

    found->number = published.number;
    if (rv != APR_SUCCESS)
        return rv;
    found->set = published.set;
    found->account = published.account;
    found->is_told = md_job_load(&job, reg->store, MD_STORE_LIVE, domain->name, NULL, p)
                         == APR_SUCCESS
                     && apr_time_sec(md_job_logged_at(job, "message-installed"))
                            >= apr_time_sec(published.since); /* as exact as the log is */
    if (!found->is_told)
        (void)md_job_parse(&job, MD_STORE_LIVE, domain->name,
                           md_json_text(md_job_to_json(published.job, 1, p), 1, p), NULL, p);
    found->job = job;
    return APR_SUCCESS;
}

static int lacks_must_staple(const md_set_t *set, const md_domain_t *domain, apr_pool_t *p)
{
    const md_cert_t *leaf;
    int i;

    for (i = 0; set->must_staple && domain->must_staple && i < set->chains->nelts; ++i) {
        if (!APR_ARRAY_IDX(set->chains, i, apr_array_header_t *))
            continue;
        leaf = md_chain_leaf(APR_ARRAY_IDX(set->chains, i, apr_array_header_t *));
        if (!md_cert_info(leaf, p)->must_staple)
            return 1;
    }
    return 0;
}

/* MDActivationDelay: a set whose time has not come stays staged, as long as what is live will
 * do. */
static int is_premature(const md_job_t *job, const md_live_t *live, apr_time_t now, apr_pool_t *p)
{
    if (job->valid_from <= now || !md_live_is_sound(live, now))
        return 0;
    md_log(MD_LOG_INFO, "%s: the staged set waits until %s (MDActivationDelay)",
           job->name, md_time_http(job->valid_from, p));
    return 1;
}

static apr_status_t check_set(found_t *found, const md_reg_t *reg, const md_domain_t *domain,
                              md_store_group_t group, const md_live_t *live, md_err_t *err,
                              apr_pool_t *p)
{
    apr_time_t now = md_clock_now();
    apr_status_t rv;

    rv = group == MD_STORE_LIVE ? load_published(found, reg, domain, err, p)
                                : load_staged(found, reg, domain, err, p);
    if (md_is_lack(rv))
        return md_fail(err, APR_EGENERAL, "%s", apr_pstrdup(p, err->detail));
    if (rv == APR_SUCCESS)
        rv = md_set_check(&found->set, domain, md_live_usable(live, now, p), now, err, p);
    if (rv == APR_SUCCESS || rv == APR_EGENERAL || APR_STATUS_IS_ENOENT(rv)
        || APR_STATUS_IS_EEXIST(rv))
        return rv;
    return APR_EINVAL;
}

apr_status_t md_staged_publish(const md_reg_t *reg, const md_domain_t *domain,
                               const md_live_t *live, md_err_t *err, apr_pool_t *p)
{
    found_t found = { .set.issuers = NULL };
    md_published_t published = { .since = md_clock_now() };
    apr_status_t rv;

    (void)md_job_load(&found.job, reg->store, MD_STORE_STAGING, domain->name, NULL, p);
    rv = check_set(&found, reg, domain, MD_STORE_STAGING, live, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    found.job->lacks_must_staple = lacks_must_staple(&found.set, domain, p);
    published.set = found.set;
    published.account = found.account;
    published.job = found.job;
    rv = md_published_save(&published, reg->store, domain, err, p);
    return rv == APR_SUCCESS ? rv : md_fail(err, APR_EGENERAL, "%s", apr_pstrdup(p, err->detail));
}

/* ---- the record of a set ---- */

/* After these come a key and a chain for each key spec. */
enum { STATUS, REASON, CA_URL, ACCOUNT, JOB, NUMBER, IS_TOLD, FIRST_FILE };

static const md_piece_t SET[] = {
    [STATUS]  = { .name = "status", .max = 10, .is_needed = 1 },
    [REASON]  = { .name = "why", .max = MD_MAX_DETAIL },
    [CA_URL]  = { .name = "ca-url", .max = MD_MAX_URI },
    [ACCOUNT] = { .name = "ca-account", .max = 255 },
    [JOB]     = { .name = MD_JOB_JSON, .max = MD_MAX_FILE },
    [NUMBER]  = { .name = "number", .max = 9 },
    [IS_TOLD] = { .name = "told", .max = 1 },
};

static const struct {
    const char *word;
    apr_status_t rv;
} STATUSES[] = {
    { "sound", APR_SUCCESS }, { "incomplete", APR_ENOENT }, { "live", APR_EEXIST },
    { "stuck", APR_EGENERAL }, { "refused", APR_EINVAL },
};
#define STATUS_COUNT (sizeof(STATUSES) / sizeof(STATUSES[0]))

static const char *status_word(apr_status_t rv)
{
    size_t i = 0;

    while (STATUSES[i].rv != rv && i < STATUS_COUNT - 1)
        ++i;
    return STATUSES[i].word;
}

/* Which pieces it may have, for this domain; *pcount of them. */
static const md_piece_t *set_pieces(int *pcount, const md_domain_t *domain, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    md_piece_t *pieces = apr_pcalloc(p, sizeof(SET) + sizeof(md_piece_t)
                                            * (apr_size_t)(2 * specs->nelts + 1)), *piece;
    const md_key_spec_t *spec;
    int i;

    memcpy(pieces, SET, sizeof(SET));
    piece = pieces + FIRST_FILE;
    for (i = 0; i < specs->nelts; ++i) {
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        *piece++ = (md_piece_t){ .name = md_key_spec_file(spec, "privkey", p), .max = MD_MAX_FILE,
                                 .label = "PRIVATE KEY", .blocks = 1 };
        *piece++ = (md_piece_t){ .name = md_key_spec_file(spec, "pubcert", p), .max = MD_MAX_FILE,
                                 .label = "CERTIFICATE", .blocks = MD_MAX_CHAIN };
    }
    *pcount = (int)(piece - pieces);
    return pieces;
}

static apr_status_t add_files(apr_array_header_t *record, const md_set_t *set,
                              const md_domain_t *domain, md_err_t *err, apr_pool_t *p)
{
    int count, i;
    const md_piece_t *piece = set_pieces(&count, domain, p) + FIRST_FILE;
    apr_status_t rv = APR_SUCCESS;
    apr_size_t len;
    const char *pem;

    for (i = 0; i < set->keys->nelts && rv == APR_SUCCESS; ++i, piece += 2) {
        if (!APR_ARRAY_IDX(set->chains, i, apr_array_header_t *))
            continue;
        rv = md_key_to_pem(&pem, &len, APR_ARRAY_IDX(set->keys, i, md_key_t *), NULL, 0, err, p);
        if (rv != APR_SUCCESS)
            return rv;
        md_record_add(record, piece[0].name, pem);
        pem = md_chain_to_pem(APR_ARRAY_IDX(set->chains, i, apr_array_header_t *), p);
        md_record_add(record, piece[1].name, pem);
    }
    return rv;
}

static void add_number(apr_array_header_t *record, const found_t *found)
{
    if (found->number > 0)
        md_record_add(record, SET[NUMBER].name, apr_itoa(record->pool, found->number));
}

static char *refusal(const found_t *found, apr_status_t rv, const md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *record = md_record_make(p);

    md_record_add(record, SET[STATUS].name, status_word(rv));
    if (rv == APR_EINVAL || rv == APR_EGENERAL)
        md_record_add(record, SET[REASON].name, md_text_line(err->detail, MD_MAX_DETAIL, p));
    add_number(record, found);
    return md_record_text(record, p);
}

char *md_staged_read(const md_reg_t *reg, const md_domain_t *domain, md_store_group_t group,
                     const md_live_t *live, apr_hash_t *issuers, apr_pool_t *p)
{
    apr_array_header_t *record = md_record_make(p);
    found_t found = { .set.issuers = issuers };
    int is_staged = group == MD_STORE_STAGING;
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, p);
    if (is_staged)
        (void)md_job_load(&found.job, reg->store, MD_STORE_STAGING, domain->name, NULL, p);
    if (is_staged && is_premature(found.job, live, md_clock_now(), p))
        return refusal(&found, APR_ENOENT, &err, p);
    rv = check_set(&found, reg, domain, group, live, &err, p);
    if (is_staged && (rv == APR_SUCCESS || rv == APR_EINVAL))
        md_order_drop(reg->store, domain->name, p);
    if (rv == APR_SUCCESS)
        rv = add_files(record, &found.set, domain, &err, p);
    if (rv != APR_SUCCESS)
        return refusal(&found, rv, &err, p);
    md_record_add(record, SET[STATUS].name, status_word(rv));
    md_record_add(record, SET[CA_URL].name, found.set.ca_url);
    md_record_add(record, SET[ACCOUNT].name, found.account);
    found.job->lacks_must_staple = lacks_must_staple(&found.set, domain, p);
    md_record_add(record, SET[JOB].name, md_json_text(md_job_to_json(found.job, 1, p), 1, p));
    add_number(record, &found);
    md_record_add(record, SET[IS_TOLD].name, found.is_told ? "1" : NULL);
    return md_record_text(record, p);
}

/* ---- taking a record ---- */

static apr_status_t read_status(apr_status_t *pstatus, const char *word, md_err_t *err)
{
    size_t i;

    for (i = 0; i < STATUS_COUNT; ++i) {
        *pstatus = STATUSES[i].rv;
        if (!strcmp(word, STATUSES[i].word))
            return APR_SUCCESS;
    }
    return md_fail(err, APR_EINVAL, "its status is not known");
}

/* 0: there are none, or others than digits. */
static int read_digits(const char *text)
{
    return text && !text[strspn(text, "0123456789")] ? atoi(text) : 0;
}

/* All that a sound set has to have. */
static apr_status_t take_set(md_staged_set_t *set, const char *const *values, int count,
                             const md_domain_t *domain, md_store_group_t group, md_err_t *err,
                             apr_pool_t *p)
{
    int i;

    if (!values[CA_URL] || !values[JOB])
        return md_fail(err, APR_EINVAL, "a part of the set is missing");
    set->ca_url = values[CA_URL];
    set->account = values[ACCOUNT];
    set->keys = md_strings_make(p);
    set->chains = md_strings_make(p);
    for (i = FIRST_FILE; i < count; i += 2) {
        if (group == MD_STORE_LIVE ? !values[i] != !values[i + 1] : !values[i] || !values[i + 1])
            return md_fail(err, APR_EINVAL, "a part of the set is missing");
        APR_ARRAY_PUSH(set->keys, const char *) = values[i];
        APR_ARRAY_PUSH(set->chains, const char *) = values[i + 1];
    }
    return md_job_parse(&set->job, MD_STORE_TMP, domain->name, values[JOB], err, p);
}

apr_status_t md_staged_parse_set(md_staged_set_t *set, const md_domain_t *domain,
                                 md_store_group_t group, char *record, apr_size_t len,
                                 md_err_t *err, apr_pool_t *p)
{
    int count;
    const md_piece_t *pieces = set_pieces(&count, domain, p);
    const char **values = apr_pcalloc(p, sizeof(char *) * (apr_size_t)count);
    apr_status_t rv;

    rv = md_record_parse(values, pieces, record, len, err);
    if (rv == APR_SUCCESS)
        rv = read_status(&set->rv, values[STATUS], err);
    if (rv != APR_SUCCESS)
        return rv;
    set->why = values[REASON] ? md_text_line(values[REASON], MD_MAX_DETAIL, p) : "";
    set->number = read_digits(values[NUMBER]);
    set->is_told = values[IS_TOLD] != NULL;
    return set->rv == APR_SUCCESS ? take_set(set, values, count, domain, group, err, p)
                                  : APR_SUCCESS;
}
