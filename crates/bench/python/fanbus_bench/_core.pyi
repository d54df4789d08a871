"""The load driver in Rust."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, type_check_only

from typing_extensions import Required

__all__ = ["bench", "bench_memory", "bench_server", "chart"]

@type_check_only
class BenchSettings(TypedDict, total=False):
    """The settings of `bench`. The defaults are those of `fanbus bench MODE --help`."""

    mode: Required[str]
    url: Required[str]
    publish_url: str | None
    pid: int | None
    seconds: float
    warmup: float
    patience: float
    connections: int
    publishers: int
    in_flight: int
    rate: float | None
    bytes: int
    binary: bool
    records: bool
    compressed: bool
    prefix: str
    envelope: tuple[str, str]
    greeting: str
    hello: list[str]
    script: tuple[list[tuple[str, str]], list[tuple[str, str]]]
    subprotocol: str | None
    headers: list[tuple[str, str]]
    method: str
    body: bytes
    ca_file: str | None
    insecure: bool

def bench(
    settings: BenchSettings, on_progress: Callable[[str, float, int], object]
) -> dict[str, Any]:
    """Measures a server, and returns the figures; docs/howto/bench.md names them.

    It runs without the GIL. About every 50 ms it calls `on_progress` with the phase, the finished
    part of it (0 to 1), and the number of units. If this function or a signal handler raises, the
    measurement ends. ValueError: a setting is wrong; OSError: the server or the machine does not
    allow it.
    """

def bench_memory(pid: int) -> float:
    """The memory of a process and its descendants in MiB, as in the figures of `bench`.

    ValueError if there is no such process.
    """

def bench_server(
    port: int, workers: int, on_listening: Callable[[int], object], with_parent: bool
) -> None:
    """Serves `/echo`, a relay and HTTP on 127.0.0.1 until a signal ends the process.

    `on_listening` gets the port, which is a free one for 0. `with_parent`: the process ends when
    its parent does. OSError if the port cannot be had.
    """

def chart(
    title: str,
    x_title: str,
    x_names: Sequence[str],
    y_title: str,
    y_is_logarithmic: bool,
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
) -> str:
    """Named curves as the text of an SVG file. `x_names` are the labels of 0, 1, ...; none: the
    numbers.

    ValueError if there is nothing to draw.
    """
