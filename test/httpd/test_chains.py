# SPDX-License-Identifier: Apache-2.0
"""MDPreferredChain: the chain from a certain CA, of those that the CA has for a certificate (RFC 8555 7.4.2)."""
import ssl
import urllib.request

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

import scripted_ca as ca_is

NAME = "one.test"


def configure(httpd, ca, preferred, extra=""):
    httpd.use_ca(ca)
    httpd.add_md_conf(f'MDPrivateKeys P-256\nMDRetryDelay 1s\n{extra}\n<MDomain {NAME}>\n'
                      f'MDPreferredChain "{preferred}"\n</MDomain>')
    httpd.add_vhost(NAME)


def root_of(httpd):
    """Who issued the last certificate of the chain that is staged."""
    chain = httpd.store.joinpath("staging", NAME, "pubcert.p-256.pem").read_text()
    last = x509.load_pem_x509_certificate(chain[chain.rindex("-----BEGIN"):].encode())
    return last.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def asked_for(ca):
    """The chains, by their numbers."""
    return [rq.path.split("/")[3:] for rq in ca.select("certificate")]


def warnings(httpd):
    return [line for line in httpd.problems() if "MDPreferredChain" in line]


def obtain(httpd):
    httpd.start()
    httpd.await_md(NAME)
    return root_of(httpd)


@pytest.mark.parametrize("pebble_options", [{"env": {"PEBBLE_ALTERNATE_ROOTS": 2, "PEBBLE_CHAIN_LENGTH": 2}}])
@pytest.mark.parametrize("number", [0, 2])
def test_the_chain_of_a_root(httpd, pebble, number):
    """As Pebble offers it; then it is served, and clients that know only this root are content."""
    context = ssl.create_default_context(cafile=str(pebble.ca_file))
    with urllib.request.urlopen(f"{pebble.mgmt_url}/roots/{number}", context=context) as reply:
        root = reply.read()
    name = x509.load_pem_x509_certificate(root).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    configure(httpd, pebble, name.upper())
    assert obtain(httpd) == name
    assert not httpd.problems()
    httpd.graceful()
    assert httpd.get("/", NAME, https=True, verify=root.decode())[0] == 200


@pytest.mark.parametrize("preferred, asked, root", [
    ("Scripted Root", [[]], "Scripted Root"),              # which is the first
    ("Scripted Intermediate", [[]], "Scripted Root"),      # the issuer
    ("none", [[]], "Scripted Root"),
    ("Root B", [[], ["0"], ["1"]], "Root B"),              # no more than that
])
def test_what_is_fetched(httpd, ca, preferred, asked, root):
    ca.alternates = ["Root A", "Root B", "Root C"]
    configure(httpd, ca, preferred)
    assert obtain(httpd) == root
    assert asked_for(ca) == asked
    assert not httpd.problems()


def test_there_is_no_such_chain(httpd, ca):
    """Then the first is used; and there is an end to the looking."""
    ca.alternates = [f"Root {i}" for i in range(30)]
    configure(httpd, ca, "Root 29")
    assert obtain(httpd) == "Scripted Root"
    assert 5 < len(asked_for(ca)) < 12
    assert len(warnings(httpd)) == 1 and "'Root 29'" in warnings(httpd)[0]


@pytest.mark.parametrize("trouble", [
    ca_is.problem("serverInternal", "not today", 500), ca_is.problem("malformed", "not today", 404),
    ca_is.wrong_key(), ca_is.expired(), ca_is.unlinked(), ca_is.wrong_names(), ca_is.garbage_pem(), ca_is.empty_chain(),
    ca_is.status(503), ca_is.refuse()],
    ids="500 404 key expired unlinked names garbage empty busy cut".split())
def test_one_that_cannot_be_had(httpd, ca, trouble):
    """None of that is worse than no certificate; what is no good is not used."""
    ca.alternates = ["Root A"]
    ca.script("certificate", trouble, where=lambda rq: rq.path.endswith("/0"))
    configure(httpd, ca, "Root A")
    assert obtain(httpd) == "Scripted Root"
    assert len(warnings(httpd)) == 1
    assert "AH10056" not in httpd.error_log() and ca.count("newOrder") == 1


def test_another_one_is_tried(httpd, ca):
    ca.alternates = ["Root A", "Root A"]
    ca.script("certificate", ca_is.status(500), where=lambda rq: rq.path.endswith("/0"))
    configure(httpd, ca, "Root A")
    assert obtain(httpd) == "Root A"
    assert not warnings(httpd)


def test_the_first_one_is_no_good(httpd, ca):
    """Alternates are no way around that."""
    ca.alternates = ["Root A"]
    ca.script("certificate", ca_is.wrong_names(), where=lambda rq: not rq.path.endswith("/0"))
    configure(httpd, ca, "Root A")
    httpd.start()
    assert "is refused" in httpd.await_error(NAME)["last"]["detail"]
    assert ["0"] not in asked_for(ca)


def test_a_restart_in_between(httpd, ca):
    """Nothing is lost, and no second order."""
    ca.alternates = ["Root A", "Root B"]
    rule = ca.script("certificate", ca_is.hold(), times=1, where=lambda rq: rq.path.endswith("/0"))
    configure(httpd, ca, "Root B")
    httpd.start()
    ca.wait_held(rule)
    httpd.graceful()
    ca.release()
    httpd.await_md(NAME)
    assert root_of(httpd) == "Root B"
    assert ca.count("newOrder") == ca.count("finalize") == 1
    assert not warnings(httpd)
