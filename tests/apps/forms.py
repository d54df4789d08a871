"""Forms: what handlers are given of them, and where it lies meanwhile."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from fanbus import Fanbus, Form, Request, Upload

app = Fanbus("forms")


def described(form: Form) -> dict[str, Any]:
    return {
        "first": {name: value for name, value in form.items() if isinstance(value, str)},
        "fields": form.fields.pairs(),
        "files": [
            [name, file.filename, file.content_type, file.size] for name, file in form.files.pairs()
        ],
    }


@app.post("/form")
async def form(request: Request) -> dict[str, Any]:
    assert await request.form() is await request.form()
    return described(await request.form())


@app.post("/form/sync")
def form_sync(request: Request) -> dict[str, Any]:
    return described(request.form())


@app.post("/read", max_body_size=64 * 1024 * 1024)
async def read(request: Request) -> list[Any]:
    digests = []
    for file in (await request.form()).files.get_all("file"):
        begin = await file.read(10)
        rest = await file.read()
        assert await file.read() == b""
        file.seek(0)
        digest = hashlib.sha256()
        while piece := await file.read(100_000):
            digest.update(piece)
        assert digest.digest() == hashlib.sha256(begin + rest).digest()
        digests.append(digest.hexdigest())
    return digests


@app.post("/save", max_body_size=64 * 1024 * 1024)
def save(request: Request) -> list[str]:
    file = request.form()["file"]
    assert isinstance(file, Upload)
    target = Path(os.environ["TARGET"])
    file.save(target)
    return [hashlib.sha256(target.read_bytes()).hexdigest()]


@app.post("/save/async", max_body_size=64 * 1024 * 1024)
async def save_async(request: Request) -> list[str]:
    file = (await request.form()).files["file"]
    target = Path(os.environ["TARGET"])
    await file.save(target)
    return [hashlib.sha256(target.read_bytes()).hexdigest()]


@app.post("/open-files", max_body_size=64 * 1024 * 1024)
def open_files(request: Request) -> list[str]:
    """What lies on disk while the request is here."""
    return on_disk()


@app.get("/open-files")
def open_files_now() -> list[str]:
    return on_disk()


def on_disk() -> list[str]:
    temporary = os.environ["TMPDIR"]
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except OSError:  # the one that lists the folder is gone by now
            continue
    return [link for link in links if link.startswith(temporary)]


@app.post("/small", max_body_size=100)
def small(request: Request) -> int | str:
    return str(len(request.bytes()))


@app.post("/raw/{how}")
def raw(request: Request, how: str) -> str:
    return str(getattr(request, how)())


@app.post("/nobody-looks")
def nobody_looks() -> str:
    return "done"


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
