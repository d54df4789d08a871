"""The examples do what they say: real processes, plain WebSockets."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from conftest import StartServer
from fanbus import Bus
from support.paths import ROOT
from support.servers import Server
from support.websocket_clients import Terminal, closed_with, hear, join

EXAMPLES = ROOT / "examples"
CHAT = EXAMPLES / "chat" / "app.py"
DEMO = EXAMPLES / "websockets_demo.py"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The chat, with as many workers as it likes: at least two."""
    yield from started(CHAT, tmp_path_factory.mktemp("chat") / "stderr")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo, with its two workers."""
    yield from started(DEMO, tmp_path_factory.mktemp("demo") / "stderr")


def started(program: Path, stderr: Path) -> Generator[Server]:
    with Server(program, workers=2, environment={}, stderr=stderr) as server:
        yield server


def notes(ws: ClientConnection, kind: str) -> Iterator[dict[str, Any]]:
    """The notes of a kind that come to a client, one by one."""
    while True:
        note = json.loads(hear(ws))
        assert isinstance(note["worker"], int)
        if note["type"] == kind:
            yield note


def next_note(ws: ClientConnection, kind: str) -> dict[str, Any]:
    return next(notes(ws, kind))


def enter(stack: ExitStack, server: Server, path: str, name: str) -> tuple[ClientConnection, int]:
    """A client of the chat, and the worker that serves it."""
    tab = os.urandom(6).hex()
    ws = stack.enter_context(join(server, f"{path}?name={name}&tab={tab}"))
    own = next(note for note in notes(ws, "joined") if note["tab"] == tab)
    assert own["name"] == name
    return ws, own["worker"]


def two_on_two_workers(
    stack: ExitStack, server: Server, first: str, second: str
) -> tuple[ClientConnection, ClientConnection, int, int]:
    """Ana and Ben, in the same room, served by different workers."""
    ana, ana_worker = enter(stack, server, first, "Ana")
    for _ in range(60):
        ben, ben_worker = enter(stack, server, second, "Ben")
        if ben_worker != ana_worker:
            return ana, ben, ana_worker, ben_worker
        ben.close()
    raise AssertionError("60 connections all went to one worker")


def say(ws: ClientConnection, key: str, text: str, **more: object) -> None:
    ws.send(json.dumps({"type": "message", "id": key, "text": text, **more}))


def test_the_chat_is_short() -> None:
    assert len(CHAT.read_text().splitlines()) < 60


def test_the_page_is_served_and_loads_nothing_from_elsewhere(chat: Server) -> None:
    with chat.http() as http:
        answer = http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = answer.text
    assert "<title>Fanbus chat</title>" in page
    loaded = re.findall(r"""(?:src|href|url|import)\s*[=(]\s*["']?(https?:|//)""", page)
    assert not loaded
    assert "innerHTML" not in page
    assert "insertAdjacentHTML" not in page


def test_the_page_knows_the_limit_of_the_app() -> None:
    page = CHAT.with_name("index.html").read_text()
    assert "max_message_size=16 * 1024" in CHAT.read_text()
    assert "MAX_MESSAGE_BYTES = 16 * 1024" in page


@pytest.mark.parametrize("first", ["rooms", "relay"])
@pytest.mark.parametrize("second", ["rooms", "relay"])
def test_people_on_two_workers_talk(chat: Server, first: str, second: str) -> None:
    room = f"{first}-{second}"
    with ExitStack() as stack:
        ana, ben, ana_worker, ben_worker = two_on_two_workers(
            stack, chat, f"/{first}/{room}", f"/{second}/{room}"
        )
        say(ana, "a1", "Hello Ben", name="Ana", worker=ana_worker)
        heard = next_note(ben, "message")
        assert (heard["id"], heard["name"], heard["text"]) == ("a1", "Ana", "Hello Ben")
        assert heard["worker"] == ana_worker

        say(ben, "b1", "Hello Ana \N{WAVING HAND SIGN}", name="Ben", worker=ben_worker)
        for listener, expected in ((ana, ["a1", "b1"]), (ben, ["b1"])):
            messages = notes(listener, "message")
            assert [next(messages)["id"] for _ in expected] == expected


def test_room_is_notified_of_arrivals_and_departures(chat: Server) -> None:
    with ExitStack() as stack:
        ana, _ = enter(stack, chat, "/rooms/hall", "Ana")
        ben, worker = enter(stack, chat, "/rooms/hall", "Ben")
        came = next_note(ana, "joined")
        assert (came["name"], came["worker"]) == ("Ben", worker)
        ben.close()
        assert next_note(ana, "left")["name"] == "Ben"


def test_a_client_that_vanishes_leaves_too(chat: Server) -> None:
    with ExitStack() as stack:
        ana, _ = enter(stack, chat, "/rooms/vanish", "Ana")
        ben, _ = enter(stack, chat, "/rooms/vanish", "Ben")
        next_note(ana, "joined")
        ben.socket.shutdown(socket.SHUT_RDWR)  # no closing handshake
        assert next_note(ana, "left")["name"] == "Ben"


def before_joining(ws: ClientConnection, tab: str) -> list[dict[str, Any]]:
    """The notes that a client of a Python room gets before the one of its own arrival."""
    heard = []
    while (note := json.loads(hear(ws))).get("tab") != tab:
        heard.append(note)
    return heard


def test_late_client_gets_earlier_messages_with_their_times(chat: Server) -> None:
    with ExitStack() as stack:
        started_ms = int(time.time() * 1000)
        ana, ben, _, worker = two_on_two_workers(stack, chat, "/rooms/late", "/relay/late")
        for number in range(3):
            say(ana, f"room {number}", "through Python")
            assert next_note(ana, "message")["id"] == f"room {number}"
            say(ben, f"relay {number}", "through Rust", name="Ben", worker=worker)
            assert next_note(ana, "message")["id"] == f"relay {number}"
        ended_ms = int(time.time() * 1000)
        late = stack.enter_context(join(chat, "/rooms/late?name=Late&tab=late"))
        said = [note for note in before_joining(late, "late") if note["type"] == "message"]
        assert [note["id"] for note in said] == [
            f"{way} {number}" for number in range(3) for way in ("room", "relay")
        ]
        assert all(started_ms <= note["at_ms"] <= ended_ms for note in said[::2])
        assert not any("at_ms" in note for note in said[1::2]), "a relay adds nothing"
        say(ben, "live", "and on", name="Ben", worker=worker)
        assert next_note(late, "message")["id"] == "live"


def test_a_room_tells_its_last_hundred_records(chat: Server) -> None:
    with ExitStack() as stack:
        enter(stack, chat, "/rooms/full", "Ana")
        with Bus.open(f"chat-{chat.port}") as bus:
            for number in range(150):
                bus.publish("room:full", json.dumps({"type": "message", "number": number}))
        late = stack.enter_context(join(chat, "/rooms/full?tab=late"))
        heard = before_joining(late, "late")
        assert [note["number"] for note in heard] == list(range(50, 150))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_history_outlives_the_server(server: StartServer, how: signal.Signals) -> None:
    first = server(CHAT, workers=2)
    with join(first, "/rooms/lobby?tab=first") as ws:
        before_joining(ws, "first")
        say(ws, "1", "remember this")
        assert next_note(ws, "message")["id"] == "1"
    if how == signal.SIGKILL:
        os.killpg(first.pid, how)
    else:
        first.send_signal(how)
    first.wait()
    again = server(CHAT, workers=2, environment={"PORT": str(first.port)})
    with join(again, "/rooms/lobby?tab=again") as ws:
        said = [note for note in before_joining(ws, "again") if note["type"] == "message"]
        assert [note["text"] for note in said] == ["remember this"]


def test_a_chat_that_was_tested_leaves_no_bus(tmp_path: Path) -> None:
    running = started(CHAT, tmp_path / "stderr")
    segment = Path(f"/dev/shm/fanbus.chat-{next(running).port}")
    assert segment.exists()
    running.close()
    assert not segment.exists()


def test_rooms_do_not_hear_each_other(chat: Server) -> None:
    with ExitStack() as stack:
        ana, _ = enter(stack, chat, "/rooms/one", "Ana")
        ben, _ = enter(stack, chat, "/rooms/two", "Ben")
        say(ana, "1", "only here")
        assert next_note(ana, "message")["text"] == "only here"
        say(ben, "2", "and only there")
        assert next_note(ben, "message")["text"] == "and only there"


@pytest.mark.parametrize(
    "bad",
    [
        "hello",
        "{",
        "null",
        "[]",
        '{"text": "no id"}',
        '{"id": 7, "text": "a number"}',
        '{"id": "1", "text": "  "}',
        '{"id": "1", "text": ["x"]}',
        "[" * 10_000,
        b"\xff\xfe",
    ],
)
def test_invalid_message_is_reported_only_to_its_sender(chat: Server, bad: str | bytes) -> None:
    with ExitStack() as stack:
        ana, _ = enter(stack, chat, "/rooms/strict", "Ana")
        ben, _ = enter(stack, chat, "/rooms/strict", "Ben")
        ana.send(bad)
        assert "JSON" in next_note(ana, "error")["text"]
        say(ana, "after", "and still here")
        while (note := json.loads(hear(ben)))["type"] != "message":
            assert note["type"] in ("joined", "left")
        assert note["id"] == "after"


@pytest.mark.parametrize("path", ["/rooms/limits", "/relay/limits"])
def test_chat_closes_a_client_that_sends_too_much(chat: Server, path: str) -> None:
    with join(chat, path) as ws:
        ws.send("x" * (16 * 1024 + 1))
        assert closed_with(ws) == 1009
    with join(chat, path) as ws:
        with suppress(ConnectionClosed):  # it may be closed before we have sent all of them
            for number in range(100):
                say(ws, str(number), "quick")
        assert closed_with(ws) == 1008


@pytest.mark.parametrize("path", ["/rooms/", "/relay/"])
@pytest.mark.parametrize("room", ["x" * 300, "two%0Alines", "%00"])
def test_a_room_that_cannot_be_is_refused(chat: Server, path: str, room: str) -> None:
    with pytest.raises(InvalidStatus) as error, join(chat, path + room):
        pass
    assert 400 <= error.value.response.status_code < 500
    assert "Traceback" not in chat.log()


def test_the_demo_echoes(demo: Server) -> None:
    with join(demo, "/ws/echo") as ws:
        ws.send("hi")
        assert hear(ws) == "You said: hi"
        ws.send(b"hi!")
        assert hear(ws) == "You said: 3 bytes"


def test_the_demo_broadcasts_to_every_worker(demo: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(join(demo, "/ws/chat")) for _ in range(12)]
        workers = set()
        clients[0].send("to all")
        for client in clients:
            while (message := hear(client)) != "to all":
                assert isinstance(message, str)
                assert message.startswith("Somebody joined through worker ")
                workers.add(message.split()[-1])
        assert len(workers) == 2, "12 connections all went to one worker"


def test_the_demos_turbo_route_echoes(demo: Server) -> None:
    with join(demo, "/ws/turbo") as ws:
        ws.send("hi")
        assert hear(ws) == "Echo: hi"


def test_the_demos_relay_reaches_its_room(demo: Server) -> None:
    with ExitStack() as stack:
        garden = [stack.enter_context(join(demo, "/ws/relay/garden")) for _ in range(8)]
        cellar = stack.enter_context(join(demo, "/ws/relay/cellar"))
        for number, client in enumerate(garden):
            client.send(f"from {number}")
        heard = [[hear(client) for _ in garden] for client in garden]
        assert sorted(map(str, heard[0])) == [f"from {number}" for number in range(8)]
        assert all(messages == heard[0] for messages in heard), "not one order"
        cellar.send("nobody came")
        assert hear(cellar) == "nobody came"


@pytest.mark.parametrize("path", ["/ws/echo", "/ws/chat", "/ws/turbo", "/ws/relay/limits"])
def test_the_demos_limits_hold_on_every_route(demo: Server, path: str) -> None:
    with join(demo, path) as ws:
        ws.send("x" * (64 * 1024 + 1))
        assert closed_with(ws) == 1009
    with join(demo, path) as ws:
        with suppress(ConnectionClosed):  # it may be closed before we have sent all of them
            for _ in range(200):
                ws.send("quick")
        assert closed_with(ws) == 1008


def test_the_demos_docstring_can_be_typed_as_it_stands(demo: Server) -> None:
    docstring = ast.get_docstring(ast.parse(DEMO.read_text()))
    assert docstring is not None
    commands = re.findall(r"(python -m websockets ws://127\.0\.0\.1:5000(\S+))(.*)", docstring)
    assert [path for _, path, _ in commands] == [
        "/ws/echo",
        "/ws/chat",
        "/ws/turbo",
        "/ws/relay/garden",
    ]
    for command, path, promise in commands:
        answer = re.search(r'"(?P<sent>.*)"\s+->\s+(?P<answer>.*)', promise)
        sent = answer["sent"] if answer else f"hello {path}"
        with Terminal(command, demo) as terminal:
            terminal.types(sent)
            terminal.shows(f"< {answer['answer'] if answer else sent}")
