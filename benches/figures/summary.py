"""The summary of a sitting: the figures that its tables are made of, in one small file.

The records of a sitting are large and are not committed. Its summary is, in benches/sittings. It
knows which figures of a record the tables read, and nothing of the tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.compare.measuring import Run
from benches.compare.rows import FANBUS

# Of each run of a load client. A table that reads another figure needs its path here.
OF_A_RUN = (
    *("failed", "faults", "complete", "per_second", "wire_bytes_per_unit"),
    *("delivered", "missing", "duplicates", "orders", "closed"),
    *("server.cpu_us_per_unit", "server.memory_mib"),
    *("driver.cpu_us_per_unit", "driver.ceiling_per_second"),
    *("latency_us.mean", "latency_us.p50", "latency_us.p99"),
    *("idle.pss_per_connection_kib", "beside.per_second", "worker_mb", "start_ms"),
)
# Of each round of the bus benchmark; its tables are in its record. benches/model.json names these.
OF_THE_BUS = ("cpu_us", "publish_ns")
# More than any table shows.
DIGITS = 12
# A value that is not longer than this is one line of the file.
LINE = 1000
# The key of runs that are written as columns: by the path of a figure, its value of each run.
COLUMNS = "columns"

Record = dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """The figures of one sitting, by the names of its parts."""

    name: str
    records: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, records: Mapping[str, Any]) -> Summary:
        """Leaves out of the records all figures that no table reads."""
        short = {part: SHORTENED.get(part, whole)(record) for part, record in records.items()}
        return cls(name, rounded(short))

    @classmethod
    def read(cls, file: Path) -> Summary:
        return cls(file.stem, json.loads(file.read_text()))

    def record(self, part: str) -> Any:
        """The record of a part, without the figures that no table reads."""
        return expanded(self.records[part])

    def write(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(laid_out(self.records) + "\n")


def whole(record: Any) -> Any:
    return record


def comparison(record: Record) -> Record:
    runs = {
        row: {entry: columns(map(run, rounds)) for entry, rounds in entries.items()}
        for row, entries in record["runs"].items()
    }
    return {**record, "runs": runs}


def self_test(record: Record) -> Record:
    rounds = ({load: run(each) for load, each in loads.items()} for loads in record["rounds"])
    return {"rounds": columns(rounds)}


def threads(record: Record) -> Record:
    results = {
        count: {lock: columns(map(run, rounds)) for lock, rounds in locks.items()}
        for count, locks in record["results"].items()
    }
    return {**record, "results": results}


def bus(record: Record) -> Record:
    runs = [
        {
            "contender": FANBUS,
            "case": case["case"],
            "rounds": columns(picked(each or {}, OF_THE_BUS) for each in case["rounds"]),
        }
        for case in record["runs"]
        if case["contender"] == FANBUS
    ]
    return {**record, "runs": runs}


# By part; the records of all others are small.
SHORTENED: Mapping[str, Callable[[Any], Any]] = {
    "compare": comparison,
    "compression": comparison,
    "self-test": self_test,
    "threads": threads,
    "bus": bus,
}


def run(found: Run) -> Run:
    return picked(found, OF_A_RUN)


def picked(found: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Those of the paths that have a value, nested as they were."""
    result: dict[str, Any] = {}
    for path in paths:
        group, _, name = path.rpartition(".")
        value = (found.get(group) or {} if group else found).get(name)
        if value is not None and value not in ([], {}):
            (result.setdefault(group, {}) if group else result)[name] = value
    return result


def columns(runs: Iterable[Run]) -> Record:
    flat = [dict(leaves(run)) for run in runs]
    paths = dict.fromkeys(path for run in flat for path in run)
    return {COLUMNS: {path: [run.get(path) for run in flat] for path in paths}}


def leaves(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{name}/")
        else:
            yield before + name, value


def expanded(found: Any) -> Any:
    """A record with its columns made into runs again."""
    if isinstance(found, list):
        return [expanded(each) for each in found]
    if not isinstance(found, dict):
        return found
    if COLUMNS not in found:
        return {name: expanded(value) for name, value in found.items()}
    count = max(map(len, found[COLUMNS].values()), default=0)
    runs: list[Run] = [{} for _ in range(count)]
    for path, values in found[COLUMNS].items():
        *groups, name = path.split("/")
        for each, value in zip(runs, values, strict=True):
            if value is not None:
                for group in groups:
                    each = each.setdefault(group, {})
                each[name] = value
    return runs


def rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.{DIGITS}g}") if isinstance(found, float) else found


def laid_out(found: Any, indent: int = 0) -> str:
    """JSON with short values on one line each, for readable differences between commits."""
    line = json.dumps(found, ensure_ascii=False)
    if len(line) + indent <= LINE or not isinstance(found, dict | list):
        return line
    pad = " " * (indent + 1)
    if isinstance(found, dict):
        begin, end = "{}"
        parts = [
            f"{json.dumps(key)}: {laid_out(value, indent + 1)}" for key, value in found.items()
        ]
    else:
        begin, end = "[]"
        parts = [laid_out(value, indent + 1) for value in found]
    return f"{begin}\n{pad}" + f",\n{pad}".join(parts) + f"\n{' ' * indent}{end}"
