"""Bursts: so many requests at once, each on a connection of its own, and then a rest.

An open loop at a rate comes evenly, and a closed one has as many requests at all times. The
requests of a page in a browser, or the jobs of a scheduler, come together. How long they wait on
average says whether an answer leaves when it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from typing import Any

from fanbus_bench._core import bench_memory

from .serving import ServerError, cpu_seconds

Figures = dict[str, Any]

REST_S = 0.02
ANSWER_S = 30.0


class Asker:
    """One connection, which asks and waits."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Asker:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, path: str) -> float:
        """Seconds until the answer was whole."""
        began = time.perf_counter()
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, _, fields = head.partition(b"\r\n")
        if status.split()[1] != b"200":
            raise ServerError(f"{path}: {status.decode(errors='replace')}")
        names = (line.partition(b":") for line in fields.split(b"\r\n"))
        length = next((int(value) for name, _, value in names if name.lower() == b"content-length"))
        await self._reader.readexactly(length)
        return time.perf_counter() - began

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def _bursts(path: str, pid: int, port: int, size: int, times: tuple[float, float]) -> Figures:
    async with contextlib.AsyncExitStack() as stack:
        askers = []
        for _ in range(size):
            askers.append(await Asker.connect(port))
            stack.push_async_callback(askers[-1].close)
        return await _measured(askers, path, pid, times)


async def _measured(
    askers: Sequence[Asker], path: str, pid: int, times: tuple[float, float]
) -> Figures:
    seconds, warmup = times
    waits: list[float] = []
    begun, used, began = False, 0.0, time.monotonic()
    while (now := time.monotonic()) < began + warmup + seconds or not waits:
        if not begun and now >= began + warmup:
            begun, used = True, cpu_seconds(pid)
        tasks = [asyncio.ensure_future(asker.ask(path)) for asker in askers]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
            if begun:
                waits.append(each)
        await asyncio.sleep(REST_S)
    used = cpu_seconds(pid) - used
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {
        "delivered": len(waits),
        "missing": 0,
        "per_second": len(waits) / (time.monotonic() - began - warmup),
        "latency_us": {
            "mean": statistics.fmean(waits) * 1e6,
            "p50": cuts[49] * 1e6,
            "p99": cuts[98] * 1e6,
        },
        "server": {
            "cpu_us_per_unit": used * 1e6 / len(waits),
            "memory_mib": bench_memory(pid),
        },
    }


def bursts(path: str, pid: int, port: int, size: int, seconds: float, warmup: float) -> Figures:
    """The figures of a run, named as those of `fanbus bench --json`."""
    run = _bursts(path, pid, port, size, (seconds, warmup))
    limit = seconds + warmup + ANSWER_S

    async def bounded() -> Figures:
        try:
            return await asyncio.wait_for(run, limit)
        except asyncio.TimeoutError:
            raise ServerError(f"{path}: no answer came within {ANSWER_S:.0f} s") from None
        except (asyncio.IncompleteReadError, StopIteration) as error:
            raise ServerError(f"{path}: an answer was not whole: {error}") from None

    return asyncio.run(bounded())
