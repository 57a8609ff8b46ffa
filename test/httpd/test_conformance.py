# SPDX-License-Identifier: Apache-2.0
"""What other checks of such a module expect of configurations and of what becomes of them.

What is tested elsewhere:

  forms and phrases of directives, defaults, inheritance       test_directives.py
  settings removed again, contacts kept, MDStoreDir            test_directives.py
  permissions, key types, rsa + EC, tls-alpn-01 with specs     test_main_job.py
  wildcard overlap, rename by another first name               test_main_job.py
  httpd.json and foreign files damaged, md_store.json          test_main_job.py, test_damage.py
  staged md.json damaged (AH10069), challenges empty at last   test_main_job.py
  challenge requests without or with odd hosts and methods     test_main_job.py
  static files served, redirects by method, MDStoreLocks       test_static.py, test_locks.py
  configured CA names, EAB files, port maps, windows           test_directives.py
  one domain's problem harms no other                          test_isolation.py

What is done better than in 2.6.11, by the number of the advice (appendix B):

   1 no crash without a host name    test_main_job.py: test_strange_challenge_requests
   2 tls-alpn-01 by the domain's     test_challenge_types: RSA first, else whatever pair is there
     key types
   3 temporary certificates          test_fallback_is_kept_and_refreshed, test_fallback
   4 unusable key types              test_isolation.py; temporary ones are always P-256
   5 symmetric overlaps              test_refused_at_start, test_main_job.py
   6 equal names with servernames    test_refused_at_start
   7 file and line of definitions    test_refused_at_start
   8 vhosts are no level             test_directives.py: test_effect_and_inheritance
   9 server-wide ones in vhosts      test_directives.py: test_accepted, test_process_wide_values
  10 `none` in sections              test_directives.py: CANCELLED
  11 MDStapling off in a section     test_stapling.py: test_which_certificates
  12 failures by CA                  test_failover.py: test_the_first_follows_the_last
  13 any change is written           test_directives.py: test_effect_and_inheritance
  14 challenges of secondary names   test_clean_up_of_challenges
  15 all certificates preloaded      test_main_job.py: test_key_types
  16 log of `installed`              test_static_certificates_always
  17 trailing garbage refused        test_directives.py: test_refused
  18 negative windows refused        test_directives.py: test_refused
  19 port 65535, [IPv6] in URIs      test_directives.py: MDHttpProxy, MDCertificateAuthority
  20 <MDomain auto> has no name      test_directives.py: test_refused
  21 MDCertificateMonitor            test_directives.py
  22 empty commands are unset        accepted (test_directives.py); commands come later
  23 the worker cannot start         the start fails: AH10061, AH10066, AH10067
  24 fewer lines in the log          test_certificate_files_of_the_vhost, test_accepted_set_ups,
                                     test_base_server
  25 tokens are not checked          test_main_job.py: test_http_01_answers
  26 http-01 before the TLS module   test_challenges_of_others
  27 the dry run changes the store   test_damage.py, test_locks.py: the result is the same
"""
import datetime
import json
import os
import re
import shutil
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from servers import make_pair, wait_for

# The levels of all numbers that a start, or a run, may write (APPENDIX A of the specification).
LEVELS = {
    "error": "10038 10042 10046 10047 10056 10069 10081 10082 10170 10171 10172 10173 10174 10238 "
             "10398",
    "warn": "10040 10045 10105",
    "notice": "10059 10064 10515 10517",
    "info": "10057 10068 10071 10080",
    "debug": "10037 10039 10041 10044 10052 10054 10055 10058 10067 10074 10075 10077 10084 10107 "
             "10113 10116 10168 10169 10237 10512 10513 10514 10516 10518",
    "trace1": "10070",
}
LEVEL_OF = {f"AH{n}": level for level, numbers in LEVELS.items() for n in numbers.split()}
AS_LOW = {"AH10037": "trace1", "AH10039": "trace1", "AH10055": "trace1", "AH10107": "trace1",
          "AH10515": "debug", "AH10517": "debug"}


def numbers(httpd):
    """Those that were logged; all must be known and of their level."""
    found = set()
    for level, number in re.findall(r"\[md:(\w+)\].*?(AH\d+)", httpd.error_log()):
        assert level in (LEVEL_OF.get(number), AS_LOW.get(number)), f"{number} is of level {level}"
        found.add(number)
    return found


def lines(httpd, number):
    return [line for line in httpd.error_log().splitlines() if f"{number}: " in line]


def stored(httpd, name):
    return httpd.store_json("domains", name, "md.json")


def vhost(httpd, name, *aliases, address=None, extra="", ssl=True):
    """At any address, also at one that nobody listens on."""
    httpd.vhosts.append("\n".join(
        [f"<VirtualHost {address or f'*:{httpd.https_port if ssl else httpd.http_port}'}>",
         f"ServerName {name}", *(f"ServerAlias {a}" for a in aliases),
         f"DocumentRoot {httpd.docroot}", "SSLEngine on" if ssl else "", extra, "</VirtualHost>"]))


def names_of(cert):
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return san.value.get_values_for_type(x509.DNSName)


NO_RUN = "MDInitialDelay 1h"  # nobody talks to a CA


# ---- configurations that are accepted ----

def test_accepted_set_ups(httpd):
    """Domains and vhosts of all kinds side by side in one server."""
    httpd.log_level = "info md:trace1"
    httpd.add_md_conf(f"""{NO_RUN}
MDomain unused.test
MDomain base.test
MDomain *.only-wild.test
<MDomain always.test>
MDRenewMode always
</MDomain>
<MDomain manually.test>
MDRenewMode manual
</MDomain>
MDomain server.test
MDomain alias.test
MDomain several.test auto
MDomain manual.test manual
MDomain plain1.test
MDomain plain2.test
MDomain elsewhere.test
MDomain *.wild.test
<MDomain https.test>
MDRequireHttps permanent
</MDomain>
<MDomain address.test>
MDCAChallenges tls-alpn-01
</MDomain>
<VirtualHost *:99>
ServerName far.test
MDomain far.test
<MDomain far2.test>
</MDomain>
</VirtualHost>""")
    alpn = "Protocols http/1.1 acme-tls/1"
    vhost(httpd, "server.test", extra=alpn)
    vhost(httpd, "Unnamed.test", "ALIAS.test", "another.test", "*.pattern.test", "x?.test",
          extra=alpn)
    vhost(httpd, "several.test", "b.several.test")
    vhost(httpd, "a.several.test", "several.test", "b.several.test", extra=alpn)
    vhost(httpd, "manual.test", "gap1.test", "gap2.test")
    vhost(httpd, "gap1.test", "manual.test", address="10.0.0.1:443")
    vhost(httpd, "plain1.test", "plain2.test", "shared.test", ssl=False)
    vhost(httpd, "shared.test", "plain2.test", "plain1.test", ssl=False)
    vhost(httpd, "elsewhere.test", ssl=False)
    vhost(httpd, "elsewhere.test", address="10.0.0.1:443", extra=alpn)
    vhost(httpd, "address.test", address="10.0.0.2:443", extra=alpn)
    vhost(httpd, "sub.wild.test", "two.wild.test", "wild.test", ssl=False)
    vhost(httpd, "https.test", ssl=False)
    httpd.start()
    names = {path.name: stored(httpd, path.name)["domains"]
             for path in (httpd.store / "domains").iterdir()}
    assert names.pop("alias.test") == ["alias.test", "unnamed.test", "another.test"]
    assert names.pop("several.test") == ["several.test", "b.several.test", "a.several.test"]
    assert names == {name: [name] for name in names} and len(names) == 15
    acme_tls = {name: found for name in [*names, "alias.test", "several.test"]
                if (found := stored(httpd, name)["proto"]["acme-tls/1"])}
    assert acme_tls == {  # by the vhost that the CA would reach, on any port if it is demanded
        "server.test": ["server.test"],
        "alias.test": ["alias.test", "unnamed.test", "another.test"],
        "several.test": ["a.several.test"], "address.test": ["address.test"]}
    unmatched = {re.search(r"Domain (\S+)", line)[1] for line in lines(httpd, "AH10045")}
    unused = {"unused.test", "base.test", "*.only-wild.test", "far2.test"}
    assert unmatched == {*unused, "manually.test"}
    warned = [re.search(r"Host (\S+) .*name/alias (\S+)", line).groups()
              for line in lines(httpd, "AH10040")]
    assert warned == [(f"manual.test:{httpd.https_port}", "gap1.test"),
                      (f"manual.test:{httpd.https_port}", "gap2.test")]
    assert ["https.test" in line for line in lines(httpd, "AH10105")] == [True]
    status = {md["name"]: md["watched"] for md in httpd.md_status()["managed-domains"]}
    assert {name for name, watched in status.items() if not watched} == unused
    assert all(stored(httpd, name)["state"] == 1 for name in status)
    assert stored(httpd, "server.test")["state-descr"] == "certificate(rsa) is missing"
    expected = ("AH10037 AH10039 AH10040 AH10041 AH10045 AH10067 AH10070 AH10071 AH10074 AH10105 "
                "AH10113 AH10116 AH10168 AH10169")
    assert set(expected.split()) <= numbers(httpd)
    matches = " ".join(lines(httpd, "AH10041"))
    assert f"Server sub.wild.test:{httpd.http_port} matches md *.wild.test for" in matches

    # An expression is never asked.
    httpd.add_md_conf("<If \"%{HTTPS} == 'off'\">\nMDRequireHttps temporary\n</If>")
    httpd.graceful()
    assert {stored(httpd, name)["require-https"] for name in status} == {"temporary", "permanent"}
    assert httpd.get("/", "plain1.test")[0] == 302
    assert {line.split("MD ")[1].split()[0] for line in lines(httpd, "AH10105")} >= {
        "unused.test", "plain1.test", "always.test"}
    numbers(httpd)

    # Without a domain that needs watching.
    httpd.md_conf, httpd.vhosts = [NO_RUN, "MDomain unused.test"], []
    httpd.graceful()
    httpd.wait_log(r"\[md:debug\].*AH10075")
    assert stored(httpd, "always.test")  # what is not configured any more stays in the store


def test_match_names(httpd):
    """By server names alone: aliases may be shared, an exact name beats a wildcard."""
    httpd.add_md_conf(f"""{NO_RUN}
MDMatchNames servernames
MDContactEmail admin@example.org
MDomain *.test.org
MDomain one.test.org
MDomain one.test shared.test manual
MDomain two.test shared.test manual""")
    for name in "one.test.org", "two.test.org", "one.test", "two.test":
        vhost(httpd, name, "shared.test")
    httpd.start()
    found = [re.search(r"Server (\S+):\d+ matches md (\S+) ", line).groups()
             for line in lines(httpd, "AH10041")]
    assert set(found) == {("one.test.org", "one.test.org"), ("two.test.org", "*.test.org"),
                          ("one.test", "one.test"), ("two.test", "two.test")}
    assert stored(httpd, "*.test.org")["domains"] == ["*.test.org", "shared.test"]
    assert not [line for line in httpd.problems() if "AH10040" not in line and "dns-01" not in line]


@pytest.mark.parametrize("mode", ["all", "servernames"])
def test_wildcard_with_one_label(httpd, mode):
    """It covers no ServerName, but overlaps with other names."""
    httpd.add_md_conf(f"{NO_RUN}\nMDMatchNames {mode}\nMDomain *.single\nMDomain *.two.labels")
    for name in "foo.single", "foo.labels", "foo.two.labels", "single":
        vhost(httpd, name, ssl=False)
    httpd.start()
    found = {re.search(r"Server (\S+):\d+ matches md (\S+) ", line).groups()
             for line in lines(httpd, "AH10041")}
    assert found == {("foo.two.labels", "*.two.labels")}
    httpd.add_md_conf("MDMatchNames all\nMDomain foo.single")
    assert "AH10038" in httpd.configtest().stderr


@pytest.mark.parametrize("alias, found", [
    ("*.one.test", ["a.one", "b.one", "deep.a.one"]), ("WWW.*", ["www.two"]), ("a.*.test", ["a.one"]),
    ("*.a.*", ["deep.a.one"]), ("?.one.test", ["a.one", "b.one"]), ("*one.test", ["a.one", "b.one", "deep.a.one"]),
    ("*.Two.*", ["www.two"]), ("*.three.*", []), ("deep.*e.test", ["deep.a.one"]), ("*.on?.test", [
        "a.one", "b.one", "deep.a.one"]), ("*", ["a.one", "b.one", "deep.a.one", "www.two"]), ("on*", []),
])
def test_wildcards_of_aliases(httpd, alias, found):
    """They match as httpd matches, wherever their wildcards are."""
    names = ["a.one", "b.one", "deep.a.one", "www.two"]
    httpd.add_md_conf("\n".join([NO_RUN, *(f"MDomain {name}.test" for name in names)]))
    vhost(httpd, "server.test", alias, ssl=False)
    httpd.start()
    assert sorted(re.search(r"matches md (\S+)\.test for domain \1\.test", line)[1]
                  for line in lines(httpd, "AH10041")) == sorted(found * 2)  # dry and real


@pytest.mark.parametrize("conf, vhosts, pattern", [
    ("MDomain a.test\nMDomain a.test", [], r"AH10038: .*'a\.test', first definition in "
     r"\S+httpd\.conf:(\d+), second in \S+httpd\.conf:(\d+)"),
    ("MDomain a.test b.test\n<MDomain c.test>\nMDMember B.test\n</MDomain>", [],
     r"AH10038: .*'b\.test'"),
    ("MDomain a.x.test\nMDomain *.x.test", [], r"AH10038: .*'\*\.x\.test'"),
    ("MDMatchNames servernames\nMDomain a.test\nMDomain a.test b.test", [],
     r"AH10038: .*'a\.test'"),
    ("MDomain a.test\nMDomain b.test", ["a.test", "b.test"], r"AH10(?:042|238): conflict: 2 MDs"),
    ("<MDomain a.test>\nMDCertificateFile x.pem\n</MDomain>", ["a.test"], r"AH10170: .*'a\.test', "
     r"defined in \S+httpd\.conf:\d+, needs one MDCertificateKeyFile"),
    ("<MDomain a.test>\nMDCertificateFile x\nMDCertificateFile y\nMDCertificateKeyFile k\n"
     "</MDomain>", [], r"AH10170: "),
    ("<MDomain a.test>\nMDCertificateKeyFile x.pem\n</MDomain>", [],
     r"AH10171: .*'a\.test'.* no MDCertificateFile"),
])
def test_refused_at_start(httpd, conf, vhosts, pattern):
    httpd.add_md_conf(conf)
    if vhosts:
        vhost(httpd, *vhosts)
    tested = httpd.configtest()
    assert tested.returncode != 0 and re.search(pattern, tested.stderr), tested.stderr
    assert httpd.start(expect_success=False).returncode != 0
    found = re.search(r"\[md:error\].*" + pattern, httpd.error_log())
    assert found and not httpd.is_running()
    if found.groups():
        assert int(found[2]) == int(found[1]) + 1
    numbers(httpd)


def test_two_domains_on_a_server_with_a_certificate(httpd, workdir):
    """The TLS module would be content, but whose names and challenges are they?"""
    cert, key = make_pair(workdir, "own", "DNS:a.test")
    httpd.add_md_conf("MDomain a.test\nMDomain b.test")
    vhost(httpd, "a.test", "b.test",
          extra=f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}")
    httpd.start(expect_success=False)
    httpd.wait_log(r"\[md:error\].*AH10042: conflict: 2 MDs match to SSL VirtualHost a\.test")
    wait_for(lambda: not httpd.is_running(), what="end of httpd")
    assert {"AH10042", "AH10238"} <= numbers(httpd)


def test_store_that_cannot_be_prepared(httpd):
    httpd.store.mkdir()
    (httpd.store / "challenges").write_text("no directory")
    httpd.add_md_conf("MDomain a.test")
    assert httpd.start(expect_success=False).returncode != 0
    assert "AH10047" in numbers(httpd)


def test_without_tls_module(httpd):
    """No server has certificates: nothing is added, domains are matched and renewed."""
    httpd.MODULES = tuple(m for m in httpd.MODULES if m not in ("ssl", "socache_shmcb"))
    httpd.add_md_conf(f"{NO_RUN}\nMDRequireHttps temporary\nMDomain a.test")
    vhost(httpd, "a.test", "www.a.test", ssl=False)
    httpd.start()
    assert stored(httpd, "a.test")["domains"] == ["a.test"]
    assert httpd.md_status("a.test")["watched"] is True
    assert {"AH10105", "AH10074"} <= numbers(httpd) and "AH10113" not in numbers(httpd)


def test_port_map(httpd):
    """What listens where decides what the CA can reach."""
    http, https = httpd.http_port, httpd.https_port
    httpd.add_md_conf(f"{NO_RUN}\nMDomain a.test")
    rows = [("80:99", False, True), ("https:99 http:99", False, False), ("http:-", False, True),
            ("443:-", True, False), (f"80:{https} 443:{http}", True, True),
            (f"80:{http} 443:{https}", True, True)]
    for i, (ports, *expected) in enumerate(rows):
        httpd.md_conf[1:] = [f"MDPortMap {ports}"]
        httpd.graceful() if i else httpd.start()
        assert httpd.store_json("httpd.json")["proto"] == dict(zip(("http", "https"), expected))
    (httpd.store / "httpd.json").unlink()
    httpd.graceful()
    assert not (httpd.store / "httpd.json").exists()  # as it is taken for granted


# ---- the main server ----

@pytest.mark.parametrize("ports, alpn, works", [("", False, True), ("http:-", False, False),
                                                ("http:-", True, True)])
def test_base_server(env, ports, alpn, works):
    env.add_md_conf("MDBaseServer on\nMDomain base.test")
    if ports:
        env.add_md_conf(f"MDPortMap {ports}")
    env.add_md_conf("SSLEngine on\nProtocols http/1.1 acme-tls/1" if alpn else "")
    env.start()
    if works:
        env.await_md("base.test")
    else:
        env.wait_log("AH10056")
        assert "AH10173" in numbers(env)
        assert all(re.search(r"AH10(056|173|045)", line) for line in env.problems())
    assert stored(env, "base.test")["proto"]["acme-tls/1"] == (["base.test"] if alpn else [])


@pytest.mark.parametrize("main, expected", [
    ("MDBaseServer on\nSSLEngine on", {"base.test", "vhost.test", "gone.test", "none.test"}),
    ("MDBaseServer on", {"vhost.test"}),
    ("MDBaseServer off", {"vhost.test"}),
])
def test_main_server_as_last_resort(httpd, main, expected):
    """It takes the handshakes for names that no vhost has, if it does TLS at all."""
    alpn = "Protocols http/1.1 acme-tls/1"
    httpd.add_md_conf(f"{NO_RUN}\n{main}\n{alpn}\nMDomain base.test\nMDomain none.test\n"
                      "MDomain vhost.test gone.test")
    vhost(httpd, "vhost.test", extra=alpn)
    httpd.start()
    found = [stored(httpd, name)["proto"]["acme-tls/1"] for name in
             ("base.test", "none.test", "vhost.test")]
    assert set(sum(found, [])) == expected


@pytest.mark.parametrize("challenges, expected", [
    ("", {"a.test", "one.pattern.test", "late.test", "far.test"}),
    ("MDCAChallenges tls-alpn-01", {"a.test", "one.pattern.test", "*.wild.test", "two.test", "late.test",
                                    "far.test"}),
])
def test_vhost_for_each_name(httpd, challenges, expected):
    """By ServerName, alias, pattern and wildcard; the first with the port, or any with acme-tls/1."""
    alpn = "Protocols http/1.1 acme-tls/1"
    httpd.add_md_conf(f"{NO_RUN}\n<MDomain a.test *.wild.test one.pattern.test two.test late.test far.test "
                      f"none.test manual>\n{challenges}\n</MDomain>")
    vhost(httpd, "A.test", "?ne.Pattern.*", extra=alpn)
    vhost(httpd, "sub.WILD.test", "two.test", "one.pattern.test", extra="Protocols http/1.1")
    vhost(httpd, "x.wild.test", "TWO.test", extra=alpn)
    vhost(httpd, "far.test", "late.test", address="10.0.0.1:443", extra=alpn)
    vhost(httpd, "late.test", "far.test", "no.pattern.test", extra=alpn)
    httpd.start()
    assert set(stored(httpd, "a.test")["proto"]["acme-tls/1"]) == expected


# ---- the store after a start ----

def reconfigure(httpd, *conf):
    httpd.md_conf = [NO_RUN, *conf]
    if httpd.pid_path.exists():
        httpd.graceful()
    else:
        httpd.start()


def all_names(httpd):
    return {path.name: stored(httpd, path.name)["domains"]
            for path in (httpd.store / "domains").iterdir()}


def test_contacts(httpd):
    """Main server's address, or that of the first vhost; kept when it is gone."""
    vhost(httpd, "v1.test", ssl=False)
    vhost(httpd, "v2.test", "one.test", ssl=False, extra="ServerAdmin admin@v2.test")
    vhost(httpd, "v3.test", "one.test", "two.test", ssl=False,
          extra="MDContactEmail md@v3.test\nServerAdmin admin@v3.test")
    reconfigure(httpd, "MDomain one.test", "MDomain two.test", "MDomain three.test")
    assert [stored(httpd, f"{name}.test")["contacts"] for name in ("one", "two", "three")] == [
        ["mailto:admin@v2.test"], ["mailto:md@v3.test"], []]
    assert {"AH10044", "AH10237"} <= numbers(httpd)
    reconfigure(httpd, "ServerAdmin https://me.test/", "MDomain one.test", "MDomain three.test")
    assert [stored(httpd, f"{name}.test")["contacts"] for name in ("one", "two", "three")] == [
        ["https://me.test/"], ["mailto:md@v3.test"], ["https://me.test/"]]
    reconfigure(httpd, "MDomain three.test")
    assert stored(httpd, "three.test")["contacts"] == ["https://me.test/"]


def test_names_in_the_store(httpd):
    reconfigure(httpd, "MDomain A.test b.TEST c.test", "MDomain d.test")
    assert all_names(httpd) == {"a.test": ["a.test", "b.test", "c.test"], "d.test": ["d.test"]}
    marker = httpd.store / "domains/a.test/marker"
    marker.write_text("the directory of the first")
    reconfigure(httpd, "MDomain a.test c.test b.test", "MDomain d.test")  # another order
    assert all_names(httpd)["a.test"] == ["a.test", "c.test", "b.test"]
    reconfigure(httpd, "MDomain b.test c.test", "MDomain d.test")  # the first one removed
    assert all_names(httpd) == {"b.test": ["b.test", "c.test"], "d.test": ["d.test"]}
    assert stored(httpd, "b.test")["name"] == "b.test"
    assert (httpd.store / "domains/b.test/marker").exists()
    reconfigure(httpd, "MDomain b.test", "MDomain d.test c.test")  # moved to the other
    assert all_names(httpd) == {"b.test": ["b.test"], "d.test": ["d.test", "c.test"]}
    reconfigure(httpd, "MDomain x.test b.test", "MDomain y.test")  # one renamed, one new
    assert all_names(httpd) == {"x.test": ["x.test", "b.test"], "y.test": ["y.test"],
                                "d.test": ["d.test", "c.test"]}
    reconfigure(httpd, "MDomain x.test b.test y.test")  # merged into one
    assert all_names(httpd)["x.test"] == ["x.test", "b.test", "y.test"]
    assert (httpd.store / "domains/x.test/marker").exists()
    assert not [line for line in httpd.problems() if "AH10045" not in line]


def test_clean_up_of_challenges(httpd):
    """Directories of configured names stay, also those of names that vhosts add; in a store that is
    a link."""
    (httpd.dir / "elsewhere").mkdir()
    httpd.store.symlink_to("elsewhere")
    httpd.add_md_conf(f"{NO_RUN}\nMDomain a.test b.test\nMDomain *.wild.test")
    vhost(httpd, "a.test", "added.test")
    httpd.start()
    kept = {"a.test", "b.test", "added.test", "wild.test", "x.wild.test"}
    for name in kept | {"foreign.test", "x.a.test"}:
        place = httpd.store / "challenges" / name
        place.mkdir()
        (place / "acme-http-01.txt").write_text("x")
    httpd.graceful()
    assert {path.name for path in (httpd.store / "challenges").iterdir()} == kept


def test_lying_job_and_forgotten_errors(env):
    """A job that says it is done without a result is not believed; errors are of yesterday."""
    names = ["lie.test", "errors.test"]
    for name in names:
        env.add_md_conf(f"MDomain {name}")
        env.add_vhost(name)
        (env.store / "staging" / name).mkdir(parents=True)
    (env.store / "staging/lie.test/job.json").write_text(json.dumps(
        {"name": "lie.test", "finished": True, "notified": True, "notified-renewed": True,
         "errors": 0}))
    (env.store / "staging/errors.test/job.json").write_text(json.dumps(
        {"name": "errors.test", "finished": False, "errors": 7,
         "next-run": "Fri, 01 Jan 2038 00:00:00 GMT"}))
    if os.geteuid() == 0:
        children = "www-data" if shutil.which("apache2") else "apache"
        for path in (env.store / "staging").rglob("*"):
            shutil.chown(path, children)
    env.start()
    env.await_md(names)
    assert lines(env, "AH10064") and "errors.test" in lines(env, "AH10064")[0]
    assert {"AH10052", "AH10064"} <= numbers(env)


# ---- what is served ----

@pytest.mark.parametrize("chain_file", [False, True])
def test_fallback(httpd, workdir, chain_file):
    """No certificate, in mode manual or without usable challenges: handshakes work, all is 503."""
    if chain_file:
        cert, _ = make_pair(workdir, "chain", "DNS:x.test")
        httpd.add_md_conf(f"SSLCertificateChainFile {cert}")
    httpd.add_md_conf(f"{NO_RUN}\nMDCertificateAgreement accepted\nMDomain none.test x.none.test\n"
                      "MDomain manual.test\nMDRenewMode manual")
    vhost(httpd, "none.test", "added.test")
    vhost(httpd, "manual.test")
    httpd.start()
    for name, names in (("none.test", {"none.test", "x.none.test", "added.test"}),
                        ("manual.test", {"manual.test"})):
        served = httpd.tls_cert(name)
        assert "Apache Managed Domain Fallback" in served.subject.rfc4514_string()
        assert set(names_of(served)) == names
        pem = (httpd.store / "domains" / name / "fallback-pubcert.pem").read_bytes()
        assert served == x509.load_pem_x509_certificate(pem)
        for path in "/", "/nowhere", "/md-status":
            assert httpd.get(path, name, https=True)[0] == 503
        assert httpd.get("/", name)[0] == 200  # plain http is not affected
    assert not httpd.problems()


def short_lived_pair(directory, name):
    """What a fallback certificate is on its last day."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "on its last day")])
    cert = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, now, now + datetime.timedelta(hours=12)
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False).sign(
        key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (directory / "fallback-pubcert.pem").write_bytes(cert.public_bytes(pem))
    (directory / "fallback-privkey.pem").write_bytes(key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return cert


def test_fallback_is_kept_and_refreshed(httpd):
    """The same as long as it is good: it is made anew for other names, and before it expires."""
    httpd.add_md_conf(f"{NO_RUN}\nMDomain a.test")
    vhost(httpd, "a.test")
    httpd.start()
    first = httpd.tls_cert("a.test")
    httpd.graceful()
    assert httpd.tls_cert("a.test") == first
    httpd.add_md_conf(f"{NO_RUN}\nMDomain x.test")
    httpd.vhosts[0] = httpd.vhosts[0].replace("DocumentRoot", "ServerAlias b.test\nDocumentRoot")
    httpd.graceful()
    assert set(names_of(httpd.tls_cert("a.test"))) == {"a.test", "b.test"}
    httpd.vhosts = []
    vhost(httpd, "a.test")
    old = short_lived_pair(httpd.store / "domains/a.test", "a.test")
    httpd.graceful()
    assert httpd.tls_cert("a.test") not in (first, old)
    assert httpd.tls_cert("a.test").issuer != old.issuer


def test_fallback_that_cannot_be_made(httpd):
    (httpd.store / "domains").mkdir(parents=True)
    for ending in "", ".damaged", *(f".damaged.{i}" for i in range(2, 10)):  # no more are kept
        (httpd.store / f"domains/a.test{ending}").write_text("no directory")
    httpd.add_md_conf(f"{NO_RUN}\nMDomain a.test")
    vhost(httpd, "a.test")
    assert httpd.start(expect_success=False).returncode != 0
    assert "AH10174" in numbers(httpd)
    httpd.vhosts = []  # the TLS module cannot do without; others can
    httpd.start()


def ask(httpd, host, path="/name.txt", method="GET"):
    """Status and headers of a plain request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    text = httpd.raw(head.encode()).decode(errors="replace").split("\r\n\r\n")[0]
    return int(text.split()[1]), dict(line.split(": ", 1) for line in text.split("\r\n")[1:])


def test_redirects(httpd, workdir):
    """One server with a domain for each setting; all have certificates."""
    (httpd.docroot / "name.txt").write_text("x")
    httpd.add_md_conf("MDCertificateAgreement accepted")
    for mode in "off", "temporary", "permanent", "header":
        cert, key = make_pair(workdir, mode, f"DNS:{mode}.test")
        httpd.add_md_conf(f"<MDomain {mode}.test manual>\nMDCertificateFile {cert}\n"
                          f"MDCertificateKeyFile {key}\n"
                          f"MDRequireHttps {mode if mode != 'header' else 'permanent'}\n</MDomain>")
        extra = "Redirect /a http://elsewhere.test"
        if mode == "header":
            extra += "\nHeader set Strict-Transport-Security \"max-age=1\""
        vhost(httpd, f"{mode}.test", extra=extra)
        vhost(httpd, f"{mode}.test", "alias.test", ssl=False, extra=extra)
    vhost(httpd, "other.test", ssl=False)
    httpd.start()
    sts = "Strict-Transport-Security"
    for mode, status in ("temporary", 302), ("permanent", 301):
        for path in "/name.txt", "/a?q=%20", "/nowhere", "/x/../y%2f":
            code, headers = ask(httpd, f"{mode}.test", path)
            assert (code, headers.get("Location")) == (status, f"https://{mode}.test{path}")
            assert sts not in headers
        assert ask(httpd, f"{mode}.test", method="HEAD")[0] == status
        assert ask(httpd, f"{mode}.test:80")[1]["Location"] == f"https://{mode}.test/name.txt"
        assert ask(httpd, f"{mode.upper()}.test")[1]["Location"] == f"https://{mode}.test/name.txt"
        assert ask(httpd, f"{mode}.test", "*", "OPTIONS")[0] in (200, 400)
        assert "Location" not in ask(httpd, f"{mode}.test", "/.well-known/x")[1]
    code, headers = ask(httpd, "off.test")
    assert code == 200 and "Location" not in headers and sts not in headers
    assert ask(httpd, "off.test", "/a/x")[1]["Location"] == "http://elsewhere.test/x"
    assert ask(httpd, "other.test")[0] == 200
    for mode, value in ("off", None), ("temporary", None), ("permanent", "max-age=15768000"), (
            "header", "max-age=1"):
        status, headers, _ = httpd.get("/name.txt", f"{mode}.test", https=True)
        assert (status, headers.get_all(sts)) == (200, [value] if value else None)
    assert not [line for line in httpd.problems() if "AH10040" not in line]


def test_alias_that_is_not_managed(httpd, workdir):
    """What counts is the name asked for: one that the domain lacks is not sent to https."""
    cert, key = make_pair(workdir, "own", "DNS:a.test", "DNS:*.w.test")
    httpd.add_md_conf(f"<MDomain a.test *.w.test manual>\nMDCertificateFile {cert}\n"
                      f"MDCertificateKeyFile {key}\nMDRequireHttps temporary\n</MDomain>")
    vhost(httpd, "a.test", "unmanaged.test", "x.w.test", ssl=False)
    vhost(httpd, "a.test")
    httpd.start()
    assert ask(httpd, "unmanaged.test", "/")[0] == 200
    assert ask(httpd, "x.w.test", "/")[1]["Location"] == "https://x.w.test/"
    httpd.vhosts[0] = httpd.vhosts[0].replace("ServerName", "UseCanonicalName on\nServerName")
    httpd.graceful()
    assert ask(httpd, "unmanaged.test", "/")[1]["Location"] == "https://a.test/"


def test_static_certificates_always(env, workdir):
    """With `always` certificates are obtained, but the files stay the ones in use."""
    for name, mode in ("auto.test", "auto"), ("always.test", "always"):
        cert, key = make_pair(workdir, name, "DNS:elsewhere.test")
        env.add_md_conf(f"<MDomain {name}>\nMDPrivateKeys secp384r1 rsa3072\nMDRenewMode {mode}\n"
                        f"MDCertificateFile {cert}\nMDCertificateKeyFile {key}\n</MDomain>")
        env.add_vhost(name)
    env.start()
    env.await_md("always.test")
    status = env.md_status("auto.test")
    assert "renewal" not in status and status["renew-mode"] == 0 and status["watched"]
    env.graceful()
    assert {path.name for path in (env.store / "domains/always.test").glob("pubcert*")} == {
        "pubcert.pem", "pubcert.secp384r1.pem"}
    for name in "auto.test", "always.test":
        assert names_of(env.tls_cert(name)) == ["elsewhere.test"]
    job = env.store_json("domains", "always.test", "job.json")  # where the event belongs
    assert job["log"]["entries"][0]["type"] == "message-installed"
    assert not list((env.store / "tmp").iterdir())


def test_certificate_files_of_the_vhost(httpd, workdir):
    """A domain without certificates leaves the configured ones in service; no fallback, no 503."""
    cert, key = make_pair(workdir, "own", "DNS:a.test")
    httpd.add_md_conf(f"{NO_RUN}\nMDContactEmail admin@example.org\nMDomain a.test")
    vhost(httpd, "a.test", extra=f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}")
    httpd.start()
    assert httpd.get("/", "a.test", https=True)[0] == 200
    assert not (httpd.store / "domains/a.test/fallback-pubcert.pem").exists()
    assert not numbers(httpd) & {"AH10077", "AH10084", "AH10116"}
    live = httpd.store / "domains/a.test"
    own_cert, own_key = make_pair(workdir, "managed", "DNS:a.test")
    (live / "pubcert.pem").write_bytes(own_cert.read_bytes())
    (live / "privkey.pem").write_bytes(own_key.read_bytes())
    httpd.graceful()
    assert {"AH10077", "AH10084"} <= numbers(httpd)
    assert httpd.tls_cert("a.test").subject.rfc4514_string() == "CN=managed"
    told = len(lines(httpd, "AH10084"))
    httpd.vhosts = []
    vhost(httpd, "a.test")
    httpd.graceful()
    assert len(lines(httpd, "AH10084")) == told
    assert not httpd.problems()


# ---- challenges ----

CHALLENGE = "/.well-known/acme-challenge"


def test_challenges_of_others(httpd):
    """A host without a domain; one with a domain that uses other challenges."""
    path = httpd.docroot / ".well-known/acme-challenge"
    path.mkdir(parents=True)
    (path / "file").write_text("of the document root")
    httpd.add_md_conf(f"{NO_RUN}\n<MDomain dns.test>\nMDCAChallenges dns-01\n</MDomain>\n"
                      "MDomain http.test\n<MDomain manual.test>\nMDRenewMode manual\n</MDomain>")
    for name in "dns.test", "http.test", "manual.test":
        vhost(httpd, name)
        vhost(httpd, name, ssl=False)
    httpd.start()
    served = httpd.get(f"{CHALLENGE}/file", "dns.test")
    assert (served[0], served[2]) == (200, "of the document root")
    assert httpd.get(f"{CHALLENGE}/file", "manual.test")[0] == 200
    assert httpd.get(f"{CHALLENGE}/file", "http.test")[0] == 404  # it is the domain's
    for path in "", "/", "/123":
        assert httpd.get(CHALLENGE + path, "nobody.test")[0] in ((301, 403, 404) if path != "/123"
                                                                 else (404,))
    for name in "nobody.test", "dns.test", "http.test":
        place = httpd.store / "challenges" / name
        place.mkdir()
        (place / "acme-http-01.txt").write_text("content-of-123")
    assert httpd.get(f"{CHALLENGE}/123", "nobody.test")[1]["Content-Length"] == "14"
    assert httpd.get(f"{CHALLENGE}/123", "dns.test")[0] == 404  # left alone
    status, _, body = httpd.get(f"{CHALLENGE}/123", "HTTP.test", https=True)
    assert (status, body) == (200, "content-of-123")  # by TLS, too, where all else is 503
    assert httpd.get("/", "http.test", https=True)[0] == 503
    (httpd.store / "challenges/http.test/acme-http-01.txt").unlink()
    (httpd.store / "challenges/http.test/acme-http-01.txt").mkdir()
    assert httpd.get(f"{CHALLENGE}/123", "http.test")[0] == 500
    assert "AH10081" in numbers(httpd)


def test_challenge_types(env):
    """tls-alpn-01 also for a name on no vhost; http-01 where acme-tls/1 is not offered."""
    alpn = "Protocols http/1.1 acme-tls/1"
    env.add_md_conf("MDCAChallenges tls-alpn-01 http-01\nMDPrivateKeys P-256\n"
                    "MDomain alpn.test on-no-vhost.test\nMDomain http.test\n<MDomain rsa.test>\n"
                    "MDCAChallenges tls-alpn-01\nMDPrivateKeys secp384r1 rsa4096\n</MDomain>")
    env.add_vhost("alpn.test", ["alias.test"], extra=alpn)
    env.add_vhost("rsa.test", extra=alpn)
    env.add_vhost("http.test", ["www.http.test"])
    env.start()
    env.await_md(["alpn.test", "http.test", "rsa.test"])
    assert {name: stored(env, name)["proto"]["acme-tls/1"] for name in
            ("alpn.test", "http.test", "rsa.test")} == {
        "alpn.test": ["alpn.test", "alias.test"], "http.test": [], "rsa.test": ["rsa.test"]}
    assert not env.problems()
    numbers(env)


def test_unknown_host_of_a_tls_challenge(httpd):
    httpd.add_md_conf(f"{NO_RUN}\nMDomain a.test")
    vhost(httpd, "a.test", extra="Protocols http/1.1 acme-tls/1")
    httpd.start()
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["acme-tls/1"])
    for name in "a.test", "unknown.test", "x" * 63:
        with socket.create_connection(("127.0.0.1", httpd.https_port), 20) as sock:
            with context.wrap_socket(sock, server_hostname=name) as tls:
                assert tls.selected_alpn_protocol() == "acme-tls/1"
    httpd.wait_log(r"\[md:info\].*AH10080: unknown\.test: ")
    numbers(httpd)


# ---- robustness ----

def test_odd_requests_by_tls(httpd):
    httpd.add_md_conf(f"{NO_RUN}\nMDomain a.test\nMDRequireHttps permanent")
    vhost(httpd, "a.test", extra="Protocols http/1.1 acme-tls/1")
    vhost(httpd, "a.test", ssl=False)
    httpd.start()
    for head in (b"GET https:// HTTP/1.1\r\nHost: foreign.test\r\n",
                 b"GET https:// HTTP/1.0\r\n", b"GET https:/// HTTP/1.1\r\nHost: a.test\r\n",
                 b"GET http://a.test HTTP/1.1\r\nHost: foreign.test\r\n",
                 b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n", b"GET // HTTP/1.1\r\nHost: a.test\r\n",
                 b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n"):
        for tls_name in "a.test", None:
            reply = httpd.raw(head + b"Connection: close\r\n\r\n", tls_name)
            assert re.match(rb"HTTP/1.[01] [2-5]\d\d", reply), (head, tls_name, reply[:100])
    assert httpd.get("/", "a.test")[0] == 301 and "exit signal" not in httpd.error_log()
