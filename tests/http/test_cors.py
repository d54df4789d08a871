"""Pages of other origins: preflights, and who may read which answer (the Fetch standard)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError
from support.certificates import Certificates

PAGE = "https://page.example"
ALLOW = "access-control-allow-"


def crossing(server: StartServer, **wishes: Any) -> httpx.Client:
    return server("cors", environment={"CORS": json.dumps(wishes)}).http()


def preflight(http: httpx.Client, path: str = "/", **headers: str) -> httpx.Response:
    asked = {"origin": PAGE, "access-control-request-method": "PUT", **headers}
    return http.options(path, headers=asked)


def test_a_listed_origin_may_read_every_answer(server: StartServer) -> None:
    with crossing(server, origins=[PAGE, "http://localhost:3000"]) as http:
        for method, path, status in [
            ("GET", "/", 200),
            ("POST", "/", 200),
            ("DELETE", "/", 405),
            ("GET", "/nowhere", 404),
            ("GET", "/broken", 500),
            ("GET", "/stream", 200),
            ("GET", "/files/cors.py", 200),
            ("OPTIONS", "/", 204),
        ]:
            answer = http.request(method, path, headers={"origin": PAGE})
            assert answer.status_code == status, path
            assert answer.headers.get_list(f"{ALLOW}origin") == [PAGE], path
            assert "origin" in answer.headers["vary"].split(", "), path
            assert f"{ALLOW}credentials" not in answer.headers
        assert http.post("/", headers={"origin": PAGE}).headers["vary"] == "Accept, origin"


@pytest.mark.parametrize(
    "origin", ["https://other.example", "https://page.example.evil.example", "null", "*", ""]
)
def test_another_origin_may_not(server: StartServer, origin: str) -> None:
    with crossing(server, origins=[PAGE], credentials=True) as http:
        answer = http.get("/", headers={"origin": origin})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["vary"] == "origin", "a cache must not give it to the listed one"
        refused = preflight(http, origin=origin)
        assert refused.status_code == 403
        assert not [name for name in refused.headers if name.startswith("access-control")]


def test_request_without_origin_gets_a_response_for_no_origin(server: StartServer) -> None:
    with crossing(server, origins=[PAGE]) as http:
        answer = http.get("/")
        assert f"{ALLOW}origin" not in answer.headers
        assert answer.headers["vary"] == "origin"
        two = http.get("/", headers=[("origin", PAGE), ("origin", "https://other.example")])
        assert f"{ALLOW}origin" not in two.headers


def test_star_gives_one_response_for_all_origins(server: StartServer) -> None:
    with crossing(server, origins="*", expose=["X-Thing"]) as http:
        for headers in ({}, {"origin": PAGE}):
            answer = http.get("/", headers=headers)
            assert answer.headers[f"{ALLOW}origin"] == "*"
            assert answer.headers["access-control-expose-headers"] == "X-Thing"
            assert "vary" not in answer.headers


def test_preflight_lists_the_allowed_methods_and_headers(server: StartServer) -> None:
    with crossing(server, origins=[PAGE], credentials=True, max_age=7) as http:
        wanted = {"access-control-request-headers": "content-type,x-thing"}
        answer = preflight(http, **wanted)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers[f"{ALLOW}origin"] == PAGE
        assert answer.headers[f"{ALLOW}credentials"] == "true"
        assert answer.headers[f"{ALLOW}methods"] == "DELETE, GET, HEAD, PATCH, POST, PUT"
        assert answer.headers[f"{ALLOW}headers"] == "content-type,x-thing"
        assert answer.headers["access-control-max-age"] == "7"
        assert "origin" in answer.headers["vary"]
        hostile = preflight(http, **{"access-control-request-headers": "a, b c; d"})
        assert f"{ALLOW}headers" not in hostile.headers
        plain = http.options("/", headers={"origin": PAGE})
        assert plain.headers["allow"] == "GET, HEAD, OPTIONS, POST", "no preflight"


def test_preflight_has_the_listed_methods_and_headers(server: StartServer) -> None:
    wishes = {"methods": ["GET"], "headers": ["X-One", "X-Two"]}
    with crossing(server, origins="*", **wishes) as http:
        answer = preflight(http, **{"access-control-request-headers": "x-other"})
        assert answer.headers[f"{ALLOW}methods"] == "GET"
        assert answer.headers[f"{ALLOW}headers"] == "X-One, X-Two"


def test_what_a_handler_says_itself_stands(server: StartServer) -> None:
    with crossing(server, origins="*") as http:
        answer = http.get("/own", headers={"origin": PAGE})
        assert answer.headers.get_list(f"{ALLOW}origin") == ["https://own.example"]


def test_it_is_the_same_over_http2(server: StartServer, tmp_path: Path) -> None:
    wishes = json.dumps({"origins": [PAGE]})
    environment = {"CORS": wishes, **Certificates(tmp_path).environment()}
    one = server("cors", environment=environment)
    with httpx.Client(base_url=f"https://127.0.0.1:{one.port}", http2=True, verify=False) as http:
        for path, status in [("/", 200), ("/nowhere", 404), ("/stream", 200)]:
            answer = http.get(path, headers={"origin": PAGE})
            assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
            assert answer.headers[f"{ALLOW}origin"] == PAGE
        assert preflight(http).headers[f"{ALLOW}origin"] == PAGE


def test_preflight_does_not_call_python(server: StartServer) -> None:
    """A handler that holds the loop would be noticed: the path has none at all."""
    with crossing(server, origins=[PAGE]) as http:
        assert preflight(http, "/nowhere").status_code == 204


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        ({"origins": "*", "credentials": True}, r'origins="\*" cannot be combined with'),
        ({"origins": [PAGE], "methods": "*", "credentials": True}, r'methods="\*" cannot'),
        ({"origins": [PAGE], "headers": "*", "credentials": True}, r'headers="\*" cannot'),
        ({"origins": [PAGE], "expose": "*", "credentials": True}, r'expose="\*" cannot'),
        ({"origins": ["page.example"]}, "is not an origin"),
        ({"origins": f"{PAGE}/"}, "is not an origin"),
        ({"origins": "null"}, "sandboxed"),
        ({"origins": f"{PAGE}:443"}, "default port"),
        ({"origins": []}, "origins is empty"),
        ({"origins": [1]}, "a list of strings"),
        ({"origins": "*", "methods": ["G ET"]}, "not a valid name"),
        ({"origins": "*", "expose": ["a\r\nb"]}, "not a valid name"),
        ({"origins": "*", "max_age": -1}, "number of seconds"),
    ],
)
def test_option_that_browsers_would_refuse_raises_at_once(wishes: dict[str, Any], why: str) -> None:
    with pytest.raises(FanbusError, match=why):
        Fanbus().cors(**wishes)


def test_a_second_call_is_an_error() -> None:
    app = Fanbus()
    app.cors(origins="*")
    with pytest.raises(FanbusError, match="twice"):
        app.cors(origins="*")
