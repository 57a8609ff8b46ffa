/* SPDX-License-Identifier: Apache-2.0 */
/* What the end of a command comes to. */
#include "md_exec.h"

#include <apr_strings.h>

#include "md_limits.h"
#include "md_time.h"

apr_status_t md_exec_result(const char **ptext, const md_exec_end_t *end, apr_pool_t *p)
{
    *ptext = NULL;
    switch (end->state) {
    case MD_EXEC_EXITED:
        if (end->code == 0)
            return APR_SUCCESS;
        *ptext = apr_psprintf(p, "failed with exit code %d.", end->code);
        return end->code <= 127 ? APR_EGENERAL : APR_EINCOMPLETE;
    case MD_EXEC_UNFIT:
        *ptext = apr_psprintf(p, "failed with exit code 255. It cannot be executed: %s",
                              md_err_text(end->code, p));
        return APR_EINCOMPLETE;
    case MD_EXEC_SIGNALLED:
        *ptext = apr_psprintf(p, "was ended by signal %d.", end->code);
        return APR_EINCOMPLETE;
    default:
        *ptext = apr_psprintf(p, "did not end within %s and was stopped.",
                              md_duration_print(MD_MAX_COMMAND_TIME, p));
        return APR_TIMEUP;
    }
}
