"""The routes of `apps/http1.py` that answer with a status and a body of the request's choice."""

from __future__ import annotations

WAYS = [
    *("tuple", "async", "generator", "file", "error", "turbo", "stated"),
    *("middleware", "middleware-stream"),
]
