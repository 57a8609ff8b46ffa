/* SPDX-License-Identifier: Apache-2.0 */
/* A second implementation of md_clock.h for tests without threads: time passes when the test says
 * so, and when somebody waits. */
#ifndef FAKE_CLOCK_H
#define FAKE_CLOCK_H

#include "../../md_clock.h"

/* Begin at this date. */
void fake_clock_start(apr_time_t date);

void fake_clock_advance(apr_interval_time_t time);

/* The date of this machine is wrong by that from now on. */
void fake_clock_set_off(apr_interval_time_t off);

/* The date of the rest of the world. */
apr_time_t fake_clock_truth(void);

#endif
