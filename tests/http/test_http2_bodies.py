"""HTTP/2 carries what HTTP/1.1 does: forms, streams, files, and compression."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from conftest import StartServer
from support.certificates import Certificates
from support.servers import DEADLINE_S, Server

CONNECTION_BYTES = 32 * 1024 * 1024
"""What the bodies of one connection's requests may hold."""


@contextmanager
def one_connection(server: Server, certificates: Certificates) -> Iterator[httpx.Client]:
    with httpx.Client(
        http2=True,
        verify=certificates.trusted(),
        trust_env=False,
        timeout=DEADLINE_S,
        limits=httpx.Limits(max_connections=1),
        headers={"accept-encoding": "identity"},
        base_url=f"https://localhost:{server.port}",
    ) as client:
        yield client


def test_forms_that_went_to_the_disk_do_not_count_for_their_connection(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    environment = {**certificates.environment(), "TMPDIR": str(uploads)}
    one = server("forms", environment=environment)
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * (CONNECTION_BYTES * 5 // 4 // 16))
    with one_connection(one, certificates) as http:
        form = http.post("/form", data={"a": "ü"}, files={"file": ("x.txt", b"small")})
        assert form.http_version == "HTTP/2"
        assert form.json()["first"] == {"a": "ü"}
        assert form.json()["files"] == [["file", "x.txt", "text/plain", 5]]
    # httpx takes a minute for so much.
    command = ["curl", "--silent", "--http2", "--cacert", str(certificates.authorities)]
    command += ["--form", f"file=@{large}", "--write-out", " %{http_code} %{http_version}"]
    saved = subprocess.run(
        [*command, f"https://localhost:{one.port}/read"],
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert saved.stdout.decode() == f'["{digest}"] 200 2'


def test_streams_side_by_side_on_one_connection(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "public").mkdir()
    environment = {**certificates.environment(), "FOLDER": str(tmp_path)}
    expected = b"".join(str(number % 10).encode() * 10_000 for number in range(400))
    with one_connection(server("streams_and_files", environment=environment), certificates) as http:
        with http.stream("GET", "/gate/async") as held:
            assert next(held.iter_raw()) == b"first"
            with ThreadPoolExecutor(4) as pool:
                bodies = pool.map(
                    lambda how: http.get(f"/large/{how}").content, ["sync", "async"] * 3
                )
                assert all(body == expected for body in bodies)
        # A producer that failed: what came is not to be taken for all.
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("/bug/sync")
        assert http.get("/list").content == b"ab"


def test_files_with_ranges_and_compression(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "a.txt").write_bytes(b"0123456789" * 100_000)
    environment = {
        **certificates.environment(),
        "FOLDER": str(tmp_path),
        "COMPRESSION": "1",
    }
    with one_connection(server("streams_and_files", environment=environment), certificates) as http:
        whole = http.get("/file")
        assert whole.content == b"0123456789" * 100_000
        assert whole.headers["content-length"] == "1000000"
        part = http.get("/file", headers={"range": "bytes=999995-"})
        assert (part.status_code, part.content) == (206, b"56789")
        etag = {"if-none-match": whole.headers["etag"]}
        assert http.get("/file", headers=etag).status_code == 304
        head = http.head("/file")
        assert (head.status_code, head.content) == (200, b"")
        with http.stream("GET", "/file", headers={"accept-encoding": "gzip"}) as packed:
            assert packed.headers["content-encoding"] == "gzip"
            assert gzip.decompress(b"".join(packed.iter_raw())) == whole.content
        json = http.get("/json/5000", headers={"accept-encoding": "gzip"})
        assert json.headers["content-encoding"] == "gzip"
        assert json.json() == {"value": "x" * 5000}


def test_a_compressed_stream_holds_nothing_back(
    server: StartServer, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "public").mkdir()
    environment = {**certificates.environment(), "FOLDER": str(tmp_path), "COMPRESSION": "1"}
    one = server("streams_and_files", environment=environment)
    headers = {"accept-encoding": "gzip"}
    with (
        one_connection(one, certificates) as http,
        http.stream("GET", "/gate/async", headers=headers) as answer,
    ):
        assert (answer.http_version, answer.headers["content-encoding"]) == ("HTTP/2", "gzip")
        pieces = answer.iter_bytes()
        assert next(piece for piece in pieces if piece) == b"first"
        assert http.get("/open").text == "open"
        assert b"".join(pieces) == b"second"
