"""Routers in routers, names, and paths with and without a trailing slash."""

from __future__ import annotations

import os

from fanbus import Fanbus, HTTPError, Request, Router, WebSocket

app = Fanbus("routing", redirect_slashes=os.environ.get("REDIRECT_SLASHES", "1") == "1")
rooms = Router(prefix="/rooms/{room}", name="rooms")
admin = Router(prefix="/admin")


@rooms.get("/people/{number:int}")
async def person(room: str, number: int) -> list[str | int]:
    return [room, number]


@rooms.websocket("/socket")
async def socket(ws: WebSocket, room: str) -> None:
    async for message in ws:
        await ws.send(f"{room}: {message!s}")


@rooms.turbo_websocket("/relay", broadcast="room:{room}")
def relay(request: Request, room: str) -> None:
    if room == "closed":
        raise HTTPError(403)


@admin.get("/")
def overview() -> str:
    return "overview"


app.include(rooms, prefix="/v1", name="v1")
app.include(rooms, prefix="/v2", name="v2")
app.include(admin)


@admin.get("/late")
def late() -> str:
    return "late"


@app.route("/plain", methods=["GET", "POST"])
def plain(request: Request) -> list[str]:
    return [request.method, request.path, request.query_string, str(request.text())]


@app.route("/own", methods=["OPTIONS"])
def own() -> str:
    return "my own"


@app.get("/urls")
def urls() -> list[str]:
    return [
        app.url_for("v2.person", room="a b", number=3),
        app.url_for("v1.socket", room="x"),
        app.url_for("overview"),
    ]


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
