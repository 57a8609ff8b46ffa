# SPDX-License-Identifier: Apache-2.0
"""Slips of somebody who writes a first configuration: `httpd -t` and a start tell them, and a
configuration that would end the running server is refused."""
import os
import re

import pytest

from ports import free_ports
from servers import READY, make_server_cert, run


def write(httpd, md="MDomain a.test", vhosts="", contact="MDContactEmail admin@example.org"):
    httpd.md_conf = [f"MDInitialDelay 1h\n{contact}\n{md}"]
    port = str(httpd.https_port)
    httpd.vhosts = [vhosts.replace("HTTPS", port).replace("HTTP", str(httpd.http_port))]


TLS = "<VirtualHost *:HTTPS>\nServerName a.test\nSSLEngine on\n</VirtualHost>\n"

FATAL = {
    "no ServerName": ("MDomain a.test", TLS + "<VirtualHost *:HTTPS>\nSSLEngine on\n</VirtualHost>",
                      r"The vhost at .*httpd.conf:\d+ has no ServerName, .*will not start"),
    "a typo": ("MDomain a.test\nMDomain new.tset", TLS + TLS.replace("a.test", "new.test"),
               r"The vhost at .*httpd.conf:\d+ has no certificate and no managed domain; .*Its names are "
               r"new.test; MDomain without a vhost: new.tset"),
    "comma": ("MDomain a.test, b.test", TLS, r"line \d+ of .*'a.test,' is not a DNS name: separate"),
    "port": ("MDomain a.test:443", TLS, r"line \d+ of .*'a.test:443' is not a DNS name: .*without a port"),
    "URL": ("MDomain https://a.test/", TLS, r"line \d+ of .*'https://a.test/' is not a DNS name"),
    "blank": ('MDomain "a.test b.test"', TLS, r"line \d+ of .*'a.test b.test' is not a DNS name"),
    "member": ("<MDomain a.test>\nMDMember b.test,c.test\n</MDomain>", TLS, "'b.test,c.test' is not a DNS"),
    "agreement": ("MDCertificateAgreement no\nMDomain a.test", TLS,
                  r"line \d+ of .*'no' is neither 'accepted' nor a URL"),
    "store below a file": ("MDStoreDir httpd.conf/md\nMDomain a.test", TLS, "AH10046: setup store for .*httpd.conf/md"),
    "CA without scheme": ("MDCertificateAuthority localhost:14000/dir\nMDomain a.test", TLS,
                          r"line \d+ of .*scheme must be http or https"),
}


@pytest.mark.parametrize("slip", FATAL)
def test_a_fatal_slip_ends_no_server(httpd, slip):
    """`apachectl graceful` asks `httpd -t` first, and leaves the running server alone."""
    write(httpd, vhosts=TLS)
    httpd.start()
    httpd.wait_log(READY)
    pid = httpd.pid()
    md, vhosts, told = FATAL[slip]
    write(httpd, md, vhosts)
    done = httpd.configtest()
    assert done.returncode != 0 and re.search(told, done.stderr, re.S), done.stderr
    done = httpd.apachectl("graceful")
    assert done.returncode != 0 and re.search(told, done.stderr, re.S), done.stderr
    assert httpd.error_log().count(READY) == 1
    assert httpd.pid() == pid and httpd.get("/", "base.test")[0] == 200
    write(httpd, vhosts=TLS)
    httpd.write_conf()
    assert httpd.apachectl("graceful").returncode == 0
    httpd.wait_log(READY, count=2)


def test_a_start_tells_the_vhost_without_certificate(httpd):
    write(httpd, *FATAL["a typo"][:2])
    httpd.start(expect_success=False)
    httpd.wait_log(FATAL["a typo"][2])


WARNINGS = {
    "no SSLEngine": ("MDomain a.test", "<VirtualHost *:HTTPS>\nServerName a.test\n</VirtualHost>",
                     r"no https vhost uses it: the vhost at .*:\d+ lacks 'SSLEngine on'"),
    "port 80 only": ("MDomain a.test", "<VirtualHost *:HTTP>\nServerName a.test\n</VirtualHost>",
                     r"no https vhost uses it: the vhost at .*:\d+ is for http alone"),
    "ignored": ("MDomain a.test", TLS.replace("SSLEngine", "MDCertificateAuthority letsencrypt-test\nSSLEngine"),
                r"MDCertificateAuthority at .*httpd.conf:\d+ has no effect inside <VirtualHost>"),
    "http: CA": ("MDCertificateAuthority http://localhost:14000/dir\nMDomain a.test", TLS,
                 "ACME requires https:"),
    "no dns-01": ("MDomain *.a.test", TLS.replace("a.test", "b.a.test"),
                  r"md\[\*\.a\.test\]: no certificate .* the wildcard name \*\.a\.test by the challenge type dns-01 .* set MDChallengeDns01"),
    "not dns-01": ("MDChallengeDns01 /bin/true\nMDCAChallenges http-01\nMDomain *.a.test", TLS.replace("a.test", "b.a.test"),
                   r"md\[\*\.a\.test\]: no certificate .* as MDCAChallenges does not list it"),
    "dns-01 without command": ("MDCAChallenges dns-01\nMDomain a.test", TLS,
                               r"md\[a\.test\]: None of the ACME .*'dns-01' is disabled because .* set MDChallengeDns01"),
    "no port 80": ("MDPortMap http:99\nMDomain a.test", TLS, r"AH10173: .*Listen 80.*MDPortMap"),
    "no roots": ("MDCACertificateFile httpd.conf\nMDomain a.test", TLS, "AH10173: .*MDCACertificateFile .*httpd.conf"),
    "odd name": ("MDomain a.test b_c.test", TLS, "will probably refuse the name 'b_c.test'"),
}


@pytest.mark.parametrize("slip", WARNINGS)
def test_other_slips_are_warnings(httpd, slip):
    md, vhosts, told = WARNINGS[slip]
    write(httpd, md, vhosts)
    done = httpd.configtest()
    assert done.returncode == 0 and re.search(told, done.stderr), done.stderr
    httpd.start()
    httpd.wait_log(told)


@pytest.mark.parametrize("contact, told", [
    ("", "no contact is configured"),
    ("MDContactEmail nobody", "a CA cannot use the contact 'mailto:nobody'"),
    ("ServerAdmin webmaster@localhost", "whose host has no dot"),
])
def test_contacts(httpd, contact, told):
    write(httpd, vhosts=TLS, contact=contact)
    done = httpd.configtest()
    assert done.returncode == 0 and told in done.stderr, done.stderr


def test_nobody_listens(httpd):
    port = free_ports(1)[0]
    write(httpd, f"MDPortMap https:{port}\nMDomain a.test", TLS.replace("HTTPS", str(port)))
    done = httpd.configtest()
    assert done.returncode == 0 and f"nothing listens on port {port}: add 'Listen {port}'" in done.stderr, done.stderr


def test_no_tls_module(httpd):
    httpd.MODULES = tuple(m for m in httpd.MODULES if m != "ssl")
    write(httpd, vhosts="<VirtualHost *:HTTPS>\nServerName a.test\n</VirtualHost>")
    done = httpd.configtest()
    assert done.returncode == 0 and "no https vhost uses it: mod_ssl is missing" in done.stderr, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_file_system_that_is_read_only(httpd):
    """As systemd makes it for the service."""
    write(httpd, vhosts=TLS)
    httpd.write_conf()
    done = run("unshare", "-m", "sh", "-ec", 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"',
               "sh", httpd.dir, httpd.binary(), "-f", httpd.conf, "-t", env=httpd.env())
    told = rf"AH10046: .*set MDStoreDir to .*/var/lib/.*ReadWritePaths={httpd.store}"
    assert done.returncode != 0 and re.search(told, done.stderr, re.S), done.stderr


@pytest.mark.parametrize("text", [
    "{", '{"store": {"version": 9.0}, "key": "x"}', '{"store": {"version": 3.0}, "key": "x"}'])
def test_a_store_that_cannot_be_used(httpd, text):
    write(httpd, vhosts=TLS)
    httpd.store.mkdir()
    (httpd.store / "md_store.json").write_text(text)
    done = httpd.configtest()
    assert done.returncode != 0 and "AH10046" in done.stderr, done.stderr
    assert (httpd.store / "md_store.json").read_text() == text


SOUND = {
    "by name": """<VirtualHost *:HTTP>\nServerName www.a.test\nServerAlias a.test *.a.test\n</VirtualHost>
        <VirtualHost *:HTTP>\nServerName other.test\n</VirtualHost>
        <VirtualHost *:HTTPS>\nServerName a.test\nServerAlias www.a.test\nSSLEngine on\n</VirtualHost>
        <VirtualHost *:HTTPS>\nServerName other.test\nSSLEngine on\nPAIR\n</VirtualHost>""",
    "by address": """<VirtualHost 127.0.0.1:HTTPS>\nServerName a.test\nSSLEngine on\n</VirtualHost>
        <VirtualHost 127.0.0.2:HTTPS>\nServerName b.test\nSSLEngine on\nPAIR\n</VirtualHost>
        <VirtualHost 127.0.0.2:HTTP [::1]:HTTP>\nServerName b.test\n</VirtualHost>""",
    "by default": """<VirtualHost _default_:HTTPS>\nServerAdmin webmaster@localhost\nServerName a.test\nSSLEngine on
        </VirtualHost>\n<VirtualHost *>\nServerName any.test\n</VirtualHost>""",
    "no ServerName, but a certificate": """<VirtualHost _default_:HTTPS>\nServerAdmin webmaster@localhost\nSSLEngine on
        PAIR\n</VirtualHost>\n<VirtualHost *:HTTPS>\nServerName a.test\nSSLEngine on\n</VirtualHost>""",
    "one certificate for all": """PAIR\n<VirtualHost *:HTTPS>\nSSLEngine on\n</VirtualHost>
        <VirtualHost *:HTTPS>\nServerName a.test\nSSLEngine on\n</VirtualHost>""",
    "other ports": """<VirtualHost *:8080 *:HTTP>\nServerName a.test\nServerPath /a\n</VirtualHost>
        <VirtualHost *:HTTPS *:8443>\nServerName a.test\nSSLEngine on\n</VirtualHost>""",
    "a section": """<IfModule ssl_module>\n<VirtualHost *:HTTPS>\nServerName a.test
        <IfModule ssl_module>\nSSLEngine on\n</IfModule>\nMDContactEmail a@example.org\nMDStapling on
        </VirtualHost>\n</IfModule>""",
}


@pytest.mark.parametrize("layout", SOUND)
def test_sound_layouts_are_silent(httpd, layout):
    cert, key = make_server_cert(httpd.dir)
    pair = f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}"
    httpd.log_level = "warn"
    write(httpd, "MDomain a.test auto", SOUND[layout].replace("PAIR", pair))
    done = httpd.configtest()
    assert done.returncode == 0 and "md:" not in done.stderr, done.stderr


def test_a_sound_configuration_is_silent(httpd):
    write(httpd, vhosts=TLS)
    httpd.log_level = "warn"
    assert httpd.configtest().stderr.strip() == "Syntax OK"


@pytest.mark.skipif(os.geteuid() != 0, reason="children are of the same user")
def test_a_store_that_children_cannot_enter(httpd):
    closed = httpd.dir / "closed"
    closed.mkdir(mode=0o700)
    write(httpd, f"MDStoreDir {closed}/md\nMDomain a.test", TLS)
    told = f"the server's children run as user 'www-data', who cannot enter {closed}"
    done = httpd.configtest()
    assert done.returncode == 0 and told in done.stderr, done.stderr
    httpd.start()
    httpd.wait_log(re.escape(told))
    assert told in httpd.md_status("a.test")["renewal"]["last"]["detail"]


def test_missing_parents_of_the_store(env):
    """They are made so that children can pass, whatever the umask of whoever starts the server."""
    env.store = env.dir / "a" / "b" / "md"
    env.add_md_conf("MDStoreDir a/b/md\nMDomain a.test")
    env.add_vhost("a.test")
    old = os.umask(0o077)
    try:
        env.start()
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in (env.dir / "a", env.dir / "a/b", env.store)] == [0o755] * 3
    env.await_md("a.test")
    assert not env.problems()


@pytest.mark.skipif(os.geteuid() != 0, reason="children are of the same user")
@pytest.mark.parametrize("closed", ["a", "a/b", "a/b/md"])
def test_a_directory_on_the_way_that_is_closed(httpd, closed):
    """The first one that children cannot pass is named, also when the rest is missing."""
    directory = httpd.dir / closed
    directory.mkdir(parents=True)
    directory.chmod(0o700)
    write(httpd, "MDStoreDir a/b/md\nMDomain a.test", TLS)
    told = f"cannot enter {directory}/ on the path to the store: run 'chmod a+x {directory}/'"
    done = httpd.configtest()
    assert done.returncode == 0 and told in done.stderr, done.stderr
    httpd.start()
    httpd.wait_log(re.escape(told))
    assert directory.stat().st_mode & 0o777 == 0o700
