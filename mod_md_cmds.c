/* SPDX-License-Identifier: Apache-2.0 */
/* Directives: httpd hands over words, md_config_set knows what they mean. */
#include "mod_md.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include <http_core.h>
#include <http_main.h>

/* Does the directive stand in an <MDomain> section, at any depth? */
static int is_in_section(const cmd_parms *cmd)
{
    const ap_directive_t *d;

    for (d = cmd->directive ? cmd->directive->parent : NULL; d; d = d->parent)
        if (!strcasecmp(d->directive, "<MDomain") || !strcasecmp(d->directive, "<MDomainSet"))
            return 1;
    return 0;
}

static const char *set_setting(cmd_parms *cmd, void *dir_conf, int argc, char *const argv[])
{
    /* MDRequireHttps may stand in <If>, whose condition is never asked; httpd knows no difference
     * between that and <Files>. */
    static const int NOT_IN = NOT_IN_HTACCESS | NOT_IN_LIMIT | NOT_IN_DIRECTORY | NOT_IN_LOCATION
                              | NOT_IN_PROXY;
    md_server_t *server = mod_md_server(cmd->server);
    md_directive_t directive = {
        .name = cmd->cmd->name,
        .place = cmd->server->is_virtual ? MD_PLACE_VHOST : MD_PLACE_SERVER,
        .argc = argc,
        .argv = (const char *const *)argv,
        .server_root = ap_server_root,
        .is_dump = ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_DUMP,
    };
    const char *wrong = ap_check_cmd_context(cmd, NOT_IN);
    md_conf_t *conf = server->conf;

    (void)dir_conf;
    if (wrong)
        return wrong;
    if (server->section && is_in_section(cmd)) {
        directive.place = MD_PLACE_MDOMAIN;
        conf = server->section->conf;
    }
    wrong = md_config_set(conf, mod_md_process()->conf, &directive, cmd->pool);
    if (!wrong && md_config_is_ignored(directive.name, directive.place))
        APR_ARRAY_PUSH(mod_md_process()->ignored, const ap_directive_t *) = cmd->directive;
    return wrong;
}

static const char *set_line(cmd_parms *cmd, void *dir_conf, const char *line)
{
    char *word = apr_pstrdup(cmd->pool, line);

    return set_setting(cmd, dir_conf, 1, &word);
}

/* Split as httpd does it. Its own AP_INIT_TAKE_ARGV silently drops what is behind the 64th word,
 * which is no way to treat a list of names. */
static apr_array_header_t *words_of(const char *line, apr_pool_t *p)
{
    apr_array_header_t *words = apr_array_make(p, 5, sizeof(char *));
    char *word;

    do {
        word = ap_getword_conf(p, &line);
        if (*word || *line)
            APR_ARRAY_PUSH(words, char *) = word;
    } while (*line);
    return words;
}

static const char *set_names(cmd_parms *cmd, void *dir_conf, const char *line)
{
    apr_array_header_t *words = words_of(line, cmd->pool);

    return set_setting(cmd, dir_conf, words->nelts, (char *const *)words->elts);
}

/* The domain that MDomain or the header of a section speaks of. */
static const char *define(md_domain_t **pdomain, const cmd_parms *cmd, const char *line)
{
    apr_array_header_t *words = words_of(line, cmd->pool);
    const char *wrong;

    if (is_in_section(cmd))
        return apr_psprintf(cmd->pool, "%s is not allowed inside an '<MDomain>' section",
                            cmd->cmd->name);
    wrong = md_config_define(pdomain, words->nelts, (const char *const *)words->elts, cmd->pool);
    if (wrong)
        return apr_psprintf(cmd->pool, "%s%s %s", cmd->cmd->name,
                            *cmd->cmd->name == '<' ? ">" : "", wrong);
    (*pdomain)->defined_at = apr_psprintf(cmd->pool, "%s:%d", cmd->directive->filename,
                                          cmd->directive->line_num);
    APR_ARRAY_PUSH(mod_md_process()->domains, md_domain_t *) = *pdomain;
    return NULL;
}

static const char *set_mdomain(cmd_parms *cmd, void *dir_conf, const char *line)
{
    md_domain_t *domain;

    (void)dir_conf;
    return define(&domain, cmd, line);
}

/* <IfModule> and its like are gone when a section is walked. Whatever container is left is about
 * hosts or requests; it would apply to more than the domain it seems to belong to. */
static const char *check_content(cmd_parms *cmd)
{
    const ap_directive_t *d;

    for (d = cmd->directive->first_child; d; d = d->next) {
        if (*d->directive != '<')
            continue;
        cmd->err_directive = d;
        return apr_psprintf(cmd->pool, "%s> is not allowed inside an '<MDomain>' section",
                            d->directive);
    }
    return NULL;
}

static const char *set_section(cmd_parms *cmd, void *dir_conf, const char *line)
{
    md_server_t *server = mod_md_server(cmd->server);
    const char *end = ap_strrchr_c(line, '>'), *wrong;
    md_domain_t *domain;

    (void)dir_conf;
    if (!end)
        return apr_psprintf(cmd->pool, "%s> directive missing closing '>'", cmd->cmd->name);
    wrong = define(&domain, cmd, apr_pstrmemdup(cmd->pool, line, (apr_size_t)(end - line)));
    if (wrong)
        return wrong;
    wrong = check_content(cmd);
    if (wrong)
        return wrong;
    server->section = domain;
    wrong = ap_walk_config(cmd->directive->first_child, cmd, cmd->context);
    server->section = NULL;
    return wrong;
}

#define SETTING(name, help) AP_INIT_TAKE_ARGV(name, set_setting, NULL, RSRC_CONF, help)
#define NAMES(name, help) AP_INIT_RAW_ARGS(name, set_names, NULL, RSRC_CONF, help)
#define LINE(name, help) AP_INIT_RAW_ARGS(name, set_line, NULL, RSRC_CONF, help)

const command_rec mod_md_commands[] = {
    AP_INIT_RAW_ARGS("MDomain", set_mdomain, NULL, RSRC_CONF,
                     "A managed domain: its DNS names, and 'auto' or 'manual' for its members."),
    AP_INIT_RAW_ARGS("<MDomain", set_section, NULL, RSRC_CONF,
                     "A managed domain with settings of its own."),
    AP_INIT_RAW_ARGS("<MDomainSet", set_section, NULL, RSRC_CONF,
                     "A managed domain with settings of its own, long form."),
    NAMES("MDMember", "DNS names to add, or 'auto' or 'manual'."),
    NAMES("MDMembers", "DNS names to add, or 'auto' or 'manual'."),
    SETTING("MDAccountKey", "Key of new accounts at a CA: 'p256' (default) or 'rsa3072'."),
    SETTING("MDActivation", "'live' to put new certificates into service without a restart, or "
            "'reload' (default)."),
    SETTING("MDActivationDelay", "Wait before a renewed certificate is announced, default 0."),
    SETTING("MDArchiveKeep", "Former sets of a domain to keep in the archive, default 10; 0: all."),
    SETTING("MDBaseServer", "'on' to match the main server with managed domains, too."),
    SETTING("MDCACertificateFile", "PEM file of trusted roots for the CA, or 'none'."),
    SETTING("MDCAChallenges", "Challenge types to use, in order of preference."),
    SETTING("MDCertificateAgreement", "'accepted', or the URL of the terms of service accepted."),
    SETTING("MDCertificateAuthority", "Name(s) of CAs or URL(s) of their directories."),
    SETTING("MDCertificateCheck", "Name and URL of a page that knows certificates by fingerprint."),
    SETTING("MDCertificateFile", "Certificate chain from elsewhere, to be served for the domain."),
    SETTING("MDCertificateKeyFile", "Private key of the MDCertificateFile."),
    SETTING("MDCertificateMonitor", "Same as MDCertificateCheck."),
    SETTING("MDCertificateProtocol", "Protocol of the CA: ACME."),
    SETTING("MDCertificateStatus", "'off' to hide the status of certificates from everybody."),
    LINE("MDChallengeDns01", "Command that sets up and tears down dns-01 challenges."),
    SETTING("MDChallengeDns01Check", "Wait for TXT records in the DNS: 'on', 'off' or how long."),
    SETTING("MDChallengeDns01Version", "'2' to hand the challenge to 'teardown', too."),
    SETTING("MDCheckInterval", "Time between regular checks, default 12h."),
    SETTING("MDCheckPorts", "Ports at which checks look, for a test CA that does so, too."),
    SETTING("MDContactEmail", "Mail address of the account at the CA."),
    SETTING("MDDnsResolver", "Resolvers that checks ask: address[:port], default the system's."),
    SETTING("MDDriveMode", "Deprecated, use MDRenewMode."),
    SETTING("MDEventLog", "File that gets a line of JSON for each event, or 'off'."),
    SETTING("MDExternalAccountBinding",
            "Key id, MAC key and its algorithm, a JSON file, or 'none'."),
    SETTING("MDHttpProxy", "URL of the proxy for outgoing connections."),
    SETTING("MDHttpProxyCACertificateFile", "PEM file of trusted roots for the proxy, or 'none'."),
    SETTING("MDInitialDelay", "Wait before the first check, default 0."),
    SETTING("MDLiveCache", "Domains whose live certificates a child keeps in memory, default "
            "10000."),
    SETTING("MDMatchNames", "'all' to match all names of a vhost, 'servernames' for its ServerName "
            "only."),
    LINE("MDMessageCmd", "Command to run for each event."),
    SETTING("MDMustStaple", "'on' to request certificates that require OCSP stapling."),
    LINE("MDNotifyCmd", "Command to run when a new certificate is ready."),
    SETTING("MDPortMap", "Local ports where connections to public ports 80 and 443 arrive."),
    SETTING("MDPreflight", "Check names before an order: 'on', 'off', or 'auto' after a failure."),
    SETTING("MDPrivateKeys", "Types of private keys, such as 'RSA 3072' and 'P-256'."),
    SETTING("MDPreferredChain", "Common name of the issuer or root of the chain to use."),
    SETTING("MDProfile", "Certificate profile to ask the CA for."),
    SETTING("MDProfileMandatory", "'on' to fail when the CA does not offer the profile."),
    SETTING("MDRenewConcurrency", "Exchanges with CAs at the same time, default 64."),
    SETTING("MDRenewMode", "'auto', 'always' or 'manual'."),
    SETTING("MDRenewViaARI", "'off' to ignore the CA's advice on when to renew."),
    SETTING("MDRenewWindow", "Renew when this much of the lifetime is left, such as 30d or 33%."),
    AP_INIT_TAKE_ARGV("MDRequireHttps", set_setting, NULL, RSRC_CONF | OR_AUTHCFG,
                      "'temporary' or 'permanent' redirection of http: to https:, or 'off'."),
    SETTING("MDRetryDelay", "Wait after the first failure, doubled for each further one."),
    SETTING("MDRetryFailover", "Failures before the next CA in the list is tried, default 13."),
    SETTING("MDServerStatus", "'on' to show managed domains in server-status."),
    SETTING("MDStapleOthers", "'off' to staple managed domains only."),
    SETTING("MDStapling", "'on' to staple OCSP responses."),
    SETTING("MDStaplingKeepResponse",
            "Age at which stored OCSP responses are removed, default 7d."),
    SETTING("MDStaplingRenewWindow",
            "Refresh OCSP responses when this much of their lifetime is left."),
    SETTING("MDStoreDir", "Directory of the store, relative to ServerRoot."),
    SETTING("MDStoreLocks", "'on', or how long to wait for servers that share the store."),
    SETTING("MDWarnWindow", "Warn when this much of the lifetime is left, such as 10d or 10%."),
    AP_INIT_TAKE1(NULL, NULL, NULL, RSRC_CONF, NULL)
};
