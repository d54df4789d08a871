"""Event streams of any topic, those called `kept:...` with a past; and who publishes to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio

from fanbus import Event, Events, EventStream, Fanbus, Request, Response

app = Fanbus("events")
app.topic("kept:{name}", history=1000)


@app.get("/")
def page() -> Response:
    return Response.html("<!doctype html><title>events</title>")


@app.get("/events/{topic}")
async def events(request: Request, topic: str) -> EventStream:
    query = request.query
    return EventStream(
        topic,
        last=int(query["last"]) if "last" in query else None,
        last_event_id=query.get("id"),
        retry=0.1,
        ping_interval=float(query.get("ping", "15")),
        max_queue_bytes=int(query.get("queue", "1048576")),
    )


@app.get("/few")
def few() -> EventStream:
    return EventStream("few", max_connections=1, headers={"access-control-allow-origin": "*"})


@app.get("/unnamed")
def unnamed() -> EventStream:
    return EventStream("")


ended: list[str] = []
"""How generators of events have ended."""

more = asyncio.Event()


streams: list[EventStream] = []


@app.get("/closed/{topic}")
def closed_later(topic: str) -> EventStream:
    stream = EventStream(topic, retry=0.1)
    streams.append(stream)
    return stream


@app.get("/closed-before")
def closed_before() -> EventStream:
    stream = EventStream("t")
    stream.close(Event("at once"))
    return stream


@app.post("/close")
async def close_streams(request: Request) -> dict[str, int]:
    text = await request.text()
    for stream in streams:
        stream.close(Event(text, event="end") if text else None)
        stream.close(Event("never sent"))
    return {"closed": len(streams)}


@app.get("/tokens")
async def tokens(request: Request) -> Events:
    async def run() -> AsyncIterator[str | dict[str, int] | Event]:
        yield "two\r\nlines"
        yield {"number": int(request.headers.get("last-event-id", "0"))}
        yield Event([1], event="list", id="7", retry=2.5)
        yield Event("", event="done")

    return Events(run(), retry=0.1)


@app.get("/silent")
async def silent() -> Events:
    async def run() -> AsyncIterator[str]:
        try:
            with anyio.fail_after(60):  # refuses to be left in another task
                yield "first"
                await more.wait()
                yield "second"
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        finally:
            ended.append("finally")

    return Events(run(), ping_interval=0.05)


@app.get("/more")
async def make_more() -> list[str]:
    more.set()
    return ended


@app.get("/ended")
async def how_they_ended() -> list[str]:
    return ended


@app.get("/broken")
async def broken() -> Events:
    async def run() -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("a bug in a generator of events")

    return Events(run())


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Events:
    """As services of language models stream tokens."""

    async def run() -> AsyncIterator[str | dict[str, Any]]:
        for token in ("Hel", "lo", " you"):
            yield {
                "id": "1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "delta": {"content": token}, "finish_reason": None}],
            }
        yield "[DONE]"

    return Events(run())


@app.post("/publish/{topic}")
async def publish(request: Request, topic: str) -> dict[str, int]:
    body = await request.bytes()
    is_binary = request.headers.get("content-type") == "application/octet-stream"
    return {"offset": app.publish(topic, body if is_binary else body.decode())}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
