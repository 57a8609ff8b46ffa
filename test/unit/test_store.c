/* SPDX-License-Identifier: Apache-2.0 */
/* The store, jobs and what a start does to them: damage, crashes, old versions, renames. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <apr_strings.h>

#include "fail_files.h"

#include "../../md_acme_acct.h"
#include "../../md_csr.h"
#include "../../md_file.h"
#include "../../md_job.h"
#include "../../md_jws.h"
#include "../../md_limits.h"
#include "../../md_reg.h"
#include "../../md_rename.h"
#include "../../md_renew.h"
#include "../../md_text.h"
#include "issue.h"
#include "temp_dir.h"

#define NAME "one.example.org"

static const md_file_attr_t MODE_0644 = { .perms = 0x0644 };
static apr_pool_t *p;
static md_store_t *store;
static md_err_t err;
static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };

static const char *path(const char *rel)
{
    return apr_pstrcat(p, temp_dir, "/md/", rel, NULL);
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
    assert_int_equal(md_dir_make(parent, 0x0755, NULL, p), APR_SUCCESS);
    assert_int_equal(md_file_write(AT_FDCWD, path(rel), &MODE_0644, text, strlen(text), p), APR_SUCCESS);
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

/* A file in `staging` would end the search for accounts of versions up to 2.6. */
static void only_directories_are_in_groups(void **state)
{
    apr_uid_t owner = getuid();
    apr_file_t *lock;
    const char *group;
    int g;

    (void)state;
    assert_int_equal(md_store_prepare(store, &owner, &err, p), APR_SUCCESS);
    assert_int_equal(mode_of("engine.lock"), 0600);
    assert_int_equal(md_store_try_lock(&lock, store, &err, p), APR_SUCCESS);
    for (g = 0; g < MD_STORE_GROUP_MAX; ++g) {
        group = md_store_path(store, g, NULL, NULL, p) + strlen(path(""));
        assert_true(mode_of(group) == -1 || rmdir(path(group)) == 0);
    }
    md_store_unlock(lock);
}

/* Whatever the umask; what is there already is left as it is. */
static void children_can_pass_the_parents_that_are_made(void **state)
{
    mode_t old = umask(077);

    (void)state;
    assert_int_equal(mkdir(path("there"), 0711), 0);
    assert_int_equal(md_store_open(&store, path("there/a/b/md"), &err, p), APR_SUCCESS);
    umask(old);
    assert_int_equal(mode_of("there"), 0700);
    assert_int_equal(mode_of("there/a"), 0755);
    assert_int_equal(mode_of("there/a/b"), 0755);
    assert_int_equal(mode_of("there/a/b/md"), 0755);
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
    assert_int_equal(md_store_load_chain(&chain, NULL, store, MD_STORE_DOMAINS, NAME, "pubcert.pem",
                                         &err, p), APR_SUCCESS);
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
    assert_true(md_job_backoff(1, 30 * s, day, 128) == 30 * s);
    assert_true(md_job_backoff(1, 30 * s, day, 0) == 15 * s);
    assert_true(md_job_backoff(1, 30 * s, day, 255) == 44 * s);
    assert_true(md_job_backoff(2, 30 * s, day, 128) == 60 * s);
    assert_true(md_job_backoff(20, 30 * s, day, 128) == day);
    assert_true(md_job_backoff(1000000, 30 * s, 2 * day, 0) == day / 2);
    assert_true(md_job_backoff(1, day, day, 128) == day);
    assert_true(md_job_backoff(1, s / 10, day, 0) == s / 10);
}

/* ---- the registry ---- */

static md_reg_t *make_reg(const char *names)
{
    apr_array_header_t *domains = apr_array_make(p, 2, sizeof(md_domain_t *));
    md_conf_t *conf = md_conf_make(p);
    char *copy = apr_pstrdup(p, names), *last, *line;
    const char *argv[2];
    md_domain_t *domain = NULL;
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
        domain->ca_urls = md_strings_make(p);
        APR_ARRAY_PUSH(domain->ca_urls, const char *) = "https://ca.test/dir";
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

    md_rename_follow(reg, p);
    md_stage_activate_all(reg, p);
    md_reg_load(reg, p);
    for (i = 0; i < reg->domains->nelts; ++i)
        md_reg_assess(reg, APR_ARRAY_IDX(reg->domains, i, md_domain_t *), p);
    md_stage_clean(reg, p);
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
    static int days = 60; /* each lasts longer than those before */
    md_cert_t *cert;

    APR_ARRAY_PUSH(names, const char *) = name;
    domain->names = names;
    domain->ca_url = "https://ca.test/dir";
    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = P256;
    cert = issue(names, key, -3600, 24 * 3600 * ++days, p);
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
    assert_int_equal(md_live_of(APR_ARRAY_IDX(reg->domains, 0, md_domain_t *))->state,
                     MD_STATE_COMPLETE);
    assert_int_equal(mode_of("staging/a.org"), -1);
    assert_true(mode_of("domains/a.org/job.json") != -1);
    assert_true(mode_of("staging/b.org/privkey.p-256.pem") != -1); /* to be continued */
    assert_int_equal(mode_of("staging/c.org"), -1);                /* purged */
    assert_true(md_renew_look(reg, APR_ARRAY_IDX(reg->domains, 0, md_domain_t *), apr_time_now(), p).at
                > apr_time_now());
    assert_int_equal(mode_of("tmp/a.org"), -1);
}

static void a_restart_tries_again_and_forgets_nothing(void **state)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, "a.org", p);

    (void)state;
    job->errors = 2;
    job->next_run = apr_time_now() + apr_time_from_sec(3600);
    assert_int_equal(md_job_save(job, store, &err, p), APR_SUCCESS);
    save_key(MD_STORE_STAGING, "a.org");
    assert_int_equal(rename(path("staging/a.org/privkey.p-256.pem"),
                            path("staging/a.org/account.pem")), 0);
    save_key(MD_STORE_STAGING, "a.org");
    put("challenges/a.org/acme-http-01.txt", "x");
    put("challenges/foreign.org/acme-http-01.txt", "x");
    settle(make_reg("a.org"));
    assert_int_equal(md_job_load(&job, store, MD_STORE_STAGING, "a.org", &err, p), APR_SUCCESS);
    assert_int_equal(job->errors, 2);
    assert_true(job->next_run == 0);
    assert_true(mode_of("staging/a.org/privkey.p-256.pem") != -1);
    assert_true(mode_of("staging/a.org/account.pem") != -1);
    assert_true(mode_of("challenges/a.org/acme-http-01.txt") != -1);
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
        md_reg_save_note(reg, p);
        settle(reg);
        assert_int_equal(md_live_of(APR_ARRAY_IDX(reg->domains, 0, md_domain_t *))->state,
                         MD_STATE_INCOMPLETE);
        assert_int_equal(md_store_load_json(&(md_json_t *){ NULL }, store, MD_STORE_DOMAINS, "a.org",
                                            "md.json", &err, p), APR_SUCCESS);
    }
}

/* ---- the files of accounts and keys ---- */

static const char *thumbprint(const md_key_t *key)
{
    return md_jwk_thumbprint(key, p);
}

/* Is this private key somewhere in the store, in a file that is used? */
static int has_key(const char *wanted)
{
    apr_array_header_t *names, *files;
    const char *name, *file;
    md_key_t *key;
    int g, i, k;

    for (g = 0; g < MD_STORE_GROUP_MAX; ++g) {
        names = md_store_names(store, g, p);
        for (i = 0; i < names->nelts; ++i) {
            name = APR_ARRAY_IDX(names, i, const char *);
            files = md_store_files(store, g, name, p);
            for (k = 0; k < files->nelts; ++k) {
                file = APR_ARRAY_IDX(files, k, const char *);
                if (!strstr(file, ".tmp")
                    && md_store_load_key(&key, store, g, name, file, NULL, p) == APR_SUCCESS
                    && !strcmp(wanted, thumbprint(key)))
                    return 1;
            }
        }
    }
    return 0;
}

static const char *key_in(md_store_group_t group, const char *name, const char *file)
{
    md_key_t *key;

    return md_store_load_key(&key, store, group, name, file, NULL, p) == APR_SUCCESS
           ? thumbprint(key) : "none";
}

/* From staging into `accounts`, as a start does it. */
static apr_status_t promote(const char **pid, const md_store_t *in, const char *name, md_err_t *why,
                            apr_pool_t *pool)
{
    md_acct_packed_t packed;
    apr_status_t rv = md_acct_pack(&packed, in, name, why, pool);

    return rv == APR_SUCCESS ? md_acct_keep(pid, in, &packed, why, pool) : rv;
}

static md_key_t *stage_account(const char *name, const char *url)
{
    md_acct_t acct = { .url = url, .ca_url = "https://ca.test/dir", .status = "valid",
                       .contacts = md_strings_make(p) };
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &P256, &err, p), APR_SUCCESS);
    acct.key = key;
    assert_int_equal(md_acct_save(&acct, store, MD_STORE_STAGING, name, &err, p), APR_SUCCESS);
    return key;
}

static int count_names(md_store_group_t group)
{
    return md_store_names(store, group, p)->nelts;
}

static void accounts_are_kept_apart(void **state)
{
    const char *first, *second, *id;

    (void)state;
    first = thumbprint(stage_account("a.org", "https://ca.test/acct/1"));
    second = thumbprint(stage_account("b.org", "https://ca.test/acct/2"));
    assert_int_equal(promote(&id, store, "a.org", &err, p), APR_SUCCESS);
    assert_string_equal(id, "ACME-ca.test-0000");
    assert_int_equal(promote(&id, store, "a.org", &err, p), APR_SUCCESS);
    assert_string_equal(id, "ACME-ca.test-0000");
    assert_int_equal(promote(&id, store, "b.org", &err, p), APR_SUCCESS);
    assert_string_equal(id, "ACME-ca.test-0001");
    assert_string_equal(key_in(MD_STORE_ACCOUNTS, "ACME-ca.test-0000", "account.pem"), first);
    assert_string_equal(key_in(MD_STORE_ACCOUNTS, "ACME-ca.test-0001", "account.pem"), second);
}

static void assert_same(const char *got, const char *wanted)
{
    assert_string_equal(got ? got : "none", wanted ? wanted : "none");
}

static const char *account_of(const char *name)
{
    md_json_t *json;

    assert_int_equal(md_store_load_json(&json, store, MD_STORE_DOMAINS, name, "md.json", &err, p),
                     APR_SUCCESS);
    return md_json_get_str(json, "ca.account");
}

/* Of several accounts that fit, a domain names the one that its renewals use. */
static void domains_name_their_own_account(void **state)
{
    md_json_t *json;
    const char *id;

    (void)state;
    stage_account("x.org", "https://ca.test/acct/1");
    assert_int_equal(promote(&id, store, "x.org", &err, p), APR_SUCCESS);
    stage_set("a.org");
    stage_account("a.org", "https://ca.test/acct/2");
    stage_set("b.org");
    assert_int_equal(md_store_load_json(&json, store, MD_STORE_STAGING, "b.org", "md.json", &err,
                                        p), APR_SUCCESS);
    md_json_set_str(json, "ca.account", "ACME-ca.test-0001");
    assert_int_equal(md_store_save_json(store, MD_STORE_STAGING, "b.org", "md.json", json, &err, p),
                     APR_SUCCESS);
    settle(make_reg("a.org;b.org"));
    assert_string_equal(account_of("a.org"), "ACME-ca.test-0000"); /* joined */
    assert_string_equal(account_of("b.org"), "ACME-ca.test-0001"); /* as staging names it */
    stage_set("b.org");
    settle(make_reg("a.org;b.org"));
    assert_string_equal(account_of("b.org"), "ACME-ca.test-0001"); /* as before */
    stage_set("b.org");
    assert_int_equal(unlink(path("accounts/ACME-ca.test-0001/account.json")), 0);
    settle(make_reg("a.org;b.org"));
    assert_string_equal(account_of("b.org"), "ACME-ca.test-0000");
}

/* Versions up to 2.6 must not find an account `valid` whose key they cannot sign with. */
static void accounts_that_only_we_can_use_have_no_status(void **state)
{
    static const md_key_spec_t RSA = { .type = MD_KEY_RSA, .bits = 2048 };
    static const struct {
        const md_key_spec_t *spec;
        const char *status, *stored, *read;
    } ROWS[] = {
        { &RSA, "valid", "valid", "valid" }, { &RSA, NULL, NULL, NULL },
        { &RSA, "revoked", "revoked", "revoked" }, { &P256, "valid", NULL, "valid" },
        { &P256, NULL, NULL, "valid" }, { &P256, "deactivated", "deactivated", "deactivated" },
    };
    md_acct_t acct = { .url = "https://ca.test/acct/1", .ca_url = "https://ca.test/dir",
                       .contacts = md_strings_make(p) }, *loaded;
    md_json_t *json;
    md_key_t *key;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        assert_int_equal(md_key_generate(&key, ROWS[i].spec, &err, p), APR_SUCCESS);
        acct.key = key;
        acct.status = ROWS[i].status;
        assert_int_equal(md_acct_save(&acct, store, MD_STORE_ACCOUNTS, "x", &err, p), APR_SUCCESS);
        assert_int_equal(md_store_load_json(&json, store, MD_STORE_ACCOUNTS, "x", "account.json",
                                            &err, p), APR_SUCCESS);
        assert_int_equal(md_acct_load(&loaded, store, MD_STORE_ACCOUNTS, "x", &err, p), 0);
        assert_same(md_json_get_str(json, "status"), ROWS[i].stored);
        assert_same(loaded->status, ROWS[i].read);
    }
}

static void what_an_account_lost_comes_back(void **state)
{
    static const char *const FILES[] = { "account.json", "account.pem" };
    const char *key, *id;
    md_acct_t *acct;
    size_t i;

    (void)state;
    key = thumbprint(stage_account("a.org", "https://ca.test/acct/1"));
    for (i = 0; i < 2; ++i) {
        assert_int_equal(promote(&id, store, "a.org", &err, p), APR_SUCCESS);
        put(apr_pstrcat(p, "accounts/ACME-ca.test-0000/", FILES[i], NULL), "damaged");
        md_acct_repair(store, MD_STORE_ACCOUNTS, "ACME-ca.test-0000", p);
        assert_int_not_equal(md_acct_load(&acct, store, MD_STORE_ACCOUNTS, "ACME-ca.test-0000",
                                          &err, p), APR_SUCCESS);
        assert_int_not_equal(mode_of(apr_pstrcat(p, "accounts/ACME-ca.test-0000/", FILES[i],
                                                 ".damaged", NULL)), -1);
        assert_int_equal(promote(&id, store, "a.org", &err, p), APR_SUCCESS);
        assert_string_equal(id, "ACME-ca.test-0000");
        assert_int_equal(md_acct_load(&acct, store, MD_STORE_ACCOUNTS, id, &err, p), APR_SUCCESS);
        assert_string_equal(thumbprint(acct->key), key);
    }
    assert_int_equal(count_names(MD_STORE_ACCOUNTS), 1);
}

/* The number of an account whose document is lost is not given to another. */
static void keys_without_document_keep_their_number(void **state)
{
    const char *key, *id;

    (void)state;
    save_key(MD_STORE_ACCOUNTS, "ACME-ca.test-0000");
    key = key_in(MD_STORE_ACCOUNTS, "ACME-ca.test-0000", "privkey.p-256.pem");
    stage_account("a.org", "https://ca.test/acct/1");
    assert_int_equal(promote(&id, store, "a.org", &err, p), APR_SUCCESS);
    assert_string_equal(id, "ACME-ca.test-0001");
    assert_true(has_key(key));
}

static void keys_of_another_store_stay_in_place(void **state)
{
    const char *id;
    md_key_t *key;

    (void)state;
    stage_account("a.org", "https://ca.test/acct/1");
    assert_int_equal(promote(&id, store, "a.org", &err, p), APR_SUCCESS);
    assert_int_equal(unlink(path("md_store.json")), 0);
    assert_int_equal(reopen(), APR_SUCCESS);
    assert_int_equal(md_store_load_key(&key, store, MD_STORE_ACCOUNTS, id, "account.pem", &err, p),
                     APR_EACCES);
    md_acct_repair(store, MD_STORE_ACCOUNTS, id, p);
    assert_int_not_equal(mode_of("accounts/ACME-ca.test-0000/account.pem"), -1);
    assert_int_not_equal(mode_of("accounts/ACME-ca.test-0000/account.json"), -1);
}

static void damage_is_kept_up_to_a_limit(void **state)
{
    const char *aside;
    int i;

    (void)state;
    for (i = 1; i <= MD_MAX_ASIDE; ++i) {
        put("staging/a.org/x.pem", apr_psprintf(p, "%d", i));
        assert_int_equal(md_store_put_aside(&aside, store, MD_STORE_STAGING, "a.org", "x.pem", p),
                         APR_SUCCESS);
    }
    put("staging/a.org/x.pem", "last");
    assert_int_equal(md_store_put_aside(&aside, store, MD_STORE_STAGING, "a.org", "x.pem", p),
                     APR_EEXIST);
    assert_int_not_equal(mode_of("staging/a.org/x.pem"), -1);
    assert_int_not_equal(mode_of("staging/a.org/x.pem.damaged"), -1);
    assert_int_not_equal(mode_of("staging/a.org/x.pem.damaged.9"), -1);
}

static void a_directory_in_the_way_of_a_file(void **state)
{
    md_json_t *json;

    (void)state;
    put("staging/a.org/md.json/content", "x");
    assert_int_equal(md_store_save_text(store, MD_STORE_STAGING, "a.org", "md.json", "{}", &err, p),
                     APR_SUCCESS);
    assert_int_equal(md_store_load_json(&json, store, MD_STORE_STAGING, "a.org", "md.json", &err,
                                        p), APR_SUCCESS);
    assert_int_not_equal(mode_of("staging/a.org/md.json.damaged/content"), -1);
    put("staging/a.org/job.json/content", "x");
    assert_int_equal(md_store_remove(store, MD_STORE_STAGING, "a.org", "job.json", p), APR_SUCCESS);
    assert_int_equal(mode_of("staging/a.org/job.json"), -1);
}

static void removal_follows_no_links(void **state)
{
    (void)state;
    put("outside/file", "x");
    put("staging/a.org/deep/file", "x");
    assert_int_equal(symlink(path("outside"), path("staging/a.org/deep/link")), 0);
    assert_int_equal(symlink(path("outside"), path("staging/b.org")), 0);
    assert_int_equal(md_store_remove(store, MD_STORE_STAGING, "a.org", NULL, p), APR_SUCCESS);
    assert_int_equal(md_store_remove(store, MD_STORE_STAGING, "b.org", NULL, p), APR_SUCCESS);
    assert_int_equal(mode_of("staging/a.org"), -1);
    assert_int_equal(mode_of("staging/b.org"), -1);
    assert_int_not_equal(mode_of("outside/file"), -1);
}

static void what_is_wrong_with_a_file(void **state)
{
    static const struct { const char *text, *why; } ROWS[] = {
        { "", "it is empty" }, { "  \n ", "it is empty" }, { "[]", "not a JSON object" },
        { "{", "not JSON, line 1" },
        { "{\"finished\":5}", "member 'finished' is not true or false" },
        { "{\"last\":[]}", "member 'last' is not an object" },
    };
    md_job_t *job;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        put("staging/a.org/job.json", ROWS[i].text);
        assert_int_equal(md_job_load(&job, store, MD_STORE_STAGING, "a.org", &err, p), APR_EINVAL);
        assert_non_null(strstr(err.detail, ROWS[i].why));
        assert_non_null(strstr(err.detail, "/staging/a.org/job.json: "));
    }
}

/* ---- locks ---- */

/* Another process that has the lock until its end is read from the pipe. */
static pid_t hold_lock(const char *file, int ready[2])
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    pid_t pid = fork();
    int fd;

    if (pid)
        return pid;
    fd = open(path(file), O_WRONLY | O_CREAT, 0600);
    if (fcntl(fd, F_SETLK, &whole) != 0 || write(ready[1], "x", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static void a_lock_is_waited_for(void **state)
{
    apr_time_t begun;
    apr_file_t *lock;
    int ready[2];
    char c;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(md_store_lock(&lock, store, 0, &err, p), APR_SUCCESS);
    assert_int_equal(mode_of("store.lock") & ~0640, 0);
    md_store_unlock(lock);
    pid = hold_lock("store.lock", ready);
    assert_int_equal(read(ready[0], &c, 1), 1);
    begun = apr_time_now();
    assert_int_equal(md_store_lock(&lock, store, apr_time_from_msec(250), &err, p), APR_EAGAIN);
    assert_true(apr_time_now() - begun >= apr_time_from_msec(250));
    assert_non_null(strstr(err.detail, "another process"));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(md_store_lock(&lock, store, 0, &err, p), APR_SUCCESS);
    md_store_unlock(lock);
    close(ready[0]);
    close(ready[1]);
}

/* The children's user could put something in the place of the base, of what it is in, or of a link
 * on the way; to it, and to where an administrator put a link to in place of a group. */
static void the_way_to_a_store_is_not_the_childrens(void **state)
{
    static const struct {
        const char *rel;
        mode_t mode;            /* 0: a link */
        apr_uid_t uid;
        apr_gid_t gid;
        int is_danger;
    } CASES[] = {
        { "a", 0755, 0, 0, 0 },       { "a", 01777, 0, 0, 0 },      { "a", 0777, 0, 0, 1 },
        { "a", 0775, 0, 65534, 1 },   { "a", 0775, 0, 0, 0 },       { "a", 0755, 1234, 0, 0 },
        { "a", 0755, 65534, 0, 1 },   { "a/b", 0755, 65534, 0, 1 }, { "far", 0772, 0, 0, 1 },
        { "elsewhere/in", 01777, 65534, 0, 1 },
        { "a/link", 0, 65534, 0, 1 }, { "far/link", 0, 65534, 0, 1 }, { "a/link", 0, 1234, 0, 0 },
    };
    const char *base = path("a/link/store/"), *there, *danger, *repair;
    size_t i;

    (void)state;
    if (geteuid() != 0)
        return;
    put("a/b/store/x", "");
    put("far/x", "");
    put("elsewhere/in/staging/x", "");
    assert_int_equal(symlink("../far/link", path("a/link")), 0);
    assert_int_equal(symlink(path("a/b"), path("far/link")), 0);
    assert_int_equal(symlink("../../../elsewhere/in/staging", path("a/b/store/staging")), 0);
    assert_int_equal(chown(path("elsewhere/in/staging"), 65534, 65534), 0);
    for (i = 0; i < sizeof(CASES) / sizeof(CASES[0]); ++i) {
        there = path(CASES[i].rel);
        assert_int_equal(lchown(there, CASES[i].uid, CASES[i].gid), 0);
        assert_true(!CASES[i].mode || chmod(there, CASES[i].mode) == 0);
        danger = md_store_danger(base, p);
        assert_int_equal(danger != NULL, CASES[i].is_danger);
        repair = CASES[i].mode ? apr_psprintf(p, "'chown root %s && chmod go-w %s'", there, there)
                               : apr_psprintf(p, "'chown -h root %s'", there);
        assert_true(!danger || (strstr(danger, there) && strstr(danger, repair)));
        assert_int_equal(lchown(there, 0, 0), 0);
        assert_true(!CASES[i].mode || chmod(there, 0755) == 0);
    }
    assert_null(md_store_danger(path("a/b/missing/store"), p));
    assert_int_equal(symlink("loop", path("loop")), 0);
    assert_null(md_store_danger(path("loop/store"), p));
}

/* The lock of staging is shared with children; root follows no link that is in its place. */
static void a_lock_that_root_makes_is_the_childrens(void **state)
{
    const apr_uid_t nobody = 65534;
    apr_file_t *lock;
    struct stat st;

    (void)state;
    if (geteuid() != 0)
        return;
    assert_int_equal(md_store_prepare(store, &nobody, &err, p), APR_SUCCESS);
    assert_int_equal(md_store_try_lock(&lock, store, &err, p), APR_SUCCESS);
    md_store_unlock(lock);
    assert_int_equal(stat(path("engine.lock"), &st), 0);
    assert_int_equal(st.st_uid, nobody);
    assert_int_equal(unlink(path("engine.lock")), 0);
    put("victim", "x");
    assert_int_equal(symlink(path("victim"), path("engine.lock")), 0);
    assert_int_not_equal(md_store_try_lock(&lock, store, &err, p), APR_SUCCESS);
    assert_int_equal(stat(path("victim"), &st), 0);
    assert_int_equal(st.st_uid, 0);
}

/* Children write to shared groups. Whoever has taken one over must not get root to work elsewhere,
 * by a link in place of a directory. */
static void no_link_is_followed_below_shared_groups(void **state)
{
    static const md_store_group_t SHARED[] = {
        MD_STORE_STAGING, MD_STORE_CHALLENGES, MD_STORE_OCSP
    };
    const char *link_path, *aside, *text;
    apr_size_t len;
    struct stat st;
    size_t i;

    (void)state;
    put("victim/old.tmp", "x");
    put("victim/secret", "x");
    assert_int_equal(chmod(path("victim"), 0711), 0);
    assert_int_equal(md_store_prepare(store, NULL, &err, p), APR_SUCCESS);
    for (i = 0; i < sizeof(SHARED) / sizeof(SHARED[0]); ++i) {
        link_path = md_store_path(store, SHARED[i], "a.test", NULL, p);
        assert_int_equal(symlink(path("victim"), link_path), 0);
        assert_int_equal(md_store_exists(store, SHARED[i], "a.test", NULL, p), 0);
        assert_int_equal(md_store_exists(store, SHARED[i], "a.test", "secret", p), 0);
        assert_int_equal(md_store_load_text(&text, &len, store, SHARED[i], "a.test", "secret", 99,
                                            &err, p), APR_ENOENT);
        assert_int_equal(md_store_files(store, SHARED[i], "a.test", p)->nelts, 0);
        assert_int_equal(md_store_remove(store, SHARED[i], "a.test", "secret", p), APR_SUCCESS);
        md_store_sweep(store, SHARED[i], "a.test", apr_time_now() + apr_time_from_sec(9999), p);
        assert_int_not_equal(md_store_put_aside(&aside, store, SHARED[i], "a.test", "secret", p),
                             APR_SUCCESS);
        assert_int_equal(md_store_save_text(store, SHARED[i], "a.test", "new", "x", &err, p),
                         APR_SUCCESS);
        assert_int_equal(lstat(link_path, &st), 0);
        assert_true(S_ISDIR(st.st_mode));
        link_path = apr_pstrcat(p, link_path, ".damaged", NULL);
        assert_int_equal(md_store_remove(store, SHARED[i], "a.test.damaged", NULL, p), APR_SUCCESS);
        assert_int_not_equal(lstat(link_path, &st), 0);
        assert_int_equal(mode_of("victim"), 0711);
        assert_int_equal(stat(path("victim/secret"), &st) | stat(path("victim/old.tmp"), &st), 0);
        assert_int_not_equal(stat(path("victim/new"), &st), 0);
    }
}

/* A tool may have come before the first server: children could not work in what it left. */
static void what_root_left_for_children_is_given_to_them(void **state)
{
    static const char *const LEFT[] = {
        "staging/a.test", "staging/a.test/order.json", "challenges/a.test",
        "challenges/a.test/acme-tls-alpn-01-privkey.pem"
    };
    const apr_uid_t nobody = 65534;
    struct stat st;
    size_t i;

    (void)state;
    if (geteuid() != 0)
        return;
    for (i = 0; i < 2; ++i)
        put(LEFT[2 * i + 1], "x");
    put("accounts/x/account.json", "x");
    put("victim", "x");
    assert_int_equal(symlink(path("victim"), path("staging/a.test/link")), 0);
    assert_int_equal(link(path("victim"), path("staging/a.test/other")), 0);
    assert_int_equal(md_store_prepare(store, &nobody, &err, p), APR_SUCCESS);
    for (i = 0; i < sizeof(LEFT) / sizeof(LEFT[0]); ++i) {
        assert_int_equal(stat(path(LEFT[i]), &st), 0);
        assert_int_equal(st.st_uid, nobody);
    }
    assert_int_equal(stat(path("victim"), &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(stat(path("accounts/x/account.json"), &st), 0);
    assert_int_equal(st.st_uid, 0);
}

/* A tool that root runs on the store of a server: what it stages is the children's, in a directory
 * of theirs; what is private stays root's. */
static void what_root_writes_for_children_is_theirs(void **state)
{
    const apr_uid_t nobody = 65534;
    md_store_t *tool;
    struct stat st;

    (void)state;
    if (geteuid() != 0)
        return;
    assert_int_equal(md_store_prepare(store, &nobody, &err, p), APR_SUCCESS);
    assert_int_equal(md_store_open(&tool, path(""), &err, p), APR_SUCCESS);
    assert_int_equal(md_store_save_text(tool, MD_STORE_CHALLENGES, "a.test", "x.txt", "x", &err, p),
                     APR_SUCCESS);
    assert_int_equal(stat(path("challenges/a.test"), &st), 0);
    assert_int_equal(st.st_uid, nobody);
    assert_int_equal(stat(path("challenges/a.test/x.txt"), &st), 0);
    assert_int_equal(st.st_uid, nobody);
    assert_int_equal(md_store_save_text(tool, MD_STORE_DOMAINS, "a.test", "x.txt", "x", &err, p),
                     APR_SUCCESS);
    assert_int_equal(stat(path("domains/a.test/x.txt"), &st), 0);
    assert_int_equal(st.st_uid, 0);
}

static void a_lock_file_that_is_none(void **state)
{
    apr_file_t *lock;

    (void)state;
    assert_int_equal(mkfifo(path("store.lock"), 0600), 0);
    assert_int_not_equal(md_store_lock(&lock, store, apr_time_from_sec(60), &err, p), APR_SUCCESS);
    assert_non_null(strstr(err.detail, "not a regular file"));
}

/* ---- crashes and full disks ---- */

typedef struct before_t {
    const char *live, *staged, *account; /* keys */
} before_t;

static before_t live_and_staged(void)
{
    md_job_t *job = md_job_make(MD_STORE_STAGING, NAME, p);
    before_t before;

    stage_set(NAME);
    settle(make_reg(NAME));
    before.live = key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem");
    stage_set(NAME);
    before.staged = key_in(MD_STORE_STAGING, NAME, "privkey.p-256.pem");
    before.account = thumbprint(stage_account(NAME, "https://ca.test/acct/1"));
    job->finished = job->notified_renewed = 1;
    assert_int_equal(md_job_save(job, store, &err, p), APR_SUCCESS);
    return before;
}

static const md_domain_t *only_domain(const md_reg_t *reg)
{
    return APR_ARRAY_IDX(reg->domains, 0, md_domain_t *);
}

/* Whatever happens to one of the calls, or to it and all that follow: no key is lost, and the next
 * start has the new set in service. */
static int activate_failing(int at, int is_crash, int error)
{
    before_t before = live_and_staged();
    md_reg_t *reg = make_reg(NAME);
    int came;

    fail_files_arm(at, is_crash, error);
    settle(reg);
    came = fail_files_disarm();
    assert_true(has_key(before.live));
    assert_true(has_key(before.staged));
    assert_true(has_key(before.account));
    if (!is_crash)
        assert_int_equal(md_live_of(only_domain(reg))->state, MD_STATE_COMPLETE);
    settle(reg = make_reg(NAME));
    assert_int_equal(md_live_of(only_domain(reg))->state, MD_STATE_COMPLETE);
    assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem"), before.staged);
    assert_true(has_key(before.live));
    assert_string_equal(key_in(MD_STORE_ACCOUNTS, "ACME-ca.test-0000", "account.pem"),
                        before.account);
    assert_int_equal(count_names(MD_STORE_TMP), 0);
    assert_int_equal(mode_of("staging/" NAME "/md.json"), -1);
    return came;
}

static void empty_store(void)
{
    md_dir_remove(AT_FDCWD, path(""));
    assert_int_equal(reopen(), APR_SUCCESS);
}

static void activation_survives(int is_crash, int error)
{
    int at;

    for (at = 1; activate_failing(at, is_crash, error); ++at)
        empty_store();
    assert_true(at > 40); /* they were all counted */
}

static void activation_survives_a_crash(void **state)
{
    (void)state;
    activation_survives(1, EIO);
}

static void activation_survives_one_failure(void **state)
{
    (void)state;
    activation_survives(0, ENOSPC);
}

/* What cannot be opened for a moment may be sound: it is neither put aside, nor given up, nor
 * ordered again. */
static void a_lack_of_descriptors_is_no_damage(void **state)
{
    before_t before;
    const md_live_t *live;
    md_reg_t *reg;
    int at, came = 1, unread = 0;

    (void)state;
    for (at = 1; came && at < 1000; ++at) {
        before = live_and_staged();
        fail_files.is_about_reading = 1;
        fail_files_arm(at, 0, EMFILE);
        settle(reg = make_reg(NAME));
        came = fail_files_disarm();
        live = md_live_of(only_domain(reg));
        assert_true(live->is_unread || live->state == MD_STATE_COMPLETE);
        assert_true(md_renew_due(only_domain(reg), NULL, apr_time_now()).at > apr_time_now());
        unread += live->is_unread;
        fail_files.is_about_reading = 0;
        settle(make_reg(NAME));
        assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem"), before.staged);
        assert_string_equal(key_in(MD_STORE_ACCOUNTS, "ACME-ca.test-0000", "account.pem"),
                            before.account);
        assert_int_equal(mode_of("domains/" NAME "/md.json.damaged"), -1);
        assert_int_equal(mode_of("accounts/ACME-ca.test-0000/account.json.damaged"), -1);
        assert_int_equal(mode_of("accounts/ACME-ca.test-0000/account.pem.damaged"), -1);
        empty_store();
    }
    assert_false(came);
    assert_int_equal(unread, 2); /* the certificate, and its key */
}

static void activation_on_a_read_only_disk(void **state)
{
    before_t before = live_and_staged();
    md_reg_t *reg = make_reg(NAME);

    (void)state;
    fail_files_arm(1, 1, EROFS);
    settle(reg);
    assert_true(fail_files_disarm());
    assert_int_equal(md_live_of(only_domain(reg))->state, MD_STATE_COMPLETE);
    assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem"), before.live);
    assert_string_equal(key_in(MD_STORE_STAGING, NAME, "privkey.p-256.pem"), before.staged);
    assert_true(md_store_exists(store, MD_STORE_STAGING, NAME, "pubcert.p-256.pem", p));
}

static int rename_failing(int at, int is_crash)
{
    before_t before = live_and_staged();
    const char *file = "privkey.p-256.pem";
    md_json_t *json;
    int came;

    assert_int_equal(md_store_save_json(store, MD_STORE_RECORDS, NAME, "records.json",
                                        md_json_object(p), &err, p), APR_SUCCESS);
    fail_files_arm(at, is_crash, EIO);
    md_rename_follow(make_reg("new.org " NAME), p);
    came = fail_files_disarm();
    assert_true(has_key(before.live) && has_key(before.staged) && has_key(before.account));
    md_rename_follow(make_reg("new.org " NAME), p);
    assert_string_equal(key_in(MD_STORE_DOMAINS, "new.org", file), before.live);
    assert_true(has_key(before.staged) && has_key(before.account));
    if (is_crash)
        assert_true(md_store_exists(store, MD_STORE_RECORDS, "new.org", "records.json", p));
    if (!is_crash) /* a live certificate without its renewal is better than none */
        return came;
    assert_string_equal(key_in(MD_STORE_STAGING, "new.org", file), before.staged);
    assert_int_equal(mode_of("staging/" NAME), -1);
    assert_int_equal(md_store_load_json(&json, store, MD_STORE_STAGING, "new.org", "md.json", &err,
                                        p), APR_SUCCESS);
    return came;
}

static void renames_survive_a_crash(void **state)
{
    int at, is_crash;

    (void)state;
    for (is_crash = 0; is_crash < 2; ++is_crash) {
        for (at = 1; rename_failing(at, is_crash); ++at)
            empty_store();
        assert_true(at > 3);
        empty_store();
    }
}

/* ---- life ---- */

static void archive_of_one_domain_is_full(void **state)
{
    struct timespec old[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
    before_t before = live_and_staged();
    md_reg_t *reg = make_reg(NAME);
    md_conf_t conf = *reg->conf;
    int i;

    (void)state;
    conf.archive_keep = 0;
    reg->conf = &conf;
    for (i = 1; i <= MD_MAX_ARCHIVE; ++i)
        put(apr_psprintf(p, "archive/" NAME ".%d/md.json", i), "{}");
    put("archive/" NAME ".500/oldest", "x");
    assert_int_equal(utimensat(AT_FDCWD, path("archive/" NAME ".500"), old, 0), 0);
    settle(reg);
    assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem"), before.staged);
    assert_string_equal(key_in(MD_STORE_ARCHIVE, NAME ".500", "privkey.p-256.pem"), before.live);
    assert_int_equal(mode_of("archive/" NAME ".500/oldest"), -1);
    assert_int_equal(count_names(MD_STORE_ARCHIVE), MD_MAX_ARCHIVE);
}

/* The newest by the time they were made, whatever their numbers; those of others stay. */
static void archives_are_pruned(void **state)
{
    static const char *const OTHERS[] = { NAME ".x", NAME ".0", NAME ".1000", NAME ".7.1", "7.1" };
    apr_array_header_t *names = md_strings_make(p);
    struct timespec times[2] = { { .tv_sec = 0 } };
    const char *slot;
    size_t k;
    int i;

    (void)state;
    for (k = 0; k < sizeof(OTHERS) / sizeof(OTHERS[0]); ++k)
        put(apr_psprintf(p, "archive/%s/md.json", OTHERS[k]), "{}");
    for (i = 1; i <= 30; ++i) {
        slot = apr_psprintf(p, "archive/" NAME ".%d", i);
        put(apr_pstrcat(p, slot, "/md.json", NULL), "{}");
        times[0].tv_sec = times[1].tv_sec = 1000000 + (i + 20) % 30; /* .10 was the first */
        assert_int_equal(utimensat(AT_FDCWD, path(slot), times, 0), 0);
    }
    APR_ARRAY_PUSH(names, const char *) = NAME;
    APR_ARRAY_PUSH(names, const char *) = "none.example.org";
    md_store_prune(store, names, 3, p);
    assert_int_equal(count_names(MD_STORE_ARCHIVE), 3 + sizeof(OTHERS) / sizeof(OTHERS[0]));
    for (i = 7; i <= 9; ++i)
        assert_int_not_equal(mode_of(apr_psprintf(p, "archive/" NAME ".%d/md.json", i)), -1);
    for (k = 0; k < sizeof(OTHERS) / sizeof(OTHERS[0]); ++k)
        assert_int_not_equal(mode_of(apr_psprintf(p, "archive/%s/md.json", OTHERS[k])), -1);
}

static void archive_cannot_be_made(void **state)
{
    before_t before = live_and_staged();
    md_reg_t *reg = make_reg(NAME);

    (void)state;
    md_dir_remove(AT_FDCWD, path("archive"));
    put("archive", "a file");
    settle(reg);
    assert_int_equal(md_live_of(only_domain(reg))->state, MD_STATE_COMPLETE);
    assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem"), before.live);
    assert_int_equal(unlink(path("archive")), 0);
    settle(make_reg(NAME));
    assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem"), before.staged);
}

static void groups_may_be_links(void **state)
{
    static const char *const LINKED[] = { "domains", "staging", "accounts", "archive", "tmp" };
    before_t before = live_and_staged();
    md_reg_t *reg;
    const char *target;
    size_t i;

    (void)state;
    put("elsewhere/x", "");
    for (i = 0; i < sizeof(LINKED) / sizeof(LINKED[0]); ++i) {
        target = apr_pstrcat(p, "elsewhere/", LINKED[i], NULL);
        (void)rename(path(LINKED[i]), path(target));
        (void)mkdir(path(target), 0700);
        assert_int_equal(symlink(target, path(LINKED[i])), 0);
    }
    settle(reg = make_reg("new.org " NAME));
    assert_string_equal(key_in(MD_STORE_DOMAINS, "new.org", "privkey.p-256.pem"), before.staged);
    assert_string_equal(key_in(MD_STORE_ARCHIVE, "new.org.1", "privkey.p-256.pem"), before.live);
    assert_int_equal(count_names(MD_STORE_ACCOUNTS), 1);
    assert_string_equal(only_domain(reg)->ca_account, "ACME-ca.test-0000");
}

static void a_bad_document_hides_no_other(void **state)
{
    (void)state;
    settle(make_reg("b.org;d.org"));
    put("domains/b.org/marker", "b");
    put("domains/a.org/md.json", "garbage");
    put("domains/file", "no directory");
    put("accounts/ACME-ca.test-0000/account.json", "garbage");
    settle(make_reg("c.org b.org;d.org"));
    assert_int_not_equal(mode_of("domains/c.org/marker"), -1);
    assert_int_not_equal(mode_of("domains/a.org/md.json"), -1);
    assert_int_not_equal(mode_of("domains/file"), -1);
}

/* The directory with all names goes before one that shares as many that come first. */
static void the_best_match_is_renamed(void **state)
{
    (void)state;
    put("domains/a.org/md.json", "{\"name\":\"stale.org\",\"domains\":[\"a.org\",\"b.org\"]}");
    put("domains/z.org/md.json", "{\"name\":\"z.org\",\"domains\":[\"z.org\",\"b.org\","
                                 "\"c.org\"]}");
    settle(make_reg("b.org c.org"));
    assert_int_equal(mode_of("domains/z.org"), -1);
    assert_int_not_equal(mode_of("domains/a.org"), -1);
    settle(make_reg("a2.org a.org;b.org c.org"));
    assert_int_equal(mode_of("domains/a.org"), -1); /* the directory tells, not its document */
    assert_int_not_equal(mode_of("domains/a2.org/md.json"), -1);
}

/* A child of the generation before goes on under the old name: nobody is disturbed. */
static void an_old_child_writes_on(void **state)
{
    before_t before = live_and_staged();
    const char *stale;
    md_reg_t *reg;

    (void)state;
    md_rename_follow(make_reg("new.org " NAME), p);
    stage_set(NAME);
    stale = key_in(MD_STORE_STAGING, NAME, "privkey.p-256.pem");
    settle(reg = make_reg("new.org " NAME));
    assert_string_equal(key_in(MD_STORE_DOMAINS, "new.org", "privkey.p-256.pem"), before.staged);
    assert_true(has_key(stale));
    settle(reg = make_reg(NAME)); /* back again, with that in its place */
    assert_int_equal(md_live_of(only_domain(reg))->state, MD_STATE_COMPLETE);
    assert_true(has_key(stale) && has_key(before.staged) && has_key(before.live));
}

static void left_overs_are_swept(void **state)
{
    struct timespec old[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
    static const char *const STALE[] = {
        "md_store.json.1.2.tmp", "domains/a.org/privkey.pem.tmp", "staging/a.org/job.json.9.tmp",
        "accounts/x/account.json.tmp"
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(STALE) / sizeof(STALE[0]); ++i) {
        put(STALE[i], "x");
        assert_int_equal(utimensat(AT_FDCWD, path(STALE[i]), old, 0), 0);
    }
    put("staging/a.org/md.json.now.tmp", "somebody writes");
    put("tmp/gone.org/md.json", "{}");
    put("tmp/a.org/job.json", "{}"); /* of older versions */
    put("tmp/b.org/job.json", "{}");
    settle(make_reg("a.org"));
    for (i = 0; i < sizeof(STALE) / sizeof(STALE[0]); ++i)
        assert_int_equal(mode_of(STALE[i]), -1);
    assert_int_not_equal(mode_of("staging/a.org/md.json.now.tmp"), -1);
    assert_int_equal(count_names(MD_STORE_TMP), 0);
    assert_int_equal(mode_of("domains/gone.org"), -1);
    assert_int_equal(mode_of("domains/b.org"), -1);
}

/* It was in the midst of an activation when it crashed, and then left the configuration. */
static void an_activation_of_a_removed_domain_is_completed(void **state)
{
    (void)state;
    put("tmp/gone.org/md.json", "{}");
    put("tmp/gone.org/job.json", "{}");
    settle(make_reg("a.org"));
    assert_int_not_equal(mode_of("domains/gone.org/md.json"), -1);
    assert_int_equal(count_names(MD_STORE_TMP), 0);
}

static void old_documents_are_understood(void **state)
{
    static const char MD[] = "{\"name\":\"a.org\",\"domains\":[\"a.org\"],"
                             "\"contacts\":[\"mailto:a@b\"],\"ca\":{\"url\":\"https://ca.test/dir\"},\"renew-window\":1209600,"
                             "\"state\":3,\"drive-mode\":1,\"cert\":{\"x\":1}}";
    static const char ACCT[] = "{\"id\":\"x\",\"disabled\":false,\"status\":\"valid\",\"url\":"
                               "\"https://ca.test/acct/1\",\"ca-url\":\"https://ca.test/dir\","
                               "\"registration\":{\"contact\":[\"mailto:x@y\"]},"
                               "\"terms-of-service\":\"https://ca.test/tos\"}";
    md_acct_t *acct;
    md_reg_t *reg;

    (void)state;
    put("domains/a.org/md.json", MD);
    settle(reg = make_reg("a.org"));
    assert_string_equal(only_domain(reg)->ca_url, "https://ca.test/dir");
    assert_string_equal(APR_ARRAY_IDX(only_domain(reg)->contacts, 0, const char *), "mailto:a@b");
    assert_int_equal(mode_of("domains/a.org/md.json.damaged"), -1);
    put("accounts/ACME-ca.test-0000/account.json", ACCT);
    save_key(MD_STORE_ACCOUNTS, "ACME-ca.test-0000");
    assert_int_equal(rename(path("accounts/ACME-ca.test-0000/privkey.p-256.pem"),
                            path("accounts/ACME-ca.test-0000/account.pem")), 0);
    md_acct_repair(store, MD_STORE_ACCOUNTS, "ACME-ca.test-0000", p);
    assert_int_equal(md_acct_load(&acct, store, MD_STORE_ACCOUNTS, "ACME-ca.test-0000", &err, p),
                     APR_SUCCESS);
    assert_string_equal(APR_ARRAY_IDX(acct->contacts, 0, const char *), "mailto:x@y");
    assert_string_equal(acct->agreement, "https://ca.test/tos");
}

/* A store where the step from version 1 was cut short, or somebody put a key there already. */
static void migration_overwrites_no_key(void **state)
{
    const char *key;

    (void)state;
    save_key(MD_STORE_DOMAINS, NAME);
    key = key_in(MD_STORE_DOMAINS, NAME, "privkey.p-256.pem");
    assert_int_equal(rename(path("domains/" NAME "/privkey.p-256.pem"),
                            path("domains/" NAME "/privkey.pem")), 0);
    put("domains/" NAME "/pkey.pem", "other");
    put("md_store.json", "{\"store\":{\"version\":1},\"key\":"
                         "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\"}");
    assert_int_equal(reopen(), APR_SUCCESS);
    assert_string_equal(key_in(MD_STORE_DOMAINS, NAME, "privkey.pem"), key);
    assert_int_not_equal(mode_of("domains/" NAME "/pkey.pem"), -1);
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    return temp_dir_make() == 0 && reopen() == APR_SUCCESS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return temp_dir_remove();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* One maximum for both ways. */
static void nothing_is_written_that_cannot_be_read(void **state)
{
    char *text = apr_pcalloc(p, MD_MAX_FILE + 2);
    const char *there;
    apr_size_t len;

    (void)state;
    memset(text, 'x', MD_MAX_FILE);
    assert_int_equal(md_store_save_text(store, MD_STORE_STAGING, "a.org", "text", text, &err, p), 0);
    assert_int_equal(md_store_load_text(&there, &len, store, MD_STORE_STAGING, "a.org", "text",
                                        MD_MAX_FILE, &err, p), 0);
    assert_int_equal(len, MD_MAX_FILE);
    text[MD_MAX_FILE] = 'x';
    assert_int_equal(md_store_save_text(store, MD_STORE_STAGING, "a.org", "text", text, &err, p),
                     APR_EINVAL);
    assert_non_null(strstr(err.detail, "it would have 1048577 bytes; the maximum is 1048576"));
    assert_int_equal(md_store_load_text(&there, &len, store, MD_STORE_STAGING, "a.org", "text",
                                        MD_MAX_FILE, &err, p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_are_encrypted_where_others_can_read), TEST(only_directories_are_in_groups),
        TEST(children_can_pass_the_parents_that_are_made), TEST(nothing_leaves_the_store),
        TEST(nothing_is_written_that_cannot_be_read),
        TEST(the_central_file_is_never_replaced), TEST(a_store_of_version_1_is_migrated),
        TEST(activation_archives_and_recovers), TEST(accounts_get_free_numbers),
        TEST(jobs_both_ways), TEST(damaged_jobs_are_fresh_jobs), TEST(back_off_doubles_up_to_a_day),
        TEST(renames_are_followed), TEST(activation_takes_complete_sets_only),
        TEST(a_restart_tries_again_and_forgets_nothing), TEST(every_document_damaged),
        TEST(accounts_are_kept_apart), TEST(domains_name_their_own_account),
        TEST(accounts_that_only_we_can_use_have_no_status),
        TEST(what_an_account_lost_comes_back),
        TEST(keys_without_document_keep_their_number), TEST(keys_of_another_store_stay_in_place),
        TEST(damage_is_kept_up_to_a_limit), TEST(a_directory_in_the_way_of_a_file),
        TEST(removal_follows_no_links), TEST(what_is_wrong_with_a_file),
        TEST(a_lock_is_waited_for), TEST(a_lock_file_that_is_none),
        TEST(the_way_to_a_store_is_not_the_childrens),
        TEST(a_lock_that_root_makes_is_the_childrens),
        TEST(what_root_writes_for_children_is_theirs),
        TEST(what_root_left_for_children_is_given_to_them),
        TEST(no_link_is_followed_below_shared_groups),
        TEST(activation_survives_a_crash), TEST(a_lack_of_descriptors_is_no_damage),
        TEST(activation_survives_one_failure),
        TEST(activation_on_a_read_only_disk), TEST(renames_survive_a_crash),
        TEST(archive_of_one_domain_is_full), TEST(archives_are_pruned),
        TEST(archive_cannot_be_made),
        TEST(groups_may_be_links), TEST(a_bad_document_hides_no_other),
        TEST(the_best_match_is_renamed), TEST(an_old_child_writes_on), TEST(left_overs_are_swept),
        TEST(an_activation_of_a_removed_domain_is_completed), TEST(old_documents_are_understood),
        TEST(migration_overwrites_no_key),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
