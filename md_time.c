/* SPDX-License-Identifier: Apache-2.0 */
/* Durations, windows, time stamps. */
#include "md_time.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <apr_date.h>
#include <apr_strings.h>

#include "md_limits.h"

/* Largest first: the first that divides exactly is the one to print. */
static const struct {
    const char *name;
    apr_interval_time_t length;
    const char *word;
} UNITS[] = {
    { "d", APR_INT64_C(86400000000), "day" },
    { "h", APR_INT64_C(3600000000), "hour" },
    { "mi", APR_INT64_C(60000000), "minute" },
    { "s", APR_INT64_C(1000000), "second" },
    { "ms", APR_INT64_C(1000), "ms" },
};
#define UNIT_COUNT (sizeof(UNITS) / sizeof(UNITS[0]))

static apr_interval_time_t unit_length(const char *name)
{
    size_t i;

    for (i = 0; i < UNIT_COUNT; ++i)
        if (!strcasecmp(UNITS[i].name, name))
            return UNITS[i].length;
    return 0;
}

apr_status_t md_duration_parse(apr_interval_time_t *pduration, const char *text,
                               const char *unit)
{
    apr_interval_time_t length, duration;
    apr_int64_t number;
    char *end;

    errno = 0;
    number = apr_strtoi64(text, &end, 10);
    if (end == text || errno == ERANGE)
        return APR_EINVAL;
    length = unit_length(*end ? end : unit);
    if (!length || __builtin_mul_overflow(number, length, &duration))
        return APR_EINVAL;
    *pduration = duration;
    return APR_SUCCESS;
}

const char *md_duration_format(apr_interval_time_t duration, apr_pool_t *p)
{
    size_t i = 0;

    while (i < UNIT_COUNT - 1 && duration % UNITS[i].length)
        ++i;
    return apr_psprintf(p, "%" APR_INT64_T_FMT "%s", duration / UNITS[i].length, UNITS[i].name);
}

const char *md_duration_print(apr_interval_time_t duration, apr_pool_t *p)
{
    const char *text = "";
    apr_int64_t n;
    size_t i;
    int parts = 0;

    for (i = 0; i < UNIT_COUNT - 1 && parts < 2; ++i) {
        n = duration / UNITS[i].length;
        duration %= UNITS[i].length;
        if (n <= 0)
            continue;
        text = apr_psprintf(p, "%s%s%" APR_INT64_T_FMT " %s%s", text, *text ? " " : "", n,
                            UNITS[i].word, n == 1 ? "" : "s");
        ++parts;
    }
    if (parts == 0)
        text = apr_psprintf(p, "%" APR_INT64_T_FMT " ms", duration > 0 ? duration / 1000 : 0);
    return text;
}

const char *md_duration_rough(apr_interval_time_t duration, apr_pool_t *p)
{
    apr_int64_t n;
    size_t i;

    for (i = 0; i < UNIT_COUNT - 1 && duration < UNITS[i].length; ++i)
        ;
    n = duration / UNITS[i].length;
    if (i == UNIT_COUNT - 1)
        return apr_psprintf(p, "%" APR_INT64_T_FMT " ms", n);
    return apr_psprintf(p, "~%" APR_INT64_T_FMT " %s%s", n, UNITS[i].word, n == 1 ? "" : "s");
}

const char *md_time_words(apr_time_t t, apr_time_t now, apr_pool_t *p)
{
    const apr_interval_time_t day = apr_time_from_sec(24 * 3600);
    apr_interval_time_t wait = t - now, length = wait < 0 ? -wait : wait;
    const char *rough = md_duration_rough(length, p), *words;

    if (length < apr_time_from_sec(1))
        return "now";
    words = wait < 0 ? apr_psprintf(p, "%s ago", rough + 1) : apr_psprintf(p, "in %s", rough + 1);
    if (wait < 0 || wait >= day)
        return words;
    return apr_psprintf(p, "%s, at %.5s", words, md_time_http(t, p) + strlen("Sun, 06 Nov 1994 "));
}

#define MAX_PERCENT 100000

static const char *parse_percent(md_window_spec_t *pspec, const char *text, const char *sign,
                                 apr_pool_t *p)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    if (end != sign || end == text || sign[1] || errno)
        return apr_psprintf(p, "has unrecognized format: '%s'", text);
    if (n < 0 || n > MAX_PERCENT)
        return "must not be a negative or huge percentage";
    pspec->percent = (int)n;
    pspec->length = 0;
    return NULL;
}

const char *md_window_spec_parse_any(md_window_spec_t *pspec, const char *text, apr_pool_t *p)
{
    const char *sign = strchr(text, '%');
    apr_interval_time_t length;

    if (sign)
        return parse_percent(pspec, text, sign, p);
    if (md_duration_parse(&length, text, "d") != APR_SUCCESS)
        return apr_psprintf(p, "has unrecognized format: '%s'", text);
    if (length < 0)
        return "must not be negative";
    *pspec = (md_window_spec_t){ .length = length, .percent = -1 };
    return NULL;
}

const char *md_window_spec_parse(md_window_spec_t *pspec, const char *text, apr_pool_t *p)
{
    md_window_spec_t spec;
    const char *wrong = md_window_spec_parse_any(&spec, text, p);

    if (wrong)
        return wrong;
    if (spec.percent >= 100)
        return "a length of 100% or more is not allowed.";
    *pspec = spec;
    return NULL;
}

int md_window_spec_is_set(const md_window_spec_t *spec)
{
    return spec->percent >= 0 || spec->length >= 0;
}

const char *md_window_spec_format(const md_window_spec_t *spec, apr_pool_t *p)
{
    if (spec->percent >= 0)
        return apr_psprintf(p, "%d%%", spec->percent);
    return md_duration_format(spec->length, p);
}

/* A part of a lifetime, in whole seconds of a long one; the largest number, if it is more. */
static apr_interval_time_t share_of(apr_interval_time_t lifetime, int percent)
{
    apr_int64_t seconds = apr_time_sec(lifetime);

    if (lifetime < 0)
        return 0;
    if (seconds <= 100)
        return lifetime * percent / 100;
    seconds = seconds / 100 * percent + seconds % 100 * percent / 100;
    return seconds <= apr_time_sec(APR_INT64_MAX) ? apr_time_from_sec(seconds) : APR_INT64_MAX;
}

apr_time_t md_window_opens(const md_window_t *validity, const md_window_spec_t *spec)
{
    apr_interval_time_t length = spec->length;
    apr_time_t opens;

    if (spec->percent >= 0)
        length = share_of(validity->end - validity->start, spec->percent);
    return __builtin_sub_overflow(validity->end, length, &opens) ? APR_INT64_MIN : opens;
}

const char *md_time_http(apr_time_t t, apr_pool_t *p)
{
    char *text = apr_palloc(p, APR_RFC822_DATE_LEN);

    return apr_rfc822_date(text, t) == APR_SUCCESS ? text : "";
}

const char *md_time_day(apr_time_t t, apr_pool_t *p)
{
    apr_time_exp_t day;

    if (apr_time_exp_gmt(&day, t) != APR_SUCCESS)
        return "";
    return apr_psprintf(p, "%d-%02d-%02d", day.tm_year + 1900, day.tm_mon + 1, day.tm_mday);
}

const char *md_time_rfc3339(apr_time_t t, apr_pool_t *p)
{
    apr_time_exp_t e;

    if (apr_time_exp_gmt(&e, t) != APR_SUCCESS)
        return "";
    return apr_psprintf(p, "%04d-%02d-%02dT%02d:%02d:%02dZ", e.tm_year + 1900, e.tm_mon + 1,
                        e.tm_mday, e.tm_hour, e.tm_min, e.tm_sec);
}

apr_time_t md_time_parse_http(const char *text)
{
    apr_time_t t = text ? apr_date_parse_http(text) : 0;

    return t > 0 ? t : 0;
}

/* Exactly `len` digits as a number, -1 otherwise. */
static int digits(const char *text, int len)
{
    int i, n = 0;

    for (i = 0; i < len; ++i) {
        if (!isdigit((unsigned char)text[i]))
            return -1;
        n = n * 10 + text[i] - '0';
    }
    return n;
}

/* "Z", "+hh:mm" or "-hh:mm" (RFC 3339 5.6), in seconds; 0 also for `Z`. */
static int parse_offset(int *poffset, const char *text)
{
    int hours, minutes;

    *poffset = 0;
    if ((*text == 'Z' || *text == 'z') && !text[1])
        return 1;
    if ((*text != '+' && *text != '-') || strlen(text) != 6 || text[3] != ':')
        return 0;
    hours = digits(text + 1, 2);
    minutes = digits(text + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return 0;
    *poffset = (hours * 60 + minutes) * 60 * (*text == '-' ? -1 : 1);
    return 1;
}

static int days_in_month(int year, int month)
{
    static const int DAYS[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    if (month == 2 && (year % 400 == 0 || (year % 4 == 0 && year % 100 != 0)))
        return 29;
    return DAYS[month - 1];
}

apr_time_t md_time_parse_rfc3339(const char *text)
{
    apr_time_exp_t x;
    apr_time_t t;
    int year, offset;

    if (!text || strlen(text) < 20 || text[4] != '-' || text[7] != '-'
        || (text[10] != 'T' && text[10] != 't' && text[10] != ' ') || text[13] != ':'
        || text[16] != ':')
        return 0;
    memset(&x, 0, sizeof(x));
    year = digits(text, 4);
    x.tm_year = year - 1900;
    x.tm_mon = digits(text + 5, 2) - 1;
    x.tm_mday = digits(text + 8, 2);
    x.tm_hour = digits(text + 11, 2);
    x.tm_min = digits(text + 14, 2);
    x.tm_sec = digits(text + 17, 2);
    if (year < 1970 || x.tm_mon < 0 || x.tm_mon > 11 || x.tm_mday < 1
        || x.tm_mday > days_in_month(year, x.tm_mon + 1) || x.tm_hour < 0 || x.tm_hour > 23
        || x.tm_min < 0 || x.tm_min > 59 || x.tm_sec < 0 || x.tm_sec > 60)
        return 0;
    text += 19;
    if (*text == '.')
        text += 1 + strspn(text + 1, "0123456789");
    if (!parse_offset(&offset, text) || apr_time_exp_get(&t, &x) != APR_SUCCESS)
        return 0;
    t -= apr_time_from_sec(offset);
    return t > 0 ? t : 0;
}

apr_time_t md_time_retry_after(const char *value, apr_time_t now)
{
    apr_int64_t seconds, most = apr_time_sec(MD_MAX_RETRY_AFTER);
    apr_time_t t;
    char *end;

    if (!value || !*value)
        return 0;
    if (isdigit((unsigned char)*value)) {
        seconds = apr_strtoi64(value, &end, 10); /* the largest one, if that is too small */
        if (*end)
            return 0;
        t = now + apr_time_from_sec(seconds < most ? seconds : most);
    }
    else {
        t = md_time_parse_http(value);
        if (t <= now)
            return 0;
    }
    return t > now + MD_MAX_RETRY_AFTER ? now + MD_MAX_RETRY_AFTER : t;
}
