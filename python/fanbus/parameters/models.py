"""Models: JSON bodies as Python's objects, and back.

msgspec and pydantic do the work, if they are installed; each gets its own models, and neither is
needed until there is one. Without them, dataclasses, dates, UUIDs and the like can be sent.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args, is_typeddict

from fanbus.exceptions import HTTPError, Problem, ValidationError
from fanbus.hints import forgotten_await

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Decoder", "decoder", "has_model", "is_model", "plain", "schemas", "way"]

_MOST_PROBLEMS = 1000
"""A body has room for millions, and the answer would be many times as large as it."""


# What is sent


def is_model(value: Any) -> bool:
    """Whether a handler may return it as it is."""
    kind = type(value)
    return _is_model_class(kind) or way(kind) in ("mapping", "row")


def plain(value: Any) -> Any:
    """A value that JSON cannot hold as a simpler one, for an encoder that is not ours. TypeError if
    there is none.

    Values inside of it may need the same: the encoder asks again.
    """
    if hasattr(type(value), "__struct_fields__"):
        return importlib.import_module("msgspec").to_builtins(value, enc_hook=_plain)
    return _plain(value)


def way(kind: type) -> str:
    """How the values of a type that JSON cannot hold are written. "other": by `plain` alone, if at
    all.

    It is the one place that decides it. Our encoder asks once for each type.
    """
    if _is_pydantic_class(kind):
        return "pydantic"
    if hasattr(kind, "__struct_fields__"):
        return "msgspec"
    if hasattr(kind, "__dataclass_fields__"):
        return "dataclass"
    return _way_of_standard(kind) or _way_of_packages(kind) or "other"


def _way_of_standard(kind: type) -> str | None:
    from datetime import date, datetime, time, timedelta  # only who sends one pays for these
    from decimal import Decimal
    from enum import Enum
    from uuid import UUID

    if kind in (date, datetime, time):
        return kind.__name__
    if issubclass(kind, (date, time)):
        return "isoformat"  # which may be its own
    if issubclass(kind, timedelta):
        return "timedelta"
    if kind is UUID:
        return "uuid"
    if issubclass(kind, (UUID, Decimal)):
        return "str"
    if issubclass(kind, Enum):
        # A class may say itself what its members' values are; it takes the longer way.
        inherited = inspect.getattr_static(kind, "value", None) is Enum.__dict__["value"]
        return "enum" if inherited else "other"
    if issubclass(kind, (set, frozenset)):
        return "set"
    return None


def _way_of_packages(kind: type) -> str | None:
    """For types of packages: if there is a value of one, its package is loaded."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        ways = {numpy.bool_: "bool", numpy.integer: "int", numpy.floating: "float"}
        # A length of time is an integer to numpy.
        found = [ways[each] for each in ways if issubclass(kind, each)]
        return found[0] if found and not issubclass(kind, numpy.timedelta64) else None
    rows = sys.modules.get("sqlalchemy.engine")
    if rows is not None and issubclass(kind, rows.Row):
        return "row"
    # What dict() reads as a mapping: those of Python itself, and rows of asyncpg and sqlite3.
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return "mapping"
    return None


def field_names(kind: Any) -> list[str]:
    """Those of a dataclass, in their order."""
    return [field.name for field in dataclasses.fields(kind)]


def msgspec_encode() -> Callable[[Any], bytes]:
    """The function that writes a struct of msgspec, or a list of some."""
    encode: Callable[[Any], bytes] = (
        importlib.import_module("msgspec").json.Encoder(enc_hook=_plain).encode
    )
    return encode


def pydantic_lists(kind: Any) -> Callable[..., bytes] | None:
    """The function that writes lists of a pydantic model, each element as `to_json` of its own
    serializer writes it. None if pydantic makes none."""
    config = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None)
    try:
        adapter = importlib.import_module("pydantic").TypeAdapter(list[kind], config=config)
        to_json: Callable[..., bytes] = adapter.serializer.to_json
    except Exception:  # noqa: BLE001 - then each is written by itself, which says what is wrong
        return None
    return to_json


def _plain(value: Any) -> Any:
    """Something simpler that says the same."""
    kind = type(value)
    found = way(kind)
    if found == "pydantic":
        return kind.__pydantic_serializer__.to_python(value, mode="json", by_alias=True)
    if found == "dataclass":
        return {name: getattr(value, name) for name in field_names(kind)}
    if found in _SIMPLER:
        return _SIMPLER[found](value)
    return _rare(value)


def _rare(value: Any) -> Any:
    from enum import Enum

    if isinstance(value, Enum) and not isinstance(value.value, bytes):
        return value.value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        # Python's own have microseconds.
        micros = value.astype(value.dtype.kind + "8[us]").item()
        if not isinstance(micros, int) and micros is not None:
            return micros
        raise ValueError(f"JSON has no {value!r}: send null or text instead")
    if hasattr(type(value), "__await__"):
        raise TypeError(forgotten_await(value))
    raise TypeError(
        f"Object of type {type(value).__name__} is not JSON serializable. Turn it into dict, list, "
        "str, a number, a date, a UUID, an enum, a dataclass, or a model of msgspec or pydantic."
    )


def _duration(value: timedelta) -> str:
    """ISO 8601, as pydantic writes it."""
    micros = abs(value) // type(value)(microseconds=1)
    days, micros = divmod(micros, 86_400_000_000)
    seconds, micros = divmod(micros, 1_000_000)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    date = f"{days}D" * (days > 0)
    time = f"{hours}H" * (hours > 0) + f"{minutes}M" * (minutes > 0)
    if micros:
        time += f"{seconds}.{micros:06}".rstrip("0") + "S"
    elif seconds or not (date or time):
        time += f"{seconds}S"
    return ("-" if value.days < 0 else "") + "P" + date + ("T" + time) * (time != "")


_SIMPLER: dict[str, Callable[[Any], Any]] = {
    "date": lambda value: value.isoformat(),
    "datetime": lambda value: value.isoformat(),
    "time": lambda value: value.isoformat(),
    "isoformat": lambda value: value.isoformat(),
    "timedelta": _duration,
    "uuid": str,
    "str": str,
    "enum": lambda value: _rare(value),
    "set": list,
    "int": int,
    "float": float,
    "bool": bool,
    "mapping": dict,
    "row": lambda value: dict(value._mapping),
}
"""The functions of `plain`, by the way of a type."""


# What is received


class Decoder(ABC):
    """Reads a JSON body as one type."""

    @abstractmethod
    def decode(self, body: bytes) -> Any:
        """ValidationError for a value that does not fit, HTTPError 400 for what is no JSON."""


def has_model(annotation: Any) -> bool:
    """Whether it is a model, or is made of some."""
    return _is_model_class(annotation) or any(map(has_model, get_args(annotation)))


def decoder(annotation: Any) -> Decoder:
    """What reads bodies of this type. TypeError, a sentence, if nothing installed can."""
    libraries: dict[str, type[_Msgspec | _Pydantic]] = {"pydantic": _Pydantic}
    if not _is_pydantic(annotation):
        libraries = {"msgspec": _Msgspec, **libraries}
    reasons = []
    for library, kind in libraries.items():
        try:
            return kind(annotation)
        except ImportError:
            reasons.append(f"{library} is not installed (pip install {library})")
        except Exception as error:  # noqa: BLE001 - each library has its own way to refuse
            reasons.append(f"{library} says: {error}")
    raise TypeError(f"JSON bodies are read by {' or '.join(libraries)}; {'; '.join(reasons)}")


class _Msgspec(Decoder):
    _PLACE = re.compile(r" - at `(?P<key>key in )?\$(?P<path>.*)`$")
    _STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[\.\.\.\]")

    def __init__(self, annotation: Any) -> None:
        self._msgspec = importlib.import_module("msgspec")
        self._decode = self._msgspec.json.Decoder(annotation).decode

    def decode(self, body: bytes) -> Any:
        try:
            try:
                return self._decode(body)
            except self._msgspec.ValidationError as error:
                # It has stopped there: what comes behind it may be no JSON.
                self._msgspec.json.decode(body)
                raise ValidationError([self._problem(str(error))]) from None
        except (self._msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _no_json(error) from None
        except RecursionError:
            raise _no_json("it is nested too deeply") from None

    def _problem(self, text: str) -> Problem:
        """msgspec says the place at the end: "Expected `int`, got `str` - at `$.items[0].n`"."""
        found = self._PLACE.search(text)
        place: list[str | int] = ["body"]
        if found:
            for step in self._STEP.finditer(found["path"]):
                if step["name"] is not None:
                    place.append(step["name"])
                elif step["index"] is not None:
                    place.append(int(step["index"]))
            text = text[: found.start()]
        missing = re.fullmatch(r"Object missing required field `(.*)`", text)
        if missing:
            return {"loc": [*place, missing[1]], "msg": "is missing", "type": "missing"}
        return {"loc": place, "msg": text, "type": "invalid"}


class _Pydantic(Decoder):
    def __init__(self, annotation: Any) -> None:
        pydantic = importlib.import_module("pydantic")
        self._error = pydantic.ValidationError
        self._validate = pydantic.TypeAdapter(annotation).validate_json

    def decode(self, body: bytes) -> Any:
        try:
            return self._validate(body)
        except self._error as error:
            count = error.error_count()
            if count > _MOST_PROBLEMS:
                several = f"{count} values are wrong; the library names none of them"
                raise ValidationError(
                    [{"loc": ["body"], "msg": several, "type": "invalid"}]
                ) from None
            found = error.errors(include_url=False, include_context=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            raise _no_json(found[0]["msg"])
        raise ValidationError(
            [
                {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
                for each in found
            ]
        )


def _no_json(error: object) -> HTTPError:
    return HTTPError(400, f"The body is not valid JSON: {error}")


# What a document says of them


def schemas(
    received: Iterable[Any], sent: Iterable[Any], reference: str
) -> tuple[dict[tuple[str, int], Any], dict[str, Any]]:
    """JSON Schemas of types that have models in them, by ("received", number) and ("sent", number),
    and those of the models that they refer to, by name.

    `reference` has `{name}` in it. TypeError, a sentence, for a type that has none.
    """
    found: dict[tuple[str, int], Any] = {}
    components: dict[str, Any] = {}
    for_pydantic: dict[tuple[str, int], Any] = {}
    for_msgspec: dict[tuple[str, int], Any] = {}
    for side, all_of_it in (("received", received), ("sent", sent)):
        for number, annotation in enumerate(all_of_it):
            chosen = for_pydantic if _reads_pydantic(annotation) else for_msgspec
            chosen[side, number] = annotation
    if for_msgspec:
        msgspec = importlib.import_module("msgspec")
        made, components = msgspec.json.schema_components(
            list(for_msgspec.values()), ref_template=reference
        )
        found.update(zip(for_msgspec, made, strict=True))
    if for_pydantic:
        made_too, definitions = _pydantic_schemas(for_pydantic, reference)
        if definitions.keys() & components.keys():  # two models of one name: these get a longer one
            longer = reference.replace("{name}", "pydantic.{name}")
            made_too, definitions = _pydantic_schemas(for_pydantic, longer)
            definitions = {f"pydantic.{name}": schema for name, schema in definitions.items()}
        found.update(made_too)
        components.update(definitions)
    return found, components


def _pydantic_schemas(
    types: Mapping[tuple[str, int], Any], reference: str
) -> tuple[dict[tuple[str, int], Any], dict[str, Any]]:
    adapter = importlib.import_module("pydantic").TypeAdapter
    modes = {"received": "validation", "sent": "serialization"}
    inputs = [(key, modes[key[0]], adapter(annotation)) for key, annotation in types.items()]
    made, rest = adapter.json_schemas(inputs, ref_template=reference.replace("{name}", "{model}"))
    by_key = {key: schema for (key, _), schema in made.items()}
    return by_key, rest.get("$defs", {})


def _reads_pydantic(annotation: Any) -> bool:
    """Which of the two has read, or would read, bodies of this type."""
    if _is_pydantic(annotation):
        return True
    return isinstance(decoder(annotation), _Pydantic)


def _is_model_class(annotation: Any) -> bool:
    return (
        _is_pydantic_class(annotation)
        or hasattr(annotation, "__struct_fields__")
        or (isinstance(annotation, type) and dataclasses.is_dataclass(annotation))
        or is_typeddict(annotation)
    )


def _is_pydantic(annotation: Any) -> bool:
    """Whether there is a model of pydantic in it."""
    return _is_pydantic_class(annotation) or any(map(_is_pydantic, get_args(annotation)))


def _is_pydantic_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_serializer__")
