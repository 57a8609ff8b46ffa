/* SPDX-License-Identifier: Apache-2.0 */
/* Text: encodings, checks, lists. */
#include "md_text.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_uri.h>

#ifdef MD_HAVE_IDN2
#include <idn2.h>
#endif

#include "md_limits.h"

static const char BASE64URL[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---- encodings ---- */

const char *md_base64url_encode(const unsigned char *data, apr_size_t len, apr_pool_t *p)
{
    char *text = apr_palloc(p, (len + 2) / 3 * 4 + 1), *to = text;
    unsigned int bits;
    apr_size_t i;

    for (i = 0; i + 2 < len; i += 3) {
        bits = (unsigned int)data[i] << 16 | (unsigned int)data[i + 1] << 8 | data[i + 2];
        *to++ = BASE64URL[bits >> 18];
        *to++ = BASE64URL[bits >> 12 & 63];
        *to++ = BASE64URL[bits >> 6 & 63];
        *to++ = BASE64URL[bits & 63];
    }
    if (len - i == 1) {
        *to++ = BASE64URL[data[i] >> 2];
        *to++ = BASE64URL[(data[i] & 3) << 4];
    }
    else if (len - i == 2) {
        *to++ = BASE64URL[data[i] >> 2];
        *to++ = BASE64URL[(data[i] & 3) << 4 | data[i + 1] >> 4];
        *to++ = BASE64URL[(data[i + 1] & 15) << 2];
    }
    *to = '\0';
    return text;
}

apr_size_t md_base64url_decode(unsigned char **pdata, const char *text, apr_pool_t *p)
{
    apr_size_t len = strspn(text, BASE64URL), i, n = 0;
    unsigned char *data;
    unsigned int bits = 0;

    *pdata = NULL;
    if (text[len + strspn(text + len, "=")] != '\0' || len % 4 == 1 || len == 0)
        return 0;
    data = apr_palloc(p, len / 4 * 3 + 3);
    for (i = 0; i < len; ++i) {
        bits = bits << 6 | (unsigned int)(strchr(BASE64URL, text[i]) - BASE64URL);
        if (i % 4 != 0)
            data[n++] = (unsigned char)(bits >> (6 - i % 4 * 2));
    }
    data[n] = '\0';
    *pdata = data;
    return n;
}

const char *md_hex_encode(const unsigned char *data, apr_size_t len, int upper, apr_pool_t *p)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char *text = apr_palloc(p, len * 2 + 1);
    apr_size_t i;

    for (i = 0; i < len; ++i) {
        text[2 * i] = digits[data[i] >> 4];
        text[2 * i + 1] = digits[data[i] & 15];
    }
    text[2 * len] = '\0';
    return text;
}

int md_text_same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

const char *md_text_printable(const char *text, apr_pool_t *p)
{
    char *copy, *c;

    if (!text)
        return NULL;
    copy = apr_pstrndup(p, text, MD_MAX_TEXT);
    for (c = copy; *c; ++c)
        if (*c < ' ' || *c > '~') /* covers bytes above 127 for either sign of char */
            *c = '?';
    return copy;
}

/* Bytes of the UTF-8 character (RFC 3629 4) at `s`, 0 if there is none. */
static apr_size_t utf8_len(const unsigned char *s)
{
    static const struct { unsigned char first, last, low, high; apr_size_t len; } FORMS[] = {
        { 0x09, 0x0a, 0, 0, 1 }, { 0x0d, 0x0d, 0, 0, 1 }, { 0x20, 0x7e, 0, 0, 1 },
        { 0xc2, 0xc2, 0xa0, 0xbf, 2 }, /* not the controls of Latin-1 */
        { 0xc3, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    apr_size_t i, k;

    for (i = 0; i < sizeof(FORMS) / sizeof(FORMS[0]); ++i) {
        if (s[0] < FORMS[i].first || s[0] > FORMS[i].last)
            continue;
        if (FORMS[i].len > 1 && (s[1] < FORMS[i].low || s[1] > FORMS[i].high))
            return 0;
        for (k = 2; k < FORMS[i].len; ++k)
            if (s[k] < 0x80 || s[k] > 0xbf)
                return 0;
        return FORMS[i].len;
    }
    return 0;
}

#define CUT "[...]"

const char *md_text_clean(const char *text, apr_size_t max, apr_pool_t *p)
{
    const unsigned char *from = (const unsigned char *)text;
    apr_size_t len, n = 0;
    char *copy;

    if (!text)
        return NULL;
    copy = apr_palloc(p, strnlen(text, max) + sizeof(CUT));
    for (; *from; from += len) {
        len = utf8_len(from);
        if (n + (len ? len : 1) > max) {
            memcpy(copy + n, CUT, sizeof(CUT));
            return copy;
        }
        if (len)
            memcpy(copy + n, from, len);
        else
            copy[n] = '?';
        len = len ? len : 1;
        n += len;
    }
    copy[n] = '\0';
    return copy;
}

const char *md_text_line(const char *text, apr_size_t max, apr_pool_t *p)
{
    char *line = apr_pstrdup(p, md_text_clean(text, max, p)), *c;

    for (c = line; c && *c; ++c)
        if (*c == '\n' || *c == '\r' || *c == '\t')
            *c = ' ';
    return line;
}

void md_text_fit(char *to, const char *text, apr_size_t size)
{
    apr_size_t n = 0, len;

    for (; text && text[n]; n += len) {
        len = utf8_len((const unsigned char *)text + n);
        len = len ? len : 1;
        if (n + len >= size)
            break;
        memcpy(to + n, text + n, len);
    }
    to[n] = '\0';
}

/* Bytes of the UTF-8 character at `s` if nobody can see it (Unicode 9.0.0 chapters 23.2 to 23.6), 0
 * otherwise. */
static apr_size_t unseen_len(const unsigned char *s)
{
    if (s[0] == 0xd8 && s[1] == 0x9c)
        return 2;
    if (s[0] == 0xe2 && s[1] == 0x80)
        return (s[2] >= 0x8b && s[2] <= 0x8f) || (s[2] >= 0xa8 && s[2] <= 0xae) ? 3 : 0;
    if (s[0] == 0xe2 && s[1] == 0x81)
        return s[2] >= 0xa0 && s[2] <= 0xaf ? 3 : 0;
    return s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf ? 3 : 0;
}

/* Printable ASCII alone, and not too long? */
static int is_plain(const char *text, apr_size_t max)
{
    const char *end = text;

    while (*end >= ' ' && *end <= '~')
        ++end;
    return !*end && (apr_size_t)(end - text) <= max;
}

const char *md_text_visible(const char *text, apr_size_t max, apr_pool_t *p)
{
    char *line, *from, *to;
    apr_size_t len;

    if (text && is_plain(text, max)) /* as most are: pages have many */
        return text;
    line = apr_pstrdup(p, md_text_line(text, max, p));
    for (from = to = line; from && *from; from += len ? len : 1) {
        len = unseen_len((unsigned char *)from);
        *to++ = len ? '?' : *from;
    }
    if (to)
        *to = '\0';
    return line;
}

/* ---- PEM ---- */

#define PEM_LINE 64

/* What is behind `prefix`, NULL if `text` (or NULL) does not begin with it. */
static const char *skip(const char *text, const char *prefix)
{
    apr_size_t len = strlen(prefix);

    return text && !strncmp(text, prefix, len) ? text + len : NULL;
}

static const char *skip_boundary(const char *text, const char *begin, const char *label)
{
    return skip(skip(skip(text, begin), label), "-----\n");
}

/* Full lines, and a last one that may be shorter. */
static const char *skip_base64(const char *text)
{
    static const char BASE64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    apr_size_t len = PEM_LINE, lines = 0;

    for (; text && len == PEM_LINE && *text != '-'; ++lines) {
        len = strspn(text, BASE64);
        len += strspn(text + len, "=");
        text = len > 0 && len <= PEM_LINE && len % 4 == 0 ? skip(text + len, "\n") : NULL;
    }
    return lines > 0 ? text : NULL;
}

int md_text_is_pem(const char *text, const char *label, int most)
{
    int blocks;

    for (blocks = 0; text && *text && blocks < most; ++blocks) {
        text = skip_boundary(text, "-----BEGIN ", label);
        if (text)
            text = skip_base64(text);
        text = skip_boundary(text, "-----END ", label);
    }
    return blocks > 0 && text && !*text;
}

/* ---- HTML ---- */

#define MAX_ENTITY 6 /* characters of the longest */

static const char *entity_of(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

const char *md_text_html(const char *text, apr_size_t max, apr_pool_t *p)
{
    const char *from = md_text_visible(text, max, p), *entity;
    char *html, *to;

    if (!text)
        return "";
    html = to = apr_palloc(p, strlen(from) * MAX_ENTITY + 1);
    for (; *from; ++from) {
        entity = entity_of(*from);
        if (entity)
            to = apr_cpystrn(to, entity, MAX_ENTITY + 1);
        else
            *to++ = *from;
    }
    *to = '\0';
    return html;
}

/* ---- names ---- */

int md_dns_name_is_wildcard(const char *name)
{
    return !strncmp(name, "*.", 2);
}

int md_path_part_is_safe(const char *part)
{
    const char *c;

    if (!part || !*part || strlen(part) > 255 || !strcmp(part, ".") || !strcmp(part, ".."))
        return 0;
    for (c = part; *c; ++c)
        if (*c == '/' || (unsigned char)*c < ' ' || *c == 127)
            return 0;
    return 1;
}

int md_dns_name_covers(const char *pattern, const char *name)
{
    const char *dot;

    if (!strcasecmp(pattern, name))
        return 1;
    if (!md_dns_name_is_wildcard(pattern))
        return 0;
    dot = strchr(name, '.');
    return dot && dot != name && !strcasecmp(pattern + 1, dot);
}

static const char *host_of(const char *name)
{
    return md_dns_name_is_wildcard(name) ? name + 2 : name;
}

const char *md_dns_name_check(const char *name)
{
    const char *host = host_of(name), *dot = strchr(host, '.');

    if (strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")
        != strlen(host))
        return "only letters, digits, '-' and '.' are allowed, and '*.' at the beginning";
    if (*host == '.' || strstr(host, ".."))
        return "a label is empty";
    return dot && dot[1] ? NULL : "it has no dot";
}

/* Also in brackets, as in URIs. */
static int is_address(const char *name)
{
    unsigned char octets[sizeof(struct in6_addr)];
    size_t len = strlen(name);
    char text[INET6_ADDRSTRLEN];

    if (*name == '[' && name[len - 1] == ']') {
        ++name;
        len -= 2;
    }
    if (len >= sizeof(text))
        return 0;
    apr_cpystrn(text, name, len + 1);
    return inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, octets) == 1;
}

/* RFC 1035 2.3.4, RFC 952 and RFC 1123 2.1, RFC 5890 2.3.1. */
static const char *label_problem(const char *label, size_t len)
{
    if (len > 63)
        return "a label is longer than 63 characters";
    if (label[0] == '-' || label[len - 1] == '-')
        return "a label begins or ends with '-'";
    if (len > 3 && !strncmp(label + 2, "--", 2) && strncasecmp(label, "xn", 2))
        return "a label has '--' as its third and fourth characters";
    return NULL;
}

const char *md_dns_name_refusal(const char *name)
{
    const char *host = host_of(name), *label, *wrong;
    size_t len = 0;

    if (is_address(host))
        return "it is an IP address";
    wrong = md_dns_name_check(name);
    if (wrong)
        return wrong;
    if (host[strlen(host) - 1] == '.')
        return "it ends with a dot";
    if (strlen(host) > 253)
        return "it is longer than 253 characters";
    for (label = host; !wrong && *label; label += len + (label[len] == '.')) {
        len = strcspn(label, ".");
        wrong = label_problem(label, len);
    }
    if (!wrong && strspn(label - len, "0123456789") == len)
        wrong = "its last label is a number";
    return wrong;
}

int md_dns_name_is_private(const char *name)
{
    static const char *const TOPS[] = { /* not .test: there are CAs for tests */
        ".alt", ".corp", ".home", ".home.arpa", ".internal", ".intranet", ".invalid", ".lan",
        ".local", ".localdomain", ".localhost", ".private",
    };
    size_t len = strlen(name), top_len, i;

    for (i = 0; i < sizeof(TOPS) / sizeof(TOPS[0]); ++i) {
        top_len = strlen(TOPS[i]);
        if (len > top_len && !strcasecmp(name + len - top_len, TOPS[i]))
            return 1;
    }
    return 0;
}

/* RFC 5891 5, for UTF-8; NULL if there is none, or no library that knows. */
static const char *punycode(const char *host, apr_pool_t *p)
{
    const char *copy = NULL;
#ifdef MD_HAVE_IDN2
    char *ascii = NULL;

    if (idn2_to_ascii_8z(host, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK)
        copy = apr_pstrdup(p, ascii);
    idn2_free(ascii);
#else
    (void)host;
    (void)p;
#endif
    return copy;
}

static int is_ascii(const char *text)
{
    for (; *text; ++text)
        if ((unsigned char)*text > 127)
            return 0;
    return 1;
}

const char *md_dns_name_proper(const char *name, apr_pool_t *p)
{
    const char *host = host_of(name), *ascii = is_ascii(host) ? host : punycode(host, p);
    apr_size_t len = ascii ? strlen(ascii) : 0;

    if (len > 0 && ascii[len - 1] == '.')
        --len;
    ascii = apr_pstrcat(p, host == name ? "" : "*.", apr_pstrmemdup(p, ascii ? ascii : "", len),
                        NULL);
    return strcmp(ascii, name) && !md_dns_name_refusal(ascii) ? ascii : NULL;
}

int md_token_is_valid(const char *token)
{
    size_t n = strspn(token, BASE64URL);

    return n > 0 && n <= 256 && token[n] == '\0';
}

/* ---- identifiers ---- */

/* IPv6 addresses have many forms. */
static const char *canonical_address(const char *name, apr_pool_t *p)
{
    unsigned char octets[sizeof(struct in6_addr)];
    int family = strchr(name, ':') ? AF_INET6 : AF_INET;
    char text[INET6_ADDRSTRLEN];

    if (inet_pton(family, name, octets) != 1)
        return NULL;
    return apr_pstrdup(p, inet_ntop(family, octets, text, sizeof(text)));
}

md_identifier_t md_identifier_of(const char *name, apr_pool_t *p)
{
    const char *address = canonical_address(name, p);
    md_identifier_t identifier = { .type = address ? MD_IDENTIFIER_IP : MD_IDENTIFIER_DNS,
                                   .value = address ? address : apr_pstrdup(p, name) };

    return identifier;
}

apr_array_header_t *md_identifiers_of(const apr_array_header_t *names, apr_pool_t *p)
{
    apr_array_header_t *list = apr_array_make(p, names->nelts + 1, sizeof(md_identifier_t));
    int i;

    for (i = 0; i < names->nelts; ++i)
        APR_ARRAY_PUSH(list, md_identifier_t) = md_identifier_of(APR_ARRAY_IDX(names, i,
                                                                               const char *), p);
    return list;
}

int md_identifiers_equal(const md_identifier_t *a, const md_identifier_t *b)
{
    return a->type == b->type && !strcasecmp(a->value, b->value);
}

const char *md_identifier_type(const md_identifier_t *identifier)
{
    static const char *const TYPES[] = { [MD_IDENTIFIER_DNS] = "dns", [MD_IDENTIFIER_IP] = "ip" };

    return TYPES[identifier->type];
}

/* ---- URIs ---- */

static const char *check_mailto(const char *address)
{
    const char *at = strchr(address, '@');

    if (!at)
        return "mail address without '@'";
    if (at == address)
        return "mail address without local part";
    if (strchr(at + 1, '@'))
        return "mail address with two '@'";
    if (!at[1])
        return "mail address without host";
    return strstr(address, "..") ? "mail address with '..'" : NULL;
}

static int host_is_valid(const char *host)
{
    if (strchr(host, ':')) /* the brackets of an IPv6 literal are gone already */
        return strspn(host, "0123456789abcdefABCDEF:.") == strlen(host);
    return strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")
               == strlen(host) && !strstr(host, "..");
}

/* Port text behind the host, as apr_uri_parse is too lenient. */
static const char *check_port(const apr_uri_t *uri)
{
    const char *text = uri->port_str;
    apr_int64_t port;
    char *end;

    if (!text)
        return NULL;
    if (!isdigit((unsigned char)*text))
        return "invalid port";
    port = apr_strtoi64(text, &end, 10);
    return *end || port < 1 || port > 65535 ? "invalid port" : NULL;
}

const char *md_uri_check(const char *text, apr_pool_t *p)
{
    const char *colon = text ? strchr(text, ':') : NULL;
    apr_uri_t uri;

    if (!text || !*text)
        return "not a URI";
    if (strlen(text) > MD_MAX_URI) /* what is relative to it repeats most of it */
        return "too long";
    if (strpbrk(text, " \t\r\n"))
        return "blanks not allowed";
    if (!colon || colon == text || strcspn(text, "/?#") < (size_t)(colon - text))
        return "scheme missing";
    if (!colon[1])
        return "rest missing";
    if (!strncasecmp(text, "mailto:", 7))
        return check_mailto(text + 7);
    if (strncasecmp(text, "http", 4))
        return NULL;
    if (strncmp(colon, "://", 3))
        return "host missing";
    if (apr_uri_parse(p, text, &uri) != APR_SUCCESS) {
        colon = strchr(colon + 3, ':');
        return colon ? "invalid port" : "not a URI";
    }
    if (!uri.hostname || !*uri.hostname)
        return "host missing";
    if (!host_is_valid(uri.hostname))
        return "host invalid";
    return check_port(&uri);
}

const char *md_uri_check_http(const char *text, apr_pool_t *p)
{
    const char *wrong = md_uri_check(text, p);

    if (wrong)
        return wrong;
    if (strncasecmp(text, "http:", 5) && strncasecmp(text, "https:", 6))
        return "scheme must be http or https";
    return NULL;
}

const char *md_uri_resolve(const char *base, const char *ref, apr_pool_t *p)
{
    const char *authority = strstr(base, "://"), *path;
    apr_size_t len;

    if (!ref || !authority || strcspn(ref, ":") < strcspn(ref, "/?#"))
        return apr_pstrdup(p, ref);
    path = authority + 3 + strcspn(authority + 3, "/?#");
    if (!strncmp(ref, "//", 2))
        return apr_pstrcat(p, apr_pstrmemdup(p, base, (apr_size_t)(authority + 1 - base)), ref,
                           NULL);
    if (*ref == '/')
        return apr_pstrcat(p, apr_pstrmemdup(p, base, (apr_size_t)(path - base)), ref, NULL);
    for (len = strcspn(path, "?#"); len > 0 && path[len - 1] != '/'; --len)
        ;
    return apr_pstrcat(p, apr_pstrmemdup(p, base, (apr_size_t)(path - base) + len),
                       len ? "" : "/", ref, NULL);
}

/* ---- links (RFC 8288 3) ---- */

#define BLANKS " \t"

/* A value of a parameter, a token or a quoted string (RFC 9110 5.6.4); *ptext goes behind it. */
static const char *link_value(const char **ptext, apr_pool_t *p)
{
    const char *from = *ptext;
    char *value, *to;

    if (*from != '"') {
        *ptext += strcspn(from, BLANKS ";,");
        return apr_pstrmemdup(p, from, (apr_size_t)(*ptext - from));
    }
    value = to = apr_palloc(p, strlen(from));
    for (++from; *from && *from != '"'; ++from) {
        if (*from == '\\' && from[1])
            ++from;
        *to++ = *from;
    }
    *to = '\0';
    *ptext = from + (*from == '"');
    return value;
}

/* One parameter, at the ';' before it: the value if it is `rel`, else NULL. */
static const char *link_rel(const char **ptext, apr_pool_t *p)
{
    const char *name = *ptext + 1 + strspn(*ptext + 1, BLANKS), *value;
    size_t len = strcspn(name, BLANKS "=;,");

    *ptext = name + len + strspn(name + len, BLANKS);
    if (**ptext != '=')
        return NULL;
    *ptext += 1 + strspn(*ptext + 1, BLANKS);
    value = link_value(ptext, p);
    return len == 3 && !strncasecmp(name, "rel", len) ? value : NULL;
}

static int has_word(const char *list, const char *word)
{
    size_t len;

    for (; list && *list; list += len) {
        list += strspn(list, BLANKS);
        len = strcspn(list, BLANKS);
        if (len > 0 && len == strlen(word) && !strncasecmp(list, word, len))
            return 1;
    }
    return 0;
}

void md_link_targets(apr_array_header_t *targets, const char *value, const char *rel, int most,
                     apr_pool_t *p)
{
    const char *target, *end, *rels, *one;

    for (;;) {
        target = value + strspn(value, BLANKS ",");
        end = *target == '<' ? strchr(target, '>') : NULL;
        if (!end || targets->nelts >= most)
            return;
        value = end + 1 + strspn(end + 1, BLANKS);
        for (rels = NULL; *value == ';'; value += strspn(value, BLANKS)) {
            one = link_rel(&value, p);
            rels = rels ? rels : one; /* the first counts (RFC 8288 3.3) */
        }
        if (has_word(rels, rel))
            APR_ARRAY_PUSH(targets, const char *)
                = apr_pstrmemdup(p, target + 1, (apr_size_t)(end - target - 1));
        if (*value != ',')
            return;
    }
}

/* Whatever stands before the last '@': in what is no URI, it may be a password, too. */
const char *md_uri_public(const char *uri, apr_pool_t *p)
{
    const char *begin = strstr(uri, "://"), *at = strrchr(uri, '@');

    if (!at)
        return uri;
    begin = begin && begin < at ? begin + 3 : uri;
    return apr_pstrcat(p, apr_pstrmemdup(p, uri, (apr_size_t)(begin - uri)), "***", at, NULL);
}

const char *md_uri_segment(const char *text, apr_pool_t *p)
{
    char *segment = apr_palloc(p, strlen(text) * 3 + 1), *to = segment;

    for (; *text; ++text) {
        if (isalnum((unsigned char)*text) || strchr("-._~", *text))
            *to++ = *text;
        else {
            *to++ = '%';
            to = apr_cpystrn(to, md_hex_encode((const unsigned char *)text, 1, 1, p), 3);
        }
    }
    *to = '\0';
    return segment;
}

const char *md_uri_host(const char *text, apr_pool_t *p)
{
    apr_uri_t uri;
    char *host, *c;

    if (apr_uri_parse(p, text, &uri) != APR_SUCCESS || !uri.hostname)
        return NULL;
    host = apr_pstrdup(p, uri.hostname);
    for (c = host; *c; ++c)
        *c = (char)tolower((unsigned char)*c);
    return host;
}

const char *md_contact_uri(const char *contact, apr_pool_t *p)
{
    const char *c = contact;

    while (isalnum((unsigned char)*c))
        ++c;
    return c > contact && *c == ':' ? apr_pstrdup(p, contact)
                                    : apr_pstrcat(p, "mailto:", contact, NULL);
}

const char *md_terms_check(const char *terms, apr_pool_t *p)
{
    const char *wrong = strcmp(terms, MD_TERMS_ACCEPTED) ? md_uri_check_http(terms, p) : NULL;

    return wrong ? apr_psprintf(p, "'%s' is neither '" MD_TERMS_ACCEPTED "' nor a URL: %s. Write '"
                                MD_TERMS_ACCEPTED "' to accept whatever terms of service the CA "
                                "has, or the URL of those that you accept", terms, wrong) : NULL;
}

/* Nobody but this machine knows a host without a dot (RFC 8555 7.3: the CA may be picky). */
const char *md_contact_check(const char *uri, apr_pool_t *p)
{
    const char *wrong = md_uri_check(uri, p);

    if (wrong || strncasecmp(uri, "mailto:", 7))
        return wrong;
    return strchr(strchr(uri, '@'), '.') ? NULL : "mail address whose host has no dot";
}

/* ---- lists ---- */

apr_array_header_t *md_strings_make(apr_pool_t *p)
{
    return apr_array_make(p, 5, sizeof(const char *));
}

int md_strings_has(const apr_array_header_t *list, const char *s)
{
    int i;

    for (i = 0; i < list->nelts; ++i)
        if (!strcmp(APR_ARRAY_IDX(list, i, const char *), s))
            return 1;
    return 0;
}

int md_strings_has_nocase(const apr_array_header_t *list, const char *s)
{
    int i;

    for (i = 0; i < list->nelts; ++i)
        if (!strcasecmp(APR_ARRAY_IDX(list, i, const char *), s))
            return 1;
    return 0;
}

int md_strings_equal(const apr_array_header_t *a, const apr_array_header_t *b)
{
    int i;

    if (!a || !b)
        return a == b;
    if (a->nelts != b->nelts)
        return 0;
    for (i = 0; i < a->nelts; ++i)
        if (strcmp(APR_ARRAY_IDX(a, i, const char *), APR_ARRAY_IDX(b, i, const char *)))
            return 0;
    return 1;
}

apr_array_header_t *md_strings_copy(const apr_array_header_t *list, apr_pool_t *p)
{
    apr_array_header_t *copy;
    int i;

    if (!list)
        return NULL;
    copy = apr_array_make(p, list->nelts > 0 ? list->nelts : 1, sizeof(const char *));
    for (i = 0; i < list->nelts; ++i)
        APR_ARRAY_PUSH(copy, const char *) = apr_pstrdup(p, APR_ARRAY_IDX(list, i, const char *));
    return copy;
}

static char *lower_copy(const char *s, apr_pool_t *p)
{
    char *copy = apr_pstrdup(p, s), *c;

    for (c = copy; *c; ++c)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

apr_array_header_t *md_names_normalise(const apr_array_header_t *names, apr_pool_t *p)
{
    apr_array_header_t *list = apr_array_make(p, names->nelts + 1, sizeof(const char *));
    apr_hash_t *seen = apr_hash_make(p);
    const char *name;
    int i;

    for (i = 0; i < names->nelts; ++i) {
        name = lower_copy(APR_ARRAY_IDX(names, i, const char *), p);
        if (apr_hash_get(seen, name, APR_HASH_KEY_STRING))
            continue;
        apr_hash_set(seen, name, APR_HASH_KEY_STRING, name);
        APR_ARRAY_PUSH(list, const char *) = name;
    }
    return list;
}

int md_names_cover(const apr_array_header_t *names, const char *name)
{
    int i;

    for (i = 0; i < names->nelts; ++i)
        if (md_dns_name_covers(APR_ARRAY_IDX(names, i, const char *), name))
            return 1;
    return 0;
}

apr_array_header_t *md_names_minimal(const apr_array_header_t *names, apr_pool_t *p)
{
    apr_array_header_t *list = apr_array_make(p, names->nelts + 1, sizeof(const char *));
    apr_hash_t *suffixes = apr_hash_make(p); /* ".x" of each wildcard "*.x" */
    const char *name, *dot;
    int i;

    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        if (md_dns_name_is_wildcard(name))
            apr_hash_set(suffixes, name + 1, APR_HASH_KEY_STRING, name);
    }
    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        dot = strchr(name, '.');
        if (md_dns_name_is_wildcard(name) || !dot || dot == name
            || !apr_hash_get(suffixes, dot, APR_HASH_KEY_STRING))
            APR_ARRAY_PUSH(list, const char *) = name;
    }
    return list;
}
