"""The test of the imports between the modules of `fanbus`: no circles, and rooms in layers.

Each import counts, also one inside a function and one for types only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import fanbus

PACKAGE = Path(fanbus.__file__).parent

# The rooms and modules that the modules of a room must not import.
FORBIDDEN: Mapping[str, frozenset[str]] = {
    "parameters": frozenset({"app", "cli", "openapi", "routing", "runtime", "server", "testing"}),
    "events": frozenset({"app", "cli", "openapi", "routing", "runtime", "server", "testing"}),
    "openapi": frozenset({"app", "cli", "runtime", "server", "testing"}),
    "routing": frozenset({"app", "cli", "server", "testing"}),
    "runtime": frozenset({"app", "cli", "openapi", "routing", "server", "testing"}),
    "server": frozenset({"app", "cli", "openapi", "parameters", "routing", "testing"}),
    "cli": frozenset({"testing"}),
}
# Rooms that import no room but themselves and these.
CLOSED: Mapping[str, frozenset[str]] = {"options": frozenset({"exceptions"})}
# The modules that may import a room that all others must not.
IMPORTED_BY: Mapping[str, frozenset[str]] = {
    "cli": frozenset({"__main__", "cli"}),
    "testing": frozenset({"testing"}),
}

Graph = dict[str, set[str]]


def modules_of(package: Path) -> dict[str, Path]:
    """The files of a package by the dotted names of their modules. The package itself is `""`."""
    found = {}
    for file in package.rglob("*.py"):
        parts = list(file.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(package: Path) -> Graph:
    """The modules that each module of the package imports."""
    modules = modules_of(package)
    return {
        name: {
            imported
            for imported in _imports_in(ast.parse(file.read_text()), package.name, modules)
            if imported != name
        }
        for name, file in modules.items()
    }


def _imports_in(tree: ast.AST, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    def own(dotted: str) -> str | None:
        """The name inside the package; None for a module of another package."""
        first, _, rest = dotted.partition(".")
        return rest if first == package else None

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [own(each.name) for each in node.names]
            yield from (name for name in names if name is not None and name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute, so that this test understands them"
            base = own(node.module or "")
            if base is None:
                continue
            for each in node.names:
                inner = f"{base}.{each.name}".lstrip(".")
                if inner in modules:
                    yield inner
                elif base in modules and (base or each.name != "_core"):
                    yield base


def circles_in(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached = {name: _reached_from(name, graph) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reached_from(name: str, graph: Graph) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for imported in graph[waiting.pop()] - found:
            found.add(imported)
            waiting.append(imported)
    return found


def room_of(module: str) -> str:
    """The first part of the name: a folder, or a module at the top."""
    return module.partition(".")[0]


def wrong_layers_in(graph: Graph) -> list[str]:
    """The imports that break a rule, as sentences."""
    wrong = []
    for name in sorted(graph):
        room = room_of(name)
        for imported in sorted(graph[name]):
            other = room_of(imported)
            if other == room:
                continue
            is_wrong = (
                other in FORBIDDEN.get(room, ())
                or (room in CLOSED and other not in CLOSED[room])
                or (other in IMPORTED_BY and room not in IMPORTED_BY[other])
            )
            if is_wrong:
                wrong.append(f"{name} imports {imported}")
    return wrong


def test_modules_of_the_package_do_not_import_each_other_in_circles() -> None:
    assert circles_in(imports_of(PACKAGE)) == []


def test_rooms_of_the_package_import_lower_layers_only() -> None:
    assert wrong_layers_in(imports_of(PACKAGE)) == []


def test_rules_name_rooms_that_exist() -> None:
    rooms = {room_of(name) for name in modules_of(PACKAGE)}
    named = {*FORBIDDEN, *CLOSED, *IMPORTED_BY}
    named |= {other for rule in (*FORBIDDEN.values(), *CLOSED.values()) for other in rule}
    assert named <= rooms


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A made-up package with one circle and with imports that break the rules."""
    files = {
        "__init__.py": "from made_up.app import App",
        "app.py": "def run():\n    from made_up.server import start\n",
        "config.py": "from made_up.options import kinds\nimport json",
        "exceptions.py": "",
        "options/__init__.py": "",
        "options/kinds.py": "import made_up.exceptions\nfrom made_up import config",
        "server/__init__.py": "",
        "server/start.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from made_up.app import App\n"
        "from made_up import _core",
    }
    package = tmp_path / "made_up"
    for name, text in files.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return package


def test_checker_finds_circles_through_lazy_and_types_only_imports(tree: Path) -> None:
    graph = imports_of(tree)
    assert graph[""] == {"app"}
    assert graph["app"] == {"server.start"}
    assert circles_in(graph) == [["app", "server.start"], ["config", "options.kinds"]]


def test_checker_finds_imports_of_higher_layers(tree: Path) -> None:
    graph = imports_of(tree)
    assert wrong_layers_in(graph) == [
        "options.kinds imports config",
        "server.start imports app",
    ]
    graph["config"].add("cli.main")
    assert "config imports cli.main" in wrong_layers_in(graph)
