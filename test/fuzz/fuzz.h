/* SPDX-License-Identifier: Apache-2.0 */
/* What all fuzz targets share. A target is one file that defines fuzz_one, and fuzz_start where it
 * needs something for the life of the process. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>

#include "../../md_err.h"
#include "../../md_store.h"

/* Once, before all inputs. `p` lives as long as the process. */
void fuzz_start(apr_pool_t *p) __attribute__((weak));

/* Give an input to a parser. There is a NUL behind its `len` bytes. All that is taken from `p` ends
 * with this input. */
void fuzz_one(const char *data, size_t len, apr_pool_t *p);

/* What must be true whatever the input is: else the process ends as from a crash. */
#define holds(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition))
void fuzz_fail(const char *file, int line, const char *condition) __attribute__((noreturn));

/* An empty error record. */
md_err_t fuzz_err(apr_pool_t *p);

/* The number that apr_status_t means, with its record: every failure that has one tells why. */
#define holds_with(rv, err) holds((rv) == APR_SUCCESS || (err)->rv == APR_SUCCESS \
                                  || ((err)->rv == (rv) && (err)->detail))

/* Inputs that have several parts: a line of three dashes stands between them. Takes the next one,
 * with a NUL behind it; NULL when there are no more. */
typedef struct fuzz_parts_t {
    const char *at, *end;
} fuzz_parts_t;
const char *fuzz_part(size_t *plen, fuzz_parts_t *parts, apr_pool_t *p);

/* The same for lines of one part. */
const char *fuzz_line(const char **ptext, apr_pool_t *p);

/* An empty directory, removed with the process. */
const char *fuzz_dir(void);

/* A file below it whose directory is there. */
const char *fuzz_file(const char *path, const char *data, size_t len, apr_pool_t *p);

/* A store below it, for the life of `p`. */
md_store_t *fuzz_store(apr_pool_t *p);

/* A private key that is the same in each process, and the certificate of a CA for it and for
 * one.example.org, valid until 2120. */
const char *fuzz_key_pem(void);
const char *fuzz_cert_pem(void);
const md_key_t *fuzz_key(void);

/* An input that begins as DER does, as PEM blocks of that kind: base64 lets few changes through.
 * Any other stays as it is. */
const char *fuzz_pem(const char *kind, const char *data, size_t *plen, apr_pool_t *p);

#endif
