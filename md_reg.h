/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: configured domains joined with the store. Runs in the parent at (re)start; children
 * inherit the result and only read it. */
#ifndef MD_REG_H
#define MD_REG_H

#include "md_board.h"
#include "md_config.h"
#include "md_event.h"
#include "md_live.h"
#include "md_reader.h"
#include "md_staples.h"
#include "md_store.h"
#include "md_tally.h"

typedef struct md_reg_t {
    md_store_t *store;
    const md_conf_t *conf;           /* main server, complete: no value is unset */
    apr_array_header_t *domains;     /* `md_domain_t *`, in order of definition */
    md_index_t *index;               /* by DNS name */
    md_staples_t *staples;           /* what is stapled, or NULL */
    const char *store_problem;       /* why nobody can be renewed at all, or NULL */
    md_known_t *known;               /* what starts before found, or NULL */
    md_readers_t *removal;           /* of staged sets that are in service now, or NULL */
    md_board_t *board;               /* a row per domain, NULL: there is none */
    md_tally_t *tally;               /* what is counted, NULL: nothing */
    const md_events_t *events;       /* who is told what happens, or NULL */
    const apr_gid_t *group;          /* of children, NULL: that of their user */
    md_execs_t *dns_execs;           /* commands of MDChallengeDns01; NULL: none can be run */
    int is_dry_run;                  /* the real start follows: what stays as it is is told there */
    int is_reload;                   /* not the first start of the process */
    int is_tool;                     /* a2md: no restart follows, and nobody reads job records */
    const char *only_challenge;      /* the one type to use, NULL: as configured (a2md) */
    int http_reachable, https_reachable; /* ports 80 and 443 lead here */
    md_route_t noted;                /* to CAs, as the server noted it; in the server: nothing */
} md_reg_t;

/* The domains are numbered. */
md_reg_t *md_reg_make(md_store_t *store, const md_conf_t *conf, apr_array_header_t *domains,
                      apr_pool_t *p);

/* Of reg->domains. */
md_domain_t *md_reg_domain(const md_reg_t *reg, int i);

/* The rights of the children, for those who read what these wrote; NULL: ours. */
const md_rights_t *md_reg_rights(md_rights_t *rights, const md_reg_t *reg, apr_pool_t *p);

/* Names of every domain into the index, linear. On overlap (with MDMatchNames servernames: of two
 * domains with the same name): the second domain defined, with the other in *pother and the DNS
 * name in *pname; NULL if there is none. */
const md_domain_t *md_reg_index(md_reg_t *reg, const md_domain_t **pother, const char **pname,
                                apr_pool_t *p);

/* The document of a domain. APR_ENOENT when there is none (not an md_fail), APR_EINVAL when it
 * lacks what it must have; *pjson is NULL then. */
MD_MUST_CHECK
apr_status_t md_reg_load_json(md_json_t **pjson, const md_reg_t *reg, md_store_group_t group,
                              const char *name, md_err_t *err, apr_pool_t *p);

/* Let children read those of the files in a place that they cannot (md_store_open_to_children). */
void md_reg_open_to_children(const md_reg_t *reg, md_store_group_t group, const char *name,
                             const apr_array_header_t *files, apr_pool_t *p);

/* A damaged file: out of the way, and told once with `err` and the consequence. */
void md_reg_put_aside(const md_reg_t *reg, md_store_group_t group, const char *name,
                      const char *file, const char *consequence, const md_err_t *err,
                      apr_pool_t *p);

/* The domain in `domains/<name>`, under that name whatever its document says. APR_ENOENT when there
 * is none (not an md_fail). */
MD_MUST_CHECK
apr_status_t md_reg_load_domain(md_domain_t **pdomain, const md_reg_t *reg, const char *name,
                                md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_reg_save_domain(const md_reg_t *reg, const md_domain_t *domain, md_err_t *err,
                                apr_pool_t *p);

/* Read what is served of all domains (md_live_load), for the life of `reg`. */
void md_reg_load(md_reg_t *reg, apr_pool_t *p);

/* Settle the state (after md_reg_load), take over what only the store knows (contacts, account, CA
 * in use), and write md.json if anything differs. */
void md_reg_assess(md_reg_t *reg, md_domain_t *domain, apr_pool_t *p);

/* What a tool cannot know and the server noted for it in `httpd.json`: whether ports 80 and 443
 * lead here (they do if it noted nothing), and its route to CAs. Only who starts the server can
 * write there. The strings live in `p`. */
void md_reg_load_note(md_reg_t *reg, apr_pool_t *p);

/* Note in `httpd.json` whether ports 80 and 443 lead here, and the main server's route to CAs, if
 * anything differs from what is noted there. */
void md_reg_save_note(const md_reg_t *reg, apr_pool_t *p);

/* Pairs of files for the TLS module, in order of the key specs: certificate and key paths (`const
 * char *`) are appended. Returns the number of pairs. */
int md_reg_cert_files(const md_reg_t *reg, const md_domain_t *domain, apr_array_header_t *certs,
                      apr_array_header_t *keys, apr_pool_t *p);

/* The same for temporary certificates, made if missing, expired, damaged or not covering the
 * names. One pair with a P-256 key, which is quick to make. */
MD_MUST_CHECK
apr_status_t md_reg_fallback_files(const md_reg_t *reg, const md_domain_t *domain,
                                   apr_array_header_t *certs, apr_array_header_t *keys,
                                   md_err_t *err, apr_pool_t *p);

#endif
