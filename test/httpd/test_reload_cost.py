# SPDX-License-Identifier: Apache-2.0
"""What a start found stays known in reloads, as long as it is unchanged."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from servers import apxs, make_pair, wait_for

KEY, CERT = "privkey.pem", "pubcert.pem"


def put_live(httpd, workdir, name):
    """A certificate of nobody's, as if it had been activated a while ago."""
    directory = httpd.store / "domains" / name
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    pem, key = make_pair(workdir, f"CA of {name}", f"DNS:{name}")
    for source, target in ((pem, CERT), (key, KEY)):
        shutil.copyfile(source, directory / target)


def configure(httpd, names, vhosts=True):
    httpd.md_conf, httpd.vhosts = ["MDCertificateAgreement accepted\nMDContactEmail a@example.org\nMDRenewMode manual"], []
    for name in names:
        httpd.add_md_conf(f"MDomain {name}")
        if vhosts:
            httpd.add_vhost(name)


def calls_of_reload(httpd):
    """The number of system calls of the parent in a graceful restart."""
    trace = httpd.dir / "trace"
    with subprocess.Popen(["strace", "-p", str(httpd.pid()), "-o", trace], stderr=subprocess.PIPE, text=True) as tracer:
        assert "attached" in tracer.stderr.readline()
        httpd.graceful()
        tracer.terminate()
    return sum(1 for _ in trace.open())


@pytest.mark.skipif(not shutil.which("strace"), reason="without strace nobody can count")
def test_system_calls_of_an_unchanged_domain(httpd, workdir):
    """Without vhosts, as those make calls of their own."""
    httpd.log_level = "notice md:error"
    calls = {}
    for count in (20, 120):
        names = [f"d{i}.test" for i in range(count)]
        for name in names:
            put_live(httpd, workdir, name)
        configure(httpd, names, vhosts=False)
        httpd.start()
        wait_for(settled(httpd, names), what="files that are old enough to be known")
        httpd.graceful()
        calls[count] = calls_of_reload(httpd)
        httpd.stop()
    assert (calls[120] - calls[20]) / 100 <= 10, calls


def settled(httpd, names):
    """All files are older than the times of a file system are exact."""
    def is_settled():
        newest = max((httpd.store / "domains" / name / file).stat().st_ctime for name in names for file in (CERT, KEY))
        probe = httpd.dir / "probe"
        probe.write_text("")
        return probe.stat().st_ctime > newest + 4
    return is_settled


@pytest.mark.parametrize("kind", ["store", "static"])
def test_what_was_changed_is_read(httpd, workdir, kind):
    """Replaced, changed in place, damaged, and gone: each is seen by the next reload."""
    name = "a.test"
    configure(httpd, [name])
    put_live(httpd, workdir, name)
    directory = httpd.store / "domains" / name
    if kind == "static":
        shutil.move(directory, workdir / "files")
        directory = workdir / "files"
        httpd.md_conf[-1] = (f"<MDomain {name}>\nMDCertificateFile {directory / CERT}\n"
                             f"MDCertificateKeyFile {directory / KEY}\n</MDomain>")
    httpd.start()
    issuer = lambda: httpd.tls_cert(name).issuer.rfc4514_string()  # noqa: E731
    wait_for(lambda: (directory / CERT).stat().st_ctime + 4 < wall(httpd), what="settled files")
    httpd.graceful()
    httpd.graceful()
    assert issuer() == f"CN=CA of {name}"
    other, other_key = make_pair(workdir, "another CA", f"DNS:{name}")
    (directory / CERT).write_bytes(pathlib.Path(other).read_bytes())  # in place: not that of the key
    httpd.graceful()
    assert "Fallback" in issuer()
    (directory / KEY).write_bytes(pathlib.Path(other_key).read_bytes())
    httpd.graceful()
    assert issuer() == "CN=another CA"
    (directory / "new").write_text("garbage")
    os.rename(directory / "new", directory / CERT)
    httpd.graceful()
    assert "Fallback" in issuer()
    (directory / CERT).unlink()
    httpd.graceful()
    assert "Fallback" in issuer()


def wall(httpd):
    probe = httpd.dir / "probe"
    probe.write_text("")
    return probe.stat().st_ctime


def test_the_module_comes_with_a_reload(env):
    """`a2enmod md` and a reload: nothing else is needed."""
    name = "late.test"
    env.write_conf()
    environment = env.env()
    env.env = lambda: environment  # a sanitizer must be there before the module
    module, env.module = env.module, pathlib.Path(apxs("LIBEXECDIR")) / "mod_env.so"
    conf, env.md_conf = env.md_conf, []
    level, env.log_level = env.log_level, "info"
    plain = env.write_conf

    def without_md():
        plain()
        lines = [line for line in env.conf.read_text().splitlines()
                 if not re.match(r"LoadModule md_module|MD\w+ |.*md-(status|metrics)|</Location", line)]
        env.conf.write_text("\n".join(lines) + "\n")

    env.write_conf = without_md
    env.start()
    env.module, env.md_conf, env.log_level, env.write_conf = module, conf, level, plain
    env.add_md_conf(f"MDomain {name}")
    env.add_vhost(name)
    env.graceful()
    env.await_md([name])
