"""Typed bodies and forms on Litestar: the handlers of work.py, as its documentation has them."""

from typing import Annotated

import work
from litestar import Litestar, post
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body

Fields = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]
Files = Annotated[dict[str, UploadFile | str], Body(media_type=RequestEncodingType.MULTI_PART)]


@post("/orders", status_code=200)
async def order(data: work.Order) -> dict[str, float]:
    return work.total(data)


@post("/form", status_code=200)
async def form(data: Fields) -> dict[str, str]:
    return work.greeted(data["name"], data["city"])


@post("/form/file", status_code=200)
async def file(data: Files) -> dict[str, int]:
    picture = data["picture"]
    assert isinstance(picture, UploadFile)
    return work.measured(await picture.read())


app = Litestar([order, form, file])
