# SPDX-License-Identifier: Apache-2.0
"""What real CAs, and what stands in front of them, get wrong without meaning harm: it works, in the
first attempt where that is possible, and nobody suffers for another."""
import contextlib
import email.utils
import json
import re
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


def others(server, count=6, first=0):
    names = [f"d{i}.example.org" for i in range(first, first + count)]
    for name in names:
        domain(server, name)
    return names


def said(code, body, ctype, headers=()):
    """An answer with a fresh nonce, whatever it is called."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    return ca_is._Answer(lambda ca, rq: ca.with_nonce(ca_is.Reply(code, data, ctype, headers)))


def moment(text):
    return email.utils.parsedate_to_datetime(text).timestamp()


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
    names = others(server, 11, first=1)
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
    ca.authz_polls = 1
    for kind in "newAccount", "newOrder", "authz", "challenge", "order", "finalize", "certificate":
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
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org")
    gone = {"type": ACME + "accountDoesNotExist", "detail": "no such account"}
    first = ca.accounts[0].id
    for kind in "account", "newOrder":
        ca.script(kind, said(400, gone, "application/json"), where=lambda rq: rq.account == first,
                  nth=lambda n, kind=kind: kind == "newOrder" or n > 1)
    domain(server, "two.example.org")
    server.graceful()
    server.await_md("two.example.org")
    assert len(ca.accounts) == 2
    assert not server.error_log().count("AH10056")


@pytest.mark.parametrize("kind", ["rejectedIdentifier", "rateLimited"])
def test_the_media_type_changes_nothing(server, ca, kind):
    body = {"type": ACME + kind, "detail": "these words"}
    ca.script("newOrder", said(403, body, "application/json", [("Retry-After", "86400")]
                               if kind == "rateLimited" else []))
    domain(server, "one.example.org")
    server.start()
    told = last(server)
    assert told["problem"] == ACME + kind and told["detail"] == "these words"
    job = server.store_json("staging", "one.example.org", "job.json")
    assert moment(job["next-run"]) - moment(job["last-run"]) > 11 * 3600


@pytest.mark.parametrize("code", [403, 503])
def test_a_problem_at_the_directory(server, ca, code):
    ca.script("directory", ca_is.problem("unauthorized", "these words", code))
    domain(server, "one.example.org")
    server.start()
    assert "these words" in last(server)["detail"]


# ---- long texts ----

def test_a_long_text_is_kept_whole(server, ca):
    detail = "Grüße:\n" + "x" * 8192 + " https://ca.test/unpause?jwt=the-end"
    ca.script("newOrder", ca_is.problem("rateLimited", detail, 429, retry_after=600))
    domain(server, "one.example.org")
    server.start()
    assert last(server)["detail"] == detail
    renewal = server.md_status("one.example.org")["renewal"]
    assert renewal["last"]["detail"] == detail
    server.wait_log(r"AH10056: processing one.example.org: .*\[\.\.\.\] \(the full text is in "
                    r"\S+staging/one.example.org/job.json")


def test_subproblems_are_kept_and_bounded(server, ca):
    subs = [{"type": ACME + "caa", "detail": f"no {i}",
             "identifier": {"type": "dns", "value": f"n{i}.example.org"}} for i in range(1500)]
    body = {"type": ACME + "rejectedIdentifier", "detail": "all of them", "subproblems": subs}
    ca.script("newOrder", said(403, body, "application/problem+json"))
    domain(server, "one.example.org")
    server.start()
    kept = last(server)["subproblems"]
    assert kept == subs[:100]
    server.graceful()
    assert "starting a new record" not in server.error_log()


def test_too_many_names(server, ca):
    """A domain of which nothing could be ordered, nor read back, harms no other."""
    names = [f"{'x' * 60}.{'y' * 60}.{'z' * 60}.n{i}.example.org" for i in range(1400)]
    server.add_md_conf("<MDomain many.example.org>\n" + "\n".join(f"MDMember {name}" for name in names)
                       + "\n</MDomain>")
    server.add_vhost("many.example.org")
    server.log_level = "info"  # it is not for each name
    told = server.configtest()
    assert told.returncode == 0
    assert "AH10173: md[many.example.org]: its 1401 names (278906 bytes in all) are too many" in told.stderr
    assert "split them into several domains" in told.stderr
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org")
    assert last(server, "many.example.org")["detail"].startswith("its 1401 names")
    server.graceful()
    assert "starting a new record" not in server.error_log()
    assert server.store_json("domains", "many.example.org", "md.json")["domains"][1:] == names
    assert ca.count("newOrder") == 1


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


def test_patience_is_bounded_without_a_certificate(server, ca):
    ca.authz_polls = ca.order_polls = 3
    for kind in "order", "finalize":
        ca.script(kind, ca_is.retry_after(86400))
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org")


def test_an_order_that_is_not_ready_after_all(server, ca):
    ca.script("finalize", ca_is.problem("orderNotReady", "one moment", 403), times=1)
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org", 20)
    assert "AH10056" not in server.error_log()


def test_a_front_end_refuses_the_look_at_the_account(server, ca):
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org")
    ca.script("account", ca_is.html(403), nth=1)
    domain(server, "two.example.org")
    server.graceful()
    server.await_md("two.example.org")
    assert len(ca.accounts) == 1


def test_a_staged_key_whose_account_is_ended(server, ca):
    domain(server, "one.example.org")
    server.add_md_conf("MDRetryDelay 1h")
    lost = ca.script("newAccount", ca_is.hold("after"), times=1)
    server.start()
    ca.wait_held(lost)
    for account in ca.accounts:
        account.status = "deactivated"
    server.stop()
    ca.release()
    server.start()
    server.await_md("one.example.org")
    assert len(ca.accounts) == 2
    assert server.error_log().count("the CA no longer accepts the account with the key ") == 1


# ---- challenges ----

def test_a_challenge_that_failed_alone(server, ca):
    """The authorization and the order stay pending: the reason is told within seconds, and the next
    attempt goes another way."""
    error = {"type": ACME + "connection", "detail": "no route to 192.0.2.1:80", "status": 400}

    def fail(ca_, rq, reply):
        for challenge in reply.json.get("challenges", [reply.json]):
            if challenge.get("type") == "http-01":
                challenge.update(status="invalid", error=error)
    ca.script("challenge", ca_is._Stuck("pending"), where=lambda rq: rq.path.endswith("http-01"))
    ca.script("authz", ca_is._Change(fail), where=lambda rq: rq.poll)
    domain(server, "one.example.org")
    server.global_conf.append("Protocols h2 http/1.1 acme-tls/1")
    server.start()
    server.wait_log(r"AH10056: processing one.example.org: .*no route to 192.0.2.1:80.*connection", 20)
    server.await_md("one.example.org")
    answered = [rq.path.rsplit("/", 1)[1] for rq in ca.select("challenge") if rq.payload is not None]
    assert answered == ["http-01", "tls-alpn-01"]
    assert ca.count("newOrder") == 2
    told = [entry for entry in server.store_json("staging", "one.example.org", "job.json")["log"]["entries"]
            if entry["type"] == "renewal-error"]
    assert len(told) == 1 and told[0]["status"] == error["type"] and error["detail"] in told[0]["detail"]


# ---- certificates ----

def reordered(ca_, order):
    stranger = ca_is.Issuer("Stranger")
    return (ca_is.pem(ca_.intermediate.cert) + ca_is.pem(order.certificate) + ca_is.pem(stranger.cert))


def test_a_chain_in_disorder(server, ca):
    ca.script("certificate", ca_is._chain(reordered))
    domain(server, "one.example.org")
    server.start()
    server.await_md("one.example.org")
    chain = (server.store / "staging/one.example.org/pubcert.p-256.pem").read_bytes()
    assert chain == ca.chain(ca.orders[0].certificate)


def test_what_was_issued_is_kept_while_another_key_is_refused(server, ca):
    """Over reloads: one order for RSA, and one for P-256 each time."""
    server.md_conf = [text.replace("MDPrivateKeys P-256", "MDPrivateKeys rsa2048 P-256") for text in server.md_conf]
    ca.script("finalize", ca_is.problem("badCSR", "no such curve", 400), nth=lambda n: n > 1)
    domain(server, "one.example.org")
    server.start()
    server.await_error("one.example.org")
    staged = server.store / "staging/one.example.org"
    first = (staged / "pubcert.pem").read_bytes()
    for i in range(2):
        server.graceful()
        server.wait_log("AH10056: processing one.example.org", count=i + 2)
        assert (staged / "pubcert.pem").read_bytes() == first
    ca.calm()
    server.graceful()
    server.await_md("one.example.org")
    assert (staged / "pubcert.pem").read_bytes() == first
    assert sum(order.downloaded for order in ca.orders) == 2


def test_a_ca_that_leaves_out_must_staple(server, ca):
    """Another certificate would be the same, and each is one of a limited number."""
    domain(server, "one.example.org", extra="MDMustStaple on")
    server.start()
    server.await_md("one.example.org")
    for _ in range(3):
        server.graceful()
        wait_for(lambda: server.md_status("one.example.org")["state"] == 2, what="a complete set")
        assert server.watchdog_pid()
    assert server.error_log().count("the CA left out 'must-staple'") == 1
    assert ca.count("newOrder") == 1
    server.md_conf = [text.replace("MDMustStaple on", "") for text in server.md_conf]
    server.graceful()
    assert server.md_status("one.example.org")["state"] == 2


@pytest.mark.parametrize("refusal", [
    ("badCSR", "no must-staple here", 400), ("unauthorized", "OCSP must-staple is no longer available", 403)])
def test_a_ca_that_refuses_must_staple(server, ca, refusal):
    """It is told once, with the cure, and a reload alone asks for nothing."""
    refused = ca.script("finalize", ca_is.problem(*refusal))
    domain(server, "one.example.org", extra="MDMustStaple on")
    server.start()
    job = server.await_error("one.example.org")
    assert moment(job["next-run"]) - moment(job["last-run"]) > 11 * 3600
    for _ in range(3):
        rounds = server.error_log().count("AH10107: next run in ")
        server.graceful()
        server.wait_log(r"AH10107: next run in ", count=rounds + 1)
    server.md_conf = [text.replace("MDMustStaple on", "MDMustStaple off") for text in server.md_conf]
    refused.cancel()
    server.graceful()
    server.await_md("one.example.org")
    assert ca.count("finalize") == 2 and ca.count("newOrder") == 2
    told = re.findall(r"AH10056: .*", server.error_log())
    assert len(told) == 1 and refusal[1] in told[0] and "set 'MDMustStaple off'" in told[0]


# ---- slow answers ----

SLOW = ["directory", "newNonce", "newAccount", "newOrder", "challenge", "finalize", "certificate"]


def test_a_first_answer_that_takes_long(server, workdir):
    """Nothing is asked for twice, and nothing is an error; each is the slow one of a CA of its own."""
    with contextlib.ExitStack() as stack:
        cas = {kind: stack.enter_context(ca_is.ScriptedCA(workdir / kind)) for kind in SLOW}
        for kind, ca in cas.items():
            ca.script(kind, ca_is.slow(40), times=1)
            domain(server, f"{kind.lower()}.example.org", extra=f"MDCertificateAuthority {ca.directory_url}\n"
                   f"MDCACertificateFile {ca.ca_file}")
        server.start()
        server.await_md([f"{kind.lower()}.example.org" for kind in SLOW], 100)
        for kind, ca in cas.items():
            assert ca.count("newOrder") == len(ca.accounts) == 1, kind
            assert ca.count(kind) == 1, kind
        assert not server.problems()


def test_a_ca_that_takes_100_seconds_for_each_answer(server, ca, workdir):
    """The certificates of another one are there before its first answer is."""
    with ca_is.ScriptedCA(workdir / "slow") as slow:
        slow.script("*", ca_is.slow(100))
        for i in range(40):
            domain(server, f"slow{i}.example.org", extra=f"MDCertificateAuthority {slow.directory_url}\n"
                   f"MDCACertificateFile {slow.ca_file}")
        names = others(server, 40)
        server.start()
        server.await_md(names)
        assert slow.requests and not [rq for rq in slow.requests if rq.status]
        assert ca.count("newOrder") == 40 and ca.count("newAccount") == 1
        assert not server.problems()
