/* SPDX-License-Identifier: Apache-2.0 */
/* A second implementation of md_http.h that plays a CA from a script: linked in place of the real
 * one. */
#ifndef FAKE_HTTP_H
#define FAKE_HTTP_H

#include "../../md_http.h"

/* One prepared answer: the first unused one whose method and URL match the request is given. */
typedef struct fake_answer_t {
    const char *method;      /* NULL: any */
    const char *url;         /* suffix of the URL */
    int status;              /* 0: fail with `rv` */
    apr_status_t rv;
    const char *type;        /* Content-Type */
    const char *headers;     /* "Name: value\n..." or NULL */
    const char *body;        /* NULL: empty; text, unless a header field tells Content-Length */
    int times;               /* how often; -1: always */
} fake_answer_t;

/* Forget script and log. */
void fake_http_reset(apr_pool_t *p);

/* Append answers; the array ends with an entry without URL. Kept by reference to its strings. */
void fake_http_script(const fake_answer_t *answers);
void fake_http_answer(fake_answer_t answer);

/* Let the n-th request from now (1 is the next) fail with `rv`; 0: none. */
void fake_http_fail_at(int n, apr_status_t rv);

/* Call `happens` whenever this is asked for, before the answer. */
void fake_http_meanwhile(const char *url_suffix, void (*happens)(void));

/* Ask `serve` before the script. It fills in the answer and returns 1, or 0: that is for the script.
 * Strings live in `p`. Called by one thread at a time. */
void fake_http_serve(int (*serve)(fake_answer_t *answer, const md_request_t *request,
                                  apr_pool_t *p));

/* Whatever begins so is not answered before md_http_stop. */
void fake_http_hold(const char *url_prefix);

/* Requests made so far, how many with this suffix, and the n-th of these's body (JWS). */
int fake_http_count(const char *url_suffix);
int fake_http_count_prefix(const char *url_prefix);
const char *fake_http_body(const char *url_suffix, int n);

#endif
