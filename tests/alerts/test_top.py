"""`storyfleet top` and the dashboard's panels show the same numbers: each panel's own PromQL is asked of Prometheus beside top."""

import contextlib
import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import live
import pytest
import written
from live import eventually

STORIES = [f"top-{number}" for number in range(20)]
READERS = 3
DIALOGUES = 4
# Nothing that says that the model fails: it would be left alone, and nobody asked.
NOBODY_SPEAKS = "rules:\n- {when: {agent: dialogue}, reply: {fault: context_length_exceeded}}\n"
# Top's rates are of ten seconds.
RATES = "10s"
QUIET = 10

# Panels that top does not have, and why.
NOT_IN_TOP = {
    "Actions taken": "the gateway's alone, by result; top has what became of them",
    "Whole answers": "top has the turns, from an event's start to its end",
    "Gateway to reader": "the gateway's alone",
    "Told to slow down": "top is of now: a dead letter, or events that wait",
    "Redis answers a PING in": "top asks Redis itself, and says when it is away",
    "Tokens a second": "cost",
    "Tokens an event": "cost",
    "Share that was cached": "cost",
    "Tokens in the time shown": "cost",
    "Requests that failed": "top has the turns that failed",
    "Recordings": "cost",
    "The model, by class": "top has the turns that failed; the class is in the dead letter",
    "Not answered by Redis": "top says so of itself, instead of all figures",
    "Leases lost, ends refused": "top has the workers that are silent",
    "Connections closed by the gateway": "the gateway's alone",
    "Refused for a limit": "the gateway's alone",
    "Tokens refused": "the gateway's alone",
    "Prompts that cannot be used": "the worker's alone",
    "The certificate ends in": "the gateway's alone",
    "Releases": "Redis does not know them",
}


@pytest.fixture(scope="module")
def played(fleet):
    for story in STORIES:
        fleet.tell(story)
    readers = [fleet.reads(STORIES[0], f"p{number}") for number in range(READERS)]
    yield fleet
    for reader in readers:
        reader.close()
    eventually("all is answered", lambda: fleet.query("sum(storyfleet_backlog) == 0"), 60)


@contextlib.contextmanager
def top(fleet):
    """Gives what top saw last, as often as it is asked."""
    path = fleet.folder / "top.json"
    pages = [fleet.internal(program) for program in live.PROGRAMS]
    command = [f"{live.BINARIES}/storyfleet", "top", "--json", "--every", "500ms", "--metrics", *pages]
    with open(path, "wb") as lines, open(fleet.folder / "top.log", "wb") as log:
        process = subprocess.Popen(command, stdout=lines, stderr=log, env=os.environ | {"REDIS_URL": fleet.redis_url})

    def seen():
        lines = path.read_text().split("\n")[:-1]
        assert process.poll() is None, (fleet.folder / "top.log").read_text()
        return json.loads(lines[-1]) if lines else None

    try:
        eventually("top looks", seen)
        yield seen
    finally:
        process.kill()
        process.wait()


def acts(fleet, number, text, to=None):
    status, words = fleet.say(STORIES[number], text, to, person=f"p{number % live.PEOPLE}")
    assert status == 202, words


def agents(state, field, scale=1):
    """Agent → what top has in that column, where there is something."""
    found = {row["agent"]: row[field] for row in state["agents"]}
    return {agent: value * scale for agent, value in found.items() if value}


def panel(fleet, title, window=RATES):
    """What each target of a panel shows: values by the labels that tell its lines apart, those that are nothing left out."""
    (found,) = [each for each in written.panels() if each["title"] == title]
    shown = []
    for target in found["targets"]:
        expression = written.shown(target["expr"].replace("$__rate_interval", window))
        series = {}
        for each in fleet.query(expression):
            labels = each["metric"]
            key = labels.get("transport") or " ".join(filter(None, [labels.get("agent"), labels.get("outcome")]))
            series[key] = float(each["value"][1])
        shown.append({key: value for key, value in series.items() if value > 0})
    return shown


def is_near(one, other, share):
    return one.keys() == other.keys() and all(abs(one[key] - other[key]) <= share * one[key] for key in one)


def backlog(state):
    waits = {row["agent"]: row["waiting"] + row["in_flight"] for row in state["agents"]}
    return {agent: count for agent, count in waits.items() if count}


def in_use(state):
    return {agent: count / (live.SLOTS * agents(state, "workers")[agent]) for agent, count in agents(state, "in_flight").items()}


def readers(state):
    return {kind: state["readers"][kind] for kind in ["websocket", "sse"] if state["readers"][kind]}


def workers(fleet, state):
    """Redis before 7.2 does not tell top of idle ones."""
    told = agents(state, "workers")
    (shown, gateways) = panel(fleet, "Workers")
    return told | {"gateway": state["readers"]["gateways"]}, {agent: shown[agent] for agent in told} | {"gateway": gateways[""]}


GAUGES = {
    "Backlog": lambda fleet, state: (backlog(state), panel(fleet, "Backlog")[0]),
    "Slots in use": lambda fleet, state: (in_use(state), panel(fleet, "Slots in use")[0]),
    "Workers": workers,
    "Dead letters": lambda fleet, state: (agents(state, "dead"), panel(fleet, "Dead letters")[0]),
    "Readers": lambda fleet, state: (readers(state), panel(fleet, "Readers")[0]),
}


def test_what_is_there_now_is_the_same(played):
    fleet = played
    with fleet.playing(NOBODY_SPEAKS):
        for number in range(DIALOGUES):
            acts(fleet, number, "Who are you?", to="Sibyl")
        eventually("four are given up", lambda: fleet.query(f'storyfleet_dead_letters{{agent="dialogue"}} == {DIALOGUES}'))
        with fleet.frozen("model"):
            for number in range(len(STORIES)):
                acts(fleet, number, "I wait")
            with top(fleet) as seen:
                gauges_are_alike(fleet, seen)


def gauges_are_alike(fleet, seen):
    full = 2 * live.SLOTS
    eventually("both narrators are full", lambda: agents(seen(), "in_flight").get("narrator") == full)
    for title, look in GAUGES.items():
        is_alike(title, lambda look=look: look(fleet, seen()), 0)
    eventually("the rest wait", lambda: agents(seen(), "waiting") == {"narrator": len(STORIES) - full})
    eventually("the oldest is some seconds old", lambda: agents(seen(), "oldest_ms").get("narrator", 0) > 4_000)

    def oldest_is_alike():
        # The workers look every two seconds, Prometheus every second.
        (panels,) = panel(fleet, "Oldest event")
        return abs(panels["narrator"] - agents(seen(), "oldest_ms", 0.001)["narrator"]) < 3.5

    eventually("both know how old it is", oldest_is_alike)


def test_what_came_to_be_is_the_same(played):
    fleet = played
    eventually("all is answered", lambda: fleet.query("sum(storyfleet_backlog) == 0"), 60)
    with fleet.playing(NOBODY_SPEAKS):
        rates_are_alike(fleet)


def rates_are_alike(fleet):
    # What rate() makes of a counter that was nothing before is another share of it than of the rest.
    with somebody_acts(fleet, every=0.05):
        both = "count(storyfleet_turn_seconds_bucket{agent='narrator', le='0.05'} > 5) == 2"
        eventually("both narrators had quick turns", lambda: fleet.query(both), 60)
    # Top looks back a minute; where that was too short for a slow machine, once more.
    eventually("times are alike", lambda: times_are_alike(fleet), 300)


def times_are_alike(fleet):
    """Of a while in which rates were compared. Not where it was longer than top looks back."""
    # In the time that is looked at nothing else came to be.
    still = f"sum(increase(storyfleet_turn_seconds_count[{QUIET}s])) == 0"
    eventually("nothing was done for a while", lambda: fleet.query(still), 60)
    began = time.monotonic()
    with top(fleet) as seen:
        with somebody_acts(fleet):
            is_alike("Events ended", lambda: (ended(seen()), panel(fleet, "Events ended", RATES)[0]), 0.15)
            is_alike("Share given up", lambda: (given_up(seen()), panel(fleet, "Share given up", RATES)[0]), 0.15)
        eventually("all is answered", lambda: fleet.query("sum(storyfleet_backlog) == 0"), 60)
        window = f"{time.monotonic() - began + QUIET / 2:.0f}s"
        half, most, _ = panel(fleet, "A turn, and the model's part of it", window)
        (first, _) = panel(fleet, "First words", window)
        state = seen()
        if time.monotonic() - began > 55:
            return False
        for field, shown in [("turn_p50_s", half), ("turn_p99_s", most), ("first_words_p50_s", first)]:
            assert is_near(agents(state, field), shown, 0.1), (field, agents(state, field), shown)
    return True


@contextlib.contextmanager
def somebody_acts(fleet, every=0.3):
    """An action each so many seconds; one of four is said to who does not answer."""
    over = threading.Event()

    def act():
        number = 0
        while not over.wait(every):
            acts(fleet, number % len(STORIES), "I go on", to="Sibyl" if number % 4 == 0 else None)
            number += 1

    with ThreadPoolExecutor() as pool:
        acted = pool.submit(act)
        try:
            yield
        finally:
            over.set()
        acted.result()


def ended(state):
    """As the panel names them."""
    answered = {f"{agent} answered": rate for agent, rate in agents(state, "answered_per_s").items()}
    return answered | {f"{agent} buried": rate for agent, rate in agents(state, "failed_per_s").items()}


def given_up(state):
    answered, failed = agents(state, "answered_per_s"), agents(state, "failed_per_s")
    return {agent: rate / (rate + answered.get(agent, 0)) for agent, rate in failed.items()}


def is_alike(title, look, share):
    """Waits until both are near each other and there is something. What always differs is said."""
    last = []

    def are_near():
        last[:] = look()
        return last[0] and is_near(*last, share)

    try:
        eventually(title, are_near)
    except AssertionError as error:
        raise AssertionError(f"{title}: top {last[0]}, the panel {last[1]}") from error


def test_every_panel_is_compared_or_known_not_to_be_in_top():
    compared = {*GAUGES, "Oldest event", "Events ended", "Share given up", "A turn, and the model's part of it", "First words"}
    titles = [each["title"] for each in written.panels()]
    assert sorted([*compared, *NOT_IN_TOP]) == sorted(titles)
