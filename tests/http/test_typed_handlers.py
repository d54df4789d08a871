"""Handlers whose annotations say what they read, asked over sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.servers import Server


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("typed") / "stderr"
    with Server("typed_handlers", workers=1, environment={}, stderr=stderr) as server:
        yield server
        assert "Traceback" not in server.log()


@pytest.fixture
def http(typed: Server) -> Iterator[httpx.Client]:
    with typed.http() as client:
        yield client


def refusals(answer: httpx.Response) -> list[tuple[str, str]]:
    """Where and why, of a request that was refused."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()["detail"]
    assert all(each.keys() == {"loc", "msg", "type"} for each in found)
    return [("/".join(map(str, each["loc"])), each["msg"]) for each in found]


EVERYTHING = {
    "i": "-12",
    "f": "1.5e3",
    "b": "true",
    "s": "ü &=%",
    "u": "6BA7B810-9dad-11d1-80b4-00c04fd430c8",
    "d": "2030-12-31",
    "t": "2030-12-31T23:59:59.25Z",
    "c": "blue",
    "n": "2",
    "many": ["3", "-4"],
}


def test_each_type_is_read_from_the_query(http: httpx.Client) -> None:
    assert http.get("/all", params=EVERYTHING).json() == {
        "i": "-12",
        "f": "1500.0",
        "b": True,
        "s": "ü &=%",
        "u": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "d": "2030-12-31",
        "t": "2030-12-31T23:59:59.250000+00:00",
        "c": "blue",
        "n": 2,
        "maybe": None,
        "many": ["3", "-4"],
    }


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("i", "", "must be a whole number"),
        ("i", "1_0", "must be a whole number"),
        ("i", " 1", "must be a whole number"),
        ("i", "\uff11\uff12", "must be a whole number"),
        ("i", "1.0", "must be a whole number"),
        ("i", "9" * 4301, "must be a whole number"),
        ("f", "nan", "must be a number"),
        ("f", "-inf", "must be a number"),
        ("f", "1e999", "must be a number"),
        ("f", "1_0.0", "must be a number"),
        ("f", ".", "must be a number"),
        ("b", "maybe", "must be true or false"),
        ("b", "", "must be true or false"),
        ("u", "6ba7b8109dad11d180b400c04fd430c8", "must be a UUID with its hyphens"),
        ("u", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}", "must be a UUID with its hyphens"),
        ("d", "2030-02-30", "must be a date, as 2030-12-31"),
        ("d", "20301231", "must be a date, as 2030-12-31"),
        ("t", "2030-12-31", "must be a date and time, as 2030-12-31T23:59:59Z"),
        ("t", "2030-12-31T25:00:00Z", "must be a date and time, as 2030-12-31T23:59:59Z"),
        (
            "t",
            "2030-12-31T12:00:00 02:00",
            "must be a date and time, as 2030-12-31T23:59:59Z (in a URL, + is written as %2B)",
        ),
        ("c", "RED", "must be one of red, blue"),
        ("n", "3", "must be one of 1, 2"),
        ("maybe", "x", "must be a whole number"),
        ("many", "x", "must be a whole number"),
    ],
)
def test_value_that_does_not_fit_its_type_is_reported(
    http: httpx.Client, name: str, text: str, reason: str
) -> None:
    answer = http.get("/all", params={**EVERYTHING, name: text})
    assert refusals(answer) == [(f"query/{name}", reason)]


def test_all_wrong_values_are_reported_together(http: httpx.Client) -> None:
    assert refusals(http.get("/all", params={"i": "x", "b": "1"})) == [
        ("query/i", "must be a whole number"),
        ("query/f", "is missing"),
        *((f"query/{name}", "is missing") for name in ("s", "u", "d", "t", "c", "n", "many")),
    ]
    answer = http.post("/customers?notify=x", json={"name": "", "born": "soon"})
    assert [where for where, _ in refusals(answer)] == ["body/name", "body/born", "query/notify"]
    answer = http.put("/orders/1/lines/100", json={"article": "a", "count": 0})
    assert refusals(answer) == [
        ("path/at", "must be 99 or less"),
        ("body/count", "Expected `int` >= 1"),
    ]


def test_what_is_not_given_has_its_default(http: httpx.Client) -> None:
    expected = {"text": "", "page": 1, "colours": [], "sort": "newest"}
    for _ in range(2):  # the handler changes the list that it is given
        assert http.get("/orders/").json() == expected
    found = http.get("/orders/?colours=red&colours=blue&page=2&page=3&text=").json()
    assert found == {"text": "", "page": 2, "colours": ["red", "blue"], "sort": "newest"}
    assert refusals(http.get("/orders/?page=0")) == [("query/page", "must be 1 or more")]


def test_parameters_of_the_path_are_read_too(http: httpx.Client) -> None:
    assert http.get("/colours/red").text == "RED"
    assert refusals(http.get("/colours/green")) == [("path/colour", "must be one of red, blue")]
    assert refusals(http.get("/orders/x")) == [("path/number", "must be a whole number")]
    assert refusals(http.get("/orders/0")) == [("path/number", "must be 1 or more")]
    assert http.get("/orders/999999").status_code == 404
    assert http.get("/files/a/%2F/b?line=3").json() == {"path": "a///b", "line": 3}


def test_headers_and_cookies_are_read(http: httpx.Client) -> None:
    http.headers.update({"x-agent": "me", "accept-language": "en, , fr;q=0.5"})
    assert http.get("/heads", headers={"cookie": "session=abc"}).json() == {
        "agent": "me",
        "limit": 10,
        "languages": ["en", "fr;q=0.5"],
        "session": "abc",
    }
    del http.headers["x-agent"]
    answer = http.get("/heads", headers={"x-limit": "0"})
    assert refusals(answer) == [
        ("header/x-agent", "is missing"),
        ("header/X-Limit", "must be 1 or more"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "answered"),
    [
        (
            "/orders/",
            {"body": "b", "lines": [{"article": "a"}]},
            201,
            {"body": "b", "lines": [{"article": "a", "count": 1}], "colour": None},
        ),
        ("/customers", {"name": "Ada"}, 200, {"name": "Ada", "born": None, "tags": []}),
        ("/points?scale=2", [{"x": 1}], 200, [{"x": 1.0, "y": 0.0}]),
        ("/sum", [1, 2, 3], 200, {"sum": 6}),
        ("/perhaps", {"x": 1}, 200, {"x": 1.0, "y": 0.0}),
    ],
)
def test_bodies_are_models_and_models_are_answers(
    http: httpx.Client, path: str, body: Any, status: int, answered: Any
) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    found = answer.json()
    assert (found["order"] if path == "/orders/" else found) == answered
    patched = http.post(
        path, content=answer.request.content, headers={"content-type": "application/x.y+json"}
    )
    assert patched.status_code == status


def test_a_body_that_may_be_absent_is(http: httpx.Client) -> None:
    assert http.post("/perhaps").status_code == 204
    assert http.post("/perhaps", content=b"null", headers=JSON).status_code == 204


JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.mark.parametrize("path", ["/orders/", "/customers", "/points", "/sum"])
def test_a_body_that_is_no_json_is_refused(http: httpx.Client, path: str) -> None:
    assert refusals(http.post(path)) == [("body", "is missing")]
    for broken in (b"{", b"\xff", b'["\xff"]', b"\0", b"[1,]", b"NaM", b"'a'"):
        answer = http.post(path, content=broken, headers=JSON)
        assert (answer.status_code, answer.text[:26]) == (400, "The body is not valid JSON"), broken
    for deep in (b"[" * 200_000, b'{"lines":' * 50_000):
        assert http.post(path, content=deep, headers=JSON).status_code == 400
    for kind in ("text/plain", "application/xml", "application/jsonp", "", "json"):
        answer = http.post(path, content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415, kind
        assert "Content-Type: application/json" in answer.text
    assert http.post(path, content=b"{}").status_code == 415, "without a type"
    assert http.post(path, data={"a": "b"}).status_code == 415
    assert http.post(path, files={"a": b"b"}).status_code == 415


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/orders/", {"lines": []}, "body/body"),
        ("/orders/", {"body": "b", "lines": [{}]}, "body/lines/0/article"),
        ("/orders/", {"body": "b", "lines": [{"article": "a"}, 3]}, "body/lines/1"),
        ("/orders/", [], "body"),
        ("/customers", {"name": "a", "tags": ["a", 1]}, "body/tags/1"),
        ("/customers", None, "body"),
        ("/points", [{"x": 1}, {"x": "1"}], "body/1/x"),
        ("/sum", [1, "2"], "body/1"),
    ],
)
def test_a_wrong_value_in_a_body_is_named(
    http: httpx.Client, path: str, body: Any, where: str
) -> None:
    answer = http.post(path, json=body)
    assert [place for place, _ in refusals(answer)] == [where]


def test_a_body_of_nothing_but_mistakes_gets_a_short_answer(http: httpx.Client) -> None:
    answer = http.post("/customers", json={"name": "a", "tags": [1] * 100_000})
    assert refusals(answer) == [("body", "100000 values are wrong; the library names none of them")]


def test_cached_responses_and_streams_take_typed_parameters(http: httpx.Client) -> None:
    assert http.get("/kept/3?double=true").json() == {"number": 6}
    assert http.get("/kept/3").json() == {"number": 3}
    assert refusals(http.get("/kept/x")) == [("path/number", "must be a whole number")]
    assert http.get("/stream?count=3").text == "0\n1\n2\n"
    assert refusals(http.get("/stream?count=11")) == [("query/count", "must be 10 or less")]


def test_head_and_options_are_answered_as_ever(http: httpx.Client) -> None:
    assert http.head("/colours/red").status_code == 200
    refused = http.head("/colours/green")
    assert (refused.status_code, refused.content) == (422, b"")
    assert http.options("/orders/").headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_an_error_handler_may_answer(http: httpx.Client) -> None:
    answer = http.get("/handled/x")
    assert answer.status_code == 422
    assert answer.json() == {"path": "/handled/x", "wrong": ["path/number"]}
