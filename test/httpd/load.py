# SPDX-License-Identifier: Apache-2.0
"""Clients that make handshakes and requests all the time, and note what went wrong and what was shown when."""
import multiprocessing
import os
import random
import socket
import ssl
import time

VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CIPHERS = {None: None, "RSA": "ECDHE-RSA-AES128-GCM-SHA256", "EC": "ECDHE-ECDSA-AES128-GCM-SHA256"}


def serial_of(der):
    from cryptography import x509
    return x509.load_der_x509_certificate(der).serial_number


def make_context(version, cipher):
    context = ssl._create_unverified_context()
    context.minimum_version = context.maximum_version = version
    if cipher and version == ssl.TLSVersion.TLSv1_2:
        context.set_ciphers(cipher)
    return context


def visit(port, name, context, requests, may_close):
    """(when the handshake began, the certificate as DER, responses that were all right)"""
    request = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % name.encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        began = time.time()
        with context.wrap_socket(sock, server_hostname=name) as tls:
            der = tls.getpeercert(True)
            for n in range(requests):
                got = b""
                try:
                    tls.sendall(request)
                    while b"it is served\n" not in got:
                        part = tls.recv(65536)
                        if not part:
                            raise ConnectionError(f"closed after {got!r}")
                        got += part
                except OSError:
                    if n > 0 and not got and may_close: # a child that ends closes idle connections
                        break
                    raise
                if not got.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(got[:100].decode())
                if b"Connection: close" in got:
                    break
    return began, der


def work(port, names, kinds, may_close, stop, results):
    contexts = [make_context(version, CIPHERS[kind]) for version in VERSIONS for kind in kinds]
    dice = random.Random(os.getpid())
    seen, failed, count = {}, [], 0
    while not stop.is_set():
        name = dice.choice(names)
        began = time.time()
        try:
            began, der = visit(port, name, dice.choice(contexts), dice.choice([0, 1, 3]), may_close)
        except (OSError, ssl.SSLError) as e:
            failed.append((name, began, repr(e)))
            continue
        count += 1
        first, last = seen.get((name, der), (began, began))
        seen[name, der] = first, max(last, began)
    results.put((count, failed, [(name, serial_of(der), *times) for (name, der), times in seen.items()]))


class Load:
    """With it, so many clients are at work; afterwards `count`, `failed`, and `seen`: (name, serial) -> first and last time."""

    def __init__(self, port, names, kinds=(None,), may_close=False, clients=3):
        self.args = port, names, kinds, may_close
        self.clients = clients

    def __enter__(self):
        self.stop, self.results = multiprocessing.Event(), multiprocessing.Queue()
        self.procs = [multiprocessing.Process(target=work, args=(*self.args, self.stop, self.results), daemon=True)
                      for _ in range(self.clients)]
        for proc in self.procs:
            proc.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.count, self.failed, self.seen = 0, [], {}
        for _ in self.procs:
            count, failed, seen = self.results.get(timeout=60)
            self.count += count
            self.failed += failed
            for name, serial, first, last in seen:
                before = self.seen.get((name, serial), (first, last))
                self.seen[name, serial] = min(first, before[0]), max(last, before[1])
        for proc in self.procs:
            proc.join()
