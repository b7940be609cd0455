"""The gateway through Python's `websockets`: each way to say who one is, cuts in the middle of an answer, refusals."""

import asyncio
import base64
import json

import httpx
from reading import BEARER, CUTS, GATEWAY, STORY, TOKEN, Reading
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SOCKET = GATEWAY.replace("http", "ws", 1) + "/v1/ws"
PROTOCOL = "storyfleet.v1"


def ticket():
    return httpx.post(f"{GATEWAY}/v1/tickets", headers=BEARER, json={}, trust_env=False).raise_for_status().json()["ticket"]


def dial(path="", protocols=(), headers=None):
    return connect(SOCKET + path, subprotocols=[PROTOCOL, *protocols], additional_headers=headers, proxy=None)


def by_header():
    return dial(headers=BEARER)


def by_subprotocol():
    return dial(protocols=["base64url.bearer." + base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")])


def by_ticket():
    return dial(f"?ticket={ticket()}")


def by_message():
    return dial()


async def ask(socket, message):
    await socket.send(json.dumps({**message, "ref": "asked"}))
    while True:
        answer = json.loads(await socket.recv())
        if answer.get("ref") == "asked":
            return answer


async def enter(way, cursor):
    socket = await way()
    assert socket.subprotocol == PROTOCOL, socket.subprotocol
    if way is by_message:
        assert (await ask(socket, {"t": "auth", "token": TOKEN}))["t"] == "ok"
    join = {"t": "join", "story": STORY, "ref": "joined"}
    await socket.send(json.dumps(join if cursor is None else {**join, "cursor": cursor}))
    return socket


async def answer(name, ways, cuts):
    """One answer by its deltas. The connection breaks off at each cut and is opened anew by the next way."""
    reading, left, action = Reading(), list(cuts), None
    for way in ways:
        socket = await enter(way, reading.cursor)
        while action is None or action not in reading.committed:
            message = json.loads(await socket.recv())
            if message.get("ref") == "joined":
                assert message["t"] == "ok", message
                if action is None:
                    event = {"mode": "do", "text": f"I look, {name}."}
                    await socket.send(json.dumps({"t": "publish", "story": STORY, "event": event, "ref": "said"}))
            elif message.get("ref") == "said":
                action = message["id"]
            elif message["t"] != "welcome" and reading.take(message) == "delta":
                if left and reading.deltas == left[0]:
                    left.pop(0)
                    break
        socket.transport.abort()
    assert not left, f"cuts {left} were not made"
    reading.compare(f"websockets, {name}", action, len(cuts))


async def refused():
    for name, way in [
        ("a wrong token", lambda: dial(headers={"authorization": f"Bearer {TOKEN}x"})),
        ("a ticket used twice", lambda used=ticket(): dial(f"?ticket={used}")),
    ]:
        if name.startswith("a ticket"):
            async with way() as first:
                assert json.loads(await first.recv())["t"] == "welcome"
        async with way() as socket:
            told = json.loads(await socket.recv())
            assert (told["t"], told["code"]) == ("err", "auth"), told
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                assert closed.rcvd.code == 4401, closed
        print(f"ok websockets, {name}: {told['message']!r}, closed with 4401", flush=True)


async def main():
    await answer("by header, uncut", [by_header], [])
    await answer("each way, cut again", [by_header, by_subprotocol, by_ticket, by_message, by_header], CUTS)
    await refused()


asyncio.run(asyncio.wait_for(main(), 90))
