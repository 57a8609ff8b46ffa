/* SPDX-License-Identifier: Apache-2.0 */
/* The table of groups. */
#include "md_store_group.h"

const md_group_t md_store_groups[] = {
    [MD_STORE_ACCOUNTS]   = { .name = "accounts",   .is_open = 1, .encrypts = 1 },
    [MD_STORE_CHALLENGES] = { .name = "challenges", .is_open = 1, .is_shared = 1,
                              .is_volatile = 1 },
    [MD_STORE_DOMAINS]    = { .name = "domains" },
    [MD_STORE_STAGING]    = { .name = "staging",    .is_open = 1, .encrypts = 1, .is_shared = 1 },
    [MD_STORE_ARCHIVE]    = { .name = "archive" },
    [MD_STORE_TMP]        = { .name = "tmp", .is_volatile = 1 },
    [MD_STORE_OCSP]       = { .name = "ocsp",       .is_open = 1, .is_shared = 1 },
    [MD_STORE_REQUESTS]   = { .name = "requests",   .is_open = 1, .is_volatile = 1 },
    [MD_STORE_ANSWERS]    = { .name = "answers",    .is_open = 1, .is_shared = 1,
                              .is_volatile = 1 },
    [MD_STORE_RECORDS]    = { .name = "records",    .is_open = 1, .is_shared = 1 },
    [MD_STORE_LIVE]       = { .name = "live",       .is_open = 1, .encrypts = 1, .is_shared = 1 },
};
_Static_assert(sizeof(md_store_groups) / sizeof(md_store_groups[0]) == MD_STORE_GROUP_MAX,
               "one row per group");
