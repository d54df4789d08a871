"""The view of a `Fanbus` object that a server uses (`fanbus.runtime.application`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fanbus.runtime.application import HandlerCounts

if TYPE_CHECKING:
    from fanbus import _core
    from fanbus.app import Fanbus
    from fanbus.history import RetentionRule
    from fanbus.runtime.application import HostedApplication
    from fanbus.runtime.lifespan import Running
    from fanbus.runtime.thread_pool import Pool

__all__ = ["FanbusApplication"]


class FanbusApplication:
    """A `Fanbus` object as a server sees it: an `Application`."""

    def __init__(self, app: Fanbus) -> None:
        self._app = app

    @property
    def name(self) -> str:
        return self._app.name

    @property
    def retention_rules(self) -> Sequence[RetentionRule]:
        return self._app._retention_rules

    def handler_counts(self) -> HandlerCounts:
        return HandlerCounts(**self._app._declared)

    def check(self) -> Sequence[str]:
        app = self._app
        if app._openapi is not None:
            app.openapi()
        return [
            f"The turbo route {served.route.path} has middleware or before_request around it, "
            "which see each request: its responses are not cached."
            for served in app._served
            if served.route.is_turbo
            and any(layer.sees_requests() for layer in app._layers_of(served))
        ]

    def host(
        self,
        *,
        middleware: Pool,
        new_hook_pool: Callable[[], Pool],
        default_hosts: list[str] | None,
    ) -> HostedApplication:
        app = self._app
        app._wrap_handlers(middleware, new_hook_pool)
        app._limit_hosts(default_hosts if app._hosts is None else app._hosts)
        return HostedFanbus(app)


class HostedFanbus:
    """A `Fanbus` object in one worker: a `HostedApplication`."""

    def __init__(self, app: Fanbus) -> None:
        self._app = app
        self.router = app._router
        self.json = app._json

    def attach(self, worker: _core.Worker, bus: _core.Bus) -> None:
        self._app._worker, self._app._bus = worker, bus

    def lifespan(self) -> Running:
        from fanbus.runtime.lifespan import Running  # imports asyncio, which only a server needs

        app = self._app
        manager = None if app._lifespan is None else app._lifespan(app)
        return Running(app.state, manager, app._on_startup, app._on_shutdown)

    async def finish(self) -> None:
        import asyncio  # here, so that `import fanbus` stays fast

        await asyncio.gather(*(hooks.finish() for hooks in self._app._hooks))

    def detach(self) -> None:
        self._app._worker = None
