# SPDX-License-Identifier: Apache-2.0
"""Vhosts for any address and for several ports, by IPv6, with client certificates: challenges are answered, or it is said
beforehand why they cannot be."""
import re

import pytest

from ports import free_ports
from servers import READY, make_pair

ACME_TLS = "Protocols http/1.1 acme-tls/1"
NO_HTTP = "MDPortMap http:-"


def write(httpd, vhosts, md="", name="a.test"):
    """HTTP and HTTPS in the text are the ports of the server, OTHER is one on which nobody listens."""
    text = f"MDRetryDelay 1s\nMDPrivateKeys P-256\n{md}\nMDomain {name}\n{vhosts}"
    cert, key = make_pair(httpd.dir, "other.test", "DNS:other.test")
    for word, value in (("HTTPS", httpd.https_port), ("HTTP", httpd.http_port), ("OTHER", free_ports(1)[0]),
                        ("PAIR", f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}")):
        text = re.sub(rf"\b{word}\b", str(value), text)
    httpd.add_md_conf(text)


def vhost(addresses, settings="", name="a.test"):
    return f"<VirtualHost {addresses}>\nServerName {name}\n{settings}\n</VirtualHost>\n"


def tls(addresses, settings="", name="a.test"):
    return vhost(addresses, f"SSLEngine on\n{settings}", name)


PLAIN = vhost("*:HTTP", name="other.test")

WORKS = {  # settings of the domain, vhosts -> the type of challenge that the CA sees
    "any address": (NO_HTTP, tls("*", ACME_TLS), "tls-alpn-01"),
    "any address and port": (NO_HTTP, tls("*:*", ACME_TLS), "tls-alpn-01"),
    "an address at any port": (NO_HTTP, tls("127.0.0.1", ACME_TLS), "tls-alpn-01"),
    "two ports": (NO_HTTP, tls("*:HTTPS *:OTHER", ACME_TLS), "tls-alpn-01"),
    "two ports, the other one first": (NO_HTTP, tls("*:OTHER *:HTTPS", ACME_TLS), "tls-alpn-01"),
    "tls-alpn-01 by ways unknown": ("MDCAChallenges tls-alpn-01\nMDPortMap https:-", tls("*:HTTPS", ACME_TLS), "tls-alpn-01"),
    "tls-alpn-01 at any address": ("MDCAChallenges tls-alpn-01\nMDPortMap https:-", tls("*", ACME_TLS), "tls-alpn-01"),
    "default": (NO_HTTP, tls("_default_:HTTPS", ACME_TLS), "tls-alpn-01"),
    "IPv4 and IPv6": (NO_HTTP, tls("[::1]:HTTPS 127.0.0.1:HTTPS", ACME_TLS), "tls-alpn-01"),
    "TLS at both ports": ("", tls("*:HTTPS *:HTTP", ACME_TLS), "tls-alpn-01"),
    "TLS everywhere": ("", tls("*", ACME_TLS), "tls-alpn-01"),
    "TLS at both ports, by choice": ("MDCAChallenges http-01 tls-alpn-01", tls("*:HTTPS *:HTTP", ACME_TLS),
                                     "tls-alpn-01"),
    "TLS everywhere but at port 80": ("", vhost("*:HTTP") + tls("*", ACME_TLS), "http-01"),
    "TLS at both ports, after a plain vhost": ("", PLAIN + tls("*:HTTPS *:HTTP", ACME_TLS), "http-01"),
    "TLS at both ports of another address": ("", tls("127.0.0.9:HTTPS 127.0.0.9:HTTP", "PAIR", "other.test")
                                             + tls("127.0.0.1:HTTPS", ACME_TLS), "http-01"),
    "no vhost at port 80": ("", tls("*:HTTPS"), "http-01"),
    "client certificates": (NO_HTTP, tls("*:HTTPS", f"{ACME_TLS}\nSSLVerifyClient require"), "tls-alpn-01"),
    "client certificates, http-01": ("", tls("*:HTTPS", "SSLVerifyClient require"), "http-01"),
    "certificates besides, http-01": ("", tls("*:HTTPS", "PAIR"), "http-01"),
}


@pytest.mark.parametrize("layout", WORKS)
def test_layouts_that_work(env, layout):
    """At the first attempt, and nothing is said of them."""
    md, vhosts, kind = WORKS[layout]
    write(env, vhosts, md)
    done = env.configtest()
    assert done.returncode == 0 and not re.search(r"\[md:(warn|error)\]", done.stderr), done.stderr
    env.start()
    env.wait_log("AH10059|AH10056")
    assert not env.problems()
    assert (env.ca.count(r"Attempting to validate w/ HTTP") > 0) == (kind == "http-01")


@pytest.mark.parametrize("md, vhosts", [
    (f"{NO_HTTP}\nListen [::1]:HTTPS", tls("[::1]:HTTPS", ACME_TLS)),
    ("Listen [::1]:HTTP\nMDPortMap https:-", vhost("[::1]:HTTP") + tls("[::1]:HTTPS")),
])
def test_ipv6(env, md, vhosts):
    """The CA comes by IPv6, to a vhost for that address."""
    write(env, vhosts, md)
    env.ca.dns_set("set-default-ipv4", ip="")
    env.ca.dns_set("set-default-ipv6", ip="::1")
    env.start()
    env.wait_log("AH10059|AH10056")
    assert not env.problems()


REASONS = {
    "TLS": r"connections to port 80 \(local port \d+\) are TLS, as the vhost at \S+:\d+ has 'SSLEngine on' there, too",
    "main TLS": r"connections to port 80 \(local port \d+\) are TLS, as the main server has 'SSLEngine on' there",
    "no acme-tls/1": r"the vhost at \S+:\d+ does not speak the protocol 'acme-tls/1': add 'Protocols h2 http/1.1 acme-tls/1'",
    "main without acme-tls/1": "the main server does not speak the protocol 'acme-tls/1'",
    "plain": r"no https vhost of the domain gets TLS connections: the vhost at \S+:\d+, the first at its address, lacks",
    "other port": r"no https vhost of the domain is on port 443 \(local port \d+\)",
    "no https": "the domain has no https vhost",
    "no port 80": "not to be reachable on public port 80: add 'Listen 80'",
}
NEVER = {  # settings of the domain, vhosts -> why http-01 and tls-alpn-01 cannot be answered
    "TLS at both ports": ("", tls("*:HTTPS *:HTTP"), {"TLS", "no acme-tls/1"}),
    "TLS everywhere": ("", tls("*"), {"TLS", "no acme-tls/1"}),
    "TLS at port 80 of all others": ("", tls("*:HTTP", "PAIR", "other.test") + tls("*:HTTPS"), {"TLS", "no acme-tls/1"}),
    "TLS of the main server": ("MDBaseServer on\nSSLEngine on", "", {"main TLS", "main without acme-tls/1"}),
    "a plain vhost first": (NO_HTTP, vhost("*:HTTPS", name="other.test") + tls("*:HTTPS", ACME_TLS),
                            {"no port 80", "plain"}),
    "not at the port": (NO_HTTP, tls("*:OTHER", ACME_TLS), {"no port 80", "other port"}),
    "not by acme-tls/1": (NO_HTTP, tls("*:HTTPS"), {"no port 80", "no acme-tls/1"}),
    "not by TLS": (NO_HTTP, vhost("*:HTTP"), {"no port 80", "no https"}),
    "http-01 alone": ("MDCAChallenges http-01", tls("*:HTTPS *:HTTP", ACME_TLS), {"TLS"}),
    "tls-alpn-01 alone, a plain vhost first": ("MDCAChallenges tls-alpn-01", vhost("*:HTTPS", name="other.test")
                                               + tls("*:HTTPS", ACME_TLS), {"plain"}),
    "tls-alpn-01 alone": ("MDCAChallenges tls-alpn-01", tls("*:HTTPS"), {"no acme-tls/1"}),
}


@pytest.mark.parametrize("layout", NEVER)
def test_layouts_that_cannot_work(env, layout):
    """It is said beforehand, and when the attempt fails, with the reasons that decide and no other."""
    md, vhosts, reasons = NEVER[layout]
    name = "base.test" if "MDBaseServer" in md else "a.test"
    write(env, vhosts, md, name)
    done = env.configtest()
    assert done.returncode == 0, done.stderr
    env.start()
    detail = env.await_error(name)["last"]["detail"]
    start = env.error_log().split(READY)[0]
    for text in done.stderr, start, detail:
        assert {r for r, pattern in REASONS.items() if re.search(pattern, text)} == reasons, text
    for text in done.stderr, start:
        told = [line for line in text.splitlines() if re.search(r"\[md:(warn|error)\]", line) and f"md[{name}]" in line
                and "cannot" not in line and "no https vhost uses it" not in line]
        assert len(told) == 1 and "None of the ACME challenge methods configured for this domain are suitable" in told[0]
