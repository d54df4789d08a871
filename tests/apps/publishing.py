"""Publishes and subscribes to whatever it is asked to, and says what came of it."""

from __future__ import annotations

import os

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("publishing")


@app.post("/publish")
def publish(request: Request) -> dict[str, object]:
    body = request.json()
    try:
        return {"offset": app.publish(body["topic"], "x" * body["bytes"])}
    except ValueError as error:
        return {"refused": str(error)}


@app.websocket("/subscribe")
async def subscribe(ws: WebSocket) -> None:
    async for topic in ws:
        try:
            ws.subscribe(str(topic))
            await ws.send("subscribed")
        except ValueError as error:
            await ws.send(f"refused: {error}")


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
