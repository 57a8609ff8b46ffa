/* SPDX-License-Identifier: Apache-2.0 */
/* Records of refreshing responses, and their events. */
#include "md_ocsp_record.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "md_clock.h"
#include "md_event.h"
#include "md_job.h"
#include "md_live.h"
#include "md_log.h"
#include "md_staples.h"

#define ACTIVITY "Refreshing the OCSP response"
#define KINDS    2 /* of events */

/* An event that is being told, or comes next. */
typedef struct told_t {
    md_event_kind_t kind;
    md_telling_t *telling;
    md_err_t err;
    apr_pool_t *pool;
} told_t;

struct md_ocsp_record_t {
    md_task_t task;              /* first, as the engine hands it back */
    md_ocsp_records_t *all;
    const char *name;
    const md_domain_t *domain;   /* or NULL */
    int is_fine;                 /* the record says so */
    told_t queue[KINDS];         /* each kind at most once, the first is being told */
    int queued;
};

struct md_ocsp_records_t {
    const md_reg_t *reg;
    md_engine_t *engine;
    apr_hash_t *by_name;
    apr_thread_mutex_t *mutex;   /* guards what a record has, here and in the store */
};

static void lock(md_ocsp_records_t *all)
{
    apr_thread_mutex_lock(all->mutex);
}

static void unlock(md_ocsp_records_t *all)
{
    apr_thread_mutex_unlock(all->mutex);
}

/* ---- in the store; called locked ---- */

static md_job_t *load(const md_ocsp_record_t *record, apr_pool_t *p)
{
    md_job_t *job;

    (void)md_job_load(&job, record->all->reg->store, MD_STORE_OCSP, record->name, NULL, p);
    return job;
}

static void save(const md_ocsp_record_t *record, const md_job_t *job, apr_pool_t *p)
{
    md_err_t err;

    md_err_init(&err, p);
    if (md_job_save_volatile(job, record->all->reg->store, &err, p) != APR_SUCCESS)
        md_log(MD_LOG_ERR, "md[%s]: cannot save the progress of refreshing OCSP responses: %s",
               record->name, err.detail);
}

/* ---- events ---- */

static int has_listener(const md_ocsp_record_t *record)
{
    const md_events_t *events = record->all->reg->events;

    return events && (events->message_cmd || events->log >= 0);
}

static int is_queued(const md_ocsp_record_t *record, md_event_kind_t kind)
{
    int i;

    for (i = 0; i < record->queued; ++i)
        if (record->queue[i].kind == kind)
            return 1;
    return 0;
}

/* Called locked. */
static void tell(md_ocsp_record_t *record, md_event_t *event, const md_job_t *job, apr_time_t now)
{
    told_t *told = &record->queue[record->queued];
    apr_pool_t *pool;

    event->domain = record->name;
    if (!has_listener(record) || is_queued(record, event->kind)
        || md_event_is_recent(event, job, now))
        return;
    pool = md_engine_pool();
    if (!pool)
        return;
    event->attempt = 1;
    event->expires = record->domain ? md_live_expires(record->domain) : 0;
    *told = (told_t){ .kind = event->kind, .pool = pool };
    md_err_init(&told->err, pool);
    told->telling = md_event_tell(record->all->reg->events, event, pool);
    ++record->queued;
    md_engine_wake(record->all->engine, &record->task);
}

static told_t *first_of(md_ocsp_record_t *record)
{
    told_t *first;

    lock(record->all);
    first = record->queued > 0 ? &record->queue[0] : NULL;
    unlock(record->all);
    return first;
}

/* It was told, or the command failed, or nobody knows (APR_EINTR). */
static void settle(md_ocsp_record_t *record, told_t *told, apr_status_t rv)
{
    md_job_t *job;

    lock(record->all);
    if (!APR_STATUS_IS_EINTR(rv)) {
        job = load(record, told->pool);
        md_event_record(job, told->telling, rv == APR_SUCCESS ? NULL : &told->err, md_clock_now());
        if (rv != APR_SUCCESS)
            md_job_result(job, ACTIVITY, &told->err, told->pool);
        save(record, job, told->pool);
    }
    apr_pool_destroy(told->pool);
    --record->queued;
    memmove(told, told + 1, sizeof(*told) * (apr_size_t)record->queued);
    unlock(record->all);
}

/* Go on with what there is to be told: APR_EAGAIN if a command runs. */
static apr_status_t go_on(md_ocsp_record_t *record)
{
    told_t *told;
    apr_status_t rv;

    for (told = first_of(record); told; told = first_of(record)) {
        rv = md_event_step(told->telling, &told->err);
        if (APR_STATUS_IS_EAGAIN(rv))
            return rv;
        settle(record, told, rv);
    }
    return APR_SUCCESS;
}

static md_task_next_t look(md_task_t *task)
{
    md_ocsp_record_t *record = (md_ocsp_record_t *)task;

    task->due_at = MD_TASK_NEVER; /* it is woken */
    if (APR_STATUS_IS_EAGAIN(go_on(record)))
        task->due_at = md_event_look_at(record->queue[0].telling);
    return MD_TASK_REST;
}

static const md_task_kind_t TELL = { look, NULL, NULL, 0 };

/* ---- how it goes ---- */

void md_ocsp_record_success(md_ocsp_record_t *record, int is_new, apr_time_t now, apr_pool_t *tmp)
{
    md_event_t event = { .kind = MD_EVENT_OCSP_RENEWED };
    md_job_t *job = NULL;

    lock(record->all);
    if (!record->is_fine || (is_new && has_listener(record)))
        job = load(record, tmp);
    if (!record->is_fine) { /* once, until a certificate of the name fails */
        job->finished = 1;
        job->errors = 0;
        job->last_run = now;
        job->next_run = 0;
        md_job_result(job, ACTIVITY, NULL, tmp);
        md_job_log(job, now, "finished", NULL, NULL);
        save(record, job, tmp);
        record->is_fine = 1;
    }
    if (is_new && job)
        tell(record, &event, job, now);
    unlock(record->all);
}

void md_ocsp_record_failure(md_ocsp_record_t *record, const md_err_t *why, int errors,
                            apr_time_t next_run, apr_time_t now, apr_pool_t *tmp)
{
    md_event_t event = { .kind = MD_EVENT_OCSP_ERRORED, .problem = why->type,
                         .detail = why->detail, .next_try = next_run };
    md_job_t *job;

    lock(record->all);
    job = load(record, tmp);
    job->finished = 0;
    job->errors = errors;
    job->last_run = now;
    job->next_run = next_run;
    md_job_result(job, ACTIVITY, why, tmp);
    md_job_log(job, now, "ocsp-error", why->type, why->detail);
    save(record, job, tmp);
    record->is_fine = 0;
    tell(record, &event, job, now);
    unlock(record->all);
}

/* ---- for the host ---- */

static void make_one(md_ocsp_records_t *all, const md_stapled_t *stapled, apr_pool_t *p)
{
    md_ocsp_record_t *record;

    if (md_ocsp_record_of(all, stapled->name))
        return;
    record = apr_pcalloc(p, sizeof(*record));
    record->all = all;
    record->name = stapled->name;
    record->domain = stapled->domain;
    record->task.kind = &TELL;
    record->task.due_at = MD_TASK_NEVER;
    apr_hash_set(all->by_name, record->name, APR_HASH_KEY_STRING, record);
}

apr_status_t md_ocsp_records_make(md_ocsp_records_t **precords, const md_reg_t *reg, md_err_t *err,
                                  apr_pool_t *p)
{
    md_ocsp_records_t *all = apr_pcalloc(p, sizeof(*all));
    apr_status_t rv;
    int i;

    all->reg = reg;
    all->by_name = apr_hash_make(p);
    rv = apr_thread_mutex_create(&all->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot create a mutex for stapling");
    for (i = 0; i < md_staples_count(reg->staples); ++i)
        make_one(all, md_staples_at(reg->staples, i), p);
    *precords = all;
    return APR_SUCCESS;
}

void md_ocsp_records_add(md_ocsp_records_t *records, md_engine_t *engine)
{
    apr_hash_index_t *hi;

    records->engine = engine;
    for (hi = apr_hash_first(NULL, records->by_name); hi; hi = apr_hash_next(hi))
        md_engine_add(engine, &((md_ocsp_record_t *)apr_hash_this_val(hi))->task);
}

md_ocsp_record_t *md_ocsp_record_of(const md_ocsp_records_t *records, const char *name)
{
    return apr_hash_get(records->by_name, name, APR_HASH_KEY_STRING);
}

void md_ocsp_records_settle(md_ocsp_records_t *records)
{
    apr_hash_index_t *hi;

    for (hi = apr_hash_first(NULL, records->by_name); hi; hi = apr_hash_next(hi))
        (void)go_on(apr_hash_this_val(hi));
}
