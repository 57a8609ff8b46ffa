# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the child that drives renewals, at every step of an order: the next one goes on from the store."""
import os
import signal

import pytest
from cryptography.hazmat.primitives import serialization

from scripted_ca import ScriptedCA, hold
from servers import wait_for

pytestmark = [pytest.mark.kills, pytest.mark.usefixtures("made_keys")]

# where the request is held: "before" the CA acts (it then never does), or "after" it acted and only
# the reply is lost
STEPS = [(kind, when) for kind in ("newAccount", "newOrder", "authz", "challenge", "order", "finalize",
                                   "certificate") for when in ("before", "after")]


@pytest.fixture
def ca(workdir, request):
    with ScriptedCA(workdir / "ca", authz_polls=1, order_polls=1) as ca:
        yield ca
        if getattr(request.node, "failed", False):
            print("==== CA\n" + ca.log())


@pytest.mark.parametrize("kind, when", STEPS)
def test_killed_at(httpd, ca, kind, when):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDPrivateKeys P-256\nMDRetryDelay 1s\nMDomain one.example.org")
    httpd.add_vhost("one.example.org")
    rule = ca.script(kind, hold(when), times=1)
    httpd.start()
    ca.wait_held(rule)
    killed = wait_for(httpd.watchdog_pid, what="the watchdog's child")
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{killed}"), what="end of the child")
    ca.release()
    httpd.await_md("one.example.org", 90)
    assert len(ca.accounts) == 1
    used = [o for o in ca.orders if o.downloaded]
    assert len(used) == 1
    if (kind, when) != ("newOrder", "after"):  # there its URL never reached us
        assert len(ca.orders) == 1, "a second order where the first could be used"
    httpd.graceful()
    served = httpd.tls_cert("one.example.org")
    assert served == used[0].certificate
    key = serialization.load_pem_private_key(
        (httpd.store / "domains/one.example.org/privkey.p-256.pem").read_bytes(), None)
    assert key.public_key().public_numbers() == served.public_key().public_numbers()


def test_killed_again_and_again(httpd, ca):
    """Whatever the moment: in the end all have their certificate, from one account."""
    httpd.use_ca(ca)
    httpd.add_md_conf("MDPrivateKeys P-256\nMDRetryDelay 1s")
    names = [f"d{i}.example.org" for i in range(6)]
    for name in names:
        httpd.add_md_conf(f"MDomain {name}")
        httpd.add_vhost(name)
    httpd.start()
    for n in range(6, 42, 6):
        ca.wait(lambda: len(ca.requests) >= n or all(o.downloaded for o in ca.orders) and ca.orders)
        pid = httpd.watchdog_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"), what="end of the child")
    for name in names:
        wait_for(lambda: (httpd.store_json("staging", name, "job.json") or {}).get("finished"), 90,
                 name)
    assert len(ca.accounts) == 1
    httpd.graceful()
    for name in names:
        assert httpd.get("/", name, https=True, verify=ca.root_file.read_text())[0] == 200
