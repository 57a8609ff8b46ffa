/* SPDX-License-Identifier: Apache-2.0 */
/* The account in use. */
#include "md_acme_use.h"

#include <apr_thread_mutex.h>

#include "md_text.h"

struct md_acct_use_t {
    apr_pool_t *p;
    apr_thread_mutex_t *mutex; /* guards all below */
    const md_acct_t *acct;
    int in_setup;
};

md_acct_use_t *md_acct_use_create(apr_pool_t *p)
{
    md_acct_use_t *use = apr_pcalloc(p, sizeof(*use));

    use->p = p;
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
    use->acct = keep(use, acct);
    use->in_setup = 0;
    unlock(use);
}
