/* SPDX-License-Identifier: Apache-2.0 */
/* The error record. */
#include "md_err.h"

#include <errno.h>
#include <stdarg.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

void md_err_init(md_err_t *err, apr_pool_t *p)
{
    err->p = p;
    md_err_clear(err);
}

void md_err_clear(md_err_t *err)
{
    if (!err)
        return;
    err->rv = APR_SUCCESS;
    err->type = err->detail = err->subproblems = NULL;
    err->retry_after = 0;
    err->scope = MD_SCOPE_DOMAIN;
    err->is_lasting = err->http_status = 0;
}

int md_is_lack(apr_status_t rv)
{
    return APR_STATUS_IS_ENOMEM(rv) || APR_STATUS_IS_EMFILE(rv) || APR_STATUS_IS_ENFILE(rv);
}

/* What we lack, and not what somebody else does. */
static int is_ours(apr_status_t rv)
{
    return md_is_lack(rv) || APR_STATUS_IS_ENOSPC(rv) || rv == EDQUOT || rv == EROFS || rv == EIO;
}

static apr_status_t record(md_err_t *err, apr_status_t rv, const char *type, const char *fmt,
                           va_list args)
{
    const char *detail;

    if (!err)
        return rv;
    detail = apr_pvsprintf(err->p, fmt, args); /* may quote what is cleared next */
    type = md_text_printable(type, err->p);
    md_err_clear(err);
    err->rv = rv;
    err->type = type;
    err->detail = md_text_clean(detail, MD_MAX_DETAIL, err->p);
    if (is_ours(rv))
        err->scope = MD_SCOPE_SELF;
    return rv;
}

apr_status_t md_fail(md_err_t *err, apr_status_t rv, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    record(err, rv, NULL, fmt, args);
    va_end(args);
    return rv;
}

apr_status_t md_fail_system(md_err_t *err, apr_status_t rv, const char *fmt, ...)
{
    va_list args;

    if (!err)
        return rv;
    va_start(args, fmt);
    fmt = apr_pvsprintf(err->p, fmt, args);
    va_end(args);
    return md_fail(err, rv, "%s: %s", fmt, md_err_text(rv, err->p));
}

apr_status_t md_fail_problem(md_err_t *err, apr_status_t rv, const char *type,
                             const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    record(err, rv, type, fmt, args);
    va_end(args);
    return rv;
}

apr_status_t md_err_blame(md_err_t *err, md_scope_t scope, int is_lasting)
{
    if (!err)
        return APR_EGENERAL;
    err->scope = scope;
    err->is_lasting = is_lasting;
    return err->rv;
}

void md_err_set_subproblems(md_err_t *err, const char *subproblems)
{
    if (err)
        err->subproblems = apr_pstrdup(err->p, subproblems);
}

void md_err_copy(md_err_t *to, const md_err_t *from)
{
    to->rv = from->rv;
    to->type = apr_pstrdup(to->p, from->type);
    to->detail = apr_pstrdup(to->p, from->detail);
    to->subproblems = apr_pstrdup(to->p, from->subproblems);
    to->retry_after = from->retry_after;
    to->scope = from->scope;
    to->is_lasting = from->is_lasting;
    to->http_status = from->http_status;
}

const char *md_err_text(apr_status_t rv, apr_pool_t *p)
{
    char buffer[256];

    return apr_pstrdup(p, apr_strerror(rv, buffer, sizeof(buffer)));
}
