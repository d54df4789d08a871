"""A WebSocket route for each thing that test_websocket asks about."""

from __future__ import annotations

import asyncio
import json
import os

from fanbus import (
    Fanbus,
    HTTPError,
    Request,
    WebSocket,
    WebSocketClosed,
    WebSocketConfig,
)

app = Fanbus("sockets")

small = WebSocketConfig(max_message_size=1000)
slow = WebSocketConfig(rate_limit=5)
# Long enough for a client on a busy machine to answer.
alive = WebSocketConfig(heartbeat_interval=0.25, timeout=2)
quiet = WebSocketConfig(heartbeat_interval=None, timeout=0.5)

# How handlers saw their connections end, by the name the client gave.
ends: dict[str, dict[str, object]] = {}


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/takes-over")
async def takes_over(ws: WebSocket) -> None:
    async def receive() -> str | bytes:
        return await ws.receive()

    receiving = asyncio.create_task(receive())
    await asyncio.sleep(0)  # it waits now
    receiving.cancel()
    await ws.receive()  # perhaps before the other task has run
    await asyncio.wait([receiving])
    await ws.send("cancelled" if receiving.cancelled() else repr(receiving))


@app.websocket("/echo/small", config=small)
async def echo_small(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/echo/slow", config=slow)
async def echo_slow(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/echo/alive", config=alive)
async def echo_alive(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/echo/quiet", config=quiet)
async def echo_quiet(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.turbo_websocket("/turbo/echo", response_prefix="Echo: ")
@app.turbo_websocket("/turbo/plain", response_prefix="")
@app.turbo_websocket("/turbo/small", response_prefix="", config=small)
@app.turbo_websocket("/turbo/slow", response_prefix="", config=slow)
@app.turbo_websocket("/turbo/alive", response_prefix="", config=alive)
@app.turbo_websocket("/turbo/quiet", response_prefix="", config=quiet)
@app.turbo_websocket("/relay/{room}", broadcast="room:{room}")
@app.turbo_websocket("/relay/{room}/small", broadcast="room:{room}", config=small)
@app.turbo_websocket("/relay/{room}/slow", broadcast="room:{room}", config=slow)
@app.turbo_websocket("/relay/{room}/alive", broadcast="room:{room}", config=alive)
@app.turbo_websocket("/relay/{room}/quiet", broadcast="room:{room}", config=quiet)
def all_in_rust() -> None: ...


@app.turbo_websocket("/guarded/{room}", broadcast="guarded:{room}")
def guarded(request: Request, room: str) -> bool:
    if room == "nobody":
        return False
    if request.query.get("token") != "secret":
        raise HTTPError(401, "Who are you?")
    return True


@app.turbo_websocket("/guarded-async/{room}", response_prefix="")
async def guarded_async(request: Request, room: str) -> bool:
    await asyncio.sleep(0)
    return request.headers.get("x-key") == room


@app.websocket("/greet/{name}/{times:int}")
async def greet(ws: WebSocket, times: int, name: str) -> None:
    for number in range(times):
        await ws.send(f"Hello {name} {number}")


@app.websocket("/once")
async def once(ws: WebSocket) -> None:
    await ws.send(await ws.receive())


@app.websocket("/close/{code:int}")
async def close(ws: WebSocket, code: int) -> None:
    await ws.accept()
    await ws.close(code, "as you wished")


@app.websocket("/raise")
async def fail(ws: WebSocket) -> None:
    await ws.accept()
    raise RuntimeError("a secret of the handler")


@app.websocket("/raise-on-message")
async def fail_on_message(ws: WebSocket) -> None:
    async for _ in ws:
        raise RuntimeError("a secret of the handler")


@app.websocket("/reject/{status:int}")
async def reject(ws: WebSocket, status: int) -> None:
    await ws.reject(status)


@app.websocket("/http-error")
async def http_error(ws: WebSocket) -> None:
    raise HTTPError(401, "Not you")


@app.websocket("/subprotocols", config=WebSocketConfig(subprotocols=("chat.v2", "chat.v1")))
async def subprotocols(ws: WebSocket) -> None:
    await ws.send("in")


@app.websocket("/subprotocol/chosen")
async def subprotocol_chosen(ws: WebSocket) -> None:
    try:
        await ws.accept(subprotocol="mine")
    except ValueError as error:
        await ws.reject(400, str(error))
    else:
        await ws.send("in")


@app.websocket("/origins", config=WebSocketConfig(origins=("https://example.org",)))
async def origins(ws: WebSocket) -> None:
    await ws.send("in")


@app.websocket("/origins/any", config=WebSocketConfig(origins=("*",)))
async def any_origin(ws: WebSocket) -> None:
    await ws.send("in")


@app.websocket("/few", config=WebSocketConfig(max_connections=2))
async def few(ws: WebSocket) -> None:
    await ws.send("in")
    async for message in ws:
        await ws.send(message)


@app.websocket("/topics/{name}", config=WebSocketConfig(max_topics=3))
async def topics(ws: WebSocket, name: str) -> None:
    async for line in ws:
        order, topic = str(line).split()
        topic = f"{name}:{topic}"
        try:
            match order:
                case "subscribe":
                    ws.subscribe(topic)
                case "unsubscribe":
                    ws.unsubscribe(topic)
                case "publish":
                    app.publish(topic, f"on {topic}")
        except RuntimeError as error:
            await ws.send(str(error))
        else:
            await ws.send(f"{order} {topic}")


@app.websocket("/about/{name}")
async def about(ws: WebSocket) -> None:
    ws.state["seen"] = True
    facts = {
        "id": ws.id,
        "path_params": dict(ws.path_params),
        "query": dict(ws.query),
        "header": ws.headers.get("x-thing"),
        "cookies": dict(ws.cookies),
        "client": ws.client,
        "state": ws.state,
        "close_code": ws.close_code,
    }
    await ws.send(json.dumps(facts))


@app.websocket("/watched/{name}")
async def watched(ws: WebSocket, name: str) -> None:
    await ws.send("in")
    count = 0
    async for _ in ws:
        count += 1
    ends[name] = {"by": "loop", "code": ws.close_code, "reason": ws.close_reason, "count": count}


@app.websocket("/receiving/{name}")
async def receiving(ws: WebSocket, name: str) -> None:
    await ws.send("in")
    try:
        while True:
            await ws.receive()
    except WebSocketClosed as closed:
        ends[name] = {"by": "receive", "code": closed.code, "reason": closed.reason}
    try:
        await ws.send("too late")
    except WebSocketClosed as closed:
        ends[name]["send"] = closed.code


@app.websocket("/cleaned/{name}")
async def cleaned(ws: WebSocket, name: str) -> None:
    """Waits for something else than the WebSocket."""
    await ws.send("in")
    try:
        async for message in ws:
            assert isinstance(message, str)
    finally:
        ends[name] = {"by": "finally", "code": ws.close_code}


@app.get("/ends/{name}")
def end_of(name: str) -> dict[str, object]:
    return ends.get(name, {})


@app.get("/http")
def plain() -> str:
    return "plain"


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
