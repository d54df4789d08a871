"""The mechanical part of docs/words.md: words that readers of average English stumble over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.paths import ROOT

# What to avoid, and what to write.
AVOIDED = {
    r"\bshall\b": "must or should",
    r"\banew\b": "again",
    r"\ball the same\b": "still",
    r"\bfor ever\b": "forever, or a limit",
    r"(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|better\b|worse\b)": "is not a",
    r"\b(?:is|are|was|were) to be\b": "must be",
    r"\btold\b|\btells? of\b": "logged, returned, raised or notified",
    r"\bkept\b": "retained, cached or held",
    r"\bburied\b|\bburies\b": "reaped",
    r"\bforgotten\b|\blets? go\b": "dropped, closed or released",
    r"\bwhoever\b|\bwhomever\b": "a noun",
    r"(?:^|(?<=[.:;] ))(?:Who|What)\b(?![^.?!]*\?)": "a noun as the subject",
    r"\b(?:a|one) text\b(?! (?:message|frame|file|field|part|body|format|node))": "a string",
    r"\bnobody\b|\beverybody\b|\bsomebody\b": "no client, all processes, another program, ..",
}
BETTER = {re.compile(words, re.IGNORECASE | re.MULTILINE): how for words, how in AVOIDED.items()}


class Text(NamedTuple):
    """What a person reads, and where it begins."""

    file: Path
    line: int
    text: str


def findings(text: Text) -> Iterator[str]:
    for pattern, better in BETTER.items():
        for found in pattern.finditer(text.text):
            line = text.line + text.text.count("\n", 0, found.start())
            yield f"{text.file.relative_to(ROOT)}:{line}: {found[0]!r}: write {better}"


def pages() -> list[Path]:
    """All pages but the one that lists the words to avoid."""
    folders = (ROOT / "docs", ROOT / "examples", ROOT / "crates/bench")
    found = [*ROOT.glob("*.md"), *(page for each in folders for page in sorted(each.rglob("*.md")))]
    return [page for page in found if page.name != "words.md"]


def prose(page: Path) -> Text:
    """A page without its code."""
    text = re.sub(
        r"^```.*?^```",
        lambda code: "\n" * code[0].count("\n"),
        page.read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    return Text(page, 1, re.sub(r"`[^`\n]*`", "X", text))


def python_strings() -> Iterator[Text]:
    """Messages, help and log texts of the package: its strings, but for docstrings."""
    packages = (ROOT / "python/fanbus", ROOT / "crates/bench/python/fanbus_bench")
    for file in sorted(file for package in packages for file in package.rglob("*.py")):
        tree = ast.parse(file.read_text())
        documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or node in documentation:
                continue
            if isinstance(node.value, str) and " " in node.value:
                yield Text(file, node.lineno, node.value)


def rust_strings() -> Iterator[Text]:
    """Messages of the core: its strings, but for those of unit tests."""
    sources = (ROOT / "src", ROOT / "crates/bench/src")
    for file in sorted(file for folder in sources for file in folder.rglob("*.rs")):
        code = re.split(r"#\[cfg\(test\)\]\n.*mod tests", file.read_text())[0]
        code = re.sub(r"^[ \t]*//.*$", "", code, flags=re.MULTILINE)
        for found in re.finditer(r'"((?:[^"\\]|\\.|\\\n)*)"', code):
            if " " in found[1]:
                line = code.count("\n", 0, found.start()) + 1
                yield Text(file, line, re.sub(r"\\\n\s*", "", found[1]))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page_is_in_plain_words(page: Path) -> None:
    found = list(findings(prose(page)))
    assert not found, "\n".join(found)


def test_messages_of_the_package_are_in_plain_words() -> None:
    texts = list(python_strings())
    assert len(texts) > 500
    found = [each for text in texts for each in findings(text)]
    assert not found, "\n".join(found)


def test_messages_of_the_core_are_in_plain_words() -> None:
    texts = list(rust_strings())
    assert len(texts) > 300
    found = [each for text in texts for each in findings(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("The client is told.", "told"),
        ("origins=5 is a text.", "a text"),
        ("This is no number.", "is no "),
        ("There is no such bus.", None),
        ("Records are kept. What is kept, outlives the server.", "kept"),
        ("What does it cost?", None),
        ("Close it. What comes later is new.", "What"),
        ("A text message is at most 1 MiB.", None),
        ("The server is no longer ready.", None),
    ],
)
def test_checker_finds_words_to_avoid(sentence: str, word: str | None) -> None:
    found = list(findings(Text(Path(__file__), 1, sentence)))
    assert any(repr(word) in each for each in found) if word else not found
