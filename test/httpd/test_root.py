# SPDX-License-Identifier: Apache-2.0
"""Root in a store in which children write: it follows nothing, gives nothing away, is not kept busy, and puts
nothing into service that it did not check."""
import os
import shutil
import stat
import subprocess
import time

import pytest

import sets
from servers import run, sanitizer_of
from sets import KEY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root does")


@pytest.fixture
def served(httpd):
    """A server with a certificate for a.test."""
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["a.test"])
    sets.configure(httpd, ["a.test"])
    return httpd


def snapshot(*roots):
    """Owner, mode and content of all there is."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            st = path.lstat()
            found[str(path)] = (st.st_uid, st.st_mode, st.st_nlink,
                                path.read_bytes() if stat.S_ISREG(st.st_mode) else None)
    return found


def make_victim(workdir):
    victim = workdir / "victim"
    (victim / "a.test" / "deeper").mkdir(parents=True)
    for path in victim / "file", victim / "a.test" / "file", victim / "a.test/deeper/file.tmp":
        path.write_text("precious")
        path.chmod(0o600)
        os.utime(path, (1, 1))
    for path in victim, victim / "a.test", victim / "a.test/deeper":
        path.chmod(0o700)
    return victim


@pytest.mark.parametrize("group", ["staging", "challenges", "accounts", "domains", "ocsp", "tmp", "archive", "requests",
                                   "answers"])
def test_base_that_children_own(served, workdir, group):
    """`chown -R www-data md` is what people try first; then a child may put links in place of directories."""
    served.start()
    victim = make_victim(workdir)
    for path in [served.store, *served.store.rglob("*")]:
        shutil.chown(path, sets.USER)
    place = served.store / group
    if group != "domains":
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(victim)
    else:
        (place / "gone.test").symlink_to(victim)
    before = snapshot(victim)
    tested = served.configtest()
    assert tested.returncode == 0 and f"chown root {served.store} && chmod go-w " in tested.stderr
    served.graceful()
    served.wait_log(rf"\[md:error\].*AH10047: .*{served.store} belongs to the user '{sets.USER}'.*'chown root "
                    rf"{served.store} && ")
    assert served.get("/", "a.test", https=True)[0] == 200
    assert "belongs to the user" in served.md_status("a.test")["renewal"]["last"]["detail"]
    assert snapshot(victim) == before
    assert served.store.owner() == sets.USER


def test_the_command_that_repairs(served):
    served.start()
    for path in [served.store, *served.store.rglob("*")]:
        shutil.chown(path, sets.USER)
    served.graceful()
    log = served.error_log()
    command = log[log.index("'chown root ") + 1:]
    command = command[:command.index("'")]
    assert os.system(command) == 0
    sets.put_staged(served.store, ["a.test"])
    served.graceful()
    assert served.error_log().count("AH10047") == 1
    assert served.error_log().count("AH10068") == 1
    assert (served.store / "domains/a.test" / KEY).stat().st_uid == 0


@pytest.mark.parametrize("path, mode", [("", 0o777), ("", 0o775), ("domains", 0o770), ("accounts", 0o1777)])
def test_writable_for_others(served, path, mode):
    (served.store / path).mkdir(exist_ok=True)
    (served.store / path).chmod(mode)
    served.start()
    served.wait_log(r"\[md:error\].*AH10047: .* can be written to by others.*'chown root .*chmod go-w ")
    assert stat.S_IMODE((served.store / path).stat().st_mode) == mode


def test_way_that_others_could_change(served):
    """Whoever owns a directory above the store could put another one in its place."""
    parent = served.store.parent
    before = parent.stat()
    sets.put_staged(served.store, ["a.test"])
    os.chown(parent, sets.uid(), -1)
    served.start()
    served.wait_log(rf"\[md:error\].*AH10047: .*{parent} belongs to the user '{sets.USER}', who could put another directory "
                    rf"in the place of the store {served.store}\. Give it to root with 'chown root {parent} && chmod go-w "
                    rf"{parent}'")
    assert "AH10068" not in served.error_log()
    from test_a2md import Tool
    assert f"{parent} belongs to the user" in Tool(served.store).fails("list")
    os.chown(parent, before.st_uid, -1)
    served.graceful()
    served.wait_log("AH10068: a.test: staged set activated")


def test_tool_in_a_store_of_others(served):
    from test_a2md import Tool
    tool = Tool(served.store)
    tool.ok("list")
    shutil.chown(served.store, sets.USER)
    for command in ["list"], ["add", "b.test"], ["drive"]:
        told = tool.fails(*command)
        assert "belongs to the user" in told and "chown root" in told
    assert not (served.store / "domains/b.test").exists()


def readable(path):
    return stat.S_IMODE(path.lstat().st_mode) & 0o044


SECRETS = {  # what is root's alone, and a child has moved here
    "secret": b"root:$6$secret\n",
    "account.json": b'{"url": "https://ca.test/1", "ca-url": "https://ca.test/", "token": "secret"}',
    "job.json": b'{"name": "a.test", "finished": true}',
    "privkey.p-256.pem": b"",
    "account.pem": b"",
    "pubcert.p-256.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("command", ["start", "drive"])
def test_what_children_moved_here_stays_as_it_is(served, command):
    """No mode, no owner: neither of a file nor of what it is a link to. A key is known wherever it begins."""
    from test_a2md import Tool
    served.start()
    place = served.store / "staging/a.test"
    place.mkdir()
    shutil.chown(place, sets.USER)
    key = sets.key_pem(sets.make_pair(["a.test"])[0])
    for name, content in SECRETS.items():
        sets.put(place / name, content or b"Bag Attributes\n" + b"    x: 1\n" * 40 + key, 0o600)
    for name in "file", "directory":
        (served.store / "staging" / f"{name}.test").symlink_to(place / "secret" if name == "file" else place)
    os.link(place / "secret", place / "md.json")
    before = snapshot(place)
    if command == "start":
        served.graceful()
        served.graceful()
    else:
        Tool(served.store)("drive", "-f")
    for name in SECRETS:  # wherever it is kept now
        found = [path for path in served.store.rglob(f"{name}*")
                 if path.is_file() and str(place / name) in before
                 and path.read_bytes() == before[str(place / name)][3]]
        for path in found:
            assert path.stat().st_uid == 0 and not readable(path), path
    for path in served.store.rglob("*"):
        if path.is_file() and readable(path):
            assert b"secret" not in path.read_bytes() and key not in path.read_bytes(), path


def test_what_root_may_open_to_children(served):
    """In its own directory: what reads as one of our documents."""
    served.start()
    place = served.store / "accounts/ACME-x-0000"
    place.mkdir(0o755)
    key = sets.make_pair(["a.test"])[0]
    document = b'{"url": "https://ca.test/1", "ca-url": "https://ca.test/"}'
    sets.put(place / "account.json", document, 0o600)
    sets.put(place / "account.pem", sets.key_pem(key, sets.SECRET), 0o600)
    sets.put(place / "plain.pem", b"x" * 300 + b"\n" + sets.key_pem(key), 0o600)
    sets.put(place / "other", b"secret", 0o600)
    served.graceful()
    assert {p.name for p in place.iterdir() if readable(p)} == {"account.json", "account.pem"}
    served.wait_log("account.json could not be read by the processes that renew")


def test_key_that_takes_long(served):
    """A reload during which nobody would be served."""
    served.start()
    sets.put_staged(served.store, ["a.test"])
    key = served.store / "staging/a.test" / KEY
    made = run("sh", "-c", f"openssl genpkey -algorithm ed25519 | openssl pkcs8 -topk8 -iter 10001 -passout pass:x "
               f"-out {key}")
    assert made.returncode == 0, made.stderr
    served.graceful()
    served.wait_log(r"AH10069: a\.test: .*privkey\.p-256\.pem: its encryption is not one that this module uses, "
                    "or has more than 10000 iterations of PBKDF2")
    assert "AH10068" not in served.error_log()


def memory(pid):
    return int(open(f"/proc/{pid}/status", encoding="ascii").read().split("VmHWM:")[1].split()[0])


def nest(directory, depth):
    """Directories within each other, deeper than any path may be long."""
    sets.give_away(directory)
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        os.chown("d", sets.uid(), -1, dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def unnest(directory):
    os.system(f"rm -rf {directory}")


def test_directories_without_end(served):
    served.start()
    before = memory(served.pid())
    places = [served.store / group / name
              for group, name in (("challenges", "gone.test"), ("challenges", "a.test"), ("staging", "a.test"))]
    for place in places:
        place.mkdir()
        nest(place, 2000)
    served.graceful()
    served.wait_log(r"\[md:error\].*challenges/gone\.test cannot be removed: there are more than 10000 files in it, or "
                    "directories more than 3 deep")
    if not sanitizer_of(served.module):  # which keeps what was freed
        assert memory(served.pid()) - before < 4096
    for place in places:
        unnest(place)


OTHER = sets.issuer("Other")
REFUSED = {  # what a child staged for a.test, and why it does not go into service
    "self-signed": ({"by": "self"}, "self-signed"),
    "other-issuer": ({"chain": [OTHER.cert]}, "certificate 1 of the chain is not signed by the one after it"),
    "other-names": ({"names": ["b.test"]}, "does not cover a.test"),
    "expired": ({"days": (-90, -1)}, "expired on "),
    "future": ({"days": (5, 95)}, "is not valid before "),
    "other-key": ({"key": "other"}, "is for another private key"),
    "old": ({"days": (-80, 10)}, "before the one in service"),
    "other-ca": ({"ca": "https://ca.example/"}, "https://ca.example/, which is no longer a configured CA"),
}


def staged_as(store, names=("a.test",), days=(-0.5, 89.5), by=None, chain=None, key=None, ca=sets.CA_URL):
    if by == "self":
        by = sets.Issuer("a.test")
        chain, own = [], by.key
        pair = own, sets.pem(by.sign(sets.name_of("a.test"), own, (-1, 20000), ["a.test"]))
    else:
        pair = sets.make_pair(list(names), days, by, chain)
    if key:
        pair = sets.make_pair(["a.test"])[0], pair[1]
    document = sets.document(["a.test"])
    document["ca"].update(url=ca, urls=[ca])
    return sets.put_staged(store, ["a.test"], pair, document)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(served, kind):
    how, why = REFUSED[kind]
    good = sets.live_serial(served.store, "a.test")
    staged_as(served.store, **how)
    served.start()
    served.wait_log(rf"\[md:error\].*AH10069: a\.test: error loading staged set, purging it: certificate\(P-256\): .*{why}")
    assert sets.live_serial(served.store, "a.test") == good == served.tls_cert("a.test").serial_number
    assert not (served.store / "staging/a.test/md.json").exists()
    assert served.get("/", "a.test", https=True)[0] == 200
    served.graceful()
    assert served.error_log().count("AH10069") == 1  # it is told once
    better = staged_as(served.store)
    served.graceful()
    assert served.tls_cert("a.test").serial_number == better


def test_what_is_better_than_nothing(httpd):
    """Of a CA that is no longer configured, and for a short time."""
    sets.make_store(httpd.store)
    sets.configure(httpd, ["a.test"])
    staged = staged_as(httpd.store, days=(-1, 2), ca="https://ca.example/")
    httpd.start()
    assert httpd.tls_cert("a.test").serial_number == staged


def test_what_the_document_takes_over(served):
    """CA, account and state: whatever else a child wrote there, a2md or a later start would act on."""
    served.start()
    served.graceful()
    before = served.store_json("domains/a.test/md.json")
    document = sets.document(["a.test", "evil.test"], **{
        "cmd-dns-01": "/tmp/evil", "proxy-url": "http://evil.test/", "ca-certs": "/tmp/evil.pem",
        "contacts": ["mailto:evil@evil.test"], "cert-files": ["/tmp/x"], "pkey-files": ["/tmp/y"], "renew-mode": 0})
    document["ca"]["account"] = "../../evil"
    served.add_md_conf("MDRenewMode manual")
    staged = sets.put_staged(served.store, ["a.test"], doc=document)
    served.stop()
    from test_a2md import Tool
    served.start()
    assert served.tls_cert("a.test").serial_number == staged
    after = served.store_json("domains/a.test/md.json")
    assert {k: v for k, v in after.items() if k != "renew-mode"} == {k: v for k, v in before.items() if k != "renew-mode"}
    assert "evil" not in Tool(served.store).ok("list", options=["-j"])


def huge(path, _):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def deep_json(path, _):
    path.write_text('{"a":' * 400000)


def nested(path, _):
    path.mkdir()
    nest(path, 500)


# What a child puts in the place of one file of its staged set.
TRICKS = {
    "symlink": lambda path, victim: path.symlink_to(victim / "file"),
    "symlink-directory": lambda path, victim: path.symlink_to(victim),
    "symlink-loop": lambda path, victim: path.symlink_to(path.name),
    "hard-link": lambda path, victim: os.link(victim / "file", path),
    "fifo": lambda path, victim: os.mkfifo(path),
    "huge": huge,
    "deep-json": deep_json,
    "nested": nested,
    "unreadable": lambda path, victim: sets.put(path, b"x", 0),
    "pem-bomb": lambda path, victim: path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" * 30000),
}


@pytest.mark.parametrize("file", ["md.json", "job.json", "account.json", "account.pem", "order.json", KEY, sets.CERT])
def test_tricks_in_staging(httpd, workdir, file):
    """Nothing outside changes or is published, root is not busy, and what is sound goes into service."""
    victim = make_victim(workdir)
    names = [f"{kind}.test" for kind in TRICKS]
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["good.test"])
    for name in names:
        sets.put_live(httpd.store, [name])
    sets.configure(httpd, ["good.test", *names])
    httpd.start()
    live = {name: sets.live_serial(httpd.store, name) for name in names}
    staged = {name: sets.put_staged(httpd.store, [name]) for name in ["good.test", *names]}
    for name, trick in zip(names, TRICKS.values()):
        path = httpd.store / "staging" / name / file
        path.unlink(missing_ok=True)
        trick(path, victim)
        if not path.is_symlink() and path.stat().st_nlink == 1:
            shutil.chown(path, sets.USER)
    before = snapshot(victim)
    spent = cpu_of(httpd.pid())
    httpd.graceful()
    if not sanitizer_of(httpd.module):
        assert cpu_of(httpd.pid()) - spent < 1
    assert sets.live_serial(httpd.store, "good.test") == staged["good.test"]
    assert {path: what[:2] + what[3:] for path, what in snapshot(victim).items()} == {
        path: what[:2] + what[3:] for path, what in before.items()}
    for name in names:
        assert sets.is_whole(httpd.store / "domains" / name)
        assert sets.live_serial(httpd.store, name) in (live[name], staged[name])
        if file in ("md.json", KEY, sets.CERT):
            assert sets.live_serial(httpd.store, name) == live[name], name
    for path in httpd.store.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20 and readable(path):
            assert b"precious" not in path.read_bytes(), path
    for name in names:
        unnest(httpd.store / "staging" / name)


@pytest.mark.skipif(not shutil.which("strace"), reason="without strace nobody can see what is opened")
def test_root_reads_nothing_that_children_staged(served):
    """A set, an account, one that is refused, a record of a failed renewal: processes of the children read them."""
    sets.configure(served, ["b.test", "c.test"])
    served.start()
    staged = sets.put_staged(served.store, ["a.test"])
    sets.put_staged(served.store, ["b.test"], sets.make_pair(["other.test"]))
    document = b'{"url": "https://ca.test/1", "ca-url": "https://ca.test/", "status": "valid"}'
    sets.put(served.store / "staging/a.test/account.json", document)
    sets.put(served.store / "staging/a.test/account.pem", sets.key_pem(sets.make_pair(["x"])[0], sets.SECRET))
    (served.store / "staging/c.test").mkdir()
    sets.put(served.store / "staging/c.test/job.json", b'{"name": "c.test", "errors": 3}')
    sets.give_away(served.store / "staging")
    trace = served.dir / "trace"
    with subprocess.Popen(["strace", "-y", "-e", "trace=openat,open", "-p", str(served.pid()), "-o", trace],
                          stderr=subprocess.PIPE, text=True) as tracer:
        assert "attached" in tracer.stderr.readline()
        served.graceful()
        tracer.terminate()
    served.wait_log("AH10068: a.test: staged set activated")
    served.wait_log("AH10069: b.test: ")
    served.wait_log("AH10064: md.c.test.: previous drive job showed 3 errors")
    assert sets.live_serial(served.store, "a.test") == staged
    account, = (served.store / "accounts").iterdir()
    assert {file.name for file in account.iterdir()} == {"account.json", "account.pem"}
    assert all(file.stat().st_uid == 0 for file in account.iterdir())
    opened = [line for line in trace.read_text().splitlines() if "/staging" in line]
    assert opened and all("O_DIRECTORY" in line for line in opened), opened


def test_names_without_number(served):
    """More than a start has time for: some go, and the rest with the next ones."""
    served.start()
    for group in "challenges", "staging":
        fd = os.open(served.store / group, os.O_RDONLY)
        for i in range(20000):
            os.mkdir(f"n{i}.test", dir_fd=fd)
            os.chown(f"n{i}.test", sets.uid(), -1, dir_fd=fd)
        os.close(fd)
    spent = cpu_of(served.pid())
    served.graceful()
    assert cpu_of(served.pid()) - spent < 1.5
    assert len(os.listdir(served.store / "challenges")) < 20000
    assert "[md:error]" not in served.error_log()


ENEMY = r"""
import os, random, shutil, sys, time
store, victim, end = sys.argv[1], sys.argv[2], time.time() + float(sys.argv[3])
random.seed(1)
NAMES = ["a.test", "b.test", "gone.test", ".account-1"]
FILES = ["md.json", "job.json", "order.json", "account.json", "account.pem", "privkey.p-256.pem", "pubcert.p-256.pem",
         "x.tmp", "md.json.damaged"]
def nest(path):
    os.makedirs(path + "/d" * 50)
def crafted(path):
    with open(path, "w") as f:
        f.write(random.choice(["[" * 100000, '{"ca": {"url": "http://x/", "account": "../../../etc"}, "domains": ["a.test"]}',
            '{"challenge-setups": [' + '"http-01:../../x",' * 1000 + '"x"]}', "{", "-----BEGIN PRIVATE KEY-----"]))
def huge(path):
    with open(path, "w") as f:
        f.truncate(1 << 40)
ACTS = [
    lambda path: os.symlink(victim, path), lambda path: os.symlink(victim + "/file", path),
    lambda path: os.symlink(path, path), lambda path: os.link(victim + "/readable", path),
    lambda path: os.mkfifo(path), lambda path: os.mkdir(path), nest, crafted, crafted, huge,
    lambda path: os.rename(path, os.path.dirname(path) + "/" + random.choice(FILES)),
    lambda path: shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path),
    lambda path: os.chmod(path, 0),
]
while time.time() < end:
    path = f"{store}/{random.choice(['staging', 'challenges', 'ocsp'])}/{random.choice(NAMES)}"
    if random.random() < 0.8:
        path += "/" + random.choice(FILES)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError:
            pass
    try:
        random.choice(ACTS)(path)
    except OSError:
        pass
"""


def cpu_of(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_enemy_with_the_rights_of_a_child(served, workdir):
    """While root starts, reloads and runs a2md: nothing outside changes, nothing is published, root has no work."""
    from test_a2md import Tool
    victim = make_victim(workdir)
    victim.chmod(0o755)
    (victim / "readable").write_text("precious")
    good = sets.live_serial(served.store, "a.test")
    served.start()
    before = snapshot(victim)
    root_only = {path: path.lstat() for path in [served.store, *served.store.glob("*")]}
    enemy = subprocess.Popen(["/usr/bin/python3", "-c", ENEMY, str(served.store), str(victim), "60"],
                             user=sets.uid(), group=sets.uid(), extra_groups=[], cwd="/")
    try:
        end = time.monotonic() + 8
        rounds = 0
        while time.monotonic() < end or rounds < 3:
            rounds += 1
            spent = cpu_of(served.pid())
            served.graceful()
            assert cpu_of(served.pid()) - spent < 1
            for command in ["list"], ["drive", "-f"], ["drive", "-r", "a.test"]:
                begun = os.times()
                Tool(served.store)(*command)
                now = os.times()
                assert now[2] + now[3] - begun[2] - begun[3] < 1, command
    finally:
        enemy.kill()
        enemy.wait()
    assert "AH10068" not in served.error_log()
    assert served.tls_cert("a.test").serial_number == good == sets.live_serial(served.store, "a.test")
    after = snapshot(victim)
    for path in before:  # the enemy itself may have made hard links to what it can read
        assert after[path][:2] == before[path][:2] and after[path][3] == before[path][3], path
    for path, st in root_only.items():
        assert (path.lstat().st_uid, path.lstat().st_mode) == (st.st_uid, st.st_mode), path
    for path in served.store.rglob("*"):
        st = path.lstat()
        if stat.S_ISREG(st.st_mode) and st.st_uid == 0 and st.st_mode & 0o044 and st.st_size < 1 << 20:
            assert path.name == "readable" or b"precious" not in path.read_bytes() or st.st_nlink > 1
    os.system(f"rm -rf {served.store}/staging {served.store}/challenges {served.store}/ocsp")
    assert served.get("/", "a.test", https=True)[0] == 200
