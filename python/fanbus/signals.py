"""Signals to the supervisor, as something that a selector can wait for."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["HANDLED", "Signals", "block", "has_terminal", "unblock"]

# What a supervisor handles, and a worker must not inherit.
HANDLED = frozenset(
    {
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
    }
)


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


def block() -> None:
    """From here on they wait. They do so over an exec, too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def unblock() -> None:
    """Ends `block`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def has_terminal() -> bool:
    """Whether this process still belongs to a terminal: SIGHUP may say that it was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """The byte on the wake-up socket is the message."""
