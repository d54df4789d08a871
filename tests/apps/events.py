"""Event streams of any topic, those called `kept:...` with a past; and who publishes to them."""

from __future__ import annotations

import os

from fanbus import EventStream, Fanbus, Request, Response

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


@app.post("/publish/{topic}")
async def publish(request: Request, topic: str) -> dict[str, int]:
    body = await request.bytes()
    is_binary = request.headers.get("content-type") == "application/octet-stream"
    return {"offset": app.publish(topic, body if is_binary else body.decode())}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
