"""FastAPI with Redis between its workers: each has one subscription for its connections."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

server = redis.Redis(unix_socket_path=os.environ["REDIS_SOCKET"])
connections: set[WebSocket] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    pubsub = server.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("room")
    listener = asyncio.create_task(listen(pubsub))
    yield
    listener.cancel()


async def listen(pubsub: redis.client.PubSub) -> None:
    async for message in pubsub.listen():
        text = message["data"].decode()
        for websocket in list(connections):
            # One that has gone says so where it is received from.
            if websocket in connections:
                try:
                    await websocket.send_text(text)
                except (RuntimeError, WebSocketDisconnect):
                    connections.discard(websocket)


app = FastAPI(lifespan=lifespan)


@app.websocket("/room")
async def room(websocket: WebSocket) -> None:
    await websocket.accept()
    connections.add(websocket)
    try:
        while True:
            await server.publish("room", await websocket.receive_text())
    except WebSocketDisconnect:
        connections.discard(websocket)
