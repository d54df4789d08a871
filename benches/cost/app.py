"""The application whose paths are counted: as little as a handler can do.

python benches/cost/app.py             serves on a free port, in one process
python benches/cost/app.py publish     publishes the number of times in each input line
"""

from __future__ import annotations

import os
import sys

from fanbus import Bus, Fanbus, WebSocket, WebSocketConfig

app = Fanbus(name="cost")

MESSAGE = "x1y2" * 32

# On a busy machine a path takes longer to walk than the time between two pings.
quiet = WebSocketConfig(heartbeat_interval=None, timeout=None)


@app.get("/sync")
def sync() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/async")
async def asynchronous() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.websocket("/echo", config=quiet)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/room", config=quiet)
async def room(ws: WebSocket) -> None:
    ws.subscribe("room")
    async for message in ws:
        app.publish("room", message)


def publish() -> None:
    """No process reads, and none is woken: this is the publisher's share."""
    with Bus.open(f"cost-{os.getpid()}", create=True) as bus:
        try:
            print("ready", flush=True)
            for line in sys.stdin:
                for _ in range(int(line)):
                    bus.publish("room", MESSAGE)
                print("done", flush=True)
        finally:
            bus.remove()


if __name__ == "__main__":
    if sys.argv[1:] == ["publish"]:
        publish()
    else:
        app.run(port=0)
