"""What a handler gets of a request, synchronous or not: query, headers, cookies, body."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from fanbus import Fanbus, Request, Response
from fanbus.testing import TestClient
from support.raw_websocket import RawSocket


async def given(value: Any) -> Any:
    """What a method of a request gives an asynchronous handler."""
    assert inspect.isawaitable(value)
    return await value


def told(request: Request) -> dict[str, Any]:
    return {
        "query_string": request.query_string,
        "pairs": request.query.pairs(),
        "first": dict(request.query),
        "all": request.query.get_all("a"),
        "header": request.headers.get("x-thing"),
        "headers": request.headers.get_all("X-THING"),
        "cookies": request.cookies,
        "client": request.client,
        "scheme": request.scheme,
        "http_version": request.http_version,
    }


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = Fanbus("requests")

    @app.route("/told", methods=["GET", "POST"])
    def told_sync(request: Request) -> dict[str, Any]:
        return told(request)

    @app.route("/told/async", methods=["GET", "POST"])
    async def told_async(request: Request) -> dict[str, Any]:
        return told(request)

    @app.post("/body/{how}")
    def body_sync(request: Request, how: str) -> Any:
        first, again = (getattr(request, how)() for _ in range(2))
        assert first == again
        return {"got": first if how == "json" else str(first)}

    @app.post("/body/{how}/async")
    async def body_async(request: Request, how: str) -> Any:
        first = await given(getattr(request, how)())
        assert first == await given(getattr(request, how)())
        return {"got": first if how == "json" else str(first)}

    @app.post("/needs/{what}")
    def needs_sync(request: Request, what: str) -> Any:
        return {"got": {"query": request.query, "headers": request.headers}[what]["page"]}

    @app.post("/needs/form/async")
    async def needs_async(request: Request) -> Any:
        form = await given(request.form())
        return {"got": form["page"], "field": form.fields["page"]}

    @app.get("/caught")
    def caught(request: Request) -> str:
        try:
            return request.query["page"]
        except KeyError as error:
            return f"caught: {error}"

    @app.get("/cookies/{what}")
    def cookies(what: str) -> Response:
        response = Response(what)
        if what == "set":
            response.set_cookie("one", "1")
            response.set_cookie("two", "2", path="/cookies")
        else:
            response.delete_cookie("one")
        return response

    with TestClient(app) as client:
        yield client


BOTH = pytest.mark.parametrize("path", ["/told", "/told/async"])


@BOTH
@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("a=1&a=2&b=3&a=1", [["a", "1"], ["a", "2"], ["b", "3"], ["a", "1"]]),
        ("a=&b&=c", [["a", ""], ["b", ""], ["", "c"]]),
        ("&&a=1&", [["a", "1"]]),
        ("a+b=c%20d%2B", [["a b", "c d+"]]),
        ("a=b=c", [["a", "b=c"]]),
        ("a=%C3%BC&a=%F0%9F%98%80", [["a", "ü"], ["a", "😀"]]),
        # What is encoded wrongly is not refused: it stays, or becomes U+FFFD.
        ("a=%zz&a=%&a=%ff", [["a", "%zz"], ["a", "%"], ["a", "\ufffd"]]),
        ("a=%00%0d%0a", [["a", "\0\r\n"]]),
        ("", []),
    ],
)
def test_a_query_has_every_value_in_order(
    client: TestClient, path: str, query: str, pairs: list[list[str]]
) -> None:
    answer = client.get(f"{path}?{query}").json()
    assert answer["pairs"] == pairs
    assert answer["query_string"] == query
    assert answer["all"] == [value for name, value in pairs if name == "a"]
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name, value)
    assert answer["first"] == first


@BOTH
def test_a_header_may_have_several_lines_and_any_case(client: TestClient, path: str) -> None:
    lines = [("X-Thing", "1"), ("x-thing", "2, 3")]
    answer = client.get(path, headers=lines).json()
    assert (answer["header"], answer["headers"]) == ("1", ["1", "2, 3"])
    # Not UTF-8: each byte is a character, as RFC 9110 had it once.
    answer = client.get(path, headers=[(b"x-thing", b"\xff\xe4")]).json()
    assert answer["header"] == "ÿä"


@BOTH
@pytest.mark.parametrize(
    ("line", "cookies"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2 ;  c = 3", {"a": "1", "b": "2", "c": "3"}),
        ('a="two words"; b=x=y', {"a": "two words", "b": "x=y"}),
        ("a=1; a=2", {"a": "1"}),
        ('a="; b=x"; c="x; d=""; e="""', {"a": '"', "b": 'x"', "c": '"x', "d": "", "e": '"'}),
        ("a=%20; b=+", {"a": "%20", "b": "+"}),
        ("nothing; ;a=1", {"a": "1"}),
        ("ü=ä".encode(), {"ü": "ä"}),
        ("", {}),
    ],
)
def test_cookies_are_read_as_they_were_set(
    client: TestClient, path: str, line: str | bytes, cookies: dict[str, str]
) -> None:
    answer = client.get(
        path, headers=[(b"cookie", line if isinstance(line, bytes) else line.encode())]
    )
    assert answer.json()["cookies"] == cookies


def test_cookies_are_set_returned_and_deleted(client: TestClient) -> None:
    assert client.get("/told").json()["cookies"] == {}
    client.get("/cookies/set")
    assert client.get("/told").json()["cookies"] == {"one": "1"}, "the other is for its path"
    client.get("/cookies/delete")
    assert client.get("/told").json()["cookies"] == {}
    client.cookies.clear()


@BOTH
def test_client_address_is_known(client: TestClient, path: str) -> None:
    with RawSocket(client.base_url.port or 0) as raw:
        raw.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = json.loads(raw.answer().body)
        assert answer["client"] == list(raw.socket.getsockname())
    assert (answer["scheme"], answer["http_version"]) == ("http", "1.1")


@pytest.mark.parametrize("how", ["", "/async"])
def test_body_can_be_read_in_each_form_and_more_than_once(client: TestClient, how: str) -> None:
    body = '{"ü": [1, null]}'
    assert client.post(f"/body/text{how}", content=body).json() == {"got": body}
    assert client.post(f"/body/bytes{how}", content=body).json() == {"got": str(body.encode())}
    assert client.post(f"/body/json{how}", content=body).json() == {"got": {"ü": [1, None]}}
    assert client.post(f"/body/text{how}").json() == {"got": ""}
    for wrong in (b"\xff", b"\xed\xa0\x80"):
        assert client.post(f"/body/text{how}", content=wrong).status_code == 400
        assert client.post(f"/body/json{how}", content=wrong).status_code == 400


@pytest.mark.parametrize("what", ["query", "headers", "form/async"])
def test_what_is_missing_is_400_and_named(client: TestClient, what: str) -> None:
    given: dict[str, Any] = {
        "query": {"params": {"page": "2"}},
        "headers": {"headers": {"Page": "2"}},
        "form/async": {"data": {"page": "2"}},
    }
    assert client.post(f"/needs/{what}", **given[what]).json()["got"] == "2"
    missing = client.post(f"/needs/{what}")
    assert (missing.status_code, missing.text) == (400, 'The request has no "page".\n')


def test_what_is_missing_can_be_caught(client: TestClient) -> None:
    assert client.get("/caught").text == 'caught: 400 The request has no "page".'
