# SPDX-License-Identifier: Apache-2.0
"""Slips of somebody who writes a first configuration: `httpd -t` and a start tell them, and a
configuration that would end the running server is refused."""
import os
import re

import pytest

from ports import free_ports
from servers import READY


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
    "CA without scheme": ("MDCertificateAuthority localhost:14000/dir\nMDomain a.test", TLS,
                          r"line \d+ of .*scheme must be http or https"),
}


@pytest.mark.parametrize("slip", FATAL)
def test_fatal_slips_are_refused_before_a_reload(httpd, slip):
    write(httpd, vhosts=TLS)
    httpd.start()
    httpd.wait_log(READY)
    md, vhosts, told = FATAL[slip]
    write(httpd, md, vhosts)
    done = httpd.configtest()
    assert done.returncode != 0 and re.search(told, done.stderr, re.S), done.stderr
    assert httpd.is_running() and httpd.get("/", "base.test")[0] == 200


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
                 "a CA is reached by https:"),
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
    ("", "there is no contact"),
    ("MDContactEmail nobody", "the contact 'mailto:nobody' is of no use to a CA"),
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


def test_a_sound_configuration_is_silent(httpd):
    write(httpd, vhosts=TLS)
    httpd.log_level = "warn"
    assert httpd.configtest().stderr.strip() == "Syntax OK"


@pytest.mark.skipif(os.geteuid() != 0, reason="children are of the same user")
def test_a_store_that_children_cannot_enter(httpd):
    closed = httpd.dir / "closed"
    closed.mkdir(mode=0o700)
    write(httpd, f"MDStoreDir {closed}/md\nMDomain a.test", TLS)
    told = f"the user 'www-data' of the server's children cannot enter {closed}"
    done = httpd.configtest()
    assert done.returncode == 0 and told in done.stderr, done.stderr
    httpd.start()
    httpd.wait_log(re.escape(told))
    assert told in httpd.md_status("a.test")["renewal"]["last"]["detail"]
