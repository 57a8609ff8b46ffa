/* SPDX-License-Identifier: Apache-2.0 */
/* The board: rows guarded by sequence numbers. */
#include "md_board.h"

#include <stdatomic.h>
#include <string.h>

#define MAX_TRIES 1000 /* of a reader */
#define WORDS ((sizeof(md_board_row_t) + sizeof(apr_uint64_t) - 1) / sizeof(apr_uint64_t))

/* Who sees a word of a new row sees that the number has become odd, too, and who sees it even again
 * sees all words: each is stored with release and loaded with acquire. */
typedef struct slot_t {
    atomic_uint generation;
    atomic_uint number;               /* odd: the row is being written */
    _Atomic apr_uint64_t words[WORDS];
} slot_t;

struct md_board_t {
    int count;
    slot_t slots[];
};

apr_size_t md_board_size(int count)
{
    return sizeof(md_board_t) + sizeof(slot_t) * (apr_size_t)count;
}

md_board_t *md_board_make(void *memory, int count)
{
    md_board_t *board = memory;

    memset(memory, 0, md_board_size(count));
    board->count = count;
    return board;
}

void md_board_write(md_board_t *board, int i, const md_board_row_t *row)
{
    slot_t *slot = &board->slots[i];
    unsigned int odd = atomic_load_explicit(&slot->number, memory_order_relaxed) | 1;
    apr_uint64_t words[WORDS] = { 0 };
    size_t k;

    memcpy(words, row, sizeof(*row));
    atomic_store_explicit(&slot->number, odd, memory_order_relaxed);
    for (k = 0; k < WORDS; ++k)
        atomic_store_explicit(&slot->words[k], words[k], memory_order_release);
    atomic_store_explicit(&slot->number, odd + 1, memory_order_release);
}

/* A copy that nobody has written to meanwhile? */
static int try_read(md_board_row_t *row, const slot_t *slot)
{
    unsigned int number = atomic_load_explicit(&slot->number, memory_order_acquire);
    apr_uint64_t words[WORDS];
    size_t k;

    for (k = 0; k < WORDS; ++k)
        words[k] = atomic_load_explicit(&slot->words[k], memory_order_acquire);
    memcpy(row, words, sizeof(*row));
    return !(number & 1)
           && number == atomic_load_explicit(&slot->number, memory_order_relaxed);
}

int md_board_read(md_board_row_t *row, const md_board_t *board, int i)
{
    int tries;

    for (tries = 0; i >= 0 && i < board->count && tries < MAX_TRIES; ++tries)
        if (try_read(row, &board->slots[i]))
            return 1;
    memset(row, 0, sizeof(*row));
    return 0;
}

void md_board_raise(md_board_t *board, int i)
{
    if (board && i >= 0 && i < board->count)
        atomic_fetch_add_explicit(&board->slots[i].generation, 1, memory_order_release);
}

unsigned int md_board_generation(const md_board_t *board, int i)
{
    return board && i >= 0 && i < board->count
           ? atomic_load_explicit(&board->slots[i].generation, memory_order_acquire) : 0;
}
