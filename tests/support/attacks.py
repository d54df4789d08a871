"""What clients that mean harm do to a server.

Each attack is a generator: up to its `yield` the harm is done, behind it the clients go. All are
bounded, and none waits for time to pass.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import resource
import socket
import ssl
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from support.raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    RawSocket,
    closing,
    encode,
    upgrade_request,
)

Attack = Callable[[int], Iterator[None]]

KINDS = ("echo", "turbo", "relay")
CLIENTS = 60
MESSAGE = 1024 * 1024  # the largest that the server takes
IDLE = 10_000
OTHER_DESCRIPTORS = 200
DEFLATE: dict[str, str | None] = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def raise_descriptor_limit() -> int:
    """As far as it goes, for this process and those that it starts. How many idle clients fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = IDLE + OTHER_DESCRIPTORS
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return wanted - OTHER_DESCRIPTORS


@contextlib.contextmanager
def crowd(
    port: int, *, count: int = CLIENTS, narrow: bool = False, deflate: bool = False
) -> Iterator[list[RawSocket]]:
    """Open WebSockets, of all kinds in turn."""
    with ExitStack() as stack:
        clients = []
        for number, kind in zip(range(count), itertools.cycle(KINDS)):
            client = RawSocket(port, receive_buffer=4096 if narrow else None)
            stack.enter_context(client)
            client.open(f"/{kind}/{number}", DEFLATE if deflate else None)
            clients.append(client)
        yield clients


def reset(client: RawSocket) -> None:
    """Throws the connection away: the server sees a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


def push(client: RawSocket, data: bytes) -> bool:
    """Sends what the server takes at once. Whether that was all."""
    client.socket.settimeout(0)
    try:
        while data:
            data = data[client.socket.send(data) :]
    except (BlockingIOError, ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return False
    finally:
        client.socket.settimeout(20)
    return True


def flood(port: int, data: bytes, times: int) -> Iterator[None]:
    """Clients that read nothing send `data` as often as the server takes it."""
    with crowd(port, narrow=True) as clients:
        for _ in range(times):
            for client in clients:
                push(client, data)
        yield
        for client in clients:
            reset(client)


def slow_readers(port: int) -> Iterator[None]:
    yield from flood(port, encode(BINARY, bytes(64 * 1024)), 64)


def floods_of_pings(port: int) -> Iterator[None]:
    yield from flood(port, encode(PING, bytes(125)) * 1000, 30)


def slow_writers(port: int) -> Iterator[None]:
    message = encode(TEXT, b"x" * 200)
    with crowd(port) as clients:
        for position in range(len(message)):
            for client in clients:
                client.write(message[position : position + 1])
            if position == len(message) // 2:
                yield
        for client in clients:
            assert client.message() == "x" * 200, "slow, but in order"


def half_frames(port: int) -> Iterator[None]:
    with crowd(port) as clients:
        for client in clients:
            client.write(encode(BINARY, bytes(MESSAGE))[: MESSAGE // 2])
        yield


def half_requests(port: int) -> Iterator[None]:
    request, _ = upgrade_request("/turbo/half")
    with ExitStack() as stack:
        for number in range(CLIENTS):
            client = stack.enter_context(RawSocket(port))
            client.write(request[: number * len(request) // CLIENTS])
        yield


def huge_lengths(port: int) -> Iterator[None]:
    announced = {2**63 - 1: 1009, 2**31: 1009, MESSAGE + 1: 1009, 2**63: 1002, 2**64 - 1: 1002}
    with crowd(port) as clients:
        for client, (length, code) in zip(clients, itertools.cycle(announced.items())):
            client.send(BINARY, announced=length)
            assert client.closed()[0] == code, length
        yield


def endless_fragments(port: int) -> Iterator[None]:
    piece = encode(CONTINUATION, bytes(16 * 1024), final=False)
    with crowd(port) as clients:
        for client in clients:
            client.send(BINARY, final=False)
        for _ in range(MESSAGE // (16 * 1024)):
            for client in clients:
                client.write(piece)
        yield
        for client in clients:
            client.send(CONTINUATION, b"!", final=False)
            assert client.closed()[0] == 1009


def floods_of_empty_fragments(port: int) -> Iterator[None]:
    empty = encode(CONTINUATION, final=False) * 4096
    with crowd(port, count=6) as clients:
        for client in clients:
            client.send(TEXT, final=False)
            # One short of the most, however the first counts; then one too many.
            client.write(empty * 31 + empty[: -6 * 2])
        yield
        for client in clients:
            client.write(empty[: 6 * 3])
            assert client.closed()[0] == 1009


@functools.cache
def bombs() -> tuple[bytes, ...]:
    """64 MiB of zeros; the same in a message of fragments; and some that end in the middle."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole = deflater.compress(bytes(64 * MESSAGE)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    payload = whole.removesuffix(b"\x00\x00\xff\xff")
    half = len(payload) // 2
    return (
        encode(BINARY, payload, reserved=4),
        encode(BINARY, payload[:half], reserved=4, final=False)
        + encode(CONTINUATION, payload[half:]),
        encode(TEXT, payload[:2000], reserved=4) * 20,
    )


def deflate_bombs(port: int) -> Iterator[None]:
    with crowd(port, deflate=True) as clients:
        for client, bomb in zip(clients, itertools.cycle(bombs())):
            client.write(bomb)
        for client in clients:
            assert client.closed()[0] == 1009
        yield


def resets_in_every_state(port: int) -> Iterator[None]:
    """Each client is thrown away at another place of its life."""
    request, _ = upgrade_request("/turbo/resets")
    for part in (0, 1, len(request) // 2, len(request) - 1, len(request)):
        for _ in range(10):
            client = RawSocket(port)
            client.write(request[:part])
            reset(client)
    frame = encode(BINARY, bytes(100_000))
    said: tuple[bytes, ...] = (
        b"",
        frame[:1],
        frame[:3],
        frame[:50_000],
        frame,
        frame + encode(TEXT, b"one, and", final=False),
        encode(CLOSE, closing(1000))[:3],
        encode(CLOSE, closing(1000)),
        encode(CLOSE, closing(1000)) + frame,
        encode(TEXT, b"\xff"),
    )
    for last in said:
        with crowd(port, count=9) as clients:
            for client in clients:
                client.write(last)
                reset(client)
    with crowd(port) as clients:
        for client in clients:
            client.send(CLOSE, closing(1000))
            assert client.closed()[0] == 1000
            reset(client)
    yield


def idle_connections(port: int, count: int) -> Iterator[None]:
    def handshake(number: int) -> bytes:
        request, _ = upgrade_request(f"/{KINDS[number % 3]}/{number}")
        return request

    yield from idle(port, count, handshake, 101)


def idle_streams(port: int, count: int) -> Iterator[None]:
    """Event streams of as many topics."""
    yield from idle(
        port, count, lambda it: f"GET /events/{it} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 200
    )


def idle(port: int, count: int, request: Callable[[int], bytes], status: int) -> Iterator[None]:
    """Requests go out before answers are read; each 127.0.0.x has its own source ports."""
    with ExitStack() as stack:
        clients = []
        for number in range(count):
            client = RawSocket(port, source=f"127.0.0.{2 + number // 1000}")
            stack.enter_context(client)
            client.write(request(number))
            clients.append(client)
        for client in clients:
            assert client.answer(head_only=True).status == status
        yield
        for client in clients:
            reset(client)


ATTACKS: tuple[Attack, ...] = (
    slow_readers,
    floods_of_pings,
    slow_writers,
    half_frames,
    half_requests,
    huge_lengths,
    endless_fragments,
    floods_of_empty_fragments,
    deflate_bombs,
    resets_in_every_state,
)
