"""Slow downloads: many clients that read a large file a little at a time.

The figure is the growth of the server's processes meanwhile. It excludes the kernel's memory for a
socket, which is the same for every server.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from typing import Any

from fanbus_bench._core import bench_memory

from .serving import ServerError

# A client reads so much, and rests: 160 KiB a second.
READ_BYTES, REST_S = 16 << 10, 0.1
CONNECTING_AT_A_TIME = 20
# How often it is looked how large the server is.
LOOK_S = 0.1
ANSWER_S = 30.0
LAST_CHUNK = b"0\r\n\r\n"


class Download:
    """One client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        # None: the file comes in chunks, of which the last one is empty.
        self._left: int | None = None
        self._end = b""

    @classmethod
    async def begin(cls, path: str, port: int) -> Download:
        """Asks for a file, and reads the head of the answer."""
        # Little is read ahead of what the client takes.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
        download = cls(reader, writer)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_S)
            download._left = length_in(path, head)
        except BaseException:
            await download.close()
            raise
        return download

    @property
    def is_whole(self) -> bool:
        return self._end == LAST_CHUNK if self._left is None else self._left == 0

    async def read(self) -> bool:
        """Takes a little of it. False: nothing more comes."""
        if self.is_whole:
            return False
        data = await self._reader.read(READ_BYTES)
        if self._left is None:
            self._end = (self._end + data)[-len(LAST_CHUNK) :]
        else:
            self._left -= len(data)
        return bool(data)

    async def read_slowly(self) -> None:
        """Until it is ended from outside, or has all, or the server has closed."""
        while await self.read():
            await asyncio.sleep(REST_S)

    async def read_all(self) -> None:
        while await self.read():
            pass
        if not self.is_whole:
            raise ServerError("a file was not whole")

    async def close(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def length_in(path: str, head: bytes) -> int | None:
    """The length that the head of a response names. ServerError if it is an error."""
    status, _, fields = head.partition(b"\r\n")
    if status.split()[1] != b"200":
        raise ServerError(f"{path}: {status.decode(errors='replace')}")
    names = (line.partition(b":") for line in fields.split(b"\r\n"))
    lengths = (int(value) for name, _, value in names if name.lower() == b"content-length")
    return next(lengths, None)


async def _downloads(path: str, pid: int, port: int, count: int, seconds: float) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:

        async def begun() -> Download:
            download = await Download.begin(path, port)
            stack.push_async_callback(download.close)
            return download

        # The first one has costs of its own, in threads and buffers.
        first = await begun()
        await first.read_all()
        before = bench_memory(pid)
        downloads: list[Download] = []
        while len(downloads) < count:
            some = min(CONNECTING_AT_A_TIME, count - len(downloads))
            downloads += await asyncio.gather(*(begun() for _ in range(some)))
        reading = [asyncio.ensure_future(download.read_slowly()) for download in downloads]
        largest, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_S)
            largest = max(largest, bench_memory(pid))
        ended = sum(each.done() for each in reading)
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return {
        "delivered": count - ended,
        "missing": ended,
        "idle": {"pss_per_connection_kib": max(0.0, largest - before) * 1024 / count},
    }


def downloads(path: str, pid: int, port: int, count: int, seconds: float) -> dict[str, Any]:
    """The memory of each of so many clients, named as that of an idle one in `fanbus bench`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.run(_downloads(path, pid, port, count, seconds))
