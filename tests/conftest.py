"""Fixtures: real servers in real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from support import segments
from support.bench_programs import Unreliable
from support.bus_programs import Program
from support.changing_app import Changing
from support.command_servers import Run, Running
from support.servers import Server

if TYPE_CHECKING:
    from support.certificates import Certificates

_servers = pytest.StashKey[list[Server]]()


class StartServer(Protocol):
    """Starts an application of tests/apps, and waits until it listens."""

    def __call__(
        self,
        app: str | Path,
        *,
        workers: int = ...,
        environment: dict[str, str] | None = ...,
        arguments: tuple[str, ...] = ...,
        inside: tuple[str, ...] = ...,
    ) -> Server: ...


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StartServer]:
    """`server("rooms", workers=2)`. All processes of it are gone after the test."""
    started: list[Server] = []
    request.node.stash[_servers] = started

    def start(
        app: str | Path,
        *,
        workers: int = 1,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        inside: tuple[str, ...] = (),
    ) -> Server:
        new = Server(
            app,
            workers=workers,
            environment=environment or {},
            arguments=arguments,
            inside=inside,
            stderr=tmp_path / f"stderr-{len(started)}",
        )
        started.append(new)
        new.wait_until_ready()
        return new

    yield start
    for one in started:
        one.destroy()


@pytest.fixture
def changing(tmp_path: Path) -> Changing:
    return Changing(tmp_path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For servers that all tests of a module share."""
    from support.certificates import Certificates  # here, as below

    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    # Here, because what it needs is not to be had for each Python that the tests run under.
    from support.certificates import Certificates

    return Certificates(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """`run("--uds", "x.sock")`: one worker on a free port, unless the words say otherwise."""
    started: list[Running] = []

    def start(*words: str, wait: bool = True, **popen: Any) -> Running:
        if not {"--port", "--uds", "--fd"} & set(words):
            words = ("--port", "0", *words)
        if not {"--workers", "-w"} & set(words):
            words = ("-w", "1", *words)
        one = Running(tmp_path, len(started), words, **popen)
        started.append(one)
        return one.ready() if wait else one

    yield start
    for one in started:
        if one.process.poll() is None:
            assert one.end() == 0, one.log()
        one.destroy()


@pytest.fixture(scope="module")
def unreliable() -> Iterator[Unreliable]:
    """A server of another make that does wrong on purpose."""
    with Unreliable() as server:
        yield server


@pytest.fixture(scope="module")
def floor() -> Iterator[str]:
    """The address of `fanbus bench server`."""
    with Program("-m", "fanbus", "bench", "server") as program:
        program.wait_to_say("\n")
        yield program.said().strip()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the servers of a failed test have said; with CI=true nothing is skipped."""
    report = yield
    if report.failed:
        for one in item.stash.get(_servers, []):
            report.sections.append((f"stderr of {one}", one.log()))
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"With CI=true nothing is skipped: {report.longrepr}"
    return report


_left_out = pytest.StashKey[list[str]]()
_before = pytest.StashKey[list[Path]]()
_left_behind = pytest.StashKey[list[Path]]()


def pytest_configure(config: pytest.Config) -> None:
    # Whoever stops the tests, such as `timeout`, stops their servers with them, as Ctrl+C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A background job of a shell ignores Ctrl+C, and so would the programs under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    config.stash[_before] = segments.all_of_ours()
    config.addinivalue_line(
        "markers", "supervised(why): needs several workers, and is left out of `make single`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a single process, leaves out what cannot be there, and says why in the summary."""
    if os.environ.get("FANBUS_SINGLE_PROCESS") != "1":
        return
    marked = [(item, item.get_closest_marker("supervised")) for item in items]
    config.stash[_left_out] = [f"{item.nodeid}: {mark.args[0]}" for item, mark in marked if mark]
    config.hook.pytest_deselected(items=[item for item, mark in marked if mark])
    items[:] = [item for item, mark in marked if not mark]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true, a session that leaves memory behind has failed; elsewhere others may have."""
    left = segments.abandoned_since(session.config.stash[_before])
    session.config.stash[_left_behind] = left
    if left and os.environ.get("CI") == "true":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for segment in config.stash.get(_left_behind, []):
        terminalreporter.write_line(f"Left behind since the start, and in use by nobody: {segment}")
    for line in config.stash.get(_left_out, []):
        terminalreporter.write_line(f"Not in a single process: {line}")
