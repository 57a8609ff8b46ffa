# SPDX-License-Identifier: Apache-2.0
"""tls-alpn-01 (RFC 8737): whoever gets acme-tls/1 sees the challenge's certificate, whatever the host has and the client
prefers; nobody else does, and no such connection gets to a request."""
import concurrent.futures
import datetime
import functools
import os
import re
import shutil
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from servers import make_pair, run

ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 6.1
DIGEST = b"\x04\x20" + bytes(range(32))
RSA, EC = "", ".p-256"  # in names of files
ALPN = "Protocols http/1.1 acme-tls/1"
REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"


@functools.cache
def key_of(kind):
    return rsa.generate_private_key(65537, 2048) if kind == RSA else \
        ec.generate_private_key(ec.SECP256R1())


def make_cert(name, kind, subject, *extensions):
    """PEM of a certificate and of its key."""
    key, now = key_of(kind), datetime.datetime.utcnow()
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = (x509.CertificateBuilder().subject_name(who).issuer_name(who)
               .public_key(key.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(now - datetime.timedelta(days=1))
               .not_valid_after(now + datetime.timedelta(days=60))
               .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False))
    for extension in extensions:
        builder = builder.add_extension(extension, True)
    return (builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                              serialization.NoEncryption()))


def write_pairs(httpd, group, name, files, pairs):
    """As the server itself leaves them: a file's name is its `files` with the kind of the key in it."""
    directory = httpd.store / group / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for kind, texts in pairs.items():
        for file, text in zip(files, texts):
            (directory / file.format(kind)).write_bytes(text)
            if os.geteuid() == 0 and group == "challenges":
                shutil.chown(directory / file.format(kind), "www-data")


def set_up(httpd, name, *kinds):
    """The challenge of a renewal, with a certificate for each of these kinds of keys."""
    value = x509.UnrecognizedExtension(ACME_IDENTIFIER, DIGEST)
    write_pairs(httpd, "challenges", name.lower(),
                ["acme-tls-alpn-01-pubcert{}.pem", "acme-tls-alpn-01-privkey{}.pem"],
                {kind: make_cert(name, kind, "tls-alpn-01-challenge", value) for kind in kinds})


def add_host(httpd, name, live=(), files=(), extra=ALPN):
    """A managed domain with its vhost: live certificates in the store, others in files of the vhost."""
    specs = {RSA: "rsa2048", EC: "P-256"}
    keys = "MDPrivateKeys " + " ".join(specs[kind] for kind in live) if live else ""
    httpd.add_md_conf(f"<MDomain {name}>\n{keys}\n</MDomain>")
    if live:
        write_pairs(httpd, "domains", name, ["pubcert{}.pem", "privkey{}.pem"],
                    {kind: make_cert(name, kind, "live") for kind in live})
    for kind in files:
        paths = [httpd.dir / f"{name}{kind}.{end}" for end in ("pem", "key")]
        for path, text in zip(paths, make_cert(name, kind, "static")):
            path.write_bytes(text)
        extra += f"\nSSLCertificateFile {paths[0]}\nSSLCertificateKeyFile {paths[1]}"
    httpd.add_vhost(name, extra=extra)


@pytest.fixture
def server(httpd):
    """Nothing is renewed here."""
    httpd.add_md_conf("MDRenewMode manual\nMDCertificateAgreement accepted")
    return httpd


class Shown:
    """What `openssl s_client` saw of a handshake."""

    def __init__(self, httpd, name, *args, alpn="acme-tls/1", data=None):
        self.what = (name, alpn, *args)
        args += ("-servername", name) if name else ("-noservername",)
        args += ("-alpn", alpn) if alpn else ()
        done = run("openssl", "s_client", "-connect", f"127.0.0.1:{httpd.https_port}", "-showcerts",
                   *args, *(["-ign_eof"] if data else []), input=data or "", timeout=60)
        self.text = done.stdout + done.stderr
        self.certs = [x509.load_pem_x509_certificate(pem.encode()) for pem in re.findall(
            "-----BEGIN CERT.*?-----END CERTIFICATE-----", done.stdout, re.DOTALL)]
        found = re.search(r"^ALPN protocol: (.*)$", done.stdout, re.MULTILINE)
        self.protocol = found and found[1]

    def subject(self):
        assert self.certs, (self.what, self.text)
        return self.certs[0].subject.rfc4514_string()[3:]

    def assert_challenge(self, kinds=(RSA, EC)):
        assert self.protocol == "acme-tls/1" and len(self.certs) == 1, (self.what, self.text)
        assert self.subject() == "tls-alpn-01-challenge", self.what
        found = self.certs[0].extensions.get_extension_for_oid(ACME_IDENTIFIER)
        assert found.critical and found.value.value == DIGEST
        assert self.kind() in kinds, self.what

    def kind(self):
        return RSA if isinstance(self.certs[0].public_key(), rsa.RSAPublicKey) else EC


# ---- what is shown ----

HOSTS = {"none.test": {}, "rsa.test": {"live": [RSA]}, "ec.test": {"live": [EC]},
         "both.test": {"live": [RSA, EC]}, "rsa-file.test": {"files": [RSA]},
         "ec-file.test": {"files": [EC]}, "both-files.test": {"files": [RSA, EC]},
         "mixed.test": {"live": [EC], "files": [RSA]}}
RSA_SIG, EC_SIG = "rsa_pss_rsae_sha256", "ecdsa_secp256r1_sha256"
RSA_CIPHER, EC_CIPHER = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"


def client(version, *kinds):
    """What it takes, the best first."""
    signatures = ":".join(RSA_SIG if kind == RSA else EC_SIG for kind in kinds)
    ciphers = ":".join(RSA_CIPHER if kind == RSA else EC_CIPHER for kind in kinds)
    return [version, "-sigalgs", signatures] + (["-cipher", ciphers] if version == "-tls1_2" else [])


def clients(challenge):
    """By the kinds of keys that they may see; those that take none of the challenge's have no right to anything."""
    for version in ("-tls1_2", "-tls1_3"):
        yield [version], challenge
        yield client(version, RSA, EC), challenge
        yield client(version, EC, RSA), challenge
        for kind in challenge:
            yield client(version, kind), [kind]


@pytest.mark.parametrize("mpm, honor", [("event", "off"), ("prefork", "on")])
def test_the_challenge_and_nothing_else(server, mpm, honor):
    server.mpm = mpm
    server.add_md_conf(f"SSLHonorCipherOrder {honor}")
    for name, has in HOSTS.items():
        add_host(server, name, **has)
    server.start()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for challenge in [RSA], [EC], [RSA, EC]:
            for name in HOSTS:
                set_up(server, name, *challenge)
            shown = [(pool.submit(Shown, server, name, *args), kinds) for name in HOSTS
                     for args, kinds in clients(challenge)]
            for handshake, kinds in shown:
                handshake.result().assert_challenge(kinds)
        # each host goes on as it was for everybody else
        others = [pool.submit(Shown, server, name, version, alpn=alpn) for name in HOSTS
                  for version in ("-tls1_2", "-tls1_3") for alpn in (None, "http/1.1")]
        for handshake in map(concurrent.futures.Future.result, others):
            has = {"live": "live", "files": "static"}
            assert handshake.subject() in [has[kind] for kind in HOSTS[handshake.what[0]]] or \
                (handshake.what[0], handshake.subject()) == ("none.test", "Apache Managed Domain Fallback")
            assert handshake.protocol == handshake.what[1]
    server.graceful()
    Shown(server, "both.test").assert_challenge()
    assert not server.problems()


def test_chain_file_stays_out_of_it(server, workdir):
    chain, _ = make_pair(workdir, "issuer", "DNS:issuer.test")
    add_host(server, "a.test", files=[RSA], extra=f"{ALPN}\nSSLCertificateChainFile {chain}")
    server.start()
    set_up(server, "a.test", RSA)
    for version in "-tls1_2", "-tls1_3":
        Shown(server, "a.test", version).assert_challenge()
        assert len(Shown(server, "a.test", version, alpn=None).certs) == 2


def test_session_of_before(server, workdir):
    """A client that could resume the session of an ordinary visit is shown the certificate, too."""
    add_host(server, "first.test", files=[RSA])
    add_host(server, "a.test", files=[RSA, EC])
    server.start()
    set_up(server, "a.test", EC)
    for version in "-tls1_2", "-tls1_3":
        session = workdir / f"session{version}"
        Shown(server, "a.test", version, "-sess_out", session, alpn=None, data=REQUEST.decode())
        assert "Reused," in Shown(server, "a.test", version, "-sess_in", session, alpn=None).text
        Shown(server, "a.test", version, "-sess_in", session).assert_challenge()


def test_names(server):
    """In whatever case; on no vhost; of nobody; and none at all."""
    add_host(server, "first.test", files=[RSA])
    add_host(server, "a.test", files=[EC])
    server.start()
    for name in "a.test", "other.test":
        set_up(server, name, RSA, EC)
    for version in "-tls1_2", "-tls1_3":
        Shown(server, "A.Test", version).assert_challenge()
        Shown(server, "other.test", version).assert_challenge()
        for name in "nobody.test", "first.test", None:
            shown = Shown(server, name, version)
            assert (shown.subject(), shown.protocol) == ("static", "acme-tls/1"), name


def test_key_share_asked_for_again(server):
    """The client has to send a second ClientHello."""
    add_host(server, "a.test", files=[RSA, EC], extra=ALPN + "\nSSLOpenSSLConfCmd Groups P-384")
    server.start()
    set_up(server, "a.test", EC)
    shown = Shown(server, "a.test", "-tls1_3", "-groups", "X25519:P-384", "-msg")
    shown.assert_challenge()
    assert shown.text.count("ClientHello") == 2


# What the server prefers of it is chosen, as for all protocols; the certificate is that of the choice.
@pytest.mark.parametrize("protocols, offer, chosen", [
    ("http/1.1 acme-tls/1", "acme-tls/1,http/1.1", "http/1.1"),
    ("http/1.1 acme-tls/1", "h2,acme-tls/1", "acme-tls/1"),
    ("acme-tls/1 http/1.1", "http/1.1,acme-tls/1", "acme-tls/1"),
    ("http/1.1 acme-tls/1\nProtocolsHonorOrder off", "acme-tls/1,http/1.1", "acme-tls/1"),
    ("http/1.1", "acme-tls/1,http/1.1", "http/1.1")])
def test_offered_with_others(server, protocols, offer, chosen):
    add_host(server, "first.test", files=[RSA])
    add_host(server, "a.test", files=[RSA, EC], extra=f"Protocols {protocols}")
    server.start()
    set_up(server, "a.test", EC)
    for version in "-tls1_2", "-tls1_3":
        shown = Shown(server, "a.test", version, alpn=offer, data=REQUEST.decode())
        assert shown.protocol == chosen
        if chosen == "acme-tls/1":
            shown.assert_challenge()
            assert "HTTP/1.1" not in shown.text
        else:
            assert shown.subject() == "static" and "it is served" in shown.text


def test_pairs_of_no_use(server):
    """Those beside them count; and where there are no others, none of another kind is shown."""
    add_host(server, "a.test", files=[RSA, EC])
    server.start()
    for version in "-tls1_2", "-tls1_3":
        set_up(server, "a.test", RSA, EC)
        directory = server.store / "challenges/a.test"
        key = directory / "acme-tls-alpn-01-privkey.p-256.pem"
        for text in b"", b"no key", (directory / "acme-tls-alpn-01-privkey.pem").read_bytes():
            key.write_bytes(text)
            Shown(server, "a.test", version).assert_challenge([RSA])
        assert "no tls-alpn-01 certificate" not in server.error_log()
    (directory / "acme-tls-alpn-01-pubcert.pem").unlink()
    for version in "-tls1_2", "-tls1_3":
        shown = Shown(server, "a.test", version)
        assert not shown.certs and "alert" in shown.text
    server.wait_log(r"\[md:warn\].* a\.test: no tls-alpn-01 certificate in the store", count=2)
    assert Shown(server, "a.test", alpn=None).subject() == "static"


# ---- no request, and client certificates ----

def talk(httpd, version, alpn="acme-tls/1", data=REQUEST):
    """What the server sends after the handshake; it may end the connection as it likes."""
    context = ssl._create_unverified_context()
    context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols([alpn])
    with socket.create_connection(("127.0.0.1", httpd.https_port), timeout=20) as sock:
        with context.wrap_socket(sock, server_hostname="a.test") as tls:
            assert tls.selected_alpn_protocol() == alpn
            got = b""
            try:
                tls.sendall(data)
                while chunk := tls.recv(65536):
                    got += chunk
            except (ssl.SSLError, ConnectionError):
                pass
            return got


@pytest.mark.parametrize("mpm", ["event", "worker", "prefork"])
def test_no_request(server, mpm):
    server.mpm = mpm
    server.global_conf.append(f"CustomLog {server.dir}/access.log %r")
    add_host(server, "a.test", files=[EC])
    server.start()
    for challenge in [], [RSA], [EC]:
        set_up(server, "a.test", *challenge)
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            for data in REQUEST, REQUEST * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"":
                assert talk(server, version, data=data) == b""
    assert b"it is served" in talk(server, ssl.TLSVersion.TLSv1_3, None)
    assert (server.dir / "access.log").read_text() == "GET / HTTP/1.1\n"
    assert not server.problems()


@pytest.mark.parametrize("protocols, versions", [
    ("-all +TLSv1.2", ["-tls1_2"]), ("-all +TLSv1.3", ["-tls1_3"]), ("all", ["-tls1_2", "-tls1_3"])])
def test_client_certificates_are_demanded_of_others(env, workdir, protocols, versions):
    cert, key = make_pair(workdir, "client", "DNS:client.test")
    env.add_md_conf("MDPrivateKeys P-256\nMDCAChallenges tls-alpn-01\nMDomain a.test")
    env.add_vhost("a.test", extra=f"{ALPN}\nSSLProtocol {protocols}\nSSLVerifyClient require\n"
                                  f"SSLCACertificateFile {cert}")
    env.start()
    env.await_md("a.test")
    env.graceful()
    set_up(env, "a.test", EC)
    for version in versions:
        session = workdir / f"session{version}"
        shown = Shown(env, "a.test", version, "-sess_out", session, data=REQUEST.decode())
        shown.assert_challenge()
        assert "HTTP/1.1" not in shown.text
        # neither without a certificate, nor with the session of a validation, but with one
        for args, served in ([], False), (["-sess_in", session], False), (["-cert", cert, "-key", key], True):
            text = Shown(env, "a.test", version, *args, alpn=None, data=REQUEST.decode()).text
            assert ("it is served" in text) == served, args
    assert not env.problems()


# ---- bytes ----

class Hello:
    """A client whose messages are bytes."""

    def __init__(self, version):
        context = ssl._create_unverified_context()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["acme-tls/1"])
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="a.test")
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        record = self.outgoing.read()
        self.head, self.message = record[:3], record[5:]

    def records(self, size):
        """The ClientHello in records of so many bytes."""
        return [self.head + len(part).to_bytes(2, "big") + part for part in
                (self.message[i:i + size] for i in range(0, len(self.message), size))]

    def finish(self, sock):
        while True:
            try:
                self.tls.do_handshake()
                return x509.load_der_x509_certificate(self.tls.getpeercert(True))
            except ssl.SSLWantReadError:
                sock.sendall(self.outgoing.read())
                data = sock.recv(65536)
                assert data
                self.incoming.write(data)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_fragments(server, version):
    """Of records, and of TCP segments."""
    add_host(server, "a.test", files=[RSA, EC])
    server.start()
    set_up(server, "a.test", EC)
    for size, segments in (5, None), (1, None), (100, None), (20000, 1), (7, 3):
        hello = Hello(version)
        data = b"".join(hello.records(size))
        with socket.create_connection(("127.0.0.1", server.https_port), timeout=20) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(0, len(data), segments or len(data)):
                sock.sendall(data[i:i + (segments or len(data))])
            cert = hello.finish(sock)
        assert cert.subject.rfc4514_string() == "CN=tls-alpn-01-challenge", (size, segments)


def test_hostile_bytes(server):
    """ClientHellos cut and changed at each byte harm nobody."""
    add_host(server, "a.test", files=[EC])
    server.start()
    set_up(server, "a.test", EC)
    children = server.child_pids()
    hello = Hello(ssl.TLSVersion.TLSv1_2)
    whole = hello.records(20000)[0]
    for i in range(5, len(whole)):
        cut = whole[:3] + (i - 5).to_bytes(2, "big") + whole[5:i]
        shorter = cut[:6] + (max(i - 9, 0)).to_bytes(3, "big") + cut[9:]  # the message, too
        changed = whole[:i] + bytes([whole[i] ^ 0xff]) + whole[i + 1:]
        for data in cut, shorter, changed:
            with socket.create_connection(("127.0.0.1", server.https_port), timeout=20) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                try:
                    while sock.recv(65536):
                        pass
                except ConnectionError:
                    pass
    Shown(server, "a.test").assert_challenge()
    assert set(children) <= set(server.child_pids())
    assert not server.problems()


# ---- a real CA ----

@pytest.mark.parametrize("specs, files, protocols", [
    ("default", [], "-all +TLSv1.2"), ("default", [], "all"), ("rsa2048 P-256", [], "-all +TLSv1.2"),
    ("P-256", [RSA], "-all +TLSv1.3"), ("default", [EC], "-all +TLSv1.2")])
def test_issued_and_renewed(env, specs, files, protocols):
    env.add_md_conf(f"MDPrivateKeys {specs}\nMDCAChallenges tls-alpn-01")
    add_host(env, "a.test", files=files, extra=f"{ALPN}\nSSLProtocol {protocols}")
    env.start()
    env.await_md("a.test")
    env.graceful()
    first = env.tls_cert("a.test").serial_number
    env.add_md_conf("MDRenewWindow 120d")  # longer than the lifetime: due at once
    env.graceful()
    env.wait_log("AH10059", count=2)
    assert env.tls_cert("a.test").serial_number == first
    assert env.ca.count("challenge failed") == 0 and not env.problems()
