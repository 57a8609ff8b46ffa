# SPDX-License-Identifier: Apache-2.0
"""MDHttpProxy: the way to the CA leads through a proxy, for all domains or one."""
from ports import free_ports
from servers import apxs, wait_for


def add_proxy(env):
    """httpd itself as a proxy; returns its URL. What it was asked for is in proxy.log."""
    port = free_ports(1)[0]
    libexec = apxs("LIBEXECDIR")
    env.global_conf += [f"LoadModule proxy_module {libexec}/mod_proxy.so",
                        f"LoadModule proxy_connect_module {libexec}/mod_proxy_connect.so",
                        f"Listen 127.0.0.1:{port}"]
    env.vhosts.append(f"<VirtualHost 127.0.0.1:{port}>\nServerName proxy.test\nProxyRequests On\n"
                      f"AllowCONNECT {env.ca.port}\nCustomLog {env.dir}/proxy.log %r\n</VirtualHost>")
    return f"http://localhost:{port}"


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
