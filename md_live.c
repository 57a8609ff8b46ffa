/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of what is served: made of the store and of static files, assessed, replaced. */
#include "md_live.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_clock.h"
#include "md_file.h"
#include "md_job.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

const md_live_t *md_live_of(const md_domain_t *domain)
{
    static const md_live_t NOTHING = { .state = MD_STATE_UNKNOWN };
    const md_live_t *live = __atomic_load_n(domain->live, __ATOMIC_ACQUIRE);

    return live ? live : &NOTHING;
}

const md_live_t *md_live_at_start(const md_domain_t *domain)
{
    const md_live_t *live = md_live_of(domain);

    return live->at_start ? live->at_start : live;
}

apr_time_t md_live_expires(const md_domain_t *domain)
{
    const apr_array_header_t *certs = md_live_of(domain)->certs;
    const md_cert_info_t *cert;
    apr_time_t first = 0;
    int i;

    for (i = 0; certs && i < certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(certs, i, const md_cert_info_t *);
        if (cert && (!first || cert->validity.end < first))
            first = cert->validity.end;
    }
    return first;
}

void md_live_replace(const md_domain_t *domain, const md_live_t *live)
{
    __atomic_store_n(domain->live, live, __ATOMIC_RELEASE);
}

/* ---- loading ---- */

/* Reading the certificates of all domains. */
typedef struct load_t {
    const md_store_t *store;
    md_known_t *known;
    md_live_tell_t tell;
    apr_time_t now;
    apr_hash_t *issuers; /* see md_chain_from_pem_shared */
    apr_pool_t *p, *tmp;
} load_t;

static apr_status_t parse_chain(apr_array_header_t **pchain, const load_t *load, const char *pem,
                                apr_size_t len, md_err_t *err)
{
    apr_status_t rv = md_chain_from_pem_shared(pchain, pem, len, load->issuers, err, load->tmp);

    if (rv == APR_SUCCESS && !md_chain_leaf(*pchain))
        rv = md_fail(err, APR_EINVAL, "there is no certificate");
    return rv == APR_SUCCESS ? md_chain_check_strength(*pchain, err) : rv;
}

static apr_status_t read_stored(apr_array_header_t **pchain, const load_t *load, const char *name,
                                const md_key_spec_t *spec, md_err_t *err)
{
    const char *file = md_key_spec_file(spec, "pubcert", load->tmp), *pem;
    const md_store_t *store = load->store;
    apr_size_t len;
    apr_status_t rv;

    *pchain = NULL;
    rv = md_store_load_text(&pem, &len, store, MD_STORE_DOMAINS, name, file, MD_MAX_FILE, err,
                            load->tmp);
    if (rv != APR_SUCCESS)
        return rv;
    rv = parse_chain(pchain, load, pem, len, err);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s in %s", err->detail,
                       md_store_path(store, MD_STORE_DOMAINS, name, file, load->tmp));
    file = md_key_spec_file(spec, "privkey", load->tmp);
    rv = md_store_check_key(store, MD_STORE_DOMAINS, name, file, md_chain_leaf(*pchain), err,
                            load->tmp);
    if (APR_STATUS_IS_ENOENT(rv))
        rv = md_fail(err, APR_EINVAL, "there is no private key %s",
                     md_store_path(store, MD_STORE_DOMAINS, name, file, load->tmp));
    return rv;
}

static apr_status_t load_stored(apr_array_header_t **pchain, const load_t *load,
                                const md_domain_t *domain, const md_key_spec_t *spec)
{
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, load->tmp);
    rv = read_stored(pchain, load, domain->name, spec, &err);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv) && load->tell == MD_LIVE_TELL_ALL)
        md_log(MD_LOG_ERR, "md[%s]: certificate(%s) cannot be %s: %s", domain->name,
               md_key_spec_name(spec),
               md_is_lack(rv) ? "read now and will not be served until the server is reloaded"
                              : "used and will be ordered again", err.detail);
    return rv;
}

/* Keys of all kinds. One that is encrypted is for the TLS module, which knows the passphrase. */
static int is_key_of(const md_cert_t *cert, const char *pem, apr_size_t len, apr_pool_t *p)
{
    md_key_t *key;

    if (md_key_pem_is_encrypted(pem) || md_cert_fits_pem(cert, pem, len))
        return 1;
    return md_key_from_pem(&key, pem, len, NULL, 0, NULL, p) == APR_SUCCESS
           && md_cert_fits_key(cert, key);
}

/* Certificate and key that the administrator brought. */
static apr_status_t read_static(apr_array_header_t **pchain, const load_t *load,
                                const char *cert_file, const char *key_file, md_err_t *err)
{
    apr_size_t len;
    apr_status_t rv;
    char *pem;

    *pchain = NULL;
    rv = md_file_read_linked(&pem, &len, cert_file, MD_MAX_FILE, load->tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateFile %s cannot be read: %s", cert_file,
                       md_file_why(AT_FDCWD, cert_file, rv, MD_MAX_FILE, load->tmp));
    rv = parse_chain(pchain, load, pem, len, err);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateFile %s: %s", cert_file, err->detail);
    rv = md_file_read_linked(&pem, &len, key_file, MD_MAX_FILE, load->tmp);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "MDCertificateKeyFile %s cannot be read: %s", key_file,
                       md_file_why(AT_FDCWD, key_file, rv, MD_MAX_FILE, load->tmp));
    if (!is_key_of(md_chain_leaf(*pchain), pem, len, load->tmp))
        rv = md_fail(err, APR_EINVAL, "MDCertificateKeyFile %s does not match %s", key_file,
                     cert_file);
    md_wipe(pem, len);
    return rv;
}

static apr_status_t load_static(apr_array_header_t **pchain, const load_t *load,
                                const md_domain_t *domain, int i)
{
    const char *cert_file = APR_ARRAY_IDX(domain->cert_files, i, const char *);
    md_err_t err;
    apr_status_t rv;

    *pchain = NULL;
    if (!domain->pkey_files || i >= domain->pkey_files->nelts) /* AH10170, in a test */
        return APR_EINVAL;
    md_err_init(&err, load->tmp);
    rv = read_static(pchain, load, cert_file, APR_ARRAY_IDX(domain->pkey_files, i, const char *),
                     &err);
    if (rv != APR_SUCCESS && load->tell != MD_LIVE_TELL_NONE)
        md_log(MD_LOG_ERR, "md[%s]: %s; it will not be served until that is repaired and the "
               "server reloaded", domain->name, err.detail);
    return rv;
}

/* Where the pair is, with NULL for what is not configured. */
static md_pair_t pair_at(const load_t *load, const md_domain_t *domain,
                         const apr_array_header_t *specs, int i)
{
    const md_key_spec_t *spec;
    md_pair_t pair = { .cert_file = NULL };

    if (specs) {
        spec = &APR_ARRAY_IDX(specs, i, md_key_spec_t);
        pair.cert_file = md_store_path(load->store, MD_STORE_DOMAINS, domain->name,
                                       md_key_spec_file(spec, "pubcert", load->tmp), load->tmp);
        pair.key_file = md_store_path(load->store, MD_STORE_DOMAINS, domain->name,
                                      md_key_spec_file(spec, "privkey", load->tmp), load->tmp);
        return pair;
    }
    pair.cert_file = APR_ARRAY_IDX(domain->cert_files, i, const char *);
    if (domain->pkey_files && i < domain->pkey_files->nelts)
        pair.key_file = APR_ARRAY_IDX(domain->pkey_files, i, const char *);
    return pair;
}

/* One certificate, per key spec of the store, or of static files. Fails unless its private key is
 * there and fits; *pinfo may tell of it nevertheless. */
static apr_status_t load_cert(const md_cert_info_t **pinfo, const load_t *load,
                              const md_domain_t *domain, const apr_array_header_t *specs, int i)
{
    md_pair_t pair = pair_at(load, domain, specs, i);
    apr_array_header_t *chain;
    apr_status_t rv;

    *pinfo = pair.key_file ? md_known_find(load->known, &pair, load->now) : NULL;
    if (*pinfo)
        return APR_SUCCESS;
    rv = specs ? load_stored(&chain, load, domain, &APR_ARRAY_IDX(specs, i, md_key_spec_t))
               : load_static(&chain, load, domain, i);
    if (rv == APR_SUCCESS)
        *pinfo = md_known_keep(load->known, &pair, md_chain_leaf(chain), load->p);
    else if (md_chain_leaf(chain))
        *pinfo = md_cert_info(md_chain_leaf(chain), load->p);
    return rv;
}

/* `count` of them; what they lack is noted in `live`. */
static apr_array_header_t *load_certs(md_live_t *live, const load_t *load,
                                      const md_domain_t *domain, const apr_array_header_t *specs,
                                      int count)
{
    apr_array_header_t *certs = apr_array_make(load->p, count, sizeof(md_cert_info_t *));
    int *fits = apr_pcalloc(load->p, sizeof(int) * (apr_size_t)count), i;
    const md_cert_info_t *info;
    apr_status_t rv;

    for (i = 0; i < count; ++i) {
        rv = load_cert(&info, load, domain, specs, i);
        fits[i] = rv == APR_SUCCESS;
        live->is_unread |= md_is_lack(rv);
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) = info;
    }
    live->fits = fits;
    return certs;
}

/* Another certificate of a CA that leaves out must-staple would be the same. */
static int lacks_must_staple(const load_t *load, const md_domain_t *domain,
                             const apr_array_header_t *obtained)
{
    const md_cert_info_t *cert;
    md_job_t *job;
    int i;

    for (i = 0; domain->must_staple && i < obtained->nelts; ++i) {
        cert = APR_ARRAY_IDX(obtained, i, const md_cert_info_t *);
        if (cert && !cert->must_staple)
            return md_job_load(&job, load->store, MD_STORE_DOMAINS, domain->name, NULL, load->tmp)
                       == APR_SUCCESS && job->lacks_must_staple;
    }
    return 0;
}

static const md_live_t *make_live(const load_t *load, const md_domain_t *domain)
{
    const apr_array_header_t *specs = md_domain_key_specs(domain, load->tmp);
    md_live_t *live = apr_pcalloc(load->p, sizeof(*live));

    live->since = load->now;
    if (load->store) {
        live->certs = live->obtained = load_certs(live, load, domain, specs, specs->nelts);
        live->lacks_must_staple = lacks_must_staple(load, domain, live->obtained);
    }
    if (domain->cert_files)
        live->certs = load_certs(live, load, domain, NULL, domain->cert_files->nelts);
    return live;
}

void md_live_load(const apr_array_header_t *domains, const md_store_t *store, md_known_t *known,
                  md_live_tell_t tell, apr_pool_t *p)
{
    load_t load = { .store = store, .known = known, .tell = tell, .p = p };
    const md_domain_t *domain;
    apr_pool_t *tmp;
    int i;

    apr_pool_create(&tmp, p);
    apr_pool_create(&load.tmp, tmp);
    load.issuers = apr_hash_make(tmp);
    load.now = md_clock_now();
    for (i = 0; i < domains->nelts; ++i) {
        apr_pool_clear(load.tmp);
        domain = APR_ARRAY_IDX(domains, i, const md_domain_t *);
        md_live_replace(domain, make_live(&load, domain));
    }
    apr_pool_destroy(tmp);
}

/* ---- state ---- */

/* Why this certificate is not what the domain needs, NULL if it is; in a word, too. */
static const char *deficiency(const char **plack, const md_domain_t *domain, const md_live_t *live,
                              int i, const char *spec, apr_pool_t *p)
{
    const md_cert_info_t *cert = APR_ARRAY_IDX(live->certs, i, const md_cert_info_t *);

    *plack = "missing";
    if (!cert || !cert->names || !live->fits[i])
        return apr_psprintf(p, "certificate(%s) is missing", spec);
    *plack = "names";
    if (md_cert_uncovered(cert, domain->names, p))
        return apr_psprintf(p, "certificate(%s) does not cover all domains.", spec);
    *plack = "must-staple";
    if (domain->must_staple && !cert->must_staple && !live->lacks_must_staple)
        return apr_psprintf(p, "'must-staple' is requested, but certificate(%s) has it not "
                            "enabled.", spec);
    if (!domain->must_staple && cert->must_staple)
        return apr_psprintf(p, "'must-staple' is not requested, but certificate(%s) has it "
                            "enabled.", spec);
    *plack = NULL;
    return NULL;
}

/* What the state calls a certificate: by key spec, also one of the administrator. */
static const char *spec_label(const md_domain_t *domain, int i, apr_pool_t *p)
{
    static const md_key_spec_t DEFAULT = { .type = MD_KEY_DEFAULT };
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);

    return md_key_spec_name(i < specs->nelts ? &APR_ARRAY_IDX(specs, i, md_key_spec_t) : &DEFAULT);
}

void md_live_settle(md_live_t *live, const md_domain_t *domain, apr_pool_t *p)
{
    int i;

    live->state_descr = live->is_unread ? "certificates could not be read when the server was "
                                          "started or reloaded" : NULL;
    for (i = 0; i < live->certs->nelts && !live->state_descr; ++i)
        live->state_descr = deficiency(&live->lack, domain, live, i, spec_label(domain, i, p), p);
    live->state = live->state_descr ? MD_STATE_INCOMPLETE : MD_STATE_COMPLETE;
}

void md_live_assess(const md_domain_t *domain, apr_pool_t *p)
{
    md_live_t *live = apr_pmemdup(p, md_live_of(domain), sizeof(*live));

    md_live_settle(live, domain, p);
    md_live_replace(domain, live);
}

static int are_valid(const apr_array_header_t *certs, apr_time_t now)
{
    int i;

    for (i = 0; i < certs->nelts; ++i)
        if (APR_ARRAY_IDX(certs, i, const md_cert_info_t *)->validity.end <= now)
            return 0;
    return 1;
}

/* Damage is told when all is loaded. */
const md_live_t *md_live_look(const md_domain_t *domain, const md_store_t *store,
                              md_known_t *known, apr_time_t now, apr_pool_t *p)
{
    load_t load = { .store = store, .known = known, .issuers = apr_hash_make(p), .now = now,
                    .p = p, .tmp = p };
    const apr_array_header_t *specs = md_domain_key_specs(domain, p);
    md_live_t *live = apr_pcalloc(p, sizeof(*live));

    live->certs = load_certs(live, &load, domain, specs, specs->nelts);
    live->lacks_must_staple = lacks_must_staple(&load, domain, live->certs);
    md_live_settle(live, domain, p);
    return live;
}

int md_live_is_sound(const md_live_t *live, apr_time_t now)
{
    return live->state == MD_STATE_COMPLETE && are_valid(live->certs, now);
}

const apr_array_header_t *md_live_usable(const md_live_t *live, apr_time_t now, apr_pool_t *p)
{
    apr_array_header_t *certs = apr_array_make(p, 2, sizeof(const md_cert_info_t *));
    const md_cert_info_t *cert;
    int i;

    for (i = 0; i < live->certs->nelts; ++i) {
        cert = APR_ARRAY_IDX(live->certs, i, const md_cert_info_t *);
        APR_ARRAY_PUSH(certs, const md_cert_info_t *) =
            cert && live->fits[i] && cert->validity.end > now ? cert : NULL;
    }
    return certs;
}
