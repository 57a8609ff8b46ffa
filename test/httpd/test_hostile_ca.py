# SPDX-License-Identifier: Apache-2.0
"""A CA that is down, broken or malicious: a clear error, back-off, nothing staged, no crash, bounded memory;
and success as soon as it behaves."""
import re

import pytest

import scripted_ca as ca_is
from servers import wait_for


@pytest.fixture
def server(httpd, ca):
    httpd.use_ca(ca)
    httpd.add_md_conf("MDRetryDelay 1s\nMDPrivateKeys P-256")
    return httpd


def domain(server, name="one.example.org", extra=""):
    server.add_md_conf(f"<MDomain {name}>\n{extra}\n</MDomain>")
    server.add_vhost(name)


def peak_memory(server):
    """Kilobytes, the largest of the children."""
    peaks = [int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{pid}/status").read())[1])
             for pid in server.child_pids()]
    return max(peaks)


EVERYWHERE = ["directory", "newAccount", "newOrder", "authz", "challenge", "finalize", "certificate"]
BAD = [(kind, behaviour) for kind in EVERYWHERE
       for behaviour in ("refuse", "status500", "html", "redirect", "big", "huge_headers")
       # these answers' bodies say nothing that is needed: the next request tells
       if (kind, behaviour) not in {("challenge", "html"), ("finalize", "html")}]
BAD += [(kind, "truncated_json") for kind in ("directory", "newAccount", "newOrder", "authz")]
BAD += [("newNonce", "status500"), ("newNonce", "no_nonce"), ("newNonce", "invalid_nonce"),
        ("newOrder", "unknown_status"), ("authz", "unknown_status"), ("newOrder", "problem"),
        ("authz", "invalid"), ("certificate", "wrong_names"), ("certificate", "wrong_key"),
        ("certificate", "expired"), ("certificate", "unlinked"), ("certificate", "weak_chain"), ("certificate", "empty_chain"),
        ("certificate", "garbage_pem"), ("certificate", "endless_body")]


REFUSED_CHAINS = ["wrong_names", "wrong_key", "expired", "unlinked", "weak_chain"]


def behaviour_of(name):
    if name == "status500":
        return ca_is.status(500)
    if name == "problem":
        return ca_is.problem("rateLimited", "too many", 429, retry_after=1)
    return name


@pytest.mark.parametrize("kind, name", BAD)
def test_bad_answer(server, ca, kind, name):
    ca.script(kind, behaviour_of(name))
    if kind == "newNonce":
        ca.script("*", "no_nonce")
    domain(server)
    server.start()
    job = server.await_error("one.example.org")
    assert job["last"]["status"] != 0 and job["last"]["detail"], job
    assert not job["finished"]
    # The next attempt may have begun by now, and clears it until it fails, too.
    wait_for(lambda: server.store_json("staging", "one.example.org", "job.json").get("next-run"), what="the next run")
    server.wait_log(r"\[md:error\].*AH10056: processing one.example.org: \S")
    server.wait_log(r"\[md:info\].*AH10057: one.example.org: encountered error for the \S+ time, next run in \S")
    assert not list(server.store.glob("staging/*/pubcert*"))
    assert peak_memory(server) < 60 * 1024 or ca_is and "asan" in str(server.env().get("LD_PRELOAD"))
    ca.calm()
    if name in REFUSED_CHAINS: # no other is ordered soon, unless somebody has mended something
        assert ca.count("newOrder") == 1
        server.wait_log(r"AH10057: .*next run in [^0]\S* (hours|day)")
        server.graceful()
    if kind == "authz" and name == "invalid":
        ca.wait(lambda: ca.count("newOrder") >= 2)
    server.await_md("one.example.org")
    assert "exit signal" not in server.error_log()
    assert len(ca.accounts) == 1


def test_ca_is_down(server, ca):
    ca.down()
    domain(server)
    server.start()
    job = server.await_error("one.example.org", 2)
    assert job["last"]["status-description"] == "Connection refused"
    assert "Unsuccessful in contacting ACME server at " + ca.directory_url in job["last"]["detail"]
    assert "problem" not in job["last"]
    ca.up()
    server.await_md("one.example.org")


def test_a_stuck_order_blocks_nobody(server, ca):
    server.add_md_conf("MDRenewConcurrency 4")
    ca.script("order", "endless_processing", domain="stuck.example.org")
    domain(server, "stuck.example.org")
    for i in range(12):
        domain(server, f"d{i}.example.org")
    server.start()
    server.await_md([f"d{i}.example.org" for i in range(12)])
    assert not (server.store / "staging/stuck.example.org/pubcert.p-256.pem").exists()
    assert server.store_json("staging", "stuck.example.org", "order.json")


def test_hanging_requests_do_not_delay_a_stop(server, ca):
    rule = ca.script("newOrder", "hang")
    domain(server)
    server.start()
    ca.wait_held(rule)
    child = server.watchdog_pid()
    ca.script("newOrder", "hang")
    server.graceful()
    wait_for(lambda: server.watchdog_pid() != child, 15, "the next child's watchdog")
    ca.calm()
    server.await_md("one.example.org")
    assert not server.problems()


def test_retry_after_is_obeyed(server, ca):
    ca.authz_polls = 4
    ca.script("order", ca_is.retry_after(2))
    domain(server)
    server.start()
    server.await_md("one.example.org")
    polls = ca.select("order")
    assert len(polls) >= 2
    for before, after in zip(polls, polls[1:]):
        if before.retry_after:
            assert after.time - before.time > 0.9 or after.order != before.order
    assert len(polls) < 8


def test_bad_nonces(server, ca):
    ca.script("signed", "bad_nonce", nth=lambda n: n % 2 == 1)
    domain(server)
    server.start()
    server.await_md("one.example.org")
    assert not server.problems()


def test_rs256_where_es256_is_refused(server, ca):
    ca.script("newAccount", "only_rs256")
    domain(server)
    server.start()
    server.await_md("one.example.org")
    assert [a.alg for a in ca.accounts] == ["RS256"]


def test_few_requests_and_one_account(server, ca):
    count = 20
    for i in range(count):
        domain(server, f"d{i}.example.org")
    server.start()
    server.await_md([f"d{i}.example.org" for i in range(count)])
    assert len(ca.accounts) == 1 and ca.count("newAccount") == 1
    assert ca.count("directory") == 1
    assert ca.count("newOrder") == count
    fixed = [r for r in ca.requests if not (r.kind == "order" and r.poll)]
    assert len(fixed) <= 8 * count, len(fixed) / count


@pytest.mark.parametrize("limit", [1, 5])
def test_orders_in_flight(server, ca, limit):
    """So many exchanges at a time, and no more than four times as many orders."""
    server.add_md_conf(f"MDRenewConcurrency {limit}")
    ca.authz_polls = 2
    for i in range(12):
        domain(server, f"d{i}.example.org")
    server.start()
    server.await_md([f"d{i}.example.org" for i in range(12)])
    assert len({request.connection for request in ca.requests}) <= limit
    assert ca.most_open_orders() <= 4 * limit
    if limit > 1:
        assert ca.most_open_orders() > 1


def test_a_challenge_that_stays_pending_delays_nobody(server, ca):
    ca.script("challenge", "endless_pending", domain="slow.example.org")
    domain(server, "slow.example.org")
    for i in range(6):
        domain(server, f"d{i}.example.org")
    server.start()
    server.await_md([f"d{i}.example.org" for i in range(6)])
    last = max(r.time for r in ca.select("certificate"))
    first = min(r.time for r in ca.select("newOrder"))
    assert last - first < 30
    assert not server.store_json("staging", "slow.example.org", "job.json")["finished"]


def test_rate_limit_of_the_account_holds_the_orders(server, ca):
    ca.script("newOrder", ca_is.problem("rateLimited", "too many new orders from this account", 429, retry_after=3), nth=1)
    server.add_md_conf("MDRenewConcurrency 1")
    for i in range(4):
        domain(server, f"d{i}.example.org")
    server.start()
    server.await_md([f"d{i}.example.org" for i in range(4)])
    orders = ca.select("newOrder")
    assert orders[0].status == 429
    assert orders[1].time - orders[0].time > 1.9
