/* SPDX-License-Identifier: Apache-2.0 */
/* Which domain belongs to which server, what names servers add, what challenges they can answer. */
#include "mod_md.h"

#include <string.h>
#include <strings.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include <ap_listen.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>

#include "md_acme_authz.h"
#include "md_text.h"

APLOG_USE_MODULE(md);

/* The servers that domains may belong to: the main server if it takes part, then vhosts in the
 * order of the configuration; httpd lists the last one first. */
static apr_array_header_t *servers_of(const md_reg_t *reg, server_rec *main_server,
                                      apr_pool_t *tmp)
{
    apr_array_header_t *servers = apr_array_make(tmp, 16, sizeof(server_rec *));
    server_rec *s, **low, **high;

    for (s = main_server->next; s; s = s->next)
        APR_ARRAY_PUSH(servers, server_rec *) = s;
    if (reg->conf->base_server)
        APR_ARRAY_PUSH(servers, server_rec *) = main_server;
    low = (server_rec **)servers->elts;
    for (high = low + servers->nelts - 1; low < high; ++low, --high) {
        s = *low;
        *low = *high;
        *high = s;
    }
    return servers;
}

/* ---- matching ---- */

typedef struct entry_t {
    const char *name;
    md_domain_t *domain;
} entry_t;

#define ANY_LABEL "" /* all names have it */

static void add_label(apr_hash_t *labels, const char *label, apr_ssize_t len, const entry_t *entry)
{
    apr_array_header_t *entries = apr_hash_get(labels, label, len);

    if (!entries) {
        entries = apr_array_make(apr_hash_pool_get(labels), 1, sizeof(entry_t));
        apr_hash_set(labels, label, len, entries);
    }
    APR_ARRAY_PUSH(entries, entry_t) = *entry;
}

static void add_labels(apr_hash_t *labels, md_domain_t *domain)
{
    entry_t entry = { .domain = domain };
    const char *label;
    size_t len;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        entry.name = APR_ARRAY_IDX(domain->names, i, const char *);
        add_label(labels, ANY_LABEL, 0, &entry);
        for (label = entry.name; *label; label += len + (label[len] == '.')) {
            len = strcspn(label, ".");
            add_label(labels, label, (apr_ssize_t)len, &entry);
        }
    }
}

/* The names of all domains, by label: all that `ServerAlias www.*.org` can match is among those
 * with "www", and among those with "org". */
static apr_hash_t *index_labels(const md_reg_t *reg, apr_pool_t *tmp)
{
    apr_hash_t *labels = apr_hash_make(tmp);
    int i;

    for (i = 0; i < reg->domains->nelts; ++i)
        add_labels(labels, md_reg_domain(reg, i));
    return labels;
}

/* Those with the rarest label of the pattern, in lower case; NULL if there is none. */
static const apr_array_header_t *candidates(apr_hash_t *labels, const char *pattern)
{
    const apr_array_header_t *found, *fewest = apr_hash_get(labels, ANY_LABEL, 0);
    const char *label;
    size_t len;

    for (label = pattern; fewest && *label; label += len + (label[len] == '.')) {
        len = strcspn(label, ".");
        if (strcspn(label, "*?") < len)
            continue;
        found = apr_hash_get(labels, label, (apr_ssize_t)len);
        if (!found || found->nelts < fewest->nelts)
            fewest = found;
    }
    return fewest;
}

/* What is done for one server. */
typedef struct link_t {
    server_rec *s;
    const md_reg_t *reg;
    apr_hash_t *labels; /* made when the first server with a wildcard alias comes */
    apr_hash_t *done;   /* MD name -> the last server assigned */
    apr_pool_t *tmp;
} link_t;

static int server_port(const server_rec *s)
{
    return s->port ? s->port : (s->addrs ? s->addrs->host_port : 0);
}

static const char *server_name(const server_rec *s)
{
    return s->server_hostname ? s->server_hostname : "-";
}

/* Somebody the CA may turn to: whoever runs the first server that the domain is used on. */
static void take_contact(const server_rec *s, md_domain_t *domain)
{
    const md_server_t *server = mod_md_server(s);
    apr_pool_t *p = domain->contacts->pool;
    const char *uri;

    if (domain->contacts->nelts > 0)
        return;
    if (server->conf->contact) {
        uri = md_contact_uri(server->conf->contact, p);
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10044) "%s: added contact %s",
                     domain->name, uri);
    }
    else if (s->server_admin && strcmp(s->server_admin, DEFAULT_ADMIN)) {
        uri = md_contact_uri(s->server_admin, p);
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10237) "%s: added contact %s",
                     domain->name, uri);
    }
    else {
        return;
    }
    APR_ARRAY_PUSH(domain->contacts, const char *) = uri;
}

static void assign(link_t *link, md_domain_t *domain, const char *name)
{
    if (apr_hash_get(link->done, domain->name, APR_HASH_KEY_STRING) == link->s)
        return;
    apr_hash_set(link->done, domain->name, APR_HASH_KEY_STRING, link->s);
    APR_ARRAY_PUSH(mod_md_server(link->s)->domains, md_domain_t *) = domain;
    domain->is_used = 1;
    ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, link->s, APLOGNO(10041)
                 "Server %s:%d matches md %s for domain %s", server_name(link->s),
                 server_port(link->s), domain->name, name);
    take_contact(link->s, domain);
}

static void assign_all(link_t *link, const md_index_entry_t *entry, const char *name)
{
    for (; entry; entry = entry->next)
        assign(link, entry->domain, name);
}

static void assign_matching(link_t *link, const char *alias)
{
    char *pattern = apr_pstrdup(link->tmp, alias);
    const apr_array_header_t *entries;
    const entry_t *entry;
    int i;

    ap_str_tolower(pattern);
    if (!link->labels)
        link->labels = index_labels(link->reg, link->tmp);
    entries = candidates(link->labels, pattern);
    for (i = 0; entries && i < entries->nelts; ++i) {
        entry = &APR_ARRAY_IDX(entries, i, entry_t);
        if (!ap_strcmp_match(entry->name, pattern))
            assign(link, entry->domain, entry->name);
    }
}

/* What httpd tells by ap_matches_request_vhost(), asked from the side of the server. */
static void link_aliases(link_t *link)
{
    const server_rec *s = link->s;
    const server_addr_rec *addr;
    const char *name;
    int i;

    for (addr = s->addrs; addr; addr = addr->next)
        if (addr->virthost && (addr->host_port == 0 || addr->host_port == s->port))
            assign_all(link, md_index_exact(link->reg->index, addr->virthost), addr->virthost);
    for (i = 0; s->names && i < s->names->nelts; ++i) {
        name = APR_ARRAY_IDX(s->names, i, const char *);
        assign_all(link, md_index_exact(link->reg->index, name), name);
    }
    for (i = 0; s->wild_names && i < s->wild_names->nelts; ++i)
        assign_matching(link, APR_ARRAY_IDX(s->wild_names, i, const char *));
}

/* Domains with a wildcard over this ServerName. One over a whole top level domain is none here: it
 * takes part in overlaps only. */
static const md_index_entry_t *wildcards_over(const md_index_t *index, const char *name)
{
    const char *dot = name ? strchr(name, '.') : NULL;

    return dot && strchr(dot + 1, '.') ? md_index_wildcard(index, name) : NULL;
}

/* With MDMatchNames servernames an exact name beats wildcards, and aliases play no role. */
static void link_server(link_t *link)
{
    const char *name = link->s->server_hostname;
    const md_index_entry_t *exact = md_index_exact(link->reg->index, name);
    int by_servername = link->reg->conf->match_names == MD_MATCH_SERVERNAMES;

    assign_all(link, exact, name);
    if (!exact || !by_servername)
        assign_all(link, wildcards_over(link->reg->index, name), name);
    if (!by_servername)
        link_aliases(link);
}

void mod_md_link_servers(md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp)
{
    link_t link = { .reg = reg, .done = apr_hash_make(tmp), .tmp = tmp };
    apr_array_header_t *servers = servers_of(reg, main_server, tmp);
    int i;

    for (i = 0; i < servers->nelts; ++i) {
        link.s = APR_ARRAY_IDX(servers, i, server_rec *);
        link_server(&link);
    }
}

/* ---- TLS servers, by their directives ---- */

typedef struct tls_conf_t {
    int is_said;   /* there is an SSLEngine */
    int is_on;
    int has_certs; /* files of its own */
} tls_conf_t;

/* Note what these directives say; the rest stays as it was inherited. */
static void read_tls_conf(tls_conf_t *conf, const ap_directive_t *directive, apr_pool_t *tmp)
{
    const char *args;

    for (; directive; directive = directive->next) {
        if (!strcasecmp(directive->directive, "SSLCertificateFile"))
            conf->has_certs = 1;
        if (strcasecmp(directive->directive, "SSLEngine"))
            continue;
        args = directive->args;
        conf->is_said = 1;
        /* with `optional` (RFC 2817) mod_ssl does not ask for certificates */
        conf->is_on = !strcasecmp(ap_getword_conf(tmp, &args), "on");
    }
}

/* What httpd takes from its listeners at a start: the first address that one has decides. */
static const char *listener_protocol(const server_rec *s)
{
    const server_addr_rec *addr;
    const ap_listen_rec *lr;

    for (addr = s->addrs; addr; addr = addr->next)
        for (lr = ap_listeners; lr; lr = lr->next)
            if (lr->bind_addr && lr->bind_addr->port == addr->host_port
                && apr_sockaddr_equal(lr->bind_addr, addr->host_addr))
                return lr->protocol;
    return NULL;
}

/* Without SSLEngine, mod_ssl serves what has the protocol https and certificate files. */
static int is_tls(server_rec *s, const tls_conf_t *conf)
{
    const char *protocol;

    if (conf->is_said || !conf->has_certs)
        return conf->is_on;
    protocol = ap_get_server_protocol(s);
    if (!protocol)
        protocol = listener_protocol(s);
    return protocol && !strcasecmp(protocol, "https");
}

static void note_tls_conf(server_rec *s, const tls_conf_t *conf)
{
    md_server_t *server = mod_md_server(s);

    server->is_ssl = is_tls(s, conf);
    server->has_certs = conf->has_certs;
}

static const ap_directive_t *next_vhost(const ap_directive_t *directive)
{
    while (directive && strcasecmp(directive->directive, "<VirtualHost"))
        directive = directive->next;
    return directive;
}

static int is_defined_by(const server_rec *s, const ap_directive_t *directive)
{
    return s->defn_name && s->defn_line_number == (unsigned)directive->line_num
           && !strcmp(s->defn_name, directive->filename);
}

/* One place may define many servers, as a file that is included again: their order tells which
 * is which. A server that does not fit is of a kind we do not know. */
void mod_md_find_tls_servers(const md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp)
{
    const ap_directive_t *vhost = next_vhost(ap_conftree);
    apr_array_header_t *servers = servers_of(reg, main_server, tmp);
    tls_conf_t conf, main_conf = { 0 };
    server_rec *s;
    int i;

    read_tls_conf(&main_conf, ap_conftree, tmp);
    note_tls_conf(main_server, &main_conf);
    for (i = 0; i < servers->nelts && vhost; ++i) {
        s = APR_ARRAY_IDX(servers, i, server_rec *);
        if (!s->is_virtual)
            continue;
        conf = main_conf;
        read_tls_conf(&conf, vhost->first_child, tmp);
        if (is_defined_by(s, vhost))
            note_tls_conf(s, &conf);
        vhost = next_vhost(vhost->next);
    }
}

/* ---- conflicts ---- */

apr_status_t mod_md_check_servers(server_rec *main_server)
{
    const md_server_t *server;
    const server_rec *s;
    apr_status_t rv = APR_SUCCESS;

    for (s = main_server; s; s = s->next) {
        server = mod_md_server(s);
        if (!server->is_ssl || server->domains->nelts <= 1)
            continue;
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, main_server, APLOGNO(10042)
                     "conflict: %d MDs match to SSL VirtualHost %s, there can at most be one.",
                     server->domains->nelts, server_name(s));
        rv = APR_EINVAL;
    }
    return rv;
}

/* ---- names of servers ---- */

/* The domain of an SSL server with just one. */
static md_domain_t *ssl_domain(const server_rec *s)
{
    const md_server_t *server = mod_md_server(s);

    return server->is_ssl && server->domains->nelts == 1
           ? APR_ARRAY_IDX(server->domains, 0, md_domain_t *) : NULL;
}

/* The names of a server that its domain lacks, by this index of names. */
static apr_array_header_t *names_lacking(const server_rec *s, const md_domain_t *domain,
                                         const md_index_t *index, apr_pool_t *p)
{
    apr_array_header_t *lacking = apr_array_make(p, 2, sizeof(const char *));
    const char *name;
    int i;

    if (s->server_hostname && !md_index_has(index, domain, s->server_hostname))
        APR_ARRAY_PUSH(lacking, const char *) = s->server_hostname;
    for (i = 0; s->names && i < s->names->nelts; ++i) {
        name = APR_ARRAY_IDX(s->names, i, const char *);
        if (!md_index_has(index, domain, name))
            APR_ARRAY_PUSH(lacking, const char *) = name;
    }
    return lacking;
}

static int is_made_up(const server_rec *s, const char *name)
{
    return name == s->server_hostname && !mod_md_server(s)->has_name;
}

/* Why one of its names does not become one of the domain; NULL: it does. */
static const char *objection(const server_rec *s, md_domain_t *domain, const char *name)
{
    if (is_made_up(s, name))
        return "httpd made it up, as the vhost has no ServerName";
    return md_domain_objection(domain, name);
}

/* Add those to which there is no objection; returns the others. */
static apr_array_header_t *add_names(const server_rec *s, md_domain_t *domain,
                                     const apr_array_header_t *names, md_index_t *index)
{
    apr_pool_t *p = domain->names->pool;
    apr_array_header_t *left_out = md_strings_make(names->pool);
    const char *name;
    char *lower;
    int i;

    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        if (md_index_has(index, domain, name)) /* an alias given twice */
            continue;
        if (objection(s, domain, name)) {
            APR_ARRAY_PUSH(left_out, const char *) = name;
            continue;
        }
        lower = apr_pstrdup(p, name);
        ap_str_tolower(lower);
        APR_ARRAY_PUSH(domain->names, const char *) = lower;
        md_index_add_name(index, domain, lower);
    }
    return left_out;
}

/* Who tells of names, each once. */
typedef struct teller_t {
    apr_hash_t *told; /* in lower case */
    int left_out;
    apr_pool_t *p;
} teller_t;

static int is_told(teller_t *teller, const char *name)
{
    char *lower = apr_pstrdup(teller->p, name);

    ap_str_tolower(lower);
    if (apr_hash_get(teller->told, lower, APR_HASH_KEY_STRING))
        return 1;
    apr_hash_set(teller->told, lower, APR_HASH_KEY_STRING, "");
    return 0;
}

static void warn_of_lacking(teller_t *teller, const server_rec *s, const md_domain_t *domain,
                            const apr_array_header_t *names)
{
    const char *name;
    int i;

    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        if (is_told(teller, name))
            continue;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, APLOGNO(10040)
                     "Virtual Host %s:%d matches Managed Domain '%s', but the name/alias %s "
                     "itself is not managed. A requested MD certificate will not match ServerName.",
                     server_name(s), server_port(s), domain->name, name);
    }
}

static const char *advice(const server_rec *s, const char *name, apr_pool_t *p)
{
    const char *proper = md_dns_name_proper(name, p);

    if (is_made_up(s, name))
        return "Give the vhost a ServerName";
    return proper ? apr_psprintf(p, "Write %s instead", proper)
                  : "If your CA accepts such a name, add it to the MDomain";
}

static void warn_of_left_out(teller_t *teller, const server_rec *s, md_domain_t *domain,
                             const apr_array_header_t *names)
{
    const char *name, *place;
    int i, level;

    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        if (is_told(teller, name))
            continue;
        level = ++teller->left_out <= MD_TELL_AT_MOST ? APLOG_WARNING : APLOG_INFO;
        place = mod_md_place_of(s, teller->p);
        ap_log_error(APLOG_MARK, level, 0, s, "md[%s]: the name '%s' of the vhost at %s is left "
                     "out of certificates: %s. %s", domain->name, name, place,
                     objection(s, domain, name), advice(s, name, teller->p));
    }
}

static void note_tls(const md_server_t *server)
{
    int i;

    for (i = 0; server->is_ssl && i < server->domains->nelts; ++i)
        APR_ARRAY_IDX(server->domains, i, md_domain_t *)->is_on_tls = 1;
}

void mod_md_adopt_names(md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp)
{
    teller_t teller = { .told = apr_hash_make(tmp), .p = tmp };
    apr_array_header_t *lacking, *servers = servers_of(reg, main_server, tmp);
    md_domain_t *domain;
    server_rec *s;
    int i;

    for (i = 0; i < servers->nelts; ++i) {
        s = APR_ARRAY_IDX(servers, i, server_rec *);
        note_tls(mod_md_server(s));
        domain = ssl_domain(s);
        if (!domain)
            continue;
        lacking = names_lacking(s, domain, reg->index, tmp);
        if (domain->transitive)
            warn_of_left_out(&teller, s, domain, add_names(s, domain, lacking, reg->index));
        else
            warn_of_lacking(&teller, s, domain, lacking);
    }
    if (teller.left_out > MD_TELL_AT_MOST)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server, "%d more vhost names are left out "
                     "of certificates: 'LogLevel md:info' shows them all",
                     teller.left_out - MD_TELL_AT_MOST);
}

const md_domain_t *mod_md_expected_domain(const server_rec *s)
{
    md_process_t *process = mod_md_process();
    const md_domain_t *domain = ssl_domain(s);
    md_domain_t *expected;
    const char *name;
    apr_pool_t *p;

    if (!domain || !domain->transitive)
        return domain;
    p = domain->names->pool;
    expected = apr_hash_get(process->expected, domain->name, APR_HASH_KEY_STRING);
    if (!expected) {
        expected = apr_pmemdup(p, domain, sizeof(*domain));
        expected->names = apr_array_copy(p, domain->names);
        apr_hash_set(process->expected, domain->name, APR_HASH_KEY_STRING, expected);
        (void)md_index_add(process->expected_names, expected, &name);
    }
    (void)add_names(s, expected, names_lacking(s, expected, process->expected_names, p),
                    process->expected_names);
    return expected;
}

/* ---- challenges ---- */

int mod_md_offers_acme_tls(server_rec *s)
{
    return ap_is_allowed_protocol(NULL, NULL, s, MD_ALPN_ACME);
}

/* The servers that a CA would see, for the names of one domain after the other. */
typedef struct finder_t {
    const md_reg_t *reg;
    server_rec *main_server;
    apr_hash_t *labels;  /* made when the first server with a wildcard alias comes */
    md_domain_t *domain;
    int port;            /* only servers with it count; 0: all */
    apr_hash_t *by_name; /* in lower case -> `server_rec *` */
    int is_at_port;      /* some server is; */
    const server_rec *plain;   /* this one, being the first there, keeps it from TLS */
    const server_rec *without; /* a server that counts lacks acme-tls/1 */
    apr_pool_t *tmp;     /* as long as all domains, */
    apr_pool_t *iter;    /* as long as this one */
} finder_t;

/* The first server counts. Without a port, that is the first with acme-tls/1, or else the last of
 * all. `name` in lower case. */
static void add_taker(finder_t *finder, server_rec *s, const char *name)
{
    server_rec *found = apr_hash_get(finder->by_name, name, APR_HASH_KEY_STRING);

    if (!found || (!finder->port && !mod_md_offers_acme_tls(found)))
        apr_hash_set(finder->by_name, name, APR_HASH_KEY_STRING, s);
}

static void add_taker_any_case(finder_t *finder, server_rec *s, const char *name)
{
    char *lower = apr_pstrdup(finder->iter, name);

    ap_str_tolower(lower);
    add_taker(finder, s, lower);
}

/* A wildcard of the domain stands for the ServerNames below it, too. */
static void add_taker_of_wildcard(finder_t *finder, server_rec *s)
{
    const char *dot = s->server_hostname ? strchr(s->server_hostname, '.') : NULL;

    if (dot && dot != s->server_hostname)
        add_taker_any_case(finder, s, apr_pstrcat(finder->iter, "*", dot, NULL));
}

static void add_taker_of_pattern(finder_t *finder, server_rec *s, const char *alias)
{
    char *pattern = apr_pstrdup(finder->iter, alias);
    const apr_array_header_t *entries;
    const entry_t *entry;
    int i;

    ap_str_tolower(pattern);
    if (!finder->labels)
        finder->labels = index_labels(finder->reg, finder->tmp);
    entries = candidates(finder->labels, pattern);
    for (i = 0; entries && i < entries->nelts; ++i) {
        entry = &APR_ARRAY_IDX(entries, i, entry_t);
        if (entry->domain == finder->domain && !ap_strcmp_match(entry->name, pattern))
            add_taker(finder, s, entry->name);
    }
}

/* All for which httpd would select this server. */
static void add_takers(finder_t *finder, server_rec *s)
{
    const server_addr_rec *addr;
    int i;

    if (s->server_hostname)
        add_taker_any_case(finder, s, s->server_hostname);
    add_taker_of_wildcard(finder, s);
    for (i = 0; s->names && i < s->names->nelts; ++i)
        add_taker_any_case(finder, s, APR_ARRAY_IDX(s->names, i, const char *));
    for (addr = s->addrs; addr; addr = addr->next)
        if (addr->virthost && (addr->host_port == 0 || addr->host_port == s->port))
            add_taker_any_case(finder, s, addr->virthost);
    for (i = 0; s->wild_names && i < s->wild_names->nelts; ++i)
        add_taker_of_pattern(finder, s, APR_ARRAY_IDX(s->wild_names, i, const char *));
}

/* Would a CA see its TLS? */
static int counts(finder_t *finder, const server_rec *s)
{
    md_doors_t doors = { NULL, NULL };

    if (finder->port && !mod_md_has_address_on(s, finder->port))
        return 0;
    finder->is_at_port = 1;
    mod_md_find_doors(&doors, s, finder->port, finder->main_server);
    if (doors.tls || !doors.plain)
        return 1;
    finder->plain = doors.plain;
    return 0;
}

static int is_ssl(const server_rec *s)
{
    return mod_md_server(s)->is_ssl;
}

static void add_servers(finder_t *finder, const apr_array_header_t *servers)
{
    server_rec *s;
    int i;

    for (i = 0; servers && i < servers->nelts; ++i) {
        s = APR_ARRAY_IDX(servers, i, server_rec *);
        if (is_ssl(s) && counts(finder, s))
            add_takers(finder, s);
    }
}

static void find_for_name(finder_t *finder, const char *name, server_rec *last_resort)
{
    server_rec *s = apr_hash_get(finder->by_name, name, APR_HASH_KEY_STRING);
    md_domain_t *domain = finder->domain;

    if (!s)
        s = last_resort;
    if (!s)
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, finder->main_server, APLOGNO(10168)
                     "%s: no https server_rec found for %s", domain->name, name);
    else if (!mod_md_offers_acme_tls(s)) {
        finder->without = s;
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, s, APLOGNO(10169)
                     "%s: https server for %s does not have protocol " MD_ALPN_ACME
                     " enabled", domain->name, name);
    }
    else
        APR_ARRAY_PUSH(domain->acme_tls, const char *) = name;
}

static const char *called(const server_rec *s, apr_pool_t *p)
{
    return apr_pstrcat(p, s->is_virtual ? "the vhost at " : "", mod_md_place_of(s, p), NULL);
}

/* Why none of the names has it: what decided. */
static const char *alpn_problem(const finder_t *finder, apr_pool_t *p)
{
    const char *proto = "'" MD_ALPN_ACME "'";

    if (finder->without)
        return apr_psprintf(p, "%s does not speak the protocol %s: add 'Protocols h2 http/1.1 "
                            MD_ALPN_ACME "' there", called(finder->without, p), proto);
    if (finder->plain)
        return apr_psprintf(p, "no https vhost of the domain gets TLS connections: %s, the first "
                            "at its address, lacks 'SSLEngine on'", called(finder->plain, p));
    if (!finder->domain->is_on_tls)
        return "the domain has no https vhost";
    if (!finder->is_at_port)
        return apr_psprintf(p, "no https vhost of the domain is on port 443 (local port %d)",
                            finder->port);
    return "its https vhosts have none of its names";
}

/* For the names of finder->domain, among its servers. */
static void find_acme_tls(finder_t *finder, const apr_array_header_t *servers)
{
    const md_reg_t *reg = finder->reg;
    md_domain_t *domain = finder->domain;
    int is_demanded = domain->ca_challenges && md_strings_has(domain->ca_challenges, "tls-alpn-01");
    server_rec *last_resort = NULL;
    int i;

    apr_array_clear(domain->acme_tls);
    finder->by_name = apr_hash_make(finder->iter);
    finder->port = is_demanded ? 0 : reg->conf->port_https;
    finder->is_at_port = 0;
    finder->plain = finder->without = NULL;
    if (is_demanded || reg->https_reachable) {
        add_servers(finder, servers);
        if (reg->conf->base_server && is_ssl(finder->main_server))
            last_resort = finder->main_server;
    }
    for (i = 0; i < domain->names->nelts; ++i)
        find_for_name(finder, APR_ARRAY_IDX(domain->names, i, const char *), last_resort);
    domain->alpn_problem = domain->acme_tls->nelts ? NULL
                           : alpn_problem(finder, domain->names->pool);
}

/* Plain http reaches whatever server there is at the port; it need not be one of the domain. */
static void find_http01(const finder_t *finder, const apr_array_header_t *servers)
{
    int i, port = finder->reg->conf->port_http;
    md_domain_t *domain = finder->domain;
    md_doors_t doors = { NULL, NULL };

    for (i = 0; port && servers && i < servers->nelts; ++i)
        mod_md_find_doors(&doors, APR_ARRAY_IDX(servers, i, server_rec *), port,
                          finder->main_server);
    if (port && !doors.tls && !doors.plain)
        mod_md_find_doors(&doors, finder->main_server, port, finder->main_server);
    domain->http01_problem = !doors.tls || doors.plain ? NULL
        : apr_psprintf(domain->names->pool, "connections to port 80 (local port %d) are TLS, as %s "
                       "has 'SSLEngine on' there, too: give that port a '<VirtualHost *:%d>' of "
                       "its own, without SSLEngine", port, called(doors.tls, finder->iter), port);
}

static void add_server(apr_hash_t *by_domain, server_rec *s, const md_domain_t *domain)
{
    apr_array_header_t *servers = apr_hash_get(by_domain, domain->name, APR_HASH_KEY_STRING);

    if (!servers) {
        servers = apr_array_make(apr_hash_pool_get(by_domain), 1, sizeof(server_rec *));
        apr_hash_set(by_domain, domain->name, APR_HASH_KEY_STRING, servers);
    }
    APR_ARRAY_PUSH(servers, server_rec *) = s;
}

/* MD name -> its servers, in order. One with TLS may have several domains in a test only. */
static apr_hash_t *servers_by_domain(const apr_array_header_t *all, apr_pool_t *tmp)
{
    apr_hash_t *by_domain = apr_hash_make(tmp);
    const md_server_t *server;
    server_rec *s;
    int i, j;

    for (i = 0; i < all->nelts; ++i) {
        s = APR_ARRAY_IDX(all, i, server_rec *);
        server = mod_md_server(s);
        for (j = 0; j < server->domains->nelts; ++j)
            add_server(by_domain, s, APR_ARRAY_IDX(server->domains, j, md_domain_t *));
    }
    return by_domain;
}

void mod_md_find_answers(md_reg_t *reg, server_rec *main_server, apr_pool_t *tmp)
{
    finder_t finder = { .reg = reg, .main_server = main_server, .tmp = tmp };
    apr_hash_t *by_domain = servers_by_domain(servers_of(reg, main_server, tmp), tmp);
    const apr_array_header_t *servers;
    int i;

    apr_pool_create(&finder.iter, tmp);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(finder.iter);
        finder.domain = md_reg_domain(reg, i);
        servers = apr_hash_get(by_domain, finder.domain->name, APR_HASH_KEY_STRING);
        find_acme_tls(&finder, servers);
        find_http01(&finder, servers);
    }
    apr_pool_destroy(finder.iter);
}
