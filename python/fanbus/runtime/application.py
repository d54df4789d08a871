"""The application that a worker hosts, as the server and the worker see it.

This is the seam between them and the kinds of applications. `Fanbus` is one kind. Another kind
implements these two protocols and needs no change in `fanbus.server` or `fanbus.runtime`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fanbus import _core
    from fanbus.history import RetentionRule
    from fanbus.runtime.json_codec import JSON
    from fanbus.runtime.lifespan import Running
    from fanbus.runtime.thread_pool import Pool

__all__ = ["Application", "HandlerCounts", "HostedApplication"]


@dataclass(frozen=True)
class HandlerCounts:
    """The number of handlers of each kind that an application has."""

    http: int
    websocket: int
    turbo: int


class Application(Protocol):
    """An application as it is declared, with the data that a server needs to start."""

    @property
    def name(self) -> str:
        """The first part of the name of the bus."""

    @property
    def retention_rules(self) -> Sequence[RetentionRule]:
        """The topics whose history the bus retains."""

    def handler_counts(self) -> HandlerCounts:
        """The numbers that the banner shows."""

    def check(self) -> Sequence[str]:
        """Looks for mistakes before the first fork, and returns warnings for the log.

        Raises FanbusError if the application cannot be served.
        """

    def host(
        self,
        *,
        middleware: Pool,
        new_hook_pool: Callable[[], Pool],
        default_hosts: list[str] | None,
    ) -> HostedApplication:
        """Completes the application in a worker, before its first request.

        `middleware` runs synchronous middleware, and a new pool the hooks of one route.
        `default_hosts` are the hosts that requests may name if the application declares none;
        None: all hosts.
        """


class HostedApplication(Protocol):
    """An application in one worker, from the start of the worker to its end."""

    @property
    def router(self) -> _core.Router:
        """The handlers, complete."""

    @property
    def json(self) -> JSON | None:
        """The JSON codec of the application; None: the default."""

    def attach(self, worker: _core.Worker, bus: _core.Bus) -> None:
        """From here on the application can publish and read history."""

    def lifespan(self) -> Running:
        """The functions to call before the first request and after the last one."""

    async def finish(self) -> None:
        """Waits for calls of the application that no request waits for, such as session hooks."""

    def detach(self) -> None:
        """The worker has ended. Publishing raises from here on."""
