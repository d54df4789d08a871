"""What is kept of a topic, for who comes late: through deaths and restarts, without a hole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from conftest import StartServer
from fanbus import Bus, BusError, Fanbus, FanbusError
from support.bus_programs import SMALL, new_name
from support.raw_websocket import RawSocket
from support.servers import Server, wait_for
from support.websocket_clients import hear, join


@pytest.fixture(params=[1, 2, 4], ids=lambda workers: f"{workers} workers")
def kept(server: StartServer, request: pytest.FixtureRequest) -> Server:
    return server("history", workers=request.param)


@pytest.fixture
def bus() -> Iterator[Bus]:
    with (
        new_name() as name,
        Bus.open(name, create=True, size=SMALL, history_size=256 * 1024) as bus,
    ):
        yield bus


def publish(server: Server, topic: str, *messages: str) -> list[int]:
    with server.http() as http:
        return [http.post(f"/publish/{topic}", content=it).json()["offset"] for it in messages]


def roll_over(name: str) -> None:
    """So much of another topic that nothing else is left in the rings and in the log."""
    with Bus.open(name) as bus:
        for number in range(70_000):
            bus.publish("noise", str(number))


def bus_of(server: Server) -> str:
    return server.segment.name.removeprefix("fanbus.")


def texts(numbers: range) -> list[str]:
    return [f"message {number}" for number in numbers]


def enter(server: Server, path: str) -> tuple[list[str | bytes], list[str]]:
    """What a new client of a room hears before its handler speaks, and what the handler says."""
    with join(server, path) as ws:
        heard: list[str | bytes] = []
        while not str(message := hear(ws)).startswith("replay "):
            heard.append(message)
        return heard, str(message).split()[1:]


def test_new_subscriber_gets_the_last_messages_after_the_rings_have_wrapped(kept: Server) -> None:
    publish(kept, "room:a", *texts(range(120)))
    assert enter(kept, "/rooms/a?last=30") == (texts(range(90, 120)), ["30", "True", *place(kept)])
    roll_over(bus_of(kept))
    heard, (count, complete, *_) = enter(kept, "/rooms/a?last=100")
    assert heard == texts(range(20, 120))
    assert (count, complete) == ("100", "True")
    heard, (_, complete, *_) = enter(kept, "/rooms/a?last=5000")
    assert heard == texts(range(120 - len(heard), 120))
    assert complete == ("True" if len(heard) == 120 else "False")
    assert enter(kept, "/rooms/empty?last=9")[1][:2] == ["0", "True"]


def place(server: Server) -> list[str]:
    with Bus.open(bus_of(server)) as bus:
        return [str(bus.end), str(bus.epoch)]


def test_subscriber_with_an_offset_gets_the_messages_after_it(kept: Server) -> None:
    offsets = publish(kept, "room:a", *texts(range(60)))
    publish(kept, "room:b", "another room")
    for roll in (False, True):
        if roll:
            roll_over(bus_of(kept))
        heard, (_, complete, *_) = enter(kept, f"/rooms/a?since={offsets[29]}")
        assert (heard, complete) == (texts(range(30, 60)), "True")
        heard, (count, complete, *_) = enter(kept, f"/rooms/a?since={offsets[-1]}")
        assert (heard, count, complete) == ([], "0", "True")
    epoch = place(kept)[1]
    assert enter(kept, f"/rooms/a?since={offsets[29]}&epoch={epoch}")[0] == texts(range(30, 60))
    heard, (_, complete, *_) = enter(kept, f"/rooms/a?since={offsets[29]}&epoch=7")
    assert (heard, complete) == (texts(range(60)), "False"), "an offset of another life"
    heard, (_, complete, *_) = enter(kept, "/rooms/a?since=999999999")
    assert (heard, complete) == (texts(range(60)), "False"), "so is one that is still to come"


def test_replay_and_live_messages_meet_without_a_gap(server: StartServer) -> None:
    # It publishes by the clock: a small ring would be overwritten within half a second, and a
    # worker that gets no time for so long would close who listens.
    kept = server("history", workers=2, environment={"RING": "8M"})
    stop = threading.Event()
    with Bus.open(bus_of(kept)) as bus, ExitStack() as stack:

        def speak() -> None:
            number = 0
            while not stop.is_set():
                bus.publish("room:a", f"message {number}")
                number += 1
                stop.wait(0.0005)

        speaker = threading.Thread(target=speak)
        speaker.start()
        stack.callback(speaker.join)
        stack.callback(stop.set)
        wait_for(lambda: bus.end > 200, "some messages")
        for client in range(40):
            path = "/rooms/a?last=50" if client % 2 else f"/rooms/a?since={bus.end - 20}"
            # Goes without a word: to wait for an answer behind all that is published takes long.
            with RawSocket(kept.port) as ws:
                ws.open(path)
                numbers: list[int] = []
                while len(numbers) < 120:
                    message = str(ws.message())
                    if not message.startswith("replay "):
                        numbers.append(int(message.split()[1]))
                assert numbers == list(range(numbers[0], numbers[0] + 120))


def test_messages_of_relays_and_other_processes_are_retained_too(server: StartServer) -> None:
    kept = server("history", workers=2)
    with join(kept, "/relay/a") as ws:
        ws.send("from a relay")
        assert hear(ws) == "from a relay"
        ws.send(b"\x00\xff")
        assert hear(ws) == b"\x00\xff"
    with Bus.open(bus_of(kept)) as bus:
        bus.publish("room:a", "from a script")
    roll_over(bus_of(kept))
    heard, _ = enter(kept, "/rooms/a?last=10")
    assert heard == ["from a relay", b"\x00\xff", "from a script"]


@pytest.mark.supervised("it kills workers, and waits for others in their place")
def test_history_outlives_workers_and_the_server(server: StartServer) -> None:
    kept = server("history", workers=2)
    publish(kept, "room:a", *texts(range(50)))
    roll_over(bus_of(kept))
    publish(kept, "room:a", *texts(range(50, 60)))
    before = kept.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(set(kept.worker_pids()) - set(before)) == 2, "two new workers")
    assert enter(kept, "/rooms/a?last=60")[0] == texts(range(60))
    port, segment = kept.port, kept.segment
    kept.send_signal(signal.SIGTERM)
    assert kept.wait() == 0
    assert segment.exists(), "the application keeps something"

    again = server("history", workers=1, environment={"PORT": str(port)})
    assert again.segment == segment
    assert enter(again, "/rooms/a?last=60")[0] == texts(range(60))
    for process in (again.pid, *again.worker_pids()):
        os.kill(process, signal.SIGKILL)
    again.wait()
    third = server("history", workers=3, environment={"PORT": str(port)})
    assert enter(third, "/rooms/a?last=60")[0] == texts(range(60))


def test_a_replay_takes_no_more_than_half_of_what_may_wait(server: StartServer) -> None:
    kept = server("history", workers=1)
    publish(kept, "room:a", *(f"{number:0>200}" for number in range(50)))
    heard, (count, complete, *_) = enter(kept, "/small/a?last=50")
    assert len(heard) == int(count) == 2048 // 204
    assert heard[-1] == f"{49:0>200}"
    assert complete == "False"


def test_old_messages_are_not_given_any_more(server: StartServer) -> None:
    kept = server("history", workers=1)
    with kept.http() as http:

        def history() -> Any:
            return http.get("/history/brief:a?last=10").json()

        publish(kept, "brief:a", "soon gone")
        publish(kept, "room:a", "stays")
        wait_for(lambda: history()["messages"] == [], "it is too old")
        assert history()["complete"] is False
        assert http.get("/history/room:a?last=10").json()["messages"] == ["stays"]


def test_a_rule_can_be_made_while_the_server_runs(server: StartServer) -> None:
    kept = server("history", workers=2)
    with kept.http() as http:
        http.post("/keep/late").raise_for_status()
        publish(kept, "late", "one", "two")
        roll_over(bus_of(kept))
        assert http.get("/history/late?last=5").json()["messages"] == ["one", "two"]


def test_history_over_http(server: StartServer) -> None:
    kept = server("history", workers=2)
    offsets = publish(kept, "room:a", "one", "two", "three")
    with kept.http() as http:
        found = http.get("/history/room:a?last=2").json()
        end = offsets[-1] + 1
        assert found == {
            "messages": ["two", "three"],
            "offsets": offsets[1:],
            "complete": True,
            "end": end,
        }
        assert http.get(f"/history/room:a?since={offsets[0]}").json() == found
        assert http.get("/history/room:a?since=-1").json()["offsets"] == offsets


def test_a_bus_without_a_server_keeps_too(bus: Bus) -> None:
    bus.topic("room:{room}", history=10)
    offsets = [bus.publish("room:a", f"message {number}") for number in range(20)]
    for number in range(70_000):
        bus.publish("noise", str(number))
    found = bus.history("room:a", last=10)
    assert [record.message for record in found] == texts(range(10, 20))
    assert [record.offset for record in found] == offsets[10:]
    assert found.complete
    assert found.epoch == bus.epoch
    assert found.end == bus.end
    assert found[0].topic == "room:a"
    assert len(found) == 10
    assert repr(found) == "<History of 10 messages>"
    assert repr(bus.history("noise", since=-1)).endswith("messages, not complete>")

    subscription = bus.subscribe("room:a", last=3)
    assert subscription.complete
    bus.publish("room:a", "and on")
    assert [next(subscription).message for _ in range(4)] == [*texts(range(17, 20)), "and on"]
    late = bus.subscribe("room:a", since=offsets[17])
    assert [next(late).message for _ in range(3)] == [*texts(range(18, 20)), "and on"]
    assert not bus.subscribe("noise", since=0).complete
    late.close()
    with pytest.raises(StopIteration):
        next(late)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({}, "Pass last=100"),
        ({"last": 1, "since": 1}, "cannot be combined"),
        ({"last": -1}, "last must be 0 or more, got -1"),
        ({"since": -2}, "or -1 for all messages, got -2"),
        ({"epoch": 5}, "together with since"),
        ({"last": 1, "epoch": 5}, "together with since"),
    ],
)
def test_invalid_request_for_history_is_refused(
    bus: Bus, wish: dict[str, int], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        bus.history("t", **wish)
    if wish:
        with pytest.raises(ValueError, match=reason):
            bus.subscribe("t", **wish)


def test_invalid_retention_rule_is_refused(bus: Bus) -> None:
    app = Fanbus("x")
    for pattern, history, seconds in [("", 1, None), (5, 1, None), ("t", -1, None), ("t", 1, 0)]:
        with pytest.raises(FanbusError, match=r"must be an integer|the name of a topic"):
            app.topic(pattern, history=history, seconds=seconds)  # type: ignore[arg-type]
    for keeps in (app, bus):
        with pytest.raises(FanbusError, match=r'^"room:{room" is not a pattern of topics'):
            keeps.topic("room:{room", history=5)
    with pytest.raises(FanbusError, match="needs a running server"):
        app.history("t", last=1)
    for number in range(64):
        bus.topic(f"t{number}", history=1)
    with pytest.raises(BusError, match="64 retention rules"):
        bus.topic("more", history=1)
