# SPDX-License-Identifier: Apache-2.0
"""MDRetryFailover: several CAs, of which some are dead. MDActivationDelay: a renewed certificate that waits."""
import email.utils
import time

import pytest

import scripted_ca as ca_is
from ports import free_ports
from scripted_ca import ScriptedCA
from servers import wait_for


@pytest.fixture
def cas(workdir, ca, request):
    """Two CAs that trust themselves alike."""
    with ScriptedCA(workdir / "two") as two:
        ca.trusted = workdir / "trusted.pem"
        ca.trusted.write_text(ca.ca_file.read_text() + two.ca_file.read_text())
        yield ca, two
        if getattr(request.node, "failed", False):
            print("==== CA two\n" + two.log())


def configure(httpd, cas, urls, extra=""):
    httpd.md_conf = [f"MDCertificateAgreement accepted\nMDContactEmail a@example.org\nMDPrivateKeys P-256\n"
                     f"MDCACertificateFile {cas[0].trusted}\nMDCertificateAuthority {' '.join(urls)}\n"
                     f"MDRetryDelay 100ms\n{extra}\nMDomain one.test"]
    if not httpd.vhosts:
        httpd.add_vhost("one.test")


def dead():
    return f"https://127.0.0.1:{free_ports(1)[0]}/directory"


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_the_next_ca_gets_its_turn(httpd, cas, ahead):
    """After as many attempts at each of those before it."""
    configure(httpd, cas, [*(dead() for _ in range(ahead)), cas[0].directory_url, cas[1].directory_url],
              "MDRetryFailover 2")
    httpd.start()
    httpd.await_md("one.test")
    assert httpd.error_log().count("AH10056") == 2 * ahead
    assert httpd.error_log().count("AH10057") == 2 * ahead
    assert httpd.store_json("staging", "one.test", "md.json")["ca"]["url"] == cas[0].directory_url
    httpd.graceful()
    md = httpd.store_json("domains", "one.test", "md.json")
    assert (md["state"], md["ca"]["url"], len(md["ca"]["urls"])) == (2, cas[0].directory_url, 2 + ahead)
    assert cas[1].count() == 0


def test_the_first_follows_the_last(httpd, cas):
    """And every CA has all its attempts again; nothing of one CA is shown to another."""
    one, two = cas
    for ca in cas:
        ca.script("newOrder", ca_is.status(500))
    configure(httpd, cas, [one.directory_url, two.directory_url], "MDRetryFailover 3")
    httpd.start()
    wait_for(lambda: one.count("newOrder") >= 4, what="the second turn of the first CA")
    one.calm()
    httpd.await_md("one.test")
    assert two.count("newOrder") == 3
    assert one.count("newOrder") <= 6
    assert len(two.accounts) == 1 and not two.count("finalize")


def test_one_ca_is_tried_again_and_again(httpd, cas):
    configure(httpd, cas, [cas[0].directory_url], "MDRetryFailover 1")
    cas[0].script("newOrder", ca_is.status(500), times=3)
    httpd.start()
    httpd.await_md("one.test")
    assert cas[0].count("newOrder") == 4 and len(cas[0].accounts) == 1


# ---- MDActivationDelay ----

def served_serial(httpd):
    return httpd.tls_cert("one.test").serial_number


def test_a_renewed_set_waits_for_its_time(httpd, cas):
    """The first one does not; nor does a second restart; nor is anything announced before."""
    configure(httpd, cas, [cas[0].directory_url], "MDActivationDelay 1h")
    httpd.start()
    httpd.await_md("one.test")
    httpd.graceful()
    serial = served_serial(httpd)
    configure(httpd, cas, [cas[0].directory_url], "MDActivationDelay 1h\nMDRenewWindow 120d")
    httpd.graceful()
    job = wait_for(lambda: (job := httpd.store_json("staging", "one.test", "job.json")) and job["finished"] and job)
    ready = email.utils.parsedate_to_datetime(job["valid-from"]).timestamp()
    assert 3000 < ready - time.time() <= 3600 and job["next-run"] == job["valid-from"]
    assert not job["notified-renewed"]
    for _ in range(2):
        httpd.graceful()
        assert served_serial(httpd) == serial
    httpd.wait_log("one.test: the staged set waits until .* .MDActivationDelay.", count=2)
    assert httpd.error_log().count("AH10059") == 1 == httpd.error_log().count("AH10068")
    assert httpd.store_json("staging", "one.test", "job.json")["valid-from"] == job["valid-from"]
    assert cas[0].count("newOrder") == 2
    # a domain that needs it has it at once
    configure(httpd, cas, [cas[0].directory_url], "MDActivationDelay 1h\nMDRenewWindow 120d\nMDMustStaple on")
    httpd.graceful()
    assert httpd.error_log().count("AH10068") == 2 and served_serial(httpd) != serial


@pytest.mark.parametrize("delay", ["2s", "-7d"])
def test_it_is_announced_when_it_is_ready(httpd, cas, delay):
    configure(httpd, cas, [cas[0].directory_url])
    httpd.start()
    httpd.await_md("one.test")
    httpd.graceful()
    configure(httpd, cas, [cas[0].directory_url], f"MDActivationDelay {delay}\nMDRenewWindow 120d")
    httpd.graceful()
    httpd.wait_log("AH10059", count=2)
    job = httpd.store_json("staging", "one.test", "job.json")
    assert job["finished"] and cas[0].count("newOrder") == 2
    httpd.graceful()
    httpd.wait_log("AH10068", count=2)


def test_a_first_set_with_a_negative_delay(httpd, cas):
    configure(httpd, cas, [cas[0].directory_url], "MDActivationDelay -7d")
    httpd.start()
    httpd.await_md("one.test")
    httpd.graceful()
    httpd.wait_log("AH10068")
