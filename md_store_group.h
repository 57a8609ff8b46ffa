/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of a store: which kinds of directories there are, and for whom. */
#ifndef MD_STORE_GROUP_H
#define MD_STORE_GROUP_H

typedef struct md_store_t md_store_t;

typedef enum {
    MD_STORE_ACCOUNTS,
    MD_STORE_CHALLENGES,
    MD_STORE_DOMAINS,
    MD_STORE_STAGING,
    MD_STORE_ARCHIVE,
    MD_STORE_TMP,
    MD_STORE_OCSP,
    MD_STORE_REQUESTS,
    MD_STORE_ANSWERS,
    MD_STORE_RECORDS,
    MD_STORE_LIVE,
    MD_STORE_GROUP_MAX
} md_store_group_t;

typedef struct md_group_t {
    const char *name;
    int is_open;   /* children may read here */
    int encrypts;  /* private keys */
    int is_shared; /* with children: they write here */
    int is_volatile; /* no fsync: what is here can be made again, or goes to disk as a whole
                        (md_store_sync) */
} md_group_t;

extern const md_group_t md_store_groups[MD_STORE_GROUP_MAX];

#endif
