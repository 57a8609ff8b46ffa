# SPDX-License-Identifier: Apache-2.0
"""All pages, asked for in a loop by several clients while many domains are obtained, put into service and renewed: no
request fails, and what a page says of a domain is whole."""
import concurrent.futures
import email.utils
import itertools
import json
import threading

from metrics import ask
from pages import Page, lines_of
from servers import wait_for
from test_a2md import Tool

COUNT, CLIENTS = 200, 8
NAMES = [f"d{i}.example.org" for i in range(COUNT)]


def check_domain(md):
    """Either there is a certificate with all that belongs to it, or none."""
    assert md["name"] in NAMES and md["domains"] == [md["name"]]
    for certs in md["cert"], md.get("renewal", {}).get("cert", {}):
        cert = certs.get("P-256")
        assert cert or not certs
        if cert:
            assert len(cert["sha256-fingerprint"]) == 64 and int(cert["serial"], 16) and certs["valid"] == cert["valid"]
            assert email.utils.parsedate_to_datetime(cert["valid"]["from"]) < email.utils.parsedate_to_datetime(
                cert["valid"]["until"])
    assert md.get("renewal", {}).get("errors", 0) == 0


def get(server, path):
    status, _, body = server.get(path, NAMES[0])
    assert status == 200, body
    return body


def read_json(server):
    told = json.loads(get(server, "/md-status?format=json"))["managed-domains"]
    assert [md["name"] for md in told] == sorted(NAMES)
    for md in told:
        check_domain(md)


def read_one(server):
    check_domain(json.loads(get(server, f"/md-status/{NAMES[7]}?format=json")))


def read_html(server):
    source = get(server, "/md-status?format=html")
    page = Page(source)
    assert all(name in page.text for name in NAMES)


def read_auto(server):
    told = dict(lines_of(get(server, "/server-status?auto")))
    assert int(told["ManagedCertificatesTotal"]) == COUNT and int(told["ManagedCertificatesErrored"]) == 0


def read_metrics(server):
    assert ask(server, host=NAMES[0]).get("domains") == COUNT


def read_public(server):
    assert json.loads(get(server, "/.httpd/certificate-status")) is not None


READERS = [read_json, read_one, read_html, read_auto, read_metrics, read_public]


class Clients:
    def __init__(self, server):
        self.server, self.is_over, self.counts = server, threading.Event(), dict.fromkeys(READERS, 0)
        self.pool = concurrent.futures.ThreadPoolExecutor(CLIENTS)

    def read(self, first):
        for reader in itertools.islice(itertools.cycle(READERS), first, None):
            if self.is_over.is_set():
                return
            reader(self.server)
            self.counts[reader] += 1

    def has_failed(self):
        return any(end.done() for end in self.ends)

    def __enter__(self):
        self.ends = [self.pool.submit(self.read, first) for first in range(CLIENTS)]
        return self

    def __exit__(self, *failure):
        self.is_over.set()
        self.pool.shutdown()
        for end in self.ends:
            end.result()


def test_pages_while_all_is_renewed(env):
    env.add_md_conf("MDPrivateKeys P-256\nMDRenewMode always\nMDRetryDelay 1s\nMDServerStatus on")
    env.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>\nExtendedStatus off")
    for name in NAMES:
        env.add_md_conf(f"MDomain {name}")
    env.add_vhost(NAMES[0])
    env.start()
    with Clients(env) as first:
        env.await_md(NAMES)
    env.graceful()
    with Clients(env) as second:
        told = Tool(env.store)("renew", *NAMES)
        assert told.returncode == 0 and told.stderr.count("a new certificate is ready") == COUNT, told.stderr
        wait_for(lambda: all(second.counts.values()) or second.has_failed(), what="each page once")
    assert ask(env, host=NAMES[0]).sum("renewals_total") == 2 * COUNT
