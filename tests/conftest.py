"""Fixtures: real servers in real processes."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from benching import Unreliable
from outside import Program
from running import Server

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
    ) -> Server:
        new = Server(
            app,
            workers=workers,
            environment=environment or {},
            arguments=arguments,
            stderr=tmp_path / f"stderr-{len(started)}",
        )
        started.append(new)
        new.wait_until_ready()
        return new

    yield start
    for one in started:
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
