# SPDX-License-Identifier: Apache-2.0
"""MDActivation live: certificates are in service the moment they are issued, with no restart."""
import contextlib
import os
import re
import shutil
import signal
import ssl
import time

import pytest

import sets
from live import EC, RSA, IN_SERVICE, Live, contexts, make_key, make_set, problems, shown
from load import Load
from servers import is_alive, wait_for
from stores import passphrase
from test_a2md import Tool
from test_events import Command
from test_tls_alpn import ALPN, Shown, clients, set_up

SECONDS = 60 if os.environ.get("MD_SLOW") else 12  # under load
LATE = 2  # seconds after which nobody is shown what was replaced; it is 0.1 where processors are free
VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def in_service(env, name="a.test", count=1):
    env.wait_log(rf"Managed Domain {name} {IN_SERVICE}", count=count)


@pytest.fixture
def live(env):
    env.add_md_conf("MDPrivateKeys P-256\nMDActivation live")
    return env


@pytest.mark.parametrize("mpm", ["event", "worker", "prefork"])
def test_first_issuance(live, mpm):
    """From the temporary certificate and our own 503 to the real page."""
    live.mpm = mpm
    live.add_md_conf("MDomain a.test b.test\nMDInitialDelay 3s")
    for name in "a.test", "b.test":
        live.add_vhost(name)
    live.start()
    status, headers, _ = live.get("/", "a.test", https=True)
    assert status == 503 and int(headers["Retry-After"]) > 0
    temporary = live.tls_cert("b.test").serial_number
    in_service(live)
    for name in "a.test", "b.test":
        status, _, body = live.get("/", name, https=True, verify=live.ca.root_pem())
        assert status == 200 and body == "it is served\n"
        assert live.tls_cert(name).serial_number != temporary
    assert "AH10059" not in live.error_log() and not live.problems()


def test_renewal(live, workdir):
    """From one certificate to the next, what is told of it, and the restart that comes some day."""
    command = Command(workdir / "command")
    live.add_md_conf(f"MDomain a.test\nMDMessageCmd {command.path}")
    live.add_vhost("a.test")
    live.start()
    command.wait("^installed")
    first = live.tls_cert("a.test")
    assert Tool(live.store)("renew", "a.test").returncode == 0
    command.wait("^installed", 2)
    second = live.tls_cert("a.test")
    assert first.serial_number != second.serial_number
    told = ["renewing", "renewed", "installed"] * 2
    assert [words[0] for words in command.words("^(renew|install)")] == told
    # what is shown of it; there is nothing more to do
    wait_for(lambda: "renewal" not in live.md_status("a.test"), what="end of the renewal")
    status = live.md_status("a.test")
    assert int(status["cert"]["P-256"]["serial"], 16) == second.serial_number and status["state"] == 2
    assert not list((live.store / "staging/a.test").glob("p*.pem"))
    # a restart stores it, tells nobody again, and leaves nothing behind
    live.graceful()
    assert live.tls_cert("a.test").serial_number == second.serial_number
    wait_for(lambda: not (live.store / "live/a.test").exists(), what="end of what was published")
    assert (live.store / "domains/a.test/pubcert.p-256.pem").exists()
    live.graceful()
    assert live.tls_cert("a.test").serial_number == second.serial_number
    assert [words[0] for words in command.words("^(renew|install)")] == told
    assert "AH10059" not in live.error_log() and not live.problems()


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_whoever_asks_sees_it(httpd, mpm):
    """In each vhost, with and without SNI, by both versions, for all kinds of keys."""
    httpd.mpm = mpm
    live = Live(httpd, (RSA, EC))
    live.add("a.test", "www.a.test", vhosts=["a.test", "www.a.test"])
    live.add("b.test")
    httpd.start()
    kinds = {RSA: "ECDHE-RSA-AES128-GCM-SHA256", EC: "ECDHE-ECDSA-AES128-GCM-SHA256"}
    for n in range(3):
        if n:
            live.swap("a.test", "b.test")
        for host, domain in {"a.test": "a.test", "www.a.test": "a.test", "b.test": "b.test", None: "a.test"}.items():
            for kind, cipher in kinds.items():
                context = contexts(VERSIONS[0], cipher)
                assert shown(httpd, host, context) == live.at[domain][n][kind], (n, host, kind, live.at)
            assert shown(httpd, host, contexts(VERSIONS[1])) in live.at[domain][n].values()
    httpd.graceful()
    assert shown(httpd, "b.test", contexts(VERSIONS[0], kinds[RSA])) == live.at["b.test"][2][RSA]
    assert not problems(httpd)


# ---- load ----

def swap_for(live, seconds, graceful):
    """As often as it goes; for each name, when which set was no longer the latest. With a graceful restart that often."""
    ended, end, restart = {}, time.monotonic() + seconds, time.monotonic() + graceful
    while time.monotonic() < end:
        if graceful and restart < time.monotonic():
            live.httpd.graceful()
            restart = time.monotonic() + graceful
        live.swap(*live.names)
        now = time.time()
        for name in live.names:
            for serial in live.at[name][-2].values():
                ended[name, serial] = now
    return ended


def assert_load(load, live, ended):
    known = {(name, serial) for name in live.names for made in live.at[name] for serial in made.values()}
    assert not load.failed, (len(load.failed), load.count, load.failed[:5])
    assert set(load.seen) <= known
    lateness = max(last - ended[which] for which, (_, last) in load.seen.items() if which in ended)
    assert lateness < LATE, lateness
    print(f"{load.count} connections, {sum(map(len, live.at.values())) - len(live.at)} swaps, lateness {lateness:.3f} s")


@pytest.mark.parametrize("mpm, kinds, conf, graceful", [
    ("event", (EC,), "", 0), ("prefork", (RSA, EC), "", 0), ("event", (RSA, EC), "MaxConnectionsPerChild 15", 0),
    ("event", (EC,), "", 4), ("worker", (EC,), "MaxConnectionsPerChild 15", 4)])
def test_load(httpd, mpm, kinds, conf, graceful):
    """No handshake or request fails, and what has been replaced is not shown any more."""
    httpd.mpm = mpm
    httpd.log_level = "notice md:info"
    live = Live(httpd, kinds, conf)
    for name in "a.test", "b.test", "c.test":
        live.add(name)
    httpd.start()
    clients = [None] if len(kinds) == 1 else ["RSA", "EC", None]
    with Load(httpd.https_port, list(live.names), clients, bool(conf or graceful)) as load:
        ended = swap_for(live, SECONDS, graceful)
    assert_load(load, live, ended)
    assert not problems(httpd)


# ---- bad material ----

def other_key(made, _):
    return {kind: (make_key(kind, 1), chain) for kind, (_, chain) in made.items()}


def set_for(names, days):
    return lambda made, kinds: make_set(names, kinds, days)


STAGED = {  # what is wrong with what was staged -> how it is made of a good set, and what the log says
    "other key": (other_key, "another private key"),
    "other name": (set_for(["b.test"], (-1, 89)), "does not cover a.test"),
    "expired": (set_for(["a.test"], (-90, -1)), "expired on"),
    "not yet valid": (set_for(["a.test"], (2, 89)), "not valid before"),
    "worse": (set_for(["a.test"], (-60, 29)), "before the one in service"),
    "self-signed": (lambda made, kinds: {kind: self_signed(kind) for kind in kinds}, "self-signed"),
}


def self_signed(kind):
    by = sets.Issuer("a.test")
    leaf = by.sign(by.name, by.key, (-1, 89), ["a.test"])
    return by.key, sets.pem(leaf)


@pytest.mark.parametrize("what", STAGED)
def test_bad_set(httpd, what):
    """Each kind keeps what is in service there, in all processes, and another set is ordered."""
    live = Live(httpd, (EC,))
    live.add("a.test", days=(-20, 70))
    httpd.start()
    live.swap("a.test")
    spoil, why = STAGED[what]
    live.stage("a.test", spoil(make_set(["a.test"], [EC]), [EC]))
    live.ask("a.test")
    httpd.wait_log(rf"a\.test\]: the new certificate cannot be put into service: .*{why}")
    assert shown(httpd, "a.test") == live.at["a.test"][-1][EC]
    assert len(live.published("a.test")) == 1 and live.count("a.test") == 1
    wait_for(lambda: not (httpd.store / "staging/a.test/pubcert.p-256.pem").exists(), what="end of it")


def replace(path, content):
    """As a child could."""
    sets.put(path, content, 0o644)
    sets.give_away(path.parent)


def spoiled(content, what, path):
    if what == "truncated":
        return content[:len(content) // 2]
    if what == "empty":
        return b""
    if what == "huge":
        return content + bytes(100 << 20)
    if what == "nonsense":
        return bytes(range(256)) * 100
    return content.replace(b"since", b"sinec", 1)


# Of a published set; not even the child that renews, or root, is to be believed.
@pytest.mark.parametrize("what", ["truncated", "empty", "huge", "nonsense", "other piece", "gone", "unreadable", "link",
                                  "fifo", "directory", "other key", "other name", "expired", "self-signed"])
def test_bad_file(httpd, what):
    """A child that finds such a file goes on with what the start has loaded, and says so once; so does the next start."""
    httpd.add_md_conf("StartServers 1\nServerLimit 1\nThreadsPerChild 25\nMinSpareThreads 1\nMaxSpareThreads 25"
                      "\nMaxRequestWorkers 25")
    live = Live(httpd, (EC,))
    live.add("a.test")
    live.add("b.test")
    httpd.start()
    live.swap("a.test")
    path = live.published("a.test")[0]
    good = path.read_bytes()
    if what in STAGED:
        path.write_bytes(published_as(live, STAGED[what][0](make_set(["a.test"], [EC]), [EC])))
    elif what in ("gone", "link", "fifo", "directory"):
        path.unlink()
        {"gone": lambda: None, "link": lambda: path.symlink_to("/etc/passwd"), "fifo": lambda: os.mkfifo(path),
         "directory": path.mkdir}[what]()
    elif what == "unreadable":
        if os.geteuid():
            pytest.skip("needs root")
        shutil.chown(path, "root")
        path.chmod(0o600)
    else:
        replace(path, spoiled(good, what, path))
    start = live.at["a.test"][0][EC]
    for _ in range(5):
        assert shown(httpd, "a.test") == start
    lines = re.findall(r"md:error.* md\[a\.test\]: this process goes on with the certificates that it has", httpd.error_log())
    assert len(lines) == (0 if what == "gone" else 1), lines
    assert shown(httpd, "b.test") == live.at["b.test"][0][EC]
    httpd.graceful()
    for name in "a.test", "b.test":
        assert shown(httpd, name) == live.at[name][0][EC]
    assert "exit signal" not in httpd.error_log()


def published_as(live, made):
    """The file with another set, as who knows the store's secret can write it."""
    secret = passphrase(live.httpd.store)
    text = live.published("a.test")[0].read_bytes()
    for (kind, (key, chain)) in made.items():
        for label, piece in (b"key.0", sets.key_pem(key, secret)), (b"chain.0", chain):
            text = re.sub(re.escape(label) + rb" (\d+)\n(?s:.*?-----END [A-Z ]+-----\n)\n",
                          lambda _: label + b" %d\n" % len(piece) + piece + b"\n", text)
            if label == b"chain.0":
                text = text[:text.index(b"chain.0 ")] + label + b" %d\n" % len(piece) + piece + b"\n"
    return text


# ---- crashes ----

@pytest.mark.kills
def test_killed(httpd):
    """At any moment: whatever was in service once is in service again."""
    live = Live(httpd, (EC,))
    live.add("a.test")
    httpd.start()
    for n in range(6):
        live.swap("a.test")
        serial = live.stage("a.test")
        live.ask("a.test")
        time.sleep(0.15 * n)  # no condition: any moment will do
        everybody = [httpd.pid(), *httpd.child_pids()]
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, everybody)), what="end")
        httpd.pid_path.unlink()
        httpd.start()
        live.at["a.test"].append(serial)
        assert shown(httpd, "a.test") == serial[EC]
    assert not problems(httpd)


# ---- tls-alpn-01 ----

@pytest.mark.parametrize("kinds", [(EC,), (RSA, EC)])
def test_challenge(httpd, kinds):
    """Whoever gets acme-tls/1 sees the challenge's certificate alone, in the middle of it all."""
    live = Live(httpd, kinds)
    live.add("a.test", extra=ALPN)
    httpd.start()
    for _ in range(2):
        for challenge in [RSA], [EC], [RSA, EC]:
            set_up(httpd, "a.test", *challenge)
            for args, shown_kinds in clients(challenge):
                Shown(httpd, "a.test", *args).assert_challenge(shown_kinds)
        assert shown(httpd, "a.test") in live.at["a.test"][-1].values()
        live.swap("a.test")
    assert not problems(httpd)


# ---- sessions ----

@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions(live, workdir, version):
    """None outlives the temporary certificate."""
    live.add_md_conf("MDomain a.test\nMDInitialDelay 3s")
    live.add_vhost("a.test")
    live.start()
    session = workdir / "session"
    request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
    Shown(live, "a.test", version, "-sess_out", session, alpn=None, data=request)
    in_service(live)
    again = ["-sess_in", session] if session.exists() else []
    answer = Shown(live, "a.test", version, *again, "-sess_out", session, alpn=None, data=request)
    assert "it is served" in answer.text and "Reused," not in answer.text
    answer = Shown(live, "a.test", version, "-sess_in", session, alpn=None, data=request)
    assert "it is served" in answer.text and "Reused," in answer.text


# ---- where it has no effect, or needs care ----

def test_warnings(httpd):
    live = Live(httpd, (EC,), f"CoreDumpDirectory {httpd.dir}\n<MDomain must.test>\nMDMustStaple on\n</MDomain>")
    live.add("a.test")
    httpd.add_vhost("must.test")
    httpd.start()
    httpd.wait_log(r"\[md:warn\].* md\[must\.test\]: with MDMustStaple, MDActivation live has no effect")
    httpd.wait_log(rf"\[md:warn\].* CoreDumpDirectory {httpd.dir} is set")
    status, headers, _ = httpd.get("/", "must.test", https=True)
    assert status == 503 and "Retry-After" not in headers  # that is the TLS module's
    live.swap("a.test")
    assert shown(httpd, "a.test") == live.at["a.test"][1][EC]


def test_cache(httpd):
    """Fewer domains in memory than there are; and one that goes back to restarts."""
    live = Live(httpd, (EC,), "MDLiveCache 2\n<MDomain reload.test>\nMDActivation reload\n</MDomain>")
    names = [f"d{n}.test" for n in range(6)]
    for name in names:
        live.add(name)
    httpd.add_vhost("reload.test")
    httpd.start()
    live.swap(*names)
    for _ in range(3):
        for name in names:
            assert shown(httpd, name) == live.at[name][1][EC]
    live.swap(*names[:3])
    for name in names:
        assert shown(httpd, name) == live.at[name][-1][EC]
    assert not [line for line in problems(httpd) if "reload.test" not in line]
