"""The pages of figures, docs/benchmarks.md and docs/benchmarks/, and their generated sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs/benchmarks.md"
# One page for each subject, with its tables.
SUBJECTS = ROOT / "docs/benchmarks"
README = ROOT / "README.md"
PICTURES = ROOT / "docs/images"
# A file for each sitting that the pages have figures of.
SITTINGS = ROOT / "benches/sittings"


@dataclass(frozen=True)
class Section:
    """The text between two comments of a page. The first comment may also name its source."""

    name: str

    def read(self, document: Path) -> tuple[str, str]:
        """The source, and the text."""
        _, source, text, _ = self._cut(document)
        return source, text.strip()

    def write(self, document: Path, text: str, source: str = "") -> None:
        before, _, _, after = self._cut(document)
        named = f": {source}" if source else ""
        begin = f"<!-- {self.name}{named} -->"
        document.write_text(f"{before}{begin}\n\n{text}\n\n{self._end}{after}")

    @property
    def _end(self) -> str:
        return f"<!-- end of {self.name} -->"

    def _cut(self, document: Path) -> tuple[str, str, str, str]:
        """The text before, the source, the text inside, and the text after."""
        text = document.read_text()
        begin = re.search(rf"<!-- {re.escape(self.name)}(?:: ([^\n]*?))? -->", text)
        if begin is None:
            raise ValueError(f"{document} has no section {self.name}.")
        inside, end, after = text[begin.end() :].partition(self._end)
        if not end:
            raise ValueError(f"{document} does not say where section {self.name} ends.")
        return text[: begin.start()], begin[1] or "", inside, after


SITTING = Section("figures.sitting")


def published() -> Path:
    """The file of the sitting that the figures of the pages come from."""
    return SITTINGS / f"{SITTING.read(DOCUMENT)[0]}.json"


def pages() -> list[Path]:
    """All pages that have figures of a sitting."""
    return [DOCUMENT, *sorted(SUBJECTS.glob("*.md"))]


def homes() -> dict[str, Path]:
    """The page of each section, by the names of the sections."""
    return {name: page for page in pages() for name in names(page)}


def names(document: Path) -> list[str]:
    """The sections of a page, in their order."""
    return re.findall(r"<!-- end of (\S+) -->", document.read_text())
