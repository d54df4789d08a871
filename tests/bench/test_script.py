"""A WebSocket script: what is one, what becomes of it, and what is told when it is not kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import StartServer
from fanbus_bench.script import Script, parse
from support.bench_programs import QUICK, bench, faults, figures
from support.paths import TESTS
from support.servers import DEADLINE_S

ROOM = (TESTS / "apps/room.script").read_text()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "room.script"
    path.write_text(ROOM)
    return path


def test_the_page_has_the_script_of_its_command() -> None:
    assert f"```text\n{ROOM}```" in (TESTS.parent / "docs/howto/tuning.md").read_text()


def test_a_script_is_read_line_by_line() -> None:
    text = 'connect /ws\n\n # a comment\nsend  {"a": 1} \nexpect a b\nrepeat\n\tsend é\n\texpect é'
    first, again = [("send", '{"a": 1}'), ("expect", "a b")], [("send", "é"), ("expect", "é")]
    assert parse(text, "x") == Script("/ws", first, again)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x: a script must begin with connect PATH."),
        ("send a", "x: a script must begin with connect PATH."),
        ("connect\n", "x, line 1: connect needs a path, such as /rooms/lobby."),
        ("connect ws://a/b", "x, line 1: connect needs a path, such as /rooms/lobby."),
        ("connect /$CLIENT", "x, line 1: all connections use the same path"),
        ("send a\nconnect /", "x, line 2: connect is allowed only once, before everything else."),
        (
            "connect /\nconnect /",
            "x, line 2: connect is allowed only once, before everything else.",
        ),
        (
            "connect /\nsay a",
            "x, line 2: 'say a' must be one of connect PATH, send TEXT, expect TEXT",
        ),
        ("connect /\nsend", "x, line 2: send what? Write send TEXT."),
        ("connect /\nrepeat 3", "x, line 2: 'repeat 3' must be one of"),
        ("connect /\nrepeat\nexpect a\nrepeat", "x, line 4: a script can have only one repeat"),
        ("connect /\nexpect a", "x: after repeat there must be an expect"),
        ("connect /\nexpect a\nrepeat\nsend b", "x: after repeat there must be an expect"),
    ],
)
def test_error_in_a_script_is_reported_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="x") as refused:
        parse(text, "x")
    assert str(refused.value).startswith(said)


def test_unreadable_script_is_reported(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"connect /\xff")
    for path, said in (
        (tmp_path / "missing", "No such file or directory."),
        (binary, "it is not UTF-8."),
    ):
        done = bench("script", "ws://127.0.0.1:1", "--script", str(path))
        assert done.returncode == 2
        assert done.stderr == f"fanbus: --script {path}: {said}\n"


def test_each_connection_says_and_hears_what_the_script_says(
    server: StartServer, script: Path
) -> None:
    fanbus = server("rooms", workers=2)
    url = f"ws://127.0.0.1:{fanbus.port}"
    # What the server says first comes while other connections are still opened.
    found = figures("script", url, "--script", str(script), "-c", "80", *QUICK)
    assert found["unit"] == "turns"
    assert found["units"] > 0
    assert found["delivered"] == found["sent"] + 80
    assert found["foreign"] > 0, "all are in one room, and each waits for its own message"
    assert found["missing"] == 0
    assert found["latency_us"]["p50"] > 0


def test_missing_expected_message_is_reported(floor: str, script: Path) -> None:
    script.write_text("connect /echo\nrepeat\nsend ping\nexpect pong\n")
    url = floor.replace("http", "ws")
    arguments = ("--script", str(script), "-c", "3", "--patience", "0.2", *QUICK)
    found = figures("script", url, *arguments, status=1)
    assert found["missing"] == 3
    assert "3 connections waited for a message that did not come in the 200ms" in faults(found)
    assert 'one that contains "pong"' in faults(found)


def test_a_server_that_closes_ends_it(script: Path, tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(
        "from fanbus import Fanbus\n"
        "app = Fanbus()\n"
        "@app.websocket('/rooms/{room}')\n"
        "async def room(ws, room):\n"
        "    await ws.send('in')\n"
        "    await ws.send(await ws.receive())\n"
    )
    command = [
        sys.executable,
        "-m",
        "fanbus",
        "tune",
        "leaving:app",
        "--app-dir",
        str(tmp_path),
    ]
    command += ["--script", str(script), "-c", "2", "--workers", "1", "--threads", "1"]
    command += ["--rounds", "1", "--seconds", "0.2", "--warmup", "0.1"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=3 * DEADLINE_S, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "The server closed 2 connections with 1000" in done.stdout


def test_an_application_is_tuned_by_a_script(script: Path) -> None:
    apps = TESTS / "apps"
    grid = ("--workers", "1,2", "--threads", "1", "--rounds", "1", "--seconds", "0.2")
    command = [sys.executable, "-m", "fanbus", "tune", "rooms:app", "--app-dir", str(apps)]
    command += ["--script", str(script), "-c", "4"]

    def tune(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=3 * DEADLINE_S,
            check=False,
        )

    done = tune(*grid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best: " in done.stdout
    for option in (("--path", "/"), ("--mode", "echo"), ("--in-flight", "2")):
        refused = tune(*option)
        assert refused.returncode == 2
        assert f"{option[0]} " in refused.stderr
        assert "exclude each other" in refused.stderr
