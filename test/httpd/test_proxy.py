# SPDX-License-Identifier: Apache-2.0
"""MDHttpProxy: the way to the CA leads through a proxy, for all domains or one. MDCACertificateFile: whom to trust at
its end."""
import json
import subprocess

import pytest

from cryptography.x509.ocsp import OCSPCertStatus

import ocsp_ca
from ports import free_ports
from scripted_ca import ScriptedCA
from servers import apxs, wait_for
from test_a2md import Tool

USER, PASSWORD = "proxy-user", "s@cret:/?#%25"
ENCODED = "s%40cret%3A%2F%3F%23%2525"


def add_proxy(env, with_auth=False):
    """httpd itself as a proxy; returns its URL, with USER and PASSWORD if it has to be known who asks. What it was
    asked for is in proxy.log."""
    port = free_ports(1)[0]
    libexec = apxs("LIBEXECDIR")
    auth, user = "", ""
    env.global_conf.append(f"LoadModule proxy_module {libexec}/mod_proxy.so")
    if with_auth:
        hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True)
        (env.dir / "users").write_text(f"{USER}:{hashed.stdout}")
        env.global_conf += [f"LoadModule {name}_module {libexec}/mod_{name}.so"
                            for name in ("auth_basic", "authn_file", "authz_user", "proxy_http")]
        auth = (f'<Proxy "*">\nAuthType Basic\nAuthName proxy\nAuthUserFile {env.dir}/users\n'
                "Require valid-user\n</Proxy>\n")
        user = f"{USER}:{ENCODED}@"
    env.global_conf += [f"LoadModule proxy_connect_module {libexec}/mod_proxy_connect.so",
                        f"Listen 127.0.0.1:{port}"]
    env.vhosts.append(f"<VirtualHost 127.0.0.1:{port}>\nServerName proxy.test\nProxyRequests On\n"
                      f"AllowCONNECT {env.ca.port}\nCustomLog {env.dir}/proxy.log \"%>s %r\"\n{auth}</VirtualHost>")
    return f"http://{user}localhost:{port}"


def proxied(env):
    log = env.dir / "proxy.log"
    return log.read_text().count(f"CONNECT localhost:{env.ca.port}") if log.exists() else 0


def add(env, name, line=""):
    env.add_md_conf(f"<MDomain {name}>\nMDPrivateKeys P-256\n{line}\n</MDomain>")
    env.add_vhost(name)


def test_one_proxy_for_all(env):
    env.add_md_conf(f"MDHttpProxy {add_proxy(env)}")
    add(env, "one.test")
    env.start()
    env.await_md("one.test")
    env.graceful()
    wait_for(lambda: proxied(env), what="a request at the proxy")  # which are logged when they end


def test_a_proxy_of_its_own(env):
    """And one domain's dead proxy is nobody else's problem."""
    dead = free_ports(1)[0]
    add(env, "own.test", f"MDHttpProxy {add_proxy(env)}")
    add(env, "dead.test", f"MDHttpProxy http://localhost:{dead}")
    add(env, "plain.test")
    env.start()
    env.await_md(["own.test", "plain.test"])
    last = env.await_error("dead.test")["last"]
    assert last["status-description"] == "Connection refused"
    assert "Unsuccessful in contacting ACME server at " in last["detail"]
    assert "problem" not in last
    assert "account" not in env.store_json("domains", "dead.test", "md.json")["ca"]
    env.graceful()
    wait_for(lambda: proxied(env), what="a request at the proxy")
    assert env.store_json("domains", "own.test", "md.json")["proxy-url"].startswith("http://localhost:")


# ---- credentials ----

def shown(env, name="one.test"):
    """All that people may read: the log, the record of the renewal, pages."""
    texts = [line for line in env.error_log().splitlines() if "[md:" in line]  # the proxy's are there, too
    texts += [json.dumps(env.store_json("staging", name, "job.json") or {})]
    for path in f"md-status/{name}", "md-status", "md-status?format=html", f"md-status/{name}?format=html", "server-status", "md-metrics":
        texts.append(env.get("/" + path, "base.test")[2])
    return "\n".join(texts)


def assert_secret(text):
    for secret in PASSWORD, ENCODED, USER, "cret":
        assert secret not in text.replace("secret", ""), secret


@pytest.mark.parametrize("where", ["server", "section"])
def test_credentials(env, where):
    """Are used for the CA and its renewalInfo, by server and tool, and shown nowhere."""
    env.log_level = "info md:trace8"
    line = f"MDHttpProxy {add_proxy(env, with_auth=True)}"
    if where == "server":
        env.add_md_conf(line)
    add(env, "one.test", line if where == "section" else "")
    env.global_conf += ["<Location /server-status>\nSetHandler server-status\n</Location>", "ExtendedStatus On"]
    env.add_md_conf("MDServerStatus on")
    env.start()
    env.await_md("one.test")
    assert_secret(shown(env))
    env.graceful()
    wait_for(lambda: proxied(env), what="a request at the proxy")
    wait_for(lambda: "ari" in env.md_status("one.test")["cert"]["P-256"], what="what the CA suggests")
    assert_secret(shown(env))
    tool = Tool(env.store, "-vvvvvv")
    for command in (["list"], ["drive", "-f", "-c", "http-01", "one.test"], ["revoke", "one.test"]):
        done = tool(*command, options=["-j"])
        assert done.returncode == 0, done.stderr
        assert_secret(done.stdout + done.stderr)
    assert " 407 " not in env.dir.joinpath("proxy.log").read_text()


@pytest.mark.parametrize("user", ["", f"{USER}:wr0ng-s%40cret@"], ids=["none", "wrong"])
def test_credentials_that_are_wrong(env, user):
    proxy = add_proxy(env, with_auth=True)
    add(env, "one.test", f"MDHttpProxy {proxy.replace(f'{USER}:{ENCODED}@', user)}")
    env.start()
    detail = env.await_error("one.test")["last"]["detail"]
    assert "HTTP status 407" in detail and "Check those in MDHttpProxy" in detail
    assert_secret(shown(env))
    assert "wr0ng" not in shown(env)


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_credentials_for_a_responder(httpd, workdir, is_right):
    """Which is asked in clear: the proxy is told with each request."""
    with ocsp_ca.OcspCA(workdir / "ocsp") as responder:
        httpd.ca = responder
        responder.port = 443
        proxy = add_proxy(httpd, with_auth=True)
        httpd.add_md_conf(f"MDStapling on\nMDHttpProxy {proxy if is_right else proxy.replace(ENCODED, 'wr0ng')}")
        httpd.add_vhost("one.test", extra=ocsp_ca.tls(responder.issue("one.test")))
        httpd.start()
        if is_right:
            wait_for(lambda: ocsp_ca.stapled(httpd.https_port, "one.test", responder.issuer) == OCSPCertStatus.GOOD,
                     what="a staple")
            assert f" GET {responder.url}/" in httpd.dir.joinpath("proxy.log").read_text()
        else:
            httpd.wait_log("the proxy answers with HTTP status 407")
            assert not responder.asked
        log = "".join(line for line in httpd.error_log().splitlines() if "[md:" in line)
        assert_secret(log)
        assert "wr0ng" not in log


@pytest.mark.parametrize("url", [f"http://{USER}:{PASSWORD}@localhost:1", f"{USER}:{PASSWORD}@localhost", f"ftp://{USER}:{ENCODED}@a.b"])
def test_a_slip_tells_no_secret(env, url):
    env.add_md_conf(f"MDHttpProxy {url.replace('#', 'x')}")
    done = env.configtest()
    assert done.returncode != 0 and "MDHttpProxy '" in done.stderr
    assert_secret(done.stdout + done.stderr)


def test_a_port_that_the_proxy_refuses(env):
    proxy = add_proxy(env)
    env.vhosts[-1] = env.vhosts[-1].replace(f"AllowCONNECT {env.ca.port}", "AllowCONNECT 1")
    add(env, "one.test", f"MDHttpProxy {proxy}")
    env.start()
    assert "the proxy answers with HTTP status 403. Check MDHttpProxy" in env.await_error("one.test")["last"]["detail"]


# ---- whom to trust ----

def test_roots_of_a_domain(httpd, ca, workdir):
    """Its own file is for its CA alone; `none` cancels that of the server, and is told."""
    with ScriptedCA(workdir / "two") as two:
        httpd.use_ca(ca)
        httpd.ca = ca
        add(httpd, "one.test")
        add(httpd, "two.test", f"MDCertificateAuthority {two.directory_url}\nMDCACertificateFile {two.ca_file}")
        add(httpd, "other.test", f"MDCertificateAuthority {two.directory_url}")
        add(httpd, "none.test", "MDCACertificateFile None")
        httpd.start()
        httpd.await_md(["one.test", "two.test"])
        for name in "other.test", "none.test":
            assert "MDCACertificateFile" in httpd.await_error(name)["last"]["detail"]
        assert len(ca.orders) == len(two.orders) == 1
