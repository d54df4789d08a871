"""What `import fanbus` gives, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources

import fanbus

PUBLIC = {
    "Body",
    "Bus",
    "BusError",
    "Cookie",
    "Event",
    "EventStream",
    "Events",
    "Fanbus",
    "FanbusError",
    "Form",
    "HTTPError",
    "Header",
    "History",
    "Lagged",
    "MissingError",
    "OpenAPI",
    "Path",
    "Query",
    "Record",
    "Replay",
    "Request",
    "Response",
    "RouteError",
    "Router",
    "Session",
    "StartError",
    "Subscription",
    "Upload",
    "ValidationError",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketConfig",
    "__version__",
}


def test_the_public_names_are_these() -> None:
    assert set(fanbus.__all__) == PUBLIC
    for name in PUBLIC:
        assert hasattr(fanbus, name)


def test_every_public_class_says_what_it_is() -> None:
    for name in PUBLIC - {"__version__"}:
        documentation = getattr(fanbus, name).__doc__
        assert documentation, name
        assert len(documentation) > 20, name


def test_the_version_is_that_of_the_package() -> None:
    assert fanbus.__version__ == metadata.version("fanbus")


def test_the_package_is_typed() -> None:
    assert resources.files("fanbus").joinpath("py.typed").is_file()


def test_importing_is_light() -> None:
    """A program that only publishes does not pay for a server."""
    code = (
        "import sys, fanbus; "
        "print([m for m in ('asyncio', 'uvloop', 'ctypes', 'argparse') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"
