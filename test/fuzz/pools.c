/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the place of APR's allocation from pools: each piece is a block of its own, freed when the
 * pool is cleared. In the large blocks that APR cuts pieces from, ASan would not see who reads or
 * writes beyond the end of one, or after the pool was cleared. For one thread. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <apr_pools.h>
#include <apr_strings.h>

typedef struct block_t {
    struct block_t *next;
    max_align_t data[];
} block_t;

/* A pool that is there, and its pieces. */
typedef struct own_t {
    struct own_t *next;
    apr_pool_t *p;
    block_t *blocks;
} own_t;

static own_t *pools;

static own_t **find(const apr_pool_t *p)
{
    own_t **own = &pools;

    while (*own && (*own)->p != p)
        own = &(*own)->next;
    return own;
}

/* The first cleanup to be registered is the last to run: nothing looks at the pieces any more. */
static apr_status_t free_all(void *data)
{
    own_t **at = find(data), *own = *at;
    block_t *block, *next;

    *at = own->next;
    for (block = own->blocks; block; block = next) {
        next = block->next;
        free(block);
    }
    free(own);
    return APR_SUCCESS;
}

static void take_over(apr_pool_t *p)
{
    own_t *own = calloc(1, sizeof(*own));

    if (!own)
        abort();
    own->p = p;
    own->next = pools;
    pools = own;
    apr_pool_cleanup_register(p, p, free_all, apr_pool_cleanup_null);
}

APR_DECLARE(apr_status_t) apr_pool_create_ex(apr_pool_t **pp, apr_pool_t *parent,
                                             apr_abortfunc_t abort_fn, apr_allocator_t *allocator)
{
    static apr_status_t (*real)(apr_pool_t **, apr_pool_t *, apr_abortfunc_t, apr_allocator_t *);
    apr_status_t rv;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "apr_pool_create_ex");
    rv = real(pp, parent, abort_fn, allocator);
    if (rv == APR_SUCCESS)
        take_over(*pp);
    return rv;
}

APR_DECLARE(void) apr_pool_clear(apr_pool_t *p)
{
    static void (*real)(apr_pool_t *);

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "apr_pool_clear");
    real(p);
    take_over(p);
}

/* APR's own first pool is made before there is anything to take over. */
APR_DECLARE(void *) apr_palloc(apr_pool_t *p, apr_size_t size)
{
    static void *(*real)(apr_pool_t *, apr_size_t);
    own_t *own = *find(p);
    block_t *block;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "apr_palloc");
    if (!own)
        return real(p, size);
    block = malloc(sizeof(*block) + size);
    if (!block)
        abort();
    block->next = own->blocks;
    own->blocks = block;
    return block->data;
}

/* Formats into the pool's large blocks. */
APR_DECLARE(char *) apr_pvsprintf(apr_pool_t *p, const char *fmt, va_list args)
{
    static char *(*real)(apr_pool_t *, const char *, va_list);

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "apr_pvsprintf");
    return apr_pstrdup(p, real(p, fmt, args));
}

APR_DECLARE_NONSTD(char *) apr_psprintf(apr_pool_t *p, const char *fmt, ...)
{
    va_list args;
    char *text;

    va_start(args, fmt);
    text = apr_pvsprintf(p, fmt, args);
    va_end(args);
    return text;
}
