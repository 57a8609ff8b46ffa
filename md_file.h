/* SPDX-License-Identifier: Apache-2.0 */
/* Files: whole ones, bounded, never changed in place. A `path` is relative to the open directory
 * `dir`, or to the current one if that is AT_FDCWD. */
#ifndef MD_FILE_H
#define MD_FILE_H

#include <fcntl.h>
#include <sys/types.h>
#include <time.h>

#include <apr_file_io.h>
#include <apr_user.h>

#include "md_err.h"

/* What a new file is to be like. */
typedef struct md_file_attr_t {
    apr_fileperms_t perms;   /* whatever the umask */
    const apr_uid_t *owner;  /* NULL: who writes it */
    int is_volatile;         /* its content can be made again: no fsync */
} md_file_attr_t;

/* Replace or create `path`: O_EXCL temporary file beside it (unique name), owner, mode, write,
 * fsync, rename, fsync of the directory. On failure the old content stands and the temporary file
 * is gone. */
MD_MUST_CHECK
apr_status_t md_file_write(int dir, const char *path, const md_file_attr_t *attr,
                           const char *data, apr_size_t len, apr_pool_t *p);

/* Write a file that is not there (APR_EEXIST), in place: for directories that nobody looks into
 * until they are complete. */
MD_MUST_CHECK
apr_status_t md_file_write_new(int dir, const char *path, const md_file_attr_t *attr,
                               const char *data, apr_size_t len);

/* As md_file_write, but APR_EEXIST when `path` is there already (by link(2)). */
MD_MUST_CHECK
apr_status_t md_file_create(int dir, const char *path, const md_file_attr_t *attr,
                            const char *data, apr_size_t len, apr_pool_t *p);

/* All of a regular file of at most `max` bytes; NUL-terminated behind it, in `p`. No symbolic
 * link is followed in the last component, nothing but a regular file is opened (no blocking on a
 * FIFO). APR_ENOENT when there is none; APR_EINVAL when it is larger or no regular file. */
MD_MUST_CHECK
apr_status_t md_file_read(char **pdata, apr_size_t *plen, int dir, const char *path,
                          apr_size_t max, apr_pool_t *p);

/* The same for a path from the current directory, but a symbolic link is followed. Not for places
 * that children write to. */
MD_MUST_CHECK
apr_status_t md_file_read_linked(char **pdata, apr_size_t *plen, const char *path, apr_size_t max,
                                 apr_pool_t *p);

/* Why md_file_read said `rv`: "it is a directory", "it has 300 bytes, ...", in `p`. */
const char *md_file_why(int dir, const char *path, apr_status_t rv, apr_size_t max,
                        apr_pool_t *p);

/* Create a directory, its path from the current one, and the parents that are missing. What is made
 * has `perms`, whatever the umask; *pcreated (may be NULL) tells whether the directory itself was.
 * APR_ENOTDIR when something else is there. */
MD_MUST_CHECK
apr_status_t md_dir_make(const char *path, apr_fileperms_t perms, int *pcreated, apr_pool_t *p);

/* Names of the entries of a directory except "." and "..", in order of name, of the first `max`
 * that are found (0: of all); only directories (links to directories included) when `dirs_only`.
 * APR_ENOENT when there is none. */
MD_MUST_CHECK
apr_status_t md_dir_list(apr_array_header_t **pnames, int dir, const char *path, int dirs_only,
                         int max, apr_pool_t *p);

/* Remove whatever `path` is, a directory with what is in it. Children write to some of the
 * directories that root removes: no link is followed, even one that appears while this works, and
 * who nests directories deeper than MD_MAX_TREE_DEPTH or has more than MD_MAX_TREE_FILES in them
 * keeps nobody busy: ENOTEMPTY, and the rest stays. Missing is success. */
apr_status_t md_dir_remove(int dir, const char *path);

/* All that was written to the file system of `path` is on disk: one call for many files. */
apr_status_t md_file_sync_all(const char *path);

/* Which file a path leads to, and which content of it: any change gives another version, as long as
 * the times of the file system tell one from the next. */
typedef struct md_file_version_t {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified, changed;
} md_file_version_t;

/* Links are followed. */
apr_status_t md_file_version(md_file_version_t *version, const char *path);
int md_file_version_same(const md_file_version_t *a, const md_file_version_t *b);

/* fsync a directory, so that a rename in it survives a crash. */
apr_status_t md_dir_sync(int dir, const char *path);

#endif
