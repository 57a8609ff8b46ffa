/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: a queue of tasks of any kind, on as many threads as there is blocking work.
 *
 * A task that is due is looked at: either there is nothing to do until another time, or a run
 * begins, one exchange per step. Runs work in a lane (a CA, a responder), the most urgent first,
 * and each lane has its share of the threads: one that is slow or silent does not take all. Times
 * are those of the steady clock (md_clock.h). */
#ifndef MD_ENGINE_H
#define MD_ENGINE_H

#include "md_err.h"
#include "md_meter.h"

#define MD_TASK_NEVER APR_INT64_MAX

typedef struct md_engine_t md_engine_t;
typedef struct md_task_t md_task_t;

typedef enum {
    MD_TASK_REST,      /* nothing to do before due_at */
    MD_TASK_AGAIN,     /* there is work, or more of it */
    MD_TASK_WAIT       /* more work at due_at */
} md_task_next_t;

typedef enum {
    MD_TASK_STOPPED,   /* the engine stops */
    MD_TASK_LONG_WAIT, /* the wait until due_at is too long to hold on to all that a run needs */
    MD_TASK_OVERDUE    /* it was at work or waiting for longer than its limit */
} md_task_why_t;

/* What tasks of a kind do. For one task, one thread at a time calls these. */
typedef struct md_task_kind_t {
    /* The task is due: MD_TASK_AGAIN, with lane and urgency settled, or MD_TASK_REST. */
    md_task_next_t (*look)(md_task_t *task);
    /* A step of a run, the first one begins it; it may block for an exchange. With MD_TASK_REST the
     * run has ended. */
    md_task_next_t (*step)(md_task_t *task);
    /* End a run that has not ended by itself. due_at is as the last step left it; the task rests
     * until then, or until what is set here. */
    void (*end)(md_task_t *task, md_task_why_t why);
    /* How long a run may be at work or waiting, not counting the time it waits for its turn. */
    apr_interval_time_t limit;
} md_task_kind_t;

struct md_task_t {
    const md_task_kind_t *kind;
    apr_time_t due_at;
    const char *lane;              /* lives as long as the engine */
    apr_int64_t urgency;           /* the least is the most urgent */

    /* the engine's own */
    struct lane_t *at;             /* in flight: its lane; NULL: none */
    int is_active;                 /* in flight, or waits for a place */
    int is_resting;
    int is_woken;                  /* while it did not rest */
    apr_interval_time_t spent;     /* of the run, and of those it was cut into by long waits */
    int index;                     /* makes the order of a queue total */
};

/* Who has an engine. */
typedef struct md_engine_host_t {
    int places;                    /* threads at most; the runs in flight of a lane are four
                                    * times as many at most */
    apr_status_t (*open)(void *);  /* before there is work; APR_EAGAIN: not now, but soon. Tells why
                                    * not. NULL: nothing to open */
    void (*close)(void *);         /* there is no more for the time being, and no thread */
    void *baton;                   /* of both */
    md_load_t *load;               /* where it notes what it has to do, or NULL */
} md_engine_host_t;

/* An engine without tasks. It starts nothing by itself. */
MD_MUST_CHECK
apr_status_t md_engine_create(md_engine_t **pengine, const md_engine_host_t *host, md_err_t *err,
                              apr_pool_t *p);

/* One more task, at any time, with kind, due_at and the lane that it will probably need (or NULL)
 * settled. It has to live as long as the engine. */
void md_engine_add(md_engine_t *engine, md_task_t *task);

/* What the task rests for may have come about: it is looked at now, or after what is in
 * work. Any thread. */
void md_engine_wake(md_engine_t *engine, md_task_t *task);

/* Start what is due and return at once: how long until this is to be called again. Call from one
 * thread. */
apr_interval_time_t md_engine_run(md_engine_t *engine);

/* In place of md_engine_run, for a tool: work until no task is due or in work, with the caller's
 * thread among those that do. Call once. */
void md_engine_drive(md_engine_t *engine);

/* Stop after the steps that are in work, and wait for them; it is for the host to make exchanges
 * fail. No more tasks are taken up. */
void md_engine_stop(md_engine_t *engine);

/* A pool that no other thread shares anything with; NULL without memory. */
apr_pool_t *md_engine_pool(void);

#endif
