"""A burst: one program publishes messages to thousands of users, each with a topic of its own.

It counts the messages that arrive, and the connections that end. Fanbus gets one request to publish
in a loop; Centrifugo gets all commands in one batch.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import resource
import time
from dataclasses import dataclass
from typing import Any

from .serving import ServerError, cpu_seconds

# Stands once in each message, so that nothing needs to be decoded to count.
MARK = b"notify:"
CONNECTING_AT_A_TIME = 100
ANSWER_S = 60.0
# When nothing has come for so long, nothing more is expected.
SILENCE_S = 3.0
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass(frozen=True)
class Burst:
    """`each` messages of `bytes` to each of `users`."""

    users: int
    each: int
    bytes: int

    @property
    def text(self) -> str:
        return MARK.decode() + "x" * (self.bytes - len(MARK))


class User(asyncio.Protocol):
    """One connection, which counts. It is in when `greeting` has come."""

    def __init__(self, first: bytes, then: bytes, greeting: bytes) -> None:
        self._first, self._then, self._greeting = first, then, greeting
        self._rest = b""
        self.is_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = 0
        self.is_closed = False
        self.last_s = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._first)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.is_in.done():
            self._rest = data
            if self._then and b"\r\n\r\n" in data:
                assert self.transport is not None
                self.transport.write(self._then)  # not sooner: some end the connection for that
                self._then = b""
            if self._greeting in data:
                self._rest = b""
                self.is_in.set_result(None)
            return
        self.received += data.count(MARK)
        self._rest = data[-(len(MARK) - 1) :]
        self.last_s = time.monotonic()

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True
        if not self.is_in.done():
            self.is_in.set_exception(ConnectionError("a connection was refused"))


def masked(text: str) -> bytes:
    """A client's frame, with a mask of zeros. At most 125 bytes."""
    payload = text.encode()
    assert len(payload) <= 125
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


def user(path: str, port: int, number: int) -> User:
    """How a system's client subscribes: by the path, or with two commands of Centrifugo's."""
    first = HANDSHAKE.format(path=path.replace("USER", str(number)), port=port).encode()
    if "USER" in path:
        return User(first, b"", b"\r\n\r\n")
    commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": f"user-{number}"}}]
    then = masked("\n".join(json.dumps(command) for command in commands))
    return User(first, then, b'"id":2')


def publish(path: str, port: int, burst: Burst) -> None:
    """All of the burst, in one request."""
    headers = {"Content-Type": "application/json"}
    if "USER" in path:
        to, body = "/notify", json.dumps(vars(burst))
    else:
        data = {"text": burst.text}
        commands = [
            {"publish": {"channel": f"user-{number}", "data": data}}
            for _ in range(burst.each)
            for number in range(burst.users)
        ]
        to, body = "/api/batch", json.dumps({"commands": commands})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("POST", to, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ServerError(f"{to}: {answer.status} {content[:100]!r}")
    finally:
        connection.close()


async def _notify(path: str, pid: int, port: int, burst: Burst) -> dict[str, Any]:
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTING_AT_A_TIME)

    async def connect(number: int) -> User:
        async with gate:
            _, one = await loop.create_connection(
                lambda: user(path, port, number), "127.0.0.1", port
            )
            await one.is_in
            return one

    users = await asyncio.gather(*map(connect, range(burst.users)))
    due, begun, used = burst.users * burst.each, time.monotonic(), cpu_seconds(pid)
    await asyncio.to_thread(publish, path, port, burst)
    answered = time.monotonic()
    while True:
        received = sum(one.received for one in users)
        last = max(one.last_s for one in users)
        if received >= due or time.monotonic() - max(last, answered) > SILENCE_S:
            break
        await asyncio.sleep(0.02)
    seconds = max(last, answered) - begun
    run = {
        "delivered": received,
        "missing": due - received,
        "closed": sum(one.is_closed for one in users),
        "per_second": received / seconds,
        "server": {"cpu_us_per_unit": (cpu_seconds(pid) - used) * 1e6 / max(received, 1)},
        "answered_ms": (answered - begun) * 1000,
    }
    for one in users:
        if one.transport is not None:
            one.transport.abort()
    return run


def notify(path: str, pid: int, port: int, burst: Burst) -> dict[str, Any]:
    """The figures of one burst, as those of `fanbus bench --json`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.run(_notify(path, pid, port, burst))
