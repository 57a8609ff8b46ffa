# SPDX-License-Identifier: Apache-2.0
"""External account binding (RFC 8555 7.3.4) at a CA that demands it."""
import json

import pytest

import scripted_ca as ca_is

KEYS = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
        "kid-2": "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH",
        # no shorter than what HS512 makes, or Pebble refuses it (RFC 7518 3.2)
        "kid-3": "oO8bRkqLkG0jXyW6mTHVp1wP5yQv3nEo7zS2uFhJ4dCaKtLxBsYiGfMgNrUeZc9DlI0oV1pXq2w3RbT4y5A6ZQ"}
demanding = pytest.mark.parametrize("pebble_options", [{"eab": KEYS}])
ACME_ERROR = "urn:ietf:params:acme:error:"


def add(env, name, line):
    env.add_md_conf(f"<MDomain {name}>\nMDPrivateKeys P-256\n{line}\n</MDomain>")
    env.add_vhost(name)


def binding(name):
    return f"MDExternalAccountBinding {name} {KEYS[name]}"


@demanding
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


@demanding
@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", ["words", "file"])
def test_algorithms(env, alg, form):
    env.dir.joinpath("eab.json").write_text(json.dumps({"kid": "kid-3", "hmac": KEYS["kid-3"], "alg": alg}))
    add(env, "one.test", f"{binding('kid-3')} {alg.lower()}" if form == "words" else "MDExternalAccountBinding eab.json")
    env.start()
    env.await_md("one.test")
    assert env.md_status("one.test")["eab"].get("alg", "HS256") == alg
    assert not env.problems()


def bindings(ca):
    """The protected headers of those that the CA was shown."""
    shown = [rq.payload.get("externalAccountBinding") for rq in ca.select("newAccount")]
    return [json.loads(ca_is.b64u_decode(one["protected"])) for one in shown if one]


def only_once():
    """Each MAC key is good for one account."""
    used = set()

    def make(ca, rq):
        bound = rq.payload.get("externalAccountBinding")
        if not bound:
            return None
        kid = json.loads(ca_is.b64u_decode(bound["protected"]))["kid"]
        if kid in used:
            return ca.with_nonce(ca_is.problem_reply("unauthorized", "this key was used before", 403))
        used.add(kid)
        return None
    return ca_is._Answer(make)


def test_a_key_that_works_once(httpd, ca):
    """What a first order comes to does not matter: with other names, after restarts, for another domain, with another
    algorithm, the account is still there."""
    httpd.use_ca(ca)
    ca.script("newAccount", only_once())
    refusal = ca.script("newOrder", ca_is.problem("rejectedIdentifier", "not that one", 400))
    add(httpd, "one.test", binding("kid-1"))
    httpd.start()
    httpd.await_error("one.test")
    httpd.md_conf.pop()
    httpd.vhosts.clear()
    add(httpd, "one.test", "MDMember more.test\n" + binding("kid-1"))
    httpd.graceful()
    httpd.wait_log("AH10057", count=2)
    httpd.stop()
    assert not httpd.is_running()
    refusal.cancel()
    httpd.md_conf.pop()
    httpd.vhosts.clear()
    add(httpd, "two.test", binding("kid-1") + " HS512")
    add(httpd, "three.test", binding("kid-1"))
    httpd.start()
    httpd.await_md(["two.test", "three.test"])
    assert [shown["kid"] for shown in bindings(ca)] == ["kid-1"] and len(ca.accounts) == 1
    assert "was used before" not in httpd.error_log()


def test_an_answer_that_was_lost(httpd, ca):
    """The CA has the account; it is asked for by its key, for which no binding is needed."""
    httpd.use_ca(ca)
    ca.script("newAccount", only_once())
    rule = ca.script("newAccount", ca_is.hold("after"), times=1)
    add(httpd, "one.test", binding("kid-1") + " HS384")
    httpd.start()
    ca.wait_held(rule)
    httpd.stop()
    ca.release()
    httpd.start()
    httpd.await_md("one.test")
    assert [(shown["kid"], shown["alg"]) for shown in bindings(ca)] == [("kid-1", "HS384")] and len(ca.accounts) == 1


@demanding
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
