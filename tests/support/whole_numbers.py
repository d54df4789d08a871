"""For Schemathesis: whole numbers are written as such.

To JSON Schema 20.0 is an integer, to msgspec it is none; no client writes an integer so. Loaded by
`SCHEMATHESIS_HOOKS`.
"""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """The body with integers where it has numbers without a fraction."""
    return _whole(body)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [_whole(inside) for inside in value]
    return value
