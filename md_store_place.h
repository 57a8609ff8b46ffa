/* SPDX-License-Identifier: Apache-2.0 */
/* For the files of the store alone: places in its groups, their modes and owners, and how to get at
 * what is there. Children write to shared groups, and one that was taken over could put a link in
 * place of a directory there: root goes through none below such a group, and in a store that is in
 * danger through none at all. Where a system has rights of threads on files (Linux), root has those
 * of the children alone while it is in a place of theirs. */
#ifndef MD_STORE_PLACE_H
#define MD_STORE_PLACE_H

#include <apr_user.h>

#include "md_file.h"
#include "md_store_group.h"

#define MD_STORE_PASS_LEN 48

struct md_store_t {
    const char *base;
    unsigned char pass[MD_STORE_PASS_LEN]; /* encrypts private keys in shared groups */
    int has_owner;                         /* children are another user */
    apr_uid_t owner;
    int is_in_danger;                      /* md_store_danger: anything may be here */
};

#define P_OWNER (APR_FPROT_UREAD | APR_FPROT_UWRITE)
#define P_READ  (P_OWNER | APR_FPROT_GREAD | APR_FPROT_WREAD)
#define D_READ  (P_READ | APR_FPROT_UEXECUTE | APR_FPROT_GEXECUTE | APR_FPROT_WEXECUTE)

/* In the base: mod_md up to 2.6 ends a search for staged accounts at a file in `staging`. */
#define ENGINE_LOCK "engine.lock"

/* Files for the owner of the store alone; files of a group: what children share is theirs, also
 * when root writes it. */
extern const md_file_attr_t md_place_private;
md_file_attr_t md_place_attr(const md_store_t *store, md_store_group_t group);

/* A group, a name in it, a file of that name; `name` and `file` may be NULL. */
const char *md_place_path(const md_store_t *store, md_store_group_t group, const char *name,
                          const char *file, apr_pool_t *p);

/* A file in the base of the store. */
const char *md_place_in_base(const md_store_t *store, const char *file, apr_pool_t *p);

/* Names come from a configuration, a CA or a Host header: none may leave its directory. `file` may
 * be NULL. */
apr_status_t md_place_check(const char *name, const char *file, md_err_t *err);

/* May directories be moved and removed? Not in a store that is in danger. */
apr_status_t md_place_check_move(const md_store_t *store, md_err_t *err);

/* A file that is being written, or was when its writer crashed. */
int md_place_is_unfinished(const char *file);

/* The open directory `<group>/<name>`, -1 with errno. */
int md_place_open_dir(const md_store_t *store, md_store_group_t group, const char *name,
                      apr_pool_t *p);

#define NO_RIGHTS ((uid_t)-1)

/* Where a file is: `path` in the open directory `dir`, or a plain path (AT_FDCWD). */
typedef struct md_place_t {
    int dir;
    const char *path;
    uid_t rights;      /* to take back, or NO_RIGHTS */
} md_place_t;

/* Every successful enter is followed by a leave. APR_ENOENT when there is no such directory. */
apr_status_t md_place_enter(md_place_t *place, const md_store_t *store, md_store_group_t group,
                            const char *name, const char *file, apr_pool_t *p);
void md_place_leave(const md_place_t *place);

/* The same for the directory of a group: `path` is what is called `name` in it. */
apr_status_t md_place_enter_group(md_place_t *place, const md_store_t *store,
                                  md_store_group_t group, const char *name, apr_pool_t *p);

/* Rename what is in a place, in its directory; *pname is the new name. */
apr_status_t md_place_put_aside(const char **pname, const md_place_t *place, apr_pool_t *p);

/* Make the directory of a group (`is_given`: and give it to its owner, new or not); and that of a
 * name in it. */
apr_status_t md_place_make_group(const md_store_t *store, md_store_group_t group, int is_given,
                                 md_err_t *err, apr_pool_t *p);
apr_status_t md_place_make_dirs(const md_store_t *store, md_store_group_t group,
                                const char *name, md_err_t *err, apr_pool_t *p);

/* Let all that is in a shared group belong to the owner of the store. */
void md_place_adopt_all(const md_store_t *store, md_store_group_t group, apr_pool_t *p);

/* A file in the base to be locked, made if it is missing; `is_shared`: by children, too. -1 with
 * errno. */
int md_place_open_lock(const md_store_t *store, const char *file, mode_t mode, int is_shared,
                       apr_pool_t *p);

#endif
