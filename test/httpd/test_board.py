# SPDX-License-Identifier: Apache-2.0
"""What the engine knows of a domain, all children know: pages ask the store only for domains under renewal."""
import concurrent.futures
import contextlib
import json
import re
import shutil
import signal
import subprocess
import time

import pytest
import sets
from metrics import ask
from ocsp_ca import OcspCA
from pages import Page, lines_of
from servers import wait_for
from test_ari import DAY, NAME, chain, date, leaf, obtain, settled

STATUS = "<Location /server-status>\nSetHandler server-status\n</Location>"


def configure(httpd, names):
    sets.make_store(httpd.store)
    sets.configure(httpd, names)
    httpd.global_conf.append(STATUS)
    httpd.add_md_conf("MDServerStatus on\nMDInitialDelay 0\nMDRetryDelay 1s")


def without_store(httpd):
    """A page that does not read it has nothing to say of that; another one says what kept it from reading."""
    (httpd.store / "staging").chmod(0)


def test_no_disk_for_what_is_quiet(httpd):
    configure(httpd, ["good.test", "none.test"])
    sets.put_live(httpd.store, ["good.test"])
    httpd.start()
    httpd.await_error("none.test")
    httpd.wait_log("AH10107")
    without_store(httpd)
    assert "error" not in httpd.md_status("good.test")
    assert httpd.md_status("none.test")["error"]
    assert {md["name"]: "error" in md for md in httpd.md_status()["managed-domains"]} == {"good.test": False, "none.test": True}


def put_aside(httpd):
    httpd.store.rename(httpd.dir / "aside")


def put_in_the_way(httpd):
    put_aside(httpd)
    httpd.store.write_text("no directory")


@pytest.mark.parametrize("spoil", [put_aside, put_in_the_way, lambda httpd: httpd.store.chmod(0)], ids=["gone", "a file", "closed"])
def test_all_pages_without_a_store(httpd, spoil):
    """Each answers, with what is served; also of the domain whose renewal fails, which is in the store alone."""
    configure(httpd, ["good.test", "none.test"])
    sets.put_live(httpd.store, ["good.test"])
    httpd.start()
    httpd.await_error("none.test")
    children = httpd.child_pids()
    spoil(httpd)
    for _ in range(2):
        assert [md["name"] for md in httpd.md_status()["managed-domains"]] == ["good.test", "none.test"]
        assert httpd.md_status("good.test")["cert"]["P-256"] and httpd.md_status("none.test")["cert"] == {}
        for name in "good.test", "none.test":
            status, _, body = httpd.get(f"/md-status/{name}?format=html", "base.test")
            assert status == 200 and Page(body).headings[0] == name
        status, _, body = httpd.get("/md-status?format=html", "base.test")
        assert status == 200 and ">good.test<" in body and ">none.test<" in body and not Page(body).open
        told = dict(lines_of(httpd.get("/server-status?auto", "base.test")[2]))
        assert told["ManagedCertificatesTotal"] == "2" and told["ManagedDomain[0]Status"] == "good"
        status, _, body = httpd.get("/server-status", "base.test")
        assert status == 200 and "<td>none.test</td>" in body and body.rstrip().endswith("</html>")
        assert ask(httpd).get("domains") == 2
        assert json.loads(httpd.get("/.httpd/certificate-status", "good.test")[2])["P-256"]
        assert httpd.get("/.httpd/certificate-status", "none.test")[0] in (200, 500)
    assert httpd.child_pids() == children


def test_what_a_ca_suggests_is_known_without_the_store(env):
    """When a domain is renewed shows on pages of all; what the CA said in detail, with the domain alone."""
    env.global_conf.append(STATUS)
    obtain(env, "MDServerStatus on\n")
    env.ca.set_renewal_info(leaf(chain(env, "staging", "pubcert.p-256.pem")), 2 * DAY, 3 * DAY)
    env.graceful()
    settled(env, 2)
    (env.store / "ocsp" / NAME).chmod(0)
    assert re.search("As its CA suggests, renews\\s+in 2 days", Page(env.get("/md-status?format=html", NAME)[2]).text)
    told = dict(lines_of(env.get("/server-status?auto", NAME)[2]))
    assert 2 * DAY - 60 < int(told["ManagedDomain[0]ActivityRenew"]) < 3 * DAY
    assert date(env.md_status(NAME)["renew-at"]) < time.time() + 3 * DAY
    (env.store / "ocsp" / NAME).chmod(0o755)
    assert env.md_status(NAME)["cert"]["P-256"]["ari"]["window"]


@contextlib.contextmanager
def opened_by_children(server, trace):
    """The files of the store that the children look at meanwhile, other than requests, which the engine looks for."""
    opened = []
    pids = [arg for pid in server.child_pids() for arg in ("-p", str(pid))]
    with subprocess.Popen(["strace", "-f", "-y", "-e", "trace=file", *pids, "-o", trace], stderr=subprocess.PIPE, text=True) as tracer:
        try:
            for _ in server.child_pids():
                tracer.stderr.readline()
            yield opened
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate(timeout=30)
    opened += [line for line in trace.read_text().splitlines() if f"{server.store}/" in line and "/requests" not in line]


@pytest.mark.skipif(not shutil.which("strace"), reason="without strace nobody can see what is opened")
def test_pages_of_all_open_no_file(env, workdir):
    """Neither for what a CA suggests, nor for responses that are stapled; the page of a domain has all of it."""
    env.global_conf.append(STATUS)
    with OcspCA(workdir / "ocsp") as ocsp:
        chain_file, key_file = ocsp.issue("static.test")
        env.add_md_conf(f"<MDomain static.test>\nMDCertificateFile {chain_file}\nMDCertificateKeyFile {key_file}\n</MDomain>")
        env.add_vhost("static.test")
        obtain(env, "MDServerStatus on\nMDStapling on\n")
        env.graceful()
        wait_for(lambda: "renewal" in env.md_status("static.test")["cert"]["0"].get("ocsp", {})
                 and "ari" in env.md_status(NAME)["cert"]["P-256"], what="a response, and what the CA suggests")
        with opened_by_children(env, workdir / "all") as opened:
            for path in "/md-status", "/md-status?format=html", "/server-status", "/server-status?auto", "/md-metrics":
                assert env.get(path, NAME)[0] == 200
        assert not opened
        shown = {md["name"]: md["cert"] for md in env.md_status()["managed-domains"]}
        assert shown["static.test"]["0"]["ocsp"]["status"] == "good" and "ari" not in shown[NAME]["P-256"]
        with opened_by_children(env, workdir / "one") as opened:
            assert "renewal" in env.md_status("static.test")["cert"]["0"]["ocsp"]
            assert env.md_status(NAME)["cert"]["P-256"]["ari"]["next-poll"]
        assert opened


def test_before_the_engine_has_looked(httpd):
    """What is in the store at the start shows at once."""
    configure(httpd, ["good.test"])
    httpd.add_md_conf("MDInitialDelay 1h")
    sets.put_live(httpd.store, ["good.test"])
    httpd.start()
    without_store(httpd)
    assert httpd.md_status("good.test")["error"]


def test_a_renewal_shows_while_it_goes_on(httpd, ca):
    """It was quiet; with the window open there is work, and pages follow it to its end."""
    configure(httpd, ["a.test"])
    httpd.use_ca(ca)
    sets.put_live(httpd.store, ["a.test"], sets.make_pair(["a.test"], (-59, 31)))
    httpd.start()
    httpd.wait_log("AH10107")
    assert "renewal" not in httpd.md_status("a.test")
    httpd.add_md_conf("MDRenewWindow 60d")
    httpd.graceful()
    httpd.await_md("a.test")
    shown = httpd.md_status("a.test")["renewal"]
    assert shown["finished"] and shown["cert"]["P-256"]
    httpd.md_conf.pop()
    httpd.graceful()
    assert "renewal" not in httpd.md_status("a.test")


def test_many_readers_while_many_are_renewed(httpd, ca):
    """Every answer is whole."""
    names = [f"d{i:02}.test" for i in range(40)]
    configure(httpd, names)
    httpd.use_ca(ca)
    httpd.start()

    def read(path):
        done = False
        for _ in range(200):
            status, _, body = httpd.get(path, "d00.test")
            assert status == 200
            if path == "/md-status":
                shown = json.loads(body)["managed-domains"]
                assert [md["name"] for md in shown] == names and not any("error" in md for md in shown)
                done = all(md.get("renewal", {}).get("finished") for md in shown)
            elif "auto" in path:
                counters = dict(lines_of(body))
                assert counters["ManagedCertificatesTotal"] == "40" and counters["ManagedCertificatesErrored"] == "0"
                done = counters["ManagedCertificatesReady"] == "40"
            else:
                done = all(f">{name}<" in body for name in names) or not body.startswith("<")
            if done:
                return path
        return None
    paths = ["/md-status", "/server-status?auto", "/md-status?format=html", "/md-status/d00.test", "/.httpd/certificate-status"]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        assert list(pool.map(read, paths)) == paths
