# SPDX-License-Identifier: Apache-2.0
"""Sets of certificates that no CA was asked for, put into a store as a renewal or a start leaves them."""
import base64
import datetime
import functools
import hashlib
import json
import os
import pwd
import shutil

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509.oid import NameOID

KEY, CERT = "privkey.p-256.pem", "pubcert.p-256.pem"
CA_URL = "http://127.0.0.1:1/directory"  # nobody is there
SECRET = bytes(range(48))
USER = "www-data" if shutil.which("apache2") else "apache"
CONF = (f"MDCertificateAgreement accepted\nMDContactEmail admin@example.org\nMDPrivateKeys P-256\n"
        f"MDCertificateAuthority {CA_URL}\nMDInitialDelay 1h")


def day(n):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=n)


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Issuer:
    """A CA. Without one that signs it, a certificate is self-signed."""

    def __init__(self, name="Issuer"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name_of(name)
        self.cert = self.sign(self.name, self.key, (-1000, 3000), [], is_ca=True)

    def sign(self, subject, key, days, names, is_ca=False):
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(day(days[0])).not_valid_after(day(days[1]))
                   .add_extension(x509.BasicConstraints(is_ca, None), critical=True))
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
        return builder.sign(self.key, hashes.SHA256())


@functools.cache
def issuer(name="Issuer"):
    return Issuer(name)


def pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


def key_pem(key, secret=None, kind=serialization.PrivateFormat.PKCS8):
    if secret:
        return seal(key.private_bytes(serialization.Encoding.DER, kind, serialization.NoEncryption()), secret)
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())


def der(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    head = [size] if size < 128 else [0x81, size] if size < 256 else [0x82, size >> 8, size & 255]
    return bytes([tag, *head]) + body


def oid(hexadecimal):
    return der(0x06, bytes.fromhex(hexadecimal))


def seal(content, secret):
    """PKCS#8 with PBES2: PBKDF2 (HMAC-SHA256, one round) and AES-256-CBC, as the module does it."""
    salt, iv = os.urandom(16), os.urandom(16)
    fill = 16 - len(content) % 16
    cipher = Cipher(algorithms.AES(hashlib.pbkdf2_hmac("sha256", secret, salt, 1, 32)), modes.CBC(iv)).encryptor()
    kdf = der(0x30, oid("2a864886f70d01050c"),
              der(0x30, der(0x04, salt), der(0x02, b"\x01"), der(0x30, oid("2a864886f70d0209"), der(0x05))))
    how = der(0x30, oid("2a864886f70d01050d"),
              der(0x30, kdf, der(0x30, oid("60864801650304012a"), der(0x04, iv))))
    sealed = der(0x30, how, der(0x04, cipher.update(content + bytes([fill] * fill)) + cipher.finalize()))
    label = b"ENCRYPTED PRIVATE KEY-----\n"
    return b"-----BEGIN " + label + base64.encodebytes(sealed) + b"-----END " + label


def make_pair(names, days=(-1, 89), by=None, chain=None):
    """A key and its chain as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    by = by or issuer()
    leaf = by.sign(name_of(names[0]), key, days, names)
    return key, b"".join(map(pem, [leaf, *([by.cert] if chain is None else chain)]))


def make_store(store):
    """As root makes it, with a secret that is known."""
    store.mkdir(exist_ok=True)
    store.chmod(0o755)
    path = store / "md_store.json"
    key = base64.urlsafe_b64encode(SECRET).decode().rstrip("=")
    path.write_text(json.dumps({"version": "3.0", "store": {"version": 3.0}, "key": key}))
    path.chmod(0o600)


def document(names, **members):
    return {"name": names[0], "domains": names, "contacts": ["mailto:admin@example.org"],
            "ca": {"proto": "ACME", "url": CA_URL, "urls": [CA_URL], "agreement": "accepted"},
            "privkey": {"type": "EC", "curve": "P-256"}, "state": 2, **members}


def put_live(store, names, pair=None):
    """In service since a start of before."""
    place = store / "domains" / names[0]
    place.mkdir(parents=True, exist_ok=True)
    (store / "domains").chmod(0o700)
    place.chmod(0o700)
    key, chain = pair or make_pair(names)
    put(place / KEY, key_pem(key), 0o600)
    put(place / CERT, chain, 0o600)
    put(place / "md.json", json.dumps(document(names)).encode(), 0o600)
    return serial(chain)


def put_staged(store, names, pair=None, doc=None):
    """What a renewal left; returns its serial number."""
    place = store / "staging" / names[0]
    place.mkdir(parents=True, exist_ok=True)
    key, chain = pair or make_pair(names, (-0.5, 89.5))
    put(place / KEY, key_pem(key, SECRET))
    put(place / CERT, chain)
    put(place / "md.json", json.dumps(doc or document(names)).encode())
    put(place / "job.json", json.dumps({"name": names[0], "finished": True, "notified": True,
                                        "notified-renewed": True, "errors": 0}).encode())
    give_away(place)
    if os.geteuid() == 0:
        shutil.chown(store / "staging", USER)
    return serial(chain)


def put(path, content, mode=0o644):
    path.write_bytes(content)
    path.chmod(mode)


def give_away(path):
    """Directory and all below to the server's user, as children made it."""
    if os.geteuid() == 0:
        for part in [path, *path.rglob("*")]:
            shutil.chown(part, USER)


def uid():
    return pwd.getpwnam(USER).pw_uid


def serial(chain):
    return x509.load_pem_x509_certificate(chain).serial_number


def live_serial(store, name):
    return serial((store / "domains" / name / CERT).read_bytes())


def is_whole(directory):
    """Are key and certificate one pair, and is there a document?"""
    key = serialization.load_pem_private_key((directory / KEY).read_bytes(), None)
    cert = x509.load_pem_x509_certificate((directory / CERT).read_bytes())
    json.loads((directory / "md.json").read_text())
    return key.public_key().public_numbers() == cert.public_key().public_numbers()


def configure(httpd, names):
    httpd.add_md_conf(CONF)
    for name in names:
        httpd.add_md_conf(f"MDomain {name}")
        httpd.add_vhost(name)
