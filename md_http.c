/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP by libcurl: a free list of easy handles, each keeping its connections alive. */
#include "md_http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <curl/curl.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define CONNECT_TIMEOUT 30L /* seconds */
#define TOTAL_TIMEOUT   120L
#define STALL_TIMEOUT   30  /* seconds without a byte in the middle of an answer */
#define IDLE_HANDLES    64
#define DESCRIPTORS     4   /* that a transfer may need */

struct md_http_t {
    const char *user_agent;
    apr_thread_mutex_t *mutex; /* guards idle, idle_count */
    CURL *idle[IDLE_HANDLES];
    int idle_count;
    apr_time_t end_at;         /* by the steady clock; 0: not stopped; atomic */
};

/* A buffer that cannot exist without a maximum. */
typedef struct body_t {
    char *data;
    apr_size_t len, size, max;
} body_t;

/* What the callbacks of one exchange see. */
typedef struct exchange_t {
    md_http_t *http;
    md_response_t *response;
    body_t body;
    apr_size_t header_bytes;
    int is_answered;      /* the final answer has begun */
    int is_stuck;         /* and not gone on */
    apr_size_t seen;      /* bytes of it */
    apr_time_t seen_at;   /* steady */
    apr_pool_t *p;
} exchange_t;

apr_status_t md_http_init(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? APR_SUCCESS : APR_EGENERAL;
}

static apr_status_t http_cleanup(void *data)
{
    md_http_idle(data);
    return APR_SUCCESS;
}

apr_status_t md_http_create(md_http_t **phttp, const char *user_agent, md_err_t *err,
                            apr_pool_t *p)
{
    md_http_t *http = apr_pcalloc(p, sizeof(*http));
    apr_status_t rv;

    http->user_agent = apr_pstrdup(p, user_agent);
    rv = apr_thread_mutex_create(&http->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    if (rv != APR_SUCCESS)
        return md_fail_system(err, rv, "cannot create a mutex for HTTP");
    apr_pool_pre_cleanup_register(p, http, http_cleanup);
    *phttp = http;
    return APR_SUCCESS;
}

static CURL *handle_take(md_http_t *http)
{
    CURL *curl = NULL;

    apr_thread_mutex_lock(http->mutex);
    if (http->idle_count > 0)
        curl = http->idle[--http->idle_count];
    apr_thread_mutex_unlock(http->mutex);
    if (!curl)
        return curl_easy_init();
    curl_easy_reset(curl); /* options only: connections and sessions stay */
    return curl;
}

static void handle_give_back(md_http_t *http, CURL *curl)
{
    apr_thread_mutex_lock(http->mutex);
    if (http->idle_count < IDLE_HANDLES) {
        http->idle[http->idle_count++] = curl;
        curl = NULL;
    }
    apr_thread_mutex_unlock(http->mutex);
    curl_easy_cleanup(curl);
}

void md_http_idle(md_http_t *http)
{
    apr_thread_mutex_lock(http->mutex);
    while (http->idle_count > 0)
        curl_easy_cleanup(http->idle[--http->idle_count]);
    apr_thread_mutex_unlock(http->mutex);
}

void md_http_stop(md_http_t *http)
{
    __atomic_store_n(&http->end_at, md_clock_steady() + MD_MAX_LAST_WORK, __ATOMIC_RELAXED);
}

int md_http_is_stopped(const md_http_t *http)
{
    return __atomic_load_n(&http->end_at, __ATOMIC_RELAXED) != 0;
}

static int has_to_end(md_http_t *http)
{
    apr_time_t end = __atomic_load_n(&http->end_at, __ATOMIC_RELAXED);

    return end && md_clock_steady() >= end;
}

/* Refusing a byte makes curl fail with CURLE_WRITE_ERROR. */
static size_t on_body(char *data, size_t size, size_t nmemb, void *baton)
{
    exchange_t *x = baton;
    body_t *body = &x->body;
    size_t len = size * nmemb;

    if (len == 0 || len > body->max - body->len) /* an empty body may be handed over, too */
        return 0;
    if (body->len + len > body->size) {
        size_t grown = body->size * 2 > body->len + len ? body->size * 2 : body->len + len;
        char *bigger = realloc(body->data, grown + 1);

        if (!bigger)
            return 0;
        body->data = bigger;
        body->size = grown;
    }
    memcpy(body->data + body->len, data, len);
    body->len += len;
    return len;
}

/* Only the last block of headers counts: those of interim responses (RFC 9110 15.2) come before it
 * and begin with a status line, too. */
static size_t on_header(char *data, size_t size, size_t nmemb, void *baton)
{
    exchange_t *x = baton;
    size_t len = size * nmemb, end = len, i;
    char *line, *colon;

    x->header_bytes += len;
    if (x->header_bytes > MD_MAX_HEADERS)
        return 0;
    while (end > 0 && strchr("\r\n \t", data[end - 1])) /* RFC 9110 5.5 */
        --end;
    line = apr_pstrmemdup(x->p, data, end); /* as libcurl promises no NUL behind it */
    for (i = 0; i < end; ++i) /* RFC 9110 5.5, too: what a value never has */
        if (line[i] == '\r' || line[i] == '\0')
            line[i] = ' ';
    if (!strncmp(line, "HTTP/", 5)) {
        apr_table_clear(x->response->headers);
        x->is_answered = strncmp(line + strcspn(line, " "), " 1", 2) != 0;
        return len;
    }
    colon = strchr(line, ':');
    if (colon) {
        *colon++ = '\0';
        apr_table_add(x->response->headers, line, colon + strspn(colon, " \t"));
    }
    return len;
}

/* A CA that thinks for long has its time; an answer that stops in the middle has not. */
static int is_stuck(exchange_t *x)
{
    apr_size_t seen = x->header_bytes + x->body.len;
    apr_time_t now = md_clock_steady();

    if (!x->is_answered || seen != x->seen) {
        x->seen = seen;
        x->seen_at = now;
    }
    x->is_stuck = now - x->seen_at > apr_time_from_sec(STALL_TIMEOUT);
    return x->is_stuck;
}

static int on_progress(void *baton, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    exchange_t *x = baton;

    (void)dltotal;
    (void)dlnow;
    (void)ultotal;
    (void)ulnow;
    return has_to_end(x->http) || is_stuck(x);
}

static apr_status_t status_of(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_NOT_BUILT_IN:
        return APR_ENOTIMPL;
    case CURLE_URL_MALFORMAT:
        return APR_EINVAL;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return APR_ECONNREFUSED;
    case CURLE_REMOTE_ACCESS_DENIED:
        return APR_EACCES;
    case CURLE_OUT_OF_MEMORY:
        return APR_ENOMEM;
    case CURLE_OPERATION_TIMEDOUT:
        return APR_TIMEUP;
    case CURLE_SSL_CONNECT_ERROR:
        return APR_ECONNABORTED;
    case CURLE_AGAIN:
        return APR_EAGAIN;
    case CURLE_ABORTED_BY_CALLBACK:
        return APR_EINTR;
    default:
        return APR_EGENERAL;
    }
}

/* Did the connection end before the reply did? */
static int was_cut(CURLcode code)
{
    return code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR
           || code == CURLE_PARTIAL_FILE;
}

static struct curl_slist *headers_of(const md_request_t *request, apr_pool_t *p)
{
    struct curl_slist *list = curl_slist_append(NULL, "Accept-Language: en");

    if (request->content_type)
        list = curl_slist_append(list, apr_pstrcat(p, "Content-Type: ", request->content_type,
                                                   NULL));
    if (request->accept)
        list = curl_slist_append(list, apr_pstrcat(p, "Accept: ", request->accept, NULL));
    return curl_slist_append(list, "Expect:"); /* a POST need not wait for 100-continue */
}

/* Trust anchors of ours are the only ones: libcurl has a directory of the system's built in. */
static void set_route(CURL *curl, const md_route_t *route)
{
    if (route->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, route->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    if (route->proxy_url)
        curl_easy_setopt(curl, CURLOPT_PROXY, route->proxy_url);
    if (route->proxy_ca_file) {
        curl_easy_setopt(curl, CURLOPT_PROXY_CAINFO, route->proxy_ca_file);
        curl_easy_setopt(curl, CURLOPT_PROXY_CAPATH, NULL);
    }
}

/* For who wants to know what is at an address: connections there are nobody else's. */
static struct curl_slist *set_address(CURL *curl, const md_request_t *request, apr_pool_t *p)
{
    int is_v6 = strchr(request->address, ':') != NULL;
    struct curl_slist *list = curl_slist_append(NULL, apr_pstrcat(p, "::", is_v6 ? "[" : "",
                                                                  request->address,
                                                                  is_v6 ? "]:" : ":", NULL));

    curl_easy_setopt(curl, CURLOPT_CONNECT_TO, list);
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    return list;
}

static void set_options(CURL *curl, exchange_t *x, const md_request_t *request,
                        struct curl_slist *headers)
{
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, x->http->user_agent);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, TOTAL_TIMEOUT);
    if (request->limit)
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)apr_time_as_msec(request->limit));
    if (request->any_cert) {
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    /* A name server that does not answer keeps libcurl's thread for that in getaddrinfo(). Nobody
     * waits for it: it ends by itself, or with the process. */
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
#endif
    curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    set_route(curl, &request->route);
    if (!strcmp(request->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (request->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(request->body_len ? request->body_len
                                                        : strlen(request->body)));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    }
}

/* What an administrator can do about it. */
static const char *cure_of(CURLcode code, const md_request_t *request, apr_pool_t *p)
{
    const char *from = request->url_from ? request->url_from : "MDCertificateAuthority";

    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
        return ". Check MDHttpProxy and the DNS settings of this server";
    case CURLE_COULDNT_RESOLVE_HOST:
        return apr_pstrcat(p, ". Check ", from, " and the DNS settings of this server", NULL);
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
        return ". Check that no firewall blocks this server, or set MDHttpProxy";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
        return apr_pstrcat(p, ". Check the scheme and the port in ", from, NULL);
    case CURLE_PEER_FAILED_VERIFICATION:
        return ". If the CA is a private one, MDCACertificateFile must name a file with its root "
               "certificate (for a proxy: MDHttpProxyCACertificateFile)";
    case CURLE_SSL_CACERT_BADFILE:
        return ". MDCACertificateFile and MDHttpProxyCACertificateFile must name files of "
               "certificates in PEM format";
    default:
        return "";
    }
}

/* In curl's words, which leave out what the system said. */
static apr_status_t fail_by_curl(CURL *curl, CURLcode code, const md_request_t *request,
                                 const char *reason, md_err_t *err, apr_pool_t *p)
{
    const char *what = *reason && !strchr(reason, '@') /* nor the credentials of a proxy */
                           ? reason : curl_easy_strerror(code), *said = "";
    long error = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &error);
    if (code == CURLE_COULDNT_CONNECT && error != 0)
        said = apr_psprintf(p, " (%s)", md_err_text((apr_status_t)error, p));
    md_fail(err, status_of(code), "%s%s%s", what, said,
            cure_of(code, request, p));
    return md_err_blame(err, was_cut(code) ? MD_SCOPE_REQUEST
                             : code == CURLE_OUT_OF_MEMORY ? MD_SCOPE_SELF : MD_SCOPE_CA, 0);
}

/* What the proxy answers when it is asked to connect (RFC 9110 9.3.6), or in place of the server
 * (407); 0: it has no part in it. */
static int refusal_of_proxy(CURL *curl)
{
    long status = 0, connect = 0;

    curl_easy_getinfo(curl, CURLINFO_HTTP_CONNECTCODE, &connect);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (connect / 100 > 2)
        return (int)connect;
    return status == 407 ? 407 : 0;
}

static apr_status_t fail_by_proxy(int status, md_err_t *err)
{
    md_fail(err, APR_EACCES, "the proxy answers with HTTP status %d%s", status, status == 407
            ? ", as it wants a user and a password, or others. Check those in MDHttpProxy "
              "(http://user:password@host:port, with special characters percent-encoded)"
            : ". Check MDHttpProxy, and whether the proxy permits connections to that host and "
              "port");
    return md_err_blame(err, MD_SCOPE_CA, 0);
}

/* What opening so many files at the same time comes to. */
static apr_status_t try_descriptors(int count)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    apr_status_t rv = fd < 0 ? errno : APR_SUCCESS;

    if (rv == APR_SUCCESS && count > 1)
        rv = try_descriptors(count - 1);
    if (fd >= 0)
        close(fd);
    return rv;
}

/* Without a descriptor no host can be found or reached, and no file with roots be read: that is not
 * the CA's fault. What the transfer had is free again. */
static apr_status_t lack_of_descriptors(CURLcode code)
{
    apr_status_t rv;

    if (code != CURLE_COULDNT_RESOLVE_HOST && code != CURLE_COULDNT_RESOLVE_PROXY
        && code != CURLE_COULDNT_CONNECT && code != CURLE_SSL_CACERT_BADFILE
        && code != CURLE_FAILED_INIT && code != CURLE_OUT_OF_MEMORY)
        return APR_SUCCESS;
    rv = try_descriptors(DESCRIPTORS);
    return rv == EMFILE || rv == ENFILE ? rv : APR_SUCCESS;
}

/* What a failed transfer comes to. */
static apr_status_t explain(CURL *curl, const exchange_t *x, const md_request_t *request,
                            CURLcode code, const char *reason, md_err_t *err)
{
    apr_status_t rv = lack_of_descriptors(code);

    if (rv != APR_SUCCESS) {
        md_fail(err, rv, "no file descriptor is left for a connection: raise the limit on open "
                "files of this server");
        return md_err_blame(err, MD_SCOPE_SELF, 0);
    }
    if (code == CURLE_ABORTED_BY_CALLBACK && x->is_stuck) {
        md_fail(err, APR_TIMEUP, "the response stalled for %d seconds", STALL_TIMEOUT);
        return md_err_blame(err, MD_SCOPE_CA, 0);
    }
    if (code == CURLE_WRITE_ERROR && x->header_bytes > MD_MAX_HEADERS)
        return md_fail(err, APR_EGENERAL, "the headers of the response are larger than %d bytes",
                       MD_MAX_HEADERS);
    if (code == CURLE_WRITE_ERROR)
        return md_fail(err, APR_EGENERAL, "the response is larger than %lu bytes",
                       (unsigned long)request->max_body);
    return fail_by_curl(curl, code, request, reason, err, x->p);
}

static apr_status_t perform(CURL *curl, exchange_t *x, const md_request_t *request,
                            md_err_t *err)
{
    char reason[CURL_ERROR_SIZE] = "";
    CURLcode code;
    long status = 0;

    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    code = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    if (refusal_of_proxy(curl))
        return fail_by_proxy(refusal_of_proxy(curl), err);
    if (code != CURLE_OK)
        return explain(curl, x, request, code, reason, err);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    x->response->status = (int)status;
    x->response->len = x->body.len;
    x->response->body = x->body.len ? apr_pstrmemdup(x->p, x->body.data, x->body.len) : "";
    return APR_SUCCESS;
}

apr_status_t md_http_exchange(md_response_t **presponse, md_http_t *http,
                              const md_request_t *request, md_err_t *err, apr_pool_t *p)
{
    exchange_t x = { .http = http, .p = p };
    struct curl_slist *headers, *address = NULL;
    apr_status_t rv;
    CURL *curl;

    *presponse = NULL;
    if (md_http_is_stopped(http))
        return md_fail(err, APR_EINTR, "no request was sent, as the server is stopping");
    curl = handle_take(http);
    if (!curl)
        return md_fail(err, APR_ENOMEM, "no memory for a request");
    x.response = apr_pcalloc(p, sizeof(*x.response));
    x.response->headers = apr_table_make(p, 10);
    x.body.max = request->max_body;
    headers = headers_of(request, p);
    set_options(curl, &x, request, headers);
    if (request->address)
        address = set_address(curl, request, p);
    rv = perform(curl, &x, request, err);
    free(x.body.data);
    curl_slist_free_all(headers);
    curl_easy_setopt(curl, CURLOPT_CONNECT_TO, NULL);
    curl_slist_free_all(address);
    handle_give_back(http, curl);
    if (rv != APR_SUCCESS)
        return rv;
    md_log(MD_LOG_TRACE3, "%s %s: %d", request->method, request->url,
           x.response->status);
    *presponse = x.response;
    return APR_SUCCESS;
}
