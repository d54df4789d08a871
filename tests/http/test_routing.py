"""Routers that are included, names and URLs, and what is answered where no handler is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from conftest import StartServer
from fanbus import Fanbus, FanbusError, Router, WebSocket
from support.raw_websocket import RawSocket
from support.servers import Server
from support.websocket_clients import hear, join


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    stderr = tmp_path_factory.mktemp("routed") / "stderr"
    with Server("routing", workers=1, environment={}, stderr=stderr) as server:
        yield server


@pytest.fixture
def http(routed: Server) -> Iterator[httpx.Client]:
    with routed.http() as client:
        yield client


# Over sockets


def test_a_router_serves_under_every_prefix_it_is_included_at(http: httpx.Client) -> None:
    assert http.get("/v1/rooms/a%2Fb/people/3").json() == ["a/b", 3]
    assert http.get("/v2/rooms/x/people/3").json() == ["x", 3]
    assert http.get("/rooms/x/people/3").status_code == 404


def test_websockets_and_turbo_routes_are_included_too(routed: Server) -> None:
    with join(routed, "/v1/rooms/x/socket") as ws:
        ws.send("hi")
        assert hear(ws) == "x: hi"
    with join(routed, "/v2/rooms/y/relay") as one, join(routed, "/v1/rooms/y/relay") as two:
        two.send("to both")
        assert (hear(one), hear(two)) == ("to both", "to both")
    with pytest.raises(InvalidStatus) as refused, join(routed, "/v1/rooms/closed/relay"):
        pass
    assert refused.value.response.status_code == 403


def test_what_is_declared_after_the_including_is_served_too(http: httpx.Client) -> None:
    assert http.get("/admin/late").text == "late"


def test_urls_lead_to_their_routes(http: httpx.Client) -> None:
    person, socket, overview = http.get("/urls").json()
    assert http.get(person).json() == ["a b", 3]
    assert socket == "/v1/rooms/x/socket"
    assert http.get(overview).text == "overview"


def test_options_is_answered_with_the_methods_of_the_path(http: httpx.Client) -> None:
    answer = http.options("/plain")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert http.options("/nowhere").status_code == 404


def test_a_route_of_its_own_answers_options(http: httpx.Client) -> None:
    assert http.options("/own").text == "my own"


def test_options_for_the_whole_server_is_answered(routed: Server) -> None:
    with RawSocket(routed.port) as raw:
        raw.write(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.answer(head_only=True).status == 204
        assert raw.answer().status == 200


def test_a_request_that_misses_by_the_trailing_slash_is_sent_there(http: httpx.Client) -> None:
    answer = http.post("/plain/?a=b%2F&c=", content="body")
    assert (answer.status_code, answer.headers["location"]) == (307, "/plain?a=b%2F&c=")
    followed = http.post("/plain/?a=1", content="body", follow_redirects=True)
    assert followed.json() == ["POST", "/plain", "a=1", "body"]
    assert http.get("/admin").headers["location"] == "/admin/"


@pytest.mark.parametrize("path", ["/nowhere/", "/plain//", "/v1/rooms/x/people/y/"])
def test_a_request_that_misses_by_more_is_404(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_a_redirect_never_leads_to_another_host(routed: Server) -> None:
    with RawSocket(routed.port) as raw:
        raw.write(b"GET //plain/ HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = raw.answer()
    assert answer.status == 404
    assert "location" not in answer.headers


def test_redirects_can_be_switched_off(server: StartServer) -> None:
    one = server("routing", environment={"REDIRECT_SLASHES": "0"})
    with one.http() as http:
        assert http.get("/plain/").status_code == 404
        assert http.get("/plain").status_code == 200


# Declarations


@pytest.fixture
def app() -> Fanbus:
    return Fanbus("test")


def handler() -> str:
    return ""


def other() -> str:
    return ""


def of_a(a: str) -> str:
    return a


def of_unknown(a):  # type: ignore[no-untyped-def]
    return a


def test_a_conflict_names_both_places_also_across_routers(app: Fanbus) -> None:
    one, two = Router(prefix="/x"), Router()
    app.include(one)
    app.include(two, prefix="/x")
    one.get("/{a}")(of_a)
    with pytest.raises(FanbusError, match="conflicts") as caught:
        two.get("/{b}")(other)
    for function in (of_a, other):
        place = f"{function.__name__} ({__file__}:{function.__code__.co_firstlineno})"
        assert place in str(caught.value)


def test_a_signature_is_checked_with_the_whole_path(app: Fanbus) -> None:
    router = Router(prefix="/{a}")
    router.get("/")(of_a)
    app.include(router)
    assert app.url_for("of_a", a="x") == "/x/"
    wrong = Router()
    wrong.get("/b")(of_unknown)
    with pytest.raises(FanbusError, match=r"takes 'a', which is not in the path '/v1/b'"):
        app.include(wrong, prefix="/v1")


def test_routers_are_nested(app: Fanbus) -> None:
    inner, outer = Router(prefix="/inner", name="inner"), Router(prefix="/outer", name="outer")
    outer.include(inner, prefix="/between")
    app.include(outer, prefix="/api")
    inner.get("/x", name="x")(handler)
    assert app.url_for("outer.inner.x") == "/api/outer/between/inner/x"


def test_a_router_is_not_included_in_itself(app: Fanbus) -> None:
    one, two, three = Router(prefix="/1"), Router(prefix="/2"), Router(prefix="/3")
    one.include(two)
    two.include(three)
    for router, below in ((one, one), (three, one), (two, one)):
        with pytest.raises(FanbusError, match="in itself"):
            router.include(below)


@pytest.mark.parametrize("prefix", ["api", "/api/", "/", 3])
def test_a_prefix_begins_with_a_slash_and_does_not_end_with_one(app: Fanbus, prefix: str) -> None:
    with pytest.raises(FanbusError, match="prefix"):
        Router(prefix=prefix)
    with pytest.raises(FanbusError, match="prefix"):
        app.include(Router(), prefix=prefix)


def test_only_a_router_is_included(app: Fanbus) -> None:
    with pytest.raises(FanbusError, match="expects a Router, got Fanbus"):
        app.include(app)  # type: ignore[arg-type]


def test_the_empty_path_is_the_prefix_itself(app: Fanbus) -> None:
    router = Router(prefix="/x")
    router.get("")(handler)
    app.include(router)
    assert app.url_for("handler") == "/x"
    with pytest.raises(FanbusError, match="begin with a slash"):
        app.get("")(other)


def test_values_without_a_parameter_become_the_query(app: Fanbus) -> None:
    app.get("/{a}")(of_a)
    url = app.url_for("of_a", a="ü/", q="x y", many=[1, 2], none=None)
    assert url == "/%C3%BC%2F?q=x+y&many=1&many=2"


def test_of_several_paths_of_one_function_the_one_is_taken_that_the_values_fill(
    app: Fanbus,
) -> None:
    app.get("/")(handler)
    app.get("/{page:int}")(handler)
    assert app.url_for("handler") == "/"
    assert app.url_for("handler", page=2) == "/2"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda app: app.url_for("nothing"), "no route has this name. There are: of_a"),
        (lambda app: app.url_for("of_a"), 'needs a value for "a"'),
        (lambda app: app.url_for("of_a", a=".."), "cannot be"),
    ],
)
def test_impossible_url_is_reported(app: Fanbus, ask: Callable[[Fanbus], str], said: str) -> None:
    app.get("/{a}")(of_a)
    with pytest.raises(FanbusError, match=said):
        ask(app)


def test_ambiguous_name_is_reported_with_the_places_of_the_functions(app: Fanbus) -> None:
    def same() -> str:
        return ""

    first = same

    def same() -> str:  # type: ignore[no-redef]
        return ""

    app.get("/1")(first)
    app.get("/2")(same)
    with pytest.raises(FanbusError, match=r"several routes: .*:\d+\), .*:\d+\)"):
        app.url_for("same")


def test_a_name_that_was_given_belongs_to_one_function(app: Fanbus) -> None:
    app.get("/1", name="home")(handler)
    app.post("/2", name="home")(handler)
    with pytest.raises(FanbusError, match=r"Two routes are named 'home'.*handler.*other"):
        app.get("/3", name="home")(other)
    with pytest.raises(FanbusError, match="name must be a non-empty string"):
        app.get("/4", name="")(other)


def test_a_route_that_was_refused_has_no_name(app: Fanbus) -> None:
    with pytest.raises(FanbusError):
        app.get("/{a")(of_a)
    with pytest.raises(FanbusError, match="no route has this name"):
        app.url_for("of_a", a="x")


def test_websockets_have_names_too(app: Fanbus) -> None:
    @app.websocket("/ws/{a}")
    async def socket(ws: WebSocket) -> None: ...

    assert app.url_for("socket", a="x") == "/ws/x"
