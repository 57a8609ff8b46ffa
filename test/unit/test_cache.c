/* SPDX-License-Identifier: Apache-2.0 */
/* What is loaded when, and who goes on with what; also by many threads at the same time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <pthread.h>

#include <apr_general.h>

#include "../../md_cache.h"
#include "fake_clock.h"

#define COUNT   50
#define THREADS 8

/* A thing, as old as the generation that it was loaded for. */
typedef struct thing_t {
    int number, is_alive;
    unsigned int generation;
} thing_t;

static apr_pool_t *p;
static atomic_uint generations[COUNT];
static atomic_int loads, things, at_once[COUNT];
static atomic_int is_bad, is_lack, is_gone, is_slow;

static void *load(void *baton, int number, void *old, int *pis_lack)
{
    thing_t *thing;

    assert_ptr_equal(baton, generations);
    assert_int_equal(atomic_fetch_add(&at_once[number], 1), 0);
    atomic_fetch_add(&loads, 1);
    if (is_slow)
        usleep(1000);
    atomic_fetch_sub(&at_once[number], 1);
    *pis_lack = is_lack;
    if (is_gone)
        return NULL;
    if (is_bad || is_lack)
        return old;
    thing = malloc(sizeof(*thing));
    *thing = (thing_t){ number, 1, generations[number] };
    atomic_fetch_add(&things, 1);
    return thing;
}

static void destroy(void *baton)
{
    thing_t *thing = baton;

    assert_true(thing->is_alive);
    thing->is_alive = 0;
    free(thing);
    atomic_fetch_sub(&things, 1);
}

static const md_cache_kind_t KIND = { load, destroy };

static int setup(void **state)
{
    int i;

    apr_pool_create(&p, NULL);
    for (i = 0; i < COUNT; ++i)
        generations[i] = 0;
    loads = is_bad = is_lack = is_gone = is_slow = 0;
    fake_clock_start(apr_time_from_sec(1000));
    (void)state;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    assert_int_equal(things, 0);
    return 0;
}

/* The generation of what is there, -1: nothing is. */
static int look(md_cache_t *cache, int number)
{
    md_cached_t *cached = md_cache_hold(cache, number, generations[number], generations);
    int generation = cached ? (int)((thing_t *)cached->thing)->generation : -1;

    if (cached) {
        assert_int_equal(((thing_t *)cached->thing)->number, number);
        md_cache_release(cache, cached);
    }
    return generation;
}

static void loaded_when_it_is_needed(void **state)
{
    md_cache_t *cache = md_cache_make(&KIND, COUNT, 10, p);
    md_cached_t *before;
    int i;

    (void)state;
    assert_int_equal(loads, 0);
    for (i = 0; i < 3; ++i)
        assert_int_equal(look(cache, 7), 0);
    assert_int_equal(loads, 1);
    before = md_cache_hold(cache, 7, 0, generations);
    generations[7] = 5;
    assert_int_equal(look(cache, 7), 5);
    assert_int_equal(look(cache, 8), 0);
    assert_int_equal(loads, 3);
    /* who holds what there was before has it for as long as he likes */
    assert_int_equal(((thing_t *)before->thing)->generation, 0);
    assert_int_equal(things, 3);
    md_cache_release(cache, before);
    assert_int_equal(things, 2);
    assert_null(md_cache_hold(cache, COUNT, 0, generations));
    assert_null(md_cache_hold(cache, -1, 0, generations));
}

/* What is bad, or nothing at all, is not asked for again until there is another generation. */
static void nothing_better(void **state)
{
    md_cache_t *cache = md_cache_make(&KIND, COUNT, 10, p);

    (void)state;
    is_bad = 1;
    assert_int_equal(look(cache, 1), -1);
    assert_int_equal(look(cache, 1), -1);
    assert_int_equal(loads, 1);
    is_bad = 0;
    generations[1] = 1;
    assert_int_equal(look(cache, 1), 1);
    is_bad = 1;
    generations[1] = 2;
    assert_int_equal(look(cache, 1), 1);
    assert_int_equal(look(cache, 1), 1);
    assert_int_equal(loads, 3);
    is_gone = 1;
    fake_clock_advance(apr_time_from_sec(1));
    generations[1] = 3;
    assert_int_equal(look(cache, 1), -1);
    assert_int_equal(look(cache, 1), -1);
    assert_int_equal(loads, 4);
}

/* Who cannot tell now looks again in a while. */
static void lack(void **state)
{
    md_cache_t *cache = md_cache_make(&KIND, COUNT, 10, p);
    int i;

    (void)state;
    is_lack = 1;
    for (i = 0; i < 10; ++i)
        assert_int_equal(look(cache, 1), -1);
    assert_int_equal(loads, 1);
    fake_clock_advance(apr_time_from_sec(1));
    assert_int_equal(look(cache, 1), -1);
    assert_int_equal(loads, 2);
    is_lack = 0;
    fake_clock_advance(apr_time_from_sec(1));
    assert_int_equal(look(cache, 1), 0);
    assert_int_equal(look(cache, 1), 0);
    assert_int_equal(loads, 3);
}

/* Whoever raises a generation all the time. */
static void not_too_often(void **state)
{
    md_cache_t *cache = md_cache_make(&KIND, COUNT, 10, p);
    int i;

    (void)state;
    for (i = 0; i < 10000; ++i) {
        ++generations[3];
        (void)look(cache, 3);
        fake_clock_advance(apr_time_from_msec(1));
    }
    assert_in_range(loads, 90, 110);
    /* a few in a row are followed at once */
    fake_clock_advance(apr_time_from_sec(1));
    for (i = 0; i < 3; ++i) {
        ++generations[3];
        assert_int_equal(look(cache, 3), (int)generations[3]);
    }
    ++generations[3];
    assert_int_equal(look(cache, 3), (int)generations[3] - 1);
    fake_clock_advance(apr_time_from_msec(100));
    assert_int_equal(look(cache, 3), (int)generations[3]);
}

static void least_recently_used_go(void **state)
{
    md_cache_t *cache = md_cache_make(&KIND, COUNT, 3, p);
    md_cached_t *held;
    int i;

    (void)state;
    held = md_cache_hold(cache, 0, 0, generations);
    for (i = 0; i < 3; ++i)
        (void)look(cache, i);
    (void)look(cache, 1);
    (void)look(cache, 3); /* 0 goes */
    (void)look(cache, 4); /* 2 goes */
    assert_int_equal(loads, 5);
    assert_int_equal(things, 4); /* one of them is held */
    md_cache_release(cache, held);
    assert_int_equal(things, 3);
    for (i = 0; i < 3; ++i) {
        (void)look(cache, 1);
        (void)look(cache, 3);
        (void)look(cache, 4);
    }
    assert_int_equal(loads, 5);
    (void)look(cache, 0);
    (void)look(cache, 2);
    assert_int_equal(loads, 7);
    for (i = 0; i < 100 * COUNT; ++i)
        (void)look(cache, i % COUNT);
    assert_int_equal(things, 3);
}

/* ---- threads ---- */

static md_cache_t *shared;
static atomic_int is_over;

static void *visit(void *seed)
{
    unsigned int last[COUNT] = { 0 };
    md_cached_t *cached;
    thing_t *thing;
    uintptr_t i;

    for (i = (uintptr_t)seed; !is_over; ++i) {
        int number = (int)(i * 7 % COUNT);

        cached = md_cache_hold(shared, number, generations[number], generations);
        assert_non_null(cached); /* the first one waits until it is there */
        thing = cached->thing;
        assert_true(thing->is_alive && thing->number == number);
        assert_true(thing->generation >= last[number]);
        last[number] = thing->generation;
        md_cache_release(shared, cached);
    }
    return NULL;
}

static void many_at_once(void **state)
{
    pthread_t threads[THREADS];
    int i, most;

    (void)state;
    is_slow = 1;
    for (most = COUNT; most >= 5; most -= COUNT - 5) {
        shared = md_cache_make(&KIND, COUNT, most, p);
        is_over = 0;
        for (i = 0; i < THREADS; ++i)
            pthread_create(&threads[i], NULL, visit, (void *)(uintptr_t)(i * 11));
        for (i = 0; i < 500; ++i) {
            ++generations[i % COUNT];
            usleep(1000);
        }
        is_over = 1;
        for (i = 0; i < THREADS; ++i)
            pthread_join(threads[i], NULL);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(loaded_when_it_is_needed), TEST(nothing_better), TEST(lack), TEST(not_too_often),
        TEST(least_recently_used_go), TEST(many_at_once),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
