"""What an option is: a field of `Settings`, with all that anybody wants to know of it."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from fanbus.options.kinds import Kind

__all__ = ["Option", "option", "options_of"]

_KEY = "fanbus.option"


@dataclass(frozen=True)
class Option:
    """One option, under all of its names."""

    name: str
    """The keyword of `app.run`, and the key in TOML."""

    kind: Kind
    default: Any
    """None: nothing; `unset` says what that means."""

    group: str
    help: str
    short: str | None
    unset: str
    also: tuple[str, ...]
    """Further environment variables, that count after its own."""

    secret: bool
    """Never shown."""

    @property
    def flag(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """In the environment."""
        return "FANBUS_" + self.name.upper()

    def written(self, value: Any) -> str:
        """A value of it as text."""
        if value is None:
            return ""
        return "(secret)" if self.secret else self.kind.written(value)


def option(
    default: Any,
    kind: Kind,
    help: str,  # noqa: A002 - as argparse calls it
    *,
    group: str,
    short: str | None = None,
    unset: str = "",
    also: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of a dataclass that is an option. See `Option` for what each argument is."""
    facts = {
        "kind": kind,
        "default": default,
        "group": group,
        "help": help,
        "short": short,
        "unset": unset,
        "also": also,
        "secret": secret,
    }
    return field(default=default, repr=not secret, metadata={_KEY: facts})


def options_of(settings: Any) -> tuple[Option, ...]:
    """The options among the fields of a dataclass, in their order."""
    found: list[Field[Any]] = [one for one in fields(settings) if _KEY in one.metadata]
    return tuple(Option(name=one.name, **one.metadata[_KEY]) for one in found)
