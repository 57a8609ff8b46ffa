/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS connection as a CA makes it for tls-alpn-01 (RFC 8737): what answers at an address? */
#ifndef MD_TLS_PROBE_H
#define MD_TLS_PROBE_H

#include "md_err.h"

typedef struct md_tls_seen_t {
    int has_protocol;         /* it agreed to the protocol that was offered */
    int has_digest;           /* its certificate has the acmeIdentifier with the digest */
} md_tls_seen_t;

/* Connect to `address` (IPv4 or IPv6) and `port`, ask for the host `name`, offer `protocol` alone.
 * Blocks for `limit` at most, and ends soon after `is_stopped` returns true. Nothing that the
 * server shows is trusted. APR_ECONNREFUSED and the like: nobody answers there; APR_EGENERAL: it
 * does not speak TLS, or refuses the protocol; APR_EINTR. */
MD_MUST_CHECK
apr_status_t md_tls_probe(md_tls_seen_t *seen, const char *address, int port, const char *name,
                          const char *protocol, const unsigned char digest[32],
                          apr_interval_time_t limit, int (*is_stopped)(void *baton), void *baton,
                          md_err_t *err, apr_pool_t *p);

#endif
