/* SPDX-License-Identifier: Apache-2.0 */
/* Readers: the processes, what comes through their pipes, and what becomes of those that fail. */
#include "md_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <apr_strings.h>

#include "md_clock.h"
#include "md_limits.h"

#define MANY        16   /* items that are worth a process */
#define GROUPS_MOST 1024
#define TICK        100  /* milliseconds */
#define END_WAIT    apr_time_from_msec(100)
#define END_PAUSE   apr_time_from_msec(1)
#define NO_RIGHTS   99   /* exit code: they could not be given up */

/* What precedes a record in the pipe. */
typedef struct head_t {
    apr_uint32_t item, len;
} head_t;

typedef struct reader_t {
    pid_t pid;
    int pipe;                   /* -1: it has ended */
    int item;                   /* whose record is next */
    head_t head;
    apr_size_t got;             /* bytes of head and record */
    char *record;               /* in `pool` */
    apr_interval_time_t waited; /* for this record */
    apr_pool_t *pool;
} reader_t;

struct md_readers_t {
    md_reading_t reading;
    md_rights_t rights;
    reader_t *readers;
    int stride;                 /* readers there are: one has each stride-th item */
    pid_t parent;
    gid_t groups[GROUPS_MOST];
    int group_count;
    apr_interval_time_t lost;   /* by readers that failed */
    apr_pool_t *p;
};

typedef struct md_readers_t run_t;

/* ---- the reader ---- */

/* For good: what is saved of them goes, too. */
static int give_up_rights(const run_t *run)
{
    const md_rights_t *rights = &run->rights;

    if (geteuid() != 0)
        return rights->uid == geteuid();
    return setgroups((size_t)run->group_count, run->groups) == 0 && setgid(rights->gid) == 0
           && setuid(rights->uid) == 0
           && (rights->uid == 0 || (setuid(0) != 0 && seteuid(0) != 0 && geteuid() == rights->uid));
}

/* Nobody needs it without who started it. */
static void end_with(pid_t parent)
{
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (getppid() != parent)
        _exit(1);
}

static void send_all(int fd, const void *data, apr_size_t len)
{
    const char *at = data;
    ssize_t n;

    while (len > 0) {
        n = write(fd, at, len);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0) {
            at += n;
            len -= (apr_size_t)n;
        }
    }
}

static void send_record(int fd, const md_reading_t *reading, int item, apr_pool_t *p)
{
    const char *record = reading->read(reading->baton, item, p);
    head_t head = { .item = (apr_uint32_t)item, .len = (apr_uint32_t)strlen(record) };

    send_all(fd, &head, sizeof(head));
    send_all(fd, record, head.len);
}

static void be_reader(const run_t *run, int fd, int item, pid_t parent)
{
    static const int SIGNALS[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD };
    apr_pool_t *p;
    size_t i;

    for (i = 0; i < sizeof(SIGNALS) / sizeof(SIGNALS[0]); ++i)
        signal(SIGNALS[i], SIG_DFL);
    if (!give_up_rights(run))
        _exit(NO_RIGHTS);
    end_with(parent);
    apr_pool_create(&p, run->p);
    for (; item < run->reading.count; item += run->stride) {
        apr_pool_clear(p);
        send_record(fd, &run->reading, item, p);
    }
    _exit(0);
}

/* ---- its beginning ---- */

static void await_record(reader_t *reader)
{
    apr_pool_clear(reader->pool);
    reader->record = NULL;
    reader->got = 0;
    reader->waited = 0;
}

static void close_pipes(const run_t *run)
{
    int i;

    for (i = 0; i < run->stride; ++i)
        if (run->readers[i].pipe >= 0)
            close(run->readers[i].pipe);
}

/* 0 or an errno. */
static int begin(run_t *run, reader_t *reader)
{
    pid_t parent = getpid();
    int ends[2], rc;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    reader->pid = fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 ? fork() : -1;
    if (reader->pid == 0) {
        close(ends[0]);
        close_pipes(run);
        be_reader(run, ends[1], reader->item, parent);
    }
    rc = errno;
    close(ends[1]);
    if (reader->pid < 0) {
        close(ends[0]);
        return rc;
    }
    reader->pipe = ends[0];
    await_record(reader);
    return 0;
}

/* ---- its end ---- */

/* Returns how it ended, if it does by itself within `patience`. */
static int end(reader_t *reader, apr_interval_time_t patience)
{
    apr_time_t until = md_clock_steady() + patience;
    int status = 0;
    pid_t pid;

    close(reader->pipe);
    reader->pipe = -1;
    while ((pid = waitpid(reader->pid, &status, WNOHANG)) == 0 && md_clock_steady() < until)
        md_clock_sleep(END_PAUSE);
    if (pid != 0)
        return pid == reader->pid ? status : 0;
    kill(reader->pid, SIGKILL);
    do
        pid = waitpid(reader->pid, NULL, 0);
    while (pid < 0 && errno == EINTR);
    return 0;
}

static void tell(const run_t *run, reader_t *reader, const char *why)
{
    run->reading.take(run->reading.baton, reader->item, NULL, 0, why, reader->pool);
    reader->item += run->stride;
}

static void give_up(const run_t *run, reader_t *reader, const char *why)
{
    while (reader->item < run->reading.count)
        tell(run, reader, why);
}

/* Begin, or begin again behind an item that it failed with. */
static void go_on(run_t *run, reader_t *reader)
{
    int rc;

    if (reader->item >= run->reading.count)
        return;
    rc = begin(run, reader);
    if (rc != 0)
        give_up(run, reader, apr_psprintf(reader->pool, "there is no process to read it: %s",
                                          md_err_text(rc, reader->pool)));
}

/* `why` is NULL when it has ended by itself. */
static void lose(run_t *run, reader_t *reader, const char *why)
{
    int status = end(reader, why ? 0 : END_WAIT);

    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_RIGHTS) {
        give_up(run, reader, "the process that reads it could not give up the rights of root");
        return;
    }
    if (!why && WIFSIGNALED(status))
        why = apr_psprintf(reader->pool, "the process that read it was ended by signal %d",
                           WTERMSIG(status));
    why = why ? why : "the process that read it has ended early";
    tell(run, reader, why);
    run->lost += reader->waited;
    if (run->reading.is_one)
        give_up(run, reader, why);
    else if (run->lost > MD_MAX_READ_LOST)
        give_up(run, reader, "reading others took too long");
    else
        go_on(run, reader);
}

/* ---- what it sends ---- */

typedef enum { WHOLE, PARTIAL, OVER, FOUL } receipt_t;

/* More of the head, or of the record behind it, which is in memory as soon as its length is
 * known. */
static receipt_t receive(const run_t *run, reader_t *reader)
{
    apr_size_t got = reader->got;
    ssize_t n;

    if (got < sizeof(head_t))
        n = read(reader->pipe, (char *)&reader->head + got, sizeof(head_t) - got);
    else
        n = read(reader->pipe, reader->record + (got - sizeof(head_t)),
                 reader->head.len - (got - sizeof(head_t)));
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? PARTIAL : OVER;
    reader->got += (apr_size_t)n;
    if (reader->got != sizeof(head_t))
        return reader->got < sizeof(head_t) + reader->head.len ? PARTIAL : WHOLE;
    if (reader->head.item != (apr_uint32_t)reader->item || reader->head.len > MD_MAX_RECORD
        || reader->item >= run->reading.count)
        return FOUL;
    reader->record = apr_pcalloc(reader->pool, (apr_size_t)reader->head.len + 1);
    return reader->head.len == 0 ? WHOLE : PARTIAL;
}

/* All that is there of one record; there may be more. */
static void listen_to(run_t *run, reader_t *reader)
{
    apr_size_t before;
    receipt_t receipt;

    do {
        before = reader->got;
        receipt = receive(run, reader);
    } while (receipt == PARTIAL && reader->got > before);
    if (receipt == OVER)
        lose(run, reader, NULL);
    else if (receipt == FOUL)
        lose(run, reader, "what the process that read it sent is no record");
    if (receipt != WHOLE)
        return;
    run->reading.take(run->reading.baton, reader->item, reader->record, reader->head.len, NULL,
                       reader->pool);
    reader->item += run->stride;
    await_record(reader);
    if (reader->item >= run->reading.count)
        (void)end(reader, 0);
}

/* Time in which we did not wait is not theirs. */
static void await(run_t *run, struct pollfd *files)
{
    apr_time_t begun = md_clock_steady();
    apr_interval_time_t waited;
    reader_t *reader;
    int i;

    for (i = 0; i < run->stride; ++i)
        files[i] = (struct pollfd){ .fd = run->readers[i].pipe, .events = POLLIN };
    if (poll(files, (nfds_t)run->stride, TICK) < 0)
        return;
    waited = md_clock_steady() - begun;
    for (i = 0; i < run->stride; ++i) {
        reader = &run->readers[i];
        if (reader->pipe < 0)
            continue;
        reader->waited += waited;
        if (files[i].revents)
            listen_to(run, reader);
        if (reader->pipe >= 0 && !run->reading.is_one && reader->waited > MD_MAX_READ_TIME)
            lose(run, reader, "the process that read it took too long");
    }
}

static int is_busy(const run_t *run)
{
    int i;

    for (i = 0; i < run->stride; ++i)
        if (run->readers[i].pipe >= 0)
            return 1;
    return 0;
}

/* ---- all of them ---- */

/* Those of the user, as the server's children have them. */
static void find_groups(run_t *run)
{
    const md_rights_t *rights = &run->rights;
    const struct passwd *user = getpwuid(rights->uid);

    run->group_count = GROUPS_MOST;
    if (user && getgrouplist(user->pw_name, rights->gid, run->groups, &run->group_count) >= 0)
        return;
    run->groups[0] = rights->gid;
    run->group_count = 1;
}

static int reader_count(const md_reading_t *reading)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int most = processors < 1 ? 1 : processors > MD_MAX_READERS ? MD_MAX_READERS : (int)processors;
    int wanted = reading->is_one ? 1 : (reading->count + MANY - 1) / MANY;

    return wanted < most ? wanted : most;
}

/* Those that nobody waits for any more; not in a process that was forked from ours. */
static apr_status_t end_all(void *baton)
{
    run_t *run = baton;
    int i;

    for (i = 0; i < run->stride && run->parent == getpid(); ++i)
        if (run->readers[i].pipe >= 0)
            (void)end(&run->readers[i], 0);
    return APR_SUCCESS;
}

static void start_all(run_t *run)
{
    int i;

    find_groups(run);
    run->readers = apr_pcalloc(run->p, sizeof(reader_t) * (apr_size_t)run->stride);
    for (i = 0; i < run->stride; ++i) {
        run->readers[i].pipe = -1;
        run->readers[i].item = i;
        apr_pool_create(&run->readers[i].pool, run->p);
    }
    apr_pool_cleanup_register(run->p, run, end_all, apr_pool_cleanup_null);
    for (i = 0; i < run->stride; ++i)
        go_on(run, &run->readers[i]);
}

static void read_here(const md_reading_t *reading, apr_pool_t *p)
{
    char *record;
    int i;

    for (i = 0; i < reading->count; ++i) {
        apr_pool_clear(p);
        record = reading->read(reading->baton, i, p);
        reading->take(reading->baton, i, record, strlen(record), NULL, p);
    }
}

md_readers_t *md_reader_start(const md_reading_t *reading, apr_pool_t *p)
{
    run_t *run = apr_pcalloc(p, sizeof(*run));

    run->reading = *reading;
    run->parent = getpid();
    apr_pool_create(&run->p, p);
    if (!reading->rights) {
        read_here(reading, run->p);
        return run;
    }
    run->rights = *reading->rights;
    run->stride = reader_count(reading);
    if (reading->count > 0)
        start_all(run);
    return run;
}

void md_reader_finish(md_readers_t *readers)
{
    run_t *run = readers;
    struct pollfd *files = apr_pcalloc(run->p, sizeof(*files) * (apr_size_t)(run->stride + 1));

    while (is_busy(run))
        await(run, files);
    apr_pool_destroy(run->p);
}

void md_reader_run(const md_reading_t *reading, apr_pool_t *p)
{
    md_reader_finish(md_reader_start(reading, p));
}
