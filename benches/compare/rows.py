"""The row of a comparison: a load, and the systems that it is applied to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FANBUS, FLOOR = "Fanbus", "floor"
FASTAPI, ACTIX, NGINX, GRANIAN = "FastAPI on uvicorn", "actix-web", "nginx", "Granian RSGI"
GRANIAN_FILES = "Granian, static files"
START, WORKER, NOTIFY, BURSTS = "start", "worker", "notify", "bursts"
DOWNLOADS, HTTP2 = "downloads", "http2"


@dataclass(frozen=True)
class Entry:
    """One system's share in a row."""

    system: str
    path: str
    # The difference from another entry of the same system.
    variant: str = ""
    # Options of the load client for its protocol. @PORT@ stands for the server's port.
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.system}, {self.variant}" if self.variant else self.system


@dataclass(frozen=True)
class Bar:
    """No more than this, or no less."""

    limit: float
    # So many times the figure of the entry of this name. Empty: the figure itself.
    times: str = ""
    is_least: bool = False


@dataclass(frozen=True)
class Row:
    """The same load for each of its entries, one after the other."""

    name: str
    # A mode of `fanbus bench`, or one of those above, which do without it.
    mode: str
    entries: tuple[Entry, ...]
    options: tuple[str, ...] = ()
    workers: int = 1
    # The figure that counts; tables.FIGURES has all of them.
    figure: str = "cpu"
    # By entry: the targets of Fanbus.
    bars: Mapping[str, Bar] = field(default_factory=dict)
    has_tls: bool = False
    # Four more connections request this path during the measurement; "beside" in the figures.
    beside: str = ""
    # The program that the systems run in place of their usual one: systems.PROGRAMS has them.
    program: str = ""
    # The services that it needs: surroundings.STARTED, and packages of systems.NEEDED.
    needs: tuple[str, ...] = ()

    @property
    def has_load(self) -> bool:
        """It is measured while it works."""
        return self.mode not in (START, WORKER)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Row:
        """Of the record that `dataclasses.asdict` makes."""
        entries = [
            Entry(**{**entry, "options": tuple(entry["options"])}) for entry in record["entries"]
        ]
        bars = {name: Bar(**bar) for name, bar in record["bars"].items()}
        # Files that are older than a field do not have it.
        tuples = {name: tuple(record.get(name, ())) for name in ("options", "needs")}
        return cls(**{**record, **tuples, "entries": tuple(entries), "bars": bars})
