"""An application as the files beside it deploy it: two paths for probes, a room, and a relay."""

from fanbus import Fanbus, HTTPError, WebSocket

app = Fanbus("deployed")
app.topic("room:{room}", history=100)


@app.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers. A probe that fails here restarts it."""
    return {"status": "ok"}


@app.get("/readyz")
def ready() -> dict[str, str]:
    """It can do its work. A probe that fails here only keeps new clients away."""
    if not can_work():
        raise HTTPError(503, "not ready")
    return {"status": "ok"}


def can_work() -> bool:
    """Ask what this application needs: its database, for example."""
    return True


@app.websocket("/rooms/{room}")
async def room(ws: WebSocket, room: str) -> None:
    ws.subscribe(f"room:{room}", last=20)
    async for message in ws:
        app.publish(f"room:{room}", message)


if __name__ == "__main__":
    app.run()
