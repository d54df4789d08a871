"""Streamed responses, files, conditional requests and compression, over real sockets."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from fanbus import Fanbus, FanbusError, Response
from support.raw_websocket import RawSocket
from support.servers import Server, wait_for


def serve(folder: Path, **environment: str) -> Server:
    public = folder / "public"
    (public / "sub").mkdir(parents=True)
    (folder / "secret").write_text("secret")
    (public / "a.txt").write_bytes(b"0123456789" * 1000)
    (public / "large.txt").write_bytes(os.urandom(4_000_000).hex().encode())
    (public / "index.html").write_text("the index")
    (public / "sub" / "ü b.css").write_text("css")
    (public / ".env").write_text("hidden")
    (public / "outside").symlink_to("../secret")
    (public / "folder-outside").symlink_to("..")
    (public / "inside").symlink_to("sub/ü b.css")
    os.mkfifo(public / "pipe")
    environment = {"FOLDER": str(folder), **environment}
    return Server("streams_and_files", workers=1, environment=environment, stderr=folder / "stderr")


@pytest.fixture(scope="module", params=["0", "1"], ids=["plain", "compressing"])
def sending(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("sending"), COMPRESSION=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("compressing"), COMPRESSION="1") as server:
        yield server


@pytest.fixture
def http(sending: Server) -> Iterator[httpx.Client]:
    with sending.http() as client:
        client.headers["accept-encoding"] = "identity"
        yield client


# Streams


def test_the_pieces_of_a_generator_are_the_body(http: httpx.Client) -> None:
    answer = http.get("/sync")
    assert answer.text == "äb"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert http.get("/list").text == "ab"
    assert http.post("/handler/async", content="this").text == "this and on"


def test_a_streamed_response_has_its_status_and_headers(http: httpx.Client) -> None:
    answer = http.get("/async")
    assert (answer.status_code, answer.content) == (201, b"\xffb")
    assert answer.headers["content-type"] == "application/x-thing"
    assert answer.headers["x-thing"] == "yes"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_piece_is_sent_before_the_next_one_is_made(http: httpx.Client, how: str) -> None:
    with http.stream("GET", f"/gate/{how}") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first"
        http.get("/open")
        assert b"".join(pieces) == b"second"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_large_stream_arrives_whole_and_in_order(http: httpx.Client, how: str) -> None:
    expected = b"".join(str(number % 10).encode() * 10_000 for number in range(400))
    assert http.get(f"/large/{how}").content == expected


def read_until(raw: RawSocket, text: bytes) -> None:
    """A generator whose first piece has come has begun: only then has it something to clean up."""
    received = b""
    while text not in received:
        piece = raw.socket.recv(1000)
        assert piece, "the connection is closed"
        received = received[-100:] + piece


def made(http: httpx.Client, kind: str) -> list[str]:
    return [text for text in http.get("/made").json() if text.startswith(kind)]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_generator_waits_for_a_slow_client_and_is_closed_when_it_goes(
    sending: Server, http: httpx.Client, how: str
) -> None:
    before = made(http, how)
    with RawSocket(sending.port) as raw:
        raw.write(f"GET /endless/{how} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        read_until(raw, b"xxx")
    wait_for(lambda: len(made(http, how)) > len(before), "the generator to be closed")
    count = int(made(http, how)[-1].split()[1])
    assert count < 2000, "20 MB were made for a client that took a few"


def test_a_generator_that_waits_is_cancelled_when_the_client_goes(
    sending: Server, http: httpx.Client
) -> None:
    before = made(http, "cancelled")
    with RawSocket(sending.port) as raw:
        raw.write(b"GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(raw, b"first")
    wait_for(lambda: len(made(http, "cancelled")) > len(before), "the cancellation")


@pytest.mark.parametrize("how", ["sync", "async"])
def test_head_has_no_stream_and_the_connection_goes_on(sending: Server, how: str) -> None:
    with RawSocket(sending.port) as raw:
        raw.write(f"HEAD /endless/{how} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = raw.answer(head_only=True)
        assert (head.status, head.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        raw.write(b"GET /made HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.answer().status == 200


@pytest.mark.parametrize(
    ("how", "said"),
    [("sync", "a bug in a generator"), ("async", "must yield str or bytes, got int")],
)
def test_a_generator_that_fails_breaks_the_connection_off(
    sending: Server, http: httpx.Client, how: str, said: str
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(f"/bug/{how}")
    sending.wait_for_log(said)


# Files


@pytest.mark.parametrize("path", ["/file", "/static/a.txt", "/inner/a.txt"])
def test_a_file_is_sent_in_parts_and_not_twice(http: httpx.Client, path: str) -> None:
    whole = http.get(path)
    assert whole.content == b"0123456789" * 1000
    assert whole.headers["content-type"].startswith("text/plain")
    assert "content-disposition" not in whole.headers
    part = http.get(path, headers={"Range": "bytes=5-7"})
    assert (part.status_code, part.text) == (206, "567")
    assert part.headers["content-range"] == "bytes 5-7/10000"
    assert http.get(path, headers={"Range": "bytes=10000-"}).status_code == 416
    for condition in (
        {"If-None-Match": whole.headers["etag"]},
        {"If-Modified-Since": whole.headers["last-modified"]},
    ):
        again = http.get(path, headers=condition)
        assert (again.status_code, again.content) == (304, b"")
    head = http.head(path)
    assert (head.headers["content-length"], head.content) == ("10000", b"")


@pytest.mark.parametrize("path", ["/file", "/static/a.txt"])
@pytest.mark.parametrize(
    ("asked", "status", "sent"),
    [
        ("bytes=-3", 206, "bytes 9997-9999/10000"),
        ("bytes=9990-20000", 206, "bytes 9990-9999/10000"),
        ("bytes=0-0", 206, "bytes 0-0/10000"),
        ("bytes=5-2", 416, "bytes */10000"),
        ("bytes=99999999999999999999-", 416, "bytes */10000"),
        # What is not understood, or could only be answered in part, is answered as a whole.
        ("lines=1-2", 200, None),
        ("bytes=0-1,4-5", 200, None),
        ("bytes=0-0, -1", 200, None),
        ("bytes=" + ",".join(f"{at}-" for at in range(500)), 200, None),
    ],
)
def test_a_range_is_what_is_sent_or_all_of_it(
    http: httpx.Client, path: str, asked: str, status: int, sent: str | None
) -> None:
    answer = http.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, sent)
    if status == 206:
        first, last = (sent or "").removeprefix("bytes ").partition("/")[0].split("-")
        whole = b"0123456789" * 1000
        assert answer.content == whole[int(first) : int(last) + 1]
    elif status == 200:
        assert len(answer.content) == 10_000


@pytest.mark.parametrize("path", ["/file", "/static/a.txt"])
def test_a_range_is_for_the_version_that_the_client_has(http: httpx.Client, path: str) -> None:
    known = http.head(path).headers
    for validator, status in (
        (known["etag"], 206),
        (known["last-modified"], 206),
        ('"another"', 200),
        (f"W/{known['etag']}", 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ("nonsense", 200),
    ):
        headers = {"Range": "bytes=0-1", "If-Range": validator}
        assert http.get(path, headers=headers).status_code == status, validator
    assert http.get(path, headers={"If-Match": '"another"'}).status_code == 412
    old = {"If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert http.get(path, headers=old).status_code == 412


def test_a_file_may_have_headers_and_a_name_to_be_saved_under(http: httpx.Client) -> None:
    answer = http.get("/file", params={"download": 'ü "x".txt'})
    assert answer.headers["x-thing"] == "yes"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"? _x_.txt\"; filename*=UTF-8''%C3%BC%20%22x%22.txt".replace(
            "?", "_"
        )
    )


def test_a_file_that_is_gone_is_404_and_one_that_never_was_a_bug(http: httpx.Client) -> None:
    assert http.get("/file/gone").status_code == 404
    assert http.get("/file/missing").status_code == 500


def test_a_folder_serves_its_files_and_indexes(http: httpx.Client) -> None:
    css = http.get("/static/sub/%C3%BC%20b.css")
    assert (css.text, css.headers["cache-control"]) == ("css", "public, max-age=60")
    assert css.headers["content-type"].startswith("text/css")
    assert http.get("/static/inside").text == "css"
    assert http.get("/static/").text == "the index"
    assert http.get("/inner/").text == "the index"
    assert http.get("/static").headers["location"] == "/static/"
    assert "cache-control" not in http.get("/inner/a.txt").headers
    assert http.post("/static/a.txt").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "sub",
        "sub/",
        "outside",
        "folder-outside/secret",
        ".env",
        "pipe",
        "a.txt/",
        "a.txt/b",
        "../secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "sub/..%2f..%2fsecret",
        "sub/../../secret",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "a.txt%00",
        "x" * 300,
        "%ff",
    ],
)
def test_nothing_outside_of_the_folder_is_served(sending: Server, path: str) -> None:
    with RawSocket(sending.port) as raw:
        raw.write(f"GET /static/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert raw.answer().status == 404


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FanbusError, match=r"nowhere is not a directory"):
        Fanbus("test").static("/static", tmp_path / "nowhere")
    with pytest.raises(FanbusError, match="max_age"):
        Fanbus("test").static("/static", tmp_path, max_age=-1)
    with pytest.raises(FanbusError, match="begin with a slash"):
        Fanbus("test").static("static", tmp_path)


def test_a_relative_folder_is_beside_the_file_that_names_it() -> None:
    app = Fanbus("test")
    app.static("/apps", "../apps")
    assert app.url_for("static", path="a/b c.css") == "/apps/a/b%20c.css"
    with pytest.raises(FanbusError, match=r"conflicts.*folder .*apps \(.*\.py:\d+\)"):
        app.static("/apps", "../apps")


# Conditional requests


def test_a_response_with_an_etag_is_not_sent_twice(http: httpx.Client) -> None:
    first = http.get("/tagged")
    tag = first.headers["etag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = http.get("/tagged", headers={"If-None-Match": condition})
        assert (again.status_code, again.content) == (304, b""), condition
        assert again.headers["etag"] == tag
    assert http.get("/tagged", headers={"If-None-Match": '"other"'}).json() == first.json()


def test_a_response_with_a_date_is_not_sent_twice(http: httpx.Client) -> None:
    for date, status in (
        ("Wed, 21 Oct 2015 07:28:00 GMT", 304),
        ("Wed, 21 Oct 2015 07:27:59 GMT", 200),
        ("no date", 200),
    ):
        assert http.get("/modified", headers={"If-Modified-Since": date}).status_code == status


@pytest.mark.parametrize("tag", ['a"b', "a b", "ü", "\n"])
def test_an_etag_cannot_end_early(tag: str) -> None:
    with pytest.raises(ValueError, match="ETag"):
        Response("x").set_etag(tag)


def test_a_stream_has_no_etag_of_its_own() -> None:
    with pytest.raises(ValueError, match="pass the ETag as a string"):
        Response(iter(["a"])).set_etag()
    response = Response(iter(["a"]))
    response.set_etag("v1", weak=True)
    assert ("etag", 'W/"v1"') in response.headers


# Compression


@pytest.fixture
def compressed(compressing: Server) -> Iterator[httpx.Client]:
    with compressing.http() as client:
        yield client


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_what_the_client_takes_is_compressed(compressing: Server, encoding: str) -> None:
    with RawSocket(compressing.port) as raw:
        head = f"Host: x\r\nAccept-Encoding: {encoding}\r\n\r\n"
        raw.write(f"GET /json/100000 HTTP/1.1\r\n{head}".encode())
        answer = raw.answer(head_only=True)
    assert answer.headers["content-encoding"] == encoding
    assert answer.headers["vary"].lower() == "accept-encoding"


def test_what_is_compressed_is_the_same(compressed: httpx.Client) -> None:
    answer = compressed.get("/json/100000", headers={"Accept-Encoding": "gzip"})
    assert answer.json() == {"value": "x" * 100_000}
    assert answer.num_bytes_downloaded < 2000
    with compressed.stream("GET", "/static/a.txt", headers={"Accept-Encoding": "gzip"}) as file:
        assert gzip.decompress(b"".join(file.iter_raw())) == b"0123456789" * 1000


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_higher_level_gives_fewer_bytes_of_the_same_content(
    tmp_path: Path, encoding: str
) -> None:
    sizes = []
    for level in ("1", None, "9"):
        folder = tmp_path / f"level-{level}"
        folder.mkdir()
        chosen = {} if level is None else {"LEVEL": level}
        with serve(folder, COMPRESSION="1", **chosen) as server, server.http() as http:
            answer = http.get("/rows/3000", headers={"Accept-Encoding": encoding})
            assert answer.headers["content-encoding"] == encoding
            sizes.append(answer.num_bytes_downloaded)
            if encoding == "gzip":
                assert answer.json()[2999]["id"] == 2999
    assert sizes[0] > sizes[-1]
    assert len(set(sizes)) == 3, "the default is another level"


@pytest.mark.parametrize("level", [0, 10, -1, 4.0, True, "4"])
def test_a_level_that_does_not_exist_is_refused(level: Any) -> None:
    with pytest.raises(FanbusError, match="from 1 to 9"):
        Fanbus(compression=True, compression_level=level)


def test_a_level_without_compression_is_refused() -> None:
    with pytest.raises(FanbusError, match="compression=True"):
        Fanbus(compression_level=4)


def test_an_etag_is_weak_for_what_is_compressed(compressed: httpx.Client) -> None:
    headers = {"Accept-Encoding": "gzip"}
    tag = compressed.get("/tagged", headers=headers).headers["etag"]
    assert tag.startswith('W/"')
    assert compressed.get("/tagged", headers={**headers, "If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/json/100000", {"Accept-Encoding": "identity"}),
        ("/json/100000", {"Accept-Encoding": "gzip;q=0"}),
        ("/json/100000", {"Accept-Encoding": "x-unknown"}),
        ("/json/100", {}),
        ("/kind?content-type=image/png", {}),
        ("/kind?content-type=text/event-stream", {}),
        ("/kind?content-encoding=br", {}),
        ("/kind?cache-control=no-transform", {}),
        ("/kind?status=206", {}),
        ("/static/a.txt", {"Range": "bytes=0-5000"}),
        ("/ticks", {}),
    ],
)
def test_what_would_not_gain_is_left_as_it_is(
    compressing: Server, path: str, headers: dict[str, Any]
) -> None:
    lines = {"Accept-Encoding": "gzip, br, zstd", "Host": "x", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with RawSocket(compressing.port) as raw:
        raw.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = raw.answer(head_only=True)
    expected = "br" if "content-encoding=br" in path else None
    assert answer.headers.get("content-encoding") == expected


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_stream_is_compressed_and_no_piece_is_held_back(
    compressed: httpx.Client, how: str, encoding: str
) -> None:
    compressed.get("/close")
    headers = {"Accept-Encoding": encoding}
    with compressed.stream("GET", f"/gate/{how}", headers=headers) as answer:
        assert answer.headers["content-encoding"] == encoding
        assert answer.headers["vary"] == "accept-encoding"
        pieces = answer.iter_raw()
        whole = b""
        # Too short to be anything but text. The second one is made when the first is here.
        while b"first" not in (gunzipped(whole) if encoding == "gzip" else whole):
            whole += next(pieces)
        compressed.get("/open")
        whole += b"".join(pieces)
    if encoding == "gzip":
        assert gzip.decompress(whole) == b"firstsecond"
    else:
        assert b"second" in whole


def gunzipped(begun: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(begun)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_large_stream_is_the_same_and_smaller(compressed: httpx.Client, how: str) -> None:
    answer = compressed.get(f"/large/{how}", headers={"Accept-Encoding": "gzip"})
    assert answer.content == b"".join(str(number % 10).encode() * 10_000 for number in range(400))
    assert answer.num_bytes_downloaded < 200_000


def test_the_head_of_a_stream_is_that_of_get(compressed: httpx.Client) -> None:
    head = compressed.head("/endless/sync", headers={"Accept-Encoding": "gzip"})
    assert (head.headers["content-encoding"], head.headers["vary"]) == ("gzip", "accept-encoding")


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_generator_is_closed_when_the_client_of_its_compressed_stream_goes(
    compressing: Server, compressed: httpx.Client, how: str
) -> None:
    before = made(compressed, how)
    with RawSocket(compressing.port, receive_buffer=4096) as raw:
        head = "Host: x\r\nAccept-Encoding: gzip\r\n\r\n"
        raw.write(f"GET /endless/{how} HTTP/1.1\r\n{head}".encode())
        assert raw.answer(head_only=True).headers["content-encoding"] == "gzip"
        raw.read(1)  # as in `read_until`: nothing comes behind the head before there is a piece
    wait_for(lambda: len(made(compressed, how)) > len(before), "the generator to be closed")


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_compressed_stream_that_fails_does_not_look_whole(
    compressed: httpx.Client, how: str
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        compressed.get(f"/bug/{how}", headers={"Accept-Encoding": "gzip"})


def test_what_is_above_the_limit_of_compressors_is_sent_as_it_is(
    compressing: Server, compressed: httpx.Client
) -> None:
    ask = {"Accept-Encoding": "gzip"}

    def is_compressed(path: str) -> bool:
        with compressed.stream("GET", path, headers=ask) as answer:
            assert answer.headers["vary"] == "accept-encoding"
            return "content-encoding" in answer.headers

    with ExitStack() as stack:
        # Of files, the compressors are kept by clients that do not read.
        for path, count in (("/waiting", 64), ("/static/large.txt", 64)):
            for _ in range(count):
                raw = stack.enter_context(RawSocket(compressing.port, receive_buffer=4096))
                raw.write(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n".encode()
                )
                assert raw.answer(head_only=True).headers["content-encoding"] == "gzip"
            assert not is_compressed("/waiting")
            assert is_compressed("/json/5000") is (path == "/waiting")
        plain = compressed.get("/json/5000", headers=ask)
        assert plain.json() == {"value": "x" * 5000}
    for path in ("/json/5000", "/sync"):
        wait_for(lambda: is_compressed(path), "the place of one who has gone")  # noqa: B023


def test_without_the_option_nothing_is_compressed(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with server.http() as http:
            answer = http.get("/json/100000", headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in answer.headers
        assert "vary" not in answer.headers
