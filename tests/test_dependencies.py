"""Each dependency has its line, with the reason, in docs/dependencies.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def explained() -> set[str]:
    """What the tables of the document name."""
    text = (ROOT / "docs/dependencies.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \| (.+) \|$", text, re.MULTILINE)
    assert all(len(reason) > 10 for _, reason in rows)
    return {name for names, _ in rows for name in re.findall(r"`([^`]+)`", names)}


def test_every_rust_dependency_is_explained_and_no_other() -> None:
    names = rust_dependencies("Cargo.toml")
    assert len(names) > 10
    names |= rust_dependencies("fuzz/Cargo.toml") - {"fanbus"}
    others = python_dependencies() | javascript_dependencies()
    assert explained() - others == names


def test_every_python_and_javascript_dependency_is_explained() -> None:
    assert python_dependencies() | javascript_dependencies() <= explained()


def rust_dependencies(manifest: str) -> set[str]:
    sections = re.findall(
        r"^\[(?:target\..*?\.)?(?:dev-)?dependencies\]\n(.*?)(?=^\[)",
        (ROOT / manifest).read_text(),
        re.MULTILINE | re.DOTALL,
    )
    return {name for body in sections for name in re.findall(r"^([\w-]+) *=", body, re.MULTILINE)}


def python_dependencies() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    group = re.search(r"^dev = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert group is not None
    return set(re.findall(r'"([\w-]+)==', group[1]))


def javascript_dependencies() -> set[str]:
    return set(json.loads((ROOT / "package.json").read_text())["devDependencies"])
