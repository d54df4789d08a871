"""The bus that any process can open, to publish and subscribe without a server or a broker.

Each subscription is a cursor of its own on the shared memory: messages that it has not read yet
wait there and nowhere else. All objects may be used from any thread, but not across a fork.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from fanbus import _core
from fanbus._core import Record
from fanbus.exceptions import BusError
from fanbus.history import History, RetentionRule

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from types import TracebackType

    from typing_extensions import Buffer

__all__ = ["Bus", "Record", "Subscription"]

# The maximum number of bus names in an error message.
_MAX_LISTED_NAMES = 5

# The number of records that an event loop gets without a pause; then other tasks run.
_RECORDS_PER_TURN = 64


class Bus:
    """The membership of this process in a named bus. `Bus.open` makes one.

    ```python
    with Bus.open("chat-5000") as bus:
        bus.publish("room:lobby", "The kitchen closes at ten.")
    ```

    A bus connects processes of one user on one machine, at most 64 of them at a time. It exists,
    with its newest messages, until it is removed (`fanbus bus remove`) or the machine restarts. The
    bus of a server is removed when the server ends, unless another process has it open.
    """

    def __init__(self, core: _core.Bus) -> None:
        """Not for users: `Bus.open`."""
        self._core = core
        self._lock = threading.Lock()
        self._alarms: weakref.WeakKeyDictionary[AbstractEventLoop, _Alarm] = (
            weakref.WeakKeyDictionary()
        )

    @classmethod
    def open(
        cls,
        name: str,
        *,
        create: bool = False,
        size: int | None = None,
        history_size: int | None = None,
    ) -> Bus:
        """Opens the bus of that name. BusError if there is none, for example because its server
        does not run.

        The bus of a server is named after the application and its port: `Fanbus("chat")` on port
        5000 has `chat-5000`. A name has 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`.

        `create=True` creates the bus if there is none, for programs that use a bus without a
        server. Such a bus may not have subscribers yet; then no program receives the message.

        `size` is used when the bus is created: the bytes for the newest messages of each member, a
        power of two. One message may have a quarter of it. `history_size` is used then, too: the
        bytes for the history that `topic` retains. Both are 8 MiB by default, or less if /dev/shm
        has less memory. ValueError if they are given without `create`.

        BusError also for a bus with 64 members, for a lack of memory, and for the bus of another
        user. While another process is opening the bus, this call waits for at most ten seconds.
        """
        if not create and (size is not None or history_size is not None):
            raise ValueError(
                "size and history_size are for a bus that is created. Pass create=True with them, "
                "or leave them out."
            )
        joined = _core.Bus.attach(name)
        if joined is None and not create:
            advice = f'Bus.open("{name}", create=True) makes a bus without a server.'
            raise BusError(missing_bus(name, advice))
        # Another process may create it at the same time; then `open` joins that bus.
        return cls(joined or _core.Bus.open(name, ring_bytes=size, history_bytes=history_size))

    @property
    def name(self) -> str:
        """The name that it was opened with."""
        return self._core.name

    @property
    def epoch(self) -> int:
        """The identity of this bus: a new bus of the same name has another epoch. Offsets of
        different epochs cannot be compared."""
        return self._core.epoch

    @property
    def end(self) -> int:
        """The offset that the next message will get."""
        return self._core.end

    @property
    def max_message_bytes(self) -> int:
        """The maximum size of a message in bytes."""
        return self._core.max_message_bytes

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    def publish(self, topic: str, message: str | Buffer) -> int:
        """Publishes to all subscribers of the topic: subscriptions of any process, and clients of a
        server.

        Returns the offset of the message: its number in the one order of the bus. ValueError if the
        topic or the message is not allowed (empty, too long), TypeError if the message is neither
        str nor bytes, BusError if the bus is closed or was opened before a fork.

        The call never waits for subscriptions: a slow one gets `Lagged`. It waits for running
        workers of a server that are an eighth of the ring or of the log behind, so that a burst
        reaches all clients. It waits for five seconds at most. For a worker that is stopped, it
        waits a tenth of a second, once.
        """
        return self._core.publish(topic, message)

    def topic(self, pattern: str, *, history: int, seconds: int | None = None) -> None:
        """Retains at least `history` messages of each topic that matches, for new subscribers.

        It works as `Fanbus.topic`, for a bus without a server, or in addition to the rules of a
        server. Every publisher, in any process, then retains messages before it overwrites them.
        `history=0` ends the retention. FanbusError if the pattern or a number is invalid, BusError
        if there is no memory for it.
        """
        rule = RetentionRule.checked(pattern, history, seconds)
        self._core.retain(rule.pattern, rule.history, rule.seconds)

    def subscribe(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> Subscription:
        """An iterator over the messages that are published to the topic from now on.

        With `last` or `since` it begins with earlier messages, without a gap between the two: see
        `history`. `Subscription.complete` is False if some of them are not available any more.
        """
        core, replayed, complete = self._core.subscribe(topic, last=last, since=since, epoch=epoch)
        return Subscription(self, core, topic, replayed, complete)

    def history(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> History:
        """The `last` messages of a topic, or all messages `since` an offset.

        `since` is the offset of the last message that the caller has, or -1 for all messages.
        `epoch` is the epoch of that offset: if the bus has another one, the result is as with -1,
        and not complete. For a topic without a rule (`topic`), the result has the messages that are
        still on the bus. At most 64 MiB.

        ValueError if neither or both are given, or a number is invalid.
        """
        result = self._core.history(topic, last=last, since=since, epoch=epoch)
        return History(*result, epoch=self.epoch)

    def remove(self) -> None:
        """Removes the bus, so that the next process to open it gets a new one.

        Processes that have this bus open get BusError when they publish, or wait for a message.
        """
        self._core.remove()

    def close(self) -> None:
        """Leaves the bus and ends its subscriptions. Further calls do nothing."""
        self._core.close()
        with self._lock:
            alarms = list(self._alarms.items())
            self._alarms.clear()
        for loop, alarm in alarms:
            if not loop.is_closed():
                loop.call_soon_threadsafe(alarm.close, loop)

    def __enter__(self) -> Bus:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Bus {self.name!r}{' closed' if self.closed else ''}>"

    def _alarm(self, loop: AbstractEventLoop) -> _Alarm:
        """The alarm that wakes the coroutines of this event loop."""
        with self._lock:
            alarm = self._alarms.get(loop)
            if alarm is None:
                alarm = _Alarm(self._core.bell())
                loop.add_reader(alarm.fileno(), alarm.wake_all)
                self._alarms[loop] = alarm
            return alarm


class Subscription:
    """The messages of one topic in order, from the call of `Bus.subscribe` on.

    It is both a synchronous and an asynchronous iterator of records: `for record in subscription`
    blocks its thread, `async for` blocks its coroutine only. It ends when it, or its bus, is
    closed.

    Publishers do not wait for a slow subscription. If messages were overwritten before it read
    them, it raises `Lagged` with their number instead of the next record. The iteration can be
    continued after the gap.
    """

    def __init__(
        self, bus: Bus, core: _core.Subscription, topic: str, replayed: list[Record], complete: bool
    ) -> None:
        """Not for users: `Bus.subscribe`."""
        self._bus = bus
        self._core = core
        self._records_in_turn = 0
        self._replayed = deque(replayed)
        self.topic = topic
        self.complete = complete
        """Whether all messages that `last` or `since` asks for were available."""

    def __iter__(self) -> Subscription:
        return self

    def __next__(self) -> Record:
        """Waits for the next record. Ctrl+C interrupts it."""
        while True:
            record = self._next()
            if record is not None:
                return record
            if self._core.closed:
                raise StopIteration
            self._core.sleep()

    def receive(self, timeout: float) -> Record | None:
        """The next record, for a thread that has other work too.

        None if no record came within `timeout` seconds (0: it does not wait), or once the
        subscription is closed. Raises Lagged and BusError, as the iteration does.
        """
        end = time.monotonic() + timeout
        while True:
            record = self._next()
            if record is not None or self._core.closed:
                return record
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._core.sleep(left)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Record:
        """Waits for the next record. A cancellation loses no record."""
        import asyncio

        self._records_in_turn += 1
        if self._records_in_turn > _RECORDS_PER_TURN:
            self._records_in_turn = 0
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        alarm = None
        while True:
            record = self._next()
            if record is not None:
                return record
            if self._core.closed:
                raise StopAsyncIteration
            if alarm is None:
                # Read once more after the alarm is set: only later records set it off.
                alarm = self._bus._alarm(loop)
                continue
            self._records_in_turn = 0
            await alarm.wait(loop)

    def _next(self) -> Record | None:
        """The next record, without waiting: replayed records first. Several threads may call it;
        each record is returned once."""
        if self._replayed and not self._core.closed:
            try:
                return self._replayed.popleft()
            except IndexError:  # another thread took the last one
                pass
        return self._core.poll()

    @property
    def closed(self) -> bool:
        """Whether `close` was called on it or on its bus."""
        return self._core.closed

    def close(self) -> None:
        """Ends it, also for threads and coroutines that wait. Further calls do nothing."""
        self._core.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._core.closed else ""
        return f"<Subscription {self.topic!r} of {self._bus.name!r}{state}>"


class _Alarm:
    """The alarm that wakes the coroutines of one event loop that wait for records.

    It has no reference to its loop, which is its key in a WeakKeyDictionary.
    """

    def __init__(self, bell: _core.Bell) -> None:
        self._bell = bell
        self._waiting: set[Future[None]] = set()

    def fileno(self) -> int:
        return self._bell.fileno()

    def wake_all(self) -> None:
        """Wakes all coroutines that wait. Each of them then reads its own topic."""
        self._bell.clear()
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, loop: AbstractEventLoop) -> None:
        """Waits until a record was published."""
        future = loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def close(self, loop: AbstractEventLoop) -> None:
        """Removes it from the loop, and wakes all coroutines: they see that the bus is closed."""
        loop.remove_reader(self.fileno())
        self.wake_all()


def missing_bus(name: str, advice: str = "") -> str:
    """The error message for a bus that cannot be joined. `advice` is its last sentence, if there is
    no such bus."""
    import difflib  # here, since only this message needs it

    names = [bus["name"] for bus in _core.buses()]
    if name in names:
        return (
            f'The bus "{name}" is not in use and cannot be joined: another version of Fanbus left '
            "it, or its memory is damaged. Start its server, which replaces it, or remove it: "
            f"fanbus bus remove {name}."
        )
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        others = f'Did you mean "{close[0]}"?'
    elif not names:
        others = "This user has no bus at all."
    else:
        more = len(names) - _MAX_LISTED_NAMES
        shown = ", ".join(names[:_MAX_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
        others = f"The buses of this user: {shown}."
    hint = "A server makes its bus when it starts: is it running, under this user?"
    return " ".join(filter(None, [f'There is no bus "{name}".', others, hint, advice]))
