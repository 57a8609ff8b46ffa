# SPDX-License-Identifier: Apache-2.0
"""OCSP stapling, as clients see it."""
import json
import os
import re
import signal
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseBuilder, OCSPResponseStatus

from ocsp_ca import DAY, NoHandshake, OcspCA, Responder, after, handshake, serial_of, stapled, tls
from ports import free_ports
from servers import apxs, run, wait_for

GOOD, REVOKED = OCSPCertStatus.GOOD, OCSPCertStatus.REVOKED


@pytest.fixture
def ocsp(workdir):
    with OcspCA(workdir / "ocsp") as ca:
        yield ca


def status(httpd, ca, name, *options):
    return stapled(httpd.https_port, name, ca.issuer, *options)


def await_status(httpd, ca, name, wanted=GOOD, *options):
    wait_for(lambda: status(httpd, ca, name, *options) == wanted, what=f"a staple {wanted} of {name}")


def files(httpd, name="other"):
    return sorted((httpd.store / "ocsp" / name).glob("ocsp-*.json"))


def test_all_kinds_of_handshakes_without_any_domain(httpd, ocsp):
    both = [ocsp.issue("one.test", "ec"), ocsp.issue("one.test", "rsa")]
    httpd.add_md_conf("MDStapling on")
    httpd.add_vhost("one.test", extra="\n".join(map(tls, both)))
    for i in range(20):  # one certificate for many hosts
        httpd.add_vhost(f"more{i}.test", extra=tls(both[0]))
    httpd.add_vhost("two.test", extra=tls(ocsp.issue("two.test")))
    httpd.start()
    kinds = {"ec": ("-sigalgs", "ecdsa_secp256r1_sha256"), "rsa": ("-sigalgs", "rsa_pss_rsae_sha256")}
    for i, options in enumerate(kinds.values()):
        for version in "-tls1_2", "-tls1_3":
            await_status(httpd, ocsp, "one.test", GOOD, version, *options)
            assert handshake(httpd.https_port, "one.test", version, *options)[1] == serial_of(both[i])
    for name in "more0.test", "more19.test", "two.test":
        await_status(httpd, ocsp, name)
    assert dict(ocsp.asked) == {serial: 1 for serial in ocsp.asked} and len(ocsp.asked) == 3
    stored = json.loads(files(httpd)[0].read_text())
    assert stored["status"] == "good" and set(stored["valid"]) == {"from", "until"}
    assert not httpd.problems()


def test_which_certificates(httpd, ocsp, workdir):
    """A section decides for its domain; others are those of no domain."""
    pairs = {name: ocsp.issue(name) for name in ("on.test", "off.test", "plain.test", "own.test")}
    for name in "on.test", "off.test":
        httpd.add_md_conf(f"<MDomain {name}>\nMDCertificateFile {pairs[name][0]}\n"
                          f"MDCertificateKeyFile {pairs[name][1]}\nMDStapling {name[:-5]}\n</MDomain>")
        httpd.add_vhost(name)
    httpd.add_vhost("plain.test", extra=tls(pairs["plain.test"]))
    httpd.add_vhost("own.test", extra=tls(pairs["own.test"]) + "\nSSLUseStapling on")
    httpd.global_conf = ["<IfModule ssl_module>", f"SSLStaplingCache shmcb:{httpd.dir}/stapling(32768)", "</IfModule>"]
    httpd.add_md_conf("MDStapleOthers off\nMDStapling on")
    httpd.start()
    await_status(httpd, ocsp, "on.test")
    assert len(files(httpd, "on.test")) == 1 and not (httpd.store / "ocsp" / "other").exists()
    assert status(httpd, ocsp, "off.test") is None
    assert status(httpd, ocsp, "plain.test") is None
    assert status(httpd, ocsp, "own.test") == GOOD  # of mod_ssl
    assert list(ocsp.asked) == [serial_of(pairs[name]) for name in ("on.test", "own.test")]


def test_certificates_that_cannot_be_asked_about(httpd, ocsp):
    httpd.add_md_conf("MDStapling on")
    for name in "silent.test", "again.test":
        httpd.add_vhost(name, extra=tls(ocsp.issue("silent.test", url="")) if name == "silent.test" else
                        tls((ocsp.dir / "silent.test.ec.pem", ocsp.dir / "silent.test.ec.key")))
    httpd.start()
    assert len(re.findall(r"\[md:debug\].*md\[other\]: certificate with serial [0-9A-F]+ has no OCSP responder URL",
                          httpd.error_log())) == 1
    assert status(httpd, ocsp, "silent.test") is None
    assert not httpd.problems()


def test_an_issuer_that_is_missing(httpd, ocsp, workdir, monkeypatch):
    """It is found among the certificates that mod_ssl trusts, or the system, or else told once."""
    pairs = {name: ocsp.issue(name, chain=False) for name in ("found.test", "lost.test")}
    with OcspCA(workdir / "other") as other:
        pairs["system.test"] = other.issue("system.test", chain=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(workdir / "system.pem"))
        (workdir / "system.pem").write_bytes(other.issuer.public_bytes(Encoding.PEM))
        (httpd.dir / "ca.pem").write_bytes(ocsp.issuer.public_bytes(Encoding.PEM))
        httpd.add_md_conf("MDStapling on")
        httpd.add_vhost("found.test", extra=tls(pairs["found.test"]) + f"\nSSLCACertificateFile {httpd.dir}/ca.pem")
        for name, of in ("lost", "lost"), ("again", "lost"), ("system", "system"), ("system2", "system"):
            httpd.add_vhost(f"{name}.test", extra=tls(pairs[f"{of}.test"]))
        httpd.start()
        await_status(httpd, ocsp, "found.test")
        for name in "system.test", "system2.test":
            for version in "-tls1_2", "-tls1_3":
                await_status(httpd, other, name, GOOD, version)
        assert dict(other.asked) == {serial_of(pairs["system.test"]): 1}
        assert status(httpd, ocsp, "lost.test") is None
    told = [line for line in httpd.error_log().splitlines() if "as its issuer is not known" in line]
    assert len(told) == 1 and re.search("certificate of (lost|again).test", told[0])


@pytest.mark.parametrize("reload", [True, False])
def test_responses_survive(httpd, ocsp, reload):
    """The first handshake after a start has one, though the responder is gone."""
    httpd.add_md_conf("MDStapling on")
    httpd.add_vhost("one.test", extra=tls(ocsp.issue("one.test")))
    httpd.start()
    await_status(httpd, ocsp, "one.test")
    ocsp.stop()
    if reload:
        httpd.graceful()
    else:
        httpd.stop()
        httpd.start()
    assert status(httpd, ocsp, "one.test") == GOOD
    assert not httpd.problems()


@pytest.mark.parametrize("mpm", ["prefork", "event"])
def test_a_new_response_is_in_all_children(workdir, ocsp, mpm):
    from servers import Httpd
    with Httpd(workdir / "httpd", mpm=mpm) as httpd:
        pair = ocsp.issue("one.test")
        ocsp.status[serial_of(pair)] = OCSPResponseStatus.TRY_LATER
        httpd.add_md_conf("MDStapling on\nMDRetryDelay 1s")
        httpd.global_conf = ["StartServers 5", "MinSpareServers 5"] if mpm == "prefork" else \
                            ["StartServers 4", "ThreadsPerChild 5", "MinSpareThreads 20", "MaxRequestWorkers 40"]
        httpd.add_vhost("one.test", extra=tls(pair))
        httpd.start()
        wait_for(lambda: ocsp.asked, what="the first request")
        assert status(httpd, ocsp, "one.test") is None
        ocsp.status.clear()
        await_status(httpd, ocsp, "one.test")
        assert all(status(httpd, ocsp, "one.test") == GOOD for _ in range(30))
        assert not httpd.problems()


def other_ca(ca):
    key = ec.generate_private_key(ec.SECP256R1())
    return x509.CertificateBuilder(ca.issuer.subject, ca.issuer.subject, key.public_key(), 1, after(-DAY),
                                   after(DAY)).sign(key, SHA256()), key


class Any(dict):
    """The same status for all."""
    def __init__(self, status):
        self.of_all = status

    def get(self, serial, otherwise):
        return self.of_all


WRONG = {
    "html": lambda ca: {"reply": lambda der: b"<html>"},
    "forged": lambda ca: {"reply": lambda der: der[:-1] + bytes([der[-1] ^ 1])},
    "huge": lambda ca: {"reply": lambda der: der + bytes(50_000_000)},
    "stranger": lambda ca: {"signer": other_ca(ca)},
    "delegate of a stranger": lambda ca: {"signer": ca.delegate(ca=other_ca(ca))},
    "delegate for something else": lambda ca: {"signer": ca.delegate(ExtendedKeyUsageOID.SERVER_AUTH)},
    "delegate that ended": lambda ca: {"signer": ca.delegate(days=(-9, -1))},
    "delegate of tomorrow": lambda ca: {"signer": ca.delegate(days=(1, 9))},
    "old": lambda ca: {"age": 8 * DAY},
    "of tomorrow": lambda ca: {"age": -DAY},
    "old, without an end": lambda ca: {"age": 2 * DAY, "lifetime": None},
    "unknown": lambda ca: {"status": Any(OCSPCertStatus.UNKNOWN)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_nothing_wrong_is_stapled(httpd, ocsp, wrong):
    right = dict(vars(ocsp))
    pair = ocsp.issue("one.test")
    vars(ocsp).update(WRONG[wrong](ocsp))
    httpd.add_md_conf("MDStapling on\nMDRetryDelay 100ms")
    httpd.add_vhost("one.test", extra=tls(pair))
    httpd.start()
    wait_for(lambda: ocsp.asked[serial_of(pair)] >= 3, what="three requests")
    assert status(httpd, ocsp, "one.test") is None
    assert not files(httpd)
    wait_for(lambda: (httpd.store_json("ocsp", "other", "job.json") or {}).get("errors", 0) > 0, what="a record")
    vars(ocsp).update(right)
    await_status(httpd, ocsp, "one.test")
    wait_for(lambda: httpd.store_json("ocsp", "other", "job.json")["errors"] == 0, what="the end of the trouble")


def test_events(httpd, ocsp, workdir):
    """Of names of domains, and of others as `other`."""
    told, command = workdir / "told", workdir / "command"
    command.write_text(f'#!/bin/sh\necho "$@" "$MD_DETAIL" >>{told}\n')
    command.chmod(0o755)
    told.touch()
    told.chmod(0o666)
    pairs = {name: ocsp.issue(name) for name in ("one.test", "plain.test")}
    httpd.add_md_conf(f"MDStapling on\nMDRetryDelay 1s\nMDMessageCmd {command}\nMDStaplingRenewWindow 30d\n"
                      f"<MDomain one.test>\nMDCertificateFile {pairs['one.test'][0]}\n"
                      f"MDCertificateKeyFile {pairs['one.test'][1]}\n</MDomain>")
    httpd.add_vhost("one.test")
    httpd.add_vhost("plain.test", extra=tls(pairs["plain.test"]))
    httpd.start()

    def has_entry(name, kind):
        record = httpd.store_json("ocsp", name, "job.json") or {"log": {"entries": []}}
        return any(entry["type"] == kind for entry in record["log"]["entries"])
    for reply, kind in (None, "ocsp-renewed"), (lambda der: b"<html>", "ocsp-errored"):
        ocsp.reply, asked = reply, sum(ocsp.asked.values())
        httpd.graceful()
        for name in "one.test", "other":
            wait_for(lambda: has_entry(name, f"message-{kind}"), what=f"a record of {kind} {name}")
        wait_for(lambda: sum(ocsp.asked.values()) >= asked + 2, what="more requests")
    lines = sorted(line.split(" ", 2) for line in told.read_text().splitlines())
    assert {tuple(line[:2]) for line in lines} == {(f"ocsp-{kind}", name) for kind in ("errored", "renewed")
                                                   for name in ("one.test", "other")}
    assert all((kind == "ocsp-errored") == bool(detail) for kind, _, detail in lines)


@pytest.mark.parametrize("right", ["delegate", "without an end"])
def test_what_is_unusual_but_right_is_stapled(httpd, ocsp, right):
    if right == "delegate":
        ocsp.signer = ocsp.delegate()
    else:
        ocsp.lifetime = None
    httpd.add_md_conf("MDStapling on")
    httpd.add_vhost("one.test", extra=tls(ocsp.issue("one.test")))
    httpd.start()
    await_status(httpd, ocsp, "one.test")
    assert not httpd.problems()


@pytest.mark.kills
def test_each_staple_that_clients_see_is_right(httpd, ocsp):
    """While the responder changes its mind and the server is reloaded and killed."""
    pair, seen, trouble, is_over = ocsp.issue("one.test"), [], [], threading.Event()
    serial = serial_of(pair)

    def look():
        while not is_over.is_set():
            try:
                seen.append(status(httpd, ocsp, "one.test"))
            except NoHandshake:  # its child was killed
                pass
            except Exception as e:
                trouble.append(e)

    httpd.add_md_conf("MDStapling on\nMDRetryDelay 1s\nMDStaplingRenewWindow 30d")  # each start asks again
    httpd.add_vhost("one.test", extra=tls(pair))
    httpd.start()
    await_status(httpd, ocsp, "one.test")
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for wanted, wrong in (REVOKED, "forged"), (GOOD, "old"), (REVOKED, "delegate that ended"), (GOOD, "unknown"):
            right = dict(vars(ocsp))
            vars(ocsp).update(WRONG[wrong](ocsp))
            asked = ocsp.asked[serial]
            httpd.graceful()
            wait_for(lambda: ocsp.asked[serial] > asked, what="a request")
            vars(ocsp).update(right)
            ocsp.status = {serial: wanted}
            os.kill(httpd.watchdog_pid(), signal.SIGKILL)
            await_status(httpd, ocsp, "one.test", wanted)
    finally:
        is_over.set()
        watcher.join()
    assert not trouble and len(seen) > 20 and {GOOD, REVOKED} <= set(seen) <= {GOOD, REVOKED}


def test_the_responder_of_openssl(httpd, ocsp, workdir):
    port = free_ports(1)[0]
    pair = ocsp.issue("one.test", "rsa", f"http://127.0.0.1:{port}")
    serial = f"{serial_of(pair):X}"
    serial = "0" * (len(serial) % 2) + serial
    (workdir / "index.txt").write_text(f"V\t491231235959Z\t\t{serial}\tunknown\t/CN=one.test\n")
    (workdir / "ca.pem").write_bytes(ocsp.issuer.public_bytes(serialization.Encoding.PEM))
    (workdir / "ca.key").write_bytes(ocsp.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    log = workdir / "responder.log"
    responder = subprocess.Popen(
        ["openssl", "ocsp", "-index", workdir / "index.txt", "-CA", workdir / "ca.pem", "-rsigner", workdir / "ca.pem",
         "-rkey", workdir / "ca.key", "-port", str(port), "-nmin", "60"], stdout=subprocess.DEVNULL,
        stderr=log.open("wb"))
    try:
        wait_for(lambda: "waiting for" in log.read_text(), what="openssl ocsp")
        httpd.add_md_conf("MDStapling on\nMDRetryDelay 1s")
        httpd.add_vhost("one.test", extra=tls(pair))
        httpd.start()
        await_status(httpd, ocsp, "one.test")
    finally:
        responder.kill()
        responder.wait()


def test_a_revoked_certificate_is_renewed_at_once(httpd, ca):
    """Once: while the new one waits for a reload, and when it is in service."""
    with Responder(ca.intermediate.cert, ca.intermediate.key) as responder:
        ca.intermediate.ocsp_url = responder.url
        httpd.use_ca(ca)
        httpd.add_md_conf("MDStapling on\nMDPrivateKeys P-256\nMDomain one.test\nMDomain two.test")
        for name in "one.test", "two.test":
            httpd.add_vhost(name)
        httpd.start()
        httpd.await_md(["one.test", "two.test"])
        httpd.graceful()
        for name in "one.test", "two.test":
            await_status(httpd, responder, name)
        shown = httpd.md_status("one.test")["cert"]["P-256"]["ocsp"]
        assert shown["status"] == "good" and set(shown["valid"]) == {"from", "until"}
        assert shown["renewal"]["finished"] and shown["renewal"]["errors"] == 0
        serial = httpd.tls_cert("one.test").serial_number
        responder.status[serial] = REVOKED
        orders = ca.count("newOrder")
        for path in files(httpd, "one.test"): # with an empty store, the next start asks again
            path.unlink()
        httpd.graceful()
        httpd.wait_log(r"\[md:warn\].*md\[one.test\]: the CA revoked the certificate with serial .* \(keyCompromise\)")
        httpd.wait_log(r"AH10500: md\[one.test\]: OCSP reports revoked")
        assert httpd.md_status("one.test")["renew-reason"] == "revoked"
        wait_for(lambda: httpd.error_log().count("AH10059: The Managed Domain one.test ") == 2, what="a new one")
        assert status(httpd, responder, "one.test") == REVOKED
        httpd.graceful()
        await_status(httpd, responder, "one.test")
        assert httpd.tls_cert("one.test").serial_number != serial
        assert ca.count("newOrder") == orders + 1
        assert httpd.error_log().count("AH10059: The Managed Domain two.test ") == 1


def must_staple(httpd, ca, responder):
    ca.intermediate.ocsp_url, ca.intermediate.must_staple = responder.url, True
    httpd.use_ca(ca)
    httpd.add_md_conf("MDStapling on\nMDMustStaple on\nMDPrivateKeys P-256 rsa2048\nMDomain one.test")
    httpd.add_vhost("one.test")


def test_what_must_be_stapled_is_stapled_at_once(httpd, ca):
    """Though the responder does not know it right after issuance, and is gone after the reload."""
    unauthorized = OCSPResponseBuilder.build_unsuccessful(OCSPResponseStatus.UNAUTHORIZED).public_bytes(Encoding.DER)
    with Responder(ca.intermediate.cert, ca.intermediate.key) as responder:
        responder.reply = lambda der: unauthorized if sum(responder.asked.values()) <= 2 else der
        must_staple(httpd, ca, responder)
        httpd.start()
        httpd.wait_log("AH10059")
        assert len(files(httpd, "one.test")) == 2 and sum(responder.asked.values()) == 4
    httpd.graceful()
    for sigalgs in "ecdsa_secp256r1_sha256", "rsa_pss_rsae_sha256":
        assert status(httpd, responder, "one.test", "-sigalgs", sigalgs) == GOOD
    assert httpd.md_status("one.test")["state"] == 2
    assert not httpd.problems()


def test_a_responder_that_is_away_holds_up_no_set(httpd, ca):
    with Responder(ca.intermediate.cert, ca.intermediate.key) as responder:
        must_staple(httpd, ca, responder)
    httpd.start()
    httpd.wait_log(r"no OCSP response for what is staged: ", count=2)
    httpd.wait_log("AH10059", timeout=38)
    assert not files(httpd, "one.test")


def test_200_certificates(httpd, ocsp):
    names = [f"d{i}.test" for i in range(200)]
    pairs = {name: ocsp.issue(name) for name in names}
    httpd.add_md_conf("MDStapling on\nMDServerStatus on\n<Location /server-status>\nSetHandler server-status\n</Location>")
    for name in names:
        httpd.add_vhost(name, extra=tls(pairs[name]))
    httpd.start()
    wait_for(lambda: len(files(httpd)) == 200, what="200 responses")
    for name in names[::40]:
        assert status(httpd, ocsp, name) == GOOD
    counts = httpd.get("/server-status?auto", "base.test")[2]
    assert "ManagedStaplingsTotal: 200\nManagedStaplingsOK: 200\nManagedStaplingsRenew: 0\n" in counts
    assert sorted(ocsp.asked) == sorted(map(serial_of, pairs.values()))
    assert set(ocsp.asked.values()) == {1}
    assert not httpd.problems()


@pytest.mark.kills
def test_the_child_that_asks_is_killed(httpd, ocsp):
    """Another one takes over, knows what is there, and asks for nothing before it is time."""
    httpd.add_md_conf("MDStapling on")
    httpd.add_vhost("one.test", extra=tls(ocsp.issue("one.test")))
    httpd.start()
    await_status(httpd, ocsp, "one.test")
    os.kill(httpd.watchdog_pid(), signal.SIGKILL)
    httpd.wait_log("AH10197", count=2)
    assert status(httpd, ocsp, "one.test") == GOOD
    httpd.wait_log("AH10055", count=2)
    assert sum(ocsp.asked.values()) == 1


# Debian has mod_watchdog built in. This module makes an httpd of it that has none.
NO_WATCHDOG = """
#include <string.h>
#include <apr_optional.h>
#include <httpd.h>
#include <http_config.h>

static void register_hooks(apr_pool_t *p)
{
    module **at = &ap_top_module;

    (void)p;
    while (*at && strcmp((*at)->name, "mod_watchdog.c"))
        at = &(*at)->next;
    if (*at)
        *at = (*at)->next;
    apr_dynamic_fn_register("ap_watchdog_get_instance", NULL);
    apr_dynamic_fn_register("ap_watchdog_register_callback", NULL);
    apr_dynamic_fn_register("ap_watchdog_set_callback_interval", NULL);
}

module AP_MODULE_DECLARE_DATA no_watchdog_module = { STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks };
"""


@pytest.mark.parametrize("managed", [False, True])
def test_no_start_without_a_watchdog(httpd, ocsp, managed):
    """What needs it is said, and how to have it."""
    (httpd.dir / "no_watchdog.c").write_text(NO_WATCHDOG)
    made = run("gcc", "-shared", "-fPIC", "-o", httpd.dir / "no_watchdog.so", httpd.dir / "no_watchdog.c",
               *apxs("EXTRA_CPPFLAGS").split(), *(f"-I{apxs(name)}" for name in ("INCLUDEDIR", "APR_INCLUDEDIR", "APU_INCLUDEDIR")))
    assert made.returncode == 0, made.stderr
    httpd.MODULES = tuple(name for name in httpd.MODULES if name != "watchdog")
    httpd.global_conf.append(f"LoadModule no_watchdog_module {httpd.dir}/no_watchdog.so")
    pair = ocsp.issue("one.test")
    httpd.add_vhost("one.test", extra=tls(pair))
    httpd.add_md_conf("MDStapling on" if not managed else "MDStapling on\nMDomain two.test\nMDContactEmail a@example.org")
    httpd.add_vhost("two.test", ssl=managed)
    httpd.start(expect_success=False)
    httpd.wait_log(r"\[md:crit\].*AH10201: mod_watchdog is required for OCSP stapling")
    httpd.wait_log(r"\[md:crit\].*AH10061: mod_watchdog is required .*LoadModule watchdog_module")
    wait_for(lambda: not httpd.is_running(), what="the end of the start")
    assert "resuming normal operations" not in httpd.error_log()
    httpd.log_path.unlink()
    httpd.md_conf = [line.replace("MDStapling on", "MDStapling off") for line in httpd.md_conf]
    httpd.start(expect_success=not managed)
    if managed:
        httpd.wait_log("AH10061")
    assert "AH10201" not in httpd.error_log()
