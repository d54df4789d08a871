"""The comparison that has all runs, with their rows and systems, in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .measuring import Run
from .rows import Entry, Row


@dataclass(frozen=True)
class Comparison:
    """Everything that tables and pictures are made of: a file of it needs no other."""

    # Machine, versions, date and how long it was measured.
    system: dict[str, Any]
    rows: Sequence[Row]
    # By the names of row and entry: a run for each round.
    results: dict[str, dict[str, list[Run]]]

    def runs(self, row: Row, entry: Entry) -> list[Run]:
        return self.results[row.name][entry.name]

    def write(self, path: Path) -> None:
        rows = [dataclasses.asdict(row) for row in self.rows]
        record = {"system": self.system, "rows": rows, "runs": self.results}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Comparison:
        return cls.of(json.loads(path.read_text()))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Comparison:
        """Of the record that `write` puts into a file."""
        return cls(record["system"], [Row.of(row) for row in record["rows"]], record["runs"])
