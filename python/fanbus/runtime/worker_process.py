"""The worker process that the supervisor has forked: it serves, and reports to the supervisor.

A report is a stream of bytes in a pipe: first READY, or FAILED with the reason, then heartbeats.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import signal
import traceback
from typing import TYPE_CHECKING, NoReturn

from fanbus import _core
from fanbus.exceptions import STARTING_FAILED, BusError, StartError
from fanbus.runtime.exit import end_process
from fanbus.runtime.logs import logger
from fanbus.runtime.orderly_end import EXTRA_GRACE_S
from fanbus.runtime.signals import HANDLED
from fanbus.runtime.worker import serve

if TYPE_CHECKING:
    import asyncio

    from fanbus.config import Settings
    from fanbus.runtime.application import Application

__all__ = [
    "CRASHED",
    "ENOUGH_REQUESTS",
    "FAILED",
    "IO_IS_STUCK",
    "LEAVE",
    "READY",
    "STOPPED_LISTENING",
    "end_with_parent",
    "main",
    "max_requests",
    "reset_signals",
]

# The exit status of a worker process after an error; see also STARTING_FAILED.
CRASHED = 1

# First byte of the report; the traceback follows FAILED.
READY = b"+"
FAILED = b"-"
# Then one heartbeat at a time.
ALIVE = b"."
IO_IS_STUCK = b"i"
# Once, after a heartbeat: the worker has served `limit_max_requests`.
ENOUGH_REQUESTS = b"r"
# Before each heartbeat, once it is true.
STOPPED_LISTENING = b"c"

# The longest interval between two heartbeats; a quarter of `timeout_worker` if that is less.
_HEARTBEAT_S = 1.0
# The I/O thread turns ten times a second. Without a turn for this long, it is stuck.
_IO_LIMIT_S = 1.0

# The signal of the supervisor when another worker has taken over, as in nginx: the end of this
# worker may take its time.
LEAVE = signal.SIGQUIT

# Signals for which a worker has the default action of the system.
_DEFAULT = frozenset({signal.SIGTERM, signal.SIGCHLD})


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
    """Runs a worker process, from right after the fork to its end.

    `bus` is the name and the epoch of the supervisor's bus; a bus of the same name with another
    epoch is a different one. `report` is the writing end of a pipe to the supervisor. If a fault or
    SIGABRT of the supervisor kills the process, it writes the stacks of all threads to `trace`.
    Signals are still blocked here, and only the Python handlers of the supervisor are installed.
    """
    status, limit_s = CRASHED, EXTRA_GRACE_S
    try:
        faulthandler.enable(file=trace, all_threads=True)
        status, limit_s = _run(app, settings, listener, bus, report, supervisor_pid)
    except BaseException:  # noqa: BLE001 - the code of the supervisor must not go on here
        logger.critical("The worker crashed.", exc_info=True)
    finally:
        end_process(status, limit_s)


def _join_bus(name: str, epoch: int) -> _core.Bus:
    """Opens the bus of the supervisor. StartError if it is gone, replaced, or full."""
    try:
        bus = _core.Bus.attach(name, worker=True)
    except BusError as error:
        raise StartError(str(error)) from None
    if bus is None or bus.epoch != epoch:
        raise StartError(
            f"The bus {name!r} was removed while the server runs. Its supervisor makes a new one."
        )
    return bus


def _run(
    app: Application,
    settings: Settings,
    listener: int,
    bus: tuple[str, int],
    report: int,
    supervisor_pid: int,
) -> tuple[int, float]:
    """Returns the exit status, and the seconds that exit functions may take."""
    reset_signals()
    end_with_parent(supervisor_pid)
    is_ready = False

    def on_ready(core: _core.Worker, loop: asyncio.AbstractEventLoop) -> None:
        nonlocal is_ready
        is_ready = True
        with contextlib.suppress(BrokenPipeError):  # the supervisor was killed
            os.write(report, READY)
        _Heartbeat(core, loop, settings, report).beat()

    try:
        membership = _join_bus(*bus)
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
        if is_ready:
            raise
        text = str(error) if isinstance(error, StartError) else traceback.format_exc()
        os.write(report, FAILED + text.encode(errors="replace")[:32_000])
        return STARTING_FAILED, EXTRA_GRACE_S
    return 0, rest_s


def reset_signals() -> None:
    """Replaces the handlers of the supervisor. SIGTERM ends a worker.

    Ctrl+C reaches a worker too, but the supervisor decides about the end.
    """
    signal.set_wakeup_fd(-1)
    # A handler without effect instead of SIG_IGN, which child processes of handlers would inherit.
    for number in HANDLED - _DEFAULT:
        signal.signal(number, _do_nothing)
    for number in _DEFAULT:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def _do_nothing(_number: int, _frame: object) -> None:
    """Handles Ctrl+C, the hangup of a terminal, and signals for the supervisor."""


def max_requests(settings: Settings, pid: int) -> int | None:
    """The number of requests after which the process is replaced; None if there is no limit."""
    if settings.limit_max_requests is None:
        return None
    # Not the generator of the application, which has the same state in all workers.
    jitter = random.Random(pid).randint(0, settings.limit_max_requests_jitter)  # noqa: S311
    return settings.limit_max_requests + jitter


class _Heartbeat:
    """The heartbeat that tells the supervisor that Python's and Rust's threads run."""

    def __init__(
        self, core: _core.Worker, loop: asyncio.AbstractEventLoop, settings: Settings, report: int
    ) -> None:
        os.set_blocking(report, False)
        self._loop = loop
        self._core = core
        self._report = report
        self._interval_s = min(_HEARTBEAT_S, (settings.timeout_worker or 4 * _HEARTBEAT_S) / 4)
        self._io_beats = -1
        self._io_changed_at = loop.time()
        self._max_requests = max_requests(settings, os.getpid())

    def beat(self) -> None:
        """Sends a heartbeat now, and again after each interval."""
        beats, requests = self._core.pulse()
        now = self._loop.time()
        if beats != self._io_beats:
            self._io_beats, self._io_changed_at = beats, now
        if self._core.has_stopped_listening():
            self._send(STOPPED_LISTENING)
        # The supervisor does not count IO_IS_STUCK as a heartbeat.
        is_stuck = now - self._io_changed_at > _IO_LIMIT_S
        self._send(IO_IS_STUCK if is_stuck else ALIVE)
        if self._max_requests is not None and requests >= self._max_requests:
            self._max_requests = None
            self._send(ENOUGH_REQUESTS)
        self._loop.call_later(self._interval_s, self.beat)

    def _send(self, sign: bytes) -> None:
        # The supervisor is gone, or the pipe is full of unread bytes.
        with contextlib.suppress(OSError):
            os.write(self._report, sign)


def end_with_parent(supervisor_pid: int) -> None:
    """Has the kernel kill this process when the supervisor ends for any reason."""
    _core.die_with_parent(signal.SIGKILL)
    if os.getppid() != supervisor_pid:  # it ended before the line above
        os._exit(CRASHED)
