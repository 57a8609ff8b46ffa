# SPDX-License-Identifier: Apache-2.0
"""The page md-status of many domains."""
import concurrent.futures
import json
import pathlib
import re

import pytest

from servers import sanitizer_of

MANY = 500
ENTRY = {"when": "Sat, 28 Nov 2026 10:00:00 GMT", "type": "renewal-error", "status": "", "detail": "x" * 400}


def failed(name):
    """What the engine keeps of a domain that has failed for long: a full log, the last problem in detail."""
    return {"name": name, "finished": False, "notified": False, "notified-renewed": False,
            "next-run": "Mon, 30 Nov 2026 10:00:00 GMT", "errors": 200,
            "last": {"status": 13, "detail": "y" * 2000, "activity": "ordering"},
            "log": {"entries": [ENTRY] * 128}}


def resident(pid):
    """Memory of a process in MB."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024


def test_memory_does_not_depend_on_what_is_not_shown(httpd):
    if sanitizer_of(httpd.module):
        pytest.skip("a sanitizer keeps what was freed")
    names = [f"d{i:04}.test" for i in range(MANY)]
    httpd.global_conf.append("StartServers 1\nServerLimit 1\nThreadsPerChild 4\nMaxRequestWorkers 4\n"
                             "MinSpareThreads 1\nMaxSpareThreads 4")
    httpd.log_level = "warn"
    httpd.add_md_conf("MDInitialDelay 1h\n" + "\n".join(f"MDomain {name}" for name in reversed(names)))
    httpd.start()
    for name in names:
        place = httpd.store / "staging" / name
        place.mkdir()
        (place / "job.json").write_text(json.dumps(failed(name)))
    status = httpd.md_status(names[0])  # and now the child has all that it needs
    assert len(status["renewal"]["log"]["entries"]) == 128
    child, = httpd.child_pids()
    before = resident(child)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for status, _, body in pool.map(lambda _: httpd.get("/md-status", "base.test"), range(8)):
            shown = json.loads(body)
            assert status == 200 and body == json.dumps(shown, indent=2)
            assert [md["name"] for md in shown["managed-domains"]] == names
            assert all(md["renewal"]["errors"] == 200 and "log" not in md["renewal"]
                       for md in shown["managed-domains"])
    assert resident(child) - before < 30
    assert httpd.child_pids() == [child]
