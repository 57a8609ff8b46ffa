# SPDX-License-Identifier: Apache-2.0
"""/.httpd/certificate-status: what anybody may know of a host's certificates."""
import json
import re

import pytest

import sets
import states
from servers import Httpd

PATH = "/.httpd/certificate-status"
CERT = ["valid", "serial", "sha256-fingerprint"]
STAGED = ["issuer-name", "valid", "serial", "sha256-fingerprint"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Httpd(tmp_path_factory.mktemp("cert-status")) as httpd:
        states.start(httpd)
        yield httpd


def ask(server, host, **kw):
    status, headers, body = server.get(PATH, host, **kw)
    assert status == 200 and headers["Content-Type"] == "application/json", (status, body)
    shown = json.loads(body)
    assert body == json.dumps(shown, indent=2)
    return shown


@pytest.mark.parametrize("name, members", [
    ("good.test", {"valid": ["from", "until"], "P-256": CERT}),
    ("www.good.test", {"valid": ["from", "until"], "P-256": CERT}),
    ("none.test", {"P-256": []}),
    ("half.test", {"valid": ["from", "until"], "P-256": CERT, "P-384": []}),
    ("renewing.test", {"P-256": [], "renewal": ["cert"]}),
    ("first.test", {"P-256": [], "renewal": ["cert"]}),
    ("staged.test", {"valid": ["from", "until"], "P-256": CERT, "renewal": ["cert"]}),
    ("static.test", {"valid": ["from", "until"], "0": CERT}),
    ("expired.test", {"valid": ["from", "until"], "P-256": CERT}),
])
def test_members(server, name, members):
    shown = ask(server, name)
    assert {key: list(value) for key, value in shown.items()} == members
    assert list(shown) == list(members)


def test_values(server):
    shown = ask(server, "GOOD.test:80", https=True)  # any case, any port, https with another certificate
    full = server.md_status("good.test")["cert"]
    assert shown["valid"] == full["valid"]
    assert shown["P-256"] == {key: full["P-256"][key] for key in CERT}
    assert re.fullmatch("([0-9A-F]{2})+", shown["P-256"]["serial"])
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", shown["valid"]["until"])
    assert ask(server, "renewing.test")["renewal"] == {"cert": {}}


def test_staged(server):
    """As it is in the store at the moment, in the form of md-status."""
    for days in (-2, 80), (-3, 70):
        sets.put_staged(server.store, ["first.test"], sets.make_pair(["first.test"], days))
        staged = ask(server, "first.test")["renewal"]["cert"]
        assert staged == server.md_status("first.test")["renewal"]["cert"]
        assert list(staged) == ["P-256", "valid"] and list(staged["P-256"]) == STAGED
        assert staged["valid"] == staged["P-256"]["valid"]
        assert int(staged["P-256"]["serial"], 16) == sets.serial(
            (server.store / "staging/first.test" / sets.CERT).read_bytes())


def raw(server, request_line, *headers):
    return server.raw("\r\n".join([request_line, *headers, "", ""]).encode()).decode(errors="replace")


def test_who_is_answered(server):
    def status(path=PATH, host="good.test"):
        return server.get(path, host)[0]
    assert status() == status(PATH + "?x=y") == 200
    for path in PATH + "/", PATH + "/x", PATH + "x", "/.httpd", PATH.upper():
        assert status(path) == 404, path
    assert status(host="unknown.test") == 404
    assert status(host="x" * 300) in (400, 404)


def test_methods(server):
    for method, code in (("GET", 200), ("HEAD", 200), ("POST", 501), ("OPTIONS", 501), ("DELETE", 501)):
        answer = raw(server, f"{method} {PATH} HTTP/1.1", "Host: good.test", "Content-Length: 0", "Connection: close")
        assert answer.startswith(f"HTTP/1.1 {code} "), answer
        assert (answer.partition("\r\n\r\n")[2] == "") == (method == "HEAD")
    assert " 501 " not in raw(server, f"POST {PATH} HTTP/1.1", "Host: unknown.test", "Content-Length: 0",
                              "Connection: close").splitlines()[0]


def test_without_a_host(server):
    children = server.child_pids()
    assert raw(server, f"GET {PATH} HTTP/1.0").startswith("HTTP/1.1 404 ")
    assert ask(server, "good.test") and server.child_pids() == children


def test_absolute_request(server):
    """As a client sends it to a proxy."""
    assert '"P-256"' in raw(server, f"GET http://good.test{PATH} HTTP/1.1", "Host: good.test", "Connection: close")


def test_a_damaged_record(server):
    """Nobody is told what is in it."""
    assert server.get(PATH, "damaged.test")[0] == 500
    assert "AH10204: loading md status for damaged.test" in server.error_log()
    assert server.md_status("damaged.test")["error"] == 22


def test_before_everything_else(httpd, workdir):
    """Redirects, access control and proxies do not matter; https says 503 to the rest while there is no certificate."""
    sets.make_store(httpd.store)
    httpd.add_md_conf(sets.CONF + "\nMDRequireHttps permanent\nMDomain a.test")
    httpd.add_vhost("a.test", extra="<Location />\nRequire all denied\n</Location>")
    httpd.add_vhost("a.test", ssl=False, extra="<Location />\nRequire all denied\n</Location>\nRedirect /.httpd http://b.test/")
    httpd.start()
    assert httpd.get("/", "a.test", https=True)[0] == 503
    for https in False, True:
        assert ask(httpd, "a.test", https=https) == {"P-256": {}}


@pytest.mark.parametrize("conf, last", [("MDCertificateStatus off", 404), ("", 200)])
def test_switch(httpd, conf, last):
    """One for the whole server, wherever it stands; md-status has nothing to do with it."""
    sets.make_store(httpd.store)
    httpd.add_md_conf(sets.CONF + "\nMDomain a.test")
    httpd.add_vhost("a.test", extra=conf)
    httpd.add_vhost("b.test", ssl=False)
    httpd.start()
    assert httpd.get(PATH, "a.test")[0] == last
    assert httpd.md_status("a.test")["name"] == "a.test"


def test_the_store_cannot_be_read(httpd):
    """What is served is known."""
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["a.test"])
    sets.configure(httpd, ["a.test"])
    httpd.start()
    before = ask(httpd, "a.test")
    httpd.store.rename(httpd.dir / "gone")
    httpd.store.write_text("no directory")
    assert ask(httpd, "a.test") == before and "P-256" in before
    assert httpd.md_status("a.test")["cert"]["P-256"]
