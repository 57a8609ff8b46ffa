/* SPDX-License-Identifier: Apache-2.0 */
/* Pages, piece by piece. */
#include "md_out.h"

#include <stdarg.h>

#include <apr_strings.h>

void md_out_put(md_out_t *out, const char *text)
{
    if (out->rv == APR_SUCCESS)
        out->rv = out->put(out->baton, text);
}

void md_out_printf(md_out_t *out, apr_pool_t *p, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    md_out_put(out, apr_pvsprintf(p, fmt, args));
    va_end(args);
}
