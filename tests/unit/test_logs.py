"""What the server writes: about handlers that raise, and about requests."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from conftest import StartServer
from fanbus.runtime.access_log import Note, compile_format
from fanbus.runtime.logs import reopen
from support.websocket_clients import join


def test_moved_log_files_are_opened_again(tmp_path: Path) -> None:
    one = logging.getLogger("fanbus.of-a-test")
    one.propagate = False
    handlers = [logging.FileHandler(tmp_path / mode, mode=mode) for mode in ("a", "w")]
    try:
        for handler in handlers:
            one.addHandler(handler)
        one.error("before")
        for mode in ("a", "w"):
            (tmp_path / mode).rename(tmp_path / f"{mode}.1")
        reopen()
        one.error("after")
        for mode in ("a", "w"):
            assert (tmp_path / f"{mode}.1").read_text() == "before\n"
            assert (tmp_path / mode).read_text() == "after\n"
    finally:
        for handler in handlers:
            one.removeHandler(handler)
            handler.close()


def test_levels_have_colours_on_a_terminal_and_only_there() -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as reading:  # noqa: PTH123 - a descriptor
        program = "from fanbus.runtime import logs; from fanbus.config import Settings;"
        program += "logs.configure(Settings()); logs.logger.error('red')"
        subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True)
        assert b"\x1b[31mERROR\x1b[0m red" in reading.read(4096)
        os.close(theirs)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert b" ERROR red" in done.stderr


def test_a_path_that_a_client_chose_cannot_forge_a_line_of_the_log(server: StartServer) -> None:
    one = server("rooms")
    with pytest.raises(InvalidStatus), join(one, "/rooms/hall%0A%1B[31mFORGED%0A"):
        pass
    one.wait_for_log("ERROR WebSocket /rooms/hall\\n\\x1b[31mFORGED\\n")
    assert not any(line.startswith("FORGED") for line in one.log().splitlines())
    assert "\x1b" not in one.log()


NOTE = Note(
    "request", 0.0, 1.2345678, None, False, "GET", '/a"b?', "HTTP/1.1", 204, None, "", 'me "\n'
)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("", ""),
        ("only words, 100 % of them", "only words, 100 % of them"),
        ("%%(h)s %%%(s)s", "%(h)s %204"),
        ("%(h)s|%(b)s|%(B)s|%(q)s|%(f)s", "-|-|0||-"),
        ("%(r)s", 'GET /a\\"b? HTTP/1.1'),
        ('"%(U)s" "%(a)s"', '"/a\\"b" "me \\"\\\\n"'),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1234 1234567 1.234568"),
        ("%(m)s%(m)s", "GETGET"),
    ],
)
def test_a_format_of_the_access_log_makes_one_line_of_whatever_comes(form: str, line: str) -> None:
    assert compile_format(form)(NOTE) == line
