"""The tables of docs/howto/websockets.md: the options, and what real connections are closed with.

src/actors/close.rs compares the whole table with the one in the code.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import fields

import pytest

from conftest import StartServer
from fanbus import WebSocketConfig
from support.paths import ROOT
from support.raw_websocket import CLOSE, CONTINUATION, PING, TEXT, RawSocket, closing, encode
from support.servers import Server

PAGE = (ROOT / "docs/howto/websockets.md").read_text()
REASONS = [
    (int(code), "" if reason == "*(empty)*" else reason.strip("`"))
    for code, reason in re.findall(r"^\| (\d{4}) \| ([^|]+) \|", PAGE, re.MULTILINE)
]
ZEROS = "00000000"
DEFLATE: dict[str, str | None] = {"Sec-WebSocket-Extensions": "permessage-deflate"}


@pytest.fixture(scope="module")
def closes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("closes") / "stderr"
    environment = {"FANBUS_BUS_SIZE": "64K"}
    with Server("close_codes", workers=1, environment=environment, stderr=stderr) as server:
        yield server


def in_page(code: int, reason: str) -> bool:
    """Whether the table has this code with this reason, whatever the numbers in it."""
    return (code, re.sub(r"\d+(\.\d+)?", "N", reason)) in {
        (code, re.sub(r"\d+(\.\d+)?", "N", reason)) for code, reason in REASONS
    }


def test_the_table_of_options_is_that_of_the_class() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert rows == [(field.name, repr(field.default)) for field in fields(WebSocketConfig)]


VIOLATIONS = [
    pytest.param("/", [encode(TEXT, b"x", reserved=2)], 1002, id="a reserved bit"),
    pytest.param("/", [encode(0x3)], 1002, id="a reserved opcode"),
    pytest.param("/", [encode(PING, final=False)], 1002, id="a ping in fragments"),
    pytest.param("/", [encode(PING, b"x" * 126)], 1002, id="a ping of 126 bytes"),
    pytest.param("/", [encode(CONTINUATION)], 1002, id="a continuation of nothing"),
    pytest.param("/", [encode(TEXT, final=False), encode(TEXT)], 1002, id="a message in a message"),
    pytest.param("/", [encode(TEXT, mask=False)], 1002, id="a frame without a mask"),
    pytest.param("/", [bytes.fromhex(f"81fe0001{ZEROS}78")], 1002, id="a long form of a length"),
    pytest.param("/", [bytes.fromhex(f"81ff80{ZEROS * 2}")], 1002, id="a length of 64 bits"),
    pytest.param("/", [encode(CLOSE, closing(1005))], 1002, id="a reserved close code"),
    pytest.param("/", [encode(CLOSE, b"x")], 1002, id="half a close code"),
    pytest.param("/", [encode(TEXT, b"\xff")], 1007, id="a text that is not UTF-8"),
    pytest.param("/", [encode(TEXT, b"\xff" * 9, reserved=4)], 1007, id="damaged deflate data"),
    pytest.param("/rate", [encode(TEXT)] * 20, 1008, id="too many messages"),
    pytest.param("/small", [encode(TEXT, b"x" * 1001)], 1009, id="a message that is too large"),
    pytest.param(
        "/",
        [encode(TEXT, final=False), *[encode(CONTINUATION, final=False)] * (1 << 17)],
        1009,
        id="too many fragments",
    ),
    pytest.param("/relay", [encode(TEXT, b"x" * 20_000)], 1009, id="too large for the bus"),
    pytest.param("/quiet", [], 1001, id="silence"),
    pytest.param("/return", [], 1000, id="a handler that returns"),
    pytest.param("/cancel", [], 1001, id="a handler that is cancelled"),
    pytest.param("/raise", [], 1011, id="a handler that raises"),
    pytest.param("/flood", [], 1013, id="a handler that does not await"),
]


@pytest.mark.parametrize(("path", "frames", "code"), VIOLATIONS)
def test_the_page_has_the_reason_of_each_close(
    closes: Server, path: str, frames: list[bytes], code: int
) -> None:
    with RawSocket(closes.port) as raw:
        raw.open(path, DEFLATE)
        raw.write(b"".join(frames))
        closed = raw.closed()
        assert closed[0] == code
        assert in_page(*closed), closed


def test_a_handler_sends_its_own_code_and_the_client_gets_its_own_back(closes: Server) -> None:
    with RawSocket(closes.port) as raw:
        raw.open("/code")
        assert raw.closed() == (4000, "goodbye")
    with RawSocket(closes.port) as raw:
        raw.open("/")
        raw.send(CLOSE, closing(3001, "bye"))
        assert raw.closed() == (3001, "")


def test_a_server_that_ends_sends_the_reason_of_the_page(server: StartServer) -> None:
    one = server("close_codes")
    with RawSocket(one.port) as raw:
        raw.open("/")
        one.send_signal(signal.SIGTERM)
        closed = raw.closed()
    assert closed[0] == 1012
    assert in_page(*closed)
    assert one.wait() == 0


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {"Sec-WebSocket-Key": "x"}, 400),
        ("/", {"Origin": "https://evil.example"}, 403),
        ("/nowhere", {}, 404),
        ("/", {"Upgrade": None}, 426),
        ("/", {"Sec-WebSocket-Version": "12"}, 426),
    ],
)
def test_the_page_has_the_status_of_each_refusal(
    closes: Server, path: str, headers: dict[str, str | None], status: int
) -> None:
    with RawSocket(closes.port) as raw:
        assert raw.upgrade(path, headers).status == status
    assert f"| {status} |" in PAGE
