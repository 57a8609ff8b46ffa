/* SPDX-License-Identifier: Apache-2.0 */
/* Published sets: written, read by other configurations too, damaged in each way, and removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_csr.h"
#include "../../md_file.h"
#include "../../md_published.h"
#include "../../md_text.h"
#include "issue.h"
#include "temp_dir.h"

#define DAY  (24 * 3600L)
#define NAME "a.org"

static apr_pool_t *p;
static md_err_t err;
static md_store_t *store;
static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };
static const md_key_spec_t P384 = { .type = MD_KEY_EC, .curve = "P-384" };

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    if (temp_dir_make() != 0)
        return -1;
    return md_store_open(&store, apr_pstrcat(p, temp_dir, "/md", NULL), &err, p);
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return temp_dir_remove();
}

static md_domain_t *make_domain(const md_key_spec_t *first, const md_key_spec_t *second)
{
    static const md_live_t NOTHING = { .state = MD_STATE_INCOMPLETE };
    md_domain_t *domain = md_domain_make(NAME, p);
    md_live_t *live = apr_pmemdup(p, &NOTHING, sizeof(NOTHING));
    apr_array_header_t *certs = apr_array_make(p, 2, sizeof(void *));

    APR_ARRAY_PUSH(domain->names, const char *) = NAME;
    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = *first;
    if (second)
        APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = *second;
    apr_array_push(certs);
    apr_array_push(certs);
    certs->nelts = domain->key_specs->nelts;
    live->certs = live->obtained = certs;
    live->fits = apr_pcalloc(p, 2 * sizeof(int));
    md_live_replace(domain, live);
    domain->activates_live = 1;
    return domain;
}

static md_published_t make(const md_domain_t *domain, long start, long end)
{
    md_published_t published = { .since = apr_time_from_sec(1000), .account = "ACME-1" };
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    apr_array_header_t *chain;
    md_key_t *key;
    int i;

    published.set.ca_url = "https://ca.test/dir";
    published.set.keys = apr_array_make(p, 2, sizeof(void *));
    published.set.chains = apr_array_make(p, 2, sizeof(void *));
    published.job = md_job_make(MD_STORE_STAGING, NAME, p);
    for (i = 0; i < specs->nelts; ++i) {
        assert_int_equal(md_key_generate(&key, &APR_ARRAY_IDX(specs, i, md_key_spec_t), &err, p),
                         APR_SUCCESS);
        chain = apr_array_make(p, 1, sizeof(void *));
        APR_ARRAY_PUSH(chain, md_cert_t *) = issue(domain->names, key, start, end, p);
        APR_ARRAY_PUSH(published.set.keys, md_key_t *) = key;
        APR_ARRAY_PUSH(published.set.chains, apr_array_header_t *) = chain;
    }
    return published;
}

static const char *fingerprint(const md_published_t *published, int i)
{
    return md_cert_info(md_chain_leaf(APR_ARRAY_IDX(published->set.chains, i,
                                                    apr_array_header_t *)), p)->fingerprint;
}

static apr_status_t load(md_published_t *published, const md_domain_t *domain)
{
    memset(published, 0, sizeof(*published));
    md_err_clear(&err);
    return md_published_load(published, store, domain, &err, p);
}

static void save(md_published_t *published, const md_domain_t *domain)
{
    assert_int_equal(md_published_save(published, store, domain, &err, p), APR_SUCCESS);
}

static int file_count(void)
{
    return md_store_files(store, MD_STORE_LIVE, NAME, p)->nelts;
}

static void there_and_back(void **state)
{
    md_domain_t *domain = make_domain(&P256, &P384);
    md_published_t one = make(domain, -DAY, 89 * DAY), two = make(domain, -DAY, 90 * DAY), found;
    const char *path;
    struct stat st;

    (void)state;
    assert_int_equal(load(&found, domain), APR_ENOENT);
    save(&one, domain);
    assert_int_equal(load(&found, domain), APR_SUCCESS);
    assert_string_equal(found.account, "ACME-1");
    assert_string_equal(found.set.ca_url, "https://ca.test/dir");
    assert_true(found.since == one.since && found.number == 1 && found.job != NULL);
    assert_string_equal(fingerprint(&found, 0), fingerprint(&one, 0));
    assert_string_equal(fingerprint(&found, 1), fingerprint(&one, 1));
    assert_int_equal(md_published_check(&found, store, domain, md_live_of(domain), &err, p),
                     APR_SUCCESS);
    save(&two, domain);
    assert_int_equal(load(&found, domain), APR_SUCCESS);
    assert_string_equal(fingerprint(&found, 1), fingerprint(&two, 1));
    assert_true(found.number == 2 && file_count() == 1);
    path = md_store_path(store, MD_STORE_LIVE, NAME, "set.2", p);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644); /* keys are encrypted, as in staging */
}

/* Who has read one takes no later one away. */
static void removed_by_number(void **state)
{
    md_domain_t *domain = make_domain(&P256, NULL);
    md_published_t one = make(domain, -DAY, 89 * DAY), found;

    (void)state;
    save(&one, domain);
    save(&one, domain);
    md_published_remove(store, NAME, 1, p);
    assert_int_equal(load(&found, domain), APR_SUCCESS);
    md_published_remove(store, NAME, 2, p);
    assert_int_equal(load(&found, domain), APR_ENOENT);
    assert_false(md_store_exists(store, MD_STORE_LIVE, NAME, NULL, p));
    md_published_remove(store, NAME, 2, p);
    save(&one, domain);
    assert_int_equal(one.number, 1);
}

/* Each type that the domain still has, and nothing for others. */
static void other_key_specs(void **state)
{
    md_domain_t *both = make_domain(&P256, &P384), *swapped = make_domain(&P384, &P256);
    md_domain_t *one = make_domain(&P384, NULL), *other;
    md_published_t published = make(both, -DAY, 89 * DAY), found;
    static const md_key_spec_t RSA = { .type = MD_KEY_RSA, .bits = 2048 };

    (void)state;
    save(&published, both);
    assert_int_equal(load(&found, swapped), APR_SUCCESS);
    assert_string_equal(fingerprint(&found, 0), fingerprint(&published, 1));
    assert_int_equal(load(&found, one), APR_SUCCESS);
    assert_int_equal(found.set.chains->nelts, 1);
    assert_string_equal(fingerprint(&found, 0), fingerprint(&published, 1));
    other = make_domain(&RSA, &P256);
    assert_int_equal(load(&found, other), APR_SUCCESS);
    assert_null(APR_ARRAY_IDX(found.set.chains, 0, void *));
    assert_int_equal(md_published_check(&found, store, other, md_live_of(other), &err, p),
                     APR_SUCCESS);
    other = make_domain(&RSA, NULL);
    assert_int_equal(md_published_check(&found, store, other, md_live_of(other), &err, p),
                     APR_EINVAL);
    assert_non_null(strstr(err.detail, "no certificate of the configured key types"));
}

static void what_is_live_follows(void **state)
{
    md_domain_t *domain = make_domain(&P256, NULL);
    md_published_t one = make(domain, -DAY, 89 * DAY), expired = make(domain, -90 * DAY, -DAY);
    md_board_t *board = md_board_make(apr_palloc(p, md_board_size(1)), 1);
    const md_live_t *at_start = md_live_of(domain), *live;

    (void)state;
    save(&one, domain);
    md_published_follow(store, board, domain);
    assert_ptr_equal(md_live_of(domain), at_start);
    md_board_raise(board, 0);
    md_published_follow(store, board, domain);
    live = md_live_of(domain);
    assert_ptr_not_equal(live, at_start);
    assert_ptr_equal(md_live_at_start(domain), at_start);
    assert_int_equal(live->state, MD_STATE_COMPLETE);
    assert_true(live->since == one.since);
    md_published_follow(store, board, domain);
    assert_ptr_equal(md_live_of(domain), live);
    /* what is of no use changes nothing */
    save(&expired, domain);
    md_board_raise(board, 0);
    md_published_follow(store, board, domain);
    assert_ptr_equal(md_live_of(domain)->certs, live->certs);
    assert_int_equal(md_live_of(domain)->generation, 2);
}

/* ---- damage ---- */

static void write_file(const char *file, const char *text, apr_size_t len)
{
    md_file_attr_t attr = { .perms = APR_FPROT_UREAD | APR_FPROT_UWRITE };
    const char *path = md_store_path(store, MD_STORE_LIVE, NAME, file, p);

    assert_int_equal(md_file_write(AT_FDCWD, path, &attr, text, len, p), APR_SUCCESS);
}

static void damaged(void **state)
{
    md_domain_t *domain = make_domain(&P256, NULL);
    md_published_t one = make(domain, -DAY, 89 * DAY), found;
    const char *path, *text;
    apr_size_t len, cut;
    char *copy;

    (void)state;
    save(&one, domain);
    path = md_store_path(store, MD_STORE_LIVE, NAME, "set.1", p);
    assert_int_equal(md_store_load_text(&text, &len, store, MD_STORE_LIVE, NAME, "set.1", 1 << 20,
                                        &err, p), APR_SUCCESS);
    for (cut = 0; cut < len - 1; ++cut) { /* without its last newline, nothing is missing */
        write_file("set.1", text, cut);
        if (load(&found, domain) != APR_EINVAL)
            fail_msg("accepted without what follows: %s", text + cut);
        assert_non_null(strstr(err.detail, "set.1"));
    }
    for (cut = 0; cut < len; cut += 7) { /* it may be what nobody looks at */
        copy = apr_pstrmemdup(p, text, len);
        copy[cut] ^= 1;
        write_file("set.1", copy, len);
        assert_true(load(&found, domain) == APR_SUCCESS
                    ? md_published_check(&found, store, domain, md_live_of(domain), &err, p)
                      != APR_EGENERAL : err.detail != NULL);
    }
    copy = apr_pcalloc(p, 2 << 20);
    write_file("set.1", copy, 2 << 20);
    assert_int_equal(load(&found, domain), APR_EINVAL);
    unlink(path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(load(&found, domain), APR_EINVAL);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(load(&found, domain), APR_EINVAL);
    /* one that is right has a higher number */
    save(&one, domain);
    assert_int_equal(load(&found, domain), APR_SUCCESS);
    assert_int_equal(file_count(), 1);
    write_file("set.999999999", text, len);
    assert_int_equal(md_published_save(&one, store, domain, &err, p), APR_EINVAL);
    write_file("set.0", text, len);
    write_file("set.-1", text, len);
    write_file("set.1000000000", text, len);
    write_file("set.999999998x", text, len);
    assert_int_equal(load(&found, domain), APR_SUCCESS);
    assert_int_equal(found.number, 999999999);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(there_and_back), TEST(removed_by_number), TEST(other_key_specs),
        TEST(what_is_live_follows), TEST(damaged),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
