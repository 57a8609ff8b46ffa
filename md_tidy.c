/* SPDX-License-Identifier: Apache-2.0 */
/* TXT records that no order needs. */
#include "md_tidy.h"

#include "md_acme_order.h"
#include "md_clock.h"
#include "md_engine.h"
#include "md_log.h"
#include "md_renew.h"

#define RETRY_AFTER apr_time_from_sec(60) /* doubled each time */

void md_tidy_drop(md_tidy_t *tidy)
{
    if (tidy->pool)
        apr_pool_destroy(tidy->pool);
    tidy->pool = NULL;
    tidy->records = NULL;
}

static void load(md_tidy_t *tidy)
{
    const md_store_t *store = tidy->reg->store;
    int count;

    tidy->pool = md_engine_pool();
    if (!tidy->pool)
        return;
    tidy->dns = md_renew_dns(tidy->reg, tidy->domain);
    tidy->records = md_txt_load(&tidy->dns, store, tidy->name, tidy->pool);
    md_txt_keep(tidy->records, md_order_setups(store, tidy->name, tidy->pool));
    count = md_txt_to_tear_down(tidy->records);
    if (tidy->dns.command || count == 0)
        return;
    md_log(MD_LOG_WARNING, "md[%s]: %d TXT records stay in the DNS, as there is no command to tear "
           "them down: set MDChallengeDns01", tidy->name, count);
    tidy->has_records = 0; /* told once */
}

/* All commands have ended. */
static void conclude(md_tidy_t *tidy)
{
    int tries = md_txt_tries(tidy->records);

    tidy->has_records = tidy->has_records
                        && md_txt_exist(tidy->reg->store, tidy->name, tidy->pool);
    tidy->retry_at = tidy->has_records && tries > 0
                     ? md_clock_steady() + (RETRY_AFTER << (tries - 1)) : 0;
    md_tidy_drop(tidy);
}

int md_tidy_is_busy(md_tidy_t *tidy)
{
    apr_interval_time_t wait = 0;

    if (tidy->has_records && !tidy->records && tidy->retry_at <= md_clock_steady())
        load(tidy);
    if (tidy->records && md_txt_tear_down(tidy->records, &wait)) {
        tidy->look_at = md_clock_steady() + wait;
        return 1;
    }
    if (tidy->records)
        conclude(tidy);
    tidy->look_at = tidy->has_records && tidy->retry_at ? tidy->retry_at : MD_TASK_NEVER;
    return 0;
}

int md_tidy_look(md_tidy_t *tidy, apr_pool_t *tmp)
{
    tidy->has_records = md_renew_dns(tidy->reg, tidy->domain).command
                        && md_txt_exist(tidy->reg->store, tidy->name, tmp);
    tidy->retry_at = 0;
    return tidy->has_records;
}
