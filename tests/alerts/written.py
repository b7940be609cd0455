"""What is written of metrics and alerts: rules, runbooks, tables, the dashboard."""

import functools
import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules.yaml"
RULE_TESTS = ROOT / "deploy/prometheus/rules.test.yaml"
DASHBOARD = ROOT / "deploy/grafana/storyfleet.json"
RUNBOOKS = ROOT / "docs/runbooks.md"
METRICS = ROOT / "docs/metrics.md"
OPERATOR = ROOT / "deploy/k8s/components/prometheus-operator/rules.yaml"

# What Prometheus puts on what it scrapes, or PodMonitor has it put there.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container"}


@functools.cache
def rules():
    """The alerts by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


class Metric:
    """A row of docs/metrics.md. `labels` has the values of each label; None where they are not listed."""

    def __init__(self, name, kind, labels):
        self.name = name.strip("`")
        self.kind = kind
        self.labels = {}
        for each in filter(None, (part.strip() for part in labels.split(";"))):
            label, values = re.fullmatch(r"`(\w+)`(?: (.+))?", each).groups()
            self.labels[label] = values and set(values.split(", "))

    def series(self):
        """The names under which it is in Prometheus."""
        suffixes = ["_bucket", "_sum", "_count"] if self.kind == "histogram" else [""]
        return {self.name + suffix for suffix in suffixes}


@functools.cache
def tables():
    """The metrics of docs/metrics.md: by heading, by name."""
    found = {}
    for section in METRICS.read_text().split("\n## ")[1:]:
        heading = section.splitlines()[0]
        rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `storyfleet_")]
        metrics = [Metric(*(cell.strip() for cell in row)) for row in rows]
        found[heading] = {metric.name: metric for metric in metrics}
    return found


def metrics():
    """All of them, by name."""
    return {name: metric for table in tables().values() for name, metric in table.items()}


def panels():
    """The panels of the dashboard that show something."""
    dashboard = json.loads(DASHBOARD.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries():
    """(where, PromQL) of everything that is asked of Prometheus, with Grafana's own variables filled in."""
    found = [(alert, rule["expr"]) for alert, rule in rules().items()]
    for panel in panels():
        found += [(panel["title"], shown(target["expr"])) for target in panel["targets"]]
    return found


def shown(expression):
    """PromQL of a panel as Grafana would send it, of all namespaces."""
    return expression.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$namespace", ".*")


def commands(text):
    """What a document tells to type: each line of its blocks of sh, without what is behind `#`."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]
