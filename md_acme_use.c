/* SPDX-License-Identifier: Apache-2.0 */
/* The account in use. */
#include "md_acme_use.h"

#include <string.h>

#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "md_clock.h"
#include "md_text.h"

#define NAME_LEN    256
#define CHECK_EVERY apr_time_from_sec(60)
#define FRESH       apr_time_from_sec(30)
#define HOLD_FIRST  apr_time_from_sec(5)
#define HOLD_MOST   apr_time_from_sec(300)
#define TRY_TIME    apr_time_from_sec(30) /* of the one that tries first */
#define TRY_LOOK    apr_time_from_sec(1)  /* of the others, how it went */
#define LIMITS      3

struct md_acct_use_t {
    apr_pool_t *p;
    md_meter_t *meter;         /* or NULL */
    apr_thread_mutex_t *mutex; /* guards all below */
    const md_acct_t *acct;
    int in_setup;
    apr_time_t settled_at, checked_at;
    apr_time_t hold_until;     /* 0: orders are welcome */
    int holds;                 /* in a row */
    char first[NAME_LEN];      /* the domain that tries first, "": none yet */
    char limited[NAME_LEN];    /* the domain that was refused last for a limit */
    int limits;                /* different ones in a row */
};

md_acct_use_t *md_acct_use_create(md_meter_t *meter, apr_pool_t *p)
{
    md_acct_use_t *use = apr_pcalloc(p, sizeof(*use));

    use->p = p;
    use->meter = meter;
    if (apr_thread_mutex_create(&use->mutex, APR_THREAD_MUTEX_DEFAULT, p) != APR_SUCCESS)
        return NULL;
    return use;
}

static void lock(md_acct_use_t *use)
{
    apr_thread_mutex_lock(use->mutex);
}

static void unlock(md_acct_use_t *use)
{
    apr_thread_mutex_unlock(use->mutex);
}

const md_acct_t *md_acct_use_get(md_acct_use_t *use)
{
    const md_acct_t *acct;

    lock(use);
    acct = use->in_setup ? NULL : use->acct;
    unlock(use);
    return acct;
}

int md_acct_use_begin(const md_acct_t **pacct, md_acct_use_t *use)
{
    int begun;

    lock(use);
    begun = !use->in_setup;
    use->in_setup = 1;
    *pacct = use->acct;
    unlock(use);
    return begun;
}

/* What is equal is not copied again, so that an account that is looked at again and again does not
 * make us grow. */
static const md_acct_t *keep(md_acct_use_t *use, const md_acct_t *acct)
{
    if (!acct || (use->acct && md_text_same(acct->url, use->acct->url)
                  && md_text_same(acct->thumbprint, use->acct->thumbprint)))
        return acct ? use->acct : NULL;
    return md_acct_copy(acct, use->p);
}

void md_acct_use_end(md_acct_use_t *use, const md_acct_t *acct)
{
    lock(use);
    if (acct && !use->acct)
        use->settled_at = md_clock_now();
    use->acct = keep(use, acct);
    use->in_setup = 0;
    unlock(use);
}

int md_acct_use_may_check(md_acct_use_t *use, apr_time_t now)
{
    int may;

    lock(use);
    may = now - use->checked_at >= CHECK_EVERY || now < use->checked_at;
    if (may)
        use->checked_at = now;
    unlock(use);
    return may;
}

int md_acct_use_is_fresh(md_acct_use_t *use, apr_time_t now)
{
    int is_fresh;

    lock(use);
    is_fresh = use->settled_at && now - use->settled_at < FRESH && use->settled_at - now < FRESH;
    unlock(use);
    return is_fresh;
}

/* ---- the pace of new orders ---- */

void md_acct_use_hold(md_acct_use_t *use, apr_time_t retry_after, apr_time_t now)
{
    apr_interval_time_t delay;
    int is_new;

    lock(use);
    is_new = use->hold_until <= now || use->first[0]; /* not one of many that asked at once */
    if (is_new)
        ++use->holds;
    delay = HOLD_FIRST << (use->holds < 7 ? use->holds - 1 : 6);
    if (retry_after > now)
        delay = retry_after - now;
    use->hold_until = now + (delay < HOLD_MOST ? delay : HOLD_MOST);
    use->first[0] = '\0';
    md_meter_hold(use->meter, MD_HOLD_ORDERS, use->hold_until, is_new);
    unlock(use);
}

apr_time_t md_acct_use_wait(md_acct_use_t *use, const char *name, apr_time_t now)
{
    apr_time_t until = 0;

    lock(use);
    if (use->hold_until > now + 2 * HOLD_MOST) /* the clock was set back */
        use->hold_until = now;
    if (use->first[0] && !strcmp(use->first, name) && now < use->hold_until)
        until = 0;
    else if (use->hold_until > now)
        until = use->first[0] ? now + TRY_LOOK : use->hold_until;
    else if (use->hold_until) {
        apr_cpystrn(use->first, name, NAME_LEN);
        use->hold_until = now + TRY_TIME;
    }
    unlock(use);
    return until;
}

void md_acct_use_served(md_acct_use_t *use)
{
    lock(use);
    use->hold_until = 0;
    use->holds = use->limits = 0;
    use->first[0] = use->limited[0] = '\0';
    md_meter_hold(use->meter, MD_HOLD_ORDERS, 0, 0);
    unlock(use);
}

int md_acct_use_is_limited(md_acct_use_t *use, const char *name)
{
    int is_limited;

    lock(use);
    if (strcmp(use->limited, name))
        ++use->limits;
    apr_cpystrn(use->limited, name, NAME_LEN);
    is_limited = use->limits >= LIMITS;
    unlock(use);
    return is_limited;
}
