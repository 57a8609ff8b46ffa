/* SPDX-License-Identifier: Apache-2.0 */
/* Logging: format, then hand over. */
#include "md_log.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_MAX_BYTES 4096

static md_log_fn *log_fn;
static md_log_level_fn *level_fn;

void md_log_set(md_log_fn *log, md_log_level_fn *is_level)
{
    log_fn = log;
    level_fn = is_level;
}

int md_log_is(md_log_level_t level)
{
    return log_fn && (!level_fn || level_fn(level));
}

/* What comes from outside may hold anything: a log line is one line of printable text. */
static void make_printable(char *text)
{
    for (; *text; ++text)
        if ((unsigned char)*text < ' ' || *text == 127)
            *text = '?';
}

void md_log_write(const char *file, int line, md_log_level_t level, const char *fmt, ...)
{
    char msg[LINE_MAX_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(msg, sizeof(msg), fmt, args);
    va_end(args);
    make_printable(msg);
    log_fn(file, line, level, msg);
}
