"""A fleet is broken in each way that an alert tells of: the alert fires, the fault ends, and it clears. With real processes and
signals, a real Redis and a real Prometheus; bounds as they are written, windows and `for` as in `live.shortened`."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import live
import pytest
import written
from live import eventually

# More than fail without an alert.
CALLS = 12
# More than are dropped without an alert.
READERS = 14
STORIES = [f"story-{number}" for number in range(40)]

fired = set()


class Watch:
    """Notes each alert that fires during a test: one may be over before the test asks for it."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.noted = {}
        self.over = threading.Event()
        self.pool = ThreadPoolExecutor(1)

    def begin(self, *alerts, already=()):
        """Once none of these fires; gives what waits for them. Some may do so already."""
        self.fleet.is_quiet(*alerts)
        self.alerts = [*alerts, *already]
        self.watching = self.pool.submit(self.watch)
        return self.fires

    def watch(self):
        while not self.over.is_set():
            self.noted |= self.fleet.firing()
            self.over.wait(0.2)

    def fires(self, alert, agent=None):
        """Waits until it has fired, notes that, and sees that its words have the figures filled in."""
        assert alert in self.alerts

        def has_fired():
            if self.watching.done():
                self.watching.result()
            return self.noted.get((alert, agent))

        raised = eventually(f"{alert} {agent or ''} fires", has_fired)
        for words in raised["annotations"].values():
            assert not re.search(r"%!|<no value>|<nil>|error|\{\{", words.lower()), words
        fired.add(alert)


@pytest.fixture
def raises(fleet):
    """What a test begins with that raises alerts."""
    watch = Watch(fleet)
    yield watch.begin
    watch.over.set()
    watch.pool.shutdown()


def everybody_acts(fleet, stories=STORIES, to=None):
    for number, story in enumerate(stories):
        status, words = fleet.say(story, f"I wait for {story}", to, person=f"p{number % live.PEOPLE}")
        assert status == 202, words


def all_is_answered(fleet):
    eventually("every event is answered", lambda: fleet.query("sum(storyfleet_backlog) == 0"), 60)


def test_a_fleet_that_works_raises_nothing_but_for_its_certificate(fleet, raises):
    fires = raises(already=["StoryfleetCertificateEnds"])
    for story in STORIES:
        fleet.tell(story)
    everybody_acts(fleet)
    everybody_acts(fleet, STORIES[:4], to="Sibyl")
    eventually("all is answered", lambda: fleet.query('sum(storyfleet_events_total{outcome="answered"}) >= 44'))
    fires("StoryfleetCertificateEnds")
    assert {name for name, _ in fleet.firing()} == {"StoryfleetCertificateEnds"}
    fleet.certify(days=90)
    fleet.is_quiet("StoryfleetCertificateEnds")


def test_a_model_that_fails_refuses_and_throttles(fleet, raises):
    fires = raises("StoryfleetModelRefuses", "StoryfleetModelFails", "StoryfleetModelThrottles",
                   "StoryfleetActionsFail", "StoryfleetDeadLetters", "StoryfleetModelsOpen",
                   "StoryfleetModelOpen")  # fmt: skip
    scenario = (
        "rules:\n"
        "- {when: {agent: dialogue}, reply: {fault: unauthorized}}\n"
        "- {when: {agent: narrator, probability: 0.5}, reply: {fault: rate_limit(1)}}\n"
        "- {when: {agent: narrator}, reply: {fault: error_500}}\n"
    )
    with fleet.playing(scenario):
        # Who begins takes as many as it has slots: once a model is left alone nobody takes more.
        with fleet.without("narrator-1", "narrator-2", "dialogue-1"):
            everybody_acts(fleet, STORIES[:20])
            everybody_acts(fleet, STORIES[20:], to="Sibyl")
        fires("StoryfleetModelRefuses", "dialogue")
        fires("StoryfleetActionsFail", "dialogue")
        fires("StoryfleetModelThrottles", "narrator")
        fires("StoryfleetModelFails", "narrator")
        fires("StoryfleetDeadLetters", "narrator")
        fires("StoryfleetModelOpen", "narrator")
        fires("StoryfleetModelsOpen", "narrator")
    all_is_answered(fleet)
    # What was given up on after the first time.
    fleet.storyfleet("dead", "redrive", "--all")
    fleet.is_quiet("StoryfleetDeadLetters")
    all_is_answered(fleet)


def test_a_worker_that_stands_still_and_more_to_do_than_workers(fleet, raises):
    fires = raises("StoryfleetLeasesLost", "StoryfleetBacklogHigh")
    with fleet.playing("rules:\n- {reply: {fault: stall(2)}}\n"):
        # The first narrator has all of it when it stands still, and the second takes it over.
        with fleet.frozen("narrator-2"):
            everybody_acts(fleet, STORIES[: live.SLOTS])
            is_full(fleet, "narrator-1")
        with fleet.frozen("narrator-1"):
            is_full(fleet, "narrator-2")
        fires("StoryfleetLeasesLost", "narrator")
        everybody_acts(fleet)
        fires("StoryfleetBacklogHigh", "narrator")
    # Before the next deaths: an event of which three workers died is given up on.
    all_is_answered(fleet)


def is_full(fleet, worker):
    """Waits until a worker is at as many events as it has slots for."""
    instance = f"127.0.0.1:{fleet.ports[worker]}"
    full = f'storyfleet_in_flight{{instance="{instance}"}} == {live.SLOTS}'
    eventually(f"{worker} is full", lambda: fleet.query(full))


def flood(fleet, readers):
    """Long texts, until all readers have fallen behind and there is more than their system would still take for them."""
    written = 0

    def is_behind():
        nonlocal written
        for _ in range(20):
            status, words = fleet.say("flood", f"{written} " + "words " * 9_500, person=f"p{written % live.PEOPLE}")
            assert status == 202, words
            written += 1
        counted = re.search(r"^storyfleet_gateway_lagged_total (\d+)$", fleet.metrics("gateway-1"), re.MULTILINE)
        return int(counted[1]) >= readers

    eventually("all readers are behind", is_behind)
    for _ in range(3):
        is_behind()


def drain(reader):
    """Reads what is there."""
    reader.setblocking(False)
    try:
        while reader.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


def readers_who_are_slow(fleet, fires):
    fleet.tell("flood")
    with ExitStack() as connected:
        reads = [fleet.reads("flood", f"p{number}", buffer=4096) for number in range(READERS)]
        late, *_ = [connected.enter_context(reader) for reader in reads]
        flood(fleet, READERS)
        # One has fallen behind and catches up; the others never read.

        def caught_up():
            drain(late)
            return ("StoryfleetReadersLate", None) in fleet.firing()

        eventually("the late one reads what is old", caught_up)
        fires("StoryfleetReadersLate")
        fires("StoryfleetReadersDropped")


@contextmanager
def purged(fleet, agent):
    """What is given up on meanwhile is no dead letter afterwards."""
    try:
        yield
    finally:
        all_is_answered(fleet)
        for letter in fleet.storyfleet("dead", "list", agent, "--json").splitlines():
            fleet.storyfleet("dead", "purge", agent, json.loads(letter)["id"])


def test_everybody_who_could_answer_is_dead_for_half_a_minute(fleet, raises):
    fires = raises("StoryfleetNoWorker", "StoryfleetActionsUnanswered", "StoryfleetAnswersSlow", "StoryfleetDeadLetters",
                   "StoryfleetFirstWordsSlow", "StoryfleetReadersDropped", "StoryfleetReadersLate")  # fmt: skip
    with purged(fleet, "dialogue"):
        with fleet.without("narrator-1", "narrator-2", "dialogue-1"):
            died = time.monotonic()
            everybody_acts(fleet)
            # By the id of its entry it waits for five minutes. Nobody can read it.
            old = f"{int(time.time() * 1000) - 300_000}-0"
            fleet.redis("DEL", "sf:{0}:work:dialogue")
            fleet.redis("XADD", "sf:{0}:work:dialogue", old, "what", "no event")
            fires("StoryfleetNoWorker", "narrator")
            fires("StoryfleetNoWorker", "dialogue")
            fires("StoryfleetActionsUnanswered", "dialogue")
            readers_who_are_slow(fleet, fires)
            # So long did people really wait.
            eventually("31 s are over", lambda: time.monotonic() - died > 31)
        fires("StoryfleetDeadLetters", "dialogue")
        fires("StoryfleetAnswersSlow", "narrator")
        fires("StoryfleetFirstWordsSlow", "narrator")
        assert len(fleet.storyfleet("dead", "list", "dialogue", "--json").splitlines()) == 1


@contextmanager
def spoilt(file):
    good = file.read_text()
    file.write_text("no front matter")
    try:
        yield
    finally:
        file.write_text(good)


def test_tokens_limits_and_prompts(fleet, raises):
    fires = raises("StoryfleetTokensRefused", "StoryfleetGatewayRefuses", "StoryfleetPromptsStale")
    forged = fleet.token("p0")[:-4] + "AAAA"
    with spoilt(fleet.folder / "prompts/moderator/judge.md"):
        for _ in range(40):
            assert fleet.post("stories/story-0/events", {"mode": "do", "text": "I"}, token=forged)[0] == 401
            fleet.say("story-0", "I shout", person="loud")
        fires("StoryfleetTokensRefused")
        fires("StoryfleetGatewayRefuses")
        fires("StoryfleetPromptsStale", "moderator")


def test_a_redis_that_hangs(fleet, raises):
    fires = raises("StoryfleetRedisAway", "StoryfleetPublishesFail")
    with fleet.frozen("redis"):
        with ThreadPoolExecutor(CALLS) as callers:
            calls = [callers.submit(fleet.say, "story-1", "I call", person=f"p{number}") for number in range(CALLS)]
        assert [call.result()[0] for call in calls] == [503] * CALLS
        fires("StoryfleetRedisAway")
        fires("StoryfleetPublishesFail")


def test_a_limit_that_is_too_low(fleet, raises):
    fires = raises("StoryfleetModelLimited")
    models = fleet.folder / "models.yaml"
    granted = models.read_text()
    models.write_text("models: {mock: {window: 128000, calls_at_once: 1}}\n")
    with fleet.told("narrator-1"):
        eventually("it has read that", lambda: fleet.answers(f"{fleet.internal('narrator-1')}/readyz"))
        models.write_text(granted)
        with fleet.frozen("narrator-2"), fleet.playing("rules:\n- {reply: {fault: stall(2)}}\n"):
            everybody_acts(fleet, STORIES[: live.SLOTS])
            fires("StoryfleetModelLimited", "narrator")
    all_is_answered(fleet)


def test_replicas_that_are_not_there(fleet, raises):
    fires = raises("StoryfleetNotReplicated")
    with fleet.told("narrator-1", STORYFLEET_WAIT_REPLICAS="1"):
        with fleet.frozen("narrator-2"):
            everybody_acts(fleet, STORIES[: live.SLOTS])
            fires("StoryfleetNotReplicated")
    all_is_answered(fleet)


def test_no_gateway(fleet, raises):
    fires = raises("StoryfleetNoGateway")
    with fleet.without("gateway-1", "gateway-2"):
        fires("StoryfleetNoGateway")


def test_in_the_end_every_alert_has_fired_and_none_does(fleet):
    assert fired == written.rules().keys()
    fleet.is_quiet(*written.rules())
    all_is_answered(fleet)
