/* SPDX-License-Identifier: Apache-2.0 */
/* A slot for each number; those with a thing are in a ring, in order of their last use. */
#include "md_cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "md_clock.h"

#define PAUSE      apr_time_from_msec(100) /* who raises a generation all the time gains nothing, */
#define SAVED      (2 * PAUSE)             /* but a few changes in a row are followed at once */
#define LACK_PAUSE apr_time_from_sec(1)

typedef struct slot_t {
    struct slot_t *newer, *older;  /* in the ring; NULL: not in it */
    md_cached_t *cached;
    unsigned int generation;       /* that was loaded */
    int is_known;                  /* it was; NULL is a result, too */
    int is_loading;
    apr_time_t rests_until;        /* steady */
} slot_t;

struct md_cache_t {
    const md_cache_kind_t *kind;
    pthread_mutex_t mutex;         /* guards all below */
    pthread_cond_t loaded;
    slot_t ring;                   /* its `older` was used last */
    slot_t *slots;
    int count, kept, most;
};

/* ---- holders ---- */

/* Called locked. The thing to be destroyed once that is over, or NULL. */
static void *let_go(md_cached_t *cached)
{
    void *thing = NULL;

    if (cached && --cached->holders == 0) {
        thing = cached->thing;
        free(cached);
    }
    return thing;
}

static void destroy(const md_cache_t *cache, void *thing)
{
    if (thing)
        cache->kind->destroy(thing);
}

void md_cache_release(md_cache_t *cache, md_cached_t *cached)
{
    void *thing;

    pthread_mutex_lock(&cache->mutex);
    thing = let_go(cached);
    pthread_mutex_unlock(&cache->mutex);
    destroy(cache, thing);
}

/* ---- the ring ---- */

static void leave_ring(slot_t *slot)
{
    if (!slot->newer)
        return;
    slot->newer->older = slot->older;
    slot->older->newer = slot->newer;
    slot->newer = slot->older = NULL;
}

static void enter_ring(md_cache_t *cache, slot_t *slot)
{
    leave_ring(slot);
    slot->newer = &cache->ring;
    slot->older = cache->ring.older;
    slot->older->newer = slot;
    cache->ring.older = slot;
}

/* Called locked: what takes a place too many is forgotten. */
static void *drop_oldest(md_cache_t *cache)
{
    slot_t *slot = cache->ring.newer;
    md_cached_t *cached = slot->cached;

    if (cache->kept <= cache->most || slot->is_loading)
        return NULL;
    leave_ring(slot);
    slot->cached = NULL;
    slot->is_known = 0;
    --cache->kept;
    return let_go(cached);
}

/* ---- loading ---- */

static md_cached_t *wrap(void *thing)
{
    md_cached_t *cached = thing ? malloc(sizeof(*cached)) : NULL;

    if (cached)
        *cached = (md_cached_t){ thing, 1 };
    return cached;
}

/* Until it is loaded again. */
static void rest(slot_t *slot, int is_lack)
{
    apr_time_t now = md_clock_steady();

    if (slot->rests_until < now - SAVED)
        slot->rests_until = now - SAVED;
    slot->rests_until = is_lack ? now + LACK_PAUSE : slot->rests_until + PAUSE;
}

/* Called locked; it is not while the kind loads. What nobody needs any more is for the caller to
 * destroy. */
static void load(void *garbage[2], md_cache_t *cache, slot_t *slot, unsigned int generation,
                 void *baton)
{
    void *old = slot->cached ? slot->cached->thing : NULL, *thing, *gone = NULL;
    md_cached_t *cached = NULL;
    int is_lack = 0;

    slot->is_loading = 1;
    pthread_mutex_unlock(&cache->mutex);
    thing = cache->kind->load(baton, (int)(slot - cache->slots), old, &is_lack);
    if (thing && thing != old) {
        cached = wrap(thing);
        gone = cached ? NULL : thing;
        is_lack |= !cached;
    }
    pthread_mutex_lock(&cache->mutex);
    slot->is_loading = 0;
    slot->is_known = 1;
    rest(slot, is_lack);
    slot->generation = is_lack ? generation - 1 : generation; /* another one than asked for */
    if (!gone && thing != old) {
        gone = let_go(slot->cached);
        cache->kept += (cached != NULL) - (slot->cached != NULL);
        slot->cached = cached;
    }
    if (slot->cached)
        enter_ring(cache, slot);
    else
        leave_ring(slot);
    garbage[0] = gone;
    garbage[1] = drop_oldest(cache);
    pthread_cond_broadcast(&cache->loaded);
}

static int is_due(const slot_t *slot, unsigned int generation)
{
    return !slot->is_known
           || (slot->generation != generation && slot->rests_until <= md_clock_steady());
}

md_cached_t *md_cache_hold(md_cache_t *cache, int number, unsigned int generation, void *baton)
{
    void *garbage[2] = { NULL, NULL };
    md_cached_t *cached;
    slot_t *slot;

    if (number < 0 || number >= cache->count)
        return NULL;
    slot = &cache->slots[number];
    pthread_mutex_lock(&cache->mutex);
    while (slot->is_loading && !slot->is_known)
        pthread_cond_wait(&cache->loaded, &cache->mutex);
    if (!slot->is_loading && is_due(slot, generation))
        load(garbage, cache, slot, generation, baton);
    cached = slot->cached;
    if (cached) {
        ++cached->holders;
        enter_ring(cache, slot);
    }
    pthread_mutex_unlock(&cache->mutex);
    destroy(cache, garbage[0]);
    destroy(cache, garbage[1]);
    return cached;
}

/* ---- making one ---- */

static apr_status_t unmake(void *baton)
{
    md_cache_t *cache = baton;
    slot_t *slot;

    while (cache->ring.older != &cache->ring) {
        slot = cache->ring.older;
        leave_ring(slot);
        destroy(cache, let_go(slot->cached));
    }
    free(cache->slots);
    pthread_cond_destroy(&cache->loaded);
    pthread_mutex_destroy(&cache->mutex);
    return APR_SUCCESS;
}

/* From calloc, which takes pages that are not touched from nobody. */
md_cache_t *md_cache_make(const md_cache_kind_t *kind, int count, int most, apr_pool_t *p)
{
    md_cache_t *cache = apr_pcalloc(p, sizeof(*cache));

    cache->kind = kind;
    cache->count = count;
    cache->most = most;
    cache->ring.newer = cache->ring.older = &cache->ring;
    cache->slots = calloc((size_t)count + 1, sizeof(slot_t));
    if (!cache->slots)
        return NULL;
    pthread_mutex_init(&cache->mutex, NULL);
    pthread_cond_init(&cache->loaded, NULL);
    apr_pool_cleanup_register(p, cache, unmake, apr_pool_cleanup_null);
    return cache;
}
