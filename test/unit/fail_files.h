/* SPDX-License-Identifier: Apache-2.0 */
/* Takes the place of the C library's calls that change files, for one test program: the n-th fails,
 * or, as after a crash, that and all that follow. Include it once. */
#ifndef FAIL_FILES_H
#define FAIL_FILES_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    int is_armed;
    int at;          /* the call that fails, from 1 */
    int is_crash;    /* it and all that follow have no effect */
    int error;       /* errno of those that fail */
    int count;       /* calls so far */
    int is_about_reading; /* each open counts, not only what changes files */
    int is_hasty;    /* nothing has to survive a crash of the system */
    char synced[2000]; /* names of the files that were synced, a space before each */
} fail_files;

static void fail_files_arm(int at, int is_crash, int error)
{
    fail_files.at = at;
    fail_files.is_crash = is_crash;
    fail_files.error = error;
    fail_files.count = 0;
    fail_files.is_armed = 1;
}

/* A file is synced under the name NAME.UNIQUE.tmp. */
static void note_synced(int fd)
{
    char link[40], path[2000] = "";
    char *name, *dot;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    (void)!readlink(link, path, sizeof(path) - 1);
    dot = strstr(path, ".tmp");
    name = strrchr(path, '/');
    if (!dot || !name || strlen(fail_files.synced) + strlen(name) >= sizeof(fail_files.synced))
        return;
    while (*--dot != '.')
        ;
    *dot = '\0';
    *name = ' ';
    strcat(fail_files.synced, name);
}

/* Returns whether the call that was to fail came about. */
static int fail_files_disarm(void)
{
    fail_files.is_armed = 0;
    return fail_files.count >= fail_files.at;
}

static int fails(void)
{
    if (!fail_files.is_armed)
        return 0;
    ++fail_files.count;
    if (fail_files.count != fail_files.at
        && !(fail_files.is_crash && fail_files.count > fail_files.at))
        return 0;
    errno = fail_files.error;
    return 1;
}

static int real_openat(int dir, const char *path, int flags, mode_t mode)
{
    if ((fail_files.is_about_reading || flags & (O_CREAT | O_WRONLY | O_RDWR)) && fails())
        return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define MODE(flags, mode) \
    do { \
        va_list args; \
        va_start(args, flags); \
        mode = flags & O_CREAT ? va_arg(args, mode_t) : 0; \
        va_end(args); \
    } while (0)

int open(const char *path, int flags, ...)
{
    mode_t mode;

    MODE(flags, mode);
    return real_openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    mode_t mode;

    MODE(flags, mode);
    return real_openat(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    mode_t mode;

    MODE(flags, mode);
    return real_openat(dir, path, flags, mode);
}

/* Half of what is to be written is there when the disk is full. */
ssize_t write(int fd, const void *data, size_t len)
{
    if (fails()) {
        if (len > 1)
            (void)!syscall(SYS_write, fd, data, len / 2);
        errno = fail_files.error;
        return -1;
    }
    return syscall(SYS_write, fd, data, len);
}

int fsync(int fd)
{
    if (fails())
        return -1;
    note_synced(fd);
    return fail_files.is_hasty ? 0 : (int)syscall(SYS_fsync, fd);
}

int syncfs(int fd)
{
    return fails() ? -1 : (int)syscall(SYS_syncfs, fd);
}

int fchmod(int fd, mode_t mode)
{
    return fails() ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int chmod(const char *path, mode_t mode)
{
    return fails() ? -1 : (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode, 0);
}

int mkdir(const char *path, mode_t mode)
{
    return fails() ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    return fails() ? -1 : (int)syscall(SYS_mkdirat, dir, path, mode);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return fails() ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
    return fails() ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return fails() ? -1 : (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int fchown(int fd, uid_t owner, gid_t group)
{
    return fails() ? -1 : (int)syscall(SYS_fchown, fd, owner, group);
}

int rename(const char *from, const char *to)
{
    return fails() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int link(const char *from, const char *to)
{
    return fails() ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path)
{
    return fails() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int dir, const char *path, int flags)
{
    return fails() ? -1 : (int)syscall(SYS_unlinkat, dir, path, flags);
}

#endif
