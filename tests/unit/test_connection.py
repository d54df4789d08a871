"""The base class that requests, WebSockets and sessions share."""

from __future__ import annotations

import pytest

from fanbus import _core

SHARED = (
    "client",
    "cookies",
    "headers",
    "path",
    "path_params",
    "query",
    "root_path",
    "scheme",
    "state",
)


@pytest.mark.parametrize("kind", [_core.Request, _core.WebSocket, _core.Session])
def test_attributes_of_a_connection_are_defined_once(kind: type) -> None:
    assert issubclass(kind, _core.Connection)
    for name in SHARED:
        assert name in vars(_core.Connection)
        assert name not in vars(kind)


def test_a_connection_is_never_constructed_by_hand() -> None:
    with pytest.raises(TypeError):
        _core.Connection()
