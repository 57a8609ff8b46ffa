/* SPDX-License-Identifier: Apache-2.0 */
/* Responses for certificates that are staged. */
#include "md_first_staple.h"

#include <apr_hash.h>

#include "md_clock.h"
#include "md_live.h"
#include "md_log.h"
#include "md_ocsp_ask.h"
#include "md_staple_file.h"

/* What a responder needs to know of the staged certificate of that type; NULL if there is none that
 * must be stapled and can be. */
static const md_ocsp_cert_t *read_staged(const md_reg_t *reg, const md_domain_t *domain,
                                         const md_key_spec_t *spec, apr_pool_t *p)
{
    apr_array_header_t *chain;
    md_ocsp_cert_t *ocsp;
    md_err_t err;

    md_err_init(&err, p);
    if (md_store_load_chain(&chain, NULL, reg->store, MD_STORE_STAGING, domain->name,
                            md_key_spec_file(spec, "pubcert", p), NULL, p) != APR_SUCCESS
        || chain->nelts < 2 || !md_cert_info(md_chain_leaf(chain), p)->must_staple
        || md_ocsp_cert_from_pem(&ocsp, md_chain_to_pem(chain, p), apr_hash_make(p), &err, p)
               != APR_SUCCESS)
        return NULL;
    return ocsp->responder_url ? ocsp : NULL;
}

static int find_missing(md_stapled_t *missing, const md_reg_t *reg, const md_domain_t *domain,
                        apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    int i;

    *missing = (md_stapled_t){ .name = domain->name, .domain = domain };
    for (i = 0; domain->must_staple && domain->stapling && i < specs->nelts; ++i) {
        missing->ocsp = read_staged(reg, domain, &APR_ARRAY_IDX(specs, i, md_key_spec_t), p);
        if (missing->ocsp && !md_staple_is_stored(reg->store, missing, p))
            return 1;
    }
    return 0;
}

int md_first_staple_is_missing(const md_reg_t *reg, const md_domain_t *domain, apr_pool_t *p)
{
    md_stapled_t missing;

    return find_missing(&missing, reg, domain, p);
}

apr_status_t md_first_staple_fetch(const md_reg_t *reg, const md_domain_t *domain, int by_post,
                                   md_http_t *http, md_err_t *err, apr_pool_t *p)
{
    md_route_t route = md_config_route(domain, reg->conf, &reg->noted);
    md_stapled_t missing;
    md_ocsp_reply_t reply;
    md_staple_t staple;
    apr_status_t rv;

    if (!find_missing(&missing, reg, domain, p))
        return APR_SUCCESS;
    rv = md_ocsp_ask(&reply, missing.ocsp, by_post, http, &route, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    md_staple_fill(&staple, &reply.answer, (const unsigned char *)reply.response->body,
                   reply.response->len, reply.at, md_clock_steady());
    md_log(MD_LOG_DEBUG, "md[%s]: first OCSP response for the certificate with serial %s: %s",
           domain->name, missing.ocsp->serial, md_staple_status(&staple));
    return md_staple_save(&staple, reg->store, &missing, err, p);
}
