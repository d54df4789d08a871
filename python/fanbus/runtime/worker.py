"""The worker that serves an application: Python's event loop on one thread, Rust's I/O on another.

`serve` is the same in a worker process, in a single process and in a thread of a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fanbus import _core
from fanbus.runtime import access_log, fork_handlers, logs, signals
from fanbus.runtime.background import Background
from fanbus.runtime.event_loop import Run, new_event_loop
from fanbus.runtime.leftover_tasks import cancel_all, cancel_own
from fanbus.runtime.logs import log_error, logger
from fanbus.runtime.orderly_end import EXTRA_GRACE_S, OrderlyEnd
from fanbus.runtime.thread_pool import HOOKS, STREAMS, Pool
from fanbus.runtime.tls import open_tls

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.runtime.application import Application, HostedApplication
    from fanbus.runtime.json_codec import JSON
    from fanbus.runtime.lifespan import Running

__all__ = ["WorkerResources", "serve"]


@dataclass(frozen=True, kw_only=True)
class WorkerResources:
    """The Python objects that the Rust half of a worker uses. Rust reads them by name."""

    threads: _core.Threads
    handlers: _core.Lane
    """The threads of synchronous handlers."""
    streams: _core.Lane
    """The threads of synchronous generators of streamed responses."""
    on_error: Callable[[str, BaseException], None]
    """Logs an error that nothing caught, with the place where it happened."""
    after_response: Callable[[str, list[Any]], None]
    """Calls functions after a response: each comes with its arguments and named arguments."""
    tls: _core.Tls | None
    access_log: _core.AccessLog | None
    json: JSON | None
    """The JSON codec of the application, in this process. None: the codec of Fanbus."""


def serve(
    app: Application,
    settings: Settings,
    bus: _core.Bus,
    listener: int,
    *,
    end_on: Iterable[signal.Signals],
    leave_on: Iterable[signal.Signals] = (),
    on_ready: Callable[[_core.Worker, asyncio.AbstractEventLoop], None],
    also: Mapping[signal.Signals, Callable[[], None]] | None = None,
    on_end: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], None] | None = None,
    private: Iterable[int] = (),
) -> float:
    """Serves until one of the signals comes, and every request in flight is finished.

    A second signal ends it at once. `leave_on` are the signals of an end that gives clients on open
    connections more time. `also` has the actions for other signals. `listener` is closed here.
    `on_ready` is called when connections are accepted. `on_end` gets a function that begins the
    end, to be called on the loop: a thread uses it, because no signals arrive there. `private` are
    descriptors of this process that child processes of handlers do not inherit.

    Returns the seconds that are left of the grace time, at least one.
    """
    owns_process = bool(end_on)
    if owns_process:
        _core.keep_free_memory()
    before = set(_core.open_descriptors())
    withheld: list[_core.Withheld] = []  # until the end
    loop = new_event_loop(settings.loop)
    asyncio.set_event_loop(loop)
    log = contextlib.ExitStack()  # after the fork: it has a thread
    hosted: HostedApplication | None = None
    running: Running | None = None
    ending: OrderlyEnd | None = None
    threads = _core.Threads()
    background = Background(loop, Pool(threads.lane("after", settings.threads)))
    try:
        hosted = app.host(
            middleware=Pool(threads.lane("around", settings.threads)),
            new_hook_pool=lambda: Pool(threads.lane("hook", HOOKS)),
            default_hosts=_default_hosts(settings),
        )
        core = _core.Worker(
            hosted.router,
            bus,
            listener,
            settings,
            WorkerResources(
                threads=threads,
                handlers=threads.lane("handler", settings.threads),
                streams=threads.lane("stream", STREAMS),
                on_error=log_error,
                after_response=background.start,
                tls=open_tls(settings),
                access_log=log.enter_context(access_log.writing(settings)),
                json=hosted.json,
            ),
        )
        os.close(listener)  # the core has the only copy of this process
        hosted.attach(core, bus)
        running = hosted.lifespan()
        run = Run(loop)
        ending = OrderlyEnd(loop, core, running, settings, run.stop)
        end, application = ending, running

        async def begin() -> None:
            if on_end is not None:
                on_end(loop, end.begin)
            for number in end_on:
                loop.add_signal_handler(number, end.begin)
            for number in leave_on:
                loop.add_signal_handler(number, end.leave)
            if owns_process:  # all descriptors that it has opened until here are private
                for number, action in {signal.SIGUSR1: logs.reopen, **(also or {})}.items():
                    loop.add_signal_handler(number, action)
                fork_handlers.restore_signals([*end_on, *leave_on])
                opened = set(_core.open_descriptors()) - before
                numbers = [*(number for number, _ in opened), *private]
                withheld.append(_core.Withheld(numbers))
            if not await application.begin():  # connections wait in the accept queue meanwhile
                run.stop()
                return
            core.start(loop)
            loop.add_reader(core.fileno(), core.drain)
            end.has_started()
            if settings.debug:
                from fanbus.runtime.blocked_loop import (
                    Watch,  # here, so that no other worker holds it
                )

                log.callback(Watch(loop).end)
            on_ready(core, loop)

        run.until_stopped(begin)
        ending.has_stopped()
        loop.remove_reader(core.fileno())
    finally:
        # In the order of docs/howto/middleware.md: users of a resource end before the resource.
        background.finish(EXTRA_GRACE_S if ending is None else ending.rest_s())
        if hosted is not None:
            _finish_hooks(loop, hosted)
        cancel_own(loop, EXTRA_GRACE_S)
        if running is not None and ending is not None:
            running.end(loop, ending.rest_s())
        with signals.quiet_afterwards() if owns_process else contextlib.nullcontext():
            cancel_all(loop, EXTRA_GRACE_S)  # the last steps of a task may still publish
        threads.end()
        if hosted is not None:
            hosted.detach()
        log.close()
    return ending.rest_s()


def _default_hosts(settings: Settings) -> list[str] | None:
    """The hosts that requests may name if the application declares none; None: all.

    A server with `debug` on a loopback address is reached by the names of this machine only.
    """
    own = {"localhost", "127.0.0.1", "[::1]"}
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    is_loopback = host.lower() in own or host.startswith("127.")
    is_reached_by_address = settings.uds is None and settings.fd is None
    if settings.debug and is_loopback and is_reached_by_address:
        return [*sorted(own | {host}), "*.localhost"]
    return None


def _finish_hooks(loop: asyncio.AbstractEventLoop, hosted: HostedApplication) -> None:
    """The sessions of turbo routes are closed; this waits for their hooks."""
    try:
        loop.run_until_complete(asyncio.wait_for(hosted.finish(), timeout=EXTRA_GRACE_S))
    except (asyncio.TimeoutError, RuntimeError):
        logger.warning("Some hooks did not end in %g s and were left.", EXTRA_GRACE_S)
