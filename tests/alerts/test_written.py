"""Rules, runbooks, tables and the dashboard fit each other, and are what Prometheus and `storyfleet` understand."""

import os
import re
import shlex
import subprocess

import pytest
import written
import yaml

BINARIES = os.environ.get("STORYFLEET_BINARIES", written.ROOT / "target/debug")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_the_rules_are_sound(promtool):
    done = run(promtool, "check", "rules", written.RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_past_its_bound_and_not_below_it_and_clears(promtool):
    done = run(promtool, "test", "rules", written.RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_left_out_of_the_rule_tests():
    tests = yaml.safe_load(written.RULE_TESTS.read_text())["tests"]
    assert written.rules().keys() <= {test["name"] for test in tests}
    for test in tests:
        alert = test["name"].split(",")[0]
        samples = [bool(asked["exp_samples"]) for asked in test["promql_expr_test"]]
        assert all(f'alertname="{alert}"' in asked["expr"] for asked in test["promql_expr_test"])
        assert samples in ([False, True, False], [True, False]), test["name"]
        assert len(samples) == 3 or "," in test["name"], test["name"]


@pytest.mark.parametrize("alert", written.rules())
def test_an_alert_says_what_it_is_and_what_to_do(alert):
    rule = written.rules()[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert.lower()}"
    assert f"\n## {alert}\n" in written.RUNBOOKS.read_text()


def test_the_runbooks_name_no_alert_that_is_not_there():
    named = set(re.findall(r"\bStoryfleet[A-Z]\w+", written.RUNBOOKS.read_text()))
    assert named == written.rules().keys()
    anchors = set(re.findall(r"runbooks\.md#(\w+)", written.METRICS.read_text()))
    assert anchors <= {alert.lower() for alert in written.rules()}


def test_the_operators_rules_are_the_same():
    head, body = written.OPERATOR.read_text().split("spec:\n")
    plain = written.RULES.read_text().split("groups:\n")[1]
    assert body == "  groups:\n" + re.sub(r"^(?=.)", "  ", plain, flags=re.MULTILINE), "run `make rules`"
    assert yaml.safe_load(head)["kind"] == "PrometheusRule"


def told():
    text = written.RUNBOOKS.read_text()
    inline = re.findall(r"`(storyfleet [^`]+)`", text)
    lines = written.commands(text) + inline
    return sorted({line.split("|")[0].strip() for line in lines if line.startswith("storyfleet ")})


@pytest.mark.parametrize("line", told())
def test_a_command_of_the_runbooks_is_one(line, tmp_path):
    """Nobody listens there: what is understood fails with 1, what is not with 2."""
    program, *arguments = shlex.split(line)
    (tmp_path / "FILE").touch()
    arguments = [str(tmp_path / "FILE") if each == "FILE" else each for each in arguments]
    command = [f"{BINARIES}/{program}", *arguments, "--redis", "redis://127.0.0.1:1", "--data", str(tmp_path)]
    done = run(*command)
    assert done.returncode == 1, done.stderr


def test_what_is_asked_parses(promtool, tmp_path):
    recorded = [{"record": f"asked:{number}", "expr": query} for number, (_, query) in enumerate(written.queries())]
    rules = tmp_path / "asked.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": recorded}]}))
    done = run(promtool, "check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("where, query", written.queries())
def test_what_is_asked_is_in_the_tables(where, query):
    known = {series: metric for metric in written.metrics().values() for series in metric.series()}
    selectors = re.findall(r"\b(storyfleet_\w+)(?:\{([^}]*)\})?", query)
    assert selectors, where
    of_query = set()
    for series, matchers in selectors:
        assert series in known, f"{where}: {series}"
        metric = known[series]
        labels = metric.labels.keys() | written.TARGET_LABELS | {"le"}
        of_query |= labels
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            assert label in labels, f"{where}: {series} has no {label}"
            named = metric.labels.get(label)
            if named and value != ".*":
                assert set(value.split("|")) <= named, f"{where}: {label} of {series} is never {value}"
    grouped = re.findall(r"\b(?:by|on|group_left|ignoring) ?\(([\w, ]*)\)", query)
    named = {label for group in grouped for label in re.findall(r"\w+", group)}
    assert named <= of_query, where


@pytest.mark.parametrize("panel", written.panels(), ids=lambda panel: panel["title"])
def test_no_two_lines_of_a_panel_have_one_name(panel):
    for target in panel["targets"]:
        # The first grouping is that of what is shown.
        grouped = re.search(r"\bby \(([\w, ]*)\)", target["expr"])
        labels = set(re.findall(r"\w+", grouped[1])) - {"le"} if grouped else set()
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert labels == named, target["expr"]


def test_the_dashboard_asks_the_chosen_source_and_namespace():
    for panel in written.panels():
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        for target in panel["targets"]:
            for selector in re.findall(r"storyfleet_\w+(\{[^}]*\})?", target["expr"]):
                assert 'namespace=~"$namespace"' in selector, panel["title"]
