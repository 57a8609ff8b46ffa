/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted CA of the unit tests. Thread-safe, as engine tests use several threads. */
#include "fake_http.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#define MAX_ANSWERS  200
#define MAX_REQUESTS 100000

struct md_http_t {
    int stopped;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stopped = PTHREAD_COND_INITIALIZER;
static fake_answer_t script[MAX_ANSWERS];
static int script_len;
static struct { char *url, *body; } made[MAX_REQUESTS];
static int made_count;
static int fail_at;
static apr_status_t fail_rv;
static struct { const char *url; void (*happens)(void); } meanwhile;
static int (*serve)(fake_answer_t *answer, const md_request_t *request, apr_pool_t *p);
static const char *held;

void fake_http_reset(apr_pool_t *p)
{
    (void)p;
    while (made_count > 0) {
        --made_count;
        free(made[made_count].url);
        free(made[made_count].body);
    }
    script_len = 0;
    fail_at = 0;
    meanwhile.url = NULL;
    serve = NULL;
    held = NULL;
}

void fake_http_answer(fake_answer_t answer)
{
    if (answer.times == 0)
        answer.times = 1;
    if (script_len < MAX_ANSWERS)
        script[script_len++] = answer;
}

void fake_http_script(const fake_answer_t *answers)
{
    for (; answers->url; ++answers)
        fake_http_answer(*answers);
}

void fake_http_fail_at(int n, apr_status_t rv)
{
    fail_at = n;
    fail_rv = rv;
}

void fake_http_meanwhile(const char *url_suffix, void (*happens)(void))
{
    meanwhile.url = url_suffix;
    meanwhile.happens = happens;
}

void fake_http_serve(int (*function)(fake_answer_t *answer, const md_request_t *request,
                                     apr_pool_t *p))
{
    serve = function;
}

void fake_http_hold(const char *url_prefix)
{
    held = url_prefix;
}

static int ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);

    return n >= m && !strcmp(text + n - m, suffix);
}

int fake_http_count(const char *suffix)
{
    int i, count = 0;

    pthread_mutex_lock(&mutex);
    for (i = 0; i < made_count; ++i)
        count += ends_with(made[i].url, suffix);
    pthread_mutex_unlock(&mutex);
    return count;
}

int fake_http_count_prefix(const char *prefix)
{
    int i, count = 0;

    pthread_mutex_lock(&mutex);
    for (i = 0; i < made_count; ++i)
        count += !strncmp(made[i].url, prefix, strlen(prefix));
    pthread_mutex_unlock(&mutex);
    return count;
}

const char *fake_http_body(const char *suffix, int n)
{
    int i;

    for (i = 0; i < made_count; ++i)
        if (ends_with(made[i].url, suffix) && --n == 0)
            return made[i].body;
    return NULL;
}

apr_status_t md_http_init(void)
{
    return APR_SUCCESS;
}

apr_status_t md_http_create(md_http_t **phttp, const char *user_agent, md_err_t *err,
                            apr_pool_t *p)
{
    (void)user_agent;
    (void)err;
    *phttp = apr_pcalloc(p, sizeof(**phttp));
    return APR_SUCCESS;
}

void md_http_stop(md_http_t *http)
{
    pthread_mutex_lock(&mutex);
    __atomic_store_n(&http->stopped, 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&stopped);
    pthread_mutex_unlock(&mutex);
}

int md_http_is_stopped(const md_http_t *http)
{
    return __atomic_load_n(&http->stopped, __ATOMIC_RELAXED);
}

void md_http_idle(md_http_t *http)
{
    (void)http;
}

static fake_answer_t *find(const md_request_t *request)
{
    int i;

    for (i = 0; i < script_len; ++i)
        if (script[i].times != 0 && ends_with(request->url, script[i].url)
            && (!script[i].method || !strcmp(script[i].method, request->method)))
            return &script[i];
    return NULL;
}

static void add_headers(apr_table_t *headers, const char *lines, apr_pool_t *p)
{
    char *copy = apr_pstrdup(p, lines), *last, *line, *colon;

    for (line = apr_strtok(copy, "\n", &last); line; line = apr_strtok(NULL, "\n", &last)) {
        colon = strchr(line, ':');
        *colon = '\0';
        apr_table_set(headers, line, colon[1] ? colon + 2 : "");
    }
}

static md_response_t *respond(const fake_answer_t *answer, apr_pool_t *p)
{
    md_response_t *response = apr_pcalloc(p, sizeof(*response));
    const char *length;
    static int nonce;

    response->status = answer->status;
    response->headers = apr_table_make(p, 5);
    apr_table_setn(response->headers, "Replay-Nonce", apr_psprintf(p, "nonce%d", ++nonce));
    if (answer->type)
        apr_table_setn(response->headers, "Content-Type", answer->type);
    if (answer->headers)
        add_headers(response->headers, answer->headers, p); /* may be another nonce */
    response->body = answer->body ? answer->body : "";
    length = apr_table_get(response->headers, "Content-Length");
    response->len = length ? strtoul(length, NULL, 10) : strlen(response->body);
    return response;
}

/* Called locked. */
static void note(const md_request_t *request)
{
    if (made_count == MAX_REQUESTS)
        abort();
    made[made_count].url = strdup(request->url);
    made[made_count++].body = request->body ? strdup(request->body) : NULL;
}

/* Called locked. */
static apr_status_t answer_request(md_response_t **presponse, const md_request_t *request,
                                   md_err_t *err, apr_pool_t *p)
{
    fake_answer_t served = { .times = 1 }, *answer;

    answer = serve && serve(&served, request, p) ? &served : find(request);
    if (meanwhile.url && ends_with(request->url, meanwhile.url))
        meanwhile.happens();
    if (answer && answer->times > 0)
        --answer->times;
    if (fail_at > 0 && --fail_at == 0)
        return md_fail(err, fail_rv, "made to fail");
    if (!answer)
        return md_fail(err, APR_ECONNREFUSED, "not in the script");
    if (answer->status == 0) {
        md_fail(err, answer->rv, "scripted failure");
        return md_err_blame(err, MD_SCOPE_CA, 0);
    }
    *presponse = respond(answer, p);
    if ((*presponse)->len > request->max_body)
        return md_fail(err, APR_EGENERAL, "response too large");
    return APR_SUCCESS;
}

apr_status_t md_http_exchange(md_response_t **presponse, md_http_t *http,
                              const md_request_t *request, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    pthread_mutex_lock(&mutex);
    if (!__atomic_load_n(&http->stopped, __ATOMIC_RELAXED))
        note(request);
    while (held && !strncmp(request->url, held, strlen(held))
           && !__atomic_load_n(&http->stopped, __ATOMIC_RELAXED))
        pthread_cond_wait(&stopped, &mutex);
    if (__atomic_load_n(&http->stopped, __ATOMIC_RELAXED))
        rv = md_fail(err, APR_EINTR, "stopped");
    else
        rv = answer_request(presponse, request, err, p);
    pthread_mutex_unlock(&mutex);
    return rv;
}
