/* SPDX-License-Identifier: Apache-2.0 */
/* Requests at run time: whoever may write to the store, as a2md does, asks the server that works
 * with it to do something about a domain now (`requests/<name>`, which children read), and is told
 * what came of it (`answers/<name>`, which children write). */
#ifndef MD_WISH_H
#define MD_WISH_H

#include "md_store.h"

typedef enum {
    MD_WISH_RENEW, /* obtain a new certificate, though it is not time yet */
    MD_WISH_CHECK, /* ask the CA and the OCSP responder for what they say now */
    MD_WISH_COUNT
} md_wish_kind_t;

#define MD_WISH_ID_SIZE 24

typedef struct md_wish_t {
    char id[MD_WISH_ID_SIZE]; /* "": there is none */
    md_wish_kind_t kind;
} md_wish_t;

typedef struct md_wish_answer_t {
    int is_done;                 /* 0: the server is at it */
    apr_status_t rv;             /* of what is done, */
    const char *detail;          /* and what there is to say of it, or NULL */
    const apr_array_header_t *hints; /* `const char *`: on what is wrong, or NULL */
} md_wish_answer_t;

/* Ask for something, in place of what was asked for the domain before. */
MD_MUST_CHECK
apr_status_t md_wish_make(md_wish_t *request, const md_store_t *store, const char *name,
                             md_wish_kind_t kind, apr_time_t now, md_err_t *err, apr_pool_t *p);

/* The answer by now, in `p`. 0: nobody has taken the request up. */
int md_wish_find_answer(md_wish_answer_t *answer, const md_store_t *store, const char *name,
                           const md_wish_t *request, apr_pool_t *p);

/* It is over, or not of interest any more: nothing is left of it. */
void md_wish_withdraw(const md_store_t *store, const char *name, apr_pool_t *p);

/* For the server: may there be requests that came since this was last called? *pseen is what it
 * saw, 0 at first. One look at one directory. */
int md_wish_has_news(apr_time_t *pseen, const md_store_t *store, apr_time_t now,
                        apr_pool_t *p);

/* What is asked for the domain and not done. 0: nothing; an old one is void, as nobody waits for
 * it. */
int md_wish_find(md_wish_t *request, const md_store_t *store, const char *name,
                    apr_time_t now, apr_pool_t *p);

/* Answer it: `answer->detail` becomes a line. */
MD_MUST_CHECK
apr_status_t md_wish_answer(const md_store_t *store, const char *name,
                               const md_wish_t *request, const md_wish_answer_t *answer,
                               md_err_t *err, apr_pool_t *p);

#endif
