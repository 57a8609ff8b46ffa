/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: start, output, end. */
#include "md_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_strings.h>
#include <apr_tables.h>

#include "md_clock.h"
#include "md_limits.h"
#include "md_log.h"

#define LOOK_FIRST  apr_time_from_msec(2)
#define LOOK_LAST   apr_time_from_msec(100)
#define KILL_AFTER  apr_time_from_sec(2)   /* of being asked to end */
#define STOP_AFTER  apr_time_from_msec(500) /* the same, when all are stopped */
#define READ_MOST   (1024 * 1024)          /* bytes at a time */
#define LINE_MOST   1023
#define LOWEST_FILE 10                     /* of ours: out of the way of a command's own */
#define MOST_FILES  65536

extern char **environ;

struct md_exec_t {
    md_execs_t *execs;
    md_exec_t *next, **link;  /* in the list of those that run */
    const char *program;
    pid_t pid;                /* and process group */
    int output;               /* its standard error, -1: over */
    int fault;                /* where it tells why it cannot be executed */
    apr_time_t deadline, kill_at; /* steady */
    apr_time_t look_at;
    apr_interval_time_t pause;
    apr_size_t logged;        /* bytes of output */
    char line[LINE_MOST + 1]; /* that is not complete */
    apr_size_t len;
    char said[LINE_MOST + 1];
    int is_overdue, is_stopped;
    md_exec_end_t end;
};

struct md_execs_t {
    int most;                 /* that run at the same time */
    pthread_mutex_t mutex;    /* guards all below, and who runs */
    md_exec_t *list;
    int count;
    int is_stopping;
};

static void lock(md_execs_t *execs)
{
    pthread_mutex_lock(&execs->mutex);
}

static void unlock(md_execs_t *execs)
{
    pthread_mutex_unlock(&execs->mutex);
}

static apr_status_t destroy_mutex(void *mutex)
{
    pthread_mutex_destroy(mutex);
    return APR_SUCCESS;
}

apr_status_t md_execs_create(md_execs_t **pexecs, int most, md_err_t *err, apr_pool_t *p)
{
    md_execs_t *execs = apr_pcalloc(p, sizeof(*execs));
    int rc = pthread_mutex_init(&execs->mutex, NULL);

    if (rc)
        return md_fail_system(err, rc, "cannot create a mutex for commands");
    apr_pool_cleanup_register(p, &execs->mutex, destroy_mutex, apr_pool_cleanup_null);
    execs->most = most;
    *pexecs = execs;
    return APR_SUCCESS;
}

/* ---- start ---- */

static void close_both(const int ends[2])
{
    if (ends[0] >= 0)
        close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
}

/* Out of the way of the files 0 to 2, not inherited, and never waited for by us. */
static int make_pipe(int ends[2])
{
    int low[2] = { -1, -1 };

    if (pipe2(low, O_CLOEXEC) != 0)
        return errno;
    ends[0] = fcntl(low[0], F_DUPFD_CLOEXEC, LOWEST_FILE);
    ends[1] = fcntl(low[1], F_DUPFD_CLOEXEC, LOWEST_FILE);
    close_both(low);
    if (ends[0] < 0 || ends[1] < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        close_both(ends);
        return EMFILE;
    }
    return 0;
}

static int is_replaced(const char *entry, const char *const *env)
{
    apr_size_t len;

    for (; *env; ++env) {
        len = strcspn(*env, "=");
        if (!strncmp(entry, *env, len) && entry[len] == '=')
            return 1;
    }
    return 0;
}

static char **environment(const char *const *env, apr_pool_t *p)
{
    apr_array_header_t *list = apr_array_make(p, 64, sizeof(char *));
    char **entry;

    for (entry = environ; entry && *entry; ++entry)
        if (!is_replaced(*entry, env))
            APR_ARRAY_PUSH(list, char *) = *entry;
    for (; *env; ++env)
        if (strchr(*env, '='))
            APR_ARRAY_PUSH(list, char *) = apr_pstrdup(p, *env);
    APR_ARRAY_PUSH(list, char *) = NULL;
    return (char **)list->elts;
}

static char **arguments(const char *const *argv, apr_pool_t *p)
{
    apr_array_header_t *list = apr_array_make(p, 8, sizeof(char *));

    for (; *argv; ++argv)
        APR_ARRAY_PUSH(list, char *) = apr_pstrdup(p, *argv);
    APR_ARRAY_PUSH(list, char *) = NULL;
    return (char **)list->elts;
}

/* What the new process works with: all of it is made before the fork. */
typedef struct birth_t {
    char **argv, **env;
    int output, fault; /* our ends of pipes */
    int most_files;
} birth_t;

/* Where the system has no call for it, one by one. Nothing but calls that are safe in a process of
 * many threads that has just forked. */
static void close_files(int first, int most)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned int)first, ~0U, 0U) == 0)
        return;
#endif
    for (; first < most; ++first)
        close(first);
}

static void reset_signals(void)
{
    sigset_t none;
    int number;

    for (number = 1; number < NSIG; ++number)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The new process, in which nothing but async-signal-safe calls are made: other threads of ours
 * may have held any lock. */
static void become(const birth_t *birth)
{
    int null, why;

    setpgid(0, 0);
    reset_signals();
    null = open("/dev/null", O_RDWR);
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(birth->output, STDERR_FILENO) >= 0
        && dup2(birth->fault, STDERR_FILENO + 1) >= 0
        && fcntl(STDERR_FILENO + 1, F_SETFD, FD_CLOEXEC) == 0) {
        close_files(STDERR_FILENO + 2, birth->most_files);
        execve(birth->argv[0], birth->argv, birth->env);
    }
    why = errno;
    (void)!write(STDERR_FILENO + 1, &why, sizeof(why));
    _exit(255);
}

static int most_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > MOST_FILES)
        return MOST_FILES;
    return (int)limit.rlim_cur;
}

/* 0 or an errno. */
static int give_birth(md_exec_t *exec, birth_t *birth)
{
    int output[2] = { -1, -1 }, fault[2] = { -1, -1 }, rc;

    rc = make_pipe(output);
    if (rc == 0 && (rc = make_pipe(fault)) != 0)
        close_both(output);
    if (rc != 0)
        return rc;
    birth->output = output[1];
    birth->fault = fault[1];
    exec->pid = fork();
    if (exec->pid == 0)
        become(birth);
    rc = errno;
    close(output[1]);
    close(fault[1]);
    if (exec->pid < 0) {
        close(output[0]);
        close(fault[0]);
        return rc;
    }
    setpgid(exec->pid, exec->pid); /* whoever is first */
    exec->output = output[0];
    exec->fault = fault[0];
    return 0;
}

/* Called locked. */
static void enlist(md_execs_t *execs, md_exec_t *exec)
{
    exec->next = execs->list;
    exec->link = &execs->list;
    if (exec->next)
        exec->next->link = &exec->next;
    execs->list = exec;
    ++execs->count;
}

/* Called locked. */
static void strike(md_exec_t *exec)
{
    *exec->link = exec->next;
    if (exec->next)
        exec->next->link = exec->link;
    --exec->execs->count;
}

static apr_status_t kill_with_pool(void *baton);

/* Called locked. */
static apr_status_t begin(md_exec_t *exec, const char *const *argv, const char *const *env,
                          apr_interval_time_t limit, md_err_t *err, apr_pool_t *p)
{
    birth_t birth = { .argv = arguments(argv, p), .env = environment(env, p),
                      .most_files = most_files() };
    apr_time_t steady = md_clock_steady();
    int rc;

    exec->program = birth.argv[0];
    exec->deadline = steady + limit;
    exec->pause = LOOK_FIRST;
    exec->look_at = steady + LOOK_FIRST;
    rc = give_birth(exec, &birth);
    if (rc == EAGAIN) /* fork(2): to be told, unlike a place that is soon to be had */
        return md_fail(err, APR_ENOMEM, "cannot start a process: the limit on processes has been "
                       "reached");
    if (rc != 0)
        return md_fail_system(err, rc, "cannot start a process");
    enlist(exec->execs, exec);
    return APR_SUCCESS;
}

apr_status_t md_exec_start(md_exec_t **pexec, md_execs_t *execs, const char *const *argv,
                           const char *const *env, apr_interval_time_t limit, md_err_t *err,
                           apr_pool_t *p)
{
    apr_status_t rv = APR_SUCCESS;
    md_exec_t *exec = NULL;

    lock(execs);
    if (execs->is_stopping)
        rv = APR_EINTR;
    else if (execs->count >= execs->most)
        rv = APR_EAGAIN;
    if (rv == APR_SUCCESS) {
        exec = apr_pcalloc(p, sizeof(*exec));
        exec->execs = execs;
        rv = begin(exec, argv, env, limit, err, p);
    }
    unlock(execs);
    if (rv != APR_SUCCESS)
        return rv;
    apr_pool_cleanup_register(p, exec, kill_with_pool, apr_pool_cleanup_null);
    *pexec = exec;
    return APR_SUCCESS;
}

/* ---- output ---- */

/* No pool is used here, as the pool of a command may be in use by another thread. */
static void end_line(md_exec_t *exec)
{
    int is_logged = exec->logged < MD_MAX_COMMAND_OUTPUT;

    if (exec->len == 0)
        return;
    exec->line[exec->len] = '\0';
    memcpy(exec->said, exec->line, exec->len + 1);
    if (is_logged)
        md_log(MD_LOG_DEBUG, "cmd(%s) stderr: %s", exec->program, exec->line);
    exec->logged += exec->len;
    if (is_logged && exec->logged >= MD_MAX_COMMAND_OUTPUT)
        md_log(MD_LOG_DEBUG, "cmd(%s) stderr: what follows is not logged", exec->program);
    exec->len = 0;
}

static void take_output(md_exec_t *exec, const char *data, apr_size_t len)
{
    apr_size_t i;

    for (i = 0; i < len; ++i) {
        if (data[i] == '\n' || exec->len == LINE_MOST)
            end_line(exec);
        if (data[i] != '\n')
            exec->line[exec->len++] = data[i] >= ' ' && data[i] <= '~' ? data[i] : '?';
    }
}

/* What is there, and no more than that. Returns whether there was anything. */
static int read_output(md_exec_t *exec)
{
    apr_size_t all = 0;
    char data[4096];
    ssize_t n = -1;

    while (exec->output >= 0 && all < READ_MOST) {
        n = read(exec->output, data, sizeof(data));
        if (n <= 0)
            break;
        take_output(exec, data, (apr_size_t)n);
        all += (apr_size_t)n;
    }
    if (exec->output >= 0 && n == 0) {
        close(exec->output);
        exec->output = -1;
    }
    return all > 0;
}

/* ---- end ---- */

static void send_signal(const md_exec_t *exec, int number)
{
    kill(-exec->pid, number);
}

/* How it ended, by its own account. */
static void read_end(md_exec_t *exec, int status)
{
    int why;

    exec->end.state = WIFSIGNALED(status) ? MD_EXEC_SIGNALLED : MD_EXEC_EXITED;
    exec->end.code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    if (read(exec->fault, &why, sizeof(why)) == sizeof(why)) {
        exec->end.state = MD_EXEC_UNFIT;
        exec->end.code = why;
    }
    if (exec->is_overdue)
        exec->end.state = MD_EXEC_OVERDUE;
    else if (exec->is_stopped)
        exec->end.state = MD_EXEC_STOPPED;
}

static void bury(md_exec_t *exec)
{
    strike(exec);
    close(exec->fault);
    if (exec->output >= 0)
        close(exec->output);
    exec->output = -1;
}

/* Has it ended? As long as it is not reaped, its number is nobody else's: so what is left of the
 * group of one that we ended is killed before that. Called locked. */
static int reap(md_exec_t *exec)
{
    siginfo_t info = { .si_pid = 0 };
    int status = 0;

    if (exec->end.state != MD_EXEC_RUNS)
        return 1;
    if (waitid(P_PID, (id_t)exec->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0
        && info.si_pid == 0)
        return 0;
    if (exec->is_overdue || exec->is_stopped)
        kill(-exec->pid, SIGKILL);
    if (waitpid(exec->pid, &status, 0) < 0)
        status = 255 << 8; /* somebody else knows */
    (void)read_output(exec);
    end_line(exec);
    read_end(exec, status);
    bury(exec);
    return 1;
}

static void enforce_limit(md_exec_t *exec, apr_time_t steady)
{
    if (steady >= exec->deadline && !exec->is_overdue) {
        exec->is_overdue = 1;
        exec->kill_at = steady + KILL_AFTER;
        send_signal(exec, SIGTERM);
    }
    else if (exec->is_overdue && steady >= exec->kill_at) {
        send_signal(exec, SIGKILL);
    }
}

/* Soon after something happened, later and later while nothing does. */
static void plan_look(md_exec_t *exec, int was_busy, apr_time_t steady)
{
    apr_time_t limit = exec->is_overdue ? exec->kill_at : exec->deadline;

    exec->pause = was_busy ? LOOK_FIRST : exec->pause * 2;
    if (exec->pause > LOOK_LAST)
        exec->pause = LOOK_LAST;
    exec->look_at = steady + exec->pause;
    if (limit > steady && limit < exec->look_at)
        exec->look_at = limit;
}

md_exec_end_t md_exec_poll(md_exec_t *exec)
{
    apr_time_t steady = md_clock_steady();
    md_exec_end_t end;
    int was_busy;

    lock(exec->execs);
    if (exec->end.state == MD_EXEC_RUNS) {
        was_busy = read_output(exec);
        if (!reap(exec))
            enforce_limit(exec, steady);
        plan_look(exec, was_busy, steady);
    }
    end = exec->end;
    end.said = exec->said;
    unlock(exec->execs);
    return end;
}

apr_time_t md_exec_look_at(const md_exec_t *exec)
{
    return exec->look_at;
}

static apr_status_t kill_with_pool(void *baton)
{
    md_exec_t *exec = baton;

    lock(exec->execs);
    if (exec->end.state == MD_EXEC_RUNS) {
        send_signal(exec, SIGKILL);
        (void)waitpid(exec->pid, NULL, 0);
        bury(exec);
    }
    unlock(exec->execs);
    return APR_SUCCESS;
}

/* ---- all of them ---- */

/* Reap whoever has ended; is anybody left? */
static int reap_all(md_execs_t *execs)
{
    md_exec_t *exec, *next;
    int is_left;

    lock(execs);
    for (exec = execs->list; exec; exec = next) {
        next = exec->next;
        (void)read_output(exec);
        (void)reap(exec);
    }
    is_left = execs->list != NULL;
    unlock(execs);
    return is_left;
}

static int wait_for_all(md_execs_t *execs, apr_interval_time_t time)
{
    apr_time_t end = md_clock_steady() + time;

    while (reap_all(execs)) {
        if (md_clock_steady() >= end)
            return 0;
        md_clock_sleep(LOOK_FIRST);
    }
    return 1;
}

static void signal_all(md_execs_t *execs, int number)
{
    md_exec_t *exec;

    lock(execs);
    for (exec = execs->list; exec; exec = exec->next) {
        exec->is_stopped = 1;
        send_signal(exec, number);
    }
    unlock(execs);
}

void md_execs_stop(md_execs_t *execs, apr_interval_time_t grace)
{
    lock(execs);
    execs->is_stopping = 1;
    unlock(execs);
    if (wait_for_all(execs, grace))
        return;
    signal_all(execs, SIGTERM);
    if (wait_for_all(execs, STOP_AFTER))
        return;
    signal_all(execs, SIGKILL);
    (void)wait_for_all(execs, STOP_AFTER);
}
