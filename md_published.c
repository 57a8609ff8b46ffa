/* SPDX-License-Identifier: Apache-2.0 */
/* Published sets: `live/<name>/set.<n>`. The highest number counts; whoever removes one knows its
 * number, and so takes no later one away. */
#include "md_published.h"

#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_record.h"
#include "md_text.h"

#define PREFIX     "set."
#define MOST       999999999
#define LOAD_TRIES 10 /* as the file may be replaced before it is opened */

/* ---- names of files ---- */

/* 0: it is none of ours. */
static int number_of(const char *file)
{
    const char *digits = file + strlen(PREFIX);
    size_t len;

    if (strncmp(file, PREFIX, strlen(PREFIX)))
        return 0;
    len = strspn(digits, "0123456789");
    return len > 0 && len <= 9 && !digits[len] ? atoi(digits) : 0;
}

static const char *file_of(int number, apr_pool_t *p)
{
    return apr_psprintf(p, PREFIX "%d", number);
}

static int last_number(const md_store_t *store, const char *name, apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(store, MD_STORE_LIVE, name, p);
    int i, number, last = 0;

    for (i = 0; i < files->nelts; ++i) {
        number = number_of(APR_ARRAY_IDX(files, i, const char *));
        last = number > last ? number : last;
    }
    return last;
}

static void remove_until(const md_store_t *store, const char *name, int number, apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(store, MD_STORE_LIVE, name, p);
    const char *file;
    int i;

    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (number_of(file) > 0 && number_of(file) <= number)
            md_store_remove(store, MD_STORE_LIVE, name, file, p);
    }
}

void md_published_remove(const md_store_t *store, const char *name, int number, apr_pool_t *p)
{
    remove_until(store, name, number, p);
    if (last_number(store, name, p) > 0)
        return;
    md_job_remove(store, MD_STORE_LIVE, name, p);
    md_store_remove_empty(store, MD_STORE_LIVE, name, p);
}

/* ---- the record ---- */

/* After these come the pairs, each with the name of its key spec in file names. */
enum { SINCE, CA_URL, ACCOUNT, MUST_STAPLE, JOB, FIRST_PAIR };
enum { SPEC, KEY, CHAIN, PAIR_PIECES };

#define PAIRS  8 /* more key specs than OpenSSL has types of keys for TLS */
#define PIECES (FIRST_PAIR + PAIRS * PAIR_PIECES)

static const md_piece_t HEAD[FIRST_PAIR] = {
    [SINCE]       = { .name = "since", .max = 20, .is_needed = 1 },
    [CA_URL]      = { .name = "ca-url", .max = MD_MAX_URI, .is_needed = 1 },
    [ACCOUNT]     = { .name = "ca-account", .max = 255 },
    [MUST_STAPLE] = { .name = "must-staple", .max = 1 },
    [JOB]         = { .name = MD_JOB_JSON, .max = MD_MAX_FILE, .is_needed = 1 },
};

static const struct {
    const char *spec, *key, *chain;
} PAIR[PAIRS] = {
    { "spec.0", "key.0", "chain.0" }, { "spec.1", "key.1", "chain.1" },
    { "spec.2", "key.2", "chain.2" }, { "spec.3", "key.3", "chain.3" },
    { "spec.4", "key.4", "chain.4" }, { "spec.5", "key.5", "chain.5" },
    { "spec.6", "key.6", "chain.6" }, { "spec.7", "key.7", "chain.7" },
};

static const md_piece_t *make_pieces(apr_pool_t *p)
{
    md_piece_t *pieces = apr_pcalloc(p, sizeof(md_piece_t) * (PIECES + 1)), *pair;
    int i;

    memcpy(pieces, HEAD, sizeof(HEAD));
    for (i = 0; i < PAIRS; ++i) {
        pair = pieces + FIRST_PAIR + i * PAIR_PIECES;
        pair[SPEC] = (md_piece_t){ .name = PAIR[i].spec, .max = 64 };
        pair[KEY] = (md_piece_t){ .name = PAIR[i].key, .max = MD_MAX_FILE, .blocks = 1,
                                  .label = "ENCRYPTED PRIVATE KEY" };
        pair[CHAIN] = (md_piece_t){ .name = PAIR[i].chain, .max = MD_MAX_FILE,
                                    .blocks = MD_MAX_CHAIN, .label = "CERTIFICATE" };
    }
    return pieces;
}

/* ---- writing ---- */

static const char *spec_name(const apr_array_header_t *specs, int i, apr_pool_t *p)
{
    return md_key_spec_file(&APR_ARRAY_IDX(specs, i, md_key_spec_t), "pubcert", p);
}

static apr_status_t add_pairs(apr_array_header_t *record, const md_set_t *set,
                              const apr_array_header_t *specs, const md_store_t *store,
                              md_err_t *err, apr_pool_t *p)
{
    const apr_array_header_t *chain;
    apr_status_t rv;
    const char *pem;
    int i;

    if (specs->nelts > PAIRS)
        return md_fail(err, APR_EINVAL, "there are more than %d types of keys", PAIRS);
    for (i = 0; i < specs->nelts; ++i) {
        chain = APR_ARRAY_IDX(set->chains, i, apr_array_header_t *);
        if (!chain)
            continue;
        rv = md_store_seal_key(&pem, store, APR_ARRAY_IDX(set->keys, i, md_key_t *), err, p);
        if (rv != APR_SUCCESS)
            return rv;
        md_record_add(record, PAIR[i].spec, spec_name(specs, i, p));
        md_record_add(record, PAIR[i].key, pem);
        md_record_add(record, PAIR[i].chain, md_chain_to_pem(chain, p));
    }
    return APR_SUCCESS;
}

apr_status_t md_published_save(md_published_t *published, const md_store_t *store,
                               const md_domain_t *domain, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *record = md_record_make(p);
    apr_status_t rv;

    md_record_add(record, HEAD[SINCE].name, apr_psprintf(p, "%" APR_TIME_T_FMT,
                                                         published->since));
    md_record_add(record, HEAD[CA_URL].name, published->set.ca_url);
    md_record_add(record, HEAD[ACCOUNT].name, published->account);
    if (published->set.must_staple)
        md_record_add(record, HEAD[MUST_STAPLE].name, "1");
    md_record_add(record, HEAD[JOB].name,
                  md_json_text(md_job_to_json(published->job, 1, p), 1, p));
    rv = add_pairs(record, &published->set, md_domain_key_specs(domain, p), store, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    published->number = last_number(store, domain->name, p) + 1;
    if (published->number > MOST)
        return md_fail(err, APR_EINVAL, "%s has a file that no more can follow",
                       md_store_path(store, MD_STORE_LIVE, domain->name, NULL, p));
    rv = md_store_save_text(store, MD_STORE_LIVE, domain->name, file_of(published->number, p),
                            md_record_text(record, p), err, p);
    if (rv == APR_SUCCESS)
        remove_until(store, domain->name, published->number - 1, p);
    return rv;
}

/* ---- reading ---- */

/* Of a file that was cut short, a pair may be left without its chain, or none at all. */
static apr_status_t check_pairs(const char *const *values, md_err_t *err)
{
    int i, pieces, count = 0;

    for (i = FIRST_PAIR; i < PIECES; i += PAIR_PIECES) {
        pieces = !!values[i + SPEC] + !!values[i + KEY] + !!values[i + CHAIN];
        if (pieces > 0 && pieces < PAIR_PIECES)
            return md_fail(err, APR_EINVAL, "a key, or its certificate, is missing");
        count += pieces > 0;
    }
    return count > 0 ? APR_SUCCESS : md_fail(err, APR_EINVAL, "there is no certificate in it");
}

static const char *const *find_pair(const char *const *values, const char *spec)
{
    int i;

    for (i = FIRST_PAIR; i < PIECES; i += PAIR_PIECES)
        if (md_text_same(values[i + SPEC], spec))
            return values + i;
    return NULL;
}

static apr_status_t read_pair(md_set_t *set, const char *const *pair, const md_store_t *store,
                              md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *chain = NULL;
    apr_status_t rv = APR_SUCCESS;
    md_key_t *key = NULL;

    if (pair)
        rv = md_store_unseal_key(&key, store, pair[KEY], err, p);
    if (pair && rv == APR_SUCCESS)
        rv = set->issuers
             ? md_chain_from_pem_shared(&chain, pair[CHAIN], strlen(pair[CHAIN]), set->issuers,
                                        err, p)
             : md_chain_from_pem(&chain, pair[CHAIN], strlen(pair[CHAIN]), err, p);
    APR_ARRAY_PUSH(set->keys, md_key_t *) = key;
    APR_ARRAY_PUSH(set->chains, apr_array_header_t *) = chain;
    return rv;
}

static apr_status_t parse(md_published_t *published, const md_store_t *store,
                          const md_domain_t *domain, char *text, apr_size_t len, md_err_t *err,
                          apr_pool_t *p)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    const char *values[PIECES];
    md_job_t *job;
    apr_status_t rv;
    int i;

    rv = md_record_parse(values, make_pieces(p), text, len, err);
    if (rv == APR_SUCCESS)
        rv = check_pairs(values, err);
    if (rv == APR_SUCCESS)
        rv = md_job_parse(&job, MD_STORE_LIVE, domain->name, values[JOB], err, p);
    if (rv != APR_SUCCESS)
        return rv;
    published->job = job;
    published->since = apr_atoi64(values[SINCE]);
    published->account = values[ACCOUNT];
    published->set.ca_url = values[CA_URL];
    published->set.must_staple = values[MUST_STAPLE] != NULL;
    published->set.keys = apr_array_make(p, specs->nelts, sizeof(md_key_t *));
    published->set.chains = apr_array_make(p, specs->nelts, sizeof(apr_array_header_t *));
    for (i = 0; i < specs->nelts && rv == APR_SUCCESS; ++i)
        rv = read_pair(&published->set, find_pair(values, spec_name(specs, i, p)), store, err, p);
    return rv;
}

/* The latest that can be opened. */
static apr_status_t read_latest(const char **ptext, apr_size_t *plen, int *pnumber,
                                const md_store_t *store, const char *name, md_err_t *err,
                                apr_pool_t *p)
{
    apr_status_t rv;
    int i;

    for (i = 0; i < LOAD_TRIES; ++i) {
        *pnumber = last_number(store, name, p);
        if (*pnumber == 0)
            return APR_ENOENT;
        rv = md_store_load_text(ptext, plen, store, MD_STORE_LIVE, name, file_of(*pnumber, p),
                                MD_MAX_FILE, err, p);
        if (!APR_STATUS_IS_ENOENT(rv))
            return rv;
    }
    return md_fail(err, APR_EMFILE, "it was replaced again and again while it was read");
}

apr_status_t md_published_load(md_published_t *published, const md_store_t *store,
                               const md_domain_t *domain, md_err_t *err, apr_pool_t *p)
{
    apr_size_t len;
    const char *text;
    apr_status_t rv;
    char *data;

    rv = read_latest(&text, &len, &published->number, store, domain->name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    data = apr_pstrmemdup(p, text, len);
    rv = parse(published, store, domain, data, len, err, p);
    if (rv == APR_SUCCESS)
        return rv;
    return md_fail(err, md_is_lack(rv) ? rv : APR_EINVAL, "%s: %s",
                   md_store_path(store, MD_STORE_LIVE, domain->name,
                                 file_of(published->number, p), p), apr_pstrdup(p, err->detail));
}

apr_status_t md_published_check(md_published_t *published, const md_store_t *store,
                                const md_domain_t *domain, const md_live_t *live, md_err_t *err,
                                apr_pool_t *p)
{
    apr_time_t now = md_clock_now();
    apr_status_t rv = md_published_load(published, store, domain, err, p);

    if (rv != APR_SUCCESS)
        return rv;
    return md_set_check(&published->set, domain, md_live_usable(live, now, p), now, err, p);
}

/* ---- what a process takes for live ---- */

const md_live_t *md_published_live(const md_published_t *published, const md_domain_t *domain,
                                   const md_live_t *at_start, apr_pool_t *p)
{
    const apr_array_header_t *chains = published->set.chains, *chain;
    apr_array_header_t *certs = apr_array_make(p, chains->nelts, sizeof(md_cert_info_t *));
    int *fits = apr_pcalloc(p, sizeof(int) * (apr_size_t)chains->nelts), i;
    md_live_t *live = apr_pcalloc(p, sizeof(*live));

    for (i = 0; i < chains->nelts; ++i) {
        chain = APR_ARRAY_IDX(chains, i, apr_array_header_t *);
        fits[i] = chain ? 1 : at_start->fits[i];
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) =
            chain ? md_cert_info(md_chain_leaf(chain), p)
                  : APR_ARRAY_IDX(at_start->certs, i, const md_cert_info_t *);
    }
    live->certs = live->obtained = certs;
    live->fits = fits;
    live->lacks_must_staple = published->job->lacks_must_staple;
    live->since = published->since;
    live->at_start = at_start;
    md_live_settle(live, domain, p);
    return live;
}

void md_published_follow(const md_store_t *store, const md_board_t *board,
                         const md_domain_t *domain)
{
    const md_live_t *now = md_live_of(domain), *at_start = md_live_at_start(domain);
    unsigned int generation = md_board_generation(board, domain->number);
    md_published_t published = { .number = 0 };
    apr_pool_t *p, *tmp;
    apr_status_t rv;
    md_live_t *live;
    md_err_t err;

    if (!domain->activates_live || generation == now->generation || !now->certs
        || apr_pool_create(&p, NULL) != APR_SUCCESS)
        return;
    apr_pool_create(&tmp, p);
    md_err_init(&err, tmp);
    rv = md_published_check(&published, store, domain, at_start, &err, tmp);
    if (!md_is_lack(rv)) {
        live = apr_pmemdup(p, rv == APR_SUCCESS
                              ? md_published_live(&published, domain, at_start, p) : now,
                           sizeof(*live));
        live->generation = generation;
        live->at_start = at_start;
        md_live_replace(domain, live); /* it lives as long as the process */
    }
    apr_pool_destroy(md_is_lack(rv) ? p : tmp);
}
