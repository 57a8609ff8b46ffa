# SPDX-License-Identifier: Apache-2.0
"""A CA that wants people to do something first, such as to agree to new terms of service (RFC 8555 7.3.3)."""
import pytest

import scripted_ca as ca_is
from servers import wait_for

NAME = "one.test"
TERMS, PAGE = "https://ca.example.org/terms/2027", "https://ca.example.org/agree?token=a&b"


def wants_action(terms=TERMS, page=PAGE):
    def make(ca, rq):
        more = {"instance": page} if page else {}
        reply = ca.with_nonce(ca_is.problem_reply("userActionRequired", "The terms have changed", 403, **more))
        if terms:
            reply.headers.append(("Link", f'<{ca.url("/directory")}>;rel="index", <{terms}>; title="a\\", b";'
                                          ' rel="about terms-of-service"'))
        return reply
    return ca_is._Answer(make)


def configure(httpd, ca):
    httpd.use_ca(ca)
    httpd.add_md_conf(f"MDPrivateKeys P-256\nMDRetryDelay 1s\nMDomain {NAME}")
    httpd.add_vhost(NAME)


def test_where_is_told(httpd, ca):
    """In the log, the record and on pages; and nothing is asked of the CA again and again."""
    ca.script("newOrder", wants_action())
    configure(httpd, ca)
    httpd.start()
    job = httpd.await_error(NAME)
    assert job["last"]["problem"] == ca_is.ERROR + "userActionRequired"
    detail = job["last"]["detail"]
    assert detail.startswith("The terms have changed (") and "'a2md renew'" in detail
    told = [line for line in httpd.error_log().splitlines() if "AH10056" in line]
    shown = wait_for(lambda: httpd.md_status(NAME).get("renewal"), what="the renewal on md-status")["last"]["detail"]
    for text in detail, told[0], shown:
        assert f" {TERMS} " in text and f" {PAGE} " in text
    assert len(told) == 1 == ca.count("newOrder")


@pytest.mark.parametrize("terms, page, there", [
    (TERMS, None, [TERMS]), (None, PAGE, [PAGE]), ("javascript:alert(1)", "javascript:alert(2)", []),
    ("/terms", "/agree", ["https://127.0.0.1:{port}/terms", "https://127.0.0.1:{port}/agree"]), (None, None, [])])
def test_what_there_is(httpd, ca, terms, page, there):
    ca.script("newAccount", wants_action(terms, page))
    configure(httpd, ca)
    httpd.start()
    detail = httpd.await_error(NAME)["last"]["detail"]
    for url in there:
        assert f" {url.format(port=ca.port)} " in detail
    assert "javascript" not in detail and detail.endswith(")" if there else "The terms have changed")


def test_when_it_is_done(httpd, ca):
    """A reload makes the next attempt."""
    ca.script("newOrder", wants_action())
    configure(httpd, ca)
    httpd.start()
    httpd.await_error(NAME)
    ca.calm()
    httpd.graceful()
    httpd.await_md(NAME)
    assert len(ca.accounts) == 1
