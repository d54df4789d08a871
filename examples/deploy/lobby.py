"""The application that the files beside it deploy: two paths for probes, a room, and a relay."""

from fanbus import Fanbus, HTTPError, WebSocket

app = Fanbus("deployed")
app.topic("room:{room}", history=100)


@app.get("/healthz")
def alive() -> dict[str, str]:
    """The process responds. If this probe fails, the process is restarted."""
    return {"status": "ok"}


@app.get("/readyz")
def ready() -> dict[str, str]:
    """The application can work. If this probe fails, it gets no new clients."""
    if not can_work():
        raise HTTPError(503, "not ready")
    return {"status": "ok"}


def can_work() -> bool:
    """Checks the services that this application needs: its database, for example."""
    return True


@app.websocket("/rooms/{room}")
async def room(ws: WebSocket, room: str) -> None:
    ws.subscribe(f"room:{room}", last=20)
    async for message in ws:
        app.publish(f"room:{room}", message)


if __name__ == "__main__":
    app.run()
