"""Forms over real sockets: fields, uploads, their limits, and what becomes of them on disk."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError
from fanbus.forms import Pairs
from support.raw_websocket import RawSocket
from support.servers import Server, wait_for

MEMORY = 1024 * 1024
"""What the parts of a form may have of it."""


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("forms")
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "TARGET": str(folder / "saved")}
    with Server("forms", workers=1, environment=environment, stderr=folder / "stderr") as server:
        yield server
        assert list(temporary.iterdir()) == [], "what lies there has no name"


@pytest.fixture
def http(forms: Server) -> Iterator[httpx.Client]:
    with forms.http() as client:
        yield client


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


@pytest.mark.parametrize("path", ["/form", "/form/sync"])
def test_an_urlencoded_form_has_its_fields(http: httpx.Client, path: str) -> None:
    answer = http.post(path, data={"a": ["1", "2"], "b": "ü &=+", "empty": ""})
    assert answer.json() == {
        "first": {"a": "1", "b": "ü &=+", "empty": ""},
        "fields": [["a", "1"], ["a", "2"], ["b", "ü &=+"], ["empty", ""]],
        "files": [],
    }


@pytest.mark.parametrize("path", ["/form", "/form/sync"])
def test_a_multipart_form_has_fields_and_files(http: httpx.Client, path: str) -> None:
    answer = http.post(
        path,
        data={"a": ["1", "2"], "text": "Grüße\r\n--x"},
        files=[
            ("file", ("ü.txt", b"content", "text/plain")),
            ("file", ("empty", b"", "application/x-thing")),
        ],
    )
    assert answer.json() == {
        "first": {"a": "1", "text": "Grüße\r\n--x"},
        "fields": [["a", "1"], ["a", "2"], ["text", "Grüße\r\n--x"]],
        "files": [
            ["file", "ü.txt", "text/plain", 7],
            ["file", "empty", "application/x-thing", 0],
        ],
    }


def test_no_body_is_an_empty_form(http: httpx.Client) -> None:
    assert http.post("/form").json() == {"first": {}, "fields": [], "files": []}


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({}, b"a=1", 415),
        ({"content-type": "multipart/form-data"}, b"x", 400),
        ({"content-type": "multipart/form-data; boundary="}, b"x", 400),
        ({"content-type": "multipart/form-data; boundary=b"}, b"x", 400),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b\r\n\r\nx\r\n--b--", 400),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nno end',
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--b--\r\n',
            400,
        ),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b\r\n" + b"X: y\r\n" * 40, 400),
        ({"content-type": "multipart/form-data; boundary=b"}, b"x" * 300_000, 400),
    ],
)
def test_what_is_no_form_is_refused(
    http: httpx.Client, headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = http.post("/form", headers=headers, content=content)
    assert answer.status_code == status, answer.text
    assert len(answer.text) > 20, "it says why"
    assert http.post("/form", data={"a": "1"}).json()["first"] == {"a": "1"}


FIELD = b'Content-Disposition: form-data; name="a"\r\n\r\n'
FILE = b"Content-Disposition: form-data; name=f; "


@pytest.mark.parametrize(
    ("body", "fields", "files"),
    [
        (b"--b  \r\n" + FIELD + b"1\r\n--b\t\r\n" + FIELD + b"2\r\n--b-- ", ["1", "2"], []),
        (b"--b\r\n" + FILE + b"filename*=UTF-8''%C3%BC\r\n\r\nx\r\n--b--", [], ["ü"]),
        (b"--b\r\n" + FILE + b'filename="C:\\d\\a;b"\r\n\r\nx\r\n--b--', [], ["C:\\d\\a;b"]),
        (b"--b\r\n" + FILE + b'filename="\xfc"\r\n\r\nx\r\n--b--', [], ["ü"]),
        (b"--b--", [], []),
        (b"x" * 300_000 + b"\r\n--b\r\n" + FIELD + b"1\r\n--b--" + b"y" * 300_000, ["1"], []),
    ],
    ids=["padding", "filename*", "backslashes", "latin-1", "empty", "preamble"],
)
def test_a_form_is_read_as_clients_write_it(
    forms: Server, body: bytes, fields: list[str], files: list[str]
) -> None:
    head = (
        "POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with RawSocket(forms.port) as raw:
        for _ in range(2):  # the connection goes on
            raw.write(head.encode() + body)
            answer = raw.answer()
            assert answer.status == 200, answer.body
            found = json.loads(answer.body)
            assert [value for _, value in found["fields"]] == fields
            assert [name for _, name, *_ in found["files"]] == files


@pytest.mark.parametrize("lengths", [[0], [1000], [MEMORY - 1], [5 * MEMORY], [900_000] * 5])
def test_files_of_every_length_arrive(http: httpx.Client, lengths: list[int]) -> None:
    contents = [noise(length) for length in lengths]
    files = [("file", (f"{at}", content)) for at, content in enumerate(contents)]
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    assert http.post("/read", files=files).json() == digests


@pytest.mark.parametrize("path", ["/save", "/save/async"])
@pytest.mark.parametrize("length", [10, 3 * MEMORY + 1])
def test_a_file_is_saved(http: httpx.Client, path: str, length: int) -> None:
    content = noise(length)
    answer = http.post(path, files={"file": content})
    assert answer.json() == [hashlib.sha256(content).hexdigest()]


def test_what_is_large_lies_in_one_file_without_a_name_as_long_as_it_is_needed(
    http: httpx.Client,
) -> None:
    small = [("file", (f"{at}", noise(1000))) for at in range(50)]
    assert http.post("/open-files", files=small).json() == [], "in memory"
    large = [("file", (f"{at}", noise(900_000))) for at in range(10)]
    (one,) = http.post("/open-files", files=large).json()
    assert one.endswith("(deleted)")
    wait_for(lambda: http.get("/open-files").json() == [], "the file to be closed")


def test_a_client_that_goes_away_leaves_nothing_on_disk(forms: Server, http: httpx.Client) -> None:
    with RawSocket(forms.port) as raw:
        raw.write(
            b"POST /open-files HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        )
        raw.write(noise(4 * MEMORY))
        wait_for(lambda: http.get("/open-files").json() != [], "a file on disk")
    wait_for(lambda: http.get("/open-files").json() == [], "the file to be closed")


def test_a_connection_goes_on_after_a_form(forms: Server) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\nand an epilogue'
    head = (
        "POST /form HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with RawSocket(forms.port) as raw:
        for _ in range(3):
            raw.write(head.encode() + body)
            assert raw.answer().status == 200


# Limits


def test_a_route_has_its_own_limit_and_says_so_before_anything_is_sent(forms: Server) -> None:
    with RawSocket(forms.port) as raw:
        raw.write(b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n")
        answer = raw.answer()
        assert answer.status == 413
        assert b"100 bytes" in answer.body
    with forms.http() as http:
        assert http.post("/small", content=b"x" * 100).text == "100"
        assert http.post("/small", content=iter([b"x" * 60, b"x" * 60])).status_code == 413
        many = {"file": noise(17 * MEMORY)}
        assert http.post("/form", files=many).status_code == 413


MANY = {str(at): "" for at in range(1001)}


@pytest.mark.parametrize(
    ("data", "files"),
    [(MANY, {}), (MANY, {"file": b"x"}), ({"a": "x" * (MEMORY + 1)}, {"file": b"x"})],
)
def test_a_form_with_too_much_text_or_too_many_parts_is_413(
    http: httpx.Client, data: dict[str, str], files: dict[str, bytes]
) -> None:
    assert http.post("/form", data=data, files=files).status_code == 413


@pytest.mark.parametrize("how", ["json", "text", "bytes"])
def test_a_multipart_form_is_only_read_as_a_form(http: httpx.Client, how: str) -> None:
    answer = http.post(f"/raw/{how}", files={"file": b"x"})
    assert answer.status_code == 415
    assert "request.form()" in answer.text


def test_form_that_the_handler_does_not_read_does_no_harm(http: httpx.Client) -> None:
    assert http.post("/nobody-looks", files={"file": noise(2 * MEMORY)}).text == "done"


def test_without_room_on_the_disk_an_upload_is_507(server: StartServer, tmp_path: Path) -> None:
    missing = tmp_path / "not-there"
    one = server("forms", environment={"TMPDIR": str(missing), "TARGET": ""})
    with one.http() as http:
        assert http.post("/read", files={"file": noise(2 * MEMORY)}).status_code == 507
        one.wait_for_log(f"cannot store an upload in {missing}")
        assert http.post("/form", files={"file": b"small"}).status_code == 200


@pytest.mark.parametrize("size", [-1, 2**41, "1M", True, 1.5])
def test_a_limit_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(FanbusError, match=r"max_body_size must be"):
        Fanbus("test").post("/", max_body_size=size)


def test_pairs_are_a_mapping_that_keeps_every_value() -> None:
    pairs = Pairs([("a", 1), ("b", 2), ("a", 3)])
    assert dict(pairs) == {"a": 1, "b": 2}
    assert pairs.get_all("a") == [1, 3]
    assert pairs.get_all("c") == []
    assert pairs.get("c") is None
    assert pairs.pairs() == [("a", 1), ("b", 2), ("a", 3)]
