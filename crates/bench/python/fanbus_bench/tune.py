"""The command `fanbus tune`, which finds the best number of workers and threads."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from fanbus.exceptions import StartError
from fanbus_bench import _core
from fanbus_bench.progress import Progress
from fanbus_bench.script import Script, read
from fanbus_bench.verdict import Setting, Verdict, judge

if TYPE_CHECKING:
    from fanbus_bench._core import BenchSettings

__all__ = ["tune"]

_STARTING_S = 60.0
_BANNER = re.compile(r"http://127\.0\.0\.1:(\d+)")


def tune(options: Namespace) -> int:
    """Runs the command."""
    try:
        conversation = _script(options)
    except ValueError as error:
        raise StartError(str(error), status=2) from None
    settings = [Setting(w, t) for w in options.workers for t in options.threads]
    try:
        with Progress(is_quiet=options.quiet) as progress:
            measured = _measure(options, conversation, settings, progress)
    except (ValueError, OSError) as error:
        raise StartError(str(error), status=2) from None
    rounds = {
        setting: [run["per_second"] for run in runs if run["complete"]]
        for setting, runs in measured.items()
    }
    faults = {
        str(setting): [fault for run in runs for fault in run["faults"]]
        for setting, runs in measured.items()
        if not all(run["complete"] for run in runs)
    }
    whole = {setting: values for setting, values in rounds.items() if values}
    verdict = judge(whole) if whole else None
    sys.stdout.write(
        _json(rounds, faults, verdict) if options.json else _text(rounds, faults, verdict)
    )
    if options.plot is not None and whole:
        try:
            Path(options.plot).write_text(_picture(options, whole))
        except OSError as error:
            raise StartError(f"--plot {options.plot}: {error.strerror}.", status=2) from None
    return 1 if faults else 0


def _script(options: Namespace) -> Script | None:
    """The script, if there is one. It replaces the other options of the load."""
    if options.script is None:
        return None
    for name in ("paths", "hello", "in_flight", "bytes", "prefix", "method", "body"):
        if getattr(options, name) is not None:
            option = "--path" if name == "paths" else f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} and --script exclude each other: the script says it all.")
    if options.mode is not None:
        raise ValueError(f"--mode {options.mode} and --script exclude each other.")
    return read(options.script)


def _measure(
    options: Namespace,
    conversation: Script | None,
    settings: Sequence[Setting],
    progress: Progress,
) -> dict[Setting, list[dict[str, Any]]]:
    measured: dict[Setting, list[dict[str, Any]]] = {setting: [] for setting in settings}
    order = list(settings)
    for number in range(options.rounds):
        # Another order in each round: otherwise a warm-up would look like an effect of a setting.
        random.Random(number).shuffle(order)  # noqa: S311 - not a secret
        for place, setting in enumerate(order):
            progress.label = (
                f"{number * len(order) + place + 1}/{options.rounds * len(order)}, {setting}: "
            )
            with _served(options, setting) as (port, pid):
                parts = [
                    _core.bench(load, progress.show)
                    for load in _loads(options, conversation, port, pid)
                ]
            measured[setting].append(mixed(parts))
    return measured


@contextmanager
def _served(options: Namespace, setting: Setting) -> Iterator[tuple[int, int]]:
    """Runs the application on a free port. Yields the port, and the supervisor's PID."""
    command = [sys.executable, "-m", "fanbus", "run", options.app, "--app-dir", options.app_dir]
    command += ["--port", "0", "--workers", str(setting.workers)]
    environment = {**os.environ, "FANBUS_THREADS": str(setting.threads)}
    with TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - the same program
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield _port(process, output), process.pid
        finally:
            process.terminate()
            process.wait()


def _port(process: subprocess.Popen[bytes], output: IO[bytes]) -> int:
    """Waits until the application listens, and returns its port."""
    end = time.monotonic() + _STARTING_S
    while True:
        has_ended = process.poll() is not None
        text = os.pread(output.fileno(), 1 << 20, 0).decode(errors="replace")
        found = _BANNER.search(text)
        if found is not None and not has_ended:
            return int(found[1])
        if has_ended or time.monotonic() > end:
            raise OSError(f"The application does not start. It said:\n{text.strip()}")
        time.sleep(0.01)


def _paths(options: Namespace) -> list[str]:
    if options.script is not None:
        return []
    paths: list[str] = options.paths or ["/"]
    return paths


def mixed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a run of several paths with equal numbers of requests: their times are
    added."""
    is_complete = all(part["complete"] for part in parts)
    times = sum(1 / part["per_second"] for part in parts) if is_complete else 0.0
    return {
        "complete": is_complete,
        "per_second": len(parts) / times if is_complete else 0.0,
        "faults": [fault for part in parts for fault in part["faults"]],
    }


def _loads(
    options: Namespace, conversation: Script | None, port: int, pid: int
) -> list[BenchSettings]:
    """The loads that are measured one after the other."""
    if conversation is None:
        return [_load(options, path, port, pid) for path in _paths(options)]
    load = _common(options, "script", f"ws://127.0.0.1:{port}{conversation.path}", pid)
    load["script"] = (conversation.first, conversation.again)
    return [load]


def _common(options: Namespace, mode: str, url: str, pid: int) -> BenchSettings:
    load: BenchSettings = {
        "mode": mode,
        "url": url,
        "pid": pid,
        "seconds": options.seconds,
        "warmup": options.warmup,
    }
    if options.connections is not None:
        load["connections"] = options.connections
    return load


def _load(options: Namespace, path: str, port: int, pid: int) -> BenchSettings:
    mode = options.mode or "http"
    scheme = "http" if mode == "http" else "ws"
    load = _common(options, mode, f"{scheme}://127.0.0.1:{port}{path}", pid)
    if options.in_flight is not None:
        load["in_flight"] = options.in_flight
    if options.bytes is not None:
        load["bytes"] = options.bytes
    if options.prefix is not None:
        load["prefix"] = options.prefix
    if options.hello is not None:
        load["hello"] = options.hello
    if options.method is not None:
        load["method"] = options.method
    if options.body is not None:
        load["body"] = options.body.encode()
    return load


def _text(
    rounds: Mapping[Setting, Sequence[float]],
    faults: Mapping[str, Sequence[str]],
    verdict: Verdict | None,
) -> str:
    """The matrix of medians, and the verdict."""
    threads = sorted({setting.threads for setting in rounds})
    text = "per second" + "".join(f"{count:>6} thr." for count in threads) + "\n"
    for workers in sorted({setting.workers for setting in rounds}):
        text += f"{workers:>3} work."
        for count in threads:
            values = rounds[Setting(workers, count)]
            text += f"{median(values):>11,.0f}" if values else f"{'-':>11}"
        text += "\n"
    text += "".join(f"{sentence}\n" for sentence in verdict.sentences) if verdict else ""
    for setting, sentences in faults.items():
        text += f"NOT COMPLETE with {setting}: {' '.join(sentences)}\n"
    return text


def _json(
    rounds: Mapping[Setting, Sequence[float]],
    faults: Mapping[str, Sequence[str]],
    verdict: Verdict | None,
) -> str:
    cells = [
        {"workers": setting.workers, "threads": setting.threads, "per_second": list(values)}
        for setting, values in rounds.items()
    ]
    best = None
    if verdict is not None:
        best = {"workers": verdict.best.workers, "threads": verdict.best.threads}
    sentences = [] if verdict is None else list(verdict.sentences)
    found = {"schema": 1, "best": best, "verdict": sentences, "settings": cells, "faults": faults}
    return json.dumps(found) + "\n"


def _picture(options: Namespace, rounds: Mapping[Setting, Sequence[float]]) -> str:
    """A curve over the workers for each number of threads."""
    lines = []
    for threads in sorted({setting.threads for setting in rounds}):
        mine = sorted(setting for setting in rounds if setting.threads == threads)
        points = [(float(setting.workers), float(median(rounds[setting]))) for setting in mine]
        lines.append((f"{threads} threads", points))
    load = [options.script or options.mode or "http", *_paths(options)]
    return _core.chart(
        " ".join([options.app, *load]),
        "workers",
        [],
        "per second",
        False,
        lines,
    )
