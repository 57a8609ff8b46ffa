/* SPDX-License-Identifier: Apache-2.0 */
/* Logging goes to one callback of whoever hosts the library (httpd, a2md, a test). */
#ifndef MD_LOG_H
#define MD_LOG_H

/* The values are httpd's APLOG_* levels. */
typedef enum {
    MD_LOG_CRIT = 2,
    MD_LOG_ERR = 3,
    MD_LOG_WARNING = 4,
    MD_LOG_NOTICE = 5,
    MD_LOG_INFO = 6,
    MD_LOG_DEBUG = 7,
    MD_LOG_TRACE1 = 8,
    MD_LOG_TRACE3 = 10
} md_log_level_t;

/* httpd's way to number a message: put in front of the format. */
#define MD_LOGNO(n) "AH" #n ": "

/* `msg` is complete, printable, without newline. Called from any thread. There is no status beside
 * it: one that merely classifies a failure would be printed as an error of the system. What the
 * system said is part of the text (md_fail_system, md_err_text). */
typedef void md_log_fn(const char *file, int line, md_log_level_t level, const char *msg);
typedef int md_log_level_fn(md_log_level_t level);

/* Set once before threads start; NULL functions mean silence. */
void md_log_set(md_log_fn *log, md_log_level_fn *is_level);

int md_log_is(md_log_level_t level);

void md_log_write(const char *file, int line, md_log_level_t level, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define md_log(level, ...) \
    do { \
        if (md_log_is(level)) \
            md_log_write(__FILE__, __LINE__, level, __VA_ARGS__); \
    } while (0)

#endif
