# SPDX-License-Identifier: Apache-2.0
"""Directives in a real httpd: forms, places, what they come to in md.json, what they inherit. The
values themselves are tested to the last detail in test/unit/test_config.c."""
import json
import re
from dataclasses import dataclass

import pytest

from servers import wait_for

ON_OFF = ("sometimes", "supported parameter values are 'on' and 'off'")
DURATION = ("1d12h", "has unrecognized duration format")
WINDOW = [("1y", "has unrecognized format"), ("100%", "a length of 100% or more is not allowed."),
          ("-5d", "must not be negative")]
CA_NAMES = "LetsEncrypt LetsEncrypt-Test Buypass Buypass-Test"


@dataclass
class Directive:
    places: str       # S main server, V vhost, D <MDomain>
    form: str         # number of words: "1", "1-2", "2", "1-" or "0-" for lists, "raw"
    accepted: list
    refused: list     # (words, what is said about them)


def flag(places):
    return Directive(places, "1", ["on", "OFF"], [ON_OFF])


def duration(values, refused=()):
    return Directive("SV", "1", values, [DURATION, *refused])


def path(places="SVD"):
    return Directive(places, "1", ["roots.pem", "/etc/roots.pem", "None"], [])


DEFINITION = Directive("SV", "0-", ["{n}.test", "{n}.test AUTO www.{n}.test", "manual {n}.test",
                                    "*.{n}.test", "'{n}.test' \"www.{n}.test\"", "{n}",
                                    "{n}.test {n}.TEST invalid!.{n}.test"],
                       [("", "must specify a (unique) domain name"),
                        ("auto", "must specify a (unique) domain name")])
MEMBERS = Directive("SVD", "0-", ["auto", "MANUAL"], [])
RENEW_MODE = Directive("SVD", "1", ["auto", '"auto"', "Automatic", "always", "manual", "stick"],
                       [("sometimes", "'sometimes'"), ("manual # why", "takes one argument")])
CHECK = Directive("SVD", "2", ["crt.sh https://crt.sh?q="], [])

DIRECTIVES = {
    "MDomain": DEFINITION,
    "<MDomain": DEFINITION,
    "<MDomainSet": DEFINITION,
    "MDMember": MEMBERS,
    "MDMembers": MEMBERS,
    "MDAccountKey": Directive("SV", "1", ["p256", "RSA3072"], [("p384", "'p256' and 'rsa3072'")]),
    "MDActivation": Directive("SVD", "1", ["reload", "LIVE"], [("now", "'reload' and 'live'")]),
    "MDChallengeDns01Check": Directive("SVD", "1", ["on", "OFF", "5mi"], [("0", "a duration from 1s to 50mi"),
                                                                          ("soon", "'on', 'off' and a duration")]),
    "MDCheckPorts": Directive("SV", "1-", ["http:5002", "http:5002 HTTPS:5001 dns:8053"],
                              [("80:5002", "not '80:5002'"), ("dns:0", "not 'dns:0'")]),
    "MDDnsResolver": Directive("SV", "1-", ["192.0.2.1", "192.0.2.1:5353 [2001:db8::1]:53"],
                               [("dns.test", "'dns.test': no address"), ("192.0.2.1:x", "no valid port")]),
    "MDPreflight": Directive("SV", "1", ["on", "OFF", "auto"], [("maybe", "'on', 'off' and 'auto'")]),
    "MDActivationDelay": duration(["1", "-7d", "10S"]),
    "MDBaseServer": flag("SV"),
    "MDCACertificateFile": path(),
    "MDCAChallenges": Directive("SVD", "0-", ["", "http-01", "tls-alpn-01 HTTP-01 later-99"], []),
    "MDCertificateAgreement": Directive("SVD", "1", ["accepted", "https://ca.test/terms"],
                                        [(word, f"'{word}' is neither 'accepted' nor a URL: ")
                                         for word in ("no", "off", "yes", "I-agree", "/terms")]),
    "MDCertificateAuthority": Directive(
        "SVD", "1-", ["letsencrypt", "LetsEncrypt-TEST BUYPASS buypass-test https://ca.test/dir",
                      "http://[::1]:65535/dir"],
        [("yes", "The CA name 'yes' is not known "), ("yes", CA_NAMES), ("", "takes one argument"),
         ("x buypass", "The CA name 'x' is not known "),
         ("letsencrypt abc", "The CA name 'abc' is not known "),
         ("\nMDRenewMode manual # ...", "takes one argument")]),
    "MDCertificateCheck": CHECK,
    "MDCertificateMonitor": CHECK,
    "MDCertificateFile": Directive("D", "1", ["own.pem", "/etc/own.pem"], []),
    "MDCertificateKeyFile": Directive("D", "1", ["own.key", "/etc/own.key"], []),
    "MDCertificateProtocol": Directive("SVD", "1", ["ACME"], []),
    "MDCertificateStatus": flag("SVD"),
    "MDChallengeDns01": Directive("SVD", "raw", ["", "/bin/dns  'a b' # c"], []),
    "MDChallengeDns01Version": Directive("SV", "1", ["1", "2"],
                                         [("3", "supported versions are 1 and 2")]),
    "MDCheckInterval": duration(["1s", "12H", "90mi"], [("999ms", "less than a second")]),
    "MDContactEmail": Directive("SVD", "1", ["me@example.org", "mailto:me@example.org", "x"], []),
    "MDDriveMode": RENEW_MODE,
    "MDEventLog": Directive("SV", "1", ["events.log", "Off", "/dev/null"], []),
    "MDExternalAccountBinding": Directive(
        "SVD", "1-3", ["kid aG1hYw", "kid aG1hYw hs384", "NONE", "eab.json", "{root}/eab.json"],
        [("missing.json", "file not found: {root}/missing.json"), ("md", "file not found: "),
         ("none.json", "error reading JSON file {root}/none.json"),
         ("no-kid.json", "JSON does not contain 'kid' element"),
         ("no-hmac.json", "JSON does not contain 'hmac' element"),
         ("odd-alg.json", "'RS256': supported algorithms are HS256, HS384 and HS512"),
         ("kid aG1hYw HS1", "'HS1': supported algorithms are HS256, HS384 and HS512")]),
    "MDHttpProxy": Directive(
        "SVD", "1", ["http://localhost:8080", "https://[::1]:65535"],
        [("localhost:8080", "scheme must be http or https"),
         ("https://127.0.0.1:-443", "invalid port"), ("a b c", "takes one argument")]),
    "MDHttpProxyCACertificateFile": path(),
    "MDInitialDelay": duration(["0", "10mi"], [("-1", "must not be negative")]),
    "MDLiveCache": Directive("SV", "1", ["1", "1000000"], [("0", "from 1 to 1000000"), ("many", "from 1 to 1000000")]),
    "MDMatchNames": Directive("SV", "1", ["all", "ServerNames"],
                              [("some", "'all' and 'servernames'")]),
    "MDMessageCmd": Directive("SV", "raw", ["", "/bin/echo  'a b' # c"], []),
    "MDMustStaple": flag("SVD"),
    "MDNotifyCmd": Directive("SV", "raw", ["", "/bin/echo  'a b' # c"], []),
    "MDPortMap": Directive(
        "SV", "1-2", ["80:99", "https:99 http:99", "http:-", "80:- 443:65535"],
        [("80", "no ':'"), ("80:x", "between 1 and 65535"), ("80:65536", "between 1 and 65535"),
         ("80:-x", "between 1 and 65535"), ("81:80", "must be 80 (http) or 443 (https)")]),
    "MDPrivateKeys": Directive(
        "SVD", "0-", ["Default", "RSA", "rsa 2048", "RSA 3072", "rsa3072", "RSA 4096", "secp256r1",
                      "P-256", "P-384", "rsa3072 secp384r1 P-256", "X25519 RSA not-known-yet"],
        [("", "needs to specify the private key type"), ('""', "needs to specify"),
         ("Default RSA 1024", "'Default' allows no other parameter"),
         ("RSA 1024", "must be 2048 or higher"), ("RSAx", "'x' is not a key size"),
         ("rsa 2048 rsa 4096", "two keys of type 'RSA' are not possible"),
         ("p-256 secp384r1 P-256", "two keys of type 'P-256' are not possible"),
         ("2048", "'2048' is not a private key type"), ("RSA 99999999999", "is not a key size")]),
    "MDPreferredChain": Directive("SVD", "1", ['"ISRG Root X1"', "none"], []),
    "MDProfile": Directive("SVD", "1", ["shortlived"], []),
    "MDProfileMandatory": flag("SVD"),
    "MDRenewConcurrency": Directive("SV", "1", ["1", "1000"], [("0", "1 to 1000"),
                                                               ("5x", "1 to 1000")]),
    "MDRenewMode": RENEW_MODE,
    "MDRenewViaARI": flag("SVD"),
    "MDRenewWindow": Directive("SVD", "1", ["0%", "10%", "33d", "40%", "14D", "10", "10000d"],
                               [*WINDOW, ("dec-31", "has unrecognized format"),
                                ("10 d", "takes one argument")]),
    "MDRequireHttps": Directive(
        "SVD", "1", ["off", "Temporary", "permanent"],
        [("yes", "supported parameter values are 'temporary' and 'permanent'")]),
    "MDRetryDelay": duration(["100ms", "30"], [("0", "greater than 0")]),
    "MDArchiveKeep": Directive("SV", "1", ["0", "3", "999"], [("-1", "from 1 to 999"), ("1000", "or 0 to keep all")]),
    "MDRetryFailover": Directive("SV", "1", ["1", "2"], [("0", "greater than 0"),
                                                         ("2x", "greater than 0")]),
    "MDServerStatus": flag("SVD"),
    "MDStapleOthers": flag("SVD"),
    "MDStapling": flag("SVD"),
    "MDStaplingKeepResponse": Directive("SVD", "1", ["7d", "200%"], [WINDOW[0]]),
    "MDStaplingRenewWindow": Directive("SVD", "1", ["7d", "10%"], WINDOW),
    "MDStoreDir": Directive("SV", "1", ["md-other", "/var/lib/md"], []),
    "MDStoreLocks": Directive("SV", "1", ["on", "OFF", "1s", "10"],
                              [("-1s", "'on', 'off' and a duration"),
                               ("sometimes", "'on', 'off' and a duration")]),
    "MDWarnWindow": Directive("SVD", "1", ["100d", "0%"], WINDOW),
}

# What is said when there are too few or too many words, by the form.
COUNT = {
    "1": [("", "takes one argument"), ('""', "takes one argument"), ("a b", "takes one argument")],
    "1-2": [("", "takes 1-2 arguments"), ("a b c", "takes 1-2 arguments")],
    "1-3": [("", "takes 1-3 arguments"), ("a b c d", "takes 1-3 arguments")],
    "2": [("a", "takes 2 arguments"), ("a b c", "takes 2 arguments")],
}


@pytest.fixture
def checker(httpd):
    """An httpd that only reads its configuration, quickly: check(lines) is what it says about it,
    "" if nothing."""
    httpd.MODULES = ("authz_core", "unixd", "mime", "watchdog", "socache_shmcb", "ssl")
    files = {"eab.json": '{"kid": "kid-1", "hmac": "aG1hYw"}', "none.json": "kid",
             "no-kid.json": '{"kid": "", "hmac": "x"}', "no-hmac.json": '{"kid": "k", "hmac": 5}',
             "odd-alg.json": '{"kid": "k", "hmac": "x", "alg": "RS256"}'}
    for name, text in files.items():
        (httpd.dir / name).write_text(text)

    def check(*lines):
        httpd.md_conf = list(lines)
        done = httpd.configtest()
        assert (done.returncode == 0) == ("Syntax OK" in done.stderr), done.stderr
        return "" if done.returncode == 0 else done.stderr
    check.httpd = httpd
    return check


def written(name, words):
    """The line of a directive; sections are empty."""
    if name.startswith("<"):
        return f"{name} {words}>\n</{name[1:]}>"
    return f"{name} {words}"


def put(place, text):
    return {"S": text, "V": f"<VirtualHost *:99>\nServerName v.test\n{text}\n</VirtualHost>",
            "D": f"<MDomain section.test>\n{text}\n</MDomain>"}[place]


def test_all_directives_are_in_the_table(checker):
    checker.httpd.write_conf()
    listed = re.findall(r"^(\S+) \(mod_md\.c\)$", checker.httpd.command("-L").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(DIRECTIVES) and len(listed) == len(set(listed)) == 59


def test_accepted(checker):
    """Every form of every directive in every place, by one reading for each place."""
    root, n = checker.httpd.dir, 0
    for place in "SVD":
        lines = []
        for name, directive in DIRECTIVES.items():
            for words in directive.accepted if place in directive.places else []:
                n += 1
                lines.append(written(name, words.replace("{root}", str(root))
                                     .replace("{n}", f"n{n}")))
        lines.append("mdrenewmode AUTO")
        wrong = checker(put(place, "\n".join(lines)))
        assert not wrong, wrong
    assert not (root / "md").exists()  # reading changes nothing


def check_refused(checker, line, phrase, where):
    phrase = phrase.replace("{root}", str(checker.httpd.dir))
    said = checker(where)
    good = said.count("\n") == 2 and "Syntax error on line" in said and phrase in said
    name = re.match(r"<?\w+", line)[0]
    return [] if good and name in said else [f"{line!r}: {phrase!r} is not in {said!r}"]


@pytest.mark.parametrize("name", DIRECTIVES)
def test_refused(checker, name):
    directive = DIRECTIVES[name]
    anywhere = directive.places[-1]
    problems = []
    for words, phrase in [*COUNT.get(directive.form, []), *directive.refused]:
        line = written(name, words)
        problems += check_refused(checker, line, phrase, put(anywhere, line))
    line = written(name, directive.accepted[-1].replace("{n}", "n"))
    for place in set("SVD") - set(directive.places):
        word = "only" if directive.places == "D" else "not"
        problems += check_refused(
            checker, line, f"is {word} allowed inside an '<MDomain>' section", put(place, line))
    phrase = "cannot occur within <Directory>" if name == "MDRequireHttps" else \
        "not allowed in <Directory> context"
    problems += check_refused(checker, line, phrase, f"<Directory />\n{line}\n</Directory>")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", ["MDMember", "MDMembers"])
def test_members_outside_of_sections(checker, name):
    for line in name, f"{name} auto manual", f"{name} a.org b.org":
        assert "only allowed inside an '<MDomain>' section" in checker(line)
    assert "'auto' or 'manual'" in checker(f"{name} a.org")


def test_require_https_in_containers(checker):
    """<If> is accepted at server level, its condition is never asked; the others are refused."""
    line = "MDRequireHttps temporary"
    for container in "If true", "Files x":
        text = f"<{container}>\n{line}\n</{container.split()[0]}>"
        assert not checker(text) and not checker(put("V", text))
    for container in "Location /", "LocationMatch x", "DirectoryMatch x":
        said = checker(f"<{container}>\n<If true>\n{line}\n</If>\n</{container.split()[0]}>")
        assert "cannot occur within <" in said


@pytest.mark.parametrize("section", ["MDomain", "MDomainSet"])
def test_containers_in_sections(checker, section):
    """What is about hosts or requests would apply to more than the domain: it is refused."""
    for container in ("VirtualHost *:99", "Directory /", "DirectoryMatch x", "Location /",
                      "LocationMatch x", "Files x", "FilesMatch x", "If true", "MDomain x.test",
                      "MDomainSet x.test"):
        name = container.split()[0]
        said = checker(f"<{section} a.test>\n<IfModule md_module>\n<{container}>\n</{name}>",
                       f"</IfModule>\n</{section}>")
        assert f"<{name}> is not allowed inside an '<MDomain>' section" in said, container
    assert "MDomain is not allowed inside" in checker(put("D", "MDomain x.test"))


def test_conditions_in_sections(checker):
    """They work at any depth, around and inside of sections, and so do the rules for places."""
    def nested(text):
        return (f"<IfModule md_module>\n<IfDefine !NO>\n<MDomain a.test>\n<IfModule md_module>\n"
                f"<IfDefine !NO>\n<IfModule !no_module>\n{text}\n</IfModule>\n</IfDefine>\n"
                f"</IfModule>\n<IfDefine NO>\nMDNothing\n</IfDefine>\n</MDomain>\n</IfDefine>\n"
                f"</IfModule>")
    assert not checker(nested("MDMember b.test"))
    assert not checker(put("V", nested("MDCertificateFile x.pem\nMDCertificateKeyFile x.key")))
    assert "MDStoreDir is not allowed inside" in checker(nested("MDStoreDir x"))
    assert "MDomain is not allowed inside" in checker(nested("MDomain b.test"))
    assert "<VirtualHost> is not allowed" in checker(nested("<VirtualHost *:99>\n</VirtualHost>"))
    said = checker(nested("MDRenewMode sometimes"))
    assert "'sometimes'" in said and "Syntax error on line" in said


def test_headers_of_sections(checker):
    assert "missing closing '>'" in checker("<MDomain a.test\n</MDomain>")
    assert "<MDomain> must specify" in checker("<MDomain>\n</MDomain>")
    assert "but saw </MDomainSet>" in checker("<MDomain a.test>\n</MDomainSet>")


def test_dump_reads_no_file(checker):
    """httpd -S may be run by somebody who cannot read secrets."""
    assert "file not found" in checker("MDExternalAccountBinding missing.json")
    assert checker.httpd.command("-S").returncode == 0


# ---- what it comes to ----

LE = "https://acme-v02.api.letsencrypt.org/directory"
LE_TEST = "https://acme-staging-v02.api.letsencrypt.org/directory"
BUYPASS, BUYPASS_TEST = ("https://api.buypass.com/acme/directory",
                         "https://api.test4.buypass.no/acme/directory")
RSA3072 = {"type": "RSA", "bits": 3072}

# path in md.json; default; section and its value; main server and its value (None: the path is
# absent). Where the fourth word is "own", the main server's value is not one of the domain.
PROPERTIES = [
    ("MDCACertificateFile", "ca-certs", None, "/s.pem", "/s.pem", "/m.pem", None),
    ("MDCAChallenges", "ca.challenges", None, "HTTP-01", ["http-01"], "tls-alpn-01 x",
     ["tls-alpn-01", "x"]),
    ("MDCertificateAgreement", "ca.agreement", None, "http://a", "http://a", "accepted",
     "accepted"),
    ("MDCertificateAuthority", "ca.urls", [LE], "https://localhost/dir BUYPASS-test",
     ["https://localhost/dir", BUYPASS_TEST], "letsencrypt-TEST Buypass", [LE_TEST, BUYPASS]),
    ("MDChallengeDns01", "cmd-dns-01", None, "/bin/s  -x 'a b'", "/bin/s  -x 'a b'", "/bin/m",
     None),
    ("MDContactEmail", "contacts", [], "s@x.org", ["mailto:s@x.org"], "mailto:m@x.org",
     ["mailto:m@x.org"]),
    ("MDExternalAccountBinding", "eab", None, "eab.json", {"kid": "kid-1", "hmac": "aG1hYw"},
     "kid-2 bQ", {"kid": "kid-2", "hmac": "bQ"}),
    ("MDHttpProxy", "proxy-url", None, "http://s", "http://s", "http://m", None),
    ("MDHttpProxyCACertificateFile", "proxy-ca-certs", None, "/s.pem", "/s.pem", "/m.pem", None),
    ("MDMembers", "transitive", 1, "manual", 0, "manual", 0),
    ("MDMember", "transitive", 1, "auto", 1, "manual", 0),
    ("MDMustStaple", "must-staple", False, "on", True, "on", True),
    ("MDPrivateKeys", "privkey", None, "P-256 rsa3072",
     [{"type": "EC", "curve": "P-256"}, RSA3072], "rsa 3072", RSA3072),
    ("MDPreferredChain", "preferred-chain", None, '"A Root"', "A Root", "R3", "R3"),
    ("MDProfile", "profile", None, "shortlived", "shortlived", "tlsserver", "tlsserver"),
    ("MDProfileMandatory", "profile-mandatory", False, "on", True, "on", True),
    ("MDDriveMode", "renew-mode", 1, "manual", 0, "manual", 0),
    ("MDRenewMode", "renew-mode", 1, "always", 2, "stick", 0),
    ("MDRenewViaARI", "ari-renewals", True, "off", False, "off", False),
    ("MDRenewWindow", "renew-window", "33%", "10", "10d", "48h", "2d"),
    ("MDRequireHttps", "require-https", None, "temporary", "temporary", "Permanent", "permanent"),
    ("MDStapling", "stapling", False, "on", True, "on", True),
    ("MDWarnWindow", "warn-window", "10%", "90mi", "90mi", "1500ms", "1500ms"),
]
# Cancelled in a section.
CANCELLED = [
    ("MDCACertificateFile", "ca-certs", "NONE", "none"),
    ("MDCAChallenges", "ca.challenges", "", None),
    ("MDExternalAccountBinding", "eab", "None", None),
    ("MDMustStaple", "must-staple", "off", False),
    ("MDPrivateKeys", "privkey", "Default", {"type": "Default"}),
    ("MDRequireHttps", "require-https", "off", None), ("MDStapling", "stapling", "off", False),
]
# Process-wide ones, and what shows that they work.
ELSEWHERE = {
    "MDChallengeDns01Check": "test_dns01_check.py", "MDCheckPorts": "test_preflight.py",
    "MDDnsResolver": "test_preflight.py", "MDPreflight": "test_preflight.py",
    "MDActivation": "test_live.py", "MDLiveCache": "test_live.py",
    "MDAccountKey": "test_hostile_ca.py", "MDArchiveKeep": "test_archive.py", "MDBaseServer": "test_conformance.py",
    "MDEventLog": "test_events.py", "MDMessageCmd": "test_events.py", "MDNotifyCmd": "test_events.py",
    "MDMatchNames": "test_conformance.py", "MDRenewConcurrency": "test_hostile_ca.py",
    "MDStoreLocks": "test_locks.py", "MDCheckInterval": "below", "MDInitialDelay": "below",
    "MDPortMap": "below", "MDRetryDelay": "below", "MDStoreDir": "below",
    "MDCertificateFile": "below", "MDCertificateKeyFile": "below",
    "MDCertificateProtocol": "below", "MDomain": "below", "<MDomain": "below",
    "<MDomainSet": "below",
    "MDStapleOthers": "test_stapling.py", "MDStaplingKeepResponse": "test_ocsp.c",
    "MDStaplingRenewWindow": "test_ocsp.c",
}
WITHOUT_EFFECT = {  # so far, see docs/directives.md
    "MDActivationDelay", "MDCertificateCheck", "MDCertificateMonitor", "MDCertificateStatus",
    "MDChallengeDns01Version", "MDRetryFailover", "MDServerStatus",
}
CHANGING = {"name", "domains", "state", "state-descr"}  # with the names and certificates


def test_every_effect_has_a_test():
    tested = {row[0] for row in PROPERTIES} | set(ELSEWHERE) | WITHOUT_EFFECT
    assert tested == set(DIRECTIVES)


def value_at(document, where):
    for part in where.split("."):
        document = document.get(part) if document else None
    return document


def others(document, where=None):
    """All but what is at this path and what differs anyhow."""
    document = {k: v for k, v in json.loads(json.dumps(document)).items() if k not in CHANGING}
    if where:
        *parents, last = where.split(".")
        value_at(document, parents[0]).pop(last, None) if parents else document.pop(last, None)
    return document


def md_json(httpd, name):
    return httpd.store_json("domains", name, "md.json")


def compare(httpd, rows, expected, default):
    """rows: (domain, path, value); all other properties are those of the document `default`."""
    problems = []
    for name, where, value in rows:
        found = md_json(httpd, name)
        if value_at(found, where) != value:
            problems.append(f"{expected} {name}: {where} is {value_at(found, where)!r}")
        if others(found, where) != others(default, where):
            problems.append(f"{expected} {name}: {others(found)} instead of {others(default)}")
    return problems


def test_effect_and_inheritance(httpd):
    """Section, else main server, wherever in the file, else default; vhosts play no role. Many
    domains in one server, which then gets other settings, and the first again."""
    (httpd.dir / "eab.json").write_text('{"kid": "kid-1", "hmac": "aG1hYw"}')
    delay = "MDInitialDelay 1h"  # nobody talks to a CA here
    sections = [f"<MDomain s{i}.test>\n{row[0]} {row[3]}\n</MDomain>"
                for i, row in enumerate(PROPERTIES)]
    rows = [(f"s{i}.test", row[1], row[4]) for i, row in enumerate(PROPERTIES)]
    cancels = [f"<MDomainSet c{i}.test>\n{name} {words}\n</MDomainSet>"
               for i, (name, _, words, _) in enumerate(CANCELLED)]
    settings = [f"{row[0]} {row[5]}" for row in PROPERTIES]
    other = [f"{row[0]} {row[3]}" for row in PROPERTIES]
    vhost = "\n".join(["<VirtualHost *:99>", "ServerName v.test", *other, "MDomain invhost.test",
                       "<MDomain sectioninvhost.test>", "</MDomain>", "</VirtualHost>"])
    httpd.md_conf = [delay, "MDomain above.test", *sections, *cancels, vhost]
    httpd.start()
    plain = md_json(httpd, "above.test")
    problems = [f"{where} is {value_at(plain, where)!r} by default"
                for _, where, value, *_ in PROPERTIES if value_at(plain, where) != value]
    problems += compare(httpd, rows, "without main server", plain)
    for name in "invhost.test", "sectioninvhost.test":  # vhosts are no level
        problems += compare(httpd, [(name, "name", name)], "in a vhost", plain)

    # The same with settings of the main server, between the definitions.
    httpd.md_conf = [delay, "MDomain above.test", *sections[::2], *settings, *sections[1::2],
                     *cancels, vhost, "<MDomain below.test>\n</MDomain>"]
    httpd.graceful()
    full = md_json(httpd, "above.test")
    by_path = {row[1]: row[6] for row in PROPERTIES}
    problems += [f"{where} is {value_at(full, where)!r} by the main server"
                 for where, value in by_path.items() if value_at(full, where) != value]
    problems += compare(httpd, rows, "with main server", full)
    problems += compare(httpd, [(f"c{i}.test", where, value)
                                for i, (_, where, _, value) in enumerate(CANCELLED)],
                        "cancelled", full)
    for name in "below.test", "invhost.test", "sectioninvhost.test":
        problems += compare(httpd, [(name, "name", name)], "with main server", full)
    assert httpd.md_status("above.test")["eab"] == {"kid": "kid-2", "hmac": "***"}

    # Gone again: defaults, but contacts, which the store keeps.
    httpd.md_conf = [delay, "MDomain above.test"]
    httpd.graceful()
    problems += compare(httpd, [("above.test", "contacts", ["mailto:m@x.org"])], "removed", plain)
    assert not problems, "\n".join(problems)
    assert not [line for line in httpd.problems() if not re.search("AH10045|AH10105|AH10173.*/[ms].pem|no contact is configured|"
                                                               r"no https vhost uses it|has no effect inside|"
                                                               "ACME requires https:", line)]


def test_names_in_sections(httpd):
    """Quoted ones, members, modes; and paths relative to ServerRoot."""
    httpd.md_conf = ["""MDInitialDelay 1h
<MDomain "A.test" 'www.a.test' manual>
MDMember b.TEST auto
MDMembers "c.test" A.test
MDMember
</MDomain>
<MDomainSet manual own.test>
MDCertificateFile own.pem
MDCertificateFile /nowhere/own.pem
MDCertificateKeyFile own.key
MDCertificateKeyFile sub/../own.key
</MDomainSet>
MDomain x.test MANUAL y.test auto Y.test"""]
    httpd.start()
    stored = md_json(httpd, "a.test")
    assert (stored["domains"], stored["transitive"]) == (
        ["a.test", "www.a.test", "b.test", "c.test"], 1)
    stored = md_json(httpd, "own.test")
    assert stored["cert-files"] == [f"{httpd.dir}/own.pem", "/nowhere/own.pem"]
    assert stored["pkey-files"] == [f"{httpd.dir}/own.key"] * 2
    assert (stored["transitive"], stored["renew-mode"]) == (0, 0)
    stored = md_json(httpd, "x.test")
    assert (stored["domains"], stored["transitive"]) == (["x.test", "y.test"], 1)


@pytest.mark.parametrize("where", ["server", "section"])
def test_unknown_protocol(httpd, where):
    lines = ["MDCertificateProtocol other", "MDomain a.test"] if where == "server" else \
        ["<MDomain a.test>", "MDCertificateProtocol acme", "</MDomain>"]
    httpd.md_conf = lines
    httpd.start(expect_success=False)
    httpd.wait_log(r"\[md:error\].*AH10172: md\[a\.test\]: .*'(other|acme)' is not known")
    assert "70023" not in httpd.error_log()  # the platform is not to blame
    wait_for(lambda: not httpd.is_running(), what="end of httpd")


def seconds(pattern, text):
    """The first duration of the log in seconds, as md_duration_print writes them."""
    found = re.search(pattern + r"(?:(\d+) hours? ?)?(?:(\d+) minutes? ?)?(?:(\d+) seconds?)?"
                      r"(?: ?(\d+) ms)?", text)
    hours, minutes, secs, msecs = (int(n or 0) for n in found.groups())
    return 3600 * hours + 60 * minutes + secs + msecs / 1000


def test_process_wide_values(httpd):
    """In a vhost they are those of the server, and the last one counts."""
    httpd.md_conf = [f"""MDCertificateAgreement accepted
MDContactEmail a@example.org
MDCertificateAuthority http://127.0.0.1:1/
MDStoreDir md-first
MDRetryDelay 1d
MDPortMap http:1
MDomain a.test
<VirtualHost *:{httpd.https_port}>
ServerName a.test
MDStoreDir md-other
MDRetryDelay 100s
MDCheckInterval 20s
MDInitialDelay 2s
MDPortMap https:-
</VirtualHost>
MDPortMap http:{httpd.http_port}
"""]
    httpd.start()
    assert not httpd.store.exists() and not (httpd.dir / "md-first").exists()
    httpd.store = httpd.dir / "md-other"
    assert httpd.store_json("httpd.json") == {"proto": {"http": True, "https": False}}
    httpd.wait_log("AH10057")
    log = httpd.error_log()
    times = [float(re.search(rf"\d\d:\d\d:(\d\d\.\d+) .*{number}", log)[1])
             for number in ("AH10054", "AH10055")]
    assert 1.9 < (times[1] - times[0]) % 60 < 10
    assert 50 <= seconds(r"AH10057: .*? in ", log) <= 150
    httpd.wait_log("AH10107", count=1)
    assert seconds(r"AH10107: next run in ", httpd.error_log()) <= 30
