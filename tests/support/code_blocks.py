"""The code blocks of the documentation, and what proves each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from support.paths import TESTS
from support.servers import Server

ROOT = TESTS.parent
DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURES = ("text", "")
"""Languages of blocks that are pictures or output: there is nothing to run."""


@dataclass(frozen=True)
class Block:
    """A code block as it is printed."""

    document: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """The document, and the first line after the imports that no other block of it has."""
        others = [block.text.splitlines() for block in blocks(self.document) if block != self]
        for line in self.text.splitlines():
            if not line.strip() or line.startswith(("from ", "import ")):
                continue
            if all(line not in other for other in others):
                return f"{self.document}: {line.strip()}"
        raise AssertionError(f"No line of its own in a block of {self.document}:\n{self.text}")


def blocks(document: str) -> list[Block]:
    """The code blocks of a document, in order."""
    text = (ROOT / document).read_text()
    return [Block(document, language, code) for language, code in FENCE.findall(text)]


BLOCKS = [
    block
    for path in DOCUMENTS
    for block in blocks(str(path.relative_to(ROOT)))
    if block.language not in PICTURES
]


class Start(Protocol):
    """Serves a program: the text of a block, or a file that takes its port from PORT."""

    def __call__(self, program: str | Path, environment: dict[str, str] = ...) -> Server: ...


Proof = Callable[[Block, Start], None]
PROOFS: dict[str, Proof] = {}


def proves(name: str) -> Callable[[Proof], Proof]:
    """Registers the proof of a block, by its name."""

    def register(proof: Proof) -> Proof:
        PROOFS[name] = proof
        return proof

    return register
