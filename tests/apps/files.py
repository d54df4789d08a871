"""Files with headers of their handlers, and a folder of files that were compressed beforehand."""

from __future__ import annotations

import os
from pathlib import Path

from fanbus import Fanbus, Request, Response

app = Fanbus("files", compression=os.environ.get("COMPRESSION") == "1")
FOLDER = Path(os.environ["FOLDER"])
app.static("/plain", FOLDER)
app.static("/packed", FOLDER, precompressed=True)


@app.get("/own")
def own(request: Request) -> Response:
    """A file with the headers that the query names."""
    return Response.file(
        FOLDER / "a.txt", headers=[(name, text) for name, text in request.query.items()]
    )


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
