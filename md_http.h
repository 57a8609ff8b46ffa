/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP request, one bounded reply. Connections stay alive between requests; many threads may
 * use one client at once. Redirects are never followed. Only md_http.c knows libcurl. */
#ifndef MD_HTTP_H
#define MD_HTTP_H

#include <apr_tables.h>

#include "md_err.h"

typedef struct md_http_t md_http_t;

/* How to reach a server. NULL: trust anchors of the system, the proxy of the environment. */
typedef struct md_route_t {
    const char *ca_file;       /* trust anchors */
    const char *proxy_url;
    const char *proxy_ca_file; /* trust anchors for a proxy by https: */
} md_route_t;

typedef struct md_request_t {
    const char *method;       /* GET, HEAD or POST */
    const char *url;
    const char *content_type; /* of `body`, or NULL */
    const char *accept;       /* Accept header, or NULL */
    const char *body;         /* POST */
    apr_size_t body_len;      /* of it; 0: it is text, up to its NUL */
    const char *url_from;     /* what an administrator can check if the host is not to be had;
                                 NULL: MDCertificateAuthority */
    apr_size_t max_body;      /* of the reply, bytes */
    md_route_t route;
    apr_interval_time_t limit; /* for all of it, 0: two minutes */
    const char *address;      /* go there, whatever address the host has, by a connection of its own
                               * and without a proxy; NULL: as usual */
    int any_cert;             /* certificates are not checked, as a CA does where it is redirected
                               * by http-01 */
} md_request_t;

typedef struct md_response_t {
    int status;
    apr_table_t *headers;     /* of the final reply only; repeated ones added in order */
    const char *body;         /* NUL-terminated behind `len` bytes; never NULL */
    apr_size_t len;
} md_response_t;

/* Once per process, before threads: libcurl's global state. */
apr_status_t md_http_init(void);

/* A client; its connections are closed with `p`. */
MD_MUST_CHECK
apr_status_t md_http_create(md_http_t **phttp, const char *user_agent, md_err_t *err,
                            apr_pool_t *p);

/* Send and wait for the reply, which lives in `p`. Any HTTP status of the server is success. Errors
 * concern the server as a whole, or this request alone if the connection was cut: APR_ECONNREFUSED
 * when a host cannot be resolved or reached, APR_TIMEUP, APR_EINVAL for the URL, APR_EACCES when a
 * proxy refuses, APR_EINTR after md_http_stop, EMFILE or ENFILE without descriptors, else
 * APR_EGENERAL (certificate not trusted, body above the maximum). Their text tells what can be done
 * about it, but neither the URL nor credentials of a proxy. */
MD_MUST_CHECK
apr_status_t md_http_exchange(md_response_t **presponse, md_http_t *http,
                              const md_request_t *request, md_err_t *err, apr_pool_t *p);

/* No more exchanges: further ones fail at once. Those in progress have a second to be done, as what
 * the CA makes for us would be lost otherwise, and fail within another one. Any thread. */
void md_http_stop(md_http_t *http);

int md_http_is_stopped(const md_http_t *http);

/* Close idle connections. */
void md_http_idle(md_http_t *http);

#endif
