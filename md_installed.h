/* SPDX-License-Identifier: Apache-2.0 */
/* The event `installed`: sets that a start put into service. They are noted in the store, by root
 * alone, until they were told of: the start that does so may be a rehearsal, or be cut short. */
#ifndef MD_INSTALLED_H
#define MD_INSTALLED_H

#include <signal.h>

#include "md_reg.h"

/* Is there anybody to tell? */
int md_installed_is_wanted(const md_reg_t *reg);

/* The sets of these domains (names) are in service, and will be told of. */
void md_installed_note(const md_reg_t *reg, const apr_array_header_t *names, apr_pool_t *p);

/* Is there something to be told? */
int md_installed_is_due(const md_reg_t *reg, apr_pool_t *p);

/* Tell it, and return when that is done: for a process of its own. It is told once, however
 * commands end. When *is_stopped is set, commands have half a second; what was not begun is for
 * the next start. */
void md_installed_tell(const md_reg_t *reg, const volatile sig_atomic_t *is_stopped,
                       apr_pool_t *p);

#endif
