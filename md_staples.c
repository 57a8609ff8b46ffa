/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates by id and by name, and the shared memory with their responses. */
#include "md_staples.h"

#include <stddef.h>
#include <string.h>

#include <apr_hash.h>
#include <apr_shm.h>
#include <apr_strings.h>

#include "md_log.h"
#include "md_version.h"

#define OPEN_END apr_time_from_sec(12 * 3600) /* what is shown without next update */
#define TRIES    100 /* to get a whole copy while responses come in quick succession */

/* Two copies, so that one is whole while the other one is written, or was when its writer was
 * killed. The number of the last one that was put tells which; nobody has to wait. Children may
 * write nonsense, so nothing here is an index or a size that is not checked. */
typedef struct slot_t {
    apr_int64_t number;   /* of the last response; 0: there was none */
    apr_int64_t is_ready; /* the store was read */
    apr_int64_t due_at, errors;
    apr_int64_t failures; /* since the server was started */
    md_staple_t copies[2];
} slot_t;

#define WORD       sizeof(apr_int64_t)
#define HEAD_WORDS (offsetof(md_staple_t, der) / WORD)

_Static_assert(sizeof(md_staple_t) % WORD == 0, "a staple is made of words");

/* What is shared: lives in the process, over reloads. */
typedef struct board_t {
    apr_int64_t claimed;  /* how many, or more */
    slot_t slots[];
} board_t;

typedef struct shared_t {
    apr_pool_t *p;        /* its own */
    board_t *board;
    apr_hash_t *ids;      /* SHA-1 of the certificate, hex -> its index, plus 1 */
} shared_t;

struct md_staples_t {
    apr_pool_t *p;
    apr_hash_t *by_id;    /* md_stapled_t; &NONE for what is not stapled */
    apr_hash_t *by_name;
    apr_hash_t *issuers;  /* see md_chain_from_pem_shared */
    apr_array_header_t *list;
    board_t *board;
};

static const md_stapled_t NONE;

/* ---- certificates ---- */

md_staples_t *md_staples_make(apr_pool_t *p)
{
    md_staples_t *staples = apr_pcalloc(p, sizeof(*staples));

    staples->p = p;
    staples->by_id = apr_hash_make(p);
    staples->by_name = apr_hash_make(p);
    staples->issuers = apr_hash_make(p);
    staples->list = apr_array_make(p, 10, sizeof(md_stapled_t *));
    return staples;
}

static apr_status_t read_pem(md_ocsp_cert_t **pocsp, const md_staples_t *staples, const char *pem,
                             md_err_t *err)
{
    apr_status_t rv = md_ocsp_cert_from_pem(pocsp, pem, staples->issuers, err, staples->p);

    if (rv == APR_SUCCESS && !(*pocsp)->responder_url)
        rv = md_fail(err, APR_ENOENT, "certificate with serial %s has no OCSP responder URL",
                     (*pocsp)->serial);
    return rv;
}

static void add_one(md_staples_t *staples, md_stapled_t *stapled)
{
    stapled->index = staples->list->nelts;
    stapled->next = apr_hash_get(staples->by_name, stapled->name, APR_HASH_KEY_STRING);
    apr_hash_set(staples->by_name, stapled->name, APR_HASH_KEY_STRING, stapled);
    APR_ARRAY_PUSH(staples->list, md_stapled_t *) = stapled;
}

apr_status_t md_staples_add(md_staples_t *staples, const char *id, apr_size_t id_len,
                            const char *pem, const md_domain_t *domain, md_err_t *err)
{
    const char *key = apr_pmemdup(staples->p, id, id_len);
    const md_stapled_t *known = &NONE;
    md_stapled_t *stapled;
    md_ocsp_cert_t *ocsp;
    apr_status_t rv = read_pem(&ocsp, staples, pem, err);

    if (rv == APR_SUCCESS) {
        stapled = apr_pcalloc(staples->p, sizeof(*stapled));
        stapled->ocsp = ocsp;
        stapled->domain = domain;
        stapled->name = domain ? domain->name : MD_STAPLES_OTHER;
        add_one(staples, stapled);
        known = stapled;
    }
    apr_hash_set(staples->by_id, key, (apr_ssize_t)id_len, known);
    return rv;
}

int md_staples_knows(const md_stapled_t **pstapled, const md_staples_t *staples, const char *id,
                     apr_size_t id_len)
{
    const md_stapled_t *known = apr_hash_get(staples->by_id, id, (apr_ssize_t)id_len);

    *pstapled = known == &NONE ? NULL : known;
    return known != NULL;
}

int md_staples_count(const md_staples_t *staples)
{
    return staples->list->nelts;
}

const md_stapled_t *md_staples_at(const md_staples_t *staples, int i)
{
    return APR_ARRAY_IDX(staples->list, i, const md_stapled_t *);
}

const md_stapled_t *md_staples_of(const md_staples_t *staples, const char *name)
{
    return apr_hash_get(staples->by_name, name, APR_HASH_KEY_STRING);
}

const md_stapled_t *md_staples_find(const md_staples_t *staples, const char *name,
                                    const char *fingerprint)
{
    const md_stapled_t *one = staples ? md_staples_of(staples, name) : NULL;

    while (one && strcmp(one->ocsp->sha256, fingerprint))
        one = one->next;
    return one;
}

/* ---- words that processes share ---- */

static apr_int64_t load(const apr_int64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(apr_int64_t *word, apr_int64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static void load_words(void *to, const void *from, apr_size_t count)
{
    const apr_int64_t *source = from;
    apr_int64_t *target = to;
    apr_size_t i;

    for (i = 0; i < count; ++i)
        target[i] = load(&source[i]);
}

static void store_words(void *to, const void *from, apr_size_t count)
{
    const apr_int64_t *source = from;
    apr_int64_t *target = to;
    apr_size_t i;

    for (i = 0; i < count; ++i)
        store(&target[i], source[i]);
}

static apr_size_t der_words(apr_int64_t len)
{
    return ((apr_size_t)len + WORD - 1) / WORD;
}

/* Whole, if nothing was put meanwhile: the copy after the next one is written over it. */
static int load_copy(md_staple_t *staple, const slot_t *slot, apr_int64_t number, int with_der)
{
    const md_staple_t *copy = &slot->copies[number & 1];

    load_words(staple, copy, HEAD_WORDS);
    if (staple->len < 0 || staple->len > MD_MAX_OCSP_BODY)
        return 0;
    if (with_der)
        load_words(staple->der, copy->der, der_words(staple->len));
    return load(&slot->number) == number;
}

static int load_staple(md_staple_t *staple, const slot_t *slot, int with_der)
{
    apr_int64_t number;
    int i;

    for (i = 0; i < TRIES; ++i) {
        number = load(&slot->number);
        if (number == 0)
            return 0;
        if (load_copy(staple, slot, number, with_der))
            return staple->len > 0;
    }
    return 0;
}

static void put_staple(slot_t *slot, const md_staple_t *staple)
{
    static const md_staple_t NO_STAPLE;
    apr_int64_t number = load(&slot->number) + 1;

    if (!staple)
        staple = &NO_STAPLE;
    store_words(&slot->copies[number & 1], staple, HEAD_WORDS + der_words(staple->len));
    store(&slot->number, number);
}

static slot_t *slot_of(const md_staples_t *staples, const md_stapled_t *stapled)
{
    return &staples->board->slots[stapled->index];
}

int md_staples_get(md_staple_t *staple, const md_staples_t *staples, const md_stapled_t *stapled)
{
    return staples->board && load_staple(staple, slot_of(staples, stapled), 1);
}

int md_staples_look(md_staple_t *staple, const md_staples_t *staples, const md_stapled_t *stapled)
{
    return staples->board && load_staple(staple, slot_of(staples, stapled), 0);
}

void md_staple_fill(md_staple_t *staple, const md_ocsp_answer_t *answer, const unsigned char *der,
                    apr_size_t len, apr_time_t now, apr_time_t steady)
{
    staple->status = answer->status;
    staple->from = answer->this_update;
    staple->until = answer->next_update ? answer->next_update : answer->this_update + OPEN_END;
    staple->ends_at = answer->ends_at;
    staple->steady_ends_at = steady + (answer->ends_at - now);
    staple->len = (apr_int64_t)len;
    memcpy(staple->der, der, len);
}

const char *md_staple_status(const md_staple_t *staple)
{
    return staple->status == MD_OCSP_GOOD ? "good"
           : staple->status == MD_OCSP_REVOKED ? "revoked" : "unknown";
}

int md_staple_is_usable(const md_staple_t *staple, apr_time_t now, apr_time_t steady)
{
    return now < staple->ends_at && steady < staple->steady_ends_at;
}

void md_staples_put(md_staples_t *staples, const md_stapled_t *stapled, const md_staple_t *staple)
{
    put_staple(slot_of(staples, stapled), staple);
}

md_staple_plan_t md_staples_plan(const md_staples_t *staples, const md_stapled_t *stapled)
{
    const slot_t *slot = slot_of(staples, stapled);
    md_staple_plan_t plan = { load(&slot->due_at), load(&slot->errors) };

    if (plan.errors < 0 || plan.errors > MD_MAX_ERRORS)
        plan.errors = MD_MAX_ERRORS;
    return plan;
}

void md_staples_set_plan(md_staples_t *staples, const md_stapled_t *stapled,
                         const md_staple_plan_t *plan)
{
    slot_t *slot = slot_of(staples, stapled);

    store(&slot->due_at, plan->due_at);
    store(&slot->errors, plan->errors);
}

void md_staples_count_failure(md_staples_t *staples, const md_stapled_t *stapled)
{
    __atomic_fetch_add(&slot_of(staples, stapled)->failures, 1, __ATOMIC_RELAXED);
}

apr_uint64_t md_staples_failures(const md_staples_t *staples, const md_stapled_t *stapled)
{
    return staples->board ? (apr_uint64_t)load(&slot_of(staples, stapled)->failures) : 0;
}

const md_stapled_t *md_staples_claim(md_staples_t *staples)
{
    apr_int64_t i = __atomic_fetch_add(&staples->board->claimed, 1, __ATOMIC_ACQ_REL);

    return i >= 0 && i < staples->list->nelts ? md_staples_at(staples, (int)i) : NULL;
}

void md_staples_set_ready(md_staples_t *staples, const md_stapled_t *stapled)
{
    store(&slot_of(staples, stapled)->is_ready, 1);
}

int md_staples_is_ready(const md_staples_t *staples, const md_stapled_t *stapled)
{
    return load(&slot_of(staples, stapled)->is_ready) != 0;
}

int md_staples_has_revoked(const md_staples_t *staples, const char *name,
                           const apr_array_header_t *certs)
{
    const md_stapled_t *stapled;
    const md_cert_info_t *cert;
    md_staple_t staple;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        stapled = cert ? md_staples_find(staples, name, cert->fingerprint) : NULL;
        if (stapled && md_staples_look(&staple, staples, stapled)
            && staple.status == MD_OCSP_REVOKED)
            return 1;
    }
    return 0;
}

/* ---- over reloads ---- */

static const char KEY[] = "mod_md:staples:" MD_VERSION;

/* As it is: bytes that children wrote, for children. */
static void take_over(slot_t *slot, const slot_t *before)
{
    md_staple_t staple;

    if (load_staple(&staple, before, 1))
        put_staple(slot, &staple);
    slot->errors = load(&before->errors);
    slot->failures = load(&before->failures);
    if (slot->errors) /* else the window says so, and it may be another one now */
        slot->due_at = load(&before->due_at);
}

static void take_over_all(const md_staples_t *staples, shared_t *shared, const shared_t *before)
{
    const md_stapled_t *stapled;
    apr_size_t index;
    int i;

    for (i = 0; i < staples->list->nelts; ++i) {
        stapled = md_staples_at(staples, i);
        index = before ? (apr_size_t)apr_hash_get(before->ids, stapled->ocsp->sha1,
                                                  APR_HASH_KEY_STRING) : 0;
        if (index > 0)
            take_over(&shared->board->slots[i], &before->board->slots[index - 1]);
        apr_hash_set(shared->ids, apr_pstrdup(shared->p, stapled->ocsp->sha1), APR_HASH_KEY_STRING,
                     (void *)(apr_size_t)(i + 1));
    }
}

static apr_status_t make_shared(shared_t **pshared, int count, apr_pool_t *process)
{
    apr_size_t size = sizeof(board_t) + sizeof(slot_t) * (apr_size_t)count;
    apr_shm_t *shm;
    apr_status_t rv;
    apr_pool_t *p;

    apr_pool_create(&p, process);
    *pshared = apr_pcalloc(p, sizeof(**pshared));
    (*pshared)->p = p;
    (*pshared)->ids = apr_hash_make(p);
    rv = apr_shm_create(&shm, size, NULL, p);
    if (rv == APR_SUCCESS)
        (*pshared)->board = apr_shm_baseaddr_get(shm);
    else
        apr_pool_destroy(p);
    return rv;
}

apr_status_t md_staples_share(md_staples_t *staples, apr_pool_t *process, md_err_t *err)
{
    shared_t *shared, *before;
    void *found = NULL;
    apr_status_t rv;

    apr_pool_userdata_get(&found, KEY, process);
    before = found;
    rv = make_shared(&shared, staples->list->nelts, process);
    if (rv != APR_SUCCESS)
        return md_fail_system(err, rv, "no shared memory for the OCSP responses of %d certificates",
                              staples->list->nelts);
    take_over_all(staples, shared, before);
    staples->board = shared->board;
    apr_pool_userdata_set(shared, KEY, NULL, process);
    if (before)
        apr_pool_destroy(before->p);
    return APR_SUCCESS;
}
