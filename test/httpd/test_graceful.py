# SPDX-License-Identifier: Apache-2.0
"""Reloads in the middle of the work, and what the work leaves behind in the process."""
import os
import re
import time

import pytest

from servers import wait_for

pytestmark = pytest.mark.usefixtures("made_keys")


def status_of(pid, key):
    return int(re.search(rf"{key}:\s+(\d+)", open(f"/proc/{pid}/status").read())[1])


@pytest.mark.parametrize("pebble_options", [{"env": {"PEBBLE_VA_SLEEPTIME": 2}}])
def test_reload_every_second_during_issuance(env):
    names = [f"d{i}.example.org" for i in range(20)]
    for name in names:
        env.add_md_conf(f"MDomain {name}")
        env.add_vhost(name)
    env.start()

    def missing():
        return [n for n in names if not (env.store / "domains" / n / "pubcert.pem").exists()]

    end = time.monotonic() + 120
    while missing() and time.monotonic() < end:
        started = time.monotonic()
        env.graceful()
        wait_for(lambda: time.monotonic() - started > 1, what="a second")
    assert not missing()
    assert not env.problems()
    root = env.ca.root_pem()
    for name in names:
        assert env.get("/", name, https=True, verify=root)[0] == 200
    assert env.ca.accounts() == 1


def test_nothing_is_left_over(env):
    names = [f"d{i}.example.org" for i in range(30)]
    env.add_md_conf("MDInitialDelay 2s\nMDPrivateKeys P-256")
    for name in names:
        env.add_md_conf(f"MDomain {name}")
        env.add_vhost(name)
    env.start()
    env.wait_log("AH10054")
    pid = env.watchdog_pid()
    wait_for(lambda: status_of(pid, "Threads") > 2, what="threads of the MPM")
    before = None
    while "AH10055" not in env.error_log():
        before = status_of(pid, "Threads"), len(os.listdir(f"/proc/{pid}/fd"))
        time.sleep(0.05)
    assert before
    env.await_md(names)
    wait_for(lambda: status_of(pid, "Threads") <= before[0], 15, "threads to end")
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before[1], 15, "descriptors to be closed")
    if not (env.dir / "sanitizer-is-on").exists():
        assert status_of(pid, "VmHWM") < 40 * 1024
