"""`Response`: bodies, headers, cookies, and what would break out of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanbus import Response


@pytest.mark.parametrize(
    ("body", "encoded", "content_type"),
    [
        ("Grüße", "Grüße".encode(), "text/plain; charset=utf-8"),
        (b"\x00\xff", b"\x00\xff", "application/octet-stream"),
        ({"a": "ü"}, '{"a":"ü"}'.encode(), "application/json"),
        ([1, None], b"[1,null]", "application/json"),
        (None, b"", None),
    ],
)
def test_a_body_brings_its_content_type(
    body: Any, encoded: bytes, content_type: str | None
) -> None:
    response = Response(body)
    assert (response.body, response.content_type, response.status) == (encoded, content_type, 200)


def test_a_content_type_that_is_given_wins() -> None:
    assert Response("<p>", content_type="text/html").content_type == "text/html"
    assert Response("a,b", headers={"Content-Type": "text/csv"}).content_type == "text/csv"
    both = Response("x", headers=[("CONTENT-TYPE", "text/csv")], content_type="text/html")
    assert both.headers == [("content-type", "text/html")]


def test_a_body_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        Response(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [0, 101, 600])
def test_a_status_that_is_none_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        Response("", status)


@pytest.mark.parametrize("header", [("X", "a\r\nSet-Cookie: b"), ("X\n", "a"), ("", "a")])
def test_a_header_cannot_break_out_of_its_line(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="line break or no name"):
        Response("", headers=[header])


def test_a_header_is_set_whatever_its_case_or_added_beside_others() -> None:
    response = Response("x", headers=[("X-A", "1"), ("x-a", "2"), ("b", "3")])
    response.set_header("x-A", "4")
    assert response.headers == [
        ("b", "3"),
        ("content-type", "text/plain; charset=utf-8"),
        ("x-A", "4"),
    ]
    response.headers.append(("x-a", "5"))
    response.set_header("Content-Type", "text/html")
    assert response.content_type == "text/html"
    with pytest.raises(ValueError, match="line break"):
        response.set_header("x-a", "1\r\nb: 2")
    assert ("x-a", "5") in response.headers, "what was there stays"


def test_helpers_for_the_usual_kinds() -> None:
    assert Response.json(None).body == b"null"
    assert Response.json("text").content_type == "application/json"
    assert Response.html("<p>").content_type == "text/html; charset=utf-8"
    redirect = Response.redirect("/wörter?q=a b", 303)
    assert redirect.status == 303
    assert redirect.headers == [("location", "/w%C3%B6rter?q=a%20b")]


def test_a_redirect_has_a_status_of_one() -> None:
    with pytest.raises(ValueError, match="redirect"):
        Response.redirect("/", 200)


def test_cookies_are_written_with_their_options() -> None:
    response = Response("")
    response.set_cookie(
        "session",
        "abc",
        max_age=60,
        expires=datetime(2030, 1, 1, tzinfo=timezone.utc),
        domain="example.org",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    assert response.headers[-1] == (
        "set-cookie",
        "session=abc; Max-Age=60; Expires=Tue, 01 Jan 2030 00:00:00 GMT; Path=/; "
        "Domain=example.org; Secure; HttpOnly; SameSite=Strict",
    )
    response.set_cookie("x", samesite="none")
    assert response.headers[-1][1] == "x=; Path=/; Secure; SameSite=None"
    response.delete_cookie("session")
    assert "Max-Age=0" in response.headers[-1][1]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("none", "; Secure; SameSite=None"),
        ("None", "; Secure; SameSite=None"),
        ("STRICT", "; SameSite=Strict"),
        (None, ""),
    ],
)
def test_samesite_is_written_however_it_is_spelled(given: Any, written: str) -> None:
    response = Response("")
    response.set_cookie("x", samesite=given)
    response.delete_cookie("x", samesite=given)
    assert [line for _, line in response.headers[1:]] == [
        f"x=; Path=/{written}",
        f"x=; Max-Age=0; Path=/{written}",
    ]


@pytest.mark.parametrize("given", ["", "no", "lax; Secure", 1, True])
def test_samesite_of_another_value_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="samesite of cookie 'x' must be 'lax', 'strict', 'none'"):
        Response("").set_cookie("x", samesite=given)


@pytest.mark.parametrize("name", ["__Host-id", "__Secure-id", "__host-id"])
def test_a_cookie_has_what_its_name_promises(name: str) -> None:
    response = Response("")
    with pytest.raises(ValueError, match="add secure=True"):
        response.set_cookie(name, "1")
    response.set_cookie(name, "1", secure=True)
    response.delete_cookie(name)
    assert [line for _, line in response.headers[1:]] == [
        f"{name}=1; Path=/; Secure; SameSite=Lax",
        f"{name}=; Max-Age=0; Path=/; Secure; SameSite=Lax",
    ]


def test_a_cookie_of_one_host_has_no_domain_and_no_path() -> None:
    for wrong in ({"domain": "example.org"}, {"path": "/a"}):
        with pytest.raises(ValueError, match="begins with __Host-: leave both out"):
            Response("").set_cookie("__Host-id", secure=True, **wrong)  # type: ignore[arg-type]
    Response("").set_cookie("__Secure-id", secure=True, domain="example.org", path="/a")


@pytest.mark.parametrize("name", ["a(b", "a/b", "a[b]", "ü", "a\x7f", "a:b", "a@b", "{a}", "a\nb"])
def test_the_name_of_a_cookie_is_a_token(name: str) -> None:
    with pytest.raises(ValueError, match=r"cookie name .* has a character that cannot be in it"):
        Response("").set_cookie(name)


@pytest.mark.parametrize(
    ("name", "value"), [("a;b", ""), ("", ""), ("a", "b;c"), ("a", "b c"), ("a", "ü"), ("a", "\n")]
)
def test_a_cookie_cannot_end_early(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="cookie"):
        Response("").set_cookie(name, value)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.0)
@example(1e-4)
@example(9.999999999999999e-5)
@example(1e16)
@example(9999999999999998.0)
def test_a_float_is_written_as_python_writes_it(number: float) -> None:
    assert Response.json([number]).body == json.dumps([number]).encode()


def test_value_without_a_json_form_is_reported() -> None:
    with pytest.raises(TypeError, match=r"object is not JSON serializable. Turn it into dict"):
        Response.json({"at": object()})
    with pytest.raises(ValueError, match="JSON has no NaN"):
        Response({"a": float("nan")})


class Colour(Enum):
    RED = "red"


@dataclass
class Nested:
    value: Any


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (datetime(2030, 1, 1, 12), '"2030-01-01T12:00:00"'),
        (date(2030, 1, 1), '"2030-01-01"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.50"), '"1.50"'),
        (Colour.RED, '"red"'),
        ({1}, "[1]"),
        (Nested([Nested(None)]), '{"value":[{"value":null}]}'),
    ],
)
def test_json_has_a_word_for_what_programs_have(value: Any, written: str) -> None:
    assert Response({"a": [value]}).body == f'{{"a":[{written}]}}'.encode()


def test_what_contains_itself_is_an_error() -> None:
    nested = Nested(None)
    nested.value = nested
    with pytest.raises(RecursionError):
        Response.json(nested)


def test_generator_or_path_stays_the_body(tmp_path: Path) -> None:
    pieces = iter(["a"])
    assert Response(pieces).body is pieces
    (tmp_path / "a.css").write_text("")
    response = Response.file(tmp_path / "a.css")
    assert (response.body, response.content_type) == (tmp_path / "a.css", None)
    with pytest.raises(FileNotFoundError, match="File not found"):
        Response.file(tmp_path)
