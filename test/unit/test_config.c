/* SPDX-License-Identifier: Apache-2.0 */
/* Directives: what each accepts and refuses in which place, and what a domain gets in the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_strings.h>

#include "../../md_config.c"

static apr_pool_t *p;

enum { S = MD_PLACE_SERVER, V = MD_PLACE_VHOST, M = MD_PLACE_MDOMAIN };

static int words_of(const char *const **pargv, const char *line)
{
    char **argv;
    int argc = 0;

    assert_int_equal(apr_tokenize_to_argv(line, &argv, p), APR_SUCCESS);
    while (argv[argc])
        ++argc;
    *pargv = (const char *const *)argv;
    return argc;
}

/* Apply one line, `Directive words...`. */
static const char *set_line(md_conf_t *conf, md_conf_t *main_conf, md_place_t place,
                            const char *line)
{
    const char *const *argv;
    int argc = words_of(&argv, line);
    md_directive_t directive = {
        .name = argv[0], .place = place, .argc = argc - 1, .argv = argv + 1, .server_root = "/root"
    };

    return md_config_set(conf, main_conf, &directive, p);
}

static const char *set_alone(int place, const char *line)
{
    md_conf_t *main_conf = md_conf_make(p);

    return set_line(place == S ? main_conf : md_conf_make(p), main_conf, (md_place_t)place, line);
}

/* ---- accepted and refused ---- */

static const struct { int places; const char *line; } ACCEPTED[] = {
    { S | V, "MDAccountKey RSA3072" },
    { S | V | M, "MDActivation Live" },
    { S | V | M, "MDActivation reload" },
    { S | V, "MDActivationDelay -7d" },
    { S | V, "MDBaseServer on" },
    { S | V | M, "MDCertificateCheck crt.sh https://crt.sh?q=" },
    { M, "MDCertificateFile certs/a.pem" },
    { M, "MDCertificateKeyFile /certs/a.key" },
    { S | V | M, "MDCertificateMonitor crt.sh https://crt.sh?q=" },
    { S | V | M, "MDCertificateProtocol ACME" },
    { S | V | M, "MDCertificateStatus off" },
    { S | V | M, "MDChallengeDns01 /bin/dns" },
    { S | V, "MDChallengeDns01Version 2" },
    { S | V | M, "MDExternalAccountBinding kid c2VjcmV0" },
    { S | V | M, "MDExternalAccountBinding NONE" },
    { S | V | M, "MDHttpProxy http://[::1]:8080" },
    { S | V | M, "MDHttpProxyCACertificateFile none" },
    { S | V, "MDEventLog logs/md-events.log" },
    { S | V, "MDEventLog OFF" },
    { S | V, "MDLiveCache 1" },
    { S | V, "MDMatchNames ServerNames" },
    { S | V, "MDMessageCmd /bin/message" },
    { S | V | M, "MDMustStaple ON" },
    { S | V, "MDNotifyCmd ''" },
    { S | V, "MDNotifyCmd /bin/notify" },
    { S | V | M, "MDPreferredChain \"ISRG Root X1\"" },
    { S | V | M, "MDProfile shortlived" },
    { S | V | M, "MDProfileMandatory on" },
    { S | V | M, "MDRenewViaARI off" },
    { S | V | M, "MDRequireHttps permanent" },
    { S | V, "MDRetryFailover 2" },
    { S | V, "MDArchiveKeep 0" },
    { S | V | M, "MDServerStatus on" },
    { S | V | M, "MDStapleOthers off" },
    { S | V | M, "MDStapling on" },
    { S | V | M, "MDStaplingKeepResponse 200%" },
    { S | V | M, "MDStaplingRenewWindow 10%" },
    { S | V, "MDStoreLocks 1s" },
    { S | V, "MDStoreLocks on" },
    { S | V | M, "MDWarnWindow 100d" },
    { S | V | M, "MDCACertificateFile /etc/roots.pem" },
    { S | V | M, "MDCACertificateFile NONE" },
    { S | V | M, "MDCAChallenges http-01" },
    { S | V | M, "MDCAChallenges tls-alpn-01 http-01 dns-01 whatever-99" },
    { S | V | M, "MDCAChallenges" },
    { S | V | M, "MDCertificateAgreement accepted" },
    { S | V | M, "MDCertificateAgreement https://ca.example.org/terms" },
    { S | V | M, "MDCertificateAuthority letsencrypt" },
    { S | V | M, "MDCertificateAuthority LETSENCRYPT-test Buypass buypass-TEST" },
    { S | V | M, "MDCertificateAuthority https://localhost:14000/dir http://[::1]:65535/dir" },
    { S | V | M, "MDCertificateAuthority file:///x" },
    { S | V, "MDCheckInterval 1s" },
    { S | V, "MDCheckInterval 12H" },
    { S | V, "MDCheckInterval 1000ms" },
    { S | V | M, "MDChallengeDns01Check on" },
    { S | V | M, "MDChallengeDns01Check OFF" },
    { S | V | M, "MDChallengeDns01Check 5mi" },
    { S | V, "MDCheckPorts http:5002 https:5001" },
    { S | V, "MDCheckPorts dns:8053" },
    { S | V | M, "MDContactEmail admin@example.org" },
    { S | V | M, "MDContactEmail mailto:admin@example.org" },
    { S | V | M, "MDContactEmail odd" },
    { S | V | M, "MDDriveMode always" },
    { S | V, "MDDnsResolver 192.0.2.1" },
    { S | V, "MDDnsResolver 192.0.2.1:5353 [2001:db8::1]:53 ::1" },
    { S | V, "MDInitialDelay 0" },
    { S | V, "MDInitialDelay 10mi" },
    { S | V, "MDMember auto" },
    { S | V, "MDMember MANUAL" },
    { M, "MDMember a.org manual b.org" },
    { M, "MDMember" },
    { S | V, "MDMembers auto" },
    { S | V, "MDMembers Manual" },
    { M, "MDMembers a.org AUTO b.org" },
    { M, "MDMembers" },
    { S | V, "MDPortMap 80:99" },
    { S | V, "MDPortMap https:99 http:99" },
    { S | V, "MDPortMap http:-" },
    { S | V, "MDPortMap 80:- 443:65535" },
    { S | V, "MDPreflight on" },
    { S | V, "MDPreflight off" },
    { S | V, "MDPreflight Auto" },
    { S | V | M, "MDPrivateKeys Default" },
    { S | V | M, "MDPrivateKeys RSA" },
    { S | V | M, "MDPrivateKeys rsa 4096" },
    { S | V | M, "MDPrivateKeys RSA 4096 secp384r1 P-256" },
    { S | V | M, "MDPrivateKeys rsa3072 secp256r1 P-384 X25519 not-known-yet" },
    { S | V, "MDRenewConcurrency 1" },
    { S | V, "MDRenewConcurrency 1000" },
    { S | V | M, "MDRenewMode auto" },
    { S | V | M, "MDRenewMode Automatic" },
    { S | V | M, "MDRenewMode always" },
    { S | V | M, "MDRenewMode manual" },
    { S | V | M, "MDRenewMode STICK" },
    { S | V | M, "MDRenewMode \"auto\"" },
    { S | V | M, "MDRenewWindow 0%" },
    { S | V | M, "MDRenewWindow 99%" },
    { S | V | M, "MDRenewWindow 0" },
    { S | V | M, "MDRenewWindow 33D" },
    { S | V | M, "MDRenewWindow 10" },
    { S | V | M, "MDRenewWindow 10000d" },
    { S | V, "MDRetryDelay 100ms" },
    { S | V, "MDRetryDelay 30" },
    { S | V, "MDStoreDir md-other" },
    { S | V, "mdstoredir /var/lib/md" },
};

static void accepted(void **state)
{
    const char *wrong;
    size_t i;
    int place;

    (void)state;
    for (i = 0; i < sizeof(ACCEPTED) / sizeof(ACCEPTED[0]); ++i) {
        for (place = S; place <= M; place <<= 1) {
            wrong = ACCEPTED[i].places & place ? set_alone(place, ACCEPTED[i].line) : NULL;
            if (wrong)
                fail_msg("%s (place %d): %s", ACCEPTED[i].line, place, wrong);
        }
    }
}

/* A row without test is found here. */
static void every_setting_is_tested(void **state)
{
    size_t i, k, len;
    int places;

    (void)state;
    for (i = 0; i < SETTING_COUNT; ++i) {
        places = 0;
        len = SETTINGS[i].name ? strlen(SETTINGS[i].name) : 0;
        for (k = 0; SETTINGS[i].name && k < sizeof(ACCEPTED) / sizeof(ACCEPTED[0]); ++k)
            if (!strncasecmp(ACCEPTED[k].line, SETTINGS[i].name, len)
                && (!ACCEPTED[k].line[len] || ACCEPTED[k].line[len] == ' '))
                places |= ACCEPTED[k].places;
        if ((places & SETTINGS[i].places) != SETTINGS[i].places)
            fail_msg("%s is not tested", SETTINGS[i].name);
    }
}

static void refused(void **state)
{
    static const char NOT_IN[] = "is not allowed inside an '<MDomain>' section";
    static const char ONLY_IN[] = "is only allowed inside an '<MDomain>' section";
    static const char ONE_ARG[] = "takes one argument";
    static const char NO_TERMS[] = "is neither 'accepted' nor a URL: ";
    static const char WINDOW[] = "has unrecognized format";
    static const char DURATION[] = "has unrecognized duration format";
    static const struct { int places; const char *line, *phrase; } ROWS[] = {
        /* number of arguments */
        { S | V | M, "MDCACertificateFile", ONE_ARG },
        { S | V | M, "MDCACertificateFile \"\"", ONE_ARG },
        { S | V | M, "MDCACertificateFile a b", ONE_ARG },
        { S | V | M, "MDCertificateAgreement", ONE_ARG },
        { S | V | M, "MDCertificateAgreement I accept", ONE_ARG },
        { S | V | M, "MDCertificateAgreement no", NO_TERMS },
        { S | V | M, "MDCertificateAgreement off", NO_TERMS },
        { S | V | M, "MDCertificateAgreement yes", NO_TERMS },
        { S | V | M, "MDCertificateAgreement Accepted", NO_TERMS },
        { S | V | M, "MDCertificateAgreement ca.example.org/terms", NO_TERMS },
        { S | V | M, "MDCertificateAgreement mailto:me@example.org", NO_TERMS },
        { S | V | M, "MDCertificateAuthority", ONE_ARG },
        { S | V, "MDCheckInterval", ONE_ARG },
        { S | V, "MDCheckInterval 1 d", ONE_ARG },
        { S | V | M, "MDContactEmail", ONE_ARG },
        { S | V | M, "MDContactEmail \"\"", ONE_ARG },
        { S | V | M, "MDDriveMode", ONE_ARG },
        { S | V, "MDInitialDelay", ONE_ARG },
        { S | V, "MDPortMap", "takes 1-2 arguments" },
        { S | V, "MDPortMap 80:1 443:2 80:3", "takes 1-2 arguments" },
        { S | V, "MDRenewConcurrency", ONE_ARG },
        { S | V, "MDRenewConcurrency 1 2", ONE_ARG },
        { S | V | M, "MDRenewMode", ONE_ARG },
        { S | V | M, "MDRenewMode manual # comment", ONE_ARG },
        { S | V | M, "MDRenewWindow", ONE_ARG },
        { S | V | M, "MDRenewWindow 10 d", ONE_ARG },
        { S | V, "MDRetryDelay", ONE_ARG },
        { S | V, "MDStoreDir", ONE_ARG },
        { S | V, "MDStoreDir \"\"", ONE_ARG },
        { S | V, "MDStoreDir a b", ONE_ARG },
        /* places */
        { M, "MDCheckInterval 1h", NOT_IN },
        { M, "MDInitialDelay 1h", NOT_IN },
        { M, "MDPortMap 80:8080", NOT_IN },
        { M, "MDRenewConcurrency 5", NOT_IN },
        { M, "MDRetryDelay 1h", NOT_IN },
        { M, "MDStoreDir md", NOT_IN },
        { S | V, "MDMember", ONLY_IN },
        { S | V, "MDMember auto manual", ONLY_IN },
        { S | V, "MDMembers a.org b.org", ONLY_IN },
        { S | V, "MDMember a.org", "'auto' or 'manual'" },
        { S | V, "MDMembers a.org", "'auto' or 'manual'" },
        { S | V | M, "MDNoSuchThing x", "MDNoSuchThing is not known" },
        /* values */
        { S | M, "MDCertificateAuthority yes", "The CA name 'yes' is not known " },
        { S | M, "MDCertificateAuthority yes",
          "LetsEncrypt LetsEncrypt-Test Buypass Buypass-Test" },
        { S | M, "MDCertificateAuthority x buypass", "The CA name 'x' is not known " },
        { S | M, "MDCertificateAuthority letsencrypt abc", "The CA name 'abc' is not known " },
        { S | M, "MDCertificateAuthority \"\"", "The CA name '' is not known " },
        { S | M, "MDCertificateAuthority https://127.0.0.1:-443", "invalid port" },
        { S, "MDCheckInterval 999ms", "must not be less than a second" },
        { S, "MDCheckInterval 0", "must not be less than a second" },
        { S, "MDCheckInterval -1d", "must not be less than a second" },
        { S, "MDCheckInterval soon", DURATION },
        { S, "MDCheckInterval 1m", DURATION },
        { S, "MDCheckInterval 1d12h", DURATION },
        { S, "MDCheckInterval 9223372036854775807d", DURATION },
        { S, "MDCheckInterval 99999999999999999999", DURATION },
        { S, "MDInitialDelay -1", "must not be negative" },
        { S, "MDInitialDelay 1y", DURATION },
        { S, "MDRetryDelay 0", "must be greater than 0" },
        { S, "MDRetryDelay -5s", "must be greater than 0" },
        { S, "MDRetryDelay 1w", DURATION },
        { S, "MDRetryDelay 30sekunden", DURATION },
        { S, "MDChallengeDns01Check 0", "a duration from 1s to 50mi" },
        { S, "MDChallengeDns01Check 1h", "a duration from 1s to 50mi" },
        { S, "MDChallengeDns01Check yes", "a duration from 1s to 50mi" },
        { S, "MDCheckPorts", "takes one argument, or more" },
        { S, "MDCheckPorts 80:5002", "not '80:5002'" },
        { S, "MDCheckPorts http:5002 dns:0", "not 'dns:0'" },
        { M, "MDCheckPorts dns:53", NOT_IN },
        { S, "MDDnsResolver dns.example.org", "'dns.example.org': no address" },
        { S, "MDDnsResolver 192.0.2.1 192.0.2.1:x", "'192.0.2.1:x': no valid port" },
        { M, "MDDnsResolver 192.0.2.1", NOT_IN },
        { S, "MDPreflight maybe", "'on', 'off' and 'auto'" },
        { M, "MDPreflight on", NOT_IN },
        { S, "MDPortMap 80", "no ':'" },
        { S, "MDPortMap \"\"", "no ':'" },
        { S, "MDPortMap 80:", "between 1 and 65535" },
        { S, "MDPortMap 80:0", "between 1 and 65535" },
        { S, "MDPortMap 80:65536", "between 1 and 65535" },
        { S, "MDPortMap 80:99999999999999999999", "between 1 and 65535" },
        { S, "MDPortMap 80:+1", "between 1 and 65535" },
        { S, "MDPortMap 80:8080x", "between 1 and 65535" },
        { S, "MDPortMap 80:-1", "between 1 and 65535" },
        { S, "MDPortMap 80:-x", "between 1 and 65535" },
        { S, "MDPortMap 80:x", "between 1 and 65535" },
        { S, "MDPortMap 81:80", "must be 80 (http) or 443 (https)" },
        { S, "MDPortMap HTTP:80", "must be 80 (http) or 443 (https)" },
        { S, "MDPortMap :80", "must be 80 (http) or 443 (https)" },
        { S, "MDPortMap 80:80 mad:443", "must be 80 (http) or 443 (https)" },
        { S | M, "MDPrivateKeys", "needs to specify the private key type" },
        { S | M, "MDPrivateKeys \"\"", "needs to specify the private key type" },
        { S | M, "MDPrivateKeys Default RSA 1024", "'Default' allows no other parameter" },
        { S | M, "MDPrivateKeys RSA Default", "'Default' allows no other parameter" },
        { S | M, "MDPrivateKeys RSA 1024", "must be 2048 or higher" },
        { S | M, "MDPrivateKeys RSA1024", "must be 2048 or higher" },
        { S | M, "MDPrivateKeys RSA 4294969344", "'4294969344' is not a key size" },
        { S | M, "MDPrivateKeys RSA 99999999999999999999", "is not a key size" },
        { S | M, "MDPrivateKeys RSAx", "'x' is not a key size" },
        { S | M, "MDPrivateKeys 2048", "'2048' is not a private key type" },
        { S | M, "MDPrivateKeys rsa 2048 rsa 4096", "two keys of type 'RSA' are not possible" },
        { S | M, "MDPrivateKeys p-256 secp384r1 P-256",
          "two keys of type 'P-256' are not possible" },
        { S, "MDRenewConcurrency 0", "from 1 to 1000" },
        { S, "MDRenewConcurrency 1001", "from 1 to 1000" },
        { S, "MDRenewConcurrency -1", "from 1 to 1000" },
        { S, "MDRenewConcurrency 5x", "from 1 to 1000" },
        { S, "MDRenewConcurrency 4294967297", "from 1 to 1000" },
        { S | M, "MDRenewMode sometimes", "'sometimes'" },
        { S | M, "MDDriveMode sometimes", "MDDriveMode unknown renew mode 'sometimes'" },
        { S | M, "MDRenewWindow dec-31", WINDOW },
        { S | M, "MDRenewWindow 1y", WINDOW },
        { S | M, "MDRenewWindow 1d12h", WINDOW },
        { S | M, "MDRenewWindow 10%x", WINDOW },
        { S | M, "MDRenewWindow %", WINDOW },
        { S | M, "MDRenewWindow 100%", "a length of 100% or more is not allowed." },
        { S | M, "MDRenewWindow 102%", "a length of 100% or more is not allowed." },
        { S | M, "MDRenewWindow -1%", "MDRenewWindow must not be a negative" },
        { S, "MDAccountKey rsa", "'p256' and 'rsa3072'" },
        { S, "MDActivation now", "'reload' and 'live'" },
        { S, "MDLiveCache 0", "from 1 to 1000000" },
        { S, "MDActivationDelay soon", "has unrecognized duration format" },
        { M, "MDBaseServer on", "not allowed inside" },
        { S | M, "MDCertificateCheck crt.sh", "takes 2 arguments" },
        { S | V, "MDCertificateFile a.pem", "only allowed inside" },
        { S | V, "MDCertificateKeyFile a.pem", "only allowed inside" },
        { S, "MDChallengeDns01Version 3", "supported versions are 1 and 2" },
        { S | M, "MDExternalAccountBinding does-not-exist",
          "file not found: /root/does-not-exist" },
        { S | M, "MDHttpProxy localhost:8080", "scheme must be http or https" },
        { S | M, "MDHttpProxy https://127.0.0.1:-443", "invalid port" },
        { S | M, "MDHttpProxy a b", "takes one argument" },
        { S, "MDMatchNames some", "'all' and 'servernames'" },
        { S | M, "MDMustStaple yes", "supported parameter values are 'on' and 'off'" },
        { S | M, "MDRequireHttps yes",
          "supported parameter values are 'temporary' and 'permanent'" },
        { S, "MDArchiveKeep -1", "from 1 to 999, or 0" },
        { S, "MDArchiveKeep 1000", "from 1 to 999, or 0" },
        { S, "MDRetryFailover 0", "greater than 0" },
        { S, "MDRetryFailover 2x", "greater than 0" },
        { S, "MDStoreLocks -1s", "'on', 'off' and a duration" },
        { S | M, "MDStaplingRenewWindow 100%", "a length of 100% or more is not allowed." },
        { S | M, "MDWarnWindow 100%", "a length of 100% or more is not allowed." },
        { S | M, "MDRenewWindow -5d", "MDRenewWindow must not be negative" },
    };
    const char *wrong, *name;
    md_conf_t *conf;
    size_t i;
    int place;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        name = apr_pstrmemdup(p, ROWS[i].line, strcspn(ROWS[i].line, " "));
        for (place = S; place <= M; place <<= 1) {
            if (!(ROWS[i].places & place))
                continue;
            conf = md_conf_make(p);
            wrong = set_line(conf, conf, (md_place_t)place, ROWS[i].line);
            if (!wrong || !strstr(wrong, ROWS[i].phrase) || strncmp(wrong, name, strlen(name)))
                fail_msg("%s (place %d): %s", ROWS[i].line, place, wrong ? wrong : "accepted");
            conf->members = NULL; /* those in front of a wrong one are there */
            if (memcmp(conf, md_conf_make(p), sizeof(*conf)))
                fail_msg("%s (place %d) is refused, but changes something", ROWS[i].line, place);
        }
    }
}

/* ---- what it comes to ---- */

/* Lines separated by ';'. */
static void set_lines(md_conf_t *conf, md_conf_t *main_conf, md_place_t place, const char *lines)
{
    char *last, *line;
    const char *wrong;

    line = lines ? apr_strtok(apr_pstrdup(p, lines), ";", &last) : NULL;
    for (; line; line = apr_strtok(NULL, ";", &last)) {
        wrong = set_line(conf, main_conf, place, line);
        if (wrong)
            fail_msg("%s", wrong);
    }
}

static md_domain_t *define(const char *names)
{
    const char *const *argv;
    md_domain_t *domain = NULL;
    int argc = words_of(&argv, names);

    assert_null(md_config_define(&domain, argc, argv, p));
    return domain;
}

/* The domain `a.org b.org` below these settings. */
static md_domain_t *complete(md_conf_t *main_conf, const char *main_lines, const char *section)
{
    md_domain_t *domain = define("a.org b.org");

    set_lines(domain->conf, main_conf, MD_PLACE_MDOMAIN, section);
    set_lines(main_conf, main_conf, MD_PLACE_SERVER, main_lines); /* the order does not matter */
    md_config_complete(domain, main_conf, p);
    return domain;
}

static void properties(void **state)
{
    static const char LE[] = "[\"https://acme-v02.api.letsencrypt.org/directory\"]";
    static const struct { const char *server, *section, *path, *value; } ROWS[] = {
        { NULL, NULL, "contacts", "[]" },
        { "MDContactEmail a@b", NULL, "contacts", "[\"mailto:a@b\"]" },
        { "MDContactEmail a@b", "MDContactEmail tel:1", "contacts", "[\"tel:1\"]" },
        { "MDContactEmail a@b;MDContactEmail c@d", NULL, "contacts", "[\"mailto:c@d\"]" },
        { NULL, NULL, "ca.agreement", NULL },
        { "MDCertificateAgreement accepted", NULL, "ca.agreement", "\"accepted\"" },
        { "MDCertificateAgreement accepted", "MDCertificateAgreement http://u", "ca.agreement",
          "\"http://u\"" },
        { NULL, NULL, "ca.urls", LE },
        { "MDCertificateAuthority http://a/", "MDCertificateAuthority letsENCRYPT", "ca.urls", LE },
        { "MDCertificateAuthority http://a/ http://b/", NULL, "ca.urls",
          "[\"http://a/\",\"http://b/\"]" },
        { NULL, "MDCertificateAuthority Buypass-test letsencrypt-TEST", "ca.urls",
          "[\"https://api.test4.buypass.no/acme/directory\","
          "\"https://acme-staging-v02.api.letsencrypt.org/directory\"]" },
        { "MDCertificateAuthority http://a/;MDCertificateAuthority Buypass", NULL, "ca.urls",
          "[\"https://api.buypass.com/acme/directory\"]" },
        { NULL, NULL, "ca.proto", "\"ACME\"" },
        { NULL, NULL, "ca.url", NULL },
        { NULL, NULL, "ca.challenges", NULL },
        { "MDCAChallenges HTTP-01 http-01 X", NULL, "ca.challenges", "[\"http-01\",\"x\"]" },
        { "MDCAChallenges http-01", "MDCAChallenges tls-alpn-01", "ca.challenges",
          "[\"tls-alpn-01\"]" },
        { "MDCAChallenges http-01", "MDCAChallenges", "ca.challenges", NULL },
        { "MDCAChallenges http-01;MDCAChallenges", NULL, "ca.challenges", NULL },
        { NULL, NULL, "privkey", NULL },
        { "MDPrivateKeys Default", NULL, "privkey", "{\"type\":\"Default\"}" },
        { "MDPrivateKeys rsa", NULL, "privkey", "{\"type\":\"RSA\",\"bits\":2048}" },
        { "MDPrivateKeys rsa 4096 p-256", "MDPrivateKeys P-384 RSA3072", "privkey",
          "[{\"type\":\"EC\",\"curve\":\"P-384\"},{\"type\":\"RSA\",\"bits\":3072}]" },
        { NULL, NULL, "renew-mode", "1" },
        { "MDRenewMode manual", NULL, "renew-mode", "0" },
        { "MDRenewMode always", "MDRenewMode stick", "renew-mode", "0" },
        { "MDRenewMode manual", "MDDriveMode automatic", "renew-mode", "1" },
        { "MDDriveMode always", NULL, "renew-mode", "2" },
        { NULL, NULL, "renew-window", "\"33%\"" },
        { "MDRenewWindow 10", NULL, "renew-window", "\"10d\"" },
        { "MDRenewWindow 48h", NULL, "renew-window", "\"2d\"" },
        { "MDRenewWindow 14d", "MDRenewWindow 40%", "renew-window", "\"40%\"" },
        { "MDRenewWindow 40%", "MDRenewWindow 14d", "renew-window", "\"14d\"" },
        { "MDRenewWindow 40%", "MDRenewWindow 0", "renew-window", "\"0d\"" },
        { "MDRenewWindow 40%", "MDRenewWindow 0%", "renew-window", "\"0%\"" },
        { NULL, NULL, "warn-window", "\"10%\"" },
        { NULL, NULL, "transitive", "1" },
        { "MDMembers manual", NULL, "transitive", "0" },
        { "MDMember manual", "MDMembers auto", "transitive", "1" },
        { NULL, "MDMember manual", "transitive", "0" },
        { NULL, "MDMember manual;MDMembers c.org auto", "transitive", "1" },
        { "MDMembers manual", "MDMember c.org", "transitive", "0" },
        { NULL, NULL, "domains", "[\"a.org\",\"b.org\"]" },
        { NULL, "MDMember C.org b.ORG;MDMembers manual *.d.org c.org", "domains",
          "[\"a.org\",\"b.org\",\"c.org\",\"*.d.org\"]" },
        { NULL, "MDMembers \"\" c.org", "domains", "[\"a.org\",\"b.org\",\"c.org\"]" },
        { NULL, NULL, "ca-certs", NULL },
        { "MDCACertificateFile /g.pem", NULL, "ca-certs", NULL }, /* not the section's own */
        { "MDCACertificateFile /g.pem", "MDCACertificateFile /s.pem", "ca-certs", "\"/s.pem\"" },
        { NULL, "MDCACertificateFile none", "ca-certs", NULL },
        { "MDCACertificateFile /g.pem", "MDCACertificateFile None", "ca-certs", "\"none\"" },
        { NULL, "MDCACertificateFile s.pem", "ca-certs", "\"/root/s.pem\"" },
        { NULL, NULL, "must-staple", "false" },
        { NULL, NULL, "stapling", "false" },
        { NULL, NULL, "ari-renewals", "true" },
        { NULL, NULL, "profile-mandatory", "false" },
        { NULL, NULL, "preferred-chain", NULL },
        { "MDPreferredChain A", "MDPreferredChain b", "preferred-chain", "\"b\"" },
        { "MDPreferredChain A", "MDPreferredChain None", "preferred-chain", NULL },
        { NULL, NULL, "state", "0" },
    };
    const char *text;
    md_domain_t *domain;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        domain = complete(md_conf_make(p), ROWS[i].server, ROWS[i].section);
        text = md_json_text(md_json_get(md_domain_to_json(domain, p), ROWS[i].path, p), 1, p);
        if (!text != !ROWS[i].value || (text && strcmp(text, ROWS[i].value)))
            fail_msg("%s, <%s>: %s is %s", ROWS[i].server, ROWS[i].section, ROWS[i].path,
                     text ? text : "absent");
    }
}

/* Without a type the directive means automatic choice, the same as if it were not there. */
static void no_challenges_is_automatic(void **state)
{
    (void)state;
    assert_null(complete(md_conf_make(p), NULL, NULL)->ca_challenges);
    assert_null(complete(md_conf_make(p), "MDCAChallenges", NULL)->ca_challenges);
    assert_null(complete(md_conf_make(p), "MDCAChallenges dns-01", "MDCAChallenges")
                    ->ca_challenges);
}

#define CA_FILE       offsetof(md_route_t, ca_file)
#define PROXY_URL     offsetof(md_route_t, proxy_url)
#define PROXY_CA_FILE offsetof(md_route_t, proxy_ca_file)

/* What stands in a section, `none` too, beats what the server has. */
static void connections(void **state)
{
    static const struct {
        const char *directive;
        size_t offset; /* in md_route_t */
        const char *server, *section, *value;
    } ROWS[] = {
        { "MDCACertificateFile ", CA_FILE, NULL, NULL, NULL },
        { "MDCACertificateFile ", CA_FILE, "/g.pem", NULL, "/g.pem" },
        { "MDCACertificateFile ", CA_FILE, "/g.pem", "/s.pem", "/s.pem" },
        { "MDCACertificateFile ", CA_FILE, "/g.pem", "None", NULL },
        { "MDCACertificateFile ", CA_FILE, "NONE", NULL, NULL },
        { "MDCACertificateFile ", CA_FILE, "none", "/s.pem", "/s.pem" },
        { "MDHttpProxyCACertificateFile ", PROXY_CA_FILE, NULL, NULL, NULL },
        { "MDHttpProxyCACertificateFile ", PROXY_CA_FILE, "/g.pem", NULL, "/g.pem" },
        { "MDHttpProxyCACertificateFile ", PROXY_CA_FILE, "/g.pem", "none", NULL },
        { "MDHttpProxy ", PROXY_URL, NULL, NULL, NULL },
        { "MDHttpProxy ", PROXY_URL, "http://g", NULL, "http://g" },
        { "MDHttpProxy ", PROXY_URL, "http://g", "http://s", "http://s" },
    };
    const char *server, *section, *value;
    md_conf_t *main_conf;
    md_domain_t *domain;
    md_route_t route;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        main_conf = md_conf_make(p);
        server = ROWS[i].server ? apr_pstrcat(p, ROWS[i].directive, ROWS[i].server, NULL) : NULL;
        section = ROWS[i].section ? apr_pstrcat(p, ROWS[i].directive, ROWS[i].section, NULL) : NULL;
        domain = complete(main_conf, server, section);
        route = md_config_route(domain, main_conf, &(md_route_t){ "/n.pem", "http://n", "/n.pem" });
        value = *(const char *const *)((const char *)&route + ROWS[i].offset);
        if (!value != !ROWS[i].value || (value && strcmp(value, ROWS[i].value)))
            fail_msg("%s, <%s>: %s", server, section, value);
    }
}

/* For a tool: what it was told, what is stored with the domain (`none` cancels), what a server
 * noted. */
static void connections_of_stored_domains(void **state)
{
    static const struct { const char *told, *stored, *noted, *value; } ROWS[] = {
        { NULL, NULL, NULL, NULL },
        { NULL, NULL, "/n.pem", "/n.pem" },
        { NULL, "/s.pem", "/n.pem", "/s.pem" },
        { NULL, "none", "/n.pem", NULL },
        { "/t.pem", "/s.pem", "/n.pem", "/t.pem" },
        { "/t.pem", "none", NULL, "/t.pem" },
        { "none", "/s.pem", "/n.pem", NULL },
    };
    md_domain_t *domain;
    md_route_t noted, route;
    md_conf_t *told;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        domain = md_domain_make("a.org", p);
        told = md_conf_make(p);
        told->ca_file = told->proxy_url = told->proxy_ca_file = ROWS[i].told;
        domain->ca_certs = domain->proxy_url = domain->proxy_ca_certs = ROWS[i].stored;
        noted.ca_file = noted.proxy_url = noted.proxy_ca_file = ROWS[i].noted;
        route = md_config_route(domain, told, &noted);
        assert_true(md_text_same(route.ca_file, ROWS[i].value));
        assert_true(md_text_same(route.proxy_ca_file, ROWS[i].value));
        assert_true(md_text_same(route.proxy_url, choose(ROWS[i].told, ROWS[i].stored,
                                                         ROWS[i].noted)));
    }
}

/* Not for a domain whose certificates are files of somebody else. */
static void activation(void **state)
{
    static const struct { const char *server, *section; int is_live; } ROWS[] = {
        { NULL, NULL, 0 },
        { "MDActivation live", NULL, 1 },
        { NULL, "MDActivation live", 1 },
        { "MDActivation live", "MDActivation reload", 0 },
        { "MDActivation live", "MDCertificateFile a.pem;MDCertificateKeyFile a.key", 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i)
        assert_int_equal(complete(md_conf_make(p), ROWS[i].server,
                                  ROWS[i].section)->activates_live, ROWS[i].is_live);
}

static const char *process_text(const md_conf_t *conf)
{
    return apr_psprintf(p, "%d %d %s %s %s %s %d", conf->port_http, conf->port_https,
                        conf->store_dir, md_duration_format(conf->check_interval, p),
                        md_duration_format(conf->initial_delay, p),
                        md_duration_format(conf->retry_delay, p), conf->renew_concurrency);
}

/* Wherever they stand, also in a vhost: the last one counts, for the process. */
static void process_values(void **state)
{
    static const struct { const char *lines, *text; } ROWS[] = {
        { NULL, "80 443 md 12h 0d 30s 64" },
        { "MDPortMap 80:8080", "8080 443 md 12h 0d 30s 64" },
        { "MDPortMap 443:8443;MDPortMap http:-", "0 8443 md 12h 0d 30s 64" },
        { "MDPortMap 80:1 443:2;MDPortMap https:3", "1 3 md 12h 0d 30s 64" },
        { "MDPortMap 80:1 80:2", "2 443 md 12h 0d 30s 64" },
        { "MDStoreDir x;MDStoreDir y", "80 443 y 12h 0d 30s 64" },
        { "MDCheckInterval 90", "80 443 md 90s 0d 30s 64" },
        { "MDInitialDelay 5s", "80 443 md 12h 5s 30s 64" },
        { "MDInitialDelay 5s;MDInitialDelay 0", "80 443 md 12h 0d 30s 64" },
        { "MDRetryDelay 100ms", "80 443 md 12h 0d 100ms 64" },
        { "MDRenewConcurrency 1", "80 443 md 12h 0d 30s 1" },
    };
    md_conf_t *main_conf, *conf;
    size_t i;
    int place;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        for (place = S; place <= V; place <<= 1) {
            main_conf = md_conf_make(p);
            conf = place == S ? main_conf : md_conf_make(p);
            set_lines(conf, main_conf, (md_place_t)place, ROWS[i].lines);
            assert_string_equal(process_text(md_conf_merge(&md_conf_defaults, main_conf, p)),
                                ROWS[i].text);
        }
    }
}

/* A property in a vhost stays there; a value of the process does not; a section keeps its own. */
static void scopes(void **state)
{
    md_conf_t *main_conf = md_conf_make(p), *vhost = md_conf_make(p), *merged;
    md_conf_t *section = md_conf_make(p);

    (void)state;
    set_lines(main_conf, main_conf, MD_PLACE_SERVER, "MDContactEmail main@b;MDRenewMode always");
    set_lines(vhost, main_conf, MD_PLACE_VHOST,
              "MDContactEmail vhost@b;MDMembers manual;MDCACertificateFile /v.pem");
    set_lines(section, main_conf, MD_PLACE_MDOMAIN, "MDCACertificateFile /s.pem;MDMember x.org");
    assert_string_equal(main_conf->contact, "main@b");
    assert_string_equal(main_conf->ca_file, "/v.pem");
    assert_int_equal(main_conf->transitive, -1);
    assert_null(main_conf->members);
    assert_null(vhost->ca_file);
    merged = md_conf_merge(main_conf, vhost, p);
    assert_string_equal(merged->contact, "vhost@b");
    assert_int_equal(merged->renew_mode, MD_RENEW_ALWAYS);
    assert_int_equal(merged->transitive, 0);
    assert_string_equal(section->ca_file, "/s.pem");
    assert_int_equal(section->members->nelts, 1);
}

/* All that the table knows takes part in merging: unset values change nothing, set ones win. */
static void merging_is_complete(void **state)
{
    md_conf_t *unset = md_conf_make(p), *full = md_conf_make(p), *merged;
    size_t i;
    int place;

    (void)state;
    for (i = 0; i < sizeof(ACCEPTED) / sizeof(ACCEPTED[0]); ++i)
        for (place = S; place <= M; place <<= 2)
            if (ACCEPTED[i].places & place)
                assert_null(set_line(full, full, (md_place_t)place, ACCEPTED[i].line));
    merged = md_conf_merge(unset, full, p);
    assert_memory_equal(merged, full, sizeof(*full));
    merged = md_conf_merge(full, unset, p);
    assert_memory_equal(merged, full, sizeof(*full));
    merged = md_conf_merge(unset, unset, p);
    assert_memory_equal(merged, unset, sizeof(*unset));
}

/* ---- MDomain ---- */

static void definitions(void **state)
{
    static const struct { const char *words, *names; int transitive; } ROWS[] = {
        { "a.org", "a.org", -1 },
        { "A.org b.ORG a.ORG B.org", "a.org b.org", -1 },
        { "a.org auto b.org", "a.org b.org", 1 },
        { "MANUAL a.org", "a.org", 0 },
        { "manual a.org auto", "a.org", 1 },
        { "auto a.org manual", "a.org", 0 },
        { "*.a.org a.org", "*.a.org a.org", -1 },
        { "a.org invalid!.a.org tld", "a.org invalid!.a.org tld", -1 },
        { "a.org \"\" \"b.org\"", "a.org b.org", -1 },
    };
    static const char *const NONE[] = { "", "auto", "manual auto", "\"\"", "\"\" manual" };
    const char *const *argv, *wrong;
    md_domain_t *domain;
    size_t i;
    int argc;

    (void)state;
    for (i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); ++i) {
        domain = define(ROWS[i].words);
        assert_string_equal(apr_array_pstrcat(p, domain->names, ' '), ROWS[i].names);
        assert_string_equal(domain->name, APR_ARRAY_IDX(domain->names, 0, const char *));
        assert_int_equal(domain->conf->transitive, ROWS[i].transitive);
    }
    for (i = 0; i < sizeof(NONE) / sizeof(NONE[0]); ++i) {
        argc = words_of(&argv, NONE[i]);
        wrong = md_config_define(&domain, argc, argv, p);
        assert_non_null(wrong);
        assert_non_null(strstr(wrong, "domain name"));
    }
}

/* The header's mode yields to that of the section. */
static void header_and_members(void **state)
{
    md_conf_t *main_conf = md_conf_make(p);
    md_domain_t *domain = define("a.org manual");

    (void)state;
    set_lines(domain->conf, main_conf, MD_PLACE_MDOMAIN, "MDMember b.org auto");
    md_config_complete(domain, main_conf, p);
    assert_int_equal(domain->transitive, 1);
    domain = define("a.org manual");
    set_lines(main_conf, main_conf, MD_PLACE_SERVER, "MDMembers auto");
    md_config_complete(domain, main_conf, p);
    assert_int_equal(domain->transitive, 0);
    domain = define("a.org");
    assert_non_null(set_line(domain->conf, main_conf, MD_PLACE_MDOMAIN, "MDMember b.org c.org:443"));
    md_config_complete(domain, main_conf, p);
    assert_int_equal(domain->names->nelts, 2); /* and not the one that is refused */
}

/* Pair-wise comparison would take minutes. */
static void many_names(void **state)
{
    enum { NAMES = 20000 };
    const char **argv = apr_palloc(p, NAMES * sizeof(const char *));
    md_conf_t *main_conf = md_conf_make(p);
    apr_time_t start = apr_time_now();
    md_directive_t directive = { .name = "MDMembers", .place = MD_PLACE_MDOMAIN, .argc = NAMES };
    md_domain_t *domain;
    int i;

    (void)state;
    for (i = 0; i < NAMES; ++i)
        argv[i] = apr_psprintf(p, "n%d.example.org", i);
    assert_null(md_config_define(&domain, NAMES / 2, argv, p));
    directive.argv = argv;
    assert_null(md_config_set(domain->conf, main_conf, &directive, p));
    md_config_complete(domain, main_conf, p);
    assert_int_equal(domain->names->nelts, NAMES);
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
        TEST(accepted), TEST(every_setting_is_tested), TEST(refused), TEST(properties),
        TEST(no_challenges_is_automatic), TEST(connections),
        TEST(connections_of_stored_domains), TEST(activation), TEST(process_values),
        TEST(scopes),
        TEST(merging_is_complete), TEST(definitions), TEST(header_and_members), TEST(many_names),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
