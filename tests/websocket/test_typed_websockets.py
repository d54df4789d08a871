"""Typed parameters of WebSocket handlers, and of the functions that are asked for turbo routes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response as Refusal

from fanbus import Cookie, Fanbus, Header, HTTPError, Query, Request, Router, WebSocket
from fanbus import Path as InPath
from fanbus.exceptions import RouteError
from fanbus.testing import TestClient
from support.bench_scripts import script


class Side(Enum):
    LEFT = "left"
    RIGHT = "right"


def application() -> Fanbus:
    app = Fanbus("typed-sockets")
    nested = Router(prefix="/nested/{depth}")

    @app.websocket("/rooms/{room}")
    async def room(  # type: ignore[no-untyped-def]
        ws: WebSocket,
        room: Annotated[str, InPath(min_length=2)],
        last: Annotated[int, Query(ge=0)] = 0,
        sides: list[Side] = [],  # noqa: B006 - each call gets a copy of its own
        token: Annotated[str | None, Header(alias="x-token")] = None,
        user: Annotated[UUID | None, Cookie()] = None,
        *,
        plain="kept",
    ) -> None:
        await ws.send(repr((room, last, sides, token, user, plain)))
        sides.append(Side.LEFT)

    @app.websocket("/must")
    async def must(n: int, live: bool, ws: WebSocket) -> None:
        await ws.send(repr((n, live)))

    @nested.websocket("/{n:int}")
    async def below(ws: WebSocket, n: int, depth: float) -> None:
        await ws.send(repr((n, depth)))

    @app.websocket("/raises")
    async def raises(ws: WebSocket, how: int) -> None:
        raise HTTPError(
            how, "not you", headers={"WWW-Authenticate": "Bearer", "x-bad": "a\r\nb: c"}
        )

    @app.turbo_websocket("/turbo/{room}", broadcast="room:{room}")
    def admitted(request: Request, room: str, age: int, kind: Side = Side.LEFT) -> Any:
        if age == 7:
            raise LookupError("on purpose")
        return age >= 18 or kind is Side.RIGHT

    @app.turbo_websocket("/turbo-async", response_prefix="")
    async def asked(age: int) -> Any:
        return age >= 18

    app.include(nested)
    return app


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(application()) as client:
        yield client


def heard(client: TestClient, path: str, **options: Any) -> Any:
    with client.websocket_connect(path, **options) as ws:
        return ws.recv()


def refused(client: TestClient, path: str, **options: Any) -> Refusal:
    with pytest.raises(InvalidStatus) as caught, client.websocket_connect(path, **options):
        pass
    return caught.value.response


def problems(refusal: Refusal) -> list[tuple[str, str]]:
    assert refusal.status_code == 422
    assert refusal.headers["content-type"] == "application/json"
    assert refusal.body is not None
    told = json.loads(refusal.body)["detail"]
    return [(" ".join(each["loc"]), each["type"]) for each in told]


def test_parameters_come_from_path_query_headers_and_cookies(client: TestClient) -> None:
    assert heard(client, "/rooms/ab") == "('ab', 0, [], None, None, 'kept')"
    headers = {"X-Token": "t", "Cookie": f"user={UUID(int=1)}"}
    path = "/rooms/ab?last=3&sides=left&sides=right&plain=other"
    assert heard(client, path, additional_headers=headers) == (
        f"('ab', 3, [{Side.LEFT!r}, {Side.RIGHT!r}], 't', {UUID(int=1)!r}, 'kept')"
    )
    assert heard(client, "/rooms/ab") == "('ab', 0, [], None, None, 'kept')"
    assert heard(client, "/must?n=-1&live=yes") == "(-1, True)"
    assert heard(client, "/nested/1.5/2") == "(2, 1.5)"


def test_wrong_value_refuses_the_handshake_and_is_reported_at_once(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fanbus"):
        refusal = refused(
            client,
            "/rooms/a?last=-1&sides=up",
            additional_headers={"Cookie": "user=x"},
        )
    assert problems(refusal) == [
        ("path room", "invalid"),
        ("query last", "invalid"),
        ("query sides", "invalid"),
        ("cookie user", "invalid"),
    ]
    assert problems(refused(client, "/must?n=x")) == [
        ("query n", "invalid"),
        ("query live", "missing"),
    ]
    assert "Traceback" not in caplog.text
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/turbo/a", "/turbo-async"])
def test_function_of_a_turbo_route_may_have_typed_parameters_too(
    client: TestClient, path: str
) -> None:
    with client.websocket_connect(f"{path}?age=18") as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
    assert refused(client, f"{path}?age=17").status_code == 403
    assert problems(refused(client, path)) == [("query age", "missing")]


def test_all_wrong_values_of_a_turbo_route_are_reported(client: TestClient) -> None:
    with client.websocket_connect("/turbo/a?age=1&kind=right"):
        pass
    assert problems(refused(client, "/turbo/a?age=x&kind=up")) == [
        ("query age", "invalid"),
        ("query kind", "invalid"),
    ]
    refusal = refused(client, "/turbo/a?age=7")
    assert (refusal.status_code, refusal.body) == (500, b"The application failed.")


def test_a_refusal_keeps_its_headers_unless_they_break_out_of_their_line(
    client: TestClient,
) -> None:
    refusal = refused(client, "/raises?how=401")
    assert (refusal.status_code, refusal.body) == (401, b"not you")
    assert refusal.headers["www-authenticate"] == "Bearer"
    assert refusal.headers["content-type"] == "text/plain; charset=utf-8"
    assert "x-bad" not in refusal.headers
    assert "b" not in refusal.headers


IMPORTS = """
from typing import Annotated
from fanbus import Body, Fanbus, Path, Request, WebSocket
import msgspec

class Item(msgspec.Struct):
    n: int

class Odd: ...

app = Fanbus("mistaken")
"""


@pytest.mark.parametrize("decorator", ["websocket", "turbo_websocket"])
@pytest.mark.parametrize(
    ("parameter", "told"),
    [
        ("item: Item", r"'item' as Item, which only a JSON body can be, but the handshake of a"),
        ("item: dict", r"'item' as dict, which only a JSON body.*Use str, int.*or a list of them,"),
        ("n: Annotated[int, Body()]", r"the handshake of a WebSocket has none"),
        ("odd: Odd", r"'odd' as Odd, which no text of a request can be\. Use str, int"),
        ("n: Annotated[int, Path()]", r"from the path, which has no such parameter\. Put \{n\}"),
        ("n: int | str", r"'n' as int \| str, which no text"),
        ("x", r"takes 'x', which is not in the path"),
    ],
)
def test_invalid_handler_is_reported_when_it_is_declared(
    tmp_path: Path, decorator: str, parameter: str, told: str
) -> None:
    options = '"/a"' if decorator == "websocket" else '"/a", response_prefix=""'
    subject = "ws: WebSocket" if decorator == "websocket" else "request: Request"
    lines = [f"@app.{decorator}({options})", f"async def handler({parameter}, {subject}): ...", ""]
    mistaken = tmp_path / "mistaken.py"
    mistaken.write_text("\n".join([IMPORTS, *lines]))
    with pytest.raises(RouteError, match=told) as caught:
        script(str(mistaken))
    assert f"handler ({mistaken}:13)" in str(caught.value)


def test_handler_without_the_websocket_is_reported_whatever_else_it_takes() -> None:
    app = Fanbus("mistaken")

    async def handler(n: int) -> None: ...

    with pytest.raises(RouteError, match="does not take the WebSocket"):
        app.websocket("/a")(handler)
