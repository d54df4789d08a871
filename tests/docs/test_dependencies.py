"""Each dependency has its line, with the reason, in docs/dependencies.md."""

from __future__ import annotations

import json
import re

from support.paths import ROOT


def explained() -> set[str]:
    """What the tables of the document name."""
    text = (ROOT / "docs/dependencies.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \| (.+) \|$", text, re.MULTILINE)
    assert all(len(reason) > 10 for _, reason in rows)
    return {name for names, _ in rows for name in re.findall(r"`([^`]+)`", names)}


def test_every_rust_dependency_is_explained_and_no_other() -> None:
    names = rust_dependencies("Cargo.toml") | rust_dependencies("crates/bench/Cargo.toml")
    names |= rust_dependencies("benches/bus/Cargo.toml")
    names |= rust_dependencies("fuzz/Cargo.toml") | rust_dependencies("benches/cost/Cargo.toml")
    assert len(names) > 10
    # One name may be that of a crate and of a package.
    others = (python_dependencies() | javascript_dependencies()) - names
    assert explained() - others == names - {"fanbus", "fanbus-bench"}


def rust_dependencies(manifest: str) -> set[str]:
    text = (ROOT / manifest).read_text()
    sections = re.findall(
        r"^\[(?:target\..*?\.)?(?:dev-)?dependencies\]\n(.*?)(?=^\[)",
        text,
        re.MULTILINE | re.DOTALL,
    )
    names = r"^([\w-]+)(?:\.workspace)? *="
    return {name for body in sections for name in re.findall(names, body, re.MULTILINE)}


def test_the_extra_with_the_load_driver_is_of_the_same_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f'"fanbus-bench=={version[1]}"' in (ROOT / "pyproject.toml").read_text()


def test_every_python_and_javascript_dependency_is_explained() -> None:
    assert python_dependencies() | javascript_dependencies() <= explained()


def python_dependencies() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    group = re.search(r"^dev = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert group is not None
    names = set(re.findall(r'"([\w-]+)==', group[1]))
    for folder in ("autobahn", "others"):
        wanted = (ROOT / "tests" / folder / "requirements.txt").read_text()
        names |= set(re.findall(r"^([\w-]+)(?:\[\w+\])?==", wanted, re.MULTILINE))
    return names


def javascript_dependencies() -> set[str]:
    return set(json.loads((ROOT / "package.json").read_text())["devDependencies"])
