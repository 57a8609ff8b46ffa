# SPDX-License-Identifier: Apache-2.0
"""The handler md-metrics: every metric, read by the parsers of Prometheus' client."""
import datetime
import email.utils
import re

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

import scripted_ca as ca_is
import sets
import states
from metrics import ACCEPT, OPEN, TEXT, Metrics, ask
from ocsp_ca import OcspCA, serial_of, tls
from servers import Httpd, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Httpd(tmp_path_factory.mktemp("metrics")) as httpd:
        states.start(httpd)
        yield httpd


def seconds(text):
    return email.utils.parsedate_to_datetime(text).timestamp()


# ---- the form ----

@pytest.mark.parametrize("accept, kind", [
    (None, TEXT), ("*/*", TEXT), ("text/plain", TEXT), (ACCEPT, OPEN), ("application/openmetrics-text", OPEN),
    ("application/openmetrics-text;q=0.3,text/plain;q=0.5", TEXT), ("application/openmetrics-text;q=0", TEXT),
    ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.75", OPEN), ("application/json", TEXT),
    ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT), ("application/openmetrics-text2", TEXT), (",;=q", TEXT)])
def test_formats(server, accept, kind):
    status, headers, body = server.get("/md-metrics", "base.test", headers={"Accept": accept} if accept else {})
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, kind, "no-store")
    assert Metrics(body, kind).get("domains") == len(states.DOMAINS)


def test_both_formats_say_the_same(server):
    both = ask(server), ask(server, "text/plain")
    at = [{key: value for key, value in each.samples.items() if "next_timestamp" not in key[0]} for each in both]
    assert at[0] == at[1] and len(at[0]) > 100
    types = [{re.sub("_total$|_info$", "", family.name): family.type for family in each.families} for each in both]
    assert {name: kind.replace("info", "gauge") for name, kind in types[0].items()} == types[1]


def test_names(server):
    """Base units, and suffixes that tell what it is."""
    for family in ask(server).families:
        assert re.fullmatch("mod_md(_[a-z]+)+", family.name)
        assert family.type in ("gauge", "counter", "histogram", "info") and not family.name.endswith("_total")
        assert not re.search("milli|micro|_ms|_days", family.name)
        assert family.documentation.endswith(".")


def test_methods(server):
    for method, code in (("GET", 200), ("HEAD", 200), ("POST", 501), ("PUT", 501), ("OPTIONS", 501), ("DELETE", 501)):
        answer = server.raw(f"{method} /md-metrics HTTP/1.1\r\nHost: base.test\r\nContent-Length: 0\r\n"
                            "Connection: close\r\n\r\n".encode()).decode()
        assert answer.startswith(f"HTTP/1.1 {code} "), answer[:100]


# ---- what is served ----

@pytest.mark.parametrize("name, state, cert", [
    ("none.test", "incomplete", "missing"), ("failing.test", "complete", "valid"), ("good.test", "complete", "valid"),
    ("later.test", "complete", "not-yet-valid"), ("staged.test", "complete", "valid"), ("expiring.test", "complete", "valid"),
    ("expired.test", "complete", "expired"), ("manual.test", "complete", "valid")])
def test_states(server, name, state, cert):
    shown = ask(server)
    assert shown.one("domain_state", "state", domain=name) == state
    assert shown.one("certificate_state", "state", domain=name, certificate="P-256") == cert


def test_certificates(server):
    """Under the names that md-status has for them."""
    shown = ask(server)
    for name in states.DOMAINS:
        certs = {label: cert["valid"] for label, cert in server.md_status(name)["cert"].items() if label != "valid"}
        for key, metric in ("until", "certificate_not_after_timestamp_seconds"), ("from",
                                                                                   "certificate_not_before_timestamp_seconds"):
            assert {have["certificate"]: value for have, value in shown.all(metric, domain=name)} == {
                label: seconds(valid[key]) for label, valid in certs.items()}, name
    assert shown.one("certificate_state", "state", domain="static.test", certificate="0") == "valid"
    assert shown.one("certificate_state", "state", domain="half.test", certificate="P-256") == "valid"
    assert shown.one("certificate_state", "state", domain="half.test", certificate="P-384") == "missing"


def test_before_the_engine_has_looked(server):
    """Renewals are where the windows say; not for domains that are not renewed here."""
    shown = ask(server)
    for name in "good.test", "none.test", "expiring.test", "later.test":
        at = seconds(server.md_status(name)["renew-at"])
        assert abs(shown.get("renewal_next_timestamp_seconds", domain=name) - at) < 60, name
    for name in "manual.test", "none-manual.test", "static.test":
        assert shown.get("renewal_next_timestamp_seconds", domain=name) is None
    assert not shown.all("renewal_phase") and not shown.all("renewal_failures_total")
    assert shown.sum("renewals_total") == shown.sum("renewal_consecutive_failures") == 0
    assert shown.get("store_usable") == 1 and shown.get("build_info", version=server.md_status()["version"]) == 1


# ---- what goes on ----

def configure(httpd, ca, *names, conf=""):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDRetryDelay 1s\nMDPrivateKeys P-256\n" + conf)
    for name in names:
        httpd.add_md_conf(f"MDomain {name}")
        httpd.add_vhost(name)


def await_metrics(httpd, condition, what):
    return wait_for(lambda: [m for m in [ask(httpd)] if condition(m)], what=what)[0]


def test_a_renewal(httpd, ca):
    """What was counted before a reload counts on after it, as it is what a renewal ends in."""
    configure(httpd, ca, "a.test", "b.test")
    httpd.start()
    shown = await_metrics(httpd, lambda m: m.sum("renewals_total") == 2, "both renewals")
    assert shown.one("renewal_phase", "phase", domain="a.test") == "ready"
    assert shown.get("renewal_next_timestamp_seconds", domain="a.test") is None
    for _ in range(2):
        httpd.graceful()
        shown = await_metrics(httpd, lambda m: not m.all("renewal_phase") and m.get("work_in_flight", kind="renewal") == 0,
                              "a look after the reload")
        assert {have["domain"]: value for have, value in shown.all("renewals_total")} == {"a.test": 1, "b.test": 1}
        assert shown.one("certificate_state", "state", domain="a.test", certificate="P-256") == "valid"
        assert shown.get("certificate_not_after_timestamp_seconds", domain="a.test", certificate="P-256") \
            == httpd.tls_cert("a.test").not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp()
    url = ca.directory_url
    count = shown.sum("ca_requests_total", ca=url)
    assert count == len(ca.requests) >= 10
    assert shown.get("ca_request_duration_seconds_count", ca=url) == count
    assert shown.get("ca_request_duration_seconds_bucket", ca=url, le="+Inf") == count
    assert 0 < shown.get("ca_request_duration_seconds_sum", ca=url) < 60
    assert shown.get("ca_requests_total", ca=url, code="2xx") == count
    assert shown.sum("ca_requests_total", ca="other") == 0


def test_failures(httpd, ca):
    """By the type that the CA gives, and in a row."""
    ca.script("newOrder", ca_is.problem("rejectedIdentifier", "no"), domain="no.test")
    configure(httpd, ca, "no.test", "yes.test")
    httpd.start()
    shown = await_metrics(httpd, lambda m: m.sum("renewals_total") and m.sum("renewal_failures_total"), "both outcomes")
    assert shown.all("renewal_failures_total") == [({"domain": "no.test", "problem": "rejectedIdentifier"}, 1)]
    assert shown.get("renewal_consecutive_failures", domain="no.test") == 1
    assert shown.get("renewal_consecutive_failures", domain="yes.test") == 0
    assert shown.one("renewal_phase", "phase", domain="no.test") == "waiting"
    at = seconds(httpd.md_status("no.test")["renewal"]["next-run"])
    assert shown.get("renewal_next_timestamp_seconds", domain="no.test") == at
    assert shown.get("ca_requests_total", ca=ca.directory_url, code="4xx") >= 1


def test_failures_without_a_problem_document(httpd, ca):
    """A CA that is away, and one that is in trouble, are the CA's affair."""
    configure(httpd, ca, "a.test", conf="MDRetryDelay 1s")
    ca.script("newOrder", ca_is.status(503))
    httpd.start()
    url = ca.directory_url
    shown = await_metrics(httpd, lambda m: m.sum("ca_holds_total"), "a hold")
    assert shown.get("ca_requests_total", ca=url, code="5xx") >= 1
    assert shown.get("ca_holds_total", ca=url, held="requests") >= 1 and not shown.get("ca_holds_total", ca=url, held="orders")
    await_metrics(httpd, lambda m: m.get("ca_held_until_timestamp_seconds", ca=url, held="requests"), "a hold that shows")
    ca.stop()
    shown = await_metrics(httpd, lambda m: m.sum("renewal_failures_total"), "a failure")
    assert {have["problem"] for have, _ in shown.all("renewal_failures_total", domain="a.test")} == {"ca-unavailable"}
    assert shown.get("ca_requests_total", ca=url, code="none") >= 1
    assert shown.get("renewal_consecutive_failures", domain="a.test") >= 1


def test_an_account_that_is_held(httpd, ca):
    """New orders alone are."""
    ca.script("newOrder", ca_is.problem("userActionRequired", "agree", status=403))
    configure(httpd, ca, "a.test")
    httpd.start()
    shown = await_metrics(httpd, lambda m: m.all("ca_held_until_timestamp_seconds"), "a hold")
    (have, until), = shown.all("ca_held_until_timestamp_seconds")
    assert have == {"ca": ca.directory_url, "held": "orders"} and until > datetime.datetime.now().timestamp()
    assert shown.get("ca_holds_total", ca=ca.directory_url, held="orders") >= 1


def test_work_in_flight(httpd, ca):
    """Of five, one thread has four at a time in work."""
    configure(httpd, ca, *[f"d{i}.test" for i in range(5)], conf="MDRenewConcurrency 1")
    rule = ca.script("newOrder", ca_is.hold())
    httpd.start()
    ca.wait_held(rule)
    shown = await_metrics(httpd, lambda m: m.sum("work_in_flight") + m.sum("work_waiting") == 5, "five in all")
    assert shown.get("work_in_flight", kind="renewal") in range(1, 5) and shown.sum("work_in_flight", kind="staple") == 0
    assert {have["phase"] for have, _ in shown.all("renewal_phase")} == {"running"}
    ca.calm()
    shown = await_metrics(httpd, lambda m: m.sum("renewals_total") == 5 and not m.sum("work_in_flight"), "all of them")
    assert shown.sum("work_waiting") == 0


def test_after_the_engine_has_looked(httpd):
    """The next renewal is where md-status says, and a domain that was away begins anew."""
    sets.make_store(httpd.store)
    sets.configure(httpd, ["a.test", "b.test"])
    httpd.add_md_conf("MDInitialDelay 0")
    sets.put_live(httpd.store, ["a.test"])
    httpd.start()
    shown = await_metrics(httpd, lambda m: m.sum("renewal_failures_total", domain="b.test"), "a failure")
    at = seconds(httpd.md_status("a.test")["renew-at"])
    assert shown.get("renewal_next_timestamp_seconds", domain="a.test") == at
    assert shown.get("ca_requests_total", ca=sets.CA_URL, code="none") >= 1
    conf = list(httpd.md_conf), list(httpd.vhosts)
    httpd.md_conf, httpd.vhosts = [line for line in conf[0] if "b.test" not in line], conf[1][:1]
    httpd.graceful()
    assert not ask(httpd).all("renewals_total", domain="b.test")
    httpd.md_conf, httpd.vhosts = conf[0] + ["MDInitialDelay 1h"], conf[1]
    httpd.graceful()
    shown = ask(httpd)
    assert shown.get("renewals_total", domain="b.test") == 0 and not shown.all("renewal_failures_total")
    assert shown.get("ca_requests_total", ca=sets.CA_URL, code="none") >= 1


# ---- stapling ----

def test_stapling(httpd, workdir):
    with OcspCA(workdir / "ocsp") as ocsp:
        pairs = {name: ocsp.issue(name) for name in ("a.test", "bad.test", "away.test", "plain.test")}
        for name in "a.test", "bad.test", "away.test":
            httpd.add_md_conf(f"<MDomain {name}>\nMDCertificateFile {pairs[name][0]}\n"
                              f"MDCertificateKeyFile {pairs[name][1]}\n</MDomain>")
            httpd.add_vhost(name)
        httpd.add_vhost("plain.test", extra=tls(pairs["plain.test"]))
        httpd.add_md_conf("MDStapling on\nMDRetryDelay 1s")
        ocsp.status[serial_of(pairs["bad.test"])] = OCSPCertStatus.REVOKED
        ocsp.status[serial_of(pairs["away.test"])] = OCSPResponseStatus.MALFORMED_REQUEST
        httpd.start()
        shown = await_metrics(httpd, lambda m: len(m.all("staple_this_update_timestamp_seconds")) == 3
                              and m.sum("staple_failures_total"), "responses, and none for one")
        assert [shown.one("staple_status", "status", domain=name, certificate="0")
                for name in ("a.test", "bad.test", "away.test")] == ["good", "revoked", "unknown"]
        assert shown.one("certificate_state", "state", domain="bad.test", certificate="0") == "revoked"
        (other, _), = shown.all("staple_status", domain="other")
        assert re.fullmatch("[0-9a-f]{40}", other["certificate"]) and other["status"] == "good"
        valid = httpd.md_status("a.test")["cert"]["0"]["ocsp"]["valid"]
        for key, metric in ("from", "staple_this_update_timestamp_seconds"), ("until", "staple_next_update_timestamp_seconds"):
            assert shown.get(metric, domain="a.test", certificate="0") == seconds(valid[key])
            assert shown.get(metric, domain="away.test", certificate="0") is None
        assert shown.get("staple_failures_total", domain="a.test", certificate="0") == 0
        failed = shown.get("staple_failures_total", domain="away.test", certificate="0")
        httpd.graceful()
        assert ask(httpd).get("staple_failures_total", domain="away.test", certificate="0") >= failed >= 1


# ---- what must not matter ----

def test_no_domain(httpd):
    httpd.add_vhost("base.test", ssl=False)
    httpd.start()
    for _ in range(2):
        for accept in ACCEPT, "text/plain":
            shown = ask(httpd, accept)
            assert shown.get("domains") == 0 and shown.get("store_usable") == 1
            assert shown.get("build_info", version=httpd.md_status()["version"]) == 1
            assert not shown.all("domain_state") and not shown.all("ca_requests_total")
        httpd.graceful()
    assert not httpd.store.exists()


def test_stapling_without_any_domain(httpd, workdir):
    with OcspCA(workdir / "ocsp") as ocsp:
        httpd.add_md_conf("MDStapling on")
        httpd.add_vhost("one.test", extra=tls(ocsp.issue("one.test")))
        httpd.start()
        shown = await_metrics(httpd, lambda m: m.all("staple_this_update_timestamp_seconds"), "a response")
        assert shown.get("domains") == 0 and shown.one("staple_status", "status", domain="other")


def test_store_that_cannot_be_read(httpd):
    """The page does not even try."""
    sets.make_store(httpd.store)
    sets.configure(httpd, ["good.test", "none.test"])
    httpd.add_md_conf("MDInitialDelay 1h")
    sets.put_live(httpd.store, ["good.test"])
    httpd.start()
    before = ask(httpd)
    for group in "staging", "ocsp", "domains":
        (httpd.store / group).chmod(0)
    shown = ask(httpd)
    assert {k for k in shown.samples if "next" not in k[0]} == {k for k in before.samples if "next" not in k[0]}
    assert shown.one("certificate_state", "state", domain="good.test", certificate="P-256") == "valid"


def test_a_store_in_danger(httpd):
    sets.make_store(httpd.store)
    sets.configure(httpd, ["good.test"])
    sets.put_live(httpd.store, ["good.test"])
    (httpd.store / "domains").chmod(0o777)
    httpd.start()
    assert ask(httpd).get("store_usable") == 0


HOSTILE = ['"a\\"b.test"', "'<script>.test'", "x\u00e4.test", "'a\\\\b.test'", "'{a=\\\"b\\\"}.test'"]


def test_hostile_names(httpd):
    """Whatever a configuration has for a name is one label's value."""
    names = []
    for text in HOSTILE:
        httpd.md_conf = [sets.CONF, f"MDomain {text}\nMDRenewMode manual"]
        if httpd.configtest().returncode == 0:
            names.append(text)
    assert names
    httpd.md_conf = [sets.CONF, "MDRenewMode manual", *[f"MDomain {text}" for text in names]]
    httpd.start()
    shown, told = ask(httpd), [md["name"] for md in httpd.md_status()["managed-domains"]]
    assert sorted(have["domain"] for have, _ in shown.all("domain_state")) == sorted(told) and len(told) == len(names)
    assert not shown.all("domains", a="b")


def test_any_server_answers(httpd):
    sets.make_store(httpd.store)
    httpd.add_md_conf("MDCertificateStatus off\nMDServerStatus off")
    sets.configure(httpd, ["a.test", "b.test"])
    sets.put_live(httpd.store, ["a.test"])
    httpd.start()
    for host, https in ("base.test", False), ("a.test", True):
        assert {have["domain"] for have, _ in ask(httpd, host=host, https=https).all("domain_state")} == {"a.test", "b.test"}
