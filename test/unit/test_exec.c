/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that end well, fail, hang, shout, multiply, or are none. Also run under TSan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include "../../md_clock.h"
#include "../../md_event.h"
#include "../../md_exec.h"
#include "../../md_file.h"
#include "../../md_limits.h"
#include "../../md_log.h"
#include "temp_dir.h"

#define LONG apr_time_from_sec(60)

static apr_pool_t *p;
static md_execs_t *execs;
static md_err_t err;
static const char *const NONE[] = { NULL };
static int lines;
static int is_full; /* no more processes */

pid_t fork(void)
{
    pid_t (*next)(void) = (pid_t (*)(void))dlsym(RTLD_NEXT, "fork");

    if (!is_full)
        return next();
    errno = EAGAIN;
    return -1;
}

static int setup(void **state)
{
    (void)state;
    apr_pool_create(&p, NULL);
    md_err_init(&err, p);
    if (temp_dir_make() != 0)
        return -1;
    return md_execs_create(&execs, MD_MAX_COMMANDS, &err, p) == APR_SUCCESS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    md_log_set(NULL, NULL);
    apr_pool_destroy(p);
    return temp_dir_remove();
}

static const char *file(const char *name)
{
    return apr_pstrcat(p, temp_dir, "/", name, NULL);
}

static const char *content(const char *name)
{
    apr_size_t len;
    char *data;

    return md_file_read(&data, &len, AT_FDCWD, file(name), 10000, p) == APR_SUCCESS ? data : "";
}

static md_exec_t *start(const char *script, apr_interval_time_t limit)
{
    const char *argv[] = { "/bin/sh", "-c", script, "sh", temp_dir, NULL };
    md_exec_t *exec = NULL;

    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, limit, &err, p), APR_SUCCESS);
    return exec;
}

static md_exec_end_t finish(md_exec_t *exec)
{
    md_exec_end_t end;
    apr_time_t before;

    while ((end = md_exec_poll(exec)).state == MD_EXEC_RUNS) {
        before = md_clock_steady();
        if (md_exec_look_at(exec) > before)
            md_clock_sleep(md_exec_look_at(exec) - before);
    }
    return end;
}

static void await(const char *name)
{
    while (!*content(name))
        md_clock_sleep(1000);
}

/* Nobody is left, as zombie or otherwise. */
static void assert_childless(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_ends(void **state)
{
    static const struct { const char *script; md_exec_state_t state; int code; } WAYS[] = {
        { "exit 0", MD_EXEC_EXITED, 0 },
        { "exit 3", MD_EXEC_EXITED, 3 },
        { "exit 255", MD_EXEC_EXITED, 255 },
        { "kill -9 $$", MD_EXEC_SIGNALLED, SIGKILL },
        { "kill -15 $$", MD_EXEC_SIGNALLED, SIGTERM },
    };
    md_exec_end_t end;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); ++i) {
        end = finish(start(WAYS[i].script, LONG));
        assert_int_equal(end.state, WAYS[i].state);
        assert_int_equal(end.code, WAYS[i].code);
    }
    assert_childless();
}

static void test_no_command(void **state)
{
    const char *argv[] = { NULL, NULL };
    md_exec_end_t end;
    md_exec_t *exec;
    size_t i;
    const struct { const char *path; int why; } PROGRAMS[] = {
        { "/does/not/exist", ENOENT }, { "sh", ENOENT }, /* PATH is not searched */
        { file("plain"), EACCES }, { temp_dir, EACCES }, { file("text"), ENOEXEC }, { "", ENOENT },
    };
    const md_file_attr_t plain = { .perms = 0x600 }, executable = { .perms = 0x755 };

    (void)state;
    assert_int_equal(md_file_write(AT_FDCWD, file("plain"), &plain, "#!/bin/sh\n", 10, p), 0);
    assert_int_equal(md_file_write(AT_FDCWD, file("text"), &executable, "exit 0\n", 7, p), 0);
    for (i = 0; i < sizeof(PROGRAMS) / sizeof(PROGRAMS[0]); ++i) {
        argv[0] = PROGRAMS[i].path;
        assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, p), APR_SUCCESS);
        end = finish(exec);
        assert_int_equal(end.state, MD_EXEC_UNFIT);
        assert_int_equal(end.code, PROGRAMS[i].why);
    }
    assert_childless();
}

/* Whatever is in an argument stays in it. */
static void test_arguments(void **state)
{
    const char *argv[] = { "/usr/bin/env", "printf", "%s|", "a b", "$(id)", "`id`;'\"\\", "", "*",
                           NULL };
    int keep = dup(STDOUT_FILENO), out = open(file("out"), O_CREAT | O_WRONLY, 0600);
    md_exec_t *exec;

    (void)state;
    dup2(out, STDOUT_FILENO);
    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, p), APR_SUCCESS);
    assert_int_equal(finish(exec).code, 0);
    dup2(keep, STDOUT_FILENO);
    close(keep);
    close(out);
    assert_string_equal(content("out"), "a b|$(id)|`id`;'\"\\||*|");
}

static void test_environment(void **state)
{
    const char *env[] = { "MD_NAME=x.org", "MD_DETAIL=a=b 'c'\"", "MD_OLD", NULL };
    const char *argv[] = { "/bin/sh", "-c", "echo \"$MD_NAME|$MD_DETAIL|${MD_OLD-unset}|$KEPT|"
                           "${MD_OLDER-unset}\" >$0/env; env | grep -c ^MD_NAME= >>$0/env",
                           temp_dir, NULL };
    md_exec_t *exec;

    (void)state;
    setenv("MD_NAME", "inherited", 1);
    setenv("MD_OLD", "inherited", 1);
    setenv("MD_OLDER", "inherited", 1);
    setenv("KEPT", "kept", 1);
    assert_int_equal(md_exec_start(&exec, execs, argv, env, LONG, &err, p), APR_SUCCESS);
    assert_int_equal(finish(exec).code, 0);
    assert_string_equal(content("env"), "x.org|a=b 'c'\"|unset|kept|inherited\n1\n");
}

/* Nothing of ours: files, groups, signals that we block or ignore. */
static void test_inheritance(void **state)
{
    int open_file = open(file("ours"), O_CREAT | O_RDWR, 0600), high = dup2(open_file, 200);
    sigset_t all, before;

    (void)state;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    assert_int_equal(finish(start("for f in /proc/self/fd/*; do f=${f##*/};"
                                  " [ $f -le 2 ] || [ ! -e /proc/$$/fd/$f ] || exit $f; done; "
                                  "read x && exit 90; [ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] || exit 91;"
                                  "grep -E '^Sig(Blk|Ign):.*[1-9a-f]' /proc/self/status && exit 92;"
                                  "exit 0", LONG)).code, 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    close(open_file);
    close(high);
}

static void note_line(const char *where, int line, md_log_level_t level, const char *msg)
{
    (void)where;
    (void)line;
    assert_int_equal(level, MD_LOG_DEBUG);
    assert_true(!strncmp(msg, "cmd(/bin/sh) stderr: ", 21));
    ++lines;
}

static int log_all(md_log_level_t level)
{
    (void)level;
    return 1;
}

static void test_output(void **state)
{
    md_exec_end_t end;

    (void)state;
    md_log_set(note_line, log_all);
    lines = 0;
    end = finish(start("printf 'one\\n\\ntwo\\033[1m\\303\\251' >&2", LONG));
    assert_int_equal(end.code, 0);
    assert_string_equal(end.said, "two?[1m??");
    assert_int_equal(lines, 2);
    /* A megabyte, in lines and as one, does not block it and does not fill the log. */
    lines = 0;
    end = finish(start("yes 'a line of forty characters and some more.' | head -c 1000000 >&2; "
                       "exit 4", LONG));
    assert_int_equal(end.code, 4);
    assert_in_range(lines, 100, MD_MAX_COMMAND_OUTPUT / 40 + 3);
    lines = 0;
    end = finish(start("head -c 1000000 /dev/zero >&2; echo >&2; echo last >&2", LONG));
    assert_int_equal(end.code, 0);
    assert_string_equal(end.said, "last");
    assert_in_range(lines, 10, MD_MAX_COMMAND_OUTPUT / 1000 + 3);
}

static void test_hangs(void **state)
{
    apr_time_t began = md_clock_steady();
    md_exec_end_t end;

    (void)state;
    end = finish(start("sleep 100 & echo $! >$1/child; sleep 100",
                       apr_time_from_msec(200)));
    assert_int_equal(end.state, MD_EXEC_OVERDUE);
    assert_in_range(md_clock_steady() - began, 200000, 1900000);
    /* With all of its group. */
    while (kill(atoi(content("child")), 0) == 0)
        md_clock_sleep(1000);
    assert_childless();
}

static void test_ignores_sigterm(void **state)
{
    apr_time_t began = md_clock_steady();
    md_exec_end_t end;

    (void)state;
    end = finish(start("trap '' TERM; while :; do sleep 1; done", apr_time_from_msec(200)));
    assert_int_equal(end.state, MD_EXEC_OVERDUE);
    assert_in_range(md_clock_steady() - began, 2000000, 5000000);
    assert_childless();
}

/* What it started keeps its files open and lives on; it has ended nevertheless. */
static void test_leaves_a_daemon(void **state)
{
    apr_time_t began = md_clock_steady();
    md_exec_end_t end;

    (void)state;
    end = finish(start("sleep 100 & echo $! >$1/daemon; echo started >&2", LONG));
    assert_int_equal(end.state, MD_EXEC_EXITED);
    assert_int_equal(end.code, 0);
    assert_string_equal(end.said, "started");
    assert_in_range(md_clock_steady() - began, 0, 5000000);
    assert_int_equal(kill(atoi(content("daemon")), 0), 0);
    kill(atoi(content("daemon")), SIGKILL);
}

static void test_many(void **state)
{
    static md_exec_t *all[MD_MAX_COMMANDS];
    const char *argv[] = { "/bin/true", NULL };
    apr_time_t began = md_clock_steady();
    md_exec_t *exec;
    int i;

    (void)state;
    for (i = 0; i < MD_MAX_COMMANDS; ++i)
        all[i] = start(i % 2 ? "exit 7" : "sleep 0.2; exit 7", LONG);
    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, p), APR_EAGAIN);
    for (i = 0; i < MD_MAX_COMMANDS; ++i)
        assert_int_equal(finish(all[i]).code, 7);
    assert_in_range(md_clock_steady() - began, 0, 5000000);
    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, p), APR_SUCCESS);
    assert_int_equal(finish(exec).state, MD_EXEC_EXITED);
    assert_childless();
}

/* Of memory that this process has. */
static long pages(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long all = 0, resident = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &all, &resident), 2);
    fclose(file);
    return resident;
}

/* Thousands may wait until there is a place. */
static void test_waiting_costs_nothing(void **state)
{
    md_event_t event = { .kind = MD_EVENT_ERRORED, .domain = "x.org", .detail = "why",
                         .attempt = 1 };
    md_events_t events = { .message_cmd = "/bin/true", .log = -1, .execs = execs };
    md_telling_t *telling = md_event_tell(&events, &event, p);
    long before;
    int i;

    (void)state;
    for (i = 0; i < MD_MAX_COMMANDS; ++i)
        start("exec sleep 100", LONG);
    before = pages();
    for (i = 0; i < 10000; ++i)
        assert_int_equal(md_event_step(telling, &err), APR_EAGAIN);
    assert_in_range(pages(), 0, before + 1000);
    assert_in_range(md_event_look_at(telling) - md_clock_steady(), 500000, 1000000);
    md_execs_stop(execs, 0);
    assert_int_equal(md_event_step(telling, &err), APR_EINTR);
    assert_childless();
}

/* That is no reason to wait without a word. */
static void test_no_process(void **state)
{
    const char *argv[] = { "/bin/true", NULL };
    apr_status_t rv;
    md_exec_t *exec;

    (void)state;
    is_full = 1;
    rv = md_exec_start(&exec, execs, argv, NONE, LONG, &err, p);
    is_full = 0;
    assert_true(rv != APR_SUCCESS && !APR_STATUS_IS_EAGAIN(rv));
    assert_non_null(strstr(err.detail, "cannot start a process"));
    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, p), APR_SUCCESS);
    assert_int_equal(finish(exec).code, 0);
    assert_childless();
}

static void *APR_THREAD_FUNC run_some(apr_thread_t *thread, void *baton)
{
    const char *argv[] = { "/bin/sh", "-c", "echo x >&2; exit 5", NULL };
    apr_pool_t *own;
    md_exec_t *exec;
    int i;

    (void)thread;
    for (i = 0; i < 10; ++i) {
        apr_pool_create(&own, NULL);
        if (md_exec_start(&exec, execs, argv, NONE, LONG, NULL, own) != APR_SUCCESS
            || finish(exec).code != 5)
            *(int *)baton = 1;
        apr_pool_destroy(own);
    }
    return NULL;
}

static void test_threads(void **state)
{
    apr_thread_t *threads[4];
    int i, failed[4] = { 0 };
    apr_status_t rv;

    (void)state;
    for (i = 0; i < 4; ++i)
        assert_int_equal(apr_thread_create(&threads[i], NULL, run_some, &failed[i], p), 0);
    for (i = 0; i < 4; ++i) {
        apr_thread_join(&rv, threads[i]);
        assert_int_equal(failed[i], 0);
    }
    assert_childless();
}

/* The end of all: who is about to end does so, the others are made to. */
static void test_stop(void **state)
{
    md_exec_t *quick = start("sleep 0.2; exit 6", LONG), *slow, *deaf, *exec;
    apr_time_t began = md_clock_steady();
    const char *argv[] = { "/bin/true", NULL };

    (void)state;
    slow = start("trap 'echo asked >$1/asked; exit 0' TERM; echo x >$1/slow;"
                 "while :; do sleep 0.1; done", LONG);
    deaf = start("trap '' TERM; echo x >$1/deaf; while :; do sleep 1; done", LONG);
    await("slow");
    await("deaf");
    md_execs_stop(execs, apr_time_from_msec(500));
    assert_in_range(md_clock_steady() - began, 900000, 2500000);
    assert_int_equal(md_exec_poll(quick).state, MD_EXEC_EXITED);
    assert_int_equal(md_exec_poll(quick).code, 6);
    assert_int_equal(md_exec_poll(slow).state, MD_EXEC_STOPPED);
    assert_string_equal(content("asked"), "asked\n");
    assert_int_equal(md_exec_poll(deaf).state, MD_EXEC_STOPPED);
    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, p), APR_EINTR);
    assert_childless();
}

static void test_pool_goes_first(void **state)
{
    const char *argv[] = { "/bin/sleep", "100", NULL };
    apr_pool_t *own;
    md_exec_t *exec;

    (void)state;
    apr_pool_create(&own, p);
    assert_int_equal(md_exec_start(&exec, execs, argv, NONE, LONG, &err, own), APR_SUCCESS);
    apr_pool_destroy(own);
    assert_childless();
    md_execs_stop(execs, LONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_command, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inheritance, setup, teardown),
        cmocka_unit_test_setup_teardown(test_output, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ignores_sigterm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves_a_daemon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiting_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_process, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pool_goes_first, setup, teardown),
    };

    apr_initialize();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
