/* SPDX-License-Identifier: Apache-2.0 */
/* What httpd's server-status has of us: sections of its page, and lines of its text form. Tools
 * know both by their labels. */
#ifndef MD_REPORT_H
#define MD_REPORT_H

#include "md_status.h"

/* The managed certificates, in order of name, and what is stapled; nothing if there is none. */
void md_report_html(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p);

/* The same as `Key: value` lines behind those that count; `reg` NULL: nothing is managed. */
void md_report_text(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p);

#endif
