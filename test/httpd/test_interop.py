# SPDX-License-Identifier: Apache-2.0
"""One store, two modules: the one that comes with httpd (mod_md 2.6) and ours. What one has
written, the other takes over."""
import contextlib
import hashlib
import json
import pathlib
import re
import socket
import ssl
import stat
import subprocess

import pytest
from cryptography import x509

import stores
from filled import kill
from ports import free_ports
from scripted_ca import ScriptedCA
from servers import Httpd, Pebble, apxs, make_server_cert, wait_for

EAB = {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}


def stock_module():
    """Path of the module that httpd's package brought, None if there is none that we know."""
    path = pathlib.Path(apxs("LIBEXECDIR"), "mod_md.so")
    data = path.read_bytes() if path.exists() else b""
    return path if b"MDAccountKey" not in data and re.search(rb"\0002\.6\.\d+\0", data) else None


STOCK = stock_module()
pytestmark = pytest.mark.skipif(not STOCK, reason="no mod_md 2.6 of httpd's package is installed")


# ---- what is configured ----

# The first word is the CA, the others go into the section.
DOMAINS = {
    "default.test": ("main", "MDPrivateKeys Default"),
    "rsa.test": ("main", "MDPrivateKeys RSA 3072"),
    "p256.test": ("main", ""),
    "p384.test": ("main", "MDPrivateKeys secp384r1"),
    "mixed.test": ("main", "MDPrivateKeys secp384r1 rsa 3072"),
    "staple.test": ("main", "MDMustStaple on"),
    "names.test www.names.test mail.names.test": ("main", "MDMembers manual"),
    "own.test": ("main", "MDRenewWindow 20d\nMDWarnWindow 5%\nMDCAChallenges http-01\n"
                 "MDContactEmail other@example.org\nMDRenewMode always\nMDRequireHttps temporary\n"
                 "MDProfile default\nMDProfileMandatory on"),
    "alpn.test": ("main", "MDCAChallenges tls-alpn-01"),
    "manual.test": ("main", "MDRenewMode manual\nMDStapling on\nMDChallengeDns01 /bin/true\n"
                    "MDRenewViaARI off\nMDRequireHttps permanent"),
    "static.test": ("main", "MDCertificateFile localhost.pem\nMDCertificateKeyFile localhost.key"),
    "eab.test": ("bound", f"MDExternalAccountBinding kid-1 {EAB['kid-1']}"),
    "archive.test": ("main", ""),
    "staged.test": ("main", ""),
}
# Added later: the first is active twice then, and a set is staged for the second.
MORE_NAMES = {"archive.test": "www.archive.test", "staged.test": "www.staged.test"}
# A renewal that failed, and one that waits for the CA.
LATE = {"broken.test": ("main", ""), "open.test": ("slow", "")}
ALL = {**DOMAINS, **LATE}
NOT_RENEWED = ["manual.test", "static.test"]
OBTAINED = [names.split()[0] for names in DOMAINS if names not in NOT_RENEWED]
CA_OF = {names.split()[0]: ca for names, (ca, _) in ALL.items()}
RENEWED = ["default.test", "mixed.test", "eab.test", "open.test"]


class World:
    """CAs, and servers that take turns at the ports where the CAs look."""

    def __init__(self, workdir):
        self.dir, self.ports = workdir, free_ports(2)
        every_nonce = {"PEBBLE_WFE_NONCEREJECT": 0}  # so that a request is logged once
        self.main = Pebble(workdir / "main", *self.ports, env=every_nonce)
        self.bound = Pebble(workdir / "bound", *self.ports, env=every_nonce, eab=EAB)
        self.slow = ScriptedCA(workdir / "slow")
        self.servers = []

    def httpd(self, name, module, account_key="rsa3072"):
        server = Httpd(self.dir / name)
        server.account_key = account_key  # of our module
        make_server_cert(server.dir)
        server.http_port, server.https_port = self.ports
        server.ours = server.module
        self.servers.append(server)
        return use(server, module)

    def accounts(self):
        """How often each CA was asked for a new one."""
        return {"main": self.main.count("POST /sign-me-up"),
                "bound": self.bound.count("POST /sign-me-up"),
                "slow": self.slow.count("newAccount")}

    def orders(self):
        return {"main": self.main.count("POST /order-plz"),
                "bound": self.bound.count("POST /order-plz"), "slow": self.slow.count("newOrder")}

    def directory_of(self, name):
        return getattr(self, CA_OF[name]).directory_url


def use(httpd, module):
    """From the next start on; with a log of its own."""
    httpd.log_path = httpd.dir / f"error-{len(list(httpd.dir.glob('error-*')))}-{module}.log"
    httpd.log_path.touch()
    httpd.module = STOCK if module == "stock" else httpd.ours
    httpd.is_stock = module == "stock"
    return httpd


@pytest.fixture
def world(workdir, request):
    made = World(workdir)
    with made.main, made.bound, made.slow:
        yield made
        for server in made.servers:
            server.stop()
    reports = [r for server in made.servers for r in server.dir.glob("sanitizer.*")]
    if reports or getattr(request.node, "failed", False):
        for server in made.servers:
            print(f"==== {server.dir.name}'s error log", *server.error_log().splitlines()[-150:],
                  *sorted(str(p.relative_to(server.dir)) for p in server.store.rglob("*")),
                  sep="\n")
        print("==== main CA", *made.main.log_path.read_text().splitlines()[-40:], sep="\n")
        print("==== slow CA", made.slow.log(), sep="\n")
    assert not reports, [r.read_text(errors="replace") for r in reports]
    # The stock module's children crash at a stop now and then.
    assert not [log for server in made.servers for log in server.dir.glob("error-*-ours.log")
                if "exit signal Seg" in log.read_text(errors="replace")]


def configure(httpd, world, domains=None, more=MORE_NAMES, renew=()):
    """`more`: those of MORE_NAMES that have their second name. `renew`: due at once."""
    httpd.md_conf, httpd.vhosts = [], []
    httpd.add_md_conf("MDCertificateAgreement accepted\nMDContactEmail admin@example.org\n"
                      "MDPrivateKeys P-256\nMDRetryDelay 1h")
    if not httpd.is_stock:
        httpd.add_md_conf(f"MDAccountKey {httpd.account_key}")
    for names, (ca, lines) in (domains or ALL).items():
        names = names.split()
        names += [MORE_NAMES[name] for name in names if name in more]
        ca = getattr(world, ca)
        lines += "\nMDRenewWindow 120d" if names[0] in renew else ""
        httpd.add_md_conf(f"<MDomain {' '.join(names)}>\n"
                          f"MDCertificateAuthority {ca.directory_url}\n"
                          f"MDCACertificateFile {ca.ca_file}\n{lines}\n</MDomain>")
        httpd.add_vhost(names[0], names[1:],
                        extra="Protocols http/1.1 acme-tls/1" if "alpn" in lines else "")


# ---- looking ----

def times_staged(httpd, name):
    return len(re.findall(rf"AH10059: The Managed Domain {re.escape(name)} ", httpd.error_log()))


@stores.at_rest
def parts(store):
    """Path -> (mode, owner, digest of a file), of everything there."""
    found = {}
    for path in sorted(store.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[str(path.relative_to(store))] = \
            (oct(stat.S_IMODE(path.stat().st_mode)), path.owner(), content)
    return found


def stored_certs(httpd, name, group="domains"):
    """'RSA' or 'ECDSA' -> serial number."""
    found = {}
    for path in (httpd.store / group / name).glob("pubcert*.pem"):
        cert = x509.load_pem_x509_certificate(path.read_bytes())
        found["RSA" if path.name == "pubcert.pem" else "ECDSA"] = cert.serial_number
    return found


def served_cert(httpd, name, kind):
    """Serial number for a client that accepts this kind of certificates."""
    context = ssl._create_unverified_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones do not choose by cipher
    context.set_ciphers(f"ECDHE+a{kind}")
    with socket.create_connection(("127.0.0.1", httpd.https_port), timeout=20) as sock:
        with context.wrap_socket(sock, server_hostname=name) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(True)).serial_number


def all_certs(httpd, names, group="domains"):
    return {(name, kind): serial for name in names
            for kind, serial in stored_certs(httpd, name, group).items()}


def served(httpd, certs):
    return {(name, kind): served_cert(httpd, name, kind) for name, kind in certs}


def documents(httpd, group):
    return {path.parent.name: path.read_text()
            for path in sorted((httpd.store / group).glob("*/md.json"))}


# ---- steps ----

def write_store(httpd, world):
    """Everything a store may hold. The server is killed in the midst of an order."""
    configure(httpd, world, DOMAINS, ())
    httpd.start()
    httpd.await_md(OBTAINED)
    configure(httpd, world, DOMAINS, ["archive.test"])
    httpd.graceful()
    wait_for(lambda: times_staged(httpd, "archive.test") == 2, what="second set of archive.test")
    world.main.dns_set("set-servfail", host="broken.test.")
    rule = world.slow.script("finalize", "endless_processing")
    configure(httpd, world)
    httpd.graceful()
    wait_for(lambda: times_staged(httpd, "staged.test") == 2, what="staged set")
    httpd.await_error("broken.test")
    world.slow.wait(lambda: rule.hits, what="finalize")
    kill(httpd)
    world.slow.calm()
    world.main.dns_set("clear-servfail", host="broken.test.")
    for name in "order.json", "account.json", "account.pem", "privkey.p-256.pem":
        assert (httpd.store / "staging/open.test" / name).exists()
    assert (httpd.store / "archive/archive.test.2/privkey.p-256.pem").exists()
    assert [len(stored_certs(httpd, name)) for name in OBTAINED] == \
        [2 if name == "mixed.test" else 1 for name in OBTAINED]


def changes(before, after):
    """Paths that are not what they were."""
    return sorted(path for path in before if after.get(path) != before[path])


def accounts_of(httpd, names):
    """Domain -> directory URL of the CA, and id of the account there that its document names."""
    found = {}
    for name in names:
        ident = httpd.store_json("domains", name, "md.json")["ca"].get("account")
        account = ident and httpd.store_json("accounts", ident, "account.json")
        assert account or not ident, (name, ident)
        if account:
            found[name] = account["ca-url"], ident
    return found


def check_documents(docs, httpd, activated):
    """md.json is as it was, byte by byte; only states of domains that got a set now differ."""
    now = documents(httpd, "domains")
    assert now.keys() == docs.keys()
    for name, text in docs.items():
        if name not in activated:
            assert now[name] == text, name
        old, new = json.loads(text), json.loads(now[name])
        differing = {k for k in {*old, *new} if old.get(k) != new.get(k)}
        assert differing <= {"state", "state-descr"}, (name, differing)
        assert new["state"] == (2 if name in OBTAINED else 1), new


def start_with(httpd, world, module, domains=None, more=MORE_NAMES):
    """Start on what the other one left; what is live is served, and what is staged."""
    before, docs = parts(httpd.store), documents(httpd, "domains")
    keys, certs = stores.private_keys(httpd.store), all_certs(httpd, docs)
    certs |= all_certs(httpd, docs, "staging")
    use(httpd, module)
    configure(httpd, world, domains, more)
    httpd.start()
    assert served(httpd, certs) == certs
    return before, docs, keys


def check_kept(httpd, before, keys, but=(), lost=()):
    """Live sets (not of domains `but`), archive and accounts are what they were, with modes and
    owners, and every private key is still somewhere, but these files of staging."""
    changed = [path for path in changes(before, parts(httpd.store))
               if path.split("/")[0] in ("domains", "archive", "accounts", "md_store.json")
               and (path.split("/") + [""])[1] not in but]
    assert not changed
    now = stores.private_keys(httpd.store)
    assert {str(keys[key]) for key in keys if key not in now} <= set(lost)


def take_over(httpd, world, module):
    """The first start on the other one's store."""
    accounts, orders = world.accounts(), world.orders()
    before, docs, keys = start_with(httpd, world, module)
    httpd.wait_log("AH10068: staged.test")
    httpd.wait_log("AH10064: md.broken.test.: previous drive job showed 1 errors")
    check_documents(docs, httpd, ["staged.test"])
    old_set = {path.replace("domains/", "archive/", 1).replace(".test", ".test.2", 1): what
               for path, what in before.items() if path.startswith("domains/staged.test")}
    assert not changes(old_set, parts(httpd.store))
    httpd.await_md("open.test")
    if httpd.is_stock:  # it waits as long as the forgotten record said until it starts once more
        httpd.graceful()
    httpd.await_md("broken.test")
    assert world.accounts() == accounts
    assert world.orders() == {**orders, "main": orders["main"] + 1}  # of broken.test
    httpd.graceful()
    for name in LATE:
        httpd.wait_log(f"AH10068: {name}")
    used = accounts_of(httpd, CA_OF)
    assert {name: url for name, (url, _) in used.items()} == \
        {name: world.directory_of(name) for name in (*OBTAINED, *LATE)}
    assert {ident for _, ident in used.values()} == \
        {path.name for path in (httpd.store / "accounts").iterdir()}
    assert len(list((httpd.store / "accounts").iterdir())) == 3
    # The renewal that failed begins anew: its key never had a certificate.
    check_kept(httpd, before, keys, ["staged.test", *LATE],
               ["staging/broken.test/privkey.p-256.pem"])


def renew(httpd, world, names, domains=None, accounts=None):
    """Force renewals: they use the accounts that are there (or there are so many then), and are
    served after a reload."""
    old = all_certs(httpd, names)
    used = accounts_of(httpd, names)
    wanted = accounts or world.accounts()
    staged = {name: times_staged(httpd, name) for name in names}
    configure(httpd, world, domains, renew=names)
    httpd.graceful()
    for name in names:
        wait_for(lambda: times_staged(httpd, name) > staged[name], what=f"new set of {name}")
    configure(httpd, world, domains)
    httpd.graceful()
    new = all_certs(httpd, names)
    assert new.keys() == old.keys() and not set(new.values()) & set(old.values())
    assert served(httpd, new) == new
    assert world.accounts() == wanted
    assert accounts or accounts_of(httpd, names) == used


def go_back(httpd, world, module, domains=None):
    """The one that wrote the store gets it back: all is done, so nothing changes."""
    accounts, orders = world.accounts(), world.orders()
    before, docs, keys = start_with(httpd, world, module, domains)
    httpd.wait_log("AH10107: next run in")
    assert documents(httpd, "domains") == docs
    assert (world.accounts(), world.orders()) == (accounts, orders)
    check_kept(httpd, before, keys)


@pytest.mark.parametrize("writer, taker", [("stock", "ours"), ("ours", "stock")])
def test_there_and_back(world, writer, taker):
    httpd = world.httpd("httpd", writer)
    write_store(httpd, world)
    take_over(httpd, world, taker)
    renew(httpd, world, RENEWED)
    httpd.stop()
    go_back(httpd, world, writer)
    renew(httpd, world, RENEWED)


def test_p256_account(world):
    """Of no use to httpd's module: it registers an account of its own, once, and harms nothing."""
    httpd = world.httpd("httpd", "ours", "p256")
    domains = {name: DOMAINS[name] for name in ("p256.test", "p384.test")}
    configure(httpd, world, domains)
    httpd.start()
    httpd.await_md(list(domains))
    rule = world.slow.script("finalize", "endless_processing")
    domains |= {"staged.test": DOMAINS["staged.test"], "open.test": LATE["open.test"]}
    configure(httpd, world, domains)
    httpd.graceful()
    httpd.await_md("staged.test")
    world.slow.wait(lambda: rule.hits, what="finalize")
    kill(httpd)
    world.slow.calm()
    assert world.accounts() == {"main": 1, "bound": 0, "slow": 1}
    before, _, keys = start_with(httpd, world, "stock", domains)
    httpd.await_md("open.test")
    # It overwrites an account that is only staged and cannot be used.
    check_kept(httpd, before, keys, ["staged.test"], ["staging/open.test/account.pem"])
    assert world.accounts() == {"main": 1, "bound": 0, "slow": 2}
    httpd.graceful()
    renew(httpd, world, list(domains), domains, {"main": 2, "bound": 0, "slow": 2})
    check_kept(httpd, before, keys, domains, ["staging/open.test/account.pem"])
    httpd.stop()
    go_back(httpd, world, "ours", domains)
    renew(httpd, world, list(domains), domains)


@pytest.mark.parametrize("writer, account_key, taker", [
    ("stock", "rsa3072", "ours"), ("ours", "rsa3072", "stock"), ("ours", "p256", "stock")])
def test_everything_is_new(world, writer, account_key, taker):
    """Staged sets that share an account which is staged, too, with one that is activated last."""
    httpd = world.httpd("httpd", writer, account_key)
    domains = {name: DOMAINS[name] for name in ("p256.test", "archive.test", "staged.test")}
    configure(httpd, world, domains, ())
    httpd.start()
    httpd.await_md(list(domains))
    httpd.stop()
    [holder] = [path.parent.name for path in httpd.store.glob("staging/*/account.pem")]
    domains[holder] = domains.pop(holder)
    _, _, keys = start_with(httpd, world, taker, domains, ())
    assert [json.loads(text)["state"] for text in documents(httpd, "domains").values()] == [2] * 3
    check_kept(httpd, {}, keys)
    account = (world.main.directory_url, "ACME-localhost-0000")
    assert accounts_of(httpd, domains) == {name: account for name in domains}
    assert [path.name for path in (httpd.store / "accounts").iterdir()] == ["ACME-localhost-0000"]
    assert world.accounts()["main"] == 1


# ---- formats ----

# Order of members in documents (store.md 2).
ORDER = {
    "md_store.json": "store store.version key",
    "md.json": "name domains contacts transitive ca ca.account ca.proto ca.url ca.urls "
               "ca.agreement ca.challenges privkey privkey.type privkey.bits privkey.curve state "
               "state-descr renew-mode renew-window warn-window require-https must-staple proto "
               "proto.acme-tls/1 cert-files pkey-files stapling cmd-dns-01 ca-certs eab eab.kid "
               "eab.hmac profile profile-mandatory ari-renewals",
    "job.json": "name finished notified notified-renewed next-run last-run valid-from errors failed-challenge last "
                "last.status last.status-description last.problem last.detail last.activity "
                "last.valid-from last.subproblems log log.entries log.entries.when "
                "log.entries.type log.entries.status log.entries.detail",
    "order.json": "url status authorizations challenge-setups finalize certificate",
    "account.json": "status url ca-url contact registration agreement orders eab eab.kid eab.hmac",
}


def members(value, prefix=""):
    """(path, type) in order; of lists those of each element; nothing below what a CA wrote."""
    found = []
    if isinstance(value, dict):
        for key, item in value.items():
            found.append((prefix + key, type(item).__name__))
            if key not in ("registration", "subproblems"):
                found += members(item, f"{prefix}{key}.")
    for item in value if isinstance(value, list) else ():
        found += members(item, prefix)
    return found


def check_text(path):
    text, order = path.read_text(), ORDER[path.name].split()
    doc = json.loads(text)
    assert text == json.dumps(doc, indent=2, ensure_ascii=False), path
    for obj in [doc, *doc.get("log", {}).get("entries", [])]:
        places = [order.index(name if obj is doc else "log.entries." + name)
                  for name, _ in members(obj) if "entries." not in name]
        assert places == sorted(places) or isinstance(doc.get("privkey"), list), path
    return set(members(doc))


def pem_kinds(store):
    """Path -> what the blocks of a file are."""
    return {str(path.relative_to(store)): re.findall("-----BEGIN (.*)-----", path.read_text())
            for path in store.rglob("*.pem")}


# Files that only one of them has. Everything else is in both, with the same mode and owner.
ONLY_STOCK = {
    r"tmp/.*": "a record that it writes to the wrong place (store.md SQ-3)",
    r"(domains|archive)/[^/]*/fallback-(privkey|pubcert)\..*\.pem": "a temporary one per key spec",
    r"challenges/broken.test.*|staging/broken.test/order.json": "kept until a restart",
}
ONLY_OURS = {
    r"fallback.lock": "one process at a time makes temporary certificates",
    r"engine.lock": "one process at a time renews",
    r"answers": "to requests of a2md at run time",
    r"live": "sets that are in service without a restart",
    r"records": "TXT records that are in the DNS",
    r"store.lock": "one process at a time activates, be it a2md",
    r"(domains|archive)/[^/]*/fallback-(privkey|pubcert)\.pem": "one for all specs",
    r"staging/broken.test/privkey.p-256.pem": "made while the CA validates",
    r"ocsp/[^/]*(/ari.json)?": "what the CA suggests is kept over restarts",
}
# The server is killed in the midst of writing: job.json every 500 ms, and what is not complete.
BY_CHANCE = r"staging/open.test/(job.json.*|.*\.tmp)"
OTHER_MODE = {"ocsp"}  # theirs is 0750 until something is saved there, ours 0755 from the beginning
# Members of documents that only one of them writes.
MORE_IN_STOCK = {
    (r"staging/open.test/order.json", "certificate"): "from a Location that is only the order's",
}
MORE_IN_OURS = {
    (r"accounts/.*/account.json", "registration"): "theirs forgets it when it reads the account",
    (r".*/account.json", "agreement"): "the terms that were agreed to",
    (r".*/job.json", "last.activity"): "theirs is cleared in the end",
    (r"staging/broken.test/job.json", "last.problem"): "the CA's own, not only that it failed",
    (r"staging/broken.test/job.json", "log.entries.status"): "the same",
    (r"staging/broken.test/job.json", "failed-challenge"): "the next attempt tries another type first",
}


def unexplained(paths, reasons):
    return sorted(path for path in paths if not any(re.fullmatch(r, path) for r in reasons))


def unexplained_members(mine, others, reasons):
    """(document, member, type) that only `mine` has, without reason."""
    return sorted((path, member, kind) for path in mine.keys() & others.keys()
                  for member, kind in mine[path] - others[path]
                  if not any(re.fullmatch(r, path) and member == m for r, m in reasons))


def without_numbers(store, text):
    """Accounts are numbered as they come: one is known by its kind."""
    for path in store.glob("accounts/*/account.json"):
        text = text.replace(path.parent.name, "bound" if "eab" in json.loads(path.read_text()) else "plain")
    return text


def test_same_files_and_formats(world):
    """What each of them writes for the same configuration."""
    files, docs, blocks, live = {}, {}, {}, {}
    for module in "stock", "ours":
        httpd = world.httpd(module, module)
        write_store(httpd, world)
        files[module] = {path: what[:2] for path, what in parts(httpd.store).items()
                         if not re.fullmatch(BY_CHANCE, path)}
        docs[module] = {without_numbers(httpd.store, str(path.relative_to(httpd.store))): check_text(path)
                        for path in httpd.store.rglob("*.json")
                        if not path.match("staging/open.test/job.json") and path.name != "ari.json"}
        blocks[module] = pem_kinds(httpd.store)
        live[module] = {name: without_numbers(httpd.store, text).replace(str(httpd.dir), "")
                        for name, text in documents(httpd, "domains").items()}
    stock, ours = files["stock"], files["ours"]
    assert not unexplained(stock.keys() - ours.keys(), ONLY_STOCK)
    assert not unexplained(ours.keys() - stock.keys(), ONLY_OURS)
    assert {path for path in stock.keys() & ours.keys() if stock[path] != ours[path]} <= OTHER_MODE
    assert not [path for path in blocks["stock"].keys() & blocks["ours"].keys()
                if blocks["stock"][path] != blocks["ours"][path]]
    assert not unexplained_members(docs["stock"], docs["ours"], MORE_IN_STOCK)
    assert not unexplained_members(docs["ours"], docs["stock"], MORE_IN_OURS)
    assert live["stock"] == live["ours"]
