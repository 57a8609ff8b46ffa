/* SPDX-License-Identifier: Apache-2.0 */
/* What is served of a managed domain now: an immutable snapshot of its certificates, and of the
 * state that they give it. It is replaced as a whole, never changed: whoever looks sees one set. */
#ifndef MD_LIVE_H
#define MD_LIVE_H

#include "md_domain.h"
#include "md_known.h"
#include "md_store.h"

typedef enum {
    MD_STATE_UNKNOWN = 0,
    MD_STATE_INCOMPLETE = 1,
    MD_STATE_COMPLETE = 2,
    MD_STATE_ERROR = 4,
    MD_STATE_MISSING_INFORMATION = 5
} md_state_t;

typedef struct md_live_t {
    const apr_array_header_t *certs;    /* `const md_cert_info_t *` (or NULL) per key spec, or per
                                           static file; NULL: nobody looked */
    const int *fits;                    /* for each of them: its private key is there and fits */
    const apr_array_header_t *obtained; /* what the store has, per key spec: the same as `certs` but
                                           for static files */
    int is_unread;                      /* for lack of descriptors or memory: there may be more */
    int lacks_must_staple;              /* the CA of `obtained` was asked for it, in vain */
    int state;                          /* md_state_t */
    const char *state_descr;
    const char *lack;                   /* for an incomplete one, in a word: `missing`, `names`,
                                           `must-staple`; else NULL */
    apr_time_t since;                   /* when it was loaded, or put into service after that */
    unsigned int generation;            /* of that (md_board), 0: it was loaded at the start */
    const struct md_live_t *at_start;   /* NULL: this is it */
} md_live_t;

/* The snapshot of a domain, never NULL; of one that comes from its document, the state alone. */
const md_live_t *md_live_of(const md_domain_t *domain);

/* What the start loaded, whatever was put into service since. */
const md_live_t *md_live_at_start(const md_domain_t *domain);

/* When the first of its certificates ends; 0: there is none. */
apr_time_t md_live_expires(const md_domain_t *domain);

/* From now on the domain, and all copies of it, have this one. It must live as long as they do, and
 * so must the one before, as others may still look at it. */
void md_live_replace(const md_domain_t *domain, const md_live_t *live);

/* Whose damage is told in the log. */
typedef enum { MD_LIVE_TELL_NONE, MD_LIVE_TELL_STATIC, MD_LIVE_TELL_ALL } md_live_tell_t;

/* Read the certificates of all domains (`md_domain_t *`), and see whether their private keys fit;
 * what is `known` (or NULL) is not read again. Without a store: static files alone. The snapshots
 * live in `p`, and no longer than what is known; their state is unknown. */
void md_live_load(const apr_array_header_t *domains, const md_store_t *store, md_known_t *known,
                  md_live_tell_t tell, apr_pool_t *p);

/* Settle the state by the certificates that were loaded, for the domain as it is configured now: a
 * new snapshot, in `p`. The first deficient certificate counts. */
void md_live_assess(const md_domain_t *domain, apr_pool_t *p);

/* Settle the state of a new snapshot that is not in its place yet. */
void md_live_settle(md_live_t *live, const md_domain_t *domain, apr_pool_t *p);

/* What the store has for the domain now, with its state. Looks at the disk. It lives in `p`, and no
 * longer than what is `known` (or NULL). */
const md_live_t *md_live_look(const md_domain_t *domain, const md_store_t *store,
                              md_known_t *known, apr_time_t now, apr_pool_t *p);

/* Is it complete, and valid at `now`? */
int md_live_is_sound(const md_live_t *live, apr_time_t now);

/* What of it could be served at `now`: `const md_cert_info_t *` per key spec, or NULL. */
const apr_array_header_t *md_live_usable(const md_live_t *live, apr_time_t now, apr_pool_t *p);

#endif
