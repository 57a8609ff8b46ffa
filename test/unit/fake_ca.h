/* SPDX-License-Identifier: Apache-2.0 */
/* A CA for fake_http.h that issues, at any host: it reads what it is sent, knows its orders, signs,
 * and refuses what a test wants. Include it once. */
#ifndef FAKE_CA_H
#define FAKE_CA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "../../md_clock.h"
#include "../../md_json.h"
#include "../../md_text.h"
#include "fake_http.h"

#define FAKE_PROBLEM(type, detail) \
    "{\"type\":\"urn:ietf:params:acme:error:" type "\",\"detail\":\"" detail "\"}"

#define FAKE_NAMES 4     /* in an order, at most */

typedef struct fake_order_t {
    char name[64];       /* the first */
    const char *names[FAKE_NAMES];
    int count;           /* of names */
    int proven;          /* a bit for each */
    const char *problem; /* of the order and its challenge, or NULL */
    X509_REQ *csr;       /* NULL: not finalized */
} fake_order_t;

/* In place of the CA: 1 if it filled in the answer. `kind` is one of dir, nonce, new-acct, acct,
 * new-order, authz, chall, order, finalize, cert; `order` is NULL for the first four. */
typedef int fake_refuse_fn(fake_answer_t *answer, const char *kind, fake_order_t *order,
                           apr_pool_t *p);

static struct {
    apr_pool_t *p;
    EVP_PKEY *key;
    fake_order_t orders[4000];
    int count;
    fake_refuse_fn *refuse;
    struct { char kind[12], name[64]; apr_time_t at; } log[20000]; /* what was asked about orders */
    int logged;
} fake_ca;

/* A new one. */
static void fake_ca_start(void)
{
    int i;

    for (i = 0; i < fake_ca.count; ++i)
        X509_REQ_free(fake_ca.orders[i].csr);
    EVP_PKEY_free(fake_ca.key);
    if (fake_ca.p)
        apr_pool_destroy(fake_ca.p);
    memset(&fake_ca, 0, sizeof(fake_ca));
    apr_pool_create(&fake_ca.p, NULL);
    fake_ca.key = EVP_EC_gen("P-256");
}

/* Requests of a kind (NULL: of all) about orders of a domain (NULL: of any). */
static int fake_ca_count(const char *kind, const char *name)
{
    int i, count = 0;

    for (i = 0; i < fake_ca.logged; ++i)
        count += (!kind || !strcmp(fake_ca.log[i].kind, kind))
                 && (!name || !strcmp(fake_ca.log[i].name, name));
    return count;
}

/* With the key and the names of the request, and nothing else of it, such as must-staple. */
static const char *fake_ca_issue(X509_REQ *csr, EVP_PKEY *signer, apr_pool_t *p)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(csr);
    BIO *bio = BIO_new(BIO_s_mem());
    X509 *x509 = X509_new();
    const char *text;
    char *data;
    long len;

    X509_set_version(x509, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), fake_ca.count + 1);
    X509_set_subject_name(x509, X509_REQ_get_subject_name(csr));
    X509_NAME_add_entry_by_txt(X509_get_issuer_name(x509), "CN", MBSTRING_ASC,
                               (const unsigned char *)"A CA", -1, -1, 0);
    X509_gmtime_adj(X509_getm_notBefore(x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x509), 90 * 86400L);
    X509_set_pubkey(x509, X509_REQ_get0_pubkey(csr));
    X509_add_ext(x509, sk_X509_EXTENSION_value(exts, X509v3_get_ext_by_NID(exts,
                                                                         NID_subject_alt_name, -1)),
                 -1);
    X509_sign(x509, signer, EVP_sha256());
    PEM_write_bio_X509(bio, x509);
    len = BIO_get_mem_data(bio, &data);
    text = apr_pstrmemdup(p, data, (apr_size_t)len);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_free(x509);
    BIO_free(bio);
    return text;
}

/* What a JWS carries. */
static md_json_t *fake_ca_payload(const char *jws, apr_pool_t *p)
{
    md_json_t *json = NULL;
    unsigned char *text;
    apr_size_t len;

    if (jws && md_json_parse(&json, jws, strlen(jws), NULL, p) == APR_SUCCESS) {
        len = md_base64url_decode(&text, md_json_get_str(json, "payload"), p);
        if (len == 0
            || md_json_parse(&json, (char *)text, len, NULL, p) != APR_SUCCESS)
            json = NULL;
    }
    return json;
}

static X509_REQ *fake_ca_csr(const md_json_t *payload, apr_pool_t *p)
{
    const unsigned char *der;
    unsigned char *data;
    apr_size_t len = md_base64url_decode(&data, md_json_get_str(payload, "csr"), p);

    der = data;
    return d2i_X509_REQ(NULL, &der, (long)len);
}

static const char *fake_ca_error(const fake_order_t *order, apr_pool_t *p)
{
    return order->problem ? apr_pstrcat(p, ",\"error\":", order->problem, NULL) : "";
}

static const char *fake_ca_order(const char *base, int i, apr_pool_t *p)
{
    const fake_order_t *order = &fake_ca.orders[i];
    const char *status = order->problem ? "invalid" : order->proven != (1 << order->count) - 1
                         ? "pending" : !order->csr ? "ready" : "valid";
    const char *authzs = "";
    int k;

    for (k = 0; k < order->count; ++k)
        authzs = apr_psprintf(p, "%s%s\"%s/authz/%d\"", authzs, k ? "," : "", base,
                              i * FAKE_NAMES + k);
    return apr_psprintf(p, "{\"status\":\"%s\",\"authorizations\":[%s],\"finalize\":"
                        "\"%s/finalize/%d\",\"certificate\":\"%s/cert/%d\"%s}", status, authzs,
                        base, i, base, i, fake_ca_error(order, p));
}

static const char *fake_ca_authz(const char *base, int n, apr_pool_t *p)
{
    const fake_order_t *order = &fake_ca.orders[n / FAKE_NAMES];
    int k = n % FAKE_NAMES;
    const char *status = order->problem ? "invalid" : order->proven >> k & 1 ? "valid" : "pending";

    return apr_psprintf(p, "{\"status\":\"%s\",\"identifier\":{\"type\":\"dns\",\"value\":\"%s\"},"
                        "\"challenges\":[{\"type\":\"http-01\",\"url\":\"%s/chall/%d\",\"token\":"
                        "\"token%d\",\"status\":\"%s\"%s}]}", status, order->names[k], base, n, n,
                        status, fake_ca_error(order, p));
}

/* About an order that there is: `n` is of one of its names for authz and chall. */
static void fake_ca_go_on(fake_answer_t *answer, const char *kind, const char *base, int n,
                          const md_json_t *payload, apr_pool_t *p)
{
    int is_of_name = !strcmp(kind, "chall") || !strcmp(kind, "authz");
    fake_order_t *order = &fake_ca.orders[is_of_name ? n / FAKE_NAMES : n];

    answer->type = "application/json";
    if (!strcmp(kind, "chall")) {
        order->proven |= 1 << n % FAKE_NAMES;
        answer->body = "{\"status\":\"processing\"}";
    }
    else if (!strcmp(kind, "authz"))
        answer->body = fake_ca_authz(base, n, p);
    else if (!strcmp(kind, "cert")) {
        answer->type = "application/pem-certificate-chain";
        answer->body = fake_ca_issue(order->csr, fake_ca.key, p);
    }
    else {
        if (!strcmp(kind, "finalize") && !order->csr)
            order->csr = fake_ca_csr(payload, p);
        answer->body = fake_ca_order(base, n, p);
    }
}

static void fake_ca_begin(fake_answer_t *answer, const char *base, const fake_order_t *order,
                          apr_pool_t *p)
{
    int i = fake_ca.count++;

    fake_ca.orders[i] = *order;
    answer->status = 201;
    answer->headers = apr_psprintf(p, "Location: %s/order/%d", base, i);
    answer->type = "application/json";
    answer->body = fake_ca_order(base, i, p);
}

/* What is ordered. */
static fake_order_t fake_ca_wish(const md_json_t *payload, apr_pool_t *p)
{
    md_json_t *list = md_json_get(payload, "identifiers", p);
    fake_order_t order = { .count = (int)md_json_size(list) };
    int k;

    for (k = 0; k < order.count && k < FAKE_NAMES; ++k)
        order.names[k] = apr_pstrdup(fake_ca.p, md_json_get_str(md_json_at(list, k, p), "value"));
    apr_cpystrn(order.name, order.names[0], sizeof(order.name));
    return order;
}

static void fake_ca_note(const char *kind, const fake_order_t *order)
{
    apr_cpystrn(fake_ca.log[fake_ca.logged].kind, kind, sizeof(fake_ca.log[0].kind));
    apr_cpystrn(fake_ca.log[fake_ca.logged].name, order->name, sizeof(fake_ca.log[0].name));
    fake_ca.log[fake_ca.logged++].at = md_clock_steady();
}

static void fake_ca_other(fake_answer_t *answer, const char *kind, const char *base, apr_pool_t *p)
{
    answer->type = "application/json";
    if (!strcmp(kind, "dir"))
        answer->body = apr_psprintf(p, "{\"newNonce\":\"%s/nonce\",\"newAccount\":\"%s/new-acct\","
                                    "\"newOrder\":\"%s/new-order\"}", base, base, base);
    else if (strcmp(kind, "nonce")) {
        answer->headers = apr_pstrcat(p, "Location: ", base, "/acct/1", NULL);
        answer->body = "{\"status\":\"valid\"}";
    }
}

/* For fake_http_serve. */
static int fake_ca_serve(fake_answer_t *answer, const md_request_t *request, apr_pool_t *p)
{
    const char *path = strchr(request->url + strlen("https://"), '/');
    const char *base = apr_pstrmemdup(p, request->url, (apr_size_t)(path - request->url));
    const char *kind = apr_pstrmemdup(p, path + 1, strcspn(path + 1, "/"));
    md_json_t *payload = fake_ca_payload(request->body, p);
    int is_of_name = !strcmp(kind, "chall") || !strcmp(kind, "authz");
    int n = atoi(path + strlen(kind) + 1 + (path[strlen(kind) + 1] == '/'));
    fake_order_t wish, *order = NULL;

    answer->status = 200;
    if (!strcmp(kind, "new-order")) {
        wish = fake_ca_wish(payload, p);
        order = &wish;
    }
    else if (strcmp(kind, "dir") && strcmp(kind, "nonce") && !strstr(kind, "acct"))
        order = &fake_ca.orders[is_of_name ? n / FAKE_NAMES : n];
    if (order)
        fake_ca_note(kind, order);
    if (fake_ca.refuse && fake_ca.refuse(answer, kind, order, p))
        return 1;
    if (!order)
        fake_ca_other(answer, kind, base, p);
    else if (order == &wish)
        fake_ca_begin(answer, base, order, p);
    else
        fake_ca_go_on(answer, kind, base, n, payload, p);
    return 1;
}

#endif
