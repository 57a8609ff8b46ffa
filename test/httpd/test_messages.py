# SPDX-License-Identifier: Apache-2.0
"""What an administrator is told of slips that show only when the CA is asked: the name, what failed and the directive
that cures it. Nothing is called an error of the system that is none."""
import re

import pytest

from ports import free_ports

ERRNO = re.compile(r"\[md:\w+\] (?:\[[^]]*\] )*\(\d+\)")  # (22)Invalid argument: ...


def slips(env):
    """Name of the domain -> its settings, what is said."""
    no_pem = env.dir / "no.pem"
    no_pem.write_text("no certificate\n")
    damaged = env.dir / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    closed = free_ports(1)[0]
    at = env.ca.directory_url
    return {
        "terms.test": ("MDCertificateAgreement https://other.test/terms",
                       r"accept the terms-of-service as specified in <data:.*>, but you accepted those at "
                       r"<https://other\.test/terms>.* MDCertificateAgreement"),
        "roots.test": ("MDCACertificateFile none", r"self.signed certificate.*\. .* MDCACertificateFile"),
        "no-pem.test": (f"MDCACertificateFile {no_pem}",
                        f"MDCACertificateFile {no_pem} holds no certificate in PEM format"),
        "no-file.test": ("MDCACertificateFile none.pem",
                         f"MDCACertificateFile {env.dir}/none.pem cannot be read: No such file or directory"),
        "damaged.test": (f"MDCACertificateFile {damaged}", r"\. MDCACertificateFile .* in PEM format"),
        "plain.test": (f"MDCertificateAuthority {at.replace('https:', 'http:')}",
                       r"HTTP status 400\. Check the URL in MDCertificateAuthority: most CAs require https:"),
        "tls.test": (f"MDCertificateAuthority https://localhost:{env.http_port}/dir",
                     r"\. Check the scheme and the port in MDCertificateAuthority"),
        "path.test": (f"MDCertificateAuthority {at}-not", r"HTTP status 404: 404 page not found\. Check the URL in MDCertificateAuthority"),
        "refused.test": (f"MDCertificateAuthority https://localhost:{closed}/dir",
                         r"\(Connection refused\)\. Check that no firewall"),
        "resolve.test": ("MDCertificateAuthority https://ca.invalid/dir",
                         r"resolve host: ca\.invalid.*\. Check MDCertificateAuthority and the DNS"),
        "proxy.test": ("MDHttpProxy http://proxy.invalid:1", r"proxy.invalid.*\. Check MDHttpProxy"),
        "wild.test": ("MDMember *.wild.test", r"for domain \*\.wild\.test .* Wildcard names can only be validated by dns-01"),
    }


@pytest.mark.parametrize("with_account", [False, True])
def test_failures_name_their_cure(env, with_account):
    """Terms are accepted for an account: the domain that does not must not find that of another one."""
    told = {name: slip for name, slip in slips(env).items() if with_account == (name != "terms.test")}
    for name, (settings, _) in told.items():
        env.add_md_conf(f"<MDomain {name}>\nMDPrivateKeys P-256\n{settings}\n</MDomain>")
        env.add_vhost(name)
    env.start()
    for name, (_, pattern) in told.items():
        last = env.await_error(name)["last"]
        assert re.search(pattern, last["detail"]), (name, last)
        assert re.search(rf"AH10056: processing {re.escape(name)}: .*{pattern}", env.error_log()), name
    assert not [line for line in env.error_log().splitlines() if ERRNO.search(line)]
    assert not re.search(r"\[md:(error|warn)\].*\{\"", env.error_log())  # JSON is for debug


def test_a_configtest_tells_some_of_them(env):
    told = {name: slip for name, slip in slips(env).items() if name in ("no-pem.test", "no-file.test", "wild.test")}
    for name, (settings, _) in told.items():
        env.add_md_conf(f"<MDomain {name}>\n{settings}\n</MDomain>")
        env.add_vhost(name)
    done = env.configtest()
    assert done.returncode == 0, done.stderr
    for name, (_, pattern) in told.items():
        if name == "wild.test":
            pattern = r"no certificate can be obtained: CAs validate the wildcard name \*\.wild\.test by the challenge type dns-01"
        assert re.search(rf"\[md:(error|warn)\].*md\[{re.escape(name)}\]: {pattern}", done.stderr), done.stderr
    assert not [line for line in done.stderr.splitlines() if ERRNO.search(line)]


def test_port_80_is_not_served(env):
    env.add_md_conf(f"MDPortMap http:- https:{env.https_port}\nMDomain a.test")
    env.add_vhost("a.test")
    assert re.search(r"AH10173: md\[a\.test\]: .*'Listen 80', or 'MDPortMap 80:", env.configtest().stderr)


def test_errors_of_the_system_are_told(httpd):
    """In the sentence: who wrote it knows what failed."""
    httpd.add_md_conf("MDomain a.test")
    httpd.store.write_text("in the way")
    assert httpd.start(expect_success=False).returncode != 0
    line = next(line for line in httpd.error_log().splitlines() if "AH10046" in line)
    assert line.endswith(f"cannot create the store directory {httpd.store}: Not a directory"), line
    assert not ERRNO.search(line)
