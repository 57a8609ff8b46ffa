/* SPDX-License-Identifier: Apache-2.0 */
/* Directives: httpd hands over words, md_config_set knows what they mean. */
#include "mod_md.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

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
    md_server_t *server = mod_md_server(cmd->server);
    md_place_t place = cmd->server->is_virtual ? MD_PLACE_VHOST : MD_PLACE_SERVER;
    md_conf_t *conf = server->conf;

    (void)dir_conf;
    if (server->section && is_in_section(cmd)) {
        place = MD_PLACE_MDOMAIN;
        conf = server->section->conf;
    }
    return md_config_set(conf, mod_md_process()->conf, place, cmd->cmd->name, argc,
                         (const char *const *)argv, cmd->pool);
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
        return apr_psprintf(cmd->pool, "%s %s", cmd->cmd->name, wrong);
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
    server->section = domain;
    wrong = ap_walk_config(cmd->directive->first_child, cmd, cmd->context);
    server->section = NULL;
    return wrong;
}

#define SETTING(name, help) AP_INIT_TAKE_ARGV(name, set_setting, NULL, RSRC_CONF, help)
#define NAMES(name, help) AP_INIT_RAW_ARGS(name, set_names, NULL, RSRC_CONF, help)

const command_rec mod_md_commands[] = {
    AP_INIT_RAW_ARGS("MDomain", set_mdomain, NULL, RSRC_CONF,
                     "A managed domain: its DNS names, and 'auto' or 'manual' for its members."),
    AP_INIT_RAW_ARGS("<MDomain", set_section, NULL, RSRC_CONF,
                     "A managed domain with settings of its own."),
    AP_INIT_RAW_ARGS("<MDomainSet", set_section, NULL, RSRC_CONF,
                     "A managed domain with settings of its own, long form."),
    NAMES("MDMember", "DNS names to add, or 'auto' or 'manual'."),
    NAMES("MDMembers", "DNS names to add, or 'auto' or 'manual'."),
    SETTING("MDCACertificateFile", "PEM file of trusted roots for the CA, or 'none'."),
    SETTING("MDCAChallenges", "Challenge types to use, in order of preference."),
    SETTING("MDCertificateAgreement", "'accepted' if you agree to the CA's terms of service."),
    SETTING("MDCertificateAuthority", "Name(s) of CAs or URL(s) of their directories."),
    SETTING("MDCheckInterval", "Time between regular checks, default 12h."),
    SETTING("MDContactEmail", "Mail address of the account at the CA."),
    SETTING("MDDriveMode", "Deprecated, use MDRenewMode."),
    SETTING("MDInitialDelay", "Wait before the first check, default 0."),
    SETTING("MDPortMap", "Local ports that 80 and 443 of the internet lead to."),
    SETTING("MDPrivateKeys", "Types of private keys, such as 'RSA 3072' and 'P-256'."),
    SETTING("MDRenewConcurrency", "Renewals in work at the same time, default 32."),
    SETTING("MDRenewMode", "'auto', 'always' or 'manual'."),
    SETTING("MDRenewWindow", "Renew when this much of the lifetime is left, such as 30d or 33%."),
    SETTING("MDRetryDelay", "Wait after the first failure, doubled for each further one."),
    SETTING("MDStoreDir", "Directory of the store, relative to ServerRoot."),
    AP_INIT_TAKE1(NULL, NULL, NULL, RSRC_CONF, NULL)
};
