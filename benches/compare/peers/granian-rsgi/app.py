"""Granian's own interface, RSGI: JSON, and an echo."""

import json

from granian.rsgi import HTTPProtocol, Scope, WebsocketMessageType, WebsocketProtocol


async def app(scope: Scope, protocol: HTTPProtocol | WebsocketProtocol) -> None:
    if scope.proto == "http":
        body = json.dumps({"message": "Hello, World!"})
        protocol.response_str(200, [("content-type", "application/json")], body)
        return
    transport = await protocol.accept()
    while True:
        message = await transport.receive()
        if message.kind == WebsocketMessageType.close:
            return
        if message.kind == WebsocketMessageType.bytes:
            await transport.send_bytes(message.data)
        else:
            await transport.send_str(message.data)
