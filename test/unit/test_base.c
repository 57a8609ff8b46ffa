/* SPDX-License-Identifier: Apache-2.0 */
/* The base layer: text, time, files, JSON, errors; over tables. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <apr_strings.h>

#include "../../md_file.h"
#include "../../md_json.h"
#include "../../md_limits.h"
#include "../../md_text.h"
#include "../../md_time.h"
#include "temp_dir.h"

static const md_file_attr_t MODE_0600 = { .perms = 0x0600 };
static const md_file_attr_t MODE_0644 = { .perms = 0x0644 };
static apr_pool_t *p;

static void base64url_both_ways(void **state)
{
    static const struct { const char *text, *plain; } ROWS[] = {
        { "Zg", "f" }, { "Zm8", "fo" }, { "Zm9v", "foo" }, { "Zm9vYg", "foob" }, { "_-_-", NULL },
    };
    static const char *const BAD[] = { "", "A", "AAAAA", "A+", "A/A", "AA\n", "=AA", "AA=A" };
    unsigned char *data;
    apr_size_t i, len;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        len = md_base64url_decode(&data, ROWS[i].text, p);
        assert_true(len > 0);
        if (ROWS[i].plain)
            assert_string_equal((const char *)data, ROWS[i].plain);
        assert_string_equal(md_base64url_encode(data, len, p), ROWS[i].text);
    }
    assert_int_equal(md_base64url_decode(&data, "Zg==", p), 1);
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i)
        assert_int_equal(md_base64url_decode(&data, BAD[i], p), 0);
}

static void dns_names(void **state)
{
    static const struct { const char *pattern, *name; int covers; } COVER[] = {
        { "a.org", "A.org", 1 }, { "*.a.org", "x.a.org", 1 }, { "*.a.org", "*.a.org", 1 },
        { "*.a.org", "a.org", 0 }, { "*.a.org", "y.x.a.org", 0 }, { "*.a.org", ".a.org", 0 },
        { "x.a.org", "*.a.org", 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(COVER) / sizeof(COVER[0]); ++i)
        assert_int_equal(md_dns_name_covers(COVER[i].pattern, COVER[i].name), COVER[i].covers);
}

#define LABEL_61 "a23456789b123456789c123456789d123456789e123456789f123456789g1"

static void names_that_cas_refuse(void **state)
{
    static const struct { const char *name, *part; } ROWS[] = { /* of the reason */
        { "example.org", NULL }, { "*.Example.ORG", NULL }, { "xn--caf-dma.example.org", NULL },
        { "a-b.c--d.org", NULL }, { "3com.com", NULL }, { "printer.local", NULL },
        { LABEL_61 "23.org", NULL }, { LABEL_61 "234.org", "63 characters" },
        { LABEL_61 "." LABEL_61 "." LABEL_61 "." LABEL_61 ".12org", NULL },
        { LABEL_61 "." LABEL_61 "." LABEL_61 "." LABEL_61 ".123org", "253 characters" },
        { "192.0.2.7", "address" }, { "2001:db8::7", "address" }, { "[::1]", "address" },
        { "[", "only letters" }, { "", "no dot" }, { "intranet", "no dot" }, { "org.", "no dot" },
        { "example.org.", "ends with a dot" }, { "a..example.org", "empty" },
        { ".example.org", "empty" }, { "*..org", "empty" }, { "*.*.example.org", "only letters" },
        { "my_dev.example.org", "only letters" }, { "caf\xc3\xa9.example.org", "only letters" },
        { "example.org:443", "only letters" }, { "-x.example.org", "begins or ends" },
        { "x.-.example.org", "begins or ends" }, { "x-.example.org", "begins or ends" },
        { "ab--c.example.org", "third and fourth" }, { "192.0.2", "number" }, { "*.7", "no dot" },
    };
    static const char *const PRIVATE[] = { "a.local", "a.b.HOME.arpa", "localhost.localdomain" };
    static const char *const PUBLIC[] = { "a.test", "local.org", "home.arpa", "local", "alocal", "a.arpa" };
    const char *why;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        why = md_dns_name_refusal(ROWS[i].name);
        if (ROWS[i].part ? !why || !strstr(why, ROWS[i].part) : why != NULL)
            fail_msg("%s: %s", ROWS[i].name, why ? why : "taken");
    }
    for (i = 0; i < sizeof(PRIVATE) / sizeof(PRIVATE[0]); ++i)
        assert_true(md_dns_name_is_private(PRIVATE[i]));
    for (i = 0; i < sizeof(PUBLIC) / sizeof(PUBLIC[0]); ++i)
        assert_false(md_dns_name_is_private(PUBLIC[i]));
}

static void proper_names(void **state)
{
    static const struct { const char *name, *proper; } ROWS[] = {
        { "example.org.", "example.org" }, { "*.example.org.", "*.example.org" },
        { "example.org", NULL }, { "a_b.example.org.", NULL }, { "org.", NULL }, { ".", NULL },
        { "", NULL }, { "example.org..", NULL },
#ifdef MD_HAVE_IDN2
        { "caf\xc3\xa9.example.org", "xn--caf-dma.example.org" },
        { "*.Caf\xc3\x89.example.org.", "*.xn--caf-dma.example.org" },
        { "cafe\xcc\x81.example.org", "xn--caf-dma.example.org" }, /* not composed */
        { "stra\xc3\x9f" "e.example.org", "xn--strae-oqa.example.org" },
#endif
        { "caf\xe9.example.org", NULL }, { "\xc3\xa9", NULL }, { "\xe2\x82\xac_.org", NULL },
    };
    const char *proper;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        proper = md_dns_name_proper(ROWS[i].name, p);
        if (ROWS[i].proper ? !proper || strcmp(proper, ROWS[i].proper) : proper != NULL)
            fail_msg("%s: %s", ROWS[i].name, proper ? proper : "none");
    }
}

static void tokens_and_paths(void **state)
{
    (void)state;
    assert_true(md_token_is_valid("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA"));
    assert_false(md_token_is_valid(""));
    assert_false(md_token_is_valid("a="));
    assert_false(md_token_is_valid("../x"));
    assert_true(md_path_part_is_safe("*.a.org"));
    assert_true(md_path_part_is_safe("..."));
    assert_false(md_path_part_is_safe(".."));
    assert_false(md_path_part_is_safe("."));
    assert_false(md_path_part_is_safe(""));
    assert_false(md_path_part_is_safe("a/b"));
    assert_false(md_path_part_is_safe("a\nb"));
    assert_false(md_path_part_is_safe(NULL));
}

static void uris(void **state)
{
    static const struct { const char *uri, *wrong; } ROWS[] = {
        { "https://ca.test/dir", NULL }, { "https://127.0.0.1:14000/x?y=z", NULL },
        { "https://[::1]:14000/dir", NULL }, { "HTTP://localhost", NULL },
        { "localhost:8080", "scheme must be http or https" },
        { "https://127.0.0.1:-443", "invalid port" }, { "https://a:0/", "invalid port" },
        { "https://a:65536/", "invalid port" }, { "https://a:1x/", "invalid port" },
        { "http://", "host missing" }, { "https:/a", "host missing" }, { "yes", "scheme missing" },
        { "", "not a URI" }, { "https:", "rest missing" }, { "https://a b/", "blanks not allowed" },
        { "https://a..b/", "host invalid" }, { "https://a_b/", "host invalid" },
    };
    static const struct { const char *uri; int ok; } MAIL[] = {
        { "mailto:a@b.org", 1 }, { "mailto:a", 0 }, { "mailto:@b", 0 }, { "mailto:a@", 0 },
        { "mailto:a@b@c", 0 }, { "mailto:a@b..c", 0 }, { "mehlto:a", 1 }, { "mailto:a @b", 0 },
    };
    char *longest = apr_psprintf(p, "https://ca.test/%0*d", MD_MAX_URI - 16, 0);
    const char *wrong;
    size_t i;

    (void)state;
    assert_null(md_uri_check_http(longest, p));
    assert_string_equal(md_uri_check_http(apr_pstrcat(p, longest, "0", NULL), p), "too long");
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        wrong = md_uri_check_http(ROWS[i].uri, p);
        if (ROWS[i].wrong ? !wrong || strcmp(wrong, ROWS[i].wrong) : wrong != NULL)
            fail_msg("%s: %s", ROWS[i].uri, wrong ? wrong : "accepted");
    }
    for (i = 0; i < sizeof(MAIL) / sizeof(MAIL[0]); ++i)
        assert_int_equal(md_uri_check(MAIL[i].uri, p) == NULL, MAIL[i].ok);
    assert_string_equal(md_contact_uri("a@b.org", p), "mailto:a@b.org");
    assert_string_equal(md_contact_uri("tel:1", p), "tel:1");
}

static void printable_text(void **state)
{
    char *longer = apr_pcalloc(p, 5000);

    (void)state;
    assert_string_equal(md_text_printable("a\x1b[31m\n\xff", p), "a?[31m??");
    assert_null(md_text_printable(NULL, p));
    memset(longer, 'x', 4999);
    assert_int_equal(strlen(md_text_printable(longer, p)), MD_MAX_TEXT);
}

static void minimal_names(void **state)
{
    static const char *const IN[] = { "D.org", "*.d.org", "www.d.org", "x.www.d.org", "d.org" };
    static const char *const OUT[] = { "d.org", "*.d.org", "x.www.d.org" };
    apr_array_header_t *names = md_strings_make(p);
    size_t i;

    (void)state;
    for (i = 0; i < 5; ++i)
        APR_ARRAY_PUSH(names, const char *) = IN[i];
    names = md_names_minimal(md_names_normalise(names, p), p);
    assert_int_equal(names->nelts, 3);
    for (i = 0; i < 3; ++i)
        assert_string_equal(APR_ARRAY_IDX(names, i, const char *), OUT[i]);
}

static void durations(void **state)
{
    static const struct { const char *text, *unit; apr_int64_t ms; const char *back; } OK[] = {
        { "10", "d", APR_INT64_C(864000000), "10d" }, { "48h", "s", 172800000, "2d" },
        { "90MI", "s", 5400000, "90mi" }, { "1500ms", "s", 1500, "1500ms" }, { "0", "s", 0, "0d" },
        { "-5d", "d", -432000000, "-5d" },
    };
    static const char *const BAD[] = { "", "d", "1y", "1m", "1d12h", "30sekunden", "1w", "dec-31",
                                       "9223372036854775807d", "99999999999999999999" };
    apr_interval_time_t t = 0;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(OK) / sizeof(OK[0]); ++i) {
        assert_int_equal(md_duration_parse(&t, OK[i].text, OK[i].unit), APR_SUCCESS);
        assert_true(t == OK[i].ms * 1000);
        assert_string_equal(md_duration_format(t, p), OK[i].back);
    }
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i)
        assert_int_equal(md_duration_parse(&t, BAD[i], "s"), APR_EINVAL);
}

static void windows(void **state)
{
    const md_window_t ninety = { 0, apr_time_from_sec(90 * 86400) };
    const md_window_t forever = { -apr_time_from_sec(APR_INT64_C(62000000000)),
                                  apr_time_from_sec(APR_INT64_C(253000000000)) };
    const md_window_t long_past = { -apr_time_from_sec(90 * 86400), -apr_time_from_sec(1) };
    md_window_spec_t spec;

    (void)state;
    assert_null(md_window_spec_parse(&spec, "33%", p));
    assert_true(md_window_opens(&ninety, &spec) == ninety.end - apr_time_from_sec(2566080));
    assert_string_equal(md_window_spec_format(&spec, p), "33%");
    assert_null(md_window_spec_parse(&spec, "0%", p));
    assert_true(md_window_opens(&ninety, &spec) == ninety.end);
    assert_null(md_window_spec_parse(&spec, "14", p));
    assert_true(md_window_opens(&ninety, &spec) == ninety.end - apr_time_from_sec(14 * 86400));
    assert_null(md_window_spec_parse_any(&spec, "100000%", p)); /* is more than can be told */
    assert_true(md_window_opens(&forever, &spec) < forever.start);
    assert_null(md_window_spec_parse(&spec, "9223372036854775ms", p));
    assert_true(md_window_opens(&long_past, &spec) < long_past.start);
    assert_non_null(strstr(md_window_spec_parse(&spec, "102%", p),
                           "a length of 100% or more is not allowed."));
    assert_non_null(md_window_spec_parse(&spec, "-1%", p));
    assert_non_null(md_window_spec_parse(&spec, "-5d", p));
    assert_non_null(strstr(md_window_spec_parse(&spec, "dec-31", p), "has unrecognized format"));
    assert_non_null(strstr(md_window_spec_parse(&spec, "1y", p), "has unrecognized format"));
    assert_non_null(md_window_spec_parse(&spec, "3%%", p));
    assert_non_null(md_window_spec_parse(&spec, "%", p));
}

static void time_stamps(void **state)
{
    static const struct { const char *text; apr_int64_t seconds; } ROWS[] = {
        { "1970-01-01T00:00:01Z", 1 }, { "2024-02-29T12:00:00Z", 1709208000 },
        { "2024-02-29T12:00:00.999999+02:30", 1709199000 },
        { "2024-02-29T12:00:00-01:00", 1709211600 },
        { "2023-02-29T12:00:00Z", 0 }, { "2024-13-01T00:00:00Z", 0 }, { "2024-02-29T12:00:00", 0 },
        { "2024-02-29T25:00:00Z", 0 }, { "2024-02-29T12:00:00+2", 0 }, { "", 0 }, { "x", 0 },
        { "2024-02-29T12:00:00ZZ", 0 },
    };
    apr_time_t now = apr_time_from_sec(1700000000);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i)
        if (md_time_parse_rfc3339(ROWS[i].text) != apr_time_from_sec(ROWS[i].seconds))
            fail_msg("%s", ROWS[i].text);
    assert_string_equal(md_time_http(apr_time_from_sec(1136214245), p),
                        "Mon, 02 Jan 2006 15:04:05 GMT");
    assert_true(md_time_parse_http("Mon, 02 Jan 2006 15:04:05 GMT")
                == apr_time_from_sec(1136214245));
    assert_true(md_time_parse_http("nonsense") == 0 && md_time_parse_http(NULL) == 0);
    assert_true(md_time_retry_after("120", now) == now + apr_time_from_sec(120));
    assert_true(md_time_retry_after("99999999999", now) == now + MD_MAX_RETRY_AFTER);
    assert_true(md_time_retry_after("10000000000", now) == now + MD_MAX_RETRY_AFTER);
    assert_true(md_time_retry_after("99999999999999999999", now) == now + MD_MAX_RETRY_AFTER);
    assert_true(md_time_retry_after("Wed, 15 Nov 2023 00:00:00 GMT", now) > now);
    assert_true(md_time_retry_after("Mon, 02 Jan 2006 15:04:05 GMT", now) == 0);
    assert_true(md_time_retry_after("12x", now) == 0 && md_time_retry_after(NULL, now) == 0);
}

static const char *in_dir(const char *name)
{
    return apr_pstrcat(p, temp_dir, "/", name, NULL);
}

static int mode_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (int)(st.st_mode & 0777) : -1;
}

static void files_are_whole_and_exact(void **state)
{
    const char *path = in_dir("f");
    apr_array_header_t *names = NULL;
    mode_t old = umask(077);
    apr_size_t len;
    char *data;

    (void)state;
    assert_int_equal(md_file_write(AT_FDCWD, path, &MODE_0644, "one", 3, p), APR_SUCCESS);
    assert_int_equal(mode_of(path), 0644);
    assert_int_equal(md_file_write(AT_FDCWD, path, &MODE_0600, "second", 6, p), APR_SUCCESS);
    umask(old);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(md_file_read(&data, &len, AT_FDCWD, path, 6, p), APR_SUCCESS);
    assert_string_equal(data, "second");
    assert_int_equal(md_file_read(&data, &len, AT_FDCWD, path, 5, p), APR_EINVAL);
    assert_int_equal(md_file_create(AT_FDCWD, path, &MODE_0600, "x", 1, p), APR_EEXIST);
    assert_int_equal(md_file_create(AT_FDCWD, in_dir("new"), &MODE_0600, "x", 1, p), APR_SUCCESS);
    assert_int_equal(md_dir_list(&names, AT_FDCWD, temp_dir, 0, 0, p), APR_SUCCESS);
    assert_int_equal(names->nelts, 2); /* no temporary file is left */
    assert_true(APR_STATUS_IS_ENOENT(md_file_read(&data, &len, AT_FDCWD, in_dir("none"), 9, p)));
    assert_int_not_equal(md_file_write(AT_FDCWD, in_dir("no/such/f"), &MODE_0600, "x", 1, p), APR_SUCCESS);
}

static void what_is_no_file_is_not_read(void **state)
{
    apr_size_t len;
    char *data;

    (void)state;
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(symlink("/etc/passwd", in_dir("link")), 0);
    assert_int_equal(mkdir(in_dir("sub"), 0700), 0);
    assert_int_equal(md_file_read(&data, &len, AT_FDCWD, in_dir("fifo"), 99, p), APR_EINVAL);
    assert_int_equal(md_file_read(&data, &len, AT_FDCWD, in_dir("link"), 99999, p), APR_EINVAL);
    assert_int_equal(md_file_read(&data, &len, AT_FDCWD, in_dir("sub"), 99, p), APR_EINVAL);
    assert_int_equal(symlink("/", in_dir("sub/root")), 0);
    assert_int_equal(md_dir_remove(AT_FDCWD, in_dir("sub")), APR_SUCCESS);
    assert_int_equal(mode_of("/") != -1, 1);
    assert_int_equal(md_dir_remove(AT_FDCWD, in_dir("sub")), APR_SUCCESS);
}

/* Children write to directories that root removes: it is not kept busy, and says so. */
static void trees_that_are_removed_have_limits(void **state)
{
    char *path = apr_pstrdup(p, "tree");
    int i;

    (void)state;
    for (i = 1; i <= MD_MAX_TREE_DEPTH; ++i, path = apr_pstrcat(p, path, "/deeper", NULL))
        assert_int_equal(mkdir(in_dir(path), 0700), 0);
    assert_int_equal(md_dir_remove(AT_FDCWD, in_dir("tree")), APR_SUCCESS);
    path = apr_pstrdup(p, "tree");
    for (i = 1; i <= MD_MAX_TREE_DEPTH + 2; ++i, path = apr_pstrcat(p, path, "/deeper", NULL))
        assert_int_equal(mkdir(in_dir(path), 0700), 0);
    assert_int_equal(md_dir_remove(AT_FDCWD, in_dir("tree")), ENOTEMPTY);
    assert_int_equal(mkdir(in_dir("many"), 0700), 0);
    for (i = 0; i <= MD_MAX_TREE_FILES; ++i)
        assert_int_equal(symlink("x", in_dir(apr_psprintf(p, "many/%d", i))), 0);
    assert_int_equal(md_dir_remove(AT_FDCWD, in_dir("many")), ENOTEMPTY);
    assert_int_equal(md_dir_remove(AT_FDCWD, in_dir("many")), APR_SUCCESS); /* what was left */
}

static void json_documents(void **state)
{
    static const char TEXT[] = "{\n  \"b\": 1,\n  \"a\": {\n    \"x/y\": [\n      \"1\"\n    ]\n  },"
                               "\n  \"v\": 3.0,\n  \"e\": []\n}";
    static const char *const BAD[] = { "", "x", "{", "{} x", "1", "\"s\"", "{\"a\":}", "[1,]",
                                       "{\"a\":\"\xff\"}" };
    char deep[200];
    md_json_t *json;
    size_t i;

    (void)state;
    assert_int_equal(md_json_parse(&json, TEXT, strlen(TEXT), NULL, p), APR_SUCCESS);
    assert_string_equal(md_json_text(json, 0, p), TEXT);
    assert_int_equal(md_json_get_int(json, "b", 7), 1);
    assert_int_equal(md_json_get_int(json, "v", 7), 7);
    assert_int_equal(md_json_get_int(json, "a.b.c", 7), 7);
    assert_int_equal(md_json_get_strings(json, "a.x/y", p)->nelts, 1);
    assert_null(md_json_get_str(json, "b"));
    assert_null(md_json_get_str(NULL, "b"));
    md_json_set_str(json, "n.m", "bad \xff utf8");
    assert_string_equal(md_json_get_str(json, "n.m"), "bad ? utf8");
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i)
        assert_int_equal(md_json_parse(&json, BAD[i], strlen(BAD[i]), NULL, p), APR_EINVAL);
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_int_equal(md_json_parse(&json, deep, 200, NULL, p), APR_EINVAL);
    assert_int_equal(md_json_parse(&json, deep + 70, 60, NULL, p), APR_SUCCESS);
}

static void text_as_it_is_kept(void **state)
{
    static const struct { const char *in, *clean, *line; } TEXTS[] = {
        { "", "", "" },
        { "a\r\nb\tc", "a\r\nb\tc", "a  b c" },
        { "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92",
          "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x92" },
        { "\x1b[31m\x7f", "?[31m?", "?[31m?" },
        { "\xc2\x9b" "31m\xc2\xa7", "??31m\xc2\xa7", "??31m\xc2\xa7" }, /* CSI of Latin-1 */
        { "\xff\xc3(\xe2\x82", "?\x3f(\x3f?", "?\x3f(\x3f?" },          /* no UTF-8, cut off */
        { "\xc0\xaf\xed\xa0\x80", "?????", "?????" },       /* too long a form, a surrogate */
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); ++i) {
        assert_string_equal(md_text_clean(TEXTS[i].in, 100, p), TEXTS[i].clean);
        assert_string_equal(md_text_line(TEXTS[i].in, 100, p), TEXTS[i].line);
    }
    assert_null(md_text_clean(NULL, 100, p));
    assert_null(md_text_line(NULL, 100, p));
    assert_string_equal(md_text_clean("abcde", 5, p), "abcde");
    assert_string_equal(md_text_clean("abcdef", 5, p), "abcde[...]");
    assert_string_equal(md_text_clean("abcd\xc3\xbc", 5, p), "abcd[...]");
}

static void text_for_pages(void **state)
{
    static const struct { const char *in, *visible, *html; } TEXTS[] = {
        { "a&b", "a&b", "a&amp;b" },
        { "<i title=\"x\" id='y'>", "<i title=\"x\" id='y'>", "&lt;i title=&quot;x&quot; id=&#39;y&#39;&gt;" },
        { "'?'", "'?'", "&#39;?&#39;" },
        { "\xd7\xa9\xd7\x9c \xe2\x82\xac", "\xd7\xa9\xd7\x9c \xe2\x82\xac", "\xd7\xa9\xd7\x9c \xe2\x82\xac" },
        { "a\xe2\x80\xaegnp\xe2\x81\xa6.\xe2\x80\x8b\xd8\x9c\xef\xbb\xbf", "a?gnp?.???", "a?gnp?.???" },
        { "\xe2\x80\xa6\xe2\x80\x93", "\xe2\x80\xa6\xe2\x80\x93", "\xe2\x80\xa6\xe2\x80\x93" },
        { "\xe2\x80", "??", "??" },
    };
    char small[6];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); ++i) {
        assert_string_equal(md_text_visible(TEXTS[i].in, 100, p), TEXTS[i].visible);
        assert_string_equal(md_text_html(TEXTS[i].in, 100, p), TEXTS[i].html);
    }
    md_text_fit(small, "gr\xc3\xbc\xc3\x9f", sizeof(small));
    assert_string_equal(small, "gr\xc3\xbc");
    md_text_fit(small, "\xff\xff\xff\xff\xff\xff", sizeof(small));
    assert_string_equal(small, "\xff\xff\xff\xff\xff");
    md_text_fit(small, NULL, sizeof(small));
    assert_string_equal(small, "");
    assert_null(md_text_visible(NULL, 100, p));
    assert_string_equal(md_text_html(NULL, 100, p), "");
    assert_string_equal(md_text_html("<<<<", 3, p), "&lt;&lt;&lt;[...]");
}

static void rough_durations(void **state)
{
    static const struct { apr_int64_t ms; const char *text; } ROUGH[] = {
        { 0, "0 ms" }, { 999, "999 ms" }, { 1000, "~1 second" }, { 14999, "~14 seconds" },
        { 7 * 60000 + 1, "~7 minutes" }, { 5 * 3600000, "~5 hours" }, { 86400000, "~1 day" },
        { APR_INT64_C(86400000) * 400, "~400 days" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROUGH) / sizeof(ROUGH[0]); ++i)
        assert_string_equal(md_duration_rough(ROUGH[i].ms * 1000, p), ROUGH[i].text);
    assert_string_equal(md_time_day(apr_time_from_sec(APR_INT64_C(1798761599)), p), "2026-12-31");
}

static void uris_are_resolved(void **state)
{
    static const struct { const char *base, *ref, *uri; } REFS[] = {
        { "https://a.b/x/y?q=/z", "https://c.d/e", "https://c.d/e" },
        { "https://a.b/x/y?q=/z", "http://c.d/e", "http://c.d/e" },
        { "https://a.b:14000/x/y", "/acct/1", "https://a.b:14000/acct/1" },
        { "https://a.b/x/y?q=/z", "acct/1", "https://a.b/x/acct/1" },
        { "https://a.b", "acct/1", "https://a.b/acct/1" },
        { "https://a.b?q", "/acct/1", "https://a.b/acct/1" },
        { "https://a.b/x", "//c.d/e", "https://c.d/e" },
        { "https://a.b/x", "e?u=f:g", "https://a.b/e?u=f:g" },
        { "https://a.b/x", "urn:x", "urn:x" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(REFS) / sizeof(REFS[0]); ++i)
        assert_string_equal(md_uri_resolve(REFS[i].base, REFS[i].ref, p), REFS[i].uri);
    assert_null(md_uri_resolve("https://a.b/", NULL, p));
}

static void credentials_are_not_shown(void **state)
{
    static const struct { const char *uri, *shown; } URIS[] = {
        { "http://a.b:80/c", "http://a.b:80/c" },
        { "http://me:secret@a.b:80/c", "http://***@a.b:80/c" },
        { "https://token@a.b", "https://***@a.b" },
        { "http://me:sec@ret@a.b", "http://***@a.b" },
        { "http://me:sec/ret@a.b", "http://***@a.b" }, /* is none; but that is what is meant */
        { "me:secret@a.b", "***@a.b" },
        { "me:secret@a.b/x://y", "***@a.b/x://y" },
        { "", "" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(URIS) / sizeof(URIS[0]); ++i)
        assert_string_equal(md_uri_public(URIS[i].uri, p), URIS[i].shown);
}

/* RFC 8288 3; two at most. */
static void links_are_found(void **state)
{
    static const struct { const char *value, *targets; } LINKS[] = {
        { "<a>;rel=\"next\"", "a" },
        { "<a>; rel=next, <b> ;rel=\"up\",<c>;title=x;REL=\"foo NEXT\"", "a c" },
        { "<a>; title=\"x, <y>; rel=next\"; rel=up", "" },
        { "<a>; title=\"\\\"; rel=next\"; rel=\"next\"", "a" },
        { "<a>; rel=up; rel=next", "" }, /* the first counts */
        { "<a>; rel = next ; foo, <b>;foo;rel=next", "a b" },
        { "<a,b;c>;rel=next", "a,b;c" },
        { "<a>;rel=nextnext, <b>;xrel=next, <c>;rel=\"nex t\"", "" },
        { ", ,<a>;rel=next,,<b>;rel=next", "a b" },
        { "<a>;rel=next,<b>;rel=next,<c>;rel=next", "a b" },
        { "<>;rel=next", "" },
        { "<a>;rel=next x, <b>;rel=next", "a" },
        { "<a>;rel=\"next", "a" },
        { "a;rel=next", "" }, { "<a;rel=next", "" }, { "<a>", "" }, { "<a>;", "" }, { "", "" },
        { "<a>;rel=", "" }, { "<a>;rel=\"\"", "" },
    };
    apr_array_header_t *targets;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(LINKS) / sizeof(LINKS[0]); ++i) {
        targets = md_strings_make(p);
        md_link_targets(targets, LINKS[i].value, "next", 2, p);
        if (strcmp(apr_array_pstrcat(p, targets, ' '), LINKS[i].targets))
            fail_msg("%s: '%s'", LINKS[i].value, apr_array_pstrcat(p, targets, ' '));
    }
}

static void errors_explain(void **state)
{
    md_err_t err, copy;

    (void)state;
    md_err_init(&err, p);
    md_err_init(&copy, p);
    assert_int_equal(md_fail_problem(&err, APR_EINVAL, "urn:x", "%s\x01", "why"), APR_EINVAL);
    assert_string_equal(err.detail, "why?");
    md_err_set_subproblems(&err, "[]");
    md_err_copy(&copy, &err);
    md_fail(&err, APR_EACCES, "%s, again", err.detail); /* may quote itself */
    assert_string_equal(err.detail, "why?, again");
    assert_null(err.type);
    assert_string_equal(copy.type, "urn:x");
    assert_string_equal(copy.subproblems, "[]");
    assert_int_equal(md_fail(NULL, APR_EINVAL, "nobody listens"), APR_EINVAL);
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    return temp_dir_make();
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return temp_dir_remove();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(base64url_both_ways), TEST(dns_names), TEST(names_that_cas_refuse),
        TEST(proper_names), TEST(tokens_and_paths), TEST(uris),
        TEST(printable_text), TEST(text_as_it_is_kept), TEST(text_for_pages), TEST(rough_durations), TEST(uris_are_resolved), TEST(minimal_names), TEST(durations), TEST(windows),
        TEST(time_stamps), TEST(files_are_whole_and_exact), TEST(what_is_no_file_is_not_read),
        TEST(trees_that_are_removed_have_limits),
        TEST(json_documents), TEST(links_are_found), TEST(credentials_are_not_shown),
        TEST(errors_explain),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
