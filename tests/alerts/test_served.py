"""What the programs serve on /metrics after real work is what docs/metrics.md says, and what the dashboard asks for is there."""

import re
import subprocess

import pytest
import written
from live import PROGRAMS, eventually


def served(text):
    """Name → (type, label → values) of everything on a page, histograms by their base name."""
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    found = {name: (kind, {}) for name, kind in kinds.items()}
    for series, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        base = series if series in kinds else re.sub(r"_(bucket|sum|count)$", "", series)
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            if label != "le":
                found[base][1].setdefault(label, set()).add(value)
    return found


@pytest.fixture(scope="module")
def worked(fleet):
    """Some work was done, and somebody read it: every metric that can be there is."""
    fleet.tell("tables")
    reader = fleet.reads("tables", "p2")
    for person in ["p0", "p1"]:
        fleet.say("tables", "I look around", person=person)
        fleet.say("tables", "Who are you?", to="Sibyl", person=person)
    for agent in ["narrator", "dialogue"]:
        done = f'sum(storyfleet_answer_seconds_count{{agent="{agent}"}}) >= 1 and sum(storyfleet_backlog) == 0'
        eventually(f"the {agent}'s work is done", lambda done=done: fleet.query(done))
    yield fleet
    reader.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_page_keeps_to_the_conventions(worked, promtool, program):
    done = subprocess.run([promtool, "check", "metrics"], input=worked.metrics(program), capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_tables_are_what_is_served(worked):
    for kind in ["agents", "gateways"]:
        programs = [name for name in PROGRAMS if name.startswith("gateway") == (kind == "gateways")]
        table = written.tables()[f"Of {kind}"] | written.tables()["Of both"]
        pages = [served(worked.metrics(program)) for program in programs]
        assert set().union(*pages) == table.keys()
        for name, metric in table.items():
            found = [page[name] for page in pages if name in page]
            assert {each for each, _ in found} == {metric.kind}, name
            labels = {}
            for _, of_page in found:
                for label, values in of_page.items():
                    labels.setdefault(label, set()).update(values)
            assert labels.keys() == metric.labels.keys(), name
            for label, values in metric.labels.items():
                assert values is None or labels[label] == values, (name, label)


@pytest.mark.parametrize("panel", written.panels(), ids=lambda panel: panel["title"])
def test_a_panel_shows_something(worked, panel):
    for target in panel["targets"]:
        query = written.shown(target["expr"])
        figures = lambda query=query: [each for each in worked.query(query) if each["value"][1] != "NaN"]  # noqa: E731
        eventually(query, figures)
