/* SPDX-License-Identifier: Apache-2.0 */
/* What CAA records allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "../../md_caa.h"
#include "../../md_text.h"

static apr_pool_t *p;

static int setup(void **state)
{
    (void)state;
    return apr_pool_create(&p, NULL);
}

static int teardown(void **state)
{
    (void)state;
    apr_pool_destroy(p);
    return 0;
}

#define MINE "https://ca.test/acct/1"

/* Records as `tag value|!tag value` (`!`: critical); what is expected in the objection. */
static const struct { const char *records; int is_wildcard; const char *objection; } CASES[] = {
    { "", 0, NULL },
    { "issue ca.test", 0, NULL },
    { "issue CA.test", 0, NULL },
    { "issue  ca.test ; x=y", 0, NULL },
    { "issue ca2.test", 0, NULL },
    { "issue other.test", 0, "only others may issue, such as other.test (issue)" },
    { "issue other.test|issue ca.test", 0, NULL },
    { "issue ;", 0, "nobody may issue" },
    { "issue ", 0, "nobody may issue" },
    { "issue ;|issue ca.test", 0, NULL },
    { "issue sub.ca.test", 0, "only others" },
    { "iodef mailto:a@a.test", 0, NULL },
    { "!iodef mailto:a@a.test", 0, NULL },
    { "!tbs x|issue ca.test", 0, "'tbs' is critical" },
    { "tbs x", 0, NULL },
    /* wildcards */
    { "issue ca.test", 1, NULL },
    { "issue other.test", 1, "only others" },
    { "issue other.test|issuewild ca.test", 1, NULL },
    { "issue other.test|issuewild ca.test", 0, "only others" },
    { "issue ca.test|issuewild ;", 1, "nobody may issue (issuewild)" },
    { "issue ca.test|issuewild ;", 0, NULL },
    { "issuewild other.test", 0, NULL },
    /* RFC 8657 */
    { "issue ca.test; accounturi=" MINE, 0, NULL },
    { "issue ca.test; AccountURI = " MINE, 0, NULL },
    { "issue ca.test; accounturi=" MINE "2", 0, "only the account " MINE "2 may ask, and not" },
    { "issue ca.test; accounturi=" MINE "2|issue ca.test; accounturi=" MINE, 0, NULL },
    { "issue ca.test; validationmethods=dns-01,http-01", 0, NULL },
    { "issue ca.test; validationmethods=dns-01", 0, "types dns-01 count, and not http-01" },
    { "issue ca.test; validationmethods=http-010", 0, "and not http-01" },
    { "issue ca.test; accounturi=" MINE "; validationmethods=dns-01", 0, "and not http-01" },
};

static md_dns_answer_t records_of(const char *text)
{
    md_dns_answer_t answer = { .records = apr_array_make(p, 2, sizeof(md_dns_record_t)) };
    char *state, *word, *blank;
    md_dns_record_t record;

    for (word = apr_strtok(apr_pstrdup(p, text), "|", &state); word;
         word = apr_strtok(NULL, "|", &state)) {
        blank = strchr(word, ' ');
        *blank = '\0';
        record = (md_dns_record_t){ .value = blank + 1, .is_critical = *word == '!' };
        record.tag = word + record.is_critical;
        APR_ARRAY_PUSH(answer.records, md_dns_record_t) = record;
    }
    return answer;
}

static void records_allow_or_forbid(void **state)
{
    apr_array_header_t *identities = md_strings_make(p);
    md_caa_wish_t wish = { .identities = identities, .account = MINE, .method = "http-01" };
    md_dns_answer_t records;
    const char *objection;
    size_t i;

    (void)state;
    APR_ARRAY_PUSH(identities, const char *) = "ca.test";
    APR_ARRAY_PUSH(identities, const char *) = "ca2.test";
    for (i = 0; i < sizeof(CASES) / sizeof(CASES[0]); ++i) {
        records = records_of(CASES[i].records);
        wish.is_wildcard = CASES[i].is_wildcard;
        objection = md_caa_objection(&records, &wish, p);
        if (!CASES[i].objection != !objection
            || (objection && !strstr(objection, CASES[i].objection)))
            fail_msg("%s: %s", CASES[i].records, objection);
    }
}

static void what_is_not_known_forbids_nothing(void **state)
{
    const md_caa_wish_t wish = { .is_wildcard = 0 };
    md_dns_answer_t records = records_of("issue x.test; accounturi=a; validationmethods=b");

    (void)state;
    assert_null(md_caa_objection(&records, &wish, p));
    records = records_of("issue ;");
    assert_non_null(md_caa_objection(&records, &wish, p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(records_allow_or_forbid, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_known_forbids_nothing, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
