"""The commands that use a bus: publish, subscribe, bus list, bus show, bus remove."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conftest import StartServer
from fanbus import Bus, BusError, _core
from fanbus.cli.bus import choose
from fanbus.exceptions import StartError
from support.bus_programs import SMALL, Program, members, new_name, segment
from support.servers import DEADLINE_S, stop, wait_for
from support.websocket_clients import hear, join


@pytest.fixture
def bus() -> Iterator[Bus]:
    with new_name() as name, Bus.open(name, create=True, size=SMALL) as bus:
        yield bus


def fanbus(
    *arguments: str | bytes, said: bytes = b"", bus: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command, with `said` as its standard input and `bus` as FANBUS_BUS."""
    environment = {key: value for key, value in os.environ.items() if key != "FANBUS_BUS"}
    return subprocess.run(
        [sys.executable, "-m", "fanbus", *arguments],
        input=said,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment if bus is None else {**environment, "FANBUS_BUS": bus},
    )


def listen(*arguments: str, bus: Bus) -> Program:
    """`fanbus subscribe`, once it listens."""
    program = Program("-m", "fanbus", "subscribe", *arguments, environment={"FANBUS_BUS": bus.name})
    program.wait_to_say("Listening to ", stream=2)
    return program


def described(name: str, processes: int) -> _core.BusDescription:
    member: _core.MemberDescription = {
        "slot": 0,
        "pid": 1,
        "counts": {key: 0 for key, *_ in _core.counters()},
        "behind": None,
    }
    return {
        "name": name,
        "reserved_bytes": 0,
        "members": [member] * processes,
        "epoch": 1,
        "end": 0,
        "ring_bytes": SMALL,
        "reserved_places": 0,
        "log_entries": 64,
        "history": None,
    }


def test_publish_prints_the_offset_and_subscribers_get_the_message(bus: Bus) -> None:
    bus.publish("other", "first")
    subscription = bus.subscribe("news")
    done = fanbus("publish", "--bus", bus.name, "news", "It works, \N{BUS}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1\n", b"")
    assert next(subscription).message == "It works, \N{BUS}"
    assert members(bus.name) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [(b"two\nlines\n", "two\nlines"), (b"", ""), (b"\xff\x00\n", b"\xff\x00\n")],
)
def test_publish_reads_the_standard_input(bus: Bus, said: bytes, message: str | bytes) -> None:
    subscription = bus.subscribe("news")
    assert fanbus("publish", "news", "-", said=said, bus=bus.name).returncode == 0
    assert next(subscription).message == message


def test_an_argument_that_is_no_text_is_published_as_bytes(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    assert fanbus("publish", "news", b"\xff!", bus=bus.name).returncode == 0
    assert next(subscription).message == b"\xff!"


def test_subscribe_prints_messages_as_they_come(bus: Bus) -> None:
    with listen("news", bus=bus) as program:
        for message in ("one", "\N{BUS}", b"three"):
            bus.publish("other", "not this")
            bus.publish("news", message)
            program.wait_to_say(f"{message.decode() if isinstance(message, bytes) else message}\n")
        assert program.said() == "one\n\N{BUS}\nthree\n"
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == 130
        assert "Traceback" not in program.said(2)
    assert members(bus.name) == 1


def test_subscribe_ends_after_as_many_messages_as_asked_for(bus: Bus) -> None:
    with listen("news", "--json", "--count", "2", bus=bus) as program:
        bus.publish("news", "text \N{BUS}")
        bus.publish("news", b"\x00\xff")
        assert program.wait() == 0
        assert [json.loads(line) for line in program.said().splitlines()] == [
            {"topic": "news", "offset": 0, "message": "text \N{BUS}"},
            {"topic": "news", "offset": 1, "base64": "AP8="},
        ]


def test_subscribe_tells_a_gap_and_goes_on(bus: Bus) -> None:
    with listen("news", "--json", "--count", "1", bus=bus) as program:
        stop(program.process.pid)
        for number in range(500):
            bus.publish("news", f"{number:<1000}")
        program.process.send_signal(signal.SIGCONT)
        assert program.wait() == 0
        gap, first = (json.loads(line) for line in program.said().splitlines())
        assert gap["missed"] == first["offset"] > 0
        assert f"{gap['missed']} messages were overwritten" in program.said(2)


def test_subscribe_ends_quietly_when_its_reader_has_gone(bus: Bus) -> None:
    with listen("news", bus=bus) as program:
        assert program.process.stdout is not None
        program.process.stdout.close()
        bus.publish("news", "nobody reads this")
        assert program.process.wait(DEADLINE_S) == 0
        assert "Error" not in program.said(2)


def test_what_nobody_reads_to_the_end_is_no_error(bus: Bus) -> None:
    with Program("-m", "fanbus", "bus", "list") as program:
        assert program.process.stdout is not None
        program.process.stdout.close()
        assert program.process.wait(DEADLINE_S) == 0
        assert program.said(2) == ""


def test_a_killed_subscriber_leaves_nothing(bus: Bus) -> None:
    with listen("news", bus=bus) as program:
        assert members(bus.name) == 2
        program.process.kill()
        program.wait()
    assert members(bus.name) == 1
    assert fanbus("publish", "news", "x", bus=bus.name).returncode == 0


def test_what_is_published_from_outside_reaches_the_clients_of_every_worker(
    server: StartServer,
) -> None:
    running = server("rooms", workers=2)
    with ExitStack() as stack:
        clients = [stack.enter_context(join(running, "/rooms/lobby")) for _ in range(12)]
        assert len({hear(client) for client in clients}) == 2, "clients on both workers"
        name = f"rooms-{running.port}"
        done = fanbus("publish", "--bus", name, "room:lobby", "hello")
        assert done.returncode == 0, done.stderr
        assert {hear(client) for client in clients} == {"hello"}
        with Program("-m", "fanbus", "subscribe", "--bus", name, "room:lobby") as program:
            program.wait_to_say("Listening to ", stream=2)
            clients[0].send("and back")
            program.wait_to_say("and back\n")


def test_the_only_bus_in_use_is_taken() -> None:
    buses = [described("old", 0), described("chat-5000", 3)]
    assert choose(None, buses, {}) == "chat-5000"
    assert choose(None, buses, {"FANBUS_BUS": "old"}) == "old"
    assert choose("other", buses, {"FANBUS_BUS": "old"}) == "other"


def test_without_a_bus_in_use_it_asks_for_one() -> None:
    with pytest.raises(StartError, match="No bus is in use") as told:
        choose(None, [described("old", 0)], {})
    assert told.value.status == 2


@pytest.mark.parametrize(
    "arguments", [["publish", "news", "x"], ["subscribe", "news"], ["bus", "show"]]
)
def test_with_several_it_lists_the_candidates(bus: Bus, arguments: list[str]) -> None:
    with new_name() as second, Bus.open(second, create=True, size=SMALL):
        done = fanbus(*arguments)
    assert done.returncode == 2
    told = done.stderr.decode()
    assert told.count("\n") == 1
    assert bus.name in told
    assert second in told
    way = "`fanbus bus show NAME`" if arguments[0] == "bus" else "--bus"
    assert told.endswith(f"Choose one with {way} or FANBUS_BUS.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "--bus", "no-such-bus", "news", "x"],
        ["subscribe", "--bus", "no-such-bus", "news"],
        ["bus", "show", "no-such-bus"],
        ["bus", "remove", "no-such-bus"],
    ],
)
def test_a_bus_that_does_not_exist_is_refused_and_others_are_suggested(
    bus: Bus, arguments: list[str]
) -> None:
    done = fanbus(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(b'fanbus: There is no bus "no-such-bus"')
    assert b"is it running, under this user?" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not segment("no-such-bus").exists()
    mistyped = bus.name[:-1]
    done = fanbus(*[mistyped if word == "no-such-bus" else word for word in arguments])
    assert done.returncode == 1
    assert f'Did you mean "{bus.name}"?' in done.stderr.decode()


def test_a_message_that_nobody_receives_is_published_with_a_warning() -> None:
    with new_name() as name:
        Bus.open(name, create=True, size=SMALL).close()
        done = fanbus("publish", "--bus", name, "news", "x")
        assert (done.returncode, done.stdout) == (0, b"0\n")
        assert b"so no process has received this. Is its server running?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["publish", "", "x"], b"topic"),
        (["publish", "two\nlines", "x"], b"topic"),
        (["publish", "news", "x" * 20_000], b"larger than"),
        (["subscribe", ""], b"topic"),
        (["subscribe", "news", "--count", "0"], b"--count must be 1 or more, got 0"),
    ],
)
def test_what_the_bus_refuses_is_told_in_one_sentence(
    bus: Bus, arguments: list[str], said: bytes
) -> None:
    done = fanbus(*arguments, bus=bus.name)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert bus.end == 0


def test_list_shows_every_bus_of_this_user(bus: Bus) -> None:
    bus.publish("news", "x")
    with new_name() as idle:
        Bus.open(idle, create=True, size=SMALL).close()
        done = fanbus("bus", "list")
    lines = {line.split()[0]: line.split() for line in done.stdout.decode().splitlines()}
    assert done.returncode == 0
    assert lines["NAME"] == ["NAME", "PROCESSES", "MESSAGES", "MEMORY", "CREATED"]
    assert lines[bus.name][1:3] == ["1", "1"]
    assert lines[idle][1:3] == ["0", "0"]


def test_show_tells_who_uses_it_and_what_it_carries(bus: Bus) -> None:
    bus.publish("news", "x")
    with listen("news", bus=bus) as program:
        told = fanbus("bus", "show", bus.name).stdout.decode()
        lines = [" ".join(line.split()) for line in told.splitlines()]
        assert lines[0] == f"Bus {bus.name}"
        assert "Messages 1 published; the next one gets this offset" in lines
        assert "Largest 16 KiB in one message" in lines
        assert f"Epoch {bus.epoch}" in lines
        assert "Processes 2 of 64" in lines
        assert lines[-2].startswith(f"{os.getpid()} ")
        assert lines[-1].startswith(f"{program.process.pid} ")
        assert "fanbus subscribe news" in lines[-1]


def test_show_counts_what_each_process_has_done(bus: Bus) -> None:
    with listen("news", bus=bus) as program:
        for _ in range(5):
            bus.publish("news", "12345678")
        wait_for(lambda: program.said().count("12345678") == 5, "five lines")
        shown = fanbus("bus", "show", bus.name).stdout.decode().splitlines()
    columns = [column for _, _, column, _ in _core.counters()]
    head, own, other = (line.replace(" bytes", "").split(maxsplit=12) for line in shown[-3:])
    assert head == ["PID", "ROLE", "BEHIND", *columns, "COMMAND"]
    mine, its = (dict(zip(head, row, strict=True)) for row in (own, other))
    # 5 x (8 bytes and a frame header of 2).
    assert [mine[column] for column in ("PUBLISHED", "BYTES", "READ", "MISSED")] == [
        *("5", "50", "0", "0")
    ]
    assert [its[column] for column in ("PUBLISHED", "BYTES", "READ")] == ["0", "0", "5"]
    assert (mine["BEHIND"], its["BEHIND"]) == ("-", "0")
    assert 1 <= int(its["WOKEN"]) <= int(mine["WOKE"]) <= 5
    assert (mine["WAITS"], mine["WAITED"], mine["DROPPED"]) == ("0", "0.0s", "0")


def test_show_says_who_is_the_supervisor_and_who_is_which_worker(server: StartServer) -> None:
    one = server("rooms", workers=2)

    def shown() -> dict[str, list[str]]:
        """The columns of each process, by its role."""
        lines = fanbus("bus", "show", f"rooms-{one.port}").stdout.decode().splitlines()
        rows = [line.replace("worker ", "worker-").split() for line in lines]
        return {row[1]: row for row in rows if len(row) > 8 and row[0].isdecimal()}

    rows = wait_for(lambda: found if len(found := shown()) == 3 else None, "three members")
    assert rows["supervisor"][0] == str(one.pid)
    workers = [int(rows[f"worker-{number}"][0]) for number in (1, 2)]
    assert sorted(workers) == one.worker_pids()

    # A worker that sleeps is woken by what comes from elsewhere for a client of its own.
    with ExitStack() as stack:
        people = [stack.enter_context(join(one, "/relay/lobby")) for _ in range(8)]
        before = {role: int(row[8]) for role, row in shown().items()}
        assert fanbus("publish", "room:lobby", "hi", bus=f"rooms-{one.port}").returncode == 0
        for person in people:
            assert hear(person) == "hi"
        woken = {role: int(row[8]) for role, row in shown().items()}
        assert any(woken[role] > before[role] for role in woken if role != "supervisor")


def test_help_explains_the_columns_of_show() -> None:
    said = fanbus("bus", "show", "--help").stdout.decode()
    for column in ("ROLE", "BEHIND", *(column for _, _, column, _ in _core.counters())):
        assert f"\n{column} " in said


def test_a_process_without_subscribers_misses_nothing(server: StartServer) -> None:
    one = server("rooms", workers=1)
    (worker,) = one.worker_pids()
    with Bus.open(f"rooms-{one.port}") as bus:
        stop(worker)
        try:
            for _ in range(3000):
                bus.publish("nobody", "x" * 10_000)
        finally:
            os.kill(worker, signal.SIGCONT)

        def missed() -> int | None:
            """Once it has caught up."""
            found = [it for it in _core.inspect_bus(bus.name)["members"] if it["pid"] == worker]
            return found[0]["counts"]["missed"] + 1 if found and found[0]["behind"] == 0 else None

        assert wait_for(missed, "the worker at the end") == 1


def test_show_tells_what_is_kept(bus: Bus) -> None:
    bus.topic("room:{room}", history=100, seconds=60)
    bus.topic("news", history=10)
    bus.topic("nothing", history=0)
    shown = " ".join(fanbus("bus", "show", bus.name).stdout.decode().split())
    assert "History 100 of each room:{room}, for 60 s 10 of each news 0 bytes of" in shown
    assert "used, by 0 topics" in shown
    assert "nothing" not in shown


def test_subscribing_begins_with_what_was_said_before(bus: Bus) -> None:
    for number in range(10):
        bus.publish("news", f"number {number}")
    for option, first in (("--last=3", 7), ("--since=5", 6), ("--since=-1", 0)):
        count = str(10 - first)
        done = fanbus("subscribe", "news", option, "--bus", bus.name, "--count", count)
        assert done.stdout.decode().split("\n")[:-1] == [f"number {it}" for it in range(first, 10)]
        assert b"not kept any more" not in done.stderr
    other_life = fanbus("subscribe", "news", "--since=99", "--bus", bus.name, "--count", "10")
    assert b"some of the requested older messages are no longer retained" in other_life.stderr


def test_a_damaged_bus_is_listed_shown_and_removed() -> None:
    with new_name() as name:
        segment(name).touch(0o600)
        assert f"{name} " in fanbus("bus", "list").stdout.decode()
        shown = fanbus("bus", "show", name)
        assert b"not readable by this version of Fanbus" in shown.stdout
        assert fanbus("bus", "remove", name).returncode == 0
        assert not segment(name).exists()


def test_a_bus_in_use_is_removed_only_with_force(bus: Bus) -> None:
    refused = fanbus("bus", "remove", bus.name)
    assert refused.returncode == 1
    assert b"in use by 1 process. Stop it first. Or remove it with --force" in refused.stderr
    assert segment(bus.name).exists()
    assert fanbus("bus", "remove", "--force", bus.name).returncode == 0
    assert not segment(bus.name).exists()
    with pytest.raises(BusError, match="was removed"):
        bus.publish("news", "its members are told")


def test_an_abandoned_bus_is_removed(bus: Bus) -> None:
    bus.close()
    assert fanbus("bus", "remove", bus.name).returncode == 0
    assert not segment(bus.name).exists()
