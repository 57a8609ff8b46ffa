# SPDX-License-Identifier: Apache-2.0
"""A small DNS, resolver and name servers in one, that misbehaves on request. It answers at several loopback addresses and
one port: recursive questions as a resolver does, others as the name server of that address."""
import ipaddress
import socket
import struct
import threading

from ports import free_ports

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "TXT": 16, "AAAA": 28, "CAA": 257}
NAMES = {number: name for name, number in TYPES.items()}
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5


def wire_name(name):
    labels = [label for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def wire_data(kind, value):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind in ("NS", "CNAME"):
        return wire_name(value)
    if kind == "TXT":
        data = value.encode()
        return b"".join(bytes([len(part)]) + part for part in
                        [data[i:i + 255] for i in range(0, len(data), 255)] or [b""])
    flags, tag, text = value  # CAA
    return bytes([flags, len(tag)]) + tag.encode() + text.encode()


class ScriptedDNS:
    """`servers`: addresses of name servers. Records are for all of them, unless set_at() has others for one."""

    def __init__(self, servers=("127.0.0.1",)):
        self.port = free_ports(1)[0]
        self.records = {}   # (name, type): values
        self.own = {}       # the same of one address, in front of it
        self.modes = {}     # address: what is wrong with it, see answer()
        self.lookup = None  # (address, name, type) -> values, or None for the records
        self.asked = []     # (address, name, type, is_recursive, is_tcp)
        self.sockets = []
        self.resolver = f"127.0.0.1:{self.port}"
        for address in sorted({"127.0.0.1", *servers}):
            for kind in socket.SOCK_DGRAM, socket.SOCK_STREAM:
                sock = socket.socket(socket.AF_INET, kind)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, self.port))
                if kind == socket.SOCK_STREAM:
                    sock.listen()
                self.sockets.append(sock)
                work = self.serve_udp if kind == socket.SOCK_DGRAM else self.serve_tcp
                threading.Thread(target=work, args=(sock, address), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def set(self, name, kind, *values):
        self.records[(name, kind)] = list(values)

    def set_at(self, address, name, kind, *values):
        self.own.setdefault(address, {})[(name, kind)] = list(values)

    def zone(self, name, *servers):
        """A zone whose name servers are at these addresses."""
        self.set(name, "NS", *(f"ns{i}.{name}" for i in range(len(servers))))
        for i, address in enumerate(servers):
            self.set(f"ns{i}.{name}", "AAAA" if ":" in address else "A", address)

    # ---- answers ----

    def values(self, address, name, kind):
        found = self.lookup(address, name, kind) if self.lookup else None
        if found is None:
            found = self.own.get(address, {}).get((name, kind))
        return self.records.get((name, kind), []) if found is None else found

    def exists(self, address, name):
        known = {key[0] for key in [*self.records, *self.own.get(address, {})]}
        return any(other == name or other.endswith("." + name) for other in known)

    def find(self, address, name, kind):
        """Records of the answer, and whether the name at the end of all aliases exists."""
        found = []
        for _ in range(20):
            values = self.values(address, name, kind)
            found += [(name, kind, value) for value in values]
            alias = self.values(address, name, "CNAME")
            if values or kind == "CNAME" or not alias:
                return found, bool(values) or bool(alias) or self.exists(address, name)
            found.append((name, "CNAME", alias[0]))
            name = alias[0]
        return found, True

    def answer(self, message, address, is_tcp):
        ident, flags = struct.unpack(">HH", message[:4])
        at, labels = 12, []
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode().lower())
            at += 1 + message[at]
        name, question = ".".join(labels), message[12:at + 5]
        kind = NAMES.get(struct.unpack(">H", message[at + 1:at + 3])[0], "?")
        is_recursive = bool(flags & 0x0100)
        self.asked.append((address, name, kind, is_recursive, is_tcp))
        mode = self.modes.get((address, is_recursive)) or self.modes.get(address)
        if mode == "silent":
            return None
        if mode == "garbage":
            return struct.pack(">HHHHHH", ident, 0x8400, 1, 40, 0, 0) + question + b"\xc0\x0c\xff" * 20
        rcode = {"refused": REFUSED, "servfail": SERVFAIL}.get(mode, NOERROR)
        found = []
        if not rcode:
            found, exists = self.find(address, name, kind)
            rcode = NOERROR if exists else NXDOMAIN
        if mode == "huge":
            found += [(name, "TXT", "x" * 200)] * 200
        flags = 0x8000 | flags & 0x0100 | (0x0080 if is_recursive else 0x0400) | rcode
        if mode == "lame":
            flags &= ~0x0400
        body = b"".join(wire_name(owner) + struct.pack(">HHIH", TYPES[k], 1, 60, len(data)) + data
                        for owner, k, data in ((o, k, wire_data(k, v)) for o, k, v in found))
        if not is_tcp and (mode == "truncated" or len(body) > 1000):
            flags, found, body = flags | 0x0200, [], b""
        return struct.pack(">HHHHHH", ident, flags, 1, len(found), 0, 0) + question + body

    def serve_udp(self, sock, address):
        while True:
            try:
                message, peer = sock.recvfrom(4096)
                if not message:  # it was closed
                    return
                reply = self.answer(message, address, False)
                if reply:
                    sock.sendto(reply, peer)
            except OSError:
                return

    def serve_tcp(self, sock, address):
        while True:
            try:
                peer, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_peer, args=(peer, address), daemon=True).start()

    def serve_peer(self, peer, address):
        with peer:
            try:
                while True:
                    size = peer.recv(2, socket.MSG_WAITALL)
                    if len(size) < 2:
                        return
                    message = peer.recv(struct.unpack(">H", size)[0], socket.MSG_WAITALL)
                    reply = self.answer(message, address, True)
                    if not reply:
                        return
                    peer.sendall(struct.pack(">H", len(reply)) + reply)
            except OSError:
                return
