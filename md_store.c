/* SPDX-License-Identifier: Apache-2.0 */
/* The store on the file system: loading, saving, looking around, locks. */
#include "md_store.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_portable.h>
#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_store_place.h"
#include "md_text.h"

#define STORE_LOCK    "store.lock" /* in the base */
#define PAIR_LOCK     "fallback.lock"
#define PAIR_WAIT     apr_time_from_sec(10)
#define LOCK_INTERVAL apr_time_from_msec(100) /* at most: first attempts follow each other sooner */
#define LOCK_TELL     apr_time_from_sec(1)

const char *md_store_path(const md_store_t *store, md_store_group_t group, const char *name,
                          const char *file, apr_pool_t *p)
{
    return md_place_path(store, group, name, file, p);
}

/* ---- loading ---- */

/* All of a file; when it cannot be read, the caller's error names the file and adds *pwhy. */
static apr_status_t read_part(char **ptext, apr_size_t *plen, const char **pwhy,
                              const md_store_t *store, md_store_group_t group, const char *name,
                              const char *file, apr_size_t max, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;
    md_place_t place;

    *ptext = NULL;
    *plen = 0;
    *pwhy = NULL;
    rv = md_place_check(name, file, err);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_place_enter(&place, store, group, name, file, p);
    if (rv != APR_SUCCESS) {
        *pwhy = APR_STATUS_IS_ENOENT(rv) ? NULL : md_err_text(rv, p);
        return rv;
    }
    rv = md_file_read(ptext, plen, place.dir, place.path, max, p);
    if (APR_STATUS_IS_ENOTDIR(rv))
        rv = APR_ENOENT;
    if (rv != APR_SUCCESS && !APR_STATUS_IS_ENOENT(rv))
        *pwhy = md_file_why(place.dir, place.path, rv, max, p);
    md_place_leave(&place);
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
        rv = md_fail(&err, APR_EINVAL, "not a JSON object");
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
    return md_fail(err, APR_STATUS_IS_EACCES(rv) || md_is_lack(rv) ? rv : APR_EINVAL,
                   "failed to load JSON file %s: %s", md_store_path(store, group, name, file, p),
                   why);
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
    apr_status_t rv = md_key_from_pem(pkey, pem, len, store->pass, MD_STORE_PASS_LEN, err, p);
    const char *begin;

    if (rv == APR_SUCCESS)
        return rv;
    if (rv == APR_ENOTIMPL)
        return md_fail(err, APR_EINVAL, "cannot use private key %s: %s", path,
                       err ? apr_pstrdup(p, err->detail) : "");
    begin = strstr(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----");
    if (begin && strstr(begin, "-----END ENCRYPTED PRIVATE KEY-----"))
        return md_fail(err, APR_EACCES, "cannot use private key %s: it was encrypted with the key "
                       "of another md_store.json, or is damaged", path);
    return md_fail(err, APR_EINVAL, "cannot use private key %s: it is %s", path,
                   len ? "damaged" : "empty");
}

apr_status_t md_store_unseal_key(md_key_t **pkey, const md_store_t *store, const char *pem,
                                 md_err_t *err, apr_pool_t *p)
{
    return md_key_from_pem(pkey, pem, strlen(pem), store->pass, MD_STORE_PASS_LEN, err, p);
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
    if (!md_store_groups[group].encrypts && md_key_pem_is_encrypted(pem))
        rv = md_fail(err, APR_EINVAL, "private key %s is encrypted: the TLS module would have to "
                     "ask for a passphrase", path);
    else if (!md_cert_fits_pem(cert, pem, len)) {
        rv = decode_key(&key, pem, len, store, path, err, p);
        if (rv == APR_SUCCESS && !md_cert_fits_key(cert, key))
            rv = md_fail(err, APR_EINVAL, "private key %s does not match the certificate", path);
    }
    md_wipe(pem, len);
    return rv;
}

apr_status_t md_store_load_chain(apr_array_header_t **pchain, apr_hash_t *issuers,
                                 const md_store_t *store, md_store_group_t group, const char *name,
                                 const char *file, md_err_t *err, apr_pool_t *p)
{
    const char *pem;
    apr_status_t rv;
    apr_size_t len;

    *pchain = NULL;
    rv = md_store_load_text(&pem, &len, store, group, name, file, MD_MAX_FILE, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_chain_from_pem_shared(pchain, pem, len, issuers, err, p);
    if (rv != APR_SUCCESS)
        return md_fail(err, rv, "%s holds no usable certificate",
                       md_store_path(store, group, name, file, p));
    if ((*pchain)->nelts == 0) {
        *pchain = NULL;
        return APR_ENOENT;
    }
    return APR_SUCCESS;
}

/* ---- what is in the way ---- */

apr_status_t md_store_put_aside(const char **paside, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                apr_pool_t *p)
{
    md_place_t place = { AT_FDCWD, md_store_path(store, group, name, NULL, p), NO_RIGHTS };
    apr_status_t rv;

    rv = md_place_check(name, file, NULL);
    if (rv == APR_SUCCESS && !file)
        rv = md_place_check_move(store, NULL);
    if (rv == APR_SUCCESS && file)
        rv = md_place_enter(&place, store, group, name, file, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_place_put_aside(paside, &place, p);
    if (rv == APR_SUCCESS && place.dir != AT_FDCWD)
        *paside = md_store_path(store, group, name, *paside, p);
    md_place_leave(&place);
    return rv;
}

/* ---- saving ---- */

static apr_status_t save(const md_store_t *store, md_store_group_t group, const char *name,
                         const char *file, const md_file_attr_t *attr, const char *text,
                         apr_size_t len, md_err_t *err, apr_pool_t *p)
{
    const char *aside;
    apr_status_t rv;
    md_place_t place;

    if (len > MD_MAX_FILE) /* nobody could read it */
        return md_fail(err, APR_EINVAL, "cannot write %s: it would have %lu bytes; the maximum is "
                       "%d",
                       md_store_path(store, group, name, file, p), (unsigned long)len,
                       MD_MAX_FILE);
    rv = md_place_check(name, file, err);
    if (rv == APR_SUCCESS)
        rv = md_place_make_dirs(store, group, name, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    rv = md_place_enter(&place, store, group, name, file, p);
    if (rv == APR_SUCCESS) {
        rv = md_file_write(place.dir, place.path, attr, text, len, p);
        if (rv == EISDIR && md_store_put_aside(&aside, store, group, name, file, p) == APR_SUCCESS)
            rv = md_file_write(place.dir, place.path, attr, text, len, p);
        md_place_leave(&place);
    }
    return rv == APR_SUCCESS ? rv : md_fail_system(err, rv, "cannot write %s",
                                                   md_store_path(store, group, name, file, p));
}

apr_status_t md_store_save_text(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const char *text,
                                md_err_t *err, apr_pool_t *p)
{
    md_file_attr_t attr = md_place_attr(store, group);

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
    md_file_attr_t attr = md_place_attr(store, group);
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

apr_status_t md_store_seal_key(const char **ppem, const md_store_t *store, const md_key_t *key,
                               md_err_t *err, apr_pool_t *p)
{
    apr_size_t len;

    return md_key_to_pem(ppem, &len, key, store->pass, MD_STORE_PASS_LEN, err, p);
}

/* An unencrypted key is for its owner alone, whatever the group says. */
static apr_status_t save_key(const md_store_t *store, md_store_group_t group, const char *name,
                             const char *file, const md_key_t *key, int is_volatile,
                             md_err_t *err, apr_pool_t *p)
{
    int encrypts = md_store_groups[group].encrypts;
    md_file_attr_t attr = md_place_attr(store, group);
    const char *pem;
    apr_status_t rv;
    apr_size_t len;

    rv = md_key_to_pem(&pem, &len, key, encrypts ? store->pass : NULL,
                       encrypts ? MD_STORE_PASS_LEN : 0, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!encrypts)
        attr.perms = P_OWNER;
    attr.is_volatile |= is_volatile;
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
    md_file_attr_t attr = md_place_attr(store, group);
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
        if (!md_place_is_unfinished(APR_ARRAY_IDX(files, i, const char *)))
            return 0;
    return 1;
}

apr_status_t md_store_create_numbered(const char **pid, const md_store_t *store,
                                      md_store_group_t group, const char *prefix,
                                      const char *file, const md_json_t *json, md_err_t *err,
                                      apr_pool_t *p)
{
    const char *text = md_json_text(json, 0, p), *id;
    md_file_attr_t attr = md_place_attr(store, group);
    apr_status_t rv;
    md_place_t place;
    int n;

    for (n = 0; n < 1000; ++n) {
        id = apr_psprintf(p, "%s%04d", prefix, n);
        rv = md_place_check(id, file, err);
        if (rv == APR_SUCCESS && !is_vacant(store, group, id, p))
            continue;
        if (rv == APR_SUCCESS)
            rv = md_place_make_dirs(store, group, id, err, p);
        if (rv != APR_SUCCESS)
            return rv;
        rv = md_place_enter(&place, store, group, id, file, p);
        if (rv == APR_SUCCESS) {
            rv = md_file_create(place.dir, place.path, &attr, text, strlen(text), p);
            md_place_leave(&place);
        }
        if (rv == APR_SUCCESS) {
            *pid = id;
            return rv;
        }
        if (!APR_STATUS_IS_EEXIST(rv))
            return md_fail_system(err, rv, "cannot create %s/%s", id, file);
    }
    return md_fail(err, APR_EGENERAL, "all numbers for %s are in use", prefix);
}

/* ---- removing ---- */

static apr_status_t remove_from(const md_store_t *store, md_store_group_t group, const char *name,
                                const char *file, apr_pool_t *p)
{
    apr_status_t rv;
    md_place_t place;

    rv = md_place_check(name, file, NULL);
    if (rv != APR_SUCCESS)
        return rv;
    if (!file && md_place_check_move(store, NULL) != APR_SUCCESS)
        return APR_EACCES;
    rv = file ? md_place_enter(&place, store, group, name, file, p)
              : md_place_enter_group(&place, store, group, name, p);
    if (rv == APR_SUCCESS) {
        rv = md_dir_remove(place.dir, place.path); /* there may be anything in place of a file */
        md_place_leave(&place);
    }
    return APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_ENOTDIR(rv) ? APR_SUCCESS : rv;
}

apr_status_t md_store_remove(const md_store_t *store, md_store_group_t group, const char *name,
                             const char *file, apr_pool_t *p)
{
    apr_status_t rv = remove_from(store, group, name, file, p);

    if (rv == ENOTEMPTY)
        md_log(MD_LOG_ERR, "%s cannot be removed: there are more than %d files in it, or "
               "directories more than %d deep, which this module never creates. Find out who put "
               "them there, and remove it by hand", md_store_path(store, group, name, file, p),
               MD_MAX_TREE_FILES, MD_MAX_TREE_DEPTH);
    else if (APR_STATUS_IS_EACCES(rv) && store->has_owner)
        md_log(MD_LOG_ERR, "%s cannot be removed: something in it does not belong to the user of "
               "the server's children. Remove it by hand",
               md_store_path(store, group, name, file, p));
    return rv;
}

void md_store_remove_empty(const md_store_t *store, md_store_group_t group, const char *name,
                           apr_pool_t *p)
{
    md_place_t place;

    if (!md_path_part_is_safe(name)
        || md_place_enter_group(&place, store, group, name, p) != APR_SUCCESS)
        return;
    (void)unlinkat(place.dir, place.path, AT_REMOVEDIR);
    md_place_leave(&place);
}

/* ---- looking around ---- */

int md_store_has_owner(apr_uid_t *powner, const md_store_t *store)
{
    *powner = store->owner;
    return store->has_owner;
}

int md_store_exists(const md_store_t *store, md_store_group_t group, const char *name,
                    const char *file, apr_pool_t *p)
{
    struct stat st;
    md_place_t place;
    int exists;

    if (!md_path_part_is_safe(name)
        || md_place_enter(&place, store, group, name, file ? file : ".", p) != APR_SUCCESS)
        return 0;
    exists = fstatat(place.dir, place.path, &st, 0) == 0;
    md_place_leave(&place);
    return exists;
}

apr_array_header_t *md_store_names(const md_store_t *store, md_store_group_t group,
                                   apr_pool_t *p)
{
    apr_array_header_t *names;

    return md_store_list(&names, store, group, NULL, p) == APR_SUCCESS ? names
                                                                       : md_strings_make(p);
}

apr_status_t md_store_list(apr_array_header_t **pnames, const md_store_t *store,
                           md_store_group_t group, md_err_t *err, apr_pool_t *p)
{
    const char *path = md_store_path(store, group, NULL, NULL, p);
    apr_status_t rv;

    rv = md_dir_list(pnames, AT_FDCWD, path, 1,
                     md_store_groups[group].is_shared ? MD_MAX_SHARED_NAMES : 0, p);
    if (rv == APR_SUCCESS)
        return rv;
    *pnames = md_strings_make(p);
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS
           : md_fail_system(err, rv, "cannot read the directory %s", path);
}

apr_time_t md_store_changed_at(const md_store_t *store, md_store_group_t group, const char *name,
                               apr_pool_t *p)
{
    const char *path = md_store_path(store, group, name, NULL, p);
    apr_finfo_t info;

    return apr_stat(&info, path, APR_FINFO_MTIME | APR_FINFO_LINK, p) == APR_SUCCESS ? info.mtime
                                                                                     : 0;
}

apr_array_header_t *md_store_files(const md_store_t *store, md_store_group_t group,
                                   const char *name, apr_pool_t *p)
{
    apr_array_header_t *names;
    apr_status_t rv;
    md_place_t place;

    if (!md_path_part_is_safe(name)
        || md_place_enter(&place, store, group, name, ".", p) != APR_SUCCESS)
        return md_strings_make(p);
    rv = md_dir_list(&names, place.dir, place.path, 0, MD_MAX_DIR_FILES, p);
    md_place_leave(&place);
    return rv == APR_SUCCESS ? names : md_strings_make(p);
}

/* ---- documents of the whole store ---- */

apr_status_t md_store_load_base_json(md_json_t **pjson, const md_store_t *store,
                                     const char *file, md_err_t *err, apr_pool_t *p)
{
    const char *path = md_place_in_base(store, file, p), *why = NULL;
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
    const char *path = md_place_in_base(store, file, p), *text = md_json_text(json, 0, p);
    apr_status_t rv;

    rv = md_file_write(AT_FDCWD, path, &md_place_private, text, strlen(text), p);
    return rv == APR_SUCCESS ? rv : md_fail_system(err, rv, "cannot write %s", path);
}

void md_store_remove_base(const md_store_t *store, const char *file, apr_pool_t *p)
{
    (void)md_dir_remove(AT_FDCWD, md_place_in_base(store, file, p));
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
    const char *path = md_place_in_base(store, file, p);
    int fd = md_place_open_lock(store, file, mode, is_shared, p);
    apr_status_t rv = errno;

    if (fd < 0)
        return md_fail(err, rv, "cannot open %s: %s", path, md_file_why(AT_FDCWD, path, rv, 0, p));
    rv = lock_file(fd);
    if (rv == APR_SUCCESS)
        return apr_os_file_put(plock, &fd, APR_FOPEN_WRITE, p);
    close(fd);
    if (APR_STATUS_IS_EAGAIN(rv))
        return md_fail(err, APR_EAGAIN, "another process has locked %s", path);
    return md_fail_system(err, rv, "cannot lock %s", path);
}

apr_status_t md_store_try_lock(apr_file_t **plock, const md_store_t *store, md_err_t *err,
                               apr_pool_t *p)
{
    return try_lock(plock, store, ENGINE_LOCK, 0600, 1, err, p);
}

static apr_status_t await_lock(apr_file_t **plock, const md_store_t *store, const char *file,
                               mode_t mode, apr_interval_time_t wait, md_err_t *err, apr_pool_t *p)
{
    apr_time_t begun = md_clock_steady(), now = begun;
    apr_interval_time_t pause = LOCK_INTERVAL / 16;
    int is_told = 0;
    apr_status_t rv;

    rv = try_lock(plock, store, file, mode, 0, err, p);
    while (APR_STATUS_IS_EAGAIN(rv) && now - begun < wait) {
        if (!is_told && now - begun >= LOCK_TELL) {
            md_log(MD_LOG_NOTICE, "waiting, as another process has locked %s",
                   md_place_in_base(store, file, p));
            is_told = 1;
        }
        md_clock_sleep(pause);
        pause = 2 * pause < LOCK_INTERVAL ? 2 * pause : LOCK_INTERVAL;
        rv = try_lock(plock, store, file, mode, 0, err, p);
        now = md_clock_steady();
    }
    return rv;
}

apr_status_t md_store_lock(apr_file_t **plock, const md_store_t *store, apr_interval_time_t wait,
                           md_err_t *err, apr_pool_t *p)
{
    return await_lock(plock, store, STORE_LOCK, 0640, wait, err, p);
}

apr_status_t md_store_lock_pair(apr_file_t **plock, const md_store_t *store, md_err_t *err,
                                apr_pool_t *p)
{
    return await_lock(plock, store, PAIR_LOCK, 0600, PAIR_WAIT, err, p);
}

void md_store_unlock(apr_file_t *lock)
{
    apr_file_close(lock); /* the file stays: removing it would let two processes lock two files */
}
