/* SPDX-License-Identifier: Apache-2.0 */
/* The store on the file system. */
#include "md_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_file_info.h>
#include <apr_portable.h>
#include <apr_strings.h>

#include "md_file.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define STORE_FILE    "md_store.json"
#define STORE_VERSION 3.0
/* In the base: mod_md up to 2.6 ends a search for staged accounts at a file in `staging`. */
#define ENGINE_LOCK   "engine.lock"
#define STORE_LOCK    "store.lock"
#define LOCK_INTERVAL apr_time_from_msec(100)
#define PASS_LEN      48
#define STALE_AFTER   apr_time_from_sec(3600) /* nobody writes a file for so long */

#define P_OWNER (APR_FPROT_UREAD | APR_FPROT_UWRITE)
#define P_READ  (P_OWNER | APR_FPROT_GREAD | APR_FPROT_WREAD)
#define D_OWNER (APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE)
#define D_READ  (D_OWNER | APR_FPROT_GREAD | APR_FPROT_GEXECUTE | APR_FPROT_WREAD \
                 | APR_FPROT_WEXECUTE)

static const struct {
    const char *name;
    apr_fileperms_t dir, file;
    int encrypts;  /* private keys */
    int is_shared; /* with children: they write here */
} GROUPS[] = {
    [MD_STORE_ACCOUNTS]   = { "accounts", D_READ, P_READ, 1, 0 },
    [MD_STORE_CHALLENGES] = { "challenges", D_READ, P_READ, 0, 1 },
    [MD_STORE_DOMAINS]    = { "domains", D_OWNER, P_OWNER, 0, 0 },
    [MD_STORE_STAGING]    = { "staging", D_READ, P_READ, 1, 1 },
    [MD_STORE_ARCHIVE]    = { "archive", D_OWNER, P_OWNER, 0, 0 },
    [MD_STORE_TMP]        = { "tmp", D_OWNER, P_OWNER, 0, 0 },
    [MD_STORE_OCSP]       = { "ocsp", D_READ, P_READ, 0, 1 },
};
_Static_assert(sizeof(GROUPS) / sizeof(GROUPS[0]) == MD_STORE_GROUP_MAX, "one row per group");

static const md_file_attr_t PRIVATE = { .perms = P_OWNER };

struct md_store_t {
    const char *base;
    unsigned char pass[PASS_LEN]; /* encrypts private keys in shared groups */
    int has_owner;
    apr_uid_t owner;
};

/* ---- paths ---- */

const char *md_store_path(const md_store_t *store, md_store_group_t group, const char *name,
                          const char *file, apr_pool_t *p)
{
    return apr_pstrcat(p, store->base, "/", GROUPS[group].name, name ? "/" : "",
                       name ? name : "", file ? "/" : "", file ? file : "", NULL);
}

static const char *base_path(const md_store_t *store, const char *file, apr_pool_t *p)
{
    return apr_pstrcat(p, store->base, "/", file, NULL);
}

/* Children write to shared groups, and one that was taken over could put a link in place of a
 * directory: root goes through none below such a group. An open directory, or -1 with errno. */
static int open_dir(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_pool_t *p)
{
    int parent = open(md_store_path(store, group, NULL, NULL, p),
                      O_RDONLY | O_DIRECTORY | O_CLOEXEC), dir, error;

    if (parent < 0)
        return -1;
    dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC
                                   | (GROUPS[group].is_shared ? O_NOFOLLOW : 0));
    error = errno;
    close(parent);
    errno = error;
    return dir;
}

/* Where a file is: `path` in the open directory `dir`, or a plain path (AT_FDCWD). */
typedef struct place_t {
    int dir;
    const char *path;
} place_t;

/* Every successful enter() is followed by a leave(). APR_ENOENT when there is no such directory. */
static apr_status_t enter(place_t *place, const md_store_t *store, md_store_group_t group,
                          const char *name, const char *file, apr_pool_t *p)
{
    place->dir = AT_FDCWD;
    place->path = md_store_path(store, group, name, file, p);
    if (!GROUPS[group].is_shared)
        return APR_SUCCESS;
    place->path = file;
    place->dir = open_dir(store, group, name, p);
    if (place->dir >= 0)
        return APR_SUCCESS;
    return errno == ENOTDIR || errno == ELOOP ? APR_ENOENT : errno;
}

static void leave(const place_t *place)
{
    if (place->dir != AT_FDCWD)
        close(place->dir);
}

/* Names come from a configuration, a CA or a Host header: none may leave its directory. */
static apr_status_t check_parts(const char *name, const char *file, md_err_t *err)
{
    if (!md_path_part_is_safe(name))
        return md_fail(err, APR_EINVAL, "'%s' cannot be a directory in the store", name);
    if (file && !md_path_part_is_safe(file))
        return md_fail(err, APR_EINVAL, "'%s' cannot be a file in the store", file);
    return APR_SUCCESS;
}

/* A file that is being written, or was when its writer crashed. */
static int is_unfinished(const char *file)
{
    apr_size_t len = strlen(file);

    return len > 4 && !strcmp(file + len - 4, ".tmp");
}

/* ---- opening ---- */

static apr_status_t wipe_pass(void *data)
{
    md_store_t *store = data;

    md_wipe(store->pass, PASS_LEN);
    return APR_SUCCESS;
}

static apr_status_t store_file_text(const char **ptext, const unsigned char *pass,
                                    apr_pool_t *p)
{
    md_json_t *json = md_json_object(p);

    md_json_set_num(json, "store.version", STORE_VERSION);
    md_json_set_str(json, "key", md_base64url_encode(pass, PASS_LEN, p));
    *ptext = md_json_text(json, 0, p);
    return APR_SUCCESS;
}

static apr_status_t store_file_create(const char *path, apr_pool_t *p)
{
    unsigned char pass[PASS_LEN];
    const char *text;
    apr_status_t rv;

    md_random_bytes(pass, PASS_LEN);
    store_file_text(&text, pass, p);
    md_wipe(pass, PASS_LEN);
    rv = md_file_create(AT_FDCWD, path, &PRIVATE, text, strlen(text), p);
    return APR_STATUS_IS_EEXIST(rv) ? APR_SUCCESS : rv; /* another process was first: use its */
}

static apr_status_t unusable(md_err_t *err, apr_status_t rv, const char *path, const char *why)
{
    return md_fail(err, rv, "The central store file md/md_store.json seems to exist, but %s. It "
                   "holds the key to the private keys in the store: repair %s or restore it from a "
                   "backup; removing it makes a new one and new ACME accounts", why, path);
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
        return unusable(err, rv, path, "it is no JSON");
    *pversion = md_json_get_num(json, "store.version", 1.0);
    if (*pversion <= 0.0)
        *pversion = 1.0;
    if (*pversion > STORE_VERSION)
        return unusable(err, APR_EINVAL, path, "its version is newer than this module knows");
    if (!md_json_get_str(json, "key")
        || md_base64url_decode(&pass, md_json_get_str(json, "key"), p) != PASS_LEN)
        return unusable(err, APR_EINVAL, path, "it has no valid key");
    memcpy(store->pass, pass, PASS_LEN);
    md_wipe(pass, PASS_LEN);
    return APR_SUCCESS;
}

/* ---- older stores ---- */

/* Version 1 named keys pkey.pem and kept leaf and chain apart. */
static void migrate_entry(md_store_t *store, md_store_group_t group, const char *name,
                          apr_pool_t *p)
{
    const char *pubcert = md_store_path(store, group, name, "pubcert.pem", p);
    const char *leaf, *chain = "";
    int dir = open_dir(store, group, name, p);
    apr_size_t len;
    apr_status_t rv;

    if (dir < 0)
        return;
    if (faccessat(dir, "privkey.pem", F_OK, 0) != 0
        && renameat(dir, "pkey.pem", dir, "privkey.pem") != 0 && errno != ENOENT)
        md_log(MD_LOG_ERR, errno, "migrating the store: cannot rename pkey.pem of %s/%s",
               GROUPS[group].name, name);
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
    rv = md_file_write(AT_FDCWD, pubcert, &PRIVATE, leaf, strlen(leaf), p);
    if (rv != APR_SUCCESS)
        md_log(MD_LOG_ERR, rv, "migrating the store: cannot write %s", pubcert);
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
    rv = md_file_write(AT_FDCWD, path, &PRIVATE, text, strlen(text), p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot write %s", path);
    md_log(MD_LOG_INFO, APR_SUCCESS, "migrated the store at %s to version 3", store->base);
    return APR_SUCCESS;
}

/* What root makes for those who work in staging is theirs: of its owner, unless md_store_prepare
 * names another. */
static void find_owner(md_store_t *store, apr_pool_t *p)
{
    struct stat st;

    store->has_owner = geteuid() == 0
                       && stat(md_store_path(store, MD_STORE_STAGING, NULL, NULL, p), &st) == 0
                       && st.st_uid != 0;
    if (store->has_owner)
        store->owner = st.st_uid;
}

apr_status_t md_store_open(md_store_t **pstore, const char *base, md_err_t *err, apr_pool_t *p)
{
    md_store_t *store = apr_pcalloc(p, sizeof(*store));
    const char *path = apr_pstrcat(p, base, "/" STORE_FILE, NULL);
    apr_size_t len;
    double version = 0.0;
    apr_status_t rv;
    int created;
    char *text;

    store->base = apr_pstrdup(p, base);
    apr_pool_cleanup_register(p, store, wipe_pass, apr_pool_cleanup_null);
    rv = md_dir_make(base, D_READ, &created, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "cannot create the store directory %s", base);
    if (created)
        md_log(MD_LOG_INFO, APR_SUCCESS, "store directory does not exist, creating %s", base);
    rv = md_file_read_linked(&text, &len, path, MD_MAX_FILE, p);
    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = store_file_create(path, p);
        if (rv == APR_SUCCESS)
            rv = md_file_read_linked(&text, &len, path, MD_MAX_FILE, p);
        if (rv != APR_SUCCESS)
            return md_fail(err, rv, "cannot create %s: %s", path,
                           md_file_why(AT_FDCWD, path, rv, MD_MAX_FILE, p));
    }
    if (rv != APR_SUCCESS)
        return unusable(err, rv, path, md_file_why(AT_FDCWD, path, rv, MD_MAX_FILE, p));
    rv = store_file_parse(store, &version, path, text, len, err, p);
    md_wipe(text, len);
    if (rv == APR_SUCCESS && version < STORE_VERSION)
        rv = migrate(store, version, path, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    find_owner(store, p);
    *pstore = store;
    return APR_SUCCESS;
}

/* ---- directories ---- */

static mode_t dir_mode(md_store_group_t group)
{
    return GROUPS[group].dir == D_READ ? 0755 : 0700;
}

/* Directories that children write to belong to them; the group stays as it is. */
static apr_status_t give_away(const md_store_t *store, md_store_group_t group, int fd,
                              const char *path, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;

    if (!store->has_owner || !GROUPS[group].is_shared)
        return rv;
    if (fchown(fd, store->owner, (gid_t)-1) != 0) {
        rv = md_fail(err, errno, "Can't change owner of %s", path);
        md_log(MD_LOG_ERR, rv, MD_LOGNO(10082) "Can't change owner of %s", path);
    }
    return rv;
}

/* Mode and owner of a directory in the store, which may be new. */
static apr_status_t settle_dir(const md_store_t *store, md_store_group_t group, int fd,
                               const char *path, int is_new, md_err_t *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0
        || ((st.st_mode & 0777) != dir_mode(group) && fchmod(fd, dir_mode(group)) != 0))
        return md_fail(err, errno, "cannot set the mode of directory %s", path);
    return is_new ? give_away(store, group, fd, path, err) : APR_SUCCESS;
}

/* A group may be a link to a directory elsewhere, made by the administrator. */
static apr_status_t make_group(const md_store_t *store, md_store_group_t group, int is_given,
                               md_err_t *err, apr_pool_t *p)
{
    const char *path = md_store_path(store, group, NULL, NULL, p);
    int is_new = mkdir(path, 0700) == 0, failure = errno, fd;
    apr_status_t rv;

    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return md_fail(err, errno == ENOENT ? failure : errno, "cannot create directory %s", path);
    rv = settle_dir(store, group, fd, path, is_new || is_given, err);
    close(fd);
    return rv;
}

/* The directory `name`, made if there is none; -1 with errno. */
static int make_and_open(int *pis_new, const md_store_t *store, md_store_group_t group,
                         const char *name, apr_pool_t *p)
{
    const char *path = md_store_path(store, group, name, NULL, p);
    int failure, fd;

    *pis_new = mkdir(path, 0700) == 0;
    failure = errno;
    fd = open_dir(store, group, name, p);
    if (fd < 0 && errno == ENOENT)
        errno = failure;
    return fd;
}

static apr_status_t make_dir(const md_store_t *store, md_store_group_t group, const char *name,
                             md_err_t *err, apr_pool_t *p)
{
    const char *path = md_store_path(store, group, name, NULL, p), *aside;
    int is_new, fd = make_and_open(&is_new, store, group, name, p);
    apr_status_t rv = errno;

    if (fd < 0 && (rv == ENOTDIR || rv == ELOOP)
        && md_store_put_aside(&aside, store, group, name, NULL, p) == APR_SUCCESS) {
        md_log(MD_LOG_ERR, rv, "%s is no directory; kept as %s", path, aside);
        fd = make_and_open(&is_new, store, group, name, p);
        rv = errno;
    }
    if (fd < 0)
        return md_fail(err, rv, "cannot create directory %s", path);
    rv = settle_dir(store, group, fd, path, is_new, err);
    close(fd);
    return rv;
}

static apr_status_t make_dirs(const md_store_t *store, md_store_group_t group, const char *name,
                              md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = make_group(store, group, 0, err, p);

    return rv == APR_SUCCESS ? make_dir(store, group, name, err, p) : rv;
}

/* A file of root's in a directory that becomes the children's. */
static void adopt_file(const md_store_t *store, int dir, const char *file)
{
    int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 && st.st_nlink == 1
        && fchown(fd, store->owner, (gid_t)-1) != 0)
        md_log(MD_LOG_ERR, errno, MD_LOGNO(10082) "Can't change owner of %s", file);
    close(fd);
}

/* What root left in a shared group before it knew who the children are (a tool may come first):
 * they could not work there. */
static void adopt(const md_store_t *store, md_store_group_t group, const char *name, apr_pool_t *p)
{
    int dir = open_dir(store, group, name, p), i;
    apr_array_header_t *files;
    struct stat st;

    if (dir < 0)
        return;
    if (fstat(dir, &st) == 0 && st.st_uid == 0 && store->owner != 0
        && md_dir_list(&files, dir, ".", 0, p) == APR_SUCCESS) {
        for (i = 0; i < files->nelts; ++i)
            adopt_file(store, dir, APR_ARRAY_IDX(files, i, const char *));
        (void)give_away(store, group, dir, md_store_path(store, group, name, NULL, p), NULL);
    }
    close(dir);
}

static void adopt_all(const md_store_t *store, md_store_group_t group, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(store, group, p);
    apr_pool_t *iter;
    int i;

    apr_pool_create(&iter, p);
    for (i = 0; i < names->nelts; ++i) {
        apr_pool_clear(iter);
        adopt(store, group, APR_ARRAY_IDX(names, i, const char *), iter);
    }
    apr_pool_destroy(iter);
}

/* Children cannot make files in the base: what root makes there for them is given to them. Not
 * blocking for a FIFO in its place. */
static int open_lock(const md_store_t *store, const char *file, mode_t mode, int is_shared,
                     apr_pool_t *p)
{
    const char *path = base_path(store, file, p);
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);

    if (fd >= 0 && is_shared && store->has_owner && fchown(fd, store->owner, (gid_t)-1) != 0)
        md_log(MD_LOG_ERR, errno, MD_LOGNO(10082) "Can't change owner of %s", path);
    return fd;
}

apr_status_t md_store_prepare(md_store_t *store, const apr_uid_t *owner, md_err_t *err,
                              apr_pool_t *p)
{
    static const md_store_group_t NEEDED[] = {
        MD_STORE_CHALLENGES, MD_STORE_STAGING, MD_STORE_ACCOUNTS, MD_STORE_OCSP
    };
    apr_status_t rv = APR_SUCCESS;
    size_t i;
    int lock;

    store->has_owner = owner != NULL;
    if (owner)
        store->owner = *owner;
    for (i = 0; i < sizeof(NEEDED) / sizeof(NEEDED[0]) && rv == APR_SUCCESS; ++i) {
        rv = make_group(store, NEEDED[i], 1, err, p);
        if (rv == APR_SUCCESS && owner && GROUPS[NEEDED[i]].is_shared)
            adopt_all(store, NEEDED[i], p);
    }
    lock = open_lock(store, ENGINE_LOCK, 0600, 1, p);
    if (lock >= 0) /* what goes wrong is told when it is needed */
        close(lock);
    return rv;
}

/* ---- loading ---- */

/* All of a file; when it cannot be read, the caller's error names the file and adds *pwhy. */
static apr_status_t read_part(char **ptext, apr_size_t *plen, const char **pwhy,
                              const md_store_t *store, md_store_group_t group, const char *name,
                              const char *file, apr_size_t max, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;
    place_t place;

    *ptext = NULL;
    *plen = 0;
    *pwhy = NULL;
    rv = check_parts(name, file, err);
    if (rv != APR_SUCCESS)
        return rv;
    rv = enter(&place, store, group, name, file, p);
    if (rv != APR_SUCCESS) {
        *pwhy = APR_STATUS_IS_ENOENT(rv) ? NULL : md_err_text(rv, p);
        return rv;
    }
    rv = md_file_read(ptext, plen, place.dir, place.path, max, p);
    if (APR_STATUS_IS_ENOTDIR(rv))
        rv = APR_ENOENT;
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        *pwhy = md_file_why(place.dir, place.path, rv, max, p);
    leave(&place);
    return rv;
}

apr_status_t md_store_load_text(const char **ptext, apr_size_t *plen, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                apr_size_t max, md_err_t *err, apr_pool_t *p)
{
    const char *why;
    apr_status_t rv;
    char *text;

    rv = read_part(&text, plen, &why, store, group, name, file, max, err, p);
    *ptext = text;
    return why ? md_fail(err, rv, "cannot read %s: %s", md_store_path(store, group, name, file, p),
                         why) : rv;
}

/* An object, or *pwhy tells what is wrong with it. */
static apr_status_t parse_object(md_json_t **pjson, const char **pwhy, const char *text,
                                 apr_size_t len, apr_pool_t *p)
{
    md_err_t err;
    apr_status_t rv;

    md_err_init(&err, p);
    if (strspn(text, " \t\r\n") == len)
        rv = md_fail(&err, APR_EINVAL, "it is empty");
    else
        rv = md_json_parse(pjson, text, len, &err, p);
    if (rv == APR_SUCCESS && !md_json_is_object(*pjson))
        rv = md_fail(&err, APR_EINVAL, "no JSON object");
    if (rv != APR_SUCCESS)
        *pjson = NULL;
    *pwhy = err.detail;
    return rv;
}

apr_status_t md_store_load_json(md_json_t **pjson, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                md_err_t *err, apr_pool_t *p)
{
    const char *why;
    apr_size_t len;
    apr_status_t rv;
    char *text;

    *pjson = NULL;
    rv = read_part(&text, &len, &why, store, group, name, file, MD_MAX_FILE, err, p);
    if (rv == APR_SUCCESS)
        rv = parse_object(pjson, &why, text, len, p);
    if (!why)
        return rv;
    return md_fail(err, APR_EINVAL, "failed to load JSON file %s: %s",
                   md_store_path(store, group, name, file, p), why);
}

apr_status_t md_store_check_json(const md_json_t *json, const md_store_t *store,
                                 md_store_group_t group, const char *name, const char *file,
                                 const md_json_rule_t *rules, md_err_t *err, apr_pool_t *p)
{
    const char *why = md_json_misfit(json, rules, p);

    return why ? md_fail(err, APR_EINVAL, "failed to load JSON file %s: %s",
                         md_store_path(store, group, name, file, p), why) : APR_SUCCESS;
}

/* PEM text of a key; the caller wipes it. */
static apr_status_t read_key(char **ppem, apr_size_t *plen, const md_store_t *store,
                             md_store_group_t group, const char *name, const char *file,
                             md_err_t *err, apr_pool_t *p)
{
    const char *why;
    apr_status_t rv;

    rv = read_part(ppem, plen, &why, store, group, name, file, MD_MAX_FILE, err, p);
    return why ? md_fail(err, rv, "cannot read private key %s: %s",
                         md_store_path(store, group, name, file, p), why) : rv;
}

static apr_status_t decode_key(md_key_t **pkey, const char *pem, apr_size_t len,
                               const md_store_t *store, const char *path, md_err_t *err,
                               apr_pool_t *p)
{
    const char *begin;

    if (md_key_from_pem(pkey, pem, len, store->pass, PASS_LEN, err, p) == APR_SUCCESS)
        return APR_SUCCESS;
    begin = strstr(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----");
    if (begin && strstr(begin, "-----END ENCRYPTED PRIVATE KEY-----"))
        return md_fail(err, APR_EACCES, "cannot use private key %s: it was encrypted with the key "
                       "of another md_store.json, or is damaged", path);
    return md_fail(err, APR_EINVAL, "cannot use private key %s: it is %s", path,
                   len ? "damaged" : "empty");
}

apr_status_t md_store_load_key(md_key_t **pkey, const md_store_t *store,
                               md_store_group_t group, const char *name, const char *file,
                               md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;
    apr_size_t len;
    char *pem;

    *pkey = NULL;
    rv = read_key(&pem, &len, store, group, name, file, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = decode_key(pkey, pem, len, store, md_store_path(store, group, name, file, p), err, p);
    md_wipe(pem, len);
    return rv;
}

apr_status_t md_store_check_key(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const md_cert_t *cert,
                                md_err_t *err, apr_pool_t *p)
{
    const char *path = md_store_path(store, group, name, file, p);
    apr_status_t rv;
    apr_size_t len;
    md_key_t *key;
    char *pem;

    rv = read_key(&pem, &len, store, group, name, file, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_cert_fits_pem(cert, pem, len)) {
        rv = decode_key(&key, pem, len, store, path, err, p);
        if (rv == APR_SUCCESS && !md_cert_fits_key(cert, key))
            rv = md_fail(err, APR_EINVAL, "private key %s is not that of the certificate", path);
    }
    md_wipe(pem, len);
    return rv;
}

apr_status_t md_store_load_chain(apr_array_header_t **pchain, const md_store_t *store,
                                 md_store_group_t group, const char *name, const char *file,
                                 md_err_t *err, apr_pool_t *p)
{
    const char *pem;
    apr_status_t rv;
    apr_size_t len;

    *pchain = NULL;
    rv = md_store_load_text(&pem, &len, store, group, name, file, MD_MAX_FILE, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_chain_from_pem(pchain, pem, len, err, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s holds no usable certificate",
                       md_store_path(store, group, name, file, p));
    if ((*pchain)->nelts == 0) {
        *pchain = NULL;
        return APR_ENOENT;
    }
    return APR_SUCCESS;
}

/* ---- saving ---- */

/* What children share belongs to them, also when root writes it. */
static md_file_attr_t attr_of(const md_store_t *store, md_store_group_t group)
{
    md_file_attr_t attr = { .perms = GROUPS[group].file };

    if (store->has_owner && GROUPS[group].is_shared)
        attr.owner = &store->owner;
    return attr;
}

static apr_status_t save(const md_store_t *store, md_store_group_t group, const char *name,
                         const char *file, const md_file_attr_t *attr, const char *text,
                         apr_size_t len, md_err_t *err, apr_pool_t *p)
{
    const char *aside;
    apr_status_t rv;
    place_t place;

    rv = check_parts(name, file, err);
    if (rv == APR_SUCCESS)
        rv = make_dirs(store, group, name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = enter(&place, store, group, name, file, p);
    if (rv == APR_SUCCESS) {
        rv = md_file_write(place.dir, place.path, attr, text, len, p);
        if (rv == EISDIR && md_store_put_aside(&aside, store, group, name, file, p) == APR_SUCCESS)
            rv = md_file_write(place.dir, place.path, attr, text, len, p);
        leave(&place);
    }
    return rv == APR_SUCCESS ? rv : md_fail(err, rv, "cannot write %s",
                                            md_store_path(store, group, name, file, p));
}

apr_status_t md_store_save_text(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const char *text,
                                md_err_t *err, apr_pool_t *p)
{
    md_file_attr_t attr = attr_of(store, group);

    return save(store, group, name, file, &attr, text, strlen(text), err, p);
}

apr_status_t md_store_save_json(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const md_json_t *json,
                                md_err_t *err, apr_pool_t *p)
{
    return md_store_save_text(store, group, name, file, md_json_text(json, 0, p), err, p);
}

apr_status_t md_store_save_json_volatile(const md_store_t *store, md_store_group_t group,
                                         const char *name, const char *file,
                                         const md_json_t *json, md_err_t *err, apr_pool_t *p)
{
    md_file_attr_t attr = attr_of(store, group);
    const char *text = md_json_text(json, 0, p);

    attr.is_volatile = 1;
    return save(store, group, name, file, &attr, text, strlen(text), err, p);
}

apr_status_t md_store_save_chain(const md_store_t *store, md_store_group_t group,
                                 const char *name, const char *file,
                                 const apr_array_header_t *chain, md_err_t *err, apr_pool_t *p)
{
    return md_store_save_text(store, group, name, file, md_chain_to_pem(chain, p), err, p);
}

/* An unencrypted key is for its owner alone, whatever the group says. */
static apr_status_t save_key(const md_store_t *store, md_store_group_t group, const char *name,
                             const char *file, const md_key_t *key, int is_volatile,
                             md_err_t *err, apr_pool_t *p)
{
    int encrypts = GROUPS[group].encrypts;
    md_file_attr_t attr = attr_of(store, group);
    const char *pem;
    apr_status_t rv;
    apr_size_t len;

    rv = md_key_to_pem(&pem, &len, key, encrypts ? store->pass : NULL, encrypts ? PASS_LEN : 0,
                       err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!encrypts)
        attr.perms = P_OWNER;
    attr.is_volatile = is_volatile;
    return save(store, group, name, file, &attr, pem, len, err, p);
}

apr_status_t md_store_save_key(const md_store_t *store, md_store_group_t group,
                               const char *name, const char *file, const md_key_t *key,
                               md_err_t *err, apr_pool_t *p)
{
    return save_key(store, group, name, file, key, 0, err, p);
}

apr_status_t md_store_save_volatile(const md_store_t *store, md_store_group_t group,
                                    const char *name, const char *key_file,
                                    const md_key_t *key, const char *cert_file,
                                    const md_cert_t *cert, md_err_t *err, apr_pool_t *p)
{
    apr_array_header_t *chain = apr_array_make(p, 1, sizeof(const md_cert_t *));
    md_file_attr_t attr = attr_of(store, group);
    const char *pem;
    apr_status_t rv;

    rv = save_key(store, group, name, key_file, key, 1, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    APR_ARRAY_PUSH(chain, const md_cert_t *) = cert;
    pem = md_chain_to_pem(chain, p);
    attr.is_volatile = 1;
    return save(store, group, name, cert_file, &attr, pem, strlen(pem), err, p);
}

/* Of an account whose document is lost there may still be the key; what a crash left of a file that
 * was being written is nothing. */
static int is_vacant(const md_store_t *store, md_store_group_t group, const char *name,
                     apr_pool_t *p)
{
    apr_array_header_t *files = md_store_files(store, group, name, p);
    int i;

    for (i = 0; i < files->nelts; ++i)
        if (!is_unfinished(APR_ARRAY_IDX(files, i, const char *)))
            return 0;
    return 1;
}

apr_status_t md_store_create_numbered(const char **pid, const md_store_t *store,
                                      md_store_group_t group, const char *prefix,
                                      const char *file, const md_json_t *json, md_err_t *err,
                                      apr_pool_t *p)
{
    const char *text = md_json_text(json, 0, p), *id;
    md_file_attr_t attr = attr_of(store, group);
    apr_status_t rv;
    place_t place;
    int n;

    for (n = 0; n < 1000; ++n) {
        id = apr_psprintf(p, "%s%04d", prefix, n);
        rv = check_parts(id, file, err);
        if (rv == APR_SUCCESS && !is_vacant(store, group, id, p))
            continue;
        if (rv == APR_SUCCESS)
            rv = make_dirs(store, group, id, err, p);
        if (rv != APR_SUCCESS)
            return rv;
        rv = enter(&place, store, group, id, file, p);
        if (rv == APR_SUCCESS) {
            rv = md_file_create(place.dir, place.path, &attr, text, strlen(text), p);
            leave(&place);
        }
        if (rv == APR_SUCCESS) {
            *pid = id;
            return rv;
        }
        if (!APR_STATUS_IS_EEXIST(rv))
            return md_fail(err, rv, "cannot create %s/%s", id, file);
    }
    return md_fail(err, APR_EGENERAL, "all numbers of %s are taken", prefix);
}

/* ---- locks ---- */

/* A record lock on the whole file, which works on network file systems, too (APR takes flock where
 * there is one). POSIX: whoever closes the file, by any descriptor, gives back the lock of the
 * process. Nobody here does so while there is work. */
static apr_status_t lock_file(int fd)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(fd, F_SETLK, &whole) == 0)
        return APR_SUCCESS;
    return errno == EACCES ? EAGAIN : errno; /* POSIX allows both */
}

static apr_status_t try_lock(apr_file_t **plock, const md_store_t *store, const char *file,
                             mode_t mode, int is_shared, md_err_t *err, apr_pool_t *p)
{
    const char *path = base_path(store, file, p);
    int fd = open_lock(store, file, mode, is_shared, p);
    apr_status_t rv = errno;

    if (fd < 0)
        return md_fail(err, rv, "cannot open %s: %s", path, md_file_why(AT_FDCWD, path, rv, 0, p));
    rv = lock_file(fd);
    if (rv == APR_SUCCESS)
        return apr_os_file_put(plock, &fd, APR_FOPEN_WRITE, p);
    close(fd);
    if (APR_STATUS_IS_EAGAIN(rv))
        return md_fail(err, APR_EAGAIN, "another process has locked %s", path);
    return md_fail(err, rv, "cannot lock %s", path);
}

apr_status_t md_store_try_lock(apr_file_t **plock, const md_store_t *store, md_err_t *err,
                               apr_pool_t *p)
{
    return try_lock(plock, store, ENGINE_LOCK, 0600, 1, err, p);
}

apr_status_t md_store_lock(apr_file_t **plock, const md_store_t *store, apr_interval_time_t wait,
                           md_err_t *err, apr_pool_t *p)
{
    apr_time_t end = apr_time_now() + wait;
    apr_status_t rv;

    rv = try_lock(plock, store, STORE_LOCK, 0640, 0, err, p);
    while (APR_STATUS_IS_EAGAIN(rv) && apr_time_now() < end) {
        apr_sleep(LOCK_INTERVAL);
        rv = try_lock(plock, store, STORE_LOCK, 0640, 0, err, p);
    }
    return rv;
}

void md_store_unlock(apr_file_t *lock)
{
    apr_file_close(lock); /* the file stays: removing it would let two processes lock two files */
}

/* ---- looking around ---- */

int md_store_exists(const md_store_t *store, md_store_group_t group, const char *name,
                    const char *file, apr_pool_t *p)
{
    struct stat st;
    place_t place;
    int exists;

    if (!md_path_part_is_safe(name)
        || enter(&place, store, group, name, file ? file : ".", p) != APR_SUCCESS)
        return 0;
    exists = fstatat(place.dir, place.path, &st, 0) == 0;
    leave(&place);
    return exists;
}

apr_array_header_t *md_store_names(const md_store_t *store, md_store_group_t group,
                                   apr_pool_t *p)
{
    apr_array_header_t *names;

    if (md_dir_list(&names, AT_FDCWD, md_store_path(store, group, NULL, NULL, p), 1, p)
        != APR_SUCCESS)
        return md_strings_make(p);
    return names;
}

apr_array_header_t *md_store_files(const md_store_t *store, md_store_group_t group,
                                   const char *name, apr_pool_t *p)
{
    apr_array_header_t *names;
    apr_status_t rv;
    place_t place;

    if (!md_path_part_is_safe(name)
        || enter(&place, store, group, name, ".", p) != APR_SUCCESS)
        return md_strings_make(p);
    rv = md_dir_list(&names, place.dir, place.path, 0, p);
    leave(&place);
    return rv == APR_SUCCESS ? names : md_strings_make(p);
}

/* ---- documents of the whole store ---- */

apr_status_t md_store_load_base_json(md_json_t **pjson, const md_store_t *store,
                                     const char *file, md_err_t *err, apr_pool_t *p)
{
    const char *path = base_path(store, file, p), *why = NULL;
    apr_size_t len;
    apr_status_t rv;
    char *text;

    *pjson = NULL;
    rv = md_file_read(&text, &len, AT_FDCWD, path, MD_MAX_FILE, p);
    if (APR_STATUS_IS_ENOENT(rv))
        return rv;
    if (rv == APR_SUCCESS)
        rv = parse_object(pjson, &why, text, len, p);
    else
        why = md_file_why(AT_FDCWD, path, rv, MD_MAX_FILE, p);
    return why ? md_fail(err, rv, "failed to load JSON file %s: %s", path, why) : rv;
}

apr_status_t md_store_save_base_json(const md_store_t *store, const char *file,
                                     const md_json_t *json, md_err_t *err, apr_pool_t *p)
{
    const char *path = base_path(store, file, p), *text = md_json_text(json, 0, p);
    apr_status_t rv;

    rv = md_file_write(AT_FDCWD, path, &PRIVATE, text, strlen(text), p);
    return rv == APR_SUCCESS ? rv : md_fail(err, rv, "cannot write %s", path);
}

void md_store_remove_base(const md_store_t *store, const char *file, apr_pool_t *p)
{
    (void)md_dir_remove(AT_FDCWD, base_path(store, file, p));
}

/* ---- moving and removing ---- */

apr_status_t md_store_remove(const md_store_t *store, md_store_group_t group, const char *name,
                             const char *file, apr_pool_t *p)
{
    apr_status_t rv;
    place_t place;

    rv = check_parts(name, file, NULL);
    if (rv != APR_SUCCESS)
        return rv;
    if (!file)
        return md_dir_remove(AT_FDCWD, md_store_path(store, group, name, NULL, p));
    rv = enter(&place, store, group, name, file, p);
    if (rv == APR_SUCCESS) {
        rv = md_dir_remove(place.dir, place.path); /* there may be anything in place of a file */
        leave(&place);
    }
    return APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv) ? APR_SUCCESS : rv;
}

/* Rename in its directory; *pname is the new name. */
static apr_status_t put_aside(const char **pname, const place_t *place, apr_pool_t *p)
{
    struct stat st;
    int n;

    for (n = 1; n <= MD_MAX_ASIDE; ++n) {
        *pname = n == 1 ? apr_pstrcat(p, place->path, ".damaged", NULL)
                        : apr_psprintf(p, "%s.damaged.%d", place->path, n);
        if (fstatat(place->dir, *pname, &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        return renameat(place->dir, place->path, place->dir, *pname) == 0 ? APR_SUCCESS : errno;
    }
    return APR_EEXIST;
}

apr_status_t md_store_put_aside(const char **paside, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                apr_pool_t *p)
{
    place_t place = { AT_FDCWD, md_store_path(store, group, name, NULL, p) };
    apr_status_t rv;

    rv = check_parts(name, file, NULL);
    if (rv == APR_SUCCESS && file)
        rv = enter(&place, store, group, name, file, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = put_aside(paside, &place, p);
    if (rv == APR_SUCCESS && place.dir != AT_FDCWD)
        *paside = md_store_path(store, group, name, *paside, p);
    leave(&place);
    return rv;
}

apr_status_t md_store_rename(const md_store_t *store, md_store_group_t group, const char *from,
                             const char *to, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = check_parts(from, to, err);
    if (rv != APR_SUCCESS)
        return rv;
    if (rename(md_store_path(store, group, from, NULL, p),
               md_store_path(store, group, to, NULL, p)) != 0)
        return md_fail(err, errno, "cannot rename %s/%s to %s", GROUPS[group].name, from, to);
    return md_dir_sync(AT_FDCWD, md_store_path(store, group, NULL, NULL, p));
}

/* 0 if there is none. */
static apr_time_t archived_at(const md_store_t *store, const char *slot, apr_pool_t *p)
{
    struct stat st;

    return stat(md_store_path(store, MD_STORE_ARCHIVE, slot, NULL, p), &st) == 0
           ? apr_time_from_sec(st.st_mtime) : 0;
}

/* When all numbers are taken the oldest set gives way. */
static const char *archive_slot(const md_store_t *store, const char *name, apr_pool_t *p)
{
    const char *slot, *oldest = NULL;
    apr_time_t modified, oldest_time = 0;
    int n;

    for (n = 1; n <= MD_MAX_ARCHIVE; ++n) {
        slot = apr_psprintf(p, "%s.%d", name, n);
        modified = archived_at(store, slot, p);
        if (!modified)
            return slot;
        if (!oldest || modified < oldest_time) {
            oldest = slot;
            oldest_time = modified;
        }
    }
    md_store_remove(store, MD_STORE_ARCHIVE, oldest, NULL, p);
    return oldest;
}

static apr_status_t move(const char *from, const char *to, md_err_t *err)
{
    if (rename(from, to) != 0)
        return md_fail(err, errno, "cannot move %s to %s", from, to);
    return APR_SUCCESS;
}

apr_status_t md_store_archive(const char **parchived, const md_store_t *store,
                              md_store_group_t group, const char *name, md_err_t *err,
                              apr_pool_t *p)
{
    apr_status_t rv;

    rv = make_group(store, MD_STORE_ARCHIVE, 0, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    *parchived = md_store_path(store, MD_STORE_ARCHIVE, archive_slot(store, name, p), NULL, p);
    rv = move(md_store_path(store, group, name, NULL, p), *parchived, err);
    if (rv == APR_SUCCESS)
        md_dir_sync(AT_FDCWD, md_store_path(store, MD_STORE_ARCHIVE, NULL, NULL, p));
    return rv;
}

static apr_status_t into_domains(const md_store_t *store, const char *name, md_err_t *err,
                                 apr_pool_t *p)
{
    apr_status_t rv;

    rv = move(md_store_path(store, MD_STORE_TMP, name, NULL, p),
              md_store_path(store, MD_STORE_DOMAINS, name, NULL, p), err);
    md_dir_sync(AT_FDCWD, md_store_path(store, MD_STORE_DOMAINS, NULL, NULL, p));
    return rv;
}

apr_status_t md_store_activate(const md_store_t *store, const char *name, md_err_t *err,
                               apr_pool_t *p)
{
    const char *live = md_store_path(store, MD_STORE_DOMAINS, name, NULL, p), *archived;
    apr_status_t rv;

    rv = make_group(store, MD_STORE_DOMAINS, 0, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_store_exists(store, MD_STORE_DOMAINS, name, NULL, p))
        return into_domains(store, name, err, p);
    rv = md_store_archive(&archived, store, MD_STORE_DOMAINS, name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = into_domains(store, name, err, p);
    if (rv != APR_SUCCESS)
        (void)move(archived, live, NULL);
    return rv;
}

/* job.json is written last, so a directory with it is complete; older versions leave one alone. */
static int is_complete(const md_store_t *store, const char *name, apr_pool_t *p)
{
    return md_store_exists(store, MD_STORE_TMP, name, "job.json", p)
           && md_store_exists(store, MD_STORE_TMP, name, "md.json", p);
}

static void recover(const md_store_t *store, const char *name, apr_pool_t *p)
{
    md_err_t err;

    md_err_init(&err, p);
    if (md_store_exists(store, MD_STORE_DOMAINS, name, NULL, p) || !is_complete(store, name, p)) {
        md_store_remove(store, MD_STORE_TMP, name, NULL, p);
        return;
    }
    if (make_group(store, MD_STORE_DOMAINS, 0, &err, p) == APR_SUCCESS
        && into_domains(store, name, &err, p) == APR_SUCCESS)
        md_log(MD_LOG_NOTICE, APR_SUCCESS, "md[%s]: completed an activation that was interrupted",
               name);
    else
        md_log(MD_LOG_ERR, err.rv, "md[%s]: cannot complete an activation that was interrupted: %s",
               name, err.detail);
}

void md_store_recover(const md_store_t *store, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(store, MD_STORE_TMP, p);
    int i;

    for (i = 0; i < names->nelts; ++i)
        recover(store, APR_ARRAY_IDX(names, i, const char *), p);
}

/* ---- what a crash leaves ---- */

static void remove_if_stale(int dir, const char *file, apr_time_t before)
{
    struct stat st;

    if (is_unfinished(file) && fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0
        && S_ISREG(st.st_mode) && apr_time_from_sec(st.st_mtime) < before)
        (void)unlinkat(dir, file, 0);
}

void md_store_sweep(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_time_t now, apr_pool_t *p)
{
    int dir = name ? open_dir(store, group, name, p)
                   : open(store->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC), i;
    apr_array_header_t *files;

    if (dir < 0)
        return;
    if (md_dir_list(&files, dir, ".", 0, p) == APR_SUCCESS)
        for (i = 0; i < files->nelts; ++i)
            remove_if_stale(dir, APR_ARRAY_IDX(files, i, const char *), now - STALE_AFTER);
    close(dir);
}

/* A file that children cannot read, but should. */
static int is_locked_away(const md_store_t *store, int fd)
{
    char head[200] = "";
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1
        || st.st_mode & (S_IRGRP | S_IROTH))
        return 0;
    if (st.st_uid == store->owner && st.st_mode & S_IRUSR)
        return 0;
    return read(fd, head, sizeof(head) - 1) >= 0
           && (!strstr(head, "PRIVATE KEY") || strstr(head, "ENCRYPTED PRIVATE KEY"));
}

int md_store_open_to_children(const md_store_t *store, md_store_group_t group, const char *name,
                              const char *file, apr_pool_t *p)
{
    int dir, fd, changed;

    if (!store->has_owner)
        return 0;
    dir = open_dir(store, group, name, p);
    if (dir < 0)
        return 0;
    fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    close(dir);
    if (fd < 0)
        return 0;
    changed = GROUPS[group].file == P_READ && is_locked_away(store, fd) && fchmod(fd, 0644) == 0;
    close(fd);
    return changed;
}
