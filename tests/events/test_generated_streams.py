"""Event streams that a generator makes or a handler ends, also with clients of others."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from conftest import StartServer
from fanbus import Event, Events
from support.event_streams import listen, publish
from support.servers import Server, wait_for


@pytest.fixture
def one(server: StartServer) -> Server:
    return server("events", workers=1)


@pytest.fixture
def http(one: Server) -> Iterator[httpx.Client]:
    with one.http() as client:
        yield client


def test_what_a_generator_yields_are_events_and_its_end_ends_the_stream(
    http: httpx.Client,
) -> None:
    answer = http.get("/tokens", headers={"Last-Event-ID": "41"})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text == (
        "retry: 100\ndata: two\ndata: lines\n\n"
        'data: {"number":41}\n\n'
        "event: list\nid: 7\nretry: 2500\ndata: [1]\n\n"
        "event: done\ndata: \n\n"
    )


def test_a_generator_that_waits_is_not_disturbed_by_pings(http: httpx.Client) -> None:
    with listen(http, "/silent") as stream:
        assert stream.next().data == "first"
        while len(stream.comments) < 3:
            assert stream.block() is None
        http.get("/more")
        assert stream.next().data == "second"
        with pytest.raises(EOFError):
            stream.next()
    assert http.get("/ended").json() == ["finally"]


def test_a_generator_is_cancelled_where_it_waits_when_its_client_leaves(
    http: httpx.Client,
) -> None:
    with listen(http, "/silent") as stream:
        assert stream.next().data == "first"
    wait_for(lambda: http.get("/ended").json(), "the end of the generator")
    assert http.get("/ended").json() == ["CancelledError", "finally"]


def test_a_generator_that_fails_breaks_the_stream_off(one: Server, http: httpx.Client) -> None:
    with listen(http, "/broken") as stream:
        assert stream.next().data == "first"
        with pytest.raises(httpx.RemoteProtocolError):
            stream.next()
    wait_for(lambda: "a bug in a generator of events" in one.log(), "the error in the log")


@pytest.mark.parametrize("text", ["good bye", ""])
def test_a_handler_ends_an_event_stream_with_a_last_event_or_without(
    http: httpx.Client, text: str
) -> None:
    with listen(http, "/closed/t") as stream:
        publish(http, "t", "before")
        assert stream.next().data == "before"
        assert http.post("/close", content=text).json() == {"closed": 1}
        if text:
            last = stream.next()
            assert (last.kind, last.data) == ("end", text)
        with pytest.raises(EOFError):
            stream.next()


def test_a_stream_that_was_closed_before_it_began_has_its_last_event(http: httpx.Client) -> None:
    assert http.get("/closed-before").text.endswith("data: at once\n\n")


@pytest.mark.parametrize(
    "arguments",
    [
        {"event": "two\nlines"},
        {"id": "two\rlines"},
        {"id": "a\0"},
        {"retry": -1},
        {"retry": True},
    ],
)
def test_an_event_that_would_break_its_stream_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Event("x", **arguments)  # type: ignore[arg-type]


def test_events_are_made_by_an_asynchronous_generator() -> None:
    with pytest.raises(TypeError, match="asynchronous generator"):
        Events(iter(["a"]))  # type: ignore[arg-type]

    async def run() -> Iterator[str]:  # type: ignore[misc]
        yield "a"

    with pytest.raises(ValueError, match="ping_interval"):
        Events(run(), ping_interval=0)  # type: ignore[arg-type]


def test_the_client_of_httpx_sse_reads_events(http: httpx.Client) -> None:
    httpx_sse = pytest.importorskip("httpx_sse", reason="httpx-sse is not installed")
    with httpx_sse.connect_sse(http, "GET", "/tokens") as source:
        events = list(source.iter_sse())
    assert [event.event for event in events] == ["message", "message", "list", "done"]
    assert events[0].data == "two\nlines"
    assert events[1].json() == {"number": 0}
    assert (events[2].id, events[2].retry) == ("7", 2500)


def test_the_client_of_openai_reads_tokens(one: Server) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client = openai.OpenAI(
        api_key="none",
        base_url=f"http://127.0.0.1:{one.port}/v1",
        http_client=httpx.Client(trust_env=False),
    )
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content for chunk in stream) == "Hello you"
