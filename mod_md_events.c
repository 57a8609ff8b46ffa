/* SPDX-License-Identifier: Apache-2.0 */
/* Who is told of events, as it is configured; and the process that tells, as the user who starts
 * the server, of what a start put into service. */
#include "mod_md.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_portable.h>
#include <apr_signal.h>
#include <apr_thread_proc.h>

#include <ap_listen.h>
#include <http_log.h>

#include "md_clock.h"
#include "md_installed.h"
#include "md_limits.h"

APLOG_USE_MODULE(md);

#define END_WAIT  apr_time_from_sec(2)
#define END_PAUSE apr_time_from_msec(10)

/* The process that tells what is installed. */
typedef struct teller_t {
    apr_proc_t proc; /* pid 0: it has ended */
    pid_t parent;
} teller_t;

/* Root opens it, as children may not. It is reopened with each reading of the configuration, so
 * that log rotation works. */
static int open_log(const char *path, const server_rec *s, apr_pool_t *p)
{
    apr_status_t rv;
    apr_os_file_t fd;
    apr_file_t *file;

    rv = apr_file_open(&file, path, APR_FOPEN_WRITE | APR_FOPEN_APPEND | APR_FOPEN_CREATE,
                       APR_FPROT_OS_DEFAULT, p);
    if (rv == APR_SUCCESS && apr_os_file_get(&fd, file) == APR_SUCCESS)
        return fd;
    ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "MDEventLog %s cannot be opened, so no events will "
                 "be written to it", path);
    return -1;
}

apr_status_t mod_md_events_make(md_reg_t *reg, const char *store_dir, const server_rec *s,
                                md_err_t *err, apr_pool_t *p)
{
    md_events_t *events = apr_pcalloc(p, sizeof(*events));
    apr_status_t rv;

    events->message_cmd = reg->conf->message_cmd;
    events->notify_cmd = reg->conf->notify_cmd;
    events->store_dir = store_dir;
    events->log = -1;
    if (reg->conf->event_log && !reg->is_dry_run)
        events->log = open_log(reg->conf->event_log, s, p);
    reg->events = events;
    rv = md_execs_create(&events->execs, MD_MAX_COMMANDS, err, p);
    return rv == APR_SUCCESS ? md_execs_create(&reg->dns_execs, MD_MAX_DNS_COMMANDS, err, p) : rv;
}

/* ---- the process that tells what is installed ---- */

static volatile sig_atomic_t is_told_to_end;

static void note_end(int number)
{
    (void)number;
    is_told_to_end = 1;
}

/* Of signals that the parent has for its group, it heeds the one that ends all. */
static void be_teller(const md_reg_t *reg, apr_pool_t *p)
{
    apr_signal(SIGTERM, note_end);
    apr_signal(SIGINT, note_end);
    apr_signal(SIGHUP, SIG_IGN);
    apr_signal(SIGUSR1, SIG_IGN);
    apr_signal(SIGWINCH, SIG_IGN);
    apr_signal(SIGCHLD, SIG_DFL);
    ap_close_listeners();
    md_installed_tell(reg, &is_told_to_end, p);
    _exit(0);
}

/* httpd takes notice of the end of all its children. */
static void teller_has_ended(int reason, void *data, int status)
{
    teller_t *teller = data;

    (void)status;
    if (reason != APR_OC_REASON_DEATH && reason != APR_OC_REASON_LOST)
        return;
    teller->proc.pid = 0;
    apr_proc_other_child_unregister(teller);
}

/* With the configuration: the next one has another. */
static apr_status_t end_teller(void *data)
{
    teller_t *teller = data;
    apr_time_t end = md_clock_steady() + END_WAIT;
    pid_t pid = teller->proc.pid;

    if (pid == 0 || teller->parent != getpid())
        return APR_SUCCESS;
    kill(pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (md_clock_steady() >= end)
            kill(pid, SIGKILL);
        md_clock_sleep(END_PAUSE);
    }
    teller->proc.pid = 0;
    return APR_SUCCESS;
}

void mod_md_events_tell_installed(const md_reg_t *reg, const server_rec *s, apr_pool_t *p)
{
    teller_t *teller;
    apr_status_t rv;

    if (!md_installed_is_due(reg, p))
        return;
    teller = apr_pcalloc(p, sizeof(*teller));
    teller->parent = getpid();
    rv = apr_proc_fork(&teller->proc, p);
    if (rv == APR_INCHILD)
        be_teller(reg, p);
    if (rv != APR_INPARENT) {
        ap_log_error(APLOG_MARK, APLOG_ERR, rv, s, "cannot start the process that reports "
                     "installed certificates; the next start will try again");
        return;
    }
    apr_proc_other_child_register(&teller->proc, teller_has_ended, teller, NULL, p);
    apr_pool_cleanup_register(p, teller, end_teller, apr_pool_cleanup_null);
}
