"""The setup of the process: working directory, environment, user, and the file with its ID."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from fanbus.config import Settings
from fanbus.exceptions import StartError
from fanbus.server.reload import reexec

__all__ = ["change_directory_and_load_env", "drop_privileges", "own_pid_file", "pid_file"]

_PR_SET_DUMPABLE = 4  # prctl(2)


def change_directory_and_load_env(settings: Settings) -> None:
    """Changes to `chdir`, then reads `env_file`. Call it before the application is imported."""
    if settings.chdir is not None:
        try:
            os.chdir(settings.chdir)
        except OSError as error:
            raise StartError(
                f"Cannot change to chdir={settings.chdir}: {error.strerror}.", status=2
            ) from None
    if settings.env_file is not None:
        _load(Path(settings.env_file))


def drop_privileges(settings: Settings) -> None:
    """Changes to `user` and `group`, after the sockets are bound and before the bus is opened.

    StartError if there is no such user, or if this process may not change.
    """
    if settings.user is None and settings.group is None:
        return
    user = _user(settings.user)
    group = user.pw_gid if settings.group is None else _group(settings.group)
    if (os.getuid(), os.geteuid(), os.getgid()) == (user.pw_uid, user.pw_uid, group):
        return
    # Here, so that a server without `user` does not load it; and not later, because the other user
    # may not be allowed to read the standard library. `reuseport` needs it too.
    import ctypes

    try:
        if settings.uds is not None:
            os.chown(settings.uds, user.pw_uid, group, follow_symlinks=False)
        os.initgroups(user.pw_name, group)
        os.setgid(group)
        os.setuid(user.pw_uid)
    except OSError as error:
        raise StartError(
            f"This process may not become user {user.pw_name} and group {group}: "
            f"{error.strerror}. Start it as root, or leave user and group out."
        ) from None
    # Workers wake each other through /proc/PID/fd, which the kernel closes to a process that has
    # changed its user.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def _user(name: str | None) -> pwd.struct_passwd:
    try:
        if name is None or name.isdecimal():
            return pwd.getpwuid(os.getuid() if name is None else int(name))
        return pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise StartError(f"user={name}: this machine has no such user.", status=2) from None


def _group(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise StartError(f"group={name}: this machine has no such group.", status=2) from None


def _load(path: Path) -> None:
    """Loads the file. Variables that are set already do not change."""
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


def own_pid_file(settings: Settings) -> str | None:
    """The name of the file to write the process ID to; None: it must not be written.

    Before a reload, this process may have written it and then changed to a user without access to
    it. The number in it is still right.
    """
    name = settings.pid_file
    if reexec.handed_over_state() is not None and name is not None and not os.access(name, os.W_OK):
        return None
    return name


@contextlib.contextmanager
def pid_file(name: str | None) -> Iterator[None]:
    """Holds the ID of this process in a file during the `with` block.

    The process holds a lock on the file, so the kernel knows whether another server uses it,
    whatever number is in it. A file of a process that has ended is taken over. StartError if
    another server uses it, or if it cannot be written.
    """
    if name is None:
        yield
        return
    path = Path(name).absolute()  # the application may change the directory
    owner = os.getpid()
    descriptor = _locked(path)
    try:
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{owner}\n".encode())
        except OSError as error:
            raise StartError(f"pid_file={path} cannot be written: {error.strerror}.") from None
        yield
    finally:
        if os.getpid() == owner:
            with contextlib.suppress(OSError):  # `user` may lack the permission
                if _is(path, descriptor):
                    path.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StartError(f"pid_file={path} cannot be written: {error.strerror}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # at the end it would be removed
            os.close(descriptor)
            raise StartError(f"pid_file={path} is not a regular file.")
        try:
            # A lock of the process, not of the open file description: workers must not inherit it.
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
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
