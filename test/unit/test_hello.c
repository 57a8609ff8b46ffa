/* SPDX-License-Identifier: Apache-2.0 */
/* ClientHello: what is offered, over tables, and bytes that are no such message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <apr_strings.h>

#include "../../md_hello.h"

#define ACME "acme-tls/1"

static apr_pool_t *p;

/* A message as it grows; lengths are set when what they count is there. */
typedef struct hello_t {
    unsigned char bytes[70000];
    size_t len;
} hello_t;

static void put(hello_t *hello, const void *data, size_t len)
{
    memcpy(hello->bytes + hello->len, data, len);
    hello->len += len;
}

static void put_number(hello_t *hello, size_t number, size_t width)
{
    while (width-- > 0)
        hello->bytes[hello->len++] = (unsigned char)(number >> 8 * width);
}

/* Where a length of that width stands. */
static size_t open_vector(hello_t *hello, size_t width)
{
    put_number(hello, 0, width);
    return hello->len - width;
}

static void close_vector(hello_t *hello, size_t at, size_t width)
{
    size_t end = hello->len, len = end - at - width;

    hello->len = at;
    put_number(hello, len, width);
    hello->len = end;
}

static void put_extension(hello_t *hello, size_t type, const void *data, size_t len)
{
    put_number(hello, type, 2);
    put_number(hello, len, 2);
    put(hello, data, len);
}

/* With these extensions, written one after the other, around which others stand. */
static void make_hello(hello_t *hello, const void *extensions, size_t len)
{
    static const unsigned char FILL[300];
    size_t message, all;

    hello->len = 0;
    put_number(hello, 1, 1);
    message = open_vector(hello, 3);
    put_number(hello, 0x0303, 2);
    put(hello, FILL, 32);
    put_number(hello, 32, 1);
    put(hello, FILL, 32);
    put_number(hello, 8, 2);
    put(hello, FILL, 8);
    put_number(hello, 1, 1);
    put_number(hello, 0, 1);
    all = open_vector(hello, 2);
    put_extension(hello, 0, "\0\10\0\0\5a.org", 10);
    put_extension(hello, 43, FILL, 0);
    put(hello, extensions, len);
    put_extension(hello, 21, FILL, sizeof(FILL));
    close_vector(hello, all, 2);
    close_vector(hello, message, 3);
}

/* The same with one ALPN extension; `list` holds names with their lengths in front. */
static void make_offer(hello_t *hello, const void *list, size_t len)
{
    static hello_t extension;
    size_t all, names;

    extension.len = 0;
    put_number(&extension, 16, 2);
    all = open_vector(&extension, 2);
    names = open_vector(&extension, 2);
    put(&extension, list, len);
    close_vector(&extension, names, 2);
    close_vector(&extension, all, 2);
    make_hello(hello, extension.bytes, extension.len);
}

/* In memory of exactly its size, so that a sanitizer sees the first byte read behind it. */
static apr_array_header_t *protocols(const unsigned char *bytes, size_t len)
{
    unsigned char *copy = malloc(len ? len : 1);
    apr_array_header_t *found;

    assert_non_null(copy);
    memcpy(copy, bytes, len);
    found = md_hello_protocols(copy, len, ACME, p);
    free(copy);
    return found;
}

static hello_t hello;

static void offers(void **state)
{
    static const struct { const char *list; size_t len; const char *seen; } ROWS[] = {
        { "\12acme-tls/1", 11, "acme-tls/1" },
        { "\2h2\10http/1.1\12acme-tls/1", 23, "h2 http/1.1 acme-tls/1" },
        { "\12acme-tls/1\2h2", 14, "acme-tls/1 h2" },
        { "\12acme-tls/1\12acme-tls/1", 22, "acme-tls/1 acme-tls/1" },
        { "\14acme-tls/1\0x", 13, "acme-tls/1" }, /* as httpd reads it */
        { "\0\12acme-tls/1", 12, " acme-tls/1" },
        { "\2h2\10http/1.1", 12, NULL },
        { "\13acme-tls/10", 12, NULL },
        { "\11acme-tls/", 10, NULL },
        { "\12ACME-TLS/1", 11, NULL },
        { "\13\0acme-tls/1", 12, NULL },
        { "\12acme-tls/1\1", 12, NULL },           /* a name that is not all there */
        { "\13acme-tls/1", 11, NULL },
        { "", 0, NULL },
    };
    apr_array_header_t *found;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        make_offer(&hello, ROWS[i].list, ROWS[i].len);
        found = protocols(hello.bytes, hello.len);
        if (ROWS[i].seen) {
            assert_non_null(found);
            assert_string_equal(apr_array_pstrcat(p, found, ' '), ROWS[i].seen);
        }
        else
            assert_null(found);
    }
}

static void extensions(void **state)
{
    static const struct { const char *bytes; size_t len; int is_offer; } ROWS[] = {
        { "\0\20\0\15\0\13\12acme-tls/1", 17, 1 },
        { "\0\20\0\17\0\15\2h2\12acme-tls/1", 19, 0 },     /* the last name is longer than it all */
        { "\0\21\0\15\0\13\12acme-tls/1", 17, 0 },         /* another extension */
        { "\0\20\0\15\0\12\12acme-tls/1", 17, 0 },         /* list shorter than the extension */
        { "\0\20\0\15\0\14\12acme-tls/1", 17, 0 },         /* and longer */
        { "\0\20\0\0", 4, 0 },
        { "\0\20\0\1\0", 5, 0 },
        { "\0\20\377\377\0\13\12acme-tls/1", 17, 0 },      /* longer than the message */
        { "\0\20\0\5\0\3\2h2\0\20\0\15\0\13\12acme-tls/1", 26, 0 }, /* only the first counts */
        { "", 0, 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        make_hello(&hello, ROWS[i].bytes, ROWS[i].len);
        assert_int_equal(protocols(hello.bytes, hello.len) != NULL, ROWS[i].is_offer);
    }
}

static void other_messages(void **state)
{
    /* TLS 1.0 as it was before extensions; no message at all; what is not a ClientHello. */
    static const unsigned char OLD[4 + 2 + 32 + 1 + 4 + 2] = {
        [0] = 1, [3] = 41, [4] = 3, [5] = 1, [40] = 2, [43] = 1
    };

    (void)state;
    assert_null(protocols(OLD, sizeof(OLD)));
    assert_null(protocols(OLD, 0));
    make_offer(&hello, "\12acme-tls/1", 11);
    hello.bytes[hello.len] = 0;
    assert_null(protocols(hello.bytes, hello.len + 1));
    hello.bytes[0] = 2;
    assert_null(protocols(hello.bytes, hello.len));
}

static void cut_at_every_byte(void **state)
{
    size_t len;

    (void)state;
    make_offer(&hello, "\2h2\12acme-tls/1", 14);
    for (len = 0; len < hello.len; ++len)
        assert_null(protocols(hello.bytes, len));
    assert_non_null(protocols(hello.bytes, len));
}

/* Whatever a byte becomes, what is found ends within the message and has the wanted name. */
static void every_byte_changed(void **state)
{
    apr_array_header_t *found;
    unsigned char was;
    size_t i;
    int j, value, has_acme;

    (void)state;
    make_offer(&hello, "\2h2\12acme-tls/1", 14);
    for (i = 0; i < hello.len; ++i) {
        was = hello.bytes[i];
        for (value = 0; value < 256; ++value) {
            hello.bytes[i] = (unsigned char)value;
            found = protocols(hello.bytes, hello.len);
            for (j = has_acme = 0; found && j < found->nelts; ++j)
                has_acme |= !strcmp(APR_ARRAY_IDX(found, j, const char *), ACME);
            assert_true(!found || has_acme);
            apr_pool_clear(p);
        }
        hello.bytes[i] = was;
    }
}

/* As many names as fit: all are read, and that ends. */
static void longest(void **state)
{
    static unsigned char list[64000];
    apr_array_header_t *found;

    (void)state;
    memset(list, 0, sizeof(list));
    make_offer(&hello, list, sizeof(list));
    assert_null(protocols(hello.bytes, hello.len));
    memcpy(list + sizeof(list) - 11, "\12acme-tls/1", 11);
    make_offer(&hello, list, sizeof(list));
    found = protocols(hello.bytes, hello.len);
    assert_int_equal(found->nelts, sizeof(list) - 10);
}

static int setup(void **state)
{
    (void)state;
    apr_initialize();
    return apr_pool_create(&p, NULL) == APR_SUCCESS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    apr_terminate();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers),
        cmocka_unit_test(extensions),
        cmocka_unit_test(other_messages),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(longest),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
