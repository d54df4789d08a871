"""The bus, for any process: publish and subscribe without a server, a session or a broker.

Each subscription is a cursor of its own on the shared memory, so what it has not read yet waits
there and nowhere else. Everything here may be used from any thread, but not across a fork.
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

# As many names of buses are listed in an error message.
_MOST_NAMES = 5

# So many records come to an event loop without a pause; then others have their turn.
_AT_ONCE = 64


class Bus:
    """This process's membership in a named bus. `Bus.open` makes one.

    ```python
    with Bus.open("chat-5000") as bus:
        bus.publish("room:lobby", "The kitchen closes at ten.")
    ```

    A bus connects processes of one user on one machine; 64 of them at a time. It stays, with its
    newest messages, until it is removed (`fanbus bus remove`) or the machine restarts; a server's
    goes when its server ends, unless another process has it open.
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
        """Joins the bus of that name. BusError if there is none, as when its server does not run.

        A server's bus is named after the application and its port: `Fanbus("chat")` on port 5000
        has `chat-5000`. A name has 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`.

        `create=True` creates the bus if there is none, for programs that use one without a server:
        nobody else may be there yet, and then a message reaches nobody.

        `size` counts when it is created: the bytes that each member's newest messages may have, a
        power of two. One message may have a quarter of it. So does `history_size`: the bytes for
        what `topic` keeps. Both are 8 MiB if left out, or less where /dev/shm has no room for that.
        ValueError if they are given without `create`.

        BusError also says what else hinders it: 64 members, no memory left, another user's bus.
        While another process is just opening it this waits, for at most ten seconds.
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
        # Somebody may create it in this moment; then we join that one.
        return cls(joined or _core.Bus.open(name, ring_bytes=size, history_bytes=history_size))

    @property
    def name(self) -> str:
        """As it was opened."""
        return self._core.name

    @property
    def epoch(self) -> int:
        """Which life of the bus it is. Offsets of different epochs have nothing in common."""
        return self._core.epoch

    @property
    def end(self) -> int:
        """The offset that the next message will get."""
        return self._core.end

    @property
    def max_message_bytes(self) -> int:
        """The largest message that can be published."""
        return self._core.max_message_bytes

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    def publish(self, topic: str, message: str | Buffer) -> int:
        """Publishes to everybody on the topic: subscriptions of any process, clients of a server.

        Returns its offset, its number in the one order of the bus. ValueError if the topic or the
        message is not allowed (empty, too long), TypeError if the message is neither str nor bytes,
        BusError if the bus is closed or was opened before a fork.

        Never waits for subscriptions: one that falls behind gets `Lagged`. The workers of a server
        are waited for while they come on and are an eighth of the ring or of the log behind, so
        that a burst reaches all clients: for five seconds at most, and for one that stands still
        (it is stopped) a tenth of a second, once.
        """
        return self._core.publish(topic, message)

    def topic(self, pattern: str, *, history: int, seconds: int | None = None) -> None:
        """Keeps at least so many messages of each topic that matches, for those who come later.

        As `Fanbus.topic`, for a bus without a server, or on top of what the server keeps. Whoever
        publishes, in any process, then keeps before it overwrites. `history=0` keeps no more.
        FanbusError if the pattern or a number cannot be, BusError if there is no memory for it.
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
        """What is published to the topic from now on, to be iterated over.

        `last` or `since` put what was published before in front of it, without a gap between the
        two: see `history`. `Subscription.complete` tells whether that was all.
        """
        core, records, complete = self._core.subscribe(topic, last=last, since=since, epoch=epoch)
        return Subscription(self, core, topic, records, complete)

    def history(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> History:
        """What was published to a topic: the `last` so many messages, or all `since` an offset.

        `since` is the offset of a message that is known already, or -1 for everything there is;
        `epoch` says which life of the bus it is from (of another life, it is as -1, and not
        complete). Without `topic(...)` for it, what the bus still has by chance. At most 64 MiB.

        ValueError if neither or both are given, or a number cannot be.
        """
        found = self._core.history(topic, last=last, since=since, epoch=epoch)
        return History(*found, epoch=self.epoch)

    def remove(self) -> None:
        """Removes the bus, so that the next process to open it gets a new one.

        Processes that have this one open get BusError when they publish, or wait for a message.
        """
        self._core.remove()

    def close(self) -> None:
        """Leaves the bus. Its subscriptions end. Twice is allowed."""
        self._core.close()
        with self._lock:
            alarms = list(self._alarms.items())
            self._alarms.clear()
        for loop, alarm in alarms:
            if not loop.is_closed():
                loop.call_soon_threadsafe(alarm.retire, loop)

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
        """What wakes the coroutines of this event loop."""
        with self._lock:
            alarm = self._alarms.get(loop)
            if alarm is None:
                alarm = _Alarm(self._core.bell())
                loop.add_reader(alarm.fileno(), alarm.ring)
                self._alarms[loop] = alarm
            return alarm


class Subscription:
    """What is published to one topic, from the moment of `Bus.subscribe` on, in order.

    Both a plain and an asynchronous iterator of records: `for record in subscription` blocks its
    thread, `async for` its coroutine only. It ends when it, or its bus, is closed.

    Nobody waits for a slow subscription. One that was overtaken gets `Lagged`, which says by how
    much, instead of the next record; iterating goes on behind the gap.
    """

    def __init__(
        self, bus: Bus, core: _core.Subscription, topic: str, past: list[Record], complete: bool
    ) -> None:
        """Not for users: `Bus.subscribe`."""
        self._bus = bus
        self._core = core
        self._at_once = 0
        self._past = deque(past)
        self.topic = topic
        self.complete = complete
        """Whether nothing is missing of what was asked for with `last` or `since`."""

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
        """The next record, for a thread that has other things to do as well.

        None if none came within `timeout` seconds (0: it only looks), or once it is closed.
        Lagged and BusError as when iterating.
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
        """Waits for the next record. Nothing is lost if it is cancelled."""
        import asyncio

        self._at_once += 1
        if self._at_once > _AT_ONCE:
            self._at_once = 0
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
                # Look once more after the alarm is there: what comes from then on rings it.
                alarm = self._bus._alarm(loop)
                continue
            self._at_once = 0
            await alarm.rung(loop)

    def _next(self) -> Record | None:
        """What is there already: the past first, each record once, whichever thread takes it."""
        if self._past and not self._core.closed:
            try:
                return self._past.popleft()
            except IndexError:  # another thread took the last one
                pass
        return self._core.poll()

    @property
    def closed(self) -> bool:
        """Whether it has ended: `close` was called, of it or of its bus."""
        return self._core.closed

    def close(self) -> None:
        """Ends it, also for whoever waits. Twice is allowed."""
        self._core.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._core.closed else ""
        return f"<Subscription {self.topic!r} of {self._bus.name!r}{state}>"


class _Alarm:
    """Wakes the coroutines of one event loop that wait for records.

    It does not know its loop, which is the key that it is found by.
    """

    def __init__(self, bell: _core.Bell) -> None:
        self._bell = bell
        self._waiting: set[Future[None]] = set()

    def fileno(self) -> int:
        return self._bell.fileno()

    def ring(self) -> None:
        """Everybody looks whether it was for them."""
        self._bell.clear()
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def rung(self, loop: AbstractEventLoop) -> None:
        future = loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def retire(self, loop: AbstractEventLoop) -> None:
        """The bus is closed: whoever waits shall see it."""
        loop.remove_reader(self.fileno())
        self.ring()


def missing_bus(name: str, advice: str = "") -> str:
    """The message for a bus that cannot be joined. `advice` comes last, if there is no such bus."""
    import difflib  # here, so that a program whose bus is there goes without it

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
        more = len(names) - _MOST_NAMES
        shown = ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        others = f"The buses of this user: {shown}."
    hint = "A server makes its bus when it starts: is it running, under this user?"
    return " ".join(filter(None, [f'There is no bus "{name}".', others, hint, advice]))
