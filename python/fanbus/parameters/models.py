"""The models that JSON bodies are decoded into and encoded from.

msgspec and pydantic do the work for their own models, if they are installed. Neither is imported
before a model needs it. Without them, dataclasses, dates, UUIDs and the like can be sent.
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

_MAX_PROBLEMS = 1000
"""A body may have millions of wrong values; the response would be many times as large as the
body."""


# Sending


def is_model(value: Any) -> bool:
    """Whether a handler may return the value as a JSON response."""
    kind = type(value)
    return _is_model_class(kind) or way(kind) in ("mapping", "row")


def plain(value: Any) -> Any:
    """Converts a value without a JSON form to a simpler one, for an encoder of the user. TypeError
    if there is none.

    Values inside of it may need the same: the encoder calls this again for them.
    """
    if hasattr(type(value), "__struct_fields__"):
        return importlib.import_module("msgspec").to_builtins(value, enc_hook=_plain)
    return _plain(value)


def way(kind: type) -> str:
    """The way to encode the values of a type without a JSON form. "other": only `plain` may have
    one.

    This function alone decides it. The encoder of Fanbus calls it once for each type.
    """
    if _is_pydantic_class(kind):
        return "pydantic"
    if hasattr(kind, "__struct_fields__"):
        return "msgspec"
    if hasattr(kind, "__dataclass_fields__"):
        return "dataclass"
    return _way_of_standard(kind) or _way_of_packages(kind) or "other"


def _way_of_standard(kind: type) -> str | None:
    from datetime import date, datetime, time, timedelta  # here, for applications that send one
    from decimal import Decimal
    from enum import Enum
    from uuid import UUID

    if kind in (date, datetime, time):
        return kind.__name__
    if issubclass(kind, (date, time)):
        return "isoformat"  # a subclass may have its own
    if issubclass(kind, timedelta):
        return "timedelta"
    if kind is UUID:
        return "uuid"
    if issubclass(kind, (UUID, Decimal)):
        return "str"
    if issubclass(kind, Enum):
        # A class may define `value` itself; then `plain` reads it.
        inherited = inspect.getattr_static(kind, "value", None) is Enum.__dict__["value"]
        return "enum" if inherited else "other"
    if issubclass(kind, (set, frozenset)):
        return "set"
    return None


def _way_of_packages(kind: type) -> str | None:
    """The way of a type of a package. If a value of it exists, its package is loaded."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        ways = {numpy.bool_: "bool", numpy.integer: "int", numpy.floating: "float"}
        # numpy.timedelta64 is a subclass of numpy.integer.
        matches = [ways[each] for each in ways if issubclass(kind, each)]
        return matches[0] if matches and not issubclass(kind, numpy.timedelta64) else None
    rows = sys.modules.get("sqlalchemy.engine")
    if rows is not None and issubclass(kind, rows.Row):
        return "row"
    # dict() reads these as mappings: those of Python itself, and rows of asyncpg and sqlite3.
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return "mapping"
    return None


def field_names(kind: Any) -> list[str]:
    """The names of the fields of a dataclass, in their order."""
    return [field.name for field in dataclasses.fields(kind)]


def msgspec_encode() -> Callable[[Any], bytes]:
    """The function that encodes a struct of msgspec, or a list of structs."""
    encode: Callable[[Any], bytes] = (
        importlib.import_module("msgspec").json.Encoder(enc_hook=_plain).encode
    )
    return encode


def pydantic_lists(kind: Any) -> Callable[..., bytes] | None:
    """The function that encodes lists of a pydantic model. Each element is encoded as by `to_json`
    of its own serializer. None if pydantic cannot make one."""
    config = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", None)
    try:
        adapter = importlib.import_module("pydantic").TypeAdapter(list[kind], config=config)
        to_json: Callable[..., bytes] = adapter.serializer.to_json
    except Exception:  # noqa: BLE001 - then each is encoded alone, which raises the error
        return None
    return to_json


def _plain(value: Any) -> Any:
    """A simpler value with the same content."""
    kind = type(value)
    kind_way = way(kind)
    if kind_way == "pydantic":
        return kind.__pydantic_serializer__.to_python(value, mode="json", by_alias=True)
    if kind_way == "dataclass":
        return {name: getattr(value, name) for name in field_names(kind)}
    if kind_way in _SIMPLER:
        return _SIMPLER[kind_way](value)
    return _rare(value)


def _rare(value: Any) -> Any:
    from enum import Enum

    if isinstance(value, Enum) and not isinstance(value.value, bytes):
        return value.value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.datetime64, numpy.timedelta64)):
        # The types of Python have microseconds.
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


# Receiving


class Decoder(ABC):
    """The decoder that reads a JSON body as one type."""

    @abstractmethod
    def decode(self, body: bytes) -> Any:
        """The value of the body. ValidationError for a wrong value, HTTPError 400 for a body that
        is not JSON."""


def has_model(annotation: Any) -> bool:
    """Whether the annotation is a model, or contains one."""
    return _is_model_class(annotation) or any(map(has_model, get_args(annotation)))


def decoder(annotation: Any) -> Decoder:
    """The decoder of bodies of this type. TypeError if no installed library can read them."""
    libraries: dict[str, type[_Msgspec | _Pydantic]] = {"pydantic": _Pydantic}
    if not _is_pydantic(annotation):
        libraries = {"msgspec": _Msgspec, **libraries}
    reasons = []
    for library, kind in libraries.items():
        try:
            return kind(annotation)
        except ImportError:
            reasons.append(f"{library} is not installed (pip install {library})")
        except Exception as error:  # noqa: BLE001 - each library raises its own exceptions
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
                # msgspec stops at the first error: the rest may not be JSON.
                self._msgspec.json.decode(body)
                raise ValidationError([self._problem(str(error))]) from None
        except (self._msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _invalid_json(error) from None
        except RecursionError:
            raise _invalid_json("it is nested too deeply") from None

    def _problem(self, text: str) -> Problem:
        """The message of msgspec ends with the place: "Expected `int`, got `str` - at
        `$.items[0].n`"."""
        match = self._PLACE.search(text)
        place: list[str | int] = ["body"]
        if match:
            for step in self._STEP.finditer(match["path"]):
                if step["name"] is not None:
                    place.append(step["name"])
                elif step["index"] is not None:
                    place.append(int(step["index"]))
            text = text[: match.start()]
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
            if count > _MAX_PROBLEMS:
                several = f"{count} values are wrong; the library names none of them"
                raise ValidationError(
                    [{"loc": ["body"], "msg": several, "type": "invalid"}]
                ) from None
            errors = error.errors(include_url=False, include_context=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise _invalid_json(errors[0]["msg"])
        raise ValidationError(
            [
                {"loc": ["body", *each["loc"]], "msg": each["msg"], "type": each["type"]}
                for each in errors
            ]
        )


def _invalid_json(error: object) -> HTTPError:
    return HTTPError(400, f"The body is not valid JSON: {error}")


# Schemas


def schemas(
    received: Iterable[Any], sent: Iterable[Any], reference: str
) -> tuple[dict[tuple[str, int], Any], dict[str, Any]]:
    """JSON Schemas of types with models, by ("received", number) and ("sent", number), and schemas
    of the models that they refer to, by name.

    `reference` is a reference with the placeholder `{name}`. TypeError for a type without a schema.
    """
    by_key: dict[tuple[str, int], Any] = {}
    components: dict[str, Any] = {}
    for_pydantic: dict[tuple[str, int], Any] = {}
    for_msgspec: dict[tuple[str, int], Any] = {}
    for side, types in (("received", received), ("sent", sent)):
        for number, annotation in enumerate(types):
            chosen = for_pydantic if _reads_pydantic(annotation) else for_msgspec
            chosen[side, number] = annotation
    if for_msgspec:
        msgspec = importlib.import_module("msgspec")
        of_msgspec, components = msgspec.json.schema_components(
            list(for_msgspec.values()), ref_template=reference
        )
        by_key.update(zip(for_msgspec, of_msgspec, strict=True))
    if for_pydantic:
        of_pydantic, definitions = _pydantic_schemas(for_pydantic, reference)
        if definitions.keys() & components.keys():  # two models of one name: these get a longer one
            longer = reference.replace("{name}", "pydantic.{name}")
            of_pydantic, definitions = _pydantic_schemas(for_pydantic, longer)
            definitions = {f"pydantic.{name}": schema for name, schema in definitions.items()}
        by_key.update(of_pydantic)
        components.update(definitions)
    return by_key, components


def _pydantic_schemas(
    types: Mapping[tuple[str, int], Any], reference: str
) -> tuple[dict[tuple[str, int], Any], dict[str, Any]]:
    adapter = importlib.import_module("pydantic").TypeAdapter
    modes = {"received": "validation", "sent": "serialization"}
    inputs = [(key, modes[key[0]], adapter(annotation)) for key, annotation in types.items()]
    by_mode, rest = adapter.json_schemas(
        inputs, ref_template=reference.replace("{name}", "{model}")
    )
    by_key = {key: schema for (key, _), schema in by_mode.items()}
    return by_key, rest.get("$defs", {})


def _reads_pydantic(annotation: Any) -> bool:
    """Whether pydantic, and not msgspec, decodes bodies of this type."""
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
    """Whether the annotation contains a model of pydantic."""
    return _is_pydantic_class(annotation) or any(map(_is_pydantic, get_args(annotation)))


def _is_pydantic_class(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_serializer__")
