# SPDX-License-Identifier: Apache-2.0
"""MDActivation live: certificates are in service the moment they are issued, with no restart."""
import os
import ssl
import time

import pytest

from live import EC, RSA, IN_SERVICE, Live, contexts, handshake, shown
from load import Load
from servers import wait_for
from test_a2md import Tool
from test_events import Command

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
    assert not httpd.problems()


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
    assert not httpd.problems()
