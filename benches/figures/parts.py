"""The parts of a sitting: the requirements of each, and its measurement into a file.

A part knows nothing of the pages; benches/figures/page.py makes their tables from its record.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.compare.document import ROOT
from benches.compare.systems import HOME, NEEDED, PROGRAMS, SYSTEMS

BUS = ROOT / "target/bench-bus/release"
COST = ROOT / "target/cost/release/fanbus-cost"
# The environments that tests/free-threaded makes.
NO_GIL = ("target/python-3.14t", "target/python-3.13t")
# The first 50 messages, one a millisecond, do not count: a shorter run has no others.
LEAST_BUS_MILLIS = 100


class PartError(Exception):
    """The error of a part that failed; its text is the reason."""


@dataclass(frozen=True)
class Effort:
    """The duration of all measurements. The parts take their times in proportion."""

    seconds: float
    rounds: int

    def times(self, share: float = 1.0) -> list[str]:
        """The options of most commands here; the warm-up is a quarter of the run."""
        seconds = self.seconds * share
        return [
            *("--rounds", str(self.rounds), "--seconds", f"{seconds:g}"),
            *("--warmup", f"{seconds / 4:g}"),
        ]


def lacks_nothing() -> None:
    """A part that needs Fanbus, or nothing."""


@dataclass(frozen=True)
class Part:
    """One of the measurements, with a record of its own."""

    name: str
    # Its duration with an effort of 1 s and 3 rounds on two CPUs, for the forecast.
    minutes: float
    measure: Callable[[Effort, Path], None]
    # The reason why it cannot be measured here. None: it can.
    missing: Callable[[], str | None] = lacks_nothing


def run(*command: str | Path, allowed: tuple[int, ...] = (0,), **environment: str) -> str:
    """Runs a program from the repository's root, and returns its output. It ends with this one."""
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            # With all that it has started: cargo and the bus's benchmark would leave theirs.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode not in allowed:
        raise PartError(f"{Path(command[0]).name} ended with status {process.returncode}.")
    return output


def module(name: str, *arguments: str) -> None:
    """Runs a command of benches/ that writes its record itself."""
    run(sys.executable, "-m", f"benches.{name}", *arguments)


def write(file: Path, record: object) -> None:
    file.write_text(json.dumps(record, indent=1) + "\n")


def compare(effort: Effort, file: Path) -> None:
    with scratch() as out:
        # The time of a sitting is planned: a round that is left out would not be measured.
        module(
            "compare", *effort.times(), "--minutes", "60", "--out", str(out), "--record", str(file)
        )


def self_test(effort: Effort, file: Path) -> None:
    command = (sys.executable, "-m", "fanbus", "bench", "self-test", "--json")
    rounds = []
    for _ in range(effort.rounds):
        found = json.loads(run(*command, "--seconds", f"{effort.seconds:g}"))
        for row in found.values():
            # Not used here, and it has many lines.
            row.pop("distribution_us", None)
        rounds.append(found)
    write(file, {"rounds": rounds})


def independent(effort: Effort, file: Path) -> None:
    # It has no warm-up.
    seconds = max(0.5, 4 * effort.seconds)
    many = ("--rounds", str(effort.rounds), "--seconds", f"{seconds:g}")
    module("independent", *many, "--record", str(file))


def compression(effort: Effort, file: Path) -> None:
    module("compression", *effort.times(1.5), "--record", str(file))


def threads(effort: Effort, file: Path) -> None:
    many = (*effort.times(2.0), "--record", str(file))
    run(no_gil(), "-m", "benches.threads", *many, PYTHONPATH=str(ROOT / "python"))


def bus(effort: Effort, file: Path) -> None:
    with scratch() as out:
        figures, tables = out / "figures.json", out / "figures.md"
        millis = max(LEAST_BUS_MILLIS, round(250 * effort.seconds))
        many = ("--rounds", str(effort.rounds), "--millis", str(millis))
        run(BUS / "fanbus-bench-bus", *many, "--json", figures, "--markdown", tables)
        # The program that has measured makes its tables, because it has the medians.
        write(file, {**json.loads(figures.read_text()), "tables": tables.read_text().strip()})


def log(_: Effort, file: Path) -> None:
    write(file, {"tables": run(BUS / "fanbus-bench-log").strip()})


def cost(_: Effort, file: Path) -> None:
    # 1: the cost of a path differs from figures.md. The page says so.
    run(sys.executable, "-m", "benches.cost.count", "--record", file, allowed=(0, 1))


def criterion(bench: str) -> Callable[[Effort, Path], None]:
    """One of the benchmarks in Cargo.toml."""

    def measure(_: Effort, file: Path) -> None:
        with scratch() as out:
            command = ("cargo", "bench", "--quiet", "--locked", "--bench", bench, "--", "--quick")
            run(*command, CRITERION_HOME=str(out))
            write(file, {"ns": dict(sorted(estimates(out)))})

    return measure


def estimates(home: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """The name of each benchmark, and its nanoseconds according to Criterion."""
    for path in home.glob("**/new/benchmark.json"):
        name = json.loads(path.read_text())["full_id"]
        found = json.loads(path.with_name("estimates.json").read_text())
        # The slope of a line through growing batches if there is one, else the mean.
        best: dict[str, Any] = found.get("slope") or found["mean"]
        bounds = best["confidence_interval"]
        yield (
            name,
            {
                "at": best["point_estimate"],
                "least": bounds["lower_bound"],
                "most": bounds["upper_bound"],
            },
        )


def configuration(_: Effort, file: Path) -> None:
    module("configuration", "--record", str(file))


def kernel_memory(_: Effort, file: Path) -> None:
    module("kernel_memory", "--record", str(file))


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fanbus-figures-") as folder:
        yield Path(folder)


def no_gil() -> Path:
    """The newest interpreter that tests/free-threaded has built."""
    return next(path for path in (ROOT / home / "bin/python" for home in NO_GIL) if path.exists())


def lacks_peers() -> str | None:
    systems = (*SYSTEMS, *(system for each in PROGRAMS.values() for system in each))
    reasons = [reason for system in systems if (reason := system.missing()) is not None]
    packages = [package for each in NEEDED.values() for package in each]
    reasons += [package.reason() for package in packages if package.version() is None]
    reasons = list(dict.fromkeys(reasons))
    return f"{'; '.join(reasons)} (searched in {HOME})" if reasons else None


def lacks_websockets() -> str | None:
    found = importlib.util.find_spec("websockets")
    return None if found else "the library websockets is not installed: make .venv/ok-dev"


def lacks_no_gil() -> str | None:
    is_there = (ROOT / ".venv/ok-no-gil").exists()
    return None if is_there else "no Python without the GIL has Fanbus: make .venv/ok-no-gil"


def lacks_bus() -> str | None:
    """Brokers, and the program."""
    absent = [name for name in ("redis-server", "nats-server") if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} is not installed: make .venv/ok-peers"
    return lacks(BUS / "fanbus-bench-bus", BUS / "fanbus-bench-log")


def lacks_cost() -> str | None:
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: make .venv/ok-valgrind"
    return lacks(COST)


def lacks_cargo() -> str | None:
    return None if shutil.which("cargo") else "cargo is not installed: https://rustup.rs"


def lacks(*programs: Path) -> str | None:
    absent = [path.name for path in programs if not path.exists()]
    return f"not built: {', '.join(absent)}; `make figures` builds it" if absent else None


# The short ones first: problems of the machine appear early.
PARTS = (
    Part("kernel-memory", 0.1, kernel_memory),
    Part("configuration", 0.2, configuration),
    Part("http-parts", 1.0, criterion("http_parts"), lacks_cargo),
    Part("bus-parts", 1.5, criterion("bus_parts"), lacks_cargo),
    Part("self-test", 0.5, self_test),
    Part("independent", 0.6, independent, lacks_websockets),
    Part("threads", 1.5, threads, lacks_no_gil),
    Part("compression", 1.5, compression),
    Part("log", 0.5, log, lacks_bus),
    Part("bus", 6.0, bus, lacks_bus),
    Part("cost", 2.0, cost, lacks_cost),
    Part("compare", 26.0, compare, lacks_peers),
)
BY_NAME = {part.name: part for part in PARTS}
