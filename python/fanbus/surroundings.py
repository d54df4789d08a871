"""The process and its surroundings: directory, environment, and the file with its ID."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from fanbus.config import Settings
from fanbus.exceptions import StartError

__all__ = ["enter", "pid_file"]


def enter(settings: Settings) -> None:
    """Goes to `chdir`, then reads `env_file`. Before the application is imported, if possible."""
    if settings.chdir is not None:
        try:
            os.chdir(settings.chdir)
        except OSError as error:
            raise StartError(
                f"chdir={settings.chdir} is not possible: {error.strerror}.", status=2
            ) from None
    if settings.env_file is not None:
        _load(Path(settings.env_file))


def _load(path: Path) -> None:
    """What is in the environment already stays as it is."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise StartError(
            f"env_file={path} needs python-dotenv: pip install 'fanbus[dotenv]'.", status=2
        ) from None
    try:
        with path.open(encoding="utf-8") as stream:
            load_dotenv(stream=stream, override=False)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"env_file={path} cannot be read: {reason}.", status=2) from None


@contextlib.contextmanager
def pid_file(name: str | None) -> Iterator[None]:
    """Keeps this process's ID in a file meanwhile.

    The file is locked as long as the process lives, so the kernel says whether another server has
    it, whatever number stands in it; a file that a dead one left is taken over.
    StartError if another has it, or if it cannot be written.
    """
    if name is None:
        yield
        return
    path = Path(name).absolute()  # the application may change the directory
    owner = os.getpid()
    descriptor = _locked(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{owner}\n".encode())
        yield
    finally:
        if os.getpid() == owner:
            if _is(path, descriptor):
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StartError(f"pid_file={path} cannot be written: {error.strerror}.") from None
        try:
            # A lock of the process, not of the description: workers must not inherit it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held_by = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StartError(
                f"{path} belongs to a server that runs: PID {held_by or 'unknown'}. Stop that one, "
                "or choose another --pid-file."
            ) from None
        if _is(path, descriptor):
            return descriptor
        os.close(descriptor)  # its owner removed it in between


def _is(path: Path, descriptor: int) -> bool:
    """Whether the file that is open still has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
