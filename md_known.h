/* SPDX-License-Identifier: Apache-2.0 */
/* What was found in pairs of certificate and key, for as long as their files are unchanged. A
 * server that reloads is the same process: what it read and verified before costs two stat(2) a
 * pair, and once more its content where that was new at the time. For one thread, that of a
 * start. */
#ifndef MD_KNOWN_H
#define MD_KNOWN_H

#include "md_cert.h"
#include "md_file.h"

#define MD_PAIR_DIGEST 64 /* bytes */

typedef struct md_known_t md_known_t;

/* A pair of files, as it is before it is read. */
typedef struct md_pair_t {
    const char *cert_file, *key_file; /* paths */
    md_file_version_t cert, key;
    int is_settled;                   /* no change can look like this version */
    int has_digest;
    unsigned char digest[MD_PAIR_DIGEST];
} md_pair_t;

/* What `process` pool has from starts before, of this version of the software; what its pairs point
 * to is valid until the next call. */
md_known_t *md_known_open(apr_pool_t *process);

/* What the certificate says when the pair was found to fit before, else NULL. Fills in all of
 * `pair` but the paths. `known` may be NULL. */
const md_cert_info_t *md_known_find(md_known_t *known, md_pair_t *pair, apr_time_t now);

/* The pair, as md_known_find saw it, fits. Returns what the certificate says, in `p` if that is not
 * kept. */
const md_cert_info_t *md_known_keep(md_known_t *known, const md_pair_t *pair,
                                    const md_cert_t *cert, apr_pool_t *p);

#endif
