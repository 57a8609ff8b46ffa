# SPDX-License-Identifier: Apache-2.0
"""A server with a domain in each state that pages tell of. No CA is asked: the store is as renewals and starts leave it."""
import datetime
import email.utils
import json

import sets

REFUSED = "urn:ietf:params:acme:error:rateLimited"
DETAIL = "too many certificates already issued for this name"
# Whatever a CA may say: markup, ways out of attributes, marks that turn text around, and more than anybody reads.
HOSTILE = ("<script>document.title='gone'</script>\"'><img src=x onerror=\"document.title='gone'\">&lt;b&gt;"
           "\u202egnp.exe\u2066\u200f\x1b[31m\x7f\u009b ]]> --> " + "A" * 10000)

# name -> days of the certificate in service (None: there is none)
DOMAINS = {"none.test": None, "renewing.test": None, "refused.test": None, "failing.test": (-70, 20),
           "good.test": (-1, 89), "later.test": (2, 92), "staged.test": (-70, 20), "first.test": None,
           "expiring.test": (-85, 5), "expired.test": (-95, -5), "manual.test": (-85, 5), "none-manual.test": None,
           "static.test": (-1, 89), "old-static.test": (-85, 5), "half.test": (-1, 89), "hostile.test": (-1, 89),
           "damaged.test": (-1, 89)}
SECTIONS = {"manual.test": "MDRenewMode manual", "none-manual.test": "MDRenewMode manual",
            "half.test": "MDPrivateKeys P-256 P-384", "good.test": "MDMember www.good.test"}


def when(**delta):
    return email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**delta), True)


def job(name, **members):
    return {"name": name, "finished": False, "notified": False, "notified-renewed": False,
            "last-run": when(minutes=-5), "errors": 0, **members}


def failed(name, **members):
    return job(name, errors=3, **{
        "next-run": when(minutes=230),
        "last": {"status": 20014, "status-description": "Internal error (specific information not available)",
                 "problem": REFUSED, "detail": DETAIL, "activity": "Creating new order"},
        "log": {"entries": [{"when": when(minutes=-5), "type": "renewal-error", "status": REFUSED, "detail": DETAIL},
                            {"when": when(minutes=-6), "type": "starting"}]}, **members})


JOBS = {
    "renewing.test": job("renewing.test", last={"status": 0, "activity": "Waiting for the CA",
                                                "detail": "the order is processed"}),
    "refused.test": failed("refused.test", **{"next-run": when(days=6)}),
    "failing.test": failed("failing.test"),
    "old-static.test": None,
    "hostile.test": failed("hostile.test", **{
        "last": {"status": 13, "problem": HOSTILE, "detail": HOSTILE, "activity": HOSTILE,
                 "subproblems": [{"type": HOSTILE, "detail": HOSTILE}]},
        "log": {"entries": [{"when": HOSTILE, "type": HOSTILE, "status": HOSTILE, "detail": HOSTILE}]}}),
}


def configure(server):
    server.log_level = "warn md:info"
    server.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>\nExtendedStatus off")
    server.add_md_conf(sets.CONF + "\nMDServerStatus on")
    for name, days in DOMAINS.items():
        extra = SECTIONS.get(name, "")
        if "static" in name:
            key, chain = sets.make_pair([name], days)
            paths = [server.dir / f"{name}.{kind}" for kind in ("key", "pem")]
            sets.put(paths[0], sets.key_pem(key))
            sets.put(paths[1], chain)
            extra = f"MDCertificateFile {paths[1]}\nMDCertificateKeyFile {paths[0]}"
        server.add_md_conf(f"<MDomain {name}>\n{extra}\n</MDomain>")
        server.add_vhost(name)


def start(server):
    """Staged sets and records come after the start, which would activate and tidy them."""
    configure(server)
    sets.make_store(server.store)
    for name, days in DOMAINS.items():
        if days and "static" not in name:
            names = [name, "www.good.test"] if name == "good.test" else [name]
            sets.put_live(server.store, names, sets.make_pair(names, days))
    server.start()
    for name in "staged.test", "first.test":
        sets.put_staged(server.store, [name])
    for name, record in JOBS.items():
        if record:
            put_record(server, name, json.dumps(record))
    put_record(server, "damaged.test", "{ this is no record")
    sets.give_away(server.store / "staging")


def put_record(server, name, text):
    place = server.store / "staging" / name
    place.mkdir(exist_ok=True)
    (place / "job.json").write_text(text)
