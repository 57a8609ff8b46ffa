/* SPDX-License-Identifier: Apache-2.0 */
/* Requests at run time: their documents. */
#include "md_wish.h"

#include <string.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

#define REQUEST_JSON "request.json"
#define ANSWER_JSON  "answer.json"
#define LASTS        apr_time_from_sec(24 * 3600)
#define SETTLES      apr_time_from_sec(2) /* a change may bear the time of the one before */

static const char *const KINDS[] = {
    [MD_WISH_RENEW] = "renew", [MD_WISH_CHECK] = "check"
};
_Static_assert(sizeof(KINDS) / sizeof(KINDS[0]) == MD_WISH_COUNT, "one name per kind");

static const md_json_rule_t REQUEST_RULES[] = {
    { "id", MD_JSON_STRING, 1 }, { "kind", MD_JSON_STRING, 1 }, { "made", MD_JSON_STRING, 1 },
    { NULL, MD_JSON_STRING, 0 }
};

static const md_json_rule_t ANSWER_RULES[] = {
    { "id", MD_JSON_STRING, 1 }, { "done", MD_JSON_BOOL, 1 }, { "status", MD_JSON_NUMBER, 1 },
    { "detail", MD_JSON_STRING, 0 }, { "hints", MD_JSON_STRINGS, 0 }, { NULL, MD_JSON_STRING, 0 }
};

/* ---- who asks ---- */

static void make_id(md_wish_t *request, apr_pool_t *p)
{
    unsigned char bytes[16];

    md_random_bytes(bytes, sizeof(bytes));
    apr_cpystrn(request->id, md_base64url_encode(bytes, sizeof(bytes), p), sizeof(request->id));
}

/* The directory is made anew each time, so that the one above it changes. */
apr_status_t md_wish_make(md_wish_t *request, const md_store_t *store, const char *name,
                             md_wish_kind_t kind, apr_time_t now, md_err_t *err, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_wish_withdraw(store, name, p);
    request->kind = kind;
    make_id(request, p);
    md_json_set_str(json, "id", request->id);
    md_json_set_str(json, "kind", KINDS[kind]);
    md_json_set_time(json, "made", now);
    return md_store_save_json(store, MD_STORE_REQUESTS, name, REQUEST_JSON, json, err, p);
}

int md_wish_find_answer(md_wish_answer_t *answer, const md_store_t *store, const char *name,
                           const md_wish_t *request, apr_pool_t *p)
{
    md_json_t *json;

    if (md_store_load_json(&json, store, MD_STORE_ANSWERS, name, ANSWER_JSON, NULL, p)
            != APR_SUCCESS
        || md_json_misfit(json, ANSWER_RULES, p)
        || !md_text_same(md_json_get_str(json, "id"), request->id))
        return 0;
    answer->is_done = md_json_get_bool(json, "done");
    answer->rv = (apr_status_t)md_json_get_int(json, "status", APR_SUCCESS);
    answer->detail = md_text_clean(md_json_get_str(json, "detail"), MD_MAX_TEXT, p);
    answer->hints = md_json_get_strings(json, "hints", p);
    return 1;
}

void md_wish_withdraw(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_store_remove(store, MD_STORE_REQUESTS, name, NULL, p);
    md_store_remove(store, MD_STORE_ANSWERS, name, NULL, p);
}

/* ---- who is asked ---- */

int md_wish_has_news(apr_time_t *pseen, const md_store_t *store, apr_time_t now,
                        apr_pool_t *p)
{
    apr_time_t changed = md_store_changed_at(store, MD_STORE_REQUESTS, NULL, p);
    int has_news = changed && (changed != *pseen || (changed <= now && now - changed < SETTLES));

    *pseen = changed;
    return has_news;
}

static int find_kind(md_wish_kind_t *pkind, const char *word)
{
    int i;

    for (i = 0; i < MD_WISH_COUNT; ++i) {
        *pkind = (md_wish_kind_t)i;
        if (!strcmp(KINDS[i], word))
            return 1;
    }
    return 0;
}

static int is_recent(const md_json_t *json, apr_time_t now)
{
    apr_time_t made = md_json_get_time(json, "made");

    return made > now - LASTS && made < now + LASTS;
}

int md_wish_find(md_wish_t *request, const md_store_t *store, const char *name,
                    apr_time_t now, apr_pool_t *p)
{
    md_wish_answer_t answer = { .is_done = 0 };
    md_json_t *json;

    if (md_store_load_json(&json, store, MD_STORE_REQUESTS, name, REQUEST_JSON, NULL, p)
            != APR_SUCCESS
        || md_json_misfit(json, REQUEST_RULES, p) || !is_recent(json, now)
        || !find_kind(&request->kind, md_json_get_str(json, "kind")))
        return 0;
    apr_cpystrn(request->id, md_json_get_str(json, "id"), sizeof(request->id));
    return request->id[0]
           && (!md_wish_find_answer(&answer, store, name, request, p) || !answer.is_done);
}

apr_status_t md_wish_answer(const md_store_t *store, const char *name,
                               const md_wish_t *request, const md_wish_answer_t *answer,
                               md_err_t *err, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_str(json, "id", request->id);
    md_json_set_bool(json, "done", answer->is_done);
    md_json_set_int(json, "status", answer->rv);
    md_json_set_str(json, "detail", md_text_line(answer->detail, MD_MAX_TEXT, p));
    if (answer->hints && answer->hints->nelts > 0)
        md_json_set_strings(json, "hints", answer->hints);
    return md_store_save_json(store, MD_STORE_ANSWERS, name, ANSWER_JSON, json, err, p);
}
