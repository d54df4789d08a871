"""Decorators: what they accept, and what they say of mistakes before anything is served."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import pytest

import fanbus
from fanbus import Bus, Fanbus, FanbusError, HTTPError, Request, WebSocket, WebSocketConfig, _core


@pytest.fixture
def app() -> Fanbus:
    return Fanbus("test")


def test_decorators_return_the_function_unchanged(app: Fanbus) -> None:
    def handler() -> str:
        return ""

    async def socket(ws: WebSocket) -> None: ...

    def turbo() -> None: ...

    assert app.route("/a", methods=["GET", "POST"])(handler) is handler
    assert app.get("/b")(handler) is handler
    assert app.websocket("/c")(socket) is socket
    assert app.turbo_websocket("/d", response_prefix="")(turbo) is turbo


def test_one_function_can_serve_several_routes(app: Fanbus) -> None:
    @app.get("/one")
    @app.get("/two")
    @app.post("/three")
    def handler() -> str:
        return ""

    assert "3 handlers" in repr(app)


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete"])
def test_the_methods_have_decorators_of_their_own(app: Fanbus, verb: str) -> None:
    def handler() -> str:
        return ""

    getattr(app, verb)("/")(handler)
    others = {"get", "post", "put", "patch", "delete"} - {verb}
    app.route("/", methods=others)(handler)
    with pytest.raises(FanbusError, match="conflicts"):
        app.route("/", methods=[verb])(handler)


def test_the_name_of_the_application_is_that_of_the_module() -> None:
    assert Fanbus().name == "test_app"
    assert Fanbus(__name__).name == "test_app"
    assert Fanbus("chat").name == "chat"
    assert Fanbus("a chat/with é").name == "a-chat-with"


def test_a_long_name_leaves_room_for_the_place_in_the_name_of_the_bus() -> None:
    name = Fanbus("a" * 70).name
    with Bus.open(f"{name}-uds-{os.getpid():08x}", create=True, size=64 * 1024) as bus:
        _core.remove_bus(bus.name, although_used=True)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(FanbusError, match="must be a non-empty string"):
        Fanbus("")


def test_publish_without_a_server_says_what_it_needs(app: Fanbus) -> None:
    with pytest.raises(FanbusError, match="needs a running server"):
        app.publish("topic", "message")


def test_path_parameters_may_be_taken_in_any_order_or_left_out(app: Fanbus) -> None:
    @app.get("/{a}/{b}")
    def turned(b: str, a: str) -> str:
        return a + b

    @app.get("/left/{a}/{b}")
    def left_out() -> str:
        return ""

    @app.get("/some/{a}/{b}")
    def some(request: Request, b: str, page: int = 1) -> str:
        return b


def handler_of(source: str) -> Callable[..., Any]:
    """A function called `handler`, from the line of source that follows."""
    scope: dict[str, Any] = {"Request": Request, "WebSocket": WebSocket}
    exec(source, scope)
    function: Callable[..., Any] = scope["handler"]
    return function


@pytest.mark.parametrize(
    ("decorator", "source", "said"),
    [
        (
            lambda app: app.get("/users/{user_id}"),
            "def handler(id): ...",
            r"handler.*takes 'id', which is not in the path '/users/\{user_id\}'.*'user_id'",
        ),
        (
            lambda app: app.get("/"),
            "def handler(ws: WebSocket): ...",
            "takes a WebSocket as 'ws', but serves HTTP requests.*@app.websocket",
        ),
        (
            lambda app: app.get("/"),
            "def handler(request, again: Request): ...",
            "takes the request twice",
        ),
        (
            lambda app: app.get("/{b}"),
            "def handler(a=1, b=None, /): ...",
            "'b' by position only",
        ),
        (
            lambda app: app.websocket("/"),
            "def handler(ws): ...",
            "must be async.*async def handler",
        ),
        (
            lambda app: app.websocket("/"),
            "async def handler(): ...",
            "does not take the WebSocket",
        ),
        (
            lambda app: app.websocket("/"),
            "async def handler(socket): ...",
            "takes 'socket', which is not in the path.*annotate it as WebSocket",
        ),
        (
            lambda app: app.websocket("/"),
            "async def handler(ws, request: Request): ...",
            "takes a Request as 'request', but serves a WebSocket",
        ),
        (
            lambda app: app.turbo_websocket("/{room}", broadcast="{hall}"),
            "def handler(): ...",
            "hall",
        ),
        (
            lambda app: app.turbo_websocket("/{room}", broadcast="{room}"),
            "def handler(ws): ...",
            "takes a WebSocket as 'ws'",
        ),
        (lambda app: app.get("no-slash"), "def handler(): ...", "no-slash"),
        (lambda app: app.get("/{a"), "def handler(): ...", r"/\{a"),
        (lambda app: app.get("/{a:integer}"), "def handler(a): ...", "integer"),
        (lambda app: app.get("/{a}/{a}"), "def handler(a): ...", "a"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_at_once(
    app: Fanbus, decorator: Callable[[Fanbus], Callable[..., Any]], source: str, said: str
) -> None:
    handler = handler_of(source)
    with pytest.raises(FanbusError, match=said) as caught:
        decorator(app)(handler)
    assert "handler (<string>:1)" in str(caught.value), "it names the handler and its line"
    assert isinstance(caught.value, ValueError)


TWO = {"a": "str", "b": "str"}


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("def handler(request): ...", (None,)),
        ("def handler(r: Request): ...", (None,)),
        ("def handler(r: 'Request'): ...", (None,)),
        ("def handler(r: 'fanbus.Request'): ...", (None,)),
        ("def handler(b, request, a): ...", ("b", None, "a")),
        ("def handler(a, page=1): ...", ("a",)),
        ("def handler(page=1, a=None): ...", ("a",)),
        ("def handler(*, b, a): ...", ("b", "a")),
        ("def handler(**named): ...", ("a", "b")),
        ("def handler(a, **named): ...", ("a", "b")),
        ("def handler(*rest): ...", ()),
    ],
)
def test_a_signature_says_what_the_handler_is_called_with(
    source: str, arguments: tuple[str | None, ...]
) -> None:
    from fanbus.parameters.signature import bind_signature

    handler = bind_signature(
        handler_of(source),
        subject="request",
        path="/{a}/{b}",
        path_parameters=TWO,
    )
    assert handler.arguments == arguments


def test_arguments_reach_the_parameters_they_are_meant_for() -> None:
    from fanbus.parameters.signature import bind_signature

    def plain(a: str, page=1, b: str = "", *, request: Request) -> tuple[Any, ...]:  # type: ignore[no-untyped-def]
        return a, page, b, request

    handler = bind_signature(plain, subject="request", path="", path_parameters=TWO)
    values = {None: "REQUEST", "a": "A", "b": "B"}
    assert handler.call(*(values[name] for name in handler.arguments)) == ("A", 1, "B", "REQUEST")


def test_a_plain_decorator_round_an_async_handler_keeps_it_async() -> None:
    from fanbus.parameters.signature import bind_signature

    async def handler(a: str) -> str:
        return a

    @functools.wraps(handler)
    def decorated(*arguments: Any) -> Any:
        return handler(*arguments)

    examined = bind_signature(
        decorated, subject="request", path="/{a}", path_parameters={"a": "str"}
    )
    assert examined.asynchronous
    assert examined.arguments == ("a",)
    coroutine = examined.call("x")
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == "x"


def test_methods_and_callable_objects_can_be_handlers(app: Fanbus) -> None:
    class Chat:
        async def talk(self, ws: WebSocket) -> None: ...

        async def __call__(self, websocket: WebSocket) -> None: ...

    app.websocket("/talk")(Chat().talk)
    app.websocket("/call")(Chat())


def test_missing_path_is_reported(app: Fanbus) -> None:
    def index() -> str:
        return ""

    for decorator in (app.get, app.route, app.websocket, app.turbo_websocket):
        with pytest.raises(FanbusError, match=r'has no path.*"/index"'):
            decorator(index)  # type: ignore[arg-type]


@pytest.mark.parametrize("methods", ["POST", [], ["PO ST"], [1]])
def test_methods_that_are_none_are_refused(app: Fanbus, methods: Any) -> None:
    with pytest.raises(FanbusError, match="method"):
        app.route("/", methods=methods)


@pytest.mark.parametrize("options", [{}, {"response_prefix": "", "broadcast": "topic"}])
def test_a_turbo_route_either_echoes_or_relays(app: Fanbus, options: dict[str, str]) -> None:
    with pytest.raises(FanbusError, match="of response_prefix and broadcast"):
        app.turbo_websocket("/", **options)  # type: ignore[arg-type]


def test_the_texts_of_a_turbo_route_are_texts(app: Fanbus) -> None:
    with pytest.raises(FanbusError, match="response_prefix must be a string"):
        app.turbo_websocket("/", response_prefix=b"bytes")  # type: ignore[arg-type]


def test_a_config_of_another_type_is_refused(app: Fanbus) -> None:
    with pytest.raises(FanbusError, match="config must be a WebSocketConfig, got dict"):
        app.websocket("/", config={"max_message_size": 1})  # type: ignore[arg-type]


def test_a_second_handler_for_a_route_is_refused_with_both_names(app: Fanbus) -> None:
    @app.get("/same")
    def first() -> str:
        return ""

    def second() -> str:
        return ""

    with pytest.raises(FanbusError) as caught:
        app.get("/same")(second)
    assert "first" in str(caught.value)
    assert "second" in str(caught.value)


def test_http_and_websocket_may_share_a_path(app: Fanbus) -> None:
    @app.get("/both")
    def page() -> str:
        return ""

    @app.websocket("/both")
    async def socket(ws: WebSocket) -> None: ...


def test_an_http_error_has_a_status_a_detail_and_headers() -> None:
    error = HTTPError(404)
    assert (error.status, error.detail, error.headers) == (404, "Not Found", {})
    assert str(HTTPError(403, "Not here")) == "403 Not here"
    assert HTTPError(429, headers={"Retry-After": "1"}).headers == {"Retry-After": "1"}
    assert HTTPError(499).detail == "Error 499"


@pytest.mark.parametrize("status", [200, 302, 600])
def test_an_http_error_is_an_error(status: int) -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        HTTPError(status)


def test_a_default_config_is_used_where_none_is_given(app: Fanbus) -> None:
    assert repr(WebSocketConfig()) == "WebSocketConfig()"
    app.websocket("/", config=None)


def test_the_module_has_a_version() -> None:
    assert fanbus.__version__.count(".") >= 2
