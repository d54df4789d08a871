"""What `fanbus bench` counts of a server that does wrong a known number of times."""

from __future__ import annotations

import socket
from typing import Any

from support.bench_programs import Unreliable, faults, figures
from support.faulty_server import HELD, RELEASED


def room(unreliable: Unreliable, fault: str, publishers: int, *, status: int = 1) -> dict[str, Any]:
    """100 messages to 4 subscribers and the publishers."""
    load = ("-c", "4", "--publishers", str(publishers), "--rate", "200", "--patience", "0.5")
    url = unreliable.url(f"/room/{fault}")
    found = figures("fanout", url, *load, "--warmup", "0", "--seconds", "0.5", status=status)
    assert found["sent"] == 100
    return found


COUNTS = ("delivered", "missing", "gaps", "late", "duplicates", "orders", "wrong", "foreign")


def counts(found: dict[str, Any]) -> list[int]:
    return [found[name] for name in COUNTS]


def test_what_a_client_does_not_get_is_missing_and_leaves_gaps(unreliable: Unreliable) -> None:
    """5 and 6 leave one gap, 20 another; who lost them is no witness of an order."""
    found = room(unreliable, "drop", 1)
    assert counts(found) == [497, 3, 2, 0, 0, 1, 0, 0]
    assert "3 did not arrive." in faults(found)


def test_what_comes_twice_is_a_duplicate_at_each_client(unreliable: Unreliable) -> None:
    found = room(unreliable, "double", 1)
    assert counts(found) == [500, 0, 0, 0, 5, 1, 0, 0]


def test_what_changes_places_is_late_and_another_order(unreliable: Unreliable) -> None:
    found = room(unreliable, "swap", 1)
    assert counts(found) == [500, 0, 1, 1, 0, 2, 0, 0]
    assert "2 different orders" in faults(found)


def test_two_publishers_whose_messages_change_places_are_only_another_order(
    unreliable: Unreliable,
) -> None:
    assert counts(room(unreliable, "swap", 2)) == [600, 0, 0, 0, 0, 2, 0, 0]


def test_what_has_another_size_is_wrong(unreliable: Unreliable) -> None:
    assert counts(room(unreliable, "alter", 1)) == [500, 0, 0, 0, 0, 1, 1, 0]


def test_a_room_without_a_fault_has_none(unreliable: Unreliable) -> None:
    assert counts(room(unreliable, "none", 3, status=0)) == [700, 0, 0, 0, 0, 1, 0, 0]


def test_echoes_are_accounted_for_alike(unreliable: Unreliable) -> None:
    load = ("-c", "1", "--rate", "200", "--warmup", "0", "--seconds", "0.5", "--patience", "0.5")
    drop = figures("echo", unreliable.url("/echo/drop"), *load, status=1)
    assert (drop["sent"], drop["missing"], drop["gaps"]) == (100, 3, 2)
    swap = figures("echo", unreliable.url("/echo/swap"), *load, status=1)
    assert (swap["missing"], swap["gaps"], swap["late"]) == (0, 1, 1)
    double = figures("echo", unreliable.url("/echo/double"), *load, status=1)
    assert (double["missing"], double["duplicates"]) == (0, 1)


def test_driver_at_a_rate_measures_how_long_requests_waited_during_a_stall(
    unreliable: Unreliable,
) -> None:
    """The server answers nothing from message 20 on until message 50 has come, which is not due
    before 300 ms have passed. So of those 31, all that were due 100 ms before it waited so long."""
    load = ("-c", "1", "--rate", "100", "--warmup", "0", "--seconds", "1")
    found = figures("echo", unreliable.url("/echo/hold"), *load)
    assert found["sent"] == found["delivered"] == 100, "a stall makes it ask no less"
    slow = sum(count for upper_us, count in found["distribution_us"] if upper_us >= 100_000)
    assert slow >= (RELEASED - HELD) - 10
    assert found["latency_us"]["max"] >= 290_000


def test_the_closed_loop_gives_up_what_does_not_come_and_goes_on(unreliable: Unreliable) -> None:
    """One in flight: message 50 is never sent, so 20 never comes back, nor does what follows it."""
    load = ("-c", "1", "--warmup", "0", "--seconds", "1.5", "--patience", "0.1")
    found = figures("echo", unreliable.url("/echo/hold"), *load, status=1)
    assert found["stalls"] >= 1
    assert found["delivered"] == HELD
    assert found["sent"] == HELD + found["stalls"] + 1 == HELD + found["missing"]


def test_what_was_due_and_never_sent_is_counted() -> None:
    """A server that takes one request and never answers: the others have nothing to go by."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        load = ("-c", "2", "--rate", "50", "--warmup", "0", "--seconds", "0.4", "--patience", "0.1")
        found = figures("http", url, *load, status=1)
    assert (found["sent"], found["missing"], found["unsent"]) == (2, 2, 18)
    assert found["latency_us"] is None
