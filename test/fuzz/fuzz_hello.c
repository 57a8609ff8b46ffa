/* SPDX-License-Identifier: Apache-2.0 */
/* The look at a ClientHello. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../../md_hello.h"
#include "../../md_text.h"

#define WANTED "acme-tls/1"

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    unsigned char *message = malloc(len + !len); /* no NUL behind it, as in a connection */
    apr_array_header_t *names;
    size_t all = 0;
    int i;

    holds(message);
    memcpy(message, data, len);
    names = md_hello_protocols(message, len, WANTED, p);
    holds(!memcmp(message, data, len));
    free(message);
    if (!names)
        return;
    holds(md_strings_has(names, WANTED));
    for (i = 0; i < names->nelts; ++i)
        all += 1 + strlen(APR_ARRAY_IDX(names, i, const char *));
    holds(all <= len);
}
