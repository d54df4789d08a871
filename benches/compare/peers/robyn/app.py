"""Robyn: JSON, an echo, and its `broadcast`, which reaches the clients of one process."""

import os

from robyn import Robyn, WebSocketDisconnect

app = Robyn(__file__)


@app.get("/")
async def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.websocket("/echo")
async def echo(websocket) -> None:  # type: ignore[no-untyped-def]
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@app.websocket("/room")
async def room(websocket) -> None:  # type: ignore[no-untyped-def]
    try:
        while True:
            await websocket.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    app.start(host="127.0.0.1", port=int(os.environ["PORT"]))
