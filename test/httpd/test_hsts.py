# SPDX-License-Identifier: Apache-2.0
"""Strict-Transport-Security with `MDRequireHttps permanent`: one on each https response of the domain,
whoever makes it; that of a backend, a script or an administrator goes first; none by http."""
import contextlib
import http.server
import os
import threading

import pytest

from ports import free_ports
from servers import apxs, make_pair, run

NAME = "a.test"
STS = "Strict-Transport-Security"
OURS, THEIRS = "max-age=15768000", "max-age=1"
LIBEXEC = apxs("LIBEXECDIR")


def load(httpd, *names):
    for name in names:
        if not os.path.exists(f"{LIBEXEC}/mod_{name}.so"):
            pytest.skip(f"there is no mod_{name}")
        httpd.global_conf.append(f"LoadModule {name}_module {LIBEXEC}/mod_{name}.so")


def configure(httpd, workdir, extra="", mode="permanent"):
    cert, key = make_pair(workdir, "own", f"DNS:{NAME}", "DNS:other.test")
    httpd.add_md_conf(f"<MDomain {NAME}>\nMDCertificateFile {cert}\nMDCertificateKeyFile {key}\n"
                      f"MDRequireHttps {mode}\n</MDomain>")
    httpd.add_vhost(NAME, extra=extra)
    httpd.add_vhost(NAME, ssl=False, extra=extra)


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers with the status that is the path; with a header of its own if there is a query."""

    def do_GET(self):
        status, _, own = self.path.lstrip("/").partition("?")
        self.send_response(int(status))
        if own:
            self.send_header(STS, THEIRS)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def backend():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def header(httpd, path, host=NAME, https=True):
    status, headers, _ = httpd.get(path, host, https=https)
    return status, headers.get_all(STS)


def raw(httpd, request):
    """Status and values of the header for what may be no good request."""
    head = httpd.raw(request, NAME).decode(errors="replace").split("\r\n\r\n")[0].split("\r\n")
    return int(head[0].split()[1]), [line.partition(": ")[2] for line in head[1:]
                                     if line.lower().startswith(STS.lower() + ":")]


LOCAL = """
DirectoryIndex index.html
Redirect /moved https://elsewhere.test/
Redirect gone /gone
Redirect gone /text
ErrorDocument 410 /sorry.html
<Location /text>
ErrorDocument 410 "sorry"
</Location>
<Location /closed>
Require all denied
</Location>
"""


def test_answers_of_the_server(httpd, workdir):
    configure(httpd, workdir, LOCAL)
    (httpd.docroot / "sorry.html").write_text("sorry")
    (httpd.docroot / "sub").mkdir()
    challenge = httpd.store / "challenges" / NAME / "acme-http-01.txt"
    httpd.start()
    challenge.parent.mkdir()
    challenge.write_text("content-of-123")
    for path, status in {"/": 200, "/index.html": 200, "/sub": 301, "/none": 404, "/closed": 403,
                         "/moved/x": 302, "/gone": 410, "/text": 410, "/.well-known/x": 404,
                         "/.well-known/acme-challenge/123": 200}.items():
        assert header(httpd, path) == (status, [OURS]), path
        assert header(httpd, path, https=False)[1] is None, path
    for request, status in {
            b"HEAD /index.html HTTP/1.1\r\nHost: a.test\r\n": 200,
            b"GET /index.html HTTP/1.1\r\nHost: a.test\r\nRange: bytes=0-1\r\n": 206,
            b"GET /index.html HTTP/1.1\r\nHost: a.test\r\nIf-None-Match: *\r\n": 304,
            b"POST /none HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n": 404,
            b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n": 200,
            b"TRACE / HTTP/1.1\r\nHost: a.test\r\n": 200,
            b"GET /index.html HTTP/1.0\r\n": 400,
            b"GET / HTTP/1.1\r\n": 400,
            b"GET / HTTP/1.1\r\nHost: a.test\r\nno header\r\n": 400,
            b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a.test\r\n": 414}.items():
        assert raw(httpd, request + b"Connection: close\r\n\r\n") == (status, [OURS]), request[:60]


def test_only_where_it_is_meant(httpd, workdir):
    configure(httpd, workdir, "ServerAlias other.test")
    httpd.add_vhost("plain.test", extra=f"SSLCertificateFile {workdir}/own.pem\n"
                                        f"SSLCertificateKeyFile {workdir}/own.key")
    httpd.add_md_conf("MDMembers manual")
    httpd.start()
    assert header(httpd, "/") == (200, [OURS])
    assert header(httpd, "/", "other.test") == (200, None)  # not of the domain
    assert header(httpd, "/", "plain.test") == (200, None)


def test_not_if_temporary(httpd, workdir):
    configure(httpd, workdir, mode="temporary")
    httpd.start()
    assert header(httpd, "/") == (200, None) and header(httpd, "/none") == (404, None)


def test_answers_of_backends(httpd, workdir):
    load(httpd, "proxy", "proxy_http")
    with backend() as port:
        configure(httpd, workdir, f"""
            ProxyPass /pages/ http://127.0.0.1:{port}/
            ProxyPass /down/ http://127.0.0.1:{free_ports(1)[0]}/
            ProxyPass /replaced/ http://127.0.0.1:{port}/
            <Location /replaced/>
            ProxyErrorOverride on
            </Location>""")
        httpd.start()
        for path, status in {"/pages/200": 200, "/pages/404": 404, "/pages/500": 500, "/pages/302": 302,
                             "/down/200": 503, "/replaced/404": 404, "/replaced/500": 500}.items():
            assert header(httpd, path) == (status, [OURS]), path
        for status in 200, 404, 500:
            assert header(httpd, f"/pages/{status}?own") == (status, [THEIRS])


def test_answers_of_scripts(httpd, workdir):
    load(httpd, "cgid")
    httpd.global_conf.append(f"ScriptSock {httpd.dir}/cgid.sock")
    scripts = httpd.dir / "cgi"
    scripts.mkdir()
    for name, lines in {"plain": "", "own": f"{STS}: {THEIRS}\\n", "error": "Status: 500 no\\n",
                        "both": f"Status: 404 no\\n{STS}: {THEIRS}\\n"}.items():
        script = scripts / name
        script.write_text(f"#!/bin/sh\nprintf '{lines}Content-Type: text/plain\\n\\nx'\n")
        script.chmod(0o755)
    configure(httpd, workdir, f"ScriptAlias /cgi/ {scripts}/")
    httpd.start()
    for name, expected in {"plain": (200, [OURS]), "own": (200, [THEIRS]), "error": (500, [OURS]),
                           "both": (404, [THEIRS]), "none": (404, [OURS])}.items():
        assert header(httpd, f"/cgi/{name}") == expected, name


ADMIN = {  # directives: values on a page, on a 404 of the server, on what a backend answers itself
    f"Header set {STS} {THEIRS}": (THEIRS, OURS, THEIRS),
    f"Header always set {STS} {THEIRS}": (THEIRS, THEIRS, THEIRS),
    f"Header add {STS} {THEIRS}": (THEIRS, OURS, THEIRS),
    f"Header set {STS} {THEIRS}\nHeader always set {STS} {THEIRS}": (THEIRS, THEIRS, THEIRS),
    f"Header append {STS} x": (f"{OURS}, x", OURS, f"{THEIRS}, x"),
    f"Header edit {STS} $ ;x": (f"{OURS};x", OURS, f"{THEIRS};x"),
    f"Header always edit {STS} $ ;x": (OURS, f"{OURS};x", THEIRS),
    f"Header unset {STS}": (None, OURS, None),
    f"Header unset {STS}\nHeader always unset {STS}": (None, None, None),
}


@pytest.mark.parametrize("directives", ADMIN)
def test_administrators(httpd, workdir, directives):
    load(httpd, "proxy", "proxy_http")
    with backend() as port:
        configure(httpd, workdir, f"ProxyPass /pages/ http://127.0.0.1:{port}/\n"
                                  f"<If \"%{{HTTPS}} == 'on'\">\n{directives}\n</If>")
        httpd.start()
        for path, expected in zip(("/", "/none", "/pages/404?own"), ADMIN[directives]):
            assert header(httpd, path)[1] == (expected and [expected]), path


@pytest.mark.parametrize("quick", ["on", "off"])
def test_answers_from_a_cache(httpd, workdir, quick):
    """Also if it was stored before the setting was there."""
    load(httpd, "cache", "cache_disk")
    root = httpd.dir / "cache"
    root.mkdir()
    root.chmod(0o777)
    old = httpd.docroot / "old.html"
    old.write_text("it is old\n")
    os.utime(old, (1e9, 1e9))
    configure(httpd, workdir, f"CacheRoot {root}\nCacheEnable disk /\nCacheQuickHandler {quick}\n"
                              "CacheHeader on", mode="temporary")

    def look(path, result, values):
        _, headers, body = httpd.get(f"/{path}", NAME, https=True)
        assert headers["X-Cache"].startswith(result) and body.startswith("it is")
        assert headers.get_all(STS) == values
    httpd.start()
    look("old.html", "MISS", None)
    look("old.html", "HIT", None)
    httpd.md_conf = [conf.replace("temporary", "permanent") for conf in httpd.md_conf]
    httpd.graceful()
    look("old.html", "HIT", [OURS])
    for result in "MISS", "REVALIDATE":
        look("index.html", result, [OURS])


def test_http_2(httpd, workdir):
    load(httpd, "http2", "proxy", "proxy_http")
    with backend() as port:
        configure(httpd, workdir, f"Protocols h2 http/1.1\n{LOCAL}\n"
                                  f"ProxyPass /pages/ http://127.0.0.1:{port}/")
        httpd.start()
        for path, status, value in (
                ("/", 200, OURS), ("/none", 404, OURS), ("/closed", 403, OURS), ("/moved/", 302, OURS),
                ("/text", 410, OURS), ("/pages/200", 200, OURS), ("/pages/500", 500, OURS),
                ("/pages/404?own", 404, THEIRS)):
            url = f"https://{NAME}:{httpd.https_port}{path}"
            done = run("curl", "-skI", "--http2", "--resolve", f"{NAME}:{httpd.https_port}:127.0.0.1", url)
            assert done.returncode == 0, done.stderr
            lines = done.stdout.splitlines()
            assert lines[0].split() == ["HTTP/2", str(status)], lines
            assert [line.partition(": ")[2] for line in lines
                    if line.lower().startswith(STS.lower())] == [value], path
