"""What runs in a worker: Python's event loop on the main thread, Rust's I/O beside it.

`serve` is the same with and without a supervisor; `main` is the life of a forked worker process.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import random
import signal
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from fanbus import _core
from fanbus.exceptions import BusError, StartError
from fanbus.runtime import access_log, fork_handlers, logs, signals, streaming
from fanbus.runtime.background import Background
from fanbus.runtime.event_loop import Run, new_event_loop
from fanbus.runtime.exit import end_process
from fanbus.runtime.leftover_tasks import cancel_all, cancel_own
from fanbus.runtime.logs import log_error, logger
from fanbus.runtime.signals import HANDLED
from fanbus.runtime.thread_pool import HOOKS, STREAMS, Pool
from fanbus.runtime.tls import open_tls

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.runtime.application import Application, HostedApplication
    from fanbus.runtime.json_codec import JSON
    from fanbus.runtime.lifespan import Running

__all__ = [
    "CRASHED",
    "ENOUGH",
    "FAILED",
    "IO_IS_STUCK",
    "LEAVE",
    "READY",
    "STARTING_FAILED",
    "STOPPED_LISTENING",
    "WorkerResources",
    "die_with",
    "main",
    "most_requests",
    "reset_signals",
    "serve",
]

# Exit statuses of a worker process.
STARTING_FAILED = 3  # the application cannot start: a replacement would fail in the same way
CRASHED = 1

# First byte of a worker's report to the supervisor; after FAILED follows the traceback.
READY = b"+"
FAILED = b"-"
# Then signs of life, one at a time. The last one comes once.
ALIVE = b"."
IO_IS_STUCK = b"i"
ENOUGH = b"r"
# Once it is true, before each sign of life.
STOPPED_LISTENING = b"c"

# Between two signs of life, at most; a quarter of `timeout_worker` if that is less.
_BEAT_S = 1.0
# The I/O thread comes round ten times a second. Silent for so long, it is stuck.
_IO_REST_S = 1.0

# The last line of defence, after Rust's own grace time is over.
_EXTRA_GRACE_S = 1.0

# How often the end looks whether handlers still run, and when it says that it waits for them.
_LOOK_S = 0.01
_PATIENCE_S = 1.0

# A client that keeps its connection may be about to ask. The end of a server waits for so long.
_LINGER_S = 0.5

# The supervisor's word that another worker has taken over, as nginx has it: nobody waits for this
# one's end.
LEAVE = signal.SIGQUIT

# Of these, a worker leaves to the system what they do to it.
_USUAL = frozenset({signal.SIGTERM, signal.SIGCHLD})


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
    """Serves until one of the signals comes, and everything in flight is finished.

    A second signal ends it at once. On one of `leave_on`, it takes its time for clients that have
    kept a connection. `also` says what to do on others. `listener` is closed here.
    `on_ready` is called when connections are being accepted. `on_end` is given what begins the end,
    to be called on the loop: for who serves in a thread, where no signals arrive. `private` are
    descriptors of this process that handlers' children do not get.

    Returns the seconds that are left of the grace time, at least one.
    """
    if end_on:  # a process of our own
        _core.keep_free_memory()
    before = set(_core.open_descriptors())
    withheld: list[_core.Withheld] = []  # until the end
    loop = new_event_loop(settings.loop)
    asyncio.set_event_loop(loop)
    log = contextlib.ExitStack()  # after the fork: it has a thread
    hosted: HostedApplication | None = None
    running: Running | None = None
    ending: _Ending | None = None
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
        os.close(listener)  # the core has its own copy: when it stops, nobody listens
        hosted.attach(core, bus)
        running = hosted.lifespan()
        run = Run(loop)
        ending = _Ending(loop, core, running, settings, run.stop)
        way_out, application = ending, running

        async def begin() -> None:
            if on_end is not None:
                on_end(loop, way_out.begin)
            for number in end_on:
                loop.add_signal_handler(number, way_out.begin)
            for number in leave_on:
                loop.add_signal_handler(number, way_out.leave)
            if end_on:  # a process of our own: what it has opened until here is ours
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
            way_out.has_started()
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
        # In the order of docs/howto/middleware.md: what is used is closed after what uses it.
        background.finish(_EXTRA_GRACE_S if ending is None else ending.rest_s())
        if hosted is not None:
            _finish_hooks(loop, hosted)
        cancel_own(loop, _EXTRA_GRACE_S)
        if running is not None and ending is not None:
            running.end(loop, ending.rest_s())
        with signals.quiet_afterwards() if end_on else contextlib.nullcontext():
            cancel_all(loop, _EXTRA_GRACE_S)  # what it does at last may still publish
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


class _Ending:
    """The way out: the first call begins it, the second one cuts it short."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        core: _core.Worker,
        running: Running,
        settings: Settings,
        stop: Callable[[], None],
    ) -> None:
        """`stop` ends the loop's run."""
        self._loop = loop
        self._stop = stop
        self._core = core
        self._running = running
        self._grace_s = settings.timeout_graceful_shutdown
        # Whoever changes the code wants no more answers of the old one.
        self._lingers = not settings.watches_files
        self._linger_s = 0.0
        self._serves = False
        self._end_by: float | None = None
        """When the time for what is in flight is over. None: nobody has asked for the end."""
        self._waiting: asyncio.Task[None] | None = None
        """Waits for handlers, after the I/O thread has ended."""
        self._last_resort: asyncio.TimerHandle | None = None
        """Stops the loop if Rust does not say that it has ended."""
        self._patience: asyncio.TimerHandle | None = None
        """Says which handlers the end waits for."""

    def begin(self) -> None:
        """The end of the server."""
        self._begin(_LINGER_S)

    def leave(self) -> None:
        """Another worker serves instead. What clients send on connections that they have kept is
        answered for half of the grace time, as no farewell of HTTP/1 can keep them from it."""
        self._begin(self._grace_s / 2)

    def _begin(self, linger_s: float) -> None:
        if self._end_by is not None:
            self._stop()
            return
        self._end_by = self._loop.time() + self._grace_s
        self._linger_s = linger_s if self._lingers else 0.0
        if self._running.cancel():
            return
        if self._serves:
            self._shut_down()

    def has_started(self) -> None:
        """Connections are accepted from here on. A signal may have come just before."""
        self._serves = True
        if self._end_by is not None:
            self._shut_down()

    def has_stopped(self) -> None:
        """The loop is left. What runs on it now, such as the application's own end, has limits of
        its own, and is not to be stopped by this one."""
        for timer in (self._last_resort, self._patience):
            if timer is not None:
                timer.cancel()
        for route, count, oldest_s in self._under_way():
            logger.warning(
                "%s of %s did not end in time and %s cut off, after %.1f s.",
                _handlers(count).capitalize(),
                route,
                "is" if count == 1 else "are",
                oldest_s,
            )

    def rest_s(self) -> float:
        """The time that is left for the application's own end, from now on."""
        rest = 0.0 if self._end_by is None else self._end_by - self._loop.time()
        return max(rest, _EXTRA_GRACE_S)

    def _shut_down(self) -> None:
        latest_s = self._grace_s + _EXTRA_GRACE_S
        self._last_resort = self._loop.call_later(latest_s, self._stop)
        self._patience = self._loop.call_later(_PATIENCE_S, self._say_what_it_waits_for)
        self._core.shut_down(self._grace_s, self._linger_s, self._io_has_ended)

    def _io_has_ended(self) -> None:
        """No client is left. Handlers may still be at work, for one that has left before."""
        self._waiting = self._loop.create_task(self._wait_for_handlers())

    async def _wait_for_handlers(self) -> None:
        assert self._end_by is not None
        while self._core.busy() or streaming.under_way(self._loop):
            if self._loop.time() >= self._end_by:
                break
            await asyncio.sleep(_LOOK_S)
        self._stop()

    def _say_what_it_waits_for(self) -> None:
        assert self._end_by is not None
        left_s = self._end_by - self._loop.time()
        for route, count, _ in self._under_way():
            logger.info(
                "Waiting for %s of %s to end, for %.0f s at most.", _handlers(count), route, left_s
            )

    def _under_way(self) -> list[tuple[str, int, float]]:
        return [*self._core.running_handlers(), *streaming.under_way(self._loop)]


def _finish_hooks(loop: asyncio.AbstractEventLoop, hosted: HostedApplication) -> None:
    """The sessions of turbo routes are closed; this waits for their hooks."""
    try:
        loop.run_until_complete(asyncio.wait_for(hosted.finish(), timeout=_EXTRA_GRACE_S))
    except (asyncio.TimeoutError, RuntimeError):
        logger.warning("Some hooks did not end in %g s and were left.", _EXTRA_GRACE_S)


def _handlers(count: int) -> str:
    return "a handler" if count == 1 else f"{count} handlers"


def main(
    app: Application,
    settings: Settings,
    *,
    listener: int,
    bus: tuple[str, int],
    report: int,
    trace: int,
    supervisor_pid: int,
) -> NoReturn:
    """The life of a worker process, from right after the fork to its end.

    `bus` is the name and the epoch of the supervisor's: one that has only its name is another.
    `report` is the writing end of a pipe to the supervisor. The stacks of all threads go to `trace`
    if a fault, or the supervisor with SIGABRT, kills the process. Signals are still blocked here,
    and only Python's own handlers of the supervisor stand.
    """
    status, limit_s = CRASHED, _EXTRA_GRACE_S
    try:
        faulthandler.enable(file=trace, all_threads=True)
        status, limit_s = _live(app, settings, listener, bus, report, supervisor_pid)
    except BaseException:  # noqa: BLE001 - nothing may run on into the supervisor's code
        logger.critical("The worker crashed.", exc_info=True)
    finally:
        end_process(status, limit_s)


def _join(name: str, epoch: int) -> _core.Bus:
    """The supervisor's bus. StartError if its name leads to none, or to another one, or if there is
    no place."""
    try:
        bus = _core.Bus.attach(name, worker=True)
    except BusError as error:
        raise StartError(str(error)) from None
    if bus is None or bus.epoch != epoch:
        raise StartError(
            f"The bus {name!r} was removed while the server runs. Its supervisor makes a new one."
        )
    return bus


def _live(
    app: Application,
    settings: Settings,
    listener: int,
    bus: tuple[str, int],
    report: int,
    supervisor_pid: int,
) -> tuple[int, float]:
    """Returns the exit status, and how long the exit functions may take."""
    reset_signals()
    die_with(supervisor_pid)
    ready = False

    def on_ready(core: _core.Worker, loop: asyncio.AbstractEventLoop) -> None:
        nonlocal ready
        ready = True
        with contextlib.suppress(BrokenPipeError):  # the supervisor has died; so will this process
            os.write(report, READY)
        _Heart(core, loop, settings, report).beat()

    try:
        membership = _join(*bus)
        rest_s = serve(
            app,
            settings,
            membership,
            listener,
            end_on=(signal.SIGTERM,),
            leave_on=(LEAVE,),
            on_ready=on_ready,
            private=(report,),
        )
        membership.close()
    except Exception as error:
        if ready:
            raise
        text = str(error) if isinstance(error, StartError) else traceback.format_exc()
        os.write(report, FAILED + text.encode(errors="replace")[:32_000])
        return STARTING_FAILED, _EXTRA_GRACE_S
    return 0, rest_s


def reset_signals() -> None:
    """A worker ends by SIGTERM; Ctrl+C reaches it too, but the supervisor decides."""
    signal.set_wakeup_fd(-1)
    # A handler that does nothing, instead of SIG_IGN, which programs that handlers start inherit.
    for number in HANDLED - _USUAL:
        signal.signal(number, _do_nothing)
    for number in _USUAL:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def _do_nothing(_number: int, _frame: object) -> None:
    """For Ctrl+C, a terminal that hangs up, and what is meant for the supervisor."""


def most_requests(settings: Settings, pid: int) -> int | None:
    """After how many requests a process has served enough; None if there is no limit."""
    if settings.limit_max_requests is None:
        return None
    # Not the generator of the application, which is the same in all children.
    jitter = random.Random(pid).randint(0, settings.limit_max_requests_jitter)  # noqa: S311
    return settings.limit_max_requests + jitter


class _Heart:
    """Tells the supervisor that both threads turn: Python's, which runs this, and Rust's."""

    def __init__(
        self, core: _core.Worker, loop: asyncio.AbstractEventLoop, settings: Settings, report: int
    ) -> None:
        os.set_blocking(report, False)
        self._loop = loop
        self._core = core
        self._report = report
        self._interval_s = min(_BEAT_S, (settings.timeout_worker or 4 * _BEAT_S) / 4)
        self._io_beats = -1
        self._io_seen_at = loop.time()
        self._most_requests = most_requests(settings, os.getpid())

    def beat(self) -> None:
        """Now, and from now on."""
        beats, requests = self._core.pulse()
        now = self._loop.time()
        if beats != self._io_beats:
            self._io_beats, self._io_seen_at = beats, now
        if self._core.has_stopped_listening():
            self._say(STOPPED_LISTENING)
        # A sign that says so counts as none; the supervisor has its own clock for silence.
        is_stuck = now - self._io_seen_at > _IO_REST_S
        self._say(IO_IS_STUCK if is_stuck else ALIVE)
        if self._most_requests is not None and requests >= self._most_requests:
            self._most_requests = None
            self._say(ENOUGH)
        self._loop.call_later(self._interval_s, self.beat)

    def _say(self, sign: bytes) -> None:
        # Nobody reads any more, or the pipe is full of what was not read yet: no news either way.
        with contextlib.suppress(OSError):
            os.write(self._report, sign)


def die_with(supervisor_pid: int) -> None:
    """Has the kernel kill this process when the supervisor dies, whatever killed it."""
    _core.die_with_parent(signal.SIGKILL)
    if os.getppid() != supervisor_pid:  # it died before the line above
        os._exit(CRASHED)
