/* SPDX-License-Identifier: Apache-2.0 */
/* The table of groups. */
#include "md_store_group.h"

const md_group_t md_store_groups[] = {
    [MD_STORE_ACCOUNTS]   = { "accounts",   .is_open = 1, .encrypts = 1 },
    [MD_STORE_CHALLENGES] = { "challenges", .is_open = 1, .is_shared = 1, .is_volatile = 1 },
    [MD_STORE_DOMAINS]    = { "domains" },
    [MD_STORE_STAGING]    = { "staging",    .is_open = 1, .encrypts = 1, .is_shared = 1 },
    [MD_STORE_ARCHIVE]    = { "archive" },
    [MD_STORE_TMP]        = { "tmp" },
    [MD_STORE_OCSP]       = { "ocsp",       .is_open = 1, .is_shared = 1 },
};
_Static_assert(sizeof(md_store_groups) / sizeof(md_store_groups[0]) == MD_STORE_GROUP_MAX,
               "one row per group");
