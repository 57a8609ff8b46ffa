/* SPDX-License-Identifier: Apache-2.0 */
/* Staged sets: their way into service, and what is cleaned up around them. Nothing that children
 * wrote is read here: md_staged does that, in readers. */
#include "md_stage.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_acme_order.h"
#include "md_acme_register.h"
#include "md_clock.h"
#include "md_installed.h"
#include "md_job.h"
#include "md_log.h"
#include "md_published.h"
#include "md_reader.h"
#include "md_staged.h"

#define CLEAN_TIME apr_time_from_msec(250) /* for each kind of what a start cleans up */

/* What is staged, or published, under a name. */
typedef struct item_t {
    md_store_group_t group;
    const char *name;
    const md_domain_t *domain; /* NULL: an account for no domain */
    const md_live_t *live;     /* what a set would take the place of */
    int is_unread;             /* it could not be read, and waits for the next start */
    int has_set;
    int number;                /* of the one that is published, 0: none */
    int is_told;               /* it was, of being installed */
    const char *account;       /* id under which the account is stored that was staged, or NULL */
    apr_status_t rv;           /* how it went with the set */
    md_err_t err;
} item_t;

/* Those that are read together. */
typedef struct batch_t {
    const md_reg_t *reg;
    apr_array_header_t *items; /* `item_t *` */
    int repairs;               /* what is damaged */
    apr_hash_t *issuers;       /* of all sets, in each reader */
    apr_hash_t *accounts;      /* ids of stored ones that fit, by what they were wished for */
    apr_pool_t *p;
} batch_t;

static item_t *item_at(const batch_t *batch, int i)
{
    return APR_ARRAY_IDX(batch->items, i, item_t *);
}

static batch_t make_batch(const md_reg_t *reg, int repairs, apr_pool_t *p)
{
    batch_t batch = { .reg = reg, .items = apr_array_make(p, 8, sizeof(item_t *)),
                      .repairs = repairs, .issuers = apr_hash_make(p),
                      .accounts = apr_hash_make(p), .p = p };

    return batch;
}

static item_t *add_item(batch_t *batch, const char *name, const md_domain_t *domain)
{
    item_t *item = apr_pcalloc(batch->p, sizeof(*item));

    item->group = MD_STORE_STAGING;
    item->name = name;
    item->domain = domain;
    md_err_init(&item->err, batch->p);
    APR_ARRAY_PUSH(batch->items, item_t *) = item;
    return item;
}

static int has_set(const item_t *item)
{
    return item->has_set && !item->is_unread;
}

static int is_ready(const item_t *item)
{
    return has_set(item) && item->rv == APR_SUCCESS;
}

/* What was staged is in service now, or was before. */
static int is_live(const item_t *item)
{
    return has_set(item) && (item->rv == APR_SUCCESS || APR_STATUS_IS_EEXIST(item->rv));
}

static int is_watched(const item_t *item)
{
    return item->domain && item->domain->is_watched;
}

/* Those of a batch that are so. */
static batch_t part_of(const batch_t *batch, int (*is_so)(const item_t *item))
{
    batch_t part = *batch;
    int i;

    part.items = apr_array_make(batch->p, batch->items->nelts + 1, sizeof(item_t *));
    for (i = 0; i < batch->items->nelts; ++i)
        if (is_so(item_at(batch, i)))
            APR_ARRAY_PUSH(part.items, item_t *) = item_at(batch, i);
    return part;
}

/* All that is staged, for domains and for accounts alone: of a CA that was left, or of a tool that
 * was cut short. */
static batch_t staged_batch(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *staged = md_store_names(reg->store, MD_STORE_STAGING, p);
    batch_t batch = make_batch(reg, 1, p);
    apr_hash_t *names = apr_hash_make(p);
    const md_domain_t *domain;
    const char *name;
    int i;

    for (i = 0; i < staged->nelts; ++i) {
        name = APR_ARRAY_IDX(staged, i, const char *);
        apr_hash_set(names, name, APR_HASH_KEY_STRING, "");
        if (!strncmp(name, MD_ACCT_ALONE, strlen(MD_ACCT_ALONE)))
            add_item(&batch, name, NULL);
    }
    for (i = 0; i < reg->domains->nelts; ++i) {
        domain = md_reg_domain(reg, i);
        if (apr_hash_get(names, domain->name, APR_HASH_KEY_STRING))
            add_item(&batch, domain->name, domain);
    }
    return batch;
}

/* What is in service, but not in `domains` yet. */
static batch_t published_batch(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *published = md_store_names(reg->store, MD_STORE_LIVE, p);
    batch_t batch = make_batch(reg, 0, p);
    apr_hash_t *names = apr_hash_make(p);
    const md_domain_t *domain;
    item_t *item;
    int i;

    for (i = 0; i < published->nelts; ++i)
        apr_hash_set(names, APR_ARRAY_IDX(published, i, const char *), APR_HASH_KEY_STRING, "");
    for (i = 0; i < reg->domains->nelts && published->nelts > 0; ++i) {
        domain = md_reg_domain(reg, i);
        if (!apr_hash_get(names, domain->name, APR_HASH_KEY_STRING))
            continue;
        item = add_item(&batch, domain->name, domain);
        item->group = MD_STORE_LIVE;
        item->has_set = 1;
    }
    return batch;
}

/* ---- reading ---- */

/* They work while we do something else. `batch` lives until the end of that. */
static md_readers_t *begin_reading(batch_t *batch, md_reading_t reading)
{
    md_rights_t rights;

    reading.rights = md_reg_rights(&rights, batch->reg, batch->p);
    reading.count = batch->items->nelts;
    reading.baton = batch;
    return md_reader_start(&reading, batch->p);
}

static void read_batch(batch_t *batch, md_reading_t reading)
{
    md_reader_finish(begin_reading(batch, reading));
}

/* Something is wrong with the reader, or with what it said. */
static void leave_unread(item_t *item, const char *why)
{
    item->is_unread = 1;
    item->rv = md_fail(&item->err, APR_EGENERAL, "what is staged could not be read: %s. It stays "
                       "staged, and the next start will try again", why);
    md_log(MD_LOG_ERR, "md[%s]: %s", item->name, item->err.detail);
}

/* ---- accounts ---- */

static char *look(void *baton, int i, apr_pool_t *p)
{
    const batch_t *batch = baton;

    return md_staged_look(batch->reg, item_at(batch, i)->name, batch->repairs, p);
}

static void keep_account(const batch_t *batch, item_t *item, const md_staged_t *staged,
                         apr_pool_t *p)
{
    const char *id;

    if (staged->why)
        item->rv = md_fail(&item->err, APR_EINVAL, "%s", staged->why);
    else if (staged->account.json)
        item->rv = md_acct_keep(&id, batch->reg->store, &staged->account, &item->err, p);
    else
        item->rv = APR_ENOENT;
    if (item->rv == APR_SUCCESS)
        item->account = apr_pstrdup(batch->p, id);
}

static void take_look(void *baton, int i, char *record, apr_size_t len, const char *why,
                      apr_pool_t *p)
{
    const batch_t *batch = baton;
    item_t *item = item_at(batch, i);
    md_staged_t staged;
    md_err_t err;

    md_err_init(&err, p);
    if (record && md_staged_parse(&staged, record, len, &err, p) != APR_SUCCESS)
        why = err.detail;
    if (why) {
        leave_unread(item, why);
        return;
    }
    item->has_set = item->domain && staged.has_set;
    keep_account(batch, item, &staged, p);
}

static void read_accounts(batch_t *batch)
{
    static const md_reading_t READING = { .read = look, .take = take_look };

    read_batch(batch, READING);
}

static void tell_accounts(const batch_t *batch)
{
    const item_t *item;
    int i;

    for (i = 0; i < batch->items->nelts; ++i) {
        item = item_at(batch, i);
        if (!item->is_unread && item->rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(item->rv))
            md_log(MD_LOG_WARNING, "md[%s]: staged account not kept: %s", item->name,
                   item->err.detail);
    }
}

apr_status_t md_stage_keep_account(const char **pid, const md_reg_t *reg, const char *name,
                                   md_err_t *err, apr_pool_t *p)
{
    batch_t batch = make_batch(reg, 0, p);
    const item_t *item = add_item(&batch, name, NULL);

    read_accounts(&batch);
    *pid = item->account;
    if (item->rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(item->rv))
        md_err_copy(err, &item->err);
    return item->rv;
}

void md_stage_keep_accounts(const md_reg_t *reg, apr_pool_t *p)
{
    batch_t batch = make_batch(reg, 0, p);
    int i;

    for (i = 0; i < reg->domains->nelts; ++i)
        add_item(&batch, md_reg_domain(reg, i)->name, NULL);
    read_accounts(&batch);
    tell_accounts(&batch);
}

/* ---- a set on its way ---- */

/* Many sets have the same. */
static const char *find_account(const batch_t *batch, const md_acct_wish_t *wish, apr_pool_t *p)
{
    const char *key = apr_psprintf(p, "%s %s %s %s", wish->ca_url,
                                   wish->eab_kid ? wish->eab_kid : "",
                                   wish->eab_hmac ? wish->eab_hmac : "", wish->id ? wish->id : "");
    const char *id = apr_hash_get(batch->accounts, key, APR_HASH_KEY_STRING);

    if (id)
        return id;
    id = md_acct_find_id(batch->reg->store, wish, p);
    if (id)
        apr_hash_set(batch->accounts, apr_pstrdup(batch->p, key), APR_HASH_KEY_STRING,
                     apr_pstrdup(batch->p, id));
    return id;
}

/* The document of what is live, or of the configuration if there is none. Of what staging says it
 * takes over the CA and the account, no more: children wrote it. The account is the one that
 * staging names, else that of the live set, which a renewal prefers; else, or when that does not
 * fit or is gone, the first one: so accounts that domains registered on their own are joined. */
static md_json_t *make_document(const md_staged_set_t *set, const batch_t *batch,
                                const md_domain_t *domain, apr_pool_t *p)
{
    static const md_live_t COMPLETE = { .state = MD_STATE_COMPLETE };
    md_acct_wish_t wish = { .ca_url = set->ca_url, .eab_kid = domain->eab_kid,
                            .eab_hmac = domain->eab_hmac, .id = set->account };
    md_domain_t *document;

    if (md_reg_load_domain(&document, batch->reg, domain->name, NULL, p) != APR_SUCCESS)
        document = md_domain_from_json(md_domain_to_json(domain, p), p);
    if (!wish.id)
        wish.id = document->ca_account;
    document->ca_url = set->ca_url;
    document->ca_account = find_account(batch, &wish, p);
    md_live_replace(document, &COMPLETE);
    return md_domain_to_json(document, p);
}

/* A start tells of it, if somebody listens; else it counts as told. */
static void complete_job(md_job_t *job, const md_reg_t *reg)
{
    if (job->lacks_must_staple)
        md_log(MD_LOG_WARNING, "md[%s]: the CA left out 'must-staple', which MDMustStaple "
               "requests; the certificate is used as it is, and the CA will be asked again at the "
               "next renewal", job->name);
    if (!reg->is_tool && !md_installed_is_wanted(reg))
        md_job_log(job, md_clock_now(), "message-installed", NULL, NULL);
}

static void add_file(apr_array_header_t *files, const char *file, const char *text)
{
    APR_ARRAY_PUSH(files, md_store_file_t) = (md_store_file_t){ file, text };
}

/* In tmp, the record last: with it the set is complete (md_store_recover). */
static apr_status_t write_set(const md_staged_set_t *set, const batch_t *batch,
                              const md_domain_t *domain, md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    apr_array_header_t *files = apr_array_make(p, 4, sizeof(md_store_file_t));
    const md_key_spec_t *spec;
    int i;

    add_file(files, MD_DOMAIN_JSON, md_json_text(make_document(set, batch, domain, p), 0, p));
    for (i = 0; i < specs->nelts; ++i) {
        if (!APR_ARRAY_IDX(set->chains, i, const char *))
            continue;
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        add_file(files, md_key_spec_file(spec, "privkey", p),
                 APR_ARRAY_IDX(set->keys, i, const char *));
        add_file(files, md_key_spec_file(spec, "pubcert", p),
                 APR_ARRAY_IDX(set->chains, i, const char *));
    }
    complete_job(set->job, batch->reg);
    add_file(files, MD_JOB_JSON, md_json_text(md_job_to_json(set->job, 1, p), 0, p));
    return md_store_make_set(batch->reg->store, domain->name, files, err, p);
}

/* What goes wrong with what is sound: it stays for the next start, as a full disk must not cost a
 * certificate. */
static apr_status_t keep_staged(apr_status_t rv, md_err_t *err, apr_pool_t *p)
{
    return rv == APR_SUCCESS ? rv : md_fail(err, APR_EGENERAL, "%s. It stays where it is, and the "
                                            "next start will try again",
                                            apr_pstrdup(p, err->detail));
}

/* ---- what becomes of what is staged ---- */

static void remove_all_but_account(const md_store_t *store, const char *name, apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(store, MD_STORE_STAGING, name, p);
    const char *file;
    int i;

    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (!md_staged_is_of_account(file))
            md_store_remove(store, MD_STORE_STAGING, name, file, p);
    }
}

void md_stage_reset(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_order_drop(store, name, p);
    remove_all_but_account(store, name, p);
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

/* All of it is live now, but an account that could not be kept, such as one without its document,
 * which the CA tells by the key; and keys that only an expert may save: those are for the archive,
 * and the record says so. */
static char *remove_live(void *baton, int i, apr_pool_t *p)
{
    const batch_t *batch = baton;
    const md_store_t *store = batch->reg->store;
    const item_t *item = item_at(batch, i);
    int is_kept = 0;

    /* The rest is no set now. */
    md_store_remove(store, MD_STORE_STAGING, item->name, MD_DOMAIN_JSON, p);
    if (!item->account && md_store_exists(store, MD_STORE_STAGING, item->name, MD_ACCT_KEY, p))
        remove_all_but_account(store, item->name, p);
    else if (has_damaged_key(batch->reg, item->name, p))
        is_kept = 1;
    else
        md_store_remove(store, MD_STORE_STAGING, item->name, NULL, p);
    md_store_remove(store, MD_STORE_CHALLENGES, item->name, NULL, p);
    return apr_pstrdup(p, is_kept ? "archive" : "");
}

/* What was not removed is found to be live by the next start. */
static void take_rest(void *baton, int i, char *record, apr_size_t len, const char *why,
                      apr_pool_t *p)
{
    const batch_t *batch = baton;
    const md_store_t *store = batch->reg->store;
    const item_t *item = item_at(batch, i);
    const char *name = item->name, *archived;

    (void)len;
    if (why) {
        md_log(MD_LOG_WARNING, "md[%s]: what was staged is in service, but could not be removed "
               "from staging: %s. The next start will try again", name, why);
        return;
    }
    if (*record && md_store_archive(&archived, store, MD_STORE_STAGING, name, NULL, p)
                       != APR_SUCCESS)
        md_store_remove(store, MD_STORE_STAGING, name, NULL, p);
}

/* It takes longer than to put it into service, and there is no hurry. */
static md_readers_t *begin_removal(const batch_t *all)
{
    static const md_reading_t READING = { .read = remove_live, .take = take_rest };
    batch_t *batch = apr_palloc(all->p, sizeof(*batch));

    *batch = part_of(all, is_live);
    return begin_reading(batch, READING);
}

/* Nothing in it can be used by us, but its keys may be worth something to somebody. */
static void give_up(const md_reg_t *reg, const item_t *item, apr_pool_t *p)
{
    const char *name = item->name, *archived;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    md_store_remove(reg->store, MD_STORE_CHALLENGES, name, NULL, p);
    rv = md_store_archive(&archived, reg->store, item->group, name, &err, p);
    md_log(MD_LOG_ERR, MD_LOGNO(10069) "%s: error loading staged set, purging it: %s. "
           "A new set is ordered when one is needed; this one %s %s", name, item->err.detail,
           rv == APR_SUCCESS ? "is kept in" : "cannot be moved to the archive:",
           rv == APR_SUCCESS ? archived : err.detail);
}

/* The same for one that was in service already. Children of the generation before may still look
 * for it; those of the new one remove it, or another start does. */
static void conclude_published(const md_reg_t *reg, const item_t *item, apr_pool_t *p)
{
    if (item->rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, "%s: the set that was put into service without a restart is now the "
               "stored one", item->name);
    else if (APR_STATUS_IS_EEXIST(item->rv) || APR_STATUS_IS_ENOENT(item->rv))
        md_published_remove(reg->store, item->name, item->number, p);
    else if (item->rv == APR_EGENERAL)
        md_log(MD_LOG_ERR, "%s: the set in service cannot become the stored one: %s", item->name,
               item->err.detail);
    else
        give_up(reg, item, p);
}

/* Tell what became of a set. */
static void conclude(const md_reg_t *reg, const item_t *item, apr_pool_t *p)
{
    if (item->group == MD_STORE_LIVE) {
        conclude_published(reg, item, p);
        return;
    }
    /* What was staged is later than what is published: that must not be found by the next start. */
    if (item->number > 0 && is_live(item))
        md_published_remove(reg->store, item->name, item->number, p);
    if (item->rv == APR_SUCCESS)
        md_log(MD_LOG_INFO, MD_LOGNO(10068) "%s: staged set activated", item->name);
    else if (item->rv == APR_EGENERAL)
        md_log(MD_LOG_ERR, "%s: staged set cannot be activated: %s", item->name,
               item->err.detail);
    else if (!APR_STATUS_IS_ENOENT(item->rv) && !APR_STATUS_IS_EEXIST(item->rv))
        give_up(reg, item, p);
}

/* ---- sets ---- */

static char *read_set(void *baton, int i, apr_pool_t *p)
{
    const batch_t *batch = baton;
    const item_t *item = item_at(batch, i);

    return md_staged_read(batch->reg, item->domain, item->group, item->live, batch->issuers, p);
}

/* A sound one is in tmp afterwards. */
static apr_status_t prepare(const batch_t *batch, item_t *item, const md_staged_set_t *set,
                            apr_pool_t *p)
{
    if (set->rv == APR_SUCCESS)
        return keep_staged(write_set(set, batch, item->domain, &item->err, p), &item->err, p);
    (void)md_fail(&item->err, set->rv, "%s", set->why);
    return set->rv == APR_EGENERAL ? keep_staged(set->rv, &item->err, p) : set->rv;
}

static void take_set(void *baton, int i, char *record, apr_size_t len, const char *why,
                     apr_pool_t *p)
{
    const batch_t *batch = baton;
    item_t *item = item_at(batch, i);
    md_staged_set_t set = { .number = 0 };
    md_err_t err;

    md_err_init(&err, p);
    md_err_clear(&item->err);
    if (record && md_staged_parse_set(&set, item->domain, item->group, record, len, &err, p)
                  != APR_SUCCESS)
        why = err.detail;
    if (item->group == MD_STORE_LIVE) {
        item->number = set.number;
        item->is_told = set.is_told;
    }
    if (why)
        leave_unread(item, why);
    else {
        item->rv = prepare(batch, item, &set, p);
        if (item->rv != APR_SUCCESS)
            conclude(batch->reg, item, p);
    }
    if (record)
        md_wipe(record, len);
}

/* What is live is root's own, and readers cannot see it. */
static void read_sets(batch_t *batch)
{
    static const md_reading_t READING = { .read = read_set, .take = take_set };
    apr_time_t now = md_clock_now();
    item_t *item;
    int i;

    for (i = 0; i < batch->items->nelts; ++i) {
        item = item_at(batch, i);
        item->live = md_live_look(item->domain, batch->reg->store, batch->reg->known, now,
                                  batch->p);
    }
    read_batch(batch, READING);
}

/* ---- into service ---- */

/* MDArchiveKeep, for those that have another set in the archive now. a2md does not know it. */
static void prune_archive(const batch_t *batch)
{
    apr_array_header_t *names = md_strings_make(batch->p);
    int i, keep = batch->reg->conf->archive_keep;

    if (batch->reg->is_tool || keep == 0 || batch->items->nelts == 0)
        return;
    for (i = 0; i < batch->items->nelts; ++i)
        APR_ARRAY_PUSH(names, const char *) = item_at(batch, i)->name;
    md_store_prune(batch->reg->store, names, keep, batch->p);
}

static void note_installed(const batch_t *batch)
{
    apr_array_header_t *names = md_strings_make(batch->p);
    int i;

    if (batch->reg->is_tool)
        return;
    for (i = 0; i < batch->items->nelts; ++i)
        if (item_at(batch, i)->rv == APR_SUCCESS && !item_at(batch, i)->is_told)
            APR_ARRAY_PUSH(names, const char *) = item_at(batch, i)->name;
    md_installed_note(batch->reg, names, batch->p);
}

/* All that was written for the batch is on disk, or nothing of it counts. */
static void sync_all(const batch_t *batch)
{
    apr_status_t rv;
    md_err_t err;
    item_t *item;
    int i;

    md_err_init(&err, batch->p);
    rv = batch->items->nelts > 0 ? md_store_sync(batch->reg->store, &err, batch->p) : APR_SUCCESS;
    for (i = 0; rv != APR_SUCCESS && i < batch->items->nelts; ++i) {
        item = item_at(batch, i);
        if (item->rv == APR_SUCCESS) {
            md_err_copy(&item->err, &err);
            item->rv = keep_staged(rv, &item->err, batch->p);
        }
    }
}

static void activate_all(const batch_t *batch)
{
    const md_store_t *store = batch->reg->store;
    apr_pool_t *iter;
    item_t *item;
    int i;

    apr_pool_create(&iter, batch->p);
    for (i = 0; i < batch->items->nelts; ++i) {
        apr_pool_clear(iter);
        item = item_at(batch, i);
        if (item->rv == APR_SUCCESS)
            item->rv = keep_staged(md_store_activate(store, item->name, &item->err, iter),
                                   &item->err, iter);
    }
    apr_pool_destroy(iter);
}

/* Put sets that are in tmp into service, together: what is written goes to disk at once, and so do
 * the renames, before what they were made of is removed. */
static void put_into_service(const batch_t *batch)
{
    apr_pool_t *iter;
    int i;

    sync_all(batch);
    activate_all(batch);
    note_installed(batch);
    sync_all(batch);
    apr_pool_create(&iter, batch->p);
    for (i = 0; i < batch->items->nelts; ++i) {
        apr_pool_clear(iter);
        conclude(batch->reg, item_at(batch, i), iter);
    }
    apr_pool_destroy(iter);
}

/* ---- activation ---- */

apr_status_t md_stage_activate(const md_reg_t *reg, const md_domain_t *domain, md_err_t *err,
                               apr_pool_t *p)
{
    batch_t all = make_batch(reg, 0, p), part;
    item_t *item = add_item(&all, domain->name, domain);

    read_accounts(&all);
    tell_accounts(&all);
    part = part_of(&all, has_set);
    if (part.items->nelts == 0 && !item->is_unread)
        return APR_ENOENT;
    read_sets(&part);
    part = part_of(&part, is_ready);
    put_into_service(&part);
    md_reader_finish(begin_removal(&all));
    if (item->rv != APR_SUCCESS)
        md_err_copy(err, &item->err);
    return APR_STATUS_IS_EEXIST(item->rv) ? APR_SUCCESS : item->rv;
}

/* Damage of what is root's own. */
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
        md_reg_open_to_children(reg, MD_STORE_ACCOUNTS, id,
                                md_store_files(reg->store, MD_STORE_ACCOUNTS, id, iter), iter);
        md_acct_repair(reg->store, MD_STORE_ACCOUNTS, id, iter);
    }
    apr_pool_destroy(iter);
}

static void remove_lone_accounts(const batch_t *batch)
{
    const item_t *item;
    int i;

    for (i = 0; i < batch->items->nelts; ++i) {
        item = item_at(batch, i);
        if (!item->domain && item->account)
            md_store_remove(batch->reg->store, MD_STORE_STAGING, item->name, NULL, batch->p);
    }
}

static void activate_batch(batch_t part)
{
    read_sets(&part);
    part = part_of(&part, is_ready);
    put_into_service(&part);
    prune_archive(&part);
}

static void note_published(const batch_t *staged, const batch_t *published)
{
    apr_hash_t *numbers = apr_hash_make(staged->p);
    const int *number;
    int i;

    for (i = 0; i < published->items->nelts; ++i)
        apr_hash_set(numbers, item_at(published, i)->name, APR_HASH_KEY_STRING,
                     &item_at(published, i)->number);
    for (i = 0; i < staged->items->nelts; ++i) {
        number = apr_hash_get(numbers, item_at(staged, i)->name, APR_HASH_KEY_STRING);
        item_at(staged, i)->number = number ? *number : 0;
    }
}

/* Accounts of all before any set: several sets may share one. What is staged is later than what was
 * published. */
void md_stage_activate_all(md_reg_t *reg, apr_pool_t *p)
{
    batch_t all, published;

    repair_accounts(reg, p);
    all = staged_batch(reg, p);
    read_accounts(&all);
    tell_accounts(&all);
    remove_lone_accounts(&all);
    published = published_batch(reg, p);
    activate_batch(published);
    note_published(&all, &published);
    activate_batch(part_of(&all, has_set));
    reg->removal = begin_removal(&all);
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
               name, err.detail);
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
        MD_STORE_ACCOUNTS, MD_STORE_STAGING, MD_STORE_LIVE, MD_STORE_DOMAINS, MD_STORE_OCSP
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

static char *read_failure(void *baton, int i, apr_pool_t *p)
{
    const batch_t *batch = baton;

    try_again(batch->reg, item_at(batch, i)->domain, p);
    return apr_pstrdup(p, "");
}

static void take_failure(void *baton, int i, char *record, apr_size_t len, const char *why,
                         apr_pool_t *p)
{
    (void)record;
    (void)len;
    (void)p;
    if (why)
        leave_unread(item_at(baton, i), why);
}

void md_stage_clean(md_reg_t *reg, apr_pool_t *p)
{
    static const md_reading_t READING = { .read = read_failure, .take = take_failure };
    batch_t all, part;

    if (reg->removal)
        md_reader_finish(reg->removal);
    reg->removal = NULL;
    all = staged_batch(reg, p);
    part = part_of(&all, is_watched);
    read_batch(&part, READING);
    sweep(reg, p);
    remove_foreign(reg, p);
}
