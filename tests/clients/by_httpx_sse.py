"""The gateway through Python's `httpx-sse`: cuts in the middle of an answer, `Last-Event-ID`, errors in band."""

import httpx
from httpx_sse import connect_sse
from reading import BEARER, CUTS, GATEWAY, STORY, TOKEN, Reading

STREAM = f"{GATEWAY}/v1/stories/{STORY}/stream"
http = httpx.Client(trust_env=False, timeout=60)


def post(path, body):
    return http.post(GATEWAY + path, headers=BEARER, json=body).raise_for_status().json()


def by_header():
    return {"headers": BEARER}


def by_ticket():
    return {"params": {"ticket": post("/v1/tickets", {})["ticket"]}}


def entered(way, last):
    entry = way()
    if last is not None:
        entry["headers"] = {**entry.get("headers", {}), "last-event-id": last}
    return connect_sse(http, "GET", STREAM, **entry)


def events(source):
    """Without those that have no data: httpx-sse makes one of a comment or `retry:` alone, and the standard none."""
    return (sent for sent in source.iter_sse() if sent.data)


def answer(name, ways, cuts):
    """One answer by its deltas. The connection is closed at each cut and opened anew by the next way."""
    reading, left, action = Reading(), list(cuts), None
    for way in ways:
        with entered(way, reading.cursor) as source:
            assert source.response.status_code == 200
            place = ""
            if action is None:
                action = post(f"/v1/stories/{STORY}/events", {"mode": "do", "text": f"I look, {name}."})["id"]
            for sent in events(source):
                message = sent.json()
                # Who is here, say, is no place to come back to: the last one stays.
                place = message.get("cursor", place)
                assert (sent.event, sent.id) == (message["t"], place)
                if reading.take(message) == "delta" and left and reading.deltas == left[0]:
                    left.pop(0)
                    break
                if action in reading.committed:
                    break
    assert not left, f"cuts {left} were not made"
    reading.compare(f"httpx-sse, {name}", action, len(cuts))


def refused():
    used = by_ticket()
    with connect_sse(http, "GET", STREAM, **used) as source:
        assert next(sent for sent in events(source) if "cursor" in sent.json()).event == "event"
    for name, entry, code in [
        ("no token", {}, "auth"),
        ("a wrong token", {"headers": {"authorization": f"Bearer {TOKEN}x"}}, "auth"),
        ("a token in the query", {"params": {"access_token": TOKEN}}, "auth"),
        ("a ticket used twice", used, "auth"),
    ]:
        with connect_sse(http, "GET", STREAM, **entry) as source:
            assert source.response.status_code == 200
            (told,) = events(source)
        assert (told.event, told.json()["code"]) == ("error", code), told
        assert told.retry and told.retry >= 1_000, told
        print(f"ok httpx-sse, {name}: in band, {told.json()['message']!r}, retry {told.retry}", flush=True)


answer("by header, uncut", [by_header], [])
answer("each way, cut again", [by_header, by_ticket, by_header, by_ticket, by_header], CUTS)
refused()
