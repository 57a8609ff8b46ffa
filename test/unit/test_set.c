/* SPDX-License-Identifier: Apache-2.0 */
/* Which sets may go into service: a table over what is staged and what is live. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_csr.h"
#include "../../md_set.h"
#include "../../md_text.h"
#include "issue.h"

#define DAY (24 * 3600L)

static apr_pool_t *p;
static md_err_t err;
static const md_key_spec_t P256 = { .type = MD_KEY_EC, .curve = "P-256" };

static apr_array_header_t *names_of(const char *text)
{
    char *last = NULL, *copy = apr_pstrdup(p, text), *word;
    apr_array_header_t *names = md_strings_make(p);

    for (word = apr_strtok(copy, " ", &last); word; word = apr_strtok(NULL, " ", &last))
        APR_ARRAY_PUSH(names, const char *) = word;
    return names;
}

static md_key_t *make_key(void)
{
    md_key_t *key;

    assert_int_equal(md_key_generate(&key, &P256, &err, p), APR_SUCCESS);
    return key;
}

static md_domain_t *make_domain(const char *names)
{
    md_domain_t *domain = md_domain_make("a.org", p);

    domain->names = names_of(names);
    domain->ca_urls = names_of("https://ca.test/dir https://other.test/dir");
    assert_null(md_window_spec_parse(&domain->renew_window, "30d", p));
    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = P256;
    return domain;
}

static md_set_t make_set(md_cert_t *cert, const md_key_t *key)
{
    md_set_t set = { .keys = apr_array_make(p, 1, sizeof(void *)),
                     .chains = apr_array_make(p, 1, sizeof(void *)),
                     .ca_url = "https://ca.test/dir" };
    apr_array_header_t *chain = apr_array_make(p, 1, sizeof(void *));

    APR_ARRAY_PUSH(chain, md_cert_t *) = cert;
    APR_ARRAY_PUSH(set.chains, apr_array_header_t *) = chain;
    APR_ARRAY_PUSH(set.keys, const md_key_t *) = key;
    return set;
}

static apr_array_header_t *live_of(const md_cert_t *cert)
{
    apr_array_header_t *live = apr_array_make(p, 1, sizeof(void *));

    APR_ARRAY_PUSH(live, const md_cert_info_t *) = cert ? md_cert_info(cert, p) : NULL;
    return live;
}

static apr_status_t check(const md_set_t *set, const md_domain_t *domain,
                          const apr_array_header_t *live)
{
    md_err_clear(&err);
    return md_set_check(set, domain, live, apr_time_now(), &err, p);
}

/* Days from now; `why` is NULL for a set that may go into service. */
static void not_worse_than_what_is_live(void **state)
{
    static const struct {
        const char *names;
        int start, end;           /* of the set */
        int live_start, live_end; /* 0: nothing good is live */
        int is_forced;
        const char *why;
    } ROWS[] = {
        { "a.org", -1, 89, 0, 0, 0, NULL },
        { "a.org b.org", -1, 89, 0, 0, 0, NULL },
        { "b.org", -1, 89, 0, 0, 0, "does not cover a.org" },
        { "a.org", -90, -1, 0, 0, 0, "expired on " },
        { "a.org", 2, 89, 0, 0, 0, "not valid before " },
        { "a.org", -1, 89, -61, 29, 0, NULL },
        { "a.org", -1, 89, -2, 88, 0, NULL },
        { "a.org", -2, 88, -1, 89, 0, "before the one in service" },   /* it waited too long */
        { "a.org", -80, 10, -1, 89, 0, "before the one in service" },
        { "a.org", -80, 10, -1, 89, 1, "before the one in service" },
        { "a.org", -1, 6, -30, 60, 0, "before the one in service" },
        { "a.org", -1, 40, -30, 60, 0, NULL }, /* for a shorter time from now on */
        { "a.org", -1, 40, -1, 89, 0, NULL },  /* and issued in the same second */
        { "a.org", -29, 40, -30, 60, 0, NULL },
        { "a.org", -31, 59, -30, 60, 0, "before the one in service" },
        { "a.org", -1, 6, -61, 29, 0, NULL },  /* both are due */
        { "a.org", -1, 6, -30, 60, 1, NULL },  /* somebody wants it so */
        { "a.org", -62, 28, -61, 29, 0, "before the one in service" },
    };
    md_key_t *key = make_key();
    md_domain_t *domain = make_domain("a.org");
    apr_array_header_t *live;
    apr_status_t rv;
    md_set_t set;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        live = live_of(ROWS[i].live_end ? issue(names_of("a.org"), key, ROWS[i].live_start * DAY,
                                                ROWS[i].live_end * DAY, p) : NULL);
        set = make_set(issue(names_of(ROWS[i].names), key, ROWS[i].start * DAY, ROWS[i].end * DAY,
                             p), key);
        domain->is_forced = ROWS[i].is_forced;
        rv = check(&set, domain, live);
        assert_int_equal(rv, ROWS[i].why ? APR_EINVAL : APR_SUCCESS);
        assert_true(!ROWS[i].why || strstr(err.detail, ROWS[i].why));
        assert_true(!ROWS[i].why || !strncmp(err.detail, "certificate(P-256): ", 20));
    }
}

static void only_what_a_ca_issued_for_this_key(void **state)
{
    md_key_t *key = make_key(), *other = make_key();
    md_domain_t *domain = make_domain("a.org");
    apr_array_header_t *names = names_of("a.org"), *chain;
    md_cert_t *cert;
    md_set_t set;

    (void)state;
    set = make_set(issue(names, other, -DAY, 89 * DAY, p), key);
    assert_int_equal(check(&set, domain, live_of(NULL)), APR_EINVAL);
    assert_non_null(strstr(err.detail, "another private key"));
    assert_int_equal(md_cert_make_fallback(&cert, names, key, &err, p), APR_SUCCESS);
    set = make_set(cert, key);
    assert_int_equal(check(&set, domain, live_of(NULL)), APR_EINVAL);
    assert_non_null(strstr(err.detail, "self-signed"));
    set = make_set(issue(names, key, -DAY, 89 * DAY, p), key);
    chain = APR_ARRAY_IDX(set.chains, 0, apr_array_header_t *);
    APR_ARRAY_PUSH(chain, md_cert_t *) = cert; /* not its issuer */
    assert_int_equal(check(&set, domain, live_of(NULL)), APR_EINVAL);
    assert_non_null(strstr(err.detail, "not signed by the one after it"));
    apr_array_clear(chain);
    assert_int_equal(check(&set, domain, live_of(NULL)), APR_EINVAL);
}

/* Something for settings of before is better than nothing, but no reason to replace what is good. */
static void settings_that_were_changed(void **state)
{
    md_key_t *key = make_key();
    apr_array_header_t *live = live_of(issue(names_of("a.org"), key, -30 * DAY, 60 * DAY, p));
    md_domain_t *domain = make_domain("a.org");
    md_set_t set = make_set(issue(names_of("a.org"), key, -DAY, 89 * DAY, p), key);
    md_cert_info_t stapled;

    (void)state;
    set.ca_url = "https://former.test/dir";
    assert_int_equal(check(&set, domain, live_of(NULL)), APR_SUCCESS);
    assert_int_equal(check(&set, domain, live), APR_EINVAL);
    assert_non_null(strstr(err.detail, "https://former.test/dir"));
    set.ca_url = "https://other.test/dir";
    assert_int_equal(check(&set, domain, live), APR_SUCCESS);
    domain->must_staple = 1; /* neither has it */
    assert_int_equal(check(&set, domain, live), APR_SUCCESS);
    stapled = *APR_ARRAY_IDX(live, 0, const md_cert_info_t *);
    stapled.must_staple = 1;
    APR_ARRAY_IDX(live, 0, const md_cert_info_t *) = &stapled;
    assert_int_equal(check(&set, domain, live), APR_EINVAL);
    assert_non_null(strstr(err.detail, "MDMustStaple"));
    set.must_staple = 1; /* the CA was asked for it, and leaves it out now */
    assert_int_equal(check(&set, domain, live), APR_SUCCESS);
}

/* Names that were added since it was ordered. */
static void some_of_the_names(void **state)
{
    static const struct {
        const char *names; /* of the set */
        int end;
        const char *live;  /* names of what is live, for 60 days */
        const char *why;
    } ROWS[] = {
        { "a.org", 89, NULL, NULL },
        { "x.org", 89, NULL, "does not cover a.org" },
        { "a.org", 89, "a.org", NULL },
        { "a.org", 50, "a.org", NULL },
        { "a.org", 20, "a.org", "before the one in service" },
        { "a.org b.org", 50, "a.org", NULL },
        { "a.org b.org", 50, "b.org", NULL },
        { "a.org", 89, "b.org", "does not cover b.org" },
        { "a.org", 89, "a.org b.org", "does not cover b.org" },
        { "a.org", 89, "a.org b.org c.org", "does not cover b.org" },
        { "a.org b.org c.org", 89, "a.org b.org", NULL },
    };
    md_key_t *key = make_key();
    md_domain_t *domain = make_domain("a.org b.org c.org");
    md_cert_t *live;
    md_set_t set;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        set = make_set(issue(names_of(ROWS[i].names), key, -DAY, ROWS[i].end * DAY, p), key);
        live = ROWS[i].live ? issue(names_of(ROWS[i].live), key, -30 * DAY, 60 * DAY, p) : NULL;
        assert_int_equal(check(&set, domain, live_of(live)), ROWS[i].why ? APR_EINVAL : APR_SUCCESS);
        assert_true(!ROWS[i].why || strstr(err.detail, ROWS[i].why));
    }
}

static void the_set_that_is_live(void **state)
{
    md_key_t *key = make_key();
    md_cert_t *cert = issue(names_of("a.org"), key, -DAY, 89 * DAY, p);
    md_set_t set = make_set(cert, key);

    (void)state;
    assert_int_equal(check(&set, make_domain("a.org"), live_of(cert)), APR_EEXIST);
}

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

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(not_worse_than_what_is_live), TEST(only_what_a_ca_issued_for_this_key),
        TEST(some_of_the_names), TEST(settings_that_were_changed),
        TEST(the_set_that_is_live),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
