/* SPDX-License-Identifier: Apache-2.0 */
/* A table of pairs by the path of the certificate, in a pool of its own below the process's. */
#include "md_known.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_version.h"

/* Another version of the software, loaded by a reload, may have other structs. */
#define KEY "mod_md:known:" MD_VERSION ":1"

/* Files that are older when they are looked at show each change by their times. */
#define SETTLED apr_time_from_sec(2)

/* How many pairs that nobody asked for may be kept besides those that are used. */
#define SPARE 100

struct md_known_t {
    apr_pool_t *p;      /* of all that follows */
    apr_hash_t *pairs;  /* entry_t by path */
    int least_bits;     /* of security: what was strong enough may not be now */
    int kept;           /* since the pool was made: replaced ones still take their memory */
    int used;           /* since it was opened */
};

typedef struct entry_t {
    md_file_version_t cert, key;
    const md_cert_info_t *info;
} entry_t;

static int is_of_use(const md_known_t *known)
{
    return known->p && known->least_bits == md_chain_least_bits()
           && known->kept <= 2 * known->used + SPARE;
}

static void forget_all(md_known_t *known, apr_pool_t *process)
{
    if (known->p)
        apr_pool_destroy(known->p);
    apr_pool_create(&known->p, process);
    known->pairs = apr_hash_make(known->p);
    known->least_bits = md_chain_least_bits();
    known->kept = 0;
}

md_known_t *md_known_open(apr_pool_t *process)
{
    md_known_t *known;
    void *found = NULL;

    apr_pool_userdata_get(&found, KEY, process);
    known = found ? found : apr_pcalloc(process, sizeof(*known));
    if (!found)
        apr_pool_userdata_set(known, KEY, NULL, process);
    if (!is_of_use(known))
        forget_all(known, process);
    known->used = 0;
    return known;
}

const md_cert_info_t *md_known_find(md_known_t *known, md_pair_t *pair)
{
    const entry_t *entry;

    if (!known || md_file_version(&pair->cert, pair->cert_file) != APR_SUCCESS
        || md_file_version(&pair->key, pair->key_file) != APR_SUCCESS)
        return NULL;
    entry = apr_hash_get(known->pairs, pair->cert_file, APR_HASH_KEY_STRING);
    if (!entry || !md_file_version_same(&entry->cert, &pair->cert)
        || !md_file_version_same(&entry->key, &pair->key))
        return NULL;
    ++known->used;
    return entry->info;
}

static int is_settled(const md_file_version_t *version, apr_time_t now)
{
    return apr_time_from_sec(version->changed.tv_sec) < now - SETTLED
           && apr_time_from_sec(version->modified.tv_sec) < now - SETTLED;
}

const md_cert_info_t *md_known_keep(md_known_t *known, const md_pair_t *pair,
                                    const md_cert_t *cert, apr_time_t now, apr_pool_t *p)
{
    entry_t *entry;

    if (!known || !is_settled(&pair->cert, now) || !is_settled(&pair->key, now))
        return md_cert_info(cert, p);
    entry = apr_palloc(known->p, sizeof(*entry));
    *entry = (entry_t){ pair->cert, pair->key, md_cert_info(cert, known->p) };
    apr_hash_set(known->pairs, apr_pstrdup(known->p, pair->cert_file), APR_HASH_KEY_STRING, entry);
    ++known->kept;
    ++known->used;
    return entry->info;
}
