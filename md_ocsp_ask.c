/* SPDX-License-Identifier: Apache-2.0 */
/* Asking an OCSP responder. */
#include "md_ocsp_ask.h"

#include <string.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_text.h"
#include "md_time.h"

static apr_status_t exchange(md_response_t **presponse, const md_ocsp_request_t *ocsp,
                             const char *responder_url, int by_post, md_http_t *http,
                             const md_route_t *route, md_err_t *err, apr_pool_t *p)
{
    md_request_t request = { .method = "GET", .accept = MD_OCSP_TYPE, .max_body = MD_MAX_OCSP_BODY,
                             .url_from = "the URL of the responder in the certificate",
                             .route = *route };

    request.url = by_post ? NULL : md_ocsp_get_url(responder_url, ocsp, p);
    if (!request.url) {
        request.method = "POST";
        request.url = responder_url;
        request.content_type = MD_OCSP_REQUEST_TYPE;
        request.body = (const char *)ocsp->der;
        request.body_len = ocsp->len;
    }
    return md_http_exchange(presponse, http, &request, err, p);
}

/* Parameters do not matter. */
static int is_ocsp_type(const char *type)
{
    apr_size_t len = strlen(MD_OCSP_TYPE);

    return type && !strncasecmp(type, MD_OCSP_TYPE, len) && strchr("; \t", type[len]);
}

static apr_status_t check(md_ocsp_reply_t *reply, const md_ocsp_cert_t *cert,
                          const md_ocsp_request_t *request, md_err_t *err, apr_pool_t *p)
{
    const md_response_t *response = reply->response;
    const char *type = apr_table_get(response->headers, "Content-Type");
    apr_time_t retry_after;
    apr_status_t rv;

    retry_after = md_time_retry_after(apr_table_get(response->headers, "Retry-After"), reply->at);
    if (response->status != 200)
        rv = md_fail(err, APR_EGENERAL, "HTTP status %d", response->status);
    else if (!is_ocsp_type(type))
        rv = md_fail(err, APR_EGENERAL, "the answer is of type '%s'",
                     type ? md_text_printable(type, p) : "");
    else
        rv = md_ocsp_check(&reply->answer, cert, request, (const unsigned char *)response->body,
                           response->len, reply->at, err, p);
    if (rv != APR_SUCCESS)
        err->retry_after = retry_after;
    return rv;
}

apr_status_t md_ocsp_ask(md_ocsp_reply_t *reply, const md_ocsp_cert_t *cert, int by_post,
                         md_http_t *http, const md_route_t *route, md_err_t *err, apr_pool_t *p)
{
    unsigned char nonce[MD_OCSP_NONCE_LEN];
    md_response_t *response = NULL;
    md_ocsp_request_t request;
    apr_status_t rv;

    reply->response = NULL;
    md_random_bytes(nonce, sizeof(nonce));
    rv = md_ocsp_request_make(&request, cert, by_post ? nonce : NULL, err, p);
    if (rv == APR_SUCCESS)
        rv = exchange(&response, &request, cert->responder_url, by_post, http, route, err, p);
    reply->at = md_clock_now();
    if (rv != APR_SUCCESS)
        return rv;
    reply->response = response;
    return check(reply, cert, &request, err, p);
}
