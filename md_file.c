/* SPDX-License-Identifier: Apache-2.0 */
/* Files and directories, by POSIX calls: modes, O_EXCL, O_NOFOLLOW and fsync are what matters
 * here. */
#include "md_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_tables.h>

#include "md_limits.h"

static mode_t mode_of(apr_fileperms_t perms)
{
    mode_t mode = 0;

    mode |= perms & APR_FPROT_UREAD ? S_IRUSR : 0;
    mode |= perms & APR_FPROT_UWRITE ? S_IWUSR : 0;
    mode |= perms & APR_FPROT_UEXECUTE ? S_IXUSR : 0;
    mode |= perms & APR_FPROT_GREAD ? S_IRGRP : 0;
    mode |= perms & APR_FPROT_GWRITE ? S_IWGRP : 0;
    mode |= perms & APR_FPROT_GEXECUTE ? S_IXGRP : 0;
    mode |= perms & APR_FPROT_WREAD ? S_IROTH : 0;
    mode |= perms & APR_FPROT_WWRITE ? S_IWOTH : 0;
    mode |= perms & APR_FPROT_WEXECUTE ? S_IXOTH : 0;
    return mode;
}

static const char *directory_of(const char *path, apr_pool_t *p)
{
    const char *slash = strrchr(path, '/');

    return slash ? apr_pstrmemdup(p, path, (apr_size_t)(slash - path)) : ".";
}

apr_status_t md_dir_sync(int dir, const char *path)
{
    int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    apr_status_t rv = APR_SUCCESS;

    if (fd < 0)
        return errno;
    /* Some file systems cannot do it, and write directories through or not at all. */
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP && errno != ENOSYS)
        rv = errno;
    close(fd);
    return rv;
}

apr_status_t md_file_version(md_file_version_t *version, const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return errno;
    *version = (md_file_version_t){ .dev = st.st_dev, .ino = st.st_ino, .size = st.st_size,
                                    .modified = st.st_mtim, .changed = st.st_ctim };
    return APR_SUCCESS;
}

static int same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int md_file_version_same(const md_file_version_t *a, const md_file_version_t *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size
           && same_time(&a->modified, &b->modified) && same_time(&a->changed, &b->changed);
}

apr_status_t md_file_sync_all(const char *path)
{
    apr_status_t rv = APR_SUCCESS;
#ifdef __linux__
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return errno;
    if (syncfs(fd) != 0)
        rv = errno;
    close(fd);
#else
    (void)path;
    sync();
#endif
    return rv;
}

static apr_status_t write_all(int fd, const char *data, apr_size_t len)
{
    ssize_t n;

    while (len > 0) {
        n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (apr_size_t)n;
    }
    return APR_SUCCESS;
}

apr_status_t md_file_write_new(int dir, const char *path, const md_file_attr_t *attr,
                               const char *data, apr_size_t len)
{
    apr_status_t rv;
    int fd;

    fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    rv = fchmod(fd, mode_of(attr->perms)) == 0 ? APR_SUCCESS : errno;
    if (rv == APR_SUCCESS && attr->owner && fchown(fd, *attr->owner, (gid_t)-1) != 0)
        rv = errno;
    if (rv == APR_SUCCESS)
        rv = write_all(fd, data, len);
    if (rv == APR_SUCCESS && !attr->is_volatile && fsync(fd) != 0)
        rv = errno;
    if (close(fd) != 0 && rv == APR_SUCCESS)
        rv = errno;
    if (rv != APR_SUCCESS)
        (void)unlinkat(dir, path, 0);
    return rv;
}

/* A new file of our own beside `path`, complete. The name is unique, so that writers never meet
 * (they may be on several machines), and what a crash leaves is in nobody's way. */
static apr_status_t write_beside(const char **ptmp, int dir, const char *path,
                                 const md_file_attr_t *attr, const char *data, apr_size_t len,
                                 apr_pool_t *p)
{
    apr_uint64_t unique;
    apr_status_t rv;

    rv = apr_generate_random_bytes((unsigned char *)&unique, sizeof(unique));
    if (rv != APR_SUCCESS)
        return rv;
    *ptmp = apr_psprintf(p, "%s.%" APR_UINT64_T_HEX_FMT ".tmp", path, unique);
    return md_file_write_new(dir, *ptmp, attr, data, len);
}

apr_status_t md_file_write(int dir, const char *path, const md_file_attr_t *attr,
                           const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *tmp;
    apr_status_t rv;

    rv = write_beside(&tmp, dir, path, attr, data, len, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (renameat(dir, tmp, dir, path) != 0) {
        rv = errno;
        (void)unlinkat(dir, tmp, 0);
        return rv;
    }
    return attr->is_volatile ? APR_SUCCESS : md_dir_sync(dir, directory_of(path, p));
}

apr_status_t md_file_create(int dir, const char *path, const md_file_attr_t *attr,
                            const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *tmp;
    apr_status_t rv;

    rv = write_beside(&tmp, dir, path, attr, data, len, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (linkat(dir, tmp, dir, path, 0) != 0)
        rv = errno;
    (void)unlinkat(dir, tmp, 0);
    return rv == APR_SUCCESS ? md_dir_sync(dir, directory_of(path, p)) : rv;
}

static apr_status_t read_all(char **pdata, apr_size_t *plen, int fd, apr_size_t max,
                             apr_pool_t *p)
{
    struct stat st;
    apr_size_t len = 0, size;
    ssize_t n = 1;
    char *data;

    if (fstat(fd, &st) != 0)
        return errno;
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (apr_uint64_t)st.st_size > max)
        return APR_EINVAL;
    size = (apr_size_t)st.st_size;
    data = apr_palloc(p, size + 1);
    while (len < size && n > 0) {
        n = read(fd, data + len, size - len);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0)
            return errno;
        len += (apr_size_t)n;
    }
    data[len] = '\0';
    *pdata = data;
    *plen = len;
    return APR_SUCCESS;
}

static apr_status_t read_file(char **pdata, apr_size_t *plen, int dir, const char *path,
                              int flags, apr_size_t max, apr_pool_t *p)
{
    int fd = openat(dir, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
    apr_status_t rv;

    *pdata = NULL;
    *plen = 0;
    if (fd < 0)
        return errno == ELOOP ? APR_EINVAL : errno;
    rv = read_all(pdata, plen, fd, max, p);
    close(fd);
    return rv;
}

apr_status_t md_file_read(char **pdata, apr_size_t *plen, int dir, const char *path,
                          apr_size_t max, apr_pool_t *p)
{
    return read_file(pdata, plen, dir, path, O_NOFOLLOW, max, p);
}

apr_status_t md_file_read_linked(char **pdata, apr_size_t *plen, const char *path, apr_size_t max,
                                 apr_pool_t *p)
{
    return read_file(pdata, plen, AT_FDCWD, path, 0, max, p);
}

const char *md_file_why(int dir, const char *path, apr_status_t rv, apr_size_t max,
                        apr_pool_t *p)
{
    struct stat st;

    if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return md_err_text(rv, p);
    if (S_ISLNK(st.st_mode))
        return "it is a symbolic link";
    if (S_ISDIR(st.st_mode))
        return "it is a directory";
    if (!S_ISREG(st.st_mode))
        return "it is not a regular file";
    if ((apr_uint64_t)st.st_size > max)
        return apr_psprintf(p, "it has %" APR_OFF_T_FMT " bytes, more than the maximum of %"
                            APR_SIZE_T_FMT, (apr_off_t)st.st_size, max);
    return md_err_text(rv, p);
}

/* ---- directories ---- */

static apr_status_t make_parents(const char *path, apr_fileperms_t perms, apr_pool_t *p)
{
    char *copy = apr_pstrdup(p, path), *slash;

    for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0700) == 0 ? chmod(copy, mode_of(perms)) != 0 : errno != EEXIST)
            return errno;
        *slash = '/';
    }
    return APR_SUCCESS;
}

apr_status_t md_dir_make(const char *path, apr_fileperms_t perms, int *pcreated, apr_pool_t *p)
{
    int created = mkdir(path, 0700) == 0;
    apr_status_t rv = APR_SUCCESS;
    struct stat st;

    if (!created && errno == ENOENT) {
        rv = make_parents(path, perms, p);
        if (rv != APR_SUCCESS)
            return rv;
        created = mkdir(path, 0700) == 0;
    }
    if (!created && errno != EEXIST)
        return errno;
    if (pcreated)
        *pcreated = created;
    if (!created && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)))
        return APR_ENOTDIR;
    if (created && chmod(path, mode_of(perms)) != 0)
        rv = errno;
    return rv;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int is_directory(int dir_fd, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type == DT_DIR)
        return 1;
    if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN)
        return 0;
    return fstatat(dir_fd, entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

apr_status_t md_dir_list(apr_array_header_t **pnames, int dir, const char *path, int dirs_only,
                         int max, apr_pool_t *p)
{
    apr_array_header_t *names = apr_array_make(p, 20, sizeof(const char *));
    int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd >= 0 ? fdopendir(fd) : NULL;
    apr_status_t rv = errno;
    struct dirent *entry;

    if (!stream) {
        if (fd >= 0)
            close(fd);
        return rv;
    }
    while ((!max || names->nelts < max) && (entry = readdir(stream)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (!dirs_only || is_directory(fd, entry))
            APR_ARRAY_PUSH(names, const char *) = apr_pstrdup(p, entry->d_name);
    }
    closedir(stream);
    qsort(names->elts, (size_t)names->nelts, sizeof(const char *), by_name);
    *pnames = names;
    return APR_SUCCESS;
}

/* What removing a tree may still take. */
typedef struct allowance_t {
    int depth, files;
} allowance_t;

static apr_status_t remove_tree(int dir, const char *path, allowance_t *left);

static apr_status_t remove_content(int fd, allowance_t *left)
{
    apr_status_t rv = APR_SUCCESS;
    struct dirent *entry;
    DIR *dir = fdopendir(fd);

    if (!dir) {
        rv = errno;
        close(fd);
        return rv;
    }
    while (rv == APR_SUCCESS && (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            rv = left->files-- > 0 ? remove_tree(fd, entry->d_name, left) : ENOTEMPTY;
    closedir(dir);
    return rv;
}

static apr_status_t remove_tree(int dir, const char *path, allowance_t *left)
{
    apr_status_t rv;
    int fd;

    if (unlinkat(dir, path, 0) == 0 || errno == ENOENT)
        return APR_SUCCESS;
    rv = errno; /* EISDIR on Linux, EPERM elsewhere, for a directory */
    if (left->depth == 0)
        return unlinkat(dir, path, AT_REMOVEDIR) == 0 ? APR_SUCCESS : errno;
    fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return rv;
    --left->depth;
    rv = remove_content(fd, left);
    ++left->depth;
    if (rv != APR_SUCCESS)
        return rv;
    return unlinkat(dir, path, AT_REMOVEDIR) == 0 || errno == ENOENT ? APR_SUCCESS : errno;
}

apr_status_t md_dir_remove(int dir, const char *path)
{
    allowance_t left = { .depth = MD_MAX_TREE_DEPTH, .files = MD_MAX_TREE_FILES };

    return remove_tree(dir, path, &left);
}
