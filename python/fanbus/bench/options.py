"""The command lines of `fanbus bench`: what can be asked for, and help that is worth reading."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fanbus.bench import script
from fanbus.bench.tune_options import positive

if TYPE_CHECKING:
    from fanbus._core import BenchSettings

__all__ = ["add_to", "settings"]

Command = Callable[[Namespace], int]

_OVERVIEW = """\
Measure a server, Fanbus or any other, by its URL. What is counted is not only how much and how
fast, but whether every message arrived, once, and in one order.

  fanbus bench http http://127.0.0.1:5000/
  fanbus bench echo ws://127.0.0.1:5000/echo --in-flight 16
  fanbus bench fanout ws://127.0.0.1:5000/rooms/lobby --subscribers 1000 --rate 100
  fanbus bench MODE --help
"""

_LOOPS = """\
closed loop and open loop:
  Without --rate the next is sent when one has come back (closed loop): this finds how much the
  server can do. With --rate so many are sent per second, whatever comes back (open loop), and a
  latency counts from the moment at which a message was due: this finds how long people wait, for
  a server that stalls cannot hide the wait of those who came meanwhile.
"""

_STATUS = """\
exit status:
  0 everything arrived as it should; 1 something was missing, wrong, doubled, or in different
  orders; 2 it could not be measured, and why is said; 130 it was interrupted.
"""

_HTTP = """\
Send requests, again and again, on connections that stay open: one request at a time on each, or
--in-flight of them, pipelined.
"""
_HTTP_EXAMPLES = """\
examples:
  fanbus bench http http://127.0.0.1:5000/ --pid 4711
  fanbus bench http http://127.0.0.1:5000/ --rate 2000 --plot latency.svg
  fanbus bench http http://127.0.0.1:5000/ --connections 8 --in-flight 16
  fanbus bench http https://example.org/orders --method POST --body '{"id": 1}' \\
      --header 'Content-Type: application/json'

A status of 400 and above is wrong. Unit: a response.

"""

_ECHO = """\
Send messages that the server sends back to the same connection. What comes back is checked
against what was sent: its number, its size, its order.
"""
_ECHO_EXAMPLES = """\
examples:
  fanbus bench echo ws://127.0.0.1:5000/echo
  fanbus bench echo ws://127.0.0.1:5000/echo --in-flight 16 --bytes 1024 --binary
  fanbus bench echo wss://example.org/echo --rate 1000 --prefix 'Echo: '

Unit: a message that came back.

"""

_FANOUT = """\
Publish messages that the server hands to every connection of a topic, a room or a channel. All
must get each one, once, and all in one order. Publishers are connections on the same path, and
get every message too, unless --publish-url says that they are elsewhere.
"""
_FANOUT_EXAMPLES = """\
examples:
  fanbus bench fanout ws://127.0.0.1:5000/rooms/lobby
  fanbus bench fanout ws://127.0.0.1:5000/rooms/lobby --subscribers 1000 --publishers 1 --rate 100
  fanbus bench fanout ws://127.0.0.1:5000/ws --hello '{"subscribe": "news"}'

It begins when a first message has reached everybody. In the closed loop a message that does not
reach everybody stops the loop; after a second in which nothing came (a stall) it is given up.
Unit: a delivery, which is one message at one connection.

"""

_HANDSHAKE = """\
Open a WebSocket, and reset the connection as soon as it is open; over and over.
"""
_HANDSHAKE_EXAMPLES = """\
examples:
  fanbus bench handshake ws://127.0.0.1:5000/echo
  fanbus bench handshake wss://127.0.0.1:5000/echo --rate 500 --insecure

With wss:// the handshake of TLS is in it. Unit: a handshake.

"""

_IDLE = """\
Open WebSockets and hold them, answering pings: what does a connection cost that does nothing?
"""
_IDLE_EXAMPLES = """\
examples:
  fanbus bench idle ws://127.0.0.1:5000/echo --connections 10000 --pid 4711

With --pid it says how much memory each connection takes in the server's processes. The kernel's
own memory for sockets is not in it. 10,000 connections need as many open files on both sides
(ulimit -n) and, if the server is on another address than 127.0.0.1, as many source ports.

"""


_SCRIPT = """\
Let each connection follow a script: send, wait for what it expects, and repeat.
"""
_SCRIPT_EXAMPLES = """\
a script:
  connect /rooms/lobby?name=bench
  send {"id": "($CLIENT)", "text": "hello"}
  expect ($CLIENT)
  repeat
    send {"id": "($CLIENT of $TURN)", "text": "again"}
    expect ($CLIENT of $TURN)

What stands before repeat is done once, what stands below it over and over, without a pause.
expect waits for a message that contains the text, and passes over all others. $CLIENT is the
connection's number, $TURN counts how often it has come to the end; put something around them,
for 1 is in 11, too. # begins a comment.

examples:
  fanbus bench script ws://127.0.0.1:5000 --script chat.script -c 100 --pid 4711

The path is the script's. Unit: a turn, which is once through what is repeated.

"""


def add_to(commands: Any, measure: Command, self_test: Command, server: Command) -> None:
    """Adds `bench` to an argument parser's subcommands."""
    bench = commands.add_parser(
        "bench",
        help="measure a server: HTTP, echo, fan-out, handshakes, idle connections",
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
    _in_flight(http, "requests on their way on each connection, pipelined [1]", "requests")
    http.add_argument("--method", default="GET", help="the request's method [GET]")
    http.add_argument("--body", metavar="TEXT", default="", help="its body; @FILE reads it")
    _common(http)

    echo = mode("echo", "what is sent comes back", _ECHO, _ECHO_EXAMPLES, True)
    _connections(echo, 64)
    _in_flight(echo, "messages on their way for each connection [1]")
    _messages(echo)
    echo.add_argument(
        "--prefix", metavar="TEXT", default="", help="what the server puts before each message"
    )
    _websocket(echo)
    _common(echo)

    fanout = mode("fanout", "what one publishes, everybody gets", _FANOUT, _FANOUT_EXAMPLES, True)
    fanout.add_argument(
        "-c",
        "--subscribers",
        dest="connections",
        type=int,
        metavar="N",
        help="connections that only listen [200]",
    )
    fanout.add_argument(
        "--publishers", type=int, metavar="N", help="further ones, which send in turn [4]"
    )
    fanout.add_argument("--publish-url", metavar="URL", help="where publishers connect instead")
    _in_flight(fanout, "messages that have not reached everybody, of all publishers [64]")
    _messages(fanout)
    fanout.add_argument(
        "--records",
        action="store_true",
        help="messages are JSON records, which deflate as real data do, instead of dots",
    )
    _websocket(fanout)
    _common(fanout)

    handshake = mode("handshake", "connect, upgrade, go", _HANDSHAKE, _HANDSHAKE_EXAMPLES, True)
    _connections(handshake, 64)
    _rate(handshake, "handshakes")
    _websocket(handshake, with_messages=False)
    _common(handshake)

    idle = mode("idle", "connections that do nothing", _IDLE, _IDLE_EXAMPLES, False)
    _connections(idle, 1000)
    _websocket(idle, with_messages=False)
    _hello(idle)
    _common(idle)

    conversation = mode("script", "a conversation from a file", _SCRIPT, _SCRIPT_EXAMPLES, False)
    conversation.add_argument(
        "--script", required=True, metavar="FILE", help="what each connection says and expects"
    )
    _connections(conversation, 64)
    _websocket(conversation, with_messages=False)
    _common(conversation)

    test = modes.add_parser(
        "self-test",
        help="what this driver can do on this machine",
        description="Measure the driver against a server that does next to nothing (a bare epoll "
        "loop in Rust, in a process of its own): more than this, no figure of `fanbus bench` can "
        "be on this machine.",
    )
    test.add_argument("--seconds", type=float, default=2.0, metavar="S", help="for each row [2]")
    test.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    test.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    test.set_defaults(run=self_test)

    floor = modes.add_parser(
        "server",
        help="the server that self-test measures",
        description="Serve /echo (WebSocket, every message comes back), any other path as a relay "
        "(WebSocket, every message goes to all), and a small JSON document over HTTP, on "
        "127.0.0.1. It promises nothing and limits nothing: it is the floor to compare with. "
        "Prints its address.",
    )
    floor.add_argument("--port", type=int, default=0, help="0 picks a free one [0]")
    floor.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="threads that share the port, and what is for all [1]",
    )
    floor.add_argument(
        "--with-parent", action="store_true", help="end when the parent process does"
    )
    floor.set_defaults(run=server)


def settings(options: Namespace) -> BenchSettings:
    """What `_core.bench` is to measure. What was not said is left to its defaults."""
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
        "--rate", type=float, metavar="R", help=f"open loop: {units} per second, of all together"
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
        help="what the server's protocol wants around each message, in both directions, with {} "
        "in its place; what comes without it is not counted",
    )


def _websocket(parser: ArgumentParser, with_messages: bool = True) -> None:
    parser.add_argument("--subprotocol", metavar="NAME", help="which one to ask for")
    parser.add_argument(
        "--compressed", action="store_true", help="agree with the server on permessage-deflate"
    )
    if with_messages:
        _hello(parser)


def _hello(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--hello",
        action="append",
        metavar="TEXT",
        help="what each connection sends first; can be repeated, for several messages in order",
    )
    parser.add_argument(
        "--greeting",
        metavar="TEXT",
        help="a connection is ready when a message has come that begins with this [at once]",
    )


def _common(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, metavar="S", help="how long to measure [5]")
    parser.add_argument("--warmup", type=float, metavar="S", help="how long to run before [1]")
    parser.add_argument(
        "--patience", type=float, metavar="S", help="how long to wait for what is missing [5]"
    )
    parser.add_argument(
        "--pid",
        type=int,
        metavar="PID",
        help="the server's process: CPU time and memory of it and all its descendants are told",
    )
    parser.add_argument(
        "-H",
        "--header",
        dest="headers",
        action="append",
        type=_header,
        metavar="'NAME: VALUE'",
        help="another header of every request; can be repeated",
    )
    parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust, as PEM")
    parser.add_argument("--insecure", action="store_true", help="trust any certificate")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw the latencies")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _envelope(text: str) -> tuple[str, str]:
    before, place, after = text.partition("{}")
    if not place:
        raise ArgumentTypeError(f"{text!r} has no {{}} where the message is to stand")
    return before, after


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"{text!r} is no header: write it as 'Name: value'")
    return name.strip(), value.strip()
