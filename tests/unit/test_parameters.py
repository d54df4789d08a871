"""What parameters are annotated as: mistakes that are told at once, and values that come back as
they were sent, whatever they are."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbus import Body, Fanbus, FanbusError, Request, ValidationError
from fanbus.testing import TestClient
from support.bench_scripts import script

IMPORTS = """
import dataclasses
from datetime import date, datetime, time
from enum import Enum
from typing import Annotated, Any, Literal, Union
from fanbus import Body, Cookie, Fanbus, Header, Path, Query, Request, Router
import msgspec, pydantic

class Mixed(Enum):
    A = 1.5

class Item(msgspec.Struct):
    n: int

class Odd:
    pass

class WithOdd(pydantic.BaseModel, arbitrary_types_allowed=True):
    odd: Odd = None

app = Fanbus("test")
"""


PLAIN = """
import dataclasses
from fanbus import Fanbus

app = Fanbus("test")

@dataclasses.dataclass
class Point:
    x: int

@app.post("/")
def handler(point: Point) -> Point:
    return point
"""


def declare(text: str, folder: Path) -> Fanbus:
    """The application of a module with this text."""
    written = folder / "declared.py"
    written.write_text(text)
    app: Fanbus = script(str(written)).app
    return app


@pytest.mark.parametrize("future", [False, True], ids=["", "texts"])
@pytest.mark.parametrize(
    ("path", "parameters", "told"),
    [
        ("/", "a: Odd", "'a' as Odd, which no text of a request can be. Use str, int,"),
        ("/", "a: time", "'a' as time, which no text"),
        ("/", "a: Union[int, str]", "which no text"),
        ("/", "a: Mixed", "'a' as Mixed, which no text"),
        ("/", "a: Literal[1, '1']", "which no text"),
        ("/", "a: list[list[int]]", "which no text"),
        ("/", "a: Odd = None", "which no text"),
        ("/", "a: Annotated[Item, Query()]", "which no text"),
        ("/", "a: Annotated[int, Query]", "write Query(), with parentheses"),
        ("/", "a: Annotated[int, Query(), Header()]", "with two markers: Query() and Header()"),
        ("/", "a: int = Query(ge=1)", "marker Query(ge=1) as the default of 'a'. Write it into"),
        ("/", "a: Annotated[int, Path()]", "takes 'a' from the path, which has no such parameter"),
        ("/{a}", "a: Annotated[int, Query()]", "marks 'a' as Query, but the path has a parameter"),
        ("/{a:int}", "a: str", "'a' as str, but the path has it as 'int'. Use int."),
        ("/{a:uuid}", "a: str", "but the path has it as 'uuid'. Use UUID."),
        ("/{a}", "a: list[int]", "but the path has it as 'str'. Use str, int, float, bool"),
        ("/{a}", "a: int | None", "but the path has it as 'str'"),
        ("/", "a: Annotated[int, Query(min_length=1)]", "min_length=1 does not apply to integer"),
        ("/", "a: Annotated[str, Query(ge=1)]", "ge=1 does not apply to string"),
        ("/", "a: Annotated[date, Query(min_length=1)]", "min_length=1 does not apply to this"),
        ("/", "a: Annotated[str, Query(pattern='(')]", "is not a regular expression"),
        ("/", "a: Annotated[list[int], Cookie()]", "but a cookie has one value"),
        ("/", "a: Item", "takes a body, but serves GET, which has none"),
    ],
)
def test_mistake_is_reported_with_its_place(
    tmp_path: Path, path: str, parameters: str, told: str, future: bool
) -> None:
    head = ("from __future__ import annotations" if future else "") + IMPORTS
    source = f'@app.get("{path}")\ndef handler({parameters}): ...\n'
    with pytest.raises(FanbusError) as caught:
        declare(head + source, tmp_path)
    text = str(caught.value)
    line = head.count("\n") + 1
    assert text.startswith(f"Handler handler ({tmp_path}/declared.py:{line})"), text
    assert told in text


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("@app.post('/')\ndef handler(a: Item, b: dict): ...", "takes two bodies"),
        (
            "@app.post('/')\ndef handler(a: 'Nowhere'): ...",
            "'a' as Nowhere, which cannot be found out",
        ),
        ("@app.post('/')\ndef handler(a: 'int +'): ...", "which cannot be found out"),
        (
            "@app.turbo_route('/')\ndef handler(a: Annotated[str, Header()]): ...",
            "its responses are cached for all",
        ),
        ("@app.get('/', tag=['a'])\ndef handler(): ...", 'The route "/": unknown option tag'),
        ("@app.get('/', tags='a')\ndef handler(): ...", "tags must be a list of strings, got 'a'"),
        ("@app.get('/', responses={99: 'a'})\ndef handler(): ...", "must be a dict by status"),
        ("Fanbus('a', openapi='/docs')", "openapi must be True, False or an OpenAPI"),
    ],
)
def test_other_mistakes_are_reported_too(tmp_path: Path, source: str, told: str) -> None:
    with pytest.raises(FanbusError) as caught:
        declare(IMPORTS + source, tmp_path)
    assert told in str(caught.value)


def test_a_body_needs_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("nothing", "msgspec"):  # one of the two is enough
        monkeypatch.setitem(sys.modules, missing, None)
        with TestClient(declare(PLAIN, tmp_path)) as client:
            assert client.post("/", json={"x": 3}).json() == {"x": 3}
            assert client.post("/", json={"x": "a"}).status_code == 422
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(FanbusError, match=r"msgspec is not installed .*; pydantic is not inst"):
        declare(PLAIN, tmp_path)


def test_annotations_may_be_texts_of_local_things() -> None:
    """As far as they can be found: in the module, and where the function closes over them."""
    app = Fanbus("test")

    class Side(Enum):
        LEFT = "left"

    @app.get("/")
    def handler(side: Side, n: int = 3) -> list[Any]:
        return [side is Side.LEFT, n]

    with TestClient(app) as client:
        assert client.get("/?side=left").json() == [True, 3]


def test_a_handler_without_such_annotations_is_called_as_it_is() -> None:
    from fanbus.parameters.signature import bind_signature

    def handler(request: Request, a, b: int, page=1):  # type: ignore[no-untyped-def]
        ...

    examined = bind_signature(
        handler,
        subject="request",
        path="/{a}/{b:int}",
        path_parameters={"a": "str", "b": "int"},
    )
    assert examined.call is handler
    assert examined.arguments == (None, "a", "b")
    assert examined.inputs == ()


def test_what_is_around_a_typed_handler_is_around_its_refusals() -> None:
    app = Fanbus("test")
    seen: list[str] = []

    @app.middleware
    async def around(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        seen.append(f"{request.path} {response.status}")
        return response

    @app.before_request
    async def before(request: Request) -> None:
        request.state["before"] = True

    @app.errorhandler(422)
    def refused(error: ValidationError) -> dict[str, Any]:
        return {"wrong": len(error.problems)}

    @app.post("/plain")
    def plain(request: Request, numbers: Annotated[list[int], Body()], n: int = 1) -> list[Any]:
        return [request.state["before"], sum(numbers) * n]

    @app.post("/async/{a}")
    async def on_the_loop(b: int, a: int, numbers: Annotated[list[int], Body()]) -> list[int]:
        return [a, b, *numbers]

    with TestClient(app) as client:
        assert client.post("/plain?n=2", json=[1, 2]).json() == [True, 6]
        assert client.post("/plain?n=x", json=["a"]).json() == {"wrong": 2}
        assert client.post("/async/1?b=2", json=[3]).json() == [1, 2, 3]
        assert client.post("/async/x", json=[3]).json() == {"wrong": 2}
        assert client.post("/async/1?b=2", content=b"[", headers=JSON).status_code == 400
    assert seen == ["/plain 200", "/plain 422", "/async/1 200", "/async/x 422", "/async/1 400"]


JSON = {"content-type": "application/json"}


# Round trips


@pytest.fixture(scope="module")
def echo() -> Any:
    app = Fanbus("echo")

    # Annotations of this module are texts, which do not know what is only here.
    def serve(kind: Any, name: str) -> None:
        def query(value: Any) -> str:
            return repr(value)

        async def many(values: Any) -> str:
            return repr(values)

        query.__annotations__["value"] = kind
        many.__annotations__["values"] = list[kind]
        app.get(f"/query/{name}")(query)
        app.get(f"/many/{name}")(many)

    for kind in (int, float, bool, str, UUID, date, datetime):
        serve(kind, kind.__name__)

    @app.get("/path/{text}/end")
    def path(text: str) -> str:
        return repr(text)

    @app.get("/rest/{text:path}")
    async def rest(text: str) -> str:
        return repr(text)

    @app.get("/pairs")
    def pairs(request: Request) -> str:
        return repr(request.query.pairs())

    @app.post("/form")
    async def form(request: Request) -> str:
        return repr((await request.form()).pairs())

    @app.post("/upload")
    def upload(request: Request) -> str:
        form = request.form()
        contents = [file.read() for file in form.files.get_all("file")]
        return repr([sorted(form.fields.pairs()), contents])

    with TestClient(app) as client:
        yield client


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
VALUES: dict[type, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
    int: (st.integers(), str),
    float: (st.floats(allow_nan=False, allow_infinity=False), repr),
    bool: (st.booleans(), lambda value: str(value).lower()),
    str: (TEXT, str),
    UUID: (st.uuids(), str),
    date: (st.dates(), date.isoformat),
    datetime: (
        # A text cannot say which of two equal hours is meant.
        st.datetimes(timezones=st.none() | OFFSETS).map(lambda time: time.replace(fold=0)),
        datetime.isoformat,
    ),
}
quickly = settings(max_examples=40, deadline=None, derandomize=True)


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@quickly
@given(data=st.data())
def test_what_a_client_sends_is_what_the_handler_gets(
    echo: httpx.Client, kind: type, data: st.DataObject
) -> None:
    strategy, written = VALUES[kind]
    values = data.draw(st.lists(strategy, min_size=1, max_size=4))
    for value in values:
        query = urlencode({"value": written(value)})
        assert echo.get(f"/query/{kind.__name__}?{query}").text == repr(value)
    query = urlencode([("values", written(value)) for value in values])
    assert echo.get(f"/many/{kind.__name__}?{query}").text == repr(values)


@pytest.mark.parametrize("kind", set(VALUES) - {str}, ids=lambda kind: kind.__name__)
@quickly
@given(text=TEXT | st.from_regex(r"\A[-+0-9TZ:.e ]*\Z"))
def test_any_other_text_is_refused(echo: httpx.Client, kind: type, text: str) -> None:
    """Never 500; and what is taken is what Python would make of it."""
    answer = echo.get(f"/query/{kind.__name__}", params={"value": text})
    assert answer.status_code in (200, 422), answer.text
    if answer.status_code == 422:
        assert answer.json()["detail"][0]["loc"] == ["query", "value"]
    elif kind in (int, float):
        assert answer.text == repr(kind(text))
        assert math.isfinite(float(text))


@quickly
@given(text=TEXT.filter(lambda text: text not in ("", ".", "..")))
def test_any_text_goes_through_a_path(echo: httpx.Client, text: str) -> None:
    assert echo.get(f"/path/{quote(text, safe='')}/end").text == repr(text)
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    if parts:
        whole = "/".join(parts)
        assert echo.get(f"/rest/{quote(whole)}").text == repr(whole)


@quickly
@given(pairs=st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_any_pairs_go_through_a_query_and_a_form(
    echo: httpx.Client, pairs: list[tuple[str, str]]
) -> None:
    encoded = urlencode(pairs)
    assert echo.get(f"/pairs?{encoded}").text == repr(pairs)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert echo.post("/form", content=encoded, headers=kind).text == repr(pairs)


@quickly
@given(
    fields=st.dictionaries(st.text("abcé _-", min_size=1, max_size=9), TEXT, max_size=3),
    contents=st.lists(st.binary(max_size=300), min_size=1, max_size=3),
)
def test_any_bytes_go_through_a_multipart_form(
    echo: httpx.Client, fields: dict[str, str], contents: list[bytes]
) -> None:
    files = [("file", (f"{number}.bin", content)) for number, content in enumerate(contents)]
    answer = echo.post("/upload", data=fields, files=files)
    assert answer.text == repr([sorted(fields.items()), contents])


@quickly
@given(encoded=st.text("ab=&%+;\\\0é%2f%00%ff%zz \t", max_size=30))
def test_any_query_is_answered(echo: httpx.Client, encoded: str) -> None:
    wire = quote(encoded, safe="=&%+;")
    assert echo.get(f"/pairs?{wire}").status_code == 200
    assert echo.get(f"/query/int?value={wire}").status_code in (200, 422)
