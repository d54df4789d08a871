"""Every code block of the documentation is run, and does what the text beside it says.

A block is found by its document and the first line that no other block has. One that nothing here
proves is a failure, and so is a proof whose block is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import support.migration_proofs  # noqa: F401 - the proofs of its document
from conftest import StartServer
from fanbus import Bus, _core
from support.bus_programs import Celery, Gunicorn, Program, Uvicorn, command, new_name
from support.code_blocks import BLOCKS, PROOFS, Block, Start, blocks, proves
from support.paths import ROOT, TESTS
from support.raw_websocket import RawSocket
from support.servers import Server, stop, wait_for
from support.websocket_clients import Terminal, closed_with, hear, join


@pytest.fixture
def start(server: StartServer, tmp_path: Path) -> Start:
    def start(program: str | Path, environment: dict[str, str] | None = None) -> Server:
        if isinstance(program, Path):
            return server(program, environment=environment)
        printed = tmp_path / "printed.py"
        printed.write_text(program)
        return server(
            TESTS / "support/serve_on.py", arguments=(str(printed),), environment=environment
        )

    return start


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_block_does_what_the_text_says(block: Block, start: Start) -> None:
    assert block.name in PROOFS, f"Nothing proves this block:\n{block.text}"
    PROOFS[block.name](block, start)


def test_every_proof_has_its_block() -> None:
    assert set(PROOFS) == {block.name for block in BLOCKS}


# README.md


@proves('README.md: @app.websocket("/rooms/{room}")')
def the_first_program_is_a_chat_across_four_processes(block: Block, start: Start) -> None:
    assert "app.run(workers=4)" in block.text
    server = start(block.text)
    assert len(server.worker_pids()) == 4
    with ExitStack() as stack:
        room = [stack.enter_context(join(server, "/rooms/lobby")) for _ in range(16)]
        other = stack.enter_context(join(server, "/rooms/other"))
        for number, client in enumerate(room):
            client.send(f"hello {number}")
            hear_until(client, f"hello {number}")  # it hears itself, so it is in the room
        for number, client in enumerate(room):
            client.send(f"message {number}")
        heard = [[hear_until(client, "message ") for _ in room] for client in room]
        assert sorted(heard[0]) == sorted(f"message {number}" for number in range(len(room)))
        assert all(messages == heard[0] for messages in heard), "not one order"
        other.send("alone")
        assert hear(other) == "alone"


def hear_until(client: ClientConnection, start: str) -> str:
    """The next message that starts so."""
    while not (message := str(hear(client))).startswith(start):
        pass
    return message


@proves("README.md: python chat.py")
def the_first_program_is_started_like_any_other(block: Block, start: Start) -> None:
    """The block above is started so in its own proof; here, the name is the one in the text."""
    assert "Save it as `chat.py`" in (ROOT / block.document).read_text()
    assert shlex.split(block.text) == ["python", "chat.py"]


@proves("README.md: python -m websockets ws://127.0.0.1:5000/rooms/lobby")
def two_terminals_join_the_first_program(block: Block, start: Start) -> None:
    server = start(next(each.text for each in BLOCKS if "app.run(workers=4)" in each.text))
    with Terminal(block.text, server) as one, Terminal(block.text, server) as two:
        for terminal in (one, two):
            terminal.types("hello?")
            terminal.shows("< hello?")
        one.types("from one")
        two.types("from two")
        for terminal in (one, two):
            terminal.shows("< from one")
            terminal.shows("< from two")


def plan_of(block: Block) -> str:
    """The plan of a `make` command, which may take minutes to run."""
    plan = subprocess.run(
        [*shlex.split(block.text), "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert plan.returncode == 0, plan.stderr
    return plan.stdout


@proves("README.md: make chat")
def make_chat_would_serve_the_chat(block: Block, start: Start) -> None:
    assert "examples/chat" in plan_of(block)


@proves("README.md: make test")
def make_test_would_run_the_tests(block: Block, start: Start) -> None:
    """It includes this test."""
    plan = plan_of(block)
    assert "pytest" in plan
    assert "cargo test" in plan


@proves("README.md: pip install .")
def pip_is_told_what_it_needs(block: Block, start: Start) -> None:
    """Installing builds for minutes, so only what the text says of it is looked at."""
    metadata = (ROOT / "pyproject.toml").read_text()
    assert 'build-backend = "maturin"' in metadata
    assert 'requires-python = ">=3.10"' in metadata
    wanted = re.search(r"^dependencies = \[(.*)\]$", metadata, re.MULTILINE)
    assert wanted is not None
    assert re.fullmatch(r'"tomli>=[\d.]+; python_version < \'3.11\'"', wanted[1])


@proves("README.md: limits = WebSocketConfig(")
def the_limits_close_with_the_codes_of_the_comments(block: Block, start: Start) -> None:
    assert "max_message_size=64 * 1024,  # bytes; above: closed with 1009" in block.text
    assert "rate_limit=50,  # messages per second; above: closed with 1008" in block.text
    server = start(block.text)
    with join(server, "/ws/echo") as ws:
        ws.send("hi")
        assert hear(ws) == "You said: hi"
        ws.send("x" * (64 * 1024))
        assert hear(ws) == "You said: " + "x" * (64 * 1024)
        ws.send("x" * (64 * 1024 + 1))
        assert closed_with(ws) == 1009
    with join(server, "/ws/echo") as ws:
        with suppress(ConnectionClosed):  # it may be closed before all are sent
            for _ in range(200):
                ws.send("quick")
        assert closed_with(ws) == 1008


@proves("README.md: limits = WebSocketConfig(max_message_size=64 * 1024, rate_limit=50)")
def turbo_routes_echo_relay_and_refuse(block: Block, start: Start) -> None:
    server = start(block.text)
    with ExitStack() as stack:
        echo = stack.enter_context(join(server, "/ws/echo"))
        echo.send("hi")
        assert hear(echo) == "Echo: hi"

        door = "/ws/rooms/cave?key=sesame"
        cave = [stack.enter_context(join(server, door)) for _ in range(8)]
        cave[0].send("open")
        assert {hear(client) for client in cave} == {"open"}
        for refused in ("/ws/rooms/cave", "/ws/rooms/cave?key=wrong"):
            with pytest.raises(InvalidStatus) as error, join(server, refused):
                pass
            assert error.value.response.status_code == 403


@proves('README.md: @app.websocket("/news")')
def http_routes_answer_and_publish_from_everywhere(block: Block, start: Start) -> None:
    server = start(block.text)
    with ExitStack() as stack:
        http = stack.enter_context(server.http())
        assert http.get("/").json() == {"message": "Hello, World!"}
        assert http.get("/users/7").json() == {"id": 7}
        assert http.get("/users/seven").status_code == 404

        readers = [stack.enter_context(join(server, "/news")) for _ in range(12)]
        wait_until_they_listen(server, readers)
        for path, published in (("/news", True), ("/news/async", True), ("/news/later", "soon")):
            answer = http.post(path, content=f"news from {path}")
            assert answer.json() == {"published": published}
            for reader in readers:
                assert hear_until(reader, "news") == f"news from {path}"


@proves('README.md: curl -d "It works" http://127.0.0.1:5000/news')
def curl_publishes_news(block: Block, start: Start) -> None:
    server = start(next(each.text for each in BLOCKS if '@app.post("/news/later")' in each.text))
    with join(server, "/news") as reader:
        wait_until_they_listen(server, [reader])
        command = shlex.split(block.text.replace(":5000", f":{server.port}"))
        subprocess.run([*command, "--silent", "--fail"], check=True, capture_output=True)
        assert hear_until(reader, "It") == "It works"


def wait_until_they_listen(server: Server, readers: list[ClientConnection]) -> None:
    """Publishes until every reader has heard something, so that all are subscribed."""
    with server.http() as http:
        for reader in readers:

            def heard(reader: ClientConnection = reader) -> bool:
                http.post("/news", content="are you there?")
                with suppress(TimeoutError):
                    return bool(reader.recv(timeout=0.1))
                return False

            wait_for(heard, "a reader that hears")


@proves('README.md: with Bus.open("chat-5000") as bus:')
def a_script_publishes_to_the_clients_of_a_server(block: Block, start: Start) -> None:
    server, bus = served_chat(start)
    with join(server, "/rooms/lobby") as client:
        client.send("in?")
        hear_until(client, "in?")
        with Program("-c", block.text.replace("chat-5000", bus)) as script:
            assert script.wait() == 0, script.said(2)
        assert hear(client) == "The kitchen closes at ten."


@proves('README.md: fanbus publish room:lobby "hello"')
def the_command_publishes_to_the_clients_of_a_server(block: Block, start: Start) -> None:
    server, bus = served_chat(start)
    with join(server, "/rooms/lobby") as client:
        client.send("in?")
        hear_until(client, "in?")
        with Program(*command(block.text), environment={"FANBUS_BUS": bus}) as program:
            assert program.wait() == 0, program.said(2)
        assert hear(client) == "hello"


def served_chat(start: Start) -> tuple[Server, str]:
    """The first program, and the name of its bus."""
    server = start(next(each.text for each in BLOCKS if "app.run(workers=4)" in each.text))
    names = [bus["name"] for bus in _core.buses()]
    return server, next(name for name in names if name.endswith(f"-{server.port}"))


# docs/howto/any-process.md

HOWTO = "docs/howto/any-process.md"


@proves(f'{HOWTO}: first = bus.publish("new", "two coffees")  # str or bytes')
def a_script_publishes_text_and_bytes(block: Block, start: Start) -> None:
    with new_name() as name, Bus.open(name, create=True) as bus:
        subscription = bus.subscribe("new")
        with Program("-c", block.text.replace("orders", name)) as script:
            assert script.wait() == 0, script.said(2)
        assert next(subscription).message == "two coffees"
        assert next(subscription).message == b"\x00\x01"


@proves(f'{HOWTO}: for record in bus.subscribe("new"):')
def a_thread_iterates(block: Block, start: Start) -> None:
    it_shows(block, " news for it\n")


@proves(f"{HOWTO}: async def main():")
def a_coroutine_iterates(block: Block, start: Start) -> None:
    it_shows(block, "coroutine: news for it\n")


def it_shows(block: Block, line: str) -> None:
    """The program prints this line for a message that comes once it has subscribed."""
    with ExitStack() as stack:
        name = stack.enter_context(new_name())
        bus = stack.enter_context(Bus.open(name, create=True))
        text = block.text.replace("orders", name)
        program = stack.enter_context(Program("-c", text))

        def has_heard() -> bool:
            bus.publish("new", "news for it")
            return line in program.said()

        wait_for(has_heard, line)


@proves(f'{HOWTO}: with Bus.open("orders", create=True, size=64 * 1024) as bus:')
def a_slow_reader_is_told_and_goes_on(block: Block, start: Start) -> None:
    with new_name() as name, Program("-c", block.text.replace("orders", name)) as program:
        program.wait_to_say("read: 999\n")
        first, *rest = program.said().splitlines()
        missed = int(first.removeprefix("missed: "))
        assert rest == [f"read: {number}" for number in range(missed, 1000)]


@proves(f"{HOWTO}: uvicorn --workers 2 --port 8000 --app-dir examples/any_process live:app")
def uvicorn_serves_what_a_task_worker_answers_a_script(block: Block, start: Start) -> None:
    """The four terminals of the text."""
    lines = [each.text for each in blocks(HOWTO) if each.language == "sh"]
    _, tasks_line, client_line, script_line = lines[:4]
    with new_name() as name, Uvicorn(name, block.text.replace("8000", "0")) as uvicorn:
        environment = {"FANBUS_BUS": name}
        with Program(*command(tasks_line), environment=environment) as tasks:
            tasks.wait_to_say("waiting for jobs")
            with Terminal(client_line.replace(":8000", ":5000"), uvicorn) as client:
                client.shows("< worker ")
                with Program(*command(script_line), environment=environment) as script:
                    assert script.wait() == 0, script.said(2)
                client.shows("< done: SOME WORK")


@proves(f"{HOWTO}: python examples/any_process/tasks.py")
@proves(f"{HOWTO}: python -m websockets ws://127.0.0.1:8000/news")
@proves(f'{HOWTO}: python examples/any_process/publisher.py jobs "some work"')
def it_is_typed_beside_uvicorn(block: Block, start: Start) -> None:
    """It is run in the proof above, which takes the four blocks in their order."""
    assert block.text in [each.text for each in blocks(HOWTO) if each.language == "sh"][1:4]


GUNICORN = "gunicorn --workers 2 --threads 100 --bind 127.0.0.1:8001"


@proves(f"{HOWTO}: {GUNICORN} --chdir examples/any_process wsgi:app")
def gunicorn_streams_what_curl_posts(block: Block, start: Start) -> None:
    """The three terminals of the text."""
    listen_line, post_line = (line for line in shell_lines() if line.startswith("curl"))
    with new_name() as name, Gunicorn(name, block.text) as gunicorn:
        url = f"http://127.0.0.1:{gunicorn.port}/"
        listen, post = (
            [word.replace("http://127.0.0.1:8001/", url) for word in [*shlex.split(line), "-sS"]]
            for line in (listen_line, post_line)
        )
        with subprocess.Popen(listen, stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            assert curl.stdout.readline().startswith(b": process ")
            posted = subprocess.run(post, capture_output=True, text=True, check=True)
            assert posted.stdout.startswith("published as number 0 by process ")
            lines = [curl.stdout.readline() for _ in range(3)]
            assert lines == [b"\n", b"id: 0\n", b"data: It works\n"]
            curl.kill()


CELERY = "celery --workdir examples/any_process --app celery_tasks"


@proves(f"{HOWTO}: {CELERY} worker --concurrency 2 --loglevel INFO")
def a_celery_task_asks_and_is_answered(block: Block, start: Start) -> None:
    """The three terminals of the text."""
    call_line = next(line for line in shell_lines() if " call " in line)
    answer_line = next(line for line in shell_lines() if "answers:" in line)
    with TemporaryDirectory() as folder, new_name() as name, Bus.open(name, create=True) as bus:
        news = bus.subscribe("news")
        with Celery(name, Path(folder), block.text) as celery:
            celery.call(call_line)
            assert re.fullmatch(r"tea\? asks process \d+", str(next(news).message))
            with Program(*command(answer_line), environment=celery.environment) as program:
                assert program.wait() == 0, program.said(2)
            assert next(news).message == "tea: with milk"


@proves(f"{HOWTO}: curl --no-buffer http://127.0.0.1:8001/news")
@proves(f'{HOWTO}: curl -d "It works" http://127.0.0.1:8001/news')
@proves(f"{HOWTO}: {CELERY} call celery_tasks.order --args '[\"tea\"]'")
@proves(f'{HOWTO}: fanbus publish answers:tea "with milk"')
def it_is_typed_beside_gunicorn_or_celery(block: Block, start: Start) -> None:
    """It is run in the two proofs above, which look for it by its beginning."""
    assert block.text in shell_lines()


def shell_lines() -> list[str]:
    """What the document has for a shell."""
    return [each.text for each in blocks(HOWTO) if each.language == "sh"]


@proves(f'{HOWTO}: fanbus publish news "It works"')
def the_command_publishes_text_and_the_standard_input(block: Block, start: Start) -> None:
    with new_name() as name, Bus.open(name, create=True) as bus:
        subscription = bus.subscribe("news")
        script = block.text.replace("fanbus", f"{shlex.quote(sys.executable)} -m fanbus")
        done = subprocess.run(
            ["bash", "-ec", script],
            env={**os.environ, "FANBUS_BUS": name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "0\n1\n"), done.stderr
        assert next(subscription).message == "It works"
        assert re.search(r"\d\d:\d\d", str(next(subscription).message))


@proves(f"{HOWTO}: fanbus subscribe news --json --count 2")
def the_command_keeps_text_and_bytes_apart(block: Block, start: Start) -> None:
    with new_name() as name, Bus.open(name, create=True) as bus:
        with Program(*command(block.text), environment={"FANBUS_BUS": name}) as program:
            program.wait_to_say("Listening to", stream=2)
            bus.publish("news", "text")
            bus.publish("news", b"bytes")
            assert program.wait() == 0
            kinds = [sorted(json.loads(line)) for line in program.said().splitlines()]
        assert kinds == [["message", "offset", "topic"], ["base64", "offset", "topic"]]


@proves(f"{HOWTO}: fanbus bus list")
def buses_are_listed_shown_and_removed(block: Block, start: Start) -> None:
    with new_name() as name:
        Bus.open(name, create=True).close()
        for line in block.text.splitlines():
            with Program(*command(line, orders=name)) as program:
                assert program.wait() == 0, program.said(2)
                assert (name in program.said()) == ("remove" not in line)
        assert name not in [bus["name"] for bus in _core.buses()]


# docs/howto/websockets.md

WEBSOCKETS = "docs/howto/websockets.md"


@proves(f'{WEBSOCKETS}: app = Fanbus("echo")')
def the_smallest_websocket_echoes(block: Block, start: Start) -> None:
    with join(start(block.text), "/echo") as ws:
        ws.send("hi")
        assert hear(ws) == "You said: hi"


@proves(f'{WEBSOCKETS}: app = Fanbus("door")')
def a_door_rejects_and_closes(block: Block, start: Start) -> None:
    server = start(block.text)
    path = "/rooms/a?token=sesame"
    with join(server, path) as ws:
        ws.send("hi")
        assert hear(ws) == "ada: hi"
        ws.send("bye")
        assert closed_with(ws) == 4000
        assert ws.close_reason == "goodbye"
    with RawSocket(server.port) as raw:
        offered = {"Origin": "https://example.com", "Sec-WebSocket-Protocol": "chat.v1, chat.v2"}
        assert raw.open(path, {**offered}).headers["sec-websocket-protocol"] == "chat.v2"
    for refused, origin, status in (
        ("/rooms/a?token=wrong", "https://example.com", 401),
        (path, "https://evil.example", 403),
    ):
        with RawSocket(server.port) as raw:
            assert raw.upgrade(refused, {"Origin": origin}).status == status


@proves(f'{WEBSOCKETS}: app = Fanbus("auction")')
def an_auction_publishes_to_the_others(block: Block, start: Start) -> None:
    server = start(block.text)
    with join(server, "/lots/7") as one:
        one.send("100")
        assert hear(one) == "your bid counts"
        with join(server, "/lots/7") as two:
            assert hear(two) == "100"
            two.send("200")
            assert hear(one) == "200"
            assert hear(two) == "your bid counts"
            two.send("stop")
            two.send("300")
            assert hear(one) == "300"
            assert hear(two) == "your bid counts"
            one.send("400")
            assert hear(one) == "your bid counts"
            two.send("500")
            assert hear(two) == "your bid counts", "and not 400: it has unsubscribed"


# docs/howto/reconnecting.md

RECONNECTING = "docs/howto/reconnecting.md"


@proves(f'{RECONNECTING}: app = Fanbus("live")')
def a_page_sees_ticks(block: Block, start: Start) -> None:
    assert "tick=15" in block.text
    server = start(block.text.replace("tick=15", "tick=0.2"))
    with join(server, "/live") as one, join(server, "/live") as other:
        assert [hear(one) for _ in range(3)] == [""] * 3
        one.send("hello")
        for client in (one, other):
            assert hear_until(client, "hello") == "hello"


@proves(f"{RECONNECTING}: const SILENCE_MS = 40_000; // twice the server's tick, and some patience")
def a_page_that_hears_nothing_comes_back(block: Block, start: Start) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing: `make test` installs it")
    app = next(each.text for each in BLOCKS if each.name == f'{RECONNECTING}: app = Fanbus("live")')
    app = app.replace("tick=15", "tick=0.2").replace("workers=2", "workers=1")
    server = start(app)
    url = f"ws://127.0.0.1:{server.port}/live"
    program = block.text.replace("40_000", "2_000")
    assert program != block.text
    program += f"connect('{url}', (data) => console.log(data), (state) => console.log(state));"
    with (
        join(server, "/live") as publisher,
        Program("--experimental-websocket", "--eval", program, python=node) as page,
    ):
        page.wait_to_say("online\n")
        publisher.send("before")
        page.wait_to_say("before\n")
        (worker,) = server.worker_pids()
        # Its system goes on to acknowledge: to the page, and to TCP, nothing has happened.
        stop(worker)
        try:
            page.wait_to_say("offline\n")
        finally:
            os.kill(worker, signal.SIGCONT)
        wait_for(lambda: page.said().count("online\n") == 2, "the page to be back")
        publisher.send("after")
        page.wait_to_say("after\n")


# docs/howto/slow-clients.md


@proves('docs/howto/slow-clients.md: app = Fanbus("map")')
def a_handler_knows_what_was_left_out(block: Block, start: Start) -> None:
    server = start(block.text)
    with join(server, "/positions") as quick:
        quick.send("?")
        assert hear(quick) == "0 positions were left out"


# docs/howto/history.md

HISTORY = "docs/howto/history.md"


@proves(f'{HISTORY}: app = Fanbus("news")')
def who_comes_late_gets_the_last_messages(block: Block, start: Start) -> None:
    server = start(block.text)
    with join(server, "/rooms/a") as first:
        for number in range(30):
            first.send(f"message {number}")
        for number in range(30):
            assert hear(first) == f"message {number}"
        with join(server, "/rooms/a") as late:
            for number in range(10, 30):
                assert hear(late) == f"message {number}"
            first.send("and on")
            assert hear(late) == "and on"
    with server.http() as http:
        found = http.get("/rooms/a/messages?last=2").json()
        assert found == {"messages": ["message 29", "and on"], "complete": True}


@proves(f'{HISTORY}: with Bus.open("orders", create=True) as bus:')
def a_bus_keeps_without_a_server(block: Block, start: Start) -> None:
    with new_name() as name, Program("-c", block.text.replace("orders", name)) as program:
        program.wait_to_say("0 two coffees\n")
        assert program.said() == "1 True two coffees\n0 two coffees\n"
        with Bus.open(name) as bus:
            bus.publish("new", "a tea")
        program.wait_to_say("1 a tea\n")


@proves(f"{HISTORY}: fanbus subscribe new --last 10")
def the_command_shows_what_is_kept(block: Block, start: Start) -> None:
    with new_name() as name, Bus.open(name, create=True) as bus:
        for number in range(12):
            bus.publish("new", f"order {number}")
        with Program(*command(block.text), environment={"FANBUS_BUS": name}) as program:
            program.wait_to_say("order 11\n")
            assert program.said().splitlines() == [f"order {number}" for number in range(2, 12)]


# docs/howto/middleware.md


@proves("docs/howto/middleware.md: @asynccontextmanager")
def middleware_and_hooks_do_as_the_page_says(block: Block, start: Start) -> None:
    server = start(block.text)
    page = {"origin": "https://example.com"}
    with server.http() as http, Bus.open(f"middleware-{server.port}") as bus:
        mail = bus.subscribe("mail")
        answer = http.get("/divide/1/2", headers=page)
        assert answer.json() == {"result": 0.5}
        assert answer.headers["server-timing"].startswith("app;dur=")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["access-control-allow-origin"] == page["origin"]
        answer = http.get("/divide/1/0")
        assert (answer.status_code, answer.json()) == (400, {"error": "divided by zero"})
        answer = http.get("/nowhere")
        assert (answer.status_code, answer.json()["path"]) == (404, "/nowhere")
        assert "server-timing" in answer.headers
        assert http.post("/admin/users/grace").status_code == 401
        with_key = {"x-key": "secret"}
        assert http.post("/admin/users/ada", headers=with_key).status_code == 409
        assert http.post("/admin/users/grace", headers=with_key).status_code == 201
        record = mail.receive(timeout=30)
        assert record is not None
        assert record.message == "Welcome, grace"


# docs/howto/testing.md


@proves("docs/howto/testing.md: # shouting.py")
@proves("docs/howto/testing.md: # test_shouting.py")
def the_tests_of_the_application_pass(block: Block, start: Start) -> None:
    """Both blocks, wherever the text begins, as a project of their own."""
    application, tests = (each.text for each in BLOCKS if each.document == "docs/howto/testing.md")
    with TemporaryDirectory() as folder:
        (Path(folder) / "shouting.py").write_text(application)
        (Path(folder) / "test_shouting.py").write_text(tests)
        words = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*words, "--rootdir", folder, folder], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 passed" in done.stdout


# docs/howto/routing.md


@proves('docs/howto/routing.md: app = Fanbus("shop")')
def routes_are_served_below_the_prefixes(block: Block, start: Start) -> None:
    server = start(block.text)
    with server.http() as http:
        url = http.get("/").json()["orders"]
        assert url == "/api/orders/7?lang=en"
        assert http.get(url).json() == {"number": 7}
        assert http.get("/api/orders/x").status_code == 404
        noted = http.put("/api/orders/7/notes/a/b.txt").json()
        assert noted == {"number": 7, "path": "a/b.txt"}
        assert http.get("/api/orders/7/").headers["location"] == "/api/orders/7"
    with join(server, "/api/orders/7/live") as one, join(server, "/api/orders/7/live") as two:
        two.send("two is here")
        hear_until(two, "two is here")
        one.send("sent")
        assert hear_until(two, "sent") == "sent"


# docs/howto/requests.md


@proves('docs/howto/requests.md: app = Fanbus("requests")')
def requests_are_read(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        headers = {"Accept-Language": "de", "Cookie": "seen=1"}
        assert http.get("/search?word=a&word=b&page=2", headers=headers).json() == {
            "words": ["a", "b"],
            "page": 2,
            "language": "de",
            "seen": True,
            "client": "127.0.0.1",
        }
        assert http.post("/numbers", json=[1, 2, 3]).json() == {"sum": 6}
        assert http.post("/numbers", content=b"{").status_code == 400
        picture = {"picture": ("a.png", b"x" * 20_000_000, "image/png")}
        answer = http.post("/avatar/ann", data={"text": "me"}, files=picture).json()
        assert answer == {"text": "me", "type": "image/png", "bytes": 20_000_000}
        assert http.post("/avatar/ann", data={"text": "me"}).status_code == 400


@proves('docs/howto/requests.md: app = Fanbus("uploads")')
def a_body_is_read_piece_by_piece(block: Block, start: Start) -> None:
    body = os.urandom(20_000_000)  # beyond the limit of a body that is read at once
    expected = {"name": "a.iso", "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    with start(block.text).http() as http:
        assert http.put("/files/a.iso", content=body).json() == expected


# docs/howto/events.md


@proves('docs/howto/events.md: app = Fanbus("tokens")')
def a_generator_is_heard_to_its_end(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        lines = http.get("/count", headers={"Last-Event-ID": "7"}).text.splitlines()
    assert "retry: 1000" in lines
    assert [line for line in lines if line.startswith("id: ")] == ["id: 8", "id: 9", "id: 10"]
    assert lines[-3:] == ["event: done", "data: that was all", ""]


@proves('docs/howto/events.md: app = Fanbus("events")')
def a_page_listens(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        for number in range(12):
            http.post("/news", content=f"message {number}")
        with http.stream("GET", "/news") as stream:
            lines = stream.iter_lines()

            def data() -> str:
                return next(line for line in lines if line.startswith("data: "))

            assert [data() for _ in range(10)] == [f"data: message {n}" for n in range(2, 12)]
            http.post("/news", content="and on")
            assert data() == "data: and on"


# docs/howto/responses.md


@proves("docs/howto/responses.md: class Codec:")
def another_module_writes_json(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        assert http.get("/squares").content == b'{"0":0,"1":1,"2":4,"3":9}'


@proves('docs/howto/responses.md: app = Fanbus("turbo")')
def answers_are_kept(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        prices = {http.get("/prices/eur").text for _ in range(20)}
        assert len(prices) <= 2  # one in each worker
        assert http.get("/prices/usd").json()["currency"] == "usd"
        about = http.get("/about")
        known = http.get("/about", headers={"If-None-Match": about.headers["etag"]})
        assert (about.text, known.status_code) == ("A shop.", 304)


@proves('docs/howto/responses.md: app = Fanbus("early")')
def something_is_ahead_and_behind(block: Block, start: Start) -> None:
    port = start(block.text).port
    link = b"link: </style.css>; rel=preload; as=style\r\n"
    with RawSocket(port) as client:
        client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        hint = b"HTTP/1.1 103 Early Hints\r\n" + link + b"\r\n"
        assert client.read(len(hint)) == hint
        assert client.answer().body.endswith(b"Hello")
    body = "".join(f"{number}\n" for number in range(1000)).encode()
    digest = hashlib.sha256(body).hexdigest()
    with RawSocket(port) as client:
        client.write(b"GET /export HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n")
        assert client.answer().headers["trailer"] == "x-sha256"
        while size := int(client.read_line(), 16):
            assert client.read(size) in body
            assert client.read(2) == b"\r\n"
        assert client.read_line() == f"x-sha256: {digest}".encode()
        assert client.read_line() == b""


@proves('docs/howto/responses.md: app = Fanbus("responses", compression=True)')
def responses_are_sent(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        answer = http.get("/json")
        assert (answer.status_code, answer.json()) == (201, {"a dict": ["or a list"]})
        assert answer.headers["x-thing"].startswith("status and headers")
        login = http.get("/login")
        assert (login.status_code, login.headers["location"]) == (303, "/json")
        assert login.cookies["session"] == "abc"
        assert http.get("/countdown").text == "3\n2\n1\n"
        rows = http.get("/rows.csv")
        assert rows.headers["content-type"] == "text/csv"
        assert rows.text.splitlines()[-1] == "99999,9999800001"
        sources = [
            http.get(path, headers={"Accept-Encoding": "gzip"})
            for path in ("/source", "/static/printed.py")
        ]
        for source in sources:
            assert source.text == block.text
            assert source.headers["content-encoding"] == "gzip"
        assert sources[1].headers["cache-control"] == "public, max-age=3600"
        tag = http.get("/version").headers["etag"]
        assert http.get("/version", headers={"If-None-Match": tag}).status_code == 304


# docs/howto/bench.md

BENCH = "docs/howto/bench.md"


@contextmanager
def floor() -> Iterator[tuple[str, int]]:
    """What the load client can be measured with: its host and port, and its process."""
    with Program("-m", "fanbus", "bench", "server") as program:
        program.wait_to_say("http://")
        wait_for(lambda: program.said().endswith("\n"), "its port")
        yield program.said().strip().removeprefix("http://"), program.process.pid


def measured(block: Block) -> str:
    """What the command of a block says, which ends well."""
    with floor() as (address, pid):
        line = block.text.replace("127.0.0.1:5000", address).replace("$SERVER_PID", str(pid))
        with Program(*command(line)) as program:
            assert program.wait() == 0, program.said(1) + program.said(2)
            return program.said()


@proves(
    f"{BENCH}: fanbus bench echo ws://127.0.0.1:5000/echo "
    "--connections 8 --in-flight 16 --seconds 2"
)
def the_closed_loop_finds_how_much_it_can_do(block: Block, start: Start) -> None:
    said = measured(block)
    assert re.search(r"^in flight +16 \(closed loop\)$", said, re.MULTILINE)
    assert re.search(r"^per second +[\d,]+$", said, re.MULTILINE)


@proves(
    f"{BENCH}: fanbus bench fanout ws://127.0.0.1:5000/relay "
    "--subscribers 50 --publishers 2 --rate 100 --seconds 2"
)
def the_open_loop_finds_how_long_people_wait(block: Block, start: Start) -> None:
    said = measured(block)
    assert re.search(r"^rate +100 per second \(open loop\)$", said, re.MULTILINE)
    assert re.search(r"^delivered +15,600$", said, re.MULTILINE), "300 messages to 52 connections"


@proves(f'{BENCH}: fanbus bench http http://127.0.0.1:5000/ --pid "$SERVER_PID" --seconds 2 --json')
def the_process_says_what_it_costs(block: Block, start: Start) -> None:
    found = json.loads(measured(block))
    assert found["server"]["processes"] == 1
    assert found["server"]["memory_mib"] > 0


@proves(f"{BENCH}: fanbus bench self-test --seconds 0.2")
def the_driver_is_measured_too(block: Block, start: Start) -> None:
    with Program(*command(block.text)) as program:
        assert program.wait() == 0, program.said(2)
        assert "handshakes" in program.said()


# docs/howto/tuning.md


@proves(
    "docs/howto/tuning.md: fanbus tune web:app --app-dir tests/apps --path /text "
    "--workers 1-2 --threads 1,40 --rounds 2 --seconds 0.3"
)
def the_best_number_of_workers_is_named(block: Block, start: Start) -> None:
    with Program(*command(block.text)) as program:
        assert program.wait() == 0, program.said(1) + program.said(2)
        said = program.said()
    assert re.search(r"^per second +1 thr\. +40 thr\.$", said, re.MULTILINE)
    assert re.search(r"^  2 work\. +[\d,]+ +[\d,]+$", said, re.MULTILINE)
    assert "Best: " in said


@proves(
    "docs/howto/tuning.md: fanbus tune rooms:app --app-dir tests/apps "
    "--script tests/apps/room.script --workers 1-2 --threads 1 --rounds 2 --seconds 0.3"
)
def a_script_is_put_on_each_setting(block: Block, start: Start) -> None:
    with Program(*command(block.text)) as program:
        assert program.wait() == 0, program.said(1) + program.said(2)
        assert "Best: " in program.said()


@proves(
    "docs/howto/tuning.md: fanbus bench script ws://127.0.0.1:5000 "
    "--script tests/apps/talk.script --connections 10 --seconds 1"
)
def a_script_is_put_on_any_server(block: Block, start: Start) -> None:
    assert re.search(r"^turns +[\d,]+ in ", measured(block), re.MULTILINE)


# docs/conformance.md


@proves("docs/conformance.md: make autobahn")
def make_autobahn_would_run_the_suite(block: Block, start: Start) -> None:
    """It runs for minutes, and not everywhere, so only what it would do is looked at."""
    assert "tests/suites/autobahn.py" in plan_of(block)


# examples/chat/README.md

CHAT = "examples/chat/README.md"


@proves(f"{CHAT}: make chat")
def make_chat_would_serve_the_chat_too(block: Block, start: Start) -> None:
    make_chat_would_serve_the_chat(block, start)


@proves(f"{CHAT}: python examples/chat/app.py")
def the_chat_starts_by_hand(block: Block, start: Start) -> None:
    with start(ROOT / shlex.split(block.text)[-1]).http() as http:
        assert "Fanbus chat" in http.get("/").text


@proves(f"{CHAT}: HOST=0.0.0.0 PORT=8080 python examples/chat/app.py")
def the_chat_takes_its_host_and_its_port(block: Block, start: Start) -> None:
    host, _port, _python, program = shlex.split(block.text)
    server = start(ROOT / program, environment=dict([host.split("=")]))
    # Every interface: another address of this machine leads there, too.
    assert httpx.get(f"http://127.0.0.2:{server.port}/", trust_env=False).status_code == 200


@proves(f'{CHAT}: python -m websockets "ws://127.0.0.1:5000/rooms/lobby?name=Terminal"')
def a_terminal_takes_part_in_the_chat(block: Block, start: Start) -> None:
    printed = blocks(block.document)
    line = next(each.text.strip() for each in printed if each.language == "json")
    server = start(ROOT / "examples" / "chat" / "app.py")
    with Terminal(block.text, server) as terminal:
        terminal.shows('"type": "joined", "name": "Terminal"')
        terminal.types(line)
        terminal.shows('"name": "Terminal", "text": "Hello from a terminal"')


@proves(f'{CHAT}: fanbus publish room:lobby "hello"')
def what_the_command_publishes_comes_to_the_room(block: Block, start: Start) -> None:
    """That the page shows it is proved in tests/browser/chat.mjs."""
    server = start(ROOT / "examples" / "chat" / "app.py")
    with join(server, "/rooms/lobby") as client:
        assert '"joined"' in str(hear(client))
        environment = {"FANBUS_BUS": f"chat-{server.port}"}
        with Program(*command(block.text), environment=environment) as program:
            assert program.wait() == 0, program.said(2)
        assert hear(client) == "hello"


@proves(f"{CHAT}: fanbus bus remove chat-5000")
def what_the_chat_has_kept_is_removed(block: Block, start: Start) -> None:
    server = start(ROOT / "examples" / "chat" / "app.py")
    name = f"chat-{server.port}"
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert name in [bus["name"] for bus in _core.buses()], "it outlives the server"
    with Program(*command(block.text.replace("chat-5000", name))) as program:
        assert program.wait() == 0, program.said(2)
    assert name not in [bus["name"] for bus in _core.buses()]


@proves(f'{CHAT}: {{"id": "1", "text": "Hello from a terminal"}}')
def what_the_terminal_types_is_json(block: Block, start: Start) -> None:
    """It is typed in the proof above."""
    assert set(json.loads(block.text)) == {"id", "text"}


# docs/howto/tls.md

TLS = "docs/howto/tls.md"
SELF_SIGNED, HELLO, CURL, RUN = (block.text for block in BLOCKS if block.document == TLS)


@proves(f"{TLS}: {SELF_SIGNED.strip()}")
@proves(f"{TLS}: app = Fanbus()")
@proves(f"{TLS}: {CURL.strip()}")
def openssl_makes_what_the_program_serves_and_curl_trusts(block: Block, start: Start) -> None:
    """The three blocks in their order, wherever the text begins."""
    with TemporaryDirectory() as folder:
        self_signed(folder)
        server = start(HELLO.replace('"server.', f'"{folder}/server.'))
        assert server.scheme == "https"
        curl = CURL.replace("server.pem", f"{folder}/server.pem").replace("5000", str(server.port))
        asked = subprocess.run([*shlex.split(curl), "-sS"], capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
        assert f"`{asked.stdout}`" in (ROOT / TLS).read_text()
        trusted = ssl.create_default_context(cafile=f"{folder}/server.pem")
        trusted.maximum_version = ssl.TLSVersion.TLSv1_2  # see test_tls.of_two_threads
        url = f"wss://localhost:{server.port}/echo"
        with connect(url, ssl=trusted, proxy=None) as ws:
            ws.send("hi")
            assert hear(ws) == "hi"


@proves(f"{TLS}: {RUN.strip()}")
def the_command_takes_the_same_files(block: Block, start: Start) -> None:
    with TemporaryDirectory() as folder:
        self_signed(folder)
        (Path(folder) / "hello.py").write_text(HELLO)
        line = block.text.replace("server.", f"{folder}/server.").strip()
        words = command(f"{line} --port 0 --workers 1 --app-dir {folder}")
        with Program(*words) as program:
            program.wait_to_say("https://127.0.0.1:", stream=2)
            program.process.terminate()
            assert program.wait() == 0


def self_signed(folder: str) -> None:
    """The files of the first block."""
    subprocess.run(shlex.split(SELF_SIGNED), cwd=folder, check=True, capture_output=True)


# docs/howto/typed.md

TYPED = "docs/howto/typed.md"
SHOP = f'{TYPED}: app = Fanbus("shop", openapi=True)'


@proves(SHOP)
def a_shop_reads_what_its_annotations_say(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        for article in ("red shoes", "blue shoes", "a hat"):
            order = {"article": article, "count": 2, "colour": "red"}
            placed = http.post("/orders", json=order, headers={"X-Client": "me"})
            assert placed.status_code == 201
            assert http.get(f"/orders/{placed.json()['number']}").json() == order
        found = "/orders?text=shoes&colours=red&colours=blue&since=2030-12-31"
        assert found in block.text
        assert [each["article"] for each in http.get(found).json()] == ["red shoes", "blue shoes"]
        assert http.get("/orders?colours=blue").json() == []
        assert http.get("/orders/99").status_code == 404
        assert http.get("/orders?page=0").json()["detail"][0]["loc"] == ["query", "page"]
        assert http.post("/orders", content=b"{}").status_code == 415
        assert http.get("/openapi.json").json()["info"]["title"] == "shop"
        assert http.get("/docs").status_code == 200


@proves(f'{TYPED}: {{"detail": [')
def the_shop_tells_what_is_wrong_so(block: Block, start: Start) -> None:
    printed = json.loads(block.text)["detail"]
    with start(next(each.text for each in BLOCKS if each.name == SHOP)).http() as http:
        page = http.get("/orders?page=0").json()["detail"]
        body = http.post("/orders", json={}).json()["detail"]
    assert page + body == printed


@proves(f'{TYPED}: app = Fanbus("told")')
def an_error_handler_tells_it_in_its_own_way(block: Block, start: Start) -> None:
    with start(block.text).http() as http:
        assert http.get("/square?n=3").json() == {"square": 9}
        answer = http.get("/square?n=x")
    assert answer.status_code == 422
    assert answer.json() == {"wrong": {"n": "must be a whole number"}}


@proves(f'{TYPED}: app = Fanbus("rooms")')
def rooms_read_the_handshake(block: Block, start: Start) -> None:
    server = start(block.text)
    with join(server, "/rooms/kitchen") as one:
        for text in ("first", "second"):
            one.send(text)
            assert hear_until(one, text) == text
        with join(server, "/rooms/kitchen?last=1") as two:
            assert hear(two) == "second"
        with join(server, "/relay/kitchen?age=18") as relayed:
            relayed.send("third")
            assert hear_until(one, "third") == "third"
    with server.http() as http:
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        for path in ("/rooms/kitchen?last=101", "/relay/kitchen?age=young"):
            refused = http.get(path, headers=upgrade)
            assert (refused.status_code, len(refused.json()["detail"])) == (422, 1)
        assert http.get("/relay/kitchen?age=17", headers=upgrade).status_code == 403


@proves(f"{TYPED}: fanbus openapi shop:app --output openapi.json")
def the_command_writes_the_document(block: Block, start: Start) -> None:
    with TemporaryDirectory() as directory:
        shop = next(each.text for each in BLOCKS if each.name == SHOP)
        (Path(directory) / "shop.py").write_text(shop)
        told = subprocess.run(
            [sys.executable, *command(block.text)], cwd=directory, check=True, capture_output=True
        )
        assert told.stdout == b""
        document = json.loads((Path(directory) / "openapi.json").read_text())
    assert list(document["paths"]) == ["/orders", "/orders/{number}"]


# docs/howto/configuration.md

OPTIONS = "docs/howto/configuration.md"


def in_force(words: list[str], directory: Path, environment: dict[str, str]) -> dict[str, str]:
    """The options that are no defaults, as `fanbus config` has them, with their sources."""
    done = subprocess.run(
        [sys.executable, *words, "--json"],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    return {
        name: f"{one['value']} by {one['source']}"
        for name, one in found.items()
        if one["source"] != "default"
    }


@proves(f"{OPTIONS}: fanbus run chat:app --port 8000 --workers 4 --access-log")
def the_command_line_says_how_to_run(block: Block, start: Start) -> None:
    words = command(block.text.replace("run chat:app", "config"))
    with TemporaryDirectory() as directory:
        assert in_force(words, Path(directory), {}) == {
            "port": "8000 by command line",
            "workers": "4 by command line",
            "access_log": "True by command line",
        }


@proves(f"{OPTIONS}: # fanbus.toml")
def a_file_says_how_to_run(block: Block, start: Start) -> None:
    with TemporaryDirectory() as directory:
        (Path(directory) / "fanbus.toml").write_text(block.text)
        assert in_force(command("fanbus config"), Path(directory), {}) == {
            "port": "8000 by fanbus.toml",
            "workers": "4 by fanbus.toml",
            "access_log": "True by fanbus.toml",
            "timeout_graceful_shutdown": "60.0 by fanbus.toml",
            "forwarded_allow_ips": "['10.0.0.0/8'] by fanbus.toml",
        }


@proves(f"{OPTIONS}: FANBUS_PORT=9000 fanbus config --workers 2")
def a_variable_and_the_command_line_are_told_apart(block: Block, start: Start) -> None:
    variable, _, line = block.text.partition(" ")
    name, _, value = variable.partition("=")
    with TemporaryDirectory() as directory:
        assert in_force(command(line), Path(directory), {name: value}) == {
            "port": "9000 by FANBUS_PORT",
            "workers": "2 by command line",
        }
