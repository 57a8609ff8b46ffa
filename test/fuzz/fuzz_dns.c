/* SPDX-License-Identifier: Apache-2.0 */
/* What a name server answers. The first byte chooses what was asked. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../../md_dns.h"
#include "../../md_limits.h"

static const md_dns_type_t TYPES[] = { MD_DNS_A, MD_DNS_NS, MD_DNS_CNAME, MD_DNS_TXT, MD_DNS_AAAA,
                                       MD_DNS_CAA };

void fuzz_one(const char *data, size_t len, apr_pool_t *p)
{
    md_dns_answer_t answer = { .name = "a.test" };
    const md_dns_record_t *record;
    unsigned char *message;
    int i;

    if (len == 0)
        return;
    answer.type = TYPES[(unsigned char)data[0] % (sizeof(TYPES) / sizeof(TYPES[0]))];
    message = malloc(len); /* no NUL behind it */
    holds(message);
    memcpy(message, data + 1, len - 1);
    md_dns_parse(&answer, message, len - 1, p);
    free(message);
    holds(answer.state != MD_DNS_OPEN && answer.records);
    holds((answer.state == MD_DNS_FAILED) == (answer.why != NULL));
    holds((answer.state == MD_DNS_FOUND) == (answer.records->nelts > 0));
    holds(answer.records->nelts <= MD_MAX_DNS_RECORDS);
    for (i = 0; i < answer.records->nelts; ++i) {
        record = &APR_ARRAY_IDX(answer.records, i, md_dns_record_t);
        holds(record->value && strlen(record->value) <= len);
        holds((record->tag != NULL) == (answer.type == MD_DNS_CAA));
    }
}
