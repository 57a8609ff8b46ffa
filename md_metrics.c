/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: a row per family, and how its lines are made. */
#include "md_metrics.h"

#include <stdio.h>
#include <string.h>

#include <apr_strings.h>

#include "md_renew.h"
#include "md_text.h"
#include "md_version.h"

#define PIECE 8000 /* bytes that go out together: there are many thousand lines */

typedef enum { SERVER, DOMAIN, CERTIFICATE, STAPLE, CA, ABOUT_COUNT } about_t;
typedef enum { GAUGE, COUNTER, HISTOGRAM, INFO, TYPE_COUNT } type_t;

typedef struct page_t {
    md_out_t *out;
    md_metrics_format_t format;
    const md_reg_t *reg;                      /* or NULL */
    apr_time_t now;
    apr_pool_t *p;
    apr_array_header_t *things[ABOUT_COUNT];  /* server_t, domain_t, ... */
    int has_labels;                           /* the line in work */
    size_t len;
    char piece[PIECE + 1];
} page_t;

/* Metrics of one name, whose lines stand together: those of all things that it is about. */
typedef struct family_t {
    type_t type;
    about_t about;
    const char *name;  /* without the suffix that its type has */
    void (*put)(page_t *page, const struct family_t *family, const void *thing);
    const char *help;
} family_t;

/* What lines tell, gathered before the first one goes out: all is of one moment, and what is spread
 * over memory is looked for once. */

typedef struct labels_t {
    const char *text;  /* `{name="value"`, or several */
    size_t len;
} labels_t;

typedef struct server_t {
    int domains, has_store;
    md_load_t loads[MD_LOAD_COUNT];
} server_t;

typedef struct domain_t {
    labels_t labels;
    const char *state, *phase;  /* phase NULL: there is nothing to do */
    apr_time_t next;            /* renewal or attempt, 0: none is planned */
    int errors;
    int number;
} domain_t;

typedef struct certificate_t {
    labels_t labels;
    const char *state;
    md_window_t validity;       /* zero: it is missing */
} certificate_t;

typedef struct staple_t {
    labels_t labels;
    const char *status;
    apr_time_t from, until;     /* 0: there is no response */
    apr_uint64_t failures;
} staple_t;

typedef struct ca_t {
    labels_t labels;
    md_meter_t meter;
} ca_t;

/* ---- gathering ---- */

/* In both formats a line ends at a newline, and a value at a quote. */
static const char *escaped(const char *text, apr_pool_t *p)
{
    const char *from = md_text_line(text, MD_MAX_URI, p);
    char *copy = apr_palloc(p, 2 * strlen(from) + 1), *to = copy;

    for (; *from; ++from) {
        if (*from == '"' || *from == '\\')
            *to++ = '\\';
        *to++ = *from;
    }
    *to = '\0';
    return copy;
}

/* Most need no care. */
static const char *value_of(const char *text, apr_pool_t *p)
{
    const char *end = text;

    while (*end >= ' ' && *end <= '~' && *end != '"' && *end != '\\')
        ++end;
    return *end ? escaped(text, p) : text;
}

/* One label, and a second one if it has a name. */
static labels_t labels_of(const char *name, const char *value, const char *second,
                          const char *second_value, apr_pool_t *p)
{
    labels_t labels;

    if (second)
        labels.text = apr_pstrcat(p, "{", name, "=\"", value_of(value, p), "\",", second, "=\"",
                                  value_of(second_value, p), "\"", NULL);
    else
        labels.text = apr_pstrcat(p, "{", name, "=\"", value_of(value, p), "\"", NULL);
    labels.len = strlen(labels.text);
    return labels;
}

static void gather_server(page_t *page)
{
    server_t *server = apr_array_push(page->things[SERVER]);
    const md_reg_t *reg = page->reg;
    md_load_t *load;
    int i;

    memset(server, 0, sizeof(*server));
    server->domains = reg ? reg->domains->nelts : 0;
    server->has_store = !reg || !reg->store_problem;
    for (i = 0; i < MD_LOAD_COUNT; ++i) {
        load = reg ? md_tally_load(reg->tally, i) : NULL;
        if (load)
            server->loads[i] = md_load_read(load);
    }
}

static const char *state_of(const md_live_t *live)
{
    switch (live->state) {
    case MD_STATE_INCOMPLETE:
        return "incomplete";
    case MD_STATE_COMPLETE:
        return "complete";
    case MD_STATE_ERROR:
        return "error";
    case MD_STATE_MISSING_INFORMATION:
        return "missing-information";
    default:
        return "unknown";
    }
}

static const char *phase_of(const md_board_row_t *row)
{
    switch (row->phase) {
    case MD_PHASE_WAITING:
        return "waiting";
    case MD_PHASE_RUNNING:
        return "running";
    case MD_PHASE_READY:
        return "ready";
    default:
        return NULL;
    }
}

/* The next attempt, or before the first one the moment that the engine noted; until it has looked,
 * what the windows say. */
static apr_time_t next_of(const page_t *page, const md_domain_t *domain, const md_board_row_t *row)
{
    if (!md_renew_is_wanted(domain))
        return 0;
    switch (row->phase) {
    case MD_PHASE_WAITING:
        return row->next_run;
    case MD_PHASE_QUIET:
        return row->renew_at;
    case MD_PHASE_UNKNOWN:
        return md_renew_when(page->reg, domain, NULL, page->now).at;
    default:
        return 0;
    }
}

static void gather_domain(page_t *page, const md_domain_t *domain)
{
    domain_t *one = apr_array_push(page->things[DOMAIN]);
    md_board_row_t row = { .phase = MD_PHASE_UNKNOWN };

    if (page->reg->board)
        (void)md_board_read(&row, page->reg->board, domain->number);
    one->labels = labels_of("domain", domain->name, NULL, NULL, page->p);
    one->state = state_of(md_live_of(domain));
    one->phase = phase_of(&row);
    one->next = next_of(page, domain, &row);
    one->errors = row.errors > 0 ? row.errors : 0;
    one->number = domain->number;
}

static int is_revoked(const md_staples_t *staples, const md_domain_t *domain,
                      const md_cert_info_t *cert)
{
    const md_stapled_t *stapled = md_staples_find(staples, domain->name, cert->fingerprint);
    md_staple_t staple;

    return stapled && md_staples_look(&staple, staples, stapled)
           && staple.status == MD_OCSP_REVOKED;
}

static const char *cert_state(const page_t *page, const md_domain_t *domain,
                              const md_cert_info_t *cert, int fits)
{
    if (!cert)
        return "missing";
    if (!fits)
        return "unusable";
    if (is_revoked(page->reg->staples, domain, cert))
        return "revoked";
    if (cert->validity.end <= page->now)
        return "expired";
    return cert->validity.start > page->now ? "not-yet-valid" : "valid";
}

static void gather_certs(page_t *page, const md_domain_t *domain)
{
    const md_live_t *live = md_live_of(domain);
    const md_cert_info_t *cert;
    certificate_t *one;
    int i;

    for (i = 0; live->certs && i < live->certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(live->certs, i, const md_cert_info_t *);
        one = apr_array_push(page->things[CERTIFICATE]);
        one->labels = labels_of("domain", domain->name, "certificate",
                                md_domain_cert_label(domain, i, page->p), page->p);
        one->state = cert_state(page, domain, cert, live->fits[i]);
        one->validity = cert ? cert->validity : (md_window_t){ 0, 0 };
    }
}

/* As pages call the certificate; what no domain has in service, by its fingerprint. */
static const char *stapled_label(const md_stapled_t *stapled, apr_pool_t *p)
{
    const apr_array_header_t *certs = stapled->domain ? md_live_of(stapled->domain)->certs : NULL;
    const md_cert_info_t *cert;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (cert && !strcmp(cert->fingerprint, stapled->ocsp->sha256))
            return md_domain_cert_label(stapled->domain, i, p);
    }
    return stapled->ocsp->sha1;
}

static void gather_staple(page_t *page, const md_stapled_t *stapled)
{
    staple_t *one = apr_array_push(page->things[STAPLE]);
    md_staple_t staple;

    memset(one, 0, sizeof(*one));
    one->labels = labels_of("domain", stapled->name, "certificate",
                            stapled_label(stapled, page->p), page->p);
    one->status = "unknown";
    one->failures = md_staples_failures(page->reg->staples, stapled);
    if (md_staples_look(&staple, page->reg->staples, stapled)) {
        one->status = md_staple_status(&staple);
        one->from = staple.from;
        one->until = staple.until;
    }
}

static void gather_cas(page_t *page)
{
    md_tally_t *tally = page->reg->tally;
    const char *name;
    ca_t *one;
    int i;

    for (i = 0; (name = md_tally_ca(tally, i)) != NULL; ++i) {
        one = apr_array_push(page->things[CA]);
        one->labels = labels_of("ca", name, NULL, NULL, page->p);
        one->meter = md_meter_read(md_tally_meter(tally, name));
    }
}

static void gather(page_t *page)
{
    const md_reg_t *reg = page->reg;
    int i, domains = reg ? reg->domains->nelts : 0;
    int staples = reg && reg->staples ? md_staples_count(reg->staples) : 0;

    page->things[SERVER] = apr_array_make(page->p, 1, sizeof(server_t));
    page->things[DOMAIN] = apr_array_make(page->p, domains, sizeof(domain_t));
    page->things[CERTIFICATE] = apr_array_make(page->p, domains, sizeof(certificate_t));
    page->things[STAPLE] = apr_array_make(page->p, staples, sizeof(staple_t));
    page->things[CA] = apr_array_make(page->p, 2, sizeof(ca_t));
    gather_server(page);
    for (i = 0; i < domains; ++i) {
        gather_domain(page, md_reg_domain(reg, i));
        gather_certs(page, md_reg_domain(reg, i));
    }
    for (i = 0; i < staples; ++i)
        gather_staple(page, md_staples_at(reg->staples, i));
    if (reg)
        gather_cas(page);
}

/* ---- lines ---- */

static void send_piece(page_t *page)
{
    page->piece[page->len] = '\0';
    if (page->len > 0)
        md_out_put(page->out, page->piece);
    page->len = 0;
}

static void put_bytes(page_t *page, const char *text, size_t len)
{
    size_t fits;

    while (len > 0) {
        fits = PIECE - page->len < len ? PIECE - page->len : len;
        memcpy(page->piece + page->len, text, fits);
        page->len += fits;
        text += fits;
        len -= fits;
        if (page->len == PIECE)
            send_piece(page);
    }
}

static void put_text(page_t *page, const char *text)
{
    put_bytes(page, text, strlen(text));
}

/* A line is begun, may have one more label, and has a number in the end. */
static void begin(page_t *page, const family_t *family, const char *suffix, const labels_t *labels)
{
    put_text(page, family->name);
    put_text(page, suffix);
    page->has_labels = labels != NULL;
    if (labels)
        put_bytes(page, labels->text, labels->len);
}

/* The value is one of ours. */
static void label(page_t *page, const char *name, const char *value)
{
    put_text(page, page->has_labels ? "," : "{");
    page->has_labels = 1;
    put_text(page, name);
    put_text(page, "=\"");
    put_text(page, value);
    put_text(page, "\"");
}

static void end(page_t *page, const char *number)
{
    put_text(page, page->has_labels ? "} " : " ");
    put_text(page, number);
    put_text(page, "\n");
}

static void end_count(page_t *page, apr_uint64_t count)
{
    char digits[24], *first = digits + sizeof(digits) - 1;

    *first = '\0';
    do
        *--first = (char)('0' + count % 10);
    while (count /= 10);
    end(page, first);
}

/* A line with Unix time; none for 0. */
static void put_time(page_t *page, const family_t *family, const labels_t *labels, apr_time_t time)
{
    if (!time)
        return;
    begin(page, family, "", labels);
    end_count(page, time > 0 ? (apr_uint64_t)apr_time_sec(time) : 0);
}

/* One that tells what something is. */
static void put_what(page_t *page, const family_t *family, const labels_t *labels,
                     const char *name, const char *value)
{
    if (!value)
        return;
    begin(page, family, "", labels);
    label(page, name, value);
    end(page, "1");
}

static void end_seconds(page_t *page, apr_uint64_t microseconds)
{
    char number[40];

    snprintf(number, sizeof(number), "%llu.%06llu", (unsigned long long)microseconds / 1000000,
             (unsigned long long)microseconds % 1000000);
    end(page, number);
}

/* ---- the server ---- */

static void put_build(page_t *page, const family_t *family, const void *thing)
{
    (void)thing;
    begin(page, family, "_info", NULL);
    label(page, "version", MD_VERSION);
    end(page, "1");
}

static void put_domains(page_t *page, const family_t *family, const void *thing)
{
    const server_t *server = thing;

    begin(page, family, "", NULL);
    end_count(page, (apr_uint64_t)server->domains);
}

static void put_store(page_t *page, const family_t *family, const void *thing)
{
    const server_t *server = thing;

    begin(page, family, "", NULL);
    end(page, server->has_store ? "1" : "0");
}

static const char *const KINDS_OF_WORK[] = {
    [MD_LOAD_RENEWALS] = "renewal",
    [MD_LOAD_STAPLES]  = "staple",
};
_Static_assert(sizeof(KINDS_OF_WORK) / sizeof(KINDS_OF_WORK[0]) == MD_LOAD_COUNT, "all of them");

static void put_in_flight(page_t *page, const family_t *family, const void *thing)
{
    const server_t *server = thing;
    int i;

    for (i = 0; i < MD_LOAD_COUNT; ++i) {
        begin(page, family, "", NULL);
        label(page, "kind", KINDS_OF_WORK[i]);
        end_count(page, server->loads[i].in_flight);
    }
}

static void put_waiting(page_t *page, const family_t *family, const void *thing)
{
    const server_t *server = thing;
    int i;

    for (i = 0; i < MD_LOAD_COUNT; ++i) {
        begin(page, family, "", NULL);
        label(page, "kind", KINDS_OF_WORK[i]);
        end_count(page, server->loads[i].waiting);
    }
}

/* ---- domains ---- */

static void put_state(page_t *page, const family_t *family, const void *thing)
{
    const domain_t *domain = thing;

    put_what(page, family, &domain->labels, "state", domain->state);
}

static void put_phase(page_t *page, const family_t *family, const void *thing)
{
    const domain_t *domain = thing;

    put_what(page, family, &domain->labels, "phase", domain->phase);
}

static void put_next(page_t *page, const family_t *family, const void *thing)
{
    const domain_t *domain = thing;

    put_time(page, family, &domain->labels, domain->next);
}

static void put_in_a_row(page_t *page, const family_t *family, const void *thing)
{
    const domain_t *domain = thing;

    begin(page, family, "", &domain->labels);
    end_count(page, (apr_uint64_t)domain->errors);
}

static void put_renewed(page_t *page, const family_t *family, const void *thing)
{
    const domain_t *domain = thing;

    begin(page, family, "_total", &domain->labels);
    end_count(page, md_tally_runs(page->reg->tally, domain->number).renewed);
}

/* Most domains never have most problems: only those that it had. */
static void put_failed(page_t *page, const family_t *family, const void *thing)
{
    const domain_t *domain = thing;
    md_runs_t runs = md_tally_runs(page->reg->tally, domain->number);
    int i;

    for (i = 0; i < MD_TALLY_PROBLEMS; ++i) {
        if (!runs.failed[i])
            continue;
        begin(page, family, "_total", &domain->labels);
        label(page, "problem", md_tally_problem(i));
        end_count(page, runs.failed[i]);
    }
}

/* ---- certificates ---- */

static void put_cert_state(page_t *page, const family_t *family, const void *thing)
{
    const certificate_t *cert = thing;

    put_what(page, family, &cert->labels, "state", cert->state);
}

static void put_not_after(page_t *page, const family_t *family, const void *thing)
{
    const certificate_t *cert = thing;

    put_time(page, family, &cert->labels, cert->validity.end);
}

static void put_not_before(page_t *page, const family_t *family, const void *thing)
{
    const certificate_t *cert = thing;

    put_time(page, family, &cert->labels, cert->validity.start);
}

/* ---- responses that are stapled ---- */

static void put_staple_status(page_t *page, const family_t *family, const void *thing)
{
    const staple_t *staple = thing;

    put_what(page, family, &staple->labels, "status", staple->status);
}

static void put_this_update(page_t *page, const family_t *family, const void *thing)
{
    const staple_t *staple = thing;

    put_time(page, family, &staple->labels, staple->from);
}

static void put_next_update(page_t *page, const family_t *family, const void *thing)
{
    const staple_t *staple = thing;

    put_time(page, family, &staple->labels, staple->until);
}

static void put_staple_failures(page_t *page, const family_t *family, const void *thing)
{
    const staple_t *staple = thing;

    begin(page, family, "_total", &staple->labels);
    end_count(page, staple->failures);
}

/* ---- CAs ---- */

static void put_requests(page_t *page, const family_t *family, const void *thing)
{
    static const char *const CODES[] = {
        [MD_ANSWER_2XX]  = "2xx",
        [MD_ANSWER_3XX]  = "3xx",
        [MD_ANSWER_4XX]  = "4xx",
        [MD_ANSWER_5XX]  = "5xx",
        [MD_ANSWER_NONE] = "none",
    };
    const ca_t *ca = thing;
    int i;

    _Static_assert(sizeof(CODES) / sizeof(CODES[0]) == MD_ANSWER_COUNT, "all of them");
    for (i = 0; i < MD_ANSWER_COUNT; ++i) {
        begin(page, family, "_total", &ca->labels);
        label(page, "code", CODES[i]);
        end_count(page, ca->meter.answers[i]);
    }
}

/* The count is what the buckets add up to, even while somebody counts. */
static void put_latency(page_t *page, const family_t *family, const void *thing)
{
    static const char *const BOUNDS[] = { MD_METER_BOUND_TEXTS, "+Inf" };
    const ca_t *ca = thing;
    apr_uint64_t count = 0;
    int i;

    _Static_assert(sizeof(BOUNDS) / sizeof(BOUNDS[0]) == MD_METER_BOUNDS + 1, "all of them");
    for (i = 0; i <= MD_METER_BOUNDS; ++i) {
        count += ca->meter.took_up_to[i];
        begin(page, family, "_bucket", &ca->labels);
        label(page, "le", BOUNDS[i]);
        end_count(page, count);
    }
    begin(page, family, "_sum", &ca->labels);
    end_seconds(page, ca->meter.took);
    begin(page, family, "_count", &ca->labels);
    end_count(page, count);
}

static const char *const HELD[] = {
    [MD_HOLD_REQUESTS] = "requests",
    [MD_HOLD_ORDERS]   = "orders",
};
_Static_assert(sizeof(HELD) / sizeof(HELD[0]) == MD_HOLD_COUNT, "all of them");

static void put_holds(page_t *page, const family_t *family, const void *thing)
{
    const ca_t *ca = thing;
    int i;

    for (i = 0; i < MD_HOLD_COUNT; ++i) {
        begin(page, family, "_total", &ca->labels);
        label(page, "held", HELD[i]);
        end_count(page, ca->meter.holds[i]);
    }
}

static void put_held_until(page_t *page, const family_t *family, const void *thing)
{
    const ca_t *ca = thing;
    apr_time_t until;
    int i;

    for (i = 0; i < MD_HOLD_COUNT; ++i) {
        until = (apr_time_t)ca->meter.held_until[i];
        if (until <= page->now)
            continue;
        begin(page, family, "", &ca->labels);
        label(page, "held", HELD[i]);
        end_count(page, (apr_uint64_t)apr_time_sec(until));
    }
}

/* ---- all of them ---- */

static const family_t FAMILIES[] = {
    { INFO, SERVER, "mod_md_build", put_build, "The version of mod_md." },
    { GAUGE, SERVER, "mod_md_domains", put_domains, "Managed domains." },
    { GAUGE, SERVER, "mod_md_store_usable", put_store,
      "0 if nothing can be renewed, as the last start could not use the store." },
    { GAUGE, SERVER, "mod_md_work_in_flight", put_in_flight,
      "Renewals, and refreshes of OCSP responses, that have begun and are not finished." },
    { GAUGE, SERVER, "mod_md_work_waiting", put_waiting,
      "Renewals, and refreshes of OCSP responses, that are due and wait for their turn." },
    { GAUGE, DOMAIN, "mod_md_domain_state", put_state,
      "The state of the domain, as in md-status." },
    { GAUGE, DOMAIN, "mod_md_renewal_phase", put_phase,
      "A renewal that is running, waiting for its next attempt, or ready for a reload." },
    { GAUGE, DOMAIN, "mod_md_renewal_next_timestamp_seconds", put_next,
      "When the next renewal, or after a failure the next attempt, is planned." },
    { GAUGE, DOMAIN, "mod_md_renewal_consecutive_failures", put_in_a_row,
      "Failed attempts since the last success." },
    { COUNTER, DOMAIN, "mod_md_renewals", put_renewed,
      "New sets of certificates that were obtained." },
    { COUNTER, DOMAIN, "mod_md_renewal_failures", put_failed, "Attempts that failed, by problem." },
    { GAUGE, CERTIFICATE, "mod_md_certificate_state", put_cert_state,
      "The state of the certificate." },
    { GAUGE, CERTIFICATE, "mod_md_certificate_not_after_timestamp_seconds", put_not_after,
      "When the certificate in service expires." },
    { GAUGE, CERTIFICATE, "mod_md_certificate_not_before_timestamp_seconds", put_not_before,
      "When the validity of the certificate in service begins." },
    { GAUGE, STAPLE, "mod_md_staple_status", put_staple_status,
      "What the OCSP response says about the certificate." },
    { GAUGE, STAPLE, "mod_md_staple_this_update_timestamp_seconds", put_this_update,
      "When the OCSP response was made." },
    { GAUGE, STAPLE, "mod_md_staple_next_update_timestamp_seconds", put_next_update,
      "When the OCSP response expires." },
    { COUNTER, STAPLE, "mod_md_staple_failures", put_staple_failures,
      "Attempts to get an OCSP response that failed." },
    { COUNTER, CA, "mod_md_ca_requests", put_requests,
      "Requests to the CA, by class of HTTP status." },
    { HISTOGRAM, CA, "mod_md_ca_request_duration_seconds", put_latency,
      "How long the CA took to answer." },
    { COUNTER, CA, "mod_md_ca_holds", put_holds,
      "How often requests to the CA, or orders of an account there, were suspended for a while." },
    { GAUGE, CA, "mod_md_ca_held_until_timestamp_seconds", put_held_until,
      "Until when requests to the CA, or orders of an account there, are suspended." },
};

/* In OpenMetrics a counter is called without the suffix that its lines have, and there is a type
 * for what is always 1. */
static void put_head(page_t *page, const family_t *family)
{
    static const struct { const char *type[2], *suffix[2]; } TYPES[] = {
        [GAUGE]     = { { "gauge", "gauge" }, { "", "" } },
        [COUNTER]   = { { "counter", "counter" }, { "_total", "" } },
        [HISTOGRAM] = { { "histogram", "histogram" }, { "", "" } },
        [INFO]      = { { "gauge", "info" }, { "_info", "" } },
    };
    const char *suffix = TYPES[family->type].suffix[page->format];

    _Static_assert(sizeof(TYPES) / sizeof(TYPES[0]) == TYPE_COUNT, "all of them");
    put_text(page, "# HELP ");
    begin(page, family, suffix, NULL);
    put_text(page, " ");
    put_text(page, family->help);
    put_text(page, "\n# TYPE ");
    begin(page, family, suffix, NULL);
    put_text(page, " ");
    put_text(page, TYPES[family->type].type[page->format]);
    put_text(page, "\n");
}

static void put_family(page_t *page, const family_t *family)
{
    const apr_array_header_t *things = page->things[family->about];
    int i;

    put_head(page, family);
    for (i = 0; i < things->nelts && page->out->rv == APR_SUCCESS; ++i)
        family->put(page, family, things->elts + i * things->elt_size);
}

void md_metrics_write(md_out_t *out, md_metrics_format_t format, const md_reg_t *reg,
                      apr_time_t now, apr_pool_t *p)
{
    page_t *page = apr_pcalloc(p, sizeof(*page));
    size_t i;

    page->out = out;
    page->format = format;
    page->reg = reg;
    page->now = now;
    apr_pool_create(&page->p, p);
    gather(page);
    for (i = 0; i < sizeof(FAMILIES) / sizeof(FAMILIES[0]); ++i)
        put_family(page, &FAMILIES[i]);
    if (format == MD_METRICS_OPEN)
        put_text(page, "# EOF\n");
    send_piece(page);
    apr_pool_destroy(page->p);
}
