/* SPDX-License-Identifier: Apache-2.0 */
/* Renewal information, and the document that is kept of it. */
#include "ca.h"

#include "../../md_advice.h"
#include "../../md_renew.h"
#include "../../md_text.h"

#define NAME    "one.example.org"
#define CERT_ID "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
#define DAY     apr_time_from_sec(24 * 3600)
#define FROM    apr_time_from_sec(1767225600) /* 2026, until then: */
#define UNTIL   apr_time_from_sec(4102444800) /* 2100 */

static md_store_t *store;

void fuzz_start(apr_pool_t *p)
{
    store = fuzz_store(p);
    holds(md_store_save_text(store, MD_STORE_OCSP, NAME, "kept", "kept", NULL, p) == APR_SUCCESS);
}

static md_domain_t *domain_of(apr_pool_t *p)
{
    static const md_cert_info_t CERT = { .validity = { FROM, UNTIL }, .ari_id = CERT_ID,
                                         .fingerprint = "0123456789abcdef" };
    apr_array_header_t *certs = apr_array_make(p, 1, sizeof(const md_cert_info_t *));
    md_live_t *live = apr_pcalloc(p, sizeof(*live));
    md_domain_t *domain = md_domain_make(NAME, p);

    APR_ARRAY_PUSH(certs, const md_cert_info_t *) = &CERT;
    live->certs = live->obtained = certs;
    live->state = MD_STATE_COMPLETE;
    md_live_replace(domain, live);
    domain->ari_renewals = 1;
    domain->ca_url = CA "/dir";
    domain->renew_window = (md_window_spec_t){ .percent = 33 };
    return domain;
}

static void check(const md_advice_t *advice, apr_time_t now, apr_pool_t *p)
{
    const md_hint_t *hint = &APR_ARRAY_IDX(advice->hints, 0, md_hint_t);
    md_due_t due = md_renew_due(advice->domain, advice, now);

    holds(advice->hints->nelts == 1 && advice->followed_at <= now && advice->told_at <= now);
    holds(hint->ari.poll_at <= now + DAY && hint->asked_at <= now);
    holds(!hint->renew_at == !hint->ari.window.end);
    holds(!hint->renew_at
          || (hint->renew_at >= FROM - 366 * DAY && hint->renew_at < UNTIL + 366 * DAY));
    holds(!hint->ari.explanation_url || md_ari_is_url(hint->ari.explanation_url, p));
    holds(!hint->problem || strlen(hint->problem) <= MD_MAX_TEXT);
    holds(hint->errors >= 0 && hint->errors <= MD_MAX_ERRORS);
    holds(due.at && due.reason && (!due.explanation_url || hint->ari.explanation_url));
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const md_domain_t *domain = domain_of(p);
    fuzz_parts_t parts = { data, data + len };
    md_advice_t *advice, *again;
    md_err_t err = fuzz_err(p);
    apr_time_t now = apr_time_now();
    const char *kept;
    size_t kept_len;
    md_acme_t *acme;
    int turns;

    kept = fuzz_part(&kept_len, &parts, p);
    fuzz_file("md/ocsp/" NAME "/ari.json", kept ? kept : "", kept ? kept_len : 0, p);
    advice = md_advice_load(store, domain, now, p);
    check(advice, now, p);
    md_advice_renew_hints(advice, 0, now);
    acme = ca_make(parts.at ? parts.at : "", parts.at ? (size_t)(parts.end - parts.at) : 0, 1, p);
    for (turns = 0; md_advice_ask(advice, acme, DAY / 2, now, 255); ++turns)
        holds(turns < 3);
    check(advice, now, p);
    holds(md_advice_poll_at(advice) > now && ca.count <= 2);
    holds(md_advice_save(advice, store, &err, p) == APR_SUCCESS);
    again = md_advice_load(store, domain, now, p);
    check(again, now, p);
    holds(md_json_equal(md_advice_to_json(advice, CERT_ID, p),
                        md_advice_to_json(again, CERT_ID, p)));
}
