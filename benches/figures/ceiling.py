"""The ceiling of the load client: its measured load beside its maximum."""

from __future__ import annotations

import statistics

from benches.compare.comparison import Comparison
from benches.compare.measuring import Run
from benches.compare.rows import FANBUS, FLOOR, Row
from benches.compare.tables import at, headroom, median, short, times, whole
from benches.independent import OURS, PUBLISHERS, RATE, SUBSCRIBERS, Figures

# The rounds of `fanbus bench self-test --json`.
Tests = dict[str, list[dict[str, Run]]]


def by_itself(tests: Tests) -> str:
    """The maximum of the driver against a minimal server."""
    lines = [
        "| load | per second | driver's CPU, µs | bare server's CPU, µs | ceiling, per second |",
        "|---|---|---|---|---|",
    ]
    for load in tests["rounds"][0]:
        runs = [each[load] for each in tests["rounds"]]
        cells = [
            whole(median(runs, at("per_second"))),
            short(median(runs, at("driver.cpu_us_per_unit"))),
            short(median(runs, at("server.cpu_us_per_unit"))),
            whole(ceiling(tests, load)),
        ]
        lines.append(f"| {load} | {' | '.join(cells)} |")
    return "\n".join(lines)


def against_the_ceiling(
    compared: Comparison, tests: Tests, clients: dict[str, list[Figures]]
) -> str:
    """Rows of Fanbus and the floor; those of other systems are in their own tables."""
    lines = [
        "| load | per second | driver's ceiling in this run | times | self-test's ceiling "
        "| times |",
        "|---|---|---|---|---|---|",
    ]
    for row in compared.rows:
        for entry in row.entries:
            runs = compared.runs(row, entry)
            done = median(runs, at("per_second"))
            if entry.system in (FANBUS, FLOOR) and kind(row) and done:
                could = median(runs, at("driver.ceiling_per_second"))
                best = ceiling(tests, kind(row))
                cells = [whole(done), whole(could), times(median(runs, headroom))]
                cells += [whole(best), times(best and best / done)]
                lines.append(f"| {row.name}: {entry.name} | {' | '.join(cells)} |")
    ours = clients[OURS]
    done, could = (of_clients(ours, key) for key in ("per_second", "ceiling_per_second"))
    share = statistics.median(each["ceiling_per_second"] / each["per_second"] for each in ours)
    best = ceiling(tests, "fan-out to 204")
    name = f"chat example, 2 workers, {SUBSCRIBERS + PUBLISHERS} clients, {RATE:.0f} messages/s"
    cells = [whole(done), whole(could), times(share), whole(best), times(best and best / done)]
    lines.append(f"| {name}: {OURS} | {' | '.join(cells)} |")
    return "\n".join(lines)


def of_clients(found: list[Figures], key: str) -> float:
    return statistics.median(each[key] for each in found)


def ceiling(tests: Tests, load: str) -> float | None:
    runs = [each[load] for each in tests["rounds"]]
    return median(runs, at("driver.ceiling_per_second"))


def kind(row: Row) -> str:
    """The load of the self-test that is most like this one; empty for a row without units."""
    if row.mode == "echo":
        many = row.options[row.options.index("--in-flight") + 1] if row.options else "1"
        return f"echo, {many} in flight"
    return {"http": "HTTP", "handshake": "handshakes", "fanout": "fan-out to 204"}.get(row.mode, "")
