"""The option that a field of `Settings` declares, with its kind, names, default and help."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from fanbus.options.kinds import Kind

__all__ = ["Option", "option", "options_of"]

_KEY = "fanbus.option"


@dataclass(frozen=True)
class Option:
    """One option, with all of its names."""

    name: str
    """The keyword of `app.run`, and the key in TOML."""

    kind: Kind
    default: Any
    """The default value. None: no value; `unset` describes the effect."""

    group: str
    help: str
    short: str | None
    unset: str
    also: tuple[str, ...]
    """Further environment variables, which are read after its own."""

    secret: bool
    """True: the value is never shown."""

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return "FANBUS_" + self.name.upper()

    def written(self, value: Any) -> str:
        """A value of it as a string."""
        if value is None:
            return ""
        return "(secret)" if self.secret else self.kind.written(value)


def option(
    default: Any,
    kind: Kind,
    help: str,  # noqa: A002 - the name in argparse
    *,
    group: str,
    short: str | None = None,
    unset: str = "",
    also: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of a dataclass that is an option. `Option` describes the arguments."""
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
    declared: list[Field[Any]] = [one for one in fields(settings) if _KEY in one.metadata]
    return tuple(Option(name=one.name, **one.metadata[_KEY]) for one in declared)
