# SPDX-License-Identifier: Apache-2.0
"""Measures, against Pebble and a real httpd:

issue   all domains staged, Pebble validating for up to 3 s each: ours with P-256 and RSA keys, ours one at a time, the
        stock module; beside it what is to be held
far     200 domains at a CA that takes 200 ms for each answer
start   time until the parent is ready with many new domains on a vhost each; second start against the same
        vhosts with static certificate files
memory  the child that drives renewals, while and after it issues many domains
scale   what managed domains with certificates add to start, graceful restart and memory of the parent, at 1,000
        and at many domains, against the same vhosts and files without the module; and all domains new
activate
        a graceful restart that puts a staged set of each domain into service, and one with nothing staged: also how
        long a client waits in the meantime that makes one connection after the other
pages   CPU of the child that answers, for each page of many domains with certificates, and how much it grows
"""
import argparse
import asyncio
import contextlib
import datetime
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "httpd"))
import sets  # noqa: E402
from bench_stapling import bench_stapling  # noqa: E402
from ports import free_ports  # noqa: E402
from servers import Httpd, Pebble, apxs, run, wait_for  # noqa: E402

Httpd.has_ready_keys = False


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


class FarAway:
    """A way to a CA on which each of its answers takes a while: bytes towards it are held back."""

    def __init__(self, ca, delay):
        self.ca, self.delay, self.ca_file = ca, delay, ca.ca_file
        self.port, = free_ports(1)
        self.directory_url = ca.directory_url.replace(str(ca.port), str(self.port))
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        serve = asyncio.start_server(self.connected, "127.0.0.1", self.port)
        self.server = asyncio.run_coroutine_threadsafe(serve, self.loop).result(10)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    async def end(self):
        self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def connected(self, reader, writer):
        ca_reader, ca_writer = await asyncio.open_connection("127.0.0.1", self.ca.port)
        await asyncio.gather(self.pass_on(reader, ca_writer, self.delay), self.pass_on(ca_reader, writer, 0))

    async def pass_on(self, reader, writer, delay):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.loop.call_later(delay, writer.write, data)
        self.loop.call_later(delay, writer.close)


def issue_once(count, module=None, conf="", limit=900, sleep=3, delay=0):
    """Seconds, and requests for each domain."""
    directory = workdir()
    server = httpd_with(directory, count, module, conf)
    env = {"PEBBLE_VA_SLEEPTIME": sleep} if sleep else {}
    try:
        with contextlib.ExitStack() as stack:
            ca = stack.enter_context(Pebble(directory / "pebble", server.http_port, server.https_port, env=env, key_algorithm="rsa"))
            server.use_ca(stack.enter_context(FarAway(ca, delay)) if delay else ca)
            server.start()
            started = time.monotonic()
            server.wait_log("AH10059", limit, count)
            took = time.monotonic() - started
            return took, ca.count("(HEAD|GET|POST) /") / count
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def key_seconds(count):
    """What making RSA keys takes at least: the CPU time of all on all cores."""
    before = time.process_time()
    for _ in range(count):
        rsa.generate_private_key(65537, 2048)
    return (time.process_time() - before) / os.cpu_count()


def stock_module():
    path = pathlib.Path(apxs("LIBEXECDIR")) / "mod_md.so"
    return path if path.exists() else None


def bench_issue(count):
    row(f"== {count} domains, validation delays up to 3 s", "seconds", "at most", "times", "requests each")
    ours, requests = issue_once(count, conf="MDPrivateKeys P-256")
    row("this module, P-256", f"{ours:.1f}", "5.0", "", f"{requests:.1f}")
    most = key_seconds(count) + 2
    ours, requests = issue_once(count)
    row("this module, RSA", f"{ours:.1f}", f"{most:.1f}", "1.0", f"{requests:.1f}")
    single, requests = issue_once(count, conf="MDRenewConcurrency 1")
    row("this module, RSA, MDRenewConcurrency 1", f"{single:.1f}", "", f"{single / ours:.1f}", f"{requests:.1f}")
    if stock_module():
        stock, requests = issue_once(count, stock_module())
        row("stock module, RSA", f"{stock:.1f}", "", f"{stock / ours:.1f}", f"{requests:.1f}")


def bench_far(count):
    row(f"== {count} domains, P-256, each answer takes 200 ms", "seconds", "at most", "requests each")
    # Pebble locks itself up now and then when new orders and looks at authorizations come in at once.
    took, requests = issue_once(count, conf="MDPrivateKeys P-256", limit=100, sleep=0, delay=0.2)
    row("this module", f"{took:.1f}", f"{1.3 * count * requests * 0.2 / 64:.1f}", f"{requests:.1f}")


def cpu_of(server):
    """CPU seconds of the commands run so far and of the parent, if there is one."""
    spent = os.times()
    seconds = spent.children_user + spent.children_system
    if server.pid_path.exists():
        stat = pathlib.Path(f"/proc/{server.pid()}/stat").read_text().rsplit(")", 1)[1].split()
        seconds += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def timed(server, action):
    """Seconds of wall time until the parent serves; CPU seconds of the start command and the parent."""
    marker = "resuming normal operations"
    count, before, started = server.error_log().count(marker), cpu_of(server), time.monotonic()
    action()
    wait_for(lambda: server.error_log().count(marker) > count, 900, "the parent", every=0.01)
    return time.monotonic() - started, cpu_of(server) - before


def time_start(server):
    def start():
        done = server.command("-k", "start")
        assert done.returncode == 0, done.stderr
    server.write_conf()
    return timed(server, start)


def time_graceful(server):
    return timed(server, lambda: os.kill(server.pid(), signal.SIGUSR1))


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
        with Pebble(directory / "pebble", server.http_port, server.https_port, key_algorithm="rsa") as ca:
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


class PlainHttpd(Httpd):
    """The same server without the module."""

    def write_conf(self):
        super().write_conf()
        lines = self.conf.read_text().splitlines(keepends=True)
        self.conf.write_text("".join(x for x in lines if not re.match("MD|LoadModule md_", x)))


# What the vhosts of a domain `x` with the names x, www.x and mail.x have as aliases; None: no vhosts. And settings.
SHAPES = {
    "aliases": (("www.{}", "mail.{}"), ""),
    "wildcard aliases": (("*.{}",), ""),
    "MDMatchNames servernames": (("www.{}", "mail.{}"), "MDMatchNames servernames"),
    "no vhosts": (None, "MDRenewMode always"),
}


def three_names(name):
    return [name, f"www.{name}", f"mail.{name}"]


def fill_store(live, count, key_type):
    """A pair of files for each domain, as activation leaves them: the keys are few, the leafs have an issuer."""
    def certify(names, key, issuer, days):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
                .public_key(key.public_key()).serial_number(x509.random_serial_number())
                .not_valid_before(now).not_valid_after(now + datetime.timedelta(days))
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
                .sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    now = datetime.datetime.now(datetime.timezone.utc)
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_pem = certify(["bench"], ca_key, ca_name, 900)
    keys = [rsa.generate_private_key(65537, 2048) if key_type == "RSA" else
            ec.generate_private_key(ec.SECP256R1()) for _ in range(8)]
    pems = [k.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                            serialization.NoEncryption()) for k in keys]
    for i, name in enumerate(names(count)):
        directory = live / name
        directory.mkdir(mode=0o700, parents=True)
        (directory / "privkey.pem").write_bytes(pems[i % 8])
        (directory / "pubcert.pem").write_bytes(certify(three_names(name), keys[i % 8], ca_name, 90) + ca_pem)


def scale_server(server, count, shape, files=None):
    """Domains on their vhosts, or with `files` the vhosts with the certificates there."""
    aliases, conf = SHAPES[shape]
    server.log_level = "notice"
    server.add_md_conf("MDCertificateAgreement accepted\nMDContactEmail a@example.org\nMDInitialDelay 1h\n"
                       f"MDCertificateAuthority https://localhost:1/dir\n{conf}")
    for name in names(count):
        if not files:
            server.add_md_conf("MDomain " + " ".join(three_names(name)))
        if aliases:
            server.add_vhost(name, [a.format(name) for a in aliases],
                             extra=f"SSLCertificateFile {files}/{name}/pubcert.pem\n"
                                   f"SSLCertificateKeyFile {files}/{name}/privkey.pem" if files else "")
    return server


def measure(servers, rounds=3):
    """For each: least CPU and wall seconds of start and of graceful restart, and MB of the parent after each."""
    found = [[] for _ in servers]
    for _ in range(rounds):
        for server, rows in zip(servers, found):
            fresh_log(server)
            wall, cpu = time_start(server)
            started = resident(server.pid(), "VmRSS")
            graceful_wall, graceful_cpu = time_graceful(server)
            rows.append((cpu, wall, graceful_cpu, graceful_wall, started, resident(server.pid(), "VmRSS")))
            server.stop()
    return [[min(column) for column in zip(*rows)] for rows in found]


def scale_once(count, key_type, shape="aliases", stock=None):
    """Prints what was measured; returns what a domain costs: microseconds of start and graceful, bytes after each."""
    directory = workdir()
    ours = scale_server(Httpd(directory / "httpd", stock), count, shape)
    files = ours.store / "domains"
    fill_store(files, count, key_type)
    plain = scale_server(PlainHttpd(directory / "plain"), count, shape, files)
    try:
        row(f"== {count} domains, {key_type}, {shape}", "start CPU s", "wall s", "graceful CPU", "wall s",
            "start MB", "graceful MB")
        wall, cpu = time_start(ours)
        row("first start, md.json is written", f"{cpu:.2f}", f"{wall:.2f}")
        with_md, without = measure((ours, plain))
        row("stock module" if stock else "this module", *(f"{x:.2f}" for x in with_md))
        row("the same files, no module", *(f"{x:.2f}" for x in without))
        row("share of the module, %", *(f"{100 * (a - b) / a:.1f}" for a, b in zip(with_md, without)))
        cost = [(with_md[i] - without[i]) / count * (1e6 if i < 4 else 1048576) for i in (0, 2, 4, 5)]
        row("per domain: microseconds, bytes", f"{cost[0]:.0f}", "", f"{cost[1]:.0f}", "",
            f"{cost[2]:.0f}", f"{cost[3]:.0f}")
        if shape == "aliases" and not stock:
            row("graceful restart that renames all", "", "", *(f"{t:.2f}" for t in rename_all(ours)))
        return cost
    finally:
        ours.stop()
        plain.stop()
        shutil.rmtree(directory, ignore_errors=True)


def rename_all(server):
    """The first names are dropped, so that the domains have other names: CPU and wall seconds."""
    server.start()
    server.md_conf = [re.sub(r"MDomain \S+ ", "MDomain ", x) for x in server.md_conf]
    server.vhosts = [x.replace("ServerName ", "ServerName www.") for x in server.vhosts]
    server.write_conf()
    wall, cpu = time_graceful(server)
    moved = [path.name.startswith("www.") for path in (server.store / "domains").iterdir()]
    assert all(moved), f"{moved.count(False)} directories have their old names"
    return cpu, wall


def scale_new(count, stock=None):
    """No certificate is there: temporary ones are made at the first start."""
    directory = workdir()
    server = scale_server(Httpd(directory / "httpd", stock), count, "aliases")
    try:
        row(f"== {count} new domains, {'stock' if stock else 'this'} module", "CPU s", "wall s", "MB")
        for what, action in (("first start", time_start), ("graceful restart", time_graceful)):
            wall, cpu = action(server)
            row(what, f"{cpu:.2f}", f"{wall:.2f}", f"{resident(server.pid(), 'VmRSS'):.1f}")
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def bench_scale(count, stock=False, shapes=False):
    for key_type in ("P-256", "RSA"):
        small, large = scale_once(1000, key_type), scale_once(count, key_type)
        ratio = [f"{b / a:.2f}" if a > 0 else "-" for a, b in zip(small, large)]
        row(f"cost of a domain, {count} / 1000", ratio[0], "", ratio[1], "", *ratio[2:])
    for shape in [s for s in SHAPES if shapes and s != "aliases"]:
        for n in (1000, 3000, count):
            scale_once(n, "P-256", shape)
    for n in (1000, count):
        scale_new(n)
    if stock and stock_module():
        for n in (1000, 5000):
            scale_once(n, "P-256", stock=stock_module())
        scale_new(300)
        scale_new(300, stock_module())  # makes RSA keys, which takes minutes for more


PAGES = {"md-metrics": "/md-metrics", "server-status?auto": "/server-status?auto",
         "md-status of one": "/md-status/d7.example.org", "md-status, JSON": "/md-status",
         "md-status, HTML": "/md-status?format=html", "server-status": "/server-status"}


def cpu_of_process(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def bench_pages(count, requests=100):
    row(f"== {count} domains, {requests} requests for each page", "CPU ms each", "bytes", "MB before", "MB more")
    directory = workdir()
    server = scale_server(Httpd(directory / "httpd"), count, "aliases")
    server.md_conf = [conf.replace("MDInitialDelay 1h", "MDInitialDelay 0") for conf in server.md_conf]
    server.add_md_conf("MDServerStatus on\nMDRenewViaARI off")
    server.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>\nStartServers 1\n"
                              "ServerLimit 1\nThreadsPerChild 8\nMaxRequestWorkers 8\nMinSpareThreads 1\nMaxSpareThreads 8")
    fill_store(server.store / "domains", count, "P-256")
    server.log_level = "notice md:debug"
    try:
        server.start()
        server.wait_log("AH10107", 300)  # the engine has looked at all
        child, = server.child_pids()
        for what, path in PAGES.items():
            for _ in range(10):
                status, _, body = server.get(path, "base.test")
                assert status == 200
            memory, before = resident(child, "VmRSS"), cpu_of_process(child)
            for _ in range(requests):
                server.get(path, "base.test")
            spent = (cpu_of_process(child) - before) / requests
            row(what, f"{spent * 1000:.1f}", len(body), f"{memory:.1f}", f"{resident(child, 'VmRSS') - memory:.1f}")
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Visitor:
    """A client that asks for a page all the time, with a new connection each time. The longest that it waited."""

    def __init__(self, server):
        self.server, self.longest, self.failed, self.ended = server, 0.0, 0, threading.Event()
        self.thread = threading.Thread(target=self.visit)

    def visit(self):
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                status = self.server.get("/index.html", "base.test")[0]
            except OSError:
                status = None
            self.failed += status != 200
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def reload_with_visitor(server):
    """Of a graceful restart: wall and CPU seconds, the longest that the client waited, how many requests failed."""
    with Visitor(server) as visitor:
        took = time_graceful(server)
    return [f"{t:.2f}" for t in (*took, visitor.longest)] + [visitor.failed]


def bench_activate(count):
    row(f"== {count} staged sets, each for a domain that has one", "wall s", "CPU s", "client waits", "fails")
    directory = workdir()
    server = Httpd(directory / "httpd")
    server.log_level = "notice"
    try:
        sets.make_store(server.store)
        sets.configure(server, names(count))
        for name in names(count):
            sets.put_live(server.store, [name])
        time_start(server)
        row("graceful restart, nothing staged", *min(reload_with_visitor(server) for _ in range(3)))
        for _ in range(3):
            staged = {name: sets.put_staged(server.store, [name]) for name in names(count)}
            os.sync()
            took = reload_with_visitor(server)
            assert all(sets.live_serial(server.store, name) == staged[name] for name in staged)
            row("that activates them", *took)
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["issue", "far", "start", "memory", "scale", "stapling", "pages", "activate"],
                        help="issue, far, start, memory, scale, stapling, pages, activate; all without")
    parser.add_argument("--domains", type=int, help="in place of 60, 200, 1000, 500, 10000, 10000, 10000, 1000")
    parser.add_argument("--stock", action="store_true", help="scale: the stock module as well, which is slow")
    parser.add_argument("--shapes", action="store_true", help="scale: also other kinds of vhosts and settings")
    args = parser.parse_args()
    benches = {"issue": (bench_issue, 60), "far": (bench_far, 200), "start": (bench_start, 1000),
               "memory": (bench_memory, 500), "scale": (lambda count: bench_scale(count, args.stock, args.shapes), 10000),
               "stapling": (lambda count: bench_stapling(count, row, workdir, PlainHttpd, stock_module(), time_start,
                                                         fresh_log), 10000),
               "pages": (bench_pages, 10000),
               "activate": (bench_activate, 1000)}
    for what in args.what:
        bench, count = benches[what]
        bench(args.domains or count)


if __name__ == "__main__":
    main()
