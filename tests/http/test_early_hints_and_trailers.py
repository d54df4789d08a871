"""Early hints ahead of a response, and trailers behind its body, over HTTP/1 and HTTP/2."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fanbus import Response
from support.certificates import Certificates
from support.http2_client import Connection, Received
from support.raw_websocket import RawSocket
from support.servers import Server

HINTS = (
    b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nlink: </script.js>; rel=preload; as=script\r\nx-hint: 2\r\n\r\n"
)
FIRST_HINT, SECOND_HINT = (
    HINTS[: HINTS.index(b"\r\n\r\n") + 4],
    HINTS[HINTS.index(b"\r\n\r\n") + 4 :],
)
LINES = b"".join(b"line %d\n" % number for number in range(300))
DIGEST = hashlib.sha256(LINES).hexdigest().encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("interim") / "stderr"
    with Server("early_hints", workers=1, environment={}, stderr=stderr) as server:
        yield server


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Certificates) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("interim") / "stderr"
    with Server(
        "early_hints", workers=1, environment=authority.environment(), stderr=stderr
    ) as server:
        yield server


def request(path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    head = [f"{method} {path} HTTP/{version}", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head).encode()


LAST = request("/go-on", "Connection: close")


def everything(server: Server, data: bytes) -> bytes:
    """All that comes back, without dates."""
    received = b""
    with RawSocket(server.port) as client:
        client.write(data)
        while piece := client.socket.recv(65536):
            received += piece
    return re.sub(rb"date: [^\r]*\r\n", b"", received)


def plain(body: bytes, *, closes: bool = False) -> bytes:
    end = b"connection: close\r\n" if closes else b""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n"
        b"content-length: %d\r\n%s\r\n%s" % (len(body), end, body)
    )


# Early hints


def test_hints_come_before_the_response_of_their_own_request(served: Server) -> None:
    pipelined = request("/def") + request("/go-on") + request("/async") + LAST
    ok = plain(b"ok")
    expected = HINTS + plain(b"def") + ok + HINTS + plain(b"async") + plain(b"ok", closes=True)
    for _ in range(20):
        assert everything(served, pipelined) == expected


def test_hints_of_middleware_come_first_and_head_has_them(served: Server) -> None:
    head = plain(b"async").removesuffix(b"async")
    of_middleware = b"HTTP/1.1 103 Early Hints\r\nlink: </middleware.css>\r\n\r\n"
    asked = request("/async?middleware", method="HEAD") + LAST
    expected = of_middleware + HINTS + head + plain(b"ok", closes=True)
    assert everything(served, asked) == expected


def test_hints_are_sent_at_once(served: Server) -> None:
    with RawSocket(served.port) as client, served.http() as other:
        client.write(request("/waits"))
        assert client.read(len(FIRST_HINT)) == FIRST_HINT
        assert other.get("/go-on").text == "ok"
        assert client.answer().body == b"waited"


def test_old_clients_get_no_hints(served: Server) -> None:
    for path in ("/def", "/async"):
        answer = everything(served, request(path, version="1.0"))
        assert answer == plain(path[1:].encode(), closes=True)


@pytest.mark.parametrize(
    ("case", "kind", "sentence"),
    [
        ("framing", "ValueError", "content-length"),
        ("line", "ValueError", "cannot be a header"),
        ("name", "ValueError", "cannot be a header"),
        ("kind", "TypeError", "not iterable"),
        ("many", "RuntimeError", "16 early hints"),
    ],
)
def test_what_cannot_be_a_hint_is_refused(
    served: Server, case: str, kind: str, sentence: str
) -> None:
    with served.http() as http:
        found = http.get(f"/refused/{case}").json()
    assert found[0] == kind
    assert sentence in found[1]


def test_behind_the_response_hints_are_refused(served: Server) -> None:
    with served.http() as http:
        assert "before the handler returns" in http.get("/late").text


def test_a_client_that_knows_no_hints_gets_its_response(served: Server) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}", trust_env=False) as client:
        for path in ("/def", "/async"):
            assert client.get(path).text == path[1:]


# Trailers


def chunks(body: bytes) -> tuple[bytes, bytes]:
    """The content of a chunked body, and what follows its last chunk."""
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return content, body
        content += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]


KINDS = ["def", "async", "def-function", "async-function"]


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_trailers_follow_the_last_chunk_for_clients_that_take_them(
    served: Server, how: str, encoding: str
) -> None:
    asked = request(f"/digest/{how}", "TE: trailers", f"Accept-Encoding: {encoding}") + LAST
    answer = everything(served, asked)
    head, _, rest = answer.partition(b"\r\n\r\n")
    is_function = how.endswith("function")
    assert (b"\r\ntrailer: content-digest, server-timing" in head) is not is_function
    content, behind = chunks(rest)
    assert (gzip.decompress(content) if encoding == "gzip" else content) == LINES
    lines = b"content-digest: " + DIGEST + b"\r\n"
    if not is_function:
        lines += b"server-timing: db;dur=5\r\n"
    assert behind == lines + b"\r\n" + plain(b"ok", closes=True)


@pytest.mark.parametrize("how", KINDS)
def test_clients_that_do_not_say_so_get_no_trailers(served: Server, how: str) -> None:
    answer = everything(served, request(f"/digest/{how}", "TE: gzip") + LAST)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"trailer:" not in head
    content, behind = chunks(rest)
    assert content == LINES
    assert behind == b"\r\n" + plain(b"ok", closes=True)
    answer = everything(served, request(f"/digest/{how}", "TE: trailers", version="1.0"))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"trailer:" not in head
    assert b"transfer-encoding" not in head
    assert rest == LINES


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/status/204", "GET"),
        ("/status/205", "GET"),
        ("/status/304", "GET"),
        ("/status/200", "HEAD"),
        ("/stated", "GET"),
    ],
)
def test_responses_without_chunks_have_no_trailers(served: Server, path: str, method: str) -> None:
    answer = everything(served, request(path, "TE: trailers", method=method) + LAST)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"trailer" not in head
    body = b"body" if path == "/stated" else b""
    assert rest == body + plain(b"ok", closes=True)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("generator", "LookupError: the generator"),
        ("raises", "LookupError: the trailers"),
        ("forbidden", 'The field "content-length" cannot be a trailer'),
        ("line", "cannot be a header"),
        ("coroutine", "got an async one"),
        ("kind", "not iterable"),
    ],
)
def test_a_stream_that_is_broken_off_has_no_trailers(
    served: Server, case: str, sentence: str
) -> None:
    answer = everything(served, request(f"/fails/{case}", "TE: trailers"))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest in (b"3\r\none\r\n", b""), "it has no end"
    served.wait_for_log(sentence)


@pytest.mark.parametrize("case", ["known", "name"])
def test_names_that_cannot_be_trailers_are_an_error_before_the_response(
    served: Server, case: str
) -> None:
    answer = everything(served, request(f"/fails/{case}", "TE: trailers", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    sentence = 'The field "transfer-encoding" cannot be a trailer' if case == "known" else '"a b"'
    served.wait_for_log(sentence)


def test_trailers_need_a_body_that_is_made_while_it_is_sent() -> None:
    given: Any
    for given in ("text", b"bytes", {"a": 1}, None):
        with pytest.raises(ValueError, match="must be an iterator or a generator, got"):
            Response(given, trailers={"x-end": "1"})
    given = 5
    with pytest.raises(TypeError, match=r"must be a mapping .* got int"):
        Response(iter(()), trailers=given)


# HTTP/2


def asked(
    server: Server, authority: Certificates, path: str, *, method: str = "GET", **headers: str
) -> Received:
    with Connection(server, authority) as client:
        stream = client.request(path, method=method, headers=headers)
        client.flush()
        return Received(client, stream)


EARLY = [
    {b":status": b"103", b"link": b"</style.css>; rel=preload; as=style"},
    {b":status": b"103", b"link": b"</script.js>; rel=preload; as=script", b"x-hint": b"2"},
]


@pytest.mark.parametrize("how", ["def", "async"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_hints_over_http2(secure: Server, authority: Certificates, how: str, method: str) -> None:
    found = asked(secure, authority, f"/{how}", method=method)
    assert found.interim == EARLY
    assert found.head[b":status"] == b"200"
    assert found.body == (how.encode() if method == "GET" else b"")
    assert found.trailers is None


@pytest.mark.parametrize("how", KINDS)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_trailers_over_http2(
    secure: Server, authority: Certificates, how: str, encoding: str
) -> None:
    found = asked(
        secure, authority, f"/digest/{how}", te="trailers", **{"accept-encoding": encoding}
    )
    body = gzip.decompress(found.body) if encoding == "gzip" else found.body
    assert body == LINES
    assert found.trailers is not None
    assert found.trailers.pop(b"content-digest") == DIGEST
    is_function = how.endswith("function")
    assert found.trailers == ({} if is_function else {b"server-timing": b"db;dur=5"})
    announced = found.head.get(b"trailer")
    assert announced == (None if is_function else b"content-digest, server-timing")


def test_trailers_over_http2_are_for_clients_that_take_them(
    secure: Server, authority: Certificates
) -> None:
    found = asked(secure, authority, "/digest/def")
    assert found.body == LINES
    assert found.trailers is None
    assert b"trailer" not in found.head
    # A length does not stand in their way here.
    found = asked(secure, authority, "/stated", te="trailers")
    assert found.head[b"content-length"] == b"4"
    assert found.trailers == {b"x-end": b"1"}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/status/204", "GET"),
        ("/status/205", "GET"),
        ("/status/304", "GET"),
        ("/status/200", "HEAD"),
    ],
)
def test_responses_without_content_over_http2_have_no_trailers(
    secure: Server, authority: Certificates, path: str, method: str
) -> None:
    found = asked(secure, authority, path, method=method, te="trailers")
    assert (found.body, found.trailers, found.is_reset) == (b"", None, False)
    assert b"trailer" not in found.head


@pytest.mark.parametrize("case", ["generator", "raises", "forbidden"])
def test_a_stream_that_is_broken_off_over_http2_has_no_trailers(
    secure: Server, authority: Certificates, case: str
) -> None:
    found = asked(secure, authority, f"/fails/{case}", te="trailers")
    assert found.is_reset
    assert found.trailers is None
