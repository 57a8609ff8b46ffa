# SPDX-License-Identifier: Apache-2.0
"""Fixtures: every test has servers of its own, and a failing one prints what they logged."""
import pathlib
import signal
import tempfile

import pytest

from filled import filled  # noqa: F401
from scripted_ca import ScriptedCA
from servers import TIMEOUT, Httpd, Pebble, wait_for

LIMIT = 4 * TIMEOUT  # of a test, in seconds; so much again for making and ending its servers


@pytest.fixture
def workdir():
    """Readable for the server's user; pytest's own directories are private."""
    with tempfile.TemporaryDirectory(prefix="md-", ignore_cleanup_errors=True) as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def made_keys(monkeypatch):
    """Servers make their RSA keys themselves, which takes its time."""
    monkeypatch.setattr(Httpd, "has_ready_keys", False)


@pytest.fixture
def httpd(workdir, request):
    server = Httpd(workdir / "httpd")
    yield server
    server.stop()
    reports = [r.read_text(errors="replace") for r in server.dir.glob("sanitizer.*")]
    failed = getattr(request.node, "failed", False)
    if failed or reports:
        lines = server.error_log().splitlines()
        print("\n==== httpd's error log (last 150 lines)", *lines[-150:], sep="\n")
        print("==== store", *sorted(str(p.relative_to(server.dir)) for p in server.store.rglob("*")),
              sep="\n")
    assert not reports, reports
    assert "exit signal" not in server.error_log() or request.node.get_closest_marker("kills")


@pytest.fixture
def pebble_options():
    """Override by parametrisation: keyword arguments of Pebble."""
    return {}


@pytest.fixture
def pebble(workdir, httpd, pebble_options, request):
    with Pebble(workdir / "pebble", httpd.http_port, httpd.https_port, **pebble_options) as ca:
        yield ca
        if getattr(request.node, "failed", False):
            print("\n==== pebble (last 60 lines)",
                  *ca.log_path.read_text(errors="replace").splitlines()[-60:], sep="\n")


@pytest.fixture
def ca(workdir, request):
    """A CA that takes every challenge for proven, and misbehaves on request."""
    with ScriptedCA(workdir / "ca") as ca:
        yield ca
        if getattr(request.node, "failed", False):
            print("\n==== CA\n" + ca.log())


@pytest.fixture
def fleet(workdir, ca):
    """Any number of servers, each with a domain of its own. `before(server)` comes before its start, and
    `then(i, server)` when it has started, but before the first look at the domain; `cas`: one for each."""
    started = []

    def start(count, before=None, then=None, cas=None):
        for i in range(count):
            server = Httpd(workdir / f"httpd{i}")
            server.name = f"d{i}.example.org"
            server.use_ca(cas[i] if cas else ca)
            server.add_md_conf(f"MDRetryDelay 1s\nMDPrivateKeys P-256\nMDomain {server.name}")
            server.add_vhost(server.name)
            if then:
                server.add_md_conf("MDInitialDelay 5s")
            started.append(server)
            if before:
                before(server)
            server.start()
            server.child = wait_for(server.watchdog_pid, what="the child that renews")
            if then:
                then(i, server)
        return started
    yield start
    for server in started:
        server.stop()
        print(f"\n==== {server.name}", *server.error_log().splitlines()[-40:], sep="\n")
    assert not [server.name for server in started if "exit signal" in server.error_log()]


@pytest.fixture
def env(httpd, pebble):
    """An httpd that knows the CA and its terms; add domains and vhosts, then start."""
    httpd.use_ca(pebble)
    httpd.ca = pebble
    return httpd


def pytest_configure(config):
    config.addinivalue_line("markers", "kills: the test ends children by signals")
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))  # and so servers are ended


@pytest.hookimpl(hookwrapper=True)
def limited(item):
    def late(*_):
        pytest.fail(f"{item.nodeid} was not done within {LIMIT} s")
    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = limited


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if outcome.get_result().failed:
        item.failed = True
