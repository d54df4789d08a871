"""The sources that set an option: arguments, environment, file and default, in this order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fanbus.exceptions import StartError
from fanbus.options.option import Option

__all__ = ["Value", "nearest", "resolve"]

# Variables with the prefix that are not options, but similar enough to one to look like a mistake.
_OTHER_VARIABLES = frozenset({"FANBUS_BUS", "FANBUS_SINGLE_PROCESS"})
_DEFAULT = "default"


@dataclass(frozen=True)
class Value:
    """A checked value, and its source."""

    value: Any
    source: str


def resolve(
    options: Iterable[Option],
    *,
    given: Mapping[str, Any],
    origin: str,
    environment: Mapping[str, str],
    file: tuple[str, Mapping[str, Any]],
) -> dict[str, Value]:
    """The value in force of each option, by name.

    `given` are the keywords of `app.run` or the strings of the command line; None: not given.
    `origin` is "app.run" or "command line". StartError, status 2, for the first invalid value and
    for unknown names.
    """
    table = {option.name: option for option in options}
    _check_names(given, table, lambda name: f"{name}=")
    file_name, in_file = file
    _check_names(in_file, table, lambda name: f"{name} in {file_name}")
    _check_variables(environment, table)
    values = {}
    for name, option in table.items():
        if given.get(name) is not None:
            typed = origin == "command line"
            taken = _take(option, given[name], option.flag if typed else name, is_text=typed)
            values[name] = Value(taken, origin)
            continue
        for variable in (option.variable, *option.also):
            if environment.get(variable):  # empty is unset: `${PORT:-}` of Compose
                taken = _take(option, environment[variable], variable, is_text=True)
                values[name] = Value(taken, variable)
                break
        else:
            if name in in_file:
                taken = _take(option, in_file[name], f"{file_name}: {name}", is_text=False)
                values[name] = Value(taken, file_name)
            else:
                values[name] = Value(option.default, _DEFAULT)
    return values


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that is most similar, or None."""
    import difflib  # here, since only an error message needs it

    close = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return close[0] if close else None


def _take(option: Option, value: Any, where: str, *, is_text: bool) -> Any:
    kind = option.kind
    try:
        return kind.parse(value) if is_text and isinstance(value, str) else kind.take(value)
    except ValueError:
        shown = value if is_text and isinstance(value, str) else repr(value)
        shown = "..." if option.secret else _on_one_line(shown)
        hint = ""
        if isinstance(value, str):
            meant = nearest(value.strip().lower(), getattr(option.kind, "words", ()))
            hint = f" Did you mean {meant}?" if meant else ""
            if where == "FANBUS_PORT" and "://" in value:
                hint = (
                    " Kubernetes sets it for a service that is called fanbus: give the pod"
                    " enableServiceLinks: false."
                )
        raise StartError(
            f"{where} must be {option.kind.limits}, got {shown}.{hint}", status=2
        ) from None


def _on_one_line(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _check_names(given: Iterable[str], table: Mapping[str, Option], named: Any) -> None:
    for name in given:
        if name not in table:
            meant = nearest(name.replace("-", "_").lower(), table)
            hint = f" Did you mean {meant}?" if meant else " `fanbus config` lists all options."
            raise StartError(f"{named(name)} is not an option.{hint}", status=2)


def _check_variables(environment: Mapping[str, str], table: Mapping[str, Option]) -> None:
    """StartError for a variable that is similar to an option's. Other variables with the prefix may
    belong to other programs."""
    variables = {option.variable for option in table.values()}
    for name in environment:
        if not name.startswith("FANBUS_") or name in variables or name in _OTHER_VARIABLES:
            continue
        meant = nearest(name, variables, cutoff=0.9)
        if meant is not None:
            raise StartError(f"{name} is not an option. Did you mean {meant}?", status=2)
