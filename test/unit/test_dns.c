/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the DNS: what an answer says, whatever it is made of, and what is asked of whom. The
 * server is in this thread, as nobody waits for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_clock.h"
#include "../../md_dns.h"
#include "../../md_limits.h"

static apr_pool_t *p;
static md_err_t err;

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return 0;
}

/* ---- messages ---- */

#define NAME_A "\001a\004test"        /* with the NUL of the literal as root */
#define NAME_B "\001b\004test"

static unsigned char message[70000];
static size_t len;

static void put(const void *bytes, size_t size)
{
    assert_true(len + size <= sizeof(message));
    memcpy(message + len, bytes, size);
    len += size;
}

static void put16(unsigned n)
{
    unsigned char bytes[2] = { (unsigned char)(n >> 8), (unsigned char)n };

    put(bytes, 2);
}

/* An answer to a question about a.test with this code; `flags` as in RFC 1035 4.1.1. */
static void begin(unsigned flags, unsigned type)
{
    len = 0;
    put16(1);
    put16(0x8000 | flags);
    put16(1);
    put16(0);
    put16(0);
    put16(0);
    put(NAME_A, sizeof(NAME_A));
    put16(type);
    put16(1);
}

static void record_in(unsigned class, const char *owner, size_t owner_len, unsigned type,
                      const void *data, size_t data_len)
{
    unsigned count = (unsigned)message[6] << 8 | message[7];

    put(owner, owner_len);
    put16(type);
    put16(class);
    put16(0);
    put16(60);
    put16((unsigned)data_len);
    put(data, data_len);
    ++count;
    message[6] = (unsigned char)(count >> 8);
    message[7] = (unsigned char)count;
}

#define RECORD(owner, type, data) record_in(1, owner, sizeof(owner), type, data, sizeof(data) - 1)
#define NAMED(owner, type, data) record_in(1, owner, sizeof(owner), type, data, sizeof(data))

static md_dns_answer_t parse(md_dns_type_t type)
{
    md_dns_answer_t answer = { .name = "a.test", .type = type };

    md_dns_parse(&answer, message, len, p);
    assert_non_null(answer.records);
    return answer;
}

static const md_dns_record_t *record_at(const md_dns_answer_t *answer, int i)
{
    assert_true(i < answer->records->nelts);
    return &APR_ARRAY_IDX(answer->records, i, md_dns_record_t);
}

static void each_type_is_read(void **state)
{
    md_dns_answer_t answer;

    (void)state;
    begin(0x0400, MD_DNS_A);
    RECORD(NAME_A, MD_DNS_A, "\177\000\000\001");
    RECORD(NAME_A, MD_DNS_A, "\177\000\000\001\001"); /* none */
    RECORD(NAME_B, MD_DNS_A, "\012\000\000\001");     /* of another name */
    answer = parse(MD_DNS_A);
    assert_int_equal(answer.state, MD_DNS_FOUND);
    assert_true(answer.is_authoritative);
    assert_int_equal(answer.records->nelts, 1);
    assert_string_equal(record_at(&answer, 0)->value, "127.0.0.1");

    begin(0, MD_DNS_AAAA);
    RECORD(NAME_A, MD_DNS_AAAA, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\001");
    answer = parse(MD_DNS_AAAA);
    assert_false(answer.is_authoritative);
    assert_string_equal(record_at(&answer, 0)->value, "::1");

    begin(0, MD_DNS_TXT);
    RECORD(NAME_A, MD_DNS_TXT, "\003abc\002de");
    RECORD(NAME_A, MD_DNS_TXT, "\005abc");   /* longer than it is */
    RECORD(NAME_A, MD_DNS_TXT, "\003a\0c");  /* no text */
    RECORD(NAME_A, MD_DNS_TXT, "\000");
    answer = parse(MD_DNS_TXT);
    assert_int_equal(answer.records->nelts, 2);
    assert_string_equal(record_at(&answer, 0)->value, "abcde");
    assert_string_equal(record_at(&answer, 1)->value, "");

    begin(0, MD_DNS_NS);
    NAMED(NAME_A, MD_DNS_NS, "\002NS\004test");
    NAMED(NAME_A, MD_DNS_NS, "\002n \004test"); /* no host */
    answer = parse(MD_DNS_NS);
    assert_int_equal(answer.records->nelts, 1);
    assert_string_equal(record_at(&answer, 0)->value, "ns.test");

    begin(0, MD_DNS_CAA);
    RECORD(NAME_A, MD_DNS_CAA, "\200\005ISSUEca.test; x=y");
    RECORD(NAME_A, MD_DNS_CAA, "\000\005iss"); /* the tag is longer than all */
    RECORD(NAME_A, MD_DNS_CAA, "\000\005issue");
    answer = parse(MD_DNS_CAA);
    assert_int_equal(answer.records->nelts, 2);
    assert_string_equal(record_at(&answer, 0)->tag, "issue");
    assert_string_equal(record_at(&answer, 0)->value, "ca.test; x=y");
    assert_true(record_at(&answer, 0)->is_critical);
    assert_string_equal(record_at(&answer, 1)->value, "");
    assert_false(record_at(&answer, 1)->is_critical);
}

static void aliases_are_followed(void **state)
{
    md_dns_answer_t answer;

    (void)state;
    begin(0, MD_DNS_TXT); /* in any order */
    RECORD("\001c\004test", MD_DNS_TXT, "\001x");
    NAMED(NAME_B, MD_DNS_CNAME, "\001c\004test");
    NAMED(NAME_A, MD_DNS_CNAME, NAME_B);
    answer = parse(MD_DNS_TXT);
    assert_int_equal(answer.state, MD_DNS_FOUND);
    assert_string_equal(answer.alias, "c.test");
    assert_string_equal(record_at(&answer, 0)->value, "x");

    begin(3, MD_DNS_TXT); /* to what is not there */
    NAMED(NAME_A, MD_DNS_CNAME, NAME_B);
    answer = parse(MD_DNS_TXT);
    assert_int_equal(answer.state, MD_DNS_NO_NAME);
    assert_string_equal(answer.alias, "b.test");

    begin(0, MD_DNS_TXT); /* in a circle */
    NAMED(NAME_A, MD_DNS_CNAME, NAME_B);
    NAMED(NAME_B, MD_DNS_CNAME, NAME_A);
    assert_int_equal(parse(MD_DNS_TXT).state, MD_DNS_EMPTY);

    begin(0, MD_DNS_CNAME); /* asked for */
    NAMED(NAME_A, MD_DNS_CNAME, NAME_B);
    answer = parse(MD_DNS_CNAME);
    assert_string_equal(record_at(&answer, 0)->value, "b.test");
}

static void codes_are_told_apart(void **state)
{
    md_dns_answer_t answer;

    (void)state;
    begin(0, MD_DNS_A);
    assert_int_equal(parse(MD_DNS_A).state, MD_DNS_EMPTY);
    begin(3, MD_DNS_A);
    assert_int_equal(parse(MD_DNS_A).state, MD_DNS_NO_NAME);
    begin(2, MD_DNS_A);
    answer = parse(MD_DNS_A);
    assert_int_equal(answer.state, MD_DNS_FAILED);
    assert_string_equal(answer.why, "the answer is SERVFAIL");
    begin(9, MD_DNS_A);
    assert_string_equal(parse(MD_DNS_A).why, "the answer is an error");
}

static void damage_is_no_answer(void **state)
{
    md_dns_answer_t answer;
    size_t whole, i;

    (void)state;
    begin(0, MD_DNS_A);
    NAMED(NAME_A, MD_DNS_CNAME, NAME_B);
    RECORD(NAME_B, MD_DNS_A, "\177\000\000\001");
    whole = len;
    for (len = 0; len < whole; ++len) { /* cut anywhere */
        answer = parse(MD_DNS_A);
        assert_int_equal(answer.state, MD_DNS_FAILED);
    }
    for (i = 12; i < whole; ++i) { /* a name that points to itself, or anywhere */
        begin(0, MD_DNS_A);
        NAMED(NAME_A, MD_DNS_CNAME, NAME_B);
        RECORD(NAME_B, MD_DNS_A, "\177\000\000\001");
        message[i] = 0xc0;
        (void)parse(MD_DNS_A);
    }
    begin(0, MD_DNS_A);
    record_in(3, NAME_A, sizeof(NAME_A), MD_DNS_A, "\177\0\0\001", 4); /* of another class */
    assert_int_equal(parse(MD_DNS_A).state, MD_DNS_EMPTY);
}

static void there_is_a_limit(void **state)
{
    int i;

    (void)state;
    begin(0, MD_DNS_A);
    for (i = 0; i < MD_MAX_DNS_RECORDS + 10; ++i)
        RECORD(NAME_A, MD_DNS_A, "\177\000\000\001");
    assert_int_equal(parse(MD_DNS_A).records->nelts, MD_MAX_DNS_RECORDS);
    for (; len <= MD_MAX_DNS_MESSAGE; ++i)
        RECORD(NAME_A, MD_DNS_A, "\177\000\000\001");
    assert_int_equal(parse(MD_DNS_A).state, MD_DNS_FAILED);
}

/* ---- who is asked ---- */

static void resolvers_are_checked(void **state)
{
    static const char *const GOOD[] = { "127.0.0.1", "127.0.0.1:53", "::1", "[::1]", "[::1]:65535" };
    static const char *const BAD[] = { "", "a.test", "127.0.0.1:", "127.0.0.1:0", "1.2.3:53",
                                       "127.0.0.1:65536", "[::1", "[::1]x", "[127.0.0.1]",
                                       "[::1]:", "127.0.0.1:53x" };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(GOOD) / sizeof(GOOD[0]); ++i)
        assert_null(md_dns_check_resolver(GOOD[i], p));
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i)
        assert_non_null(md_dns_check_resolver(BAD[i], p));
}

static int server = -1, port;
static int heard;           /* questions so far */
static int is_silent;       /* to all of them */

static void open_server(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(at);

    server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
    port = ntohs(at.sin_port);
    heard = is_silent = 0;
}

/* The question as it is, with no records, and whether it was to be recursive as authority. */
static void serve(void)
{
    struct pollfd ready = { .fd = server, .events = POLLIN };
    struct sockaddr_in from;
    socklen_t size;
    ssize_t got;

    while (poll(&ready, 1, 0) > 0) {
        size = sizeof(from);
        got = recvfrom(server, message, 512, 0, (struct sockaddr *)&from, &size);
        assert_true(got > 12);
        ++heard;
        if (is_silent)
            continue;
        message[2] = message[2] & 1 ? 0x81 : 0x84;
        message[3] = 0;
        memset(message + 6, 0, 6);
        /* without the OPT record behind the question, which is 11 bytes */
        assert_int_equal(sendto(server, message, (size_t)got - 11, 0, (struct sockaddr *)&from,
                                size), got - 11);
    }
}

static md_dns_t *make(int authority_port)
{
    apr_array_header_t *resolvers = apr_array_make(p, 1, sizeof(const char *));
    md_dns_route_t route = { .resolvers = resolvers, .port = authority_port };
    md_dns_t *dns;

    APR_ARRAY_PUSH(resolvers, const char *) = apr_psprintf(p, "127.0.0.1:%d", port);
    assert_int_equal(md_dns_create(&dns, &route, &err, p), APR_SUCCESS);
    return dns;
}

static void pass(md_dns_t *dns)
{
    apr_time_t end = md_clock_steady() + apr_time_from_sec(20);
    apr_interval_time_t wait = 0;

    while (md_dns_poll(dns, &wait)) {
        assert_in_range(wait, 1, apr_time_from_msec(100));
        assert_true(md_clock_steady() < end);
        md_clock_sleep(wait);
        serve();
    }
}

static void a_question_is_asked_once(void **state)
{
    const md_dns_answer_t *one, *other, *direct;
    md_dns_t *dns;
    int i;

    (void)state;
    open_server();
    dns = make(port);
    one = md_dns_ask(dns, "A.test", MD_DNS_A);
    assert_int_equal(one->state, MD_DNS_OPEN);
    assert_ptr_equal(md_dns_ask(dns, "A.test", MD_DNS_A), one);
    other = md_dns_ask(dns, "a.test", MD_DNS_TXT);
    direct = md_dns_ask_at(dns, "127.0.0.1", "a.test", MD_DNS_TXT);
    pass(dns);
    assert_int_equal(heard, 3);
    assert_int_equal(one->state, MD_DNS_EMPTY);
    assert_string_equal(one->name, "a.test");
    assert_false(one->is_authoritative);
    assert_int_equal(other->state, MD_DNS_EMPTY);
    assert_true(direct->is_authoritative); /* recursion was not asked for */
    assert_ptr_equal(md_dns_ask(dns, "A.test", MD_DNS_A), one);
    assert_int_equal(md_dns_ask(dns, "a b", MD_DNS_A)->state, MD_DNS_FAILED);
    for (i = 0; i < 1000; ++i)
        (void)md_dns_ask(dns, apr_psprintf(p, "n%d.test", i), MD_DNS_A);
    pass(dns);
    assert_int_equal(md_dns_ask(dns, "n999.test", MD_DNS_A)->state, MD_DNS_EMPTY);
    close(server);
}

static void silence_ends(void **state)
{
    const md_dns_answer_t *silent, *closed;
    md_dns_t *dns;

    (void)state;
    open_server();
    is_silent = 1;
    dns = make(1);
    silent = md_dns_ask(dns, "a.test", MD_DNS_A);
    closed = md_dns_ask_at(dns, "127.0.0.1", "a.test", MD_DNS_A);
    pass(dns);
    assert_int_equal(silent->state, MD_DNS_FAILED);
    assert_string_equal(silent->why, "there was no answer");
    assert_int_equal(closed->state, MD_DNS_FAILED);
    assert_true(heard > 1);
    close(server);
}

static void what_is_open_can_be_dropped(void **state)
{
    apr_interval_time_t wait;
    apr_pool_t *whole = p;
    md_dns_t *dns;

    (void)state;
    open_server();
    apr_pool_create(&p, whole);
    dns = make(0);
    (void)md_dns_ask(dns, "a.test", MD_DNS_A);
    assert_true(md_dns_poll(dns, &wait));
    apr_pool_destroy(p);
    p = whole;
    close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_type_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(aliases_are_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(codes_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_no_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(resolvers_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_question_is_asked_once, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_open_can_be_dropped, setup, teardown),
    };

    if (!md_dns_library())
        return 0;
    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
