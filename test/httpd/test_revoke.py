# SPDX-License-Identifier: Apache-2.0
"""a2md revoke (RFC 8555 7.6), by the account of a domain and by the key of a certificate."""
import json
import shutil
import ssl
import urllib.request

import pytest
from cryptography import x509

import scripted_ca as ca_is
from servers import make_pair
from test_a2md import Tool

NAME = "one.test"


def certificate(tool, file="pubcert.pem", name=NAME):
    return x509.load_pem_x509_certificate((tool.store / "domains" / name / file).read_bytes())


def serial(cert):
    text = f"{cert.serial_number:X}"
    return text if len(text) % 2 == 0 else "0" + text


def obtain(tool, url):
    tool.ok("add", NAME, "www.one.test", options=["-a", url])
    tool.ok("update", NAME, "contacts", "x@example.org")
    tool.ok("update", NAME, "agreement", "accepted")
    tool.ok("drive", "-c", "http-01", NAME)


@pytest.fixture
def tool(workdir, ca):
    tool = Tool(workdir / "md", "-C", ca.ca_file)
    tool.ca = ca
    obtain(tool, ca.directory_url)
    return tool


def revoked(ca):
    """Serial numbers with their reasons."""
    return {serial(x509.load_der_x509_certificate(der)): reason for der, reason in ca.revoked.items()}


@pytest.mark.parametrize("args, reason", [
    ([NAME], 0), ([NAME, "--reason", "keyCompromise"], 1), (["-R", "SUPERSEDED", "www.one.test"], 4),
    (["--reason", "5", NAME], 5)])
def test_by_the_account(tool, args, reason):
    number = serial(certificate(tool))
    done = tool("revoke", *args)
    assert (done.returncode, done.stdout) == (0, f"revoked: {number}\n"), done.stderr
    assert f"a2md renew {NAME}" in done.stderr
    assert revoked(tool.ca) == {number: reason}
    assert ("reason" in tool.ca.select("revokeCert")[0].payload) == (reason != 0)
    assert tool.ok("revoke", NAME) == f"revoked before: {number}\n"


@pytest.mark.parametrize("args, why", [
    (["nix.test"], "there is no such managed domain"), ([NAME, "-R", "boredom"], "'boredom' is not a reason; these are: unsp"),
    ([NAME, "-R", "7"], "is not a reason"), ([NAME, "-R", "-1"], "is not a reason"), ([NAME, "-R", ""], "is not a reason"),
    (["new.test"], "no certificate was obtained from a CA"),
    ([NAME, "-R", "aACompromise"], "no reason for a subscriber")])
def test_what_cannot_be(tool, args, why):
    tool.ok("add", "new.test", options=["-a", tool.ca.directory_url])
    assert why in tool.fails("revoke", *args)
    assert not tool.ca.revoked


def test_without_the_account(tool, workdir):
    """Another one of the CA has no say; the key has."""
    shutil.rmtree(tool.store / "accounts" / tool.stored(NAME)["ca"]["account"])
    assert "Revoke the certificate by its key (--key)" in tool.fails("revoke", NAME)
    tool.ok("acme", "newreg", "x@example.org", options=["-a", tool.ca.directory_url, "-t", "accepted"])
    assert "not your certificate" in tool.fails("revoke", NAME)
    assert not tool.ca.revoked
    key, cert = (tool.store / "domains" / NAME / file for file in ("privkey.pem", "pubcert.pem"))
    options = ["-a", tool.ca.directory_url]
    empty = workdir / "empty"
    empty.write_text("")
    other_cert, other_key = make_pair(workdir, "other", "DNS:other.test")
    for args, why in (([key, workdir / "nix"], "cannot read"), ([workdir / "nix", cert], "cannot read"),
                      ([key, empty], "holds no certificate"), ([empty, cert], "empty"),
                      ([other_key, cert], "is not for the key in"), ([key, cert, cert], "one certificate")):
        assert why in tool.fails("revoke", "--key", *args, options=options)
    assert "no CA is given" in tool.fails("revoke", "--key", key, cert)
    assert "no such certificate" in tool.fails("revoke", "--key", other_key, other_cert, options=options)
    number = serial(certificate(tool))
    assert tool.ok("revoke", "--key", key, cert, "-R", "keyCompromise", options=options) == f"revoked: {number}\n"
    assert revoked(tool.ca) == {number: 1}
    assert tool.ca.select("revokeCert")[-1].account is None


def test_a_ca_without(tool):
    tool.ca.script("directory", ca_is._Change(lambda ca, rq, reply: reply.json.pop("revokeCert") and None))
    assert "offers no revocation" in tool.fails("revoke", NAME)


def test_during_a_rollover(tool):
    """That was interrupted when the CA had acted."""
    account = tool.stored(NAME)["ca"]["account"]
    path = tool.store / "accounts" / account
    old = (path / "account.pem").read_bytes()
    tool.ok("acme", "rollover", account)
    (path / "account.pem").rename(path / "account.next.pem")
    (path / "account.pem").write_bytes(old)
    assert tool.ok("revoke", NAME).startswith("revoked: ")


def status_at(pebble, cert):
    context = ssl.create_default_context(cafile=str(pebble.ca_file))
    url = f"{pebble.mgmt_url}/cert-status-by-serial/{cert.serial_number:x}"
    with urllib.request.urlopen(url, context=context) as reply:
        return json.loads(reply.read())


def test_pebble_revokes(env, pebble):
    """All key types; then the server gets new ones when it is asked to."""
    env.add_md_conf(f"MDPrivateKeys P-256 RSA\nMDomain {NAME}")
    env.add_vhost(NAME)
    env.start()
    env.await_md(NAME)
    env.graceful()
    tool = Tool(env.store, "-C", pebble.ca_file)
    certs = [certificate(tool, file) for file in ("pubcert.p-256.pem", "pubcert.pem")]
    assert [status_at(pebble, cert)["Status"] for cert in certs] == ["Valid", "Valid"]
    key = env.store / "domains" / NAME / "privkey.pem"
    tool.ok("revoke", "-k", key, key.with_name("pubcert.pem"), options=["-a", pebble.directory_url])
    assert [status_at(pebble, cert)["Status"] for cert in certs] == ["Valid", "Revoked"]
    printed = tool.ok("revoke", "--reason", "superseded", NAME)
    assert sorted(printed.splitlines()) == [f"revoked before: {serial(certs[1])}", f"revoked: {serial(certs[0])}"]
    assert status_at(pebble, certs[0])["Status"] == "Revoked" and status_at(pebble, certs[0])["Reason"] == 4
    tool.ok("renew", NAME)
    env.graceful()
    assert certificate(tool).serial_number not in [cert.serial_number for cert in certs]
