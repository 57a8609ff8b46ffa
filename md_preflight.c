/* SPDX-License-Identifier: Apache-2.0 */
/* The check of a domain: first the DNS, for all names at the same time, and then one connection
 * after the other, as long as there is time. */
#include "md_preflight.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_caa.h"
#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"
#include "md_tls_probe.h"

#define TIME_MOST      apr_time_from_sec(8) /* for all of it; no connection begins after that */
#define DNS_MOST       apr_time_from_sec(6)
#define PROBE_TIME     apr_time_from_sec(3) /* for a connection */
#define NAMES_MOST     100                  /* that are looked up */
#define PROBES_MOST    30                   /* connections */
#define REDIRECTS_MOST 10                   /* as CAs follow them */
#define WELL_KNOWN     "/.well-known/acme-challenge/"

/* A connection that a CA would make. */
typedef struct probe_t {
    const char *name, *address;
    int is_alpn;             /* tls-alpn-01, else http-01 */
} probe_t;

/* A name, and the answers to what was asked about it (NULL: nothing was). */
typedef struct subject_t {
    const char *shown, *name;  /* without `*.` */
    const char *type;          /* challenge type that would be used, NULL: none */
    const char *key_authz;     /* what is set up to be found, NULL: nothing */
    int is_own;                /* by us */
    int reached;               /* at so many addresses */
} subject_t;

struct md_preflight_t {
    const md_reg_t *reg;
    const md_domain_t *domain;
    const md_ca_t *ca;
    md_http_t *http;
    apr_pool_t *p;
    md_solver_conf_t solver;
    md_dns_t *dns;
    apr_array_header_t *subjects; /* subject_t */
    apr_array_header_t *probes;   /* probe_t */
    apr_array_header_t *setups;   /* see md_solver_setup */
    apr_array_header_t *hints;
    int next_probe;
    int has_directory;            /* or tried to get it */
    int is_looked_up;
    apr_time_t began_at;          /* steady */
    char token[40];
};

static subject_t *subject_at(const md_preflight_t *pf, int i)
{
    return &APR_ARRAY_IDX(pf->subjects, i, subject_t);
}

const apr_array_header_t *md_preflight_hints(const md_preflight_t *pf)
{
    return pf->hints;
}

static void hint(md_preflight_t *pf, const char *text)
{
    text = md_text_line(text, MD_MAX_TEXT, pf->p);
    if (pf->hints->nelts < MD_MAX_HINTS && !md_strings_has(pf->hints, text))
        APR_ARRAY_PUSH(pf->hints, const char *) = text;
}

md_preflight_t *md_preflight_create(const md_reg_t *reg, const md_domain_t *domain,
                                    const md_ca_t *ca, const char *failed_type, md_http_t *http,
                                    apr_pool_t *p)
{
    md_preflight_t *pf = apr_pcalloc(p, sizeof(*pf));
    md_dns_route_t route = md_renew_dns_route(reg);
    const apr_array_header_t *ids;
    const md_identifier_t *id;
    unsigned char random[16];
    md_err_t err;
    int i;

    md_err_init(&err, p);
    *pf = (md_preflight_t){ .reg = reg, .domain = domain, .ca = ca, .http = http, .p = p };
    pf->solver = md_renew_solver(reg, domain, p);
    pf->solver.failed_type = failed_type;
    pf->subjects = apr_array_make(p, 8, sizeof(subject_t));
    pf->probes = apr_array_make(p, 8, sizeof(probe_t));
    pf->setups = md_strings_make(p);
    pf->hints = md_strings_make(p);
    pf->began_at = md_clock_steady();
    md_random_bytes(random, sizeof(random));
    apr_snprintf(pf->token, sizeof(pf->token), "%s%s", MD_CHECK_TOKEN,
                 md_base64url_encode(random, sizeof(random), p));
    if (md_dns_create(&pf->dns, &route, &err, p) != APR_SUCCESS)
        hint(pf, apr_pstrcat(p, domain->name, ": nothing was checked: ", err.detail, NULL));
    ids = md_identifiers_of(md_names_minimal(domain->names, p), p);
    for (i = 0; pf->dns && i < ids->nelts && pf->subjects->nelts < NAMES_MOST; ++i) {
        id = &APR_ARRAY_IDX(ids, i, md_identifier_t);
        if (id->type == MD_IDENTIFIER_DNS)
            *(subject_t *)apr_array_push(pf->subjects) = (subject_t){
                .shown = id->value,
                .name = md_dns_name_is_wildcard(id->value) ? id->value + 2 : id->value,
                .type = md_solver_first(&pf->solver, id, p)
            };
    }
    return pf;
}

/* ---- the DNS ---- */

static int is_asked_for_addresses(const subject_t *subject)
{
    return subject->type && strcmp(subject->type, "dns-01") != 0;
}

/* 1: questions are open. */
static int look_up(md_preflight_t *pf)
{
    subject_t *subject;
    int i, is_open = 0;

    for (i = 0; i < pf->subjects->nelts; ++i) {
        subject = subject_at(pf, i);
        is_open |= !md_caa_find(pf->dns, subject->name);
        if (!is_asked_for_addresses(subject))
            continue;
        is_open |= md_dns_ask(pf->dns, subject->name, MD_DNS_A)->state == MD_DNS_OPEN;
        is_open |= md_dns_ask(pf->dns, subject->name, MD_DNS_AAAA)->state == MD_DNS_OPEN;
    }
    return is_open;
}

static void judge_caa(md_preflight_t *pf, const subject_t *subject)
{
    const md_directory_t *dir = pf->ca ? md_acme_directory(pf->ca->acme) : NULL;
    const md_acct_t *acct = pf->ca ? md_acct_use_get(pf->ca->use) : NULL;
    const md_dns_answer_t *answer = md_caa_find(pf->dns, subject->name);
    md_caa_wish_t wish = { .is_wildcard = subject->shown != subject->name,
                           .identities = dir ? dir->caa_identities : NULL,
                           .account = acct ? acct->url : NULL, .method = subject->type };
    const char *why, *cure = "";

    if (!answer || answer->state == MD_DNS_EMPTY || answer->state == MD_DNS_NO_NAME)
        return;
    if (answer->state == MD_DNS_FAILED) {
        hint(pf, apr_psprintf(pf->p, "%s: its CAA records cannot be read: about %s, %s. A CA that "
                              "cannot read them either must not issue. See that the name servers "
                              "of the zone answer questions for CAA", subject->shown,
                              answer->name, answer->why));
        return;
    }
    why = md_caa_objection(answer, &wish, pf->p);
    if (wish.identities && wish.identities->nelts > 0)
        cure = apr_psprintf(pf->p, " (issue \"%s\")",
                            APR_ARRAY_IDX(wish.identities, 0, const char *));
    if (why)
        hint(pf, apr_psprintf(pf->p, "%s: the CAA records of %s forbid the CA %s to issue: %s. Add "
                              "a CAA record for this CA%s, or choose another CA "
                              "(MDCertificateAuthority)", subject->shown, answer->name,
                              pf->ca ? md_acme_url(pf->ca->acme) : "in use", why, cure));
}

static void add_probes(md_preflight_t *pf, const subject_t *subject,
                       const md_dns_answer_t *answer)
{
    probe_t probe = { .name = subject->name, .is_alpn = !strcmp(subject->type, "tls-alpn-01") };
    int i;

    for (i = 0; i < answer->records->nelts && pf->probes->nelts < PROBES_MOST; ++i) {
        probe.address = APR_ARRAY_IDX(answer->records, i, md_dns_record_t).value;
        APR_ARRAY_PUSH(pf->probes, probe_t) = probe;
    }
}

/* Also of an address that a CA never connects to there is nothing to find here. */
static void judge_addresses(md_preflight_t *pf, const subject_t *subject)
{
    const md_dns_answer_t *v4 = md_dns_ask(pf->dns, subject->name, MD_DNS_A);
    const md_dns_answer_t *v6 = md_dns_ask(pf->dns, subject->name, MD_DNS_AAAA);
    const md_dns_answer_t *bad = v4->state == MD_DNS_FAILED ? v4 : v6;

    if (v4->state == MD_DNS_FOUND || v6->state == MD_DNS_FOUND) {
        add_probes(pf, subject, v6);
        add_probes(pf, subject, v4);
    }
    else if (bad->state == MD_DNS_FAILED || bad->state == MD_DNS_OPEN)
        hint(pf, apr_psprintf(pf->p, "%s: its address cannot be found out: %s. See that its name "
                              "servers answer; if this server does not see the public DNS, set "
                              "MDDnsResolver to a resolver that does", subject->name,
                              bad->why ? bad->why : "there was no answer in time"));
    else if (v4->state == MD_DNS_NO_NAME)
        hint(pf, apr_psprintf(pf->p, "%s: this name does not exist in the DNS (NXDOMAIN). Add A or "
                              "AAAA records for it that lead to this server, or remove the name "
                              "from the managed domain", subject->name));
    else
        hint(pf, apr_psprintf(pf->p, "%s: this name has no address in the DNS. Add A or AAAA "
                              "records for it that lead to this server", subject->name));
}

/* What the CA is called in CAA records is in its directory. */
static void get_directory(md_preflight_t *pf)
{
    apr_time_t now = md_clock_now();
    md_err_t err;

    md_err_init(&err, pf->p);
    pf->has_directory = 1;
    if (pf->ca && !md_acme_has_directory(pf->ca->acme) && !md_acme_hold_until(pf->ca->acme, now)
        && md_acme_load_directory(pf->ca->acme, now, &err, pf->p) != APR_SUCCESS)
        md_log(MD_LOG_DEBUG, "md[%s]: CAA records are judged without knowing the CA: %s",
               pf->domain->name, err.detail);
}

static void judge_dns(md_preflight_t *pf)
{
    const subject_t *subject;
    int i;

    for (i = 0; i < pf->subjects->nelts; ++i) {
        subject = subject_at(pf, i);
        judge_caa(pf, subject);
        if (is_asked_for_addresses(subject))
            judge_addresses(pf, subject);
    }
}

/* ---- connections ---- */

static subject_t *subject_of(const md_preflight_t *pf, const probe_t *probe)
{
    int i;

    for (i = 0; i < pf->subjects->nelts; ++i)
        if (!strcmp(subject_at(pf, i)->name, probe->name)
            && is_asked_for_addresses(subject_at(pf, i)))
            return subject_at(pf, i);
    return NULL;
}

/* What is in place for a pending order stays, and is as good. */
static void set_up(md_preflight_t *pf, subject_t *subject)
{
    const md_store_t *store = pf->reg->store;
    md_identifier_t id = md_identifier_of(subject->name, pf->p);
    const char *there, *setup;
    apr_size_t len;
    md_err_t err;

    md_err_init(&err, pf->p);
    if (md_order_has_setups(store, pf->domain->name, pf->p)) {
        if (md_store_load_text(&there, &len, store, MD_STORE_CHALLENGES, subject->name,
                               MD_HTTP01_FILE, MD_MAX_CHALLENGE, NULL, pf->p) == APR_SUCCESS)
            subject->key_authz = there;
        return;
    }
    there = apr_pstrcat(pf->p, pf->token, ".", MD_CHECK_TOKEN, NULL);
    if (md_solver_answer(&setup, &id, subject->type, there, &pf->solver, &err, pf->p)
        != APR_SUCCESS) {
        hint(pf, apr_pstrcat(pf->p, subject->shown, ": ", err.detail, NULL));
        return;
    }
    subject->key_authz = there;
    subject->is_own = 1;
    APR_ARRAY_PUSH(pf->setups, const char *) = setup;
}

void md_preflight_end(md_preflight_t *pf)
{
    int i;

    for (i = 0; i < pf->setups->nelts; ++i)
        md_solver_teardown(pf->reg->store, APR_ARRAY_IDX(pf->setups, i, const char *), pf->p);
    apr_array_clear(pf->setups);
}

static const char *place_of(const probe_t *probe, int port, apr_pool_t *p)
{
    return apr_psprintf(p, strchr(probe->address, ':') ? "[%s]:%d" : "%s:%d", probe->address,
                        port);
}

/* Behind what is wrong at one address while another one is fine. */
static const char *also(const md_preflight_t *pf, const probe_t *probe)
{
    int is_v6 = strchr(probe->address, ':') != NULL;
    const subject_t *subject = subject_of(pf, probe);

    if (is_v6)
        return " CAs prefer IPv6: correct or remove the AAAA record if the address is not that of "
               "this server";
    return subject && subject->reached ? " Other addresses of the name are fine: correct or remove "
                                         "the A record if the address is not that of this server"
                                       : "";
}

static void tell_closed(md_preflight_t *pf, const probe_t *probe, int port, const char *directive,
                        const md_err_t *err)
{
    hint(pf, apr_psprintf(pf->p, "%s: nobody answers at %s: %s. Let the firewall pass connections "
                          "to this port, see that httpd listens there (Listen %d, or %s if "
                          "they arrive at another port), and that the DNS has the right "
                          "address.%s", probe->name, place_of(probe, port, pf->p), err->detail,
                          port, directive, also(pf, probe)));
}

/* Where it leads to; NULL: nowhere. `base` is the URL that was asked for. */
static const char *redirect_of(const md_response_t *response, const char *base, apr_pool_t *p)
{
    const char *to = response->status / 100 == 3 ? apr_table_get(response->headers, "Location")
                                                 : NULL;

    to = to ? md_uri_resolve(base, to, p) : NULL;
    return to && !md_uri_check_http(to, p) ? to : NULL;
}

static apr_status_t get(md_response_t **presponse, const md_preflight_t *pf, const probe_t *probe,
                        const char *url, md_err_t *err)
{
    md_request_t request = { .method = "GET", .url = url, .max_body = MD_MAX_CHALLENGE,
                             .limit = PROBE_TIME, .any_cert = 1 };
    const char *host = md_uri_host(url, pf->p);

    /* Where it is redirected to another host, that one's address is the system's to tell. */
    request.address = host && !strcasecmp(host, probe->name) ? probe->address : NULL;
    return md_http_exchange(presponse, pf->http, &request, err, pf->p);
}

static int is_found(const md_response_t *response, const char *key_authz)
{
    apr_size_t len = strlen(key_authz);

    return response->status == 200 && !strncmp(response->body, key_authz, len)
           && response->body[len + strspn(response->body + len, " \t\r\n")] == '\0';
}

/* A server with this module says so where it has no answer for the host. */
static void tell_other(md_preflight_t *pf, const probe_t *probe, const char *url,
                       const md_response_t *response)
{
    const char *server = apr_table_get(response->headers, "Server");

    if (strstr(response->body, MD_CHECK_TOKEN))
        hint(pf, apr_psprintf(pf->p, "%s: the request for %s arrived at %s as one for another "
                              "host. See that what is in front of this server keeps the Host "
                              "header (ProxyPreserveHost On), and that the vhost with the name "
                              "answers there.%s", probe->name, url, probe->address,
                              also(pf, probe)));
    else
        hint(pf, apr_psprintf(pf->p, "%s: another server answers at %s: %s gives the status %d%s%s "
                              "in place of the answer that is set up here. See that the address "
                              "in the DNS is that of this server, and that what is in front of it "
                              "passes " WELL_KNOWN " on.%s", probe->name, probe->address, url,
                              response->status, server ? ", Server: " : "",
                              server ? server : "", also(pf, probe)));
}

static void probe_http(md_preflight_t *pf, const probe_t *probe, subject_t *subject)
{
    int port = pf->reg->conf->check_http, hops;
    const char *url, *next;
    md_response_t *response;
    md_err_t err;

    md_err_init(&err, pf->p);
    url = apr_psprintf(pf->p, "http://%s%s" WELL_KNOWN "%s", probe->name,
                       port == 80 ? "" : apr_psprintf(pf->p, ":%d", port), pf->token);
    for (hops = 0; hops <= REDIRECTS_MOST; ++hops) {
        if (get(&response, pf, probe, url, &err) != APR_SUCCESS) {
            if (!APR_STATUS_IS_EINTR(err.rv))
                tell_closed(pf, probe, hops == 0 ? port : pf->reg->conf->check_https,
                            "MDPortMap", &err);
            return;
        }
        next = redirect_of(response, url, pf->p);
        if (!next) {
            if (is_found(response, subject->key_authz))
                ++subject->reached;
            else
                tell_other(pf, probe, url, response);
            return;
        }
        url = next;
    }
    hint(pf, apr_psprintf(pf->p, "%s: redirects do not end: after %d of them, %s redirects to %s. "
                          "Exempt " WELL_KNOWN " from the rules that redirect.%s", probe->name,
                          REDIRECTS_MOST, probe->address, md_text_line(url, 300, pf->p),
                          also(pf, probe)));
}

static int is_stopped(void *http)
{
    return md_http_is_stopped(http);
}

static void probe_alpn(md_preflight_t *pf, const probe_t *probe, subject_t *subject)
{
    int port = pf->reg->conf->check_https;
    unsigned char digest[32];
    md_tls_seen_t seen;
    apr_status_t rv;
    md_err_t err;

    md_err_init(&err, pf->p);
    md_sha256(digest, subject->key_authz, strlen(subject->key_authz));
    rv = md_tls_probe(&seen, probe->address, port, probe->name, MD_ALPN_ACME, digest, PROBE_TIME,
                      is_stopped, pf->http, &err, pf->p);
    if (APR_STATUS_IS_EINTR(rv))
        return;
    if (rv != APR_SUCCESS && rv != APR_EGENERAL)
        tell_closed(pf, probe, port, "MDPortMap", &err);
    else if (rv != APR_SUCCESS || !seen.has_protocol)
        hint(pf, apr_psprintf(pf->p, "%s: the server at %s does not offer the protocol "
                              MD_ALPN_ACME ", as tls-alpn-01 needs%s. Add it to the vhost of this "
                              "name (Protocols h2 http/1.1 " MD_ALPN_ACME "), and see that nothing "
                              "in front of this server ends TLS.%s", probe->name,
                              place_of(probe, port, pf->p), rv != APR_SUCCESS
                              ? ": the TLS handshake fails" : "", also(pf, probe)));
    else if (subject->is_own && !seen.has_digest)
        hint(pf, apr_psprintf(pf->p, "%s: another server answers at %s: it offers " MD_ALPN_ACME
                              ", but its certificate is not the answer that is set up here. See "
                              "that the address in the DNS is that of this server.%s",
                              probe->name, place_of(probe, port, pf->p), also(pf, probe)));
    else
        ++subject->reached;
}

/* IPv4 last, as what is wrong there is told with what other addresses did. */
static void connect_next(md_preflight_t *pf)
{
    const probe_t *probe = &APR_ARRAY_IDX(pf->probes, pf->next_probe++, probe_t);
    subject_t *subject = subject_of(pf, probe);

    if (!subject->key_authz)
        set_up(pf, subject);
    if (!subject->key_authz)
        return;
    if (probe->is_alpn)
        probe_alpn(pf, probe, subject);
    else
        probe_http(pf, probe, subject);
}

int md_preflight_step(md_preflight_t *pf, apr_interval_time_t *pwait)
{
    apr_interval_time_t spent = md_clock_steady() - pf->began_at;

    *pwait = 0;
    if (!pf->dns || md_http_is_stopped(pf->http))
        return 0;
    if (!pf->is_looked_up && look_up(pf) && spent < DNS_MOST) {
        (void)md_dns_poll(pf->dns, pwait);
        return 1;
    }
    if (!pf->has_directory) {
        get_directory(pf);
        return 1;
    }
    if (!pf->is_looked_up) {
        pf->is_looked_up = 1;
        judge_dns(pf);
        return 1;
    }
    if (pf->next_probe >= pf->probes->nelts || spent > TIME_MOST)
        return 0;
    connect_next(pf);
    return 1;
}
