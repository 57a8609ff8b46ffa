# SPDX-License-Identifier: Apache-2.0
"""A store that real runs have filled, made once per test run and then copied: live domains, staged
sets that wait for a restart, orders under way, several accounts."""
import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import tempfile
import types

import pytest

import stores
from servers import Httpd, Pebble, is_alive, wait_for

LIVE = [f"live{i}.test" for i in range(7)]
BOTH = [f"both{i}.test" for i in range(5)]        # live, and a new set is staged
OPEN = [f"open{i}.test" for i in range(3)]        # an order is under way, an own account
NAMES = LIVE + BOTH + OPEN
CONF = "MDCertificateAgreement accepted\nMDContactEmail admin@example.org\nMDPrivateKeys P-256"
ACCOUNTS = {"live5.test": 1, "live6.test": 2, **{name: i + 3 for i, name in enumerate(OPEN)}}
KEY, CERT = "privkey.p-256.pem", "pubcert.p-256.pem"


def configure(httpd, ca, names, extra=None):
    """The domains of ACCOUNTS have accounts of their own: accounts belong to a directory URL."""
    httpd.md_conf, httpd.vhosts = [CONF, f"MDCACertificateFile {ca.ca_file}"], []
    for name in names:
        httpd.add_md_conf(f"<MDomain {name}>\nMDCertificateAuthority {ca.directory_url}"
                          f"?{ACCOUNTS.get(name, 0)}\n{(extra or {}).get(name, '')}\n</MDomain>")
        httpd.add_vhost(name)


def kill(httpd):
    """As the kernel does when memory runs out: nobody tidies up."""
    pids = [httpd.pid(), *httpd.child_pids()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, pids)), what="end of httpd")
    httpd.pid_path.unlink()


@contextlib.contextmanager
def unanswered(httpd, ca, names):
    """The CA is led to an address where connections are made, and nothing is said: it validates for as long as it
    has patience, which is some seconds."""
    for name in names:
        ca.dns_set("add-a", host=f"{name}.", addresses=["127.0.0.2"])
    with socket.create_server(("127.0.0.2", httpd.http_port)), socket.create_server(("127.0.0.2", httpd.https_port)):
        yield


def make_store(directory):
    httpd = Httpd(directory / "maker")
    with Pebble(directory / "pebble", httpd.http_port, httpd.https_port) as ca, httpd:
        configure(httpd, ca, LIVE + BOTH)
        httpd.start()
        httpd.await_md(LIVE + BOTH)
        httpd.graceful()
        configure(httpd, ca, LIVE + BOTH, {name: "MDRenewWindow 120d" for name in BOTH})
        httpd.graceful()
        wait_for(lambda: all((httpd.store_json("staging", name, "job.json") or {}).get("finished")
                             for name in BOTH), what="staged sets")
        configure(httpd, ca, LIVE + BOTH + OPEN,
                  {name: "MDRenewMode manual" for name in LIVE + BOTH})
        httpd.stop()
        # only the documents of the last configuration are live, and nothing of it is activated
        shutil.move(httpd.store / "staging", directory / "staging")
        with unanswered(httpd, ca, OPEN):
            httpd.start()
            parts = [httpd.store / "staging" / name / file for name in OPEN
                     for file in ("order.json", "account.json", KEY)]
            wait_for(lambda: all(part.exists() for part in parts), what="open orders", every=0.01)
            kill(httpd)
    for path in httpd.store.rglob("*.tmp"):  # they may stay for a while: a server may be at work
        path.unlink()
    for name in BOTH:
        shutil.rmtree(httpd.store / "staging" / name, ignore_errors=True)
        shutil.move(directory / "staging" / name, httpd.store / "staging" / name)
    ocsp = httpd.store / "ocsp" / "live3.test"
    ocsp.mkdir(exist_ok=True)
    (ocsp / "job.json").write_text('{"name": "live3.test", "finished": true, "errors": 0}')
    (httpd.store / "httpd.json").write_text('{"proto": {"http": true, "https": true}}')
    assert not stores.faults(httpd.store)
    return {"store": httpd.store, "ca_url": ca.directory_url, "ca_file": ca.ca_file}


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """Made once for all processes of this test run. The CA is gone afterwards."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    place = pathlib.Path(tempfile.gettempdir()) / f"md-damage-{os.getuid()}-{base.name}"
    with open(f"{place}.lock", "w", encoding="ascii") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        done = place / "done"
        if not done.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            made = make_store(place)
            done.write_text("\n".join(str(made[k]) for k in ("store", "ca_url", "ca_file")))
        users = place / f"user-{os.getpid()}"
        users.touch()
    store, url, ca_file = done.read_text().splitlines()
    yield types.SimpleNamespace(store=pathlib.Path(store), directory_url=url, ca_file=ca_file)
    with open(f"{place}.lock", "w", encoding="ascii") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        users.unlink()
        if not list(place.glob("user-*")):
            shutil.rmtree(place)
            os.unlink(f"{place}.lock")
