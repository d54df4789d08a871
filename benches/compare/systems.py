"""The systems that are compared: how each is started, what it needs, and which version it is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
# Where benches/compare/install puts them.
HOME = Path(os.environ.get("COMPARE", ROOT / "target/compare"))


@dataclass(frozen=True)
class Package:
    """Something that has to be installed. `kind` says how, and so where its version is found."""

    kind: str
    name: str
    # The name of its step in the installer, if that differs from its own.
    step: str = ""

    def version(self) -> str | None:
        """None if it is not there."""
        found: str | None = FINDERS[self.kind](self.name)
        return found

    def reason(self) -> str:
        """Why it is not there."""
        note = HOME / "missing" / (self.step or self.name)
        if note.exists():
            return f"{self.name}: {note.read_text().strip() or 'could not be installed'}"
        return f"{self.name} is not installed: run benches/compare/install"


@dataclass(frozen=True)
class System:
    """A server. Its command gets PORT, WORKERS, SCRATCH (a directory of its own), COMPARE, and TLS,
    which is empty without it."""

    name: str
    command: tuple[str, ...]
    needs: tuple[Package, ...] = field(default=())

    def missing(self) -> str | None:
        """Why it cannot be measured, or None."""
        reasons = [package.reason() for package in self.needs if package.version() is None]
        return "; ".join(reasons) or None

    def versions(self) -> str:
        """For the head of the table."""
        return ", ".join(f"{package.name} {package.version()}" for package in self.needs)


def find_program(name: str) -> str | None:
    """Where a program is. Debian has those of PostgreSQL and of some servers outside of PATH."""
    postgresql = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(postgresql, key=lambda it: int(it.parent.name), reverse=True)
    folders = [*map(str, newest_first), os.environ.get("PATH", ""), "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders))


def _python(name: str) -> str | None:
    folders = [str(folder) for folder in HOME.glob("venv/lib/python*/site-packages")]
    found = importlib.metadata.distributions(name=name, path=folders)
    return next((package.version for package in found), None)


def _node(name: str) -> str | None:
    manifest = HOME / "node/node_modules" / name / "package.json"
    if shutil.which("node") is None or not manifest.exists():
        return None
    version: str = json.loads(manifest.read_text())["version"]
    return version


def _rust(name: str) -> str | None:
    if not (HOME / "actix/bin/fanbus-compare-actix").exists():
        return None
    lock = (PEERS / "actix/Cargo.lock").read_text()
    found = re.search(rf'name = "{re.escape(name)}"\nversion = "([^"]+)"', lock)
    return found[1] if found else None


def _program(name: str) -> str | None:
    """A program says its version itself, wherever it comes from."""
    path = find_program(name)
    if path is None:
        return None
    option = "-v" if name == "nginx" else "--version"
    output = subprocess.run([path, option], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", output.stdout + output.stderr)
    return found[0] if found else "of unknown version"


def _go(name: str) -> str | None:
    path = HOME / "go/bin" / name
    if not path.exists():
        return None
    output = subprocess.run([path, "version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", output.stdout)
    return found[0] if found else "of unknown version"


def _debian(name: str) -> str | None:
    if shutil.which("dpkg-query") is None:
        return None
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", name]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    status, _, version = output.partition(" ")
    return version if status == "installed" else None


FINDERS = {
    "python": _python,
    "node": _node,
    "rust": _rust,
    "program": _program,
    "debian": _debian,
    "go": _go,
}


def _peer(name: str, folder: str, *needs: Package) -> System:
    return System(name, (str(PEERS / folder / "serve"),), needs)


_UVICORN = tuple(
    Package("python", name) for name in ("fastapi", "uvicorn", "uvloop", "httptools", "websockets")
)
_FANBUS = (sys.executable, "-m", "fanbus")

SYSTEMS = (
    System("Fanbus", (sys.executable, str(ROOT / "benches/app.py"), "@PORT@", "@WORKERS@")),
    System("floor", (*_FANBUS, "bench", "server", "--port", "@PORT@", "--workers", "@WORKERS@")),
    _peer(
        "Granian RSGI", "granian-rsgi", Package("python", "granian"), Package("python", "uvloop")
    ),
    _peer("Granian, static files", "granian-files", Package("python", "granian")),
    _peer(
        "Granian ASGI", "granian-asgi", Package("python", "granian"), Package("python", "uvloop")
    ),
    _peer("FastAPI on uvicorn", "fastapi-uvicorn", *_UVICORN),
    _peer(
        "FastAPI and Redis",
        "fastapi-redis",
        *_UVICORN,
        Package("python", "redis"),
        Package("program", "redis-server"),
    ),
    _peer(
        "hypercorn",
        "hypercorn",
        *(Package("python", name) for name in ("fastapi", "hypercorn", "uvloop")),
    ),
    _peer("Robyn", "robyn", Package("python", "robyn")),
    _peer("BustAPI", "bustapi", Package("python", "bustapi")),
    _peer(
        "uWebSockets (socketify)",
        "socketify",
        Package("python", "socketify"),
        Package("debian", "libuv1"),
    ),
    _peer(
        "socket.io, cluster adapter",
        "socketio",
        Package("program", "node"),
        Package("node", "socket.io", "socket.io"),
        Package("node", "@socket.io/cluster-adapter", "socket.io"),
        Package("node", "bufferutil", "socket.io"),
    ),
    _peer(
        "nchan",
        "nchan",
        Package("program", "nginx"),
        Package("debian", "libnginx-mod-nchan"),
    ),
    _peer("nginx", "nginx", Package("program", "nginx")),
    _peer("Centrifugo", "centrifugo", Package("go", "centrifugo")),
    _peer(
        "actix-web",
        "actix",
        Package("rust", "actix-web", "actix-web"),
        Package("rust", "actix-ws", "actix-web"),
    ),
)
_MODELS, _FORMS = Package("python", "pydantic"), Package("python", "python-multipart")


def _application(name: str, kind: str, *needs: Package) -> System:
    return System(name, (str(PEERS / "applications/serve"), kind), (*needs, _MODELS))


_FASTAPI_ON_GRANIAN = (
    *(Package("python", name) for name in ("fastapi", "granian", "uvloop")),
    _FORMS,
)
# The programs of systems in rows that name one.
PROGRAMS = {
    "applications": (
        _application("Fanbus", "fanbus", Package("python", "uvloop")),
        _application("FastAPI on uvicorn", "uvicorn", *_UVICORN, _FORMS),
        _application("FastAPI on Granian", "granian", *_FASTAPI_ON_GRANIAN),
        _application("Litestar on uvicorn", "litestar", Package("python", "litestar"), *_UVICORN),
    )
}
# The packages that rows need beside their systems.
NEEDED = {
    "database": (Package("program", "postgres", "postgresql"),),
    "service": (),
    "h2load": (Package("program", "h2load", "nghttp2-client"),),
    "asyncpg": (Package("python", "asyncpg"),),
    "sqlalchemy": tuple(Package("python", name) for name in ("sqlalchemy", "asyncpg", "greenlet")),
    "psycopg": tuple(Package("python", name) for name in ("psycopg-binary", "psycopg-pool")),
    "httpx": (Package("python", "httpx"),),
    "aiohttp": (Package("python", "aiohttp"),),
}
BY_NAME = {
    system.name: system for system in (*(it for each in PROGRAMS.values() for it in each), *SYSTEMS)
}


def system_of(name: str, program: str = "") -> System:
    """The system of that name, with that program."""
    if not program:
        return BY_NAME[name]
    return next(system for system in PROGRAMS[program] if system.name == name)
