"""Which value of an option is in force: what was asked for here, over the environment, over a
file, over the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fanbus.exceptions import StartError
from fanbus.options.option import Option

__all__ = ["Value", "nearest", "resolve"]

# Variables with the prefix that are no options, and near enough to one to be taken for a mistake.
_OTHER_VARIABLES = frozenset({"FANBUS_BUS", "FANBUS_SINGLE_PROCESS"})
_DEFAULT = "default"


@dataclass(frozen=True)
class Value:
    """A checked value, and where it came from."""

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

    `given` are the keywords of `app.run` or the texts of the command line, None where nothing was
    said; `origin` is which of the two: "app.run" or "command line". StartError, status 2, for the
    first value that cannot be and for names that are none.
    """
    table = {option.name: option for option in options}
    _known(given, table, lambda name: f"{name}=")
    file_name, in_file = file
    _known(in_file, table, lambda name: f"{name} in {file_name}")
    _check_variables(environment, table)
    found = {}
    for name, option in table.items():
        if given.get(name) is not None:
            typed = origin == "command line"
            taken = _take(option, given[name], option.flag if typed else name, is_text=typed)
            found[name] = Value(taken, origin)
            continue
        for variable in (option.variable, *option.also):
            if environment.get(variable):  # empty is unset: `${PORT:-}` of Compose
                taken = _take(option, environment[variable], variable, is_text=True)
                found[name] = Value(taken, variable)
                break
        else:
            if name in in_file:
                taken = _take(option, in_file[name], f"{file_name}: {name}", is_text=False)
                found[name] = Value(taken, file_name)
            else:
                found[name] = Value(option.default, _DEFAULT)
    return found


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that was probably meant."""
    import difflib  # here, so that a server without a mistake goes without it

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


def _known(given: Iterable[str], table: Mapping[str, Option], named: Any) -> None:
    for name in given:
        if name not in table:
            meant = nearest(name.replace("-", "_").lower(), table)
            hint = f" Did you mean {meant}?" if meant else " `fanbus config` lists all options."
            raise StartError(f"{named(name)} is not an option.{hint}", status=2)


def _check_variables(environment: Mapping[str, str], table: Mapping[str, Option]) -> None:
    """A variable that is nearly an option's is a mistake; what else begins so is others' affair."""
    variables = {option.variable for option in table.values()}
    for name in environment:
        if not name.startswith("FANBUS_") or name in variables or name in _OTHER_VARIABLES:
            continue
        meant = nearest(name, variables, cutoff=0.9)
        if meant is not None:
            raise StartError(f"{name} is not an option. Did you mean {meant}?", status=2)
