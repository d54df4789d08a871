"""The hooks that a turbo route calls in Python when a session opens and closes.

For each session, each hook is called once, and `on_close` begins after `on_open` has ended. Only
the shutdown of the server waits for them, for a limited time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fanbus._core import Session
from fanbus.parameters.signature import is_async_itself
from fanbus.runtime.logs import log_error

if TYPE_CHECKING:
    from fanbus.runtime.thread_pool import Pool

__all__ = ["Hook", "Hooks"]

Hook = Callable[[Session], Any]


class Hooks:
    """The hooks of one route. Its methods are called on the event loop."""

    def __init__(self, on_open: Hook | None, on_close: Hook | None) -> None:
        self._on_open = on_open
        self._on_close = on_close
        self._opening: dict[str, asyncio.Task[None]] = {}
        """The running tasks of `on_open`, by session."""
        self._closing: set[asyncio.Task[None]] = set()
        self._pool: Pool | None = None

    def run_on(self, pool: Pool) -> None:
        """Sets the threads of synchronous hooks. A worker calls it: threads do not survive a
        fork."""
        self._pool = pool

    def opened(self, session: Session) -> None:
        """Calls `on_open` for a session."""
        if self._on_open is None:
            return
        task = asyncio.get_running_loop().create_task(self._call("on_open", self._on_open, session))
        self._opening[session.id] = task
        task.add_done_callback(lambda _: self._opening.pop(session.id, None))

    def closed(self, session: Session) -> None:
        """Calls `on_close` for a session, after its `on_open`."""
        if self._on_close is None:
            return
        opening = self._opening.get(session.id)
        task = asyncio.get_running_loop().create_task(self._close(opening, self._on_close, session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def finish(self) -> None:
        """Waits until all running hooks have ended."""
        while running := [*self._opening.values(), *self._closing]:
            await asyncio.wait(running)

    async def _close(
        self, opening: asyncio.Task[None] | None, hook: Hook, session: Session
    ) -> None:
        if opening is not None:
            await asyncio.wait([opening])
        await self._call("on_close", hook, session)

    async def _call(self, name: str, hook: Hook, session: Session) -> None:
        try:
            if is_async_itself(hook):
                await hook(session)
            else:
                assert self._pool is not None
                await self._pool.run(hook, session)
        except Exception as error:  # noqa: BLE001 - logged
            client = session.client
            of = "an unknown client" if client is None else f"{client[0]}:{client[1]}"
            log_error(f"{name} of WebSocket {session.path} of {of}", error)
