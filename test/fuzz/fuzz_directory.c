/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a CA, and the headers of its answers. */
#include "ca.h"

#include "../../md_limits.h"
#include "../../md_text.h"
#include "fuzz.h"

static void check_directory(const md_directory_t *dir, apr_pool_t *p)
{
    const char *const urls[] = { dir->new_nonce, dir->new_account, dir->new_order,
                                 dir->revoke_cert, dir->key_change, dir->renewal_info };
    size_t i;

    holds(urls[0] && urls[1] && urls[2] && dir->profiles);
    for (i = 0; i < sizeof(urls) / sizeof(urls[0]); ++i)
        holds(!urls[i] || !md_uri_check_http(urls[i], p));
}

/* The rest of the answers is for a signed request. */
static void post(md_acme_t *acme, apr_pool_t *p)
{
    const md_signer_t signer = { .key = fuzz_key(), .kid = CA "/acct/1" };
    apr_time_t now = apr_time_now(), latest = now + MD_MAX_RETRY_AFTER + apr_time_from_sec(60);
    md_err_t err = fuzz_err(p);
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_fetch(&reply, acme, signer, CA "/order/1", NULL, MD_MAX_ACME_BODY, &err, p);
    holds_with(rv, &err);
    holds(err.retry_after <= latest && md_acme_hold_until(acme, now) <= latest);
    holds(ca.count < 2 * MD_MAX_BAD_NONCE + 5);
    if (rv == APR_SUCCESS)
        holds(reply->status / 100 == 2 && reply->media_type && reply->body && reply->headers
              && reply->retry_after <= latest);
}

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    md_acme_t *acme = ca_make(data, len, 0, p);
    md_err_t err = fuzz_err(p);
    apr_status_t rv;

    rv = md_acme_load_directory(acme, apr_time_now(), &err, p);
    holds_with(rv, &err);
    holds((rv == APR_SUCCESS) == (md_acme_directory(acme) != NULL));
    if (rv != APR_SUCCESS)
        return;
    check_directory(md_acme_directory(acme), p);
    post(acme, p);
}
