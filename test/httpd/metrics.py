# SPDX-License-Identifier: Apache-2.0
"""What md-metrics gives, as Prometheus would read it."""
import prometheus_client.openmetrics.parser
import prometheus_client.parser

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
# What Prometheus sends.
ACCEPT = ("application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
          "text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
PARSERS = {OPEN: prometheus_client.openmetrics.parser, TEXT: prometheus_client.parser}


class Metrics:
    """One answer. Every sample is there once."""

    def __init__(self, body, content_type=OPEN):
        assert body.endswith("# EOF\n" if content_type == OPEN else "\n") and ("# EOF" in body) == (content_type == OPEN)
        self.body = body
        self.families = list(PARSERS[content_type].text_string_to_metric_families(body))
        assert len({family.name for family in self.families}) == len(self.families)
        assert all(family.documentation and family.type != "unknown" for family in self.families)
        samples = [sample for family in self.families for sample in family.samples]
        self.samples = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
        assert len(self.samples) == len(samples) and all(name.startswith("mod_md_") for name, _ in self.samples)

    def get(self, name, **labels):
        """None if there is none."""
        return self.samples.get(("mod_md_" + name, frozenset(labels.items())))

    def all(self, name, **labels):
        """Those with these labels, as a list of (other labels, value)."""
        found = [(dict(have), value) for (have_name, have), value in self.samples.items()
                 if have_name == "mod_md_" + name and set(labels.items()) <= have]
        return [({k: v for k, v in have.items() if k not in labels}, value) for have, value in found]

    def sum(self, name, **labels):
        return sum(value for _, value in self.all(name, **labels))

    def one(self, name, label, **labels):
        """The value of a label where there is one line alone, which is 1."""
        (have, value), = self.all(name, **labels)
        assert value == 1
        return have[label]


def ask(httpd, accept=ACCEPT, host="base.test", https=False):
    status, headers, body = httpd.get("/md-metrics", host, https, headers={"Accept": accept} if accept else None)
    assert status == 200 and headers["Cache-Control"] == "no-store" and "Accept" in headers["Vary"], (status, body)
    return Metrics(body, headers["Content-Type"])
