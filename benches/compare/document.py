"""docs/benchmarks.md: the parts of it that are made of what was measured, and never by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/benchmarks.md"
README = ROOT / "README.md"
PICTURES = ROOT / "docs/images"
# A folder for each sitting that the document has figures of.
RAW = ROOT / "benches/raw"


@dataclass(frozen=True)
class Section:
    """What stands in a document between two comments. The first also says what it was made of."""

    name: str

    def read(self, document: Path) -> tuple[str, str]:
        """What it was made of, and what stands there."""
        _, source, text, _ = self._cut(document)
        return source, text.strip()

    def write(self, document: Path, text: str, source: str = "") -> None:
        before, _, _, after = self._cut(document)
        told = f": {source}" if source else ""
        begin = f"<!-- {self.name}{told} -->"
        document.write_text(f"{before}{begin}\n\n{text}\n\n{self._end}{after}")

    @property
    def _end(self) -> str:
        return f"<!-- end of {self.name} -->"

    def _cut(self, document: Path) -> tuple[str, str, str, str]:
        """What comes before, the source, what stands inside, and what comes after."""
        text = document.read_text()
        begin = re.search(rf"<!-- {re.escape(self.name)}(?:: ([^\n]*?))? -->", text)
        if begin is None:
            raise ValueError(f"{document} has no part that {self.name} writes.")
        inside, end, after = text[begin.end() :].partition(self._end)
        if not end:
            raise ValueError(f"{document} does not say where {self.name} ends.")
        return text[: begin.start()], begin[1] or "", inside, after


SITTING = Section("figures.sitting")


def published() -> Path:
    """The folder of the sitting that the document's figures come from."""
    return RAW / SITTING.read(DOCUMENT)[0]


def names(document: Path) -> list[str]:
    """Of all parts that something writes, in their order."""
    return re.findall(r"<!-- end of (\S+) -->", document.read_text())
