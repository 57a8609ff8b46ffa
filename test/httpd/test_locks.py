# SPDX-License-Identifier: Apache-2.0
"""Servers that share a store: MDStoreLocks lets one at a time rename and activate."""
import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import time

import pytest

import stores
from filled import BOTH, CERT, KEY, LIVE, NAMES, OPEN, configure, kill
from servers import Httpd, wait_for

READY = "configured -- resuming normal operations"


def copy_store(source, target):
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


@contextlib.contextmanager
def held(path):
    """Somebody else has the lock: a record lock, which is one of this process."""
    with open(path, "a", encoding="ascii") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        yield lambda: fcntl.lockf(f, fcntl.LOCK_UN)


def activated(httpd):
    return [name for name in BOTH if (httpd.store / f"archive/{name}.2").exists()]


def waiting(httpd):
    return [name for name in BOTH if (httpd.store / "staging" / name / CERT).exists()]


@pytest.fixture
def pair(workdir, filled):
    """Two servers on one store, with ports of their own."""
    servers = [Httpd(workdir / name) for name in ("first", "second")]
    for server in servers:
        server.store = servers[0].store
        configure(server, filled, NAMES)
        server.add_md_conf(f"MDStoreDir {server.store}\nMDStoreLocks 5s\nMDInitialDelay 1h")
        server.write_conf()
    yield servers
    for server in servers:
        server.stop()


def start_together(servers):
    running = []
    for server in servers:
        server.log_path.unlink(missing_ok=True)
        running.append(subprocess.Popen(
            [server.binary(), "-f", server.conf, "-k", "start"], env=server.env(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    for server, process in zip(servers, running):
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output + server.error_log()
    for server in servers:
        wait_for(lambda server=server: READY in server.error_log() and server.pid_path.exists(),
                 what="both servers")


def check_whole(store, before):
    """The one store of two servers after their start."""
    assert not stores.faults(store)
    assert os.listdir(store / "tmp") == []
    assert stat.S_IMODE((store / "store.lock").stat().st_mode) == 0o640
    for name in NAMES:
        live = all((store / "domains" / name / file).exists() for file in (KEY, CERT))
        assert live != (name in OPEN), name
    for name in BOTH:
        assert not (store / "staging" / name).exists(), name
        assert sorted(p.name for p in (store / "archive").glob(f"{name}.*")) == \
            [f"{name}.1", f"{name}.2"]
    for name in OPEN:
        assert (store / "staging" / name / "order.json").exists()
    accounts = [path.read_text() for path in store.glob("accounts/*/account.json")]
    assert len(accounts) == len(set(accounts)) == before["accounts"] + len(OPEN)
    assert before["keys"].keys() <= stores.private_keys(store).keys()


def test_started_at_the_same_instant(pair, filled):
    before = {"keys": stores.private_keys(filled.store),
              "accounts": len(list(filled.store.glob("accounts/*")))}
    first = {server: 0 for server in pair}
    for _ in range(50):
        copy_store(filled.store, pair[0].store)
        start_together(pair)
        logs = {server: server.error_log() for server in pair}
        for server, log in logs.items():
            assert "[md:error]" not in log and "AH10398" not in log, log
            first[server] += "AH10068" in log
        assert sum(log.count("AH10068") for log in logs.values()) == len(BOTH)
        check_whole(pair[0].store, before)
        for server in pair:
            kill(server)
    assert sum(first.values()) >= 50


@pytest.fixture
def locked(httpd, filled):
    copy_store(filled.store, httpd.store)
    configure(httpd, filled, NAMES)
    return httpd


def test_lock_not_obtained(locked):
    locked.add_md_conf("MDStoreLocks 300ms")
    with held(locked.store / "store.lock"):
        locked.start()
        locked.wait_log(r"\[md:error\].*AH10398: unable to obtain global registry lock")
        locked.wait_log("AH10071")
        assert not activated(locked) and waiting(locked) == BOTH
        assert locked.get("/", LIVE[0], https=True)[0] == 200
    locked.graceful()
    assert activated(locked) == BOTH and not waiting(locked)
    assert locked.error_log().count("AH10398") == 2  # of the two passes of the first start


def test_renames_wait_for_the_lock(locked, filled):
    configure(locked, filled, [name for name in NAMES if name != LIVE[0]])
    locked.add_md_conf(f"<MDomain new.test {LIVE[0]}>\nMDRenewMode manual\n</MDomain>")
    locked.add_vhost("new.test")
    locked.add_md_conf("MDStoreLocks 300ms")
    with held(locked.store / "store.lock"):
        locked.start()
        assert (locked.store / "domains" / LIVE[0] / KEY).exists()
        assert not (locked.store / "domains/new.test" / KEY).exists()
    locked.graceful()
    assert (locked.store / "domains/new.test" / KEY).exists()  # though the first start made a directory
    assert not (locked.store / "domains" / LIVE[0]).exists()


def test_waits_until_it_is_free(locked):
    locked.add_md_conf("MDStoreLocks 30s")
    locked.write_conf()
    with held(locked.store / "store.lock") as release:
        begun = time.monotonic()
        process = subprocess.Popen([locked.binary(), "-f", locked.conf, "-k", "start"],
                                   env=locked.env())
        wait_for(lambda: time.monotonic() - begun > 1, what="a second")
        assert process.poll() is None and not activated(locked)
        release()
        assert process.wait(30) == 0
    locked.wait_log(READY)
    assert activated(locked) == BOTH
    assert "AH10398" not in locked.error_log()


@pytest.mark.parametrize("setting", ["", "MDStoreLocks off", "MDStoreLocks 0"])
def test_never_without_the_lock(locked, setting):
    """MDStoreLocks says how long a start waits, else it is 5 s."""
    locked.add_md_conf(setting)
    locked.write_conf()
    with held(locked.store / "store.lock"):
        process = subprocess.Popen([locked.binary(), "-f", locked.conf, "-k", "start"],
                                   env=locked.env())
        locked.wait_log(r"\[md:notice\].*waiting, as another process has locked \S+/store.lock")
        locked.wait_log(r"\[md:error\].*AH10398: unable to obtain global registry lock")
        assert not activated(locked) and waiting(locked) == BOTH
    assert process.wait(30) == 0
    locked.wait_log(READY)
    wait_for(locked.pid_path.exists, what="httpd")
    if not activated(locked):  # by the second pass of the start
        locked.graceful()
    assert activated(locked) == BOTH and not waiting(locked)


@pytest.mark.parametrize("obstacle, why", [
    ("directory", "it is a directory"), ("fifo", "it is not a regular file")])
def test_lock_file_that_is_none(locked, obstacle, why):
    path = locked.store / "store.lock"
    path.unlink(missing_ok=True)
    os.mkdir(path) if obstacle == "directory" else os.mkfifo(path)
    locked.add_md_conf("MDStoreLocks on")
    locked.start()
    locked.wait_log(rf"AH10398: unable to obtain.*{why}")
    assert waiting(locked) == BOTH
