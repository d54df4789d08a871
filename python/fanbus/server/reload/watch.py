"""The watcher that reports changed source files, for `reload`.

It uses inotify(7), so it reads no directory while no file changes.
"""

from __future__ import annotations

import ctypes
import fnmatch
import os
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fanbus.exceptions import StartError
from fanbus.runtime import package
from fanbus.server.reload import start_command

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["FileWatcher", "directories_of_modules"]

# inotify(7).
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_ONLY_DIRECTORIES, _IS_DIRECTORY, _OVERFLOW = 0x0100_0000, 0x4000_0000, 0x4000
_EVENTS = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _CREATE | _ONLY_DIRECTORIES
_HEAD = struct.Struct("iIII")

_ALWAYS = ("*.py",)
# Never watched, whatever the options are.
_OTHERS = ("__pycache__", "node_modules", "site-packages")
# A tree with more is not source code: inotify's own limit may be 8192 for the user.
_MOST_DIRECTORIES = 4096


class FileWatcher:
    """Watches the directories of the application's modules, and those of `reload_dir` with all
    that is in them. Without `reload_dir`, the working directory is one."""

    def __init__(
        self, settings: Settings, *, since: float | None = None, known: Iterable[str] = ()
    ) -> None:
        """`since` (time.time) is the time at which the running code was read; later changes count,
        too. `known` are directories of modules of an earlier instance.
        StartError if the machine allows no watch."""
        self._included = (*_ALWAYS, *settings.reload_include)
        self._excluded = tuple(settings.reload_exclude)
        self._directories: dict[int, Path] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0:
            raise _cannot_watch(ctypes.get_errno())
        try:
            roots = [Path(name).resolve() for name in settings.reload_dir]
            for root in roots or [Path(start_command.WORKING_DIRECTORY or ".").resolve()]:
                self._watch_tree(root)
            for directory in directories_of_modules() | set(map(Path, known)):
                self._watch(directory)
        except BaseException:
            self.close()
            raise
        self._has_changed = since is not None and self._newest() > since

    def fileno(self) -> int:
        """Readable when `read` may have something."""
        return int(self._inotify)

    def directories(self) -> list[str]:
        """The watched directories."""
        return [str(directory) for directory in self._directories.values()]

    def watch_also(self, directories: Iterable[str]) -> None:
        """Directories of modules that have been imported since."""
        for directory in map(Path, directories):
            if directory not in self._directories.values():
                self._watch(directory)

    def has_changed(self) -> bool:
        """Whether a file had changed before the watch began."""
        return self._has_changed

    def read(self) -> Path | None:
        """A changed file that counts, or None."""
        changed: Path | None = None
        while events := self._take():
            for watch, mask, name in events:
                if mask & _OVERFLOW:
                    changed = changed or Path(start_command.WORKING_DIRECTORY or ".")
                    continue
                directory = self._directories.get(watch)
                if directory is None or not name:
                    continue
                path = directory / name
                if mask & _IS_DIRECTORY:
                    if mask & (_CREATE | _MOVED_TO) and not self._is_other(path):
                        self._watch_tree(path)
                        # Files that came before the watch.
                        changed = changed or next(self._files_in(path), None)
                elif not mask & _CREATE and self._counts(path):  # a new one is closed later
                    changed = path
        return changed

    def close(self) -> None:
        """Ends all watches."""
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def _take(self) -> list[tuple[int, int, str]]:
        try:
            data = os.read(self._inotify, 65536)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            events.append((watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return events

    def _watch_tree(self, root: Path) -> None:
        for directory, below, _ in os.walk(root):
            self._watch(Path(directory))
            below[:] = [name for name in below if not self._is_other(Path(directory, name))]

    def _watch(self, directory: Path) -> None:
        if len(self._directories) >= _MOST_DIRECTORIES:
            return
        watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(directory), _EVENTS)
        if watch >= 0:
            self._directories[watch] = directory
        elif (number := ctypes.get_errno()) not in _PASSING:
            raise _cannot_watch(number)

    def _counts(self, path: Path) -> bool:
        return any(path.match(pattern) for pattern in self._included) and not self._is_excluded(
            path
        )

    def _is_excluded(self, path: Path) -> bool:
        text = str(path)
        return any(path.match(one) or fnmatch.fnmatch(text, one) for one in self._excluded)

    def _is_other(self, directory: Path) -> bool:
        """Whether it is hidden, of another project, or a virtual environment."""
        return (
            directory.name.startswith(".")
            or directory.name in _OTHERS
            or (directory / "pyvenv.cfg").exists()
            or self._is_excluded(directory)
        )

    def _files_in(self, directory: Path) -> Iterator[Path]:
        try:
            yield from (path for path in directory.iterdir() if self._counts(path))
        except OSError:
            return

    def _newest(self) -> float:
        times = [0.0]
        for directory in list(self._directories.values()):
            for path in self._files_in(directory):
                try:
                    times.append(path.stat().st_mtime)
                except OSError:
                    continue
        return max(times)


# A directory that is gone, or that this user may not read, has no source of the application.
_PASSING = (2, 13, 20)  # ENOENT, EACCES, ENOTDIR


def directories_of_modules() -> set[Path]:
    """The directories of imported modules, without those of Python, of installed packages and of
    Fanbus."""
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib")}
    installed.add(package.FOLDER.resolve())
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            directory = Path(file).resolve().parent
            if not any(directory == one or one in directory.parents for one in installed):
                found.add(directory)
    return found


def _cannot_watch(number: int) -> StartError:
    return StartError(
        f"Cannot watch files for reload: {os.strerror(number)}. Enlarge "
        "/proc/sys/fs/inotify/max_user_watches or max_user_instances, or name fewer directories "
        "with --reload-dir."
    )
