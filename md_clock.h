/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks. What is waited for is measured with the steady one; the date is for what is kept,
 * shown, or comes from certificates and CAs, and may jump. */
#ifndef MD_CLOCK_H
#define MD_CLOCK_H

#include <apr_time.h>

/* The date. */
apr_time_t md_clock_now(void);

/* Microseconds since some moment; never goes back, whatever is done to the date. */
apr_time_t md_clock_steady(void);

#endif
