"""What a reader of a story has read, by the protocol's words alone: each piece must join exactly to what is there."""

import hashlib
import os

GATEWAY = os.environ["GATEWAY"]
TOKEN = os.environ["TOKEN"]
STORY = os.environ["STORY"]
BEARER = {"authorization": f"Bearer {TOKEN}"}
# A cut after so many deltas of an answer; it is longer than that.
CUTS = [2, 5, 9, 14]


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Reading:
    def __init__(self):
        self.cursor = None
        self.seq = 0
        self.drafts = {}
        self.committed = {}
        self.deltas = self.snapshots = 0

    def take(self, message):
        """Gives the type of the message."""
        kind = message["t"]
        if kind == "delta":
            self.delta(message)
        elif kind == "snapshot":
            self.snapshot(message)
        elif kind == "event":
            self.event(message)
        assert kind not in ("gap", "err", "reset", "bye"), message
        self.cursor = message.get("cursor", self.cursor)
        return kind

    def delta(self, message):
        self.deltas += 1
        attempt, upto, text = self.drafts.get(message["re"], (message["attempt"], 0, ""))
        assert (attempt, upto) == (message["attempt"], message["i"]), f"{message} comes after {attempt}, {upto}"
        self.drafts[message["re"]] = (attempt, upto + message["n"], text + message["text"])

    def snapshot(self, message):
        self.snapshots += 1
        assert message["re"] not in self.drafts, f"{message} is no news"
        self.drafts[message["re"]] = (message["attempt"], message["upto"], message["text"])

    def event(self, message):
        event = message["event"]
        assert self.seq in (0, message["seq"] - 1), f"{message} comes after {self.seq}"
        self.seq = message["seq"]
        if event["type"] == "narration":
            self.committed[event["cause"][0]] = event

    def compare(self, name, action, cuts):
        """The text of the deltas with that of the event."""
        event = self.committed[action]
        _, upto, text = self.drafts[event["id"]]
        read, told = sha256(text), sha256(event["text"])
        print(
            f"ok {name}: {cuts} cuts, {upto} chunks in {self.deltas} deltas and {self.snapshots} snapshots, "
            f"{len(text)} of {len(event['text'])} characters, sha256 {read} = {told}",
            flush=True,
        )
        assert read == told, f"read {text!r}, committed {event['text']!r}"
        assert self.snapshots == 0 and self.deltas > CUTS[-1], f"{self.deltas} deltas, {self.snapshots} snapshots"
