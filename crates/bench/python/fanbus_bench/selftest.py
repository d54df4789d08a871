"""The self-test that measures the maximum of the driver, against a minimal server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fanbus_bench import _core

if TYPE_CHECKING:
    from fanbus_bench._core import BenchSettings

__all__ = ["measure_driver"]

_WARMUP_S = 0.3


def measure_driver(
    seconds: float, on_progress: Callable[[str, float, int], object]
) -> dict[str, dict[str, Any]]:
    """The figures of each kind of load, by its name. The server has ended when it returns."""
    command = [sys.executable, "-m", "fanbus", "bench", "server", "--with-parent"]
    with subprocess.Popen(  # noqa: S603 - the same program
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            http = process.stdout.readline().strip()
            if not http:
                raise OSError("The server for the self-test did not start; its output is above.")
            rows = {}
            for name, settings in _loads(http, process.pid).items():
                settings["seconds"] = seconds
                settings["warmup"] = _WARMUP_S
                rows[name] = _core.bench(settings, on_progress)
            return rows
        finally:
            process.terminate()


def _loads(http: str, pid: int) -> dict[str, BenchSettings]:
    echo, relay = (http.replace("http", "ws", 1) + path for path in ("/echo", "/relay"))
    return {
        "HTTP": {"mode": "http", "url": f"{http}/", "pid": pid},
        "echo, 1 in flight": {"mode": "echo", "url": echo, "pid": pid},
        "echo, 16 in flight": {"mode": "echo", "url": echo, "pid": pid, "in_flight": 16},
        "fan-out to 204": {"mode": "fanout", "url": relay, "pid": pid},
        "handshakes": {"mode": "handshake", "url": echo, "pid": pid},
    }
