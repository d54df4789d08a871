"""The bus methods of an application, which publish messages and read their history.

The application has a bus only while a server runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanbus.exceptions import FanbusError
from fanbus.history import History, RetentionRule

if TYPE_CHECKING:
    from fanbus import _core

__all__ = ["ApplicationBus"]


class ApplicationBus:
    """The methods of an application that need its bus or declare its retention rules."""

    def __init__(self) -> None:
        self._worker: _core.Worker | None = None
        self._bus: _core.Bus | None = None
        self._retention_rules: list[RetentionRule] = []

    def topic(self, pattern: str, *, history: int, seconds: int | None = None) -> None:
        """Retains the history of topics, so that new subscribers can replay earlier messages.

        `pattern` is the name of a topic, in which `{name}` stands for one or more characters.
        `app.topic("room:{room}", history=100)` retains at least the newest 100 messages of each
        room, regardless of other traffic on the bus. `seconds`: the age limit of messages (at most
        136 years); None: no limit.

        The history survives the workers, and a restart of the server while the machine runs.
        `history_size` (8 MiB) limits the history of all topics: when it is full, the oldest
        messages are removed, and readers see an incomplete history. `ws.subscribe(topic, last=50)`,
        `app.history(topic, last=50)` and `Bus.history` read it.

        Raises FanbusError if the pattern or a number is invalid.
        """
        rule = RetentionRule.checked(pattern, history, seconds)
        if self._bus is not None:  # the server runs already
            self._bus.retain(rule.pattern, rule.history, rule.seconds)
        self._retention_rules.append(rule)

    def history(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> History:
        """The `last` messages of a topic, or all messages `since` an offset.

        Any thread may call it. See `Bus.history`. FanbusError if no server runs.
        """
        bus = self._bus
        if bus is None:
            raise FanbusError(
                f"history({topic!r}) needs a running server: call it from a handler. "
                "Elsewhere, open the bus by its name: Bus.open(name).history(...)."
            )
        result = bus.history(topic, last=last, since=since, epoch=epoch)
        return History(*result, epoch=bus.epoch)

    def publish(self, topic: str, message: str | bytes | bytearray | memoryview) -> int:
        """Publishes a message to all subscribers of the topic, in all workers.

        Any thread may call it. Returns the offset of the message: its number in the one order that
        all clients see. `topic` is 1 to 255 bytes of UTF-8 without control characters. A message is
        at most a quarter of the bus's ring (2 MiB by default). ValueError above these limits;
        FanbusError if no server runs.

        A call usually takes a microsecond. Workers deliver more slowly than a loop publishes. When
        a running worker is an eighth of the ring or of the log behind, `publish` waits for it, so
        that a burst of any length reaches all clients. It waits for five seconds at most. For a
        worker that is stopped, it waits a tenth of a second, once. Such a worker may lag; then its
        clients are closed with that reason. Other threads run during the wait. The event loop does
        not, if an `async def` publishes.
        """
        worker = self._worker
        if worker is None:
            raise FanbusError(
                f"publish({topic!r}) needs a running server: call it from a handler, or from a "
                "task or thread that a handler started."
            )
        return worker.publish(topic, message)
