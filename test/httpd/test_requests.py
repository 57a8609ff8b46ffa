# SPDX-License-Identifier: Apache-2.0
"""a2md status, renew and check beside a running server: what somebody asks for is done at once, and told."""
import json
import os
import re
import subprocess
import time

import pytest

import scripted_ca as ca_is
from servers import make_pair, run, wait_for
from test_a2md import TOOL, Tool
from test_ari import settled

A, B = "a.example.org", "b.example.org"


@pytest.fixture
def served(env):
    """A server with a certificate for A, in service, that has nothing more to do."""
    env.add_md_conf(f"MDRetryDelay 1s\nMDPrivateKeys P-256\nMDomain {A}")
    env.add_vhost(A)
    env.start()
    env.await_md(A)
    env.graceful()
    env.wait_log("AH10054", count=2)
    env.tool = Tool(env.store)
    return env


def serials(server, name=A, group="domains"):
    return run("openssl", "x509", "-noout", "-serial", "-in", server.store / group / name / "pubcert.p-256.pem").stdout


def count(server, regex):
    return len(re.findall(regex, server.error_log()))


def left(server):
    return [path for group in ("requests", "answers") for path in (server.store / group).glob("*")]


def test_renewed_on_request(served):
    before = serials(served)
    began = time.monotonic()
    told = served.tool("renew", A)
    assert told.returncode == 0, told.stderr
    assert time.monotonic() - began < 20
    assert f"{A}: a new certificate is ready; reload the server to put it into service\n" in told.stderr
    assert f"{A}: requested by a2md\n" in told.stderr
    assert count(served, rf"\[md:info\].*md\[{A}\]: renewing now, as requested by a2md") == 1
    assert count(served, "AH10059") == 2 and not left(served)
    served.graceful()
    assert serials(served) != before
    assert not left(served)


def test_picked_up_within_two_seconds(served):
    settled(served, 2)
    assert served.tool.ok("renew", "--no-wait", A) == ""
    wait_for(lambda: served.store_json("answers", A, "answer.json"), 2, "an answer")
    wait_for(lambda: served.store_json("answers", A, "answer.json")["done"], what="the end")
    assert served.store_json("answers", A, "answer.json")["status"] == 0
    served.graceful()  # what is done is not done again
    settled(served, 3)
    assert count(served, "requested by a2md") == 1


def test_a_set_that_is_ready_is_enough(served):
    served.tool.ok("renew", A)
    assert "a new certificate is ready" in served.tool("renew", A).stderr
    assert count(served, "AH10059") == 2


def test_names_that_are_none(served):
    assert "no.example.org" in served.tool.fails("renew", "no.example.org")
    assert "an argument is missing" in run(TOOL, "-d", served.store, "check").stderr
    assert not left(served)


def test_check_asks_the_ca(served):
    wait_for(lambda: served.store_json("ocsp", A, "ari.json"), what="the first poll")
    first = served.store_json("ocsp", A, "ari.json")["certs"][0]["asked"]
    wait_for(lambda: time.strftime("%S") != first[-6:-4], what="another second")
    shown = served.tool.ok("check", A)
    assert served.store_json("ocsp", A, "ari.json")["certs"][0]["asked"] != first
    assert re.search(rf"^{A}  Valid  in \d+ (days|hours)  +(As its CA suggests, r|R)enews in \d+ days$", shown, re.M), shown
    assert count(served, "AH10059") == 1 and not left(served)


def test_status(served):
    served.add_md_conf(f"MDomain {B}\n<MDomainSet long-{'x' * 50}.example.org>\nMDMember manual\n</MDomainSet>")
    served.graceful()
    shown = served.tool.ok("status")
    assert shown.splitlines()[0].split() == ["DOMAIN", "STATE", "EXPIRES", "NEXT"]
    rows = [line.split()[0] for line in shown.splitlines()[1:] if not line.startswith(" ")]
    assert rows[-1] == A and rows[0].startswith("b.") and rows[1].endswith("..."), shown  # what needs somebody first
    assert all(len(line) <= 100 for line in shown.splitlines()), shown
    told = served.tool.json("status", A)
    assert told["output"][0]["cert"]["P-256"]["serial"].lower() in serials(served).lower()
    assert served.tool.fails("status", "no.example.org")


def test_nobody_is_there(served):
    """Neither a server nor, for that domain, its configuration."""
    served.stop()
    began = time.monotonic()
    told = served.tool.fails("renew", A)
    assert "no server has taken up the request within 30 seconds. Is a server running" in told
    assert time.monotonic() - began < 40 and not left(served)


def test_asked_while_there_is_no_server(served):
    served.stop()
    served.tool.ok("renew", "-n", A)
    served.start()
    served.wait_log("requested by a2md")
    served.wait_log("AH10059", count=2)


def test_a_veto(served):
    program = served.dir / "message"
    program.write_text('#!/bin/sh\n[ "$1" != renewing ]\n')
    program.chmod(0o755)
    served.add_md_conf(f"MDMessageCmd {program}")
    served.graceful()
    served.wait_log("AH10054", count=3)
    assert f"{A}: no new certificate: MDMessageCmd refused it (event 'renewing')" in served.tool.fails("renew", A)
    assert count(served, "AH10060") == 1 and count(served, "AH10059") == 1


def test_domains_that_are_not_renewed_by_themselves(env):
    """MDRenewMode manual waits for a request; static files are nobody's but the administrator's."""
    cert, key = make_pair(env.dir, "static", f"DNS:{B}")
    env.add_md_conf(f"MDPrivateKeys P-256\n<MDomainSet {A}>\nMDRenewMode manual\n</MDomainSet>\n"
                    f"<MDomainSet {B}>\nMDCertificateFile {cert}\nMDCertificateKeyFile {key}\n</MDomainSet>")
    env.add_vhost(A)
    env.add_vhost(B)
    env.start()
    tool = Tool(env.store)
    told = tool("renew", A, B)
    assert told.returncode == 1
    assert f"{A}: a new certificate is ready" in told.stderr
    assert f"{B}: no new certificate: its certificates come from MDCertificateFile" in told.stderr
    env.graceful()
    assert (env.store / "domains" / A / "pubcert.p-256.pem").exists()


@pytest.fixture
def strict(fleet, ca):
    server, = fleet(1)
    server.await_md(server.name)
    server.graceful()
    server.wait_log("AH10054", count=2)
    server.tool = Tool(server.store)
    return server


def test_a_failure_is_told(strict, ca):
    ca.script("newOrder", ca_is.problem("rejectedIdentifier", "Policy <forbids> it"))
    told = strict.tool.fails("renew", strict.name)
    assert f"{strict.name}: no new certificate: " in told and "Policy <forbids> it" in told
    assert not left(strict)


def test_a_ca_that_wants_to_be_left_alone(strict, ca):
    ca.script("newOrder", ca_is.problem("rateLimited", "too many", status=429, retry_after=7200))
    assert "too many" in strict.tool.fails("renew", strict.name)
    orders = ca.count("newOrder")
    assert "asked not to be contacted before" in strict.tool.fails("renew", strict.name)
    assert ca.count("newOrder") == orders


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_who_may_ask(served):
    """Only those to whom the store belongs: not the user of the children."""
    assert served.tool("renew", A).returncode == 0
    made = subprocess.run(["setpriv", "--reuid=33", "--regid=33", "--clear-groups", "mkdir", served.store / "requests" / B],
                          capture_output=True, check=False)
    assert made.returncode != 0


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"id": "x" * 5000, "kind": "renew", "made": "never"}),
                                  json.dumps({"id": "1", "kind": "obliterate", "made": "Sun, 06 Nov 2044 08:49:37 GMT"})])
def test_requests_that_are_none(served, text):
    place = served.store / "requests" / A
    place.mkdir(parents=True)
    (place / "request.json").write_text(text)
    served.tool.ok("check", A)
    assert count(served, "requested by a2md") == 0
