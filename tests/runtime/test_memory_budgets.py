"""What all clients of a worker may have together, and what slow ones do not get."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest

from conftest import StartServer
from fanbus import Bus, _core
from support.heap import ONE_ALLOCATOR
from support.raw_websocket import CLOSE, TEXT, RawSocket, encode
from support.servers import Server, own_memory, wait_for

MIB = 2**20
NARROW = 4096


def narrow(stack: ExitStack, one: Server, path: str) -> RawSocket:
    """A client that does not read on, once its handshake is answered."""
    raw = stack.enter_context(RawSocket(one.port, receive_buffer=NARROW))
    raw.open(path)
    return raw


def live(one: Server) -> int:
    """Bytes that its worker holds, without what the allocator keeps."""
    with one.http() as http:
        return int(http.get("/live").text)


def test_clients_that_do_not_read_take_no_more_than_the_memory_for_all_of_them(
    server: StartServer,
) -> None:
    """Each has a megabyte of its own that waits, besides what the system below takes."""
    one = server("memory_budgets", environment={**ONE_ALLOCATOR, "FANBUS_MAX_QUEUE_MEMORY": "16M"})
    before, memory = live(one), own_memory(one)
    with ExitStack() as stack:
        reader = stack.enter_context(RawSocket(one.port))
        reader.open("/own/0")
        crowd = [narrow(stack, one, "/own/200") for _ in range(60)]
        wait_for(lambda: "waited for clients that do not read" in one.log(), "the log to say so")
        reader.write(encode(TEXT, b"still here"))
        assert reader.message() == "still here"
        held, served = [], 0
        for raw in crowd:
            held.append(live(one) - before)
            # Those that took nothing for 5 s are cut off without their close frame.
            with suppress(EOFError, ConnectionError):
                for _ in range(200):
                    if raw.frame().opcode == CLOSE:
                        break
                else:
                    served += 1
        # 60 MB would wait without the limit; some of these are handlers and sends under way.
        assert max(held) < 24 * MIB, held
        with one.http() as http:
            ends = http.get("/ends").json()
        reason = "this client was slow, and the memory for slow clients was used up"
        assert {(code, text.split(":")[0]) for code, text in ends} == {(1013, reason)}
        assert len(ends) + served == len(crowd)
        assert served > 0
        assert len(ends) > len(crowd) // 2
    # Two batches of orders keep a megabyte each.
    wait_for(lambda: live(one) - before < 4 * MIB, "the memory to be given back")
    wait_for(lambda: own_memory(one) - memory < 8 * MIB, "the system to have it back")


@pytest.mark.parametrize("policy", ["oldest", "newest", "latest"])
def test_messages_that_a_policy_drops_are_counted(server: StartServer, policy: str) -> None:
    one = server("memory_budgets", environment=ONE_ALLOCATOR)
    count, last = 3000, "x" * 4000 + "end"
    with ExitStack() as stack, one.http() as http:
        raw = narrow(stack, one, f"/{policy}/me")
        wait_for(lambda: http.get("/dropped/me").text == "0", "its handler")
        with Bus.open(f"memory_budgets-{one.port}", create=False) as bus:
            for number in range(count):
                bus.publish("news", f"{number:>4000}")

            def counted() -> int:
                (worker,) = one.worker_pids()
                members = _core.inspect_bus(bus.name)["members"]
                return sum(it["counts"]["dropped"] for it in members if it["pid"] == worker)

            dropped = wait_for(lambda: int(http.get("/dropped/me").text), "a dropped message")
            # All of them have passed the hub when one that comes last has.
            other = narrow(stack, one, "/newest/other")
            bus.publish("news", last)
            assert other.message() == last
            dropped = int(http.get("/dropped/me").text)
            wait_for(lambda: counted() == dropped, "the same number on the bus")
        got = 0
        while got + dropped <= count:
            got += 1
            raw.message()
        assert got + dropped == count + 1
        assert raw.is_silent_for(0.2)
        if policy == "latest":
            assert dropped > count * 9 // 10


DEFLATING = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def open_plain(raw: RawSocket) -> None:
    raw.open("/resume/a")


def open_deflating(raw: RawSocket) -> None:
    assert "permessage-deflate" in raw.open("/resume/a", dict(DEFLATING)).headers.get(
        "sec-websocket-extensions", ""
    )


def open_events(raw: RawSocket) -> None:
    raw.write(b"GET /events/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while raw.read_line():
        pass


def inflated(raw: RawSocket) -> str:
    """The next message. All of them are deflated, and shorter than 64 KiB."""
    first, length = raw.read(2)
    assert first == 0xC0 | TEXT
    if length == 126:
        length = int.from_bytes(raw.read(2), "big")
    data = raw.read(length) + b"\x00\x00\xff\xff"
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data).decode()


def event(raw: RawSocket) -> str:
    """The data of the next event."""
    while not (line := raw.read_line()).startswith(b"id: ") or b"data: " not in line:
        pass
    return line.partition(b"data: ")[2].strip().decode()


@pytest.mark.parametrize(
    ("begin", "message"),
    [(open_plain, RawSocket.message), (open_deflating, inflated), (open_events, event)],
    ids=["plain", "deflated", "events"],
)
def test_a_crowd_that_resumes_holds_what_it_resumes_once(
    server: StartServer,
    begin: Callable[[RawSocket], None],
    message: Callable[[RawSocket], str | bytes],
) -> None:
    one = server("memory_budgets", environment=ONE_ALLOCATOR)
    with Bus.open(f"memory_budgets-{one.port}", create=False) as bus, ExitStack() as stack:
        # Each is deflated to half of it.
        texts = [2 * secrets.token_hex(225) for _ in range(500)]
        for text in texts:
            bus.publish("feed:a", text)
        before = live(one)
        crowd = [
            stack.enter_context(RawSocket(one.port, receive_buffer=NARROW)) for _ in range(100)
        ]
        for raw in crowd:
            begin(raw)
        held = [live(one) - before]
        for raw in crowd:
            for text in texts:
                assert message(raw) == text
            held.append(live(one) - before)
        # Without the messages themselves, of which each client would have 450 kB, or 225 deflated.
        assert max(held) < 12 * MIB, held
