# SPDX-License-Identifier: Apache-2.0
"""What real CAs, and what stands in front of them, get wrong without meaning harm: it works, in the
first attempt where that is possible, and nobody suffers for another."""
import json
import time

import pytest

import scripted_ca as ca_is
from servers import wait_for

ACME = "urn:ietf:params:acme:error:"


@pytest.fixture
def server(httpd, ca):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDRetryDelay 1s\nMDPrivateKeys P-256")
    return httpd


def domain(server, *names, extra=""):
    server.add_md_conf(f"<MDomain {' '.join(names)}>\n{extra}\n</MDomain>")
    server.add_vhost(names[0], aliases=names[1:])


def others(server, count=6):
    names = [f"d{i}.example.org" for i in range(count)]
    for name in names:
        domain(server, name)
    return names


def said(code, body, ctype, headers=()):
    """An answer with a fresh nonce, whatever it is called."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    return ca_is._Answer(lambda ca, rq: ca.with_nonce(ca_is.Reply(code, data, ctype, headers)))


def last(server, name="one.example.org"):
    return server.await_error(name)["last"]


# ---- limits and refusals of one ----

def test_the_limit_of_one_domain_stops_nobody_else(server, ca):
    ca.script("newOrder", ca_is.problem("rateLimited", "too many, retry later", 429, retry_after=60),
              domain="limited.example.org")
    domain(server, "limited.example.org")
    names = others(server)
    server.start()
    server.await_md(names, 20)
    job = server.await_error("limited.example.org")
    assert job["last"]["problem"] == ACME + "rateLimited"
    assert ca.count("newOrder", domain="limited.example.org") == 1


def test_a_limit_told_to_several_holds_new_orders_alone(server, ca):
    """What is under way goes on; when it is over one tries, then all."""
    gate = ca.script("order", ca_is.hold(), domain="d0.example.org", nth=1)
    server.add_md_conf("MDRetryDelay 1h")
    domain(server, "d0.example.org")
    server.start()
    ca.wait_held(gate)
    limit = ca.script("newOrder", ca_is.problem("rateLimited", "slowly", 429, retry_after=5))
    names = others(server, 12)[1:]
    server.graceful()
    wait_for(lambda: limit.hits >= 3, what="refusals")
    ca.calm()
    server.await_md("d0.example.org")
    refused = {r.domains[0] for r in ca.select("newOrder") if r.status == 429}
    server.await_md([name for name in names if name not in refused])
    assert 3 <= len(refused) <= 11


def test_a_domain_that_is_unauthorized_is_no_account(server, ca):
    ca.script("*", ca_is.slow(0.05))
    ca.script("newOrder", ca_is.problem("unauthorized", "not yours", 403), domain="bad.example.org")
    domain(server, "bad.example.org")
    names = others(server, 7)
    server.start()
    server.await_md(names)
    server.await_error("bad.example.org")
    assert len(ca.accounts) == 1 and ca.count("newAccount") == 1
    assert ca.count("newOrder") - ca.count("newOrder", domain="bad.example.org") == 7
    assert not [line for line in server.problems() if "bad.example.org" not in line
                and "acme problem" not in line]


# ---- refusals that are no proper problem documents ----

@pytest.mark.parametrize("ctype", ["application/json", "text/plain", "text/html"])
def test_bad_nonce_of_any_type(server, ca, ctype):
    bad = {"type": ACME + "badNonce", "detail": "the nonce is not known"}
    for kind in "newAccount", "newOrder", "authz", "challenge", "finalize", "certificate":
        ca.script(kind, said(400, bad, ctype), nth=1)
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org")
    assert not server.problems()


@pytest.mark.parametrize("body, ctype", [
    ({"detail": "these words"}, "application/problem+json"),
    ({"message": "these words"}, "application/json"), ({"title": "these words"}, "application/json"),
    (b"these words", "text/plain")])
def test_the_words_of_a_refusal_are_told(server, ca, body, ctype):
    ca.script("newOrder", said(400, body, ctype))
    domain(server, "one.example.org")
    server.start()
    assert "these words" in last(server)["detail"]
    server.wait_log(r"AH10056: processing one.example.org: .*these words")


def test_an_account_that_is_gone(server, ca):
    """Told by a document of the wrong type, at the order: in the first attempt there is a new one."""
    server.add_md_conf("MDRenewConcurrency 1")
    gone = {"type": ACME + "accountDoesNotExist", "detail": "no such account"}
    rule = ca.script("newOrder", said(400, gone, "application/json"), where=lambda rq: rq.account == 1)
    ca.script("account", said(400, gone, "application/json"), where=lambda rq: rq.account == 1)
    ca.script("newAccount", said(400, gone, "application/json"),
              where=lambda rq: rq.payload and "onlyReturnExisting" in rq.payload)
    domain(server, "one.example.org")
    server.start()
    server.wait_log("registered new account", 30, 1)
    first = ca.accounts[0]
    rule.where = lambda rq: rq.account == first.id
    server.await_md("one.example.org")
    assert len(ca.accounts) <= 2


@pytest.mark.parametrize("kind", ["rejectedIdentifier", "rateLimited"])
def test_the_media_type_changes_nothing(server, ca, kind):
    body = {"type": ACME + kind, "detail": "these words"}
    ca.script("newOrder", said(403, body, "application/json", [("Retry-After", "86400")]
                               if kind == "rateLimited" else []))
    domain(server, "one.example.org")
    server.start()
    told = last(server)
    assert told["problem"] == ACME + kind and told["detail"] == "these words"
    server.wait_log(r"AH10057: one.example.org: encountered error .*next run in (1\d|2\d|3\d) hours")


@pytest.mark.parametrize("code", [403, 503])
def test_a_problem_at_the_directory(server, ca, code):
    ca.script("directory", ca_is.problem("unauthorized", "these words", code))
    domain(server, "one.example.org")
    server.start()
    assert "these words" in last(server)["detail"]


# ---- long texts ----

def test_a_long_text_is_kept_whole(server, ca):
    detail = "Grüße:\n" + "x" * 6000 + " https://ca.test/unpause?jwt=the-end"
    ca.script("newOrder", ca_is.problem("rateLimited", detail, 429, retry_after=600))
    domain(server, "one.example.org")
    server.start()
    assert last(server)["detail"] == detail
    renewal = server.md_status("one.example.org")["renewal"]
    assert renewal["last"]["detail"] == detail
    server.wait_log(r"AH10056: processing one.example.org: .*\[\.\.\.\] \(the whole text is in "
                    r"\S+staging/one.example.org/job.json")


def test_subproblems_are_kept_and_bounded(server, ca):
    deep = json.loads("[" * 20 + "]" * 20)
    subs = [{"type": ACME + "caa", "detail": f"no {i}", "nested": deep,
             "identifier": {"type": "dns", "value": f"n{i}.example.org"}} for i in range(1500)]
    ca.script("newOrder", ca_is.problem("rejectedIdentifier", "all of them", 403, subproblems=subs))
    domain(server, "one.example.org")
    server.start()
    kept = last(server)["subproblems"]
    assert len(kept) == 100 and kept[7] == {k: subs[7][k] for k in ("type", "detail", "identifier")}
    server.graceful()
    assert "the record begins anew" not in server.error_log()


# ---- what passes ----

def test_bursts_are_waited_for(server, ca):
    """A limit for requests, without any time told, and an order of many names."""
    names = [f"n{i}.example.org" for i in range(12)]
    times = []

    def limit(ca_, rq):
        now = time.monotonic()
        recent = [t for t in times if now - t < 1]
        if len(recent) >= 5:
            return ca_is.Reply(429, b"<html>slowly</html>", "text/html")
        times.append(now)
        return None
    ca.script("signed", ca_is._Answer(limit))
    domain(server, *names)
    server.start()
    server.await_md(names[0])
    assert not server.problems() or all("acme problem" in line for line in server.problems())
    assert ca.count("newOrder", order=ca.orders[0].id) == 1
