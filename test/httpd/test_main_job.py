# SPDX-License-Identifier: Apache-2.0
"""The day of a user, and what she sees of it."""
import os
import re
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from servers import wait_for


def names_of(cert):
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return san.value.get_values_for_type(x509.DNSName)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_from_nothing_to_https(env):
    env.add_md_conf("MDomain one.example.org www.one.example.org")
    env.add_vhost("one.example.org", ["www.one.example.org"])
    env.start()
    temporary = env.tls_cert("one.example.org")
    assert set(names_of(temporary)) == {"one.example.org", "www.one.example.org"}
    assert isinstance(temporary.public_key(), ec.EllipticCurvePublicKey)
    assert env.get("/", "one.example.org", https=True)[0] == 503
    env.await_md("one.example.org")
    assert env.store_json("staging", "one.example.org", "order.json") is None
    assert list((env.store / "challenges").iterdir()) == []
    env.graceful()
    status, _, body = env.get("/", "www.one.example.org", https=True, verify=env.ca.root_pem())
    assert (status, body) == (200, "it is served\n")
    assert not env.problems()
    env.wait_log(r"\[md:info\].*AH10068: one.example.org: staged set activated")
    assert not (env.store / "staging" / "one.example.org").exists()
    assert not (env.store / "tmp" / "one.example.org").exists()


def test_store_permissions(env):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org")
    old = os.umask(0o077)
    try:
        env.start()
    finally:
        os.umask(old)
    env.await_md("one.example.org")
    store = env.store
    staged_key = store / "staging/one.example.org/privkey.pem"
    assert "ENCRYPTED PRIVATE KEY" in staged_key.read_text()
    assert mode(staged_key) == 0o644 and mode(store / "staging") == 0o755
    if os.geteuid() == 0:
        assert staged_key.owner() == (store / "staging").owner() == "www-data"
        assert (store / "accounts").owner() == "root"
    env.graceful()
    acct = store / "accounts" / "ACME-localhost-0000"
    live = store / "domains" / "one.example.org"
    assert mode(store / "md_store.json") == 0o600
    assert mode(store) == 0o755 and mode(store / "domains") == mode(live) == 0o700
    assert {mode(f) for f in live.iterdir()} == {0o600}
    assert mode(store / "archive/one.example.org.1/md.json") == 0o600
    assert mode(store / "accounts") == mode(acct) == 0o755
    assert mode(acct / "account.json") == mode(acct / "account.pem") == 0o644
    assert "ENCRYPTED" in (acct / "account.pem").read_text()
    assert (live / "privkey.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_one_account_for_all(env):
    for i in range(5):
        env.add_md_conf(f"MDomain d{i}.example.org")
        env.add_vhost(f"d{i}.example.org")
    env.start()
    env.await_md([f"d{i}.example.org" for i in range(5)])
    env.graceful()
    assert [d.name for d in (env.store / "accounts").iterdir()] == ["ACME-localhost-0000"]
    assert {env.store_json("domains", f"d{i}.example.org", "md.json")["ca"]["account"]
            for i in range(5)} == {"ACME-localhost-0000"}
    assert env.ca.accounts() == 1
    # a new domain later uses the stored account
    env.add_md_conf("MDomain late.example.org")
    env.add_vhost("late.example.org")
    env.graceful()
    env.await_md("late.example.org")
    assert env.ca.accounts() == 1
    assert not env.problems()


@pytest.mark.usefixtures("made_keys")
@pytest.mark.parametrize("pebble_options", [{"key_algorithm": "rsa"}])
@pytest.mark.parametrize("specs, files", [
    ("rsa3072", ["privkey.pem"]),
    ("P-256", ["privkey.p-256.pem"]),
    ("secp384r1 rsa2048", ["privkey.secp384r1.pem", "privkey.pem"]),
])
def test_key_types(env, specs, files):
    env.add_md_conf(f"<MDomain one.example.org>\nMDPrivateKeys {specs}\n</MDomain>")
    env.add_vhost("one.example.org")
    env.start()
    env.await_md("one.example.org")
    env.graceful()
    live = env.store / "domains/one.example.org"
    assert sorted(f.name for f in live.glob("privkey*")) == sorted(files)
    assert env.get("/", "one.example.org", https=True, verify=env.ca.root_pem())[0] == 200
    status = env.md_status("one.example.org")
    assert len([k for k in status["cert"] if k != "valid"]) == len(files)
    assert not env.problems()


def test_key_type_added_keeps_serving(env):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org")
    env.start()
    env.await_md("one.example.org")
    env.graceful()
    env.add_md_conf("MDPrivateKeys rsa2048 P-256")
    env.graceful()
    assert isinstance(env.tls_cert("one.example.org").public_key(), rsa.RSAPublicKey)
    env.wait_log("AH10059", count=2)
    env.graceful()
    assert env.md_status("one.example.org")["cert"].keys() == {"rsa", "P-256", "valid"}


@pytest.mark.parametrize("specs", ["default", "P-256", "secp384r1 rsa2048"])
def test_tls_alpn_01(env, specs):
    env.add_md_conf(f"<MDomain one.example.org>\nMDCAChallenges tls-alpn-01\n"
                    f"MDPrivateKeys {specs}\n</MDomain>")
    env.add_vhost("one.example.org", extra="Protocols http/1.1 acme-tls/1")
    env.start()
    env.await_md("one.example.org")
    assert env.store_json("domains", "one.example.org", "md.json")["proto"]["acme-tls/1"] == \
        ["one.example.org"]
    env.graceful()
    assert env.get("/", "one.example.org", https=True, verify=env.ca.root_pem())[0] == 200


def test_renewal_replaces_the_certificate(env):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org")
    env.start()
    env.await_md("one.example.org")
    env.graceful()
    first = env.tls_cert("one.example.org").serial_number
    env.add_md_conf("MDRenewWindow 120d")  # longer than the lifetime: due at once
    env.graceful()
    env.wait_log("AH10059", count=2)
    assert env.tls_cert("one.example.org").serial_number == first
    env.graceful()
    assert env.tls_cert("one.example.org").serial_number != first
    assert (env.store / "archive/one.example.org.2/privkey.pem").exists()


def test_md_status(env):
    env.add_md_conf("MDomain b.example.org www.b.example.org\nMDomain a.example.org")
    env.add_vhost("a.example.org")
    env.add_vhost("b.example.org", ["www.b.example.org"])
    env.start()
    env.await_md(["a.example.org", "b.example.org"])
    for name in ("a.example.org", "b.example.org"):
        wait_for(lambda: env.store_json("staging", name, "job.json")["notified-renewed"], what=name)
    everything = env.md_status()
    assert re.match(r"\d+\.\d+\.\d+", everything["version"])
    assert [md["name"] for md in everything["managed-domains"]] == ["a.example.org", "b.example.org"]
    one = env.md_status("www.b.example.org")
    assert one["name"] == "b.example.org" and one["state"] == 1 and one["renew"] is True
    assert one["state-descr"] == "certificate(rsa) is missing" and one["cert"] == {}
    assert one["renewal"]["finished"] and one["renewal"]["cert"]["rsa"]["serial"]
    assert one["renewal"]["log"]["entries"][0]["type"] == "message-renewed"
    assert "log" not in everything["managed-domains"][0]["renewal"]
    assert env.md_status("unknown.example.org").keys() == everything.keys()
    env.graceful()
    one = env.md_status("b.example.org")
    assert one["state"] == 2 and one["watched"] is True and "renewal" not in one
    assert one["ca"]["account"] == "ACME-localhost-0000" and one["ca"]["url"] == env.ca.directory_url
    assert re.fullmatch(r"[0-9a-f]{64}", one["cert"]["rsa"]["sha256-fingerprint"])
    assert one["renew-at"].endswith("GMT")
    assert env.get("/md-status", "base.test")[1]["Content-Type"] == "application/json"
    assert env.raw(b"POST /md-status HTTP/1.0\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 501")


def test_strange_challenge_requests(env):
    env.add_md_conf("MDomain one.example.org\nMDRenewMode manual")
    env.add_vhost("one.example.org")
    env.start()
    base = b"/.well-known/acme-challenge/"
    for path in (base + b"x", base, base + b"../x", base + b"%2e%2e/x", base + b"a/b",
                 base + b"x" * 7000, base + b"x" * 10000):
        for head in (b"GET %s HTTP/1.0\r\n\r\n", b"GET %s HTTP/1.1\r\nHost: one.example.org\r\n"
                     b"Connection: close\r\n\r\n", b"HEAD %s HTTP/1.1\r\nHost: \r\n\r\n",
                     b"GET %s HTTP/1.1\r\nHost: ../one.example.org\r\n\r\n"):
            reply = env.raw(head % path)
            assert re.match(rb"HTTP/1.[01] 4\d\d", reply), (path, head, reply[:200])
    assert "exit signal" not in env.error_log()


def test_http_01_answers(env):
    env.add_md_conf("MDomain one.example.org\nMDRenewMode manual")
    env.add_vhost("one.example.org")
    env.start()
    for host in ("one.example.org", "elsewhere.example.net"):
        place = env.store / "challenges" / host
        place.mkdir()
        (place / "acme-http-01.txt").write_text("content-of-123")
        status, headers, body = env.get("/.well-known/acme-challenge/123", host)
        assert (status, headers["Content-Length"], body) == (200, "14", "content-of-123")
        assert env.raw(b"POST /.well-known/acme-challenge/123 HTTP/1.0\r\nHost: %s\r\n"
                       b"Content-Length: 0\r\n\r\n" % host.encode()).startswith(b"HTTP/1.1 501")
    env.graceful()
    wait_for(lambda: not (env.store / "challenges/elsewhere.example.net").exists(), what="clean-up")


def test_overlap_refuses_the_start(env):
    env.add_md_conf("MDomain a.example.org *.b.example.org\nMDomain x.b.example.org")
    done = env.start(expect_success=False)
    env.wait_log(r"AH10038")
    assert done.returncode != 0 and not env.is_running()


def test_unusable_challenges_are_reported(env):
    env.md_conf.append(f"MDPortMap http:- https:{env.https_port}\nMDomain one.example.org")
    env.add_vhost("one.example.org")
    env.start()
    env.wait_log(r"\[md:error\].*AH10173: md\[one.example.org\]: None of the ACME challenge methods "
                 r"configured for this domain are suitable")
    env.wait_log(r"\[md:error\].*AH10056: processing one.example.org: None of the ACME challenge")
    assert env.store_json("httpd.json") == {"proto": {"http": False, "https": True},
                                            "route": {"ca-certs": str(env.ca.ca_file)}}


def test_auto_members_and_wildcard_alias(env):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org", ["alias.example.org", "*.wild.example.org"])
    env.start()
    env.await_md("one.example.org")
    assert env.store_json("domains", "one.example.org", "md.json")["domains"] == \
        ["one.example.org", "alias.example.org"]


def test_rename_keeps_the_certificate(env):
    env.add_md_conf("MDomain old.example.org new.example.org")
    env.add_vhost("new.example.org", ["old.example.org"])
    env.start()
    env.await_md("old.example.org")
    env.graceful()
    serial = env.tls_cert("new.example.org").serial_number
    env.md_conf[-1] = "MDomain new.example.org old.example.org"
    env.graceful()
    assert env.tls_cert("new.example.org").serial_number == serial
    assert [d.name for d in (env.store / "domains").iterdir()] == ["new.example.org"]
    assert env.store_json("domains", "new.example.org", "md.json")["name"] == "new.example.org"


@pytest.mark.parametrize("damage", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("file", ["pubcert.pem", "privkey.pem", "md.json"])
def test_damaged_live_set_is_ordered_anew(env, file, damage):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org")
    env.start()
    env.await_md("one.example.org")
    env.graceful()
    path = env.store / "domains/one.example.org" / file
    path.write_text(damage)
    env.graceful()
    if file == "md.json":
        assert env.store_json("domains", "one.example.org", "md.json")["state"] == 2
    else:
        assert env.md_status("one.example.org")["state"] == 1
        env.wait_log("AH10059", count=2)
        env.graceful()
    assert env.get("/", "one.example.org", https=True, verify=env.ca.root_pem())[0] == 200


@pytest.mark.parametrize("file, text", [("md.json", "garbage"), ("privkey.pem", "garbage"),
                                        ("pubcert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n")])
def test_damaged_staged_set_is_purged(env, file, text):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org")
    env.start()
    env.await_md("one.example.org")
    (env.store / "staging/one.example.org" / file).write_text(text)
    env.graceful()
    env.wait_log(r"\[md:error\].*AH10069: one.example.org: error loading staged set, purging it")
    env.wait_log("AH10059", count=2)
    env.graceful()
    assert env.get("/", "one.example.org", https=True, verify=env.ca.root_pem())[0] == 200


def test_foreign_files_do_not_disturb(env):
    env.add_md_conf("MDomain one.example.org")
    env.add_vhost("one.example.org")
    env.start()
    env.await_md("one.example.org")
    (env.store / "domains/a-file").write_text("x")
    (env.store / "httpd.json").write_text("no json")
    (env.store / "staging/stray").mkdir()
    (env.store / "challenges/foreign.example.org").mkdir()
    env.graceful()
    assert env.get("/", "one.example.org", https=True, verify=env.ca.root_pem())[0] == 200
    assert not (env.store / "challenges/foreign.example.org").exists()
    env.wait_log("removing md/httpd.json on error loading it")
    assert "proto" in env.store_json("httpd.json")  # written anew


@pytest.mark.parametrize("text", ["", "{}", "garbage", '{"key": "AAAA"}',
                                  '{"store": {"version": 9.0}, "key": "' + "A" * 64 + '"}'])
def test_unusable_central_file_refuses_the_start(env, text):
    env.add_md_conf("MDomain one.example.org")
    env.store.mkdir()
    (env.store / "md_store.json").write_text(text)
    assert env.start(expect_success=False).returncode != 0
    env.wait_log(r"\[md:error\].*AH10046.*The central store file md/md_store.json seems to exist, but")
    assert (env.store / "md_store.json").read_text() == text


@pytest.mark.parametrize("pebble_options", [{"env": {"PEBBLE_WFE_NONCEREJECT": 50}}])
def test_half_of_the_nonces_rejected(env):
    for i in range(3):
        env.add_md_conf(f"MDomain d{i}.example.org")
        env.add_vhost(f"d{i}.example.org")
    env.start()
    env.await_md([f"d{i}.example.org" for i in range(3)])
    assert not env.problems()
    assert env.ca.accounts() == 1


def test_a_dead_name_holds_up_nobody(env):
    env.ca.dns_set("set-servfail", host="dead.example.org.")
    env.add_md_conf("MDRetryDelay 1s\nMDomain dead.example.org")
    for i in range(8):
        env.add_md_conf(f"MDomain d{i}.example.org")
        env.add_vhost(f"d{i}.example.org")
    env.add_vhost("dead.example.org")
    env.start()
    env.await_md([f"d{i}.example.org" for i in range(8)])
    job = env.await_error("dead.example.org")
    assert job["last"]["problem"].startswith("urn:ietf:params:acme:error:")
    assert "dead.example.org" in job["last"]["detail"] and job["next-run"]
    env.wait_log(r"\[md:error\].*AH10056: processing dead.example.org: .*CA considers answer to "
                 r"challenge invalid.*problem\[urn:")
    env.wait_log(r"\[md:info\].*AH10057: dead.example.org: ")
    env.ca.dns_set("clear-servfail", host="dead.example.org.")
    env.await_md("dead.example.org")


def test_no_domain_no_trouble(httpd):
    httpd.start()
    assert httpd.get("/", "base.test")[0] == 200
    assert httpd.md_status().keys() == {"version"}
    assert not httpd.store.exists()
    httpd.graceful()
