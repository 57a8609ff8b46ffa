/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and certificates that we make ourselves. */
#ifndef MD_CSR_H
#define MD_CSR_H

#include "md_cert.h"
#include "md_text.h"

/* PKCS#10 as base64url of the DER (RFC 8555 7.4) for a list of md_identifier_t: CN = the first one
 * if that is a name shorter than 64 characters, SAN with all, with `must_staple` the TLS feature
 * extension (RFC 7633), signed with SHA-256. */
MD_MUST_CHECK
apr_status_t md_csr_make(const char **pcsr, const apr_array_header_t *identifiers,
                         int must_staple, const md_key_t *key, md_err_t *err, apr_pool_t *p);

/* Self-signed temporary certificate: CN `Apache Managed Domain Fallback`, all names, valid from now
 * for 14 days, serverAuth. */
MD_MUST_CHECK
apr_status_t md_cert_make_fallback(md_cert_t **pcert, const apr_array_header_t *names,
                                   const md_key_t *key, md_err_t *err, apr_pool_t *p);

/* tls-alpn-01 certificate (RFC 8737 3, RFC 8738 6) for an identifier; `digest`: SHA-256 of the key
 * authorization. */
MD_MUST_CHECK
apr_status_t md_cert_make_alpn(md_cert_t **pcert, const md_identifier_t *identifier,
                               const unsigned char digest[32], const md_key_t *key,
                               md_err_t *err, apr_pool_t *p);

#endif
