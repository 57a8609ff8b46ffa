# SPDX-License-Identifier: Apache-2.0
"""MDNotifyCmd, MDMessageCmd, MDEventLog: who is told what and when, and what comes of commands that fail."""
import datetime
import json
import os
import pwd
import re
import signal
import time

import pytest

import scripted_ca as ca_is
from servers import is_alive, make_pair, wait_for

# Writes down how it was called; then does what `rules` has for the event: a pattern, and a line of shell.
COMMAND = """#!/usr/bin/python3
import json, os, re, sys
home, pattern = os.path.dirname(sys.argv[0]), None
with open(home + "/calls", "a") as calls:
    calls.write(json.dumps({"argv": sys.argv, "pid": os.getpid(), "uid": os.getuid(),
                            "env": {k: v for k, v in os.environ.items() if k[:3] == "MD_" and
                                    k not in INHERITED}}) + "\\n")
for line in open(home + "/rules"):
    pattern, action = line.rstrip("\\n").split("\\t")
    if re.search(pattern, " ".join(sys.argv[1:])):
        os.execv("/bin/sh", ["sh", "-c", action])
"""


class Command:
    def __init__(self, directory):
        self.dir = directory
        self.dir.mkdir()
        self.dir.chmod(0o777)
        self.path = self.dir / "command"
        self.path.write_text(COMMAND.replace("INHERITED", repr(list(os.environ))))
        self.path.chmod(0o755)
        self.calls_path = self.dir / "calls"
        self.calls_path.touch()
        self.calls_path.chmod(0o666)
        self.rule()

    def rule(self, *rules):
        """Pairs of pattern and action; there are no others."""
        fresh = self.dir / "rules.new"
        fresh.write_text("".join(f"{pattern}\t{action}\n" for pattern, action in rules))
        fresh.rename(self.dir / "rules")

    def calls(self, pattern="."):
        lines = self.calls_path.read_text().splitlines()
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if re.search(pattern, " ".join(call["argv"][1:]))]

    def words(self, pattern="."):
        return [call["argv"][1:] for call in self.calls(pattern)]

    def wait(self, pattern, count=1):
        return wait_for(lambda: len(self.calls(pattern)) >= count and self.calls(pattern),
                        what=f"{count} calls with {pattern}: {self.words()}")


@pytest.fixture
def command(workdir):
    return Command(workdir / "command")


@pytest.fixture
def server(httpd, ca, command):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDRetryDelay 1s\nMDPrivateKeys P-256\nMDEventLog events.log\n"
                      f'MDMessageCmd {command.path}  "a b" c\\ d \'"\'')
    return httpd


WORDS = ["a b", "c d", '"']  # of that line


def add(server, *names, section=""):
    server.add_md_conf(f"<MDomain {' '.join(names)}>\n{section}\n</MDomain>")
    server.add_vhost(names[0], names[1:])


def job(server, name, group="staging"):
    return server.store_json(group, name, "job.json")


def types(record):
    return [entry["type"] for entry in record["log"]["entries"]]


def event_lines(server, **match):
    text = (server.dir / "events.log").read_text()
    assert not text or text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if all(line.get(k) == v for k, v in match.items())]


def child_user():
    return pwd.getpwnam("www-data" if os.path.exists("/usr/sbin/apache2") else "apache").pw_uid \
        if os.geteuid() == 0 else os.geteuid()


def test_life(server, command):
    """From the first renewal to a set that is ready: arguments, environment, order, record, lines."""
    server.add_md_conf(f"MDNotifyCmd {command.path} 'x  y'")
    add(server, "one.test", "www.one.test")
    server.start()
    server.await_md("one.test")
    command.wait("renewed")
    setups = [WORDS + [f"challenge-setup:http-01:{name}", "one.test"] for name in ("one.test", "www.one.test")]
    assert command.words() == [WORDS + ["renewing", "one.test"], *setups, ["x  y", "one.test"],
                               WORDS + ["renewed", "one.test"]]
    for call in command.calls():
        assert call["uid"] == child_user()
        assert call["env"]["MD_NAME"] == "one.test" and call["env"]["MD_STORE"] == str(server.store)
        assert set(call["env"]) == {"MD_NAME", "MD_STORE", "MD_EVENT"}, call
    events = ["renewing", *(words[-2] for words in setups), "renewed", "renewed"]
    assert [call["env"]["MD_EVENT"] for call in command.calls()] == events

    record = wait_for(lambda: (r := job(server, "one.test"))["notified-renewed"] and r)
    assert record["finished"] and record["notified"] and record["errors"] == 0
    assert types(record)[:2] == ["message-renewed", "finished"]
    assert types(record)[-2:] == ["starting", "message-renewing"]
    assert [t for t in types(record) if "challenge-setup" in t] == \
        [f"message-challenge-setup:http-01:{name}" for name in ("www.one.test", "one.test")]
    assert server.error_log().count("AH10059") == 1
    assert not re.search(r"\[md:(error|warn)\]", server.error_log())

    lines = event_lines(server)
    assert all(line["domain"] == "one.test" and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"])
               for line in lines)
    assert [line["event"] for line in lines if "command" not in line] == events[:-1]
    attempts = [line for line in lines if "command" in line]
    assert [(a["event"], a["command"], a["attempt"], a["result"], a["exit"]) for a in attempts] == \
        [(e, c, 1, "ok", 0) for e, c in zip(events, ["MDMessageCmd"] * 3 + ["MDNotifyCmd", "MDMessageCmd"])]


def test_without_commands(server):
    server.md_conf[-1] = re.sub("MDMessageCmd.*", "", server.md_conf[-1])
    add(server, "one.test")
    server.start()
    server.await_md("one.test")
    record = wait_for(lambda: (r := job(server, "one.test"))["notified-renewed"] and r)
    assert [t for t in types(record) if t.startswith("message")] == \
        ["message-renewed", "message-challenge-setup:http-01:one.test", "message-renewing"]
    assert [line["event"] for line in event_lines(server)] == \
        ["renewing", "challenge-setup:http-01:one.test", "renewed"]


def test_veto(server, command):
    """Somebody else renews, or nobody should now: no attempt, no error, and another question in the next round."""
    command.rule(("renewing bad", "echo not now >&2; exit 7"))
    server.add_md_conf("MDCheckInterval 2s")
    add(server, "bad.test")
    add(server, "good.test")
    server.start()
    server.await_md("good.test")
    server.wait_log(r"\[md:info\].*AH10060: bad\.test: event-handler for 'renewing' returned 20014, preventing "
                    "renewal to proceed")
    server.wait_log(r"\[md:error\].*md\[bad\.test\].* problem\[urn:org:apache:httpd:log:AH10109:\] "
                    r"detail\[MDMessageCmd \S+  \"a b\" c\S+ d '\"' failed with exit code 7\.\]")
    server.wait_log(r"\[md:debug\].*cmd\(\S+/command\) stderr: not now")
    record = wait_for(lambda: (server.store / "staging/bad.test/job.json").exists() and job(server, "bad.test"))
    assert record["last"]["problem"] == "urn:org:apache:httpd:log:AH10109:" and record["last"]["status"] == 20014
    assert record["errors"] == 0 and not record["finished"] and "next-run" not in record
    assert record["log"]["entries"][0]["status"] == "renewing" and types(record) == ["message-error"]
    command.wait("renewing bad", 2)
    assert not command.calls("errored")
    command.rule()
    server.await_md("bad.test")
    assert event_lines(server, domain="bad.test", result="failed")[0]["output"] == "not now"


def test_challenge_setup_may_be_refused(server, command):
    """That domain fails, and it alone; who is told of that learns why."""
    command.rule(("challenge-setup:http-01:bad", "exit 1"))
    add(server, "bad.test")
    add(server, "good.test")
    server.start()
    server.await_md("good.test")
    server.await_error("bad.test")
    call = command.wait("errored bad")[0]
    record = wait_for(lambda: "message-errored" in types(r := job(server, "bad.test")) and r)
    assert record["last"]["problem"] == call["env"]["MD_PROBLEM"] == "challenge-setup-failure"
    assert "failed with exit code 1." in call["env"]["MD_DETAIL"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", call["env"]["MD_NEXT_TRY"])
    assert server.error_log().count("AH10109:") >= 1 and "AH10056: processing bad.test" in server.error_log()
    assert "MD_EXPIRES" not in call["env"]
    assert words_of(command, "bad")[:3] == ["renewing", "challenge-setup:http-01:bad.test", "errored"]
    server.await_error("bad.test", 2)  # not told of again within the hour
    command.rule()
    server.await_md("bad.test")
    assert len(command.calls("errored")) == 1
    assert event_lines(server, event="errored")[0]["problem"] == "challenge-setup-failure"


def words_of(command, name):
    return [call["argv"][-2] for call in command.calls() if call["argv"][-1].startswith(name)]


def test_another_type_is_tried(server, command):
    command.rule(("challenge-setup:http-01", "exit 1"))
    server.add_md_conf("MDCAChallenges http-01 tls-alpn-01")
    server.add_md_conf("<MDomain one.test>\n</MDomain>")
    server.add_vhost("one.test", extra="Protocols http/1.1 acme-tls/1")
    server.start()
    server.await_md("one.test")
    command.wait("renewed")
    assert words_of(command, "one") == ["renewing", "challenge-setup:http-01:one.test",
                                        "challenge-setup:tls-alpn-01:one.test", "renewed"]


@pytest.mark.parametrize("directive, number", [("MDNotifyCmd", "AH10108"), ("MDMessageCmd", "AH10109")])
def test_telling_is_repeated(server, command, ca, directive, number):
    """Ever later, until it works; the renewal is not."""
    server.add_md_conf(f"MDNotifyCmd {command.path} notified")
    command.rule(("notified" if directive == "MDNotifyCmd" else "renewed", "exit 3"))
    add(server, "one.test")
    server.start()
    server.wait_log(rf"problem\[urn:org:apache:httpd:log:{number}:\] detail\[{directive} .* failed with exit code 3\.\]",
                    count=3)
    record = wait_for(lambda: (r := job(server, "one.test"))["errors"] >= 3 and r)
    assert record["finished"] and not record["notified-renewed"] and record["errors"] >= 3
    assert record["last"]["problem"] == f"urn:org:apache:httpd:log:{number}:"
    assert "failed with exit code 3." in record["last"]["detail"] and "next-run" in record
    at_renewed = command.calls(r"notified|renewed")
    assert len(command.calls("renewed")) == (0 if directive == "MDNotifyCmd" else len(at_renewed) // 2)
    assert (server.error_log().count("AH10059") > 0) == (directive == "MDMessageCmd")
    command.rule()
    record = wait_for(lambda: (r := job(server, "one.test"))["notified-renewed"] and r)
    assert record["errors"] == 0 and record["last"]["status"] == 0 and "next-run" not in record
    assert ca.count("newOrder") == 1
    attempts = [line["attempt"] for line in event_lines(server, event="renewed", command=directive)]
    assert attempts == list(range(1, len(attempts) + 1)) and len(attempts) >= 4
    assert len([line for line in event_lines(server, event="renewed") if "command" not in line]) == 1


def test_a_failing_errored_keeps_what_it_was_about(server, command, ca):
    ca.script("newOrder", ca_is.problem("rejectedIdentifier", "we do not like <b>you</b>\n\x1b[31m"))
    command.rule(("errored", "exit 200"))
    add(server, "one.test")
    server.start()
    server.wait_log(r"detail\[MDMessageCmd .* failed with exit code 200\.\]")
    last = wait_for(lambda: (r := job(server, "one.test"))["last"].get("problem", "").endswith("AH10109:") and r)["last"]
    assert last["status"] == 20022 and "we do not like <b>you</b>" in last["detail"]
    env = command.calls("errored")[0]["env"]
    assert env["MD_PROBLEM"] == "urn:ietf:params:acme:error:rejectedIdentifier"
    assert env["MD_DETAIL"].startswith("we do not like <b>you</b>") and "\x1b" not in env["MD_DETAIL"]
    assert "\n" not in env["MD_DETAIL"]


UNFIT = {"/does/not/exist": "No such file or directory", "{dir}/plain": "Permission denied", "{dir}": "Permission denied",
         "sh": "No such file or directory"}


def test_what_cannot_be_run(server, command, fleet):
    """It is told once for each attempt, and nothing else comes of it."""
    (command.dir / "plain").write_text("#!/bin/sh\n")

    def before(one):
        path = list(UNFIT)[started.pop()].format(dir=command.dir)
        one.path = path
        one.add_md_conf(f"MDNotifyCmd {path} x")
    started = list(range(len(UNFIT)))
    for one in fleet(len(UNFIT), before):
        template = one.path.replace(str(command.dir), "{dir}")
        one.wait_log(rf"problem\[urn:org:apache:httpd:log:AH10108:\] detail\[MDNotifyCmd {one.path} x failed with exit "
                     rf"code 255\. It cannot be executed: {UNFIT[template]}\]")
        record = one.store_json("staging", one.name, "job.json")
        told = one.error_log().count("AH10108:] detail[")
        assert record["finished"] and told <= one.store_json("staging", one.name, "job.json")["errors"] + 1
        assert len(one.problems()) == one.error_log().count("AH10108:] detail["), one.problems()


def test_hanging_commands(server, command):
    """They hold up neither other domains nor the end of the server, and are gone with it."""
    command.rule(("renewing deaf", "trap '' TERM; while :; do sleep 1; done"),
                 ("renewing daemon", "(exec setsid sleep 1000) & exit 0"),
                 ("loud", "head -c 1000000 /dev/zero | tr '\\\\0' x >&2; exit 0"),
                 ("challenge-setup:http-01:hung", "sleep 1000"))
    names = ["deaf.test", "hung.test", "daemon.test", "loud.test", "good.test"]
    for name in names:
        add(server, name)
    server.start()
    server.await_md(["daemon.test", "loud.test", "good.test"])
    hanging = [command.wait(p)[0]["pid"] for p in ("renewing deaf", "challenge-setup:http-01:hung")]
    daemons = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_daemon(pid, command)]
    assert len(server.error_log()) < 300000
    began = time.monotonic()
    os.kill(server.pid(), signal.SIGTERM)
    wait_for(lambda: not server.is_running(), what="end of httpd")
    assert time.monotonic() - began < 4, "httpd did not end soon"
    wait_for(lambda: not any(map(is_alive, hanging)), what="end of commands")
    for pid in daemons:
        os.kill(pid, signal.SIGKILL)


def is_daemon(pid, command):
    try:
        return open(f"/proc/{pid}/cmdline").read() == "sleep\x001000\x00" and \
            b"MD_EVENT=renewing" in open(f"/proc/{pid}/environ", "rb").read()
    except OSError:
        return False


def test_installed(server, command):
    """By the user who starts the server, who may read the key then; once for each set, over reloads and restarts."""
    command.rule(("installed one", f"cat $MD_STORE/domains/one.test/privkey.p-256.pem >{command.dir}/key; sleep 0.1"),
                 ("installed two", "echo no >&2; exit 4"))
    add(server, "one.test")
    add(server, "two.test")
    server.start()
    server.await_md(["one.test", "two.test"])
    command.wait("renewed", 2)
    wait_for(lambda: all(job(server, name)["notified-renewed"] for name in ("one.test", "two.test")))
    assert not command.calls("installed")
    server.graceful()
    call = command.wait("installed one.test")[0]
    command.wait("installed two.test")
    assert call["argv"][1:] == WORDS + ["installed", "one.test"] and call["uid"] == os.geteuid()
    assert set(call["env"]) == {"MD_NAME", "MD_STORE", "MD_EVENT", "MD_EXPIRES"}
    wait_for(lambda: not (server.store / "installed.json").exists())
    wait_for(lambda: types(job(server, "one.test", "domains"))[0] == "message-installed")
    assert "PRIVATE KEY" in (command.dir / "key").read_text()
    server.wait_log(r"\[md:error\].*md\[two\.test\] .*problem\[urn:org:apache:httpd:log:AH10109:\]")
    wait_for(lambda: types(job(server, "two.test", "domains"))[0] == "message-error")
    assert server.md_status("two.test")["state"] == 2
    server.graceful()
    server.stop()
    server.start()
    server.wait_log("AH10054", count=3)
    assert len(command.calls("installed")) == 2
    assert "long lost child" not in server.error_log()
    assert [line["result"] for line in event_lines(server, domain="two.test", event="installed") if "result" in line] \
        == ["failed"]


def test_installed_that_hangs(server, command):
    """It holds up neither a reload nor the end, and is not told again; what was not begun is told by the next start."""
    names = [f"d{i}.test" for i in range(5)]
    for name in names:
        add(server, name)
    server.start()
    server.await_md(names)
    command.wait("renewed", len(names))
    command.rule(("installed", "trap '' TERM; while :; do sleep 1; done"))
    server.graceful()
    calls = command.wait("installed", len(names))
    assert server.get("/", "d1.test", https=True)[0] == 200
    command.rule()
    server.graceful()
    wait_for(lambda: not any(is_alive(call["pid"]) for call in calls), what="end of commands")
    assert sorted(call["argv"][-1] for call in command.calls("installed")) == names
    wait_for(lambda: not (server.store / "installed.json").exists())
    (server.store / "installed.json").write_text(json.dumps({"names": ["d3.test", "gone.test"]}))
    server.graceful()
    assert [call["argv"][-1] for call in command.wait("installed", len(names) + 1)][len(names):] == ["d3.test"]


def test_expiring(server, command, workdir):
    """Once a day, of what the server does not renew as well; again after a failure, but not when it is told."""
    cert, key = make_pair(workdir, "static.test", "DNS:static.test")
    server.add_md_conf("MDWarnWindow 100d")
    command.rule(("expiring", "exit 1"))
    add(server, "static.test", section=f"MDCertificateFile {cert}\nMDCertificateKeyFile {key}")
    server.start()
    call = command.wait("expiring", 2)[0]
    assert call["argv"][1:] == WORDS + ["expiring", "static.test"] and call["uid"] == child_user()
    end = datetime.datetime.strptime(call["env"]["MD_EXPIRES"], "%Y-%m-%dT%H:%M:%SZ")
    assert 29 <= (end - datetime.datetime.utcnow()).days <= 30
    record = wait_for(lambda: (r := job(server, "static.test"))["errors"] >= 2 and r)
    assert record["last"]["problem"] == "urn:org:apache:httpd:log:AH10109:" and not record["finished"]
    command.rule()
    server.graceful()
    record = wait_for(lambda: (r := job(server, "static.test"))["errors"] == 0 and r)
    assert types(record)[0] == "message-expiring" and not record["finished"] and "last" not in record
    told = len(command.calls("expiring"))
    server.graceful()
    server.wait_log("AH10267: static.test: rate limiting notification about 'expiring'")
    assert len(command.calls("expiring")) == told


def test_a_failing_renewal_warns(server, command, ca):
    """And the warning tells why; the failure stays on record."""
    server.add_md_conf("MDWarnWindow 100d\nMDRenewWindow 1%")
    add(server, "one.test")
    server.start()
    server.await_md("one.test")
    ca.script("newOrder", ca_is.problem("caa", "CAA forbids it"))
    server.add_md_conf("MDRenewWindow 100d")
    server.graceful()
    server.await_error("one.test")
    env = command.wait("expiring")[0]["env"]
    assert env["MD_PROBLEM"].endswith(":caa") and env["MD_DETAIL"] == "CAA forbids it"
    assert env["MD_NEXT_TRY"] and env["MD_EXPIRES"]
    record = wait_for(lambda: "message-expiring" in types(r := job(server, "one.test")) and r)
    assert not record["finished"] and record["errors"] >= 1 and record["last"]["problem"].endswith(":caa")


def test_event_log_is_rotated(server, command):
    add(server, "one.test")
    server.start()
    server.await_md("one.test")
    command.wait("renewed")
    log, old = server.dir / "events.log", server.dir / "events.log.1"
    wait_for(lambda: event_lines(server, event="renewed", result="ok"))
    assert log.stat().st_uid == os.geteuid()
    log.rename(old)
    before = old.read_text()
    server.graceful()
    wait_for(lambda: event_lines(server, event="installed", result="ok"))
    assert old.read_text() == before
    server.md_conf[-2] = server.md_conf[-2].replace("events.log", "no/such/directory/log")
    server.graceful()
    server.wait_log(r"\[md:error\].*MDEventLog \S+/no/such/directory/log cannot be opened")
    assert server.get("/", "one.test", https=True)[0] == 200
