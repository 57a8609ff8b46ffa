/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a store: its central file with the passphrase, migration of older versions. */
#include "md_store.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_strings.h>
#include <apr_user.h>

#include "md_limits.h"
#include "md_log.h"
#include "md_store_place.h"
#include "md_text.h"

#define STORE_FILE    "md_store.json"
#define STORE_VERSION 3.0

/* ---- the central file ---- */

static apr_status_t wipe_pass(void *data)
{
    md_store_t *store = data;

    md_wipe(store->pass, MD_STORE_PASS_LEN);
    return APR_SUCCESS;
}

static apr_status_t store_file_text(const char **ptext, const unsigned char *pass,
                                    apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_num(json, "store.version", STORE_VERSION);
    md_json_set_str(json, "key", md_base64url_encode(pass, MD_STORE_PASS_LEN, p));
    *ptext = md_json_text(json, 0, p);
    return APR_SUCCESS;
}

static apr_status_t store_file_create(const char *path, apr_pool_t *p)
{
    unsigned char pass[MD_STORE_PASS_LEN];
    const char *text;
    apr_status_t rv;

    md_random_bytes(pass, MD_STORE_PASS_LEN);
    store_file_text(&text, pass, p);
    md_wipe(pass, MD_STORE_PASS_LEN);
    rv = md_file_create(AT_FDCWD, path, &md_place_private, text, strlen(text), p);
    return APR_STATUS_IS_EEXIST(rv) ? APR_SUCCESS : rv; /* another process was first: use its */
}

static apr_status_t unusable(md_err_t *err, apr_status_t rv, const char *path, const char *why)
{
    return md_fail(err, rv, "The central store file md/md_store.json seems to exist, but %s. It "
                   "holds the key to the private keys in the store: repair %s or restore it from a "
                   "backup. If it is removed, a new one will be created and new ACME accounts will "
                   "be registered", why, path);
}

/* Nothing is wrong with the content: it is for another user to read, or modes forbid it. */
static apr_status_t not_permitted(md_err_t *err, apr_status_t rv, const char *path,
                                  const char *base, apr_pool_t *p)
{
    const char *closed = path;
    struct stat st;
    char *owner;

    if (stat(path, &st) != 0) {
        closed = base;
        if (stat(base, &st) != 0)
            return md_fail_system(err, rv, "cannot read %s", path);
    }
    if (st.st_uid == geteuid() && st.st_uid != 0)
        return md_fail(err, rv, "cannot read %s: %s. Its owner needs permission: chmod u+rwX %s",
                       path, md_err_text(rv, p), closed);
    if (st.st_uid == geteuid() || apr_uid_name_get(&owner, st.st_uid, p) != APR_SUCCESS)
        return md_fail_system(err, rv, "cannot read %s", path);
    return md_fail(err, rv, "cannot read %s: %s. The store belongs to the user %s: run this as %s",
                   path, md_err_text(rv, p), owner, owner);
}

static apr_status_t store_file_parse(md_store_t *store, double *pversion, const char *path,
                                     const char *text, apr_size_t len, md_err_t *err,
                                     apr_pool_t *p)
{
    md_json_t *json;
    unsigned char *pass;
    apr_status_t rv;

    rv = md_json_parse(&json, text, len, err, p);
    if (rv != APR_SUCCESS)
        return unusable(err, rv, path, "it is not JSON");
    *pversion = md_json_get_num(json, "store.version", 1.0);
    if (*pversion <= 0.0)
        *pversion = 1.0;
    if (*pversion > STORE_VERSION)
        return unusable(err, APR_EINVAL, path, "its version is newer than this module knows");
    if (!md_json_get_str(json, "key")
        || md_base64url_decode(&pass, md_json_get_str(json, "key"), p) != MD_STORE_PASS_LEN)
        return unusable(err, APR_EINVAL, path, "it has no valid key");
    memcpy(store->pass, pass, MD_STORE_PASS_LEN);
    md_wipe(pass, MD_STORE_PASS_LEN);
    return APR_SUCCESS;
}

/* Reads the central file of a store, if there is one. */
static apr_status_t store_file_load(md_store_t *store, double *pversion, const char *base,
                                    md_err_t *err, apr_pool_t *p)
{
    const char *path = apr_pstrcat(p, base, "/" STORE_FILE, NULL);
    apr_size_t len;
    apr_status_t rv;
    char *text;

    rv = md_file_read_linked(&text, &len, path, MD_MAX_FILE, p);
    if (APR_STATUS_IS_ENOENT(rv))
        return rv;
    if (APR_STATUS_IS_EACCES(rv))
        return not_permitted(err, rv, path, base, p);
    if (rv != APR_SUCCESS)
        return unusable(err, rv, path, md_file_why(AT_FDCWD, path, rv, MD_MAX_FILE, p));
    rv = store_file_parse(store, pversion, path, text, len, err, p);
    md_wipe(text, len);
    return rv;
}

static apr_status_t check_writable(const char *base, md_err_t *err, apr_pool_t *p)
{
    char *dir = apr_pstrdup(p, base), *slash;

    while (access(dir, W_OK | X_OK) != 0) {
        slash = strrchr(dir, '/');
        if (errno != ENOENT || !slash || slash == dir)
            return md_fail_system(err, errno, "cannot write to %s", dir);
        *slash = '\0';
    }
    return APR_SUCCESS;
}

apr_status_t md_store_check(const char *base, md_err_t *err, apr_pool_t *p)
{
    md_store_t *store = apr_pcalloc(p, sizeof(*store));
    double version;
    apr_status_t rv;

    rv = store_file_load(store, &version, base, err, p);
    md_wipe(store->pass, MD_STORE_PASS_LEN);
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        return rv;
    return check_writable(base, err, p);
}

/* ---- older stores ---- */

/* Version 1 named keys pkey.pem and kept leaf and chain apart. */
static void migrate_entry(md_store_t *store, md_store_group_t group, const char *name,
                          apr_pool_t *p)
{
    const char *pubcert = md_store_path(store, group, name, "pubcert.pem", p);
    const char *leaf, *chain = "";
    int dir = md_place_open_dir(store, group, name, p);
    apr_size_t len;
    apr_status_t rv;

    if (dir < 0)
        return;
    if (faccessat(dir, "privkey.pem", F_OK, 0) != 0
        && renameat(dir, "pkey.pem", dir, "privkey.pem") != 0 && errno != ENOENT)
        md_log(MD_LOG_ERR, "migrating the store: cannot rename pkey.pem of %s/%s: %s",
               md_store_groups[group].name, name, md_err_text(errno, p));
    close(dir);
    if (group != MD_STORE_DOMAINS && group != MD_STORE_ARCHIVE)
        return;
    if (md_store_exists(store, group, name, "pubcert.pem", p))
        return;
    if (md_store_load_text(&leaf, &len, store, group, name, "cert.pem", MD_MAX_FILE, NULL, p)
        != APR_SUCCESS)
        return;
    if (md_store_load_text(&chain, &len, store, group, name, "chain.pem", MD_MAX_FILE, NULL, p)
        != APR_SUCCESS)
        chain = "";
    leaf = apr_pstrcat(p, leaf, "\n", chain, NULL); /* the leaf may lack its last newline */
    rv = md_file_write(AT_FDCWD, pubcert, &md_place_private, leaf, strlen(leaf), p);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, "migrating the store: cannot write %s: %s", pubcert,
               md_err_text(rv, p));
}

static void migrate_from_1(md_store_t *store, apr_pool_t *p)
{
    apr_array_header_t *names;
    apr_pool_t *iter;
    int g, i;

    apr_pool_create(&iter, p);
    for (g = 0; g < MD_STORE_GROUP_MAX; ++g) {
        names = md_store_names(store, g, p);
        for (i = 0; i < names->nelts; ++i) {
            apr_pool_clear(iter);
            migrate_entry(store, g, APR_ARRAY_IDX(names, i, const char *), iter);
        }
    }
    apr_pool_destroy(iter);
}

static apr_status_t migrate(md_store_t *store, double version, const char *path, md_err_t *err,
                            apr_pool_t *p)
{
    const char *text;
    apr_status_t rv;

    if (version < 2.0)
        migrate_from_1(store, p);
    store_file_text(&text, store->pass, p);
    rv = md_file_write(AT_FDCWD, path, &md_place_private, text, strlen(text), p);
    if (rv != APR_SUCCESS)
        return md_fail_system(err, rv, "cannot write %s", path);
    md_log(MD_LOG_INFO, "migrated the store at %s to version 3", store->base);
    return APR_SUCCESS;
}

/* What root makes for those who work in staging is theirs: of its owner, unless md_store_prepare
 * names another. */
static void find_owner(md_store_t *store, apr_pool_t *p)
{
    struct stat st;

    store->has_owner = geteuid() == 0 && !store->is_in_danger
                       && stat(md_store_path(store, MD_STORE_STAGING, NULL, NULL, p), &st) == 0
                       && st.st_uid != 0;
    if (store->has_owner)
        store->owner = st.st_uid;
}

static const char *belongs_to(const char *path, uid_t uid, apr_pool_t *p)
{
    char *name;

    if (apr_uid_name_get(&name, uid, p) != APR_SUCCESS)
        name = apr_psprintf(p, "%ld", (long)uid);
    return apr_psprintf(p, "%s belongs to the user '%s'", path, name);
}

/* What is wrong with a directory that should be root's. */
static const char *flaw_of(const char *path, apr_pool_t *p)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return NULL;
    if (st.st_uid != 0)
        return belongs_to(path, st.st_uid, p);
    return st.st_mode & (S_IWGRP | S_IWOTH)
           ? apr_psprintf(p, "%s can be written to by others", path) : NULL;
}

/* ---- the way to a directory ---- */

/* How far a path was followed. */
typedef struct way_t {
    const char *at;     /* a directory, without links; "" is the root */
    const char *rest;   /* of the path from there */
    int links;          /* that were followed */
    const char *repair; /* of what is wrong, when something is */
    uid_t uid;          /* the children's user, who is not trusted, as others may have to be: */
    gid_t gid;          /* the server itself may be theirs */
    apr_pool_t *p;
} way_t;

/* In a sticky directory nobody can replace what is of others. */
static const char *check_dir(way_t *way)
{
    const char *path = *way->at ? way->at : "/";
    struct stat st;

    way->repair = apr_psprintf(way->p, "chown root %s && chmod go-w %s", path, path);
    if (stat(path, &st) != 0)
        return NULL;
    if (st.st_uid == way->uid)
        return belongs_to(path, st.st_uid, way->p);
    if (!(st.st_mode & S_ISVTX) && (st.st_mode & (st.st_gid == way->gid ? S_IWGRP | S_IWOTH
                                                                        : S_IWOTH)))
        return apr_psprintf(way->p, "%s can be written to by others", path);
    return NULL;
}

static const char *follow_link(way_t *way, const char *link, const struct stat *st)
{
    char target[APR_PATH_MAX];
    ssize_t len = readlink(link, target, sizeof(target));

    way->repair = apr_psprintf(way->p, "chown -h root %s", link);
    if (len <= 0 || len == sizeof(target) || ++way->links > MD_MAX_LINKS) {
        way->rest = ""; /* it leads nowhere */
        return NULL;
    }
    if (*target == '/')
        way->at = "";
    target[len] = '\0';
    way->rest = apr_pstrcat(way->p, target + strspn(target, "/"), "/", way->rest, NULL);
    return st->st_uid == way->uid ? belongs_to(link, st->st_uid, way->p) : NULL;
}

/* What is called `name` where the way has come to. */
static const char *place_of(const way_t *way, const char *name)
{
    const char *slash = strrchr(way->at, '/');

    if (!strcmp(name, ".") || (!strcmp(name, "..") && !slash))
        return way->at;
    if (!strcmp(name, ".."))
        return apr_pstrmemdup(way->p, way->at, (apr_size_t)(slash - way->at));
    return apr_pstrcat(way->p, way->at, "/", name, NULL);
}

/* One step. What is missing is made by root in a directory that was looked at. */
static const char *walk(way_t *way)
{
    apr_size_t len = strcspn(way->rest, "/");
    const char *next = place_of(way, apr_pstrmemdup(way->p, way->rest, len));
    const char *flaw = check_dir(way);
    struct stat st;

    way->rest += len + strspn(way->rest + len, "/");
    if (flaw)
        return flaw;
    if (*next && lstat(next, &st) != 0)
        way->rest = "";
    else if (*next && S_ISLNK(st.st_mode))
        return follow_link(way, next, &st);
    else
        way->at = next;
    return NULL;
}

/* What is wrong on the way to a directory, where whoever could put something in the place of
 * another one, or of a link, could put anything in the place of `path`; and what repairs it. */
static const char *flaw_on_way(way_t *way, const char *path)
{
    const char *flaw = NULL;
    char here[APR_PATH_MAX];

    if (*path != '/' && getcwd(here, sizeof(here)))
        path = apr_pstrcat(way->p, here, "/", path, NULL);
    way->at = "";
    way->rest = path + strspn(path, "/");
    while (!flaw && *way->rest)
        flaw = walk(way);
    return flaw;
}

/* ---- the store itself ---- */

static const char *group_path(const char *base, int group, apr_pool_t *p)
{
    return apr_pstrcat(p, base, "/", md_store_groups[group].name, NULL);
}

/* The groups that are root's. */
static apr_array_header_t *private_dirs(const char *base, apr_pool_t *p)
{
    apr_array_header_t *dirs = md_strings_make(p);
    const char *path;
    struct stat st;
    int g;

    for (g = 0; g < MD_STORE_GROUP_MAX; ++g) {
        path = group_path(base, g, p);
        if (!md_store_groups[g].is_shared && lstat(path, &st) == 0)
            APR_ARRAY_PUSH(dirs, const char *) = path;
    }
    return dirs;
}

/* To the base, and where an administrator put a link to, in place of a group. */
static const char *flaw_on_ways(const char **prepair, const char *base, apr_pool_t *p)
{
    way_t way = { .p = p };
    const char *flaw, *path;
    struct stat st;
    char *name;
    int g;

    if (stat(group_path(base, MD_STORE_STAGING, p), &st) != 0 || st.st_uid == 0)
        return NULL;
    way.uid = st.st_uid;
    if (apr_uid_name_get(&name, way.uid, p) != APR_SUCCESS
        || apr_uid_get(&st.st_uid, &way.gid, name, p) != APR_SUCCESS)
        way.gid = 0;
    flaw = flaw_on_way(&way, base);
    for (g = 0; !flaw && g < MD_STORE_GROUP_MAX; ++g) {
        path = group_path(base, g, p);
        if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
            flaw = flaw_on_way(&way, path);
    }
    *prepair = way.repair;
    return flaw;
}

static const char *flaw_of_dirs(const char **prepair, const char *base, apr_pool_t *p)
{
    apr_array_header_t *dirs = private_dirs(base, p);
    const char *flaw = flaw_of(base, p), *all = apr_array_pstrcat(p, dirs, ' ');
    int i;

    for (i = 0; !flaw && i < dirs->nelts; ++i)
        flaw = flaw_of(APR_ARRAY_IDX(dirs, i, const char *), p);
    *prepair = apr_psprintf(p, "chown root %s && chmod go-w %s", base, base);
    if (*all)
        *prepair = apr_psprintf(p, "%s && chown -R root %s && chmod -R go-w %s", *prepair, all,
                                all);
    return flaw;
}

const char *md_store_danger(const char *base, apr_pool_t *p)
{
    const char *repair, *flaw = geteuid() == 0 ? flaw_of_dirs(&repair, base, p) : NULL;

    if (flaw)
        return apr_psprintf(p, "%s, who could replace what root reads, changes and removes in the "
                            "store. Give it back to root with '%s'", flaw, repair);
    flaw = geteuid() == 0 ? flaw_on_ways(&repair, base, p) : NULL;
    return flaw ? apr_psprintf(p, "%s, who could put another directory in the place of the store "
                               "%s. Give it to root with '%s', or move the store elsewhere",
                               flaw, base, repair) : NULL;
}

apr_status_t md_store_find(const char *base, apr_pool_t *p)
{
    apr_array_header_t *names;
    struct stat st;

    if (lstat(apr_pstrcat(p, base, "/" STORE_FILE, NULL), &st) == 0
        || (errno != ENOENT && errno != ENOTDIR))
        return APR_SUCCESS;
    return md_dir_list(&names, AT_FDCWD, base, 0, 1, p) == APR_SUCCESS && names->nelts == 0
           ? APR_EOF : APR_ENOENT;
}

md_store_t *md_store_at(const char *base, apr_pool_t *p)
{
    md_store_t *store = apr_pcalloc(p, sizeof(*store));

    store->base = apr_pstrdup(p, base);
    return store;
}

apr_status_t md_store_open(md_store_t **pstore, const char *base, md_err_t *err, apr_pool_t *p)
{
    md_store_t *store = md_store_at(base, p);
    const char *path = apr_pstrcat(p, base, "/" STORE_FILE, NULL);
    double version = 0.0;
    apr_status_t rv;
    int created = 0;

    apr_pool_cleanup_register(p, store, wipe_pass, apr_pool_cleanup_null);
    rv = md_dir_make(base, D_READ, &created, p);
    if (rv != APR_SUCCESS)
        return md_fail_system(err, rv, "cannot create the store directory %s", base);
    if (created)
        md_log(MD_LOG_INFO, "store directory does not exist, creating %s", base);
    rv = store_file_load(store, &version, base, err, p);
    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = store_file_create(path, p);
        if (rv != APR_SUCCESS)
            return md_fail(err, rv, "cannot create %s: %s", path,
                           md_file_why(AT_FDCWD, path, rv, MD_MAX_FILE, p));
        rv = store_file_load(store, &version, base, err, p);
    }
    if (rv == APR_SUCCESS && version < STORE_VERSION)
        rv = migrate(store, version, path, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    store->is_in_danger = md_store_danger(base, p) != NULL;
    find_owner(store, p);
    *pstore = store;
    return APR_SUCCESS;
}

apr_status_t md_store_prepare(md_store_t *store, const apr_uid_t *owner, md_err_t *err,
                              apr_pool_t *p)
{
    static const md_store_group_t NEEDED[] = {
        MD_STORE_CHALLENGES, MD_STORE_STAGING, MD_STORE_ACCOUNTS, MD_STORE_OCSP,
        MD_STORE_ANSWERS, MD_STORE_RECORDS, MD_STORE_LIVE
    };
    apr_status_t rv = APR_SUCCESS;
    size_t i;
    int lock;

    if (store->is_in_danger)
        return md_fail(err, APR_EACCES, "%s", md_store_danger(store->base, p));
    store->has_owner = owner != NULL;
    if (owner)
        store->owner = *owner;
    for (i = 0; i < sizeof(NEEDED) / sizeof(NEEDED[0]) && rv == APR_SUCCESS; ++i) {
        rv = md_place_make_group(store, NEEDED[i], 1, err, p);
        if (rv == APR_SUCCESS && owner && md_store_groups[NEEDED[i]].is_shared)
            md_place_adopt_all(store, NEEDED[i], p);
    }
    lock = md_place_open_lock(store, ENGINE_LOCK, 0600, 1, p);
    if (lock >= 0) /* what goes wrong is told when it is needed */
        close(lock);
    return rv;
}
