"""Tells what a request knows of its place, and gives tests the whole of `fanbus run`'s options."""

from __future__ import annotations

import os
import pwd
import threading
from typing import Any

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("options")
go_on = threading.Event()


@app.get("/place")
def place(request: Request) -> dict[str, Any]:
    return {
        "client": request.client,
        "scheme": request.scheme,
        "root_path": request.root_path,
        "pid": os.getpid(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "directory": str(os.getcwd()),  # noqa: PTH109 - as the process has it
        "variable": os.environ.get("OF_THE_FILE"),
        "listen": os.environ.get("LISTEN_FDS"),
    }


@app.get("/below/")
def below() -> str:
    return app.url_for("anything", rest="a/b", page=2)


@app.get("/hold")
def hold() -> str:
    go_on.wait(60)
    return "held"


@app.get("/any/{rest:path}")
def anything(rest: str) -> str:
    return rest


@app.websocket("/ws")
async def ws(ws: WebSocket) -> None:
    ws.subscribe("all")
    await ws.send(f"{ws.scheme} {ws.root_path}")
    async for message in ws:
        if message == "release":
            go_on.set()
        app.publish("all", message)


def make() -> Fanbus:
    return app


if __name__ == "__main__":
    app.run(port=0)
