/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate chains as PEM, or as DER that is put into PEM here. */
#include "fuzz.h"

#include <string.h>

#include <apr_strings.h>

#include "../../md_cert.h"
#include "../../md_limits.h"
#include "../../md_text.h"

#define NOW apr_time_from_sec(1800000000)

static void check_info(const md_cert_t *cert, apr_pool_t *p)
{
    const md_cert_info_t *info = md_cert_info(cert, p);
    const char *c;

    holds(info->serial && strlen(info->serial) % 2 == 0);
    holds(info->fingerprint && strlen(info->fingerprint) == 64);
    for (c = info->issuer_name; c && *c; ++c)
        holds(*c >= ' ' && *c <= '~');
    for (c = info->issuer_uri; c && *c; ++c)
        holds(*c >= ' ' && *c <= '~');
    holds(!info->names || !md_cert_uncovered(info, info->names, p));
    (void)md_time_http(info->validity.end, p);
}

static int has(const apr_array_header_t *chain, const md_cert_t *cert)
{
    int i, count = 0;

    for (i = 0; i < chain->nelts; ++i)
        count += APR_ARRAY_IDX(chain, i, md_cert_t *) == cert;
    return count;
}

/* What a CA delivers: sorted, then taken or refused. */
static void check_chain(const apr_array_header_t *chain, const md_key_t *key, apr_pool_t *p)
{
    apr_array_header_t *sorted = md_chain_sort(chain, key, p), *names = md_strings_make(p);
    md_err_t err = fuzz_err(p);
    apr_status_t rv;
    int i;

    holds(sorted->nelts <= chain->nelts && !sorted->nelts == !chain->nelts);
    for (i = 0; i < sorted->nelts; ++i)
        holds(has(chain, APR_ARRAY_IDX(sorted, i, md_cert_t *)) == 1
              && has(sorted, APR_ARRAY_IDX(sorted, i, md_cert_t *)) == 1);
    APR_ARRAY_PUSH(names, const char *) = "one.example.org";
    rv = md_chain_check(sorted, key, names, NOW, &err, p);
    holds_with(rv, &err);
    if (rv == APR_SUCCESS)
        holds(md_cert_fits_key(md_chain_leaf(sorted), key));
    rv = md_chain_check_strength(chain, &err);
    holds_with(rv, &err);
}

static void check_written(const apr_array_header_t *chain, apr_pool_t *p)
{
    const char *text = md_chain_to_pem(chain, p);
    apr_hash_t *known = apr_hash_make(p);
    apr_array_header_t *again;
    int turn;

    for (turn = 0; turn < 2; ++turn) {
        holds(md_chain_from_pem_shared(&again, text, strlen(text), known, NULL, p) == APR_SUCCESS);
        holds(again->nelts == chain->nelts && !strcmp(md_chain_to_pem(again, p), text));
    }
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    const char *pem = fuzz_pem("CERTIFICATE", data, &len, p);
    const char *key_pem = fuzz_key_pem();
    md_err_t err = fuzz_err(p);
    apr_array_header_t *chain;
    apr_status_t rv;
    int i;

    rv = md_chain_from_pem(&chain, pem, len, &err, p);
    holds_with(rv, &err);
    holds((rv == APR_SUCCESS) == (chain != NULL));
    if (!chain)
        return;
    holds(chain->nelts <= MD_MAX_CHAIN);
    for (i = 0; i < chain->nelts; ++i) {
        check_info(APR_ARRAY_IDX(chain, i, md_cert_t *), p);
        (void)md_cert_is_self_signed(APR_ARRAY_IDX(chain, i, md_cert_t *));
        (void)md_cert_fits_pem(APR_ARRAY_IDX(chain, i, md_cert_t *), key_pem, strlen(key_pem));
    }
    check_written(chain, p);
    check_chain(chain, fuzz_key(), p);
}
