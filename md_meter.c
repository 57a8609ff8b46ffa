/* SPDX-License-Identifier: Apache-2.0 */
/* Counting in shared memory. */
#include "md_meter.h"

#include <stddef.h>

#define WORDS (sizeof(md_meter_t) / sizeof(apr_uint64_t))

/* In microseconds. */
static const apr_interval_time_t BOUNDS[] = {
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};
_Static_assert(sizeof(BOUNDS) / sizeof(BOUNDS[0]) == MD_METER_BOUNDS, "all of them");

static apr_uint64_t load(const apr_uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store(apr_uint64_t *word, apr_uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static void add(apr_uint64_t *word, apr_uint64_t more)
{
    __atomic_fetch_add(word, more, __ATOMIC_RELAXED);
}

static md_answer_t answer_of(int status)
{
    static const md_answer_t BY_CLASS[] = { MD_ANSWER_NONE, MD_ANSWER_NONE, MD_ANSWER_2XX,
                                            MD_ANSWER_3XX, MD_ANSWER_4XX, MD_ANSWER_5XX };

    return status >= 0 && status < 600 ? BY_CLASS[status / 100] : MD_ANSWER_NONE;
}

void md_meter_request(md_meter_t *meter, int status, apr_interval_time_t took)
{
    int i = 0;

    if (!meter)
        return;
    while (i < MD_METER_BOUNDS && took > BOUNDS[i])
        ++i;
    add(&meter->took_up_to[i], 1);
    add(&meter->took, took > 0 ? (apr_uint64_t)took : 0);
    add(&meter->answers[answer_of(status)], 1);
}

void md_meter_hold(md_meter_t *meter, md_hold_t kind, apr_time_t until, int is_new)
{
    if (!meter)
        return;
    add(&meter->holds[kind], is_new ? 1 : 0);
    store(&meter->held_until[kind], (apr_uint64_t)until);
}

md_meter_t md_meter_read(const md_meter_t *meter)
{
    const apr_uint64_t *from = (const apr_uint64_t *)meter;
    md_meter_t copy;
    apr_uint64_t *to = (apr_uint64_t *)&copy;
    size_t i;

    for (i = 0; i < WORDS; ++i)
        to[i] = load(&from[i]);
    return copy;
}

void md_meter_take_over(md_meter_t *meter, const md_meter_t *before)
{
    md_meter_t copy = md_meter_read(before);
    const apr_uint64_t *from = (const apr_uint64_t *)&copy;
    apr_uint64_t *to = (apr_uint64_t *)meter;
    size_t i;

    for (i = 0; i < offsetof(md_meter_t, held_until) / sizeof(apr_uint64_t); ++i)
        add(&to[i], from[i]);
}

void md_load_note(md_load_t *load_of, int in_flight, int waiting)
{
    if (!load_of)
        return;
    store(&load_of->in_flight, (apr_uint64_t)in_flight);
    store(&load_of->waiting, (apr_uint64_t)waiting);
}

md_load_t md_load_read(const md_load_t *load_of)
{
    return (md_load_t){ load(&load_of->in_flight), load(&load_of->waiting) };
}
