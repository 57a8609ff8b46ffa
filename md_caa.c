/* SPDX-License-Identifier: Apache-2.0 */
/* CAA records: which of them count, and what they say. */
#include "md_caa.h"

#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_text.h"

/* RFC 8659 3. Aliases are followed by the resolver; nobody climbs up from where they lead. */
const md_dns_answer_t *md_caa_find(md_dns_t *dns, const char *name)
{
    const md_dns_answer_t *answer = NULL;

    for (; name && *name; name = strchr(name, '.'), name = name ? name + 1 : NULL) {
        answer = md_dns_ask(dns, name, MD_DNS_CAA);
        if (answer->state == MD_DNS_OPEN)
            return NULL;
        if (answer->state == MD_DNS_FOUND || answer->state == MD_DNS_FAILED)
            return answer;
    }
    return answer;
}

/* A property that says who may issue, cut into pieces (RFC 8659 4.2). */
typedef struct issue_t {
    const char *issuer;   /* "": nobody */
    char *parameters;
} issue_t;

static issue_t parse(const char *value, apr_pool_t *p)
{
    char *text = apr_pstrdup(p, value);
    char *semicolon = strchr(text, ';');
    issue_t issue = { .parameters = semicolon ? semicolon + 1 : text + strlen(text) };

    if (semicolon)
        *semicolon = '\0';
    apr_collapse_spaces(text, text);
    issue.issuer = text;
    return issue;
}

/* Of `tag=value; tag=value`; NULL: it is not there. */
static const char *parameter(const issue_t *issue, const char *tag, apr_pool_t *p)
{
    char *text = apr_pstrdup(p, issue->parameters), *state, *word, *equals;

    for (word = apr_strtok(text, ";", &state); word; word = apr_strtok(NULL, ";", &state)) {
        apr_collapse_spaces(word, word);
        equals = strchr(word, '=');
        if (!equals)
            continue;
        *equals = '\0';
        if (!strcasecmp(word, tag))
            return equals + 1;
    }
    return NULL;
}

/* RFC 8657 4: a list with commas. */
static int lists(const char *methods, const char *method, apr_pool_t *p)
{
    char *text = apr_pstrdup(p, methods), *state, *word;

    for (word = apr_strtok(text, ",", &state); word; word = apr_strtok(NULL, ",", &state))
        if (!strcasecmp(word, method))
            return 1;
    return 0;
}

/* Why this property does not allow it, NULL: it does. */
static const char *refusal(const md_dns_record_t *record, const md_caa_wish_t *wish,
                           apr_pool_t *p)
{
    issue_t issue = parse(record->value, p);
    const char *account = parameter(&issue, "accounturi", p);
    const char *methods = parameter(&issue, "validationmethods", p);

    if (!*issue.issuer)
        return "nobody may issue";
    if (wish->identities && !md_strings_has_nocase(wish->identities, issue.issuer))
        return apr_pstrcat(p, "only others may issue, such as ", issue.issuer, NULL);
    if (account && wish->account && strcmp(account, wish->account))
        return apr_pstrcat(p, "only the account ", account, " may ask, and not ", wish->account,
                           NULL);
    if (methods && wish->method && !lists(methods, wish->method, p))
        return apr_pstrcat(p, "only the challenge types ", methods, " count, and not ",
                           wish->method, NULL);
    return NULL;
}

static int has_tag(const md_dns_answer_t *records, const char *tag)
{
    int i;

    for (i = 0; i < records->records->nelts; ++i)
        if (!strcmp(APR_ARRAY_IDX(records->records, i, md_dns_record_t).tag, tag))
            return 1;
    return 0;
}

/* RFC 8659 4.5: what a CA does not know and must. */
static int is_obstacle(const md_dns_record_t *record)
{
    static const char *const KNOWN[] = { "issue", "issuewild", "issuemail", "issuevmc", "iodef",
                                         "contactemail", "contactphone" };
    size_t i;

    for (i = 0; record->is_critical && i < sizeof(KNOWN) / sizeof(KNOWN[0]); ++i)
        if (!strcmp(record->tag, KNOWN[i]))
            return 0;
    return record->is_critical;
}

const char *md_caa_objection(const md_dns_answer_t *records, const md_caa_wish_t *wish,
                             apr_pool_t *p)
{
    const char *tag = wish->is_wildcard && has_tag(records, "issuewild") ? "issuewild" : "issue";
    const char *why = NULL, *one;
    const md_dns_record_t *record;
    int i, is_allowed = 0;

    for (i = 0; i < records->records->nelts; ++i) {
        record = &APR_ARRAY_IDX(records->records, i, md_dns_record_t);
        if (is_obstacle(record))
            return apr_psprintf(p, "the property '%s' is critical, and hardly known to the CA",
                                record->tag);
        if (strcmp(record->tag, tag))
            continue;
        one = refusal(record, wish, p);
        is_allowed |= !one;
        why = why ? why : one;
    }
    return is_allowed || !why ? NULL
           : apr_psprintf(p, "%s (%s)", md_text_line(why, MD_MAX_TEXT, p), tag);
}
