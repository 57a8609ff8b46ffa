/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the place of md_clock.c and of the waits of threads, for one test program with one thread:
 * time flies. Include it once. */
#ifndef FAKE_CLOCK_H
#define FAKE_CLOCK_H

#include <errno.h>
#include <pthread.h>
#include <sys/time.h>

#include <apr_thread_proc.h>

#include "../../md_clock.h"

static apr_time_t fake_date, fake_steady;

static void fake_clock_set(void)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    fake_date = apr_time_from_sec(now.tv_sec);
    fake_steady = apr_time_from_sec(1000);
}

/* All clocks go on. */
static void fake_clock_add(apr_interval_time_t elapsed)
{
    fake_date += elapsed;
    fake_steady += elapsed;
}

apr_time_t apr_time_now(void)
{
    return fake_date;
}

apr_time_t md_clock_now(void)
{
    return fake_date;
}

apr_time_t md_clock_steady(void)
{
    return fake_steady;
}

/* Nobody else will signal it. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    apr_time_t end = apr_time_from_sec(until->tv_sec) + until->tv_nsec / 1000;

    (void)cond;
    (void)mutex;
    if (end > fake_steady)
        fake_clock_add(end - fake_steady);
    return ETIMEDOUT;
}

apr_status_t apr_thread_create(apr_thread_t **thread, apr_threadattr_t *attr,
                               apr_thread_start_t func, void *baton, apr_pool_t *pool)
{
    (void)thread;
    (void)attr;
    (void)func;
    (void)baton;
    (void)pool;
    return APR_EAGAIN;
}

#endif
