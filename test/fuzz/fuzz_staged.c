/* SPDX-License-Identifier: Apache-2.0 */
/* Records of readers, as a process with more rights takes them. The first line of an input says
 * which: `set`, or `look` for what there is under a name; the rest is the record. */
#include "fuzz.h"

#include <string.h>

#include <apr_strings.h>

#include "../../md_limits.h"
#include "../../md_staged.h"
#include "../../md_text.h"

static md_store_t *store;

void fuzz_start(apr_pool_t *p)
{
    store = fuzz_store(p);
}

static int is_line(const char *text)
{
    for (; text && *text; ++text)
        if ((unsigned char)*text < ' ')
            return 0;
    return 1;
}

static md_domain_t *domain_of_two_keys(apr_pool_t *p)
{
    static const md_key_spec_t SPECS[] = {
        { .type = MD_KEY_RSA, .bits = 2048 }, { .type = MD_KEY_EC, .curve = "P-256" }
    };
    md_domain_t *domain = md_domain_make("one.example.org", p);

    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = SPECS[0];
    APR_ARRAY_PUSH(domain->key_specs, md_key_spec_t) = SPECS[1];
    return domain;
}

/* What is stored of it is PEM and nothing else, and can be read again. */
static void take_set(char *record, size_t len, apr_pool_t *p)
{
    md_domain_t *domain = domain_of_two_keys(p);
    md_err_t err = fuzz_err(p);
    md_staged_set_t set;
    md_job_t *again;
    apr_status_t rv;
    int i;

    rv = md_staged_parse_set(&set, domain, MD_STORE_STAGING, record, len, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    holds(set.why && is_line(set.why) && strlen(set.why) <= MD_MAX_DETAIL + 10);
    if (set.rv != APR_SUCCESS)
        return;
    holds(set.keys->nelts == 2 && set.chains->nelts == 2);
    for (i = 0; i < 2; ++i) {
        holds(md_text_is_pem(APR_ARRAY_IDX(set.keys, i, const char *), "PRIVATE KEY", 1));
        holds(md_text_is_pem(APR_ARRAY_IDX(set.chains, i, const char *), "CERTIFICATE",
                             MD_MAX_CHAIN));
    }
    holds(is_line(set.ca_url) && strlen(set.ca_url) <= MD_MAX_URI && is_line(set.account));
    holds(set.job->group == MD_STORE_TMP && !strcmp(set.job->name, domain->name));
    holds(md_job_parse(&again, MD_STORE_TMP, domain->name,
                       md_json_text(md_job_to_json(set.job, 1, p), 1, p), &err, p) == APR_SUCCESS);
}

/* The account goes where its name leads, and nowhere else. */
static void take_look(char *record, size_t len, apr_pool_t *p)
{
    md_err_t err = fuzz_err(p);
    md_staged_t staged;
    apr_status_t rv;
    const char *id;

    rv = md_staged_parse(&staged, record, len, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS || !staged.account.json)
        return;
    holds(md_text_is_pem(staged.account.key, "ENCRYPTED PRIVATE KEY", 1));
    rv = md_acct_keep(&id, store, &staged.account, &err, p);
    holds_with(rv, &err);
    if (rv != APR_SUCCESS)
        return;
    holds(!strncmp(id, "ACME-", 5) && md_path_part_is_safe(id));
    holds(md_store_exists(store, MD_STORE_ACCOUNTS, id, MD_ACCT_JSON, p));
    md_store_remove(store, MD_STORE_ACCOUNTS, id, NULL, p);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const char *record = data, *kind = fuzz_line(&record, p);

    if (!kind)
        return;
    len -= (size_t)(record - data);
    if (!strcmp(kind, "set"))
        take_set(apr_pmemdup(p, record, len + 1), len, p);
    else
        take_look(apr_pmemdup(p, record, len + 1), len, p);
}
