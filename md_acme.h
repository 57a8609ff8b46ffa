/* SPDX-License-Identifier: Apache-2.0 */
/* One CA: cached directory, pool of nonces, signed requests (RFC 8555 6, 7.1.1). Who signs is told
 * with each request. Many threads share one md_acme_t; it lives as long as the process uses the
 * CA. */
#ifndef MD_ACME_H
#define MD_ACME_H

#include "md_http.h"
#include "md_json.h"
#include "md_key.h"
#include "md_limits.h"
#include "md_meter.h"

/* RFC 8555 7.1.1. */
typedef struct md_directory_t {
    const char *new_nonce, *new_account, *new_order;
    const char *revoke_cert, *key_change, *renewal_info; /* NULL if not offered */
    const char *terms_of_service;                        /* NULL if there are none */
    int external_account_required;
    apr_array_header_t *profiles;                        /* names, empty if none */
    apr_array_header_t *caa_identities;                  /* for CAA records, NULL if not told */
} md_directory_t;

typedef struct md_acme_t md_acme_t;

/* Who signs a request (6.2). */
typedef struct md_signer_t {
    const md_key_t *key;
    const char *kid; /* account URL; NULL: a bare key, whose JWK goes along (newAccount, 7.3) */
} md_signer_t;

/* What a signed request brought; lives in the pool given. */
typedef struct md_reply_t {
    const char *url;        /* that was asked for */
    int status;
    const char *location;   /* NULL if absent */
    const char *media_type; /* without parameters, never NULL */
    md_json_t *json;        /* NULL if the body is none */
    const char *body;
    apr_size_t len;
    apr_time_t retry_after; /* absolute, 0 if absent */
    const apr_table_t *headers;
} md_reply_t;

/* A CA that was not asked yet, to be reached by `route`. Its requests and holds are counted in
 * `meter`, or nowhere (NULL). */
md_acme_t *md_acme_create(md_http_t *http, const char *url, const md_route_t *route,
                          md_meter_t *meter, apr_pool_t *p);

const char *md_acme_url(const md_acme_t *acme);
/* Is it this CA, reached by this route? */
int md_acme_is(const md_acme_t *acme, const char *url, const md_route_t *route);
const md_directory_t *md_acme_directory(md_acme_t *acme); /* NULL while unknown */

/* GET the directory unless it is known. After a failure, calls within five seconds fail with the
 * same error and no request. APR_EAGAIN for HTTP errors, APR_EINVAL/APR_ENOENT for a document that
 * is none. */
MD_MUST_CHECK
apr_status_t md_acme_load_directory(md_acme_t *acme, apr_time_t now, md_err_t *err,
                                    apr_pool_t *p);
/* Is it known, and not to be asked for again? */
int md_acme_has_directory(md_acme_t *acme);
/* Ask for the directory again at the next occasion. */
void md_acme_forget_directory(md_acme_t *acme);

/* Have a nonce (7.2), and with it a connection, for a request that will come when another run has
 * settled what it needs. Nothing is asked while there is one, nor before that run needed one, as it
 * may come to nothing. */
MD_MUST_CHECK
apr_status_t md_acme_have_nonce(md_acme_t *acme, md_err_t *err, apr_pool_t *p);

/* Signed POST (RFC 8555 6.2); badNonce is repeated inside (6.5). Any 2xx is success. Otherwise the
 * problem document becomes `err` (6.7), with whom it blames; a short text or the message of another
 * JSON answer is quoted. */
MD_MUST_CHECK
apr_status_t md_acme_post(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                          const char *url, const md_json_t *payload, md_err_t *err,
                          apr_pool_t *p);

/* The same for what has another way if it is refused: for the log that is a detail. */
MD_MUST_CHECK
apr_status_t md_acme_try_post(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                              const char *url, const md_json_t *payload, md_err_t *err,
                              apr_pool_t *p);

/* POST-as-GET (6.3). `accept`: media type wanted, NULL for any; `max`: bytes of the body. */
MD_MUST_CHECK
apr_status_t md_acme_fetch(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                           const char *url, const char *accept, apr_size_t max, md_err_t *err,
                           apr_pool_t *p);

/* The same for what has another way if it is refused: for the log that is a detail. */
MD_MUST_CHECK
apr_status_t md_acme_try_fetch(md_reply_t **preply, md_acme_t *acme, md_signer_t signer,
                               const char *url, const char *accept, apr_size_t max, md_err_t *err,
                               apr_pool_t *p);

/* GET what anybody may see (RFC 9773 4.1), with neither signature nor nonce. Any HTTP status is
 * success, and one that tells of a busy CA holds up nobody else. */
MD_MUST_CHECK
apr_status_t md_acme_get(md_reply_t **preply, md_acme_t *acme, const char *url, apr_size_t max,
                         md_err_t *err, apr_pool_t *p);

/* URLs of the links with this relation in the headers of an answer (RFC 8555 7.1), absolute, at
 * most MD_MAX_ALTERNATES of them. */
apr_array_header_t *md_reply_links(const md_reply_t *reply, const char *rel, apr_pool_t *p);

/* When the CA wants to see the next request of anybody at the earliest: it, or what stands in front
 * of it, answers 429 or 503 (6.6). 0: now. What reaches far beyond what the CA can ask for was
 * noted while the date was wrong, and is void. */
apr_time_t md_acme_hold_until(md_acme_t *acme, apr_time_t now);

/* Is this a URL that the CA may be asked at? By http: only if its directory is. */
MD_MUST_CHECK
apr_status_t md_acme_check_url(const md_acme_t *acme, const char *url, md_err_t *err,
                               apr_pool_t *p);

/* A member that is a URL, absolute or relative to the document's own `base`; NULL if it is none. */
const char *md_acme_url_member(const md_json_t *json, const char *member, const char *base,
                               apr_pool_t *p);

/* Problem types compare ignoring case and the prefix urn:ietf:params: */
#define MD_PROBLEM_ACCOUNT_DOES_NOT_EXIST  "acme:error:accountDoesNotExist"
#define MD_PROBLEM_ALREADY_REVOKED         "acme:error:alreadyRevoked"
#define MD_PROBLEM_BAD_CSR                 "acme:error:badCSR"
#define MD_PROBLEM_BAD_NONCE               "acme:error:badNonce"
#define MD_PROBLEM_BAD_SIGNATURE_ALGORITHM "acme:error:badSignatureAlgorithm"
#define MD_PROBLEM_BAD_PUBLIC_KEY          "acme:error:badPublicKey"
#define MD_PROBLEM_INVALID_PROFILE         "acme:error:invalidProfile"
#define MD_PROBLEM_ORDER_NOT_READY         "acme:error:orderNotReady"
#define MD_PROBLEM_RATE_LIMITED            "acme:error:rateLimited"
#define MD_PROBLEM_UNAUTHORIZED            "acme:error:unauthorized"
#define MD_PROBLEM_UNSUPPORTED_IDENTIFIER  "acme:error:unsupportedIdentifier"
#define MD_PROBLEM_USER_ACTION_REQUIRED    "acme:error:userActionRequired"
int md_problem_is(const md_err_t *err, const char *type);

/* The types that RFC 8555 6.7 and its successors define, by number: the name, without prefix
 * ("rateLimited"). And the number of a failure's, -1 for another one or none. */
#define MD_PROBLEM_COUNT 27
const char *md_problem_name(int number);
int md_problem_number(const md_err_t *err);

/* Fail as a problem document tells (6.7), of an answer or in a resource: type, detail (or what is
 * there in its place) behind `prefix`, sub-problems, whom it blames. */
apr_status_t md_problem_fail(md_err_t *err, const md_json_t *problem, const char *prefix);

/* What the sub-problems say (RFC 8555 6.7.1), name by name, to be put behind the detail:
 * " (a.example.org: no CAA; b.example.org: ...)". Empty if there are none. */
const char *md_problem_parts(const md_err_t *err, apr_pool_t *p);

#endif
