/* SPDX-License-Identifier: Apache-2.0 */
/* Things that a process loads when they are first needed, and again when they have changed; those
 * that were used least recently go. Each is shared, never changed, and there as long as somebody
 * holds it. Any number of threads. */
#ifndef MD_CACHE_H
#define MD_CACHE_H

#include <apr_pools.h>

typedef struct md_cache_t md_cache_t;

/* What is done with things of a kind. */
typedef struct md_cache_kind_t {
    /* The thing that there is of a number: a new one, `old` (it stays in use), or NULL. With
     * *pis_lack nobody can tell now, and it is asked again in a while. One thread at a time for a
     * number; it may block. */
    void *(*load)(void *baton, int number, void *old, int *pis_lack);
    void (*destroy)(void *thing);
} md_cache_kind_t;

/* A thing that is held. */
typedef struct md_cached_t {
    void *thing;
    int holders;               /* the cache's own */
} md_cached_t;

/* For numbers below `count`; `most` things at a time are kept without being held. With it all that
 * nobody holds goes with `p`. NULL without memory: it takes none for numbers that are not used. */
md_cache_t *md_cache_make(const md_cache_kind_t *kind, int count, int most, apr_pool_t *p);

/* The thing of that number, NULL: there is none. It is loaded if its generation is another one than
 * at the last time: by one thread, who hands `baton` on, while all others go on with what there was
 * before, or wait if that is the first time. It is not loaded more than
 * ten times a second, for long. */
md_cached_t *md_cache_hold(md_cache_t *cache, int number, unsigned int generation, void *baton);

/* NULL is fine. */
void md_cache_release(md_cache_t *cache, md_cached_t *cached);

#endif
