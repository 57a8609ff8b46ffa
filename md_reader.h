/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: short-lived processes without the rights of who starts them, for what others wrote. They
 * hand over a record for each of many items, and may hang, die or send anything: that costs the
 * item that it happened with, and no other. */
#ifndef MD_READER_H
#define MD_READER_H

#include <apr_user.h>

#include "md_err.h"

/* Whose rights they have. */
typedef struct md_rights_t {
    apr_uid_t uid;
    apr_gid_t gid;
} md_rights_t;

typedef struct md_reading_t {
    int count;                 /* items */
    int is_one;                /* they are one piece of work: in one process, which takes as long as
                                * it takes, and when it fails they all do from there on */
    const md_rights_t *rights; /* NULL: those that we have, and no process is started */
    void *baton;
    /* In a reader: the record of an item, text in `p`. */
    char *(*read)(void *baton, int item, apr_pool_t *p);
    /* With our rights: that record, which may be changed until this returns and has a NUL behind
     * it; or NULL, and `why` there is none. In whatever order. */
    void (*take)(void *baton, int item, char *record, apr_size_t len, const char *why,
                 apr_pool_t *p);
} md_reading_t;

typedef struct md_readers_t md_readers_t;

/* Readers, one for each processor if there is enough to do, begin to read; `reading` is copied, and
 * its baton lives until the end. Items are taken in md_reader_finish; here only if no process is
 * wanted or can be had. Without that, readers end with `p`. */
md_readers_t *md_reader_start(const md_reading_t *reading, apr_pool_t *p);

/* Returns when all items were taken. A reader that we wait for longer than MD_MAX_READ_TIME for an
 * item is ended; with those and all that end early no more time than MD_MAX_READ_LOST is lost: then
 * the rest is not read. */
void md_reader_finish(md_readers_t *readers);

/* Both: readers work while items are taken. */
void md_reader_run(const md_reading_t *reading, apr_pool_t *p);

#endif
