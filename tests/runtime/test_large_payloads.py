"""Large payloads: what they cost in memory. Page faults are counted, not timed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from conftest import StartServer
from support.raw_websocket import BINARY, PING, PONG, TEXT, RawSocket, encode
from support.servers import Server, own_memory, wait_for

SIZE = 1 << 20
CLIENTS = 4
"""Each has one request or message under way."""

WARM_UP = 30
ROUNDS = 30
MOST_FAULTS = 10

# What a worker may hold more than before, after payloads that are gone.
SLACK_BYTES = 10 << 20


def page_faults(one: Server) -> int:
    """The pages that the kernel has given the worker so far."""
    (worker,) = one.worker_pids()
    stat = Path(f"/proc/{worker}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[7])


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def post(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
    return head.encode() + b"y" * SIZE


def read_chunks(raw: RawSocket) -> None:
    """A response in chunks, of which the answer has read the head."""
    total = 0
    while size := int(raw.read_line(), 16):
        total += len(raw.read(size))
        assert raw.read_line() == b""
    assert raw.read_line() == b""
    assert total == SIZE


def read_whole(raw: RawSocket) -> None:
    answer = raw.answer()
    assert answer.status == 200
    assert len(answer.body) == SIZE or int(answer.body) == SIZE


def read_stream(raw: RawSocket) -> None:
    assert raw.answer().status == 200
    read_chunks(raw)


def read_message(raw: RawSocket) -> None:
    assert len(raw.frame().payload) == SIZE


KINDS: dict[str, tuple[bytes, Callable[[RawSocket], None]]] = {
    "async": (get("/async"), read_whole),
    "def": (get("/def"), read_whole),
    "text": (get("/text"), read_whole),
    "upload": (post("/upload"), read_whole),
    "echo": (encode(BINARY, b"z" * SIZE), read_message),
    "echo of text": (encode(TEXT, b"z" * SIZE), read_message),
    "pieces of 64 KiB": (get("/pieces/65536"), read_stream),
    "pieces of 1 MiB": (get("/pieces/1048576"), read_stream),
    "pieces of a thread": (get("/pieces-def/65536"), read_stream),
}


def run(raws: list[RawSocket], kind: str, rounds: int) -> None:
    sent, read = KINDS[kind]
    for _ in range(rounds):
        for raw in raws:
            raw.write(sent)
        for raw in raws:
            read(raw)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mebibyte_takes_no_pages_from_the_kernel_once_the_worker_is_warm(
    server: StartServer, kind: str
) -> None:
    """1 MiB is 256 pages, and each costs as much as to copy it several times."""
    one = server("large_payloads", workers=1)
    with ExitStack() as stack:
        raws = [stack.enter_context(RawSocket(one.port)) for _ in range(CLIENTS)]
        if kind.startswith("echo"):
            for raw in raws:
                raw.open("/echo")
        run(raws, kind, WARM_UP)
        before = page_faults(one)
        run(raws, kind, ROUNDS)
        each = (page_faults(one) - before) / (ROUNDS * CLIENTS)
    assert each < MOST_FAULTS


def test_an_idle_worker_returns_the_memory_of_large_payloads(server: StartServer) -> None:
    one = server("large_payloads", workers=1)
    with ExitStack() as stack:
        raws = [stack.enter_context(RawSocket(one.port)) for _ in range(CLIENTS)]
        for raw in raws:
            raw.write(get("/small"))
            assert raw.answer().status == 200
        before = own_memory(one)
        with ExitStack() as echoes:
            loud = [echoes.enter_context(RawSocket(one.port)) for _ in range(2 * CLIENTS)]
            for raw in loud:
                raw.open("/echo")
            run(loud, "echo", WARM_UP)
        run(raws, "upload", WARM_UP)
        run(raws, "def", WARM_UP)
        most = own_memory(one)
        assert most > before + SLACK_BYTES, "the worker keeps memory between payloads"
        wait_for(lambda: own_memory(one) < before + SLACK_BYTES, "the memory to be returned")


def test_settings_of_the_allocator_in_the_environment_are_respected(server: StartServer) -> None:
    """They are those of glibc then, which returns memory at once."""
    one = server("large_payloads", workers=1, environment={"MALLOC_TRIM_THRESHOLD_": "131072"})
    with ExitStack() as stack:
        raws = [stack.enter_context(RawSocket(one.port)) for _ in range(CLIENTS)]
        run(raws, "async", WARM_UP)
        before = page_faults(one)
        run(raws, "async", ROUNDS)
        each = (page_faults(one) - before) / (ROUNDS * CLIENTS)
    assert each > MOST_FAULTS


def mixed_messages(size: int) -> list[str | bytes]:
    return [
        *("first", "a" * size, "\N{SNOWMAN}" * (size // 3), b"published"),
        *(b"b" * size, b"c" * size, b"d" * size, "last"),
    ]


@pytest.mark.parametrize("size", [3, 16 * 1024 - 1, 16 * 1024, 65_535, 65_536, SIZE])
@pytest.mark.parametrize("deflates", [False, True])
def test_messages_of_every_size_and_type_come_in_the_order_of_the_calls(
    server: StartServer, size: int, deflates: bool
) -> None:
    one = server("large_payloads", workers=1, environment={"COMPRESSION": "1"} if deflates else {})
    url = f"ws://127.0.0.1:{one.port}/mixed"
    with connect(url, compression="deflate" if deflates else None, max_size=None) as client:
        for _ in range(2):
            client.send(str(size))
            assert [client.recv() for _ in range(8)] == mixed_messages(size)


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_slow_client_gets_large_messages_whole_and_pongs_between_them(
    server: StartServer, size: int
) -> None:
    """The socket takes a part of them, and the rest waits."""
    one = server("large_payloads", workers=1)
    with RawSocket(one.port) as raw:
        raw.open("/mixed")
        raw.send(TEXT, str(size).encode())
        raw.send(PING, b"are you there")
        expected = [m.encode() if isinstance(m, str) else m for m in mixed_messages(size)]
        got: list[bytes] = []
        pongs = 0
        while len(got) < len(expected) or not pongs:
            frame = raw.frame()
            if frame.opcode == PONG:
                assert frame.payload == b"are you there"
                pongs += 1
            else:
                got.append(frame.payload)
        assert got == expected


def test_a_large_response_of_any_text_is_sent_as_utf_8(server: StartServer) -> None:
    one = server("large_payloads", workers=1)
    with one.http() as http:
        assert http.get("/snow").text == "\N{SNOWMAN}" * SIZE
        assert http.head("/snow").headers["content-length"] == str(3 * SIZE)


def test_objects_are_released_when_they_were_sent_or_their_client_has_left(
    server: StartServer,
) -> None:
    one = server("large_payloads", workers=1)
    with RawSocket(one.port) as raw:
        for path in ("/tracked", "/tracked-def"):
            for _ in range(5):
                raw.write(get(path))
                assert raw.answer().body == b"t" * SIZE
    with RawSocket(one.port) as raw:
        raw.open("/tracked")
        for _ in range(5):
            raw.send(TEXT, b"next")
            assert raw.frame().payload == b"t" * SIZE
    for path in ("/tracked", "/tracked-def"):
        with RawSocket(one.port) as gone:  # without reading it
            gone.write(get(path) * 2)
    with RawSocket(one.port) as gone:
        gone.open("/tracked")
        gone.send(TEXT, b"next")
        gone.read(100)
    with one.http() as http:
        wait_for(lambda: int(http.get("/released").text) >= 5 + 5 + 5 + 2 + 1, "their release")
