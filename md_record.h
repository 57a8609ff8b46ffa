/* SPDX-License-Identifier: Apache-2.0 */
/* Records: named pieces of text in one, as a process without rights hands them to one that takes
 * nothing for granted. A piece is `<name> <bytes>\n<text>\n`. */
#ifndef MD_RECORD_H
#define MD_RECORD_H

#include <apr_tables.h>

#include "md_err.h"

/* A piece that a record may have. A table of them ends with name NULL. */
typedef struct md_piece_t {
    const char *name;
    apr_size_t max;     /* bytes */
    const char *label;  /* PEM blocks of that kind; NULL: text without control characters */
    int blocks;         /* as many of them at most */
    int is_needed;
} md_piece_t;

/* A record in the making: its array, to which pieces are added (NULL: none); and the record. */
apr_array_header_t *md_record_make(apr_pool_t *p);
void md_record_add(apr_array_header_t *record, const char *name, const char *text);
char *md_record_text(const apr_array_header_t *record, apr_pool_t *p);

/* values[i] becomes the text of pieces[i], within `data`, which is changed, or NULL when it has no
 * such piece. There is a NUL behind the `len` bytes. APR_EINVAL for a piece that is not in the
 * table, is not what the table wants, comes twice or is cut off, and when one is missing that is
 * needed. */
MD_MUST_CHECK
apr_status_t md_record_parse(const char **values, const md_piece_t *pieces, char *data,
                             apr_size_t len, md_err_t *err);

#endif
