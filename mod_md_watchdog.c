/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: mod_watchdog calls us in one child, we call the engine. Nothing but scheduling. */
#include "mod_md.h"

#include <apr_optional.h>
#include <apr_thread_mutex.h>

#include <ap_release.h>
#include <http_log.h>
#include <mod_watchdog.h>

#include "md_engine.h"

APLOG_USE_MODULE(md);

#define WATCHDOG_NAME "_md_renew_"

/* A wait of this length ends a regular round; shorter ones just keep work going. */
#define REGULAR_WAIT apr_time_from_sec(10)

typedef struct watch_t {
    const md_reg_t *reg;
    server_rec *s;
    ap_watchdog_t *watchdog;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_set_callback_interval) *set_interval;

    /* The child may be told to stop by another thread than the one that runs the engine, at any time. */
    apr_thread_mutex_t *mutex; /* guards all below */
    md_engine_t *engine;
    apr_pool_t *pool;          /* of the engine */
    apr_interval_time_t waited;
    int is_stopped;            /* once and for all: the child ends */
} watch_t;

static watch_t *watch; /* of the configuration in service */

/* ---- in the child ---- */

static apr_status_t watch_begin(watch_t *w)
{
    md_err_t err;
    apr_status_t rv;

    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, w->s, APLOGNO(10054)
                 "md watchdog start, %d mds", w->reg->domains->nelts);
    if (w->engine || w->is_stopped)
        return APR_SUCCESS;
    rv = apr_pool_create(&w->pool, NULL);
    if (rv != APR_SUCCESS)
        return rv;
    /* Signals are the main thread's: prefork ends the child in the handler, which joins the engine's threads. */
    apr_setup_signal_thread();
    md_err_init(&err, w->pool);
    rv = md_engine_create(&w->engine, w->reg, AP_SERVER_BASEVERSION " mod_md/" MD_VERSION, &err,
                          w->pool);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, w->s, "md watchdog: %s", err.detail);
        apr_pool_destroy(w->pool);
        w->pool = NULL;
        w->engine = NULL;
    }
    return rv;
}

/* A round that follows a long wait, or comes before one, is worth a line for the administrator. */
static int round_level(apr_interval_time_t wait)
{
    return wait >= REGULAR_WAIT ? APLOG_DEBUG : APLOG_TRACE1;
}

static apr_status_t watch_run(watch_t *w, apr_pool_t *tmp)
{
    apr_time_t now = apr_time_now(), wake_at;

    if (!w->engine || w->is_stopped)
        return APR_SUCCESS;
    ap_log_error(APLOG_MARK, round_level(w->waited), 0, w->s, APLOGNO(10055) "md watchdog run");
    wake_at = md_engine_run(w->engine, now);
    w->waited = wake_at > now ? wake_at - now : 0;
    ap_log_error(APLOG_MARK, round_level(w->waited), 0, w->s, APLOGNO(10107) "next run in %s",
                 md_duration_print(w->waited, tmp));
    return w->set_interval(w->watchdog, w->waited, w, NULL);
}

static void watch_end(watch_t *w)
{
    if (w->is_stopped)
        return;
    w->is_stopped = 1;
    if (!w->engine)
        return;
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, w->s, APLOGNO(10058) "md watchdog stopping");
    md_engine_stop(w->engine);
    w->engine = NULL;
    apr_pool_destroy(w->pool);
    w->pool = NULL;
}
