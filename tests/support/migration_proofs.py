"""The proofs of docs/howto/coming-from.md: each program of another framework, and its twin.

Originals run beside their twins, and both are asked the same. Where they answer otherwise, that
stands here, with what each says.
"""

from __future__ import annotations

import ast
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from support.bus_programs import Service
from support.code_blocks import BLOCKS, Block, Start, proves
from support.paths import ROOT, TESTS
from support.servers import DEADLINE_S, Server, client_of, wait_for
from support.websocket_clients import hear, join

DOCUMENT = "docs/howto/coming-from.md"

KEY = {"X-Key": "secret"}
JSON = {"Content-Type": "application/json"}
PICTURE = {"picture": ("ü.png", b"x" * 3_000_000, "image/png")}


@dataclass(frozen=True)
class Question:
    """A request that both are asked."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    compares_body: bool = True
    """Otherwise what is said is each one's own affair, as with errors."""

    is_marked: bool = True
    """What is around the handlers has seen it."""


FLASK = [
    Question("GET", "/"),
    Question("HEAD", "/"),
    Question("GET", "/users/7"),
    Question("GET", "/users/7?page=2&page=3"),
    Question("GET", "/users/seven"),
    Question("GET", "/nowhere"),
    Question("POST", "/total", {"json": {"numbers": [1, 2, 3]}}),
    Question("POST", "/total", {"content": b"{", "headers": JSON}, compares_body=False),
    Question("POST", "/login", {"data": {"name": "ada"}}, compares_body=False),
    Question("POST", "/login", {"data": {"other": "ada"}}, compares_body=False),
    Question("POST", "/upload", {"files": PICTURE}),
    Question("POST", "/upload", {"files": {"other": b""}}, compares_body=False),
    Question("GET", "/countdown"),
    Question("GET", "/secret", compares_body=False),
    Question("DELETE", "/users/7", compares_body=False),
    Question("GET", "/admin/"),
    Question("GET", "/admin/", {"headers": KEY}),
    Question("GET", "/static/a.css", is_marked=False),
    Question("GET", "/static/none.css", compares_body=False, is_marked=False),
]

FASTAPI = [
    Question("GET", "/"),
    Question("GET", "/items/7"),
    Question("GET", "/items/7?q=red"),
    Question("GET", "/items/0"),
    Question("GET", "/items/x", compares_body=False),
    Question("POST", "/items/7/buy"),
    Question("POST", "/total", {"json": [1, 2, 3]}),
    Question("POST", "/total", {"json": [1, "x"]}, compares_body=False),
    Question("POST", "/upload", {"files": PICTURE, "data": {"text": "me"}}),
    Question("GET", "/countdown"),
    Question("GET", "/static/a.css", is_marked=False),
    Question("GET", "/static/none.css", compares_body=False, is_marked=False),
    Question("GET", "/nowhere", compares_body=False),
    Question("DELETE", "/items/7", compares_body=False),
]


BUSTAPI = [
    Question("GET", "/"),
    Question("HEAD", "/"),
    Question("GET", "/users/7"),
    Question("GET", "/users/seven", compares_body=False),
    Question("GET", "/nowhere", compares_body=False),
]

ROBYN = [
    Question("GET", "/"),
    Question("GET", "/users/ada"),
    Question("GET", "/users/ada?page=2"),
    Question("GET", "/nowhere", compares_body=False),
]


class FlaskServer(Service):
    """The original, served by gunicorn."""

    def __init__(self, folder: Path) -> None:
        words = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket"]
        super().__init__(*words, "--chdir", str(folder), "original:app")
        self.port = 0

    def wait_until_ready(self) -> None:
        self.wait_to_say("Booting worker", stream=2)
        self.port = port_in(self.said(2))


class FastAPIServer(Service):
    """The original, served by uvicorn."""

    def __init__(self, folder: Path) -> None:
        words = ["-m", "uvicorn", "--port", "0", "--app-dir", str(folder), "original:app"]
        super().__init__("-c", IN_FOLDER, str(folder), *words[1:])
        self.port = 0

    def wait_until_ready(self) -> None:
        self.wait_to_say("Uvicorn running on", stream=2)
        self.port = port_in(self.said(2))


OTHERS = ROOT / ".venv" / "others" / "bin" / "python"
"""The Python of BustAPI, Robyn and Socket.IO: `make .venv/ok-others`."""


class Other(Service):
    """An original of which only the port is changed, where it says one."""

    def __init__(self, folder: Path, *words: str) -> None:
        if not OTHERS.exists():
            pytest.skip("the other frameworks are not installed: make .venv/ok-others")
        self.port = free_port()
        original = folder / "original.py"
        text = original.read_text()
        for told in ("app.run(", "app.start(port=5000"):
            here = told.replace("port=5000", "")
            text = text.replace(told, f"{here}port={self.port}, ")
        original.write_text(text)
        super().__init__(*(words or (str(original),)), python=OTHERS)

    def wait_until_ready(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.said(1) + self.said(2)
            try:
                with client_of(self.port) as http:
                    http.get("/")
            except httpx.TransportError:
                return False
            return True

        wait_for(answers, "an answer")


PEOPLE = TESTS / "others" / "socketio_people.py"


class BustAPIServer(Other):
    """The original, with its four processes."""


class RobynServer(Other):
    """The original. It does not end on SIGTERM."""

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        super().__exit__()


class SocketIOServer(Other):
    """The original, served by uvicorn."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, "-m", "uvicorn", "--port", "0", "--app-dir", str(folder), "original:app"
        )

    def wait_until_ready(self) -> None:
        self.wait_to_say("Uvicorn running on", stream=2)
        self.port = port_in(self.said(2))


# Starlette looks for its static files from the working directory on.
IN_FOLDER = """
import os, runpy, sys
os.chdir(sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def free_port() -> int:
    """For who cannot pick one and say which."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_in(said: str) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
    assert found is not None, said
    return int(found[1])


@contextmanager
def both(
    original: Block, twin: Block, serve: Callable[[Path], Any]
) -> Iterator[tuple[Any, Server]]:
    """The original and its twin, in one folder with static files."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "static").mkdir()
        (folder / "static" / "a.css").write_text("body { color: teal }")
        (folder / "original.py").write_text(original.text)
        printed = folder / "printed.py"
        printed.write_text(twin.text)
        yield (
            stack.enter_context(serve(folder)),
            stack.enter_context(
                Server(
                    TESTS / "support/serve_on.py",
                    workers=4,
                    environment={},
                    arguments=(str(printed),),
                    stderr=folder / "stderr",
                )
            ),
        )


def ask(server: Any, question: Question) -> httpx.Response:
    with client_of(server.port) as http:
        return http.request(question.method, question.path, **question.options)


def compare(
    question: Question,
    theirs: httpx.Response,
    ours: httpx.Response,
    mark: str | None = "open",
) -> None:
    what = f"{question}: {theirs.status_code} {theirs.text!r}, ours {ours.text!r}"
    assert theirs.status_code == ours.status_code, what
    assert theirs.headers.get("location") == ours.headers.get("location"), what
    if question.is_marked:
        assert theirs.headers.get("x-shop") == ours.headers.get("x-shop") == mark, what
    assert dict(theirs.cookies) == dict(ours.cookies), what
    if not question.compares_body:
        return
    kinds = [one.headers["content-type"].partition(";")[0] for one in (theirs, ours)]
    if question.path == "/" and "text/html" in kinds:
        kinds.remove("text/html")  # a text is HTML for Flask
        kinds *= 2
    assert kinds[0] == kinds[1], what
    if kinds[0] == "application/json" and question.method != "HEAD":
        assert theirs.json() == ours.json(), what
    else:
        assert theirs.text == ours.text, what


@dataclass(frozen=True)
class Otherwise:
    """A request that both answer, but not alike: status and body of each."""

    question: Question
    theirs: tuple[int, str]
    ours: tuple[int, str]


def compare_otherwise(expected: Otherwise, theirs: Any, ours: Server) -> None:
    """Either may become like the other: then the document has something to say less."""
    for server, answer in ((theirs, expected.theirs), (ours, expected.ours)):
        got = ask(server, expected.question)
        text = got.text.strip()
        assert (got.status_code, text) == answer, expected


def block_of(line: str) -> Block:
    return next(block for block in BLOCKS if block.name == f"{DOCUMENT}: {line}")


def hears(client: ClientConnection, text: str) -> None:
    while hear(client) != text:
        pass


@proves(f"{DOCUMENT}: # flask_shop.py")
@proves(f"{DOCUMENT}: # fastapi_shop.py")
@proves(f"{DOCUMENT}: # bust.py")
@proves(f"{DOCUMENT}: # robyn_shop.py")
@proves(f"{DOCUMENT}: # socketio_rooms.py")
def an_original_is_a_program(block: Block, _start: Start) -> None:
    """What it does is looked at with its twin."""
    compile(block.text, block.name, "exec")


@proves(f"{DOCUMENT}: # shop.py")
def flask_and_its_twin_give_the_same_answers(block: Block, _start: Start) -> None:
    with both(block_of("# flask_shop.py"), block, FlaskServer) as (theirs, ours):
        for question in FLASK:
            compare(question, ask(theirs, question), ask(ours, question))


@proves(f"{DOCUMENT}: # the_same_shop.py")
def fastapi_and_its_twin_give_the_same_answers(block: Block, _start: Start) -> None:
    with both(block_of("# fastapi_shop.py"), block, FastAPIServer) as (theirs, ours):
        for question in FASTAPI:
            compare(question, ask(theirs, question), ask(ours, question))
        for server in (theirs, ours):
            with (
                join(server, "/rooms/a?name=one") as one,
                join(server, "/rooms/a?name=two&loud=yes") as two,
            ):
                for client, text in ((one, "one: here"), (two, "two: HERE")):
                    client.send("here")
                    hears(client, text)
                one.send("hello")
                for client in (one, two):
                    hears(client, "one: hello")
        for server, status in ((theirs, 403), (ours, 422)):
            for path in ("/rooms/a", "/rooms/a?name=one&loud=perhaps"):
                with pytest.raises(InvalidStatus) as refused, join(server, path):
                    pass
                assert refused.value.response.status_code == status, path


def served(block: Block) -> set[tuple[str, str]]:
    """What the decorators of a program declare: the kind and the path, as Fanbus writes it."""
    found = set()
    for node in ast.walk(ast.parse(block.text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for decorator in node.decorator_list:
            assert isinstance(decorator, ast.Call)
            assert isinstance(decorator.func, ast.Attribute)
            assert isinstance(decorator.args[0], ast.Constant)
            path = re.sub(r":(\w+)(?=/|$)", r"{\1}", str(decorator.args[0].value))
            found.add((decorator.func.attr, path))
    return found


BUSTAPI_HAS_A_HEALTH_OF_ITS_OWN = Otherwise(
    Question("GET", "/health"), (200, "OK"), (200, '{"status":"ok"}')
)
BUSTAPI_KNOWS_NO_405 = Otherwise(
    Question("DELETE", "/users/7"),
    (404, "Not Found"),
    (405, "This path only supports GET, HEAD, OPTIONS."),
)
ROBYN_KNOWS_NO_405 = Otherwise(
    Question("DELETE", "/users/ada"),
    (404, "Not found"),
    (405, "This path only supports GET, HEAD, OPTIONS."),
)
ROBYN_ANSWERS_NO_HEAD = Otherwise(Question("HEAD", "/"), (404, ""), (200, ""))
ROBYN_TAKES_THE_LAST_OF_SEVERAL = Otherwise(
    Question("GET", "/users/ada?page=2&page=3"),
    (200, '{"id":"ada","page":"3"}'),
    (200, '{"id":"ada","page":"2"}'),
)
ROBYN_CALLS_UPLOADS_BY_THE_NAMES_OF_THEIR_FILES = Otherwise(
    Question("POST", "/upload", {"files": PICTURE}),
    (200, '{"ü.png":3000000}'),
    (200, '{"picture":3000000}'),
)


@proves(f"{DOCUMENT}: # robust.py")
def bustapi_and_its_twin_give_the_same_answers(block: Block, _start: Start) -> None:
    original = block_of("# bust.py")
    assert served(block) == served(original)
    assert block.text.partition("@")[2] == original.text.partition("@")[2], "only the name differs"
    with both(original, block, BustAPIServer) as (theirs, ours):
        for question in BUSTAPI:
            compare(question, ask(theirs, question), ask(ours, question), mark=None)
        compare_otherwise(BUSTAPI_HAS_A_HEALTH_OF_ITS_OWN, theirs, ours)
        compare_otherwise(BUSTAPI_KNOWS_NO_405, theirs, ours)
        for server in (theirs, ours):
            for path in ("/ws/echo", "/ws/turbo"):
                with join(server, path) as ws:
                    ws.send("hello")
                    assert hear(ws) == "Echo: hello"


@proves(f"{DOCUMENT}: # not_robyn.py")
def robyn_and_its_twin_give_the_same_answers(block: Block, _start: Start) -> None:
    original = block_of("# robyn_shop.py")
    assert served(block) == served(original)
    with both(original, block, RobynServer) as (theirs, ours):
        for question in ROBYN:
            compare(question, ask(theirs, question), ask(ours, question), mark=None)
        compare_otherwise(ROBYN_KNOWS_NO_405, theirs, ours)
        compare_otherwise(ROBYN_ANSWERS_NO_HEAD, theirs, ours)
        compare_otherwise(ROBYN_TAKES_THE_LAST_OF_SEVERAL, theirs, ours)
        compare_otherwise(ROBYN_CALLS_UPLOADS_BY_THE_NAMES_OF_THEIR_FILES, theirs, ours)
        streams = [ask(server, Question("GET", "/countdown")) for server in (theirs, ours)]
        assert [stream.text for stream in streams] == ["3\n2\n1\n"] * 2
        kinds = [stream.headers["content-type"].partition(";")[0] for stream in streams]
        assert kinds == ["text/event-stream", "text/plain"]
        for server in (theirs, ours):
            with ExitStack() as stack:
                members = [stack.enter_context(join(server, "/room")) for _ in range(8)]
                for number, member in enumerate(members):
                    member.send(f"{number} is here")
                    hears(member, f"{number} is here")
                members[0].send("hello")
                for member in members:
                    hears(member, "hello")


@proves(f"{DOCUMENT}: # rooms.py")
def socketio_and_its_twin_have_the_same_rooms(block: Block, _start: Start) -> None:
    with ExitStack() as stack:
        theirs, server = stack.enter_context(
            both(block_of("# socketio_rooms.py"), block, SocketIOServer)
        )
        people = [str(OTHERS), str(PEOPLE), f"http://127.0.0.1:{theirs.port}"]
        done = subprocess.run(people, capture_output=True, text=True, timeout=3 * DEADLINE_S)
        assert done.returncode == 0, done.stderr
        soup = "the soup is ready"
        assert json.loads(done.stdout) == [
            ["next"],
            [soup],
            [soup, "next"],
            [soup, "next"],
            ["next"],
        ]

        inside = [stack.enter_context(join(server, "/rooms")) for _ in range(8)]
        outside = stack.enter_context(join(server, "/rooms"))
        for client, room in [*((client, "kitchen") for client in inside), (outside, "hall")]:
            client.send(f"join {room}")
            assert str(hear(client)).endswith(" is here")
        inside[0].send("say kitchen the soup is ready")
        for client in inside[1:]:
            hears(client, "the soup is ready")
        # Neither who said it nor who is elsewhere hears it.
        for client, room in ((inside[0], "kitchen"), (outside, "hall")):
            inside[1].send(f"say {room} next")
            heard = hear(client)
            while str(heard).endswith(" is here"):
                heard = hear(client)
            assert heard == "next"
