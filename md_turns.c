/* SPDX-License-Identifier: Apache-2.0 */
/* Turns: rings of domains with names in common, and who has the claim on each. */
#include "md_turns.h"

#include <apr_hash.h>
#include <apr_thread_mutex.h>

#include "md_acme_order.h"

struct md_turns_t {
    const md_store_t *store;
    md_engine_t *engine;
    apr_array_header_t *list; /* md_turn_t * */
    apr_hash_t *seen;         /* name -> a turn of a domain that has it */

    apr_thread_mutex_t *mutex; /* guards the claims, and: */
    int is_begun;              /* somebody has looked */
};

apr_status_t md_turns_create(md_turns_t **pturns, const md_store_t *store, md_err_t *err,
                             apr_pool_t *p)
{
    md_turns_t *turns = apr_pcalloc(p, sizeof(*turns));
    apr_status_t rv = apr_thread_mutex_create(&turns->mutex, APR_THREAD_MUTEX_DEFAULT, p);

    turns->store = store;
    turns->list = apr_array_make(p, 16, sizeof(md_turn_t *));
    turns->seen = apr_hash_make(p);
    *pturns = turns;
    return rv == APR_SUCCESS ? rv : md_fail(err, rv, "cannot create a mutex for turns");
}

static void lock(const md_turns_t *turns)
{
    apr_thread_mutex_lock(turns->mutex);
}

static void unlock(const md_turns_t *turns)
{
    apr_thread_mutex_unlock(turns->mutex);
}

/* ---- rings ---- */

static md_turn_t *find_leader(md_turn_t *turn)
{
    while (turn->leader != turn) {
        turn->leader = turn->leader->leader; /* ways get shorter */
        turn = turn->leader;
    }
    return turn;
}

static void join(md_turn_t *a, md_turn_t *b)
{
    md_turn_t *leader = find_leader(a), *other = find_leader(b), *next = a->next;

    if (leader == other)
        return;
    other->leader = leader;
    a->next = b->next;
    b->next = next;
}

void md_turns_add(md_turns_t *turns, md_turn_t *turn)
{
    const apr_array_header_t *names = turn->domain->names;
    const char *name;
    md_turn_t *other;
    int i;

    turn->next = turn->leader = turn;
    APR_ARRAY_PUSH(turns->list, md_turn_t *) = turn;
    for (i = 0; i < names->nelts; ++i) {
        name = APR_ARRAY_IDX(names, i, const char *);
        other = apr_hash_get(turns->seen, name, APR_HASH_KEY_STRING);
        if (other)
            join(other, turn);
        else
            apr_hash_set(turns->seen, name, APR_HASH_KEY_STRING, turn);
    }
}

void md_turns_use(md_turns_t *turns, md_engine_t *engine)
{
    turns->engine = engine;
}

/* ---- claims ---- */

int md_turns_has_setups(const md_turns_t *turns, const md_turn_t *turn)
{
    apr_pool_t *tmp;
    int has;

    if (turn->next == turn)
        return 0;
    tmp = md_engine_pool();
    if (!tmp)
        return 1;
    has = md_order_has_setups(turns->store, turn->domain->name, tmp);
    apr_pool_destroy(tmp);
    return has;
}

static int is_claimed_by_another(const md_turn_t *turn)
{
    const md_turn_t *one;

    for (one = turn->next; one != turn; one = one->next)
        if (one->has_claim)
            return 1;
    return 0;
}

void md_turns_restore(md_turns_t *turns)
{
    md_turn_t *turn;
    int i;

    lock(turns);
    for (i = 0; i < turns->list->nelts && !turns->is_begun; ++i) {
        turn = APR_ARRAY_IDX(turns->list, i, md_turn_t *);
        turn->has_setups = md_turns_has_setups(turns, turn);
        turn->has_claim = turn->has_setups && !is_claimed_by_another(turn);
    }
    turns->is_begun = 1;
    unlock(turns);
}

/* What others left in place would answer for the wrong order, or be torn down in the middle of the
 * right one. */
static void clear_others(const md_turns_t *turns, const md_turn_t *turn)
{
    apr_pool_t *tmp;
    md_turn_t *one;

    for (one = turn->next; one != turn; one = one->next) {
        tmp = one->has_setups ? md_engine_pool() : NULL;
        if (!tmp)
            continue;
        md_order_tear_down(turns->store, one->domain->name, tmp);
        one->has_setups = 0;
        apr_pool_destroy(tmp);
    }
}

int md_turns_claim(md_turns_t *turns, md_turn_t *turn)
{
    int is_free;

    lock(turns);
    is_free = !is_claimed_by_another(turn);
    turn->has_claim = is_free;
    turn->is_waiting = !is_free;
    unlock(turns);
    if (is_free)
        clear_others(turns, turn);
    return is_free;
}

void md_turns_leave(md_turns_t *turns, md_turn_t *turn)
{
    int is_left = md_turns_has_setups(turns, turn);
    md_turn_t *one;

    lock(turns);
    turn->has_setups = is_left;
    turn->has_claim = 0;
    for (one = turn->next; one != turn; one = one->next)
        if (one->is_waiting)
            md_engine_wake(turns->engine, one->task);
    unlock(turns);
}
