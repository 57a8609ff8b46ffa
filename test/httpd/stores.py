# SPDX-License-Identifier: Apache-2.0
"""What tests want to know about a store as a whole."""
import base64
import functools
import json
import stat

from cryptography.hazmat.primitives import serialization


def at_rest(look):
    """Look once more when a server at work removed a file meanwhile."""
    @functools.wraps(look)
    def again(*args):
        for _ in range(100):
            try:
                return look(*args)
            except FileNotFoundError as e:
                gone = e
        raise gone
    return again


@at_rest
def regular_files(store):
    """Without opening anything that could block, and without following links."""
    return [path for path in sorted(store.rglob("*")) if stat.S_ISREG(path.lstat().st_mode)]


def passphrase(store):
    text = json.loads((store / "md_store.json").read_text())["key"]
    return base64.urlsafe_b64decode(text)


def load_key(data, secret):
    """A private key from PEM bytes, encrypted or not; None when it is none."""
    for password in secret, None:
        try:
            return serialization.load_pem_private_key(data, password)
        except (ValueError, TypeError):
            pass
    return None


def public_key_of(data, secret):
    if b"PRIVATE KEY" not in data:
        return None
    key = load_key(data, secret)
    return key and key.public_key().public_bytes(serialization.Encoding.DER,
                                                 serialization.PublicFormat.SubjectPublicKeyInfo)


@at_rest
def private_keys(store):
    """Public key -> path for every private key that is somewhere in the store, whatever its file is
    called; but not those of temporary certificates, which are made again."""
    secret = passphrase(store)
    found = {}
    for path in regular_files(store):
        if path.stat().st_size < 65536 and not path.name.startswith("fallback-"):
            public = public_key_of(path.read_bytes(), secret)
            if public:
                found[public] = path.relative_to(store)
    return found


@at_rest
def faults(store, never_read=()):
    """Whatever should not be in a store after a start, as texts."""
    found = []
    for path in sorted(store.rglob("*")):
        name = str(path.relative_to(store))
        if ".damaged" in name or name.startswith("archive/") or name in never_read:
            continue
        if path.name.endswith(".json"):
            try:
                assert stat.S_ISREG(path.lstat().st_mode), "no regular file"
                assert isinstance(json.loads(path.read_text()), dict), "no object"
            except FileNotFoundError:
                raise
            except (AssertionError, OSError, ValueError) as e:
                found.append(f"{name}: {e}")
        elif name.startswith("tmp/") or name.endswith(".tmp"):
            found.append(f"{name} is left over")
    return found
