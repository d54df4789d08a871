"""Large pieces of streamed responses: they arrive in order, and few of them wait for a client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import StartServer
from support.certificates import Certificates
from support.heap import ONE_ALLOCATOR
from support.mixed_chunks import as_bytes, mixed
from support.raw_websocket import RawSocket, SecurePort
from support.servers import Server, wait_for

SEED = 7
CLIENTS = 40
# What a connection, a response and a generator take beside pieces.
BESIDE = 32 << 10
# So many looks in which no generator was asked for more.
LOOKS = 30
# Of a server that is slower than its client, and of one that waits for it most of the time.
RECEIVE_BUFFERS = (None, 8192)

StartPieces = Callable[[bool], Server]


@pytest.fixture
def start(server: StartServer, tmp_path: Path) -> StartPieces:
    """The application, in clear text or with TLS."""

    def start(has_tls: bool) -> Server:
        certified = Certificates(tmp_path).environment() if has_tls else {}
        one = server("large_chunks", environment={**ONE_ALLOCATOR, **certified})
        if has_tls:
            one.port = SecurePort(one.port)
        return one

    return start


def get(path: str, version: str = "1.1") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: 127.0.0.1\r\n\r\n".encode()


def digest_of(pieces: list[bytes]) -> str:
    return hashlib.sha256(b"".join(pieces)).hexdigest()


EXPECTED = [as_bytes(piece) for piece in mixed(SEED)]


def chunks(raw: RawSocket) -> list[bytes]:
    found = []
    while size := int(raw.read_line(), 16):
        found.append(raw.read(size))
        assert raw.read_line() == b""
    assert raw.read_line() == b""
    return found


@pytest.mark.parametrize("has_tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_pieces_of_all_sizes_arrive_whole_and_in_order(
    start: StartPieces, how: str, has_tls: bool
) -> None:
    one = start(has_tls)
    length = sum(map(len, EXPECTED))
    for receive_buffer in RECEIVE_BUFFERS:
        with RawSocket(one.port, receive_buffer=receive_buffer) as raw:
            for _ in range(2):
                raw.write(get(f"/mixed/{how}/{SEED}"))
                assert raw.answer().status == 200
                assert digest_of(chunks(raw)) == digest_of(EXPECTED)
            raw.write(get(f"/stated/{how}/{SEED}"))
            assert raw.answer(head_only=True).headers["content-length"] == str(length)
            assert digest_of([raw.read(length)]) == digest_of(EXPECTED)
            raw.write(get(f"/mixed/{how}/{SEED}", version="1.0"))
            assert raw.answer().status == 200
            assert digest_of([raw.read(length)]) == digest_of(EXPECTED)
            with pytest.raises(EOFError):
                raw.read(1)


@pytest.mark.parametrize("has_tls", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("size", [64 << 10, 1 << 20])
def test_no_more_than_two_pieces_wait_for_a_client_that_does_not_read(
    start: StartPieces, how: str, size: int, has_tls: bool
) -> None:
    one = start(has_tls)
    with ExitStack() as stack:
        asking = stack.enter_context(RawSocket(one.port))

        def look() -> dict[str, int]:
            asking.write(get("/asked"))
            found: dict[str, int] = json.loads(asking.answer().body)
            return found

        before = [look()["live"] for _ in range(3)][-1]
        for _ in range(CLIENTS):
            raw = stack.enter_context(RawSocket(one.port))
            raw.write(get(f"/endless/{how}/{size}"))
            assert raw.answer().status == 200
        equal, asked = 0, 0

        def all_wait() -> bool:
            nonlocal equal, asked
            now = look()["asked"]
            equal, asked = (equal + 1 if now == asked else 0), now
            return equal >= LOOKS

        wait_for(all_wait, "all generators to wait")
        assert asked >= CLIENTS
        each = (look()["live"] - before) / CLIENTS
        assert each < 2 * size + BESIDE


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_client_that_goes_while_its_pieces_are_written_ends_the_generator(
    start: StartPieces, how: str
) -> None:
    one = start(False)
    with RawSocket(one.port) as asking:
        for _ in range(20):
            with RawSocket(one.port) as raw:
                raw.write(get(f"/endless/{how}/{64 << 10}"))
                assert raw.answer().status == 200
                for _ in range(50):
                    raw.read(64 << 10)

        def ended() -> int:
            asking.write(get("/asked"))
            return int(json.loads(asking.answer().body)["ended"])

        wait_for(lambda: ended() == 20, "all generators to end")
