"""Rows of ordinary applications: a database, outgoing calls, middlewares, models, bursts.

Each system runs the handlers of peers/applications/work.py as its documentation has them, in the
same environment, with the same packages.
"""

from __future__ import annotations

from .rows import BURSTS, Entry, Row

FANBUS, UVICORN, GRANIAN = "Fanbus", "FastAPI on uvicorn", "FastAPI on Granian"
LITESTAR = "Litestar on uvicorn"
PROGRAM = "applications"
# The prefix of the names of these rows, which also selects them: --rows application
_NAME = "application: "
# Requests at once in a burst.
BURST = 20
RATES = (100, 200, 300)
SMALL, LARGE = 1, 50
# Until so many connections have had their turn, the first answers take a while.
LONG = ("--warmup", "1", "--seconds", "3")


def _entries(path: str, *others: str) -> tuple[Entry, ...]:
    return tuple(Entry(system, path) for system in (FANBUS, UVICORN, GRANIAN, *others))


def _row(
    name: str,
    path: str,
    *options: str,
    needs: tuple[str, ...] = (),
    mode: str = "http",
    figure: str = "cpu",
    others: tuple[str, ...] = (),
) -> Row:
    return Row(
        f"{_NAME}{name}",
        mode,
        _entries(path, *others),
        options,
        figure=figure,
        program=PROGRAM,
        needs=needs,
    )


def order(kilobytes: int) -> str:
    """A body of about that size, which is an order of work.py."""
    each = '{"id":%d,"name":"article %d","price":%d.25,"count":%d}'
    items: list[str] = []
    while sum(map(len, items)) + len(items) < kilobytes * 1000 - 30:
        number = len(items)
        items.append(each % (number, number, number, number % 7))
    return f'{{"customer":"ada","items":[{",".join(items)}]}}'


def _typed(kilobytes: int) -> Row:
    # The file is made for each run: see measuring.py.
    body = ("--method", "POST", "--body", f"@BODY{kilobytes}@")
    return _row(
        f"a typed body of {kilobytes} KB",
        "/orders",
        *body,
        *("--header", "Content-Type: application/json"),
        others=(LITESTAR,),
    )


def _form(name: str, path: str, kind: str, body: str) -> Row:
    return _row(
        name,
        path,
        *("--method", "POST", "--body", body, "--header", f"Content-Type: {kind}"),
        others=(LITESTAR,),
    )


FILE = 10_000
_PARTS = (
    '--limit\r\nContent-Disposition: form-data; name="picture"; filename="p.bin"\r\n'
    f"Content-Type: application/octet-stream\r\n\r\n{'x' * FILE}\r\n--limit--\r\n"
)


def _open_arrivals(rate: int) -> Row:
    return _row(
        f"50 ms of computing in every tenth request, {rate} arrive per second",
        "/tenth",
        *("--rate", str(rate), "--patience", "20"),
        figure="mean",
    )


APPLICATIONS = (
    _row("20 rows by SQLAlchemy and asyncpg", "/sqlalchemy", needs=("database", "sqlalchemy")),
    _row("one row by asyncpg", "/asyncpg", needs=("database", "asyncpg")),
    _row("one row by psycopg in a def, pool of 10", "/psycopg", needs=("database", "psycopg")),
    *(
        _row(
            f"an outgoing call of 100 ms by {client}, 200 connections",
            f"/{client}",
            *("--connections", "200"),
            *LONG,
            needs=("service", client),
        )
        for client in ("httpx", "aiohttp")
    ),
    _row("2,000 sleepers of 100 ms", "/sleep", "--connections", "2000", *LONG),
    _row("gather of 20", "/gather"),
    _row("five middlewares", "/inner/"),
    *map(_typed, (SMALL, LARGE)),
    _form(
        "a form of two fields",
        "/form",
        "application/x-www-form-urlencoded",
        "name=Ada+Lovelace&city=London",
    ),
    _form(
        "a form with a file of 10 KB", "/form/file", "multipart/form-data; boundary=limit", _PARTS
    ),
    *(_row(f"{count:,} models", f"/models/{count}") for count in (100, 1000)),
    _row("200 rows with dates", "/dates"),
    *map(_open_arrivals, RATES),
    _row(
        f"bursts of {BURST}, 3 ms of computing each",
        "/computing",
        str(BURST),
        mode=BURSTS,
        figure="mean",
    ),
)
