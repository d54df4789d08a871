"""The examples of examples/any_process: a script, a task worker, and Starlette under uvicorn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from websockets.sync.client import ClientConnection

from support.bus_programs import Program, Uvicorn, members, new_name
from support.paths import ROOT
from support.servers import DEADLINE_S, wait_for
from support.websocket_clients import hear, join

EXAMPLES = ROOT / "examples" / "any_process"


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[Uvicorn, str]]:
    """Starlette under uvicorn, and the name of the bus between its workers."""
    with new_name() as name:
        with Uvicorn(name) as uvicorn:
            yield uvicorn, name
        wait_for(lambda: members(name) == 0, "everybody has left")


def on_both_workers(stack: ExitStack, uvicorn: Uvicorn) -> list[ClientConnection]:
    """Clients, some of them on each worker."""
    clients: list[ClientConnection] = []
    workers: set[str | bytes] = set()
    while len(workers) < 2:
        assert len(clients) < 200, "all connections went to one worker"
        clients.append(stack.enter_context(join(uvicorn, "/news")))
        workers.add(hear(clients[-1]))
    return clients


def test_a_request_at_one_uvicorn_worker_reaches_the_websockets_of_both(
    web: tuple[Uvicorn, str],
) -> None:
    uvicorn, _ = web
    with ExitStack() as stack:
        clients = on_both_workers(stack, uvicorn)
        for number in range(20):
            url = f"http://127.0.0.1:{uvicorn.port}/news"
            httpx.post(url, content=f"news {number}", trust_env=False, timeout=DEADLINE_S)
        for client in clients:
            assert [hear(client) for _ in range(20)] == [f"news {number}" for number in range(20)]


def test_a_script_and_a_task_worker_reach_the_websockets_of_both_workers(
    web: tuple[Uvicorn, str],
) -> None:
    uvicorn, name = web
    environment = {"FANBUS_BUS": name}
    with ExitStack() as stack:
        clients = on_both_workers(stack, uvicorn)
        tasks = Program(str(EXAMPLES / "tasks.py"), environment=environment)
        stack.enter_context(tasks)
        tasks.wait_to_say("waiting for jobs")
        assert members(name) == 3
        script = Program(
            str(EXAMPLES / "publisher.py"), "jobs", "some work", environment=environment
        )
        with script:
            assert script.wait() == 0
            assert script.said().startswith("published as number ")
        assert {hear(client) for client in clients} == {"done: SOME WORK"}
        tasks.process.kill()
        tasks.wait()
        assert members(name) == 2


def test_a_client_that_leaves_takes_its_subscription_with_it(web: tuple[Uvicorn, str]) -> None:
    uvicorn, name = web
    for _ in range(20):
        with join(uvicorn, "/news") as client:
            hear(client)
    with join(uvicorn, "/news") as client:
        hear(client)
        with Program(
            str(EXAMPLES / "publisher.py"), "news", "last", environment={"FANBUS_BUS": name}
        ) as script:
            assert script.wait() == 0
        assert hear(client) == "last"
    assert "Traceback" not in uvicorn.said(2)
