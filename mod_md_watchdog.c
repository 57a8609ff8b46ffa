/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: mod_watchdog calls us in one child, we call the engine. Nothing but scheduling. */
#include "mod_md.h"

#include <apr_optional.h>
#include <apr_thread_mutex.h>

#include <ap_release.h>
#include <http_log.h>
#include <mod_watchdog.h>

#include "md_clock.h"
#include "md_key.h"
#include "md_limits.h"
#include "md_ocsp.h"
#include "md_staple_file.h"

APLOG_USE_MODULE(md);

#define WATCHDOG_NAME "_md_renew_"

/* Requests are looked for that often. */
#define HEAR_EVERY   apr_time_from_sec(1)

/* Engines without tasks would wait for ever. */
#define MOST_WAIT    apr_time_from_sec(24 * 3600)

/* A wait of this length ends a regular round; shorter ones just keep work going. */
#define REGULAR_WAIT apr_time_from_sec(10)

typedef struct watch_t {
    const md_reg_t *reg;
    server_rec *s;
    ap_watchdog_t *watchdog;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_set_callback_interval) *set_interval;

    /* The child may be told to stop at any time, by another thread than runs the engine. */
    apr_thread_mutex_t *mutex; /* guards all below */
    md_engine_t *engine;
    md_renewals_t *renewals;   /* its tasks */
    md_http_t *http;           /* of all its exchanges */
    md_ocsp_t *ocsp;           /* the tasks of: */
    md_engine_t *stapling;     /* or NULL: an engine of its own, as it needs no lock of staging */
    md_http_t *stapling_http;
    apr_pool_t *pool;          /* of all of them */
    apr_time_t renew_from;     /* steady: MDInitialDelay, for which no response has to wait */
    apr_interval_time_t waited;
    apr_time_t run_at;         /* steady: when the engines are to be called again */
    int is_stopped;            /* once and for all: the child ends */
} watch_t;

static watch_t *watch; /* of the configuration in service */

/* ---- in the child ---- */

static apr_status_t make_stapling(watch_t *w, md_err_t *err)
{
    md_engine_host_t host = { .places = w->reg->conf->renew_concurrency, .close = md_ocsp_close,
                              .load = md_tally_load(w->reg->tally, MD_LOAD_STAPLES) };
    apr_status_t rv;

    rv = md_http_create(&w->stapling_http, AP_SERVER_BASEVERSION, err, w->pool);
    if (rv == APR_SUCCESS)
        rv = md_ocsp_create(&w->ocsp, w->reg, w->stapling_http, w->renewals, err, w->pool);
    if (rv != APR_SUCCESS)
        return rv;
    host.baton = w->ocsp;
    rv = md_engine_create(&w->stapling, &host, err, w->pool);
    if (rv == APR_SUCCESS)
        md_ocsp_add(w->ocsp, w->stapling);
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, w->s, APLOGNO(10197)
                 "md ocsp watchdog start, %d certificates", md_staples_count(w->reg->staples));
    return rv;
}

/* Here and not in the parent, as all that is there belongs to children. */
static void clean(const md_reg_t *reg)
{
    apr_pool_t *tmp = md_engine_pool();

    if (!tmp)
        return;
    md_staple_clean(reg, md_clock_now(), tmp);
    apr_pool_destroy(tmp);
}

static apr_status_t make_engine(watch_t *w, md_err_t *err)
{
    md_engine_host_t host = { .places = w->reg->conf->renew_concurrency, .open = md_renewals_open,
                              .close = md_renewals_close,
                              .load = md_tally_load(w->reg->tally, MD_LOAD_RENEWALS) };
    apr_status_t rv;

    rv = md_http_create(&w->http, AP_SERVER_BASEVERSION " mod_md/" MD_VERSION, err, w->pool);
    if (rv == APR_SUCCESS)
        rv = md_renewals_create(&w->renewals, w->reg, w->http, err, w->pool);
    if (rv != APR_SUCCESS)
        return rv;
    host.baton = w->renewals;
    rv = md_engine_create(&w->engine, &host, err, w->pool);
    if (rv != APR_SUCCESS)
        return rv;
    md_renewals_add(w->renewals, w->engine);
    clean(w->reg);
    return w->reg->staples ? make_stapling(w, err) : APR_SUCCESS;
}

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
    /* Signals are the main thread's: prefork ends the child in the handler, and with it all
     * threads of the engine are joined. */
    apr_setup_signal_thread();
    md_err_init(&err, w->pool);
    rv = make_engine(w, &err);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, w->s, "md watchdog: %s", err.detail);
        apr_pool_destroy(w->pool);
        w->pool = NULL;
        w->engine = w->stapling = NULL;
    }
    w->renew_from = md_clock_steady() + w->reg->conf->initial_delay;
    return rv;
}

/* A round that follows a long wait, or comes before one, is worth a line for the administrator. */
static int round_level(apr_interval_time_t wait)
{
    return wait >= REGULAR_WAIT ? APLOG_DEBUG : APLOG_TRACE1;
}

/* How long until they are to be called again. */
static apr_interval_time_t run_engines(watch_t *w)
{
    apr_interval_time_t delay = w->renew_from - md_clock_steady(), wait;

    wait = w->stapling && delay > 0 ? delay : md_engine_run(w->engine);
    delay = w->stapling ? md_engine_run(w->stapling) : wait;
    wait = delay < wait ? delay : wait;
    return wait < MOST_WAIT ? wait : MOST_WAIT;
}

/* Does somebody ask for something in the store? That is work for now. */
static int hear_requests(watch_t *w, apr_pool_t *tmp)
{
    apr_hash_t *checked = apr_hash_make(tmp);
    int count = md_renewals_hear(w->renewals, checked, tmp);

    if (w->stapling)
        md_ocsp_refresh(w->ocsp, checked);
    return count > 0;
}

static void run_round(watch_t *w, apr_pool_t *tmp)
{
    int level = round_level(w->waited);
    const char *wait;

    ap_log_error(APLOG_MARK, level, 0, w->s, APLOGNO(10055) "md watchdog run");
    if (w->stapling)
        ap_log_error(APLOG_MARK, level, 0, w->s, APLOGNO(10198) "md ocsp watchdog run");
    w->waited = run_engines(w);
    level = round_level(w->waited);
    wait = md_duration_print(w->waited, tmp);
    ap_log_error(APLOG_MARK, level, 0, w->s, APLOGNO(10107) "next run in %s", wait);
    if (w->stapling)
        ap_log_error(APLOG_MARK, level, 0, w->s, APLOGNO(10199) "md ocsp watchdog next run in %s",
                     wait);
    w->run_at = md_clock_steady() + w->waited;
}

/* How long until this is to be called again. */
static apr_interval_time_t watch_run(watch_t *w, apr_pool_t *tmp)
{
    apr_interval_time_t wait;

    if (hear_requests(w, tmp) || w->run_at <= md_clock_steady())
        run_round(w, tmp);
    wait = w->run_at - md_clock_steady();
    return wait < HEAR_EVERY ? wait : HEAR_EVERY;
}

/* All of them have the same time to end by themselves. */
static void stop_commands(const md_reg_t *reg)
{
    apr_time_t end = md_clock_steady() + MD_MAX_LAST_WORK, steady;

    md_execs_stop(reg->events->execs, MD_MAX_LAST_WORK);
    steady = md_clock_steady();
    md_execs_stop(reg->dns_execs, end > steady ? end - steady : 0);
}

static void watch_end(watch_t *w)
{
    if (w->is_stopped)
        return;
    w->is_stopped = 1;
    if (!w->engine)
        return;
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, w->s, APLOGNO(10058) "md watchdog stopping");
    md_key_end();
    md_http_stop(w->http);
    if (w->stapling)
        md_http_stop(w->stapling_http);
    stop_commands(w->reg);
    if (w->stapling) { /* it knows the renewals */
        md_engine_stop(w->stapling);
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, w->s, APLOGNO(10200) "md ocsp watchdog stopping");
    }
    md_engine_stop(w->engine);
    w->engine = w->stapling = NULL;
    apr_pool_destroy(w->pool);
    w->pool = NULL;
}

static apr_status_t called_by_watchdog(int state, void *data, apr_pool_t *tmp)
{
    watch_t *w = data;
    apr_interval_time_t wait = 0;
    apr_status_t rv = APR_SUCCESS;
    int has_run = 0;

    apr_thread_mutex_lock(w->mutex);
    switch (state) {
    case AP_WATCHDOG_STATE_STARTING:
        rv = watch_begin(w);
        break;
    case AP_WATCHDOG_STATE_RUNNING:
        has_run = w->engine != NULL;
        if (has_run)
            wait = watch_run(w, tmp);
        break;
    case AP_WATCHDOG_STATE_STOPPING: /* also when this child never got its turn */
        watch_end(w);
        break;
    }
    apr_thread_mutex_unlock(w->mutex);
    if (has_run)
        rv = w->set_interval(w->watchdog, wait, w, called_by_watchdog);
    return rv;
}

static apr_status_t end_with_child(void *data)
{
    watch_t *w = data;

    apr_thread_mutex_lock(w->mutex);
    watch_end(w);
    apr_thread_mutex_unlock(w->mutex);
    return APR_SUCCESS;
}

/* The engine's threads must be gone before the libraries that they use are unloaded. */
static void child_init(apr_pool_t *pchild, server_rec *s)
{
    (void)s;
    if (watch)
        apr_pool_pre_cleanup_register(pchild, watch, end_with_child);
}

/* ---- in the parent ---- */

static apr_status_t forget_watch(void *data)
{
    if (watch == data)
        watch = NULL;
    return APR_SUCCESS;
}

static apr_status_t register_watch(watch_t *w, apr_interval_time_t delay, apr_pool_t *p)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) *get_instance;
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) *register_callback;
    apr_status_t rv;

    get_instance = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    register_callback = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    w->set_interval = APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_set_callback_interval);
    if (!get_instance || !register_callback || !w->set_interval) {
        if (w->reg->staples)
            ap_log_error(APLOG_MARK, APLOG_CRIT, 0, w->s, APLOGNO(10201)
                         "mod_watchdog is required for OCSP stapling");
        return mod_md_check_watchdog(w->s);
    }
    rv = get_instance(&w->watchdog, WATCHDOG_NAME, 0, 1, p);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, w->s, APLOGNO(10066)
                     "create md renew watchdog(%s)", WATCHDOG_NAME);
        return rv;
    }
    rv = register_callback(w->watchdog, delay, w, called_by_watchdog);
    ap_log_error(APLOG_MARK, rv == APR_SUCCESS ? APLOG_DEBUG : APLOG_CRIT, rv, w->s,
                 APLOGNO(10067) "register md renew watchdog(%s)", WATCHDOG_NAME);
    return rv;
}

apr_status_t mod_md_watchdog_start(const md_reg_t *reg, server_rec *main_server, apr_pool_t *p)
{
    watch_t *w = apr_pcalloc(p, sizeof(*w));
    apr_status_t rv;

    w->reg = reg;
    w->s = main_server;
    w->waited = REGULAR_WAIT;
    rv = apr_thread_mutex_create(&w->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, main_server, APLOGNO(10062)
                     "md_renew_watchdog: create mutex");
        return rv;
    }
    rv = register_watch(w, reg->staples ? 0 : reg->conf->initial_delay, p);
    if (rv != APR_SUCCESS)
        return rv;
    watch = w;
    apr_pool_cleanup_register(p, w, forget_watch, apr_pool_cleanup_null);
    return APR_SUCCESS;
}

void mod_md_watchdog_hooks(void)
{
    static const char *const TLS[] = { "mod_ssl.c", "mod_tls.c", NULL };

    ap_hook_child_init(child_init, NULL, TLS, APR_HOOK_MIDDLE);
}
