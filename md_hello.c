/* SPDX-License-Identifier: Apache-2.0 */
/* ClientHello. */
#include "md_hello.h"

#include <string.h>

#include <apr_strings.h>

enum { CLIENT_HELLO = 1, EXTENSION_ALPN = 16 };

/* Bytes that are still to be read. */
typedef struct bytes_t {
    const unsigned char *at;
    apr_size_t left;
} bytes_t;

static int skip(bytes_t *from, apr_size_t count)
{
    if (count > from->left)
        return 0;
    from->at += count;
    from->left -= count;
    return 1;
}

/* A number of `width` bytes. */
static int take_number(apr_size_t *pnumber, bytes_t *from, apr_size_t width)
{
    const unsigned char *at = from->at;

    if (!skip(from, width))
        return 0;
    for (*pnumber = 0; at < from->at; ++at)
        *pnumber = *pnumber << 8 | *at;
    return 1;
}

/* A vector whose length is a number of `width` bytes (RFC 8446 3.4). */
static int take_vector(bytes_t *vector, bytes_t *from, apr_size_t width)
{
    apr_size_t len;

    if (!take_number(&len, from, width))
        return 0;
    *vector = (bytes_t){ from->at, len };
    return skip(from, len);
}

/* RFC 8446 4.1.2; all versions from TLS 1.0 on begin like that. */
static int take_extensions(bytes_t *extensions, bytes_t message)
{
    apr_size_t type;
    bytes_t body, unused;

    return take_number(&type, &message, 1) && type == CLIENT_HELLO
           && take_vector(&body, &message, 3) && message.left == 0
           && skip(&body, 2 + 32)            /* legacy_version, random */
           && take_vector(&unused, &body, 1) /* legacy_session_id */
           && take_vector(&unused, &body, 2) /* cipher_suites */
           && take_vector(&unused, &body, 1) /* legacy_compression_methods */
           && take_vector(extensions, &body, 2) && body.left == 0;
}

/* The ProtocolNameList (RFC 7301 3.1). A second one is for the TLS library to refuse. */
static int take_protocols(bytes_t *protocols, bytes_t extensions)
{
    apr_size_t type;
    bytes_t body;

    while (take_number(&type, &extensions, 2) && take_vector(&body, &extensions, 2))
        if (type == EXTENSION_ALPN)
            return take_vector(protocols, &body, 2) && body.left == 0;
    return 0;
}

static int is_protocol(bytes_t name, const char *protocol)
{
    apr_size_t len = strlen(protocol);

    return name.left >= len && !memcmp(name.at, protocol, len)
           && (name.left == len || name.at[len] == '\0');
}

static int has_protocol(bytes_t protocols, const char *wanted)
{
    int is_found = 0;
    bytes_t name;

    while (protocols.left > 0) {
        if (!take_vector(&name, &protocols, 1))
            return 0;
        is_found |= is_protocol(name, wanted);
    }
    return is_found;
}

apr_array_header_t *md_hello_protocols(const unsigned char *message, apr_size_t len,
                                       const char *wanted, apr_pool_t *p)
{
    apr_array_header_t *names;
    bytes_t extensions, protocols, name;

    if (!take_extensions(&extensions, (bytes_t){ message, len })
        || !take_protocols(&protocols, extensions) || !has_protocol(protocols, wanted))
        return NULL;
    names = apr_array_make(p, 1, sizeof(const char *));
    while (take_vector(&name, &protocols, 1))
        APR_ARRAY_PUSH(names, const char *) = apr_pstrndup(p, (const char *)name.at, name.left);
    return names;
}
