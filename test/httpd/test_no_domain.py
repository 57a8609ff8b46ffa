# SPDX-License-Identifier: Apache-2.0
"""A server with the module and without managed domains: it answers the http-01 challenges that others (a2md) put
into the store, and does nothing else."""
import os

import pytest

from metrics import ask
from pages import Page, lines_of
from servers import wait_for
from test_a2md import Tool, add, serial

PATH = "/.well-known/acme-challenge/"


def place(httpd, host, text="content-of-123"):
    directory = httpd.store / "challenges" / host
    directory.mkdir(parents=True)
    (directory / "acme-http-01.txt").write_text(text)


def md_lines(httpd):
    return [line for line in httpd.error_log().splitlines() if "[md:" in line]


@pytest.fixture
def bare(httpd):
    httpd.log_level = "info md:trace8"
    httpd.add_vhost("base.test", ssl=False)
    return httpd


def test_no_store(bare):
    """Neither at a start nor by a request is anything made."""
    bare.start()
    bare.graceful()
    for path in PATH + "123", PATH, PATH + "a/b", "/":
        assert bare.get(path, "a.test")[0] == (200 if path == "/" else 404)
    assert bare.md_status() == {"version": bare.md_status()["version"]}
    assert not bare.store.exists() and not md_lines(bare)


def test_all_handlers_answer(bare):
    """What there is nothing of is said to be nothing; what anybody may ask of a host is left to others."""
    bare.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>")
    bare.add_md_conf("MDServerStatus on")
    bare.start()
    for _ in range(2):
        assert bare.get("/md-status", "a.test")[0] == bare.get("/md-status/a.test", "a.test")[0] == 200
        status, _, body = bare.get("/md-status?format=html", "a.test")
        assert status == 200 and "No domains are managed" in Page(body).text
        told = lines_of(bare.get("/server-status?auto", "a.test")[2])
        assert len(told) == 9 and {value for _, value in told} == {"0"}
        status, _, body = bare.get("/server-status", "a.test")
        assert status == 200 and "Managed" not in body
        assert ask(bare).get("domains") == 0
        assert bare.get("/.httpd/certificate-status", "a.test")[0] == 404
        bare.graceful()
    assert not bare.store.exists() and not md_lines(bare)


@pytest.mark.parametrize("store", [None, "elsewhere/md", "/dev/null/md"])
def test_answers(bare, store):
    if store:
        bare.add_md_conf(f"MDStoreDir {store}")
        bare.store = bare.dir / store
    bare.start()
    assert bare.get(PATH + "123", "a.test")[0] == 404
    if store == "/dev/null/md":
        return
    place(bare, "a.test")
    made = sorted(bare.store.rglob("*"))
    status, headers, body = bare.get(PATH + "123", "a.test")
    assert (status, headers["Content-Length"], body) == (200, "14", "content-of-123")
    assert bare.get(PATH + "123", "A.test:80")[0] == 200
    for host, path in (("b.test", "123"), ("a.test", ""), ("a.test", "x/y"), ("..", "123"), ("x" * 300, "123")):
        assert bare.get(PATH + path, host)[0] in (404, 400), (host, path)
    head = f" {PATH}123 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert bare.raw(b"POST" + head.encode()).startswith(b"HTTP/1.1 501 ")
    assert bare.raw(b"HEAD" + head.encode()).startswith(b"HTTP/1.1 200 ")
    assert bare.raw(f"GET {PATH}123 HTTP/1.0\r\n\r\n".encode()).startswith(b"HTTP/1.1 404 ")
    assert sorted(bare.store.rglob("*")) == made and not md_lines(bare)


def test_the_last_domain_is_removed(bare):
    """The store stays as it is."""
    bare.add_md_conf("MDContactEmail x@example.org\nMDomain a.test\nMDRenewMode manual")
    bare.start()
    bare.md_conf = []
    place(bare, "b.test")
    bare.graceful()
    said = len(md_lines(bare))
    made = sorted(bare.store.rglob("*"))
    assert bare.get(PATH + "123", "b.test")[0] == 200
    bare.graceful()
    assert bare.get(PATH + "123", "b.test")[0] == 200
    assert sorted(bare.store.rglob("*")) == made and len(md_lines(bare)) == said


def test_no_link_is_followed(bare):
    bare.start()
    place(bare, "a.test", "secret")
    os.symlink("a.test", bare.store / "challenges" / "b.test")
    place(bare, "c.test")
    os.symlink("../a.test/acme-http-01.txt", bare.store / "challenges/c.test/link")
    os.rename(bare.store / "challenges/c.test/link", bare.store / "challenges/c.test/acme-http-01.txt")
    assert bare.get(PATH + "123", "a.test")[2] == "secret"
    for host in "b.test", "c.test":
        assert bare.get(PATH + "123", host)[0] == 404


def test_drive(bare, pebble):
    bare.start()
    tool = Tool(bare.store, "-C", pebble.ca_file)
    tool.ca = pebble
    add(tool, "a.test", "www.a.test")
    tool.ok("drive", "--challenge", "http-01")
    assert serial(tool, "a.test")
    wait_for(lambda: not list((bare.store / "challenges").iterdir()), what="clean-up")
    assert not md_lines(bare)
