"""The SO_REUSEPORT group that gains or loses a listener without losing a connection."""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["clone_listener", "limit_to_first", "use_all"]

# asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68

# linux/filter.h: load a random number, divide by the number of listeners, return the remainder.
_LOAD_ABSOLUTE, _REMAINDER, _RETURN_ACCUMULATOR = 0x20, 0x94, 0x16
_RANDOM = 0x1_0000_0000 - 0x1000 + 56


def clone_listener(listener: int, backlog: int) -> int:
    """Opens one more listener on the address of `listener`, for one more worker.

    OSError if it cannot be opened.
    """
    with socket.socket(fileno=os.dup(listener)) as first:
        is_internet = first.family in (socket.AF_INET, socket.AF_INET6)
        if not is_internet or not first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            return os.dup(listener)  # workers share a Unix socket or an inherited one
        with socket.socket(first.family, socket.SOCK_STREAM) as new:
            new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if first.family == socket.AF_INET6:
                only = first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            new.setblocking(False)
            new.bind(first.getsockname())
            new.listen(backlog)
            return new.detach()


def limit_to_first(listener: int, count: int) -> bool:
    """Directs new connections to the first `count` listeners, in the order of their binding.

    False if the kernel does not support it; then nothing has changed. Connections in the queues of
    the others stay there.
    """
    import ctypes  # here, so that only a scale-down loads it

    program = b"".join(
        struct.pack("=HBBI", code, 0, 0, operand)
        for code, operand in (
            (_LOAD_ABSOLUTE, _RANDOM),
            (_REMAINDER, count),
            (_RETURN_ACCUMULATOR, 0),
        )
    )
    memory = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(memory))
    try:
        with socket.socket(fileno=os.dup(listener)) as group:
            group.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, head)
    except OSError:
        return False
    return True


def use_all(listener: int) -> None:
    """Has the kernel spread connections by its own hash again."""
    try:
        with socket.socket(fileno=os.dup(listener)) as group:
            group.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
    except OSError:
        return  # there was no program
