/* SPDX-License-Identifier: Apache-2.0 */
/* The section of server-status on what is stapled, as md_report.h has it for domains. */
#ifndef MD_REPORT_OCSP_H
#define MD_REPORT_OCSP_H

#include "md_out.h"
#include "md_reg.h"

/* All stapled certificates, by name and fingerprint; nothing if there are none. */
void md_report_ocsp_html(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p);

/* The same as lines, behind those that count; `reg` NULL: nothing is stapled. */
void md_report_ocsp_text(md_out_t *out, const md_reg_t *reg, apr_time_t now, apr_pool_t *p);

#endif
