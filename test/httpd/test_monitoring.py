# SPDX-License-Identifier: Apache-2.0
"""docs/monitoring.md, the alert rules and the dashboard: what they name is there, and the alerts come when they should."""
import json
import re
import shutil

import pytest

import sets
from metrics import ask
from servers import PROJECT, run

DOCS = PROJECT / "docs"
RULES = DOCS / "monitoring" / "mod_md.rules.yml"
DASHBOARD = DOCS / "monitoring" / "grafana-dashboard.json"
SUFFIXES = {"counter": ["_total"], "gauge": [""], "info": ["_info"], "histogram": ["_bucket", "_sum", "_count"]}


def names_in(text):
    return set(re.findall(r"mod_md_[a-z_]+[a-z]", text))


@pytest.fixture
def families(httpd):
    sets.make_store(httpd.store)
    sets.configure(httpd, ["a.test"])
    httpd.start()
    return {family.name: family for family in ask(httpd).families}


def test_what_is_named_is_given(families):
    given = {name + suffix for name, family in families.items() for suffix in SUFFIXES[family.type]}
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 20 and all(names_in(query) for query in queries)
    queries += [variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    expressions = re.findall(r"expr:(.*?)\n +(?:for|labels):", RULES.read_text(), re.S)
    assert len(expressions) > 10 and all(names_in(expression) for expression in expressions)
    for text in *queries, *expressions:
        assert names_in(text) <= given, names_in(text) - given


def test_all_that_is_given_is_described(families):
    """With the type and the labels that it has."""
    rows = re.findall(r"^\| `(mod_md_[a-z_]+)(?:\{([a-z,]+)\})?` \| (\w+) \| .+\|$", (DOCS / "monitoring.md").read_text(), re.M)
    described = {name: (labels, kind) for name, labels, kind in rows}
    expected = {name + ("" if family.type == "histogram" else SUFFIXES[family.type][0]): family.type
                for name, family in families.items()}
    assert {name: kind for name, (_, kind) in described.items()} == expected
    for name, family in families.items():
        for sample in family.samples:
            labels = described.get(sample.name, described.get(name))[0]
            assert set(sample.labels) - {"le"} == set(filter(None, labels.split(","))), sample
    assert names_in((DOCS / "monitoring.md").read_text()) == set(described)


def test_alerts_are_described():
    assert re.findall(r"alert: (\w+)", RULES.read_text())
    assert set(re.findall(r"alert: (\w+)", RULES.read_text())) == set(
        re.findall(r"^\| `([A-Z]\w+)` \|", (DOCS / "monitoring.md").read_text(), re.M))


def test_dashboard():
    """Panels are apart, and all have the data source that is chosen."""
    dashboard = json.loads(DASHBOARD.read_text())
    cells = [(panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy) for panel in dashboard["panels"]
             for dx in range(panel["gridPos"]["w"]) for dy in range(panel["gridPos"]["h"])]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        for each in [panel, *panel.get("targets", [])] if panel["type"] != "row" else []:
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


# ---- with promtool, where there is one ----

DOMAIN, CERT = 'job="mod_md",instance="i",domain="a.test"', 'job="mod_md",instance="i",domain="a.test",certificate="rsa"'
CA = 'job="mod_md",instance="i",ca="https://ca.test/dir"'
DAY = 86400
ENDS, BEGAN = "mod_md_certificate_not_after_timestamp_seconds", "mod_md_certificate_not_before_timestamp_seconds"
# Series, when it is looked (minutes), the alert, and how often it is there. The time begins at 0.
ALERTS = [
    ({f'mod_md_certificate_state{{{CERT},state="expired"}}': "1x200"}, 5, "CertificateExpired", 1),
    ({f'mod_md_certificate_state{{{CERT},state="valid"}}': "1x200"}, 5, "CertificateExpired", 0),
    ({f'mod_md_certificate_state{{{CERT},state="revoked"}}': "1x200"}, 61, "CertificateRevoked", 1),
    ({f'mod_md_certificate_state{{{CERT},state="missing"}}': "1x200"}, 61, "CertificateMissing", 1),
    ({f'mod_md_certificate_state{{{CERT},state="unusable"}}': "1x200"}, 59, "CertificateMissing", 0),
    ({f"{ENDS}{{{CERT}}}": f"{17 * DAY}x200", f"{BEGAN}{{{CERT}}}": f"{-73 * DAY}x200"}, 62, "CertificateNotRenewed", 1),
    ({f"{ENDS}{{{CERT}}}": f"{20 * DAY}x200", f"{BEGAN}{{{CERT}}}": f"{-70 * DAY}x200"}, 62, "CertificateNotRenewed", 0),
    ({f"{ENDS}{{{CERT}}}": f"{2 * DAY}x200", f"{BEGAN}{{{CERT}}}": f"{-4 * DAY}x200"}, 62, "CertificateNotRenewed", 0),
    ({f"mod_md_renewal_consecutive_failures{{{DOMAIN}}}": "3x200"}, 16, "RenewalFails", 1),
    ({f"mod_md_renewal_consecutive_failures{{{DOMAIN}}}": "2x200"}, 16, "RenewalFails", 0),
    ({f'mod_md_renewal_phase{{{DOMAIN},phase="ready"}}': "1x3000"}, 36 * 60 + 1, "ReloadNeeded", 1),
    ({f'mod_md_renewal_phase{{{DOMAIN},phase="waiting"}}': "1x3000"}, 36 * 60 + 1, "ReloadNeeded", 0),
    ({'mod_md_store_usable{job="mod_md",instance="i"}': "0x200"}, 1, "NothingCanBeRenewed", 1),
    ({'mod_md_work_waiting{job="mod_md",instance="i",kind="renewal"}': "5x200",
      f'mod_md_ca_requests_total{{{CA},code="2xx"}}': "7x200"}, 130, "RenewalsStuck", 1),
    ({'mod_md_work_waiting{job="mod_md",instance="i",kind="renewal"}': "5x200",
      f'mod_md_ca_requests_total{{{CA},code="2xx"}}': "7+1x200"}, 130, "RenewalsStuck", 0),
    ({f'mod_md_ca_requests_total{{{CA},code="2xx"}}': "0+1x200",
      f'mod_md_ca_requests_total{{{CA},code="none"}}': "0+2x200"}, 130, "CAUnavailable", 1),
    ({f'mod_md_ca_requests_total{{{CA},code="2xx"}}': "0+2x200",
      f'mod_md_ca_requests_total{{{CA},code="5xx"}}': "0+1x200"}, 130, "CAUnavailable", 0),
    ({f'mod_md_ca_held_until_timestamp_seconds{{{CA},held="orders"}}': "20000x200"}, 10, "CAHoldsUsUp", 1),
    ({f'mod_md_ca_held_until_timestamp_seconds{{{CA},held="orders"}}': "3000x200"}, 10, "CAHoldsUsUp", 0),
    ({f"mod_md_staple_next_update_timestamp_seconds{{{CERT}}}": "3600x200"}, 12, "StapleEnds", 1),
    ({f"mod_md_staple_next_update_timestamp_seconds{{{CERT}}}": "90000x200"}, 12, "StapleEnds", 0),
    ({f"mod_md_domains{{{DOMAIN}}}": "1x200"}, 16, "MetricsMissing", 1),
    ({'mod_md_build_info{job="mod_md",instance="i",version="1"}': "1x200"}, 16, "MetricsMissing", 0),
]
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool (Debian: prometheus)")


@promtool
def test_rules_are_accepted():
    done = run("promtool", "check", "rules", RULES)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


@promtool
def test_alerts_come(workdir):
    """Each of them does, and not too early."""
    assert {name for _, _, name, count in ALERTS if count} == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    for series, minute, name, count in ALERTS:
        test = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [{
            "interval": "1m", "input_series": [{"series": key, "values": values} for key, values in series.items()],
            "promql_expr_test": [{"expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                                  "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": count}]}]}]}
        (workdir / "test.yml").write_text(json.dumps(test))  # which is YAML
        done = run("promtool", "test", "rules", workdir / "test.yml")
        assert done.returncode == 0, (name, series, done.stdout + done.stderr)


@promtool
def test_metrics_are_accepted(httpd):
    """promtool knows more of conventions than the parsers do."""
    sets.make_store(httpd.store)
    sets.configure(httpd, ["a.test"])
    httpd.start()
    done = run("promtool", "check", "metrics", input=ask(httpd, "text/plain").body)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
