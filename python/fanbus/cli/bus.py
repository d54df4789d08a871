"""The commands that use a bus from outside: publish, subscribe, bus list, bus show, bus remove.

Each is a function from parsed options to an exit status. What is wrong is a StartError, whose text
is a sentence.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import textwrap
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fanbus import _core
from fanbus.bus import Bus, Record, missing_bus
from fanbus.exceptions import BusError, Lagged, StartError
from fanbus.runtime.logs import process_name

if TYPE_CHECKING:
    from fanbus._core import BusDescription, HistoryDescription, MemberDescription

__all__ = ["add_to", "choose"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - that is where buses are
_NAME = re.compile(r"[\w.-]+", re.ASCII)

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_ROLE = "supervisor, or the number of the worker; empty: not a process of a server"
_BEHIND = "messages that it has not read yet; -: no reader"


def _columns() -> str:
    """The help for the columns of `fanbus bus show`."""
    counters = [(column, text) for _, _, column, text in _core.counters()]
    lines: list[str] = []
    for column, text in [("ROLE", _ROLE), ("BEHIND", _BEHIND), *counters]:
        first, *rest = textwrap.wrap(text, 72)
        lines += [f"{column:11}{first}", *(f"{'':11}{line}" for line in rest)]
    return "\n".join(lines)


def add_to(commands: Any) -> None:
    """Adds the commands to an argument parser's subcommands; each sets `run`."""
    publish = commands.add_parser(
        "publish",
        help="publish a message on a bus",
        description="Publish MESSAGE to TOPIC: clients of a server and other processes get it. "
        "Prints its offset.",
    )
    _which(publish)
    publish.add_argument("topic", metavar="TOPIC", help="as in room:lobby")
    publish.add_argument(
        "message",
        metavar="MESSAGE",
        help="message text; - reads standard input (sent as binary if it is not UTF-8)",
    )
    publish.set_defaults(run=_told(_publish))

    subscribe = commands.add_parser(
        "subscribe",
        help="print the messages of a topic as they are published",
        description="Print every message that is published to TOPIC from now on, one per line.",
    )
    past = subscribe.add_mutually_exclusive_group()
    past.add_argument("--last", type=int, metavar="N", help="first the newest N retained messages")
    past.add_argument(
        "--since", type=int, metavar="OFFSET", help="first all messages after this one; -1: all"
    )
    _which(subscribe)
    subscribe.add_argument("topic", metavar="TOPIC", help="as in room:lobby")
    subscribe.add_argument(
        "--json",
        action="store_true",
        help='one JSON object per line: topic, offset, and message, or "base64" for bytes',
    )
    subscribe.add_argument(
        "-n", "--count", type=int, metavar="N", help="exit after N messages (default: at Ctrl+C)"
    )
    subscribe.set_defaults(run=_told(_subscribe))

    bus = commands.add_parser("bus", help="list, show and remove buses")
    kinds = bus.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = kinds.add_parser("list", help="all buses of this user", description="List buses.")
    listing.set_defaults(run=_told(_list))
    show = kinds.add_parser(
        "show",
        help="show one bus and its processes",
        description="Show a bus, and a line for each process on it.",
        epilog=_columns(),
        formatter_class=RawDescriptionHelpFormatter,
    )
    show.add_argument("bus", nargs="?", metavar="NAME", help="as `fanbus bus list` shows it")
    show.set_defaults(run=_told(_show))
    remove = kinds.add_parser("remove", help="remove a bus", description="Remove a bus.")
    remove.add_argument("bus", metavar="NAME", help="as `fanbus bus list` shows it")
    remove.add_argument(
        "--force",
        action="store_true",
        help="remove it even if it is in use; its processes then get an error when they publish",
    )
    remove.set_defaults(run=_told(_remove))


def _told(command: Callable[[Namespace], int]) -> Callable[[Namespace], int]:
    """The command, whose refusals are told in a sentence, with an exit status."""

    def run(options: Namespace) -> int:
        try:
            return command(options)
        except BusError as error:
            raise StartError(str(error)) from None
        except ValueError as error:  # a topic or a message that is not allowed
            raise StartError(str(error), status=2) from None

    return run


def _which(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--bus",
        metavar="NAME",
        help="which bus, as in chat-5000 (default: FANBUS_BUS, or the only one in use)",
    )


def choose(
    name: str | None,
    buses: Sequence[BusDescription],
    environment: Mapping[str, str] = os.environ,
    *,
    by: str = "--bus",
) -> str:
    """The name that was given, or that of the only bus in use. StartError lists the candidates.

    `by`: how the command takes a name.
    """
    name = name or environment.get("FANBUS_BUS")
    if name:
        return name
    living = [bus["name"] for bus in buses if bus["members"]]
    if not living:
        raise StartError(
            f"No bus is in use. Start a server, or name a bus with {by} or FANBUS_BUS.", status=2
        )
    if len(living) > 1:
        raise StartError(
            f"{len(living)} buses are in use: {', '.join(living)}. Choose one with {by} or "
            "FANBUS_BUS.",
            status=2,
        )
    return living[0]


def _publish(options: Namespace) -> int:
    message = _message(options.message)
    with _open(options) as bus:
        sys.stdout.write(f"{bus.publish(options.topic, message)}\n")
        if len(_core.inspect_bus(bus.name)["members"]) == 1:
            sys.stderr.write(
                f'fanbus: No other process has the bus "{bus.name}" open, so no process has '
                "received this. Is its server running?\n"
            )
    return 0


def _open(options: Namespace) -> Bus:
    """The bus that was asked for. StartError if there is none of that name."""
    name = choose(options.bus, _core.buses())
    joined = _core.Bus.attach(name)
    if joined is None:
        raise StartError(missing_bus(name))
    return Bus(joined)


def _message(argument: str) -> str | bytes:
    """Text, or bytes if it is none. A line's end at the end of what is piped in is not meant."""
    raw = sys.stdin.buffer.read() if argument == "-" else os.fsencode(argument)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw
    return text.removesuffix("\n") if argument == "-" else text


def _subscribe(options: Namespace) -> int:
    left = options.count
    if left is not None and left < 1:
        raise StartError(f"--count must be 1 or more, got {left}.", status=2)
    with _open(options) as bus:
        subscription = bus.subscribe(options.topic, last=options.last, since=options.since)
        if not subscription.complete:
            sys.stderr.write(
                "fanbus: some of the requested older messages are no longer retained.\n"
            )
        sys.stderr.write(f'Listening to "{options.topic}" on the bus {bus.name}.\n')
        sys.stderr.flush()
        try:
            while left is None or left > 0:
                try:
                    line = _line(next(subscription), as_json=options.json)
                    left = None if left is None else left - 1
                except Lagged as lagged:
                    line = _gap(lagged, as_json=options.json)
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            return _INTERRUPTED
    return 0


def _line(record: Record, *, as_json: bool) -> bytes:
    message = record.message
    if not as_json:
        return (message.encode() if isinstance(message, str) else message) + b"\n"
    content = (
        {"message": message}
        if isinstance(message, str)
        else {"base64": base64.b64encode(message).decode()}
    )
    note = {"topic": record.topic, "offset": record.offset, **content}
    return json.dumps(note, ensure_ascii=False).encode() + b"\n"


def _gap(lagged: Lagged, *, as_json: bool) -> bytes:
    sys.stderr.write(f"fanbus: {lagged}\n")
    sys.stderr.flush()
    return json.dumps({"missed": lagged.missed}).encode() + b"\n" if as_json else b""


def _list(_: Namespace) -> int:
    rows = [("NAME", "PROCESSES", "MESSAGES", "MEMORY", "CREATED")]
    for bus in _core.buses():
        messages = "?" if bus["end"] is None else str(bus["end"])
        members, memory = str(len(bus["members"])), _size(bus["reserved_bytes"])
        rows.append((bus["name"], members, messages, memory, _created(bus)))
    _table(rows, str.ljust)
    return 0


def _show(options: Namespace) -> int:
    name = choose(options.bus, _core.buses(), by="`fanbus bus show NAME`")
    _must_exist(name)
    bus = _core.inspect_bus(name)
    facts = [("Bus", bus["name"]), ("Memory", f"{_size(bus['reserved_bytes'])} in /dev/shm")]
    ring_bytes = bus["ring_bytes"]
    if ring_bytes is None:
        facts.append(("Contents", "not readable by this version of Fanbus"))
    else:
        facts += [
            ("Created", _created(bus)),
            ("Epoch", str(bus["epoch"])),
            ("Messages", f"{bus['end']} published; the next one gets this offset"),
            ("Keeps", f"the newest {_size(ring_bytes)} of each process"),
            ("Largest", f"{_size(ring_bytes // 4)} in one message"),
        ]
    history = bus["history"]
    if history is not None:
        facts += _history_facts(history)
    reserved = bus["reserved_places"]
    kept = f"; {reserved} places are reserved for the server" if reserved else ""
    facts.append(("Processes", f"{len(bus['members'])} of 64{kept}"))
    for name, value in facts:
        sys.stdout.write(f"{name:11}{value}\n")
    if bus["members"]:
        sys.stdout.write("\n")
        columns = (column for _, _, column, _ in _core.counters())
        head = ("PID", "ROLE", "BEHIND", *columns, "COMMAND")
        _table([head, *map(_member_row, bus["members"])], str.rjust)
    return 0


def _history_facts(history: HistoryDescription) -> list[tuple[str, str]]:
    kept = [
        f"{records} of each {pattern}" + (f", for {seconds} s" if seconds else "")
        for pattern, records, seconds in history["rules"]
        if records
    ]
    if not kept:
        return []
    used = f"{_size(history['used_bytes'])} of {_size(history['bytes'])}"
    topics = "1 topic" if history["topics"] == 1 else f"{history['topics']} topics"
    facts = [("History" if line == kept[0] else "", line) for line in kept]
    return [*facts, ("", f"{used} used, by {topics}")]


def _member_row(member: MemberDescription) -> tuple[str, ...]:
    behind = member["behind"]
    counts = (_amount(member["counts"][key], unit) for key, unit, _, _ in _core.counters())
    return (
        str(member["pid"]),
        _role(member["pid"]),
        "-" if behind is None else str(behind),
        *counts,
        _command(member["pid"]),
    )


def _amount(count: int, unit: Literal["count", "bytes", "microseconds"]) -> str:
    if unit == "bytes":
        return _size(count)
    return f"{count / 1e6:.1f}s" if unit == "microseconds" else str(count)


def _table(rows: Sequence[tuple[str, ...]], align: Callable[[str, int], str]) -> None:
    """Columns as wide as they need be; the last one begins on the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for *cells, last in rows:
        aligned = [align(cell, width) for cell, width in zip(cells, widths, strict=False)]
        sys.stdout.write("  ".join([*aligned, last]).rstrip() + "\n")


def _must_exist(name: str) -> None:
    """StartError if there is nothing of that name, whoever owns it."""
    if _NAME.fullmatch(name) and not (_MEMORY / f"fanbus.{name}").exists():
        raise StartError(missing_bus(name))


def _remove(options: Namespace) -> int:
    _must_exist(options.bus)
    try:
        _core.remove_bus(options.bus, although_used=options.force)
    except BusError as error:
        hint = " Or remove it with --force: they get an error." if "in use" in str(error) else ""
        raise StartError(f"{error}{hint}") from None
    return 0


def _created(bus: BusDescription) -> str:
    epoch = bus["epoch"]
    if epoch is None:
        return "?"
    created = datetime.fromtimestamp(epoch / 1e9, tz=timezone.utc)
    return created.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _role(pid: int) -> str:
    """What a process is to its server, as its name says; - for those of no server."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "-"
    if name == process_name("supervisor"):
        return "supervisor"
    number = name.removeprefix(process_name("worker"))
    return f"worker {number}" if number != name and number.isdecimal() else "-"


def _command(pid: int) -> str:
    """How a process was started, shortened."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    words = raw.decode(errors="replace").split("\0")
    text = "".join(c if c.isprintable() else "?" for c in " ".join(words).strip())
    return text if len(text) <= 60 else f"{text[:59]}…"


def _size(count: int) -> str:
    """Bytes, in the unit that a person would choose."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} bytes"
