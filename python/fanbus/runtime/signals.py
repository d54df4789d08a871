"""The signals that a supervisor handles, as bytes on a socket that a selector waits for."""

from __future__ import annotations

import atexit
import os
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["HANDLED", "Signals", "block", "has_terminal", "quiet_afterwards", "quieten", "unblock"]

# The signals that a supervisor handles, and whose handlers a worker must not inherit.
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

# These signals also end a process before its handlers are set, and after they are removed. The
# others must not.
_ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})


class Signals:
    """The signals that have arrived, as bytes on a socket."""

    def __init__(self) -> None:
        self._reading: socket.socket | None = None
        self._writing: socket.socket | None = None

    @contextmanager
    def caught(self) -> Iterator[socket.socket]:
        """A context in which each signal only makes the socket readable."""
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            previous_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            quieten()
            previous = {number: signal.signal(number, _only_wake) for number in HANDLED}
            self._reading, self._writing = reading, writing
            unblock()  # the process may have blocked them before a re-exec
            try:
                yield reading
            finally:
                self._reading = self._writing = None
                signal.set_wakeup_fd(previous_fd)
                for number, handler in previous.items():
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)
                quieten()
                # The interpreter restores the default handlers before the process has ended.
                atexit.register(_ignore)

    def let_go(self) -> None:
        """Releases the socket in a forked process: it belongs to the parent."""
        signal.set_wakeup_fd(-1)
        for one in (self._reading, self._writing):
            if one is not None:
                one.close()

    def read(self) -> bytes:
        """The numbers of the signals, in the order of their arrival."""
        if self._reading is None:
            return b""
        try:
            return self._reading.recv(4096)
        except BlockingIOError:
            return b""


def block(numbers: Collection[signal.Signals] = HANDLED) -> None:
    """Blocks the signals: they wait, also over an exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def unblock(numbers: Collection[signal.Signals] = HANDLED) -> None:
    """Ends `block`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextmanager
def quiet_afterwards() -> Iterator[None]:
    """A context for code that restores the default handlers, such as the end of an event loop.
    After it, signals that must not end the process do nothing."""
    numbers = HANDLED - _ENDING
    block(numbers)
    try:
        yield
    finally:
        quieten()
        unblock(numbers)


def quieten() -> None:
    """Makes signals for a running server do nothing: they would end a server that starts."""
    for number in (HANDLED - _ENDING) | {signal.SIGALRM}:
        # Not SIG_IGN, which programs inherit that are started here.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _do_nothing)


def _ignore() -> None:
    for number in (HANDLED - _ENDING) | {signal.SIGALRM}:
        if signal.getsignal(number) is _do_nothing:
            signal.signal(number, signal.SIG_IGN)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """The handler of a signal that arrives too early or too late."""


def has_terminal() -> bool:
    """Whether this process still has a terminal: a SIGHUP may mean that it was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """The handler that does nothing: the byte on the wake-up socket is the message."""
