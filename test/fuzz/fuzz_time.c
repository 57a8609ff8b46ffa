/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, windows, dates, Retry-After. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "../../md_limits.h"
#include "../../md_time.h"

#define NOW  apr_time_from_sec(1800000000)
#define YEAR apr_time_from_sec(365 * 24 * 3600)

static void check_duration(const char *text, apr_pool_t *p)
{
    apr_interval_time_t duration, again;

    if (md_duration_parse(&duration, text, "s") != APR_SUCCESS)
        return;
    holds(md_duration_parse(&again, md_duration_format(duration, p), "d") == APR_SUCCESS);
    holds(duration == again);
    holds(*md_duration_print(duration, p));
}

static void check_window(const char *text, apr_pool_t *p)
{
    static const md_window_t VALIDITIES[] = {
        { NOW, NOW + YEAR / 4 }, { NOW, NOW }, { NOW, NOW + 1 }, { 0, NOW * 100 },
        { -1900 * YEAR, 8000 * YEAR }, { NOW + YEAR, NOW },
    };
    md_window_spec_t spec = { -1, -1 }, again = { -1, -1 };
    const md_window_t *validity;
    apr_time_t opens;
    size_t i;

    if (md_window_spec_parse_any(&spec, text, p))
        return;
    holds(md_window_spec_is_set(&spec));
    holds(!md_window_spec_parse_any(&again, md_window_spec_format(&spec, p), p));
    holds(spec.length == again.length && spec.percent == again.percent);
    for (i = 0; i < sizeof(VALIDITIES) / sizeof(VALIDITIES[0]); ++i) {
        validity = &VALIDITIES[i];
        opens = md_window_opens(validity, &spec);
        holds(opens <= validity->end || validity->end < validity->start);
        holds(spec.percent < 0 || spec.percent > 100 || opens >= validity->start
              || validity->end < validity->start);
    }
    if (md_window_spec_parse(&again, text, p))
        holds(spec.percent >= 100);
}

static void check_date(const char *text, apr_pool_t *p)
{
    apr_time_t t = md_time_parse_http(text);

    holds(t >= 0 && (t == 0 || md_time_parse_http(md_time_http(t, p)) == t));
    t = md_time_parse_rfc3339(text);
    holds(t >= 0 && t % APR_USEC_PER_SEC == 0);
    holds(t == 0 || md_time_parse_http(md_time_http(t, p)) == t);
}

/* A number of seconds, however large, counts as such. */
static void check_retry_after(const char *text)
{
    apr_time_t t = md_time_retry_after(text, NOW);
    unsigned long long seconds;

    holds(t == 0 || (t >= NOW && t <= NOW + MD_MAX_RETRY_AFTER));
    if (!*text || text[strspn(text, "0123456789")])
        return;
    seconds = strtoull(text, NULL, 10);
    holds(t == NOW + (seconds < 24 * 3600 ? apr_time_from_sec(seconds) : MD_MAX_RETRY_AFTER));
}

void fuzz_one(const char *text, size_t len, apr_pool_t *p)
{
    (void)len;
    check_duration(text, p);
    check_window(text, p);
    check_date(text, p);
    check_retry_after(text);
}
