# SPDX-License-Identifier: Apache-2.0
"""Names as people write them: those that CAs refuse, brought by a vhost or written in MDomain."""
import json
import re

import pytest

from servers import READY

# Name in the vhost -> what is said of it.
ODD = {
    "192.0.2.7": "it is an IP address. If your CA",
    "[2001:db8::7]": "it is an IP address",
    "intranet": "it has no dot. If your CA accepts such a name, add it to the MDomain",
    "localhost": "it has no dot",
    "printer.local": "its top-level domain does not exist on the internet",
    "my_dev.example.org": "only letters, digits, '-' and '.' are allowed",
    "-x.example.org": "a label begins or ends with '-'",
    "a..example.org": "a label is empty",
    "example.org.": "it ends with a dot. Write example.org instead",
    "café.example.org": "only letters, .* Write xn--caf-dma.example.org instead",
    "Bücher.example.org.": "only letters, .* Write xn--bcher-kva.example.org instead",
    b"caf\xe9.example.org".decode("utf-8", "surrogateescape"): "only letters, .* If your CA",
    "www.example.org:443": "only letters",
    "host.123": "its last label is a number",
    "x" * 64 + ".example.org": "a label is longer than 63 characters",
}


def in_bytes(name):
    return name.encode("utf-8", "surrogateescape")


def in_log(name):
    """As httpd writes it."""
    return "".join(chr(b) if b < 128 else f"\\x{b:02x}" for b in in_bytes(name))


def told(text, name):
    """The warnings about a name, from an error log or `httpd -t`."""
    return [line for line in text.splitlines() if "[md:warn]" in line and f"'{in_log(name)}'" in line]


def write(httpd, md, *vhosts):
    httpd.add_md_conf(f"MDPrivateKeys P-256\nMDomain {md}")
    for vhost in vhosts:
        httpd.vhosts.append(f"<VirtualHost *:{httpd.https_port}>\nSSLEngine on\n{vhost}\n</VirtualHost>")


def names_of(httpd, name="www.example.org"):
    return httpd.store_json("domains", name, "md.json")["domains"]


def test_odd_names_of_vhosts_are_left_out(env):
    """Two vhosts bring them, one in capitals."""
    capitals = [in_bytes(name).upper().decode("utf-8", "surrogateescape") for name in ODD]
    write(env, "www.example.org mail.example.org",
          "\n".join(["ServerName www.example.org", "ServerAlias ftp.example.org", *map("ServerAlias {}".format, ODD)]),
          "\n".join(["ServerName mail.example.org", *map("ServerAlias {}".format, capitals)]))
    done = env.configtest()
    assert done.returncode == 0, done.stderr
    env.start()
    env.await_md("www.example.org")
    for text in done.stderr, env.error_log():
        for name, why in ODD.items():
            lines = told(text, name)
            assert len(lines) == 1 and re.search(why, lines[0]), (name, lines)
            assert re.search(r"md\[www\.example\.org\]: the name '.*' of the vhost at .*httpd\.conf:\d+ is left out",
                             lines[0])
        assert text.count("[md:warn]") == len(ODD)
    assert names_of(env) == ["www.example.org", "mail.example.org", "ftp.example.org"]
    env.graceful()
    assert env.get("/", "ftp.example.org", https=True, verify=env.ca.root_pem())[0] == 200


NAMELESS = {  # what is in the vhost -> the name that is left out
    "_": ("ServerName _\nServerAlias www.example.org", "'_' of the vhost at .*: only letters, .* If your CA"),
    "of the main server": ("ServerAlias www.example.org",
                           "'base.test' of the vhost at .*: httpd made it up, as the vhost has no ServerName. Give the vhost a"),
}


@pytest.mark.parametrize("case", NAMELESS)
def test_names_that_nobody_gave(httpd, case):
    vhost, left_out = NAMELESS[case]
    httpd.add_md_conf("MDInitialDelay 1h\nMDContactEmail admin@example.org")
    write(httpd, "www.example.org", vhost)
    for text in httpd.configtest().stderr, started(httpd):
        assert text.count("[md:warn]") == 1 and re.search(f"the name {left_out}", text), text
    assert names_of(httpd) == ["www.example.org"]


def started(httpd):
    httpd.start()
    httpd.wait_log(READY)
    return httpd.error_log()


def test_a_name_that_httpd_makes_up_for_an_address(httpd):
    """It asks the DNS for one, or says that there is none."""
    httpd.add_md_conf("MDInitialDelay 1h\nMDContactEmail admin@example.org")
    httpd.vhosts.append(f"<VirtualHost 127.0.0.1:{httpd.https_port}>\nSSLEngine on\nServerAlias www.example.org\n"
                        "</VirtualHost>\nMDomain www.example.org")
    for text in httpd.configtest().stderr, started(httpd):
        assert text.count("[md:warn]") == 1 and "httpd made it up" in text, text
    assert names_of(httpd) == ["www.example.org"]


# MDomain, aliases -> those that are added, and those that are left out
PRIVATE = [
    ("intranet", "wiki printer.lan", "wiki", "printer.lan"),
    ("www.corp.lan", "wiki.local wiki", "wiki.local", "wiki"),
    ("www.example.org my_dev.example.org", "my_test.example.org", "my_test.example.org", ""),
    ("*.example.org", "my_dev.example.org my.dev.example.org", "my.dev.example.org", ""),
    ("www.example.org manual", "ftp.example.org intranet", "", ""),
]


@pytest.mark.parametrize("md, aliases, added, left_out", PRIVATE)
def test_what_the_mdomain_has_the_ca_takes(httpd, md, aliases, added, left_out):
    """A private CA, for example."""
    httpd.add_md_conf("MDInitialDelay 1h\nMDContactEmail admin@example.org")
    names = md.replace(" manual", "").split()
    write(httpd, md, f"ServerName {names[0].replace('*', 'www')}\nServerAlias {aliases}")
    text = started(httpd)
    assert names_of(httpd, names[0]) == names + added.split()
    assert re.findall(r"the name '(\S+)' of the vhost at \S+ is left out", text) == left_out.split()
    assert text.count("AH10040") == (2 if "manual" in md else 0)


def test_many_are_told_in_short(httpd):
    httpd.add_md_conf("MDInitialDelay 1h\nMDContactEmail admin@example.org")
    write(httpd, "www.example.org", "ServerName www.example.org\nServerAlias " + " ".join(f"n{i}" for i in range(30)))
    text = httpd.configtest().stderr
    assert text.count("[md:warn]") == 21 and "10 more vhost names are left out of certificates" in text
    assert all(text.count(f"'n{i}'") == 1 for i in range(30))


WRITTEN = {  # in MDomain: what is said of it
    "192.0.2.7": "it is an IP address",
    "2001:db8::7": "it is an IP address",
    "intranet": "it has no dot",
    "my_dev.example.org": "only letters",
    "-x.example.org": "a label begins",
    "example.org.": "it ends with a dot; write example.org",
    "café.example.org": "only letters, .*; write xn--caf-dma.example.org",
    b"caf\xe9.example.org".decode("utf-8", "surrogateescape"): "only letters",
}


def test_odd_names_of_the_mdomain_are_tried(httpd, ca):
    """Each is told at once, and what the CA says of each."""
    from scripted_ca import problem
    httpd.use_ca(ca)
    subproblems = [{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": f"no {name} here",
                    "identifier": {"type": "dns", "value": name}} for name in ("intranet", "my_dev.example.org")]
    ca.script("newOrder", problem("rejectedIdentifier", "some names are refused", subproblems=subproblems))
    write(httpd, "www.example.org " + " ".join(WRITTEN), "ServerName www.example.org")
    done = httpd.configtest()
    assert done.returncode == 0, done.stderr
    httpd.start()
    httpd.await_error("www.example.org")
    for text in done.stderr, httpd.error_log():
        for name, why in WRITTEN.items():
            lines = told(text, name)
            assert len(lines) == 1 and re.search(f"the CA will probably refuse the name '.*': {why}", lines[0]), \
                (name, lines)
    httpd.wait_log(r"AH10056: .*some names are refused \(intranet: no intranet here; "
                   r"my_dev\.example\.org: no my_dev\.example\.org here\)")
