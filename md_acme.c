/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation with a CA: directory, nonces, signed requests, problem documents. */
#include "md_acme.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "md_jws.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"
#include "md_time.h"

#define NONCE_LEN         256
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
    apr_thread_mutex_t *mutex;       /* guards all below */
    md_directory_t *dir;             /* kept when forgotten: requests may still use it */
    int dir_is_known;
    apr_time_t dir_failed_until;
    md_err_t dir_err;
    nonce_t nonces[MD_MAX_NONCES];   /* the last is the newest */
    int nonce_count;
    apr_time_t hold_until;
};

md_acme_t *md_acme_create(md_http_t *http, const char *url, const md_route_t *route,
                          apr_pool_t *p)
{
    md_acme_t *acme = apr_pcalloc(p, sizeof(*acme));

    acme->p = p;
    acme->http = http;
    acme->url = apr_pstrdup(p, url);
    acme->route.ca_file = apr_pstrdup(p, route->ca_file);
    acme->route.proxy_url = apr_pstrdup(p, route->proxy_url);
    acme->route.proxy_ca_file = apr_pstrdup(p, route->proxy_ca_file);
    md_err_init(&acme->dir_err, p);
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

apr_time_t md_acme_hold_until(md_acme_t *acme)
{
    apr_time_t until;

    lock(acme);
    until = acme->hold_until;
    unlock(acme);
    return until;
}

/* ---- problems (RFC 8555 6.7) ---- */

static const struct {
    const char *type; /* behind acme:error: */
    apr_status_t rv;
    int input_related;
} PROBLEMS[] = {
    { "accountDoesNotExist", APR_ENOENT, 0 },
    { "agreementRequired", APR_EGENERAL, 1 },
    { "alreadyReplaced", APR_EGENERAL, 0 },
    { "alreadyRevoked", APR_EGENERAL, 0 },
    { "badCSR", APR_EINVAL, 1 },
    { "badNonce", APR_EAGAIN, 0 },
    { "badPublicKey", APR_EINVAL, 1 },
    { "badRevocationReason", APR_EINVAL, 1 },
    { "badSignatureAlgorithm", APR_EINVAL, 1 },
    { "externalAccountRequired", APR_EINVAL, 1 },
    { "invalidContact", APR_BADARG, 1 },
    { "invalidProfile", APR_EINVAL, 1 },
    { "malformed", APR_EINVAL, 1 },
    { "orderNotReady", APR_EAGAIN, 0 },
    { "rateLimited", APR_BADARG, 0 },
    { "rejectedIdentifier", APR_BADARG, 1 },
    { "unauthorized", APR_EACCES, 0 },
    { "unsupportedContact", APR_EGENERAL, 1 },
    { "unsupportedIdentifier", APR_BADARG, 1 },
    { "userActionRequired", APR_EGENERAL, 1 },
};

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

/* Row of the table, -1 for types that it does not know. */
static int problem_row(const char *type)
{
    size_t i;

    if (!type || strncasecmp(bare_type(type), "acme:error:", 11))
        return -1;
    for (i = 0; i < sizeof(PROBLEMS) / sizeof(PROBLEMS[0]); ++i)
        if (!strcasecmp(bare_type(type) + 11, PROBLEMS[i].type))
            return (int)i;
    return -1;
}

int md_problem_is_input_related(const md_err_t *err)
{
    int row = problem_row(err->type);

    return row >= 0 && PROBLEMS[row].input_related;
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
        return APR_ENOENT;
    default:
        return APR_EGENERAL;
    }
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

/* A reply other than 2xx becomes an error. */
static apr_status_t fail_by_reply(md_acme_t *acme, const md_reply_t *reply, const char *url,
                                  md_err_t *err)
{
    const char *type = reply->json ? md_json_get_str(reply->json, "type") : NULL;
    const char *detail = reply->json ? md_json_get_str(reply->json, "detail") : NULL;
    md_json_t *subproblems;
    apr_status_t rv;
    int row;

    if (type && !strcmp(reply->media_type, "application/problem+json")) {
        row = problem_row(type);
        rv = row >= 0 ? PROBLEMS[row].rv : APR_EGENERAL;
        md_fail_problem(err, rv, without_space(type, err->p), "%s",
                        detail ? detail : "the CA gave no detail");
        subproblems = md_json_get(reply->json, "subproblems", err->p);
        md_err_set_subproblems(err, md_json_text(subproblems, 1, err->p));
        md_log(md_problem_is(err, MD_PROBLEM_BAD_NONCE) ? MD_LOG_DEBUG : MD_LOG_WARNING, rv,
               "acme problem %s: %s", err->type, err->detail);
    }
    else {
        rv = md_fail(err, status_of_http(reply->status),
                     "%s: unexpected HTTP status %d without problem document", url,
                     reply->status);
    }
    err->retry_after = reply->retry_after;
    if (reply->retry_after && (reply->status == 429 || reply->status == 503
                               || md_problem_is(err, MD_PROBLEM_RATE_LIMITED))) {
        lock(acme);
        if (reply->retry_after > acme->hold_until)
            acme->hold_until = reply->retry_after;
        unlock(acme);
    }
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

/* The newest one, which the CA remembers longest; NULL if none is fresh. */
static const char *nonce_from_pool(md_acme_t *acme, apr_time_t now, apr_pool_t *p)
{
    const char *text = NULL;

    lock(acme);
    if (acme->nonce_count > 0) {
        if (now - acme->nonces[acme->nonce_count - 1].since > MD_MAX_NONCE_AGE)
            acme->nonce_count = 0;
        else
            text = apr_pstrdup(p, acme->nonces[--acme->nonce_count].text);
    }
    unlock(acme);
    return text;
}

static apr_status_t nonce_take(const char **pnonce, md_acme_t *acme, md_err_t *err,
                               apr_pool_t *p)
{
    md_request_t request = { .method = "HEAD", .route = acme->route };
    md_response_t *response;
    apr_status_t rv;

    *pnonce = nonce_from_pool(acme, apr_time_now(), p);
    if (*pnonce)
        return APR_SUCCESS;
    request.url = md_acme_directory(acme)->new_nonce;
    rv = md_http_exchange(&response, acme->http, &request, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (response->status / 100 != 2)
        return md_fail(err, APR_EGENERAL, "newNonce: unexpected HTTP status %d from %s",
                       response->status, request.url);
    *pnonce = apr_table_get(response->headers, "Replay-Nonce");
    if (!*pnonce || !md_token_is_valid(*pnonce))
        return md_fail(err, APR_EGENERAL, "newNonce: no valid Replay-Nonce from %s",
                       request.url);
    return APR_SUCCESS;
}

/* ---- requests ---- */

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

static int is_json_type(const char *type)
{
    size_t len = strlen(type);

    return !strcmp(type, "text/plain") || (len > 5 && !strcmp(type + len - 5, "/json"))
           || (len > 5 && !strcmp(type + len - 5, "+json"));
}

static md_reply_t *reply_of(const md_response_t *response, apr_pool_t *p)
{
    md_reply_t *reply = apr_pcalloc(p, sizeof(*reply));

    reply->status = response->status;
    reply->headers = response->headers;
    reply->location = apr_table_get(response->headers, "Location");
    reply->media_type = media_type_of(response, p);
    reply->retry_after = md_time_retry_after(apr_table_get(response->headers, "Retry-After"),
                                             apr_time_now());
    reply->body = response->body;
    reply->len = response->len;
    if (response->len > 0 && is_json_type(reply->media_type)
        && md_json_parse(&reply->json, response->body, response->len, NULL, p) != APR_SUCCESS)
        reply->json = NULL;
    return reply;
}

/* What one signed request is made of. */
typedef struct signed_t {
    const char *url;
    const char *payload;
    md_signer_t signer;
    const char *accept;
    apr_size_t max;
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
    rv = md_http_exchange(&response, acme->http, &request, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    nonce_keep(acme, apr_table_get(response->headers, "Replay-Nonce"), apr_time_now());
    *preply = reply_of(response, p);
    if (response->status / 100 == 2)
        return APR_SUCCESS;
    return fail_by_reply(acme, *preply, s->url, err);
}

/* The CA may answer badNonce at any time; the retry uses the nonce of that very answer, which
 * is then the newest in the pool (6.5). */
static apr_status_t post_signed(md_reply_t **preply, md_acme_t *acme, const signed_t *s,
                                md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;
    int turns = 0;

    *preply = NULL;
    if (!md_acme_directory(acme))
        return md_fail(err, APR_EINVAL, "%s: the directory of the CA is not known", s->url);
    do {
        md_err_clear(err);
        rv = send_signed(preply, acme, s, err, p);
    } while (rv != APR_SUCCESS && md_problem_is(err, MD_PROBLEM_BAD_NONCE)
             && ++turns < MD_MAX_BAD_NONCE);
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

apr_status_t md_acme_fetch(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                           const char *url, const char *accept, apr_size_t max, md_err_t *err,
                           apr_pool_t *p)
{
    signed_t s = { .url = url, .payload = "", .signer = signer, .accept = accept, .max = max };

    return post_signed(preply, acme, &s, err, p);
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

static const char *url_member(const md_json_t *json, const char *member, apr_pool_t *p)
{
    const char *url = md_json_get_str(json, member);

    return url && !md_uri_check_http(url, p) ? apr_pstrdup(p, url) : NULL;
}

static apr_status_t directory_parse(md_directory_t **pdir, const char *url,
                                    const md_json_t *json, md_err_t *err, apr_pool_t *p)
{
    md_directory_t *dir = apr_pcalloc(p, sizeof(*dir));
    md_json_t *profiles = md_json_get(json, "meta.profiles", p);

    if (md_json_has(json, "new-authz") || md_json_has(json, "new-reg"))
        return md_fail(err, APR_EINVAL, "%s speaks ACME version 1, which is obsolete: configure "
                       "the CA's ACME v2 directory in MDCertificateAuthority", url);
    dir->new_nonce = url_member(json, "newNonce", p);
    dir->new_account = url_member(json, "newAccount", p);
    dir->new_order = url_member(json, "newOrder", p);
    if (!dir->new_nonce || !dir->new_account || !dir->new_order)
        return md_fail(err, APR_EINVAL, "Unsuccessful in contacting ACME server at %s: unable to "
                       "understand the answer, it is no ACME directory. Check the URL in "
                       "MDCertificateAuthority", url);
    dir->revoke_cert = url_member(json, "revokeCert", p);
    dir->key_change = url_member(json, "keyChange", p);
    dir->renewal_info = url_member(json, "renewalInfo", p);
    dir->terms_of_service = apr_pstrdup(p, md_json_get_str(json, "meta.termsOfService"));
    dir->external_account_required = md_json_get_bool(json, "meta.externalAccountRequired");
    dir->profiles = md_json_keys(profiles, p);
    *pdir = dir;
    return APR_SUCCESS;
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
    rv = md_http_exchange(&response, acme->http, &request, &why, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "Unsuccessful in contacting ACME server at %s: %s. Check that this "
                       "server can reach it (network, DNS, firewall, proxy, trusted roots)",
                       acme->url, why.detail);
    reply = reply_of(response, p);
    nonce_keep(acme, apr_table_get(response->headers, "Replay-Nonce"), apr_time_now());
    if (response->status / 100 != 2) {
        md_fail(err, APR_EAGAIN, "Unsuccessful in contacting ACME server at %s: HTTP status %d%s",
                acme->url, response->status,
                response->status == 503 ? ", service unavailable"
                                        : ". Check the URL in MDCertificateAuthority");
        err->retry_after = reply->retry_after;
        return APR_EAGAIN;
    }
    if (!reply->json)
        return md_fail(err, is_json_type(reply->media_type) ? APR_EINVAL : APR_ENOENT,
                       "Unsuccessful in contacting ACME server at %s: the answer is no JSON (%s). "
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
           && md_strings_equal(a->profiles, b->profiles);
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
    if (acme->dir_failed_until > now) {
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
    if (!acme->dir_err.detail || strcmp(acme->dir_err.detail, err->detail))
        md_err_copy(&acme->dir_err, err);
    unlock(acme);
}

apr_status_t md_acme_load_directory(md_acme_t *acme, apr_time_t now, md_err_t *err,
                                    apr_pool_t *p)
{
    md_directory_t *dir = NULL;
    apr_status_t rv;

    if (md_acme_has_directory(acme))
        return APR_SUCCESS;
    rv = recent_failure(acme, now, err);
    if (rv != APR_SUCCESS)
        return rv;
    rv = directory_get(&dir, acme, err, p);
    if (rv != APR_SUCCESS) {
        remember_failure(acme, now, err);
        return rv;
    }
    directory_keep(acme, dir);
    return APR_SUCCESS;
}
