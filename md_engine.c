/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: slots, two queues, a few threads. */
#include "md_engine.h"

#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <apr_skiplist.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_proc.h>

#include "md_log.h"
#include "md_renew.h"
#include "md_text.h"

#define WORKERS     8
#define PARK_AFTER  apr_time_from_sec(60) /* a longer wait gives up its place in flight */
#define BUSY_TICK   apr_time_from_sec(1)
#define BROKEN_TICK apr_time_from_sec(60)
#define LOCK_TICK   apr_time_from_msec(200) /* the child before us is still ending */
#define POOL_KEEPS  (256 * 1024)          /* bytes of free memory that a run holds on to */
#define NEVER       APR_INT64_MAX

/* One domain. It is idle, waiting for a place, or a run in flight. */
typedef struct slot_t {
    const md_domain_t *domain;
    enum { SLOT_IDLE, SLOT_WAITING, SLOT_IN_FLIGHT } where;
    apr_time_t check_at;   /* idle: when to look at the job again */
    apr_int64_t key;       /* place in a queue: waiting: validity left; in flight: wake-up time */
    int is_taken;          /* in the hands of a worker, who alone may look at the rest */
    int index;             /* makes the order of a queue total */
    md_renew_t *renew;     /* in flight */
    apr_pool_t *pool;      /* of the run */
    md_err_t result;       /* of a single attempt */
} slot_t;

/* A CA in use, and the account there for an external one (or none), of its own pool: many threads
 * work with it. */
typedef struct ca_t {
    const char *eab_kid, *eab_hmac;
    md_acme_t *acme;
    md_acct_use_t *use;
    struct ca_t *next;
} ca_t;

struct md_engine_t {
    const md_reg_t *reg;
    md_http_t *http;
    apr_pool_t *p;

    apr_thread_mutex_t *mutex; /* guards all below */
    apr_thread_cond_t *changed;
    slot_t *slots;
    int slot_count;
    apr_skiplist *waiting, *in_flight;
    int flying;                /* in flight, queued or being worked on */
    int working;               /* slots in the hands of a worker */
    apr_time_t next_check;     /* the earliest check_at of idle slots */
    apr_time_t regular_at;     /* the next regular round */
    ca_t *cas;
    int is_single;             /* see md_engine_drive */
    int is_stopping;
    int threads_alive;

    apr_pool_t *thread_pool;   /* of the caller's thread; holds the lock, too */
    apr_file_t *lock;          /* staging is ours while there is work; NULL: not ours */
    apr_thread_t *threads[WORKERS];
    int thread_count;
};

static int slot_cmp(void *a, void *b)
{
    const slot_t *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->index - y->index;
}

static apr_status_t stop_at_cleanup(void *engine)
{
    md_engine_stop(engine);
    return APR_SUCCESS;
}

static void make_slots(md_engine_t *engine)
{
    const apr_array_header_t *domains = engine->reg->domains;
    slot_t *slot;
    int i;

    engine->slots = apr_pcalloc(engine->p, sizeof(slot_t) * (size_t)(domains->nelts + 1));
    for (i = 0; i < domains->nelts; ++i) {
        if (!APR_ARRAY_IDX(domains, i, md_domain_t *)->is_watched)
            continue;
        slot = &engine->slots[engine->slot_count];
        slot->domain = APR_ARRAY_IDX(domains, i, md_domain_t *);
        slot->index = engine->slot_count++;
    }
}

apr_status_t md_engine_create(md_engine_t **pengine, const md_reg_t *reg,
                              const char *user_agent, md_err_t *err, apr_pool_t *p)
{
    md_engine_t *engine = apr_pcalloc(p, sizeof(*engine));
    apr_status_t rv;

    engine->reg = reg;
    engine->p = p;
    rv = md_http_create(&engine->http, user_agent, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = apr_thread_mutex_create(&engine->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv == APR_SUCCESS)
        rv = apr_thread_cond_create(&engine->changed, p);
    if (rv == APR_SUCCESS)
        rv = apr_skiplist_init(&engine->waiting, p);
    if (rv == APR_SUCCESS)
        rv = apr_skiplist_init(&engine->in_flight, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot create the renewal engine");
    apr_skiplist_set_compare(engine->waiting, slot_cmp, slot_cmp);
    apr_skiplist_set_compare(engine->in_flight, slot_cmp, slot_cmp);
    make_slots(engine);
    apr_pool_pre_cleanup_register(p, engine, stop_at_cleanup);
    *pengine = engine;
    return APR_SUCCESS;
}

static void lock(md_engine_t *engine)
{
    apr_thread_mutex_lock(engine->mutex);
}

static void unlock(md_engine_t *engine)
{
    apr_thread_mutex_unlock(engine->mutex);
}

static unsigned char roll(void)
{
    unsigned char dice;

    md_random_bytes(&dice, 1);
    return dice;
}

/* A pool that no other thread shares anything with. */
static apr_pool_t *own_pool(void)
{
    apr_allocator_t *allocator;
    apr_pool_t *pool;

    if (apr_allocator_create(&allocator) != APR_SUCCESS)
        return NULL;
    apr_allocator_max_free_set(allocator, POOL_KEEPS);
    if (apr_pool_create_ex(&pool, NULL, NULL, allocator) != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        return NULL;
    }
    apr_allocator_owner_set(allocator, pool);
    return pool;
}

/* ---- CAs ---- */

static apr_status_t destroy_pool(void *pool)
{
    apr_pool_destroy(pool);
    return APR_SUCCESS;
}

/* At the same CA all share directory, nonces and pace. Called locked. */
static md_acme_t *find_acme(md_engine_t *engine, const char *url, const md_route_t *route,
                            apr_pool_t *p)
{
    ca_t *ca;

    for (ca = engine->cas; ca; ca = ca->next)
        if (md_acme_is(ca->acme, url, route))
            return ca->acme;
    return md_acme_create(engine->http, url, route, p);
}

/* Called locked. */
static ca_t *add_ca(md_engine_t *engine, const char *url, const md_route_t *route,
                    const md_domain_t *domain)
{
    apr_pool_t *pool = own_pool();
    ca_t *ca;

    if (!pool)
        return NULL;
    apr_pool_cleanup_register(engine->p, pool, destroy_pool, apr_pool_cleanup_null);
    ca = apr_pcalloc(pool, sizeof(*ca));
    ca->eab_kid = domain->eab_kid;
    ca->eab_hmac = domain->eab_hmac;
    ca->acme = find_acme(engine, url, route, pool);
    ca->use = md_acct_use_create(pool);
    if (!ca->acme || !ca->use)
        return NULL;
    ca->next = engine->cas;
    engine->cas = ca;
    return ca;
}

static void use_ca(md_engine_t *engine, md_renew_t *renew, const md_domain_t *domain)
{
    md_route_t route = md_config_route(domain, engine->reg->conf);
    const char *url = md_renew_ca_url(renew);
    ca_t *ca;

    if (!url)
        return;
    lock(engine);
    for (ca = engine->cas; ca; ca = ca->next)
        if (md_acme_is(ca->acme, url, &route) && md_text_same(ca->eab_kid, domain->eab_kid)
            && md_text_same(ca->eab_hmac, domain->eab_hmac))
            break;
    if (!ca)
        ca = add_ca(engine, url, &route, domain);
    unlock(engine);
    if (ca)
        md_renew_use_ca(renew, ca->acme, ca->use);
}

/* ---- what a worker does with a slot, unlocked ---- */

static void end_run(slot_t *slot)
{
    slot->renew = NULL;
    if (slot->pool)
        apr_pool_destroy(slot->pool);
    slot->pool = NULL;
}

/* When there is nothing to do for a domain now: look at it again at `check_at`, 0: with the regular
 * round. */
static void rest(slot_t *slot, apr_time_t check_at)
{
    slot->where = SLOT_IDLE;
    slot->check_at = check_at;
}

static void begin(md_engine_t *engine, slot_t *slot, md_job_t *job, apr_time_t now)
{
    md_log(MD_LOG_DEBUG, APR_SUCCESS, MD_LOGNO(10052) "md(%s): state=%d, driving",
           slot->domain->name, slot->domain->state);
    slot->where = SLOT_IN_FLIGHT;
    slot->renew = md_renew_create(engine->reg, slot->domain, job, now, slot->pool);
    use_ca(engine, slot->renew, slot->domain);
    slot->key = now;
}

/* The record of the domain; a new one in place of one that is damaged, or claims what is not so. */
static md_job_t *load_job(const md_engine_t *engine, const slot_t *slot)
{
    const char *name = slot->domain->name;
    apr_status_t rv;
    md_job_t *job;
    md_err_t err;

    md_err_init(&err, slot->pool);
    rv = md_job_load(&job, engine->reg->store, MD_STORE_STAGING, name, &err, slot->pool);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, rv, "md[%s]: %s; the record begins anew", name, err.detail);
    if (rv == APR_SUCCESS && md_renew_is_plausible(engine->reg, slot->domain, job, slot->pool))
        return job;
    return md_job_make(MD_STORE_STAGING, name, slot->pool);
}

/* Look at the job of the domain: begin a run, or tell when to look again. The regular round comes
 * in any case; 0 stands for it. */
static void look(md_engine_t *engine, slot_t *slot)
{
    apr_time_t now = apr_time_now(), renew_at;
    md_job_t *job;

    slot->pool = own_pool();
    if (!slot->pool) {
        rest(slot, 0);
        return;
    }
    if (engine->is_single) {
        begin(engine, slot, md_job_make(MD_STORE_STAGING, slot->domain->name, slot->pool), now);
        return;
    }
    job = load_job(engine, slot);
    renew_at = md_renew_at(slot->domain, now);
    if (job->next_run > now)
        rest(slot, job->next_run);
    else if (!md_renew_is_wanted(slot->domain) || (job->finished && job->notified_renewed))
        rest(slot, 0);
    else if (job->finished && md_renew_is_staged(engine->reg, slot->domain, slot->pool)) {
        md_renew_announce(engine->reg, slot->domain, job, now, slot->pool);
        rest(slot, 0);
    }
    else if (renew_at > now)
        rest(slot, renew_at);
    else
        begin(engine, slot, job, now);
}

/* A wait that is too long for a place in flight. The run goes on from the store by then. */
static void park(const md_engine_t *engine, slot_t *slot)
{
    if (engine->is_single)
        md_renew_give_up(slot->renew);
    rest(slot, slot->key);
}

static void advance(const md_engine_t *engine, slot_t *slot)
{
    apr_time_t now = apr_time_now();

    switch (md_renew_step(slot->renew, now, roll())) {
    case MD_STEP_AGAIN:
        slot->key = now;
        break;
    case MD_STEP_WAIT:
        slot->key = md_renew_wake_at(slot->renew);
        if (slot->key - now > PARK_AFTER)
            park(engine, slot);
        break;
    case MD_STEP_DONE:
    case MD_STEP_FAILED:
        rest(slot, md_renew_next_run(slot->renew));
        break;
    }
}

/* ---- workers ---- */

/* The slot to work on now, NULL if there is none. Called locked. */
static slot_t *take(md_engine_t *engine, apr_time_t now)
{
    slot_t *slot = apr_skiplist_peek(engine->in_flight);

    if (slot && slot->key <= now)
        return apr_skiplist_pop(engine->in_flight, NULL);
    if (engine->flying >= engine->reg->conf->renew_concurrency)
        return NULL;
    slot = apr_skiplist_pop(engine->waiting, NULL);
    if (slot)
        ++engine->flying;
    return slot;
}

static void keep_result(md_engine_t *engine, slot_t *slot)
{
    md_err_init(&slot->result, engine->p);
    if (slot->renew)
        md_err_copy(&slot->result, md_renew_result(slot->renew));
    else
        md_fail(&slot->result, APR_ENOMEM, "no memory for a renewal");
}

/* Called locked. */
static void put_back(md_engine_t *engine, slot_t *slot)
{
    if (slot->where == SLOT_IN_FLIGHT) {
        apr_skiplist_insert(engine->in_flight, slot);
        return;
    }
    if (engine->is_single)
        keep_result(engine, slot);
    end_run(slot);
    --engine->flying;
    if (slot->check_at == 0 || engine->is_single)
        slot->check_at = NEVER;
    if (slot->check_at < engine->next_check)
        engine->next_check = slot->check_at;
}

/* Wait until a slot may be due, or something changes. Called locked. */
static void wait_for_work(md_engine_t *engine, apr_time_t now)
{
    slot_t *slot = apr_skiplist_peek(engine->in_flight);

    if (slot)
        apr_thread_cond_timedwait(engine->changed, engine->mutex, slot->key - now);
    else
        apr_thread_cond_wait(engine->changed, engine->mutex);
}

static int has_work(const md_engine_t *engine)
{
    return engine->working > 0 || apr_skiplist_size(engine->in_flight) > 0
           || apr_skiplist_size(engine->waiting) > 0;
}

static void work_on(md_engine_t *engine, slot_t *slot)
{
    ++engine->working;
    slot->is_taken = 1;
    unlock(engine);
    if (slot->where == SLOT_WAITING)
        look(engine, slot);
    else
        advance(engine, slot);
    lock(engine);
    --engine->working;
    slot->is_taken = 0;
    put_back(engine, slot);
    apr_thread_cond_broadcast(engine->changed);
}

/* Called locked. */
static void work(md_engine_t *engine)
{
    apr_time_t now;
    slot_t *slot;

    while (!engine->is_stopping && has_work(engine)) {
        now = apr_time_now();
        slot = take(engine, now);
        if (slot)
            work_on(engine, slot);
        else
            wait_for_work(engine, now);
    }
}

static void *APR_THREAD_FUNC worker(apr_thread_t *thread, void *baton)
{
    md_engine_t *engine = baton;

    (void)thread;
    lock(engine);
    work(engine);
    --engine->threads_alive;
    unlock(engine);
    return NULL;
}

/* ---- the caller's side ---- */

static void join_threads(md_engine_t *engine)
{
    apr_status_t rv;

    while (engine->thread_count > 0)
        apr_thread_join(&rv, engine->threads[--engine->thread_count]);
    if (engine->lock)
        md_store_unlock(engine->lock);
    engine->lock = NULL;
    if (engine->thread_pool)
        apr_pool_destroy(engine->thread_pool);
    engine->thread_pool = NULL;
}

/* A graceful restart lets the children of two generations overlap, and so may servers that share a
 * store. Two runs for one domain would take each other's keys away: who works has the lock. */
static apr_status_t take_lock(md_engine_t *engine)
{
    apr_status_t rv;
    md_err_t err;

    if (engine->lock)
        return APR_SUCCESS;
    if (!engine->thread_pool)
        engine->thread_pool = own_pool();
    if (!engine->thread_pool)
        return APR_ENOMEM;
    md_err_init(&err, engine->thread_pool);
    rv = md_store_try_lock(&engine->lock, engine->reg->store, &err, engine->thread_pool);
    if (rv == APR_SUCCESS)
        return rv;
    engine->lock = NULL;
    md_log(APR_STATUS_IS_EAGAIN(rv) ? MD_LOG_TRACE1 : MD_LOG_ERR, rv, "no renewals now: %s",
           err.detail);
    apr_pool_destroy(engine->thread_pool);
    engine->thread_pool = NULL;
    return rv;
}

/* As many as there is work for. Called locked. */
static void start_threads(md_engine_t *engine)
{
    int wanted = engine->flying + (int)apr_skiplist_size(engine->waiting);
    apr_status_t rv;

    if (wanted > engine->reg->conf->renew_concurrency)
        wanted = engine->reg->conf->renew_concurrency;
    while (engine->thread_count < wanted
           && engine->thread_count < WORKERS) {
        rv = apr_thread_create(&engine->threads[engine->thread_count], NULL, worker, engine,
                               engine->thread_pool);
        if (rv != APR_SUCCESS) {
            md_log(MD_LOG_ERR, rv, "cannot create a thread for renewals, %d are there",
                   engine->threads_alive);
            return;
        }
        ++engine->thread_count;
        ++engine->threads_alive;
    }
}

/* Put idle slots that are due into the queue of the waiting, the shortest lived first. Called
 * locked. */
static void collect_due(md_engine_t *engine, apr_time_t now)
{
    int i, is_regular = now >= engine->regular_at;
    slot_t *slot;

    if (is_regular)
        engine->regular_at = now + md_job_jitter(engine->reg->conf->check_interval, roll());
    engine->next_check = engine->regular_at;
    for (i = 0; i < engine->slot_count; ++i) {
        slot = &engine->slots[i];
        if (slot->is_taken || slot->where != SLOT_IDLE)
            continue;
        if (is_regular || slot->check_at <= now) {
            slot->where = SLOT_WAITING;
            slot->key = md_renew_time_left(slot->domain, now);
            apr_skiplist_insert(engine->waiting, slot);
        }
        else if (slot->check_at < engine->next_check) {
            engine->next_check = slot->check_at;
        }
    }
}

/* Everything is done for now: give back what the work needed. */
static void settle(md_engine_t *engine)
{
    join_threads(engine);
    md_http_idle(engine->http);
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

apr_time_t md_engine_run(md_engine_t *engine, apr_time_t now)
{
    apr_status_t rv = APR_SUCCESS;
    apr_time_t wake_at;

    lock(engine);
    if (now >= engine->next_check)
        collect_due(engine, now);
    if (engine->threads_alive == 0 && engine->thread_count > 0) {
        unlock(engine);
        settle(engine);
        lock(engine);
    }
    if (has_work(engine))
        rv = take_lock(engine);
    if (has_work(engine) && rv == APR_SUCCESS)
        start_threads(engine);
    apr_thread_cond_broadcast(engine->changed);
    wake_at = engine->next_check;
    if (engine->threads_alive > 0 && wake_at > now + BUSY_TICK)
        wake_at = now + BUSY_TICK;
    unlock(engine);
    if (rv != APR_SUCCESS)
        return now + (APR_STATUS_IS_EAGAIN(rv) ? LOCK_TICK : BROKEN_TICK);
    return wake_at;
}

apr_status_t md_engine_drive(md_engine_t *engine, md_err_t *err)
{
    engine->is_single = 1;
    engine->thread_pool = own_pool();
    if (!engine->thread_pool)
        return md_fail(err, APR_ENOMEM, "no memory for threads");
    lock(engine);
    collect_due(engine, apr_time_now());
    start_threads(engine);
    work(engine); /* with the others, or alone */
    unlock(engine);
    join_threads(engine);
    return APR_SUCCESS;
}

const md_err_t *md_engine_result(const md_engine_t *engine, int i)
{
    return &engine->slots[i].result;
}

void md_engine_stop(md_engine_t *engine)
{
    int i;

    lock(engine);
    engine->is_stopping = 1;
    apr_thread_cond_broadcast(engine->changed);
    unlock(engine);
    md_http_stop(engine->http);
    join_threads(engine);
    for (i = 0; i < engine->slot_count; ++i)
        end_run(&engine->slots[i]);
}
