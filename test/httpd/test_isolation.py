# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one domain harms no other: the server starts, all others get and keep their
certificates; the log tells what to do, and the status of the domain shows it."""
import re

from cryptography.hazmat.primitives.serialization import (BestAvailableEncryption, Encoding,
                                                          PrivateFormat)

import stores
from servers import is_alive, make_server_cert, run, wait_for

SPOILT = {  # what the section has, or what is done to the store; what the log says
    "x25519.test": ("MDPrivateKeys X25519", r"AH10173: md\[x25519\.test\]: MDPrivateKeys: keys of "
                    r"type 'X25519' cannot sign"),
    "curve.test": ("MDPrivateKeys rsa2048 no-such-curve", r"AH10173: md\[curve\.test\]: "
                   "MDPrivateKeys: the key type 'no-such-curve' is not known"),
    "static.test": ("MDCertificateFile none.pem\nMDCertificateKeyFile none.key",
                    r"md\[static\.test\]: MDCertificateFile \S+/none\.pem cannot be read: No such file or directory; it will "
                    r"not be served until that is repaired and the server reloaded"),
    "unsuitable.test": ("MDCAChallenges later-99", r"AH10056: processing unsuitable\.test: "),
    "cert.test": ("", r"md\[cert\.test\]: certificate\(rsa\) cannot be used and will be ordered again: "
                  r".*domains/cert\.test/pubcert\.pem"),
    "document.test": ("", r"md\[document\.test\]: .*md\.json.*; kept as \S+, it will be rewritten "
                      r"from the configuration"),
    "file.test": ("MDPrivateKeys P-256", r"domains/file\.test is not a directory; kept as \S+/file\.test\.damaged"),
}


def add(httpd, name, extra="", vhost=""):
    httpd.add_md_conf(f"<MDomain {name}>\n{extra}\n</MDomain>")
    httpd.add_vhost(name, extra=vhost)


def serves(httpd, name):
    return httpd.get("/", name, https=True, verify=httpd.ca.root_pem())[0] == 200


def test_one_domain_harms_no_other(env, workdir):
    old = ["old.test", "cert.test", "document.test"]
    env.add_md_conf("MDRetryDelay 1h")
    for name in old:
        add(env, name)
    env.start()
    env.await_md(old)
    env.graceful()
    env.stop()
    live = env.store / "domains"
    (live / "cert.test/pubcert.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    (live / "document.test/md.json").write_text("{")
    for name, (section, _) in SPOILT.items():
        if section:
            add(env, name, section)
    cert, key = make_server_cert(workdir)  # on a vhost that has its own
    add(env, "both.test", vhost=f"SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}")
    (live / "file.test").write_text("no directory")
    for name in "new0.test", "new1.test":
        add(env, name)
    mark = len(env.error_log())
    env.start()
    assert serves(env, "old.test") and serves(env, "document.test")
    env.await_md(["new0.test", "new1.test", "both.test", "file.test"])
    env.wait_log(r"AH10059: The Managed Domain cert\.test ", count=2)
    for name in "x25519.test", "curve.test", "unsuitable.test":
        env.wait_log(rf"AH10056: processing {name}")
    log = env.error_log()[mark:]
    for name, (_, pattern) in SPOILT.items():
        assert re.search(rf"\[md:error\].*{pattern}", log), (name, pattern)
    harmless = "|".join(map(re.escape, SPOILT))
    assert not [line for line in log.splitlines()
                if re.search(r"\[md:(error|warn|crit)\]", line) and not re.search(harmless, line)]

    status = {md["name"]: md for md in env.md_status()["managed-domains"]}
    for name in "x25519.test", "curve.test", "unsuitable.test":
        assert status[name]["state"] == 1 and status[name]["renewal"]["last"]["detail"], name
    for name in "x25519.test", "curve.test":  # which the CA was never asked for
        assert status[name]["renewal"]["last"]["detail"].startswith("MDPrivateKeys: "), name
        assert not (env.store / "staging" / name / "order.json").exists()
        assert "activity" not in status[name]["renewal"]["last"]
    assert status["static.test"]["state"] == 1
    assert status["static.test"]["state-descr"].endswith("is missing")
    assert "renewal" not in status["static.test"]
    for name in "x25519.test", "curve.test", "static.test", "unsuitable.test":
        assert "Fallback" in env.tls_cert(name).issuer.rfc4514_string(), name
        assert env.get("/", name, https=True)[0] == 503

    env.graceful()
    for name in "old.test", "new0.test", "new1.test", "cert.test", "document.test":
        assert serves(env, name), name
        assert env.md_status(name)["state"] == 2
    for name in "x25519.test", "curve.test":
        assert env.md_status(name)["state"] == 1
    assert run("openssl", "x509", "-in", live / "both.test/pubcert.pem").returncode == 0


KEYS = {  # what openssl makes a key of that kind with
    "pkcs1": "genrsa -traditional -out {} 2048",
    "sec1": "ecparam -name prime256v1 -genkey -noout -out {}",
    "parameters": "ecparam -name prime256v1 -genkey -out {}",
    "explicit": "ecparam -name prime256v1 -param_enc explicit -genkey -noout -out {}",
    "compressed": "ecparam -name prime256v1 -conv_form compressed -genkey -noout -out {}",
    "ed25519": "genpkey -algorithm ed25519 -out {}",
    "pss": "genpkey -algorithm rsa-pss -out {}",
    "encrypted": "genpkey -algorithm rsa -aes256 -pass pass:secret -out {}",
    "traditional": "genrsa -traditional -aes256 -passout pass:secret -out {} 2048",
}


def test_static_keys_of_all_kinds(httpd, workdir):
    """What the TLS module can serve is served, with a passphrase if it asks for one."""
    ask = workdir / "ask"
    ask.write_text("#!/bin/sh\necho secret\n")
    ask.chmod(0o755)
    httpd.global_conf.append(f"SSLPassPhraseDialog exec:{ask}")
    httpd.add_md_conf("MDInitialDelay 1h")
    for kind, how in KEYS.items():
        cert, key = workdir / f"{kind}.pem", workdir / f"{kind}.key"
        assert run("openssl", *how.format(key).split()).returncode == 0
        made = run("openssl", "req", "-x509", "-key", key, "-passin", "pass:secret", "-out", cert,
                   "-days", "30", "-subj", f"/CN={kind}.test", "-addext",
                   f"subjectAltName=DNS:{kind}.test")
        assert made.returncode == 0, made.stderr
        add(httpd, f"{kind}.test", f"MDCertificateFile {cert}\nMDCertificateKeyFile {key}")
    tested = httpd.configtest()
    assert tested.returncode == 0 and "[md:error]" not in tested.stderr
    httpd.start()
    for kind in KEYS:
        assert httpd.md_status(f"{kind}.test")["state"] == 2, kind
        if kind not in ("explicit", "compressed"):  # no client takes them
            assert httpd.tls_cert(f"{kind}.test").subject.rfc4514_string() == f"CN={kind}.test"


def weak_pair(directory, name, *how):
    """A certificate that TLS libraries refuse to serve."""
    key, cert = directory / "privkey.pem", directory / "pubcert.pem"
    made = run("openssl", "req", "-x509", "-nodes", "-keyout", key, "-out", cert, "-days", "90",
               "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", *how)
    assert made.returncode == 0, made.stderr
    return cert, key


def encrypt(path, secret):
    """As it is in staging: somebody copied it back from there."""
    key = stores.load_key(path.read_bytes(), secret)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8,
                                       BestAvailableEncryption(secret)))


def test_what_the_tls_module_cannot_use_is_not_given_to_it(env, workdir):
    """It would end the server."""
    names = ["good.test", "weak.test", "encrypted.test", "fallback.test"]
    for name in names:
        add(env, name)
    env.start()
    env.await_md(names)
    env.stop()
    env.store.joinpath("staging/fallback.test").rename(workdir / "fallback.test")
    env.add_md_conf("MDInitialDelay 1h")
    env.start()
    env.stop()
    live = env.store / "domains"
    secret = stores.passphrase(env.store)
    weak_pair(live / "weak.test", "weak.test", "-newkey", "rsa:1024")
    encrypt(live / "encrypted.test/privkey.pem", secret)
    encrypt(live / "fallback.test/fallback-privkey.pem", secret)
    (workdir / "own").mkdir()
    cert, key = weak_pair(workdir / "own", "static.test", "-newkey", "rsa:1024")
    add(env, "static.test", f"MDCertificateFile {cert}\nMDCertificateKeyFile {key}")
    env.start()
    assert serves(env, "good.test")
    for name in "weak.test", "encrypted.test", "fallback.test", "static.test":
        assert "Fallback" in env.tls_cert(name).issuer.rfc4514_string(), name
        assert env.md_status(name)["state"] == 1
    env.wait_log(r"md\[weak\.test\]: certificate\(rsa\) cannot be used and will be ordered again: the key of "
                 r"certificate 1 of the chain is too weak")
    env.wait_log(r"md\[encrypted\.test\]: .*privkey\.pem is encrypted")
    env.wait_log(r"md\[static\.test\]: MDCertificateFile .*too weak")


def test_a_name_that_is_no_directory(httpd):
    """A typing error: it is refused with the configuration, not when half of it is in service."""
    for name, why in [("https://a.test", "is not a DNS name"), ("a/b.test", "is not a DNS name"),
                      ("..", "cannot name a managed domain"), ("x" * 256, "cannot name a managed domain")]:
        httpd.md_conf = [f"MDomain {name} a.test"]
        told = httpd.configtest()
        assert told.returncode != 0 and why in told.stderr, told.stderr


def test_keys_that_take_long(env):
    """A child that makes one ends at once, and so do the renewals of others go on."""
    add(env, "slow.test", "MDPrivateKeys RSA 16384")
    add(env, "good.test")
    env.start()
    env.await_md("good.test")
    env.wait_log("AH10052: md.slow.test.")
    add(env, "new.test")
    before = env.watchdog_pid()
    env.graceful()
    env.await_md("new.test")
    assert env.watchdog_pid() != before
    wait_for(lambda: not is_alive(before), 20, "end of the child that made a key")
