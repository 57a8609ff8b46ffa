# SPDX-License-Identifier: Apache-2.0
"""Servers that share a store: MDStoreLocks lets one at a time rename and activate."""
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import threading
import time

import pytest

import sets
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


SETS = [f"d{i}.test" for i in range(40)]
NEW = [f"n{i}.test" for i in range(20)]  # without certificate: a temporary pair is made


@pytest.fixture
def many(workdir):
    """Two servers on one store, a staged set for each live domain."""
    servers = [Httpd(workdir / name) for name in ("first", "second")]
    for server in servers:
        server.store = servers[0].store
        sets.configure(server, SETS + NEW)
        server.add_md_conf(f"MDStoreDir {server.store}")
        server.log_level = "warn md:info"
        server.write_conf()
    sets.make_store(servers[0].store)
    for name in SETS:
        sets.put_live(servers[0].store, [name])
    yield servers
    for server in servers:
        server.stop()


def look_until(done, store, torn):
    """What somebody who looks finds: a whole set of each domain at any time."""
    while not done.is_set():
        for name in SETS:
            directory = os.open(store / "domains" / name, os.O_RDONLY | os.O_DIRECTORY)
            missing = {KEY, CERT, "md.json"} - set(os.listdir(directory))
            os.close(directory)
            if missing:
                torn.append((name, missing))


def test_a_whole_set_at_any_time(many):
    store = many[0].store
    for _ in range(3):
        staged = {name: sets.put_staged(store, [name]) for name in SETS}
        for name in NEW:
            shutil.rmtree(store / "domains" / name, ignore_errors=True)
        done, torn = threading.Event(), []
        watcher = threading.Thread(target=look_until, args=(done, store, torn))
        watcher.start()
        start_together(many)
        done.set()
        watcher.join()
        assert not torn
        logs = [server.error_log() for server in many]
        assert not any("[md:error]" in log or "AH02565" in log for log in logs), logs
        assert sum(log.count("AH10068") for log in logs) == len(SETS)
        for name in SETS:
            assert sets.is_whole(store / "domains" / name)
            assert sets.live_serial(store, name) == staged[name]
        assert not os.listdir(store / "tmp") and not os.listdir(store / "staging")
        for server in many:
            assert "Fallback" in server.tls_cert(NEW[0]).issuer.rfc4514_string()
            kill(server)


def begins_removal(store):
    """A moment after the first of what was staged is gone."""
    def has_begun():
        return any(not (store / "staging" / name / "md.json").exists() for name in SETS)
    return has_begun


def test_killed_while_it_activates(many):
    """Whatever the moment: all is there, and the next start has the new sets in service."""
    server, store = many[0], many[0].store
    for delay in 0.05, 0.1, 0.15, 0.2, 0.3, None:
        staged = {name: sets.put_staged(store, [name]) for name in SETS}
        before = stores.private_keys(store)
        process = subprocess.Popen([server.binary(), "-f", server.conf, "-DFOREGROUND"], env=server.env(),
                                   start_new_session=True, stderr=subprocess.DEVNULL)
        if delay is None:
            wait_for(begins_removal(store), what="a removal", every=0.0005)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        server.pid_path.unlink(missing_ok=True)
        assert before.keys() <= stores.private_keys(store).keys()
        assert all(sets.is_whole(store / "domains" / name) for name in SETS)
        server.start()
        assert before.keys() <= stores.private_keys(store).keys()
        assert {name: sets.live_serial(store, name) for name in SETS} == staged
        assert not os.listdir(store / "tmp") and "[md:error]" not in server.error_log()
        assert not any((store / "staging" / name / "md.json").exists() for name in SETS)
        kill(server)
