"""The notifier that reports the state of the server to systemd: sd_notify(3), without its library.

Without NOTIFY_SOCKET it does nothing.
"""

from __future__ import annotations

import os
import socket
import time

from fanbus.server.reload import start_command

__all__ = ["Notifier"]


class Notifier:
    """Sends messages to the socket in NOTIFY_SOCKET. A message that cannot be sent is dropped: the
    server must not end because of its service manager."""

    def __init__(self) -> None:
        self._address = _address(start_command.ENVIRONMENT.get("NOTIFY_SOCKET", ""))
        self._interval_s = _watchdog_interval_s()
        self._next_s = time.monotonic()

    def ready(self, status: str) -> None:
        """Reports that the server serves: after the start, and at the end of each reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Reports that a reload begins. `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=Reloading")

    def stopping(self) -> None:
        """Reports that the end begins."""
        self._send("STOPPING=1\nSTATUS=Finishing what is in flight")

    def watchdog(self, now: float) -> None:
        """Sends a watchdog message when it is due; called in each turn of the loop."""
        if self._interval_s is not None and now >= self._next_s:
            self._send("WATCHDOG=1")
            self._next_s = now + self._interval_s

    def due_at(self) -> float | None:
        """When `watchdog` must be called next (time.monotonic)."""
        return None if self._interval_s is None else self._next_s

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(text.encode(), self._address)
            except OSError:
                return


def _address(name: str) -> str | None:
    """The address of the socket. `@` stands for the zero byte of an abstract name."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_interval_s() -> float | None:
    """Half of the interval that systemd allows; None if it does not watch this process."""
    meant_for = start_command.ENVIRONMENT.get("WATCHDOG_PID", "")
    allowed = start_command.ENVIRONMENT.get("WATCHDOG_USEC", "")
    if meant_for not in ("", str(os.getpid())) or not allowed.isdecimal() or int(allowed) == 0:
        return None
    return int(allowed) / 2e6
