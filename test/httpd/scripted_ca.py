# SPDX-License-Identifier: Apache-2.0
"""A small ACME CA (RFC 8555) that is correct by default and misbehaves on request.

    with ScriptedCA(tmp_path) as ca:
        ca.directory_url, ca.ca_file        # for the client: where, and whom to trust
        ca.script("newOrder", "html", times=1)
        rule = ca.script("finalize", hold("after"))
        ca.wait_held(rule); ...; ca.release()
        ca.requests, ca.count("newOrder"), ca.accounts, ca.orders
        ca.calm()                           # from here on a good CA again

Resource kinds: directory newNonce newAccount newOrder account authz challenge order finalize
certificate renewalInfo keyChange revokeCert, "signed" for every POST and "*" for everything. All rules that match a request apply to it, in the order in
which they were scripted: the first one that answers in place of the CA ends the matter, the ones
that change a reply are chained.

Everything a test reads may be read while the CA works. `wait()` waits for a condition over it.
"""
import base64
import collections
import contextlib
import datetime
import email.utils
import hashlib
import http.client
import http.server
import ipaddress
import itertools
import json
import pathlib
import re
import secrets
import select
import socket
import ssl
import sys
import threading
import time
import traceback

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ports import free_ports

KINDS = ("directory", "newNonce", "newAccount", "newOrder", "account", "authz", "challenge",
         "order", "finalize", "certificate", "renewalInfo", "keyChange", "revokeCert")
ERROR = "urn:ietf:params:acme:error:"
DNS_NAME = re.compile(r"^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$")


# ---------------------------------------------------------------------------------------------
# encodings

def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64u_decode(text):
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("not base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def utcnow():
    return datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)


def thumbprint(jwk):
    """RFC 7638: the required members in lexical order, no blanks."""
    members = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    text = json.dumps({m: jwk[m] for m in members}, sort_keys=True, separators=(",", ":"))
    return b64u(hashlib.sha256(text.encode()).digest())


def jwk_public_key(jwk):
    if jwk.get("kty") == "RSA":
        number = lambda m: int.from_bytes(b64u_decode(jwk[m]), "big")
        return rsa.RSAPublicNumbers(number("e"), number("n")).public_key()
    if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
        x, y = b64u_decode(jwk["x"]), b64u_decode(jwk["y"])
        if len(x) != 32 or len(y) != 32:  # RFC 7518 6.2.1.2
            raise ValueError("coordinates of P-256 are 32 octets")
        return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"),
                                             ec.SECP256R1()).public_key()
    raise ValueError("unsupported key")


def jws_verify(alg, jwk, signed, signature):
    """RFC 7518 3.3 and 3.4; raises ValueError or InvalidSignature."""
    key = jwk_public_key(jwk)
    if alg == "RS256" and isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    elif alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
        if len(signature) != 64:
            raise ValueError("an ES256 signature is 64 octets")
        r, s = (int.from_bytes(signature[i:i + 32], "big") for i in (0, 32))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    else:
        raise ValueError("alg does not go with the key")


def spki(public_key):
    return public_key.public_bytes(serialization.Encoding.DER,
                                   serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


# ---------------------------------------------------------------------------------------------
# certificates

class Issuer:
    """A key with a certificate that signs others; `parent` None makes a root. What it signs names `ocsp_url` and its own
    certificate at `issuer_url`, if these are set, and has to be stapled with `must_staple`."""
    ocsp_url, issuer_url, must_staple = None, None, False

    def __init__(self, name, parent=None, key=None):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = parent or self
        self.cert = (self._builder(self.name, self.key.public_key(), signer.name, 3650)
                     .add_extension(x509.BasicConstraints(True, None), critical=True)
                     .add_extension(x509.KeyUsage(True, False, False, False, False, True, True,
                                                  False, False), critical=True)
                     .add_extension(x509.SubjectKeyIdentifier.from_public_key(
                         self.key.public_key()), critical=False)
                     .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                         signer.key.public_key()), critical=False)
                     .sign(signer.key, hashes.SHA256()))

    @staticmethod
    def _builder(subject, public_key, issuer, days, start=None):
        start = start or utcnow() - datetime.timedelta(hours=1)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
                .public_key(public_key).serial_number(x509.random_serial_number())
                .not_valid_before(start)
                .not_valid_after(start + datetime.timedelta(days=days)))

    def leaf(self, public_key, names, addresses=(), start=None, days=90, issuer_name=None):
        cn = [x509.NameAttribute(NameOID.COMMON_NAME, n) for n in names[:1] if len(n) <= 64]
        san = [x509.DNSName(n) for n in names] + [x509.IPAddress(a) for a in addresses]
        subject = x509.Name(cn)
        if issuer_name == "self":
            issuer_name = subject
        builder = self._builder(subject, public_key, issuer_name or self.name, days, start)
        access = [x509.AccessDescription(kind, x509.UniformResourceIdentifier(url)) for kind, url in (
            (AuthorityInformationAccessOID.OCSP, self.ocsp_url), (AuthorityInformationAccessOID.CA_ISSUERS, self.issuer_url)) if url]
        if access:
            builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
        if self.must_staple:
            builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        return (builder.add_extension(x509.BasicConstraints(False, None), critical=True)
                .add_extension(x509.SubjectAlternativeName(san), critical=not cn)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
                               critical=False)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key),
                               critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self.key.public_key()), critical=False)
                .sign(self.key, hashes.SHA256()))


# ---------------------------------------------------------------------------------------------
# what the CA knows

class Account:
    def __init__(self, ident, url, jwk, alg, contact):
        self.id, self.url, self.jwk, self.alg = ident, url, jwk, alg
        self.thumbprint = thumbprint(jwk)
        self.contact = contact
        self.status = "valid"
        self.registrations = 1  # newAccount requests that created or found it


class Authz:
    def __init__(self, ident, name, expires, types):
        self.id, self.name, self.expires = ident, name, expires
        self.wildcard = name.startswith("*.")
        self.status = "pending"
        self.error = None
        self.answered = None    # type of the challenge the client answered
        self.polls = 0          # requests that looked at it since then
        self.stuck = None       # Rule that keeps it pending
        self.failure = None     # the error that validation will end with
        self.token = b64u(secrets.token_bytes(32))
        self.types = ["dns-01"] if self.wildcard else list(types)


class Order:
    def __init__(self, ident, account, names, expires):
        self.id, self.account, self.names, self.expires = ident, account, names, expires
        self.authzs = []
        self.csr = None
        self.certificate = None  # the leaf, once issued
        self.polls = 0           # order requests since finalize
        self.error = None
        self.stuck = None        # Rule that keeps it pending or processing
        self.downloaded = False
        self.payload = None      # of newOrder


class Request:
    """One request as the CA saw it. `status` and `ended` are None while it is in flight."""

    def __init__(self, n, method, path, kind, client_port):
        self.n, self.method, self.path, self.kind = n, method, path, kind
        self.client_port = client_port
        self.time = time.monotonic()
        self.ended = None
        self.status = None
        self.account = None   # id
        self.order = None     # id
        self.authz = None     # id
        self.domains = ()
        self.poll = False     # only asks again for something already known
        self.alg = None
        self.payload = None
        self.headers = None
        self.retry_after = None  # header of the reply
        self.connection = None

    def __repr__(self):
        return "<%d %s %s acct=%s order=%s %s -> %s>" % (
            self.n, self.method, self.kind, self.account, self.order, ",".join(self.domains),
            self.status)


class Reply:
    def __init__(self, status, body=b"", ctype="application/json", headers=(), stream=None):
        self.status = status
        self.headers = list(headers)
        self.ctype = ctype
        self.json = None
        self.stream = stream  # iterator of bytes, sent chunked
        if isinstance(body, (dict, list)):
            self.json = body
            body = None
        self.body = body

    def data(self):
        return json.dumps(self.json, indent=2).encode() if self.body is None else self.body

    def header(self, name, value):
        self.headers = [h for h in self.headers if h[0].lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))
        return self


class Problem(Exception):
    def __init__(self, kind, detail, status=400, **more):
        super().__init__(detail)
        self.reply = problem_reply(kind, detail, status, **more)


class Gone(Exception):
    """End the connection without a reply."""


def problem_reply(kind, detail, status=400, retry_after=None, subproblems=None, **more):
    body = {"type": kind if ":" in kind else ERROR + kind, "detail": detail, "status": status}
    if subproblems:
        body["subproblems"] = subproblems
    body.update(more)
    reply = Reply(status, body, "application/problem+json")
    if retry_after is not None:
        reply.header("Retry-After", str(retry_after))
    return reply


# ---------------------------------------------------------------------------------------------
# behaviours: before() may answer in place of the CA, after() may change the CA's reply

class Behaviour:
    def before(self, ca, rq, rule):
        return None

    def after(self, ca, rq, reply, rule):
        return reply


class _Answer(Behaviour):
    def __init__(self, make):
        self.make = make

    def before(self, ca, rq, rule):
        return self.make(ca, rq)


class _Change(Behaviour):
    def __init__(self, change):
        self.change = change

    def after(self, ca, rq, reply, rule):
        return self.change(ca, rq, reply) or reply


def refuse():
    """Close the connection without an answer."""
    def make(ca, rq):
        raise Gone()
    return _Answer(make)


def status(code, body=b"", ctype="text/plain", headers=()):
    """A bare HTTP error, as a front end gives it: no problem document, no nonce."""
    return _Answer(lambda ca, rq: Reply(code, body, ctype, headers))


def html(code=200):
    page = b"<!DOCTYPE html><html><body><h1>It works</h1></body></html>\n"
    return _Answer(lambda ca, rq: Reply(code, page, "text/html; charset=utf-8"))


def redirect(code=302):
    return _Answer(lambda ca, rq: Reply(code, b"", "text/plain",
                                        [("Location", ca.url("/elsewhere"))]))


def truncated_json():
    def change(ca, rq, reply):
        data = reply.data()
        reply.body = data[:max(1, len(data) * 2 // 3)]
    return _Change(change)


def big(size=10 * 1024 * 1024):
    """The right answer, padded to `size` bytes of valid JSON."""
    def change(ca, rq, reply):
        if reply.json is None:
            reply.body = (reply.body or b"").ljust(size, b"\n")
            return
        reply.json = dict(reply.json)
        reply.body = json.dumps(dict(reply.json, padding="A" * size)).encode()
    return _Change(change)


def unknown_status(text="flabbergasted"):
    def change(ca, rq, reply):
        if isinstance(reply.json, dict):
            reply.json["status"] = text
    return _Change(change)


def problem(kind, detail, status=400, retry_after=None, subproblems=None, **more):
    def make(ca, rq):
        reply = problem_reply(kind, detail, status, retry_after, subproblems, **more)
        return ca.with_nonce(reply)
    return _Answer(make)


def retry_after(seconds, as_date=False):
    """Ask for patience, as a number of seconds or as an HTTP-date, where there is something to
    wait for (pending or processing)."""
    def change(ca, rq, reply):
        if isinstance(reply.json, dict) and reply.json.get("status") in ("pending", "processing"):
            value = str(seconds)
            if as_date:
                value = email.utils.formatdate(time.time() + seconds, usegmt=True)
            reply.header("Retry-After", value)
    return _Change(change)


class _Stuck(Behaviour):
    def __init__(self, what):
        self.what = what

    def before(self, ca, rq, rule):
        with ca.lock:
            order, authz = ca._order(rq.order), ca._authz(rq.authz)
            if self.what == "pending" and authz:
                authz.stuck = rule
            elif order:
                order.stuck = rule
        return None


def endless_processing():
    """At finalize or order: the order stays in `processing` until the rule is cancelled."""
    return _Stuck("processing")


def endless_pending():
    """At authz or challenge: the authorization stays `pending` until the rule is cancelled."""
    return _Stuck("pending")


class _Invalid(Behaviour):
    def __init__(self, error):
        self.error = error

    def before(self, ca, rq, rule):
        with ca.lock:
            order, authz = ca._order(rq.order), ca._authz(rq.authz)
            if rq.kind == "authz" and authz and authz.status == "pending":
                authz.answered = authz.answered or authz.types[0]
                authz.status, authz.error = "invalid", self.error
            elif rq.kind == "challenge" and authz:
                authz.failure = self.error
            elif rq.kind == "order" and order:
                order.error = self.error
        return None

    def after(self, ca, rq, reply, rule):
        with ca.lock:
            order = ca._order(rq.order)
            if rq.kind == "finalize" and order and order.csr:
                order.error = self.error
                reply.json = ca._order_json(order)
        return reply


def invalid(kind="unauthorized", detail="the answer was not the expected one", **more):
    """At challenge: validation fails. At authz, order, finalize: it becomes invalid."""
    return _Invalid(dict({"type": ERROR + kind, "detail": detail, "status": 403}, **more))


def _chain(make):
    def change(ca, rq, reply):
        order = ca._order(rq.order)
        if reply.status == 200 and order and order.certificate:
            reply.body = make(ca, order)
    return _Change(change)


def wrong_names():
    """A certificate for the right key and other names."""
    return _chain(lambda ca, o: ca.chain(ca.intermediate.leaf(
        o.csr.public_key(), ["elsewhere.invalid"])))


def wrong_key():
    """A certificate for the right names and another key."""
    return _chain(lambda ca, o: ca.chain(ca.intermediate.leaf(
        ec.generate_private_key(ec.SECP256R1()).public_key(), o.names)))


def expired():
    return _chain(lambda ca, o: ca.chain(ca.intermediate.leaf(
        o.csr.public_key(), o.names, start=utcnow() - datetime.timedelta(days=60), days=30)))


def self_signed():
    """The leaf names itself as its issuer, followed by the CA's intermediate."""
    return _chain(lambda ca, o: ca.chain(ca.intermediate.leaf(
        o.csr.public_key(), o.names, issuer_name="self")))


def unlinked():
    """The leaf was signed by a stranger of the same name as the intermediate that follows it."""
    return _chain(lambda ca, o: ca.chain(Issuer(ca.INTERMEDIATE_NAME).leaf(
        o.csr.public_key(), o.names)))


def weak_chain():
    """The leaf was signed with a key that is shorter than TLS libraries accept."""
    def make(ca, order):
        weak = Issuer("weak intermediate", ca.root, rsa.generate_private_key(65537, 1024))
        return pem(weak.leaf(order.csr.public_key(), order.names)) + pem(weak.cert)
    return _chain(make)


def leaf_only():
    """A chain of one certificate; RFC 8555 9.1 allows it."""
    return _chain(lambda ca, o: pem(o.certificate))


def empty_chain():
    return _chain(lambda ca, o: b"")


def garbage_pem():
    return _chain(lambda ca, o: b"-----BEGIN CERTIFICATE-----\n"
                  + base64.encodebytes(hashlib.sha512(b"no DER").digest() * 20)
                  + b"-----END CERTIFICATE-----\n")


def bad_nonce(with_nonce=True):
    """Refuse the nonce, whatever it is; `times` tells how often."""
    def make(ca, rq):
        reply = problem_reply("badNonce", "the nonce is not known here", 400)
        return ca.with_nonce(reply) if with_nonce else reply
    return _Answer(make)


def no_nonce():
    return _Change(lambda ca, rq, reply: reply.header("Replay-Nonce", None))


def invalid_nonce(value="n o t/base64=url!"):
    return _Change(lambda ca, rq, reply: reply.header("Replay-Nonce", value))


def only_rs256():
    """Refuse other signatures (RFC 8555 6.2)."""
    def make(ca, rq):
        if rq.alg in (None, "RS256"):
            return None
        return ca.with_nonce(problem_reply("badSignatureAlgorithm", "RS256 only, please",
                                           algorithms=["RS256"]))
    return _Answer(make)


class _Slow(Behaviour):
    def __init__(self, seconds):
        self.seconds = seconds

    def before(self, ca, rq, rule):
        ca.stopping.wait(self.seconds)
        return None


def slow(seconds):
    """Reply only after a while."""
    return _Slow(seconds)


class _Hold(Behaviour):
    def __init__(self, when):
        self.when = when

    def _hold(self, ca, rq, rule):
        with ca.changed:
            rule.held.append(rq)
            ca.changed.notify_all()
        rule.gate.wait()

    def before(self, ca, rq, rule):
        if self.when == "before":
            self._hold(ca, rq, rule)
            # A client that waits for its reply has nothing to say: readable means gone.
            if ca.stopping.is_set() or select.select([rq.connection], [], [], 0)[0]:
                raise Gone()
        return None

    def after(self, ca, rq, reply, rule):
        if self.when == "after":
            self._hold(ca, rq, rule)
        return reply


def hold(when="before"):
    """Block until `ca.release()`. "before": the CA has not acted yet, and never will if the client
    has gone meanwhile. "after": it has acted, only the reply is withheld."""
    return _Hold(when)


class _Hang(Behaviour):
    def before(self, ca, rq, rule):
        with ca.changed:
            rule.held.append(rq)
            ca.changed.notify_all()
        rule.gate.wait()
        raise Gone()


def hang():
    """Accept the request and never answer it; the connection ends with `release` or `calm`."""
    return _Hang()


def huge_headers(size=4 * 1024 * 1024):
    def change(ca, rq, reply):
        line = "x" * 8000
        for i in range(size // len(line)):
            reply.headers.append(("X-Filler-%d" % i, line))
    return _Change(change)


class _EndlessBody(Behaviour):
    def __init__(self, chunk, interval):
        self.chunk, self.interval = chunk, interval

    def after(self, ca, rq, reply, rule):
        def drip():
            yield b'{"padding": "'
            while not rule.gate.wait(self.interval):
                yield b"A" * self.chunk
        reply.stream = drip()
        return reply


def endless_body(chunk=16 * 1024, interval=0.0):
    """A reply that never ends: `chunk` bytes every `interval` seconds, until `calm`."""
    return _EndlessBody(chunk, interval)


# the behaviours that need no arguments, by name
BEHAVIOURS = {f.__name__: f for f in (
    refuse, html, redirect, truncated_json, big, unknown_status, endless_processing,
    endless_pending, invalid, wrong_names, wrong_key, expired, self_signed, unlinked, weak_chain,
    leaf_only,
    empty_chain, garbage_pem, bad_nonce, no_nonce, invalid_nonce, only_rs256, hold, hang,
    huge_headers, endless_body)}


class Rule:
    """A behaviour at a kind of resource, for some of its requests."""

    def __init__(self, kind, behaviour, times, nth, domain, where, onwards):
        self.kind, self.behaviour, self.times, self.domain = kind, behaviour, times, domain
        self.where, self.onwards = where, onwards
        if nth is None or callable(nth):
            self.nth = nth
        else:
            wanted = {nth} if isinstance(nth, int) else set(nth)
            self.nth = wanted.__contains__
        self.active = True
        self.seen = 0      # requests of that kind and domain
        self.hits = 0      # those it was applied to
        self.held = []     # requests that arrived at a hold
        self.gate = threading.Event()

    def takes(self, rq):
        if not self.active:
            return False
        if self.kind == "signed":
            if rq.method != "POST":
                return False
        elif self.kind not in ("*", rq.kind) and not (self.onwards and self.hits):
            return False
        if self.domain is not None and self.domain not in rq.domains:
            return False
        if self.where and not self.where(rq):
            return False
        self.seen += 1
        if self.nth and not self.nth(self.seen):
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True

    def cancel(self):
        self.active = False
        self.gate.set()


# ---------------------------------------------------------------------------------------------
# HTTP

class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        ca = self.server.ca
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.settimeout(30)
        self.request = ca.tls.wrap_socket(self.request, server_side=True)
        self.request.settimeout(None)
        ca._opened(self.request)
        super().setup()

    def finish(self):
        self.server.ca._closed(self.request)
        with contextlib.suppress(OSError):
            super().finish()
        self.request.close()

    def log_message(self, *args):
        pass

    def _serve(self):
        ca = self.server.ca
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        rq = ca._arrived(self.command, self.path, self.client_address[1])
        rq.connection, rq.headers = self.connection, self.headers
        try:
            reply = ca._handle(rq, body)
            self._send(rq, reply)
        except Gone:
            self.close_connection = True
        except OSError:
            self.close_connection = True
        finally:
            ca._ended(rq)

    do_GET = do_HEAD = do_POST = _serve

    def _send(self, rq, reply):
        rq.status = reply.status
        rq.retry_after = dict(reply.headers).get("Retry-After")
        data = b"" if reply.stream else reply.data()
        head = ["HTTP/1.1 %d %s" % (reply.status, http.client.responses.get(reply.status, "-")),
                "Date: " + email.utils.formatdate(usegmt=True)]
        head += ["%s: %s" % h for h in reply.headers]
        if reply.stream:
            head += ["Content-Type: " + reply.ctype, "Transfer-Encoding: chunked"]
        elif reply.status != 204:
            if data or self.command != "HEAD":
                head += ["Content-Type: " + reply.ctype]
            head += ["Content-Length: %d" % len(data)]
        out = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")
        if self.command == "HEAD" or reply.status == 204:
            data = b""
        self.connection.sendall(out + data)
        if reply.stream:
            for chunk in reply.stream:
                self.connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.close_connection = True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Clients that vanish, or do not like our certificate, are the point of the exercise;
        anything else is a mistake in here that the test has to see."""
        if not isinstance(sys.exc_info()[1], OSError):
            with self.ca.lock:
                self.ca.failures.append(traceback.format_exc())


class ScriptedCA:
    """The CA. Arguments:

    directory     where to put its key, certificate and root files
    types         challenge types offered for plain names
    authz_polls   looks at an authorization (or its order) after the answer until it is valid; with
                  0 the reply to the answer says `valid` already
    order_polls   the same for the order after finalize
    http01_port   validate http-01 for real, at this port of the loopback address; otherwise every
                  answered challenge counts as proven
    tos           announce terms of service and demand agreement

    renewal_info, an attribute, is what it answers about any certificate (RFC 9773), with renewal_retry_after; None: it
    does not offer that. profiles are what it announces: descriptions by name. alternates: for each chain that it offers
    beside the usual one, the name of the root that its intermediate is from.
    """
    INTERMEDIATE_NAME = "Scripted Intermediate"

    def __init__(self, directory, types=("http-01", "tls-alpn-01", "dns-01"), authz_polls=0,
                 order_polls=0, http01_port=None, tos=True):
        self.dir = pathlib.Path(directory)
        self.types, self.tos, self.http01_port = tuple(types), tos, http01_port
        self.caa_identities = None  # of the directory: what it is called in CAA records
        self.authz_polls, self.order_polls = authz_polls, order_polls
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.stopping = threading.Event()
        self.failures = []   # tracebacks of mistakes in here
        self._requests, self._rules = [], []
        self._accounts, self._authzs, self._orders = {}, {}, {}
        self._nonces = collections.OrderedDict()
        self.renewal_info, self.renewal_retry_after = None, 21600
        self.profiles, self.alternates = {}, []
        self.revoked = {}    # reason by certificate (DER)
        self._ids = itertools.count(1)
        self._connections = set()
        self._server = self._thread = None
        self.port = free_ports(1)[0]

    # -- life

    def start(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        self.root = Issuer("Scripted Root")
        self.intermediate = Issuer(self.INTERMEDIATE_NAME, self.root)
        tls_root = Issuer("Scripted TLS Root")
        key = ec.generate_private_key(ec.SECP256R1())
        cert = tls_root.leaf(key.public_key(), ["localhost"],
                             [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")])
        self.ca_file = self.dir / "scripted-ca.pem"
        self.ca_file.write_bytes(pem(tls_root.cert))
        self.root_file = self.dir / "scripted-root.pem"
        self.root_file.write_bytes(pem(self.root.cert))
        own = self.dir / "scripted-server.pem"
        own.write_bytes(pem(cert) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(own)
        self.up()
        return self

    def stop(self):
        """End all connections and the listener; what was recorded stays readable."""
        self.stopping.set()
        self.calm()
        self.down()

    def up(self):
        """Listen; again at the same port after `down()`."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.ca = self
        self._thread = threading.Thread(target=self._server.serve_forever,
                                        kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def down(self):
        """Refuse connections and end those that exist."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
        with self.lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def url(self, path):
        return "https://127.0.0.1:%d%s" % (self.port, path)

    @property
    def directory_url(self):
        return self.url("/directory")

    # -- what tests look at

    @property
    def requests(self):
        with self.lock:
            return list(self._requests)

    @property
    def accounts(self):
        with self.lock:
            return list(self._accounts.values())

    @property
    def orders(self):
        with self.lock:
            return list(self._orders.values())

    def order(self, rq):
        """The order a request is about."""
        return self._order(rq.order)

    def select(self, kind=None, domain=None, poll=None, order=None):
        """The requests of a kind, for a domain, (not) polls, of one order."""
        return [r for r in self.requests
                if (kind is None or r.kind == kind)
                and (domain is None or domain in r.domains)
                and (poll is None or r.poll == poll)
                and (order is None or r.order == order)]

    def count(self, kind=None, **which):
        return len(self.select(kind, **which))

    def most_open_orders(self):
        """The highest number of orders that existed with no certificate asked for yet."""
        events = []
        for r in self.requests:
            if r.kind == "newOrder" and r.status == 201:
                events.append((r.time, 1))
            if r.kind == "certificate" and r.status == 200:
                events.append((r.time, -1))
        return max(itertools.accumulate((step for _, step in sorted(events)), initial=0))

    def wait(self, condition, timeout=30.0, what="the CA"):
        """Wait until `condition()` is true; it is looked at after each change in here."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise AssertionError("timeout waiting for %s; the CA saw:\n%s" % (what, self.log()))

    def wait_held(self, rule, n=1, timeout=30.0):
        """Wait for the n-th request to arrive at a hold and return it."""
        self.wait(lambda: len(rule.held) >= n, timeout, "request %d at a hold" % n)
        return rule.held[n - 1]

    def log(self, last=60):
        with self.lock:
            lines = [repr(r) for r in self._requests[-last:]] + self.failures
        return "\n".join(lines)

    # -- what tests script

    def script(self, kind, behaviour, times=None, nth=None, domain=None, where=None,
               onwards=False):
        """Let requests of this kind meet a behaviour: the next `times` of them; or the n-th from
        now on (a number, numbers, or a function of the number); only for one domain; only
        `where(request)` is true. With `onwards`, once a request of that kind came, all other
        kinds meet it as well."""
        if kind not in ("*", "signed") and kind not in KINDS:
            raise ValueError(kind)
        if isinstance(behaviour, str):
            behaviour = BEHAVIOURS[behaviour]()
        rule = Rule(kind, behaviour, times, nth, domain, where, onwards)
        with self.lock:
            self._rules.append(rule)
        return rule

    def release(self, rule=None):
        """Let held requests go on, of one rule or of all."""
        with self.lock:
            for r in [rule] if rule else self._rules:
                r.gate.set()

    def calm(self):
        """Forget all rules, release what is held: a good CA from here on."""
        with self.changed:
            for rule in self._rules:
                rule.cancel()
            self._rules.clear()
            self.changed.notify_all()

    # -- bookkeeping for the handler

    def _opened(self, connection):
        with self.lock:
            self._connections.add(connection)

    def _closed(self, connection):
        with self.lock:
            self._connections.discard(connection)

    def _arrived(self, method, path, port):
        kind, ident = self._route(path)
        with self.changed:
            rq = Request(len(self._requests) + 1, method, path, kind, port)
            if kind in ("authz", "challenge"):
                authz = self._authz(ident)
                if authz:
                    rq.authz, rq.domains = authz.id, (authz.name,)
                    rq.order = next((o.id for o in self._orders.values() if authz in o.authzs), None)
            elif kind in ("order", "finalize", "certificate"):
                order = self._order(ident)
                if order:
                    rq.order, rq.domains = order.id, tuple(order.names)
            self._requests.append(rq)
            self.changed.notify_all()
        return rq

    def _ended(self, rq):
        with self.changed:
            rq.ended = time.monotonic()
            rq.connection = None
            self.changed.notify_all()

    ROUTES = (
        (re.compile(r"^/directory$"), "directory"),
        (re.compile(r"^/new-nonce$"), "newNonce"),
        (re.compile(r"^/new-account$"), "newAccount"),
        (re.compile(r"^/new-order$"), "newOrder"),
        (re.compile(r"^/key-change$"), "keyChange"),
        (re.compile(r"^/revoke-cert$"), "revokeCert"),
        (re.compile(r"^/account/(\d+)$"), "account"),
        (re.compile(r"^/account/(\d+)/orders$"), "orders"),
        (re.compile(r"^/authz/(\d+)$"), "authz"),
        (re.compile(r"^/challenge/(\d+)/[a-z0-9-]+$"), "challenge"),
        (re.compile(r"^/order/(\d+)$"), "order"),
        (re.compile(r"^/order/(\d+)/finalize$"), "finalize"),
        (re.compile(r"^/certificate/(\d+)(?:/\d+)?$"), "certificate"),
        (re.compile(r"^/renewal-info/[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"), "renewalInfo"),
    )

    def _route(self, path):
        for pattern, kind in self.ROUTES:
            match = pattern.match(path)
            if match:
                return kind, int(match.group(1)) if match.groups() else None
        return path.strip("/"), None

    def _order(self, ident):
        return self._orders.get(ident)

    def _authz(self, ident):
        return self._authzs.get(ident)

    def nonce(self):
        with self.lock:
            nonce = b64u(secrets.token_bytes(18))
            self._nonces[nonce] = True
            while len(self._nonces) > 20000:
                self._nonces.popitem(last=False)
            return nonce

    def with_nonce(self, reply):
        return reply.header("Replay-Nonce", self.nonce())

    def chain(self, leaf):
        return pem(leaf) + pem(self.intermediate.cert)

    # -- one request

    def _handle(self, rq, body):
        jws = self._read_jws(rq, body)
        with self.lock:
            rules = [r for r in list(self._rules) if r.takes(rq)]
        reply = None
        for rule in rules:
            reply = rule.behaviour.before(self, rq, rule)
            if reply is not None:
                return reply
        try:
            if rq.method == "POST" and rq.kind in KINDS:
                account = self._authenticate(rq, jws)
                if rq.kind == "challenge" and rq.payload is not None:
                    self._validate_http01(rq, account)
                with self.changed:
                    reply = getattr(self, "_" + rq.kind + "_reply")(rq, account)
                    self.changed.notify_all()
                self.with_nonce(reply)
            else:
                reply = self._get(rq)
        except Problem as e:
            reply = self.with_nonce(e.reply)
        reply.headers.append(("Link", '<%s>;rel="index"' % self.directory_url))
        for rule in rules:
            reply = rule.behaviour.after(self, rq, reply, rule)
        return reply

    def _read_jws(self, rq, body):
        """Take from the JWS what the record and the rules need; it is verified later."""
        if rq.method != "POST":
            return None
        try:
            jws = json.loads(body)
            protected = json.loads(b64u_decode(jws["protected"]))
            payload = b64u_decode(jws["payload"])
            rq.alg = protected.get("alg")
            rq.payload = json.loads(payload) if payload else None
            kid = protected.get("kid")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if isinstance(kid, str):
            kind, ident = self._route(kid[len(self.url("")):])
            rq.account = ident if kind == "account" else None
        if rq.kind == "newOrder" and isinstance(rq.payload, dict):
            rq.domains = tuple(str(i.get("value")) for i in rq.payload.get("identifiers", [])
                               if isinstance(i, dict))
        with self.lock:
            authz = self._authz(rq.authz)
            rq.poll = rq.payload is None and (
                rq.kind in ("order", "challenge") or bool(authz and authz.answered))
        jws["header"] = protected
        return jws

    def _authenticate(self, rq, jws):
        """RFC 8555 6.2 to 6.5, in the order a client wants to hear about it."""
        if rq.headers.get("Content-Type") != "application/jose+json":
            raise Problem("malformed", "Content-Type is not application/jose+json", 415)
        if jws is None:
            raise Problem("malformed", "no flattened JWS")
        head = jws["header"]
        if rq.alg not in ("ES256", "RS256"):
            raise Problem("badSignatureAlgorithm", "unknown alg", algorithms=["ES256", "RS256"])
        if ("jwk" in head) == ("kid" in head):
            raise Problem("malformed", "either jwk or kid")
        if rq.kind == "newAccount" and "jwk" not in head:
            raise Problem("malformed", "newAccount wants a jwk")
        if rq.kind not in ("newAccount", "revokeCert") and "kid" not in head:
            raise Problem("malformed", "kid expected")
        with self.lock:
            account = None
            if "kid" in head:
                account = self._accounts.get(rq.account)
                if account is None or account.url != head["kid"]:
                    raise Problem("accountDoesNotExist", "no such account", 400)
                jwk = account.jwk
            else:
                jwk = head["jwk"]
            try:
                jws_verify(rq.alg, jwk, ("%s.%s" % (jws["protected"], jws["payload"])).encode(),
                           b64u_decode(jws["signature"]))
            except (InvalidSignature, ValueError, KeyError, TypeError):
                raise Problem("malformed", "the signature does not verify")
            if head.get("url") != self.url(rq.path):
                raise Problem("unauthorized", "the url in the JWS is another one", 401)
            if not self._nonces.pop(head.get("nonce"), False):
                raise Problem("badNonce", "unknown nonce")
            if account and account.status != "valid":
                raise Problem("unauthorized", "the account is " + account.status, 401)
            if account is None:
                # handed on to newAccount
                account = Account(None, None, jwk, rq.alg, [])
            return account

    def _get(self, rq):
        if rq.kind == "directory" and rq.method in ("GET", "HEAD"):
            meta = {"website": self.url("/about")}
            if self.tos:
                meta["termsOfService"] = self.url("/terms")
            if self.profiles:
                meta["profiles"] = self.profiles
            if self.caa_identities:
                meta["caaIdentities"] = self.caa_identities
            more = {"renewalInfo": self.url("/renewal-info")} if self.renewal_info else {}
            return Reply(200, {"newNonce": self.url("/new-nonce"),
                               "newAccount": self.url("/new-account"),
                               "newOrder": self.url("/new-order"), "keyChange": self.url("/key-change"),
                               "revokeCert": self.url("/revoke-cert"), "meta": meta, **more})
        if rq.kind == "renewalInfo" and rq.method == "GET" and self.renewal_info:
            return Reply(200, self.renewal_info).header("Retry-After", str(self.renewal_retry_after))
        if rq.kind == "newNonce" and rq.method in ("GET", "HEAD"):
            reply = Reply(200 if rq.method == "HEAD" else 204, b"", "text/plain",
                          [("Cache-Control", "no-store")])
            return self.with_nonce(reply)
        if rq.kind in KINDS:
            return problem_reply("malformed", "method not allowed", 405)
        return problem_reply("malformed", "no such resource", 404)

    # -- resources; called with the lock held

    def _account_json(self, account):
        return {"status": account.status, "contact": account.contact,
                "termsOfServiceAgreed": True, "orders": account.url + "/orders"}

    def _newAccount_reply(self, rq, proposed):
        payload = rq.payload if isinstance(rq.payload, dict) else {}
        for account in self._accounts.values():
            if account.thumbprint == proposed.thumbprint:
                account.registrations += 1
                rq.account = account.id
                if account.status != "valid":
                    raise Problem("unauthorized", "the account is " + account.status, 401)
                return Reply(200, self._account_json(account)).header("Location", account.url)
        if payload.get("onlyReturnExisting"):
            raise Problem("accountDoesNotExist", "no account with this key")
        if self.tos and payload.get("termsOfServiceAgreed") is not True:
            raise Problem("userActionRequired", "the terms of service must be agreed to", 403)
        contact = payload.get("contact", [])
        if not all(isinstance(c, str) and c.startswith("mailto:") for c in contact):
            raise Problem("unsupportedContact", "mailto only")
        ident = next(self._ids)
        account = Account(ident, self.url("/account/%d" % ident), proposed.jwk, rq.alg, contact)
        self._accounts[ident] = account
        rq.account = ident
        return Reply(201, self._account_json(account)).header("Location", account.url)

    def _account_reply(self, rq, account):
        if self._route(rq.path)[1] != account.id:
            raise Problem("unauthorized", "not your account", 403)
        if isinstance(rq.payload, dict):
            if "contact" in rq.payload:
                account.contact = rq.payload["contact"]
            if rq.payload.get("status") == "deactivated":
                account.status = "deactivated"
        return Reply(200, self._account_json(account))

    def _keyChange_reply(self, rq, account):
        """RFC 8555 7.3.5, in its order."""
        try:
            head = json.loads(b64u_decode(rq.payload["protected"]))
            inner = json.loads(b64u_decode(rq.payload["payload"]))
            jws_verify(head["alg"], head["jwk"], ("%s.%s" % (rq.payload["protected"], rq.payload["payload"])).encode(),
                       b64u_decode(rq.payload["signature"]))
        except (InvalidSignature, ValueError, KeyError, TypeError):
            raise Problem("malformed", "the inner JWS is none")
        if head.get("url") != self.url(rq.path) or "nonce" in head or inner.get("account") != account.url:
            raise Problem("malformed", "url, nonce or account of the inner JWS")
        if inner.get("oldKey") != account.jwk:
            raise Problem("malformed", "that is not the old key")
        for other in self._accounts.values():
            if other.thumbprint == thumbprint(head["jwk"]):
                raise Problem("malformed", "the key is in use", 409)
        account.jwk, account.alg, account.thumbprint = head["jwk"], head["alg"], thumbprint(head["jwk"])
        return Reply(200, self._account_json(account))

    def _revokeCert_reply(self, rq, account):
        """RFC 8555 7.6."""
        der = b64u_decode(rq.payload["certificate"])
        order = next((o for o in self._orders.values() if o.certificate
                      and o.certificate.public_bytes(serialization.Encoding.DER) == der), None)
        if not order:
            raise Problem("malformed", "no such certificate", 404)
        by_key = spki(order.certificate.public_key()) == spki(jwk_public_key(account.jwk))
        if order.account is not account and not (account.id is None and by_key):
            raise Problem("unauthorized", "not your certificate", 403)
        reason = rq.payload.get("reason", 0)
        if reason not in (0, 1, 3, 4, 5, 9):
            raise Problem("badRevocationReason", "no reason for a subscriber")
        if der in self.revoked:
            raise Problem("alreadyRevoked", "it was revoked before")
        self.revoked[der] = reason
        return Reply(200, b"", "text/plain")

    def _newOrder_reply(self, rq, account):
        identifiers = (rq.payload or {}).get("identifiers")
        if not identifiers:
            raise Problem("malformed", "no identifiers")
        if rq.payload.get("profile", "") not in ("", *self.profiles):
            raise Problem("invalidProfile", "no such profile")
        names = []
        for i in identifiers:
            if i.get("type") != "dns":
                raise Problem("unsupportedIdentifier", "only dns")
            if not DNS_NAME.match(i.get("value", "")):
                raise Problem("rejectedIdentifier", "%r is no DNS name" % i.get("value"))
            if i["value"] not in names:
                names.append(i["value"])
        expires = utcnow() + datetime.timedelta(days=7)
        order = Order(next(self._ids), account, names, expires)
        order.payload = rq.payload
        for name in names:
            authz = Authz(next(self._ids), name, expires, self.types)
            self._authzs[authz.id] = authz
            order.authzs.append(authz)
        self._orders[order.id] = order
        rq.order = order.id
        return (Reply(201, self._order_json(order))
                .header("Location", self.url("/order/%d" % order.id)))

    def order_status(self, order):
        """RFC 8555 7.1.6, from the facts."""
        stuck = order.stuck.behaviour.what if order.stuck and order.stuck.active else None
        if order.error or any(a.status not in ("pending", "valid") for a in order.authzs):
            return "invalid"
        if stuck == "pending" or any(a.status == "pending" for a in order.authzs):
            return "pending"
        if order.csr is None:
            return "ready"
        if stuck == "processing" or order.polls < self.order_polls:
            return "processing"
        return "valid"

    def _order_json(self, order):
        state = self.order_status(order)
        json_ = {"status": state, "expires": rfc3339(order.expires),
                 "identifiers": [{"type": "dns", "value": n} for n in order.names],
                 "authorizations": [self.url("/authz/%d" % a.id) for a in order.authzs],
                 "finalize": self.url("/order/%d/finalize" % order.id)}
        if state == "invalid":
            json_["error"] = order.error or {"type": ERROR + "unauthorized", "status": 403,
                                             "detail": "an authorization failed"}
        if state == "valid":
            if order.certificate is None:
                order.certificate = self.intermediate.leaf(order.csr.public_key(), order.names)
            json_["certificate"] = self.url("/certificate/%d" % order.id)
        return json_

    def _authz_json(self, authz):
        json_ = {"status": authz.status, "expires": rfc3339(authz.expires),
                 "identifier": {"type": "dns", "value": authz.name[2:] if authz.wildcard
                                else authz.name},
                 "challenges": [self._challenge_json(authz, t) for t in authz.types
                                if authz.status == "pending" or authz.answered in (None, t)]}
        if authz.wildcard:
            json_["wildcard"] = True
        return json_

    def _challenge_json(self, authz, type_):
        json_ = {"type": type_, "url": self.url("/challenge/%d/%s" % (authz.id, type_)),
                 "token": authz.token, "status": "pending"}
        if authz.answered == type_:
            json_["status"] = {"pending": "processing"}.get(authz.status, authz.status)
            if authz.status == "valid":
                json_["validated"] = rfc3339(utcnow())
            if authz.error:
                json_["error"] = authz.error
        return json_

    def _mine(self, rq, account, kind):
        order = self._order(rq.order)
        if order is None:
            raise Problem("malformed", "no such " + kind, 404)
        if order.account is not account:
            raise Problem("unauthorized", "not your " + kind, 403)
        return order

    def _look(self, authz):
        """Somebody asks about the authorization; validation may be over by now."""
        if authz.status == "pending" and authz.answered:
            if authz.failure:
                authz.status, authz.error = "invalid", authz.failure
            elif authz.polls >= self.authz_polls and not (authz.stuck and authz.stuck.active):
                authz.status = "valid"
            authz.polls += 1

    def _authz_reply(self, rq, account):
        self._mine(rq, account, "authorization")
        authz = self._authz(rq.authz)
        if isinstance(rq.payload, dict) and rq.payload.get("status") == "deactivated":
            authz.status = "deactivated"
        self._look(authz)
        return Reply(200, self._authz_json(authz))

    def _challenge_reply(self, rq, account):
        self._mine(rq, account, "challenge")
        authz = self._authz(rq.authz)
        type_ = rq.path.rsplit("/", 1)[1]
        if type_ not in authz.types:
            raise Problem("malformed", "no such challenge", 404)
        if rq.payload is not None:
            if authz.status != "pending" and authz.answered != type_:
                raise Problem("malformed", "the authorization is " + authz.status)
            authz.answered = authz.answered or type_
        self._look(authz)
        reply = Reply(200, self._challenge_json(authz, type_))
        reply.headers.append(("Link", '<%s>;rel="up"' % self.url("/authz/%d" % authz.id)))
        return reply

    def _order_reply(self, rq, account):
        order = self._mine(rq, account, "order")
        for authz in order.authzs:
            self._look(authz)
        if order.csr is not None:
            order.polls += 1
        return Reply(200, self._order_json(order))

    def _finalize_reply(self, rq, account):
        order = self._mine(rq, account, "order")
        if order.csr is not None or self.order_status(order) != "ready":
            raise Problem("orderNotReady", "the order is " + self.order_status(order), 403)
        try:
            csr = x509.load_der_x509_csr(b64u_decode(rq.payload["csr"]))
            names = csr.extensions.get_extension_for_class(
                x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
            common = [a.value for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            good = csr.is_signature_valid
        except (ValueError, KeyError, TypeError, x509.ExtensionNotFound):
            raise Problem("badCSR", "the CSR cannot be read")
        if not good or set(names) | set(common) != set(order.names):
            raise Problem("badCSR", "the CSR is for other names or badly signed")
        if spki(csr.public_key()) == spki(jwk_public_key(account.jwk)):
            raise Problem("badCSR", "the account key is no certificate key")
        order.csr = csr
        reply = Reply(200, self._order_json(order))
        return reply.header("Location", self.url("/order/%d" % order.id))

    def _certificate_reply(self, rq, account):
        order = self._mine(rq, account, "certificate")
        if order.certificate is None:
            raise Problem("malformed", "no such certificate", 404)
        order.downloaded = True
        which = rq.path.split("/")[3:]
        chain = self.alternate_chain(order, self.alternates[int(which[0])]) if which else self.chain(order.certificate)
        reply = Reply(200, chain, "application/pem-certificate-chain")
        links = [f'</certificate/{order.id}/{i}>; title="a, b"; rel="alternate"' for i in range(len(self.alternates))]
        if links: # whoever does not know alternates follows `up`
            reply.headers.append(("Link", ", ".join([f'<{self.url("/up")}>;rel=up', *links])))
        return reply

    def alternate_chain(self, order, root):
        """The same certificate, with the intermediate as another root signed it."""
        return pem(order.certificate) + pem(Issuer(self.INTERMEDIATE_NAME, Issuer(root), self.intermediate.key).cert)

    # -- validation

    def _validate_http01(self, rq, account):
        """RFC 8555 8.3; without the lock, it asks the client's server."""
        if self.http01_port is None or not rq.path.endswith("/http-01"):
            return
        with self.lock:
            authz = self._authz(rq.authz)
            if authz is None or authz.answered:
                return
            name, token = authz.name, authz.token
        expected = token + "." + account.thumbprint
        try:
            link = http.client.HTTPConnection("127.0.0.1", self.http01_port, timeout=10)
            link.request("GET", "/.well-known/acme-challenge/" + token, headers={"Host": name})
            answer = link.getresponse()
            found = answer.read(8192).decode("latin-1").rstrip()
            link.close()
            error = None if answer.status == 200 and found == expected else {
                "type": ERROR + "unauthorized", "status": 403,
                "detail": "http status %d, %r in place of %r" % (answer.status, found, expected)}
        except (OSError, http.client.HTTPException) as e:
            error = {"type": ERROR + "connection", "status": 400, "detail": str(e)}
        if error:
            with self.lock:
                authz.failure = error
