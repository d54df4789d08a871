"""The command lines of `fanbus bench`: options and help texts."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fanbus_bench import script
from fanbus_bench.tune_options import positive

if TYPE_CHECKING:
    from fanbus_bench._core import BenchSettings

__all__ = ["add_to", "settings"]

Command = Callable[[Namespace], int]

_OVERVIEW = """\
Measure any server, Fanbus or another, by its URL: rate, latency and CPU, and whether every message
arrived, once, and in one order.

  fanbus bench http http://127.0.0.1:5000/
  fanbus bench echo ws://127.0.0.1:5000/echo --in-flight 16
  fanbus bench fanout ws://127.0.0.1:5000/rooms/lobby --subscribers 1000 --rate 100
  fanbus bench MODE --help
"""

_LOOPS = """\
closed loop and open loop:
  Without --rate, each connection sends the next unit when one has come back (closed loop). This
  measures the capacity of the server. With --rate, units are sent at a fixed rate (open loop), and
  the latency of a unit counts from the moment at which it was due. This measures how long users
  wait: a server that stalls cannot hide the waiting time of the units that were due meanwhile.
"""

_STATUS = """\
exit status:
  0 everything arrived as it should; 1 something was missing, wrong, doubled, or in different
  orders; 2 nothing could be measured (the reason is printed); 130 interrupted.
"""

_HTTP = """\
Send requests on keep-alive connections: one request at a time on each, or --in-flight of them,
pipelined.
"""
_HTTP_EXAMPLES = """\
examples:
  fanbus bench http http://127.0.0.1:5000/ --pid 4711
  fanbus bench http http://127.0.0.1:5000/ --rate 2000 --plot latency.svg
  fanbus bench http http://127.0.0.1:5000/ --connections 8 --in-flight 16
  fanbus bench http https://example.org/orders --method POST --body '{"id": 1}' \\
      --header 'Content-Type: application/json'

A status of 400 or above counts as wrong. Unit: a response.

"""

_ECHO = """\
Send messages that the server sends back on the same connection. The number, size and order of
the received messages are checked.
"""
_ECHO_EXAMPLES = """\
examples:
  fanbus bench echo ws://127.0.0.1:5000/echo
  fanbus bench echo ws://127.0.0.1:5000/echo --in-flight 16 --bytes 1024 --binary
  fanbus bench echo wss://example.org/echo --rate 1000 --prefix 'Echo: '

Unit: a message received back.

"""

_FANOUT = """\
Publish messages that the server sends to every connection of a topic, a room or a channel. Every
subscriber must receive each message, once, and all in one order. Publishers connect to the same
path and receive every message too, unless --publish-url names another path.
"""
_FANOUT_EXAMPLES = """\
examples:
  fanbus bench fanout ws://127.0.0.1:5000/rooms/lobby
  fanbus bench fanout ws://127.0.0.1:5000/rooms/lobby --subscribers 1000 --publishers 1 --rate 100
  fanbus bench fanout ws://127.0.0.1:5000/ws --hello '{"subscribe": "news"}'

The measurement begins when a first message has reached all subscribers. In the closed loop, a
message that does not reach all of them stops the loop; after a second without any message (a stall)
it counts as missing. Unit: a delivery, which is one message received by one connection.

"""

_HANDSHAKE = """\
Open a WebSocket and reset the connection as soon as it is open, again and again.
"""
_HANDSHAKE_EXAMPLES = """\
examples:
  fanbus bench handshake ws://127.0.0.1:5000/echo
  fanbus bench handshake wss://127.0.0.1:5000/echo --rate 500 --insecure

With wss:// this includes the TLS handshake. Unit: a handshake.

"""

_IDLE = """\
Open WebSockets, hold them open and answer pings, to measure the cost of an idle connection.
"""
_IDLE_EXAMPLES = """\
examples:
  fanbus bench idle ws://127.0.0.1:5000/echo --connections 10000 --pid 4711

With --pid, the memory of each connection in the server's processes is measured, without the
kernel's memory for sockets. 10,000 connections need as many open files on both sides (ulimit -n)
and, if the server has another address than 127.0.0.1, as many source ports.

"""


_SCRIPT = """\
Each connection runs a script: it sends messages, waits for expected messages, and repeats.
"""
_SCRIPT_EXAMPLES = """\
a script:
  connect /rooms/lobby?name=bench
  send {"id": "($CLIENT)", "text": "hello"}
  expect ($CLIENT)
  repeat
    send {"id": "($CLIENT of $TURN)", "text": "again"}
    expect ($CLIENT of $TURN)

The lines before repeat run once, the lines below it again and again, without a pause. expect
waits for a message that contains the text, and skips all others. $CLIENT is the number of the
connection, $TURN the number of finished repetitions; put other characters around them, because 1
is also contained in 11. # begins a comment.

examples:
  fanbus bench script ws://127.0.0.1:5000 --script chat.script -c 100 --pid 4711

The script sets the path. Unit: a turn, which is one run of the repeated lines.

"""


def add_to(
    commands: Any, short: str, measure: Command, self_test: Command, server: Command
) -> None:
    """Adds `bench` to an argument parser's subcommands."""
    bench = commands.add_parser(
        "bench",
        help=short,
        description=_OVERVIEW,
        epilog=_LOOPS + "\n" + _STATUS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    modes = bench.add_subparsers(title="modes", required=True, metavar="MODE", dest="mode")

    def mode(name: str, short: str, text: str, examples: str, has_rate: bool) -> ArgumentParser:
        parser: ArgumentParser = modes.add_parser(
            name,
            help=short,
            description=text,
            epilog=examples + (_LOOPS + "\n" if has_rate else "") + _STATUS,
            formatter_class=RawDescriptionHelpFormatter,
        )
        scheme = "http:// or https://" if name == "http" else "ws:// or wss://"
        parser.add_argument("url", metavar="URL", help=f"{scheme}, host, port, path")
        parser.set_defaults(run=measure)
        return parser

    http = mode("http", "requests and responses", _HTTP, _HTTP_EXAMPLES, True)
    _connections(http, 64)
    _in_flight(http, "requests in flight on each connection, pipelined [1]", "requests")
    http.add_argument("--method", default="GET", help="the request's method [GET]")
    http.add_argument("--body", metavar="TEXT", default="", help="its body; @FILE reads it")
    _common(http)

    echo = mode("echo", "messages that come back to their sender", _ECHO, _ECHO_EXAMPLES, True)
    _connections(echo, 64)
    _in_flight(echo, "messages in flight on each connection [1]")
    _messages(echo)
    echo.add_argument(
        "--prefix", metavar="TEXT", default="", help="text that the server puts before each message"
    )
    _websocket(echo)
    _common(echo)

    fanout = mode(
        "fanout", "messages from one client to all clients", _FANOUT, _FANOUT_EXAMPLES, True
    )
    fanout.add_argument(
        "-c",
        "--subscribers",
        dest="connections",
        type=int,
        metavar="N",
        help="connections that only receive [200]",
    )
    fanout.add_argument(
        "--publishers", type=int, metavar="N", help="more connections, which publish in turn [4]"
    )
    fanout.add_argument(
        "--publish-url", metavar="URL", help="URL that publishers connect to instead"
    )
    _in_flight(fanout, "messages in flight, of all publishers together [64]")
    _messages(fanout)
    fanout.add_argument(
        "--records",
        action="store_true",
        help="send JSON records, which compress like real data, instead of dots",
    )
    _websocket(fanout)
    _common(fanout)

    handshake = mode(
        "handshake", "connect, upgrade, disconnect", _HANDSHAKE, _HANDSHAKE_EXAMPLES, True
    )
    _connections(handshake, 64)
    _rate(handshake, "handshakes")
    _websocket(handshake, with_messages=False)
    _common(handshake)

    idle = mode("idle", "idle connections", _IDLE, _IDLE_EXAMPLES, False)
    _connections(idle, 1000)
    _websocket(idle, with_messages=False)
    _hello(idle)
    _common(idle)

    conversation = mode("script", "a conversation from a file", _SCRIPT, _SCRIPT_EXAMPLES, False)
    conversation.add_argument(
        "--script", required=True, metavar="FILE", help="file with the script, see below"
    )
    _connections(conversation, 64)
    _websocket(conversation, with_messages=False)
    _common(conversation)

    test = modes.add_parser(
        "self-test",
        help="measure the limits of this driver on this machine",
        description="Measure the driver against a minimal server (a bare epoll loop in Rust, in "
        "its own process). No other figure of `fanbus bench` on this machine can be higher.",
    )
    test.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for each row [2]")
    test.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    test.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    test.set_defaults(run=self_test)

    floor = modes.add_parser(
        "server",
        help="run the minimal server that self-test measures",
        description="Serve /echo (WebSocket, each message comes back to its sender), any other "
        "path as a relay (WebSocket, each message goes to all clients), and a small JSON document "
        "over HTTP, on 127.0.0.1. It has no limits and gives no guarantees: it is the floor that "
        "other servers are compared with. Prints its address.",
    )
    floor.add_argument("--port", type=int, default=0, help="0 picks a free one [0]")
    floor.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="threads that share the port and the relay [1]",
    )
    floor.add_argument(
        "--with-parent", action="store_true", help="exit when the parent process exits"
    )
    floor.set_defaults(run=server)


def settings(options: Namespace) -> BenchSettings:
    """The settings for `_core.bench`. Options without a value have its defaults."""
    names = (
        "mode url publish_url pid seconds warmup patience connections publishers in_flight rate "
        "bytes binary records compressed prefix envelope hello greeting subprotocol headers method "
        "body ca_file insecure script"
    )
    given = dict(vars(options))
    if options.mode == "script":
        found = script.read(options.script)
        given["url"] = options.url.rstrip("/") + found.path
        given["script"] = (found.first, found.again)
    chosen = {name: given[name] for name in names.split() if given.get(name) is not None}
    if "body" in chosen:
        chosen["body"] = _body(chosen["body"])
    return cast("BenchSettings", chosen)


def _body(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise ValueError(f"--body {text}: {error.strerror}.") from None


def _connections(parser: ArgumentParser, default: int) -> None:
    parser.add_argument(
        "-c", "--connections", type=int, metavar="N", help=f"connections at a time [{default}]"
    )


def _rate(parser: Any, units: str) -> None:
    parser.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help=f"open loop: {units} per second, all connections together",
    )


def _in_flight(parser: ArgumentParser, text: str, units: str = "messages") -> None:
    loop = parser.add_mutually_exclusive_group()
    loop.add_argument("--in-flight", type=int, metavar="N", help=f"closed loop: {text}")
    _rate(loop, units)


def _messages(parser: ArgumentParser) -> None:
    parser.add_argument("--bytes", type=int, metavar="N", help="size of a message, from 22 [128]")
    parser.add_argument("--binary", action="store_true", help="binary messages, not text")
    parser.add_argument(
        "--envelope",
        metavar="TEXT",
        type=_envelope,
        help="text of the server's protocol around each message, in both directions, with {} for "
        "the message; received messages without it are not counted",
    )


def _websocket(parser: ArgumentParser, with_messages: bool = True) -> None:
    parser.add_argument("--subprotocol", metavar="NAME", help="subprotocol to offer")
    parser.add_argument("--compressed", action="store_true", help="offer permessage-deflate")
    if with_messages:
        _hello(parser)


def _hello(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--hello",
        action="append",
        metavar="TEXT",
        help="first message of each connection; repeatable, for several messages in order",
    )
    parser.add_argument(
        "--greeting",
        metavar="TEXT",
        help="a connection is ready once it has received a message that begins with this [at once]",
    )


def _common(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, metavar="S", help="how long to measure [5]")
    parser.add_argument(
        "--warmup", type=float, metavar="S", help="how long to run before measuring [1]"
    )
    parser.add_argument(
        "--patience",
        type=float,
        metavar="S",
        help="how long to wait for missing messages at the end [5]",
    )
    parser.add_argument(
        "--pid",
        type=int,
        metavar="PID",
        help="the server's process: measure the CPU time and memory of it and its descendants",
    )
    parser.add_argument(
        "-H",
        "--header",
        dest="headers",
        action="append",
        type=_header,
        metavar="'NAME: VALUE'",
        help="extra header of every request (repeatable)",
    )
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust, as PEM")
    parser.add_argument("--insecure", action="store_true", help="trust any certificate")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw the latencies")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _envelope(text: str) -> tuple[str, str]:
    before, place, after = text.partition("{}")
    if not place:
        raise ArgumentTypeError(f"{text!r} must have {{}} in the place of the message")
    return before, after


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"{text!r} is not a header: write it as 'Name: value'")
    return name.strip(), value.strip()
