"""JSON of rows as databases give them: what Fanbus writes itself is what the slow way writes."""

from __future__ import annotations

import gc
import json
import sqlite3
import sys
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import orjson
import pydantic
import pytest
import sqlalchemy
from hypothesis import example, given
from hypothesis import strategies as st

from fanbus import Fanbus
from fanbus._core import to_json
from fanbus.parameters.models import plain
from fanbus.testing import TestClient


def slow(value: Any) -> bytes:
    """Python's encoder, which asks `plain` for each value that it does not know."""
    return json.dumps(value, default=plain, separators=(",", ":"), ensure_ascii=False).encode()


class Colour(Enum):
    RED = "red"
    PAIR = (1, None)
    NESTED = Decimal("1.5")


class Size(IntEnum):
    SMALL = 1


class Text(str, Enum):
    A = "a"


@dataclass
class Plain:
    number: int
    _inside: Any = None


@dataclass(frozen=True)
class Slotted:
    __slots__ = ("when",)
    when: datetime


class Place(NamedTuple):
    name: str
    at: Any


class Struct(msgspec.Struct, rename="camel"):
    first_name: str
    price: Decimal = Decimal("0.10")


class Model(pydantic.BaseModel):
    first_name: str = pydantic.Field(serialization_alias="firstName")
    price: Decimal = Decimal("0.10")
    at: datetime | None = None


class OwnDate(date):
    """What writes itself in its own way is written in that way."""

    def isoformat(self) -> str:
        return "some day"


class OwnTime(datetime):
    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        return f"{sep}{timespec}"


class OwnDecimal(Decimal):
    def __str__(self) -> str:
        return "much"


class OwnUUID(UUID):
    def __str__(self) -> str:
        return "one"


class Drifting(tzinfo):
    """An offset that differs from time to time."""

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return None if at is None else timedelta(minutes=at.minute - 30, microseconds=at.second)

    def dst(self, _at: datetime | None) -> None:
        return None

    def tzname(self, _at: datetime | None) -> None:
        return None


ZONES = st.one_of(
    st.none(),
    st.just(timezone.utc),
    st.just(ZoneInfo("Europe/Berlin")),
    st.just(Drifting()),
    st.timedeltas(timedelta(hours=-24, microseconds=1), timedelta(hours=24, microseconds=-1)).map(
        timezone
    ),
)
ROW_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40),
    st.datetimes(timezones=ZONES),
    st.times(timezones=ZONES),
    st.dates(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([*Colour, *Size, *Text]),
    st.sampled_from([OwnDate(2030, 1, 1), OwnTime(2030, 1, 1), OwnDecimal(1), OwnUUID(int=1)]),
    st.builds(Plain, st.integers(), st.dates()),
    st.builds(Slotted, st.datetimes()),
    st.builds(Place, st.text(), st.uuids()),
    st.builds(Struct, st.text()),
    st.builds(Model, first_name=st.text(), at=st.datetimes()),
    st.builds(MappingProxyType, st.dictionaries(st.text(max_size=5), st.dates(), max_size=3)),
    st.frozensets(st.integers(), max_size=1),
)


@given(
    st.recursive(
        ROW_VALUES,
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=40) | st.integers() | st.booleans(), inner)
            | st.builds(Plain, st.integers(), inner)
        ),
        max_leaves=40,
    )
)
def test_rows_are_written_as_the_slow_way_writes_them(value: Any) -> None:
    written = to_json(value)
    assert json.loads(written) == json.loads(slow(value))
    if b"Model" not in repr(value).encode() and b"Struct" not in repr(value).encode():
        assert written == slow(value)  # whose libraries have their own


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), ROW_VALUES), min_size=8))
def test_names_that_come_again_are_written_as_the_first_time(rows: list[dict[str, Any]]) -> None:
    assert json.loads(to_json(rows)) == json.loads(slow(rows))


@given(st.lists(st.dictionaries(st.text(max_size=40), st.integers()), min_size=8, max_size=40))
def test_names_of_any_kind_in_a_list_are_written_as_python_writes_them(rows: list[Any]) -> None:
    rows = [*rows, *rows]
    assert to_json(rows) == slow(rows)


@given(st.integers(-(10**9), 10**9))
@example(0)
@example(99_999_999)
@example(100_000_000)
def test_integers_are_written_as_python_writes_them(number: int) -> None:
    assert to_json(number) == str(number).encode()


def test_integers_at_each_power_of_ten_are_written_as_python_writes_them() -> None:
    for power in range(20):
        for number in range(10**power - 2, 10**power + 3):
            assert to_json([number, -number]) == slow([number, -number])


@given(st.integers(-(10**9), 10**9), st.sampled_from([1, 2, 4, 5, 10, 20, 100, 128, 1000]))
@example(7, 100)
@example(-1, 200)
@example(99_999_999, 100)
def test_prices_are_written_as_python_writes_them(number: int, parts: int) -> None:
    assert to_json(number / parts) == repr(number / parts).encode()
    neighbours = [sys.float_info.epsilon, -sys.float_info.epsilon]
    for each in (number / parts * (1 + step) for step in neighbours):
        assert to_json(each) == repr(each).encode()


def test_numbers_around_zero_are_written_as_python_writes_them() -> None:
    for number in (0.0, -0.0, 0.01, -0.01, 0.005, 0.1, 1e-4, 1e-5, 5e-324, 999999.99, 1e6, 1e16):
        assert to_json(number) == repr(number).encode()


@given(st.datetimes(timezones=ZONES))
@example(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-1, seconds=-1))))
def test_a_datetime_of_any_zone_is_written_as_isoformat_does(at: datetime) -> None:
    assert json.loads(to_json([at, at])) == [at.isoformat()] * 2


class Durations(pydantic.BaseModel):
    length: timedelta


@given(st.timedeltas())
@example(timedelta(0))
@example(timedelta(microseconds=-1))
@example(timedelta(days=-1, seconds=1))
@example(timedelta(days=400))
def test_a_timedelta_is_the_duration_that_pydantic_reads_and_writes(length: timedelta) -> None:
    written = to_json({"length": length})
    assert written == slow({"length": length})
    try:
        ours = Durations.model_validate_json(written)
    except pydantic.ValidationError:
        assert abs(length.days) > 999_999  # more than it reads
        return
    assert ours.length == length
    if abs(length.days) < 365:  # beyond it, pydantic counts years of 365 days
        assert written == Durations(length=length).model_dump_json().encode()


def test_a_zone_that_answers_wrongly_is_an_error_as_in_isoformat() -> None:
    class Wrong(tzinfo):
        answer: Any = None

        def utcoffset(self, _at: datetime | None) -> timedelta | None:
            answer: timedelta | None = self.answer
            return answer

        def dst(self, _at: datetime | None) -> None:
            return None

        def tzname(self, _at: datetime | None) -> None:
            return None

    for answer, error in ((3, TypeError), (timedelta(hours=24), ValueError)):
        zone = Wrong()
        zone.answer = answer
        at = datetime(2030, 1, 1, tzinfo=zone)
        with pytest.raises(error):
            at.isoformat()
        with pytest.raises(error):
            to_json(at)


def test_an_enum_whose_class_says_what_its_values_are_is_written_so() -> None:
    class Own(Enum):
        ONE = 1

        @property
        def value(self) -> str:  # type: ignore[override]
            return f"number {self._value_}"

    class Named(Enum):
        value = 2

    assert to_json([Own.ONE]) == b'["number 1"]'
    assert to_json([Named["value"]]) == slow([Named["value"]])

    class Raw(Enum):
        BYTES = b"x"

    for way in (to_json, slow):
        with pytest.raises(TypeError, match="Object of type Raw is not JSON serializable"):
            way([Raw.BYTES])


@pytest.mark.parametrize("value", [b"x", object(), Plain, 1j, iter([1]), bytearray(b"x")])
def test_value_that_cannot_be_encoded_raises_an_error_with_advice(value: Any) -> None:
    for way in (to_json, slow):
        with pytest.raises(
            TypeError, match=r"Object of type .* is not JSON serializable\. Turn it"
        ):
            way([value])


# Models


@pytest.mark.parametrize("count", [1, 2, 7, 8, 30])
def test_a_list_of_models_is_written_as_each_of_them(count: int) -> None:
    class Exact(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(
            ser_json_timedelta="float", ser_json_bytes="base64", ser_json_inf_nan="strings"
        )
        own_name: Any = pydantic.Field(serialization_alias="ownName")
        raw: bytes = b"\xff"
        more: list[Exact] = []

    @pydantic.dataclasses.dataclass
    class Validated:
        when: date

    kinds: list[list[Any]] = [
        [Exact(own_name=timedelta(seconds=5)), Exact(own_name=b"\xff"), Exact(own_name=1.5)],
        [Exact(own_name=float("nan"), more=[Exact(own_name=1)])],
        [Validated(date(2030, 1, 1)), Validated(date(2031, 1, 1))],
        [Struct("a"), Struct("b", Decimal(3))],
        [Plain(1), Plain(2, Plain(3))],
    ]
    for kind in kinds:
        models = [kind[at % len(kind)] for at in range(count)]
        each = b"[" + b",".join(to_json(model) for model in models) + b"]"
        assert to_json(models) == each
        assert to_json(tuple(models)) == each
        assert to_json({"models": models}) == b'{"models":' + each + b"}"


def test_a_list_of_several_kinds_of_models_is_written_as_each_of_them() -> None:
    class Derived(Model):
        more: int = 1

    models = [Model(first_name="a"), Derived(first_name="b"), Struct("c"), None, {"d": 1}]
    for rotated in (models[at:] + models[:at] for at in range(len(models))):
        each = b"[" + b",".join(map(to_json, rotated)) + b"]"
        assert to_json(rotated) == each
    assert b'"more":1' in to_json(models[:2])


def test_a_model_that_gets_another_serializer_is_written_by_it() -> None:
    class Late(pydantic.BaseModel):
        value: int = 1

    assert to_json([Late(), Late()]) == b'[{"value":1},{"value":1}]'

    class Other(pydantic.BaseModel):
        value: int = pydantic.Field(default=1, serialization_alias="other")

    Late.__pydantic_core_schema__ = Other.__pydantic_core_schema__
    Late.__pydantic_serializer__ = Other.__pydantic_serializer__
    assert to_json(Late()) == b'{"other":1}'
    assert to_json([Late(), Late()]) == b'[{"other":1},{"other":1}]'


def test_a_model_that_cannot_be_written_says_why() -> None:
    class Holder(pydantic.BaseModel):
        inside: Any

    for count in (1, 10):
        with pytest.raises(Exception, match="Unable to serialize unknown type"):
            to_json([Holder(inside=object())] * count)


# Rows of databases


class Record:
    """As asyncpg's: it has keys, but is no Mapping."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def keys(self) -> Iterator[str]:
        return iter(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)


def alchemy(text: str) -> list[Any]:
    """Rows of SQLAlchemy."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        rows = list(connection.execute(sqlalchemy.text(text)))
    engine.dispose()
    return rows


def test_rows_of_databases_are_mappings() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    lite = connection.execute("SELECT 1 AS id, 'a' AS name").fetchone()
    connection.close()
    when = datetime(2030, 1, 1)
    [row] = alchemy("SELECT 2 AS id, 'b' AS name")
    [twice] = alchemy("SELECT 1 AS id, 2 AS id")
    rows = [lite, Record(id=1, at=when), row, row._mapping, twice, OrderedDict(id=3)]
    for way in (to_json, slow):
        assert json.loads(way(rows)) == [
            {"id": 1, "name": "a"},
            {"id": 1, "at": "2030-01-01T00:00:00"},
            {"id": 2, "name": "b"},
            {"id": 2, "name": "b"},
            {"id": 2},
            {"id": 3},
        ]


def test_a_handler_may_return_a_row() -> None:
    app = Fanbus("rows")

    @app.get("/record")
    def record() -> Any:
        return Record(id=1, at=date(2030, 1, 1))

    @app.get("/row")
    async def row() -> Any:
        return alchemy("SELECT 2 AS id")[0], 201

    with TestClient(app) as client:
        assert client.get("/record").json() == {"id": 1, "at": "2030-01-01"}
        assert (client.get("/row").status_code, client.get("/row").json()) == (201, {"id": 2})


def test_numbers_of_numpy_are_numbers() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    values = [
        numpy.int8(-1),
        numpy.uint64(2**64 - 1),
        numpy.float64(0.5),
        numpy.float32(0.1),
        numpy.float16(0.5),
        numpy.bool_(True),
        numpy.bool_(False),
        numpy.str_("a"),
        numpy.datetime64("2030-01-01T12:00:00"),
        numpy.datetime64("2030-01-01"),
        numpy.timedelta64(90, "s"),
    ]
    expected = [-1, 2**64 - 1, 0.5, float(numpy.float32(0.1)), 0.5, True, False, "a"]
    expected += ["2030-01-01T12:00:00", "2030-01-01T00:00:00", "PT1M30S"]
    for way in (to_json, slow):
        assert json.loads(way(values)) == expected
        for wrong in (numpy.float32("nan"), numpy.datetime64("NaT"), numpy.timedelta64("NaT")):
            if way is to_json or not isinstance(wrong, numpy.floating):
                with pytest.raises(ValueError, match="JSON has no"):
                    way(wrong)
        with pytest.raises(TypeError, match="not JSON serializable"):
            way(numpy.array([1]))


# What a value may do while it is written


def test_a_list_that_changes_while_it_is_written_is_no_crash() -> None:
    values: list[Any] = []

    class Clearing(date):
        def isoformat(self) -> str:
            values.clear()
            return "cleared"

    class Growing(date):
        def isoformat(self) -> str:
            values.extend(["more"] * 100)
            return "grown"

    values.extend([Clearing(2030, 1, 1), "a" * 1000, 2])
    assert to_json(values) == b'["cleared"]'
    values.extend([Growing(2030, 1, 1)] * 3)
    assert json.loads(to_json(values)) == ["grown"] * 3


def test_values_that_go_away_while_they_are_written_are_no_crash() -> None:
    """The dict gives up what is being written, of which nobody else has a reference."""
    value: dict[str, Any] = {}

    class Replacing(date):
        def isoformat(self) -> str:
            value["a"] = value["b"] = None
            gc.collect()
            return "replaced"

    for inside in (Replacing(2030, 1, 1), [Replacing(2030, 1, 1), "x"], (Replacing(2030, 1, 1),)):
        value.update(a=inside, b=["kept until then"])
        written = json.loads(to_json(value))
        assert json.dumps(written["a"]).count("replaced") == 1
        assert written["b"] is None


def test_cached_type_is_dropped_when_it_is_deleted() -> None:
    def made() -> weakref.ref[type]:
        kind = type("Short", (Plain,), {})
        assert json.loads(to_json([kind(1)])) == [{"number": 1, "_inside": None}]
        return weakref.ref(kind)

    references = [made() for _ in range(3)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_more_types_than_are_remembered_are_written_all_the_same_way() -> None:
    kinds: list[Any] = [
        dataclass(type(f"Kind{at}", (), {"__annotations__": {f"f{at}": int}})) for at in range(1100)
    ]
    for _ in range(2):
        written = [to_json(kind(at)) for at, kind in enumerate(kinds)]
        assert written == [f'{{"f{at}":{at}}}'.encode() for at in range(len(kinds))]
    kinds.clear()
    gc.collect()
    assert to_json(Plain(1, Decimal(1))) == b'{"number":1,"_inside":"1"}'


def test_models_and_rows_have_the_same_json_from_every_encoder() -> None:
    rows = {
        "plain": [Looped([timedelta(seconds=5)])] * 3,
        "models": [Model(first_name="a")] * 3,
        "rows": [Record(at=time(12)), alchemy("SELECT 1 AS id")[0]],
        "colours": [Colour.RED, Colour.NESTED],
    }
    written = []
    for codec in (None, orjson, json):
        app = Fanbus("alike", json=codec)

        @app.get("/")
        def all_of_it() -> Any:
            return rows

        with TestClient(app) as client:
            written.append(client.get("/").json())
    assert written[0] == written[1] == written[2]


@dataclass
class Looped:
    inside: list[Any] = field(default_factory=list)


def test_what_contains_itself_is_an_error() -> None:
    looped = Looped()
    looped.inside.append(looped)
    mapping: dict[str, Any] = {}
    mapping["x"] = MappingProxyType(mapping)
    for value in (looped, mapping):
        with pytest.raises(RecursionError, match="nested too deeply"):
            to_json(value)
