"""WebSocket over real sockets: limits, closes, fragments, refusals, and what handlers see."""

from __future__ import annotations

import asyncio
import json
import selectors
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest
import websockets

from conftest import StartServer
from support.raw_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawSocket,
    closing,
    encode,
)
from support.servers import DEADLINE_S, Server, wait_for

KINDS = ["/echo/{}", "/turbo/{}", "/relay/here/{}"]
OPCODES = [TEXT, BINARY]


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    with Server(
        "sockets", workers=1, environment={}, stderr=tmp_path_factory.mktemp("sockets") / "stderr"
    ) as server:
        yield server


@pytest.fixture
def raw(sockets: Server) -> Iterator[RawSocket]:
    """A connection to it."""
    with RawSocket(sockets.port) as connection:
        yield connection


def end_seen(server: Server, name: str) -> dict[str, object]:
    """How the handler of that name saw its connection end."""
    with server.http() as http:

        def seen() -> dict[str, object]:
            answer: dict[str, object] = http.get(f"/ends/{name}").json()
            return answer

        return wait_for(seen, f"the end of {name}")


# Messages


@pytest.mark.parametrize("path", ["/echo", "/turbo/plain", "/relay/messages"])
@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 1024 * 1024])
def test_messages_of_every_length_come_back_unchanged(
    raw: RawSocket, path: str, length: int
) -> None:
    raw.open(path)
    text, binary = "ä" * (length // 2) + "a" * (length % 2), bytes(range(256)) * (length // 256 + 1)
    raw.send(TEXT, text.encode())
    assert raw.message() == text
    raw.send(BINARY, binary[:length])
    assert raw.message() == binary[:length]


def test_a_turbo_echo_puts_its_prefix_before_text_and_binary(raw: RawSocket) -> None:
    raw.open("/turbo/echo")
    raw.send(TEXT, b"hello")
    assert raw.message() == "Echo: hello"
    raw.send(BINARY, b"\x00\xff")
    assert raw.message() == b"Echo: \x00\xff"


@pytest.mark.parametrize("path", ["/echo", "/turbo/plain", "/relay/fragments"])
def test_fragments_are_put_together_with_pings_between_them(raw: RawSocket, path: str) -> None:
    raw.open(path)
    raw.send(TEXT, "Grü".encode()[:3], final=False)  # in the middle of a letter
    raw.send(PING, b"now")
    raw.send(CONTINUATION, "Grü".encode()[3:], final=False)
    raw.send(CONTINUATION, b"", final=False)
    raw.send(CONTINUATION, "ße".encode())
    assert raw.frame() == (PONG, b"now", True)
    assert raw.message() == "Grüße"


def test_bytes_that_arrive_one_by_one_make_a_message(raw: RawSocket) -> None:
    raw.open("/echo")
    for byte in encode(TEXT, b"slow"):
        raw.write(bytes([byte]))
    assert raw.message() == "slow"


def test_many_messages_in_one_write_are_all_answered_in_order(raw: RawSocket) -> None:
    raw.open("/echo")
    raw.write(b"".join(encode(TEXT, str(number).encode()) for number in range(1000)))
    assert [raw.message() for _ in range(1000)] == [str(number) for number in range(1000)]


def test_a_task_can_take_over_from_one_that_it_cancelled_while_it_received(
    raw: RawSocket,
) -> None:
    raw.open("/takes-over")
    raw.send(TEXT, b"go on")
    assert raw.message() == "cancelled"


def test_a_ping_is_answered_with_its_payload(raw: RawSocket) -> None:
    raw.open("/echo")
    raw.send(PING, b"x" * 125)
    assert raw.frame() == (PONG, b"x" * 125, True)


def test_the_websockets_library_agrees(sockets: Server) -> None:
    async def talk() -> None:
        url = f"ws://127.0.0.1:{sockets.port}/echo"
        async with websockets.connect(url, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.send(["in ", "three ", "parts"])
            assert await client.recv() == "in three parts"
            await (await client.ping())
        assert client.close_code == 1000

    asyncio.run(talk())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_both_event_loops_serve(server: StartServer, loop: str) -> None:
    one = server("sockets", environment={"FANBUS_LOOP": loop})
    with RawSocket(one.port) as raw:
        raw.open("/echo")
        raw.send(TEXT, b"hello")
        assert raw.message() == "hello"


@pytest.mark.parametrize("path", ["/echo", "/turbo/plain"])
def test_what_came_before_a_violation_is_answered_before_the_close(
    sockets: Server, path: str
) -> None:
    wrong = encode(0x3)
    for _ in range(20):
        with RawSocket(sockets.port) as raw:
            raw.open(path)
            raw.write(b"".join(encode(TEXT, b"%d" % number) for number in range(9)) + wrong)
            assert [raw.message() for _ in range(9)] == [str(number) for number in range(9)]
            assert raw.closed()[0] == 1002


# max_message_size


@pytest.mark.parametrize("path", [kind.format("small") for kind in KINDS])
@pytest.mark.parametrize("opcode", OPCODES)
class TestMaxMessageSize:
    """The routes allow 1000 bytes."""

    def test_a_message_of_just_that_size_passes(
        self, raw: RawSocket, path: str, opcode: int
    ) -> None:
        raw.open(path)
        raw.send(opcode, b"x" * 1000)
        assert len(raw.message()) == 1000

    def test_one_byte_more_closes_with_1009(self, raw: RawSocket, path: str, opcode: int) -> None:
        raw.open(path)
        raw.send(opcode, b"x" * 1001)
        assert raw.closed()[0] == 1009
        assert raw.ended()

    def test_a_length_that_is_only_announced_closes_too(
        self, raw: RawSocket, path: str, opcode: int
    ) -> None:
        raw.open(path)
        raw.send(opcode, b"x", announced=2**62)
        assert raw.closed()[0] == 1009

    def test_fragments_count_together(self, raw: RawSocket, path: str, opcode: int) -> None:
        raw.open(path)
        raw.send(opcode, b"x" * 500, final=False)
        raw.send(CONTINUATION, b"x" * 500, final=False)
        raw.send(CONTINUATION, b"x")
        assert raw.closed()[0] == 1009


# rate_limit


@pytest.mark.parametrize("path", [kind.format("slow") for kind in KINDS])
@pytest.mark.parametrize("opcode", OPCODES)
class TestRateLimit:
    """The routes allow 5 messages per second."""

    def test_a_burst_of_one_second_passes(self, raw: RawSocket, path: str, opcode: int) -> None:
        raw.open(path)
        for _ in range(5):
            raw.send(opcode, b"x")
        for _ in range(5):
            assert raw.message()

    def test_more_than_that_closes_with_1008(self, raw: RawSocket, path: str, opcode: int) -> None:
        raw.open(path)
        raw.write(encode(opcode, b"x") * 100)
        assert raw.closed()[0] == 1008
        assert raw.ended()

    def test_fragments_are_one_message(self, raw: RawSocket, path: str, opcode: int) -> None:
        raw.open(path)
        raw.send(opcode, b"x", final=False)
        for _ in range(20):
            raw.send(CONTINUATION, b"x", final=False)
        raw.send(CONTINUATION, b"x")
        assert len(raw.message()) == 22

    def test_who_stays_below_it_may_go_on_for_ever(
        self, raw: RawSocket, path: str, opcode: int
    ) -> None:
        raw.open(path)
        for _ in range(8):  # more than a burst, four per second
            raw.send(opcode, b"x")
            assert raw.message()
            assert raw.is_silent_for(0.25)

    def test_pings_count_too(self, raw: RawSocket, path: str, opcode: int) -> None:
        raw.open(path)
        raw.send(opcode, b"x")
        raw.write(encode(PING) * 100)
        assert raw.closed()[0] == 1008
        assert raw.ended()


# heartbeat_interval and timeout


@pytest.mark.parametrize("path", [kind.format("alive") for kind in KINDS])
def test_quiet_client_is_pinged_and_stays_while_it_answers(raw: RawSocket, path: str) -> None:
    raw.open(path)
    for _ in range(12):  # one every 0.25 s: longer than the timeout
        frame = raw.frame()
        assert frame.opcode == PING
        raw.send(PONG, frame.payload)
    raw.send(TEXT, b"still here")
    assert raw.message() == "still here"


@pytest.mark.parametrize("path", [kind.format("alive") for kind in KINDS])
def test_a_client_that_does_not_answer_is_closed_with_1001(raw: RawSocket, path: str) -> None:
    raw.open(path)
    assert raw.frame().opcode == PING
    assert raw.closed()[0] == 1001
    assert raw.ended()


@pytest.mark.parametrize("path", [kind.format("quiet") for kind in KINDS])
def test_without_heartbeat_no_client_is_pinged_and_silent_ones_are_closed(
    raw: RawSocket, path: str
) -> None:
    raw.open(path)
    frame = raw.frame()
    assert frame.opcode == CLOSE
    assert frame.payload[:2] == closing(1001)
    assert raw.ended()


# The protocol


@pytest.mark.parametrize("path", ["/echo", "/turbo/plain", "/relay/protocol"])
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([(TEXT, b"x", {"mask": False})], 1002, id="a frame without a mask"),
        pytest.param([(0x3, b"", {})], 1002, id="a reserved opcode"),
        pytest.param([(0xB, b"", {})], 1002, id="a reserved control opcode"),
        pytest.param([(TEXT, b"x", {"reserved": 4})], 1002, id="a reserved bit"),
        pytest.param([(PING, b"x" * 126, {})], 1002, id="a ping of 126 bytes"),
        pytest.param([(PING, b"x", {"final": False})], 1002, id="a ping in fragments"),
        pytest.param([(CONTINUATION, b"x", {})], 1002, id="a continuation of nothing"),
        pytest.param(
            [(TEXT, b"x", {"final": False}), (TEXT, b"y", {})], 1002, id="a message in a message"
        ),
        pytest.param([(CLOSE, b"x", {})], 1002, id="a close with one byte"),
        pytest.param([(CLOSE, closing(1005), {})], 1002, id="a close with a reserved code"),
        pytest.param([(CLOSE, closing(999), {})], 1002, id="a close with a code below 1000"),
        pytest.param([(CLOSE, closing(1000) + b"\xff", {})], 1007, id="a close that is not UTF-8"),
        pytest.param([(TEXT, b"\xff", {})], 1007, id="a text that is not UTF-8"),
        pytest.param([(TEXT, b"\xed\xa0\x80", {})], 1007, id="a surrogate"),
        pytest.param(
            [(TEXT, b"a\xc3", {"final": False}), (CONTINUATION, b"b", {})],
            1007,
            id="a letter that ends in the wrong fragment",
        ),
    ],
)
def test_what_the_protocol_forbids_is_closed(
    raw: RawSocket, path: str, frames: list[tuple[int, bytes, dict[str, bool | int]]], code: int
) -> None:
    raw.open(path)
    for opcode, payload, how in frames:
        raw.send(opcode, payload, **how)
    assert raw.closed()[0] == code
    assert raw.ended()


@pytest.mark.parametrize("path", ["/echo", "/turbo/plain", "/relay/close"])
@pytest.mark.parametrize("code", [1000, 1001, 1012, 3000, 4999])
def test_a_close_is_answered_and_the_connection_ends(raw: RawSocket, path: str, code: int) -> None:
    raw.open(path)
    raw.send(CLOSE, closing(code, "bye"))
    assert raw.closed()[0] == code
    assert raw.ended()


@pytest.mark.parametrize("path", ["/echo", "/turbo/plain"])
def test_a_close_without_a_code_is_answered(raw: RawSocket, path: str) -> None:
    raw.open(path)
    raw.send(CLOSE)
    assert raw.closed()[0] in (1000, 1005)
    assert raw.ended()


# How handlers end


def test_a_handler_that_returns_closes_with_1000(raw: RawSocket) -> None:
    raw.open("/greet/Ann/3")
    assert [raw.message() for _ in range(3)] == ["Hello Ann 0", "Hello Ann 1", "Hello Ann 2"]
    assert raw.closed()[0] == 1000
    assert raw.ended()


def test_a_handler_that_raises_closes_with_1011_and_tells_the_log_only(
    server: StartServer,
) -> None:
    one = server("sockets")
    for path in ("/raise", "/raise-on-message"):
        with RawSocket(one.port) as raw:
            raw.open(path)
            raw.send(TEXT, b"go")
            code, reason = raw.closed()
            assert code == 1011
            assert "secret" not in reason
            assert raw.ended()
    one.wait_for_log("in fail\n")
    one.wait_for_log("in fail_on_message\n")
    assert one.log().count("Traceback") == 2


def test_a_handler_closes_with_the_code_and_reason_it_chooses(raw: RawSocket) -> None:
    raw.open("/close/4321")
    assert raw.closed() == (4321, "as you wished")


def test_path_parameters_reach_the_handler_by_name(raw: RawSocket) -> None:
    raw.open("/greet/J%C3%BCrgen/1")
    assert raw.message() == "Hello Jürgen 0"


def test_a_handler_knows_the_connection(raw: RawSocket, sockets: Server) -> None:
    raw.open("/about/me?a=1&b=%C3%BC", {"X-Thing": "yes", "Cookie": "c=3; d=4"})
    facts = json.loads(raw.message())
    assert facts["path_params"] == {"name": "me"}
    assert facts["query"] == {"a": "1", "b": "ü"}
    assert facts["header"] == "yes"
    assert facts["cookies"] == {"c": "3", "d": "4"}
    assert facts["client"] == list(raw.socket.getsockname())
    assert facts["state"] == {"seen": True}
    assert facts["close_code"] is None
    with RawSocket(sockets.port) as other:
        other.open("/about/other")
        assert json.loads(other.message())["id"] != facts["id"]


def test_a_loop_over_messages_ends_when_the_client_closes(raw: RawSocket, sockets: Server) -> None:
    raw.open("/watched/closing")
    raw.message()
    raw.send(TEXT, b"1")
    raw.send(TEXT, b"2")
    raw.send(CLOSE, closing(4000, "had enough"))
    assert end_seen(sockets, "closing") == {
        "by": "loop",
        "code": 4000,
        "reason": "had enough",
        "count": 2,
    }


def test_receive_and_send_raise_when_the_client_has_closed(raw: RawSocket, sockets: Server) -> None:
    raw.open("/receiving/receiving")
    raw.message()
    raw.send(CLOSE, closing(4001, "bye"))
    wait_for(lambda: "send" in end_seen(sockets, "receiving"), "the refused send")
    assert end_seen(sockets, "receiving") == {
        "by": "receive",
        "code": 4001,
        "reason": "bye",
        "send": 4001,
    }


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("route", ["watched", "cleaned", "receiving"])
def test_a_client_that_vanishes_reaches_the_handler_as_1006(
    sockets: Server, route: str, how: str
) -> None:
    name = f"{route}-{how}"
    with RawSocket(sockets.port) as raw:
        raw.open(f"/{route}/{name}")
        raw.message()
        if how == "rst":
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert end_seen(sockets, name)["code"] == 1006


@pytest.mark.parametrize(("payload", "code"), [(b"\xff", 1007), (b"x" * (1024 * 1024 + 1), 1009)])
def test_a_close_by_a_limit_reaches_the_handler(
    raw: RawSocket, sockets: Server, payload: bytes, code: int
) -> None:
    raw.open(f"/watched/limit-{code}")
    raw.message()
    raw.send(TEXT, payload)
    assert raw.closed()[0] == code
    assert end_seen(sockets, f"limit-{code}")["code"] == code


# Refusals


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 503])
def test_a_handler_can_refuse_the_handshake(raw: RawSocket, status: int) -> None:
    assert raw.upgrade(f"/reject/{status}").status == status


def test_an_http_error_before_the_first_use_refuses_the_handshake(raw: RawSocket) -> None:
    answer = raw.upgrade("/http-error")
    assert answer.status == 401
    assert b"Not you" in answer.body


@pytest.mark.parametrize("path", ["/nowhere", "/echo/", "/greet/Ann/many"])
def test_an_upgrade_to_no_route_is_404(raw: RawSocket, path: str) -> None:
    assert raw.upgrade(path).status == 404


def test_a_plain_request_to_a_websocket_route_is_426(sockets: Server) -> None:
    with sockets.http() as http:
        answer = http.get("/echo")
    assert answer.status_code == 426
    assert answer.headers["upgrade"].lower() == "websocket"


def test_an_upgrade_of_a_plain_route_is_answered_as_a_plain_request(raw: RawSocket) -> None:
    """A server may leave a request for another protocol unheard (RFC 9110, section 7.8)."""
    answer = raw.upgrade("/http")
    assert answer.status == 200
    assert raw.upgrade("/nothing").status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
    ],
)
def test_a_handshake_that_is_wrong_is_refused(
    raw: RawSocket, headers: dict[str, str | None], status: int
) -> None:
    answer = raw.upgrade("/echo", headers)
    assert answer.status == status
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"  # RFC 6455 section 4.4


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("chat.v1, chat.v2", "chat.v2"), ("chat.v1", "chat.v1"), ("other", None), (None, None)],
)
def test_the_best_subprotocol_that_both_speak_is_chosen(
    raw: RawSocket, offered: str | None, chosen: str | None
) -> None:
    answer = raw.open("/subprotocols", {"Sec-WebSocket-Protocol": offered})
    assert answer.headers.get("sec-websocket-protocol") == chosen


def test_a_handler_may_choose_the_subprotocol(raw: RawSocket) -> None:
    answer = raw.open("/subprotocol/chosen", {"Sec-WebSocket-Protocol": "yours, mine"})
    assert answer.headers["sec-websocket-protocol"] == "mine"


def test_a_handler_may_not_choose_a_subprotocol_that_was_not_offered(raw: RawSocket) -> None:
    answer = raw.upgrade("/subprotocol/chosen", {"Sec-WebSocket-Protocol": "yours"})
    assert answer.status == 400
    assert "did not offer" in answer.body.decode()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://example.org", 101),
        ("https://evil.example", 403),
        ("http://example.org", 403),
        ("null", 403),
        (None, 101),
    ],
)
def test_only_pages_of_the_allowed_origins_connect(
    raw: RawSocket, origin: str | None, status: int
) -> None:
    assert raw.upgrade("/origins", {"Origin": origin}).status == status


def test_by_default_only_pages_of_this_server_connect(raw: RawSocket, sockets: Server) -> None:
    evil = raw.upgrade("/echo", {"Origin": "https://evil.example"})
    assert evil.status == 403
    with RawSocket(sockets.port) as own:
        origin = f"http://127.0.0.1:{sockets.port}"
        headers: dict[str, str | None] = {"Origin": origin, "Host": f"127.0.0.1:{sockets.port}"}
        assert own.upgrade("/echo", headers).status == 101


def test_a_star_lets_pages_of_every_origin_connect(raw: RawSocket) -> None:
    assert raw.upgrade("/origins/any", {"Origin": "https://evil.example"}).status == 101


def test_one_topic_too_many_is_refused_until_one_goes(raw: RawSocket) -> None:
    raw.open("/topics/many")

    def answers(line: str) -> list[str | bytes]:
        """Up to and without the handler's own: an order is done when the next one is answered."""
        raw.send(TEXT, line.encode())
        raw.send(TEXT, b"publish done")
        expected = line.replace(" ", " many:")
        seen = list(iter(raw.message, "publish many:done"))
        return ["done" if message == expected else message for message in seen]

    for topic in ("a", "b", "c", "a", "c"):
        assert answers(f"subscribe {topic}") == ["done"], "three, however often"
    (refused,) = answers("subscribe d")
    assert refused == (
        'This WebSocket cannot subscribe to "many:d": it is subscribed to 3 topics, as many as '
        "its route allows. Unsubscribe from one, or raise WebSocketConfig(max_topics=...)."
    )
    answers("unsubscribe d")
    assert answers("subscribe d") == [refused], "it was not subscribed to that"
    answers("unsubscribe b")
    answers("unsubscribe b")
    assert answers("subscribe d") == ["done"]
    assert answers("subscribe b") == [refused.replace("many:d", "many:b")]

    # What is counted is what the hub has.
    for topic in ("a", "b", "c", "d"):
        raw.send(TEXT, f"publish {topic}".encode())
    seen = [raw.message() for _ in range(7)]
    assert {str(message) for message in seen if str(message).startswith("on")} == {
        "on many:a",
        "on many:c",
        "on many:d",
    }


def test_one_connection_too_many_is_503_until_one_goes(sockets: Server) -> None:
    with RawSocket(sockets.port) as first, RawSocket(sockets.port) as second:
        first.open("/few")
        second.open("/few")
        assert (first.message(), second.message()) == ("in", "in")
        with RawSocket(sockets.port) as third:
            assert third.upgrade("/few").status == 503
        first.send(CLOSE, closing(1000))
        assert first.ended()
        first.socket.close()

        def admitted() -> bool:
            with RawSocket(sockets.port) as fourth:
                return fourth.upgrade("/few").status == 101

        wait_for(admitted, "room for a new connection")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/guarded/hall?token=secret", {}, 101),
        ("/guarded/hall", {}, 401),
        ("/guarded/nobody?token=secret", {}, 403),
        ("/guarded-async/hall", {"X-Key": "hall"}, 101),
        ("/guarded-async/hall", {"X-Key": "other"}, 403),
    ],
)
def test_a_turbo_route_with_parameters_asks_python_once(
    raw: RawSocket, path: str, headers: dict[str, str | None], status: int
) -> None:
    answer = raw.upgrade(path, headers)
    assert answer.status == status
    if status == 101:
        raw.send(TEXT, b"in")
        assert raw.message() == "in"


# The end of the server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_of_the_server_closes_clients_with_1012(
    server: StartServer, number: signal.Signals
) -> None:
    one = server("sockets", workers=2)
    paths = ["/echo", "/turbo/plain", "/relay/end"] * 4
    clients = [RawSocket(one.port) for _ in paths]
    for client, path in zip(clients, paths, strict=True):
        client.open(path)
        client.send(TEXT, b"in")
        assert client.message() == "in"
    one.send_signal(number)
    for client in clients:
        assert client.closed()[0] == 1012
        client.send(CLOSE, closing(1012))
        assert client.ended()
        client.socket.close()
    assert one.wait() == 0


def test_a_crowd_is_sent_away_over_half_of_the_grace_time(server: StartServer) -> None:
    """Or it would come back all at once: 64 go first, and chance decides when the others do."""
    one = server("sockets", workers=1, environment={"FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "8"})
    clients = [RawSocket(one.port) for _ in range(200)]
    for client in clients:
        client.open("/echo")
    ends: list[float] = []
    one.send_signal(signal.SIGTERM)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while len(ends) < len(clients):
            ready = selector.select(DEADLINE_S)
            assert ready, "all of them are told"
            for key, _ in ready:
                assert key.data.closed()[0] == 1012
                ends.append(time.monotonic())
                selector.unregister(key.fileobj)
                key.data.socket.close()
    assert one.wait() == 0
    # Not how quick it is, but that it takes its time.
    assert ends[-1] - ends[0] > 1


# A client that does not read


def test_only_the_client_that_does_not_read_is_closed_with_1013(
    server: StartServer,
) -> None:
    one = server("rooms", workers=1)
    with (
        RawSocket(one.port, receive_buffer=4096) as lazy,
        RawSocket(one.port) as diligent,
        one.http() as http,
    ):
        lazy.open("/narrow/hall")
        lazy.message()
        diligent.open("/rooms/hall")
        diligent.message()
        for _ in range(20):  # 20 MiB: more than any socket buffer holds
            assert http.post("/flood/hall/16").json() == {"published": 16}
            for _ in range(16):
                assert len(diligent.message()) == 65536
        assert lazy.closed()[0] == 1013
        assert lazy.ended()
