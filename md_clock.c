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
