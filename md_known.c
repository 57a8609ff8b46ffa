/* SPDX-License-Identifier: Apache-2.0 */
/* A table of pairs by the path of the certificate, in a pool of its own below the process's. */
#include "md_known.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_limits.h"
#include "md_version.h"

/* Another version of the software, loaded by a reload, may have other structs. */
#define KEY "mod_md:known:" MD_VERSION ":2"

/* Files that are older when they are looked at show each change by their times; newer ones could
 * change again within what those resolve, so they have to have the same content, too. */
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
    int is_settled;
    unsigned char digest[MD_PAIR_DIGEST]; /* of what is not settled */
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

static int is_settled(const md_file_version_t *version, apr_time_t now)
{
    return apr_time_from_sec(version->changed.tv_sec) < now - SETTLED
           && apr_time_from_sec(version->modified.tv_sec) < now - SETTLED;
}

static int digest_file(unsigned char *digest, const char *path, apr_pool_t *p)
{
    apr_size_t len;
    char *data;

    if (md_file_read_linked(&data, &len, path, MD_MAX_FILE, p) != APR_SUCCESS)
        return 0;
    md_sha256(digest, data, len);
    md_wipe(data, len);
    return 1;
}

static int digest_pair(md_pair_t *pair, apr_pool_t *parent)
{
    unsigned char *second = pair->digest + MD_PAIR_DIGEST / 2;
    apr_pool_t *p;
    int done;

    apr_pool_create(&p, parent);
    done = digest_file(pair->digest, pair->cert_file, p) && digest_file(second, pair->key_file, p);
    apr_pool_destroy(p);
    return done;
}

static int is_same(const entry_t *entry, const md_pair_t *pair)
{
    return md_file_version_same(&entry->cert, &pair->cert)
           && md_file_version_same(&entry->key, &pair->key);
}

const md_cert_info_t *md_known_find(md_known_t *known, md_pair_t *pair, apr_time_t now)
{
    entry_t *entry;

    if (!known || md_file_version(&pair->cert, pair->cert_file) != APR_SUCCESS
        || md_file_version(&pair->key, pair->key_file) != APR_SUCCESS)
        return NULL;
    pair->is_settled = is_settled(&pair->cert, now) && is_settled(&pair->key, now);
    entry = apr_hash_get(known->pairs, pair->cert_file, APR_HASH_KEY_STRING);
    if (entry && !is_same(entry, pair))
        entry = NULL;
    if (!pair->is_settled || (entry && !entry->is_settled))
        pair->has_digest = digest_pair(pair, known->p);
    if (!entry || (!entry->is_settled && (!pair->has_digest || memcmp(entry->digest, pair->digest,
                                                                      MD_PAIR_DIGEST))))
        return NULL;
    entry->is_settled |= pair->is_settled; /* now that it was seen to be the same */
    ++known->used;
    return entry->info;
}

const md_cert_info_t *md_known_keep(md_known_t *known, const md_pair_t *pair,
                                    const md_cert_t *cert, apr_pool_t *p)
{
    entry_t *entry;

    if (!known || !(pair->is_settled || pair->has_digest))
        return md_cert_info(cert, p);
    entry = apr_palloc(known->p, sizeof(*entry));
    *entry = (entry_t){ .cert = pair->cert, .key = pair->key, .is_settled = pair->is_settled,
                        .info = md_cert_info(cert, known->p) };
    memcpy(entry->digest, pair->digest, MD_PAIR_DIGEST);
    apr_hash_set(known->pairs, apr_pstrdup(known->p, pair->cert_file), APR_HASH_KEY_STRING, entry);
    ++known->kept;
    ++known->used;
    return entry->info;
}
