/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation with a CA: directory, nonces, signed requests, problem documents. */
#include "md_acme.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "md_clock.h"
#include "md_jws.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"
#include "md_time.h"

#define NONCE_LEN         256
#define SHORT_TEXT        500 /* bytes of an answer that is quoted whole */
#define PACE_FIRST        apr_time_from_sec(1)
#define PACE_MOST         apr_time_from_sec(300)
#define DIRECTORY_RESPITE apr_time_from_sec(5) /* one failure serves all runs for that long */

typedef struct nonce_t {
    char text[NONCE_LEN];
    apr_time_t since;
} nonce_t;

struct md_acme_t {
    md_http_t *http;
    const char *url;
    md_route_t route;
    apr_pool_t *p;
    md_meter_t *meter;               /* or NULL */
    apr_thread_mutex_t *mutex;       /* guards all below */
    md_directory_t *dir;             /* kept when forgotten: requests may still use it */
    int dir_is_known;
    apr_time_t dir_failed_until;
    md_err_t dir_err;
    nonce_t nonces[MD_MAX_NONCES];   /* the last is the newest */
    int nonce_count;
    int is_asked;                    /* for more than its directory: somebody needed a nonce */
    apr_time_t hold_until;
    apr_interval_time_t pace;        /* of a busy CA that tells no time, 0: it is not */
};

md_acme_t *md_acme_create(md_http_t *http, const char *url, const md_route_t *route,
                          md_meter_t *meter, apr_pool_t *p)
{
    md_acme_t *acme = apr_pcalloc(p, sizeof(*acme));
    apr_pool_t *err_pool;

    acme->p = p;
    acme->http = http;
    acme->meter = meter;
    acme->url = apr_pstrdup(p, url);
    acme->route.ca_file = apr_pstrdup(p, route->ca_file);
    acme->route.proxy_url = apr_pstrdup(p, route->proxy_url);
    acme->route.proxy_ca_file = apr_pstrdup(p, route->proxy_ca_file);
    apr_pool_create(&err_pool, p);
    md_err_init(&acme->dir_err, err_pool);
    if (apr_thread_mutex_create(&acme->mutex, APR_THREAD_MUTEX_DEFAULT, p) != APR_SUCCESS)
        return NULL;
    return acme;
}

const char *md_acme_url(const md_acme_t *acme)
{
    return acme->url;
}

int md_acme_is(const md_acme_t *acme, const char *url, const md_route_t *route)
{
    return md_text_same(acme->url, url) && md_text_same(acme->route.ca_file, route->ca_file)
           && md_text_same(acme->route.proxy_url, route->proxy_url)
           && md_text_same(acme->route.proxy_ca_file, route->proxy_ca_file);
}

static void lock(md_acme_t *acme)
{
    apr_thread_mutex_lock(acme->mutex);
}

static void unlock(md_acme_t *acme)
{
    apr_thread_mutex_unlock(acme->mutex);
}

apr_time_t md_acme_hold_until(md_acme_t *acme, apr_time_t now)
{
    apr_time_t until;

    lock(acme);
    if (acme->hold_until <= now || acme->hold_until > now + 2 * MD_MAX_RETRY_AFTER)
        acme->hold_until = 0;
    until = acme->hold_until;
    unlock(acme);
    return until;
}

/* ---- replies ---- */

static const char *media_type_of(const md_response_t *response, apr_pool_t *p)
{
    const char *value = apr_table_get(response->headers, "Content-Type");
    char *type, *c;

    if (!value)
        return "";
    type = apr_pstrmemdup(p, value, strcspn(value, " ;"));
    for (c = type; *c; ++c)
        *c = (char)tolower((unsigned char)*c);
    return type;
}

/* Whatever its media type says: many get that wrong. */
static int looks_like_json(const md_response_t *response)
{
    const char *body = response->body;

    body += strspn(body, " \t\r\n");
    return *body == '{' || *body == '[';
}

static md_reply_t *reply_of(const md_response_t *response, const char *url, apr_pool_t *p)
{
    md_reply_t *reply = apr_pcalloc(p, sizeof(*reply));

    reply->url = url;
    reply->status = response->status;
    reply->headers = response->headers;
    reply->location = md_uri_resolve(url, apr_table_get(response->headers, "Location"), p);
    reply->media_type = media_type_of(response, p);
    reply->retry_after = md_time_retry_after(apr_table_get(response->headers, "Retry-After"),
                                             md_clock_now());
    reply->body = response->body;
    reply->len = response->len;
    if (looks_like_json(response)
        && md_json_parse(&reply->json, response->body, response->len, NULL, p) != APR_SUCCESS)
        reply->json = NULL;
    return reply;
}

/* What goes through the links of a reply, one header field at a time. */
typedef struct links_t {
    apr_array_header_t *targets;
    const char *rel;
    apr_pool_t *p;
} links_t;

static int collect_links(void *baton, const char *name, const char *value)
{
    links_t *links = baton;

    (void)name;
    md_link_targets(links->targets, value, links->rel, MD_MAX_ALTERNATES, links->p);
    return 1;
}

apr_array_header_t *md_reply_links(const md_reply_t *reply, const char *rel, apr_pool_t *p)
{
    links_t links = { md_strings_make(p), rel, p };
    apr_array_header_t *urls = md_strings_make(p);
    const char *url;
    int i;

    apr_table_do(collect_links, &links, reply->headers, "Link", NULL);
    for (i = 0; i < links.targets->nelts; ++i) {
        url = md_uri_resolve(reply->url, APR_ARRAY_IDX(links.targets, i, const char *), p);
        if (!md_uri_check_http(url, p))
            APR_ARRAY_PUSH(urls, const char *) = url;
    }
    return urls;
}

/* ---- problems (RFC 8555 6.7) ---- */

/* Whom each type blames, and whether another try makes sense soon. For the limits there is more to
 * be said: see md_acme_order. */
static const struct {
    const char *type; /* behind acme:error: */
    apr_status_t rv;
    md_scope_t scope;
    int is_lasting;
} PROBLEMS[] = {
    { "accountDoesNotExist", APR_ENOENT, MD_SCOPE_ACCOUNT, 0 },
    { "agreementRequired", APR_EGENERAL, MD_SCOPE_ACCOUNT, 1 },
    { "alreadyReplaced", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "alreadyRevoked", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "badCSR", APR_EINVAL, MD_SCOPE_DOMAIN, 1 },
    { "badNonce", APR_EAGAIN, MD_SCOPE_REQUEST, 0 },
    { "badPublicKey", APR_EINVAL, MD_SCOPE_DOMAIN, 1 },
    { "badRevocationReason", APR_EINVAL, MD_SCOPE_DOMAIN, 1 },
    { "badSignatureAlgorithm", APR_EINVAL, MD_SCOPE_ACCOUNT, 1 },
    { "caa", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "compound", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "connection", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "dns", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "externalAccountRequired", APR_EINVAL, MD_SCOPE_ACCOUNT, 1 },
    { "incorrectResponse", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "invalidContact", APR_BADARG, MD_SCOPE_DOMAIN, 1 },
    { "invalidProfile", APR_EINVAL, MD_SCOPE_DOMAIN, 1 },
    { "malformed", APR_EINVAL, MD_SCOPE_DOMAIN, 1 },
    { "orderNotReady", APR_EAGAIN, MD_SCOPE_REQUEST, 0 },
    { "rateLimited", APR_BADARG, MD_SCOPE_DOMAIN, 0 },
    { "rejectedIdentifier", APR_BADARG, MD_SCOPE_DOMAIN, 1 },
    { "serverInternal", APR_EGENERAL, MD_SCOPE_REQUEST, 0 },
    { "tls", APR_EGENERAL, MD_SCOPE_DOMAIN, 0 },
    { "unauthorized", APR_EACCES, MD_SCOPE_DOMAIN, 0 },
    { "unsupportedContact", APR_EGENERAL, MD_SCOPE_DOMAIN, 1 },
    { "unsupportedIdentifier", APR_BADARG, MD_SCOPE_DOMAIN, 1 },
    { "userActionRequired", APR_EGENERAL, MD_SCOPE_ACCOUNT, 1 },
};
_Static_assert(sizeof(PROBLEMS) / sizeof(PROBLEMS[0]) == MD_PROBLEM_COUNT, "all of them");

static const char *bare_type(const char *type)
{
    if (!strncasecmp(type, "urn:ietf:params:", 16))
        return type + 16;
    return strncasecmp(type, "urn:", 4) ? type : type + 4;
}

int md_problem_is(const md_err_t *err, const char *type)
{
    return err->type && !strcasecmp(bare_type(err->type), type);
}

/* Is it a type of the namespace of ACME, in one of the spellings that it had? */
static int is_acme_type(const char *type)
{
    return type && (!strncasecmp(bare_type(type), "acme:error:", 11));
}

/* Row of the table, -1 for types that it does not know. */
static int problem_row(const char *type)
{
    size_t i;

    if (!is_acme_type(type))
        return -1;
    for (i = 0; i < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); ++i)
        if (!strcasecmp(bare_type(type) + 11, PROBLEMS[i].type))
            return (int)i;
    return -1;
}

const char *md_problem_name(int number)
{
    return PROBLEMS[number].type;
}

int md_problem_number(const md_err_t *err)
{
    return problem_row(err->type);
}

static apr_status_t status_of_http(int status)
{
    switch (status) {
    case 400:
        return APR_EINVAL;
    case 401:
    case 403:
        return APR_EACCES;
    case 404:
    case 410:
        return APR_ENOENT;
    default:
        return APR_EGENERAL;
    }
}

/* Whom an answer blames that is no problem document: what stands in front of the CA sends limits
 * and breakdowns for all alike. */
static md_scope_t scope_of_http(int status)
{
    if (status == 429 || status == 503)
        return MD_SCOPE_CA;
    return status / 100 == 5 || status == 404 ? MD_SCOPE_REQUEST : MD_SCOPE_DOMAIN;
}

static const char *without_space(const char *text, apr_pool_t *p)
{
    char *copy = apr_pstrdup(p, md_text_printable(text, p)), *to = copy;
    const char *from;

    for (from = copy; *from; ++from)
        if (*from != ' ')
            *to++ = *from;
    *to = '\0';
    return copy;
}

/* Of each sub-problem what we know how to read (RFC 8555 6.7.1), as much as can be read back. */
static const char *subproblems_of(const md_json_t *problem, apr_pool_t *p)
{
    static const char *const MEMBERS[] = { "type", "detail", "identifier.type",
                                           "identifier.value" };
    md_json_t *list = md_json_get(problem, "subproblems", p), *kept = md_json_array(p), *one;
    apr_size_t i, k;

    if (!md_json_is_array(list))
        return NULL;
    for (i = 0; i < md_json_size(list) && i < MD_MAX_SUBPROBLEMS; ++i) {
        one = md_json_object(p);
        for (k = 0; k < sizeof(MEMBERS) / sizeof(MEMBERS[0]); ++k)
            md_json_set_str(one, MEMBERS[k],
                            md_text_clean(md_json_get_str(md_json_at(list, i, p), MEMBERS[k]),
                                          MD_MAX_TEXT, p));
        if (md_json_size(one) > 0)
            md_json_append(kept, one);
    }
    while (strlen(md_json_text(kept, 1, p)) > MD_MAX_SUBPROBLEM_TEXT)
        md_json_truncate(kept, md_json_size(kept) / 2);
    return md_json_size(kept) > 0 ? md_json_text(kept, 1, p) : NULL;
}

/* The reason that a JSON answer gives, whatever it is called there. */
static const char *reason_of(const md_json_t *json)
{
    static const char *const MEMBERS[] = { "detail", "title", "message" };
    const char *text = NULL;
    size_t i;

    for (i = 0; !text && i < sizeof(MEMBERS) / sizeof(MEMBERS[0]); ++i)
        text = md_json_get_str(json, MEMBERS[i]);
    return text;
}

apr_status_t md_problem_fail(md_err_t *err, const md_json_t *problem, const char *prefix)
{
    const char *type = md_json_get_str(problem, "type"), *reason = reason_of(problem);
    int row = problem_row(type);
    apr_status_t rv = row >= 0 ? PROBLEMS[row].rv : APR_EGENERAL;

    md_fail_problem(err, rv, type ? without_space(type, err->p) : NULL, "%s%s", prefix,
                    reason ? reason : "the CA gives no reason");
    md_err_set_subproblems(err, subproblems_of(problem, err->p));
    if (row >= 0)
        md_err_blame(err, PROBLEMS[row].scope, PROBLEMS[row].is_lasting);
    return rv;
}

const char *md_problem_parts(const md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *parts = md_strings_make(p);
    const char *name, *detail;
    md_json_t *list, *one;
    apr_size_t i;

    if (!err->subproblems || md_json_parse(&list, err->subproblems, strlen(err->subproblems), NULL,
                                           p) != APR_SUCCESS)
        return "";
    for (i = 0; i < md_json_size(list); ++i) {
        one = md_json_at(list, i, p);
        name = md_json_get_str(one, "identifier.value");
        detail = md_json_get_str(one, "detail");
        if (detail)
            APR_ARRAY_PUSH(parts, const char *) = apr_pstrcat(p, name ? name : "", name ? ": " : "",
                                                              detail, "; ", NULL);
    }
    name = apr_array_pstrcat(p, parts, 0);
    return *name ? apr_psprintf(p, " (%.*s)", (int)strlen(name) - 2, name) : "";
}

static int is_problem(const md_reply_t *reply)
{
    const char *type = md_json_get_str(reply->json, "type");

    return is_acme_type(type) || (type && !strcmp(reply->media_type, "application/problem+json"));
}

/* What an answer says that is no problem document: a JSON member, or a short text. */
static const char *words_of(const md_reply_t *reply, apr_pool_t *p)
{
    const char *text = reason_of(reply->json);
    apr_size_t len;

    if (!text && !reply->json && reply->len <= SHORT_TEXT
        && !strcmp(reply->media_type, "text/plain"))
        text = reply->body;
    len = text ? strlen(text) : 0;
    while (len > 0 && (apr_isspace(text[len - 1]) || text[len - 1] == '.'))
        --len; /* we go on with another sentence */
    return len > 0 ? apr_pstrcat(p, ": ", apr_pstrmemdup(p, text, len), NULL) : "";
}

/* The CA is busy: ask it for nothing until the time it tells, or ever slower. What it says to many
 * that asked at the same time counts once. */
static void slow_down(md_acme_t *acme, apr_time_t retry_after)
{
    apr_time_t now = md_clock_now(), until;
    int is_new;

    lock(acme);
    is_new = acme->hold_until <= now;
    if (is_new)
        acme->pace = acme->pace ? acme->pace * 2 : PACE_FIRST;
    if (acme->pace > PACE_MOST)
        acme->pace = PACE_MOST;
    until = retry_after > now ? retry_after : now + acme->pace;
    if (until > acme->hold_until)
        acme->hold_until = until;
    md_meter_hold(acme->meter, MD_HOLD_REQUESTS, acme->hold_until, is_new);
    unlock(acme);
}

/* It is not busy any more. */
static void keep_pace(md_acme_t *acme)
{
    lock(acme);
    acme->pace = 0;
    unlock(acme);
}

/* Nonces grow old, and "no" is an answer when the CA is asked whether it has an account for a key
 * (7.3.1): that is all that can be meant by it there. */
static int is_no_surprise(const md_err_t *err, int is_of_new_account)
{
    return md_problem_is(err, MD_PROBLEM_BAD_NONCE)
           || (is_of_new_account && md_problem_is(err, MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST));
}

/* People have to do something before the CA goes on, such as agree to new terms of service (7.3.3):
 * it tells where. */
static void add_user_action(const md_reply_t *reply, md_err_t *err)
{
    const apr_array_header_t *links = md_reply_links(reply, "terms-of-service", err->p);
    const char *terms = links->nelts > 0 ? APR_ARRAY_IDX(links, 0, const char *) : NULL;
    const char *instance = md_acme_url_member(reply->json, "instance", reply->url, err->p);

    if (!md_problem_is(err, MD_PROBLEM_USER_ACTION_REQUIRED) || (!terms && !instance))
        return;
    err->detail = apr_pstrcat(err->p, err->detail, " (",
                              terms ? "The CA's terms of service are at " : "", terms ? terms : "",
                              terms && instance ? " . " : "",
                              instance ? "The CA tells what you have to do at " : "",
                              instance ? instance : "",
                              " . When that is done, 'a2md renew' makes the next attempt at once)",
                              NULL);
}

/* A reply other than 2xx becomes an error. A limit is for the orders of a domain or an account
 * where new ones are asked for; anywhere else it is one for requests. A problem is told at debug
 * level if it `is_detail`. */
static apr_status_t fail_by_reply(md_acme_t *acme, const md_reply_t *reply, const char *url,
                                  int is_detail, md_err_t *err)
{
    const md_directory_t *dir = md_acme_directory(acme);
    int is_acct = dir && !strcmp(url, dir->new_account);
    int is_new = is_acct || (dir && !strcmp(url, dir->new_order));
    apr_status_t rv;

    if (is_problem(reply)) {
        rv = md_problem_fail(err, reply->json, "");
        add_user_action(reply, err);
        if (reply->status == 503 || (reply->status == 429 && !is_new))
            md_err_blame(err, MD_SCOPE_CA, 0);
        md_log(is_detail || is_no_surprise(err, is_acct) ? MD_LOG_DEBUG : MD_LOG_WARNING,
               "acme problem %s: %s", err->type, md_text_line(err->detail, MD_MAX_TEXT, err->p));
    }
    else {
        rv = md_fail(err, status_of_http(reply->status),
                     "%s: unexpected HTTP status %d without a problem document%s", url,
                     reply->status, words_of(reply, err->p));
        md_err_blame(err, scope_of_http(reply->status), 0);
    }
    err->http_status = reply->status;
    err->retry_after = reply->retry_after;
    if (err->scope == MD_SCOPE_CA)
        slow_down(acme, reply->retry_after);
    return rv;
}

/* ---- requests ---- */

/* A CA that is asked by https: is asked so for everything (RFC 8555 6.1). */
apr_status_t md_acme_check_url(const md_acme_t *acme, const char *url, md_err_t *err, apr_pool_t *p)
{
    const char *wrong = md_uri_check_http(url, p);

    if (wrong)
        return md_fail(err, APR_EINVAL, "the CA %s gives a URL that cannot be used: %s", acme->url,
                       wrong);
    if (!strncasecmp(acme->url, "https:", 6) && strncasecmp(url, "https:", 6))
        return md_fail(err, APR_EINVAL, "the CA %s gives the URL %s, which is not https: and is "
                       "not used", acme->url, url);
    return APR_SUCCESS;
}

static apr_status_t exchange(md_response_t **presponse, md_acme_t *acme,
                             const md_request_t *request, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = md_acme_check_url(acme, request->url, err, p);
    apr_time_t began = md_clock_steady();

    if (rv != APR_SUCCESS)
        return rv;
    rv = md_http_exchange(presponse, acme->http, request, err, p);
    if (!APR_STATUS_IS_EINTR(rv)) /* else we ended it */
        md_meter_request(acme->meter, rv == APR_SUCCESS ? (*presponse)->status : 0,
                         md_clock_steady() - began);
    return rv;
}

/* What goes wrong is told with the URL. */
static apr_status_t exchange_told(md_response_t **presponse, md_acme_t *acme,
                                  const md_request_t *request, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = exchange(presponse, acme, request, err, p);

    if (rv != APR_SUCCESS)
        err->detail = apr_pstrcat(err->p, request->url, ": ", err->detail, NULL);
    return rv;
}

/* ---- nonces (RFC 8555 6.5) ---- */

static void nonce_keep(md_acme_t *acme, const char *text, apr_time_t now)
{
    /* base64url only; another value is ignored (6.5.1) */
    if (!text || strlen(text) >= NONCE_LEN || !md_token_is_valid(text))
        return;
    lock(acme);
    if (acme->nonce_count == MD_MAX_NONCES) {
        memmove(acme->nonces, acme->nonces + 1, sizeof(nonce_t) * (MD_MAX_NONCES - 1));
        --acme->nonce_count;
    }
    apr_cpystrn(acme->nonces[acme->nonce_count].text, text, NONCE_LEN);
    acme->nonces[acme->nonce_count++].since = now;
    unlock(acme);
}

/* Called locked. */
static int has_fresh_nonce(const md_acme_t *acme, apr_time_t now)
{
    return acme->nonce_count > 0
           && now - acme->nonces[acme->nonce_count - 1].since <= MD_MAX_NONCE_AGE;
}

/* The newest one, which the CA remembers longest; NULL if none is fresh. */
static const char *nonce_from_pool(md_acme_t *acme, apr_time_t now, apr_pool_t *p)
{
    const char *text = NULL;

    lock(acme);
    acme->is_asked = 1;
    if (has_fresh_nonce(acme, now))
        text = apr_pstrdup(p, acme->nonces[--acme->nonce_count].text);
    else
        acme->nonce_count = 0;
    unlock(acme);
    return text;
}

static apr_status_t nonce_fetch(const char **pnonce, md_acme_t *acme, md_err_t *err,
                                apr_pool_t *p)
{
    md_request_t request = { .method = "HEAD", .route = acme->route };
    md_response_t *response;
    apr_status_t rv;

    request.url = md_acme_directory(acme)->new_nonce;
    rv = exchange_told(&response, acme, &request, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (response->status / 100 != 2)
        return fail_by_reply(acme, reply_of(response, request.url, p), request.url, 0, err);
    *pnonce = apr_table_get(response->headers, "Replay-Nonce");
    if (!*pnonce || !md_token_is_valid(*pnonce))
        return md_fail(err, APR_EGENERAL, "newNonce: no valid Replay-Nonce from %s",
                       request.url);
    return APR_SUCCESS;
}

static apr_status_t nonce_take(const char **pnonce, md_acme_t *acme, md_err_t *err,
                               apr_pool_t *p)
{
    *pnonce = nonce_from_pool(acme, md_clock_now(), p);
    return *pnonce ? APR_SUCCESS : nonce_fetch(pnonce, acme, err, p);
}

apr_status_t md_acme_have_nonce(md_acme_t *acme, md_err_t *err, apr_pool_t *p)
{
    const char *nonce;
    apr_status_t rv;
    int is_wanted;

    lock(acme);
    is_wanted = acme->is_asked && !has_fresh_nonce(acme, md_clock_now());
    unlock(acme);
    if (!is_wanted)
        return APR_SUCCESS;
    rv = nonce_fetch(&nonce, acme, err, p);
    if (rv == APR_SUCCESS)
        nonce_keep(acme, nonce, md_clock_now());
    return rv;
}

/* ---- signed requests ---- */

/* What one signed request is made of. */
typedef struct signed_t {
    const char *url;
    const char *payload;
    md_signer_t signer;
    const char *accept;
    apr_size_t max;
    int is_try;           /* there is another way */
} signed_t;

static apr_status_t send_signed(md_reply_t **preply, md_acme_t *acme, const signed_t *s,
                                md_err_t *err, apr_pool_t *p)
{
    md_request_t request = { .method = "POST", .url = s->url, .accept = s->accept,
                             .content_type = "application/jose+json", .max_body = s->max,
                             .route = acme->route };
    md_json_t *protected = md_json_object(p);
    md_response_t *response;
    const char *nonce;
    apr_status_t rv;

    rv = nonce_take(&nonce, acme, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    md_json_set_str(protected, "nonce", nonce);
    md_json_set_str(protected, "url", s->url);
    if (s->signer.kid)
        md_json_set_str(protected, "kid", s->signer.kid);
    else
        md_json_set(protected, "jwk", md_jwk_make(s->signer.key, p));
    rv = md_jws_sign(&request.body, protected, s->payload, s->signer.key, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = exchange_told(&response, acme, &request, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    nonce_keep(acme, apr_table_get(response->headers, "Replay-Nonce"), md_clock_now());
    *preply = reply_of(response, s->url, p);
    if (response->status / 100 == 2) {
        keep_pace(acme);
        return APR_SUCCESS;
    }
    return fail_by_reply(acme, *preply, s->url, s->is_try, err);
}

/* The CA may answer badNonce at any time; the retry uses the nonce of that very answer, which
 * is then the newest in the pool (6.5). What failed for no lasting reason is tried once more, too,
 * but no order is placed twice: the first may be there. */
static int is_repeatable(const md_err_t *err, const char *url, const md_directory_t *dir,
                         int turns)
{
    if (md_problem_is(err, MD_PROBLEM_BAD_NONCE))
        return turns < MD_MAX_BAD_NONCE;
    return err->scope == MD_SCOPE_REQUEST && !md_problem_is(err, MD_PROBLEM_ORDER_NOT_READY)
           && turns <= 1 && strcmp(url, dir->new_order);
}

static apr_status_t post_signed(md_reply_t **preply, md_acme_t *acme, const signed_t *s,
                                md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;
    int turns = 0;

    *preply = NULL;
    if (!md_acme_directory(acme))
        return md_fail(err, APR_EINVAL, "%s: the CA's directory has not been fetched", s->url);
    do {
        md_err_clear(err);
        rv = send_signed(preply, acme, s, err, p);
    } while (rv != APR_SUCCESS && is_repeatable(err, s->url, md_acme_directory(acme), ++turns));
    return rv;
}

apr_status_t md_acme_post(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                          const char *url, const md_json_t *payload, md_err_t *err,
                          apr_pool_t *p)
{
    signed_t s = { .url = url, .payload = md_json_text(payload, 1, p), .signer = signer,
                   .max = MD_MAX_ACME_BODY };

    return post_signed(preply, acme, &s, err, p);
}

apr_status_t md_acme_try_post(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                              const char *url, const md_json_t *payload, md_err_t *err,
                              apr_pool_t *p)
{
    signed_t s = { .url = url, .payload = md_json_text(payload, 1, p), .signer = signer,
                   .max = MD_MAX_ACME_BODY, .is_try = 1 };

    return post_signed(preply, acme, &s, err, p);
}

apr_status_t md_acme_fetch(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                           const char *url, const char *accept, apr_size_t max, md_err_t *err,
                           apr_pool_t *p)
{
    signed_t s = { .url = url, .payload = "", .signer = signer, .accept = accept, .max = max };

    return post_signed(preply, acme, &s, err, p);
}

apr_status_t md_acme_try_fetch(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                               const char *url, const char *accept, apr_size_t max, md_err_t *err,
                               apr_pool_t *p)
{
    signed_t s = { .url = url, .payload = "", .signer = signer, .accept = accept, .max = max,
                   .is_try = 1 };

    return post_signed(preply, acme, &s, err, p);
}

apr_status_t md_acme_get(md_reply_t **preply, md_acme_t *acme, const char *url, apr_size_t max,
                         md_err_t *err, apr_pool_t *p)
{
    md_request_t request = { .method = "GET", .url = url, .max_body = max, .route = acme->route };
    md_response_t *response;
    apr_status_t rv;

    rv = exchange_told(&response, acme, &request, err, p);
    if (rv == APR_SUCCESS)
        *preply = reply_of(response, url, p);
    return rv;
}

/* ---- directory (RFC 8555 7.1.1) ---- */

const md_directory_t *md_acme_directory(md_acme_t *acme)
{
    const md_directory_t *dir;

    lock(acme);
    dir = acme->dir;
    unlock(acme);
    return dir;
}

int md_acme_has_directory(md_acme_t *acme)
{
    int is_known;

    lock(acme);
    is_known = acme->dir_is_known;
    unlock(acme);
    return is_known;
}

void md_acme_forget_directory(md_acme_t *acme)
{
    lock(acme);
    acme->dir_is_known = 0;
    unlock(acme);
}

const char *md_acme_url_member(const md_json_t *json, const char *member, const char *base,
                               apr_pool_t *p)
{
    const char *url = md_uri_resolve(base, md_json_get_str(json, member), p);

    return url && !md_uri_check_http(url, p) ? url : NULL;
}

static apr_status_t directory_parse(md_directory_t **pdir, const char *url,
                                    const md_json_t *json, md_err_t *err, apr_pool_t *p)
{
    md_directory_t *dir = apr_pcalloc(p, sizeof(*dir));
    md_json_t *profiles = md_json_get(json, "meta.profiles", p);

    if (md_json_has(json, "new-authz") || md_json_has(json, "new-reg"))
        return md_fail(err, APR_EINVAL, "%s speaks ACME version 1, which is obsolete: configure "
                       "the CA's ACME v2 directory in MDCertificateAuthority", url);
    dir->new_nonce = md_acme_url_member(json, "newNonce", url, p);
    dir->new_account = md_acme_url_member(json, "newAccount", url, p);
    dir->new_order = md_acme_url_member(json, "newOrder", url, p);
    if (!dir->new_nonce || !dir->new_account || !dir->new_order)
        return md_fail(err, APR_EINVAL, "Unsuccessful in contacting ACME server at %s: unable to "
                       "understand the answer, which is not an ACME directory. Check the URL in "
                       "MDCertificateAuthority", url);
    dir->revoke_cert = md_acme_url_member(json, "revokeCert", url, p);
    dir->key_change = md_acme_url_member(json, "keyChange", url, p);
    dir->renewal_info = md_acme_url_member(json, "renewalInfo", url, p);
    dir->terms_of_service = apr_pstrdup(p, md_json_get_str(json, "meta.termsOfService"));
    dir->external_account_required = md_json_get_bool(json, "meta.externalAccountRequired");
    dir->profiles = md_json_keys(profiles, p);
    dir->caa_identities = md_json_get_strings(json, "meta.caaIdentities", p);
    *pdir = dir;
    return APR_SUCCESS;
}

static apr_status_t directory_refused(md_acme_t *acme, const md_reply_t *reply, md_err_t *err)
{
    apr_time_t retry_after = reply->retry_after;
    const char *cure = reply->status / 100 != 4 || reply->status == 429 ? ""
                       : strncasecmp(acme->url, "http:", 5)
                         ? ". Check the URL in MDCertificateAuthority"
                         : ". Check the URL in MDCertificateAuthority: most CAs require https:";

    md_fail_problem(err, APR_EAGAIN,
                    is_problem(reply) ? md_json_get_str(reply->json, "type") : NULL,
                    "Unsuccessful in contacting ACME server at %s: HTTP status %d%s%s%s", acme->url,
                    reply->status, reply->status == 503 ? ", service unavailable" : "",
                    words_of(reply, err->p), cure);
    md_err_blame(err, MD_SCOPE_CA, 0);
    err->retry_after = retry_after;
    return APR_EAGAIN;
}

static apr_status_t directory_get(md_directory_t **pdir, md_acme_t *acme, md_err_t *err,
                                  apr_pool_t *p)
{
    md_request_t request = { .method = "GET", .url = acme->url, .max_body = MD_MAX_ACME_BODY,
                             .route = acme->route };
    md_response_t *response;
    md_reply_t *reply;
    md_err_t why;
    apr_status_t rv;

    md_err_init(&why, p);
    rv = exchange(&response, acme, &request, &why, p);
    if (rv != APR_SUCCESS) {
        md_fail(err, rv, "Unsuccessful in contacting ACME server at %s: %s", acme->url,
                why.detail);
        md_err_blame(err, why.scope, 0);
        return rv;
    }
    reply = reply_of(response, acme->url, p);
    nonce_keep(acme, apr_table_get(response->headers, "Replay-Nonce"), md_clock_now());
    if (response->status / 100 != 2)
        return directory_refused(acme, reply, err);
    if (!reply->json)
        return md_fail(err, looks_like_json(response) ? APR_EINVAL : APR_ENOENT,
                       "Unsuccessful in contacting ACME server at %s: the answer is not JSON (%s). "
                       "Check the URL in MDCertificateAuthority", acme->url,
                       *reply->media_type ? reply->media_type : "no content type");
    return directory_parse(pdir, acme->url, reply->json, err, p);
}

static int directories_equal(const md_directory_t *a, const md_directory_t *b)
{
    return md_text_same(a->new_nonce, b->new_nonce)
           && md_text_same(a->new_account, b->new_account)
           && md_text_same(a->new_order, b->new_order)
           && md_text_same(a->revoke_cert, b->revoke_cert)
           && md_text_same(a->key_change, b->key_change)
           && md_text_same(a->renewal_info, b->renewal_info)
           && md_text_same(a->terms_of_service, b->terms_of_service)
           && a->external_account_required == b->external_account_required
           && md_strings_equal(a->profiles, b->profiles)
           && md_strings_equal(a->caa_identities, b->caa_identities);
}

static md_directory_t *directory_copy(const md_directory_t *dir, apr_pool_t *p)
{
    md_directory_t *copy = apr_pmemdup(p, dir, sizeof(*dir));

    copy->new_nonce = apr_pstrdup(p, dir->new_nonce);
    copy->new_account = apr_pstrdup(p, dir->new_account);
    copy->new_order = apr_pstrdup(p, dir->new_order);
    copy->revoke_cert = apr_pstrdup(p, dir->revoke_cert);
    copy->key_change = apr_pstrdup(p, dir->key_change);
    copy->renewal_info = apr_pstrdup(p, dir->renewal_info);
    copy->terms_of_service = apr_pstrdup(p, dir->terms_of_service);
    copy->profiles = md_strings_copy(dir->profiles, p);
    if (dir->caa_identities)
        copy->caa_identities = md_strings_copy(dir->caa_identities, p);
    return copy;
}

/* The old one stays in memory, for requests in progress may use it; an equal one is not copied,
 * so that a CA in trouble does not make us grow. */
static void directory_keep(md_acme_t *acme, const md_directory_t *dir)
{
    lock(acme);
    if (!acme->dir || !directories_equal(acme->dir, dir))
        acme->dir = directory_copy(dir, acme->p);
    acme->dir_is_known = 1;
    acme->dir_failed_until = 0;
    unlock(acme);
}

static apr_status_t recent_failure(md_acme_t *acme, apr_time_t now, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;

    lock(acme);
    /* far in the future if the clock was set back since */
    if (acme->dir_failed_until > now && acme->dir_failed_until < now + 2 * DIRECTORY_RESPITE) {
        md_err_copy(err, &acme->dir_err);
        rv = err->rv;
    }
    unlock(acme);
    return rv;
}

static void remember_failure(md_acme_t *acme, apr_time_t now, const md_err_t *err)
{
    lock(acme);
    acme->dir_failed_until = now + DIRECTORY_RESPITE;
    apr_pool_clear(acme->dir_err.p); /* many CAs number their failures: each has another text */
    md_err_copy(&acme->dir_err, err);
    unlock(acme);
}

apr_status_t md_acme_load_directory(md_acme_t *acme, apr_time_t now, md_err_t *err,
                                    apr_pool_t *p)
{
    apr_time_t began = md_clock_steady();
    md_directory_t *dir = NULL;
    apr_status_t rv;

    if (md_acme_has_directory(acme))
        return APR_SUCCESS;
    rv = recent_failure(acme, now, err);
    if (rv != APR_SUCCESS)
        return rv;
    rv = directory_get(&dir, acme, err, p);
    if (rv != APR_SUCCESS) {
        remember_failure(acme, now + (md_clock_steady() - began), err); /* it may take long */
        return rv;
    }
    directory_keep(acme, dir);
    return APR_SUCCESS;
}
