"""The limit of open files: raised at the start, stated, and named when it is reached."""

from __future__ import annotations

import re
import resource
import socket
import sys
from contextlib import ExitStack

import pytest

from fanbus.server import file_limit
from support.command_servers import Run
from support.paths import ROOT
from support.servers import DEADLINE_S, children, wait_for

_LIMITED = (
    "import os, resource, sys; "
    "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2]))); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
DEPLOY = ROOT / "docs" / "howto" / "deploy.md"


def limited(soft: int, hard: int) -> tuple[str, ...]:
    """What a program is started with to have these limits."""
    return (sys.executable, "-c", _LIMITED, str(soft), str(hard))


def test_the_soft_limit_is_raised_to_the_hard_one_in_all_processes(run: Run) -> None:
    one = run(prefix=limited(256, 700))
    (worker,) = children(one.process.pid)
    for pid in (one.process.pid, worker):
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (700, 700)
    assert "up to 572 connections each" in one.log()


def test_reached_limit_is_logged_and_so_is_its_end(run: Run) -> None:
    one = run(prefix=limited(200, 200))
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", one.port), DEADLINE_S))
        one.wait_for_log("This worker has as many open files as it may have, 200 (ulimit -n")
    wait_for(lambda: one.get().status_code == 200, "an answer")
    one.wait_for_log("Connections are accepted again, after ")
    assert one.log().count("as many open files") == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((256, 4096), 4096),
        ((4096, 4096), 4096),
        ((256, resource.RLIM_INFINITY), 1_048_576),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 1_048_576),
        ((256, 2**30), 1_048_576),
        ((2**21, 2**30), 2**21),
    ],
)
def test_server_requests_no_more_files_than_a_worker_can_use(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], expected: int
) -> None:
    found: list[tuple[int, int]] = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: found[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: found.append(new))
    assert file_limit.raise_limit() == expected
    assert found[-1][1] == limits[1], "the hard limit stays"


def test_the_documentation_says_how_many_connections_a_limit_allows() -> None:
    rows = re.findall(
        r"^\| ([\d,]+)(?: and more)? \| ([\d,]+) \|$", DEPLOY.read_text(), re.MULTILINE
    )
    assert len(rows) == 5
    for limit, connections in rows:
        assert file_limit.connections(number(limit)) == number(connections)


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_limits_of_connections_are_those_of_the_core() -> None:
    config = (ROOT / "src" / "http" / "config.rs").read_text()
    names = ("MAX_CONNECTIONS", "MAX_WEBSOCKETS")
    found = [
        re.search(rf"^ +pub const {name}: usize = ([\d_]+);$", config, re.MULTILINE)
        for name in names
    ]
    most = sum(int(each[1]) for each in found if each)
    assert file_limit.connections(2**30) == most
