# SPDX-License-Identifier: Apache-2.0
"""The handler md-status: every key of its JSON, in a domain of each state."""
import datetime
import email.utils
import json
import re

import pytest

import sets
import states
from servers import Httpd

TS = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
ALWAYS = ["name", "domains", "contacts", "transitive", "ca", "privkey", "state", "renew-mode", "renew-window",
          "warn-window", "must-staple", "proto", "stapling", "profile-mandatory", "ari-renewals", "cert", "watched"]
CERT = ["issuer-name", "valid", "serial", "sha256-fingerprint"]
JOB = ["name", "finished", "notified", "notified-renewed", "errors"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Httpd(tmp_path_factory.mktemp("md-status")) as httpd:
        states.start(httpd)
        yield httpd


def time_of(text):
    assert re.fullmatch(TS, text), text
    return email.utils.parsedate_to_datetime(text)


def is_now(text):
    return abs((datetime.datetime.now(datetime.timezone.utc) - time_of(text)).total_seconds()) < 120


def ask(server, path, **kw):
    status, headers, body = server.get(path, "base.test", **kw)
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    shown = json.loads(body)
    assert body.replace("\\u001B", "\\u001b") == json.dumps(shown, indent=2, ensure_ascii=False)
    return shown


@pytest.mark.parametrize("name, state, more, job", [
    ("none.test", 1, {"state-descr", "renew-at", "renew"}, None),
    ("renewing.test", 1, {"state-descr", "renew-at", "renew", "renewal"}, {"last-run", "last"}),
    ("refused.test", 1, {"state-descr", "renew-at", "renew", "renewal"}, {"next-run", "last-run", "last", "log"}),
    ("failing.test", 2, {"renew-at", "renew", "renewal"}, {"next-run", "last-run", "last", "log"}),
    ("good.test", 2, {"renew-at"}, None),
    ("staged.test", 2, {"renew-at", "renew", "renewal"}, set()),
    ("first.test", 1, {"state-descr", "renew-at", "renew", "renewal"}, set()),
    ("expiring.test", 2, {"renew-at", "renew"}, None),
    ("expired.test", 2, {"renew-at", "renew"}, None),
    ("manual.test", 2, {"renew-at", "renew"}, None),
    ("static.test", 2, {"renew-at", "cert-files", "pkey-files"}, None),
    ("old-static.test", 2, {"renew-at", "renew", "cert-files", "pkey-files"}, None),
    ("half.test", 1, {"state-descr", "renew-at", "renew"}, None),
    ("damaged.test", 2, {"renew-at", "error"}, None),
])
def test_members(server, name, state, more, job):
    shown = ask(server, "/md-status/" + name)
    assert set(shown) == set(ALWAYS) | more | {"renew-reason"}
    assert [key for key in shown if key in ALWAYS] == ALWAYS
    assert shown["name"] == name and shown["state"] == state and shown.get("renew", True) is True
    assert shown["watched"] is True
    if job is not None:
        renewal = shown["renewal"]
        assert set(renewal) == set(JOB) | {"cert"} | job
        assert [key for key in renewal if key in JOB] == JOB and list(renewal)[-1] == "cert"
        assert [kind for kind in ("staged.test", "first.test") if kind == name] == [name] * renewal["finished"]


@pytest.mark.parametrize("name, members", [
    ("none.test", []), ("good.test", ["P-256", "valid"]), ("half.test", ["P-256", "valid"]), ("static.test", ["0", "valid"]),
    ("expired.test", ["P-256", "valid"])])
def test_certificates(server, name, members):
    shown = ask(server, "/md-status/" + name)
    assert list(shown["cert"]) == members
    for label in members[:-1]:
        cert = shown["cert"][label]
        assert list(cert) == CERT and list(cert["valid"]) == ["from", "until"]
        assert cert["issuer-name"] == "/CN=Issuer"
        assert re.fullmatch("([0-9A-F]{2})+", cert["serial"]) and re.fullmatch("[0-9a-f]{64}", cert["sha256-fingerprint"])
        assert shown["cert"]["valid"] == cert["valid"]


def test_when_to_renew(server):
    """Soon after a third of the lifetime is left; at once, where one is missing."""
    for name in "none.test", "half.test", "first.test":
        assert is_now(ask(server, "/md-status/" + name)["renew-at"]), name
    for name, left in ("good.test", 0.33), ("expired.test", 0.33), ("static.test", 0.33):
        shown = ask(server, "/md-status/" + name)
        until, since = (time_of(shown["cert"]["valid"][key]) for key in ("until", "from"))
        at = until - (until - since) * left
        assert -5 <= (time_of(shown["renew-at"]) - at).total_seconds() < 86400, name
        assert shown["renew-reason"] == "window"


def test_values(server):
    shown = ask(server, "/md-status/good.test")
    assert {key: shown[key] for key in ALWAYS if key not in ("cert", "privkey")} == {
        "name": "good.test", "domains": ["good.test", "www.good.test"], "contacts": ["mailto:admin@example.org"],
        "transitive": 1, "ca": {"proto": "ACME", "url": sets.CA_URL, "urls": [sets.CA_URL], "agreement": "accepted"},
        "state": 2, "renew-mode": 1, "renew-window": "33%", "warn-window": "10%", "must-staple": False,
        "proto": {"acme-tls/1": []}, "stapling": False, "profile-mandatory": False, "ari-renewals": True, "watched": True}
    assert shown["privkey"] == {"type": "EC", "curve": "P-256"}
    half = ask(server, "/md-status/half.test")
    assert half["privkey"] == [{"type": "EC", "curve": "P-256"}, {"type": "EC", "curve": "P-384"}]
    assert half["state-descr"] == "certificate(P-384) is missing"
    assert ask(server, "/md-status/none.test")["state-descr"] == "certificate(P-256) is missing"
    assert [ask(server, f"/md-status/{name}")["renew-mode"] for name in ("manual.test", "static.test", "good.test")] == [0, 0, 1]


def test_failure(server):
    renewal = ask(server, "/md-status/failing.test")["renewal"]
    assert list(renewal["last"]) == ["status", "status-description", "problem", "detail", "activity"]
    assert renewal["last"]["problem"] == states.REFUSED and renewal["last"]["detail"] == states.DETAIL
    assert renewal["errors"] == 3 and renewal["cert"] == {} and renewal["finished"] is False
    assert [entry["type"] for entry in renewal["log"]["entries"]] == ["renewal-error", "starting"]
    assert set(renewal["log"]["entries"][0]) == {"when", "type", "status", "detail"}
    assert time_of(renewal["next-run"]) > time_of(renewal["last-run"])


def test_all(server):
    """In order of name, without logs."""
    shown = ask(server, "/md-status")
    assert list(shown) == ["version", "managed-domains"] and re.fullmatch(r"\d+\.\d+\.\d+(-git)?", shown["version"])
    assert [md["name"] for md in shown["managed-domains"]] == sorted(states.DOMAINS)
    for md in shown["managed-domains"]:
        one = ask(server, "/md-status/" + md["name"])
        one.get("renewal", {}).pop("log", None)
        for each in one, md:
            if "renew-at" in each and is_now(each["renew-at"]):
                each["renew-at"] = "now"
        assert md == one


@pytest.mark.parametrize("path, name", [
    ("", None), ("/", None), ("/unknown.test", None), ("/GOOD.TEST", "good.test"), ("/www.good.test", "good.test"),
    ("/x/y/good.test", "good.test"), ("/good.test/", None), ("/WWW.good.test?x", "good.test"), ("/good%2etest", "good.test")])
def test_which_document(server, path, name):
    shown = ask(server, "/md-status" + path)
    assert ("managed-domains" in shown) == (name is None) and shown.get("name") == name


def test_methods(server):
    for method, code in (("GET", 200), ("HEAD", 200), ("POST", 501), ("PUT", 501), ("OPTIONS", 501), ("DELETE", 501)):
        answer = server.raw(f"{method} /md-status HTTP/1.1\r\nHost: base.test\r\nContent-Length: 0\r\n"
                            "Connection: close\r\n\r\n".encode()).decode()
        assert answer.startswith(f"HTTP/1.1 {code} "), answer[:100]
        assert (answer.partition("\r\n\r\n")[2] == "") == (method == "HEAD")


def test_hostile_text(server):
    """JSON has all of it, but for what is no text."""
    shown = ask(server, "/md-status/hostile.test")["renewal"]
    assert shown["last"]["detail"] == states.HOSTILE and shown["last"]["subproblems"][0]["type"] == states.HOSTILE


def test_settings(httpd):
    """What a section says is there, what the server says is not; secrets are masked."""
    sets.make_store(httpd.store)
    (httpd.dir / "roots.pem").write_bytes(sets.pem(sets.issuer().cert))
    httpd.add_md_conf(sets.CONF + "\nMDHttpProxy http://proxy.test:1\nMDRenewWindow 14\n<MDomain a.test>\n"
                      "MDRequireHttps temporary\nMDMustStaple on\nMDProfile short\nMDProfileMandatory on\nMDRenewViaARI off\n"
                      "MDStapling on\nMDCAChallenges http-01 tls-alpn-01\nMDExternalAccountBinding key-7 c2VjcmV0LW1hYy1rZXk\n"
                      "MDPrivateKeys RSA 4096\nMDWarnWindow 7d\nMDMember manual b.test\nMDRenewMode always\n"
                      "MDChallengeDns01 /bin/true x\nMDHttpProxy http://user:word@proxy.test:2\n"
                      f"MDCACertificateFile {httpd.dir}/roots.pem\nMDHttpProxyCACertificateFile {httpd.dir}/roots.pem\n"
                      "MDCertificateAuthority LetsEncrypt https://ca.test/dir\n</MDomain>\n"
                      "<MDomain c.test>\nMDExternalAccountBinding none\nMDPrivateKeys Default\n</MDomain>")
    httpd.add_vhost("a.test", extra="Protocols http/1.1 acme-tls/1")
    httpd.start()
    shown = httpd.md_status("a.test")
    expected = {
        "require-https": "temporary", "must-staple": True, "profile": "short", "profile-mandatory": True,
        "ari-renewals": False, "stapling": True, "eab": {"kid": "key-7", "hmac": "***"},
        "privkey": {"type": "RSA", "bits": 4096}, "warn-window": "7d", "renew-window": "14d", "transitive": 0,
        "renew-mode": 2, "cmd-dns-01": "/bin/true x", "ca-certs": f"{httpd.dir}/roots.pem",
        "proxy-ca-certs": f"{httpd.dir}/roots.pem", "proto": {"acme-tls/1": ["a.test"]}, "domains": ["a.test", "b.test"],
        "ca": {"proto": "ACME", "urls": ["https://acme-v02.api.letsencrypt.org/directory", "https://ca.test/dir"],
               "agreement": "accepted", "challenges": ["http-01", "tls-alpn-01"]}}
    assert {key: shown.get(key) for key in expected} == expected
    assert "word" not in json.dumps(shown) and "c2VjcmV0" not in json.dumps(shown)
    other = httpd.md_status("c.test")
    assert not {"eab", "cmd-dns-01", "proxy-url", "ca-certs", "proxy-ca-certs", "require-https", "profile"} & set(other)
    assert other["privkey"] == {"type": "Default"} and other["watched"] is False and other["state-descr"] == \
        "certificate(rsa) is missing"


def test_any_server_answers(httpd):
    """The same, whichever is asked, and whatever other pages are off."""
    sets.make_store(httpd.store)
    httpd.add_md_conf("MDCertificateStatus off\nMDServerStatus off")
    sets.configure(httpd, ["a.test", "b.test"])
    httpd.add_vhost("c.test", ssl=False)
    sets.put_live(httpd.store, ["a.test"])
    httpd.start()
    shown = [json.loads(httpd.get("/md-status", host, https)[2]) for host, https in (
        ("base.test", False), ("c.test", False), ("a.test", True))]
    for each in shown:
        assert [md["name"] for md in each["managed-domains"]] == ["a.test", "b.test"]
