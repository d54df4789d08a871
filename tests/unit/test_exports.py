"""What `import fanbus` gives, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

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
    assert not loaded("import fanbus") & ({"asyncio", "uvloop", "logging"} | OF_SOME_SERVERS)


def test_a_server_imports_what_every_server_needs(tmp_path: Path) -> None:
    """Workers share what their supervisor has imported, and each copies what it touches of it."""
    code = """if True:
        import os, signal, fanbus
        app = fanbus.Fanbus("light")

        @app.on_startup
        def tell():
            print(*sys.modules)
            os.kill(os.getppid(), signal.SIGTERM)

        app.run(port=0, workers=1)
    """
    assert not loaded(code, tmp_path) & OF_SOME_SERVERS


def loaded(code: str, directory: Path | None = None) -> set[str]:
    """The modules that a process has imported after this, in itself and in what it has forked."""

    def named(code: str) -> set[str]:
        command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=directory, timeout=60
        )
        return set(done.stdout.split())

    return named(code) - named("")


# What one command, one option or one kind of answer needs.
OF_SOME_SERVERS = {
    *("argparse", "calendar", "ctypes", "difflib", "email", "hashlib", "logging.config"),
    *(
        "runpy",
        "socketserver",
        "sysconfig",
        "tomllib",
        "fanbus.runtime.blocked_loop",
        "fanbus.server.reload.watch",
    ),
    *(
        "fanbus.cli.main",
        "fanbus.server.reload.on_change",
        "fanbus.server.reload.standby",
        "fanbus.testing",
    ),
    "fanbus.openapi.document",
}
