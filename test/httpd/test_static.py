# SPDX-License-Identifier: Apache-2.0
"""Certificates from elsewhere, and the way from http to https."""
import pytest

from servers import make_pair

NAME = "static.example.org"


def add_static(httpd, cert, key, extra=""):
    httpd.add_md_conf(f"MDCertificateAgreement accepted\n<MDomain {NAME}>\n"
                      f"MDCertificateFile {cert}\nMDCertificateKeyFile {key}\n{extra}\n</MDomain>")
    httpd.add_vhost(NAME)
    httpd.add_vhost(NAME, ssl=False)


def ask(httpd, path, method="GET"):
    head = f"{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
    return httpd.raw(head.encode()).decode(errors="replace")


def test_static_files_are_served(httpd, workdir):
    add_static(httpd, *make_pair(workdir, "own", f"DNS:{NAME}"))
    httpd.start()
    assert httpd.tls_cert(NAME).issuer.rfc4514_string() == "CN=own"
    stored = httpd.store_json("domains", NAME, "md.json")
    assert stored["renew-mode"] == 0 and stored["state"] == 2
    assert stored["cert-files"] == [str(workdir / "own.pem")]


@pytest.mark.parametrize("broken", ["own.pem", "own.key"])
def test_unusable_files_harm_that_domain_only(httpd, workdir, broken):
    add_static(httpd, *make_pair(workdir, "own", f"DNS:{NAME}"))
    (workdir / broken).write_text("garbage")
    httpd.start()
    assert "Fallback" in httpd.tls_cert(NAME).issuer.rfc4514_string()
    assert httpd.store_json("domains", NAME, "md.json")["state"] == 1
    told = [line for line in httpd.error_log().splitlines() if f"md[{NAME}]: MDCertificate" in line]
    assert len(told) == 1 and broken in told[0], told  # nothing in the dry run
    assert httpd.configtest().stderr.count(f"md[{NAME}]: MDCertificate") == 1


@pytest.mark.parametrize("mode, method, status", [
    ("temporary", "GET", 302), ("temporary", "POST", 307),
    ("permanent", "GET", 301), ("permanent", "POST", 308)])
def test_redirect(httpd, workdir, mode, method, status):
    add_static(httpd, *make_pair(workdir, "own", f"DNS:{NAME}"), f"MDRequireHttps {mode}")
    httpd.start()
    answer = ask(httpd, "/a%20b?c=d", method)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert f"Location: https://{NAME}/a%20b?c=d\r\n" in answer
    assert "Strict-Transport-Security" not in answer
    assert "Location:" not in ask(httpd, "/.well-known/other")


def test_no_redirect_unless_it_is_set(httpd, workdir):
    add_static(httpd, *make_pair(workdir, "own", f"DNS:{NAME}"))
    httpd.start()
    assert "Location:" not in ask(httpd, "/")
