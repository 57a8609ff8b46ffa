/* SPDX-License-Identifier: Apache-2.0 */
/* The status of a domain in words: how it is, what goes on, what happens next and when, and how
 * much it needs somebody's attention. Pure. */
#ifndef MD_OUTLOOK_H
#define MD_OUTLOOK_H

#include "md_status.h"

/* The most urgent first. */
typedef enum {
    MD_TONE_BAD,   /* visitors see it, or will soon */
    MD_TONE_WARN,  /* somebody should have a look */
    MD_TONE_BUSY,  /* work is under way */
    MD_TONE_GOOD,
    MD_TONE_COUNT
} md_tone_t;

typedef struct md_outlook_t {
    md_tone_t tone;
    const char *state;   /* what is served: "Valid", "Expired", ... */
    const char *about;   /* more about that, or NULL */
    const char *what;    /* what goes on, or NULL */
    const char *detail;  /* more about that, perhaps in the words of a CA, or NULL */
    const char *next;    /* what happens next, or NULL; */
    apr_time_t next_at;  /* and when */
} md_outlook_t;

md_outlook_t md_outlook_of(const md_status_t *status, apr_pool_t *p);

/* Why it is time for a renewal; NULL: it is not, or nobody can tell. */
const char *md_outlook_reason(const md_status_t *status);

#endif
