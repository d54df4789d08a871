"""Signals to the supervisor, as something that a selector can wait for."""

from __future__ import annotations

import atexit
import os
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["HANDLED", "Signals", "block", "has_terminal", "quiet_afterwards", "quieten", "unblock"]

# What a supervisor handles, and a worker must not inherit.
HANDLED = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)

# These end a process before its handlers are there, and after them; the others must not.
_ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})


class Signals:
    """What has come of those that a supervisor handles: bytes on a socket."""

    def __init__(self) -> None:
        self._reading: socket.socket | None = None
        self._writing: socket.socket | None = None

    @contextmanager
    def caught(self) -> Iterator[socket.socket]:
        """Meanwhile they do nothing but come to the socket, which is readable then."""
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            previous_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            quieten()
            previous = {number: signal.signal(number, _only_wake) for number in HANDLED}
            self._reading, self._writing = reading, writing
            unblock()  # a life before this one has left them blocked
            try:
                yield reading
            finally:
                self._reading = self._writing = None
                signal.set_wakeup_fd(previous_fd)
                for number, handler in previous.items():
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)
                quieten()
                # The interpreter gives signals back to the system before the process is gone.
                atexit.register(_ignore)

    def let_go(self) -> None:
        """In a forked process: the socket is the parent's."""
        signal.set_wakeup_fd(-1)
        for one in (self._reading, self._writing):
            if one is not None:
                one.close()

    def read(self) -> bytes:
        """Their numbers, in the order in which they came."""
        if self._reading is None:
            return b""
        try:
            return self._reading.recv(4096)
        except BlockingIOError:
            return b""


def block(numbers: Collection[signal.Signals] = HANDLED) -> None:
    """From here on they wait. They do so over an exec, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def unblock(numbers: Collection[signal.Signals] = HANDLED) -> None:
    """Ends `block`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextmanager
def quiet_afterwards() -> Iterator[None]:
    """For what gives handlers back to the system, such as the end of an event loop: those that must
    not end the process do nothing from then on."""
    numbers = HANDLED - _ENDING
    block(numbers)
    try:
        yield
    finally:
        quieten()
        unblock(numbers)


def quieten() -> None:
    """What is meant for a server that runs, and would end one that begins or ends, does nothing."""
    for number in (HANDLED - _ENDING) | {signal.SIGALRM}:
        # Not SIG_IGN, which programs inherit that are started here.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _do_nothing)


def _ignore() -> None:
    for number in (HANDLED - _ENDING) | {signal.SIGALRM}:
        if signal.getsignal(number) is _do_nothing:
            signal.signal(number, signal.SIG_IGN)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """It came too early or too late."""


def has_terminal() -> bool:
    """Whether this process still belongs to a terminal: SIGHUP may say that it was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """The byte on the wake-up socket is the message."""
