/* SPDX-License-Identifier: Apache-2.0 */
/* The store: <base>/<group>/<name>/<file>. Knows permissions, ownership, encryption of keys and
 * how things move; knows nothing of what the documents mean. After md_store_open the object is
 * constant: any number of threads may use it. */
#ifndef MD_STORE_H
#define MD_STORE_H

#include <apr_file_io.h>
#include <apr_user.h>

#include "md_cert.h"
#include "md_json.h"
#include "md_key.h"
#include "md_store_group.h"

/* Open or create the store at `base`, migrating older versions. What root makes in shared groups
 * belongs to the owner of `staging`. Fails when `md_store.json` exists and cannot be used: it holds
 * the key of all encrypted keys and is never replaced. APR_EACCES when it is another user's. */
MD_MUST_CHECK
apr_status_t md_store_open(md_store_t **pstore, const char *base, md_err_t *err, apr_pool_t *p);

/* The store at `base`, which may not be there yet, as it is for those who cannot open it: to read
 * what is neither private nor encrypted (challenges). Looks at nothing. */
md_store_t *md_store_at(const char *base, apr_pool_t *p);

/* Is there a store at `base`? APR_SUCCESS (also when that cannot be told), APR_EOF when there is an
 * empty directory, APR_ENOENT. */
apr_status_t md_store_find(const char *base, apr_pool_t *p);

/* Would md_store_open and md_store_prepare be able to work here? Changes nothing. */
MD_MUST_CHECK
apr_status_t md_store_check(const char *base, md_err_t *err, apr_pool_t *p);

/* As root: who else could put something in place of what is root's in the store at `base`, or, the
 * children's user, of a directory or link on the way to it; and the command that ends that. NULL if
 * nobody could. As long as it lasts, an open store changes nothing but files in directories that
 * are there, and gives nothing away. */
const char *md_store_danger(const char *base, apr_pool_t *p);

/* Give directories made in groups that are shared with children to this user from now on, and make
 * the group directories that children need. */
MD_MUST_CHECK
apr_status_t md_store_prepare(md_store_t *store, const apr_uid_t *owner, md_err_t *err,
                              apr_pool_t *p);

const char *md_store_path(const md_store_t *store, md_store_group_t group, const char *name,
                          const char *file, apr_pool_t *p); /* name, file may be NULL */

/* Loading: APR_ENOENT when there is none (not an md_fail), APR_EINVAL when it is damaged or no
 * regular file. */
MD_MUST_CHECK
apr_status_t md_store_load_json(md_json_t **pjson, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                md_err_t *err, apr_pool_t *p);
/* Has the document the members that `rules` ask for? Else APR_EINVAL as from md_store_load_json. */
MD_MUST_CHECK
apr_status_t md_store_check_json(const md_json_t *json, const md_store_t *store,
                                 md_store_group_t group, const char *name, const char *file,
                                 const md_json_rule_t *rules, md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_store_load_text(const char **ptext, apr_size_t *plen, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                apr_size_t max, md_err_t *err, apr_pool_t *p);
/* APR_EACCES for a key that only the passphrase of another store can open. */
MD_MUST_CHECK
apr_status_t md_store_load_key(md_key_t **pkey, const md_store_t *store,
                               md_store_group_t group, const char *name, const char *file,
                               md_err_t *err, apr_pool_t *p);
/* Is there a private key that fits the certificate? APR_EINVAL when it is damaged or another. */
MD_MUST_CHECK
apr_status_t md_store_check_key(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const md_cert_t *cert,
                                md_err_t *err, apr_pool_t *p);
/* APR_ENOENT for an empty chain, too. `issuers` (or NULL): see md_chain_from_pem_shared. */
MD_MUST_CHECK
apr_status_t md_store_load_chain(apr_array_header_t **pchain, apr_hash_t *issuers,
                                 const md_store_t *store, md_store_group_t group, const char *name,
                                 const char *file, md_err_t *err, apr_pool_t *p);

/* Saving: atomic and durable; makes the directories. Keys are encrypted where the group says so. */
MD_MUST_CHECK
apr_status_t md_store_save_json(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const md_json_t *json,
                                md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_store_save_text(const md_store_t *store, md_store_group_t group,
                                const char *name, const char *file, const char *text,
                                md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_store_save_key(const md_store_t *store, md_store_group_t group,
                               const char *name, const char *file, const md_key_t *key,
                               md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_store_save_chain(const md_store_t *store, md_store_group_t group,
                                 const char *name, const char *file,
                                 const apr_array_header_t *chain, md_err_t *err, apr_pool_t *p);
/* PEM of a key as it is stored in groups that children read: encrypted. */
MD_MUST_CHECK
apr_status_t md_store_seal_key(const char **ppem, const md_store_t *store, const md_key_t *key,
                               md_err_t *err, apr_pool_t *p);
/* And back. */
MD_MUST_CHECK
apr_status_t md_store_unseal_key(md_key_t **pkey, const md_store_t *store, const char *pem,
                                 md_err_t *err, apr_pool_t *p);
/* The same for what can be made again: not synced to disk. A document; a plain key and its
 * certificate (temporary certificates). */
MD_MUST_CHECK
apr_status_t md_store_save_json_volatile(const md_store_t *store, md_store_group_t group,
                                         const char *name, const char *file,
                                         const md_json_t *json, md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_store_save_volatile(const md_store_t *store, md_store_group_t group,
                                    const char *name, const char *key_file,
                                    const md_key_t *key, const char *cert_file,
                                    const md_cert_t *cert, md_err_t *err, apr_pool_t *p);

/* A directory `<prefix>NNNN` that was free or empty, with `file` created exclusively; *pid in
 * `p`. */
MD_MUST_CHECK
apr_status_t md_store_create_numbered(const char **pid, const md_store_t *store,
                                      md_store_group_t group, const char *prefix,
                                      const char *file, const md_json_t *json, md_err_t *err,
                                      apr_pool_t *p);

/* Are children another user than root, who runs this? Then *powner is their user. */
int md_store_has_owner(apr_uid_t *powner, const md_store_t *store);

int md_store_exists(const md_store_t *store, md_store_group_t group, const char *name,
                    const char *file, apr_pool_t *p); /* file NULL: the directory */

/* Locks between processes, also of servers that share a store. md_store_unlock gives one back, as
 * does the end of the process, however it comes; its handle lives in `p`. APR_EAGAIN if another has
 * it. One process at a time works in staging: try_lock does not wait for it. */
MD_MUST_CHECK
apr_status_t md_store_try_lock(apr_file_t **plock, const md_store_t *store, md_err_t *err,
                               apr_pool_t *p);
/* Names and activation are for one server or tool at a time; waits so long, and tells it after a
 * second. */
MD_MUST_CHECK
apr_status_t md_store_lock(apr_file_t **plock, const md_store_t *store, apr_interval_time_t wait,
                           md_err_t *err, apr_pool_t *p);
/* The two files of a temporary certificate are written by one at a time, who has no other lock. */
MD_MUST_CHECK
apr_status_t md_store_lock_pair(apr_file_t **plock, const md_store_t *store, md_err_t *err,
                                apr_pool_t *p);
void md_store_unlock(apr_file_t *lock);

/* Names in a group, in order of name; an empty array when the group is missing, or cannot be
 * read. */
apr_array_header_t *md_store_names(const md_store_t *store, md_store_group_t group,
                                   apr_pool_t *p);

/* The same for those to whom the difference matters: a group that cannot be read is a failure, and
 * the array is empty, too. */
MD_MUST_CHECK
apr_status_t md_store_list(apr_array_header_t **pnames, const md_store_t *store,
                           md_store_group_t group, md_err_t *err, apr_pool_t *p);

/* When a name was last added to a group or removed from it, or, with a name, a file to or from
 * `<group>/<name>` (one that is saved is, too); 0 when there is no such directory. */
apr_time_t md_store_changed_at(const md_store_t *store, md_store_group_t group, const char *name,
                               apr_pool_t *p);

/* Files in `<group>/<name>`, in order of name; empty when there is no such directory. */
apr_array_header_t *md_store_files(const md_store_t *store, md_store_group_t group,
                                   const char *name, apr_pool_t *p);

/* Documents of the whole store, directly in its base: private to the parent. */
MD_MUST_CHECK
apr_status_t md_store_load_base_json(md_json_t **pjson, const md_store_t *store,
                                     const char *file, md_err_t *err, apr_pool_t *p);
MD_MUST_CHECK
apr_status_t md_store_save_base_json(const md_store_t *store, const char *file,
                                     const md_json_t *json, md_err_t *err, apr_pool_t *p);
void md_store_remove_base(const md_store_t *store, const char *file, apr_pool_t *p);

/* Remove `<group>/<name>/<file>`, or with file NULL the whole directory. Missing is success. */
apr_status_t md_store_remove(const md_store_t *store, md_store_group_t group, const char *name,
                             const char *file, apr_pool_t *p);

/* Remove the directory `<group>/<name>` of a shared group, if nothing is in it. */
void md_store_remove_empty(const md_store_t *store, md_store_group_t group, const char *name,
                           apr_pool_t *p);

MD_MUST_CHECK
apr_status_t md_store_rename(const md_store_t *store, md_store_group_t group, const char *from,
                             const char *to, md_err_t *err, apr_pool_t *p);

/* A file of a set, and its content. */
typedef struct md_store_file_t {
    const char *file, *text;
} md_store_file_t;

/* Make `tmp/<name>` of these (md_store_file_t) and nothing else. The last one is there when all are
 * complete, but none is on disk for sure (md_store_sync). */
MD_MUST_CHECK
apr_status_t md_store_make_set(const md_store_t *store, const char *name,
                               const apr_array_header_t *files, md_err_t *err, apr_pool_t *p);

/* All that was written to the store is on disk. Before sets in tmp are activated, once for all of
 * them, and after that, before what they were made of is removed. */
MD_MUST_CHECK
apr_status_t md_store_sync(const md_store_t *store, md_err_t *err, apr_pool_t *p);

/* Make `tmp/<name>` the new `domains/<name>`; the old one becomes `archive/<name>.<n>`, n from 1.
 * Whoever looks finds one of them, in one step where the system can exchange directories (Linux). A
 * crash at any instant leaves the old or the new set in place, or is repaired by
 * md_store_recover. */
MD_MUST_CHECK
apr_status_t md_store_activate(const md_store_t *store, const char *name, md_err_t *err,
                               apr_pool_t *p);

/* Leave the `keep` newest of `archive/<name>.<n>`, for each of `names` (`const char *`). Lists the
 * archive once. */
void md_store_prune(const md_store_t *store, const apr_array_header_t *names, int keep,
                    apr_pool_t *p);

/* For all in tmp: finish what a crash left of md_store_activate (a new set that is complete goes to
 * `domains` if there is none, an old one to the archive), otherwise remove it. */
void md_store_recover(const md_store_t *store, apr_pool_t *p);

/* Move `<group>/<name>` to the archive, under the next number of `name`; *parchived is its path. */
MD_MUST_CHECK
apr_status_t md_store_archive(const char **parchived, const md_store_t *store,
                              md_store_group_t group, const char *name, md_err_t *err,
                              apr_pool_t *p);

/* Rename a file that is of no use (with file NULL: all of `name`), or whatever is in its place, to
 * `<file>.damaged` beside it (*paside is the path): it is out of the way, and nothing is lost that
 * somebody may repair. */
apr_status_t md_store_put_aside(const char **paside, const md_store_t *store,
                                md_store_group_t group, const char *name, const char *file,
                                apr_pool_t *p);

/* Remove `*.tmp` files that a crash left long ago, with name NULL those in the base. */
void md_store_sweep(const md_store_t *store, md_store_group_t group, const char *name,
                    apr_time_t now, apr_pool_t *p);

/* Remove files of `<group>/<name>` that begin with `prefix` and were not written since `before`.
 * Returns how many of them are left. */
int md_store_remove_old(const md_store_t *store, md_store_group_t group, const char *name,
                        const char *prefix, apr_time_t before, apr_pool_t *p);

/* When children are another user: let them read a file of a group that is theirs to read, if its
 * mode locks them out. It has to be a file of theirs, or one of root's in a directory of root's
 * that reads as a document or an encrypted key. Returns 1 if it was changed. */
int md_store_open_to_children(const md_store_t *store, md_store_group_t group, const char *name,
                              const char *file, apr_pool_t *p);

#endif
