/* SPDX-License-Identifier: Apache-2.0 */
/* Counters in shared memory. */
#include "md_tally.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_shm.h>
#include <apr_strings.h>

#include "md_domain.h"
#include "md_text.h"
#include "md_version.h"

/* Behind the types of problem documents: types of ours, failures without any by whom they concern,
 * and what is none of these. */
enum { MISMATCH, SETUP_FAILURE, UNAVAILABLE, LACK, OTHER };
static const char *const OWN[] = {
    [MISMATCH]      = "challenge-mismatch",
    [SETUP_FAILURE] = "challenge-setup-failure",
    [UNAVAILABLE]   = "ca-unavailable",
    [LACK]          = "lack-of-resources",
    [OTHER]         = MD_TALLY_OTHERS,
};
_Static_assert(sizeof(OWN) / sizeof(OWN[0]) == MD_TALLY_PROBLEMS - MD_PROBLEM_COUNT, "all of them");

/* What is shared. Children may write nonsense, so nothing here is an index or a size. */
typedef struct shared_t {
    md_load_t loads[MD_LOAD_COUNT];
    md_meter_t meters[MD_MAX_CAS + 1]; /* the last is that of all others */
    md_runs_t runs[];
} shared_t;

struct md_tally_t {
    apr_pool_t *p;                     /* its own */
    int count;
    apr_hash_t *numbers;               /* name of a domain -> its number, plus 1 */
    apr_array_header_t *ca_urls;       /* of those that are told apart */
    shared_t *shared;
};

/* ---- kinds of problems ---- */

const char *md_tally_problem(int number)
{
    return number < MD_PROBLEM_COUNT ? md_problem_name(number) : OWN[number - MD_PROBLEM_COUNT];
}

static int own_kind_of(const md_err_t *result)
{
    int i;

    for (i = 0; result->type && i < UNAVAILABLE; ++i)
        if (!strcmp(result->type, OWN[i]))
            return i;
    if (result->type)
        return OTHER;
    if (result->scope == MD_SCOPE_CA)
        return UNAVAILABLE;
    return result->scope == MD_SCOPE_SELF ? LACK : OTHER;
}

static int problem_of(const md_err_t *result)
{
    int number = md_problem_number(result);

    return number >= 0 ? number : MD_PROBLEM_COUNT + own_kind_of(result);
}

/* ---- counting ---- */

void md_tally_renewal(md_tally_t *tally, int domain, const md_err_t *result)
{
    md_runs_t *runs;

    if (!tally || domain < 0 || domain >= tally->count || APR_STATUS_IS_EINTR(result->rv))
        return;
    runs = &tally->shared->runs[domain];
    __atomic_fetch_add(result->rv == APR_SUCCESS ? &runs->renewed
                                                 : &runs->failed[problem_of(result)],
                       1, __ATOMIC_RELAXED);
}

static void load_runs(md_runs_t *runs, const md_runs_t *shared)
{
    int i;

    runs->renewed = __atomic_load_n(&shared->renewed, __ATOMIC_RELAXED);
    for (i = 0; i < MD_TALLY_PROBLEMS; ++i)
        runs->failed[i] = __atomic_load_n(&shared->failed[i], __ATOMIC_RELAXED);
}

md_runs_t md_tally_runs(const md_tally_t *tally, int domain)
{
    md_runs_t runs = { 0 };

    if (tally && domain >= 0 && domain < tally->count)
        load_runs(&runs, &tally->shared->runs[domain]);
    return runs;
}

static int ca_number(const md_tally_t *tally, const char *url)
{
    int i;

    for (i = 0; i < tally->ca_urls->nelts; ++i)
        if (md_text_same(APR_ARRAY_IDX(tally->ca_urls, i, const char *), url))
            return i;
    return MD_MAX_CAS;
}

md_meter_t *md_tally_meter(md_tally_t *tally, const char *ca_url)
{
    return tally ? &tally->shared->meters[ca_number(tally, ca_url)] : NULL;
}

const char *md_tally_ca(const md_tally_t *tally, int number)
{
    if (!tally || number > tally->ca_urls->nelts)
        return NULL;
    return number < tally->ca_urls->nelts ? APR_ARRAY_IDX(tally->ca_urls, number, const char *)
                                          : MD_TALLY_OTHERS;
}

md_load_t *md_tally_load(md_tally_t *tally, md_load_kind_t kind)
{
    return tally ? &tally->shared->loads[kind] : NULL;
}

/* ---- at a start ---- */

static void add_ca(md_tally_t *tally, const char *url)
{
    if (url && tally->ca_urls->nelts < MD_MAX_CAS && ca_number(tally, url) == MD_MAX_CAS)
        APR_ARRAY_PUSH(tally->ca_urls, const char *) = apr_pstrdup(tally->p, url);
}

/* One that is in use and not configured any more is asked, too: for what it suggests. */
static void add_domain(md_tally_t *tally, const md_domain_t *domain, int number)
{
    int i;

    apr_hash_set(tally->numbers, apr_pstrdup(tally->p, domain->name), APR_HASH_KEY_STRING,
                 (void *)(apr_size_t)(number + 1));
    for (i = 0; domain->ca_urls && i < domain->ca_urls->nelts; ++i)
        add_ca(tally, APR_ARRAY_IDX(domain->ca_urls, i, const char *));
    add_ca(tally, domain->ca_url);
}

static void take_over(md_tally_t *tally, const md_tally_t *before,
                      const apr_array_header_t *domains)
{
    apr_size_t number;
    int i;

    for (i = 0; i < domains->nelts; ++i) {
        number = (apr_size_t)apr_hash_get(before->numbers,
                                          APR_ARRAY_IDX(domains, i, md_domain_t *)->name,
                                          APR_HASH_KEY_STRING);
        if (number > 0)
            load_runs(&tally->shared->runs[i], &before->shared->runs[number - 1]);
    }
    for (i = 0; i < before->ca_urls->nelts; ++i)
        md_meter_take_over(md_tally_meter(tally, APR_ARRAY_IDX(before->ca_urls, i, const char *)),
                           &before->shared->meters[i]);
    md_meter_take_over(&tally->shared->meters[MD_MAX_CAS], &before->shared->meters[MD_MAX_CAS]);
}

static apr_status_t make(md_tally_t **ptally, const apr_array_header_t *domains,
                         apr_pool_t *process)
{
    md_tally_t *tally;
    apr_status_t rv;
    apr_shm_t *shm;
    apr_pool_t *p;
    int i;

    apr_pool_create(&p, process);
    rv = apr_shm_create(&shm, sizeof(shared_t) + sizeof(md_runs_t) * (apr_size_t)domains->nelts,
                        NULL, p);
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(p);
        return rv;
    }
    tally = apr_pcalloc(p, sizeof(*tally));
    tally->p = p;
    tally->count = domains->nelts;
    tally->numbers = apr_hash_make(p);
    tally->ca_urls = md_strings_make(p);
    tally->shared = apr_shm_baseaddr_get(shm);
    memset(tally->shared, 0, apr_shm_size_get(shm));
    for (i = 0; i < domains->nelts; ++i)
        add_domain(tally, APR_ARRAY_IDX(domains, i, md_domain_t *), i);
    *ptally = tally;
    return rv;
}

static const char KEY[] = "mod_md:tally:" MD_VERSION;

apr_status_t md_tally_share(md_tally_t **ptally, const apr_array_header_t *domains,
                            apr_pool_t *process, md_err_t *err)
{
    void *before = NULL;
    apr_status_t rv = make(ptally, domains, process);

    if (rv != APR_SUCCESS)
        return md_fail_system(err, rv, "no shared memory for the counters of %d domains",
                              domains->nelts);
    apr_pool_userdata_get(&before, KEY, process);
    if (before)
        take_over(*ptally, before, domains);
    apr_pool_userdata_set(*ptally, KEY, NULL, process);
    if (before)
        apr_pool_destroy(((md_tally_t *)before)->p);
    return rv;
}
