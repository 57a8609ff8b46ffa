/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as such. The first part of an input is a path, the second one the document. */
#include "fuzz.h"

#include <string.h>

#include "../../md_json.h"
#include "../../md_text.h"

static md_json_t *parse_again(const char *text, apr_pool_t *p)
{
    md_json_t *json;

    holds(md_json_parse(&json, text, strlen(text), NULL, p) == APR_SUCCESS);
    return json;
}

static void check_text(const md_json_t *json, apr_pool_t *p)
{
    const char *printable = md_json_printable(json, p), *c;

    holds(md_json_equal(json, parse_again(md_json_text(json, 0, p), p)));
    holds(md_json_equal(json, parse_again(md_json_text(json, 1, p), p)));
    holds(md_json_equal(json, parse_again(printable, p)));
    for (c = printable; *c; ++c)
        holds((*c >= ' ' && *c <= '~') || *c == '\n');
}

static void check_getters(const md_json_t *json, const char *path, apr_pool_t *p)
{
    const md_json_rule_t rules[] = { { path, MD_JSON_STRINGS, 1 }, { NULL, MD_JSON_STRING, 0 } };
    apr_array_header_t *strings = md_json_get_strings(json, path, p);
    md_json_t *value = md_json_get(json, path, p);
    apr_size_t i;

    holds(!md_json_has(json, path) == !value);
    holds(!md_json_get_str(json, path) || !strings);
    holds(md_json_get_time(json, path) >= 0);
    (void)md_json_get_int(json, path, 1);
    (void)md_json_get_num(json, path, 1);
    (void)md_json_get_bool(json, path);
    if (!md_json_misfit(json, rules, p))
        holds(strings && (apr_size_t)strings->nelts == md_json_size(value));
    for (i = 0; md_json_is_array(value) && i < md_json_size(value); ++i)
        holds(md_json_at(value, i, p));
    holds(!md_json_is_object(value)
          || (apr_size_t)md_json_keys(value, p)->nelts == md_json_size(value));
}

static void check_setters(md_json_t *json, apr_pool_t *p)
{
    md_json_set_str(json, "one.two", "x");
    md_json_set_int(json, "one.three", 3);
    holds(md_text_same(md_json_get_str(json, "one.two"), "x"));
    holds(md_json_get_int(json, "one.three", 0) == 3);
    md_json_unset(json, "one.two");
    holds(!md_json_has(json, "one.two"));
    check_text(json, p);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    fuzz_parts_t parts = { data, data + len };
    const char *path = fuzz_part(&len, &parts, p), *text = fuzz_part(&len, &parts, p);
    md_err_t err = fuzz_err(p);
    md_json_t *json;
    apr_status_t rv;

    if (!text)
        return;
    rv = md_json_parse(&json, text, len, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    check_text(json, p);
    check_getters(json, path, p);
    if (md_json_is_object(json))
        check_setters(json, p);
}
