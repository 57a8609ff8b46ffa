/* SPDX-License-Identifier: Apache-2.0 */
/* What moves in a store: names, archive, activation; and what a crash left. */
#include "md_store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_strings.h>

#include "md_limits.h"
#include "md_log.h"
#include "md_store_place.h"

#define STALE_AFTER apr_time_from_sec(3600) /* nobody writes a file for so long */

/* ---- names and sets ---- */

apr_status_t md_store_rename(const md_store_t *store, md_store_group_t group, const char *from,
                             const char *to, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv;

    rv = md_place_check(from, to, err);
    if (rv == APR_SUCCESS)
        rv = md_place_check_move(store, err);
    if (rv != APR_SUCCESS)
        return rv;
    if (rename(md_store_path(store, group, from, NULL, p),
               md_store_path(store, group, to, NULL, p)) != 0)
        return md_fail_system(err, errno, "cannot rename %s/%s to %s",
                              md_store_groups[group].name, from, to);
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
        return md_fail_system(err, errno, "cannot move %s to %s", from, to);
    return APR_SUCCESS;
}

apr_status_t md_store_archive(const char **parchived, const md_store_t *store,
                              md_store_group_t group, const char *name, md_err_t *err,
                              apr_pool_t *p)
{
    apr_status_t rv = md_place_check_move(store, err);

    if (rv == APR_SUCCESS)
        rv = md_place_make_group(store, MD_STORE_ARCHIVE, 0, err, p);
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
    apr_status_t rv = md_place_check_move(store, err);

    if (rv == APR_SUCCESS)
        rv = md_place_make_group(store, MD_STORE_DOMAINS, 0, err, p);
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
    if (md_place_make_group(store, MD_STORE_DOMAINS, 0, &err, p) == APR_SUCCESS
        && into_domains(store, name, &err, p) == APR_SUCCESS)
        md_log(MD_LOG_NOTICE, "md[%s]: completed an activation that was interrupted",
               name);
    else
        md_log(MD_LOG_ERR, "md[%s]: cannot complete an activation that was interrupted: %s",
               name, err.detail);
}

void md_store_recover(const md_store_t *store, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(store, MD_STORE_TMP, p);
    int i;

    for (i = 0; !store->is_in_danger && i < names->nelts; ++i)
        recover(store, APR_ARRAY_IDX(names, i, const char *), p);
}

/* ---- what a crash leaves ---- */

static void remove_if_stale(int dir, const char *file, apr_time_t before)
{
    struct stat st;

    if (md_place_is_unfinished(file) && fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0
        && S_ISREG(st.st_mode) && apr_time_from_sec(st.st_mtime) < before)
        (void)unlinkat(dir, file, 0);
}

void md_store_sweep(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_time_t now, apr_pool_t *p)
{
    int dir = name ? md_place_open_dir(store, group, name, p)
                   : open(store->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC), i;
    apr_array_header_t *files;

    if (dir < 0)
        return;
    if (md_dir_list(&files, dir, ".", 0, MD_MAX_DIR_FILES, p) == APR_SUCCESS)
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
    dir = md_place_open_dir(store, group, name, p);
    if (dir < 0)
        return 0;
    fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    close(dir);
    if (fd < 0)
        return 0;
    changed = md_store_groups[group].is_open && is_locked_away(store, fd)
              && fchmod(fd, 0644) == 0;
    close(fd);
    return changed;
}
