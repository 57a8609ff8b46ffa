/* SPDX-License-Identifier: Apache-2.0 */
/* The store, jobs and what a start does to them: damage, crashes, old versions, renames. */
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

#include "../../md_acme_acct.h"
#include "../../md_csr.h"
#include "../../md_file.h"
#include "../../md_job.h"
#include "../../md_limits.h"
#include "../../md_reg.h"
#include "../../md_renew.h"
#include "../../md_text.h"

#define NAME "one.example.org"

static apr_pool_t *p;
static md_store_t *store;
static md_err_t err;
static char dir[64];
static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };

static const char *path(const char *rel)
{
    return apr_pstrcat(p, dir, "/md/", rel, NULL);
}

static int mode_of(const char *rel)
{
    struct stat st;

    return stat(path(rel), &st) == 0 ? (int)(st.st_mode & 0777) : -1;
}

static void put(const char *rel, const char *text)
{
    char *parent = apr_pstrdup(p, path(rel));

    *strrchr(parent, '/') = '\0';
    assert_int_equal(md_dir_make(parent, 0x0755, 0, NULL, p), APR_SUCCESS);
    assert_int_equal(md_file_write(path(rel), 0x0644, text, strlen(text), p), APR_SUCCESS);
}

static apr_status_t reopen(void)
{
    md_err_clear(&err);
    return md_store_open(&store, path(""), &err, p);
}

static md_key_t *save_key(md_store_group_t group, const char *name)
{
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &P256, &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_key(store, group, name, "privkey.p-256.pem", key, &err, p), 0);
    return key;
}

static void keys_are_encrypted_where_others_can_read(void **state)
{
    static const struct { md_store_group_t group; const char *dir; int mode, encrypted; } ROWS[] = {
        { MD_STORE_STAGING, "staging", 0644, 1 }, { MD_STORE_ACCOUNTS, "accounts", 0644, 1 },
        { MD_STORE_CHALLENGES, "challenges", 0600, 0 }, { MD_STORE_DOMAINS, "domains", 0600, 0 },
        { MD_STORE_TMP, "tmp", 0600, 0 },
    };
    const char *file, *text;
    md_key_t *key;
    apr_size_t len;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        save_key(ROWS[i].group, NAME);
        file = apr_pstrcat(p, ROWS[i].dir, "/" NAME "/privkey.p-256.pem", NULL);
        assert_int_equal(mode_of(file), ROWS[i].mode);
        assert_int_equal(md_store_load_text(&text, &len, store, ROWS[i].group, NAME,
                                            "privkey.p-256.pem", MD_MAX_FILE, &err, p), 0);
        assert_int_equal(strstr(text, "ENCRYPTED") != NULL, ROWS[i].encrypted);
        assert_int_equal(reopen(), APR_SUCCESS);
        assert_int_equal(md_store_load_key(&key, store, ROWS[i].group, NAME, "privkey.p-256.pem",
                                           &err, p), APR_SUCCESS);
    }
    assert_int_equal(mode_of("md_store.json"), 0600);
    assert_int_equal(mode_of("staging"), 0755);
    assert_int_equal(mode_of("domains/" NAME), 0700);
}

static void nothing_leaves_the_store(void **state)
{
    static const char *const BAD[] = { "..", ".", "", "a/b", "../x", "/etc" };
    md_json_t *json;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i) {
        assert_int_equal(md_store_save_text(store, MD_STORE_STAGING, BAD[i], "f", "x", &err, p),
                         APR_EINVAL);
        assert_int_equal(md_store_save_text(store, MD_STORE_STAGING, "a", BAD[i], "x", &err, p),
                         APR_EINVAL);
        assert_int_equal(md_store_load_json(&json, store, MD_STORE_STAGING, BAD[i], "f", &err, p),
                         APR_EINVAL);
        assert_int_equal(md_store_remove(store, MD_STORE_STAGING, BAD[i], NULL, p), APR_EINVAL);
        assert_false(md_store_exists(store, MD_STORE_STAGING, BAD[i], NULL, p));
    }
}

static void the_central_file_is_never_replaced(void **state)
{
    static const char *const BAD[] = { "", "x", "[]", "{\"key\":\"AAAA\"}", "{\"key\":5}" };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i) {
        put("md_store.json", BAD[i]);
        assert_int_not_equal(reopen(), APR_SUCCESS);
        assert_non_null(strstr(err.detail, "The central store file md/md_store.json seems to exist, "
                                           "but"));
    }
}

static void a_store_of_version_1_is_migrated(void **state)
{
    apr_array_header_t *chain, *names = md_strings_make(p), *two;
    const char *pem;
    md_cert_t *cert;
    md_key_t *key = save_key(MD_STORE_DOMAINS, NAME);

    (void)state;
    APR_ARRAY_PUSH(names, const char *) = NAME;
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    two = apr_array_make(p, 1, sizeof(md_cert_t *));
    APR_ARRAY_PUSH(two, md_cert_t *) = cert;
    pem = md_chain_to_pem(two, p);
    put("domains/" NAME "/cert.pem", pem);
    put("domains/" NAME "/chain.pem", pem);
    assert_int_equal(rename(path("domains/" NAME "/privkey.p-256.pem"),
                            path("domains/" NAME "/pkey.pem")), 0);
    put("md_store.json", "{\"version\":\"0.6.1\",\"store\":{\"version\":1},\"key\":"
                         "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\"}");
    assert_int_equal(reopen(), APR_SUCCESS);
    assert_int_equal(md_store_load_key(&key, store, MD_STORE_DOMAINS, NAME, "privkey.pem", &err, p),
                     APR_SUCCESS);
    assert_int_equal(md_store_load_chain(&chain, store, MD_STORE_DOMAINS, NAME, "pubcert.pem", &err,
                                         p), APR_SUCCESS);
    assert_int_equal(chain->nelts, 2);
    assert_int_equal(mode_of("domains/" NAME "/pubcert.pem"), 0600);
    assert_int_equal(reopen(), APR_SUCCESS);
    put("md_store.json", "{\"store\":{\"version\":4.0},\"key\":"
                         "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\"}");
    assert_int_not_equal(reopen(), APR_SUCCESS);
}

static void activation_archives_and_recovers(void **state)
{
    int i;

    (void)state;
    for (i = 1; i <= 3; ++i) {
        put("tmp/" NAME "/md.json", apr_psprintf(p, "{\"n\":%d}", i));
        assert_int_equal(md_store_activate(store, NAME, &err, p), APR_SUCCESS);
    }
    assert_true(mode_of("archive/" NAME ".1/md.json") != -1);
    assert_true(mode_of("archive/" NAME ".2/md.json") != -1);
    assert_int_equal(mode_of("archive/" NAME ".3"), -1);

    /* a crash between the two renames, the new set complete */
    assert_int_equal(rename(path("domains/" NAME), path("archive/" NAME ".3")), 0);
    put("tmp/" NAME "/md.json", "{}");
    put("tmp/" NAME "/job.json", "{}");
    md_store_recover(store, p);
    assert_true(mode_of("domains/" NAME "/md.json") != -1);
    /* a crash while the new set was written */
    put("tmp/" NAME "/md.json", "{}");
    md_store_recover(store, p);
    assert_int_equal(mode_of("tmp/" NAME), -1);
    assert_true(mode_of("domains/" NAME "/md.json") != -1);
}

static void accounts_get_free_numbers(void **state)
{
    md_json_t *json = md_json_object(p);
    const char *id;

    (void)state;
    assert_int_equal(md_store_create_numbered(&id, store, MD_STORE_ACCOUNTS, "ACME-ca-", "account.json",
                                              json, &err, p), APR_SUCCESS);
    assert_string_equal(id, "ACME-ca-0000");
    assert_int_equal(md_store_create_numbered(&id, store, MD_STORE_ACCOUNTS, "ACME-ca-", "account.json",
                                              json, &err, p), APR_SUCCESS);
    assert_string_equal(id, "ACME-ca-0001");
}

/* ---- jobs ---- */

static void jobs_both_ways(void **state)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, NAME, p), *read;
    int i;

    (void)state;
    job->errors = 3;
    job->next_run = apr_time_from_sec(1700000000);
    md_fail_problem(&err, APR_EACCES, "urn:x", "why");
    md_err_set_subproblems(&err, "[{\"type\":\"urn:y\"}]");
    md_job_result(job, "Doing", &err, p);
    for (i = 0; i < 200; ++i)
        md_job_log(job, apr_time_from_sec(i + 1), "progress", NULL, apr_psprintf(p, "%d", i));
    assert_int_equal(md_job_save(job, store, &err, p), APR_SUCCESS);
    assert_int_equal(md_job_load(&read, store, MD_STORE_STAGING, NAME, &err, p), APR_SUCCESS);
    assert_int_equal(read->errors, 3);
    assert_true(read->next_run == job->next_run);
    assert_int_equal(md_json_size(read->log), MD_MAX_JOB_LOG);
    assert_string_equal(md_json_get_str(md_json_at(read->log, 0, p), "detail"), "199");
    assert_int_equal(md_json_get_int(read->last, "status", 0), APR_EACCES);
    assert_string_equal(md_json_get_str(read->last, "problem"), "urn:x");
    assert_int_equal(md_json_size(md_json_get(read->last, "subproblems", p)), 1);
    assert_string_equal(md_json_text(md_job_to_json(read, 1, p), 0, p),
                        md_json_text(md_job_to_json(job, 1, p), 0, p));
}

static void damaged_jobs_are_fresh_jobs(void **state)
{
    static const char *const BAD[] = {
        "", "{", "[]", "null", "{\"errors\":\"x\",\"log\":5,\"last\":[],\"next-run\":{}}",
        "{\"log\":{\"entries\":{}},\"errors\":-5}",
    };
    md_job_t *job;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(BAD) / sizeof(BAD[0]); ++i) {
        put("staging/" NAME "/job.json", BAD[i]);
        (void)md_job_load(&job, store, MD_STORE_STAGING, NAME, &err, p);
        assert_int_equal(job->errors, 0);
        md_job_log(job, 1, "starting", NULL, NULL);
        assert_int_equal(md_job_save(job, store, &err, p), APR_SUCCESS);
    }
}

static void back_off_doubles_up_to_a_day(void **state)
{
    const apr_interval_time_t s = APR_USEC_PER_SEC, day = 86400 * s;

    (void)state;
    assert_true(md_job_backoff(1, 30 * s, 0, 128) == 30 * s);
    assert_true(md_job_backoff(1, 30 * s, 0, 0) == 15 * s);
    assert_true(md_job_backoff(1, 30 * s, 0, 255) == 44 * s);
    assert_true(md_job_backoff(2, 30 * s, 0, 128) == 60 * s);
    assert_true(md_job_backoff(20, 30 * s, 0, 128) == day);
    assert_true(md_job_backoff(1000000, 30 * s, 0, 0) == day / 2);
    assert_true(md_job_backoff(1, 30 * s, 1, 128) == day);
    assert_true(md_job_backoff(1, s / 10, 0, 0) == s / 10);
}

/* ---- the registry ---- */

static md_reg_t *make_reg(const char *names)
{
    apr_array_header_t *domains = apr_array_make(p, 2, sizeof(md_domain_t *));
    md_conf_t *conf = md_conf_make(p);
    char *copy = apr_pstrdup(p, names), *last, *line;
    const char *argv[2];
    md_domain_t *domain;
    const md_domain_t *other;
    md_reg_t *reg;

    for (line = apr_strtok(copy, ";", &last); line; line = apr_strtok(NULL, ";", &last)) {
        char *blank = strchr(line, ' ');

        if (blank)
            *blank = '\0';
        argv[0] = line;
        argv[1] = blank ? blank + 1 : line;
        assert_null(md_config_define(&domain, 2, argv, p));
        md_config_complete(domain, conf, p);
        APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = P256;
        domain->is_watched = 1;
        APR_ARRAY_PUSH(domains, md_domain_t *) = domain;
    }
    reg = md_reg_make(store, md_conf_merge(&md_conf_defaults, conf, p), domains, p);
    assert_null(md_reg_index(reg, &other, argv, p));
    return reg;
}

static void settle(md_reg_t *reg)
{
    int i;

    md_reg_sync_names(reg, p);
    md_reg_activate(reg, p);
    md_reg_load(reg, p);
    for (i = 0; i < reg->domains->nelts; ++i)
        md_reg_assess(reg, APR_ARRAY_IDX(reg->domains, i, md_domain_t *), p);
    md_reg_clean(reg, p);
}

static void renames_are_followed(void **state)
{
    md_json_t *json;

    (void)state;
    settle(make_reg("a.org b.org;c.org"));
    put("domains/a.org/marker", "a");
    settle(make_reg("b.org a.org;c.org"));
    assert_true(mode_of("domains/b.org/marker") != -1);
    assert_int_equal(mode_of("domains/a.org"), -1);
    assert_int_equal(md_store_load_json(&json, store, MD_STORE_DOMAINS, "b.org", "md.json", &err, p), 0);
    assert_string_equal(md_json_get_str(json, "name"), "b.org");
    settle(make_reg("x.org b.org"));
    assert_true(mode_of("domains/x.org/marker") != -1);
    assert_true(mode_of("domains/c.org/md.json") != -1); /* left alone */
}

static void stage_set(const char *name)
{
    apr_array_header_t *names = md_strings_make(p), *chain = apr_array_make(p, 1, sizeof(void *));
    md_domain_t *domain = md_domain_make(name, p);
    md_key_t *key = save_key(MD_STORE_STAGING, name);
    md_cert_t *cert;

    APR_ARRAY_PUSH(names, const char *) = name;
    domain->names = names;
    domain->ca_url = "https://ca.test/dir";
    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = P256;
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    APR_ARRAY_PUSH(chain, md_cert_t *) = cert;
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, name, "md.json",
                                        md_domain_to_json(domain, p), &err, p), 0);
    assert_int_equal(md_store_save_chain(store, MD_STORE_STAGING, name, "pubcert.p-256.pem", chain,
                                         &err, p), 0);
}

static void activation_takes_complete_sets_only(void **state)
{
    md_reg_t *reg = make_reg("a.org;b.org;c.org");

    (void)state;
    settle(reg);
    stage_set("a.org");
    stage_set("b.org");
    stage_set("c.org");
    assert_int_equal(unlink(path("staging/b.org/pubcert.p-256.pem")), 0);
    put("staging/c.org/privkey.p-256.pem", "garbage");
    settle(reg = make_reg("a.org;b.org;c.org"));
    assert_int_equal(APR_ARRAY_IDX(reg->domains, 0, md_domain_t *)->state, MD_STATE_COMPLETE);
    assert_int_equal(mode_of("staging/a.org"), -1);
    assert_true(mode_of("domains/a.org/job.json") != -1);
    assert_true(mode_of("staging/b.org/privkey.p-256.pem") != -1); /* to be continued */
    assert_int_equal(mode_of("staging/c.org"), -1);                /* purged */
    assert_true(md_renew_at(APR_ARRAY_IDX(reg->domains, 0, md_domain_t *), apr_time_now())
                > apr_time_now());
    assert_int_equal(mode_of("tmp/a.org"), -1);
}

static void errors_are_forgotten_but_no_account_key(void **state)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, "a.org", p);

    (void)state;
    job->errors = 2;
    assert_int_equal(md_job_save(job, store, &err, p), APR_SUCCESS);
    save_key(MD_STORE_STAGING, "a.org");
    assert_int_equal(rename(path("staging/a.org/privkey.p-256.pem"),
                            path("staging/a.org/account.pem")), 0);
    save_key(MD_STORE_STAGING, "a.org");
    put("challenges/a.org/acme-http-01.txt", "x");
    put("challenges/foreign.org/acme-http-01.txt", "x");
    settle(make_reg("a.org"));
    assert_int_equal(mode_of("staging/a.org/job.json"), -1);
    assert_int_equal(mode_of("staging/a.org/privkey.p-256.pem"), -1);
    assert_true(mode_of("staging/a.org/account.pem") != -1);
    assert_int_equal(mode_of("challenges/foreign.org"), -1);
}

static void every_document_damaged(void **state)
{
    static const char *const TEXTS[] = {
        "", "{", "[]", "null", "{\"name\":5,\"domains\":{},\"ca\":[],\"privkey\":7}", "\xff\xfe\x00",
    };
    md_reg_t *reg;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(TEXTS) / sizeof(TEXTS[0]); ++i) {
        put("domains/a.org/md.json", TEXTS[i]);
        put("staging/a.org/md.json", TEXTS[i]);
        put("staging/a.org/job.json", TEXTS[i]);
        put("staging/a.org/order.json", TEXTS[i]);
        put("staging/a.org/account.json", TEXTS[i]);
        put("accounts/ACME-x-0000/account.json", TEXTS[i]);
        put("httpd.json", TEXTS[i]);
        reg = make_reg("a.org");
        md_reg_save_reachability(reg, p);
        settle(reg);
        assert_int_equal(APR_ARRAY_IDX(reg->domains, 0, md_domain_t *)->state, MD_STATE_INCOMPLETE);
        assert_int_equal(md_store_load_json(&(md_json_t *){ NULL }, store, MD_STORE_DOMAINS, "a.org",
                                            "md.json", &err, p), APR_SUCCESS);
    }
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    strcpy(dir, "/tmp/md-unit-XXXXXX");
    return mkdtemp(dir) && reopen() == APR_SUCCESS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    md_dir_remove(dir, p);
    apr_pool_destroy(p);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_are_encrypted_where_others_can_read), TEST(nothing_leaves_the_store),
        TEST(the_central_file_is_never_replaced), TEST(a_store_of_version_1_is_migrated),
        TEST(activation_archives_and_recovers), TEST(accounts_get_free_numbers),
        TEST(jobs_both_ways), TEST(damaged_jobs_are_fresh_jobs), TEST(back_off_doubles_up_to_a_day),
        TEST(renames_are_followed), TEST(activation_takes_complete_sets_only),
        TEST(errors_are_forgotten_but_no_account_key), TEST(every_document_damaged),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
