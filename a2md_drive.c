/* SPDX-License-Identifier: Apache-2.0 */
/* a2md drive: one attempt for each domain by the engine of the server; what comes of it is put into
 * service at once. */
#include "a2md.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_acme_authz.h"
#include "md_clock.h"
#include "md_job.h"
#include "md_log.h"
#include "md_reader.h"
#include "md_renew.h"
#include "md_renewals.h"
#include "md_text.h"

#define LOCK_TICK apr_time_from_msec(200)
#define LOCK_WAIT apr_time_from_sec(120)

/* What comes of each domain of the registry. What children wrote is read, and worked with, by a
 * process with their rights, which says so; APR_EINPROGRESS: it is not due. */
typedef struct drive_t {
    a2md_t *tool;
    apr_status_t *results;
    apr_time_t now;
    const md_renewals_t *renewals; /* of the process that drives, NULL: it has not begun */
    apr_status_t rv;               /* it could not */
} drive_t;

static char *tell_result(apr_status_t rv, apr_pool_t *p)
{
    return apr_psprintf(p, "%d", rv);
}

static void take_result(void *baton, int i, char *record, apr_size_t len, const char *why,
                        apr_pool_t *p)
{
    drive_t *drive = baton;
    const char *name = md_reg_domain(drive->tool->reg, i)->name;

    (void)len;
    (void)p;
    drive->results[i] = record ? atoi(record) : APR_EGENERAL;
    if (why)
        md_log(MD_LOG_ERR, "%s: %s", name, why);
}

static void ask(drive_t *drive, char *(*read)(void *baton, int i, apr_pool_t *p), int is_one)
{
    const md_reg_t *reg = drive->tool->reg;
    md_rights_t rights;
    md_reading_t reading = { .count = reg->domains->nelts, .is_one = is_one, .baton = drive,
                             .read = read, .take = take_result };

    reading.rights = md_reg_rights(&rights, reg, drive->tool->p);
    drive->results = apr_pcalloc(drive->tool->p,
                                 sizeof(apr_status_t) * (apr_size_t)(reading.count + 1));
    md_reader_run(&reading, drive->tool->p);
}

/* ---- what is to be done ---- */

/* One that is none would be found out when there is an order already. */
static apr_status_t check_challenge(const char *type, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *types = md_strings_make(p);

    APR_ARRAY_PUSH(types, const char *) = type;
    return md_solver_knows_one(types) ? APR_SUCCESS
           : md_fail(err, APR_EINVAL, "'%s' is not a known challenge type; those known are: %s",
                     type, md_solver_types(p));
}

/* What only the server gives to domains by itself. */
static apr_status_t check(const md_domain_t *domain, md_err_t *err)
{
    if (domain->ca_proto && strcmp(domain->ca_proto, MD_CA_PROTO_ACME))
        return md_fail(err, APR_ENOTIMPL, "%s: Unknown CA protocol: %s", domain->name,
                       domain->ca_proto);
    if (!domain->ca_urls)
        return md_fail(err, APR_ENOENT, "%s: no CA is known; set one with 'update %s ca <url>'",
                       domain->name, domain->name);
    return APR_SUCCESS;
}

static char *look(void *baton, int i, apr_pool_t *p)
{
    const drive_t *drive = baton;
    const md_domain_t *domain = md_reg_domain(drive->tool->reg, i);
    apr_status_t rv;
    md_err_t err;

    if (!drive->tool->is_forced
        && md_renew_look(drive->tool->reg, domain, drive->now, p).at > drive->now) {
        md_log(MD_LOG_INFO, "%s: not due for renewal", domain->name);
        return tell_result(APR_EINPROGRESS, p);
    }
    md_err_init(&err, p);
    rv = check(domain, &err);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, "%s", err.detail);
    return tell_result(rv, p);
}

/* Leave those to the registry that are to be driven now. One that cannot be driven is told, and
 * keeps nobody else from it. */
static apr_status_t choose(a2md_t *tool)
{
    drive_t drive = { .tool = tool, .now = md_clock_now() };
    apr_array_header_t *all = tool->reg->domains, *chosen;
    apr_status_t first = APR_SUCCESS;
    md_domain_t *domain;
    int i;

    ask(&drive, look, 0);
    chosen = apr_array_make(tool->p, all->nelts + 1, sizeof(md_domain_t *));
    for (i = 0; i < all->nelts; ++i) {
        domain = APR_ARRAY_IDX(all, i, md_domain_t *);
        if (drive.results[i] == APR_SUCCESS) {
            domain->is_watched = domain->is_forced = 1;
            APR_ARRAY_PUSH(chosen, md_domain_t *) = domain;
        }
        else if (drive.results[i] != APR_EINPROGRESS && first == APR_SUCCESS)
            first = drive.results[i];
    }
    tool->reg->domains = chosen;
    return first;
}

/* Words that name no domain are a failure of all: nothing is chosen then. */
static apr_status_t load_and_choose(a2md_t *tool, int argc, const char *const *argv,
                                    md_err_t *err)
{
    apr_status_t chosen, loaded = a2md_load(tool, argc, argv, err);

    if (loaded != APR_SUCCESS && argc > 0) {
        apr_array_clear(tool->reg->domains);
        return loaded;
    }
    chosen = choose(tool);
    return loaded != APR_SUCCESS ? loaded : chosen;
}

/* The attempts of before do not count for this one. */
static void prepare(const a2md_t *tool)
{
    const md_domain_t *domain;
    int i;

    for (i = 0; i < tool->reg->domains->nelts; ++i) {
        domain = md_reg_domain(tool->reg, i);
        if (tool->resets)
            md_stage_reset(tool->reg->store, domain->name, tool->p);
        md_job_remove(tool->reg->store, MD_STORE_STAGING, domain->name, tool->p);
    }
}

/* Whoever is at work in staging is not disturbed. */
static apr_status_t await_turn(apr_file_t **plock, a2md_t *tool, md_err_t *err)
{
    apr_time_t end = md_clock_steady() + LOCK_WAIT;
    apr_status_t rv = APR_EAGAIN;

    md_log(MD_LOG_INFO, "waiting for the renewals that a server or another a2md has in progress");
    while (APR_STATUS_IS_EAGAIN(rv) && md_clock_steady() < end) {
        md_clock_sleep(LOCK_TICK);
        rv = md_store_try_lock(plock, tool->reg->store, err, tool->p);
    }
    return rv;
}

/* ---- driving ---- */

/* The set is for a domain that may be gone by now, or another one: *plive is what it is. */
static apr_status_t check_live(md_domain_t **plive, a2md_t *tool, const md_domain_t *driven,
                               md_err_t *err)
{
    apr_status_t rv = md_reg_load_domain(plive, tool->reg, driven->name, err, tool->p);

    if (APR_STATUS_IS_ENOENT(rv))
        return md_fail(err, rv, "it was removed in the meantime");
    if (rv == APR_SUCCESS && !md_strings_equal((*plive)->names, driven->names))
        return md_fail(err, APR_EGENERAL, "its DNS names were changed in the meantime");
    return rv;
}

/* A server that starts meanwhile may have put the set into service by itself. */
static apr_status_t put_into_service(a2md_t *tool, const md_domain_t *domain, md_err_t *err)
{
    apr_time_t now = md_clock_now();
    md_domain_t *live;
    apr_status_t rv = check_live(&live, tool, domain, err);

    if (rv != APR_SUCCESS) {
        md_log(MD_LOG_ERR, "%s: not put into service: %s. The new set stays staged",
               domain->name, err->detail);
        return rv;
    }
    md_err_clear(err);
    live->is_forced = domain->is_forced;
    rv = md_stage_activate(tool->reg, live, err, tool->p);
    if (!APR_STATUS_IS_ENOENT(rv)
        || md_live_is_sound(md_live_look(domain, tool->reg->store, NULL, now, tool->p), now))
        return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
    md_log(MD_LOG_ERR, "%s: its new set is no longer in staging", domain->name);
    return rv;
}

/* One at a time, as with servers that start; each alone, so that nobody waits for long. */
static apr_status_t activate(a2md_t *tool, const md_domain_t *domain)
{
    apr_file_t *lock;
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, tool->p);
    rv = md_store_lock(&lock, tool->reg->store, A2MD_LOCK_WAIT, &err, tool->p);
    if (rv != APR_SUCCESS) {
        md_log(MD_LOG_ERR, "%s: not put into service: %s", domain->name, err.detail);
        return rv;
    }
    rv = put_into_service(tool, domain, &err);
    md_store_unlock(lock);
    return rv;
}

/* An account is looked for before it is given an id: only one at a time does that. Those that are
 * not kept now are kept by the next start. */
static void keep_accounts(a2md_t *tool)
{
    apr_file_t *lock;
    md_err_t err;

    md_err_init(&err, tool->p);
    if (md_store_lock(&lock, tool->reg->store, A2MD_LOCK_WAIT, &err, tool->p) != APR_SUCCESS) {
        md_log(MD_LOG_WARNING, "staged accounts cannot be kept now: %s", err.detail);
        return;
    }
    md_stage_keep_accounts(tool->reg, tool->p);
    md_store_unlock(lock);
}

/* The first failure counts. */
static apr_status_t conclude(const drive_t *drive)
{
    const md_reg_t *reg = drive->tool->reg;
    apr_status_t rv, first = APR_SUCCESS;
    int i;

    keep_accounts(drive->tool);
    for (i = 0; i < reg->domains->nelts; ++i) {
        rv = drive->results[i];
        if (rv == APR_SUCCESS)
            rv = activate(drive->tool, md_reg_domain(reg, i));
        if (first == APR_SUCCESS)
            first = rv;
    }
    return first;
}

static apr_status_t run_engine(const md_renewals_t **pdone, a2md_t *tool, md_err_t *err)
{
    md_engine_host_t host = { .places = tool->reg->conf->renew_concurrency };
    md_renewals_t *renewals = NULL;
    md_engine_t *engine = NULL;
    md_http_t *http = NULL;
    apr_status_t rv;

    rv = md_http_create(&http, A2MD_USER_AGENT, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = md_renewals_create(&renewals, tool->reg, http, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = md_engine_create(&engine, &host, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    md_renewals_add(renewals, engine);
    md_engine_drive(engine);
    *pdone = renewals;
    return APR_SUCCESS;
}

/* All are driven before anything is said of the first. What goes wrong is told here. */
static char *drive_all(void *baton, int i, apr_pool_t *p)
{
    drive_t *drive = baton;
    md_err_t err;

    if (!drive->renewals && drive->rv == APR_SUCCESS) {
        md_err_init(&err, drive->tool->p);
        prepare(drive->tool);
        drive->rv = run_engine(&drive->renewals, drive->tool, &err);
        if (drive->rv != APR_SUCCESS)
            md_log(MD_LOG_ERR, "%s", err.detail);
    }
    return tell_result(drive->renewals ? md_renewals_result(drive->renewals, i)->rv : drive->rv, p);
}

static apr_status_t drive_chosen(a2md_t *tool)
{
    drive_t drive = { .tool = tool };

    md_reg_load_note(tool->reg, tool->p);
    tool->reg->only_challenge = tool->challenge;
    ask(&drive, drive_all, 1);
    return conclude(&drive);
}

static apr_status_t drive_in_turn(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t driven = APR_SUCCESS, rv = load_and_choose(tool, argc, argv, err);

    if (tool->reg->domains->nelts > 0)
        driven = drive_chosen(tool);
    return rv != APR_SUCCESS ? rv : driven;
}

/* Whoever had the lock before may have renewed what is due: that is looked at with the lock. Before
 * a wait it is looked at, too, as there may be nothing to wait for. */
apr_status_t a2md_drive(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    apr_file_t *lock;

    if (tool->challenge)
        rv = check_challenge(tool->challenge, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_store_try_lock(&lock, tool->reg->store, err, tool->p);
    if (APR_STATUS_IS_EAGAIN(rv)) {
        md_err_clear(err);
        rv = load_and_choose(tool, argc, argv, err);
        if (tool->reg->domains->nelts == 0)
            return rv;
        rv = await_turn(&lock, tool, err);
    }
    if (rv != APR_SUCCESS)
        return rv;
    md_err_clear(err);
    rv = drive_in_turn(tool, argc, argv, err);
    md_store_unlock(lock);
    return rv;
}
