/* SPDX-License-Identifier: Apache-2.0 */
/* The CA of the unit tests. */
#include "fake_ca.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "../../md_acme_authz.h"
#include "../../md_clock.h"
#include "../../md_text.h"

#define DAY apr_time_from_sec(24 * 3600)

fake_ca_t fake_ca;

static void need(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fake CA: %s\n", what);
    abort();
}

static apr_time_t date(void)
{
    return fake_ca.epoch + md_clock_steady();
}

static int is_unknown_yet(apr_time_t made_at)
{
    return date() - made_at < fake_ca.lag;
}

int fake_ca_count(const char *kind, const char *name)
{
    int i, count = 0;

    for (i = 0; i < fake_ca.logged; ++i)
        count += (!kind || !strcmp(fake_ca.log[i].kind, kind))
                 && (!name || !strcmp(fake_ca.log[i].name, name));
    return count;
}

/* ---- certificates ---- */

static X509_EXTENSION *make_ext(int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    need(ext != NULL, value);
    return ext;
}

/* The id of the key that signs. */
static void add_issuer(X509 *x509)
{
    AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();

    id->keyid = ASN1_OCTET_STRING_new();
    need(ASN1_OCTET_STRING_set(id->keyid, (const unsigned char *)"fake", 4)
         && X509_add1_ext_i2d(x509, NID_authority_key_identifier, id, 0, 0), "key id");
    AUTHORITY_KEYID_free(id);
}

/* Takes over `ext`. */
static X509 *make_cert(EVP_PKEY *key, X509_EXTENSION *ext, apr_time_t from, apr_time_t to)
{
    time_t begins = (time_t)apr_time_sec(from), ends = (time_t)apr_time_sec(to);
    X509 *x509 = X509_new();

    need(X509_set_version(x509, 2)
         && ASN1_INTEGER_set(X509_get_serialNumber(x509), fake_ca.issued + 1)
         && X509_NAME_add_entry_by_txt(X509_get_issuer_name(x509), "CN", MBSTRING_ASC,
                                       (const unsigned char *)"A CA", -1, -1, 0)
         && X509_time_adj_ex(X509_getm_notBefore(x509), 0, 0, &begins)
         && X509_time_adj_ex(X509_getm_notAfter(x509), 0, 0, &ends)
         && X509_set_pubkey(x509, key) && X509_add_ext(x509, ext, -1), "certificate");
    X509_EXTENSION_free(ext);
    add_issuer(x509);
    return x509;
}

static void make_issuer(void)
{
    fake_ca.key = EVP_EC_gen("P-256");
    fake_ca.cert = make_cert(fake_ca.key, make_ext(NID_basic_constraints, "critical,CA:TRUE"),
                             date() - 365 * DAY, date() + 3650 * DAY);
    need(X509_set_subject_name(fake_ca.cert, X509_get_issuer_name(fake_ca.cert))
         && X509_sign(fake_ca.cert, fake_ca.key, EVP_sha256()) > 0, "issuer");
}

static const char *sign(X509 *x509, apr_pool_t *p)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *pem;
    char *data;
    long len;

    need(X509_sign(x509, fake_ca.key, EVP_sha256()) && PEM_write_bio_X509(bio, x509)
         && PEM_write_bio_X509(bio, fake_ca.cert), "chain");
    len = BIO_get_mem_data(bio, &data);
    pem = apr_pstrmemdup(p, data, (apr_size_t)len);
    BIO_free(bio);
    X509_free(x509);
    return pem;
}

static void remember(const char *name, apr_time_t from, apr_time_t to)
{
    fake_cert_t *cert = &fake_ca.certs[fake_ca.issued++];

    need(fake_ca.issued < FAKE_CERTS, "too many certificates");
    apr_cpystrn(cert->name, name, sizeof(cert->name));
    cert->from = from;
    cert->to = to;
}

const char *fake_ca_issue(const char *name, EVP_PKEY *key, apr_time_t from, apr_time_t to,
                          apr_pool_t *p)
{
    const char *san = apr_pstrcat(p, "DNS:", name, NULL);
    X509 *x509 = make_cert(key, make_ext(NID_subject_alt_name, san), from, to);

    remember(name, from, to);
    return sign(x509, p);
}

/* With the key and the names of the request, and nothing else of it, such as must-staple. */
static const char *issue(const fake_order_t *order, apr_pool_t *p)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(order->csr);
    int at = X509v3_get_ext_by_NID(exts, NID_subject_alt_name, -1);
    X509_EXTENSION *names = at < 0 ? NULL : sk_X509_EXTENSION_delete(exts, at);
    apr_time_t from = order->issued_at, to = from + fake_ca.lifetime;
    X509 *x509;

    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    need(names != NULL, "a CSR without names");
    x509 = make_cert(X509_REQ_get0_pubkey(order->csr), names, from, to);
    remember(order->name, from, to);
    return sign(x509, p);
}

void fake_ca_start(apr_time_t now)
{
    int i;

    for (i = 0; i < fake_ca.count; ++i)
        X509_REQ_free(fake_ca.orders[i].csr);
    X509_free(fake_ca.cert);
    EVP_PKEY_free(fake_ca.key);
    if (fake_ca.p)
        apr_pool_destroy(fake_ca.p);
    memset(&fake_ca, 0, sizeof(fake_ca));
    apr_pool_create(&fake_ca.p, NULL);
    fake_ca.epoch = now - md_clock_steady();
    fake_ca.lifetime = 90 * DAY;
    fake_ca.nonces = apr_hash_make(fake_ca.p);
    make_issuer();
}

/* ---- what a request asks for, and how it is answered ---- */

typedef struct call_t {
    fake_answer_t *answer;
    const md_request_t *request;
    const char *base, *kind;
    int id;                    /* in its URL: of an account, an order, or a name of an order */
    md_json_t *protected, *payload;
    int acct;                  /* that signs; -1: a bare key */
    fake_order_t *order;       /* that it is about, or NULL */
    int name;                  /* of the order */
    const fake_cert_t *cert;   /* that it is about, or NULL */
    apr_pool_t *p;
} call_t;

static void answer_json(const call_t *call, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void answer_json(const call_t *call, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    call->answer->status = status;
    call->answer->type = "application/json";
    call->answer->body = apr_pvsprintf(call->p, format, args);
    va_end(args);
}

static void refuse(const call_t *call, int status, const char *problem)
{
    answer_json(call, status, "%s", problem);
    call->answer->type = "application/problem+json";
}

static void locate(const call_t *call, const char *kind, int id)
{
    call->answer->headers = apr_psprintf(call->p, "Location: %s/%s/%d", call->base, kind, id);
}

/* ---- accounts ---- */

static void directory(call_t *call)
{
    answer_json(call, 200, "{\"newNonce\":\"%s/nonce\",\"newAccount\":\"%s/new-acct\","
                "\"newOrder\":\"%s/new-order\"%s}", call->base, call->base, call->base,
                fake_ca.ari_to ? apr_psprintf(call->p, ",\"renewalInfo\":\"%s/ari\"", call->base)
                               : "");
}

static void new_nonce(call_t *call)
{
    call->answer->status = 200;
}

static void show_acct(call_t *call, int status, int id)
{
    locate(call, "acct", id);
    answer_json(call, status, "{\"status\":\"valid\",\"contact\":[\"mailto:a@example.org\"]}");
}

static void new_acct(call_t *call)
{
    const char *jwk = md_json_text(md_json_get(call->protected, "jwk", call->p), 1, call->p);
    fake_acct_t *acct = fake_ca.accts;
    int i;

    need(jwk != NULL, "newAccount without a key");
    for (i = 0; i < fake_ca.accounts && strcmp(acct[i].jwk, jwk); ++i)
        ;
    if (i < fake_ca.accounts && acct[i].is_deactivated)
        refuse(call, 403, FAKE_PROBLEM("unauthorized", "the account is deactivated"));
    else if (i < fake_ca.accounts)
        show_acct(call, 200, i);
    else if (md_json_get_bool(call->payload, "onlyReturnExisting"))
        refuse(call, 400, FAKE_PROBLEM("accountDoesNotExist", "no account has this key"));
    else {
        need(i < FAKE_ACCOUNTS, "too many accounts");
        acct[i] = (fake_acct_t){ .jwk = apr_pstrdup(fake_ca.p, jwk), .made_at = date() };
        ++fake_ca.accounts;
        show_acct(call, 201, i);
    }
}

static void get_acct(call_t *call)
{
    show_acct(call, 200, call->id);
}

/* ---- orders ---- */

static int index_of(const fake_order_t *order)
{
    return (int)(order - fake_ca.orders);
}

static const char *status_of(const fake_order_t *order)
{
    if (order->problem || order->is_invalid)
        return "invalid";
    if (order->failure || order->proven != (1 << order->count) - 1)
        return "pending";
    if (!order->csr)
        return "ready";
    return date() < order->issued_at ? "processing" : "valid";
}

static const char *error_of(const char *problem, apr_pool_t *p)
{
    return problem ? apr_pstrcat(p, ",\"error\":", problem, NULL) : "";
}

static void show_order(call_t *call, int status, const fake_order_t *order)
{
    const char *now = status_of(order), *authzs = "", *names = "", *comma = "";
    int i = index_of(order), k;

    for (k = 0; k < order->count; ++k) {
        authzs = apr_psprintf(call->p, "%s%s\"%s/authz/%d\"", authzs, comma, call->base,
                              i * FAKE_NAMES + k);
        names = apr_psprintf(call->p, "%s%s{\"type\":\"dns\",\"value\":\"%s\"}", names, comma,
                             order->names[k]);
        comma = ",";
    }
    answer_json(call, status, "{\"status\":\"%s\",\"identifiers\":[%s],\"authorizations\":[%s],"
                "\"finalize\":\"%s/finalize/%d\"%s%s}", now, names, authzs, call->base, i,
                strcmp(now, "valid") ? ""
                    : apr_psprintf(call->p, ",\"certificate\":\"%s/cert/%d\"", call->base, i),
                error_of(order->problem, call->p));
}

/* What is ordered. */
static fake_order_t wish_of(const call_t *call)
{
    md_json_t *list = md_json_get(call->payload, "identifiers", call->p);
    fake_order_t order = { .count = (int)md_json_size(list), .made_at = date(),
                           .validation = fake_ca.validation };
    const char *replaces = md_json_get_str(call->payload, "replaces");
    int k;

    need(order.count > 0 && order.count <= FAKE_NAMES, "an order for so many names");
    for (k = 0; k < order.count; ++k)
        order.names[k] = apr_pstrdup(fake_ca.p, md_json_get_str(md_json_at(list, k, call->p),
                                                                "value"));
    apr_cpystrn(order.name, order.names[0], sizeof(order.name));
    order.replaces = apr_pstrdup(fake_ca.p, replaces);
    return order;
}

static void new_order(call_t *call)
{
    fake_order_t *order = &fake_ca.orders[fake_ca.count];

    need(fake_ca.count < FAKE_ORDERS, "too many orders");
    ++fake_ca.count;
    *order = *call->order;
    order->acct = call->acct;
    locate(call, "order", index_of(order));
    show_order(call, 201, order);
}

static void get_order(call_t *call)
{
    show_order(call, 200, call->order);
}

/* ---- authorizations ---- */

/* Is the answer where the server would serve it from? */
static int is_served(const fake_order_t *order, int k, apr_pool_t *p)
{
    const char *token = apr_psprintf(p, "token%d.", index_of(order) * FAKE_NAMES + k), *text;
    apr_size_t len;

    return md_store_load_text(&text, &len, fake_ca.store, MD_STORE_CHALLENGES, order->names[k],
                              MD_HTTP01_FILE, 1000, NULL, p) == APR_SUCCESS
           && !strncmp(text, token, strlen(token));
}

/* What was answered long enough ago. */
static void validate(fake_order_t *order, apr_pool_t *p)
{
    int k;

    for (k = 0; k < order->count; ++k) {
        if (order->proven >> k & 1 || !order->answered_at[k]
            || date() < order->answered_at[k] + order->validation)
            continue;
        order->proven |= 1 << k;
        if (fake_ca.store && !is_served(order, k, p))
            order->problem = FAKE_PROBLEM("unauthorized", "another token");
    }
}

static const char *challenge(const call_t *call)
{
    const fake_order_t *order = call->order;
    const char *problem = order->problem ? order->problem : order->failure;
    const char *status = problem ? "invalid" : order->proven >> call->name & 1 ? "valid"
                         : order->answered_at[call->name] ? "processing" : "pending";

    return apr_psprintf(call->p, "{\"type\":\"%s\",\"url\":\"%s/chall/%d\",\"token\":"
                        "\"token%d\",\"status\":\"%s\"%s}",
                        fake_ca.type ? fake_ca.type : "http-01", call->base, call->id, call->id,
                        status, error_of(problem, call->p));
}

static void get_authz(call_t *call)
{
    const fake_order_t *order = call->order;
    const char *name = order->names[call->name];
    int is_wildcard = !strncmp(name, "*.", 2);
    const char *status = order->problem ? "invalid" : order->failure ? "pending"
                         : order->proven >> call->name & 1 ? "valid" : "pending";

    answer_json(call, 200, "{\"status\":\"%s\",\"identifier\":{\"type\":\"dns\",\"value\":\"%s\"},"
                "\"challenges\":[%s]%s}", status, is_wildcard ? name + 2 : name, challenge(call),
                is_wildcard ? ",\"wildcard\":true" : "");
}

static void answer_challenge(call_t *call)
{
    fake_order_t *order = call->order;

    if (!order->answered_at[call->name])
        order->answered_at[call->name] = date();
    answer_json(call, 200, "%s", challenge(call));
    validate(order, call->p);
}

/* ---- certificates of orders ---- */

static X509_REQ *csr_of(const call_t *call)
{
    const char *text = md_json_get_str(call->payload, "csr");
    const unsigned char *der;
    unsigned char *data;
    apr_size_t len = md_base64url_decode(&data, text ? text : "", call->p);

    der = data;
    return len ? d2i_X509_REQ(NULL, &der, (long)len) : NULL;
}

static void finalize(call_t *call)
{
    fake_order_t *order = call->order;

    if (strcmp(status_of(order), "ready")) {
        refuse(call, 403, FAKE_PROBLEM("orderNotReady", "the order is not ready"));
        return;
    }
    order->csr = csr_of(call);
    need(order->csr != NULL, "no CSR");
    order->issued_at = date() + fake_ca.processing;
    show_order(call, 200, order);
}

static void get_cert(call_t *call)
{
    need(!strcmp(status_of(call->order), "valid"), "a certificate that there is not");
    answer_json(call, 200, "%s", issue(call->order, call->p));
    call->answer->type = "application/pem-certificate-chain";
}

/* ---- renewal information ---- */

static const char *rfc3339(apr_time_t t, apr_pool_t *p)
{
    apr_time_exp_t x;

    apr_time_exp_gmt(&x, t);
    return apr_psprintf(p, "%04d-%02d-%02dT%02d:%02d:%02dZ", x.tm_year + 1900, x.tm_mon + 1,
                        x.tm_mday, x.tm_hour, x.tm_min, x.tm_sec);
}

static void renewal_info(call_t *call)
{
    const fake_cert_t *cert = call->cert;
    apr_interval_time_t lifetime = cert->to - cert->from;

    if (date() >= cert->to) {
        refuse(call, 404, FAKE_PROBLEM("malformed", "the certificate has ended"));
        return;
    }
    answer_json(call, 200, "{\"suggestedWindow\":{\"start\":\"%s\",\"end\":\"%s\"}}",
                rfc3339(cert->from + lifetime * fake_ca.ari_from / 100, call->p),
                rfc3339(cert->from + lifetime * fake_ca.ari_to / 100, call->p));
    if (fake_ca.ari_retry_after)
        call->answer->headers = apr_psprintf(call->p, "Retry-After: %d", fake_ca.ari_retry_after);
}

/* By the serial number in the id (RFC 9773 4.1). */
static const fake_cert_t *find_cert(const call_t *call)
{
    const char *text = strrchr(call->request->url, '.');
    apr_size_t len, i;
    unsigned char *octets;
    int serial = 0;

    len = md_base64url_decode(&octets, text ? text + 1 : "", call->p);
    for (i = 0; i < len; ++i)
        serial = serial * 256 + octets[i];
    need(serial > 0 && serial <= fake_ca.issued, "no certificate has this id");
    return &fake_ca.certs[serial - 1];
}

/* ---- requests ---- */

typedef void handler_t(call_t *call);

static const struct route_t {
    const char *kind;
    int is_signed;
    int about;     /* how many of its ids are of an order; 0: it is about none that there is */
    handler_t *handle;
} ROUTES[] = {
    { "dir", 0, 0, directory },
    { "nonce", 0, 0, new_nonce },
    { "new-acct", 1, 0, new_acct },
    { "acct", 1, 0, get_acct },
    { "new-order", 1, 0, new_order },
    { "order", 1, 1, get_order },
    { "authz", 1, FAKE_NAMES, get_authz },
    { "chall", 1, FAKE_NAMES, answer_challenge },
    { "finalize", 1, 1, finalize },
    { "cert", 1, 1, get_cert },
    { "ari", 0, 0, renewal_info },
};
#define ROUTE_COUNT (sizeof(ROUTES) / sizeof(ROUTES[0]))

static const struct route_t *find_route(const char *kind)
{
    size_t i;

    for (i = 0; i < ROUTE_COUNT && strcmp(ROUTES[i].kind, kind); ++i)
        ;
    need(i < ROUTE_COUNT, kind);
    return &ROUTES[i];
}

/* By the form of its URL. */
static void read_url(call_t *call)
{
    const char *url = call->request->url, *path = strchr(url + strlen("https://"), '/');
    const char *id = strchr(path + 1, '/');
    apr_size_t len = strcspn(path + 1, "/");

    call->base = apr_pstrmemdup(call->p, url, (apr_size_t)(path - url));
    call->kind = apr_pstrmemdup(call->p, path + 1, len);
    call->id = id ? atoi(id + 1) : 0;
}

static md_json_t *part(const md_json_t *jws, const char *member, apr_pool_t *p)
{
    unsigned char *text;
    md_json_t *json = NULL;
    apr_size_t len;

    len = md_base64url_decode(&text, md_json_get_str(jws, member), p);
    if (len && md_json_parse(&json, (const char *)text, len, NULL, p) != APR_SUCCESS)
        json = NULL;
    return json;
}

static void read_jws(call_t *call)
{
    const char *body = call->request->body, *kid;
    md_json_t *jws;

    need(body && md_json_parse(&jws, body, strlen(body), NULL, call->p) == APR_SUCCESS, "no JWS");
    call->protected = part(jws, "protected", call->p);
    call->payload = part(jws, "payload", call->p);
    need(md_text_same(md_json_get_str(call->protected, "url"), call->request->url),
         "a JWS for another URL");
    kid = md_json_get_str(call->protected, "kid");
    call->acct = kid ? atoi(strrchr(kid, '/') + 1) : -1;
    need((call->acct >= 0) == (strcmp(call->kind, "new-acct") != 0), "signed with a wrong key");
    need(call->acct < fake_ca.accounts, "an account that was never made");
}

/* `wish` takes what is not an order yet. */
static void find_order(call_t *call, const struct route_t *route, fake_order_t *wish)
{
    if (!strcmp(call->kind, "new-order")) {
        *wish = wish_of(call);
        call->order = wish;
    }
    else if (route->about) {
        need(call->id >= 0 && call->id / route->about < FAKE_ORDERS, "too many orders");
        call->order = &fake_ca.orders[call->id / route->about];
        call->name = call->id % route->about;
    }
}

static void note(const call_t *call)
{
    const char *name = call->order ? call->order->name : call->cert->name;

    need(fake_ca.logged < FAKE_LOG, "too many requests");
    apr_cpystrn(fake_ca.log[fake_ca.logged].kind, call->kind, sizeof(fake_ca.log[0].kind));
    apr_cpystrn(fake_ca.log[fake_ca.logged].name, name, sizeof(fake_ca.log[0].name));
    fake_ca.log[fake_ca.logged++].at = md_clock_steady();
}

/* Each serves once. 0: refused. */
static int is_nonce_good(const call_t *call)
{
    const char *nonce = md_json_get_str(call->protected, "nonce");

    need(nonce != NULL, "no nonce");
    if (apr_hash_get(fake_ca.nonces, nonce, APR_HASH_KEY_STRING)) {
        refuse(call, 400, FAKE_PROBLEM("badNonce", "the nonce was used before"));
        return 0;
    }
    nonce = apr_pstrdup(fake_ca.p, nonce);
    apr_hash_set(fake_ca.nonces, nonce, APR_HASH_KEY_STRING, nonce);
    return 1;
}

/* Whatever the signature is. 0: refused. */
static int is_account_good(const call_t *call)
{
    const fake_acct_t *acct = &fake_ca.accts[call->acct];

    if (acct->is_deactivated)
        refuse(call, 403, FAKE_PROBLEM("unauthorized", "the account is deactivated"));
    else if (is_unknown_yet(acct->made_at))
        refuse(call, 400, FAKE_PROBLEM("accountDoesNotExist", "there is no such account"));
    else
        return 1;
    return 0;
}

/* 0: refused. */
static int is_order_good(const call_t *call)
{
    need(index_of(call->order) < fake_ca.count && call->name < call->order->count,
         "an order that was never made");
    if (call->order->acct != call->acct)
        refuse(call, 403, FAKE_PROBLEM("unauthorized", "the order is another account's"));
    else if (is_unknown_yet(call->order->made_at))
        refuse(call, 404, FAKE_PROBLEM("malformed", "there is no such order"));
    else
        return 1;
    return 0;
}

int fake_ca_serve(fake_answer_t *answer, const md_request_t *request, apr_pool_t *p)
{
    call_t call = { .answer = answer, .request = request, .acct = -1, .p = p };
    const struct route_t *route;
    fake_order_t wish;

    read_url(&call);
    route = find_route(call.kind);
    if (route->is_signed)
        read_jws(&call);
    find_order(&call, route, &wish);
    if (!strcmp(call.kind, "ari"))
        call.cert = find_cert(&call);
    if (call.order || call.cert)
        note(&call);
    answer->status = 200;
    if (fake_ca.refuse && fake_ca.refuse(answer, call.kind, call.order, p))
        return 1;
    if ((route->is_signed && !is_nonce_good(&call)) || (call.acct >= 0 && !is_account_good(&call))
        || (route->about && !is_order_good(&call)))
        return 1;
    if (route->about)
        validate(call.order, p);
    route->handle(&call);
    return 1;
}
