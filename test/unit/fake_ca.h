/* SPDX-License-Identifier: Apache-2.0 */
/* A CA for fake_http.h that issues, at any host: it reads what it is sent, keeps accounts and
 * orders, looks for the answers to its challenges if it is to, signs, and refuses what a test
 * wants. Its date is right whatever is done to ours, as it goes on by the steady clock. */
#ifndef FAKE_CA_H
#define FAKE_CA_H

#include <apr_hash.h>
#include <openssl/x509.h>

#include "../../md_store.h"
#include "fake_http.h"

#define FAKE_PROBLEM(type, detail) \
    "{\"type\":\"urn:ietf:params:acme:error:" type "\",\"detail\":\"" detail "\"}"

#define FAKE_NAMES    4      /* in an order, at most */
#define FAKE_ORDERS   4000
#define FAKE_ACCOUNTS 20
#define FAKE_LOG      60000
#define FAKE_CERTS    20000

typedef struct fake_acct_t {
    const char *jwk;
    apr_time_t made_at;
    int is_deactivated;
} fake_acct_t;

typedef struct fake_order_t {
    char name[64];       /* the first */
    const char *names[FAKE_NAMES];
    int count;           /* of names */
    int acct;            /* index */
    apr_time_t made_at;
    apr_interval_time_t validation; /* how long it takes */
    apr_time_t answered_at[FAKE_NAMES]; /* the challenge of each name; 0: not yet */
    int proven;          /* a bit for each */
    const char *problem; /* of the order and its challenges, or NULL */
    const char *failure; /* of its challenges alone, all else stays pending; or NULL */
    int is_invalid;      /* it alone, without a reason */
    X509_REQ *csr;       /* NULL: not finalized */
    apr_time_t issued_at; /* processing until then */
    const char *replaces; /* id of a certificate (RFC 9773 5), or NULL */
} fake_order_t;

/* What was issued, by serial number. */
typedef struct fake_cert_t {
    char name[64];
    apr_time_t from, to;
} fake_cert_t;

/* In place of the CA: 1 if it filled in the answer. `kind` is one of dir, nonce, new-acct, acct,
 * new-order, authz, chall, order, finalize, cert, ari; `order` is NULL for the first four and the
 * last. */
typedef int fake_refuse_fn(fake_answer_t *answer, const char *kind, fake_order_t *order,
                           apr_pool_t *p);

typedef struct fake_ca_t {
    /* for tests to set */
    fake_refuse_fn *refuse;
    const char *type;                /* of its challenges; NULL: http-01 */
    const md_store_t *store;         /* of the server that answers; NULL: it is believed */
    apr_interval_time_t lifetime;    /* of certificates; 90 days */
    apr_interval_time_t validation, processing; /* how long they take, of new orders */
    apr_interval_time_t lag;         /* for so long it does not know what it has just made */
    int ari_from, ari_to;            /* its suggested windows, in percent of a lifetime; 0, 0: it
                                      * offers no renewal information */
    int ari_retry_after;             /* seconds, 0: it does not tell */

    /* what happened */
    fake_acct_t accts[FAKE_ACCOUNTS];
    int accounts;
    fake_order_t orders[FAKE_ORDERS];
    int count;                       /* of them */
    struct { char kind[12], name[64]; apr_time_t at; } log[FAKE_LOG]; /* what was asked about
                                      * orders and certificates, by the steady clock */
    int logged;
    fake_cert_t certs[FAKE_CERTS];
    int issued;

    /* its own */
    apr_pool_t *p;
    apr_time_t epoch;                /* the date when the steady clock was 0 */
    apr_hash_t *nonces;              /* that were used */
    EVP_PKEY *key;
    X509 *cert;
} fake_ca_t;

extern fake_ca_t fake_ca;

/* A new one, at this date. */
void fake_ca_start(apr_time_t date);

/* For fake_http_serve. */
int fake_ca_serve(fake_answer_t *answer, const md_request_t *request, apr_pool_t *p);

/* Requests of a kind (NULL: of all) about orders or certificates of a domain (NULL: of any). */
int fake_ca_count(const char *kind, const char *name);

/* The chain of a certificate for a public key, as PEM. */
const char *fake_ca_issue(const char *name, EVP_PKEY *key, apr_time_t from, apr_time_t to,
                          apr_pool_t *p);

#endif
