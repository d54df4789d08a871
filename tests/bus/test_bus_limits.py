"""The limits of topics and published messages (docs/guarantees.md, promise 5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import Server
from support.websocket_clients import hear, join

LARGEST = 2 * 1024 * 1024
GOOD = ["a", "room:lobby", "\N{BUS}", "x" * 255, "ä" * 127]
BAD = ["", "x" * 256, "ä" * 128, "two\nlines", "\x00", "\x7f"]


@pytest.fixture(scope="module")
def publishing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        "publishing", workers=1, environment={}, stderr=tmp_path_factory.mktemp("bus") / "stderr"
    ) as server:
        yield server


def test_offsets_grow_with_every_message(publishing: Server) -> None:
    with publishing.http() as http:
        offsets = [
            http.post("/publish", json={"topic": topic, "bytes": 1}).json()["offset"]
            for topic in GOOD
        ]
    assert offsets == sorted(set(offsets))


@pytest.mark.parametrize("topic", BAD)
def test_a_bad_topic_is_refused_with_a_sentence(publishing: Server, topic: str) -> None:
    with publishing.http() as http, join(publishing, "/subscribe") as ws:
        answer = http.post("/publish", json={"topic": topic, "bytes": 1}).json()
        assert "topic" in answer["refused"]
        ws.send(topic)
        assert str(hear(ws)).startswith("refused: ")
        ws.send("good")
        assert hear(ws) == "subscribed"


def test_a_message_of_a_quarter_of_the_ring_passes_and_a_larger_one_is_refused(
    publishing: Server,
) -> None:
    with publishing.http() as http, join(publishing, "/subscribe") as ws:
        ws.send("large")
        assert hear(ws) == "subscribed"
        answer = http.post("/publish", json={"topic": "large", "bytes": LARGEST}).json()
        assert "offset" in answer
        assert len(hear(ws)) == LARGEST
        answer = http.post("/publish", json={"topic": "large", "bytes": LARGEST + 1024}).json()
        assert "that this bus carries" in answer["refused"]
        http.post("/publish", json={"topic": "large", "bytes": 1})
        assert hear(ws) == "x", "nothing of the refused one was delivered"


def test_a_smaller_bus_carries_smaller_messages(tmp_path: Path) -> None:
    environment = {"FANBUS_BUS_SIZE": "512K"}
    with (
        Server(
            "publishing", workers=2, environment=environment, stderr=tmp_path / "stderr"
        ) as server,
        server.http() as http,
    ):
        fits = http.post("/publish", json={"topic": "t", "bytes": 128 * 1024}).json()
        assert "offset" in fits
        refused = http.post("/publish", json={"topic": "t", "bytes": 130 * 1024}).json()
        assert "--bus-size" in refused["refused"]
