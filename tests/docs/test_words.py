"""The mechanical part of docs/words.md: words that readers of average English stumble over."""

from __future__ import annotations

import ast
import io
import re
import tokenize
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

# Parts of names to avoid, in names of functions, classes and parameters of Python, and of tests.
AVOIDED_IN_NAMES = {
    *("told", "kept", "asked", "heard", "said", "anew", "shall", "buried"),
    *("who", "whoever", "nobody", "everybody", "somebody"),
}
PACKAGES = (ROOT / "python/fanbus", ROOT / "crates/bench/python/fanbus_bench")
RUST = (ROOT / "src", ROOT / "crates/bench/src")


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


def python_files(*folders: Path) -> list[Path]:
    return sorted(file for folder in folders for file in folder.rglob("*.py*") if is_source(file))


def is_source(file: Path) -> bool:
    return file.suffix in (".py", ".pyi")


def python_comments(file: Path) -> Iterator[Text]:
    """The docstrings and comments of a file. Comments of several lines are one text."""
    source = file.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                yield Text(file, node.lineno, without_code(text))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {each.start[0]: each.string[1:] for each in tokens if each.type == tokenize.COMMENT}
    yield from blocks(file, comments)


def rust_comments(file: Path) -> Iterator[Text]:
    """The comments and rustdoc of a file, without its unit tests."""
    code = re.split(r"#\[cfg\(test\)\]\n.*mod tests", file.read_text())[0]
    lines = enumerate(code.splitlines(), start=1)
    comments = {number: found[1] for number, line in lines if (found := COMMENT.match(line))}
    yield from blocks(file, comments)


COMMENT = re.compile(r"\s*//[/!]?(.*)")


def blocks(file: Path, comments: dict[int, str]) -> Iterator[Text]:
    """Comments on lines that follow each other, as one text."""
    block: list[str] = []
    for number, text in sorted(comments.items()):
        block.append(text.strip())
        if number + 1 not in comments:
            yield Text(file, number - len(block) + 1, without_code("\n".join(block)))
            block = []


def without_code(text: str) -> str:
    text = re.sub(r"```.*?```", lambda code: "\n" * code[0].count("\n"), text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`", lambda code: "X" + "\n" * code[0].count("\n"), text)


def comment_groups() -> dict[str, list[Path]]:
    """The files of the package and the core, by folder."""
    groups: dict[str, list[Path]] = {}
    folders = (*PACKAGES, ROOT / "examples", ROOT / "benches")
    files = [*python_files(*folders), *sorted(f for each in RUST for f in each.rglob("*.rs"))]
    for file in files:
        groups.setdefault(str(file.parent.relative_to(ROOT)), []).append(file)
    return groups


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of functions, classes and parameters, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def parts(name: str) -> set[str]:
    """The words of a name: `_is_told` and `IsTold` are `is` and `told`."""
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))


def python_strings() -> Iterator[Text]:
    """Messages, help and log texts of the package: its strings, but for docstrings."""
    for file in python_files(*PACKAGES):
        tree = ast.parse(file.read_text())
        documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or node in documentation:
                continue
            if isinstance(node.value, str) and " " in node.value:
                yield Text(file, node.lineno, node.value)


def rust_strings() -> Iterator[Text]:
    """Messages of the core: its strings, but for those of unit tests."""
    for file in sorted(file for folder in RUST for file in folder.rglob("*.rs")):
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


@pytest.mark.parametrize("files", comment_groups().values(), ids=comment_groups().keys())
def test_comments_are_in_plain_words(files: list[Path]) -> None:
    of = {".rs": rust_comments}
    texts = [text for file in files for text in of.get(file.suffix, python_comments)(file)]
    found = [each for text in texts for each in findings(text)]
    assert not found, "\n".join(found)


def test_names_of_the_package_are_in_plain_words() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in python_files(*PACKAGES)
        for line, name in named(ast.parse(file.read_text()))
        if parts(name) & AVOIDED_IN_NAMES
    ]
    assert not found, "\n".join(found)


def test_names_of_tests_are_in_plain_words() -> None:
    pattern = re.compile(
        r"#\[test\]\s+(?:#\[[^\n]*\]\s+)*fn (\w+)|^(?:async )?def (test_\w+)", re.MULTILINE
    )
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tests/it").rglob("*.rs")]
    names = [
        (file, found[1] or found[2])
        for file in files
        for found in pattern.finditer(file.read_text())
    ]
    assert len(names) > 1000
    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file, name in names
        if parts(name) & AVOIDED_IN_NAMES
    ]
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
