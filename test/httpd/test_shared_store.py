# SPDX-License-Identifier: Apache-2.0
"""Domains and servers that share a store get in nobody's way."""
import scripted_ca as ca_is
from scripted_ca import ScriptedCA
from servers import Httpd, wait_for


def configure(httpd, ca, names):
    httpd.md_conf, httpd.vhosts = ["MDRetryDelay 1s\nMDPrivateKeys P-256"], []
    httpd.use_ca(ca)
    for name in names:
        httpd.add_md_conf(f"MDomain {name}")
        httpd.add_vhost(name)


def test_what_another_server_has_in_work_stays(workdir, httpd, ca):
    """Also when attempts failed before, which a start forgets."""
    configure(httpd, ca, ["one.test"])
    ca.script("finalize", ca_is.status(403), times=1)
    held = ca.script("finalize", ca_is.hold("before"), nth=2)
    httpd.start()
    ca.wait_held(held)
    with Httpd(workdir / "other") as other:
        configure(other, ca, ["one.test"])
        other.add_md_conf(f"MDStoreDir {httpd.store}\nMDInitialDelay 1h")
        other.start()
        other.wait_log("AH10064")
        assert (httpd.store / "staging/one.test/order.json").exists()
        ca.release()
        httpd.await_md("one.test")
        assert len(ca.orders) == 1 == len(ca.accounts)
    assert "AH10056" in httpd.error_log() and httpd.error_log().count("AH10056") == 1


def test_an_account_that_the_ca_ended_stops_nobody(httpd, ca):
    """One new account for all; no order is placed with the old one."""
    configure(httpd, ca, ["old.test"])
    httpd.start()
    httpd.await_md("old.test")
    httpd.stop()
    ca.accounts[0].status = "deactivated"
    slow = ca.script("account", ca_is.slow(0.5))
    names = [f"new{i}.test" for i in range(8)]
    configure(httpd, ca, ["old.test", *names])
    httpd.start()
    httpd.await_md(names)
    assert slow and len(ca.accounts) == 2
    assert "AH10056" not in httpd.error_log()
    assert ca.count("newOrder") == 9


def test_accounts_of_all_cas_are_kept(httpd, workdir, ca):
    """When one CA after the other has its turn."""
    with ScriptedCA(workdir / "ca2") as second:
        trusted = workdir / "trusted.pem"
        trusted.write_text(ca.ca_file.read_text() + second.ca_file.read_text())
        for one in ca, second:
            one.script("newOrder", ca_is.status(500))
        httpd.add_md_conf("MDCertificateAgreement accepted\nMDContactEmail a@example.org\nMDRetryDelay 100ms\n"
                          f"MDRetryFailover 2\nMDCACertificateFile {trusted}\nMDPrivateKeys P-256\n"
                          f"MDCertificateAuthority {ca.directory_url} {second.directory_url}\nMDomain one.test")
        httpd.add_vhost("one.test")
        httpd.start()
        wait_for(lambda: ca.count("newOrder") >= 3, what="the second turn of the first CA")
        ca.calm()
        httpd.await_md("one.test")
        httpd.graceful()
        documents = [httpd.store_json("accounts", path.name, "account.json")
                     for path in (httpd.store / "accounts").iterdir()]
        assert {d["ca-url"] for d in documents} == {ca.directory_url, second.directory_url}
        assert len(documents) == 2 and len(ca.accounts) == 1 == len(second.accounts)
        account = httpd.store_json("domains", "one.test", "md.json")["ca"]["account"]
        assert httpd.store_json("accounts", account, "account.json")["ca-url"] == ca.directory_url
        assert not list((httpd.store / "staging").iterdir())
