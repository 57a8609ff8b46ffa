/* SPDX-License-Identifier: Apache-2.0 */
/* TXT records at the name servers of their zones: which these are is asked once, and then they are
 * asked in rounds until all have the records, or time is up. */
#include "md_txt_check.h"

#include <string.h>

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_text.h"

#define PREFIX       "_acme-challenge." /* RFC 8555 8.4 */
#define PAUSE_LEAST  apr_time_from_sec(1)
#define PAUSE_MOST   apr_time_from_sec(8)
#define SILENT_MOST  2                  /* rounds in which no server of the zone answered */
#define HOSTS_MOST   8                  /* name servers of a zone that are asked, */
#define ADDRESS_MOST 16                 /* and their addresses */
#define HINTS_MOST   10                 /* more of them tell nothing new */

/* A record that is looked for. */
typedef struct target_t {
    const char *name, *value;    /* as the command had them */
    const char *host;            /* where it is looked for, at the end of all aliases so far */
    int hops;
    const char *zone;            /* NULL: not found out yet */
    apr_array_header_t *addresses; /* of its servers */
    apr_array_header_t *answers; /* of this round: const md_dns_answer_t *, as the addresses */
    const char *problem;         /* what was last found, NULL: nothing yet */
    int is_missing;              /* by the word of a server */
    int silent;                  /* rounds in a row without an answer */
    int is_over;
} target_t;

struct md_txt_check_t {
    md_dns_route_t route;
    const md_txt_t *records;
    apr_interval_time_t limit;
    apr_pool_t *p;
    apr_array_header_t *targets; /* target_t */
    md_dns_t *dns;               /* resolvers: what is asked once */
    md_dns_t *round;             /* servers of the zones, NULL: between two rounds */
    apr_pool_t *round_pool;
    apr_time_t until;            /* steady, 0: not begun */
    apr_time_t next_at;          /* steady: of the next round */
    apr_interval_time_t pause;   /* after that */
    int is_over;
};

md_txt_check_t *md_txt_check_make(const md_dns_route_t *route, const md_txt_t *records,
                                  apr_interval_time_t limit, apr_pool_t *p)
{
    md_txt_check_t *check = apr_pcalloc(p, sizeof(*check));

    check->route = *route;
    check->records = records;
    check->limit = limit;
    check->p = p;
    check->pause = PAUSE_LEAST;
    check->targets = apr_array_make(p, 8, sizeof(target_t));
    apr_pool_create(&check->round_pool, p);
    return check;
}

static target_t *target_at(const md_txt_check_t *check, int i)
{
    return &APR_ARRAY_IDX(check->targets, i, target_t);
}

void md_txt_check_want(md_txt_check_t *check, const char *name, const char *value)
{
    target_t *target = apr_array_push(check->targets);

    *target = (target_t){ .name = apr_pstrdup(check->p, name) };
    target->value = apr_pstrdup(check->p, value);
    target->host = apr_pstrcat(check->p, PREFIX, name, NULL);
    check->is_over = 0;
    check->until = 0;
}

/* ---- the zone and its servers ---- */

typedef enum { IS_OPEN, IS_KNOWN, IS_UNKNOWN } known_t;

static known_t fail(target_t *target, const char *problem)
{
    target->problem = problem;
    target->is_over = 1;
    return IS_UNKNOWN;
}

static int follow(md_txt_check_t *check, target_t *target, const char *alias)
{
    target->zone = NULL;
    target->host = apr_pstrdup(check->p, alias);
    return ++target->hops <= MD_MAX_DNS_ALIASES;
}

static const char *parent_of(const char *name)
{
    const char *dot = strchr(name, '.');

    return dot && dot[1] ? dot + 1 : NULL;
}

/* The nearest name above it that has name servers. */
static known_t find_zone(md_txt_check_t *check, target_t *target)
{
    const char *at = target->host, *gone = NULL;
    const md_dns_answer_t *answer;

    while (at) {
        answer = md_dns_ask(check->dns, at, MD_DNS_NS);
        if (answer->state == MD_DNS_OPEN)
            return IS_OPEN;
        if (answer->state == MD_DNS_FAILED)
            return fail(target, apr_psprintf(check->p, "who its name servers are cannot be found "
                                             "out: about %s, %s", at, answer->why));
        if (answer->alias && at == target->host) {
            if (!follow(check, target, answer->alias))
                return fail(target, apr_psprintf(check->p, "its CNAME records lead to %s, and "
                                                 "on and on", target->host));
            at = target->host;
            gone = NULL;
            continue;
        }
        if (answer->state == MD_DNS_FOUND && !answer->alias)
            break;
        if (answer->state == MD_DNS_NO_NAME)
            gone = at;
        at = parent_of(at);
    }
    if (gone && (!at || (!strchr(at, '.') && parent_of(gone) == at)))
        return fail(target, apr_psprintf(check->p, "the domain %s does not exist (NXDOMAIN)",
                                         gone));
    if (!at)
        return fail(target, apr_psprintf(check->p, "no name above %s has name servers",
                                         target->host));
    target->zone = apr_pstrdup(check->p, at);
    return IS_KNOWN;
}

/* 0: some answers are open. */
static int add_addresses(md_txt_check_t *check, target_t *target, const char *host,
                         md_dns_type_t type)
{
    const md_dns_answer_t *answer = md_dns_ask(check->dns, host, type);
    int i;

    if (answer->state == MD_DNS_OPEN)
        return 0;
    for (i = 0; i < answer->records->nelts && target->addresses->nelts < ADDRESS_MOST; ++i)
        APR_ARRAY_PUSH(target->addresses, const char *) =
            APR_ARRAY_IDX(answer->records, i, md_dns_record_t).value;
    return 1;
}

static known_t find_servers(md_txt_check_t *check, target_t *target)
{
    const md_dns_answer_t *answer = md_dns_ask(check->dns, target->zone, MD_DNS_NS);
    const char *host;
    int i, are_known = 1;

    if (target->addresses)
        apr_array_clear(target->addresses);
    else
        target->addresses = md_strings_make(check->p);
    for (i = 0; i < answer->records->nelts && i < HOSTS_MOST; ++i) {
        host = APR_ARRAY_IDX(answer->records, i, md_dns_record_t).value;
        are_known &= add_addresses(check, target, host, MD_DNS_A);
        are_known &= add_addresses(check, target, host, MD_DNS_AAAA);
    }
    if (!are_known)
        return IS_OPEN;
    if (target->addresses->nelts == 0)
        return fail(target, apr_psprintf(check->p, "the name servers of its zone %s have no "
                                         "address", target->zone));
    return IS_KNOWN;
}

/* 1: for some that is open. */
static int find_all(md_txt_check_t *check)
{
    known_t known;
    target_t *target;
    int i, is_open = 0;

    for (i = 0; i < check->targets->nelts; ++i) {
        target = target_at(check, i);
        if (target->is_over)
            continue;
        known = target->zone ? IS_KNOWN : find_zone(check, target);
        if (known == IS_KNOWN)
            known = find_servers(check, target);
        is_open |= known == IS_OPEN;
    }
    return is_open;
}

/* ---- rounds ---- */

static apr_status_t begin_round(md_txt_check_t *check, md_err_t *err)
{
    target_t *target;
    apr_status_t rv;
    int i, j;

    apr_pool_clear(check->round_pool);
    rv = md_dns_create(&check->round, &check->route, err, check->round_pool);
    for (i = 0; rv == APR_SUCCESS && i < check->targets->nelts; ++i) {
        target = target_at(check, i);
        if (target->is_over)
            continue;
        target->answers = apr_array_make(check->round_pool, ADDRESS_MOST,
                                         sizeof(const md_dns_answer_t *));
        for (j = 0; j < target->addresses->nelts; ++j)
            APR_ARRAY_PUSH(target->answers, const md_dns_answer_t *) =
                md_dns_ask_at(check->round, APR_ARRAY_IDX(target->addresses, j, const char *),
                              target->host, MD_DNS_TXT);
    }
    return rv;
}

static int has_value(const md_dns_answer_t *answer, const char *value)
{
    int i;

    for (i = 0; i < answer->records->nelts; ++i)
        if (!strcmp(APR_ARRAY_IDX(answer->records, i, md_dns_record_t).value, value))
            return 1;
    return 0;
}

/* Does it know anything about the zone? */
static int is_answer(const md_dns_answer_t *answer)
{
    return answer->state == MD_DNS_FOUND
           || ((answer->state == MD_DNS_EMPTY || answer->state == MD_DNS_NO_NAME)
               && answer->is_authoritative);
}

static const char *silence_of(const md_dns_answer_t *answer)
{
    return answer->state == MD_DNS_OPEN ? "there was no answer in time"
           : answer->state == MD_DNS_FAILED ? answer->why
           : "it does not serve the zone";
}

/* Found at all that answer; one that does not is somebody's mistake, but not ours. */
static void judge(md_txt_check_t *check, target_t *target)
{
    const char *address, *lacking = NULL, *silent = NULL, *alias = NULL;
    const md_dns_answer_t *answer;
    int i, found = 0;

    for (i = 0; i < target->answers->nelts; ++i) {
        answer = APR_ARRAY_IDX(target->answers, i, const md_dns_answer_t *);
        address = APR_ARRAY_IDX(target->addresses, i, const char *);
        if (!is_answer(answer))
            silent = apr_psprintf(check->p, "%s says about %s: %s", address, target->host,
                                  silence_of(answer));
        else if (has_value(answer, target->value))
            ++found;
        else if (answer->state != MD_DNS_FOUND && answer->alias)
            alias = answer->alias; /* to another zone, of which the resolver does not know yet */
        else
            lacking = address;
    }
    target->silent = found || lacking || alias ? 0 : target->silent + 1;
    target->is_missing = lacking != NULL;
    target->is_over = (found && !lacking && !alias) || target->silent >= SILENT_MOST;
    target->problem = NULL;
    if (alias)
        target->is_over |= !follow(check, target, alias);
    if (lacking)
        target->problem = apr_psprintf(check->p, "the name server %s of the zone %s does not have "
                                       "the record %s TXT \"%s\"", lacking, target->zone,
                                       target->host, target->value);
    else if (!found && !alias)
        target->problem = apr_psprintf(check->p, "no name server of the zone %s answers; %s",
                                       target->zone, silent);
}

static void end_round(md_txt_check_t *check)
{
    target_t *target;
    int i;

    for (i = 0; i < check->targets->nelts; ++i) {
        target = target_at(check, i);
        if (!target->is_over && target->answers)
            judge(check, target);
        target->answers = NULL;
    }
    check->round = NULL;
    check->next_at = md_clock_steady() + check->pause;
    check->pause = check->pause * 2 < PAUSE_MOST ? check->pause * 2 : PAUSE_MOST;
}

/* ---- as a whole ---- */

static const char *hint_of(const target_t *target, apr_pool_t *p)
{
    if (target->is_missing)
        return apr_psprintf(p, "%s: %s. The CA is asked all the same. See that the command of "
                            "MDChallengeDns01 changes this zone and ends when all of its servers "
                            "have the change, or let MDChallengeDns01Check wait for longer",
                            target->name, target->problem);
    return apr_psprintf(p, "%s: whether the TXT record of dns-01 is there cannot be checked: %s. "
                        "The CA is asked all the same. If this server never sees the public DNS, "
                        "set MDDnsResolver to one that does, or MDChallengeDns01Check off",
                        target->name, target->problem);
}

static void tell(const md_txt_check_t *check, md_txt_hint_fn *hint, void *baton)
{
    int i, count = 0, is_missing = 0;
    target_t *target;

    for (i = 0; i < check->targets->nelts; ++i) {
        target = target_at(check, i);
        if (!target->problem && !target->is_over)
            target->problem = "the time was too short for an answer";
        if (!target->problem)
            continue;
        is_missing |= target->is_missing;
        if (++count <= HINTS_MOST)
            hint(baton, target->is_missing, hint_of(target, check->p));
    }
    if (count > HINTS_MOST)
        hint(baton, is_missing, apr_psprintf(check->p, "the same goes for %d more names",
                                             count - HINTS_MOST));
}

/* Those that no command could set up are not waited for. */
static apr_status_t begin(md_txt_check_t *check, md_err_t *err)
{
    target_t *target;
    int i;

    check->until = md_clock_steady() + check->limit;
    check->next_at = 0;
    for (i = 0; i < check->targets->nelts; ++i) {
        target = target_at(check, i);
        target->is_over = md_txt_result(check->records, target->name, target->value, NULL)
                          != APR_SUCCESS;
        target->problem = NULL;
    }
    return check->dns ? APR_SUCCESS : md_dns_create(&check->dns, &check->route, err, check->p);
}

static int are_over(const md_txt_check_t *check)
{
    int i;

    for (i = 0; i < check->targets->nelts; ++i)
        if (!target_at(check, i)->is_over)
            return 0;
    return 1;
}

/* 1: call again after *pwait. */
static int go_on(md_txt_check_t *check, apr_interval_time_t *pwait, md_err_t *err)
{
    apr_time_t steady = md_clock_steady();

    if (check->round && md_dns_poll(check->round, pwait) && steady < check->until)
        return 1;
    if (check->round)
        end_round(check);
    if (are_over(check) || steady >= check->until)
        return 0;
    if (check->next_at > steady) {
        *pwait = check->next_at - steady;
        return 1;
    }
    if (find_all(check)) {
        *pwait = 1; /* what was asked just now begins with a poll */
        return md_dns_poll(check->dns, pwait) || !are_over(check);
    }
    if (are_over(check) || begin_round(check, err) != APR_SUCCESS)
        return 0;
    *pwait = 1;
    return 1;
}

int md_txt_check_step(md_txt_check_t *check, apr_interval_time_t *pwait, md_txt_hint_fn *hint,
                      void *baton)
{
    md_err_t err;

    if (check->is_over)
        return 0;
    md_err_init(&err, check->p);
    if ((check->until || begin(check, &err) == APR_SUCCESS) && go_on(check, pwait, &err))
        return 1;
    check->is_over = 1;
    if (err.detail)
        hint(baton, 0, apr_pstrcat(check->p, "TXT records are not looked for: ", err.detail, NULL));
    else
        tell(check, hint, baton);
    return 0;
}
