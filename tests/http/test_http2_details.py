"""What HTTP/2 has in common with HTTP/1: one host, 100, OPTIONS, and responses without content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h2.events
import pytest

from support.certificates import Certificates
from support.http2_client import Connection, Received
from support.paths import APPS
from support.servers import Server
from support.status_routes import WAYS


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, authority: Certificates) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("http2") / "stderr"
    with Server("http1", workers=1, environment=authority.environment(), stderr=stderr) as server:
        yield server


@pytest.fixture
def client(served: Server, authority: Certificates) -> Iterator[Connection]:
    with Connection(served, authority) as client:
        yield client


def asked(client: Connection, path: str, method: str = "GET") -> Received:
    stream = client.request(path, method=method)
    client.flush()
    return Received(client, stream)


def with_hosts(client: Connection, authority: str | None, *hosts: str) -> Received:
    """The answer to a request that names these hosts."""
    head = [(":method", "GET"), (":path", "/host"), (":scheme", "https")]
    if authority is not None:
        head.append((":authority", authority))
    head += [("host", host) for host in hosts]
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, head, end_stream=True)
    client.flush()
    return Received(client, stream)


@pytest.mark.parametrize(
    ("pseudo", "hosts", "named"),
    [
        ("a.example", (), "a.example"),
        (None, ("a.example",), "a.example"),
        ("a.example", ("a.example",), "a.example"),
        ("a.example", ("A.EXAMPLE:443",), "a.example"),
        ("a.example:8443", ("a.example:8443",), "a.example:8443"),
        ("a.example", ("b.example",), None),
        ("a.example:8443", ("a.example",), None),
        ("a.example", ("a.example", "a.example"), None),
        (None, ("a.example", "b.example"), None),
        (None, ("a/b",), None),
    ],
)
def test_a_request_names_one_host(
    client: Connection, pseudo: str | None, hosts: tuple[str, ...], named: str | None
) -> None:
    """RFC 9113, section 8.3.1."""
    found = with_hosts(client, pseudo, *hosts)
    if named is None:
        assert found.head[b":status"] == b"400"
        assert b"host" in found.body
    else:
        assert found.head[b":status"] == b"200"
        assert found.body.replace(b" ", b"") == f'["{named}"]'.encode()
    assert asked(client, "/").body == b"hello", "the connection goes on"


def expecting(
    client: Connection, path: str, *, method: str = "PUT", length: int | None = None
) -> int:
    headers = {"expect": "100-Continue"}
    if length is not None:
        headers["content-length"] = str(length)
    stream = client.request(path, method=method, headers=headers, end=False)
    client.flush()
    return stream


@pytest.mark.parametrize(("path", "method"), [("/length", "POST"), ("/pieces", "PUT")])
def test_100_is_sent_when_the_handler_reads_the_body(
    client: Connection, path: str, method: str
) -> None:
    stream = expecting(client, path, method=method)
    interim = client.until(h2.events.InformationalResponseReceived, stream)
    assert isinstance(interim, h2.events.InformationalResponseReceived)
    assert dict(interim.headers) == {b":status": b"100"}
    client.h2.send_data(stream, b"12345", end_stream=True)
    client.flush()
    found = Received(client, stream)
    assert (found.head[b":status"], found.body, found.interim) == (b"200", b"5", [])


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("/small", 11, b"413"), ("/nowhere", None, b"404"), ("/", 5, b"405")],
)
def test_a_request_that_its_head_refuses_gets_no_100(
    client: Connection, path: str, length: int | None, status: bytes
) -> None:
    found = Received(client, expecting(client, path, length=length))
    assert (found.head[b":status"], found.interim) == (status, [])
    assert asked(client, "/").body == b"hello"


def test_a_client_that_does_not_wait_for_100_gets_its_answer(client: Connection) -> None:
    stream = client.request("/length", method="POST", headers={"expect": "100-continue"}, end=False)
    client.h2.send_data(stream, b"12345", end_stream=True)
    client.flush()
    found = Received(client, stream)
    assert (found.head[b":status"], found.body) == (b"200", b"5")


def test_options_are_answered_for_a_path_and_for_the_server(client: Connection) -> None:
    found = asked(client, "*", "OPTIONS")
    assert (found.head[b":status"], found.body) == (b"204", b"")
    assert b"content-length" not in found.head
    found = asked(client, "/length", "OPTIONS")
    assert (found.head[b":status"], found.head[b"allow"]) == (b"204", b"OPTIONS, POST")
    assert asked(client, "*").head[b":status"] == b"404"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_response_that_has_no_content_has_none_whatever_its_handler_returns(
    client: Connection, status: int, way: str, method: str
) -> None:
    found = asked(client, f"/nothing/{status}/{way}", method)
    assert found.head[b":status"] == str(status).encode()
    assert (found.body, found.trailers, found.is_reset) == (b"", None, False)
    # RFC 9110, sections 8.6 and 15.3.6.
    assert found.head.get(b"content-length") == (b"0" if status == 205 else None)
    assert asked(client, "/").body == b"hello"


@pytest.mark.parametrize("way", WAYS)
def test_head_has_the_head_of_get_and_no_content(client: Connection, way: str) -> None:
    path = f"/nothing/203/{way}"
    whole, head = asked(client, path), asked(client, path, "HEAD")
    assert whole.head.pop(b"date")
    assert head.head.pop(b"date")
    assert head.head == whole.head
    assert (head.body, head.is_reset) == (b"", False)
    assert whole.body
    length = whole.head.get(b"content-length")
    is_streamed = way in ("generator", "middleware-stream")
    assert length == (None if is_streamed else str(len(whole.body)).encode())


@pytest.mark.parametrize("stated", [3, 5, 7])
def test_a_stream_has_the_length_that_it_states_or_is_reset(
    client: Connection, stated: int
) -> None:
    found = asked(client, f"/stated/{stated}")
    assert found.is_reset is (stated != 5)
    if stated == 5:
        assert found.head[b"content-length"] == b"5"
        assert found.body == b"12345"
    head = asked(client, f"/stated/{stated}", "HEAD")
    assert head.head[b"content-length"] == str(stated).encode()
    assert (head.body, head.is_reset) == (b"", False)


def test_an_error_page_and_a_file_have_their_lengths(client: Connection) -> None:
    found = asked(client, "/nowhere")
    assert found.head[b"content-length"] == str(len(found.body)).encode()
    file = asked(client, "/nothing/200/file")
    size = (Path(APPS) / "http1.py").stat().st_size
    assert file.head[b"content-length"] == str(size).encode()
    assert len(file.body) == size
