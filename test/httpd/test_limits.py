# SPDX-License-Identifier: Apache-2.0
"""What the system refuses for a while: threads, descriptors. It is told, nothing is locked or lost meanwhile,
and all goes on by itself soon after."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

import scripted_ca as ca_is
from servers import TIMEOUT, wait_for

pytestmark = pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit (util-linux)")

SOON = 75  # seconds: tried again within about a minute


def limit(pid, which, most):
    """Of `descriptors` or `threads`: no more than `most`; None: as before. The process's own user may do that."""
    option, row = {"descriptors": ("nofile", "Max open files"), "threads": ("nproc", "Max processes")}[which]
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    hard = re.search(rf"^{row} +\S+ +(\S+)", limits, re.M)[1]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    user, group = (int(re.search(rf"^{name}:\t(\d+)", status, re.M)[1]) for name in ("Uid", "Gid"))
    ids = {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(["prlimit", "--pid", str(pid), f"--{option}={hard if most is None else most}:"], check=True, **ids)


def limit_descriptors(pid, free):
    """So many more can be opened."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    most = 0
    while most - len([fd for fd in used if fd < most]) < free or max(used) >= most:
        most += 1
    limit(pid, "descriptors", most)


def is_locked(server):
    """Does a process have the lock of staging?"""
    lock = server.store / "engine.lock"
    if not lock.exists():
        return False
    with open(lock, "r+", encoding="ascii") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def await_renewed(servers, since):
    for server in servers:
        server.await_md(server.name, SOON + TIMEOUT)
    assert time.monotonic() - since < SOON


def test_threads_that_cannot_be_made(fleet, ca):
    server, = fleet(1, then=lambda _, server: limit(server.child, "threads", 1))
    server.wait_log(r"\[md:error\].*cannot create a thread for renewing certificates .*: Resource temporarily "
                    r"unavailable. Trying again in a minute; check the limits on processes")
    wait_for(lambda: not is_locked(server), what="the lock is given back")
    assert not ca.requests and "AH10056" not in server.error_log()
    limit(server.child, "threads", None)
    await_renewed([server], time.monotonic())
    assert server.error_log().count("cannot create a thread") <= 2
    assert ca.count("newOrder") == 1


def test_descriptors_that_run_out(fleet, ca):
    """Before the first look: there are none at all, or a few more in each server."""
    running = fleet(8, then=lambda i, server: limit_descriptors(server.child, i))
    for i, server in enumerate(running):
        lacks = r"\[md:error\].*(Too many open files|no file descriptor is left)"
        server.wait_log(lacks if i < 4 else lacks + "|AH10059")
        wait_for(lambda server=server: not is_locked(server), what="the lock is given back")
    assert not {server.name for server in running[:4]} & {name for order in ca.orders for name in order.names}
    for server in running:
        limit(server.child, "descriptors", None)
    await_renewed(running, time.monotonic())
    for server in running:
        assert ca.count("newOrder", domain=server.name) == 1
        assert (server.store_json("staging", server.name, "job.json") or {"errors": 0})["errors"] == 0


def test_descriptors_that_run_out_in_the_middle(fleet, ca):
    """What is staged cannot be read for a while. It is not taken for damaged or missing."""
    gate = ca.script("authz", ca_is.hold())
    running = fleet(8)
    ca.wait_held(gate, len(running))
    for i, server in enumerate(running):
        limit_descriptors(server.child, i)
    gate.cancel()
    for i, server in enumerate(running):
        lacks = r"\[md:error\].*(Too many open files|no file descriptor is left)"
        server.wait_log(lacks if i < 2 else lacks + "|AH10059")
        wait_for(lambda server=server: not is_locked(server), what="the lock is given back")
    for server in running:
        limit(server.child, "descriptors", None)
    await_renewed(running, time.monotonic())
    assert len(ca.accounts) == len(running)
    for server in running:
        assert ca.count("newOrder", domain=server.name) == 1
        assert not re.search("anew|new order|not used|new key", server.error_log())
