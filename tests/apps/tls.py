"""What a client sees of TLS: FANBUS_SSL_CERTFILE and the like are in the environment."""

from __future__ import annotations

import os

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("tls")


@app.get("/who")
def who(request: Request) -> dict[str, str]:
    return {"scheme": request.scheme, "version": request.http_version}


@app.post("/length")
async def length(request: Request) -> dict[str, object]:
    return {"length": len(await request.bytes()), "host": request.headers.get("host")}


@app.post("/little", max_body_size=1000)
async def little(request: Request) -> dict[str, object]:
    return {"length": len(await request.bytes())}


@app.get("/large")
def large() -> str:
    return "x" * 1_000_000


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/scheme")
async def scheme(ws: WebSocket) -> None:
    await ws.send(ws.scheme)


@app.turbo_websocket("/turbo", response_prefix="")
@app.turbo_websocket("/relay", broadcast="room")
def all_in_rust() -> None: ...


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
