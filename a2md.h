/* SPDX-License-Identifier: Apache-2.0 */
/* The command line tool: what its commands work with. a2md.c is the host (options, log, output),
 * a2md_cmds.c has the commands on managed domains, a2md_drive.c, a2md_acme.c and a2md_revoke.c
 * those that speak with a CA, a2md_request.c those to a running server. */
#ifndef A2MD_H
#define A2MD_H

#include <apr_getopt.h>

#include "md_acme.h"
#include "md_reg.h"
#include "md_version.h"

#define A2MD_USER_AGENT "apachemd/" MD_VERSION " mod_md/" MD_VERSION
#define A2MD_LOCK_WAIT  apr_time_from_sec(30) /* for others who change documents */

typedef struct a2md_t {
    apr_pool_t *p;
    md_conf_t *conf;         /* defaults, and the route to CAs: -C, -p */
    md_reg_t *reg;           /* the store: -d */
    md_json_t *output;       /* with -j: MDs in an array; else NULL */
    const char *dir;         /* -d */
    const char *ca_url;      /* -a */
    const char *terms;       /* -t */
    const char *challenge;   /* drive -c */
    const char *key_file;    /* revoke -k */
    const char *reason;      /* revoke -R */
    int is_forced, resets;   /* -f, -r */
    int waits_not;           /* -n */
} a2md_t;

/* Result: what the exit code and the JSON tell. A failure without md_fail is told nowhere else. */
typedef apr_status_t a2md_run_fn(a2md_t *tool, int argc, const char *const *argv, md_err_t *err);

typedef struct a2md_command_t {
    const char *name;        /* one word, or two ("store add") */
    const char *args;        /* for the usage */
    const char *help;
    const char *options;     /* letters of those it takes beside -h */
    int min_args;
    int is_alone;            /* reads and changes documents: nobody else does meanwhile */
    int may_begin;           /* makes the store if there is none */
    a2md_run_fn *run;
} a2md_command_t;

a2md_run_fn a2md_add, a2md_update, a2md_list, a2md_drive;
a2md_run_fn a2md_renew, a2md_check, a2md_status, a2md_revoke;
a2md_run_fn a2md_store_add, a2md_store_remove, a2md_store_list, a2md_store_update;
a2md_run_fn a2md_acme_newreg, a2md_acme_validate, a2md_acme_agree, a2md_acme_rollover,
            a2md_acme_delreg;

/* Print a managed domain, or put it into the output. Secrets are masked. */
void a2md_show(a2md_t *tool, md_json_t *json);

/* Load the domains called so, or all without words, and look at their certificates: these are the
 * registry's from now on. */
MD_MUST_CHECK
apr_status_t a2md_load(a2md_t *tool, int argc, const char *const *argv, md_err_t *err);

/* The CA at `url`, as the domain of the store reaches it, or the server (NULL), with its
 * directory. */
MD_MUST_CHECK
apr_status_t a2md_open_ca(md_acme_t **pacme, a2md_t *tool, const md_domain_t *domain,
                          const char *url, md_err_t *err);

/* Is one given by -a? */
MD_MUST_CHECK
apr_status_t a2md_check_ca(const a2md_t *tool, md_err_t *err);

/* Words as contacts: URIs that are fit for a CA. */
MD_MUST_CHECK
apr_status_t a2md_contacts(apr_array_header_t **pcontacts, int argc, const char *const *argv,
                           md_err_t *err, apr_pool_t *p);

/* Can one agree to these terms: 'accepted' or a URL? NULL is none, which is for the CA to judge. */
MD_MUST_CHECK
apr_status_t a2md_check_terms(const char *terms, md_err_t *err, apr_pool_t *p);

#endif
