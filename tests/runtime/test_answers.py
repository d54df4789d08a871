"""What is ready leaves at once, whatever else the event loop has to do; and in which order."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from support.raw_websocket import TEXT, RawSocket, upgrade_request
from support.servers import Server, wait_for

LOOPS = ["asyncio", "uvloop", *(["eager"] if sys.version_info >= (3, 12) else [])]


@pytest.fixture(scope="module", params=LOOPS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    kind = "asyncio" if request.param == "eager" else request.param
    environment = {"FANBUS_LOOP": kind, "EAGER": "1" if request.param == "eager" else ""}
    stderr = tmp_path_factory.mktemp(request.param) / "stderr"
    with Server("answers", workers=1, environment=environment, stderr=stderr) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with server.http() as client:
        client.get("/reset")
        yield client


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Held:
    """A handler keeps the event loop; what is written meanwhile waits, with another one behind it.

    Then the first one ends: what was written is done, and the second one keeps the loop.
    """

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self._http = http
        self._connections = ExitStack()
        self._first, self._second = (
            self._connections.enter_context(RawSocket(server.port)) for _ in range(2)
        )

    def __enter__(self) -> Held:
        self._first.write(get("/hold/first"))
        self._wait_until_held("first")
        return self

    def __exit__(self, *_: object) -> None:
        for gate in ("first", "second", "own"):
            self._http.get(f"/open/{gate}")
        self._connections.close()

    def go_on(self) -> None:
        """The second handler follows what was written, and keeps the event loop from here on."""
        self.pass_by()
        self._second.write(get("/hold/second"))
        self.pass_by()
        self._http.get("/open/first")
        assert self._first.answer().body == b"opened"
        self._wait_until_held("second")

    def still_stands(self) -> None:
        self._http.get("/open/second")
        assert self._second.answer().body == b"opened", "it had waited in vain"

    def pass_by(self) -> None:
        """What was written before has been read by the I/O thread."""
        for _ in range(2):
            self._http.get("/held")

    def _wait_until_held(self, gate: str) -> None:
        wait_for(lambda: gate in self._http.get("/held").json(), f"a handler at the gate {gate}")


def piece(raw: RawSocket) -> bytes:
    """The next piece of a response that is sent in chunks."""
    size = int(raw.read_line(), 16)
    content = raw.read(size)
    assert raw.read_line() == b""
    return content


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/ready/answer", 200, b"answer"),
        ("/ready/error", 500, b"Internal Server Error"),
        ("/ready/refusal", 409, b"refused"),
    ],
)
def test_an_answer_leaves_while_the_next_handler_computes(
    server: Server, http: httpx.Client, path: str, status: int, body: bytes
) -> None:
    with Held(server, http) as held, RawSocket(server.port) as raw:
        raw.write(get(path))
        held.go_on()
        answer = raw.answer()
        assert (answer.status, answer.body.strip()) == (status, body)
        held.still_stands()


@pytest.mark.parametrize("kind", ["stream", "generator", "from-a-thread"])
def test_the_first_piece_of_a_stream_leaves_while_the_next_handler_computes(
    server: Server, http: httpx.Client, kind: str
) -> None:
    with Held(server, http) as held, RawSocket(server.port) as raw:
        raw.write(get(f"/ready/{kind}"))
        held.go_on()
        assert raw.answer(head_only=True).status == 200
        assert piece(raw) == b"piece"
        held.still_stands()
        assert piece(raw) == b" and end"
        assert piece(raw) == b""


@pytest.mark.parametrize(("query", "status"), [("", 101), ("?refuse=1", 403)])
def test_a_client_is_let_in_or_not_while_the_next_handler_computes(
    server: Server, http: httpx.Client, query: str, status: int
) -> None:
    with Held(server, http) as held, RawSocket(server.port) as raw:
        request, _ = upgrade_request(f"/ready/admission{query}")
        raw.write(request)
        held.go_on()
        assert raw.answer(head_only=True).status == status
        held.still_stands()


def test_a_session_is_closed_while_the_next_handler_computes(
    server: Server, http: httpx.Client
) -> None:
    with RawSocket(server.port) as raw:
        raw.open("/ready/close")
        with Held(server, http) as held:
            raw.send(TEXT, b"and go")
            held.go_on()
            assert raw.closed()[0] == 1000
            held.still_stands()


def test_what_a_handler_sends_before_it_computes_arrives_meanwhile(
    server: Server, http: httpx.Client
) -> None:
    with RawSocket(server.port) as raw:
        raw.open("/started")
        raw.send(TEXT, b"it")
        assert raw.message() == "started it"
        http.get("/open/own")
        assert raw.message() == "opened"


def test_of_handlers_that_begin_with_long_steps_few_begin_before_sockets_are_looked_at(
    server: Server, http: httpx.Client
) -> None:
    def turns() -> Counter[bytes]:
        """How many of 30, which wait for the event loop, begin in each of its turns."""
        with ExitStack() as stack:
            held = stack.enter_context(Held(server, http))
            raws = [stack.enter_context(RawSocket(server.port)) for _ in range(30)]
            for raw in raws:
                raw.write(get("/turn"))
            held.go_on()
            held.still_stands()
            return Counter(raw.answer().body for raw in raws)

    turns()  # how long their first steps take is not known before
    http.get("/reset")
    found = turns()
    assert sum(found.values()) == 30
    assert max(found.values()) <= 8, found


def test_a_handler_that_is_cancelled_is_answered_for(server: Server, http: httpx.Client) -> None:
    answer = http.get("/cancelled/by-itself")
    assert (answer.status_code, answer.text.strip()) == (503, "The request was cancelled.")


def test_a_handler_that_is_cancelled_as_it_returns_has_answered(
    server: Server, http: httpx.Client
) -> None:
    assert http.get("/cancelled/too-late").text == "the answer"


def test_a_handler_that_is_cancelled_before_its_first_step_is_answered_for(
    server: Server, http: httpx.Client
) -> None:
    """From Python 3.12 on it has taken that step before anybody can cancel it."""
    with Held(server, http) as held, RawSocket(server.port) as one, RawSocket(server.port) as two:
        one.write(get("/cancel-others"))
        held.pass_by()
        two.write(get("/ready/answer"))
        held.pass_by()
        http.get("/open/first")
        cancelled = int(one.answer().body)
        assert cancelled == (1 if sys.version_info < (3, 12) else 0)
        assert two.answer().status == (503 if cancelled else 200)


def test_what_is_no_coroutine_is_awaited_all_the_same(server: Server, http: httpx.Client) -> None:
    assert http.get("/awaited").text == "awaited by nobody"


def test_handler_that_waits_for_an_unreferenced_future_is_not_collected(
    server: Server, http: httpx.Client
) -> None:
    """asyncio holds its tasks weakly."""
    with RawSocket(server.port) as raw:
        raw.write(get("/lonely"))
        wait_for(lambda: http.get("/lonely/count").text == "1" or None, "the handler waits")
        for _ in range(3):
            assert http.get("/lonely/count").text == "1"
    assert "Task was destroyed" not in server.log()


def test_the_task_of_a_handler_looks_like_one_of_its_coroutine(
    server: Server, http: httpx.Client
) -> None:
    seen = http.get("/task").json()
    assert "task_as_others_see_it() running at" in seen["repr"]
    assert seen["name"] == seen["code"] == "task_as_others_see_it"
    assert seen["stack"][-1] == "task_as_others_see_it"
    assert (seen["running"], seen["iscoroutine"]) == (True, True)


@pytest.mark.parametrize("where", ["stream", "thread"])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_stream_has_the_context_variables_of_its_handler_only(
    server: Server, http: httpx.Client, where: str, kind: str
) -> None:
    for _ in range(3):
        assert http.get(f"/context/{where}/{kind}").text == "nobody, the handler"


@pytest.mark.parametrize("where", ["async", "thread"])
def test_a_function_after_the_response_finds_the_context_variables_of_its_handler(
    server: Server, http: httpx.Client, where: str
) -> None:
    assert http.get(f"/context/after/{where}").text == "nobody"
    wait_for(lambda: len(http.get("/notes").json()) == 2, "both functions")
    assert http.get("/notes").json() == ["the handler"] * 2


def test_what_a_handler_awaits_of_its_session_can_be_a_task(
    server: Server, http: httpx.Client
) -> None:
    with RawSocket(server.port) as raw:
        raw.open("/tasks")
        assert [raw.message(), raw.message()] == ["first", "cancelled"]
        raw.send(TEXT, b"received in a task")
        assert raw.message() == "received in a task"
        assert [raw.message(), raw.message()] == ["thrown: of a kind", "thrown: "]
        assert raw.closed()[0] == 4000


@pytest.mark.parametrize("first", ["sent", "published"])
@pytest.mark.parametrize("where", ["drain", "task", "thread"])
def test_what_a_handler_sends_and_publishes_comes_in_the_order_of_the_calls(
    server: Server, http: httpx.Client, first: str, where: str
) -> None:
    count = 2000
    second = {"sent": "published", "published": "sent"}[first]
    with RawSocket(server.port) as raw:
        raw.open(f"/order/{first[:4]}-{where}/{count}")
        raw.send(TEXT, b"begin")
        for number in range(count):
            assert [raw.message(), raw.message()] == [f"{first} {number}", f"{second} {number}"]


def test_what_was_published_before_a_close_comes_before_it(
    server: Server, http: httpx.Client
) -> None:
    with RawSocket(server.port) as raw:
        raw.open("/order/close")
        raw.send(TEXT, b"begin")
        assert raw.message() == "the last words"
        assert raw.closed()[0] == 4001


def test_what_was_published_before_the_end_of_a_subscription_comes(
    server: Server, http: httpx.Client
) -> None:
    with RawSocket(server.port) as raw:
        raw.open("/order/unsubscribe")
        raw.send(TEXT, b"begin")
        assert [raw.message(), raw.message()] == ["while subscribed", "the end"]
