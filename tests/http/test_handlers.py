"""HTTP over real sockets: what handlers are given, and what becomes of what they return."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from conftest import StartServer
from support.raw_websocket import RawSocket
from support.servers import Server


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    with Server(
        "web", workers=1, environment={}, stderr=tmp_path_factory.mktemp("web") / "stderr"
    ) as server:
        yield server


@pytest.fixture
def http(web: Server) -> Iterator[httpx.Client]:
    with web.http() as client:
        yield client


# What handlers return


@pytest.mark.parametrize("path", ["/", "/async"])
def test_a_dict_is_sent_as_json(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"message": "Hello, World!"}


def test_a_list_is_sent_as_json(http: httpx.Client) -> None:
    assert http.get("/list").json() == [1, 2, 3]


def test_a_str_is_sent_as_text(http: httpx.Client) -> None:
    answer = http.get("/text")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "Grüße"


def test_bytes_are_sent_unchanged(http: httpx.Client) -> None:
    answer = http.get("/bytes")
    assert answer.content == bytes(range(256))
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_response_has_its_status_headers_and_cookies(http: httpx.Client) -> None:
    answer = http.get("/response")
    assert answer.status_code == 201
    assert answer.headers["x-thing"] == "yes"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers.get_list("set-cookie") == [
        "a=1; Path=/; HttpOnly; SameSite=Lax",
        "b=2; Path=/; SameSite=Lax",
    ]


def test_a_redirect_leads_on(http: httpx.Client) -> None:
    answer = http.get("/redirect")
    assert (answer.status_code, answer.headers["location"]) == (302, "/text")


# What handlers are given


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/users/42", {"user_id": 42, "path_params": {"user_id": 42}}),
        ("/users/0", {"user_id": 0, "path_params": {"user_id": 0}}),
        ("/flask/3/x", {"number": 3, "name": "x"}),
        ("/names/J%C3%BCrgen", {"name": "Jürgen"}),
        ("/names/a+b%20c", {"name": "a+b c"}),
        ("/names/a%2Fb", {"name": "a/b"}),
        ("/files/a/b/c.txt", {"path": "a/b/c.txt"}),
        ("/ratio/0.5", {"value": 0.5}),
    ],
)
def test_path_parameters_are_decoded_and_converted(
    http: httpx.Client, path: str, expected: dict[str, Any]
) -> None:
    assert http.get(path).json() == expected


def test_a_default_is_left_alone(http: httpx.Client) -> None:
    assert http.get("/default/Ann").text == "Hello Ann"


def test_keyword_parameters_are_given_by_name(http: httpx.Client) -> None:
    assert http.get("/keyword/1/2").json() == ["1", "2"]


def test_a_request_tells_everything(web: Server) -> None:
    with RawSocket(web.port) as raw:
        raw.write(
            b"GET /about?a=1&b=%C3%BC&empty= HTTP/1.1\r\nHost: x\r\n"
            b"X-Thing: yes\r\nCookie: c=3; d=4\r\n\r\n"
        )
        answer = raw.answer()
        assert json.loads(answer.body) == {
            "method": "GET",
            "path": "/about",
            "query": {"a": "1", "b": "ü", "empty": ""},
            "header": "yes",
            "cookies": {"c": "3", "d": "4"},
            "client": list(raw.socket.getsockname()),
        }


@pytest.mark.parametrize("path", ["/json", "/json/sync"])
@pytest.mark.parametrize("value", [{"a": [1, None, "ü"]}, [], "text", 2**70, None, 1.5, True])
def test_a_json_body_is_parsed(http: httpx.Client, path: str, value: Any) -> None:
    assert http.post(path, content=json.dumps(value)).json() == {"got": value}


@pytest.mark.parametrize("path", ["/json", "/json/sync"])
@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"{'a': 1}"])
def test_a_body_that_is_not_json_is_400(http: httpx.Client, path: str, body: bytes) -> None:
    assert http.post(path, content=body).status_code == 400


@pytest.mark.parametrize("length", [0, 1, 65536, 1024 * 1024])
def test_bodies_of_every_length_arrive(http: httpx.Client, length: int) -> None:
    assert http.post("/length", content=b"x" * length).json() == {"bytes": length}


def test_a_chunked_body_arrives(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    assert http.post("/length", content=chunks()).json() == {"bytes": 10_000}


def test_a_text_body_is_read_as_utf8(http: httpx.Client) -> None:
    assert http.post("/text/sync", content="Grüße").text == "Grüße"


# Routing


@pytest.mark.parametrize(
    "path", ["/nowhere", "/users/abc", "/users/-7", "/users/", "/ratio/x", "/names/a/b"]
)
def test_a_path_without_a_route_is_404(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_other_method_gets_405_and_the_allowed_methods(http: httpx.Client) -> None:
    answer = http.post("/text")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    allowed = {verb.strip() for verb in http.get("/many").headers["allow"].split(",")}
    assert {"PUT", "PATCH", "DELETE"} <= allowed
    assert "GET" not in allowed


def test_the_methods_of_a_path_have_their_own_handlers(http: httpx.Client) -> None:
    assert http.put("/many").text == "PUT"
    assert http.patch("/many").text == "PATCH"
    assert http.delete("/many").text == "gone"


def test_head_is_get_without_the_body(web: Server) -> None:
    with RawSocket(web.port) as raw:
        raw.write(b"HEAD /text HTTP/1.1\r\nHost: x\r\n\r\nGET /text HTTP/1.1\r\nHost: x\r\n\r\n")
        head = raw.answer(head_only=True)
        assert (head.status, head.headers["content-length"]) == (200, "7")
        assert raw.answer().body == "Grüße".encode()


def test_requests_on_one_connection_are_answered_in_order(web: Server) -> None:
    with RawSocket(web.port) as raw:
        raw.write(
            b"".join(f"GET /names/{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for n in range(50))
        )
        for number in range(50):
            assert raw.answer().body == f'{{"name":"{number}"}}'.encode()


# Errors


@pytest.mark.parametrize("status", [400, 403, 404, 418, 500, 503])
def test_an_http_error_is_the_answer(http: httpx.Client, status: int) -> None:
    answer = http.get(f"/error/{status}")
    assert answer.status_code == status
    assert "because I say so" in answer.text
    assert answer.headers["x-reason"] == "test"


@pytest.mark.parametrize("path", ["/bug", "/bug/async"])
def test_a_bug_is_500_without_a_word_of_it_and_on_the_log(
    http: httpx.Client, web: Server, path: str
) -> None:
    answer = http.get(path)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    web.wait_for_log("RuntimeError: a secret of the handler")
    assert "apps/web.py" in web.log(), "the place is told, too"


def test_what_json_cannot_say_is_500(http: httpx.Client) -> None:
    assert http.get("/unserializable").status_code == 500


@pytest.mark.parametrize("path", ["/bug", "/bug/async"])
def test_with_debug_the_traceback_is_in_the_answer(server: StartServer, path: str) -> None:
    one = server("web", environment={"DEBUG": "1"})
    with one.http() as http:
        answer = http.get(path)
    assert answer.status_code == 500
    assert "RuntimeError: a secret of the handler" in answer.text
    assert "web.py" in answer.text


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400(web: Server, request_bytes: bytes) -> None:
    with RawSocket(web.port) as raw:
        raw.write(request_bytes)
        assert raw.answer().status == 400


def test_a_version_that_is_not_spoken_is_505(web: Server) -> None:
    with RawSocket(web.port) as raw:
        raw.write(b"GET / HTTP/9.9\r\n\r\n")
        answer = raw.answer()
        assert answer.status == 505
        assert b"HTTP/1.1" in answer.body


# Concurrency


def test_synchronous_handlers_do_not_wait_for_each_other(web: Server) -> None:
    def meet(_: int) -> str:
        with web.http() as http:
            return http.get("/meet").text

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(meet, range(2))) == ["met", "met"]


def test_asynchronous_handlers_do_not_wait_for_each_other(web: Server) -> None:
    answers: list[str] = []

    def wait() -> None:
        with web.http() as http:
            answers.append(http.get("/wait-for-other").text)

    waiting = threading.Thread(target=wait)
    waiting.start()
    with web.http() as http:
        assert http.get("/be-the-other").text == "came"
    waiting.join(30)
    assert answers == ["waited"]


def test_more_waiting_connections_than_threads_are_all_answered(web: Server) -> None:
    def get(number: int) -> str:
        with web.http() as http:
            return str(http.get(f"/names/{number}").json()["name"])

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(get, range(400))) == [str(number) for number in range(400)]
