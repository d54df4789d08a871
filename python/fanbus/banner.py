"""What the server says on stderr when it really listens."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import TextIO

from fanbus import _core
from fanbus.config import Settings

__all__ = ["Counts", "render", "show"]

# Of each address that stands for every interface, those of this machine that can be opened.
_EVERY_INTERFACE = {"0.0.0.0": ("127.0.0.1",), "::": ("127.0.0.1", "::1")}  # noqa: S104 - compared
_MIN_WIDTH = 54


@dataclass(frozen=True)
class Counts:
    """How many handlers of each kind the application has."""

    http: int
    websocket: int
    turbo: int


def show(settings: Settings, port: int, counts: Counts, pid: int) -> None:
    """Writes the banner to stderr; plain ASCII where the terminal knows no more."""
    stream: TextIO = sys.stderr
    text = render(settings, port, counts, pid, network=_network_address(settings.host))
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        text = text.translate(str.maketrans("┌┐└┘─│·", "++++-|-"))
    stream.write(text)
    stream.flush()


def render(
    settings: Settings, port: int, counts: Counts, pid: int, *, network: str | None = None
) -> str:
    """The banner as text. `network` is this machine's address for others, if it is wanted."""
    local = _EVERY_INTERFACE.get(_plain(settings.host), ())
    secure = settings.ssl_certfile is not None
    lines = [f"Fanbus v{_core.__version__}"]
    if settings.uds is not None:
        lines.append(f"unix:{settings.uds}")
    elif not port:
        lines.append("the Unix socket that it was given")
    else:
        lines += [url(host, port, secure=secure) for host in local or (settings.host,)]
    if local and settings.uds is None and port:
        if network:
            lines.append(url(network, port, secure=secure))
        lines.append(f"(every interface, {_plain(settings.host)} port {port})")
    if secure:
        lines.append("(TLS: https and wss)")
    facts = [
        (f"HTTP handlers {counts.http}", f"Processes {settings.workers}"),
        (f"WebSocket handlers {counts.websocket}", f"Debug {'on' if settings.debug else 'off'}"),
        (f"Turbo handlers {counts.turbo}", f"PID {pid}"),
    ]
    width = max(_MIN_WIDTH, *(len(line) + 4 for line in lines))
    left = width // 2
    body = ["", *(line.center(width) for line in lines), ""]
    body += [f"  {one:<{left - 2}}{other:<{width - left}}" for one, other in facts]
    body += [""]
    framed = (f"│{line:<{width}}│" for line in body)
    return "\n".join(["", f"┌{'─' * width}┐", *framed, f"└{'─' * width}┘", "Ctrl+C ends it.", ""])


def url(host: str, port: int, *, secure: bool = False) -> str:
    """Something that can be clicked."""
    host = _plain(host)
    name = f"[{host}]" if ":" in host else host
    scheme, usual = ("https", 443) if secure else ("http", 80)
    return f"{scheme}://{name}" if port == usual else f"{scheme}://{name}:{port}"


def _plain(host: str) -> str:
    """Without the brackets that an IPv6 address has in a URL."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _network_address(host: str) -> str | None:
    """The address that other machines would use. Asks the routing table; sends nothing."""
    if _plain(host) not in _EVERY_INTERFACE:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: never a real host
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address in ("127.0.0.1", "0.0.0.0") else address  # noqa: S104 - compared
