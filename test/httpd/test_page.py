# SPDX-License-Identifier: Apache-2.0
"""md-status as people see it: HTML, the most urgent domain first, in words, sound whatever others wrote."""
import re
import shutil

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

import sets
import states
from ocsp_ca import OcspCA, serial_of
from pages import UNSEEN, Page
from servers import Httpd, run, wait_for

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
TIME = {"in": r"in \d+ (days?|hours?, at \d\d:\d\d|minutes?, at \d\d:\d\d)", "ago": r"\d+ (days?|minutes?) ago"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Httpd(tmp_path_factory.mktemp("page")) as httpd:
        states.start(httpd)
        yield httpd


class Rows(Page):
    """Of the page of all domains: name -> (class, text)."""

    def __init__(self, source):
        self.rows_of, self.depth = [], None
        super().__init__(source)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        kind = dict(attrs).get("class") or ""
        if tag == "div" and kind.startswith("row "):
            self.rows_of.append([kind[4:], ""])
            self.depth = len(self.open)

    def handle_endtag(self, tag):
        if self.depth == len(self.open):
            self.depth = None
        super().handle_endtag(tag)
        if self.depth:
            self.rows_of[-1][1] += " "

    def handle_data(self, data):
        super().handle_data(data)
        if self.depth:
            self.rows_of[-1][1] += data

    def by_name(self):
        return {text.split()[0]: (kind, " ".join(text.split()[1:])) for kind, text in self.rows_of}


def ask(server, path="", accept=BROWSER):
    status, headers, body = server.get("/md-status" + path, "base.test", headers={"Accept": accept} if accept else {})
    assert status == 200
    return headers, body


def page(server, path=""):
    headers, body = ask(server, path)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src" not in headers["Content-Security-Policy"] and "default-src 'none'" in headers["Content-Security-Policy"]
    return Rows(body) if not path else Page(body)


@pytest.mark.parametrize("accept, query, kind", [
    (BROWSER, "", "html"), (None, "", "json"), ("*/*", "", "json"), ("application/json", "", "json"),
    ("text/html;q=0", "", "json"), ("application/json, text/html;q=0.9", "", "json"), ("application/json, text/html", "", "json"),
    ("application/json;q=0.5, text/html", "", "html"), ("text/htmlx", "", "json"), ("text/*", "", "json"),
    (BROWSER, "?format=json", "json"), ("*/*", "?format=html", "html"), (",,;q,", "", "json"),
    ("text/html;q=" + "9" * 400, "", "html"), ("TEXT/HTML", "", "html")])
def test_who_gets_which(server, accept, query, kind):
    headers, body = ask(server, "/good.test" + query, accept)
    assert headers["Content-Type"].split(";")[0] == {"html": "text/html", "json": "application/json"}[kind]
    assert headers["Vary"] == "Accept" and body.startswith("<!DOCTYPE html>" if kind == "html" else "{")


@pytest.mark.parametrize("name, tone, text", [
    ("none-manual.test", "bad", "No certificate Not renewed by this server, as MDRenewMode is manual."),
    ("refused.test", "bad", f"No certificate Failed 3 times: {states.DETAIL} Next attempt <in> ."),
    ("expired.test", "bad", "Expired <ago> Its renewal is due and will begin shortly."),
    ("later.test", "bad", "Not valid yet <in> Renews <in> ."),
    ("first.test", "warn", "No certificate A new certificate is ready. Reload the server to put it into service."),
    ("expiring.test", "warn", "Ends soon expires <in> Its renewal is due and will begin shortly."),
    ("manual.test", "warn", "Ends soon expires <in> Not renewed by this server, as MDRenewMode is manual."),
    ("old-static.test", "warn", "Ends soon expires <in> Its files are renewed by somebody else."),
    ("failing.test", "warn", f"Valid expires <in> Failed 3 times: {states.DETAIL} Next attempt <in> ."),
    ("damaged.test", "warn", "Valid expires <in> The record of its renewal cannot be read: Invalid argument"),
    ("none.test", "busy", "No certificate The server will request one shortly."),
    ("renewing.test", "busy", "No certificate Being obtained: the order is processed"),
    ("staged.test", "busy", "Valid expires <in> A new certificate is ready. Reload the server to put it into service."),
    ("half.test", "busy", "Incomplete certificate(P-384) is missing expires <in> Its renewal is due and will begin shortly."),
    ("static.test", "good", "Valid expires <in> Its files are renewed by somebody else. Due <in> ."),
    ("good.test", "good", "and 1 more name Valid expires <in> Renews <in> .")])
def test_words(server, name, tone, text):
    shown = page(server).by_name()[name]
    pattern = re.escape(text).replace("<in>", TIME["in"]).replace("<ago>", TIME["ago"])
    assert shown[0] == tone and re.fullmatch(pattern, shown[1]), shown


def test_order(server):
    """By urgency, and what ends first comes first."""
    shown = page(server)
    tones = [kind for kind, _ in shown.rows_of]
    assert sorted(tones, key=["bad", "warn", "busy", "good"].index) == tones and len(tones) == len(states.DOMAINS)
    names = list(shown.by_name())
    assert names.index("expiring.test") < names.index("failing.test") < names.index("damaged.test")
    links = [attrs["href"] for tag, attrs in shown.tags if tag == "a"]
    assert links == [f"/md-status/{name}" for name in names] + ["?format=json"]
    assert "4 in trouble" in shown.text and "2 fine" in shown.text


def test_times_on_hover(server):
    """The whole time is the title of each that is told in words."""
    renew_at = server.md_status("good.test")["renew-at"]
    times = [attrs for tag, attrs in page(server).tags if tag == "time"]
    assert renew_at in [attrs["title"] for attrs in times]
    for attrs in times:
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", attrs["title"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", attrs["datetime"])
        assert attrs["datetime"][11:19] == attrs["title"][17:25]


@pytest.mark.parametrize("name", sorted(states.DOMAINS))
def test_one(server, name):
    shown, status = page(server, "/" + name), server.md_status(name)
    assert shown.headings[0] == name
    for label, cert in status["cert"].items():
        if label != "valid":
            for text in (label, cert["serial"], cert["sha256-fingerprint"], cert["issuer-name"], cert["valid"]["until"]):
                assert text in shown.text
    assert ("Log" in shown.headings) == ("log" in status.get("renewal", {}))
    assert ("Renewal" in shown.headings) == ("renewal" in status)
    assert ("New certificates" in shown.headings) == bool(status.get("renewal", {}).get("cert"))


def test_all_that_a_ca_said(server):
    """The log refers to this page for what it cuts off; in front, there is only the beginning."""
    place = server.store / "staging" / "renewing.test" / "job.json"
    before = place.read_text()
    place.write_text(states.json.dumps(states.failed("renewing.test", last={"status": 13, "detail": "word " * 2000 + "end"})))
    try:
        shown = page(server, "/renewing.test").text
        assert ("word " * 2000 + "end") in shown and shown.count("word ") < 2100
        assert len(page(server).by_name()["renewing.test"][1]) < 800
    finally:
        place.write_text(before)


def test_hostile_text(server):
    for path in "", "/hostile.test":
        shown = page(server, path)
        assert "<script>document.title='gone'</script>\"'><img src=x onerror=" in shown.text
        assert not {"script", "img", "i", "b"} & {tag for tag, _ in shown.tags if path == ""}


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium (Debian: apt-get install chromium)")


def in_chromium(server, path, directory):
    """What it makes of a page, as HTML; with nothing in there that others could have put there."""
    shown = run("timeout", "60", CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", f"--user-data-dir={directory}",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom",
                f"http://127.0.0.1:{server.http_port}{path}").stdout
    assert "</html>" in shown and not re.search(r"<(script|img|i|iframe|svg|object|form)\b|<[^>]* on\w+=|>gone<", shown), shown
    assert not UNSEEN & set(map(ord, shown))
    return shown


@needs_chromium
@pytest.mark.parametrize("path, title", [("/md-status/hostile.test", "hostile.test"), ("/md-status", "Managed domains"),
                                         ("/server-status", "Apache Status")])
def test_hostile_text_in_a_browser(server, workdir, path, title):
    shown = in_chromium(server, path, workdir)
    assert f"<title>{title}</title>" in shown
    assert "&lt;script&gt;document.title='gone'&lt;/script&gt;" in shown


# Of vhosts: markup, ways out of attributes, marks that turn text around, bytes that are no UTF-8, and no end. The module
# calls most of them no names of the DNS, and is no less careful with what it takes.
NAMES = ["b'<i>.test", "<script>document.title='gone'</script>.test", "'\"><img src=x onerror=document.title='gone'>.test",
         "x\u202eb.test", "\udcff\udcfe\udc80.test", "y" * 10000 + ".test"]


@needs_chromium
def test_hostile_names_in_a_browser(httpd, workdir):
    sets.make_store(httpd.store)
    httpd.add_md_conf(sets.CONF + "\nMDServerStatus on\n<Location /server-status>\nSetHandler server-status\n</Location>")
    quoted = ['"' + name.replace('"', '\\"') + '"' for name in NAMES]
    for text in quoted:
        httpd.md_conf.append(f"MDomain {text}")
        if httpd.configtest().returncode:
            httpd.md_conf.pop()
    assert len(httpd.md_conf) > 3
    httpd.add_md_conf("MDomain a.test")
    httpd.add_vhost("a.test", [text.replace('"', '"alias-', 1) for text in quoted])
    httpd.start()
    for path in "/md-status", "/server-status":
        in_chromium(httpd, path, workdir)
    for link in [attrs["href"] for tag, attrs in page(httpd).tags if tag == "a"][:-1]:
        in_chromium(httpd, link, workdir)


@pytest.mark.parametrize("extra", ["MDomain \"b'<i>.test\"", "MDomain \"x%y\\\"z\\xe2\\x80\\xae.test\" ", "MDomain *.wild.test"])
def test_hostile_names(httpd, extra):
    sets.make_store(httpd.store)
    httpd.add_md_conf(sets.CONF + "\nMDomain a.test\n" + extra.encode("latin1").decode("unicode_escape").encode("latin1").decode())
    httpd.add_vhost("a.test")
    httpd.start()
    shown = page(httpd)
    links = [attrs["href"] for tag, attrs in shown.tags if tag == "a"][:2]
    for link in links:
        one = Page(httpd.get(link, "base.test", headers={"Accept": BROWSER})[2])
        assert "Configuration" in one.headings, link


def test_without_domains(httpd):
    httpd.start()
    assert "No domains are managed" in page(httpd).text
    assert "No domains are managed" in page(httpd, "/a.test").text


def test_below_another_path(httpd):
    """Links lead to where the handler is, whatever its address has to be escaped for."""
    sets.make_store(httpd.store)
    sets.configure(httpd, ["a.test"])
    httpd.global_conf.append('<Location "/ops/md \'<b>status">\nSetHandler md-status\n</Location>')
    httpd.start()
    base = "/ops/md%20'%3cb%3estatus"
    shown = Page(httpd.get(base + "/?format=html", "base.test")[2])
    link, = [attrs["href"] for tag, attrs in shown.tags if tag == "a" and "a.test" in attrs["href"]]
    assert Page(httpd.get(link + "?format=html", "base.test")[2]).headings[0] == "a.test", link


def test_the_store_cannot_be_read(httpd):
    sets.make_store(httpd.store)
    sets.put_live(httpd.store, ["a.test"])
    sets.configure(httpd, ["a.test"])
    httpd.start()
    httpd.store.rename(httpd.dir / "gone")
    httpd.store.write_text("no directory")
    assert "Valid expires" in page(httpd).by_name()["a.test"][1]
    assert "Certificates in service" in page(httpd, "/a.test").headings


def test_what_ocsp_says(httpd, workdir):
    """A certificate that was revoked is in trouble, whatever its dates say."""
    with OcspCA(workdir / "ocsp") as ocsp:
        pairs = {name: ocsp.issue(name) for name in ("good.test", "bad.test", "away.test")}
        for name, pair in pairs.items():
            httpd.add_md_conf(f"<MDomain {name}>\nMDCertificateFile {pair[0]}\nMDCertificateKeyFile {pair[1]}\n</MDomain>")
            httpd.add_vhost(name)
        httpd.add_md_conf("MDStapling on")
        ocsp.status[serial_of(pairs["bad.test"])] = OCSPCertStatus.REVOKED
        ocsp.status[serial_of(pairs["away.test"])] = OCSPResponseStatus.MALFORMED_REQUEST
        httpd.start()
        wait_for(lambda: len(list((httpd.store / "ocsp").glob("*/ocsp-*.json"))) == 2, what="responses")
        rows = page(httpd).by_name()
        assert rows["bad.test"][0] == "bad" and rows["bad.test"][1].startswith("Revoked expires in "), rows["bad.test"]
        assert "somebody else" in rows["bad.test"][1]
        assert rows["good.test"][0] == rows["away.test"][0] == "good"
        for name, text in ("good.test", "good the response expires in "), ("bad.test", "revoked the response expires in "), \
                ("away.test", "no response yet"):
            shown = Page(ask(httpd, "/" + name)[1]).text
            assert "OCSP" + text in shown, shown


def test_why_it_is_renewed(server):
    for name, reason in ("failing.test", "its renewal window is open"), ("refused.test", "a certificate is missing"):
        assert "Reason" + reason in Page(ask(server, "/" + name)[1]).text
    assert "Reason" not in Page(ask(server, "/good.test")[1]).text
