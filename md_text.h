/* SPDX-License-Identifier: Apache-2.0 */
/* Text: encodings, checks of names, tokens and URIs, lists of strings. */
#ifndef MD_TEXT_H
#define MD_TEXT_H

#include <apr_tables.h>

/* base64url without padding (RFC 7515 2); result in `p`. */
const char *md_base64url_encode(const unsigned char *data, apr_size_t len, apr_pool_t *p);

/* Decodes all of `text`; trailing '=' are allowed. Returns the length and *pdata in `p`
 * (NUL-terminated behind the data); 0 with *pdata NULL when `text` is empty or malformed. */
apr_size_t md_base64url_decode(unsigned char **pdata, const char *text, apr_pool_t *p);

/* Lower-case (or upper-case) hex digits, two per byte. */
const char *md_hex_encode(const unsigned char *data, apr_size_t len, int upper, apr_pool_t *p);

/* Both NULL, or equal. */
int md_text_same(const char *a, const char *b);

/* Text from outside for a log line or page: control and non-ASCII bytes become '?', cut at
 * MD_MAX_TEXT. NULL stays NULL. */
const char *md_text_printable(const char *text, apr_pool_t *p);

/* Text from outside as it is kept: line ends, tabs and UTF-8 stay, other bytes become '?'; cut at
 * `max` bytes, between characters and with a mark. */
const char *md_text_clean(const char *text, apr_size_t max, apr_pool_t *p);

/* The same as one line. */
const char *md_text_line(const char *text, apr_size_t max, apr_pool_t *p);

/* The beginning of a text in `size` bytes, cut between characters; "" for NULL. */
void md_text_fit(char *to, const char *text, apr_size_t size);

/* As md_text_line, and without what cannot be seen, such as marks that change the direction of
 * text: '?' is in its place. Returns the text itself if it is fine. */
const char *md_text_visible(const char *text, apr_size_t max, apr_pool_t *p);

/* That for HTML, as content or in a quoted attribute. NULL becomes "". */
const char *md_text_html(const char *text, apr_size_t max, apr_pool_t *p);

/* Is it 1 to `most` PEM blocks with this label, as strictly written as in RFC 7468 3, and nothing
 * else? What is in them is not looked at. */
int md_text_is_pem(const char *text, const char *label, int most);

/* Is this safe as one component of a store path? Not empty, no '/', not "." or "..", at most
 * 255 bytes, no control characters. Wildcards and odd names from a configuration pass. */
int md_path_part_is_safe(const char *part);

int md_dns_name_is_wildcard(const char *name);

/* Does `pattern` cover `name`? Equal ignoring case, or "*.x" and `name` has exactly one more
 * label than x (and "*.x" itself). */
int md_dns_name_covers(const char *pattern, const char *name);

/* NULL for a plausible name of a host on the internet, or a wildcard of one: letters, digits, '-'
 * and '.', at least two labels, none empty (a dot at the end is no label). Else what is wrong. */
const char *md_dns_name_check(const char *name);

/* The same for a name that CAs take: no address, no dot at the end, no label or name that DNS does
 * not have (RFC 1035 2.3.4, RFC 1123 2.1, RFC 5890 2.3.1). */
const char *md_dns_name_refusal(const char *name);

/* Is it below a top-level domain of private networks (such as those of RFC 6761, 6762, 8375)? */
int md_dns_name_is_private(const char *name);

/* What to write in place of a name that CAs refuse: without a dot at the end, and in punycode
 * (RFC 5891) for letters beyond ASCII. NULL if they would refuse that, too. */
const char *md_dns_name_proper(const char *name, apr_pool_t *p);

/* What a certificate is for (RFC 8555 7.1.4, RFC 8738): `value` is a DNS name, with "*." in front
 * for a wildcard, or an address in its one canonical form. */
typedef enum { MD_IDENTIFIER_DNS, MD_IDENTIFIER_IP } md_identifier_type_t;
typedef struct md_identifier_t {
    md_identifier_type_t type;
    const char *value;
} md_identifier_t;

/* Of a configured name; values in `p`. */
md_identifier_t md_identifier_of(const char *name, apr_pool_t *p);
/* A list of md_identifier_t for a list of names. */
apr_array_header_t *md_identifiers_of(const apr_array_header_t *names, apr_pool_t *p);
int md_identifiers_equal(const md_identifier_t *a, const md_identifier_t *b); /* nocase */
/* "dns", "ip" (RFC 8555 9.7.7). */
const char *md_identifier_type(const md_identifier_t *identifier);

/* RFC 8555 8.3: base64url alphabet only, 1 to 256 characters. */
int md_token_is_valid(const char *token);

/* NULL if `uri` is an absolute URI (scheme and something behind; http(s) with a valid host and
 * port 1 to 65535; mailto with a sane address; no blanks; MD_MAX_URI bytes at most), else what is
 * wrong, as a phrase: "not a URI", "too long", "scheme missing", "rest missing", "host missing",
 * "host invalid", "invalid port", "blanks not allowed", ... */
const char *md_uri_check(const char *uri, apr_pool_t *p);

/* md_uri_check, and "scheme must be http or https". */
const char *md_uri_check_http(const char *uri, apr_pool_t *p);

/* `ref` as an absolute URI, if it is relative to the absolute `base` (RFC 3986 5.2); NULL for
 * NULL. */
const char *md_uri_resolve(const char *base, const char *ref, apr_pool_t *p);

/* The targets, as they are written, of the links with this relation in the value of a Link header
 * (RFC 8288 3) are added to `targets` while it has fewer than `most`; what is malformed ends the
 * value. */
void md_link_targets(apr_array_header_t *targets, const char *value, const char *rel, int most,
                     apr_pool_t *p);

/* Text as one segment of a path in a URI (RFC 3986 3.3): all but unreserved characters are
 * percent-encoded. */
const char *md_uri_segment(const char *text, apr_pool_t *p);

/* The URI, or what was meant to be one, without credentials: "***" stands for all that may be a
 * user or a password. Returns the text itself if there is nothing of that. */
const char *md_uri_public(const char *uri, apr_pool_t *p);

/* The host of an absolute URI, lower case, without port and brackets; NULL if there is none. */
const char *md_uri_host(const char *uri, apr_pool_t *p);

/* A contact as URI: `mailto:` is put in front unless it looks like `letters-digits:...`. */
const char *md_contact_uri(const char *contact, apr_pool_t *p);

/* The word for the terms of service of the CA, whatever they are. */
#define MD_TERMS_ACCEPTED "accepted"

/* Can one agree to these terms of service: `accepted` (those that the CA has) or their URL? NULL or
 * what is wrong. */
const char *md_terms_check(const char *terms, apr_pool_t *p);

/* NULL if a CA can use this contact URI, else what is wrong, as md_uri_check says it. */
const char *md_contact_check(const char *uri, apr_pool_t *p);

/* Lists of `const char *`. */
apr_array_header_t *md_strings_make(apr_pool_t *p);
int md_strings_has(const apr_array_header_t *list, const char *s);       /* exact */
int md_strings_has_nocase(const apr_array_header_t *list, const char *s);
int md_strings_equal(const apr_array_header_t *a, const apr_array_header_t *b); /* same order */
apr_array_header_t *md_strings_copy(const apr_array_header_t *list, apr_pool_t *p); /* deep */

/* Lower-cased copies without duplicates, order kept; linear in the number of names. */
apr_array_header_t *md_names_normalise(const apr_array_header_t *names, apr_pool_t *p);

/* Does some entry (or wildcard) of `names` cover `name`? */
int md_names_cover(const apr_array_header_t *names, const char *name);

/* `names` without those that another wildcard entry covers; order kept. */
apr_array_header_t *md_names_minimal(const apr_array_header_t *names, apr_pool_t *p);

#endif
