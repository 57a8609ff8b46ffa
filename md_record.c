/* SPDX-License-Identifier: Apache-2.0 */
/* Records: made, and read by who trusts nobody. */
#include "md_record.h"

#include <string.h>

#include <apr_strings.h>

#include "md_text.h"

#define NAME_MOST   64
#define DIGITS_MOST 9

apr_array_header_t *md_record_make(apr_pool_t *p)
{
    return md_strings_make(p);
}

void md_record_add(apr_array_header_t *record, const char *name, const char *text)
{
    if (!text)
        return;
    APR_ARRAY_PUSH(record, const char *) = apr_psprintf(record->pool, "%s %lu\n", name,
                                                        (unsigned long)strlen(text));
    APR_ARRAY_PUSH(record, const char *) = text;
    APR_ARRAY_PUSH(record, const char *) = "\n";
}

char *md_record_text(const apr_array_header_t *record, apr_pool_t *p)
{
    return apr_array_pstrcat(p, record, '\0');
}

static int is_plain(const char *text)
{
    for (; *text; ++text)
        if ((unsigned char)*text < ' ')
            return 0;
    return 1;
}

static apr_status_t check(const md_piece_t *piece, const char *text, apr_size_t len,
                          md_err_t *err)
{
    if (strlen(text) != len)
        return md_fail(err, APR_EINVAL, "%s has a NUL in it", piece->name);
    if (piece->label ? !md_text_is_pem(text, piece->label, piece->blocks) : !is_plain(text))
        return md_fail(err, APR_EINVAL, "%s is not %s", piece->name,
                       piece->label ? "PEM of that kind" : "a line of text");
    return APR_SUCCESS;
}

/* Where the number of bytes at *pat ends, NULL if there is none. */
static char *read_number(apr_size_t *pnumber, char *at, const char *end)
{
    char *begin = at;

    *pnumber = 0;
    for (; at < end && *at >= '0' && *at <= '9' && at - begin < DIGITS_MOST; ++at)
        *pnumber = *pnumber * 10 + (apr_size_t)(*at - '0');
    return at == begin ? NULL : at;
}

static int find(const md_piece_t *pieces, const char *name, apr_size_t len)
{
    int i;

    for (i = 0; pieces[i].name; ++i)
        if (strlen(pieces[i].name) == len && !memcmp(pieces[i].name, name, len))
            return i;
    return -1;
}

/* The piece at *pat, which is behind it afterwards. */
static apr_status_t take_piece(const char **values, const md_piece_t *pieces, char **pat,
                               const char *end, md_err_t *err)
{
    apr_size_t most = (apr_size_t)(end - *pat), len;
    char *blank = memchr(*pat, ' ', most < NAME_MOST ? most : NAME_MOST), *text;
    int i = blank ? find(pieces, *pat, (apr_size_t)(blank - *pat)) : -1;

    if (i < 0)
        return md_fail(err, APR_EINVAL, "it has a piece that is not known");
    text = read_number(&len, blank + 1, end);
    if (!text || text == end || *text++ != '\n')
        return md_fail(err, APR_EINVAL, "%s has no length", pieces[i].name);
    if (len > pieces[i].max)
        return md_fail(err, APR_EINVAL, "%s has %lu bytes, of %lu at most", pieces[i].name,
                       (unsigned long)len, (unsigned long)pieces[i].max);
    if (len >= (apr_size_t)(end - text) || text[len] != '\n')
        return md_fail(err, APR_EINVAL, "%s is cut off", pieces[i].name);
    if (values[i])
        return md_fail(err, APR_EINVAL, "%s is there twice", pieces[i].name);
    text[len] = '\0';
    values[i] = text;
    *pat = text + len + 1;
    return check(&pieces[i], text, len, err);
}

apr_status_t md_record_parse(const char **values, const md_piece_t *pieces, char *data,
                             apr_size_t len, md_err_t *err)
{
    const char *end = data + len;
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; pieces[i].name; ++i)
        values[i] = NULL;
    while (data < end && rv == APR_SUCCESS)
        rv = take_piece(values, pieces, &data, end, err);
    for (i = 0; pieces[i].name && rv == APR_SUCCESS; ++i)
        if (pieces[i].is_needed && !values[i])
            rv = md_fail(err, APR_EINVAL, "%s is missing", pieces[i].name);
    return rv;
}
