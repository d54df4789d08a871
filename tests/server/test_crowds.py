"""A crowd that has left: its memory is given back, and is no reason to replace a worker."""

from __future__ import annotations

import resource
from contextlib import ExitStack

import pytest

from conftest import StartServer
from fanbus.config import Settings
from fanbus.server import health
from fanbus.server.health import reason_to_replace
from fanbus.server.slot import Process
from support.raw_websocket import RawSocket
from support.servers import own_memory, wait_for

CROWD = 2_000


@pytest.fixture
def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * CROWD)), hard))


@pytest.mark.usefixtures("_many_files")
@pytest.mark.parametrize(("path", "share"), [("/relay/hall", 0.4), ("/rooms/hall", 0.75)])
def test_the_memory_of_a_crowd_is_given_back_when_it_has_left(
    server: StartServer, path: str, share: float
) -> None:
    """In Python a part stays: CPython gives back only arenas of which nothing is in use."""
    one = server("rooms", workers=1)
    with one.http() as http:
        http.get("/pid")
    before = own_memory(one)
    with ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(RawSocket(one.port)).open(path)
        most = own_memory(one) - before
    assert most > CROWD * 500, "the crowd takes memory"
    wait_for(lambda: own_memory(one) - before < most * share, "the memory to be given back")


def test_a_worker_is_not_replaced_for_memory_that_it_is_about_to_give_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(workers_max_rss=100 * 2**20)
    process = Process(1, 0, None, -1, 0.0, 0.0)
    memory = 200 * 2**20
    monkeypatch.setattr(health, "own_memory", lambda _: memory)
    assert not any(reason_to_replace(process, settings, now) for now in range(5))
    memory = 50 * 2**20  # the crowd has left
    assert reason_to_replace(process, settings, 5) is None
    memory = 200 * 2**20
    assert not any(reason_to_replace(process, settings, now) for now in range(6, 11))
    assert reason_to_replace(process, settings, 11) == "has 200 MiB of memory"
