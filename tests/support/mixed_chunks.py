"""A stream of pieces of all sizes: what an application sends, and a test expects."""

from __future__ import annotations

import random
from collections.abc import Generator

_SIZES = (1, 100, 16 << 10, 20_000, 64 << 10, 100_000, 1 << 20)


def mixed(seed: int) -> Generator[bytes | str, None, None]:
    """8 MB or more of bytes and of text."""
    chosen, left = random.Random(seed), 8_000_000
    while left > 0:
        size = chosen.choice(_SIZES)
        left -= size
        piece = "x" + chosen.randbytes(size // 2).hex()
        yield piece if chosen.random() < 0.5 else piece.encode()


def as_bytes(piece: bytes | str) -> bytes:
    return piece.encode() if isinstance(piece, str) else piece
