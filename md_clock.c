/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks of the system. */
#include "md_clock.h"

#include <time.h>

apr_time_t md_clock_now(void)
{
    return apr_time_now();
}

apr_time_t md_clock_steady(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return apr_time_from_sec(t.tv_sec) + t.tv_nsec / 1000;
}

void md_clock_sleep(apr_interval_time_t time)
{
    apr_sleep(time);
}

int md_clock_make_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc;

    rc = pthread_condattr_init(&attr);
    if (rc)
        return rc;
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (!rc)
        rc = pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
    return rc;
}

void md_clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, apr_time_t until)
{
    struct timespec t = { .tv_sec = (time_t)apr_time_sec(until),
                          .tv_nsec = (long)apr_time_usec(until) * 1000 };

    (void)pthread_cond_timedwait(cond, mutex, &t);
}
