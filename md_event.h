/* SPDX-License-Identifier: Apache-2.0 */
/* Events: what happens to a managed domain, told to the programs of MDNotifyCmd and MDMessageCmd
 * and to the file of MDEventLog. A table knows the events. Nobody waits for a program: telling goes
 * on whenever it is looked at. */
#ifndef MD_EVENT_H
#define MD_EVENT_H

#include "md_exec.h"
#include "md_job.h"

/* Who is told; constant, and shared by all threads. */
typedef struct md_events_t {
    const char *message_cmd, *notify_cmd; /* as configured, or NULL */
    const char *store_dir;
    int log;                              /* descriptor of MDEventLog, -1: none */
    md_execs_t *execs;
} md_events_t;

typedef enum {
    MD_EVENT_RENEWING,        /* a renewal is about to begin: may be refused */
    MD_EVENT_CHALLENGE_SETUP, /* an answer is in place, before the CA is told: may be refused */
    MD_EVENT_RENEWED,         /* a new set is ready */
    MD_EVENT_ERRORED,         /* an attempt failed */
    MD_EVENT_EXPIRING,        /* a certificate is in its warn window */
    MD_EVENT_INSTALLED,       /* a new set is in service */
    MD_EVENT_OCSP_RENEWED,
    MD_EVENT_OCSP_ERRORED,
    MD_EVENT_KIND_MAX
} md_event_kind_t;

typedef struct md_event_t {
    md_event_kind_t kind;
    const char *domain;       /* name, or `other` for staples of certificates beside the domains */
    const char *challenge;    /* of MD_EVENT_CHALLENGE_SETUP: `http-01:example.org`; else NULL */
    const char *problem, *detail; /* why it failed, or NULL */
    apr_time_t next_try;      /* 0: none is planned */
    apr_time_t expires;       /* of the certificate in service that ends first, 0: there is none */
    int attempt;              /* at telling it: 1, 2, ... */
    int is_live;              /* of MD_EVENT_RENEWED: the set is in service already */
} md_event_t;

/* Was this event handled so short a time ago that it counts as handled (AH10267), by the log of its
 * record? */
int md_event_is_recent(const md_event_t *event, const md_job_t *job, apr_time_t now);

/* An event that is being told. */
typedef struct md_telling_t md_telling_t;

/* Begin: nothing is run yet. `events` may be NULL: nobody listens. Strings are copied to `p`. */
md_telling_t *md_event_tell(const md_events_t *events, const md_event_t *event, apr_pool_t *p);

/* Go on with it; never blocks. APR_SUCCESS: it was told; APR_EAGAIN: call again at
 * md_event_look_at, by the steady clock; APR_EINTR: we stop, and how it would have ended is not
 * known. Anything else is how a command failed: logged, and in `err` with problem and detail. Of
 * MD_EVENT_RENEWED, AH10059 is told between the two commands, if that needs a restart. */
apr_status_t md_event_step(md_telling_t *telling, md_err_t *err);
apr_time_t md_event_look_at(const md_telling_t *telling);

/* Note the outcome in the log of a record: `err` NULL if it was told. */
void md_event_record(md_job_t *job, const md_telling_t *telling, const md_err_t *err,
                     apr_time_t now);

/* `challenge-setup:http-01:example.org`, in the pool of the telling. */
const char *md_event_name(const md_telling_t *telling);

#endif
