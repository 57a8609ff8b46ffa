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

apr_status_t md_dir_sync(const char *path, apr_pool_t *p)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    apr_status_t rv = APR_SUCCESS;

    (void)p;
    if (fd < 0)
        return errno;
    if (fsync(fd) != 0)
        rv = errno;
    close(fd);
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

/* A new file of our own beside `path`, complete. The name is unique, so that writers never meet
 * (they may be on several machines), and what a crash leaves is in nobody's way. */
static apr_status_t write_beside(const char **ptmp, const char *path, const md_file_attr_t *attr,
                                 const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_uint64_t unique;
    apr_status_t rv;
    int fd;

    rv = apr_generate_random_bytes((unsigned char *)&unique, sizeof(unique));
    if (rv != APR_SUCCESS)
        return rv;
    *ptmp = apr_psprintf(p, "%s.%" APR_UINT64_T_HEX_FMT ".tmp", path, unique);
    fd = open(*ptmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
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
        (void)unlink(*ptmp);
    return rv;
}

apr_status_t md_file_write(const char *path, const md_file_attr_t *attr, const char *data,
                           apr_size_t len, apr_pool_t *p)
{
    const char *tmp;
    apr_status_t rv;

    rv = write_beside(&tmp, path, attr, data, len, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (rename(tmp, path) != 0) {
        rv = errno;
        (void)unlink(tmp);
        return rv;
    }
    return attr->is_volatile ? APR_SUCCESS : md_dir_sync(directory_of(path, p), p);
}

apr_status_t md_file_create(const char *path, const md_file_attr_t *attr, const char *data,
                            apr_size_t len, apr_pool_t *p)
{
    const char *tmp;
    apr_status_t rv;

    rv = write_beside(&tmp, path, attr, data, len, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (link(tmp, path) != 0)
        rv = errno;
    (void)unlink(tmp);
    return rv == APR_SUCCESS ? md_dir_sync(directory_of(path, p), p) : rv;
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

static apr_status_t read_file(char **pdata, apr_size_t *plen, const char *path, int flags,
                              apr_size_t max, apr_pool_t *p)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
    apr_status_t rv;

    *pdata = NULL;
    *plen = 0;
    if (fd < 0)
        return errno == ELOOP ? APR_EINVAL : errno;
    rv = read_all(pdata, plen, fd, max, p);
    close(fd);
    return rv;
}

apr_status_t md_file_read(char **pdata, apr_size_t *plen, const char *path, apr_size_t max,
                          apr_pool_t *p)
{
    return read_file(pdata, plen, path, O_NOFOLLOW, max, p);
}

apr_status_t md_file_read_linked(char **pdata, apr_size_t *plen, const char *path, apr_size_t max,
                                 apr_pool_t *p)
{
    return read_file(pdata, plen, path, 0, max, p);
}

const char *md_file_why(const char *path, apr_status_t rv, apr_size_t max, apr_pool_t *p)
{
    struct stat st;

    if (lstat(path, &st) != 0)
        return md_err_text(rv, p);
    if (S_ISLNK(st.st_mode))
        return "it is a symbolic link";
    if (S_ISDIR(st.st_mode))
        return "it is a directory";
    if (!S_ISREG(st.st_mode))
        return "it is no regular file";
    if ((apr_uint64_t)st.st_size > max)
        return apr_psprintf(p, "it has %" APR_OFF_T_FMT " bytes, more than the %" APR_SIZE_T_FMT
                            " that are read", (apr_off_t)st.st_size, max);
    return md_err_text(rv, p);
}

/* ---- directories ---- */

static apr_status_t make_parents(const char *path, apr_pool_t *p)
{
    char *copy = apr_pstrdup(p, path), *slash;

    for (slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            return errno;
        *slash = '/';
    }
    return APR_SUCCESS;
}

apr_status_t md_dir_make(const char *path, apr_fileperms_t perms, int force, int *pcreated,
                         apr_pool_t *p)
{
    int created = mkdir(path, 0700) == 0;
    apr_status_t rv = APR_SUCCESS;
    struct stat st;

    if (!created && errno == ENOENT) {
        rv = make_parents(path, p);
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
    if ((created || force) && chmod(path, mode_of(perms)) != 0)
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

apr_status_t md_dir_list(apr_array_header_t **pnames, const char *path, int dirs_only,
                         apr_pool_t *p)
{
    apr_array_header_t *names = apr_array_make(p, 20, sizeof(const char *));
    DIR *dir = opendir(path);
    struct dirent *entry;

    if (!dir)
        return errno;
    while ((entry = readdir(dir)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (!dirs_only || is_directory(dirfd(dir), entry))
            APR_ARRAY_PUSH(names, const char *) = apr_pstrdup(p, entry->d_name);
    }
    closedir(dir);
    qsort(names->elts, (size_t)names->nelts, sizeof(const char *), by_name);
    *pnames = names;
    return APR_SUCCESS;
}

static apr_status_t remove_at(int parent, const char *name);

static apr_status_t remove_content(int fd)
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
            rv = remove_at(fd, entry->d_name);
    closedir(dir);
    return rv;
}

static apr_status_t remove_at(int parent, const char *name)
{
    apr_status_t rv;
    int fd;

    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return APR_SUCCESS;
    rv = errno; /* EISDIR on Linux, EPERM elsewhere, for a directory */
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return rv;
    rv = remove_content(fd);
    if (rv != APR_SUCCESS)
        return rv;
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? APR_SUCCESS : errno;
}

apr_status_t md_dir_remove(const char *path, apr_pool_t *p)
{
    (void)p;
    return remove_at(AT_FDCWD, path);
}
