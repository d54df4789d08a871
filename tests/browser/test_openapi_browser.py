"""The page of the OpenAPI document in Chromium. The story is in `tests/browser/openapi.mjs`."""

from __future__ import annotations

import os

import pytest

from conftest import StartServer
from support.chromium import play


@pytest.mark.timeout(180)
def test_the_page_shows_the_document_and_sends_requests(server: StartServer) -> None:
    """`OPENAPI_PICTURES=FOLDER` leaves pictures of it there."""
    typed = server("typed_handlers", workers=1)
    folder = os.environ.get("OPENAPI_PICTURES", "")
    play("openapi", str(typed.port), folder)
    assert "Traceback" not in typed.log()
