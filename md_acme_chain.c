/* SPDX-License-Identifier: Apache-2.0 */
/* Which chain of a certificate is used. */
#include "md_acme_chain.h"

#include <apr_strings.h>

#include "md_cert.h"
#include "md_log.h"
#include "md_text.h"

#define MEDIA_TYPE "application/pem-certificate-chain"

/* Nothing comes of an answer that does not pass the checks. */
static apr_status_t check(apr_array_header_t **pchain, const md_choice_t *choice,
                          const md_reply_t *reply, apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    apr_array_header_t *chain;
    apr_status_t rv;

    rv = md_chain_from_pem(&chain, reply->body, reply->len, err, choice->p);
    if (rv != APR_SUCCESS || chain->nelts == 0)
        return md_fail(err, APR_EINVAL, "what the CA delivered at %s is not a certificate "
                       "chain: %s", reply->url, rv != APR_SUCCESS
                       ? apr_pstrdup(tmp, err->detail) : "the chain holds no certificate");
    *pchain = md_chain_sort(chain, choice->key, choice->p);
    rv = md_chain_check(*pchain, choice->key, choice->names, now, err, tmp);
    if (rv == APR_SUCCESS)
        return rv;
    md_fail(err, APR_EINVAL, "the certificate that the CA delivered at %s is refused: %s",
            reply->url, apr_pstrdup(tmp, err->detail));
    /* Another one would be the same, and each is one of a limited number. */
    return md_err_blame(err, MD_SCOPE_DOMAIN, 1);
}

static int is_preferred(const md_choice_t *choice, const apr_array_header_t *chain)
{
    return !choice->preferred || md_chain_is_from(chain, choice->preferred);
}

static apr_status_t fetch_first(apr_array_header_t **pchain, md_choice_t *choice, apr_time_t now,
                                md_err_t *err, apr_pool_t *tmp)
{
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_fetch(&reply, choice->acme, choice->signer, choice->url, MEDIA_TYPE,
                       MD_MAX_CHAIN_BODY, err, tmp);
    if (rv == APR_SUCCESS)
        rv = check(pchain, choice, reply, now, err, tmp);
    if (rv != APR_SUCCESS || is_preferred(choice, *pchain))
        return rv;
    choice->alternates = md_reply_links(reply, "alternate", choice->p);
    choice->chain = *pchain;
    *pchain = NULL;
    return APR_SUCCESS;
}

/* What goes wrong here is no reason to go without a certificate that is there. */
static apr_status_t fetch_alternate(apr_array_header_t **pchain, md_choice_t *choice,
                                    apr_time_t now, md_err_t *err, apr_pool_t *tmp)
{
    const char *url = APR_ARRAY_IDX(choice->alternates, choice->next, const char *);
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_try_fetch(&reply, choice->acme, choice->signer, url, MEDIA_TYPE,
                           MD_MAX_CHAIN_BODY, err, tmp);
    if (rv == APR_SUCCESS)
        rv = check(pchain, choice, reply, now, err, tmp);
    if (APR_STATUS_IS_EINTR(rv) || md_is_lack(rv)) /* that says nothing about it */
        return rv;
    ++choice->next;
    if (rv != APR_SUCCESS)
        choice->trouble = apr_pstrdup(choice->p, err->detail);
    if (rv != APR_SUCCESS || !is_preferred(choice, *pchain))
        *pchain = NULL;
    md_err_clear(err);
    return APR_SUCCESS;
}

static void tell(const md_choice_t *choice, apr_pool_t *tmp)
{
    md_log(MD_LOG_WARNING, "md[%s]: the CA has no certificate chain from '%s' (MDPreferredChain), "
           "or it cannot be used%s%s: the chain that the CA offers first is used", choice->name,
           md_text_printable(choice->preferred, tmp), choice->trouble ? ": " : "",
           choice->trouble ? md_text_line(choice->trouble, MD_MAX_TEXT, tmp) : "");
}

apr_status_t md_choice_step(apr_array_header_t **pchain, md_choice_t *choice, apr_time_t now,
                            md_err_t *err, apr_pool_t *tmp)
{
    *pchain = NULL;
    if (!choice->chain)
        return fetch_first(pchain, choice, now, err, tmp);
    if (choice->next < choice->alternates->nelts)
        return fetch_alternate(pchain, choice, now, err, tmp);
    tell(choice, tmp);
    *pchain = choice->chain;
    return APR_SUCCESS;
}
