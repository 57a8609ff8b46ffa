/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks, and waits by them, which nobody else asks the system for. What is waited for is
 * measured with the steady one; the date is for what is kept, shown, or comes from certificates and
 * CAs, and may jump. */
#ifndef MD_CLOCK_H
#define MD_CLOCK_H

#include <pthread.h>

#include <apr_time.h>

/* The date. */
apr_time_t md_clock_now(void);

/* Microseconds since some moment; never goes back, whatever is done to the date. */
apr_time_t md_clock_steady(void);

void md_clock_sleep(apr_interval_time_t time);

/* A condition to wait for by the steady clock; 0 or an errno. */
int md_clock_make_cond(pthread_cond_t *cond);

/* Wait for a signal, until the steady clock says `until` at most. */
void md_clock_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, apr_time_t until);

#endif
