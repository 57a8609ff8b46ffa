# SPDX-License-Identifier: Apache-2.0
"""What stapling costs: handshakes of servers with and without it, by turns; the refresh of many responses; a start."""
import os
import pathlib
import resource
import shutil
import statistics
import time

from ocsp_ca import OcspCA, tls
from servers import Httpd, run, wait_for

TURNS, SECONDS, CLIENTS = 11, 1, 2


def build_client(directory):
    client = directory / "handshakes"
    run("gcc", "-O2", "-o", client, pathlib.Path(__file__).with_name("handshakes.c"), "-lssl", "-lcrypto")
    return client


def cpu_of_children(server):
    """CPU seconds, of those that do the handshakes."""
    children = pathlib.Path(f"/proc/{server.pid()}/task/{server.pid()}/children").read_text().split()
    stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in children]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def measure(client, server):
    """Handshakes in a second, the share of them that had a response, the server's CPU microseconds for each."""
    before = cpu_of_children(server)
    done = run(client, server.https_port, "one.test", SECONDS, CLIENTS)
    assert done.returncode == 0, "handshakes fail"
    count, stapled = map(int, done.stdout.split())
    return count / SECONDS, stapled / count, (cpu_of_children(server) - before) / count * 1e6


def shake_hands(row, directory, ca, plain, stock):
    """All are compared in each turn, as others may use the machine, too."""
    pair = ca.issue("one.test")
    kinds = {"no module, no stapling": (plain, ""), "this module, no stapling": (Httpd, "MDStapling off"),
             "this module, stapling": (Httpd, "MDStapling on")}
    if stock:
        kinds["stock module, stapling"] = (lambda path: Httpd(path, stock), "MDStapling on")
    servers, found = {}, {}
    try:
        for i, (kind, (make, conf)) in enumerate(kinds.items()):
            server = servers[kind] = make(directory / f"h{i}")
            server.log_level = "warn"
            server.add_md_conf(conf)
            server.add_vhost("one.test", extra=tls(pair))
            server.start()
        client = build_client(directory)
        for kind, server in servers.items():
            wait_for(lambda: measure(client, server)[1] == (", stapling" in kind), 60, f"responses as of '{kind}'")
        for _ in range(TURNS):
            for kind, server in servers.items():
                found.setdefault(kind, []).append(measure(client, server))
    finally:
        for server in servers.values():
            server.stop()
    row(f"== handshakes, {CLIENTS} clients, median of {TURNS} turns", "per second", "times", "at least", "CPU us each")
    first = found["no module, no stapling"]
    for kind, turns in found.items():
        times = statistics.median(mine[0] / theirs[0] for mine, theirs in zip(turns, first))
        row(kind, f"{statistics.median(turn[0] for turn in turns):.0f}", f"{times:.3f}",
            "0.98" if kind == "this module, stapling" else "", f"{statistics.median(turn[2] for turn in turns):.0f}")


def bench_stapling(count, row, workdir, plain, stock, time_start, fresh_log):
    directory = workdir()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with OcspCA(directory / "ca") as ca:
        shake_hands(row, directory, ca, plain, stock)
        pairs = {f"d{i}.test": ca.issue(f"d{i}.test") for i in range(count)}
        ours = {flag: Httpd(directory / flag) for flag in ("off", "on")}
        for flag, server in ours.items():
            server.log_level = "notice"
            server.add_md_conf(f"MDStapling {flag}")
            for name, pair in pairs.items():
                server.add_vhost(name, extra=tls(pair))
        try:
            refresh(row, ours["on"], ca, count, time_start)
            start(row, ours, count, time_start, fresh_log)
        finally:
            for server in ours.values():
                server.stop()
            shutil.rmtree(directory, ignore_errors=True)


def refresh(row, server, ca, count, time_start):
    """From the start of the server to the last response in the store; the responder takes its part of that."""
    time_start(server)
    begun, responses = time.monotonic(), server.store / "ocsp" / "other"
    wait_for(lambda: responses.is_dir() and len(os.listdir(responses)) >= count, 600, "all responses", every=0.1)
    row(f"== {count} responses", "seconds", "at most", "requests each")
    row("all are there", f"{time.monotonic() - begun:.1f}", "60", f"{sum(ca.asked.values()) / count:.2f}")


def start(row, servers, count, time_start, fresh_log):
    """Responses are in the store: what all starts but the first one are like."""
    best = {}
    for _ in range(3):
        for flag, server in servers.items():
            fresh_log(server)
            wall, cpu = time_start(server)
            best[flag] = min(best.get(flag, (1e9, 1e9)), (cpu, wall))
            server.stop()
    row(f"== start with {count} certificates", "CPU s", "wall s")
    for flag, (cpu, wall) in best.items():
        row(f"MDStapling {flag}", f"{cpu:.2f}", f"{wall:.2f}")
    row("stapling costs, % (at most 1)", *(f"{100 * (b - a) / a:.1f}" for a, b in zip(best["off"], best["on"])))
