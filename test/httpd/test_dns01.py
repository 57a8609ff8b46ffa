# SPDX-License-Identifier: Apache-2.0
"""dns-01 with MDChallengeDns01: which commands are run, that they put up what the CA looks for, and that nothing stays
in the DNS, whatever happens in between."""
import json
import os
import re
import signal
import time

import pytest

from scripted_ca import ScriptedCA, hold, invalid
from servers import run, wait_for
from test_a2md import TOOL

SLOW = 3 if os.environ.get("MD_SLOW") else 1

# The zone is a directory: a file for each value of a name. What is there goes to the DNS of the test, if there is one.
# Before that, what `rules` has for the call is done: a pattern, and a line of shell.
COMMAND = """#!/usr/bin/python3
import glob, json, os, re, subprocess, sys, urllib.request
home, (verb, name) = os.path.dirname(sys.argv[0]), sys.argv[2:4]
value = sys.argv[4] if len(sys.argv) > 4 else None
with open(home + "/calls", "a") as calls:
    calls.write(json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), "domain": os.environ.get("MD_NAME")}) + "\\n")
for line in open(home + "/rules"):
    pattern, action = line.rstrip("\\n").split("\\t")
    if re.search(pattern, " ".join(sys.argv[1:])):
        code = subprocess.call(["sh", "-c", action])
        if code:
            sys.exit(code)

def tell(what, **args):
    if MGMT:
        url = f"http://127.0.0.1:{MGMT}/{what}"
        urllib.request.urlopen(url, data=json.dumps(dict(args, host=f"_acme-challenge.{name}.")).encode()).read()

zone = f"{home}/zone/{name}"
if verb == "setup":
    os.makedirs(zone, exist_ok=True)
    open(f"{zone}/{value}", "w").close()
    tell("set-txt", value=value)
else:
    for path in glob.glob(f"{zone}/{value or '*'}"):
        os.remove(path)
    tell("clear-txt")
    for path in glob.glob(f"{zone}/*"):
        tell("set-txt", value=os.path.basename(path))
"""


class Zone:
    def __init__(self, directory, pebble=None):
        self.dir = directory
        (self.dir / "zone").mkdir(parents=True)
        (self.dir / "calls").touch()
        for path in (self.dir, self.dir / "zone", self.dir / "calls"):
            path.chmod(0o777)
        self.command = self.dir / "command"
        self.command.write_text(COMMAND.replace("MGMT", str(pebble.dns_mgmt if pebble else None)))
        self.command.chmod(0o755)
        self.rule()

    def rule(self, *rules):
        """Pairs of pattern and action; there are no others."""
        fresh = self.dir / "rules.new"
        fresh.write_text("".join(f"{pattern}\t{action}\n" for pattern, action in rules))
        fresh.rename(self.dir / "rules")

    def calls(self, pattern="."):
        calls = [json.loads(line) for line in (self.dir / "calls").read_text().splitlines()]
        return [call for call in calls if re.search(pattern, " ".join(call["argv"]))]

    def values(self):
        return sorted(f"{path.parent.name} {path.name}" for path in (self.dir / "zone").glob("*/*"))

    def wait_empty(self, server):
        wait_for(lambda: not self.values() and not list((server.store / "records").glob("*")),
                 what=f"an empty zone: {self.values()}, {list((server.store / 'records').glob('*/*'))}")


@pytest.fixture
def zone(workdir, env):
    env.add_md_conf("MDPrivateKeys P-256\nMDRetryDelay 1s")
    return Zone(workdir / "dns", env.ca)


@pytest.fixture
def bare_zone(workdir, httpd, request):
    """With a CA that does not look into the DNS."""
    with ScriptedCA(workdir / "ca", authz_polls=1, order_polls=1) as ca:
        httpd.ca = ca
        httpd.use_ca(ca)
        httpd.add_md_conf("MDPrivateKeys P-256\nMDRetryDelay 1s\nMDCAChallenges dns-01\nMDChallengeDns01Check off")
        yield Zone(workdir / "dns")
        if getattr(request.node, "failed", False):
            print("\n==== CA\n" + ca.log())


@pytest.mark.parametrize("version", [None, 1, 2])
def test_a_wildcard_and_its_base_in_one_order(env, zone, version):
    env.add_md_conf(f"MDChallengeDns01 {zone.command} 'a b'\nMDCAChallenges dns-01\nMDomain a.test *.a.test www.a.test")
    if version:
        env.add_md_conf(f"MDChallengeDns01Version {version}")
    env.add_vhost("www.a.test", aliases=["x.a.test"])
    assert not re.search(r"\[md:(warn|error)", env.configtest().stderr)
    env.start()
    env.await_md("a.test")
    zone.wait_empty(env)
    setups = [call["argv"] for call in zone.calls(" setup ")]
    teardowns = [call["argv"] for call in zone.calls(" teardown ")]
    # www.a.test is covered by the wildcard, and not ordered
    assert [words[:3] for words in setups] == [["a b", "setup", "a.test"]] * 2
    assert {len(words[3]) for words in setups} == {43} and len({words[3] for words in setups}) == 2
    expected = {tuple(["a b", "teardown", "a.test"] + (words[3:] if version == 2 else [])) for words in setups}
    assert {tuple(words) for words in teardowns} == expected and len(teardowns) == 2
    assert {call["domain"] for call in zone.calls()} == {"a.test"}
    assert not env.problems()
    env.graceful()
    assert env.get("/", "x.a.test", https=True, verify=env.ca.root_pem())[0] == 200


def test_a_domain_has_its_own_command(env, zone, workdir):
    """Names without vhosts are fine; what is not configured for dns-01 alone falls back to it."""
    other = Zone(workdir / "other", env.ca)
    env.add_md_conf(f"MDChallengeDns01 {zone.command} main\nMDomain *.a.test auto\n"
                    f"<MDomain b.test *.sub.b.test mail.elsewhere.test>\nMDRenewMode always\n"
                    f"MDChallengeDns01 {other.command} own\n</MDomain>")
    env.add_vhost("w.a.test")
    env.start()
    env.await_md(["*.a.test", "b.test"])
    zone.wait_empty(env)
    other.wait_empty(env)
    assert {call["argv"][0] for call in zone.calls()} == {"main"} and {c["argv"][2] for c in zone.calls()} == {"a.test"}
    assert {call["argv"][0] for call in other.calls()} == {"own"}
    assert "sub.b.test" in {call["argv"][2] for call in other.calls()}
    assert not env.problems()


def test_events_tell_of_it(env, zone, workdir):
    calls = workdir / "events"
    calls.touch()
    calls.chmod(0o666)
    script = workdir / "event"
    script.write_text(f'#!/bin/sh\necho "$MD_EVENT" $(ls {zone.dir}/zone/* | wc -l) >>{calls}\n')
    script.chmod(0o755)
    env.add_md_conf(f"MDChallengeDns01 {zone.command} x\nMDMessageCmd {script}\nMDomain *.a.test a.test")
    env.add_md_conf("MDCAChallenges dns-01")
    env.add_vhost("w.a.test")
    env.start()
    env.await_md("*.a.test")
    wait_for(lambda: "renewed" in calls.read_text(), what="events")
    # both are set up before the first is told of
    told = calls.read_text().splitlines()
    assert told[:3] == ["renewing 0", "challenge-setup:dns-01:a.test 2", "challenge-setup:dns-01:a.test 2"]


def test_a_command_that_fails(env, zone):
    """It is told with exit code and output, tried again, and nobody else has to wait."""
    zone.rule(("setup bad.test", "echo first >&2; echo 'no such zone' >&2; exit 3"))
    env.add_md_conf(f"MDChallengeDns01 {zone.command} x\nMDCAChallenges dns-01\nMDomain bad.test *.bad.test\n"
                    "MDomain good.test")
    env.add_vhost("bad.test")
    env.add_vhost("good.test")
    env.start()
    env.await_md("good.test")
    job = env.await_error("bad.test", 2)
    assert job["last"]["problem"] == "challenge-setup-failure"
    assert re.search(rf"MDChallengeDns01 {zone.command} x setup bad\.test \S{{43}} failed with exit code 3\. "
                     r"The last line of its output: no such zone$", job["last"]["detail"]), job["last"]
    assert "failed to execute" not in env.error_log()
    zone.rule()
    env.await_md("bad.test")
    zone.wait_empty(env)


def test_a_command_that_cannot_be_run(env, zone):
    """The next type is tried; where there is none, that is told."""
    env.add_md_conf(f"MDChallengeDns01 {zone.dir}/missing\nMDCAChallenges dns-01 http-01\nMDomain a.test\n"
                    "MDomain *.b.test")
    env.add_vhost("a.test")
    env.add_vhost("x.b.test")
    env.start()
    env.await_md("a.test")
    job = env.await_error("*.b.test")
    assert job["last"]["problem"] == "challenge-setup-failure"
    assert "It cannot be executed: No such file or directory" in job["last"]["detail"]
    env.wait_log(r"\[md:warn\].*setup command failed to execute")


@pytest.mark.kills
@pytest.mark.parametrize("kind, when", [("authz", "after"), ("challenge", "before"), ("finalize", "after"),
                                        ("certificate", "before")])
def test_killed_at(httpd, bare_zone, kind, when):
    """Whatever the step: what was set up is torn down once the server runs again."""
    httpd.add_md_conf(f"MDChallengeDns01 {bare_zone.command} x\nMDChallengeDns01Version 2\nMDomain a.test *.a.test")
    httpd.add_vhost("w.a.test")
    rule = httpd.ca.script(kind, hold(when), times=1)
    httpd.start()
    httpd.ca.wait_held(rule)
    os.kill(wait_for(httpd.watchdog_pid, what="the watchdog's child"), signal.SIGKILL)
    httpd.ca.release()
    httpd.await_md("a.test", 90)
    bare_zone.wait_empty(httpd)


@pytest.mark.kills
def test_killed_in_a_command(httpd, bare_zone):
    """What a command was doing is not known: it is done again, and torn down in the end."""
    bare_zone.rule(("setup", "test -e {0}/again || {{ touch {0}/again; kill -9 $(cat {0}/pid); }}"
                    .format(bare_zone.dir)))
    httpd.add_md_conf(f"MDChallengeDns01 {bare_zone.command} x\nMDomain *.a.test\nMDInitialDelay 1s")
    httpd.add_vhost("w.a.test")
    httpd.start()
    (bare_zone.dir / "pid").write_text(str(wait_for(httpd.watchdog_pid, what="the watchdog's child")))
    httpd.await_md("*.a.test", 90)
    bare_zone.wait_empty(httpd)
    assert len(bare_zone.calls("setup")) == 2


def test_a_reset_and_a_domain_that_is_gone(httpd, bare_zone):
    """What a2md resets is torn down by the server, which alone knows the command."""
    httpd.add_md_conf(f"MDChallengeDns01 {bare_zone.command} x\nMDChallengeDns01Version 2")
    for name in ("*.a.test", "*.b.test"):
        httpd.add_md_conf(f"MDomain {name}")
        httpd.add_vhost("w" + name[1:])
    rule = httpd.ca.script("challenge", hold("before"), times=2)
    httpd.start()
    httpd.ca.wait_held(rule, 2)
    assert len(bare_zone.values()) == 2
    httpd.stop()
    httpd.ca.release()
    assert len(bare_zone.values()) == 2 and httpd.store_json("records", "*.a.test", "records.json")
    done = run(TOOL, "-d", httpd.store, "drive", "-r", "-f", "*.a.test", "*.b.test")
    assert done.returncode != 0 and "a2md renew" in done.stderr, done.stderr
    assert len(bare_zone.values()) == 2 and not list(httpd.store.glob("staging/*/order.json"))
    httpd.md_conf.pop()
    httpd.vhosts.pop()
    httpd.start()
    httpd.await_md("*.a.test")
    bare_zone.wait_empty(httpd)
    assert len(bare_zone.calls("setup")) == 3 and len(bare_zone.calls("teardown")) == 3


def test_failover(httpd, bare_zone, workdir):
    """What was set up for the first CA, which refuses in the end, is torn down, and the next one gets its own."""
    with ScriptedCA(workdir / "first", authz_polls=1, order_polls=1) as first:
        first.script("challenge", invalid())
        roots = workdir / "roots.pem"
        roots.write_text(first.ca_file.read_text() + httpd.ca.ca_file.read_text())
        httpd.add_md_conf(f"MDChallengeDns01 {bare_zone.command} x\nMDChallengeDns01Version 2\nMDRetryFailover 2\n"
                          f"MDCertificateAuthority {first.directory_url} {httpd.ca.directory_url}\n"
                          f"MDCACertificateFile {roots}\nMDomain a.test *.a.test")
        httpd.add_vhost("w.a.test")
        httpd.start()
        httpd.await_md("a.test", 90)
        bare_zone.wait_empty(httpd)
    setups = {tuple(call["argv"][2:]) for call in bare_zone.calls("setup")}
    teardowns = {tuple(call["argv"][2:]) for call in bare_zone.calls("teardown")}
    assert setups == teardowns and len(setups) >= 4
    assert httpd.store_json("staging", "a.test", "md.json")["ca"]["url"] == httpd.ca.directory_url


def test_a_stop_does_not_wait_for_a_command(httpd, bare_zone):
    bare_zone.rule(("setup", "sleep 100"))
    httpd.add_md_conf(f"MDChallengeDns01 {bare_zone.command} x\nMDomain *.a.test")
    httpd.add_vhost("w.a.test")
    httpd.start()
    call = wait_for(lambda: bare_zone.calls("setup"), what="a call")[0]
    httpd.graceful()
    wait_for(lambda: not os.path.exists(f"/proc/{call['pid']}"), 10, "end of the command")
    wait_for(lambda: len(bare_zone.calls("setup")) == 2, what="another call")
    bare_zone.rule()
    httpd.graceful()
    httpd.await_md("*.a.test")
    bare_zone.wait_empty(httpd)
    job = httpd.store_json("staging", "*.a.test", "job.json")
    assert not [entry for entry in job["log"]["entries"] if "error" in entry["type"]], job


# The same without Python, of which 300 would keep the machine busy for longer than that; nor is it the programs run here
# that are looked at, where the server needs the runtime of a sanitizer.
QUICK = """#!/bin/sh
unset LD_PRELOAD
sleep 2
host="_acme-challenge.$2."
case $1 in
setup) : >ZONE/$2; exec curl -s -d '{"host":"'$host'","value":"'$3'"}' http://127.0.0.1:MGMT/set-txt ;;
*) rm ZONE/$2; exec curl -s -d '{"host":"'$host'"}' http://127.0.0.1:MGMT/clear-txt ;;
esac
"""


def test_many_names_do_not_take_long(env, zone):
    """300 names with a command that takes 2 s, and nobody else is late. Then it is torn down."""
    command = zone.dir / "quick"
    command.write_text(QUICK.replace("ZONE", f"{zone.dir}/zone").replace("MGMT", str(env.ca.dns_mgmt)))
    command.chmod(0o755)
    names = " ".join(f"n{i}.many.test" for i in range(300))
    env.add_md_conf(f"MDChallengeDns01 {command}\nMDomain other.test\n"
                    f"<MDomain {names}>\nMDRenewMode always\nMDCAChallenges dns-01\n</MDomain>")
    env.add_vhost("other.test")
    env.add_vhost("n0.many.test")
    began = time.monotonic()
    env.start()
    env.await_md("other.test", 10 * SLOW)
    env.await_md("n0.many.test", 40 * SLOW)
    got = time.monotonic() - began
    wait_for(lambda: not list((zone.dir / "zone").iterdir()) and not list((env.store / "records").iterdir()),
             what="an empty zone")
    print(f"{got:.1f} s, torn down after {time.monotonic() - began:.1f} s")
    assert got < 30 * SLOW
