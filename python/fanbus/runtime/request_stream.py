"""The streams that `request.stream()` returns: the body of a request, chunk by chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from fanbus import _core

__all__ = ["BodyStream", "WholeBody"]


class BodyStream(AsyncIterator[bytes], Iterator[bytes]):
    """The chunks of a body as they arrive. At most 64 KiB are read ahead of the handler.

    `async for` on the event loop, `for` on a thread. Raises HTTPError 413, 408 or 400 for a body
    that is too large, too slow, or incomplete.
    """

    def __init__(self, upload: _core.Upload) -> None:
        self._upload = upload

    def __iter__(self) -> BodyStream:
        return self

    def __next__(self) -> bytes:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "request.stream() is read with `async for` in an `async def`: `for` would block "
                "the event loop while the client sends."
            )
        piece = self._upload.wait()
        if not piece:
            raise StopIteration
        return piece

    def __aiter__(self) -> BodyStream:
        return self

    async def __anext__(self) -> bytes:
        while True:
            piece = self._upload.take()
            if piece is None:
                future = asyncio.get_running_loop().create_future()
                self._upload.ring(future)
                await future
            elif piece:
                return piece
            else:
                raise StopAsyncIteration


class WholeBody(AsyncIterator[bytes], Iterator[bytes]):
    """A body that was read before its handler was called, as one chunk."""

    def __init__(self, body: bytes) -> None:
        self._rest = body

    def __iter__(self) -> WholeBody:
        return self

    def __next__(self) -> bytes:
        piece, self._rest = self._rest, b""
        if not piece:
            raise StopIteration
        return piece

    def __aiter__(self) -> WholeBody:
        return self

    async def __anext__(self) -> bytes:
        for piece in self:
            return piece
        raise StopAsyncIteration
