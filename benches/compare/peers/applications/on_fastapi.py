"""The application on FastAPI: the handlers of work.py, as its documentation has them."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import work
from fastapi import FastAPI, Form, Request, Response, UploadFile

app = FastAPI(lifespan=work.lifespan)

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
async def form(name: Annotated[str, Form()], city: Annotated[str, Form()]) -> dict[str, str]:
    return work.greeted(name, city)


@app.post("/form/file")
async def file(picture: UploadFile) -> dict[str, int]:
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


# Only its requests pass the middlewares: the other rows are without any.
inner = FastAPI()


@inner.get("/")
async def behind_middlewares() -> dict[str, str]:
    return {"message": "Hello, World!"}


for number in range(5):

    @inner.middleware("http")
    async def counted(
        request: Request,
        call_next: Callable[[Request], Awaitable[Response]],
        number: int = number,
    ) -> Response:
        response = await call_next(request)
        response.headers[f"x-passed-{number}"] = "yes"
        return response


app.mount("/inner", inner)
