"""WebSockets in Fanbus: limits, an echo, a chat for all clients, and routes without Python.

Start it, and connect with the client that comes with `pip install websockets`:

    python examples/websockets_demo.py

    python -m websockets ws://127.0.0.1:5000/ws/echo            "hi"  ->  You said: hi
    python -m websockets ws://127.0.0.1:5000/ws/chat            in two terminals: each sees both
    python -m websockets ws://127.0.0.1:5000/ws/turbo           "hi"  ->  Echo: hi
    python -m websockets ws://127.0.0.1:5000/ws/relay/garden    in two terminals: each sees both

All four have the same limits. A message above 64 KiB closes its connection with 1009. More than 50
messages in a second close it with 1008. A client that sends nothing for 30 seconds, not even pongs,
is closed with 1001.
"""

import os

from fanbus import Fanbus, WebSocket, WebSocketConfig

app = Fanbus(name="websockets-demo")

limits = WebSocketConfig(
    max_message_size=1024 * 64, rate_limit=50, heartbeat_interval=10, timeout=30
)


@app.websocket("/ws/echo", config=limits)
async def echo(ws: WebSocket) -> None:
    """Standard: Python sees every message."""
    async for message in ws:
        text = message if isinstance(message, str) else f"{len(message)} bytes"
        await ws.send(f"You said: {text}")


@app.websocket("/ws/chat", config=limits)
async def chat(ws: WebSocket) -> None:
    """Broadcast: a message of one client reaches the clients of every worker, also the sender."""
    ws.subscribe("chat")
    app.publish("chat", f"Somebody joined through worker {os.getpid()}")
    async for message in ws:
        app.publish("chat", message)


@app.turbo_websocket("/ws/turbo", response_prefix="Echo: ", config=limits)
def turbo() -> None:
    """Turbo echo: all in Rust. This function is never called."""


@app.turbo_websocket("/ws/relay/{room}", broadcast="relay:{room}", config=limits)
def relay() -> None:
    """Turbo relay: all clients in the room get a client's message. All in Rust too."""


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "5000")), workers=2)
