# SPDX-License-Identifier: Apache-2.0
"""External account binding (RFC 8555 7.3.4) at a CA that demands it."""
import json

import pytest

KEYS = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
        "kid-2": "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"}
pytestmark = pytest.mark.parametrize("pebble_options", [{"eab": KEYS}])
ACME_ERROR = "urn:ietf:params:acme:error:"


def add(env, name, line):
    env.add_md_conf(f"<MDomain {name}>\nMDPrivateKeys P-256\n{line}\n</MDomain>")
    env.add_vhost(name)


def binding(name):
    return f"MDExternalAccountBinding {name} {KEYS[name]}"


def test_bound_accounts_are_shared_by_binding(env):
    env.dir.joinpath("eab.json").write_text(json.dumps({"kid": "kid-2", "hmac": KEYS["kid-2"]}))
    add(env, "one.test", binding("kid-1"))
    add(env, "same.test", binding("kid-1"))
    add(env, "file.test", "MDExternalAccountBinding eab.json")
    names = ["one.test", "same.test", "file.test"]
    env.start()
    env.await_md(names)
    env.graceful()
    accounts = {name: env.store_json("domains", name, "md.json")["ca"]["account"] for name in names}
    assert accounts["one.test"] == accounts["same.test"] != accounts["file.test"]
    for name, kid in (("one.test", "kid-1"), ("file.test", "kid-2")):
        account = env.store_json("accounts", accounts[name], "account.json")
        assert account["eab"] == {"kid": kid, "hmac": KEYS[kid]}
        assert env.md_status(name)["eab"] == {"kid": kid, "hmac": "***"}
    assert not env.problems()


@pytest.mark.parametrize("line, problem", [
    ("MDExternalAccountBinding none", ACME_ERROR + "externalAccountRequired"),
    ("MDExternalAccountBinding kid-1 ????", "apache:eab-hmac-invalid"),
    ("MDExternalAccountBinding kid-1 " + KEYS["kid-2"], ACME_ERROR + "unauthorized"),
    ("MDExternalAccountBinding kid-9 " + KEYS["kid-2"], ACME_ERROR + "unauthorized"),
])
def test_the_problem_is_told(env, line, problem):
    add(env, "one.test", line)
    env.start()
    job = env.await_error("one.test")
    assert job["last"]["problem"] == problem, job["last"]
    assert KEYS["kid-2"] not in env.error_log()
    assert f"problem[{problem}]" in env.error_log()
