"""Files over real sockets: their validators, ranges, encodings, and how they are sent."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from support.raw_websocket import RawSocket
from support.servers import Server, wait_for

TEXT = b"0123456789" * 1000
LARGE = os.urandom(8 << 20)


def serve(folder: Path, **environment: str) -> Server:
    public = folder / "public"
    (public / "sub").mkdir(parents=True)
    (public / "empty").mkdir()
    (public / "a.txt").write_bytes(TEXT)
    (public / "none.txt").write_bytes(b"")
    (public / "large.bin").write_bytes(LARGE)
    (public / "sub" / "index.html").write_text("the index")
    (public / "c.css").write_bytes(TEXT)
    (public / "c.css.br").write_bytes(b"as br")
    (public / "c.css.zst").write_bytes(b"as zstd")
    (public / "c.css.gz").write_bytes(gzip.compress(TEXT))
    (public / "d.js").write_bytes(TEXT)
    (public / "d.js.gz").write_bytes(gzip.compress(TEXT))
    environment = {"FOLDER": str(public), **environment}
    return Server("files", workers=1, environment=environment, stderr=folder / "stderr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def files(folder: Path) -> Iterator[Server]:
    with serve(folder) as server:
        yield server


@pytest.fixture
def http(files: Server) -> Iterator[httpx.Client]:
    with files.http() as client:
        client.headers["accept-encoding"] = "identity"
        yield client


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("compressing")
    with serve(folder, COMPRESSION="1") as server, server.http() as client:
        yield client


def test_a_copy_of_a_file_has_the_same_etag(http: httpx.Client, folder: Path) -> None:
    public = folder / "public"
    shutil.copy2(public / "a.txt", public / "copy.txt")
    tag = http.get("/plain/a.txt").headers["etag"]
    assert http.get("/plain/copy.txt").headers["etag"] == tag
    os.utime(public / "copy.txt", (1_000_000_000, 1_000_000_000))
    assert http.get("/plain/copy.txt").headers["etag"] != tag


@pytest.mark.parametrize("asked", ["bytes=-1", "bytes=0-", "bytes=0-0"])
def test_empty_file_is_sent_whole_for_any_range(http: httpx.Client, asked: str) -> None:
    answer = http.get("/plain/none.txt", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, b"")
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("last", [2**64 - 1, 2**64, 10**40])
def test_a_range_may_end_behind_every_number(http: httpx.Client, last: int) -> None:
    answer = http.get("/plain/a.txt", headers={"Range": f"bytes=9990-{last}"})
    assert (answer.status_code, answer.content) == (206, TEXT[9990:])
    assert answer.headers["content-range"] == "bytes 9990-9999/10000"


def test_headers_of_the_handler_stand_in_place_of_the_files(http: httpx.Client) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    own = {"ETag": '"mine"', "Last-Modified": date}
    answer = http.get("/own", params=own)
    assert answer.headers.get_list("etag") == ['"mine"']
    assert answer.headers.get_list("last-modified") == [date]
    for condition, status in (
        ({"If-None-Match": '"mine"'}, 304),
        ({"If-None-Match": http.get("/own").headers["etag"]}, 200),
        ({"If-Match": '"mine"'}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Modified-Since": date}, 304),
        ({"If-Unmodified-Since": date}, 200),
        ({"Range": "bytes=0-1", "If-Range": '"mine"'}, 206),
        ({"Range": "bytes=0-1", "If-Range": date}, 206),
    ):
        assert http.get("/own", params=own, headers=condition).status_code == status, condition
    for own in ({"Accept-Ranges": "none"}, {"Content-Range": "bytes 0-9999/99999"}):
        answer = http.get("/own", params=own, headers={"Range": "bytes=0-1"})
        assert (answer.status_code, len(answer.content)) == (200, 10_000)
        for name, value in own.items():
            assert answer.headers.get_list(name) == [value]


def test_a_folder_with_an_index_is_redirected_to(http: httpx.Client) -> None:
    answer = http.get("/plain/sub?a=1")
    assert answer.status_code == 307
    assert answer.next_request is not None
    assert answer.next_request.url.raw_path == b"/plain/sub/?a=1"
    assert http.send(answer.next_request).text == "the index"
    assert http.get("/plain/empty").status_code == 404


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("br;q=0, *", "zstd"),
        ("deflate", None),
        ("identity", None),
    ],
)
def test_a_file_that_was_compressed_beforehand_is_sent_to_clients_that_take_it(
    files: Server, accepted: str, encoding: str | None
) -> None:
    expected = {"br": b"as br", "zstd": b"as zstd", "gzip": gzip.compress(TEXT), None: TEXT}
    with RawSocket(files.port) as raw:
        head = f"Host: x\r\nAccept-Encoding: {accepted}\r\n\r\n"
        raw.write(f"GET /packed/c.css HTTP/1.1\r\n{head}".encode())
        answer = raw.answer()
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["vary"] == "accept-encoding"
    if encoding != "gzip":  # its header has the time
        assert answer.body == expected[encoding]
    else:
        assert gzip.decompress(answer.body) == TEXT


def test_each_encoding_of_a_file_has_its_own_etag(http: httpx.Client) -> None:
    tags = set()
    for accepted in ("br", "zstd", "gzip", "identity"):
        headers = {"Accept-Encoding": accepted}
        with http.stream("GET", "/packed/c.css", headers=headers) as answer:
            tag = answer.headers["etag"]
        tags.add(tag)
        again = http.get("/packed/c.css", headers={**headers, "If-None-Match": tag})
        assert (again.status_code, again.headers["etag"]) == (304, tag)
        assert again.headers["vary"] == "accept-encoding"
    assert len(tags) == 4
    # Only gzip is there of this one.
    answer = http.get("/packed/d.js", headers={"Accept-Encoding": "br, gzip"})
    assert (answer.headers["content-encoding"], answer.content) == ("gzip", TEXT)
    # Nothing is, without the option.
    answer = http.get("/plain/c.css", headers={"Accept-Encoding": "br"})
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("path", ["/plain/a.txt", "/own"])
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_304_and_206_have_the_vary_and_the_etag_of_their_200(
    compressing: httpx.Client, path: str, accepted: str
) -> None:
    headers = {"Accept-Encoding": accepted}
    whole = compressing.get(path, headers=headers)
    tag = whole.headers["etag"]
    assert tag.startswith("W/") == (accepted == "gzip")
    known = compressing.get(path, headers={**headers, "If-None-Match": tag})
    part = compressing.get(path, headers={**headers, "Range": "bytes=0-4"})
    assert (known.status_code, part.status_code, part.content) == (304, 206, b"01234")
    for answer in (known, part):
        assert answer.headers["etag"] == tag
        assert answer.headers["vary"] == whole.headers["vary"] == "accept-encoding"
    small = compressing.get("/plain/none.txt", headers=headers)
    again = {**headers, "If-None-Match": small.headers["etag"]}
    assert "vary" not in small.headers
    assert "vary" not in compressing.get("/plain/none.txt", headers=again).headers


def test_a_large_file_and_its_parts_arrive_whole(http: httpx.Client) -> None:
    assert hashlib.sha256(http.get("/plain/large.bin").content).digest() == (
        hashlib.sha256(LARGE).digest()
    )
    for first, last in ((1, 5_000_000), (8_000_000, len(LARGE) - 1), (4095, 4096 + 70_000)):
        part = http.get("/plain/large.bin", headers={"Range": f"bytes={first}-{last}"})
        assert part.content == LARGE[first : last + 1]
    # The connection goes on behind it.
    assert http.get("/plain/a.txt").content == TEXT


def test_a_file_that_shrinks_while_it_is_sent_does_not_look_whole(
    files: Server, folder: Path
) -> None:
    path = folder / "public" / "shrinks.bin"
    path.write_bytes(bytes(64 << 20))
    with RawSocket(files.port) as raw:
        raw.write(b"GET /plain/shrinks.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        received = len(raw.socket.recv(1000))
        os.truncate(path, 1000)
        while piece := raw.socket.recv(1 << 20):
            received += len(piece)
    assert received < 64 << 20


def test_slow_downloads_hold_little(files: Server) -> None:
    """What the kernel holds for them is not the worker's."""
    (worker,) = files.worker_pids()
    with ExitStack() as stack:
        clients = [stack.enter_context(RawSocket(files.port)) for _ in range(100)]
        for client in clients:
            client.write(b"GET /plain/a.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.answer().body == TEXT
        before = memory(worker)
        for client in clients:
            client.write(b"GET /plain/large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.socket.recv(100)
        assert memory(worker) - before < 100 * (32 << 10)
    with files.http() as http:
        wait_for(lambda: http.get("/plain/a.txt").content == TEXT, "an answer behind them")


def memory(pid: int) -> int:
    """Bytes that a process has alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = [line.split() for line in lines if line.startswith("Private_Dirty:")]
    return int(found[0][1]) << 10
