"""BustAPI: JSON, an echo in Python and one in Rust, and a room; it has no broadcast of its own."""

import os

from bustapi import BustAPI

app = BustAPI()
room_of_this_process = set()


@app.get("/")
def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.websocket("/echo")
async def echo(ws) -> None:  # type: ignore[no-untyped-def]
    async for message in ws:
        await ws.send(message)


@app.websocket("/room")
async def room(ws) -> None:  # type: ignore[no-untyped-def]
    room_of_this_process.add(ws)
    try:
        async for message in ws:
            for other in list(room_of_this_process):
                await other.send(message)
    finally:
        room_of_this_process.discard(ws)


@app.turbo_websocket("/turbo", response_prefix="")
def turbo() -> None: ...


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
