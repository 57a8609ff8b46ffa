/* SPDX-License-Identifier: Apache-2.0 */
/* Renewal information: the request, the answer, and what it means. */
#include "md_ari.h"

#include <string.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

#define YEAR apr_time_from_sec(365 * 24 * 3600)

const char *md_ari_window_problem(const md_window_t *window, const md_window_t *validity)
{
    if (window->end <= window->start)
        return "the suggested window does not end after its start";
    if (window->start < validity->start - YEAR || window->end > validity->end + YEAR)
        return "the suggested window is years away";
    return NULL;
}

int md_ari_is_url(const char *url, apr_pool_t *p)
{
    return url && strlen(url) <= MD_MAX_TEXT && !md_uri_check_http(url, p);
}

apr_time_t md_ari_pick(const md_window_t *window, apr_uint64_t dice)
{
    return window->start + (apr_time_t)(dice % (apr_uint64_t)(window->end - window->start));
}

static apr_interval_time_t within(apr_interval_time_t wait, apr_interval_time_t most)
{
    if (wait < MD_ARI_POLL_LEAST)
        return MD_ARI_POLL_LEAST;
    return wait < most ? wait : most;
}

apr_time_t md_ari_poll_at(apr_time_t retry_after, apr_interval_time_t interval, apr_time_t now)
{
    return now + (retry_after ? within(retry_after - now, MD_ARI_POLL_MOST)
                              : within(interval, MD_ARI_POLL));
}

apr_status_t md_ari_parse(md_ari_t *pari, const md_json_t *json, const md_window_t *validity,
                          md_err_t *err, apr_pool_t *p)
{
    const char *start = md_json_get_str(json, "suggestedWindow.start");
    const char *end = md_json_get_str(json, "suggestedWindow.end");
    const char *url = md_json_get_str(json, "explanationURL"), *wrong;
    md_window_t window = { md_time_parse_rfc3339(start), md_time_parse_rfc3339(end) };

    if (!window.start || !window.end)
        return md_fail(err, APR_EINVAL, "the answer has no readable suggestedWindow");
    wrong = md_ari_window_problem(&window, validity);
    if (wrong)
        return md_fail(err, APR_EINVAL, "%s: %s to %s", wrong, start, end);
    pari->window = window;
    pari->explanation_url = md_ari_is_url(url, p) ? apr_pstrdup(p, url) : NULL;
    return APR_SUCCESS;
}

/* RFC 9773 4.1. */
static const char *url_of(const char *renewal_info, const char *cert_id, apr_pool_t *p)
{
    apr_size_t len = strlen(renewal_info);

    return apr_pstrcat(p, renewal_info, renewal_info[len - 1] == '/' ? "" : "/", cert_id, NULL);
}

apr_status_t md_ari_fetch(md_ari_t *pari, md_acme_t *acme, const md_cert_info_t *cert,
                          apr_interval_time_t interval, apr_time_t now, md_err_t *err,
                          apr_pool_t *p)
{
    const char *url = url_of(md_acme_directory(acme)->renewal_info, cert->ari_id, p);
    md_reply_t *reply;
    apr_status_t rv;

    rv = md_acme_get(&reply, acme, url, MD_MAX_ARI_BODY, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (reply->status != 200)
        rv = md_fail(err, APR_EGENERAL, "%s: HTTP status %d, expected 200", url, reply->status);
    else if (!reply->json)
        rv = md_fail(err, APR_EINVAL, "%s: the answer is not JSON", url);
    else
        rv = md_ari_parse(pari, reply->json, &cert->validity, err, p);
    if (rv == APR_SUCCESS)
        pari->poll_at = md_ari_poll_at(reply->retry_after, interval, now);
    else
        err->retry_after = reply->retry_after;
    return rv;
}
