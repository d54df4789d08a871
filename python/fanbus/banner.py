"""What the server says when it really listens: a frame on a terminal, a line in a log."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import TextIO

from fanbus import _core, descriptors, streams
from fanbus.config import Settings
from fanbus.logs import logger

__all__ = ["Counts", "line", "render", "show", "url"]

_EVERY_INTERFACE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_MIN_WIDTH = 54


@dataclass(frozen=True)
class Counts:
    """How many handlers of each kind the application has."""

    http: int
    websocket: int
    turbo: int


def show(settings: Settings, port: int, counts: Counts, pid: int) -> None:
    """Writes the banner to stderr, if that is a terminal and its log is for people; plain ASCII
    where the terminal knows no more. Otherwise the log gets one line."""
    stream: TextIO = sys.stderr
    network = _network_address(settings.host)
    is_for_people = settings.log_config is None and settings.log_format != "json"
    if not (is_for_people and streams.is_terminal(stream)):
        logger.info("%s", line(settings, port, pid, network=network))
        return
    text = render(settings, port, counts, pid, network=network)
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        text = text.translate(str.maketrans("┌┐└┘─│·", "++++-|-"))
    streams.say(text)


def line(settings: Settings, port: int, pid: int, *, network: str | None = None) -> str:
    """The same in one sentence, for a log."""
    where = " and ".join(_addresses(settings, port, network))
    workers = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    return (
        f"Fanbus {_core.__version__} serves {where} with {workers}, up to "
        f"{_connections():,} connections each. PID {pid}."
    )


def render(
    settings: Settings, port: int, counts: Counts, pid: int, *, network: str | None = None
) -> str:
    """The banner as text. `network` is this machine's address for others, if it is wanted."""
    everywhere = settings.host in _EVERY_INTERFACE
    secure = settings.ssl_certfile is not None
    lines = [f"Fanbus v{_core.__version__}", *_addresses(settings, port, network)]
    if everywhere and settings.uds is None and port:
        lines.append(f"(every interface, {settings.host} port {port})")
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
    """Where the server can be reached."""
    if settings.uds is not None:
        return [f"unix:{settings.uds}"]
    if not port:
        return ["the Unix socket that it was given"]
    everywhere = settings.host in _EVERY_INTERFACE
    secure = settings.ssl_certfile is not None
    found = [url("127.0.0.1" if everywhere else settings.host, port, secure=secure)]
    if everywhere and network:
        found.append(url(network, port, secure=secure))
    return found


def _connections() -> int:
    return descriptors.connections(descriptors.raise_limit())


def url(host: str, port: int, *, secure: bool = False) -> str:
    """Something that can be clicked."""
    name = f"[{host}]" if ":" in host else host
    scheme, usual = ("https", 443) if secure else ("http", 80)
    return f"{scheme}://{name}" if port == usual else f"{scheme}://{name}:{port}"


def _network_address(host: str) -> str | None:
    """The address that other machines would use. Asks the routing table; sends nothing."""
    if host not in _EVERY_INTERFACE:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: never a real host
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address in ("127.0.0.1", "0.0.0.0") else address  # noqa: S104 - compared
