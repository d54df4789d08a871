"""A Fanbus server behind nginx: how many requests each of the two sees."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import nginx
from support.servers import DEADLINE_S, Server, wait_for

_SITE = """
    log_format behind '$upstream_status';
    access_log {log} behind;
    upstream fanbus {{
        server 127.0.0.1:{upstream};
        keepalive 4;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://fanbus;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ignore_client_abort on;
            proxy_buffering {buffers};
            proxy_request_buffering {buffers};
        }}
    }}
"""


def exchanged(port: int, data: bytes, step: int) -> bytes:
    """Sends these bytes, `step` at a time. All that comes back until the other end closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A server that has answered may close: what it sent is there all the same.
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), step):
                client.sendall(data[start : start + step])
        with contextlib.suppress(OSError):  # one that was reset is not connected any more
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(65536):
                received += piece
    return received


@dataclass(frozen=True)
class Fronted:
    """nginx, the server behind it, and nginx's log of what it handed on."""

    port: int
    server: Server
    log: Path

    def tell(self, data: bytes, step: int) -> bytes:
        """What nginx answers to these bytes, until it closes the connection."""
        return exchanged(self.port, data, step)

    def handed_on(self) -> int:
        """How many requests nginx has sent to the server: a request that it tried twice is two."""
        return sum(
            len([status for status in line.split(",") if status.strip() != "-"])
            for line in self.log.read_text().splitlines()
        )

    def seen(self) -> list[str]:
        """The requests that the application has seen."""
        with self.server.http() as http:
            found: list[str] = http.get("/seen").json()
            return found

    def check(self, marks: int) -> None:
        """The server has seen no request that nginx did not send. `marks`: a number of its own."""
        mark = f"/mark/{marks}"
        # Over a connection that nginx has kept: what is left on it would be taken for this request.
        answer = self.tell(f"GET {mark} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 1000)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert f'"path":"{mark}"'.encode() in answer.replace(b" ", b""), answer
        wait_for(lambda: len(self.seen()) <= self.handed_on(), "nginx to know of each request")


@contextlib.contextmanager
def fronted(folder: Path, *, buffers: bool) -> Iterator[Fronted]:
    """Both of them. `buffers`: nginx takes whole requests and responses before it hands them on."""
    log = folder / "access"
    with Server("mirror", workers=1, environment={}, stderr=folder / "err") as server:
        port = nginx.free_port()
        site = _SITE.format(
            log=log, upstream=server.port, port=port, buffers="on" if buffers else "off"
        )
        with nginx.nginx(folder, port, site):
            yield Fronted(port, server, log)
