/* SPDX-License-Identifier: Apache-2.0 */
/* Sets that were put into service: noted, and told of. */
#include "md_installed.h"

#include <apr_hash.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define INSTALLED_JSON "installed.json"
#define PAUSE          apr_time_from_msec(10)
#define GRACE          apr_time_from_msec(500)

/* One that is being told of. */
typedef struct slot_t {
    const char *name;
    md_telling_t *telling; /* NULL: the slot is free */
    md_err_t err;
    apr_pool_t *pool;
} slot_t;

int md_installed_is_wanted(const md_reg_t *reg)
{
    return reg->events && (reg->events->message_cmd || reg->conf->event_log);
}

/* ---- the note ---- */

static apr_array_header_t *load_names(const md_reg_t *reg, apr_pool_t *p)
{
    apr_array_header_t *names = NULL;
    md_json_t *json;

    if (md_store_load_base_json(&json, reg->store, INSTALLED_JSON, NULL, p) == APR_SUCCESS)
        names = md_json_get_strings(json, "names", p);
    return names ? names : md_strings_make(p);
}

static void save_names(const md_reg_t *reg, const apr_array_header_t *names, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);
    md_err_t err;

    if (names->nelts == 0) {
        md_store_remove_base(reg->store, INSTALLED_JSON, p);
        return;
    }
    md_err_init(&err, p);
    md_json_set_strings(json, "names", names);
    if (md_store_save_base_json(reg->store, INSTALLED_JSON, json, &err, p) != APR_SUCCESS)
        md_log(MD_LOG_ERR, "cannot record which certificates have been put into service, so their "
               "'installed' events may be lost: %s", err.detail);
}

void md_installed_note(const md_reg_t *reg, const apr_array_header_t *names, apr_pool_t *p)
{
    apr_array_header_t *all;

    if (!md_installed_is_wanted(reg) || names->nelts == 0)
        return;
    all = load_names(reg, p);
    apr_array_cat(all, names);
    save_names(reg, md_names_normalise(all, p), p);
}

int md_installed_is_due(const md_reg_t *reg, apr_pool_t *p)
{
    if (load_names(reg, p)->nelts == 0)
        return 0;
    if (md_installed_is_wanted(reg))
        return 1;
    md_store_remove_base(reg->store, INSTALLED_JSON, p);
    return 0;
}

/* ---- telling ---- */

static void begin(slot_t *slot, const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    md_event_t event = { .kind = MD_EVENT_INSTALLED, .domain = domain->name, .attempt = 1,
                         .expires = md_live_expires(domain) };

    apr_pool_create(&slot->pool, p);
    md_err_init(&slot->err, slot->pool);
    slot->name = domain->name;
    slot->telling = md_event_tell(reg->events, &event, slot->pool);
}

static void record(const slot_t *slot, const md_reg_t *reg, apr_status_t rv)
{
    md_job_t *job;
    md_err_t err;

    md_err_init(&err, slot->pool);
    if (md_job_load(&job, reg->store, MD_STORE_DOMAINS, slot->name, &err, slot->pool)
        != APR_SUCCESS)
        return;
    md_event_record(job, slot->telling, rv == APR_SUCCESS ? NULL : &slot->err, md_clock_now());
    if (md_job_save_volatile(job, reg->store, &err, slot->pool) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: %s", slot->name, err.detail);
}

/* Go on; 1: it is still being told. */
static int go_on(slot_t *slot, const md_reg_t *reg)
{
    apr_status_t rv = md_event_step(slot->telling, &slot->err);

    if (APR_STATUS_IS_EAGAIN(rv))
        return 1;
    if (!APR_STATUS_IS_EINTR(rv))
        record(slot, reg, rv);
    slot->telling = NULL;
    apr_pool_destroy(slot->pool);
    return 0;
}

/* Names -> domains of today, of those that are configured. */
static apr_array_header_t *find_domains(const md_reg_t *reg, const apr_array_header_t *names,
                                        apr_pool_t *p)
{
    apr_array_header_t *found = apr_array_make(p, names->nelts + 1, sizeof(md_domain_t *));
    apr_hash_t *wanted = apr_hash_make(p);
    int i;

    for (i = 0; i < names->nelts; ++i)
        apr_hash_set(wanted, APR_ARRAY_IDX(names, i, const char *), APR_HASH_KEY_STRING, "");
    for (i = 0; i < reg->domains->nelts; ++i)
        if (apr_hash_get(wanted, md_reg_domain(reg, i)->name, APR_HASH_KEY_STRING))
            APR_ARRAY_PUSH(found, md_domain_t *) = md_reg_domain(reg, i);
    return found;
}

/* Those from `first` on. */
static apr_array_header_t *rest_of(const apr_array_header_t *domains, int first, apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p);

    for (; first < domains->nelts; ++first)
        APR_ARRAY_PUSH(names, const char *) = APR_ARRAY_IDX(domains, first, md_domain_t *)->name;
    return names;
}

/* A round over all slots; returns how many are in use. */
static int look_after(slot_t *slots, const md_reg_t *reg, const apr_array_header_t *domains,
                      int *pnext, apr_pool_t *p)
{
    int i, busy = 0;

    for (i = 0; i < MD_MAX_COMMANDS; ++i) {
        if (!slots[i].telling && *pnext < domains->nelts)
            begin(&slots[i], reg, APR_ARRAY_IDX(domains, (*pnext)++, md_domain_t *), p);
        busy += slots[i].telling && go_on(&slots[i], reg);
    }
    return busy;
}

void md_installed_tell(const md_reg_t *reg, const volatile sig_atomic_t *is_stopped,
                       apr_pool_t *p)
{
    apr_array_header_t *domains = find_domains(reg, load_names(reg, p), p), *rest;
    slot_t *slots = apr_pcalloc(p, sizeof(slot_t) * MD_MAX_COMMANDS);
    int next = 0, busy = 1;

    while (!*is_stopped && (busy > 0 || next < domains->nelts)) {
        busy = look_after(slots, reg, domains, &next, p);
        if (busy > 0)
            md_clock_sleep(PAUSE);
    }
    rest = rest_of(domains, next, p);
    save_names(reg, rest, p);
    if (busy == 0)
        return;
    md_execs_stop(reg->events->execs, GRACE);
    next = domains->nelts;
    (void)look_after(slots, reg, domains, &next, p);
}
