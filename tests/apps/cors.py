"""An application that pages of other origins may read."""

import json
import os
from collections.abc import Iterator

from fanbus import Fanbus, Response

app = Fanbus("cors")
app.cors(**json.loads(os.environ["CORS"]))
app.static("/files", ".")


@app.get("/")
def index() -> str:
    return "read me"


@app.post("/")
def post() -> Response:
    return Response("own", headers={"Vary": "Accept", "X-Thing": "1"})


@app.get("/own")
def own() -> Response:
    return Response("own", headers={"Access-Control-Allow-Origin": "https://own.example"})


@app.get("/stream")
def stream() -> Iterator[str]:
    yield "a"


@app.get("/broken")
def broken() -> None:
    raise ValueError("broken")


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
