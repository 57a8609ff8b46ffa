/* SPDX-License-Identifier: Apache-2.0 */
/* How far the renewal of each domain is, in memory that all processes of a server share: a row for
 * each, with one writer (the engine) and any number of readers, who neither lock nor see halves. */
#ifndef MD_BOARD_H
#define MD_BOARD_H

#include "md_time.h"

typedef enum {
    MD_PHASE_UNKNOWN,  /* the engine has not looked since the start */
    MD_PHASE_QUIET,    /* there is no record of a renewal */
    MD_PHASE_WAITING,  /* for the next attempt */
    MD_PHASE_RUNNING,
    MD_PHASE_READY     /* a new set waits to be put into service */
} md_phase_t;

/* Plain data, as it is copied between processes. */
typedef struct md_board_row_t {
    md_phase_t phase;              /* of its renewal */
    int has_advice;                /* of its CA, in the store */
    int errors;                    /* failed attempts in a row */
    apr_time_t last_run, next_run; /* 0: not known */
    apr_time_t renew_at;           /* when a renewal is due as the engine sees it, 0: not known */
    int status;                    /* of the latest step, 0: it went well */
    char problem[96], detail[160]; /* that it met, in short; "" for none */
} md_board_row_t;

typedef struct md_board_t md_board_t;

/* Bytes that a board of so many rows takes. */
apr_size_t md_board_size(int count);

/* A board in that much memory, all rows empty. Before others know of it. */
md_board_t *md_board_make(void *memory, int count);

/* One writer at a time for a row. If one was ended in the middle, the next one makes it whole. */
void md_board_write(md_board_t *board, int i, const md_board_row_t *row);

/* The generation of what is in service of a domain: raised when it becomes another, by whoever puts
 * that there. A hint that tells others to look, no more. 0 without a board. */
void md_board_raise(md_board_t *board, int i);
unsigned int md_board_generation(const md_board_t *board, int i);

/* 0: its writer is at it all the time, or was ended in the middle; *row is empty then. */
int md_board_read(md_board_row_t *row, const md_board_t *board, int i);

#endif
