/* SPDX-License-Identifier: Apache-2.0 */
/* What the httpd side shares: the module's state per process and per server. */
#ifndef MOD_MD_H
#define MOD_MD_H

#include <httpd.h>
#include <http_config.h>

#include <apr_hash.h>

#include "md_reg.h"
#include "md_version.h"

#define MD_TELL_AT_MOST 20 /* of a kind of mistake: more would hide the rest of the log */

extern module AP_MODULE_DECLARE_DATA md_module;

/* The module's record of a server (main server or vhost). */
typedef struct md_server_t {
    const server_rec *s;         /* whose record it is */
    int has_name;                /* that somebody gave it: httpd makes up what vhosts lack */
    md_conf_t *conf;             /* settings as written for this server; unset = inherit */
    md_domain_t *section;        /* <MDomain> being read, or NULL */
    apr_array_header_t *domains; /* `md_domain_t *` assigned to the server, never NULL */
    int has_temporary;           /* it starts with a temporary certificate (MDActivation live) */
    int is_ssl;                  /* the TLS module asked for its certificates */
    int has_certs;               /* `httpd -t`: it is configured with certificates of its own */
} md_server_t;

/* The one record of the process, in the configuration pool. */
typedef struct md_process_t {
    md_conf_t *conf;             /* settings of the main server and of the whole process */
    apr_array_header_t *domains; /* `md_domain_t *` in order of definition */
    md_store_t *store;           /* from post_config on; of challenges alone if there is no `reg` */
    md_reg_t *reg;               /* from post_config on; NULL when no domain is defined */
    apr_hash_t *expected;        /* MD name -> domain with the names it is going to have */
    md_index_t *expected_names;  /* theirs */
    apr_array_header_t *ignored; /* `const ap_directive_t *` that have no effect where they stand */
    apr_hash_t *unstapled;       /* certificates that cannot be stapled were told; NULL: none */
    const char *store_problem;   /* why nobody can be renewed at all, NULL: nothing is wrong */
    int is_dry_run;              /* a new process only tries its configuration first */
    int is_reload;               /* the process has started before */
} md_process_t;

/* Of the configuration being read or in service. */
md_process_t *mod_md_process(void);
md_server_t *mod_md_server(const server_rec *s);

/* Where the server is defined, for messages. */
const char *mod_md_place_of(const server_rec *s, apr_pool_t *p);

/* The log level of messages about progress at the start. */
int mod_md_progress_level(void);

/* mod_md_cmds */
extern const command_rec mod_md_commands[];

/* mod_md_reach: what reaches us from outside. */

/* Does somebody listen for http or https on this local port? */
int mod_md_has_listener(int port);

/* Do some listeners serve what arrives at the public ports 80 and 443? */
void mod_md_reachability(md_reg_t *reg, server_rec *main_server);

/* Is one of the vhost's addresses for this port, or for any? */
int mod_md_has_address_on(const server_rec *s, int port);

/* Whether a connection is TLS is settled by the first vhost at its address, as no name is known
 * yet. Of those vhosts, one with TLS and one without; NULL: there is none, or nobody can tell. */
typedef struct md_doors_t {
    const server_rec *tls, *plain;
} md_doors_t;

/* Add those that settle it at this port for the addresses of a vhost, or for all that somebody
 * listens at (the main server); port 0: at the ports of the vhost. When it is known which servers
 * have TLS. */
void mod_md_find_doors(md_doors_t *doors, const server_rec *s, int port, server_rec *main_server);

/* mod_md_vhosts: which domain belongs to which server. The cost is linear in domains, names and
 * vhosts. */

/* Assign the domains to the servers that match one of their names. */
void mod_md_link_servers(md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp);

/* For `httpd -t`, where the TLS module does not start: which servers it would serve, by their
 * directives and listeners. */
void mod_md_find_tls_servers(const md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp);

/* Does every SSL server have one domain at most? */
MD_MUST_CHECK
apr_status_t mod_md_check_servers(server_rec *main_server);

/* Add to the domains what names of their SSL servers are missing; warn of those that are not added,
 * as CAs refuse them or members are `manual`. */
void mod_md_adopt_names(md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp);

/* The one domain of an SSL server, as it will be when this server and those asked for before have
 * added their names. NULL if there is none, or several. */
const md_domain_t *mod_md_expected_domain(const server_rec *s);

/* May acme-tls/1 be spoken on its connections? */
int mod_md_offers_acme_tls(server_rec *s);

/* Settle for which names acme-tls/1 is offered, and why the servers of a domain cannot answer a
 * type of challenge. */
void mod_md_find_answers(md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp);

/* mod_md_check: mistakes that show only when configuration, servers and modules are put together.
 * Those that would end the server fail; others are warnings. */

/* mod_watchdog, without which nothing is renewed. */
MD_MUST_CHECK
apr_status_t mod_md_check_watchdog(server_rec *main_server);

/* A TLS server without certificate and domain, with which httpd does not start: told. */
void mod_md_tell_uncovered(const server_rec *s, apr_pool_t *tmp);

/* For `httpd -t`: is there one? After mod_md_find_tls_servers. */
MD_MUST_CHECK
apr_status_t mod_md_check_covered(server_rec *main_server, apr_pool_t *tmp);

/* The first directory on the way to the store's shared groups that the children's user cannot pass;
 * NULL if there is none, or root is not there to ask. */
const char *mod_md_store_barrier(const char *store_dir, apr_pool_t *p);

/* Warn of all that leaves watched domains without https, contact or renewal, and of directives that
 * have no effect. */
void mod_md_warn_of_slips(const md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp);

/* For hooks that answer before there is a handler: this text, whose type is set, is all. */
int mod_md_answer(request_rec *r, const char *text, apr_size_t len);

/* mod_md_live: certificates that were put into service since the start */

/* For which domains that can be: clear `activates_live` of the others. */
void mod_md_live_settle(md_reg_t *reg, const server_rec *main_server);

/* The domain of a server that activates live, or NULL. */
const md_domain_t *mod_md_live_domain(const server_rec *s);

/* In OpenSSL's certificate callback of that server: show what is in service now. */
struct ssl_st;
void mod_md_live_show(struct ssl_st *ssl, const server_rec *s);
void mod_md_live_hooks(void);

/* mod_md_ocsp: stapling */

/* Do we staple the certificates of the server, by what is configured? Of any server? */
int mod_md_staples(const server_rec *s);
int mod_md_staples_any(const server_rec *main_server);
void mod_md_ocsp_hooks(void);

/* mod_md_tls, mod_md_http, mod_md_status: their hooks */
void mod_md_tls_hooks(void);
void mod_md_http_hooks(void);
void mod_md_status_hooks(void);

/* mod_md_events: who is told of events, as it is configured */
MD_MUST_CHECK
apr_status_t mod_md_events_make(md_reg_t *reg, const char *store_dir, const server_rec *s,
                                md_err_t *err, apr_pool_t *p);

/* Start to tell, as the user who runs the parent, of what was put into service. Nobody waits. */
void mod_md_events_tell_installed(const md_reg_t *reg, const server_rec *s, apr_pool_t *p);

/* mod_md_watchdog: timers that drive the engine in one child */
void mod_md_watchdog_hooks(void);
MD_MUST_CHECK
apr_status_t mod_md_watchdog_start(const md_reg_t *reg, server_rec *main_server, apr_pool_t *p);

#endif
