/* SPDX-License-Identifier: Apache-2.0 */
/* OCSP responses in the store. */
#include "md_staple_file.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_clock.h"
#include "md_text.h"

#define PREFIX "ocsp-"

static const md_json_rule_t RULES[] = {
    { "response", MD_JSON_STRING, 1 }, { "status", MD_JSON_STRING, 0 },
    { "valid", MD_JSON_OBJECT, 0 }, { NULL, MD_JSON_STRING, 0 }
};

static const char *file_of(const md_stapled_t *stapled, apr_pool_t *p)
{
    return apr_pstrcat(p, PREFIX, stapled->ocsp->sha1, ".json", NULL);
}

/* What else the file says is for others to read: the response says it, too, and it is signed. */
apr_status_t md_staple_load(md_staple_t *staple, const md_store_t *store,
                            const md_stapled_t *stapled, md_err_t *err, apr_pool_t *p)
{
    const char *file = file_of(stapled, p);
    apr_time_t now = md_clock_now();
    md_ocsp_answer_t answer;
    unsigned char *der;
    apr_size_t len;
    md_json_t *json;
    apr_status_t rv;

    rv = md_store_load_json(&json, store, MD_STORE_OCSP, stapled->name, file, err, p);
    if (rv == APR_SUCCESS)
        rv = md_store_check_json(json, store, MD_STORE_OCSP, stapled->name, file, RULES, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    len = md_base64url_decode(&der, md_json_get_str(json, "response"), p);
    rv = md_ocsp_check(&answer, stapled->ocsp, NULL, der, len, now, err, p);
    if (rv == APR_SUCCESS)
        md_staple_fill(staple, &answer, der, len, now, md_clock_steady());
    return rv;
}

apr_status_t md_staple_save(const md_staple_t *staple, const md_store_t *store,
                            const md_stapled_t *stapled, md_err_t *err, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "response",
                    md_base64url_encode(MD_STAPLE_DER(staple), (apr_size_t)staple->len, p));
    md_json_set_str(json, "status", md_staple_status(staple));
    md_json_set_time(json, "valid.from", staple->from);
    md_json_set_time(json, "valid.until", staple->until);
    return md_store_save_json_volatile(store, MD_STORE_OCSP, stapled->name, file_of(stapled, p),
                                       json, err, p);
}

int md_staple_is_stored(const md_store_t *store, const md_stapled_t *stapled, apr_pool_t *p)
{
    return md_store_exists(store, MD_STORE_OCSP, stapled->name, file_of(stapled, p), p);
}

static int is_stapled(const md_reg_t *reg, const char *name)
{
    return reg->staples && md_staples_of(reg->staples, name);
}

static apr_hash_t *names_of(const apr_array_header_t *domains, apr_pool_t *p)
{
    apr_hash_t *names = apr_hash_make(p);
    const md_domain_t *domain;
    int i;

    for (i = 0; i < domains->nelts; ++i) {
        domain = APR_ARRAY_IDX(domains, i, const md_domain_t *);
        apr_hash_set(names, domain->name, APR_HASH_KEY_STRING, domain);
    }
    return names;
}

/* A percentage is one of the usual seven days. */
static apr_time_t keep_since(const md_conf_t *conf, apr_time_t now)
{
    const md_window_t week = { now - apr_time_from_sec(7 * 24 * 3600), now };

    return md_window_opens(&week, &conf->staple_keep);
}

void md_staple_clean(const md_reg_t *reg, apr_time_t now, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(reg->store, MD_STORE_OCSP, p);
    apr_hash_t *configured = names_of(reg->domains, p);
    apr_time_t before = keep_since(reg->conf, now);
    apr_pool_t *iter;
    const char *name;
    int i, known;

    apr_pool_create(&iter, p);
    for (i = 0; i < names->nelts; ++i) {
        apr_pool_clear(iter);
        name = APR_ARRAY_IDX(names, i, const char *);
        known = is_stapled(reg, name) || apr_hash_get(configured, name, APR_HASH_KEY_STRING);
        if (md_store_remove_old(reg->store, MD_STORE_OCSP, name, known ? PREFIX : "", before, iter)
                == 0 && !known)
            md_store_remove(reg->store, MD_STORE_OCSP, name, NULL, iter);
    }
    apr_pool_destroy(iter);
}
