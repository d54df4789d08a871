"""The application on Fanbus: the handlers of work.py, as its documentation has them."""

import os
from typing import Any

import work

from fanbus import Fanbus, Request, Router

app = Fanbus("applications", lifespan=work.lifespan)

app.get("/asyncpg")(work.one_by_asyncpg)
app.get("/sqlalchemy")(work.many_by_sqlalchemy)
app.get("/psycopg")(work.one_by_psycopg)
app.get("/httpx")(work.call_by_httpx)
app.get("/aiohttp")(work.call_by_aiohttp)
app.get("/sleep")(work.sleep)
app.get("/gather")(work.gather)
app.get("/tenth")(work.every_tenth)
app.get("/computing")(work.computing)


@app.post("/orders")
async def order(order: work.Order) -> dict[str, float]:
    return work.total(order)


@app.post("/form")
async def form(request: Request) -> dict[str, str]:
    fields = (await request.form()).fields
    return work.greeted(fields["name"], fields["city"])


@app.post("/form/file")
async def file(request: Request) -> dict[str, int]:
    picture = (await request.form()).files["picture"]
    return work.measured(await picture.read())


@app.get("/models/100")
async def hundred() -> list[work.Item]:
    return work.MODELS[100]


@app.get("/models/1000")
async def thousand() -> list[work.Item]:
    return work.MODELS[1000]


@app.get("/dates")
async def dates() -> Any:
    return work.DATED


inner = Router(prefix="/inner")


@inner.get("")
async def behind_middlewares() -> dict[str, str]:
    return {"message": "Hello, World!"}


for number in range(5):

    @inner.middleware
    async def counted(request: Any, call_next: Any, number: int = number) -> Any:
        response = await call_next(request)
        response.set_header(f"x-passed-{number}", "yes")
        return response


app.include(inner)

if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
