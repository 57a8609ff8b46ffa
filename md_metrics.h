/* SPDX-License-Identifier: Apache-2.0 */
/* What monitoring asks for, in the text formats of Prometheus and OpenMetrics. All of it is in
 * memory: nothing is read from the disk. docs/monitoring.md tells what each metric means. */
#ifndef MD_METRICS_H
#define MD_METRICS_H

#include "md_out.h"
#include "md_reg.h"

typedef enum {
    MD_METRICS_TEXT,  /* Prometheus' own, version 0.0.4 */
    MD_METRICS_OPEN   /* OpenMetrics 1.0.0 */
} md_metrics_format_t;

/* Of all domains, CAs and stapled certificates, piece by piece; `reg` NULL: nothing is managed. */
void md_metrics_write(md_out_t *out, md_metrics_format_t format, const md_reg_t *reg,
                      apr_time_t now, apr_pool_t *p);

#endif
