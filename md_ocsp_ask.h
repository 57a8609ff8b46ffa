/* SPDX-License-Identifier: Apache-2.0 */
/* One exchange with an OCSP responder. */
#ifndef MD_OCSP_ASK_H
#define MD_OCSP_ASK_H

#include "md_http.h"
#include "md_ocsp_response.h"

typedef struct md_ocsp_reply_t {
    const md_response_t *response; /* NULL: nothing came back */
    md_ocsp_answer_t answer;       /* if it was believed */
    apr_time_t at;                 /* when it came */
} md_ocsp_reply_t;

/* By GET where that is possible, so that caches can answer, or by POST with a nonce. The answer is
 * believed if APR_SUCCESS; else errors are those of md_http_exchange and md_ocsp_check, and
 * err->retry_after is set if the responder tells. */
MD_MUST_CHECK
apr_status_t md_ocsp_ask(md_ocsp_reply_t *reply, const md_ocsp_cert_t *cert, int by_post,
                         md_http_t *http, const md_route_t *route, md_err_t *err, apr_pool_t *p);

#endif
