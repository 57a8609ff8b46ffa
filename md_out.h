/* SPDX-License-Identifier: Apache-2.0 */
/* Where a page goes: pieces of text one after the other, so that none but the one in work is in
 * memory. */
#ifndef MD_OUT_H
#define MD_OUT_H

#include <apr_pools.h>

typedef struct md_out_t {
    apr_status_t (*put)(void *baton, const char *text); /* a piece is gone afterwards */
    void *baton;
    apr_status_t rv;  /* of the first piece that could not be put: nothing is put after that */
} md_out_t;

void md_out_put(md_out_t *out, const char *text);

/* The piece is made in `p`. */
void md_out_printf(md_out_t *out, apr_pool_t *p, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
