/* SPDX-License-Identifier: Apache-2.0 */
/* What the first message of a TLS client says, in bytes that anybody may have made up. */
#ifndef MD_HELLO_H
#define MD_HELLO_H

#include <apr_tables.h>

/* The protocols that a ClientHello offers (RFC 7301 3.1), in its order, as array of `const char *`;
 * each ends at a NUL, if it has one, as it does for httpd. `message` is the whole handshake message
 * (RFC 8446 4, RFC 5246 7.4). NULL, without anything allocated, if `wanted` is not among them, or
 * if the message is malformed. */
apr_array_header_t *md_hello_protocols(const unsigned char *message, apr_size_t len,
                                       const char *wanted, apr_pool_t *p);

#endif
