# SPDX-License-Identifier: Apache-2.0
"""A small CA whose certificates name an OCSP responder, that responder on loopback, which misbehaves on request, and a
look at what a server staples, with code that is not OpenSSL's for OCSP."""
import base64
import collections
import datetime
import http.server
import re
import threading
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from servers import run

DAY = 24 * 3600


def now():
    return datetime.datetime.utcnow().replace(microsecond=0)


def after(seconds):
    return now() + datetime.timedelta(seconds=seconds)


def name_of(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


class Responder:
    """Answers for the certificates of an issuer, as `status` says for their serial numbers: good, if nothing else is
    said. They begin `age` seconds ago and last for `lifetime` (None: without an end). `signer` is the certificate and
    the key that signs in place of the issuer. `reply(der)`, if set, makes something else of an answer."""

    def __init__(self, issuer=None, key=None):
        self.issuer, self.key = issuer, key
        self.status, self.age, self.lifetime, self.signer, self.reply = {}, 0, 7 * DAY, None, None
        self.asked = collections.Counter()  # by serial number
        handler = type("Handler", (_Handler,), {"responder": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, der):
        request = ocsp.load_der_ocsp_request(der)
        serial = request.serial_number
        self.asked[serial] += 1
        status = self.status.get(serial, ocsp.OCSPCertStatus.GOOD)
        if isinstance(status, ocsp.OCSPResponseStatus):
            return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)
        stand_in = x509.CertificateBuilder(self.issuer.subject, name_of("any"), self.key.public_key(), serial, now(),
                                           after(DAY)).sign(self.key, hashes.SHA256())
        revoked = status == ocsp.OCSPCertStatus.REVOKED
        begin = after(-self.age)
        end = None if self.lifetime is None else begin + datetime.timedelta(seconds=self.lifetime)
        builder = ocsp.OCSPResponseBuilder().add_response(
            stand_in, self.issuer, hashes.SHA1(), status, begin, end, now() if revoked else None,
            x509.ReasonFlags.key_compromise if revoked else None)
        cert, key = self.signer or (self.issuer, self.key)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, cert)
        if self.signer:
            builder = builder.certificates([cert])
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def delegate(self, purpose=ExtendedKeyUsageOID.OCSP_SIGNING, days=(-2, 30), ca=None):
        """A certificate, and its key, that signs responses for the issuer, or for another one (certificate, key)."""
        issuer, issuer_key = ca or (self.issuer, self.key)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(issuer.subject, name_of("delegate"), key.public_key(),
                                          x509.random_serial_number(), after(days[0] * DAY), after(days[1] * DAY))
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
        return builder.sign(issuer_key, hashes.SHA256()), key

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.give(base64.b64decode(urllib.parse.unquote(self.path[1:])))

    def do_POST(self):
        self.give(self.rfile.read(int(self.headers["Content-Length"])))

    def give(self, der):
        body = self.responder.answer(der)
        if self.responder.reply:
            body = self.responder.reply(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class OcspCA(Responder):
    """The CA: its certificates and their keys are files in `directory`."""

    def __init__(self, directory):
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateBuilder(name_of("OCSP CA"), name_of("OCSP CA"), key.public_key(), 1, after(-DAY),
                                          after(365 * DAY))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        super().__init__(builder.sign(key, hashes.SHA256()), key)
        self.dir = directory
        self.dir.mkdir()

    def issue(self, name, kind="ec", url=None, chain=True):
        """Paths of certificate, with chain, and key; `url`: of the responder, "" for none."""
        key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
        builder = x509.CertificateBuilder(self.issuer.subject, name_of(name), key.public_key(),
                                          x509.random_serial_number(), after(-2 * DAY), after(90 * DAY))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        if url != "":
            builder = builder.add_extension(x509.AuthorityInformationAccess([x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url or self.url))]), False)
        cert = builder.sign(self.key, hashes.SHA256())
        cert_file, key_file = self.dir / f"{name}.{kind}.pem", self.dir / f"{name}.{kind}.key"
        cert_file.write_bytes(pem(cert) + (pem(self.issuer) if chain else b""))
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                               serialization.NoEncryption()))
        return cert_file, key_file


def tls(pair):
    """The directives of a host for it."""
    return f"SSLCertificateFile {pair[0]}\nSSLCertificateKeyFile {pair[1]}"


def serial_of(pair):
    return x509.load_pem_x509_certificate(pair[0].read_bytes()).serial_number


class NoHandshake(Exception):
    pass


def handshake(port, name, *options):
    """(DER of the staple or None, serial number of the certificate) as `openssl s_client -msg` has them on the wire."""
    text = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-status", "-msg",
               *options, input="").stdout
    messages = re.findall(r"^<<< TLS [^\n]*Handshake [^\n]*, (Certificate\w*)\n((?:    [0-9a-f ]+\n)+)", text, re.M)
    staple = None
    for kind, dump in messages:
        data = bytes.fromhex(dump)
        if kind == "CertificateStatus":  # RFC 6066 8
            staple = data[8:]
        elif kind == "Certificate" and "TLSv1.3" in text:
            staple = staple_of_first(data)
    leaf = re.search(r"^Server certificate\n(.*?-----END CERTIFICATE-----)", text, re.S | re.M)
    if not leaf:
        raise NoHandshake(text)
    return staple, x509.load_pem_x509_certificate(leaf.group(1).encode()).serial_number


def staple_of_first(message):
    """RFC 8446 4.4.2: the extension of the first certificate in the list."""
    at = 4 + 1 + message[4] + 3
    at += 3 + int.from_bytes(message[at:at + 3], "big")
    end = at + 2 + int.from_bytes(message[at:at + 2], "big")
    at += 2
    while at < end:
        kind, size = int.from_bytes(message[at:at + 2], "big"), int.from_bytes(message[at + 2:at + 4], "big")
        if kind == 5:
            return message[at + 8:at + 4 + size]
        at += 4 + size
    return None


def verify(key, signature, signed, algorithm):
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)
    else:
        key.verify(signature, signed, ec.ECDSA(algorithm))


def signer_key(response, issuer):
    """RFC 6960 4.2.2.2: the issuer's, or that of somebody who may sign for it today."""
    cert = response.certificates[0] if response.certificates else issuer
    if cert == issuer:
        return issuer.public_key()
    verify(issuer.public_key(), cert.signature, cert.tbs_certificate_bytes, cert.signature_hash_algorithm)
    assert cert.not_valid_before <= now() < cert.not_valid_after
    assert ExtendedKeyUsageOID.OCSP_SIGNING in cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    return cert.public_key()


def stapled(port, name, issuer, *options):
    """The status that the staple tells of the certificate served, None without staple. What is wrong with it fails."""
    der, serial = handshake(port, name, *options)
    if der is None:
        return None
    response = ocsp.load_der_ocsp_response(der)
    assert response.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL
    assert response.serial_number == serial
    assert response.this_update <= now()
    if response.next_update:
        assert now() < response.next_update
    verify(signer_key(response, issuer), response.signature, response.tbs_response_bytes,
           response.signature_hash_algorithm)
    assert response.certificate_status in (ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED)
    return response.certificate_status
