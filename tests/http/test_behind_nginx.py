"""Requests whose end could be understood in two ways, with nginx in front: the server never sees a
request that nginx did not send."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from support.behind_nginx import fronted

INNER = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMINGS = [
    b"Content-Length: %d\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: +0\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n",
    b"Content-Length: 0, %d\r\n",
    b"Content-Length : %d\r\n",
    b"Content-Length: 0x0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: CHUNKED\r\n",
    b"Transfer-Encoding: identity\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: identity, chunked\r\n",
    b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding:\tchunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b" Transfer-Encoding: chunked\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\n",
    b"X: y\nTransfer-Encoding: chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Connection: close, Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\nContent-Length: %d\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n",
    b"",
]
"""Headers that say how long a body is. `%d`: the length of the whole body."""

BODIES = [
    INNER,
    b"0\r\n\r\n" + INNER,
    b"%x\r\n%s\r\n0\r\n\r\n" % (len(INNER), INNER),
    b"1;a=b\r\nx\r\n0\r\nTrailer: x\r\n\r\n" + INNER,
    b"00000000000000000001\r\nx\r\n0\r\n\r\n" + INNER,
    b"10000000000000001\r\nx\r\n0\r\n\r\n" + INNER,
    b"1 \r\nx\r\n0 \r\n\r\n" + INNER,
    b"1\nx\n0\n\n" + INNER,
    b"1\r\nxx\r\n0\r\n\r\n" + INNER,
    b"1;a=\n\r\nx\r\n0\r\n\r\n" + INNER,
]
METHODS = [b"POST", b"GET", b"HEAD"]


@pytest.mark.parametrize("buffers", [True, False])
def test_the_server_sees_no_request_that_nginx_did_not_send(tmp_path: Path, buffers: bool) -> None:
    with fronted(tmp_path, buffers=buffers) as both:
        for number, (framing, body) in enumerate(product(FRAMINGS, BODIES)):
            fields = framing % len(body) if b"%d" in framing else framing
            for method in METHODS:
                head = method + b" /outer HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
                both.tell(head + body, 10_000)
            if number % 10 == 0:
                both.check(number)
        both.check(number + 1)
        # The test means something: some of the bodies are requests of their own, for nginx too.
        assert both.seen().count("GET /smuggled") > 10
        assert both.seen().count("POST /outer") > 10
