/* SPDX-License-Identifier: Apache-2.0 */
/* Renewals as tasks: when to look at a domain, its runs, and what is remembered of them in memory
 * as the disk may be full. */
#include "md_renewals.h"

#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "md_cas.h"
#include "md_clock.h"
#include "md_first_staple.h"
#include "md_log.h"
#include "md_notice.h"
#include "md_preflight.h"
#include "md_published.h"
#include "md_renew.h"
#include "md_staged.h"
#include "md_text.h"
#include "md_tidy.h"
#include "md_turns.h"
#include "md_wish.h"

#define RUN_LIMIT    apr_time_from_sec(3600) /* a CA may take 100 s for each answer */
#define BROKEN_AFTER apr_time_from_sec(60)   /* without memory or descriptors */
#define STAPLE_LANE  "first OCSP responses"  /* of all responders */
#define CHECK_LANE   "checks of names"       /* of all domains */
#define STAPLE_WAIT  apr_time_from_sec(60)   /* for them, and then for an exchange to end */
#define STAPLE_TRIES 8                       /* or for so many, in half a minute */

/* A domain. */
typedef struct renewal_t {
    md_task_t task;        /* first, as the engine hands it back */
    md_renewals_t *all;
    const md_domain_t *domain;
    md_turn_t turn;        /* among those with names in common */
    int has_record;        /* in the store, whatever it is worth; */
    int has_advice;        /* and what its CA advises */
    int may_be_published;  /* a set of it, by a process before this one */
    int errors;            /* failed attempts in a row, though they could not be saved */
    apr_time_t renew_at;   /* when it is due, as last seen; 0: not known */
    apr_time_t not_before; /* steady: the next attempt, or when to go on with this one */
    apr_time_t polled_at;  /* steady: the CA was last asked when to renew, 0: never; */
    apr_time_t poll_after; /* and, though that could not be saved, is not asked again before */
    int is_poll;           /* what there is to do is to ask it; */
    int is_check;          /* or what the CA would find, */
    int is_staple;         /* or the responder of staged certificates, */
    apr_time_t staple_until; /* steady: before what is ready is told of. 0: it is not asked */
    int staple_tries;
    md_advice_t *advice;   /* of such a run, NULL: it has not begun */
    md_acme_t *acme;       /* of it */
    md_preflight_t *preflight; /* of a check, NULL: it has not begun; */
    int is_checked;        /* before the attempt that is due, */
    char checked[MD_WISH_ID_SIZE]; /* or for this request, */
    apr_array_header_t *hints; /* with this result, */
    apr_pool_t *hints_pool; /* which lives here; NULL: there was none yet */
    md_renew_t *renew;     /* the run that renews, NULL: none */
    md_job_t *job;         /* of it */
    apr_pool_t *pool;      /* of either */
    md_err_t result;       /* of a single attempt */
    md_notice_t notice;    /* what is told of it */
    md_tidy_t tidy;        /* its TXT records that are not needed */
    md_wish_t heard;    /* the last request, of who listens; */
    md_wish_t asked;    /* guarded: the same until it is taken up, */
    md_wish_t request;  /* and then until it is answered */
} renewal_t;

/* The TXT records of a domain that is not configured any more. */
typedef struct orphan_t {
    md_task_t task;        /* first, as the engine hands it back */
    md_tidy_t tidy;
} orphan_t;

struct md_renewals_t {
    const md_reg_t *reg;
    md_http_t *http;
    md_engine_t *engine;
    md_cas_t *cas;
    md_turns_t *turns;
    renewal_t *list;
    int count;
    orphan_t *orphans;
    int orphan_count;
    apr_hash_t *by_name;
    apr_time_t requests_seen;  /* see md_wish_has_news */

    apr_thread_mutex_t *mutex; /* guards all below but the lock, and what is asked */
    apr_pool_t *p;             /* its own */
    apr_time_t lack_told_at;   /* steady, 0: never */
    apr_time_t regular_at;     /* steady: all are looked at, whatever they wait for */

    int has_looked;            /* for what was published by others */
    apr_file_t *lock;          /* of staging; NULL: not ours */
    apr_pool_t *lock_pool;
};

static void lock(md_renewals_t *all)
{
    apr_thread_mutex_lock(all->mutex);
}

static void unlock(md_renewals_t *all)
{
    apr_thread_mutex_unlock(all->mutex);
}

static unsigned char roll(void)
{
    unsigned char dice;

    md_random_bytes(&dice, 1);
    return dice;
}

static apr_status_t destroy_pool(void *pool)
{
    apr_pool_destroy(pool);
    return APR_SUCCESS;
}

static void use_ca(renewal_t *renewal)
{
    const char *url = md_renew_ca_url(renewal->renew);
    const md_ca_t *ca = url ? md_cas_get(renewal->all->cas, url, renewal->domain) : NULL;

    if (ca)
        md_renew_use_ca(renewal->renew, ca->acme, ca->use, ca->contacts);
}

static int claim_turn(renewal_t *renewal)
{
    return md_turns_claim(renewal->all->turns, &renewal->turn);
}

static int has_setups(const renewal_t *renewal)
{
    return md_turns_has_setups(renewal->all->turns, &renewal->turn);
}

static void leave_turn(renewal_t *renewal)
{
    md_turns_leave(renewal->all->turns, &renewal->turn);
}

/* ---- when ---- */

/* The next regular round, which follows its predecessor by MDCheckInterval, more or less. */
static apr_time_t next_round(md_renewals_t *all, apr_time_t steady)
{
    apr_time_t at;

    lock(all);
    if (all->regular_at <= steady)
        all->regular_at = steady + md_job_jitter(all->reg->conf->check_interval, roll());
    at = all->regular_at;
    unlock(all);
    return at;
}

/* Until then, or the next regular round. */
static md_task_next_t rest_until(renewal_t *renewal, apr_time_t at)
{
    apr_time_t round = next_round(renewal->all, md_clock_steady());

    renewal->task.due_at = at < round ? at : round;
    return MD_TASK_REST;
}

/* It concerns all of them, and so is told once a minute. */
static void tell_lack(md_renewals_t *all, const char *what)
{
    apr_time_t steady = md_clock_steady();
    int is_told;

    lock(all);
    is_told = all->lack_told_at && steady - all->lack_told_at < BROKEN_AFTER;
    if (!is_told)
        all->lack_told_at = steady;
    unlock(all);
    if (!is_told)
        md_log(MD_LOG_ERR, "no renewals now: %s. Trying again in a minute; check the limits on "
               "open files and memory", what);
}

/* The record of the domain; a new one in place of one that is damaged, or claims what is not so.
 * What could not be saved counts nevertheless. NULL: it cannot be read now. */
static md_job_t *load_job(renewal_t *renewal, apr_pool_t *p)
{
    const char *name = renewal->domain->name;
    const md_reg_t *reg = renewal->all->reg;
    apr_status_t rv;
    md_job_t *job;
    md_err_t err;

    md_err_init(&err, p);
    rv = md_job_load(&job, reg->store, MD_STORE_STAGING, name, &err, p);
    if (md_is_lack(rv)) {
        tell_lack(renewal->all, err.detail);
        return NULL;
    }
    renewal->has_record = !APR_STATUS_IS_ENOENT(rv);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, "md[%s]: %s; starting a new record", name, err.detail);
    if (rv != APR_SUCCESS || !md_renew_is_plausible(reg, renewal->domain, job, p))
        job = md_job_make(MD_STORE_STAGING, name, p);
    if (job->errors < renewal->errors)
        job->errors = renewal->errors;
    return job;
}

/* What all may know of the renewal: it is at work, or its record is that of a task that rests. */
static void post(const renewal_t *renewal, const md_job_t *job, int is_running)
{
    md_board_t *board = renewal->all->reg->board;
    md_board_row_t row = { .phase = MD_PHASE_QUIET };

    if (!board)
        return;
    if (is_running)
        row.phase = MD_PHASE_RUNNING;
    else if (renewal->has_record)
        row.phase = job->finished ? MD_PHASE_READY : MD_PHASE_WAITING;
    row.has_advice = renewal->has_advice;
    row.errors = job->errors;
    row.last_run = job->last_run;
    row.next_run = job->next_run;
    row.renew_at = renewal->renew_at;
    row.status = (int)md_json_get_int(job->last, "status", APR_SUCCESS);
    md_text_fit(row.problem, md_json_get_str(job->last, "problem"), sizeof(row.problem));
    md_text_fit(row.detail, md_json_get_str(job->last, "detail"), sizeof(row.detail));
    md_board_write(board, renewal->domain->number, &row);
}

/* ---- requests at run time ---- */

static int is_asked_to(const renewal_t *renewal, md_wish_kind_t kind)
{
    return renewal->request.id[0] && renewal->request.kind == kind;
}

static void save_answer(const renewal_t *renewal, const md_wish_t *request,
                        const md_wish_answer_t *answer)
{
    const char *name = renewal->domain->name;
    apr_pool_t *tmp = md_engine_pool();
    md_err_t err;

    if (!tmp)
        return;
    md_err_init(&err, tmp);
    if (md_wish_answer(renewal->all->reg->store, name, request, answer, &err, tmp)
        != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: a request cannot be answered: %s", name, err.detail);
    apr_pool_destroy(tmp);
}

/* What was asked for is done, or will not be; `detail` may be NULL. */
static void answer(renewal_t *renewal, apr_status_t rv, const char *detail)
{
    const md_wish_answer_t done = { .is_done = 1, .rv = rv, .detail = detail,
                                    .hints = is_asked_to(renewal, MD_WISH_CHECK)
                                             ? renewal->hints : NULL };

    save_answer(renewal, &renewal->request, &done);
    renewal->request.id[0] = '\0';
}

/* Another server on the same store may have done it by now. */
static void take_up(renewal_t *renewal, apr_pool_t *tmp)
{
    const md_renewals_t *all = renewal->all;
    int is_asked;

    lock(renewal->all);
    is_asked = renewal->asked.id[0] != '\0';
    renewal->asked.id[0] = '\0';
    unlock(renewal->all);
    if (is_asked && !md_wish_find(&renewal->request, all->reg->store, renewal->domain->name,
                                     md_clock_now(), tmp))
        renewal->request.id[0] = '\0';
}

/* By the right date nobody has to wait for longer than a certificate lives. */
static apr_interval_time_t wait_for(const md_domain_t *domain, apr_interval_time_t wait)
{
    apr_interval_time_t lifetime = md_renew_lifetime(domain);

    return lifetime > 0 && lifetime < wait ? lifetime : wait;
}

/* Steady, by the date of the next poll. */
static apr_time_t next_poll(const renewal_t *renewal, const md_advice_t *advice, apr_time_t now)
{
    apr_time_t at = md_advice_poll_at(advice), steady = md_clock_steady();

    if (at == APR_INT64_MAX)
        return MD_TASK_NEVER;
    at = steady + (at > now ? at - now : 0);
    return at > renewal->poll_after ? at : renewal->poll_after;
}

/* Is the CA asked first? Before a renewal that it wants begins, once, as it may have another wish
 * by now; not before one that is due anyway. */
static int is_poll_due(const renewal_t *renewal, const md_job_t *job, const md_advice_t *advice,
                       const md_due_t *due, apr_time_t now)
{
    apr_time_t steady = md_clock_steady();
    const md_hint_t *hint;

    if (due->at > now)
        return next_poll(renewal, advice, now) <= steady;
    hint = md_text_same(due->reason, "ari") ? md_advice_first(advice) : NULL;
    return hint && job->errors == 0 && hint->asked_at < due->at
           && (!renewal->polled_at || steady - renewal->polled_at >= MD_ARI_POLL_LEAST);
}

/* While something is being told, nothing else is done for the domain. */
static md_task_next_t rest_while_told(renewal_t *renewal)
{
    renewal->task.due_at = md_notice_look_at(&renewal->notice);
    return MD_TASK_REST;
}

/* ---- live activation ---- */

/* The whole set is in service: what it came from is not needed any more. */
static void clear_staging(renewal_t *renewal, md_job_t *job, apr_pool_t *tmp)
{
    const md_store_t *store = renewal->all->reg->store;
    const char *name = renewal->domain->name;
    md_err_t err;

    md_err_init(&err, tmp);
    job->group = MD_STORE_LIVE; /* with its log, the record of what is in service */
    if (md_job_save_volatile(job, store, &err, tmp) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: %s", name, err.detail);
    md_stage_reset(store, name, tmp);
    renewal->has_record = 0;
    renewal->errors = 0;
    md_notice_next(&renewal->notice);
}

/* Nothing of it is of use: order another one. */
static md_task_next_t order_again(renewal_t *renewal, md_job_t *job, const md_err_t *why,
                                  apr_pool_t *tmp)
{
    const md_reg_t *reg = renewal->all->reg;
    apr_time_t now = md_clock_now();
    md_err_t err;

    md_err_init(&err, tmp);
    md_stage_reset(reg->store, renewal->domain->name, tmp);
    job->finished = 0;
    renewal->errors = job->errors = job->errors < MD_MAX_ERRORS ? job->errors + 1 : MD_MAX_ERRORS;
    job->next_run = now + md_job_backoff(job->errors, reg->conf->retry_delay, MD_BACKOFF_MAX,
                                         roll());
    md_job_result(job, "Putting the certificate into service", why, tmp);
    if (md_job_save(job, reg->store, &err, tmp) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: %s", renewal->domain->name, err.detail);
    renewal->not_before = md_clock_steady() + (job->next_run - now);
    return rest_until(renewal, renewal->not_before);
}

/* By this process, or one before it that ended then. */
static int is_installed_told(const md_notice_t *notice, const md_job_t *job)
{
    return notice->is_installed || md_job_logged_at(job, "message-installed")
                                       >= md_job_logged_at(job, "finished");
}

/* Events of what is in service already: `renewed` as for others, `installed` once, however its
 * commands end. */
static md_task_next_t tell_live(renewal_t *renewal, md_job_t *job, apr_pool_t *tmp)
{
    md_notice_t *notice = &renewal->notice;

    if (!job->notified_renewed && notice->renewed_at <= md_clock_steady()
        && !md_notice_tell(notice, MD_EVENT_RENEWED, NULL, job, roll()))
        return rest_while_told(renewal);
    if (!job->notified_renewed)
        return rest_until(renewal, notice->renewed_at);
    if (!is_installed_told(notice, job)
        && !md_notice_tell(notice, MD_EVENT_INSTALLED, NULL, job, roll()))
        return rest_while_told(renewal);
    clear_staging(renewal, job, tmp);
    return rest_until(renewal, md_clock_steady());
}

/* A set that is ready becomes what all children serve, and only then is anybody told. */
static md_task_next_t go_live(renewal_t *renewal, md_job_t *job, apr_pool_t *tmp)
{
    const md_domain_t *domain = renewal->domain;
    const md_reg_t *reg = renewal->all->reg;
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, tmp);
    rv = md_staged_publish(reg, domain, md_live_of(domain), &err, tmp);
    if (rv == APR_SUCCESS) {
        md_board_raise(reg->board, domain->number);
        md_published_follow(reg->store, reg->board, domain);
        md_log(MD_LOG_NOTICE, "The Managed Domain %s has been set up and its new certificate is in "
               "service, without a restart", domain->name);
    }
    if (rv == APR_SUCCESS || APR_STATUS_IS_EEXIST(rv))
        return tell_live(renewal, job, tmp);
    md_log(MD_LOG_ERR, "md[%s]: the new certificate cannot be put into service: %s",
           domain->name, err.detail);
    return rv == APR_EGENERAL ? rest_until(renewal, md_clock_steady() + BROKEN_AFTER)
                              : order_again(renewal, job, &err, tmp);
}

/* A set that a process before us published: one that ended before it could say so, or a child of
 * the configuration before, after the start had looked. Or the start has stored it. */
static void settle_published(renewal_t *renewal, apr_pool_t *tmp)
{
    const md_domain_t *domain = renewal->domain;
    const md_reg_t *reg = renewal->all->reg;
    md_published_t published = { .number = 0 };
    apr_status_t rv;
    md_err_t err;

    if (renewal->may_be_published) {
        renewal->may_be_published = 0;
        md_err_init(&err, tmp);
        rv = md_published_check(&published, reg->store, domain, md_live_at_start(domain), &err,
                                tmp);
        if (APR_STATUS_IS_EEXIST(rv))
            md_published_remove(reg->store, domain->name, published.number, tmp);
        else if (rv == APR_SUCCESS)
            md_board_raise(reg->board, domain->number);
    }
    md_published_follow(reg->store, reg->board, domain);
}

/* Until then, or until it is time to warn that a certificate ends. */
static md_task_next_t rest_or_warn(renewal_t *renewal, apr_time_t until, md_job_t *job)
{
    md_notice_t *notice = &renewal->notice;
    apr_time_t warn_at = md_notice_warn_at(notice, job);

    if (warn_at <= md_clock_steady()) {
        if (!md_notice_tell(notice, MD_EVENT_EXPIRING, NULL, job, roll()))
            return rest_while_told(renewal);
        warn_at = md_notice_warn_at(notice, job);
    }
    return rest_until(renewal, until < warn_at ? until : warn_at);
}

static md_task_next_t announce(renewal_t *renewal, md_job_t *job)
{
    md_notice_t *notice = &renewal->notice;

    if (notice->renewed_at <= md_clock_steady()
        && !md_notice_tell(notice, MD_EVENT_RENEWED, NULL, job, roll()))
        return rest_while_told(renewal);
    return rest_until(renewal, notice->renewed_at);
}

/* Certificates that must be stapled have responses before they are in service, if the responder
 * has some; nobody waits for long. */
static int is_staple_due(renewal_t *renewal, apr_pool_t *tmp)
{
    apr_time_t steady = md_clock_steady();

    if (renewal->notice.renewed_at > steady
        || !md_first_staple_is_missing(renewal->all->reg, renewal->domain, tmp)) {
        renewal->staple_until = 0;
        return 0;
    }
    if (!renewal->staple_until) {
        renewal->staple_until = steady + STAPLE_WAIT;
        renewal->staple_tries = 0;
    }
    return steady < renewal->staple_until && renewal->staple_tries < STAPLE_TRIES;
}

/* A renewal that somebody does not want now is asked for again in the next regular round; one that
 * nobody could be asked about, soon. */
static void heed_veto(renewal_t *renewal)
{
    int is_lack = md_is_lack(renewal->notice.result.rv);
    apr_time_t steady = md_clock_steady();

    if (!renewal->notice.is_vetoed)
        return;
    renewal->notice.is_vetoed = 0;
    renewal->not_before = is_lack ? steady + BROKEN_AFTER : next_round(renewal->all, steady);
    if (!is_lack && is_asked_to(renewal, MD_WISH_RENEW))
        answer(renewal, APR_EACCES, "MDMessageCmd refused it (event 'renewing')");
    if (renewal->turn.has_claim)
        leave_turn(renewal);
}

static md_task_next_t ask(renewal_t *renewal, md_job_t *job)
{
    md_notice_t *notice = &renewal->notice;

    if (!notice->may_begin && !md_notice_tell(notice, MD_EVENT_RENEWING, NULL, job, roll()))
        return rest_while_told(renewal);
    heed_veto(renewal);
    return notice->may_begin ? MD_TASK_AGAIN : rest_or_warn(renewal, renewal->not_before, job);
}

/* Why it is not renewed even though somebody asks for it, NULL: it is. */
static const char *objection(const md_domain_t *domain, const md_job_t *job, apr_pool_t *p)
{
    if (domain->cert_files && domain->renew_mode != MD_RENEW_ALWAYS)
        return "its certificates come from MDCertificateFile";
    if (job->retry_after > md_clock_now())
        return apr_pstrcat(p, "its CA asked not to be contacted before ",
                           md_time_http(job->retry_after, p), NULL);
    return NULL;
}

static int is_checked_as_asked(const renewal_t *renewal)
{
    return !strcmp(renewal->checked, renewal->request.id);
}

/* Is there something that somebody asks for and that is left to be done? */
static int has_request(renewal_t *renewal, const md_job_t *job, apr_pool_t *tmp)
{
    const char *why;

    take_up(renewal, tmp);
    if (is_asked_to(renewal, MD_WISH_RENEW)) {
        why = objection(renewal->domain, job, tmp);
        if (job->finished && md_renew_is_staged(renewal->all->reg, renewal->domain, tmp))
            answer(renewal, APR_SUCCESS, NULL);
        else if (why)
            answer(renewal, APR_EINVAL, why);
    }
    if (is_asked_to(renewal, MD_WISH_CHECK) && is_checked_as_asked(renewal)
        && !renewal->domain->ca_url) /* no CA to be asked */
        answer(renewal, APR_SUCCESS, NULL);
    return renewal->request.id[0] != '\0';
}

/* Did the last attempt fail by what a check may find? */
static int is_name_problem(const md_job_t *job)
{
    static const char *const WORDS[] = { ":caa", ":connection", ":dns", ":incorrectResponse",
                                         ":tls", ":unauthorized" };
    const char *problem = md_json_get_str(job->last, "problem");
    const char *word = problem ? strrchr(problem, ':') : NULL;
    size_t i;

    if (job->failed_challenge)
        return 1;
    for (i = 0; word && i < sizeof(WORDS) / sizeof(WORDS[0]); ++i)
        if (!strcmp(word, WORDS[i]))
            return 1;
    return 0;
}

/* First it is looked at what the CA would find, once for each attempt. */
static md_task_next_t check_or_ask(renewal_t *renewal, md_job_t *job)
{
    int when = renewal->all->reg->conf->preflight;

    renewal->is_check = !renewal->is_checked && md_dns_library()
                        && (when == MD_PREFLIGHT_ON
                            || (when == MD_PREFLIGHT_AUTO && job->errors > 0
                                && is_name_problem(job)));
    return renewal->is_check ? MD_TASK_AGAIN : ask(renewal, job);
}

/* It is done whatever the record says. */
static md_task_next_t heed_request(renewal_t *renewal, md_job_t *job)
{
    if (renewal->request.kind != MD_WISH_CHECK)
        return check_or_ask(renewal, job);
    renewal->is_check = !is_checked_as_asked(renewal);
    renewal->is_poll = !renewal->is_check;
    return MD_TASK_AGAIN;
}

static void tell_not_due(const md_domain_t *domain, const md_advice_t *advice, const md_due_t *due,
                         apr_time_t now, apr_pool_t *tmp)
{
    if (!md_log_is(MD_LOG_DEBUG))
        return;
    md_log(MD_LOG_DEBUG, MD_LOGNO(10513) "md[%s]: ARI is %senabled", domain->name,
           domain->ari_renewals ? "" : "not ");
    if (!md_text_same(due->reason, "ari"))
        md_log(MD_LOG_DEBUG, MD_LOGNO(10514) "md[%s]: %sup for configured renewal in %s",
               domain->name, md_advice_is_offered(advice) ? "" : "its CA offers no ARI, ",
               md_duration_print(due->at - now, tmp));
}

/* What there is to do for the domain by its record. */
static md_task_next_t decide(renewal_t *renewal, md_job_t *job, apr_pool_t *tmp)
{
    apr_time_t now = md_clock_now(), steady = md_clock_steady(), next_run, at;
    const md_domain_t *domain = renewal->domain;
    const md_reg_t *reg = renewal->all->reg;
    const md_advice_t *advice;
    md_due_t due;

    settle_published(renewal, tmp);
    md_notice_settle(&renewal->notice, job, roll());
    heed_veto(renewal);
    if (has_request(renewal, job, tmp))
        return heed_request(renewal, job);
    next_run = steady + md_job_wait(job, now, reg->conf->activation_delay);
    if (next_run < renewal->not_before)
        next_run = renewal->not_before;
    if (next_run > steady)
        return rest_or_warn(renewal, next_run, job);
    if (!md_renew_is_wanted(domain)
        || (job->finished && job->notified_renewed && !domain->activates_live))
        return rest_or_warn(renewal, MD_TASK_NEVER, job);
    if (job->finished && md_renew_is_staged(reg, domain, tmp)) {
        renewal->is_staple = is_staple_due(renewal, tmp);
        if (renewal->is_staple)
            return MD_TASK_AGAIN;
        return domain->activates_live ? go_live(renewal, job, tmp) : announce(renewal, job);
    }
    advice = md_advice_load(reg->store, domain, now, tmp);
    due = md_renew_when(reg, domain, advice, now);
    renewal->renew_at = due.at;
    renewal->has_advice = md_advice_is_known(advice);
    renewal->is_poll = is_poll_due(renewal, job, advice, &due, now);
    if (renewal->is_poll)
        return MD_TASK_AGAIN;
    if (due.at <= now)
        return check_or_ask(renewal, job);
    tell_not_due(domain, advice, &due, now, tmp);
    at = next_poll(renewal, advice, now);
    next_run = steady + wait_for(domain, due.at - now);
    return rest_or_warn(renewal, at < next_run ? at : next_run, job);
}

static void settle_lane(renewal_t *renewal, const md_job_t *job)
{
    const md_domain_t *domain = renewal->domain;

    renewal->task.lane = renewal->is_staple ? STAPLE_LANE
                         : renewal->is_check ? CHECK_LANE
                         : renewal->is_poll ? domain->ca_url
                         : md_renew_due_ca(renewal->all->reg, domain, job->errors);
}

/* To ask somebody needs no answer soon: those who renew go first. */
static int renews(const renewal_t *renewal)
{
    return !renewal->is_poll && !renewal->is_staple && !renewal->is_check;
}

/* Both set up answers for the names. */
static int needs_claim(const renewal_t *renewal)
{
    return renews(renewal) || renewal->is_check;
}

static md_task_next_t look_at_domain(renewal_t *renewal, int is_tidying)
{
    md_task_next_t next = MD_TASK_AGAIN;
    md_task_t *task = &renewal->task;
    apr_pool_t *tmp;
    md_job_t *job;

    renewal->is_poll = renewal->is_staple = renewal->is_check = 0;
    if (md_notice_is_busy(&renewal->notice))
        return rest_while_told(renewal);
    if (!renewal->all->reg->is_tool) {
        tmp = md_engine_pool();
        job = tmp ? load_job(renewal, tmp) : NULL;
        if (job) {
            next = decide(renewal, job, tmp);
            post(renewal, job, next == MD_TASK_AGAIN && renews(renewal));
            settle_lane(renewal, job);
        }
        if (tmp)
            apr_pool_destroy(tmp);
        if (!job)
            return rest_until(renewal, md_clock_steady() + BROKEN_AFTER);
    }
    if (next == MD_TASK_AGAIN && is_tidying) /* the same names are at stake */
        return rest_until(renewal, renewal->tidy.look_at);
    task->urgency = needs_claim(renewal) ? md_renew_time_left(renewal->domain, md_clock_now())
                                    : MD_TASK_NEVER;
    if (next == MD_TASK_AGAIN && needs_claim(renewal) && !claim_turn(renewal))
        return rest_until(renewal, MD_TASK_NEVER); /* it is woken */
    if (next == MD_TASK_REST && renewal->turn.has_claim && renewal->not_before <= md_clock_steady())
        leave_turn(renewal); /* what it began is not wanted any more, or not now */
    return next;
}

static md_task_next_t look(md_task_t *task)
{
    renewal_t *renewal = (renewal_t *)task;
    md_task_next_t next;
    int is_tidying;

    md_turns_restore(renewal->all->turns);
    is_tidying = md_tidy_is_busy(&renewal->tidy);
    next = look_at_domain(renewal, is_tidying);
    if (next == MD_TASK_REST && renewal->tidy.look_at < task->due_at)
        task->due_at = renewal->tidy.look_at;
    return next;
}

/* A run that may have set up TXT records has ended. */
static void tidy_soon(renewal_t *renewal)
{
    if (renewal->pool && !renewal->all->reg->is_tool
        && md_tidy_look(&renewal->tidy, renewal->pool))
        renewal->task.due_at = md_clock_steady();
}

static void drop_run(renewal_t *renewal)
{
    renewal->renew = NULL;
    renewal->job = NULL;
    renewal->advice = NULL;
    renewal->preflight = NULL;
    if (renewal->pool)
        apr_pool_destroy(renewal->pool);
    renewal->pool = NULL;
}

/* ---- checks: what the CA would find ---- */

static int begin_check(renewal_t *renewal)
{
    const md_reg_t *reg = renewal->all->reg;
    const md_ca_t *ca;
    md_job_t *job;

    renewal->pool = md_engine_pool();
    job = renewal->pool ? load_job(renewal, renewal->pool) : NULL;
    if (!job)
        return 0;
    ca = md_cas_get(renewal->all->cas, md_renew_due_ca(reg, renewal->domain, job->errors),
                    renewal->domain);
    renewal->preflight = md_preflight_create(reg, renewal->domain, ca, job->failed_challenge,
                                             renewal->all->http, renewal->pool);
    return 1;
}

/* In the record, if there is one, and for who asked. */
static void record_hints(renewal_t *renewal, const apr_array_header_t *hints)
{
    md_job_t *job = load_job(renewal, renewal->pool);
    apr_time_t now = md_clock_now();
    const char *hint;
    md_err_t err;
    int i;

    if (renewal->hints_pool)
        apr_pool_destroy(renewal->hints_pool);
    renewal->hints_pool = md_engine_pool();
    renewal->hints = renewal->hints_pool ? md_strings_copy(hints, renewal->hints_pool) : NULL;
    if (job)
        apr_array_clear(job->hints);
    for (i = 0; i < hints->nelts; ++i) {
        hint = APR_ARRAY_IDX(hints, i, const char *);
        md_log(MD_LOG_WARNING, "md[%s]: %s", renewal->domain->name, hint);
        if (job)
            md_job_hint(job, now, hint);
    }
    md_err_init(&err, renewal->pool);
    if (job && renewal->has_record
        && md_job_save_volatile(job, renewal->all->reg->store, &err, renewal->pool) != APR_SUCCESS)
        md_log(MD_LOG_DEBUG, "md[%s]: %s", renewal->domain->name, err.detail);
}

/* Then there is another look. */
static md_task_next_t conclude_check(renewal_t *renewal)
{
    renewal->is_checked = 1;
    if (is_asked_to(renewal, MD_WISH_CHECK))
        apr_cpystrn(renewal->checked, renewal->request.id, sizeof(renewal->checked));
    if (renewal->preflight) {
        record_hints(renewal, md_preflight_hints(renewal->preflight));
        md_preflight_end(renewal->preflight);
    }
    drop_run(renewal);
    if (!has_setups(renewal))
        leave_turn(renewal);
    renewal->task.due_at = md_clock_steady();
    return MD_TASK_REST;
}

static md_task_next_t step_check(renewal_t *renewal)
{
    apr_interval_time_t wait;

    if ((!renewal->preflight && !begin_check(renewal))
        || !md_preflight_step(renewal->preflight, &wait))
        return conclude_check(renewal);
    renewal->task.due_at = md_clock_steady() + wait;
    return wait > 0 ? MD_TASK_WAIT : MD_TASK_AGAIN;
}

static void end_check(renewal_t *renewal, md_task_why_t why)
{
    if (why != MD_TASK_STOPPED) {
        (void)conclude_check(renewal);
        return;
    }
    if (renewal->preflight)
        md_preflight_end(renewal->preflight);
    drop_run(renewal);
    leave_turn(renewal);
}

/* ---- polls: what the CA advises ---- */

static int begin_poll(renewal_t *renewal)
{
    const md_domain_t *domain = renewal->domain;
    apr_time_t now = md_clock_now();
    const md_ca_t *ca = md_cas_get(renewal->all->cas, domain->ca_url, domain);

    renewal->pool = ca ? md_engine_pool() : NULL;
    if (!renewal->pool)
        return 0;
    renewal->acme = ca->acme;
    renewal->advice = md_advice_load(renewal->all->reg->store, domain, now, renewal->pool);
    md_advice_renew_hints(renewal->advice, is_asked_to(renewal, MD_WISH_CHECK), now);
    return 1;
}

/* What cannot be saved is asked again, but no sooner than if it was. */
static void save_advice(const renewal_t *renewal, const md_advice_t *advice)
{
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, renewal->pool);
    rv = md_advice_save(advice, renewal->all->reg->store, &err, renewal->pool);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_DEBUG, "md[%s]: cannot save the renewal information of the CA: %s",
               renewal->domain->name, err.detail);
}

/* Then there is another look. */
static md_task_next_t conclude_poll(renewal_t *renewal)
{
    apr_time_t steady = md_clock_steady(), at;

    renewal->polled_at = steady;
    renewal->poll_after = steady + MD_ARI_POLL_LEAST;
    if (renewal->advice) {
        save_advice(renewal, renewal->advice);
        at = next_poll(renewal, renewal->advice, md_clock_now());
        renewal->poll_after = at == MD_TASK_NEVER ? renewal->poll_after : at;
    }
    drop_run(renewal);
    if (is_asked_to(renewal, MD_WISH_CHECK))
        answer(renewal, APR_SUCCESS, NULL);
    renewal->task.due_at = steady;
    return MD_TASK_REST;
}

static md_task_next_t step_poll(renewal_t *renewal)
{
    apr_interval_time_t interval = renewal->all->reg->conf->check_interval;

    if (!renewal->advice && !begin_poll(renewal))
        return conclude_poll(renewal);
    if (md_advice_ask(renewal->advice, renewal->acme, interval, md_clock_now(), roll()))
        return MD_TASK_AGAIN;
    return conclude_poll(renewal);
}

/* ---- the first responses for what is staged ---- */

/* Then there is another look. Not all responders of a CA know at once what it has issued. */
static md_task_next_t step_staple(renewal_t *renewal)
{
    apr_interval_time_t pause = apr_time_from_sec(1) << (renewal->staple_tries / 2);
    apr_pool_t *tmp = md_engine_pool();
    apr_status_t rv = APR_ENOMEM;
    md_err_t err;

    if (tmp) {
        md_err_init(&err, tmp);
        rv = md_first_staple_fetch(renewal->all->reg, renewal->domain, renewal->staple_tries % 2,
                                   renewal->all->http, &err, tmp);
        if (rv != APR_SUCCESS)
            md_log(MD_LOG_DEBUG, "md[%s]: no OCSP response for what is staged: %s",
                   renewal->domain->name, err.detail);
        apr_pool_destroy(tmp);
    }
    ++renewal->staple_tries;
    return rest_until(renewal, md_clock_steady() + (rv == APR_SUCCESS ? 0 : pause));
}

/* ---- runs ---- */

/* Why there is a renewal, as a phrase in `p`. What the CA asks for is told once. */
static const char *tell_why(const renewal_t *renewal, const md_due_t *due, int is_first,
                            apr_pool_t *p)
{
    const char *name = renewal->domain->name;

    if (is_asked_to(renewal, MD_WISH_RENEW)) {
        md_log(MD_LOG_INFO, "md[%s]: renewing now, as requested by a2md", name);
        return "requested by a2md";
    }
    if (md_text_same(due->reason, "revoked")) {
        md_log(MD_LOG_INFO, MD_LOGNO(10500) "md[%s]: OCSP reports revoked certificate(s), renewing "
               "now", name);
        return "its CA revoked a certificate";
    }
    if (!md_text_same(due->reason, "ari")) {
        md_log(MD_LOG_DEBUG, MD_LOGNO(10512) "md[%s]: need to renew now (%s)", name,
               due->reason ? due->reason : "nothing is known about its certificate");
        return due->reason;
    }
    if (!due->explanation_url) {
        md_log(MD_LOG_DEBUG, MD_LOGNO(10518) "md[%s]: CA advises renew via ARI now", name);
        return "the CA advises it via ARI";
    }
    md_log(is_first ? MD_LOG_NOTICE : MD_LOG_DEBUG, MD_LOGNO(10517) "md[%s]: CA advises renew via "
           "ARI now, for explanation see %s", name, due->explanation_url);
    return apr_pstrcat(p, "the CA advises it via ARI, for explanation see ", due->explanation_url,
                       NULL);
}

static const char *find_why(const renewal_t *renewal, apr_pool_t *p)
{
    apr_time_t now = md_clock_now();
    md_advice_t *advice = md_advice_load(renewal->all->reg->store, renewal->domain, now, p);
    md_due_t due = md_renew_when(renewal->all->reg, renewal->domain, advice, now);
    int is_first = !is_asked_to(renewal, MD_WISH_RENEW) && md_text_same(due.reason, "ari")
                   && !md_advice_first(advice)->is_followed;
    const char *why = tell_why(renewal, &due, is_first, p);

    if (is_first) {
        md_advice_follow(advice, now);
        save_advice(renewal, advice);
    }
    return why;
}

static int begin(renewal_t *renewal)
{
    const md_reg_t *reg = renewal->all->reg;
    const md_domain_t *domain = renewal->domain;

    renewal->pool = md_engine_pool();
    if (!renewal->pool)
        return 0;
    md_log(MD_LOG_DEBUG, MD_LOGNO(10052) "md(%s): state=%d, driving", domain->name,
           md_live_of(domain)->state);
    renewal->job = reg->is_tool ? md_job_make(MD_STORE_STAGING, domain->name, renewal->pool)
                                : load_job(renewal, renewal->pool);
    if (!renewal->job)
        return 0;
    if (!renewal->is_checked)
        apr_array_clear(renewal->job->hints);
    renewal->renew = md_renew_create(reg, domain, renewal->job, find_why(renewal, renewal->pool),
                                     md_clock_now(), renewal->pool);
    use_ca(renewal);
    return 1;
}

static void keep_result(renewal_t *renewal, const md_err_t *result)
{
    lock(renewal->all);
    md_err_init(&renewal->result, renewal->all->p);
    md_err_copy(&renewal->result, result);
    unlock(renewal->all);
    renewal->task.due_at = MD_TASK_NEVER;
}

/* A failure is told at once; a set that is ready, when the task is looked at next. */
static void tell_outcome(renewal_t *renewal)
{
    const md_err_t *result = md_renew_result(renewal->renew);

    md_notice_next(&renewal->notice);
    if (result->rv == APR_SUCCESS && !renewal->job->next_run)
        rest_until(renewal, md_clock_steady());
    else if (result->rv != APR_SUCCESS && !APR_STATUS_IS_EINTR(result->rv)
             && !md_notice_tell(&renewal->notice, MD_EVENT_ERRORED, result, renewal->job, roll()))
        rest_while_told(renewal);
}

/* The run is over: what has to be known of it later. */
static md_task_next_t conclude(renewal_t *renewal)
{
    apr_time_t steady = md_clock_steady();

    renewal->errors = renewal->job->errors;
    renewal->is_checked = 0;
    renewal->has_record = 1;
    md_tally_renewal(renewal->all->reg->tally, renewal->domain->number,
                     md_renew_result(renewal->renew));
    post(renewal, renewal->job, 0);
    renewal->not_before = steady;
    if (renewal->job->next_run)
        renewal->not_before += renewal->job->next_run - md_clock_now();
    rest_until(renewal, renewal->job->next_run ? renewal->not_before : MD_TASK_NEVER);
    if (renewal->all->reg->is_tool)
        keep_result(renewal, md_renew_result(renewal->renew));
    else
        tell_outcome(renewal);
    if (is_asked_to(renewal, MD_WISH_RENEW)
        && !APR_STATUS_IS_EINTR(md_renew_result(renewal->renew)->rv)) /* else it goes on later */
        answer(renewal, md_renew_result(renewal->renew)->rv,
               md_renew_result(renewal->renew)->detail);
    tidy_soon(renewal);
    drop_run(renewal);
    leave_turn(renewal);
    return MD_TASK_REST;
}

/* The run could not begin. */
static md_task_next_t put_off(renewal_t *renewal)
{
    md_err_t err = { .rv = APR_ENOMEM, .detail = "no memory for a renewal" };

    rest_until(renewal, md_clock_steady() + BROKEN_AFTER);
    if (renewal->all->reg->is_tool)
        keep_result(renewal, &err);
    if (is_asked_to(renewal, MD_WISH_RENEW))
        answer(renewal, err.rv, err.detail);
    drop_run(renewal);
    leave_turn(renewal);
    return MD_TASK_REST;
}

static md_task_next_t step(md_task_t *task)
{
    renewal_t *renewal = (renewal_t *)task;
    apr_interval_time_t wait;
    apr_time_t now;

    if (renewal->is_poll)
        return step_poll(renewal);
    if (renewal->is_staple)
        return step_staple(renewal);
    if (renewal->is_check)
        return step_check(renewal);
    if (!renewal->renew && !begin(renewal))
        return put_off(renewal);
    now = md_clock_now();
    switch (md_renew_step(renewal->renew, now, roll())) {
    case MD_STEP_AGAIN:
        return MD_TASK_AGAIN;
    case MD_STEP_WAIT:
        wait = md_renew_wake_at(renewal->renew) - now;
        if (wait > MD_MAX_RETRY_AFTER)
            wait = MD_MAX_RETRY_AFTER;
        task->due_at = md_clock_steady() + wait;
        return MD_TASK_WAIT;
    default:
        return conclude(renewal);
    }
}

/* A run that has to wait for long goes on from the store by then. */
static void end(md_task_t *task, md_task_why_t why)
{
    renewal_t *renewal = (renewal_t *)task;

    if (renewal->is_poll)
        conclude_poll(renewal);
    if (renewal->is_check)
        end_check(renewal, why);
    if (!renews(renewal))
        return;
    if (why == MD_TASK_OVERDUE) {
        md_renew_overdue(renewal->renew, md_clock_now(), roll());
        conclude(renewal);
        return;
    }
    if (why == MD_TASK_LONG_WAIT) {
        renewal->not_before = task->due_at;
        rest_until(renewal, task->due_at);
        if (is_asked_to(renewal, MD_WISH_RENEW))
            answer(renewal, APR_EAGAIN, "the CA asked for a longer wait; the renewal will continue "
                   "by itself after that");
        if (renewal->all->reg->is_tool) {
            md_renew_give_up(renewal->renew);
            keep_result(renewal, md_renew_result(renewal->renew));
        }
    }
    if (why == MD_TASK_LONG_WAIT)
        tidy_soon(renewal);
    drop_run(renewal);
    if (why != MD_TASK_LONG_WAIT || renewal->all->reg->is_tool || !has_setups(renewal))
        leave_turn(renewal);
}

static const md_task_kind_t RENEWAL = { look, step, end, RUN_LIMIT };

static md_task_next_t look_at_orphan(md_task_t *task)
{
    orphan_t *orphan = (orphan_t *)task;

    (void)md_tidy_is_busy(&orphan->tidy);
    task->due_at = orphan->tidy.look_at;
    return MD_TASK_REST;
}

static const md_task_kind_t ORPHAN = { look_at_orphan, NULL, NULL, 0 };

/* ---- for the host ---- */

static apr_status_t drop_notices(void *baton)
{
    md_renewals_t *all = baton;
    int i;

    for (i = 0; i < all->count; ++i) {
        if (all->list[i].hints_pool)
            apr_pool_destroy(all->list[i].hints_pool);
        md_notice_drop(&all->list[i].notice);
        md_tidy_drop(&all->list[i].tidy);
    }
    for (i = 0; i < all->orphan_count; ++i)
        md_tidy_drop(&all->orphans[i].tidy);
    return APR_SUCCESS;
}

/* Commands that have ended by now: nobody may look at them again. */
static void settle_notices(md_renewals_t *all)
{
    renewal_t *renewal;
    apr_pool_t *tmp;
    md_job_t *job;
    int i;

    for (i = 0; i < all->count; ++i) {
        renewal = &all->list[i];
        if (!renewal->notice.telling || md_notice_is_busy(&renewal->notice))
            continue;
        tmp = md_engine_pool();
        job = tmp ? load_job(renewal, tmp) : NULL;
        if (job)
            md_notice_settle(&renewal->notice, job, roll());
        if (tmp)
            apr_pool_destroy(tmp);
    }
}

static void settle_records(md_renewals_t *all)
{
    int i;

    for (i = 0; i < all->count; ++i)
        if (all->list[i].tidy.records)
            (void)md_tidy_is_busy(&all->list[i].tidy);
    for (i = 0; i < all->orphan_count; ++i)
        if (all->orphans[i].tidy.records)
            (void)md_tidy_is_busy(&all->orphans[i].tidy);
}

/* What earlier renewals, or those of other configurations, may have left in the DNS. */
static void find_records(md_renewals_t *all, apr_pool_t *p)
{
    const apr_array_header_t *names = md_store_names(all->reg->store, MD_STORE_RECORDS, p);
    renewal_t *renewal;
    orphan_t *orphan;
    const char *name;
    int i;

    all->orphans = apr_pcalloc(p, sizeof(orphan_t) * (apr_size_t)(names->nelts + 1));
    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        renewal = apr_hash_get(all->by_name, name, APR_HASH_KEY_STRING);
        if (renewal) {
            renewal->tidy.has_records = 1;
            continue;
        }
        orphan = &all->orphans[all->orphan_count++];
        orphan->task.kind = &ORPHAN;
        orphan->tidy = (md_tidy_t){ .reg = all->reg, .name = name, .has_records = 1 };
    }
}

apr_status_t md_renewals_create(md_renewals_t **prenewals, const md_reg_t *reg, md_http_t *http,
                                md_err_t *err, apr_pool_t *p)
{
    md_renewals_t *all = apr_pcalloc(p, sizeof(*all));
    md_domain_t *domain;
    renewal_t *renewal;
    apr_status_t rv;
    int i;

    all->reg = reg;
    all->http = http;
    all->p = md_engine_pool();
    if (!all->p)
        return md_fail(err, APR_ENOMEM, "no memory for renewals");
    apr_pool_cleanup_register(p, all->p, destroy_pool, apr_pool_cleanup_null);
    rv = apr_thread_mutex_create(&all->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot create a mutex for renewals");
    rv = md_cas_create(&all->cas, reg, http, err, p);
    if (rv == APR_SUCCESS)
        rv = md_turns_create(&all->turns, reg->store, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    all->list = apr_pcalloc(p, sizeof(renewal_t) * (size_t)(reg->domains->nelts + 1));
    all->by_name = apr_hash_make(p);
    for (i = 0; i < reg->domains->nelts; ++i) {
        domain = md_reg_domain(reg, i);
        if (!domain->is_watched)
            continue;
        renewal = &all->list[all->count++];
        renewal->all = all;
        renewal->domain = domain;
        renewal->task.kind = &RENEWAL;
        renewal->task.lane = md_renew_due_ca(reg, domain, 0);
        renewal->notice.reg = reg;
        renewal->notice.domain = domain;
        renewal->tidy.reg = reg;
        renewal->tidy.name = domain->name;
        renewal->tidy.domain = domain;
        apr_hash_set(all->by_name, domain->name, APR_HASH_KEY_STRING, renewal);
        renewal->turn.domain = domain;
        renewal->turn.task = &renewal->task;
        md_turns_add(all->turns, &renewal->turn);
    }
    if (!reg->is_tool)
        find_records(all, p);
    if (!reg->is_tool && !md_dns_library())
        md_log(MD_LOG_INFO, "built without c-ares: nothing is looked for in the DNS");
    apr_pool_cleanup_register(p, all, drop_notices, apr_pool_cleanup_null);
    *prenewals = all;
    return APR_SUCCESS;
}

void md_renewals_add(md_renewals_t *renewals, md_engine_t *engine)
{
    int i;

    renewals->engine = engine;
    md_turns_use(renewals->turns, engine);
    for (i = 0; i < renewals->count; ++i)
        md_engine_add(engine, &renewals->list[i].task);
    for (i = 0; i < renewals->orphan_count; ++i)
        md_engine_add(engine, &renewals->orphans[i].task);
}

void md_renewals_wake(md_renewals_t *renewals, const char *name)
{
    renewal_t *renewal = apr_hash_get(renewals->by_name, name, APR_HASH_KEY_STRING);

    if (renewal)
        md_engine_wake(renewals->engine, &renewal->task);
}

/* It is taken up at the next look, but who asked knows already that somebody is there. */
static int hear(renewal_t *renewal, apr_hash_t *checked, apr_pool_t *tmp)
{
    const char *name = renewal->domain->name;
    const md_wish_answer_t begun = { .is_done = 0 };
    md_wish_t request;

    if (!md_wish_find(&request, renewal->all->reg->store, name, md_clock_now(), tmp)
        || !strcmp(request.id, renewal->heard.id))
        return 0;
    renewal->heard = request;
    save_answer(renewal, &request, &begun);
    lock(renewal->all);
    renewal->asked = request;
    unlock(renewal->all);
    if (request.kind == MD_WISH_CHECK)
        apr_hash_set(checked, name, APR_HASH_KEY_STRING, name);
    md_engine_wake(renewal->all->engine, &renewal->task);
    return 1;
}

int md_renewals_hear(md_renewals_t *renewals, apr_hash_t *checked, apr_pool_t *tmp)
{
    const md_store_t *store = renewals->reg->store;
    const apr_array_header_t *names;
    renewal_t *renewal;
    apr_pool_t *iter;
    int i, count = 0;

    if (!md_wish_has_news(&renewals->requests_seen, store, md_clock_now(), tmp))
        return 0;
    names = md_store_names(store, MD_STORE_REQUESTS, tmp);
    apr_pool_create(&iter, tmp);
    for (i = 0; i < names->nelts; ++i) {
        apr_pool_clear(iter);
        renewal = apr_hash_get(renewals->by_name, APR_ARRAY_IDX(names, i, const char *),
                               APR_HASH_KEY_STRING);
        if (renewal)
            count += hear(renewal, checked, iter);
    }
    apr_pool_destroy(iter);
    return count;
}

const md_err_t *md_renewals_result(const md_renewals_t *renewals, int i)
{
    return &renewals->list[i].result;
}

/* Who has a set that a process before us published? Once we have the lock there are no more. */
static void find_published(md_renewals_t *all)
{
    apr_pool_t *tmp = md_engine_pool();
    const apr_array_header_t *names;
    renewal_t *renewal;
    int i;

    if (!tmp)
        return;
    names = md_store_names(all->reg->store, MD_STORE_LIVE, tmp);
    for (i = 0; i < names->nelts; ++i) {
        renewal = apr_hash_get(all->by_name, APR_ARRAY_IDX(names, i, const char *),
                               APR_HASH_KEY_STRING);
        if (renewal)
            renewal->may_be_published = 1;
    }
    apr_pool_destroy(tmp);
    all->has_looked = 1;
}

/* A graceful restart lets the children of two generations overlap, and so may servers that share a
 * store. Two runs for one domain would take each other's keys away: who works has the lock. */
apr_status_t md_renewals_open(void *renewals)
{
    md_renewals_t *all = renewals;
    apr_status_t rv;
    md_err_t err;

    if (all->reg->is_tool)
        return APR_SUCCESS;
    all->lock_pool = md_engine_pool();
    if (!all->lock_pool)
        return APR_ENOMEM;
    md_err_init(&err, all->lock_pool);
    rv = md_store_try_lock(&all->lock, all->reg->store, &err, all->lock_pool);
    if (rv == APR_SUCCESS && !all->has_looked)
        find_published(all);
    if (rv == APR_SUCCESS)
        return rv;
    md_log(APR_STATUS_IS_EAGAIN(rv) ? MD_LOG_TRACE1 : MD_LOG_ERR, "no renewals now: %s",
           err.detail);
    apr_pool_destroy(all->lock_pool);
    all->lock_pool = NULL;
    all->lock = NULL;
    return rv;
}

void md_renewals_close(void *renewals)
{
    md_renewals_t *all = renewals;

    settle_notices(all);
    settle_records(all);
    if (all->lock)
        md_store_unlock(all->lock);
    if (all->lock_pool)
        apr_pool_destroy(all->lock_pool);
    all->lock = NULL;
    all->lock_pool = NULL;
    md_http_idle(all->http);
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
