/* SPDX-License-Identifier: Apache-2.0 */
/* Names, addresses, URIs, encodings, what is shown of foreign text. The first line of an input is
 * the text, the second one what is compared with it. */
#include "fuzz.h"

#include <string.h>

#include <apr_strings.h>

#include "../../md_domain.h"
#include "../../md_limits.h"
#include "../../md_text.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-."

static void check_name(const char *name, apr_pool_t *p)
{
    const char *host = md_dns_name_is_wildcard(name) ? name + 2 : name;
    const char *proper = md_dns_name_proper(name, p);
    md_identifier_t identifier = md_identifier_of(name, p), again;

    if (!md_dns_name_refusal(name)) {
        holds(!md_dns_name_check(name) && strlen(host) <= 253);
        holds(strspn(host, NAME_CHARACTERS) == strlen(host) && host[strlen(host) - 1] != '.');
        holds(identifier.type == MD_IDENTIFIER_DNS && md_path_part_is_safe(name));
    }
    if (proper) {
        holds(!md_dns_name_refusal(proper) && !md_dns_name_proper(proper, p));
        holds(md_dns_name_is_wildcard(proper) == md_dns_name_is_wildcard(name));
    }
    again = md_identifier_of(identifier.value, p);
    holds(md_identifiers_equal(&identifier, &again) && !strcmp(identifier.value, again.value));
    (void)md_dns_name_is_private(name);
    if (md_path_part_is_safe(name))
        holds(!strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") && *name);
}

/* Two ways to tell whether a name is covered. */
static void check_covers(const char *pattern, const char *name, apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p), *minimal;
    md_index_t *index = md_index_make(p);
    md_domain_t *domain;
    const char *found;
    int covers;

    holds(md_dns_name_covers(pattern, pattern));
    APR_ARRAY_PUSH(names, const char *) = pattern;
    names = md_names_normalise(names, p);
    domain = md_domain_make(APR_ARRAY_IDX(names, 0, const char *), p);
    domain->names = names;
    (void)md_index_add(index, domain, &found);
    covers = md_names_cover(names, name);
    if (strlen(name) < 256)
        holds(!md_index_has(index, domain, name) == !covers);
    (void)md_domain_objection(domain, name);
    APR_ARRAY_PUSH(names, const char *) = name;
    minimal = md_names_minimal(names, p);
    holds(minimal->nelts > 0 && minimal->nelts <= 2 && md_names_cover(minimal, name));
    holds(md_strings_equal(minimal, md_names_minimal(minimal, p)));
}

static void check_uri(const char *uri, const char *base, apr_pool_t *p)
{
    const char *resolved, *host;

    (void)md_contact_check(md_contact_uri(uri, p), p);
    (void)md_terms_check(uri, p);
    (void)md_uri_host(uri, p);
    if (md_uri_check_http(base, p))
        return;
    host = md_uri_host(base, p);
    holds(host && *host && !strpbrk(base, " \t\r\n"));
    resolved = md_uri_resolve(base, uri, p);
    holds(resolved);
    if (!md_uri_check_http(resolved, p))
        holds(!strcmp(md_uri_resolve(base, resolved, p), resolved));
}

static void check_links(const char *value, const char *rel, apr_pool_t *p)
{
    apr_array_header_t *targets = md_strings_make(p);
    int i;

    md_link_targets(targets, value, rel, MD_MAX_ALTERNATES, p);
    holds(targets->nelts <= MD_MAX_ALTERNATES);
    for (i = 0; i < targets->nelts; ++i)
        holds(!strchr(APR_ARRAY_IDX(targets, i, const char *), '>')
              && strstr(value, APR_ARRAY_IDX(targets, i, const char *)));
}

static void check_shown(const char *text, apr_size_t max, apr_pool_t *p)
{
    const char *clean = md_text_clean(text, max, p), *line = md_text_line(text, max, p), *c;
    const char *printable = md_text_printable(text, p);
    md_json_t *json = md_json_object(p);

    holds(strlen(clean) <= max + 5 && strlen(line) == strlen(clean));
    holds(!strcmp(clean, md_text_clean(clean, strlen(clean), p)));
    holds(!strpbrk(line, "\r\n\t"));
    md_json_set_str(json, "text", clean); /* of which no byte is replaced, as it is UTF-8 */
    holds(md_text_same(md_json_get_str(json, "text"), clean));
    md_json_set_str(json, "text", text);
    holds(md_json_get_str(json, "text") && strlen(printable) <= MD_MAX_TEXT);
    for (c = printable; *c; ++c)
        holds(*c >= ' ' && *c <= '~');
}

static void check_encodings(const char *data, size_t len, apr_pool_t *p)
{
    const char *text = md_base64url_encode((const unsigned char *)data, len, p);
    unsigned char *decoded;
    apr_size_t n;

    n = md_base64url_decode(&decoded, text, p);
    holds(n == len && (len == 0 || !memcmp(decoded, data, len)));
    holds(len == 0 || len > 192 || md_token_is_valid(text));
    holds(strlen(md_hex_encode((const unsigned char *)data, len, 0, p)) == 2 * len);
    n = md_base64url_decode(&decoded, data, p);
    holds(!n == !decoded && n <= strlen(data));
    if (md_token_is_valid(data))
        holds(md_path_part_is_safe(data) || strlen(data) > 255);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const char *text = data, *a = fuzz_line(&text, p), *b = fuzz_line(&text, p);

    a = a ? a : "";
    b = b ? b : "";
    check_encodings(data, len, p);
    check_name(a, p);
    check_covers(a, b, p);
    check_uri(b, a, p);
    check_links(a, b, p);
    check_shown(data, strlen(b), p);
}
