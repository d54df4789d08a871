"""The standby process that has imported Fanbus, and waits to become the next worker.

When a file changes, it runs the command of the server, and serves when that reaches `app.run()`. So
new code serves as soon as it has been read, and a fault in it harms no other process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import logging
import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from fanbus import _core
from fanbus.exceptions import STARTING_FAILED
from fanbus.runtime import signals, stdio
from fanbus.server.fork import fork
from fanbus.server.reload import start_command
from fanbus.server.reload.start_command import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fanbus.config import Settings
    from fanbus.history import RetentionRule
    from fanbus.runtime.application import Application

__all__ = ["Standby", "compatibility_key", "main"]

_MOST_OF_A_TRACEBACK = 32_000


def compatibility_key(
    application_name: str, rules: Iterable[RetentionRule], settings: Settings
) -> Any:
    """The values that the supervisor itself uses: if new code changes one, it must reload too."""
    retained = [[rule.pattern, rule.history, rule.seconds] for rule in rules]
    key = {"name": application_name, "rules": retained, "settings": settings.to_json()}
    return json.loads(json.dumps(key))  # as the other process reads it


class Standby:
    """A standby process, as the supervisor sees it."""

    def __init__(self, command: Invocation, listener: int) -> None:
        """Starts it, for the slot of this listener. OSError if there can be none."""
        self._command = command
        self.listener = listener
        self._has_ended = False
        self._said = bytearray()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self.line, line = socket.socketpair()
            """The socket for the call and the reply."""
            ours.callback(self.line.close)
            theirs.callback(line.close)
            self.report, writing = os.pipe()
            ours.callback(os.close, self.report)
            theirs.callback(os.close, writing)
            self.trace = os.memfd_create("fanbus-stacks")
            ours.callback(os.close, self.trace)
            self.pid = self._start((line.fileno(), listener, writing, self.trace))
            ours.pop_all()

    def _start(self, handed_over: tuple[int, ...]) -> int:
        numbers = map(str, (os.getpid(), *handed_over))
        words = [*self._command.interpreter, "-m", "fanbus.server.reload.standby", *numbers]
        # It handles signals as soon as it can; earlier signals wait.
        signals.block()
        try:
            pid = fork()
            if pid == 0:
                _execute(words, handed_over)
            return pid
        finally:
            signals.unblock()

    def call(self, role: str, bus: tuple[str, int], agreed: Any) -> None:
        """Makes it the worker. From then on the caller owns its process, report and trace."""
        call = {
            "target": self._command.target,
            "is_module": self._command.is_module,
            "arguments": self._command.arguments,
            "role": role,
            "bus": bus,
            "compatibility_key": agreed,
        }
        with contextlib.suppress(OSError):  # it has died: the supervisor logs that when it reaps it
            self.line.sendall(json.dumps(call).encode() + b"\n")
        self.line.setblocking(False)

    def answer(self) -> dict[str, Any] | None:
        """Returns its reply about the code; empty if it ended without one, None if it has not come.

        Call it when `line` is readable.
        """
        try:
            received = self.line.recv(65536)
        except OSError:
            received = b""
        self._said += received
        if received and not self._said.endswith(b"\n"):
            return None
        said: dict[str, Any] = json.loads(self._said) if received else {}
        return said

    def has_ended(self) -> bool:
        """Whether it ended while it waited."""
        if not self._has_ended:
            with contextlib.suppress(ChildProcessError):
                self._has_ended = os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return self._has_ended

    def cancel(self) -> None:
        """Kills the process."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
        self.close()

    def close(self) -> None:
        """Closes its descriptors."""
        for descriptor in (self.report, self.trace):
            os.close(descriptor)
        self.line.close()


def _execute(words: list[str], descriptors: tuple[int, ...]) -> NoReturn:
    """Runs the command in the child, where no code of the supervisor continues."""
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        if start_command.WORKING_DIRECTORY is not None:
            os.chdir(start_command.WORKING_DIRECTORY)
        os.execve(words[0], words, start_command.environment())  # noqa: S606 - our own
    finally:
        os._exit(127)


# The code of the standby process itself.


@dataclass(frozen=True)
class _Part:
    """The arguments of this process, and the call that it got."""

    supervisor: int
    line: int
    listener: int
    report: int
    trace: int
    call: dict[str, Any]

    withheld: _core.Withheld
    """Processes that the application forks during its import get none of the descriptors."""


_part: _Part | None = None


def main(supervisor: int, line: int, listener: int, report: int, trace: int) -> NoReturn:
    """Waits for the call, then runs the command of the server.

    The numbers are those of a process and of descriptors.
    """
    global _part
    from fanbus.runtime import worker_process

    worker_process.reset_signals()
    worker_process.end_with_parent(supervisor)
    for descriptor in (line, listener, report, trace):
        os.set_inheritable(descriptor, False)
    faulthandler.enable(file=trace, all_threads=True)
    _warm_up()
    with os.fdopen(os.dup(line), "rb") as calls:
        text = calls.readline()
    if not text:  # the supervisor has closed its end
        os._exit(0)
    call = json.loads(text)
    withheld = _core.Withheld([line, listener, report, trace])
    start_command.serve_instead = _serve
    _part = _Part(supervisor, line, listener, report, trace, call, withheld)
    # A file that changes twice in a second has the same time, and maybe the same size. Its old
    # bytecode would be used.
    sys.dont_write_bytecode = True
    command = Invocation((sys.executable,), call["target"], call["is_module"], call["arguments"])
    try:
        command.run()
        why = "It ended before it came to app.run()."
    except SystemExit as end:
        why = f"It ended with status {end.code} before it came to app.run()."
    except BaseException as error:  # noqa: BLE001 - each error is reported
        why = "".join(traceback.format_exception(type(error), error, _of_the_application(error)))
    os.write(
        report, worker_process.FAILED + why.strip().encode(errors="replace")[:_MOST_OF_A_TRACEBACK]
    )
    logging.shutdown()
    stdio.flush()
    os._exit(STARTING_FAILED)


def _serve(app: Application, settings: Settings) -> None:
    """Serves the imported application, whose options are valid. Never returns."""
    assert _part is not None
    from fanbus.runtime import logs, worker_process
    from fanbus.server.reload import watch

    key = compatibility_key(app.name, app.retention_rules, settings)
    is_enough = key == _part.call["compatibility_key"]
    directories = sorted(map(str, watch.directories_of_modules()))
    answer = json.dumps({"is_enough": is_enough, "directories": directories})
    with socket.socket(fileno=_part.line) as line, contextlib.suppress(OSError):
        line.sendall(answer.encode() + b"\n")
    if not is_enough:
        logging.shutdown()
        os._exit(0)
    logs.set_role(_part.call["role"])
    worker_process.main(
        app,
        settings,
        listener=_part.listener,
        bus=tuple(_part.call["bus"]),
        report=_part.report,
        trace=_part.trace,
        supervisor_pid=_part.supervisor,
    )


def _warm_up() -> None:
    """Imports the modules that a worker needs, before a change waits for them."""
    for name in (
        "asyncio",
        "fanbus.runtime.blocked_loop",
        "fanbus.server.reload.watch",
        "fanbus.cli.main",
        "fanbus.runtime.lifespan",
        "uvloop",
    ):
        with contextlib.suppress(ImportError):  # uvloop is not everywhere
            importlib.import_module(name)


def _of_the_application(error: BaseException) -> TracebackType | None:
    """Its traceback from the first frame that is not of Fanbus."""
    trace = error.__traceback__
    import runpy

    ours = (__file__, start_command.__file__, runpy.__file__, "<frozen runpy>")
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    # Imports this module again, under the name that other modules import.
    importlib.import_module("fanbus.server.reload.standby").main(*map(int, sys.argv[1:]))
