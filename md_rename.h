/* SPDX-License-Identifier: Apache-2.0 */
/* Renames: a managed domain whose name was changed in the configuration keeps what the store has
 * for it. */
#ifndef MD_RENAME_H
#define MD_RENAME_H

#include "md_reg.h"

/* A configured domain without directory takes over the one with all, else most, of its names that
 * no configured domain uses, and what is staged there. Never fails the start. */
void md_rename_follow(md_reg_t *reg, apr_pool_t *p);

#endif
