/* SPDX-License-Identifier: Apache-2.0 */
/* JSON documents bound to pools. A path is keys joined by '.', such as "ca.url"; functions named
 * _key take one key verbatim. Getters are NULL-safe: a missing or wrongly typed value reads as
 * absent.  Only md_json.c knows jansson. A document may be used by one thread at a time. */
#ifndef MD_JSON_H
#define MD_JSON_H

#include <apr_tables.h>

#include "md_err.h"

typedef struct md_json_t md_json_t;

md_json_t *md_json_object(apr_pool_t *p);
md_json_t *md_json_array(apr_pool_t *p);

/* Parse one object or array (nothing but blanks behind it, MD_MAX_JSON_DEPTH levels at most,
 * duplicate keys: the last wins). APR_EINVAL with line and reason otherwise. */
MD_MUST_CHECK
apr_status_t md_json_parse(md_json_t **pjson, const char *data, apr_size_t len, md_err_t *err,
                           apr_pool_t *p);

/* Two blanks of indentation, keys in order of insertion, no newline at the end; `compact`: one
 * line. NULL for NULL. */
const char *md_json_text(const md_json_t *json, int compact, apr_pool_t *p);

/* The same, not compact, for a terminal: of text nothing but printable ASCII, the rest escaped. */
const char *md_json_printable(const md_json_t *json, apr_pool_t *p);

/* What a document must be like to be of use. A table of them ends with path NULL. */
typedef enum { MD_JSON_STRING, MD_JSON_STRINGS, MD_JSON_NUMBER, MD_JSON_BOOL, MD_JSON_OBJECT
} md_json_kind_t;
typedef struct md_json_rule_t {
    const char *path;
    md_json_kind_t kind;
    int is_needed;      /* must be there; others may be missing */
} md_json_rule_t;

/* The first rule that `json` breaks as text in `p`, NULL if there is none. */
const char *md_json_misfit(const md_json_t *json, const md_json_rule_t *rules, apr_pool_t *p);

int md_json_equal(const md_json_t *a, const md_json_t *b);
int md_json_is_object(const md_json_t *json);
int md_json_is_array(const md_json_t *json);

/* Getters. Strings live as long as `json`. */
const char *md_json_get_str(const md_json_t *json, const char *path);   /* NULL if absent */
long md_json_get_int(const md_json_t *json, const char *path, long def);
double md_json_get_num(const md_json_t *json, const char *path, double def);
int md_json_get_bool(const md_json_t *json, const char *path);          /* 0 if absent */
apr_time_t md_json_get_time(const md_json_t *json, const char *path);   /* HTTP date, 0 if absent */
int md_json_has(const md_json_t *json, const char *path);

/* The value itself (shared with `json`, reference held by `p`), NULL if absent. */
md_json_t *md_json_get(const md_json_t *json, const char *path, apr_pool_t *p);

/* Array of `const char *` copied to `p`, other elements skipped; NULL if there is no array. */
apr_array_header_t *md_json_get_strings(const md_json_t *json, const char *path, apr_pool_t *p);

/* Elements of an array, or members of an object. */
apr_size_t md_json_size(const md_json_t *json);
md_json_t *md_json_at(const md_json_t *array, apr_size_t i, apr_pool_t *p);
/* Keys of an object in order, in `p`. */
apr_array_header_t *md_json_keys(const md_json_t *json, apr_pool_t *p);

/* Setters create the objects on the path. NULL strings, NULL values and times 0 leave the key out.
 * Text that is no UTF-8 has its offending bytes replaced by '?'. */
void md_json_set_str(md_json_t *json, const char *path, const char *s);
void md_json_set_int(md_json_t *json, const char *path, long n);
void md_json_set_num(md_json_t *json, const char *path, double n);
void md_json_set_bool(md_json_t *json, const char *path, int on);
void md_json_set_time(md_json_t *json, const char *path, apr_time_t t);
void md_json_set_strings(md_json_t *json, const char *path, const apr_array_header_t *list);
void md_json_set(md_json_t *json, const char *path, const md_json_t *value); /* shares value */
void md_json_set_key(md_json_t *json, const char *key, const md_json_t *value);
void md_json_append(md_json_t *array, const md_json_t *value);
void md_json_insert(md_json_t *array, apr_size_t i, const md_json_t *value);
void md_json_truncate(md_json_t *array, apr_size_t size); /* drop elements from `size` on */
void md_json_unset(md_json_t *json, const char *path);

#endif
