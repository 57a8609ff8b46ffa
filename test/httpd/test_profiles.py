# SPDX-License-Identifier: Apache-2.0
"""MDProfile, MDProfileMandatory (draft-ietf-acme-profiles)."""
import pytest

import scripted_ca as ca_is

NAME = "one.test"
REFUSED = ca_is.problem("invalidProfile", "not for you", 400)


def configure(httpd, ca, line):
    httpd.use_ca(ca)
    httpd.add_md_conf(f"MDPrivateKeys P-256\nMDRetryDelay 1s\n<MDomain {NAME}>\n{line}\n</MDomain>")
    httpd.add_vhost(NAME)


def profiles(ca):
    return [rq.payload.get("profile") for rq in ca.select("newOrder")]


@pytest.mark.parametrize("pebble_options", [
    {"profiles": {"classic": {"description": "long", "validityPeriod": 7776000},
                  "short": {"description": "six days", "validityPeriod": 518400}}}])
@pytest.mark.parametrize("name, days", [("short", 6), ("classic", 90)])
def test_the_certificate_is_of_the_profile(httpd, pebble, name, days):
    configure(httpd, pebble, f"MDProfile {name}\nMDProfileMandatory on")
    httpd.start()
    httpd.await_md(NAME)
    httpd.graceful()
    cert = httpd.tls_cert(NAME)
    assert round((cert.not_valid_after - cert.not_valid_before).total_seconds() / 86400) == days
    assert not httpd.problems()


def test_one_that_is_not_offered(httpd, ca):
    """No order if it is mandatory, else one without it."""
    configure(httpd, ca, "MDProfile nice")
    httpd.add_md_conf("<MDomain two.test>\nMDProfile nice\nMDProfileMandatory on\n</MDomain>")
    httpd.add_vhost("two.test")
    httpd.start()
    httpd.await_md(NAME)
    job = httpd.await_error("two.test")
    assert "mandatory ACME profile 'nice' is not offered by CA" in job["last"]["detail"]
    assert profiles(ca) == [None]


def test_one_that_is_refused(httpd, ca):
    """Once more without it, at once; whoever insists on it gets nothing."""
    ca.profiles = {"Nice": "a nice one"}
    ca.script("newOrder", REFUSED, where=lambda rq: "profile" in rq.payload)
    configure(httpd, ca, "MDProfile nice")
    httpd.start()
    httpd.await_md(NAME)
    assert profiles(ca) == ["Nice", None]
    warnings = [line for line in httpd.problems() if "not for you" in line]
    assert len(warnings) == 1 and "the CA refuses the profile 'Nice'" in warnings[0]
    assert "AH10056" not in httpd.error_log()


def test_a_mandatory_one_that_is_refused(httpd, ca):
    ca.profiles = {"nice": "a nice one"}
    ca.script("newOrder", REFUSED)
    configure(httpd, ca, "MDProfile nice\nMDProfileMandatory on")
    httpd.start()
    job = httpd.await_error(NAME)
    assert job["last"]["problem"] == ca_is.ERROR + "invalidProfile"
    assert profiles(ca) == ["nice"]


def test_all_that_can_be_done_without(httpd, ca):
    """Neither the profile nor the certificate that is replaced is a reason to get none."""
    ca.profiles = {"nice": "a nice one"}
    ca.renewal_info = {"suggestedWindow": {"start": "2099-01-01T00:00:00Z", "end": "2099-01-02T00:00:00Z"}}
    configure(httpd, ca, "MDProfile nice")
    httpd.start()
    httpd.await_md(NAME)
    httpd.graceful()
    ca.script("newOrder", REFUSED, where=lambda rq: "profile" in rq.payload)
    ca.script("newOrder", ca_is.problem("malformed", "replaces what?"), where=lambda rq: "replaces" in rq.payload)
    httpd.add_md_conf("MDRenewWindow 120d")
    httpd.graceful()
    httpd.wait_log("AH10059", count=2)
    orders = [("profile" in rq.payload, "replaces" in rq.payload) for rq in ca.select("newOrder")]
    assert orders == [(True, False), (True, True), (False, True), (False, False)]


def test_another_refusal_is_not_the_profiles(httpd, ca):
    ca.profiles = {"nice": "a nice one"}
    ca.script("newOrder", ca_is.problem("rejectedIdentifier", "not that name"))
    configure(httpd, ca, "MDProfile nice")
    httpd.start()
    httpd.await_error(NAME)
    assert profiles(ca) == ["nice"]
