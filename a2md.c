/* SPDX-License-Identifier: Apache-2.0 */
/* The command line tool: options, log, output. */
#include "a2md.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "md_dns.h"
#include "md_log.h"
#include "md_text.h"

#define EXIT_USAGE 2 /* options that are none, and -h */
#define TRACE8     15

static const a2md_command_t COMMANDS[] = {
    { "add", "name [name...]", "add a managed domain with these DNS names, named after the first",
      "", 1, 1, 1, a2md_add },
    { "update", "name [domains name... | ca url [proto] | account [id] | contacts address... |\n"
      "    agreement [accepted|url]]", "change a managed domain; -a gives it another CA", "", 1, 1,
      0, a2md_update },
    { "list", "[name...]", "show all managed domains, or those with these names", "", 0, 0, 0,
      a2md_list },
    { "drive", "[name...]", "obtain certificates for these managed domains, or for all, and put "
      "them into service", "cfr", 0, 0, 0, a2md_drive },
    { "status", "[name...]", "show the state of all managed domains, or of those with these names, "
      "and what happens next", "", 0, 0, 0, a2md_status },
    { "renew", "name [name...]", "have the running server renew these managed domains now", "n",
      1, 0, 0, a2md_renew },
    { "check", "name [name...]", "have the running server query the CA and the OCSP responders "
      "about these managed domains now", "n", 1, 0, 0, a2md_check },
    { "acme newreg", "contact...", "register an account at the CA given with -a", "", 1, 0, 1,
      a2md_acme_newreg },
    { "acme validate", "id...", "ask the CA given with -a whether it knows these accounts", "",
      1, 0, 0, a2md_acme_validate },
    { "acme agree", "id...", "agree to the terms of service of the CA given with -a", "", 1, 0, 0,
      a2md_acme_agree },
    { "acme rollover", "id...", "give accounts a new key, at their CA and in the store", "",
      1, 1, 0, a2md_acme_rollover },
    { "acme delreg", "id...", "deactivate accounts at their CA and remove them", "", 1, 0, 0,
      a2md_acme_delreg },
    { "revoke", "name... | --key file certificate", "have the CA revoke the certificates of these "
      "managed domains, or the one in a file", "kR", 1, 0, 0, a2md_revoke },
    { "store add", "name...", "write a managed domain without any checks", "", 1, 1, 1,
      a2md_store_add },
    { "store list", "", "show all managed domains as stored", "", 0, 0, 0, a2md_store_list },
    { "store remove", "name...", "remove the documents of managed domains", "f", 1, 1, 0,
      a2md_store_remove },
    { "store update", "name [domains name...]", "change a managed domain without any checks", "",
      1, 1, 0, a2md_store_update },
    { NULL, NULL, NULL, NULL, 0, 0, 0, NULL }
};

static const apr_getopt_option_t MAIN_OPTIONS[] = {
    { "acme", 'a', 1, "URL of the CA's directory" },
    { "cafile", 'C', 1, "PEM file of trusted roots for the CA; 'none' uses those of the system" },
    { "dir", 'd', 1, "directory of the store, required; created by commands that add something" },
    { "help", 'h', 0, "show this text" },
    { "json", 'j', 0, "print the result as JSON" },
    { "proxy", 'p', 1, "URL of a proxy for outgoing connections" },
    { "quiet", 'q', 0, "log less" },
    { "terms", 't', 1, "terms of service that you agree to: their URL, or 'accepted'" },
    { "verbose", 'v', 0, "log more" },
    { "version", 'V', 0, "print the version" },
    { NULL, 0, 0, NULL }
};

static const apr_getopt_option_t COMMAND_OPTIONS[] = {
    { "challenge", 'c', 1, "use this challenge type only" },
    { "force", 'f', 0, "do it even if there is no need" },
    { "key", 'k', 1, "the file of the key that belongs to the certificate" },
    { "no-wait", 'n', 0, "do not wait for the outcome" },
    { "reset", 'r', 0, "discard what is staged and start over" },
    { "reason", 'R', 1, "why: keyCompromise, superseded, cessationOfOperation, ..." },
    { "help", 'h', 0, "show this text" },
    { NULL, 0, 0, NULL }
};

/* ---- log ---- */

static int log_level = MD_LOG_INFO; /* unless options change it */
static int is_quiet;                /* that much is of no interest now */

static int log_is_level(md_log_level_t level)
{
    return (int)level <= log_level && !(is_quiet && level == MD_LOG_INFO
                                        && log_level == MD_LOG_INFO);
}

static const char *level_name(int level)
{
    static const char *const NAMES[] = {
        "emergency", "alert", "crit", "err", "warning", "notice", "info", "debug", "trace1",
        "trace2", "trace3", "trace4", "trace5", "trace6", "trace7", "trace8"
    };

    return NAMES[level];
}

static void log_write(const char *file, int line, md_log_level_t level, const char *msg)
{
    if (log_level == MD_LOG_INFO)
        fprintf(stderr, "%s\n", msg);
    else
        fprintf(stderr, "[%s:%d %s]%s %s\n", file, line, level_name((int)level),
                level > MD_LOG_WARNING ? "[ok]" : "", msg);
}

/* ---- usage ---- */

static void print_options(const apr_getopt_option_t *options)
{
    for (; options->name; ++options)
        fprintf(stderr, "    -%c, --%s%s%s\n        %s\n", options->optch, options->name,
                options->has_arg ? " " : "", options->has_arg ? "arg" : "", options->description);
}

static int usage(const char *reason)
{
    const a2md_command_t *command;

    if (reason)
        fprintf(stderr, "%s\n", reason);
    fputs("usage: a2md [options] command [command options] [args]\n", stderr);
    print_options(MAIN_OPTIONS);
    fputs("commands, each with --help:\n", stderr);
    for (command = COMMANDS; command->name; ++command)
        fprintf(stderr, "    %s %s\n        %s\n", command->name, command->args, command->help);
    return reason ? EXIT_FAILURE : EXIT_USAGE;
}

static int command_usage(const a2md_command_t *command, const apr_getopt_option_t *options,
                         const char *reason)
{
    if (reason)
        fprintf(stderr, "%s: %s\n", command->name, reason);
    fprintf(stderr, "usage: a2md [options] %s [command options] %s\n    %s\n", command->name,
            command->args, command->help);
    print_options(options);
    return reason ? EXIT_FAILURE : EXIT_USAGE;
}

/* ---- output ---- */

void a2md_show(a2md_t *tool, md_json_t *json)
{
    const apr_array_header_t *names;
    int i;

    md_domain_mask(json, tool->p);
    if (tool->output) {
        md_json_append(tool->output, json);
        return;
    }
    names = md_json_get_strings(json, "domains", tool->p);
    printf("md: %s [", md_text_printable(md_json_get_str(json, "name"), tool->p));
    for (i = 0; names && i < names->nelts; ++i)
        printf("%s%s", i ? ", " : "",
               md_text_printable(APR_ARRAY_IDX(names, i, const char *), tool->p));
    printf("]\n");
}

static void print_result(const a2md_t *tool, apr_status_t rv)
{
    md_json_t *json = md_json_object(tool->p);

    md_json_set(json, "output", tool->output);
    md_json_set_int(json, "status", rv);
    if (rv != APR_SUCCESS)
        md_json_set_str(json, "description", md_err_text(rv, tool->p));
    printf("%s\n", md_json_printable(json, tool->p));
}

/* ---- running ---- */

/* The options of a command, out of all there are. */
static const apr_getopt_option_t *options_of(const a2md_command_t *command, apr_pool_t *p)
{
    apr_array_header_t *options = apr_array_make(p, 4, sizeof(apr_getopt_option_t));
    const apr_getopt_option_t *option;

    for (option = COMMAND_OPTIONS; option->name; ++option)
        if (option->optch == 'h' || strchr(command->options, option->optch))
            APR_ARRAY_PUSH(options, apr_getopt_option_t) = *option;
    APR_ARRAY_PUSH(options, apr_getopt_option_t) = *option;
    return (const apr_getopt_option_t *)options->elts;
}

/* Looking makes no store, as the directory may be mistyped. An empty one is taken for a store that
 * holds nothing yet: APR_EOF, nothing is to be done, if the command names nothing. */
static apr_status_t find_store(const a2md_t *tool, int argc, md_err_t *err)
{
    apr_status_t rv = md_store_find(tool->dir, tool->p);

    if (rv == APR_SUCCESS || (rv == APR_EOF && argc == 0))
        return rv;
    return md_fail(err, APR_ENOENT, "there is no store in %s (it has no md_store.json). Use -d "
                   "with the directory that MDStoreDir names in the server's configuration; the "
                   "default is 'md' in its ServerRoot",
                   tool->dir);
}

static apr_status_t open_store(a2md_t *tool, md_err_t *err)
{
    const char *danger = md_store_danger(tool->dir, tool->p);
    md_store_t *store = NULL;
    apr_status_t rv;

    if (danger)
        return md_fail(err, APR_EACCES, "%s. But if a server that is not started by root uses "
                       "this store, run a2md as the user who starts that server", danger);
    is_quiet = 1; /* that a store is new */
    rv = md_store_open(&store, tool->dir, err, tool->p);
    is_quiet = 0;
    if (rv != APR_SUCCESS)
        return rv;
    tool->reg = md_reg_make(store, tool->conf, apr_array_make(tool->p, 1, sizeof(md_domain_t *)),
                            tool->p);
    tool->reg->is_tool = 1;
    return APR_SUCCESS;
}

/* What was printed may not have arrived: a full disk behind a pipe or a file. */
static apr_status_t end_output(void)
{
    return fflush(stdout) == 0 && !ferror(stdout) ? APR_SUCCESS : APR_EGENERAL;
}

/* With a lock from reading to writing, no change that another makes is lost. */
static apr_status_t run_alone(a2md_t *tool, const a2md_command_t *command, int argc,
                              const char *const *argv, md_err_t *err)
{
    apr_file_t *lock;
    apr_status_t rv;

    rv = md_store_lock(&lock, tool->reg->store, A2MD_LOCK_WAIT, err, tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    md_err_clear(err); /* of attempts to get it */
    rv = command->run(tool, argc, argv, err);
    md_store_unlock(lock);
    return rv;
}

static int execute(a2md_t *tool, const a2md_command_t *command, int argc, const char *const *argv)
{
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, tool->p);
    rv = command->may_begin ? APR_SUCCESS : find_store(tool, argc, &err);
    if (rv == APR_SUCCESS)
        rv = open_store(tool, &err);
    if (rv == APR_SUCCESS)
        rv = command->is_alone ? run_alone(tool, command, argc, argv, &err)
                               : command->run(tool, argc, argv, &err);
    if (rv == APR_EOF)
        rv = APR_SUCCESS;
    if (rv != APR_SUCCESS && err.detail)
        md_log(MD_LOG_ERR, "%s", err.detail);
    if (tool->output)
        print_result(tool, rv);
    if (rv == APR_SUCCESS)
        rv = end_output();
    return rv == APR_SUCCESS ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* argv[0] is the last word of the command's name. */
static int run_command(a2md_t *tool, const a2md_command_t *command, int argc,
                       const char *const *argv)
{
    const apr_getopt_option_t *options = options_of(command, tool->p);
    const char *value, *wrong;
    apr_getopt_t *getopt;
    apr_status_t rv;
    int opt;

    apr_getopt_init(&getopt, tool->p, argc, argv);
    getopt->interleave = 1; /* options may come behind arguments, too */
    while ((rv = apr_getopt_long(getopt, options, &opt, &value)) == APR_SUCCESS) {
        switch (opt) {
        case 'c': tool->challenge = value; break;
        case 'f': tool->is_forced = 1; break;
        case 'h': return command_usage(command, options, NULL);
        case 'k': tool->key_file = value; break;
        case 'n': tool->waits_not = 1; break;
        case 'r': tool->resets = 1; break;
        case 'R': tool->reason = value; break;
        }
    }
    if (!APR_STATUS_IS_EOF(rv)) {
        command_usage(command, options, NULL);
        return EXIT_USAGE;
    }
    if (argc - getopt->ind < command->min_args)
        return command_usage(command, options, "an argument is missing");
    if (!tool->dir)
        return command_usage(command, options, "no store directory is given: use a2md -d");
    wrong = tool->conf->proxy_url ? md_uri_check_http(tool->conf->proxy_url, tool->p) : NULL;
    if (wrong)
        return command_usage(command, options, apr_psprintf(tool->p, "the proxy is not a URL: %s",
                                                            wrong));
    return execute(tool, command, argc - getopt->ind, getopt->argv + getopt->ind);
}

static int begins_with(const a2md_command_t *command, const char *word)
{
    size_t first = strcspn(command->name, " ");

    return strlen(word) == first && !strncmp(command->name, word, first);
}

/* The command that the words begin with; *pwords is how many its name has. NULL: there is none. */
static const a2md_command_t *find_command(int *pwords, int argc, const char *const *argv)
{
    const a2md_command_t *command;
    const char *blank;

    for (command = COMMANDS; command->name; ++command) {
        if (!begins_with(command, argv[0]))
            continue;
        blank = strchr(command->name, ' ');
        *pwords = blank ? 2 : 1;
        if (!blank || (argc > 1 && !strcmp(blank + 1, argv[1])))
            return command;
    }
    return NULL;
}

/* No command, but an option where the second word of one should be: `store -h`. */
static int has_early_option(int argc, const char *const *argv)
{
    const a2md_command_t *command = COMMANDS;

    while (command->name && !begins_with(command, argv[0]))
        ++command;
    return command->name && argc > 1 && argv[1][0] == '-';
}

typedef struct wishes_t {
    int help, version;
} wishes_t;

static apr_status_t parse_options(a2md_t *tool, wishes_t *wishes, apr_getopt_t *getopt)
{
    const char *value;
    apr_status_t rv;
    int opt;

    while ((rv = apr_getopt_long(getopt, MAIN_OPTIONS, &opt, &value)) == APR_SUCCESS) {
        switch (opt) {
        case 'a': tool->ca_url = value; break;
        case 'C': tool->conf->ca_file = value; break;
        case 'd': tool->dir = value; break;
        case 'h': wishes->help = 1; break;
        case 'j': tool->output = md_json_array(tool->p); break;
        case 'p': tool->conf->proxy_url = value; break;
        case 'q': log_level -= log_level > 0; break;
        case 't': tool->terms = value; break;
        case 'v': log_level += log_level < TRACE8; break;
        case 'V': wishes->version = 1; break;
        }
    }
    return APR_STATUS_IS_EOF(rv) ? APR_SUCCESS : rv;
}

static int run(a2md_t *tool, int argc, const char *const *argv)
{
    const a2md_command_t *command;
    wishes_t wishes = { 0, 0 };
    apr_getopt_t *getopt;
    int words;

    tool->conf = apr_pmemdup(tool->p, &md_conf_defaults, sizeof(md_conf_defaults));
    apr_getopt_init(&getopt, tool->p, argc, argv);
    if (parse_options(tool, &wishes, getopt) != APR_SUCCESS || wishes.help)
        return usage(NULL);
    if (wishes.version) {
        printf("version: %s\n", MD_VERSION);
        if (!md_dns_library())
            printf("built without c-ares: nothing is looked for in the DNS\n");
        return EXIT_SUCCESS;
    }
    argc -= getopt->ind;
    argv += getopt->ind;
    if (argc == 0)
        return usage("a command is missing");
    command = find_command(&words, argc, argv);
    if (!command && has_early_option(argc, argv))
        return usage(NULL);
    if (!command)
        return usage(apr_psprintf(tool->p, "there is no command '%s%s%s'", argv[0],
                                  argc > 1 ? " " : "", argc > 1 ? argv[1] : ""));
    return run_command(tool, command, argc - words + 1, argv + words - 1);
}

int main(int argc, const char *const *argv)
{
    a2md_t tool = { 0 };
    int code;

    if (apr_app_initialize(&argc, &argv, NULL) != APR_SUCCESS || md_http_init() != APR_SUCCESS)
        return EXIT_FAILURE;
    apr_pool_create(&tool.p, NULL);
    md_log_set(log_write, log_is_level);
    code = run(&tool, argc, argv);
    apr_pool_destroy(tool.p);
    apr_terminate();
    return code;
}
