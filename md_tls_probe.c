/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS client that wants to know what is there, and nothing more. */
#include "md_tls_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include <apr_strings.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "md_clock.h"

#define TICK 100 /* milliseconds: how soon a stop is seen */
#define DIGEST_SIZE 32

/* What ends the waiting. */
typedef struct wait_t {
    int fd;
    apr_time_t until;          /* steady */
    int (*is_stopped)(void *baton);
    void *baton;
} wait_t;

/* Until it is ready for these events of poll(). */
static apr_status_t await(const wait_t *wait, short events)
{
    struct pollfd ready = { .fd = wait->fd, .events = events };
    int rc = 0;

    while (rc == 0 || (rc < 0 && errno == EINTR)) {
        if (wait->is_stopped(wait->baton))
            return APR_EINTR;
        if (md_clock_steady() >= wait->until)
            return APR_TIMEUP;
        rc = poll(&ready, 1, TICK);
    }
    return rc < 0 ? errno : APR_SUCCESS;
}

static socklen_t make_address(struct sockaddr_storage *at, const char *address, int port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)at;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)at;

    memset(at, 0, sizeof(*at));
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((unsigned short)port);
        return sizeof(*v4);
    }
    if (inet_pton(AF_INET6, address, &v6->sin6_addr) != 1)
        return 0;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((unsigned short)port);
    return sizeof(*v6);
}

static apr_status_t connect_to(wait_t *wait, const char *address, int port)
{
    struct sockaddr_storage at;
    socklen_t size = make_address(&at, address, port), error_size = sizeof(int);
    apr_status_t rv;
    int error = 0;

    if (!size)
        return APR_EINVAL;
    wait->fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (wait->fd < 0)
        return errno;
    if (connect(wait->fd, (struct sockaddr *)&at, size) == 0)
        return APR_SUCCESS;
    if (errno != EINPROGRESS)
        return errno;
    rv = await(wait, POLLOUT);
    if (rv == APR_SUCCESS && getsockopt(wait->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) == 0)
        rv = error;
    return rv;
}

static apr_status_t shake_hands(SSL *ssl, const wait_t *wait)
{
    apr_status_t rv = APR_SUCCESS;
    int rc;

    while (rv == APR_SUCCESS) {
        ERR_clear_error();
        rc = SSL_connect(ssl);
        if (rc == 1)
            return APR_SUCCESS;
        switch (SSL_get_error(ssl, rc)) {
        case SSL_ERROR_WANT_READ:
            rv = await(wait, POLLIN);
            break;
        case SSL_ERROR_WANT_WRITE:
            rv = await(wait, POLLOUT);
            break;
        default:
            rv = APR_EGENERAL;
        }
    }
    return rv;
}

static int agreed(SSL *ssl, const char *protocol)
{
    const unsigned char *chosen;
    unsigned len;

    SSL_get0_alpn_selected(ssl, &chosen, &len);
    return len == strlen(protocol) && !memcmp(chosen, protocol, len);
}

/* RFC 8737 3: an extension with an OCTET STRING that is the digest. */
static int shows_digest(SSL *ssl, const unsigned char digest[DIGEST_SIZE])
{
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
    X509 *cert = SSL_get1_peer_certificate(ssl);
    const ASN1_OCTET_STRING *data;
    int at, found = 0;

    at = cert && oid ? X509_get_ext_by_OBJ(cert, oid, -1) : -1;
    if (at >= 0) {
        data = X509_EXTENSION_get_data(X509_get_ext(cert, at));
        found = ASN1_STRING_length(data) == DIGEST_SIZE + 2
                && !memcmp(ASN1_STRING_get0_data(data) + 2, digest, DIGEST_SIZE);
    }
    X509_free(cert);
    ASN1_OBJECT_free(oid);
    return found;
}

static int make_session(SSL_CTX **pctx, SSL **pssl, const wait_t *wait, const char *name,
                        const char *protocol)
{
    char host[256]; /* OpenSSL's macro is not for constants */
    unsigned char offer[256];
    size_t len = strlen(protocol);

    *pssl = NULL;
    *pctx = SSL_CTX_new(TLS_client_method());
    if (!*pctx || len > 254)
        return 0;
    offer[0] = (unsigned char)len;
    memcpy(offer + 1, protocol, len);
    apr_cpystrn(host, name, sizeof(host));
    SSL_CTX_set_verify(*pctx, SSL_VERIFY_NONE, NULL);
    *pssl = SSL_new(*pctx);
    return *pssl && SSL_set_alpn_protos(*pssl, offer, (unsigned)len + 1) == 0
           && SSL_set_tlsext_host_name(*pssl, host) == 1 && SSL_set_fd(*pssl, wait->fd) == 1;
}

static apr_status_t look(md_tls_seen_t *seen, const wait_t *wait, const char *name,
                         const char *protocol, const unsigned char digest[DIGEST_SIZE])
{
    apr_status_t rv = APR_ENOMEM;
    SSL_CTX *ctx;
    SSL *ssl;

    if (make_session(&ctx, &ssl, wait, name, protocol))
        rv = shake_hands(ssl, wait);
    if (rv == APR_SUCCESS) {
        seen->has_protocol = agreed(ssl, protocol);
        seen->has_digest = shows_digest(ssl, digest);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return rv;
}

apr_status_t md_tls_probe(md_tls_seen_t *seen, const char *address, int port, const char *name,
                          const char *protocol, const unsigned char digest[DIGEST_SIZE],
                          apr_interval_time_t limit, int (*is_stopped)(void *baton), void *baton,
                          md_err_t *err, apr_pool_t *p)
{
    wait_t wait = { .fd = -1, .until = md_clock_steady() + limit, .is_stopped = is_stopped,
                    .baton = baton };
    apr_status_t rv = connect_to(&wait, address, port);

    memset(seen, 0, sizeof(*seen));
    if (rv != APR_SUCCESS)
        md_fail(err, rv, "%s", md_err_text(rv, p));
    else {
        rv = look(seen, &wait, name, protocol, digest);
        if (rv != APR_SUCCESS)
            md_fail(err, rv, "%s", rv == APR_EGENERAL ? "the TLS handshake fails"
                                                      : md_err_text(rv, p));
    }
    if (wait.fd >= 0)
        close(wait.fd);
    return rv;
}
