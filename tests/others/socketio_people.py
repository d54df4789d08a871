"""Clients of Socket.IO, by its own library: four in the kitchen, and one in the hall.

    python tests/others/socketio_people.py http://127.0.0.1:8000

Prints what each has heard, but for who has come, as JSON.
"""

from __future__ import annotations

import json
import sys
from queue import Queue
from typing import Any

import socketio  # type: ignore[import-not-found, unused-ignore]

DEADLINE_S = 30.0


class Person:
    """A client in a room."""

    def __init__(self, url: str, room: str) -> None:
        self.news: Queue[str] = Queue()
        self.heard: list[str] = []
        self.client: Any = socketio.Client(reconnection=False)
        self.client.on("news", self.news.put)
        self.client.connect(url)
        self.client.call("join", room, timeout=DEADLINE_S)

    def say(self, room: str, text: str) -> None:
        """To everybody in the room but this client. Returns when the server has done it."""
        self.client.call("say", (room, text), timeout=DEADLINE_S)

    def hear(self) -> None:
        """Waits for what somebody says."""
        text = self.news.get(timeout=DEADLINE_S)
        while text.endswith(" is here"):
            text = self.news.get(timeout=DEADLINE_S)
        self.heard.append(text)


def main() -> None:
    """They talk."""
    inside = [Person(sys.argv[1], "kitchen") for _ in range(4)]
    outside = Person(sys.argv[1], "hall")
    inside[0].say("kitchen", "the soup is ready")
    for person in inside[1:]:
        person.hear()
    inside[1].say("kitchen", "next")
    inside[1].say("hall", "next")
    for person in (inside[0], *inside[2:], outside):
        person.hear()
    sys.stdout.write(json.dumps([person.heard for person in (*inside, outside)]) + "\n")
    for person in (*inside, outside):
        person.client.disconnect()


if __name__ == "__main__":
    main()
