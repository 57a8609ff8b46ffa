/* SPDX-License-Identifier: Apache-2.0 */
/* The board: rows that are read while they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../../md_board.c"

#define COUNT   3
#define ROUNDS  100000
#define READERS 3

static md_board_t *board;
static atomic_int is_over; /* nobody reads any more */

static int make(void **state)
{
    (void)state;
    board = md_board_make(malloc(md_board_size(COUNT)), COUNT);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    free(board);
    return 0;
}

/* All of it says the same. */
static md_board_row_t row_of(int n)
{
    md_board_row_t row;

    memset(&row, 0, sizeof(row));
    row.errors = row.status = n;
    row.last_run = row.next_run = row.renew_at = n;
    memset(row.problem, 'a' + n % 26, sizeof(row.problem) - 1);
    memset(row.detail, 'a' + n % 26, sizeof(row.detail) - 1);
    return row;
}

static int is_whole(const md_board_row_t *row)
{
    md_board_row_t same = row_of(row->errors);

    return !memcmp(row, &same, sizeof(same));
}

static void rows_are_apart(void **state)
{
    md_board_row_t row, first = row_of(1), last = row_of(2), empty;

    (void)state;
    memset(&empty, 0, sizeof(empty));
    md_board_write(board, 0, &first);
    md_board_write(board, COUNT - 1, &last);
    assert_true(md_board_read(&row, board, 0));
    assert_memory_equal(&row, &first, sizeof(row));
    assert_true(md_board_read(&row, board, 1));
    assert_memory_equal(&row, &empty, sizeof(row));
    assert_true(md_board_read(&row, board, COUNT - 1));
    assert_memory_equal(&row, &last, sizeof(row));
}

static void there_is_no_such_row(void **state)
{
    md_board_row_t row = row_of(1);

    (void)state;
    assert_false(md_board_read(&row, board, -1));
    assert_false(md_board_read(&row, board, COUNT));
    assert_int_equal(row.errors, 0);
}

/* Readers do without what a process left that was ended; the next writer is not kept from writing. */
static void a_writer_that_was_ended(void **state)
{
    md_board_row_t row = row_of(1);

    (void)state;
    md_board_write(board, 0, &row);
    atomic_fetch_add(&board->slots[0].number, 1);
    assert_false(md_board_read(&row, board, 0));
    assert_int_equal(row.errors, 0);
    row = row_of(2);
    md_board_write(board, 0, &row);
    assert_true(md_board_read(&row, board, 0));
    assert_int_equal(row.errors, 2);
}

static void *write_all(void *data)
{
    md_board_row_t row;
    int n;

    for (n = 1; !atomic_load(&is_over); ++n) {
        row = row_of(n);
        md_board_write(board, n % 2, &row);
    }
    return data;
}

static void *read_all(void *ptorn)
{
    md_board_row_t row;
    int n, last = 0;

    for (n = 0; n < ROUNDS; ++n) {
        if (!md_board_read(&row, board, 1))
            continue;
        if ((row.errors && !is_whole(&row)) || row.errors < last)
            ++*(int *)ptorn;
        last = row.errors;
    }
    return NULL;
}

static void nobody_sees_halves(void **state)
{
    pthread_t writer, readers[READERS];
    int torn[READERS] = { 0 }, i;

    (void)state;
    for (i = 0; i < READERS; ++i)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all, &torn[i]), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, NULL), 0);
    for (i = 0; i < READERS; ++i)
        pthread_join(readers[i], NULL);
    atomic_store(&is_over, 1);
    pthread_join(writer, NULL);
    for (i = 0; i < READERS; ++i)
        assert_int_equal(torn[i], 0);
}

/* Each has its own, and writing a row does not change it. */
static void generations(void **state)
{
    md_board_row_t row = row_of(1);

    (void)state;
    md_board_raise(board, 1);
    md_board_raise(board, 1);
    md_board_write(board, 1, &row);
    assert_int_equal(md_board_generation(board, 0), 0);
    assert_int_equal(md_board_generation(board, 1), 2);
    md_board_raise(board, -1);
    md_board_raise(board, COUNT);
    md_board_raise(NULL, 0);
    assert_int_equal(md_board_generation(board, -1), 0);
    assert_int_equal(md_board_generation(board, COUNT), 0);
    assert_int_equal(md_board_generation(NULL, 0), 0);
    assert_true(md_board_read(&row, board, 1) && is_whole(&row));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_are_apart), TEST(there_is_no_such_row), TEST(a_writer_that_was_ended),
        TEST(nobody_sees_halves), TEST(generations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
