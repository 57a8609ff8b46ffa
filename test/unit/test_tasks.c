/* SPDX-License-Identifier: Apache-2.0 */
/* The engine with tasks that only the tests know: lanes, deadlines, threads. Also run under TSan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include "../../md_clock.h"
#include "../../md_engine.h"

#define PLACES 64

typedef struct job_t {
    md_task_t task;
    const char *lane;
    int steps;                 /* to do */
    int is_blocking;           /* a step takes until the test ends it */
    md_task_next_t next;       /* after a step that is not the last */
    apr_interval_time_t pause; /* with MD_TASK_WAIT */
    apr_interval_time_t takes; /* each step */
    int looks, done, order;
    int ended[3];              /* by reason */
} job_t;

static apr_pool_t *p;
static md_engine_t *engine;
static md_err_t err;
static job_t jobs[200];
static md_load_t load;
static md_task_t *woken_early;
static int is_released, at_work, most_at_work, is_open, opened, finished;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;

static md_task_next_t look(md_task_t *task)
{
    job_t *job = (job_t *)task;

    __atomic_add_fetch(&job->looks, 1, __ATOMIC_SEQ_CST);
    if (woken_early == task) { /* it is woken before it rests */
        woken_early = NULL;
        md_engine_wake(engine, task);
    }
    task->lane = job->lane;
    task->due_at = MD_TASK_NEVER;
    return job->steps > 0 ? MD_TASK_AGAIN : MD_TASK_REST;
}

static void block(void)
{
    pthread_mutex_lock(&mutex);
    ++at_work;
    if (at_work > most_at_work)
        most_at_work = at_work;
    while (!is_released)
        pthread_cond_wait(&released, &mutex);
    --at_work;
    pthread_mutex_unlock(&mutex);
}

static md_task_next_t step(md_task_t *task)
{
    job_t *job = (job_t *)task;

    if (job->is_blocking)
        block();
    if (job->takes)
        apr_sleep(job->takes);
    if (__atomic_sub_fetch(&job->steps, 1, __ATOMIC_SEQ_CST) > 0) {
        task->due_at = md_clock_steady() + job->pause;
        return job->next;
    }
    task->due_at = MD_TASK_NEVER;
    job->order = __atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&job->done, 1, __ATOMIC_SEQ_CST);
    return MD_TASK_REST;
}

static void end(md_task_t *task, md_task_why_t why)
{
    job_t *job = (job_t *)task;

    __atomic_add_fetch(&job->ended[why], 1, __ATOMIC_SEQ_CST);
}

static const md_task_kind_t KIND = { look, step, end, APR_INT64_C(1000000) };
static const md_task_kind_t PATIENT = { look, step, end, APR_INT64_C(3600000000) };

static apr_status_t host_open(void *baton)
{
    (void)baton;
    is_open = 1;
    ++opened;
    return APR_SUCCESS;
}

static void host_close(void *baton)
{
    (void)baton;
    is_open = 0;
}

static void make_engine(int places)
{
    const md_engine_host_t host = { places, host_open, host_close, NULL, &load };

    assert_int_equal(md_engine_create(&engine, &host, &err, p), APR_SUCCESS);
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    memset(jobs, 0, sizeof(jobs));
    is_released = at_work = most_at_work = is_open = opened = finished = 0;
    make_engine(PLACES);
    return 0;
}

static void release(void)
{
    pthread_mutex_lock(&mutex);
    is_released = 1;
    pthread_cond_broadcast(&released);
    pthread_mutex_unlock(&mutex);
}

static int teardown(void **state)
{
    (void)state;
    release();
    apr_pool_destroy(p);
    return 0;
}

static job_t *add(int i, const char *lane, int steps)
{
    job_t *job = &jobs[i];

    job->task.kind = &KIND;
    job->task.lane = job->lane = lane;
    job->steps = steps;
    job->next = MD_TASK_AGAIN;
    md_engine_add(engine, &job->task);
    return job;
}

static int is_done(const job_t *job)
{
    return __atomic_load_n(&job->done, __ATOMIC_SEQ_CST);
}

static int was_ended(const job_t *job, md_task_why_t why)
{
    return __atomic_load_n(&job->ended[why], __ATOMIC_SEQ_CST);
}

#define AWAIT(condition) \
    do { \
        apr_time_t until = md_clock_steady() + apr_time_from_sec(30); \
        while (!(condition)) { \
            (void)md_engine_run(engine); \
            apr_sleep(1000); \
            assert_true(md_clock_steady() < until); \
        } \
    } while (0)

static int is_blocked(int count)
{
    int is;

    pthread_mutex_lock(&mutex);
    is = at_work >= count;
    pthread_mutex_unlock(&mutex);
    return is;
}

/* However many wait for it, and whoever came first. */
static void a_silent_lane_holds_up_no_other(void **state)
{
    static const int COUNTS[] = { 1, 8, 20, 40, 100 };
    size_t c;
    int i, share;

    (void)state;
    for (c = 0; c < sizeof(COUNTS) / sizeof(COUNTS[0]); ++c) {
        make_engine(PLACES);
        is_released = 0;
        memset(jobs, 0, sizeof(jobs));
        for (i = 0; i < COUNTS[c]; ++i)
            add(i, "silent", 1)->is_blocking = 1;
        for (; i < COUNTS[c] + 40; ++i)
            add(i, "good", 10)->task.due_at = md_clock_steady() + apr_time_from_msec(200);
        share = COUNTS[c] < PLACES * 3 / 4 ? COUNTS[c] : PLACES * 3 / 4;
        AWAIT(is_blocked(share));
        for (i = COUNTS[c]; i < COUNTS[c] + 40; ++i)
            AWAIT(is_done(&jobs[i]));
        assert_false(is_done(&jobs[0]));
        release();
        for (i = 0; i < COUNTS[c]; ++i)
            AWAIT(is_done(&jobs[i]));
        assert_true(most_at_work <= share);
        md_engine_stop(engine);
    }
}

/* A lane that is alone has all. */
static void one_lane_uses_all_threads(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < PLACES + 10; ++i)
        add(i, "slow", 1)->is_blocking = 1;
    AWAIT(is_blocked(PLACES));
    release();
    for (i = 0; i < PLACES + 10; ++i)
        AWAIT(is_done(&jobs[i]));
    assert_int_equal(most_at_work, PLACES);
}

static void the_most_urgent_begins_first(void **state)
{
    int i;

    (void)state;
    md_engine_stop(engine);
    make_engine(1);
    for (i = 0; i < 50; ++i)
        add(i, "lane", 2)->task.urgency = (i * 37) % 50;
    for (i = 0; i < 50; ++i)
        AWAIT(is_done(&jobs[i]));
    for (i = 0; i < 50; ++i)
        assert_int_equal(jobs[i].order, jobs[i].task.urgency + 1);
}

/* It is not behind those that could go on later than it began its step. */
static void a_slow_step_costs_no_turn(void **state)
{
    job_t *slow, *waits;

    (void)state;
    md_engine_stop(engine);
    make_engine(1);
    waits = add(0, "lane", 2);
    waits->next = MD_TASK_WAIT;
    waits->pause = apr_time_from_msec(20);
    slow = add(1, "lane", 2);
    slow->takes = apr_time_from_msec(50);
    slow->task.urgency = 1;
    AWAIT(is_done(slow) && is_done(waits));
    assert_int_equal(slow->order, 1);
}

static void a_run_has_a_deadline_of_its_own_time(void **state)
{
    job_t *endless, *waits;

    (void)state;
    endless = add(0, "lane", 1000000);
    endless->next = MD_TASK_WAIT;
    endless->pause = apr_time_from_msec(10);
    waits = add(1, "lane", 5);
    waits->next = MD_TASK_WAIT;
    waits->pause = apr_time_from_msec(150);
    AWAIT(is_done(waits));
    AWAIT(was_ended(endless, MD_TASK_OVERDUE));
    assert_int_equal(was_ended(waits, MD_TASK_OVERDUE), 0);
    assert_false(is_done(endless));
}

/* Nor does the time count in which there was no thread for it. */
static void waiting_for_a_thread_is_not_its_own_time(void **state)
{
    job_t *job;

    (void)state;
    md_engine_stop(engine);
    make_engine(1);
    add(0, "lane", 1)->is_blocking = 1;
    AWAIT(is_blocked(1));
    job = add(1, "lane", 3);
    apr_sleep(apr_time_from_msec(1200)); /* more than the limit */
    release();
    AWAIT(is_done(job));
    assert_int_equal(was_ended(job, MD_TASK_OVERDUE), 0);
}

static void a_long_wait_gives_up_its_place(void **state)
{
    job_t *job;

    (void)state;
    job = add(0, "lane", 2);
    job->task.kind = &PATIENT;
    job->next = MD_TASK_WAIT;
    job->pause = apr_time_from_sec(100);
    AWAIT(was_ended(job, MD_TASK_LONG_WAIT));
    AWAIT(md_engine_run(engine) > apr_time_from_sec(60));
    assert_int_equal(job->looks, 1);
}

static void tasks_come_at_any_time(void **state)
{
    int i;

    (void)state;
    AWAIT(md_engine_run(engine) > apr_time_from_sec(3600));
    assert_int_equal(opened, 0);
    for (i = 0; i < 200; ++i) {
        add(i, i % 2 ? "a" : "b", 3);
        (void)md_engine_run(engine);
    }
    for (i = 0; i < 200; ++i)
        AWAIT(is_done(&jobs[i]));
    AWAIT(md_engine_run(engine) > apr_time_from_sec(3600));
    assert_true(opened >= 1);
    assert_false(is_open);
}

/* One that rests, for ever even, is looked at when it is woken, and one that is being looked at once
 * more. */
static void a_task_that_rests_can_be_woken(void **state)
{
    job_t *job = &jobs[0];
    int i;

    (void)state;
    job->task.kind = &KIND;
    job->task.lane = job->lane = "lane";
    job->next = MD_TASK_AGAIN;
    job->task.due_at = MD_TASK_NEVER;
    md_engine_add(engine, &job->task);
    AWAIT(md_engine_run(engine) > apr_time_from_sec(3600));
    assert_int_equal(job->looks, 0);
    for (i = 0; i < 20; ++i) {
        __atomic_store_n(&job->done, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&job->steps, 1, __ATOMIC_SEQ_CST);
        md_engine_wake(engine, &job->task);
        AWAIT(is_done(job));
    }
    woken_early = &job->task;
    md_engine_wake(engine, &job->task);
    AWAIT(__atomic_load_n(&job->looks, __ATOMIC_SEQ_CST) >= 22);
}

static void stop_ends_what_waits(void **state)
{
    job_t *job;

    (void)state;
    job = add(0, "lane", 100000);
    job->next = MD_TASK_WAIT;
    job->pause = apr_time_from_msec(500);
    AWAIT(__atomic_load_n(&job->steps, __ATOMIC_SEQ_CST) < 100000);
    md_engine_stop(engine);
    assert_int_equal(was_ended(job, MD_TASK_STOPPED), 1);
    assert_false(is_open);
}

/* With fewer threads than lanes, one that always has work does not keep them for itself. */
static void few_threads_serve_all_lanes(void **state)
{
    static const char *const LANES[] = { "a", "b", "c" };
    job_t *job;
    int i;

    (void)state;
    md_engine_stop(engine);
    make_engine(1);
    for (i = 0; i < 3; ++i) {
        job = add(i, LANES[i], i == 2 ? 10 : 1 << 30);
        job->task.kind = &PATIENT;
    }
    AWAIT(is_done(&jobs[2]));
}

static int is_noted(apr_uint64_t in_flight, apr_uint64_t waiting)
{
    md_load_t noted = md_load_read(&load);

    return noted.in_flight == in_flight && noted.waiting == waiting;
}

static void what_there_is_to_do_is_noted(void **state)
{
    int i;

    (void)state;
    md_engine_stop(engine);
    md_load_note(&load, 7, 7); /* by one that was killed */
    make_engine(2);
    assert_true(is_noted(0, 0));
    for (i = 0; i < 20; ++i)
        add(i, i % 2 ? "odd" : "even", 3)->is_blocking = 1;
    AWAIT(is_noted(2, 18));
    release();
    AWAIT(is_noted(0, 0));
    assert_int_equal(__atomic_load_n(&finished, __ATOMIC_SEQ_CST), 20);
}

static void what_is_cut_off_is_not_noted_any_more(void **state)
{
    job_t *job;

    (void)state;
    job = add(0, "lane", 2);
    job->task.kind = &PATIENT;
    job->next = MD_TASK_WAIT;
    job->pause = apr_time_from_sec(50);
    AWAIT(is_noted(1, 0));
    md_engine_stop(engine);
    assert_true(is_noted(0, 0));
}

/* ---- the caller's thread among those that work ---- */

#define ROUND apr_time_from_msec(1400)

static apr_time_t started;
static __thread int ordinal;
static int ordinals;

/* In rounds. The caller's thread, and then all but the newest, find themselves spare, and end. */
static md_task_next_t slow_step(md_task_t *task)
{
    md_task_next_t next;

    if (!ordinal)
        ordinal = __atomic_add_fetch(&ordinals, 1, __ATOMIC_SEQ_CST);
    apr_sleep(apr_time_from_msec(50)); /* the next one may be about to come */
    if (ordinal == 2
        || (ordinal > 2 && ordinal != __atomic_load_n(&ordinals, __ATOMIC_SEQ_CST)))
        apr_sleep(apr_time_from_msec(250));
    next = step(task);
    if (next == MD_TASK_WAIT)
        task->due_at += ROUND - (task->due_at - started) % ROUND;
    return next;
}

static void drive_returns_when_all_is_done(void **state)
{
    const md_task_kind_t slow = { look, slow_step, end, PATIENT.limit };
    job_t *job;
    int i;

    (void)state;
    started = md_clock_steady();
    ordinal = ordinals = 1;
    for (i = 0; i < 2; ++i) {
        job = add(i, "lane", 4);
        job->task.kind = &slow;
        job->next = MD_TASK_WAIT;
    }
    md_engine_drive(engine);
    assert_true(is_done(&jobs[0]));
    assert_true(is_done(&jobs[1]));
}

/* ---- threads that cannot be made ---- */

static int threads_left = -1; /* -1: as many as there may be */

apr_status_t apr_thread_create(apr_thread_t **thread, apr_threadattr_t *attr,
                               apr_thread_start_t func, void *baton, apr_pool_t *pool)
{
    apr_status_t (*real)(apr_thread_t **, apr_threadattr_t *, apr_thread_start_t, void *,
                         apr_pool_t *);

    if (threads_left == 0) {
        *thread = apr_palloc(pool, 1); /* APR leaves what it began with there, too */
        return APR_EAGAIN;
    }
    if (threads_left > 0)
        --threads_left;
    *(void **)&real = dlsym(RTLD_NEXT, "apr_thread_create");
    return real(thread, attr, func, baton, pool);
}

/* Nothing stays locked, and the next try comes in a minute, not with the next regular round. */
static void without_a_thread_nothing_is_kept(void **state)
{
    (void)state;
    add(0, "lane", 1);
    threads_left = 0;
    assert_int_equal(md_engine_run(engine), apr_time_from_sec(60));
    assert_int_equal(opened, 1);
    assert_false(is_open);
    assert_int_equal(md_engine_run(engine), apr_time_from_sec(60));
    threads_left = -1;
    assert_int_equal(finished, 0);
    md_engine_stop(engine); /* there is none to be waited for */
}

static void few_threads_do_all_the_work(void **state)
{
    int i;

    (void)state;
    threads_left = 2;
    for (i = 0; i < 100; ++i)
        add(i, "lane", 5);
    for (i = 0; i < 100; ++i)
        AWAIT(is_done(&jobs[i]));
    assert_int_equal(threads_left, 0);
    threads_left = -1;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_silent_lane_holds_up_no_other),
        TEST(one_lane_uses_all_threads),
        TEST(the_most_urgent_begins_first),
        TEST(a_slow_step_costs_no_turn),
        TEST(a_run_has_a_deadline_of_its_own_time),
        TEST(waiting_for_a_thread_is_not_its_own_time),
        TEST(a_long_wait_gives_up_its_place),
        TEST(tasks_come_at_any_time),
        TEST(a_task_that_rests_can_be_woken),
        TEST(stop_ends_what_waits),
        TEST(few_threads_serve_all_lanes),
        TEST(what_there_is_to_do_is_noted),
        TEST(what_is_cut_off_is_not_noted_any_more),
        TEST(drive_returns_when_all_is_done),
        TEST(without_a_thread_nothing_is_kept),
        TEST(few_threads_do_all_the_work),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
