"""A Starlette application under uvicorn, whose WebSockets get messages of other processes.

uvicorn --workers 2 --app-dir examples/any_process live:app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fanbus import Bus, Lagged, Subscription


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Each worker opens the bus itself, after its start: a bus cannot be used across a fork."""
    async with Bus.open(os.environ.get("FANBUS_BUS", "demo"), create=True) as bus:
        app.state.bus = bus
        yield


async def publish(request: Request) -> Response:
    text = (await request.body()).decode()
    offset = request.app.state.bus.publish("news", text)
    return JSONResponse({"offset": offset, "worker": os.getpid()})


async def news(ws: WebSocket) -> None:
    with ws.app.state.bus.subscribe("news") as subscription:
        await ws.accept()
        await ws.send_text(f"worker {os.getpid()}")
        sending = asyncio.ensure_future(send(ws, subscription))
        try:
            while True:
                await ws.receive_text()  # readers only read; this ends when they leave
        except WebSocketDisconnect:
            pass
        finally:
            sending.cancel()


async def send(ws: WebSocket, subscription: Subscription) -> None:
    try:
        async for record in subscription:
            await ws.send_text(str(record.message))
    except Lagged:
        await ws.close(1013, "too slow")


app = Starlette(
    lifespan=lifespan,
    routes=[Route("/news", publish, methods=["POST"]), WebSocketRoute("/news", news)],
)
