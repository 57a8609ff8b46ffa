# SPDX-License-Identifier: Apache-2.0
"""Sets that go live: staged as a renewal leaves them, and put into service by the server at its request."""
import datetime
import functools
import json
import re
import shutil
import socket
import ssl
import uuid

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import sets
from servers import wait_for
from stores import passphrase

RSA, EC = "", ".p-256"  # in names of files
SPECS = {RSA: {"type": "RSA", "bits": 2048}, EC: {"type": "EC", "curve": "P-256"}}
CA_URL = "https://127.0.0.1:1/directory"  # nobody is there
CONF = ("MDCertificateAgreement accepted\nMDContactEmail admin@example.org\nMDActivation live\n"
        f"MDCertificateAuthority {CA_URL}\nMDRenewViaARI off")
IN_SERVICE = "has been set up and its new certificate is in service"


@functools.cache
def rsa_keys():
    """Making one takes long."""
    return [rsa.generate_private_key(65537, 2048) for _ in range(4)]


def make_key(kind, n):
    return rsa_keys()[n % 4] if kind == RSA else ec.generate_private_key(ec.SECP256R1())


def make_set(names, kinds, days=(-1, 89), n=0, by=None):
    """Kind of key -> (key, chain as PEM)."""
    made = {}
    for kind in kinds:
        key = make_key(kind, n)
        by = by or sets.issuer()
        leaf = by.sign(sets.name_of(names[0]), key, days, names)
        made[kind] = key, sets.pem(leaf) + sets.pem(by.cert)
    return made


def serials(made):
    return {kind: sets.serial(chain) for kind, (_, chain) in made.items()}


def problems(httpd):
    """Names that are in no DNS are found so when they are checked, as Live does to have its sets seen."""
    return [line for line in httpd.problems() if "does not exist in the DNS" not in line]


class Live:
    """Domains of a server that never has to ask a CA, and what they serve."""

    def __init__(self, httpd, kinds=(EC,), conf=""):
        self.httpd, self.kinds, self.n = httpd, kinds, 0
        self.names, self.at = {}, {}  # of domains; and all serials that were in service, in their order
        httpd.add_md_conf(CONF + "\nMDPrivateKeys " + " ".join({RSA: "rsa2048", EC: "P-256"}[k] for k in kinds))
        if conf:
            httpd.add_md_conf(conf)
        sets.make_store(httpd.store)

    def add(self, *names, vhosts=None, days=(-20, 70), extra=""):
        """A domain that the start finds in the store; without `days` it finds none."""
        self.names[names[0]] = list(names)
        self.httpd.add_md_conf("MDomain " + " ".join(names))
        for vhost in vhosts or [names[0]]:
            self.httpd.add_vhost(vhost, extra=extra)
        self.at[names[0]] = []
        if days:
            self.put("domains", names[0], make_set(names, self.kinds, days), None)

    def document(self, name):
        keys = [SPECS[kind] for kind in self.kinds]
        document = sets.document(self.names[name], privkey=keys[0] if len(keys) == 1 else keys)
        document["ca"].update(url=CA_URL, urls=[CA_URL])
        return document

    def put(self, group, name, made, secret):
        place = self.httpd.store / group / name
        place.mkdir(parents=True, exist_ok=True)
        if group == "domains":
            for private in place, place.parent:
                private.chmod(0o700)
        for kind, (key, chain) in made.items():
            sets.put(place / f"privkey{kind}.pem", sets.key_pem(key, secret), 0o600)
            sets.put(place / f"pubcert{kind}.pem", chain, 0o644)
        sets.put(place / "md.json", json.dumps(self.document(name)).encode())
        if group == "domains":
            self.at[name].append(serials(made))
            return
        job = {"name": name, "finished": True, "notified": True, "notified-renewed": True, "errors": 0,
               "log": {"entries": [{"when": datetime.datetime.utcnow().strftime("%a, %d %b %Y %H:%M:%S GMT"),
                                    "type": "finished"}]}}
        sets.put(place / "job.new", json.dumps(job).encode())
        sets.give_away(place)
        (place / "job.new").rename(place / "job.json")

    def ask(self, name, kind="check"):
        """Somebody wants the server to look at the domain."""
        place = self.httpd.store / "requests" / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for part in place, place.parent:
            part.chmod(0o755)
        made = datetime.datetime.utcnow().strftime("%a, %d %b %Y %H:%M:%S GMT")
        sets.put(place / "request.json", json.dumps(
            {"id": uuid.uuid4().hex, "kind": kind, "made": made}).encode())

    def stage(self, name, made=None):
        """What a renewal leaves; returns the serials."""
        self.n += 1
        made = made or make_set(self.names[name], self.kinds, (-0.5, 89 + self.n / 1000), self.n)
        self.put("staging", name, made, passphrase(self.httpd.store))
        return serials(made)

    def count(self, name):
        return len(re.findall(rf"Managed Domain {re.escape(name)} {IN_SERVICE}", self.httpd.error_log()))

    def swap(self, *names):
        """A new set for each is in service."""
        before = {name: self.count(name) for name in names}
        for name in names:
            self.at[name].append(self.stage(name))
            self.ask(name)
        for name in names:
            wait_for(lambda: self.count(name) > before[name], what=f"new certificate of {name}", every=0.02)
            wait_for(lambda: not list((self.httpd.store / "staging" / name).glob("*")), what="end of it")

    def published(self, name):
        return sorted((self.httpd.store / "live" / name).glob("set.*"))


def contexts(version=None, ciphers=None):
    context = ssl._create_unverified_context()
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def handshake(httpd, name, context=None, sni=True):
    """The leaf that is shown."""
    context = context or contexts()
    with socket.create_connection(("127.0.0.1", httpd.https_port), timeout=20) as sock:
        with context.wrap_socket(sock, server_hostname=name if sni else None) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(True))


def shown(httpd, name, *args, **kwargs):
    return handshake(httpd, name, *args, **kwargs).serial_number
