# SPDX-License-Identifier: Apache-2.0
"""The command line tool: commands, options, output and exit codes, on a store of its own and beside a running
server with a real CA."""
import json
import os
import pathlib
import re
import shutil
import socketserver
import ssl
import subprocess
import threading

import pytest

import scripted_ca as ca_is
import stores
from ports import free_ports
from servers import PROJECT, make_pair, make_server_cert, run

TOOL = pathlib.Path(os.environ["MD_MODULE"]).parents[1] / "a2md" if "MD_MODULE" in os.environ else PROJECT / "a2md"
CA = "https://ca.test/dir"


class Tool:
    """a2md with a store; further options come first in a call."""

    def __init__(self, store, *options):
        self.store = store
        self.options = ["-d", store, *options]

    def __call__(self, *args, options=()):
        return run(TOOL, *self.options, *options, *args, timeout=120)

    def ok(self, *args, options=()):
        done = self(*args, options=options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *args, options=()):
        done = self(*args, options=options)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def json(self, *args, options=()):
        done = self(*args, options=["-j", *options])
        result = json.loads(done.stdout)
        assert (done.returncode == 0) == (result["status"] == 0), done
        return result

    def md(self, *args, options=()):
        """The one MD that a successful command shows."""
        result = self.json(*args, options=options)
        assert result["status"] == 0 and len(result["output"]) == 1, result
        return result["output"][0]

    def stored(self, name):
        return json.loads((self.store / "domains" / name / "md.json").read_text())


@pytest.fixture
def tool(workdir):
    return Tool(workdir / "md")


# ---- invocation ----

def test_version():
    assert re.fullmatch(r"version: (\d+\.\d+\.\d+)(-git)?\n", run(TOOL, "-V").stdout)
    assert run(TOOL, "--version").returncode == 0


COMMANDS = ["add", "update", "list", "drive", "acme newreg", "acme validate", "acme agree", "acme rollover",
            "acme delreg", "revoke",
            "store add", "store list", "store remove", "store update"]


def test_help():
    for args in ["-h"], ["--help"], ["-V", "-h"], ["-h", "-V"], ["-d", "/nowhere", "-h", "list"]:
        done = run(TOOL, *args)
        assert (done.returncode, done.stdout) == (2, ""), args
        assert done.stderr.startswith("usage: a2md ")
    for command in COMMANDS:
        assert f"\n    {command} " in run(TOOL, "-h").stderr
        for option in "-h", "--help":
            done = run(TOOL, *command.split(), option)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"usage: a2md [options] {command} ")


def test_the_manual_knows_all():
    manual = (PROJECT / "docs" / "a2md.8").read_text().replace("\\-", "-").replace("\\fR[\\fB", "")
    for command in COMMANDS:
        assert re.search(rf'^\.BI? "?{command}\b', manual, re.M), command
    for option in re.findall(r"--[a-z]+", run(TOOL, "-h").stderr + run(TOOL, "drive", "-h").stderr +
                             run(TOOL, "revoke", "-h").stderr):
        assert option in manual, option


@pytest.mark.parametrize("code, args", [
    (2, ["-x", "list"]), (2, ["--no-such", "list"]), (2, ["list", "-j"]), (2, ["drive", "-x"]),
    (2, ["store", "-h"]), (2, ["acme", "--help"]), (2, ["store", "--force", "remove", "x"]), (1, ["-d", "x", "nix", "-h"]),
    (2, ["--di", "x", "list"]), (2, ["-a"]), (2, ["drive", "-c"]),
    (2, ["list", "a.test", "-x"]), (2, ["revoke", "a.test", "--reason"]), (1, ["revoke"]),
    (1, []), (1, ["nix"]), (1, ["acme"]), (1, ["acme", "nix"]), (1, ["store"]), (1, ["delreg", "x"]),
    (1, ["add"]), (1, ["update"]), (1, ["store", "add"]), (1, ["store", "remove"]), (1, ["acme", "newreg"]),
])
def test_usage_errors(tool, code, args):
    done = tool(*args, options=["-j"])
    assert (done.returncode, done.stdout) == (code, "")
    assert "usage: a2md " in done.stderr
    assert not tool.store.exists()


def test_a_store_is_needed(workdir):
    done = run(TOOL, "list", cwd=workdir)
    assert (done.returncode, done.stdout) == (1, "")
    assert "-d" in done.stderr
    assert not list(workdir.iterdir())


def test_ways_to_write_options(tool):
    tool.store.mkdir()
    for args in ([f"--dir={tool.store}", "--json"], ["--dir", tool.store, "-j"], [f"-jd{tool.store}"],
                 ["-jvvqq", "-d", tool.store, "--"]):
        done = run(TOOL, *args, "list")
        assert json.loads(done.stdout) == {"status": 0, "output": []}, args


def test_verbosity(tool):
    tool.ok("add", "a.test")
    assert tool("list").stderr == ""
    assert "no changes necessary\n" == tool("update", "a.test").stderr
    assert tool("update", "a.test", options=["-q"]).stderr == ""
    assert re.fullmatch(r"\[[^\]]* info\]\[ok\] no changes necessary\n", tool("update", "a.test", options=["-v"]).stderr)


def test_store_that_cannot_be_used(tool):
    tool.store.mkdir()
    (tool.store / "md_store.json").write_text("no json")
    assert "md_store.json seems to exist, but" in tool.fails("list")
    assert tool.json("list")["status"] == 22


LOOKING = ["list", "list a.test", "drive", "drive a.test", "update a.test", "update a.test contacts x@a.test",
           "store list", "store update a.test domains a.test", "store remove a.test", "store remove -f a.test",
           "acme validate ACME-x-0000", "acme agree ACME-x-0000", "acme delreg ACME-x-0000"]


@pytest.mark.parametrize("command", LOOKING)
def test_looking_makes_no_store(tool, command):
    """In a directory that is mistyped, be it there or not."""
    for files in None, ["some.conf"]:
        if files:
            tool.store.mkdir()
            (tool.store / files[0]).touch()
        assert f"there is no store in {tool.store} " in tool.fails(*command.split(), options=["-a", CA])
        result = tool.json(*command.split(), options=["-a", CA])
        assert (result["status"], result["output"]) == (2, [])
        assert [path.name for path in tool.store.glob("*")] == (files or [])
        assert tool.store.exists() == bool(files)


def test_an_empty_directory_is_an_empty_store(tool):
    tool.store.mkdir()
    for command in LOOKING:
        words = command.split()
        assert (tool(*words, options=["-a", CA]).returncode == 0) == (words in (["list"], ["store", "list"], ["drive"]))
    assert tool.json("list") == {"status": 0, "output": []}
    assert not list(tool.store.iterdir())


@pytest.mark.parametrize("command", ["add a.test", "store add a.test"])
def test_adding_makes_a_store(tool, command):
    tool.ok(*command.split())
    assert (tool.store / "md_store.json").exists() and tool.md("list")["name"] == "a.test"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("mode", [0o755, 0o700])
@pytest.mark.parametrize("command", ["list", "add b.test", "drive"])
def test_the_store_of_another_user(tool, workdir, mode, command):
    """Nothing is wrong with it, so nothing is to be removed or restored."""
    tool.ok("add", "a.test")
    tool.store.chmod(mode)
    done = run("setpriv", "--reuid=65534", "--clear-groups", shutil.copy(TOOL, workdir), "-j", "-d", tool.store,
               *command.split())
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, 13), done.stderr
    assert done.stderr == (f"cannot read {tool.store}/md_store.json: Permission denied. The store belongs to the user "
                           "root: run this as root\n")


# ---- add, list ----

def test_add(tool):
    md = tool.md("add", "A.test", "www.a.test", "WWW.A.test", "*.b.test", "xn--mller-kva.de", options=["-a", CA])
    assert md["name"] == "a.test"
    assert md["domains"] == ["a.test", "www.a.test", "*.b.test", "xn--mller-kva.de"]
    assert md["contacts"] == [] and md["ca"] == {"urls": [CA], "proto": "ACME"}
    assert (md["state"], md["state-descr"], md["renew"]) == (1, "certificate(rsa) is missing", True)
    assert (md["transitive"], md["renew-mode"]) == (-1, -1)
    assert (md["renew-window"], md["warn-window"]) == ("33%", "10%")
    assert list(md)[-1] == "renew"
    assert tool.stored("a.test") == {k: v for k, v in md.items() if k != "renew"}
    assert tool.ok("add", "c.test", "sub.a.test") == "md: c.test [c.test, sub.a.test]\n"
    assert "urls" not in tool.stored("c.test")["ca"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tool.store, *tool.store.rglob("*")]}
    assert (modes["md"], modes["md_store.json"], modes["domains"], modes["a.test"], modes["md.json"]) == \
        (0o755, 0o600, 0o700, 0o700, 0o600)


@pytest.mark.parametrize("names", [
    ["tld"], ["a b.test"], ["a.*.test"], ["*"], ["*."], ["*.tld"], ["a..test"], [".test"], ["münchen.test"], ["a_b.test"],
    ["b.test", "tld"], ["../evil.test"], [""], ["b.test", "a.test"], ["x.wild.test"], ["*.a.test"]])
def test_add_refuses(tool, names):
    tool.ok("add", "a.test", "www.a.test", "*.wild.test")
    assert tool.json("add", *names)["status"] == 22
    assert "is not a DNS name" in tool.fails("add", *names) or "belongs to the managed domain a.test" in \
        tool.fails("add", *names)
    assert [p.name for p in (tool.store / "domains").iterdir()] == ["a.test"]


def test_add_tells_the_name_to_write(tool):
    assert "; write xn--mnchen-3ya.test" in tool.fails("add", "münchen.test")


@pytest.mark.parametrize("url", ["no-scheme", "http://x y/", "http://ca.test:-443", "http://ca.test:70000", "https://a..b/",
                                 "https://", "mailto:x"])
def test_bad_ca(tool, url):
    assert tool.json("add", "a.test", options=["-a", url])["status"] == 22
    assert not (tool.store / "domains").exists()
    tool.ok("add", "a.test")
    assert "is not the URL of a CA" in tool.fails("update", "a.test", "ca", url)
    assert "is not the URL of a CA" in tool.fails("update", "a.test", options=["-a", url])


def test_add_twice(tool):
    tool.ok("add", "a.test")
    done = tool("add", "a.test", options=["-j"])
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == {"output": [], "status": 17, "description": "File exists"}
    assert "there is already a managed domain with this name" in tool.fails("add", "a.test")


def test_list(tool):
    tool.store.mkdir()
    assert tool.json("list") == {"status": 0, "output": []}
    for name in "c.test", "a.test", "b.test":
        tool.ok("add", name, f"www.{name}")
    (tool.store / "domains" / "stray").write_text("a file")
    (tool.store / "domains" / "bb.test").mkdir()
    assert tool.ok("list") == "".join(f"md: {n}.test [{n}.test, www.{n}.test]\n" for n in "abc")
    assert tool.ok("list", "c.test", "www.a.test", "WWW.B.TEST").split()[1::4] == ["c.test", "a.test", "b.test"]
    done = tool("list", "a.test", "nix.test", "b.test", options=["-j"])
    result = json.loads(done.stdout)
    assert (done.returncode, result["status"], result["description"]) == (1, 2, "No such file or directory")
    assert [md["name"] for md in result["output"]] == ["a.test"]
    assert "nix.test" in done.stderr


def test_a_damaged_document_hides_nothing_else(tool):
    for name in "a.test", "b.test", "c.test":
        tool.ok("add", name)
    (tool.store / "domains" / "b.test" / "md.json").write_text("{")
    for command in ["list"], ["store", "list"]:
        done = tool(*command)
        assert (done.returncode, done.stdout.count("md: ")) == (1, 2)
        assert done.stderr.count("failed to load JSON file") == 1
    for command in ["list", "b.test"], ["drive", "b.test"], ["update", "b.test"]:
        assert "failed to load JSON file" in tool.fails(*command)


def test_a_store_that_is_no_directory_is_not_empty(tool):
    tool.ok("store", "add", "a.test")
    shutil.rmtree(tool.store / "domains")
    (tool.store / "domains").write_text("a file")
    for command in ["list"], ["store", "list"], ["drive"]:
        done = tool(*command, options=["-j"])
        assert (done.returncode, json.loads(done.stdout)["description"]) == (1, "Not a directory"), done
        assert done.stderr.count("cannot read the directory ") == 1
    for command in ["list", "a.test"], ["add", "a.test"], ["update", "a.test"]:
        tool.fails(*command)


@pytest.mark.skipif(os.geteuid() != 0, reason="runs the tool as somebody else")
def test_what_may_not_be_read(tool, workdir):
    """Neither is it empty, nor damaged."""
    for name in "a.test", "b.test":
        tool.ok("add", name)
    program = workdir / "a2md"
    program.write_bytes(TOOL.read_bytes())
    program.chmod(0o755)
    for path in [tool.store, *tool.store.rglob("*")]:
        os.chown(path, 65534, 65534)

    def status(*args):
        done = run(program, "-d", tool.store, "-j", *args, user=65534, group=65534, extra_groups=[])
        result = json.loads(done.stdout)
        assert done.returncode == 1 and "ermission denied" in done.stderr, done
        return result["status"], len(result["output"])
    (tool.store / "domains" / "a.test" / "md.json").chmod(0)
    for command in ["list"], ["store", "list"]:
        assert status(*command) == (13, 1)
    for command in ["list", "a.test"], ["drive"], ["update", "a.test"]:
        assert status(*command)[0] == 13
    (tool.store / "domains").chmod(0)
    for command in ["list"], ["store", "list"], ["drive"], ["list", "a.test"], ["add", "c.test"]:
        assert status(*command) == (13, 0)


def test_secrets_are_masked(tool):
    tool.ok("add", "a.test")
    path = tool.store / "domains" / "a.test" / "md.json"
    path.write_text(json.dumps({**tool.stored("a.test"), "eab": {"kid": "k", "hmac": "geheim"},
                                "proxy-url": "http://me:geheim@proxy.test:8080/"}))
    for command in ["list"], ["store", "list"], ["update", "a.test"], ["update", "a.test", "contacts", "x@y.test"]:
        done = tool(*command, options=["-jvvv"])
        assert json.loads(done.stdout)["output"][0]["eab"] == {"kid": "k", "hmac": "***"}
        assert "geheim" not in done.stdout + done.stderr
    assert tool.stored("a.test")["eab"]["hmac"] == "geheim"
    assert tool.stored("a.test")["proxy-url"] == "http://me:geheim@proxy.test:8080/"


@pytest.mark.parametrize("members", [
    {"cert-files": ["/x"]}, {"cert-files": ["/x", "/y"], "pkey-files": ["/x"]}, {"pkey-files": ["/x"]}, {"name": None},
    {"name": 7}, {"domains": ["a.test", 7]}, {"privkey": 7}, {"ca": {"urls": "x"}}, {"renew-window": "7x"}])
def test_odd_documents(tool, members):
    tool.ok("add", "a.test")
    document = {k: v for k, v in {**tool.stored("a.test"), **members}.items() if v is not None}
    (tool.store / "domains" / "a.test" / "md.json").write_text(json.dumps(document))
    for command in ["list"], ["store", "list"], ["drive", "-f"], ["update", "a.test", "contacts", "x@y.test"]:
        done = tool(*command)
        assert done.returncode in (0, 1) and "(null)" not in done.stdout, done


def test_output_does_nothing_to_a_terminal(tool):
    """Whatever is in the store: it arrives, but not as control characters."""
    tool.ok("add", "a.test")
    control = "".join(map(chr, [*range(1, 32), *range(127, 160)])) + "ä\u202e\U0001f600"
    path = tool.store / "domains" / "a.test" / "md.json"
    path.write_text(json.dumps({**tool.stored("a.test"), "contacts": [f"mailto:{control}"], "profile": control * 9,
                                control: 1}, ensure_ascii=False), encoding="utf-8")
    for command in ["list"], ["store", "list"]:
        printed = tool.ok(*command, options=["-j"])
        assert printed.isascii() and printed.replace("\n", "").isprintable()
        md = json.loads(printed)["output"][0]
        assert (md["contacts"], md["profile"]) == ([f"mailto:{control}"], control * 9)
    assert md[control] == 1


def test_output_that_gets_lost(tool):
    tool.ok("add", "a.test")
    for options in [], ["-j"]:
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([TOOL, "-d", tool.store, *options, "list"], stdout=full, check=False)
        assert done.returncode == 1


def make_cert(tool, name, days, names, key="privkey.pem"):
    live = tool.store / "domains" / name
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    import datetime
    private = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    cert = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(private.public_key())
            .serial_number(7).not_valid_before(now - datetime.timedelta(90))
            .not_valid_after(now + datetime.timedelta(days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
            .sign(private, hashes.SHA256()))
    (live / "pubcert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (live / key).write_bytes(private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def test_state_follows_the_files(tool):
    tool.ok("add", "a.test", "www.a.test")

    def state():
        md = tool.json("list")["output"][0]
        return md["state"], md["renew"], md.get("state-descr")
    make_cert(tool, "a.test", 90, ["a.test", "www.a.test"])
    assert state() == (2, False, None)
    make_cert(tool, "a.test", 20, ["a.test", "www.a.test"])
    assert state() == (2, True, None)
    make_cert(tool, "a.test", -5, ["a.test", "www.a.test"])
    assert state() == (2, True, None)
    make_cert(tool, "a.test", 90, ["a.test"])
    assert state() == (1, True, "certificate(rsa) does not cover all domains.")
    (tool.store / "domains" / "a.test" / "pubcert.pem").write_text("dummy\n")
    assert state() == (1, True, "certificate(rsa) is missing")
    assert tool.json("store", "list")["output"][0]["state"] == 1


def test_old_store_is_migrated(tool):
    tool.ok("add", "a.test")
    make_cert(tool, "a.test", 90, ["a.test"], "pkey.pem")
    live = tool.store / "domains" / "a.test"
    (live / "pubcert.pem").rename(live / "cert.pem")
    (live / "chain.pem").write_text("")
    path = tool.store / "md_store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "store": {"version": 1.0}}))
    assert tool.md("list")["state"] == 2
    assert json.loads(path.read_text())["store"]["version"] == 3.0
    assert {p.name for p in live.iterdir()} >= {"privkey.pem", "pubcert.pem", "md.json"}


# ---- update ----

def test_update_domains(tool):
    tool.ok("add", "a.test", "old.a.test")
    tool.ok("add", "b.test")
    md = tool.md("update", "a.test", "domains", "Foo.test", "bar.test", "foo.test")
    assert (md["name"], md["domains"]) == ("a.test", ["foo.test", "bar.test"])
    assert tool.stored("a.test")["domains"] == ["foo.test", "bar.test"]
    for bad in [], ["tld"], ["b.test"], ["*.b"], ["x.test", "*.test"]:
        assert tool("update", "a.test", "domains", *bad).returncode == 1, bad
    assert tool.stored("a.test")["domains"] == ["foo.test", "bar.test"]
    assert tool("update", "nix.test", "domains", "x.test").returncode == 1
    assert tool.json("update", "foo.test")["status"] == 2  # not its own name


def test_update_ca(tool):
    tool.ok("add", "a.test", options=["-a", CA])
    assert tool.md("update", "a.test", "ca", "https://two.test/")["ca"]["urls"] == ["https://two.test/"]
    assert tool.md("update", "a.test", "ca", "https://two.test/", "FOO")["ca"]["proto"] == "FOO"
    assert tool.md("update", "a.test", options=["-a", CA])["ca"]["urls"] == [CA]
    assert "no changes necessary" in tool("update", "a.test", options=["-a", CA]).stderr
    assert tool("update", "a.test", "ca").returncode == 1


def test_update_account(tool):
    tool.ok("add", "a.test")
    assert tool.md("update", "a.test", "account", "ACME-x-0000", "more")["ca"]["account"] == "ACME-x-0000"
    assert "account" not in tool.md("update", "a.test", "account")["ca"]


def test_update_contacts(tool):
    tool.ok("add", "a.test")
    words = ["a@b.test", "mailto:c@d.test", "xri://x.test/y", "tel:+1234"]
    expected = ["mailto:a@b.test", "mailto:c@d.test", "xri://x.test/y", "tel:+1234"]
    assert tool.md("update", "a.test", "contacts", *words)["contacts"] == expected
    for bad in "nobody", "a@b@c.test", "@b.test", "a@", "a@b..test", "a b@c.test", "mailto:x", "":
        assert tool("update", "a.test", "contacts", bad).returncode == 1, bad
    assert tool("update", "a.test", "contacts").returncode == 1
    assert tool.stored("a.test")["contacts"] == expected


def test_update_agreement(tool):
    tool.ok("add", "a.test")
    for good in "accepted", "https://ca.test/terms":
        assert tool.md("update", "a.test", "agreement", good, "more")["ca"]["agreement"] == good
    assert tool("update", "a.test", "agreement", "never").returncode == 1
    assert tool.stored("a.test")["ca"]["agreement"] == "https://ca.test/terms"
    assert "agreement" not in tool.md("update", "a.test", "agreement")["ca"]
    assert tool.json("update", "a.test", "colour", "blue")["status"] == 70023


# ---- several at a time ----

def at_once(tool, *commands):
    """Run all of them at the same time: their exit codes."""
    procs = [subprocess.Popen([TOOL, *map(str, tool.options), *command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) for command in commands]
    return [proc.wait(120) for proc in procs]


@pytest.mark.parametrize("command", [["update", "a.test"], ["store", "update", "a.test"]])
def test_changes_at_the_same_time(tool, command):
    """Of different things: none undoes the other."""
    tool.ok("add", "a.test")
    for i in range(40):
        assert at_once(tool, [*command, "domains", "a.test", f"n{i}.test"],
                       ["update", "a.test", "contacts", f"u{i}@b.test"]) == [0, 0]
        md = tool.stored("a.test")
        assert (md["domains"][1], md["contacts"]) == (f"n{i}.test", [f"mailto:u{i}@b.test"])


@pytest.mark.parametrize("command", [["add"], ["store", "add"]])
def test_additions_at_the_same_time(tool, command):
    for i in range(20):
        names = f"x{i}.test", f"one{i}.test", f"two{i}.test"
        assert sorted(at_once(tool, [*command, names[0], names[1]], [*command, names[0], names[2]])) == [0, 1]
    for i in range(20):
        assert sorted(at_once(tool, ["add", f"y{i}.test", "s.test"], ["add", f"z{i}.test", "s.test"])) == \
            ([0, 1] if i == 0 else [1, 1])


def test_removal_at_the_same_time(tool):
    """What is removed does not come back by a change."""
    for _ in range(20):
        tool.ok("add", "a.test")
        at_once(tool, ["store", "remove", "a.test"], ["update", "a.test", "contacts", "x@b.test"])
        assert not (tool.store / "domains" / "a.test" / "md.json").exists()


def test_a_change_waits(tool):
    import fcntl
    tool.ok("add", "a.test")
    with open(tool.store / "store.lock", "w", encoding="ascii") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        with subprocess.Popen([TOOL, *map(str, tool.options), "add", "b.test"]) as proc:
            with pytest.raises(subprocess.TimeoutExpired):
                proc.wait(0.5)
            fcntl.lockf(file, fcntl.LOCK_UN)
            assert proc.wait(60) == 0
    (tool.store / "store.lock").unlink()
    (tool.store / "store.lock").mkdir()
    assert "store.lock" in tool.fails("update", "a.test", "contacts", "x@y.test")
    assert tool.ok("list").count("md: ") == 2


# ---- store ----

def test_store_commands(tool):
    tool.store.mkdir()
    assert tool.ok("store", "list") == ""
    md = tool.md("store", "add", "A.test", "not valid", options=["-a", "anything"])
    assert (md["state"], md["domains"], "renew" in md) == (0, ["a.test", "not valid"], False)
    assert md["ca"] == {"proto": "ACME", "urls": ["anything"]}
    assert tool.json("store", "list")["output"] == [tool.stored("a.test")]
    tool.ok("store", "add", "b.test", "www.b.test")
    done = tool("store", "add", "b.test", options=["-j"])
    assert (done.returncode, json.loads(done.stdout)["status"]) == (1, 17)
    assert tool.md("store", "update", "b.test")["domains"] == ["b.test", "www.b.test"]
    assert tool.md("store", "update", "b.test", "domains", "B.test", "c")["domains"] == ["b.test", "c"]
    assert tool.md("store", "update", "b.test", options=["-a", CA])["ca"]["urls"] == [CA]
    for bad in ["b.test", "domains"], ["nix.test", "domains", "x"], ["b.test", "contacts", "x@y.test"]:
        assert tool("store", "update", *bad).returncode == 1
    assert tool.stored("b.test")["domains"] == ["b.test", "c"]


def test_store_remove(tool):
    tool.ok("store", "add", "a.test")
    make_cert(tool, "a.test", 90, ["a.test"])
    assert tool.json("store", "remove", "nix.test") == \
        {"status": 2, "description": "No such file or directory", "output": []}
    assert tool.json("store", "remove", "-f", "nix.test") == {"status": 0, "output": []}
    assert tool.ok("store", "remove", "--force", "nix.test", "a.test") == ""
    assert {p.name for p in (tool.store / "domains" / "a.test").iterdir()} == {"pubcert.pem", "privkey.pem"}
    assert tool.ok("store", "list") == ""
    assert tool("store", "remove", "../..").returncode == tool("store", "remove", "-f", "../..").returncode == 1


# ---- with a CA ----

@pytest.fixture
def at_ca(tool, pebble):
    tool.options += ["-a", pebble.directory_url, "-C", pebble.ca_file]
    tool.ca = pebble
    return tool


def register(at_ca, *contacts):
    printed = at_ca.ok("acme", "newreg", *(contacts or ["x@example.org"]), options=["-t", "accepted"])
    assert re.fullmatch(r"registered: ACME-localhost-\d{4}\n", printed)
    return printed.split()[1]


def test_accounts(at_ca):
    first, second = register(at_ca, "x@example.org", "mailto:y@example.org"), register(at_ca)
    assert (first, second) == ("ACME-localhost-0000", "ACME-localhost-0001")
    account = json.loads((at_ca.store / "accounts" / first / "account.json").read_text())
    assert account["registration"]["contact"] == ["mailto:x@example.org", "mailto:y@example.org"]
    assert account["ca-url"] == at_ca.ca.directory_url
    assert not list((at_ca.store / "staging").iterdir())
    assert at_ca.ok("acme", "validate", first, second) == f"account valid: {first}\naccount valid: {second}\n"
    assert at_ca.ok("acme", "agree", first, options=["-t", "accepted"]) == f"agreed terms-of-service: {account['url']}\n"
    done = at_ca("acme", "validate", first, options=["-j"])
    assert done.stdout.startswith(f"account valid: {first}\n{{")
    # an account that was changed, is at another CA, is none
    path = at_ca.store / "accounts" / second / "account.json"
    path.write_text(path.read_text().replace('"url": "', '"url": "x', 1))
    assert second in at_ca.fails("acme", "validate", second)
    assert first in at_ca.fails("acme", "validate", first, options=["-a", "https://localhost:1/dir"])
    path.write_text(path.read_text().replace(at_ca.ca.directory_url, "https://other.test/dir"))
    assert second in at_ca.fails("acme", "validate", second)
    assert "ACME-nix" in at_ca.fails("acme", "validate", "ACME-nix")


def test_registration_that_fails(at_ca):
    done = at_ca("acme", "newreg", "x@example.org")
    assert done.returncode == 1
    assert "did not agree to the terms of service" in done.stderr.splitlines()[0]
    for bad in "x@", "@example.org", "x@@example.org", "a b@example.org", "mehlto:x@example.org":
        assert at_ca("acme", "newreg", bad, options=["-t", "accepted"]).returncode == 1, bad
    assert not list((at_ca.store / "accounts").glob("*"))
    result = at_ca.json("acme", "newreg", "x@example.org", options=["-a", f"https://localhost:{free_ports(1)[0]}/"])
    assert result["description"] == "Connection refused" and result["status"] != 0
    assert "-a" in Tool(at_ca.store).fails("acme", "newreg", "x@example.org")
    register(at_ca)


@pytest.mark.parametrize("terms", ["never", "", "Accepted", "no", "/terms"])
def test_words_that_agree_to_nothing(at_scripted, terms):
    tool, at_ca = at_scripted, ["-a", at_scripted.ca.directory_url]
    account = tool.ok("acme", "newreg", "x@example.org", options=[*at_ca, "-t", "accepted"]).split()[1]
    before = len(tool.ca.requests)
    for command in ["newreg", "x@example.org"], ["agree", account]:
        assert f"'{terms}' is neither 'accepted' nor a URL: " in tool.fails("acme", *command, options=[*at_ca, "-t", terms])
    assert len(tool.ca.requests) == before
    for command in ["newreg", "x@example.org"], ["agree", account]:
        other = tool.fails("acme", *command, options=[*at_ca, "-t", "https://ca.test/terms"])
        assert f"<{tool.ca.url('/terms')}>" in other and "<https://ca.test/terms>" in other
    assert tool.ca.count("newAccount") == 1
    tool.ok("acme", "agree", account, options=[*at_ca, "-t", tool.ca.url("/terms")])
    tool.ok("acme", "agree", account, options=at_ca)


def test_delreg_ends_the_account_at_the_ca(at_ca):
    account = register(at_ca)
    saved = [(p, p.read_bytes()) for p in (at_ca.store / "accounts" / account).iterdir()]
    assert at_ca.ok("acme", "delreg", account) == ""
    assert not (at_ca.store / "accounts" / account).exists()
    assert at_ca("acme", "validate", account).returncode == 1
    saved[0][0].parent.mkdir()
    for path, data in saved:
        path.write_bytes(data)
    assert at_ca("acme", "validate", account).returncode == 1  # the CA does not know it any more
    assert at_ca.ok("acme", "delreg", account) == ""           # which is no reason to keep it here
    assert not (at_ca.store / "accounts" / account).exists()
    assert at_ca.ok("acme", "delreg", "ACME-nix") == ""
    assert Tool(at_ca.store).ok("acme", "delreg", "ACME-nix") == ""


def test_delreg_when_the_ca_cannot_be_told(at_ca):
    account = register(at_ca)
    at_ca.ca.stop()
    assert "Unsuccessful in contacting ACME server" in at_ca.fails("acme", "delreg", account)
    assert (at_ca.store / "accounts" / account / "account.pem").exists()
    before = stores.private_keys(at_ca.store)
    done = Tool(at_ca.store)("acme", "delreg", account)
    assert (done.returncode, done.stdout) == (0, "")
    assert "may still be valid at its CA" in done.stderr
    assert not (at_ca.store / "accounts" / account).exists()
    assert stores.private_keys(at_ca.store).keys() == before.keys()


@pytest.fixture
def at_scripted(tool, ca):
    """With a CA that takes every challenge for proven: no server is needed."""
    tool.options += ["-C", ca.ca_file]
    tool.ca = ca
    return tool


@pytest.mark.parametrize("code", [200, 400, 403, 404, 500])
def test_delreg_loses_no_key_to_a_strange_answer(at_scripted, code):
    """Neither for the directory nor for the account."""
    tool, at_ca = at_scripted, ["-a", at_scripted.ca.directory_url]
    account = tool.ok("acme", "newreg", "x@example.org", options=[*at_ca, "-t", "accepted"]).split()[1]
    for request in ["directory"] if code == 200 else ["account", "directory"]:
        tool.ca.script(request, ca_is.html(code))
        tool.fails("acme", "delreg", account, options=at_ca)
        assert (tool.store / "accounts" / account / "account.pem").exists()
        tool.ca.calm()
    tool.ok("acme", "validate", account, options=at_ca)


class Proxy(socketserver.ThreadingTCPServer):
    """By https. It only notes who trusts it so far as to ask it for a tunnel."""
    daemon_threads = allow_reuse_address = True

    class Handler(socketserver.StreamRequestHandler):
        def setup(self):
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self):
            self.server.asked.append(self.rfile.readline())
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    def __init__(self, cert, key):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(cert, key)
        self.asked = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # who does not trust it


def newreg_where_all_is_trusted(tool, trusted, workdir, *options):
    """Where the system's directory of roots has `trusted`: libcurl has that directory built in."""
    hashed = workdir / "certs"
    if not hashed.exists():
        hashed.mkdir()
        (hashed / "root.pem").write_bytes(trusted.read_bytes())
        assert run("openssl", "rehash", hashed).returncode == 0
        (hashed / "ca-certificates.crt").write_bytes(make_pair(workdir, "bundle", "DNS:bundle.test")[0].read_bytes())
    return run("unshare", "-m", "sh", "-c", f'mount --bind {hashed} /etc/ssl/certs && exec "$@"', "sh", TOOL, *tool.options,
               *options, "-a", tool.ca.directory_url, "-t", "accepted", "acme", "newreg", "x@example.org", timeout=60)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_own_roots_for_the_ca_are_the_only_ones(tool, ca, workdir):
    tool.ca = ca
    other, _ = make_pair(workdir, "other.test", "DNS:other.test")
    if newreg_where_all_is_trusted(tool, ca.ca_file, workdir).returncode:
        pytest.skip("a libcurl without such a directory")
    before = len(ca.accounts)
    refused = newreg_where_all_is_trusted(tool, ca.ca_file, workdir, "-C", other)
    assert refused.returncode == 1 and "Unsuccessful in contacting ACME server" in refused.stderr
    assert "MDCACertificateFile must name a file with its root certificate" in refused.stderr
    assert len(ca.accounts) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_own_roots_for_a_proxy_are_the_only_ones(at_scripted, workdir):
    tool = at_scripted
    tool.ok("add", "a.test")  # so there is a store
    cert, key = make_server_cert(workdir)
    other, _ = make_pair(workdir, "other.test", "DNS:other.test")
    with Proxy(cert, key) as proxy:
        route = {"proxy-url": f"https://localhost:{proxy.server_address[1]}"}
        note = tool.store / "httpd.json"
        note.write_text(json.dumps({"route": route}))
        assert newreg_where_all_is_trusted(tool, cert, workdir).returncode == 1
        if not proxy.asked:
            pytest.skip("a libcurl without such a directory")
        proxy.asked.clear()
        note.write_text(json.dumps({"route": {**route, "proxy-ca-certs": str(other)}}))
        refused = newreg_where_all_is_trusted(tool, cert, workdir)
        assert refused.returncode == 1 and "MDHttpProxyCACertificateFile" in refused.stderr, refused.stderr
        assert not proxy.asked
        note.write_text(json.dumps({"route": {**route, "proxy-ca-certs": str(cert)}}))
        assert newreg_where_all_is_trusted(tool, cert, workdir).returncode == 1
        assert proxy.asked == [f"CONNECT 127.0.0.1:{tool.ca.port} HTTP/1.1\r\n".encode()]
        proxy.shutdown()


def test_registrations_at_the_same_time(at_ca):
    procs = [subprocess.Popen([TOOL, *map(str, at_ca.options), "-t", "accepted", "acme", "newreg", f"u{i}@example.org"],
                              stdout=subprocess.PIPE, text=True) for i in range(4)]
    ids = [proc.communicate()[0].split()[1] for proc in procs]
    assert len(set(ids)) == 4 and all(proc.returncode == 0 for proc in procs)
    at_ca.ok("acme", "validate", *ids)
    for i, account in enumerate(ids):
        document = json.loads((at_ca.store / "accounts" / account / "account.json").read_text())
        assert document["contact"] == [f"mailto:u{i}@example.org"]


# ---- drive ----

@pytest.fixture
def beside(env):
    """The tool on the store of a running server, which answers the challenges of others."""
    env.add_vhost("base.test", ssl=False)
    env.add_vhost("other.test")
    env.add_md_conf("MDomain other.test\nMDRenewMode manual")
    env.start()
    beside = Tool(env.store, "-C", env.ca.ca_file)
    beside.httpd, beside.ca = env, env.ca
    return beside


def add(beside, name, *names, contacts=True, agreement=True, ca=True):
    beside.ok("add", name, *names, options=["-a", beside.ca.directory_url] if ca else [])
    if contacts:
        beside.ok("update", name, "contacts", "x@example.org")
    if agreement:
        beside.ok("update", name, "agreement", "accepted")


def serial(beside, name):
    path = beside.store / "domains" / name / "pubcert.pem"
    return run("openssl", "x509", "-noout", "-serial", "-in", path).stdout if path.exists() else None


def test_drive(beside):
    add(beside, "a.test", "www.a.test")
    add(beside, "b.test")
    done = beside("drive", "a.test", "b.test", options=["-j"])
    assert (done.returncode, json.loads(done.stdout)) == (0, {"status": 0, "output": []}), done.stderr
    assert "a.test: staged set activated" in done.stderr
    assert "AH10059" not in done.stderr
    for name in "a.test", "b.test":
        md = beside.md("list", name)
        assert (md["state"], md["renew"]) == (2, False)
        assert (beside.stored(name)["state"], "state-descr" in beside.stored(name)) == (2, False)
        assert md["ca"]["url"] == beside.ca.directory_url
        assert md["ca"]["account"] == "ACME-localhost-0000"
        assert (beside.store / "archive" / f"{name}.1" / "md.json").exists()
        live = beside.store / "domains" / name
        assert "message-" not in (live / "job.json").read_text()
        assert (live / "privkey.pem").stat().st_mode & 0o777 == 0o600
        assert not (beside.store / "staging" / name).exists()
        assert not (beside.store / "challenges" / name).exists()
    assert not list((beside.store / "tmp").iterdir())
    # not due: nothing happens; forced: it does
    first = serial(beside, "a.test")
    assert "not due for renewal" in beside("drive", "a.test").stderr
    assert serial(beside, "a.test") == first
    beside.ok("drive", "-f", "a.test")
    assert serial(beside, "a.test") != first
    assert (beside.store / "archive" / "a.test.2" / "pubcert.pem").exists()
    assert run("stat", "-c", "%U", beside.store / "staging", beside.store / "challenges").stdout.split() == \
        ["www-data" if os.geteuid() == 0 else run("id", "-un").stdout.strip()] * 2
    assert not beside.httpd.problems()


SHARED = re.compile("/md/(staging|challenges|ocsp|answers|records)[/>\"]")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("strace"), reason="without strace nobody sees what root opens")
def test_drive_by_root_reads_nothing_of_the_children(beside):
    """Whether it is due, its order, account, key and certificates: a process with their rights looks at all of it."""
    add(beside, "a.test")
    add(beside, "b.test")
    for group, file in ("staging", "job.json"), ("staging", "order.json"), ("ocsp", "ari.json"):
        place = beside.store / group / "a.test"
        place.mkdir(exist_ok=True)
        (place / file).write_text("[" * 100000)
        for path in place, place / file:
            shutil.chown(path, "www-data")
    for words in ["a.test"], ["-f", "a.test", "b.test"]:
        trace = beside.httpd.dir / "trace"
        done = run("strace", "-y", "-e", "trace=openat,open", "-o", trace, TOOL, *beside.options, "drive", *words)
        assert done.returncode == 0, done.stderr
        assert "a.test: staged set activated" in done.stderr
        opened = trace.read_text().splitlines()
        assert any("/md/domains/a.test" in line for line in opened)
        assert not [line for line in opened if SHARED.search(line) and "O_DIRECTORY" not in line]
    for name in "a.test", "b.test":
        assert beside.md("list", name)["state"] == 2
        assert not (beside.store / "staging" / name).exists()
        for path in (beside.store / "domains" / name).iterdir():
            assert path.stat().st_uid == 0
    assert not beside.httpd.problems()


def test_drive_takes_up_what_is_configured(beside):
    """What httpd serves from then on, without an order of its own."""
    add(beside, "new.test")
    beside.ok("drive", "new.test")
    beside.httpd.add_md_conf("MDomain new.test")
    beside.httpd.add_vhost("new.test")
    beside.httpd.graceful()
    assert f"{beside.httpd.tls_cert('new.test').serial_number:X}" in serial(beside, "new.test").lstrip("serial=0")
    assert not beside.httpd.problems()


def test_drive_with_one_challenge_type(beside):
    add(beside, "a.test")
    beside.ok("drive", "--challenge", "http-01")
    assert "challenges" not in beside.stored("a.test")["ca"]


@pytest.mark.parametrize("challenge", ["http01", "nix-01", "", "dns", "http-01 "])
def test_drive_with_an_unknown_challenge_type(at_scripted, challenge):
    add(at_scripted, "a.test")
    told = at_scripted.fails("drive", "-c", challenge)
    assert f"'{challenge}' is not a known challenge type; those known are: http-01, tls-alpn-01" in told
    assert not at_scripted.ca.requests
    assert not (at_scripted.store / "staging").exists()


def test_drive_goes_on_or_begins_anew(at_scripted):
    tool = at_scripted
    add(tool, "a.test")
    tool.ca.script("finalize", ca_is.status(500))
    assert "unexpected HTTP status 500" in tool.fails("drive")
    tool.fails("drive", "a.test")
    assert len(tool.ca.orders) == 1 == len(tool.ca.accounts)
    key = (tool.store / "staging/a.test/privkey.pem").read_bytes()
    tool.fails("drive", "--reset")
    assert len(tool.ca.orders) == 2 and len(tool.ca.accounts) == 1
    assert (tool.store / "staging/a.test/privkey.pem").read_bytes() != key
    assert not (tool.store / "staging/a.test/job.json").exists()
    tool.ca.calm()
    tool.ok("drive")
    assert len(tool.ca.orders) == 2
    assert serial(tool, "a.test")


def test_drive_names_each_domain_once(at_scripted):
    add(at_scripted, "a.test", "www.a.test")
    at_scripted.ok("drive", "-f", "a.test", "www.a.test", "a.test")
    assert at_scripted.ca.count("newOrder") == 1


def test_drives_at_the_same_time(at_scripted):
    """What one of them has renewed is not due for the others."""
    tool = at_scripted
    add(tool, "a.test")
    for command in ["drive"], ["drive", "a.test"]:
        assert at_once(tool, *[command] * 4) == [0] * 4
    assert tool.ca.count("newOrder") == 1
    assert [p.name for p in (tool.store / "archive").iterdir()] == ["a.test.1"]


def test_drive_waits_for_others(at_scripted):
    """But not to find out that there is nothing to do, or that it cannot be done."""
    tool = at_scripted
    for name in "a.test", "b.test":
        add(tool, name)
    tool.ok("drive", "b.test")
    rule = tool.ca.script("newOrder", ca_is.hold())
    with subprocess.Popen([TOOL, *map(str, tool.options), "drive"]) as first:
        tool.ca.wait_held(rule)
        assert "b.test: not due for renewal" in tool("drive", "b.test").stderr
        assert "nix.test" in tool.fails("drive", "a.test", "nix.test")
        with subprocess.Popen([TOOL, *map(str, tool.options), "drive"], stderr=subprocess.PIPE, text=True) as second:
            assert "b.test: not due for renewal" in second.stderr.readline()
            assert "waiting for the renewals that a server or another a2md has in progress" in second.stderr.readline()
            tool.ca.calm()
            assert (first.wait(60), second.wait(60)) == (0, 0)
    assert tool.ca.count("newOrder") == 2


def test_accounts_are_kept_one_at_a_time(at_scripted):
    """Or two who do that for one account would give it an id each."""
    import fcntl
    tool = at_scripted
    add(tool, "a.test")
    with open(tool.store / "store.lock", "w", encoding="ascii") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        with subprocess.Popen([TOOL, *map(str, tool.options), "drive"], stderr=subprocess.PIPE, text=True) as proc:
            assert "registered new account" in proc.stderr.readline()
            assert f"waiting, as another process has locked {tool.store / 'store.lock'}" in proc.stderr.readline()
            assert not list((tool.store / "accounts").glob("*"))
            fcntl.lockf(file, fcntl.LOCK_UN)
            assert proc.wait(60) == 0, proc.stderr.read()
    assert len(list((tool.store / "accounts").iterdir())) == 1


def while_driving(tool, *commands):
    """Drive, run commands while the last request is in work: what drive said, and its exit code."""
    rule = tool.ca.script("certificate", ca_is.hold())
    with subprocess.Popen([TOOL, *map(str, tool.options), "drive"], stderr=subprocess.PIPE, text=True) as proc:
        try:
            tool.ca.wait_held(rule)
            for command in commands:
                tool.ok(*command)
        finally:
            tool.ca.calm()
        return proc.communicate(timeout=60)[1], proc.returncode


def test_changes_during_a_drive_are_kept(at_scripted):
    tool = at_scripted
    add(tool, "a.test")
    told, code = while_driving(tool, ["update", "a.test", "contacts", "new@example.org"],
                               ["update", "a.test", "agreement", "https://ca.test/terms"],
                               ["update", "a.test", "ca", CA])
    assert code == 0, told
    md = tool.stored("a.test")
    assert md["contacts"] == ["mailto:new@example.org"]
    assert (md["ca"]["agreement"], md["ca"]["urls"]) == ("https://ca.test/terms", [CA])
    assert (md["ca"]["url"], md["ca"]["account"]) == (tool.ca.directory_url, "ACME-127.0.0.1-0000")
    assert serial(tool, "a.test")


def test_nothing_during_a_drive_is_undone(at_scripted):
    """A set for other names than those of today does not go into service."""
    tool = at_scripted
    for name in "a.test", "b.test", "c.test":
        add(tool, name)
    told, code = while_driving(tool, ["update", "a.test", "domains", "a.test", "new.test"], ["store", "remove", "b.test"])
    assert code == 1, told
    assert "a.test: not put into service: its DNS names were changed in the meantime" in told
    assert "b.test: not put into service: it was removed in the meantime" in told
    assert tool.stored("a.test")["domains"] == ["a.test", "new.test"]
    assert not (tool.store / "domains" / "b.test" / "md.json").exists()
    for name in "a.test", "b.test":
        assert not serial(tool, name)
        assert (tool.store / "staging" / name / "pubcert.pem").exists()
    assert serial(tool, "c.test")
    tool.ok("drive")
    assert "DNS:new.test" in run("openssl", "x509", "-noout", "-ext", "subjectAltName", "-in",
                                 tool.store / "domains/a.test/pubcert.pem").stdout


def test_drive_does_not_wait_for_hours(at_scripted):
    """It says until when the CA is busy; the order is taken up the next time."""
    tool = at_scripted
    for name in "a.test", "b.test":
        add(tool, name)
    stuck = [tool.ca.script("finalize", "endless_processing", domain="a.test"),
             tool.ca.script("order", ca_is.retry_after(3600), domain="a.test"),
             tool.ca.script("finalize", ca_is.retry_after(3600), domain="a.test")]
    done = tool("drive", options=["-j"])
    assert done.returncode == 1 and json.loads(done.stdout)["status"] == 11, done
    assert "processing a.test: the CA asks not to be contacted before " in done.stderr
    assert serial(tool, "b.test") and not serial(tool, "a.test")
    for rule in stuck:
        rule.cancel()
    tool.ok("drive")
    assert serial(tool, "a.test")
    assert len(tool.ca.orders) == 2


def test_drive_tells_every_domain_that_is_held_up(at_scripted):
    tool = at_scripted
    names = [f"d{i}.test" for i in range(12)]
    for name in names:
        add(tool, name)
    tool.ca.script("newOrder", ca_is.problem("rateLimited", "enough for today", 429, retry_after=86400))
    told = tool.fails("drive")
    for name in names:
        assert told.count(f"processing {name}: ") == 1
    assert tool.ca.count("newOrder") <= 12


def test_drive_tries_once(at_scripted):
    """Also when others are in work for longer than the pause after a failure."""
    tool = at_scripted
    for name in "dead.test", "slow.test":
        add(tool, name)
    tool.ca.script("newOrder", ca_is.problem("malformed", "no such name"), domain="dead.test")
    tool.ca.script("finalize", ca_is.slow(2), domain="slow.test")
    assert "no such name" in tool.fails("drive")
    assert tool.ca.count("newOrder") == 2
    assert serial(tool, "slow.test")


@pytest.mark.skipif(os.geteuid() != 0, reason="links are harmless to those who are not root")
@pytest.mark.parametrize("group", ["staging", "challenges"])
def test_drive_follows_no_links(at_scripted, workdir, group):
    """Children write to these groups; what one that was taken over puts there must not lead root astray."""
    tool = at_scripted
    add(tool, "a.test")
    victim = workdir / "victim"
    (victim / "deeper").mkdir(parents=True)
    (victim / "deeper" / "file").write_text("precious")
    victim.chmod(0o700)
    (tool.store / group).mkdir()
    (tool.store / group / "a.test").symlink_to(victim)
    tool("drive", "-r")
    assert [str(p.relative_to(victim)) for p in sorted(victim.rglob("*"))] == ["deeper", "deeper/file"]
    assert victim.stat().st_mode & 0o777 == 0o700
    tool.ok("drive", "-f")
    assert serial(tool, "a.test")


def test_a_server_takes_over_what_the_tool_began(httpd, ca):
    """In a store that no server has seen before."""
    tool = Tool(httpd.store, "-C", ca.ca_file)
    tool.ca = ca
    httpd.use_ca(ca)
    httpd.add_md_conf("MDomain a.test")
    httpd.add_vhost("a.test")
    add(tool, "a.test")
    ca.script("finalize", ca_is.status(500))
    tool.fails("drive")
    ca.calm()
    httpd.start()
    httpd.await_md("a.test")
    httpd.graceful()
    assert httpd.get("/", "a.test", https=True, verify=ca.root_file.read_text())[0] == 200
    assert len(ca.accounts) == 1
    assert not httpd.problems()


@pytest.mark.parametrize("missing, text", [
    ("contacts", "No contact information"),
    ("agreement", "the CA requires you to accept the terms-of-service as specified in "),
    ("ca", "no CA is known")])
def test_drive_lacks_something(beside, missing, text):
    add(beside, "a.test", **{missing: False})
    assert text in beside.fails("drive", "a.test")
    assert not serial(beside, "a.test")


def test_drive_knows_the_server_s_roots(beside):
    """Those of a private CA, which the server keeps in the store, where nobody else can write."""
    add(beside, "a.test")
    add(beside, "b.test")
    drive = Tool(beside.store)
    drive.ok("drive", "a.test")
    assert serial(drive, "a.test")
    assert "ca-certs" not in drive.stored("a.test")
    noted = drive.store / "httpd.json"
    assert json.loads(noted.read_text())["route"] == {"ca-certs": str(beside.ca.ca_file)}
    assert noted.stat().st_mode & 0o777 == 0o600 and noted.owner() == drive.store.owner()
    assert drive.store.stat().st_mode & 0o022 == 0
    assert "MDCACertificateFile" in drive.fails("drive", "b.test", options=["-C", "none"])
    account = drive.ok("acme", "newreg", "x@a.test", options=["-a", beside.ca.directory_url, "-t", "accepted"]).split()[1]
    drive.ok("acme", "validate", account, options=["-a", beside.ca.directory_url])
    # a server that has none any more
    beside.httpd.md_conf = [line.replace("MDCACertificateFile", "#") for line in beside.httpd.md_conf]
    beside.httpd.graceful()
    assert "route" not in json.loads(noted.read_text())
    assert "MDCACertificateFile" in drive.fails("drive", "b.test")


def test_drive_knows_the_server_s_proxy(env):
    """What a domain has for itself and what the command line says come first. Paths are those of the ServerRoot."""
    dead, roots = [f"http://localhost:{port}" for port in free_ports(2)], env.dir / "roots.pem"
    shutil.copy(env.ca.ca_file, roots)
    env.md_conf = [conf.replace(str(env.ca.ca_file), "roots.pem") for conf in env.md_conf]
    env.add_md_conf(f"MDHttpProxy {dead[0]}\nMDHttpProxyCACertificateFile proxy.pem\nMDRenewMode manual\nMDomain all.test\n"
                    f"<MDomain own.test>\nMDHttpProxy {dead[1]}\nMDCACertificateFile none\n</MDomain>")
    env.start()
    assert env.store_json("httpd.json")["route"] == {
        "ca-certs": str(roots), "proxy-url": dead[0], "proxy-ca-certs": str(env.dir / "proxy.pem")}
    assert env.store_json("domains", "own.test", "md.json")["ca-certs"] == "none"
    drive = Tool(env.store)
    for name, proxy in ("all.test", dead[0]), ("own.test", dead[1]):
        assert proxy.rpartition(":")[2] in drive.fails("drive", "-f", name)
        assert "port 1 " in drive.fails("drive", "-f", name, options=["-p", "http://localhost:1"])


def test_drive_gets_what_it_can(beside):
    for name in "a.test", "b.test":
        add(beside, name)
    add(beside, "aa.test", ca=False)
    add(beside, "dead.example", "b.c.test")
    beside.ca.dns_set("set-servfail", host="dead.example.")
    done = beside("drive", options=["-j"])
    assert done.returncode == 1 and json.loads(done.stdout)["status"] == 2, done.stdout + done.stderr
    assert "aa.test: no CA is known" in done.stderr and "processing dead.example: " in done.stderr
    assert serial(beside, "a.test") and serial(beside, "b.test")
    assert not serial(beside, "aa.test") and not serial(beside, "dead.example")


def test_drive_refuses(beside):
    add(beside, "a.test")
    assert "nix.test" in beside.fails("drive", "a.test", "nix.test")
    assert not serial(beside, "a.test")
    beside.ok("update", "a.test", "ca", beside.ca.directory_url, "FOO")
    assert "Unknown CA protocol" in beside.fails("drive", "a.test")
    assert beside.json("drive", "a.test")["status"] == 70023
    beside.ok("update", "a.test", "ca", beside.ca.directory_url, "ACME")
    done = beside("drive", "a.test", options=["-j", "-p", f"http://localhost:{free_ports(1)[0]}"])
    assert "Connection refused" in done.stderr
    assert json.loads(done.stdout)["description"] == "Connection refused"
    assert not (beside.store / "staging" / "a.test" / "job.json").exists()


def test_drive_waits_for_the_server(beside):
    """Two who work in staging at the same time would take each other's orders away."""
    import fcntl
    add(beside, "a.test")
    lock = beside.store / "engine.lock"
    lock.touch()
    with open(lock, "w", encoding="ascii") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        with subprocess.Popen([TOOL, *map(str, beside.options), "drive"], stderr=subprocess.PIPE, text=True) as proc:
            assert "waiting for the renewals that a server or another a2md has in progress" in proc.stderr.readline()
            fcntl.lockf(file, fcntl.LOCK_UN)
            assert proc.wait(60) == 0, proc.stderr.read()
    assert serial(beside, "a.test")
