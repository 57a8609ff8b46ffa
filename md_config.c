/* SPDX-License-Identifier: Apache-2.0 */
/* The settings table. */
#include "md_config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_file_info.h>
#include <apr_strings.h>

#include "md_dns.h"
#include "md_file.h"
#include "md_jws.h"
#include "md_limits.h"
#include "md_text.h"

#define SECONDS(n) ((apr_interval_time_t)(n) * APR_USEC_PER_SEC)

#define DNS_01_CHECK SECONDS(120) /* all servers of most zones have a change by then */

static const md_key_spec_t ACCOUNT_P256 = { .type = MD_KEY_EC, .curve = "P-256" };
static const md_key_spec_t ACCOUNT_RSA = { .type = MD_KEY_RSA, .bits = 3072 };

static const char *CRT_SH[] = { "crt.sh", "https://crt.sh?q=" };
static apr_array_header_t CHECK_AT_CRT_SH = { .elt_size = sizeof(CRT_SH[0]), .nelts = 2,
                                              .nalloc = 2, .elts = (char *)CRT_SH };

const md_conf_t md_conf_defaults = {
    .ca_proto = MD_CA_PROTO_ACME,
    .renew_mode = MD_RENEW_AUTO,
    .renew_via_ari = 1,
    .renew_window = { 0, 33 },
    .warn_window = { 0, 10 },
    .require_https = "off",
    .activation = MD_ACTIVATE_RELOAD,
    .staple_others = 1,
    .transitive = 1,
    .port_http = 80,
    .port_https = 443,
    .store_dir = "md",
    .account_key = &ACCOUNT_P256,
    .check_interval = SECONDS(12 * 3600),
    .initial_delay = 0,
    .retry_delay = SECONDS(30),
    .retry_failover = 13,
    .archive_keep = 10,
    .renew_concurrency = 64,
    .live_cache = 10000,
    .dns_01_version = 1,
    .dns_01_check = DNS_01_CHECK,
    .preflight = MD_PREFLIGHT_AUTO,
    .check_http = 80,
    .check_https = 443,
    .check_dns = 53,
    .cert_status = 1,
    .cert_check = &CHECK_AT_CRT_SH,
    .staple_keep = { SECONDS(7 * 24 * 3600), -1 },
    .staple_renew_window = { 0, 33 },
};

/* ---- CAs by name ---- */

static const struct { const char *name, *url; } CAS[] = {
    { "LetsEncrypt", MD_DEFAULT_CA_URL },
    { "LetsEncrypt-Test", "https://acme-staging-v02.api.letsencrypt.org/directory" },
    { "Buypass", "https://api.buypass.com/acme/directory" },
    { "Buypass-Test", "https://api.test4.buypass.no/acme/directory" },
};
#define CA_COUNT (sizeof(CAS) / sizeof(CAS[0]))

static const char *ca_url(const char *name)
{
    size_t i;

    for (i = 0; i < CA_COUNT; ++i)
        if (!strcasecmp(CAS[i].name, name))
            return CAS[i].url;
    return NULL;
}

const char *md_config_ca_name(const char *url, apr_pool_t *p)
{
    const char *host = md_uri_host(url, p);
    size_t i;

    for (i = 0; i < CA_COUNT; ++i)
        if (!strcmp(CAS[i].url, url))
            return CAS[i].name;
    return host ? host : url;
}

/* ---- how words become values ---- */

/* Put what the directive says where the value goes. NULL or what is wrong. */
typedef const char *setter_fn(void *slot, const md_directive_t *d, apr_pool_t *p);

/* Words that stand for numbers; the last entry has no word. */
typedef struct word_t { const char *word; int value; } word_t;

static int parse_word(int *slot, const char *text, const word_t *words)
{
    for (; words->word; ++words) {
        if (strcasecmp(words->word, text))
            continue;
        *slot = words->value;
        return 1;
    }
    return 0;
}

static const char *set_flag(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    static const word_t FLAGS[] = { { "on", 1 }, { "off", 0 }, { NULL, 0 } };

    if (parse_word(slot, d->argv[0], FLAGS))
        return NULL;
    return apr_psprintf(p, "'%s': supported parameter values are 'on' and 'off'", d->argv[0]);
}

static const char *set_string(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    *(const char **)slot = apr_pstrdup(p, d->argv[0]);
    return NULL;
}

/* An empty line is no command. */
static const char *set_command(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    *(const char **)slot = d->argc > 0 && *d->argv[0] ? apr_pstrdup(p, d->argv[0]) : NULL;
    return NULL;
}

/* Relative to ServerRoot. */
static const char *set_path(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    char *path;

    if (apr_filepath_merge(&path, d->server_root, d->argv[0], APR_FILEPATH_TRUENAME, p)
        != APR_SUCCESS)
        return apr_psprintf(p, "'%s' is not a usable path", d->argv[0]);
    *(const char **)slot = path;
    return NULL;
}

static const char *set_path_or_off(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (strcasecmp(d->argv[0], "off"))
        return set_path(slot, d, p);
    *(const char **)slot = NULL;
    return NULL;
}

/* `none` is a value, so that a section can cancel what the server has. */
static const char *set_path_or_none(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (strcasecmp(d->argv[0], "none"))
        return set_path(slot, d, p);
    *(const char **)slot = "none";
    return NULL;
}

static const char *set_string_or_none(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (strcasecmp(d->argv[0], "none"))
        return set_string(slot, d, p);
    *(const char **)slot = "none";
    return NULL;
}

static const char *add_path(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    apr_array_header_t **plist = slot;
    const char *path = NULL, *wrong;

    wrong = set_path(&path, d, p);
    if (wrong)
        return wrong;
    if (!*plist)
        *plist = md_strings_make(p);
    APR_ARRAY_PUSH(*plist, const char *) = path;
    return NULL;
}

static const char *set_agreement(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    const char *wrong = md_terms_check(d->argv[0], p);

    return wrong ? wrong : set_string(slot, d, p);
}

static const char *set_http_url(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    const char *wrong = md_uri_check_http(d->argv[0], p);

    if (wrong)
        return apr_psprintf(p, "'%s': %s", md_uri_public(d->argv[0], p), wrong);
    return set_string(slot, d, p);
}

static const char *set_words(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    apr_array_header_t *words = md_strings_make(p);
    int i;

    for (i = 0; i < d->argc; ++i)
        APR_ARRAY_PUSH(words, const char *) = apr_pstrdup(p, d->argv[i]);
    *(apr_array_header_t **)slot = words;
    return NULL;
}

static const char *parse_duration(void *slot, const char *word, apr_interval_time_t min,
                                  const char *limit, apr_pool_t *p)
{
    apr_interval_time_t duration;

    if (md_duration_parse(&duration, word, "s") != APR_SUCCESS)
        return apr_psprintf(p, "has unrecognized duration format: '%s'", word);
    if (duration < min)
        return apr_psprintf(p, "must %s: '%s'", limit, word);
    *(apr_interval_time_t *)slot = duration;
    return NULL;
}

static const char *set_check_interval(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    return parse_duration(slot, d->argv[0], SECONDS(1), "not be less than a second", p);
}

static const char *set_initial_delay(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    return parse_duration(slot, d->argv[0], 0, "not be negative", p);
}

static const char *set_retry_delay(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    return parse_duration(slot, d->argv[0], apr_time_from_msec(1), "be greater than 0", p);
}

/* A negative one, too, for tests. */
static const char *set_activation_delay(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (md_duration_parse(slot, d->argv[0], "d") != APR_SUCCESS)
        return apr_psprintf(p, "has unrecognized duration format: '%s'", d->argv[0]);
    return NULL;
}

static const char *set_store_locks(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    apr_interval_time_t *wait = slot;
    int is_on = 0;

    if (!set_flag(&is_on, d, p))
        *wait = is_on ? SECONDS(5) : 0;
    else if (parse_duration(wait, d->argv[0], 0, "", p))
        return apr_psprintf(p, "'%s': supported parameter values are 'on', 'off' and a duration",
                            d->argv[0]);
    return NULL;
}

static const char *set_window(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    return md_window_spec_parse(slot, d->argv[0], p);
}

static const char *set_long_window(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    return md_window_spec_parse_any(slot, d->argv[0], p);
}

static const char *set_renew_mode(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    static const word_t MODES[] = {
        { "auto", MD_RENEW_AUTO }, { "automatic", MD_RENEW_AUTO },
        { "always", MD_RENEW_ALWAYS },
        { "manual", MD_RENEW_MANUAL }, { "stick", MD_RENEW_MANUAL },
        { NULL, 0 }
    };

    if (parse_word(slot, d->argv[0], MODES))
        return NULL;
    return apr_psprintf(p, "unknown renew mode '%s': it must be auto, always or manual",
                        d->argv[0]);
}

static const char *set_activation(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    static const word_t WORDS[] = {
        { "reload", MD_ACTIVATE_RELOAD }, { "live", MD_ACTIVATE_LIVE }, { NULL, 0 }
    };

    if (parse_word(slot, d->argv[0], WORDS))
        return NULL;
    return apr_psprintf(p, "'%s': supported parameter values are 'reload' and 'live'", d->argv[0]);
}

static const char *set_match_names(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    static const word_t MATCHES[] = {
        { "all", MD_MATCH_ALL }, { "servernames", MD_MATCH_SERVERNAMES }, { NULL, 0 }
    };

    if (parse_word(slot, d->argv[0], MATCHES))
        return NULL;
    return apr_psprintf(p, "'%s': supported parameter values are 'all' and 'servernames'",
                        d->argv[0]);
}

static const char *set_preflight(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    static const word_t WORDS[] = { { "on", MD_PREFLIGHT_ON }, { "off", MD_PREFLIGHT_OFF },
                                    { "auto", MD_PREFLIGHT_AUTO }, { NULL, 0 } };

    if (parse_word(slot, d->argv[0], WORDS))
        return NULL;
    return apr_psprintf(p, "'%s': supported parameter values are 'on', 'off' and 'auto'",
                        d->argv[0]);
}

static const char *set_require_https(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    static const char *const WORDS[] = { "off", "temporary", "permanent" };
    size_t i;

    for (i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); ++i) {
        if (strcasecmp(WORDS[i], d->argv[0]))
            continue;
        *(const char **)slot = WORDS[i];
        return NULL;
    }
    return apr_psprintf(p, "'%s': supported parameter values are 'temporary' and 'permanent', or "
                        "'off'", d->argv[0]);
}

static const char *set_account_key(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    const md_key_spec_t **pspec = slot;

    if (!strcasecmp(d->argv[0], "p256"))
        *pspec = &ACCOUNT_P256;
    else if (!strcasecmp(d->argv[0], "rsa3072"))
        *pspec = &ACCOUNT_RSA;
    else
        return apr_psprintf(p, "'%s': supported parameter values are 'p256' and 'rsa3072'",
                            d->argv[0]);
    return NULL;
}

/* Digits only: no sign, no blanks, nothing behind. */
static int parse_number(int *pn, const char *text, int min, int max)
{
    size_t len = strspn(text, "0123456789");
    int n;

    if (len == 0 || len > 9 || text[len])
        return 0;
    n = atoi(text);
    if (n < min || n > max)
        return 0;
    *pn = n;
    return 1;
}

static const char *set_concurrency(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (!parse_number(slot, d->argv[0], 1, 1000))
        return apr_psprintf(p, "takes a number from 1 to 1000, not '%s'", d->argv[0]);
    return NULL;
}

static const char *set_retry_failover(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (!parse_number(slot, d->argv[0], 1, 999999999))
        return apr_psprintf(p, "takes a number greater than 0, not '%s'", d->argv[0]);
    return NULL;
}

static const char *set_archive_keep(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (!parse_number(slot, d->argv[0], 0, MD_MAX_ARCHIVE))
        return apr_psprintf(p, "takes a number from 1 to %d, or 0 to keep all, not '%s'",
                            MD_MAX_ARCHIVE, d->argv[0]);
    return NULL;
}

static const char *set_live_cache(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (!parse_number(slot, d->argv[0], 1, 1000000))
        return apr_psprintf(p, "takes a number from 1 to 1000000, not '%s'", d->argv[0]);
    return NULL;
}

/* What stands behind `teardown`. */
static const char *set_dns_01_version(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    if (strcmp(d->argv[0], "1") && strcmp(d->argv[0], "2"))
        return apr_psprintf(p, "'%s': supported versions are 1 and 2", d->argv[0]);
    *(int *)slot = d->argv[0][0] - '0';
    return NULL;
}

static const char *set_dns_01_check(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    apr_interval_time_t wait = 0;
    int is_on = 0;

    if (!set_flag(&is_on, d, p))
        wait = is_on ? DNS_01_CHECK : 0;
    else if (parse_duration(&wait, d->argv[0], SECONDS(1), "", p) || wait > SECONDS(3000))
        return apr_psprintf(p, "'%s': supported parameter values are 'on', 'off' and a duration "
                            "from 1s to 50mi", d->argv[0]);
    *(apr_interval_time_t *)slot = wait;
    return NULL;
}

static const char *set_resolvers(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    const char *wrong;
    int i;

    for (i = 0; i < d->argc; ++i) {
        wrong = md_dns_check_resolver(d->argv[i], p);
        if (wrong)
            return apr_psprintf(p, "'%s': %s", d->argv[i], wrong);
    }
    return set_words(slot, d, p);
}

static const char *set_key_specs(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    int i;

    for (i = 0; i < d->argc; ++i)
        if (!*d->argv[i])
            return "needs to specify the private key type, not ''";
    return md_key_specs_parse(slot, d->argc, d->argv, p);
}

/* Lower case, as they are compared with what the CA offers; unknown ones are never usable. */
static const char *set_challenges(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    apr_array_header_t **plist = slot;

    (void)set_words(slot, d, p);
    *plist = md_names_normalise(*plist, p);
    return NULL;
}

/* A member of the JSON document that an account at the CA came with. */
static const char *eab_member(const char **pvalue, const md_json_t *json, const char *name,
                              apr_pool_t *p)
{
    *pvalue = md_json_get_str(json, name);
    if (!*pvalue || !**pvalue)
        return apr_psprintf(p, "JSON does not contain '%s' element", name);
    *pvalue = apr_pstrdup(p, *pvalue);
    return NULL;
}

/* What is the default is not kept. */
static const char *set_eab_alg(md_eab_t *eab, const char *word, apr_pool_t *p)
{
    const char *alg = md_jws_mac_alg(word);

    if (!alg)
        return apr_psprintf(p, "'%s': supported algorithms are HS256, HS384 and HS512",
                            md_text_printable(word, p));
    eab->alg = strcmp(alg, "HS256") ? alg : NULL;
    return NULL;
}

static const char *load_eab(md_eab_t *eab, const md_directive_t *d, apr_pool_t *p)
{
    const char *path = NULL, *wrong;
    apr_finfo_t info;
    md_json_t *json;
    apr_size_t len;
    char *text;

    wrong = set_path(&path, d, p);
    if (wrong || d->is_dump)
        return wrong;
    if (apr_stat(&info, path, APR_FINFO_TYPE, p) != APR_SUCCESS || info.filetype != APR_REG)
        return apr_psprintf(p, "file not found: %s", path);
    if (md_file_read_linked(&text, &len, path, MD_MAX_FILE, p) != APR_SUCCESS
        || md_json_parse(&json, text, len, NULL, p) != APR_SUCCESS)
        return apr_psprintf(p, "error reading JSON file %s", path);
    wrong = eab_member(&eab->kid, json, "kid", p);
    if (!wrong)
        wrong = eab_member(&eab->hmac, json, "hmac", p);
    if (!wrong && md_json_has(json, "alg"))
        wrong = set_eab_alg(eab, md_json_get_str(json, "alg") ? md_json_get_str(json, "alg") : "",
                            p);
    return wrong;
}

static const char *set_eab(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    md_eab_t *eab = apr_pcalloc(p, sizeof(*eab));
    const char *wrong = NULL;

    if (d->argc > 1) {
        eab->kid = apr_pstrdup(p, d->argv[0]);
        eab->hmac = apr_pstrdup(p, d->argv[1]);
        wrong = d->argc > 2 ? set_eab_alg(eab, d->argv[2], p) : NULL;
    }
    else if (strcasecmp(d->argv[0], "none")) {
        wrong = load_eab(eab, d, p);
    }
    if (!wrong)
        *(const md_eab_t **)slot = eab;
    return wrong;
}

static const char *unknown_ca(const char *word, const char *problem, apr_pool_t *p)
{
    const char *known = "";
    size_t i;

    for (i = 0; i < CA_COUNT; ++i)
        known = apr_pstrcat(p, known, i ? " " : "", CAS[i].name, NULL);
    return apr_psprintf(p, "The CA name '%s' is not known and it is not a URL either (%s). Known "
                        "CA names are: %s", word, problem, known);
}

static const char *set_cas(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    apr_array_header_t *urls = md_strings_make(p);
    const char *url, *wrong;
    int i;

    for (i = 0; i < d->argc; ++i) {
        url = ca_url(d->argv[i]);
        wrong = url ? NULL : md_uri_check(d->argv[i], p);
        if (!url && !wrong && !strstr(d->argv[i], "://")) /* host:port/path */
            wrong = "scheme must be http or https";
        if (wrong)
            return unknown_ca(d->argv[i], wrong, p);
        APR_ARRAY_PUSH(urls, const char *) = url ? url : apr_pstrdup(p, d->argv[i]);
    }
    *(apr_array_header_t **)slot = urls;
    return NULL;
}

/* What a DNS name never has, and people write all the same. Whatever else is odd is for the CA to
 * judge. */
static const char *name_problem(const char *name, apr_pool_t *p)
{
    const char *cure, *shown = md_text_printable(name, p);

    if (strchr(name, '/'))
        cure = "give the name without scheme and path";
    else if (strchr(name, ','))
        cure = "separate names with spaces, not commas";
    else if (strchr(name, ':') && md_identifier_of(name, p).type == MD_IDENTIFIER_DNS)
        cure = "give the name without a port";
    else if (name[strcspn(name, " \t")])
        cure = "give each name as a separate word, without quotes around several names";
    else
        return NULL;
    return apr_psprintf(p, "'%s' is not a DNS name: %s", shown, cure);
}

static const char *parse_mode(int *ptransitive, const char *word)
{
    if (!strcasecmp(word, "auto"))
        *ptransitive = 1;
    else if (!strcasecmp(word, "manual"))
        *ptransitive = 0;
    else
        return word;
    return NULL;
}

/* Words that are names, or the mode of members. NULL or what is wrong. */
static const char *parse_names(apr_array_header_t *names, int *ptransitive, int argc,
                               const char *const *argv, apr_pool_t *p)
{
    const char *wrong = NULL;
    int i;

    for (i = 0; i < argc && !wrong; ++i) {
        if (!*argv[i] || !parse_mode(ptransitive, argv[i]))
            continue;
        wrong = name_problem(argv[i], p);
        if (!wrong)
            APR_ARRAY_PUSH(names, const char *) = apr_pstrdup(p, argv[i]);
    }
    return wrong;
}

/* In a section: names and modes. Several values, as with those below: `slot` is the md_conf_t. */
static const char *set_members(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    md_conf_t *conf = slot;

    if (!conf->members)
        conf->members = md_strings_make(p);
    return parse_names(conf->members, &conf->transitive, d->argc, d->argv, p);
}

/* Outside: the mode alone. */
static const char *set_member_mode(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    md_conf_t *conf = slot;

    if (d->argc != 1)
        return "is only allowed inside an '<MDomain>' section, or with the single argument 'auto' "
               "or 'manual'";
    if (parse_mode(&conf->transitive, d->argv[0]))
        return apr_psprintf(p, "takes 'auto' or 'manual' outside of sections, not '%s'",
                            d->argv[0]);
    return NULL;
}

static const char *parse_check_port(md_conf_t *conf, const char *word, apr_pool_t *p)
{
    const char *colon = strchr(word, ':');
    int *port = !colon ? NULL : !strncasecmp(word, "http:", 5) ? &conf->check_http
                : !strncasecmp(word, "https:", 6) ? &conf->check_https
                : !strncasecmp(word, "dns:", 4) ? &conf->check_dns : NULL;

    if (port && parse_number(port, colon + 1, 1, 65535))
        return NULL;
    return apr_psprintf(p, "takes http:<port>, https:<port> and dns:<port>, not '%s'", word);
}

static const char *set_check_ports(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    md_conf_t *conf = slot, changed = *conf;
    const char *wrong = NULL;
    int i;

    for (i = 0; i < d->argc && !wrong; ++i)
        wrong = parse_check_port(&changed, d->argv[i], p);
    if (!wrong)
        *conf = changed;
    return wrong;
}

static const char *parse_map(md_conf_t *conf, const char *map, apr_pool_t *p)
{
    const char *colon = strchr(map, ':'), *public_port;
    int local = 0;

    if (!colon)
        return apr_psprintf(p, "no ':' in '%s', use <public>:<local>", map);
    public_port = apr_pstrmemdup(p, map, (apr_size_t)(colon - map));
    if (strcmp(colon + 1, "-") && !parse_number(&local, colon + 1, 1, 65535))
        return apr_psprintf(p, "unable to parse the local port in '%s': it must be between 1 and "
                            "65535, or '-'", map);
    if (!strcmp(public_port, "80") || !strcmp(public_port, "http"))
        conf->port_http = local;
    else if (!strcmp(public_port, "443") || !strcmp(public_port, "https"))
        conf->port_https = local;
    else
        return apr_psprintf(p, "the public port in '%s' must be 80 (http) or 443 (https)", map);
    return NULL;
}

static const char *set_port_map(void *slot, const md_directive_t *d, apr_pool_t *p)
{
    md_conf_t *conf = slot, mapped = *conf;
    const char *wrong = NULL;
    int i;

    for (i = 0; i < d->argc && !wrong; ++i)
        wrong = parse_map(&mapped, d->argv[i], p);
    if (!wrong)
        *conf = mapped;
    return wrong;
}

/* ---- the table ---- */

enum {
    NOT_MD = MD_PLACE_SERVER | MD_PLACE_VHOST,
    MD_ONLY = MD_PLACE_MDOMAIN,
    ANY = NOT_MD | MD_ONLY
};

/* Whose value it is: of the place (in a vhost it plays no role), of the place or vhost, of
 * the process, or of the process unless in a section. */
typedef enum { OF_PLACE, OF_PLACE_OR_VHOST, OF_PROCESS, OF_SECTION_OR_PROCESS } scope_t;

/* The words it takes: fewest and most, -1 for any number. */
#define ONE 1, 1
#define ONE_OR_TWO 1, 2
#define ONE_TO_THREE 1, 3
#define TWO 2, 2
#define SOME 1, -1
#define LIST 0, -1
#define LINE 0, -1 /* one: the rest of the line */

/* How a value is copied when settings are merged, and what tells that it is unset. */
typedef enum { IS_POINTER, IS_INT, IS_TIME, IS_WINDOW, IS_SEVERAL } kind_t;

#define AT(kind, member) kind, offsetof(md_conf_t, member)
#define AT_VALUES IS_SEVERAL, 0 /* rows without name below */
static const struct setting_t {
    const char *name;
    int places;
    scope_t scope;
    int min_args, max_args;
    setter_fn *set;
    kind_t kind;
    size_t offset;
} SETTINGS[] = {
    { "MDAccountKey", NOT_MD, OF_PROCESS, ONE, set_account_key, AT(IS_POINTER, account_key) },
    { "MDActivation", ANY, OF_PLACE, ONE, set_activation, AT(IS_INT, activation) },
    { "MDActivationDelay", NOT_MD, OF_PROCESS, ONE, set_activation_delay,
      AT(IS_TIME, activation_delay) },
    { "MDArchiveKeep", NOT_MD, OF_PROCESS, ONE, set_archive_keep, AT(IS_INT, archive_keep) },
    { "MDBaseServer", NOT_MD, OF_PROCESS, ONE, set_flag, AT(IS_INT, base_server) },
    { "MDCACertificateFile", ANY, OF_SECTION_OR_PROCESS, ONE, set_path_or_none,
      AT(IS_POINTER, ca_file) },
    { "MDCAChallenges", ANY, OF_PLACE, LIST, set_challenges, AT(IS_POINTER, challenges) },
    { "MDCertificateAgreement", ANY, OF_PLACE, ONE, set_agreement, AT(IS_POINTER, ca_agreement) },
    { "MDCertificateAuthority", ANY, OF_PLACE, SOME, set_cas, AT(IS_POINTER, ca_urls) },
    { "MDCertificateCheck", ANY, OF_PROCESS, TWO, set_words, AT(IS_POINTER, cert_check) },
    { "MDCertificateFile", MD_ONLY, OF_PLACE, ONE, add_path, AT(IS_POINTER, cert_files) },
    { "MDCertificateKeyFile", MD_ONLY, OF_PLACE, ONE, add_path, AT(IS_POINTER, pkey_files) },
    { "MDCertificateMonitor", ANY, OF_PROCESS, TWO, set_words, AT(IS_POINTER, cert_check) },
    { "MDCertificateProtocol", ANY, OF_PLACE, ONE, set_string, AT(IS_POINTER, ca_proto) },
    { "MDCertificateStatus", ANY, OF_PROCESS, ONE, set_flag, AT(IS_INT, cert_status) },
    { "MDChallengeDns01", ANY, OF_SECTION_OR_PROCESS, LINE, set_command,
      AT(IS_POINTER, cmd_dns_01) },
    { "MDChallengeDns01Check", ANY, OF_SECTION_OR_PROCESS, ONE, set_dns_01_check,
      AT(IS_TIME, dns_01_check) },
    { "MDChallengeDns01Version", NOT_MD, OF_PROCESS, ONE, set_dns_01_version,
      AT(IS_INT, dns_01_version) },
    { "MDCheckInterval", NOT_MD, OF_PROCESS, ONE, set_check_interval,
      AT(IS_TIME, check_interval) },
    { "MDCheckPorts", NOT_MD, OF_PROCESS, SOME, set_check_ports, AT_VALUES },
    { "MDContactEmail", ANY, OF_PLACE_OR_VHOST, ONE, set_string, AT(IS_POINTER, contact) },
    { "MDDnsResolver", NOT_MD, OF_PROCESS, SOME, set_resolvers, AT(IS_POINTER, dns_resolvers) },
    { "MDDriveMode", ANY, OF_PLACE, ONE, set_renew_mode, AT(IS_INT, renew_mode) },
    { "MDEventLog", NOT_MD, OF_PROCESS, ONE, set_path_or_off, AT(IS_POINTER, event_log) },
    { "MDExternalAccountBinding", ANY, OF_PLACE, ONE_TO_THREE, set_eab, AT(IS_POINTER, eab) },
    { "MDHttpProxy", ANY, OF_SECTION_OR_PROCESS, ONE, set_http_url, AT(IS_POINTER, proxy_url) },
    { "MDHttpProxyCACertificateFile", ANY, OF_SECTION_OR_PROCESS, ONE, set_path_or_none,
      AT(IS_POINTER, proxy_ca_file) },
    { "MDInitialDelay", NOT_MD, OF_PROCESS, ONE, set_initial_delay, AT(IS_TIME, initial_delay) },
    { "MDLiveCache", NOT_MD, OF_PROCESS, ONE, set_live_cache, AT(IS_INT, live_cache) },
    { "MDMatchNames", NOT_MD, OF_PROCESS, ONE, set_match_names, AT(IS_INT, match_names) },
    { "MDMember", MD_ONLY, OF_PLACE, LIST, set_members, AT_VALUES },
    { "MDMember", NOT_MD, OF_PLACE, LIST, set_member_mode, AT_VALUES },
    { "MDMembers", MD_ONLY, OF_PLACE, LIST, set_members, AT_VALUES },
    { "MDMembers", NOT_MD, OF_PLACE, LIST, set_member_mode, AT_VALUES },
    { "MDMessageCmd", NOT_MD, OF_PROCESS, LINE, set_command, AT(IS_POINTER, message_cmd) },
    { "MDMustStaple", ANY, OF_PLACE, ONE, set_flag, AT(IS_INT, must_staple) },
    { "MDNotifyCmd", NOT_MD, OF_PROCESS, LINE, set_command, AT(IS_POINTER, notify_cmd) },
    { "MDPortMap", NOT_MD, OF_PROCESS, ONE_OR_TWO, set_port_map, AT_VALUES },
    { "MDPreferredChain", ANY, OF_PLACE, ONE, set_string_or_none,
      AT(IS_POINTER, preferred_chain) },
    { "MDPreflight", NOT_MD, OF_PROCESS, ONE, set_preflight, AT(IS_INT, preflight) },
    { "MDPrivateKeys", ANY, OF_PLACE, LIST, set_key_specs, AT(IS_POINTER, key_specs) },
    { "MDProfile", ANY, OF_PLACE, ONE, set_string, AT(IS_POINTER, profile) },
    { "MDProfileMandatory", ANY, OF_PLACE, ONE, set_flag, AT(IS_INT, profile_mandatory) },
    { "MDRenewConcurrency", NOT_MD, OF_PROCESS, ONE, set_concurrency,
      AT(IS_INT, renew_concurrency) },
    { "MDRenewMode", ANY, OF_PLACE, ONE, set_renew_mode, AT(IS_INT, renew_mode) },
    { "MDRenewViaARI", ANY, OF_PLACE, ONE, set_flag, AT(IS_INT, renew_via_ari) },
    { "MDRenewWindow", ANY, OF_PLACE, ONE, set_window, AT(IS_WINDOW, renew_window) },
    { "MDRequireHttps", ANY, OF_PLACE, ONE, set_require_https, AT(IS_POINTER, require_https) },
    { "MDRetryDelay", NOT_MD, OF_PROCESS, ONE, set_retry_delay, AT(IS_TIME, retry_delay) },
    { "MDRetryFailover", NOT_MD, OF_PROCESS, ONE, set_retry_failover, AT(IS_INT, retry_failover) },
    { "MDServerStatus", ANY, OF_PROCESS, ONE, set_flag, AT(IS_INT, server_status) },
    { "MDStapleOthers", ANY, OF_PLACE_OR_VHOST, ONE, set_flag, AT(IS_INT, staple_others) },
    { "MDStapling", ANY, OF_PLACE_OR_VHOST, ONE, set_flag, AT(IS_INT, stapling) },
    { "MDStaplingKeepResponse", ANY, OF_PROCESS, ONE, set_long_window,
      AT(IS_WINDOW, staple_keep) },
    { "MDStaplingRenewWindow", ANY, OF_PROCESS, ONE, set_window,
      AT(IS_WINDOW, staple_renew_window) },
    { "MDStoreDir", NOT_MD, OF_PROCESS, ONE, set_string, AT(IS_POINTER, store_dir) },
    { "MDStoreLocks", NOT_MD, OF_PROCESS, ONE, set_store_locks, AT(IS_TIME, store_locks) },
    { "MDWarnWindow", ANY, OF_PLACE, ONE, set_window, AT(IS_WINDOW, warn_window) },

    { .kind = IS_POINTER, .offset = offsetof(md_conf_t, members) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, transitive) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, port_http) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, port_https) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, check_http) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, check_https) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, check_dns) },
};
#define SETTING_COUNT (sizeof(SETTINGS) / sizeof(SETTINGS[0]))

/* ---- records ---- */

md_conf_t *md_conf_make(apr_pool_t *p)
{
    md_conf_t *conf = apr_pcalloc(p, sizeof(*conf));
    size_t i;

    for (i = 0; i < SETTING_COUNT; ++i) {
        void *slot = (char *)conf + SETTINGS[i].offset;

        if (SETTINGS[i].kind == IS_INT)
            *(int *)slot = -1;
        else if (SETTINGS[i].kind == IS_TIME)
            *(apr_interval_time_t *)slot = -1;
        else if (SETTINGS[i].kind == IS_WINDOW) {
            ((md_window_spec_t *)slot)->percent = -1;
            ((md_window_spec_t *)slot)->length = -1;
        }
    }
    return conf;
}

static void merge_value(void *slot, const void *add, kind_t kind)
{
    switch (kind) {
    case IS_POINTER:
        if (*(void *const *)add)
            *(void **)slot = *(void *const *)add;
        break;
    case IS_INT:
        if (*(const int *)add != -1)
            *(int *)slot = *(const int *)add;
        break;
    case IS_TIME:
        if (*(const apr_interval_time_t *)add != -1)
            *(apr_interval_time_t *)slot = *(const apr_interval_time_t *)add;
        break;
    case IS_WINDOW:
        if (md_window_spec_is_set(add))
            *(md_window_spec_t *)slot = *(const md_window_spec_t *)add;
        break;
    case IS_SEVERAL:
        break;
    }
}

md_conf_t *md_conf_merge(const md_conf_t *base, const md_conf_t *add, apr_pool_t *p)
{
    md_conf_t *conf = apr_pmemdup(p, base, sizeof(*base));
    size_t i;

    for (i = 0; i < SETTING_COUNT; ++i)
        merge_value((char *)conf + SETTINGS[i].offset, (const char *)add + SETTINGS[i].offset,
                    SETTINGS[i].kind);
    return conf;
}

/* ---- directives ---- */

static const char *count_problem(const struct setting_t *setting, const md_directive_t *d,
                                 apr_pool_t *p)
{
    int min = setting->min_args, max = setting->max_args;

    if (max == 1 && (d->argc != 1 || !*d->argv[0]))
        return apr_psprintf(p, "%s takes one argument", setting->name);
    if (d->argc < min && max < 0)
        return apr_psprintf(p, "%s takes one argument, or more", setting->name);
    if (min == max && d->argc != min)
        return apr_psprintf(p, "%s takes %d arguments", setting->name, min);
    if (d->argc < min || (max >= 0 && d->argc > max))
        return apr_psprintf(p, "%s takes %d-%d arguments", setting->name, min, max);
    return NULL;
}

/* The row for this place; if there is none, one for other places; NULL for unknown names. */
static const struct setting_t *setting_of(const char *name, md_place_t place)
{
    const struct setting_t *found = NULL;
    size_t i;

    for (i = 0; i < SETTING_COUNT; ++i) {
        if (!SETTINGS[i].name || strcasecmp(SETTINGS[i].name, name))
            continue;
        found = &SETTINGS[i];
        if (found->places & place)
            return found;
    }
    return found;
}

const char *md_config_set(md_conf_t *conf, md_conf_t *main_conf, const md_directive_t *d,
                          apr_pool_t *p)
{
    const struct setting_t *setting = setting_of(d->name, d->place);
    const char *wrong;

    if (!setting)
        return apr_psprintf(p, "%s is not known", d->name);
    if (!(setting->places & d->place))
        return apr_psprintf(p, "%s is %s inside an '<MDomain>' section", setting->name,
                            setting->places == MD_ONLY ? "only allowed" : "not allowed");
    wrong = count_problem(setting, d, p);
    if (wrong)
        return wrong;
    if (setting->scope == OF_PROCESS
        || (setting->scope == OF_SECTION_OR_PROCESS && d->place != MD_PLACE_MDOMAIN))
        conf = main_conf;
    wrong = setting->set((char *)conf + setting->offset, d, p);
    return wrong ? apr_psprintf(p, "%s %s", setting->name, wrong) : NULL;
}

int md_config_is_ignored(const char *name, md_place_t place)
{
    const struct setting_t *setting = setting_of(name, place);

    return place == MD_PLACE_VHOST && setting && setting->scope == OF_PLACE;
}

const char *md_config_define(md_domain_t **pdomain, int argc, const char *const *argv,
                             apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p);
    md_conf_t *conf = md_conf_make(p);
    const char *wrong = parse_names(names, &conf->transitive, argc, argv, p);

    if (wrong)
        return wrong;
    if (names->nelts == 0)
        return "must specify a (unique) domain name";
    names = md_names_normalise(names, p);
    if (!md_path_part_is_safe(APR_ARRAY_IDX(names, 0, const char *)))
        return apr_psprintf(p, "'%s' cannot name a managed domain: it must be usable as the name "
                            "of a directory in the store",
                            md_text_printable(APR_ARRAY_IDX(names, 0, const char *), p));
    *pdomain = md_domain_make(APR_ARRAY_IDX(names, 0, const char *), p);
    (*pdomain)->names = names;
    (*pdomain)->conf = conf;
    return NULL;
}

/* ---- completion ---- */

static apr_array_header_t *only(const char *s, apr_pool_t *p)
{
    apr_array_header_t *list = md_strings_make(p);

    APR_ARRAY_PUSH(list, const char *) = s;
    return list;
}

/* `none` is no value. */
static const char *unless_none(const char *value)
{
    return value && strcmp(value, "none") ? value : NULL;
}

static void complete_ca(md_domain_t *domain, const md_conf_t *conf, apr_pool_t *p)
{
    domain->ca_proto = conf->ca_proto;
    domain->ca_urls = conf->ca_urls ? conf->ca_urls : only(MD_DEFAULT_CA_URL, p);
    domain->ca_agreement = conf->ca_agreement;
    domain->ca_challenges = conf->challenges && conf->challenges->nelts > 0 ? conf->challenges
                                                                            : NULL;
    if (conf->eab) {
        domain->eab_kid = conf->eab->kid;
        domain->eab_hmac = conf->eab->hmac;
        domain->eab_alg = conf->eab->alg;
    }
    domain->profile = conf->profile;
    domain->profile_mandatory = conf->profile_mandatory;
    domain->ari_renewals = conf->renew_via_ari;
    domain->preferred_chain = unless_none(conf->preferred_chain);
}

/* The section's own file; its `none` only where it cancels something. */
static const char *own_file(const char *own, const char *of_main)
{
    return unless_none(own) || unless_none(of_main) ? own : NULL;
}

/* What only a section has. */
static void complete_private(md_domain_t *domain, const md_conf_t *own, const md_conf_t *main_conf)
{
    domain->cmd_dns_01 = own->cmd_dns_01;
    domain->proxy_url = own->proxy_url;
    domain->ca_certs = own_file(own->ca_file, main_conf->ca_file);
    domain->proxy_ca_certs = own_file(own->proxy_ca_file, main_conf->proxy_ca_file);
    domain->cert_files = own->cert_files;
    domain->pkey_files = own->pkey_files;
}

void md_config_complete(md_domain_t *domain, const md_conf_t *main_conf, apr_pool_t *p)
{
    const md_conf_t *own = domain->conf;
    md_conf_t *conf = md_conf_merge(md_conf_merge(&md_conf_defaults, main_conf, p), own, p);

    if (own->members)
        domain->names = md_names_normalise(apr_array_append(p, domain->names, own->members), p);
    if (conf->contact)
        domain->contacts = only(md_contact_uri(conf->contact, p), p);
    domain->transitive = conf->transitive;
    complete_ca(domain, conf, p);
    complete_private(domain, own, main_conf);
    if (conf->key_specs)
        domain->key_specs = conf->key_specs;
    domain->renew_mode = conf->renew_mode;
    if (domain->cert_files && domain->renew_mode == MD_RENEW_AUTO)
        domain->renew_mode = MD_RENEW_MANUAL; /* somebody else cares for these files */
    domain->renew_window = conf->renew_window;
    domain->warn_window = conf->warn_window;
    domain->require_https = strcmp(conf->require_https, "off") ? conf->require_https : NULL;
    domain->must_staple = conf->must_staple;
    domain->stapling = conf->stapling;
    domain->activates_live = conf->activation == MD_ACTIVATE_LIVE && !domain->cert_files;
}

void md_config_complete_windows(md_domain_t *domain, const md_conf_t *main_conf)
{
    if (!md_window_spec_is_set(&domain->renew_window))
        domain->renew_window = main_conf->renew_window;
    if (!md_window_spec_is_set(&domain->warn_window))
        domain->warn_window = main_conf->warn_window;
}

/* The first that says something. */
static const char *choose(const char *a, const char *b, const char *c)
{
    return a ? a : b ? b : c;
}

/* A domain that comes from the store alone has no section: what a tool was told beats what was
 * private to it there, and that what a server noted. */
static md_route_t route_of_stored(const md_domain_t *domain, const md_conf_t *told,
                                  const md_route_t *noted)
{
    md_route_t route;

    route.ca_file = choose(told->ca_file, domain->ca_certs, noted->ca_file);
    route.proxy_url = choose(told->proxy_url, domain->proxy_url, noted->proxy_url);
    route.proxy_ca_file = choose(told->proxy_ca_file, domain->proxy_ca_certs,
                                 noted->proxy_ca_file);
    return route;
}

static md_route_t route_of_configured(const md_conf_t *own, const md_conf_t *main_conf)
{
    md_route_t route;

    route.ca_file = choose(own->ca_file, main_conf->ca_file, NULL);
    route.proxy_url = choose(own->proxy_url, main_conf->proxy_url, NULL);
    route.proxy_ca_file = choose(own->proxy_ca_file, main_conf->proxy_ca_file, NULL);
    return route;
}

md_route_t md_config_route(const md_domain_t *domain, const md_conf_t *main_conf,
                           const md_route_t *noted)
{
    md_route_t route = !domain ? route_of_configured(main_conf, main_conf)
                       : domain->conf ? route_of_configured(domain->conf, main_conf)
                                      : route_of_stored(domain, main_conf, noted);

    route.ca_file = unless_none(route.ca_file);
    route.proxy_ca_file = unless_none(route.proxy_ca_file);
    return route;
}
