/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of a2md on managed domains. */
#include "a2md.h"

#include <string.h>

#include "md_clock.h"
#include "md_log.h"
#include "md_renew.h"
#include "md_text.h"

/* ---- domains of the store ---- */

static apr_array_header_t *domain_list(apr_pool_t *p)
{
    return apr_array_make(p, 10, sizeof(md_domain_t *));
}

static apr_status_t load(md_domain_t **pdomain, a2md_t *tool, const char *name, md_err_t *err)
{
    apr_status_t rv = md_reg_load_domain(pdomain, tool->reg, name, err, tool->p);

    return APR_STATUS_IS_ENOENT(rv) ? md_fail(err, rv, "%s: there is no such managed domain", name)
                                    : rv;
}

/* What cannot be read is told, and hides nothing else: the first failure counts. */
static void tell(apr_status_t *pfirst, apr_status_t rv, const md_err_t *err)
{
    md_log(MD_LOG_ERR, "%s", err->detail);
    if (*pfirst == APR_SUCCESS)
        *pfirst = rv;
}

/* The names of all domains. */
static apr_array_header_t *name_all(apr_status_t *pfirst, a2md_t *tool, md_err_t *err)
{
    apr_array_header_t *names;
    apr_status_t rv;

    rv = md_store_list(&names, tool->reg->store, MD_STORE_DOMAINS, err, tool->p);
    if (rv != APR_SUCCESS)
        tell(pfirst, rv, err);
    return names;
}

/* In order of name. */
static apr_array_header_t *load_all(apr_status_t *pfirst, a2md_t *tool)
{
    apr_array_header_t *names, *domains = domain_list(tool->p);
    md_domain_t *domain;
    md_err_t err;
    apr_status_t rv;
    int i;

    md_err_init(&err, tool->p);
    *pfirst = APR_SUCCESS;
    names = name_all(pfirst, tool, &err);
    for (i = 0; i < names->nelts; ++i) {
        rv = md_reg_load_domain(&domain, tool->reg, APR_ARRAY_IDX(names, i, const char *), &err,
                                tool->p);
        if (rv == APR_SUCCESS)
            APR_ARRAY_PUSH(domains, md_domain_t *) = domain;
        else if (!APR_STATUS_IS_ENOENT(rv))
            tell(pfirst, rv, &err);
    }
    return domains;
}

/* Look at the certificates: these are the domains that the registry knows from now on. */
static void assess(a2md_t *tool, apr_array_header_t *domains)
{
    int i;

    tool->reg->domains = domains;
    md_reg_load(tool->reg, tool->p);
    for (i = 0; i < domains->nelts; ++i) {
        md_config_complete_windows(APR_ARRAY_IDX(domains, i, md_domain_t *), tool->conf);
        md_live_assess(APR_ARRAY_IDX(domains, i, md_domain_t *), tool->p);
    }
}

static void assess_one(a2md_t *tool, md_domain_t *domain)
{
    apr_array_header_t *domains = domain_list(tool->p);

    APR_ARRAY_PUSH(domains, md_domain_t *) = domain;
    assess(tool, domains);
}

static void show_assessed(a2md_t *tool, const md_domain_t *domain)
{
    md_json_t *json = md_domain_to_json(domain, tool->p);
    apr_time_t now = md_clock_now();
    md_due_t due = md_renew_look(tool->reg, domain, now, tool->p);

    md_json_set_bool(json, "renew", due.at && due.at <= now);
    a2md_show(tool, json);
}

static apr_status_t save_and_show(a2md_t *tool, md_domain_t *domain, md_err_t *err)
{
    apr_status_t rv;

    assess_one(tool, domain);
    rv = md_reg_save_domain(tool->reg, domain, err, tool->p);
    if (rv == APR_SUCCESS)
        show_assessed(tool, domain);
    return rv;
}

/* ---- what words mean ---- */

static apr_array_header_t *words(int argc, const char *const *argv, apr_pool_t *p)
{
    apr_array_header_t *list = md_strings_make(p);
    int i;

    for (i = 0; i < argc; ++i)
        APR_ARRAY_PUSH(list, const char *) = argv[i];
    return list;
}

static apr_status_t set_ca(md_domain_t *domain, const char *url, md_err_t *err, apr_pool_t *p)
{
    const char *wrong = md_uri_check(url, p);

    if (wrong)
        return md_fail(err, APR_EINVAL, "'%s' is not the URL of a CA: %s", url, wrong);
    domain->ca_urls = words(1, &url, p);
    return APR_SUCCESS;
}

apr_status_t a2md_contacts(apr_array_header_t **pcontacts, int argc, const char *const *argv,
                           md_err_t *err, apr_pool_t *p)
{
    const char *uri, *wrong;
    int i;

    *pcontacts = md_strings_make(p);
    for (i = 0; i < argc; ++i) {
        uri = md_contact_uri(argv[i], p);
        wrong = md_uri_check(uri, p);
        if (wrong)
            return md_fail(err, APR_EINVAL, "'%s' is not a contact: %s", argv[i], wrong);
        APR_ARRAY_PUSH(*pcontacts, const char *) = uri;
    }
    return APR_SUCCESS;
}

apr_status_t a2md_check_terms(const char *terms, md_err_t *err, apr_pool_t *p)
{
    const char *wrong = terms ? md_terms_check(terms, p) : NULL;

    return wrong ? md_fail(err, APR_EINVAL, "%s", wrong) : APR_SUCCESS;
}

static apr_status_t check_names(const md_domain_t *domain, md_err_t *err)
{
    const char *name, *wrong, *proper;
    int i;

    for (i = 0; i < domain->names->nelts; ++i) {
        name = APR_ARRAY_IDX(domain->names, i, const char *);
        wrong = md_dns_name_check(name);
        if (!wrong)
            continue;
        proper = md_dns_name_proper(name, err->p);
        return md_fail(err, APR_EINVAL, "'%s' is not a DNS name: %s%s%s", name, wrong,
                       proper ? "; write " : "", proper ? proper : "");
    }
    return APR_SUCCESS;
}

static apr_status_t check_overlap(a2md_t *tool, md_domain_t *domain, md_err_t *err)
{
    apr_status_t told;
    apr_array_header_t *domains = load_all(&told, tool);
    md_index_t *index = md_index_make(tool->p);
    md_domain_t *other;
    const char *name;
    int i;

    for (i = 0; i < domains->nelts; ++i) {
        other = APR_ARRAY_IDX(domains, i, md_domain_t *);
        if (strcmp(other->name, domain->name))
            (void)md_index_add(index, other, &name);
    }
    other = md_index_add(index, domain, &name);
    return other ? md_fail(err, APR_EINVAL, "'%s' belongs to the managed domain %s", name,
                           other->name) : APR_SUCCESS;
}

/* A new domain as the tool makes it; APR_EEXIST if it is there already, which scripts that read the
 * JSON rely on to be told nowhere else. */
static apr_status_t make(md_domain_t **pdomain, a2md_t *tool, int argc, const char *const *argv,
                         md_err_t *err)
{
    apr_array_header_t *names = md_names_normalise(words(argc, argv, tool->p), tool->p);
    md_domain_t *domain = md_domain_make(APR_ARRAY_IDX(names, 0, const char *), tool->p);

    domain->names = names;
    domain->ca_proto = MD_CA_PROTO_ACME;
    *pdomain = domain;
    if (md_store_exists(tool->reg->store, MD_STORE_DOMAINS, domain->name, MD_DOMAIN_JSON, tool->p))
        return tool->output ? APR_EEXIST
               : md_fail(err, APR_EEXIST, "%s: there is already a managed domain with this name",
                         domain->name);
    if (tool->ca_url)
        domain->ca_urls = words(1, &tool->ca_url, tool->p);
    return APR_SUCCESS;
}

/* ---- add, list ---- */

apr_status_t a2md_add(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_domain_t *domain;
    apr_status_t rv;

    rv = make(&domain, tool, argc, argv, err);
    if (rv == APR_SUCCESS && tool->ca_url)
        rv = set_ca(domain, tool->ca_url, err, tool->p);
    if (rv == APR_SUCCESS)
        rv = check_names(domain, err);
    if (rv == APR_SUCCESS)
        rv = check_overlap(tool, domain, err);
    return rv == APR_SUCCESS ? save_and_show(tool, domain, err) : rv;
}

/* The DNS names of all domains. */
static md_index_t *index_all(a2md_t *tool)
{
    apr_status_t told;
    apr_array_header_t *domains = load_all(&told, tool);
    md_index_t *index = md_index_make(tool->p);
    const char *shared;
    int i;

    for (i = 0; i < domains->nelts; ++i)
        (void)md_index_add(index, APR_ARRAY_IDX(domains, i, md_domain_t *), &shared);
    return index;
}

static int is_among(const apr_array_header_t *domains, const md_domain_t *domain)
{
    int i;

    for (i = 0; i < domains->nelts; ++i)
        if (!strcmp(APR_ARRAY_IDX(domains, i, md_domain_t *)->name, domain->name))
            return 1;
    return 0;
}

/* The domains called so, or that have these DNS names, each once; as many as are there before the
 * first that is not. */
static apr_status_t find(apr_array_header_t *found, a2md_t *tool, int argc,
                         const char *const *argv, md_err_t *err)
{
    md_index_t *index = NULL;
    md_domain_t *domain;
    apr_status_t rv;
    int i;

    for (i = 0; i < argc; ++i) {
        rv = APR_ENOENT;
        if (md_path_part_is_safe(argv[i]))
            rv = md_reg_load_domain(&domain, tool->reg, argv[i], err, tool->p);
        if (APR_STATUS_IS_ENOENT(rv)) {
            index = index ? index : index_all(tool);
            domain = md_index_find(index, argv[i]);
            rv = domain ? APR_SUCCESS
                        : md_fail(err, APR_ENOENT, "%s: there is no such managed domain", argv[i]);
        }
        if (rv != APR_SUCCESS)
            return rv;
        if (!is_among(found, domain))
            APR_ARRAY_PUSH(found, md_domain_t *) = domain;
    }
    return APR_SUCCESS;
}

apr_status_t a2md_load(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_array_header_t *domains = domain_list(tool->p);
    apr_status_t rv = APR_SUCCESS;

    if (argc > 0)
        rv = find(domains, tool, argc, argv, err);
    else
        domains = load_all(&rv, tool);
    assess(tool, domains);
    return rv;
}

apr_status_t a2md_list(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv = a2md_load(tool, argc, argv, err);
    int i;

    for (i = 0; i < tool->reg->domains->nelts; ++i)
        show_assessed(tool, md_reg_domain(tool->reg, i));
    return rv;
}

/* ---- update ---- */

/* Change one thing about a domain. */
typedef apr_status_t aspect_fn(md_domain_t *domain, a2md_t *tool, int argc,
                               const char *const *argv, md_err_t *err);

static apr_status_t set_names(md_domain_t *domain, a2md_t *tool, int argc,
                              const char *const *argv, md_err_t *err)
{
    if (argc == 0)
        return md_fail(err, APR_EINVAL, "%s: the new DNS names are missing", domain->name);
    domain->names = md_names_normalise(words(argc, argv, tool->p), tool->p);
    return APR_SUCCESS;
}

static apr_status_t change_names(md_domain_t *domain, a2md_t *tool, int argc,
                                 const char *const *argv, md_err_t *err)
{
    apr_status_t rv = set_names(domain, tool, argc, argv, err);

    if (rv == APR_SUCCESS)
        rv = check_names(domain, err);
    return rv == APR_SUCCESS ? check_overlap(tool, domain, err) : rv;
}

static apr_status_t change_ca(md_domain_t *domain, a2md_t *tool, int argc,
                              const char *const *argv, md_err_t *err)
{
    if (argc == 0)
        return md_fail(err, APR_EINVAL, "%s: the URL of the CA is missing", domain->name);
    if (argc > 1)
        domain->ca_proto = argv[1];
    return set_ca(domain, argv[0], err, tool->p);
}

static apr_status_t change_account(md_domain_t *domain, a2md_t *tool, int argc,
                                   const char *const *argv, md_err_t *err)
{
    (void)tool;
    (void)err;
    domain->ca_account = argc > 0 ? argv[0] : NULL;
    return APR_SUCCESS;
}

static apr_status_t change_contacts(md_domain_t *domain, a2md_t *tool, int argc,
                                    const char *const *argv, md_err_t *err)
{
    if (argc == 0)
        return md_fail(err, APR_EINVAL, "%s: the new contacts are missing", domain->name);
    return a2md_contacts(&domain->contacts, argc, argv, err, tool->p);
}

static apr_status_t change_agreement(md_domain_t *domain, a2md_t *tool, int argc,
                                     const char *const *argv, md_err_t *err)
{
    domain->ca_agreement = argc > 0 ? argv[0] : NULL;
    return a2md_check_terms(domain->ca_agreement, err, tool->p);
}

static const struct {
    const char *name;
    aspect_fn *change;
} ASPECTS[] = {
    { "domains", change_names },
    { "ca", change_ca },
    { "account", change_account },
    { "contacts", change_contacts },
    { "agreement", change_agreement },
};

static apr_status_t change(md_domain_t *domain, a2md_t *tool, int argc, const char *const *argv,
                           md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    size_t i;

    if (tool->ca_url)
        rv = set_ca(domain, tool->ca_url, err, tool->p);
    if (rv != APR_SUCCESS || argc == 0)
        return rv;
    for (i = 0; i < sizeof(ASPECTS) / sizeof(ASPECTS[0]); ++i)
        if (!strcmp(argv[0], ASPECTS[i].name))
            return ASPECTS[i].change(domain, tool, argc - 1, argv + 1, err);
    return md_fail(err, APR_ENOTIMPL, "%s: '%s' is not something that can be changed",
                   domain->name, argv[0]);
}

apr_status_t a2md_update(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_domain_t *domain;
    md_json_t *before;
    apr_status_t rv;

    rv = load(&domain, tool, argv[0], err);
    if (rv != APR_SUCCESS)
        return rv;
    before = md_domain_to_json(domain, tool->p);
    rv = change(domain, tool, argc - 1, argv + 1, err);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_json_equal(before, md_domain_to_json(domain, tool->p)))
        return save_and_show(tool, domain, err);
    md_log(MD_LOG_INFO, "no changes necessary");
    assess_one(tool, domain);
    show_assessed(tool, domain);
    return APR_SUCCESS;
}

/* ---- store: documents as they are ---- */

apr_status_t a2md_store_add(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_domain_t *domain;
    apr_status_t rv;

    rv = make(&domain, tool, argc, argv, err);
    if (rv == APR_SUCCESS)
        rv = md_reg_save_domain(tool->reg, domain, err, tool->p);
    if (rv == APR_SUCCESS)
        a2md_show(tool, md_domain_to_json(domain, tool->p));
    return rv;
}

static apr_status_t show_stored(a2md_t *tool, const char *name, md_err_t *err)
{
    md_json_t *json;
    apr_status_t rv;

    rv = md_store_load_json(&json, tool->reg->store, MD_STORE_DOMAINS, name, MD_DOMAIN_JSON, err,
                            tool->p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_json_get_str(json, "name"))
        md_json_set_str(json, "name", name);
    a2md_show(tool, json);
    return APR_SUCCESS;
}

apr_status_t a2md_store_list(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    apr_status_t rv, first = APR_SUCCESS;
    apr_array_header_t *names;
    md_err_t why;
    int i;

    (void)argc;
    (void)argv;
    (void)err;
    md_err_init(&why, tool->p);
    names = name_all(&first, tool, &why);
    for (i = 0; i < names->nelts; ++i) {
        rv = show_stored(tool, APR_ARRAY_IDX(names, i, const char *), &why);
        if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
            tell(&first, rv, &why);
    }
    return first;
}

apr_status_t a2md_store_remove(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    const md_store_t *store = tool->reg->store;
    apr_status_t rv;
    int i;

    for (i = 0; i < argc; ++i) {
        if (!tool->is_forced
            && !md_store_exists(store, MD_STORE_DOMAINS, argv[i], MD_DOMAIN_JSON, tool->p))
            return md_fail(err, APR_ENOENT, "%s: there is no such managed domain", argv[i]);
        rv = md_store_remove(store, MD_STORE_DOMAINS, argv[i], MD_DOMAIN_JSON, tool->p);
        if (rv != APR_SUCCESS)
            return md_fail_system(err, rv, "%s: its document cannot be removed", argv[i]);
    }
    return APR_SUCCESS;
}

static apr_status_t change_raw(md_domain_t *domain, a2md_t *tool, int argc,
                               const char *const *argv, md_err_t *err)
{
    if (tool->ca_url)
        domain->ca_urls = words(1, &tool->ca_url, tool->p);
    if (argc == 0)
        return APR_SUCCESS;
    if (strcmp(argv[0], "domains"))
        return md_fail(err, APR_ENOTIMPL, "%s: '%s' is not something that can be changed",
                       domain->name, argv[0]);
    return set_names(domain, tool, argc - 1, argv + 1, err);
}

apr_status_t a2md_store_update(a2md_t *tool, int argc, const char *const *argv, md_err_t *err)
{
    md_domain_t *domain;
    apr_status_t rv;

    rv = load(&domain, tool, argv[0], err);
    if (rv == APR_SUCCESS)
        rv = change_raw(domain, tool, argc - 1, argv + 1, err);
    if (rv == APR_SUCCESS && (tool->ca_url || argc > 1))
        rv = md_reg_save_domain(tool->reg, domain, err, tool->p);
    if (rv == APR_SUCCESS)
        a2md_show(tool, md_domain_to_json(domain, tool->p));
    return rv;
}
