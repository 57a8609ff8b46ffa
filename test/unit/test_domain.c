/* SPDX-License-Identifier: Apache-2.0 */
/* Managed domains: md.json, the state, the index of names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <apr_strings.h>

#include <openssl/x509v3.h>

#include "../../md_live.h"
#include "../../md_text.h"

static apr_pool_t *p;

static apr_array_header_t *words(const char *text)
{
    apr_array_header_t *list = md_strings_make(p);
    char *last, *word = apr_strtok(apr_pstrdup(p, text), " ", &last);

    for (; word; word = apr_strtok(NULL, " ", &last))
        APR_ARRAY_PUSH(list, const char *) = word;
    return list;
}

static md_domain_t *domain_of(const char *names)
{
    apr_array_header_t *list = words(names);
    md_domain_t *domain = md_domain_make(APR_ARRAY_IDX(list, 0, const char *), p);

    domain->names = list;
    return domain;
}

static md_domain_t *domain_from(const char *text)
{
    md_json_t *json;

    assert_int_equal(md_json_parse(&json, text, strlen(text), NULL, p), APR_SUCCESS);
    return md_domain_from_json(json, p);
}

static const char *text_of(const md_domain_t *domain)
{
    return md_json_text(md_domain_to_json(domain, p), 0, p);
}

/* ---- md.json ---- */

/* What mod_md 2.6.11 writes (store.md 2.4). */
static const char EXAMPLE[] =
    "{\n"
    "  \"name\": \"shop.example.org\",\n"
    "  \"domains\": [\n"
    "    \"shop.example.org\",\n"
    "    \"www.shop.example.org\"\n"
    "  ],\n"
    "  \"contacts\": [\n"
    "    \"mailto:hostmaster@example.org\"\n"
    "  ],\n"
    "  \"transitive\": 1,\n"
    "  \"ca\": {\n"
    "    \"account\": \"ACME-ca.example.net-0000\",\n"
    "    \"proto\": \"ACME\",\n"
    "    \"url\": \"https://ca.example.net/directory\",\n"
    "    \"urls\": [\n"
    "      \"https://ca.example.net/directory\",\n"
    "      \"https://backup.example.com/acme\"\n"
    "    ],\n"
    "    \"agreement\": \"accepted\",\n"
    "    \"challenges\": [\n"
    "      \"http-01\"\n"
    "    ]\n"
    "  },\n"
    "  \"privkey\": [\n"
    "    {\n"
    "      \"type\": \"RSA\",\n"
    "      \"bits\": 3072\n"
    "    },\n"
    "    {\n"
    "      \"type\": \"EC\",\n"
    "      \"curve\": \"secp384r1\"\n"
    "    }\n"
    "  ],\n"
    "  \"state\": 1,\n"
    "  \"state-descr\": \"certificate(secp384r1) is missing\",\n"
    "  \"renew-mode\": 1,\n"
    "  \"renew-window\": \"33%\",\n"
    "  \"warn-window\": \"10%\",\n"
    "  \"require-https\": \"permanent\",\n"
    "  \"must-staple\": false,\n"
    "  \"proto\": {\n"
    "    \"acme-tls/1\": [\n"
    "      \"shop.example.org\"\n"
    "    ]\n"
    "  },\n"
    "  \"stapling\": true,\n"
    "  \"eab\": {\n"
    "    \"kid\": \"kid-17\",\n"
    "    \"hmac\": \"c2VjcmV0\"\n"
    "  },\n"
    "  \"profile\": \"classic\",\n"
    "  \"profile-mandatory\": false,\n"
    "  \"ari-renewals\": true\n"
    "}";

static void example_both_ways(void **state)
{
    (void)state;
    assert_string_equal(text_of(domain_from(EXAMPLE)), EXAMPLE);
}

static const char *keys_of(const md_domain_t *domain, const char *path)
{
    md_json_t *json = md_domain_to_json(domain, p);

    if (path)
        json = md_json_get(json, path, p);
    return apr_array_pstrcat(p, md_json_keys(json, p), ' ');
}

/* Everything set: each key of the table of store.md 2.4 in its place, and read back the same. */
static void all_keys_in_order(void **state)
{
    md_domain_t *domain = domain_from(EXAMPLE);

    (void)state;
    domain->cert_files = words("/a.pem /b.pem");
    domain->pkey_files = words("/a.key /b.key");
    domain->cmd_dns_01 = "/usr/bin/dns";
    domain->proxy_url = "http://proxy";
    domain->ca_certs = "/roots.pem";
    domain->proxy_ca_certs = "/proxy.pem";
    domain->must_staple = domain->profile_mandatory = 1;
    domain->ari_renewals = domain->stapling = 0;
    domain->preferred_chain = "A Root";
    domain->eab_alg = "HS512";
    assert_string_equal(keys_of(domain, NULL),
                        "name domains contacts transitive ca privkey state state-descr renew-mode "
                        "renew-window warn-window require-https must-staple proto cert-files "
                        "pkey-files stapling cmd-dns-01 proxy-url ca-certs proxy-ca-certs eab "
                        "profile profile-mandatory ari-renewals preferred-chain");
    assert_string_equal(keys_of(domain, "ca"), "account proto url urls agreement challenges");
    assert_string_equal(keys_of(domain, "eab"), "kid hmac alg");
    assert_string_equal(text_of(domain_from(text_of(domain))), text_of(domain));
}

/* Nothing set: only what is in every file. */
static void least_keys(void **state)
{
    static const char LEAST[] =
        "{\"name\":\"a.org\",\"domains\":[],\"contacts\":[],\"transitive\":-1,\"state\":0,"
        "\"renew-mode\":-1,\"must-staple\":false,\"proto\":{\"acme-tls/1\":[]},"
        "\"stapling\":false,\"profile-mandatory\":false,\"ari-renewals\":false}";
    md_domain_t *domain = md_domain_make("a.org", p);

    (void)state;
    assert_string_equal(md_json_text(md_domain_to_json(domain, p), 1, p), LEAST);
    domain->ca_urls = domain->ca_challenges = domain->cert_files = md_strings_make(p);
    domain->eab_hmac = "c2VjcmV0"; /* without a key id */
    assert_string_equal(md_json_text(md_domain_to_json(domain, p), 1, p), LEAST);
}

/* What one member of a document becomes. */
static void members_read(void **state)
{
    static const struct { const char *in, *path, *out; } ROWS[] = {
        /* stores before failover */
        { "{\"ca\":{\"url\":\"http://ca\"}}", "ca.urls", "[\"http://ca\"]" },
        { "{\"ca\":{\"url\":\"http://ca\",\"urls\":[]}}", "ca.urls", "[\"http://ca\"]" },
        { "{\"ca\":{\"url\":\"http://a\",\"urls\":[\"http://b\"]}}", "ca.urls", "[\"http://b\"]" },
        /* windows: numbers of old stores and nonsense are as good as none */
        { "{\"renew-window\":1209600}", "renew-window", NULL },
        { "{\"renew-window\":\"soon\"}", "renew-window", NULL },
        { "{\"renew-window\":\"100%\"}", "renew-window", NULL },
        { "{\"renew-window\":\"-5d\"}", "renew-window", NULL },
        { "{\"renew-window\":\"0d\"}", "renew-window", "\"0d\"" },
        { "{\"renew-window\":\"0%\"}", "renew-window", "\"0%\"" },
        { "{\"warn-window\":\"48h\"}", "warn-window", "\"2d\"" },
        { "{\"warn-window\":\"90mi\"}", "warn-window", "\"90mi\"" },
        /* keys */
        { "{}", "privkey", NULL },
        { "{\"privkey\":{\"type\":\"default\"}}", "privkey", "{\"type\":\"Default\"}" },
        { "{\"privkey\":{\"type\":\"rsa\"}}", "privkey", "{\"type\":\"RSA\",\"bits\":2048}" },
        { "{\"privkey\":{\"type\":\"RSA\",\"bits\":512}}", "privkey",
          "{\"type\":\"RSA\",\"bits\":2048}" },
        { "{\"privkey\":[{\"type\":\"EC\",\"curve\":\"P-256\"}]}", "privkey",
          "{\"type\":\"EC\",\"curve\":\"P-256\"}" },
        { "{\"privkey\":{\"type\":\"Ed\"}}", "privkey", "{\"type\":\"Default\"}" },
        /* state */
        { "{\"state\":3}", "state", "2" },
        { "{\"state\":4}", "state", "4" },
        { "{\"state\":\"2\"}", "state", "0" },
        { "{}", "renew-mode", "0" },
        { "{}", "transitive", "0" },
        { "{\"transitive\":-1}", "transitive", "-1" },
        /* pairs that only count together */
        { "{\"eab\":{\"kid\":\"k\"}}", "eab", NULL },
        { "{\"eab\":{\"hmac\":\"h\"}}", "eab", NULL },
        { "{\"eab\":{\"kid\":\"k\",\"hmac\":\"h\"}}", "eab", "{\"kid\":\"k\",\"hmac\":\"h\"}" },
        { "{\"pkey-files\":[\"/k\"]}", "pkey-files", NULL },
        { "{\"cert-files\":[\"/c\"],\"pkey-files\":[\"/k\"]}", "pkey-files", "[\"/k\"]" },
        /* wrong types read as absent, unknown members are ignored */
        { "{\"domains\":\"a.org\"}", "domains", "[]" },
        { "{\"domains\":[1,\"a.org\",null]}", "domains", "[\"a.org\"]" },
        { "{\"contacts\":{}}", "contacts", "[]" },
        { "{\"proto\":[]}", "proto", "{\"acme-tls/1\":[]}" },
        { "{\"ca\":17}", "ca", NULL },
        { "{\"must-staple\":1}", "must-staple", "false" },
        { "{\"ari-renewals\":true}", "ari-renewals", "true" },
        { "{\"name\":[]}", "name", "\"\"" },
        { "{\"drive-mode\":2,\"cert\":{}}", "drive-mode", NULL },
    };
    const char *text;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        text = md_json_text(md_json_get(md_domain_to_json(domain_from(ROWS[i].in), p),
                                        ROWS[i].path, p), 1, p);
        if (!text != !ROWS[i].out || (text && strcmp(text, ROWS[i].out)))
            fail_msg("%s: %s is %s", ROWS[i].in, ROWS[i].path, text ? text : "absent");
    }
}

/* ---- state ---- */

static void add_ext(X509 *x509, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(ext);
    assert_int_equal(X509_add_ext(x509, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* A certificate with these names; NULL: without subjectAltName; "": no certificate. */
static const md_cert_info_t *cert_of(const char *names, int must_staple)
{
    apr_array_header_t *list;
    const char *alt = NULL;
    X509 *x509;
    int i;

    if (names && !*names)
        return NULL;
    x509 = X509_new();
    list = words(names ? names : "");
    for (i = 0; i < list->nelts; ++i)
        alt = apr_pstrcat(p, alt ? alt : "", alt ? ",DNS:" : "DNS:",
                          APR_ARRAY_IDX(list, i, const char *), NULL);
    if (alt)
        add_ext(x509, NID_subject_alt_name, alt);
    if (must_staple)
        add_ext(x509, NID_tlsfeature, "status_request");
    return md_cert_info(md_cert_wrap(x509, p), p);
}

static md_domain_t *with_live(md_domain_t *domain, const md_cert_info_t *first,
                              const md_cert_info_t *second, const int *fits)
{
    apr_array_header_t *certs = apr_array_make(p, 2, sizeof(md_cert_info_t *));
    md_live_t *live = apr_pcalloc(p, sizeof(*live));

    APR_ARRAY_PUSH(certs, const md_cert_info_t *) = first;
    if (md_domain_key_specs(domain, p)->nelts > 1)
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) = second;
    live->certs = certs;
    live->fits = fits;
    live->state_descr = "as of yesterday";
    md_live_replace(domain, live);
    return domain;
}

static void one_certificate(void **state)
{
    static const char MISSING[] = "certificate(rsa) is missing";
    static const char UNCOVERED[] = "certificate(rsa) does not cover all domains.";
    static const struct {
        const char *cert_names; /* see cert_of */
        int fits, wish, has;    /* must-staple wanted, in the certificate */
        const char *descr;
    } ROWS[] = {
        { "a.org b.org", 1, 0, 0, NULL },
        { "c.org B.org A.ORG", 1, 0, 0, NULL },
        { "a.org b.org", 1, 1, 1, NULL },
        { "", 0, 0, 0, MISSING },
        { "", 1, 0, 0, MISSING },
        { NULL, 1, 0, 0, MISSING },
        { "a.org b.org", 0, 0, 0, MISSING },
        { "a.org", 1, 0, 0, UNCOVERED },
        { "*.a.org b.org", 1, 0, 0, UNCOVERED },
        { "a.org", 1, 1, 0, UNCOVERED }, /* the first deficiency counts */
        { "a.org b.org", 1, 1, 0,
          "'must-staple' is requested, but certificate(rsa) has it not enabled." },
        { "a.org b.org", 1, 0, 1,
          "'must-staple' is not requested, but certificate(rsa) has it enabled." },
    };
    md_domain_t *domain;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        domain = domain_of("a.org b.org");
        domain->must_staple = ROWS[i].wish;
        with_live(domain, cert_of(ROWS[i].cert_names, ROWS[i].has), NULL, &ROWS[i].fits);
        md_live_assess(domain, p);
        assert_int_equal(md_live_of(domain)->state,
                         ROWS[i].descr ? MD_STATE_INCOMPLETE : MD_STATE_COMPLETE);
        if (ROWS[i].descr)
            assert_string_equal(md_live_of(domain)->state_descr, ROWS[i].descr);
        else
            assert_null(md_live_of(domain)->state_descr);
    }
}

static void wildcards_are_covered(void **state)
{
    static const int FITS[] = { 1, 1 };
    md_domain_t *domain = domain_of("*.a.org x.a.org a.org");

    (void)state;
    with_live(domain, cert_of("a.org *.a.org", 0), NULL, FITS);
    md_live_assess(domain, p);
    assert_int_equal(md_live_of(domain)->state, MD_STATE_COMPLETE);
}

/* One per key spec, labelled by the curve as configured. */
static void several_certificates(void **state)
{
    static const char *const SPECS[] = { "rsa", "secp384R1" };
    static const struct { int fits[2]; int second; const char *descr; } ROWS[] = {
        { { 1, 1 }, 1, NULL },
        { { 1, 1 }, 0, "certificate(secp384R1) is missing" },
        { { 1, 0 }, 1, "certificate(secp384R1) is missing" },
        { { 0, 0 }, 0, "certificate(rsa) is missing" },
    };
    md_domain_t *domain;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        domain = domain_of("a.org");
        assert_null(md_key_specs_parse(&domain->key_specs, 2, SPECS, p));
        with_live(domain, cert_of("a.org", 0), ROWS[i].second ? cert_of("a.org", 0) : NULL,
                  ROWS[i].fits);
        md_live_assess(domain, p);
        assert_int_equal(md_live_of(domain)->state,
                         ROWS[i].descr ? MD_STATE_INCOMPLETE : MD_STATE_COMPLETE);
        if (ROWS[i].descr)
            assert_string_equal(md_live_of(domain)->state_descr, ROWS[i].descr);
    }
}

/* Whoever has read a snapshot keeps it as it is; copies of the domain see the new one. */
static void snapshots_are_replaced_as_a_whole(void **state)
{
    static const int FITS[] = { 1 };
    md_domain_t *domain = domain_of("a.org"), copy = *domain;
    const md_live_t *none = md_live_of(domain), *loaded;

    (void)state;
    assert_int_equal(none->state, MD_STATE_UNKNOWN);
    assert_null(none->certs);
    with_live(domain, cert_of("a.org", 0), NULL, FITS);
    loaded = md_live_of(domain);
    md_live_assess(domain, p);
    assert_null(none->certs);
    assert_int_equal(loaded->state, MD_STATE_UNKNOWN);
    assert_int_equal(md_live_of(domain)->state, MD_STATE_COMPLETE);
    assert_ptr_equal(md_live_of(domain)->certs, loaded->certs);
    assert_ptr_equal(md_live_of(&copy), md_live_of(domain));
}

static void default_key_spec(void **state)
{
    md_domain_t *domain = md_domain_make("a.org", p);
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);

    (void)state;
    assert_int_equal(specs->nelts, 1);
    assert_int_equal(APR_ARRAY_IDX(specs, 0, md_key_spec_t).type, MD_KEY_DEFAULT);
    assert_int_equal(domain->key_specs->nelts, 0); /* md.json tells what was configured */
}

/* ---- index ---- */

/* Two definitions in both orders: the later one is told of the earlier one. */
static void overlaps(void **state)
{
    static const struct { const char *a, *b; int overlap; } ROWS[] = {
        { "a.org", "a.org", 1 },
        { "a.org x.org", "b.org x.org", 1 },
        { "*.a.org", "x.a.org", 1 },
        { "a.org", "z.org *.org", 1 },
        { "*.a.org", "*.a.org", 1 },
        { "*.a.org", "a.org", 0 },
        { "*.a.org", "y.x.a.org", 0 },
        { "*.a.org", "*.x.a.org", 0 },
        { "*.a.org", ".a.org", 0 },
        { "a.org", "b.org", 0 },
        { "localhost", "*.localhost", 0 },
        { "localhost", "localhost", 1 },
        { "a.org *.a.org x.a.org", "b.org *.b.org x.b.org", 0 }, /* with itself does not count */
    };
    md_domain_t *a, *b;
    md_index_t *index;
    const char *name;
    size_t i;

    (void)state;
    for (i = 0; i < 2 * sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        a = domain_of(i % 2 ? ROWS[i / 2].b : ROWS[i / 2].a);
        b = domain_of(i % 2 ? ROWS[i / 2].a : ROWS[i / 2].b);
        index = md_index_make(p);
        name = NULL;
        assert_null(md_index_add(index, a, &name));
        assert_null(name);
        if (md_index_add(index, b, &name) != (ROWS[i / 2].overlap ? a : NULL))
            fail_msg("%s, then %s", a->name, b->name);
        assert_int_equal(name != NULL, ROWS[i / 2].overlap);
        assert_true(!name || md_domain_contains(b, name));
    }
}

static void first_overlap_is_told(void **state)
{
    md_index_t *index = md_index_make(p);
    md_domain_t *a = domain_of("a.org"), *b = domain_of("b.org *.c.org");
    const char *name = NULL;

    (void)state;
    assert_null(md_index_add(index, a, &name));
    assert_null(md_index_add(index, b, &name));
    assert_null(md_index_add(index, a, &name)); /* once more, as after names were added */
    assert_ptr_equal(md_index_add(index, domain_of("d.org x.c.org a.org"), &name), b);
    assert_string_equal(name, "x.c.org");
    assert_non_null(md_index_find(index, "d.org")); /* the names are added in any case */
}

static void objections_to_names(void **state)
{
    static const struct { const char *names, *name; int objection; } ROWS[] = {
        { "www.example.org", "ftp.example.com", 0 }, { "www.example.org", "intranet", 1 },
        { "www.example.org", "printer.local", 1 }, { "www.example.org", "192.0.2.7", 1 },
        { "www.example.org intranet", "wiki", 0 }, { "www.example.org intranet", "w_ki", 1 },
        { "intranet", "printer.local", 1 }, { "www.corp.lan", "printer.local", 0 },
        { "a_b.example.org", "c_d.example.org", 0 }, { "a_b.example.org", "-d.example.org", 1 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i)
        if ((md_domain_objection(domain_of(ROWS[i].names), ROWS[i].name) != NULL)
            != ROWS[i].objection)
            fail_msg("%s: %s", ROWS[i].names, ROWS[i].name);
}

static void found_by_name(void **state)
{
    static const struct { const char *host, *domain; } ROWS[] = {
        { "a.org", "a.org" }, { "A.oRG", "a.org" }, { "www.a.org", "a.org" },
        { "x.a.org", "*.a.org" }, { "X.A.ORG", "*.a.org" }, { "*.a.org", "*.a.org" },
        { "y.x.a.org", NULL }, { ".a.org", NULL }, { "org", NULL }, { "", NULL }, { NULL, NULL },
        { ".", NULL }, { "a.org.", NULL }, { "b.org", NULL },
    };
    md_index_t *index = md_index_make(p);
    md_domain_t *domain;
    char long_host[5000];
    const char *name;
    size_t i;

    (void)state;
    assert_null(md_index_add(index, domain_of("*.a.org"), &name));
    (void)md_index_add(index, domain_of("a.org www.a.org"), &name);
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        domain = md_index_find(index, ROWS[i].host);
        assert_int_equal(domain != NULL, ROWS[i].domain != NULL);
        if (domain)
            assert_string_equal(domain->name, ROWS[i].domain);
    }
    for (i = 240; i < sizeof(long_host); ++i) { /* around the ends of any buffer */
        memset(long_host, 'a', i);
        memcpy(long_host + i - 6, ".a.org", 7);
        (void)md_index_find(index, long_host);
        if (i < 300) {
            memset(long_host, 'a', i);
            long_host[1] = '.';
            long_host[i] = '\0';
            assert_null(md_index_find(index, long_host));
            assert_null(md_index_add(index, domain_of(long_host), &name));
        }
    }
}

/* A name is never taken for another one that it begins with. */
static void long_names_are_not_cut(void **state)
{
    char wildcard[300], name[300];
    md_index_t *index;
    const char *found;
    size_t len;

    (void)state;
    for (len = 250; len < 290; ++len) {
        memset(wildcard, 'a', len);
        memcpy(wildcard, "*.", 2);
        wildcard[len] = '\0';
        apr_snprintf(name, sizeof(name), "b%sc", wildcard + 1);
        index = md_index_make(p);
        assert_null(md_index_add(index, domain_of(wildcard), &found));
        assert_null(md_index_add(index, domain_of(name), &found));
    }
}

/* Pair-wise comparison would take minutes. */
static void index_is_linear(void **state)
{
    enum { DOMAINS = 10000 };
    md_index_t *index = md_index_make(p);
    md_domain_t *domains[DOMAINS];
    apr_time_t start = apr_time_now();
    const char *name;
    int i;

    (void)state;
    for (i = 0; i < DOMAINS; ++i) {
        domains[i] = domain_of(apr_psprintf(p, "d%d.example.org *.d%d.example.org", i, i));
        assert_null(md_index_add(index, domains[i], &name));
    }
    for (i = 0; i < DOMAINS; ++i) {
        name = domains[i]->name;
        assert_ptr_equal(md_index_find(index, name), domains[i]);
        assert_ptr_equal(md_index_find(index, apr_pstrcat(p, "www.", name, NULL)), domains[i]);
    }
    assert_true(apr_time_now() - start < apr_time_from_sec(1));
}

static int setup(void **state)
{
    (void)state;
    return apr_pool_create(&p, NULL) == APR_SUCCESS ? 0 : -1;
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
        TEST(example_both_ways), TEST(all_keys_in_order), TEST(least_keys), TEST(members_read),
        TEST(one_certificate), TEST(wildcards_are_covered), TEST(several_certificates),
        TEST(snapshots_are_replaced_as_a_whole),
        TEST(default_key_spec), TEST(overlaps), TEST(first_overlap_is_told),
        TEST(objections_to_names), TEST(found_by_name),
        TEST(long_names_are_not_cut), TEST(index_is_linear),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
