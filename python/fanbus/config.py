"""How a server runs: one frozen object, checked once, passed down.

A value that cannot work is a StartError with exit status 2, in a sentence that names the option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fanbus.exceptions import StartError

__all__ = ["MAX_WORKERS", "Settings", "usable_cores"]

# The bus has 64 members: the workers, the supervisor, and some room for programs that publish
# from outside.
MAX_WORKERS = 56

# The largest ring is what the log's offsets can still tell apart (docs/bus.md).
_BUS_SIZES = tuple(2**power for power in range(16, 26))

_HISTORY_SIZES = range(128 * 2**10, 8 * 2**30 + 1)

_LOOPS = ("auto", "asyncio", "uvloop")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `run` was asked for, with every default filled in."""

    host: str
    """Address or name to listen on."""

    port: int
    """0 to 65535; 0 picks a free one."""

    workers: int
    """Worker processes, 1 to MAX_WORKERS."""

    debug: bool
    """Tracebacks in responses, one worker."""

    single_process: bool = False
    """Serve in this process, without a supervisor (FANBUS_SINGLE_PROCESS=1, and not on Linux)."""

    loop: str = "auto"
    """Event loop: auto, asyncio or uvloop (FANBUS_LOOP). auto is uvloop if it is installed."""

    bus_size: int = 8 * 1024 * 1024
    """Bytes of each process's ring on the bus, a power of two (FANBUS_BUS_SIZE). A message may have
    a quarter of it."""

    history_size: int = 8 * 1024 * 1024
    """Bytes for what `app.topic(..., history=...)` keeps, of all topics together
    (FANBUS_HISTORY_SIZE). When it is full, the oldest go."""

    backlog: int = 2048
    """Connections that may wait in each worker's accept queue; the kernel's somaxconn caps it."""

    threads: int = 40
    """Threads that synchronous handlers of one worker may use at a time."""

    shutdown_grace_s: float = 10.0
    """How long requests in flight may take at the end. Then the worker goes."""

    ssl_certfile: str | None = None
    """PEM file with the server's certificate and those of its issuers. None: plain HTTP."""

    ssl_keyfile: str | None = None
    """PEM file with the certificate's private key. None: it is in `ssl_certfile`."""

    ssl_keyfile_password: str | None = field(default=None, repr=False)
    """What the private key is encrypted with, if it is."""

    ssl_ca_certs: str | None = None
    """PEM file with the authorities of which every client must have a certificate. None: clients
    need none."""

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not self.host:
            raise StartError(
                f'host={self.host!r} is not a host. Use "127.0.0.1" (this machine only) or '
                '"0.0.0.0" (every interface).',
                status=2,
            )
        _check_whole("port", self.port, 0, 65535)
        _check_whole("workers", self.workers, 1, MAX_WORKERS)
        if self.bus_size not in _BUS_SIZES:
            raise StartError(
                f"bus_size={self.bus_size} is not possible: it is a power of two from 64K to 32M.",
                status=2,
            )
        if self.history_size not in _HISTORY_SIZES:
            raise StartError(
                f"history_size={self.history_size} is not possible: it is a size from 128K to 8G.",
                status=2,
            )
        for option in ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs"):
            if getattr(self, option) is not None and self.ssl_certfile is None:
                raise StartError(
                    f"{option} is for TLS, which needs a certificate: give ssl_certfile too.",
                    status=2,
                )
        if self.loop not in _LOOPS:
            raise StartError(
                f"FANBUS_LOOP={self.loop} is not an event loop. Use {', '.join(_LOOPS)}.", status=2
            )

    @classmethod
    def of(
        cls,
        *,
        host: str,
        port: int,
        workers: int | None,
        debug: bool,
        on_linux: bool,
        bus_size: int | str | None = None,
        history_size: int | str | None = None,
        ssl_certfile: str | os.PathLike[str] | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
        ssl_keyfile_password: str | None = None,
        ssl_ca_certs: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Fills in what was left out: from the environment, else from the machine."""
        single_process = not on_linux or environment.get("FANBUS_SINGLE_PROCESS", "") in (
            "1",
            "true",
            "yes",
        )
        if workers is not None:
            _check_whole("workers", workers, 1, MAX_WORKERS)
        elif "WEB_CONCURRENCY" in environment:
            workers = _web_concurrency(environment["WEB_CONCURRENCY"])
        if debug or single_process:
            workers = 1
        elif workers is None:
            workers = min(usable_cores(), MAX_WORKERS)
        return cls(
            host=host,
            port=port,
            workers=workers,
            debug=bool(debug),
            single_process=single_process,
            bus_size=_size(
                "bus_size", bus_size or environment.get("FANBUS_BUS_SIZE"), cls.bus_size
            ),
            history_size=_size(
                "history_size",
                history_size or environment.get("FANBUS_HISTORY_SIZE"),
                cls.history_size,
            ),
            loop=environment.get("FANBUS_LOOP", "auto"),
            ssl_certfile=_path("ssl_certfile", ssl_certfile, environment),
            ssl_keyfile=_path("ssl_keyfile", ssl_keyfile, environment),
            ssl_keyfile_password=ssl_keyfile_password
            or environment.get("FANBUS_SSL_KEYFILE_PASSWORD")
            or None,
            ssl_ca_certs=_path("ssl_ca_certs", ssl_ca_certs, environment),
        )


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has under taskset or cpusets."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_whole(option: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise StartError(
            f"{option}={value!r} is not possible: it is a whole number from {least} to {most}.",
            status=2,
        )


def _path(
    option: str, value: str | os.PathLike[str] | None, environment: Mapping[str, str]
) -> str | None:
    """A file, made absolute: workers look for it again when they start."""
    if value is None:
        value = environment.get(f"FANBUS_{option.upper()}") or None
    return None if value is None else str(Path(value).absolute())


def _size(option: str, value: int | str | None, default: int) -> int:
    """Bytes: a number, or text such as 512K or 16M."""
    if value is None or value == "":
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(i?B)?", str(value), re.IGNORECASE)
    if match is None:
        raise StartError(
            f"{option}={value} is not a size. Write bytes, or a number with K, M or G, as in 16M.",
            status=2,
        )
    return int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2].upper()]


def _web_concurrency(text: str) -> int:
    try:
        workers = int(text)
    except ValueError:
        workers = 0
    if not 1 <= workers <= MAX_WORKERS:
        raise StartError(
            f"WEB_CONCURRENCY={text} is not possible: it is the number of workers, a whole number "
            f"from 1 to {MAX_WORKERS}.",
            status=2,
        )
    return workers
