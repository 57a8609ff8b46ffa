/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics: a row per family, and how its lines are made. */
#include "md_metrics.h"

#include <stdio.h>
#include <string.h>

#include <apr_strings.h>

#include "md_renew.h"
#include "md_text.h"
#include "md_version.h"

#define PREFIX "mod_md_"
#define PIECE  8000 /* bytes that go out together: there are hundreds of thousands of lines */

typedef struct page_t {
    md_out_t *out;
    md_metrics_format_t format;
    const md_reg_t *reg;      /* or NULL */
    apr_time_t now;
    apr_pool_t *p;            /* cleared for each domain */
    int labels;               /* of the line in work, so far */
    size_t len;
    char piece[PIECE + 1];
} page_t;

/* What lines are about; what does not apply is NULL. */
typedef struct subject_t {
    const md_domain_t *domain;
    int number;                  /* of the certificate, */
    const md_cert_info_t *cert;  /* which may be missing */
    const md_stapled_t *stapled;
    const char *ca;
} subject_t;

typedef enum { GAUGE, COUNTER, HISTOGRAM, INFO, TYPE_COUNT } type_t;
typedef enum { SERVER, DOMAIN, CERTIFICATE, STAPLE, CA, ABOUT_COUNT } about_t;

/* Metrics of one name, which stand together. */
typedef struct family_t {
    type_t type;
    about_t about;
    const char *name;            /* without prefix and the suffix that its type has */
    void (*put)(page_t *page, const struct family_t *family, const subject_t *subject);
    const char *help;
} family_t;

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

/* How many bytes there are that need no care. */
static size_t plain_len(const char *text)
{
    const char *end = text;

    while (*end >= ' ' && *end <= '~' && *end != '"' && *end != '\\')
        ++end;
    return (size_t)(end - text);
}

static void put_with_care(page_t *page, const char *text)
{
    const char *s;

    for (s = md_text_line(text, MD_MAX_URI, page->p); *s; ++s) {
        if (*s == '"' || *s == '\\')
            put_bytes(page, "\\", 1);
        put_bytes(page, s, 1);
    }
}

/* In both formats a line ends at a newline, and a value at a quote. Most names need no care. */
static void put_value(page_t *page, const char *text)
{
    size_t len = plain_len(text);

    if (text[len])
        put_with_care(page, text);
    else
        put_bytes(page, text, len);
}

/* A line is begun, has labels, and a number in the end. */
static void begin(page_t *page, const family_t *family, const char *suffix)
{
    put_text(page, PREFIX);
    put_text(page, family->name);
    put_text(page, suffix);
    page->labels = 0;
}

static void label(page_t *page, const char *name, const char *value)
{
    put_text(page, page->labels++ ? "," : "{");
    put_text(page, name);
    put_text(page, "=\"");
    put_value(page, value);
    put_text(page, "\"");
}

static void end(page_t *page, const char *number)
{
    put_text(page, page->labels ? "} " : " ");
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

/* Unix time. */
static void end_time(page_t *page, apr_time_t time)
{
    end_count(page, time > 0 ? (apr_uint64_t)apr_time_sec(time) : 0);
}

static void end_seconds(page_t *page, apr_uint64_t microseconds)
{
    char number[40];

    snprintf(number, sizeof(number), "%llu.%06llu", (unsigned long long)microseconds / 1000000,
             (unsigned long long)microseconds % 1000000);
    end(page, number);
}

/* ---- the server ---- */

static void put_build(page_t *page, const family_t *family, const subject_t *subject)
{
    (void)subject;
    begin(page, family, "_info");
    label(page, "version", MD_VERSION);
    end(page, "1");
}

static void put_domains(page_t *page, const family_t *family, const subject_t *subject)
{
    (void)subject;
    begin(page, family, "");
    end_count(page, page->reg ? (apr_uint64_t)page->reg->domains->nelts : 0);
}

static void put_store(page_t *page, const family_t *family, const subject_t *subject)
{
    (void)subject;
    begin(page, family, "");
    end(page, page->reg && page->reg->store_problem ? "0" : "1");
}

static md_load_t load_of(const page_t *page, md_load_kind_t kind)
{
    md_load_t *load = page->reg ? md_tally_load(page->reg->tally, kind) : NULL;

    return load ? md_load_read(load) : (md_load_t){ 0, 0 };
}

static const char *const KINDS_OF_WORK[] = {
    [MD_LOAD_RENEWALS] = "renewal",
    [MD_LOAD_STAPLES]  = "staple",
};
_Static_assert(sizeof(KINDS_OF_WORK) / sizeof(KINDS_OF_WORK[0]) == MD_LOAD_COUNT, "all of them");

static void put_in_flight(page_t *page, const family_t *family, const subject_t *subject)
{
    int i;

    (void)subject;
    for (i = 0; i < MD_LOAD_COUNT; ++i) {
        begin(page, family, "");
        label(page, "kind", KINDS_OF_WORK[i]);
        end_count(page, load_of(page, i).in_flight);
    }
}

static void put_waiting(page_t *page, const family_t *family, const subject_t *subject)
{
    int i;

    (void)subject;
    for (i = 0; i < MD_LOAD_COUNT; ++i) {
        begin(page, family, "");
        label(page, "kind", KINDS_OF_WORK[i]);
        end_count(page, load_of(page, i).waiting);
    }
}

/* ---- domains ---- */

static void begin_domain(page_t *page, const family_t *family, const char *suffix,
                         const subject_t *subject)
{
    begin(page, family, suffix);
    label(page, "domain", subject->domain->name);
}

static md_board_row_t row_of(const page_t *page, const subject_t *subject)
{
    md_board_row_t row = { .phase = MD_PHASE_UNKNOWN };

    if (page->reg->board)
        (void)md_board_read(&row, page->reg->board, subject->domain->number);
    return row;
}

static const char *state_name(int state)
{
    switch (state) {
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

static void put_state(page_t *page, const family_t *family, const subject_t *subject)
{
    begin_domain(page, family, "", subject);
    label(page, "state", state_name(md_live_of(subject->domain)->state));
    end(page, "1");
}

static void put_phase(page_t *page, const family_t *family, const subject_t *subject)
{
    static const char *const NAMES[] = {
        [MD_PHASE_UNKNOWN] = NULL,
        [MD_PHASE_QUIET]   = NULL,
        [MD_PHASE_WAITING] = "waiting",
        [MD_PHASE_RUNNING] = "running",
        [MD_PHASE_READY]   = "ready",
    };
    md_board_row_t row = row_of(page, subject);

    if (row.phase > MD_PHASE_READY || !NAMES[row.phase])
        return;
    begin_domain(page, family, "", subject);
    label(page, "phase", NAMES[row.phase]);
    end(page, "1");
}

/* The next attempt, or before the first one the moment that the engine noted; until it has looked,
 * what the windows say. 0: none is planned. */
static apr_time_t next_of(const page_t *page, const subject_t *subject)
{
    md_board_row_t row = row_of(page, subject);

    if (!md_renew_is_wanted(subject->domain))
        return 0;
    switch (row.phase) {
    case MD_PHASE_WAITING:
        return row.next_run;
    case MD_PHASE_QUIET:
        return row.renew_at;
    case MD_PHASE_UNKNOWN:
        return md_renew_when(page->reg, subject->domain, NULL, page->now).at;
    default:
        return 0;
    }
}

static void put_next(page_t *page, const family_t *family, const subject_t *subject)
{
    apr_time_t next = next_of(page, subject);

    if (!next)
        return;
    begin_domain(page, family, "", subject);
    end_time(page, next);
}

static void put_in_a_row(page_t *page, const family_t *family, const subject_t *subject)
{
    int errors = row_of(page, subject).errors;

    begin_domain(page, family, "", subject);
    end_count(page, errors > 0 ? (apr_uint64_t)errors : 0);
}

static void put_renewed(page_t *page, const family_t *family, const subject_t *subject)
{
    begin_domain(page, family, "_total", subject);
    end_count(page, md_tally_runs(page->reg->tally, subject->domain->number).renewed);
}

/* Most domains never have most problems: only those that it had. */
static void put_failed(page_t *page, const family_t *family, const subject_t *subject)
{
    md_runs_t runs = md_tally_runs(page->reg->tally, subject->domain->number);
    int i;

    for (i = 0; i < MD_TALLY_PROBLEMS; ++i) {
        if (!runs.failed[i])
            continue;
        begin_domain(page, family, "_total", subject);
        label(page, "problem", md_tally_problem(i));
        end_count(page, runs.failed[i]);
    }
}

/* ---- certificates ---- */

static void begin_cert(page_t *page, const family_t *family, const subject_t *subject)
{
    begin_domain(page, family, "", subject);
    label(page, "certificate", md_domain_cert_label(subject->domain, subject->number, page->p));
}

static int is_revoked(const page_t *page, const subject_t *subject)
{
    const md_staples_t *staples = page->reg->staples;
    const md_stapled_t *stapled = md_staples_find(staples, subject->domain->name,
                                                  subject->cert->fingerprint);
    md_staple_t staple;

    return stapled && md_staples_look(&staple, staples, stapled)
           && staple.status == MD_OCSP_REVOKED;
}

static const char *cert_state(const page_t *page, const subject_t *subject)
{
    const md_cert_info_t *cert = subject->cert;

    if (!cert)
        return "missing";
    if (!md_live_of(subject->domain)->fits[subject->number])
        return "unusable";
    if (is_revoked(page, subject))
        return "revoked";
    if (cert->validity.end <= page->now)
        return "expired";
    return cert->validity.start > page->now ? "not-yet-valid" : "valid";
}

static void put_cert_state(page_t *page, const family_t *family, const subject_t *subject)
{
    begin_cert(page, family, subject);
    label(page, "state", cert_state(page, subject));
    end(page, "1");
}

static void put_not_after(page_t *page, const family_t *family, const subject_t *subject)
{
    if (!subject->cert)
        return;
    begin_cert(page, family, subject);
    end_time(page, subject->cert->validity.end);
}

static void put_not_before(page_t *page, const family_t *family, const subject_t *subject)
{
    if (!subject->cert)
        return;
    begin_cert(page, family, subject);
    end_time(page, subject->cert->validity.start);
}

/* ---- responses that are stapled ---- */

/* As pages call the certificate; what no domain has in service, by its fingerprint. */
static const char *stapled_label(const page_t *page, const md_stapled_t *stapled)
{
    const apr_array_header_t *certs = stapled->domain ? md_live_of(stapled->domain)->certs : NULL;
    const md_cert_info_t *cert;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (cert && !strcmp(cert->fingerprint, stapled->ocsp->sha256))
            return md_domain_cert_label(stapled->domain, i, page->p);
    }
    return stapled->ocsp->sha1;
}

static void begin_staple(page_t *page, const family_t *family, const char *suffix,
                         const md_stapled_t *stapled)
{
    begin(page, family, suffix);
    label(page, "domain", stapled->name);
    label(page, "certificate", stapled_label(page, stapled));
}

static void put_staple_status(page_t *page, const family_t *family, const subject_t *subject)
{
    md_staple_t staple;
    int is_there = md_staples_look(&staple, page->reg->staples, subject->stapled);

    begin_staple(page, family, "", subject->stapled);
    label(page, "status", is_there ? md_staple_status(&staple) : "unknown");
    end(page, "1");
}

static void put_this_update(page_t *page, const family_t *family, const subject_t *subject)
{
    md_staple_t staple;

    if (!md_staples_look(&staple, page->reg->staples, subject->stapled))
        return;
    begin_staple(page, family, "", subject->stapled);
    end_time(page, staple.from);
}

static void put_next_update(page_t *page, const family_t *family, const subject_t *subject)
{
    md_staple_t staple;

    if (!md_staples_look(&staple, page->reg->staples, subject->stapled))
        return;
    begin_staple(page, family, "", subject->stapled);
    end_time(page, staple.until);
}

static void put_staple_failures(page_t *page, const family_t *family, const subject_t *subject)
{
    begin_staple(page, family, "_total", subject->stapled);
    end_count(page, md_staples_failures(page->reg->staples, subject->stapled));
}

/* ---- CAs ---- */

static void begin_ca(page_t *page, const family_t *family, const char *suffix,
                     const subject_t *subject)
{
    begin(page, family, suffix);
    label(page, "ca", subject->ca);
}

static md_meter_t meter_of(const page_t *page, const subject_t *subject)
{
    return md_meter_read(md_tally_meter(page->reg->tally, subject->ca));
}

static void put_requests(page_t *page, const family_t *family, const subject_t *subject)
{
    static const char *const CODES[] = {
        [MD_ANSWER_2XX]  = "2xx",
        [MD_ANSWER_3XX]  = "3xx",
        [MD_ANSWER_4XX]  = "4xx",
        [MD_ANSWER_5XX]  = "5xx",
        [MD_ANSWER_NONE] = "none",
    };
    md_meter_t meter = meter_of(page, subject);
    int i;

    for (i = 0; i < MD_ANSWER_COUNT; ++i) {
        begin_ca(page, family, "_total", subject);
        label(page, "code", CODES[i]);
        end_count(page, meter.answers[i]);
    }
}

/* The count is what the buckets add up to, even while somebody counts. */
static void put_latency(page_t *page, const family_t *family, const subject_t *subject)
{
    static const char *const BOUNDS[] = { "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0",
                                          "10.0", "30.0", "60.0", "+Inf" };
    md_meter_t meter = meter_of(page, subject);
    apr_uint64_t count = 0;
    int i;

    for (i = 0; i <= MD_METER_BOUNDS; ++i) {
        count += meter.took_up_to[i];
        begin_ca(page, family, "_bucket", subject);
        label(page, "le", BOUNDS[i]);
        end_count(page, count);
    }
    begin_ca(page, family, "_sum", subject);
    end_seconds(page, meter.took);
    begin_ca(page, family, "_count", subject);
    end_count(page, count);
}

static const char *const HELD[] = {
    [MD_HOLD_REQUESTS] = "requests",
    [MD_HOLD_ORDERS]   = "orders",
};
_Static_assert(sizeof(HELD) / sizeof(HELD[0]) == MD_HOLD_COUNT, "all of them");

static void put_holds(page_t *page, const family_t *family, const subject_t *subject)
{
    md_meter_t meter = meter_of(page, subject);
    int i;

    for (i = 0; i < MD_HOLD_COUNT; ++i) {
        begin_ca(page, family, "_total", subject);
        label(page, "held", HELD[i]);
        end_count(page, meter.holds[i]);
    }
}

static void put_held_until(page_t *page, const family_t *family, const subject_t *subject)
{
    md_meter_t meter = meter_of(page, subject);
    int i;

    for (i = 0; i < MD_HOLD_COUNT; ++i) {
        if ((apr_time_t)meter.held_until[i] <= page->now)
            continue;
        begin_ca(page, family, "", subject);
        label(page, "held", HELD[i]);
        end_time(page, (apr_time_t)meter.held_until[i]);
    }
}

/* ---- all of them ---- */

static const family_t FAMILIES[] = {
    { INFO, SERVER, "build", put_build, "The version of mod_md." },
    { GAUGE, SERVER, "domains", put_domains, "Managed domains." },
    { GAUGE, SERVER, "store_usable", put_store,
      "0 if nothing can be renewed, as the last start could not use the store." },
    { GAUGE, SERVER, "work_in_flight", put_in_flight,
      "Renewals, and refreshes of OCSP responses, that have begun and are not finished." },
    { GAUGE, SERVER, "work_waiting", put_waiting, "Renewals, and refreshes of OCSP responses, that "
                                                  "are due and wait for their turn." },
    { GAUGE, DOMAIN, "domain_state", put_state, "The state of the domain, as in md-status." },
    { GAUGE, DOMAIN, "renewal_phase", put_phase,
      "A renewal that is running, waiting for its next attempt, or ready for a reload." },
    { GAUGE, DOMAIN, "renewal_next_timestamp_seconds", put_next,
      "When the next renewal, or after a failure the next attempt, is planned." },
    { GAUGE, DOMAIN, "renewal_consecutive_failures", put_in_a_row,
      "Failed attempts since the last success." },
    { COUNTER, DOMAIN, "renewals", put_renewed, "New sets of certificates that were obtained." },
    { COUNTER, DOMAIN, "renewal_failures", put_failed, "Attempts that failed, by problem." },
    { GAUGE, CERTIFICATE, "certificate_state", put_cert_state,
      "The state of the certificate." },
    { GAUGE, CERTIFICATE, "certificate_not_after_timestamp_seconds", put_not_after,
      "When the certificate in service expires." },
    { GAUGE, CERTIFICATE, "certificate_not_before_timestamp_seconds", put_not_before,
      "When the validity of the certificate in service begins." },
    { GAUGE, STAPLE, "staple_status", put_staple_status,
      "What the OCSP response says about the certificate." },
    { GAUGE, STAPLE, "staple_this_update_timestamp_seconds", put_this_update,
      "When the OCSP response was made." },
    { GAUGE, STAPLE, "staple_next_update_timestamp_seconds", put_next_update,
      "When the OCSP response expires." },
    { COUNTER, STAPLE, "staple_failures", put_staple_failures,
      "Attempts to get an OCSP response that failed." },
    { COUNTER, CA, "ca_requests", put_requests, "Requests to the CA, by class of HTTP status." },
    { HISTOGRAM, CA, "ca_request_duration_seconds", put_latency,
      "How long the CA took to answer." },
    { COUNTER, CA, "ca_holds", put_holds,
      "How often requests to the CA, or orders of an account there, were suspended for a while." },
    { GAUGE, CA, "ca_held_until_timestamp_seconds", put_held_until,
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
    begin(page, family, suffix);
    put_text(page, " ");
    put_text(page, family->help);
    put_text(page, "\n# TYPE ");
    begin(page, family, suffix);
    put_text(page, " ");
    put_text(page, TYPES[family->type].type[page->format]);
    put_text(page, "\n");
}

static void put_domain(page_t *page, const family_t *family, const md_domain_t *domain)
{
    subject_t subject = { .domain = domain };
    const apr_array_header_t *certs;

    if (family->about == DOMAIN) {
        family->put(page, family, &subject);
        return;
    }
    certs = md_live_of(domain)->certs;
    for (; certs && subject.number < certs->nelts; ++subject.number) {
        subject.cert = APR_ARRAY_IDX(certs, subject.number, const md_cert_info_t *);
        family->put(page, family, &subject);
    }
}

static void put_domains_of(page_t *page, const family_t *family)
{
    int i;

    for (i = 0; i < page->reg->domains->nelts && page->out->rv == APR_SUCCESS; ++i) {
        apr_pool_clear(page->p);
        put_domain(page, family, md_reg_domain(page->reg, i));
    }
}

static void put_staples(page_t *page, const family_t *family)
{
    int i, count = page->reg->staples ? md_staples_count(page->reg->staples) : 0;
    subject_t subject = { NULL };

    for (i = 0; i < count && page->out->rv == APR_SUCCESS; ++i) {
        apr_pool_clear(page->p);
        subject.stapled = md_staples_at(page->reg->staples, i);
        family->put(page, family, &subject);
    }
}

static void put_cas(page_t *page, const family_t *family)
{
    subject_t subject = { NULL };
    int i;

    for (i = 0; (subject.ca = md_tally_ca(page->reg->tally, i)) != NULL; ++i) {
        apr_pool_clear(page->p);
        family->put(page, family, &subject);
    }
}

static void put_family(page_t *page, const family_t *family)
{
    static void (*const EACH[])(page_t *page, const family_t *family) = {
        [DOMAIN]      = put_domains_of,
        [CERTIFICATE] = put_domains_of,
        [STAPLE]      = put_staples,
        [CA]          = put_cas,
    };

    _Static_assert(sizeof(EACH) / sizeof(EACH[0]) == ABOUT_COUNT, "all of them");
    put_head(page, family);
    if (family->about == SERVER)
        family->put(page, family, NULL);
    else if (page->reg)
        EACH[family->about](page, family);
}

void md_metrics_write(md_out_t *out, md_metrics_format_t format, const md_reg_t *reg,
                      apr_time_t now, apr_pool_t *p)
{
    page_t *page = apr_palloc(p, sizeof(*page));
    size_t i;

    page->out = out;
    page->format = format;
    page->reg = reg;
    page->now = now;
    page->labels = 0;
    page->len = 0;
    apr_pool_create(&page->p, p);
    for (i = 0; i < sizeof(FAMILIES) / sizeof(FAMILIES[0]) && out->rv == APR_SUCCESS; ++i)
        put_family(page, &FAMILIES[i]);
    if (format == MD_METRICS_OPEN)
        put_text(page, "# EOF\n");
    send_piece(page);
    apr_pool_destroy(page->p);
}
