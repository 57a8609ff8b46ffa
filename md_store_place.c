/* SPDX-License-Identifier: Apache-2.0 */
/* Places in the store: directories and files, their modes and owners. */
#include "md_store_place.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/fsuid.h>
#endif

#include <apr_strings.h>

#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

const md_file_attr_t md_place_private = { .perms = P_OWNER };

/* ---- paths ---- */

const char *md_place_path(const md_store_t *store, md_store_group_t group, const char *name,
                          const char *file, apr_pool_t *p)
{
    return apr_pstrcat(p, store->base, "/", md_store_groups[group].name, name ? "/" : "",
                       name ? name : "", file ? "/" : "", file ? file : "", NULL);
}

const char *md_place_in_base(const md_store_t *store, const char *file, apr_pool_t *p)
{
    return apr_pstrcat(p, store->base, "/", file, NULL);
}

/* A group may be a link to a directory elsewhere, made by the administrator. */
static int open_group(const md_store_t *store, md_store_group_t group, apr_pool_t *p)
{
    return open(md_place_path(store, group, NULL, NULL, p),
                O_RDONLY | O_DIRECTORY | O_CLOEXEC | (store->is_in_danger ? O_NOFOLLOW : 0));
}

/* Could somebody else than root have put a link into the group? */
static int is_exposed(const md_store_t *store, md_store_group_t group)
{
    return store->is_in_danger || md_store_groups[group].is_shared;
}

static int open_below(const md_store_t *store, md_store_group_t group, int parent,
                      const char *name)
{
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC
                                    | (is_exposed(store, group) ? O_NOFOLLOW : 0));
}

int md_place_open_dir(const md_store_t *store, md_store_group_t group, const char *name,
                      apr_pool_t *p)
{
    int parent = open_group(store, group, p), dir, error;

    if (parent < 0)
        return -1;
    dir = open_below(store, group, parent, name);
    error = errno;
    close(parent);
    errno = error;
    return dir;
}

/* Root takes the rights of the children; *prights is what it had. They are those of a thread. */
static void take_rights(uid_t *prights, const md_store_t *store, md_store_group_t group)
{
    *prights = NO_RIGHTS;
#ifdef __linux__
    if (store->has_owner && md_store_groups[group].is_shared)
        *prights = (uid_t)setfsuid(store->owner);
#else
    (void)store;
    (void)group;
#endif
}

static apr_status_t enter(md_place_t *place, const md_store_t *store, md_store_group_t group,
                          int dir, const char *path)
{
    place->dir = dir;
    place->path = path;
    if (dir < 0)
        return errno == ENOTDIR || errno == ELOOP ? APR_ENOENT : errno;
    take_rights(&place->rights, store, group);
    return APR_SUCCESS;
}

apr_status_t md_place_enter(md_place_t *place, const md_store_t *store, md_store_group_t group,
                            const char *name, const char *file, apr_pool_t *p)
{
    if (is_exposed(store, group))
        return enter(place, store, group, md_place_open_dir(store, group, name, p), file);
    place->dir = AT_FDCWD;
    place->path = md_place_path(store, group, name, file, p);
    place->rights = NO_RIGHTS;
    return APR_SUCCESS;
}

apr_status_t md_place_enter_group(md_place_t *place, const md_store_t *store,
                                  md_store_group_t group, const char *name, apr_pool_t *p)
{
    return enter(place, store, group, open_group(store, group, p), name);
}

void md_place_leave(const md_place_t *place)
{
#ifdef __linux__
    if (place->rights != NO_RIGHTS)
        (void)setfsuid(place->rights);
#endif
    if (place->dir != AT_FDCWD)
        close(place->dir);
}

apr_status_t md_place_check(const char *name, const char *file, md_err_t *err)
{
    if (!md_path_part_is_safe(name))
        return md_fail(err, APR_EINVAL, "'%s' cannot be a directory in the store", name);
    if (file && !md_path_part_is_safe(file))
        return md_fail(err, APR_EINVAL, "'%s' cannot be a file in the store", file);
    return APR_SUCCESS;
}

apr_status_t md_place_check_move(const md_store_t *store, md_err_t *err)
{
    return store->is_in_danger ? md_fail(err, APR_EACCES, "nothing is moved in the store %s, as "
                                         "users other than root can write to it", store->base)
                               : APR_SUCCESS;
}

int md_place_is_unfinished(const char *file)
{
    apr_size_t len = strlen(file);

    return len > 4 && !strcmp(file + len - 4, ".tmp");
}

apr_status_t md_place_put_aside(const char **pname, const md_place_t *place, apr_pool_t *p)
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

/* ---- directories ---- */

/* What children share belongs to them, also when root writes it. */
md_file_attr_t md_place_attr(const md_store_t *store, md_store_group_t group)
{
    md_file_attr_t attr = { .perms = md_store_groups[group].is_open ? P_READ : P_OWNER,
                            .is_volatile = md_store_groups[group].is_volatile };

    if (store->has_owner && md_store_groups[group].is_shared)
        attr.owner = &store->owner;
    return attr;
}

static mode_t dir_mode(md_store_group_t group)
{
    return md_store_groups[group].is_open ? 0755 : 0700;
}

/* Directories that children write to belong to them; the group stays as it is. */
static apr_status_t give_away(const md_store_t *store, md_store_group_t group, int fd,
                              const char *path, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = APR_SUCCESS;

    if (!store->has_owner || !md_store_groups[group].is_shared)
        return rv;
    if (fchown(fd, store->owner, (gid_t)-1) != 0) {
        rv = md_fail_system(err, errno, "Can't change owner of %s", path);
        md_log(MD_LOG_ERR, MD_LOGNO(10082) "Can't change owner of %s: %s", path,
               md_err_text(rv, p));
    }
    return rv;
}

/* A directory that somebody else may have put there: its mode is not ours to set. */
static int is_foreign(const md_store_t *store, md_store_group_t group, const struct stat *st)
{
    return store->is_in_danger
           || (store->has_owner && md_store_groups[group].is_shared && st->st_uid != store->owner);
}

/* Mode and owner of a directory in the store, which may be new. */
static apr_status_t settle_dir(const md_store_t *store, md_store_group_t group, int fd,
                               const char *path, int is_new, md_err_t *err, apr_pool_t *p)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && !is_new && is_foreign(store, group, &st))
        return APR_SUCCESS;
    if (fstat(fd, &st) != 0
        || ((st.st_mode & 0777) != dir_mode(group) && fchmod(fd, dir_mode(group)) != 0))
        return md_fail_system(err, errno, "cannot set the mode of directory %s", path);
    return is_new ? give_away(store, group, fd, path, err, p) : APR_SUCCESS;
}

apr_status_t md_place_make_group(const md_store_t *store, md_store_group_t group, int is_given,
                                 md_err_t *err, apr_pool_t *p)
{
    const char *path = md_place_path(store, group, NULL, NULL, p);
    int is_new = mkdir(path, 0700) == 0, failure = errno, fd;
    apr_status_t rv;

    fd = open_group(store, group, p);
    if (fd < 0)
        return md_fail_system(err, errno == ENOENT ? failure : errno, "cannot create directory %s",
                              path);
    rv = settle_dir(store, group, fd, path, is_new || is_given, err, p);
    close(fd);
    return rv;
}

/* The directory `name`, made if there is none; -1 with errno. */
static int make_and_open(int *pis_new, const md_store_t *store, md_store_group_t group,
                         const char *name, apr_pool_t *p)
{
    int parent = open_group(store, group, p), failure, fd;

    *pis_new = 0;
    if (parent < 0)
        return -1;
    *pis_new = mkdirat(parent, name, 0700) == 0;
    failure = errno;
    fd = open_below(store, group, parent, name);
    if (fd >= 0 || errno != ENOENT)
        failure = errno;
    close(parent);
    errno = failure;
    return fd;
}

static apr_status_t make_dir(const md_store_t *store, md_store_group_t group, const char *name,
                             md_err_t *err, apr_pool_t *p)
{
    md_place_t place = { AT_FDCWD, md_place_path(store, group, name, NULL, p), NO_RIGHTS };
    const char *path = place.path, *aside;
    int is_new, fd = make_and_open(&is_new, store, group, name, p);
    apr_status_t rv = errno;

    if (fd < 0 && (rv == ENOTDIR || rv == ELOOP) && !store->is_in_danger
        && md_place_put_aside(&aside, &place, p) == APR_SUCCESS) {
        md_log(MD_LOG_ERR, "%s is not a directory; kept as %s", path, aside);
        fd = make_and_open(&is_new, store, group, name, p);
        rv = errno;
    }
    if (fd < 0)
        return md_fail_system(err, rv, "cannot create directory %s", path);
    rv = settle_dir(store, group, fd, path, is_new, err, p);
    close(fd);
    return rv;
}

apr_status_t md_place_make_dirs(const md_store_t *store, md_store_group_t group, const char *name,
                                md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = md_place_make_group(store, group, 0, err, p);

    return rv == APR_SUCCESS ? make_dir(store, group, name, err, p) : rv;
}

/* A file in a directory of `former`, which becomes the children's: what is of somebody else was put
 * there by them. */
static void adopt_file(const md_store_t *store, int dir, uid_t former, const char *file,
                       apr_pool_t *p)
{
    int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == former && st.st_nlink == 1
        && fchown(fd, store->owner, (gid_t)-1) != 0)
        md_log(MD_LOG_ERR, MD_LOGNO(10082) "Can't change owner of %s: %s", file,
               md_err_text(errno, p));
    close(fd);
}

/* What root left in a shared group before it knew who the children are (a tool may come first), or
 * children of another user before `User` was changed: they could not work there. */
static void adopt(const md_store_t *store, md_store_group_t group, const char *name, apr_pool_t *p)
{
    int dir = md_place_open_dir(store, group, name, p), i;
    apr_array_header_t *files;
    struct stat st;

    if (dir < 0)
        return;
    if (fstat(dir, &st) == 0 && st.st_uid != store->owner
        && md_dir_list(&files, dir, ".", 0, MD_MAX_DIR_FILES, p) == APR_SUCCESS) {
        for (i = 0; i < files->nelts; ++i)
            adopt_file(store, dir, st.st_uid, APR_ARRAY_IDX(files, i, const char *), p);
        (void)give_away(store, group, dir, md_place_path(store, group, name, NULL, p), NULL, p);
    }
    close(dir);
}

void md_place_adopt_all(const md_store_t *store, md_store_group_t group, apr_pool_t *p)
{
    apr_array_header_t *names;
    apr_pool_t *iter;
    int i;

    if (md_dir_list(&names, AT_FDCWD, md_place_path(store, group, NULL, NULL, p), 1,
                    MD_MAX_SHARED_NAMES, p) != APR_SUCCESS)
        return;
    apr_pool_create(&iter, p);
    for (i = 0; i < names->nelts; ++i) {
        apr_pool_clear(iter);
        adopt(store, group, APR_ARRAY_IDX(names, i, const char *), iter);
    }
    apr_pool_destroy(iter);
}

/* Children cannot make files in the base: what root makes there for them is given to them. Not
 * blocking for a FIFO in its place. */
int md_place_open_lock(const md_store_t *store, const char *file, mode_t mode, int is_shared,
                       apr_pool_t *p)
{
    const char *path = md_place_in_base(store, file, p);
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);

    if (fd >= 0 && is_shared && store->has_owner && fchown(fd, store->owner, (gid_t)-1) != 0)
        md_log(MD_LOG_ERR, MD_LOGNO(10082) "Can't change owner of %s: %s", path,
               md_err_text(errno, p));
    return fd;
}
