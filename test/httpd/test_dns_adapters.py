# SPDX-License-Identifier: Apache-2.0
"""The adapters in contrib/dns: each as the command of MDChallengeDns01 in front of the real tool, if it is installed, or of
a stand-in."""
import base64
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest

from ports import free_ports
from scripted_ca import ScriptedCA, hold
from servers import PROJECT, run, wait_for

ADAPTERS = PROJECT / "contrib" / "dns"
VALUES = [letter * 43 for letter in "ab-"]
SECRET = "hush-hush"


def needs(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            pytest.skip(f"{program} is not installed")


class Adapter:
    def __init__(self, script, directory, **settings):
        self.script = ADAPTERS / script
        self.conf = directory / "md-dns.conf"
        self.configure(**settings)

    def configure(self, **settings):
        self.conf.write_text("# a comment\n\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
        self.conf.chmod(0o640)
        if os.getuid() == 0:
            shutil.chown(self.conf, group="www-data" if shutil.which("apache2") else "apache")

    def __call__(self, *words):
        return run(self.script, self.conf, *words)

    def works(self, *words):
        done = self(*words)
        assert done.returncode == 0, done
        return done

    def fails(self, *words):
        """The last line that it says."""
        done = self(*words)
        assert done.returncode == 1 and SECRET not in done.stderr, done
        return done.stderr.splitlines()[-1]


@pytest.fixture(params=["md-dns-nsupdate", "md-dns-acmesh", "md-dns-exec", "md-dns-httpreq"])
def any_adapter(request, workdir):
    return Adapter(request.param, workdir, MD_DNS_SERVER="127.0.0.1", MD_DNS_PORT=free_ports(1)[0])


@pytest.mark.parametrize("words", [(), ("setup",), ("setup", "a.test"), ("teardown",), ("erase", "a.test", VALUES[0]),
                                   ("setup", "a.test", VALUES[0], "more")])
def test_words_that_are_none(any_adapter, words):
    done = any_adapter(*words)
    assert done.returncode == 2 and done.stderr.startswith("usage: "), done


@pytest.mark.parametrize("name, value", [
    ("", VALUES[0]), ("-x.test", VALUES[0]), (".a.test", VALUES[0]), ("a..test", VALUES[0]), ("a.test.", VALUES[0]),
    ("*.a.test", VALUES[0]), ("../a", VALUES[0]), ("a.test\nserver 192.0.2.1", VALUES[0]), ("a b", VALUES[0]),
    ("a;b", VALUES[0]), ("ä.test", VALUES[0]), ("a" * 254, VALUES[0]), ("a.test", ""), ("a.test", "a" * 42),
    ("a.test", "a" * 42 + '"'), ("a.test", "a" * 42 + "\n"), ("a.test", "a" * 44), ("a.test", "a" * 42 + "ä")])
def test_arguments_that_are_odd(any_adapter, name, value):
    assert re.search("this is not a DNS name|this is not the value", any_adapter("setup", name, value).stderr)
    assert any_adapter("setup", name, value).returncode == 1
    assert any_adapter("teardown", name, value).returncode == 1


@pytest.mark.parametrize("line", ["echo hello", "$(id)=x", f"{SECRET}=", "IFS=x", "md_verb=setup"])
def test_configurations_that_are_odd(any_adapter, line):
    with any_adapter.conf.open("a") as conf:
        conf.write(line + "\n")
    assert str(any_adapter.conf) in any_adapter.fails("setup", "a.test", VALUES[0])


def test_a_configuration_for_everybody_is_refused(any_adapter):
    any_adapter.conf.chmod(0o644)
    assert "everybody can read" in any_adapter.fails("setup", "a.test", VALUES[0])
    any_adapter.conf.unlink()
    assert "is no file" in any_adapter.fails("setup", "a.test", VALUES[0])


def test_scripts_are_checked():
    needs("shellcheck")
    done = run("shellcheck", "-x", "-P", PROJECT, *sorted(ADAPTERS.glob("md-dns*")))
    assert done.returncode == 0, done.stdout


# ---- nsupdate and BIND ----

class Bind:
    """BIND's server for two zones, one below the other, which a key may change."""

    ZONE = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"

    def __init__(self, directory):
        self.dir = directory / "bind"
        self.dir.mkdir()
        self.port = free_ports(1)[0]
        self.key = self.dir / "key"
        self.key.write_text(run("tsig-keygen", "-a", "hmac-sha256", "md").stdout)
        self.other = self.dir / "other"
        self.other.write_text(run("tsig-keygen", "-a", "hmac-sha256", "md").stdout)
        conf = (f'include "{self.key}";\noptions {{ directory "{self.dir}"; pid-file none; session-keyfile none;\n'
                f"  listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; notify no;\n"
                "  dnssec-validation no; allow-query { any; }; };\ncontrols { };\n")
        for zone in ("b.test", "sub.b.test"):
            (self.dir / zone).write_text(self.ZONE)
            conf += (f'zone "{zone}" {{ type primary; file "{zone}"; update-policy {{ grant md. '
                     "subdomain b.test. TXT; }; };\n")
        (self.dir / "named.conf").write_text(conf)
        for path in (self.key, self.other):
            path.chmod(0o644)
        self.log = open(self.dir / "log", "wb")
        self.proc = None

    def __enter__(self):
        named = shutil.which("named", path=os.environ["PATH"] + ":/usr/sbin")
        self.proc = subprocess.Popen([named, "-g", "-n", "1", "-c", self.dir / "named.conf"], stdout=self.log, stderr=self.log)
        wait_for(lambda: "running" in (self.dir / "log").read_text(), what="named")
        return self

    def __exit__(self, *exc):
        self.proc.terminate()
        self.proc.wait(10)
        self.log.close()

    def values(self, name):
        found = run("dig", "+short", "@127.0.0.1", "-p", str(self.port), "TXT", f"_acme-challenge.{name}").stdout
        return sorted(line.strip('"') for line in found.splitlines())


@pytest.fixture
def bind(workdir):
    needs("named", "nsupdate", "dig", "tsig-keygen")
    with Bind(workdir) as server:
        yield server


def nsupdate(bind, workdir, **settings):
    settings = dict({"MD_DNS_SERVER": "127.0.0.1", "MD_DNS_PORT": bind.port, "MD_DNS_KEY_FILE": bind.key}, **settings)
    return Adapter("md-dns-nsupdate", workdir, **settings)


def test_nsupdate(bind, workdir):
    adapter = nsupdate(bind, workdir)
    for value in VALUES[:2]:
        adapter.works("setup", "b.test", value)
    adapter.works("setup", "b.test", VALUES[0])  # again
    assert bind.values("b.test") == VALUES[:2]
    adapter.works("teardown", "b.test", VALUES[0])
    assert bind.values("b.test") == VALUES[1:2]
    adapter.works("setup", "b.test", VALUES[2])
    adapter.works("teardown", "b.test")
    assert bind.values("b.test") == []
    adapter.works("teardown", "b.test", VALUES[0])  # not there
    # the zone is found
    adapter.works("setup", "www.sub.b.test", VALUES[0])
    assert bind.values("www.sub.b.test") == VALUES[:1]
    # or set
    adapter = nsupdate(bind, workdir, MD_DNS_ZONE="b.test", MD_DNS_TTL="7")
    adapter.works("setup", "x.b.test", VALUES[0])
    assert bind.values("x.b.test") == VALUES[:1]


def test_nsupdate_that_fails(bind, workdir):
    def told(name="b.test", **settings):
        done = nsupdate(bind, workdir, **settings)("setup", name, VALUES[0])
        assert done.returncode != 0 and not bind.values(name), done
        return done.stderr

    assert "BADSIG" in told(MD_DNS_KEY_FILE=bind.other)
    assert "REFUSED" in told(MD_DNS_KEY_FILE="")
    assert "cannot be read" in told(MD_DNS_KEY_FILE=workdir / "missing")
    assert "NOTAUTH" in told("x.c.test", MD_DNS_ZONE="c.test") and "NOTZONE" in told("x.c.test", MD_DNS_ZONE="b.test")
    assert "MD_DNS_ZONE" in told(MD_DNS_ZONE="b.test;x") and "MD_DNS_SERVER" in told(MD_DNS_SERVER="x y")
    assert "MD_DNS_PORT" in told(MD_DNS_PORT="1x") and "MD_DNS_TTL" in told(MD_DNS_TTL="-1")
    assert bind.values("b.test") == []


@pytest.mark.parametrize("version", [1, 2])
def test_an_order_with_nsupdate(httpd, bind, workdir, version):
    """All of it: records are in the zone when the CA is told of them, our check finds them there, and then they are gone."""
    adapter = nsupdate(bind, workdir)
    with ScriptedCA(workdir / "ca", authz_polls=1, order_polls=1) as ca:
        httpd.ca = ca
        httpd.use_ca(ca)
        httpd.add_md_conf(f"MDPrivateKeys P-256\nMDCAChallenges dns-01\nMDChallengeDns01 {adapter.script} {adapter.conf}\n"
                          f"MDChallengeDns01Version {version}\nMDDnsResolver 127.0.0.1:{bind.port}\n"
                          f"MDCheckPorts dns:{bind.port}\nMDomain b.test *.b.test")
        httpd.add_vhost("w.b.test")
        rule = ca.script("challenge", hold("before"), times=1)
        httpd.start()
        ca.wait_held(rule)
        assert len(bind.values("b.test")) == 2
        ca.release()
        httpd.await_md("b.test")
        wait_for(lambda: not bind.values("b.test"), what="an empty zone")
        assert not httpd.problems()
        hints = [entry for entry in httpd.store_json("staging", "b.test", "job.json")["log"]["entries"]
                 if entry["type"] == "hint"]
        assert not hints, hints


# ---- acme.sh ----

# What acme.sh offers to plug-ins, as far as this one needs it.
ACMESH = r"""#!/usr/bin/env sh
_info() { printf '[%s] %s\n' "now" "$1"; }
_err() { printf '[%s] %s\n' "now" "$*" >&2; return 1; }
_readaccountconf_mutable() { sed -n "s/^SAVED_$1='\(.*\)'\$/\1/p" "$ACCOUNT_CONF_PATH"; }
_saveaccountconf_mutable() { printf "SAVED_%s='%s'\n" "$1" "$2" >>"$ACCOUNT_CONF_PATH"; }
showhelp() { . "$ACCOUNT_CONF_PATH"; echo "Usage: acme.sh <command> ... [parameters ...]"; }
main() { [ -z "$1" ] && showhelp && return; echo "called as $*" >&2; exit 9; }
main "$@"
"""
PLUGIN = r"""#!/usr/bin/env sh
dns_test_add() {
    fulldomain=$1 txtvalue=$2
    TEST_Token="${TEST_Token:-$(_readaccountconf_mutable TEST_Token)}"
    if [ "$TEST_Token" != 'hush hush "$(x)' ]; then
        _err "no token"
        return 1
    fi
    _saveaccountconf_mutable TEST_Token "none"
    [ -z "$NOT_SET" ] && _info "adding"
    echo "$fulldomain $txtvalue" >>"ZONE"
}
dns_test_rm() {
    _info "removing"
    grep -q "^$1 $2\$" "ZONE" || { _err "no such record"; return 1; }
    grep -v "^$1 $2\$" "ZONE" >"ZONE.new"
    mv "ZONE.new" "ZONE"
}
"""


class Acmesh:
    def __init__(self, workdir):
        self.dir, self.home, self.zone = workdir / "acme.sh", workdir / "home", workdir / "zone"
        (self.dir / "dnsapi").mkdir(parents=True)
        (self.dir / "acme.sh").write_text(ACMESH)
        (self.dir / "dnsapi" / "dns_test.sh").write_text(PLUGIN.replace("ZONE", str(self.zone)))
        self.settings = dict(MD_DNS_ACMESH=self.dir, MD_DNS_PLUGIN="dns_test", MD_DNS_HOME=self.home,
                             TEST_Token='hush hush "$(x)')
        self.adapter = Adapter("md-dns-acmesh", workdir, **self.settings)

    def records(self):
        return sorted(self.zone.read_text().splitlines())


def test_acmesh(workdir):
    acmesh = Acmesh(workdir)
    for value in VALUES:
        done = acmesh.adapter.works("setup", "c.test", value)
        assert "Usage" not in done.stdout + done.stderr
    assert acmesh.records() == sorted(f"_acme-challenge.c.test {value}" for value in VALUES)
    assert "SAVED_TEST_Token='none'" in (acmesh.home / "account.conf").read_text()
    assert acmesh.home.stat().st_mode & 0o077 == 0
    acmesh.adapter.works("teardown", "c.test", VALUES[0])
    assert acmesh.records() == sorted(f"_acme-challenge.c.test {value}" for value in VALUES[1:])
    acmesh.adapter.works("teardown", "c.test")
    assert acmesh.records() == [] and list((acmesh.home / "values").iterdir()) == []
    acmesh.adapter.works("teardown", "c.test")  # nothing is known
    assert "dns_test failed to teardown" in acmesh.adapter.fails("teardown", "c.test", VALUES[0])


def test_acmesh_that_fails(workdir):
    acmesh = Acmesh(workdir)

    def told(**settings):
        acmesh.adapter.configure(**dict(acmesh.settings, **settings))
        return acmesh.adapter.fails("setup", "c.test", VALUES[0])

    assert "dns_test failed to setup _acme-challenge.c.test" in told(TEST_Token="wrong")
    assert "there is no plug-in" in told(MD_DNS_PLUGIN="dns_missing")
    for plugin in ("test", "dns_", "dns_../x", "dns_x;id"):
        assert "not the name of a plug-in" in told(MD_DNS_PLUGIN=plugin)
    assert "there is no acme.sh" in told(MD_DNS_ACMESH=workdir)
    assert "lacks MD_DNS_HOME" in told(MD_DNS_HOME="")
    (acmesh.dir / "dnsapi" / "dns_empty.sh").touch()
    assert "dns_empty failed" in told(MD_DNS_PLUGIN="dns_empty")
    assert not acmesh.zone.exists()


# ---- lego's exec ----

PROGRAM = """#!/bin/sh
printf '%s\\n' "$# $*" >>"CALLS"
! [ -e "CALLS.fail" ] || { echo "it is broken" >&2; exit 3; }
[ -z "$API_KEY" ] || printf '%s\\n' "$API_KEY" >"CALLS.key"
"""


class Program:
    def __init__(self, workdir):
        self.path, self.log = workdir / "program", workdir / "calls"
        self.path.write_text(PROGRAM.replace("CALLS", str(self.log)))
        self.path.chmod(0o755)

    def calls(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


def test_exec(workdir):
    program = Program(workdir)
    settings = dict(EXEC_PATH=program.path, API_KEY=SECRET)
    adapter = Adapter("md-dns-exec", workdir, **settings)
    adapter.works("setup", "d.test", VALUES[0])
    adapter.works("teardown", "d.test", VALUES[0])
    fqdn = "_acme-challenge.d.test."
    assert program.calls() == [f"3 present {fqdn} {VALUES[0]}", f"3 cleanup {fqdn} {VALUES[0]}"]
    assert (workdir / "calls.key").read_text() == SECRET + "\n"
    assert "MDChallengeDns01Version 2, or MD_DNS_STATE" in adapter.fails("teardown", "d.test")
    adapter.configure(MD_DNS_STATE=workdir / "state", **settings)
    for value in VALUES[:2]:
        adapter.works("setup", "d.test", value)
    program.log.unlink()
    adapter.works("teardown", "d.test")
    assert sorted(program.calls()) == [f"3 cleanup {fqdn} {value}" for value in VALUES[:2]]


def test_exec_that_fails(workdir):
    program = Program(workdir)
    settings = dict(EXEC_PATH=program.path, MD_DNS_STATE=workdir / "state")
    adapter = Adapter("md-dns-exec", workdir, **settings)
    (workdir / "calls.fail").touch()
    for words in (("setup", "d.test", VALUES[0]), ("teardown", "d.test", VALUES[0])):
        done = adapter(*words)
        assert done.returncode not in (0, 2) and done.stderr == "it is broken\n", done
    adapter.fails("teardown", "d.test")
    (workdir / "calls.fail").unlink()
    program.log.unlink()
    adapter.works("teardown", "d.test")  # what failed is not forgotten
    assert program.calls() == [f"3 cleanup _acme-challenge.d.test. {VALUES[0]}"]
    for path, told in (("program", "not absolute"), (workdir / "missing", "no program"), ("", "lacks")):
        adapter.configure(EXEC_PATH=path)
        assert told in adapter.fails("setup", "d.test", VALUES[0])
    adapter.configure(EXEC_MODE="RAW", **settings)
    assert "RAW" in adapter.fails("setup", "d.test", VALUES[0])


# ---- lego's httpreq ----

class Requests(http.server.ThreadingHTTPServer):
    def __init__(self):
        self.taken, self.status = [], 200
        super().__init__(("127.0.0.1", free_ports(1)[0]), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, json.loads(body), self.headers["Content-Type"], self.headers["Authorization"]))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def requests():
    with Requests() as server:
        yield server


def test_httpreq(requests, workdir):
    needs("curl")
    password = f'{SECRET}" \\n\\'
    settings = dict(HTTPREQ_ENDPOINT=requests.url + "/api/", HTTPREQ_USERNAME="me", HTTPREQ_PASSWORD=password)
    adapter = Adapter("md-dns-httpreq", workdir, **settings)
    adapter.works("setup", "e.test", VALUES[0])
    adapter.works("teardown", "e.test", VALUES[0])
    told = {"fqdn": "_acme-challenge.e.test.", "value": VALUES[0]}
    auth = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
    assert requests.taken == [("/api/present", told, "application/json", auth), ("/api/cleanup", told, "application/json", auth)]
    done = adapter("teardown", "e.test")
    assert done.returncode == 1 and "MDChallengeDns01Version 2, or MD_DNS_STATE" in done.stderr
    adapter.configure(HTTPREQ_ENDPOINT=requests.url, MD_DNS_STATE=workdir / "state")
    for value in VALUES[:2]:
        adapter.works("setup", "e.test", value)
    del requests.taken[:]
    adapter.works("teardown", "e.test")
    assert [(path, body["value"], auth) for path, body, _, auth in requests.taken] == \
        [("/cleanup", value, None) for value in VALUES[:2]]


@pytest.mark.parametrize("status", [302, 401, 500])
def test_httpreq_that_fails(requests, workdir, status):
    needs("curl")
    requests.status = status
    adapter = Adapter("md-dns-httpreq", workdir, HTTPREQ_ENDPOINT=requests.url, HTTPREQ_USERNAME="me", HTTPREQ_PASSWORD=SECRET)
    for words in (("setup", "e.test", VALUES[0]), ("teardown", "e.test", VALUES[0])):
        done = adapter(*words)
        assert done.returncode == 1 and f"HTTP status {status}" in done.stderr and SECRET not in done.stderr, done
    assert [path for path, *_ in requests.taken] == ["/present", "/cleanup"]


def test_httpreq_without_a_server(workdir):
    needs("curl")
    adapter = Adapter("md-dns-httpreq", workdir, HTTPREQ_ENDPOINT=f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "setup of _acme-challenge.e.test failed" in adapter.fails("setup", "e.test", VALUES[0])
    for url in ("file:///etc/passwd", "http://x y", "http://"):
        adapter.configure(HTTPREQ_ENDPOINT=url)
        assert "is not a URL" in adapter.fails("setup", "e.test", VALUES[0])
    adapter.configure(HTTPREQ_ENDPOINT="http://127.0.0.1", HTTPREQ_MODE="RAW")
    assert "RAW" in adapter.fails("setup", "e.test", VALUES[0])


def test_secrets_are_no_arguments(requests, workdir):
    """A stand-in for curl tells how it was called."""
    adapter = Adapter("md-dns-httpreq", workdir, HTTPREQ_ENDPOINT=requests.url, HTTPREQ_USERNAME="me", HTTPREQ_PASSWORD=SECRET)
    (workdir / "bin").mkdir()
    curl = workdir / "bin" / "curl"
    curl.write_text(f'#!/bin/sh\necho "$*" >{workdir}/argv\ncat >{workdir}/stdin\nprintf 200\n')
    curl.chmod(0o755)
    done = run(adapter.script, adapter.conf, "setup", "e.test", VALUES[0],
               env=dict(os.environ, PATH=f"{workdir}/bin:{os.environ['PATH']}"))
    assert done.returncode == 0, done
    assert SECRET not in (workdir / "argv").read_text() and SECRET in (workdir / "stdin").read_text()


# ---- the real lego ----

def lego(workdir, ca, provider, **env):
    done = run("lego", "--server", ca.directory_url, "--accept-tos", "--email", "a@f.test", "--path", workdir / "lego", "--dns",
               provider, "--dns.disable-cp", "--dns.resolvers", "127.0.0.1:9", "--dns-timeout", "1", "-d", "f.test", "run",
               env=dict(os.environ, LEGO_CA_CERTIFICATES=str(ca.ca_file), LEGO_DISABLE_CNAME_SUPPORT="true",
                        EXEC_PROPAGATION_TIMEOUT="1", EXEC_POLLING_INTERVAL="1", HTTPREQ_PROPAGATION_TIMEOUT="1",
                        HTTPREQ_POLLING_INTERVAL="1", **env))
    print(done.stdout, done.stderr)


def test_lego_calls_programs_in_the_same_way(ca, workdir):
    needs("lego")
    program = Program(workdir)
    lego(workdir, ca, "exec", EXEC_PATH=str(program.path))
    expected = program.calls()
    assert len(expected) == 2, expected
    value = expected[0].split()[-1]
    program.log.unlink()
    adapter = Adapter("md-dns-exec", workdir, EXEC_PATH=program.path)
    adapter.works("setup", "f.test", value)
    adapter.works("teardown", "f.test", value)
    assert program.calls() == expected


def test_lego_asks_servers_in_the_same_way(ca, requests, workdir):
    needs("lego", "curl")
    login = dict(HTTPREQ_ENDPOINT=requests.url + "/x", HTTPREQ_USERNAME="me", HTTPREQ_PASSWORD=SECRET)
    lego(workdir, ca, "httpreq", **login)
    expected = list(requests.taken)
    assert len(expected) == 2, expected
    value = expected[0][1]["value"]
    del requests.taken[:]
    adapter = Adapter("md-dns-httpreq", workdir, **login)
    adapter.works("setup", "f.test", value)
    adapter.works("teardown", "f.test", value)
    assert requests.taken == expected
