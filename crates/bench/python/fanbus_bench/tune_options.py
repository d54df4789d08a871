"""The command line of `fanbus tune`: options and help texts."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from typing import Any

from fanbus.config import MAX_THREADS, MAX_WORKERS

__all__ = ["add_to"]

_DESCRIPTION = """\
Run APP with each number of workers and threads, put the same load on each setting in several
rounds of changing order, and print the best setting (the cheapest one within the noise).

  fanbus tune chat:app --path /orders --path '/orders?open'
  fanbus tune chat:app --mode fanout --path /rooms/lobby --workers 1,2,4 --threads 40
  fanbus tune chat:app --script chat.script --workers 1-4 --threads 40
  fanbus tune chat:app --path /orders --method POST --body '{"id": 1}' --plot tuning.svg
"""
_EPILOG = """\
The load runs on the same machine and takes one of its cores, which influences the result. Measure
with the load that you expect: another load may need another setting.

exit status: 0 a setting was found; 1 something was missing or wrong in a measurement, which is then
left out; 2 nothing could be measured; 130 interrupted.
"""


def add_to(commands: Any, short: str, run: Callable[[Namespace], int]) -> None:
    """Adds `tune` to an argument parser's subcommands."""
    parser: ArgumentParser = commands.add_parser(
        "tune",
        help=short,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("app", metavar="APP", help="module:app, as for `fanbus run`")
    parser.add_argument("--app-dir", default=".", metavar="DIR", help="directory of the module")
    parser.add_argument("--mode", choices=("http", "echo", "fanout"), help="[http]")
    parser.add_argument(
        "--path",
        dest="paths",
        action="append",
        metavar="PATH",
        help="path and query to request [/]; repeatable: each is requested equally often",
    )
    parser.add_argument(
        "--script",
        metavar="FILE",
        help="each WebSocket runs this script instead (see `fanbus bench script --help`)",
    )
    parser.add_argument(
        "--workers", type=_numbers(MAX_WORKERS), default="1-5", metavar="N,N-N", help="[1-5]"
    )
    parser.add_argument(
        "--threads", type=_numbers(MAX_THREADS), default="1-5", metavar="N,N-N", help="[1-5]"
    )
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="[3]")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for each [2]")
    parser.add_argument("--warmup", type=float, default=0.5, metavar="S", help="before each [0.5]")
    parser.add_argument("-c", "--connections", type=int, metavar="N", help="[64; fanout: 200]")
    parser.add_argument("--in-flight", type=int, metavar="N", help="messages, as `fanbus bench`")
    parser.add_argument("--bytes", type=int, metavar="N", help="size of a message [128]")
    parser.add_argument(
        "--prefix", metavar="TEXT", help="text that an echo puts before each message"
    )
    parser.add_argument(
        "--hello",
        action="append",
        metavar="TEXT",
        help="first message of each WebSocket (repeatable)",
    )
    parser.add_argument("--method", help="the request's method [GET]")
    parser.add_argument("--body", metavar="TEXT", help="the request's body")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw a chart")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def _numbers(most: int) -> Callable[[str], list[int]]:
    """Reads 1,2,4 and 1-5."""

    def read(text: str) -> list[int]:
        numbers: set[int] = set()
        for part in text.split(","):
            first, dash, last = part.partition("-")
            if not first.isdecimal() or (dash and not last.isdecimal()):
                raise ArgumentTypeError(f"{text!r} is not a list of numbers: write 1,2,4 or 1-5")
            end = int(last) if dash else int(first)
            if not 1 <= int(first) <= end <= most:
                raise ArgumentTypeError(f"{part!r} is not between 1 and {most}")
            numbers.update(range(int(first), end + 1))
        return sorted(numbers)

    return read


def positive(text: str) -> int:
    """Reads a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)
