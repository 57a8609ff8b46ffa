# SPDX-License-Identifier: Apache-2.0
"""What `httpd -t` tells of mistakes that show only when domains and servers are put together."""
import re

import pytest

from ports import free_ports
from servers import READY, make_server_cert, wait_for


def domain(httpd, name, settings="", aliases=(), ssl=True):
    httpd.add_md_conf(f"<MDomain {name}>\n{settings}\n</MDomain>")
    httpd.add_vhost(name, aliases, ssl)


def test_mistakes_that_harm_one_domain(httpd):
    """All of them are told, and a start would succeed."""
    httpd.add_md_conf("MDContactEmail admin@example.org")
    httpd.log_level = "info"
    httpd.add_md_conf("MDomain nowhere.test")
    domain(httpd, "plain.test", "MDRequireHttps temporary", ssl=False)
    domain(httpd, "names.test", "MDMember manual", ["more.test"])
    domain(httpd, "key.test", "MDPrivateKeys X25519")
    domain(httpd, "files.test", "MDCertificateFile no.pem\nMDCertificateKeyFile no.key")
    domain(httpd, "roots.test", "MDCACertificateFile /no/roots.pem")
    domain(httpd, "proxy.test", "MDHttpProxyCACertificateFile /no/proxy.pem\n"
           "MDHttpProxy https://127.0.0.1:1")
    domain(httpd, "unused.test", "MDHttpProxyCACertificateFile /no/proxy.pem\nMDHttpProxy http://127.0.0.1:1")
    domain(httpd, "plain-ca.test", "MDCertificateAuthority http://127.0.0.1:1/dir\n"
           "MDCACertificateFile /no/roots.pem")
    domain(httpd, "types.test", "MDCAChallenges htpp-01 later-99")
    domain(httpd, "good.test", "MDCAChallenges later-99 HTTP-01\nMDCACertificateFile none")
    done = httpd.configtest()
    assert done.returncode == 0 and "Syntax OK" in done.stderr, done.stderr
    told = [line.split("] ", 3)[-1] for line in done.stderr.splitlines() if "[md:" in line]
    expected = [
        "AH10040: Virtual Host names.test:.* the name/alias more.test itself is not managed",
        "AH10045: No VirtualHost matches Managed Domain nowhere.test",
        "AH10105: MD plain.test does not match any VirtualHost with 'SSLEngine on'",
        "AH10173: md.key.test.: MDPrivateKeys: keys of type 'X25519' cannot sign",
        "AH10173: md.proxy.test.: MDHttpProxyCACertificateFile /no/proxy.pem cannot be read: No such",
        "AH10173: md.roots.test.: MDCACertificateFile /no/roots.pem cannot be read: No such file",
        ".*md.files.test.: MDCertificateFile .*no.pem cannot be read",
        "md.types.test.: MDCAChallenges 'htpp-01 later-99' names no known challenge type",
        "md.plain.test.: a certificate will be obtained, but no https vhost uses it: the vhost at .* is for http",
        "md.plain-ca.test.: MDCertificateAuthority http://127.0.0.1:1/dir: ACME requires https:",
    ]
    assert len(told) == len(expected), done.stderr
    for pattern in expected:
        assert [line for line in told if re.match(pattern, line)], (pattern, done.stderr)
    assert not httpd.store.exists()


def test_all_fatal_mistakes_are_told(httpd):
    """And those that harm one domain only, with nothing that follows from the others."""
    httpd.add_md_conf("MDContactEmail admin@example.org")
    httpd.log_level = "info"
    httpd.add_md_conf("MDomain nowhere.test")
    domain(httpd, "pair1.test", "MDCertificateFile no.pem")
    domain(httpd, "pair2.test", "MDCertificateFile no.pem\nMDCertificateFile no.pem\nMDCertificateKeyFile no.key")
    domain(httpd, "pair3.test", "MDCertificateKeyFile no.key")
    domain(httpd, "one.test", "MDRequireHttps temporary")
    domain(httpd, "two.test", "MDRequireHttps temporary", ["one.test"])
    domain(httpd, "three.test", "", ["one.test"])
    domain(httpd, "proto1.test", "MDCertificateProtocol other")
    domain(httpd, "proto2.test", "MDCertificateProtocol another")
    domain(httpd, "files.test", "MDCertificateFile no.pem\nMDCertificateKeyFile no.key")
    domain(httpd, "types.test", "MDCAChallenges later-99")
    done = httpd.configtest()
    assert done.returncode != 0 and "AH00014: Configuration check failed" in done.stderr, done.stderr
    assert "70023" not in done.stderr
    told = [line.split("] ", 3)[-1] for line in done.stderr.splitlines() if "[md:" in line]
    expected = [
        "AH10170: The Managed Domain 'pair1.test'", "AH10170: The Managed Domain 'pair2.test'",
        "AH10171: The Managed Domain 'pair3.test'",
        "AH10042: conflict: 2 MDs match to SSL VirtualHost three.test",
        "AH10042: conflict: 2 MDs match to SSL VirtualHost two.test",
        "AH10045: No VirtualHost matches Managed Domain nowhere.test",
        "AH10172: md.proto1.test.: .* 'other' is not known",
        "AH10172: md.proto2.test.: .* 'another' is not known",
        "md.types.test.: MDCAChallenges 'later-99' names no known challenge type",
        ".*md.pair2.test.: MDCertificateFile .*no.pem cannot be read",
        ".*md.files.test.: MDCertificateFile .*no.pem cannot be read",
    ]
    assert len(told) == len(expected), done.stderr
    for pattern, line in zip(expected, told):
        assert re.match(pattern, line), (pattern, done.stderr)


def test_an_overlap_ends_the_test(httpd):
    """What is told of names after it could be wrong."""
    httpd.log_level = "info"
    httpd.add_md_conf("MDomain a.test\nMDomain a.test\n<MDomain pair.test>\nMDCertificateFile no.pem\n</MDomain>")
    done = httpd.configtest()
    assert done.returncode != 0 and "AH00014" in done.stderr, done.stderr
    assert re.findall(r"AH10\d+", done.stderr) == ["AH10170", "AH10038"], done.stderr


MACRO = "<Macro Site $name>\n<VirtualHost *:99>\nServerName $name\nServerAlias b.test\nSSLEngine {}\n" \
        "</VirtualHost>\n</Macro>\nUse Site plain.test\nUse Site a.test"


@pytest.mark.parametrize("conf, is_conflict", [
    ("<VirtualHost *:99>\nServerName a.test\nServerAlias b.test\nSSLEngine {}\n</VirtualHost>", True),
    ("<VirtualHost *:99>\nServerName a.test\nServerAlias b.test\n</VirtualHost>", False),
    ("<VirtualHost *:99>\nServerName a.test\nServerAlias b.test\n</VirtualHost>\nSSLEngine {}", True),
    ("SSLEngine {}\n<VirtualHost *:99>\nServerName a.test\nServerAlias b.test\nSSLEngine off\n"
     "</VirtualHost>", False),
    ("<IfModule ssl_module>\n<VirtualHost *:99>\nServerName a.test\nServerAlias b.test\n"
     "<IfModule ssl_module>\nSSLEngine {}\n</IfModule>\n</VirtualHost>\n</IfModule>", True),
    ("<VirtualHost *:99>\nServerName a.test\nServerAlias b.test\n</VirtualHost>\n<VirtualHost *:99>\n"
     "ServerName c.test\nSSLEngine {}\n</VirtualHost>", False),
    (MACRO, True),
])
@pytest.mark.parametrize("engine", ["on", '"On"'])
def test_tls_servers_are_known(httpd, conf, is_conflict, engine):
    """Two domains on one vhost are a mistake with TLS only: as a start sees it."""
    httpd.MODULES += ("macro",)
    check_conflict(httpd, conf.format(engine), is_conflict)


def check_conflict(httpd, conf, is_conflict, certs="CERT"):
    """Do -t and a start find two domains on the TLS vhost a.test, or neither of them?"""
    cert, key = make_server_cert(httpd.dir)
    pair = f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}"
    httpd.add_md_conf("MDInitialDelay 1h\nMDomain a.test manual\nMDomain b.test manual")
    httpd.vhosts.append("\n".join([certs, conf]).replace("CERT", pair))
    done = httpd.configtest()
    found = "AH10042: conflict: 2 MDs match to SSL VirtualHost a.test" in done.stderr
    assert found == is_conflict == (done.returncode != 0), done.stderr
    assert not httpd.store.exists()
    httpd.start(expect_success=False)
    httpd.wait_log("AH10042: conflict: 2 MDs" if is_conflict else READY)
    wait_for(lambda: httpd.is_running() != is_conflict, what="what a start comes to")


def vhost(addresses, settings="", name="a.test"):
    return f"<VirtualHost {addresses}>\nServerName {name}\nServerAlias b.test\n{settings}\n</VirtualHost>"


@pytest.mark.parametrize("engine", ["optional", "Optional", "off"])
def test_only_on_is_tls(httpd, engine):
    check_conflict(httpd, f"SSLEngine on\n{vhost('*:99', f'SSLEngine {engine}')}", False)


@pytest.mark.parametrize("include", ["Include", "IncludeOptional"])
@pytest.mark.parametrize("engines, is_conflict", [
    (("on", "off", "off"), True), (("off", "on", "off"), False), (("off", "on", "on"), False),
    (("off", "off", "off"), False), (("on", "on", "on"), True)])
def test_one_file_for_many_vhosts(httpd, include, engines, is_conflict):
    """They are defined at the same place: only their order tells them apart."""
    template = httpd.dir / "template.conf"
    template.write_text(vhost("*:99", "SSLEngine ${E}", "${N}"))
    names = "a.test", "plain.test", "last.test"
    check_conflict(httpd, "\n".join(f"Define N {name}\nDefine E {engine}\n{include} {template}"
                                    for name, engine in zip(names, engines)), is_conflict)


def test_the_first_vhost_is_the_last_of_httpd(httpd):
    """As above among vhosts that are written otherwise."""
    template = httpd.dir / "template.conf"
    template.write_text(vhost("*:99", "SSLEngine ${E}", "${N}"))
    check_conflict(httpd, f"""{vhost("*:99", "SSLEngine on", "one.test")}
        Define N plain.test
        Define E on
        Include {template}
        {vhost("*:99", "SSLEngine on", "two.test")}
        Define N a.test
        Define E off
        Include {template}
        {vhost("*:99", "SSLEngine on", "three.test")}""", False)


HTTPS = "Listen 127.0.0.1:PORT https"
BOTH = "Listen 127.0.0.2:PORT http\nListen 127.0.0.1:PORT https"


@pytest.mark.parametrize("conf, is_conflict", [
    (f"{HTTPS}\n{vhost('127.0.0.1:PORT')}", True),
    (f"Listen 127.0.0.1:PORT HTTPS\n{vhost('127.0.0.1:PORT')}", True),
    (f"Listen 127.0.0.1:PORT\n{vhost('127.0.0.1:PORT')}", False),
    (f"Listen PORT https\n{vhost('*:PORT')}", True),
    (f"Listen 0.0.0.0:PORT https\n{vhost('0.0.0.0:PORT')}", True),
    (f"Listen PORT https\n{vhost('127.0.0.1:PORT')}", False),
    (f"{HTTPS}\n{vhost('*:PORT')}", False),
    (f"{HTTPS}\n{vhost('127.0.0.1')}", False),
    (f"{HTTPS}\n{vhost('127.0.0.1:*')}", False),
    (f"{HTTPS}\n{vhost('127.0.0.1:99 127.0.0.1:PORT')}", True),
    (f"{BOTH}\n{vhost('127.0.0.1:PORT 127.0.0.2:PORT')}", True),
    (f"{BOTH}\n{vhost('127.0.0.2:PORT 127.0.0.1:PORT')}", False),
    (f"{HTTPS}\n{vhost('127.0.0.1:PORT', 'SSLEngine off')}", False),
    (f"{HTTPS}\nSSLEngine off\n{vhost('127.0.0.1:PORT')}", False),
    (f"{HTTPS}\n{vhost('127.0.0.1:PORT', 'Protocol http')}", False),
    (f"{HTTPS}\nProtocol http\n{vhost('127.0.0.1:PORT')}", False),
    (vhost("*:99", "Protocol https"), True),
    (vhost("*:99", "Protocol HTTPS"), True),
    (f"Protocol https\n{vhost('*:99')}", True),
    (vhost("*:99", "Protocol https\nSSLEngine off"), False),
    (vhost("*:99", "Protocol https\nSSLEngine optional"), False),
    (vhost("*:99", "Protocol http\nSSLEngine on"), True),
])
def test_tls_by_protocol(httpd, conf, is_conflict):
    """Where SSLEngine does not tell, mod_ssl serves what is meant for https."""
    check_conflict(httpd, conf.replace("PORT", str(free_ports(1)[0])), is_conflict)


@pytest.mark.parametrize("settings, is_conflict", [("", False), ("CERT", True)])
@pytest.mark.parametrize("conf", [f"{HTTPS}\n{vhost('127.0.0.1:PORT', 'SET')}",
                                  vhost("*:99", "Protocol https\nSET")])
def test_tls_by_protocol_needs_certificates(httpd, conf, settings, is_conflict):
    conf = conf.replace("PORT", str(free_ports(1)[0])).replace("SET", settings)
    check_conflict(httpd, conf, is_conflict, certs="")


def test_a_running_server_is_left_alone(httpd):
    httpd.add_md_conf("MDInitialDelay 1h\nMDomain a.test")
    httpd.add_vhost("a.test")
    httpd.start()
    httpd.wait_log("AH10054")

    def seen():
        return {path: path.lstat().st_mtime_ns for path in [httpd.store, *httpd.store.rglob("*")]}
    before = seen()
    httpd.add_md_conf("MDomain new.test\nMDomain a.test")
    assert "AH10038" in httpd.configtest().stderr
    del httpd.md_conf[-1]
    assert httpd.configtest().returncode == 0
    assert seen() == before and httpd.is_running()
