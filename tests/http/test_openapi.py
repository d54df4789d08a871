"""The OpenAPI document: what it says of handlers, where it is served, and by what it is printed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

from fanbus import (
    Body,
    EventStream,
    Fanbus,
    FanbusError,
    Header,
    OpenAPI,
    Query,
    Request,
    Response,
    Router,
)
from fanbus.testing import TestClient
from support.paths import APPS
from support.servers import Server


class Item(msgspec.Struct):
    """Something for sale."""

    name: str
    price: float = 0.0


class Town(pydantic.BaseModel):
    name: str


class Person(pydantic.BaseModel):
    name: str
    towns: list[Town]


@dataclass
class Point:
    x: int


@pytest.fixture
def app() -> Fanbus:
    return Fanbus("test")


def operation(app: Fanbus, path: str = "/", method: str = "get") -> dict[str, Any]:
    found: dict[str, Any] = app.openapi()["paths"][path][method]
    return found


def answers(app: Fanbus, function: Any) -> dict[str, Any]:
    """What the document says of the answers of a handler without parameters."""
    app.get("/")(function)
    responses: dict[str, Any] = operation(app)["responses"]
    return responses


def test_the_document_says_what_the_application_is() -> None:
    app = Fanbus("shop", openapi=OpenAPI(version="2.0", description="A *shop*."))
    assert app.openapi() == {
        "openapi": "3.1.1",
        "info": {"title": "shop", "version": "2.0", "description": "A *shop*."},
        "paths": {},
    }
    assert Fanbus("plain").openapi()["info"] == {"title": "plain", "version": "0.1.0"}


def test_handler_is_described_by_its_docstring(app: Fanbus) -> None:
    @app.get("/")
    def find_all() -> None:
        """Finds
        all.

        More about it.

        And more.
        """

    found = operation(app)
    assert (found["summary"], found["description"]) == ("Finds all.", "More about it.\n\nAnd more.")

    @app.post("/")
    def add_one() -> None: ...

    assert operation(app, method="post")["summary"] == "Add one"
    assert operation(app, method="post")["operationId"] == "add_one"


def test_parameters_are_listed_with_their_schemas(app: Fanbus) -> None:
    @app.get("/{number:int}/<uuid:key>/{text}/{rest:path}")
    def handler(
        number: int,
        text: Literal["a", "b"],
        page: Annotated[int, Query(ge=1, description="From 1.", deprecated=True)] = 1,
        tags: Annotated[list[str] | None, Query(alias="tag", max_length=3)] = None,
        x_key: Annotated[str, Header(pattern="^k")] = "k",
    ) -> None: ...

    found = operation(app, "/{number}/{key}/{text}/{rest}")["parameters"]
    by_name = {each.pop("name"): each for each in found}
    assert list(by_name) == ["number", "key", "text", "rest", "page", "tag", "x-key"]
    assert by_name == {
        "number": {
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        },
        "key": {"in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},
        "text": {
            "in": "path",
            "required": True,
            "schema": {"type": "string", "enum": ["a", "b"]},
        },
        "rest": {"in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
        "page": {
            "in": "query",
            "required": False,
            "description": "From 1.",
            "deprecated": True,
            "schema": {"type": "integer", "minimum": 1, "default": 1},
        },
        "tag": {
            "in": "query",
            "required": False,
            "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        },
        "x-key": {
            "in": "header",
            "required": False,
            "schema": {"type": "string", "pattern": "^k", "default": "k"},
        },
    }


def test_a_default_that_is_no_json_is_left_out(app: Fanbus) -> None:
    @app.get("/")
    def handler(most: float = float("inf"), other: int = object()) -> None:  # type: ignore[assignment]
        ...

    schemas = [each["schema"] for each in operation(app)["parameters"]]
    assert schemas == [{"type": "number"}, {"type": "integer"}]


def test_limits_may_come_from_other_libraries(app: Fanbus) -> None:
    @app.get("/")
    def handler(
        a: Annotated[int, pydantic.Field(ge=1, lt=9, description="A number.")],
        b: Annotated[str, msgspec.Meta(min_length=2)],
    ) -> None: ...

    one, two = operation(app)["parameters"]
    assert one["schema"] == {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}
    assert one["description"] == "A number."
    assert two["schema"] == {"type": "string", "minLength": 2}


def test_models_of_all_kinds_are_in_one_document(app: Fanbus) -> None:
    @app.post("/items")
    def item(item: Item) -> list[Item]:
        return [item]

    @app.post("/people")
    def person(person: Person, notify: bool = False) -> Person:
        return person

    @app.post("/points")
    def points(points: Annotated[dict[str, Point], Body(description="By name.")]) -> Point:
        return points[""]

    @app.post("/mixed")
    def mixed(items: list[Item] | None = None) -> dict[str, Person | None]:
        return {}

    document = app.openapi()
    components = document["components"]["schemas"]
    assert set(components) == {"Item", "Person", "Point", "Town", "fanbus.ValidationError"}
    assert components["Item"]["description"] == "Something for sale."
    towns = components["Person"]["properties"]["towns"]
    assert towns["items"] == {"$ref": "#/components/schemas/Town"}
    body = operation(app, "/items", "post")["requestBody"]
    assert body["required"] is True
    assert body["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Item"}}
    }
    by_name = operation(app, "/points", "post")["requestBody"]
    assert by_name["description"] == "By name."
    schema = by_name["content"]["application/json"]["schema"]
    assert schema["additionalProperties"] == {"$ref": "#/components/schemas/Point"}
    assert operation(app, "/mixed", "post")["requestBody"]["required"] is False
    for reference in re.findall(r'"\$ref": "(.*?)"', json.dumps(document)):
        assert reference.rpartition("/")[2] in components


def test_models_of_one_name_are_distinguished(app: Fanbus) -> None:
    struct = msgspec.defstruct("Same", [("a", int)])
    model = pydantic.create_model("Same", b=(int, ...))

    def one(given: Any) -> None: ...
    def two(given: Any) -> None: ...

    one.__annotations__["given"] = struct
    two.__annotations__["given"] = model
    app.post("/one")(one)
    app.post("/two")(two)
    components = app.openapi()["components"]["schemas"]
    assert list(components["Same"]["properties"]) == ["a"]
    assert list(components["pydantic.Same"]["properties"]) == ["b"]
    body = operation(app, "/two", "post")["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/pydantic.Same"}


def test_refusals_of_typed_handlers_are_listed(app: Fanbus) -> None:
    @app.get("/plain")
    def plain() -> str:
        return ""

    @app.get("/typed/{number:int}")
    def typed(number: int, page: int = 1) -> str:
        return ""

    @app.post("/body")
    def body(item: Item) -> str:
        return ""

    assert set(operation(app, "/plain")["responses"]) == {"200"}
    assert set(operation(app, "/typed/{number}")["responses"]) == {"200", "404", "422"}
    refusals = operation(app, "/body", "post")["responses"]
    assert set(refusals) == {"200", "400", "413", "415", "422"}
    schema = refusals["422"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/fanbus.ValidationError"}


TEXT = {"text/plain": {"schema": {"type": "string"}}}


def item_json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (None, {"204": {"description": "No Content"}}),
        (str, {"200": {"description": "OK", "content": TEXT}}),
        (
            bytes,
            {"200": {"description": "OK", "content": {"application/octet-stream": {"schema": {}}}}},
        ),
        (Response, {"200": {"description": "OK"}}),
        (Any, {"200": {"description": "OK"}}),
        (
            EventStream,
            {"200": {"description": "OK", "content": {"text/event-stream": {"schema": {}}}}},
        ),
        (Iterator[str], {"200": {"description": "OK", "content": TEXT}}),
        (AsyncIterator[bytes], {"200": {"description": "OK", "content": TEXT}}),
        (
            dict[str, list[int | None]],
            {
                "200": {
                    "description": "OK",
                    "content": item_json(
                        {
                            "type": "object",
                            "additionalProperties": {
                                "type": "array",
                                "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                            },
                        }
                    ),
                }
            },
        ),
        (dict, {"200": {"description": "OK", "content": item_json({"type": "object"})}}),
        (
            tuple[Item, Literal[201]] | tuple[str, Literal[202, 203]] | None,
            {
                "201": {
                    "description": "Created",
                    "content": item_json({"$ref": "#/components/schemas/Item"}),
                },
                "202": {"description": "Accepted", "content": TEXT},
                "203": {"description": "Non-Authoritative Information", "content": TEXT},
                "204": {"description": "No Content"},
            },
        ),
        (
            tuple[Item, int],
            {
                "default": {
                    "description": "The answer",
                    "content": item_json({"$ref": "#/components/schemas/Item"}),
                }
            },
        ),
        (
            Item | Person | str,
            {
                "200": {
                    "description": "OK",
                    "content": {
                        **item_json(
                            {
                                "anyOf": [
                                    {"$ref": "#/components/schemas/Item"},
                                    {"$ref": "#/components/schemas/Person"},
                                ]
                            }
                        ),
                        **TEXT,
                    },
                }
            },
        ),
    ],
    ids=str,
)
def test_the_answers_are_those_of_the_annotation(
    app: Fanbus, annotation: Any, told: dict[str, Any]
) -> None:
    def handler() -> Any: ...

    handler.__annotations__["return"] = annotation
    assert answers(app, handler) == told


def test_an_annotation_of_the_answer_that_is_not_known_hinders_nothing(app: Fanbus) -> None:
    def handler() -> Any: ...

    handler.__annotations__["return"] = "Nowhere"
    assert answers(app, handler) == {"200": {"description": "OK"}}


def test_a_decorator_says_more(app: Fanbus) -> None:
    @app.get(
        "/",
        tags=["a", "b"],
        deprecated=True,
        responses={404: "Not there", 200: Item, 503: None, 201: str},
    )
    def handler() -> dict[str, Any]:
        return {}

    found = operation(app)
    assert (found["tags"], found["deprecated"]) == (["a", "b"], True)
    assert found["responses"] == {
        "200": {"description": "OK", "content": item_json({"$ref": "#/components/schemas/Item"})},
        "201": {"description": "Created", "content": TEXT},
        "404": {"description": "Not there"},
        "503": {"description": "Service Unavailable"},
    }
    assert app.openapi()["tags"] == [{"name": "a"}, {"name": "b"}]

    @app.get("/hidden", include_in_schema=False)
    def hidden() -> None: ...

    assert list(app.openapi()["paths"]) == ["/"]


def test_routers_are_tags_and_operations_have_names_of_their_own(app: Fanbus) -> None:
    inner, outer = Router(prefix="/inner"), Router(prefix="/outer", name="outer")
    named = Router(prefix="/named", name="named")

    @inner.route("/", methods=["GET", "POST", "PROPFIND"])
    def one() -> None: ...

    @named.get("/")
    def two() -> None: ...

    outer.include(inner)
    outer.include(named)
    app.include(outer, prefix="/v1")
    app.include(outer, prefix="/v2")
    document = app.openapi()
    operations = {
        f"{method} {path}": (found["operationId"], found["tags"])
        for path, item in document["paths"].items()
        for method, found in item.items()
    }
    assert operations == {
        "get /v1/outer/inner/": ("outer.one.get", ["outer"]),
        "post /v1/outer/inner/": ("outer.one.post", ["outer"]),
        "get /v2/outer/inner/": ("outer.one.get.2", ["outer"]),
        "post /v2/outer/inner/": ("outer.one.post.2", ["outer"]),
        "get /v1/outer/named/": ("outer.named.two", ["named"]),
        "get /v2/outer/named/": ("outer.named.two.2", ["named"]),
    }


def test_type_without_a_schema_is_reported(app: Fanbus) -> None:
    class Odd:
        pass

    model = pydantic.create_model(
        "Model", __config__={"arbitrary_types_allowed": True}, odd=(Odd, ...)
    )

    def handler() -> Any: ...

    handler.__annotations__["return"] = model
    app.get("/")(handler)
    with pytest.raises(FanbusError, match=r"The OpenAPI document cannot be made: .*Odd"):
        app.openapi()


def test_a_document_that_cannot_be_made_hinders_the_start(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import pydantic\n"
        "from fanbus import Fanbus\n"
        "class Odd: pass\n"
        "class Model(pydantic.BaseModel, arbitrary_types_allowed=True):\n    odd: Odd\n"
        "app = Fanbus('odd', openapi=True)\n"
        "@app.get('/')\ndef handler() -> Model: ...\n"
    )
    told = subprocess.run(
        [sys.executable, "-m", "fanbus", "run", "odd:app", "--port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.startswith("fanbus: The OpenAPI document cannot be made: ")
    assert "Traceback" not in told.stderr


# Served


def test_document_is_not_served_by_default(app: Fanbus) -> None:
    @app.get("/hidden", include_in_schema=False)
    def hidden(n: int) -> None: ...

    assert "components" not in app.openapi()
    with TestClient(app) as client:
        for path in ("/openapi.json", "/docs"):
            assert client.get(path).status_code == 404


def test_the_document_is_served(app: Fanbus) -> None:
    app = Fanbus("test", openapi=True)

    @app.post("/")
    def handler(item: Item) -> Item:
        return item

    with TestClient(app) as client:
        answer = client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == app.openapi()
        again = client.get("/openapi.json", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304


def test_an_application_may_add_to_its_document() -> None:
    class Secured(Fanbus):
        def openapi(self) -> dict[str, Any]:
            document = super().openapi()
            document["security"] = [{"key": []}]
            document["paths"]["/"]["get"]["responses"]["422"]["description"] = "mine"
            return document

    app = Secured("test", openapi=True)

    @app.get("/")
    def handler(n: int) -> None: ...

    with TestClient(app) as client:
        assert client.get("/openapi.json").json()["security"] == [{"key": []}]
    assert Fanbus.openapi(app)["paths"]["/"]["get"]["responses"]["422"]["description"] != "mine"


def test_the_page_may_do_nothing_but_what_it_is_for() -> None:
    with TestClient(Fanbus("test", openapi=True)) as client:
        page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'data-document="/openapi.json"' in page.text
    assert not re.findall(r'(?:src|href|action)="(?!data:)', page.text), "from elsewhere"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for element in ("style", "script"):
        found = re.search(f"<{element}>(.*?)</{element}>", page.text, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy


def test_document_and_page_have_the_given_paths() -> None:
    app = Fanbus("test", openapi=OpenAPI(path="/api.json", docs=None))
    with TestClient(app) as client:
        assert client.get("/api.json").status_code == 200
        assert client.get("/docs").status_code == 404
    for wrong in ("docs", "/{docs}", None, 3):
        with pytest.raises(FanbusError, match="must be a path with a leading slash"):
            OpenAPI(path=wrong)  # type: ignore[arg-type]


def test_route_with_the_path_of_the_document_is_a_reported_conflict() -> None:
    app = Fanbus("test", openapi=True)
    with pytest.raises(FanbusError) as caught:

        @app.get("/docs")
        def mine() -> None: ...

    assert "Fanbus(openapi=...), which serves /docs" in str(caught.value)
    assert f"mine ({__file__}:" in str(caught.value)


def test_what_protects_the_handlers_protects_the_document() -> None:
    app = Fanbus("test", openapi=True)

    @app.before_request
    def refuse(request: Request) -> Any:
        return None if request.headers.get("key") else ("no", 401)

    with TestClient(app) as client:
        for path in ("/openapi.json", "/docs"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"key": "k"}).status_code == 200


def test_behind_a_proxy_the_document_says_where_it_is(tmp_path: Path) -> None:
    environment = {"FANBUS_ROOT_PATH": "/shop"}
    with (
        Server(
            "typed_handlers", workers=1, environment=environment, stderr=tmp_path / "stderr"
        ) as server,
        server.http() as http,
    ):
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/shop"}]
        assert 'data-document="/shop/openapi.json"' in http.get("/docs").text


# Printed


def printed(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fanbus", "openapi", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_prints_the_document(tmp_path: Path) -> None:
    told = printed("typed_handlers:app", "--app-dir", str(APPS), cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    document = json.loads(told.stdout)
    assert document["info"]["title"] == "A shop"
    assert "/hidden" not in document["paths"]
    (tmp_path / "made.py").write_text("from fanbus import Fanbus\ndef make(): return Fanbus('m')\n")
    assert json.loads(printed("made:make", "--factory", cwd=tmp_path).stdout)["paths"] == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere:app",), 'There is no module "nowhere"'),
        (("made:make", "--factory", "-o", "no/where.json"), "no/where.json cannot be written: No"),
    ],
)
def test_what_the_command_cannot_do_is_a_sentence(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "made.py").write_text("from fanbus import Fanbus\ndef make(): return Fanbus('m')\n")
    done = printed(*words, cwd=tmp_path)
    assert done.returncode in (1, 3)
    assert done.stderr.startswith(f"fanbus: {told}"), done.stderr
