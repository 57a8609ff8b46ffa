/* SPDX-License-Identifier: Apache-2.0 */
/* Revocation. */
#include "md_acme_revoke.h"

#include <stdlib.h>
#include <strings.h>

#include <apr_strings.h>

/* RFC 5280 5.3.1; number 7 is not used. */
static const char *const REASONS[] = {
    "unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
    "cessationOfOperation", "certificateHold", NULL, "removeFromCRL", "privilegeWithdrawn",
    "aACompromise"
};
#define REASON_COUNT ((int)(sizeof(REASONS) / sizeof(REASONS[0])))

int md_revoke_reason(const char *word)
{
    char *end;
    long number = strtol(word, &end, 10);
    int i;

    if (*word && !*end)
        return number >= 0 && number < REASON_COUNT && REASONS[number] ? (int)number : -1;
    for (i = 0; i < REASON_COUNT; ++i)
        if (REASONS[i] && !strcasecmp(REASONS[i], word))
            return i;
    return -1;
}

const char *md_revoke_reasons(apr_pool_t *p)
{
    const char *all = "";
    int i;

    for (i = 0; i < REASON_COUNT; ++i)
        if (REASONS[i])
            all = apr_pstrcat(p, all, *all ? ", " : "", REASONS[i], NULL);
    return all;
}

apr_status_t md_acme_revoke(md_acme_t *acme, md_signer_t signer, const md_cert_t *cert, int reason,
                            md_err_t *err, apr_pool_t *p)
{
    const char *url = md_acme_directory(acme)->revoke_cert;
    md_json_t *payload = md_json_object(p);
    md_reply_t *reply;
    apr_status_t rv;

    if (!url)
        return md_fail(err, APR_ENOTIMPL, "the CA %s offers no revocation", md_acme_url(acme));
    md_json_set_str(payload, "certificate", md_cert_encode(cert, p));
    if (reason >= 0)
        md_json_set_int(payload, "reason", reason);
    rv = md_acme_try_post(&reply, acme, signer, url, payload, err, p);
    return md_problem_is(err, MD_PROBLEM_ALREADY_REVOKED) ? APR_EEXIST : rv;
}
