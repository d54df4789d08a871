"""Listeners of slots that were given up: who is steered where, and when they may be closed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from fanbus import _core
from fanbus.server.scale_down import ScaleDown
from fanbus.server.slot import Process, Slot

LATER_S = 5.0


class Bench:
    """Slots on one port, with processes that do nothing."""

    def __init__(self, count: int) -> None:
        self.told: list[Process] = []
        self.retired = ScaleDown(self._tell_to_end)
        self.port, listeners = _core.bind_listeners("127.0.0.1", 0, count, 64, shared=False)
        self.slots = [Slot(index, listener) for index, listener in enumerate(listeners, 1)]
        for slot in self.slots:
            slot.current = Process(slot.index, 0, None, -1, 0.0, 0.0)
            slot.current.is_ready = True
        self._all = list(self.slots)
        self._clients: list[socket.socket] = []

    def _tell_to_end(self, slot: Slot, process: Process) -> None:
        slot.leaving.append(process)
        self.told.append(process)

    def give_up(self) -> Slot:
        """The last slot."""
        slot = self.slots.pop()
        self.retired.add(slot, self.slots)
        return slot

    def take_back(self) -> Slot:
        """The one that is wanted first again."""
        slot = self.retired.reuse_slot(self.slots)
        assert slot is not None
        self.slots.append(slot)
        return slot

    def look(self) -> list[Slot]:
        """When all that was under way has come."""
        return self.retired.advance(time.monotonic() + LATER_S, self.slots)

    def connect(self) -> None:
        """So often that each listener gets one, unless it is passed by."""
        for _ in range(60):
            self._clients.append(socket.create_connection(("127.0.0.1", self.port)))

    def reached(self) -> set[int]:
        """The slots in whose queues somebody waits; empties them."""
        return {slot.index for slot in self._all if slot.listener >= 0 and taken_from(slot)}

    def close(self) -> None:
        """All of it."""
        for client in self._clients:
            client.close()
        for slot in self._all:
            if slot.listener >= 0:
                os.close(slot.listener)


def taken_from(slot: Slot) -> int:
    """How many connections have waited in its queue."""
    count = 0
    with socket.socket(fileno=os.dup(slot.listener)) as listener:
        while True:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench(4)
    yield one
    one.close()


def stop_listening(slot: Slot) -> None:
    """Its workers have closed their copies."""
    for process in slot.leaving:
        process.has_stopped_listening = True


def test_one_that_is_given_up_is_passed_by_and_its_worker_ends_later(bench: Bench) -> None:
    slot = bench.give_up()
    bench.connect()
    assert bench.reached() == {1, 2, 3}
    assert bench.retired.advance(time.monotonic(), bench.slots) == []
    assert bench.told == []
    assert bench.look() == []
    assert bench.told == slot.leaving


def test_it_is_passed_by_until_its_worker_has_closed_its_copy(bench: Bench) -> None:
    slot = bench.give_up()
    bench.look()
    bench.connect()
    assert bench.reached() == {1, 2, 3}
    assert slot.listener >= 0
    stop_listening(slot)
    bench.look()
    assert slot.listener == -1
    bench.connect()
    assert bench.reached() == {1, 2, 3}


def test_booting_worker_stays_while_a_client_waits_for_it(bench: Bench) -> None:
    slot = bench.slots[-1]
    assert slot.current is not None
    slot.current.is_ready = False
    bench.connect()
    bench.give_up()
    assert bench.look() == []
    assert bench.told == []
    bench.reached()
    bench.look()
    assert bench.told == slot.leaving


def test_client_in_an_accept_queue_without_a_worker_needs_one(bench: Bench) -> None:
    bench.connect()
    slot = bench.give_up()
    slot.current = None  # killed
    assert bench.look() == [slot]
    bench.reached()
    assert bench.look() == []
    assert slot.listener == -1


def test_they_come_back_in_their_places(bench: Bench) -> None:
    fourth, third, second = bench.give_up(), bench.give_up(), bench.give_up()
    bench.connect()
    assert bench.reached() == {1}
    assert bench.take_back() is second
    assert second.current is not None, "who has not been told to end goes on"
    bench.connect()
    assert bench.reached() == {1, 2}
    bench.look()
    # The third may not go before the fourth, which would come into its place.
    stop_listening(third)
    bench.look()
    assert third.listener >= 0
    assert bench.take_back() is third
    bench.connect()
    assert bench.reached() == {1, 2, 3}
    stop_listening(fourth)
    bench.look()
    assert fourth.listener == -1
    assert bench.retired.reuse_slot(bench.slots) is None
    bench.connect()
    assert bench.reached() == {1, 2, 3}


def test_one_that_shares_its_queue_goes_at_once(bench: Bench) -> None:
    shared = Slot(5, os.dup(bench.slots[0].listener))
    shared.current = Process(5, 0, None, -1, 0.0, 0.0)
    bench.retired.add(shared, bench.slots)
    assert shared.listener == -1
    assert bench.told == shared.leaving
    bench.connect()
    assert bench.reached() == {1, 2, 3, 4}
