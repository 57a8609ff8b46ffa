/* SPDX-License-Identifier: Apache-2.0 */
/* Pages for people. */
#include "md_page.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_outlook.h"
#include "md_text.h"
#include "md_version.h"


/* A page on its way. */
typedef struct page_t {
    md_out_t *out;
    const char *base;
    apr_time_t now;
    apr_pool_t *p; /* of the piece in work */
} page_t;

static const char STYLE[] =
    ":root{color-scheme:light dark;--ink:#1c2128;--dim:#5c6672;--line:#dfe3e8;--back:#f5f6f8;"
    "--card:#fff;--link:#0757ba;--bad:#b3261e;--bad-back:#fdecea;--warn:#8a5300;"
    "--warn-back:#fff3d9;--busy:#0b57b0;--busy-back:#e5f0fd;--good:#1a6b37;--good-back:#e4f4e9}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ed;--dim:#9aa5b1;--line:#30363d;"
    "--back:#0f1318;--card:#171c22;--link:#7ab4ff;--bad:#ff9b92;--bad-back:#3c1715;--warn:#f2c063;"
    "--warn-back:#37280a;--busy:#8bbcff;--busy-back:#12294a;--good:#7fd69b;--good-back:#10311d}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"
    "'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;-webkit-text-size-adjust:100%}\n"
    "main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 3rem}\n"
    "a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}\n"
    "h1{font-size:1.55rem;line-height:1.25;margin:0;overflow-wrap:anywhere}\n"
    "h2{font-size:1rem;margin:2rem 0 .6rem}\n"
    "time{text-decoration:underline dotted var(--dim) 1px;text-underline-offset:3px;cursor:help}\n"
    "code{font:.86em/1.5 ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;"
    "overflow-wrap:anywhere}\n"
    ".dim{color:var(--dim)}.bad{--tone:var(--bad);--tint:var(--bad-back)}"
    ".warn{--tone:var(--warn);--tint:var(--warn-back)}"
    ".busy{--tone:var(--busy);--tint:var(--busy-back)}"
    ".good{--tone:var(--good);--tint:var(--good-back)}\n"
    ".pill{display:inline-block;padding:.1rem .6rem;border-radius:1rem;color:var(--tone);"
    "background:var(--tint);font-size:.85rem;font-weight:600}\n"
    ".sum{display:flex;flex-wrap:wrap;gap:.5rem;margin:.9rem 0 1.6rem;padding:0;list-style:none}\n"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;"
    "overflow:hidden}\n"
    ".row{display:grid;grid-template-columns:minmax(0,17rem) 10.5rem minmax(0,1fr);"
    "gap:.2rem 1.25rem;padding:.8rem 1.1rem;border-left:4px solid var(--tone);"
    "content-visibility:auto;contain-intrinsic-size:auto 4rem}\n"
    ".row+.row{border-top:1px solid var(--line)}\n"
    ".name{font-weight:600;overflow-wrap:anywhere}.name small{display:block;font-weight:400}\n"
    ".state{color:var(--tone);font-weight:600}.state small{display:block;font-weight:400}\n"
    ".bar{display:block;height:4px;margin:.45rem 0 .2rem;border-radius:2px;background:var(--line);"
    "overflow:hidden}.bar span{display:block;height:100%;background:var(--tone)}\n"
    ".what{overflow-wrap:anywhere}.next{display:block}\n"
    ".what bdi{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:3;"
    "overflow:hidden}\n"
    "small{font-size:.85rem;color:var(--dim)}\n"
    ".lead{margin:.8rem 0 0;padding:.9rem 1.1rem;border-radius:.6rem;background:var(--tint);"
    "overflow-wrap:anywhere}.lead b{color:var(--tone)}\n"
    "dl{display:grid;grid-template-columns:10.5rem minmax(0,1fr);gap:.35rem 1rem;margin:0;"
    "padding:.9rem 1.1rem}dl+dl{border-top:1px solid var(--line)}\n"
    "dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}dd small{white-space:nowrap}\n"
    ".log{list-style:none;margin:0;padding:.3rem 1.1rem}.log li{display:grid;"
    "grid-template-columns:10.5rem minmax(0,1fr);gap:.1rem 1rem;padding:.45rem 0;"
    "overflow-wrap:anywhere}.log li+li{border-top:1px solid var(--line)}\n"
    "footer{margin-top:1.6rem;font-size:.85rem;color:var(--dim)}\n"
    "@media(max-width:44rem){main{padding:1.2rem .8rem 2rem}h1{font-size:1.3rem}"
    ".row{grid-template-columns:minmax(0,1fr);padding:.7rem .9rem}"
    ".state small{display:inline}.bar{max-width:14rem}"
    "dl,.log li{grid-template-columns:minmax(0,1fr)}"
    "dl{gap:0}dd{margin-bottom:.6rem}.log{padding:.3rem .9rem}}\n";

static const struct { const char *class, *one, *many; } TONES[] = {
    [MD_TONE_BAD] = { "bad", "in trouble", "in trouble" },
    [MD_TONE_WARN] = { "warn", "needs attention", "need attention" },
    [MD_TONE_BUSY] = { "busy", "in progress", "in progress" },
    [MD_TONE_GOOD] = { "good", "fine", "fine" },
};
_Static_assert(sizeof(TONES) / sizeof(TONES[0]) == MD_TONE_COUNT, "one row per tone");

/* ---- pieces ---- */

static const char *html(const page_t *page, const char *text)
{
    return md_text_html(text, MD_MAX_TEXT, page->p);
}

/* Text that others wrote may run from right to left: what is around it does not turn with it. */
static const char *foreign(const page_t *page, const char *text, apr_size_t max)
{
    return apr_psprintf(page->p, "<bdi>%s</bdi>", md_text_html(text, max, page->p));
}

static const char *link_to(const page_t *page, const char *url, const char *text)
{
    if (md_uri_check_http(url, page->p))
        return html(page, text);
    return apr_psprintf(page->p, "<a href=\"%s\">%s</a>", md_text_html(url, MD_MAX_URI, page->p),
                        html(page, text));
}

static const char *time_html(const page_t *page, apr_time_t t)
{
    const char *text = md_time_http(t, page->p);

    return apr_psprintf(page->p, "<time datetime=\"%sT%.8sZ\" title=\"%s\">%s</time>",
                        md_time_day(t, page->p), text + strlen("Sun, 06 Nov 1994 "), text,
                        md_time_words(t, page->now, page->p));
}

static void begin_page(const page_t *page, const char *title)
{
    md_out_printf(page->out, page->p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
                  "<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, "
                  "initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
                  "<title>%s</title>\n<style>\n", html(page, title));
    md_out_put(page->out, STYLE);
    md_out_put(page->out, "</style>\n</head>\n<body>\n<main>\n");
}

static void end_page(const page_t *page)
{
    md_out_printf(page->out, page->p, "<footer>As of %s &middot; mod_md " MD_VERSION
                  " &middot; <a href=\"?format=json\">JSON</a></footer>\n</main>\n</body>\n"
                  "</html>\n", md_time_http(page->now, page->p));
}

/* `Failed 3 times: why`, `Next attempt in 5 minutes, at 14:05.` */
static const char *story(const page_t *page, const md_outlook_t *outlook, apr_size_t max)
{
    const char *text = "", *at = "";
    apr_pool_t *p = page->p;

    if (outlook->what)
        text = apr_pstrcat(p, html(page, outlook->what), outlook->detail ? ": " : ".",
                           outlook->detail ? foreign(page, outlook->detail, max) : "", NULL);
    if (!outlook->next)
        return text;
    if (outlook->next_at)
        at = apr_pstrcat(p, " ", time_html(page, outlook->next_at), NULL);
    return apr_psprintf(p, "%s <span class=\"next\">%s%s.</span>", text, outlook->next, at);
}

/* `Valid, expires in 12 days`, `Expired 5 days ago`, `Not valid yet, in 2 days` */
static const char *state(const page_t *page, const md_outlook_t *outlook, const md_window_t *valid)
{
    const char *text = html(page, outlook->state), *verb = "";
    apr_pool_t *p = page->p;

    if (outlook->about)
        text = apr_psprintf(p, "%s <small>%s</small>", text, html(page, outlook->about));
    if (!valid->end)
        return text;
    if (valid->start <= page->now && valid->end > page->now)
        verb = "expires ";
    return apr_psprintf(p, "%s <small>%s%s</small>", text, verb,
                        time_html(page, valid->start > page->now ? valid->start : valid->end));
}

/* How much of the lifetime is over. */
static const char *bar(const page_t *page, const md_window_t *valid)
{
    apr_time_t over = page->now - valid->start, lifetime = valid->end - valid->start;
    int percent;

    if (lifetime <= 0)
        return "";
    percent = over <= 0 ? 0 : over >= lifetime ? 100 : (int)(over * 100 / lifetime);
    return apr_psprintf(page->p, "<span class=\"bar\" title=\"%d%% of the lifetime is over\"><span "
                        "style=\"width:%d%%\"></span></span>", percent, percent);
}

/* ---- all domains ---- */

/* What the order of the page needs to know. */
typedef struct place_t {
    const md_domain_t *domain;
    md_tone_t tone;
    apr_time_t end;
} place_t;

static int by_urgency(const void *a, const void *b)
{
    const place_t *one = a, *other = b;

    if (one->tone != other->tone)
        return one->tone < other->tone ? -1 : 1;
    if (one->end != other->end)
        return one->end < other->end ? -1 : 1;
    return strcmp(one->domain->name, other->domain->name);
}

/* `counts`: of domains in each tone. */
static place_t *order(int counts[MD_TONE_COUNT], const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    place_t *places = apr_pcalloc(p, sizeof(*places) * (size_t)(reg->domains->nelts + 1));
    const md_status_t *status;
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < reg->domains->nelts; ++i) {
        apr_pool_clear(iter);
        status = md_status_of(reg, md_reg_domain(reg, i), now, iter);
        places[i].domain = status->domain;
        places[i].tone = md_outlook_of(status, iter).tone;
        places[i].end = status->valid.end;
        ++counts[places[i].tone];
    }
    apr_pool_destroy(iter);
    qsort(places, (size_t)reg->domains->nelts, sizeof(*places), by_urgency);
    return places;
}

static void put_summary(const page_t *page, const int counts[MD_TONE_COUNT])
{
    int i;

    md_out_put(page->out, "<ul class=\"sum\">");
    for (i = 0; i < MD_TONE_COUNT; ++i)
        if (counts[i] > 0)
            md_out_printf(page->out, page->p, "<li class=\"pill %s\">%d %s</li>", TONES[i].class,
                          counts[i], counts[i] == 1 ? TONES[i].one : TONES[i].many);
    md_out_put(page->out, "</ul>\n");
}

static const char *page_of(const page_t *page, const md_domain_t *domain)
{
    return apr_pstrcat(page->p, page->base, "/",
                       html(page, md_uri_segment(domain->name, page->p)), NULL);
}

static const char *more_names(const page_t *page, const md_domain_t *domain)
{
    int more = domain->names->nelts - 1;

    return more <= 0 ? "" : apr_psprintf(page->p, "<small>and %d more name%s</small>", more,
                                         more == 1 ? "" : "s");
}

static void put_row(const page_t *page, const md_status_t *status)
{
    md_outlook_t outlook = md_outlook_of(status, page->p);

    md_out_printf(page->out, page->p, "<div class=\"row %s\"><div class=\"name\">"
                  "<a href=\"%s\">%s</a>%s</div><div class=\"state\">%s%s</div>"
                  "<div class=\"what\">%s</div></div>\n", TONES[outlook.tone].class,
                  page_of(page, status->domain), foreign(page, status->domain->name, MD_MAX_TEXT),
                  more_names(page, status->domain),
                  state(page, &outlook, &status->valid), bar(page, &status->valid),
                  story(page, &outlook, MD_MAX_JOB_DETAIL));
}

static void put_rows(page_t *page, const md_reg_t *reg)
{
    int counts[MD_TONE_COUNT] = { 0 }, i;
    place_t *places = order(counts, reg, page->now, page->p);
    apr_pool_t *p = page->p;

    put_summary(page, counts);
    md_out_put(page->out, "<div class=\"card\">\n");
    apr_pool_create(&page->p, p);
    for (i = 0; i < reg->domains->nelts && page->out->rv == APR_SUCCESS; ++i) {
        apr_pool_clear(page->p);
        put_row(page, md_status_of(reg, places[i].domain, page->now, page->p));
    }
    apr_pool_destroy(page->p);
    page->p = p;
    md_out_put(page->out, "</div>\n");
}

void md_page_all(md_out_t *out, const md_reg_t *reg, const char *base, apr_time_t now,
                 apr_pool_t *p)
{
    page_t page = { out, base, now, p };

    begin_page(&page, "Managed domains");
    md_out_put(out, "<h1>Managed domains</h1>\n");
    if (reg && reg->domains->nelts > 0)
        put_rows(&page, reg);
    else
        md_out_put(out, "<p>No domains are managed: the configuration has no MDomain.</p>\n");
    end_page(&page);
}

/* ---- one domain ---- */

/* A term and what it is; nothing without `value`, which is HTML. */
static void put_term(const page_t *page, const char *term, const char *value)
{
    if (value && *value)
        md_out_printf(page->out, page->p, "<dt>%s</dt><dd>%s</dd>", term, value);
}

static void put_text(const page_t *page, const char *term, const char *text)
{
    if (text)
        put_term(page, term, foreign(page, text, MD_MAX_DETAIL));
}

static void put_time(const page_t *page, const char *term, apr_time_t t)
{
    if (t)
        put_term(page, term, apr_psprintf(page->p, "%s <small>%s</small>",
                                          md_time_http(t, page->p),
                                          md_time_words(t, page->now, page->p)));
}

static void put_list(const page_t *page, const char *term, const apr_array_header_t *list)
{
    if (list && list->nelts > 0)
        put_term(page, term, md_text_html(apr_array_pstrcat(page->p, list, ' '), MD_MAX_NAMES_TEXT,
                                          page->p));
}

static const char *check_link(const page_t *page, const md_status_t *status,
                              const md_cert_info_t *cert)
{
    const apr_array_header_t *check = status->reg->conf->cert_check;

    return link_to(page, apr_pstrcat(page->p, APR_ARRAY_IDX(check, 1, const char *),
                                     cert->fingerprint, NULL),
                   APR_ARRAY_IDX(check, 0, const char *));
}

/* `good, until ...`; NULL if the certificate is not stapled. */
static const char *ocsp(const page_t *page, const md_status_t *status, const md_cert_info_t *cert)
{
    const md_staples_t *staples = status->reg->staples;
    const md_stapled_t *stapled = md_staples_find(staples, status->domain->name,
                                                  cert->fingerprint);
    md_staple_t staple;

    if (!stapled)
        return NULL;
    if (!md_staples_look(&staple, staples, stapled))
        return "no response yet";
    return apr_psprintf(page->p, "%s <small>the response expire%s %s</small>",
                        md_staple_status(&staple), staple.until > page->now ? "s" : "d",
                        time_html(page, staple.until));
}

static void put_cert(const page_t *page, const md_status_t *status, const md_cert_info_t *cert,
                     const char *label)
{
    int is_past = cert->validity.end <= page->now, is_ahead = cert->validity.start > page->now;

    md_out_put(page->out, "<dl>");
    put_text(page, "Certificate", label);
    put_time(page, is_ahead ? "Valid from" : "Issued", cert->validity.start);
    put_time(page, is_past ? "Expired" : "Valid until", cert->validity.end);
    put_term(page, "OCSP", ocsp(page, status, cert));
    put_text(page, "Issuer", cert->issuer_name);
    put_term(page, "Serial number", apr_psprintf(page->p, "<code>%s</code>", cert->serial));
    put_term(page, "SHA-256", apr_psprintf(page->p, "<code>%s</code> &middot; %s",
                                           cert->fingerprint, check_link(page, status, cert)));
    md_out_put(page->out, "</dl>\n");
}

/* Those in service, or those that are staged. */
static void put_certs(const page_t *page, const md_status_t *status,
                      const apr_array_header_t *certs, const char *title)
{
    const md_cert_info_t *cert;
    int i, count = 0;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (!cert)
            continue;
        if (count++ == 0)
            md_out_printf(page->out, page->p, "<h2>%s</h2>\n<div class=\"card\">\n", title);
        put_cert(page, status, cert, md_status_cert_label(status, certs, i, page->p));
    }
    if (count > 0)
        md_out_put(page->out, "</div>\n");
}

static void put_log_entry(const page_t *page, const md_json_t *entry)
{
    apr_time_t when = md_json_get_time(entry, "when");
    const char *status = md_json_get_str(entry, "status");
    const char *detail = md_json_get_str(entry, "detail"), *type = md_json_get_str(entry, "type");

    md_out_printf(page->out, page->p, "<li><span>%s</span><span><b>%s</b>%s%s%s%s</span></li>\n",
                  when ? time_html(page, when) : "", foreign(page, type, MD_MAX_JOB_DETAIL),
                  detail ? " " : "", detail ? foreign(page, detail, MD_MAX_JOB_DETAIL) : "",
                  status ? " <small>" : "",
                  status ? apr_pstrcat(page->p, foreign(page, status, MD_MAX_JOB_DETAIL),
                                       "</small>", NULL) : "");
}

static void put_log(const page_t *page, const md_job_t *job)
{
    apr_size_t i, count = md_json_size(job->log);

    if (count == 0)
        return;
    md_out_put(page->out, "<h2>Log</h2>\n<ul class=\"card log\">\n");
    for (i = 0; i < count; ++i)
        put_log_entry(page, md_json_at(job->log, i, page->p));
    md_out_put(page->out, "</ul>\n");
}

static void put_renewal(const page_t *page, const md_status_t *status)
{
    const md_job_t *job = status->job;
    const md_json_t *subproblems;
    int i;

    if (!job)
        return;
    subproblems = md_json_get(job->last, "subproblems", page->p);
    md_out_put(page->out, "<h2>Renewal</h2>\n<div class=\"card\"><dl>");
    put_text(page, "Reason", md_outlook_reason(status));
    put_time(page, "Last attempt", job->last_run);
    put_time(page, "Next attempt", job->next_run);
    if (job->errors > 0)
        put_term(page, "Consecutive failures", apr_itoa(page->p, job->errors));
    put_text(page, "Step", md_json_get_str(job->last, "activity"));
    put_text(page, "Problem", md_json_get_str(job->last, "problem"));
    put_text(page, "Details", md_json_get_str(job->last, "detail"));
    put_text(page, "Subproblems", md_json_text(subproblems, 1, page->p));
    for (i = 0; i < job->hints->nelts; ++i)
        put_text(page, "Hint", APR_ARRAY_IDX(job->hints, i, const char *));
    md_out_put(page->out, "</dl></div>\n");
    put_certs(page, status, status->staged, "New certificates");
}

static const char *cas(const page_t *page, const md_domain_t *domain)
{
    const apr_array_header_t *urls = domain->ca_urls;
    const char *text = "", *url;
    int i;

    for (i = 0; urls && i < urls->nelts; ++i) {
        url = APR_ARRAY_IDX(urls, i, const char *);
        text = apr_pstrcat(page->p, text, i > 0 ? ", " : "",
                           link_to(page, url, md_config_ca_name(url, page->p)), NULL);
    }
    return text;
}

static const char *keys(const page_t *page, const md_domain_t *domain)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, page->p);
    const char *text = "";
    int i;

    for (i = 0; i < specs->nelts; ++i)
        text = apr_pstrcat(page->p, text, i > 0 ? " " : "",
                           md_key_spec_name(&APR_ARRAY_IDX(specs, i, md_key_spec_t)), NULL);
    return html(page, text);
}

static const char *mode(const md_domain_t *domain)
{
    switch (domain->renew_mode) {
    case MD_RENEW_MANUAL: return "manual";
    case MD_RENEW_ALWAYS: return "always";
    default: return "auto";
    }
}

static void put_settings(const page_t *page, const md_domain_t *domain)
{
    md_out_put(page->out, "<h2>Configuration</h2>\n<div class=\"card\"><dl>");
    put_list(page, "Names", domain->names);
    put_term(page, "CA", cas(page, domain));
    put_text(page, "Profile", domain->profile);
    put_text(page, "Preferred chain", domain->preferred_chain);
    put_list(page, "Contact", domain->contacts);
    put_term(page, "Keys", keys(page, domain));
    put_list(page, "Files", domain->cert_files);
    put_list(page, "Challenges", domain->ca_challenges);
    put_term(page, "Renewal", apr_psprintf(page->p, "%s, when %s of the lifetime is left",
                                           mode(domain),
                                           md_window_spec_format(&domain->renew_window, page->p)));
    put_text(page, "https", domain->require_https);
    md_out_put(page->out, "</dl></div>\n");
}

void md_page_domain(md_out_t *out, const md_reg_t *reg, const md_domain_t *domain,
                    const char *base, apr_time_t now, apr_pool_t *p)
{
    const md_status_t *status = md_status_of(reg, domain, now, p);
    md_outlook_t outlook = md_outlook_of(status, p);
    page_t page = { out, base, now, p };

    begin_page(&page, domain->name);
    /* All that a CA has said is below, in the record of the renewal. */
    md_out_printf(out, p, "<p><a href=\"%s\">All managed domains</a></p>\n<h1>%s</h1>\n"
                  "<p class=\"lead %s\"><b>%s</b><br>%s</p>\n", base,
                  foreign(&page, domain->name, MD_MAX_TEXT), TONES[outlook.tone].class,
                  state(&page, &outlook, &status->valid),
                  story(&page, &outlook, status->job ? MD_MAX_JOB_DETAIL : MD_MAX_DETAIL));
    put_certs(&page, status, status->live->certs, "Certificates in service");
    put_renewal(&page, status);
    put_settings(&page, domain);
    if (status->job)
        put_log(&page, status->job);
    end_page(&page);
}
