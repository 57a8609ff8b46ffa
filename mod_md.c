/* SPDX-License-Identifier: Apache-2.0 */
/* The module: its records, the steps of a (re)start, the bridge to httpd's log. */
#include "mod_md.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <apr_shm.h>
#include <apr_strings.h>

#include <ap_mmn.h>
#include <http_core.h>
#include <http_log.h>
#include <unixd.h>

#include "md_acme_authz.h"
#include "md_http.h"
#include "md_log.h"
#include "md_rename.h"
#include "md_renew.h"
#include "md_text.h"

#if !AP_MODULE_MAGIC_AT_LEAST(20120211, 105)
#error "mod_md needs Apache httpd 2.4.48 or later"
#endif

APLOG_USE_MODULE(md);

#define LOCK_WAIT apr_time_from_sec(5) /* unless MDStoreLocks says how long */

/* ---- records ---- */

static md_process_t *process;
static server_rec *log_server;

md_process_t *mod_md_process(void)
{
    return process;
}

md_server_t *mod_md_server(const server_rec *s)
{
    return ap_get_module_config(s->module_config, &md_module);
}

int mod_md_progress_level(void)
{
    return process->is_dry_run ? APLOG_TRACE1 : APLOG_DEBUG;
}

/* The configuration pool goes away: so does all that hangs on it. */
static apr_status_t forget_process(void *data)
{
    if (process == data)
        process = NULL;
    md_log_set(NULL, NULL);
    log_server = NULL;
    return APR_SUCCESS;
}

static void make_process(apr_pool_t *p)
{
    process = apr_pcalloc(p, sizeof(*process));
    process->conf = md_conf_make(p);
    process->domains = apr_array_make(p, 8, sizeof(md_domain_t *));
    process->ignored = apr_array_make(p, 1, sizeof(const ap_directive_t *));
    process->expected = apr_hash_make(p);
    process->expected_names = md_index_make(p);
    apr_pool_cleanup_register(p, process, forget_process, apr_pool_cleanup_null);
}

const char *mod_md_place_of(const server_rec *s, apr_pool_t *p)
{
    return s->defn_name ? apr_psprintf(p, "%s:%u", s->defn_name, s->defn_line_number)
                        : "the main server";
}

static md_server_t *make_server(const server_rec *s, md_conf_t *conf, apr_pool_t *p)
{
    md_server_t *server = apr_pcalloc(p, sizeof(*server));

    server->s = s;
    server->has_name = 1;
    server->conf = conf;
    server->domains = apr_array_make(p, 1, sizeof(md_domain_t *));
    return server;
}

/* The main server comes first with every reading of the configuration. */
static void *create_server_config(apr_pool_t *p, server_rec *s)
{
    if (s->is_virtual)
        return make_server(s, md_conf_make(p), p);
    make_process(p);
    return make_server(s, process->conf, p);
}

/* httpd makes up missing names after it has merged. */
static void *merge_server_config(apr_pool_t *p, void *base, void *add)
{
    const server_rec *s = ((md_server_t *)add)->s;
    md_conf_t *conf = md_conf_merge(((md_server_t *)base)->conf, ((md_server_t *)add)->conf, p);
    md_server_t *server = make_server(s, conf, p);

    server->has_name = s->server_hostname != NULL;
    return server;
}

/* ---- log ---- */

static void log_write(const char *file, int line, md_log_level_t level, const char *msg)
{
    ap_log_error_(file, line, APLOG_MODULE_INDEX, (int)level, 0, log_server, "%s", msg);
}

static int log_is_level(md_log_level_t level)
{
    return APLOG_IS_LEVEL(log_server, (int)level);
}

/* ---- steps of a start ---- */

typedef struct start_t {
    server_rec *s;    /* main server */
    md_store_t *store;
    md_reg_t *reg;
    apr_file_t *lock; /* of the store, NULL: not obtained */
    md_err_t err;
    apr_pool_t *p;    /* as long as the configuration */
    apr_pool_t *tmp;
} start_t;

typedef struct step_t {
    const char *name;
    apr_status_t (*run)(start_t *start);
} step_t;

static md_domain_t *domain_at(int i)
{
    return APR_ARRAY_IDX(process->domains, i, md_domain_t *);
}

static apr_status_t step_init_http(start_t *start)
{
    apr_status_t rv = md_http_init();

    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, "the HTTP client cannot be initialized");
    return rv;
}

static const char *store_dir(apr_pool_t *p)
{
#if AP_MODULE_MAGIC_AT_LEAST(20180906, 2)
    if (!process->conf->store_dir)
        return ap_state_dir_relative(p, "md");
#endif
    return ap_server_root_relative(p, process->conf->store_dir ? process->conf->store_dir : "md");
}

/* What helps where root itself may not write: a file system that is read-only, for this service at
 * least. */
static const char *store_advice(const char *dir, apr_status_t rv, apr_pool_t *p)
{
    int is_denied = APR_STATUS_IS_EACCES(rv) || rv == EPERM;

    if (!dir || !(rv == EROFS || (is_denied && geteuid() == 0)))
        return "";
    return apr_psprintf(p, ". The server must be able to write there: set MDStoreDir to a "
                        "directory such as /var/lib/apache2/md and move the contents of the store "
                        "there; or, if systemd forbids it, allow it with 'ReadWritePaths=%s' in "
                        "the service's unit file", dir);
}

static void tell_store(const start_t *start, const char *dir, apr_status_t rv)
{
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10046) "setup store for %s: %s%s",
                 dir ? dir : process->conf->store_dir,
                 start->err.detail ? start->err.detail : "this is not the path of a directory",
                 store_advice(dir, rv, start->tmp));
}

static apr_status_t step_open_store(start_t *start)
{
    const char *dir = store_dir(start->p);
    apr_status_t rv = APR_EBADPATH;

    if (dir)
        rv = md_store_open(&start->store, dir, &start->err, start->p);
    if (rv != APR_SUCCESS)
        tell_store(start, dir, rv);
    process->store = start->store;
    return rv;
}

/* Where children cannot come to what is theirs in the store, or could change what is root's,
 * nothing is renewed, answered, or put into service; what is there is served. */
static const char *store_problem(const start_t *start, const char *dir)
{
    const char *danger = md_store_danger(dir, start->tmp), *barrier;

    if (danger)
        return apr_psprintf(start->p, "no certificate can be obtained or put into service: %s, "
                            "then reload the server", danger);
    barrier = mod_md_store_barrier(dir, start->tmp);
    if (!barrier)
        return NULL;
    return apr_psprintf(start->p, "no certificate can be obtained, as the server's children run as "
                        "user '%s', who cannot enter %s on the path to the store: run 'chmod a+x "
                        "%s', or set MDStoreDir to another directory",
                        ap_unixd_config.user_name, barrier, barrier);
}

static void find_problem(start_t *start, const char *dir)
{
    process->store_problem = store_problem(start, dir);
    if (process->store_problem && !process->is_dry_run)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10047)
                     "setup challenges directory: %s", process->store_problem);
}

/* Then nothing is touched in the store. */
static int is_in_danger(const start_t *start)
{
    return md_store_danger(store_dir(start->p), start->tmp) != NULL;
}

/* Children run as another user and have to write there. */
static apr_status_t step_prepare_store(start_t *start)
{
    apr_uid_t owner = ap_unixd_config.user_id;
    apr_status_t rv = APR_SUCCESS;

    if (!is_in_danger(start))
        rv = md_store_prepare(start->store, geteuid() == 0 ? &owner : NULL, &start->err,
                              start->tmp);
    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10047)
                     "setup challenges directory: %s%s",
                     start->err.detail ? start->err.detail : "",
                     store_advice(store_dir(start->p), rv, start->tmp));
    else
        find_problem(start, store_dir(start->p));
    return rv;
}

static apr_status_t step_make_registry(start_t *start)
{
    md_conf_t *conf = md_conf_merge(&md_conf_defaults, process->conf, start->p);

    start->reg = process->reg = md_reg_make(start->store, conf, process->domains, start->p);
    start->reg->is_dry_run = process->is_dry_run;
    start->reg->is_reload = process->is_reload;
    start->reg->known = md_known_open(start->s->process->pool);
    start->reg->store_problem = process->store_problem;
    start->reg->group = &ap_unixd_config.group_id;
    mod_md_reachability(start->reg, start->s);
    return APR_SUCCESS;
}

static apr_status_t step_make_events(start_t *start)
{
    apr_status_t rv = mod_md_events_make(start->reg, store_dir(start->p), start->s, &start->err,
                                         start->p);

    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, "%s", start->err.detail);
    return rv;
}

static apr_status_t step_note_for_tools(start_t *start)
{
    md_reg_save_note(start->reg, start->tmp);
    return APR_SUCCESS;
}

static void complete_domain(const start_t *start, md_domain_t *domain)
{
    const char *admin = start->s->server_admin;

    md_config_complete(domain, start->reg->conf, start->p);
    if (domain->contacts->nelts == 0 && admin && strcmp(admin, DEFAULT_ADMIN))
        APR_ARRAY_PUSH(domain->contacts, const char *) = md_contact_uri(admin, start->p);
    ap_log_error(APLOG_MARK, mod_md_progress_level(), 0, start->s, APLOGNO(10039)
                 "Completed MD[%s, CA=%s, Contact=%s, Agreement=%s, renew-mode=%d]", domain->name,
                 domain->ca_urls && domain->ca_urls->nelts
                     ? APR_ARRAY_IDX(domain->ca_urls, 0, const char *) : "-",
                 domain->contacts->nelts ? APR_ARRAY_IDX(domain->contacts, 0, const char *) : "-",
                 domain->ca_agreement ? domain->ca_agreement : "-", domain->renew_mode);
}

static apr_status_t step_complete_domains(start_t *start)
{
    int i;

    for (i = 0; i < process->domains->nelts; ++i)
        complete_domain(start, domain_at(i));
    return APR_SUCCESS;
}

static apr_status_t step_settle_live(start_t *start)
{
    mod_md_live_settle(start->reg, start->s);
    return APR_SUCCESS;
}

static const char *place_of(const md_domain_t *domain)
{
    return domain->defined_at ? domain->defined_at : "unknown place";
}

static apr_status_t step_check_overlaps(start_t *start)
{
    const md_domain_t *domain, *other;
    const char *name;

    domain = md_reg_index(start->reg, &other, &name, start->p);
    if (!domain)
        return APR_SUCCESS;
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10038)
                 "two Managed Domains have an overlap in domain '%s', first definition in %s, "
                 "second in %s", name, place_of(other), place_of(domain));
    return APR_EINVAL;
}

static int file_count(const apr_array_header_t *files)
{
    return files ? files->nelts : 0;
}

static apr_status_t check_static_files(const start_t *start, const md_domain_t *domain)
{
    int certs = file_count(domain->cert_files);

    if (certs == file_count(domain->pkey_files))
        return APR_SUCCESS;
    if (certs > 0)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10170)
                     "The Managed Domain '%s', defined in %s, needs one MDCertificateKeyFile "
                     "for each MDCertificateFile.", domain->name, place_of(domain));
    else
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10171)
                     "The Managed Domain '%s', defined in %s, has MDCertificateKeyFile(s) but "
                     "no MDCertificateFile.", domain->name, place_of(domain));
    return APR_EINVAL;
}

static apr_status_t step_check_static_files(start_t *start)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < process->domains->nelts; ++i)
        if (check_static_files(start, domain_at(i)) != APR_SUCCESS)
            rv = APR_EINVAL;
    return rv;
}

static apr_status_t step_link_servers(start_t *start)
{
    mod_md_link_servers(start->reg, start->s, start->tmp);
    return APR_SUCCESS;
}

static apr_status_t step_find_staples(start_t *start)
{
    if (mod_md_staples_any(start->s))
        start->reg->staples = md_staples_make(start->p);
    return APR_SUCCESS;
}

/* Servers that share the store may start at the same time, and a2md may be at work: one at a time
 * moves things about. */
static apr_status_t step_activate(start_t *start)
{
    apr_interval_time_t wait = start->reg->conf->store_locks;

    if (is_in_danger(start))
        return APR_SUCCESS;
    if (md_store_lock(&start->lock, start->store, wait > 0 ? wait : LOCK_WAIT, &start->err,
                      start->tmp) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10398)
                     "unable to obtain global registry lock, nothing staged will be activated "
                     "until the next restart: %s", start->err.detail);
        start->lock = NULL;
        return APR_SUCCESS;
    }
    md_rename_follow(start->reg, start->tmp);
    md_stage_activate_all(start->reg, start->tmp);
    return APR_SUCCESS;
}

/* With the lock, as nobody moves anything then. */
static apr_status_t step_load(start_t *start)
{
    md_reg_load(start->reg, start->p);
    if (start->lock)
        md_store_unlock(start->lock);
    return APR_SUCCESS;
}

/* ---- after the TLS module ---- */

static apr_status_t step_check_servers(start_t *start)
{
    return mod_md_check_servers(start->s);
}

static apr_status_t step_settle_names(start_t *start)
{
    mod_md_adopt_names(start->reg, start->s, start->tmp);
    mod_md_find_answers(start->reg, start->s, start->tmp);
    return APR_SUCCESS;
}

static void warn_of_use(const start_t *start, const md_domain_t *domain)
{
    if (domain->require_https && !domain->is_on_tls)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, start->s, APLOGNO(10105)
                     "MD %s does not match any VirtualHost with 'SSLEngine on', but is configured "
                     "to require https. This cannot work.", domain->name);
    if (!domain->is_used && domain->renew_mode != MD_RENEW_ALWAYS)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, start->s, APLOGNO(10045)
                     "No VirtualHost matches Managed Domain %s", domain->name);
}

static apr_status_t check_protocol(const start_t *start, const md_domain_t *domain)
{
    if (!strcmp(domain->ca_proto, MD_CA_PROTO_ACME))
        return APR_SUCCESS;
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10172)
                 "md[%s]: error syncing to store: the CA protocol '%s' is not known",
                 domain->name, domain->ca_proto);
    return APR_ENOTIMPL;
}

static apr_status_t step_check_use(start_t *start)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = 0; i < process->domains->nelts; ++i) {
        warn_of_use(start, domain_at(i));
        if (check_protocol(start, domain_at(i)) != APR_SUCCESS)
            rv = APR_ENOTIMPL;
    }
    return rv;
}

static apr_status_t step_assess(start_t *start)
{
    int i;

    for (i = 0; i < process->domains->nelts; ++i)
        md_reg_assess(start->reg, domain_at(i), start->p);
    return APR_SUCCESS;
}

/* Nobody could tell children that there is something new. */
static void do_without_board(start_t *start, apr_status_t rv)
{
    int i;

    for (i = 0; i < process->domains->nelts; ++i)
        domain_at(i)->activates_live = 0;
    ap_log_error(APLOG_MARK, APLOG_WARNING, rv, start->s, "status pages will be slow, and new "
                 "certificates need a restart, as there is no shared memory for the state of the "
                 "managed domains");
}

/* It is as old as the configuration, and so do children of before not write to it. Without one, the
 * pages ask the store. */
static apr_status_t step_make_board(start_t *start)
{
    int count = start->reg->domains->nelts;
    apr_status_t rv;
    apr_shm_t *shm;

    rv = apr_shm_create(&shm, md_board_size(count), NULL, start->p);
    if (rv == APR_SUCCESS)
        start->reg->board = md_board_make(apr_shm_baseaddr_get(shm), count);
    else
        do_without_board(start, rv);
    return APR_SUCCESS;
}

/* What is counted is no reason to do without a server. */
static apr_status_t step_make_tally(start_t *start)
{
    if (md_tally_share(&start->reg->tally, start->reg->domains, start->s->process->pool,
                       &start->err) != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, start->s, "md-metrics will lack counters: %s",
                     start->err.detail);
    return APR_SUCCESS;
}

static apr_status_t step_choose_watched(start_t *start)
{
    md_domain_t *domain;
    int i;

    (void)start;
    for (i = 0; i < process->domains->nelts; ++i) {
        domain = domain_at(i);
        domain->is_watched = md_live_of(domain)->state != MD_STATE_ERROR
                             && (domain->is_used || domain->renew_mode != MD_RENEW_AUTO);
    }
    return APR_SUCCESS;
}

/* What an administrator would otherwise only learn when the renewal fails. */
static void test_renewal(const start_t *start, const md_domain_t *domain)
{
    const char *problem = md_renew_problem(start->reg, domain, start->tmp);

    if (problem)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10173) "md[%s]: %s",
                     domain->name, problem);
}

static apr_status_t step_test_renewals(start_t *start)
{
    const md_domain_t *domain;
    int i;

    for (i = 0; i < process->domains->nelts; ++i) {
        domain = domain_at(i);
        if (domain->is_watched && md_renew_is_wanted(domain))
            test_renewal(start, domain);
    }
    return APR_SUCCESS;
}

static apr_status_t step_warn(start_t *start)
{
    mod_md_warn_of_slips(start->reg, start->s, start->tmp);
    return APR_SUCCESS;
}

/* What the TLS module has offered. */
static apr_status_t step_share_staples(start_t *start)
{
    md_reg_t *reg = start->reg;
    apr_status_t rv;

    if (!reg->staples)
        return APR_SUCCESS;
    rv = md_staples_share(reg->staples, start->s->process->pool, &start->err);
    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, start->s, APLOGNO(10196) "setup ocsp registry: %s",
                     start->err.detail);
    return rv;
}

static apr_status_t step_watch(start_t *start)
{
    int i, watched = 0;

    for (i = 0; i < process->domains->nelts; ++i)
        watched += domain_at(i)->is_watched;
    if (!is_in_danger(start))
        md_stage_clean(start->reg, start->tmp);
    if (watched == 0)
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, start->s, APLOGNO(10075) "no mds to supervise");
    else
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, start->s, APLOGNO(10074)
                     "%d out of %d mds need watching", watched, process->domains->nelts);
    if (watched == 0 && !start->reg->staples)
        return APR_SUCCESS;
    return mod_md_watchdog_start(start->reg, start->s, start->p);
}

static apr_status_t step_tell_installed(start_t *start)
{
    if (!is_in_danger(start))
        mod_md_events_tell_installed(start->reg, start->s, start->p);
    return APR_SUCCESS;
}

/* ---- in place of a start: `httpd -t` ---- */

static apr_status_t step_check_store(start_t *start)
{
    const char *dir = store_dir(start->p);
    apr_status_t rv = dir ? md_store_check(dir, &start->err, start->tmp) : APR_EBADPATH;

    if (APR_STATUS_IS_EACCES(rv) && geteuid() != 0)
        return APR_SUCCESS; /* the server may be another user */
    if (rv != APR_SUCCESS)
        tell_store(start, dir, rv);
    else
        find_problem(start, dir);
    return rv;
}

static apr_status_t step_check_covered(start_t *start)
{
    return mod_md_check_covered(start->s, start->tmp);
}

static apr_status_t step_check_watchdog(start_t *start)
{
    int i;

    for (i = 0; i < process->domains->nelts; ++i)
        if (domain_at(i)->is_watched)
            return mod_md_check_watchdog(start->s);
    return APR_SUCCESS;
}

static apr_status_t step_find_tls_servers(start_t *start)
{
    mod_md_find_tls_servers(start->reg, start->s, start->tmp);
    return APR_SUCCESS;
}

/* Unknown types are accepted, as another version may know them; but with no other one there is
 * nothing to offer to the CA. */
static void check_challenges(const start_t *start, const md_domain_t *domain)
{
    const char *doubt = md_renew_is_wanted(domain) ? md_renew_doubt(start->reg, domain, start->tmp)
                                                    : NULL;

    if (domain->ca_challenges && domain->ca_challenges->nelts > 0
        && !md_solver_knows_one(domain->ca_challenges))
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, start->s,
                     "md[%s]: MDCAChallenges '%s' names no known challenge type, so no certificate "
                     "can be obtained", domain->name,
                     apr_array_pstrcat(start->tmp, domain->ca_challenges, ' '));
    else if (doubt)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, start->s, "md[%s]: %s", domain->name,
                     doubt);
}

static apr_status_t step_check_challenges(start_t *start)
{
    int i;

    for (i = 0; i < process->domains->nelts; ++i)
        check_challenges(start, domain_at(i));
    return APR_SUCCESS;
}

/* ---- the hooks of a start ---- */

static const step_t BEFORE_TLS[] = {
    { "initialize the HTTP client", step_init_http },
    { "open the store", step_open_store },
    { "prepare the store", step_prepare_store },
    { "make the registry", step_make_registry },
    { "make the events", step_make_events },
    { "note for tools what they need", step_note_for_tools },
    { "complete the domains", step_complete_domains },
    { "see what can be activated live", step_settle_live },
    { "check overlaps", step_check_overlaps },
    { "check static files", step_check_static_files },
    { "link domains and servers", step_link_servers },
    { "see whether anything is stapled", step_find_staples },
    { "activate staged sets", step_activate },
    { "load the certificates", step_load },
};

static const step_t AFTER_TLS[] = {
    { "check the servers", step_check_servers },
    { "settle the names", step_settle_names },
    { "check the use of domains", step_check_use },
    { "check the challenges", step_check_challenges },
    { "assess the certificates", step_assess },
    { "make the board", step_make_board },
    { "make the counters", step_make_tally },
    { "choose whom to watch", step_choose_watched },
    { "test the renewals", step_test_renewals },
    { "warn of slips", step_warn },
    { "share the OCSP responses", step_share_staples },
    { "start watching", step_watch },
    { "tell of what was installed", step_tell_installed },
};

/* All that is needed to find mistakes, changing nothing. */
static const step_t TEST[] = {
    { "check the store", step_check_store },
    { "make the registry", step_make_registry },
    { "complete the domains", step_complete_domains },
    { "check static files", step_check_static_files },
    { "check overlaps", step_check_overlaps },
    { "link domains and servers", step_link_servers },
    { "find TLS servers", step_find_tls_servers },
    { "check the servers", step_check_servers },
    { "check that TLS servers are covered", step_check_covered },
    { "settle the names", step_settle_names },
    { "check the use of domains", step_check_use },
    { "check the challenges", step_check_challenges },
    { "load the certificates", step_load },
    { "choose whom to watch", step_choose_watched },
    { "check the watchdog", step_check_watchdog },
    { "test the renewals", step_test_renewals },
    { "warn of slips", step_warn },
};

#define COUNT_OF(steps) (sizeof(steps) / sizeof((steps)[0]))

static start_t *make_start(server_rec *s, apr_pool_t *p, apr_pool_t *tmp)
{
    start_t *start = apr_pcalloc(tmp, sizeof(*start));

    start->s = s;
    start->reg = process->reg;
    start->p = p;
    start->tmp = tmp;
    md_err_init(&start->err, tmp);
    return start;
}

static apr_status_t run_step(start_t *start, const step_t *step)
{
    apr_status_t rv = step->run(start);

    if (rv != APR_SUCCESS)
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, start->s, "step failed: %s", step->name);
    return rv;
}

static int run_steps(start_t *start, const step_t *steps, size_t count)
{
    size_t i;

    for (i = 0; i < count; ++i)
        if (run_step(start, &steps[i]) != APR_SUCCESS)
            return HTTP_INTERNAL_SERVER_ERROR;
    return OK;
}

/* Whoever tests wants to know all mistakes. Not after an overlap: the names are indexed up to
 * there, and what is told of them would be wrong. */
static int run_test(start_t *start)
{
    int result = OK;
    size_t i;

    for (i = 0; i < COUNT_OF(TEST); ++i) {
        if (run_step(start, &TEST[i]) == APR_SUCCESS)
            continue;
        result = HTTP_INTERNAL_SERVER_ERROR;
        if (TEST[i].run == step_check_overlaps)
            break;
    }
    return result;
}

/* Only what outlives configurations can tell. */
static int has_started(process_rec *proc)
{
    static const char KEY[] = "mod_md:started";
    void *started = NULL;

    apr_pool_userdata_get(&started, KEY, proc->pool);
    if (!started)
        apr_pool_userdata_set(proc, KEY, apr_pool_cleanup_null, proc->pool);
    return started != NULL;
}

static void use_log(server_rec *s)
{
    log_server = s;
    md_log_set(log_write, log_is_level);
}

static int check_config(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_CONFIG_TEST || process->domains->nelts == 0)
        return OK;
    use_log(s);
    return run_test(make_start(s, p, ptemp));
}

/* Without domains of our own, only the challenges of others (a2md) are answered, when there are
 * any. */
static void find_challenges(apr_pool_t *p)
{
    const char *dir = store_dir(p);

    if (dir)
        process->store = md_store_at(dir, p);
}

static int post_config_before_tls(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp,
                                  server_rec *s)
{
    (void)plog;
    process->is_dry_run = ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;
    process->is_reload = !process->is_dry_run && has_started(s->process);
    if (process->domains->nelts == 0 && !mod_md_staples_any(s)) {
        find_challenges(p);
        return OK;
    }
    use_log(s);
    if (process->is_dry_run)
        ap_log_error(APLOG_MARK, APLOG_TRACE1, 0, s, APLOGNO(10070)
                     "initializing post config dry run");
    else
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, s, APLOGNO(10071)
                     "mod_md (v%s), initializing...", MD_VERSION);
    return run_steps(make_start(s, p, ptemp), BEFORE_TLS, COUNT_OF(BEFORE_TLS));
}

static void *end_thread(void *nothing)
{
    pthread_exit(nothing);
}

/* glibc loads what it takes to end a thread when one ends for the first time; and where that fails,
 * as it does without descriptors or while a process exits, it aborts. Children have it from us. */
static void end_one_thread(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, end_thread, NULL) == 0)
        pthread_join(thread, NULL);
}

static int post_config_after_tls(apr_pool_t *p, apr_pool_t *plog, apr_pool_t *ptemp,
                                 server_rec *s)
{
    (void)plog;
    if (process->is_dry_run || !process->reg)
        return OK;
    end_one_thread();
    return run_steps(make_start(s, p, ptemp), AFTER_TLS, COUNT_OF(AFTER_TLS));
}

static void register_hooks(apr_pool_t *p)
{
    static const char *const TLS[] = { "mod_ssl.c", "mod_tls.c", NULL };
    static const char *const WATCHDOG[] = { "mod_watchdog.c", NULL };

    (void)p;
    ap_hook_check_config(check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config_before_tls, NULL, TLS, APR_HOOK_FIRST);
    ap_hook_post_config(post_config_after_tls, TLS, WATCHDOG, APR_HOOK_LAST);
    mod_md_live_hooks();
    mod_md_tls_hooks();
    mod_md_ocsp_hooks();
    mod_md_http_hooks();
    mod_md_watchdog_hooks();
    mod_md_status_hooks();
}

module AP_MODULE_DECLARE_DATA md_module = {
    STANDARD20_MODULE_STUFF,
    NULL, /* no configuration per directory */
    NULL,
    create_server_config,
    merge_server_config,
    mod_md_commands,
    register_hooks,
    AP_MODULE_FLAG_ALWAYS_MERGE, /* every vhost has a record of its own */
};
