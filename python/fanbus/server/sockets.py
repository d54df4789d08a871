"""The sockets that a server listens on: a port, a Unix socket, or an inherited descriptor.

A socket that cannot be opened is a StartError whose message names the remedy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fanbus import _core
from fanbus.exceptions import StartError

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["open_listeners", "remove_socket"]

_FIRST_OF_SYSTEMD = 3  # sd_listen_fds(3)


def open_listeners(settings: Settings) -> tuple[int, list[int]]:
    """Opens one descriptor per worker. Returns the port, which is 0 without one, and descriptors.

    On a port, each descriptor has its own queue. A Unix socket or an inherited one has a single
    queue, which all workers share.
    """
    if settings.uds is not None:
        return 0, _listen_at(Path(settings.uds), settings)
    inherited = settings.fd if settings.fd is not None else _from_systemd()
    if inherited is not None:
        return _adopt(inherited, settings.workers)
    return _bind_port(settings)


def remove_socket(settings: Settings) -> None:
    """Removes the Unix socket at the end of a server, unless another server listens there now."""
    if settings.uds is None:
        return
    path = Path(settings.uds)
    with contextlib.suppress(OSError), _alone_in(path.parent):
        if stat.S_ISSOCK(path.lstat().st_mode) and not _is_served(path):
            path.unlink()


def _listen_at(path: Path, settings: Settings) -> list[int]:
    try:
        with _alone_in(path.parent):
            _clear(path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                before = os.umask(0o111)  # the permissions of the directory control the access
                try:
                    listener.bind(str(path))
                finally:
                    os.umask(before)
                listener.listen(settings.backlog)
                return _copies(listener, settings.workers)
    except OSError as error:
        raise StartError(f"Cannot listen on {path}: {error.strerror or error}.") from None


def _clear(path: Path) -> None:
    """Removes the socket of a server that has ended."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"{path} exists and is not a socket. Choose another path for --uds.")
    if _is_served(path):
        raise StartError(
            f"{path} is in use by another program. Stop that one, or choose another path for --uds."
        )
    path.unlink()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # its queue is full, or access is denied: a process has it
    return True


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Locks the directory: of two servers that start at once, one waits until the other listens."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _from_systemd() -> int | None:
    """The descriptor of socket activation, if it is meant for this process."""
    environment = os.environ
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environment.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)  # not for programs that the application starts
    if count == "1":
        return _FIRST_OF_SYSTEMD
    if count in ("", "0"):
        return None
    raise StartError(
        f"LISTEN_FDS must be 1, got {count}: use one ListenStream= in the socket unit.",
        status=2,
    )


def _adopt(descriptor: int, count: int) -> tuple[int, list[int]]:
    try:
        listener = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        what = "not open" if error.errno == errno.EBADF else "not a socket"
        raise StartError(f"fd={descriptor} is {what}.") from None
    with listener:
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if not is_listening or listener.type != socket.SOCK_STREAM:
            raise StartError(f"fd={descriptor} must be a stream socket that listens.")
        os.set_inheritable(descriptor, False)  # not for programs that the application starts
        is_internet = listener.family in (socket.AF_INET, socket.AF_INET6)
        port = int(listener.getsockname()[1]) if is_internet else 0
        return port, _copies(listener, count)


def _copies(listener: socket.socket, count: int) -> list[int]:
    listener.setblocking(False)
    return [os.dup(listener.fileno()) for _ in range(count)]


def _bind_port(settings: Settings) -> tuple[int, list[int]]:
    """Binds one listener per worker, all on one port. Returns the port and the descriptors."""
    host, port = settings.host, settings.port
    try:
        return _core.bind_listeners(
            host, port, settings.workers, settings.backlog, shared=settings.reuse_port
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"Port {port} on {host} is in use by another program. Stop that one, or choose "
                f"another port (port={port + 1 if port < 65535 else 5000})."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StartError(
                f"This user may not listen on port {port} of {host}. Choose a port from 1024 on, "
                "or give the program the capability CAP_NET_BIND_SERVICE."
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise StartError(
                f"No interface of this machine has the address {host}. Use 127.0.0.1 (this "
                "machine only) or 0.0.0.0 (every interface)."
            ) from None
        if error.errno == errno.EMFILE:
            raise StartError(
                f"Too few file descriptors for {settings.workers} workers. Raise the limit with "
                "`ulimit -n`."
            ) from None
        reason = error.strerror or str(error)
        raise StartError(
            f'Cannot listen on "{host}", port {port}: {reason.rstrip(".")}. Use 127.0.0.1 (this '
            "machine only), 0.0.0.0 (every interface), or a name that this machine can resolve."
        ) from None
