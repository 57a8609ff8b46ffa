/* SPDX-License-Identifier: Apache-2.0 */
/* The settings table. */
#include "md_config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_text.h"

#define SECONDS(n) ((apr_interval_time_t)(n) * APR_USEC_PER_SEC)

static const md_window_spec_t WARN_WINDOW = { 0, 10 };

const md_conf_t md_conf_defaults = {
    .renew_mode = MD_RENEW_AUTO,
    .renew_window = { 0, 33 },
    .transitive = 1,
    .port_http = 80,
    .port_https = 443,
    .store_dir = "md",
    .check_interval = SECONDS(12 * 3600),
    .initial_delay = 0,
    .retry_delay = SECONDS(30),
    .renew_concurrency = 32,
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

/* ---- how words become values ---- */

/* The words behind a directive's name, and where the value goes. NULL or what is wrong. */
typedef const char *setter_fn(void *slot, int argc, const char *const *argv, apr_pool_t *p);

static const char *set_string(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    (void)argc;
    *(const char **)slot = apr_pstrdup(p, argv[0]);
    return NULL;
}

/* `none` is a value, so that a section can cancel what the server has. */
static const char *set_path_or_none(void *slot, int argc, const char *const *argv,
                                    apr_pool_t *p)
{
    (void)argc;
    *(const char **)slot = strcasecmp(argv[0], "none") ? apr_pstrdup(p, argv[0]) : "none";
    return NULL;
}

static const char *parse_duration(void *slot, const char *word, apr_interval_time_t min,
                                  const char *limit, apr_pool_t *p)
{
    if (md_duration_parse(slot, word, "s") != APR_SUCCESS)
        return apr_psprintf(p, "has unrecognized duration format: '%s'", word);
    if (*(apr_interval_time_t *)slot < min)
        return apr_psprintf(p, "must %s: '%s'", limit, word);
    return NULL;
}

static const char *set_check_interval(void *slot, int argc, const char *const *argv,
                                      apr_pool_t *p)
{
    (void)argc;
    return parse_duration(slot, argv[0], SECONDS(1), "not be less than a second", p);
}

static const char *set_initial_delay(void *slot, int argc, const char *const *argv,
                                     apr_pool_t *p)
{
    (void)argc;
    return parse_duration(slot, argv[0], 0, "not be negative", p);
}

static const char *set_retry_delay(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    (void)argc;
    return parse_duration(slot, argv[0], apr_time_from_msec(1), "be greater than 0", p);
}

static const char *set_window(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    (void)argc;
    return md_window_spec_parse(slot, argv[0], p);
}

static const char *set_renew_mode(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    static const struct { const char *word; int mode; } MODES[] = {
        { "auto", MD_RENEW_AUTO }, { "automatic", MD_RENEW_AUTO },
        { "always", MD_RENEW_ALWAYS },
        { "manual", MD_RENEW_MANUAL }, { "stick", MD_RENEW_MANUAL },
    };
    size_t i;

    (void)argc;
    for (i = 0; i < sizeof(MODES) / sizeof(MODES[0]); ++i) {
        if (!strcasecmp(MODES[i].word, argv[0])) {
            *(int *)slot = MODES[i].mode;
            return NULL;
        }
    }
    return apr_psprintf(p, "unknown renew mode '%s', it is auto, always or manual", argv[0]);
}

/* Digits only: no sign, no blanks, nothing behind. */
static int parse_number(int *pn, const char *text, int min, int max)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 9 || text[len])
        return 0;
    *pn = atoi(text);
    return *pn >= min && *pn <= max;
}

static const char *set_concurrency(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    (void)argc;
    if (!parse_number(slot, argv[0], 1, 1000))
        return apr_psprintf(p, "takes a number from 1 to 1000, not '%s'", argv[0]);
    return NULL;
}

static const char *set_key_specs(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    int i;

    for (i = 0; i < argc; ++i)
        if (!*argv[i])
            return "needs to specify the private key type, not ''";
    return md_key_specs_parse(slot, argc, argv, p);
}

/* Lower case, as they are compared with what the CA offers; unknown ones are never usable. */
static const char *set_challenges(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    apr_array_header_t *words = md_strings_make(p);
    int i;

    for (i = 0; i < argc; ++i)
        APR_ARRAY_PUSH(words, const char *) = argv[i];
    *(apr_array_header_t **)slot = md_names_normalise(words, p);
    return NULL;
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

static const char *set_cas(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    apr_array_header_t *urls = md_strings_make(p);
    const char *url, *wrong;
    int i;

    for (i = 0; i < argc; ++i) {
        url = ca_url(argv[i]);
        wrong = url ? NULL : md_uri_check(argv[i], p);
        if (wrong)
            return unknown_ca(argv[i], wrong, p);
        APR_ARRAY_PUSH(urls, const char *) = url ? url : apr_pstrdup(p, argv[i]);
    }
    *(apr_array_header_t **)slot = urls;
    return NULL;
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

/* In a section: names and modes. Several values, as with those below: `slot` is the md_conf_t. */
static const char *set_members(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    md_conf_t *conf = slot;
    int i;

    if (!conf->members)
        conf->members = md_strings_make(p);
    for (i = 0; i < argc; ++i)
        if (*argv[i] && parse_mode(&conf->transitive, argv[i]))
            APR_ARRAY_PUSH(conf->members, const char *) = apr_pstrdup(p, argv[i]);
    return NULL;
}

/* Outside: the mode alone. */
static const char *set_member_mode(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    md_conf_t *conf = slot;

    if (argc != 1)
        return "is only allowed inside an '<MDomain>' section, or with the one word 'auto' or "
               "'manual'";
    if (parse_mode(&conf->transitive, argv[0]))
        return apr_psprintf(p, "takes 'auto' or 'manual' outside of sections, not '%s'", argv[0]);
    return NULL;
}

static const char *parse_map(md_conf_t *conf, const char *map, apr_pool_t *p)
{
    const char *colon = strchr(map, ':'), *public_port;
    int local = 0;

    if (!colon)
        return apr_psprintf(p, "no ':' in '%s', use <public>:<local>", map);
    public_port = apr_pstrmemdup(p, map, (apr_size_t)(colon - map));
    if (strcmp(colon + 1, "-") && !parse_number(&local, colon + 1, 1, 65535))
        return apr_psprintf(p, "unable to parse the local port in '%s', it is 1 to 65535 or '-'",
                            map);
    if (!strcmp(public_port, "80") || !strcmp(public_port, "http"))
        conf->port_http = local;
    else if (!strcmp(public_port, "443") || !strcmp(public_port, "https"))
        conf->port_https = local;
    else
        return apr_psprintf(p, "the public port in '%s' must be 80 (http) or 443 (https)", map);
    return NULL;
}

static const char *set_port_map(void *slot, int argc, const char *const *argv, apr_pool_t *p)
{
    const char *wrong = NULL;
    int i;

    for (i = 0; i < argc && !wrong; ++i)
        wrong = parse_map(slot, argv[i], p);
    return wrong;
}

/* ---- the table ---- */

enum {
    NOT_MD = MD_PLACE_SERVER | MD_PLACE_VHOST,
    MD_ONLY = MD_PLACE_MDOMAIN,
    ANY = NOT_MD | MD_ONLY
};

/* Whose value it is: that of the place, of the process, or of the process unless in a section. */
typedef enum { OF_PLACE, OF_PROCESS, OF_SECTION_OR_PROCESS } scope_t;

/* The words it takes: fewest and most, -1 for any number. */
#define ONE 1, 1
#define ONE_OR_TWO 1, 2
#define SOME 1, -1
#define LIST 0, -1

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
    { "MDCACertificateFile", ANY, OF_SECTION_OR_PROCESS, ONE, set_path_or_none,
      AT(IS_POINTER, ca_file) },
    { "MDCAChallenges", ANY, OF_PLACE, LIST, set_challenges, AT(IS_POINTER, challenges) },
    { "MDCertificateAgreement", ANY, OF_PLACE, ONE, set_string, AT(IS_POINTER, ca_agreement) },
    { "MDCertificateAuthority", ANY, OF_PLACE, SOME, set_cas, AT(IS_POINTER, ca_urls) },
    { "MDCheckInterval", NOT_MD, OF_PROCESS, ONE, set_check_interval,
      AT(IS_TIME, check_interval) },
    { "MDContactEmail", ANY, OF_PLACE, ONE, set_string, AT(IS_POINTER, contact) },
    { "MDDriveMode", ANY, OF_PLACE, ONE, set_renew_mode, AT(IS_INT, renew_mode) },
    { "MDInitialDelay", NOT_MD, OF_PROCESS, ONE, set_initial_delay, AT(IS_TIME, initial_delay) },
    { "MDMember", MD_ONLY, OF_PLACE, LIST, set_members, AT_VALUES },
    { "MDMember", NOT_MD, OF_PLACE, LIST, set_member_mode, AT_VALUES },
    { "MDMembers", MD_ONLY, OF_PLACE, LIST, set_members, AT_VALUES },
    { "MDMembers", NOT_MD, OF_PLACE, LIST, set_member_mode, AT_VALUES },
    { "MDPortMap", NOT_MD, OF_PROCESS, ONE_OR_TWO, set_port_map, AT_VALUES },
    { "MDPrivateKeys", ANY, OF_PLACE, LIST, set_key_specs, AT(IS_POINTER, key_specs) },
    { "MDRenewConcurrency", NOT_MD, OF_PROCESS, ONE, set_concurrency,
      AT(IS_INT, renew_concurrency) },
    { "MDRenewMode", ANY, OF_PLACE, ONE, set_renew_mode, AT(IS_INT, renew_mode) },
    { "MDRenewWindow", ANY, OF_PLACE, ONE, set_window, AT(IS_WINDOW, renew_window) },
    { "MDRetryDelay", NOT_MD, OF_PROCESS, ONE, set_retry_delay, AT(IS_TIME, retry_delay) },
    { "MDStoreDir", NOT_MD, OF_PROCESS, ONE, set_string, AT(IS_POINTER, store_dir) },

    { .kind = IS_POINTER, .offset = offsetof(md_conf_t, members) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, transitive) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, port_http) },
    { .kind = IS_INT, .offset = offsetof(md_conf_t, port_https) },
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

static int window_is_set(const md_window_spec_t *window)
{
    return window->percent >= 0 || window->length >= 0;
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
        if (window_is_set(add))
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

static const char *count_problem(const struct setting_t *setting, int argc,
                                 const char *const *argv, apr_pool_t *p)
{
    if (setting->max_args == 1 && (argc != 1 || !*argv[0]))
        return apr_psprintf(p, "%s takes one argument", setting->name);
    if (argc < setting->min_args && setting->max_args < 0)
        return apr_psprintf(p, "%s takes one argument, or more", setting->name);
    if (argc < setting->min_args || (setting->max_args >= 0 && argc > setting->max_args))
        return apr_psprintf(p, "%s takes %d-%d arguments", setting->name, setting->min_args,
                            setting->max_args);
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

const char *md_config_set(md_conf_t *conf, md_conf_t *main_conf, md_place_t place,
                          const char *name, int argc, const char *const *argv, apr_pool_t *p)
{
    const struct setting_t *setting = setting_of(name, place);
    const char *wrong;

    if (!setting)
        return apr_psprintf(p, "%s is not known", name);
    if (!(setting->places & place))
        return apr_psprintf(p, "%s is %s inside an '<MDomain>' section", setting->name,
                            setting->places == MD_ONLY ? "only allowed" : "not allowed");
    wrong = count_problem(setting, argc, argv, p);
    if (wrong)
        return wrong;
    if (setting->scope == OF_PROCESS
        || (setting->scope == OF_SECTION_OR_PROCESS && place != MD_PLACE_MDOMAIN))
        conf = main_conf;
    wrong = setting->set((char *)conf + setting->offset, argc, argv, p);
    return wrong ? apr_psprintf(p, "%s %s", setting->name, wrong) : NULL;
}

const char *md_config_define(md_domain_t **pdomain, int argc, const char *const *argv,
                             apr_pool_t *p)
{
    apr_array_header_t *names = md_strings_make(p);
    md_conf_t *conf = md_conf_make(p);
    int i;

    for (i = 0; i < argc; ++i)
        if (*argv[i] && parse_mode(&conf->transitive, argv[i]))
            APR_ARRAY_PUSH(names, const char *) = argv[i];
    if (names->nelts == 0)
        return "must specify a (unique) domain name";
    names = md_names_normalise(names, p);
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

void md_config_complete(md_domain_t *domain, const md_conf_t *main_conf, apr_pool_t *p)
{
    const md_conf_t *own = domain->conf;
    md_conf_t *conf = md_conf_merge(md_conf_merge(&md_conf_defaults, main_conf, p), own, p);

    if (own->members)
        domain->names = md_names_normalise(apr_array_append(p, domain->names, own->members), p);
    if (conf->contact)
        domain->contacts = only(md_contact_uri(conf->contact, p), p);
    domain->transitive = conf->transitive;
    domain->ca_proto = "ACME";
    domain->ca_urls = conf->ca_urls ? conf->ca_urls : only(MD_DEFAULT_CA_URL, p);
    domain->ca_agreement = conf->ca_agreement;
    domain->ca_challenges = conf->challenges && conf->challenges->nelts > 0 ? conf->challenges
                                                                            : NULL;
    if (conf->key_specs)
        domain->key_specs = conf->key_specs;
    domain->renew_mode = conf->renew_mode;
    domain->renew_window = conf->renew_window;
    domain->warn_window = WARN_WINDOW;
    domain->ca_certs = own->ca_file && strcmp(own->ca_file, "none") ? own->ca_file : NULL;
    domain->ari_renewals = 1;
}

const char *md_config_ca_file(const md_domain_t *domain, const md_conf_t *main_conf)
{
    const char *file = domain->conf && domain->conf->ca_file ? domain->conf->ca_file
                                                             : main_conf->ca_file;

    return file && strcmp(file, "none") ? file : NULL;
}
