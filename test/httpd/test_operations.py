# SPDX-License-Identifier: Apache-2.0
"""All that tools look for - keys, events and their arguments, phrases, numbers of the log - in the life of a domain:
each in the state in which it is to be seen. What is in no table must not be there; what was never seen fails."""
import json
import pathlib
import re
import shutil

from cryptography.hazmat.primitives import serialization
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

import scripted_ca as ca_is
import sets
from ocsp_ca import OcspCA, Responder, serial_of, tls
from pages import lines_of
from servers import PROJECT, Httpd, wait_for
from test_ari import DAY, PAGE, window
from test_events import Command

# ---- the tables: what is to be seen, by the state in which it must be ----

# Keys of md-status. A certificate is called by its key or number in `cert`; P is P-256, an item of a list is [].
KEYS = {
    "all": "version managed-domains[].name",
    "none": "name domains[] contacts[] transitive ca.proto ca.urls[] ca.agreement privkey.type privkey.curve state "
            "state-descr renew-mode renew-window warn-window must-staple proto.acme-tls/1[] stapling profile-mandatory "
            "ari-renewals cert renew-at watched renew",
    "settings": "require-https cmd-dns-01 proxy-url ca-certs proxy-ca-certs eab.kid eab.hmac profile ca.challenges[] privkey.bits",
    "failing": "renewal.name renewal.finished renewal.notified renewal.notified-renewed renewal.next-run renewal.last-run "
               "renewal.errors renewal.last.status renewal.last.status-description renewal.last.problem renewal.last.detail "
               "renewal.last.activity renewal.last.subproblems[].type renewal.last.subproblems[].detail "
               "renewal.last.subproblems[].identifier.type renewal.last.subproblems[].identifier.value renewal.cert "
               "renewal.log.entries[].when renewal.log.entries[].type renewal.log.entries[].status renewal.log.entries[].detail",
    "renewing": "renewal.last-run renewal.last.status renewal.last.activity",
    "renewed": "renewal.valid-from renewal.last.valid-from renewal.cert.P.issuer-name renewal.cert.P.issuer-uri "
               "renewal.cert.P.valid.from renewal.cert.P.valid.until renewal.cert.P.serial renewal.cert.P.sha256-fingerprint renewal.cert.P.ari-cert-id "
               "renewal.cert.valid.from renewal.cert.valid.until",
    "installed": "ca.account ca.url cert.P.issuer-name cert.P.issuer-uri cert.P.valid.from cert.P.valid.until cert.P.serial "
                 "cert.P.sha256-fingerprint cert.P.ari-cert-id cert.P.ocsp.status cert.P.ocsp.valid.from "
                 "cert.P.ocsp.valid.until cert.P.ocsp.renewal.name cert.P.ocsp.renewal.finished cert.valid.from cert.valid.until "
                 "renew-at",
    "unanswered": "cert.P.ocsp.renewal.errors cert.P.ocsp.renewal.last.detail cert.P.ocsp.renewal.next-run",
    "static": "cert-files[] pkey-files[] cert.0.serial cert.0.sha256-fingerprint cert.0.ocsp.status",
    "damaged": "error",
}
# Where a key of a renewal is in the record of responses as well.
RECORDS = "renewal cert.P.ocsp.renewal cert.0.ocsp.renewal"
# Ours, beyond those that the existing module has.
OWN_KEYS = {
    "none": "renew-reason",
    "advised": "renew-explanation cert.P.ari.window.from cert.P.ari.window.until cert.P.ari.renew-at cert.P.ari.next-poll "
               "cert.P.ari.explanation-url cert.P.ari.asked",
    "no advice": "cert.P.ari.problem",
}

# Values that tools compare.
VALUES = {
    "none": [("state", 1), ("state-descr", "certificate(P-256) is missing"), ("cert", {}), ("renew", True), ("renew-mode", 1),
             ("watched", True), ("renew-reason", "missing")],
    "failing": [("renewal.last.problem", "urn:ietf:params:acme:error:rateLimited"), ("renewal.finished", False),
                ("renewal.cert", {})],
    "renewing": [("renewal.finished", False), ("renewal.last.status", 0)],
    "renewed": [("renewal.finished", True), ("renewal.errors", 0), ("state", 1), ("renewal.notified-renewed", True)],
    "installed": [("state", 2), ("cert.P.ocsp.status", "good"), ("renew", None), ("renewal", None)],
    "advised": [("renew-reason", "ari"), ("renew-explanation", PAGE)],
    "near expiry": [("state", 2), ("renew-mode", 0), ("renewal", None)],
    "expired": [("state", 2), ("renew", True)],
    "revoked": [("renew-reason", "revoked"), ("cert.P.ocsp.status", "revoked"), ("renew", True)],
    "static": [("state", 2), ("renew-mode", 0), ("cert.0.ocsp.status", "good")],
    "settings": [("eab.hmac", "***"), ("require-https", "temporary")],
    "damaged": [("error", 22)],
}

# Types of entries in the log of a renewal, `message-` being that of an event.
ENTRIES = {
    "failing": "starting progress renewal-error message-renewing message-errored",
    "renewed": "starting progress finished message-renewing message-challenge-setup:http-01:one.test message-renewed",
    "unhappy": "message-error notify-error",
}

# Events with the words of the command behind those of the configuration, in this order; what else comes is no matter.
EVENTS = {
    "failing": ["renewing one.test", "errored one.test"],
    "renewed": ["challenge-setup:http-01:one.test one.test", "challenge-setup:http-01:www.one.test one.test", "one.test",
                "renewed one.test"],
    "installed": ["installed one.test", "ocsp-renewed one.test"],
    "static": ["ocsp-renewed static.test"],
    "others": ["ocsp-errored other"],
    "unanswered": ["ocsp-errored one.test"],
    "near expiry": ["expiring one.test"],
    "unhappy": ["renewing one.test", "one.test"],
    "expired": ["expiring expired.test"],
    "revoked": ["renewing one.test"],
}

# Members of /.httpd/certificate-status.
PUBLIC = {
    "none": "P",
    "failing": "P renewal.cert",
    "renewed": "renewal.cert.P.issuer-name renewal.cert.P.serial renewal.cert.P.sha256-fingerprint renewal.cert.P.ari-cert-id "
               "renewal.cert.valid.from renewal.cert.valid.until",
    "installed": "valid.from valid.until P.valid.from P.valid.until P.serial P.sha256-fingerprint",
    "static": "valid.from 0.serial 0.sha256-fingerprint",
}

# Lines of server-status?auto, the keys of a domain without its number.
AUTO = {
    "all": ["ManagedCertificatesTotal: 5", "ManagedCertificatesOK: \\d", "ManagedCertificatesRenew: \\d",
            "ManagedCertificatesErrored: \\d", "ManagedCertificatesReady: \\d", "ManagedStaplingsTotal: \\d",
            "ManagedStaplingsOK: \\d", "ManagedStaplingsRenew: \\d", "ManagedStaplingsErrored: \\d"],
    "none": ["Domain: one.test", r"Names\[0\]: one.test", r"Names\[1\]: www.one.test",
             r"Status: incomplete: certificate\(P-256\) is missing", "CAName: .+", "CAURL: https://.+", "Stapling: on",
             "Activity: Pending"],
    "failing": ["ActivityLastStatus: .+", "ActivityLastProblem: urn:ietf:params:acme:error:rateLimited", "ActivityFinished: no",
                "ActivityLastDetail: .*too many", "ActivityNextRun: \\d+"],
    "renewed": ["ActivityFinished: yes", "ActivityNewStaged: 1"],
    "installed": ["Status: good", "ValidUntil: \\d{4}-\\d\\d-\\d\\d", "CheckAtType: P-256", "CheckAtName: crt.sh",
                  r"CheckAtURL: https://crt\.sh\?q=[0-9a-f]{64}", "CheckAtFingerprint: [0-9a-f]{64}", "ActivityRenew: \\d+"],
    "settings": ["CAName1: .+", "CAURL1: .+"],
    "expired": ["Status: expired", "Activity: Pending"],
    "revoked": ["Status: good"],
}
STAPLES = {
    "installed": ["Domain: one.test", "CertificateID: [0-9a-f]{40}", "OCSPStatus: good", "StaplingValidUntil: .+",
                  "ResponderName: 127.0.0.1", "ResponderURL: http://.+", "ActivityRefresh: \\d+"],
    "revoked": ["OCSPStatus: revoked"],
    "others": ["Domain: other", "OCSPStatus: unknown", "ActivityLastStatus: .+", "ActivityFinished: no", "ActivityLastDetail: .+",
               "ActivityNextRun: \\d+"],
}

# Phrases of server-status.
HTML = {
    "all": ["<h3>Managed Certificates</h3>", "<table class='md_status'>", "<h3>Managed Staplings</h3>",
            "<table class='md_ocsp_status'>"],
    "none": [r"incomplete: certificate\(P-256\) is missing", "Pending"],
    "failing": [r"Error\[.+\]: urn:ietf:params:acme:error:rateLimited .*too many", "Next run "],
    "renewing": ["Ongoing\\.\\.\\."],
    "renewed": ["finished, 1 new certificate staged\\.", "Awaiting restart"],
    "installed": ["until <span", "crt\\.sh\\[P-256\\]", ">Renew \\d", ">Refresh \\d"],
    "expired": [">expired<"],
    "revoked": [">revoked<"],
}

# Numbers and phrases of the log: level, what is said, and where: a state of this life, a test of another file that has
# it, or why nobody can see it.
NEVER = "never"
LOG = [
    ("AH10037", "debug|trace1", "server seems (not )?reachable via http:", "none"),
    ("AH10038", "error", "have an overlap in domain '", "test_conformance.py"),
    ("AH10039", "debug|trace1", r"Completed MD\[one\.test", "none"),
    ("AH10040", "warn", "matches Managed Domain .* is not managed", "test_conformance.py"),
    ("AH10041", "debug", r"Server \S+ matches md one\.test", "none"),
    ("AH10042", "error", r"conflict: \d+ MDs match to SSL VirtualHost", "test_conformance.py"),
    ("AH10044", "debug", "added contact ", "test_conformance.py"),
    ("AH10045", "warn", "No VirtualHost matches Managed Domain", "test_conformance.py"),
    ("AH10046", "error", "setup store for ", "test_damage.py"),
    ("AH10047", "error", "setup challenges directory", "test_conformance.py"),
    ("AH10052", "debug", r"md\(one\.test\): state=1, driving", "failing"),
    ("AH10054", "debug", "md watchdog start", "none"),
    ("AH10055", "debug|trace1", "md watchdog run", "failing"),
    ("AH10056", "error", r"processing one\.test: .*too many", "failing"),
    ("AH10057", "info", r"one\.test: encountered error for the \d+\. time, next run in ", "failing"),
    ("AH10058", "debug", "md watchdog stopping", "stopped"),
    ("AH10059", "notice", r"The Managed Domain one\.test has been setup and changes will be activated on next \(graceful\) "
                          r"server restart\.$", "renewed"),
    ("AH10060", "info", "event-handler for 'renewing' returned 20014, preventing renewal to proceed", "unhappy"),
    ("AH10061", "crit", "mod_watchdog is required", "test_stapling.py"),
    ("AH10062", "error", "md_renew_watchdog: ", NEVER + ": no memory for a lock"),
    ("AH10064", "notice", r"previous drive job showed \d+ errors", "renewing"),
    ("AH10065", "debug", "no managed domain to drive", NEVER + ": then there is AH10075 in its place"),
    ("AH10066", "crit", "create md renew watchdog", NEVER + ": no memory for mod_watchdog"),
    ("AH10067", "debug", r"register md renew watchdog\(", "none"),
    ("AH10068", "info", r"one\.test: staged set activated", "installed"),
    ("AH10069", "error", "error loading staged set, purging it", "test_main_job.py"),
    ("AH10070", "trace1", "initializing post config dry run", "none"),
    ("AH10071", "info", r"mod_md \(v\d+\.\d+\.\d+\S*\), initializing\.\.\.", "none"),
    ("AH10072", "error", "setup md registry", NEVER + ": nothing can fail there"),
    ("AH10073", "error", "syncing ", NEVER + ": it is told for each domain, by AH10172"),
    ("AH10074", "debug", r"\d+ out of \d+ mds need watching", "none"),
    ("AH10075", "debug", "no mds to supervise", "test_conformance.py"),
    ("AH10077", "debug", r"one\.test\[state=\d\]: providing certificates for server one\.test", "installed"),
    ("AH10080", "info", "unknown tls-alpn-01 challenge host", "test_conformance.py"),
    ("AH10081", "error", "loading challenge .* from store", "test_conformance.py"),
    ("AH10082", "error", "Can't change owner of ", NEVER + ": root may do that"),
    ("AH10084", "debug", "is covered by a Managed Domain, but certificate/key files are already configured", "test_conformance.py"),
    ("AH10105", "warn", "does not match any VirtualHost with 'SSLEngine on'", "test_conformance.py"),
    ("AH10107", "debug|trace1", "next run in ", "failing"),
    ("AH10108", "error", None, "test_events.py"),
    ("AH10109", "error", None, "test_events.py"),
    ("AH10110", "error", "retrieving credentials for MD", NEVER + ": files are loaded before the TLS module asks"),
    ("AH10113", "debug", "get_certificates called for vhost one", "none"),
    ("AH10116", "debug", "providing .* fallback certificate for server one", "none"),
    ("AH10168", "debug", "no https server_rec found for ", "test_conformance.py"),
    ("AH10169", "debug", "does not have protocol acme-tls/1 enabled", "none"),
    ("AH10170", "error", "needs one MDCertificateKeyFile for each MDCertificateFile", "test_conformance.py"),
    ("AH10171", "error", r"has MDCertificateKeyFile\(s\) but no MDCertificateFile", "test_conformance.py"),
    ("AH10172", "error", "error syncing to store", "test_directives.py"),
    ("AH10173", "error", r"md\[", "test_conformance.py"),
    ("AH10174", "error", "make fallback .* certificate", "test_conformance.py"),
    ("AH10196", "error", "setup ocsp registry", NEVER + ": no memory that children share"),
    ("AH10197", "debug", "md ocsp watchdog start", "none"),
    ("AH10198", "debug|trace1", "md ocsp watchdog run", "installed"),
    ("AH10199", "debug|trace1", "md ocsp watchdog next run in", "installed"),
    ("AH10200", "debug", "md ocsp watchdog stopping", "stopped"),
    ("AH10201", "crit", "mod_watchdog is required for OCSP stapling", "test_stapling.py"),
    ("AH10202", "crit", "create md ocsp watchdog", NEVER + ": there is one watchdog"),
    ("AH10203", "debug", "register md ocsp watchdog", NEVER + ": there is one watchdog"),
    ("AH10204", "error", r"loading md status for damaged\.test", "damaged"),
    ("AH10205", "error", "md_ocsp_watchdog: create pool", NEVER + ": there is one watchdog"),
    ("AH10237", "debug", "added contact ", "test_conformance.py"),
    ("AH10238", "error", r"conflict: \d+ MDs match Virtualhost .* which uses SSL", "test_conformance.py"),
    ("AH10267", "debug", "rate limiting notification about 'renewing'", "renewing"),
    ("AH10268", "error", r"init stapling for: md\[other\]: unable to parse PEM data", NEVER + ": the TLS module has parsed it"),
    ("AH10269", "error", r"need at least 2 certificates in PEM data", NEVER + ": the TLS module gives the issuer as well"),
    ("AH10398", "error", "unable to obtain global registry lock", "test_locks.py"),
    ("AH10500", "info", r"md\[one\.test\]: OCSP reports revoked certificate\(s\)", "revoked"),
    ("AH10512", "debug", r"md\[one\.test\]: need to renew now", "failing"),
    ("AH10513", "debug", r"md\[one\.test\]: ARI is enabled", "installed"),
    ("AH10514", "debug", r"up for configured renewal in ", "test_ari.py"),
    ("AH10515", "notice", rf"md\[one\.test\]: CA advises renew via ARI at .*, for explanation see {PAGE}", "advised"),
    ("AH10516", "debug", r"md\[one\.test\]: CA advises renew via ARI at ", "installed"),
    ("AH10517", "notice", "CA advises renew via ARI now, for explanation see ", "test_ari.py"),
    ("AH10518", "debug", "CA advises renew via ARI now", "test_ari.py"),
    # without a number
    (None, "warn", r"acme problem urn:ietf:params:acme:error:rateLimited: too many", "failing"),
    (None, "info", r"registered new account https://", "failing"),
    (None, "info", "store directory does not exist, creating ", "store"),
    (None, "debug", r"md\[other\]: certificate with serial [0-9A-F]+ has no OCSP responder URL", "none"),
    (None, "debug", r"cmd\(\S+/command\) stderr: not now", "unhappy"),
    (None, "error", r"md\[one\.test\].* problem\[urn:org:apache:httpd:log:AH10109:\] detail\[MDMessageCmd \S+/command 'a b' failed "
                    r"with exit code 7\.", "unhappy"),
    (None, "error", r"problem\[urn:org:apache:httpd:log:AH10108:\] detail\[MDNotifyCmd \S+/command failed with exit code 3\.",
     "unhappy"),
    (None, "error", r"dns\.test: .* problem\[challenge-setup-failure\]", "unfit"),
    (None, "error", r"None of offered challenge types for domain \*\.wild\.test are supported\..* "
                    r"problem\[challenge-mismatch\]", "unfit"),
    (None, "error", "Unsuccessful in contacting ACME server at ", "unreachable"),
    (None, "warn|error", "None of the ACME challenge methods configured for this domain are suitable", "unfit"),
    (None, "error", r"domain authorization for one\.test failed, CA considers answer to challenge invalid", "invalid"),
    (None, "debug", r"ACME server authz: challenge 'invalid' for one\.test at https://\S+.*not the expected one", "invalid"),
    (None, "error", r"failed to load JSON file \S+/staging/damaged\.test/job\.json", "unreachable"),
    (None, "error", "mandatory ACME profile 'short' is not offered by CA", "unfit"),
    (None, "warn", "setup command failed to execute", "unfit"),
    (None, "info", "removing md/httpd.json on error loading it", "store"),
    (None, "error", "The central store file md/md_store.json seems to exist, but", "test_main_job.py"),
    (None, "debug", "error retrieving ARI", "no advice"),
]


# ---- a life ----

def paths(value, path=""):
    """Of all that is in a document."""
    if isinstance(value, dict):
        for key, member in value.items():
            key = "P" if key == "P-256" else key
            yield from {f"{path}.{key}".lstrip("."), *paths(member, f"{path}.{key}".lstrip("."))}
    elif isinstance(value, list):
        yield path + "[]"
        for member in value:
            yield from paths(member, path + "[]")


def at(value, path):
    for key in path.split("."):
        value = value.get({"P": "P-256"}.get(key, key)) if value else None
    return value


class Seen:
    """What there is to be seen of a domain in a state, and what has happened since the state before."""

    def __init__(self, server, command, name):
        self.json = server.md_status(name)
        status, _, body = server.get("/.httpd/certificate-status", name)
        self.public = json.loads(body) if status == 200 else None
        self.html = server.get("/server-status", "base.test")[2]
        self.lines = lines_of(server.get("/server-status?auto", "base.test")[2])
        self.name = name
        self.log, self.events = "", []

    def detail(self, kind):
        """The lines of the domain, without their number."""
        number = next((key[:-len("Domain")] for key, value in self.lines if re.fullmatch(kind + r"\[\d+\]Domain", key)
                       and value == self.name), None)
        return [f"{key[len(number):]}: {value}" for key, value in self.lines if number and key.startswith(number)]

    def row(self):
        """Of the tables in HTML."""
        return "".join(row for row in re.findall(r"(?s)<tr.*?</tr>", self.html) if f">{self.name}<" in row)


class Life:
    def __init__(self, server, command):
        self.server, self.command, self.seen, self.read, self.told = server, command, {}, 0, 0

    def since(self):
        log, calls = self.server.error_log(), self.command.words()
        parts = log[self.read:], [" ".join(words[words[0] == "a b":]) for words in calls[self.told:]]
        self.read, self.told = len(log), len(calls)
        return parts

    def look(self, state, name="one.test", *also):
        """`also`: states of other domains at the same time, as pairs."""
        log, events = self.since()
        for state, name in (state, name), *also:
            self.seen[state] = seen = Seen(self.server, self.command, name)
            seen.log, seen.events = log + self.server.error_log()[self.read:], events

    def note(self, state):
        """The log alone, when there is no server to ask."""
        self.seen[state] = seen = Seen.__new__(Seen)
        seen.log, seen.events = self.since()
        seen.json = seen.public = None
        seen.html, seen.lines, seen.name = "", [], None


def configure(server, ca, ocsp, command):
    server.log_level = "info md:trace1"
    server.use_ca(ca)
    server.global_conf.append("<Location /server-status>\nSetHandler server-status\n</Location>\nExtendedStatus off")
    server.add_md_conf(f"MDRetryDelay 30s\nMDPrivateKeys P-256\nMDServerStatus on\nMDStapling on\n"
                       f"MDMessageCmd {command.path} 'a b'\nMDNotifyCmd {command.path}\nMDCAChallenges http-01")
    static = ocsp.issue("static.test")
    (server.dir / "roots.pem").write_bytes(sets.pem(sets.issuer().cert))
    server.add_md_conf(
        f"MDomain one.test\n<MDomain static.test>\nMDCertificateFile {static[0]}\nMDCertificateKeyFile {static[1]}\n</MDomain>\n"
        "<MDomain expired.test>\nMDRenewMode manual\n</MDomain>\n<MDomain damaged.test>\nMDRenewMode manual\n</MDomain>\n"
        "<MDomain set.test>\nMDRenewMode manual\nMDRequireHttps temporary\nMDProfile short\nMDCAChallenges http-01\n"
        "MDExternalAccountBinding key-7 c2VjcmV0LW1hYy1rZXk\nMDPrivateKeys RSA 4096\nMDChallengeDns01 /bin/true x\n"
        f"MDHttpProxy http://proxy.test:2\nMDCACertificateFile {server.dir}/roots.pem\n"
        f"MDHttpProxyCACertificateFile {server.dir}/roots.pem\nMDCertificateAuthority LetsEncrypt https://ca.test/dir\n</MDomain>")
    server.add_vhost("one.test", ["www.one.test"])
    for name in "static.test", "expired.test", "damaged.test", "set.test":
        server.add_vhost(name)
    plain = ocsp.issue("plain.test")
    ocsp.status[serial_of(plain)] = OCSPResponseStatus.MALFORMED_REQUEST
    server.add_vhost("plain.test", extra=tls(plain))
    server.add_vhost("silent.test", extra=tls(ocsp.issue("silent.test", url="")))


def job(server, group="staging"):
    return server.store_json(group, "one.test", "job.json") or {"log": {"entries": []}}


def has_entry(server, kind, group="staging"):
    return any(entry["type"] == kind for entry in job(server, group)["log"]["entries"])


def forget(server, patterns):
    for pattern in patterns:
        for file in (server.store / "ocsp" / "one.test").glob(pattern):
            file.unlink()


def reload(server, *, without=(), conf=None):
    """`conf`: what the server says in addition, from here on; `without`: what is to be asked for anew."""
    if conf is not None:
        server.md_conf[-1] = conf
    forget(server, without)
    server.graceful()


def start_over(server, *, conf="", without=()):
    """Nothing is known of what the renewal did before."""
    server.stop()
    shutil.rmtree(server.store / "staging" / "one.test")
    forget(server, without)
    server.md_conf[-1] = conf
    server.start()


def live(server, ca, responder, command):
    life = Life(server, command)
    server.add_md_conf("MDInitialDelay 1h")
    server.start()
    server.wait_log("AH10054")
    (server.store / "staging" / "damaged.test").mkdir()
    (server.store / "staging" / "damaged.test" / "job.json").write_text("{ this is no record")
    server.get("/.httpd/certificate-status", "damaged.test")
    command.wait("ocsp-renewed static.test")
    command.wait("ocsp-errored other")
    life.look("none", "one.test", ("settings", "set.test"), ("static", "static.test"), ("damaged", "damaged.test"),
              ("others", "other"))
    life.seen["all"] = life.seen["none"]

    ca.down()
    reload(server, conf="")
    server.await_error("one.test")
    command.wait("expiring expired.test")
    life.look("unreachable", "one.test", ("expired", "expired.test"))
    ca.up()
    ca.script("authz", ca_is.invalid())
    reload(server)
    server.wait_log("AH10056: processing one.test: .*authorization for")
    life.look("invalid")
    ca.calm()

    ca.script("newOrder", ca_is.problem("rateLimited", "too many", 429, subproblems=[
        {"type": ca_is.ERROR + "rateLimited", "detail": "of them", "identifier": {"type": "dns", "value": "one.test"}}]))
    command.calls_path.write_text("")
    life.told = 0
    start_over(server)
    server.wait_log(r"AH10056: processing one\.test: .*too many")
    command.wait("errored one")
    wait_for(lambda: has_entry(server, "message-errored"), what="a record of it")
    life.look("failing")

    ca.calm()
    held = ca.script("finalize", ca_is.hold("before"))
    reload(server)
    ca.wait_held(held)
    wait_for(lambda: at(server.md_status("one.test"), "renewal.last.activity"), what="an activity")
    life.look("renewing")
    setups = list(life.seen["renewing"].events)
    ca.release()
    server.await_md("one.test")
    wait_for(lambda: job(server).get("notified-renewed"), what="the record of it")
    life.look("renewed")
    life.seen["renewed"].events = setups + life.seen["renewed"].events

    ca.renewal_info = window(20 * DAY, 21 * DAY)
    reload(server)
    for event in "installed", "ocsp-renewed":
        command.wait(f"{event} one.test")
    server.wait_log(r"AH10516: md\[one\.test\]")
    server.wait_log(r"AH10199")
    wait_for(lambda: at(server.md_status("one.test"), "cert.P.ocsp.renewal.finished"), what="a record of its responses")
    life.look("installed")

    ca.renewal_info = window(20 * DAY, 21 * DAY, explanationURL=PAGE)
    responder.reply = lambda der: b"<html>"
    reload(server, without=("ari.json", "ocsp-*.json"))
    server.wait_log("AH10515")
    command.wait("ocsp-errored one.test")
    wait_for(lambda: at(server.md_status("one.test"), "cert.P.ocsp.renewal.next-run"), what="the next request")
    life.look("unanswered")
    life.seen["advised"] = life.seen["unanswered"]
    return life


def live_on(life, server, ca, responder, command):
    ca.script("renewalInfo", ca_is.html(500))
    reload(server, without=("ari.json",))
    server.wait_log("error retrieving ARI")
    life.look("no advice")
    ca.calm()

    responder.reply = None
    reload(server, conf="MDWarnWindow 100d\nMDRenewMode manual\nMDRenewWindow 1d", without=("ari.json",))
    command.wait("expiring one.test")
    life.look("near expiry")

    serial = server.tls_cert("one.test").serial_number
    responder.status[serial] = OCSPCertStatus.REVOKED
    held = ca.script("newOrder", ca_is.hold("before"))
    reload(server, conf="", without=("ocsp-*.json",))
    ca.wait_held(held)
    wait_for(lambda: server.md_status("one.test")["renew-reason"] == "revoked", what="the reason")
    life.look("revoked")
    ca.calm()
    ca.release()

    # commands that fail: at first the one that may veto it, then that at the end of the renewal
    responder.status.clear()
    command.rule(("renewing one", "echo not now >&2; exit 7"))
    start_over(server, conf="MDRenewWindow 100d\nMDRenewViaARI off\nMDCheckInterval 2s\nMDRetryDelay 1s", without=["ocsp-*.json"])
    server.wait_log("AH10060: one.test")
    command.rule(("^one", "exit 3"))
    server.wait_log("AH10108")
    wait_for(lambda: has_entry(server, "notify-error") and has_entry(server, "message-error"), what="a record of it")
    life.look("unhappy")

    server.stop()
    life.note("stopped")


def live_badly(life, server, ca):
    """Domains that cannot have a certificate, and a store that is none at first."""
    server.use_ca(ca)
    server.add_md_conf(
        "MDRetryDelay 30s\nMDPrivateKeys P-256\n<MDomain profile.test>\nMDProfile short\nMDProfileMandatory on\n</MDomain>\n"
        "<MDomain wild.test *.wild.test>\nMDRenewMode always\n</MDomain>\n"
        "<MDomain dns.test>\nMDChallengeDns01 /bin/false\nMDCAChallenges dns-01\n</MDomain>\n"
        "<MDomain none.test>\nMDChallengeDns01 /does/not/exist\nMDCAChallenges dns-01\n</MDomain>\n"
        "<MDomain alpn.test>\nMDCAChallenges tls-alpn-01\n</MDomain>")
    names = ["profile.test", "wild.test", "dns.test", "none.test", "alpn.test"]
    for name in names:
        server.add_vhost(name)
    server.start()
    for name in names:
        server.await_error(name)
    life.server, life.read = server, 0
    life.note("unfit")
    server.stop()
    (server.store / "httpd.json").write_text("{ this is none")
    server.start()
    life.note("store")
    life.seen["store"].log += life.seen["unfit"].log
    server.stop()


def unknown_keys(life):
    """Those of documents that are in no table, nor have others in them that are."""
    known = {key for table in (KEYS, OWN_KEYS) for keys in table.values() for key in keys.split()}
    known |= {record + key[len("renewal"):] for key in known if key.startswith("renewal.") for record in RECORDS.split()}
    known |= {key.replace("cert.P.", "cert.0.") for key in known} | {key.replace("cert.P.", "cert.S.") for key in known}
    for state, seen in life.seen.items():
        found = {key.replace("managed-domains[].", "") for key in paths(seen.json)} - {"managed-domains", "managed-domains[]"}
        for key in found - known:
            if not any(other.startswith((key + ".", key + "[]")) for other in known) and not key.startswith("proto.acme"):
                yield f"{state}: unknown key {key}"


def unknown_lines(life):
    """Numbers in the log that are in no table, or have another level."""
    levels = {number: level.split("|") for number, level, _, _ in LOG if number}
    for state, seen in life.seen.items():
        for level, number in set(re.findall(r"(?m)^\[[^]]*\] \[md:(\w+)\] .*?\b(AH10\d\d\d): ", seen.log)):
            if level not in levels.get(number, []):
                yield f"{state}: {number} of level {level}"


def lacks(life):
    """All of the tables that was not seen, and what was seen and is in none of them."""
    yield from unknown_keys(life)
    yield from unknown_lines(life)
    for state, keys in [*KEYS.items(), *OWN_KEYS.items()]:
        doc = life.server_all if state == "all" else life.seen[state].json
        yield from (f"{state}: key {key}" for key in keys.split() if key not in set(paths(doc)))
    for state, values in VALUES.items():
        yield from (f"{state}: {path} is {at(life.seen[state].json, path)!r}, not {value!r}" for path, value in values
                    if at(life.seen[state].json, path) != value)
    for state, kinds in ENTRIES.items():
        types = {entry["type"] for entry in at(life.seen[state].json, "renewal.log.entries") or []}
        yield from (f"{state}: entry {kind} in {types}" for kind in kinds.split() if kind not in types)
    for state, events in EVENTS.items():
        rest = iter(life.seen[state].events)
        yield from (f"{state}: event {event} in {life.seen[state].events}" for event in events if event not in rest)
    for state, keys in PUBLIC.items():
        yield from (f"{state}: certificate-status has no {key}" for key in keys.split()
                    if key not in set(paths(life.seen[state].public)))
    for table, kind in (AUTO, "ManagedDomain"), (STAPLES, "ManagedStapling"):
        for state, patterns in table.items():
            shown = [": ".join(line) for line in life.seen[state].lines] if state == "all" else life.seen[state].detail(kind)
            yield from (f"{state}: ?auto has no {pattern} in {shown}" for pattern in patterns
                        if not any(re.fullmatch(pattern, line) for line in shown))
    for state, patterns in HTML.items():
        text = life.seen[state].html if state == "all" else life.seen[state].row()
        yield from (f"{state}: server-status has no {pattern} in {text}" for pattern in patterns if not re.search(pattern, text))
    for number, level, phrase, state in LOG:
        if state.endswith(".py") or state.startswith(NEVER):
            continue
        if state not in life.seen or not re.search(rf"(?m)\[md:({level})\].*{number or ''}.*({phrase})", life.seen[state].log):
            yield f"{state}: [md:{level}] {number} {phrase}"


def test_a_life(httpd, ca, workdir):
    command = Command(workdir / "command")
    with OcspCA(workdir / "ocsp") as ocsp, Responder(ca.intermediate.cert, ca.intermediate.key) as responder:
        ca.intermediate.ocsp_url, ca.intermediate.issuer_url = responder.url, "http://ca.test/issuer.der"
        configure(httpd, ca, ocsp, command)
        sets.make_store(httpd.store)
        for name in "expired.test", "damaged.test":
            sets.put_live(httpd.store, [name], sets.make_pair([name], (-95, -5) if name == "expired.test" else (-1, 89)))
        life = live(httpd, ca, responder, command)
        life.server_all = httpd.md_status()
        live_on(life, httpd, ca, responder, command)
    ca.calm()
    with Httpd(workdir / "unfit") as unfit:
        live_badly(life, unfit, ca)
    missing = list(lacks(life))
    assert "(null)" not in httpd.error_log()
    assert not missing, "\n".join(missing)


def test_the_table_of_the_log():
    """It has each number that there is, once; the tests that it leaves one to know it."""
    numbers = [number for number, _, _, _ in LOG if number]
    assert len(numbers) == len(set(numbers))
    sources = [path.read_text() for path in PROJECT.glob("*.c")]
    assert {f"AH{number}" for text in sources for number in re.findall(r"LOGNO\((\d+)\)", text)} <= set(numbers)
    for number, _, phrase, where in LOG:
        if where.endswith(".py"):
            assert (number or phrase) in (pathlib.Path(__file__).parent / where).read_text(), (number, where)
