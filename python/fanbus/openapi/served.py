"""The routes that serve the OpenAPI document, and the page that shows it.

The page is one file without external resources. Its Content-Security-Policy allows only its own
style and script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fanbus.openapi.description import Description
from fanbus.openapi.settings import OpenAPI
from fanbus.requests import Request
from fanbus.responses import Response
from fanbus.routing.routes import HttpRoute

__all__ = ["routes"]

_PAGE = Path(__file__).with_name("page.html")
_HIDDEN = Description(is_included=False)


class _OwnRoute(HttpRoute):
    """A route of Fanbus itself, without a handler of the user."""

    @property
    def place(self) -> str:
        return f"Fanbus(openapi=...), which serves {self.path}"


def routes(settings: OpenAPI, make_document: Callable[[], dict[str, Any]]) -> list[HttpRoute]:
    """The routes of the document and its page. `make_document` is called once per root path and
    process."""

    @cache
    def cached(root_path: str) -> Response:
        document = make_document()
        if root_path:
            document = {**document, "servers": [{"url": root_path}]}
        response = Response(document)
        response.set_etag()
        return response

    def openapi(request: Request) -> Response:
        response = cached(request.root_path)
        assert isinstance(response.body, bytes)
        return Response(response.body, headers=response.headers)

    def docs(request: Request) -> Response:
        return page(request.root_path + settings.path)

    functions = [(settings.path, openapi)]
    if settings.docs is not None:
        functions.append((settings.docs, docs))
    return [
        _OwnRoute(
            path,
            function,
            f"fanbus.{function.__name__}",
            is_named=True,
            methods=("GET",),
            max_body_size=None,
            described=_HIDDEN,
        )
        for path, function in functions
    ]


def page(document_url: str) -> Response:
    """The page that loads the document from this URL."""
    text, policy = _template()
    response = Response.html(text.replace("{document}", html.escape(document_url, quote=True)))
    response.headers += [
        ("content-security-policy", policy),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ]
    return response


@cache
def _template() -> tuple[str, str]:
    """The page and its Content-Security-Policy: its own style and script, and requests to this
    server."""
    text = _PAGE.read_text(encoding="utf-8")
    hashes = {}
    for element in ("style", "script"):
        match = re.search(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert match is not None, f"the page has a {element}"
        digest = hashlib.sha256(match[1].encode()).digest()
        hashes[element] = f"'sha256-{base64.b64encode(digest).decode()}'"
    policy = (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return text, policy
