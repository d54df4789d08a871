"""What the Autobahn test-suite talks to: an echo in Python, and one in Rust.

Only the protocol shall be tested here, so the limits are above all that the suite sends.
"""

import os

from fanbus import Fanbus, WebSocket, WebSocketConfig

app = Fanbus("autobahn")
config = WebSocketConfig(
    max_message_size=16 * 1024 * 1024,  # the largest message of section 9
    max_queue_bytes=64 * 1024 * 1024,
    compression=True,  # sections 12 and 13
    heartbeat_interval=None,  # no pings in between
    timeout=None,
)


@app.websocket("/python", config=config)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.turbo_websocket("/rust", response_prefix="", config=config)
def turbo_echo() -> None:
    """All in Rust."""


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), workers=1)
