"""A WebSocket server of another make (the `websockets` library) that does wrong on purpose.

    python tests/support/faulty_server.py [CERTIFICATES]

Prints its port, and `opened` for each connection. Paths: /echo; /echo/FAULT and /room/FAULT, where
FAULT is one of those below; /busy closes with 1013;
/events/COUNT has a protocol of its own. Faults hit messages by the number that
`fanbus bench` puts into them, so each of them happens a known number of times.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

DROPPED = (5, 6, 20)
DOUBLED = 7
SWAPPED = 9
HELD, RELEASED = 20, 50


def number_of(message: str) -> int:
    """The number in a message of `fanbus bench`: seven digits of six bits behind the run's five."""
    digits = (ord(digit.replace("p", "\\")) - ord("0") for digit in message[5:12])
    return sum(digit << 6 * place for place, digit in enumerate(digits))


class Filter:
    """What becomes of the messages to one client."""

    def __init__(self, fault: str, is_victim: bool) -> None:
        self.fault = fault
        self.is_victim = is_victim
        self.kept: list[str] = []

    def outcome(self, message: str) -> list[str]:
        """What is sent in place of this message, now."""
        number = number_of(message)
        if self.fault == "double":
            return [message] * (2 if number == DOUBLED else 1)
        if self.fault == "hold":
            return self._hold(number, message)
        if not self.is_victim:
            return [message]
        if self.fault == "drop" and number in DROPPED:
            return []
        if self.fault == "swap" and number == SWAPPED:
            self.kept.append(message)
            return []
        if self.fault == "swap" and number == SWAPPED + 1:
            return [message, self.kept.pop()]
        if self.fault == "alter" and number == DOUBLED:
            return [message + "!"]
        return [message]

    def _hold(self, number: int, message: str) -> list[str]:
        """A stall: nothing from one message on, until another one has come."""
        if HELD <= number <= RELEASED:
            self.kept.append(message)
            if number < RELEASED:
                return []
            released, self.kept = self.kept, []
            return released
        return [message]


rooms: dict[str, dict[ServerConnection, Filter]] = {}


async def handle(ws: ServerConnection) -> None:
    """Serves one client, until it goes in whatever way."""
    with suppress(ConnectionClosed):
        await attend(ws)


async def attend(ws: ServerConnection) -> None:
    """What its path says."""
    assert ws.request is not None
    say("opened")
    kind, _, fault = ws.request.path.strip("/").partition("/")
    if kind == "busy":
        await ws.close(1013)
    elif kind == "hello":
        said = [f"{await ws.recv(decode=True)}, {ws.subprotocol}, {ws.request.headers['X-Token']}"]
        say(said[0])
        async for message in ws:
            await ws.send(message)
    elif kind == "events":
        await events(ws, int(fault))
    elif kind == "echo":
        own = Filter(fault, is_victim=True)
        async for message in ws:
            for part in own.outcome(str(message)):
                await ws.send(part)
    else:
        await share(ws, fault)


waiting: list[ServerConnection] = []
greeted: set[ServerConnection] = set()


async def events(ws: ServerConnection, count: int) -> None:
    """An echo of JSON arrays. Who speaks before so many have come and been greeted is sent away."""
    await ws.send('0{"sid":"a"}')
    assert await ws.recv() == "40"
    waiting.append(ws)
    if len(waiting) == count:
        crowd = list(waiting)
        waiting.clear()
        for each in crowd:
            # Who does not wait for the greeting has spoken by then.
            await (await each.ping())
        for each in crowd:
            greeted.add(each)
            await each.send("40{}")
    async for message in ws:
        if ws not in greeted:
            await ws.close(1002)
            return
        name, text = json.loads(str(message).removeprefix("42"))
        await ws.send("2")
        await ws.send("42" + json.dumps([name, text], separators=(",", ":")))


async def share(ws: ServerConnection, fault: str) -> None:
    """The first client of a room is the victim of its fault."""
    room = rooms.setdefault(fault, {})
    room[ws] = Filter(fault, is_victim=not room)
    try:
        async for message in ws:
            for client, each in list(room.items()):
                for part in each.outcome(str(message)):
                    await client.send(part)
    finally:
        del room[ws]


def refuse(ws: ServerConnection, request: Request) -> Response | None:
    """Only these paths are WebSockets."""
    if request.path.split("/")[1] in ("echo", "room", "busy", "hello", "events"):
        return None
    return ws.respond(404, "no such path")


def choose(ws: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The only one that it speaks; who asks for none gets none."""
    return next((name for name in offered if name == "chat.v2"), None)


def say(text: str) -> None:
    """To who started it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main() -> None:
    """Serves until a signal ends it."""
    # Nobody reads what it would say of handshakes that fail.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    context = None
    if len(sys.argv) > 1:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[1])
    server: Server = await serve(
        handle,
        "127.0.0.1",
        0,
        process_request=refuse,
        select_subprotocol=choose,
        ssl=context,
        ping_interval=None,
    )
    say(f"port {next(iter(server.sockets)).getsockname()[1]}")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
