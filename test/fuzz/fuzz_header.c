/* SPDX-License-Identifier: Apache-2.0 */
/* What libcurl hands over of an answer. Each line of the first part of an input is a line of the
 * headers; the other parts are pieces of the body. */
#include "../../md_http.c"

#include "fuzz.h"

#define MAX_BODY 1000

/* Returns how many bytes of them were taken. */
static size_t give_headers(exchange_t *x, const char *text, size_t len, apr_pool_t *p)
{
    const char *at = text, *end;
    size_t line;

    for (; len > 0; at += line, len -= line) {
        end = memchr(at, '\n', len);
        line = end ? (size_t)(end - at) + 1 : len;
        if (on_header(memcpy(apr_palloc(p, line), at, line), 1, line, x) != line)
            break;
        if (line >= 5 && !memcmp(at, "HTTP/", 5))
            holds(apr_is_empty_table(x->response->headers));
    }
    return (size_t)(at - text);
}

static int check_value(void *baton, const char *name, const char *value)
{
    (void)baton;
    holds(!strchr(name, ':') && !strpbrk(value, "\r\n"));
    holds(!*value || (!strchr(" \t", *value) && !strchr(" \t", value[strlen(value) - 1])));
    return 1;
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    fuzz_parts_t parts = { data, data + len };
    exchange_t x = { .p = p, .body.max = MAX_BODY };
    const char *piece = fuzz_part(&len, &parts, p);
    size_t all = 0;

    x.response = apr_pcalloc(p, sizeof(*x.response));
    x.response->headers = apr_table_make(p, 10);
    holds(give_headers(&x, piece, len, p) <= MD_MAX_HEADERS);
    apr_table_do(check_value, NULL, x.response->headers, NULL);
    for (piece = fuzz_part(&len, &parts, p); piece; piece = fuzz_part(&len, &parts, p)) {
        all += len;
        if (on_body(apr_pstrmemdup(p, piece, len), 1, len, &x) != len) {
            holds(all > MAX_BODY);
            break;
        }
        holds(x.body.len == all && all <= MAX_BODY);
    }
    free(x.body.data);
}
