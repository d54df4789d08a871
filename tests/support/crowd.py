"""Many WebSocket clients in one process, lean enough for hundreds of them.

Each notes what it got as (kind, length, checksum), so that whole histories can be compared.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from support.raw_websocket import BINARY, CLOSE, PING, PONG, TEXT, closing, encode, upgrade_request

_STREAM_LIMIT = 4 * 1024 * 1024


class Note(NamedTuple):
    """What is kept of a message."""

    opcode: int
    length: int
    checksum: int


def note(message: str | bytes) -> Note:
    """The note of a message that gets through unchanged."""
    opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
    return Note(opcode, len(payload), zlib.crc32(payload))


class Client:
    """One client. `notes` grows in the background until the connection ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.notes: list[Note] = []
        self.greeting: str | None = None
        self.close_code: int | None = None
        """None while open; 1006 if the connection broke."""

        self.close_reason = ""

        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        """How many messages somebody waits for."""

        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, port: int, path: str, *, greeted: bool) -> Client:
        """Connects. With `greeted`, waits for the message `in PID` and keeps it as `greeting`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_STREAM_LIMIT)
        client = cls(reader, writer)
        try:
            await client._greet(path, greeted)
        except BaseException:
            writer.close()
            raise
        client._task = asyncio.create_task(client._read())
        return client

    async def _greet(self, path: str, greeted: bool) -> None:
        request, _ = upgrade_request(path)
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        while greeted and self.greeting is None:
            opcode, payload = await self._frame()
            if opcode == TEXT and payload.startswith(b"in "):
                self.greeting = payload.decode()
            else:  # the handler subscribes before it greets: others may speak in between
                self.notes.append(Note(opcode, len(payload), zlib.crc32(payload)))

    async def send(self, message: str | bytes) -> None:
        """Sends one message; waits while the socket is full."""
        opcode, payload = (
            (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        )
        self._writer.write(encode(opcode, payload))
        await self._writer.drain()

    async def got(self, count: int, *, deadline_s: float = 40) -> None:
        """Until `count` messages are here. AssertionError if the connection ends before."""
        if len(self.notes) < count and self.close_code is None:
            reached = asyncio.get_running_loop().create_future()
            self._waiting.append((count, reached))
            await asyncio.wait([reached], timeout=deadline_s)
        assert len(self.notes) >= count, (
            f"{len(self.notes)} of {count} messages; "
            f"greeted with {self.greeting!r}, closed with {self.close_code}"
        )

    async def ended(self) -> int:
        """Until the connection is closed; the code."""
        assert self._task is not None
        await asyncio.wait([self._task])
        assert self.close_code is not None
        return self.close_code

    async def close(self) -> None:
        """Says goodbye if it still can, and ends the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(ConnectionError):
            if self.close_code is None:
                self._writer.write(encode(CLOSE, closing(1000)))
            self._writer.close()
            await self._writer.wait_closed()

    async def _frame(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
        payload = await self._reader.readexactly(length) if length else b""
        assert first & 0xF0 == 0x80, f"no fragments are expected: {first:#x}"
        return first & 0x0F, payload

    async def _read(self) -> None:
        code = 1006
        try:
            while True:
                opcode, payload = await self._frame()
                if opcode == PING:
                    self._writer.write(encode(PONG, payload))
                elif opcode == CLOSE:
                    code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                    self.close_reason = payload[2:].decode()
                    return
                else:
                    self.notes.append(Note(opcode, len(payload), zlib.crc32(payload)))
                    if self._waiting:
                        self._tell(len(self.notes))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.close_code = code
            self._tell(None)

    def _tell(self, count: int | None) -> None:
        """Wakes who has waited for so many messages; None: everybody."""
        for waiting in list(self._waiting):
            wanted, reached = waiting
            if count is None or wanted <= count:
                self._waiting.remove(waiting)
                if not reached.done():
                    reached.set_result(None)


async def open_crowd(
    port: int, doors: Iterable[tuple[str, bool]], *, at_a_time: int = 50
) -> list[Client]:
    """One client per door: a path, and whether the server greets there."""
    gate = asyncio.Semaphore(at_a_time)

    async def one(path: str, greeted: bool) -> Client:
        async with gate:
            return await Client.open(port, path, greeted=greeted)

    return list(await asyncio.gather(*(one(path, greeted) for path, greeted in doors)))


async def close_crowd(clients: Iterable[Client]) -> None:
    """All of them."""
    await asyncio.gather(*(client.close() for client in clients))
