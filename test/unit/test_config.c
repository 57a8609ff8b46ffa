/* SPDX-License-Identifier: Apache-2.0 */
/* The settings table and managed domains: every directive and form, defaults, merging, md.json, names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <apr_strings.h>

#include "../../md_config.h"
#include "../../md_csr.h"
#include "../../md_text.h"

static apr_pool_t *p;
static md_conf_t *main_conf;

/* Splits at blanks; `''` stands for an empty word. */
static int words(const char *line, const char *argv[10])
{
    char *copy = apr_pstrdup(p, line), *last, *word;
    int n = 0;

    for (word = apr_strtok(copy, " ", &last); word; word = apr_strtok(NULL, " ", &last))
        argv[n++] = !strcmp(word, "''") ? "" : word;
    return n;
}

static const char *set_in(md_conf_t *conf, md_place_t place, const char *line)
{
    const char *argv[10];
    int argc = words(line, argv);
    md_directive_t directive = {
        .name = argv[0], .place = place, .argc = argc - 1, .argv = argv + 1, .server_root = "/root"
    };

    return md_config_set(conf, main_conf, &directive, p);
}

static const char *set(const char *line)
{
    return set_in(main_conf, MD_PLACE_SERVER, line);
}

static md_domain_t *define(const char *line)
{
    md_domain_t *domain = NULL;
    const char *argv[10];
    int argc = words(line, argv);

    assert_null(md_config_define(&domain, argc, argv, p));
    return domain;
}

static void refused_with_their_phrase(void **state)
{
    static const struct { const char *line, *phrase; } ROWS[] = {
        { "MDPrivateKeys", "needs to specify the private key type" },
        { "MDPrivateKeys Default RSA 1024", "'Default' allows no other parameter" },
        { "MDPrivateKeys RSA 1024", "must be 2048 or higher" },
        { "MDPrivateKeys rsa 2048 rsa 4096", "two keys of type 'RSA' are not possible" },
        { "MDPrivateKeys p-256 secp384r1 P-256", "two keys of type 'P-256' are not possible" },
        { "MDPrivateKeys 2048", "no private key type" }, { "MDPrivateKeys RSAx", "no key size" },
        { "MDPrivateKeys RSA 99999999999", "no key size" },
        { "MDRenewWindow dec-31", "has unrecognized format" },
        { "MDRenewWindow 1y", "has unrecognized format" },
        { "MDRenewWindow 10 d", "takes one argument" },
        { "MDRenewWindow 102%", "a length of 100% or more is not allowed." },
        { "MDRenewWindow -5d", "MDRenewWindow" },
        { "MDCertificateAuthority yes", "The CA name 'yes' is not known " },
        { "MDCertificateAuthority", "takes one argument" },
        { "MDCertificateAuthority letsencrypt abc", "The CA name 'abc' is not known " },
        { "MDContactEmail", "takes one argument" }, { "MDContactEmail ''", "takes one argument" },
        { "MDPortMap 99:99", "80" }, { "MDPortMap 80", "no ':'" }, { "MDPortMap 80:x", "parse" },
        { "MDPortMap 80:70000", "65535" }, { "MDPortMap 80:99x", "parse" },
        { "MDPortMap 80:-x", "parse" }, { "MDPortMap 80:1 443:2 80:3", "takes 1-2 arguments" },
        { "MDRenewMode sometimes", "'sometimes'" }, { "MDCheckInterval 10ms", "second" },
        { "MDCheckInterval x", "format" }, { "MDInitialDelay -1s", "negative" },
        { "MDRetryDelay 0", "greater than 0" }, { "MDRetryDelay 30sekunden", "format" },
        { "MDRenewConcurrency 0", "1 to 1000" }, { "MDRenewConcurrency 5x", "1 to 1000" },
        { "MDMember", "<MDomain>" }, { "MDMembers a.org b.org", "<MDomain>" },
        { "MDMembers sometimes", "auto" }, { "MDNothing 1", "not known" },
        { "MDStoreDir", "takes one argument" },
    };
    const char *wrong;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        wrong = set(ROWS[i].line);
        if (!wrong || !strstr(wrong, ROWS[i].phrase))
            fail_msg("%s: %s", ROWS[i].line, wrong ? wrong : "accepted");
    }
}

static void accepted_forms(void **state)
{
    static const char *const ROWS[] = {
        "MDPrivateKeys Default", "MDPrivateKeys RSA", "MDPrivateKeys rsa3072",
        "MDPrivateKeys RSA 4096 secp384r1 P-256", "MDPrivateKeys my-curve", "MDRenewWindow 0%",
        "MDRenewWindow 10", "MDRenewWindow 40%", "MDCertificateAuthority letsencrypt-TEST",
        "MDCertificateAuthority https://ca.test/dir buypass", "MDContactEmail odd", "MDPortMap 80:99",
        "MDPortMap https:99 http:99", "MDPortMap http:-", "MDRenewMode AUTOMATIC", "MDDriveMode stick",
        "MDCheckInterval 1s", "MDInitialDelay 0", "MDRetryDelay 100ms", "MDRenewConcurrency 1000",
        "MDMembers manual", "MDMember AUTO", "MDCAChallenges", "MDCAChallenges http-01 any-99",
        "MDCACertificateFile NONE", "MDStoreDir md-other", "MDCertificateAgreement accepted",
    };
    const char *wrong;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        wrong = set(ROWS[i]);
        if (wrong)
            fail_msg("%s: %s", ROWS[i], wrong);
    }
}

static void places(void **state)
{
    static const char *const NOT_IN_SECTION[] = {
        "MDPortMap 80:80", "MDStoreDir x", "MDCheckInterval 1h", "MDInitialDelay 1", "MDRetryDelay 1s",
        "MDRenewConcurrency 3",
    };
    md_conf_t *section = md_conf_make(p), *vhost = md_conf_make(p);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(NOT_IN_SECTION) / sizeof(NOT_IN_SECTION[0]); ++i) {
        assert_non_null(strstr(set_in(section, MD_PLACE_MDOMAIN, NOT_IN_SECTION[i]), "not allowed"));
        assert_null(set_in(vhost, MD_PLACE_VHOST, NOT_IN_SECTION[i]));
    }
    assert_string_equal(main_conf->store_dir, "x"); /* of the process, wherever it stands */
    assert_null(set_in(vhost, MD_PLACE_VHOST, "MDCACertificateFile /v.pem"));
    assert_string_equal(main_conf->ca_file, "/v.pem");
    assert_null(set_in(section, MD_PLACE_MDOMAIN, "MDCACertificateFile none"));
    assert_string_equal(main_conf->ca_file, "/v.pem");
}

static void defaults_and_inheritance(void **state)
{
    md_domain_t *plain = define("A.org b.org a.ORG"), *own = define("c.org manual");

    (void)state;
    md_config_complete(plain, main_conf, p);
    assert_string_equal(plain->name, "a.org");
    assert_int_equal(plain->names->nelts, 2);
    assert_string_equal(APR_ARRAY_IDX(plain->ca_urls, 0, const char *), MD_DEFAULT_CA_URL);
    assert_int_equal(plain->renew_mode, MD_RENEW_AUTO);
    assert_string_equal(md_window_spec_format(&plain->renew_window, p), "33%");
    assert_string_equal(md_window_spec_format(&plain->warn_window, p), "10%");
    assert_int_equal(plain->transitive, 1);
    assert_int_equal(plain->contacts->nelts, 0);
    assert_true(plain->ari_renewals);

    assert_null(set("MDContactEmail admin@example.org"));
    assert_null(set("MDRenewWindow 14d"));
    assert_null(set("MDCACertificateFile /main.pem"));
    assert_null(set_in(own->conf, MD_PLACE_MDOMAIN, "MDRenewMode always"));
    assert_null(set_in(own->conf, MD_PLACE_MDOMAIN, "MDMember D.org auto"));
    assert_null(set_in(own->conf, MD_PLACE_MDOMAIN, "MDMember e.org c.org"));
    assert_null(set_in(own->conf, MD_PLACE_MDOMAIN, "MDCACertificateFile none"));
    md_config_complete(own, main_conf, p);
    assert_string_equal(APR_ARRAY_IDX(own->contacts, 0, const char *), "mailto:admin@example.org");
    assert_string_equal(md_window_spec_format(&own->renew_window, p), "14d");
    assert_int_equal(own->renew_mode, MD_RENEW_ALWAYS);
    assert_int_equal(own->transitive, 1);
    assert_string_equal(apr_array_pstrcat(p, own->names, ' '), "c.org d.org e.org");
    assert_null(md_config_ca_file(own, main_conf));
    assert_string_equal(md_config_ca_file(plain, main_conf), "/main.pem");
}

static void a_domain_needs_a_name(void **state)
{
    const char *words_only[] = { "auto", "manual" };
    md_domain_t *domain;

    (void)state;
    assert_non_null(md_config_define(&domain, 0, NULL, p));
    assert_non_null(md_config_define(&domain, 2, words_only, p));
}

/* The example of a complete document, as the other module writes it. */
static const char MD_JSON[] =
    "{\"name\":\"shop.example.org\",\"domains\":[\"shop.example.org\",\"www.shop.example.org\"],"
    "\"contacts\":[\"mailto:hostmaster@example.org\"],\"transitive\":1,\"ca\":{\"account\":"
    "\"ACME-ca.example.net-0000\",\"proto\":\"ACME\",\"url\":\"https://ca.example.net/directory\","
    "\"urls\":[\"https://ca.example.net/directory\",\"https://backup.example.com/acme\"],"
    "\"agreement\":\"accepted\",\"challenges\":[\"http-01\"]},\"privkey\":[{\"type\":\"RSA\",\"bits\":"
    "3072},{\"type\":\"EC\",\"curve\":\"secp384r1\"}],\"state\":1,\"state-descr\":\"certificate("
    "secp384r1) is missing\",\"renew-mode\":1,\"renew-window\":\"33%\",\"warn-window\":\"10%\","
    "\"require-https\":\"permanent\",\"must-staple\":false,\"proto\":{\"acme-tls/1\":["
    "\"shop.example.org\"]},\"stapling\":true,\"eab\":{\"kid\":\"kid-17\",\"hmac\":\"c2VjcmV0\"},"
    "\"profile\":\"classic\",\"profile-mandatory\":false,\"ari-renewals\":true}";

static void md_json_both_ways(void **state)
{
    static const char OLD[] = "{\"name\":\"a.org\",\"ca\":{\"url\":\"https://x/\"},\"renew-window\":99,"
                              "\"state\":3,\"drive-mode\":1,\"eab\":{\"kid\":\"k\"},\"domains\":5}";
    md_json_t *json;
    md_domain_t *domain;

    (void)state;
    assert_int_equal(md_json_parse(&json, MD_JSON, strlen(MD_JSON), NULL, p), APR_SUCCESS);
    domain = md_domain_from_json(json, p);
    assert_string_equal(md_json_text(md_domain_to_json(domain, p), 1, p), MD_JSON);
    assert_int_equal(md_json_parse(&json, OLD, strlen(OLD), NULL, p), APR_SUCCESS);
    domain = md_domain_from_json(json, p);
    assert_string_equal(APR_ARRAY_IDX(domain->ca_urls, 0, const char *), "https://x/");
    assert_int_equal(domain->state, MD_STATE_COMPLETE);
    assert_int_equal(domain->names->nelts, 0);
    assert_null(domain->eab_kid);
    assert_int_equal(md_domain_key_specs(domain, p)->nelts, 1);
}

static void overlaps_are_found_both_ways(void **state)
{
    static const struct { const char *first, *second, *name; } ROWS[] = {
        { "a.org", "b.org a.org", "a.org" }, { "*.a.org", "x.a.org", "x.a.org" },
        { "x.a.org", "*.a.org", "*.a.org" }, { "*.a.org", "*.a.org", "*.a.org" },
        { "*.a.org", "a.org", NULL }, { "*.a.org", "y.x.a.org", NULL }, { "a.org", "b.org", NULL },
    };
    const char *name;
    md_index_t *index;
    md_domain_t *first;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        index = md_index_make(p);
        first = define(ROWS[i].first);
        assert_null(md_index_add(index, first, &name));
        assert_ptr_equal(md_index_add(index, define(ROWS[i].second), &name),
                         ROWS[i].name ? first : NULL);
        if (ROWS[i].name)
            assert_string_equal(name, ROWS[i].name);
    }
    assert_null(md_index_add(md_index_make(p), define("*.a.org x.a.org a.org"), &name));
    index = md_index_make(p);
    first = define("a.org *.b.org");
    md_index_add(index, first, &name);
    assert_ptr_equal(md_index_find(index, "A.Org"), first);
    assert_ptr_equal(md_index_find(index, "x.b.org"), first);
    assert_null(md_index_find(index, "b.org"));
    assert_null(md_index_find(index, NULL));
    assert_null(md_index_find(index, apr_pstrmemdup(p, MD_JSON, 300)));
}

static void many_names_are_no_matter(void **state)
{
    md_index_t *index = md_index_make(p);
    apr_time_t started = apr_time_now();
    const char *name;
    int i;

    (void)state;
    for (i = 0; i < 20000; ++i)
        assert_null(md_index_add(index, define(apr_psprintf(p, "d%d.org *.w%d.org", i, i)), &name));
    assert_true(apr_time_now() - started < apr_time_from_sec(10)); /* pairs would take minutes */
}

static void assessment(void **state)
{
    static const md_key_spec_t EC = { .type = MD_KEY_EC, .curve = "P-256" };
    md_domain_t *domain = define("a.org");
    md_cert_t *cert;
    md_key_t *key;
    int fits = 1;

    (void)state;
    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = EC;
    domain->certs = apr_array_make(p, 1, sizeof(md_cert_info_t *));
    domain->fits = &fits;
    APR_ARRAY_PUSH(domain->certs, const md_cert_info_t *) = NULL;
    md_domain_assess(domain, p);
    assert_int_equal(domain->state, MD_STATE_INCOMPLETE);
    assert_string_equal(domain->state_descr, "certificate(P-256) is missing");
    assert_int_equal(md_key_generate(&key, &EC, NULL, p), APR_SUCCESS);
    assert_int_equal(md_cert_make_fallback(&cert, domain->names, key, NULL, p), APR_SUCCESS);
    APR_ARRAY_IDX(domain->certs, 0, const md_cert_info_t *) = md_cert_info(cert, p);
    md_domain_assess(domain, p);
    assert_int_equal(domain->state, MD_STATE_COMPLETE);
    assert_null(domain->state_descr);
    domain->must_staple = 1;
    md_domain_assess(domain, p);
    assert_string_equal(domain->state_descr, "'must-staple' is requested, but certificate(P-256) has "
                                             "it not enabled.");
    domain->must_staple = 0;
    fits = 0;
    md_domain_assess(domain, p);
    assert_string_equal(domain->state_descr, "certificate(P-256) is missing");
    fits = 1;
    domain->names = define("a.org b.org")->names;
    md_domain_assess(domain, p);
    assert_string_equal(domain->state_descr, "certificate(P-256) does not cover all domains.");
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    main_conf = md_conf_make(p);
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
        TEST(refused_with_their_phrase), TEST(accepted_forms), TEST(places),
        TEST(defaults_and_inheritance), TEST(a_domain_needs_a_name), TEST(md_json_both_ways),
        TEST(overlaps_are_found_both_ways), TEST(many_names_are_no_matter), TEST(assessment),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
