#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Free ports on loopback: `ports.py 3` prints three.

They are taken from below the range the kernel gives to outgoing connections, so that no client's
socket is on one of them when a server starts later."""
import random
import socket
import sys

FIRST = 10000
claims = []  # sockets that hold a claim until this process ends


def claim(port):
    """Whether port is ours now: test processes that run side by side claim each port once."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(f"\0mod_md-test-port-{port}")
    except OSError:
        sock.close()
        return False
    claims.append(sock)
    return True


def is_free(port):
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
        with socket.socket(socket.AF_INET, kind) as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports(n):
    """n free ports, none of which another test process gets while this one lives."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as range_file:
        end = int(range_file.read().split()[0])
    assert end > FIRST, "no ports are left outside of the range of outgoing connections"
    ports = []
    for port in random.sample(range(FIRST, end), end - FIRST):
        if len(ports) == n:
            break
        if claim(port) and is_free(port):
            ports.append(port)
    assert len(ports) == n, "no free ports"
    return ports


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
