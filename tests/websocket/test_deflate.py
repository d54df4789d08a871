"""permessage-deflate (RFC 7692): with clients that are not ours, and with one that means harm."""

from __future__ import annotations

import asyncio
import os
import random
import zlib
from collections import Counter
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import PerMessageDeflate

from conftest import StartServer
from support.raw_websocket import BINARY, CLOSE, TEXT, RawSocket
from support.servers import DEADLINE_S, Server

OFFER: dict[str, str | None] = {"Sec-WebSocket-Extensions": "permessage-deflate"}
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RSV1 = 0x4

DOORS = ("/rooms/hall", "/relay/hall", "/plain/hall")
CLIENTS_AT_A_DOOR = 20


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    stderr = tmp_path_factory.mktemp("compressed") / "stderr"
    with Server("deflate", workers=1, environment={}, stderr=stderr) as server:
        yield server


def deflated(payload: bytes) -> bytes:
    """The payload of a deflated message."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return whole.removesuffix(b"\x00\x00\xff\xff")


async def open_at(port: int, path: str, *, compressed: bool) -> ClientConnection:
    """A client of the `websockets` library, which offers permessage-deflate or does not."""
    return await connect(
        f"ws://127.0.0.1:{port}{path}",
        compression="deflate" if compressed else None,
        max_size=None,
        open_timeout=DEADLINE_S,
        proxy=None,
    )


def is_deflating(client: ClientConnection) -> bool:
    """What client and server have agreed on."""
    extensions = client.protocol.extensions
    assert all(isinstance(extension, PerMessageDeflate) for extension in extensions)
    return bool(extensions)


def messages_of(publisher: int) -> list[str | bytes]:
    """Text and binary in turn, all sizes; some shrink, some do not."""
    random_bytes = random.Random(publisher)
    messages: list[str | bytes] = []
    for number, length in enumerate([0, 1, 100, 126, 128, 1000] * 5 + [65_536, 200_000]):
        text = f"{publisher}:{number}:" + "grüß euch alle, " * (length // 16)
        binary = f"{publisher}:{number}:".encode() + random_bytes.randbytes(length)
        messages += [text, binary]
    return messages


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_all_clients_get_the_same_once_and_in_one_order(server: StartServer, workers: int) -> None:
    rooms = server("deflate", workers=workers)
    asyncio.run(asyncio.wait_for(everybody_talks(rooms), 100))


async def everybody_talks(rooms: Server) -> None:
    """Clients with and without compression at every door; one of each kind publishes."""
    doors = [(door, on) for door in DOORS for on in (True, False)]
    wanted = [door for door in doors for _ in range(CLIENTS_AT_A_DOOR)]
    clients = await asyncio.gather(*(open_at(rooms.port, at, compressed=on) for at, on in wanted))
    for (path, on), client in zip(wanted, clients, strict=True):
        assert is_deflating(client) == (on and path != "/plain/hall")

    # The greeting says that a room is subscribed, and where; relays are when they are open.
    greeted = [client for (path, _), client in zip(wanted, clients, strict=True) if "room" in path]
    greetings = {await client.recv() for client in greeted}
    assert greetings == {f"in {pid}" for pid in rooms.worker_pids()}

    publishers = clients[::CLIENTS_AT_A_DOOR]
    published = [messages_of(number) for number in range(len(publishers))]

    async def publish(publisher: ClientConnection, messages: list[str | bytes]) -> None:
        for message in messages:
            await publisher.send(message)

    async def collect(client: ClientConnection, count: int) -> list[str | bytes]:
        return [await client.recv() for _ in range(count)]

    total = sum(map(len, published))
    histories, _ = await asyncio.gather(
        asyncio.gather(*(collect(client, total) for client in clients)),
        asyncio.gather(*map(publish, publishers, published)),
    )
    for history in histories:
        assert history == histories[0], "all see the same, in the same order"
    assert Counter(histories[0]) == Counter(message for one in published for message in one)
    for number, messages in enumerate(published):
        mine = [seen for seen in histories[0] if seen in set(messages)]
        assert mine == messages, f"publisher {number} is heard in its own order"

    # A last message behind everything: nothing may come before it, so nothing came twice.
    await publishers[0].send("the end")
    for client in clients:
        assert await client.recv() == "the end"
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("path", ["/echo", "/turbo", "/relay/alone"])
def test_messages_of_every_length_come_back_unchanged(compressed: Server, path: str) -> None:
    async def scenario() -> None:
        async with await open_at(compressed.port, path, compressed=True) as client:
            assert is_deflating(client)
            for length in [0, 1, 127, 128, 129, 65_535, 65_536, 1024 * 1024]:
                text, noise = "a" * length, os.urandom(length)
                for message in (text, text.encode(), noise):
                    await client.send(message)
                    assert await client.recv() == message

            # In fragments, of which only the first says that the message is deflated.
            await client.send(["one ", "two " * 1000, "", "three"])
            assert await client.recv() == "one " + "two " * 1000 + "three"

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_what_shrinks_is_shorter_on_the_wire(compressed: Server) -> None:
    with RawSocket(compressed.port) as raw:
        answer = raw.open("/turbo", OFFER)
        assert answer.headers["sec-websocket-extensions"] == AGREED
        raw.send(TEXT, b"x" * 10_000)
        first, length = raw.read(2)
        assert (first, length < 126) == (0x80 | RSV1 << 4 | TEXT, True)
        inflater = zlib.decompressobj(-15)
        message = inflater.decompress(raw.read(length) + b"\x00\x00\xff\xff")
        assert message == b"x" * 10_000
        # The same again: each message stands for itself.
        raw.send(TEXT, deflated(b"x" * 10_000), reserved=RSV1)
        assert raw.read(2) == bytes([first, length])
        raw.read(length)
        raw.send(TEXT, b"short")
        assert raw.message() == "short"


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("path", ["/echo", "/turbo", "/relay/windows"])
def test_a_client_with_a_small_window_can_read_everything(
    compressed: Server, path: str, bits: int
) -> None:
    """Beside one with the largest window, which gets the same messages first."""
    noise = random.Random(bits).randbytes(2**bits + 400)
    # What comes again after as many bytes as the window has, a few less, and more.
    repeated = [noise[:length] + noise[:300] for length in (2**bits - 300, 2**bits, 2**bits + 300)]
    messages = [b"hello " * 60, *repeated, b"hello " * 2**bits]
    with RawSocket(compressed.port) as usual, RawSocket(compressed.port) as small:
        usual.open(path, OFFER)
        answer = small.open(
            path, {"Sec-WebSocket-Extensions": f"permessage-deflate; server_max_window_bits={bits}"}
        )
        agreed = answer.headers["sec-websocket-extensions"]
        assert agreed == f"{AGREED}; server_max_window_bits={bits}"
        for message in messages:
            small.send(BINARY, message)
            seen, was_deflated = read_within(small, bits)
            assert seen == message
            # On a topic it is shared: what is no longer than the window is good for both.
            is_shared = path.startswith("/relay")
            if b"hello" in message:
                assert was_deflated == (not is_shared or bits == 15 or len(message) <= 2**bits)
            if is_shared:
                assert read_within(usual, 15)[0] == message


def read_within(raw: RawSocket, bits: int) -> tuple[bytes, bool]:
    """The next message as a client reads it that remembers no more than its window, and whether it
    was deflated. It inflates byte by byte: of the message nothing else is within its reach."""
    first, length = raw.read(2)
    assert first & 0x0F == BINARY
    if length >= 126:
        length = int.from_bytes(raw.read(2 if length == 126 else 8), "big")
    payload = raw.read(length)
    if not first & RSV1 << 4:
        return payload, False
    inflater = zlib.decompressobj(-bits)
    rest, message = payload + b"\x00\x00\xff\xff", bytearray()
    while byte := inflater.decompress(rest, 1):
        message += byte
        rest = inflater.unconsumed_tail
    return bytes(message), True


def test_client_without_an_offer_gets_uncompressed_messages(compressed: Server) -> None:
    with RawSocket(compressed.port) as raw:
        assert "sec-websocket-extensions" not in raw.open("/turbo").headers
        raw.send(TEXT, b"x" * 10_000)
        assert raw.message() == "x" * 10_000
        raw.send(TEXT, deflated(b"x"), reserved=RSV1)
        assert raw.closed()[0] == 1002


@pytest.mark.parametrize("path", ["/echo/small", "/turbo/small", "/relay/bombs/small"])
def test_a_bomb_closes_with_1009_and_garbage_with_1007(compressed: Server, path: str) -> None:
    bomb = deflated(bytes(64 * 1024 * 1024))[:1100]
    harm: list[tuple[int, bytes]] = [
        (1009, deflated(b"x" * 1001)),
        (1009, bomb),
        (1007, b"no deflated data"),
        (1007, deflated(b"x" * 500)[:-2]),
        (1007, deflated(b"\xff")),
    ]
    for code, payload in harm:
        with RawSocket(compressed.port) as raw:
            raw.open(path, OFFER)
            raw.send(TEXT, deflated(b"x" * 1000), reserved=RSV1)
            raw.send(TEXT, payload, reserved=RSV1)
            # Behind the echo of what was in order.
            code_seen = skip_to_close(raw)
            assert code_seen == code, payload[:40]


def skip_to_close(raw: RawSocket) -> int:
    """The code of the close frame, behind messages that may be deflated."""
    while True:
        first, length = raw.read(2)
        if length == 126:
            length = int.from_bytes(raw.read(2), "big")
        payload = raw.read(length)
        if first & 0x0F == CLOSE:
            return int.from_bytes(payload[:2], "big")
        assert first & 0x0F in (TEXT, BINARY)


def test_unsupported_offers_are_declined_and_malformed_ones_refused(
    compressed: Server,
) -> None:
    declined = [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; unknown",
        "x-other",
    ]
    for offer in declined:
        with RawSocket(compressed.port) as raw:
            answer = raw.open("/echo", {"Sec-WebSocket-Extensions": offer})
            assert "sec-websocket-extensions" not in answer.headers, offer
    with RawSocket(compressed.port) as raw:
        both = f"{declined[0]}, permessage-deflate; server_max_window_bits=15"
        answer = raw.open("/echo", {"Sec-WebSocket-Extensions": both})
        assert answer.headers["sec-websocket-extensions"] == f"{AGREED}; server_max_window_bits=15"
    with RawSocket(compressed.port) as raw:
        assert raw.upgrade("/echo", {"Sec-WebSocket-Extensions": "a; =b"}).status == 400
