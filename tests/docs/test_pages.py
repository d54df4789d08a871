"""The pages of the documentation: their links, the files that they name, and their sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support.paths import ROOT

HOWTO = ROOT / "docs/howto"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
# Folders whose files pages name by their whole path.
FOLDERS = ("src", "python", "crates", "tests", "docs", "benches", "examples", "fuzz", ".ci")
# Pages that are still to be rewritten.
NOT_YET = ("docs/bus.md",)
READY = [page for page in PAGES if str(page.relative_to(ROOT)) not in NOT_YET]
# A sentence has fewer words than this.
MOST_WORDS = 25


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(page: Path) -> str:
    """The text of a page, with empty lines in place of its blocks of code."""
    blocks = re.compile(r"^```.*?^```|<!--.*?-->", re.MULTILINE | re.DOTALL)
    return blocks.sub(lambda found: "\n" * found[0].count("\n"), page.read_text())


@cache
def files() -> frozenset[str]:
    """The names of all source files, without their folders."""
    places = [ROOT / folder for folder in FOLDERS]
    return frozenset(path.name for place in places for path in place.rglob("*.*"))


def missing_files(page: Path) -> Iterator[str]:
    for text in re.findall(r"`([^`\s]+)`", without_code(page)):
        if re.fullmatch(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]+", text):
            if not (ROOT / text).exists():
                yield text
        elif re.fullmatch(r"[\w-]+\.(?:rs|py)", text):
            # Users' programs have names of their own; pages for contributors name Fanbus's files.
            is_ours = text.endswith(".rs") or HOWTO not in page.parents
            if is_ours and page.name != "README.md" and text not in files():
                yield text


@pytest.mark.parametrize("page", READY, ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert list(missing_files(page)) == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_the_index_has_every_page() -> None:
    index = ROOT / "docs/README.md"
    linked = re.findall(r"\]\(([\w./-]+\.md)\)", index.read_text())
    pages = [*(ROOT / "docs").glob("*.md"), *HOWTO.glob("*.md")]
    assert sorted({(index.parent / link).resolve() for link in linked}) == sorted(
        {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *pages} - {index}
    )


def passages(page: Path) -> Iterator[str]:
    """Paragraphs, items of lists, and the cells of tables."""
    lines: list[str] = []
    for line in [*without_code(page).splitlines(), ""]:
        text = line.strip()
        is_item = re.match(r"(?:[-*]|\d+\.) ", text)
        if not text or is_item or text.startswith(("|", "#")):
            yield " ".join(lines)
            lines = [text.partition(" ")[2]] if is_item else []
        elif not line.startswith("    ") or lines:
            lines.append(text)
        if text.startswith("|"):
            # A cell is no prose: its parts are separated by semicolons.
            yield from (part for cell in text.split("|") for part in cell.split(";"))


def sentences(page: Path) -> Iterator[str]:
    for passage in passages(page):
        text = re.sub(r"`[^`]*`", "X", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", passage))
        yield from re.split(r"(?<=[.!?:])[)*\"]*\s+(?=[\"(*\w])", text)


@pytest.mark.parametrize("page", READY, ids=name)
def test_sentences_of_a_page_are_short(page: Path) -> None:
    counts = {sentence: len(re.findall(r"\S*\w\S*", sentence)) for sentence in sentences(page)}
    assert [each for each, count in counts.items() if count >= MOST_WORDS] == []
