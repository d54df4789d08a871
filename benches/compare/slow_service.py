"""A service that answers each request after a while, and does nothing else. It says its port first.

HTTP/1.1, one request at a time on each connection, without a body, as the clients of the
applications here send them.
"""

import asyncio
import json

DELAY_S = 0.1
BODY = json.dumps({"answer": "x" * 100}).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Connection(asyncio.Protocol):
    """One client, which waits for each answer before it asks again."""

    def __init__(self) -> None:
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._head = b""
            asyncio.get_running_loop().call_later(DELAY_S, self._answer)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(ANSWER)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
