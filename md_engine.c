/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: tasks, lanes, threads. */
#include "md_engine.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <apr_skiplist.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include "md_clock.h"
#include "md_log.h"

#define RUNS_EACH    4                      /* runs in flight for each thread there may be */
#define PARK_AFTER   apr_time_from_sec(60)  /* a longer wait gives up its place in flight */
#define PARKED_COUNT apr_time_from_sec(600) /* as which it counts at most: it was asked for */
#define LINGER       apr_time_from_sec(1)   /* a thread that is not needed ends after that */
#define BUSY_TICK    apr_time_from_sec(1)
#define SOON_TICK    apr_time_from_msec(200)
#define BROKEN_TICK  apr_time_from_sec(60)
#define POOL_KEEPS   (256 * 1024)           /* bytes of free memory that a run holds on to */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SIZE   0                      /* their frames are larger: the system's default */
#else
#define STACK_SIZE   (256 * 1024)
#endif

/* What has its share of the threads. */
typedef struct lane_t {
    const char *name;      /* NULL: the lane where resting tasks are looked at */
    apr_skiplist *timed;   /* by due_at: at rest, or in flight */
    apr_skiplist *waiting; /* by urgency: for a place in flight */
    int in_flight;         /* queued or being worked on */
    int working;           /* threads at it */
    apr_uint64_t turn;     /* the last one that it had */
    struct lane_t *next;
} lane_t;

typedef struct thread_t {
    md_engine_t *engine;
    enum { THREAD_NONE, THREAD_RUNS, THREAD_ENDED } state;
    apr_thread_t *thread;  /* to be joined; NULL: none */
    apr_pool_t *pool;
} thread_t;

struct md_engine_t {
    md_engine_host_t host;
    apr_pool_t *p;         /* its own */
    int cores;

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t changed;
    lane_t *lanes;         /* the first is that of looks */
    int lane_count;        /* without it */
    int task_count;
    apr_uint64_t turns;    /* how often a task was taken */
    int working;           /* threads at work on a task */
    int idle;              /* threads that wait for work */
    int alive;             /* threads, without that of the caller of md_engine_drive */
    thread_t *threads;     /* host.places of them */
    apr_time_t no_threads_until;
    int is_open;
    int is_driven;         /* see md_engine_drive */
    int is_stopping;
};

/* ---- odds and ends ---- */

static int urgency_cmp(void *a, void *b)
{
    const md_task_t *x = a, *y = b;

    if (x->urgency != y->urgency)
        return x->urgency < y->urgency ? -1 : 1;
    return x->index - y->index;
}

static int due_cmp(void *a, void *b)
{
    const md_task_t *x = a, *y = b;

    if (x->due_at != y->due_at)
        return x->due_at < y->due_at ? -1 : 1;
    return urgency_cmp(a, b);
}

static void lock(md_engine_t *engine)
{
    pthread_mutex_lock(&engine->mutex);
}

static void unlock(md_engine_t *engine)
{
    pthread_mutex_unlock(&engine->mutex);
}

apr_pool_t *md_engine_pool(void)
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

static lane_t *make_lane(const char *name, apr_pool_t *p)
{
    lane_t *lane = apr_pcalloc(p, sizeof(*lane));

    lane->name = name;
    (void)apr_skiplist_init(&lane->timed, p);
    (void)apr_skiplist_init(&lane->waiting, p);
    apr_skiplist_set_compare(lane->timed, due_cmp, due_cmp);
    apr_skiplist_set_compare(lane->waiting, urgency_cmp, urgency_cmp);
    return lane;
}

/* There are few. Called locked. */
static lane_t *find_lane(md_engine_t *engine, const char *name)
{
    lane_t *lane = engine->lanes;

    while (lane->next && strcmp(lane->next->name, name))
        lane = lane->next;
    if (!lane->next) {
        lane->next = make_lane(apr_pstrdup(engine->p, name), engine->p);
        ++engine->lane_count;
    }
    return lane->next;
}

static apr_status_t destroy_engine(void *baton)
{
    md_engine_t *engine = baton;

    md_engine_stop(engine);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->mutex);
    apr_pool_destroy(engine->p);
    return APR_SUCCESS;
}

static apr_status_t make_mutex(md_engine_t *engine)
{
    int rc = md_clock_make_cond(&engine->changed);

    return rc ? rc : pthread_mutex_init(&engine->mutex, NULL);
}

apr_status_t md_engine_create(md_engine_t **pengine, const md_engine_host_t *host, md_err_t *err,
                              apr_pool_t *p)
{
    md_engine_t *engine = apr_pcalloc(p, sizeof(*engine));
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    apr_status_t rv;

    engine->host = *host;
    engine->cores = cores > 0 ? (int)cores : 1;
    engine->threads = apr_pcalloc(p, sizeof(thread_t) * (size_t)host->places);
    engine->p = md_engine_pool();
    rv = engine->p ? make_mutex(engine) : APR_ENOMEM;
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot create the engine that renews certificates");
    engine->lanes = make_lane(NULL, engine->p);
    md_load_note(host->load, 0, 0); /* one before may have been killed */
    apr_pool_pre_cleanup_register(p, engine, destroy_engine);
    *pengine = engine;
    return APR_SUCCESS;
}

/* Called locked. */
static void lay_to_rest(md_engine_t *engine, md_task_t *task)
{
    if (task->is_woken)
        task->due_at = md_clock_steady();
    task->is_woken = 0;
    task->is_resting = 1;
    if (task->due_at != MD_TASK_NEVER)
        apr_skiplist_insert(engine->lanes->timed, task);
}

void md_engine_add(md_engine_t *engine, md_task_t *task)
{
    lock(engine);
    task->index = engine->task_count++;
    if (task->lane)
        (void)find_lane(engine, task->lane); /* others leave it its share from now on */
    lay_to_rest(engine, task);
    pthread_cond_signal(&engine->changed);
    unlock(engine);
}

void md_engine_wake(md_engine_t *engine, md_task_t *task)
{
    lock(engine);
    task->is_woken = 1;
    if (task->is_resting) {
        apr_skiplist_remove(engine->lanes->timed, task, NULL);
        lay_to_rest(engine, task);
        pthread_cond_signal(&engine->changed);
    }
    unlock(engine);
}

/* For those who watch. Called locked. */
static void note_load(const md_engine_t *engine)
{
    int in_flight = 0, waiting = 0;
    const lane_t *lane;

    for (lane = engine->lanes->next; lane; lane = lane->next) {
        in_flight += lane->in_flight;
        waiting += (int)apr_skiplist_size(lane->waiting);
    }
    md_load_note(engine->host.load, in_flight, waiting);
}

/* ---- which task is next; called locked ---- */

/* Each lane has its part of the threads for sure, and more while a quarter of all is left to the
 * others. */
static int may_work(const md_engine_t *engine, const lane_t *lane)
{
    int places = engine->host.places;

    if (!lane->name)
        return lane->working < engine->cores;
    return lane->working == 0 || lane->working < places / engine->lane_count
           || places - engine->working > places / 4;
}

static int may_begin(const md_engine_t *engine, const lane_t *lane)
{
    return apr_skiplist_size(lane->waiting) > 0
           && lane->in_flight < engine->host.places * RUNS_EACH;
}

static int has_due(const md_engine_t *engine, const lane_t *lane, apr_time_t now)
{
    const md_task_t *task = apr_skiplist_peek(lane->timed);

    return (task && task->due_at <= now) || may_begin(engine, lane);
}

/* Runs begin early and go on in turn: if few were in flight, the last ones would be alone in the
 * end, and most threads without work. */
static md_task_t *take_from(md_engine_t *engine, lane_t *lane)
{
    md_task_t *task;

    ++engine->working;
    ++lane->working;
    if (lane->name) /* looks come first, as they tell what is urgent */
        lane->turn = ++engine->turns;
    if (!may_begin(engine, lane)) {
        task = apr_skiplist_pop(lane->timed, NULL);
        task->is_resting = 0;
        return task;
    }
    task = apr_skiplist_pop(lane->waiting, NULL);
    task->at = lane;
    ++lane->in_flight;
    note_load(engine);
    return task;
}

static int comes_before(const lane_t *a, const lane_t *b)
{
    return a->working != b->working ? a->working < b->working : a->turn < b->turn;
}

/* From the lane with the fewest threads at work, in turn; NULL if nothing is due. */
static md_task_t *take(md_engine_t *engine, apr_time_t now)
{
    lane_t *lane, *best = NULL;

    if (engine->working >= engine->host.places)
        return NULL;
    for (lane = engine->lanes; lane; lane = lane->next)
        if (has_due(engine, lane, now) && may_work(engine, lane)
            && (!best || comes_before(lane, best)))
            best = lane;
    return best ? take_from(engine, best) : NULL;
}

/* When something may be due that nobody is at work on. What waits for a thread is taken up by the
 * thread that is ready first. */
static apr_time_t next_due(const md_engine_t *engine)
{
    apr_time_t earliest = MD_TASK_NEVER;
    const md_task_t *task;
    const lane_t *lane;

    for (lane = engine->lanes; lane; lane = lane->next) {
        task = apr_skiplist_peek(lane->timed);
        if (task && task->due_at < earliest && may_work(engine, lane))
            earliest = task->due_at;
    }
    return earliest;
}

static int has_runs(const md_engine_t *engine)
{
    const lane_t *lane;

    for (lane = engine->lanes->next; lane; lane = lane->next)
        if (lane->in_flight > 0 || apr_skiplist_size(lane->waiting) > 0)
            return 1;
    return 0;
}

static int has_work(const md_engine_t *engine, apr_time_t now)
{
    return engine->working > 0 || has_runs(engine) || has_due(engine, engine->lanes, now);
}

/* ---- a task in work ---- */

static md_task_next_t cut(md_task_t *task, md_task_why_t why)
{
    task->kind->end(task, why);
    return MD_TASK_REST;
}

/* One step, and what the time it took means for the run. */
static md_task_next_t advance(md_task_t *task)
{
    apr_time_t began = md_clock_steady(), now;
    md_task_next_t next = task->kind->step(task);
    apr_interval_time_t wait;

    now = md_clock_steady();
    if (next == MD_TASK_REST) {
        task->spent = 0;
        return next;
    }
    if (next == MD_TASK_AGAIN) /* its turn is by when it had the last one, however long that took */
        task->due_at = began;
    wait = task->due_at > now ? task->due_at - now : 0;
    task->spent += now - began + (wait < PARKED_COUNT ? wait : PARKED_COUNT);
    if (task->spent > task->kind->limit) {
        task->spent = 0;
        return cut(task, MD_TASK_OVERDUE);
    }
    return wait > PARK_AFTER ? cut(task, MD_TASK_LONG_WAIT) : next;
}

/* Where it belongs after a look or a step. Called locked. */
static void put_back(md_engine_t *engine, md_task_t *task, md_task_next_t next)
{
    if (next == MD_TASK_REST) {
        if (task->at)
            --task->at->in_flight;
        task->at = NULL;
        task->is_active = 0;
        lay_to_rest(engine, task);
        return;
    }
    if (task->at)
        apr_skiplist_insert(task->at->timed, task);
    else
        apr_skiplist_insert(find_lane(engine, task->lane)->waiting, task);
    task->is_active = 1;
}

/* Called locked. */
static void work_on(md_engine_t *engine, md_task_t *task)
{
    lane_t *lane = task->at ? task->at : engine->lanes;
    md_task_next_t next;

    unlock(engine);
    next = task->is_active ? advance(task) : task->kind->look(task);
    lock(engine);
    --engine->working;
    --lane->working;
    put_back(engine, task, next);
    note_load(engine);
}

/* ---- threads ---- */

static void *APR_THREAD_FUNC thread_main(apr_thread_t *thread, void *baton);

/* Give back what an ended thread had; it has nothing more to do but to end. */
static void reap(thread_t *t)
{
    apr_status_t rv;

    apr_thread_join(&rv, t->thread);
    apr_pool_destroy(t->pool);
    t->thread = NULL;
    t->state = THREAD_NONE;
}

static apr_status_t create_thread(thread_t *t)
{
    apr_threadattr_t *attr;
    apr_status_t rv;

    t->pool = md_engine_pool();
    if (!t->pool)
        return APR_ENOMEM;
    rv = apr_threadattr_create(&attr, t->pool);
    if (rv == APR_SUCCESS && STACK_SIZE > 0)
        rv = apr_threadattr_stacksize_set(attr, STACK_SIZE);
    if (rv == APR_SUCCESS)
        rv = apr_thread_create(&t->thread, attr, thread_main, t, t->pool);
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(t->pool);
        t->thread = NULL; /* APR leaves what it began with there */
    }
    return rv;
}

/* One more, if there may be. Called locked. */
static apr_status_t spawn(md_engine_t *engine)
{
    apr_time_t now = md_clock_steady();
    thread_t *t = engine->threads;
    char reason[120];
    apr_status_t rv;

    if (engine->is_stopping || engine->alive >= engine->host.places - engine->is_driven)
        return APR_SUCCESS;
    if (now < engine->no_threads_until)
        return APR_EAGAIN;
    while (t->state == THREAD_RUNS)
        ++t;
    if (t->state == THREAD_ENDED)
        reap(t);
    t->engine = engine;
    rv = create_thread(t);
    if (rv == APR_SUCCESS) {
        t->state = THREAD_RUNS;
        ++engine->alive;
        return rv;
    }
    engine->no_threads_until = now + BROKEN_TICK;
    md_log(MD_LOG_ERR, "cannot create a thread for renewing certificates (there are %d): %s. "
           "Trying again in a minute; check the limits on processes and memory",
           engine->alive, apr_strerror(rv, reason, sizeof(reason)));
    return rv;
}

/* Is there anything to do, or to wait for, besides what threads are at work on? */
static int has_more(const md_engine_t *engine, apr_time_t now)
{
    const lane_t *lane;

    for (lane = engine->lanes->next; lane; lane = lane->next)
        if (apr_skiplist_size(lane->timed) > 0 || apr_skiplist_size(lane->waiting) > 0)
            return 1;
    return has_due(engine, engine->lanes, now);
}

/* Somebody else must look after the rest before this thread is busy for an unknown time. Called
 * locked. */
static void call_another(md_engine_t *engine, apr_time_t now)
{
    if (engine->idle > 0)
        pthread_cond_signal(&engine->changed);
    else if (has_more(engine, now))
        (void)spawn(engine);
}

/* Sleep until something may be due or another thread calls. 0: this thread, without work since
 * then, is not needed any more. Called locked. */
static int wait_for_work(md_engine_t *engine, apr_time_t now, apr_time_t since)
{
    int is_spare = engine->idle > 0 || !has_runs(engine);
    apr_time_t until = next_due(engine), most;

    if (is_spare && since + LINGER <= now)
        return 0;
    most = is_spare ? since + LINGER : now + PARK_AFTER;
    ++engine->idle;
    md_clock_wait(&engine->changed, &engine->mutex, until < most ? until : most);
    --engine->idle;
    return 1;
}

/* Called locked. */
static void work(md_engine_t *engine)
{
    apr_time_t now, since = md_clock_steady();
    md_task_t *task;

    while (!engine->is_stopping) {
        now = md_clock_steady();
        if (engine->is_driven && !has_work(engine, now))
            break;
        task = take(engine, now);
        if (task) {
            call_another(engine, now);
            work_on(engine, task);
            since = md_clock_steady();
        }
        else if (!wait_for_work(engine, now, since)) {
            break;
        }
    }
    /* What this one would have woken up for is another one's now. */
    pthread_cond_broadcast(&engine->changed);
}

static void *APR_THREAD_FUNC thread_main(apr_thread_t *thread, void *baton)
{
    thread_t *t = baton;

    (void)thread;
    lock(t->engine);
    work(t->engine);
    --t->engine->alive;
    t->state = THREAD_ENDED;
    unlock(t->engine);
    return NULL;
}

static void join_threads(md_engine_t *engine)
{
    int i;

    for (i = 0; i < engine->host.places; ++i)
        if (engine->threads[i].thread)
            reap(&engine->threads[i]);
}

/* ---- the caller's side ---- */

static void close_host(md_engine_t *engine)
{
    if (engine->is_open && engine->host.close)
        engine->host.close(engine->host.baton);
    engine->is_open = 0;
}

/* Called locked, and without threads. */
static apr_status_t start_work(md_engine_t *engine)
{
    apr_status_t rv = APR_SUCCESS;

    if (!engine->is_open && engine->host.open)
        rv = engine->host.open(engine->host.baton);
    if (rv != APR_SUCCESS)
        return rv;
    engine->is_open = 1;
    rv = spawn(engine);
    if (rv == APR_SUCCESS)
        return rv;
    close_host(engine);
    return APR_ENOMEM;
}

/* Called locked. */
static apr_interval_time_t time_to_tick(const md_engine_t *engine, apr_time_t now)
{
    apr_time_t due = next_due(engine);
    apr_interval_time_t wait = due > now ? due - now : 0;

    if (engine->alive == 0)
        return wait;
    if (wait < SOON_TICK)
        return SOON_TICK;
    return wait < BUSY_TICK ? wait : BUSY_TICK;
}

apr_interval_time_t md_engine_run(md_engine_t *engine)
{
    apr_time_t now = md_clock_steady();
    apr_status_t rv = APR_SUCCESS;
    apr_interval_time_t wait;

    lock(engine);
    if (engine->alive > 0) { /* maybe all of them in long exchanges */
        if (engine->idle == 0 && has_more(engine, now))
            (void)spawn(engine);
    }
    else {
        join_threads(engine);
        if (has_work(engine, now))
            rv = start_work(engine);
        else
            close_host(engine);
    }
    wait = time_to_tick(engine, now);
    unlock(engine);
    if (rv != APR_SUCCESS)
        return APR_STATUS_IS_EAGAIN(rv) ? SOON_TICK : BROKEN_TICK;
    return wait;
}

void md_engine_drive(md_engine_t *engine)
{
    lock(engine);
    engine->is_driven = 1;
    /* Until all is done: who joins the others must not miss one that begins meanwhile. */
    while (!engine->is_stopping && has_work(engine, md_clock_steady()))
        work(engine); /* with others that it calls, or alone */
    unlock(engine);
    join_threads(engine);
}

void md_engine_stop(md_engine_t *engine)
{
    md_task_t *task;
    lane_t *lane;

    lock(engine);
    engine->is_stopping = 1;
    pthread_cond_broadcast(&engine->changed);
    unlock(engine);
    join_threads(engine);
    close_host(engine);
    for (lane = engine->lanes->next; lane; lane = lane->next)
        while ((task = apr_skiplist_pop(lane->timed, NULL)))
            task->kind->end(task, MD_TASK_STOPPED);
    md_load_note(engine->host.load, 0, 0);
}
