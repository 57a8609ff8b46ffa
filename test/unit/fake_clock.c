/* SPDX-License-Identifier: Apache-2.0 */
/* Time as the test wants it. */
#include "fake_clock.h"

static apr_time_t started, steady = APR_USEC_PER_SEC;
static apr_interval_time_t off;

void fake_clock_start(apr_time_t date)
{
    started = date - steady;
    off = 0;
}

void fake_clock_advance(apr_interval_time_t time)
{
    steady += time;
}

void fake_clock_set_off(apr_interval_time_t by)
{
    off = by;
}

apr_time_t fake_clock_truth(void)
{
    return started + steady;
}

apr_time_t md_clock_now(void)
{
    return started + steady + off;
}

apr_time_t md_clock_steady(void)
{
    return steady;
}

void md_clock_sleep(apr_interval_time_t time)
{
    steady += time;
}

int md_clock_make_cond(pthread_cond_t *cond)
{
    return pthread_cond_init(cond, NULL);
}

void md_clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, apr_time_t until)
{
    (void)cond;
    (void)mutex;
    if (until > steady)
        steady = until;
}
