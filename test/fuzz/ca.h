/* SPDX-License-Identifier: Apache-2.0 */
/* A CA that answers with the parts of an input, one after the other: in place of md_http.c. Each of
 * them is a status, header lines, an empty line, the body. Include it once. */
#ifndef CA_H
#define CA_H

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "../../md_acme.h"
#include "../../md_http.h"
#include "../../md_limits.h"
#include "fuzz.h"

#define CA "https://ca.test"

static struct {
    fuzz_parts_t answers;
    int gives_directory; /* and nonces, without taking a part for them */
    int count;           /* of requests */
} ca;

static md_response_t *ca_response(const char *text, size_t len, apr_pool_t *p)
{
    md_response_t *response = apr_pcalloc(p, sizeof(*response));
    const char *body = text, *line = fuzz_line(&body, p), *colon;

    response->status = line ? atoi(line) : 200;
    response->headers = apr_table_make(p, 5);
    for (line = fuzz_line(&body, p); line && *line; line = fuzz_line(&body, p)) {
        colon = strchr(line, ':');
        if (colon)
            apr_table_addn(response->headers, apr_pstrmemdup(p, line, (apr_size_t)(colon - line)),
                           apr_pstrdup(p, colon + 1 + strspn(colon + 1, " \t")));
    }
    response->body = body;
    response->len = len - (size_t)(body - text);
    return response;
}

static const char *ca_own(const md_request_t *request)
{
    if (!strcmp(request->url, CA "/dir"))
        return "200\n\n{\"newNonce\":\"" CA "/nonce\",\"newAccount\":\"" CA "/new-acct\","
               "\"newOrder\":\"" CA "/new-order\",\"renewalInfo\":\"" CA "/ari\",\"meta\":{\"termsOfService\":\"" CA "/tos\","
               "\"profiles\":{\"classic\":\"x\"}}}";
    return strcmp(request->url, CA "/nonce") ? NULL : "200\nReplay-Nonce: a-nonce\n\n";
}

apr_status_t md_http_exchange(md_response_t **presponse, md_http_t *http,
                              const md_request_t *request, md_err_t *err, apr_pool_t *p)
{
    const char *text = ca.gives_directory ? ca_own(request) : NULL;
    size_t len = text ? strlen(text) : 0;

    (void)http;
    holds(!strncasecmp(request->url, "https:", 6)); /* as its directory is */
    holds(!request->body || strlen(request->body) <= MD_MAX_FILE);
    ++ca.count;
    if (!text)
        text = fuzz_part(&len, &ca.answers, p);
    if (!text)
        return md_fail(err, APR_ECONNREFUSED, "there are no more answers");
    *presponse = ca_response(text, len, p);
    if ((*presponse)->len > request->max_body)
        return md_fail(err, APR_EGENERAL, "the response is too large");
    return APR_SUCCESS;
}

apr_status_t md_http_create(md_http_t **phttp, const char *user_agent, md_err_t *err,
                            apr_pool_t *p)
{
    (void)user_agent;
    (void)err;
    *phttp = apr_palloc(p, 1);
    return APR_SUCCESS;
}

void md_http_stop(md_http_t *http)
{
    (void)http;
}

void md_http_idle(md_http_t *http)
{
    (void)http;
}

/* A CA that was not asked yet and has these answers. */
static md_acme_t *ca_make(const char *data, size_t len, int gives_directory, apr_pool_t *p)
{
    const md_route_t route = { .ca_file = NULL };

    ca.answers = (fuzz_parts_t){ data, data + len };
    ca.gives_directory = gives_directory;
    ca.count = 0;
    return md_acme_create(NULL, CA "/dir", &route, NULL, p);
}

#endif
