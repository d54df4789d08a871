"""docs/benchmarks.md: the parts of it that are made of what was measured, and never by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/benchmarks.md"
PICTURES = ROOT / "docs/images"
# Runs that the document has figures of.
RAW = ROOT / "benches/raw"


@dataclass(frozen=True)
class Section:
    """What stands in a document between two comments. The first also says what it was made of."""

    name: str

    def read(self, document: Path) -> tuple[str, str]:
        """What it was made of, and what stands there."""
        source, _, text = self._cut(document)[1].partition(" -->")
        return source.removeprefix(":").strip(), text.strip()

    def write(self, document: Path, text: str, source: str = "") -> None:
        before, _, after = self._cut(document)
        told = f": {source}" if source else ""
        begin = f"<!-- {self.name}{told} -->"
        document.write_text(f"{before}{begin}\n\n{text}\n\n{self._end}{after}")

    @property
    def _end(self) -> str:
        return f"<!-- end of {self.name} -->"

    def _cut(self, document: Path) -> tuple[str, str, str]:
        before, begin, rest = document.read_text().partition(f"<!-- {self.name}")
        inside, end, after = rest.partition(self._end)
        if not begin or not end:
            raise ValueError(f"{document} has no part that {self.name} writes.")
        return before, inside, after


COMPARISON = Section("benches.compare")


def published() -> Path:
    """The file that the document's figures of Fanbus and its peers are of."""
    return RAW / COMPARISON.read(DOCUMENT)[0]
