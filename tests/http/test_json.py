"""JSON: what is written and read, and what an application may choose to do it with."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanbus import Fanbus, FanbusError, Request, Response
from fanbus._core import to_json
from fanbus.runtime.json_codec import JSON
from fanbus.testing import TestClient


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# Those of JSON itself, those around them, and what is longer than one byte.
CHARACTERS = st.one_of(
    st.sampled_from('"\\/\n\r\t\b\f\0\x01\x1f \x20\x7f!#[]ü€😀'), st.characters(codec="utf-8")
)
TEXTS = st.text(CHARACTERS, max_size=70)


@given(TEXTS)
@example("")
@example("a" * 8 + '"')
@example('"' + "a" * 16)
def test_a_text_of_any_length_is_written_as_python_writes_it(text: str) -> None:
    assert to_json([text, {text: text}]) == compact([text, {text: text}])


@pytest.mark.parametrize("length", [*range(1, 36), 1000])
@pytest.mark.parametrize("special", ['"', "\\", "\x00", "\x1f", "ü"])
def test_no_place_of_a_text_is_overlooked(length: int, special: str) -> None:
    for at in range(length):
        text = "a" * at + special + "b" * (length - at - 1)
        assert to_json(text) == compact(text), (at, length)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS,
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(TEXTS | st.integers() | st.booleans() | st.none(), inner)
        ),
        max_leaves=30,
    )
)
@example(2**63)
@example(-(2**63) - 1)
@example({None: {True: [1e300, -0.0, 1e-7]}})
def test_what_json_knows_is_written_as_python_writes_it(value: Any) -> None:
    assert to_json(value) == compact(value)


class Upper(str):
    """A subclass is written as what it is made of."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Loud(int):
    def __repr__(self) -> str:
        return "loud"


class Cold(float):
    def __repr__(self) -> str:
        return "cold"


def test_subclasses_are_written_as_their_values() -> None:
    assert to_json([Upper("a"), Loud(1), Loud(2**70), Cold(0.5), Cold(1e30)]) == (
        b'["a",1,1180591620717411303424,0.5,1e+30]'
    )


def test_a_lone_surrogate_is_an_error_and_writes_nothing_wrong() -> None:
    with pytest.raises(UnicodeEncodeError):
        to_json(["\ud800"])


@pytest.mark.parametrize("change", ["grows", "shrinks", "swaps"])
def test_a_dict_that_changes_while_it_is_written_is_no_crash(change: str) -> None:
    value: dict[str, Any] = {}

    class Changing(Enum):
        ONE = 1

        @property
        def value(self) -> Any:
            if change != "grows":
                value.pop("last", None)
            if change != "shrinks":
                value["more"] = 1
            return "changed"

    value.update({"one": Changing.ONE, "last": 2})
    if change == "swaps":
        assert json.loads(to_json(value))["one"] == "changed"
    else:
        with pytest.raises(RuntimeError, match="changed its size"):
            to_json(value)


# What an application may choose


class Point(msgspec.Struct):
    x: int


class Colour(Enum):
    RED = "red"


@dataclass
class Nested:
    value: Any


MODELS = {
    "date": date(2030, 1, 1),
    "uuid": UUID(int=1),
    "decimal": Decimal("1.50"),
    "enum": Colour.RED,
    "set": {1},
    "dataclass": Nested([Nested(None)]),
    "struct": [Point(1)],
}


def serving(codec: JSON | None) -> Fanbus:
    app = Fanbus("codecs", json=codec)

    @app.get("/dict")
    def plain() -> Any:
        return {"text": "Grüße", "number": 1.5}

    @app.get("/list")
    async def listed() -> Any:
        return [1, 2], 201

    @app.get("/models")
    def models() -> Any:
        return MODELS

    @app.get("/model")
    def model() -> Any:
        return Point(1)

    @app.get("/response")
    async def response() -> Any:
        return Response({"a": 1}, 202)

    @app.get("/json")
    def text() -> Any:
        return Response.json("text")

    @app.get("/nan")
    def nan() -> Any:
        return {"nan": float("nan")}

    @app.get("/typed")
    def typed(page: int) -> Any:
        return {"page": page}

    @app.post("/sync")
    def sync(request: Request) -> Any:
        return {"got": request.json()}

    @app.post("/async")
    async def asynchronous(request: Request) -> Any:
        return {"got": await request.json()}

    return app


def test_nothing_changes_because_orjson_is_installed(caplog: pytest.LogCaptureFixture) -> None:
    with TestClient(serving(None)) as client:
        assert client.get("/dict").content == '{"text":"Grüße","number":1.5}'.encode()
        with caplog.at_level(logging.ERROR):
            assert client.get("/nan").status_code == 500
        assert "JSON has no NaN" in caplog.text
        assert client.post("/sync", content=b"[NaN]").status_code == 500  # it is read, as by Python


def test_an_application_may_choose_orjson() -> None:
    with TestClient(serving(orjson)) as client, TestClient(serving(orjson)) as other:
        assert client.get("/dict").content == orjson.dumps({"text": "Grüße", "number": 1.5})
        assert client.get("/dict").headers["content-type"] == "application/json"
        assert (client.get("/list").status_code, client.get("/list").content) == (201, b"[1,2]")
        assert other.get("/nan").content == b'{"nan":null}'
        assert client.get("/response").content == b'{"a":1}'
        assert client.get("/json").content == b'"text"'
        assert client.get("/model").content == b'{"x":1}'
        for path in ("/sync", "/async"):
            assert client.post(path, content=b'{"a":[1]}').json() == {"got": {"a": [1]}}
            answer = client.post(path, content=b"[NaN]")
            assert (answer.status_code, answer.text[:26]) == (400, "The body is not valid JSON")
        problem = client.get("/typed?page=x")
        assert (problem.status_code, problem.json()["detail"][0]["loc"]) == (422, ["query", "page"])


def test_models_have_the_same_json_from_every_encoder() -> None:
    written = []
    for codec in (None, orjson, json):
        with TestClient(serving(codec)) as client:
            written.append(client.get("/models").json())
    assert written[0] == written[1] == written[2]


def test_json_library_of_the_application_is_called_with_its_own_options() -> None:
    asked = []

    def dumps(value: Any, /, *, default: Callable[[Any], Any]) -> str:
        asked.append(value)
        return json.dumps(value, default=default, indent=1)

    def loads(text: str, /) -> Any:
        if text == "broken":
            raise LookupError("a mistake of the application")
        return json.loads(text, parse_float=Decimal)

    with TestClient(serving(SimpleNamespace(dumps=dumps, loads=loads))) as client:
        assert client.get("/dict").content == b'{\n "text": "Gr\\u00fc\\u00dfe",\n "number": 1.5\n}'
        assert client.post("/sync", content=b"0.10").json() == {"got": "0.10"}
        assert client.post("/sync", content=b"[").status_code == 400
        assert client.post("/sync", content=b"broken").status_code == 500
    assert asked[0] == {"text": "Grüße", "number": 1.5}


def test_invalid_json_option_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FanbusError, match=r"has no dumps and no loads.*json=orjson"):
        Fanbus(json=orjson.dumps)  # type: ignore[arg-type]

    def dumps(value: Any, /, *, default: Callable[[Any], Any]) -> Any:
        return len([value, default])

    wrong = SimpleNamespace(dumps=dumps, loads=json.loads)
    with TestClient(serving(wrong)) as client:
        with (
            pytest.raises(FanbusError, match="of which a process has one"),
            TestClient(serving(None)),
        ):
            pass
        assert client.get("/dict").status_code == 500
    assert "must return str or bytes" in caplog.text
    with TestClient(serving(None)) as client:
        assert client.get("/dict").status_code == 200
