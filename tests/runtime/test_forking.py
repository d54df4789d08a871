"""Handlers fork: their children hold nothing of the worker, and end with it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from conftest import StartServer
from support.paths import APPS
from support.raw_websocket import RawSocket
from support.servers import DEADLINE_S, Server, is_alive, wait_for

# Of a worker, nobody else may hold these.
PRIVATE = re.compile(r"socket:|pipe:|anon_inode:")

# libuv opens its signal pipe again in a child, and that leads elsewhere.
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


class StartForking(Protocol):
    """Starts tests/apps/forking.py."""

    def __call__(
        self, app: Path = ..., *, workers: int = ..., environment: dict[str, str] | None = ...
    ) -> Server: ...


@pytest.fixture
def forking(server: StartServer, tmp_path: Path) -> Iterator[StartForking]:
    """Children that handlers have left are gone after the test."""

    def start(
        app: Path = APPS / "forking.py",
        *,
        workers: int = 1,
        environment: dict[str, str] | None = None,
    ) -> Server:
        own = {"FOLDER": str(tmp_path), **(environment or {})}
        return server(app, workers=workers, environment=own)

    yield start
    for line in noted(tmp_path, "children"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line), signal.SIGKILL)


def noted(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def ended(one: Server, number: signal.Signals = signal.SIGTERM) -> None:
    one.send_signal(number)
    assert one.wait() == 0, one.log()


@LOOPS
@pytest.mark.parametrize("path", ["/fork", "/fork-on-the-loop"])
def test_a_forked_child_holds_nothing_that_its_worker_waits_on(
    forking: StartForking, loop: str, path: str
) -> None:
    one = forking(environment={"FANBUS_LOOP": loop})
    with RawSocket(one.port) as other, one.http() as http:
        other.open("/echo")
        answer = http.get(path).json()
    own = {target for target in answer["worker"].values() if PRIVATE.match(target)}
    assert any(target.startswith("socket:") for target in own), own
    shared = own & set(answer["child"].values())
    # The stderr of a test may be a pipe; all others are the worker's.
    shared -= {answer["worker"][str(number)] for number in range(3)}
    shared -= set(inherited_from_here())
    assert not shared, answer


def inherited_from_here() -> Iterator[str]:
    """What every process has that a test starts."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.get_inheritable(int(entry.name)):
                yield str(entry.readlink())


@pytest.mark.parametrize("early", [False, True], ids=["in a handler", "at the start"])
def test_the_port_is_free_after_the_end_although_a_child_lives(
    forking: StartForking, tmp_path: Path, early: bool
) -> None:
    one = forking(environment={"FORK_EARLY": "1"} if early else {})
    if not early:
        with one.http() as http:
            http.get("/stay")
    (child,) = noted(tmp_path, "children")
    ended(one)
    assert is_alive(int(child))
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", one.port)):
        pass
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", one.port))


@pytest.mark.supervised("a single process does not reload")
@pytest.mark.parametrize("environment", [{}, {"FANBUS_RELOAD": "true"}], ids=["HUP", "a file"])
def test_what_new_code_forks_when_it_is_imported_holds_no_listener(
    forking: StartForking, tmp_path: Path, environment: dict[str, str]
) -> None:
    """By then the supervisor, or the process that becomes the worker, has them."""
    app = tmp_path / "forking.py"
    app.write_text((APPS / "forking.py").read_text())
    one = forking(app, environment={"FORK_AT_IMPORT": "1", **environment})
    before = pids_of(one)
    known = len(noted(tmp_path, "children"))
    if environment:
        app.write_text(f"{app.read_text()}\n# changed\n")
    else:
        one.send_signal(signal.SIGHUP)
    wait_for(lambda: len(noted(tmp_path, "children")) > known, "the import")
    wait_for(lambda: not before & pids_of(one), "new workers")
    ended(one)
    assert any(is_alive(int(child)) for child in noted(tmp_path, "children"))
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", one.port)):
        pass


def pids_of(one: Server) -> set[str]:
    """Of the processes that answer."""
    with one.http() as http:
        return {http.get("/pid").text for _ in range(8)}


@pytest.mark.supervised("a single process is not replaced")
def test_clients_of_a_killed_worker_learn_of_it_although_its_child_lives(
    forking: StartForking,
) -> None:
    one = forking()
    with RawSocket(one.port) as client, one.http() as http:
        client.open("/echo")
        child = int(http.get("/stay").text)
        (worker,) = one.worker_pids()
        os.kill(worker, signal.SIGKILL)
        assert client.ended(), "the connection is closed by the kernel"
        assert is_alive(child)


@pytest.mark.supervised("a single process has no second worker")
def test_no_connection_hangs_after_one_worker_less_although_a_child_lives(
    forking: StartForking,
) -> None:
    one = forking(workers=2)
    with one.http() as http:
        for _ in range(40):
            http.get("/stay")
            if len({http.get("/pid").text for _ in range(4)}) == 2:
                break
        one.send_signal(signal.SIGTTOU)
        wait_for(lambda: len(one.worker_pids()) == 1, "one worker less")
        (left,) = one.worker_pids()
        assert {http.get("/pid").text for _ in range(40)} == {str(left)}


@LOOPS
def test_a_child_ends_by_the_signals_that_its_worker_handles(
    forking: StartForking, loop: str
) -> None:
    one = forking(environment={"FANBUS_LOOP": loop})
    with one.http() as http:
        assert set(http.get("/signals").json()) == {str(signal.SIG_DFL)}


# The end of a worker


@pytest.mark.parametrize("path", ["/process/1", "/process/0", "/pool", "/busy-pool"])
def test_processes_of_a_worker_end_with_it(forking: StartForking, path: str) -> None:
    """A daemon and an idle pool by their own exit functions, the others when the time is over."""
    one = forking(environment={"FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "1"})
    with one.http() as http:
        found = http.get(path).json()
    pids = found if isinstance(found, list) else [found]
    assert all(map(is_alive, pids))
    ended(one)
    wait_for(lambda: not any(map(is_alive, pids)), "the end of the processes")
    assert ("exit functions of this process did not end" in one.log()) == (
        path in ("/process/0", "/busy-pool")
    )


def test_exit_functions_are_called_after_on_shutdown(forking: StartForking, tmp_path: Path) -> None:
    one = forking()
    workers = one.worker_pids()
    ended(one)
    shut_down = {line.split()[0]: float(line.split()[1]) for line in noted(tmp_path, "shut-down")}
    exited = {line.split()[0]: float(line.split()[1]) for line in noted(tmp_path, "exited")}
    for worker in map(str, workers):
        assert shut_down[worker] < exited[worker]


@pytest.mark.supervised("a single process is not replaced")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTOU])
def test_a_worker_that_is_not_needed_any_more_calls_its_exit_functions(
    forking: StartForking, tmp_path: Path, number: signal.Signals
) -> None:
    one = forking(workers=2)
    before = set(map(str, one.worker_pids()))
    one.send_signal(number)
    count = 2 if number == signal.SIGHUP else 1
    wait_for(
        lambda: len({line.split()[0] for line in noted(tmp_path, "exited")} & before) == count,
        "exit functions",
    )


def test_open_files_are_written_at_the_end_and_nothing_twice(
    forking: StartForking, tmp_path: Path
) -> None:
    one = forking()
    with one.http() as http:
        assert http.get("/write").text == "written"
    ended(one)
    assert (tmp_path / "late").read_text() == "this was in a buffer"
    assert (tmp_path / "early").read_text().split() == ["supervisor", "worker"]


def test_threads_of_a_pool_come_to_their_end(forking: StartForking, tmp_path: Path) -> None:
    one = forking()
    with one.http() as http:
        assert http.get("/thread").text == "begun"
    ended(one)
    assert len(noted(tmp_path, "worked")) == 1


def test_an_exit_function_that_hangs_is_cut_off_and_named(forking: StartForking) -> None:
    if os.environ.get("FANBUS_SINGLE_PROCESS") == "1":
        pytest.skip("a single process ends as its program does")
    one = forking(environment={"FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "1"})
    with one.http() as http:
        http.get("/hang")
    ended(one)
    assert "in hang_at_the_end" in one.log()


@pytest.mark.supervised("a single process ends as its program does")
def test_a_thread_that_does_not_end_is_named_and_cut_off(forking: StartForking) -> None:
    one = forking(environment={"FANBUS_TIMEOUT_GRACEFUL_SHUTDOWN": "1"})
    with one.http() as http:
        http.get("/endless")
    ended(one)
    assert "were stopped. Threads that run: endless. The main thread was here" in one.log()


@pytest.mark.supervised("a single process is its own supervisor")
def test_a_worker_leaves_its_supervisors_children_alone(forking: StartForking) -> None:
    one = forking(environment={"WITH_CHILD": "1", "FANBUS_LIMIT_MAX_REQUESTS": "1"})
    processes = set(one.worker_pids())
    assert len(processes) == 2, "a worker, and the application's own process"
    with one.http() as http:
        worker = int(http.get("/pid").text)
    (own,) = processes - {worker}
    wait_for(lambda: not is_alive(worker), "the end of the first worker", DEADLINE_S)
    assert is_alive(own)
