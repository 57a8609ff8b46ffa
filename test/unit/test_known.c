/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept over reloads: an unchanged pair is known, any other is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_csr.h"
#include "../../md_known.h"
#include "../../md_text.h"
#include "issue.h"
#include "temp_dir.h"

static apr_pool_t *process, *p;
static md_err_t err;
static apr_time_t later; /* when what is written now is no longer new */
static const md_cert_t *cert;

static const char *in_dir(const char *file)
{
    return apr_pstrcat(p, temp_dir, "/", file, NULL);
}

static void put(const char *file, const char *text)
{
    md_file_attr_t attr = { .perms = APR_FPROT_UREAD | APR_FPROT_UWRITE };

    assert_int_equal(md_file_write(AT_FDCWD, in_dir(file), &attr, text, strlen(text), p),
                     APR_SUCCESS);
}

static md_pair_t pair_of(const char *cert_file, const char *key_file)
{
    return (md_pair_t){ .cert_file = in_dir(cert_file), .key_file = in_dir(key_file) };
}

/* As somebody who reads and keeps what is not known. */
static int is_known(md_known_t *known)
{
    md_pair_t pair = pair_of("cert", "key");
    const md_cert_info_t *info = md_known_find(known, &pair, later);
    int found = info != NULL;

    if (!found)
        info = md_known_keep(known, &pair, cert, p);
    assert_string_equal(APR_ARRAY_IDX(info->names, 0, const char *), "a.org");
    return found;
}

static void an_unchanged_pair(void **state)
{
    (void)state;
    assert_false(is_known(md_known_open(process)));
    assert_true(is_known(md_known_open(process)));
    assert_true(is_known(md_known_open(process)));
    assert_false(is_known(NULL));
}

static void set_times(const char *file, const struct stat *st)
{
    struct timespec times[] = { st->st_atim, st->st_mtim };

    assert_int_equal(utimensat(AT_FDCWD, in_dir(file), times, 0), 0);
}

static void any_change(void **state)
{
    static const char *const FILES[] = { "cert", "key" };
    struct stat st;
    size_t i;

    (void)state;
    assert_false(is_known(md_known_open(process)));
    for (i = 0; i < 2; ++i) {
        put(FILES[i], "another file with the same name");
        assert_false(is_known(md_known_open(process)));
        assert_true(is_known(md_known_open(process)));
        assert_int_equal(stat(in_dir(FILES[i]), &st), 0);
        assert_int_equal(truncate(in_dir(FILES[i]), 3), 0);
        set_times(FILES[i], &st);
        assert_false(is_known(md_known_open(process)));
        assert_int_equal(chmod(in_dir(FILES[i]), 0400), 0);
        assert_false(is_known(md_known_open(process)));
        assert_int_equal(unlink(in_dir(FILES[i])), 0);
        assert_false(is_known(md_known_open(process)));
        put(FILES[i], "it is there again");
        assert_false(is_known(md_known_open(process)));
    }
}

/* The first byte of the file, to be written to: only for the first time that is seen in the times of
 * the file. */
static char *map(const char *file)
{
    int fd = open(in_dir(file), O_RDWR);
    char *byte = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_true(byte != MAP_FAILED);
    close(fd);
    *byte = 'x';
    return byte;
}

/* Two changes within one tick of the file system's clock look the same: then it is the content that
 * counts, until the files have been seen unchanged when they were old. */
static void files_that_are_new(void **state)
{
    static const char *const FILES[] = { "cert", "key" };
    md_file_version_t before, after;
    apr_time_t soon = apr_time_now();
    char *byte;
    size_t i;

    (void)state;
    for (i = 0; i < 2; ++i) {
        later = soon;
        byte = map(FILES[i]);
        assert_false(is_known(md_known_open(process)));
        assert_true(is_known(md_known_open(process)));
        assert_int_equal(md_file_version(&before, in_dir(FILES[i])), APR_SUCCESS);
        *byte = 'y';
        assert_int_equal(md_file_version(&after, in_dir(FILES[i])), APR_SUCCESS);
        assert_true(md_file_version_same(&before, &after));
        assert_false(is_known(md_known_open(process)));
        assert_true(is_known(md_known_open(process)));
        *byte = 'z';
        later = soon + apr_time_from_sec(3600);
        assert_false(is_known(md_known_open(process)));
        assert_true(is_known(md_known_open(process)));
        munmap(byte, 1);
    }
}

/* From here on the times alone tell. */
static void new_files_that_became_old(void **state)
{
    (void)state;
    later = apr_time_now();
    assert_false(is_known(md_known_open(process)));
    later += apr_time_from_sec(3600);
    assert_true(is_known(md_known_open(process)));
    assert_int_equal(chmod(in_dir("key"), 0), 0);
    assert_int_equal(chmod(in_dir("key"), 0600), 0);
    assert_false(is_known(md_known_open(process)));
}

/* Replaced ones take memory, and those of domains that are gone: at some time all starts anew. */
static void what_nobody_asks_for(void **state)
{
    md_known_t *known = md_known_open(process);
    md_pair_t pair;
    char name[32];
    int i;

    (void)state;
    for (i = 0; i < 200; ++i) {
        apr_snprintf(name, sizeof(name), "gone-%d", i);
        put(name, "");
        pair = pair_of(name, name);
        assert_null(md_known_find(known, &pair, later));
        (void)md_known_keep(known, &pair, cert, p);
    }
    known = md_known_open(process); /* all were used */
    assert_non_null(md_known_find(known, &pair, later));
    known = md_known_open(process); /* one was */
    assert_null(md_known_find(known, &pair, later));
}

static int setup(void **state)
{
    md_key_spec_t spec = { .type = MD_KEY_EC, .curve = "P-256" };
    apr_array_header_t *names;
    md_key_t *key;

    (void)state;
    apr_pool_create(&process, NULL);
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    names = md_strings_make(p);
    APR_ARRAY_PUSH(names, const char *) = "a.org";
    if (temp_dir_make() != 0 || md_key_generate(&key, &spec, &err, p) != APR_SUCCESS)
        return -1;
    cert = issue(names, key, 0, 3600, p);
    put("cert", "a certificate");
    put("key", "a key");
    later = apr_time_now() + apr_time_from_sec(3600);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    apr_pool_destroy(process);
    return temp_dir_remove();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_unchanged_pair), TEST(any_change), TEST(files_that_are_new),
        TEST(new_files_that_became_old),
        TEST(what_nobody_asks_for),
    };
    int failed;

    apr_initialize();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    apr_terminate();
    return failed;
}
