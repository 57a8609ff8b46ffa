# SPDX-License-Identifier: Apache-2.0
"""Our sections of server-status: labels, phrases and counters that tools search for."""
import email.utils
import hashlib
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

import sets
import states
from ocsp_ca import OcspCA, serial_of, tls
from pages import Page, lines_of
from servers import Httpd, wait_for

COLUMNS = ["Domain", "Names", "Status", "Valid", "CA", "Stapling", "CheckAt", "Activity"]
COUNTERS = [f"ManagedCertificates{what}" for what in ("Total", "OK", "Renew", "Errored", "Ready")]
STAPLINGS = [f"ManagedStaplings{what}" for what in ("Total", "OK", "Renew", "Errored")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Httpd(tmp_path_factory.mktemp("server-status")) as httpd:
        states.start(httpd)
        yield httpd


def ours(text):
    """Without what mod_status itself says, which is not well-formed everywhere."""
    return text[text.index("<hr>\n<h3>Managed"):text.index("</tbody></table>") + len("</tbody></table>")]


def page(server):
    status, _, body = server.get("/server-status", "base.test")
    assert status == 200
    return Page(ours(body))


def rows(server):
    return {cells[0]["text"]: dict(zip(COLUMNS, cells)) for _, cells in page(server).tables["md_status"][1:]}


def auto(server):
    status, headers, body = server.get("/server-status?auto", "base.test")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    return lines_of(body)


def detail(lines, name):
    """The lines of one domain, without their number."""
    number = next(re.search(r"\d+", key)[0] for key, value in lines if key.endswith("]Domain") and value == name)
    return [(key[len(f"ManagedDomain[{number}]"):], value) for key, value in lines
            if key.startswith(f"ManagedDomain[{number}]")]


def day(text):
    return email.utils.parsedate_to_datetime(text).strftime("%Y-%m-%d")


def test_form(server):
    shown = page(server)
    assert shown.headings == ["Managed Certificates"]
    (_, head), *body = shown.tables["md_status"]
    assert [(cell["tag"], cell["class"], cell["text"]) for cell in head] == [("th", c, c) for c in COLUMNS]
    assert [cells[0]["text"] for _, cells in body] == sorted(states.DOMAINS)
    assert [kind for kind, _ in body] == ["even", "odd"] * (len(body) // 2) + ["even"] * (len(body) % 2)


MISSING = "incomplete: certificate(P-256) is missing"
REFUSED = f" Error[Internal error (specific information not available)]: {states.REFUSED} {states.DETAIL} (3 retries)"


@pytest.mark.parametrize("name, status, activity, lines", [
    ("none.test", MISSING, "Pending", [("Activity", "Pending")]),
    ("none-manual.test", MISSING, "Pending", [("Activity", "Pending")]),
    ("renewing.test", MISSING, "the order is processed\nOngoing...",
     [("ActivityFinished", "no"), ("ActivityLastDetail", "the order is processed")]),
    ("refused.test", MISSING, REFUSED + r"\nNext run \d{4}-\d\d-\d\d",
     [("ActivityLastStatus", "Internal error (specific information not available)"), ("ActivityLastProblem", states.REFUSED),
      ("ActivityFinished", "no"), ("ActivityLastDetail", states.DETAIL), ("ActivityNextRun", 6 * 86400)]),
    ("failing.test", "good", REFUSED + r"\nNext run in ~3 hours",
     [("ActivityLastStatus", "Internal error (specific information not available)"), ("ActivityLastProblem", states.REFUSED),
      ("ActivityFinished", "no"), ("ActivityLastDetail", states.DETAIL), ("ActivityNextRun", 13800)]),
    ("good.test", "good", r"Renew \d{4}-\d\d-\d\d", [("ActivityRenew", 59.3 * 86400)]),
    ("damaged.test", "good", r"Renew \d{4}-\d\d-\d\d", [("ActivityRenew", 59.3 * 86400)]),
    ("staged.test", "good", "finished, 1 new certificate staged.\nAwaiting restart",
     [("ActivityFinished", "yes"), ("ActivityNewStaged", "1")]),
    ("first.test", MISSING, "finished, 1 new certificate staged.\nAwaiting restart",
     [("ActivityFinished", "yes"), ("ActivityNewStaged", "1")]),
    ("expiring.test", "good", "Pending", [("Activity", "Pending")]),
    ("expired.test", "expired", "Pending", [("Activity", "Pending")]),
    ("manual.test", "good", "Pending", [("Activity", "Pending")]),
    ("static.test", "good", r"Renew \d{4}-\d\d-\d\d", [("ActivityRenew", 59.3 * 86400)]),
    ("old-static.test", "good", "Pending", [("Activity", "Pending")]),
    ("half.test", "incomplete: certificate(P-384) is missing", "Pending", [("Activity", "Pending")]),
])
def test_states(server, name, status, activity, lines):
    row, told = rows(server)[name], detail(auto(server), name)
    assert row["Status"]["text"] == dict(told)["Status"] == status
    pattern = activity if "\\" in activity or "~" in activity else re.escape(activity)
    if activity.startswith(REFUSED):
        pattern = re.escape(REFUSED) + activity[len(REFUSED):]
    assert re.fullmatch(pattern, row["Activity"]["text"]), row["Activity"]
    shown = [(key, value) for key, value in told if key.startswith("Activity")]
    assert [key for key, _ in shown] == [key for key, _ in lines]
    for (key, value), (_, expected) in zip(shown, lines):
        if not isinstance(expected, str):
            assert -600 < int(value) - expected < 86400, key
        else:
            assert value == expected


def test_validity(server):
    row, told = rows(server), auto(server)
    valid = server.md_status("good.test")["cert"]["valid"]
    cell = row["good.test"]["Valid"]
    assert cell["text"] == "until " + day(valid["until"])
    assert cell["titles"] == [f"{valid['from']} - {valid['until']}"]
    assert dict(detail(told, "good.test"))["ValidUntil"] == day(valid["until"])
    assert "ValidFrom" not in dict(detail(told, "good.test"))
    valid = server.md_status("later.test")["cert"]["valid"]
    assert row["later.test"]["Valid"]["text"] == f"from {day(valid['from'])} until {day(valid['until'])}"
    assert row["later.test"]["Valid"]["titles"] == [valid["from"], f"{valid['from']} - {valid['until']}"]
    assert dict(detail(told, "later.test"))["ValidFrom"] == day(valid["from"])
    assert row["none.test"]["Valid"]["text"] == "" and "ValidUntil" not in dict(detail(told, "none.test"))


def test_names_and_links(server):
    row, told = rows(server)["good.test"], detail(auto(server), "good.test")
    fingerprint = server.md_status("good.test")["cert"]["P-256"]["sha256-fingerprint"]
    assert row["Names"]["text"] == "good.test www.good.test"
    assert (row["CA"]["text"], row["CA"]["links"]) == ("127.0.0.1", [sets.CA_URL])
    assert row["Stapling"]["text"] == ""
    assert row["CheckAt"]["text"] == "crt.sh[P-256]\n"
    assert row["CheckAt"]["links"] == ["https://crt.sh?q=" + fingerprint]
    assert told[:-1] == [
        ("Domain", "good.test"), ("Names[0]", "good.test"), ("Names[1]", "www.good.test"), ("Status", "good"),
        ("ValidUntil", dict(told)["ValidUntil"]), ("CAName", "127.0.0.1"), ("CAURL", sets.CA_URL),
        ("CheckAtType", "P-256"), ("CheckAtName", "crt.sh"), ("CheckAtURL", "https://crt.sh?q=" + fingerprint),
        ("CheckAtFingerprint", fingerprint)]
    assert rows(server)["static.test"]["CheckAt"]["text"] == "crt.sh[0]\n"
    assert rows(server)["none.test"]["CheckAt"]["text"] == ""


def test_times_are_titles(server):
    cell = rows(server)["failing.test"]["Activity"]
    assert cell["titles"] == [server.md_status("failing.test")["renewal"]["next-run"]]
    assert rows(server)["good.test"]["Activity"]["titles"] == [server.md_status("good.test")["renew-at"]]


def test_counters(server):
    """An incomplete one is to be renewed and not OK, a complete one inside its window both; a failure wins."""
    told = auto(server)
    assert [key for key, _ in told[:5]] == COUNTERS and [key for key, _ in told[-4:]] == STAPLINGS
    total, ok, renew, errored, ready = (int(value) for _, value in told[:5])
    complete = [name for name, days in states.DOMAINS.items() if days and name != "half.test"]
    due = {name for name in states.DOMAINS if server.md_status(name).get("renew")}
    assert (total, ok) == (len(states.DOMAINS), len(complete))
    assert renew == len(due)
    assert (errored, ready) == (3, 2)  # refused, failing, hostile; staged, first
    assert {value for _, value in told[-4:]} == {"0"}


def test_hostile_text(server):
    cell = rows(server)["hostile.test"]["Activity"]
    assert "<script>document.title='gone'</script>\"'><img src=x onerror=" in cell["text"]
    assert "&lt;b&gt;" in cell["text"] and len(cell["text"]) < 3000
    lines = detail(auto(server), "hostile.test")
    assert [key for key, _ in lines][-5:-1] == ["ActivityLastStatus", "ActivityLastProblem", "ActivityFinished",
                                              "ActivityLastDetail"]


def test_other_links_and_cas(httpd):
    """All in `MDCertificateCheck` or its other name; several CAs, of which none is in use."""
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["a.test"])
    httpd.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
    httpd.add_md_conf(sets.CONF + "\nMDServerStatus on\nMDCertificateMonitor look http://x.test/\n"
                      "MDomain a.test\n<MDomain b.test>\nMDCertificateAuthority LetsEncrypt Buypass-Test https://ca.test:14/dir\n</MDomain>")
    httpd.add_vhost("a.test", extra="MDCertificateCheck other http://last.test/")
    httpd.start()
    row, told = rows(httpd), detail(auto(httpd), "b.test")
    assert row["b.test"]["CA"]["text"] == "LetsEncrypt Buypass-Test ca.test"
    assert [line for line in told if line[0].startswith("CA")] == [
        ("CAName", "LetsEncrypt"), ("CAURL", "https://acme-v02.api.letsencrypt.org/directory"),
        ("CAName1", "Buypass-Test"), ("CAURL1", "https://api.test4.buypass.no/acme/directory"),
        ("CAName2", "ca.test"), ("CAURL2", "https://ca.test:14/dir")]
    assert row["a.test"]["CheckAt"]["text"] == "other[P-256]\n"
    assert row["a.test"]["CheckAt"]["links"][0].startswith("http://last.test/")


def test_hostile_configuration(httpd):
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["a.test"])
    httpd.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
    httpd.add_md_conf(sets.CONF + "\nMDServerStatus on\nMDCertificateMonitor \"<b>'look\" \"https://x.test/?a=<'&q=\"\n"
                      "MDomain a.test \"b'<i>.test\"")
    httpd.add_vhost("a.test")
    httpd.start()
    row = rows(httpd)["a.test"]
    assert row["Names"]["text"] == "a.test b'<i>.test"
    assert row["CheckAt"]["text"] == "<b>'look[P-256]\n"
    assert row["CheckAt"]["links"][0].startswith("https://x.test/?a=<'&q=")


@pytest.mark.parametrize("conf, html, text", [("", 0, 0), ("MDServerStatus off", 0, 0), ("MDServerStatus on", 0, 9)])
def test_without_domains(httpd, conf, html, text):
    """Off unless it is on; the counters are there nevertheless."""
    httpd.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
    httpd.add_md_conf(conf)
    httpd.start()
    assert httpd.get("/server-status", "base.test")[2].count("Managed") == html
    assert [value for _, value in auto(httpd)] == ["0"] * text


def test_off(httpd):
    sets.make_store(httpd.store)
    sets.configure(httpd, ["a.test"])
    httpd.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
    httpd.start()
    assert not auto(httpd) and "Managed" not in httpd.get("/server-status", "base.test")[2]


# ---- what is stapled ----

OCSP_COLUMNS = ["Domain", "CertificateID", "OCSPStatus", "StaplingValid", "Responder", "Activity"]


@pytest.fixture(scope="module")
def stapling(tmp_path_factory):
    """Responses that say good and revoked, one that is missing, and a certificate without domain."""
    directory = tmp_path_factory.mktemp("staplings")
    with Httpd(directory / "httpd") as httpd, OcspCA(directory / "ocsp") as ocsp:
        httpd.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
        pairs = {name: ocsp.issue(name) for name in ("good.test", "bad.test", "away.test", "plain.test")}
        for name in "good.test", "bad.test", "away.test":
            httpd.add_md_conf(f"<MDomain {name}>\nMDCertificateFile {pairs[name][0]}\nMDCertificateKeyFile {pairs[name][1]}\n"
                              "</MDomain>")
            httpd.add_vhost(name)
        httpd.add_vhost("plain.test", extra=tls(pairs["plain.test"]))
        httpd.add_md_conf("MDStapling on\nMDServerStatus on\nMDRetryDelay 1h")
        ocsp.status[serial_of(pairs["bad.test"])] = OCSPCertStatus.REVOKED
        ocsp.status[serial_of(pairs["away.test"])] = OCSPResponseStatus.MALFORMED_REQUEST
        httpd.start()
        wait_for(lambda: (httpd.store_json("ocsp", "away.test", "job.json") or {}).get("errors")
                 and len(list((httpd.store / "ocsp").glob("*/ocsp-*.json"))) == 3, what="responses")
        yield httpd, ocsp, {name: hashlib.sha1(x509.load_pem_x509_certificate(pair[0].read_bytes()).public_bytes(
            serialization.Encoding.DER)).hexdigest() for name, pair in pairs.items()}


def staplings(httpd):
    text = httpd.get("/server-status", "base.test")[2]
    text = text[text.index("<hr>\n<h3>Managed Staplings"):]
    shown = Page(text[:text.index("</tbody></table>") + len("</tbody></table>")])
    (_, head), *body = shown.tables["md_ocsp_status"]
    assert shown.headings == ["Managed Staplings"]
    assert [(cell["tag"], cell["class"], cell["text"]) for cell in head] == [("th", c, c) for c in OCSP_COLUMNS]
    assert [kind for kind, _ in body] == ["even", "odd"] * (len(body) // 2) + ["even"] * (len(body) % 2)
    return [dict(zip(OCSP_COLUMNS, cells)) for _, cells in body]


def test_staplings(stapling):
    httpd, ocsp, ids = stapling
    rows_of = {row["Domain"]["text"]: row for row in staplings(httpd)}
    assert list(rows_of) == ["away.test", "bad.test", "good.test", "other"]
    told = auto(httpd)
    assert dict(told)["ManagedStaplingsTotal"] == "4" and dict(told)["ManagedStaplingsOK"] == "2"
    assert dict(told)["ManagedStaplingsRenew"] == "1" and dict(told)["ManagedStaplingsErrored"] == "1"
    assert [key for key, _ in told if key.startswith("ManagedStaplings")] == STAPLINGS
    for i, (domain, status, name) in enumerate([("away.test", "unknown", "away.test"), ("bad.test", "revoked", "bad.test"),
                                                ("good.test", "good", "good.test"), ("other", "good", "plain.test")]):
        row = rows_of[domain]
        lines = [(key[len(f"ManagedStapling[{i}]"):], value) for key, value in told if key.startswith(f"ManagedStapling[{i}]")]
        until = [] if domain == "away.test" else [("StaplingValidUntil", row["StaplingValid"]["text"][-10:])]
        assert lines[:5 + len(until)] == [
            ("Domain", domain), ("CertificateID", ids[name]), ("OCSPStatus", status), *until,
            ("ResponderName", "127.0.0.1"), ("ResponderURL", row["Responder"]["links"][0])]
        assert (row["CertificateID"]["text"], row["OCSPStatus"]["text"]) == (ids[name], status)
        assert row["Responder"]["text"] == "127.0.0.1" and row["Responder"]["links"][0].startswith(ocsp.url)
        activity = lines[5 + len(until):]
        assert activity[0][0] == "ActivityRefresh" and int(activity[0][1]) > 0
        if domain != "away.test":
            assert len(activity) == 1
            assert re.fullmatch(r"until \d{4}-\d\d-\d\d", row["StaplingValid"]["text"])
            assert re.fullmatch(r"Refresh (\d{4}-\d\d-\d\d|in ~\d days)", row["Activity"]["text"])
        else:
            assert row["StaplingValid"]["text"] == ""
            assert [key for key, _ in activity[1:]] == ["ActivityLastStatus", "ActivityFinished", "ActivityLastDetail",
                                                       "ActivityNextRun"]
            assert re.fullmatch(r"(?s)Refresh in ~\d+ \w+:  Error\[.+\]:  .+ \(1 retry\)\nNext run in ~\d+ \w+",
                                row["Activity"]["text"]), row["Activity"]["text"]


def test_staplings_by_name(stapling):
    """The times of a response are those that md-status has."""
    httpd, _, _ = stapling
    row = next(row for row in staplings(httpd) if row["Domain"]["text"] == "good.test")
    valid = httpd.md_status("good.test")["cert"]["0"]["ocsp"]["valid"]
    assert row["StaplingValid"]["titles"] == [f"{valid['from']} - {valid['until']}"]


def test_staplings_without_any_domain(httpd, workdir):
    with OcspCA(workdir / "ocsp") as ocsp:
        httpd.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
        httpd.add_md_conf("MDStapling on\nMDServerStatus on")
        httpd.add_vhost("one.test", extra=tls(ocsp.issue("one.test")))
        httpd.start()
        row, = staplings(httpd)
        assert row["Domain"]["text"] == "other" and "Managed Certificates" not in httpd.get("/server-status", "base.test")[2]
