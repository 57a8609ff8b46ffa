# SPDX-License-Identifier: Apache-2.0
"""What `httpd -t` tells of mistakes that show only when domains and servers are put together."""
import re

import pytest

from servers import READY, make_server_cert, wait_for


def domain(httpd, name, settings="", aliases=(), ssl=True):
    httpd.add_md_conf(f"<MDomain {name}>\n{settings}\n</MDomain>")
    httpd.add_vhost(name, aliases, ssl)


def test_mistakes_that_harm_one_domain(httpd):
    """All of them are told, and a start would succeed."""
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
        "md.types.test.: MDCAChallenges 'htpp-01 later-99' has no challenge type that is known",
    ]
    assert len(told) == len(expected), done.stderr
    for pattern in expected:
        assert [line for line in told if re.match(pattern, line)], (pattern, done.stderr)
    assert not httpd.store.exists()


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
    cert, key = make_server_cert(httpd.dir)
    httpd.add_md_conf("MDInitialDelay 1h\nMDomain a.test manual\nMDomain b.test manual")
    httpd.add_md_conf(f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}")
    httpd.vhosts.append(conf.format(engine))
    done = httpd.configtest()
    found = "AH10042: conflict: 2 MDs match to SSL VirtualHost a.test" in done.stderr
    assert found == is_conflict == (done.returncode != 0), done.stderr
    assert not httpd.store.exists()
    httpd.start(expect_success=False)
    httpd.wait_log("AH10042: conflict: 2 MDs" if is_conflict else READY)
    wait_for(lambda: httpd.is_running() != is_conflict, what="what a start comes to")


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
