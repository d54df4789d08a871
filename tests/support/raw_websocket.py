"""A WebSocket client that does what it is told, also what the protocol forbids."""

from __future__ import annotations

import base64
import hashlib
import os
import select
import socket
import ssl
import struct
from types import TracebackType
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


class Frame(NamedTuple):
    """One frame, as it came."""

    opcode: int
    payload: bytes
    final: bool


class Answer(NamedTuple):
    """The head of an HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def masked(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 section 5.3."""
    if not payload:
        return payload
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return mixed.to_bytes(len(payload), "big")


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    mask: bool = True,
    reserved: int = 0,
    announced: int | None = None,
) -> bytes:
    """A client's frame. `announced` lies about the length."""
    length = len(payload) if announced is None else announced
    head = bytearray([(0x80 if final else 0) | reserved << 4 | opcode])
    flag = 0x80 if mask else 0
    if length < 126:
        head.append(flag | length)
    elif length < 65536:
        head.append(flag | 126)
        head += struct.pack(">H", length)
    else:
        head.append(flag | 127)
        head += struct.pack(">Q", length)
    if not mask:
        return bytes(head) + payload
    key = os.urandom(4)
    return bytes(head) + key + masked(payload, key)


def upgrade_request(path: str, headers: dict[str, str | None] | None = None) -> tuple[bytes, str]:
    """The bytes of an opening handshake, and the Sec-WebSocket-Accept it should get."""
    key = base64.b64encode(os.urandom(16))
    wanted: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"GET {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in wanted.items() if value is not None]
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), accept


class SecurePort(int):
    """A port that speaks TLS: who connects to it does so too, without a look at its certificate."""

    def secured(self, connected: socket.socket) -> ssl.SSLSocket:
        """The connection, after the handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return context.wrap_socket(connected)


class RawSocket:
    """A TCP connection that knows HTTP answers and WebSocket frames. Every wait is bounded."""

    def __init__(
        self, port: int, *, receive_buffer: int | None = None, source: str | None = None
    ) -> None:
        self.socket = socket.socket()
        if source is not None:
            self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        try:
            self.socket.connect(("127.0.0.1", port))
            if isinstance(port, SecurePort):
                self.socket = port.secured(self.socket)
        except OSError:
            self.socket.close()
            raise
        self._buffer = bytearray()

    @classmethod
    def on(cls, connected: socket.socket) -> RawSocket:
        """The same on a connection that somebody else has made."""
        new = cls.__new__(cls)
        new.socket, new._buffer = connected, bytearray()
        return new

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        """All of it."""
        self.socket.sendall(data)

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; EOFError if the connection ends before."""
        while len(self._buffer) < count:
            received = self.socket.recv(262_144)
            if not received:
                raise EOFError(f"the connection ended {count - len(self._buffer)} bytes early")
            self._buffer += received
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def read_line(self) -> bytes:
        """Up to and without CRLF."""
        while b"\r\n" not in self._buffer:
            received = self.socket.recv(65536)
            if not received:
                raise EOFError("the connection ended in a line")
            self._buffer += received
        line, _, rest = bytes(self._buffer).partition(b"\r\n")
        self._buffer = bytearray(rest)
        return line

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next HTTP response."""
        status = int(self.read_line().split(b" ")[1])
        headers: dict[str, str] = {}
        while line := self.read_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if head_only or status == 101 else int(headers.get("content-length", "0"))
        return Answer(status, headers, self.read(length))

    def upgrade(self, path: str, headers: dict[str, str | None] | None = None) -> Answer:
        """Sends an opening handshake; checks the accept key if it succeeds."""
        request, accept = upgrade_request(path, headers)
        self.write(request)
        answer = self.answer()
        if answer.status == 101:
            assert answer.headers["sec-websocket-accept"] == accept
        return answer

    def open(self, path: str, headers: dict[str, str | None] | None = None) -> Answer:
        """Opens a WebSocket; fails if it is refused."""
        answer = self.upgrade(path, headers)
        assert answer.status == 101, answer
        return answer

    def send(self, opcode: int, payload: bytes = b"", **how: bool | int | None) -> None:
        """One frame. `how` as in `encode`."""
        self.write(encode(opcode, payload, **how))  # type: ignore[arg-type]

    def frame(self) -> Frame:
        """The next frame of the server, which never masks."""
        first, second = self.read(2)
        assert second & 0x80 == 0, "a server's frame is masked"
        assert first & 0x70 == 0, "reserved bits without an extension"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.read(8))
        return Frame(first & 0x0F, self.read(length), bool(first & 0x80))

    def message(self) -> str | bytes:
        """The next message; answers pings on the way. AssertionError if it is a close."""
        while True:
            frame = self.frame()
            if frame.opcode == PING:
                self.send(PONG, frame.payload)
            elif frame.opcode == TEXT:
                return frame.payload.decode()
            elif frame.opcode == BINARY:
                return frame.payload
            else:
                assert frame.opcode != CLOSE, f"closed: {close_of(frame)}"

    def closed(self) -> tuple[int, str]:
        """Reads on until the close frame; its code and reason."""
        while True:
            frame = self.frame()
            if frame.opcode == CLOSE:
                return close_of(frame)

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return not self._buffer and not select.select([self.socket], [], [], seconds)[0]

    def ended(self) -> bool:
        """Whether the server ends the TCP connection, too; waits for it."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
        return True


def close_of(frame: Frame) -> tuple[int, str]:
    """Code and reason of a close frame; 1005 if it has none."""
    if not frame.payload:
        return 1005, ""
    return struct.unpack(">H", frame.payload[:2])[0], frame.payload[2:].decode()


def closing(code: int, reason: str = "") -> bytes:
    """The payload of a close frame."""
    return struct.pack(">H", code) + reason.encode()
