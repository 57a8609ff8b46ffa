/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted of work with others, in words of shared memory: any thread of any process adds,
 * any other one reads, and nobody waits. Zero at first. */
#ifndef MD_METER_H
#define MD_METER_H

#include <apr_time.h>

/* How a request was answered. */
typedef enum {
    MD_ANSWER_2XX,
    MD_ANSWER_3XX,
    MD_ANSWER_4XX,
    MD_ANSWER_5XX,
    MD_ANSWER_NONE,
    MD_ANSWER_COUNT
} md_answer_t;

/* What a CA holds up for a while, as it is busy or has limits. */
typedef enum {
    MD_HOLD_REQUESTS,
    MD_HOLD_ORDERS,   /* new ones */
    MD_HOLD_COUNT
} md_hold_t;

/* The bounds of times that are told apart, in seconds as metrics show them: a CA on the same
 * continent answers within the first ones, one in trouble within the last. */
#define MD_METER_BOUNDS 10
#define MD_METER_BOUND_TEXTS \
    "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0"

/* Requests to one CA, in 64-bit words. */
typedef struct md_meter_t {
    apr_uint64_t answers[MD_ANSWER_COUNT];
    apr_uint64_t took_up_to[MD_METER_BOUNDS + 1]; /* requests by time: up to this bound, but longer
                                                     than the one before */
    apr_uint64_t took;                            /* microseconds, all together */
    apr_uint64_t holds[MD_HOLD_COUNT];
    apr_uint64_t held_until[MD_HOLD_COUNT];       /* apr_time_t */
} md_meter_t;

/* How much an engine has to do, as it last noted. */
typedef struct md_load_t {
    apr_uint64_t in_flight;  /* runs that have begun and are not done */
    apr_uint64_t waiting;    /* for a place */
} md_load_t;

/* A request and its HTTP status, 0: there was no answer. `meter` may be NULL here and below. */
void md_meter_request(md_meter_t *meter, int status, apr_interval_time_t took);

/* Held until then, for one more reason if `is_new`; 0: no more. */
void md_meter_hold(md_meter_t *meter, md_hold_t kind, apr_time_t until, int is_new);

/* A copy, of which each word is whole. */
md_meter_t md_meter_read(const md_meter_t *meter);

/* What was counted elsewhere before counts, too; before others know of `meter`. What was held then
 * is not. */
void md_meter_take_over(md_meter_t *meter, const md_meter_t *before);

/* `load` may be NULL. */
void md_load_note(md_load_t *load, int in_flight, int waiting);
md_load_t md_load_read(const md_load_t *load);

#endif
