# SPDX-License-Identifier: Apache-2.0
"""Damaged documents and PEM files in a store that real runs have filled: the server starts, one
line tells about each, the other domains are served, what can be repaired is, no private key is lost.

One server takes one kind of damage to every document at once, each in a domain of its own."""
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives import serialization

import stores
from filled import BOTH, CERT, KEY, NAMES, OPEN, configure
from servers import wait_for

IS_ROOT = os.geteuid() == 0

@pytest.fixture
def damaged(httpd, filled):
    """An httpd with a copy of the store."""
    subprocess.run(["cp", "-a", filled.store, httpd.store], check=True)
    configure(httpd, filled, NAMES)
    httpd.log_level = "info md:debug"
    return httpd


# ---- damage ----

WRONG_TYPES = ('{"name": 5, "domains": {"a": 1}, "contacts": 7, "ca": ["x"], "privkey": 3,'
               ' "state": "s", "url": 1, "ca-url": {}, "status": [], "authorizations": 5, "challenge-setups": 6,'
               ' "finished": "yes", "errors": "many", "last": [], "log": 5, "proto": [],'
               ' "store": [], "key": 5, "renew-window": {}, "transitive": "x", "contact": 9}')


def write(text):
    def damage(path, _):
        path.write_bytes(text)
    return damage


def truncate(path, _):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def huge(path, _):
    with open(path, "r+b") as f:
        f.truncate(100 * 1024 * 1024)


def link_outside(path, outside):
    """To a copy that would be all right."""
    target = outside / path.parent.name / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


def link_to_itself(path, _):
    path.unlink()
    path.symlink_to(path)


def directory(path, _):
    owner = path.stat().st_uid
    path.unlink()
    path.mkdir()
    (path / "content").write_text("x")
    for part in path, path / "content":
        os.chown(part, owner, -1)


def fifo(path, _):
    path.unlink()
    os.mkfifo(path)


def no_permission(path, _):
    path.chmod(0)


def give_permission(store):
    """What had none is sound, once it can be read. (Root reads it anyway.)"""
    for path in store.rglob("*"):
        if stat.S_IMODE(path.lstat().st_mode) == 0:
            path.chmod(0o600)


KINDS = {
    "empty": write(b""),
    "truncated": truncate,
    "array": write(b"[]"),
    "wrong-types": write(WRONG_TYPES.encode()),
    "huge": huge,
    "nested": write(b"[" * 100000 + b"]" * 100000),
    "binary": write(bytes(range(256)) * 8),
    "link-outside": link_outside,
    "link-to-itself": link_to_itself,
    "directory": directory,
    "fifo": fifo,
    "no-permission": no_permission,
}

# Everything that is damaged at the same time. A number is the account of a directory URL.
NEVER_READ = ["domains/live1.test/job.json", "archive/live2.test.1/md.json",
              "ocsp/live3.test/job.json"]
LIVE_FILES = ["domains/live0.test/md.json", f"domains/live4.test/{KEY}",
              f"domains/live5.test/{CERT}"]
SHARED_FILES = ["staging/both0.test/md.json", "staging/both1.test/job.json",
                f"staging/both2.test/{KEY}", f"staging/both3.test/{CERT}",
                "staging/open0.test/order.json", "staging/open1.test/account.json",
                "staging/open2.test/account.pem", "account-1/account.json", "account-2/account.pem"]
TARGETS = ["httpd.json", *LIVE_FILES, *SHARED_FILES, *NEVER_READ]

# Notes of ours that are worth nothing when they cannot be read.
REMOVED = ["httpd.json", "staging/both1.test/job.json", "staging/open0.test/order.json"]

# Who does not serve the certificate of before: a temporary one, or the new set.
TEMPORARY = {"live4.test", "live5.test", *OPEN}
ACTIVATED = {"both1.test", "both4.test"}


def place_of(store, target):
    """The file of a target; accounts are found by the domains that use them."""
    number = re.match(r"account-(\d)/", target)
    if not number:
        return store / target
    for path in store.glob("accounts/*/account.json"):
        if f"?{number[1]}\"" in path.read_text():
            return path.parent / target.split("/")[1]
    raise AssertionError(f"no {target}")


def expected_lines(target, kind):
    if target in NEVER_READ:
        return 0
    if kind == "no-permission" and IS_ROOT and target not in SHARED_FILES:
        return 0  # who reads it is root
    return 1


def lines_about(log, place):
    """Those that an administrator sees at the level of every day."""
    pattern = re.compile(rf"\[md:(?:error|warn|notice|info)\].*{re.escape(place)}(?![\w-])")
    return [line for line in log.splitlines() if pattern.search(line)]


def digest(path):
    """Of a regular file; its size and beginning are enough to know it again."""
    try:
        if path.is_file() and not path.is_symlink():
            with open(path, "rb") as f:
                return path.stat().st_size, hashlib.sha256(f.read(100000)).hexdigest()
    except OSError:
        pass
    return None


def memory_of(httpd):
    sizes = []
    for pid in [httpd.pid(), *httpd.child_pids()]:
        with contextlib.suppress(OSError):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            sizes += [int(n) for n in re.findall(r"VmHWM:\s+(\d+)", status)]
    return max(sizes)


def serials(httpd):
    return {name: httpd.tls_cert(name).serial_number for name in NAMES}


def stored_serials(store, group):
    from cryptography import x509
    found = {}
    for path in store.glob(f"{group}/*/{CERT}"):
        found[path.parent.name] = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
    return found


def check_served(httpd, kind, live, staged):
    """Texts about domains that are served with another certificate than they should."""
    works = kind == "no-permission" and IS_ROOT
    found = []
    for name, serial in serials(httpd).items():
        group = staged if name in BOTH and (works or name in ACTIVATED) else live
        if name in TEMPORARY and not (works and name in live):
            if serial in (live.get(name), staged.get(name)):
                found.append(f"{name}: a damaged certificate is served")
        elif serial != group[name]:
            found.append(f"{name}: an unexpected certificate is served")
    return found


def put_damage(store, kind, outside):
    """Returns for every target where it is and what is there now."""
    places = {target: place_of(store, target) for target in TARGETS}
    for path in places.values():
        KINDS[kind](path, outside)
    return places


@pytest.mark.parametrize("how", ["start", "reload"])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged(damaged, kind, how, workdir):
    httpd, store = damaged, damaged.store
    live, staged = stored_serials(store, "domains"), stored_serials(store, "staging")
    outside = workdir / "outside"
    if how == "reload":
        for name in BOTH:  # so that the first start activates nothing
            shutil.move(store / "staging" / name, workdir / name)
        httpd.add_md_conf("MDInitialDelay 1h")
        httpd.start()
        del httpd.md_conf[-1]
        for name in BOTH:
            shutil.move(workdir / name, store / "staging" / name)
    keys = stores.private_keys(store)
    places = put_damage(store, kind, outside)
    left = keys if kind == "no-permission" else stores.private_keys(store)
    digests = {target: digest(path) for target, path in places.items()}
    mark = len(httpd.error_log())
    if how == "reload":
        httpd.graceful()
    else:
        httpd.start()
    wait_for(lambda: "AH10107" in httpd.error_log()[mark:], what="the engine's first round")
    wait_for(lambda: all(f"processing {name}" in httpd.error_log()[mark:] for name in OPEN),
             what="runs without a CA")
    log = httpd.error_log()[mark:]
    problems = check_served(httpd, kind, live, staged)
    for target, path in places.items():
        about = lines_about(log, str(path.relative_to(store)))
        if len(about) != expected_lines(target, kind):
            problems.append(f"{target}: {len(about)} lines {about}")
    if kind == "no-permission":
        digests = {}
        give_permission(store)
    problems += stores.faults(store, NEVER_READ)
    now = stores.private_keys(store)
    problems += [f"the key of {left[k]} is lost" for k in left if k not in now]
    assert len(left) >= len(keys) - 4
    contents = {digest(path) for path in stores.regular_files(store)}
    problems += [f"{target}: what was there is gone" for target, content in digests.items()
                 if content and content not in contents and target not in REMOVED]
    if kind == "link-outside":
        problems += [f"{path} outside of the store was touched"
                     for path in (outside / place.parent.name / place.name
                                  for place in places.values()) if not path.is_file()]
    if not (httpd.dir / "sanitizer-is-on").exists():
        assert memory_of(httpd) < 60 * 1024
    assert not problems, "\n".join(problems)


REFUSED = [kind for kind in KINDS if kind not in ("link-outside", "no-permission")]


@pytest.mark.parametrize("kind", KINDS)
def test_central_file(damaged, kind, workdir):
    """md_store.json holds the key to all others: it is never replaced, and without it there is no
    start. A link to a good one is as good."""
    path = damaged.store / "md_store.json"
    keys = stores.private_keys(damaged.store)
    good = path.read_bytes()
    KINDS[kind](path, workdir / "outside")
    if kind not in REFUSED and (IS_ROOT or kind == "link-outside"):
        damaged.start()
        assert not lines_about(damaged.error_log(), "md_store.json")
        return
    content = digest(path)
    done = damaged.start(expect_success=False)
    assert done.returncode != 0
    lines = lines_about(damaged.error_log() + done.stderr, "md_store.json")
    assert len(lines) == 1 and "AH10046" in lines[0], lines
    if kind == "no-permission":
        assert lines[0].endswith(f"Permission denied. Its owner needs permission: chmod u+rwX {path}")
    else:
        assert "repair" in lines[0] and "restore it from a backup" in lines[0]
    assert digest(path) == content
    with contextlib.suppress(OSError):
        path.unlink() if not path.is_dir() or path.is_symlink() else shutil.rmtree(path)
    path.write_bytes(good)
    assert stores.private_keys(damaged.store) == keys
    damaged.start()


# ---- repair with the help of the CA ----

def served_by(httpd, ca, name):
    return httpd.get("/", name, https=True, verify=ca.root_file.read_text())[0] == 200


@pytest.mark.parametrize("kind", ["empty", "truncated", "binary", "directory", "link-outside"])
def test_live_pair_is_ordered_anew(httpd, ca, kind, workdir):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDPrivateKeys P-256")
    names = ["key.test", "cert.test", "sound.test"]
    for name in names:
        httpd.add_md_conf(f"MDomain {name}")
        httpd.add_vhost(name)
    httpd.start()
    httpd.await_md(names)
    httpd.graceful()
    keys = stores.private_keys(httpd.store)
    for name, file in ("key.test", KEY), ("cert.test", CERT):
        KINDS[kind](httpd.store / "domains" / name / file, workdir / "outside")
    left = stores.private_keys(httpd.store)
    httpd.graceful()
    assert served_by(httpd, ca, "sound.test")
    for name in names[:2]:
        httpd.wait_log(rf"AH10059: The Managed Domain {name} ", count=2)
    httpd.graceful()
    assert all(served_by(httpd, ca, name) for name in names)
    assert left.keys() <= stores.private_keys(httpd.store).keys() and len(left) >= len(keys) - 1
    assert os.path.lexists(httpd.store / "archive/key.test.2" / KEY)
    assert os.path.lexists(httpd.store / "archive/cert.test.2" / CERT)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("no-permission", "huge")])
def test_staged_account_is_found_by_its_key(httpd, ca, kind, workdir):
    """Its document is damaged while the first order is under way: no second account."""
    httpd.use_ca(ca)
    httpd.add_md_conf("MDPrivateKeys P-256\nMDRetryDelay 1s\nMDomain one.test")
    httpd.add_vhost("one.test")
    rule = ca.script("newOrder", "refuse")
    httpd.start()
    httpd.await_error("one.test")
    httpd.stop()
    staged = httpd.store / "staging/one.test"
    KINDS[kind](staged / "account.json", workdir / "outside")
    ca.calm()
    assert rule
    httpd.start()
    httpd.await_md("one.test")
    assert len(ca.accounts) == 1
    httpd.graceful()
    assert served_by(httpd, ca, "one.test")
    [account] = (httpd.store / "accounts").iterdir()
    assert httpd.store_json("accounts", account.name, "account.json")["url"]


def test_another_account_is_not_overwritten(httpd, ca):
    """Two servers registered on their own: both accounts are kept, one is used by all."""
    httpd.use_ca(ca)
    httpd.add_md_conf("MDPrivateKeys P-256\nMDomain one.test\nMDomain two.test")
    for name in "one.test", "two.test":
        httpd.add_vhost(name)
    httpd.start()
    httpd.await_md(["one.test", "two.test"])
    httpd.stop()
    secret = stores.passphrase(httpd.store)
    [holder] = {path.parent for path in httpd.store.glob("staging/*/account.pem")}
    other = httpd.store / "staging" / ({"one.test", "two.test"} - {holder.name}).pop()
    key = ec.generate_private_key(ec.SECP256R1())
    (other / "account.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret)))
    url = httpd.store_json("staging", holder.name, "account.json")["url"]
    (other / "account.json").write_text(
        (holder / "account.json").read_text().replace(url, url + "0"))
    keys = stores.private_keys(httpd.store)
    httpd.start()
    assert keys.keys() <= stores.private_keys(httpd.store).keys()
    assert len(list((httpd.store / "accounts").iterdir())) == 2
    used = {httpd.store_json("domains", name, "md.json")["ca"]["account"]
            for name in ("one.test", "two.test")}
    assert len(used) == 1
