# SPDX-License-Identifier: Apache-2.0
"""ACME Renewal Information (RFC 9773): what a CA suggests is followed within reason, and never missed when it is not
there."""
import calendar
import re
import time

import pytest

from scripted_ca import html, problem, redirect, rfc3339, status, utcnow
from servers import wait_for

NAME = "ari.example.org"
PAGE = "https://ca.example.org/why"
DAY = 86400


def date(text):
    return calendar.timegm(time.strptime(text, "%a, %d %b %Y %H:%M:%S GMT"))


def chain(server, group, file="pubcert.pem"):
    return (server.store / group / NAME / file).read_text()


def leaf(text):
    end = "-----END CERTIFICATE-----\n"
    return text[:text.index(end) + len(end)]


def obtain(server, more=""):
    """A set is staged, and goes into service with the next reload."""
    server.add_md_conf(f"MDRetryDelay 1s\nMDPrivateKeys P-256\nMDomain {NAME}\n{more}")
    server.add_vhost(NAME)
    server.start()
    server.await_md(NAME)


def settled(server, generation):
    """The children of so many starts have looked at all, and have nothing more to do for long."""
    server.wait_log("AH10054", count=generation)
    wait_for(lambda: re.search(r"AH10107: next run in \d+ (hour|day)", server.error_log().rsplit("AH10054", 1)[1]),
             what="a child that has nothing to do")


def asked(server):
    """Has the CA been asked, and the answer been kept?"""
    known = server.store_json("ocsp", NAME, "ari.json")
    return known and known["certs"] and "asked" in known["certs"][0] and known["certs"][0]


def test_a_window_of_the_past_renews_at_once_and_once(env):
    obtain(env)
    first = chain(env, "staging", "pubcert.p-256.pem")
    env.ca.set_renewal_info(leaf(first), -2 * DAY, -DAY, PAGE)
    env.graceful()
    env.wait_log(rf"\[md:notice\].*AH10517: md\[{NAME}\]: CA advises renew via ARI now, for explanation see {PAGE}")
    env.wait_log("AH10059", count=2)
    status = env.md_status(NAME)
    assert status["renew-reason"] == "ari" and status["renew-explanation"] == PAGE
    assert date(status["renew-at"]) < time.time()
    assert PAGE in next(e["detail"] for e in status["renewal"]["log"]["entries"] if e["type"] == "starting")
    assert chain(env, "staging", "pubcert.p-256.pem") != first
    env.graceful()
    settled(env, 3)
    assert asked(env)["ari-cert-id"] == env.md_status(NAME)["cert"]["P-256"]["ari-cert-id"] != status["cert"]["P-256"][
        "ari-cert-id"]
    assert date(env.md_status(NAME)["renew-at"]) > time.time() + DAY
    assert "renewal" not in env.md_status(NAME)
    assert not env.problems()


def test_what_is_suggested_is_shown_and_outlives_restarts(env):
    obtain(env)
    env.ca.set_renewal_info(leaf(chain(env, "staging", "pubcert.p-256.pem")), DAY, 2 * DAY, PAGE)
    env.graceful()
    wait_for(lambda: asked(env), what="an answer")
    status = env.md_status(NAME)
    hint = status["cert"]["P-256"]["ari"]
    assert DAY - 60 < date(status["renew-at"]) - time.time() < 2 * DAY
    assert status["renew-reason"] == "ari" and status["renew-explanation"] == hint["explanation-url"] == PAGE
    assert hint["renew-at"] == status["renew-at"] and "renew" not in status
    assert date(hint["window"]["until"]) - date(hint["window"]["from"]) == DAY
    env.wait_log(rf"AH10515: md\[{NAME}\]: CA advises renew via ARI at {status['renew-at']}, for explanation see {PAGE}")
    for generation in (3, 4):
        env.graceful()
        settled(env, generation)
        assert env.md_status(NAME)["cert"]["P-256"]["ari"] == hint
    assert env.ca.count(r"GET /draft-ietf-acme-ari-03/renewalInfo/") == 1
    assert len(re.findall("AH10515", env.error_log())) == 1
    assert not env.problems()


def test_off_is_off(env):
    obtain(env, "MDRenewViaARI off")
    env.ca.set_renewal_info(leaf(chain(env, "staging", "pubcert.p-256.pem")), -2 * DAY, -DAY)
    env.graceful()
    settled(env, 2)
    status = env.md_status(NAME)
    assert not status["ari-renewals"] and status["renew-reason"] == "window" and "renewal" not in status
    assert env.ca.count(r"GET /draft-ietf-acme-ari-03/renewalInfo/") == 0
    assert re.search(rf"\[md:debug\].*AH10513: md\[{NAME}\]: ARI is not enabled\n", env.error_log())
    assert re.search(rf"\[md:debug\].*AH10514: md\[{NAME}\]: up for configured renewal in \d+ days", env.error_log())


# ---- what Pebble cannot play

@pytest.fixture
def server(httpd, ca):
    ca.renewal_info = window(20 * DAY, 22 * DAY)
    httpd.use_ca(ca)
    return httpd


def window(start, end, **more):
    import datetime
    at = [rfc3339(utcnow() + datetime.timedelta(seconds=t)) for t in (start, end)]
    return {"suggestedWindow": {"start": at[0], "end": at[1]}, **more}


@pytest.mark.parametrize("answer", [
    status(500), status(503, headers=[("Retry-After", "31536000")]), status(404), html(), redirect(),
    status(200, b'{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"}}', "application/json"),
], ids=["500", "503", "404", "html", "redirect", "end-before-start"])
def test_nonsense_holds_up_nothing_and_is_not_told(server, ca, answer):
    obtain(server)
    ca.script("renewalInfo", answer)
    server.graceful()
    hint = wait_for(lambda: asked(server), what="an answer")
    assert hint["problem"] and "window" not in hint
    assert 30 < date(hint["next-poll"]) - time.time() < DAY
    state = server.md_status(NAME)
    assert state["renew-reason"] == "window" and "renewal" not in state
    assert date(state["renew-at"]) > time.time() + 50 * DAY
    assert ca.count("renewalInfo") == 1 and ca.count("directory") == 2
    assert not server.problems()


@pytest.mark.parametrize("refusal", [
    problem("alreadyReplaced", "it has been replaced", 409), problem("malformed", "what is that?"), status(500)],
    ids=["alreadyReplaced", "malformed", "500"])
def test_a_refused_replacement_is_ordered_without(server, ca, refusal):
    obtain(server)
    assert "replaces" not in ca.orders[0].payload
    ca.script("newOrder", refusal, where=lambda rq: "replaces" in rq.payload)
    ca.renewal_info = window(-DAY, -1)
    server.graceful()
    server.wait_log("AH10518")
    server.wait_log("AH10059", count=2)
    first, second = [r for r in ca.requests if r.kind == "newOrder"][1:]
    assert first.payload["replaces"] == server.md_status(NAME)["cert"]["P-256"]["ari-cert-id"]
    assert first.payload.pop("replaces") and first.payload == second.payload
    assert first.status != 201 and second.status == 201
    assert server.store_json("staging", NAME, "job.json")["errors"] == 0
    assert not server.problems()


def test_each_certificate_is_asked_for_and_replaced(server, ca):
    server.add_md_conf("MDPrivateKeys P-256 P-384")
    server.add_md_conf(f"MDRetryDelay 1s\nMDomain {NAME}")
    server.add_vhost(NAME)
    server.start()
    server.await_md(NAME)
    ca.renewal_info = window(-DAY, -1)
    server.graceful()
    server.wait_log("AH10059", count=2)
    cert = server.md_status(NAME)["cert"]
    ids = [cert[spec]["ari-cert-id"] for spec in ("P-256", "P-384")]
    assert sorted(r.path.rsplit("/", 1)[1] for r in ca.requests if r.kind == "renewalInfo") == sorted(ids)
    assert [order.payload.get("replaces") for order in ca.orders[2:]] == ids
    assert not server.problems()
