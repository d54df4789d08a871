"""The state that a forked process inherits from Python: signal handlers, children, finalizers.

`_core` closes the inherited descriptors.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import weakref
from collections.abc import Iterable

__all__ = ["disown", "restore_signals"]


def restore_signals(numbers: Iterable[signal.Signals]) -> None:
    """Restores the default handlers of these signals in children that are forked from now on.

    In the worker, the signals have handlers that begin its shutdown. Without this a child would run
    them too, and `Process.terminate()` would not end it. A handler of the application stays.
    """
    ours = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        with contextlib.suppress(ValueError, OSError):
            signal.set_wakeup_fd(-1)
            for number, handler in ours.items():
                if signal.getsignal(number) is handler:
                    signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=restore)


def disown() -> None:
    """Removes the inherited children and finalizers of a forked worker: they belong to the
    supervisor. A worker that ends neither terminates those processes nor removes those files."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes._children = set()  # type: ignore[attr-defined] # as Process does in its children
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False
