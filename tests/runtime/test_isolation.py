"""Rust stays out of Python's way, and Python out of Rust's (docs/guarantees.md, promise 6)."""

from __future__ import annotations

import os
from pathlib import Path

from conftest import StartServer
from support.raw_websocket import CLOSE, PING, TEXT, RawSocket, closing


def test_while_python_is_held_messages_pings_and_closes_go_on(
    server: StartServer, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    one = server("held_gil", workers=1, environment={"PIPE": str(pipe)})
    with (
        RawSocket(one.port) as holder,
        RawSocket(one.port) as listener,
        RawSocket(one.port) as speaker,
        RawSocket(one.port) as late,
    ):
        holder.open("/hold")
        listener.open("/rooms/hall")
        assert listener.message() == "in"
        speaker.open("/relay/hall")

        holder.send(TEXT, b"hold")
        assert holder.message() == "holding"
        for number in range(100):
            speaker.send(TEXT, b"message %d" % number)
            assert speaker.message() == f"message {number}"
            assert listener.message() == f"message {number}", "delivered to a Python room"
        late.open("/relay/hall")
        assert listener.frame().opcode == PING, "silence is noticed"
        late.send(CLOSE, closing(1000))
        assert late.closed()[0] == 1000
        holder.send(PING, b"are you there?")
        assert holder.frame().payload == b"are you there?"

        pipe.open("wb").close()
        assert holder.message() == "released"
