# SPDX-License-Identifier: Apache-2.0
"""Pre-flight: `a2md check`, and a check before an order, find what would keep a CA from issuing, and never stop anything.
Each kind of finding has its text in docs/preflight.md."""
import http.client
import http.server
import json
import os
import re
import socket
import ssl
import threading
import time

import pytest

from ports import free_ports
from scripted_ca import ScriptedCA, invalid
from scripted_dns import ScriptedDNS
from servers import PROJECT, make_pair, run, wait_for
from test_a2md import TOOL

SLOW = 3 if os.environ.get("MD_SLOW") else 1
DOCS = (PROJECT / "docs" / "preflight.md").read_text()


@pytest.fixture
def dns():
    with ScriptedDNS() as server:
        server.set("a.test", "A", "127.0.0.1")
        yield server


@pytest.fixture
def site(httpd, dns, workdir, request):
    """A domain that is not renewed by itself, with vhosts on both ports."""
    with ScriptedCA(workdir / "ca", authz_polls=1, order_polls=1) as ca:
        httpd.ca, httpd.dns = ca, dns
        httpd.use_ca(ca)
        httpd.ports = {"http": httpd.http_port, "https": httpd.https_port}
        httpd.add_vhost("a.test", extra="Protocols http/1.1 acme-tls/1")
        httpd.add_vhost("a.test", ssl=False)
        yield httpd
        if getattr(request.node, "failed", False):
            print("\n==== CA\n" + ca.log(), "==== questions", *dns.asked[-40:], sep="\n")


def start(site, conf="MDCAChallenges http-01", mode="manual"):
    site.add_md_conf(f"MDPrivateKeys P-256\nMDRetryDelay 1s\nMDRenewMode {mode}\nMDDnsResolver {site.dns.resolver}\n"
                     f"MDCheckPorts http:{site.ports['http']} https:{site.ports['https']}\n{conf}\nMDomain a.test")
    site.start()
    return site


def check(site):
    """The hints that `a2md check` prints. The server has them in its log, and takes back what it set up."""
    done = run(TOOL, "-d", site.store, "check", "a.test")
    assert done.returncode == 0, done.stderr
    print(done.stderr)
    hints = [line.split("a.test: ", 1)[1] for line in done.stderr.splitlines()
             if "a.test: " in line and "nothing was found" not in line]
    assert ("nothing was found that would keep its CA" in done.stderr) == (not hints)
    for hint in hints:
        assert hint in site.error_log()
    assert not list(site.store.glob("challenges/*/*"))
    return hints


def the_hint(site, pattern):
    """The only one; the docs have its words."""
    hints = check(site)
    assert len(hints) == 1 and re.search(pattern, hints[0]), hints
    return hints[0]


class Server:
    """Another server, which does what `answer(handler)` says."""

    def __init__(self, answer, address="127.0.0.1", port=None, context=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *args):
                pass

        class Any(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True

            def handle_error(self, *args):
                pass
        self.server = Any((address, port or free_ports(1)[0]), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()


def reply(handler, status=200, body=b"hello\n", **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
def test_all_is_well(site, kind):
    start(site, f"MDCAChallenges {kind}")
    assert check(site) == []
    assert {asked[2] for asked in site.dns.asked} == {"A", "AAAA", "CAA"}


def test_port_80_is_closed(site):
    site.ports["http"] = free_ports(1)[0]
    the_hint(start(site), rf"^nobody answers at 127\.0\.0\.1:{site.ports['http']}: .*Connection refused.*firewall.*Listen")


def test_another_server_answers(site):
    with Server(lambda h: reply(h, 404)) as other:
        site.ports["http"] = other.port
        the_hint(start(site), r"^another server answers at 127\.0\.0\.1: http://a\.test:.* gives the status 404, Server: "
                              r"BaseHTTP.*See that the address in the DNS is that of this server")


def test_redirects_do_not_end(site):
    with Server(lambda h: reply(h, 302, Location=h.path + "x")) as other:
        site.ports["http"] = other.port
        the_hint(start(site), r"^redirects do not end: after 10 of them, 127\.0\.0\.1 redirects to .*Exempt")


def test_a_redirect_to_https_is_followed(site):
    """Whatever certificate there is, as a CA does."""
    def answer(h):
        reply(h, 301, Location=f"https://a.test:{site.https_port}{h.path}")
    with Server(answer) as other:
        site.ports["http"] = other.port
        assert check(start(site)) == []


def test_another_host_name(site):
    """A proxy in front of this server passes the request on to the wrong vhost."""
    def answer(h):
        conn = http.client.HTTPConnection("127.0.0.1", site.http_port)
        conn.request("GET", h.path, headers={"Host": "backend.test"})
        got = conn.getresponse()
        reply(h, got.status, got.read())
    with Server(answer) as proxy:
        site.ports["http"] = proxy.port
        the_hint(start(site), r"arrived at 127\.0\.0\.1 as one for another host\. .*ProxyPreserveHost On")


def test_aaaa_of_another_machine(site):
    site.dns.set("a.test", "AAAA", "::1")
    with Server(lambda h: reply(h), "::1", site.http_port):
        the_hint(start(site), r"^another server answers at ::1: .*gives the status 200.*CAs prefer IPv6: correct or remove "
                              r"the AAAA record")


def test_no_address(site):
    site.dns.records = {("a.test", "TXT"): ["x"]}
    the_hint(start(site), r"^this name has no address in the DNS\. Add A or AAAA records")


def test_no_such_name(site):
    site.dns.records = {("b.test", "A"): ["127.0.0.1"]}
    the_hint(start(site), r"^this name does not exist in the DNS \(NXDOMAIN\)\. Add A or AAAA")


def test_no_resolver(site):
    site.dns.modes["127.0.0.1"] = "servfail"
    hints = check(start(site))
    assert len(hints) == 2 and all("SERVFAIL" in hint for hint in hints), hints


@pytest.mark.parametrize("place, value, why", [
    ("a.test", "other.test", "only others may issue, such as other.test"),
    ("test", ";", "nobody may issue"),
    ("a.test", "ca.test; validationmethods=dns-01", "only the challenge types dns-01 count, and not http-01")])
def test_caa_forbids(site, place, value, why):
    site.ca.caa_identities = ["ca.test"]
    site.dns.set(place, "CAA", (0, "issue", value))
    hint = the_hint(start(site), rf"^the CAA records of {place} forbid the CA {site.ca.directory_url} to issue: ")
    assert why in hint and 'Add a CAA record for this CA (issue "ca.test")' in hint


def test_caa_allows(site):
    site.ca.caa_identities = ["ca.test"]
    site.dns.set("a.test", "CNAME", "b.test")
    site.dns.set("b.test", "A", "127.0.0.1")
    site.dns.set("b.test", "CAA", (0, "issue", "ca.test"))
    site.dns.set("test", "CAA", (0, "issue", ";"))  # it is not climbed to
    assert check(start(site)) == []


def test_alpn_is_not_offered(site, workdir):
    cert, key = make_pair(workdir, "other", "DNS:a.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with Server(reply, context=context) as other:
        site.ports["https"] = other.port
        the_hint(start(site, "MDCAChallenges tls-alpn-01"),
                 rf"^the server at 127\.0\.0\.1:{other.port} does not offer the protocol acme-tls/1.*Protocols h2 http/1\.1")


def test_another_certificate(site, workdir):
    cert, key = make_pair(workdir, "other", "DNS:a.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["acme-tls/1"])
    with Server(reply, context=context) as other:
        site.ports["https"] = other.port
        the_hint(start(site, "MDCAChallenges tls-alpn-01"), r"its certificate is not the answer that is set up here")


def test_after_a_failure(site):
    """By itself, before the next attempt, which is made all the same; it is in the record until that succeeds."""
    site.md_conf = [line.replace("MDPreflight off", "") for line in site.md_conf]
    site.ports["http"] = free_ports(1)[0]
    site.ca.script("challenge", invalid("connection"))
    start(site, mode="auto")
    job = site.await_error("a.test", 2)
    assert any("nobody answers at" in hint for hint in job["hints"]), job
    status = json.loads(site.get("/md-status/a.test", "a.test", https=False)[2])
    assert "nobody answers at" in json.dumps(status["renewal"]["hints"])
    page = site.get("/md-status/a.test", "a.test", headers={"Accept": "text/html"})[2]
    assert "<dt>Hint</dt>" in page
    site.ca.calm()
    site.await_md("a.test")
    job = site.store_json("staging", "a.test", "job.json")
    assert "hints" not in job
    assert [entry for entry in job["log"]["entries"] if entry["type"] == "hint"]
    assert "nobody answers at" in site.error_log()


def test_before_each_order(site):
    site.md_conf = [line.replace("MDPreflight off", "MDPreflight on") for line in site.md_conf]
    site.ports["http"] = free_ports(1)[0]
    start(site, mode="auto")
    site.await_md("a.test")
    assert site.error_log().count("nobody answers at") == 1


def test_a_stop_does_not_wait_for_it(site):
    reached = threading.Event()

    def answer(h):
        reached.set()
        time.sleep(60)
    with Server(answer) as silent:
        site.ports["http"] = silent.port
        start(site)
        assert run(TOOL, "-d", site.store, "check", "-n", "a.test").returncode == 0
        assert reached.wait(20)
        began = time.monotonic()
        site.stop()
        assert time.monotonic() - began < 3 * SLOW
