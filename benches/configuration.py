"""What it takes to find out which option has which value, once, before a server starts.

    .venv/bin/python -m benches.configuration

Options are read in Python, so this is no criterion benchmark; what a request's address takes is one
(`cargo bench --bench http_parts`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fanbus.config import OPTIONS, Settings
from fanbus.options.files import read
from fanbus.options.sources import resolve

REPEATS = 7
SAID = {
    "host": "127.0.0.1",
    "port": "8000",
    "workers": "4",
    "threads": "20",
    "loop": "asyncio",
    "debug": "false",
    "ssl_certfile": "cert.pem",
    "ssl_keyfile": "key.pem",
}


# What TOML has without quotes.
PLAIN = ("port", "workers", "threads", "debug")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", type=Path, metavar="FILE", help="the times go there, too")
    options = parser.parse_args()
    found = measured()
    if options.record is not None:
        options.record.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def measured() -> dict[str, Any]:
    """By what is said, and where: microseconds of each repeat."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fanbus.toml").write_text(in_toml())
        variables = in_environment()
        timed: dict[str, Callable[[], object]] = {
            "no option is set": settings,
            f"{len(SAID)} on the command line": lambda: settings(given=SAID),
            f"{len(SAID)} in the environment": lambda: settings(environment=variables),
            f"{len(SAID)} in fanbus.toml, and reading it": lambda: settings(
                file=read(Path(folder))
            ),
        }
        times = {}
        for name, once in timed.items():
            timer = timeit.Timer(once)
            count, _ = timer.autorange()
            times[name] = [each / count * 1e6 for each in timer.repeat(REPEATS, count)]
    return {"options": len(OPTIONS), "us": times}


def table(found: dict[str, Any]) -> str:
    lines = [f"| {found['options']} options, of which | µs | spread |", "|---|---|---|"]
    for name, times in found["us"].items():
        middle = statistics.median(times)
        lines.append(f"| {name} | {middle:.0f} | {min(times):.0f} to {max(times):.0f} |")
    return "\n".join(lines)


def in_toml() -> str:
    lines = [f"{name} = {text if name in PLAIN else repr(text)}" for name, text in SAID.items()]
    return "\n".join(lines) + "\n"


def in_environment() -> dict[str, str]:
    return {f"FANBUS_{name.upper()}": text for name, text in SAID.items()}


def settings(
    given: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    file: tuple[str, dict[str, Any]] = ("fanbus.toml", {}),
) -> Settings:
    """As the command line finds them."""
    values = resolve(
        OPTIONS,
        given=given or {},
        origin="command line",
        environment=environment or {},
        file=file,
    )
    found = {name: value.value for name, value in values.items()}
    return Settings.of(found, single_process=False)


if __name__ == "__main__":
    main()
