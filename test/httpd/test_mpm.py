# SPDX-License-Identifier: Apache-2.0
"""The main job with each of httpd's MPMs. The engine has threads also in prefork's children, which have none."""
import os
import signal

import pytest

from scripted_ca import hold
from servers import wait_for


@pytest.fixture(params=["event", "worker", "prefork"])
def mpm(httpd, request):
    httpd.mpm = request.param
    httpd.add_vhost("one.example.org")
    httpd.write_conf()
    assert f"Server MPM:     {request.param}" in httpd.command("-V").stdout
    return request.param


def test_from_nothing_to_https_and_on(env, mpm):
    env.add_md_conf("MDomain one.example.org")
    env.start()
    assert env.get("/", "one.example.org", https=True)[0] == 503
    env.await_md("one.example.org")
    env.graceful()
    status, _, body = env.get("/", "one.example.org", https=True, verify=env.ca.root_pem())
    assert (status, body) == (200, "it is served\n")
    env.md_conf[-1] += " www.one.example.org"
    env.vhosts[-1] = env.vhosts[-1].replace("</V", "ServerAlias www.one.example.org\n</V")
    env.graceful()
    env.wait_log(r"AH10059: The Managed Domain one\.example\.org ", count=2)
    env.graceful()
    assert env.get("/", "www.one.example.org", https=True, verify=env.ca.root_pem())[0] == 200
    assert env.ca.accounts() == 1
    assert not env.problems()


@pytest.mark.kills
def test_killed_while_issuing(httpd, ca, mpm):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDPrivateKeys P-256\nMDRetryDelay 1s\nMDomain one.example.org")
    rule = ca.script("challenge", hold("after"), times=1)
    httpd.start()
    ca.wait_held(rule)
    killed = wait_for(httpd.watchdog_pid, what="the watchdog's child")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{killed}"), what="end of the child")
    ca.release()
    httpd.await_md("one.example.org", 90)
    assert len(ca.accounts) == 1
    httpd.graceful()
    assert httpd.get("/", "one.example.org", https=True, verify=ca.root_file.read_text())[0] == 200
