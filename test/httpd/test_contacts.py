# SPDX-License-Identifier: Apache-2.0
"""The contact of an account at its CA is one that is configured (RFC 8555 7.3.2)."""
import scripted_ca as ca_is

NAME = "one.test"
OLD, NEW = "mailto:admin@example.org", "mailto:new@example.org"


def configure(httpd, ca, contact=None, extra=""):
    httpd.md_conf.clear()
    httpd.use_ca(ca)
    if contact:
        httpd.add_md_conf(f"MDContactEmail {contact}")
    httpd.add_md_conf(f"MDPrivateKeys P-256\nMDRetryDelay 1s\n{extra}\nMDomain {NAME}")
    if not httpd.vhosts:
        httpd.add_vhost(NAME)


def updates(ca):
    """What the account was told."""
    return [rq.payload["contact"] for rq in ca.select("account") if rq.payload and "contact" in rq.payload]


def first(httpd, ca, **more):
    configure(httpd, ca, **more)
    httpd.start()
    httpd.await_md(NAME)


def renew(httpd, ca, times, **more):
    """After a reload, of which there was one for each renewal."""
    configure(httpd, ca, **more, extra="MDRenewWindow 120d")
    httpd.graceful()
    httpd.wait_log("AH10059", count=times)


def test_it_is_told_once(httpd, ca):
    first(httpd, ca)
    renew(httpd, ca, 2, contact="new@example.org")
    assert [account.contact for account in ca.accounts] == [[NEW]]
    renew(httpd, ca, 3, contact="new@example.org")
    assert updates(ca) == [[NEW]]
    assert not httpd.problems()
    assert f"is now {NEW}" in httpd.error_log()


def test_pebble_is_told(env, pebble):
    first(env, pebble)
    renew(env, pebble, 2, contact="new@example.org")
    env.wait_log(f"is now {NEW}")
    assert pebble.accounts() == 1
    renew(env, pebble, 3, contact="new@example.org")
    assert env.error_log().count("is now ") == 1
    assert not env.problems()


def test_domains_with_contacts_of_their_own(httpd, ca):
    """Share an account that has one of them, whoever renews first."""
    httpd.add_vhost(NAME)
    httpd.add_vhost("two.test")
    two = "\n<MDomain two.test>\nMDContactEmail two@example.org\n</MDomain>"
    first(httpd, ca, extra=two)
    httpd.wait_log("AH10059", count=2)
    renew_two = two.replace("</MD", "MDRenewWindow 120d\n</MD")
    for turn in range(2):
        configure(httpd, ca, extra=renew_two)
        httpd.graceful()
        httpd.wait_log("AH10059", count=3 + turn)
    assert updates(ca) == [] and len(ca.accounts) == 1
    account = ca.accounts[0].contact
    # the domain that has this one goes
    configure(httpd, ca, contact="new@example.org" if account == [OLD] else None,
              extra="" if account == [OLD] else "MDRenewWindow 120d")
    httpd.md_conf[-1] += renew_two if account == [OLD] else ""
    if account != [OLD]:
        httpd.vhosts.pop()
    httpd.graceful()
    httpd.wait_log("AH10059", count=5)
    assert len(updates(ca)) == 1


def test_one_that_the_ca_refuses(httpd, ca):
    """Costs no certificate."""
    first(httpd, ca)
    ca.script("account", ca_is.problem("invalidContact", "nobody lives there"), where=lambda rq: rq.payload)
    renew(httpd, ca, 2, contact="new@example.org")
    assert len(updates(ca)) == 1
    told = httpd.problems()
    assert len(told) == 1 and "nobody lives there" in told[0] and "Check MDContactEmail" in told[0]


def test_a_ca_that_keeps_none(httpd, ca):
    """Is not asked to, again and again."""
    ca.script("account", ca_is._Change(lambda ca, rq, reply: reply.json.pop("contact") and None))
    first(httpd, ca)
    renew(httpd, ca, 2, contact="new@example.org")
    assert updates(ca) == []
