"""Every code block of the documentation is run, and does what the text beside it says.

A block is found by its document and its first line. One that nothing here proves is a failure, and
so is a proof whose block is gone.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from serving import PATIENCE_S, ROOT, Server, Terminal, until

DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURES = ("text", "")
"""Languages of blocks that are pictures or output: there is nothing to run."""


@dataclass(frozen=True)
class Block:
    document: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """The document, and the first line that tells this block from the others."""
        for line in self.text.splitlines():
            if line.strip() and not line.startswith(("from ", "import ")):
                own = [block for block in blocks(self.document) if line in block.text.splitlines()]
                if len(own) == 1:
                    return f"{self.document}: {line.strip()}"
        raise AssertionError(f"No line of its own in a block of {self.document}:\n{self.text}")


def blocks(document: str) -> list[Block]:
    """The code blocks of a document, in order."""
    text = (ROOT / document).read_text()
    return [Block(document, language, code) for language, code in FENCE.findall(text)]


BLOCKS = [
    block
    for path in DOCUMENTS
    for block in blocks(str(path.relative_to(ROOT)))
    if block.language not in PICTURES
]

Proof = Callable[[Block, Path], None]
PROOFS: dict[str, Proof] = {}


def proves(name: str) -> Callable[[Proof], Proof]:
    """Registers the proof of a block, by its name."""

    def register(proof: Proof) -> Proof:
        PROOFS[name] = proof
        return proof

    return register


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_block_does_what_the_text_says(block: Block, tmp_path: Path) -> None:
    assert block.name in PROOFS, f"Nothing proves this block:\n{block.text}"
    PROOFS[block.name](block, tmp_path)


def test_every_proof_has_its_block() -> None:
    assert set(PROOFS) == {block.name for block in BLOCKS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_the_documents_link_to_is_there(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
    for test in re.findall(r"`(tests/[\w./-]+)`", text):
        assert (ROOT / test).exists(), f"{path.name} names {test}"


# ---------------------------------------------------------------- README.md


def served(block: Block, folder: Path) -> Server:
    """The program as it is printed, as a server on a free port."""
    program = folder / "program.py"
    program.write_text(block.text)
    return Server(program, forced=True)


def typed(block: Block, server: Server) -> list[str]:
    """The words of a command, with the server's real port."""
    return shlex.split(block.text.replace(":5000", f":{server.port}"))


def answer(server: Server, path: str, body: str | None = None) -> Any:
    """The JSON that a GET, or a POST with a body, is answered with."""
    data = None if body is None else body.encode()
    request = urllib.request.Request(server.url(path), data)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.loads(response.read())


@proves('README.md: @app.websocket("/rooms/{room}")')
def the_first_program_is_a_chat_across_four_processes(block: Block, folder: Path) -> None:
    assert "app.run(workers=4)" in block.text
    assert "in all four processes" in block.text
    with ExitStack() as stack:
        server = stack.enter_context(served(block, folder))
        room = [stack.enter_context(server.websocket("/rooms/lobby")) for _ in range(16)]
        other = stack.enter_context(server.websocket("/rooms/other"))
        # A client is in the room when it hears itself.
        for number, client in enumerate(room):
            client.send(f"hello {number}")
            while client.recv(timeout=PATIENCE_S) != f"hello {number}":
                pass
        for number, client in enumerate(room):
            client.send(f"message {number}")
        heard = []
        for client in room:
            messages: list[str | bytes] = []
            while len(messages) < len(room):
                message = client.recv(timeout=PATIENCE_S)
                if str(message).startswith("message"):
                    messages.append(message)
            heard.append(messages)
        assert sorted(map(str, heard[0])) == sorted(f"message {n}" for n in range(len(room)))
        assert all(messages == heard[0] for messages in heard), "not one order"
        other.send("alone")
        assert other.recv(timeout=PATIENCE_S) == "alone"


@proves("README.md: limits = WebSocketConfig(")
def the_limits_close_with_the_codes_that_the_comments_name(block: Block, folder: Path) -> None:
    assert "max_message_size=64 * 1024,  # bytes; above: closed with 1009" in block.text
    assert "rate_limit=50,  # messages per second; above: closed with 1008" in block.text
    with served(block, folder) as server:
        with server.websocket("/ws/echo") as ws:
            ws.send("hi")
            assert ws.recv(timeout=PATIENCE_S) == "You said: hi"
            ws.send("x" * (64 * 1024))
            assert ws.recv(timeout=PATIENCE_S) == "You said: " + "x" * (64 * 1024)
            ws.send("x" * (64 * 1024 + 1))
            assert closed_with(ws) == 1009
        with server.websocket("/ws/echo") as ws:
            with suppress(ConnectionClosed):  # it may be closed before all are sent
                for _ in range(200):
                    ws.send("quick")
            assert closed_with(ws) == 1008


def closed_with(ws: Any) -> int | None:
    """Reads until the server closes, and returns the code."""
    with suppress(ConnectionClosed):
        while True:
            ws.recv(timeout=PATIENCE_S)
    code: int | None = ws.close_code
    return code


@proves("README.md: limits = WebSocketConfig(max_message_size=64 * 1024, rate_limit=50)")
def turbo_routes_echo_relay_and_refuse(block: Block, folder: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(served(block, folder))
        echo = stack.enter_context(server.websocket("/ws/echo"))
        echo.send("hi")
        assert echo.recv(timeout=PATIENCE_S) == "Echo: hi"

        room = "/ws/rooms/cave?key=sesame"
        cave = [stack.enter_context(server.websocket(room)) for _ in range(8)]
        cave[0].send("open")
        assert {client.recv(timeout=PATIENCE_S) for client in cave} == {"open"}
        for refused in ("/ws/rooms/cave", "/ws/rooms/cave?key=wrong"):
            with pytest.raises(InvalidStatus) as error:
                server.websocket(refused)
            assert error.value.response.status_code == 403


@proves('README.md: @app.websocket("/news")')
def http_routes_answer_and_publish_from_everywhere(block: Block, folder: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(served(block, folder))
        assert answer(server, "/") == {"message": "Hello, World!"}
        assert answer(server, "/users/7") == {"id": 7}
        with pytest.raises(urllib.error.HTTPError) as error:
            answer(server, "/users/seven")
        assert error.value.code == 404
        error.value.close()

        readers = [stack.enter_context(server.websocket("/news")) for _ in range(12)]
        listening(server, readers)
        for path, published in (("/news", True), ("/news/async", True), ("/news/later", "soon")):
            assert answer(server, path, f"from {path}") == {"published": published}
            for reader in readers:
                assert said(reader) == f"from {path}"


def listening(server: Server, readers: list[Any]) -> None:
    """Publishes until every reader has heard something, so that all are subscribed."""
    for reader in readers:

        def heard(reader: Any = reader) -> bool:
            answer(server, "/news", "are you there?")
            with suppress(TimeoutError):
                return bool(reader.recv(timeout=0.1))
            return False

        until(heard, "a reader hears nothing")


def said(reader: Any) -> str:
    while (message := str(reader.recv(timeout=PATIENCE_S))) == "are you there?":
        pass
    return message


@proves("README.md: python chat.py")
def the_first_program_is_started_like_any_other(block: Block, folder: Path) -> None:
    assert "Save it as `chat.py`" in (ROOT / "README.md").read_text()
    assert block.text.split()[1] == "chat.py"


@proves("README.md: python -m websockets ws://127.0.0.1:5000/rooms/lobby")
def two_terminals_join_the_first_program(block: Block, folder: Path) -> None:
    first = next(each for each in BLOCKS if "app.run(workers=4)" in each.text)
    with served(first, folder) as server, Terminal(typed(block, server)) as one:
        one.types("hello?")
        one.shows("< hello?")
        with Terminal(typed(block, server)) as two:
            two.types("here!")
            two.shows("< here!")
            one.shows("< here!")


@proves("README.md: make chat")
def make_chat_is_there(block: Block, folder: Path) -> None:
    """`make chat` builds for minutes, so only what it would do is looked at."""
    told = subprocess.run(
        [*shlex.split(block.text), "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "examples/chat" in told.stdout


@proves("README.md: pip install .")
def pip_finds_what_it_needs(block: Block, folder: Path) -> None:
    """Installing builds for minutes, so pip only reads the metadata."""
    metadata = (ROOT / "pyproject.toml").read_text()
    assert 'build-backend = "maturin"' in metadata
    assert re.search(r'^requires-python = ">=3\.10"$', metadata, re.MULTILINE)
    assert re.search(r"^dependencies = \[\]$", metadata, re.MULTILINE)


@proves('README.md: curl -d "It works" http://127.0.0.1:5000/news')
def curl_publishes_news(block: Block, folder: Path) -> None:
    news = next(each for each in BLOCKS if '@app.post("/news/later")' in each.text)
    with served(news, folder) as server, server.websocket("/news") as reader:
        listening(server, [reader])
        subprocess.run(
            [*typed(block, server), "--silent", "--fail"], check=True, capture_output=True
        )
        assert said(reader) == "It works"


# ---------------------------------------------------------------- examples/chat/README.md

CHAT = "examples/chat/README.md"


@proves(f"{CHAT}: make chat")
def make_chat_is_there_too(block: Block, folder: Path) -> None:
    make_chat_is_there(block, folder)


@proves(f"{CHAT}: python examples/chat/app.py")
def the_chat_starts_by_hand(block: Block, folder: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(Server(ROOT / block.text.split()[1]))
        page = stack.enter_context(urllib.request.urlopen(server.url("/"), timeout=PATIENCE_S))
        assert b"Fanbus chat" in page.read()


@proves(f"{CHAT}: HOST=0.0.0.0 PORT=8080 python examples/chat/app.py")
def the_chat_takes_host_and_port(block: Block, folder: Path) -> None:
    host, _, _, program = block.text.split()
    with Server(ROOT / program, environment=dict([host.split("=")])) as server:
        pass  # it listens on the port that it was told
    assert "0.0.0.0" in server.output


@proves(f'{CHAT}: python -m websockets "ws://127.0.0.1:5000/rooms/lobby?name=Terminal"')
def a_terminal_takes_part_in_the_chat(block: Block, folder: Path) -> None:
    line = next(each for each in BLOCKS if each.language == "json").text.strip()
    with (
        Server(ROOT / "examples/chat/app.py") as server,
        Terminal(typed(block, server)) as terminal,
    ):
        terminal.shows('"type": "joined", "name": "Terminal"')
        terminal.types(line)
        terminal.shows('"name": "Terminal", "text": "Hello from a terminal"')


@proves(f'{CHAT}: {{"id": "1", "text": "Hello from a terminal"}}')
def what_the_terminal_says_is_json(block: Block, folder: Path) -> None:
    """It is typed in the proof above."""
    assert set(json.loads(block.text)) == {"id", "text"}
