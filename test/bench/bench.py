# SPDX-License-Identifier: Apache-2.0
"""Measures, against Pebble and a real httpd:

issue   all domains staged, Pebble validating for up to 3 s each: ours, ours one at a time, the stock module
start   time until the parent is ready with many new domains on a vhost each; second start against the same
        vhosts with static certificate files
memory  the child that drives renewals, while and after it issues many domains
"""
import argparse
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "httpd"))
from servers import Httpd, Pebble, apxs, run, wait_for  # noqa: E402


def row(*cells):
    print("  ".join(f"{c:<44}" if i == 0 else f"{c:>12}" for i, c in enumerate(cells)), flush=True)


def workdir():
    path = pathlib.Path(tempfile.mkdtemp(prefix="md-bench-"))
    path.chmod(0o755)
    return path


def names(count):
    return [f"d{i}.example.org" for i in range(count)]


def httpd_with(directory, count, module=None, conf="", extra=""):
    server = Httpd(directory / "httpd", module)
    server.log_level = "warn md:info"
    server.add_md_conf(conf)
    for name in names(count):
        server.add_md_conf(f"MDomain {name}")
        server.add_vhost(name, extra=extra)
    return server


def seconds_of(server, pattern, n=-1):
    """Time of day of the n-th log line that matches, in seconds."""
    found = re.findall(rf"\[\w+ \w+ \d+ (\d+):(\d+):([\d.]+) \d+\].*{pattern}", server.error_log())
    h, m, s = found[n]
    return int(h) * 3600 + int(m) * 60 + float(s)


def issue_once(count, module=None, conf="", limit=900):
    directory = workdir()
    server = httpd_with(directory, count, module, conf)
    try:
        with Pebble(directory / "pebble", server.http_port, server.https_port,
                    env={"PEBBLE_VA_SLEEPTIME": 3}) as ca:
            server.use_ca(ca)
            server.start()
            started = time.monotonic()
            server.wait_log("AH10059", limit, count)
            took = time.monotonic() - started
            return took, ca.count("(HEAD|GET|POST) /") / count
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def stock_module():
    path = pathlib.Path(apxs("LIBEXECDIR")) / "mod_md.so"
    return path if path.exists() else None


def bench_issue(count):
    row(f"== {count} domains, validation delays up to 3 s", "seconds", "times", "requests each")
    ours, requests = issue_once(count)
    row("this module", f"{ours:.1f}", "1.0", f"{requests:.1f}")
    single, requests = issue_once(count, conf="MDRenewConcurrency 1")
    row("this module, MDRenewConcurrency 1", f"{single:.1f}", f"{single / ours:.1f}", f"{requests:.1f}")
    if stock_module():
        stock, requests = issue_once(count, stock_module())
        row("stock module", f"{stock:.1f}", f"{stock / ours:.1f}", f"{requests:.1f}")


def time_start(server):
    """Seconds of wall time until the parent serves; CPU seconds of the start command and the parent."""
    server.write_conf()
    before = os.times()
    started = time.monotonic()
    done = server.command("-k", "start")
    assert done.returncode == 0, done.stderr
    marker = "resuming normal operations"
    wait_for(lambda: marker in server.error_log(), 900, "the parent", every=0.01)
    wall = time.monotonic() - started
    after = os.times()
    stat = pathlib.Path(f"/proc/{server.pid()}/stat").read_text().rsplit(")", 1)[1].split()
    cpu = (after.children_user - before.children_user + after.children_system - before.children_system
           + (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"))
    return wall, cpu


def fresh_log(server):
    server.stop()
    server.log_path.unlink(missing_ok=True)


def static_files(directory, count):
    """A certificate for each name, of one key: what the module's own are compared with."""
    key = directory / "static.key"
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    for name in names(count):
        run("openssl", "req", "-x509", "-key", key, "-out", directory / f"{name}.pem", "-days", 90,
            "-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{name}")
    return key


def bench_start(count):
    row(f"== start with {count} domains, a vhost each", "wall s", "CPU s")
    directory = workdir()
    server = httpd_with(directory, count, conf="MDCertificateAgreement accepted\n"
                        "MDContactEmail a@example.org\nMDInitialDelay 1h\n"
                        "MDCertificateAuthority https://localhost:1/dir")
    server.log_level = "notice"
    try:
        row("first start, all new", *(f"{t:.2f}" for t in time_start(server)))
        fresh_log(server)
        key = static_files(directory, count)
        for name in names(count):  # what activation would have put there
            live = server.store / "domains" / name
            shutil.copy(key, live / "privkey.pem")
            shutil.copy(directory / f"{name}.pem", live / "pubcert.pem")
        time_start(server)  # writes the new state
        best = []
        for _ in range(3):
            fresh_log(server)
            best.append(time_start(server))
        ours = min(best)
        row("next start, certificates there", *(f"{t:.2f}" for t in ours))
        server.stop()
        plain = Httpd(directory / "plain")
        plain.log_level = "notice"
        for name in names(count):
            plain.add_vhost(name, extra=f"SSLCertificateFile {directory}/{name}.pem\n"
                                        f"SSLCertificateKeyFile {key}")
        best = []
        for _ in range(3):
            best.append(time_start(plain))
            fresh_log(plain)
        static = min(best)
        row("static certificate files", *(f"{t:.2f}" for t in static))
        row("ours / static", f"{ours[0] / static[0]:.2f}", f"{ours[1] / static[1]:.2f}")
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def resident(pid, key):
    return int(re.search(rf"{key}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def bench_memory(count):
    row(f"== the driving child while it issues {count} domains", "MB")
    directory = workdir()
    server = httpd_with(directory, count, conf="MDInitialDelay 3s\nMDPrivateKeys P-256")
    server.log_level = "warn md:debug"
    try:
        with Pebble(directory / "pebble", server.http_port, server.https_port) as ca:
            server.use_ca(ca)
            server.start()
            server.wait_log("AH10054")
            pid = server.watchdog_pid()
            before = resident(pid, "VmRSS")
            server.wait_log("AH10059", 900, count)
            server.wait_log("AH10107")
            row("before", f"{before:.1f}")
            row("peak", f"{resident(pid, 'VmHWM'):.1f}")
            row("after", f"{resident(pid, 'VmRSS'):.1f}")
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["issue", "start", "memory"],
                        help="issue, start, memory; all without")
    parser.add_argument("--domains", type=int, help="in place of 60, 1000, 500")
    args = parser.parse_args()
    benches = {"issue": (bench_issue, 60), "start": (bench_start, 1000), "memory": (bench_memory, 500)}
    for what in args.what:
        bench, count = benches[what]
        bench(args.domains or count)


if __name__ == "__main__":
    main()
