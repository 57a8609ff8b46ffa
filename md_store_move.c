/* SPDX-License-Identifier: Apache-2.0 */
/* What moves in a store: names, archive, activation; and what a crash left. */
#include "md_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "md_limits.h"
#include "md_log.h"
#include "md_store_place.h"
#include "md_text.h"

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
           ? apr_time_from_sec(st.st_mtim.tv_sec) + st.st_mtim.tv_nsec / 1000 : 0;
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

/* ---- pruning ---- */

/* An archived set. */
typedef struct slot_t {
    const char *slot; /* <name>.<n> */
    int n;
    apr_time_t since;
} slot_t;

/* The newest first. */
static int by_age(const void *a, const void *b)
{
    const slot_t *one = a, *other = b;

    if (one->since != other->since)
        return one->since > other->since ? -1 : 1;
    return one->n > other->n ? -1 : one->n < other->n;
}

/* Note the slot with the others of its name, if that is one of the table. */
static void note_slot(apr_hash_t *slots, const md_store_t *store, const char *slot, apr_pool_t *p)
{
    const char *dot = strrchr(slot, '.');
    apr_array_header_t *list = NULL;
    char *end;
    long n;

    if (dot)
        list = apr_hash_get(slots, slot, dot - slot);
    if (!list)
        return;
    n = strtol(dot + 1, &end, 10);
    if (n >= 1 && n <= MD_MAX_ARCHIVE && !*end)
        APR_ARRAY_PUSH(list, slot_t) = (slot_t){ slot, (int)n, archived_at(store, slot, p) };
}

static void remove_oldest(const md_store_t *store, apr_array_header_t *list, int keep,
                          apr_pool_t *p)
{
    int i;

    qsort(list->elts, (size_t)list->nelts, sizeof(slot_t), by_age);
    for (i = keep; i < list->nelts; ++i)
        md_store_remove(store, MD_STORE_ARCHIVE, APR_ARRAY_IDX(list, i, slot_t).slot, NULL, p);
}

void md_store_prune(const md_store_t *store, const apr_array_header_t *names, int keep,
                    apr_pool_t *p)
{
    apr_array_header_t *archived = md_store_names(store, MD_STORE_ARCHIVE, p), *list;
    apr_hash_t *slots = apr_hash_make(p);
    const char *name;
    int i;

    for (i = 0; i < names->nelts; ++i)
        apr_hash_set(slots, APR_ARRAY_IDX(names, i, const char *), APR_HASH_KEY_STRING,
                     apr_array_make(p, 4, sizeof(slot_t)));
    for (i = 0; i < archived->nelts; ++i)
        note_slot(slots, store, APR_ARRAY_IDX(archived, i, const char *), p);
    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        list = apr_hash_get(slots, name, APR_HASH_KEY_STRING);
        remove_oldest(store, list, keep, p);
    }
}

static apr_status_t into_domains(const md_store_t *store, const char *name, md_err_t *err,
                                 apr_pool_t *p)
{
    return move(md_store_path(store, MD_STORE_TMP, name, NULL, p),
                md_store_path(store, MD_STORE_DOMAINS, name, NULL, p), err);
}

/* ---- activation ---- */

apr_status_t md_store_sync(const md_store_t *store, md_err_t *err, apr_pool_t *p)
{
    apr_status_t rv = md_file_sync_all(md_store_path(store, MD_STORE_TMP, NULL, NULL, p));

    return rv == APR_SUCCESS ? rv : md_fail_system(err, rv, "cannot write the store %s to disk",
                                                   store->base);
}

/* An empty directory in tmp, open; -1 with errno. */
static int make_empty(const md_store_t *store, const char *name, apr_pool_t *p)
{
    const char *path = md_store_path(store, MD_STORE_TMP, name, NULL, p);

    if (mkdir(path, 0700) != 0) {
        md_store_remove(store, MD_STORE_TMP, name, NULL, p);
        if (md_place_make_group(store, MD_STORE_TMP, 0, NULL, p) != APR_SUCCESS
            || mkdir(path, 0700) != 0)
            return -1;
    }
    return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The last one is renamed into its place. */
static apr_status_t write_files(const md_store_t *store, int dir, const apr_array_header_t *files,
                                apr_pool_t *p)
{
    md_file_attr_t attr = md_place_attr(store, MD_STORE_TMP);
    apr_status_t rv = APR_SUCCESS;
    const md_store_file_t *file;
    apr_size_t len;
    int i;

    for (i = 0; i < files->nelts && rv == APR_SUCCESS; ++i) {
        file = &APR_ARRAY_IDX(files, i, md_store_file_t);
        len = strlen(file->text);
        if (len > MD_MAX_FILE) /* nobody could read it */
            return APR_EINVAL;
        rv = i + 1 < files->nelts
             ? md_file_write_new(dir, file->file, &attr, file->text, len)
             : md_file_write(dir, file->file, &attr, file->text, len, p);
    }
    return rv;
}

apr_status_t md_store_make_set(const md_store_t *store, const char *name,
                               const apr_array_header_t *files, md_err_t *err, apr_pool_t *p)
{
    const char *path = md_store_path(store, MD_STORE_TMP, name, NULL, p);
    apr_status_t rv = md_place_check(name, NULL, err);
    int dir;

    if (rv == APR_SUCCESS)
        rv = md_place_check_move(store, err);
    if (rv != APR_SUCCESS)
        return rv;
    dir = make_empty(store, name, p);
    if (dir < 0)
        return md_fail_system(err, errno, "cannot create directory %s", path);
    rv = write_files(store, dir, files, p);
    close(dir);
    return rv == APR_SUCCESS ? rv : md_fail_system(err, rv, "cannot write to %s", path);
}

/* Two directories that have changed places look alike. The number of its inode is a part of the
 * name of the new one while they do, so that it is known from the old one after a crash. */
#define NUMBER_MARK '@'

static apr_uint64_t inode_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? (apr_uint64_t)st.st_ino : 0;
}

static int exchange(const char *a, const char *b)
{
#ifdef RENAME_EXCHANGE
    return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
#else
    (void)a;
    (void)b;
    errno = ENOSYS;
    return -1;
#endif
}

/* In one step. APR_ENOTIMPL where that is not possible. */
static apr_status_t swap(const char *live, const char *made, const char *archived, md_err_t *err,
                         apr_pool_t *p)
{
    const char *work = apr_psprintf(p, "%s%c%" APR_UINT64_T_FMT, made, NUMBER_MARK,
                                    inode_of(made));
    apr_status_t rv;

    if (rename(made, work) != 0)
        return errno == ENAMETOOLONG ? APR_ENOTIMPL
                                     : md_fail_system(err, errno, "cannot move %s", made);
    if (exchange(work, live) != 0) {
        rv = errno == EINVAL || errno == ENOSYS || errno == ENOTSUP
             ? APR_ENOTIMPL : md_fail_system(err, errno, "cannot move %s to %s", work, live);
        (void)rename(work, made);
        return rv;
    }
    rv = move(work, archived, err);
    if (rv != APR_SUCCESS && exchange(work, live) == 0)
        (void)rename(work, made);
    return rv;
}

static apr_status_t swap_in_steps(const char *live, const char *made, const char *archived,
                                  md_err_t *err)
{
    apr_status_t rv = move(live, archived, err);

    if (rv != APR_SUCCESS)
        return rv;
    rv = move(made, live, err);
    if (rv != APR_SUCCESS)
        (void)move(archived, live, NULL);
    return rv;
}

apr_status_t md_store_activate(const md_store_t *store, const char *name, md_err_t *err,
                               apr_pool_t *p)
{
    const char *live = md_store_path(store, MD_STORE_DOMAINS, name, NULL, p), *archived;
    const char *made = md_store_path(store, MD_STORE_TMP, name, NULL, p);
    apr_status_t rv = md_place_check_move(store, err);

    if (rv == APR_SUCCESS)
        rv = md_place_make_group(store, MD_STORE_DOMAINS, 0, err, p);
    if (rv == APR_SUCCESS)
        rv = md_place_make_group(store, MD_STORE_ARCHIVE, 0, err, p);
    if (rv != APR_SUCCESS)
        return rv;
    if (!md_store_exists(store, MD_STORE_DOMAINS, name, NULL, p))
        return into_domains(store, name, err, p);
    archived = md_store_path(store, MD_STORE_ARCHIVE, archive_slot(store, name, p), NULL, p);
    rv = swap(live, made, archived, err, p);
    return rv == APR_ENOTIMPL ? swap_in_steps(live, made, archived, err) : rv;
}

/* job.json is written last, so a directory with it is complete; older versions leave one alone. */
static int is_complete(const md_store_t *store, const char *name, apr_pool_t *p)
{
    return md_store_exists(store, MD_STORE_TMP, name, "job.json", p)
           && md_store_exists(store, MD_STORE_TMP, name, "md.json", p);
}

static void recover_new(const md_store_t *store, const char *name, apr_pool_t *p)
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

/* One that was to change places with a live set, or has done so and is the old one now. */
static void recover_work(const md_store_t *store, const char *work, const char *mark,
                         apr_pool_t *p)
{
    const char *path = md_store_path(store, MD_STORE_TMP, work, NULL, p), *archived;
    const char *name = apr_pstrmemdup(p, work, (apr_size_t)(mark - work));
    md_err_t err;

    md_err_init(&err, p);
    if (apr_strtoi64(mark + 1, NULL, 10) == (apr_int64_t)inode_of(path))
        md_store_remove(store, MD_STORE_TMP, work, NULL, p); /* what it was made of is staged */
    else if (md_place_make_group(store, MD_STORE_ARCHIVE, 0, &err, p) != APR_SUCCESS
             || move(path, archived = md_store_path(store, MD_STORE_ARCHIVE,
                                                    archive_slot(store, name, p), NULL, p), &err)
                    != APR_SUCCESS)
        md_log(MD_LOG_ERR, "md[%s]: the set that was in service before cannot be moved to the "
               "archive: %s. The next start will try again", name, err.detail);
}

void md_store_recover(const md_store_t *store, apr_pool_t *p)
{
    apr_array_header_t *names = md_store_names(store, MD_STORE_TMP, p);
    const char *name, *mark;
    int i;

    for (i = 0; !store->is_in_danger && i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        mark = strrchr(name, NUMBER_MARK);
        if (mark)
            recover_work(store, name, mark, p);
        else
            recover_new(store, name, p);
    }
}

/* ---- what a crash leaves ---- */

static int is_older(int dir, const char *file, apr_time_t before)
{
    struct stat st;

    return fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)
           && apr_time_from_sec(st.st_mtime) < before;
}

static void remove_if_stale(int dir, const char *file, apr_time_t before)
{
    if (md_place_is_unfinished(file) && is_older(dir, file, before))
        (void)unlinkat(dir, file, 0);
}

static void sweep(const md_place_t *place, apr_time_t before, apr_pool_t *p)
{
    int dir = openat(place->dir, place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), i;
    apr_array_header_t *files;

    if (dir < 0)
        return;
    if (md_dir_list(&files, dir, ".", 0, MD_MAX_DIR_FILES, p) == APR_SUCCESS)
        for (i = 0; i < files->nelts; ++i)
            remove_if_stale(dir, APR_ARRAY_IDX(files, i, const char *), before);
    close(dir);
}

void md_store_sweep(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_time_t now, apr_pool_t *p)
{
    md_place_t place = { .dir = AT_FDCWD, .path = store->base };

    if (!name)
        sweep(&place, now - STALE_AFTER, p);
    else if (md_place_enter(&place, store, group, name, ".", p) == APR_SUCCESS) {
        sweep(&place, now - STALE_AFTER, p);
        md_place_leave(&place);
    }
}

/* Returns how many are left. */
static int remove_old(int dir, const apr_array_header_t *files, const char *prefix,
                      apr_time_t before)
{
    const char *file;
    int i, left = 0;

    for (i = 0; i < files->nelts; ++i) {
        file = APR_ARRAY_IDX(files, i, const char *);
        if (!strncmp(file, prefix, strlen(prefix))
            && !(is_older(dir, file, before) && unlinkat(dir, file, 0) == 0))
            ++left;
    }
    return left;
}

int md_store_remove_old(const md_store_t *store, md_store_group_t group, const char *name,
                        const char *prefix, apr_time_t before, apr_pool_t *p)
{
    apr_array_header_t *files;
    md_place_t place;
    int dir, left = 0;

    if (!md_path_part_is_safe(name)
        || md_place_enter(&place, store, group, name, ".", p) != APR_SUCCESS)
        return 0;
    dir = openat(place.dir, place.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0 && md_dir_list(&files, dir, ".", 0, MD_MAX_SHARED_NAMES, p) == APR_SUCCESS)
        left = remove_old(dir, files, prefix, before);
    if (dir >= 0)
        close(dir);
    md_place_leave(&place);
    return left;
}

/* ---- files that children cannot read ---- */

/* A document, or a key that is encrypted: nothing that root alone should know. */
static int is_for_children(const char *text, apr_size_t len, apr_pool_t *p)
{
    static const char SEALED[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    md_json_t *json;

    if (strlen(text) != len)
        return 0;
    if (!strncmp(text, SEALED, strlen(SEALED)))
        return !strstr(text + 1, "-----BEGIN ");
    return !strstr(text, "PRIVATE KEY-----")
           && md_json_parse(&json, text, len, NULL, p) == APR_SUCCESS && md_json_is_object(json);
}

static int is_own_dir(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid()
           && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* Of root, in a directory where nobody else could have put it. */
static int open_own(const md_place_t *place, apr_pool_t *p)
{
    int fd = openat(place->dir, place->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    apr_size_t len;
    char *text;
    int changed = 0;

    if (fd < 0)
        return 0;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid == geteuid()
        && !(st.st_mode & (S_IRGRP | S_IROTH))
        && md_file_read(&text, &len, place->dir, place->path, MD_MAX_FILE, p) == APR_SUCCESS
        && is_for_children(text, len, p))
        changed = fchmod(fd, 0644) == 0;
    close(fd);
    return changed;
}

/* Their own, as they could do it themselves. */
static int open_theirs(const md_store_t *store, const md_place_t *place)
{
    struct stat st;

    return fstatat(place->dir, place->path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)
           && st.st_uid == store->owner && !(st.st_mode & S_IRUSR)
           && fchmodat(place->dir, place->path, st.st_mode | S_IRUSR, 0) == 0;
}

int md_store_open_to_children(const md_store_t *store, md_store_group_t group, const char *name,
                              const char *file, apr_pool_t *p)
{
    md_place_t place;
    int changed = 0;

    if (!store->has_owner || !md_store_groups[group].is_open
        || md_place_enter(&place, store, group, name, file, p) != APR_SUCCESS)
        return 0;
    if (md_store_groups[group].is_shared)
        changed = open_theirs(store, &place);
    else if (is_own_dir(md_store_path(store, group, name, NULL, p)))
        changed = open_own(&place, p);
    md_place_leave(&place);
    return changed;
}
