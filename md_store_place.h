/* SPDX-License-Identifier: Apache-2.0 */
/* For the files of the store alone: its groups, their modes and owners, and how to get at what is
 * in them. Children write to shared groups, and one that was taken over could put a link in place
 * of a directory there: root goes through none below such a group. */
#ifndef MD_STORE_PLACE_H
#define MD_STORE_PLACE_H

#include "md_file.h"
#include "md_store.h"

#define MD_STORE_PASS_LEN 48

struct md_store_t {
    const char *base;
    unsigned char pass[MD_STORE_PASS_LEN]; /* encrypts private keys in shared groups */
    int has_owner;                         /* children are another user */
    apr_uid_t owner;
};

#define P_OWNER (APR_FPROT_UREAD | APR_FPROT_UWRITE)
#define P_READ  (P_OWNER | APR_FPROT_GREAD | APR_FPROT_WREAD)
#define D_OWNER (APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE)
#define D_READ  (D_OWNER | APR_FPROT_GREAD | APR_FPROT_GEXECUTE | APR_FPROT_WREAD \
                 | APR_FPROT_WEXECUTE)

/* In the base: mod_md up to 2.6 ends a search for staged accounts at a file in `staging`. */
#define ENGINE_LOCK "engine.lock"

typedef struct md_group_t {
    const char *name;
    apr_fileperms_t dir, file;
    int encrypts;  /* private keys */
    int is_shared; /* with children: they write here */
} md_group_t;

extern const md_group_t md_store_groups[MD_STORE_GROUP_MAX];

/* Files for the owner of the store alone; files of a group: what children share is theirs, also
 * when root writes it. */
extern const md_file_attr_t md_place_private;
md_file_attr_t md_place_attr(const md_store_t *store, md_store_group_t group);

/* A file in the base of the store. */
const char *md_place_in_base(const md_store_t *store, const char *file, apr_pool_t *p);

/* Names come from a configuration, a CA or a Host header: none may leave its directory. `file` may
 * be NULL. */
apr_status_t md_place_check(const char *name, const char *file, md_err_t *err);

/* A file that is being written, or was when its writer crashed. */
int md_place_is_unfinished(const char *file);

/* The open directory `<group>/<name>`, -1 with errno. */
int md_place_open_dir(const md_store_t *store, md_store_group_t group, const char *name,
                      apr_pool_t *p);

/* Where a file is: `path` in the open directory `dir`, or a plain path (AT_FDCWD). */
typedef struct md_place_t {
    int dir;
    const char *path;
} md_place_t;

/* Every successful enter is followed by a leave. APR_ENOENT when there is no such directory. */
apr_status_t md_place_enter(md_place_t *place, const md_store_t *store, md_store_group_t group,
                            const char *name, const char *file, apr_pool_t *p);
void md_place_leave(const md_place_t *place);

/* Make the directory of a group (`is_given`: and give it to its owner, new or not); and that of a
 * name in it. */
apr_status_t md_place_make_group(const md_store_t *store, md_store_group_t group, int is_given,
                                 md_err_t *err, apr_pool_t *p);
apr_status_t md_place_make_dirs(const md_store_t *store, md_store_group_t group,
                                const char *name, md_err_t *err, apr_pool_t *p);

/* A file in the base to be locked, made if it is missing; `is_shared`: by children, too. -1 with
 * errno. */
int md_place_open_lock(const md_store_t *store, const char *file, mode_t mode, int is_shared,
                       apr_pool_t *p);

#endif
