/* SPDX-License-Identifier: Apache-2.0 */
/* a2md drive: the engine of the server, run until every domain has its certificates or an error. */
#include "a2md.h"

#include <string.h>

#include "md_engine.h"
#include "md_job.h"
#include "md_log.h"
#include "md_renew.h"

#define TICK      apr_time_from_msec(50)
#define LOCK_TICK apr_time_from_msec(200)
#define LOCK_WAIT apr_time_from_sec(120)

static md_domain_t *domain_at(const a2md_t *tool, int i)
{
    return APR_ARRAY_IDX(tool->reg->domains, i, md_domain_t *);
}

/* ---- what is to be done ---- */

/* What only the server gives to domains by itself. */
static apr_status_t check(const md_domain_t *domain, md_err_t *err)
{
    if (domain->ca_proto && strcmp(domain->ca_proto, MD_CA_PROTO_ACME))
        return md_fail(err, APR_ENOTIMPL, "%s: Unknown CA protocol: %s", domain->name,
                       domain->ca_proto);
    if (!domain->ca_urls)
        return md_fail(err, APR_ENOENT, "%s: no CA is known, set one by 'update %s ca <url>'",
                       domain->name, domain->name);
    return APR_SUCCESS;
}

/* Leave those to the registry that are to be driven now. A domain that cannot be driven keeps
 * nobody else from it: *prv has the first failure. */
static void choose(apr_status_t *prv, a2md_t *tool, md_err_t *err)
{
    apr_array_header_t *all = tool->reg->domains;
    apr_time_t now = apr_time_now();
    md_domain_t *domain;
    apr_status_t rv;
    md_err_t why;
    int i;

    md_err_init(&why, tool->p);
    tool->reg->domains = apr_array_make(tool->p, all->nelts, sizeof(md_domain_t *));
    for (i = 0; i < all->nelts; ++i) {
        domain = APR_ARRAY_IDX(all, i, md_domain_t *);
        if (!tool->is_forced && md_renew_at(domain, now) > now) {
            md_log(MD_LOG_INFO, APR_SUCCESS, "%s: is not up for renewal", domain->name);
            continue;
        }
        rv = check(domain, &why);
        if (rv == APR_SUCCESS) {
            domain->is_watched = domain->is_forced = 1;
            APR_ARRAY_PUSH(tool->reg->domains, md_domain_t *) = domain;
        }
        else if (*prv == APR_SUCCESS) {
            *prv = rv;
            md_err_copy(err, &why);
        }
        else {
            md_log(MD_LOG_ERR, rv, "%s", why.detail);
        }
    }
}

/* The attempts of before do not count for this one: no record, no waiting. */
static void prepare(a2md_t *tool)
{
    const md_domain_t *domain;
    int i;

    md_reg_load_reachability(tool->reg, tool->p);
    tool->reg->activates_at_once = 1;
    tool->reg->only_challenge = tool->challenge;
    for (i = 0; i < tool->reg->domains->nelts; ++i) {
        domain = domain_at(tool, i);
        if (tool->resets)
            md_reg_reset_staging(tool->reg->store, domain->name, tool->p);
        md_job_remove(tool->reg->store, MD_STORE_STAGING, domain->name, tool->p);
    }
}

/* A server that is at work in staging is not disturbed. */
static apr_status_t await_turn(a2md_t *tool, md_err_t *err)
{
    apr_time_t end = apr_time_now() + LOCK_WAIT;
    apr_file_t *lock;
    apr_status_t rv;
    md_err_t why;

    md_err_init(&why, tool->p);
    rv = md_store_try_lock(&lock, tool->reg->store, &why, tool->p);
    if (APR_STATUS_IS_EAGAIN(rv))
        md_log(MD_LOG_INFO, APR_SUCCESS, "waiting for the renewals that the server has in work");
    while (APR_STATUS_IS_EAGAIN(rv) && apr_time_now() < end) {
        apr_sleep(LOCK_TICK);
        rv = md_store_try_lock(&lock, tool->reg->store, &why, tool->p);
    }
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s", why.detail);
    prepare(tool);
    md_store_unlock(lock);
    return APR_SUCCESS;
}

/* ---- driving ---- */

/* An attempt has ended when its record says so, or there is none. */
static int is_settled(const a2md_t *tool, apr_pool_t *tmp)
{
    md_job_t *job;
    int i;

    for (i = 0; i < tool->reg->domains->nelts; ++i)
        if (md_job_load(&job, tool->reg->store, MD_STORE_STAGING, domain_at(tool, i)->name, NULL,
                        tmp) == APR_SUCCESS && !job->finished && job->errors == 0)
            return 0;
    return 1;
}

static void run_engine(a2md_t *tool, md_engine_t *engine)
{
    apr_time_t now, wake_at;
    apr_pool_t *iter;
    int is_done;

    apr_pool_create(&iter, tool->p);
    do {
        apr_pool_clear(iter);
        now = apr_time_now();
        wake_at = md_engine_run(engine, now);
        is_done = !md_engine_is_busy(engine) && is_settled(tool, iter);
        if (!is_done)
            apr_sleep(wake_at > now && wake_at - now < TICK ? wake_at - now : TICK);
    } while (!is_done);
    apr_pool_destroy(iter);
}

/* Why the last attempt failed, from its record. The engine has told the log. */
static apr_status_t failure_of(const md_job_t *job)
{
    apr_status_t rv = (apr_status_t)md_json_get_int(job->last, "status", APR_EGENERAL);

    return rv == APR_SUCCESS ? APR_EGENERAL : rv;
}

static apr_status_t conclude(a2md_t *tool, const md_domain_t *domain)
{
    md_job_t *job;
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, tool->p);
    (void)md_job_load(&job, tool->reg->store, MD_STORE_STAGING, domain->name, NULL, tool->p);
    rv = job->finished ? md_reg_activate_domain(tool->reg, domain->name, &err, tool->p)
                       : failure_of(job);
    if (rv != APR_SUCCESS)
        md_job_remove(tool->reg->store, MD_STORE_STAGING, domain->name, tool->p);
    return rv;
}

static apr_status_t drive_all(a2md_t *tool, md_err_t *err)
{
    apr_status_t rv, first = APR_SUCCESS;
    md_engine_t *engine;
    apr_pool_t *p;
    int i;

    rv = await_turn(tool, err);
    if (rv != APR_SUCCESS)
        return rv;
    apr_pool_create(&p, tool->p);
    rv = md_engine_create(&engine, tool->reg, A2MD_USER_AGENT, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    run_engine(tool, engine);
    apr_pool_destroy(p); /* stops it */
    for (i = 0; i < tool->reg->domains->nelts; ++i)
        md_reg_keep_account(tool->reg, domain_at(tool, i)->name, tool->p);
    for (i = 0; i < tool->reg->domains->nelts; ++i) {
        rv = conclude(tool, domain_at(tool, i));
        if (first == APR_SUCCESS)
            first = rv;
    }
    return first;
}

apr_status_t a2md_drive(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv, driven;

    rv = a2md_load(tool, argc, argv, err);
    if (rv != APR_SUCCESS)
        return rv;
    choose(&rv, tool, err);
    if (tool->reg->domains->nelts == 0)
        return rv;
    driven = drive_all(tool, err);
    return rv == APR_SUCCESS ? driven : rv;
}
