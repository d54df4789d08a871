"""The table that shows the figures of a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["driver_table", "show"]

_Row = tuple[str, str, str]

_COUNTS = (
    ("sent", "sent"),
    ("delivered", "delivered"),
    ("missing", "missing"),
    ("unsent", "due and never sent"),
    ("wrong", "wrong"),
    ("gaps", "gaps"),
    ("late", "out of order"),
    ("duplicates", "duplicates"),
    ("orders", "different orders"),
    ("stalls", "stalls"),
    ("foreign", "foreign messages"),
)


def show(figures: Mapping[str, Any]) -> str:
    """All figures that are not null, and the errors as sentences below."""
    rows = list(_rows(figures))
    text = "".join(f"{name:<24} {value:>14} {unit}".rstrip() + "\n" for name, value, unit in rows)
    driver = figures["driver"]
    if driver is not None and driver["is_the_limit"]:
        text += (
            f"\nThe driver was awake for {driver['busy_percent']:.0f} % of the time: it may be the "
            "limit, and not the server.\n`fanbus bench self-test` says what it can do here.\n"
        )
    if not figures["complete"]:
        text += "\nNOT COMPLETE\n" + "".join(f"- {fault}\n" for fault in figures["faults"])
    return text


def driver_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of the self-test."""
    text = (
        f"{'the driver itself':<20} {'per second':>12} {'p50, us':>9} {'p99, us':>9} "
        f"{'CPU, us':>9} {'server':>9} {'ceiling':>12}\n"
    )
    for name, figures in rows.items():
        latency = figures["latency_us"] or {"p50": 0.0, "p99": 0.0}
        driver, server = figures["driver"], figures["server"]
        text += (
            f"{name:<20} {figures['per_second']:>12,.0f} {number(latency['p50']):>9} "
            f"{number(latency['p99']):>9} {number(driver['cpu_us_per_unit'] or 0.0):>9} "
            f"{number(server['cpu_us_per_unit'] or 0.0):>9} "
            f"{driver['ceiling_per_second'] or 0.0:>12,.0f}\n"
        )
        text += "".join(f"  NOT COMPLETE: {fault}\n" for fault in figures["faults"])
    return (
        text + "CPU is that of the driver for each, and of a server that does next to nothing; the "
        "ceiling\nis how many a second the driver would do with a core of its own.\n"
    )


def _rows(figures: Mapping[str, Any]) -> Iterator[_Row]:
    load = figures["load"]
    yield "connections", f"{load['connections']:,}", ""
    for key, name, unit in (
        ("publishers", "publishers", ""),
        ("in_flight", "in flight", "(closed loop)"),
        ("rate", "rate", "per second (open loop)"),
        ("bytes", "message", "bytes"),
    ):
        if load[key] is not None:
            yield name, number(load[key]), unit
    if figures["mode"] != "idle":
        yield figures["unit"], f"{figures['units']:,}", f"in {figures['seconds']:.1f} s"
        yield "per second", f"{figures['per_second']:,.0f}", ""
    for name, value in (figures["latency_us"] or {}).items():
        yield name, number(value), "us"
    for key, name in _COUNTS:
        if figures[key] is not None:
            yield name, f"{figures[key]:,}", ""
    for status, count in figures["statuses"].items():
        yield f"status {status}", f"{count:,}", ""
    for code, count in figures["closed"].items():
        yield f"closed with {code}", f"{count:,}", ""
    if figures["wire_bytes_per_unit"] is not None:
        yield "received", number(figures["wire_bytes_per_unit"]), "bytes each"
    yield from _fairness(figures["fairness"])
    yield from _server(figures["server"], figures["idle"], figures["unit"])
    driver = figures["driver"]
    if driver is not None:
        yield "driver awake", number(driver["busy_percent"]), "%"
        if driver["ceiling_per_second"] is not None:
            yield "driver CPU each", number(driver["cpu_us_per_unit"]), f"us, of {figures['unit']}"
            yield (
                "driver's ceiling",
                f"{driver['ceiling_per_second']:,.0f}",
                f"per second; the driver was at {driver['cpu_percent']:.0f} % of it",
            )


def _fairness(fairness: Mapping[str, Any] | None) -> Iterator[_Row]:
    if fairness is None:
        return
    yield "fairness (Jain)", f"{fairness['jain']:.3f}", "1: all clients alike"
    yield "least, most per client", f"{fairness['least_units']:,}, {fairness['most_units']:,}", ""
    means = (fairness["quickest_client_mean_us"], fairness["slowest_client_mean_us"])
    yield "mean per client", ", ".join(number(mean) for mean in means), "us, least and most"


def _server(
    server: Mapping[str, Any] | None, idle: Mapping[str, Any] | None, unit: str
) -> Iterator[_Row]:
    if server is not None:
        yield "server CPU", number(server["cpu_percent"]), "%"
        if server["cpu_us_per_unit"] is not None:
            yield "server CPU each", number(server["cpu_us_per_unit"]), f"us, of {unit}"
        yield (
            "server memory",
            number(server["memory_mib"]),
            f"MiB, {server['processes']} processes",
        )
    if idle is not None:
        yield "memory per connection", number(idle["pss_per_connection_kib"]), "KiB (PSS)"
        per_second = number(idle["cpu_us_per_connection_second"])
        yield "CPU per connection", per_second, "us per second"


def number(value: float) -> str:
    """A number with three significant digits."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
