"""The gateway through `curl -N`, which is killed in the middle of an answer and goes on with `Last-Event-ID`."""

import json
import subprocess

from reading import CUTS, GATEWAY, STORY, TOKEN, Reading

STREAM = f"{GATEWAY}/v1/stories/{STORY}/stream"
AUTH = f"authorization: Bearer {TOKEN}"


def command(*arguments):
    return ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60", *arguments]


def post(body):
    sent = command("-f", "-H", AUTH, "-H", "content-type: application/json", "-d", json.dumps(body), f"{GATEWAY}/v1/stories/{STORY}/events")
    return json.loads(subprocess.run(sent, check=True, capture_output=True).stdout)


def blocks(lines):
    """The fields of each block of the stream, as curl prints them."""
    block = {}
    for line in lines:
        name, _, value = line.rstrip("\n").partition(":")
        if name:
            block[name] = value.removeprefix(" ")
        elif block:
            yield block
            block = {}


def answer(name, cuts):
    """One answer by its deltas. At each cut curl is killed."""
    reading, left, action = Reading(), list(cuts), None
    while action is None or action not in reading.committed:
        last = [] if reading.cursor is None else ["-H", f"last-event-id: {reading.cursor}"]
        curl = subprocess.Popen(command("-N", "-H", AUTH, *last, STREAM), stdout=subprocess.PIPE, encoding="utf-8")
        for block in blocks(curl.stdout):
            if action is None:
                # What comes first is when to come back: it listens.
                assert int(block["retry"]) > 0, block
                action = post({"mode": "do", "text": f"I look, {name}."})["id"]
            elif "data" in block:
                message = json.loads(block["data"])
                # Who is here, say, is no place to come back to.
                assert message.get("cursor") == block.get("id")
                assert reading.take(message) == block["event"]
                if left and reading.deltas == left[0]:
                    left.pop(0)
                    break
                if action in reading.committed:
                    break
        curl.kill()
        curl.wait()
    assert not left, f"cuts {left} were not made"
    reading.compare(f"curl, {name}", action, len(cuts))


def refused():
    sent = command("-N", "-w", "%{http_code}", "-H", AUTH + "x", STREAM)
    told, _, status = subprocess.run(sent, check=True, capture_output=True, encoding="utf-8").stdout.rpartition("\n")
    (block,) = blocks(told.splitlines(keepends=True) + ["\n"])
    error = json.loads(block["data"])
    assert (status, block["event"], error["code"]) == ("200", "error", "auth"), (status, block)
    print(f"ok curl, a wrong token: in band, {error['message']!r}, retry {block['retry']}", flush=True)


answer("uncut", [])
answer("cut again", CUTS)
refused()
