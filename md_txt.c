/* SPDX-License-Identifier: Apache-2.0 */
/* TXT records: the document of those that may be in the DNS, and the commands for them. */
#include "md_txt.h"

#include <string.h>

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"
#include "md_text.h"

#define RECORDS_JSON "records.json"
#define SETUP_PREFIX "dns-01:"
#define FULL_PAUSE   apr_time_from_msec(100) /* until there may be a place for another command */
#define SAVE_EACH    apr_time_from_sec(1)    /* while commands come to their end */

typedef enum { SET_UP, TEAR_DOWN } verb_t;
static const char *const VERBS[] = { [SET_UP] = "setup", [TEAR_DOWN] = "teardown" };

typedef struct record_t {
    const char *name, *value;
    int is_wanted;     /* else it is to be torn down */
    int is_up;         /* the command said so, in this run or an earlier one */
    int is_gone;       /* torn down, as well as we can */
    int tries;         /* tear-downs that failed */
    apr_status_t rv;   /* why that is not so, in this run, */
    const char *why;   /* and in words */
    md_exec_t *exec;   /* its command, NULL: none runs; */
    apr_pool_t *pool;  /* of it */
} record_t;

struct md_txt_t {
    const md_dns_conf_t *conf;
    const md_store_t *store;
    const char *domain;
    apr_pool_t *p;
    apr_array_header_t *list; /* record_t * */
    int running;
    int is_new;               /* not all are in the document, */
    int is_changed;           /* or it is behind the times */
    apr_time_t saved_at;      /* steady */
};

static record_t *record_at(const md_txt_t *records, int i)
{
    return APR_ARRAY_IDX(records->list, i, record_t *);
}

/* ---- the document ---- */

/* Children wrote it, or a CA: both become arguments of a command. */
static int is_sound(const char *name, const char *value)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-_.";

    return name && value && md_path_part_is_safe(name) && name[0] != '-'
           && name[strspn(name, LETTERS)] == '\0' && md_token_is_valid(value);
}

static record_t *find(const md_txt_t *records, const char *name, const char *value)
{
    record_t *record;
    int i;

    for (i = 0; i < records->list->nelts; ++i) {
        record = record_at(records, i);
        if (!strcmp(record->value, value) && !strcmp(record->name, name))
            return record;
    }
    return NULL;
}

static record_t *add(md_txt_t *records, const char *name, const char *value)
{
    record_t *record = apr_pcalloc(records->p, sizeof(*record));

    record->name = apr_pstrdup(records->p, name);
    record->value = apr_pstrdup(records->p, value);
    APR_ARRAY_PUSH(records->list, record_t *) = record;
    return record;
}

static void read_list(md_txt_t *records, const md_json_t *list)
{
    const char *name, *value;
    record_t *record;
    md_json_t *json;
    apr_size_t i;

    for (i = 0; i < md_json_size(list) && i < MD_MAX_RECORDS; ++i) {
        json = md_json_at(list, i, records->p);
        name = md_json_get_str(json, "name");
        value = md_json_get_str(json, "value");
        if (!is_sound(name, value))
            continue;
        record = add(records, name, value);
        record->is_up = md_json_get_bool(json, "is-up");
        record->tries = (int)(md_json_get_int(json, "tries", 0) % MD_MAX_TEAR_DOWNS);
    }
}

md_txt_t *md_txt_load(const md_dns_conf_t *conf, const md_store_t *store,
                      const char *domain, apr_pool_t *p)
{
    md_txt_t *records = apr_pcalloc(p, sizeof(*records));
    apr_status_t rv;
    md_json_t *json;
    md_err_t err;

    md_err_init(&err, p);
    records->conf = conf;
    records->store = store;
    records->domain = domain;
    records->p = p;
    records->list = apr_array_make(p, 8, sizeof(record_t *));
    rv = md_store_load_json(&json, store, MD_STORE_RECORDS, domain, RECORDS_JSON, &err, p);
    if (rv == APR_SUCCESS)
        read_list(records, md_json_get(json, "records", p));
    else if (!APR_STATUS_IS_ENOENT(rv))
        md_log(MD_LOG_WARNING, "md[%s]: which TXT records are set up cannot be read: %s", domain,
               err.detail);
    return records;
}

int md_txt_exist(const md_store_t *store, const char *domain, apr_pool_t *p)
{
    return md_store_exists(store, MD_STORE_RECORDS, domain, RECORDS_JSON, p);
}

static md_json_t *to_json(const md_txt_t *records, apr_pool_t *p)
{
    md_json_t *json = md_json_object(p), *list = md_json_array(p), *one;
    const record_t *record;
    int i;

    for (i = 0; i < records->list->nelts; ++i) {
        record = record_at(records, i);
        if (record->is_gone)
            continue;
        one = md_json_object(p);
        md_json_set_str(one, "name", record->name);
        md_json_set_str(one, "value", record->value);
        md_json_set_bool(one, "is-up", record->is_up);
        if (record->tries > 0)
            md_json_set_int(one, "tries", record->tries);
        md_json_append(list, one);
    }
    md_json_set(json, "records", list);
    return json;
}

/* New ones are on the disk before there is a command for them; what else is lost is done again. */
static apr_status_t save(md_txt_t *records, md_err_t *err)
{
    apr_status_t rv = APR_SUCCESS;
    md_json_t *json;
    apr_pool_t *tmp;

    apr_pool_create(&tmp, records->p);
    json = to_json(records, tmp);
    if (md_json_size(md_json_get(json, "records", tmp)) == 0)
        md_store_remove(records->store, MD_STORE_RECORDS, records->domain, NULL, tmp);
    else if (records->is_new)
        rv = md_store_save_json(records->store, MD_STORE_RECORDS, records->domain, RECORDS_JSON,
                                json, err, tmp);
    else
        rv = md_store_save_json_volatile(records->store, MD_STORE_RECORDS, records->domain,
                                         RECORDS_JSON, json, err, tmp);
    apr_pool_destroy(tmp);
    if (rv == APR_SUCCESS)
        records->is_new = records->is_changed = 0;
    records->saved_at = md_clock_steady();
    return rv;
}

static void save_progress(md_txt_t *records)
{
    md_err_t err;

    if (!records->is_changed
        || (records->running && md_clock_steady() - records->saved_at < SAVE_EACH))
        return;
    md_err_init(&err, records->p);
    if (save(records, &err) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: which TXT records are set up cannot be stored: %s",
               records->domain, err.detail);
}

/* ---- which are wanted ---- */

apr_array_header_t *md_txt_setups(const apr_array_header_t *setups, apr_pool_t *p)
{
    apr_array_header_t *found = md_strings_make(p);
    const char *setup;
    int i;

    for (i = 0; setups && i < setups->nelts && i < MD_MAX_NAMES; ++i) {
        setup = APR_ARRAY_IDX(setups, i, const char *);
        if (!strncmp(setup, SETUP_PREFIX, strlen(SETUP_PREFIX)))
            APR_ARRAY_PUSH(found, const char *) = setup;
    }
    return found;
}

int md_txt_want(md_txt_t *records, const char *name, const char *value)
{
    record_t *record = find(records, name, value);

    if (!is_sound(name, value))
        return 0;
    if (!record) {
        record = add(records, name, value);
        records->is_new = 1;
    }
    record->is_wanted = 1;
    return 1;
}

/* The record of a setup; name and value are cut out of it in `p`. */
static record_t *find_setup(const char **pname, const char **pvalue, const md_txt_t *records,
                            const char *setup, apr_pool_t *p)
{
    const char *blank = strchr(setup, ' ');

    *pname = *pvalue = NULL;
    if (!blank || strncmp(setup, SETUP_PREFIX, strlen(SETUP_PREFIX)))
        return NULL;
    setup += strlen(SETUP_PREFIX);
    *pname = apr_pstrmemdup(p, setup, (apr_size_t)(blank - setup));
    *pvalue = apr_pstrdup(p, blank + 1);
    return find(records, *pname, *pvalue);
}

void md_txt_keep(md_txt_t *records, const apr_array_header_t *setups)
{
    const char *name, *value;
    record_t *record;
    int i;

    for (i = 0; setups && i < setups->nelts && i < MD_MAX_NAMES; ++i) {
        record = find_setup(&name, &value, records, APR_ARRAY_IDX(setups, i, const char *),
                            records->p);
        if (record)
            record->is_wanted = 1;
    }
}

void md_txt_adopt(const md_store_t *store, const char *domain,
                  const apr_array_header_t *setups, apr_pool_t *p)
{
    const char *setup, *name, *value;
    md_txt_t *records;
    md_err_t err;
    int i;

    setups = md_txt_setups(setups, p);
    if (setups->nelts == 0)
        return;
    md_err_init(&err, p);
    records = md_txt_load(NULL, store, domain, p);
    for (i = 0; i < setups->nelts; ++i) {
        setup = APR_ARRAY_IDX(setups, i, const char *);
        if (find_setup(&name, &value, records, setup, p) || !is_sound(name, value))
            continue;
        add(records, name, value)->is_up = 1;
        records->is_new = 1;
    }
    if (records->is_new && save(records, &err) != APR_SUCCESS)
        md_log(MD_LOG_WARNING, "md[%s]: TXT records of an order stay in the DNS: %s", domain,
               err.detail);
}

/* ---- commands ---- */

static int is_open(const record_t *record, verb_t verb)
{
    if (record->rv != APR_SUCCESS || record->is_gone)
        return 0;
    return verb == SET_UP ? record->is_wanted && !record->is_up : !record->is_wanted;
}

/* The words of the configuration, and behind them as whole arguments what is to be done. */
static const char *const *arguments(const md_txt_t *records, const record_t *record,
                                    verb_t verb)
{
    apr_array_header_t *list = md_strings_make(record->pool);
    char **words;

    if (apr_tokenize_to_argv(records->conf->command, &words, record->pool) == APR_SUCCESS)
        for (; *words; ++words)
            APR_ARRAY_PUSH(list, const char *) = *words;
    APR_ARRAY_PUSH(list, const char *) = VERBS[verb];
    APR_ARRAY_PUSH(list, const char *) = record->name;
    if (verb == SET_UP || records->conf->version >= 2)
        APR_ARRAY_PUSH(list, const char *) = record->value;
    APR_ARRAY_PUSH(list, const char *) = NULL;
    return (const char *const *)list->elts;
}

static const char *shown_command(const md_txt_t *records, const record_t *record, verb_t verb)
{
    return apr_psprintf(records->p, "MDChallengeDns01 %s %s %s%s%s", records->conf->command,
                        VERBS[verb], record->name,
                        verb == SET_UP || records->conf->version >= 2 ? " " : "",
                        verb == SET_UP || records->conf->version >= 2 ? record->value : "");
}

/* The value proves nothing any more: it is not tried for ever to tear it down. */
static void failed(md_txt_t *records, record_t *record, verb_t verb, apr_status_t rv,
                   const char *text)
{
    text = apr_pstrcat(records->p, shown_command(records, record, verb), " ", text, NULL);
    if (verb == TEAR_DOWN)
        record->is_gone = ++record->tries >= MD_MAX_TEAR_DOWNS;
    record->rv = rv;
    record->why = text;
    if (rv != APR_EGENERAL)
        md_log(MD_LOG_WARNING, "md[%s]: dns-01 %s command failed to execute: %s", records->domain,
               VERBS[verb], text);
    else if (verb == TEAR_DOWN)
        md_log(MD_LOG_WARNING, "md[%s]: a TXT record of %s may be left in the DNS: %s%s",
               records->domain, record->name, text, record->is_gone
               ? " This was the last try: remove it by hand" : " This is tried again later");
}

static void stopped(record_t *record)
{
    record->rv = APR_EINTR;
    record->why = "the server stops";
}

/* How its command ended. */
static void judge(md_txt_t *records, record_t *record, verb_t verb, const md_exec_end_t *end)
{
    const char *text;
    apr_status_t rv = md_exec_result(&text, end, records->p);

    if (end->state == MD_EXEC_STOPPED)
        stopped(record);
    else if (rv == APR_SUCCESS && verb == SET_UP)
        record->is_up = 1;
    else if (rv == APR_SUCCESS)
        record->is_gone = 1;
    else
        failed(records, record, verb, rv, *end->said
               ? apr_pstrcat(records->p, text, " The last line of its output: ", end->said, NULL)
               : text);
    records->is_changed = 1;
    record->exec = NULL;
    apr_pool_destroy(record->pool);
    --records->running;
}

static void look_after(md_txt_t *records, verb_t verb)
{
    apr_time_t steady = md_clock_steady();
    md_exec_end_t end;
    record_t *record;
    int i;

    for (i = 0; records->running && i < records->list->nelts; ++i) {
        record = record_at(records, i);
        if (!record->exec || md_exec_look_at(record->exec) > steady)
            continue;
        end = md_exec_poll(record->exec);
        if (end.state != MD_EXEC_RUNS)
            judge(records, record, verb, &end);
    }
}

/* A name is one set of records, which two commands could spoil for each other. */
static int is_busy(const md_txt_t *records, const char *name)
{
    const record_t *record;
    int i;

    for (i = 0; i < records->list->nelts; ++i) {
        record = record_at(records, i);
        if (record->exec && !strcmp(record->name, name))
            return 1;
    }
    return 0;
}

/* APR_EAGAIN: there is no place for it now. */
static apr_status_t start(md_txt_t *records, record_t *record, verb_t verb)
{
    const char *env[2] = { NULL, NULL };
    apr_status_t rv;
    md_err_t err;

    apr_pool_create(&record->pool, records->p);
    md_err_init(&err, records->p);
    env[0] = apr_pstrcat(record->pool, "MD_NAME=", records->domain, NULL);
    rv = md_exec_start(&record->exec, records->conf->execs, arguments(records, record, verb), env,
                       MD_MAX_COMMAND_TIME, &err, record->pool);
    if (rv == APR_SUCCESS) {
        ++records->running;
        return rv;
    }
    apr_pool_destroy(record->pool);
    if (APR_STATUS_IS_EAGAIN(rv) || (md_is_lack(rv) && records->running > 0))
        return APR_EAGAIN;
    if (APR_STATUS_IS_EINTR(rv))
        stopped(record);
    else
        failed(records, record, verb, APR_EINCOMPLETE, err.detail);
    return APR_SUCCESS;
}

/* 1: some had to be left for lack of places. */
static int start_some(md_txt_t *records, verb_t verb)
{
    record_t *record;
    int i;

    for (i = 0; i < records->list->nelts && records->running < MD_MAX_RECORD_COMMANDS; ++i) {
        record = record_at(records, i);
        if (!record->exec && is_open(record, verb) && !is_busy(records, record->name)
            && APR_STATUS_IS_EAGAIN(start(records, record, verb)))
            return 1;
    }
    return 0;
}

static apr_interval_time_t next_look(const md_txt_t *records)
{
    apr_time_t steady = md_clock_steady(), first = steady + FULL_PAUSE;
    const record_t *record;
    int i;

    for (i = 0; records->running && i < records->list->nelts; ++i) {
        record = record_at(records, i);
        if (record->exec && md_exec_look_at(record->exec) < first)
            first = md_exec_look_at(record->exec);
    }
    return first > steady ? first - steady : 1;
}

/* 1: call again after *pwait. */
static int work(md_txt_t *records, verb_t verb, apr_interval_time_t *pwait)
{
    int lacks_places;

    look_after(records, verb);
    lacks_places = start_some(records, verb);
    save_progress(records);
    if (!records->running && !lacks_places)
        return 0;
    *pwait = next_look(records);
    return 1;
}

apr_status_t md_txt_set_up(md_txt_t *records, apr_interval_time_t *pwait, md_err_t *err)
{
    apr_status_t rv = records->is_new ? save(records, err) : APR_SUCCESS;

    if (rv != APR_SUCCESS)
        return rv;
    return work(records, SET_UP, pwait) ? APR_EAGAIN : APR_SUCCESS;
}

apr_status_t md_txt_result(const md_txt_t *records, const char *name, const char *value,
                           md_err_t *err)
{
    const record_t *record = find(records, name, value);

    if (record && record->is_up)
        return APR_SUCCESS;
    return md_fail(err, record && record->rv ? record->rv : APR_EGENERAL, "%s",
                   record && record->why ? record->why : "the TXT record was not set up");
}

int md_txt_to_tear_down(const md_txt_t *records)
{
    int i, count = 0;

    for (i = 0; i < records->list->nelts; ++i)
        count += is_open(record_at(records, i), TEAR_DOWN);
    return count;
}

int md_txt_tries(const md_txt_t *records)
{
    int i, most = 0;

    for (i = 0; i < records->list->nelts; ++i)
        if (!record_at(records, i)->is_gone && record_at(records, i)->tries > most)
            most = record_at(records, i)->tries;
    return most;
}

int md_txt_tear_down(md_txt_t *records, apr_interval_time_t *pwait)
{
    return records->conf->command ? work(records, TEAR_DOWN, pwait) : 0;
}
