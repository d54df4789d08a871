"""`fanbus.Bus`: any process publishes and subscribes, with no server."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from itertools import islice

import pytest

from fanbus import Bus, BusError, Lagged, Record, Subscription, _core
from support.bus_programs import SMALL, Program, members, new_name, segment
from support.servers import DEADLINE_S, wait_for

LISTENER = """
import sys
from fanbus import Bus
with Bus.open(sys.argv[1]) as bus:
    news = bus.subscribe("news")
    print("listening")
    for record in news:
        print(record.offset, repr(record.message))
"""


@pytest.fixture
def name() -> Iterator[str]:
    with new_name() as name:
        yield name


@pytest.fixture
def bus(name: str) -> Iterator[Bus]:
    with Bus.open(name, create=True, size=SMALL) as bus:
        yield bus


def take(subscription: Subscription, count: int) -> list[Record]:
    """The next records; the test's deadline ends it if they do not come."""
    return list(islice(subscription, count))


def test_missing_bus_is_created_only_with_create(name: str) -> None:
    with pytest.raises(BusError, match=f'There is no bus "{name}"') as told:
        Bus.open(name)
    assert "is it running, under this user?" in str(told.value)
    assert f'Bus.open("{name}", create=True) makes a bus' in str(told.value)
    with pytest.raises(ValueError, match="Pass create=True with them"):
        Bus.open(name, size=SMALL)
    with pytest.raises(ValueError, match="Pass create=True with them"):
        Bus.open(name, history_size=1 << 20)
    assert not segment(name).exists()


def test_the_refusal_of_a_mistyped_name_has_the_right_one(bus: Bus) -> None:
    for mistyped in (bus.name[:-1], bus.name.replace("test", "tset"), f"{bus.name}0"):
        with pytest.raises(BusError, match=f'There is no bus "{mistyped}"') as told:
            Bus.open(mistyped)
        assert f'Did you mean "{bus.name}"?' in str(told.value)
    with pytest.raises(BusError, match=r"The buses of this user: ") as told:
        Bus.open("zzz")
    assert not segment("zzz").exists()


def test_the_error_for_a_bus_that_was_left_unreadable_says_how_to_get_rid_of_it(name: str) -> None:
    segment(name).touch(0o600)
    with pytest.raises(BusError, match=rf"cannot be joined.*fanbus bus remove {name}\.$"):
        Bus.open(name)
    with Bus.open(name, create=True, size=SMALL) as bus:
        assert bus.publish("t", "it is replaced") == 0


def test_it_is_created_once_and_then_joined(name: str) -> None:
    with Bus.open(name, create=True, size=SMALL) as first, Bus.open(name) as second:
        assert second.epoch == first.epoch
        assert (second.name, second.max_message_bytes) == (name, SMALL // 4)
        assert members(name) == 2
    assert members(name) == 0
    with Bus.open(name) as third:  # nobody was there any more, and still it is the same
        assert third.epoch == first.epoch


@pytest.mark.parametrize(
    "message", ["text", b"bytes", "", b"", "\N{BUS} \x00 ä", bytes(range(256)), "x" * 9000]
)
def test_a_message_comes_as_it_was_published(bus: Bus, message: str | bytes) -> None:
    subscription = bus.subscribe("news")
    offset = bus.publish("news", message)
    (record,) = take(subscription, 1)
    assert (record.topic, record.message, record.offset) == ("news", message, offset)
    assert type(record.message) is type(message)
    assert bus.end == offset + 1


def test_what_only_looks_like_bytes_comes_as_bytes(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    bus.publish("news", bytearray(b"array"))
    bus.publish("news", memoryview(b"view"))
    assert [record.message for record in take(subscription, 2)] == [b"array", b"view"]


def test_the_largest_message_passes_and_one_byte_more_is_refused(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    limit = bus.max_message_bytes
    bus.publish("news", "x" * limit)
    with pytest.raises(ValueError, match="larger than"):
        bus.publish("news", "x" * (limit + 64))
    bus.publish("news", "after")
    assert [len(record.message) for record in take(subscription, 2)] == [limit, 5]


@pytest.mark.parametrize("topic", ["", "x" * 256, "two\nlines"])
def test_a_bad_topic_is_refused_with_a_sentence(bus: Bus, topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        bus.publish(topic, "x")
    with pytest.raises(ValueError, match="topic"):
        bus.subscribe(topic)


def test_other_messages_than_text_and_bytes_are_refused(bus: Bus) -> None:
    with pytest.raises(TypeError, match=r"json\.dumps"):
        bus.publish("news", {"a": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_not_allowed_is_refused(bad: str) -> None:
    with pytest.raises(BusError, match="cannot name a bus"):
        Bus.open(bad)


def test_a_subscription_gets_its_topic_only_and_from_now_on(bus: Bus) -> None:
    bus.publish("news", "before")
    subscription = bus.subscribe("news")
    bus.publish("other", "not this")
    bus.publish("news", "this")
    assert [record.message for record in take(subscription, 1)] == ["this"]


def test_every_subscription_of_every_process_gets_everything_in_one_order(bus: Bus) -> None:
    with Program("-c", LISTENER, bus.name) as one, Program("-c", LISTENER, bus.name) as two:
        for program in (one, two):
            program.wait_to_say("listening")
        own = bus.subscribe("news")

        def publish(sender: int) -> None:
            with Bus.open(bus.name) as mine:
                for number in range(50):
                    mine.publish("news", f"{sender}.{number}")

        threads = [threading.Thread(target=publish, args=(sender,)) for sender in range(4)]
        for thread in threads:
            thread.start()
        records = take(own, 200)
        for thread in threads:
            thread.join()
        expected = "".join(f"{record.offset} {record.message!r}\n" for record in records)
        for program in (one, two):
            program.wait_to_say(f"\n{records[-1].offset} ")
            program.wait_to_say(expected)
            assert program.said() == f"listening\n{expected}"


def test_lagged_reader_gets_the_exact_number_of_missed_messages(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    for number in range(1000):
        bus.publish("news", f"{number:<1000}")
    with pytest.raises(Lagged) as told:
        next(subscription)
    assert str(told.value).startswith(f"{told.value.missed} messages were overwritten")
    rest = take(subscription, 1000 - told.value.missed)
    assert [int(record.message) for record in rest] == list(range(told.value.missed, 1000))
    assert 0 < len(rest) <= SMALL // 1000
    bus.publish("news", "and on")
    assert next(subscription).message == "and on"


def test_subscription_to_a_rare_topic_does_not_lag_behind_other_topics(name: str) -> None:
    """The records of other topics pass by while it sleeps, more than the log has room for."""

    async def listen(bus: Bus, other: Bus) -> str | bytes:
        subscription, probe = bus.subscribe("rare"), other.subscribe("probe")
        first = asyncio.ensure_future(anext_of(subscription))
        for _ in range(8):
            for _ in range(10_000):
                bus.publish("often", "")
            bus.publish("probe", "")
            await asyncio.to_thread(next, probe)
        bus.publish("rare", "here")
        return (await asyncio.wait_for(first, DEADLINE_S)).message

    # In rings of the usual size. The other's readers wake nobody of ours.
    with Bus.open(name, create=True) as bus, Bus.open(name) as other:
        assert asyncio.run(listen(bus, other)) == "here"


def test_what_comes_before_the_event_loop_watches_is_not_overlooked(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = bus._alarm

    def publish_and_watch(loop: asyncio.AbstractEventLoop) -> object:
        bus.publish("news", "in between")
        return watch(loop)

    monkeypatch.setattr(bus, "_alarm", publish_and_watch)
    record = asyncio.run(asyncio.wait_for(anext_of(bus.subscribe("news")), DEADLINE_S))
    assert record.message == "in between"


async def anext_of(subscription: Subscription) -> Record:
    return await subscription.__anext__()


def test_coroutines_and_threads_read_side_by_side(bus: Bus) -> None:
    heard: list[tuple[str, list[str | bytes]]] = []

    def in_a_thread(subscription: Subscription) -> None:
        heard.append(("thread", [record.message for record in take(subscription, 100)]))

    async def in_a_coroutine(subscription: Subscription) -> None:
        messages = []
        async for record in subscription:
            messages.append(record.message)
            if len(messages) == 100:
                heard.append(("coroutine", messages))
                return

    async def main() -> None:
        threads = [
            threading.Thread(target=in_a_thread, args=(bus.subscribe("news"),)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        tasks = [asyncio.ensure_future(in_a_coroutine(bus.subscribe("news"))) for _ in range(3)]
        with Bus.open(bus.name) as other:
            for number in range(100):
                await asyncio.sleep(0)
                other.publish("news", str(number))
        await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE_S)
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE_S)

    asyncio.run(main())
    assert len(heard) == 6
    assert all(messages == [str(number) for number in range(100)] for _, messages in heard)


def test_two_event_loops_one_after_the_other_read_one_bus(bus: Bus) -> None:
    async def listen() -> str | bytes:
        subscription = bus.subscribe("news")
        asyncio.get_running_loop().call_soon(bus.publish, "news", "hello")
        return (await asyncio.wait_for(anext_of(subscription), DEADLINE_S)).message

    assert [asyncio.run(listen()) for _ in range(3)] == ["hello"] * 3


def test_a_wait_that_is_given_up_loses_nothing(bus: Bus) -> None:
    async def main() -> list[str | bytes]:
        subscription = bus.subscribe("news")
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext_of(subscription), 0.001)
        for number in range(20):
            bus.publish("news", str(number))
        return [(await anext_of(subscription)).message for _ in range(20)]

    assert asyncio.run(main()) == [str(number) for number in range(20)]


def test_a_full_subscription_leaves_the_event_loop_its_turns(bus: Bus) -> None:
    async def main() -> int:
        subscription = bus.subscribe("news")
        for _ in range(500):
            bus.publish("news", "")
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for _ in range(500):
            await anext_of(subscription)
        task.cancel()
        return turns

    assert asyncio.run(main()) >= 5


@pytest.mark.parametrize("what", ["bus", "subscription"])
def test_close_ends_a_waiting_thread(bus: Bus, what: str) -> None:
    subscription = bus.subscribe("news")
    ended: list[list[Record]] = []
    thread = threading.Thread(target=lambda: ended.append(list(subscription)))
    thread.start()
    (bus if what == "bus" else subscription).close()
    thread.join(DEADLINE_S)
    assert ended == [[]]


@pytest.mark.parametrize("what", ["bus", "subscription"])
def test_close_ends_a_waiting_coroutine(bus: Bus, what: str) -> None:
    async def main() -> list[Record]:
        subscription = bus.subscribe("news")
        closing = bus if what == "bus" else subscription
        asyncio.get_running_loop().call_later(0.01, closing.close)
        return [record async for record in subscription]

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE_S)) == []


def test_receive_gives_what_comes_or_nothing_in_time(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    assert subscription.receive(timeout=0) is None
    assert subscription.receive(timeout=0.01) is None
    bus.publish("news", "there already")
    record = subscription.receive(timeout=0)
    assert record is not None
    assert record.message == "there already"


def test_receive_ends_with_what_comes_meanwhile_and_with_a_close(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    heard: list[Record | None] = []

    def receive() -> None:
        for _ in range(2):
            heard.append(subscription.receive(timeout=10 * DEADLINE_S))  # noqa: PERF401 - one by one

    thread = threading.Thread(target=receive)
    thread.start()
    bus.publish("news", "meanwhile")
    wait_for(lambda: heard or None, "a message")
    subscription.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert subscription.closed
    assert [record and record.message for record in heard] == ["meanwhile", None]


def test_receive_tells_how_many_were_missed(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    for number in range(1000):
        bus.publish("news", f"{number:<1000}")
    with pytest.raises(Lagged) as error:
        subscription.receive(timeout=DEADLINE_S)
    record = subscription.receive(timeout=DEADLINE_S)
    assert record is not None
    assert int(record.message) == error.value.missed


def test_a_closed_bus_says_so_and_has_left(name: str) -> None:
    async def main() -> Bus:
        async with Bus.open(name, create=True, size=SMALL) as bus:
            bus.publish("news", "x")
            assert members(name) == 1
        return bus

    bus = asyncio.run(main())
    assert bus.closed
    assert members(name) == 0
    for use in (lambda: bus.publish("news", "x"), lambda: bus.subscribe("news"), lambda: bus.end):
        with pytest.raises(BusError, match="has been closed"):
            use()
    bus.close()


def test_unreferenced_bus_leaves(name: str) -> None:
    subscription: Subscription | None = Bus.open(name, create=True, size=SMALL).subscribe("news")
    gc.collect()
    assert members(name) == 1, "the subscription keeps it"
    assert subscription is not None
    subscription = None
    gc.collect()
    assert members(name) == 0


def test_forked_child_gets_an_error_that_advises_to_open_the_bus_itself(bus: Bus) -> None:
    subscription = bus.subscribe("news")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = []
        for use in (
            lambda: bus.publish("news", "x"),
            lambda: next(subscription),
            lambda: bus.subscribe("news"),
            lambda: bus.end,
        ):
            try:
                use()
            except BusError as error:
                said.append(str(error))
        bus.close()
        with Bus.open(bus.name) as own:
            own.publish("news", "from the child")
        os.write(writer, "\n".join(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read().splitlines()
    os.waitpid(child, 0)
    assert said == ["This bus was opened before a fork; the child process must open it itself."] * 4
    assert next(subscription).message == "from the child"
    assert members(bus.name) == 1


def test_a_subscriber_that_is_killed_leaves_nothing(bus: Bus) -> None:
    with Program("-c", LISTENER, bus.name) as program:
        program.wait_to_say("listening")
        assert members(bus.name) == 2
        program.process.send_signal(signal.SIGKILL)
        program.wait()
        assert members(bus.name) == 1
    own = bus.subscribe("news")
    with Program("-c", LISTENER, bus.name) as program:  # its place is free again
        program.wait_to_say("listening")
        bus.publish("news", "still here")
        program.wait_to_say("0 'still here'")
        assert next(own).message == "still here"
        assert [member["slot"] for member in _core.inspect_bus(bus.name)["members"]] == [0, 1]


def test_ctrl_c_ends_a_loop_that_waits(bus: Bus) -> None:
    with Program("-c", LISTENER, bus.name) as program:
        program.wait_to_say("listening")
        program.process.send_signal(signal.SIGINT)
        assert program.wait() == -signal.SIGINT
        assert "KeyboardInterrupt" in program.said(2)
    assert members(bus.name) == 1


def test_the_sixty_fifth_member_is_refused_with_a_sentence(bus: Bus) -> None:
    others = [Bus.open(bus.name) for _ in range(63)]
    with pytest.raises(BusError, match="has 64 members, which is the limit"):
        Bus.open(bus.name)
    others.pop().close()
    Bus.open(bus.name).close()
    for other in others:
        other.close()


def test_removing_gives_the_next_one_a_new_bus(bus: Bus) -> None:
    bus.publish("news", "old")
    bus.remove()
    with Bus.open(bus.name, create=True, size=SMALL) as new:
        assert (new.end, new.epoch > bus.epoch) == (0, True)
