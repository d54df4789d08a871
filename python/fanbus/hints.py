"""The hints that error messages add for common mistakes: a missing or needless `await`, a name of
another framework, a server that starts while a test is collected."""

from __future__ import annotations

import linecache
import re
import sys
from types import CoroutineType, FrameType
from typing import Any, NoReturn

from fanbus import _core

__all__ = ["about", "add_to_application", "forgotten_await", "run_during_test_import"]

_WEBSOCKET = {
    "send_text": "`ws.send(text)` sends a str as text",
    "send_bytes": "`ws.send(data)` sends bytes as a binary message",
    "send_json": "`ws.send(json.dumps(value))` sends JSON as text",
    "receive_text": "`await ws.receive()` gives str for a text message",
    "receive_bytes": "`await ws.receive()` gives bytes for a binary message",
    "receive_json": "`json.loads(await ws.receive())` reads JSON",
    "iter_text": "`async for message in ws` gives each message",
    "iter_bytes": "`async for message in ws` gives each message",
    "iter_json": "`async for message in ws` gives each message, and `json.loads(message)` reads it",
    "recv": "`await ws.receive()` gives the next message",
    "query_params": "`ws.query` has the parameters of the query",
    "emit": "`ws.send(message)` sends to this client, `ws.publish(topic, message)` to all others",
    "join": "`ws.subscribe(topic)` lets this client get what is published there",
    "leave": "`ws.unsubscribe(topic)` ends it",
}
_APP = {
    "on_event": "`@app.on_startup` and `@app.on_shutdown` are its two events",
    "add_event_handler": "`@app.on_startup` and `@app.on_shutdown` are its two events",
    "add_middleware": "`@app.middleware` is a decorator for a function, and "
    "`app.cors(origins=...)` is for CORS",
    "exception_handler": "`@app.errorhandler(SomeError)` does that",
    "add_exception_handler": "`@app.errorhandler(SomeError)` does that",
    "include_router": "`app.include(router, prefix=...)` does that",
    "register_blueprint": "`app.include(router, prefix=...)` does that, with a `Router`",
    "add_api_route": "`app.route(path)(function)` does that",
    "add_url_rule": "`app.route(path)(function)` does that",
    "api_route": "`@app.route(path, methods=[...])` does that",
    "websocket_route": "`@app.websocket(path)` does that",
    "before_first_request": "`@app.on_startup` is called in each worker before its first request",
    "teardown_request": "`@app.after_request` is called with each response",
    "test_client": "`fanbus.testing.TestClient(app)` is the client for tests",
    "broadcast": "`app.publish(topic, message)` sends to all who are subscribed",
    "emit": "`app.publish(topic, message)` sends to all who are subscribed",
}
_NEEDLESS_AWAIT = re.compile(
    r"\bawait\s+[\w.\[\]()\"']*?\b(publish|subscribe|unsubscribe|history)\("
)


class _ForeignName:
    """An attribute that raises AttributeError, with the name that Fanbus has instead.

    A `__getattr__` of the class would make the lookup of its other attributes slower, since CPython
    caches lookups only for classes without one.
    """

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __get__(self, instance: object, owner: type) -> NoReturn:
        message = f"{owner.__name__!r} object has no attribute {self._name!r}"
        raise AttributeError(
            f"{message}. In Fanbus {self._instead}.", name=self._name, obj=instance
        )


def add_to_application(application: type) -> None:
    """Adds the names of other frameworks; each raises an error with the name of Fanbus."""
    for name, instead in _APP.items():
        setattr(application, name, _ForeignName(name, instead))


def forgotten_await(value: Any) -> str:
    """The error message for a returned value that was not awaited. It closes a coroutine."""
    if isinstance(value, CoroutineType):
        call = f"{value.__qualname__}()"
        value.close()  # else Python warns too, with less information
        return f"{call} was returned without being awaited. Write `return await {call}`."
    return (
        f"An awaitable ({type(value).__name__}) was returned without being awaited. Write `await` "
        "before the call that made it, as in `return await request.json()`."
    )


def about(error: BaseException) -> str | None:
    """A hint that the log adds to an error whose own message does not name the remedy, or None."""
    if isinstance(error, AttributeError) and isinstance(error.obj, _core.WebSocket):
        instead = _WEBSOCKET.get(error.name or "")
        return instead and f"in Fanbus {instead}."
    if not isinstance(error, TypeError) or "await" not in str(error):
        return None
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    file = trace.tb_frame.f_code.co_filename
    call = _NEEDLESS_AWAIT.search(linecache.getline(file, trace.tb_lineno))
    if call is None:
        return None
    return (
        f"{call[1]}() has done its work when it returns: remove `await` before it, at "
        f"{file}:{trace.tb_lineno}."
    )


def run_during_test_import(caller: FrameType) -> str | None:
    """The error message for `app.run()` in a module that a test runner imports. None: `run` was not
    called by such a module."""
    is_import = (
        caller.f_code.co_name == "<module>" and caller.f_globals.get("__name__") != "__main__"
    )
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    is_unittest = getattr(spec, "name", "").startswith("unittest")
    if not is_import or not ("pytest" in sys.modules or is_unittest):
        return None
    place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    return (
        f"app.run() at {place} was called while a test imported the module, and would block there. "
        'Write `if __name__ == "__main__":` above it. Tests use '
        "fanbus.testing.TestClient(app)."
    )
