"""The banner that shows the addresses of the server: a frame on a terminal, a line in a log."""

from __future__ import annotations

import socket
import sys
from typing import TextIO

from fanbus import _core
from fanbus.config import Settings
from fanbus.runtime import stdio
from fanbus.runtime.application import HandlerCounts
from fanbus.runtime.logs import logger
from fanbus.server import file_limit

__all__ = ["line", "render", "show", "url"]

# The addresses to open in a browser, for each address that stands for every interface.
_EVERY_INTERFACE = {"0.0.0.0": ("127.0.0.1",), "::": ("127.0.0.1", "::1")}  # noqa: S104 - compared
_MIN_WIDTH = 54


def show(settings: Settings, port: int, counts: HandlerCounts, pid: int) -> None:
    """Writes the banner to stderr if that is a terminal with a log for people.

    It is plain ASCII if the terminal supports no more. Otherwise one line is logged.
    """
    stream: TextIO = sys.stderr
    network = _network_address(settings.host)
    is_for_people = settings.log_config is None and settings.log_format != "json"
    if not (is_for_people and stdio.is_terminal(stream)):
        logger.info("%s", line(settings, port, pid, network=network))
        return
    text = render(settings, port, counts, pid, network=network)
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        text = text.translate(str.maketrans("┌┐└┘─│·", "++++-|-"))
    stdio.say(text)


def line(settings: Settings, port: int, pid: int, *, network: str | None = None) -> str:
    """The banner as one line, for a log."""
    where = " and ".join(_addresses(settings, port, network))
    workers = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    return (
        f"Fanbus {_core.__version__} serves {where} with {workers}, up to "
        f"{_connections():,} connections each. PID {pid}."
    )


def render(
    settings: Settings, port: int, counts: HandlerCounts, pid: int, *, network: str | None = None
) -> str:
    """The banner as text. `network` is the address of this machine for other machines, if any."""
    local = _EVERY_INTERFACE.get(_plain(settings.host), ())
    secure = settings.ssl_certfile is not None
    lines = [f"Fanbus v{_core.__version__}", *_addresses(settings, port, network)]
    if local and settings.uds is None and port:
        lines.append(f"(every interface, {_plain(settings.host)} port {port})")
    if secure:
        lines.append("(TLS: https and wss)")
    facts = [
        (f"HTTP handlers {counts.http}", f"Processes {settings.workers}"),
        (f"WebSocket handlers {counts.websocket}", f"Debug {'on' if settings.debug else 'off'}"),
        (f"Turbo handlers {counts.turbo}", f"PID {pid}"),
        (f"Connections {_connections():,} each", ""),
    ]
    width = max(_MIN_WIDTH, *(len(line) + 4 for line in lines))
    left = width // 2
    body = ["", *(line.center(width) for line in lines), ""]
    body += [f"  {one:<{left - 2}}{other:<{width - left}}" for one, other in facts]
    body += [""]
    framed = (f"│{line:<{width}}│" for line in body)
    return "\n".join(["", f"┌{'─' * width}┐", *framed, f"└{'─' * width}┘", "Ctrl+C ends it.", ""])


def _addresses(settings: Settings, port: int, network: str | None) -> list[str]:
    """The addresses of the server."""
    if settings.uds is not None:
        return [f"unix:{settings.uds}"]
    if not port:
        return ["the Unix socket that it was given"]
    local = _EVERY_INTERFACE.get(_plain(settings.host), ())
    secure = settings.ssl_certfile is not None
    found = [url(host, port, secure=secure) for host in local or (settings.host,)]
    if local and network:
        found.append(url(network, port, secure=secure))
    return found


def _connections() -> int:
    return file_limit.connections(file_limit.raise_limit())


def url(host: str, port: int, *, secure: bool = False) -> str:
    """A URL that a terminal can open."""
    host = _plain(host)
    name = f"[{host}]" if ":" in host else host
    scheme, usual = ("https", 443) if secure else ("http", 80)
    return f"{scheme}://{name}" if port == usual else f"{scheme}://{name}:{port}"


def _plain(host: str) -> str:
    """The host without the brackets of an IPv6 address in a URL."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _network_address(host: str) -> str | None:
    """The address for other machines, from the routing table. No packet is sent."""
    if _plain(host) not in _EVERY_INTERFACE:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: never a real host
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address in ("127.0.0.1", "0.0.0.0") else address  # noqa: S104 - compared
