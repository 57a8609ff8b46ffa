# SPDX-License-Identifier: Apache-2.0
"""MDChallengeDns01Check: TXT records are looked for at the name servers of their zone before the CA is told, and whatever
these servers do, the CA is asked in the end."""
import os
import re
import time

import pytest

from scripted_ca import ScriptedCA
from scripted_dns import ScriptedDNS
from servers import wait_for
from test_dns01 import Zone

SLOW = 3 if os.environ.get("MD_SLOW") else 1
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def dns():
    with ScriptedDNS((FIRST, SECOND)) as server:
        server.zone("a.test", FIRST, SECOND)
        yield server
        print("\n==== questions", *server.asked[-60:], sep="\n")


@pytest.fixture
def zone(workdir, httpd, dns, request):
    """What the command sets up is what all name servers have, at once."""
    with ScriptedCA(workdir / "ca", authz_polls=1, order_polls=1) as ca:
        httpd.ca = ca
        httpd.use_ca(ca)
        made = Zone(workdir / "dns")
        httpd.add_md_conf(f"MDPrivateKeys P-256\nMDRetryDelay 1s\nMDCAChallenges dns-01\nMDDnsResolver {dns.resolver}\n"
                          f"MDCheckPorts dns:{dns.port}\nMDChallengeDns01 {made.command} x\nMDChallengeDns01Version 2")
        dns.lookup = lambda address, name, kind: found(made, name, kind)
        yield made
        if getattr(request.node, "failed", False):
            print("\n==== CA\n" + ca.log())


def found(zone, name, kind):
    """The values that are set up for a name."""
    if kind != "TXT" or not name.startswith("_acme-challenge."):
        return None
    return [value.split()[1] for value in zone.values() if value.split()[0] == name[len("_acme-challenge."):]]


def run(httpd, check="on", name="*.a.test"):
    """A renewal; how long it took, and the hints in the record."""
    httpd.add_md_conf(f"MDChallengeDns01Check {check}\nMDomain {name} {name.replace('*.', '')}")
    httpd.add_vhost(name.replace("*", "w"))
    began = time.monotonic()
    httpd.start()
    httpd.await_md(name)
    took = time.monotonic() - began
    entries = httpd.store_json("staging", name, "job.json")["log"]["entries"]
    return took, [entry["detail"] for entry in entries if entry["type"] == "hint"]


def asked_at(dns, address):
    return [asked for asked in dns.asked if asked[0] == address and asked[2] == "TXT" and not asked[3]]


def test_all_name_servers_are_asked(httpd, zone, dns):
    _, hints = run(httpd)
    assert not hints and not httpd.problems()
    assert asked_at(dns, FIRST) and asked_at(dns, SECOND)
    assert not [asked for asked in dns.asked if asked[2] == "TXT" and asked[3]]  # no resolver: it would remember
    zone.wait_empty(httpd)


def test_off(httpd, zone, dns):
    _, hints = run(httpd, "off")
    assert not hints and not dns.asked


def test_a_server_that_is_behind(httpd, zone, dns):
    """The CA is told when the last one has the record."""
    since = []

    def lookup(address, name, kind):
        values = found(zone, name, kind)
        if address != SECOND or not values:
            return values
        since.append(time.monotonic())
        return values if time.monotonic() - since[0] > 3 else []
    dns.lookup = lookup
    took, hints = run(httpd)
    assert took > 3 and not hints and not httpd.problems()
    assert [line for line in httpd.ca.log().splitlines() if "challenge" in line]


def test_a_record_that_is_missing(httpd, zone, dns):
    """It is told with server, name and value, and what to do; then the CA is asked."""
    dns.lookup = lambda address, name, kind: found(zone, name, kind) if address != SECOND else None
    took, hints = run(httpd, "2s")
    assert 2 < took < 15 * SLOW and len(hints) == 2
    for hint in hints:
        assert re.match(rf'a\.test: the name server {SECOND} of the zone a\.test does not have the record '
                        rf'_acme-challenge\.a\.test TXT "\S{{43}}"\. The CA is asked all the same\. See that ', hint)
    assert len(re.findall(r"\[md:warn\].*does not have the record", httpd.error_log())) == 2


@pytest.mark.parametrize("values", [["b.test"], ["x.c.test", "_acme-challenge.b.test"]])
def test_aliases_are_followed(httpd, zone, dns, values):
    """The record is in another zone, at the end of CNAME records."""
    dns.zone("b.test", SECOND)
    dns.zone("c.test", SECOND)
    name = "_acme-challenge.a.test"
    for value in values:
        dns.set(name, "CNAME", value)
        name = value
    inner = zone
    dns.lookup = lambda address, asked, kind: found(inner, "_acme-challenge.a.test", kind) if asked == name else None
    _, hints = run(httpd)
    assert not hints and not httpd.problems()
    assert {asked[1] for asked in asked_at(dns, SECOND)} == {name} and not asked_at(dns, FIRST)


@pytest.mark.parametrize("mode", ["silent", "refused", "servfail", "lame", "garbage"])
def test_one_bad_server_does_not_matter(httpd, zone, dns, mode):
    dns.modes[SECOND] = mode
    if mode == "lame":
        dns.lookup = lambda address, name, kind: found(zone, name, kind) if address != SECOND else None
    took, hints = run(httpd)
    assert took < 20 * SLOW and not hints and not httpd.problems()


@pytest.mark.parametrize("mode", ["truncated", "huge"])
def test_large_answers(httpd, zone, dns, mode):
    """By TCP; what is beyond all reason counts as no answer."""
    dns.modes[FIRST] = mode
    _, hints = run(httpd)
    assert not hints and not httpd.problems()
    assert [asked for asked in dns.asked if asked[0] == FIRST and asked[4]]


@pytest.mark.parametrize("mode", ["silent", "refused", "garbage"])
def test_no_server_answers(httpd, zone, dns, mode):
    """Behind a firewall: the CA is asked all the same, after two rounds."""
    dns.modes[FIRST] = dns.modes[SECOND] = mode
    took, hints = run(httpd)
    assert took < 30 * SLOW and len(hints) == 2
    assert all("no name server of the zone a.test answers; 127.0.0." in hint and "MDDnsResolver" in hint for hint in hints)
    assert not httpd.problems()  # no news in each renewal


@pytest.mark.parametrize("case", ["no zone", "circle", "no resolver", "no address"])
def test_what_cannot_be_checked(httpd, zone, dns, case):
    expected = "the domain b.test does not exist (NXDOMAIN)"
    if case == "circle":
        dns.set("_acme-challenge.b.test", "CNAME", "x.b.test")
        dns.set("x.b.test", "CNAME", "_acme-challenge.b.test")
        expected = "and on and on"
    if case == "no resolver":
        dns.modes[("127.0.0.1", True)] = "silent"
        expected = "there was no answer"
    if case == "no address":
        dns.set("b.test", "NS", "ns.c.test")
        expected = "have no address"
    dns.zone("test", FIRST)
    took, hints = run(httpd, name="*.b.test")
    assert took < 20 * SLOW and len(hints) == 2 and all(expected in hint for hint in hints), hints
    assert not httpd.problems()


def test_a_stop_does_not_wait_for_it(httpd, zone, dns):
    dns.modes[FIRST] = dns.modes[SECOND] = "silent"
    httpd.add_md_conf("MDomain *.a.test")
    httpd.add_vhost("w.a.test")
    httpd.start()
    wait_for(lambda: asked_at(dns, FIRST), what="a question")
    began = time.monotonic()
    httpd.stop()
    assert time.monotonic() - began < 3 * SLOW
