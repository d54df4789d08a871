"""A bus that is removed, damaged or loses its name is nobody's silent end (docs/guarantees.md)."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from conftest import StartServer
from fanbus import Bus, BusError
from support.servers import Server, wait_for
from support.websocket_clients import closed_with, hear, join

WORKERS = 2


@pytest.fixture
def one(server: StartServer) -> Server:
    return server("rooms", workers=WORKERS)


def name_of(one: Server) -> str:
    return one.segment.name.removeprefix("fanbus.")


def remove_by_force(one: Server) -> None:
    command = [sys.executable, "-m", "fanbus", "bus", "remove", name_of(one), "--force"]
    subprocess.run(command, check=True, capture_output=True)


def lose_the_name(one: Server) -> None:
    one.segment.unlink()


def damage(one: Server) -> None:
    """Words in the log that no publisher could have left there."""
    with one.segment.open("r+b") as segment:
        log_at = 4096 + 32768 + 32768
        segment.seek(log_at)
        segment.write(struct.pack("<Q", 0xFFF0 << 48) * (1 << 16))
    with one.http() as http:
        assert http.post("/sync/hall", content="into the damage").status_code == 500


BREAKS: list[Callable[[Server], None]] = [remove_by_force, lose_the_name, damage]


def all_hear_each_other(one: Server) -> None:
    """Clients of every worker get what any worker publishes."""
    with ExitStack() as stack:
        clients = [stack.enter_context(join(one, "/rooms/after")) for _ in range(12)]
        assert {str(hear(client)) for client in clients} == {
            f"in {pid}" for pid in one.worker_pids()
        }
        with one.http() as http:
            assert http.post("/sync/after", content="again").status_code == 200
        assert {hear(client) for client in clients} == {"again"}


@pytest.mark.parametrize("breaks", BREAKS)
def test_broken_bus_closes_its_listeners_and_is_created_again(
    one: Server, breaks: Callable[[Server], None]
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(join(one, "/rooms/hall")) for _ in range(8)]
        for client in clients:
            hear(client)
        before = set(one.worker_pids())
        breaks(one)
        assert {closed_with(client) for client in clients} <= {1012, 1013}
    one.wait_for_log("while the server runs. A new bus is created")
    wait_for(lambda: not before & set(one.worker_pids()), "new workers")
    wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
    all_hear_each_other(one)
    assert one.log().count("A new bus is created") == 1


@pytest.mark.parametrize("breaks", BREAKS)
def test_a_single_process_makes_its_bus_once_more(
    server: StartServer, breaks: Callable[[Server], None]
) -> None:
    alone = server("rooms", environment={"FANBUS_SINGLE_PROCESS": "1"})
    with Bus.open(name_of(alone)) as holder, join(alone, "/rooms/hall") as client:
        assert hear(client) == f"in {alone.pid}"
        breaks(alone)
        assert closed_with(client) in (1012, 1013)
        alone.wait_for_log("The server is ready again, on another bus.")
        with pytest.raises(BusError, match="was removed"):
            holder.publish("room:hall", "to nobody")
        with Bus.open(name_of(alone)) as again, join(alone, "/rooms/hall") as later:
            assert again.epoch > holder.epoch
            hear(later)
            again.publish("room:hall", "welcome back")
            assert hear(later) == "welcome back"
            with alone.http() as http:
                assert http.post("/sync/hall", content="all is well").status_code == 200
            assert hear(later) == "all is well"
    assert alone.log().count("while the server runs. A new bus is created") == 1
    alone.send_signal(signal.SIGTERM)
    assert alone.wait() == 0
    assert not alone.segment.exists()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_single_process_that_repairs_its_bus_ends_at_a_signal(
    server: StartServer, loop: str
) -> None:
    environment = {"FANBUS_SINGLE_PROCESS": "1", "FANBUS_LOOP": loop}
    alone = server("rooms", environment=environment)
    with alone.http() as http, join(alone, "/rooms/hall") as client:
        hear(client)
        lose_the_name(alone)
        assert closed_with(client) in (1012, 1013)
        alone.wait_for_log("while the server runs. A new bus is created")
        alone.wait_for_log("is ready again")
        assert http.post("/sync/hall", content="served").status_code == 200
        lose_the_name(alone)
        wait_for(lambda: alone.log().count("A new bus is created") == 2, "the second repair")
        alone.send_signal(signal.SIGTERM)
        assert alone.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in alone.log()


def test_a_worker_that_is_replaced_does_not_make_a_bus_of_its_own(one: Server) -> None:
    lose_the_name(one)
    for worker in one.worker_pids():
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: one.log().count("Reloaded: ") == 1, "the end of the reload")
    all_hear_each_other(one)


@pytest.fixture
def holder(one: Server) -> Iterator[Bus]:
    with Bus.open(name_of(one)) as bus:
        yield bus


def test_member_of_a_removed_bus_gets_an_error(one: Server, holder: Bus) -> None:
    subscription = holder.subscribe("news")
    remove_by_force(one)
    with pytest.raises(BusError, match="was removed"):
        holder.publish("news", "to nobody")
    with pytest.raises(BusError, match="was removed"):
        subscription.receive(timeout=30)


def test_bus_of_an_ended_server_stays_for_its_other_members(
    server: StartServer, one: Server, holder: Bus
) -> None:
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert one.segment.exists()
    subscription = holder.subscribe("room:hall")
    holder.publish("room:hall", "in between")
    record = subscription.receive(timeout=30)
    assert record is not None
    assert record.message == "in between"
    again = server("rooms", workers=1, environment={"PORT": str(one.port)})
    with join(again, "/rooms/hall") as client:
        hear(client)
        holder.publish("room:hall", "welcome back")
        assert hear(client) == "welcome back"
    holder.close()
    again.send_signal(signal.SIGTERM)
    assert again.wait() == 0
    assert not again.segment.exists(), "nobody uses it any more"
