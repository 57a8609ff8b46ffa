# SPDX-License-Identifier: Apache-2.0
"""Real servers for tests and benches, on free loopback ports, in a directory of their own:
Pebble (with its DNS) and httpd with mod_md."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.request

import ready_keys
from ports import free_ports

PROJECT = pathlib.Path(__file__).resolve().parents[2]
READY = "configured -- resuming normal operations"
TIMEOUT = 60 * (3 if os.environ.get("MD_SLOW") else 1)


def wait_for(condition, timeout=TIMEOUT, what="condition", every=0.05):
    """The first true value of condition(); AssertionError when there is none in time."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(every)


# Linux: sock_diag(7), linux/inet_diag.h. The kernel does not format what nobody reads, as it does for /proc/net/tcp.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, NLMSG_ERROR, NLMSG_DONE = 4, 20, 0x301, 2, 3
ESTABLISHED, CLOSE_WAIT, LISTEN = 1, 8, 10


def tcp_ports(*states):
    """The local ports of all sockets in one of these states."""
    ports = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as diag:
        for family in socket.AF_INET, socket.AF_INET6:
            diag.send(struct.pack("=IHHII BBBBI 48x", 72, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 0, 0,
                                  family, socket.IPPROTO_TCP, 0, 0, sum(1 << state for state in states)))
            is_done = False
            while not is_done:
                answer = diag.recv(1 << 16)
                while answer:
                    length, kind = struct.unpack_from("=IH", answer)
                    assert kind != NLMSG_ERROR, "the kernel does not tell which ports are in use: modprobe tcp_diag"
                    is_done = kind == NLMSG_DONE
                    if not is_done:
                        ports.add(struct.unpack_from("!H", answer, 20)[0])
                    answer = answer[(length + 3) & ~3:]
    return ports


def is_listening(port):
    """Without a connection, which a server would have to work on."""
    return port in tcp_ports(LISTEN)


def has_connections(ports):
    """Does some server still work on a connection to one of these ports?"""
    return not tcp_ports(ESTABLISHED, CLOSE_WAIT).isdisjoint(ports)


def is_alive(pid):
    """Not when it has ended and only waits for somebody to take notice."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def run(*args, **kw):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)


def make_pair(directory, label, *alt_names):
    """Paths of a self-signed certificate with these names ("DNS:...") and of its key."""
    cert, key = directory / f"{label}.pem", directory / f"{label}.key"
    if not cert.exists():
        done = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                   "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", 30,
                   "-subj", f"/CN={label}", "-addext", "subjectAltName=" + ",".join(alt_names))
        assert done.returncode == 0, done.stderr
    return cert, key


def make_server_cert(directory):
    return make_pair(directory, "localhost", "DNS:localhost", "IP:127.0.0.1")


class Pebble:
    """A CA with its own DNS, in which every name is 127.0.0.1."""

    def __init__(self, directory, http_port, tls_port, env=None, retry_after=1, profiles=None,
                 eab=None, key_algorithm="ecdsa"):
        """`eab`: MAC key by key id; new accounts must be bound to one of them. `key_algorithm` of the CA itself: "rsa" is
        what Pebble takes by default, and takes its time to make."""
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.ca_file, key = make_server_cert(self.dir)
        port, mgmt, dns, self.dns_mgmt = free_ports(4)
        self.port, self.mgmt_url = port, f"https://localhost:{mgmt}"
        self.directory_url = f"https://localhost:{port}/dir"
        self.log_path = self.dir / "pebble.log"
        config = {"pebble": {
            "listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{mgmt}",
            "certificate": str(self.ca_file), "privateKey": str(key),
            "httpPort": http_port, "tlsPort": tls_port,
            "keyAlgorithm": key_algorithm,
            "retryAfter": {"authz": retry_after, "order": retry_after},
            # one alone: Pebble takes any of several for an order that names none
            "profiles": profiles or {
                "default": {"description": "three months", "validityPeriod": 7776000}}}}
        if eab:
            config["pebble"].update(externalAccountBindingRequired=True, externalAccountMACKeys=eab)
        (self.dir / "pebble.json").write_text(json.dumps(config))
        self.env = dict(os.environ, PEBBLE_VA_NOSLEEP="1", **{k: str(v) for k, v in (env or {}).items()})
        if "PEBBLE_VA_SLEEPTIME" in self.env:
            del self.env["PEBBLE_VA_NOSLEEP"]
        self.dns = f"127.0.0.1:{dns}"
        self.procs = []

    def start(self):
        found = run(PROJECT / "test" / "pebble-setup.sh")
        assert found.returncode == 0, "no test CA: " + found.stderr
        tools = pathlib.Path(found.stdout.strip())
        with open(self.log_path, "ab") as log:
            self.procs.append(subprocess.Popen(
                [tools / "pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
                 "-dnsserver", self.dns, "-management", f"127.0.0.1:{self.dns_mgmt}",
                 "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""],
                stdout=log, stderr=log))
            self.procs.append(subprocess.Popen(
                [tools / "pebble", "-config", self.dir / "pebble.json", "-dnsserver", self.dns],
                stdout=log, stderr=log, env=self.env))
        wait_for(lambda: {self.port, self.dns_mgmt} <= tcp_ports(LISTEN), what="Pebble")
        return self

    def stop(self):
        for proc in self.procs:
            proc.terminate()
        for proc in self.procs:
            proc.wait(10)
        self.procs = []

    def root_pem(self):
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(self.mgmt_url + "/roots/0", context=context) as reply:
            return reply.read().decode()

    def set_renewal_info(self, cert_pem, start, end, page=None):
        """What it suggests for this certificate: a window, as seconds from now, and a page that explains it."""
        at = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + t)) for t in (start, end)]
        info = {"suggestedWindow": {"start": at[0], "end": at[1]}}
        if page:
            info["explanationURL"] = page
        context = ssl.create_default_context(cafile=str(self.ca_file))
        data = json.dumps({"certificate": cert_pem, "ariResponse": json.dumps(info)}).encode()
        with urllib.request.urlopen(self.mgmt_url + "/set-renewal-info/", data=data, context=context) as reply:
            assert reply.status == 200

    def dns_set(self, command, **args):
        """A command of challtestsrv, such as set-servfail with host='name.'"""
        url = f"http://127.0.0.1:{self.dns_mgmt}/{command}"
        with urllib.request.urlopen(url, data=json.dumps(args).encode()) as reply:
            assert reply.status == 200

    def count(self, pattern):
        return len(re.findall(pattern, self.log_path.read_text(errors="replace")))

    def accounts(self):
        """How many were ever made. A request may be logged more than once: Pebble refuses one nonce in twenty."""
        return self.count(r"There are now \d+ accounts in memory")

    __enter__ = start

    def __exit__(self, *exc):
        self.stop()


def apxs(name):
    tool = os.environ.get("APXS") or shutil.which("apxs") or shutil.which("apxs2")
    return run(tool, "-q", name).stdout.strip()


class Httpd:
    """An httpd of its own. Configure, start(), stop()."""

    MODULES = ("authz_core", "authn_core", "authz_host", "unixd", "mime", "dir", "alias",
               "log_config", "headers", "rewrite", "status", "watchdog", "socache_shmcb", "ssl")
    has_ready_keys = True  # RSA keys need not be made

    def __init__(self, directory, module_path=None, mpm="event"):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        for part in [self.dir, *self.dir.parents][:4]: # the children must get here
            if part.owner() == "root" or os.geteuid() != 0:
                with contextlib.suppress(PermissionError):
                    part.chmod(part.stat().st_mode | 0o055 if part != pathlib.Path("/tmp") else
                               part.stat().st_mode)
        self.docroot = self.dir / "htdocs"
        self.docroot.mkdir(exist_ok=True)
        (self.docroot / "index.html").write_text("it is served\n")
        self.module = pathlib.Path(module_path or os.environ.get("MD_MODULE")
                                   or PROJECT / ".libs" / "mod_md.so")
        self.mpm = mpm
        self.http_port, self.https_port = free_ports(2)
        self.store = self.dir / "md"
        self.log_path = self.dir / "error.log"
        self.pid_path = self.dir / "httpd.pid"
        self.log_level = "info md:debug"
        self.md_conf, self.vhosts, self.global_conf = [], [], []
        self.generations = 0  # that said they were ready before the one started last

    # ---- configuration ----

    def add_md_conf(self, text):
        self.md_conf.append(text)

    def use_ca(self, ca):
        """The three lines of a user and where the CA of the test is."""
        self.add_md_conf(f"MDCertificateAgreement accepted\nMDContactEmail admin@example.org\n"
                         f"MDCertificateAuthority {ca.directory_url}\n"
                         f"MDCACertificateFile {ca.ca_file}\n")
        checks = (f"MDDnsResolver {ca.dns}\nMDCheckPorts http:{self.http_port} https:{self.https_port}"
                  if hasattr(ca, "dns") else "MDPreflight off")
        self.add_md_conf(f"<IfDirective MDPreflight>\n{checks}\n</IfDirective>")  # the stock module has none

    def add_vhost(self, name, aliases=(), ssl=True, docroot=None, extra=""):
        port = self.https_port if ssl else self.http_port
        self.vhosts.append("\n".join(
            [f"<VirtualHost *:{port}>", f"ServerName {name}",
             *(f"ServerAlias {a}" for a in aliases), f"DocumentRoot {docroot or self.docroot}",
             "SSLEngine on" if ssl else "", extra, "</VirtualHost>"]))

    def write_conf(self):
        libexec = apxs("LIBEXECDIR")
        built_in = run(self.binary(), "-l").stdout
        lines = [f"ServerRoot {self.dir}", f"PidFile {self.pid_path}", "ServerName base.test",
                 f"DefaultRuntimeDir {self.dir}", f"Mutex default:{self.dir}"]
        if os.geteuid() == 0:
            lines += ["User www-data", "Group www-data"] if shutil.which("apache2") else \
                     ["User apache", "Group apache"]
        for name in (f"mpm_{self.mpm}", *self.MODULES):
            if f"mod_{name}.c" not in built_in and os.path.exists(f"{libexec}/mod_{name}.so"):
                lines.append(f"LoadModule {name}_module {libexec}/mod_{name}.so")
        lines += [f'LoadModule md_module "{self.module}"',
                  f"Listen 127.0.0.1:{self.http_port}", f"Listen 127.0.0.1:{self.https_port}",
                  f"ErrorLog {self.log_path}", f"LogLevel {self.log_level}",
                  f"DocumentRoot {self.docroot}", "TypesConfig /etc/mime.types",
                  f"<Directory {self.dir}>\nRequire all granted\n</Directory>",
                  "<Location /md-status>\nSetHandler md-status\n</Location>",
                  "<Location /md-metrics>\nSetHandler md-metrics\n</Location>",
                  "<IfModule ssl_module>", f"SSLSessionCache shmcb:{self.dir}/ssl(512000)",
                  "</IfModule>",
                  *self.global_conf,
                  f"MDPortMap http:{self.http_port} https:{self.https_port}",
                  *self.md_conf, *self.vhosts]
        self.conf = self.dir / "httpd.conf"
        self.conf.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")

    # ---- life ----

    @staticmethod
    def binary():
        return shutil.which("apache2") or shutil.which("httpd") or \
            os.path.join(apxs("SBINDIR"), apxs("PROGNAME"))

    def env(self):
        """A sanitized module needs its runtime before everything else."""
        env, kind, preload = dict(os.environ), sanitizer_of(self.module), []
        if kind:
            preload.append(run("gcc", f"-print-file-name=lib{kind}.so").stdout.strip())
            options = f"log_path={self.dir}/sanitizer:abort_on_error=0:detect_leaks=0"
            env["ASAN_OPTIONS"] = env["UBSAN_OPTIONS"] = env["TSAN_OPTIONS"] = options
            (self.dir / "sanitizer-is-on").touch()
        if self.has_ready_keys:
            preload.append(str(ready_keys.directory() / "ready_keys.so"))
            env.update(ready_keys.environment(self.dir.parent / "used-keys"))
        if preload:
            env["LD_PRELOAD"] = ":".join(preload)
        return env

    def command(self, *args):
        return run(self.binary(), "-f", self.conf, *args, env=self.env(), timeout=TIMEOUT * 3)

    def configtest(self):
        self.write_conf()
        return self.command("-t")

    def apachectl(self, command):
        """As an administrator does it: the script of the distribution, with this configuration. Where it is not
        installed (Debian has it in apache2, not in apache2-bin), what it does: a configuration that `httpd -t`
        refuses is not loaded."""
        tool = shutil.which("apache2ctl") or shutil.which("apachectl")
        if not tool:
            checked = self.configtest()
            return checked if checked.returncode else self.command("-k", command)
        env = dict(self.env(), APACHE_CONFDIR=str(self.dir), APACHE_ENVVARS="/dev/null",
                   APACHE_RUN_DIR=str(self.dir), APACHE_LOCK_DIR=str(self.dir / "lock"),
                   APACHE_HTTPD=self.binary(), APACHE_ARGUMENTS=f"-f {self.conf}")
        return run(tool, command, env=env, timeout=TIMEOUT * 3)

    def start(self, expect_success=True):
        self.generations = self.error_log().count(READY)
        self.write_conf()
        done = self.command("-k", "start")
        if not expect_success:
            return done
        assert done.returncode == 0, done.stderr + self.error_log()
        wait_for(lambda: is_listening(self.https_port) and self.is_running(), what="httpd")
        return self

    def graceful(self, wait=True):
        """Reload; with `wait`, until the new generation is in service."""
        if wait:
            self.await_generation("start")  # it may listen and not yet have said so
        self.write_conf()
        self.generations = self.error_log().count(READY)
        os.kill(self.pid(), signal.SIGUSR1)
        if wait:
            self.await_generation("graceful restart")

    def await_generation(self, what):
        """Until the one that was started last has said that it is there."""
        wait_for(lambda: self.error_log().count(READY) > self.generations, TIMEOUT * 2, what)

    def pid(self):
        return int(self.pid_path.read_text())

    def is_running(self):
        try:
            os.kill(self.pid(), 0)
            return True
        except (OSError, ValueError):
            return False

    def stop(self):
        if not self.pid_path.exists():
            return
        # A child that is ended while it works on a connection may crash: mpm_event looks at the
        # sockets of workers (to shut them down) without keeping them from being freed.
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not has_connections((self.http_port, self.https_port)), 2)
        try:
            pid = self.pid()
            os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError):
            return
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not is_alive(pid), 20, "end of httpd")
            return
        for child in self.child_pids(pid) + [pid]:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)

    def child_pids(self, parent=None):
        parent = str(parent or self.pid())
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if stat.read_text().rsplit(")", 1)[1].split()[1] == parent:
                    found.append(int(stat.parent.name))
        return found

    def watchdog_pid(self):
        """The child that drives renewals now."""
        starts = re.findall(r"\[pid (\d+)[^\]]*\].*AH10054", self.error_log())
        return int(starts[-1]) if starts and os.path.exists(f"/proc/{starts[-1]}") else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    # ---- observing ----

    def error_log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_log(self, regex, timeout=TIMEOUT, count=1):
        return wait_for(lambda: len(re.findall(regex, self.error_log())) >= count, timeout,
                        f"{count} x {regex!r} in the error log")

    def problems(self):
        """Log lines that must not be there: crashes, errors and warnings of md, sanitizer reports."""
        lines = [line for line in self.error_log().splitlines()
                 if re.search(r"exit signal|\[md:(error|warn|crit)\]", line)]
        for report in self.dir.glob("sanitizer.*"):
            lines.append(report.read_text(errors="replace"))
        return lines

    def store_json(self, *path):
        try:
            return json.loads(self.store.joinpath(*path).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def await_md(self, names, timeout=TIMEOUT):
        """Until a complete set is staged for each and the log has said so."""
        names = [names] if isinstance(names, str) else names
        for name in names:
            self.wait_log(rf"AH10059: The Managed Domain {re.escape(name)} ", timeout)
            job = self.store_json("staging", name, "job.json")
            assert job is None or job["finished"], job

    def await_error(self, name, errors=1, timeout=TIMEOUT):
        """The job of a domain whose renewal failed that often, once the log has said so: it is
        told after the job is saved. While the next attempt runs, the job speaks of that one."""
        def failed():
            job = self.store_json("staging", name, "job.json")
            return job if job and job["errors"] >= errors and job["last"]["status"] else None
        job = wait_for(failed, timeout, f"{errors} errors of {name}")
        self.wait_log(rf"AH10057: {re.escape(name)}: encountered error ", timeout, errors)
        return job

    # ---- asking ----

    def get(self, path, host, https=False, verify=None, headers=None):
        """(status, headers, body); with https the chain is checked against the PEM text `verify`."""
        if https:
            context = ssl.create_default_context(cadata=verify) if verify else \
                ssl._create_unverified_context()
            conn = _HostConnection(host, self.https_port, context)
        else:
            conn = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        try:
            conn.request("GET", path, headers={"Host": host, **(headers or {})})
            reply = conn.getresponse()
            return reply.status, reply.headers, reply.read().decode(errors="replace")
        finally:
            conn.close()

    def raw(self, data, tls_name=None):
        """What comes back for these bytes, by https if a name for SNI is given."""
        port = self.https_port if tls_name else self.http_port
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            if tls_name:
                context = ssl._create_unverified_context()
                sock = context.wrap_socket(sock, server_hostname=tls_name)
            sock.sendall(data)
            if not tls_name:
                sock.shutdown(socket.SHUT_WR)
            got = b""
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                while chunk := sock.recv(65536):
                    got += chunk
            return got

    def tls_cert(self, host):
        """The leaf that is served, as a cryptography object."""
        from cryptography import x509
        context = ssl._create_unverified_context()
        with socket.create_connection(("127.0.0.1", self.https_port), timeout=20) as sock:
            with context.wrap_socket(sock, server_hostname=host) as tls:
                return x509.load_der_x509_certificate(tls.getpeercert(True))

    def md_status(self, name=None):
        status, _, body = self.get("/md-status" + (f"/{name}" if name else ""), "base.test")
        assert status == 200, body
        return json.loads(body)


class _HostConnection(http.client.HTTPSConnection):
    """https to a name that no DNS knows."""

    def __init__(self, host, port, context):
        super().__init__(host, port, timeout=20, context=context)
        self._tls = context

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.sock = self._tls.wrap_socket(sock, server_hostname=self.host)


def sanitizer_of(module):
    """'asan', 'tsan' or None, by what the module needs."""
    needed = run("ldd", module).stdout
    for kind in ("asan", "tsan"):
        if f"lib{kind}" in needed:
            return kind
    return None
