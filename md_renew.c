/* SPDX-License-Identifier: Apache-2.0 */
/* When to renew, and one run of a renewal. */
#include "md_renew.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define SAVE_INTERVAL apr_time_from_sec(2) /* job.json while a run makes progress */
#define SPREAD_PART 10 /* of a renewal window, where renewals begin, */
#define SPREAD_MOST apr_time_from_sec(12 * 3600) /* but not more than that */
#define LACK_DELAY    apr_time_from_sec(60)   /* until there may be descriptors or memory again */

struct md_renew_t {
    const md_reg_t *reg;
    const md_domain_t *domain;
    md_job_t *job;
    apr_pool_t *p;
    apr_pool_t *tmp;       /* cleared at each step */
    const char *ca_url;
    md_issue_t issue;
    md_dns_conf_t dns;
    const md_acct_t *acct; /* that staging names */
    md_err_t err;
    const char *activity;  /* as last logged */
    apr_time_t saved_at;
    int has_progress;      /* that is not saved yet */
    int is_unsaved;        /* the job could not be saved */
    md_telling_t *telling; /* of an answer that is in place, NULL: none */
};

/* ---- when ---- */

int md_renew_is_wanted(const md_domain_t *domain)
{
    if (domain->renew_mode == MD_RENEW_ALWAYS || domain->is_forced)
        return 1;
    return domain->renew_mode == MD_RENEW_AUTO && !domain->cert_files;
}

/* In the window, but not all at its beginning. One that is as long as the certificate's life says
 * that it is to be renewed at once. */
static apr_time_t window_moment(const md_cert_info_t *cert, const md_window_spec_t *spec)
{
    apr_time_t opens = md_window_opens(&cert->validity, spec);
    apr_interval_time_t spread;

    if (opens <= cert->validity.start)
        return opens;
    spread = (cert->validity.end - opens) / SPREAD_PART;
    if (spread > SPREAD_MOST)
        spread = SPREAD_MOST;
    return spread > 0 ? opens + (apr_time_t)(md_cert_dice(cert) % (apr_uint64_t)spread) : opens;
}

static md_due_t certs_due(const apr_array_header_t *certs, const md_domain_t *domain,
                          apr_time_t now)
{
    md_due_t due = { 0, NULL, NULL };
    const md_cert_info_t *cert;
    apr_time_t at;
    int i;

    if (!certs)
        return (md_due_t){ now, "missing", NULL };
    for (i = 0; i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            return (md_due_t){ now, "missing", NULL };
        at = window_moment(cert, &domain->renew_window);
        if (!due.at || at < due.at)
            due = (md_due_t){ at, "window", NULL };
    }
    return due;
}

/* Without what the CA suggests. */
static md_due_t due_by_window(const md_domain_t *domain, apr_time_t now)
{
    const md_live_t *live = md_live_of(domain);
    md_due_t due, obtained_due;

    if (domain->is_forced)
        return (md_due_t){ now, "forced", NULL };
    if (live->is_unread) /* what there is shows at the next reload */
        return (md_due_t){ now + apr_time_from_sec(24 * 3600), "unread", NULL };
    due = live->state == MD_STATE_INCOMPLETE ? (md_due_t){ now, live->lack, NULL }
                                             : certs_due(live->certs, domain, now);
    if (!domain->cert_files)
        return due;
    /* What was obtained for a domain with static files is not ordered again while it is good. */
    obtained_due = certs_due(live->obtained, domain, now);
    return obtained_due.at > due.at ? obtained_due : due;
}

md_due_t md_renew_due(const md_domain_t *domain, const md_advice_t *advice, apr_time_t now)
{
    const md_hint_t *hint = advice ? md_advice_first(advice) : NULL;
    md_due_t due = due_by_window(domain, now);

    if (hint && hint->renew_at < due.at)
        due = (md_due_t){ hint->renew_at, "ari", hint->ari.explanation_url };
    return due;
}

md_due_t md_renew_when(const md_reg_t *reg, const md_domain_t *domain, const md_advice_t *advice,
                       apr_time_t now)
{
    md_due_t due = md_renew_due(domain, advice, now);

    if (due.at > now && reg->staples
        && md_staples_has_revoked(reg->staples, domain->name, md_live_of(domain)->certs))
        due = (md_due_t){ now, "revoked", NULL };
    return due;
}

md_due_t md_renew_look(const md_reg_t *reg, const md_domain_t *domain, apr_time_t now,
                       apr_pool_t *p)
{
    return md_renew_when(reg, domain, md_advice_load(reg->store, domain, now, p), now);
}

apr_interval_time_t md_renew_time_left(const md_domain_t *domain, apr_time_t now)
{
    const apr_array_header_t *certs = md_live_of(domain)->certs;
    const md_cert_info_t *cert;
    apr_interval_time_t least = -1, left;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        left = cert ? cert->validity.end - now : 0;
        if (least < 0 || left < least)
            least = left > 0 ? left : 0;
    }
    return least > 0 ? least : 0;
}

apr_interval_time_t md_renew_lifetime(const md_domain_t *domain)
{
    const apr_array_header_t *certs = md_live_of(domain)->certs;
    apr_interval_time_t least = 0, lifetime;
    const md_cert_info_t *cert;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        lifetime = cert ? cert->validity.end - cert->validity.start : 0;
        if (lifetime > 0 && (!least || lifetime < least))
            least = lifetime;
    }
    return least;
}

int md_renew_is_plausible(const md_reg_t *reg, const md_domain_t *domain, const md_job_t *job,
                          apr_pool_t *p)
{
    return !job->finished || !job->notified_renewed || md_renew_is_staged(reg, domain, p);
}

int md_renew_is_staged(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    return md_store_exists(reg->store, MD_STORE_STAGING, domain->name, MD_DOMAIN_JSON, p)
           && md_issue_is_complete(reg->store, domain->name, md_domain_key_specs(domain, p), p);
}

static int holds_certificate(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[200];
    int found = 0;

    while (file && !found && fgets(line, sizeof(line), file))
        found = !strncmp(line, "-----BEGIN ", 11) && strstr(line, "CERTIFICATE-----");
    if (!file)
        return md_is_lack(errno); /* it may hold one */
    fclose(file);
    return found;
}

/* What libcurl would say of such a file names no directive. */
static const char *file_problem(const char *directive, const char *path, apr_pool_t *p)
{
    struct stat st;

    if (!path)
        return NULL;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        return apr_psprintf(p, "%s %s cannot be read: %s", directive, path, md_err_text(errno, p));
    if (!S_ISREG(st.st_mode) || !holds_certificate(path))
        return apr_psprintf(p, "%s %s holds no certificate in PEM format", directive, path);
    return NULL;
}

static int is_https(const char *url)
{
    return url && !strncasecmp(url, "https:", 6);
}

/* Roots that are needed. */
static const char *route_problem(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    md_route_t route = md_config_route(domain, reg->conf, &reg->noted);
    const char *why = NULL;

    if (domain->ca_urls && is_https(APR_ARRAY_IDX(domain->ca_urls, 0, const char *)))
        why = file_problem("MDCACertificateFile", route.ca_file, p);
    if (!why && is_https(route.proxy_url))
        why = file_problem("MDHttpProxyCACertificateFile", route.proxy_ca_file, p);
    return why;
}

md_dns_conf_t md_renew_dns(const md_reg_t *reg, const md_domain_t *domain)
{
    md_dns_conf_t conf = { .version = reg->conf->dns_01_version, .execs = reg->dns_execs };

    if (!reg->is_tool)
        conf.command = domain && domain->cmd_dns_01 ? domain->cmd_dns_01 : reg->conf->cmd_dns_01;
    return conf;
}

md_dns_route_t md_renew_dns_route(const md_reg_t *reg)
{
    md_dns_route_t route = { .resolvers = reg->conf->dns_resolvers, .port = reg->conf->check_dns };

    return route;
}

static const char *dns01_problem(const md_reg_t *reg, const md_domain_t *domain)
{
    if (reg->is_tool)
        return "its command is run by the server alone: use 'a2md renew'";
    return md_renew_dns(reg, domain).command ? NULL
           : "there is no command for TXT records: set MDChallengeDns01";
}

/* How the server can prove control, with the one type that a tool wants, the configured ones or
 * those that work here. None: *pwhy tells why. */
static md_solver_conf_t solver_conf(const md_reg_t *reg, const md_domain_t *domain,
                                    const char **pwhy, apr_pool_t *p)
{
    md_solver_conf_t conf = { .store = reg->store, .key_specs = md_domain_key_specs(domain, p),
                              .acme_tls = domain->acme_tls, .http_reachable = reg->http_reachable,
                              .https_reachable = reg->https_reachable,
                              .http01_problem = domain->http01_problem,
                              .alpn_problem = domain->alpn_problem,
                              .dns01_problem = dns01_problem(reg, domain) };
    apr_array_header_t *one = md_strings_make(p);

    *pwhy = NULL;
    APR_ARRAY_PUSH(one, const char *) = reg->only_challenge;
    if (reg->only_challenge)
        conf.types = one;
    else if (domain->ca_challenges && domain->ca_challenges->nelts > 0)
        conf.types = domain->ca_challenges;
    else
        conf.types = md_solver_usable(&conf, pwhy, p);
    return conf;
}

md_solver_conf_t md_renew_solver(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    const char *why;

    return solver_conf(reg, domain, &why, p);
}

/* No CA issues so large a certificate, and no client takes it. */
static const char *names_problem(const md_domain_t *domain, apr_pool_t *p)
{
    int i, count = domain->names->nelts;
    apr_size_t len = 0;

    for (i = 0; i < count; ++i)
        len += strlen(APR_ARRAY_IDX(domain->names, i, const char *));
    if (count <= MD_MAX_NAMES && len <= MD_MAX_NAMES_TEXT)
        return NULL;
    return apr_psprintf(p, "its %d names (%lu bytes in all) are too many for one certificate (many "
                        "CAs accept up to 100 names; the limits here are %d names and %d bytes): "
                        "split them into several domains", count, (unsigned long)len, MD_MAX_NAMES,
                        MD_MAX_NAMES_TEXT);
}

static const char *wildcard_of(const md_domain_t *domain)
{
    const char *name;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        name = APR_ARRAY_IDX(domain->names, i, const char *);
        if (md_dns_name_is_wildcard(name))
            return name;
    }
    return NULL;
}

/* A wildcard name needs a type that is not configured, or a command for it. */
static const char *wildcard_problem(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    const char *name = wildcard_of(domain), *why = dns01_problem(reg, domain);

    if (!name)
        return NULL;
    if (domain->ca_challenges && domain->ca_challenges->nelts > 0
        && !md_strings_has_nocase(domain->ca_challenges, "dns-01"))
        why = "MDCAChallenges does not list it";
    return why ? apr_psprintf(p, "no certificate can be obtained: CAs validate the wildcard name "
                              "%s by the challenge type dns-01 only, which cannot be used, as %s",
                              name, why) : NULL;
}

/* Ports of configured types are nobody's business, as connections may come by ways unknown. */
const char *md_renew_doubt(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    md_solver_conf_t conf;
    const char *why = wildcard_problem(reg, domain, p);

    if (why)
        return why;
    if (!domain->ca_challenges || domain->ca_challenges->nelts == 0 || !domain->is_used)
        return NULL;
    conf = solver_conf(reg, domain, &why, p);
    conf.http_reachable = conf.https_reachable = 1;
    (void)md_solver_usable(&conf, &why, p);
    return why;
}

static const char *keys_problem(const md_domain_t *domain, apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    const char *why = NULL;
    int i;

    for (i = 0; i < specs->nelts && !why; ++i)
        why = md_key_spec_problem(&APR_ARRAY_IDX(specs, i, md_key_spec_t), p);
    return why ? apr_psprintf(p, "MDPrivateKeys: %s", why) : NULL;
}

const char *md_renew_problem(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    const char *why = names_problem(domain, p);

    if (!why)
        why = keys_problem(domain, p);
    if (!why)
        why = route_problem(reg, domain, p);
    if (!why)
        solver_conf(reg, domain, &why, p);
    return why;
}

/* ---- staging ---- */

/* The CA that the staged set is ordered from, if staging can be continued; NULL: start anew, and
 * without the failures that a configuration of before had. */
static apr_status_t staged_ca(const char **purl, md_renew_t *renew, apr_pool_t *p)
{
    md_domain_t *staged;
    md_json_t *json;
    apr_status_t rv;

    *purl = NULL;
    rv = md_store_load_json(&json, renew->reg->store, MD_STORE_STAGING, renew->domain->name,
                            MD_DOMAIN_JSON, &renew->err, p);
    if (md_is_lack(rv))
        return rv;
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, "md[%s]: %s; starting the renewal again", renew->domain->name,
               renew->err.detail);
    md_err_clear(&renew->err);
    if (rv != APR_SUCCESS)
        return APR_SUCCESS;
    staged = md_domain_from_json(json, p);
    if (md_stage_fits(staged, renew->domain, p))
        *purl = staged->ca_url;
    else
        renew->job->errors = 0; /* they were those of another configuration */
    return APR_SUCCESS;
}

const char *md_renew_due_ca(const md_reg_t *reg, const md_domain_t *domain, int errors)
{
    const apr_array_header_t *urls = domain->ca_urls;

    return APR_ARRAY_IDX(urls, errors / reg->conf->retry_failover % urls->nelts, const char *);
}

/* What an earlier version staged at another listed CA goes on there. */
static const char *due_ca(const md_renew_t *renew, const char *staged)
{
    int errors = renew->job->errors;

    if (staged && errors < renew->reg->conf->retry_failover)
        return staged;
    return md_renew_due_ca(renew->reg, renew->domain, errors);
}

/* Failed attempts in a row at the CA in use: the next one is not made to wait for what the last one
 * did. */
static int errors_here(const md_renew_t *renew)
{
    int errors = renew->job->errors, each = renew->reg->conf->retry_failover;

    return renew->domain->ca_urls->nelts > 1 ? (errors - 1) % each + 1 : errors;
}

static apr_status_t prepare_staging(md_renew_t *renew)
{
    md_domain_t staged = *renew->domain;
    const char *staged_at;
    apr_status_t rv;

    rv = staged_ca(&staged_at, renew, renew->tmp);
    if (rv != APR_SUCCESS)
        return rv;
    renew->ca_url = apr_pstrdup(renew->p, due_ca(renew, staged_at));
    if (staged_at && !strcmp(staged_at, renew->ca_url))
        return APR_SUCCESS;
    if (staged_at)
        md_log(MD_LOG_INFO, "md[%s]: no certificate from %s after %d attempts; the "
               "next CA to try is %s", renew->domain->name, staged_at, renew->job->errors,
               renew->ca_url);
    md_stage_reset(renew->reg->store, renew->domain->name, renew->tmp);
    staged.ca_url = renew->ca_url;
    staged.ca_account = NULL;
    return md_store_save_json_volatile(renew->reg->store, MD_STORE_STAGING, renew->domain->name,
                                       MD_DOMAIN_JSON, md_domain_to_json(&staged, renew->tmp),
                                       &renew->err, renew->tmp);
}

/* ---- one run ---- */

/* The ids of the certificates that the new ones take the place of, per key spec: for the CA that
 * issued them. */
static const apr_array_header_t *replaced_certs(const md_renew_t *renew, apr_pool_t *p)
{
    const apr_array_header_t *certs = md_live_of(renew->domain)->obtained;
    apr_array_header_t *ids = apr_array_make(p, 2, sizeof(const char *));
    const md_cert_info_t *cert;
    int i;

    if (!certs || !renew->domain->ari_renewals
        || !md_text_same(renew->domain->ca_url, renew->ca_url))
        return NULL;
    for (i = 0; i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        APR_ARRAY_PUSH(ids, const char *) = cert ? cert->ari_id : NULL;
    }
    return ids;
}

/* For md_solver_conf_t. The answer is called `http-01:example.org`, or has more behind a blank. */
static apr_status_t announce(void *baton, const char *setup, apr_interval_time_t *pwait,
                             md_err_t *err)
{
    md_renew_t *renew = baton;
    md_event_t event = { .kind = MD_EVENT_CHALLENGE_SETUP, .domain = renew->domain->name,
                         .attempt = 1 };
    apr_interval_time_t wait;
    apr_status_t rv;

    event.challenge = apr_pstrndup(renew->tmp, setup, strcspn(setup, " "));
    if (!renew->telling)
        renew->telling = md_event_tell(renew->reg->events, &event, renew->p);
    rv = md_event_step(renew->telling, err);
    wait = md_event_look_at(renew->telling) - md_clock_steady();
    if (APR_STATUS_IS_EAGAIN(rv)) {
        *pwait = wait > 0 ? wait : 1;
        return rv;
    }
    if (APR_STATUS_IS_EINTR(rv))
        md_fail(err, rv, "the server is stopping");
    else
        md_event_record(renew->job, renew->telling, rv == APR_SUCCESS ? NULL : err,
                        md_clock_now());
    renew->telling = NULL;
    return rv;
}

/* For md_solver_conf_t: what the CA will hardly like. What cannot be told is no news in each
 * renewal. */
static void hint(void *baton, int is_missing, const char *text)
{
    md_renew_t *renew = baton;

    md_log(is_missing ? MD_LOG_WARNING : MD_LOG_INFO, "md[%s]: %s", renew->domain->name, text);
    md_job_hint(renew->job, md_clock_now(), text);
    renew->has_progress = 1;
}

/* The commands for TXT records, and the check of what they did. */
static void prepare_records(md_renew_t *renew)
{
    const md_conf_t *own = renew->domain->conf, *conf = renew->reg->conf;
    apr_interval_time_t limit = own && own->dns_01_check != -1 ? own->dns_01_check
                                                               : conf->dns_01_check;
    md_solver_conf_t *solver = &renew->issue.solver;
    md_dns_route_t route = md_renew_dns_route(renew->reg);

    renew->dns = md_renew_dns(renew->reg, renew->domain);
    if (!renew->dns.command)
        return;
    solver->records = md_txt_load(&renew->dns, renew->issue.store, renew->issue.name, renew->p);
    if (limit > 0 && md_dns_library())
        solver->check = md_txt_check_make(&route, solver->records, limit, renew->p);
    solver->hint = hint;
}

static void prepare_issue(md_renew_t *renew, apr_time_t now)
{
    const md_domain_t *domain = renew->domain;
    md_issue_t *issue = &renew->issue;
    const char *problem;

    issue->p = renew->p;
    issue->store = renew->reg->store;
    issue->name = domain->name;
    issue->identifiers = md_identifiers_of(md_names_minimal(domain->names, renew->p), renew->p);
    issue->key_specs = md_domain_key_specs(domain, renew->p);
    issue->must_staple = domain->must_staple;
    issue->replaces = replaced_certs(renew, renew->p);
    issue->profile = domain->profile;
    issue->profile_mandatory = domain->profile_mandatory;
    issue->preferred_chain = domain->preferred_chain;
    issue->wish.ca_url = renew->ca_url;
    issue->wish.contacts = domain->contacts;
    issue->wish.agreement = domain->ca_agreement;
    issue->wish.eab_kid = domain->eab_kid;
    issue->wish.eab_hmac = domain->eab_hmac;
    issue->wish.eab_alg = domain->eab_alg;
    issue->wish.key_spec = renew->reg->conf->account_key;
    issue->wish.id = domain->ca_account;
    issue->solver = solver_conf(renew->reg, domain, &problem, renew->p);
    issue->is_urgent = !renew->reg->is_tool && (md_live_of(domain)->state != MD_STATE_COMPLETE
                                                || !md_renew_time_left(domain, now));
    issue->solver.failed_type = renew->job->failed_challenge;
    prepare_records(renew);
    if (!renew->reg->is_tool)
        issue->solver.announce = announce;
    issue->solver.baton = renew;
    problem = md_renew_problem(renew->reg, domain, renew->tmp);
    if (problem) /* so that nothing is asked of the CA in vain */
        md_fail(&renew->err, APR_EGENERAL, "%s", problem);
}

/* Progress is for status pages and need not be on the disk before we go on (`is_volatile`). */
static apr_status_t keep_job(const md_reg_t *reg, const md_job_t *job, int is_volatile,
                             md_err_t *err, apr_pool_t *tmp)
{
    apr_status_t rv = is_volatile ? md_job_save_volatile(job, reg->store, err, tmp)
                                  : md_job_save(job, reg->store, err, tmp);

    return rv == APR_SUCCESS ? rv : md_fail(err, rv, "cannot save the progress of the renewal: %s",
                                            apr_pstrdup(tmp, err->detail));
}

/* What goes wrong is told once in a run. */
static void save_job(md_renew_t *renew, int is_volatile)
{
    md_err_t err;

    md_err_init(&err, renew->tmp);
    if (renew->reg->is_tool
        || keep_job(renew->reg, renew->job, is_volatile, &err, renew->tmp) == APR_SUCCESS)
        return;
    if (!renew->is_unsaved)
        md_log(MD_LOG_ERR, "md[%s]: %s", renew->domain->name, err.detail);
    renew->is_unsaved = 1;
}

md_renew_t *md_renew_create(const md_reg_t *reg, const md_domain_t *domain, md_job_t *job,
                            const char *why, apr_time_t now, apr_pool_t *p)
{
    md_renew_t *renew = apr_pcalloc(p, sizeof(*renew));

    renew->reg = reg;
    renew->domain = domain;
    renew->job = job;
    renew->p = p;
    apr_pool_create(&renew->tmp, p);
    md_err_init(&renew->err, p);
    job->finished = 0;
    job->next_run = job->retry_after = 0;
    job->last_run = now;
    md_job_log(job, now, "starting", NULL, why);
    if (prepare_staging(renew) == APR_SUCCESS)
        prepare_issue(renew, now);
    /* What could not be kept is not ordered. */
    if (renew->err.rv == APR_SUCCESS && !reg->is_tool)
        (void)keep_job(reg, job, 1, &renew->err, renew->tmp);
    return renew;
}

const char *md_renew_ca_url(const md_renew_t *renew)
{
    return renew->ca_url;
}

void md_renew_use_ca(md_renew_t *renew, md_acme_t *acme, md_acct_use_t *use, apr_hash_t *contacts)
{
    renew->issue.wish.contacts_in_use = contacts;
    renew->issue.acme = acme;
    renew->issue.use = use;
}

apr_time_t md_renew_wake_at(const md_renew_t *renew)
{
    return renew->issue.wake_at;
}

/* The id under which the account in use is stored, or will be; NULL if it is staged right here. */
static const char *account_id(const md_renew_t *renew, const md_acct_t *acct)
{
    const md_store_t *store = renew->reg->store;

    if (acct->id)
        return acct->id;
    if (md_acct_is_staged(acct, store, renew->domain->name, renew->tmp))
        return NULL;
    return md_acct_next_id(store, renew->ca_url, renew->tmp);
}

static apr_status_t save_account(const md_renew_t *renew, const md_acct_t *acct, md_err_t *err)
{
    const char *id = account_id(renew, acct), *name = renew->domain->name;
    const md_store_t *store = renew->reg->store;
    md_domain_t *staged;
    md_json_t *json;
    apr_status_t rv;

    rv = md_store_load_json(&json, store, MD_STORE_STAGING, name, MD_DOMAIN_JSON, err, renew->tmp);
    if (rv != APR_SUCCESS)
        return rv;
    staged = md_domain_from_json(json, renew->tmp);
    staged->ca_account = id;
    return md_store_save_json(store, MD_STORE_STAGING, name, MD_DOMAIN_JSON,
                              md_domain_to_json(staged, renew->tmp), err, renew->tmp);
}

/* The staged set says whose it is, and is on the disk from here on. mod_md up to 2.6 needs to know:
 * where neither an account nor an id is staged and it finds no account that fits, it activates the
 * set with an id that is no text. */
static void note_account(md_renew_t *renew)
{
    const md_acct_t *acct = renew->issue.acct;
    apr_status_t rv;
    md_err_t err;

    if (!acct || acct == renew->acct)
        return;
    renew->acct = acct;
    md_err_init(&err, renew->tmp);
    rv = save_account(renew, acct, &err);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: cannot record which account is in use: %s",
               renew->domain->name, err.detail ? err.detail : "nothing is staged");
}

/* Let the status pages follow. */
static void note_progress(md_renew_t *renew, apr_time_t now)
{
    const char *activity = renew->issue.activity;

    if (activity && (!renew->activity || strcmp(activity, renew->activity))) {
        renew->activity = activity;
        renew->has_progress = 1;
        md_job_log(renew->job, now, "progress", NULL, activity);
        md_job_result(renew->job, activity, NULL, renew->tmp);
    }
    if (!renew->has_progress || now - renew->saved_at < SAVE_INTERVAL)
        return;
    renew->has_progress = 0;
    renew->saved_at = now;
    save_job(renew, 1);
}

/* The latest beginning of validity of the new certificates, or now. */
static apr_time_t begins_at(const md_renew_t *renew, apr_time_t now)
{
    const apr_array_header_t *specs = renew->issue.key_specs;
    const md_cert_info_t *info;
    apr_array_header_t *chain;
    apr_time_t begins = now;
    int i;

    for (i = 0; i < specs->nelts; ++i) {
        if (md_store_load_chain(&chain, NULL, renew->reg->store, MD_STORE_STAGING,
                                renew->domain->name,
                                md_key_spec_file(&APR_ARRAY_IDX(specs, i, md_key_spec_t),
                                                 "pubcert", renew->tmp), NULL, renew->tmp)
            != APR_SUCCESS)
            continue;
        info = md_cert_info(md_chain_leaf(chain), renew->tmp);
        if (info->validity.start > begins)
            begins = info->validity.start;
    }
    return begins;
}

/* When the new set is to be put into service: MDActivationDelay later, but while what is live is
 * valid. Less than 0 is for tests: a first set is ready a second later. */
static apr_time_t ready_at(const md_renew_t *renew, apr_time_t now)
{
    apr_interval_time_t delay = renew->reg->conf->activation_delay;
    apr_interval_time_t left = md_renew_time_left(renew->domain, now);
    apr_time_t begins = begins_at(renew, now);

    if (md_live_of(renew->domain)->state != MD_STATE_COMPLETE || left == 0)
        return delay < 0 ? begins + apr_time_from_sec(1) : begins;
    if (begins + delay > now + left)
        return begins > now + left ? begins : now + left;
    return begins + delay;
}

static void finish(md_renew_t *renew, apr_time_t now)
{
    md_job_t *job = renew->job;

    if (renew->reg->is_tool)
        return;
    job->finished = 1;
    job->errors = 0;
    job->failed_challenge = NULL;
    apr_array_clear(job->hints);
    job->needs_change = 0;
    job->valid_from = ready_at(renew, now);
    md_job_result(job, renew->issue.activity ? renew->issue.activity : "Checking staging", NULL,
                  renew->tmp);
    md_job_log(job, now, "finished", NULL, NULL);
    if (job->valid_from > now)
        job->next_run = job->valid_from;
    save_job(renew, job->valid_from <= now); /* what is told next is saved for sure */
}

/* Where all of a text is that is too long for the log. */
static const char *whole_text(const md_renew_t *renew)
{
    if (renew->reg->is_tool)
        return "";
    return apr_psprintf(renew->tmp, " (the full text is in %s and on the md-status page)",
                        md_store_path(renew->reg->store, MD_STORE_STAGING, renew->domain->name,
                                      "job.json", renew->tmp));
}

static void tell_failure(const md_renew_t *renew)
{
    const char *activity = renew->issue.activity, *text;
    const md_err_t *err = &renew->err;

    text = apr_pstrcat(renew->tmp, err->detail, md_problem_parts(err, renew->tmp), NULL);
    md_log(MD_LOG_ERR, MD_LOGNO(10056) "processing %s: %s%s%s%s%s%s%s%s",
           renew->domain->name, md_text_line(text, MD_MAX_TEXT, renew->tmp),
           strlen(text) > MD_MAX_TEXT ? whole_text(renew) : "",
           activity ? " while[" : "", activity ? activity : "", activity ? "]" : "",
           err->type ? " problem[" : "", err->type ? err->type : "", err->type ? "]" : "");
}

/* The next attempt is made while there is time for another one, and as often as the certificate is
 * renewed; but what is no use, not before that. */
static apr_interval_time_t most_delay(const md_renew_t *renew, apr_time_t now)
{
    apr_interval_time_t most = md_renew_lifetime(renew->domain);
    apr_interval_time_t left = md_renew_time_left(renew->domain, now);

    if (most == 0 || most > MD_BACKOFF_MAX)
        most = MD_BACKOFF_MAX;
    return left > 0 && left / 2 < most && !renew->err.is_lasting ? left / 2 : most;
}

static void record_failure(md_renew_t *renew, apr_time_t now, unsigned char dice)
{
    apr_interval_time_t delay = LACK_DELAY, most = most_delay(renew, now);
    const md_err_t *err = &renew->err;
    md_job_t *job = renew->job;

    /* Who lacked what it takes to ask is no failure of the CA whose turn it is. */
    if (!md_is_lack(err->rv)) {
        if (job->errors < MD_MAX_ERRORS)
            ++job->errors;
        job->failed_challenge = apr_pstrdup(job->p, renew->issue.failed_type);
        job->needs_change = renew->issue.needs_change;
        delay = md_job_backoff(errors_here(renew),
                               err->is_lasting ? most : renew->reg->conf->retry_delay, most, dice);
    }
    job->retry_after = err->retry_after;
    job->next_run = now + delay > err->retry_after ? now + delay : err->retry_after;
    md_job_result(job, renew->issue.activity, err, renew->tmp);
    md_job_log(job, now, "renewal-error", err->type, err->detail);
    save_job(renew, 0);
}

static void fail(md_renew_t *renew, apr_time_t now, unsigned char dice)
{
    const md_job_t *job = renew->job;

    record_failure(renew, now, dice);
    tell_failure(renew);
    if (!renew->reg->is_tool)
        md_log(MD_LOG_INFO, MD_LOGNO(10057) "%s: encountered error for the %d. "
               "time, next run in %s", renew->domain->name, job->errors,
               md_duration_print(job->next_run - now, renew->tmp));
    /* What the CA answers says that its directory is all right, and what fails here has nothing to
     * do with it. */
    if (!renew->err.type && renew->issue.acme
        && (renew->err.scope == MD_SCOPE_CA || renew->err.scope == MD_SCOPE_REQUEST))
        md_acme_forget_directory(renew->issue.acme);
}

void md_renew_overdue(md_renew_t *renew, apr_time_t now, unsigned char dice)
{
    apr_pool_clear(renew->tmp);
    md_fail(&renew->err, APR_TIMEUP, "the CA at %s was asked again and again, but the renewal was "
            "not completed. What has been done so far is kept; the next attempt will continue from "
            "there", renew->ca_url);
    fail(renew, now, dice);
}

void md_renew_give_up(md_renew_t *renew)
{
    md_fail(&renew->err, APR_EAGAIN, "the CA asks not to be contacted before %s; what has been "
            "done so far is kept until then", md_time_http(renew->issue.wake_at, renew->tmp));
    tell_failure(renew);
}

const md_err_t *md_renew_result(const md_renew_t *renew)
{
    return &renew->err;
}

md_step_t md_renew_step(md_renew_t *renew, apr_time_t now, unsigned char dice)
{
    md_step_t step = MD_STEP_FAILED;

    apr_pool_clear(renew->tmp);
    if (renew->err.rv == APR_SUCCESS && !renew->issue.use)
        md_fail(&renew->err, APR_ENOMEM, "no memory to talk to the CA");
    if (renew->err.rv == APR_SUCCESS)
        step = md_issue_step(&renew->issue, now, &renew->err);
    now = md_clock_now(); /* it may have taken long, which is no part of a back-off */
    note_account(renew);
    if (step == MD_STEP_DONE) {
        md_err_clear(&renew->err);
        finish(renew, now);
    }
    else if (step != MD_STEP_FAILED) {
        md_err_clear(&renew->err); /* what went wrong was overcome */
        note_progress(renew, now);
    }
    else if (!APR_STATUS_IS_EINTR(renew->err.rv)) /* not: stopped */
        fail(renew, now, dice);
    return step;
}
