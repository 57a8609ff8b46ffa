# SPDX-License-Identifier: Apache-2.0
"""What is wrong with one domain harms no other: the server starts, all others get and keep their
certificates; the log tells what to do, and the status of the domain shows it."""
import re

from servers import make_server_cert, run

SPOILT = {  # what the section has, or what is done to the store; what the log says
    "x25519.test": ("MDPrivateKeys X25519", r"AH10173: md\[x25519\.test\]: MDPrivateKeys: keys of "
                    r"type 'X25519' cannot sign"),
    "curve.test": ("MDPrivateKeys rsa2048 no-such-curve", r"AH10173: md\[curve\.test\]: "
                   "MDPrivateKeys: the key type 'no-such-curve' is not known"),
    "static.test": ("MDCertificateFile none.pem\nMDCertificateKeyFile none.key",
                    r"md\[static\.test\]: MDCertificateFile \S+/none\.pem cannot be read; it is "
                    r"not served until that is repaired and the server reloaded"),
    "unsuitable.test": ("MDCAChallenges later-99", r"AH10056: processing unsuitable\.test: "),
    "cert.test": ("", r"md\[cert\.test\]: certificate\(rsa\) cannot be used and is ordered anew: "
                  r".*domains/cert\.test/pubcert\.pem"),
    "document.test": ("", r"md\[document\.test\]: .*md\.json.*; kept as \S+, it is written anew "
                      r"from the configuration"),
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
    for name in "new0.test", "new1.test":
        add(env, name)
    mark = len(env.error_log())
    env.start()
    assert serves(env, "old.test") and serves(env, "document.test")
    env.await_md(["new0.test", "new1.test", "both.test"])
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
    assert "no-such-curve" in status["curve.test"]["renewal"]["last"]["detail"]
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
