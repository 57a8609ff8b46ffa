# SPDX-License-Identifier: Apache-2.0
"""A store on a disk that is full: nothing is ordered that could not be kept, attempts come ever more rarely, and
all goes on by itself when there is space again."""
import contextlib
import datetime
import os
import re
import shutil
import subprocess

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

import scripted_ca as ca_is
from ocsp_ca import OcspCA, serial_of, stapled, tls
from servers import wait_for

SIZE = 2 * 1024 * 1024
PAGE = 4096
KINDS = ["directory", "newNonce", "newAccount", "newOrder", "authz", "challenge", "finalize", "certificate"]
FREE = [0, 1, 2, 3, 5, 7, 9, 11, 13, 16]  # pages

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"),
                                reason="needs root to mount a file system")


@pytest.fixture
def disk(workdir):
    """Gives a server a small disk for its store."""
    mounted = []

    def mount(server):
        server.store.mkdir()
        options = f"size={SIZE},mode=0755"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(server.store)],
                              capture_output=True, text=True)
        if done.returncode:
            pytest.skip("no file system can be mounted here: " + done.stderr)
        mounted.append(server.store)
    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def fleet_on_disks(disk, fleet):
    """The servers end before their disks do."""
    return lambda *args, **kw: fleet(*args, before=disk, **kw)


def fill(server, pages=0):
    """All but so many pages."""
    with open(server.store / "ballast", "ab") as f:
        while (free := os.statvfs(server.store).f_bavail * PAGE) > pages * PAGE:
            f.write(b"x" * min(free - pages * PAGE, 65536))
            f.flush()


def make_space(server):
    (server.store / "ballast").unlink()


def failures(server):
    """When attempts failed for lack of space."""
    lines = re.findall(r"^\[(.*?)\] \[md:error\].*AH10056: .*No space left on device", server.error_log(), re.M)
    return [datetime.datetime.strptime(line, "%a %b %d %H:%M:%S.%f %Y") for line in lines]


def is_issued(server):
    return "AH10059" in server.error_log()


def await_failures(servers):
    """Some may not notice, as what they need was there already."""
    for server in servers:
        wait_for(lambda server=server: len(failures(server)) >= 4 or is_issued(server),
                 what=f"failures of {server.name}")


def check(server, ca):
    """When there is space again."""
    server.await_md(server.name)
    times = failures(server)
    gaps = [(b - a).total_seconds() for a, b in zip(times, times[1:])]
    assert all(gap > 0.45 * 2 ** i for i, gap in enumerate(gaps)), gaps
    assert server.error_log().count("AH10056") == len(times)
    orders = [order for order in ca.orders if server.name in order.names]
    assert len(orders) == 1 and orders[0].downloaded


def test_a_disk_that_is_almost_full(fleet_on_disks, ca):
    """Before the first attempt."""
    servers = fleet_on_disks(len(FREE), then=lambda i, server: fill(server, FREE[i]))
    await_failures(servers)
    assert failures(servers[0]) and is_issued(servers[-1])
    for server in servers:
        make_space(server)
    for server in servers:
        check(server, ca)
    assert len(ca.accounts) == len(servers)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_disk_that_is_full_in_the_middle(fleet_on_disks, workdir, when):
    """While a request is under way: what its answer says cannot be stored."""
    with contextlib.ExitStack() as stack:
        cas = [stack.enter_context(ca_is.ScriptedCA(workdir / kind)) for kind in KINDS]
        gates = [ca.script(kind, ca_is.hold(when), times=1) for ca, kind in zip(cas, KINDS)]
        servers = fleet_on_disks(len(KINDS), cas=cas)
        for server, ca, gate in zip(servers, cas, gates):
            ca.wait_held(gate)
            fill(server)
            ca.release()
        await_failures(servers)
        for server in servers:
            make_space(server)
        for server, ca in zip(servers, cas):
            check(server, ca)
            assert len(ca.accounts) == 1


def test_responses_on_a_full_disk(disk, httpd, workdir):
    """They are stapled all the same, and fetched again when they can be kept."""
    with OcspCA(workdir / "ocsp") as ocsp:
        pair = ocsp.issue("one.test")
        ocsp.status[serial_of(pair)] = OCSPResponseStatus.TRY_LATER
        disk(httpd)
        httpd.add_md_conf("MDStapling on\nMDRetryDelay 1s")
        httpd.add_vhost("one.test", extra=tls(pair))
        httpd.start()
        wait_for(lambda: ocsp.asked, what="a request")
        fill(httpd)
        ocsp.status.clear()

        def status():
            return stapled(httpd.https_port, "one.test", ocsp.issuer)
        wait_for(lambda: status() == OCSPCertStatus.GOOD, what="a staple")
        responses = httpd.store / "ocsp" / "other"
        assert not list(responses.glob("ocsp-*"))
        httpd.wait_log("is stapled, but cannot be stored: ")
        httpd.graceful()
        assert status() == OCSPCertStatus.GOOD
        make_space(httpd)
        httpd.graceful()
        wait_for(lambda: list(responses.glob("ocsp-*.json")), what="a stored response")
        assert status() == OCSPCertStatus.GOOD
