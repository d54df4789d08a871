"""The command `fanbus bench`: from parsed options to an exit status."""

from __future__ import annotations

import json
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanbus.exceptions import StartError
from fanbus_bench import _core, tune_options
from fanbus_bench import options as command_line
from fanbus_bench import tune as tuning
from fanbus_bench.picture import latency_curve
from fanbus_bench.progress import Progress
from fanbus_bench.selftest import measure_driver
from fanbus_bench.table import driver_table, show

__all__ = ["add_to"]

_NOT_COMPLETE = 1
_NOT_MEASURED = 2
_INTERRUPTED = 130  # 128 + SIGINT, as in shells


def add_to(commands: Any, name: str, short: str) -> None:
    """Adds `bench` or `tune` to the subcommands of `fanbus`; `short` is its line in their list."""
    if name == "bench":
        command_line.add_to(commands, short, _measure, _self_test, _serve)
    else:
        tune_options.add_to(commands, short, _tune)


def _measure(options: Namespace) -> int:
    """Runs one of the modes."""
    with _measuring(options) as progress:
        figures = _core.bench(command_line.settings(options), progress.show)
    sys.stdout.write(json.dumps(figures) + "\n" if options.json else show(figures))
    if options.plot is not None:
        _write(options.plot, latency_curve([figures]))
    return 0 if figures["complete"] else _NOT_COMPLETE


def _self_test(options: Namespace) -> int:
    """Measures the maximum of the driver against its own minimal server."""
    with _measuring(options) as progress:
        rows = measure_driver(options.seconds, progress.show)
    sys.stdout.write(json.dumps(rows) + "\n" if options.json else driver_table(rows))
    return 0 if all(row["complete"] for row in rows.values()) else _NOT_COMPLETE


def _tune(options: Namespace) -> int:
    """Finds the best number of workers and threads for an application."""
    with _interruptible():
        return tuning.tune(options)


def _serve(options: Namespace) -> int:
    """Runs the minimal server of the driver, which gives no guarantees."""
    # No Python runs while it serves: a signal has to end it by itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def listening(port: int) -> None:
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()

    try:
        _core.bench_server(options.port, options.workers, listening, options.with_parent)
    except (OverflowError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"Cannot listen on port {options.port}: {reason}.", status=2) from None
    return 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Reports Ctrl+C with a message instead of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        raise StartError("interrupted; nothing was measured.", status=_INTERRUPTED) from None


@contextmanager
def _measuring(options: Namespace) -> Iterator[Progress]:
    """Shows progress, and reports errors of the measurement as messages."""
    with _interruptible():
        try:
            with Progress(is_quiet=options.quiet) as progress:
                yield progress
        except (ValueError, OSError) as error:
            raise StartError(str(error), status=_NOT_MEASURED) from None


def _write(path: str, picture: str | None) -> None:
    if picture is None:
        raise StartError("There is no latency to draw.", status=_NOT_MEASURED)
    try:
        Path(path).write_text(picture)
    except OSError as error:
        raise StartError(f"--plot {path}: {error.strerror}.", status=_NOT_MEASURED) from None
