"""socketify, which is uWebSockets for Python: JSON, an echo, and a topic, all in one process."""

import os

from socketify import App, AppListenOptions

# The default, 64 KiB, drops messages for clients that read a little late.
MAX_BACKPRESSURE = 64 * 1024 * 1024


def run() -> None:
    app = App()

    def hello(response, _request) -> None:  # type: ignore[no-untyped-def]
        response.end({"message": "Hello, World!"})

    def echo(ws, message, opcode) -> None:  # type: ignore[no-untyped-def]
        ws.send(message, opcode)

    def enter(ws) -> None:  # type: ignore[no-untyped-def]
        ws.subscribe("room")

    def speak(_ws, message, opcode) -> None:  # type: ignore[no-untyped-def]
        # `ws.publish` would leave out the sender.
        app.publish("room", message, opcode)

    app.get("/", hello)
    app.ws("/echo", {"message": echo, "max_backpressure": MAX_BACKPRESSURE})
    app.ws("/room", {"open": enter, "message": speak, "max_backpressure": MAX_BACKPRESSURE})
    app.listen(AppListenOptions(port=int(os.environ["PORT"]), host="127.0.0.1"))
    app.run()


# Each process has an application and a loop of its own.
for _ in range(int(os.environ["WORKERS"]) - 1):
    if os.fork() == 0:
        break
run()
