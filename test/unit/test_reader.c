/* SPDX-License-Identifier: Apache-2.0 */
/* Readers that work, die, hang and send what is no record; records that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_clock.h"
#include "../../md_limits.h"
#include "../../md_reader.h"
#include "../../md_record.h"

#define ITEMS  100
#define NOBODY 65534

static apr_pool_t *p;
static md_rights_t rights;

/* What the reader does with one item, and what came of all. */
typedef struct trial_t {
    int bad;                  /* item */
    void (*misbehave)(void);
    const char *record;       /* of each item, NULL: its number */
    int taken[ITEMS], failed[ITEMS];
    const char *why;          /* of the last failure */
} trial_t;

static char *read_item(void *baton, int item, apr_pool_t *pool)
{
    const trial_t *trial = baton;

    if (trial->misbehave && (item == trial->bad || trial->bad < 0))
        trial->misbehave();
    return trial->record ? apr_pstrdup(pool, trial->record) : apr_psprintf(pool, "item %d", item);
}

static void take_item(void *baton, int item, char *record, apr_size_t len, const char *why,
                      apr_pool_t *pool)
{
    trial_t *trial = baton;

    assert_true(item >= 0 && item < ITEMS && !record == !!why);
    ++trial->taken[item];
    trial->failed[item] = record == NULL;
    if (why)
        trial->why = apr_pstrdup(p, why);
    else if (!trial->record)
        assert_string_equal(record, apr_psprintf(pool, "item %d", item));
    if (record)
        assert_true(strlen(record) == len && record[len] == '\0');
}

/* Returns how many failed. Each is taken once. */
static int run(trial_t *trial, int count)
{
    md_reading_t reading = { .count = count, .rights = &rights, .baton = trial,
                             .read = read_item, .take = take_item };
    int i, failed = 0;

    md_reader_run(&reading, p);
    for (i = 0; i < count; ++i) {
        assert_int_equal(trial->taken[i], 1);
        failed += trial->failed[i];
    }
    assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD); /* nobody is left */
    return failed;
}

static void all_are_read(void **state)
{
    static const int COUNTS[] = { 0, 1, 15, 16, 17, 33, ITEMS };
    trial_t trial;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(COUNTS) / sizeof(COUNTS[0]); ++i) {
        memset(&trial, 0, sizeof(trial));
        assert_int_equal(run(&trial, COUNTS[i]), 0);
    }
}

static void here_without_a_process(void **state)
{
    trial_t trial = { .bad = 0 };
    md_reading_t reading = { .count = 3, .baton = &trial, .read = read_item, .take = take_item };

    (void)state;
    md_reader_run(&reading, p);
    assert_true(trial.taken[0] && trial.taken[1] && trial.taken[2] && !trial.why);
}

/* Items are taken when we come back to them, however long readers have been ready by then. */
static void readers_work_meanwhile(void **state)
{
    trial_t first = { .bad = 0 }, second = { .bad = 0 };
    md_reading_t reading = { .count = 40, .rights = &rights, .baton = &first, .read = read_item,
                             .take = take_item };
    md_readers_t *readers[2];
    int i;

    (void)state;
    readers[0] = md_reader_start(&reading, p);
    reading.baton = &second;
    readers[1] = md_reader_start(&reading, p);
    memset(&reading, 0, sizeof(reading));
    md_clock_sleep(MD_MAX_READ_TIME + apr_time_from_msec(100)); /* it is ours, not theirs */
    assert_int_equal(first.taken[0], 0);
    md_reader_finish(readers[1]);
    assert_int_equal(first.taken[0], 0);
    md_reader_finish(readers[0]);
    for (i = 0; i < 40; ++i)
        assert_true(first.taken[i] == 1 && second.taken[i] == 1 && !first.why && !second.why);
}

static char *large(apr_size_t len)
{
    char *text = apr_palloc(p, len + 1);

    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

static void large_records(void **state)
{
    trial_t trial = { .record = large(MD_MAX_RECORD) };

    (void)state;
    assert_int_equal(run(&trial, 3), 0);
    memset(&trial, 0, sizeof(trial));
    trial.record = large(MD_MAX_RECORD + 1);
    assert_int_equal(run(&trial, 3), 3);
    assert_non_null(strstr(trial.why, "is no record"));
    memset(&trial, 0, sizeof(trial));
    trial.record = "";
    assert_int_equal(run(&trial, 3), 0);
}

/* ---- readers that fail ---- */

static void crash(void)
{
    struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void leave(void)
{
    _exit(0);
}

static void hang(void)
{
    for (;;)
        pause();
}

static void nobody_waits_for_readers(void **state)
{
    trial_t trial = { .bad = -1, .misbehave = hang };
    md_reading_t reading = { .count = 40, .rights = &rights, .baton = &trial, .read = read_item,
                             .take = take_item };
    apr_pool_t *pool;

    (void)state;
    apr_pool_create(&pool, p);
    md_reader_start(&reading, pool);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
    apr_pool_destroy(pool);
    assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    assert_int_equal(trial.taken[0], 0);
}

static pid_t worker; /* of a process: it works already; 0: not yet */

static char *work_once(void *baton, int item, apr_pool_t *pool)
{
    const trial_t *trial = baton;

    if (item == trial->bad)
        leave();
    if (!worker)
        md_clock_sleep(MD_MAX_READ_TIME + apr_time_from_msec(500));
    worker = getpid();
    return apr_psprintf(pool, "%d", (int)worker);
}

static void take_worker(void *baton, int item, char *record, apr_size_t len, const char *why,
                        apr_pool_t *pool)
{
    trial_t *trial = baton;

    (void)len;
    (void)pool;
    ++trial->taken[item];
    trial->failed[item] = why != NULL;
    if (record) {
        assert_true(worker == 0 || worker == atoi(record));
        worker = atoi(record);
    }
}

/* In one process, with all the time that it needs; what is left when that fails is not begun
 * again. */
static void one_piece_of_work(void **state)
{
    static const int BAD[] = { -1, 30, 0 };
    md_reading_t reading = { .count = 40, .is_one = 1, .rights = &rights, .read = work_once,
                             .take = take_worker };
    trial_t trial;
    size_t i;
    int n;

    (void)state;
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i) {
        memset(&trial, 0, sizeof(trial));
        trial.bad = BAD[i];
        reading.baton = &trial;
        worker = 0;
        md_reader_run(&reading, p);
        for (n = 0; n < 40; ++n) {
            assert_int_equal(trial.taken[n], 1);
            assert_int_equal(trial.failed[n], BAD[i] >= 0 && n >= BAD[i]);
        }
        assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    }
    worker = 0;
}

/* Into whatever pipe there is. */
static void write_all(const void *data, size_t len)
{
    struct stat st;
    int fd;

    for (fd = 3; fd < 64; ++fd)
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
            (void)!write(fd, data, len);
}

static void talk_nonsense(void)
{
    write_all("nonsense, nonsense, nonsense", 28);
    hang();
}

static void promise_too_much(void)
{
    apr_uint32_t head[2] = { 40, 0xffffffff };

    write_all(head, sizeof(head));
    hang();
}

static void speak_for_another(void)
{
    apr_uint32_t head[2] = { 41, 1 };

    write_all(head, sizeof(head));
    write_all("x", 1);
    hang();
}

static void break_off(void)
{
    apr_uint32_t head[2] = { 40, 1000 };

    write_all(head, sizeof(head));
    write_all("x", 1);
    leave();
}

/* Never a record, and never silent. */
static void babble(void)
{
    apr_uint32_t head[2] = { 40, 1000000 };

    write_all(head, sizeof(head));
    for (;;) {
        write_all("x", 1);
        usleep(1000);
    }
}

static void one_item_alone(void **state)
{
    static const struct {
        void (*misbehave)(void);
        const char *why;
    } ROWS[] = {
        { crash, "was ended by signal 11" }, { leave, "ended early" }, { hang, "took too long" },
        { talk_nonsense, "is no record" }, { promise_too_much, "is no record" },
        { speak_for_another, "is no record" }, { break_off, "ended early" },
        { babble, "took too long" },
    };
    trial_t trial;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        memset(&trial, 0, sizeof(trial));
        trial.bad = 40;
        trial.misbehave = ROWS[i].misbehave;
        assert_int_equal(run(&trial, ITEMS), 1);
        assert_true(trial.failed[40]);
        if (!strstr(trial.why, ROWS[i].why))
            fail_msg("%s", trial.why);
    }
}

static void each_item(void **state)
{
    trial_t trial = { .bad = -1, .misbehave = leave };

    (void)state;
    assert_int_equal(run(&trial, ITEMS), ITEMS);
}

/* They are not waited for one after the other. */
static void time_is_limited(void **state)
{
    trial_t trial = { .bad = -1, .misbehave = hang };
    apr_time_t begun = md_clock_steady();

    (void)state;
    assert_int_equal(run(&trial, ITEMS), ITEMS);
    assert_true(md_clock_steady() - begun < MD_MAX_READ_LOST + 2 * MD_MAX_READ_TIME);
}

/* ---- rights ---- */

static char *look_at_rights(void *baton, int item, apr_pool_t *pool)
{
    int has_way_back = setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0;

    (void)baton;
    (void)item;
    return apr_psprintf(pool, "%d %d %d %d %d", (int)getuid(), (int)geteuid(), (int)getegid(),
                        has_way_back, access("/etc/shadow", R_OK) == 0);
}

static void check_rights(void *baton, int item, char *record, apr_size_t len, const char *why,
                         apr_pool_t *pool)
{
    (void)baton;
    (void)item;
    (void)len;
    (void)pool;
    assert_null(why);
    assert_string_equal(record, apr_psprintf(p, "%d %d %d 0 0", NOBODY, NOBODY, NOBODY));
}

static void rights_are_given_up(void **state)
{
    md_reading_t reading = { .count = 3, .rights = &rights, .read = look_at_rights,
                             .take = check_rights };

    (void)state;
    if (geteuid() != 0)
        skip();
    md_reader_run(&reading, p);
}

/* ---- records ---- */

#define B64 "MIIBmTCCAT+gAwIBAgIBBTAKBggqhkjOPQQDAjAwMQswCQYDVQQGEwJYWDENMAsG"
#define PEM(label, body) "-----BEGIN " label "-----\n" body "-----END " label "-----\n"

#define KEY  PEM("PRIVATE KEY", "AAAA\n")
#define CERT PEM("CERTIFICATE", "AAAA\n")

static const md_piece_t PIECES[] = {
    { .name = "status", .max = 10, .is_needed = 1 },
    { .name = "privkey.pem", .max = 1000, .label = "PRIVATE KEY", .blocks = 1 },
    { .name = "pubcert.pem", .max = 1000, .label = "CERTIFICATE", .blocks = 2 },
    { .name = NULL },
};

static const char *piece(const char *name, const char *text)
{
    return apr_psprintf(p, "%s %lu\n%s\n", name, (unsigned long)strlen(text), text);
}

static apr_status_t parse(const char **values, const char *text, md_err_t *err)
{
    md_err_init(err, p);
    return md_record_parse(values, PIECES, apr_pstrdup(p, text), strlen(text), err);
}

static void what_was_written_is_read(void **state)
{
    apr_array_header_t *record = md_record_make(p);
    const char *values[3], *chain = PEM("CERTIFICATE", B64 "\n") PEM("CERTIFICATE", "AAA=\n");
    md_err_t err;

    (void)state;
    md_record_add(record, "pubcert.pem", chain);
    md_record_add(record, "privkey.pem", NULL);
    md_record_add(record, "status", "");
    assert_int_equal(parse(values, md_record_text(record, p), &err), APR_SUCCESS);
    assert_string_equal(values[0], "");
    assert_null(values[1]);
    assert_string_equal(values[2], chain);
}

static void what_is_no_record(void **state)
{
    const struct {
        const char *text, *why;
    } ROWS[] = {
        { "", "status is missing" },
        { "status", "not known" }, { "status ", "no length" }, { "status 1", "no length" },
        { "status x\n", "no length" }, { "status -1\nx\n", "no length" },
        { "status 99999999999999999999\nx\n", "no length" },
        { "status 999999999\nx\n", "of 10 at most" }, { "status 11\n12345678901\n", "at most" },
        { "status 1\n", "cut off" }, { "status 1\nx", "cut off" }, { "status 1\nxy", "cut off" },
        { "status 2\nx\n", "cut off" }, { "status 1\nx\ny", "not known" },
        { "status 1\nx\nstatus 1\nx\n", "twice" }, { "status 1\n\001\n", "line of text" },
        { "status 1\n\n\n", "line of text" },
        { piece("../status", "x"), "not known" }, { piece("/etc/passwd", "x"), "not known" },
        { piece("status/", "x"), "not known" }, { piece("", "x"), "not known" },
        { piece("evil.pem", "x"), "not known" }, { piece(large(1000), "x"), "not known" },
        { piece("privkey.pem", ""), "not PEM" }, { piece("privkey.pem", "x"), "not PEM" },
        { piece("privkey.pem", large(1001)), "of 1000 at most" },
        { piece("privkey.pem", PEM("CERTIFICATE", "AAAA\n")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", "")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", "AAA\n")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", "AAAA")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", B64 "AAAA\n")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", "AAAA\nAAAA\n")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", "A: b\n\nAAAA\n")), "not PEM" },
        { piece("privkey.pem", "x\n" PEM("PRIVATE KEY", "AAAA\n")), "not PEM" },
        { piece("privkey.pem", PEM("PRIVATE KEY", "AAAA\n") "x"), "not PEM" },
        { piece("privkey.pem", KEY KEY), "not PEM" }, { piece("pubcert.pem", CERT KEY), "not PEM" },
        { piece("pubcert.pem", CERT CERT CERT), "not PEM" },
    };
    const char *values[3];
    md_err_t err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        if (parse(values, ROWS[i].text, &err) != APR_EINVAL || !strstr(err.detail, ROWS[i].why))
            fail_msg("row %lu: %s", (unsigned long)i, err.detail ? err.detail : "it was taken");
    }
}

/* The NUL is within the bytes that are told. */
static void a_nul_in_a_record(void **state)
{
    char text[] = "status 3\na\0b\n";
    const char *values[3];
    md_err_t err;

    (void)state;
    md_err_init(&err, p);
    assert_int_equal(md_record_parse(values, PIECES, text, sizeof(text) - 1, &err), APR_EINVAL);
    assert_non_null(strstr(err.detail, "NUL"));
}

static int setup(void **state)
{
    (void)state;
    rights.uid = geteuid() == 0 ? NOBODY : geteuid();
    rights.gid = geteuid() == 0 ? NOBODY : getegid();
    return apr_pool_create(&p, NULL);
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_are_read), TEST(here_without_a_process), TEST(readers_work_meanwhile),
        TEST(nobody_waits_for_readers), TEST(one_piece_of_work), TEST(large_records),
        TEST(one_item_alone), TEST(each_item), TEST(time_is_limited), TEST(rights_are_given_up),
        TEST(what_was_written_is_read), TEST(what_is_no_record), TEST(a_nul_in_a_record),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
