# SPDX-License-Identifier: Apache-2.0
"""a2md acme rollover (RFC 8555 7.3.5): the account works at any time, whatever is killed."""
import shutil
import signal
import subprocess

import pytest

import scripted_ca as ca_is
from servers import wait_for
from test_a2md import TOOL, Tool

NAME = "one.test"


@pytest.fixture
def tool(workdir, ca):
    tool = Tool(workdir / "md", "-C", ca.ca_file)
    tool.ca = ca
    return tool


def register(tool, directory_url=None):
    return tool.ok("acme", "newreg", "x@example.org",
                   options=["-a", directory_url or tool.ca.directory_url, "-t", "accepted"]).split()[1]


def is_valid(tool, account):
    tool.ok("acme", "validate", account, options=["-a", tool.ca.directory_url])


def files(tool, account):
    return {path.name: path.read_bytes() for path in (tool.store / "accounts" / account).iterdir()}


def rollover(tool, account):
    assert tool.ok("acme", "rollover", account) == f"new account key: {account}\n"
    assert set(files(tool, account)) == {"account.json", "account.pem"}
    is_valid(tool, account)


def test_the_key_is_another_one(tool):
    account = register(tool)
    before, jwk = files(tool, account), tool.ca.accounts[0].jwk
    rollover(tool, account)
    after = files(tool, account)
    assert after["account.json"] == before["account.json"] and after["account.pem"] != before["account.pem"]
    assert tool.ca.accounts[0].jwk != jwk and len(tool.ca.accounts) == 1
    rollover(tool, account)
    (tool.store / "accounts" / account / "account.pem").write_bytes(before["account.pem"])
    assert tool("acme", "validate", account, options=["-a", tool.ca.directory_url]).returncode == 1


def test_pebble_takes_it(workdir, pebble):
    tool = Tool(workdir / "md", "-C", pebble.ca_file)
    tool.ca = pebble
    account = register(tool)
    rollover(tool, account)
    rollover(tool, account)


def test_what_cannot_be(tool):
    account = register(tool)
    before = files(tool, account)
    assert "there is no such account" in tool.fails("acme", "rollover", "ACME-nix-0000")
    assert "it is registered at " in tool.fails("acme", "rollover", account, options=["-a", "https://localhost:1/dir"])
    tool.ca.script("directory", ca_is._Change(lambda ca, rq, reply: reply.json.pop("keyChange") and None), times=1)
    assert "offers no change of account keys" in tool.fails("acme", "rollover", account)
    tool.ca.script("keyChange", ca_is.problem("badPublicKey", "not this one"), times=1)
    assert "not this one" in tool.fails("acme", "rollover", account)
    assert files(tool, account) == before
    is_valid(tool, account)


def kill_at(tool, account, kind, when):
    """Kill the command -9 while the CA has this request."""
    rule = tool.ca.script(kind, ca_is.hold(when), times=1)
    command = subprocess.Popen([str(arg) for arg in [TOOL, *tool.options, "acme", "rollover", account]])
    tool.ca.wait_held(rule)
    command.send_signal(signal.SIGKILL)
    command.wait()
    tool.ca.release(rule)


@pytest.mark.parametrize("kind, when, files_left", [
    ("directory", "before", 2), ("newNonce", "before", 3), ("keyChange", "before", 3), ("keyChange", "after", 3)])
def test_killed(tool, kind, when, files_left):
    """Whoever uses the account after that can; and the next rollover comes to its end."""
    account = register(tool)
    jwk = tool.ca.accounts[0].jwk
    kill_at(tool, account, kind, when)
    assert len(files(tool, account)) == files_left
    assert (tool.ca.accounts[0].jwk != jwk) == (when == "after")
    is_valid(tool, account)
    tool.ok("-a", tool.ca.directory_url, "add", NAME)
    tool.ok("update", NAME, "contacts", "x@example.org")
    tool.ok("update", NAME, "agreement", "accepted")
    tool.ok("drive", "-c", "http-01", NAME)
    assert len(tool.ca.accounts) == 1 and tool.stored(NAME)["ca"]["account"] == account
    rollover(tool, account)
    assert tool.ca.accounts[0].jwk != jwk


def test_killed_before_the_last_file_goes(tool):
    account = register(tool)
    path = tool.store / "accounts" / account
    kill_at(tool, account, "keyChange", "after")
    shutil.copy(path / "account.next.pem", path / "account.pem")
    is_valid(tool, account)
    rollover(tool, account)


@pytest.mark.parametrize("lost", [ca_is.hold("after"), ca_is.status(500), ca_is.refuse()], ids="held 500 cut".split())
def test_an_answer_that_is_lost(tool, lost):
    """The CA has acted, or not, and answers with something else."""
    account = register(tool)
    if isinstance(lost, ca_is._Hold):
        def change(ca, rq, reply):
            raise ca_is.Gone()
        lost = ca_is._Change(change)
    tool.ca.script("keyChange", lost, times=1)
    rollover(tool, account)


def test_nothing_is_known(tool):
    """The CA is gone after it has acted: both keys stay."""
    account = register(tool)

    def change(ca, rq, reply):
        raise ca_is.Gone()
    tool.ca.script("keyChange", ca_is._Change(change))
    tool.ca.script("newAccount", ca_is.status(500))
    assert "run this command again" in tool.fails("acme", "rollover", account)
    tool.ca.calm()
    assert len(files(tool, account)) == 3
    is_valid(tool, account)
    changes = tool.ca.count("keyChange")
    rollover(tool, account)
    assert tool.ca.count("keyChange") == changes  # it had been done


def configure(httpd, ca):
    httpd.use_ca(ca)
    httpd.add_md_conf(f"MDPrivateKeys P-256\nMDRetryDelay 1s\nMDRenewWindow 120d\nMDomain {NAME}\n"
                      "<MDomain two.test>\nMDRenewMode manual\n</MDomain>")
    httpd.add_vhost(NAME)


def account_of(httpd):
    return wait_for(lambda: [path.name for path in (httpd.store / "accounts").iterdir()], what="the account")[0]


@pytest.mark.parametrize("kind, when, orders", [
    (None, None, 3), ("authz", "after", 2), ("challenge", "after", 2), ("finalize", "after", 2),
    ("newOrder", "before", 2), ("challenge", "before", 3)])
def test_a_server_notices(httpd, ca, kind, when, orders):
    """Without a restart, and without a failure of the domain, even in the middle of an order."""
    configure(httpd, ca)
    httpd.start()
    httpd.await_md(NAME)
    rule = ca.script(kind, ca_is.hold(when), times=1) if kind else None
    httpd.graceful()
    tool = Tool(httpd.store, "-C", ca.ca_file)
    if rule:
        ca.wait_held(rule)
    else:
        httpd.wait_log("AH10059", count=2)
    assert tool.ok("acme", "rollover", account_of(httpd))
    if rule:
        ca.release(rule)
        httpd.wait_log("AH10059", count=2)
    else:
        tool.ok("renew", "-n", "two.test")
        wait_for(lambda: (httpd.store_json("staging", "two.test", "job.json") or {}).get("finished"), what="two.test")
    assert len(ca.accounts) == 1 and len(ca.orders) == orders
    assert "AH10056" not in httpd.error_log()
