/* SPDX-License-Identifier: Apache-2.0 */
/* JSON by jansson. */
#include "md_json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include <jansson.h>

#include "md_limits.h"
#include "md_time.h"

struct md_json_t {
    json_t *j;
    apr_pool_t *p;
};

static apr_status_t json_cleanup(void *data)
{
    md_json_t *json = data;

    json_decref(json->j);
    return APR_SUCCESS;
}

/* Takes over the reference; NULL stays NULL. */
static md_json_t *wrap(json_t *j, apr_pool_t *p)
{
    md_json_t *json;

    if (!j)
        return NULL;
    json = apr_palloc(p, sizeof(*json));
    json->j = j;
    json->p = p;
    apr_pool_cleanup_register(p, json, json_cleanup, apr_pool_cleanup_null);
    return json;
}

md_json_t *md_json_object(apr_pool_t *p)
{
    return wrap(json_object(), p);
}

md_json_t *md_json_array(apr_pool_t *p)
{
    return wrap(json_array(), p);
}

/* jansson takes UTF-8 only; what is none came from outside and is not worth failing for. */
static json_t *string_of(const char *s)
{
    json_t *j = json_string(s);
    char *copy, *c;

    if (j)
        return j;
    copy = strdup(s);
    for (c = copy; c && *c; ++c)
        if ((unsigned char)*c > 127)
            *c = '?';
    j = json_string(copy);
    free(copy);
    return j;
}

/* The library's own limit is thousands of levels, each of them on the stack. */
static int is_too_deep(const char *data, apr_size_t len)
{
    int depth = 0, in_string = 0;
    apr_size_t i;

    for (i = 0; i < len; ++i) {
        if (in_string && data[i] == '\\')
            ++i;
        else if (data[i] == '"')
            in_string = !in_string;
        else if (!in_string && (data[i] == '{' || data[i] == '[') && ++depth > MD_MAX_JSON_DEPTH)
            return 1;
        else if (!in_string && (data[i] == '}' || data[i] == ']'))
            --depth;
    }
    return 0;
}

apr_status_t md_json_parse(md_json_t **pjson, const char *data, apr_size_t len, md_err_t *err,
                           apr_pool_t *p)
{
    json_error_t why;
    json_t *j;

    *pjson = NULL;
    if (is_too_deep(data, len))
        return md_fail(err, APR_EINVAL, "JSON nested deeper than %d levels", MD_MAX_JSON_DEPTH);
    j = json_loadb(data, len, 0, &why);
    if (!j)
        return md_fail(err, APR_EINVAL, "not JSON, line %d: %s", why.line, why.text);
    *pjson = wrap(j, p);
    return APR_SUCCESS;
}

static char *dump(const md_json_t *json, size_t flags, apr_pool_t *p)
{
    char *made = json_dumps(json->j, flags | JSON_ENCODE_ANY | JSON_PRESERVE_ORDER), *text;

    text = apr_pstrdup(p, made ? made : "");
    free(made);
    return text;
}

const char *md_json_text(const md_json_t *json, int compact, apr_pool_t *p)
{
    return json ? dump(json, compact ? JSON_COMPACT : JSON_INDENT(2), p) : NULL;
}

/* DEL is a control character, but plain ASCII to jansson. */
static const char *escape_del(const char *text, apr_pool_t *p)
{
    static const char ESCAPED[] = "\\u007f";
    apr_size_t dels = 0;
    const char *s;
    char *out, *to;

    for (s = text; *s; ++s)
        dels += *s == '\x7f';
    if (dels == 0)
        return text;
    out = to = apr_palloc(p, (apr_size_t)(s - text) + dels * (sizeof(ESCAPED) - 2) + 1);
    for (s = text; *s; ++s) {
        if (*s == '\x7f')
            to = apr_cpystrn(to, ESCAPED, sizeof(ESCAPED));
        else
            *to++ = *s;
    }
    *to = '\0';
    return out;
}

const char *md_json_printable(const md_json_t *json, apr_pool_t *p)
{
    return json ? escape_del(dump(json, JSON_INDENT(2) | JSON_ENSURE_ASCII, p), p) : NULL;
}

int md_json_equal(const md_json_t *a, const md_json_t *b)
{
    return a && b && json_equal(a->j, b->j);
}

int md_json_is_object(const md_json_t *json)
{
    return json && json_is_object(json->j);
}

int md_json_is_array(const md_json_t *json)
{
    return json && json_is_array(json->j);
}

/* ---- paths ---- */

#define KEY_MAX 128

/* The first key of a path into `key`; returns what is behind its '.', NULL at the last one. */
static const char *next_key(char key[KEY_MAX], const char *path)
{
    size_t len = strcspn(path, ".");

    if (len >= KEY_MAX)
        len = KEY_MAX - 1;
    memcpy(key, path, len);
    key[len] = '\0';
    path += len;
    return *path == '.' ? path + 1 : NULL;
}

static json_t *find(const md_json_t *json, const char *path)
{
    json_t *j = json ? json->j : NULL;
    char key[KEY_MAX];

    while (j && path) {
        path = next_key(key, path);
        j = json_object_get(j, key);
    }
    return j;
}

/* The object that holds the last key of the path, made if it is not there. */
static json_t *holder(md_json_t *json, const char *path, char key[KEY_MAX])
{
    json_t *j = json->j, *child;

    for (path = next_key(key, path); path; path = next_key(key, path)) {
        child = json_object_get(j, key);
        if (!json_is_object(child)) {
            child = json_object();
            json_object_set_new(j, key, child);
        }
        j = child;
    }
    return j;
}

static void set_new(md_json_t *json, const char *path, json_t *value)
{
    char key[KEY_MAX];

    json_object_set_new(holder(json, path, key), key, value);
}

/* ---- rules ---- */

static int are_strings(const json_t *list)
{
    size_t i;

    for (i = 0; i < json_array_size(list); ++i)
        if (!json_is_string(json_array_get(list, i)))
            return 0;
    return json_is_array(list);
}

static int is_kind(const json_t *j, md_json_kind_t kind)
{
    switch (kind) {
    case MD_JSON_STRING:
        return json_is_string(j);
    case MD_JSON_STRINGS:
        return are_strings(j);
    case MD_JSON_NUMBER:
        return json_is_number(j);
    case MD_JSON_BOOL:
        return json_is_boolean(j);
    case MD_JSON_OBJECT:
        return json_is_object(j);
    }
    return 0;
}

const char *md_json_misfit(const md_json_t *json, const md_json_rule_t *rules, apr_pool_t *p)
{
    static const char *const KINDS[] = {
        [MD_JSON_STRING] = "a string", [MD_JSON_STRINGS] = "a list of strings",
        [MD_JSON_NUMBER] = "a number", [MD_JSON_BOOL] = "true or false",
        [MD_JSON_OBJECT] = "an object",
    };
    const json_t *j;

    for (; rules->path; ++rules) {
        j = find(json, rules->path);
        if (!j && rules->is_needed)
            return apr_psprintf(p, "it has no member '%s'", rules->path);
        if (j && !is_kind(j, rules->kind))
            return apr_psprintf(p, "member '%s' is not %s", rules->path, KINDS[rules->kind]);
    }
    return NULL;
}

/* ---- getters ---- */

const char *md_json_get_str(const md_json_t *json, const char *path)
{
    return json_string_value(find(json, path));
}

long md_json_get_int(const md_json_t *json, const char *path, long def)
{
    json_t *j = find(json, path);

    return json_is_integer(j) ? (long)json_integer_value(j) : def;
}

double md_json_get_num(const md_json_t *json, const char *path, double def)
{
    json_t *j = find(json, path);

    return json_is_number(j) ? json_number_value(j) : def;
}

int md_json_get_bool(const md_json_t *json, const char *path)
{
    return json_is_true(find(json, path));
}

apr_time_t md_json_get_time(const md_json_t *json, const char *path)
{
    return md_time_parse_http(md_json_get_str(json, path));
}

int md_json_has(const md_json_t *json, const char *path)
{
    return find(json, path) != NULL;
}

md_json_t *md_json_get(const md_json_t *json, const char *path, apr_pool_t *p)
{
    return wrap(json_incref(find(json, path)), p);
}

apr_array_header_t *md_json_get_strings(const md_json_t *json, const char *path, apr_pool_t *p)
{
    json_t *j = find(json, path), *element;
    apr_array_header_t *list;
    size_t i;

    if (!json_is_array(j))
        return NULL;
    list = apr_array_make(p, (int)json_array_size(j) + 1, sizeof(const char *));
    json_array_foreach(j, i, element)
    {
        if (json_is_string(element))
            APR_ARRAY_PUSH(list, const char *) = apr_pstrdup(p, json_string_value(element));
    }
    return list;
}

apr_size_t md_json_size(const md_json_t *json)
{
    if (!json)
        return 0;
    return json_is_array(json->j) ? json_array_size(json->j) : json_object_size(json->j);
}

md_json_t *md_json_at(const md_json_t *array, apr_size_t i, apr_pool_t *p)
{
    return array ? wrap(json_incref(json_array_get(array->j, i)), p) : NULL;
}

apr_array_header_t *md_json_keys(const md_json_t *json, apr_pool_t *p)
{
    apr_array_header_t *keys = apr_array_make(p, 5, sizeof(const char *));
    const char *key;
    json_t *value;

    if (!md_json_is_object(json))
        return keys;
    json_object_foreach(json->j, key, value)
    {
        APR_ARRAY_PUSH(keys, const char *) = apr_pstrdup(p, key);
    }
    return keys;
}

/* ---- setters ---- */

void md_json_set_str(md_json_t *json, const char *path, const char *s)
{
    if (s)
        set_new(json, path, string_of(s));
}

void md_json_set_int(md_json_t *json, const char *path, long n)
{
    set_new(json, path, json_integer(n));
}

void md_json_set_num(md_json_t *json, const char *path, double n)
{
    set_new(json, path, json_real(n));
}

void md_json_set_bool(md_json_t *json, const char *path, int on)
{
    set_new(json, path, json_boolean(on));
}

void md_json_set_time(md_json_t *json, const char *path, apr_time_t t)
{
    char text[APR_RFC822_DATE_LEN];

    if (t > 0 && apr_rfc822_date(text, t) == APR_SUCCESS)
        set_new(json, path, json_string(text));
}

void md_json_set_strings(md_json_t *json, const char *path, const apr_array_header_t *list)
{
    json_t *j;
    int i;

    if (!list)
        return;
    j = json_array();
    for (i = 0; i < list->nelts; ++i)
        json_array_append_new(j, string_of(APR_ARRAY_IDX(list, i, const char *)));
    set_new(json, path, j);
}

void md_json_set(md_json_t *json, const char *path, const md_json_t *value)
{
    if (value)
        set_new(json, path, json_incref(value->j));
}

void md_json_set_key(md_json_t *json, const char *key, const md_json_t *value)
{
    if (value)
        json_object_set(json->j, key, value->j);
}

void md_json_append(md_json_t *array, const md_json_t *value)
{
    if (value)
        json_array_append(array->j, value->j);
}

void md_json_insert(md_json_t *array, apr_size_t i, const md_json_t *value)
{
    if (value)
        json_array_insert(array->j, i, value->j);
}

void md_json_truncate(md_json_t *array, apr_size_t size)
{
    while (json_array_size(array->j) > size)
        json_array_remove(array->j, json_array_size(array->j) - 1);
}

void md_json_unset(md_json_t *json, const char *path)
{
    char key[KEY_MAX];

    json_object_del(holder(json, path, key), key);
}
