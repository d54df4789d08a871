"""BustAPI: JSON, an echo in Python, and its echo in Rust. It has no broadcast."""

import os

from bustapi import BustAPI

app = BustAPI()


@app.get("/")
def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.websocket("/echo")
async def echo(ws) -> None:  # type: ignore[no-untyped-def]
    async for message in ws:
        await ws.send(message)


@app.turbo_websocket("/turbo", response_prefix="")
def turbo() -> None: ...


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
