"""The load client and the library `websockets` count the same at the chat example."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benches.independent import (
    PUBLISHERS,
    RATE,
    SUBSCRIBERS,
    Figures,
    chat,
    is_quick_enough,
    measured,
    of_fanbus,
    of_websockets,
    table,
)


def test_both_clients_receive_all_messages_in_one_order_and_count_the_same() -> None:
    clients = {"fanbus bench": of_fanbus, "websockets": of_websockets}
    found: dict[str, list[Figures]] = {}
    with chat() as (pid, port):
        url = f"ws://127.0.0.1:{port}/relay/a"
        for name, client in clients.items():
            found[name] = [measured(pid, partial(client, url, 0.5))]
    assert not Path(f"/dev/shm/fanbus.chat-{port}").exists()
    for (figures,) in found.values():
        assert figures["sent"] == 0.5 * RATE
        assert figures["delivered"] == figures["sent"] * (SUBSCRIBERS + PUBLISHERS)
        assert figures["missing"] == 0
        assert figures["orders"] == 1
        assert figures["p50_us"] > 0
    # By its CPU, not by its time: others that want the CPU make it no dearer.
    assert is_quick_enough(found["fanbus bench"][0]), found
    told = table(found)
    assert "| fanbus bench | 100 | 6,600 | 0 | 1 | " in told
    assert "| websockets | 100 | 6,600 | 0 | 1 | " in told
